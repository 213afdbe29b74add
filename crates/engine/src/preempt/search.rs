//! The search for whom to stop, so that a job fits and the least is lost.
//!
//! One scan over all that may be stopped adds up, per domain that could hold the gang, whom it has and at what cost. From
//! that follows what room in the domain costs at least: its jobs by cost for a chip, the last one in part. Domains are
//! then worked out exactly in that order (`choose.rs`), until the next one costs more at least than the best found.
//! Caps come last: where room is not enough, those go on whom the most watts hang for what they cost.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use offtake_fleet::{AcceleratorKindIx, DomainIx, LevelIx, NodeIx, Sides};
use offtake_units::{ChipMilli, Timestamp};
use offtake_workload::{ChipRequest, Strength, Tier};
use rustc_hash::FxHashMap;

use super::choose::Choice;
use super::reclaim::{Charge, Charged, Reclaim};
use crate::capacity::{LimitIx, Space, Take, Withheld};
use crate::displaceable::{chip_milli_per_node, stretches};
use crate::fact::{JobId, Placement, Slot};
use crate::place::{Allowance, Placing, ShapeIx};
use crate::request::{Request, Shape};
use crate::state::{Phase, State};
use crate::tenants::Footprint;

/// Nodes of domains that are worked out exactly for one gang; of the first domain all are, however many.
const MOST_NODES: usize = 8_192;

/// Domains that are tried with the caps in mind.
const MOST_TRIED: usize = 4;

/// Jobs of one group's domain that may be stopped for it, those that cost the least.
const MOST_IN_GROUP: usize = 128;

/// Sets up to this size are gone through once more by trial.
const MOST_TRIALS: usize = 64;

/// Whom to stop for a job, and where it will run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// Who is stopped, or on the way out already; ascending.
    pub victims: Vec<JobId>,
    /// Those of them whose tenants give back what they borrowed; ascending.
    pub reclaimed: Vec<JobId>,
    /// What is lost, in milliseconds of a chip.
    pub cost: u64,
    /// Where the job runs then.
    pub placement: Placement,
    /// Per cap that could bind, what work that outlasts the start may still draw more, in millionths of a watt.
    pub extra: Vec<(LimitIx, i64)>,
    /// When the last victim has left at the latest.
    pub start: Timestamp,
}

/// Who may be stopped.
#[derive(Clone, Debug)]
struct Victim {
    job: JobId,
    cost: u64,
    leaves: Timestamp,
    /// Whether it is only stopped as its tenant has borrowed.
    is_borrower: bool,
    /// What its stop is charged to those who have borrowed.
    charges: Vec<Charge>,
}

impl Victim {
    const fn of((job, cost, leaves): (JobId, u64, Timestamp)) -> Self {
        Self { job, cost, leaves, is_borrower: false, charges: Vec::new() }
    }
}

/// A domain that could hold a gang.
struct Domain {
    domain: DomainIx,
    /// Chips that are missing there, in thousandths.
    missing: u64,
    /// Jobs there, with the chips that they have in it.
    jobs: Vec<(u32, u64)>,
}

/// A set of jobs that makes room in a domain.
struct Found {
    cost: u64,
    jobs: Vec<u32>,
}

/// A search on its way: who is taken out is taken out of the account too, until [`Search::undo`].
pub struct Search<'a> {
    state: &'a mut State,
    job: JobId,
    /// The tier below which work is stopped; none where work of all tiers is moved.
    tier: Option<Tier>,
    /// What is taken back from work of that tier.
    reclaim: Option<Reclaim>,
    /// Where whoever is taken out goes, once that has been found.
    moved: Option<Vec<(JobId, Placement)>>,
    victims: Vec<Victim>,
    /// Who is taken out, in order.
    out: Vec<u32>,
}

impl<'a> Search<'a> {
    /// A search for a waiting job among those that it may displace.
    pub fn new(state: &'a mut State, job: JobId, tier: Tier) -> Self {
        let mut victims: Vec<Victim> = state.victims_for(tier).into_iter().map(Victim::of).collect();
        let reclaim = state.reclaim_for(job).map(|mut reclaim| {
            for victim in &mut victims {
                victim.charges = reclaim.charges(state, victim.job);
            }
            let mut borrowers: Vec<Victim> = state.victims_of(tier).into_iter().map(Victim::of).collect();
            for victim in &mut borrowers {
                (victim.is_borrower, victim.charges) = (true, reclaim.charges(state, victim.job));
            }
            victims.extend(borrowers.into_iter().filter(|victim| !victim.charges.is_empty()));
            // Whoever leaves already is charged once.
            reclaim.charge_leaving(state);
            let leaves = |victim: &&mut Victim| state.stopping.contains(&victim.job);
            victims.iter_mut().filter(leaves).for_each(|victim| victim.charges.clear());
            reclaim
        });
        Self { state, job, tier: Some(tier), reclaim, moved: None, victims, out: Vec::new() }
    }

