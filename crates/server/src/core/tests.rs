//! The core with agents that do at once what they are told.

mod grid;
mod limits;
mod metered;
mod services;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;

use offtake_engine::{Health, JobId, Phase, Policy, Preemption};
use offtake_fleet::{Fleet, NodeIx};
use offtake_protocol::agent::{
    Condition, Edition, EnergySource, Exit, Join, Limited, NodeDescription, Orders, Report, TaskEnd, TaskId, TaskPhase,
    TaskReport, VERSION, Want, WorkerEnd,
};
use offtake_protocol::rest::{JobState, PolicyInForce, Problem};
use offtake_units::{Duration, Mebibytes, Timestamp};
use offtake_workload::{JobFile, User};

use super::{Access, Answer, Caller, Command, Core, Fact, Input, Key, Settings};
use crate::fact::Event;

/// Weaker work is stopped for stronger work at once.
fn preempting() -> Settings {
    let policy = Policy::named("offtake", 0).expect("it has a name");
    let preemption = Preemption { minimum_run: [Duration::ZERO; 4], ..Preemption::default() };
    Settings { policy: Some(Policy { preemption: Some(preemption), ..policy }), ..settings() }
}

const START: i64 = 1_790_000_000_000;

fn settings() -> Settings {
    Settings {
        lease: Duration::from_secs(30),
        prepare_timeout: Duration::from_secs(60),
        secret: [7; 32],
        tenants: BTreeMap::new(),
        version: "test".to_owned(),
        most_jobs: 1000,
        policy: None,
    }
}

/// What a test agent does with the tasks that it is given.
#[derive(Default)]
struct Agent {
    version: u64,
    seen: Edition,
    tasks: BTreeMap<TaskId, (TaskPhase, Vec<u32>)>,
    paused: BTreeSet<TaskId>,
    limited: Limited,
}

/// What agents do with power limits.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Limiting {
    Unable,
    Obeys,
    /// They do not report at all.
    AreSilent,
    /// Their drivers refuse.
    Fails,
}

struct World {
    core: Core,
    declared: Option<Arc<Fleet>>,
    now: i64,
    ticket: u64,
    journal: Vec<Fact>,
    agents: BTreeMap<String, Agent>,
    /// Nodes whose health check fails, and what it says.
    unfit: BTreeMap<String, String>,
    /// What the sensors of nodes show.
    sensors_mw: BTreeMap<String, u64>,
    /// How workers end when they are let; none while they run on.
    exit: Option<Exit>,
    /// Workers that are asked to stop go on until they are killed.
    stubborn: bool,
    limiting: Limiting,
}

fn operator() -> Caller {
    Caller { name: "root".to_owned(), access: Access::Operator, user: Some(User::Id(0)) }
}

fn member(tenant: &str) -> Caller {
    Caller { name: tenant.to_owned(), access: Access::Member(tenant.to_owned()), user: Some(User::Id(1000)) }
}

impl World {
    fn new(nodes: &[&str]) -> Self {
        Self::with(settings(), nodes)
    }

    fn with(settings: Settings, nodes: &[&str]) -> Self {
        let mut world = Self::on(settings, None);
        nodes.iter().for_each(|node| world.join(node));
        world
    }

    /// A server that has a fleet declared, or none.
    fn on(settings: Settings, declared: Option<Arc<Fleet>>) -> Self {
        let mut world = Self {
            core: Core::new(settings),
            declared,
            now: START,
            ticket: 0,
            journal: Vec::new(),
            agents: BTreeMap::new(),
            unfit: BTreeMap::new(),
            sensors_mw: BTreeMap::new(),
            exit: None,
            stubborn: false,
            limiting: Limiting::Unable,
        };
        world.core.open(Timestamp::from_millis(world.now), 1, world.declared.clone());
        world.flush();
        world
    }

    /// With a fleet declared, of one site with such keys and such caps, all of whose nodes have joined.
    fn declared(site: &str, caps: &str) -> Self {
        let fleet = Self::fleet(site, caps);
        let mut world = Self::on(settings(), Some(Arc::clone(&fleet)));
        (0..fleet.nodes.len() as u32).for_each(|node| world.join(&fleet.node_name(NodeIx(node))));
        world
    }

    fn fleet(site: &str, caps: &str) -> Arc<Fleet> {
        let text = format!(
            r#"
            name = "declared"
            levels = ["site"]
            accelerators.h100 = {{ idle_watts = 100, operating_watts = 600, peak_watts = 700, power_levels = [
                {{ name = "low", power = 0.5, speed = 0.8, basis = "assumed", source = "a test" }},
            ] }}
            node_kinds.node = {{ accelerator = "h100", chips = 4, cpu_cores = 8, memory_gib = 16, base_watts = 500 }}
            sites.here = {{ pue = 1.0, {site} }}
            {caps}
            "#
        );
        let fleet = offtake_fleet::parse(&text, "test fleet", Path::new(""), &BTreeMap::new()).expect("it is valid");
        Arc::new(fleet)
    }

    fn join(&mut self, node: &str) {
        let token = format!("token of {node}");
        let made = Event::JoinTokenMade {
            digest: super::access::sha256_hex(token.as_bytes()),
            node: None,
            expires: Timestamp::from_millis(self.now + 1000),
        };
        let answer = offtake_protocol::rest::JoinTokenMade { token: token.clone(), expires_ms: self.now + 1000 };
        self.ask(&operator(), Command::MakeJoinToken { made: Box::new(made), answer }).expect("a token is made");
        let description = NodeDescription {
            protocol: VERSION,
            agent_version: "test".to_owned(),
            name: node.to_owned(),
            address: format!("{node}.example"),
            cpus: 8,
            memory: Mebibytes::new(16_384),
            accelerator: Some("h100".to_owned()),
            chips: 4,
            chip_memory: None,
            chip_watts: None,
            attributes: BTreeMap::new(),
            isolation: offtake_protocol::agent::Isolation::default(),
            power_sources: Vec::new(),
        };
        self.ticket += 1;
        let join = Join { token, public_key: format!("key of {node}"), node: description };
        self.core.handle(Timestamp::from_millis(self.now), Input::Join { ticket: self.ticket, join });
        self.pass().expect("the node joins");
        self.agents.insert(node.to_owned(), Agent::default());
        self.exchange(node);
    }

    fn flush(&mut self) -> Option<Result<Answer, Problem>> {
        let batch = self.core.take();
        self.journal.extend(batch.facts);
        let ticket = self.ticket;
        batch.replies.into_iter().find(|reply| reply.ticket == ticket).map(|reply| reply.answer)
    }

    fn pass(&mut self) -> Result<Answer, Problem> {
        self.core.pass(Timestamp::from_millis(self.now));
        self.core.state().check().expect("the engine's account is right");
        self.flush().expect("there is an answer")
    }

    fn ask(&mut self, caller: &Caller, command: Command) -> Result<Answer, Problem> {
        self.ask_once(caller, None, command)
    }

    fn ask_once(&mut self, caller: &Caller, key: Option<Key>, command: Command) -> Result<Answer, Problem> {
        self.ticket += 1;
        let input = Input::Command { ticket: self.ticket, caller: caller.clone(), key, command };
        self.core.handle(Timestamp::from_millis(self.now), input);
        self.pass()
    }

    fn submit(&mut self, job: &str) -> u64 {
        let file: JobFile = serde_json::from_str(job).expect("a job file");
        match self.ask(&operator(), Command::Submit(vec![file])) {
            Ok(Answer::Submitted(batch)) => batch.jobs[0].id,
            other => unreachable!("{other:?}"),
        }
    }

