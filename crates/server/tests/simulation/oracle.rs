//! What must be true of every world: the truth as the journal and the processes themselves tell it.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::sync::Arc;

use offtake_engine::{Event as EngineEvent, StopReason};
use offtake_fleet::NodeIx;
use offtake_protocol::agent::{Exit, TaskId};
use offtake_protocol::rest::{JobQuery, JobState, JobView, Problem, Submitted};
use offtake_server::core::Answer;
use offtake_server::fact::{Event, Fact};
use offtake_units::Timestamp;
use offtake_workload::{Job, Program, Start, When};

use crate::clients::{Ask, Told};
use crate::server::{Standing, operator};
use crate::world::World;

#[derive(Default)]
pub struct Oracle {
    jobs: BTreeMap<u64, Truth>,
    /// Every process that ever ran, and how it ended.
    processes: BTreeMap<(TaskId, u32), Option<Exit>>,
    /// Those that run.
    living: BTreeSet<(u64, u32, usize, u64)>,
    prepared: BTreeSet<(usize, TaskId)>,
    /// What was answered under each key, as the journal has it.
    keys: BTreeMap<String, Vec<Submitted>>,
    drains: BTreeSet<String>,
    /// Nodes that take no work.
    lost: BTreeSet<NodeIx>,
    drained: BTreeSet<NodeIx>,
    steps: BTreeSet<TaskId>,
    step_answers: BTreeMap<(TaskId, u32), u32>,
    epoch: u64,
    at: Timestamp,
}

/// A job, as the facts on disk tell it.
struct Truth {
    spec: Arc<Job>,
    /// How often it was placed.
    attempts: u32,
    /// It has its nodes.
    placed: bool,
    /// How often it was placed and never started, since it last did.
    in_vain: u32,
    started_ever: bool,
    stop: Option<StopReason>,
    held_by_user: bool,
    end: Option<JobState>,
    /// Of a service: the fewest replicas that it may have, and those last asked for.
    least_replicas: u32,
    demanded: u32,
    /// Of a service: how many of the wanted replicas may be down by our own will; none for any number.
    budget: Option<u32>,
    /// Of a service: the most replicas that it may have.
    most_replicas: Option<u32>,
    /// Of a service whose maximum was lowered: those that had nodes then, as long as they have not ended for good.
    too_many: u32,
}

impl Truth {
    const fn new(spec: Arc<Job>, held_by_user: bool) -> Self {
        Self {
            spec,
            attempts: 0,
            placed: false,
            in_vain: 0,
            started_ever: false,
            stop: None,
            held_by_user,
            end: None,
            least_replicas: 0,
            demanded: 0,
            budget: None,
            most_replicas: None,
            too_many: 0,
        }
    }

    fn is_replica_of(&self, service: u64) -> bool {
        self.spec.service == Some(service)
    }

    fn program(&self) -> &Program {
        self.spec.program.as_ref().expect("every job here runs something")
    }

    fn is_script(&self) -> bool {
        matches!(self.program().start, Start::Script { .. })
    }

    /// Workers of what was submitted.
    fn ranks(&self) -> u32 {
        if self.is_script() { 1 } else { self.spec.gangs.iter().map(|gang| gang.workers).sum() }
    }
}

impl Oracle {
    pub fn prepared(&mut self, node: usize, task: TaskId) {
        self.prepared.insert((node, task));
    }

    /// A process has ended.
    pub fn ended(&mut self, node: usize, pid: u64, (task, rank): (TaskId, u32), exit: &Exit) {
        self.living.remove(&(task.job, task.attempt, node, pid));
        self.has_end(task, rank, exit);
    }

    /// A worker has ended, or could not even be started.
    pub fn has_end(&mut self, task: TaskId, rank: u32, exit: &Exit) {
        self.processes.insert((task, rank), Some(exit.clone()));
    }

    /// A script has been told the number of one of its steps.
    pub fn step_told(&mut self, task: TaskId, asked: u32, step: u32) {
        let known = *self.step_answers.entry((task, asked)).or_insert(step);
        assert_eq!(known, step, "{task} asked once for step {asked}, and got two");
        assert!(self.steps.contains(&TaskId { step, ..task }), "{task} was told of step {step}, which is not on disk");
    }