    /// A search among those that can be moved elsewhere, for a waiting job or for whoever comes.
    pub fn of_movable(state: &'a mut State, job: Option<JobId>) -> Self {
        let victims = state.movable().into_iter().map(Victim::of).collect();
        let job = job.unwrap_or(JobId(u64::MAX));
        Self { state, job, tier: None, reclaim: None, moved: Some(Vec::new()), victims, out: Vec::new() }
    }

    /// Whom to move so that a shape of one gang fits, and where they go; the account is as it was afterwards.
    pub fn run_and_move(mut self, shape: &Shape) -> Option<(Plan, Vec<(JobId, Placement)>)> {
        let [gang] = shape.gangs.as_slice() else { return None };
        let watch = self.state.capacity.pause_watch();
        self.state.see_as(self.job);
        let found = self.open(gang);
        let plan = found.and_then(|slots| {
            self.vacate(gang, &slots);
            let placement = self.place_unscored(shape)?;
            let extra = self.state.left_with(shape, &placement);
            self.state.vacate_gangs(shape, &placement);
            self.plan(placement, extra)
        });
        self.undo(0);
        self.state.capacity.resume_watch(&watch);
        plan.zip(self.moved)
    }

    /// Finds places for all who are taken out, the largest first; the account is as it was afterwards.
    fn relocate(&mut self) -> bool {
        let mut out: Vec<(u64, JobId, ShapeIx)> = Vec::new();
        for place in &self.out {
            let job = self.victims[*place as usize].job;
            if let Some(Phase::Running { shape, .. }) = self.state.job(job).map(|work| &work.phase) {
                out.push((self.state.shape(*shape).chip_milli(), job, *shape));
            }
        }
        out.sort_unstable_by(|a, b| b.cmp(a));
        let mut places: Vec<(JobId, ShapeIx, Placement)> = Vec::new();
        let mut complete = true;
        for (_, job, shape_ix) in out {
            let shape = Arc::clone(self.state.shape(shape_ix));
            let Some(placement) = crate::decide::place(self.state, shape_ix, &shape, job) else {
                complete = false;
                break;
            };
            self.state.enter(job, &placement);
            places.push((job, shape_ix, placement));
        }
        for (job, shape_ix, placement) in places.iter().rev() {
            self.state.vacate(*shape_ix, placement);
            self.state.leave(*job, placement);
        }
        self.state.see_as(self.job);
        if complete {
            self.moved = Some(places.into_iter().map(|(job, _, placement)| (job, placement)).collect());
        }
        complete
    }

    /// Whom to stop so that a shape fits; the account is as it was afterwards.
    pub fn run(mut self, shape_ix: ShapeIx) -> Option<Plan> {
        let shape = Arc::clone(self.state.shape(shape_ix));
        let watch = self.state.capacity.pause_watch();
        self.state.see_as(self.job);
        let plan = self.make_room(shape_ix, &shape);
        self.undo(0);
        self.state.capacity.resume_watch(&watch);
        plan
    }

    fn make_room(&mut self, shape_ix: ShapeIx, shape: &Shape) -> Option<Plan> {
        let mut placed: Vec<Vec<Slot>> = Vec::new();
        let mut complete = true;
        for gang in &shape.gangs {
            let slots = self.place_alone(gang).or_else(|| self.open(gang));
            match slots {
                Some(slots) => placed.push(slots),
                None => {
                    complete = false;
                    break;
                }
            }
        }
        let mut footprint = Footprint::default();
        for (gang, slots) in shape.gangs.iter().zip(&placed) {
            footprint.take(gang, slots, self.state.fleet());
            self.vacate(gang, slots);
        }
        if !complete || !self.take_back(&footprint) {
            return None;
        }
        self.spare(shape_ix, shape);
        let placement = self.place(shape_ix, shape)?;
        let extra = self.state.left_with(shape, &placement);
        self.state.vacate(shape_ix, &placement);
        self.plan(placement, extra).filter(|_| self.affords(&[]))
    }

