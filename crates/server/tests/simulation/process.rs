//! Supervisors and the workers below them; some workers are batch scripts that start steps.

use offtake_agent::supervisor::{Action, Core, Input, Outcome, Phase, StopPlan, Whom};
use offtake_protocol::agent::{Exit, TaskId, WorkerSpec};
use offtake_protocol::rest::{Problem, StepRequest};
use offtake_server::core::Answer;
use offtake_workload::rng::Rng;
use offtake_workload::{Start, Stop};

use crate::plan::{between, in_1000};
use crate::server::{Call, Place};
use crate::world::{Event, World};

/// The signal by which these jobs ask their workers to save.
const SAVE: i32 = 10;
const SIGTERM: i32 = 15;

/// A worker's supervisor: what it has written down, and, while it lives, its core.
pub struct Supervisor {
    pub alive: bool,
    pub worker: WorkerSpec,
    /// Written down before the start.
    pub started_ms: Option<i64>,
    /// Written down last of all.
    pub ended: Option<Ended>,
    core: Core,
    pid: Option<u64>,
    tick_at: Option<u64>,
}

#[derive(Clone, Debug)]
pub struct Ended {
    pub exit: Exit,
    pub started_ms: Option<i64>,
    pub ended_ms: i64,
}

/// A process that did run.
pub struct Process {
    pub alive: bool,
    pub task: TaskId,
    pub rank: u32,
    pub chips: u64,
    ignores_term: bool,
    saves: bool,
    script: Option<Script>,
    rng: Rng,
}

/// A batch script that runs steps one after the other.
struct Script {
    steps: u32,
    /// The step that it is at, from 0; and what the server calls it.
    at: u32,
    number: Option<u32>,
    token: String,
    /// Counts what it asks, so that no old answer is taken for a new one.
    asked: u64,
    worst: i32,
}

pub enum ProcessEvent {
    Exits(Exit),
    /// A script does what it does next, unless it has asked again since.
    Goes(u64),
}

/// A stop as supervisors are told it.
pub fn ladder(stop: Stop) -> StopPlan {
    StopPlan {
        checkpoint: stop.checkpoint_signal.map(|signal| (signal, Whom::Tree)),
        checkpoint_grace_ms: stop.checkpoint_grace.as_millis() as u64,
        grace_ms: stop.grace.as_millis() as u64,
    }
}

impl Supervisor {
    pub fn new(lease_until_ms: u64, worker: WorkerSpec) -> Self {
        Self {
            alive: true,
            worker,
            started_ms: None,
            ended: None,
            core: Core::new(lease_until_ms),
            pid: None,
            tick_at: None,
        }
    }

    /// Nobody knows how the worker of a dead supervisor ended.
    pub fn clean_up(&mut self, wall_ms: i64) {
        if !self.alive && self.ended.is_none() {
            let exit = Exit::Unknown("its supervisor was killed, or the machine went down".to_owned());
            self.ended = Some(Ended { exit, started_ms: self.started_ms, ended_ms: wall_ms });
        }
    }
}

impl World {
    fn supervisor(&mut self, node: usize, task: TaskId, rank: u32) -> Option<&mut Supervisor> {
        self.nodes[node].tasks.get_mut(&task)?.supervisors.get_mut(&rank).filter(|one| one.alive)
    }

    /// Tells a supervisor something, and does what it says.
    pub fn feed(&mut self, node: usize, task: TaskId, rank: u32, input: Input) {
        let now_ms = self.node_now(node);
        let Some(supervisor) = self.supervisor(node, task, rank) else { return };
        let before = supervisor.core.phase().clone();
        let mut actions = supervisor.core.step(now_ms, input);
        while !actions.is_empty() {
            let mut more = Vec::new();
            for action in actions {
                match action {
                    Action::Spawn => {
                        let answer = self.spawn(node, task, rank);
                        let Some(supervisor) = self.supervisor(node, task, rank) else { return };
                        more.extend(supervisor.core.step(now_ms, answer));
                    }
                    Action::Signal { signal, .. } => self.signal(node, task, rank, signal),
                    Action::Pause(_) => unreachable!("no job here stands a pause"),
                    Action::KillTree => self.kill_tree(node, task, rank),
                    Action::Record(outcome) => self.record(node, task, rank, outcome),
                }
            }
            actions = more;
        }
        let wall = self.nodes[node].monotonic;
        let now = self.now;
        let Some(supervisor) = self.supervisor(node, task, rank) else { return };
        let changed = *supervisor.core.phase() != before;
        if let Some(deadline) = supervisor.core.deadline() {
            let at = wall.when(deadline as i64).max(now + 1);
            if supervisor.tick_at.is_none_or(|due| at < due || due < now) {
                supervisor.tick_at = Some(at);
                self.at(at, Event::Supervisor(node, task, rank));
            }
        }
        if changed {
            self.look_soon(node, task);
        }
    }