    /// As far as a dependency must have come.
    fn is_met(&self, job: u64, when: When) -> bool {
        let Some(other) = self.jobs.get(&job) else { return false };
        match when {
            When::Started => other.started_ever || other.end.is_some(),
            When::Ended => other.end.is_some(),
            When::Succeeded => other.end == Some(JobState::Finished),
            When::Failed => other.end == Some(JobState::Failed),
        }
    }

    /// The replicas of a service that are not over.
    pub fn replicas_of(&self, service: u64) -> Vec<u64> {
        let live = self.jobs.iter().filter(|(_, truth)| truth.is_replica_of(service) && truth.end.is_none());
        live.map(|(id, _)| *id).collect()
    }

    /// Services that nobody has withdrawn.
    pub fn services_left(&self) -> Vec<u64> {
        let stays = |truth: &Truth| truth.most_replicas.is_some() && truth.stop.is_none();
        self.jobs.iter().filter(|(_, truth)| stays(truth)).map(|(id, _)| *id).collect()
    }

    /// Replicas of a service that have nodes.
    fn placed_of(&self, service: u64) -> u32 {
        self.jobs.values().filter(|truth| truth.is_replica_of(service) && truth.placed).count() as u32
    }

    /// A replica that serves is stopped by our own will: enough others serve.
    fn keeps_budget(&self, replica: u64) {
        let is_up = |truth: &Truth| truth.placed && truth.in_vain == 0 && truth.stop.is_none();
        let Some(service) = self.jobs[&replica].spec.service.filter(|_| is_up(&self.jobs[&replica])) else { return };
        let truth = &self.jobs[&service];
        let (Some(budget), Some(most), None) = (truth.budget, truth.most_replicas, truth.stop) else { return };
        let others = self.jobs.iter().filter(|(id, other)| **id != replica && other.is_replica_of(service));
        let left = others.filter(|(_, other)| is_up(other)).count() as u32;
        let wanted = truth.demanded.max(truth.least_replicas).min(most);
        assert!(left + budget >= wanted, "service {service} has {left} of {wanted} left, and may lack {budget}");
    }

    /// One more replica of a service may have nodes.
    fn has_room(&self, service: u64) {
        let (placed, truth) = (self.placed_of(service), &self.jobs[&service]);
        let most = truth.most_replicas.unwrap_or(0).max(truth.too_many);
        assert!(placed < most, "service {service} has {placed} replicas on nodes, and may have {most}");
    }

    fn may_be_placed(&self, job: u64, truth: &Truth, at: Timestamp) {
        assert!(truth.end.is_none(), "job {job} has ended, and is placed");
        assert!(!truth.placed, "job {job} is placed twice");
        assert!(!truth.held_by_user, "job {job} is on hold, and is placed");
        let program = truth.program();
        for dependency in &program.after {
            assert!(self.is_met(dependency.job, dependency.when), "job {job} is placed before {dependency:?}");
        }
        assert!(program.begin.is_none_or(|begin| begin <= at), "job {job} is placed before it may begin");
        if let Some((array, at_once)) = program.array.and_then(|array| Some((array.array, array.at_once?))) {
            let of_array = |other: &&Truth| other.program().array.is_some_and(|of| of.array == array);
            let runs = self.jobs.values().filter(of_array).filter(|other| other.placed).count();
            assert!(runs < at_once as usize, "job {job} is one too many of array {array}");
        }
    }

