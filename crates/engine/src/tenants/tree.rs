//! The tenants as a policy declares them: who hangs below whom, with what weight, quota and limits.

use std::collections::BTreeMap;

use offtake_units::Ppm;
use serde::{Deserialize, Serialize};

/// The tenants that a policy names. Others hang below the root with weight 1 and no quota of their own.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TenantTree {
    /// What belongs to nobody and is lent to all, by accelerator kind; what it does not name is the rest of the fleet.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub quota: BTreeMap<String, Quota>,
    /// What all tenants together may run and let wait.
    #[serde(skip_serializing_if = "Limits::is_empty")]
    pub limits: Limits,
    /// The tenants by name.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub tenants: BTreeMap<String, Tenant>,
}

/// One tenant of the tree.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Tenant {
    /// The tenant that it hangs below; none for the root.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub parent: Option<String>,
    /// Its part of what its siblings share, against theirs; at least 1.
    pub weight: u32,
    /// Its chips, by accelerator kind.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub quota: BTreeMap<String, Quota>,
    /// What it and those below it may run and let wait.
    #[serde(skip_serializing_if = "Limits::is_empty")]
    pub limits: Limits,
    /// The most of its own chips and of those below it that may run in one domain of a level, by the level's name, or
    /// under one circuit, by [`TenantTree::CIRCUIT`]; as a share of its quota of all kinds.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub blast_radius: BTreeMap<String, Ppm>,
}

impl Default for Tenant {
    fn default() -> Self {
        Self {
            parent: None,
            weight: 1,
            quota: BTreeMap::new(),
            limits: Limits::default(),
            blast_radius: BTreeMap::new(),
        }
    }
}

/// Chips of one accelerator kind that a tenant has, may borrow and may lend.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Quota {
    /// Its own, beside those of the tenants below it.
    pub nominal: u32,
    /// The most that it may borrow beyond its own and theirs; none for all that is lent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub borrowing_limit: Option<u32>,
    /// The most of its own and theirs that others may borrow; none for all of it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lending_limit: Option<u32>,
}

/// What a tenant and those below it may run and let wait at one time; none for any number.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    /// Jobs that run.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub running_jobs: Option<u32>,
    /// Chips of jobs that run, of all kinds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub running_chips: Option<u32>,
    /// Jobs that wait.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pending_jobs: Option<u32>,
    /// Chips of jobs that wait, of all kinds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pending_chips: Option<u32>,
}

impl Limits {
    /// Whether nothing is limited.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

impl TenantTree {
    /// The most tenants below one another.
    pub const MOST_LEVELS: usize = 6;

    /// What stands for circuits where a level is named otherwise.
    pub const CIRCUIT: &str = "circuit";

    /// Whether it says nothing.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Whether any tenant, or the root, has a quota for some accelerator kind.
    pub fn has_quota(&self) -> bool {
        self.quotas().next().is_some()
    }

    /// All quotas by tenant, the root's without one, and by accelerator kind.
    pub fn quotas(&self) -> impl Iterator<Item = (Option<&str>, &str, &Quota)> {
        let root = self.quota.iter().map(|(kind, quota)| (None, kind.as_str(), quota));
        let others = self.tenants.iter().flat_map(|(name, tenant)| {
            tenant.quota.iter().map(move |(kind, quota)| (Some(name.as_str()), kind.as_str(), quota))
        });
        root.chain(others)
    }

    /// A tenant and those that it hangs below, itself first; no more than there can be where they hang in a circle.
    pub fn path<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        let named = |name: &&'a str| self.tenants.contains_key(*name);
        let parent = move |name: &&'a str| self.tenants.get(*name)?.parent.as_deref().filter(named);
        std::iter::successors(Some(name), parent).take(Self::MOST_LEVELS + 1)
    }
}