    pub fn supervisor_tick(&mut self, node: usize, task: TaskId, rank: u32) {
        let now = self.now;
        if let Some(supervisor) = self.supervisor(node, task, rank) {
            supervisor.tick_at.take_if(|at| *at <= now);
            self.feed(node, task, rank, Input::Tick);
        }
    }

    fn spawn(&mut self, node: usize, task: TaskId, rank: u32) -> Input {
        let wall = self.nodes[node].wall.at(self.now);
        let Some(folder) = self.nodes[node].tasks.get_mut(&task) else {
            return Input::StartFailed { reason: "no folder".to_owned(), node_fault: true };
        };
        let spec = std::sync::Arc::clone(&folder.spec);
        let Some(supervisor) = folder.supervisors.get_mut(&rank) else {
            return Input::StartFailed { reason: "no folder".to_owned(), node_fault: true };
        };
        supervisor.started_ms = Some(wall);
        let chips = supervisor.worker.chips;
        let pid = self.nodes[node].processes.len() as u64 + 1;
        let fate = self.rng.derive("process").derive_index(task.job).derive_index(u64::from(task.attempt));
        let mut rng = fate.derive_index(u64::from(task.step)).derive_index(u64::from(rank));
        if self.plan.faults && in_1000(&mut rng, 20) {
            let reason = "there is no such program".to_owned();
            self.oracle.has_end(task, rank, &Exit::NotStarted(reason.clone()));
            return Input::StartFailed { reason, node_fault: false };
        }
        let is_script = matches!(spec.start, Start::Script { .. });
        let script = is_script.then(|| Script {
            steps: rng.below(3) as u32,
            at: 0,
            number: None,
            token: spec.job_token.clone(),
            asked: 0,
            worst: 0,
        });
        let mean = if task.step > 0 { 2_000 } else { 5_000 };
        let runs_ms = (rng.exponential(mean) as u64).min(60_000);
        let exit = if in_1000(&mut rng, 100) { Exit::Status(between(&mut rng, 1, 4) as i32) } else { Exit::Status(0) };
        let process = Process {
            alive: true,
            task,
            rank,
            chips,
            ignores_term: in_1000(&mut rng, 150),
            saves: in_1000(&mut rng, 800),
            script,
            rng,
        };
        self.say(format_args!("{node}: {task} rank {rank} runs as {pid}"));
        self.nodes[node].processes.insert(pid, process);
        if let Some(supervisor) = self.supervisor(node, task, rank) {
            supervisor.pid = Some(pid);
        }
        self.starts(node, pid);
        let event = if is_script { ProcessEvent::Goes(0) } else { ProcessEvent::Exits(exit) };
        self.at(self.now + runs_ms / if is_script { 4 } else { 1 }, Event::Process(node, pid, event));
        Input::ChildStarted { pid: pid as i32, since_ms: wall }
    }

    fn living(&mut self, node: usize, task: TaskId, rank: u32) -> Option<(u64, &mut Process)> {
        let pid = self.supervisor(node, task, rank)?.pid?;
        self.nodes[node].processes.get_mut(&pid).filter(|process| process.alive).map(|process| (pid, process))
    }

    fn signal(&mut self, node: usize, task: TaskId, rank: u32, signal: i32) {
        let Some((pid, process)) = self.living(node, task, rank) else { return };
        let after = process.rng.below(1_000);
        let exit = match signal {
            SIGTERM if process.ignores_term => return,
            SIGTERM => Exit::Signal(SIGTERM),
            SAVE if process.saves => Exit::Status(0),
            _ => return,
        };
        self.at(self.now + after, Event::Process(node, pid, ProcessEvent::Exits(exit)));
    }

    fn kill_tree(&mut self, node: usize, task: TaskId, rank: u32) {
        let Some((pid, process)) = self.living(node, task, rank) else { return };
        let after = process.rng.below(20);
        self.at(self.now + after, Event::Process(node, pid, ProcessEvent::Exits(Exit::Signal(9))));
    }

    fn record(&mut self, node: usize, task: TaskId, rank: u32, outcome: Outcome) {
        let ended_ms = self.nodes[node].wall.at(self.now);
        let Some(supervisor) = self.supervisor(node, task, rank) else { return };
        // A worker that was told to start and could not had a start nonetheless.
        let started_ms = supervisor.started_ms;
        supervisor.ended = Some(Ended { exit: outcome.exit, started_ms, ended_ms });
        assert_eq!(*supervisor.core.phase(), Phase::Ended, "it records last of all");
        supervisor.alive = false;
        supervisor.tick_at = None;
        self.look_soon(node, task);
    }

