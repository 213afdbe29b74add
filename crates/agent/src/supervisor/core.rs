//! What a supervisor decides. It does no I/O: the shell feeds it what happened, at an instant of
//! [`super::boot_now_ms`], and does what it says.
//!
//! It starts the worker at most once, and never after it was told to end it. Once the worker is to die, it says so again
//! and again until nothing of it is left. It records the end exactly once, last of all.

use offtake_protocol::agent::Exit;
use serde::{Deserialize, Serialize};

use super::launch::StopPlan;
use super::wire::Whom;

/// Time after which what is left of a tree is killed again, in milliseconds: processes may have forked meanwhile. It
/// doubles up to [`KILL_AGAIN_LIMIT_MS`], for processes that hang in a device.
const KILL_AGAIN_MS: u64 = 50;
const KILL_AGAIN_LIMIT_MS: u64 = 1_600;
const SIGTERM: i32 = 15;
const SIGKILL: i32 = 9;

/// Something that happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Input {
    /// The worker may start.
    Go,
    /// The lease holds until this instant.
    Lease {
        /// When it ends.
        until_ms: u64,
    },
    /// A signal is to be sent.
    Signal {
        /// The signal.
        signal: i32,
        /// To which processes.
        to: Whom,
    },
    /// The worker's processes are to stand still.
    Pause,
    /// They are to go on.
    Resume,
    /// Whether they stand still, or could not be made to.
    Paused(bool),
    /// The worker is to end with grace.
    Stop(StopPlan),
    /// The worker is to end now.
    Kill,
    /// The worker was started.
    ChildStarted {
        /// Its process.
        pid: i32,
        /// When, in milliseconds since 1970.
        since_ms: i64,
    },
    /// The worker could not be started, or, before [`Input::Go`], never could be.
    StartFailed {
        /// In words for the user.
        reason: String,
        /// Whether it is the node's fault.
        node_fault: bool,
    },
    /// The process that was started has ended.
    ChildExited {
        /// How.
        exit: Exit,
        /// Whether something of the worker was killed because its memory was used up.
        out_of_memory: bool,
    },
    /// The process that was started has ended, and so have all that descended from it.
    TreeGone,
    /// Time has passed.
    Tick,
}

/// What the shell is to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Start the worker, and answer with [`Input::ChildStarted`] or [`Input::StartFailed`] before any other input.
    Spawn,
    /// Send a signal.
    Signal {
        /// The signal.
        signal: i32,
        /// To which processes.
        to: Whom,
    },
    /// Make the worker and all that descend from it stand still, or go on, and answer with [`Input::Paused`] before any
    /// other input.
    Pause(bool),
    /// Kill the worker and all that descend from it, whether they stand still or not.
    KillTree,
    /// Write down how it ended, and leave.
    Record(Outcome),
}

/// How a worker ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// How.
    pub exit: Exit,
    /// What brought the end about, where it was not the worker itself.
    pub cause: Option<Cause>,
    /// Of a worker that was not started: whether that is the node's fault.
    pub node_fault: bool,
}

/// What brought a worker's end about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Cause {
    /// It was told to stop, with grace.
    Stop,
    /// It was told to end at once.
    Kill,
    /// The lease ended: nobody renewed it in time.
    Lease,
    /// It used up its memory.
    Memory,
}

impl Cause {
    fn word(self) -> &'static str {
        match self {
            Self::Stop => "it was told to stop",
            Self::Kill => "it was told to end",
            Self::Lease => "its lease ended",
            Self::Memory => "its memory was used up",
        }
    }
}

/// Where a worker stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Nothing runs yet.
    Prepared,
    /// The shell is starting it.
    Starting,
    /// It runs.
    Running {
        /// Its process.
        pid: i32,
        /// Since when, in milliseconds since 1970.
        since_ms: i64,
    },
    /// It, or what it left, is being ended.
    Stopping,
    /// Nothing of it runs any more, or ever did.
    Ended,
}

/// The supervisor's state.
#[derive(Clone, Debug)]
pub struct Core {
    phase: Phase,
    lease_until_ms: u64,
    paused: bool,
    /// Signals that wait until it goes on, each once, as in the kernel: SIGTERM and SIGCONT would wake up who stands still.
    held: Vec<(i32, Whom)>,
    cause: Option<Cause>,
    exit: Option<Exit>,
    end: End,
}

