//! Grid programmes in a simulated course of events.

use std::sync::Arc;

use offtake_fleet::{CapTarget, DomainIx, Fleet, Meter, SiteIx};
use offtake_programmes::{Adjustment, Asked, Baseline, Basis, Departure, Depth, Pay, Programme, Zone};
use offtake_sim::{Cut, GridEvent, Outcome, Setup, UtilityLoss, settlements, with_cap, write_events, write_meter};
use offtake_units::{Currency, Duration, Energy, Ppm, PricePerKwMonth, PricePerMwh, Timestamp, Watts};

use crate::failures::{hours, job, setup_on, under};

/// What ten of sixteen nodes at work draw.
const LOAD: i64 = 16 * 900 + 10 * 4 * 400;

fn at(day: i64, hour: i64) -> Timestamp {
    Timestamp::from_secs(day * 86_400 + hour * 3600)
}

/// Ten jobs of a node each for three weeks, under a programme that calls some events; three of them a season are agreed.
fn called(baseline: Baseline, events: &[(i64, Cut)]) -> Setup {
    let jobs = (0..10).map(|_| job(1, 0, hours(24 * 60), Some((Duration::from_secs(1800), 0)))).collect();
    let plain = setup_on(4, jobs, Some(hours(24 * 21)), None);
    let (fleet, cap) = with_cap(&plain.fleet, DomainIx(0), "grid");
    let mut fleet = (*fleet).clone();
    let currency = Currency::USD;
    let per_mwh = |micros| PricePerMwh { micros, currency };
    fleet.programmes.push(Programme {
        name: "test".to_owned(),
        cap: "grid".to_owned(),
        zone: Zone::named("UTC").expect("it is a zone"),
        notice: Duration::from_secs(1800),
        longest: hours(4),
        depth: Depth::Watts(Watts::new(8_000)),
        events: 3,
        months: vec![1],
        baseline,
        pay: Pay {
            capacity: PricePerKwMonth { micros: 31_000_000, currency },
            energy: per_mwh(1_000_000_000),
            penalty: per_mwh(2_000_000_000),
            forfeit: Ppm::ONE,
        },
        source: "a test".to_owned(),
    });
    let event = |(day, cut): &(i64, Cut)| GridEvent {
        name: format!("day {day}"),
        cap,
        announced: at(*day, 17) - Duration::from_secs(1800),
        at: at(*day, 17),
        until: at(*day, 20),
        cut: *cut,
        programme: Some(0),
    };
    Setup { fleet: Arc::new(fleet), grid_events: events.iter().map(event).collect(), ..plain }
}

fn settled(setup: &Setup, outcome: &Outcome) -> offtake_programmes::Settlement {
    let mut all = settlements(setup, outcome);
    assert_eq!(all.len(), 1, "there is one programme");
    all.remove(0).2
}

#[test]
fn what_the_meter_counts_is_what_the_ledger_counts() {
    let setup = called(Baseline::PjmCbl, &[(4, Cut::Less(Watts::new(8_000)))]);
    let outcome = under(&setup, "offtake");
    let CapTarget::Domain(domain) = setup.fleet.caps[setup.fleet.caps.len() - 1].target else { unreachable!("a site") };
    assert_eq!((domain, setup.fleet.caps[setup.fleet.caps.len() - 1].meter), (DomainIx(0), Meter::It));
    let counted: Energy = outcome.metered[0].intervals().filter_map(|(_, energy)| energy).sum();
    let ledger = outcome.state.ledger().sites.iter().map(|site| site.it).sum();
    assert_eq!(counted, ledger);
    assert_eq!(outcome.metered[0].intervals().count(), 21 * 24 * 12);
}

#[test]
fn a_site_on_generators_draws_nothing_through_its_meter() {
    let plain = called(Baseline::PjmCbl, &[]);
    let mut fleet = Fleet::clone(&plain.fleet);
    let loss = UtilityLoss::of(&mut fleet, SiteIx(0), at(4, 12)..at(4, 15));
    let setup = Setup { fleet: Arc::new(fleet), utility_losses: vec![loss], ..plain };
    let outcome = under(&setup, "offtake");
    let counted: Energy = outcome.metered[0].intervals().filter_map(|(_, energy)| energy).sum();
    let ledger: Energy = outcome.state.ledger().sites.iter().map(|site| site.facility).sum();
    assert_eq!(counted + outcome.utility[0].not_bought.facility, ledger);
    let mut in_loss = outcome.metered[0].intervals().filter(|(from, _)| (at(4, 12)..at(4, 15)).contains(from));
    assert!(in_loss.all(|(_, energy)| energy == Some(Energy::ZERO)));
    assert!(counted < ledger);
}

