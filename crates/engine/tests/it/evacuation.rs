//! Replicas leave drained nodes, and their services stay up meanwhile.

use std::sync::Arc;

use offtake_engine::{Event, JobId, Phase, ServiceId, Stage, StopReason};
use offtake_fleet::NodeIx;
use offtake_units::Ppm;
use offtake_workload::Service;
use proptest::prelude::*;

use super::support::{Engine, PLAIN, fleet, gang, job};

const CHAT: ServiceId = ServiceId(900);

/// What may happen to a service with a replica a node half.
#[derive(Clone, Debug)]
enum Step {
    Drain(u32),
    Resume(u32),
    Lose(u32),
    Return(u32),
    Demand(u32),
    Bound(u32, u32),
    /// The replica at this place starts to serve, if it is about to.
    Start(usize),
    /// The one at this place that is being stopped has ended.
    End(usize),
    /// The one at this place ends by itself.
    Crash(usize),
    /// Other work comes that fills so many nodes for so many seconds.
    Work(u32, i64),
    Pass(i64),
    Restore,
}

fn steps() -> impl Strategy<Value = Step> {
    let node = 0u32..4;
    prop_oneof![
        4 => node.clone().prop_map(Step::Drain),
        3 => node.clone().prop_map(Step::Resume),
        1 => node.clone().prop_map(Step::Lose),
        1 => node.prop_map(Step::Return),
        1 => (0u32..9).prop_map(Step::Demand),
        1 => (0u32..4, 1u32..9).prop_map(|(least, most)| Step::Bound(least, most)),
        6 => (0usize..8).prop_map(Step::Start),
        6 => (0usize..8).prop_map(Step::End),
        1 => (0usize..8).prop_map(Step::Crash),
        1 => (1u32..3, 1i64..60).prop_map(|(nodes, seconds)| Step::Work(nodes, seconds)),
        2 => (1i64..30).prop_map(Step::Pass),
        1 => Just(Step::Restore),
    ]
}

fn chat(minimum: u32, maximum: u32, budget: Option<u32>) -> Service {
    let program = serde_json::json!({ "start": { "command": ["serve"] }, "requeue": true });
    Service {
        program: Some(serde_json::from_value(program).expect("a program")),
        name: "chat".to_owned(),
        tenant: "web".to_owned(),
        replica: gang(1, 2),
        minimum,
        maximum,
        demand: vec![Ppm::ONE; 24],
        disruption_budget: budget,
        ..Service::default()
    }
}

impl Engine {
    fn replicas(&self, is: impl Fn(&Phase) -> bool) -> Vec<JobId> {
        let jobs = self.state.jobs().into_iter();
        jobs.filter(|(_, work)| work.spec.service.is_some() && is(&work.phase)).map(|(job, _)| job).collect()
    }

    fn about_to_serve(&self) -> Vec<JobId> {
        self.replicas(|phase| matches!(phase, Phase::Running { stage: Stage::Starting, .. }))
    }

    fn serving(&self) -> Vec<JobId> {
        self.replicas(|phase| matches!(phase, Phase::Running { stage: Stage::Running, .. }))
    }

    fn being_stopped(&self) -> Vec<JobId> {
        self.replicas(|phase| matches!(phase, Phase::Running { stage: Stage::Stopping(_), .. }))
    }

    fn on_drained(&self) -> Vec<JobId> {
        self.replicas(|_| true).into_iter().filter(|job| self.state.drained_under(*job).is_some()).collect()
    }

    /// The node of a replica is no longer there for it.
    fn over(&mut self, replica: JobId) {
        let phase = self.state.job(replica).map(|work| work.phase.clone());
        self.tell(match phase {
            Some(Phase::Running { stage: Stage::Stopping(StopReason::Retired), .. }) => {
                Event::ReplicaRetired { service: CHAT, replica }
            }
            _ => Event::JobRequeued { job: replica, saved_until: None, held: false },
        });
    }

    /// A pass: of the wanted replicas no more are down by its decisions than the budget allows.
    fn decide_within_budget(&mut self) {
        let served = self.serving().len();
        self.decide();
        let serve = self.serving().len();
        let known = self.state.service(CHAT).expect("nobody withdraws it");
        let least = known.spec.disruption_budget.map_or(0, |budget| known.wanted.saturating_sub(budget)) as usize;
        assert!(serve == served || serve >= least, "{served} served, now {serve}, and {least} must");
    }

    /// All that has begun comes about.
    fn settle(&mut self) {
        for _ in 0..40 {
            self.being_stopped().into_iter().for_each(|replica| self.over(replica));
            self.decide_within_budget();
            self.about_to_serve().into_iter().for_each(|job| self.tell(Event::JobStarted { job }));
            self.decide_within_budget();
        }
        assert_eq!(self.being_stopped(), [], "it comes to rest");
    }

    /// Whether one more replica would find room on a node that takes work.
    fn has_room(&self) -> bool {
        let takes = |node: &u32| !self.state.conditions().contains_key(&NodeIx(*node));
        (0..4).filter(takes).any(|node| self.state.capacity().class_of(NodeIx(node)).vector.whole >= 2)
    }
}

fn begin(minimum: u32, maximum: u32, budget: Option<u32>, demand: u32) -> Engine {
    let mut engine = Engine::new(fleet(PLAIN), "offtake");
    engine.tell(Event::ServiceSubmitted { service: CHAT, spec: Arc::new(chat(minimum, maximum, budget)) });
    engine.tell(Event::ServiceScaled { service: CHAT, replicas: demand });
    engine.settle();
    engine
}