    pub fn kill_some_supervisor(&mut self, node: usize) {
        let it = &mut self.nodes[node];
        let living: Vec<(TaskId, u32)> = it
            .tasks
            .iter()
            .flat_map(|(task, folder)| folder.supervisors.iter().map(move |(rank, one)| (*task, *rank, one.alive)))
            .filter(|(.., alive)| *alive)
            .map(|(task, rank, _)| (task, rank))
            .collect();
        if living.is_empty() {
            return;
        }
        let (task, rank) = living[it.rng.below(living.len() as u64) as usize];
        self.say(format_args!("{node}: the supervisor of {task} rank {rank} is killed"));
        let pid = self.living(node, task, rank).map(|(pid, _)| pid);
        if let Some(supervisor) = self.supervisor(node, task, rank) {
            supervisor.alive = false;
        }
        if let Some(pid) = pid {
            self.ends(node, pid, Exit::Signal(9));
        }
        self.look_soon(node, task);
    }

    /// A process is no more.
    pub fn ends(&mut self, node: usize, pid: u64, exit: Exit) {
        let Some(process) = self.nodes[node].processes.get_mut(&pid).filter(|process| process.alive) else { return };
        process.alive = false;
        let (task, rank) = (process.task, process.rank);
        self.say(format_args!("{node}: {task} rank {rank} ends: {exit:?}"));
        self.oracle.ended(node, pid, (task, rank), &exit);
        self.feed(node, task, rank, Input::ChildExited { exit, out_of_memory: false });
        self.feed(node, task, rank, Input::TreeGone);
    }

    pub fn process_event(&mut self, node: usize, pid: u64, event: ProcessEvent) {
        let Some(process) = self.nodes[node].processes.get_mut(&pid).filter(|process| process.alive) else { return };
        match event {
            ProcessEvent::Exits(exit) => self.ends(node, pid, exit),
            ProcessEvent::Goes(asked) => {
                if process.script.as_ref().is_some_and(|script| script.asked == asked) {
                    self.script_goes_on(node, pid);
                }
            }
        }
    }

    // Scripts.

    fn script_goes_on(&mut self, node: usize, pid: u64) {
        let Some(process) = self.nodes[node].processes.get_mut(&pid) else { return };
        let (task, rng) = (process.task, &mut process.rng);
        let Some(script) = &mut process.script else { return };
        if script.at == script.steps {
            let exit = Exit::Status(script.worst);
            return self.ends(node, pid, exit);
        }
        script.asked += 1;
        let (asked, token) = (script.asked, script.token.clone());
        let from = Place { node, pid, asked };
        let call = match script.number {
            Some(step) => Call::StepPoll { from, token, job: task.job, step },
            None => {
                // The same at each try.
                let mut shape = rng.derive_index(u64::from(script.at));
                let request = StepRequest {
                    command: vec!["work".to_owned()],
                    tasks: in_1000(&mut shape, 400).then(|| between(&mut shape, 1, 5) as u32),
                    nodes: in_1000(&mut shape, 300).then_some(1),
                    node_list: Vec::new(),
                    tasks_per_node: None,
                    cpus_per_task: None,
                    chips_per_task: None,
                    environment: std::collections::BTreeMap::new(),
                    directory: String::new(),
                    output: None,
                    error: None,
                    kill_on_bad_exit: in_1000(&mut shape, 300),
                };
                let key = format!("step {} of {task}", script.at);
                Call::Step { from, token, job: task.job, key, request: Box::new(request) }
            }
        };
        let again = between(&mut process.rng, 800, 2_000);
        self.send(call);
        self.at(self.now + again, Event::Process(node, pid, ProcessEvent::Goes(asked)));
    }

    /// A script has its answer.
    pub fn told_process(&mut self, place: Place, answer: Result<Answer, Problem>) {
        let Place { node, pid, .. } = place;
        let Some(process) = self.nodes[node].processes.get_mut(&pid).filter(|process| process.alive) else { return };
        let task = process.task;
        let Some(script) = process.script.as_mut().filter(|script| script.asked == place.asked) else { return };
        let view = match answer {
            Ok(Answer::Step(view)) => view,
            Ok(_) | Err(Problem { status: 503 | 429, .. }) => return,
            Err(_) => {
                // It cannot start the step, or its job is being ended.
                script.worst = 1;
                script.at = script.steps;
                return;
            }
        };
        assert_eq!((view.job, view.attempt), (task.job, task.attempt), "a script is told of its own steps");
        match script.number {
            None => {
                self.oracle.step_told(task, script.at, view.step);
                script.number = Some(view.step);
            }
            Some(step) if step == view.step && view.state.is_over() => {
                script.worst = script.worst.max(view.exit_code.unwrap_or(1));
                script.number = None;
                script.at += 1;
                script.asked += 1;
                let asked = script.asked;
                self.at(self.now, Event::Process(node, pid, ProcessEvent::Goes(asked)));
            }
            Some(_) => {}
        }
    }
}
