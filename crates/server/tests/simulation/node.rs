//! A node: its disk, its clocks, and the shell around the agent's core.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use aws_lc_rs::digest;
use offtake_agent::supervisor::Input as SupervisorInput;
use offtake_agent::{Action, Core, Input, Stand, refused};
use offtake_protocol::agent::{
    Condition, Edition, EnergySource, Exit, Isolation, Join, NodeDescription, TaskEnd, TaskId, TaskRefusal, TaskSpec,
    VERSION, WorkerEnd,
};
use offtake_protocol::rest::Problem;
use offtake_server::core::Answer;
use offtake_units::Mebibytes;
use offtake_workload::Stop;
use offtake_workload::rng::Rng;

use crate::clients::Ask;
use crate::clock::Clock;
use crate::plan::{Plan, between, in_1000};
use crate::process::{Process, Supervisor, ladder};
use crate::server::Call;
use crate::world::{Event, World};

pub struct Node {
    /// Never goes back, and goes on without power.
    pub monotonic: Clock,
    pub wall: Clock,
    /// Until when the network is cut.
    pub cut_until: u64,
    pub unhealthy: bool,
    /// It has its key.
    member: bool,
    /// How often it came anew, with nothing on its disk.
    lives: u64,
    /// Runs of the agent so far.
    sessions: u64,
    /// The newest epoch that was seen, as written down.
    seen_epoch: u64,
    /// Folders of tasks.
    pub tasks: BTreeMap<TaskId, Folder>,
    pub agent: Option<Agent>,
    /// All processes that ever ran, by number.
    pub processes: BTreeMap<u64, Process>,
    pub rng: Rng,
}

/// What the node keeps of a task.
pub struct Folder {
    pub spec: Arc<TaskSpec>,
    /// Its supervisors, by rank; none while it is being prepared.
    pub supervisors: BTreeMap<u32, Supervisor>,
    pub end: Option<TaskEnd>,
    pub signalled: u32,
}

/// A run of the agent.
pub struct Agent {
    core: Core,
    pub session: u64,
    /// Until when supervisors may let their workers live.
    lease_until_ms: u64,
    /// The report that waits for its answer.
    exchange: Option<u64>,
    exchanges: u64,
    /// Tasks that are being prepared, and whether they are to be ended.
    preparing: BTreeMap<TaskId, bool>,
    /// Tasks whose workers were told to run and of which it is known.
    running: BTreeSet<TaskId>,
    failed: BTreeSet<TaskId>,
    sends_at: Option<u64>,
    ticks_at: Option<u64>,
}

pub enum AgentEvent {
    Tick,
    /// A report is due.
    Send,
    /// A report has had no answer for too long.
    GiveUp(u64),
    /// A task has been prepared, or not.
    Prepared(TaskId),
    /// Supervisors of a task have something to tell.
    Look(TaskId),
}

impl Node {
    pub fn new(number: usize, plan: &Plan, rng: &Rng) -> Self {
        let mut rng = rng.derive("node").derive_index(number as u64);
        let drift_ppm = if plan.faults { between(&mut rng, 0, 10_000) as i64 - 5_000 } else { 0 };
        let offset_ms = between(&mut rng, 0, 1_000_000_000) as i64;
        Self {
            monotonic: Clock { offset_ms, drift_ppm },
            wall: Clock { offset_ms: 1_767_225_000_000 + offset_ms / 1_000, drift_ppm },
            cut_until: 0,
            unhealthy: false,
            member: false,
            lives: 0,
            sessions: 0,
            seen_epoch: 0,
            tasks: BTreeMap::new(),
            agent: None,
            processes: BTreeMap::new(),
            rng,
        }
    }
}

