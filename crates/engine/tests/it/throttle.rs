//! Work gives power back by going on slower, and gets it again.

use offtake_engine::{
    Curtailment, CurtailmentId, Event, JobId, LimitIx, Phase, Policy, Preemption, ReservationId, Stage,
};
use offtake_fleet::NodeIx;
use offtake_units::{Duration, Timestamp, Watts};
use offtake_workload::{Checkpoint, Elastic, Gang, Job, Reservation, Tier};
use proptest::prelude::*;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};

use super::reservations::nodes;
use super::support::{Engine, PLAIN, fleet, gang, job};

pub const GRID: LimitIx = LimitIx(0);
/// What the sixteen idle nodes draw.
pub const IDLE: i64 = 16 * 900;
/// What a chip draws more at work: in full, at the first power level and at the second.
pub const CHIP: [i64; 3] = [400, 300, 200];

/// Sixteen nodes of four chips with two power levels, under one contract that never binds by itself.
pub fn engine() -> Engine {
    engine_under(Policy::named("backfill", 7).expect("it has a name"))
}

fn engine_under(policy: Policy) -> Engine {
    engine_with("", policy)
}

/// The same with more said of the cap.
fn engine_with(more: &str, policy: Policy) -> Engine {
    let levels = r#"peak_watts = 600
power_levels = [
  { name = "eco", power = 0.666666, speed = 0.9, basis = "assumed", source = "a test" },
  { name = "low", power = 0.5, speed = 0.7, basis = "assumed", source = "a test" },
]"#;
    let text = PLAIN.replace("node = 4 }", "node = 16 }").replace("peak_watts = 600", levels);
    let cap = "[caps.grid]\non = \"here\"\nwatts = 60000\nmeter = \"it\"\nkind = \"contract\"";
    Engine::under(fleet(&format!("{text}\n{cap}\n{more}\n")), policy)
}

/// The cap leaves so much to chips at work.
pub fn leave(engine: &mut Engine, watts: i64) {
    engine.tell(Event::CapSet { cap: GRID, watts: Watts::new(IDLE + watts) });
    engine.decide();
}

pub fn of(tier: Tier, nodes: u32, seconds: i64) -> Job {
    let checkpoint = Some(Checkpoint { interval: Duration::from_secs(60), bytes: 0 });
    Job { tier, checkpoint, ..job(vec![gang(nodes, 4)], Some(seconds)) }
}

/// How far running work is throttled; none where it is being stopped or waits.
pub fn throttle(engine: &Engine, job: JobId) -> Option<u8> {
    match &engine.state.job(job)?.phase {
        Phase::Running { stage: Stage::Stopping(_), .. } => None,
        Phase::Running { placement, .. } => Some(placement.throttle.0),
        _ => None,
    }
}

pub fn ends(engine: &Engine, job: JobId) -> Option<Timestamp> {
    match &engine.state.job(job)?.phase {
        Phase::Running { ends, .. } => Some(*ends),
        _ => None,
    }
}

#[test]
fn work_goes_on_slower_and_gets_its_power_back() {
    let mut engine = engine();
    let job = engine.submit(of(Tier::Standard, 4, 1000));
    engine.pass(0);
    engine.pass(100);
    leave(&mut engine, 16 * CHIP[1]);
    assert_eq!(throttle(&engine, job), Some(1));
    assert_eq!(engine.state.speed(job).parts(), 900_000);
    assert_eq!(ends(&engine, job), Some(Timestamp::from_secs(100 + 1000)), "900 s of work at nine tenths");
    assert_eq!(engine.state.drawn_by(job, GRID), Watts::new(16 * CHIP[1]));
    engine.restore();
    engine.pass(500);
    leave(&mut engine, 16 * CHIP[2]);
    assert_eq!(throttle(&engine, job), Some(2));
    leave(&mut engine, 16 * CHIP[0]);
    assert_eq!(throttle(&engine, job), Some(0), "the cap leaves all of it again");
    assert_eq!(ends(&engine, job), Some(Timestamp::from_millis(1_050_000 + 1)), "what is left, rounded up");
}

