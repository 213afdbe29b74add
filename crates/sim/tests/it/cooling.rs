//! Cooling that follows load and weather, in a simulated course of events.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use offtake_sim::{Cut, GridEvent, Overrides, Scenario, Setup, Signal, SignalValue, read, summary};
use offtake_units::{Duration, Energy, Timestamp, Watts};
use offtake_workload::{Job, Tier};
use proptest::prelude::*;

use crate::failures::{hours, job, under};

/// Sixteen nodes of 900 W idle and 2,500 W at work. Beside 14,400 W of idle servers 3,440 W are drawn, beside ten nodes at
/// work, 30,400 W, 8,160 W; in the greatest heat twice that.
const FLEET: &str = r#"name = "cooled"
levels = ["site", "rack"]
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
[templates.rack]
level = "rack"
nodes = { node = 4 }
[sites.here]
domains = { rack = 4 }
ride_through = { rack = "20s", site = "4s" }
[sites.here.cooling]
full_load_megawatts = 0.04
follows = "5m"
curve = [{ it = 0, overhead = 0.05 }, { it = 0.5, overhead = 0.1 }, { it = 1, overhead = 0.3 }]
heat = [{ wet_bulb_c = 10, factor = 1 }, { wet_bulb_c = 20, factor = 2 }]
[caps.grid]
on = "here"
watts = 60_000
meter = "facility"
kind = "contract"
"#;

const SCENARIO: &str = r#"name = "cooled"
fleet = "fleet.toml"
start = "1970-01-01T00:00:00Z"
horizon = "6h"
policies = ["offtake"]
[workload]
trace = "jobs.csv"
[signals]
weather = "weather.csv"
"#;

/// The scenario with these temperatures hour by hour, a cap of so many watts, and what else is to happen.
fn scenario(name: &str, degrees: &[i32], watts: &str, more: &str) -> Scenario {
    let folder: PathBuf = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("cooling-{name}"));
    std::fs::create_dir_all(&folder).expect("the folder can be made");
    let put = |file: &str, text: &str| std::fs::write(folder.join(file), text).expect("the folder can be written");
    let hours: Vec<String> =
        degrees.iter().enumerate().map(|(hour, degrees)| format!("1970-01-01T{hour:02}:00Z,{degrees}\n")).collect();
    put("fleet.toml", &FLEET.replace("60_000", watts));
    put("scenario.toml", &format!("{SCENARIO}{more}"));
    put("jobs.csv", "name,tenant,submitted,duration,workers,chips\nfirst,lab,1970-01-01T00:00:00Z,1h,1,4\n");
    put("weather.csv", &format!("utc,here\n{}", hours.concat()));
    read(&folder.join("scenario.toml"), &Overrides::default()).expect("the scenario is valid")
}

fn with_jobs(scenario: Scenario, jobs: Vec<Job>) -> Scenario {
    let jobs = jobs.into_iter().map(Arc::new).collect();
    Scenario { setup: Setup { jobs, ..scenario.setup }, ..scenario }
}

/// Ten jobs of a node each that save nothing.
fn ten(span: Duration) -> Vec<Job> {
    (0..10).map(|_| job(1, 0, span, None)).collect()
}

fn event(at: &str, notice: &str, watts: u32) -> String {
    format!(
        "[[grid_events]]\nname = \"peak\"\ncap = \"grid\"\nat = \"1970-01-01T{at}Z\"\nnotice = \"{notice}\"\nhold = \"1h\"\n\
         watts = {watts}\n"
    )
}

const COOL: [i32; 6] = [5; 6];