    /// The agent reports, and does what it is told.
    fn exchange(&mut self, node: &str) -> Orders {
        self.ticket += 1;
        let agent = self.agents.get_mut(node).expect("a known agent");
        agent.version += 1;
        let tasks = agent.tasks.iter().map(|(task, (phase, _))| TaskReport {
            task: *task,
            phase: phase.clone(),
            paused: agent.paused.contains(task),
        });
        let report = Report {
            session: 1,
            version: agent.version,
            seen: agent.seen,
            wait_ms: 0,
            tasks: tasks.collect(),
            limits: (self.limiting != Limiting::Unable).then(|| agent.limited.clone()),
            condition: Some(Condition {
                unhealthy: self.unfit.get(node).cloned(),
                power_mw: self.sensors_mw.get(node).copied(),
                power_source: self.sensors_mw.get(node).map(|_| EnergySource::Node),
                ..Condition::default()
            }),
            leaves: false,
        };
        let input = Input::Report { ticket: self.ticket, node: node.to_owned(), report };
        self.core.handle(Timestamp::from_millis(self.now), input);
        let Ok(Answer::Orders(orders)) = self.pass() else { unreachable!("orders answer a report") };
        let exit = self.exit.clone();
        let agent = self.agents.get_mut(node).expect("a known agent");
        agent.seen = orders.edition;
        match (&orders.limits, self.limiting) {
            (Some(limits), Limiting::Obeys) => agent.limited.set.clone_from(limits),
            (Some(limits), Limiting::Fails) if !limits.is_empty() => {
                agent.limited.failed = Some("chip 0: no permission".to_owned());
            }
            _ => {}
        }
        if self.limiting == Limiting::Obeys {
            agent.paused = orders.tasks.iter().filter(|order| order.paused).map(|order| order.task).collect();
        }
        agent.tasks.retain(|task, _| orders.tasks.iter().any(|order| order.task == *task));
        for order in &orders.tasks {
            if let Some(spec) = &order.spec {
                let ranks = spec.workers.iter().map(|worker| worker.rank).collect();
                agent.tasks.entry(order.task).or_insert((TaskPhase::Preparing, ranks));
            }
            let Some((phase, ranks)) = agent.tasks.get_mut(&order.task) else { continue };
            let next = match (order.want, &phase, &exit) {
                (_, TaskPhase::Ended(_), _) => continue,
                (Want::Prepare, ..) => TaskPhase::Prepared,
                (Want::Run, TaskPhase::Running { .. }, Some(exit)) => TaskPhase::Ended(end(ranks, exit)),
                (Want::Run, ..) => TaskPhase::Running { since_ms: self.now },
                (Want::Stop, ..) if self.stubborn => continue,
                (Want::Stop | Want::Kill, ..) => TaskPhase::Ended(end(ranks, &Exit::Signal(15))),
            };
            *phase = next;
        }
        (*orders).clone()
    }

    /// Lets all agents report until nothing more comes of it.
    fn settle(&mut self) {
        if self.limiting == Limiting::AreSilent {
            self.core.pass(Timestamp::from_millis(self.now));
            self.flush();
            return;
        }
        for _ in 0..6 {
            let nodes: Vec<String> = self.agents.keys().cloned().collect();
            nodes.iter().for_each(|node| drop(self.exchange(node)));
        }
    }

    fn state(&self, job: u64) -> JobState {
        self.core.job(&operator(), job).expect("a known job").job.state
    }

    /// A new server on the same journal.
    fn restart(&mut self) {
        let before = self.core.state().essence();
        let settings = Settings { policy: None, ..self.core.settings.clone() };
        let mut core = Core::new(settings.clone());
        self.journal.iter().for_each(|fact| core.apply(fact));
        assert_eq!(core.state().essence(), before, "the fold of the journal is the state");
        let image = serde_json::to_string(&self.core.image()).expect("an image is data");
        let image = serde_json::from_str(&image).expect("an image is read back");
        let restored = Core::restore(image, settings).expect("an image holds together");
        assert_eq!(restored.state().essence(), before);
        self.core = restored;
        let epoch = self.core.epoch() + 1;
        self.core.open(Timestamp::from_millis(self.now), epoch, self.declared.clone());
        self.flush();
    }
}

