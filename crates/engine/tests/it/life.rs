//! The life of a job, of nodes, of caps and of the fleet, told as short stories.

use offtake_engine::{
    Blocked, ChipTime, Event, Explanation, JobId, LimitIx, Obstacle, Phase, Stage, State, StopReason, Waiting,
};
use offtake_fleet::{DomainIx, NodeIx};
use offtake_units::{Duration, Timestamp, Watts};
use offtake_workload::{Gang, Job, Strength, Tier};

use crate::support::{Engine, ISLANDS, MIXED, PLAIN, fleet, gang, job, of, share, within};

const CHIP_SECOND: i128 = 1000 * 1000;

fn stage(engine: &Engine, job: JobId) -> Option<Stage> {
    match engine.state.job(job).map(|work| &work.phase) {
        Some(Phase::Running { stage, .. }) => Some(*stage),
        _ => None,
    }
}

fn ends(engine: &Engine, job: JobId) -> Option<Timestamp> {
    match engine.state.job(job).map(|work| &work.phase) {
        Some(Phase::Running { ends, .. }) => Some(*ends),
        _ => None,
    }
}

fn waiting(engine: &mut Engine, job: JobId) -> Waiting {
    match engine.state.explain(job) {
        Some(Explanation::Waiting(waiting)) => waiting,
        other => unreachable!("job {} waits, but: {other:?}", job.0),
    }
}

fn fold_is_state(engine: &Engine) {
    assert_eq!(engine.folded().essence(), engine.state.essence());
}

// Jobs.

#[test]
fn a_job_goes_through_its_stages_and_its_time_counts_from_its_start() {
    let mut engine = Engine::new(fleet(PLAIN), "backfill");
    let job = engine.submit(job(vec![gang(1, 4)], Some(100)));
    engine.pass(0);
    assert_eq!((stage(&engine, job), ends(&engine, job)), (Some(Stage::Starting), Some(Timestamp::from_secs(100))));
    engine.pass(3);
    engine.tell(Event::JobStarted { job });
    assert_eq!((stage(&engine, job), ends(&engine, job)), (Some(Stage::Running), Some(Timestamp::from_secs(103))));
    engine.pass(5);
    engine.tell(Event::JobStarted { job });
    assert_eq!(ends(&engine, job), Some(Timestamp::from_secs(103)), "a repeated report is harmless");
    engine.tell(Event::JobStopping { job, reason: StopReason::TimeLimit, by: None });
    engine.tell(Event::JobStarted { job });
    assert_eq!(stage(&engine, job), Some(Stage::Stopping(StopReason::TimeLimit)), "a late report changes nothing");
    fold_is_state(&engine);
}

#[test]
fn a_late_start_takes_its_power_from_the_holds_that_it_outlasts() {
    let mut engine = Engine::new(fleet(MIXED), "backfill");
    let rack =
        |workers, seconds| job(vec![Gang { accelerators: vec!["h100".to_owned()], ..gang(workers, 4) }], seconds);
    let first = engine.submit(rack(14, Some(100)));
    engine.pass(0);
    let head = engine.submit(rack(16, Some(50)));
    engine.pass(0);
    assert_eq!(engine.state.holds().first().map(|hold| hold.job), Some(head));
    let short = engine.submit(rack(1, Some(100)));
    engine.pass(0);
    assert!(engine.runs(first));
    engine.pass(10);
    let left = |engine: &Engine| -> i64 {
        engine.state.capacity().limits().iter().filter_map(offtake_engine::Limit::extra).sum()
    };
    let before = left(&engine);
    engine.tell(Event::JobStarted { job: short });
    engine.tell(Event::JobStarted { job: first });
    assert!(left(&engine) < before, "what it will still draw when the hold begins is left to nobody else");
    engine.pass(100);
    engine.pass(10);
    assert!(engine.runs(head), "held up only as long as who started late took");
    fold_is_state(&engine);
}

#[test]
fn a_requeued_job_comes_before_those_that_came_after_it() {
    let mut engine = Engine::new(fleet(PLAIN), "backfill");
    let first = engine.submit(job(vec![gang(4, 4)], Some(100)));
    let others: Vec<JobId> = (0..200).map(|_| engine.submit(job(vec![gang(4, 4)], Some(100)))).collect();
    engine.pass(0);
    engine.pass(10);
    engine.tell(Event::JobRequeued { job: first, saved_until: None, held: false });
    assert_eq!(engine.state.queue().jobs(), 201);
    engine.pass(0);
    assert!(engine.runs(first) && !engine.runs(others[0]));
    assert_eq!(engine.state.job(first).map(|work| work.attempts), Some(2));
    assert_eq!(engine.state.ledger().lost, ChipTime(10 * 16 * CHIP_SECOND));
    fold_is_state(&engine);
}

