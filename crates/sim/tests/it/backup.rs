//! Losses of a site's utility in a simulated course of events.

use std::sync::Arc;

use offtake_engine::ChipTime;
use offtake_fleet::{Backup, DomainIx, Fleet, Generators, Meter, SiteIx};
use offtake_sim::{Cut, GridEvent, Outcome, Setup, UtilityLoss, UtilityOutcome, with_cap};
use offtake_units::{CarbonIntensity, Currency, Duration, Energy, Ppm, PricePerMwh, Timestamp, Watts};
use offtake_workload::Job;
use proptest::prelude::*;

use crate::failures::{hours, job, setup, throttled, under};

/// Sixteen nodes of four chips: 900 W each idle, 2,500 W at work, 2,900 W at most.
const IDLE: i64 = 16 * 900;
const SITE: SiteIx = SiteIx(0);

const fn secs(seconds: i64) -> Duration {
    Duration::from_secs(seconds)
}

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_secs(seconds)
}

/// Ten jobs of a node each, ten hours long, that save every half hour.
fn ten() -> Vec<Job> {
    (0..10).map(|_| job(1, 0, hours(10), Some((secs(1800), 0)))).collect()
}

/// So many of ten kilowatts, which take 20 kW after 12 s and as much again after 17 s.
fn generators(count: u32) -> Generators {
    Generators {
        count,
        each: Watts::new(10_000),
        start: secs(12),
        block: Watts::new(20_000),
        block_every: secs(5),
        permit: None,
        fuel: None,
        carbon: CarbonIntensity::from_mg_per_kwh(700_000),
        price: None,
    }
}

fn backup(ups: i64, generators: Option<Generators>) -> Backup {
    Backup { ups: secs(ups), generators, retransfer: secs(300), boot: secs(600) }
}

/// The setup with back-up at its site and losses from a second on, each for so many seconds.
fn with_losses(plain: Setup, backup: Option<Backup>, losses: &[(i64, i64)]) -> Setup {
    let mut fleet = Fleet::clone(&plain.fleet);
    fleet.sites[0].backup = backup;
    let loss = |(from, hold): &(i64, i64)| UtilityLoss::of(&mut fleet, SITE, at(*from)..at(from + hold));
    let utility_losses = losses.iter().map(loss).collect();
    Setup { fleet: Arc::new(fleet), utility_losses, ..plain }
}

fn lost(backup: Option<Backup>, losses: &[(i64, i64)]) -> Outcome {
    under(&with_losses(setup(ten(), None, None), backup, losses), "offtake")
}

fn kilojoules(amount: i128) -> Energy {
    Energy::from_watt_millis(amount * 1_000_000)
}

fn only(outcome: &Outcome) -> &UtilityOutcome {
    let [came] = outcome.utility.as_slice() else { unreachable!("one loss is seen") };
    came
}

fn last(outcome: &Outcome) -> Timestamp {
    outcome.jobs.iter().filter_map(|record| record.finished).max().expect("there are some")
}

#[test]
fn a_ups_bridges_until_generators_have_taken_all_blocks() {
    let mut four = generators(4);
    four.price = Some(PricePerMwh { micros: 300_000_000, currency: Currency::USD });
    let outcome = lost(Some(backup(60, Some(four))), &[(7200, 3600)]);
    let came = only(&outcome);
    // All of 30.4 kW for 12 s, and the 10.4 kW that the first block leaves for five more.
    assert_eq!((came.on_ups, came.from_ups), (secs(17), Energy::from_watt_millis(416_800_000)));
    let generated = Energy::from_watt_millis(100_000_000 + 30_400 * 3_883_000);
    assert_eq!((came.generated, came.generators_ran), (generated, secs(3900)));
    assert_eq!(came.not_bought.facility, kilojoules(304 * 39 * 10));
    // 32.8176 kWh at 0.7 kg, and at 30 cents.
    assert!((came.carbon.as_tonnes() * 1000.0 - 22.972_289).abs() < 1e-6, "{}", came.carbon.as_tonnes());
    assert!((came.fuel.map_or(0.0, |fuel| fuel.as_units()) - 9.845_267).abs() < 1e-6, "{:?}", came.fuel);
    assert_eq!((came.stopped, came.throttled, came.dropped, came.over), (0, 0, 0, Duration::ZERO));
    assert_eq!((came.dark, came.back), (Duration::ZERO, Some(at(7200 + 3900))));
    assert_eq!(last(&outcome), at(36_000), "nobody noticed");
}

