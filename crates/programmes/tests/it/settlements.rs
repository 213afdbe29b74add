//! What is paid.

use offtake_programmes::{Asked, Baseline, Departure, Depth, Event, Programme, Series, Statement, settle};
use offtake_units::{Currency, Duration, Money, Ppm, Watts};
use proptest::prelude::*;

use super::{MW, event, instant, metered, programme};

fn firm() -> Programme {
    programme(Baseline::FirmServiceLevel { contracted: Watts::new(24 * MW) })
}

/// June, in which 25 MW are drawn, and in the event of 10 June what is handed in.
fn june(in_event: i64) -> Series {
    metered(29, move |day, hour| Some(if day == 8 && (17..19).contains(&hour) { in_event } else { 25 * MW }))
}

#[test]
fn a_firm_service_level_that_is_kept_is_paid() {
    let settlement = settle(&firm(), &june(20 * MW), &[event(8, 17, 2)]);
    // 29 of 30 days of $6 for 4,000 kW; 8 MWh at $100.
    assert_eq!((settlement.capacity().as_units(), settlement.energy().as_units()), (23_200.0, 800.0));
    assert_eq!((settlement.penalties().as_units(), settlement.forfeited().as_units()), (0.0, 0.0));
    assert_eq!(settlement.net().as_units(), 24_000.0);
    assert_eq!(firm().firm_level(), Some(Watts::new(20 * MW)));
}

#[test]
fn what_is_short_is_paid_back_and_costs_its_share_of_the_month() {
    let settlement = settle(&firm(), &june(23 * MW), &[event(8, 17, 2)]);
    let [came] = settlement.events.as_slice() else { unreachable!("one event") };
    let delivered = came.delivered.as_ref().expect("it can be settled");
    // One of four megawatts is delivered: 2 MWh at $100; 6 MWh are short, at $300, and three quarters of $24,000.
    assert_eq!(delivered.payment.as_units(), 200.0);
    assert_eq!(delivered.penalty.as_units(), 1800.0);
    assert_eq!(delivered.forfeited.as_units(), 18_000.0);
    let statement = Statement::of(&firm(), &settlement);
    assert_eq!((statement.net, statement.unsettled), (23_200.0 + 200.0 - 1800.0 - 18_000.0, 0));
    let figures = statement.events[0].figures.as_ref().expect("it can be settled");
    assert_eq!(
        (figures.baseline_mw, figures.metered_mw, figures.delivered_mw, figures.short_mwh),
        (24.0, 23.0, 1.0, 6.0)
    );
    assert_eq!(statement.events[0].at, "2025-06-10T22:00:00Z", "five in the afternoon of Chicago");
}

#[test]
fn a_share_in_whole_watts_is_no_deeper_than_agreed() {
    // 0.333 of 24,000,001 W is 7,992,000.333 W: in whole watts, and so over two hours, more than as energy.
    let contracted = Watts::new(24 * MW + 1);
    let third =
        Programme { depth: Depth::Share(Ppm::new(333_000)), ..programme(Baseline::FirmServiceLevel { contracted }) };
    let committed = third.committed().expect("the baseline is agreed");
    for (watts, departures) in [(committed, &[][..]), (committed + Watts::new(1), &[Departure::Depth][..])] {
        let event = Event { asked: Asked::Watts(watts), ..event(8, 17, 2) };
        let settlement = settle(&third, &june(23 * MW), &[event]);
        assert_eq!(settlement.events[0].departures, departures, "{watts:?}");
        assert_eq!(settlement.penalties().as_units() > 0.0, departures.is_empty());
    }
}

#[test]
fn no_more_than_the_payment_of_a_month_is_forfeited() {
    let mut many = firm();
    many.events = 30;
    let events: Vec<_> = (0..10).map(|day| event(day, 17, 2)).collect();
    let settlement = settle(&many, &metered(29, |_, _| Some(25 * MW)), &events);
    assert_eq!(settlement.forfeited().as_units(), settlement.capacity().as_units());
}

#[test]
fn events_outside_the_terms_cost_nothing() {
    let mut events: Vec<_> = (0..5).map(|day| event(day, 17, 2)).collect();
    events[0].announced = events[0].span.from - Duration::from_secs(1799);
    events[1].span.until = events[1].span.from + Duration::from_secs(5 * 3600);
    events[2].asked = Asked::Watts(Watts::new(4 * MW + 1));
    let settlement = settle(&firm(), &june(25 * MW), &events);
    let departures: Vec<_> = settlement.events.iter().map(|event| event.departures.as_slice()).collect();
    assert_eq!(departures[0], [Departure::Notice(Duration::from_secs(1799))]);
    assert_eq!(departures[1], [Departure::Length(Duration::from_secs(5 * 3600))]);
    assert_eq!(departures[2], [Departure::Depth]);
    assert_eq!(departures[3], [Departure::Number(4)]);
    assert_eq!(settlement.penalties(), Money::zero(Currency::USD));
    let out_of_season = Programme { months: vec![1, 2, 11, 12], ..firm() };
    let settlement = settle(&out_of_season, &june(25 * MW), &[event(8, 17, 2)]);
    assert_eq!(settlement.events[0].departures, [Departure::Season]);
    assert!(settlement.months.is_empty(), "nor is anything paid for its capacity");
}

