//! Quota that is lent, for its owner to take back.

use offtake_fleet::AcceleratorKindIx;

use super::{TenantIx, Tenants};

impl Tenants {
    /// The tenants above one, the nearest first, up to which neither it nor any on the way would borrow with so many more
    /// thousandths of chips in use: what others below those have borrowed beyond their own is lent to them by it.
    pub fn lends_below(&self, tenant: TenantIx, kind: AcceleratorKindIx, milli: u64) -> Vec<TenantIx> {
        let mut found = Vec::new();
        let (mut at, mut more) = (tenant, milli);
        while at != TenantIx::ROOT && self.is_under_quota(kind) {
            let mut account = self.at_work(at, kind);
            let before = account.at_parent();
            account.used += more;
            if account.borrowed() > 0 {
                break;
            }
            more = account.at_parent() - before;
            at = self.parent(at);
            found.push(at);
        }
        found
    }

    /// A tenant and those that it hangs below, as far as another does not hang below them too; and the first that both do.
    pub fn branch(&self, of: TenantIx, by: TenantIx) -> (Vec<TenantIx>, TenantIx) {
        let above: Vec<TenantIx> = self.path(by).collect();
        let branch: Vec<TenantIx> = self.path(of).take_while(|at| !above.contains(at)).collect();
        let common = branch.last().map_or(of, |top| self.parent(*top));
        (branch, common)
    }

    /// Thousandths of chips of a kind that a tenant and those below it use beyond what they have.
    pub fn borrowed(&self, tenant: TenantIx, kind: AcceleratorKindIx) -> u64 {
        if self.is_under_quota(kind) { self.at_work(tenant, kind).borrowed() } else { 0 }
    }

    /// The tenants with work of their own that use what one lends them of a kind, with what each could be made to give
    /// back, in thousandths of chips; by name.
    pub fn borrowers(&self, by: TenantIx, kind: AcceleratorKindIx, milli: u64) -> Vec<(String, u64)> {
        let lends = self.lends_below(by, kind, milli);
        let uses = |of: &TenantIx| self.entries[of.ix()].own[kind.ix()].held > 0;
        let of = |of: TenantIx| {
            let (branch, common) = self.branch(of, by);
            let most = branch.iter().map(|at| self.borrowed(*at, kind)).min()?;
            (lends.contains(&common) && most > 0).then(|| (self.name(of).to_owned(), most))
        };
        let mut found: Vec<(String, u64)> = self.all().filter(uses).filter_map(of).collect();
        found.sort_unstable();
        found
    }
}