/// How a task ended whose supervisors have all written down how their workers did.
fn end_of(folder: &Folder) -> Option<TaskEnd> {
    let ends: Vec<_> =
        folder.supervisors.iter().map(|(rank, one)| one.ended.as_ref().map(|end| (*rank, end))).collect();
    let ends: Vec<_> = ends.into_iter().collect::<Option<_>>()?;
    if folder.supervisors.values().all(|one| one.started_ms.is_none()) {
        // Whatever ended it before it ran, it was not the job.
        return Some(refused(TaskRefusal {
            reason: "its workers were ended before they ran".to_owned(),
            node_fault: true,
        }));
    }
    let workers = ends.into_iter().map(|(rank, end)| WorkerEnd {
        rank,
        exit: end.exit.clone(),
        started_ms: end.started_ms.unwrap_or(end.ended_ms),
        ended_ms: end.ended_ms,
    });
    Some(TaskEnd {
        refused: None,
        workers: workers.collect(),
        energy_mj: 0,
        energy_source: EnergySource::Model,
        cpu_ms: None,
        peak_memory_kib: None,
    })
}

impl World {
    pub fn node_now(&self, node: usize) -> u64 {
        self.nodes[node].monotonic.at(self.now) as u64
    }

    // The node joins.

    pub fn ask_to_join(&mut self, node: usize) {
        if self.nodes[node].member {
            return;
        }
        let token = token_of(node, self.nodes[node].lives);
        let digest = digest::digest(&digest::SHA256, token.as_bytes());
        let digest = digest.as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
        let expires_ms = self.server_now().as_millis() + 86_400_000;
        let ask = self.ask(Ask::JoinToken { digest, expires_ms });
        self.clients.tokens.insert(ask, node);
    }

    pub fn has_join_token(&mut self, node: usize, _ask: usize) {
        self.try_join(node);
    }

    fn try_join(&mut self, node: usize) {
        if self.nodes[node].member {
            return;
        }
        let plan = &self.plan.nodes[node];
        let description = NodeDescription {
            protocol: VERSION,
            agent_version: "0".to_owned(),
            name: plan.name.clone(),
            address: plan.name.clone(),
            cpus: plan.cpus,
            memory: Mebibytes::new(16_384),
            accelerator: (plan.chips > 0).then(|| "h100".to_owned()),
            chips: plan.chips,
            chip_memory: None,
            chip_watts: None,
            attributes: BTreeMap::new(),
            isolation: Isolation { devices: true, ..Isolation::default() },
            power_sources: Vec::new(),
        };
        let lives = self.nodes[node].lives;
        let public_key = format!("key {lives} of {node}");
        let join = Join { token: token_of(node, lives), public_key, node: description };
        self.send(Call::Join { node, join: Box::new(join) });
        let patience = between(&mut self.nodes[node].rng, 500, 2_000);
        self.at(self.now + patience, Event::Agent(node, 0, AgentEvent::Send));
    }

    pub fn joined(&mut self, node: usize, answer: Result<Answer, Problem>) {
        if !matches!(answer, Ok(Answer::Joined(_))) || self.nodes[node].member {
            return;
        }
        self.nodes[node].member = true;
        self.start_agent(node);
    }

    // The agent starts, and dies.

    /// The agent starts, or the node joins where it has not.
    pub fn power_on(&mut self, node: usize) {
        if self.nodes[node].member {
            self.start_agent(node);
        } else if !self.clients.tokens.values().any(|other| *other == node) {
            self.ask_to_join(node);
        }
    }

