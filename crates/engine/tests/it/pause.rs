//! Work gives power back by standing still where it is.

use offtake_engine::{Curtailment, CurtailmentId, Event, JobId, Phase, Stage, StopReason, Throttle};
use offtake_fleet::NodeIx;
use offtake_units::{Duration, Timestamp, Watts};
use offtake_workload::{Job, Tier};
use proptest::prelude::*;

use super::support::Engine;
use super::throttle::{CHIP, GRID, IDLE, ends, engine, leave, of, throttle};

const PAUSED: Option<u8> = Some(Throttle::PAUSED.0);

fn pausable(tier: Tier, nodes: u32, longest: i64) -> Job {
    Job { pause: Some(Duration::from_secs(longest)), ..of(tier, nodes, 10_000) }
}

/// From now on for so many seconds the cap leaves so much to chips at work.
fn cut(engine: &mut Engine, number: u64, seconds: i64, watts: i64) {
    let (from, until) = (engine.now(), engine.now() + Duration::from_secs(seconds));
    let spec = Curtailment { name: "cut".to_owned(), cap: GRID, watts: Watts::new(IDLE + watts), from, until };
    engine.tell(Event::CurtailmentAnnounced { curtailment: CurtailmentId(number), spec });
    engine.decide();
}

#[test]
fn a_pause_gives_all_back_and_costs_its_time_alone() {
    let mut engine = engine();
    let job = engine.submit(pausable(Tier::Standard, 4, 700));
    engine.pass(0);
    engine.pass(1000);
    cut(&mut engine, 1, 600, 16 * CHIP[2] - 1);
    assert_eq!((throttle(&engine, job), engine.state.speed(job).parts()), (PAUSED, 0));
    assert_eq!(engine.state.drawn_by(job, GRID), Watts::ZERO);
    assert_eq!(ends(&engine, job), Some(Timestamp::from_secs(10_000 + 700)), "nobody knows more than that");
    engine.restore();
    engine.pass(599);
    assert_eq!(throttle(&engine, job), PAUSED);
    engine.pass(1);
    assert_eq!((throttle(&engine, job), ends(&engine, job)), (Some(0), Some(Timestamp::from_secs(10_000 + 600))));
    let folded = engine.folded();
    assert_eq!(folded.essence(), engine.state.essence(), "the fold of the journal is the state");
}

#[test]
fn throttled_work_that_is_paused_goes_on_as_fast_as_there_is_power() {
    let mut engine = engine();
    let job = engine.submit(pausable(Tier::Standard, 4, 3600));
    engine.pass(0);
    leave(&mut engine, 16 * CHIP[1]);
    assert_eq!(throttle(&engine, job), Some(1));
    engine.pass(1000);
    leave(&mut engine, 0);
    assert_eq!(throttle(&engine, job), PAUSED);
    engine.pass(500);
    leave(&mut engine, 16 * CHIP[2]);
    assert_eq!(throttle(&engine, job), Some(2));
    // 9,100 s of work were left: ten seconds at seven tenths of the speed, and the rest at all of it.
    engine.pass(10);
    leave(&mut engine, 16 * CHIP[0]);
    assert_eq!(ends(&engine, job), Some(Timestamp::from_millis(10_603_000 + 2)), "rounded up twice");
}

#[test]
fn a_pause_that_lasts_too_long_becomes_a_stop_without_a_checkpoint() {
    let mut engine = engine();
    let [short, long] = [3599, 3700].map(|longest| engine.submit(pausable(Tier::Standard, 4, longest)));
    engine.pass(0);
    // Nobody says until when: an hour, as far as anybody knows.
    leave(&mut engine, 0);
    assert_eq!((throttle(&engine, short), throttle(&engine, long)), (None, PAUSED));
    engine.pass(60);
    engine.restore();
    assert_eq!(engine.state.next_curtailment(), Some(Timestamp::from_secs(3700)));
    engine.pass(3639);
    assert_eq!(throttle(&engine, long), PAUSED);
    engine.pass(1);
    let stage = |engine: &Engine| match engine.state.job(long).map(|work| work.phase.clone()) {
        Some(Phase::Running { stage, ends, .. }) => Some((stage, ends)),
        _ => None,
    };
    let now = Timestamp::from_secs(3700);
    assert_eq!(stage(&engine), Some((Stage::Stopping(StopReason::Curtailed), now)), "it has no power to save anything");
    engine.tell(Event::JobRequeued { job: long, saved_until: None, held: false });
    leave(&mut engine, 16 * CHIP[0]);
    assert!(engine.runs(short) && engine.state.paused().is_empty());
}

