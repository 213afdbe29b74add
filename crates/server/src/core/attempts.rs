//! The life of an attempt: placed, prepared on all nodes, run on all nodes, ended on all nodes; and what then becomes of
//! the job.
//!
//! What agents say is no fact. Facts are what follows from it: that all workers run, that an attempt is being ended and
//! why, that nothing of it runs any more. After a restart the rest is learnt again from the agents' next reports.

use std::collections::BTreeMap;
use std::sync::Arc;

use offtake_engine::{Event as EngineEvent, Fault, JobId, Pace, Phase, Placement, ServiceId, StopReason, ends_at};
use offtake_fleet::NodeIx;
use offtake_protocol::agent::{EnergySource, Exit, NodeShare, TaskEnd, WorkerSpec};
use offtake_protocol::rest::{JobState, WorkerFailure};
use offtake_units::{Duration, Ppm, Timestamp};
use offtake_workload::{ChipRequest, Gang, Job, Start};

use super::records::{Attempt, End, Record, Seen, Share, Step, Task};
use super::services::MOST_ATTEMPTS;
use super::steps::Part;
use super::timers::Timer;
use super::{Core, ENDED_KEPT, OUTCOMES_KEPT};
use crate::fact::Event;

/// Failures that are told of an attempt.
const MOST_FAILURES: usize = 64;

/// Starts of a job that may fail by fault of nodes before it is put on hold.
const MOST_FAILED_STARTS: usize = 5;

impl Core {
    // The fold.

    pub(super) fn note_placed(&mut self, at: Timestamp, job: JobId, placement: &Arc<Placement>) {
        let Some(record) = self.records.get_mut(&job.0) else { return };
        let shares = shares(&record.spec, placement, &self.names);
        let number = record.attempts.len() as u32 + 1;
        let mut attempt = Attempt {
            number,
            placed: at,
            started: None,
            ended: None,
            placement: Arc::clone(placement),
            shares,
            limit_at: None,
            speed: None,
            paused_since: None,
            obey_by: None,
            warned: false,
            stop: None,
            stop_by: None,
            exit_code: None,
            outcome: None,
            failures: Vec::new(),
            energy_mj: 0,
            energy_source: EnergySource::Model,
            steps: BTreeMap::new(),
            next_step: 1,
            kill: false,
        };
        let step = first_step(&record.spec, &attempt, &self.nodes);
        attempt.steps.insert(0, step);
        record.attempts.push(attempt);
        self.timers.set(at.saturating_add(self.settings.prepare_timeout), Timer::Prepared(job.0, number));
        self.list_tasks(job.0, 0);
        self.touched.insert(job.0);
    }

    pub(super) fn note_started(&mut self, at: Timestamp, job: JobId) {
        let Some(record) = self.records.get_mut(&job.0) else { return };
        let (limit, longest) = (record.spec.duration, record.spec.pause);
        let Some(attempt) = record.live_mut() else { return };
        attempt.started = Some(at);
        // Only now is there anything that a pause could hold up.
        attempt.paused_since = attempt.paused_since.map(|_| at);
        let pace = attempt.pace(longest);
        attempt.limit_at = limit.map(|limit| ends_at(at, at.saturating_add(limit), Pace::At(Ppm::ONE), pace));
        if let Some(step) = attempt.steps.get_mut(&0) {
            step.go = true;
        }
        self.arm_timers(job.0);
        self.moved.push(job.0);
    }

    /// What an agent said is not in the journal, but that a job has started is: then all its tasks ran. An agent that
    /// does not know one of them any more has lost it with its disk, and must not run it a second time.
    pub(super) fn recall_running(&mut self, job: u64) {
        let attempt = self.records.get_mut(&job).and_then(|record| record.live_mut());
        let Some(attempt) = attempt.filter(|attempt| attempt.started.is_some()) else { return };
        let Some(step) = attempt.steps.get_mut(&0) else { return };
        step.go = true;
        step.tasks.iter_mut().for_each(|task| task.seen = task.seen.max(Seen::Running));
    }

