//! What a node does of what the server wants: a state machine without I/O and without a clock.
//!
//! Orders, events of the tasks and the time go in; actions come out. It is driven by [`crate::run`] on a node, by the
//! deterministic simulation, and by a load generator with thousands of nodes in one process.
//!
//! What makes it safe to hear a message twice, late or not at all:
//!
//! - Orders that are older than the newest ones seen are ignored, but for the lease that they grant.
//! - What is wanted of a task only ever rises: prepare, run, stop, kill.
//! - A task is known by its identity, which is never reused; it is run once.
//! - A task that has ended is reported until orders leave it out that answer a report of that end. Then it is
//!   forgotten.
//!
//! *The lease.* Orders hold for a time from the moment that the agent sent the report that they answer. After two
//! thirds of it without news the agent stops its work in good order, and after five sixths it kills what is left. The
//! supervisors are told that last instant too, and keep to it when the agent is gone. The last sixth is for the kernel
//! to end the processes, and for clocks that differ: the server starts the work elsewhere only after all of it.

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::sync::Arc;

use offtake_protocol::agent::{
    ChipLimits, Edition, Exit, Limited, LogRequest, NumberedSignal, Order, Orders, Report, TaskEnd, TaskId, TaskPhase,
    TaskRefusal, TaskReport, TaskSpec, Want,
};
use offtake_units::Duration;
use offtake_workload::Stop;

/// What an agent has to know and to do, as a state machine.
#[derive(Debug)]
pub struct Core {
    session: u64,
    seen: Edition,
    lease: Option<Lease>,
    /// What the supervisors were last told of the lease.
    told_until_ms: u64,
    tasks: BTreeMap<TaskId, Task>,
    /// How its chips are limited, where they can be.
    limits: Option<Limits>,
    /// Tasks that have not ended.
    alive: usize,
    logs: BTreeMap<u64, LogRequest>,
    report_version: u64,
    /// Counts the orders that were carried out, to tell which tasks the last of them listed.
    round: u64,
    leaving: bool,
}

/// What the core is told.
#[derive(Clone, Debug)]
pub enum Input {
    /// A task of an earlier run of the agent was found on the node. To be said of all before anything else.
    Adopted {
        /// The task.
        task: TaskId,
        /// What it is.
        spec: Arc<TaskSpec>,
        /// Where it stands.
        stand: Stand,
        /// The number of the last signal sent to it.
        signalled: u32,
    },
    /// The node's chips can be limited. To be said before any orders.
    CanLimit {
        /// The limits that an earlier run of the agent has left in force.
        set: ChipLimits,
        /// Those that are to be in force once the server has not been heard of for as long as its orders hold; none
        /// where the last ones go on.
        fallback: Option<ChipLimits>,
    },
    /// What became of limits that were to be set.
    Limited(Limited),
    /// Time to see to it that limits are still in force.
    KeepLimits,
    /// The server has answered a report.
    Orders {
        /// The answer.
        orders: Orders,
        /// When the report that it answers was sent.
        asked_at_ms: u64,
    },
    /// All is ready, and nothing runs.
    Prepared(TaskId),
    /// Its workers run.
    Running {
        /// The task.
        task: TaskId,
        /// Since when, by the node's clock, in milliseconds since 1970.
        since_ms: i64,
    },
    /// All of its workers stand still, or they do not any more.
    Paused {
        /// The task.
        task: TaskId,
        /// Whether they do.
        paused: bool,
    },
    /// A worker has ended otherwise than with status 0.
    WorkerFailed(TaskId),
    /// Nothing of it runs any more, or ever did.
    Ended(TaskId, TaskEnd),
    /// Time has passed.
    Tick,
    /// The agent is to end its run in good order: all its work ends first.
    Leave,
}

/// Where a task stands that is found at the start of the agent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Stand {
    /// All is ready, and nothing runs.
    Prepared,
    /// Its workers run, or those that watch them have not told yet how they ended.
    Running {
        /// Since when, by the node's clock, in milliseconds since 1970.
        since_ms: i64,
    },
    /// Nothing of it runs any more.
    Ended(TaskEnd),
}

