//! Lanes that wait for quota or for a limit, so that what comes back wakes those that it can help and no others.

use std::collections::{BTreeMap, BTreeSet};

use offtake_fleet::AcceleratorKindIx;

use super::{Footprint, TenantIx, Tenants};
use crate::queue::LaneIx;

/// What waits. A lane that has been woken otherwise stays until its quota comes back: to wake it once more does no harm.
#[derive(Clone, Debug, Default)]
pub struct QuotaQueue {
    /// By accelerator kind and tenant, with the thousandths of chips that help.
    quota: BTreeMap<(AcceleratorKindIx, TenantIx), BTreeSet<(u64, LaneIx)>>,
    /// By the tenant whose limit is reached.
    limit: BTreeMap<TenantIx, BTreeSet<LaneIx>>,
}

impl QuotaQueue {
    /// A lane of a tenant waits for chips of a kind.
    pub fn await_quota(&mut self, kind: AcceleratorKindIx, tenant: TenantIx, milli: u64, lane: LaneIx) {
        self.quota.entry((kind, tenant)).or_default().insert((milli, lane));
    }

    /// A lane waits for work of a tenant to end.
    pub fn await_limit(&mut self, tenant: TenantIx, lane: LaneIx) {
        self.limit.entry(tenant).or_default().insert(lane);
    }
}

impl Tenants {
    /// The lanes that may run now that a tenant has given something back; they wait no more.
    pub fn helped(&mut self, tenant: TenantIx, footprint: &Footprint) -> Vec<LaneIx> {
        let mut helped = Vec::new();
        if !self.waiting.limit.is_empty() {
            let path: Vec<TenantIx> = self.path(tenant).collect();
            for at in path {
                helped.extend(self.waiting.limit.remove(&at).into_iter().flatten());
            }
        }
        for (kind, _) in &footprint.chips {
            let all = (*kind, TenantIx::ROOT)..=(*kind, TenantIx(u32::MAX));
            let waiting: Vec<TenantIx> = self.waiting.quota.range(all).map(|((_, who), _)| *who).collect();
            for who in waiting {
                let available = self.available(who, *kind);
                let Some(lanes) = self.waiting.quota.get_mut(&(*kind, who)) else { continue };
                while let Some((milli, lane)) = lanes.first().copied().filter(|(milli, _)| *milli <= available) {
                    lanes.remove(&(milli, lane));
                    helped.push(lane);
                }
                if lanes.is_empty() {
                    self.waiting.quota.remove(&(*kind, who));
                }
            }
        }
        helped
    }
}