    pub fn start_agent(&mut self, node: usize) {
        let now_ms = self.node_now(node);
        let it = &mut self.nodes[node];
        if !it.member || it.agent.is_some() {
            return;
        }
        it.sessions += 1;
        let session = it.rng.bits() | 1;
        let seen = Edition { epoch: it.seen_epoch, version: 0 };
        let mut agent = Agent {
            core: Core::new(session, seen),
            session,
            lease_until_ms: now_ms + self.plan.lease_ms * 5 / 6,
            exchange: None,
            exchanges: 0,
            preparing: BTreeMap::new(),
            running: BTreeSet::new(),
            failed: BTreeSet::new(),
            sends_at: None,
            ticks_at: None,
        };
        let mut found = Vec::new();
        for (id, folder) in &mut it.tasks {
            for supervisor in folder.supervisors.values_mut() {
                supervisor.clean_up(it.wall.at(self.now));
            }
            if folder.end.is_none() && folder.supervisors.is_empty() {
                let reason = "the agent was started again while it was prepared".to_owned();
                folder.end = Some(refused(TaskRefusal { reason, node_fault: true }));
            }
            folder.end = folder.end.take().or_else(|| end_of(folder));
            let started = folder.supervisors.values().filter_map(|one| one.started_ms).max();
            let stand = match (&folder.end, started) {
                (Some(end), _) => Stand::Ended(end.clone()),
                (None, Some(since_ms)) => {
                    agent.running.insert(*id);
                    Stand::Running { since_ms }
                }
                (None, None) => Stand::Prepared,
            };
            found.push((*id, stand.clone()));
            let (spec, signalled) = (Arc::clone(&folder.spec), folder.signalled);
            agent.core.handle(Input::Adopted { task: *id, spec, stand, signalled }, now_ms, &mut Vec::new());
        }
        it.agent = Some(agent);
        self.say(format_args!("{node}: agent {session:x} starts with {found:?}"));
        let broken: Vec<(TaskId, u32)> = self.half_dead(node);
        for (task, rank) in broken {
            self.feed(node, task, rank, SupervisorInput::Kill);
        }
        for (id, _) in found {
            self.look_soon(node, id);
        }
        self.report_soon(node);
    }

    /// Workers that wait to start in tasks of which another worker has ended already.
    fn half_dead(&self, node: usize) -> Vec<(TaskId, u32)> {
        let mut all = Vec::new();
        for (id, folder) in &self.nodes[node].tasks {
            if folder.end.is_none() && folder.supervisors.values().any(|one| one.ended.is_some()) {
                let waits =
                    folder.supervisors.iter().filter(|(_, one)| one.ended.is_none() && one.started_ms.is_none());
                all.extend(waits.map(|(rank, _)| (*id, *rank)));
            }
        }
        all
    }

    pub fn kill_agent(&mut self, node: usize) -> bool {
        let was = self.nodes[node].agent.take();
        was.is_some()
    }

    /// The agent ends its run in good order.
    pub fn leave(&mut self, node: usize) {
        self.handle_agent(node, Input::Leave);
    }

    pub fn lose_power(&mut self, node: usize, wiped: bool) {
        self.kill_agent(node);
        for folder in self.nodes[node].tasks.values_mut() {
            folder.supervisors.values_mut().for_each(|one| one.alive = false);
        }
        let living: Vec<u64> =
            self.nodes[node].processes.iter().filter(|(_, process)| process.alive).map(|(pid, _)| *pid).collect();
        for pid in living {
            self.ends(node, pid, Exit::Signal(9));
        }
        let it = &mut self.nodes[node];
        if wiped {
            // With its disk it has lost its key: it joins anew.
            it.tasks.clear();
            (it.member, it.seen_epoch) = (false, 0);
            it.lives += 1;
        } else {
            // What nobody forced onto the disk may be gone.
            let rng = &mut it.rng;
            it.tasks.retain(|_, folder| {
                folder.supervisors.values().any(|one| one.started_ms.is_some()) || in_1000(rng, 500)
            });
        }
    }

    pub fn agent_event(&mut self, node: usize, session: u64, event: AgentEvent) {
        if session == 0 {
            return self.try_join(node);
        }
        if self.nodes[node].agent.as_ref().is_none_or(|agent| agent.session != session) {
            return;
        }
        match event {
            AgentEvent::Tick => {
                let now = self.now;
                if let Some(agent) = &mut self.nodes[node].agent {
                    agent.ticks_at.take_if(|at| *at <= now);
                }
                self.handle_agent(node, Input::Tick);
            }
            AgentEvent::Send => {
                let now = self.now;
                let due = self.nodes[node]
                    .agent
                    .as_mut()
                    .is_some_and(|agent| agent.sends_at.take_if(|at| *at <= now).is_some());
                if due {
                    self.report(node);
                }
            }
            AgentEvent::GiveUp(exchange) => {
                if self.nodes[node].agent.as_ref().is_some_and(|agent| agent.exchange == Some(exchange)) {
                    self.report(node);
                }
            }
            AgentEvent::Prepared(task) => self.has_prepared(node, task),
            AgentEvent::Look(task) => self.look(node, task),
        }
    }