#[test]
fn chips_without_power_levels_are_paused_too() {
    let mut engine = engine();
    for node in (0..16).map(NodeIx) {
        engine.tell(Event::NodeThrottles { node, able: false });
    }
    let job = engine.submit(pausable(Tier::Standard, 4, 7200));
    engine.pass(0);
    leave(&mut engine, 16 * CHIP[2]);
    assert_eq!(throttle(&engine, job), PAUSED);
    leave(&mut engine, 16 * CHIP[0] - 1);
    assert_eq!(throttle(&engine, job), PAUSED, "they cannot be kept to a level");
    leave(&mut engine, 16 * CHIP[0]);
    assert_eq!(throttle(&engine, job), Some(0));
}

#[test]
fn who_waits_starts_after_those_that_are_paused() {
    let mut engine = engine();
    let job = engine.submit(pausable(Tier::Spot, 4, 7200));
    engine.pass(0);
    leave(&mut engine, 0);
    let waits = engine.submit(of(Tier::Reserved, 4, 1000));
    engine.pass(60);
    leave(&mut engine, 16 * CHIP[0]);
    assert_eq!((throttle(&engine, job), throttle(&engine, waits)), (Some(0), None));
}

#[test]
fn paused_work_that_is_displaced_leaves_at_once() {
    let mut engine = engine();
    let job = engine.submit(pausable(Tier::Spot, 4, 7200));
    engine.pass(0);
    leave(&mut engine, 0);
    engine.pass(100);
    engine.tell(Event::JobStopping { job, reason: StopReason::Preempted { by: JobId(99) }, by: None });
    assert_eq!(ends(&engine, job), Some(Timestamp::from_secs(100)));
    engine.restore();
    engine.tell(Event::JobRequeued { job, saved_until: None, held: false });
    assert!(engine.state.paused().is_empty());
}

/// Work on whole nodes by tier, with whether it may be paused.
fn mix() -> impl Strategy<Value = Vec<(usize, u32, bool)>> {
    prop::collection::vec((0..4_usize, 1..4_u32, any::<bool>()), 1..8)
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 512,
        failure_persistence: None,
        rng_seed: proptest::test_runner::RngSeed::Fixed(23),
        ..ProptestConfig::default()
    })]

    #[test]
    fn nobody_is_paused_or_stopped_while_weaker_work_goes_on(jobs in mix(), left in 0..100_i64, seconds in 1..3000_i64) {
        let mut engine = engine();
        let jobs: Vec<(Tier, JobId)> = jobs.into_iter().map(|(tier, nodes, may)| {
            let job = if may { pausable(Tier::ALL[tier], nodes, 2000) } else { of(Tier::ALL[tier], nodes, 10_000) };
            (Tier::ALL[tier], engine.submit(job))
        }).collect();
        engine.pass(0);
        let drawn: i64 = jobs.iter().map(|(_, job)| engine.state.drawn_by(*job, GRID).get()).sum();
        let running: Vec<(Tier, JobId)> = jobs.iter().copied().filter(|(_, job)| engine.runs(*job)).collect();
        let before: Vec<_> = running.iter().map(|(_, job)| ends(&engine, *job)).collect();
        cut(&mut engine, 1, seconds, drawn * left / 100);
        let goes_on = running.iter().filter(|(_, job)| throttle(&engine, *job).is_some());
        let drawn_on: i64 = goes_on.map(|(_, job)| engine.state.drawn_by(*job, GRID).get()).sum();
        prop_assert!(drawn_on <= drawn * left / 100, "it is enough");
        let gives_way = |job: JobId| matches!(throttle(&engine, job), None | PAUSED);
        let weakest_that_goes_on = running.iter().filter(|(_, job)| !gives_way(*job)).map(|(tier, _)| *tier).max();
        for (tier, _) in running.iter().filter(|(_, job)| gives_way(*job)) {
            prop_assert!(weakest_that_goes_on.is_none_or(|other| other <= *tier), "{tier:?} before {weakest_that_goes_on:?}");
        }
        if seconds > 2000 {
            prop_assert!(engine.state.paused().is_empty(), "nobody stands so long a pause");
        }
        let paused: Vec<JobId> = engine.state.paused().keys().copied().collect();
        engine.restore();
        engine.pass(seconds);
        prop_assert!(engine.state.paused().is_empty());
        for ((_, job), before) in running.iter().zip(before).filter(|((_, job), _)| paused.contains(job)) {
            prop_assert_eq!(ends(&engine, *job), before.map(|ends| ends + Duration::from_secs(seconds)), "by the pause alone");
        }
        prop_assert_eq!(engine.folded().essence(), engine.state.essence());
    }
}
