//! Looks ahead on a fleet small enough to follow by eye.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use offtake_engine::{Event, Fact, JobId, Phase, Policy, Preemption, ServiceId, State, StopReason, decide};
use offtake_fleet::{DomainIx, NodeIx};
use offtake_sim::{Ahead, Awaiting, look_ahead, starts_ahead, with_cap};
use offtake_units::{CpuMilli, Duration, Mebibytes, Ppm, Timestamp, Watts};
use offtake_workload::{Checkpoint, ChipRequest, Dependency, Gang, Job, Program, Service, Start, Tier, When};

/// Four nodes of four chips. A node draws 900 W idle and 2,500 W at work.
const PLAIN: &str = r#"
name = "plain"
levels = ["site"]

[accelerators.chip]
idle_watts = 100
operating_watts = 500
peak_watts = 600

[node_kinds.node]
accelerator = "chip"
chips = 4
cpu_cores = 64
memory_gib = 256
base_watts = 500

[sites.here]
pue = 1.0
nodes = { node = 4 }
"#;

fn secs(seconds: i64) -> Timestamp {
    Timestamp::from_secs(seconds)
}

/// A job of whole nodes.
fn job(nodes: u32, seconds: Option<i64>) -> Job {
    Job {
        name: "job".to_owned(),
        tenant: "tenant".to_owned(),
        tier: Tier::Standard,
        submitted: Timestamp::EPOCH,
        duration: seconds.map(Duration::from_secs),
        deadline: None,
        checkpoint: None,
        pause: None,
        preemptible: false,
        gangs: vec![Gang {
            workers: nodes,
            chips: ChipRequest::Whole(4),
            cpu: CpuMilli::new(4000),
            memory: Mebibytes::new(1024),
            ..Gang::default()
        }],
        ..Job::default()
    }
}

fn checkpointed(job: Job, seconds: i64) -> Job {
    Job { checkpoint: Some(Checkpoint { interval: Duration::from_secs(seconds), bytes: 0 }), ..job }
}

fn tell(state: &mut State, at: i64, event: Event) {
    state.apply(&Fact { at: secs(at), event });
}

fn submit(id: u64, job: Job) -> Event {
    Event::JobSubmitted { job: JobId(id), spec: Arc::new(job) }
}

/// A live state with jobs that were submitted and placed at the beginning.
fn live(jobs: Vec<Job>) -> State {
    let fleet = offtake_fleet::parse(PLAIN, "test fleet", Path::new(""), &BTreeMap::new());
    let mut state = State::default();
    tell(&mut state, 0, Event::FleetLoaded { fleet: Arc::new(fleet.expect("the test's fleet is valid")) });
    let policy = Policy::named("backfill", 7).expect("the test's policy exists");
    tell(&mut state, 0, Event::PolicySet { policy });
    for (id, job) in (0..).zip(jobs) {
        tell(&mut state, 0, submit(id, job));
    }
    decide(&mut state, Timestamp::EPOCH, &mut Vec::new());
    state
}

fn at(seconds: i64, event: Event) -> Fact {
    Fact { at: secs(seconds), event }
}

fn look(state: &State, changes: Vec<Fact>) -> Ahead {
    look_ahead(state.clone(), changes, Vec::new(), None)
}

fn started(ahead: &Ahead, job: u64) -> Option<i64> {
    ahead.jobs[&JobId(job)].started.map(|start| start.as_millis() / 1000)
}

fn ended(ahead: &Ahead, job: u64) -> Option<i64> {
    ahead.jobs[&JobId(job)].ended.map(|end| end.as_millis() / 1000)
}

fn drained(node: u32) -> Event {
    Event::NodeDrained { node: NodeIx(node), reason: "hot".to_owned() }
}