    // Reports and orders.

    fn report_soon(&mut self, node: usize) {
        let at = self.now + self.nodes[node].rng.below(4);
        let Some(agent) = &mut self.nodes[node].agent else { return };
        if agent.sends_at.is_none() {
            agent.sends_at = Some(at);
            let session = agent.session;
            self.at(at, Event::Agent(node, session, AgentEvent::Send));
        }
    }

    fn report(&mut self, node: usize) {
        let asked_at_ms = self.node_now(node);
        let it = &mut self.nodes[node];
        let Some(agent) = &mut it.agent else { return };
        let unhealthy = it.unhealthy.then(|| "it is ill".to_owned());
        let mut report = agent.core.report();
        report.wait_ms = agent.core.longest_wait_ms();
        report.condition = Some(Condition { unhealthy, ..Condition::default() });
        agent.exchanges += 1;
        agent.exchange = Some(agent.exchanges);
        let (session, exchange) = (agent.session, agent.exchanges);
        let patience = u64::from(report.wait_ms) + between(&mut it.rng, 300, 1_500);
        if !report.tasks.is_empty() {
            self.say(format_args!("{node}: reports {} of {:?}", report.version, report.tasks));
        }
        self.send(Call::Report { node, session, exchange, asked_at_ms, report: Box::new(report) });
        self.at(self.now + patience, Event::Agent(node, session, AgentEvent::GiveUp(exchange)));
    }

    /// The server has answered a report.
    pub fn orders(
        &mut self,
        node: usize,
        session: u64,
        exchange: u64,
        asked_at_ms: u64,
        answer: Result<Answer, Problem>,
    ) {
        let it = &mut self.nodes[node];
        let Some(agent) = it.agent.as_mut().filter(|agent| agent.session == session) else { return };
        // Whoever gave up does not listen any more; but the answer may have been read by then.
        let awaited = agent.exchange == Some(exchange);
        if !awaited && in_1000(&mut it.rng, 500) {
            return;
        }
        if awaited && answer.is_ok() {
            agent.exchange = None;
        }
        match answer {
            Ok(Answer::Orders(orders)) => {
                it.seen_epoch = it.seen_epoch.max(orders.edition.epoch);
                if !orders.tasks.is_empty() {
                    self.say(format_args!("{node}: is ordered {:?}", Told(&orders)));
                }
                self.handle_agent(node, Input::Orders { orders: *orders, asked_at_ms });
                let left = self.nodes[node].agent.as_ref().is_some_and(|agent| agent.core.has_left());
                if left {
                    self.say(format_args!("{node}: agent has left"));
                    self.kill_agent(node);
                    let back = between(&mut self.nodes[node].rng, 10, 10_000);
                    return self.at(self.now + back, Event::AgentStarts(node));
                }
            }
            Ok(_) => {}
            Err(problem) => {
                assert_ne!(problem.code, "stale_server", "a server knows its own epochs");
                assert_ne!(problem.code, "unknown_agent", "a member stays one");
                // It asks again when it has waited for long enough.
                return;
            }
        }
        if awaited {
            let at = self.now + 5 + self.nodes[node].rng.below(20);
            if let Some(agent) = self.nodes[node].agent.as_mut().filter(|agent| agent.sends_at.is_none()) {
                agent.sends_at = Some(at);
                self.at(at, Event::Agent(node, session, AgentEvent::Send));
            }
        }
    }