    /// Those who are taken out as a plan; none where nobody is.
    fn plan(&self, placement: Placement, extra: Vec<(LimitIx, i64)>) -> Option<Plan> {
        let chosen = || self.out.iter().map(|place| &self.victims[*place as usize]);
        let start = chosen().map(|victim| victim.leaves).max()?;
        let mut victims: Vec<JobId> = chosen().map(|victim| victim.job).collect();
        let mut reclaimed: Vec<JobId> = chosen().filter(|victim| victim.is_borrower).map(|victim| victim.job).collect();
        victims.sort_unstable();
        reclaimed.sort_unstable();
        Some(Plan { victims, reclaimed, cost: chosen().map(|victim| victim.cost).sum(), placement, extra, start })
    }

    fn place(&mut self, shape_ix: ShapeIx, shape: &Shape) -> Option<Placement> {
        crate::decide::place(self.state, shape_ix, shape, self.job)
    }

    fn place_unscored(&mut self, shape: &Shape) -> Option<Placement> {
        let allowance = self.state.allowance(self.job);
        let State { capacity, policy, scores, mix, .. } = &mut *self.state;
        Placing::new(capacity, policy, scores, mix, self.job, allowance).place_unscored(shape)
    }

    fn vacate(&mut self, gang: &Request, slots: &[Slot]) {
        let capacity = &mut self.state.capacity;
        slots.iter().for_each(|slot| capacity.vacate(slot.nodes.numbers(), &gang.take(slot.workers, slot.chips)));
    }

    fn place_alone(&mut self, gang: &Request) -> Option<Vec<Slot>> {
        let allowance = self.allowance();
        let State { capacity, policy, scores, mix, .. } = &mut *self.state;
        Placing::new(capacity, policy, scores, mix, self.job, allowance).place_alone(gang)
    }

    // Lent quota.

    /// What the job may take, with all that could be taken back for it.
    fn allowance(&self) -> Allowance {
        let allowance = self.state.allowance(self.job);
        match &self.reclaim {
            Some(reclaim) => allowance.without_bound(|kind| reclaim.is_of(kind)),
            None => allowance,
        }
    }

    /// Takes out more of those who have borrowed, the cheapest for a chip first, until there is quota for what the job
    /// takes; whether there is enough.
    fn take_back(&mut self, footprint: &Footprint) -> bool {
        if self.reclaim.is_none() {
            return true;
        }
        let Some(tenant) = self.state.tenant_of(self.job) else { return true };
        for (kind, needed) in &footprint.chips {
            loop {
                let available = self.state.tenants.available_to(self.job, tenant, *kind);
                let Some(missing) = needed.checked_sub(available).filter(|missing| *missing > 0) else { break };
                let Some(place) = self.cheapest_borrower(*kind, missing) else { return false };
                self.take_out(place);
            }
        }
        true
    }

    /// Who has borrowed of a kind and costs the least for each chip that is missing.
    fn cheapest_borrower(&self, kind: AcceleratorKindIx, missing: u64) -> Option<u32> {
        let reclaim = self.reclaim.as_ref()?;
        let charged = self.charged();
        let gives = |victim: &Victim| victim.charges.iter().find(|(_, of, _)| *of == kind).map(|(_, _, milli)| *milli);
        let of = |(place, victim): (u32, &Victim)| {
            let milli = gives(victim).filter(|_| reclaim.affords(&charged, &victim.charges))?.min(missing);
            Some(((u128::from(victim.cost) << 32) / u128::from(milli), place))
        };
        let left = (0..).zip(&self.victims).filter(|(place, _)| !self.out.contains(place));
        left.filter_map(of).min().map(|(_, place)| place)
    }

    /// What is charged for those who are taken out.
    fn charged(&self) -> Charged {
        let mut charged = Charged::default();
        self.out.iter().for_each(|place| charged.add(&self.victims[*place as usize].charges));
        charged
    }

    /// Whether nobody who has borrowed falls under its own once these are gone beside those who are taken out. What is
    /// stopped as it is weaker is not bound by that, as long as nobody else of the same tenant is stopped.
    fn affords(&self, more: &[u32]) -> bool {
        let Some(reclaim) = &self.reclaim else { return true };
        let mut charged = Charged::default();
        let all = || self.out.iter().chain(more).map(|place| &self.victims[*place as usize]);
        all().for_each(|victim| charged.add(&victim.charges));
        all().filter(|victim| victim.is_borrower).all(|victim| reclaim.is_within(&charged, &victim.charges))
    }

