//! Who works where on single-tenant nodes: those that cannot keep the devices of tenants apart, so that work of two
//! tenants never runs there at one time.
//!
//! While such a node is at work it is withheld from everybody but the tenant whose work alone is there. The account is
//! *seen by* one tenant, and stays so until another is tried: where all work is of one tenant, and where no node is
//! single-tenant, an attempt costs nothing more.

use std::collections::{BTreeMap, BTreeSet};

use offtake_fleet::NodeIx;
use serde::{Deserialize, Serialize};

use super::TenantIx;
use crate::capacity::{Capacity, Withheld};
use crate::fact::Placement;

/// The single-tenant nodes, and whose work is there.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tenancy {
    /// Single-tenant nodes with the tenants at work there, and in how many slots.
    nodes: BTreeMap<NodeIx, BTreeMap<TenantIx, u32>>,
    /// Nodes that became single-tenant while several tenants were at work there, and still are.
    mixed: BTreeSet<NodeIx>,
    /// Per tenant the nodes on which it alone is at work.
    alone: BTreeMap<TenantIx, BTreeSet<NodeIx>>,
    /// Who sees the account.
    seen_by: Option<TenantIx>,
}

/// What cannot be made anew from the running work.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TenancyImage {
    /// Single-tenant nodes.
    pub single: BTreeSet<NodeIx>,
    /// Those of them that became so while several tenants were at work there, and still are.
    pub mixed: BTreeSet<NodeIx>,
}

impl TenancyImage {
    /// Whether no node is single-tenant.
    pub fn is_empty(&self) -> bool {
        self.single.is_empty()
    }

    /// The same nodes under other numbers; those without one are forgotten.
    pub fn renumbered(&self, numbers: &[Option<NodeIx>]) -> Self {
        let renumber = |nodes: &BTreeSet<NodeIx>| nodes.iter().filter_map(|node| numbers[node.ix()]).collect();
        Self { single: renumber(&self.single), mixed: renumber(&self.mixed) }
    }
}

impl Tenancy {
    /// Of an image, before any work is there.
    pub fn restore(image: TenancyImage) -> Self {
        let nodes = image.single.into_iter().map(|node| (node, BTreeMap::new())).collect();
        Self { nodes, mixed: image.mixed, ..Self::default() }
    }

    /// As data.
    pub fn image(&self) -> TenancyImage {
        TenancyImage { single: self.nodes.keys().copied().collect(), mixed: self.mixed.clone() }
    }

    /// The same nodes, seen by the same tenant, with nobody at work.
    pub fn without_work(&self) -> Self {
        let nodes = self.nodes.keys().map(|node| (*node, BTreeMap::new())).collect();
        Self { nodes, alone: BTreeMap::new(), ..self.clone() }
    }

    /// Whether no node is single-tenant.
    pub fn is_empty(&self) -> bool {
        self.nodes.is_empty()
    }

    /// Whether a node is single-tenant.
    pub fn is_single(&self, node: NodeIx) -> bool {
        self.nodes.contains_key(&node)
    }

    /// Whether work of a tenant may come to a node: nobody else's is there.
    pub fn admits(&self, node: NodeIx, tenant: Option<TenantIx>) -> bool {
        self.nodes.get(&node).is_none_or(|at_work| at_work.keys().all(|other| Some(*other) == tenant))
    }

    /// The nodes that are withheld from whoever sees the account.
    pub fn closed(&self) -> Vec<NodeIx> {
        self.nodes.keys().copied().filter(|node| !self.admits(*node, self.seen_by)).collect()
    }

    /// From now on a tenant sees the account.
    pub fn see_as(&mut self, capacity: &mut Capacity, tenant: TenantIx) {
        let before = self.seen_by.replace(tenant);
        if before == Some(tenant) {
            return;
        }
        if let Some(before) = before {
            self.alone_at(before).for_each(|node| capacity.withhold(node, Withheld::Tenant));
        }
        self.alone_at(tenant).for_each(|node| capacity.offer(node, Withheld::Tenant));
    }

