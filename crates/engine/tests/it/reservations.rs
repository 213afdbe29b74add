//! Capacity that is set aside: who may use it, when, and what is said where it cannot be had.

use std::collections::BTreeMap;
use std::sync::Arc;

use offtake_engine::{
    Event, Explanation, Fairness, JobId, Obstacle, Policy, Quota, ReservationId, Stage, StopReason, Tenant, TenantTree,
    Unmet,
};
use offtake_fleet::NodeIx;
use offtake_units::{Duration, Timestamp};
use offtake_workload::{Job, Purpose, Reservation};

use crate::support::{Engine, ISLANDS, PLAIN, fleet, gang, job, of};

const ONE: ReservationId = ReservationId(1);

pub fn nodes(count: u32, start: i64, length: i64) -> Reservation {
    Reservation {
        name: "course".to_owned(),
        purpose: Purpose::Work,
        tenants: Vec::new(),
        domain: None,
        nodes: Some(count),
        chips: None,
        accelerator: None,
        level: None,
        start: Timestamp::from_secs(start),
        length: Duration::from_secs(length),
        flexible: None,
        every: None,
        stop: false,
    }
}

fn maintenance(domain: &str, start: i64, length: i64) -> Reservation {
    let what = Reservation { nodes: None, domain: Some(domain.to_owned()), ..nodes(1, start, length) };
    Reservation { purpose: Purpose::Maintenance, ..what }
}

fn make(engine: &mut Engine, spec: Reservation) {
    spec.check().expect("the test's reservation can be meant");
    engine.tell(Event::ReservationMade { reservation: ONE, spec: Arc::new(spec) });
    engine.pass(0);
}

fn refused(engine: &Engine) -> Option<&Unmet> {
    engine.journal.iter().rev().find_map(|fact| match &fact.event {
        Event::ReservationRefused { reason, .. } => Some(reason),
        _ => None,
    })
}

fn named(job: Job) -> Job {
    Job { reservation: Some("course".to_owned()), ..job }
}

#[test]
fn only_what_ends_before_a_window_comes_to_its_nodes() {
    let mut engine = Engine::new(fleet(PLAIN), "offtake");
    make(&mut engine, nodes(3, 100, 50));
    let long = engine.submit(job(vec![gang(2, 4)], Some(101)));
    let short = engine.submit(job(vec![gang(2, 4)], Some(100)));
    let endless = engine.submit(job(vec![gang(1, 4)], None));
    engine.pass(0);
    assert!(engine.runs(short) && engine.runs(endless) && !engine.runs(long));
    let why = engine.state.explain(long);
    assert!(matches!(&why, Some(Explanation::Waiting(_))), "{why:?}");
    engine.restore();
    engine.pass(100);
    assert!(!engine.runs(long), "nobody else comes while it lasts");
    let why = match engine.state.explain(long) {
        Some(Explanation::Waiting(why)) => why,
        other => unreachable!("{other:?}"),
    };
    let (start, end) = (Timestamp::from_secs(100), Timestamp::from_secs(150));
    assert!(why.obstacles.contains(&Obstacle::Reserved { reservation: ONE, start, end }), "{:?}", why.obstacles);
    assert_eq!(why.earliest, Some(end));
    engine.pass(50);
    assert!(engine.runs(long), "it is over");
    assert!(engine.state.reservations().is_empty());
    assert_eq!(engine.folded().essence(), engine.state.essence());
}

#[test]
fn those_who_name_it_use_its_nodes() {
    let mut engine = Engine::new(fleet(PLAIN), "offtake");
    make(&mut engine, Reservation { tenants: vec!["lab".to_owned()], stop: true, ..nodes(4, 10, 50) });
    engine.pass(10);
    let other = engine.submit(job(vec![gang(1, 4)], Some(5)));
    let stranger = engine.submit(of("shop", named(job(vec![gang(1, 4)], Some(5)))));
    let member = engine.submit(of("lab", named(job(vec![gang(2, 4)], Some(500)))));
    engine.pass(0);
    assert!(engine.runs(member) && !engine.runs(other) && !engine.runs(stranger));
    engine.pass(50);
    let stage = engine.state.job(member).map(|work| work.phase.clone());
    let stops = |stage: &Stage| *stage == Stage::Stopping(StopReason::ReservationEnded);
    assert!(matches!(&stage, Some(offtake_engine::Phase::Running { stage, .. }) if stops(stage)), "{stage:?}");
    assert!(engine.runs(other), "what it no longer keeps is everybody's");
    assert!(!engine.runs(stranger), "who names a reservation does not run elsewhere");
    let why = engine.state.explain(stranger);
    let over = Obstacle::NoReservation { name: "course".to_owned() };
    assert!(matches!(&why, Some(Explanation::Waiting(why)) if why.obstacles == [over.clone()]), "{why:?}");
}

