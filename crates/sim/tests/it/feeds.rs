//! Lost feeds: circuits carry more for others than for ever, as their time-current curves allow and no longer.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use offtake_fleet::{Circuit, CircuitIx, Fleet};
use offtake_sim::{FeedLoss, Outcome, Setup};
use offtake_units::{Duration, Timestamp, Watts};
use offtake_workload::{Job, Tier};
use proptest::prelude::*;

use crate::failures::{hours, job, setup, under};

/// Sixteen nodes that draw 900 W idle and 2,900 W at most.
const NODES: &str = r#"
name = "hall"
levels = ["site"]
[accelerators.chip]
idle_watts = 100
operating_watts = 500
peak_watts = 600
LEVELS
[node_kinds.node]
accelerator = "chip"
chips = 4
cpu_cores = 64
memory_gib = 256
base_watts = 500
[sites.here]
pue = 1.2
nodes = { node = 16 }
"#;

const LEVELS: &str =
    r#"power_levels = [{ name = "low", power = 0.5, speed = 0.7, basis = "assumed", source = "a test" }]"#;

/// A hall on so many feeds, each with its share, its rating in tenths of a kVA, and its curve.
fn fleet(feeds: &[(u32, &str)], has_levels: bool) -> Fleet {
    let mut text = NODES.replace("LEVELS", if has_levels { LEVELS } else { "" });
    let share = 1.0 / feeds.len() as f64;
    for (place, (kva, curve)) in feeds.iter().enumerate() {
        text.push_str(&format!(
            "[circuits.feed-{place}]\nkva = {}\npower_factor = 1.0\nredundancy_group = \"hall\"\noverload = [{curve}]\n\
             feeds = [{{ domain = \"here\", share = {share} }}]\n",
            f64::from(*kva) / 10.0
        ));
    }
    offtake_fleet::parse(&text, "hall", Path::new(""), &BTreeMap::new()).expect("the test's fleet is valid")
}

fn losing(fleet: Fleet, jobs: Vec<Job>, circuit: u32, at: i64, hold: i64) -> Outcome {
    let at = Timestamp::from_secs(at);
    let loss = FeedLoss { circuit: CircuitIx(circuit), at, until: at + Duration::from_secs(hold) };
    let setup = Setup { fleet: Arc::new(fleet), feed_losses: vec![loss], ..setup(jobs, Some(hours(12)), None) };
    under(&setup, "offtake")
}

fn fourteen() -> Vec<Job> {
    (0..14).map(|_| job(1, 0, hours(4), Some((Duration::from_secs(1800), 0)))).collect()
}

fn started_at_once(outcome: &Outcome) -> usize {
    outcome.jobs.iter().filter(|record| record.started == Some(Timestamp::EPOCH)).count()
}

#[test]
fn more_work_runs_where_a_feed_that_is_lost_may_be_carried_for_a_minute() {
    // 40 kVA carry 32 kW for ever, which is eight nodes at their peak beside 14.4 kW; and 44 kW for a minute: fourteen.
    let curve = r#"{ load = 1.1, lasts = "60s" }"#;
    let outcome = losing(fleet(&[(400, curve); 2], false), fourteen(), 0, 7200, 3600);
    assert_eq!(started_at_once(&outcome), 14);
    let [came] = outcome.feeds.as_slice() else { unreachable!("one feed is lost") };
    let [other] = came.loads.as_slice() else { unreachable!("one stands in") };
    assert_eq!((came.stopped, came.throttled), (6, 0));
    // Five seconds until it is known; nobody can save in ten, and nobody uses them.
    assert_eq!((other.most, other.over, other.beyond), (Watts::new(42_400), Duration::from_secs(5), Duration::ZERO));
    let late = outcome.jobs.iter().filter(|record| record.finished > Some(Timestamp::from_secs(4 * 3600))).count();
    assert_eq!(late, 6);
    assert_eq!(outcome.cap_breaches, 0);

    let outcome = losing(fleet(&[(400, curve); 2], true), fourteen(), 1, 7200, 3600);
    let [came] = outcome.feeds.as_slice() else { unreachable!("one feed is lost") };
    // 10.4 kW less, of 1.2 kW each.
    assert_eq!((came.stopped, came.throttled, came.loads[0].beyond), (0, 9, Duration::ZERO));

    // Who stands a pause is paused, six again.
    let patient = fourteen().into_iter().map(|job| Job { pause: Some(hours(2)), ..job }).collect();
    let outcome = losing(fleet(&[(400, curve); 2], false), patient, 0, 7200, 3600);
    let [came] = outcome.feeds.as_slice() else { unreachable!("one feed is lost") };
    assert_eq!((came.throttled, came.paused, came.stopped, came.loads[0].beyond), (0, 6, 0, Duration::ZERO));
}

