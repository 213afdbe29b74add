//! A fleet that is said to fit is placed in full, under every cap; with one rack more it is not.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::Path;
use std::sync::Arc;

use offtake_engine::{Event, Fact, JobId, Policy, State, Throttle, decide};
use offtake_fleet::{Fleet, SiteIx, racks, with_racks};
use offtake_planner::{Boundless, Count, Filled, SizeError, fit, limited_to, size};
use offtake_units::{Ppm, Timestamp};
use offtake_workload::{ChipRequest, Gang, Job};
use proptest::prelude::*;

const SITE: SiteIx = SiteIx(0);

fn parse(text: &str) -> Fleet {
    offtake_fleet::parse(text, "fleet.toml", Path::new("."), &BTreeMap::new()).expect("the test's fleet is valid")
}

fn hall() -> Fleet {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fleets/colossus-hall.toml");
    offtake_fleet::read(&file, &BTreeMap::new()).expect("the preset is valid")
}

/// A site of two kinds of rack, and whatever limits it.
const SMALL: &str = r#"
name = "small"
levels = ["site", "hall", "rack"]

[accelerators.a]
idle_watts = 100
operating_watts = 500
peak_watts = 600
power_levels = [
  { name = "eco", power = 0.8, speed = 0.95, basis = "measured", source = "a test" },
  { name = "low", power = 0.6, speed = 0.8, basis = "assumed", source = "a test" },
]

[accelerators.b]
idle_watts = 50
operating_watts = 700
peak_watts = 700

[node_kinds.a-4]
accelerator = "a"
chips = 4
cpu_cores = 64
memory_gib = 256
base_watts = 500

[node_kinds.b-2]
accelerator = "b"
chips = 2
cpu_cores = 64
memory_gib = 256
base_watts = 300

[node_kinds.host]
cpu_cores = 32
memory_gib = 64
base_watts = 200
"#;

/// A state with a fleet, and nothing at work.
fn loaded(fleet: Fleet) -> State {
    let mut state = State::default();
    let at = Timestamp::EPOCH;
    state.apply(&Fact { at, event: Event::FleetLoaded { fleet: Arc::new(fleet) } });
    state.apply(&Fact { at, event: Event::PolicySet { policy: Policy::named("offtake", 7).expect("it has a name") } });
    state
}

/// What is drawn under each cap of the racks that `fit` names, and whether all the work was placed.
fn is_placed_in_full(fleet: &Fleet, counts: &[u32], busy: Ppm) -> bool {
    let filled = Filled::of(with_racks(fleet, SITE, counts), busy);
    filled.state.check().expect("every truth holds");
    assert_eq!(filled.state.capacity().breaches(), 0, "no cap is ever exceeded");
    filled.placed == filled.asked
}

/// Counts of racks in halls, PUE, the caps of site and halls, two feeds, a cap on each rack, how busy, how far throttled.
#[derive(Clone, Debug)]
struct Case {
    text: String,
    busy: Ppm,
    level: Throttle,
}

