//! Replicas leave drained nodes, and their services stay up meanwhile.
//!
//! As far as a service may have more replicas than it wants, others start elsewhere first. One leaves for good once as
//! many as are wanted serve without it. Where no other has found room, it is stopped as far as the disruption budget
//! goes, and waits to start again elsewhere.

use std::collections::BTreeSet;

use offtake_fleet::NodeIx;

use crate::decide::propose;
use crate::fact::{Event, Fact, JobId, ServiceId, Slot, StopReason};
use crate::state::{Phase, ServiceState, State};

/// Stops replicas on drained nodes that may leave by now. False when there is none.
pub fn evacuate(state: &mut State, facts: &mut Vec<Fact>) -> bool {
    let concerned = |(id, service): (&ServiceId, &ServiceState)| (!service.on_drained.is_empty()).then_some(*id);
    let services: Vec<ServiceId> = state.services.iter().filter_map(concerned).collect();
    let leaving: Vec<_> = services.into_iter().flat_map(|service| state.leaving_now(service)).collect();
    for (job, reason) in &leaving {
        propose(state, facts, Event::JobStopping { job: *job, reason: *reason, by: None });
    }
    !leaving.is_empty()
}

impl ServiceState {
    /// Replicas beyond those that are wanted: they take the places of others that have to leave their nodes.
    pub(crate) fn surge(&self) -> usize {
        let more = self.spec.maximum.saturating_sub(self.wanted).min(self.wanted);
        self.on_drained.len().min(more as usize)
    }
}

impl State {
    /// Which replicas of a service leave drained nodes now, and how: those first that do not serve.
    fn leaving_now(&self, service: ServiceId) -> Vec<(JobId, StopReason)> {
        let Some(known) = self.services.get(&service) else { return Vec::new() };
        let stands = |replica: &&JobId| {
            let phase = self.job(**replica).map(|work| &work.phase);
            phase.is_some_and(|phase| matches!(phase, Phase::Running { stage, .. } if !stage.is_stopping()))
        };
        let mut placed = known.replicas.iter().filter(stands).count();
        let mut up = known.replicas.iter().filter(|replica| self.is_up(**replica)).count();
        let mut evacuees: Vec<JobId> = known.on_drained.iter().filter(stands).copied().collect();
        evacuees.sort_by_key(|replica| self.is_up(*replica));
        let mut leaving = Vec::new();
        for replica in evacuees {
            let others = up - usize::from(self.is_up(replica));
            // With more on nodes than are wanted, another is about to take its place if it does not serve already.
            let (least, reason) = match known.wanted as usize {
                wanted if placed > wanted => (wanted, StopReason::Retired),
                _ => (known.least_up(), StopReason::Drained),
            };
            if others >= least {
                leaving.push((replica, reason));
                (placed, up) = (placed - 1, others);
            }
        }
        leaving
    }

    /// Replicas of a service that are on drained nodes.
    pub(crate) fn on_drained(&self, service: &ServiceState) -> BTreeSet<JobId> {
        service.replicas.iter().copied().filter(|replica| self.drained_under(*replica).is_some()).collect()
    }

    /// A drained node on which a replica runs; none for what is no replica.
    pub fn drained_under(&self, replica: JobId) -> Option<NodeIx> {
        let work = self.job(replica).filter(|work| work.spec.service.is_some())?;
        let Phase::Running { placement, .. } = &work.phase else { return None };
        let mut nodes = placement.slots().flat_map(|slot| {
            let numbers = slot.nodes.numbers();
            self.conditions().range(NodeIx(numbers.start)..NodeIx(numbers.end))
        });
        nodes.find(|(_, condition)| condition.drained.is_some()).map(|(node, _)| *node)
    }

    /// Takes note of whether a replica that has other nodes now has to leave them.
    pub(crate) fn look_under(&mut self, replica: JobId) {
        let is_drained = self.drained_under(replica).is_some();
        let Some(service) = self.job(replica).and_then(|work| work.spec.service) else { return };
        let Some(known) = self.services.get_mut(&ServiceId(service)) else { return };
        if is_drained && known.replicas.contains(&replica) {
            known.on_drained.insert(replica);
        } else {
            known.on_drained.remove(&replica);
        }
    }

    /// Takes note that a node has been drained or resumed.
    pub(crate) fn note_drain(&mut self, node: NodeIx) {
        if !self.capacity().is_idle(node) {
            self.drains_changed.insert(node);
        }
    }

    /// Looks under the replicas on nodes that have been drained or resumed since it was done last.
    pub(crate) fn look_under_all(&mut self) {
        let changed = std::mem::take(&mut self.drains_changed);
        if changed.is_empty() {
            return;
        }
        let is_there = |slot: Slot| {
            let nodes = slot.nodes.numbers();
            changed.range(NodeIx(nodes.start)..NodeIx(nodes.end)).next().is_some()
        };
        let replicas = self.services.values().flat_map(|service| &service.replicas).copied();
        let concerned: Vec<JobId> = replicas
            .filter(|replica| {
                let phase = self.job(*replica).map(|work| &work.phase);
                matches!(phase, Some(Phase::Running { placement, .. }) if placement.slots().any(is_there))
            })
            .collect();
        concerned.into_iter().for_each(|replica| self.look_under(replica));
    }
}