    /// Leaves out of a domain's jobs those of borrowers, the dearest for a chip first, that could not all be stopped with
    /// the rest so that everybody keeps what is its own.
    fn keep_to_budget(&self, jobs: &mut Vec<(u32, u64)>) {
        let Some(reclaim) = &self.reclaim else { return };
        let is_borrower = |place: u32| self.victims[place as usize].is_borrower;
        let mut chips: BTreeMap<u32, u64> = BTreeMap::new();
        jobs.iter().for_each(|(place, milli)| *chips.entry(*place).or_default() += milli);
        let mut charged = self.charged();
        let weaker = chips.keys().filter(|place| !is_borrower(**place));
        weaker.for_each(|place| charged.add(&self.victims[*place as usize].charges));
        let each = |(place, milli): (&u32, &u64)| {
            ((u128::from(self.victims[*place as usize].cost) << 32) / u128::from(*milli).max(1), *place)
        };
        let mut borrowers: Vec<(u128, u32)> =
            chips.iter().filter(|(place, _)| is_borrower(**place)).map(each).collect();
        borrowers.sort_unstable();
        let mut kept = BTreeSet::new();
        for (_, place) in borrowers {
            let charges = &self.victims[place as usize].charges;
            if reclaim.affords(&charged, charges) {
                charged.add(charges);
                kept.insert(place);
            }
        }
        jobs.retain(|(place, _)| !is_borrower(*place) || kept.contains(place));
    }

    // Taking out and putting back.

    fn take_out(&mut self, place: u32) {
        let job = self.victims[place as usize].job;
        let Some(Phase::Running { shape, placement, .. }) = self.state.job(job).map(|work| &work.phase) else { return };
        let (shape, placement) = (*shape, Arc::clone(placement));
        self.state.vacate(shape, &placement);
        self.state.leave(job, &placement);
        self.out.push(place);
    }

    fn put_back(&mut self, place: u32) {
        let job = self.victims[place as usize].job;
        let Some(Phase::Running { shape, placement, .. }) = self.state.job(job).map(|work| &work.phase) else { return };
        let (shape, placement) = (*shape, Arc::clone(placement));
        self.state.occupy(shape, &placement);
        self.state.enter(job, &placement);
        self.out.retain(|other| *other != place);
    }

    /// Puts back all that were taken out after the first so many.
    fn undo(&mut self, keep: usize) {
        while self.out.len() > keep
            && let Some(last) = self.out.last().copied()
        {
            self.put_back(last);
        }
    }

    /// Puts back whoever is out in vain, the dearest first.
    fn spare(&mut self, shape_ix: ShapeIx, shape: &Shape) {
        if self.out.len() > MOST_TRIALS {
            return;
        }
        let mut dearest = self.out.clone();
        dearest.sort_unstable_by_key(|place| std::cmp::Reverse((self.victims[*place as usize].cost, *place)));
        for place in dearest {
            self.put_back(place);
            match self.place(shape_ix, shape) {
                Some(placement) => self.state.vacate(shape_ix, &placement),
                None => self.take_out(place),
            }
        }
    }

    // One gang.

    /// Takes out whom it costs the least to have a gang fit, and places it; or changes nothing.
    fn open(&mut self, gang: &Request) -> Option<Vec<Slot>> {
        if let Some(sides) = gang.slice {
            return self.open_slice(gang, sides);
        }
        let (innermost, outermost) = match gang.topology {
            _ if gang.workers == 1 => return self.open_at(gang, None),
            None => (0, 0),
            Some((level, Strength::Required)) => (level.0, level.0),
            Some((level, Strength::Preferred)) => (level.0, gang.widest.0),
        };
        (outermost..=innermost).rev().find_map(|level| self.open_at(gang, Some(LevelIx(level))))
    }

