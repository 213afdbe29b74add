//! Admission: whether a request could run on the fleet at all, if nothing else did.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use offtake_fleet::{AcceleratorKindIx, DomainIx, Fleet, LevelIx, NodeKindIx, SiteIx};
use offtake_workload::{ChipRequest, Gang};

use crate::capacity::Capacity;
use crate::ramp;
use crate::request::{Refusal, Request, Shape};

/// Judges requests against a fleet before any work is there.
#[derive(Clone, Debug)]
pub struct Admission {
    capacity: Capacity,
}

impl Admission {
    /// For a fleet.
    pub fn new(fleet: Arc<Fleet>) -> Self {
        Self { capacity: Capacity::new(fleet) }
    }

    /// Whether gangs that start together could ever run.
    ///
    /// # Errors
    /// Why they never can.
    pub fn placeable(&self, gangs: &[Gang]) -> Result<(), Refusal> {
        admit(&self.capacity, &Shape::resolve(gangs, self.capacity.fleet())?)
    }
}

/// Refuses what has nowhere enough room or power, even when nothing else runs.
///
/// # Errors
/// Why it never runs.
pub fn admit(capacity: &Capacity, shape: &Shape) -> Result<(), Refusal> {
    let fleet = capacity.fleet();
    let mut sites: BTreeSet<SiteIx> = BTreeSet::new();
    for gang in &shape.gangs {
        let level = gang.outer_level();
        let (most, powered) = largest_holding(capacity, gang, level);
        let name = || fleet.levels[level.ix()].clone();
        if let Some((group, inner)) = gang.groups.filter(|_| most < u64::from(gang.workers)) {
            let (workers, group_level) = (gang.workers, fleet.levels[inner.ix()].clone());
            return Err(Refusal::TooManyGroups { level: name(), workers, group, group_level, most });
        }
        if most < u64::from(gang.workers) {
            return Err(Refusal::TooLarge { level: name(), workers: gang.workers, most });
        }
        if powered.is_empty() {
            return Err(Refusal::TooHungry { level: name(), workers: gang.workers });
        }
        ramp::admit(capacity, &Shape { gangs: vec![gang.clone()] }, &powered)?;
        sites.extend(powered);
    }
    // Gangs of a job stop together; several sites may share them.
    if sites.len() == 1 { ramp::admit(capacity, shape, &sites) } else { Ok(()) }
}

/// The most workers, in whole groups, that a domain of a level takes when it is empty, all on one kind of accelerator
/// where they need any, and the sites of those that take the gang and can power it.
fn largest_holding(capacity: &Capacity, gang: &Request, level: LevelIx) -> (u64, BTreeSet<SiteIx>) {
    let fleet = capacity.fleet();
    let chips = u32::from(gang.whole_chips()).saturating_mul(gang.workers);
    let (mut most, mut powered) = (0, BTreeSet::new());
    for domain in fleet.domains_at(level).map(DomainIx) {
        let mut pools = BTreeMap::new();
        holding(capacity, gang, domain, &mut pools);
        for (workers, kinds) in pools.into_values() {
            let could = kinds.into_iter().any(|kind| capacity.could_power(domain, capacity.chip_draw(kind), chips));
            most = most.max(workers);
            if workers >= u64::from(gang.workers) && could {
                powered.insert(fleet.domains[domain.ix()].site);
            }
        }
    }
    (most, powered)
}

/// By accelerator, the workers in whole groups that an empty domain takes, and its kinds.
type Pools = BTreeMap<Option<AcceleratorKindIx>, (u64, BTreeSet<NodeKindIx>)>;

fn holding(capacity: &Capacity, gang: &Request, domain: DomainIx, pools: &mut Pools) {
    let fleet = capacity.fleet();
    let entry = &fleet.domains[domain.ix()];
    if gang.groups.is_some_and(|(_, inner)| entry.level < inner) && !entry.children.is_empty() {
        entry.children.clone().for_each(|child| holding(capacity, gang, DomainIx(child), pools));
        return;
    }
    let mut here = Pools::new();
    for (kind, per_node) in &gang.kinds {
        if let Some(cell) = capacity.cell_of(domain, *kind) {
            let accelerator = fleet.node_kinds[kind.ix()].accelerator;
            let pool = here.entry(accelerator.filter(|_| gang.chips != ChipRequest::None)).or_default();
            pool.0 += u64::from(capacity.cell(cell).nodes) * u64::from(*per_node);
            pool.1.insert(*kind);
        }
    }
    for (accelerator, (workers, kinds)) in here {
        let pool = pools.entry(accelerator).or_default();
        pool.0 += gang.in_whole_groups(workers);
        pool.1.extend(kinds);
    }
}