#[test]
fn what_was_saved_is_not_lost() {
    let mut engine = Engine::new(fleet(PLAIN), "backfill");
    let job = engine.submit(job(vec![gang(1, 4)], None));
    engine.pass(0);
    engine.pass(100);
    let requeue = |saved| Event::JobRequeued { job, saved_until: Some(Timestamp::from_secs(saved)), held: false };
    engine.tell(requeue(70));
    assert_eq!(engine.state.ledger().lost, ChipTime(30 * 4 * CHIP_SECOND));
    engine.pass(0);
    engine.pass(10);
    engine.tell(requeue(20));
    assert_eq!(engine.state.ledger().lost, ChipTime(40 * 4 * CHIP_SECOND), "what was saved by an earlier attempt");
    engine.pass(0);
    engine.tell(requeue(9999));
    assert_eq!(engine.state.ledger().lost, ChipTime(40 * 4 * CHIP_SECOND), "nothing is saved in the future");
}

#[test]
fn a_job_on_hold_waits_beside_the_queue_and_keeps_its_turn() {
    let mut engine = Engine::new(fleet(PLAIN), "backfill");
    let held = engine.submit(job(vec![gang(3, 4)], Some(10)));
    engine.tell(Event::JobHeld { job: held });
    let other = engine.submit(job(vec![gang(3, 4)], Some(10)));
    let last = engine.submit(job(vec![gang(3, 4)], Some(10)));
    engine.pass(0);
    assert!(engine.runs(other) && !engine.runs(held));
    assert!(matches!(engine.state.explain(held), Some(Explanation::Held { .. })));
    engine.tell(Event::JobReleased { job: held });
    engine.pass(0);
    assert_eq!(engine.state.holds().first().map(|hold| hold.job), Some(held), "it is first in its lane again");
    assert_eq!(engine.state.blocked(last), Some(Blocked::Behind(held)));
    engine.pass(10);
    assert!(engine.runs(held) && !engine.runs(last));
    engine.tell(Event::JobHeld { job: held });
    assert!(engine.runs(held), "one that runs is requeued instead");
    engine.tell(Event::JobRequeued { job: held, saved_until: None, held: true });
    engine.pass(0);
    assert!(!engine.runs(held) && engine.runs(last));
    for event in [Event::JobCancelled { job: held }, Event::JobReleased { job: held }, Event::JobHeld { job: held }] {
        engine.tell(event);
    }
    assert_eq!((engine.state.ended().cancelled, engine.state.queue().jobs()), (1, 0));
    fold_is_state(&engine);
}

#[test]
fn a_job_on_hold_gives_up_what_was_kept_for_it() {
    let mut engine = Engine::new(fleet(PLAIN), "backfill");
    engine.submit(job(vec![gang(3, 4)], Some(100)));
    let head = engine.submit(job(vec![gang(4, 4)], Some(10)));
    let long = engine.submit(job(vec![gang(1, 4)], Some(1000)));
    engine.pass(0);
    assert!(!engine.runs(long));
    engine.tell(Event::JobHeld { job: head });
    assert!(engine.state.holds().is_empty());
    engine.pass(0);
    assert!(engine.runs(long));
}

#[test]
fn what_failed_is_counted_as_lost() {
    let mut engine = Engine::new(fleet(PLAIN), "backfill");
    let failing = engine.submit(job(vec![gang(1, 4)], None));
    let never = engine.submit(job(vec![gang(4, 4)], None));
    engine.pass(0);
    engine.pass(10);
    engine.tell(Event::JobFailed { job: failing });
    engine.tell(Event::JobFailed { job: never });
    engine.tell(Event::JobFailed { job: never });
    assert_eq!((engine.state.ended().failed, engine.state.ended().finished), (2, 0));
    assert_eq!(engine.state.ledger().lost, ChipTime(10 * 4 * CHIP_SECOND));
}

// Nodes.

#[test]
fn nodes_that_are_out_take_no_work_whether_held_or_not() {
    let mut engine = Engine::new(fleet(PLAIN), "backfill");
    let running = engine.submit(job(vec![gang(1, 4)], Some(100)));
    engine.pass(0);
    let node = engine.nodes(running)[0].first;
    let idle = engine.state.capacity().site_draw(offtake_fleet::SiteIx(0));
    engine.tell(Event::NodeDrained { node, reason: "fan 3".to_owned() });
    engine.tell(Event::NodeLost { node });
    assert_eq!(engine.state.capacity().site_draw(offtake_fleet::SiteIx(0)), idle, "nobody has powered it off");
    assert!(engine.runs(running), "work keeps its node until it is ended");
    let wide = engine.submit(job(vec![gang(4, 4)], Some(10)));
    engine.pass(0);
    let why = waiting(&mut engine, wide);
    assert!(why.obstacles.contains(&Obstacle::Room) && why.earliest.is_none(), "{why:?}");
    engine.pass(100);
    assert!(!engine.runs(wide));
    let why = waiting(&mut engine, wide);
    assert_eq!(why.obstacles, [Obstacle::Out { nodes: vec![node] }]);
    let (out, condition) = why.out.first().expect("the node is out");
    assert_eq!((*out, condition.lost, condition.drained.as_deref()), (node, true, Some("fan 3")));
    engine.tell(Event::NodeReturned { node });
    engine.pass(0);
    assert!(!engine.runs(wide), "it is still drained");
    engine.tell(Event::NodeResumed { node });
    engine.pass(0);
    assert!(engine.runs(wide));
    assert!(engine.state.conditions().is_empty());
    fold_is_state(&engine);
}