    /// A slice of a torus: the place where the least is lost, of those where nobody lies who must stay; or whole grids of
    /// one domain.
    fn open_slice(&mut self, gang: &Request, sides: Sides) -> Option<Vec<Slot>> {
        let joined = gang.kinds.iter().find_map(|(kind, _)| {
            let torus = self.state.fleet().torus_of(*kind)?;
            let grids = torus.grids(sides).filter(|grids| *grids > 1)?;
            Some((grids, torus.level, torus.joined?))
        });
        if let Some((grids, level, around)) = joined {
            // Each grid is a group that takes all of it.
            let groups = Some((gang.workers / grids, level));
            let gang = Request { groups, topology: Some((around, Strength::Required)), ..gang.clone() };
            return self.open_at(&gang, Some(around));
        }
        let place_of: BTreeMap<JobId, u32> = (0..).zip(&self.victims).map(|(at, victim)| (victim.job, at)).collect();
        let lying = self.state.lying();
        let mut found = Vec::new();
        for (kind, _) in &gang.kinds {
            for (_, parts) in self.state.capacity.slice_places(*kind, sides) {
                let Some(jobs) = self.state.in_the_way_of(&parts, &lying) else { continue };
                let known: Option<Vec<u32>> = jobs.iter().map(|job| place_of.get(job).copied()).collect();
                let Some(mut jobs) = known else { continue };
                jobs.retain(|place| !self.out.contains(place));
                let costs = jobs.iter().map(|place| self.victims[*place as usize].cost);
                found.push(Found { cost: costs.fold(0, u64::saturating_add), jobs });
            }
        }
        self.open_best(gang, found)
    }

    /// In one domain of a level; without one, on one node.
    fn open_at(&mut self, gang: &Request, level: Option<LevelIx>) -> Option<Vec<Slot>> {
        let mut found = Vec::new();
        for kinds in self.alike(gang) {
            let gang = Request { kinds, ..gang.clone() };
            let mut domains = self.domains(&gang, level);
            self.fill(&gang, &mut domains);
            domains.iter_mut().for_each(|domain| self.keep_to_budget(&mut domain.jobs));
            self.work_out(&gang, &mut domains, &mut found);
        }
        self.open_best(gang, found)
    }

    /// Takes out those who cost the least of some without whom the gang fits, and places it; or changes nothing.
    fn open_best(&mut self, gang: &Request, mut found: Vec<Found>) -> Option<Vec<Slot>> {
        found.sort_by(|a, b| (a.cost, &a.jobs).cmp(&(b.cost, &b.jobs)));
        let keep = self.out.len();
        found.retain(|found| self.affords(&found.jobs));
        for Found { jobs, .. } in found.into_iter().take(MOST_TRIED) {
            jobs.iter().for_each(|place| self.take_out(*place));
            if let Some(slots) = self.place_alone(gang).or_else(|| self.power(gang)) {
                if self.moved.is_none() || self.relocate() {
                    return Some(slots);
                }
                self.vacate(gang, &slots);
            }
            self.undo(keep);
        }
        None
    }

    /// The kinds of node that a gang may use, by what its workers run on: they all run on the same.
    fn alike(&self, gang: &Request) -> Vec<Vec<(offtake_fleet::NodeKindIx, u32)>> {
        let fleet = self.state.fleet();
        let mut groups: BTreeMap<Option<AcceleratorKindIx>, Vec<_>> = BTreeMap::new();
        for (kind, per_node) in &gang.kinds {
            let accelerator = match gang.chips {
                ChipRequest::None => None,
                ChipRequest::Share(_) | ChipRequest::Whole(_) => fleet.node_kinds[kind.ix()].accelerator,
            };
            groups.entry(accelerator).or_default().push((*kind, *per_node));
        }
        groups.into_values().collect()
    }

    /// The domains that could hold a gang, as far as chips tell; parts of the tree without enough are passed over.
    fn domains(&self, gang: &Request, level: Option<LevelIx>) -> Vec<Domain> {
        let mut found = Vec::new();
        for site in 0..self.state.fleet().sites.len() as u32 {
            self.add_domains(gang, DomainIx(site), level, &mut found);
        }
        found
    }