#[test]
fn who_needs_more_than_its_reservation_has_is_told() {
    let mut engine = Engine::new(fleet(PLAIN), "offtake");
    make(&mut engine, nodes(2, 10, 50));
    let wide = engine.submit(named(job(vec![gang(3, 4)], Some(5))));
    for _ in 0..2 {
        let why = engine.state.explain(wide);
        let small = Obstacle::SmallReservation { name: "course".to_owned(), chips: 8, needed: 12 };
        assert!(matches!(&why, Some(Explanation::Waiting(why)) if why.obstacles[0] == small), "{why:?}");
        engine.pass(10);
    }
}

#[test]
fn quota_is_kept_for_nobody_who_waits_for_the_next_window() {
    let quota =
        BTreeMap::from([("chip".to_owned(), Quota { nominal: 8, borrowing_limit: Some(0), ..Quota::default() })]);
    let tenants = BTreeMap::from([("lab".to_owned(), Tenant { quota, ..Tenant::default() })]);
    let fairness = Fairness { half_life: Duration::ZERO, ageing: Some(Duration::from_secs(20)) };
    let tenants = Arc::new(TenantTree { tenants, ..TenantTree::default() });
    let policy = Policy { fairness, tenants, ..Policy::named("backfill", 7).expect("the policy exists") };
    let mut engine = Engine::under(fleet(PLAIN), policy);
    make(&mut engine, Reservation { every: Some(Duration::from_secs(500)), ..nodes(2, 10, 50) });
    let first = engine.submit(of("lab", job(vec![gang(1, 4)], None)));
    let patient = engine.submit(of("lab", named(job(vec![gang(2, 4)], Some(10)))));
    engine.pass(30);
    let other = engine.submit(of("lab", job(vec![gang(1, 4)], Some(10))));
    engine.pass(1);
    assert!(engine.runs(first) && !engine.runs(patient));
    assert!(!engine.runs(other), "what is left is kept for who has waited too long");
    engine.pass(40);
    assert!(engine.runs(other), "nobody may use it before the next window");
    assert_eq!(engine.folded().essence(), engine.state.essence());
}

#[test]
fn nodes_that_are_lost_while_it_lasts_are_replaced() {
    let mut engine = Engine::new(fleet(ISLANDS), "offtake");
    make(&mut engine, Reservation { level: Some("rack".to_owned()), ..nodes(4, 10, 500) });
    let window = |engine: &Engine| engine.state.window(ONE).expect("it lasts").nodes.clone();
    let numbers = |engine: &Engine| window(engine).iter().flat_map(|range| range.numbers()).collect::<Vec<u32>>();
    let first = numbers(&engine);
    let (lost, drained) = (NodeIx(first[0]), NodeIx(first[1]));
    engine.tell(Event::NodeLost { node: lost });
    engine.pass(5);
    assert_eq!(numbers(&engine), first, "it may be back when the window begins");
    engine.pass(5);
    let now = numbers(&engine);
    assert!(now.len() == 4 && !now.contains(&lost.0), "{now:?}");
    assert!(now.iter().all(|node| node / 6 == first[0] / 6), "a rack has six nodes, and all are of one: {now:?}");
    let wide = engine.submit(named(job(vec![gang(4, 4)], Some(50))));
    engine.pass(0);
    assert!(engine.runs(wide));

    // What runs on a drained node stays; then another takes its place.
    engine.tell(Event::NodeDrained { node: drained, reason: String::new() });
    engine.pass(10);
    assert_eq!(numbers(&engine), now);
    engine.tell(Event::JobFinished { job: wide });
    let wide = engine.submit(named(job(vec![gang(4, 4)], Some(50))));
    engine.pass(0);
    assert!(engine.runs(wide) && !numbers(&engine).contains(&drained.0), "{:?}", numbers(&engine));
    engine.restore();
    assert_eq!(engine.folded().essence(), engine.state.essence());
}