/// What is to be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Make everything ready. Answered by [`Input::Prepared`] or [`Input::Ended`].
    Prepare(TaskId, Arc<TaskSpec>),
    /// Run what was prepared. Answered by [`Input::Running`], [`Input::WorkerFailed`], [`Input::Ended`].
    Run(TaskId),
    /// Send a signal to its workers.
    Signal(TaskId, NumberedSignal),
    /// Its workers stand still, or go on. Answered by [`Input::Paused`] once they do.
    Pause(TaskId, bool),
    /// End it in good order, by this ladder. Answered by [`Input::Ended`].
    Stop(TaskId, Stop),
    /// End it now, also while it is being prepared. Answered by [`Input::Ended`].
    Kill(TaskId),
    /// It has ended and the server knows: nothing of it is needed any more but its logs.
    Forget(TaskId),
    /// Supervisors let their workers live until this instant of the clock whose time is handed in; also those that are
    /// started later.
    ExtendLease(u64),
    /// Chips may draw no more than that; those that are not named what they could before. Answered by
    /// [`Input::Limited`].
    Limit(ChipLimits),
    /// Somebody wants to read output.
    StartLog(LogRequest),
    /// Nobody wants to read it any more.
    StopLog(u64),
    /// There is something to report at once.
    Report,
    /// Orders were ignored.
    Ignored(Edition, Ignored),
}

/// Why orders were ignored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ignored {
    /// They are of an earlier run of the server than others before.
    StaleServer,
    /// Their lease was over, or nearly, when they came.
    TooLate,
}

#[derive(Debug)]
struct Task {
    spec: Arc<TaskSpec>,
    want: Want,
    phase: Phase,
    /// The newest signal ordered, where it has not been sent yet.
    signal: Option<NumberedSignal>,
    /// The number of the last signal sent.
    signalled: u32,
    /// Whether its workers are to stand still; none where no orders have said so yet.
    pause: Option<bool>,
    /// The same as it was last told, until it has answered.
    pausing: Option<bool>,
    /// Whether they do; none where an earlier run has left them, maybe some still and some not, and nobody has said.
    paused: Option<bool>,
    /// How far its end was ordered of those below.
    ending: Ending,
    /// Why this agent ends it, where the server does not.
    ended_here: Option<&'static str>,
    /// The first report that told of its end.
    end_reported: Option<u64>,
    /// The last orders that listed it.
    round: u64,
}

/// How the chips are limited.
#[derive(Debug)]
struct Limits {
    now: Limited,
    wanted: ChipLimits,
    /// What is being set, or was set last.
    tried: ChipLimits,
    /// Whether that has not been answered yet.
    is_setting: bool,
    fallback: Option<ChipLimits>,
}

impl Limits {
    /// Sets what is wanted, unless that is done already, or has failed.
    fn advance(&mut self, actions: &mut Vec<Action>) {
        if !self.is_setting && self.tried != self.wanted {
            self.is_setting = true;
            self.tried.clone_from(&self.wanted);
            actions.push(Action::Limit(self.wanted.clone()));
        }
    }

    fn want(&mut self, wanted: ChipLimits, actions: &mut Vec<Action>) {
        self.wanted = wanted;
        self.advance(actions);
    }

    /// What is to be in force without a server, if that is not wanted yet.
    fn falls_back(&self) -> Option<&ChipLimits> {
        self.fallback.as_ref().filter(|fallback| **fallback != self.wanted)
    }

    fn limited(&mut self, now: Limited, actions: &mut Vec<Action>) {
        self.is_setting = false;
        // One failure is enough: whoever relies on limits has to know for sure.
        let now = Limited { set: now.set, failed: self.now.failed.clone().or(now.failed) };
        if self.now != now {
            self.now = now;
            actions.push(Action::Report);
        }
        self.advance(actions);
    }

