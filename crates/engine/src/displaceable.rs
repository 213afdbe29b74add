//! Running work that may be stopped for stronger work, and the chips that it has in each domain: so that a domain
//! without enough of it costs a search one look.

use std::collections::BTreeSet;

use offtake_fleet::{DomainIx, Fleet};
use offtake_units::ChipMilli;
use offtake_workload::{ChipRequest, Job, Tier};

use crate::fact::{JobId, Placement, Slot};
use crate::request::{Request, Shape};

/// Running work that may be stopped for stronger work.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Displaceable {
    /// By tier.
    jobs: [BTreeSet<JobId>; 4],
    /// By domain, the chips of work there in thousandths, by tier.
    chip_milli: Vec<[u64; 4]>,
}

/// Whether work can ever be stopped for stronger work: it says that it may be, it is spot, or it is one of a service's
/// replicas, of which those above the minimum go.
pub fn is_displaceable(spec: &Job) -> bool {
    starts_again(spec) && (spec.preemptible || spec.tier == Tier::Spot || spec.service.is_some())
}

/// Whether a job that is stopped waits again.
pub fn starts_again(spec: &Job) -> bool {
    spec.program.as_ref().is_none_or(|program| program.requeue)
}

/// Chips in thousandths that a slot takes of one node.
pub const fn chip_milli_per_node(gang: &Request, slot: &Slot) -> u64 {
    match gang.chips {
        ChipRequest::None => 0,
        ChipRequest::Share(share) => share.get() as u64 * slot.workers as u64,
        ChipRequest::Whole(chips) => ChipMilli::WHOLE.get() as u64 * chips as u64 * slot.workers as u64,
    }
}

/// Stretches of a range of nodes that lie in one innermost domain.
pub fn stretches(fleet: &Fleet, nodes: std::ops::Range<u32>) -> impl Iterator<Item = (DomainIx, u32)> + '_ {
    let mut node = nodes.start;
    std::iter::from_fn(move || {
        if node >= nodes.end {
            return None;
        }
        let domain = fleet.nodes[node as usize].domain;
        let entry = &fleet.domains[domain.ix()];
        let end = if entry.children.is_empty() { entry.nodes.end.min(nodes.end) } else { node + 1 };
        let count = end - node;
        node = end;
        Some((domain, count))
    })
}

impl Displaceable {
    /// None yet, on a fleet.
    pub fn new(fleet: &Fleet) -> Self {
        Self { jobs: Default::default(), chip_milli: vec![[0; 4]; fleet.domains.len()] }
    }

    /// Whether nothing of a weaker tier is there.
    pub fn none_below(&self, tier: Tier) -> bool {
        self.jobs[tier as usize + 1..].iter().all(BTreeSet::is_empty)
    }

    /// Whether there is any.
    pub fn any(&self) -> bool {
        self.jobs.iter().any(|jobs| !jobs.is_empty())
    }

    /// All of it, the strongest tier first.
    pub fn all(&self) -> impl Iterator<Item = JobId> + '_ {
        self.jobs.iter().flatten().copied()
    }

    /// Chips in thousandths of all of it in a domain.
    pub fn chip_milli_in(&self, domain: DomainIx) -> u64 {
        self.chip_milli[domain.ix()].iter().sum()
    }

    /// Jobs of the tiers below one, the strongest first.
    pub fn below(&self, tier: Tier) -> impl Iterator<Item = JobId> + '_ {
        self.jobs[tier as usize + 1..].iter().flatten().copied()
    }

    /// Chips in thousandths of work below a tier in a domain.
    pub fn chip_milli_below(&self, domain: DomainIx, tier: Tier) -> u64 {
        self.chip_milli[domain.ix()][tier as usize + 1..].iter().sum()
    }

    /// Whether there is any of a tier.
    pub fn any_of(&self, tier: Tier) -> bool {
        !self.jobs[tier as usize].is_empty()
    }

    /// Jobs of a tier.
    pub fn of(&self, tier: Tier) -> impl Iterator<Item = JobId> + '_ {
        self.jobs[tier as usize].iter().copied()
    }

    /// Chips in thousandths of work of a tier in a domain.
    pub fn chip_milli_of(&self, domain: DomainIx, tier: Tier) -> u64 {
        self.chip_milli[domain.ix()][tier as usize]
    }

    /// Work comes.
    pub fn enter(&mut self, fleet: &Fleet, job: JobId, spec: &Job, shape: &Shape, placement: &Placement) {
        if is_displaceable(spec) && self.jobs[spec.tier as usize].insert(job) {
            self.count(fleet, spec.tier, shape, placement, |before, more| before + more);
        }
    }

    /// Work goes.
    pub fn leave(&mut self, fleet: &Fleet, job: JobId, spec: &Job, shape: &Shape, placement: &Placement) {
        if self.jobs[spec.tier as usize].remove(&job) {
            self.count(fleet, spec.tier, shape, placement, |before, less| before - less);
        }
    }

    fn count(
        &mut self,
        fleet: &Fleet,
        tier: Tier,
        shape: &Shape,
        placement: &Placement,
        change: impl Fn(u64, u64) -> u64,
    ) {
        for (gang, slots) in shape.gangs.iter().zip(&placement.gangs) {
            for slot in slots {
                let each = chip_milli_per_node(gang, slot);
                for (domain, count) in stretches(fleet, slot.nodes.numbers()) {
                    let mut at = Some(domain);
                    while let Some(domain) = at {
                        let sum = &mut self.chip_milli[domain.ix()][tier as usize];
                        *sum = change(*sum, each * u64::from(count));
                        at = fleet.domains[domain.ix()].parent;
                    }
                }
            }
        }
    }
}
