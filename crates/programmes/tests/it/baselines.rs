//! What would have been drawn without an event.

use std::collections::BTreeSet;

use offtake_programmes::{Adjustment, Baseline, Basis, Delivered, Lack, Programme, Series, settle};
use offtake_units::{Ppm, Watts};
use proptest::prelude::*;

use super::{MW, event, instant, metered, mwh, programme};

/// What the event of a day delivers, with events of other days before it.
fn of_day(programme: &Programme, series: &Series, day: i64, others: &[i64]) -> Result<Delivered, Lack> {
    let events: Vec<_> = others.iter().chain([&day]).map(|day| event(*day, 17, 2)).collect();
    let settled = settle(programme, series, &events).events;
    let found = settled.into_iter().find(|settled| settled.event.span.from == instant(day, 17));
    found.expect("it is one of them").delivered
}

fn days(delivered: &Delivered) -> (Vec<String>, Adjustment) {
    let Basis::Days { days, adjustment } = &delivered.basis else { unreachable!("{delivered:?}") };
    (days.iter().map(ToString::to_string).collect(), *adjustment)
}

#[test]
fn ten_of_ten_is_the_mean_of_business_days_without_events() {
    // Each day draws a tenth of a megawatt more than the one before; the event is on Tuesday, 24 June.
    let series = metered(30, |day, _| Some(20 * MW + day * MW / 10));
    let delivered = of_day(&programme(Baseline::Caiso10Of10), &series, 22, &[15, 17]).expect("there are enough days");
    let (days, adjustment) = days(&delivered);
    // Without weekends, Juneteenth not being a holiday of NERC, and without the events of 17 and 19 June.
    let expected = [
        "2025-06-23",
        "2025-06-20",
        "2025-06-18",
        "2025-06-16",
        "2025-06-13",
        "2025-06-12",
        "2025-06-11",
        "2025-06-10",
        "2025-06-09",
        "2025-06-06",
    ];
    assert_eq!(days, expected);
    // Their mean is 21.18 MW; 22.2 MW are drawn before the event.
    assert_eq!(adjustment, Adjustment::Times(Ppm::new(1_048_158)));
    let adjusted = delivered.sum(|part| part.baseline).as_mwh();
    assert!((adjusted - 2.0 * 22.2).abs() < 1e-4, "{adjusted}");
}

#[test]
fn ten_of_ten_takes_four_days_of_weekends() {
    let series = metered(30, |day, _| Some(20 * MW + day * MW / 10));
    let delivered = of_day(&programme(Baseline::Caiso10Of10), &series, 26, &[]).expect("there are enough days");
    assert_eq!(days(&delivered).0, ["2025-06-22", "2025-06-21", "2025-06-15", "2025-06-14"]);
    let few = of_day(&programme(Baseline::Caiso10Of10), &series, 12, &[]);
    assert_eq!(few, Err(Lack::Days { kind: "days of weekends and holidays", found: 2, least: 4 }));
}

#[test]
fn the_adjustment_of_ten_of_ten_leaves_out_the_hour_before() {
    // On the day of the event a tenth more is drawn from one to four, and thrice as much from four to five.
    let series = metered(20, |day, hour| match (day, hour) {
        (15, 13..=15) => Some(22 * MW),
        (15, 16) => Some(60 * MW),
        _ => Some(20 * MW),
    });
    let delivered = of_day(&programme(Baseline::Caiso10Of10), &series, 15, &[]).expect("there are enough days");
    assert_eq!(days(&delivered).1, Adjustment::Times(Ppm::new(1_100_000)));
    assert_eq!(delivered.sum(|part| part.baseline), mwh(44_000));
}

#[test]
fn pjm_takes_the_highest_four_of_five_and_adds() {
    let series = metered(30, |day, hour| match (day, hour) {
        (17, _) => Some(10 * MW),
        // A holiday at the site: less than a quarter.
        (18, _) => Some(3 * MW),
        (22, 13..=15) => Some(25 * MW),
        _ => Some(20 * MW + day * MW / 10),
    });
    let delivered = of_day(&programme(Baseline::PjmCbl), &series, 22, &[16]).expect("there are enough days");
    let (days, adjustment) = days(&delivered);
    assert_eq!(days, ["2025-06-23", "2025-06-17", "2025-06-16", "2025-06-13"], "without 18, 19 and 20 June");
    // 22.1, 21.5, 21.4 and 21.1 MW: 21.525 in the mean, and 25 are drawn before the event.
    assert_eq!(adjustment, Adjustment::Plus(Watts::new(3_475_000)));
    assert_eq!(delivered.sum(|part| part.baseline), mwh(50_000));
}