#[test]
fn cooling_follows_a_fall_of_load_after_five_minutes_on_the_meter_and_in_the_ledger() {
    let cooled = with_jobs(scenario("lag", &COOL, "60_000", ""), ten(hours(4)));
    let outcome = under(&cooled.setup, "offtake");
    let joules = |watts: i64, minutes: i64| i128::from(watts) * i128::from(minutes * 60_000);
    let busy = joules(30_400 + 8_160, 240);
    let energy = busy + joules(14_400 + 8_160, 5) + joules(14_400 + 3_440, 115);
    let account = &outcome.state.ledger().sites[0];
    assert_eq!(account.facility, Energy::from_watt_millis(energy));
    assert_eq!(account.it, Energy::from_watt_millis(joules(30_400, 240) + joules(14_400, 120)));
    assert_eq!(outcome.peak, Watts::new(38_560));
    let meter = &outcome.readings[0].drawn;
    assert_eq!([239, 240, 244, 245].map(|minute| meter[minute].get()), [38_560, 22_560, 22_560, 17_840]);
}

#[test]
fn what_a_meter_counts_in_minutes_is_what_the_ledger_books() {
    let jobs = (1..40).map(|number| job(1 + number % 3, i64::from(number) * 61, Duration::from_secs(900), None));
    let cooled = with_jobs(scenario("sum", &[5, 12, 17, 25, 9, 14], "60_000", ""), jobs.collect());
    let fleet = Arc::clone(&cooled.setup.fleet);
    let outcome = under(&cooled.setup, "offtake");
    let peak = outcome.readings[0].drawn.iter().max();
    assert_eq!(peak, Some(&outcome.peak));
    // The energy at the grid is that at the servers and what is drawn beside them, which lies within the curve's bounds.
    let account = &outcome.state.ledger().sites[0];
    let cooling = fleet.sites[0].cooling.as_ref().expect("it is cooled");
    let least = cooling.overhead(Watts::new(14_400), cooling.coolest()).over(hours(6));
    assert!(account.facility - account.it > least);
}

#[test]
fn heat_leaves_servers_less_of_a_cap_as_soon_as_it_comes() {
    // At 15 degrees half as much again is drawn beside the servers: 38,560 W leave them 27,850 W, enough for eight nodes.
    let cooled = with_jobs(scenario("heat", &[5, 5, 15, 15, 5, 5], "38_560", ""), ten(hours(20)));
    let outcome = under(&cooled.setup, "offtake");
    let meter = &outcome.readings[0].drawn;
    assert!(meter.iter().all(|drawn| *drawn <= Watts::new(38_560)), "{meter:?}");
    // Two nodes stop so early that cooling has followed at two; it then takes 10,320 W beside 27,200 W.
    assert_eq!(
        [113, 114, 116, 119, 120, 239, 240].map(|minute| meter[minute].get()),
        [38_560, 38_560, 35_360, 35_360, 37_520, 37_520, 38_560]
    );
    assert_eq!(outcome.jobs.iter().map(|record| record.restarts).sum::<u32>(), 2);
    assert_eq!(outcome.cap_breaches, 0);
}

#[test]
fn with_notice_servers_draw_less_so_early_that_cooling_has_followed() {
    let cooled = with_jobs(scenario("notice", &COOL, "60_000", &event("02:00:00", "30m", 30_000)), ten(hours(20)));
    let outcome = under(&cooled.setup, "offtake");
    let [came] = outcome.grid.as_slice() else { unreachable!("one event is announced") };
    // Six nodes at work need 24,000 W and 5,600 W beside them.
    assert_eq!((came.before, came.stopped, came.over), (Watts::new(38_560), 4, Duration::ZERO));
    assert_eq!(came.drawn, Watts::new(29_600));
    let stopped = Timestamp::from_secs(7200 - 300 - 10);
    assert_eq!(came.met, Some(stopped + Duration::from_secs(300)), "five minutes after the servers");
}

#[test]
fn hours_in_which_a_cap_allows_less_are_met_on_the_meter_too() {
    let by_clock = "60_000\ntime_zone = \"UTC\"\nhours = [{ from = \"02:00\", until = \"03:00\", watts = 30_000 }]";
    let cooled = with_jobs(scenario("clock", &COOL, by_clock, ""), ten(hours(20)));
    let outcome = under(&cooled.setup, "offtake");
    let meter = &outcome.readings[0].drawn;
    // As with an event of that size: four nodes stop 310 seconds before.
    assert_eq!([113, 115, 119, 120, 179].map(|minute| meter[minute].get()), [38_560, 32_160, 32_160, 29_600, 29_600]);
    assert_eq!(outcome.jobs.iter().map(|record| record.restarts).sum::<u32>(), 4);
    assert_eq!(outcome.cap_breaches, 0);
}