#[test]
fn nodes_beside_one_that_is_out_wake_who_waits_for_them() {
    let mut engine = Engine::new(fleet(PLAIN), "backfill");
    let all = engine.submit(job(vec![gang(4, 4)], None));
    let three = engine.submit(job(vec![gang(3, 4)], None));
    engine.pass(0);
    engine.tell(Event::NodeDrained { node: NodeIx(0), reason: "hot".to_owned() });
    engine.tell(Event::JobFinished { job: all });
    engine.pass(0);
    assert!(engine.runs(three));
}

#[test]
fn a_hold_on_a_node_that_goes_out_is_planned_anew() {
    let mut engine = Engine::new(fleet(PLAIN), "backfill");
    engine.submit(job(vec![gang(2, 4)], Some(100)));
    engine.submit(job(vec![gang(2, 4)], Some(50)));
    let head = engine.submit(job(vec![gang(2, 4)], Some(50)));
    engine.pass(0);
    let held = engine.state.holds()[0].clone();
    assert_eq!((held.job, held.start), (head, Timestamp::from_secs(50)));
    let node = held.nodes[0].first;
    engine.tell(Event::NodeLost { node });
    assert!(engine.state.holds().is_empty());
    engine.pass(0);
    let held = engine.state.holds()[0].clone();
    assert_eq!((held.job, held.start), (head, Timestamp::from_secs(100)));
    assert!(!held.nodes.iter().any(|range| range.numbers().contains(&node.0)));
    engine.tell(Event::NodeReturned { node });
    fold_is_state(&engine);
}

#[test]
fn a_node_that_does_not_exist_changes_nothing() {
    let mut engine = Engine::new(fleet(PLAIN), "backfill");
    engine.tell(Event::NodeLost { node: NodeIx(99) });
    engine.tell(Event::CapSet { cap: LimitIx(99), watts: Watts::new(1) });
    assert!(engine.state.conditions().is_empty() && engine.state.caps_set().is_empty());
}

// The fleet.

#[test]
fn work_stays_where_it_is_when_the_fleet_grows_around_it() {
    let mut engine = Engine::new(fleet(MIXED), "offtake");
    let small = Gang { accelerators: vec!["a10".to_owned()], ..gang(3, 2) };
    let south = engine.submit(job(vec![small.clone()], None));
    let north = engine.submit(job(vec![within(gang(6, 4), "rack", Strength::Required)], None));
    let waits = engine.submit(job(vec![Gang { workers: 5, ..small }], None));
    engine.pass(0);
    let names = |engine: &Engine, job: JobId| -> Vec<String> {
        let nodes = engine.nodes(job).into_iter().flat_map(offtake_engine::NodeRange::numbers);
        nodes.map(|node| engine.state.fleet().node_name(NodeIx(node))).collect()
    };
    let before = [names(&engine, south), names(&engine, north)];
    let drained = NodeIx(engine.state.fleet().nodes.len() as u32 - 1);
    engine.tell(Event::NodeDrained { node: drained, reason: "disk".to_owned() });
    engine.tell(Event::CapSet { cap: LimitIx(1), watts: Watts::new(50_000) });
    let rejected =
        engine.submit(job(vec![Gang { attributes: [("os".to_owned(), "x".to_owned())].into(), ..gang(1, 1) }], None));
    let grown = MIXED
        .replace("{ rack = 4 }", "{ rack = 5 }")
        .replace("chips = 2\ncpu_cores = 16", "chips = 2\ncpu_cores = 16\nattributes = { os = \"x\" }");
    engine.tell(Event::FleetChanged { fleet: fleet(&grown) });
    assert_eq!([names(&engine, south), names(&engine, north)], before);
    let (out, _) = engine.state.conditions().first_key_value().expect("the node is still drained");
    assert_eq!(out.0, drained.0 + 6, "under its new number");
    let set: Vec<_> = engine.state.caps_set().values().collect();
    assert_eq!(set, [&Watts::new(50_000)]);
    assert!(matches!(engine.state.job(waits).map(|work| &work.phase), Some(Phase::Pending(_))));
    engine.pass(0);
    assert!(engine.runs(rejected), "what could never run before can now");
    fold_is_state(&engine);
}

