//! A look ahead from a live state: virtual time passes over a copy of it, with changes that somebody has in mind.
//!
//! What live drivers would bring comes by itself: running work ends when its time says, work on lost nodes starts
//! again, jobs that wait for others are released when those have come so far, services follow their demand curves, and
//! their replicas serve as soon as they have nodes. Nothing fails of its own accord.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use offtake_engine::{
    ChipTime, Event, Fact, JobId, LimitIx, NodeRange, Phase, ServiceId, ServiceState, Stage, State, StopReason,
};
use offtake_fleet::{DomainIx, Fleet, Meter, NodeIx};
use offtake_units::{Duration, Timestamp, Watts};
use offtake_workload::Dependency;

use crate::course::Course;
use crate::dependencies::{Milestone, fulfils};
use crate::grid::add_cap;

/// As far as it is looked ahead at most, where nobody says how far.
const FARTHEST: Duration = Duration::from_secs(30 * 24 * 3600);

/// After a day of nothing but the hours of demand curves, these bring nothing new.
const CURVES_REPEAT: Duration = Duration::DAY;

/// A job on hold that waits for something other than people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Awaiting {
    /// The job.
    pub job: JobId,
    /// Jobs that must have come so far; those that are not known any more have.
    pub after: Vec<Dependency>,
    /// When it may begin.
    pub begin: Option<Timestamp>,
}

/// What is ahead.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ahead {
    /// From when it was looked ahead.
    pub from: Timestamp,
    /// Until when.
    pub until: Timestamp,
    /// What becomes of each job that is known or comes; replicas of services are left out. A service that comes is in here
    /// by its identity, and has started when as many replicas as it wants have nodes.
    pub jobs: BTreeMap<JobId, JobAhead>,
    /// Jobs that finish.
    pub finished: u64,
    /// Jobs that end without the result that they were for.
    pub failed: u64,
    /// Jobs that still run at the end.
    pub running: u64,
    /// Jobs that still wait at the end, those on hold included.
    pub waiting: u64,
    /// Jobs that can never run.
    pub refused: u64,
    /// Jobs that are stopped and wait again.
    pub restarted: u64,
    /// The mean time that jobs wait for their first start from now on, of those that wait for room now or come to; waits
    /// that last count so far.
    pub mean_wait: Duration,
    /// Chip-time whose work is lost.
    pub lost: ChipTime,
    /// The highest draw at the servers.
    pub peak_it: Watts,
}

/// What becomes of a job.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct JobAhead {
    /// Since when it waits, where it waits for its first start from now on.
    pub waits_since: Option<Timestamp>,
    /// When it starts for the first time from now on; none where it runs on or never starts.
    pub started: Option<Timestamp>,
    /// When it ends.
    pub ended: Option<Timestamp>,
    /// Its nodes: those that it has now, or gets last.
    pub nodes: Vec<NodeRange>,
    /// How often it is stopped and waits again.
    pub restarts: u32,
    /// It can never run.
    pub refused: bool,
    /// It ends without the result that it was for, or is withdrawn.
    pub failed: bool,
}

/// Looks ahead from a state, which is best a copy: it is used up.
///
/// `changes` happen at their instants, those of the past at once. Beside what they do to the state:
///
/// - Work on a node that is lost starts again from its last checkpoint, as far as its interval is known, or fails where
///   it is not to be started again.
/// - Where a cap falls below what is drawn, or a curtailment is announced, work under it gives way as the engine decides.
///
/// Jobs on hold stay there but for `awaiting`. It is looked as far as `horizon`, or else until all work with an end has
/// ended and those who wait have seen each hour of the demand curves, but no more than 30 days.
pub fn look_ahead(state: State, changes: Vec<Fact>, awaiting: Vec<Awaiting>, horizon: Option<Duration>) -> Ahead {
    let mut look = Look::new(state, changes, awaiting);
    let from = look.from;
    let limit = from.saturating_add(horizon.unwrap_or(FARTHEST));
    look.begin();
    let mut now = from;
    loop {
        look.happen(now);
        look.settle(now);
        match look.next_instant(horizon.is_some()) {
            Some(next) if next.max(now) <= limit => now = next.max(now),
            _ => break,
        }
    }
    look.close(if horizon.is_some() { limit } else { now })
}