#[test]
fn without_time_for_that_servers_give_what_cooling_still_takes() {
    let cooled = with_jobs(scenario("short", &COOL, "60_000", &event("02:00:00", "1m", 30_000)), ten(hours(20)));
    let outcome = under(&cooled.setup, "offtake");
    let [came] = outcome.grid.as_slice() else { unreachable!("one event is announced") };
    assert_eq!((came.stopped, came.over, came.runs_on), (6, Duration::ZERO, None));
    assert_eq!(came.drawn, Watts::new(29_600));
    let meter = &outcome.readings[0].drawn;
    // Four nodes at work and cooling for ten; once that has followed two come back.
    assert_eq!([120, 123, 125, 179].map(|minute| meter[minute].get()), [28_960, 28_960, 29_600, 29_600]);
}

#[test]
fn what_cannot_be_had_while_cooling_runs_on_is_declared() {
    let cooled = with_jobs(scenario("declared", &COOL, "60_000", &event("02:00:00", "0s", 20_000)), ten(hours(20)));
    let outcome = under(&cooled.setup, "offtake");
    let [came] = outcome.grid.as_slice() else { unreachable!("one event is announced") };
    let followed = Timestamp::from_secs(7200 + 10 + 300);
    assert_eq!((came.least, came.runs_on), (None, Some((Watts::new(22_560), followed))));
    assert_eq!((came.over, came.drawn), (Duration::ZERO, Watts::new(22_560)), "it is kept as far as it goes");
    let grid = summary(&cooled, &outcome).grid.expect("there was an event");
    assert_eq!((grid.declared_infeasible, grid.false_infeasible, grid.feasible), (1, 0, 0));
    let line = &grid.lines[0];
    assert_eq!((line.achievable_mw, line.declared_after_s), (Some(0.02256), Some(0.0)));
}

fn loss(on: &str, leaves: f64) -> String {
    format!("[[cooling_losses]]\non = \"{on}\"\nat = \"1970-01-01T02:00:00Z\"\nhold = \"30m\"\nleaves = {leaves}\n")
}

#[test]
fn a_rack_that_loses_its_cooling_is_down_before_it_is_too_hot() {
    let cooled = with_jobs(scenario("loss", &COOL, "60_000", &loss("here/rack-0", 0.6)), ten(hours(20)));
    let outcome = under(&cooled.setup, "offtake");
    let [came] = outcome.grid.as_slice() else { unreachable!("one loss is announced") };
    // Four nodes at work, or three fifths of that: one at work and three idle.
    assert_eq!((came.before, came.target), (Watts::new(10_000), Watts::new(6_000)));
    assert_eq!((came.drawn, came.stopped, came.over), (Watts::new(5_200), 3, Duration::ZERO));
    assert!(came.met <= Some(Timestamp::from_secs(7220)));
}

#[test]
fn a_loss_that_is_over_before_it_is_too_hot_asks_for_nothing() {
    let short = loss("here/rack-0", 0.6).replace("30m", "15s");
    let cooled = scenario("over", &COOL, "60_000", &short);
    assert!(cooled.setup.grid_events.is_empty());
    let told = "here/rack-0 rides through a loss of cooling of 15 s: nothing has to be done.";
    assert!(cooled.notes.iter().any(|note| note == told), "{:?}", cooled.notes);
}