#[test]
fn readings_that_cannot_be_meant_are_not_taken() {
    let mut world = World::declared("nodes = { node = 1 }", "");
    let job = world.submit(r#"{"command":["train"],"gangs":[{"workers":1,"chips":4,"memory":"1 GiB"}]}"#);
    world.settle();
    world.now += 3_600_000;
    // An hour of 2.9 kW is 10.4 MJ; the counter has jumped.
    for (read_mj, told) in [(11_000_000_000, EnergySource::ChipCounter), (11_000_000_000_000, EnergySource::Model)] {
        let mut core = Core::restore(world.core.image(), world.core.settings.clone()).expect("an image holds together");
        core.open(Timestamp::from_millis(world.now), 2, world.declared.clone());
        let record = core.records.get_mut(&job).expect("a known job");
        let task = &mut record.live_mut().expect("it runs").steps.get_mut(&0).expect("its step").tasks[0];
        task.end = Some(TaskEnd {
            energy_mj: read_mj,
            energy_source: EnergySource::ChipCounter,
            ..end(&[0], &Exit::Status(0))
        });
        let record = &core.records[&job];
        assert_eq!(core.energy_of(record, record.live().expect("it runs")).1, told);
    }
    let power = |world: &World| {
        let node = world.core.node(&operator(), "here/n0").expect("a known node");
        (node.power_w, node.power_source)
    };
    for (read_mw, told) in [(3_100_000, (3_100, EnergySource::Node)), (3_100_000_000, (2_900, EnergySource::Model))] {
        let name = world.core.names[0].clone();
        let condition =
            Condition { power_mw: Some(read_mw), power_source: Some(EnergySource::Node), ..Condition::default() };
        world.core.nodes.get_mut(&name).expect("it has joined").now.condition = condition;
        assert_eq!(power(&world), told);
    }
}

fn end(ranks: &[u32], exit: &Exit) -> TaskEnd {
    let worker = |rank: &u32| WorkerEnd { rank: *rank, exit: exit.clone(), started_ms: 0, ended_ms: 0 };
    TaskEnd {
        refused: None,
        workers: ranks.iter().map(worker).collect(),
        energy_mj: 0,
        energy_source: EnergySource::Model,
        cpu_ms: None,
        peak_memory_kib: None,
    }
}

const GANG: &str = r#"{"command": ["work"], "gangs": [{"workers": 2, "chips": 4, "cpu_milli": 1000}], "restarts": 1}"#;
#[test]
fn ranks_lie_in_the_order_of_the_placement() {
    let mut world = World::new(&["d", "b", "a", "c"]);
    let job = world.submit(r#"{"command": ["work"], "gangs": [{"workers": 8, "chips": 2, "cpu_milli": 1000}]}"#);
    let mut found = Vec::new();
    for node in ["a", "b", "c", "d"] {
        for order in world.exchange(node).tasks {
            let spec = order.spec.expect("a new task is described");
            assert_eq!(spec.domain, world.core.state().fleet().sites[0].name);
            assert_eq!(spec.nodes[spec.node_rank as usize].name, node, "its place among the nodes is its own");
            found.extend(spec.workers.iter().map(|worker| (worker.rank, node.to_owned())));
        }
    }
    found.sort();
    let Some(Phase::Running { placement, .. }) = world.core.state().job(JobId(job)).map(|work| &work.phase) else {
        unreachable!("the job has its nodes")
    };
    let fleet = world.core.state().fleet();
    let placed: Vec<(u32, String)> = placement
        .slots()
        .flat_map(|slot| slot.nodes.numbers().flat_map(move |node| (0..slot.workers).map(move |_| NodeIx(node))))
        .zip(0..)
        .map(|(node, rank)| (rank, fleet.node_name(node)))
        .collect();
    assert_eq!(found, placed);
}

const ONE: &str = r#"{"command": ["work"]}"#;

#[test]
fn a_gang_runs_on_two_nodes_and_finishes() {
    let mut world = World::new(&["a", "b"]);
    let job = world.submit(GANG);
    assert_eq!(world.state(job), JobState::Starting);
    let orders = world.exchange("a");
    assert_eq!(orders.tasks[0].want, Want::Prepare, "one node alone does not start");
    world.settle();
    assert_eq!(world.state(job), JobState::Running);
    world.exit = Some(Exit::Status(0));
    world.settle();
    assert_eq!(world.state(job), JobState::Finished);
    assert!(world.agents.values().all(|agent| agent.tasks.is_empty()), "agents forget what is on disk");
    let detail = world.core.job(&operator(), job).expect("it is known");
    assert_eq!(detail.job.nodes, ["a", "b"]);
    assert_eq!(detail.job.exit_code, Some(0));
    assert_eq!(detail.receipt.goodput, 1.0);
}

#[test]
fn a_failed_worker_restarts_the_gang_as_often_as_it_may() {
    let mut world = World::new(&["a", "b"]);
    let job = world.submit(GANG);
    world.settle();
    world.exit = Some(Exit::Status(3));
    world.settle();
    world.settle();
    assert_eq!(world.state(job), JobState::Failed);
    let detail = world.core.job(&operator(), job).expect("it is known");
    assert_eq!(detail.attempts.len(), 2);
    assert_eq!(detail.job.exit_code, Some(3));
    assert_eq!(detail.job.reason.as_deref(), Some("worker 0 on a ended with status 3"));
}

#[test]
fn a_silent_node_is_lost_after_its_lease_and_not_before() {
    let mut world = World::new(&["a", "b"]);
    let job = world.submit(ONE);
    world.settle();
    assert_eq!(world.state(job), JobState::Running);
    let node = world.core.job(&operator(), job).expect("it is known").job.nodes[0].clone();
    world.agents.remove(&node);
    world.now += 29_999;
    world.settle();
    assert_eq!(world.state(job), JobState::Running);
    world.now += 1;
    world.settle();
    let detail = world.core.job(&operator(), job).expect("it is known");
    assert_eq!((detail.job.state, detail.job.attempts), (JobState::Running, 2));
    assert_ne!(detail.job.nodes[0], node);
    assert_eq!(world.core.figures().leases_expired, 1);
}

#[test]
fn a_script_starts_again_when_a_node_without_it_is_lost() {
    let mut world = World::new(&["a", "b", "c"]);
    let script = r##"{"script": "#!/bin/sh\nsrun work\n", "gangs": [{"workers": 2, "chips": 4, "cpu_milli": 1000}]}"##;
    let job = world.submit(script);
    world.settle();
    let nodes = world.core.job(&operator(), job).expect("it is known").job.nodes;
    assert_eq!((world.state(job), nodes.len()), (JobState::Running, 2));
    world.agents.remove(&nodes[1]);
    world.now += 29_999;
    world.settle();
    world.now += 1;
    world.settle();
    let detail = world.core.job(&operator(), job).expect("it is known");
    assert_eq!((detail.job.state, detail.job.attempts), (JobState::Running, 2));
    assert!(!detail.job.nodes.contains(&nodes[1]), "{:?}", detail.job.nodes);
    assert_eq!(detail.attempts[0].outcome.as_deref(), Some("a node was lost"));
}

#[test]
fn a_gang_with_spares_goes_on_without_waiting_when_nodes_are_lost() {
    let mut world = World::new(&["a", "b", "c", "d"]);
    let gang = r#"{"command": ["train"], "checkpoint_interval": "10s", "checkpoint_size": "1GB",
        "gangs": [{"workers": 2, "chips": 4, "cpu_milli": 1000, "spares": 2}]}"#;
    let job = world.submit(gang);
    world.settle();
    let other = world.submit(r#"{"command": ["work"], "gangs": [{"workers": 1, "chips": 4, "cpu_milli": 1000}]}"#);
    world.settle();
    let first = world.core.job(&operator(), job).expect("it is known").job.nodes;
    assert_eq!((first.len(), world.state(other)), (2, JobState::Pending), "spares are the job's own");
    for node in &first {
        world.agents.remove(node);
    }
    world.now += 29_999;
    world.settle();
    world.now += 1;
    world.settle();
    let detail = world.core.job(&operator(), job).expect("it is known");
    assert_eq!((detail.job.state, detail.job.attempts), (JobState::Running, 2));
    assert!(detail.job.nodes.iter().all(|node| !first.contains(node)), "{:?}", detail.job.nodes);
    assert_eq!(world.state(other), JobState::Pending, "nobody came between");
    let facts = || world.journal.iter().map(|fact| &fact.event);
    let swapped = |event: &&Event| match event {
        Event::Engine(offtake_engine::Event::NodesSwapped { swaps, saved_until, .. }) => {
            swaps.len() == 2 && *saved_until == Some(Timestamp::from_millis(START + 30_000))
        }
        _ => false,
    };
    assert_eq!(facts().filter(swapped).count(), 1, "from the last checkpoint that it must have made");
    let requeued = |event: &&Event| matches!(event, Event::Engine(offtake_engine::Event::JobRequeued { .. }));
    assert_eq!(facts().filter(requeued).count(), 0);
    world.restart();
    world.settle();
    assert_eq!(world.state(job), JobState::Running);
    // Without a spare that is sound it waits for one.
    let second = world.core.job(&operator(), job).expect("it is known").job.nodes;
    world.agents.remove(&second[0]);
    world.now += 29_999;
    world.settle();
    world.now += 1;
    world.settle();
    let detail = world.core.job(&operator(), job).expect("it is known");
    assert_eq!((detail.job.state, world.state(other)), (JobState::Pending, JobState::Running));
}

#[test]
fn nodes_and_jobs_that_harm_each_other_are_told_apart() {
    let policy = Policy::named("offtake", 0).expect("it has a name");
    let health = Health { hold_jobs_after: 2, drain_nodes_after: 2, burn_in: Duration::HOUR, ..Health::default() };
    let settings = Settings { policy: Some(Policy { health: Some(health), ..policy }), ..settings() };
    let mut world = World::with(settings, &["a", "b"]);
    let reason = |world: &World, node: &str| world.core.node(&operator(), node).expect("it has joined").reason;
    assert!(reason(&world, "a").is_some_and(|reason| reason.contains("burn-in")), "it has just joined");
    world.now += 29_000;
    world.settle();
    for node in ["a", "b"] {
        world.ask(&operator(), Command::Resume(node.to_owned())).expect("it is known for sound");
    }
    world.settle();
    let whole =
        |name: &str| format!(r#"{{"command": ["x"], "name": "{name}", "gangs": [{{"workers": 1, "chips": 4}}]}}"#);
    // Two different jobs fail on one node.
    let (first, second) = (world.submit(&whole("first")), world.submit(&whole("second")));
    world.exit = Some(Exit::Status(1));
    world.settle();
    assert_eq!((world.state(first), world.state(second)), (JobState::Failed, JobState::Failed));
    world.exit = None;
    let third = world.submit(&whole("third"));
    world.settle();
    let on = world.core.job(&operator(), third).expect("it is known").job.nodes[0].clone();
    world.exit = Some(Exit::Status(1));
    world.settle();
    world.exit = None;
    assert!(reason(&world, &on).is_some_and(|reason| reason.contains("2 different jobs failed on it")));
    // A fault of the hardware drains the other, and an operator resumes both.
    let other = if on == "a" { "b" } else { "a" };
    world.unfit.insert(other.to_owned(), "NVRM: Xid (PCI:0000:3b:00): 13, pid=7".to_owned());
    world.settle();
    assert_eq!(reason(&world, other), None, "that was the application");
    world.unfit.insert(other.to_owned(), "NVRM: Xid (PCI:0000:3b:00): 79, pid=7".to_owned());
    world.settle();
    assert!(reason(&world, other).is_some_and(|reason| reason.contains("XID 79")));
    world.unfit.clear();
    world.settle();
    assert!(reason(&world, other).is_some(), "it is for an operator to resume");
    // A job under which both nodes are lost is held.
    for node in [&on, other, &on, other] {
        world.ask(&operator(), Command::Resume(node.to_owned())).expect("it is mended");
    }
    let killer = world.submit(&whole("killer"));
    world.settle();
    for _ in 0..2 {
        let at = world.core.job(&operator(), killer).expect("it is known").job.nodes[0].clone();
        world.now += 29_999;
        world.agents.remove(&at);
        world.settle();
        world.now += 1;
        world.settle();
    }
    // Nobody is left to report.
    world.core.pass(Timestamp::from_millis(world.now));
    world.flush();
    let job = world.core.job(&operator(), killer).expect("it is known").job;
    assert_eq!(job.state, JobState::Held);
    assert!(job.reason.as_deref().is_some_and(|why| why.contains("2 of its nodes failed")), "{:?}", job.reason);
    world.restart();
    assert_eq!(world.state(killer), JobState::Held);
    world.ask(&operator(), Command::Release(killer)).expect("it has another chance");
    assert_eq!(world.state(killer), JobState::Pending);
}

#[test]
fn a_restarted_server_waits_a_whole_lease_for_its_agents() {
    let mut world = World::new(&["a"]);
    let job = world.submit(ONE);
    world.settle();
    world.now += 29_000;
    world.restart();
    world.now += 29_000;
    world.core.pass(Timestamp::from_millis(world.now));
    world.flush();
    assert_eq!(world.state(job), JobState::Running);
    world.settle();
    assert_eq!(world.state(job), JobState::Running);
    world.exit = Some(Exit::Status(0));
    world.settle();
    assert_eq!(world.state(job), JobState::Finished);
    assert_eq!(world.core.job(&operator(), job).expect("it is known").attempts.len(), 1);
}

#[test]
fn a_hold_on_a_running_job_ends_it_and_a_release_starts_it_again() {
    let mut world = World::new(&["a"]);
    let job = world.submit(r#"{"command": ["work"], "checkpoint_signal": "USR1", "checkpoint_grace": "10s"}"#);
    world.settle();
    world.ask(&operator(), Command::Hold(job)).expect("a running job can be held");
    assert_eq!(world.state(job), JobState::Stopping);
    world.settle();
    assert_eq!(world.state(job), JobState::Held);
    world.restart();
    assert_eq!(world.state(job), JobState::Held);
    world.ask(&operator(), Command::Release(job)).expect("a held job can be released");
    world.settle();
    assert_eq!(world.state(job), JobState::Running);
    assert_eq!(world.core.job(&operator(), job).expect("it is known").receipt.lost_hours, 0.0);
}

#[test]
fn a_key_used_twice_submits_once() {
    let mut world = World::new(&["a"]);
    let key = |request: &str| Some(Key { key: "k".to_owned(), request: request.to_owned() });
    let file = || serde_json::from_str::<JobFile>(ONE).expect("a job file");
    let mut ids = Vec::new();
    for _ in 0..2 {
        let answer = world.ask_once(&operator(), key("r"), Command::Submit(vec![file()]));
        let Ok(Answer::Submitted(batch)) = answer else { unreachable!("{answer:?}") };
        ids.push(batch.jobs[0].id);
        world.restart();
    }
    assert_eq!(ids[0], ids[1]);
    let other = world.ask_once(&operator(), key("other"), Command::Submit(vec![file()]));
    assert_eq!(other.expect_err("another request under the key").code, "key_reused");
}

#[test]
fn dependencies_arrays_and_begin_times_hold_a_job_back() {
    let mut world = World::new(&["a"]);
    let first = world.submit(ONE);
    let after = |when: &str| format!(r#"{{"command": ["work"], "after": [{{"job": {first}, "when": "{when}"}}]}}"#);
    let (good, bad) = (world.submit(&after("succeeded")), world.submit(&after("failed")));
    let array = world.submit(r#"{"command": ["work"], "array": "0-2%1"}"#);
    assert_eq!(world.state(good), JobState::Held);
    world.settle();
    assert_eq!(world.state(array), JobState::Running);
    assert_eq!(world.state(array + 1), JobState::Held);
    world.restart();
    world.settle();
    world.exit = Some(Exit::Status(0));
    world.settle();
    assert_eq!(world.state(first), JobState::Finished);
    assert_eq!(world.state(bad), JobState::Cancelled);
    world.settle();
    world.settle();
    assert_eq!(world.state(good), JobState::Finished);
    assert_eq!(world.state(array + 2), JobState::Finished);
    let reason = world.core.job(&operator(), bad).expect("it is known").job.reason;
    assert_eq!(reason.as_deref(), Some("a job that it waited for did not end as it had to"));
}

#[test]
fn a_member_neither_sees_nor_touches_another_tenants_job() {
    let mut world = World::new(&["a"]);
    let job = world.submit(ONE);
    assert!(world.core.job(&member("b"), job).is_none());
    let refused = world.ask(&member("b"), Command::Cancel { job, signal: None, now: false });
    assert_eq!(refused.expect_err("not theirs").status, 404);
    let file: JobFile = serde_json::from_str(r#"{"command": ["work"], "tenant": "c"}"#).expect("a job file");
    let refused = world.ask(&member("b"), Command::Submit(vec![file]));
    assert_eq!(refused.expect_err("another tenant's name").status, 403);
}

#[test]
fn a_job_token_speaks_for_its_job_while_it_runs() {
    let mut world = World::new(&["a"]);
    let job = world.submit(ONE);
    world.settle();
    let token = world.core.job_token(job, 1);
    let caller = world.core.authenticate(&token).expect("it runs");
    assert_eq!(caller.access, Access::Job { job, tenant: "default".to_owned() });
    assert!(world.core.authenticate(&world.core.job_token(job, 2)).is_none());
    assert!(world.core.authenticate(&token.replace('a', "b")).is_none() || !token.contains('a'));
    world.exit = Some(Exit::Status(0));
    world.settle();
    assert!(world.core.authenticate(&token).is_none());
}

#[test]
fn what_can_never_run_is_refused_at_once() {
    let mut world = World::new(&["a"]);
    let file = |text: &str| serde_json::from_str::<JobFile>(text).expect("a job file");
    let jobs = vec![file(ONE), file(r#"{"command": ["work"], "gangs": [{"chips": 5}]}"#)];
    let refused = world.ask(&operator(), Command::Submit(jobs)).expect_err("no node has five chips");
    assert_eq!((refused.code.as_str(), refused.index), ("unplaceable", Some(1)));
    assert!(world.core.job(&operator(), 1).is_none(), "all or none");
}

#[test]
fn a_waiting_job_is_told_why_and_what_would_be_changes_nothing() {
    let mut world = World::new(&["a", "b"]);
    let long = r#"{"command": ["work"], "duration": "1h", "gangs": [{"workers": 1, "chips": 4}]}"#;
    let (first, second) = (world.submit(long), world.submit(long));
    let third = world.submit(long);
    world.settle();
    let why = world.core.why(&operator(), third, false).expect("it is known");
    assert_eq!(why.state, JobState::Pending);
    assert!(why.summary.contains("running work has what it needs"), "{why:?}");
    assert!(why.earliest_start_ms.is_some_and(|start| start <= START + 3_700_000), "{why:?}");
    assert_eq!(why.missing, ["room for 1 of 1 worker: 0 fit in local now"]);
    let placed = world.core.why(&operator(), first, false).expect("it is known");
    assert!(placed.summary.starts_with("Job 1 is running on 1 node in site local"), "{placed:?}");

    let before = world.core.state().essence();
    let node = world.core.job(&operator(), second).expect("it is known").job.nodes[0].clone();
    let request = serde_json::from_value(serde_json::json!({ "lose": [node] })).expect("a question");
    let told = world.core.fork().what_if(request).expect("it can be meant");
    assert_eq!(world.core.state().essence(), before);
    let hurt: Vec<u64> = told.jobs.iter().map(|job| job.id).collect();
    assert_eq!(hurt, [second, third], "{told:#?}");
    assert!(told.summary.starts_with("1 job is stopped and starts again"), "{}", told.summary);
    let unknown = serde_json::from_value(serde_json::json!({ "drain": ["nowhere"] })).expect("a question");
    assert_eq!(world.core.fork().what_if(unknown).expect_err("no such domain").status, 422);
}

#[test]
fn another_policy_is_tried_beside_the_one_in_force() {
    let mut world = World::new(&["a"]);
    let long = r#"{"command": ["work"], "duration": "1h", "gangs": [{"workers": 1, "chips": 4}]}"#;
    let urgent = r#"{"command": ["work"], "duration": "1h", "priority": 7, "gangs": [{"workers": 1, "chips": 4}]}"#;
    world.submit(long);
    let (second, third) = (world.submit(long), world.submit(urgent));
    world.settle();
    let in_force = PolicyInForce { name: "offtake".to_owned(), version: 1 };
    assert_eq!(world.core.why(&operator(), second, false).expect("it is known").policy, Some(in_force));

    let before = world.core.state().essence();
    let ask = |toml: &str| serde_json::from_value(serde_json::json!({ "policy": toml })).expect("a question");
    let told = world.core.fork().what_if(ask("order = \"fair_share\"")).expect("it can be meant");
    let changes: Vec<(u64, &str)> = told.jobs.iter().map(|job| (job.id, job.change.as_str())).collect();
    assert_eq!(changes, [(second, "starts 1 h later"), (third, "starts 1 h earlier")], "{told:#?}");
    let told = world.core.fork().what_if(ask("")).expect("it can be meant");
    assert_eq!(told.summary, "Nothing changes for any job.", "{told:#?}");
    let bad = world.core.fork().what_if(ask("order = \"whim\"")).expect_err("no such order");
    assert_eq!((bad.status, bad.field.as_deref()), (422, Some("policy")));
    assert!(bad.detail.contains("line 1") && bad.detail.contains("`whim`"), "{bad:?}");
    let bad = world.core.fork().what_if(ask("[tenants.a]\nquota.abacus = { nominal = 4 }")).expect_err("no such chip");
    assert!(bad.detail.contains("no accelerator `abacus`"), "{bad:?}");
    assert_eq!(world.core.state().essence(), before);
}

#[test]
fn a_running_job_is_told_how_often_to_save_its_work() {
    let mut world = World::declared("storage_bandwidth = 1e9, nodes = { node = 1 }", "");
    let saving = |interval: &str| {
        format!(
            r#"{{"command": ["train"], "checkpoint_interval": "{interval}", "checkpoint_size": "60GB",
                "gangs": [{{"workers": 1, "chips": 2, "cpu_milli": 1000}}]}}"#
        )
    };
    let (seldom, well) = (world.submit(&saving("9d")), world.submit(&saving("29h")));
    world.settle();
    let advice = |world: &mut World, job| {
        let why = world.core.why(&operator(), job, false).expect("it is known");
        assert_eq!(why.state, JobState::Running);
        why.placed.into_iter().find(|line| line.starts_with("saves its work"))
    };
    // A chip fails once in 50,700 h, two once in 25,350 h; a minute to write: the square root of 2 · 25,350 h · 1 min.
    let told = advice(&mut world, seldom).expect("that is too seldom");
    assert_eq!(told, "saves its work every 216h; every 29h would gain 0.3 % goodput (Daly 2006)");
    assert_eq!(advice(&mut world, well), None, "nothing is to be gained");
}

#[test]
fn a_job_waits_until_its_site_takes_on_more() {
    let watts = |watts: i64| format!("{{ watts = {watts} }}");
    let (step, rate) = (watts(4800), watts(1200));
    let ramp = format!("ramp = {{ max_step = {step}, up_per_second = {rate}, down_per_second = {rate} }}");
    let mut world = World::declared(&format!("nodes = {{ node = 3 }}, {ramp}"), "");
    let work = |workers: u32| {
        format!(r#"{{"command": ["train"], "gangs": [{{"workers": {workers}, "chips": 4, "cpu_milli": 1000}}]}}"#)
    };
    let [first, second, third] = [1, 1, 1].map(|workers| world.submit(&work(workers)));
    world.settle();
    let states = |world: &World| [first, second, third].map(|job| world.state(job));
    assert_eq!(states(&world), [JobState::Running, JobState::Running, JobState::Pending]);
    let ready = Timestamp::from_millis(world.now + 2_000);
    assert_eq!(world.core.state().next_rise(), Some(ready));
    assert!(world.core.next_timer() <= Some(ready));
    let why = world.core.why(&operator(), third, false).expect("it is known");
    let at = super::why::instant(ready);
    let told =
        format!("the ramp of site here takes on 0 W now, and it draws 2.40 kW: it does by {at} if nobody goes first");
    assert_eq!(why.blockers, [told]);
    world.restart();
    world.now += 2_000;
    world.settle();
    assert_eq!(states(&world)[2], JobState::Running);
    let file: JobFile = serde_json::from_str(&work(3)).expect("a job file");
    let refused = world.ask(&operator(), Command::Submit(vec![file])).expect_err("three nodes stop at one instant");
    assert!(
        refused.detail.contains("its sudden stop is a step of 7.20 kW, and site here stands 4.80 kW"),
        "{refused:?}"
    );
}

#[test]
fn jobs_of_two_tenants_do_not_share_a_node_that_cannot_keep_them_apart() {
    let mut world = World::new(&["a"]);
    let of = |tenant: &str| {
        format!(r#"{{"command": ["work"], "tenant": "{tenant}", "gangs": [{{"chips": 1, "cpu_milli": 1000}}]}}"#)
    };
    let (ours, theirs, more) = (world.submit(&of("ours")), world.submit(&of("theirs")), world.submit(&of("ours")));
    world.settle();
    let states = |world: &World| [ours, theirs, more].map(|job| world.state(job));
    assert_eq!(states(&world), [JobState::Running, JobState::Pending, JobState::Running]);
    let why = world.core.why(&operator(), theirs, false).expect("it is known");
    let blocker = "it would fit on nodes that run one tenant's work at a time, now another's: a";
    assert_eq!(why.blockers, [blocker]);
    world.restart();
    world.settle();
    assert_eq!(states(&world), [JobState::Running, JobState::Pending, JobState::Running]);
    for job in [ours, more] {
        world.ask(&operator(), Command::Cancel { job, signal: None, now: false }).expect("it can be cancelled");
    }
    world.settle();
    assert_eq!(states(&world), [JobState::Cancelled, JobState::Running, JobState::Cancelled]);
}

#[test]
fn a_weaker_job_saves_its_work_and_makes_room() {
    let mut world = World::with(preempting(), &["node-1", "node-2"]);
    let job = |tier: &str, workers: u32| {
        format!(
            r#"{{"name":"{tier}","tier":"{tier}","requeue":true,"command":["train"],"checkpoint_signal":"USR1","checkpoint_grace":"20s",
               "gangs":[{{"workers":{workers},"chips":4,"memory":"1 GiB"}}]}}"#
        )
    };
    let weak = world.submit(&job("spot", 2));
    world.settle();
    assert_eq!(world.state(weak), JobState::Running);
    let risk = world.core.why(&operator(), weak, true).expect("it is known").risk.expect("it runs");
    assert_eq!((risk.displaced_by.len(), risk.chosen_by, risk.stopping), (3, 0, false));
    let strong = world.submit(&job("reserved", 1));
    assert_eq!(world.state(weak), JobState::Stopping);
    let risk = world.core.why(&operator(), weak, true).expect("it is known").risk.expect("it has its nodes");
    assert_eq!((risk.stopping, risk.any_ppm), (true, 1_000_000));
    let reason = world.core.job(&operator(), weak).and_then(|detail| detail.job.reason);
    assert_eq!(reason.as_deref(), Some("makes room for a stronger job"));
    assert_eq!(world.state(strong), JobState::Pending);
    world.now += 5_000;
    world.settle();
    assert_eq!(world.state(strong), JobState::Running);
    assert_eq!(world.state(weak), JobState::Pending);
    let requeued = world.journal.iter().find_map(|fact| match &fact.event {
        Event::Engine(offtake_engine::Event::JobRequeued { saved_until, held, .. }) => Some((*saved_until, *held)),
        _ => None,
    });
    assert_eq!(requeued, Some((Some(Timestamp::from_millis(world.now)), false)), "it was asked to save, and did");
    world.exit = Some(Exit::Status(0));
    (0..3).for_each(|_| world.settle());
    assert_eq!([world.state(strong), world.state(weak)], [JobState::Finished; 2], "it went on then");
}

#[test]
fn another_agent_that_joins_as_a_lease_ends_does_not_run_what_the_first_ran() {
    let mut world = World::new(&["a"]);
    let job = world.submit(r#"{"command": ["work"], "restarts": 0, "requeue": false}"#);
    world.settle();
    assert_eq!(world.state(job), JobState::Running);
    world.now += 30_000;
    // It has the same name, another key, and knows of no task.
    world.agents.clear();
    let token = "token of another";
    let digest = super::access::sha256_hex(token.as_bytes());
    let made = Event::JoinTokenMade { digest, node: None, expires: Timestamp::from_millis(world.now + 1000) };
    let answer = offtake_protocol::rest::JoinTokenMade { token: token.to_owned(), expires_ms: world.now + 1000 };
    // Both come before the next pass, which is when leases are looked at.
    world.ticket += 1;
    let command = Command::MakeJoinToken { made: Box::new(made), answer };
    let asked = Input::Command { ticket: world.ticket, caller: operator(), key: None, command };
    world.core.handle(Timestamp::from_millis(world.now), asked);
    let description = world.core.nodes["a"].description.as_ref().clone();
    world.ticket += 1;
    let join = Join { token: token.to_owned(), public_key: "another key".to_owned(), node: description };
    world.core.handle(Timestamp::from_millis(world.now), Input::Join { ticket: world.ticket, join });
    world.pass().expect("the node joins");
    world.agents.insert("a".to_owned(), Agent::default());
    assert!(world.exchange("a").tasks.iter().all(|order| order.task.job != job), "nothing runs twice");
    assert_eq!(world.state(job), JobState::Failed);
}

/// An elastic gang of whole nodes that says when it has saved its work.
fn elastic(minimum: u32, workers: u32, maximum: u32) -> String {
    format!(
        r#"{{"name":"elastic","tier":"spot","command":["train"],"checkpoint_signal":"USR1","checkpoint_grace":"20s",
           "gangs":[{{"workers":{workers},"workers_min":{minimum},"workers_max":{maximum},"chips":4,"cpu_milli":1000}}]}}"#
    )
}

impl World {
    /// Lets so many seconds pass, in which every agent keeps its lease.
    fn later(&mut self, seconds: i64) {
        for _ in 0..seconds / 20 {
            self.now += 20_000;
            let nodes: Vec<String> = self.agents.keys().cloned().collect();
            nodes.iter().for_each(|node| drop(self.exchange(node)));
        }
    }

    /// The ranks that a job's workers have been given.
    fn ranks(&self, job: u64) -> Vec<u32> {
        let tasks = self.agents.values().flat_map(|agent| &agent.tasks).filter(|(task, _)| task.job == job);
        let mut ranks: Vec<u32> = tasks.flat_map(|(_, (_, ranks))| ranks.clone()).collect();
        ranks.sort_unstable();
        ranks
    }
}

#[test]
fn an_elastic_gang_shrinks_grows_and_has_its_chips_counted() {
    let mut world = World::with(preempting(), &["a", "b", "c"]);
    let other = world.submit(r#"{"command":["work"],"tier":"reserved","gangs":[{"workers":1,"chips":4}]}"#);
    let grows = world.submit(&elastic(1, 2, 3));
    world.settle();
    assert_eq!((world.state(grows), world.ranks(grows)), (JobState::Running, vec![0, 1]));

    // What nobody waits for is its.
    world.later(1_800);
    world.ask(&operator(), Command::Cancel { job: other, signal: None, now: false }).expect("it can be cancelled");
    world.later(600);
    world.settle();
    assert_eq!((world.state(grows), world.ranks(grows)), (JobState::Running, vec![0, 1, 2]));
    let view = world.core.job(&operator(), grows).expect("it is known").job;
    assert_eq!((view.workers, view.chip_milli), (3, 12_000));

    world.later(1_800);
    let strong = world.submit(r#"{"command":["work"],"tier":"reserved","gangs":[{"workers":2,"chips":4}]}"#);
    assert_eq!(world.state(grows), JobState::Stopping);
    world.settle();
    assert_eq!([world.state(strong), world.state(grows)], [JobState::Running; 2]);
    assert_eq!(world.ranks(grows), [0], "it goes on with what it keeps");
    world.restart();
    world.later(1_800);
    let detail = world.core.job(&operator(), grows).expect("it is known");
    let attempts: Vec<i64> =
        detail.attempts.iter().map(|one| one.ended_ms.unwrap_or(world.now) - one.placed_ms).collect();
    assert_eq!(attempts.len(), 3);
    let chips: f64 = attempts.iter().zip([8.0, 12.0, 4.0]).map(|(ms, chips)| *ms as f64 * chips / 3.6e6).sum();
    assert!((detail.receipt.chip_hours - chips).abs() < 1e-6, "{chips}, not {:?}", detail.receipt);
    assert!(attempts.iter().all(|ms| *ms >= 1_800_000), "{attempts:?}");
}

#[test]
fn work_is_moved_so_that_a_node_comes_free() {
    let mut world = World::new(&["a", "b"]);
    let part = r#"{"name":"part","preemptible":true,"command":["work"],"checkpoint_signal":"USR1",
        "gangs":[{"workers":1,"chips":2}]}"#;
    let parts: Vec<u64> = (0..4).map(|_| world.submit(part)).collect();
    world.settle();
    let node_of = |world: &World, job: u64| world.core.job(&operator(), job).expect("it is known").job.nodes[0].clone();
    // One of each node ends, so that each is half full.
    let second = parts.iter().skip(1).find(|job| node_of(&world, **job) != node_of(&world, parts[0]));
    let kept = [parts[0], *second.expect("two nodes are in use")];
    for job in parts.iter().filter(|job| !kept.contains(job)) {
        world.ask(&operator(), Command::Cancel { job: *job, signal: None, now: false }).expect("it can be cancelled");
    }
    world.later(2_000);
    let whole = world.submit(r#"{"name":"whole","command":["work"],"gangs":[{"workers":1,"chips":4}]}"#);
    world.settle();
    assert_eq!(world.state(whole), JobState::Pending);

    let before = world.core.state().essence();
    for asked in [None, Some(whole)] {
        let told = world.core.fork().defrag(asked).expect("it can be asked");
        assert_eq!(told.plans.len(), 1, "{told:?}");
        let plan = &told.plans[0];
        assert_eq!((plan.job, plan.name.as_str(), plan.moves.len(), plan.pays), (whole, "whole", 1, true));
        let moved = &plan.moves[0];
        assert!(kept.contains(&moved.job) && moved.chip_milli == 2000, "{plan:?}");
        assert_eq!((&moved.from, &plan.start_otherwise_ms), (&plan.nodes, &None), "nobody knows when the others end");
        assert_ne!(moved.to, moved.from);
    }
    assert_eq!(world.core.state().essence(), before, "a plan changes nothing");
    let refused = |asked| world.core.fork().defrag(Some(asked)).expect_err("it cannot be meant").code;
    assert_eq!([refused(kept[0]), refused(99)], ["not_waiting", "unknown_job"]);

    let forbidden = world.ask(&member("default"), Command::Defrag(None)).expect_err("it moves the work of all");
    assert_eq!(forbidden.status, 403);
    let key = Key { key: "k".to_owned(), request: "r".to_owned() };
    let Ok(Answer::Defrag(done)) = world.ask_once(&operator(), Some(key.clone()), Command::Defrag(Some(whole))) else {
        unreachable!("it is carried out")
    };
    let moved = done.plans[0].moves[0].job;
    assert_eq!(world.state(moved), JobState::Stopping);
    let reason = world.core.job(&operator(), moved).and_then(|detail| detail.job.reason);
    assert_eq!(reason.as_deref(), Some("is moved elsewhere"));
    let again = world.ask_once(&operator(), Some(key), Command::Defrag(Some(whole)));
    assert!(matches!(again, Ok(Answer::Defrag(none)) if none.plans.is_empty()), "it was carried out before");
    let twice = world.ask(&operator(), Command::Defrag(Some(whole))).expect_err("it is under way");
    assert_eq!(twice.code, "nothing_to_move");
    world.restart();
    (0..3).for_each(|_| world.settle());
    assert_eq!([world.state(whole), world.state(moved)], [JobState::Running; 2]);
    assert_eq!(node_of(&world, moved), done.plans[0].moves[0].to[0]);
    let idle = world.ask(&operator(), Command::Defrag(None));
    assert!(matches!(idle, Ok(Answer::Defrag(none)) if none.plans.is_empty()), "nobody waits");
}

/// A reservation of nodes that begins so many seconds from now.
fn reservation(world: &World, nodes: u32, seconds: i64, length: i64) -> offtake_workload::Reservation {
    offtake_workload::Reservation {
        name: "course".to_owned(),
        purpose: offtake_workload::Purpose::Work,
        tenants: vec!["lab".to_owned()],
        domain: None,
        nodes: Some(nodes),
        chips: None,
        accelerator: None,
        level: None,
        start: Timestamp::from_millis(world.now + 1000 * seconds),
        length: Duration::from_secs(length),
        flexible: None,
        every: None,
        stop: true,
    }
}

#[test]
fn work_of_a_reservation_runs_in_it_and_nowhere_else() {
    use offtake_protocol::rest::ReservationState;
    let mut world = World::new(&["a", "b", "c"]);
    let asked = reservation(&world, 2, 60, 600);
    let refused =
        world.ask(&member("lab"), Command::Reserve(Box::new(asked.clone()))).expect_err("it takes an operator");
    assert_eq!(refused.status, 403);
    let made = match world.ask(&operator(), Command::Reserve(Box::new(asked.clone()))) {
        Ok(Answer::Reservation(made)) => made,
        other => unreachable!("{other:?}"),
    };
    assert_eq!((made.state, made.nodes.len()), (ReservationState::Planned, 2));
    let twice = world.ask(&operator(), Command::Reserve(Box::new(asked))).expect_err("the name is taken");
    assert_eq!((twice.status, twice.code.as_str()), (409, "reservation_exists"));

    let job = |tenant: &str, more: &str| {
        let text = format!(
            r#"{{"command": ["work"], "tenant": "{tenant}", "gangs": [{{"workers": 2, "chips": 4}}], "duration": "5m"{more}}}"#
        );
        serde_json::from_str::<JobFile>(&text).expect("a job file")
    };
    let named = r#", "reservation": "course""#;
    let stranger = world.ask(&operator(), Command::Submit(vec![job("shop", named)])).expect_err("it is the lab's");
    assert_eq!((stranger.status, stranger.code.as_str()), (422, "unknown_reservation"));
    let ours = match world.ask(&operator(), Command::Submit(vec![job("lab", named)])) {
        Ok(Answer::Submitted(batch)) => batch.jobs[0].id,
        other => unreachable!("{other:?}"),
    };
    world.settle();
    assert_eq!(world.state(ours), JobState::Pending, "three nodes are idle, and it has not begun");
    let why = world.core.why(&operator(), ours, false).expect("it is known");
    assert!(why.summary.contains("its reservation course begins at"), "{}", why.summary);
    assert_eq!(why.earliest_start_ms, Some(world.now + 60_000));
    assert_eq!(world.core.next_timer().map(Timestamp::as_millis).filter(|at| *at > world.now + 60_000), None);

    world.restart();
    world.now += 60_000;
    world.settle();
    assert_eq!(world.state(ours), JobState::Running);
    let view = world.core.reservations(&operator()).remove(0);
    assert_eq!((view.state, view.running_jobs, view.pending_jobs), (ReservationState::Active, 1, 0));
    let mut on = world.core.job(&operator(), ours).expect("a known job").job.nodes;
    on.sort();
    assert_eq!(on, view.nodes);
    let figures = world.core.figures();
    assert_eq!((figures.reservations["active"], figures.reserved_nodes), (1, 2));
    assert!(world.core.reservations(&member("shop")).is_empty());

    let other = world.submit(r#"{"command": ["work"], "gangs": [{"workers": 2, "chips": 4}]}"#);
    world.settle();
    assert_eq!(world.state(other), JobState::Pending, "one node is left to others");
    world.ask(&operator(), Command::Unreserve("course".to_owned())).expect("it can be withdrawn");
    let gone = world.ask(&operator(), Command::Unreserve("course".to_owned())).expect_err("it is gone");
    assert_eq!(gone.status, 404);
    assert_eq!(world.state(ours), JobState::Running, "what runs goes on");
}

#[test]
fn maintenance_that_cannot_be_had_says_when_it_can() {
    let mut world = World::new(&["a"]);
    let job = world.submit(r#"{"command": ["work"], "gangs": [{"chips": 4}], "duration": "1h"}"#);
    world.settle();
    let asked = offtake_workload::Reservation {
        purpose: offtake_workload::Purpose::Maintenance,
        tenants: Vec::new(),
        stop: false,
        ..reservation(&world, 1, 60, 600)
    };
    let busy = world.ask(&operator(), Command::Reserve(Box::new(asked.clone()))).expect_err("a job is in the way");
    assert_eq!((busy.status, busy.code.as_str()), (409, "reservation_unmet"));
    assert!(busy.detail.contains(&format!("jobs that would have to go: {job}")), "{}", busy.detail);
    let later = offtake_workload::Reservation { flexible: Some(Duration::from_secs(7200)), ..asked };
    assert!(world.ask(&operator(), Command::Reserve(Box::new(later))).is_ok(), "an hour later it can be had");
}

#[test]
fn a_deadline_gets_an_honest_answer_at_submission() {
    use offtake_protocol::rest::Verdict;
    let mut world = World::new(&["a"]);
    world.submit(r#"{"command": ["work"], "gangs": [{"chips": 4}], "duration": "1h"}"#);
    world.settle();
    let until = |minutes: i64, more: &str| {
        let deadline = offtake_workload::human::write_timestamp(Timestamp::from_millis(START + minutes * 60_000));
        let deadline = deadline.expect("it can be written");
        let text = format!(
            r#"{{"command": ["work"], "gangs": [{{"chips": 4}}], "duration": "30m", "deadline": "{deadline}"{more}}}"#
        );
        serde_json::from_str::<JobFile>(&text).expect("a job file")
    };
    let must = r#", "must_meet_deadline": true"#;
    let mut ask = |job: JobFile| world.ask(&operator(), Command::Submit(vec![job]));
    let verdict = |answer: Result<Answer, Problem>| match answer {
        Ok(Answer::Submitted(batch)) => batch.jobs[0].deadline.clone().expect("it has a deadline"),
        other => unreachable!("{other:?}"),
    };
    let refused = ask(until(60, must)).expect_err("nobody could keep it");
    assert_eq!((refused.status, refused.code.as_str()), (422, "deadline"));
    assert!(refused.detail.contains("cannot be met: the earliest start is"), "{}", refused.detail);
    let told = verdict(ask(until(60, "")));
    assert_eq!(told.verdict, Verdict::Impossible);
    assert_eq!(told.earliest_start_ms, Some(START + 3_600_000));
    assert_eq!(told.would_end_ms, Some(START + 5_400_000));
    // The one before it is kept the hour after the first.
    let possible = verdict(ask(until(120, must)));
    assert_eq!(possible.verdict, Verdict::Possible);
    let why = world.core.why(&operator(), 2, false).expect("it is known");
    assert_eq!(why.deadline.map(|deadline| deadline.verdict), Some(Verdict::Impossible));
    assert_eq!(world.core.job(&operator(), 4).map(|job| job.job.id), None, "who was refused left no trace");
}

#[test]
fn runs_so_far_say_how_long_the_next_is_planned() {
    use offtake_engine::{Backfill, Estimates};
    let policy = Policy::named("offtake", 0).expect("it has a name");
    let backfill = Backfill { estimates: Estimates::History, ..Backfill::default() };
    // The agents of this test report rarely.
    let lease = Duration::DAY;
    let mut world = World::with(Settings { lease, policy: Some(Policy { backfill, ..policy }), ..settings() }, &["a"]);
    let train = r#"{"command": ["work"], "name": "train", "gangs": [{"chips": 4}], "duration": "24h"}"#;
    for minutes in [180, 200] {
        world.exit = None;
        let job = world.submit(train);
        world.settle();
        assert_eq!(world.state(job), JobState::Running);
        world.now += minutes * 60_000;
        world.exit = Some(Exit::Status(0));
        world.settle();
        assert_eq!(world.state(job), JobState::Finished);
    }
    world.exit = None;
    world.restart();
    let runs = world.submit(train);
    world.settle();
    let begun = world.now;
    let waits = world.submit(r#"{"command": ["work"], "gangs": [{"chips": 4}], "duration": "1h"}"#);
    world.settle();
    let why = |world: &mut World, job| world.core.why(&operator(), job, false).expect("it is known");
    let planned = "asked 1 d, planned as 3 h 10 min from the last 2 runs of default/train";
    assert_eq!(why(&mut world, runs).planned.as_deref(), Some(planned));
    assert_eq!(why(&mut world, waits).earliest_start_ms, Some(begun + 190 * 60_000));
    world.now += 191 * 60_000;
    world.settle();
    assert_eq!(world.state(runs), JobState::Running, "nothing is stopped by a guess");
    let told = why(&mut world, runs).planned.expect("it is told");
    assert!(told.contains("; it has outrun that, and is now expected to end at"), "{told}");
    assert_eq!(
        why(&mut world, waits).earliest_start_ms,
        Some(begun + 195 * 60_000),
        "five minutes more than was guessed"
    );
}

#[test]
fn who_waits_has_an_estimate_of_its_start() {
    use offtake_protocol::rest::{Basis, StartEstimate};
    let mut world = World::new(&["a"]);
    let hour = r#"{"command": ["work"], "gangs": [{"chips": 4}], "duration": "1h"}"#;
    let jobs = [hour; 3].map(|job| world.submit(job));
    world.settle();
    let view = world.core.job(&operator(), jobs[1]).expect("it is known").job;
    let kept = StartEstimate { start_ms: START + 3_600_000, basis: Basis::Kept, as_of_ms: START };
    assert_eq!(view.start_estimate, Some(kept));
    let view = world.core.job(&operator(), jobs[2]).expect("it is known").job;
    assert_eq!(view.start_estimate, None, "nothing is kept for it");
    let starts = world.core.fork().starts(|| true);
    assert_eq!(starts.as_of_ms, START);
    let expected = BTreeMap::from([(jobs[1], START + 3_600_000), (jobs[2], START + 7_200_000)]);
    assert_eq!(starts.by_job, expected);
}

#[test]
fn a_job_of_an_array_that_waits_for_more_is_passed_over_until_that_has_come() {
    let mut world = World::new(&["a"]);
    let first = world.submit(ONE);
    let array = world.submit(&format!(
        r#"{{"command": ["work"], "array": "0-3%1", "after": [{{"job": {first}, "when": "succeeded"}}]}}"#
    ));
    let last = world.submit(&format!(r#"{{"command": ["work"], "after": [{{"job": {array}, "when": "ended"}}]}}"#));
    let states = |world: &World| [array, array + 1, array + 2, array + 3, last].map(|job| world.state(job));
    use JobState::{Finished, Held, Running};
    world.settle();
    assert_eq!(states(&world), [Held; 5]);
    world.ask(&operator(), Command::Hold(array + 1)).expect("it can be held");
    // One after the other ends; each report of its end lets the next start.
    let end_one = |world: &mut World| {
        world.exit = Some(Exit::Status(0));
        world.exchange("a");
        world.exchange("a");
        world.exit = None;
        world.settle();
    };
    end_one(&mut world);
    assert_eq!(states(&world), [Running, Held, Held, Held, Held], "the first has ended");
    world.restart();
    world.settle();
    end_one(&mut world);
    assert_eq!(states(&world), [Finished, Held, Running, Held, Held], "who is on hold is passed over");
    world.ask(&operator(), Command::Release(array + 1)).expect("it can be released");
    world.settle();
    assert_eq!(states(&world), [Finished, Held, Running, Held, Held], "one runs at one time");
    end_one(&mut world);
    assert_eq!(states(&world), [Finished, Running, Finished, Held, Held], "then it has its turn");
    end_one(&mut world);
    assert_eq!(states(&world), [Finished, Finished, Finished, Running, Held]);
    end_one(&mut world);
    assert_eq!(states(&world), [Finished, Finished, Finished, Finished, Running], "all of the array have ended");
}

#[test]
fn what_ran_before_the_server_restarted_is_not_run_again_by_a_node_that_lost_its_disk() {
    let mut world = World::new(&["n0"]);
    let job = world.submit(r#"{"command": ["work"]}"#);
    world.settle();
    assert!(matches!(world.core.state().job(JobId(job)).map(|work| &work.phase), Some(Phase::Running { .. })));
    world.agents.insert("n0".to_owned(), Agent::default());
    world.restart();
    let orders = world.exchange("n0");
    let again = orders.tasks.iter().filter(|order| order.task.attempt == 1 && order.spec.is_some());
    assert_eq!(again.count(), 0, "nobody saw it end, but it has run");
    world.settle();
    let is_over =
        |fact: &Fact| matches!(&fact.event, Event::AttemptEnded { job: ended, attempt: 1, .. } if *ended == job);
    assert!(world.journal.iter().any(is_over), "its node has forgotten it");
}
