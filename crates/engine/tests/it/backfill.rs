//! Order, holds and topology on fleets small enough to follow by eye.

use offtake_engine::{Blocked, Event};
use offtake_units::{CpuMilli, Mebibytes};
use offtake_workload::{Gang, Job, Strength, Tier};
use proptest::prelude::*;

use crate::support::{Engine, ISLANDS, MIXED, PLAIN, fleet, gang, job, within};

#[test]
fn backfill_does_not_delay_the_blocked_head() {
    let mut engine = Engine::new(fleet(PLAIN), "backfill");
    let long = engine.submit(job(vec![gang(3, 4)], Some(100)));
    let head = engine.submit(job(vec![gang(4, 4)], Some(50)));
    let too_long = engine.submit(job(vec![gang(1, 4)], Some(101)));
    let short = engine.submit(job(vec![gang(1, 4)], Some(100)));
    engine.pass(0);
    assert!(engine.runs(long) && engine.runs(short), "what ends in time goes first");
    assert!(!engine.runs(head) && !engine.runs(too_long), "what would delay the head waits");
    assert_eq!(engine.state.holds().len(), 1);
    engine.pass(100);
    assert!(engine.runs(head) && !engine.runs(too_long));
    engine.pass(50);
    assert!(engine.runs(too_long));
}

#[test]
fn a_late_short_job_may_use_held_nodes() {
    let mut engine = Engine::new(fleet(PLAIN), "backfill");
    engine.submit(job(vec![gang(3, 4)], Some(100)));
    let head = engine.submit(job(vec![gang(4, 4)], Some(50)));
    engine.pass(0);
    engine.pass(10);
    let short = engine.submit(job(vec![gang(1, 4)], Some(80)));
    engine.pass(0);
    assert!(engine.runs(short) && !engine.runs(head));
    engine.pass(90);
    assert!(engine.runs(head), "the head starts when its hold said");
}

#[test]
fn a_hold_sees_every_domain_that_a_wide_gang_gives_back() {
    let mut engine = Engine::new(fleet(ISLANDS), "offtake");
    let endless = engine.submit(job(vec![gang(1, 4)], None));
    engine.pass(0);
    let wide = engine.submit(job(vec![gang(11, 4)], Some(100)));
    engine.pass(0);
    assert!(engine.runs(endless) && engine.runs(wide));
    let head = engine.submit(job(vec![within(gang(6, 4), "rack", Strength::Required)], Some(50)));
    engine.pass(1);
    let held: Vec<_> = engine.state.holds().iter().map(|hold| (hold.job, hold.start.as_millis())).collect();
    assert_eq!(held, [(head, 100_000)], "the rack beside the endless job is free then");
}

#[test]
fn strict_order_holds_everybody_up() {
    let mut engine = Engine::new(fleet(PLAIN), "fifo");
    engine.submit(job(vec![gang(3, 4)], Some(100)));
    let head = engine.submit(job(vec![gang(4, 4)], Some(50)));
    let short = engine.submit(job(vec![gang(1, 4)], Some(1)));
    engine.pass(0);
    assert!(!engine.runs(head) && !engine.runs(short));
    assert_eq!(engine.state.blocked(head), Some(Blocked::Room));
}

#[test]
fn a_stronger_tier_goes_first_and_takes_the_hold_over() {
    let mut engine = Engine::new(fleet(PLAIN), "backfill");
    engine.submit(job(vec![gang(3, 4)], Some(100)));
    let weak = engine.submit(Job { tier: Tier::Spot, ..job(vec![gang(4, 4)], Some(50)) });
    engine.pass(0);
    engine.pass(1);
    let strong = engine.submit(Job { tier: Tier::Reserved, ..job(vec![gang(2, 4)], Some(50)) });
    engine.pass(1);
    let held: Vec<_> = engine.state.holds().iter().map(|hold| hold.job).collect();
    assert_eq!(held, [strong], "only the stronger job's nodes are held");
    engine.pass(98);
    assert!(engine.runs(strong) && !engine.runs(weak));
}

#[test]
fn work_without_an_end_never_counts_as_future_capacity() {
    let mut engine = Engine::new(fleet(PLAIN), "backfill");
    let endless = engine.submit(job(vec![gang(3, 4)], None));
    let head = engine.submit(job(vec![gang(4, 4)], Some(50)));
    let other = engine.submit(job(vec![gang(1, 4)], None));
    engine.pass(0);
    assert!(engine.state.holds().is_empty(), "nobody can tell when the head starts");
    assert!(engine.runs(other), "so nothing is kept idle for it");
    engine.tell(Event::JobFinished { job: endless });
    engine.tell(Event::JobFinished { job: other });
    engine.pass(1);
    assert!(engine.runs(head));
}