#[test]
fn a_site_off_the_grid_draws_nothing_under_an_event() {
    let plain = setup(ten(), None, None);
    let (fleet, cap) = with_cap(&plain.fleet, DomainIx(0), "grid");
    let mut fleet = Fleet::clone(&fleet);
    fleet.caps[cap.ix()].meter = Meter::Facility;
    let event = |announced: i64, from: i64, cut: Cut| GridEvent {
        name: format!("from {from}"),
        cap,
        announced: at(announced),
        at: at(from),
        until: at(from + 600),
        cut,
        programme: None,
    };
    let half = Cut::By(Ppm::new(500_000));
    let grid_events = vec![event(3600, 7800, Cut::To(Watts::new(20_000))), event(8500, 9000, half)];
    let setup = Setup { fleet: Arc::new(fleet), grid_events, ..plain };
    let outcome = under(&with_losses(setup, Some(backup(60, Some(generators(4)))), &[(7200, 3600)]), "offtake");
    let [known, called] = outcome.grid.as_slice() else { unreachable!("two events are announced") };
    assert_eq!((known.before, known.drawn, known.over), (Watts::new(30_400), Watts::ZERO, Duration::ZERO));
    assert_eq!(known.given_back, kilojoules(304 * 60));
    // Half of what the generators gave, not of nothing.
    assert_eq!((called.before, called.target, called.drawn), (Watts::ZERO, Watts::new(15_200), Watts::ZERO));
    assert_eq!((called.given_back, called.over), (Energy::ZERO, Duration::ZERO));
}

#[test]
fn cooling_is_carried_by_generators_and_not_by_the_ups() {
    let mut plain = setup(ten(), None, None);
    Arc::make_mut(&mut plain.fleet).sites[0].pue = Ppm::new(1_250_000);
    let outcome = under(&with_losses(plain, Some(backup(60, Some(generators(5)))), &[(7200, 600)]), "offtake");
    let came = only(&outcome);
    // Of 38 kW at the grid connection 20 kW are taken first, and with them 16 kW of servers; 14.4 kW stay on the UPS.
    assert_eq!(came.from_ups, Energy::from_watt_millis(12_000 * 30_400 + 5_000 * 14_400));
    assert_eq!(came.generated, Energy::from_watt_millis(5_000 * 20_000 + 883_000 * 38_000));
}

#[test]
fn what_generators_do_not_carry_gives_way_before_the_ups_is_empty() {
    let outcome = lost(Some(backup(60, Some(generators(3)))), &[(7200, 3600)]);
    let came = only(&outcome);
    // At its peak a node draws 2 kW more than idle: 30 kW carry seven beside 14.4 kW.
    assert_eq!((came.stopped, came.dropped, came.over, came.rework), (3, 0, Duration::ZERO, ChipTime::default()));
    let late = outcome.jobs.iter().filter(|record| record.finished > Some(at(36_000))).count();
    assert_eq!(late, 3);
    // They saved their work in the minute that the UPS gave, and start again when the load has gone back.
    assert_eq!(last(&outcome), at(36_000 + 3900));
    assert_eq!(came.dark, Duration::ZERO);
}

#[test]
fn chips_with_power_levels_go_on_slower() {
    let setup = with_losses(throttled(ten()), Some(backup(60, Some(generators(3)))), &[(7200, 3600)]);
    let outcome = under(&setup, "offtake");
    let came = only(&outcome);
    assert_eq!((came.stopped, came.dropped, came.over), (0, 0, Duration::ZERO));
    // 4.4 kW less: at 400 W instead of 600 a node gives 800 W, six of them 4.8 kW. Their way back up counts for nothing.
    assert_eq!((came.throttled, came.paused), (6, 0));
}

#[test]
fn work_that_stands_a_pause_is_counted_as_paused_and_as_stopped_where_the_loss_lasts_longer() {
    let pauses = |longest| ten().into_iter().map(move |job| Job { pause: Some(longest), ..job }).collect();
    let counts = |longest: Duration| {
        let setup =
            with_losses(setup(pauses(longest), None, None), Some(backup(60, Some(generators(3)))), &[(7200, 7200)]);
        let outcome = under(&setup, "offtake");
        let came = only(&outcome);
        (came.throttled, came.paused, came.stopped, came.over)
    };
    // Of ten nodes generators carry seven. Nobody knows for how long.
    assert_eq!(counts(hours(3)), (0, 3, 0, Duration::ZERO));
    assert_eq!(counts(secs(5400)), (0, 3, 3, Duration::ZERO));
}