    /// Sets anew what is in force, where that limits anything.
    fn keep(&mut self, actions: &mut Vec<Action>) {
        if !self.is_setting && !self.wanted.is_empty() {
            self.is_setting = true;
            actions.push(Action::Limit(self.wanted.clone()));
        }
    }
}

#[derive(Debug)]
enum Phase {
    Preparing,
    Prepared,
    /// Told to run; not yet known to do so.
    Starting,
    Running {
        since_ms: i64,
    },
    Ended(TaskEnd),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Ending {
    No,
    Stop,
    Kill,
}

#[derive(Clone, Copy, Debug)]
struct Lease {
    from_ms: u64,
    length_ms: u64,
}

impl Lease {
    /// From here on, work is stopped in good order.
    const fn stop_at_ms(self) -> u64 {
        self.from_ms.saturating_add(self.length_ms * 2 / 3)
    }

    /// From here on, nothing may run.
    const fn kill_at_ms(self) -> u64 {
        self.from_ms.saturating_add(self.length_ms * 5 / 6)
    }
}

const fn rank(want: Want) -> u8 {
    match want {
        Want::Prepare => 0,
        Want::Run => 1,
        Want::Stop => 2,
        Want::Kill => 3,
    }
}

impl Task {
    fn new(spec: Arc<TaskSpec>, want: Want, phase: Phase) -> Self {
        let (signal, signalled, ending, end_reported, round) = (None, 0, Ending::No, None, 0);
        let (pause, pausing, paused) = (None, None, Some(false));
        Self {
            spec,
            want,
            phase,
            signal,
            signalled,
            pause,
            pausing,
            paused,
            ending,
            ended_here: None,
            end_reported,
            round,
        }
    }

    const fn is_alive(&self) -> bool {
        !matches!(self.phase, Phase::Ended(_))
    }

    fn raise(&mut self, want: Want) {
        if rank(want) > rank(self.want) {
            self.want = want;
        }
    }

    /// Does what is wanted and possible now. `left_ms` cuts the ladder of a stop.
    fn advance(&mut self, id: TaskId, left_ms: Option<u64>, actions: &mut Vec<Action>) {
        match (&self.phase, self.want) {
            (Phase::Ended(_), _) | (_, Want::Prepare) | (Phase::Preparing, Want::Run) => {}
            (Phase::Prepared, Want::Run) => {
                self.phase = Phase::Starting;
                actions.push(Action::Run(id));
            }
            (Phase::Starting | Phase::Running { .. }, Want::Run) => {
                self.signal(id, actions);
                self.pause(id, actions);
            }
            // Who stands still would not hear that it is to stop, and has no power for it.
            (Phase::Running { .. }, Want::Stop) if self.paused == Some(true) => self.kill(id, actions),
            (Phase::Starting | Phase::Running { .. }, Want::Stop) => {
                if self.ending < Ending::Stop {
                    self.ending = Ending::Stop;
                    actions.push(Action::Stop(id, cut(self.spec.stop, left_ms)));
                }
                self.signal(id, actions);
            }
            // Where nothing runs there is nobody to be asked.
            (Phase::Preparing | Phase::Prepared, Want::Stop) | (_, Want::Kill) => self.kill(id, actions),
        }
    }

    fn kill(&mut self, id: TaskId, actions: &mut Vec<Action>) {
        if self.ending < Ending::Kill {
            self.ending = Ending::Kill;
            actions.push(Action::Kill(id));
        }
    }

    /// Lets its workers stand still or go on, once they run.
    fn pause(&mut self, id: TaskId, actions: &mut Vec<Action>) {
        let Some(pause) = self.pause.filter(|_| matches!(self.phase, Phase::Running { .. })) else { return };
        if Some(pause) != self.pausing.or(self.paused) {
            self.pausing = Some(pause);
            actions.push(Action::Pause(id, pause));
        }
    }