fn cases() -> impl Strategy<Value = Case> {
    let halls = prop::collection::vec((0_u32..3, 1_u32..3), 1..4);
    let limits = (100_u32..150, 20_u32..200, any::<bool>(), prop::option::of((15_u32..80, any::<bool>())));
    let feeds = (prop::option::of((15_u32..90, 15_u32..90, 3_u32..8)), prop::option::of(5_u32..12));
    (halls, limits, feeds, 500_000_u32..1_100_000, 0_u8..3).prop_map(|(halls, limits, feeds, busy, level)| {
        let (pue, grid, breaker, hall_cap) = limits;
        let mut text = SMALL.to_owned();
        let kind = |breaker| if breaker { "breaker" } else { "contract" };
        text += "[templates.rack-a]\nlevel = \"rack\"\nnodes = { a-4 = 2 }\n\
                 [templates.rack-b]\nlevel = \"rack\"\nnodes = { b-2 = 3, host = 1 }\n";
        for (ix, (a, b)) in halls.iter().enumerate() {
            let a = if *a == 0 { String::new() } else { format!("rack-a = {a}, ") };
            let _ = write!(text, "[templates.hall-{ix}]\nlevel = \"hall\"\ndomains = {{ {a}rack-b = {b} }}\n");
        }
        let all: Vec<String> = (0..halls.len()).map(|ix| format!("hall-{ix} = 1")).collect();
        let _ = write!(text, "[sites.here]\npue = {}\ndomains = {{ {} }}\n", f64::from(pue) / 100.0, all.join(", "));
        let idle: u32 = halls.iter().map(|(a, b)| a * 1800 + b * 1400).sum();
        let mut cap = |name: &str, on: &str, watts: u32, meter: &str, kind: &str| {
            let _ =
                write!(text, "[caps.{name}]\non = \"{on}\"\nwatts = {watts}\nmeter = \"{meter}\"\nkind = \"{kind}\"\n");
        };
        cap("grid", "here", idle * pue / 100 + 1 + grid * 1000, "facility", kind(breaker));
        if let Some((kilowatts, breaker)) = hall_cap {
            cap("hall", "here/*", idle + kilowatts * 1000, "it", kind(breaker));
        }
        let (feeds, rack) = feeds;
        if let Some(kilowatts) = rack {
            cap("rack", "here/*/*", kilowatts * 1000, "it", "breaker");
        }
        if let Some((one, other, tenths)) = feeds {
            for (name, kva, tenths) in [("one", one, tenths), ("other", other, 10 - tenths)] {
                let kva = f64::from(kva) + f64::from(idle) / 500.0;
                let _ = write!(
                    text,
                    "[circuits.{name}]\nkva = {kva}\npower_factor = 0.95\nredundancy_group = \"g\"\n\
                     feeds = [{{ domain = \"here/*\", share = 0.{tenths} }}]\n"
                );
            }
        }
        Case { text, busy: Ppm::new(busy.min(1_000_000)), level: Throttle(level) }
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_fits_is_placed_and_one_rack_more_is_not(case in cases()) {
        let fleet = limited_to(&parse(&case.text), case.level);
        let all = racks(&fleet, SITE);
        let account = loaded(fleet.clone());
        let fit = fit(account.capacity(), &all, Count::Draw { busy: case.busy }).expect("the grid limits it");
        let sum = |counts: &[u32]| counts.iter().sum::<u32>();
        prop_assert_eq!(sum(&fit.one_more), sum(&fit.counts) + 1);
        prop_assert!(is_placed_in_full(&fleet, &fit.counts, case.busy), "what fits: {:?}", fit);
        prop_assert!(!is_placed_in_full(&fleet, &fit.one_more, case.busy), "one rack more: {:?}", fit);
    }

    #[test]
    fn a_site_that_is_sized_is_never_over_a_cap(case in cases()) {
        let sizing = size(&parse(&case.text), SITE, case.busy).expect("the grid limits it");
        prop_assert!([3, 5].contains(&sizing.rows.len()), "a site without chips of kind a has no levels");
        for row in &sizing.rows {
            let cap = row.cap.as_ref().expect("it has a cap");
            prop_assert!(cap.load_watts <= cap.limit_watts, "{:?}", row);
            prop_assert!(row.useful_chip_milli <= row.chips_at_work * 1000);
            prop_assert!(row.useful_chip_milli <= sizing.rows[sizing.best].useful_chip_milli);
        }
        let (rule, full) = (&sizing.rows[0], &sizing.rows[2]);
        prop_assert!(rule.racks <= full.racks, "nameplates never fit more than what is drawn");
    }
}

#[test]
fn the_hall_holds_what_its_caps_and_feeds_say() {
    let sizing = size(&hall(), SITE, Ppm::ONE).expect("the hall is capped");
    let rows: Vec<(&str, u64, &str)> = sizing
        .rows
        .iter()
        .map(|row| (row.name.as_str(), row.racks, row.cap.as_ref().map_or("", |cap| cap.name.as_str())))
        .collect();
    // By hand: a rack of eight is 72.16 kW by its plates, 68.32 kW at work, 63.2 kW at `eco`, 54.24 kW at `low`. The grid
    // leaves 31 MW / 1.2 at the servers; each feed carries 28.5 MVA × 0.95 once the other is lost, counted by peaks.
    let expected = [
        ("rule of thumb", 358, "grid"),
        ("as it stands", 376, "feed-a for feed-b"),
        ("full power", 375, "feed-a for feed-b"),
        ("eco", 408, "grid"),
        ("low", 476, "grid"),
    ];
    assert_eq!(rows, expected);
    assert_eq!(sizing.rows[sizing.best].name, "low");
    let low = &sizing.rows[4];
    assert_eq!((low.chips_at_work, low.useful_chip_milli), (476 * 64, 476 * 64 * 850));
    assert_eq!(low.useful_if_assumed_levels_are_off, Some([476 * 64 * 765, 476 * 64 * 935]));
}

#[test]
fn the_engine_fills_the_sized_hall_with_work_that_may_run_anywhere() {
    let hall = hall();
    let all = racks(&hall, SITE);
    for level in [Throttle::NONE, Throttle(2)] {
        let limited = limited_to(&hall, level);
        let fit = fit(loaded(limited.clone()).capacity(), &all, Count::Draw { busy: Ppm::ONE }).expect("it is capped");
        for (counts, fits) in [(&fit.counts, true), (&fit.one_more, false)] {
            let grown = with_racks(&limited, SITE, counts);
            let nodes = grown.nodes.len() as u64;
            let mut state = loaded(grown);
            let gang = Gang { workers: 1, chips: ChipRequest::Whole(8), ..Gang::default() };
            let spec = Arc::new(Job { gangs: vec![gang], ..Job::default() });
            for job in (0..nodes).map(JobId) {
                state
                    .apply(&Fact { at: Timestamp::EPOCH, event: Event::JobSubmitted { job, spec: Arc::clone(&spec) } });
            }
            decide(&mut state, Timestamp::EPOCH, &mut Vec::new());
            assert_eq!(state.queue().jobs() == 0, fits, "{} of {nodes} wait", state.queue().jobs());
            assert_eq!(state.capacity().breaches(), 0);
            state.check().expect("every truth holds");
        }
    }
}

#[test]
fn a_site_whose_nodes_hang_below_it_grows_by_nodes() {
    let site = "[sites.here]\npue = 1.0\nnodes = { a-4 = 2 }\n";
    let cap = "[caps.grid]\non = \"here\"\nwatts = 20000\nmeter = \"it\"\nkind = \"contract\"\n";
    let sizing = size(&parse(&format!("{SMALL}{site}{cap}")), SITE, Ppm::ONE).expect("it is capped");
    // 20 kW over 2,500 W at work, 2,900 W by its plate, 480 × 4 + 500 W at `eco`, 360 × 4 + 500 W at `low`.
    let nodes: Vec<u64> = sizing.rows.iter().map(|row| row.servers).collect();
    assert_eq!(nodes, [6, 2, 8, 8, 10]);
}

#[test]
fn what_has_no_size_says_why() {
    let size_of = |text: &str| size(&parse(&format!("{SMALL}{text}")), SITE, Ppm::ONE);
    let alone = "[sites.here]\npue = 1.0\nnodes = { a-4 = 2 }\n";
    assert_eq!(size_of(alone), Err(SizeError::NoCap("here".to_owned())));
    assert_eq!(size_of("[sites.here]\npue = 1.0\nnodes = { host = 2 }\n"), Err(SizeError::NoChips("here".to_owned())));
    let both = "[sites.there]\npue = 1.0\nnodes = { a-4 = 2 }\n[circuits.c]\nkva = 50\npower_factor = 1.0\n\
                feeds = [{ domain = \"here\" }, { domain = \"there\" }]\n";
    let shared = SizeError::Shared { circuit: "c".to_owned(), other: "there".to_owned() };
    assert_eq!(size_of(&format!("{alone}{both}")), Err(shared));
    let huge = "[caps.grid]\non = \"here\"\nmegawatts = 900000\nmeter = \"it\"\nkind = \"contract\"\n";
    let fleet = parse(&format!("{SMALL}{alone}{huge}"));
    let bound = fit(loaded(fleet.clone()).capacity(), &racks(&fleet, SITE), Count::Nameplate);
    assert_eq!(bound, Err(Boundless::TooMany));
}
