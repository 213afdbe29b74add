//! Jobs that kill nodes, nodes that kill jobs, and nodes that have yet to prove themselves.

use offtake_engine::{Event, Fault, Health, JobId, Phase, Policy};
use offtake_fleet::NodeIx;
use offtake_units::{Duration, Ppm};
use offtake_workload::{Gang, Job};

use crate::support::{Engine, PLAIN, fleet, gang, job, of};

fn under(health: Health) -> Engine {
    let policy = Policy::named("offtake", 0).expect("it has a name");
    Engine::under(fleet(PLAIN), Policy { health: Some(health), ..policy })
}

fn named(tenant: &str, name: &str) -> Job {
    Job { name: name.to_owned(), ..of(tenant, job(vec![gang(1, 4)], Some(1_000_000))) }
}

fn see(engine: &mut Engine, job: JobId, node: u32, fault: Fault) {
    engine.tell(Event::FaultSeen { node: NodeIx(node), job: Some(job), fault });
    engine.tell(Event::JobRequeued { job, saved_until: None, held: false });
}

fn drained(engine: &Engine, node: u32) -> Option<String> {
    engine.state.conditions().get(&NodeIx(node)).and_then(|condition| condition.drained.clone())
}

fn is_held(engine: &Engine, job: JobId) -> bool {
    engine.state.job(job).is_some_and(|work| matches!(work.phase, Phase::Held(_)))
}

#[test]
fn a_job_under_which_nodes_fail_one_after_the_other_is_held() {
    let mut engine = under(Health::default());
    let killer = engine.submit(named("lab", "killer"));
    engine.pass(1);
    for (node, after) in [(0, 60), (1, 60), (1, 60)] {
        see(&mut engine, killer, node, Fault::NodeLost);
        engine.pass(after);
    }
    assert!(engine.runs(killer), "one node has failed twice");
    see(&mut engine, killer, 2, Fault::Xid(79));
    engine.restore();
    engine.pass(60);
    assert!(is_held(&engine, killer));
    assert_eq!(engine.state.killed_nodes(killer), Some(3));
    assert!(drained(&engine, 2).is_some_and(|reason| reason.contains("XID 79")), "its hardware is at fault");
    engine.tell(Event::JobReleased { job: killer });
    engine.pass(1);
    assert!(engine.runs(killer), "it has another chance");
    assert_eq!(engine.state.killed_nodes(killer), None);
    see(&mut engine, killer, 3, Fault::NodeLost);
    engine.pass(1);
    assert!(engine.runs(killer));
    assert_eq!(engine.folded().essence(), engine.state.essence());
}

#[test]
fn failures_that_are_old_or_come_at_once_hold_nobody() {
    let mut engine = under(Health { window: Duration::HOUR, ..Health::default() });
    let unlucky = engine.submit(named("lab", "unlucky"));
    engine.pass(1);
    for node in 0..4 {
        engine.tell(Event::FaultSeen { node: NodeIx(node), job: Some(unlucky), fault: Fault::NodeLost });
    }
    engine.pass(1);
    for node in 0..4 {
        see(&mut engine, unlucky, node, Fault::NodeLost);
        engine.pass(1_800);
    }
    assert!(!is_held(&engine, unlucky), "a rack that goes dark is one failure, and an hour sees two");
}

#[test]
fn a_node_on_which_different_jobs_fail_is_drained() {
    let mut engine = under(Health::default());
    let sweep: Vec<JobId> = (0..4).map(|_| engine.submit(named("lab", "sweep"))).collect();
    engine.pass(1);
    for job in &sweep {
        see(&mut engine, *job, 0, Fault::WorkerFailed);
        engine.pass(1);
    }
    assert_eq!(drained(&engine, 0), None, "one sweep says nothing of its nodes");
    sweep.iter().for_each(|job| engine.tell(Event::JobCancelled { job: *job }));
    for (tenant, name) in [("lab", "training"), ("web", "sweep")] {
        let job = engine.submit(named(tenant, name));
        engine.pass(1);
        see(&mut engine, job, 0, Fault::Xid(31));
        engine.pass(1);
    }
    assert_eq!(drained(&engine, 0).as_deref(), Some("health policy: 3 different jobs failed on it"));
    for (tenant, name) in [("a", "x"), ("b", "x"), ("c", "x"), ("d", "x")] {
        let job = engine.submit(named(tenant, name));
        engine.pass(1);
        see(&mut engine, job, 1, Fault::WorkerFailed);
        engine.pass(1);
    }
    assert_eq!(drained(&engine, 1), None, "of four nodes no more than one is drained so");
    engine.tell(Event::NodeResumed { node: NodeIx(0) });
    let last = engine.submit(named("e", "x"));
    engine.pass(1);
    see(&mut engine, last, 1, Fault::WorkerFailed);
    engine.pass(1);
    assert!(drained(&engine, 1).is_some());
    assert_eq!(engine.folded().essence(), engine.state.essence());
}

#[test]
fn a_job_that_is_to_be_held_gets_no_spares() {
    let mut engine = under(Health { hold_jobs_after: 1, ..Health::default() });
    let killer = engine.submit(job(vec![Gang { spares: 1, ..gang(2, 4) }], None));
    engine.pass(1);
    engine.tell(Event::NodeLost { node: NodeIx(0) });
    assert!(engine.state.repair(killer).is_some());
    engine.tell(Event::FaultSeen { node: NodeIx(0), job: Some(killer), fault: Fault::NodeLost });
    assert_eq!(engine.state.repair(killer), None);
}

#[test]
fn a_node_that_comes_back_proves_itself_first() {
    let mut engine = under(Health { burn_in: Duration::HOUR, most_drained: Ppm::ONE, ..Health::default() });
    let all = engine.submit(job(vec![gang(4, 4)], None));
    engine.tell(Event::NodeLost { node: NodeIx(2) });
    engine.tell(Event::NodeReturned { node: NodeIx(2) });
    engine.tell(Event::NodeDrained { node: NodeIx(3), reason: "a fan".to_owned() });
    engine.tell(Event::NodeReturned { node: NodeIx(3) });
    engine.pass(600);
    engine.tell(Event::NodeResumed { node: NodeIx(3) });
    assert_eq!(engine.state.next_proof(), Some(offtake_units::Timestamp::from_secs(3_600)));
    engine.restore();
    engine.pass(2_999);
    assert_eq!(engine.state.conditions().len(), 2);
    engine.pass(1);
    assert_eq!(engine.state.conditions().len(), 1, "an hour after it came back");
    assert!(!engine.runs(all));
    engine.tell(Event::NodeResumed { node: NodeIx(3) });
    engine.pass(0);
    assert!(engine.runs(all), "somebody knows it for sound");
    assert_eq!(engine.folded().essence(), engine.state.essence());
}