#[test]
fn while_blocks_are_taken_only_what_is_carried_goes_on() {
    let slow = Generators { block: Watts::new(15_000), block_every: secs(60), ..generators(4) };
    // At 12 s 15 kW, at 72 s 30 kW, at 132 s 40 kW; the UPS is empty after 100 s.
    let outcome = lost(Some(backup(100, Some(slow))), &[(7200, 3600)]);
    let came = only(&outcome);
    assert_eq!((came.stopped, came.over, came.dropped), (3, Duration::ZERO, 0));
    assert_eq!(came.on_ups, secs(100), "30.4 kW less three nodes that save their work are 30.4 kW until they are gone");
    // They stop at 40 s, have saved their work at 100 s, and start again with the last block.
    assert_eq!(last(&outcome), at(36_000 + 92));
}

#[test]
fn without_generators_work_is_saved_and_hosts_go_dark() {
    let outcome = lost(Some(backup(120, None)), &[(7200, 3600)]);
    let came = only(&outcome);
    assert_eq!((came.stopped, came.dropped, came.rework), (10, 0, ChipTime::default()));
    assert_eq!((came.on_ups, came.dark, came.over), (secs(120), secs(3780), Duration::ZERO));
    // All of it at work for a minute, then while they save: 30.4 kW.
    assert_eq!(came.from_ups, Energy::from_watt_millis(30_400 * 120_000));
    assert_eq!(came.out, ChipTime(64 * 1000 * (3780 + 600) * 1000));
    assert_eq!(outcome.failures.out, came.out, "as of nodes that failed");
    // They worked until a minute before it was dark, and wait until hosts have booted.
    assert_eq!(last(&outcome), at(36_000 + 3900 + 600 - 60));
}

#[test]
fn without_any_back_up_all_that_was_not_saved_is_lost() {
    let outcome = lost(None, &[(7800, 3600)]);
    let came = only(&outcome);
    assert_eq!((came.stopped, came.dropped, came.dark, came.on_ups), (0, 10, hours(1), Duration::ZERO));
    // Ten minutes since two o'clock, of forty chips.
    assert_eq!(came.rework, ChipTime(40 * 1000 * 600 * 1000));
    assert_eq!(last(&outcome), at(36_000 + 3600 + 600 + 600));
    assert_eq!(came.generated + came.from_ups, Energy::ZERO);
    assert_eq!(
        came.not_bought.facility,
        Energy::from_watt_millis(i128::from(IDLE) * 3_600_000),
        "idle hosts draw nothing"
    );
}

#[test]
fn generators_stop_when_their_permit_is_used_up() {
    let permitted = Generators { permit: Some(hours(2)), ..generators(4) };
    let outcome = lost(Some(backup(60, Some(permitted))), &[(3600, 3300), (10_800, 7200), (30_000, 60)]);
    let [first, second, third] = outcome.utility.as_slice() else { unreachable!("three losses are seen") };
    assert_eq!((first.generators_ran, first.permit_left, first.dark), (hours(1), Some(hours(1)), Duration::ZERO));
    // An hour is left, so that work is saved and stopped, and all is dark until the utility is back.
    assert_eq!((second.generators_ran, second.permit_left), (hours(1), Some(Duration::ZERO)));
    assert_eq!((second.stopped, second.dropped, second.over), (10, 0, Duration::ZERO));
    assert_eq!(second.dark, secs(3600 + 300));
    // A minute is what the UPS carries alone; work stops for fear of more, as nobody knows.
    assert_eq!(
        (third.generators_ran, third.on_ups, third.dark, third.dropped),
        (Duration::ZERO, secs(60), Duration::ZERO, 0)
    );
    assert_eq!(third.back, Some(at(30_060)), "nothing was transferred");
}

