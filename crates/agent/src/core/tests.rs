use std::collections::{BTreeMap, BTreeSet};

use offtake_protocol::agent::{EnergySource, Order, WorkerEnd, WorkerSpec};
use offtake_units::{CpuMilli, Mebibytes};
use offtake_workload::{Layout, Start, User};
use proptest::prelude::*;

use super::*;

const LEASE_MS: u64 = 30_000;

fn id(job: u64) -> TaskId {
    TaskId { job, attempt: 1, step: 0 }
}

fn spec() -> Arc<TaskSpec> {
    Arc::new(TaskSpec {
        job_name: "train".to_owned(),
        tenant: "lab".to_owned(),
        user: User::Id(1000),
        start: Start::Command(vec!["true".to_owned()]),
        environment: BTreeMap::new(),
        directory: String::new(),
        output: None,
        error: None,
        append: false,
        stop: Stop {
            checkpoint_signal: Some(10),
            checkpoint_grace: Duration::from_secs(60),
            grace: Duration::from_secs(30),
        },
        ends_together: true,
        layout: Layout::default(),
        cpu: CpuMilli::new(1000),
        memory: Mebibytes::new(0),
        workers: vec![WorkerSpec { rank: 0, local_rank: 0, chips: 0 }],
        world_size: 1,
        node_rank: 0,
        nodes: Arc::new([]),
        domain: String::new(),
        port: 0,
        array: None,
        limit_ms: None,
        restarts: 0,
        job_token: String::new(),
    })
}

fn end() -> TaskEnd {
    TaskEnd {
        refused: None,
        workers: Vec::new(),
        energy_mj: 7,
        energy_source: EnergySource::ChipCounter,
        cpu_ms: None,
        peak_memory_kib: None,
    }
}

fn order(job: u64, want: Want) -> Order {
    Order { task: id(job), want, signal: None, paused: false, spec: Some(spec()) }
}

fn orders(version: u64, answers: u64, tasks: Vec<Order>) -> Orders {
    Orders {
        edition: Edition { epoch: 1, version },
        answers,
        lease_ms: LEASE_MS as u32,
        tasks,
        limits: None,
        logs: Vec::new(),
    }
}

struct Node {
    core: Core,
    now_ms: u64,
}

impl Node {
    fn new() -> Self {
        Self { core: Core::new(9, Edition::default()), now_ms: 1_000 }
    }

    fn handle(&mut self, input: Input) -> Vec<Action> {
        let mut actions = Vec::new();
        self.core.handle(input, self.now_ms, &mut actions);
        actions.retain(|action| !matches!(action, Action::ExtendLease(_)));
        actions
    }

    fn take(&mut self, orders: Orders) -> Vec<Action> {
        let asked_at_ms = self.now_ms;
        self.handle(Input::Orders { orders, asked_at_ms })
    }

    fn phase(&mut self, job: u64) -> Option<TaskPhase> {
        self.core.report().tasks.into_iter().find(|report| report.task == id(job)).map(|report| report.phase)
    }

    fn run(&mut self, job: u64) {
        let version = self.core.seen().version + 1;
        self.take(orders(version, 0, vec![order(job, Want::Run)]));
        assert_eq!(self.handle(Input::Prepared(id(job))), [Action::Run(id(job))]);
        assert_eq!(self.handle(Input::Running { task: id(job), since_ms: 5 }), [Action::Report]);
    }
}

#[test]
fn a_step_with_one_task_runs_as_soon_as_it_is_prepared() {
    let mut node = Node::new();
    assert_eq!(node.take(orders(1, 0, vec![order(1, Want::Run)])), [Action::Prepare(id(1), spec())]);
    assert_eq!(node.phase(1), Some(TaskPhase::Preparing));
    assert_eq!(node.handle(Input::Prepared(id(1))), [Action::Run(id(1))]);
    assert_eq!(node.handle(Input::Running { task: id(1), since_ms: 5 }), [Action::Report]);
    assert_eq!(node.phase(1), Some(TaskPhase::Running { since_ms: 5 }));
}