    fn add_domains(&self, gang: &Request, domain: DomainIx, level: Option<LevelIx>, found: &mut Vec<Domain>) {
        let capacity = &self.state.capacity;
        let cells: Vec<_> = gang.kinds.iter().filter_map(|(kind, _)| capacity.cell_of(domain, *kind)).collect();
        if cells.is_empty() {
            return;
        }
        let whole = u64::from(ChipMilli::WHOLE.get());
        let free: u64 = cells.iter().map(|cell| u64::from(capacity.room(*cell, 1)) * whole).sum();
        let needed = u64::from(gang.workers) * u64::from(gang.whole_chips()) * whole;
        let displaceable = &self.state.displaceable;
        let displaceable = match self.tier {
            Some(tier) if self.reclaim.is_some() => {
                displaceable.chip_milli_below(domain, tier) + displaceable.chip_milli_of(domain, tier)
            }
            Some(tier) => displaceable.chip_milli_below(domain, tier),
            None => displaceable.chip_milli_in(domain),
        };
        // Nodes of single tenants, and those held, are counted nowhere: what is there to be had is not bounded by this.
        let bounded = self.out.is_empty() && self.state.tenancy.is_empty();
        if bounded && (free + displaceable < needed || displaceable == 0 && gang.whole_chips() > 0 && !self.is_capped())
        {
            return;
        }
        let fleet = self.state.fleet();
        let entry = &fleet.domains[domain.ix()];
        let has_own = |node: u32| fleet.nodes[node as usize].domain == domain;
        let stops = match level {
            Some(level) => entry.level >= level,
            None => entry.children.is_empty() || has_own(entry.nodes.start) || has_own(entry.nodes.end - 1),
        };
        if !stops {
            entry.children.clone().for_each(|child| self.add_domains(gang, DomainIx(child), level, found));
        } else if level.is_none_or(|level| entry.level == level) {
            // One worker lies on one node, so what is free on others does not help it.
            let helps = match level {
                Some(_) => free,
                None => cells.iter().map(|cell| u64::from(capacity.most_free(*cell)) * whole).max().unwrap_or(0),
            };
            let missing = needed.saturating_sub(helps);
            found.push(Domain { domain, missing, jobs: Vec::new() });
        }
    }

    fn is_capped(&self) -> bool {
        self.state.capacity.limits().iter().any(crate::capacity::Limit::can_bind)
    }

    /// Tells each domain whom it has: the one scan over all that may be stopped.
    fn fill(&self, gang: &Request, domains: &mut [Domain]) {
        let state = &*self.state;
        let fleet = state.fleet();
        const NONE: u32 = u32::MAX;
        let mut place_of = vec![NONE; fleet.domains.len()];
        for (place, domain) in domains.iter().enumerate() {
            place_of[domain.domain.ix()] = place as u32;
        }
        let may_use = |node: u32| gang.kinds.iter().any(|(kind, _)| *kind == fleet.nodes[node as usize].kind);
        let is_out: BTreeSet<u32> = self.out.iter().copied().collect();
        for (index, victim) in self.victims.iter().enumerate().filter(|(index, _)| !is_out.contains(&(*index as u32))) {
            let Some(Phase::Running { shape, placement, .. }) = state.job(victim.job).map(|work| &work.phase) else {
                continue;
            };
            for (gang, slots) in state.shape(*shape).gangs.iter().zip(&placement.gangs) {
                for slot in slots {
                    let each = chip_milli_per_node(gang, slot);
                    let mut first = slot.nodes.first.0;
                    for (innermost, count) in stretches(fleet, slot.nodes.numbers()) {
                        let node = first;
                        first += count;
                        let mut at = Some(innermost);
                        while let Some(domain) = at.filter(|domain| place_of[domain.ix()] == NONE) {
                            at = fleet.domains[domain.ix()].parent;
                        }
                        let Some(domain) = at.filter(|_| may_use(node)) else { continue };
                        let jobs = &mut domains[place_of[domain.ix()] as usize].jobs;
                        let chips = each * u64::from(count);
                        match jobs.last_mut() {
                            Some((last, sum)) if *last == index as u32 => *sum += chips,
                            _ => jobs.push((index as u32, chips)),
                        }
                    }
                }
            }
        }
    }

    /// What room in a domain costs at least; none where there is not enough to stop.
    fn bound(&self, domain: &mut Domain, blocked_by_room: bool) -> Option<u64> {
        let cost = |place: &u32| self.victims[*place as usize].cost;
        let Domain { missing, jobs, .. } = domain;
        if *missing == 0 {
            let least = jobs.iter().map(|(place, _)| cost(place)).min();
            return if blocked_by_room { least } else { Some(0) };
        }
        // By cost for a chip. A job of several gangs may be listed twice: that only lowers the bound.
        jobs.sort_unstable_by(|(a, chips_a), (b, chips_b)| {
            let (left, right) =
                (u128::from(cost(a)) * u128::from(*chips_b), u128::from(cost(b)) * u128::from(*chips_a));
            left.cmp(&right).then(a.cmp(b))
        });
        let (mut left, mut sum) = (*missing, 0_u64);
        for (place, chips) in jobs.iter().filter(|(_, chips)| *chips > 0) {
            if *chips >= left {
                return Some(
                    sum.saturating_add((u128::from(cost(place)) * u128::from(left) / u128::from(*chips)) as u64),
                );
            }
            sum = sum.saturating_add(cost(place));
            left -= chips;
        }
        None
    }