#[test]
fn without_a_change_all_goes_on() {
    let state = live(vec![job(3, Some(100)), job(2, Some(50)), job(4, Some(10))]);
    let before = state.essence();
    let ahead = look(&state, Vec::new());
    assert_eq!(ahead, look(&state, Vec::new()), "the same state has the same ahead of it");
    assert_eq!(state.essence(), before, "the state itself stays where it is");
    assert_eq!([ended(&ahead, 0), started(&ahead, 1), started(&ahead, 2)], [Some(100), Some(100), Some(150)]);
    assert_eq!((ahead.finished, ahead.running, ahead.waiting), (3, 0, 0));
    assert_eq!(ahead.until, secs(160));
    assert_eq!(ahead.mean_wait, Duration::from_secs((100 + 150) / 2));
    assert_eq!(ahead.peak_it, Watts::new(4 * 2500));
}

#[test]
fn starts_are_told_as_far_as_somebody_looks() {
    let state = live(vec![job(3, Some(100)), job(2, Some(50)), job(4, Some(10)), job(4, Some(10))]);
    let starts = |rounds: usize| {
        let mut left = rounds;
        let go_on = || {
            left = left.saturating_sub(1);
            left > 0
        };
        let starts = starts_ahead(state.clone(), Vec::new(), go_on);
        starts.into_iter().map(|(job, at)| (job.0, at.as_millis() / 1000)).collect::<Vec<_>>()
    };
    assert_eq!(starts(100), [(1, 100), (2, 150), (3, 160)]);
    assert_eq!(starts(3), [(1, 100), (2, 150)], "no farther");
    let endless = live(vec![job(3, None), job(2, Some(50))]);
    assert!(starts_ahead(endless, Vec::new(), || true).is_empty(), "nobody can tell");
}

#[test]
fn work_without_an_end_runs_on_until_the_horizon() {
    let state = live(vec![job(3, None), job(2, Some(50))]);
    let ahead = look_ahead(state, Vec::new(), Vec::new(), Some(Duration::HOUR));
    assert_eq!((ahead.finished, ahead.running, ahead.waiting), (0, 1, 1));
    assert_eq!((ahead.until, ahead.mean_wait), (secs(3600), Duration::HOUR), "a wait that lasts counts so far");
}

#[test]
fn a_job_that_gives_way_saves_its_work_within_its_grace_and_loses_nothing_of_it() {
    let spot = |job| Job { tier: Tier::Spot, ..job };
    let preempts =
        Preemption { grace: Duration::from_secs(60), minimum_run: [Duration::ZERO; 4], ..Preemption::default() };
    let policy = Policy { preemption: Some(preempts), ..Policy::named("offtake", 7).expect("it has a name") };
    let ahead_of = |weak: Job| {
        let mut state = live(vec![weak]);
        tell(&mut state, 0, Event::PolicySet { policy: policy.clone() });
        look(&state, vec![at(1500, submit(1, Job { tier: Tier::Reserved, ..job(2, Some(1000)) }))])
    };
    let ahead = ahead_of(checkpointed(spot(job(4, Some(10_000))), 3600));
    assert_eq!((started(&ahead, 1), ended(&ahead, 1)), (Some(1560), Some(2560)));
    assert_eq!((ended(&ahead, 0), ahead.jobs[&JobId(0)].restarts), (Some(2560 + 8500), 1));
    assert_eq!(ahead.lost.0, 16 * 60 * 1_000_000, "it works no more while it saves");
    let ahead = ahead_of(spot(job(4, Some(10_000))));
    assert_eq!((started(&ahead, 1), ended(&ahead, 0)), (Some(1500), Some(2500 + 10_000)), "nothing to save");
    assert_eq!(ahead.lost.0, 16 * 1500 * 1_000_000);
}

#[test]
fn a_drained_node_makes_others_wait_and_disturbs_nobody() {
    let state = live(vec![job(2, Some(100)), job(2, Some(50)), job(1, Some(10)), job(1, Some(10))]);
    let (otherwise, then) = (look(&state, Vec::new()), look(&state, vec![at(0, drained(2))]));
    assert_eq!([started(&otherwise, 2), started(&otherwise, 3)], [Some(50), Some(50)]);
    assert_eq!([started(&then, 2), started(&then, 3)], [Some(50), Some(60)]);
    assert_eq!((then.restarted, ended(&then, 1)), (0, Some(50)));
}