    pub(super) fn note_stopping(&mut self, job: JobId, reason: StopReason, by: Option<Timestamp>) {
        let Some(attempt) = self.records.get_mut(&job.0).and_then(|record| record.live_mut()) else { return };
        attempt.stop = Some(reason);
        attempt.stop_by = by;
        self.touch_nodes_of(job.0);
        self.touched.insert(job.0);
        self.kill_in_time(job.0);
    }

    pub(super) fn note_attempt_ended(&mut self, at: Timestamp, job: u64, number: u32, event: &Event) {
        let Event::AttemptEnded { exit_code, outcome, failures, energy_mj, energy_source, .. } = event else { return };
        self.unlist_tasks(job);
        if self.records.get(&job).and_then(|record| record.live()).is_none_or(|attempt| attempt.number != number) {
            return;
        }
        self.order_limits(job, false);
        let Some(attempt) = self.records.get_mut(&job).and_then(|record| record.live_mut()) else { return };
        attempt.ended = Some(at);
        attempt.exit_code = *exit_code;
        attempt.outcome = Some(outcome.clone());
        attempt.failures.clone_from(failures);
        attempt.energy_mj = *energy_mj;
        attempt.energy_source = *energy_source;
        // What its workers did is told by now; steps are kept for their numbers only.
        attempt.steps.values_mut().for_each(|step| step.tasks.shrink_to_fit());
    }

    pub(super) fn note_requeued(&mut self, at: Timestamp, job: JobId, saved_until: Option<Timestamp>, held: bool) {
        let Some(record) = self.records.get_mut(&job.0) else { return };
        let Some(attempt) = record.attempts.last() else { return };
        let amount = amount_milli(&record.spec, &attempt.placement);
        let from = saved_until.unwrap_or(attempt.placed).max(attempt.placed);
        record.lost += i128::from(amount) * i128::from((at - from).as_millis().max(0));
        if !record.is_replica() {
            record.held.by_failed_starts = held && !record.held.by_user;
        } else if held && !record.held.by_user {
            self.pause_replica(at, job.0);
        }
    }

    /// The job starts again on its own nodes and its spares.
    pub(super) fn note_swapped(&mut self, at: Timestamp, job: JobId, saved_until: Option<Timestamp>) {
        let Some(Phase::Running { placement, .. }) = self.work(job.0).map(|work| &work.phase) else { return };
        let placement = Arc::clone(placement);
        self.note_requeued(at, job, saved_until, false);
        self.note_placed(at, job, &placement);
        // Its other nodes go on as they were, and those that it has now have to follow.
        if !placement.throttle.is_none() {
            self.note_throttled(at, job, placement.throttle);
        }
    }

    pub(super) fn note_end(&mut self, at: Timestamp, job: JobId, state: JobState, reason: Option<String>) {
        let Some(record) = self.records.get(&job.0).filter(|record| record.end.is_none()) else { return };
        let in_vain = state == JobState::Cancelled && self.waits_in_vain(record);
        let vain = in_vain.then(|| "a job that it waited for did not end as it had to".to_owned());
        let Some(record) = self.records.get_mut(&job.0) else { return };
        if state == JobState::Failed
            && let Some(attempt) = record.attempts.last()
        {
            let amount = amount_milli(&record.spec, &attempt.placement);
            record.lost += i128::from(amount) * i128::from((at - attempt.placed).as_millis());
        }
        record.end = Some(End { state, at, reason: reason.or(vain) });
        let task = record.program().and_then(|program| program.array);
        let service = record.spec.service;
        self.leave_array(job.0, task);
        self.leave_service(at, job.0, service);
        self.outcomes.insert(job.0, state);
        if self.outcomes.len() > OUTCOMES_KEPT {
            self.outcomes.pop_first();
        }
        self.ended.push_back(job.0);
        if self.ended.len() > ENDED_KEPT
            && let Some(oldest) = self.ended.pop_front()
        {
            self.records.remove(&oldest);
        }
        self.moved.push(job.0);
        self.batch.ended.push(job.0);
    }

    // What follows from reports.