#[test]
fn spot_work_is_stopped_before_stronger_work_is_throttled() {
    let mut engine = engine();
    let strong = engine.submit(of(Tier::Reserved, 4, 10_000));
    let weak = engine.submit(of(Tier::Spot, 4, 10_000));
    engine.pass(0);
    leave(&mut engine, 16 * CHIP[0] + 16 * CHIP[1]);
    assert_eq!((throttle(&engine, strong), throttle(&engine, weak)), (Some(0), Some(1)));
    leave(&mut engine, 16 * CHIP[0] + 16 * CHIP[1] - 1);
    assert_eq!((throttle(&engine, strong), throttle(&engine, weak)), (Some(0), Some(2)));
    leave(&mut engine, 16 * CHIP[0]);
    assert_eq!((throttle(&engine, strong), throttle(&engine, weak)), (Some(0), None));
    engine.pass(120);
    leave(&mut engine, 16 * CHIP[2]);
    assert_eq!(throttle(&engine, strong), Some(2), "alone, it goes as far down as it takes");
}

#[test]
fn stronger_work_is_throttled_before_weaker_work_is_stopped_and_reserved_work_last() {
    let mut engine = engine();
    let [standard, guaranteed, reserved] =
        [Tier::Standard, Tier::Guaranteed, Tier::Reserved].map(|tier| engine.submit(of(tier, 4, 10_000)));
    let all = |engine: &Engine| [standard, guaranteed, reserved].map(|job| throttle(engine, job));
    engine.pass(0);
    leave(&mut engine, 16 * (CHIP[2] + CHIP[0] + CHIP[0]));
    assert_eq!(all(&engine), [Some(2), Some(0), Some(0)]);
    leave(&mut engine, 16 * (CHIP[2] + CHIP[2] + CHIP[0]));
    assert_eq!(all(&engine), [Some(2), Some(2), Some(0)]);
    leave(&mut engine, 16 * (CHIP[2] + CHIP[0]));
    assert_eq!(all(&engine), [None, Some(2), Some(0)]);
    engine.pass(120);
    leave(&mut engine, 16 * (CHIP[2] + CHIP[2]));
    assert_eq!(all(&engine), [None, Some(2), Some(2)]);
    leave(&mut engine, 16 * CHIP[2]);
    assert_eq!(all(&engine), [None, None, Some(2)]);
}

#[test]
fn power_comes_back_by_turn_and_before_anybody_starts() {
    let mut engine = engine();
    let [first, second] = [1, 2].map(|_| engine.submit(of(Tier::Standard, 4, 10_000)));
    engine.pass(0);
    leave(&mut engine, 32 * CHIP[2]);
    assert_eq!([first, second].map(|job| throttle(&engine, job)), [Some(2); 2]);
    let waits = engine.submit(of(Tier::Standard, 1, 10_000));
    engine.pass(60);
    assert_eq!(throttle(&engine, waits), None);
    leave(&mut engine, 16 * CHIP[0] + 16 * CHIP[2] + 1);
    assert_eq!([first, second].map(|job| throttle(&engine, job)), [Some(0), Some(2)]);
    leave(&mut engine, 16 * CHIP[0] + 16 * CHIP[1] + 3 * CHIP[0]);
    assert_eq!([second, waits].map(|job| throttle(&engine, job)), [Some(1), None], "three chips more start nobody");
    leave(&mut engine, 36 * CHIP[0]);
    assert_eq!([first, second, waits].map(|job| throttle(&engine, job)), [Some(0); 3]);
}

#[test]
fn work_that_ends_gives_its_power_to_throttled_work() {
    let mut engine = engine();
    let short = engine.submit(of(Tier::Standard, 2, 600));
    let long = engine.submit(of(Tier::Standard, 4, 10_000));
    engine.pass(0);
    leave(&mut engine, 24 * CHIP[1]);
    assert_eq!((throttle(&engine, short), throttle(&engine, long)), (Some(1), Some(1)));
    engine.pass(600);
    assert_eq!(throttle(&engine, short), Some(1), "it takes longer");
    engine.pass(67);
    assert_eq!((throttle(&engine, short), throttle(&engine, long)), (None, Some(0)));
}

#[test]
fn who_would_miss_its_deadline_is_throttled_after_others() {
    let mut engine = engine();
    let by = |seconds| Job { deadline: Some(Timestamp::from_secs(seconds)), ..of(Tier::Standard, 4, 3000) };
    // Of equals the last to come would give way.
    let tight = [by(3010), by(3010)].map(|job| engine.submit(job));
    let loose = engine.submit(by(9000));
    engine.pass(0);
    leave(&mut engine, 32 * CHIP[0] + 16 * CHIP[1]);
    assert_eq!((throttle(&engine, loose), tight.map(|job| throttle(&engine, job))), (Some(1), [Some(0); 2]));
}