    /// Why a job may be on hold when all is quiet.
    fn justifies(&self, view: &JobView) -> bool {
        let Some(truth) = self.jobs.get(&view.id) else { return false };
        let program = truth.program();
        let over = |job: u64| self.jobs.get(&job).is_none_or(|other| other.end.is_some());
        match view.reason.as_deref() {
            Some("on hold") => truth.held_by_user,
            Some("on hold: its start failed too often") => truth.in_vain >= 5,
            Some("as many of its array run as may") => program.array.is_some_and(|of| {
                let others = self.jobs.values().filter(|other| other.end.is_none());
                let held = others.filter(|other| other.program().array.is_some_and(|array| array.array == of.array));
                held.filter(|other| other.held_by_user || other.in_vain >= 5 || !other.program().after.is_empty())
                    .count()
                    >= of.at_once.unwrap_or(u32::MAX) as usize
            }),
            Some(text) if text.starts_with("waits for job") => program
                .after
                .iter()
                .any(|dependency| !over(dependency.job) && !self.is_met(dependency.job, dependency.when)),
            _ => false,
        }
    }
}

impl World {
    fn place_of(&self, name: &str) -> usize {
        self.plan.nodes.iter().position(|node| node.name == name).expect("a node of this world")
    }

    // Processes.

    /// A process has started.
    pub fn starts(&mut self, node: usize, pid: u64) {
        let process = &self.nodes[node].processes[&pid];
        let (task, rank, chips) = (process.task, process.rank, process.chips);
        let oracle = &self.oracle;
        assert!(!oracle.processes.contains_key(&(task, rank)), "{task} rank {rank} runs a second time");
        let truth = oracle.jobs.get(&task.job);
        let truth = truth.unwrap_or_else(|| unreachable!("{task} runs, and its job is not on disk"));
        assert!(truth.placed, "{task} runs, and its job has no nodes on disk");
        assert_eq!(truth.attempts, task.attempt, "{task} runs, and is not of the attempt on disk");
        assert!(task.step == 0 || oracle.steps.contains(&task), "{task} runs, and nobody asked for it");
        for (job, attempt, there, other) in &oracle.living {
            let running = &self.nodes[*there].processes[other];
            let same_job = *job == task.job;
            assert!(!same_job || *attempt == task.attempt, "{task} runs while attempt {attempt} does");
            let clash = !same_job && *there == node && running.chips & chips != 0;
            assert!(!clash, "{task} runs on chips of {} on {}", running.task, self.plan.nodes[node].name);
        }
        let spec = &self.nodes[node].tasks[&task].spec;
        if matches!(spec.start, Start::Command(_)) {
            for share in spec.nodes.iter() {
                let there = self.place_of(&share.name);
                assert!(oracle.prepared.contains(&(there, task)), "{task} runs before {} has prepared", share.name);
            }
        }
        self.oracle.processes.insert((task, rank), None);
        self.oracle.living.insert((task.job, task.attempt, node, pid));
    }

    pub fn all_living(&self) -> Vec<TaskId> {
        let task = |(.., node, pid): &(u64, u32, usize, u64)| self.nodes[*node].processes[pid].task;
        self.oracle.living.iter().map(task).collect()
    }

    // Facts.

    /// The core has decided this; it is not on disk yet.
    pub fn proposed(&self, facts: &[Fact]) {
        for fact in facts {
            self.say(format_args!("  decides {}", brief(fact)));
            if let Event::AttemptEnded { job, attempt, .. } = fact.event {
                let lives = self.all_living().into_iter().find(|task| (task.job, task.attempt) == (job, attempt));
                assert_eq!(lives, None, "attempt {attempt} of job {job} is said to have ended, and lives");
            }
            if let Event::StepEnded { job, attempt, step, .. } = fact.event {
                let lives = self.all_living().into_iter().find(|task| *task == TaskId { job, attempt, step });
                assert_eq!(lives, None, "a step is said to have ended, and lives");
            }
        }
    }

