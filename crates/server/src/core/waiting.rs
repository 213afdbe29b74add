//! What keeps a job from its turn: a hold, other jobs, an instant, its array's limit. The engine knows only whether it is
//! held; why is kept here.

use std::collections::BTreeSet;

use offtake_engine::{Event as EngineEvent, JobId, Phase};
use offtake_protocol::rest::{JobState, Problem};
use offtake_workload::{ArrayTask, Dependency, When};
use serde::{Deserialize, Serialize};

use super::access::problem;
use super::{Core, Record};
use crate::fact::Event;

/// An array of which only so many jobs may run at one time.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct ArrayRecord {
    at_once: u32,
    /// Jobs that may run, or do.
    admitted: BTreeSet<u64>,
    /// Jobs that wait for one of those to end.
    waiting: BTreeSet<u64>,
}

impl ArrayRecord {
    fn has_room(&self) -> bool {
        self.admitted.len() < self.at_once as usize
    }
}

/// Whether a dependency is fulfilled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Standing {
    Met,
    Unmet,
    Never,
}

impl Core {
    /// The dependencies that are not fulfilled yet; the job is told when those jobs come further.
    pub(super) fn unmet(&mut self, job: u64, after: &[Dependency]) -> Vec<Dependency> {
        let unmet: Vec<Dependency> =
            after.iter().copied().filter(|dependency| self.standing(dependency) != Standing::Met).collect();
        for dependency in &unmet {
            self.waiting.entry(dependency.job).or_default().push(job);
        }
        unmet
    }

    fn standing(&self, dependency: &Dependency) -> Standing {
        let record = self.records.get(&dependency.job);
        let end = record.map_or_else(
            || self.outcomes.get(&dependency.job).copied(),
            |record| record.end.as_ref().map(|end| end.state),
        );
        let Some(end) = end else {
            let started = record.is_some_and(|record| record.attempts.iter().any(|attempt| attempt.started.is_some()));
            let met = dependency.when == When::Started && started;
            return if met { Standing::Met } else { Standing::Unmet };
        };
        let met = match dependency.when {
            When::Started | When::Ended => true,
            When::Succeeded => end == JobState::Finished,
            When::Failed => end == JobState::Failed,
        };
        if met { Standing::Met } else { Standing::Never }
    }

    /// A job enters its array; true when it must wait for another of it to end.
    pub(super) fn joins_array(&mut self, job: u64, task: Option<ArrayTask>) -> bool {
        let Some(ArrayTask { array, at_once: Some(at_once), .. }) = task else { return false };
        let record = self.arrays.entry(array).or_default();
        record.at_once = at_once;
        if record.has_room() {
            record.admitted.insert(job);
            return false;
        }
        record.waiting.insert(job);
        true
    }

    /// Tells the engine that a job just submitted is held, if it is; where it then stands.
    pub(super) fn settle_at_submission(&mut self, job: u64) -> JobState {
        let Some(record) = self.records.get(&job) else { return JobState::Pending };
        if !record.held.is_held() {
            return JobState::Pending;
        }
        let never = self.waits_in_vain(record);
        self.emit_engine(EngineEvent::JobHeld { job: JobId(job) });
        if never {
            self.cancel_for_dependency(job);
            return JobState::Cancelled;
        }
        JobState::Held
    }

    /// A job has started or ended: who waits for that, waits no more, or waits in vain.
    fn tell_waiting(&mut self, job: u64) {
        let Some(waiting) = self.waiting.remove(&job) else { return };
        for waiter in waiting {
            let Some(record) = self.records.get(&waiter).filter(|record| record.end.is_none()) else { continue };
            let after = record.held.after.clone();
            if self.waits_in_vain(record) {
                self.cancel_for_dependency(waiter);
                continue;
            }
            if after.iter().any(|dependency| dependency.job == job && self.standing(dependency) == Standing::Unmet) {
                self.waiting.entry(job).or_default().push(waiter);
            }
            self.free_if_nothing_holds(waiter);
        }
    }

    /// A job of an array has ended: the next may run.
    pub(super) fn leave_array(&mut self, job: u64, task: Option<ArrayTask>) {
        let Some(array) = task.map(|task| task.array) else { return };
        let Some(record) = self.arrays.get_mut(&array) else { return };
        record.admitted.remove(&job);
        record.waiting.remove(&job);
        if record.admitted.is_empty() && record.waiting.is_empty() {
            self.arrays.remove(&array);
        }
    }

    /// Lets as many jobs of an array have their turn as may run at one time. One that waits for something else too is
    /// passed over: it asks again when that has come.
    fn admit_from_array(&mut self, task: Option<ArrayTask>) {
        let Some(array) = task.map(|task| task.array) else { return };
        let mut from = 0;
        while let Some(record) = self.arrays.get(&array).filter(|record| record.has_room()) {
            let Some(next) = record.waiting.range(from..).next().copied() else { return };
            from = next + 1;
            self.free_if_nothing_holds(next);
        }
    }

    fn array_is_full(&self, record: &Record) -> bool {
        let task = record.program().and_then(|program| program.array);
        task.and_then(|task| self.arrays.get(&task.array)).is_some_and(|array| !array.has_room())
    }

    fn admit_to_array(&mut self, job: u64) {
        let Some(record) = self.records.get_mut(&job) else { return };
        record.held.by_array = false;
        let Some(task) = record.program().and_then(|program| program.array) else { return };
        if let Some(array) = self.arrays.get_mut(&task.array) {
            array.waiting.remove(&job);
            array.admitted.insert(job);
        }
    }