#[test]
fn nodes_that_cannot_be_kept_to_a_level_give_their_work_up() {
    let mut engine = engine();
    for node in (0..16).map(NodeIx) {
        engine.tell(Event::NodeThrottles { node, able: false });
    }
    engine.tell(Event::NodeThrottles { node: NodeIx(99), able: false });
    let job = engine.submit(of(Tier::Standard, 4, 10_000));
    engine.pass(0);
    engine.restore();
    leave(&mut engine, 16 * CHIP[1]);
    assert_eq!(throttle(&engine, job), None, "it is stopped");
}

#[test]
fn an_announced_curtailment_throttles_at_the_last_moment_and_for_as_long_as_it_lasts() {
    let mut engine = engine();
    let job = engine.submit(of(Tier::Standard, 4, 10_000));
    engine.pass(0);
    let (from, until) = (Timestamp::from_secs(1000), Timestamp::from_secs(2000));
    let watts = Watts::new(IDLE + 16 * CHIP[2]);
    let spec = Curtailment { name: "cut".to_owned(), cap: GRID, watts, from, until };
    engine.tell(Event::CurtailmentAnnounced { curtailment: CurtailmentId(1), spec });
    engine.decide();
    engine.pass(980);
    assert_eq!(throttle(&engine, job), Some(0));
    engine.pass(10);
    assert_eq!(throttle(&engine, job), Some(2));
    // What ends now does not give it back before the cut has even begun.
    let short = engine.submit(of(Tier::Standard, 1, 5));
    engine.pass(1);
    engine.tell(Event::JobFinished { job: short });
    engine.decide();
    assert_eq!(throttle(&engine, job), Some(2));
    engine.pass(1008);
    assert_eq!(throttle(&engine, job), Some(2));
    engine.pass(1);
    assert_eq!(throttle(&engine, job), Some(0));
}

#[test]
fn a_cap_that_was_lowered_rises_as_fast_as_its_site_stands_it() {
    let mut engine = engine_with("rise_watts_per_minute = 1000", Policy::named("backfill", 7).expect("it has a name"));
    let allowed = |engine: &Engine| engine.state.capacity().limits()[GRID.ix()].capacity().get();
    let [first, second] = [8, 4].map(|nodes| engine.submit(of(Tier::Standard, nodes, 100_000)));
    engine.pass(0);
    let low = IDLE + 48 * CHIP[2];
    let (from, until) = (Timestamp::from_secs(100), Timestamp::from_secs(1000));
    let spec = Curtailment { name: "cut".to_owned(), cap: GRID, watts: Watts::new(low), from, until };
    engine.tell(Event::CurtailmentAnnounced { curtailment: CurtailmentId(1), spec });
    engine.decide();
    engine.pass(90);
    engine.pass(10);
    assert_eq!((throttle(&engine, first), throttle(&engine, second), allowed(&engine)), (Some(2), Some(2), low));
    engine.pass(900);
    assert!(engine.state.curtailments().is_empty());
    assert_eq!((throttle(&engine, first), allowed(&engine)), (Some(2), low), "it is over, and nothing has risen");
    assert_eq!(engine.state.next_curtailment(), Some(Timestamp::from_secs(1060)));
    let mut before = low;
    for minute in 1..=10 {
        engine.pass(60);
        let now = allowed(&engine);
        assert_eq!(now, low + 1000 * minute);
        let drawn = engine.state.capacity().limits()[GRID.ix()].load().get();
        assert!(drawn <= now && drawn > before - 32 * 100, "{drawn} of {now} W are used");
        before = now;
    }
    assert_eq!((throttle(&engine, first), throttle(&engine, second)), (Some(0), Some(0)));
    engine.restore();
    // A minute that nobody looked at is made up for, and a cap that is lowered meanwhile is lowered at once.
    engine.pass(125);
    assert_eq!(allowed(&engine), low + 12_000);
    leave(&mut engine, 48 * CHIP[0]);
    assert_eq!(allowed(&engine), IDLE + 48 * CHIP[0]);
    engine.tell(Event::CapSet { cap: GRID, watts: Watts::new(60_000) });
    engine.decide();
    assert_eq!(allowed(&engine), IDLE + 48 * CHIP[0]);
    engine.pass(3600);
    assert_eq!((allowed(&engine), engine.state.next_curtailment()), (60_000, None));
}