    /// Looks at all attempts whose tasks have changed.
    pub(super) fn advance_touched(&mut self) {
        while let Some(job) = self.touched.pop_first() {
            self.advance_job(job);
        }
    }

    fn advance_job(&mut self, job: u64) {
        self.advance_steps(job);
        let Some(first) = attempt_of(self.records.get(&job)).and_then(|attempt| attempt.steps.get(&0)) else { return };
        if first.all(Seen::Ended) {
            return self.first_step_is_over(job);
        }
        let Some(attempt) = attempt_of(self.records.get(&job)) else { return };
        if attempt.stop.is_some() {
            return;
        }
        if let Some(reason) = self.must_stop(job) {
            return self.stop(job, reason);
        }
        let Some(attempt) = self.records.get_mut(&job).and_then(|record| record.live_mut()) else { return };
        let started = attempt.started.is_some();
        let Some(first) = attempt.steps.get_mut(&0) else { return };
        if !first.go && first.is_ready() {
            first.go = true;
            self.touch_nodes_of(job);
        } else if !started && first.tasks.iter().all(|task| task.seen == Seen::Running || ran(task.end.as_ref())) {
            self.emit_engine(EngineEvent::JobStarted { job: JobId(job) });
        }
    }

    /// Why an attempt that is not being ended has to be; none when it may go on.
    fn must_stop(&self, job: u64) -> Option<StopReason> {
        let attempt = self.records.get(&job)?.live()?;
        let first = attempt.steps.get(&0)?;
        let ends = || first.tasks.iter().filter_map(|task| task.end.as_ref());
        if ends().any(|end| end.refused.is_some()) {
            return Some(StopReason::NotStarted);
        }
        // A script runs on the first node alone, and all of its nodes are the gang's.
        if attempt.shares.iter().any(|share| self.is_lost(&share.node)) {
            return Some(StopReason::NodeLost);
        }
        let failed = |end: &TaskEnd| end.workers.iter().any(|worker| worker.exit != Exit::Status(0));
        ends().any(failed).then_some(StopReason::WorkerFailed)
    }

    /// Ends a running job's workers, with the reason of whoever asked first; another reason may follow, but none undoes
    /// a cancellation.
    pub(super) fn stop(&mut self, job: u64, reason: StopReason) {
        let Some(attempt) = self.records.get(&job).and_then(|record| record.live()) else { return };
        let outweighs = |known: StopReason| known != reason && reason == StopReason::Cancelled;
        if attempt.stop.is_none_or(outweighs) {
            self.emit_engine(EngineEvent::JobStopping { job: JobId(job), reason, by: None });
        }
    }

    /// What was submitted has ended: what it started inside its nodes is ended too, and then the attempt.
    fn first_step_is_over(&mut self, job: u64) {
        let Some(attempt) = self.records.get_mut(&job).and_then(|record| record.live_mut()) else { return };
        if !attempt.is_quiet() {
            let unstopped = attempt.steps.values_mut().filter(|step| !step.stop && !step.all(Seen::Ended));
            let mut any = false;
            unstopped.for_each(|step| {
                step.stop = true;
                any = true;
            });
            if any {
                self.touch_nodes_of(job);
            }
            return;
        }
        // Nobody saw it run before it was over.
        let ran = attempt.steps.get(&0).is_some_and(|step| step.tasks.iter().all(|task| ran(task.end.as_ref())));
        if ran && attempt.started.is_none() && attempt.stop.is_none() {
            self.emit_engine(EngineEvent::JobStarted { job: JobId(job) });
        }
        self.end_attempt(job);
    }

