//! Caps that allow less by the clock, in a simulated course of events.

use std::sync::Arc;

use offtake_fleet::{DomainIx, Fleet, Hours, Schedule};
use offtake_programmes::Zone;
use offtake_sim::{Outcome, Setup, with_cap};
use offtake_units::{Duration, Timestamp, Watts};
use offtake_workload::Job;

use crate::failures::{hours, job, setup, under};

/// What the sixteen nodes draw idle, which is all that the clock leaves from four in the afternoon until nine.
const IDLE: Watts = Watts::new(16 * 900);

fn at(hour: i64) -> Timestamp {
    Timestamp::from_secs(hour * 3600)
}

/// A job that comes at noon, in a run that lasts as long as it.
fn alone(job: Job) -> Outcome {
    let plain = setup(vec![Job { submitted: at(12), ..job }], None, None);
    let (fleet, cap) = with_cap(&plain.fleet, DomainIx(0), "grid");
    let mut fleet = Fleet::clone(&fleet);
    let evening =
        Hours { from: 16 * 60, until: 21 * 60, days: (0..7).collect(), months: (1..=12).collect(), watts: IDLE };
    let zone = Zone::named("UTC").expect("it is a zone");
    fleet.caps[cap.ix()].schedule = Some(Schedule { zone, hours: vec![evening] });
    under(&Setup { fleet: Arc::new(fleet), ..plain }, "offtake")
}

#[test]
fn a_run_without_a_horizon_lasts_until_the_paused_and_the_stopped_have_ended() {
    let notice = Duration::from_secs(10);
    let paused = alone(Job { pause: Some(hours(6)), ..job(1, 0, hours(10), None) });
    assert_eq!((paused.jobs[0].restarts, paused.jobs[0].finished), (0, Some(at(27) + notice)), "ten hours and five");
    assert_eq!(paused.end, at(27) + notice);
    // It saves its work in the last minute, and starts again at nine.
    let stopped = alone(job(1, 0, hours(10), Some((hours(1), 0))));
    assert_eq!((stopped.jobs[0].restarts, stopped.end), (1, stopped.jobs[0].finished.expect("it ends")));
    assert_eq!(stopped.end, at(27) + Duration::MINUTE);
}

#[test]
fn a_run_without_a_horizon_ends_where_nobody_comes_any_further() {
    // Between two evenings there are 19 hours, and it saves nothing.
    let outcome = alone(job(1, 0, hours(20), None));
    let job = outcome.jobs[0];
    assert_eq!((job.finished, job.useful), (None, Duration::ZERO));
    assert!(job.restarts > 365 && outcome.end < at(24 * 368), "{job:?} until {:?}", outcome.end);
}