#[test]
fn work_that_would_run_into_a_reservation_is_stopped_instead() {
    let mut engine = engine();
    let spec = Reservation { tenants: vec!["web".to_owned()], ..nodes(16, 1010, 1000) };
    engine.tell(Event::ReservationMade { reservation: ReservationId(1), spec: std::sync::Arc::new(spec) });
    let job = engine.submit(of(Tier::Standard, 4, 1000));
    engine.pass(0);
    assert_eq!(throttle(&engine, job), Some(0));
    leave(&mut engine, 16 * CHIP[1]);
    assert_eq!(throttle(&engine, job), None, "1,111 s are too long");
}

#[test]
fn an_elastic_job_that_shrinks_starts_again_at_full_power() {
    let preemption = Preemption { minimum_run: [Duration::from_secs(60); 4], ..Preemption::default() };
    let offtake = Policy::named("offtake", 7).expect("it has a name");
    let mut engine = engine_under(Policy { preemption: Some(preemption), ..offtake });
    let bounds = Elastic { minimum: 4, maximum: 16, speedup: Vec::new() };
    let shrinks = Job { gangs: vec![Gang { elastic: Some(bounds), ..gang(16, 4) }], ..of(Tier::Spot, 16, 10_000) };
    let shrinks = engine.submit(shrinks);
    engine.pass(0);
    engine.pass(100);
    leave(&mut engine, 64 * CHIP[0] - 1);
    assert_eq!(throttle(&engine, shrinks), Some(1));
    // What it keeps has power enough once the other eight nodes draw a quarter less.
    let strong = engine.submit(Job { gangs: vec![gang(8, 3)], ..of(Tier::Reserved, 8, 10_000) });
    engine.pass(1);
    assert_eq!(throttle(&engine, shrinks), None, "it is stopped for another size");
    engine.tell(Event::JobRequeued { job: shrinks, saved_until: Some(engine.now()), held: false });
    engine.decide();
    assert_eq!((throttle(&engine, strong), throttle(&engine, shrinks)), (Some(0), Some(0)));
}

#[test]
fn the_ladder_is_near_the_optimum() {
    let seed = TestRng::deterministic_rng(RngAlgorithm::ChaCha);
    let mut runner = TestRunner::new_with_rng(Config { cases: 512, ..Config::default() }, seed);
    let sums = std::cell::RefCell::new((0, 0));
    let ran = runner.run(&(prop::collection::vec(1..4_u32, 1..6), 1..100_i64), |(nodes, cut)| {
        let mut engine = engine();
        let jobs: Vec<JobId> = nodes.iter().map(|nodes| engine.submit(of(Tier::Standard, *nodes, 100_000))).collect();
        engine.pass(0);
        let all: i64 = nodes.iter().map(|nodes| i64::from(*nodes) * 4 * CHIP[0]).sum();
        let over = (all * cut).div_euclid(100).max(1);
        leave(&mut engine, all - over);
        // What one chip gives and loses in an hour, by how far it went: nothing, two levels, a stop with its restart.
        let ways = [(0, 0), (100, 360), (200, 1080), (400, 3600 + 600)];
        let taken: Vec<usize> = jobs.iter().map(|job| throttle(&engine, *job).map_or(3, usize::from)).collect();
        let cost = |taken: &[usize]| {
            let of = taken.iter().zip(&nodes).map(|(way, nodes)| (ways[*way], i64::from(*nodes) * 4));
            of.fold((0, 0), |(given, lost), ((gives, loses), chips)| (given + gives * chips, lost + loses * chips))
        };
        let (given, lost) = cost(&taken);
        prop_assert!(given >= over, "{given} of {over} W");
        let choices = (0..4_usize.pow(jobs.len() as u32))
            .map(|number| (0..jobs.len() as u32).map(|place| number / 4_usize.pow(place) % 4).collect::<Vec<_>>());
        let least = choices.map(|taken| cost(&taken)).filter(|(given, _)| *given >= over).map(|(_, lost)| lost).min();
        let mut sums = sums.borrow_mut();
        *sums = (sums.0 + lost, sums.1 + least.expect("all of them stopped is enough"));
        Ok(())
    });
    ran.expect("every cut is kept");
    let (lost, least) = sums.into_inner();
    assert!(lost * 100 <= least * 103, "what is lost is {:.3} of the least", lost as f64 / least as f64);
}
