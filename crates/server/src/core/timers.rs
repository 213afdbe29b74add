//! What is to happen at an instant if nothing else does.

use std::collections::BTreeSet;

use offtake_engine::{JobId, StopReason};
use offtake_protocol::agent::NumberedSignal;
use offtake_units::{Duration, Timestamp};

use super::Core;
use super::records::{Attempt, Record, Seen};

/// Signals are numbered from the seconds since 2024.
const SIGNALS_SINCE: i64 = 1_704_067_200;

/// What is to happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Timer {
    /// A job may begin.
    Begin(u64),
    /// The curve of a service's demand says something new.
    Demand(u64),
    /// An attempt should have started by now.
    Prepared(u64, u32),
    /// An attempt gets its signal before the time limit.
    Warning(u64, u32),
    /// An attempt has reached its time limit.
    Limit(u64, u32),
    /// An attempt that gives its power back has to be gone.
    Kill(u64, u32),
    /// An attempt that was throttled has to draw less.
    Obey(u64, u32),
    /// Caps that follow the clock were looked at until then.
    Hours(Timestamp),
    /// What nodes' meters showed is booked.
    Book,
}

/// Who has to be gone at an instant is killed so long before: an order reaches its agent, and a process takes its time to
/// end.
const TO_BE_GONE: Duration = Duration::from_secs(3);

/// All timers. One that no longer matters is passed over when it is due.
#[derive(Debug, Default)]
pub(super) struct Timers(BTreeSet<(Timestamp, Timer)>);

impl Timers {
    pub(super) fn next(&self) -> Option<Timestamp> {
        self.0.first().map(|(at, _)| *at)
    }

    pub(super) fn set(&mut self, at: Timestamp, timer: Timer) {
        self.0.insert((at, timer));
    }

    fn due(&mut self, now: Timestamp) -> Option<Timer> {
        let (at, _) = self.0.first()?;
        if *at > now {
            return None;
        }
        self.0.pop_first().map(|(_, timer)| timer)
    }
}

impl Core {
    /// Sets the timers of a job anew, as after a restart.
    pub(super) fn arm_timers(&mut self, job: u64) {
        let Some(record) = self.records.get(&job) else { return };
        if let Some(begin) = record.held.begin {
            self.timers.set(begin, Timer::Begin(job));
        }
        if record.service.is_some() {
            self.timers.set(self.state.now(), Timer::Demand(job));
        }
        self.kill_in_time(job);
        let Some(record) = self.records.get(&job) else { return };
        let Some(attempt) = record.live() else { return };
        let number = attempt.number;
        if attempt.started.is_none() {
            // After a restart the time to prepare counts anew.
            let until = self.state.now().saturating_add(self.settings.prepare_timeout);
            self.timers.set(until, Timer::Prepared(job, number));
        }
        self.arm_limit(job);
    }

    /// An attempt ends at its limit of time, wherever that has moved to.
    pub(super) fn arm_limit(&mut self, job: u64) {
        let Some(record) = self.records.get(&job) else { return };
        let Some(attempt) = record.live() else { return };
        let Some((limit, at)) = record.spec.duration.zip(limit_of(record, attempt)) else { return };
        self.timers.set(at, Timer::Limit(job, attempt.number));
        if let Some(warning) = record.program().and_then(|program| program.warning)
            && warning.before < limit
        {
            self.timers.set(at - warning.before, Timer::Warning(job, attempt.number));
        }
    }

    /// An attempt that gives its power back has no longer for it than there is until its cap is lowered.
    pub(super) fn kill_in_time(&mut self, job: u64) {
        let Some(attempt) = self.records.get(&job).and_then(|record| record.live()) else { return };
        if let Some(by) = attempt.stop_by {
            self.timers.set(by - TO_BE_GONE, Timer::Kill(job, attempt.number));
        }
    }

    pub(super) fn run_timers(&mut self) {
        let now = self.state.now();
        while let Some(timer) = self.timers.due(now) {
            match timer {
                Timer::Hours(looked_until) => self.look_at_hours(looked_until),
                Timer::Book => self.book_metered(),
                Timer::Begin(job) => self.begin_time_has_come(job),
                Timer::Demand(service) => self.follow_curve(service),
                Timer::Prepared(job, attempt) => {
                    if self.is_live(job, attempt, |attempt| attempt.started.is_none()) {
                        self.stop(job, StopReason::NotStarted);
                    }
                }
                Timer::Limit(job, attempt) => {
                    if self.is_live(job, attempt, |attempt| attempt.limit_at.is_none_or(|at| at <= now)) {
                        self.stop(job, StopReason::TimeLimit);
                    }
                }
                Timer::Kill(job, attempt) => {
                    // Whoever asked for its power may not any more.
                    let asked = |by| self.state.has_to_end_by(JobId(job), by);
                    if self.is_live(job, attempt, |attempt| attempt.stop_by.is_some_and(asked)) {
                        self.kill(job);
                    }
                }
                Timer::Warning(job, attempt) => {
                    if self.is_live(job, attempt, |attempt| attempt.stop.is_none()) {
                        self.warn(job);
                    }
                }
                Timer::Obey(job, attempt) => {
                    if self.is_live(job, attempt, |attempt| attempt.obey_by.is_some_and(|by| by <= now)) {
                        self.should_have_obeyed(job);
                    }
                }
            }
        }
    }

    fn is_live(&self, job: u64, number: u32, and: impl Fn(&super::Attempt) -> bool) -> bool {
        let live = self.records.get(&job).and_then(|record| record.live());
        live.is_some_and(|attempt| attempt.number == number && and(attempt))
    }

    fn warn(&mut self, job: u64) {
        let Some(record) = self.records.get(&job) else { return };
        let Some(warning) = record.program().and_then(|program| program.warning) else { return };
        let limit = record.live().and_then(|attempt| attempt.limit_at);
        if limit.is_some_and(|at| at - warning.before > self.state.now()) {
            return;
        }
        // A limit that moves comes near more than once.
        let attempt = self.records.get_mut(&job).and_then(|record| record.live_mut());
        if attempt.is_none_or(|attempt| std::mem::replace(&mut attempt.warned, true)) {
            return;
        }
        self.signal(job, warning.signal, warning.script_only);
    }

    /// Sends a signal to the workers of a running job; to all steps, or to what was submitted alone.
    pub(super) fn signal(&mut self, job: u64, signal: i32, only_submitted: bool) {
        let Some(attempt) = self.records.get_mut(&job).and_then(|record| record.live_mut()) else { return };
        // Numbers grow over restarts of the server too, which forgets the last.
        let from = u32::try_from(self.state.now().as_millis() / 1000 - SIGNALS_SINCE).unwrap_or(0);
        let mut nodes = Vec::new();
        for (number, step) in &mut attempt.steps {
            if only_submitted && *number > 0 {
                continue;
            }
            for task in step.tasks.iter_mut().filter(|task| task.seen < Seen::Stopping) {
                let number = task.signal.map_or(from, |last| from.max(last.number + 1));
                task.signal = Some(NumberedSignal { number, signal });
                nodes.push(task.node.clone());
            }
        }
        nodes.into_iter().for_each(|node| self.touch_node(&node));
    }
}

/// When an attempt that has started reaches its limit of time.
pub(super) fn limit_of(record: &Record, attempt: &Attempt) -> Option<Timestamp> {
    // One that an older server has started knows only when that was.
    attempt.limit_at.or_else(|| Some(attempt.started?.saturating_add(record.spec.duration?)))
}
