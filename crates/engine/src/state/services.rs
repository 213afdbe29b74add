//! Services: how many replicas they have, where those go, and how many may go down at one time.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use offtake_fleet::{DomainIx, LevelIx};
use offtake_units::Timestamp;
use offtake_workload::{Job, Service};

use super::{Phase, ServiceState, Stage, State};
use crate::fact::{Event, JobId, ServiceId, StopReason};
use crate::request::Shape;

impl ServiceState {
    fn new(service: ServiceId, spec: &Arc<Service>, now: Timestamp) -> Self {
        let replica = Arc::new(Job {
            name: spec.name.clone(),
            tenant: spec.tenant.clone(),
            tier: spec.tier,
            submitted: now,
            gangs: vec![spec.replica.clone()],
            program: spec.program.clone(),
            service: Some(service.0),
            ..Job::default()
        });
        Self {
            wanted: spec.minimum,
            demanded: spec.minimum,
            demanded_at: Timestamp::EPOCH,
            spec: Arc::clone(spec),
            replica,
            replicas: BTreeSet::new(),
            leaving: BTreeSet::new(),
            on_drained: BTreeSet::new(),
            cancelled: false,
        }
    }

    /// Replicas that stay up whatever we would like to stop. Above what is wanted nobody misses one.
    pub(crate) fn least_up(&self) -> usize {
        self.spec.disruption_budget.map_or(0, |budget| self.wanted.saturating_sub(budget)) as usize
    }

    fn want(&mut self, replicas: u32, since: Timestamp) {
        (self.demanded, self.demanded_at) = (replicas, since);
        self.wanted = if self.cancelled { 0 } else { replicas.clamp(self.spec.minimum, self.spec.maximum) };
    }

    /// A replica is being stopped. One that does not come back is none of those that count.
    pub(super) fn stopping(&mut self, replica: JobId, reason: StopReason) {
        if matches!(reason, StopReason::Retired | StopReason::Cancelled) && self.replicas.remove(&replica) {
            self.leaving.insert(replica);
            self.on_drained.remove(&replica);
        }
    }
}

impl State {
    // Services come, change and go.

    pub(super) fn add_service(&mut self, service: ServiceId, spec: &Arc<Service>) {
        let now = self.now;
        self.services.entry(service).or_insert_with(|| ServiceState::new(service, spec, now));
    }

    pub(super) fn scale_service(&mut self, service: ServiceId, replicas: u32) {
        let now = self.now;
        self.services.get_mut(&service).into_iter().for_each(|state| state.want(replicas, now));
    }

    pub(super) fn bound_service(&mut self, service: ServiceId, minimum: u32, maximum: u32) {
        let Some(state) = self.services.get_mut(&service) else { return };
        let spec = Arc::make_mut(&mut state.spec);
        (spec.minimum, spec.maximum) = (minimum.min(maximum), maximum);
        state.want(state.demanded, state.demanded_at);
    }

    pub(super) fn cancel_service(&mut self, service: ServiceId) {
        let Some(state) = self.services.get_mut(&service) else { return };
        (state.cancelled, state.wanted) = (true, 0);
        self.forget_service(service);
    }

    pub(super) fn add_replica(&mut self, service: ServiceId, replica: JobId) {
        let Some(state) = self.services.get_mut(&service) else { return };
        state.replicas.insert(replica);
        let spec = Arc::clone(&state.replica);
        self.next_replica = self.next_replica.max(replica.0 + 1);
        self.submit(replica, spec);
    }

    /// A job is over: its service has it no more, if it was a replica.
    pub(super) fn leave_service(&mut self, job: JobId, spec: &Job) {
        let Some(service) = spec.service.map(ServiceId) else { return };
        let Some(state) = self.services.get_mut(&service) else { return };
        state.replicas.remove(&job);
        state.leaving.remove(&job);
        state.on_drained.remove(&job);
        self.forget_service(service);
    }

    /// A withdrawn service is gone with its last replica.
    fn forget_service(&mut self, service: ServiceId) {
        let is_over = |state: &ServiceState| state.cancelled && state.replicas.is_empty() && state.leaving.is_empty();
        if self.services.get(&service).is_some_and(is_over) {
            self.services.remove(&service);
        }
    }

    /// Replicas are numbered from here on. To be told by whoever numbers jobs and replicas in one row.
    pub const fn number_replicas_from(&mut self, next: u64) {
        self.next_replica = next;
    }