#[test]
fn fuel_lasts_for_its_time_in_each_loss() {
    let fuelled = Generators { fuel: Some(hours(1)), ..generators(4) };
    let outcome = lost(Some(backup(60, Some(fuelled))), &[(3600, 3500), (10_800, 4000)]);
    let [first, second] = outcome.utility.as_slice() else { unreachable!("two losses are seen") };
    // The utility is good from 3,500 s on, so that the load goes back before the tanks are empty.
    assert_eq!((first.generators_ran, first.dark, first.back), (hours(1), Duration::ZERO, Some(at(7200))));
    assert_eq!((second.generators_ran, second.dark, second.dropped), (hours(1), secs(700), 0));
}

#[test]
fn without_a_ups_hosts_boot_again_on_generators() {
    let outcome = lost(Some(backup(0, Some(generators(3)))), &[(7200, 3600)]);
    let came = only(&outcome);
    // 20 kW carry the 14.4 kW of idle hosts after 12 s.
    assert_eq!((came.dark, came.dropped, came.on_ups, came.over), (secs(12), 10, Duration::ZERO, Duration::ZERO));
    let started = came.out;
    assert_eq!(started, ChipTime(64 * 1000 * 612 * 1000));
    // Seven go on after ten minutes, three when the load has gone back.
    let ends = |seconds: i64| outcome.jobs.iter().filter(|record| record.finished == Some(at(seconds))).count();
    assert_eq!((ends(36_000 + 612), ends(36_000 + 3900)), (7, 3));
}

#[test]
fn a_loss_that_is_over_before_generators_run_is_carried_by_the_ups_alone() {
    let outcome = lost(Some(backup(60, Some(generators(4)))), &[(7200, 8)]);
    let came = only(&outcome);
    assert_eq!((came.on_ups, came.generators_ran, came.back), (secs(8), Duration::ZERO, Some(at(7208))));
    assert_eq!(came.from_ups, Energy::from_watt_millis(30_400 * 8_000));
    assert_eq!(last(&outcome), at(36_000));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    /// Whatever is lost when, no more can be drawn than UPS or generators carry.
    #[test]
    fn nothing_draws_what_nothing_carries(
        ups in 0_i64..300,
        count in 1_u32..6,
        block in 3_i64..40,
        every in 1_i64..60,
        permit in proptest::option::of(0_i64..7200),
        fuel in proptest::option::of(0_i64..7200),
        losses in prop::collection::vec((600_i64..20_000, 1_i64..10_000), 1..4),
        nodes in prop::collection::vec((1_u32..5, 0_i64..30_000, 300_i64..20_000), 1..12),
        levels: bool,
    ) {
        let jobs = nodes.iter().map(|(nodes, at, span)| job(*nodes, *at, secs(*span), Some((secs(900), 1 << 30)))).collect();
        let mut from = 0;
        let losses: Vec<(i64, i64)> = losses.into_iter().map(|(after, hold)| {
            let at = from + after;
            from = at + hold + 300;
            (at, hold)
        }).collect();
        let generators = Generators {
            block: Watts::new(block * 1000).min(generators(count).capacity()),
            block_every: secs(every),
            permit: permit.map(secs),
            fuel: fuel.map(secs),
            ..generators(count)
        };
        let idle = Watts::new(IDLE);
        let is_bridged = generators.carries(idle).is_some_and(|after| after <= secs(ups));
        let generators = generators.carries(idle).filter(|_| is_bridged || ups == 0).map(|_| generators);
        let plain = if levels { throttled(jobs) } else { setup(jobs, None, None) };
        let outcome = under(&with_losses(plain, Some(backup(ups, generators)), &losses), "offtake");
        for (came, (at, hold)) in outcome.utility.iter().zip(&losses) {
            prop_assert_eq!(came.over, Duration::ZERO, "{:?} at {} for {}", came, at, hold);
            prop_assert!(came.on_ups <= secs(ups));
            prop_assert!(came.generators_ran <= fuel.map_or(Duration::from_millis(i64::MAX), secs));
            let lasted = came.back.map_or(secs(*hold + 300), |back| back - Timestamp::from_secs(*at));
            prop_assert!(lasted <= secs(*hold + 300));
            prop_assert!(ups == 0 || came.dropped == 0, "there was time to stop: {came:?}");
        }
        let ran: i64 = outcome.utility.iter().map(|came| came.generators_ran.as_millis()).sum();
        prop_assert!(permit.is_none_or(|permit| ran <= permit * 1000), "all in one year");
        prop_assert_eq!(outcome.cap_breaches, 0);
    }
}