#[test]
fn a_gang_waits_for_the_word() {
    let mut node = Node::new();
    node.take(orders(1, 0, vec![order(1, Want::Prepare)]));
    assert_eq!(node.handle(Input::Prepared(id(1))), [Action::Report]);
    assert_eq!(node.phase(1), Some(TaskPhase::Prepared));
    assert_eq!(node.take(orders(2, 1, vec![order(1, Want::Run)])), [Action::Run(id(1))]);
    assert_eq!(node.take(orders(2, 1, vec![order(1, Want::Run)])), [], "told twice");
    assert_eq!(node.take(orders(1, 1, vec![order(1, Want::Prepare)])), [], "told late");
}

#[test]
fn an_end_is_reported_until_orders_that_know_of_it_leave_it_out() {
    let mut node = Node::new();
    node.run(1);
    let before = node.core.report().version;
    assert_eq!(node.handle(Input::Ended(id(1), end())), [Action::Report]);
    assert_eq!(node.take(orders(5, before, Vec::new())), [], "the server did not know how it ended");
    assert_eq!(node.phase(1), Some(TaskPhase::Ended(end())));
    assert_eq!(node.take(orders(5, before + 1, Vec::new())), [Action::Forget(id(1))]);
    assert_eq!(node.phase(1), None);
}

#[test]
fn what_is_not_ordered_is_killed() {
    let mut node = Node::new();
    let adopted = Input::Adopted { task: id(3), spec: spec(), stand: Stand::Running { since_ms: 1 }, signalled: 0 };
    node.handle(adopted);
    let version = node.core.report().version;
    assert_eq!(node.take(orders(1, version, Vec::new())), [Action::Kill(id(3))]);
    assert_eq!(node.phase(3), Some(TaskPhase::Stopping));
}

#[test]
fn a_task_that_was_withdrawn_before_it_came_never_runs() {
    let mut node = Node::new();
    assert_eq!(node.take(orders(1, 0, vec![order(1, Want::Kill)])), [Action::Report]);
    let Some(TaskPhase::Ended(end)) = node.phase(1) else { unreachable!("it has ended") };
    assert!(end.refused.expect("it never ran").node_fault, "it is no fault of the job");
}

#[test]
fn a_stop_while_it_is_prepared_kills() {
    let mut node = Node::new();
    node.take(orders(1, 0, vec![order(1, Want::Run)]));
    assert_eq!(node.take(orders(2, 0, vec![order(1, Want::Stop)])), [Action::Kill(id(1))]);
    assert_eq!(node.handle(Input::Prepared(id(1))), [], "too late to run");
}

#[test]
fn without_news_work_is_stopped_and_then_killed() {
    let mut node = Node::new();
    node.run(1);
    assert_eq!(node.core.next_tick_ms(), Some(21_000));
    node.now_ms = 20_999;
    assert_eq!(node.handle(Input::Tick), []);
    node.now_ms = 21_000;
    let stopped = node.handle(Input::Tick);
    let [Action::Stop(_, stop)] = stopped.as_slice() else { unreachable!("{stopped:?}") };
    assert_eq!(stop.grace.as_millis() + stop.checkpoint_grace.as_millis(), 5_000, "cut to a sixth of the lease");
    assert!(stop.grace.as_millis() > 1_000, "SIGTERM gets its time too");
    assert_eq!(node.core.next_tick_ms(), Some(26_000));
    // News that come now do not call the work back.
    assert_eq!(node.take(orders(1, 0, vec![order(1, Want::Run)])), []);
    node.now_ms += 40_000;
    assert_eq!(node.handle(Input::Tick), [Action::Kill(id(1))]);
    assert_eq!(node.core.next_tick_ms(), None, "however long it takes to die, nobody has to be woken for it");
    // It was asked to save its work and did; that is not how it would have ended.
    let saved = WorkerEnd { rank: 0, exit: Exit::Status(0), started_ms: 1, ended_ms: 2 };
    let ended = TaskEnd { workers: vec![saved], ..end() };
    assert_eq!(node.handle(Input::Ended(id(1), ended)), [Action::Report]);
    let Some(TaskPhase::Ended(told)) = node.phase(1) else { unreachable!("it has ended") };
    assert!(matches!(told.workers[0].exit, Exit::Unknown(_)), "{told:?}");
    assert_eq!(node.core.next_tick_ms(), None);
}