/// When jobs that wait start for the first time from now on, as far as it is looked: until all have, for 30 days at most,
/// and as long as `go_on` says so. As [`look_ahead`] with nothing in mind.
pub fn starts_ahead(
    state: State,
    awaiting: Vec<Awaiting>,
    mut go_on: impl FnMut() -> bool,
) -> BTreeMap<JobId, Timestamp> {
    let mut look = Look::new(state, Vec::new(), awaiting);
    let from = look.from;
    let limit = from.saturating_add(FARTHEST);
    look.begin();
    let mut now = from;
    loop {
        look.happen(now);
        look.settle(now);
        let all_started = look.course.state.queue().jobs() == 0 && look.awaiting.is_empty();
        match look.next_instant(false) {
            Some(next) if !all_started && next.max(now) <= limit && go_on() => now = next.max(now),
            _ => break,
        }
    }
    look.jobs.into_iter().filter_map(|(job, ahead)| Some((job, ahead.started?))).collect()
}

/// A copy of a fleet with one more cap on a domain, at the servers, on the expected draw, which does not bind until
/// [`Event::CapSet`] sets it; and that cap.
pub fn with_cap(fleet: &Fleet, domain: DomainIx, name: &str) -> (Arc<Fleet>, LimitIx) {
    let mut fleet = fleet.clone();
    let cap = add_cap(&mut fleet, domain, Meter::It, name);
    (Arc::new(fleet), cap)
}

fn follows_curve(service: &ServiceState) -> bool {
    !service.cancelled && !service.spec.demand.is_empty()
}

/// The first full hour after an instant.
const fn hour_after(at: Timestamp) -> Timestamp {
    let hour = Duration::HOUR.as_millis();
    Timestamp::from_millis((at.as_millis().div_euclid(hour) + 1) * hour)
}

/// A look ahead on its way.
struct Look {
    from: Timestamp,
    course: Course,
    /// What is still to happen, the next last.
    changes: Vec<Fact>,
    /// Jobs on hold, with what they still wait for.
    awaiting: BTreeMap<JobId, Vec<Dependency>>,
    /// Who waits for a job.
    dependents: BTreeMap<u64, Vec<JobId>>,
    /// When jobs on hold may begin.
    begins: BTreeSet<(Timestamp, JobId)>,
    jobs: BTreeMap<JobId, JobAhead>,
    /// Replicas of services, of which nothing is told.
    replicas: BTreeSet<JobId>,
    /// Services that have come and have not started.
    services: BTreeSet<ServiceId>,
    /// The full hour at which services follow their demand curves next.
    next_hour: Timestamp,
    /// When something last happened to a job.
    stirred: Timestamp,
    lost_before: ChipTime,
    peak_it: Watts,
}

impl Look {
    fn new(mut state: State, mut changes: Vec<Fact>, awaiting: Vec<Awaiting>) -> Self {
        let from = state.now();
        // Jobs that are made up for a question get the identities that come next.
        state.number_replicas_from(JobId::REPLICAS);
        changes.sort_by_key(|fact| fact.at);
        changes.reverse();
        let mut look = Self {
            from,
            changes,
            awaiting: BTreeMap::new(),
            dependents: BTreeMap::new(),
            begins: BTreeSet::new(),
            jobs: BTreeMap::new(),
            replicas: BTreeSet::new(),
            services: BTreeSet::new(),
            next_hour: hour_after(from),
            stirred: from,
            lost_before: state.ledger().lost,
            peak_it: Watts::ZERO,
            course: Course::new(state),
        };
        for (job, work) in look.course.state.jobs() {
            let mut ahead = JobAhead::default();
            match &work.phase {
                Phase::Running { placement, .. } => ahead.nodes = placement.nodes(),
                Phase::Pending(_) => ahead.waits_since = Some(work.spec.submitted.min(from)),
                Phase::Held(_) | Phase::Refused(_) => {}
            }
            if work.spec.service.is_none() {
                look.jobs.insert(job, ahead);
            } else {
                look.replicas.insert(job);
            }
        }
        for Awaiting { job, after, begin } in awaiting {
            look.begins.extend(begin.map(|begin| (begin, job)));
            after.iter().for_each(|dependency| look.dependents.entry(dependency.job).or_default().push(job));
            look.awaiting.insert(job, after);
        }
        look
    }

    fn record(&mut self, job: JobId) -> Option<&mut JobAhead> {
        (!self.replicas.contains(&job)).then(|| self.jobs.entry(job).or_default())
    }

