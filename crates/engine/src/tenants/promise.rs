//! Quota kept for one job that has waited too long for it, so that nobody who comes later takes what it waits for.

use offtake_fleet::AcceleratorKindIx;

use super::quota::Account;
use super::{Footprint, Load, TenantIx, Tenants};
use crate::fact::JobId;

/// Chips of a kind that count as used by a tenant although the job does not run yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Promise {
    /// The job.
    pub job: JobId,
    /// The kind of accelerator.
    pub kind: AcceleratorKindIx,
    /// Thousandths of chips.
    pub milli: u64,
    pub(super) tenant: TenantIx,
}

impl Promise {
    /// Of chips for a job of a tenant.
    pub const fn new(job: JobId, tenant: TenantIx, kind: AcceleratorKindIx, milli: u64) -> Self {
        Self { job, kind, milli, tenant }
    }

    /// Whether it is of a job of a tenant.
    pub fn is_of(&self, tenant: TenantIx) -> bool {
        self.tenant == tenant
    }

    fn footprint(&self) -> Footprint {
        Footprint { chips: vec![(self.kind, self.milli)], ..Footprint::default() }
    }
}

impl Tenants {
    /// What is kept, and for whom.
    pub const fn promise(&self) -> Option<&Promise> {
        self.promise.as_ref()
    }

    /// Keeps quota for a job, instead of what was kept before.
    pub fn keep(&mut self, promise: Promise) {
        self.keep_no_more();
        self.take(promise.tenant, &promise.footprint());
        self.promise = Some(promise);
    }

    /// Keeps nothing any more; whether anything was kept, which is given back.
    pub fn keep_no_more(&mut self) -> bool {
        let Some(promise) = self.promise.take() else { return false };
        self.give(promise.tenant, &promise.footprint());
        true
    }

    /// What each tenant of a path has less in use of a kind, as far as a job sees: what is kept for itself is not in its
    /// way.
    pub(super) fn kept_at(&self, at: TenantIx, kind: AcceleratorKindIx, asks: JobId) -> u64 {
        let Some(promise) = self.promise.as_ref().filter(|kept| kept.job == asks && kept.kind == kind) else {
            return 0;
        };
        let mut milli = promise.milli;
        for tenant in self.path(promise.tenant) {
            if tenant == at {
                return milli;
            }
            let mut account = self.account(tenant, kind);
            let before = account.at_parent();
            account.used = account.used.saturating_sub(milli);
            milli = before - account.at_parent();
        }
        0
    }

    /// A tenant's account of a kind without what is kept: what is at work.
    pub fn at_work(&self, tenant: TenantIx, kind: AcceleratorKindIx) -> Account {
        let mut account = self.account(tenant, kind);
        let kept = self.promise.as_ref().map_or(0, |kept| self.kept_at(tenant, kind, kept.job));
        account.used = account.used.saturating_sub(kept);
        account
    }

    /// What a tenant and those below it run and let wait, without what is kept.
    pub(super) fn load_at_work(&self, tenant: TenantIx) -> Load {
        let load = self.entries[tenant.ix()].load;
        let kept = self.promise.as_ref().and_then(|kept| self.is_kept_at(tenant, kept.job));
        kept.map_or(load, |kept| Load {
            running_jobs: load.running_jobs.saturating_sub(1),
            running_chip_milli: load.running_chip_milli.saturating_sub(kept.milli),
            ..load
        })
    }

    /// Whether what is kept for a job counts at a tenant's limits.
    pub(super) fn is_kept_at(&self, at: TenantIx, asks: JobId) -> Option<&Promise> {
        let promise = self.promise.as_ref().filter(|kept| kept.job == asks)?;
        self.path(promise.tenant).any(|tenant| tenant == at).then_some(promise)
    }

    /// Thousandths of chips of a kind that a tenant could use if nobody else used any.
    pub fn could_have(&self, tenant: TenantIx, kind: AcceleratorKindIx) -> u64 {
        if !self.is_under_quota(kind) {
            return u64::MAX;
        }
        let mut account = self.account(tenant, kind);
        account.used = 0;
        let parent = (tenant != TenantIx::ROOT).then(|| self.could_have(self.parent(tenant), kind));
        account.available(parent)
    }

    /// Whether limits could ever leave room for a job of so many chips.
    pub fn could_run(&self, tenant: TenantIx, chip_milli: u64) -> bool {
        self.path(tenant).all(|at| {
            let limits = self.entries[at.ix()].limits;
            limits.running_jobs != Some(0)
                && limits.running_chips.is_none_or(|most| chip_milli <= u64::from(most) * 1000)
        })
    }
}