#[test]
fn work_on_a_lost_node_moves_and_goes_on_from_its_checkpoint() {
    let state = live(vec![checkpointed(job(2, Some(100)), 30), job(1, Some(100))]);
    let lose = |node: u32| look(&state, vec![at(70, Event::NodeLost { node: NodeIx(node) })]);
    let otherwise = look(&state, Vec::new());
    let then = lose(0);
    let moved = &then.jobs[&JobId(0)];
    assert_eq!((moved.restarts, moved.started), (1, Some(secs(70))), "two nodes are left for it");
    assert_eq!(moved.ended, Some(secs(70 + 40)), "60 of 100 seconds were saved");
    assert_ne!(moved.nodes, otherwise.jobs[&JobId(0)].nodes);
    assert_eq!(then.lost.0, 10 * 1000 * 8 * 1000, "ten seconds of eight chips");
    assert_eq!(ended(&lose(2), 1), Some(70 + 100), "without checkpoints all is lost");
    assert_eq!(lose(3).jobs, otherwise.jobs, "nobody was there");
}

#[test]
fn work_that_is_not_to_start_again_fails_with_its_node() {
    let program = Program { requeue: false, ..program() };
    let state = live(vec![Job { program: Some(Arc::new(program)), ..job(1, Some(100)) }]);
    let then = look(&state, vec![at(5, Event::NodeLost { node: NodeIx(0) })]);
    assert!(then.jobs[&JobId(0)].failed);
    assert_eq!((then.failed, then.finished, ended(&then, 0)), (1, 0, Some(5)));
}

fn program() -> Program {
    Program {
        start: Start::Command(vec!["true".to_owned()]),
        environment: BTreeMap::new(),
        directory: String::new(),
        output: None,
        error: None,
        append: false,
        layout: offtake_workload::Layout::default(),
        stop: offtake_workload::Stop::default(),
        warning: None,
        requeue: true,
        restarts: 0,
        after: Vec::new(),
        array: None,
        begin: None,
        user: None,
        hold: false,
    }
}

#[test]
fn a_cap_stops_the_youngest_of_the_weakest_tier_and_delays_who_comes() {
    let spot = Job { tier: Tier::Spot, ..job(1, Some(100)) };
    let mut state = live(vec![spot, job(1, Some(100)), job(1, Some(100))]);
    let (fleet, cap) = with_cap(state.fleet(), DomainIx(0), "what-if");
    tell(&mut state, 0, Event::FleetChanged { fleet });
    tell(&mut state, 0, submit(3, Job { submitted: secs(20), ..job(1, Some(10)) }));
    let otherwise = look(&state, Vec::new());
    assert_eq!(started(&otherwise, 3), Some(0), "a cap that nobody has set does not bind");
    // Four idle nodes draw 3,600 W, a node at work 1,600 W more.
    let set = |seconds, watts| at(seconds, Event::CapSet { cap, watts: Watts::new(watts) });
    let then = look(&state, vec![set(50, 3600 + 2 * 1600), set(80, 50_000)]);
    assert_eq!(then.jobs[&JobId(0)].restarts, 1, "three are at work, the weakest goes");
    assert_eq!([started(&then, 0), ended(&then, 0)], [Some(80), Some(180)]);
    assert_eq!([ended(&then, 1), ended(&then, 2)], [Some(100), Some(100)]);
    let lower = look(&state, vec![set(50, 3600 + 1600), set(80, 50_000)]);
    assert_eq!([0, 1, 2].map(|job| lower.jobs[&JobId(job)].restarts), [1, 0, 1], "then the youngest");
    let nothing = look(&state, vec![set(50, 1000), set(80, 50_000)]);
    assert_eq!([0, 1, 2].map(|job| started(&nothing, job)), [Some(80); 3], "a cap below the idle draw stops all");
    assert_eq!(nothing.peak_it, Watts::new(4 * 2500));
}

