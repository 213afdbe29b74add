//! Services: work that stays. The engine says how many replicas there are and where; each is a job of its own, with
//! attempts, output and an end. What is told of the service itself is how many of them run.

use std::cmp::Reverse;
use std::collections::BTreeSet;
use std::sync::Arc;

use offtake_engine::{Blocked, Event as EngineEvent, JobId, Phase, ServiceId, ServiceState, Stage, StopReason};
use offtake_fleet::Fleet;
use offtake_protocol::rest::{JobState, ListedService, Problem, ReplicasIn, Scale, ServiceView};
use offtake_units::{Duration, Timestamp};
use offtake_workload::{Service, check};

use super::access::problem;
use super::attempts::is_own_failure;
use super::records::{Attempt, Held, Record, ServiceRecord};
use super::submit::of_fault;
use super::timers::Timer;
use super::{Caller, Core};

/// How long a replica that has ended by itself waits before it starts again; each time in a row twice as long.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
/// The longest that it waits.
const LONGEST_PAUSE: Duration = Duration::from_secs(300);
/// A replica that ran for so long starts again as if it had never failed.
const STEADY: Duration = Duration::from_secs(600);
/// Attempts after which a replica that ends by itself gives its place to a new one, so that what is kept of it ends.
pub(super) const MOST_ATTEMPTS: usize = 64;

impl Core {
    // Services come and go.

    pub(super) fn accept_service(&mut self, id: u64, spec: Service) -> JobState {
        let service = ServiceId(id);
        self.emit_engine(EngineEvent::ServiceSubmitted { service, spec: Arc::new(spec) });
        self.follow_curve(id);
        JobState::Pending
    }

    pub(super) fn note_service(&mut self, at: Timestamp, service: ServiceId, asked: &Arc<Service>) {
        self.number_from(service.0 + 1);
        let Some(replica) = self.state.service(service).map(|state| Arc::clone(&state.replica)) else { return };
        let known = ServiceRecord { asked: Arc::clone(asked), replicas: BTreeSet::new(), cancelled: false };
        let record = Record { service: Some(known), ..Record::new(replica, at, Held::default()) };
        self.records.insert(service.0, record);
    }

    pub(super) fn note_replica(&mut self, at: Timestamp, service: ServiceId, replica: JobId) {
        self.number_from(replica.0 + 1);
        let Some(record) = self.records.get_mut(&service.0) else { return };
        let spec = Arc::clone(&record.spec);
        record.service.iter_mut().for_each(|known| _ = known.replicas.insert(replica.0));
        self.records.insert(replica.0, Record::new(spec, at, Held::default()));
    }

    /// A replica is gone for good.
    pub(super) fn note_retired(&mut self, at: Timestamp, service: ServiceId, replica: JobId) {
        let known = self.records.get(&service.0).and_then(|record| record.service.as_ref());
        let why = match known {
            Some(known) if !known.cancelled => "its service wants fewer replicas, or has another in its place",
            _ => "its service was cancelled",
        };
        self.note_end(at, replica, JobState::Cancelled, Some(why.to_owned()));
    }

    pub(super) fn note_service_cancelled(&mut self, at: Timestamp, service: ServiceId) {
        let record = self.records.get_mut(&service.0).and_then(|record| record.service.as_mut());
        record.into_iter().for_each(|known| known.cancelled = true);
        self.end_service(at, service.0);
    }

    /// A job is over: its service has it no more, where it was a replica.
    pub(super) fn leave_service(&mut self, at: Timestamp, job: u64, service: Option<u64>) {
        let Some(service) = service.filter(|service| *service != job) else { return };
        let known = self.records.get_mut(&service).and_then(|record| record.service.as_mut());
        known.into_iter().for_each(|known| _ = known.replicas.remove(&job));
        self.end_service(at, service);
    }

    /// A service that was cancelled is over with its last replica.
    fn end_service(&mut self, at: Timestamp, service: u64) {
        let known = self.records.get(&service).and_then(|record| record.service.as_ref());
        if known.is_some_and(|known| known.cancelled && known.replicas.is_empty()) {
            self.note_end(at, JobId(service), JobState::Cancelled, None);
        }
    }

    /// Withdraws a service: its replicas are stopped, in good order or at once.
    pub(super) fn cancel_service(&mut self, id: u64, now: bool) {
        let replicas = self.replicas_of(id);
        self.emit_engine(EngineEvent::ServiceCancelled { service: ServiceId(id) });
        if !now {
            return;
        }
        for replica in replicas {
            if let Some(attempt) = self.records.get_mut(&replica).and_then(|record| record.live_mut()) {
                attempt.kill = true;
                self.touch_nodes_of(replica);
            }
        }
    }

