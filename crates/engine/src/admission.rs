//! Admission: whether a request could run on the fleet at all, if nothing else did.

use std::collections::BTreeMap;
use std::sync::Arc;

use offtake_fleet::{AcceleratorKindIx, DomainIx, Fleet, LevelIx};
use offtake_workload::{ChipRequest, Gang, Strength};

use crate::capacity::Capacity;
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
    for gang in &shape.gangs {
        let level = match gang.topology {
            Some((level, Strength::Required)) => level,
            _ => LevelIx(0),
        };
        let (most, powered) = largest_holding(capacity, gang, level);
        let name = || fleet.levels[level.ix()].clone();
        if most < u64::from(gang.workers) {
            return Err(Refusal::TooLarge { level: name(), workers: gang.workers, most });
        }
        if !powered {
            return Err(Refusal::TooHungry { level: name(), workers: gang.workers });
        }
    }
    Ok(())
}

/// The most workers that a domain of a level takes when it is empty, all on one kind of accelerator where they need any,
/// and whether one that takes the gang can power it.
fn largest_holding(capacity: &Capacity, gang: &Request, level: LevelIx) -> (u64, bool) {
    let fleet = capacity.fleet();
    let chips = u32::from(gang.whole_chips()).saturating_mul(gang.workers);
    let (mut most, mut powered) = (0, false);
    for domain in fleet.domains_at(level).map(DomainIx) {
        let mut pools: BTreeMap<Option<AcceleratorKindIx>, (u64, bool)> = BTreeMap::new();
        for (kind, per_node) in &gang.kinds {
            if let Some(cell) = capacity.cell_of(domain, *kind) {
                let accelerator = fleet.node_kinds[kind.ix()].accelerator;
                let pool = pools.entry(accelerator.filter(|_| gang.chips != ChipRequest::None)).or_default();
                pool.0 += u64::from(capacity.cell(cell).nodes) * u64::from(*per_node);
                pool.1 |= capacity.could_power(domain, capacity.chip_draw(*kind), chips);
            }
        }
        for (workers, can_power) in pools.into_values() {
            most = most.max(workers);
            powered |= workers >= u64::from(gang.workers) && can_power;
        }
    }
    (most, powered)
}
