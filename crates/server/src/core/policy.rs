//! The policy in force, and what tenants have under it.

use std::collections::BTreeSet;

use offtake_engine::{Entitled, Event as EngineEvent, Policy, QuotaView, TenantView};
use offtake_protocol::rest::{self, PolicyInForce, PolicyView, Problem};

use super::access::problem;
use super::{Answer, Caller, Core};

impl Core {
    /// The policy in force.
    pub fn policy(&self) -> PolicyView {
        let PolicyInForce { name, version } = self.policy_in_force();
        PolicyView { version, name, toml: self.state.policy().to_toml() }
    }

    pub(super) fn policy_in_force(&self) -> PolicyInForce {
        let name = self.state.policy().name().unwrap_or("custom").to_owned();
        PolicyInForce { name, version: self.state.policy_version() }
    }

    pub(super) fn set_policy(&mut self, policy: Policy) -> Result<Answer, Problem> {
        policy.check_on(self.state.fleet()).map_err(|error| problem(422, "policy", error.to_string()))?;
        if policy != *self.state.policy() {
            self.emit_engine(EngineEvent::PolicySet { policy });
        }
        Ok(Answer::Policy(Box::new(self.policy())))
    }

    /// The tenants that a caller may see, each before those below it, and what they have.
    pub fn tenants(&self, caller: &Caller) -> Vec<rest::TenantView> {
        let all = self.state.tenants();
        let Some(only) = caller.only_tenant() else { return all.iter().map(|tenant| self.describe(tenant)).collect() };
        let mut seen = BTreeSet::new();
        let mut found = Vec::new();
        for tenant in all.iter().filter(|tenant| tenant.parent.is_some()) {
            let is_top = tenant.name == only;
            if is_top || tenant.parent.as_ref().is_some_and(|parent| seen.contains(parent)) {
                seen.insert(tenant.name.clone());
                let view = self.describe(tenant);
                found.push(rest::TenantView { parent: view.parent.filter(|_| !is_top), ..view });
            }
        }
        found
    }

    fn describe(&self, tenant: &TenantView) -> rest::TenantView {
        rest::TenantView {
            name: tenant.name.clone(),
            parent: tenant.parent.clone(),
            weight: tenant.weight,
            share_ppm: tenant.share.parts(),
            running_jobs: tenant.load.running_jobs,
            running_chip_milli: tenant.load.running_chip_milli,
            pending_jobs: tenant.load.pending_jobs,
            pending_chip_milli: tenant.load.pending_chip_milli,
            most_running_jobs: tenant.limits.running_jobs,
            most_running_chips: tenant.limits.running_chips,
            most_pending_jobs: tenant.limits.pending_jobs,
            most_pending_chips: tenant.limits.pending_chips,
            quota: tenant.quota.iter().map(|quota| self.describe_quota(quota)).collect(),
        }
    }

    fn describe_quota(&self, quota: &QuotaView) -> rest::QuotaView {
        let entitled = |part: fn(&Entitled) -> u64| quota.entitled.as_ref().map(part);
        let limit = |part: fn(&Entitled) -> Option<u64>| quota.entitled.as_ref().and_then(part);
        rest::QuotaView {
            accelerator: self.state.fleet().accelerators[quota.accelerator.ix()].name.clone(),
            in_use_chip_milli: quota.in_use,
            nominal_chip_milli: entitled(|entitled| entitled.nominal),
            subtree_chip_milli: entitled(|entitled| entitled.subtree),
            borrowing_limit_chip_milli: limit(|entitled| entitled.borrowing_limit),
            lending_limit_chip_milli: limit(|entitled| entitled.lending_limit),
            borrowed_chip_milli: entitled(|entitled| entitled.borrowed),
            lent_chip_milli: entitled(|entitled| entitled.lent),
            available_chip_milli: entitled(|entitled| entitled.available),
        }
    }
}