/// How far the end has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    /// Nobody asked for it.
    Open,
    /// It was asked to end.
    Asked {
        /// When it gets SIGTERM; none when it has got it.
        term_at_ms: Option<u64>,
        /// When all is killed.
        kill_at_ms: u64,
    },
    /// It is being killed.
    Killing {
        /// When what is left is killed again.
        again_at_ms: u64,
        /// Time from then to the next time.
        pause_ms: u64,
    },
}

impl Core {
    /// A worker that is prepared, with its first lease.
    pub fn new(lease_until_ms: u64) -> Self {
        Self {
            phase: Phase::Prepared,
            lease_until_ms,
            paused: false,
            held: Vec::new(),
            cause: None,
            exit: None,
            end: End::Open,
        }
    }

    /// Where it stands.
    pub fn phase(&self) -> &Phase {
        &self.phase
    }

    /// Whether all of it stands still.
    pub const fn is_paused(&self) -> bool {
        self.paused
    }

    /// When it wants [`Input::Tick`] at the latest; none when it waits for nothing but other input.
    pub fn deadline(&self) -> Option<u64> {
        if self.phase == Phase::Ended {
            return None;
        }
        match self.end {
            End::Open => Some(self.lease_until_ms),
            End::Asked { term_at_ms, kill_at_ms } => {
                Some(term_at_ms.unwrap_or(kill_at_ms).min(kill_at_ms).min(self.lease_until_ms))
            }
            End::Killing { again_at_ms, .. } => Some(again_at_ms),
        }
    }

    /// Takes in what happened, and says what is to be done, in order.
    pub fn step(&mut self, now_ms: u64, input: Input) -> Vec<Action> {
        let mut actions = Vec::new();
        if self.phase == Phase::Ended {
            return actions;
        }
        match input {
            Input::Lease { until_ms } => self.lease_until_ms = self.lease_until_ms.max(until_ms),
            Input::Go => self.go(now_ms, &mut actions),
            Input::Signal { signal, to } => {
                let waits = self.paused && signal != SIGKILL;
                if waits && !self.held.contains(&(signal, to)) {
                    self.held.push((signal, to));
                } else if !waits && matches!(self.phase, Phase::Running { .. } | Phase::Stopping) {
                    actions.push(Action::Signal { signal, to });
                }
            }
            Input::Pause | Input::Resume => {
                let pause = input == Input::Pause;
                if matches!(self.phase, Phase::Running { .. }) && pause != self.paused {
                    actions.push(Action::Pause(pause));
                }
            }
            Input::Paused(paused) => {
                self.paused = paused;
                if !paused && matches!(self.phase, Phase::Running { .. }) {
                    actions.extend(self.held.drain(..).map(|(signal, to)| Action::Signal { signal, to }));
                }
            }
            // It would not hear that it is to stop, and was paused as there is no power for it to go on.
            Input::Stop(_) if self.paused => self.kill(now_ms, Cause::Stop, &mut actions),
            Input::Stop(plan) => self.stop(now_ms, plan, &mut actions),
            Input::Kill => self.kill(now_ms, Cause::Kill, &mut actions),
            Input::ChildStarted { pid, since_ms } => {
                if self.phase == Phase::Starting {
                    self.phase = Phase::Running { pid, since_ms };
                }
            }
            Input::StartFailed { reason, node_fault } => {
                if matches!(self.phase, Phase::Prepared | Phase::Starting) {
                    self.end_with(Exit::NotStarted(reason), node_fault, &mut actions);
                }
            }
            Input::ChildExited { exit, out_of_memory } => self.exited(now_ms, exit, out_of_memory, &mut actions),
            Input::TreeGone => {
                if matches!(self.phase, Phase::Running { .. } | Phase::Stopping) {
                    let lost = || Exit::Unknown("its end was not seen".to_owned());
                    let exit = self.exit.take().unwrap_or_else(lost);
                    self.end_with(exit, false, &mut actions);
                }
            }
            Input::Tick => {}
        }
        self.pass_time(now_ms, &mut actions);
        actions
    }

    fn go(&mut self, now_ms: u64, actions: &mut Vec<Action>) {
        // A lease that has ended is as good as a kill, even where the tick for it is still to come.
        if self.phase == Phase::Prepared && now_ms < self.lease_until_ms {
            self.phase = Phase::Starting;
            actions.push(Action::Spawn);
        }
    }