fn drained(node: u32) -> Event {
    Event::NodeDrained { node: NodeIx(node), reason: "new disks".to_owned() }
}

fn some(replicas: &[JobId], place: usize) -> Option<JobId> {
    (!replicas.is_empty()).then(|| replicas[place % replicas.len()])
}

fn drains_keep_services_up(minimum: u32, more: u32, budget: Option<u32>, steps: Vec<Step>) {
    let mut engine = begin(minimum, (minimum + more).max(1), budget, 4);
    for step in steps {
        match step {
            Step::Drain(node) => engine.tell(drained(node)),
            Step::Resume(node) => engine.tell(Event::NodeResumed { node: NodeIx(node) }),
            Step::Lose(node) => {
                engine.tell(Event::NodeLost { node: NodeIx(node) });
                let is_there =
                    |engine: &Engine, job: JobId| engine.nodes(job).iter().any(|nodes| nodes.numbers().contains(&node));
                let replicas = engine.replicas(|_| true);
                for replica in replicas {
                    if is_there(&engine, replica) {
                        engine.over(replica);
                    }
                }
            }
            Step::Return(node) => engine.tell(Event::NodeReturned { node: NodeIx(node) }),
            Step::Demand(replicas) => engine.tell(Event::ServiceScaled { service: CHAT, replicas }),
            Step::Bound(least, most) => {
                let (minimum, maximum) = (least.min(most), most);
                engine.tell(Event::ServiceBounded { service: CHAT, minimum, maximum });
            }
            Step::Start(place) => {
                let job = some(&engine.about_to_serve(), place);
                job.into_iter().for_each(|job| engine.tell(Event::JobStarted { job }));
            }
            Step::End(place) => {
                let replica = some(&engine.being_stopped(), place);
                replica.into_iter().for_each(|replica| engine.over(replica));
            }
            Step::Crash(place) => {
                let replica = some(&engine.serving(), place);
                replica.into_iter().for_each(|replica| engine.over(replica));
            }
            Step::Work(nodes, seconds) => drop(engine.submit(job(vec![gang(nodes, 4)], Some(seconds)))),
            Step::Pass(seconds) => engine.pass(seconds),
            Step::Restore => engine.restore(),
        }
        engine.decide_within_budget();
    }
    // Other work ends.
    for _ in 0..20 {
        engine.settle();
        engine.pass(60);
    }
    engine.settle();
    let folded = engine.folded();
    assert_eq!(folded.essence(), engine.state.essence(), "the fold of the journal is the state");
    if engine.on_drained().is_empty() {
        return;
    }
    let known = engine.state.service(CHAT).expect("nobody withdraws it");
    let least = known.spec.disruption_budget.map_or(0, |budget| known.wanted.saturating_sub(budget)) as usize;
    assert!(engine.serving().len() <= least, "the budget lets one more go");
    assert!(!engine.has_room() || known.wanted == known.spec.maximum, "another could take its place");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, ..ProptestConfig::default() })]

    #[test]
    fn hold_where_nodes_are_drained(
        minimum in 0u32..4,
        more in 0u32..5,
        budget in prop_oneof![Just(None), (0u32..4).prop_map(Some)],
        steps in prop::collection::vec(steps(), 1..60),
    ) {
        drains_keep_services_up(minimum, more, budget, steps);
    }
}

#[test]
fn another_serves_before_one_leaves_where_there_may_be_more() {
    for budget in [None, Some(0), Some(1)] {
        let mut engine = begin(0, 6, budget, 4);
        let full: u32 =
            (0..4).find(|node| engine.state.capacity().class_of(NodeIx(*node)).vector.whole == 0).expect("one");
        engine.tell(drained(full));
        engine.decide();
        assert_eq!((engine.serving().len(), engine.about_to_serve().len()), (4, 2), "{budget:?}");
        let first = engine.about_to_serve()[0];
        engine.tell(Event::JobStarted { job: first });
        engine.decide();
        assert_eq!((engine.serving().len(), engine.being_stopped().len()), (4, 1), "each leaves for one that serves");
        engine.settle();
        assert_eq!((engine.serving().len(), engine.on_drained()), (4, Vec::new()));
        assert_eq!(engine.replicas(|_| true).len(), 4, "and none is left over");
    }
}

#[test]
fn where_there_may_be_no_more_as_many_leave_at_once_as_the_budget_allows() {
    for (budget, at_once) in [(Some(0), 0), (Some(1), 1), (Some(2), 2), (None, 2)] {
        let mut engine = begin(4, 4, budget, 4);
        let full: u32 =
            (0..4).find(|node| engine.state.capacity().class_of(NodeIx(*node)).vector.whole == 0).expect("one");
        engine.tell(drained(full));
        engine.decide();
        assert_eq!(engine.being_stopped().len(), at_once, "{budget:?}");
        engine.settle();
        assert_eq!(engine.on_drained().len(), if at_once == 0 { 2 } else { 0 }, "{budget:?}");
        assert_eq!(engine.serving().len(), 4);
        engine.tell(Event::NodeResumed { node: NodeIx(full) });
        assert_eq!(engine.decide(), 0, "who stayed may stay");
    }
}

#[test]
fn of_too_many_those_go_first_that_would_have_to_leave() {
    let mut engine = begin(4, 4, Some(0), 4);
    let oldest = engine.serving()[0];
    let node = engine.nodes(oldest)[0].first;
    engine.tell(drained(node.0));
    engine.decide();
    engine.tell(Event::ServiceBounded { service: CHAT, minimum: 3, maximum: 3 });
    engine.decide();
    assert_eq!(engine.being_stopped(), [oldest]);
}