#[test]
fn a_job_that_is_only_thought_of_shows_when_it_starts_and_whom_it_delays() {
    let state = live(vec![job(4, Some(100)), job(4, Some(10))]);
    let thought = Job { tier: Tier::Reserved, submitted: secs(5), ..job(3, Some(20)) };
    let then = look(&state, vec![at(5, submit(7, thought)), at(5, submit(8, job(5, Some(20))))]);
    assert_eq!([started(&then, 7), started(&then, 1)], [Some(100), Some(120)]);
    assert_eq!(then.jobs[&JobId(7)].waits_since, Some(secs(5)));
    assert!(then.jobs[&JobId(8)].refused && then.jobs[&JobId(8)].started.is_none());
    assert_eq!((then.refused, then.finished), (1, 3));
}

#[test]
fn jobs_wait_for_those_they_depend_on() {
    let mut state = live(vec![job(1, Some(100))]);
    let mut awaiting = Vec::new();
    let depends = [
        (1, 0, When::Succeeded),
        (2, 0, When::Started),
        (3, 1, When::Started),
        (4, 1, When::Failed),
        (5, 4, When::Ended),
    ];
    for (id, on, when) in depends {
        tell(&mut state, 0, submit(id, job(1, Some(10))));
        tell(&mut state, 0, Event::JobHeld { job: JobId(id) });
        awaiting.push(Awaiting { job: JobId(id), after: vec![Dependency { job: on, when }], begin: None });
    }
    tell(&mut state, 0, submit(6, job(1, Some(10))));
    tell(&mut state, 0, Event::JobHeld { job: JobId(6) });
    tell(&mut state, 0, submit(7, job(1, Some(10))));
    tell(&mut state, 0, Event::JobHeld { job: JobId(7) });
    awaiting.push(Awaiting { job: JobId(7), after: Vec::new(), begin: Some(secs(42)) });
    // It has started already, which the server knows and says.
    awaiting[1].after.clear();
    let ahead = look_ahead(state, Vec::new(), awaiting, None);
    let starts = [1, 2, 3, 4, 5, 6, 7].map(|job| started(&ahead, job));
    assert_eq!(starts, [Some(100), Some(0), Some(100), None, Some(110), None, Some(42)]);
    assert!(ahead.jobs[&JobId(4)].failed, "what waits for a failure that never comes is withdrawn");
    assert_eq!((ahead.waiting, ahead.failed), (1, 1), "who is held by people stays where it is");
}

#[test]
fn what_is_being_stopped_is_gone_in_a_moment() {
    let mut state = live(vec![job(2, None), job(2, None), job(4, Some(10))]);
    for (id, reason) in [(0, StopReason::Cancelled), (1, StopReason::Held)] {
        tell(&mut state, 1, Event::JobStopping { job: JobId(id), reason, by: None });
    }
    let ahead = look(&state, Vec::new());
    assert_eq!(started(&ahead, 2), Some(1));
    assert_eq!((ahead.running, ahead.waiting, ahead.failed), (0, 1, 1));
}

#[test]
fn many_jobs_are_looked_through_at_once() {
    let jobs = (0..10_000).map(|number| job(1 + number % 2, Some(60 + i64::from(number % 7)))).collect();
    let state = live(jobs);
    let ahead = look_ahead(state, vec![at(600, drained(1))], Vec::new(), Some(Duration::from_secs(30 * 24 * 3600)));
    assert_eq!((ahead.finished, ahead.waiting), (10_000, 0));
    assert!(matches!(ahead.jobs.values().next(), Some(first) if first.ended.is_some()));
}

#[test]
fn a_started_job_counts_from_its_start() {
    let mut state = live(vec![job(1, Some(100))]);
    tell(&mut state, 7, Event::JobStarted { job: JobId(0) });
    assert!(matches!(state.job(JobId(0)).map(|work| &work.phase), Some(Phase::Running { .. })));
    assert_eq!(ended(&look(&state, Vec::new()), 0), Some(107));
}

const CHAT: ServiceId = ServiceId(100);