#[test]
fn a_fleet_without_the_nodes_on_which_work_runs_changes_nothing() {
    let mut engine = Engine::new(fleet(PLAIN), "backfill");
    let running = engine.submit(job(vec![gang(4, 4)], None));
    let waits = engine.submit(job(vec![gang(4, 4)], None));
    engine.pass(0);
    let smaller = fleet(&PLAIN.replace("node = 4 }", "node = 3 }"));
    engine.tell(Event::FleetChanged { fleet: std::sync::Arc::clone(&smaller) });
    assert_eq!((engine.state.fleet().nodes.len(), engine.runs(running)), (4, true));
    engine.tell(Event::JobFinished { job: running });
    engine.tell(Event::FleetChanged { fleet: smaller });
    engine.pass(0);
    assert!(engine.state.job(waits).is_none(), "four nodes will never be there again");
    assert_eq!((engine.state.fleet().nodes.len(), engine.state.ended().rejected), (3, 1));
    fold_is_state(&engine);
}

#[test]
fn requests_that_become_the_same_are_counted_together() {
    for policy in ["offtake", "fgd"] {
        let mut engine = Engine::new(fleet(MIXED), policy);
        let h100 = Gang { accelerators: vec!["h100".to_owned()], ..gang(1, 2) };
        let submit = |engine: &mut Engine, gang: &Gang| engine.submit(job(vec![gang.clone()], Some(10)));
        (0..20).for_each(|_| {
            submit(&mut engine, &h100);
            submit(&mut engine, &gang(1, 2));
            submit(&mut engine, &gang(1, 4));
        });
        engine.pass(0);
        engine.pass(10);
        engine.pass(10);
        let only_h100 =
            MIXED.replace("nodes = { a10-2 = 5, h100-4 = 2, host = 2 }", "nodes = { h100-4 = 2, host = 2 }");
        engine.tell(Event::FleetChanged { fleet: fleet(&only_h100) });
        engine.restore();
        (0..20).for_each(|_| {
            submit(&mut engine, &h100);
            submit(&mut engine, &gang(1, 2));
        });
        engine.pass(1);
        fold_is_state(&engine);
    }
}

#[test]
fn accounts_go_on_when_the_fleet_changes() {
    let mut engine = Engine::new(fleet(MIXED), "backfill");
    engine.pass(3600);
    let before = engine.state.ledger().sites.clone();
    let other = MIXED.replace("[sites.north]", "[sites.alps]\npue = 1.1\nnodes = { host = 1 }\n\n[sites.north]");
    engine.tell(Event::FleetChanged { fleet: fleet(&other) });
    let after = &engine.state.ledger().sites;
    let names: Vec<_> = engine.state.fleet().sites.iter().map(|site| site.name.as_str()).collect();
    assert_eq!(names, ["alps", "north", "south"]);
    assert_eq!(after[1..], before[..]);
}

// Caps.

#[test]
fn a_cap_that_falls_lets_nobody_in_until_it_rises() {
    let mut engine = Engine::new(fleet(MIXED), "backfill");
    let rack =
        |engine: &mut Engine| engine.submit(job(vec![within(gang(2, 4), "rack", Strength::Required)], Some(1000)));
    let running = rack(&mut engine);
    engine.pass(0);
    assert!(engine.runs(running));
    let grid =
        LimitIx(engine.state.fleet().caps.iter().position(|cap| cap.name == "north-grid").expect("it is there") as u32);
    engine.tell(Event::CapSet { cap: grid, watts: Watts::new(1000) });
    let more: Vec<JobId> = (0..4).map(|_| rack(&mut engine)).collect();
    engine.pass(0);
    let runs = |engine: &Engine| more.iter().filter(|job| engine.runs(**job)).count();
    assert_eq!(runs(&engine), 0, "no domain at rack level is in the south");
    engine.pass(120);
    assert!(!engine.runs(running), "it has given its power back");
    assert_eq!(runs(&engine), 0);
    let why = waiting(&mut engine, more[0]);
    let limits: Vec<LimitIx> = why
        .obstacles
        .iter()
        .filter_map(|obstacle| match obstacle {
            Obstacle::Power { limit, left, .. } => {
                assert_eq!(*left, Watts::ZERO);
                Some(*limit)
            }
            _ => None,
        })
        .collect();
    assert_eq!(limits, [grid]);
    engine.restore();
    engine.tell(Event::CapSet { cap: grid, watts: Watts::new(66_000) });
    assert!(engine.state.caps_set().is_empty());
    engine.pass(0);
    assert_eq!(runs(&engine), 4, "power that comes back wakes who waits for it");
    assert!(engine.runs(running), "whoever was there before first");
    fold_is_state(&engine);
}