#[test]
fn a_ride_through_shorter_than_a_stop_is_told_and_counted() {
    let cooled = with_jobs(scenario("ride", &COOL, "60_000", &loss("here", 0.8)), ten(hours(20)));
    let told = "here rides through a loss of cooling for 4 s, and work is stopped in 10 s: it is too hot for the time between.";
    assert!(cooled.notes.iter().any(|note| note == told), "{:?}", cooled.notes);
    let outcome = under(&cooled.setup, "offtake");
    let [came] = outcome.grid.as_slice() else { unreachable!("one loss is announced") };
    assert_eq!((came.drawn, came.over), (came.before, Duration::ZERO), "32 kW are more than is drawn");
    let cooled = with_jobs(scenario("ride", &COOL, "60_000", &loss("here", 0.5)), ten(hours(20)));
    let outcome = under(&cooled.setup, "offtake");
    let [came] = outcome.grid.as_slice() else { unreachable!("one loss is announced") };
    assert_eq!((came.over, came.met), (Duration::from_secs(6), Some(Timestamp::from_secs(7210))));
}

fn work() -> impl Strategy<Value = Job> {
    let saves = prop::option::of((300..7200_i64, 0..400_000_000_000_u64));
    (1..6_u32, 0..15_000_i64, 300..20_000_i64, 0..4_usize, saves).prop_map(|(nodes, at, seconds, tier, saves)| {
        let saves = saves.map(|(interval, bytes)| (Duration::from_secs(interval), bytes));
        Job { tier: Tier::ALL[tier], ..job(nodes, at, Duration::from_secs(seconds), saves) }
    })
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 1024,
        failure_persistence: None,
        rng_seed: proptest::test_runner::RngSeed::Fixed(23),
        ..ProptestConfig::default()
    })]

    #[test]
    fn whatever_the_weather_events_are_met_on_the_meter_or_declared(
        mut jobs in prop::collection::vec(work(), 1..14),
        degrees in prop::collection::vec(5_000..25_000_i32, 6),
        cap in 36_000..60_000_i64,
        events in prop::collection::vec((600..3000_i64, prop_oneof![Just(10), 320..1200_i64], 60..2400_i64, 15_000..50_000_i64), 1..4),
    ) {
        jobs.sort_by_key(|job| job.submitted);
        let plain = with_jobs(scenario("property", &COOL, "60_000", ""), jobs).setup;
        let mut fleet = (*plain.fleet).clone();
        let grid = plain.cooled[0].cap;
        fleet.caps[grid.ix()].watts = Watts::new(cap);
        let mut now = 0;
        let place = |(pause, notice, hold, watts): &(i64, i64, i64, i64)| {
            let begin = now + pause + notice;
            now = begin + hold;
            let at = Timestamp::from_secs;
            let (announced, until) = (at(begin - notice), at(now));
            let cut = Cut::To(Watts::new(*watts));
            GridEvent { name: "peak".to_owned(), cap: grid, announced, at: at(begin), until, cut, programme: None }
        };
        let grid_events: Vec<GridEvent> = events.iter().map(place).collect();
        let hour = |(hour, milli_celsius): (i64, &i32)| {
            let from = Timestamp::from_secs(hour * 3600);
            let at = Timestamp::from_secs((hour - 1).max(0) * 3600);
            Signal { at, zone: "here".to_owned(), value: SignalValue::WetBulb { from, milli_celsius: *milli_celsius } }
        };
        let signals = (0..).zip(&degrees).map(hour).collect();
        let setup = Setup { fleet: Arc::new(fleet), grid_events, signals, ..plain };
        let outcome = under(&setup, "offtake");
        prop_assert_eq!(outcome.cap_breaches, 0);
        let idle_in_heat = Watts::new(14_400 + 2 * 3_440);
        let allowed = Watts::new(cap).max(idle_in_heat);
        prop_assert!(outcome.readings[0].drawn.iter().all(|drawn| *drawn <= allowed), "{:?}", outcome.readings[0].drawn);
        for (event, came) in setup.grid_events.iter().zip(&outcome.grid) {
            // With less notice than cooling takes to follow, what was declared may be had some seconds late. How much is stopped
            // is not judged: where an event meets several hours of weather that may be more than it takes.
            let has_time = event.at - event.announced > Duration::from_secs(310);
            if has_time || came.least.is_none() && came.runs_on.is_none() {
                prop_assert_eq!(came.over, Duration::ZERO, "{:?} {:?}", event, came);
            }
        }
    }
}