#[test]
fn orders_whose_lease_is_over_are_not_taken() {
    let mut node = Node::new();
    node.now_ms = 50_000;
    let late = Input::Orders { orders: orders(4, 0, vec![order(1, Want::Run)]), asked_at_ms: 29_000 };
    let edition = Edition { epoch: 1, version: 4 };
    assert_eq!(node.handle(late), [Action::Ignored(edition, Ignored::TooLate)]);
    assert_eq!(node.core.seen(), Edition::default(), "so that the server tells it again");
}

#[test]
fn a_server_that_was_replaced_is_not_obeyed() {
    let mut node = Node::new();
    let mut newer = orders(1, 0, Vec::new());
    newer.edition.epoch = 3;
    node.take(newer);
    let ignored = Action::Ignored(Edition { epoch: 1, version: 9 }, Ignored::StaleServer);
    assert_eq!(node.take(orders(9, 0, vec![order(1, Want::Run)])), [ignored]);
}

#[test]
fn a_signal_is_sent_once_and_not_before_somebody_can_get_it() {
    let mut node = Node::new();
    let signal = NumberedSignal { number: 2, signal: 10 };
    let with = |version| orders(version, 0, vec![Order { signal: Some(signal), ..order(1, Want::Run) }]);
    node.take(with(1));
    node.handle(Input::Prepared(id(1)));
    let running = node.handle(Input::Running { task: id(1), since_ms: 5 });
    assert_eq!(running, [Action::Report, Action::Signal(id(1), signal)]);
    assert_eq!(node.take(with(2)), []);

    let mut next = Node::new();
    let adopted = Input::Adopted { task: id(1), spec: spec(), stand: Stand::Running { since_ms: 5 }, signalled: 2 };
    next.handle(adopted);
    assert_eq!(next.take(with(2)), [Action::Pause(id(1), false)], "the run before has sent the signal");
}

#[test]
fn a_gang_ends_with_its_first_failure() {
    let mut node = Node::new();
    node.run(1);
    let actions = node.handle(Input::WorkerFailed(id(1)));
    assert_eq!(actions, [Action::Stop(id(1), Stop { checkpoint_signal: None, ..spec().stop })]);
    assert_eq!(node.handle(Input::WorkerFailed(id(1))), []);
}

#[test]
fn who_leaves_ends_its_work_first_and_takes_no_more() {
    let mut node = Node::new();
    node.run(1);
    assert_eq!(node.handle(Input::Leave), [Action::Stop(id(1), spec().stop), Action::Report]);
    assert!(!node.core.report().leaves);
    node.take(orders(7, 0, vec![order(1, Want::Run), order(2, Want::Run)]));
    let Some(TaskPhase::Ended(refusal)) = node.phase(2) else { unreachable!("it is refused") };
    assert!(refusal.refused.expect("refused").node_fault);
    node.handle(Input::Ended(id(1), end()));
    assert!(node.core.report().leaves);
}

#[test]
fn requests_for_logs_start_and_stop_once() {
    let mut node = Node::new();
    let request = LogRequest { id: 4, task: id(1), rank: None, follow: true, tail_bytes: None };
    let with = |version| Orders { logs: vec![request.clone()], ..orders(version, 0, Vec::new()) };
    assert_eq!(node.take(with(1)), [Action::StartLog(request.clone())]);
    assert_eq!(node.take(with(2)), []);
    assert_eq!(node.take(orders(2, 0, Vec::new())), [], "the same orders, told by a server that cannot write");
    assert_eq!(node.take(orders(3, 0, Vec::new())), [Action::StopLog(4)]);
}

fn limits(of: &[(u16, u32)]) -> ChipLimits {
    of.iter().copied().collect()
}