    /// Works domains out, those first that may cost the least, until none can be better than the best.
    fn work_out(&self, gang: &Request, domains: &mut [Domain], found: &mut Vec<Found>) {
        let blocked_by_room = !self.is_capped();
        let mut order: Vec<(u64, usize)> = Vec::with_capacity(domains.len());
        for (place, domain) in domains.iter_mut().enumerate() {
            if let Some(bound) = self.bound(domain, blocked_by_room) {
                order.push((bound, place));
            }
        }
        order.sort_unstable();
        let mut best = u64::MAX;
        let mut nodes = 0;
        for (bound, place) in order {
            let domain = &domains[place];
            let size = self.state.fleet().domains[domain.domain.ix()].nodes.len();
            if bound >= best || (nodes > 0 && nodes + size > MOST_NODES) {
                break;
            }
            nodes += size;
            if let Some(mut here) = self.choose(gang, domain) {
                best = best.min(here.cost);
                here.jobs.sort_unstable();
                found.push(here);
            }
        }
    }

    /// Whom to stop in one domain, or on one of its nodes where there is one worker.
    fn choose(&self, gang: &Request, domain: &Domain) -> Option<Found> {
        let state = &*self.state;
        let fleet = state.fleet();
        let range = fleet.domains[domain.domain.ix()].nodes.clone();
        // Jobs of the domain by position in it.
        let mut jobs: Vec<u32> = domain.jobs.iter().map(|(place, _)| *place).collect();
        jobs.sort_unstable();
        jobs.dedup();
        let mut takes: Vec<Vec<(u32, Take)>> = vec![Vec::new(); range.len()];
        for (local, place) in jobs.iter().enumerate() {
            let victim = self.victims[*place as usize].job;
            let Some(Phase::Running { shape, placement, .. }) = state.job(victim).map(|work| &work.phase) else {
                continue;
            };
            for (of, slots) in state.shape(*shape).gangs.iter().zip(&placement.gangs) {
                for slot in slots {
                    let numbers = slot.nodes.numbers();
                    for node in numbers.start.max(range.start)..numbers.end.min(range.end) {
                        let take = of.take(slot.workers, slot.chips).at(placement.throttle);
                        takes[(node - range.start) as usize].push((local as u32, take));
                    }
                }
            }
        }
        struct Host {
            node: NodeIx,
            space: Space,
            most: u32,
            takes: Vec<(u32, Take)>,
            /// It is open once all jobs on it are gone.
            closed: bool,
        }
        let mut hosts: Vec<Host> = Vec::with_capacity(range.len());
        for (node, takes) in range.map(NodeIx).zip(takes) {
            let kind = fleet.nodes[node.ix()].kind;
            let Some((_, most)) = gang.kinds.iter().find(|(known, _)| *known == kind) else { continue };
            let is = |why| state.capacity.is_withheld(node, why);
            if is(Withheld::Out) || is(Withheld::Held) {
                continue;
            }
            hosts.push(Host {
                node,
                space: state.capacity.space(node),
                most: *most,
                takes,
                closed: is(Withheld::Tenant),
            });
        }
        // Workers are counted by node, or by whole groups in each domain of the groups' level.
        let (group, inner) = gang.groups.unzip();
        let group = group.unwrap_or(1);
        let together =
            |a: &Host, b: &Host| inner.is_some_and(|level| fleet.around(a.node, level) == fleet.around(b.node, level));
        let units: Vec<&[Host]> = hosts.chunk_by(together).collect();
        let costs: Vec<u64> = jobs.iter().map(|place| self.victims[*place as usize].cost).collect();
        let on_unit = |unit: &&[Host]| {
            let mut jobs: Vec<u32> = unit.iter().flat_map(|host| host.takes.iter().map(|(job, _)| *job)).collect();
            jobs.sort_unstable();
            jobs.dedup();
            if unit.len() > 1 && jobs.len() > MOST_IN_GROUP {
                jobs.sort_by_key(|job| costs[*job as usize]);
                jobs.truncate(MOST_IN_GROUP);
                jobs.sort_unstable();
            }
            jobs
        };
        let on_unit: Vec<Vec<u32>> = units.iter().map(on_unit).collect();
        let on_host = |host: &Host, gone: &dyn Fn(u32) -> bool| {
            if !host.takes.iter().any(|(job, _)| gone(*job)) {
                return if host.closed { 0 } else { host.space.workers(gang, host.most) };
            }
            let mut space = host.space.clone();
            host.takes.iter().filter(|(job, _)| gone(*job)).for_each(|(_, take)| space.give(take));
            if host.closed && !host.takes.iter().all(|(job, _)| gone(*job)) {
                0
            } else {
                space.workers(gang, host.most)
            }
        };
        let groups = |unit: usize, gone: &dyn Fn(u32) -> bool| {
            let workers: u32 = units[unit].iter().map(|host: &Host| on_host(host, gone)).sum();
            workers / group
        };
        let chosen = Choice::new(&costs, &on_unit, gang.workers / group, groups).least()?;
        let cost = chosen.iter().fold(0_u64, |sum, local| sum.saturating_add(costs[*local as usize]));
        Some(Found { cost, jobs: chosen.into_iter().map(|local| jobs[local as usize]).collect() })
    }