    /// Sends the newest signal, once somebody is there to get it.
    fn signal(&mut self, id: TaskId, actions: &mut Vec<Action>) {
        if !matches!(self.phase, Phase::Running { .. }) {
            return;
        }
        if let Some(signal) = self.signal.take() {
            self.signalled = signal.number;
            actions.push(Action::Signal(id, signal));
        }
    }

    fn reported(&self) -> TaskPhase {
        match &self.phase {
            Phase::Ended(end) => TaskPhase::Ended(end.clone()),
            _ if rank(self.want) >= rank(Want::Stop) => TaskPhase::Stopping,
            Phase::Preparing => TaskPhase::Preparing,
            Phase::Prepared | Phase::Starting => TaskPhase::Prepared,
            Phase::Running { since_ms } => TaskPhase::Running { since_ms: *since_ms },
        }
    }
}

/// A ladder that ends within the time left. SIGTERM keeps at least a third of it, so that a long wait for a checkpoint
/// does not end in SIGKILL alone.
fn cut(stop: Stop, left_ms: Option<u64>) -> Stop {
    let Some(left) = left_ms.map(|ms| Duration::from_millis(i64::try_from(ms).unwrap_or(i64::MAX))) else {
        return stop;
    };
    let checkpoint_grace = if stop.checkpoint_signal.is_some() { stop.checkpoint_grace } else { Duration::ZERO };
    if checkpoint_grace.as_millis().saturating_add(stop.grace.as_millis()) <= left.as_millis() {
        return stop;
    }
    let third = Duration::from_millis(left.as_millis() / 3);
    let grace = if checkpoint_grace == Duration::ZERO { left } else { stop.grace.min(third) };
    Stop { checkpoint_grace: checkpoint_grace.min(left - grace), grace, ..stop }
}

/// A task that was wanted no more before it could run, which is no fault of the job.
fn never_ran(reason: &str) -> TaskEnd {
    refused(TaskRefusal { reason: reason.to_owned(), node_fault: true })
}

/// The end of a task that never ran.
pub fn refused(refusal: TaskRefusal) -> TaskEnd {
    TaskEnd {
        refused: Some(refusal),
        workers: Vec::new(),
        energy_mj: 0,
        energy_source: offtake_protocol::agent::EnergySource::Model,
        cpu_ms: None,
        peak_memory_kib: None,
    }
}

impl Core {
    /// The core of a new run of an agent. `session` is drawn at random; `seen` is the newest edition that an earlier
    /// run is known to have seen, so that a server that was replaced meanwhile is not obeyed.
    pub fn new(session: u64, seen: Edition) -> Self {
        Self {
            session,
            seen,
            lease: None,
            told_until_ms: 0,
            tasks: BTreeMap::new(),
            limits: None,
            alive: 0,
            logs: BTreeMap::new(),
            report_version: 0,
            round: 0,
            leaving: false,
        }
    }

    /// Takes in what has happened, and adds what is to be done for it, in that order. `now_ms` is of a clock that never
    /// goes back, and that goes on while the machine sleeps.
    pub fn handle(&mut self, input: Input, now_ms: u64, actions: &mut Vec<Action>) {
        // A lease that ran out while nobody looked has ended the work, whatever comes now.
        self.keep_lease(now_ms, actions);
        self.keep_limits(now_ms, actions);
        match input {
            Input::Adopted { task, spec, stand, signalled } => self.adopt(task, spec, stand, signalled),
            Input::CanLimit { set, fallback } => {
                let now = Limited { set: set.clone(), failed: None };
                self.limits = Some(Limits { now, wanted: set.clone(), tried: set, is_setting: false, fallback });
            }
            Input::Limited(now) => {
                if let Some(limits) = &mut self.limits {
                    limits.limited(now, actions);
                }
            }
            Input::KeepLimits => {
                if let Some(limits) = &mut self.limits {
                    limits.keep(actions);
                }
            }
            Input::Orders { orders, asked_at_ms } => self.take_orders(orders, asked_at_ms.min(now_ms), now_ms, actions),
            Input::Prepared(id) => self.prepared(id, actions),
            Input::Running { task, since_ms } => self.running(task, since_ms, actions),
            Input::Paused { task, paused } => self.paused(task, paused, actions),
            Input::WorkerFailed(id) => self.worker_failed(id, actions),
            Input::Ended(id, end) => self.ended(id, end, actions),
            Input::Tick => {}
            Input::Leave => self.leave(actions),
        }
    }