fn limiting(fallback: Option<ChipLimits>) -> Node {
    let mut node = Node::new();
    assert_eq!(node.handle(Input::CanLimit { set: limits(&[(3, 300)]), fallback }), []);
    node
}

fn with_limits(version: u64, of: &[(u16, u32)], tasks: Vec<Order>) -> Orders {
    Orders { limits: Some(limits(of)), ..orders(version, 0, tasks) }
}

#[test]
fn limits_are_ordered_first_and_what_is_in_force_is_reported() {
    let mut node = limiting(None);
    assert_eq!(node.core.report().limits, Some(Limited { set: limits(&[(3, 300)]), failed: None }));
    assert_eq!(node.take(orders(1, 0, Vec::new())), [], "nothing is said of limits: they stay");
    let told = node.take(with_limits(2, &[(0, 400)], vec![order(1, Want::Run)]));
    assert_eq!(told, [Action::Limit(limits(&[(0, 400)])), Action::Prepare(id(1), spec())]);
    assert_eq!(node.take(with_limits(3, &[(0, 300)], vec![order(1, Want::Run)])), [], "one at a time");
    let done = Limited { set: limits(&[(0, 400)]), failed: None };
    assert_eq!(node.handle(Input::Limited(done.clone())), [Action::Report, Action::Limit(limits(&[(0, 300)]))]);
    assert_eq!(node.core.report().limits, Some(done), "not what is wanted: what is in force");
    let lower = Limited { set: limits(&[(0, 300)]), failed: None };
    assert_eq!(node.handle(Input::Limited(lower.clone())), [Action::Report]);
    assert_eq!(node.handle(Input::KeepLimits), [Action::Limit(limits(&[(0, 300)]))]);
    assert_eq!(node.handle(Input::Limited(lower)), [], "nothing new");
    assert_eq!(node.take(with_limits(2, &[(0, 400)], Vec::new())), [], "told late");
    let mut other = Node::new();
    assert_eq!(other.take(with_limits(1, &[(0, 400)], Vec::new())), [], "its chips cannot be limited");
    assert_eq!(other.core.report().limits, None);
}

#[test]
fn a_limit_that_failed_is_told_for_as_long_as_the_agent_runs() {
    let mut node = limiting(None);
    node.take(with_limits(1, &[(0, 400)], Vec::new()));
    let failed = Limited { set: limits(&[]), failed: Some("no permission".to_owned()) };
    assert_eq!(node.handle(Input::Limited(failed)), [Action::Report], "it is not tried again and again");
    assert_eq!(node.take(with_limits(2, &[], Vec::new())), [Action::Limit(limits(&[]))]);
    node.handle(Input::Limited(Limited::default()));
    assert_eq!(node.handle(Input::KeepLimits), [], "there is none to keep");
    assert_eq!(node.core.report().limits.and_then(|limited| limited.failed).as_deref(), Some("no permission"));
}

#[test]
fn without_a_server_a_node_falls_back_to_its_own_limits() {
    let mut node = limiting(Some(limits(&[(0, 350), (1, 350)])));
    node.take(with_limits(1, &[], vec![order(1, Want::Run)]));
    node.handle(Input::Limited(Limited::default()));
    node.handle(Input::Ended(id(1), end()));
    let over = node.core.next_tick_ms().expect("its limits have to fall back");
    node.now_ms = over - 1;
    assert_eq!(node.handle(Input::Tick), []);
    node.now_ms = over;
    assert_eq!(node.handle(Input::Tick), [Action::Limit(limits(&[(0, 350), (1, 350)]))]);
    assert_eq!(node.core.next_tick_ms(), None);
    node.handle(Input::Limited(Limited { set: limits(&[(0, 350), (1, 350)]), failed: None }));
    assert_eq!(node.take(with_limits(2, &[], Vec::new())), [Action::Limit(limits(&[]))]);
}