#[test]
fn a_gang_stays_in_the_fullest_domain_that_fits() {
    let mut engine = Engine::new(fleet(ISLANDS), "offtake");
    let island = |workers| within(gang(workers, 4), "island", Strength::Required);
    let first = engine.submit(job(vec![island(1)], None));
    engine.pass(0);
    let pair = engine.submit(job(vec![island(2)], None));
    let single = engine.submit(job(vec![within(gang(1, 4), "island", Strength::Required)], None));
    engine.pass(0);
    let place = |job| engine.nodes(job)[0].first.0 / 2;
    assert_ne!(place(pair), place(first), "a pair needs a whole island");
    assert_eq!(place(single), place(first), "a single fills the one that was begun");
}

#[test]
fn caps_bind_before_chips_run_out() {
    let mut engine = Engine::new(fleet(MIXED), "offtake");
    let nodes: Vec<_> =
        (0..24).map(|_| engine.submit(job(vec![within(gang(1, 4), "rack", Strength::Required)], None))).collect();
    engine.pass(0);
    let running = nodes.iter().filter(|job| engine.runs(**job)).count();
    assert!(running < 24, "26 H100 nodes are there, but not the power for all");
    let waiting = nodes.iter().find(|job| !engine.runs(**job)).expect("some job waits");
    assert!(engine.state.blocked(*waiting).is_some());
    engine.tell(Event::JobFinished { job: nodes[0] });
    engine.pass(1);
    let again = nodes.iter().filter(|job| engine.runs(**job)).count();
    assert_eq!(again, running, "power given back wakes the next");
}

#[test]
fn what_can_never_run_is_refused_with_the_reason() {
    let mut engine = Engine::new(fleet(MIXED), "offtake");
    let impossible = [
        job(vec![within(gang(3, 4), "island", Strength::Required)], None),
        job(vec![gang(1, 5)], None),
        job(vec![gang(27, 4)], None),
        job(vec![within(gang(1, 1), "planet", Strength::Required)], None),
    ];
    impossible.into_iter().for_each(|job| {
        engine.submit(job);
    });
    engine.pass(0);
    let reasons: Vec<String> = engine
        .journal
        .iter()
        .filter_map(|fact| match &fact.event {
            Event::JobRejected { reason, .. } => Some(reason.to_string()),
            _ => None,
        })
        .collect();
    assert_eq!(
        reasons,
        [
            "no island holds 3 workers even when it is empty; the largest holds 2",
            "no node takes one worker of 5 chips, 20000 thousandths of a core and 5120 MiB: the largest node has 4 \
             chips; ask for fewer chips, cores or MiB a worker",
            "no site holds 27 workers even when it is empty; the largest holds 24",
            "the fleet has no level `planet`; its levels are site, rack, island",
        ]
    );
    assert_eq!(engine.state.ended().rejected, 4);
}

#[test]
fn a_million_workers_that_need_next_to_nothing_are_placed() {
    let mut engine = Engine::new(fleet(MIXED), "offtake");
    let crowd = Gang { cpu: CpuMilli::new(0), memory: Mebibytes::new(0), ..gang(1_000_000, 0) };
    let job = engine.submit(job(vec![crowd], None));
    engine.pass(0);
    assert!(engine.runs(job));
}

/// Workers, chips, seconds, and a level by number.
fn work() -> impl Strategy<Value = (u32, u16, i64, usize)> {
    (1u32..5, 1u16..=4, 10i64..200, 0usize..4)
}

fn gang_at(workers: u32, chips: u16, level: usize) -> Gang {
    let plain = gang(workers, chips);
    match level {
        0 => plain,
        1 => within(plain, "site", Strength::Required),
        2 => within(plain, "rack", Strength::Preferred),
        _ => within(plain, "rack", Strength::Required),
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, ..ProptestConfig::default() })]

    /// Nobody comes meanwhile, so that any earlier start was overlooked, and any later one promised in vain.
    #[test]
    fn under_caps_too_a_blocked_job_starts_exactly_when_planned(
        running in prop::collection::vec(work(), 4..40),
        (workers, chips, _, level) in work(),
        times in 1u32..4,
    ) {
        // Where a circuit feeds two racks, workers that go one by one may miss the only place that there is.
        let nested = MIXED.replace(r#", { domain = "north/rack-3", share = 0.5 }"#, "");
        let mut engine = Engine::new(fleet(&nested), "backfill");
        for (workers, chips, seconds, level) in running {
            let job = engine.submit(job(vec![gang_at(workers, chips, level)], Some(seconds)));
            engine.decide();
            if !engine.runs(job) {
                engine.tell(Event::JobCancelled { job });
            }
        }
        let blocked = engine.submit(job(vec![gang_at(workers * times, chips, level)], Some(50)));
        engine.decide();
        let held = |engine: &Engine| engine.state.holds().iter().find(|hold| hold.job == blocked).map(|hold| hold.start);
        if let Some(start) = held(&engine) {
            while !engine.runs(blocked) {
                prop_assert!(engine.now() < start, "promised for {start:?}");
                engine.pass(1);
            }
            prop_assert_eq!(engine.now(), start);
        }
    }
}