    fn end_attempt(&mut self, job: u64) {
        let Some(record) = self.records.get(&job) else { return };
        let Some(attempt) = record.live() else { return };
        let number = attempt.number;
        let Some(first) = attempt.steps.get(&0) else { return };
        let verdict = Verdict::of(record, attempt, first, |node| self.is_lost(node));
        let (energy_mj, energy_source) = self.energy_of(record, attempt);
        let fate = verdict.fate(record, attempt);
        let saved_until = saved_until(record, attempt, &verdict, self.state.now());
        let goes_on = verdict.lost && fate == Fate::Requeued { held: false };
        let faults = if self.state.policy().health.is_some() { self.faults_of(attempt, first) } else { Vec::new() };
        for (node, fault) in faults {
            self.emit_engine(EngineEvent::FaultSeen { node, job: Some(JobId(job)), fault });
        }
        let swaps = self.state.repair(JobId(job)).filter(|_| goes_on);
        self.emit(Event::AttemptEnded {
            job,
            attempt: number,
            exit_code: verdict.exit_code,
            outcome: verdict.outcome,
            failures: verdict.failures,
            energy_mj,
            energy_source,
        });
        let job = JobId(job);
        if let Some(swaps) = swaps {
            self.emit_engine(EngineEvent::NodesSwapped { job, swaps, saved_until });
            return;
        }
        match fate {
            Fate::Finished => self.emit_engine(EngineEvent::JobFinished { job }),
            Fate::Failed => self.emit_engine(EngineEvent::JobFailed { job }),
            Fate::Cancelled => self.emit_engine(EngineEvent::JobCancelled { job }),
            Fate::Requeued { held } => self.emit_engine(EngineEvent::JobRequeued { job, saved_until, held }),
            Fate::Retired { service } => self.emit_engine(EngineEvent::ReplicaRetired { service, replica: job }),
        }
    }
}

impl Core {
    /// What failed under an attempt that has ended: its lost nodes, or else the worker that failed first, by the clocks
    /// of the nodes, unless it was told to end.
    fn faults_of(&self, attempt: &Attempt, first: &Step) -> Vec<(NodeIx, Fault)> {
        let at = |node: &str| self.node_ix(node);
        let lost = attempt.shares.iter().filter(|share| self.is_lost(&share.node));
        let lost: Vec<(NodeIx, Fault)> = lost.filter_map(|share| Some((at(&share.node)?, Fault::NodeLost))).collect();
        if !lost.is_empty() || !is_own_failure(attempt) {
            return lost;
        }
        let failed = |task: &&Task| {
            let ends = task.end.iter().flat_map(|end| &end.workers);
            let failed = ends.filter(|worker| !matches!(worker.exit, Exit::Status(0) | Exit::Unknown(_)));
            failed.map(|worker| worker.ended_ms).min()
        };
        let earliest = first.tasks.iter().filter_map(|task| Some((failed(&task)?, at(&task.node)?))).min();
        earliest.map(|(_, node)| (node, Fault::WorkerFailed)).into_iter().collect()
    }
}

/// What becomes of a job when an attempt has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    Finished,
    Failed,
    Cancelled,
    Requeued { held: bool },
    Retired { service: ServiceId },
}