    // Watts.

    /// Takes out those on whom the missing watts hang for the least cost, and places the gang; or only takes them out.
    fn power(&mut self, gang: &Request) -> Option<Vec<Slot>> {
        let mut short = self.shortage(gang)?;
        if short.is_empty() {
            return None;
        }
        let is_out: BTreeSet<u32> = self.out.iter().copied().collect();
        let mut draws: FxHashMap<u32, BTreeMap<LimitIx, i64>> = FxHashMap::default();
        for (place, victim) in (0..).zip(&self.victims).filter(|(place, _)| !is_out.contains(place)) {
            let Some(Phase::Running { shape, placement, .. }) = self.state.job(victim.job).map(|work| &work.phase)
            else {
                continue;
            };
            draws.insert(place, self.state.draw_of(*shape, placement));
        }
        let mut left: Vec<u32> = draws.keys().copied().collect();
        left.sort_unstable();
        while !short.is_empty() {
            let useful = |place: &u32| -> u64 {
                let of =
                    |(limit, short): (&LimitIx, &i64)| draws[place].get(limit).map_or(0, |draw| (*draw).min(*short));
                short.iter().map(of).sum::<i64>().max(0) as u64
            };
            let each = |place: &u32| {
                let useful = useful(place);
                let cost = u128::from(self.victims[*place as usize].cost);
                (useful > 0).then(|| ((cost << 32) / u128::from(useful), *place))
            };
            let (_, place) = left.iter().filter_map(each).min()?;
            left.retain(|other| *other != place);
            for (limit, draw) in &draws[&place] {
                if let Some(missing) = short.get_mut(limit) {
                    *missing -= draw;
                }
            }
            short.retain(|_, missing| *missing > 0);
            self.take_out(place);
        }
        self.place_alone(gang)
    }

    /// What a gang would draw under each cap beyond what that leaves; none where it has no room at all.
    fn shortage(&mut self, gang: &Request) -> Option<BTreeMap<LimitIx, i64>> {
        let limits = self.state.capacity.limits();
        let all = (0..).map(LimitIx).zip(limits).filter(|(_, limit)| limit.can_bind());
        let kept: Vec<_> =
            all.map(|(ix, limit)| (ix, limit.capacity(), limit.extra(), limit.left_for_more())).collect();
        kept.iter().for_each(|(limit, ..)| self.state.capacity.lift_cap(*limit));
        let slots = self.place_alone(gang);
        if let Some(slots) = &slots {
            self.vacate(gang, slots);
        }
        for (limit, watts, extra, _) in &kept {
            self.state.capacity.set_cap(*limit, *watts);
            self.state.capacity.set_extra(*limit, *extra);
        }
        let mut draw = BTreeMap::new();
        for slot in slots? {
            let take = gang.take(slot.workers, slot.chips);
            self.state.capacity.add_draw(slot.nodes.numbers(), &take, &mut draw);
        }
        let short = kept.into_iter().filter_map(|(limit, .., left)| {
            let missing = draw.get(&limit)? - left.max(0);
            (missing > 0).then_some((limit, missing))
        });
        Some(short.collect())
    }
}