    /// The next report, numbered. The caller adds what the node measures and how long it will wait.
    pub fn report(&mut self) -> Report {
        self.report_version += 1;
        let version = self.report_version;
        let tasks = self
            .tasks
            .iter_mut()
            .map(|(id, task)| {
                if !task.is_alive() {
                    task.end_reported.get_or_insert(version);
                }
                TaskReport { task: *id, phase: task.reported(), paused: task.paused == Some(true) && task.is_alive() }
            })
            .collect();
        Report {
            session: self.session,
            version,
            seen: self.seen,
            wait_ms: 0,
            tasks,
            limits: self.limits.as_ref().map(|limits| limits.now.clone()),
            condition: None,
            leaves: self.has_left(),
        }
    }

    /// When [`Input::Tick`] is due at the latest; none while there is nothing to be ended, or all has been told to end
    /// at once and needs no clock for that.
    pub fn next_tick_ms(&self) -> Option<u64> {
        let lease = self.lease?;
        let goes_on = |until: Want| self.tasks.values().any(|task| task.is_alive() && rank(task.want) < rank(until));
        let falls_back = self.limits.as_ref().is_some_and(|limits| limits.falls_back().is_some());
        match (goes_on(Want::Stop), goes_on(Want::Kill) || falls_back) {
            (true, _) => Some(lease.stop_at_ms()),
            (false, true) => Some(lease.kill_at_ms()),
            (false, false) => None,
        }
    }

    /// The newest edition of orders that was taken.
    pub const fn seen(&self) -> Edition {
        self.seen
    }

    /// How many tasks have not ended.
    pub const fn alive(&self) -> usize {
        self.alive
    }

    /// Whether the agent was told to leave, and nothing of it runs any more.
    pub const fn has_left(&self) -> bool {
        self.leaving && self.alive == 0
    }

    /// How long the agent may let the server hold back an answer, in milliseconds: so short that the answer to the next
    /// report comes well before the work would be stopped.
    pub fn longest_wait_ms(&self) -> u32 {
        // Two reports in a row are answered within two fifths of the lease; work is stopped at two thirds.
        self.lease.map_or(0, |lease| u32::try_from(lease.length_ms / 5).unwrap_or(u32::MAX))
    }

    fn adopt(&mut self, id: TaskId, spec: Arc<TaskSpec>, stand: Stand, signalled: u32) {
        let (want, phase) = match stand {
            Stand::Prepared => (Want::Prepare, Phase::Prepared),
            Stand::Running { since_ms } => (Want::Run, Phase::Running { since_ms }),
            Stand::Ended(end) => (Want::Run, Phase::Ended(end)),
        };
        let paused = (!matches!(phase, Phase::Running { .. })).then_some(false);
        let task = Task { signalled, paused, ..Task::new(spec, want, phase) };
        self.alive += usize::from(task.is_alive());
        self.tasks.insert(id, task);
    }

    fn keep_lease(&mut self, now_ms: u64, actions: &mut Vec<Action>) {
        let Some(lease) = self.lease.filter(|lease| self.alive > 0 && now_ms >= lease.stop_at_ms()) else {
            return;
        };
        let left_ms = lease.kill_at_ms().saturating_sub(now_ms);
        let want = if left_ms == 0 { Want::Kill } else { Want::Stop };
        self.end_all(want, Some(left_ms), "its node ended it, as the server could not be reached", actions);
    }