    /// Jobs that are being stopped are gone from their nodes in a moment.
    fn end_stopping(&mut self, now: Timestamp) {
        let stopping: Vec<(JobId, StopReason)> = self
            .course
            .state
            .jobs()
            .into_iter()
            .filter_map(|(job, work)| match work.phase {
                Phase::Running { stage: Stage::Stopping(reason), .. } => Some((job, reason)),
                _ => None,
            })
            .collect();
        for (job, reason) in stopping {
            match reason {
                StopReason::Cancelled => self.withdraw(now, job),
                StopReason::Held => self.interrupt(now, job, true),
                StopReason::Requeued
                | StopReason::NodeLost
                | StopReason::NotStarted
                | StopReason::Preempted { .. }
                | StopReason::Reclaimed { .. }
                | StopReason::ReservationEnded
                | StopReason::Curtailed
                | StopReason::Moved
                | StopReason::Drained
                | StopReason::Resized { .. } => self.interrupt(now, job, false),
                StopReason::Retired => self.course.retire(now, job),
                StopReason::TimeLimit | StopReason::WorkerFailed => self.fail(now, job),
            }
        }
    }

    /// When something happens next; `to_the_end` counts the hours of demand curves whether anybody waits for them or not.
    fn next_instant(&mut self, to_the_end: bool) -> Option<Timestamp> {
        let change = self.changes.last().map(|fact| fact.at);
        let begin = self.begins.first().map(|(begin, _)| *begin);
        let hour = self.has_curves().then_some(self.next_hour);
        // Whoever runs may have to stop for a curtailment, and whoever waits has power once it is over.
        let waits = self.course.state.queue().jobs() > 0;
        let eased = self.course.state.next_curtailment().filter(|_| waits || self.course.is_busy());
        let rise = self.course.state.next_rise();
        let Some(next) = [change, begin, eased, rise, self.course.next()].into_iter().flatten().min() else {
            let waits = waits && self.next_hour - self.stirred <= CURVES_REPEAT;
            return hour.filter(|_| waits || to_the_end);
        };
        // Windows and hours recur for ever: they count as long as there is work.
        [Some(next), hour, self.course.next_due()].into_iter().flatten().min()
    }

    fn has_curves(&self) -> bool {
        self.course.state.services().values().any(follows_curve)
    }

    /// At a full hour, services want what their curves say.
    fn follow_curves(&mut self, now: Timestamp) {
        if now < self.next_hour {
            return;
        }
        self.next_hour = hour_after(now);
        let services = self.course.state.services().iter().filter(|(_, known)| follows_curve(known));
        let demands = services.filter_map(|(service, known)| {
            let replicas = known.spec.demand_at(now).filter(|replicas| *replicas != known.demanded)?;
            Some(Event::ServiceScaled { service: *service, replicas })
        });
        let demands: Vec<Event> = demands.collect();
        demands.into_iter().for_each(|event| self.course.tell(now, event));
    }

    /// What was under way comes about.
    fn begin(&mut self) {
        let from = self.from;
        self.end_stopping(from);
        self.release_all_ready(from);
        let replicas: Vec<JobId> = self.replicas.iter().copied().collect();
        replicas.into_iter().for_each(|replica| self.serve(from, replica));
    }

    /// A replica with nodes serves.
    fn serve(&mut self, now: Timestamp, replica: JobId) {
        let work = self.course.state.job(replica);
        if work.is_some_and(|work| matches!(work.phase, Phase::Running { stage: Stage::Starting, .. })) {
            self.course.tell(now, Event::JobStarted { job: replica });
        }
    }

    /// Everything that happens at an instant: ends first, so that what they give back is there for those who come.
    fn happen(&mut self, now: Timestamp) {
        while let Some(job) = self.course.end_next(now) {
            self.ended(now, job, Milestone::Succeeded);
        }
        while let Some(job) = self.course.leave_next(now) {
            if let Some(record) = self.record(job) {
                record.restarts += 1;
            }
        }
        while let Some((begin, job)) = self.begins.first().copied().filter(|(begin, _)| *begin <= now) {
            self.begins.remove(&(begin, job));
            self.release_if_ready(now, job);
        }
        self.follow_curves(now);
        let (mut lost, mut held) = (BTreeSet::new(), Vec::new());
        while let Some(fact) = self.changes.pop_if(|fact| fact.at <= now) {
            self.note(now, &fact.event);
            self.stirred = now;
            match &fact.event {
                Event::NodeLost { node } => {
                    lost.insert(*node);
                }
                Event::JobHeld { job } => held.push(*job),
                _ => {}
            }
            self.course.tell(now, fact.event);
        }
        held.into_iter().for_each(|job| self.release_if_ready(now, job));
        if !lost.is_empty() {
            self.start_again(now, &lost);
        }
    }

