//! Quota of one accelerator kind, as Kueue's cohorts have it (KEP-79, hierarchical cohorts).
//!
//! A tenant's *subtree* is its own chips and what those below it lend. What it does not lend is *guaranteed*: others
//! never see it. Use beyond what is guaranteed counts at the parent too, which lends it, and so on up to the root; at the
//! root there is no one to borrow of.

use super::tree::Quota;

/// The account of one tenant and one accelerator kind, in thousandths of a chip.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Account {
    /// The tenant's own.
    pub nominal: u64,
    /// The most beyond the subtree's.
    pub borrowing_limit: Option<u64>,
    /// The most of the subtree's that others may have.
    pub lending_limit: Option<u64>,
    /// Its own, and what those below it lend.
    pub subtree: u64,
    /// Used by it and, beyond what is guaranteed to them, by those below it.
    pub used: u64,
}

const MILLI: u64 = 1000;

impl Account {
    /// Of what a policy declares; the subtree is its own until those below are added.
    pub fn of(quota: Quota) -> Self {
        let milli = |chips: u32| u64::from(chips) * MILLI;
        Self {
            nominal: milli(quota.nominal),
            borrowing_limit: quota.borrowing_limit.map(milli),
            lending_limit: quota.lending_limit.map(milli),
            subtree: milli(quota.nominal),
            used: 0,
        }
    }

    /// The part of the subtree's that is never lent.
    pub fn guaranteed(&self) -> u64 {
        self.lending_limit.map_or(0, |limit| self.subtree.saturating_sub(limit))
    }

    /// What it lends at most.
    pub fn lendable(&self) -> u64 {
        self.subtree - self.guaranteed()
    }

    /// What of its use counts at the parent.
    pub fn at_parent(&self) -> u64 {
        self.used.saturating_sub(self.guaranteed())
    }

    /// What is used beyond the subtree's.
    pub fn borrowed(&self) -> u64 {
        self.used.saturating_sub(self.subtree)
    }

    /// What may still be used when the parent has so much; none for the root, which has no parent.
    pub fn available(&self, parent: Option<u64>) -> u64 {
        let Some(parent) = parent else { return self.subtree.saturating_sub(self.used) };
        let own = self.guaranteed().saturating_sub(self.used);
        let most = self.borrowing_limit.map(|limit| (self.lendable() + limit).saturating_sub(self.at_parent()));
        own + most.map_or(parent, |most| most.min(parent))
    }
}