    /// Chips do not stay as a server has them that is not there any more, where the node has limits of its own.
    fn keep_limits(&mut self, now_ms: u64, actions: &mut Vec<Action>) {
        let is_over = self.lease.is_some_and(|lease| now_ms >= lease.kill_at_ms());
        let Some(limits) = self.limits.as_mut().filter(|_| is_over) else { return };
        if let Some(fallback) = limits.falls_back().cloned() {
            limits.want(fallback, actions);
        }
    }

    fn end_all(&mut self, want: Want, left_ms: Option<u64>, why: &'static str, actions: &mut Vec<Action>) {
        for (id, task) in &mut self.tasks {
            if rank(task.want) < rank(Want::Stop) {
                task.ended_here = Some(why);
            }
            task.raise(want);
            task.advance(*id, left_ms, actions);
        }
    }

    fn take_orders(&mut self, orders: Orders, asked_at_ms: u64, now_ms: u64, actions: &mut Vec<Action>) {
        let edition = orders.edition;
        if edition.epoch < self.seen.epoch {
            actions.push(Action::Ignored(edition, Ignored::StaleServer));
            return;
        }
        let lease = Lease { from_ms: asked_at_ms, length_ms: u64::from(orders.lease_ms) };
        if now_ms >= lease.stop_at_ms() {
            // Nothing of them counts as seen, so that the server tells all of it again.
            actions.push(Action::Ignored(edition, Ignored::TooLate));
            return;
        }
        self.renew(lease, edition.epoch > self.seen.epoch, actions);
        if edition < self.seen {
            return;
        }
        let (newer, new_epoch) = (edition > self.seen, edition.epoch > self.seen.epoch);
        self.seen = edition;
        self.round += 1;
        // First, as what is started next may be started on chips that are to be limited.
        if let (Some(limits), Some(wanted)) = (&mut self.limits, orders.limits) {
            limits.want(wanted, actions);
        }
        for order in orders.tasks {
            match (self.tasks.get_mut(&order.task), order.spec) {
                (Some(task), _) => {
                    task.round = self.round;
                    task.raise(order.want);
                    task.pause = Some(order.paused);
                    let newest = task.signal.map_or(task.signalled, |signal| signal.number);
                    if let Some(signal) = order.signal.filter(|signal| signal.number > newest) {
                        task.signal = Some(signal);
                    }
                    task.advance(order.task, None, actions);
                }
                (None, Some(spec)) => self.begin(Order { spec: None, ..order }, spec, actions),
                // The server believes the task to be here. That no report lists it tells otherwise.
                (None, None) => {}
            }
        }
        self.end_unlisted(orders.answers, actions);
        // A server that cannot write gives the same orders anew, without what is only in its memory.
        if newer {
            self.take_logs(orders.logs, new_epoch, actions);
        }
    }

    /// Within a run of the server, the lease that reaches farthest holds, as the server keeps each of its promises.
    fn renew(&mut self, lease: Lease, new_epoch: bool, actions: &mut Vec<Action>) {
        match self.lease {
            Some(held) if !new_epoch && held.kill_at_ms() >= lease.kill_at_ms() => return,
            _ => self.lease = Some(lease),
        }
        let until_ms = lease.kill_at_ms();
        // Supervisors are not told of every report's answer: a twentieth of the lease is near enough.
        if until_ms >= self.told_until_ms.saturating_add(lease.length_ms / 20) || until_ms < self.told_until_ms {
            self.told_until_ms = until_ms;
            actions.push(Action::ExtendLease(until_ms));
        }
    }

    fn take_logs(&mut self, wanted: Vec<LogRequest>, new_epoch: bool, actions: &mut Vec<Action>) {
        let wanted: BTreeMap<u64, LogRequest> = wanted.into_iter().map(|request| (request.id, request)).collect();
        for id in self.logs.keys() {
            if new_epoch || !wanted.contains_key(id) {
                actions.push(Action::StopLog(*id));
            }
        }
        for (id, request) in &wanted {
            if new_epoch || !self.logs.contains_key(id) {
                actions.push(Action::StartLog(request.clone()));
            }
        }
        self.logs = wanted;
    }

