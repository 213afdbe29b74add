//! Services: where their replicas go, and how many may go down at one time.

use std::collections::BTreeMap;

use offtake_fleet::DomainIx;

use super::{Phase, ServiceState, Stage, State};
use crate::fact::JobId;
use crate::request::Shape;

impl ServiceState {
    /// Replicas that stay up whatever we would like to stop. Above what is wanted nobody misses one.
    pub(crate) fn least_up(&self) -> usize {
        self.spec.disruption_budget.map_or(0, |budget| self.wanted.saturating_sub(budget)) as usize
    }
}

impl State {
    /// The service of a replica.
    pub fn service_of(&self, replica: JobId) -> Option<&ServiceState> {
        replica
            .is_replica()
            .then(|| self.services.values().find(|service| service.replicas.contains(&replica)))
            .flatten()
    }

    /// Whether a running replica may be stopped by our own will: drained, displaced or moved. Beside those of its service
    /// that are down already, for whatever reason, its disruption budget must allow one more. Whatever is no replica may.
    pub fn may_disrupt(&self, replica: JobId) -> bool {
        let Some(service) = self.service_of(replica) else { return true };
        let up = service.replicas.iter().filter(|replica| self.is_up(**replica)).count();
        service.least_up() + usize::from(self.is_up(replica)) <= up
    }

    pub(crate) fn is_up(&self, replica: JobId) -> bool {
        let phase = self.job(replica).map(|work| &work.phase);
        matches!(phase, Some(Phase::Running { stage, .. }) if !matches!(stage, Stage::Stopping(_)))
    }

    /// The domains over which a replica's service is spread, those with the fewest of its replicas first, of these the
    /// fullest; without those that have no room at all. Nothing for whatever is not spread.
    pub(crate) fn spread_of(&self, replica: JobId, shape: &Shape) -> Vec<DomainIx> {
        let Some(service) = self.service_of(replica) else { return Vec::new() };
        let level = service.spec.spread.as_ref().and_then(|level| self.fleet().level(level));
        let Some(level) = level else { return Vec::new() };
        let mut replicas = BTreeMap::<DomainIx, u32>::new();
        for other in &service.replicas {
            let Some(Phase::Running { placement, .. }) = self.job(*other).map(|work| &work.phase) else { continue };
            if let Some(slot) = placement.slots().next() {
                *replicas.entry(self.fleet().around(slot.nodes.first, level)).or_default() += 1;
            }
        }
        let room = |domain: DomainIx| -> u64 {
            let gangs = shape.gangs.iter().flat_map(|gang| gang.kinds.iter().map(move |(kind, _)| (gang, *kind)));
            let cells = gangs.filter_map(|(gang, kind)| Some((gang, self.capacity.cell_of(domain, kind)?)));
            cells.map(|(gang, cell)| u64::from(self.capacity.room(cell, gang.whole_chips()))).sum()
        };
        let domains = self.fleet().domains_at(level).map(DomainIx);
        let mut order: Vec<(u32, u64, DomainIx)> = domains
            .map(|domain| (replicas.get(&domain).copied().unwrap_or_default(), room(domain), domain))
            .filter(|(_, room, _)| *room > 0)
            .collect();
        order.sort_unstable();
        order.into_iter().map(|(.., domain)| domain).collect()
    }
}