/// A step of a random history.
#[derive(Clone, Debug)]
enum Step {
    /// The server orders a new task.
    Place { job: u64, want: Want },
    /// The server wants more of a task.
    Raise { job: u64, want: Want },
    /// The server leaves a task out, whether it knows its end or not.
    Drop { job: u64 },
    /// The agent sends a report; the server answers it with what it wants at that moment.
    Exchange,
    /// One of the answers arrives: any of them, any number of times.
    Deliver { nth: usize },
    /// Something happens to the n-th task that something can happen to.
    Work { nth: usize, refuse: bool },
    /// Time passes.
    Wait { ms: u64 },
    /// The server starts anew.
    Restart,
}

fn step() -> impl Strategy<Value = Step> {
    let want = prop_oneof![Just(Want::Prepare), Just(Want::Run), Just(Want::Stop), Just(Want::Kill)];
    prop_oneof![
        2 => (0..6_u64, want.clone()).prop_map(|(job, want)| Step::Place { job, want }),
        2 => (0..6_u64, want).prop_map(|(job, want)| Step::Raise { job, want }),
        1 => (0..6_u64).prop_map(|job| Step::Drop { job }),
        4 => Just(Step::Exchange),
        6 => (0..64_usize).prop_map(|nth| Step::Deliver { nth }),
        6 => (0..8_usize, prop::bool::weighted(0.2)).prop_map(|(nth, refuse)| Step::Work { nth, refuse }),
        2 => (0..12_000_u64).prop_map(|ms| Step::Wait { ms }),
        1 => Just(Step::Restart),
    ]
}

/// What the test knows to be so, whatever the core believes.
struct World {
    node: Node,
    edition: Edition,
    wanted: BTreeMap<u64, Order>,
    /// Answers under way, each with when its report was sent and the ends that the report told of.
    answers: Vec<(Orders, u64, BTreeSet<TaskId>)>,
    /// What the workers do, by what the core asked of them.
    workers: BTreeMap<TaskId, Worker>,
    ran: BTreeSet<TaskId>,
    ordered_to_end: BTreeSet<TaskId>,
    ended: BTreeSet<TaskId>,
    forgotten: BTreeSet<TaskId>,
    /// When the lease that reaches farthest has had two thirds of its time, by epoch.
    stops_at_ms: (u64, u64),
    /// Ends that orders left out which knew of them.
    known: BTreeSet<TaskId>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Worker {
    Preparing,
    Prepared,
    Starting,
    Running,
    Ending,
}

impl World {
    fn new() -> Self {
        Self {
            node: Node::new(),
            edition: Edition { epoch: 1, version: 1 },
            wanted: BTreeMap::new(),
            answers: Vec::new(),
            workers: BTreeMap::new(),
            ran: BTreeSet::new(),
            ordered_to_end: BTreeSet::new(),
            ended: BTreeSet::new(),
            forgotten: BTreeSet::new(),
            stops_at_ms: (0, 0),
            known: BTreeSet::new(),
        }
    }

    fn handle(&mut self, input: Input) -> Result<(), TestCaseError> {
        for action in self.node.handle(input) {
            match action {
                Action::Prepare(id, _) => {
                    prop_assert!(self.workers.insert(id, Worker::Preparing).is_none(), "{id} prepared twice");
                    prop_assert!(!self.ran.contains(&id) && !self.ended.contains(&id), "{id} began anew");
                }
                Action::Run(id) => {
                    prop_assert!(self.ran.insert(id), "{id} ran twice");
                    prop_assert_eq!(self.workers.insert(id, Worker::Starting), Some(Worker::Prepared));
                    prop_assert!(!self.ordered_to_end.contains(&id), "{} ran after it was to end", id);
                    prop_assert!(self.node.now_ms < self.stops_at_ms.1, "{} ran without a lease", id);
                }
                Action::Stop(id, _) | Action::Kill(id) => {
                    prop_assert!(self.workers.insert(id, Worker::Ending).is_some(), "{id} was not there to end");
                    self.ordered_to_end.insert(id);
                }
                Action::Forget(id) => {
                    prop_assert!(self.known.contains(&id), "{id} forgotten before its end was known");
                    self.forgotten.insert(id);
                }
                Action::Signal(..)
                | Action::Pause(..)
                | Action::Limit(_)
                | Action::StartLog(_)
                | Action::StopLog(_)
                | Action::Report
                | Action::ExtendLease(_)
                | Action::Ignored(..) => {}
            }
        }
        Ok(())
    }

