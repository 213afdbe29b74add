//! Lanes by where they stand.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::RangeInclusive;

use offtake_workload::Tier;

use super::lane::{LaneIx, LaneKey, Turn};
use crate::tenants::TenantIx;

/// A tenant's lane to be tried, the highest priority and the earliest turn first.
pub type Candidate = (Reverse<i32>, Turn, LaneIx);

/// Lanes by where they stand.
#[derive(Clone, Debug, Default)]
pub(super) struct Standings {
    /// By tier and the turn of their first job.
    pub(super) by_turn: BTreeSet<(Tier, Turn, LaneIx)>,
    /// By tier and tenant, there by priority and turn; only where the order of tenants matters.
    pub(super) by_tenant: Option<[BTreeMap<TenantIx, TenantLanes>; 4]>,
}

/// A tenant's lanes of one tier, the highest priority and the earliest turn first.
pub type TenantLanes = BTreeSet<Candidate>;

impl Standings {
    pub(super) fn new(by_tenant: bool) -> Self {
        Self { by_turn: BTreeSet::new(), by_tenant: by_tenant.then(Default::default) }
    }

    pub(super) fn insert(&mut self, key: LaneKey, turn: Turn, lane: LaneIx) {
        self.by_turn.insert((key.tier, turn, lane));
        if let (Some(tiers), Some(tenant)) = (&mut self.by_tenant, key.tenant) {
            tiers[key.tier as usize].entry(tenant).or_default().insert((Reverse(key.priority), turn, lane));
        }
    }

    pub(super) fn remove(&mut self, key: LaneKey, turn: Turn, lane: LaneIx) {
        self.by_turn.remove(&(key.tier, turn, lane));
        if let (Some(tiers), Some(tenant)) = (&mut self.by_tenant, key.tenant)
            && let Some(lanes) = tiers[key.tier as usize].get_mut(&tenant)
        {
            lanes.remove(&(Reverse(key.priority), turn, lane));
            if lanes.is_empty() {
                tiers[key.tier as usize].remove(&tenant);
            }
        }
    }
}

/// Where lanes of a tier stand by turn, from a turn on.
pub(super) const fn all_of(tier: Tier, from: Turn) -> RangeInclusive<(Tier, Turn, LaneIx)> {
    RangeInclusive::new((tier, from, LaneIx(0)), (tier, Turn(u64::MAX), LaneIx(u32::MAX)))
}

pub(super) fn of_tier(standings: &Standings, tier: Tier) -> impl Iterator<Item = (TenantIx, &TenantLanes)> {
    let tenants = standings.by_tenant.as_ref().map(|tiers| &tiers[tier as usize]);
    tenants.into_iter().flatten().map(|(tenant, lanes)| (*tenant, lanes))
}