/// A service of whole nodes that wants a share of four of them in each hour.
fn chat(minimum: u32, share: impl Fn(u32) -> u32) -> Event {
    let demand = (0..24).map(|hour| Ppm::new(share(hour))).collect();
    let replica = job(1, None).gangs.remove(0);
    let program = Some(Arc::new(program()));
    let spec = Service { program, name: "chat".to_owned(), replica, minimum, maximum: 4, demand, ..Service::default() };
    Event::ServiceSubmitted { service: CHAT, spec: Arc::new(spec) }
}

fn scaled(replicas: u32) -> Event {
    Event::ServiceScaled { service: CHAT, replicas }
}

#[test]
fn services_follow_their_curves_and_what_they_give_back_is_used() {
    let mut state = live(Vec::new());
    tell(&mut state, 0, chat(0, |hour| if hour < 2 { 1_000_000 } else { 250_000 }));
    tell(&mut state, 0, scaled(4));
    decide(&mut state, Timestamp::EPOCH, &mut Vec::new());
    tell(&mut state, 10, submit(0, job(3, Some(100))));
    decide(&mut state, secs(10), &mut Vec::new());
    let ahead = look(&state, Vec::new());
    assert_eq!((started(&ahead, 0), ended(&ahead, 0)), (Some(7200), Some(7300)));
    assert_eq!(starts_ahead(state.clone(), Vec::new(), || true)[&JobId(0)], secs(7200));
    assert_eq!(ahead.until, secs(7300), "hours alone do not go on for ever");

    // What never fits is looked for in each hour of the day.
    tell(&mut state, 20, submit(1, job(4, Some(100))));
    decide(&mut state, secs(20), &mut Vec::new());
    let ahead = look(&state, Vec::new());
    assert_eq!((ahead.waiting, ahead.until), (1, secs(26 * 3600)));

    // With a horizon the curve is followed as far as that.
    let mut idle = live(Vec::new());
    tell(&mut idle, 0, chat(0, |hour| if hour == 5 { 1_000_000 } else { 0 }));
    let peak = |hours: u64| {
        look_ahead(idle.clone(), Vec::new(), Vec::new(), Some(Duration::from_secs(3600 * hours as i64))).peak_it
    };
    assert_eq!((peak(4), peak(6)), (Watts::new(3_600), Watts::new(10_000)));
}

#[test]
fn replicas_leave_nodes_that_would_be_drained() {
    let mut state = live(Vec::new());
    tell(&mut state, 0, chat(1, |_| 250_000));
    decide(&mut state, Timestamp::EPOCH, &mut Vec::new());
    tell(&mut state, 0, submit(0, job(2, Some(100))));
    decide(&mut state, Timestamp::EPOCH, &mut Vec::new());
    let comes = || at(10, submit(1, job(1, Some(10))));
    assert_eq!(started(&look(&state, vec![comes()]), 1), Some(10));
    let (_, replica) = state.jobs().into_iter().find(|(_, work)| work.spec.service.is_some()).expect("it has one");
    let Phase::Running { placement, .. } = &replica.phase else { unreachable!("it runs") };
    let node = placement.nodes()[0].first.0;
    let ahead = look(&state, vec![at(0, drained(node)), comes()]);
    assert_eq!(started(&ahead, 1), Some(100), "the replica has taken the last node");
}

#[test]
fn a_service_that_would_come_starts_once_all_that_it_wants_has_nodes() {
    let state = live(vec![job(2, Some(100))]);
    let ask = |minimum| look(&state, vec![at(0, chat(minimum, |_| 0)), at(5, submit(1, job(1, Some(10))))]);
    let small = ask(2);
    assert_eq!((started(&small, 100), started(&small, 1)), (Some(0), Some(100)), "and it keeps others waiting");
    assert_eq!(small.jobs[&JobId(100)].nodes.iter().map(|nodes| nodes.count).sum::<u32>(), 2);
    assert_eq!(started(&ask(3), 100), Some(100));
    let Event::ServiceSubmitted { spec, .. } = chat(1, |_| 0) else { unreachable!("it is one") };
    let mut large = (*spec).clone();
    large.replica.workers = 5;
    let large = Event::ServiceSubmitted { service: CHAT, spec: Arc::new(large) };
    assert!(look(&state, vec![at(0, large)]).jobs[&JobId(100)].refused);
}