#[test]
fn a_cap_that_could_never_bind_does_once_it_is_set_low() {
    let text = format!("{PLAIN}\n[caps.high]\non = \"here\"\nwatts = 50000\nmeter = \"it\"\nkind = \"contract\"\n");
    let mut engine = Engine::new(fleet(&text), "backfill");
    let cap = LimitIx(0);
    // Idle nodes draw 3,600 W, a node at work 1,600 W more.
    engine.tell(Event::CapSet { cap, watts: Watts::new(3600 + 3 * 1600) });
    let jobs: Vec<JobId> = (0..4).map(|_| engine.submit(job(vec![gang(1, 4)], Some(100)))).collect();
    engine.pass(0);
    let running = |engine: &Engine| jobs.iter().filter(|job| engine.runs(**job)).count();
    assert_eq!(running(&engine), 3);
    engine.tell(Event::CapSet { cap, watts: Watts::new(3600) });
    engine.pass(50);
    engine.tell(Event::CapSet { cap, watts: Watts::new(3600 + 1600) });
    engine.pass(0);
    engine.pass(60);
    assert_eq!(running(&engine), 1, "one has the power for it");
    engine.tell(Event::CapSet { cap, watts: Watts::new(50_000) });
    engine.pass(0);
    engine.pass(100);
    let more: Vec<JobId> = (0..4).map(|_| engine.submit(job(vec![gang(1, 4)], Some(100)))).collect();
    engine.pass(0);
    assert!(more.iter().all(|job| engine.runs(*job)), "as before, nothing binds");
    fold_is_state(&engine);
}

#[test]
fn what_waits_for_a_cap_set_low_is_not_refused() {
    let mut engine = Engine::new(fleet(MIXED), "backfill");
    let caps = engine.state.fleet().caps.len() as u32;
    (0..caps).for_each(|cap| engine.tell(Event::CapSet { cap: LimitIx(cap), watts: Watts::ZERO }));
    let job = engine.submit(job(vec![within(gang(2, 4), "rack", Strength::Required)], None));
    engine.pass(0);
    assert!(matches!(engine.state.job(job).map(|work| &work.phase), Some(Phase::Pending(_))));
}

#[test]
fn a_gang_of_whole_nodes_respects_a_cap_that_could_never_bind_before() {
    let text = format!("{PLAIN}\n[caps.high]\non = \"here\"\nwatts = 50000\nmeter = \"it\"\nkind = \"contract\"\n");
    let mut engine = Engine::new(fleet(&text), "backfill");
    engine.tell(Event::CapSet { cap: LimitIx(0), watts: Watts::new(3600 + 1600) });
    let pair = engine.submit(job(vec![gang(2, 4)], Some(100)));
    engine.pass(0);
    assert!(!engine.runs(pair));
    let needed = Watts::new(3200);
    let power = Obstacle::Power { limit: LimitIx(0), cap: Watts::new(5200), left: Watts::new(1600), needed };
    assert_eq!(waiting(&mut engine, pair).obstacles, [power]);
    engine.tell(Event::CapSet { cap: LimitIx(0), watts: Watts::new(3600 + 3200) });
    engine.pass(0);
    assert!(engine.runs(pair));
}

// The most workers on a node.

#[test]
fn a_gang_puts_no_more_workers_on_a_node_than_it_says() {
    for policy in ["backfill", "offtake", "random"] {
        for base in [gang(4, 1), share(250), gang(1, 0)] {
            let mut engine = Engine::new(fleet(PLAIN), policy);
            let spread = Gang { workers: 4, per_node: Some(1), ..base.clone() };
            let id = engine.submit(job(vec![spread.clone(), spread], None));
            engine.pass(0);
            let mut nodes: Vec<u32> =
                engine.nodes(id).into_iter().flat_map(offtake_engine::NodeRange::numbers).collect();
            nodes.sort_unstable();
            assert_eq!(nodes, [0, 0, 1, 1, 2, 2, 3, 3], "once for each gang, under {policy}");
            let pairs = Gang { workers: 5, per_node: Some(2), ..base.clone() };
            let pairs = engine.submit(job(vec![pairs], None));
            engine.pass(0);
            assert!(engine.runs(pairs));
            let too_many = engine.submit(job(vec![Gang { workers: 9, per_node: Some(2), ..base }], None));
            engine.pass(0);
            assert!(engine.state.job(too_many).is_none(), "four nodes take eight");
        }
    }
}

// Single-tenant nodes.

fn close(engine: &mut Engine, nodes: std::ops::Range<u32>) {
    nodes.for_each(|node| engine.tell(Event::NodeShared { node: NodeIx(node), shared: false }));
}

fn numbers(engine: &Engine, job: JobId) -> Vec<u32> {
    engine.nodes(job).into_iter().flat_map(offtake_engine::NodeRange::numbers).collect()
}

#[test]
fn two_tenants_never_share_a_single_tenant_node() {
    for policy in ["backfill", "offtake", "fifo", "random", "fgd"] {
        let mut engine = Engine::new(fleet(PLAIN), policy);
        close(&mut engine, 0..4);
        let submit = |engine: &mut Engine, tenant, gang| engine.submit(of(tenant, job(vec![gang], Some(100))));
        let ours: Vec<JobId> = (0..2).map(|_| submit(&mut engine, "ours", gang(1, 1))).collect();
        let host = submit(&mut engine, "hers", gang(1, 0));
        let theirs: Vec<JobId> = (0..2).map(|_| submit(&mut engine, "theirs", share(500))).collect();
        engine.pass(0);
        for job in ours.iter().chain(&theirs).chain([&host]) {
            assert!(engine.runs(*job), "there is room for each, under {policy}");
        }
        engine.tenants_are_apart();
        engine.pass(100);
        let wide = submit(&mut engine, "ours", gang(4, 4));
        engine.pass(0);
        assert!(engine.runs(wide), "nobody is there any more");
        fold_is_state(&engine);
    }
}