    fn handle_agent(&mut self, node: usize, input: Input) {
        let now_ms = self.node_now(node);
        let mut actions = Vec::new();
        let Some(agent) = &mut self.nodes[node].agent else { return };
        agent.core.handle(input, now_ms, &mut actions);
        for action in actions {
            self.act_on(node, action);
        }
        let it = &mut self.nodes[node];
        let Some(agent) = &mut it.agent else { return };
        if let Some(tick_ms) = agent.core.next_tick_ms() {
            assert!(tick_ms > now_ms, "{node}: the agent wants to be woken at an instant that is over");
            let at = it.monotonic.when(tick_ms as i64);
            if agent.ticks_at.is_some_and(|due| due <= at) {
                return;
            }
            agent.ticks_at = Some(at);
            let session = agent.session;
            self.at(at, Event::Agent(node, session, AgentEvent::Tick));
        }
    }

    fn act_on(&mut self, node: usize, action: Action) {
        if !matches!(action, Action::ExtendLease(_) | Action::Report) {
            self.say(format_args!("{node}: {}", Short(&action)));
        }
        match action {
            Action::Prepare(task, spec) => self.prepare(node, task, spec),
            Action::Run(task) => self.for_each_rank(node, task, |_| SupervisorInput::Go),
            Action::Signal(task, signal) => {
                if let Some(folder) = self.nodes[node].tasks.get_mut(&task) {
                    folder.signalled = signal.number;
                }
                let to = offtake_agent::supervisor::Whom::Tree;
                self.for_each_rank(node, task, |_| SupervisorInput::Signal { signal: signal.signal, to });
            }
            Action::Stop(task, stop) => self.stop(node, task, stop),
            Action::Kill(task) => self.kill(node, task),
            Action::Forget(task) => {
                let folder = self.nodes[node].tasks.remove(&task);
                let quiet = folder.is_none_or(|folder| folder.supervisors.values().all(|one| one.ended.is_some()));
                assert!(quiet, "{node} forgets {task} while it lives");
            }
            Action::ExtendLease(until_ms) => {
                if let Some(agent) = &mut self.nodes[node].agent {
                    agent.lease_until_ms = until_ms;
                }
                let tasks: Vec<TaskId> = self.nodes[node].tasks.keys().copied().collect();
                for task in tasks {
                    self.for_each_rank(node, task, |_| SupervisorInput::Lease { until_ms });
                }
            }
            Action::Report => self.report_soon(node),
            Action::Limit(_) => unreachable!("no agent here says that it can limit chips"),
            Action::Pause(_, true) => unreachable!("no job here stands a pause"),
            // What an agent finds at its start is told to go on, and does already.
            Action::Pause(_, false) => {}
            Action::StartLog(_) | Action::StopLog(_) | Action::Ignored(..) => {}
        }
    }

    fn prepare(&mut self, node: usize, task: TaskId, spec: Arc<TaskSpec>) {
        let it = &mut self.nodes[node];
        assert!(!it.tasks.contains_key(&task), "{node} has {task} already");
        let folder = Folder { spec, supervisors: BTreeMap::new(), end: None, signalled: 0 };
        it.tasks.insert(task, folder);
        let takes = match it.rng.below(20) {
            0 => between(&mut it.rng, 1_000, 15_000),
            1..4 => between(&mut it.rng, 10, 1_000),
            _ => it.rng.below(10),
        };
        let Some(agent) = &mut it.agent else { return };
        agent.preparing.insert(task, false);
        let session = agent.session;
        self.at(self.now + takes, Event::Agent(node, session, AgentEvent::Prepared(task)));
    }