    /// What a service needs next to have as many replicas as it wants, and those that take the places of others; none
    /// when it has.
    pub(crate) fn next_step_of(&self, service: ServiceId) -> Option<Event> {
        let known = self.services.get(&service)?;
        let (have, wanted) = (known.replicas.len(), known.wanted as usize + known.surge());
        if have < wanted {
            // Those that are leaving have their nodes still: it never has more than its maximum.
            let is_full = have + known.leaving.len() >= known.spec.maximum as usize;
            let may = !is_full && self.placeable(&known.replica.gangs).is_ok();
            return may.then_some(Event::ReplicaAdded { service, replica: JobId(self.next_replica) });
        }
        if have == wanted {
            return None;
        }
        let replica = self.surplus_of(known)?;
        let runs = matches!(self.job(replica)?.phase, Phase::Running { .. });
        // What runs a program ends it first.
        Some(match known.spec.program {
            Some(_) if runs => Event::JobStopping { job: replica, reason: StopReason::Retired, by: None },
            _ => Event::ReplicaRetired { service, replica },
        })
    }

    /// Of too many replicas the one that goes first: the youngest of those that wait, or else of those that run a program
    /// and do not serve yet, or else one that has to leave its node, or else the youngest of all.
    fn surplus_of(&self, service: &ServiceState) -> Option<JobId> {
        let waits =
            |replica: &&JobId| self.job(**replica).is_some_and(|work| !matches!(work.phase, Phase::Running { .. }));
        let is_down = |replica: &&JobId| !self.is_up(**replica);
        let replicas = || service.replicas.iter().rev();
        let first = match service.spec.program {
            Some(_) => replicas().find(waits).or_else(|| replicas().find(is_down)),
            None if self.may_wait(&service.replica) => replicas().find(waits),
            None => None,
        };
        first.or_else(|| service.on_drained.first()).or_else(|| service.replicas.last()).copied()
    }

    // What is known of services.

    /// All services that are not over.
    pub const fn services(&self) -> &BTreeMap<ServiceId, ServiceState> {
        &self.services
    }

    /// Replicas of a service that have nodes, by the domain of a level around their first.
    pub fn replicas_around(&self, service: &ServiceState, level: LevelIx) -> BTreeMap<DomainIx, u32> {
        let mut replicas = BTreeMap::new();
        for replica in &service.replicas {
            let Some(Phase::Running { placement, .. }) = self.job(*replica).map(|work| &work.phase) else { continue };
            if let Some(slot) = placement.slots().next() {
                *replicas.entry(self.fleet().around(slot.nodes.first, level)).or_default() += 1;
            }
        }
        replicas
    }

    /// A service that is not over.
    pub fn service(&self, service: ServiceId) -> Option<&ServiceState> {
        self.services.get(&service)
    }

    /// The service of a replica.
    pub fn service_of(&self, replica: JobId) -> Option<&ServiceState> {
        self.services.get(&ServiceId(self.job(replica)?.spec.service?))
    }

    /// Whether a running replica may be stopped by our own will: drained, displaced or moved. Beside those of its service
    /// that are down already, for whatever reason, its disruption budget must allow one more. Whatever is no replica may.
    pub fn may_disrupt(&self, replica: JobId) -> bool {
        let Some(service) = self.service_of(replica) else { return true };
        let up = service.replicas.iter().filter(|replica| self.is_up(**replica)).count();
        service.least_up() + usize::from(self.is_up(replica)) <= up
    }

    /// Whether a replica runs and is to go on. One that has no program is up once it has its nodes: nobody says more.
    pub fn is_up(&self, replica: JobId) -> bool {
        let Some(work) = self.job(replica) else { return false };
        match work.phase {
            Phase::Running { stage: Stage::Running, .. } => true,
            Phase::Running { stage: Stage::Starting, .. } => work.spec.program.is_none(),
            _ => false,
        }
    }

    /// The domains over which a replica's service is spread, those with the fewest of its replicas first, of these the
    /// fullest; without those that have no room at all. Nothing for whatever is not spread.
    pub(crate) fn spread_of(&self, replica: JobId, shape: &Shape) -> Vec<DomainIx> {
        let Some(service) = self.service_of(replica) else { return Vec::new() };
        let level = service.spec.spread.as_ref().and_then(|level| self.fleet().level(level));
        let Some(level) = level else { return Vec::new() };
        let replicas = self.replicas_around(service, level);
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