    /// A fact has reached the disk.
    pub fn note(&mut self, fact: &Fact) {
        let at = fact.at;
        assert!(at >= self.oracle.at, "facts are in order of time");
        self.oracle.at = at;
        match &fact.event {
            Event::Engine(event) => self.note_engine(at, event),
            Event::ServerStarted { epoch, .. } => {
                assert!(*epoch > self.oracle.epoch, "epochs grow");
                self.oracle.epoch = *epoch;
            }
            Event::Keyed { key, submitted, .. } => {
                let known = self.oracle.keys.insert(key.clone(), submitted.clone());
                assert!(known.is_none(), "{key} was carried out twice");
            }
            Event::HeldByUser { job, held } => self.truth(*job).held_by_user = *held,
            Event::StepAsked { job, attempt, step, .. } => {
                let task = TaskId { job: *job, attempt: *attempt, step: *step };
                assert!(self.oracle.steps.insert(task), "{task} is asked for twice");
            }
            Event::AttemptEnded { job, attempt, exit_code, .. } => {
                let truth = self.truth(*job);
                assert!(
                    truth.placed && truth.attempts == *attempt,
                    "job {job} ends attempt {attempt}, which is not its last"
                );
                if *exit_code == Some(0) {
                    self.all_ended_well(*job, *attempt);
                }
            }
            Event::StepEnded { .. }
            | Event::EnergyMetered { .. }
            | Event::AgentJoined { .. }
            | Event::AgentChanged { .. }
            | Event::TokenMade { .. }
            | Event::TokenRevoked { .. }
            | Event::JoinTokenMade { .. } => {}
        }
    }

    fn truth(&mut self, job: u64) -> &mut Truth {
        let truth = self.oracle.jobs.get_mut(&job);
        truth.unwrap_or_else(|| unreachable!("job {job} was never submitted"))
    }