#[test]
fn those_who_name_it_run_there_and_then_and_nowhere_else() {
    let mut engine = Engine::new(fleet(PLAIN), "offtake");
    make(&mut engine, nodes(2, 10, 50));
    let window = engine.state.window(ONE).expect("its nodes are kept").nodes.clone();
    let wide = engine.submit(named(job(vec![gang(3, 4)], Some(5))));
    let first = engine.submit(named(job(vec![gang(2, 4)], Some(20))));
    let second = engine.submit(named(job(vec![gang(2, 4)], Some(20))));
    engine.pass(0);
    assert!(!engine.runs(first), "it has not begun");
    let waiting = |engine: &mut Engine, job| match engine.state.explain(job) {
        Some(Explanation::Waiting(why)) => why,
        other => unreachable!("{other:?}"),
    };
    let why = waiting(&mut engine, first);
    let begins = Timestamp::from_secs(10);
    assert!(why.obstacles.contains(&Obstacle::NotBegun { name: "course".to_owned(), start: Some(begins) }));
    assert_eq!(why.earliest, Some(begins));
    engine.restore();
    engine.pass(10);
    assert!(engine.runs(first) && !engine.runs(second) && !engine.runs(wide), "there are two nodes, and two more idle");
    assert_eq!(engine.nodes(first), window);
    assert_eq!(waiting(&mut engine, second).earliest, Some(Timestamp::from_secs(30)));
    assert_eq!(waiting(&mut engine, wide).earliest, None, "it never fits");
    engine.tell(Event::JobFinished { job: first });
    engine.pass(20);
    assert_eq!(engine.nodes(second), window, "who ends makes room for the next");
    engine.state.check().expect("every truth holds");
    assert_eq!(engine.folded().essence(), engine.state.essence());
}

#[test]
fn who_waits_for_a_reservation_is_in_nobodys_way() {
    let mut engine = Engine::new(fleet(PLAIN), "fifo");
    make(&mut engine, nodes(1, 100, 50));
    let later = engine.submit(named(job(vec![gang(1, 4)], Some(5))));
    let now = engine.submit(job(vec![gang(1, 4)], Some(5)));
    engine.pass(0);
    assert!(engine.runs(now) && !engine.runs(later), "strict order is that of those who could start");
}

#[test]
fn work_without_an_end_is_named_where_it_is_in_the_way() {
    let mut engine = Engine::new(fleet(ISLANDS), "offtake");
    let endless = engine.submit(job(vec![gang(1, 4)], None));
    let long = engine.submit(job(vec![gang(1, 4)], Some(300)));
    engine.pass(0);
    let rack = |job: JobId| engine.nodes(job)[0].first.0 / 6;
    let path = format!("here/rack-{}", rack(endless));
    assert_eq!(rack(endless), rack(long), "the test's jobs lie together");
    let asked = maintenance(&path, 200, 100);
    let expected = Unmet::Busy { earliest: None, in_the_way: vec![endless, long] };
    assert_eq!(engine.state.window_of_new(&asked).err(), Some(expected.clone()));
    make(&mut engine, asked.clone());
    assert_eq!(refused(&engine), Some(&expected));
    engine.tell(Event::JobFinished { job: endless });
    let earliest = Unmet::Busy { earliest: Some(Timestamp::from_secs(300)), in_the_way: vec![long] };
    assert_eq!(engine.state.window_of_new(&asked).err(), Some(earliest));
    let flexible = Reservation { flexible: Some(Duration::from_secs(100)), ..asked };
    let window = engine.state.window_of_new(&flexible).expect("it may begin later");
    assert_eq!((window.start, window.end), (Timestamp::from_secs(300), Timestamp::from_secs(400)));
    let unknown = engine.state.window_of_new(&maintenance("here/rack-9", 1, 1));
    assert!(matches!(unknown, Err(Unmet::UnknownDomain { .. })));
}

#[test]
fn a_window_recurs_and_misses_what_it_cannot_have() {
    let mut engine = Engine::new(fleet(PLAIN), "offtake");
    make(&mut engine, Reservation { every: Some(Duration::from_secs(100)), ..maintenance("here", 50, 10) });
    engine.pass(50);
    let late = engine.submit(job(vec![gang(4, 4)], Some(90)));
    engine.pass(10);
    assert!(engine.runs(late), "it ends as the next begins");
    let window = engine.state.window(ONE).expect("the next window is kept");
    assert_eq!((window.start, window.end), (Timestamp::from_secs(150), Timestamp::from_secs(160)));
    engine.tell(Event::JobStarted { job: late });
    engine.pass(91);
    assert_eq!(engine.now(), Timestamp::from_secs(151));
    engine.pass(9);
    let long = engine.submit(job(vec![gang(4, 4)], Some(91)));
    engine.pass(0);
    assert!(!engine.runs(long), "it would never end before the next");
    engine.tell(Event::ReservationCancelled { reservation: ONE });
    engine.pass(0);
    assert!(engine.runs(long));
    assert!(engine.state.window(ONE).is_none() && engine.state.next_window().is_none());
    assert_eq!(engine.folded().essence(), engine.state.essence());
}

#[test]
fn a_reservation_takes_nodes_that_are_out_for_none() {
    let mut engine = Engine::new(fleet(PLAIN), "offtake");
    engine.tell(Event::NodeLost { node: NodeIx(0) });
    make(&mut engine, nodes(4, 100, 50));
    assert_eq!(refused(&engine), Some(&Unmet::TooLarge));
}
