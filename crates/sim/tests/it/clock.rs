//! Caps that allow less by the clock, in a simulated course of events.

use std::path::Path;
use std::sync::Arc;

use offtake_fleet::{DomainIx, Fleet, Hours, Schedule};
use offtake_programmes::Zone;
use offtake_sim::{Outcome, Overrides, Setup, read, report_data, summary, with_cap};
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

const FLEET: &str = r#"name = "hall"
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
nodes = { node = 16 }
[caps.grid]
on = "here"
watts = 60_000
meter = "facility"
kind = "contract"
time_zone = "UTC"
hours = [{ from = "16:00", until = "21:00", watts = 30_000 }]
"#;

#[test]
fn the_report_shows_what_the_clock_leaves_of_a_cap() {
    let shown = |horizon: &str| {
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("clock-{horizon}"));
        std::fs::create_dir_all(&folder).expect("the folder can be made");
        let put = |file: &str, text: &str| std::fs::write(folder.join(file), text).expect("the folder can be written");
        put("fleet.toml", FLEET);
        put("jobs.csv", "name,tenant,submitted,duration,workers,chips\nfirst,lab,1970-01-01T18:00:00Z,1h,1,4\n");
        put(
            "scenario.toml",
            &format!(
                "name = \"clock\"\nfleet = \"fleet.toml\"\nstart = \"1970-01-01T18:00:00Z\"\nhorizon = \"{horizon}\"\n\
                 policies = [\"offtake\"]\n[workload]\ntrace = \"jobs.csv\"\n"
            ),
        );
        let scenario = read(&folder.join("scenario.toml"), &Overrides::default()).expect("the scenario is valid");
        let outcome = under(&scenario.setup, "offtake");
        let figures = [summary(&scenario, &outcome)];
        let data = report_data(&scenario, &[("offtake", &outcome)], &figures, String::new());
        let policy = data.policies.into_iter().next().expect("there is one");
        let cap = policy.timeline.caps.into_iter().next().expect("it is at the site");
        (policy.meters.len(), cap.mw, cap.changes)
    };
    let evenings = |days: i64| {
        let from = |day: i64| (day * 24 * 3600 - if day > 0 { 2 * 3600 } else { 0 }, 0.03);
        (0..days).flat_map(|day| [from(day), (day * 24 * 3600 + 3 * 3600, 0.06)]).collect::<Vec<_>>()
    };
    assert_eq!(shown("1d"), (1, 0.06, evenings(2)), "the second begins in it");
    assert_eq!(shown("75h"), (0, 0.06, evenings(4)));
}