    fn note_engine(&mut self, at: Timestamp, event: &EngineEvent) {
        match event {
            EngineEvent::JobSubmitted { job, spec } => {
                let held_by_user = spec.program.as_ref().is_some_and(|program| program.hold);
                let truth = Truth::new(Arc::clone(spec), held_by_user);
                assert!(self.oracle.jobs.insert(job.0, truth).is_none(), "job {} is submitted twice", job.0);
            }
            EngineEvent::JobPlaced { job, placement } => {
                let out = |node: &NodeIx| self.oracle.lost.contains(node) || self.oracle.drained.contains(node);
                let nodes = placement.nodes();
                let bad = nodes.iter().flat_map(|range| range.numbers()).map(NodeIx).find(out);
                assert_eq!(bad, None, "job {} is placed on a node that takes no work", job.0);
                let truth = self.truth(job.0);
                truth.stop = None;
                let service = truth.spec.service;
                service.into_iter().for_each(|service| self.oracle.has_room(service));
                self.oracle.may_be_placed(job.0, &self.oracle.jobs[&job.0], at);
                let truth = self.truth(job.0);
                truth.attempts += 1;
                truth.in_vain += 1;
                truth.placed = true;
            }
            EngineEvent::JobStarted { job } => {
                let truth = self.truth(job.0);
                truth.started_ever = true;
                truth.in_vain = 0;
                let (attempt, ranks) = (truth.attempts, truth.ranks());
                let task = TaskId { job: job.0, attempt, step: 0 };
                for rank in 0..ranks {
                    assert!(
                        self.oracle.processes.contains_key(&(task, rank)),
                        "{task} has started without rank {rank}"
                    );
                }
            }
            EngineEvent::JobStopping { job, reason, .. } => {
                if let StopReason::Preempted { by } = reason {
                    let (stronger, weaker) = (&self.oracle.jobs[&by.0], &self.oracle.jobs[&job.0]);
                    assert!(!stronger.placed && stronger.end.is_none(), "job {} does not wait for room", by.0);
                    assert!(stronger.spec.tier < weaker.spec.tier, "job {} is as strong as job {}", job.0, by.0);
                    assert!(weaker.program().requeue, "job {} would not start again", job.0);
                    assert_eq!(weaker.stop, None, "job {} is being stopped already", job.0);
                }
                if let StopReason::Reclaimed { by } = reason {
                    let (owner, borrower) = (&self.oracle.jobs[&by.0], &self.oracle.jobs[&job.0]);
                    assert!(!owner.placed && owner.end.is_none(), "job {} does not wait for quota", by.0);
                    assert_eq!(owner.spec.tier, borrower.spec.tier, "job {} is of another tier", job.0);
                    assert_eq!(borrower.stop, None, "job {} is being stopped already", job.0);
                }
                if let StopReason::Preempted { .. } | StopReason::Drained | StopReason::Retired = reason {
                    self.oracle.keeps_budget(job.0);
                }
                let truth = self.truth(job.0);
                assert!(truth.placed, "job {} is stopped, and does not run", job.0);
                assert_ne!(truth.stop, Some(StopReason::Cancelled), "nothing undoes a cancellation");
                let undone = truth.stop == Some(StopReason::Retired) && *reason != StopReason::Cancelled;
                assert!(!undone, "replica {} is wanted no more, and stopped as {reason:?}", job.0);
                truth.stop = Some(*reason);
            }
            EngineEvent::JobRequeued { job, .. } => {
                let truth = self.truth(job.0);
                assert!(truth.placed && truth.stop != Some(StopReason::Cancelled));
                assert_ne!(truth.stop, Some(StopReason::Retired), "replica {} is wanted no more", job.0);
                truth.placed = false;
            }
            EngineEvent::NodesSwapped { job, swaps, .. } => {
                let out = |node: NodeIx| self.oracle.lost.contains(&node) || self.oracle.drained.contains(&node);
                let right = |(from, to): &(NodeIx, NodeIx)| out(*from) && !out(*to);
                assert!(swaps.iter().all(right), "job {}: sound nodes take the places of others", job.0);
                let truth = self.truth(job.0);
                assert!(truth.placed && truth.stop != Some(StopReason::Cancelled));
                truth.stop = None;
                truth.attempts += 1;
                truth.in_vain += 1;
            }
            EngineEvent::JobReleased { job } => assert!(!self.truth(job.0).held_by_user, "job {} is on hold", job.0),
            EngineEvent::JobFinished { job } => {
                let truth = self.truth(job.0);
                let attempt = truth.attempts;
                assert!(truth.placed);
                self.ends_for_good(job.0, JobState::Finished);
                self.all_ended_well(job.0, attempt);
            }
            EngineEvent::JobFailed { job } => self.ends_for_good(job.0, JobState::Failed),
            EngineEvent::JobCancelled { job } => self.ends_for_good(job.0, JobState::Cancelled),
            EngineEvent::ServiceSubmitted { service, spec } => {
                let replica = Job {
                    tier: spec.tier,
                    gangs: vec![spec.replica.clone()],
                    program: spec.program.clone(),
                    ..Job::default()
                };
                let truth = Truth {
                    least_replicas: spec.minimum,
                    demanded: spec.minimum,
                    budget: spec.disruption_budget,
                    most_replicas: Some(spec.maximum),
                    ..Truth::new(Arc::new(replica), false)
                };
                assert!(
                    self.oracle.jobs.insert(service.0, truth).is_none(),
                    "service {} is submitted twice",
                    service.0
                );
            }
            EngineEvent::ServiceScaled { service, replicas } => self.truth(service.0).demanded = *replicas,
            EngineEvent::ServiceBounded { service, minimum, maximum } => {
                let placed = self.oracle.placed_of(service.0);
                let truth = self.truth(service.0);
                truth.least_replicas = *minimum;
                (truth.most_replicas, truth.too_many) = (Some(*maximum), placed);
            }
            EngineEvent::ServiceCancelled { service } => {
                let truth = self.truth(service.0);
                assert_eq!(truth.end, None, "service {} is over", service.0);
                truth.stop = Some(StopReason::Cancelled);
                self.replica_ended(service.0);
            }
            EngineEvent::ReplicaAdded { service, replica } => {
                let known = self.truth(service.0);
                assert!(known.stop.is_none(), "service {} is withdrawn, and gets a replica", service.0);
                let spec = Job { service: Some(service.0), ..(*known.spec).clone() };
                let truth = Truth::new(Arc::new(spec), false);
                assert!(self.oracle.jobs.insert(replica.0, truth).is_none(), "replica {} is there twice", replica.0);
            }
            EngineEvent::ReplicaRetired { replica, .. } => self.ends_for_good(replica.0, JobState::Cancelled),
            EngineEvent::NodeLost { node } => drop(self.oracle.lost.insert(*node)),
            EngineEvent::NodeReturned { node } => drop(self.oracle.lost.remove(node)),
            EngineEvent::NodeDrained { node, reason } => {
                let first = self.oracle.drains.insert(reason.clone());
                assert!(first || reason.starts_with("health"), "one drain was carried out twice: {reason}");
                self.oracle.drained.insert(*node);
            }
            EngineEvent::NodeResumed { node } => drop(self.oracle.drained.remove(node)),
            _ => {}
        }
    }