    /// The replicas of a service, those that are leaving included.
    pub(super) fn replicas_of(&self, service: u64) -> Vec<u64> {
        let known = self.records.get(&service).and_then(|record| record.service.as_ref());
        known.into_iter().flat_map(|known| &known.replicas).copied().collect()
    }

    // Services grow and shrink.

    /// A service has other bounds from now on.
    ///
    /// # Errors
    /// When it is none, or they cannot be meant.
    pub(super) fn scale(&mut self, id: u64, asked: Scale) -> Result<(), Problem> {
        let spec = Arc::clone(&self.live_service(id)?.spec);
        let (minimum, maximum) = match (asked.replicas, asked.minimum, asked.maximum) {
            (Some(replicas), None, None) => (replicas, replicas),
            (None, minimum, maximum) if minimum.or(maximum).is_some() => {
                (minimum.unwrap_or(spec.minimum), maximum.unwrap_or(spec.maximum))
            }
            _ => {
                let detail = "say `replicas`, or one or both of `minimum` and `maximum`";
                return Err(problem(422, "invalid_scale", detail));
            }
        };
        check::service(&Service { minimum, maximum, ..(*spec).clone() }).map_err(|fault| of_fault(&fault))?;
        if (minimum, maximum) != (spec.minimum, spec.maximum) {
            self.emit_engine(EngineEvent::ServiceBounded { service: ServiceId(id), minimum, maximum });
            self.demand_of_the_hour(id);
        }
        Ok(())
    }

    /// The load of a service needs so many replicas, until its curve says otherwise.
    ///
    /// # Errors
    /// When it is none.
    pub(super) fn demand(&mut self, id: u64, replicas: u32) -> Result<(), Problem> {
        self.live_service(id)?;
        self.emit_engine(EngineEvent::ServiceScaled { service: ServiceId(id), replicas });
        Ok(())
    }

    fn live_service(&self, id: u64) -> Result<&ServiceState, Problem> {
        self.not_over(id)?;
        let known = self.state.service(ServiceId(id)).filter(|state| !state.cancelled);
        known.ok_or_else(|| match self.is_service(id) {
            true => problem(409, "job_is_over", format!("service {id} is cancelled already")),
            false => problem(409, "no_service", format!("job {id} is no service: it has no replicas")),
        })
    }

    /// A service with a curve wants what that says of the hour, unless somebody has said otherwise since it began.
    pub(super) fn follow_curve(&mut self, id: u64) {
        let now = self.state.now();
        let Some(service) = self.state.service(ServiceId(id)).filter(|state| !state.cancelled) else { return };
        if service.spec.demand.is_empty() {
            return;
        }
        if hour_of(service.demanded_at) < hour_of(now) {
            self.demand_of_the_hour(id);
        }
        let next = Timestamp::from_millis((hour_of(now) + 1) * Duration::HOUR.as_millis());
        self.timers.set(next, Timer::Demand(id));
    }

    fn demand_of_the_hour(&mut self, id: u64) {
        let service = ServiceId(id);
        let Some(known) = self.state.service(service) else { return };
        let Some(replicas) = known.spec.demand_at(self.state.now()) else { return };
        if replicas != known.demanded {
            self.emit_engine(EngineEvent::ServiceScaled { service, replicas });
        }
    }

    /// Whether it is a service, and no job of its own.
    pub(super) fn is_service(&self, id: u64) -> bool {
        self.records.get(&id).is_some_and(|record| record.service.is_some())
    }

    /// # Errors
    /// When it is a service, of which only replicas can be asked for this.
    pub(super) fn no_service(&self, id: u64) -> Result<(), Problem> {
        if !self.is_service(id) {
            return Ok(());
        }
        let detail = format!("job {id} is a service: ask this of one of its replicas, or scale it");
        Err(problem(409, "is_a_service", detail))
    }

    // Replicas start again.

    /// A replica waits a little before it starts again, the longer the more often it has ended by itself in a row.
    pub(super) fn pause_replica(&mut self, at: Timestamp, replica: u64) {
        let Some(record) = self.records.get_mut(&replica) else { return };
        let begin = at.saturating_add(pause_after(&record.attempts));
        record.held.begin = Some(begin);
        self.timers.set(begin, Timer::Begin(replica));
    }

    // What is told.