/// How an attempt ended.
struct Verdict {
    exit_code: Option<i32>,
    outcome: String,
    failures: Vec<WorkerFailure>,
    /// It never ran, by fault of a node; or of the job itself.
    not_started: Option<NotStarted>,
    /// A node was lost with a part of it.
    lost: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum NotStarted {
    ByNode,
    ByJob,
}

impl Verdict {
    fn of(record: &Record, attempt: &Attempt, first: &Step, is_lost: impl Fn(&str) -> bool) -> Self {
        let mut failures = Vec::new();
        let mut exit_code = Some(0);
        let (mut not_started, mut refusal, mut lost) = (None, None, false);
        for task in &first.tasks {
            let Some(end) = &task.end else { continue };
            if let Some(refused) = &end.refused {
                let by = if refused.node_fault { NotStarted::ByNode } else { NotStarted::ByJob };
                if not_started != Some(NotStarted::ByJob) {
                    not_started = Some(by);
                    refusal = Some(format!("{}: {}", task.node, refused.reason));
                }
            }
            lost |= is_lost(&task.node);
            for worker in &end.workers {
                // Nobody knows how it ended: that is no work of its own.
                lost |= matches!(worker.exit, Exit::Unknown(_));
                let code = status_of(&worker.exit);
                exit_code = match (exit_code, code) {
                    (Some(highest), Some(code)) => Some(highest.max(code)),
                    (_, None) | (None, _) => None,
                };
                if worker.exit != Exit::Status(0) && failures.len() < MOST_FAILURES {
                    let node = task.node.to_string();
                    failures.push(WorkerFailure { rank: worker.rank, node, exit: worker.exit.clone() });
                }
            }
        }
        // A script that fails because a step of it went with a node.
        lost |= !failures.is_empty() && attempt.shares.iter().any(|share| is_lost(&share.node));
        if not_started.is_some() || first.tasks.iter().any(|task| has_no_workers(task.end.as_ref())) {
            exit_code = None;
        }
        let stop_words = attempt.stop.map(|reason| match reason {
            StopReason::Cancelled => "cancelled",
            StopReason::Held => "put on hold",
            StopReason::Requeued => "requeued",
            StopReason::TimeLimit => "reached its time limit",
            StopReason::WorkerFailed => "a worker failed",
            StopReason::NodeLost => "a node was lost",
            StopReason::NotStarted => "did not start in time",
            StopReason::Preempted { .. } => "made room for a stronger job",
            StopReason::Reclaimed { .. } => "gave back quota that its tenant had borrowed",
            StopReason::ReservationEnded => "its reservation ended",
            StopReason::Curtailed => "gave its power back for a lowered cap",
            StopReason::Moved => "moved elsewhere",
            StopReason::Retired => "no longer wanted",
            StopReason::Drained => "left a drained node",
            StopReason::Resized { .. } => "goes on with another number of workers",
        });
        let first_failure = failures.first().map(|failure| describe_failure(failure, record.spec.gangs.len()));
        let outcome = match (refusal, stop_words, first_failure) {
            (Some(refusal), ..) => format!("not started on {refusal}"),
            (None, Some("a worker failed"), Some(failure)) | (None, None, Some(failure)) => failure,
            (None, Some(words), _) => words.to_owned(),
            (None, None, None) => "ended well".to_owned(),
        };
        Self { exit_code, outcome, failures, not_started, lost }
    }