    fn exchange(&mut self) {
        let report = self.node.core.report();
        let ends = report
            .tasks
            .iter()
            .filter(|task| matches!(task.phase, TaskPhase::Ended(_)))
            .map(|task| task.task)
            .collect();
        let mut answer = orders(self.edition.version, report.version, self.wanted.values().cloned().collect());
        answer.edition = self.edition;
        self.answers.push((answer, self.node.now_ms, ends));
    }

    fn deliver(&mut self, nth: usize) -> Result<(), TestCaseError> {
        let (orders, asked_at_ms, ends) = self.answers[nth].clone();
        if orders.edition.epoch >= self.node.core.seen().epoch {
            let stops_at_ms = asked_at_ms + LEASE_MS * 2 / 3;
            if self.node.now_ms < stops_at_ms {
                let (epoch, before) = self.stops_at_ms;
                let later = if epoch == orders.edition.epoch { before.max(stops_at_ms) } else { stops_at_ms };
                self.stops_at_ms = (orders.edition.epoch, later);
            }
        }
        let listed: BTreeSet<TaskId> = orders.tasks.iter().map(|order| order.task).collect();
        self.known.extend(ends.difference(&listed));
        self.handle(Input::Orders { orders, asked_at_ms })
    }

    fn work(&mut self, nth: usize, refuse: bool) -> Result<(), TestCaseError> {
        let Some((&id, &worker)) = self.workers.iter().nth(nth % self.workers.len().max(1)) else { return Ok(()) };
        match worker {
            Worker::Preparing if !refuse => {
                self.workers.insert(id, Worker::Prepared);
                self.handle(Input::Prepared(id))
            }
            Worker::Starting if !refuse => {
                self.workers.insert(id, Worker::Running);
                self.handle(Input::Running { task: id, since_ms: 1 })
            }
            Worker::Running if refuse => self.handle(Input::WorkerFailed(id)),
            Worker::Prepared => Ok(()),
            Worker::Preparing | Worker::Starting | Worker::Running | Worker::Ending => {
                self.workers.remove(&id);
                self.ended.insert(id);
                self.handle(Input::Ended(id, end()))
            }
        }
    }

    fn step(&mut self, step: Step) -> Result<(), TestCaseError> {
        match step {
            // An identity is never reused: a job that was ordered once is not ordered anew after it was left out.
            Step::Place { job, want } => {
                let job = job + 10 * self.edition.version;
                self.wanted.insert(job, order(job, want));
                self.edition.version += 1;
            }
            Step::Raise { job, want } => {
                let nth = job as usize % self.wanted.len().max(1);
                if let Some(order) = self.wanted.values_mut().nth(nth)
                    && rank(want) > rank(order.want)
                {
                    order.want = want;
                    self.edition.version += 1;
                }
            }
            Step::Drop { job } => {
                let nth = job as usize % self.wanted.len().max(1);
                if let Some(job) = self.wanted.keys().nth(nth).copied() {
                    self.wanted.remove(&job);
                    self.edition.version += 1;
                }
            }
            Step::Exchange => self.exchange(),
            Step::Deliver { nth } => {
                if !self.answers.is_empty() {
                    self.deliver(nth % self.answers.len())?;
                }
            }
            Step::Work { nth, refuse } => self.work(nth, refuse)?,
            Step::Wait { ms } => {
                self.node.now_ms += ms;
                self.handle(Input::Tick)?;
            }
            Step::Restart => {
                self.edition = Edition { epoch: self.edition.epoch + 1, version: self.edition.version };
            }
        }
        Ok(())
    }