    /// Where a service stands that is not over: as its replica that has come farthest.
    pub(super) fn service_state(&self, id: u64) -> JobState {
        let Some(service) = self.state.service(ServiceId(id)) else { return JobState::Pending };
        if service.cancelled {
            return JobState::Stopping;
        }
        let states = service.replicas.iter().filter_map(|replica| {
            let record = self.records.get(&replica.0)?;
            Some(self.job_state(replica.0, record))
        });
        let states: Vec<JobState> = states.collect();
        let farthest = [JobState::Running, JobState::Starting].into_iter().find(|state| states.contains(state));
        farthest.unwrap_or(JobState::Pending)
    }

    /// How many replicas a service has and wants; of one that is over what it asked for.
    pub(super) fn service_view(&self, id: u64, record: &Record) -> Option<ServiceView> {
        let asked = &record.service.as_ref()?.asked;
        let known = self.state.service(ServiceId(id));
        let spec = known.map_or(asked, |state| &state.spec);
        Some(ServiceView {
            running: known.map_or(0, |state| self.running_of(state)),
            replicas: known.map_or(0, |state| state.wanted),
            minimum: spec.minimum,
            maximum: spec.maximum,
            spread: spec.spread.clone(),
            disruption_budget: spec.disruption_budget,
        })
    }

    fn running_of(&self, service: &ServiceState) -> u32 {
        service.replicas.iter().filter(|replica| self.state.is_up(**replica)).count() as u32
    }

    /// The services that are not over and that a caller may know of, by identity.
    pub fn services(&self, caller: &Caller) -> Vec<ListedService> {
        let all = self.state.services().iter();
        let listed = all.filter_map(|(service, known)| {
            let record = self.records.get(&service.0).filter(|record| caller.sees(&record.spec.tenant))?;
            self.list_service(caller, service.0, record, known)
        });
        listed.collect()
    }

    fn list_service(&self, caller: &Caller, id: u64, record: &Record, known: &ServiceState) -> Option<ListedService> {
        let fleet = self.state.fleet();
        let (mut starting, mut waiting, mut stopping) = (0, 0, 0);
        for work in known.replicas.union(&known.leaving).filter_map(|replica| self.state.job(*replica)) {
            match &work.phase {
                Phase::Running { stage: Stage::Running, .. } => {}
                Phase::Running { stage: Stage::Starting, .. } => starting += 1,
                Phase::Running { stage: Stage::Stopping(_), .. } => stopping += 1,
                Phase::Pending(_) | Phase::Held(_) | Phase::Refused(_) => waiting += 1,
            }
        }
        let level = known.spec.spread.as_ref().and_then(|level| fleet.level(level));
        let around = level.map(|level| self.state.replicas_around(known, level)).unwrap_or_default();
        let of = |(domain, replicas)| ReplicasIn { domain: fleet.path(domain), replicas };
        let mut domains: Vec<ReplicasIn> = around.into_iter().map(of).collect();
        domains.sort_by_key(|domain| Reverse(domain.replicas));
        let on_drained = known.replicas.iter().filter(|replica| self.state.drained_under(**replica).is_some()).count();
        Some(ListedService {
            id,
            name: record.spec.name.clone(),
            state: self.service_state(id),
            tenant: record.spec.tenant.clone(),
            tier: record.spec.tier,
            service: self.service_view(id, record)?,
            starting,
            waiting,
            stopping,
            on_drained: on_drained as u32,
            demand: known.demanded,
            has_curve: !known.spec.demand.is_empty(),
            domains,
            waits_for: self.replicas_wait_for(caller, known),
        })
    }

    /// What keeps replicas of a service from running, in a few words.
    fn replicas_wait_for(&self, caller: &Caller, known: &ServiceState) -> Option<String> {
        if known.replicas.len() < known.wanted as usize
            && let Err(refusal) = self.state.placeable(&known.replica.gangs)
        {
            return Some(format!("nodes that it can run on: {refusal}"));
        }
        let fleet = self.state.fleet();
        let is_behind_its_own =
            |blocked: &Blocked| matches!(blocked, Blocked::Behind(other) if known.replicas.contains(other));
        let mut blocked = known.replicas.iter().filter_map(|replica| self.state.blocked(*replica));
        if let Some(blocked) = blocked.find(|blocked| !is_behind_its_own(blocked)) {
            return Some(match blocked {
                Blocked::Room => "room".to_owned(),
                Blocked::Power(limit) => fleet
                    .caps
                    .get(limit.ix())
                    .map_or("power".to_owned(), |cap| format!("power under the cap {}", cap.name)),
                Blocked::Quota(kind) => format!("quota of its tenant for {}", fleet.accelerators[kind.ix()].name),
                Blocked::Ramp(site) => format!("the ramp of site {}", fleet.sites[site.ix()].name),
                Blocked::Limit => "the limits of its tenant".to_owned(),
                Blocked::Reservation => "its reservation".to_owned(),
                Blocked::Behind(other) if self.may_name(caller, other) => format!("job {}, which comes first", other.0),
                Blocked::Behind(_) => "its turn".to_owned(),
            });
        }
        let held = |replica: &JobId| matches!(self.state.job(*replica).map(|work| &work.phase), Some(Phase::Held(_)));
        let first = known.replicas.iter().find(|replica| held(replica))?;
        self.why_held(self.records.get(&first.0)?)
    }