#[test]
fn a_season_goes_over_the_turn_of_the_year() {
    let winter = Programme { months: vec![1, 2, 11, 12], events: 2, ..firm() };
    // 1 December, 10 January, 1 February, and 2 December of the next.
    let events: Vec<_> = [182, 222, 244, 548].map(|day| event(day, 17, 2)).into();
    let settlement = settle(&winter, &metered(560, |_, _| Some(20 * MW)), &events);
    let departures: Vec<_> = settlement.events.iter().map(|event| event.departures.clone()).collect();
    assert_eq!(departures, [vec![], vec![], vec![Departure::Number(3)], vec![]]);
}

#[test]
fn what_an_interval_has_too_much_makes_up_for_nothing_in_another() {
    // Two megawatts too few in the first hour, two too many in the second.
    let series = metered(29, |day, hour| match (day, hour) {
        (8, 17) => Some(22 * MW),
        (8, 18) => Some(18 * MW),
        _ => Some(25 * MW),
    });
    let settlement = settle(&firm(), &series, &[event(8, 17, 2)]);
    let delivered = settlement.events[0].delivered.as_ref().expect("it can be settled");
    assert_eq!(delivered.sum(|part| part.short()).as_mwh(), 2.0);
    assert_eq!(delivered.payment.as_units(), 600.0, "2 MWh, and 4 of the 6");
}

#[test]
fn an_event_that_cannot_be_settled_is_worth_nothing_that_is_known() {
    let settlement = settle(&firm(), &june(20 * MW), &[event(40, 17, 2), event(8, 17, 2)]);
    let statement = Statement::of(&firm(), &settlement);
    assert_eq!(statement.unsettled, 1);
    assert_eq!(statement.events[0].name, "day 8", "in the order of time");
    let why = statement.events[1].unsettled.as_deref();
    assert_eq!(why, Some("the meter does not tell all that was drawn in the event"));
    assert!(statement.events[1].figures.is_none());
}

proptest! {
    #[test]
    fn a_settlement_adds_up_to_its_lines(
        loads in prop::collection::vec(0..40_000_000_i64, 29),
        called in prop::collection::btree_set((0..29_i64, 0..20_i64, 1..6_i64), 0..12),
        share_ppm in 1..1_000_000_u32, by_share: bool, method in 0..3_u8,
    ) {
        let baseline = match method {
            0 => Baseline::FirmServiceLevel { contracted: Watts::new(30 * MW) },
            1 => Baseline::Caiso10Of10,
            _ => Baseline::PjmCbl,
        };
        let mut programme = Programme { events: 6, ..programme(baseline) };
        if by_share {
            programme.depth = Depth::Share(Ppm::new(share_ppm));
        }
        let events: Vec<_> = called.iter().map(|(day, hour, hours)| event(*day, *hour, *hours)).collect();
        let series = metered(29, |day, _| Some(loads[day as usize]));
        let settlement = settle(&programme, &series, &events);
        let mut net = Money::zero(Currency::USD);
        settlement.months.iter().for_each(|month| net.add(month.payment));
        for settled in &settlement.events {
            if let Ok(delivered) = &settled.delivered {
                let (asked, short) = (delivered.sum(|part| part.asked), delivered.sum(|part| part.short()));
                let paid = delivered.sum(|part| part.delivered().min(part.asked));
                prop_assert_eq!(asked, paid + short);
                prop_assert_eq!(delivered.payment, programme.pay.energy.of(paid));
                net.add(delivered.payment);
                net.add(-delivered.penalty);
                net.add(-delivered.forfeited);
                let whole: i64 = delivered.parts.iter().map(|part| (part.span.until - part.span.from).as_millis()).sum();
                prop_assert_eq!(whole, (settled.event.span.until - settled.event.span.from).as_millis());
                if !settled.departures.is_empty() {
                    prop_assert_eq!(delivered.penalty, Money::zero(Currency::USD));
                }
            }
        }
        prop_assert_eq!(net, settlement.net());
        prop_assert!(settlement.forfeited().as_units() <= settlement.capacity().as_units());
        prop_assert!(instant(29, 0) == series.end());
    }
}