    pub(super) fn begin_time_has_come(&mut self, job: u64) {
        let now = self.state.now();
        if self.records.get(&job).and_then(|record| record.held.begin).is_some_and(|begin| begin <= now) {
            self.free_if_nothing_holds(job);
        }
    }

    /// Lets a held job have its turn when nothing keeps it from that any more. What has passed is left out of account
    /// here, and dropped with the fact.
    pub(super) fn free_if_nothing_holds(&mut self, job: u64) {
        let Some(record) = self.records.get(&job) else { return };
        let now = self.state.now();
        let held = &record.held;
        let kept = held.by_user
            || held.by_failed_starts
            || held.killed_nodes.is_some()
            || (held.by_array && self.array_is_full(record))
            || held.begin.is_some_and(|begin| begin > now)
            || held.after.iter().any(|dependency| self.standing(dependency) != Standing::Met);
        let waits = self.work(job).is_some_and(|work| matches!(work.phase, Phase::Held(_)));
        if !kept && waits {
            self.emit_engine(EngineEvent::JobReleased { job: JobId(job) });
        }
    }

    pub(super) fn note_released(&mut self, job: JobId) {
        self.admit_to_array(job.0);
        if let Some(record) = self.records.get_mut(&job.0) {
            record.held = super::records::Held::default();
        }
    }

    /// The engine holds a job by its health policy, or somebody else does.
    pub(super) fn note_held(&mut self, job: JobId) {
        let killed = self.state.killed_nodes(job);
        if let Some(record) = self.records.get_mut(&job.0) {
            record.held.killed_nodes = killed.or(record.held.killed_nodes);
        }
    }

    pub(super) fn note_held_by_user(&mut self, job: u64, held: bool) {
        let Some(record) = self.records.get_mut(&job) else { return };
        record.held.by_user = held;
        if !held {
            record.held.by_failed_starts = false;
            record.held.killed_nodes = None;
        }
    }

    fn cancel_for_dependency(&mut self, job: u64) {
        self.emit_engine(EngineEvent::JobCancelled { job: JobId(job) });
    }

    /// Whether a job waits for another in vain.
    pub(super) fn waits_in_vain(&self, record: &Record) -> bool {
        record.held.after.iter().any(|dependency| self.standing(dependency) == Standing::Never)
    }

    /// Jobs that have started or ended move others: those that waited for them, and the next of their arrays.
    pub(super) fn move_others(&mut self) {
        while let Some(job) = self.moved.pop() {
            self.tell_waiting(job);
            let record = self.records.get(&job);
            let task = record.and_then(|record| record.program()?.array);
            self.admit_from_array(task);
        }
    }

    /// Someone puts a job on hold that waits.
    pub(super) fn hold_waiting(&mut self, job: u64) {
        self.emit(Event::HeldByUser { job, held: true });
        if self.work(job).is_some_and(|work| matches!(work.phase, Phase::Pending(_))) {
            self.emit_engine(EngineEvent::JobHeld { job: JobId(job) });
        }
    }

    /// Someone lifts a hold.
    ///
    /// # Errors
    /// When nobody put the job on hold.
    pub(super) fn release(&mut self, job: u64) -> Result<(), Problem> {
        let held = self.records.get(&job).map(|record| record.held.clone()).unwrap_or_default();
        if !held.by_user && !held.by_failed_starts && held.killed_nodes.is_none() {
            let detail = match self.records.get(&job).map(|record| self.why_held(record)) {
                Some(Some(why)) => format!("job {job} is not on hold by anyone: {why}"),
                _ => format!("job {job} is not on hold"),
            };
            return Err(problem(409, "not_held", detail));
        }
        self.emit(Event::HeldByUser { job, held: false });
        self.free_if_nothing_holds(job);
        Ok(())
    }
}

impl Core {
    /// What keeps a job from its turn now, in words; none when nothing does.
    pub(super) fn why_held(&self, record: &Record) -> Option<String> {
        let held = &record.held;
        if held.by_user {
            return Some("on hold".to_owned());
        }
        if held.by_failed_starts {
            return Some("on hold: its start failed too often".to_owned());
        }
        if let Some(failures) = held.killed_nodes {
            return Some(format!("on hold by the health policy: {failures} of its nodes failed one after the other"));
        }
        let unmet: Vec<&Dependency> =
            held.after.iter().filter(|dependency| self.standing(dependency) != Standing::Met).collect();
        if let Some(first) = unmet.first() {
            let jobs: Vec<String> = unmet.iter().map(|dependency| dependency.job.to_string()).collect();
            let how = match first.when {
                When::Started => "start",
                When::Ended => "end",
                When::Succeeded => "succeed",
                When::Failed => "fail",
            };
            return Some(format!("waits for job {} to {how}", jobs.join(", ")));
        }
        if held.begin.is_some_and(|begin| begin > self.state.now()) {
            let outcome = record.current().and_then(|attempt| attempt.outcome.as_ref()).filter(|_| record.is_replica());
            return Some(outcome.map_or_else(
                || "waits until it may begin".to_owned(),
                |outcome| format!("starts again after a pause: {outcome}"),
            ));
        }
        held.by_array.then(|| "as many of its array run as may".to_owned())
    }
}