#[test]
fn a_single_tenant_node_is_given_to_others_with_its_last_work() {
    let mut engine = Engine::new(fleet(PLAIN), "backfill");
    close(&mut engine, 0..4);
    let submit = |engine: &mut Engine, tenant, seconds| engine.submit(of(tenant, job(vec![gang(4, 2)], Some(seconds))));
    // Two workers on each of two nodes.
    let first = submit(&mut engine, "ours", 100);
    let second = submit(&mut engine, "ours", 200);
    engine.pass(0);
    assert_eq!((numbers(&engine, first), numbers(&engine, second)), (vec![0, 1], vec![2, 3]));
    let halves = |engine: &mut Engine, tenant| -> Vec<JobId> {
        (0..4).map(|_| engine.submit(of(tenant, job(vec![gang(1, 2)], Some(1000))))).collect()
    };
    let [a, b, c, d] = halves(&mut engine, "ours")[..] else { unreachable!("four were submitted") };
    let theirs = halves(&mut engine, "theirs");
    engine.tell(Event::JobHeld { job: d });
    engine.pass(0);
    assert!(!engine.runs(a));
    engine.pass(100);
    assert_eq!([a, b, c].map(|job| numbers(&engine, job)), [[1], [0], [0]], "they came first");
    assert!(theirs.iter().all(|job| !engine.runs(*job)), "half a node is free, but of another tenant");
    let why = waiting(&mut engine, theirs[0]);
    assert_eq!(why.obstacles, [Obstacle::Tenant { nodes: vec![NodeIx(1)] }]);
    assert_eq!(why.earliest, Some(Timestamp::from_secs(200)));
    assert_eq!((why.needs[0].nearest.workers, why.needs[0].nearest.free_chips), (0, 0));
    engine.tell(Event::JobFinished { job: a });
    engine.pass(0);
    assert!(engine.runs(theirs[0]) && engine.runs(theirs[1]), "the node is wholly given back");
    engine.tell(Event::JobReleased { job: d });
    engine.pass(0);
    assert!(!engine.runs(d) && !engine.runs(theirs[2]));
    engine.pass(100);
    assert!(engine.runs(d) && engine.runs(theirs[2]) && engine.runs(theirs[3]));
    engine.tenants_are_apart();
    fold_is_state(&engine);
}

#[test]
fn a_blocked_job_of_one_tenant_does_not_hold_up_its_like_of_another() {
    for policy in ["backfill", "offtake"] {
        let mut engine = Engine::new(fleet(PLAIN), policy);
        close(&mut engine, 0..4);
        let single = |tenant, seconds| of(tenant, job(vec![gang(1, 1)], seconds));
        let ours = engine.submit(of("ours", job(vec![gang(16, 1)], Some(100))));
        engine.pass(0);
        engine.tell(Event::JobFinished { job: ours });
        let ours: Vec<JobId> = (0..13).map(|_| engine.submit(single("ours", None))).collect();
        engine.pass(0);
        assert!(ours.iter().all(|job| engine.runs(*job)), "they take a part of each node");
        let theirs = engine.submit(single("theirs", Some(10)));
        let more = engine.submit(single("ours", Some(10)));
        engine.pass(0);
        assert!(engine.runs(more) && !engine.runs(theirs));
        assert_eq!(engine.state.blocked(theirs), Some(Blocked::Room));
        assert_eq!(waiting(&mut engine, theirs).earliest, None, "their work has no end");
        engine.restore();
        engine.tell(Event::NodeShared { node: NodeIx(3), shared: true });
        engine.pass(0);
        assert!(engine.runs(theirs), "a node that may be shared now wakes who waits");
        fold_is_state(&engine);
    }
}

#[test]
fn what_is_kept_counts_on_another_tenants_work_to_end() {
    let mut engine = Engine::new(fleet(PLAIN), "backfill");
    close(&mut engine, 0..4);
    for seconds in [100, 200, 300, 400] {
        engine.submit(of("ours", job(vec![gang(1, 3)], Some(seconds))));
    }
    let head = engine.submit(of("theirs", job(vec![gang(2, 1)], Some(50))));
    engine.pass(0);
    let held = engine.state.holds()[0].clone();
    assert_eq!((held.job, held.start), (head, Timestamp::from_secs(100)));
    assert_eq!(held.nodes[0].first, NodeIx(0));
    let long = engine.submit(of("ours", job(vec![gang(1, 1)], Some(250))));
    let short = engine.submit(of("ours", job(vec![gang(1, 1)], Some(90))));
    engine.pass(0);
    assert_eq!(numbers(&engine, long), [1], "it would outlast what is kept");
    assert!(engine.runs(short));
    engine.restore();
    engine.pass(90);
    engine.pass(10);
    assert_eq!(numbers(&engine, head), [0]);
    engine.tenants_are_apart();
    fold_is_state(&engine);
}

