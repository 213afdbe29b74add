//! Nodes that take no work, and caps that are set.

use std::collections::BTreeMap;

use offtake_fleet::{DomainIx, NodeIx};
use offtake_units::{Ppm, Timestamp, Watts};
use serde::{Deserialize, Serialize};

use super::State;
use crate::capacity::{LimitIx, Withheld};
use crate::fact::{JobId, NodeRange};
use crate::place::ShapeIx;

/// Why a node takes no work.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeCondition {
    /// It cannot be reached, or is known to be dead.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub lost: bool,
    /// It is drained, and why.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub drained: Option<String>,
    /// It has joined or come back, and takes work once it has stood its burn-in: by then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub proves_until: Option<Timestamp>,
}

impl NodeCondition {
    const fn is_healthy(&self) -> bool {
        !self.lost && self.drained.is_none() && self.proves_until.is_none()
    }
}

impl State {
    /// The nodes that take no work, and why.
    pub const fn conditions(&self) -> &BTreeMap<NodeIx, NodeCondition> {
        &self.conditions
    }

    /// Caps that are set to another draw than the fleet declares.
    pub const fn caps_set(&self) -> &BTreeMap<LimitIx, Watts> {
        &self.caps
    }

    /// Changes a node's condition. A node that is *out* is counted nowhere in placement, whether it is held for a job or
    /// not. It keeps its idle draw: nobody has powered it off.
    pub(super) fn set_condition(&mut self, node: NodeIx, change: impl FnOnce(&mut NodeCondition)) {
        if node.ix() >= self.fleet().nodes.len() {
            return;
        }
        let mut condition = self.conditions.remove(&node).unwrap_or_default();
        let was_out = !condition.is_healthy();
        if let Some(until) = condition.proves_until {
            self.proving.remove(&(until, node));
        }
        change(&mut condition);
        // Only what is well otherwise can prove itself; it begins anew when it is back.
        condition.proves_until = condition.proves_until.filter(|_| !condition.lost && condition.drained.is_none());
        if let Some(until) = condition.proves_until {
            self.proving.insert((until, node));
        }
        let is_out = !condition.is_healthy();
        if is_out {
            self.conditions.insert(node, condition);
        }
        match (was_out, is_out) {
            (false, true) => {
                self.capacity.withhold(node, Withheld::Out);
                if self.capacity.is_withheld(node, Withheld::Held) {
                    self.replan_holds(|_, held| held == node);
                }
            }
            (true, false) => {
                self.capacity.offer(node, Withheld::Out);
                // Who waited for work without an end may not have to any more.
                self.start_unknown.clear();
                self.wake_nodes(NodeRange { first: node, count: 1 });
            }
            _ => {}
        }
    }

    /// Sets what a cap allows. What is over it then is not stopped; nothing is added.
    pub(super) fn set_cap(&mut self, cap: LimitIx, watts: Watts) {
        let Some(declared) = self.fleet().caps.get(cap.ix()).map(|cap| cap.watts) else { return };
        if watts == declared {
            self.caps.remove(&cap);
        } else {
            self.caps.insert(cap, watts);
        }
        self.heed_cap(cap);
    }

    /// A cap allows what it was set to, or less while it is curtailed, or has been.
    pub(super) fn heed_cap(&mut self, cap: LimitIx) {
        self.let_rise(cap);
        self.settle_cap(cap);
    }

    /// What a cap allows is what it was found to allow.
    pub(super) fn settle_cap(&mut self, cap: LimitIx) {
        let (before, watts) = (self.capacity.limits()[cap.ix()].capacity(), self.allowed(cap));
        if watts == before {
            return;
        }
        // They were planned with what the cap left.
        self.replan_holds(|state, held| state.capacity.is_under(held, cap));
        self.capacity.set_cap(cap, watts);
        self.note_lowered(cap);
        self.shape_ids.retain(|_, known| known.is_ok());
        if watts > before {
            self.power_freed = true;
            self.wake_under_cap(cap);
        }
    }

    /// A cap allows what it did at its meter, and heat leaves other power of that to servers.
    pub(crate) fn reheat_cap(&mut self, cap: LimitIx, factor: Ppm, leaves_more: bool) {
        // They were planned with what it left.
        self.replan_holds(|state, held| state.capacity.is_under(held, cap));
        self.capacity.set_heat(cap, factor);
        self.capacity.foresee_cap(cap, self.lowest(cap));
        self.note_lowered(cap);
        if leaves_more {
            self.shape_ids.retain(|_, known| known.is_ok());
            self.power_freed = true;
            self.wake_under_cap(cap);
        }
        self.keep_curtailed_anew(cap);
    }

    /// Who waits for what a cap allows is tried.
    pub(super) fn wake_under_cap(&mut self, cap: LimitIx) {
        self.start_unknown.clear();
        let domains = self.capacity.limits()[cap.ix()].domains.clone();
        domains.iter().for_each(|(domain, _)| self.wake_under(*domain));
    }

    /// Takes note of a cap that more is drawn under than it allows.
    pub(super) fn note_lowered(&mut self, cap: LimitIx) {
        if self.capacity.limits()[cap.ix()].left_micro() < 0 {
            self.lowered.insert(cap);
        }
    }

    /// Gives up the holds on nodes of a sort; the next pass plans them anew.
    pub(super) fn replan_holds(&mut self, concerns: impl Fn(&Self, NodeIx) -> bool) {
        let nodes = |hold: &super::Hold| hold.nodes.clone().into_iter().flat_map(NodeRange::numbers).map(NodeIx);
        let jobs: Vec<JobId> = self
            .holds
            .iter()
            .filter(|hold| hold.job.is_job() && nodes(hold).any(|node| concerns(self, node)))
            .map(|hold| hold.job)
            .collect();
        jobs.into_iter().for_each(|job| self.release_hold(job));
    }

    /// Stirs all shapes that may use nodes of a domain.
    fn wake_under(&mut self, domain: DomainIx) {
        for kind in (0..self.fleet().node_kinds.len() as u32).map(offtake_fleet::NodeKindIx) {
            if self.capacity.cell_of(domain, kind).is_none() {
                continue;
            }
            let shapes: Vec<ShapeIx> = self.queue.asleep_on(kind).map(|(shape, _)| shape).collect();
            shapes.into_iter().for_each(|shape| self.queue.stir(shape, false));
        }
    }
}