#[test]
fn a_baseline_of_days_finds_what_would_have_been_drawn() {
    for (method, adjustment) in
        [(Baseline::Caiso10Of10, Adjustment::Times(Ppm::ONE)), (Baseline::PjmCbl, Adjustment::Plus(Watts::ZERO))]
    {
        let setup = called(method, &[(3, Cut::Less(Watts::new(8_000))), (20, Cut::Less(Watts::new(8_000)))]);
        let outcome = under(&setup, "offtake");
        let settlement = settled(&setup, &outcome);
        assert!(settlement.events[0].delivered.is_err(), "three days are no history");
        let delivered = settlement.events[1].delivered.as_ref().expect("twenty are");
        let Basis::Days { days, adjustment: found } = &delivered.basis else { unreachable!("{delivered:?}") };
        assert_eq!(*found, adjustment);
        assert!(days.iter().all(|day| day.to_string() != "1970-01-04"), "no day of an event: {days:?}");
        let of = |watts: i64| Watts::new(watts).over(hours(3));
        assert_eq!(delivered.sum(|part| part.baseline), of(LOAD));
        // Five of the ten jobs give way: 8 kW.
        assert_eq!(delivered.sum(|part| part.delivered()), of(8_000));
        assert_eq!((delivered.payment.as_units(), delivered.penalty.as_units()), (24.0, 0.0));
        // Three weeks of January, at $31 for each of 8 kW.
        assert_eq!(settlement.capacity().as_units(), 168.0);
    }
}

#[test]
fn a_firm_service_level_is_held_against_the_contract() {
    let contracted = Watts::new(LOAD - 2_000);
    let setup = called(Baseline::FirmServiceLevel { contracted }, &[(5, Cut::To(contracted - Watts::new(8_000)))]);
    let outcome = under(&setup, "offtake");
    let [came] = settled(&setup, &outcome).events.try_into().expect("one event");
    assert_eq!((came.event.asked, came.departures.as_slice()), (Asked::Depth, &[][..]));
    let delivered = came.delivered.expect("it needs no history");
    assert_eq!(delivered.sum(|part| part.short()), Energy::ZERO);
    assert!(delivered.sum(|part| part.metered) <= (contracted - Watts::new(8_000)).over(hours(3)));
}

#[test]
fn events_outside_the_terms_are_obeyed_and_cost_nothing() {
    let contracted = Watts::new(LOAD);
    // All that is at work; a fourth of a season of three.
    let events =
        [2, 3, 4, 5].map(|day| (day, if day == 2 { Cut::Less(Watts::new(16_000)) } else { Cut::To(Watts::ZERO) }));
    let setup = called(Baseline::FirmServiceLevel { contracted }, &events);
    let outcome = under(&setup, "offtake");
    assert!(outcome.grid[0].drawn <= Watts::new(LOAD - 16_000), "it is obeyed");
    let settlement = settled(&setup, &outcome);
    assert_eq!(settlement.events[0].departures, [Departure::Depth]);
    assert_eq!(settlement.events[3].departures, [Departure::Number(4), Departure::Depth]);
    assert_eq!((settlement.penalties().as_units(), settlement.forfeited().as_units()), (0.0, 0.0));
}

#[test]
fn the_tables_of_a_run_are_those_that_can_be_settled_again() {
    let setup = called(Baseline::PjmCbl, &[(20, Cut::By(Ppm::new(250_000)))]);
    let outcome = under(&setup, "offtake");
    let (mut meter, mut events) = (Vec::new(), Vec::new());
    let all = settlements(&setup, &outcome);
    write_meter(all[0].1, &mut meter).expect("memory takes it");
    write_events(&all[0].2, &mut events).expect("memory takes it");
    let meter = String::from_utf8(meter).expect("it is text");
    assert!(meter.starts_with("utc,kwh\n1970-01-01T00:00:00Z,2.533333\n"), "{}", &meter[..80]);
    let events = String::from_utf8(events).expect("it is text");
    let line = "day 20,1970-01-21T16:30:00Z,1970-01-21T17:00:00Z,1970-01-21T20:00:00Z,,0.250000\n";
    assert_eq!(events, format!("name,announced,at,until,megawatts,cut\n{line}"));
}