#[test]
fn work_of_several_tenants_stays_when_its_node_becomes_single_tenant() {
    let mut engine = Engine::new(fleet(&PLAIN.replace("node = 4 }", "node = 1 }")), "backfill");
    let ours = engine.submit(of("ours", job(vec![gang(1, 1)], Some(100))));
    let theirs = engine.submit(of("theirs", job(vec![gang(1, 1)], Some(200))));
    engine.pass(0);
    close(&mut engine, 0..1);
    engine.restore();
    assert!(engine.runs(ours) && engine.runs(theirs));
    let more = engine.submit(of("ours", job(vec![gang(1, 1)], Some(10))));
    let their_more = engine.submit(of("theirs", job(vec![gang(1, 1)], Some(10))));
    engine.pass(0);
    assert!(!engine.runs(more) && !engine.runs(their_more), "closed to all until one is left");
    engine.tell(Event::FleetChanged { fleet: fleet(&PLAIN.replace("node = 4 }", "node = 1 }")) });
    assert!(!engine.state.is_shared(NodeIx(0)), "it stays what it is when the fleet changes");
    engine.pass(0);
    assert!(!engine.runs(more) && !engine.runs(their_more));
    engine.pass(100);
    assert!(engine.runs(their_more) && !engine.runs(more));
    engine.pass(100);
    engine.pass(0);
    assert!(engine.runs(more));
    fold_is_state(&engine);
}

#[test]
fn waiting_jobs_keep_their_turns_when_the_first_single_tenant_node_comes_and_the_last_goes() {
    let mut engine = Engine::new(fleet(PLAIN), "backfill");
    let all = engine.submit(of("ours", job(vec![gang(4, 4)], None)));
    engine.pass(0);
    let tenant = |number| if number % 2 == 0 { "ours" } else { "theirs" };
    let waits: Vec<JobId> =
        (0..4).map(|number| engine.submit(of(tenant(number), job(vec![gang(4, 4)], Some(10))))).collect();
    engine.pass(0);
    assert_eq!(engine.state.blocked(waits[1]), Some(Blocked::Behind(waits[0])));
    close(&mut engine, 0..2);
    engine.pass(0);
    assert_eq!(engine.state.blocked(waits[1]), Some(Blocked::Room));
    assert_eq!(engine.state.blocked(waits[2]), Some(Blocked::Behind(waits[0])));
    engine.restore();
    engine.tell(Event::NodeShared { node: NodeIx(0), shared: true });
    engine.tell(Event::NodeShared { node: NodeIx(1), shared: true });
    engine.tell(Event::NodeShared { node: NodeIx(99), shared: false });
    engine.pass(0);
    assert_eq!(engine.state.blocked(waits[3]), Some(Blocked::Behind(waits[0])));
    assert_eq!(engine.state.queue().jobs(), 4);
    engine.tell(Event::JobFinished { job: all });
    engine.pass(0);
    for job in waits {
        assert!(engine.runs(job));
        engine.pass(10);
    }
    fold_is_state(&engine);
}

#[test]
fn what_is_kept_is_not_taken_while_another_tenants_work_overruns() {
    let mut engine = Engine::new(fleet(&PLAIN.replace("node = 4 }", "node = 1 }")), "backfill");
    close(&mut engine, 0..1);
    let ours = engine.submit(of("ours", job(vec![gang(1, 1)], Some(100))));
    let theirs = engine.submit(of("theirs", job(vec![gang(1, 0)], Some(100))));
    engine.pass(0);
    assert_eq!(engine.state.holds()[0].start, Timestamp::from_secs(100));
    engine.pass(50);
    engine.tell(Event::JobStarted { job: ours });
    engine.pass(50);
    assert!(engine.runs(ours) && !engine.runs(theirs), "there is room, but not for two tenants");
    engine.pass(50);
    assert!(engine.runs(theirs));
    engine.tenants_are_apart();
}

#[test]
fn a_shared_node_given_back_with_a_single_tenant_one_wakes_who_waits() {
    let mut engine = Engine::new(fleet(&PLAIN.replace("node = 4 }", "node = 2 }")), "backfill");
    close(&mut engine, 0..1);
    let on_each = |chips| of("ours", job(vec![Gang { per_node: Some(1), ..gang(2, chips) }], None));
    engine.submit(on_each(1));
    let wide = engine.submit(on_each(3));
    engine.pass(0);
    let theirs = engine.submit(of("theirs", job(vec![gang(1, 2)], None)));
    engine.pass(0);
    assert!(engine.runs(wide) && !engine.runs(theirs));
    engine.tell(Event::JobFinished { job: wide });
    engine.pass(0);
    assert_eq!(numbers(&engine, theirs), [1]);
}

