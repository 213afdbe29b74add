//! Work starts as fast as its site takes it on, in a simulated course of events and in one looked ahead.

use std::sync::Arc;

use offtake_engine::{Event, Fact, JobId, Policy, State, decide};
use offtake_fleet::{Ramp, Smoothing};
use offtake_sim::{Cut, GridEvent, JobOutcome, RampOutcome, Setup, look_ahead, with_cap};
use offtake_units::{Duration, Ppm, Timestamp, Watts};
use offtake_workload::{Job, Swing};

use crate::failures::{hours, job, setup_on, under};

/// What a node's chips can be made to draw beyond their idle draw.
const NODE: i64 = 4 * 500;

/// Sixteen nodes, of which four may start or stop at one instant, and one more each twenty seconds.
fn ramped(jobs: Vec<Job>) -> Setup {
    let plain = setup_on(4, jobs, None, None);
    let mut fleet = (*plain.fleet).clone();
    let slow = Watts::new(NODE / 20);
    fleet.sites[0].ramp = Some(Ramp { max_step: Watts::new(4 * NODE), up: slow, down: slow, smoothing: None });
    Setup { fleet: Arc::new(fleet), ..plain }
}

fn secs(outcomes: &[JobOutcome], of: fn(&JobOutcome) -> Option<Timestamp>) -> Vec<i64> {
    let mut seconds: Vec<i64> = outcomes.iter().filter_map(of).map(|at| at.as_millis() / 1000).collect();
    seconds.sort_unstable();
    seconds
}

#[test]
fn gangs_start_one_after_the_other() {
    let minute = Duration::MINUTE;
    let mut jobs: Vec<Job> = (0..5).map(|_| job(4, 0, minute, None)).collect();
    jobs[4].gangs[0].swing = Some(Swing { share: Ppm::new(100_000), period: Duration::from_secs(60) });
    let outcome = under(&ramped(jobs), "backfill");
    // Each has ended when the next may start, and nothing else happens meanwhile.
    assert_eq!(secs(&outcome.jobs, |record| record.started), [0, 80, 160, 240, 320]);
    assert_eq!(secs(&outcome.jobs, |record| record.finished), [60, 140, 220, 300, 380]);
    let all = Watts::new(4 * NODE);
    let expected = RampOutcome {
        step_up: all,
        step_down: all,
        minute_up: all,
        minute_down: all,
        largest: all,
        swing: Watts::new(4 * NODE / 10),
        waited: 4,
    };
    assert_eq!(outcome.ramps, [(offtake_fleet::SiteIx(0), expected)]);
}

#[test]
fn who_was_stopped_comes_back_one_after_the_other() {
    let jobs: Vec<Job> = (0..4).map(|_| job(4, 0, hours(10), None)).collect();
    let plain = ramped(jobs);
    let (fleet, cap) = with_cap(&plain.fleet, offtake_fleet::DomainIx(0), "grid");
    let at = |hour: i64| Timestamp::from_secs(hour * 3600);
    let event = GridEvent {
        name: "all".to_owned(),
        cap,
        announced: at(1),
        at: at(2),
        until: at(3),
        cut: Cut::To(Watts::new(16 * 900)),
        programme: None,
    };
    let outcome = under(&Setup { fleet, grid_events: vec![event], ..plain }, "backfill");
    let [came] = outcome.grid.as_slice() else { unreachable!("one event is announced") };
    assert_eq!((came.stopped, came.over), (4, Duration::ZERO));
    let ends = secs(&outcome.jobs, |record| record.finished);
    let apart: Vec<i64> = ends.windows(2).map(|pair| pair[1] - pair[0]).collect();
    assert_eq!(apart, [80, 80, 80]);
    let (_, seen) = outcome.ramps[0];
    // They went one after the other, too, the last at the last moment.
    assert_eq!((seen.step_up, seen.step_down), (Watts::new(4 * NODE), Watts::new(4 * NODE)));
    assert_eq!(seen.waited, 3 + 3);
}

#[test]
fn a_gang_too_large_is_rejected_unless_hardware_takes_up_the_rest() {
    let rejected = |setup: &Setup| under(setup, "backfill").jobs[0].rejected;
    let mut setup = ramped(vec![job(5, 0, Duration::MINUTE, None)]);
    assert!(rejected(&setup));
    let mut fleet = (*setup.fleet).clone();
    let smoothing = Smoothing { watts: Watts::new(NODE), source: "a test".to_owned() };
    fleet.sites[0].ramp.iter_mut().for_each(|ramp| ramp.smoothing = Some(smoothing.clone()));
    setup.fleet = Arc::new(fleet);
    assert!(!rejected(&setup));
}

#[test]
fn a_look_ahead_sees_the_ramp() {
    let setup = ramped(Vec::new());
    let mut state = State::default();
    let policy = Policy::named("backfill", 7).expect("the test's policy exists");
    let mut events = vec![Event::FleetLoaded { fleet: Arc::clone(&setup.fleet) }, Event::PolicySet { policy }];
    events.extend((0..3).map(|id| Event::JobSubmitted { job: JobId(id), spec: Arc::new(job(4, 0, hours(1), None)) }));
    events.into_iter().for_each(|event| state.apply(&Fact { at: Timestamp::EPOCH, event }));
    decide(&mut state, Timestamp::EPOCH, &mut Vec::new());
    let ahead = look_ahead(state, Vec::new(), Vec::new(), None);
    let starts: Vec<_> = [1, 2].map(|id| ahead.jobs[&JobId(id)].started.map(|at| at.as_millis())).to_vec();
    assert_eq!(starts, [Some(80_000), Some(160_000)]);
}