    fn stop(&mut self, now_ms: u64, plan: StopPlan, actions: &mut Vec<Action>) {
        if self.phase == Phase::Prepared {
            self.never_ran(Cause::Stop, actions);
            return;
        }
        let checkpoint_grace_ms = if plan.checkpoint.is_some() { plan.checkpoint_grace_ms } else { 0 };
        let term = now_ms.saturating_add(checkpoint_grace_ms);
        let kill = term.saturating_add(plan.grace_ms);
        match self.end {
            End::Open => {
                self.phase = Phase::Stopping;
                self.cause.get_or_insert(Cause::Stop);
                if let Some((signal, to)) = plan.checkpoint {
                    actions.push(Action::Signal { signal, to });
                }
                self.end = End::Asked { term_at_ms: Some(term), kill_at_ms: kill };
            }
            End::Asked { term_at_ms, kill_at_ms } => {
                self.end =
                    End::Asked { term_at_ms: term_at_ms.map(|old| old.min(term)), kill_at_ms: kill_at_ms.min(kill) };
            }
            End::Killing { .. } => {}
        }
    }

    fn exited(&mut self, now_ms: u64, exit: Exit, out_of_memory: bool, actions: &mut Vec<Action>) {
        if !matches!(self.phase, Phase::Running { .. } | Phase::Stopping) || self.exit.is_some() {
            return;
        }
        if out_of_memory {
            self.cause.get_or_insert(Cause::Memory);
        }
        // A worker that ended by itself has finished, and what it leaves behind is rubbish. One that died of a signal
        // while it was being stopped, such as a shell without a trap, may have left others that still save their work.
        let died = matches!(exit, Exit::Signal(_));
        self.exit = Some(exit);
        self.phase = Phase::Stopping;
        if !(died && matches!(self.end, End::Asked { .. })) {
            self.kill_tree(now_ms, actions);
        }
    }

    fn kill(&mut self, now_ms: u64, cause: Cause, actions: &mut Vec<Action>) {
        match self.phase {
            Phase::Prepared => self.never_ran(cause, actions),
            Phase::Ended => {}
            Phase::Starting | Phase::Running { .. } | Phase::Stopping => {
                if matches!(self.end, End::Killing { .. }) {
                    return;
                }
                if self.exit.is_none() {
                    self.cause = Some(cause);
                }
                self.phase = Phase::Stopping;
                self.kill_tree(now_ms, actions);
            }
        }
    }

    fn kill_tree(&mut self, now_ms: u64, actions: &mut Vec<Action>) {
        let pause_ms = match self.end {
            End::Killing { pause_ms, .. } => pause_ms,
            End::Open | End::Asked { .. } => KILL_AGAIN_MS,
        };
        self.end = End::Killing {
            again_at_ms: now_ms.saturating_add(pause_ms),
            pause_ms: (pause_ms * 2).min(KILL_AGAIN_LIMIT_MS),
        };
        actions.push(Action::KillTree);
    }

    /// What is due at this instant.
    fn pass_time(&mut self, now_ms: u64, actions: &mut Vec<Action>) {
        // While the shell starts the worker there is nothing yet that could be ended.
        if matches!(self.phase, Phase::Starting | Phase::Ended) {
            return;
        }
        if let End::Killing { again_at_ms, .. } = self.end {
            if now_ms >= again_at_ms {
                self.kill_tree(now_ms, actions);
            }
            return;
        }
        if now_ms >= self.lease_until_ms {
            self.kill(now_ms, Cause::Lease, actions);
            return;
        }
        let End::Asked { term_at_ms, kill_at_ms } = self.end else { return };
        if now_ms >= kill_at_ms {
            self.kill_tree(now_ms, actions);
        } else if term_at_ms.is_some_and(|at| now_ms >= at) {
            self.end = End::Asked { term_at_ms: None, kill_at_ms };
            actions.push(Action::Signal { signal: SIGTERM, to: Whom::Tree });
        }
    }

    fn never_ran(&mut self, cause: Cause, actions: &mut Vec<Action>) {
        self.cause = Some(cause);
        self.end_with(Exit::NotStarted(format!("{} before it was started", cause.word())), false, actions);
    }

    fn end_with(&mut self, exit: Exit, node_fault: bool, actions: &mut Vec<Action>) {
        self.phase = Phase::Ended;
        actions.push(Action::Record(Outcome { exit, cause: self.cause, node_fault }));
    }
}

#[cfg(test)]
mod tests;