    /// The nodes on which a tenant alone is at work.
    fn alone_at(&self, tenant: TenantIx) -> impl Iterator<Item = NodeIx> + '_ {
        self.alone.get(&tenant).into_iter().flatten().copied()
    }

    /// Work of a tenant comes.
    pub fn enter(&mut self, capacity: &mut Capacity, tenant: TenantIx, placement: &Placement) {
        self.change_all(capacity, tenant, placement, |slots| slots + 1);
    }

    /// Work of a tenant goes.
    pub fn leave(&mut self, capacity: &mut Capacity, tenant: TenantIx, placement: &Placement) {
        self.change_all(capacity, tenant, placement, |slots| slots.saturating_sub(1));
    }

    fn change_all(
        &mut self,
        capacity: &mut Capacity,
        tenant: TenantIx,
        placement: &Placement,
        change: impl Fn(u32) -> u32 + Copy,
    ) {
        if self.is_empty() {
            return;
        }
        for node in placement.slots().flat_map(|slot| slot.nodes.numbers()).map(NodeIx) {
            if self.is_single(node) {
                self.change(capacity, node, tenant, change);
            }
        }
    }

    fn change(&mut self, capacity: &mut Capacity, node: NodeIx, tenant: TenantIx, change: impl Fn(u32) -> u32) {
        let Some(at_work) = self.nodes.get_mut(&node) else { return };
        let before = alone(at_work);
        let slots = at_work.entry(tenant).or_default();
        *slots = change(*slots);
        if *slots == 0 {
            at_work.remove(&tenant);
        }
        let after = alone(at_work);
        if before != after {
            if let Some(before) = before {
                self.no_longer_alone(before, node);
            }
            if let Some(after) = after {
                self.alone.entry(after).or_default().insert(node);
            }
        }
        if self.admits(node, self.seen_by) {
            capacity.offer(node, Withheld::Tenant);
        } else {
            capacity.withhold(node, Withheld::Tenant);
        }
    }

    fn no_longer_alone(&mut self, tenant: TenantIx, node: NodeIx) {
        let Some(nodes) = self.alone.get_mut(&tenant) else { return };
        nodes.remove(&node);
        if nodes.is_empty() {
            self.alone.remove(&tenant);
        }
    }

    /// A node becomes single-tenant; `at_work` names the tenants that have work there, once for each slot. All of it
    /// stays; of several tenants all but one have to go before more comes.
    pub fn close(&mut self, capacity: &mut Capacity, node: NodeIx, at_work: impl Iterator<Item = TenantIx>) {
        self.nodes.insert(node, BTreeMap::new());
        for tenant in at_work {
            self.change(capacity, node, tenant, |slots| slots + 1);
        }
        if self.nodes.get(&node).is_some_and(|at_work| at_work.len() > 1) {
            self.mixed.insert(node);
        }
    }

    /// A node is single-tenant no more.
    pub fn open(&mut self, capacity: &mut Capacity, node: NodeIx) {
        self.nodes.remove(&node);
        self.mixed.remove(&node);
        self.alone.retain(|_, nodes| {
            nodes.remove(&node);
            !nodes.is_empty()
        });
        capacity.offer(node, Withheld::Tenant);
        if self.is_empty() {
            *self = Self::default();
        }
    }

    /// Forgets of nodes that they had work of several tenants once they no longer do.
    pub fn settle(&mut self) {
        self.mixed.retain(|node| self.nodes.get(node).is_some_and(|at_work| at_work.len() > 1));
    }

    /// A node where work of several tenants has come together.
    pub fn fault(&self) -> Option<NodeIx> {
        let together = |node: &NodeIx| self.nodes.get(node).is_some_and(|at_work| at_work.len() > 1);
        let met = self.nodes.keys().find(|node| together(node) && !self.mixed.contains(node));
        met.or_else(|| self.mixed.iter().find(|node| !together(node))).copied()
    }
}

/// The tenant that alone is at work.
fn alone(at_work: &BTreeMap<TenantIx, u32>) -> Option<TenantIx> {
    at_work.keys().next().copied().filter(|_| at_work.len() == 1)
}