    fn fate(&self, record: &Record, attempt: &Attempt) -> Fate {
        let program = record.program();
        let requeue = program.is_some_and(|program| program.requeue);
        if let Some(service) = record.spec.service {
            return self.fate_of_replica(record, attempt, ServiceId(service));
        }
        match attempt.stop {
            Some(StopReason::Cancelled) => return Fate::Cancelled,
            Some(StopReason::Curtailed) if !requeue => return Fate::Failed,
            // Whoever put it on hold may have released it since.
            Some(reason) if reason.saves_first() => return Fate::Requeued { held: record.held.by_user },
            Some(StopReason::TimeLimit) => return Fate::Failed,
            _ => {}
        }
        if record.held.by_user {
            return Fate::Requeued { held: true };
        }
        if self.lost || attempt.stop == Some(StopReason::NodeLost) {
            return if requeue { Fate::Requeued { held: false } } else { Fate::Failed };
        }
        match (attempt.stop, self.not_started) {
            (None | Some(StopReason::NotStarted), Some(NotStarted::ByJob)) => return Fate::Failed,
            (None, Some(NotStarted::ByNode)) | (Some(StopReason::NotStarted), _) => return again_or_hold(record),
            _ => {}
        }
        if self.failures.is_empty() && attempt.stop.is_none() {
            return Fate::Finished;
        }
        let allowed = program.map_or(0, |program| program.restarts) as usize;
        let failed_before = record.attempts.iter().filter(|past| past.exit_code.is_none_or(|code| code != 0));
        let failed_before = failed_before.filter(|past| past.ended.is_some() && is_own_failure(past)).count();
        if failed_before < allowed { Fate::Requeued { held: false } } else { Fate::Failed }
    }
}

impl Verdict {
    /// A replica starts again whatever happens, until its service wants it no more: at once where it did not end by
    /// itself, and otherwise after a pause.
    fn fate_of_replica(&self, record: &Record, attempt: &Attempt, service: ServiceId) -> Fate {
        match attempt.stop {
            Some(StopReason::Retired) => return Fate::Retired { service },
            Some(StopReason::Cancelled) => return Fate::Cancelled,
            _ if record.held.by_user => return Fate::Requeued { held: true },
            Some(reason) if reason.saves_first() => return Fate::Requeued { held: false },
            _ => {}
        }
        if self.lost || attempt.stop == Some(StopReason::NodeLost) {
            return Fate::Requeued { held: false };
        }
        if record.attempts.len() >= MOST_ATTEMPTS { Fate::Retired { service } } else { Fate::Requeued { held: true } }
    }
}

/// Whether an attempt ended by what it ran.
pub(super) fn is_own_failure(attempt: &Attempt) -> bool {
    attempt.stop.is_none_or(|reason| reason == StopReason::WorkerFailed)
}

fn again_or_hold(record: &Record) -> Fate {
    let in_a_row = record.attempts.iter().rev().take_while(|attempt| attempt.started.is_none()).count();
    Fate::Requeued { held: in_a_row >= MOST_FAILED_STARTS }
}

fn describe_failure(failure: &WorkerFailure, gangs: usize) -> String {
    let who = if gangs == 0 { "it".to_owned() } else { format!("worker {} on {}", failure.rank, failure.node) };
    match &failure.exit {
        Exit::Status(code) => format!("{who} ended with status {code}"),
        Exit::Signal(signal) => format!("{who} was ended by signal {signal}"),
        Exit::NotStarted(reason) => format!("{who} could not be started: {reason}"),
        Exit::Unknown(reason) => format!("{who} is lost: {reason}"),
    }
}

/// A status as a shell tells it; none where nobody knows.
pub(super) fn status_of(exit: &Exit) -> Option<i32> {
    match exit {
        Exit::Status(code) => Some(*code),
        Exit::Signal(signal) => Some(128 + signal),
        Exit::NotStarted(_) => Some(127),
        Exit::Unknown(_) => None,
    }
}

/// Whether a task was ended before its workers were started.
fn has_no_workers(end: Option<&TaskEnd>) -> bool {
    end.is_none_or(|end| end.workers.is_empty())
}

/// Whether it is known that all workers of a task ran.
pub(super) fn ran(end: Option<&TaskEnd>) -> bool {
    let ran = |exit: &Exit| matches!(exit, Exit::Status(_) | Exit::Signal(_));
    end.is_some_and(|end| {
        end.refused.is_none() && !end.workers.is_empty() && end.workers.iter().all(|one| ran(&one.exit))
    })
}

/// Up to when the work of an attempt is saved: its end, where it was asked to save and ended in time; otherwise the last
/// checkpoint that it must have made, by the interval that it states.
fn saved_until(record: &Record, attempt: &Attempt, verdict: &Verdict, now: Timestamp) -> Option<Timestamp> {
    let program = record.program()?;
    // What a replica has served is served.
    if record.is_replica() {
        return Some(now);
    }
    let asked = attempt.stop.is_some_and(StopReason::saves_first);
    let in_time = verdict.failures.iter().all(|failure| !matches!(failure.exit, Exit::Signal(9) | Exit::Unknown(_)));
    if asked && program.stop.checkpoint_signal.is_some() && in_time {
        return Some(now);
    }
    let interval = record.spec.checkpoint?.interval.as_millis().max(1);
    let started = attempt.started?;
    // While it stood still it saved nothing.
    let now = attempt.paused_since.unwrap_or(now);
    let whole = (now - started).as_millis() / interval * interval;
    Some(started + Duration::from_millis(whole))
}

/// What a job takes where it is placed, in thousandths: of chips, or of cores where it has no chips.
pub(super) fn amount_milli(spec: &Job, placement: &Placement) -> u64 {
    match placement.chip_milli(spec) {
        0 => core_milli(spec, placement),
        chips => chips,
    }
}

/// The cores of a job where it is placed, in thousandths.
pub(super) fn core_milli(spec: &Job, placement: &Placement) -> u64 {
    let of = |(place, gang): (usize, &Gang)| u64::from(placement.workers(place)) * u64::from(gang.cpu.get());
    spec.gangs.iter().enumerate().map(of).sum()
}

fn attempt_of(record: Option<&Record>) -> Option<&Attempt> {
    record.and_then(Record::live)
}

/// A placement node by node: workers get their ranks in the order of the nodes, which is that of the topology.
fn shares(spec: &Job, placement: &Placement, names: &[Arc<str>]) -> Arc<[Share]> {
    let mut by_node: BTreeMap<NodeIx, Vec<u64>> = BTreeMap::new();
    for (place, gang) in spec.gangs.iter().enumerate() {
        for slot in placement.working(place) {
            let each = split(slot.chips, slot.workers, gang.chips);
            for node in slot.nodes.numbers() {
                by_node.entry(NodeIx(node)).or_default().extend_from_slice(&each);
            }
        }
    }
    let mut rank = 0;
    let shares = by_node.into_iter().map(|(node, workers)| {
        let first_rank = rank;
        rank += workers.len() as u32;
        Share { node: Arc::clone(&names[node.ix()]), workers, first_rank }
    });
    shares.collect()
}

/// The chips of a slot's node, worker by worker, the lowest first.
fn split(chips: u64, workers: u32, request: ChipRequest) -> Vec<u64> {
    let ChipRequest::Whole(each) = request else { return vec![chips; workers as usize] };
    let mut left = chips;
    let mut take = |count: u16| {
        let mut taken = 0;
        for _ in 0..count {
            let lowest = left & left.wrapping_neg();
            taken |= lowest;
            left ^= lowest;
        }
        taken
    };
    (0..workers).map(|_| take(each)).collect()
}

/// What was submitted: a script runs once on the first node, a command in every worker.
pub(super) fn first_step(spec: &Job, attempt: &Attempt, nodes: &BTreeMap<Arc<str>, super::NodeRecord>) -> Step {
    let is_script = spec.program.as_ref().is_some_and(|program| matches!(program.start, Start::Script { .. }));
    let parts: Vec<Part> = if is_script {
        let first = attempt.shares.first();
        let script = |share: &Share| (Arc::clone(&share.node), vec![worker(0, 0, share.chips())]);
        first.map(script).into_iter().collect()
    } else {
        let of_share = |share: &Share| {
            let workers = share.workers.iter().enumerate();
            let workers = workers.map(|(local, chips)| worker(share.first_rank + local as u32, local as u32, *chips));
            (Arc::clone(&share.node), workers.collect())
        };
        attempt.shares.iter().map(of_share).collect()
    };
    // A script is told of all nodes of its job, though it runs on the first alone.
    let told: Vec<(Arc<str>, u32)> =
        attempt.shares.iter().map(|share| (Arc::clone(&share.node), share.workers.len() as u32)).collect();
    step_of(None, parts, &told, nodes)
}

pub(super) const fn worker(rank: u32, local_rank: u32, chips: u64) -> WorkerSpec {
    WorkerSpec { rank, local_rank, chips }
}

/// A step with its tasks.
pub(super) fn step_of(
    request: Option<Arc<offtake_protocol::rest::StepRequest>>,
    parts: Vec<Part>,
    told: &[(Arc<str>, u32)],
    nodes: &BTreeMap<Arc<str>, super::NodeRecord>,
) -> Step {
    let shares = told.iter().map(|(node, workers)| NodeShare {
        name: node.to_string(),
        address: nodes.get(node).map_or_else(|| node.to_string(), super::NodeRecord::address),
        workers: *workers,
    });
    let world = parts.iter().map(|(_, workers)| workers.len() as u32).sum();
    let go = parts.len() == 1;
    let tasks = parts.into_iter().enumerate().map(|(node_rank, (node, workers))| Task {
        node,
        node_rank: node_rank as u32,
        workers,
        seen: Seen::Unknown,
        end: None,
        signal: None,
        paused: false,
    });
    Step { request, world, nodes: shares.collect(), tasks: tasks.collect(), ended: None, go, stop: false }
}
