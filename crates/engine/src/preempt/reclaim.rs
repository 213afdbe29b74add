//! Lent quota is taken back: work of a tenant that has borrowed is stopped for a job whose tenant stays within its own.
//!
//! Nobody falls under its own by it. So each tenant has a budget, what it has borrowed less what is leaving already, and
//! whoever is stopped is charged to its tenant and to those that this hangs below, up to the one that lends.

use offtake_fleet::AcceleratorKindIx;
use rustc_hash::FxHashMap;

use crate::fact::JobId;
use crate::state::{Phase, State};
use crate::tenants::TenantIx;

/// What is charged to a tenant, in thousandths of chips of a kind.
pub type Charge = (TenantIx, AcceleratorKindIx, u64);

/// What a job may take back.
#[derive(Clone, Debug)]
pub struct Reclaim {
    /// The job's tenant.
    by: TenantIx,
    /// By the kinds of accelerator that it may take back, those that lend.
    lenders: Vec<(AcceleratorKindIx, Vec<TenantIx>)>,
    /// What tenants have borrowed and nobody takes back yet.
    budget: FxHashMap<(TenantIx, AcceleratorKindIx), u64>,
}

/// What has been charged so far.
#[derive(Clone, Debug, Default)]
pub struct Charged(FxHashMap<(TenantIx, AcceleratorKindIx), u64>);

impl Charged {
    /// Charges a job's stop.
    pub fn add(&mut self, charges: &[Charge]) {
        for (tenant, kind, milli) in charges {
            *self.0.entry((*tenant, *kind)).or_default() += milli;
        }
    }
}

impl Reclaim {
    /// Whether quota of a kind may be taken back.
    pub fn is_of(&self, kind: AcceleratorKindIx) -> bool {
        self.lenders.iter().any(|(known, _)| *known == kind)
    }

    /// Whether a job's stop leaves everybody what is its own, with what is charged already.
    pub fn affords(&self, charged: &Charged, charges: &[Charge]) -> bool {
        let spent = |key| charged.0.get(&key).copied().unwrap_or(0);
        charges.iter().all(|(tenant, kind, milli)| {
            let budget = self.budget.get(&(*tenant, *kind)).copied().unwrap_or(0);
            spent((*tenant, *kind)) + milli <= budget
        })
    }

    /// Whether those whom a job's stop is charged to keep what is their own with all that is charged.
    pub fn is_within(&self, charged: &Charged, charges: &[Charge]) -> bool {
        let none: Vec<Charge> = charges.iter().map(|(tenant, kind, _)| (*tenant, *kind, 0)).collect();
        self.affords(charged, &none)
    }

    /// What the stop of a running job is charged, to whom; nothing where its tenant borrows nothing of what is taken back.
    pub fn charges(&mut self, state: &State, job: JobId) -> Vec<Charge> {
        let Some((charges, common)) = self.stop(state, job) else { return Vec::new() };
        let lends = |kind| self.lenders.iter().any(|(known, lenders)| *known == kind && lenders.contains(&common));
        if !charges.iter().any(|(_, kind, _)| lends(*kind)) {
            return Vec::new();
        }
        for (tenant, kind, _) in &charges {
            self.budget.entry((*tenant, *kind)).or_insert_with(|| state.tenants.borrowed(*tenant, *kind));
        }
        charges
    }

    /// Of what is borrowed some is leaving already.
    pub fn charge_leaving(&mut self, state: &State) {
        for job in &state.stopping {
            let charges = self.stop(state, *job).map_or_else(Vec::new, |(charges, _)| charges);
            for (tenant, kind, milli) in charges {
                if let Some(budget) = self.budget.get_mut(&(tenant, kind)) {
                    *budget = budget.saturating_sub(milli);
                }
            }
        }
    }

    /// What a running job uses of what is under quota, for its tenant and each that this hangs below, as far as the one
    /// who takes back does not; and the first tenant that both hang below.
    fn stop(&self, state: &State, job: JobId) -> Option<(Vec<Charge>, TenantIx)> {
        let work = state.job(job)?;
        let Phase::Running { shape, placement, .. } = &work.phase else { return None };
        let (branch, common) = state.tenants.branch(state.tenant_of(job)?, self.by);
        let footprint = state.footprint(*shape, placement);
        let under_quota = footprint.chips.iter().filter(|(kind, _)| state.tenants.is_under_quota(*kind));
        let charges = under_quota.flat_map(|(kind, milli)| branch.iter().map(move |at| (*at, *kind, *milli)));
        Some((charges.collect(), common))
    }
}

impl State {
    /// What a waiting job may take back; none where the policy lets nothing be, or where its tenant would borrow itself.
    pub(crate) fn reclaim_for(&self, job: JobId) -> Option<Reclaim> {
        if !self.policy.preemption.as_ref().is_some_and(|policy| policy.reclaim) {
            return None;
        }
        let (by, shape) = (self.tenant_of(job)?, self.pending_shape(job)?);
        let needs = self.shape(shape).chips_by_accelerator(self.fleet());
        let lenders = needs.into_iter().map(|(kind, milli)| (kind, self.tenants.lends_below(by, kind, milli)));
        let lenders: Vec<_> = lenders.filter(|(_, lenders)| !lenders.is_empty()).collect();
        (!lenders.is_empty()).then(|| Reclaim { by, lenders, budget: FxHashMap::default() })
    }
}