#[test]
fn pjm_leaves_a_day_out_below_a_quarter_of_the_mean_of_all_five() {
    // A quarter of the mean of four days of 19 MW and one of 4 is 4 MW.
    for (low, expected) in [
        (4 * MW, ["2025-06-23", "2025-06-19", "2025-06-18", "2025-06-17"]),
        (4 * MW - 1, ["2025-06-23", "2025-06-19", "2025-06-18", "2025-06-16"]),
    ] {
        let series = metered(30, |day, _| match day {
            18 => Some(low),
            14 => Some(20 * MW),
            _ => Some(19 * MW),
        });
        let delivered = of_day(&programme(Baseline::PjmCbl), &series, 22, &[]).expect("there are enough days");
        assert_eq!(days(&delivered).0, expected, "{low}");
    }
}

#[test]
fn pjm_knows_saturdays_from_sundays() {
    let series = metered(40, |day, _| Some(20 * MW + day * MW / 10));
    let saturday = of_day(&programme(Baseline::PjmCbl), &series, 33, &[]).expect("there are enough days");
    assert_eq!(days(&saturday).0, ["2025-06-28", "2025-06-21"]);
    // Independence Day is a Friday.
    let holiday = of_day(&programme(Baseline::PjmCbl), &series, 32, &[]).expect("there are enough days");
    assert_eq!(days(&holiday).0, ["2025-06-29", "2025-06-22"]);
}

#[test]
fn what_the_meter_does_not_tell_is_said() {
    let whole = |_, _| Some(20 * MW);
    let ten = programme(Baseline::Caiso10Of10);
    let short = of_day(&ten, &metered(20, whole), 4, &[]);
    assert_eq!(short, Err(Lack::Days { kind: "business days", found: 4, least: 5 }));
    assert_eq!(
        short.expect_err("as above").to_string(),
        "the baseline takes 5 business days without events, and the meter has 4 in 45 days"
    );
    let silent = |at: i64| metered(20, move |day, hour| (day != 15 || hour != at).then_some(20 * MW));
    assert_eq!(of_day(&ten, &silent(17), 15, &[]), Err(Lack::Metered));
    assert_eq!(of_day(&ten, &silent(14), 15, &[]), Err(Lack::Before));
    assert!(of_day(&ten, &silent(16), 15, &[]).is_ok(), "the hour before is not needed");
    let gap = metered(20, |day, hour| (day != 14 || hour != 18).then_some(20 * MW));
    let (days, _) = days(&of_day(&ten, &gap, 15, &[]).expect("there are others"));
    assert_eq!(days[0], "2025-06-13", "a day with a gap is none");
}

proptest! {
    #[test]
    fn of_a_constant_load_the_response_is_what_it_drops(
        load in 1_000..100_000_000_i64, drop_ppm in 0..1_000_000_i64, day in 21..40_i64, pjm: bool,
    ) {
        let drop = load * drop_ppm / 1_000_000;
        let series = metered(45, |on, hour| Some(if on == day && (17..19).contains(&hour) { load - drop } else { load }));
        let method = if pjm { Baseline::PjmCbl } else { Baseline::Caiso10Of10 };
        let delivered = of_day(&programme(method), &series, day, &[]).expect("there are enough days");
        let hour = |watts: i64| Watts::new(watts).over(offtake_units::Duration::HOUR).part(2, 1);
        prop_assert_eq!(delivered.sum(|part| part.baseline), hour(load));
        prop_assert_eq!(delivered.sum(|part| part.delivered()), hour(drop));
    }

    #[test]
    fn no_day_of_an_event_is_in_a_baseline_and_no_adjustment_is_beyond_its_limits(
        loads in prop::collection::vec(0..50_000_000_i64, 45),
        others in prop::collection::btree_set(0..39_i64, 0..20),
        factor in 0..5_000_i64, pjm: bool,
    ) {
        let series = metered(45, |day, hour| {
            let load = loads[day as usize];
            Some(if day == 40 && hour < 17 { load * factor / 1000 } else { load })
        });
        let method = if pjm { Baseline::PjmCbl } else { Baseline::Caiso10Of10 };
        let others: Vec<i64> = others.into_iter().collect();
        if let Ok(delivered) = of_day(&programme(method), &series, 40, &others) {
            let (used, adjustment) = days(&delivered);
            let programme = programme(method);
            let called: BTreeSet<String> =
                others.iter().chain([&40]).map(|day| programme.zone.local(instant(*day, 17)).date().to_string()).collect();
            prop_assert!(used.iter().all(|day| !called.contains(day)), "{:?}", used);
            prop_assert_eq!(used.iter().collect::<BTreeSet<_>>().len(), used.len());
            if let Adjustment::Times(ratio) = adjustment {
                prop_assert!((800_000..=1_200_000).contains(&ratio.parts()), "{:?}", ratio);
            }
        }
    }
}