    fn has_prepared(&mut self, node: usize, task: TaskId) {
        let refuses = self.plan.nodes[node].refuses;
        let lease_ms = self.plan.lease_ms;
        let now_ms = self.node_now(node);
        let it = &mut self.nodes[node];
        let Some(agent) = &mut it.agent else { return };
        let Some(ended) = agent.preparing.remove(&task) else { return };
        let Some(folder) = it.tasks.get_mut(&task) else { return };
        let by_node = in_1000(&mut it.rng, refuses);
        let by_job = refuses > 0 && in_1000(&mut it.rng, 10);
        if ended || by_node || by_job {
            let reason = if ended { "it was withdrawn" } else { "no" }.to_owned();
            let end = refused(TaskRefusal { reason, node_fault: !by_job || ended || by_node });
            folder.end = Some(end.clone());
            return self.handle_agent(node, Input::Ended(task, end));
        }
        let until_ms = agent.lease_until_ms.min(now_ms + lease_ms);
        for worker in &folder.spec.workers {
            folder.supervisors.insert(worker.rank, Supervisor::new(until_ms, *worker));
        }
        let ranks: Vec<u32> = folder.supervisors.keys().copied().collect();
        for rank in ranks {
            self.feed(node, task, rank, SupervisorInput::Tick);
        }
        self.oracle.prepared(node, task);
        self.handle_agent(node, Input::Prepared(task));
    }

    fn stop(&mut self, node: usize, task: TaskId, stop: Stop) {
        self.for_each_rank(node, task, |_| SupervisorInput::Stop(ladder(stop)));
    }

    fn kill(&mut self, node: usize, task: TaskId) {
        if let Some(agent) = &mut self.nodes[node].agent
            && let Some(killed) = agent.preparing.get_mut(&task)
        {
            *killed = true;
            return;
        }
        self.for_each_rank(node, task, |_| SupervisorInput::Kill);
    }

    fn for_each_rank(&mut self, node: usize, task: TaskId, input: impl Fn(u32) -> SupervisorInput) {
        let Some(folder) = self.nodes[node].tasks.get(&task) else { return };
        let ranks: Vec<u32> = folder.supervisors.keys().copied().collect();
        for rank in ranks {
            self.feed(node, task, rank, input(rank));
        }
    }

    // What supervisors tell.

    pub fn look_soon(&mut self, node: usize, task: TaskId) {
        let at = self.now + self.nodes[node].rng.below(4);
        if let Some(agent) = &self.nodes[node].agent {
            let session = agent.session;
            self.at(at, Event::Agent(node, session, AgentEvent::Look(task)));
        }
    }

    fn look(&mut self, node: usize, task: TaskId) {
        let it = &mut self.nodes[node];
        let wall = it.wall.at(self.now);
        let Some(folder) = it.tasks.get_mut(&task) else { return };
        if folder.end.is_some() || folder.supervisors.is_empty() {
            return;
        }
        for supervisor in folder.supervisors.values_mut() {
            supervisor.clean_up(wall);
        }
        let Some(agent) = &mut it.agent else { return };
        let all_ran = folder.supervisors.values().all(|one| one.started_ms.is_some());
        let failed =
            folder.supervisors.values().filter_map(|one| one.ended.as_ref()).any(|end| end.exit != Exit::Status(0));
        let since_ms = folder.supervisors.values().filter_map(|one| one.started_ms).max().unwrap_or(0);
        let end = end_of(folder);
        folder.end.clone_from(&end);
        let mut inputs = Vec::new();
        if all_ran && agent.running.insert(task) {
            inputs.push(Input::Running { task, since_ms });
        }
        if failed && agent.failed.insert(task) {
            inputs.push(Input::WorkerFailed(task));
        }
        inputs.extend(end.map(|end| Input::Ended(task, end)));
        for input in inputs {
            self.handle_agent(node, input);
        }
    }
}

fn token_of(node: usize, lives: u64) -> String {
    format!("join token {lives} of {node}")
}

/// Orders in few words.
struct Told<'a>(&'a offtake_protocol::agent::Orders);

impl std::fmt::Debug for Told<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}.{} (to {}):", self.0.edition.epoch, self.0.edition.version, self.0.answers)?;
        self.0.tasks.iter().try_for_each(|order| {
            let spec = if order.spec.is_some() { "+" } else { "" };
            write!(f, " {}{spec} {:?}", order.task, order.want)
        })
    }
}

/// An action in few words.
struct Short<'a>(&'a Action);

impl std::fmt::Display for Short<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.0 {
            Action::Prepare(task, _) => write!(f, "prepare {task}"),
            other => write!(f, "{other:?}"),
        }
    }
}
