//! Which moves would open a slice of a torus: chips enough are free, but not side by side.
//!
//! Each place where the slice may lie is weighed by the jobs that lie there: the fewest, and of these the fewest chips.
//! The best places are tried: a place is open only if all of its jobs find room elsewhere, on the path that decides.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use offtake_fleet::{DomainIx, NodeIx};

use crate::capacity::{Part, Withheld};
use crate::decide::place;
use crate::fact::{JobId, NodeRange, Placement, Slot};
use crate::place::ShapeIx;
use crate::request::Request;
use crate::state::{Phase, State};

/// Places that are tried at most.
const MOST_TRIALS: usize = 8;

/// Moves that open a slice.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Opening {
    /// The grid in which it would lie.
    pub domain: DomainIx,
    /// Where the waiting job would go.
    pub placement: Placement,
    /// The jobs in its way, each with a place elsewhere.
    pub moves: Vec<(JobId, Placement)>,
}

/// Where a slice may lie, and the jobs that lie there.
struct Place {
    jobs: BTreeSet<JobId>,
    chip_milli: u64,
    domain: DomainIx,
    parts: Vec<Part>,
}

impl State {
    /// The fewest moves of running work that open the slice that a waiting job asks for; none where it asks for no slice
    /// of one grid, where no few moves open one, or where caps, holds or nodes that are out are in the way.
    /// Disruption budgets are kept. The state is the same afterwards.
    pub fn opening_for(&mut self, job: JobId) -> Option<Opening> {
        let shape_ix = self.pending_shape(job)?;
        let shape = Arc::clone(self.shape(shape_ix));
        let [gang] = shape.gangs.as_slice() else { return None };
        let sides = gang.slice?;
        self.see_as(job);
        let lying = self.lying();
        let mut places: Vec<Place> = Vec::new();
        for (kind, _) in &gang.kinds {
            for (domain, parts) in self.capacity.slice_places(*kind, sides) {
                let in_the_way = self.in_the_way_of(&parts, &lying);
                let Some(jobs) = in_the_way.filter(|jobs| jobs.iter().all(|job| self.may_disrupt(*job))) else {
                    continue;
                };
                let specs = jobs.iter().filter_map(|job| self.job(*job));
                let chip_milli = specs.map(|work| work.spec.chip_milli()).sum();
                places.push(Place { jobs, chip_milli, domain, parts });
            }
        }
        places.sort_by_key(|place| (place.jobs.len(), place.chip_milli, place.domain));
        let watch = self.capacity.pause_watch();
        let tried = places.into_iter().take(MOST_TRIALS);
        let mut found = tried.filter_map(|place| {
            let placement = of_parts(gang, place.parts);
            let moves = self.try_moves(job, shape_ix, &placement, place.jobs)?;
            Some(Opening { domain: place.domain, placement, moves })
        });
        let opening = found.next();
        self.capacity.resume_watch(&watch);
        opening
    }

    /// The chips that running jobs have of each node.
    pub(crate) fn lying(&self) -> BTreeMap<u32, Vec<(JobId, u64)>> {
        let mut lying = BTreeMap::<u32, Vec<(JobId, u64)>>::new();
        for (job, work) in self.jobs() {
            let Phase::Running { placement, .. } = &work.phase else { continue };
            for slot in placement.slots() {
                slot.nodes.numbers().for_each(|node| lying.entry(node).or_default().push((job, slot.chips)));
            }
        }
        lying
    }

    /// The jobs on the chips of a place; none where something else is in the way.
    pub(crate) fn in_the_way_of(
        &self,
        parts: &[Part],
        lying: &BTreeMap<u32, Vec<(JobId, u64)>>,
    ) -> Option<BTreeSet<JobId>> {
        let mut jobs = BTreeSet::new();
        for (nodes, chips) in parts {
            for node in nodes.clone() {
                let is = |why| self.capacity.is_withheld(NodeIx(node), why);
                if is(Withheld::Held) || is(Withheld::Out) || is(Withheld::Tenant) {
                    return None;
                }
                let here = lying.get(&node).into_iter().flatten().filter(|(_, theirs)| theirs & chips != 0);
                jobs.extend(here.map(|(job, _)| *job));
            }
        }
        Some(jobs)
    }

    /// Places elsewhere for jobs in the way of a placement, the largest first; none where one has no place.
    fn try_moves(
        &mut self,
        job: JobId,
        shape: ShapeIx,
        placement: &Placement,
        jobs: BTreeSet<JobId>,
    ) -> Option<Vec<(JobId, Placement)>> {
        let mut out: Vec<(JobId, ShapeIx, Arc<Placement>)> = Vec::new();
        for other in jobs {
            let Some(Phase::Running { shape, placement, .. }) = self.job(other).map(|work| &work.phase) else {
                continue;
            };
            out.push((other, *shape, Arc::clone(placement)));
        }
        out.sort_by_key(|(other, ..)| {
            (std::cmp::Reverse(self.job(*other).map_or(0, |work| work.spec.chip_milli())), *other)
        });
        for (other, shape, placement) in &out {
            self.vacate(*shape, placement);
            self.leave(*other, placement);
        }
        self.see_as(job);
        let settles = self.settle(job, shape, placement);
        let mut moved: Vec<(JobId, ShapeIx, Placement)> = Vec::new();
        if settles {
            for (other, shape, _) in &out {
                let of = Arc::clone(self.shape(*shape));
                let Some(elsewhere) = place(self, *shape, &of, *other) else { break };
                moved.push((*other, *shape, elsewhere));
            }
        }
        moved.iter().for_each(|(_, shape, elsewhere)| self.vacate(*shape, elsewhere));
        if settles {
            self.vacate(shape, placement);
        }
        for (other, shape, placement) in out.iter().rev() {
            self.occupy(*shape, placement);
            self.enter(*other, placement);
        }
        self.see_as(job);
        let all = settles && moved.len() == out.len();
        all.then(|| moved.into_iter().map(|(other, _, elsewhere)| (other, elsewhere)).collect())
    }
}

fn of_parts(gang: &Request, parts: Vec<Part>) -> Placement {
    let mut slots = Vec::new();
    for (nodes, chips) in parts {
        let workers = chips.count_ones() / u32::from(gang.whole_chips().max(1));
        let nodes = NodeRange { first: NodeIx(nodes.start), count: nodes.len() as u32 };
        Slot { nodes, workers, chips }.join(&mut slots);
    }
    Placement { gangs: vec![slots], ..Placement::default() }
}
