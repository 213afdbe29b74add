//! Tenants as they are shown.

use offtake_fleet::AcceleratorKindIx;
use offtake_units::Ppm;

use super::{Limits, Load, TenantIx, Tenants};

/// A tenant and what it has, with those below it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TenantView {
    /// Its name; empty for the root, which stands for all.
    pub name: String,
    /// The tenant that it hangs below; the root's is empty, and it has none itself.
    pub parent: Option<String>,
    /// Its weight among its siblings.
    pub weight: u32,
    /// Its dominant share of the fleet over its weight: what orders work. The root has none.
    pub share: Ppm,
    /// What runs and waits.
    pub load: Load,
    /// What may.
    pub limits: Limits,
    /// By accelerator kind that is under quota or in use.
    pub quota: Vec<QuotaView>,
}

/// Chips of one kind, in thousandths.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct QuotaView {
    /// The kind.
    pub accelerator: AcceleratorKindIx,
    /// In use by it and those below it.
    pub in_use: u64,
    /// What it may have; none where the kind is not under quota.
    pub entitled: Option<Entitled>,
}

/// What a tenant may have of a kind, in thousandths of chips.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entitled {
    /// Its own.
    pub nominal: u64,
    /// Its own and what those below it lend.
    pub subtree: u64,
    /// The most that it may borrow beyond that.
    pub borrowing_limit: Option<u64>,
    /// The most of that which it lends.
    pub lending_limit: Option<u64>,
    /// Used beyond that.
    pub borrowed: u64,
    /// Of that, not used by it and yet not to be had, as others have borrowed it.
    pub lent: u64,
    /// What it could still use now.
    pub available: u64,
}

impl Tenants {
    /// All tenants, the root first, each before those below it, siblings by name; shares as of when they were last
    /// worked out.
    pub fn view(&self) -> Vec<TenantView> {
        let mut found = Vec::new();
        if !self.entries.is_empty() {
            self.view_below(TenantIx::ROOT, &mut found);
        }
        found
    }

    fn view_below(&self, tenant: TenantIx, found: &mut Vec<TenantView>) {
        let entry = &self.entries[tenant.ix()];
        let kinds = (0..self.under_quota.len() as u32).map(AcceleratorKindIx);
        let quota = kinds.map(|kind| self.view_quota(tenant, kind));
        found.push(TenantView {
            name: entry.name.clone(),
            parent: (tenant != TenantIx::ROOT).then(|| self.name(entry.parent).to_owned()),
            weight: entry.weight,
            share: self.share(tenant),
            load: self.load_at_work(tenant),
            limits: entry.limits,
            quota: quota.filter(|quota| quota.in_use > 0 || quota.entitled.is_some()).collect(),
        });
        let mut below: Vec<TenantIx> = self.all().filter(|other| self.parent(*other) == tenant).collect();
        below.sort_by_key(|other| self.name(*other));
        below.into_iter().for_each(|other| self.view_below(other, found));
    }

    fn view_quota(&self, tenant: TenantIx, accelerator: AcceleratorKindIx) -> QuotaView {
        let is_in = |other: &TenantIx| self.path(*other).any(|at| at == tenant);
        let held = |other: TenantIx| self.entries[other.ix()].own[accelerator.ix()].held;
        let in_use = self.all().filter(is_in).map(held).sum();
        let entitled = self.is_under_quota(accelerator).then(|| {
            let account = self.at_work(tenant, accelerator);
            let available = self.available(tenant, accelerator);
            Entitled {
                nominal: account.nominal,
                subtree: account.subtree,
                borrowing_limit: account.borrowing_limit,
                lending_limit: account.lending_limit,
                borrowed: account.borrowed(),
                lent: account.subtree.saturating_sub(account.used).saturating_sub(available),
                available,
            }
        });
        QuotaView { accelerator, in_use, entitled }
    }
}