#[test]
fn a_curve_that_is_shorter_than_it_takes_to_relieve_a_circuit_gives_nothing() {
    for curve in ["", r#"{ load = 2.0, lasts = "14s" }"#] {
        let outcome = losing(fleet(&[(400, curve); 2], false), fourteen(), 0, 7200, 3600);
        assert_eq!(started_at_once(&outcome), 8, "{curve}");
        let [came] = outcome.feeds.as_slice() else { unreachable!("one feed is lost") };
        assert_eq!((came.stopped, came.loads[0].most, came.loads[0].over), (0, Watts::new(30_400), Duration::ZERO));
    }
}

const CURVES: [&str; 4] = [
    "",
    r#"{ load = 1.25, lasts = "60s" }"#,
    r#"{ load = 1.25, lasts = "60s" }, { load = 2.0, lasts = "16s" }"#,
    r#"{ load = 1.0, lasts = "1h" }, { load = 1.5, lasts = "15s" }, { load = 4.0, lasts = "5s" }"#,
];

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    /// Whatever feed is lost, whenever, under whatever work: no other is over its rating for longer than its curve allows,
    /// and one without a curve never is.
    #[test]
    fn no_circuit_is_over_its_limit_beyond_its_curve(
        is_2n: bool,
        sizes in prop::collection::vec((0_u32..150, 0_usize..4), 4),
        levels: bool,
        lost in 0_u32..4,
        at in 60_i64..30_000,
        hold in 1_i64..8000,
        work in prop::collection::vec((1_u32..6, 0_i64..30_000, 60_i64..20_000, 0_usize..4, any::<bool>()), 4..40),
    ) {
        let (count, least) = if is_2n { (2, 180) } else { (4, 61) };
        let feeds: Vec<(u32, &str)> =
            sizes[..count].iter().map(|(more, curve)| (least * (100 + more) / 100, CURVES[*curve])).collect();
        let fleet = fleet(&feeds, levels);
        let of_work = |(nodes, at, span, tier, saves): &(u32, i64, i64, usize, bool)| {
            let checkpoint = saves.then_some((Duration::from_secs(900), 1 << 20));
            Job { tier: Tier::ALL[*tier], ..job(*nodes, *at, Duration::from_secs(*span), checkpoint) }
        };
        let jobs = work.iter().map(of_work).collect();
        let outcome = losing(fleet.clone(), jobs, lost % count as u32, at, hold);
        let [came] = outcome.feeds.as_slice() else { unreachable!("one feed is lost") };
        prop_assert_eq!(came.loads.len(), count - 1);
        for load in &came.loads {
            let circuit = &fleet.circuits[load.circuit.ix()];
            prop_assert_eq!(load.beyond, Duration::ZERO, "{:?}", load);
            prop_assert!(load.over <= Circuit::RELIEVED_IN, "{load:?}");
            prop_assert!(load.most <= circuit.carries_for(load.over), "{load:?} on {circuit:?}");
            if circuit.overload.is_empty() {
                prop_assert_eq!(load.over, Duration::ZERO);
            }
        }
        prop_assert_eq!(outcome.cap_breaches, 0);
    }
}