#[test]
fn a_node_given_back_in_part_wakes_its_own_tenant_whoever_was_tried_last() {
    let mut engine = Engine::new(fleet(&PLAIN.replace("node = 4 }", "node = 2 }")), "backfill");
    close(&mut engine, 0..2);
    let ours = |gang| of("ours", job(vec![gang], None));
    engine.submit(ours(Gang { per_node: Some(1), ..gang(2, 2) }));
    let single = engine.submit(ours(gang(1, 2)));
    engine.pass(0);
    let pair = engine.submit(ours(gang(2, 2)));
    let theirs = engine.submit(of("theirs", job(vec![gang(1, 1)], None)));
    engine.pass(0);
    assert!(engine.runs(single) && !engine.runs(pair) && !engine.runs(theirs));
    engine.tell(Event::JobFinished { job: single });
    engine.pass(0);
    assert!(engine.runs(pair) && !engine.runs(theirs));
}

// Images.

#[test]
fn a_damaged_image_is_an_error() {
    let mut engine = Engine::new(fleet(PLAIN), "backfill");
    engine.submit(job(vec![gang(3, 4)], None));
    engine.pass(0);
    let written = serde_json::to_string(&engine.state.image()).expect("an image can be written");
    let damages = [
        ("\"first\":0,\"count\":3", "\"first\":3,\"count\":3"),
        ("\"chips\":15", "\"chips\":65535"),
        ("\"whole\":4", "\"whole\":9"),
    ];
    for (whole, damaged) in damages {
        assert!(written.contains(whole), "{whole} is in {written}");
        let image = serde_json::from_str(&written.replace(whole, damaged)).expect("it can still be read");
        assert!(State::restore(image).is_err(), "{damaged}");
    }
}

#[test]
fn an_image_of_many_jobs_is_restored() {
    let mut engine = Engine::new(fleet(PLAIN), "backfill");
    for number in 0..20_000_u32 {
        let spec = std::sync::Arc::new(Job {
            tier: Tier::ALL[number as usize % 4],
            ..job(vec![Gang { workers: 1 + number % 4, ..gang(1, 4) }], Some(i64::from(number)))
        });
        engine.state.apply(&offtake_engine::Fact {
            at: engine.now(),
            event: Event::JobSubmitted { job: JobId(u64::from(number)), spec },
        });
    }
    engine.decide();
    engine.restore();
    engine.pass(7);
    assert!(engine.twin.is_some());
}

// Why.

#[test]
fn why_names_who_comes_first_and_what_is_kept_for_whom() {
    let mut engine = Engine::new(fleet(PLAIN), "backfill");
    let running = engine.submit(job(vec![gang(3, 4)], Some(100)));
    let head = engine.submit(job(vec![gang(4, 4)], Some(50)));
    let second = engine.submit(job(vec![gang(4, 4)], Some(50)));
    let single = engine.submit(job(vec![gang(1, 4)], Some(500)));
    engine.pass(0);
    let why = waiting(&mut engine, head);
    let promise = why.hold.clone().expect("the head has a hold");
    assert_eq!((promise.start, why.earliest), (Timestamp::from_secs(100), Some(Timestamp::from_secs(100))));
    assert_eq!((why.obstacles, why.before), (vec![Obstacle::Room], 0));
    assert_eq!((why.running, why.running_jobs), (vec![(running, Timestamp::from_secs(100))], 1));
    let nearest = why.needs[0].nearest;
    assert_eq!((nearest.domain, nearest.workers, nearest.nodes, nearest.held_nodes), (DomainIx(0), 0, 4, 4));
    let why = waiting(&mut engine, second);
    assert_eq!((why.before, &why.obstacles[0]), (1, &Obstacle::Behind { job: head }));
    let why = waiting(&mut engine, single);
    let held = Obstacle::HeldFor { job: head, start: Timestamp::from_secs(100) };
    assert_eq!((why.obstacles, why.before), (vec![held], 0));
    assert_eq!(engine.state.explain(JobId(99)), None);
}

#[test]
fn why_tells_where_a_gang_comes_nearest() {
    let mut engine = Engine::new(fleet(ISLANDS), "offtake");
    let island = |workers| job(vec![within(gang(workers, 4), "island", Strength::Required)], Some(60));
    let placed: Vec<JobId> = (0..5).map(|_| engine.submit(island(2))).collect();
    let single = engine.submit(island(1));
    engine.pass(0);
    let pair = engine.submit(island(2));
    engine.pass(1);
    let why = waiting(&mut engine, pair);
    let nearest = why.needs[0].nearest;
    let at = engine.state.fleet().nodes[engine.nodes(single)[0].first.ix()].domain;
    assert_ne!(nearest.domain, DomainIx(0));
    assert_eq!(why.earliest, Some(Timestamp::from_secs(60)));
    let Some(Explanation::Placed(why)) = engine.state.explain(single) else { unreachable!("it runs") };
    assert_eq!((why.domain, why.domain_nodes, why.domain_free), (Some(at), 2, 1));
    let Some(Explanation::Placed(why)) = engine.state.explain(placed[0]) else { unreachable!("it runs") };
    assert_eq!((why.domain_nodes, why.domain_free), (2, 0), "as tight as can be");
    assert_eq!(why.ends - why.placed, Duration::from_secs(60));
}