    /// Takes note of what a change does to a job.
    fn note(&mut self, now: Timestamp, event: &Event) {
        match event {
            Event::JobSubmitted { job, .. } | Event::JobReleased { job } => self.waits(now, *job),
            Event::ServiceSubmitted { service, spec } => {
                let refused = self.course.state.placeable(std::slice::from_ref(&spec.replica)).is_err();
                let waits_since = (!refused).then_some(now);
                self.jobs.insert(JobId(service.0), JobAhead { waits_since, refused, ..JobAhead::default() });
                self.services.insert(*service);
            }
            Event::JobHeld { job } => {
                if let Some(record) = self.record(*job).filter(|record| record.started.is_none()) {
                    record.waits_since = None;
                }
            }
            Event::JobFinished { job } => self.ended(now, *job, Milestone::Succeeded),
            Event::JobFailed { job } => self.ended(now, *job, Milestone::Failed),
            Event::JobCancelled { job } => self.ended(now, *job, Milestone::Cancelled),
            Event::JobRequeued { job, .. } => {
                if let Some(record) = self.record(*job) {
                    record.restarts += 1;
                }
            }
            _ => {}
        }
    }

    fn waits(&mut self, now: Timestamp, job: JobId) {
        if let Some(record) = self.record(job).filter(|record| record.started.is_none() && record.nodes.is_empty()) {
            record.waits_since = Some(now);
        }
    }

    /// Passes until nothing more is decided and nobody more is released.
    fn settle(&mut self, now: Timestamp) {
        loop {
            self.course.pass(now);
            self.course.closed.clear();
            let mut started = Vec::new();
            for fact in std::mem::take(&mut self.course.decided) {
                match fact.event {
                    Event::ReplicaAdded { replica, .. } => drop(self.replicas.insert(replica)),
                    Event::JobPlaced { job, placement } => {
                        if let Some(record) = self.record(job) {
                            record.started = record.started.or(Some(now));
                            record.nodes = placement.nodes();
                            self.stirred = now;
                        }
                        started.push(job);
                    }
                    Event::JobRejected { job, .. } => {
                        if let Some(record) = self.record(job) {
                            record.refused = true;
                            record.waits_since = None;
                        }
                        self.passed(now, job, Milestone::Failed);
                    }
                    _ => {}
                }
            }
            self.start_services(now);
            self.peak_it = self.peak_it.max(self.course.draw().0);
            if started.is_empty() {
                return;
            }
            for job in started {
                if self.replicas.contains(&job) {
                    self.serve(now, job);
                }
                self.passed(now, job, Milestone::Started);
            }
        }
    }

    /// Services that have come have started once as many of their replicas as are wanted have nodes.
    fn start_services(&mut self, now: Timestamp) {
        let state = &self.course.state;
        let placement = |replica: &JobId| match &state.job(*replica)?.phase {
            Phase::Running { placement, .. } => Some(placement),
            _ => None,
        };
        for (service, known) in self.services.iter().filter_map(|service| Some((*service, state.service(*service)?))) {
            let nodes: Vec<NodeRange> =
                known.replicas.iter().filter_map(placement).flat_map(|placement| placement.nodes()).collect();
            let placed = known.replicas.iter().filter_map(placement).count();
            if let Some(record) = self.jobs.get_mut(&JobId(service.0)).filter(|_| placed >= known.wanted as usize) {
                record.started = record.started.or(Some(now).filter(|_| !record.refused));
                record.nodes = nodes;
            }
        }
        let jobs = &self.jobs;
        self.services.retain(|service| jobs.get(&JobId(service.0)).is_some_and(|record| record.started.is_none()));
    }

    fn ended(&mut self, now: Timestamp, job: JobId, how: Milestone) {
        if let Some(record) = self.record(job) {
            record.ended = Some(now);
            record.failed = how != Milestone::Succeeded;
            self.stirred = now;
        }
        self.passed(now, job, how);
    }