    fn ends_for_good(&mut self, job: u64, state: JobState) {
        let truth = self.truth(job);
        assert_eq!(truth.end, None, "job {job} ends twice");
        truth.end = Some(state);
        truth.placed = false;
        let service = truth.spec.service;
        let lives = self.all_living().into_iter().find(|task| task.job == job);
        assert_eq!(lives, None, "job {job} has ended, and lives");
        service.into_iter().for_each(|service| self.replica_ended(service));
    }

    /// A service that was withdrawn is over with its last replica.
    fn replica_ended(&mut self, service: u64) {
        let placed = self.oracle.placed_of(service);
        let truth = self.truth(service);
        truth.too_many = truth.too_many.min(placed);
        if self.oracle.replicas_of(service).is_empty() && self.truth(service).stop.is_some() {
            self.truth(service).end = Some(JobState::Cancelled);
        }
    }

    fn all_ended_well(&self, job: u64, attempt: u32) {
        let task = TaskId { job, attempt, step: 0 };
        for rank in 0..self.oracle.jobs[&job].ranks() {
            let exit = self.oracle.processes.get(&(task, rank));
            assert_eq!(exit, Some(&Some(Exit::Status(0))), "{task} is said to have ended well: rank {rank}");
        }
    }

    // Answers.

    /// An answer is let out: what it says is on disk.
    pub fn said(&self, ask: usize, answer: &Result<Answer, Problem>) {
        let key = format!("key {ask}");
        if let Err(problem) = answer
            && let Some(jobs) = self.oracle.keys.get(&key).filter(|jobs| !jobs.is_empty())
        {
            assert_eq!(problem.status, 503, "{key} was accepted as {jobs:?}, and now is not");
        }
        match answer {
            Ok(Answer::Submitted(batch)) => {
                assert_eq!(self.oracle.keys.get(&key), Some(&batch.jobs), "{key}: the answer is that on disk");
                for id in batch.jobs.iter().flat_map(|one| one.id..one.id + u64::from(one.count)) {
                    assert!(self.oracle.jobs.contains_key(&id), "job {id} was accepted, and is not on disk");
                }
            }
            Ok(Answer::Job(view)) => {
                assert!(self.oracle.keys.contains_key(&key), "{key} was answered, and is not on disk");
                let truth = &self.oracle.jobs[&view.id];
                assert!(view.attempts <= truth.attempts, "job {} was said to be placed, and is not on disk", view.id);
                assert!(!view.state.is_over() || truth.end == Some(view.state), "job {} was said to be over", view.id);
                if let Ask::Cancel { signal: None, .. } = self.clients.asks[ask].ask {
                    let cancelled = truth.stop == Some(StopReason::Cancelled) || truth.end.is_some();
                    assert!(cancelled, "job {} was said to be cancelled", view.id);
                }
            }
            Ok(_) => assert!(self.oracle.keys.contains_key(&key), "{key} was answered, and is not on disk"),
            Err(problem) => {
                assert!(problem.status < 500 || problem.status == 503, "ask {ask}: {problem:?}");
            }
        }
    }

    // The end.

    pub fn drained(&self) -> Vec<String> {
        let Some(core) = &self.server.core else { return Vec::new() };
        let drained = self.oracle.drained.iter().filter_map(|at| core.nodes(&operator()).get(at.ix()).cloned());
        drained.map(|node| node.name).collect()
    }