    fn begin(&mut self, order: Order, spec: Arc<TaskSpec>, actions: &mut Vec<Action>) {
        let Order { task: id, want, signal, paused, .. } = order;
        let refusal = match want {
            Want::Stop | Want::Kill => Some(never_ran("it was withdrawn before it ran")),
            Want::Prepare | Want::Run if self.leaving => Some(never_ran("the node's agent is leaving")),
            Want::Prepare | Want::Run => None,
        };
        let phase = match refusal {
            Some(end) => {
                actions.push(Action::Report);
                Phase::Ended(end)
            }
            None => {
                self.alive += 1;
                actions.push(Action::Prepare(id, Arc::clone(&spec)));
                Phase::Preparing
            }
        };
        let task = Task { signal, pause: Some(paused), round: self.round, ..Task::new(spec, want, phase) };
        self.tasks.insert(id, task);
    }

    /// Ends and forgets what the last orders, which answer that report, do not list.
    fn end_unlisted(&mut self, answers: u64, actions: &mut Vec<Action>) {
        let round = self.round;
        self.tasks.retain(|id, task| {
            if task.round == round {
                return true;
            }
            if task.is_alive() {
                task.raise(Want::Kill);
                task.advance(*id, None, actions);
                return true;
            }
            // Orders that answer an earlier report leave it out without knowing how it ended.
            let known = task.end_reported.is_some_and(|report| report <= answers);
            if known {
                actions.push(Action::Forget(*id));
            }
            !known
        });
    }

    fn prepared(&mut self, id: TaskId, actions: &mut Vec<Action>) {
        let Some(task) = self.tasks.get_mut(&id) else { return };
        if !matches!(task.phase, Phase::Preparing) {
            return;
        }
        task.phase = Phase::Prepared;
        if task.want == Want::Prepare {
            actions.push(Action::Report);
        }
        task.advance(id, None, actions);
    }

    fn running(&mut self, id: TaskId, since_ms: i64, actions: &mut Vec<Action>) {
        let Some(task) = self.tasks.get_mut(&id) else { return };
        if !matches!(task.phase, Phase::Starting) {
            return;
        }
        task.phase = Phase::Running { since_ms };
        actions.push(Action::Report);
        task.advance(id, None, actions);
    }

    fn paused(&mut self, id: TaskId, paused: bool, actions: &mut Vec<Action>) {
        let Some(task) = self.tasks.get_mut(&id).filter(|task| task.is_alive()) else { return };
        // What it was told and has not done yet, or could not, it is told again.
        (task.paused, task.pausing) = (Some(paused), None);
        actions.push(Action::Report);
        task.advance(id, None, actions);
    }

    fn worker_failed(&mut self, id: TaskId, actions: &mut Vec<Action>) {
        let Some(task) = self.tasks.get_mut(&id) else { return };
        if !task.spec.ends_together || !task.is_alive() || task.ending != Ending::No {
            return;
        }
        task.raise(Want::Stop);
        task.ending = Ending::Stop;
        // A gang that has lost a worker has no state worth a checkpoint.
        actions.push(Action::Stop(id, Stop { checkpoint_signal: None, ..task.spec.stop }));
    }

    fn ended(&mut self, id: TaskId, mut end: TaskEnd, actions: &mut Vec<Action>) {
        let Some(task) = self.tasks.get_mut(&id).filter(|task| task.is_alive()) else { return };
        // Whatever its workers made of that, also status 0 after they have saved their work: it is not how they would
        // have ended.
        if let Some(why) = task.ended_here {
            end.workers.iter_mut().for_each(|worker| worker.exit = Exit::Unknown(why.to_owned()));
        }
        task.phase = Phase::Ended(end);
        self.alive -= 1;
        actions.push(Action::Report);
    }

    fn leave(&mut self, actions: &mut Vec<Action>) {
        self.leaving = true;
        self.end_all(Want::Stop, None, "its node ended it, as the agent was leaving", actions);
        actions.push(Action::Report);
    }
}