    /// Why a service stands where it stands, in one sentence.
    pub(super) fn why_service(&self, id: u64, record: &Record) -> String {
        let Some(view) = self.service_view(id, record) else { return String::new() };
        let bounds = match (view.minimum, view.maximum) {
            (least, most) if least == most => String::new(),
            (least, most) => format!(", of at least {least} and at most {most}"),
        };
        let replicas = self.replicas_of(id);
        let others: Vec<String> = replicas
            .iter()
            .filter(|replica| !self.state.is_up(JobId(**replica)))
            .take(MOST_NAMED)
            .filter_map(|replica| {
                let record = self.records.get(replica)?;
                Some(format!("{replica} ({})", self.job_state(*replica, record).word()))
            })
            .collect();
        let rest = if others.is_empty() {
            String::new()
        } else {
            format!(" Ask of its other replicas singly: {}.", others.join(", "))
        };
        let leaving = replicas.iter().filter(|replica| self.state.drained_under(JobId(**replica)).is_some());
        let leaving: Vec<String> = leaving.take(MOST_NAMED).map(u64::to_string).collect();
        let drained = if leaving.is_empty() {
            String::new()
        } else {
            format!(" On drained nodes, and to leave them: {}.", leaving.join(", "))
        };
        format!("Service {id} runs {} of {} replicas{bounds}.{rest}{drained}", view.running, view.replicas)
    }

    /// That a replica has to leave a drained node, and when it goes; nothing for others.
    pub(super) fn why_evacuated(&self, id: u64, record: &Record) -> Option<String> {
        let node = self.state.drained_under(JobId(id))?;
        let reason = self.state.conditions().get(&node)?.drained.as_deref()?;
        let name = self.names.get(node.ix())?;
        let service = record.spec.service?;
        let (must, when) = match record.current().and_then(|attempt| attempt.stop) {
            None => (
                "has to leave",
                format!(
                    "it goes once another replica of service {service} serves in its place, or as soon as the disruption \
                     budget of that service lets it be down"
                ),
            ),
            Some(StopReason::Drained) => ("leaves", "it starts again elsewhere".to_owned()),
            Some(StopReason::Retired) => {
                ("leaves", format!("service {service} wants fewer replicas, or has another in its place"))
            }
            Some(_) => return None,
        };
        Some(format!(" It {must} {name}, which is drained ({reason}): {when}."))
    }
}

/// # Errors
/// When the fleet has no level as that over which a service is to be spread.
pub(super) fn may_spread(fleet: &Fleet, service: &Service) -> Result<(), Problem> {
    let Some(level) = service.spread.as_ref().filter(|level| fleet.level(level).is_none()) else { return Ok(()) };
    let detail = format!("the fleet has no level `{level}`; it has {}", fleet.levels.join(", "));
    Err(Problem { field: Some("service.spread".to_owned()), ..problem(422, "unplaceable", detail) })
}

/// Full hours since 1970.
const fn hour_of(at: Timestamp) -> i64 {
    at.as_millis().div_euclid(Duration::HOUR.as_millis())
}

/// Replicas that are named; the rest can be listed.
const MOST_NAMED: usize = 8;

/// How long a replica waits after its last attempt.
fn pause_after(attempts: &[Attempt]) -> Duration {
    let is_short = |attempt: &&Attempt| {
        let ran = attempt.started.zip(attempt.ended).map_or(Duration::ZERO, |(started, ended)| ended - started);
        is_own_failure(attempt) && ran < STEADY
    };
    let in_a_row = attempts.iter().rev().take_while(is_short).count();
    let doubled = u32::try_from(in_a_row.saturating_sub(1)).unwrap_or(u32::MAX).min(16);
    Duration::from_millis(FIRST_PAUSE.as_millis() << doubled).min(LONGEST_PAUSE)
}