    fn jobs_left(&self) -> Vec<JobView> {
        let Some(core) = &self.server.core else { return Vec::new() };
        core.live_jobs(&operator(), &JobQuery::default()).expect("a plain query")
    }

    pub fn is_quiet(&self) -> bool {
        let idle = self.nodes.iter().all(|node| node.tasks.is_empty());
        idle && self.server.standing == Standing::Up
            && self.disk.queue.is_empty()
            && self.all_living().is_empty()
            && self.clients.all_told()
            && self.jobs_left().iter().all(|job| job.state == JobState::Held && self.oracle.justifies(job))
    }

    pub fn what_is_left(&self) -> String {
        let mut text = format!("server {:?}; alive: {:?}", self.server.standing, self.all_living());
        for job in self.jobs_left() {
            let _ = write!(text, "\n  job {} {:?} {:?} on {:?}", job.id, job.state, job.reason, job.nodes);
        }
        for (at, node) in self.nodes.iter().enumerate().filter(|(_, node)| !node.tasks.is_empty()) {
            let _ = write!(text, "\n  node {at} (agent: {}): {:?}", node.agent.is_some(), node.tasks.keys());
        }
        for (at, asked) in self.clients.asks.iter().enumerate().filter(|(_, asked)| asked.told.is_none()) {
            let _ = write!(text, "\n  ask {at} has no answer: {:?}", asked.ask);
        }
        text
    }

    /// When all is quiet.
    pub fn last_check(&mut self) {
        assert!(self.is_quiet(), "{}", self.what_is_left());
        let core = self.server.core.as_ref().expect("it is up");
        assert_eq!(core.state().check(), Ok(()));
        for node in core.nodes(&operator()) {
            let used = (node.chip_milli_in_use, node.cpu_milli_in_use, node.memory_mib_in_use, node.jobs.len());
            assert_eq!(used, (0, 0, 0, 0), "node {} has something in use", node.name);
        }
        for (id, truth) in &self.oracle.jobs {
            let state = core.job(&operator(), *id).map(|detail| detail.job.state);
            let expected = truth.end.unwrap_or(JobState::Held);
            assert_eq!(state, Some(expected), "job {id}");
        }
        let keyed: Vec<u64> = self
            .oracle
            .keys
            .iter()
            // Those of steps name steps.
            .filter(|(key, _)| key.starts_with("key"))
            .flat_map(|(_, submitted)| submitted)
            .flat_map(|submitted| submitted.id..submitted.id + u64::from(submitted.count))
            .collect();
        let each: BTreeSet<u64> = keyed.iter().copied().collect();
        assert_eq!(each.len(), keyed.len(), "two keys, one job");
        let asked_for = self.oracle.jobs.iter().filter(|(_, truth)| truth.spec.service.is_none()).map(|(id, _)| id);
        assert!(each.iter().eq(asked_for), "each job was asked for once");
        for (ask, asked) in self.clients.asks.iter().enumerate() {
            match (&asked.ask, &asked.told) {
                (Ask::Submit(_), Some(Ok(Told::Submitted(jobs)))) => {
                    assert_eq!(
                        self.oracle.keys.get(&format!("key {ask}")),
                        Some(jobs),
                        "what was acknowledged is there"
                    );
                }
                (Ask::Cancel { job, signal: None, .. }, Some(Ok(_))) => {
                    assert_eq!(self.oracle.jobs[job].end, Some(JobState::Cancelled), "job {job} was cancelled");
                }
                _ => {}
            }
        }
    }
}

/// A fact in few words.
fn brief(fact: &Fact) -> String {
    match &fact.event {
        Event::Engine(EngineEvent::FleetLoaded { .. }) => "fleet loaded".to_owned(),
        Event::Engine(EngineEvent::FleetChanged { fleet }) => format!("fleet changed: {} nodes", fleet.nodes.len()),
        Event::Engine(EngineEvent::JobSubmitted { job, spec }) => format!("submitted {} {:?}", job.0, spec.gangs),
        Event::Engine(event) => format!("{event:?}"),
        event => format!("{event:?}"),
    }
}
