//! Admission: whether a request could run on the fleet at all, if nothing else did.

use std::sync::Arc;

use offtake_fleet::{DomainIx, Fleet, LevelIx};
use offtake_workload::{Gang, Strength};

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

/// The most workers that a domain of a level takes when it is empty, and whether one that takes the gang can power it.
fn largest_holding(capacity: &Capacity, gang: &Request, level: LevelIx) -> (u64, bool) {
    let chips = u32::from(gang.whole_chips()).saturating_mul(gang.workers);
    let (mut most, mut powered) = (0, false);
    for domain in capacity.fleet().domains_at(level).map(DomainIx) {
        let (mut workers, mut can_power) = (0, false);
        for (kind, per_node) in &gang.kinds {
            if let Some(cell) = capacity.cell_of(domain, *kind) {
                workers += u64::from(capacity.cell(cell).nodes) * u64::from(*per_node);
                can_power |= capacity.could_power(domain, capacity.chip_draw(*kind), chips);
            }
        }
        most = most.max(workers);
        powered |= workers >= u64::from(gang.workers) && can_power;
    }
    (most, powered)
}