    /// The server wants nothing any more, and the network heals.
    fn settle(&mut self) -> Result<(), TestCaseError> {
        self.wanted.clear();
        self.edition.version += 1;
        for _ in 0..3 {
            self.exchange();
            self.deliver(self.answers.len() - 1)?;
            for id in self.workers.keys().copied().collect::<Vec<_>>() {
                prop_assert!(self.ordered_to_end.contains(&id), "{id} is not ordered, and lives");
            }
            while !self.workers.is_empty() {
                self.work(0, true)?;
            }
        }
        prop_assert_eq!(self.node.core.report().tasks, [], "all is forgotten");
        prop_assert_eq!(self.node.core.alive(), 0);
        Ok(())
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn whatever_comes_late_or_twice(steps in prop::collection::vec(step(), 1..120)) {
        let mut world = World::new();
        for step in steps {
            world.step(step)?;
            let alive = world.node.core.tasks.values().filter(|task| task.is_alive()).count();
            prop_assert_eq!(alive, world.node.core.alive());
            prop_assert_eq!(alive, world.workers.len(), "nothing lives that the core does not know of");
        }
        world.settle()?;
    }
}

fn still(version: u64, paused: bool) -> Orders {
    orders(version, 0, vec![Order { paused, ..order(1, Want::Run) }])
}

fn is_paused(node: &mut Node) -> bool {
    node.core.report().tasks.iter().any(|report| report.paused)
}

#[test]
fn a_task_stands_still_once_it_runs_and_for_as_long_as_it_is_ordered() {
    let mut node = Node::new();
    node.take(still(1, true));
    assert_eq!(node.handle(Input::Prepared(id(1))), [Action::Run(id(1))]);
    let runs = Input::Running { task: id(1), since_ms: 5 };
    assert_eq!(node.handle(runs), [Action::Report, Action::Pause(id(1), true)]);
    assert_eq!((node.take(still(2, true)), is_paused(&mut node)), (Vec::new(), false), "told once");
    assert_eq!(node.handle(Input::Paused { task: id(1), paused: true }), [Action::Report]);
    assert!(is_paused(&mut node));
    assert_eq!(node.take(still(3, false)), [Action::Pause(id(1), false)]);
    // Before it goes on the order comes anew.
    assert_eq!(node.take(still(4, true)), [Action::Pause(id(1), true)]);
    assert_eq!(
        node.handle(Input::Paused { task: id(1), paused: false }),
        [Action::Report, Action::Pause(id(1), true)],
        "what it says is older than the order"
    );
    assert_eq!(node.handle(Input::Paused { task: id(1), paused: true }), [Action::Report]);
    assert_eq!(node.take(orders(5, 0, vec![order(1, Want::Stop)])), [Action::Kill(id(1))], "it would not hear");
}

#[test]
fn what_an_earlier_run_left_paused_goes_on_once_the_server_says_so_and_not_before() {
    let mut node = Node::new();
    node.handle(Input::Adopted { task: id(1), spec: spec(), stand: Stand::Running { since_ms: 5 }, signalled: 0 });
    assert_eq!(node.handle(Input::Paused { task: id(1), paused: true }), [Action::Report]);
    assert_eq!(node.take(still(1, true)), []);
    assert_eq!(node.take(still(2, false)), [Action::Pause(id(1), false)]);
}

#[test]
fn what_an_earlier_run_left_half_paused_is_told_once_what_it_is_to_do() {
    for pause in [false, true] {
        let mut node = Node::new();
        // Nobody says that all of it stands still, as only some of it does.
        node.handle(Input::Adopted { task: id(1), spec: spec(), stand: Stand::Running { since_ms: 5 }, signalled: 0 });
        assert!(!is_paused(&mut node));
        assert_eq!(node.take(still(1, pause)), [Action::Pause(id(1), pause)]);
        assert_eq!(node.take(still(2, pause)), []);
        assert_eq!(node.take(still(3, !pause)), [Action::Pause(id(1), !pause)]);
    }
}

#[test]
fn paused_work_that_loses_its_server_is_killed() {
    let mut node = Node::new();
    node.run(1);
    node.take(still(9, true));
    node.handle(Input::Paused { task: id(1), paused: true });
    node.now_ms += LEASE_MS * 2 / 3;
    assert_eq!(node.handle(Input::Tick), [Action::Kill(id(1))]);
}