    fn interrupt(&mut self, now: Timestamp, job: JobId, held: bool) {
        if let Some(record) = self.record(job) {
            record.restarts += 1;
        }
        self.course.interrupt(now, job, held);
    }

    fn fail(&mut self, now: Timestamp, job: JobId) {
        self.course.tell(now, Event::JobFailed { job });
        self.ended(now, job, Milestone::Failed);
    }

    fn withdraw(&mut self, now: Timestamp, job: JobId) {
        self.course.tell(now, Event::JobCancelled { job });
        self.ended(now, job, Milestone::Cancelled);
    }

    /// A job has come so far: who waited for that is released, who waits for what can no longer be is withdrawn.
    fn passed(&mut self, now: Timestamp, job: JobId, milestone: Milestone) {
        let dependents = self.dependents.get(&job.0).cloned().unwrap_or_default();
        for dependent in dependents {
            let Some(after) = self.awaiting.get_mut(&dependent) else { continue };
            let mut in_vain = false;
            after.retain(|dependency| {
                let outcome = (dependency.job == job.0).then(|| fulfils(milestone, dependency.when)).flatten();
                in_vain |= outcome == Some(false);
                outcome != Some(true)
            });
            if in_vain {
                self.awaiting.remove(&dependent);
                self.begins.retain(|(_, other)| *other != dependent);
                self.withdraw(now, dependent);
            } else {
                self.release_if_ready(now, dependent);
            }
        }
    }

    fn release_if_ready(&mut self, now: Timestamp, job: JobId) {
        let state = &self.course.state;
        let known = |dependency: &Dependency| state.job(JobId(dependency.job)).is_some();
        let ready = self.awaiting.get(&job).is_some_and(|after| !after.iter().any(known))
            && !self.begins.iter().any(|(_, other)| *other == job);
        if ready && state.job(job).is_some_and(|work| matches!(work.phase, Phase::Held(_))) {
            self.awaiting.remove(&job);
            self.waits(now, job);
            self.course.tell(now, Event::JobReleased { job });
        }
    }

    /// Releases those that wait for nothing any more.
    fn release_all_ready(&mut self, now: Timestamp) {
        let jobs: Vec<JobId> = self.awaiting.keys().copied().collect();
        jobs.into_iter().for_each(|job| self.release_if_ready(now, job));
    }

    /// Work on lost nodes starts again, or fails where it is not to.
    fn start_again(&mut self, now: Timestamp, lost: &BTreeSet<NodeIx>) {
        let hit = |nodes: NodeRange| lost.range(nodes.first..NodeIx(nodes.numbers().end)).next().is_some();
        let mut jobs = Vec::new();
        for (job, work) in self.course.state.jobs() {
            if let Phase::Running { placement, .. } = &work.phase
                && placement.slots().any(|slot| hit(slot.nodes))
            {
                jobs.push((job, work.spec.program.as_ref().is_none_or(|program| program.requeue)));
            }
        }
        for (job, again) in jobs {
            if again { self.interrupt(now, job, false) } else { self.fail(now, job) }
        }
    }

    fn close(mut self, until: Timestamp) -> Ahead {
        self.course.state.advance(until);
        let state = &self.course.state;
        let (mut running, mut waiting) = (0, 0);
        for (_, work) in state.jobs() {
            match work.phase {
                _ if work.spec.service.is_some() => {}
                Phase::Running { .. } => running += 1,
                Phase::Pending(_) | Phase::Held(_) | Phase::Refused(_) => waiting += 1,
            }
        }
        let waits = self.jobs.values().filter_map(|job| Some(job.started.unwrap_or(until) - job.waits_since?));
        let (count, sum) =
            waits.fold((0_i64, 0_i128), |(count, sum), wait| (count + 1, sum + i128::from(wait.as_millis())));
        let count_of = |is: fn(&JobAhead) -> bool| self.jobs.values().filter(|job| is(job)).count() as u64;
        Ahead {
            from: self.from,
            until,
            finished: count_of(|job| job.ended.is_some() && !job.failed),
            failed: count_of(|job| job.ended.is_some() && job.failed),
            running,
            waiting,
            refused: count_of(|job| job.refused),
            restarted: count_of(|job| job.restarts > 0),
            mean_wait: Duration::from_millis((sum / i128::from(count.max(1))) as i64),
            lost: ChipTime(state.ledger().lost.0 - self.lost_before.0),
            peak_it: self.peak_it,
            jobs: self.jobs,
        }
    }
}
