//! Caps at the grid connection of a site whose cooling follows load and weather.

use offtake_engine::{Curtailment, CurtailmentId, Event, LimitIx, Policy};
use offtake_fleet::SiteIx;
use offtake_units::{Duration, Energy, Timestamp, Watts};
use offtake_workload::Tier;
use proptest::prelude::*;

use super::support::{Engine, PLAIN, fleet, gang, job};

const GRID: LimitIx = LimitIx(0);

/// Sixteen nodes of 900 W idle and 2,500 W at work, and a cap that cooling in the greatest heat still leaves all idle nodes.
fn engine() -> Engine {
    let cooling = "cooling = { full_load_megawatts = 0.04, follows = \"5m\", curve = [{ it = 0, overhead = 0.05 }, \
                   { it = 0.5, overhead = 0.1 }, { it = 1, overhead = 0.3 }], heat = [{ wet_bulb_c = 10, factor = 1 }, \
                   { wet_bulb_c = 20, factor = 2 }] }";
    let text = PLAIN.replace("node = 4 }", "node = 16 }").replace("pue = 1.0", cooling);
    let caps = "[caps.grid]\non = \"here\"\nwatts = 38_560\nmeter = \"facility\"\nkind = \"contract\"\n\
                [caps.breaker]\non = \"here\"\nwatts = 60_000\nmeter = \"facility\"\nkind = \"breaker\"\n";
    Engine::under(fleet(&format!("{text}\n{caps}")), Policy::named("backfill", 7).expect("it has a name"))
}

fn weather(wet_bulb_mc: i32) -> Event {
    Event::WeatherPublished { site: "here".to_owned(), wet_bulb_mc }
}

fn at_work(engine: &Engine) -> i64 {
    (engine.state.capacity().site_draw(SiteIx(0)).get() - 16 * 900) / 1600
}

#[test]
fn a_cap_leaves_servers_what_cooling_does_not_take() {
    let mut engine = engine();
    (0..16).for_each(|_| _ = engine.submit(job(vec![gang(1, 4)], None)));
    engine.pass(0);
    // Nobody knows how hot it is: as in the greatest heat 25,600 W at the servers need twice 6,240 W beside them.
    assert_eq!(at_work(&engine), 7);
    assert_eq!(engine.state.metered(GRID), Watts::new(25_600 + 2 * 6_240));
    engine.tell(weather(5_000));
    engine.pass(1);
    assert_eq!(at_work(&engine), 10, "all that is left in cool air");
    assert_eq!(
        (engine.state.metered(GRID), engine.state.capacity().limits()[0].capacity().get()),
        (Watts::new(38_560), 38_560)
    );
    engine.restore();
    engine.tell(weather(15_000));
    engine.pass(1);
    engine.pass(60);
    assert_eq!(at_work(&engine), 8, "heat takes from them, as a cap that is lowered does");
    assert_eq!(engine.state.metered(GRID), Watts::new(27_200 + 8_160 * 3 / 2), "cooling runs on for ten");
    engine.wait(300);
    engine.decide();
    assert_eq!(engine.state.metered(GRID), Watts::new(27_200 + 6_880 * 3 / 2));
    assert_eq!(engine.folded().essence(), engine.state.essence());
}

#[test]
fn energy_is_the_same_in_one_piece_and_in_many() {
    let run = |step: i64| {
        let mut engine = engine();
        engine.tell(weather(12_000));
        (0..4).for_each(|number| _ = engine.submit(job(vec![gang(1 + number, 4)], Some(600 * i64::from(number + 1)))));
        engine.pass(0);
        for _ in 0..6000 / step {
            engine.pass(step);
        }
        engine.state.ledger().sites[0].facility
    };
    let (coarse, fine) = (run(600), run(75));
    assert_eq!(coarse, fine);
    assert!(coarse > Energy::ZERO);
}

#[derive(Clone, Debug)]
enum Step {
    Submit(u32, i64, usize),
    Weather(i32),
    Cap(i64),
    Curtail(i64, i64, i64),
    Pass(i64),
    Restore,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (1..6_u32, 60..4000_i64, 0..4_usize).prop_map(|(nodes, seconds, tier)| Step::Submit(nodes, seconds, tier)),
        2 => (0..30_000_i32).prop_map(Step::Weather),
        1 => (20_000..70_000_i64).prop_map(Step::Cap),
        1 => (20_000..50_000_i64, 10..900_i64, 60..2000_i64).prop_map(|(to, notice, hold)| Step::Curtail(to, notice, hold)),
        5 => (0..600_i64).prop_map(Step::Pass),
        1 => Just(Step::Restore),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 256,
        failure_persistence: None,
        rng_seed: proptest::test_runner::RngSeed::Fixed(29),
        ..ProptestConfig::default()
    })]

    #[test]
    fn nothing_is_added_over_a_cap_and_the_fold_is_the_state(steps in prop::collection::vec(step(), 1..40)) {
        let (mut engine, mut curtailments) = (engine(), 0);
        for step in steps {
            match step {
                Step::Submit(nodes, seconds, tier) => {
                    let plain = job(vec![gang(nodes, 4)], Some(seconds));
                    engine.submit(offtake_workload::Job { tier: Tier::ALL[tier], ..plain });
                }
                Step::Weather(wet_bulb_mc) => engine.tell(weather(wet_bulb_mc)),
                Step::Cap(watts) => engine.tell(Event::CapSet { cap: GRID, watts: Watts::new(watts) }),
                Step::Curtail(watts, notice, hold) => {
                    let from = engine.now() + Duration::from_secs(notice);
                    let (until, watts): (Timestamp, _) = (from + Duration::from_secs(hold), Watts::new(watts));
                    let spec = Curtailment { name: "peak".to_owned(), cap: GRID, watts, from, until };
                    engine.tell(Event::CurtailmentAnnounced { curtailment: CurtailmentId(curtailments), spec });
                    curtailments += 1;
                }
                Step::Pass(seconds) => engine.pass(seconds),
                Step::Restore => engine.restore(),
            }
            engine.decide();
            prop_assert_eq!(engine.state.capacity().breaches(), 0);
        }
        engine.nothing_is_missed();
        engine.explain_all();
        prop_assert_eq!(engine.folded().essence(), engine.state.essence());
    }
}
