//! Grid events in a simulated course of events.

use offtake_fleet::DomainIx;
use offtake_sim::{Cut, GridEvent, Setup, with_cap};
use offtake_units::{Duration, Ppm, Timestamp, Watts};

use crate::failures::{hours, job, setup, under};

/// What the sixteen nodes draw idle, and one node more at work.
const IDLE: Watts = Watts::new(16 * 900);
const NODE: i64 = 4 * 400;

fn at(hour: i64) -> Timestamp {
    Timestamp::from_secs(hour * 3600)
}

/// Ten jobs of a node each that save every half hour, and grid events on their site.
fn with_events(events: &[(i64, i64, Cut)]) -> Setup {
    let saves = Some((Duration::from_secs(1800), 0));
    let jobs = (0..10).map(|_| job(1, 0, hours(10), saves)).collect();
    let plain = setup(jobs, None, None);
    let (fleet, cap) = with_cap(&plain.fleet, DomainIx(0), "grid");
    let event = |(begin, end, cut): &(i64, i64, Cut)| GridEvent {
        name: format!("from {begin}"),
        cap,
        at: at(*begin),
        until: at(*end),
        cut: *cut,
    };
    Setup { fleet, grid_events: events.iter().map(event).collect(), ..plain }
}

#[test]
fn work_gives_way_for_as_long_as_an_event_lasts() {
    let setup = with_events(&[(2, 5, Cut::By(Ppm::new(250_000)))]);
    let outcome = under(&setup, "offtake");
    let [came] = outcome.grid.as_slice() else { unreachable!("one event begins") };
    assert_eq!(came.before, IDLE + Watts::new(10 * NODE));
    // A quarter of 30.4 kW is 7.6 kW: five of the ten, which draw 8 kW more than idle nodes.
    assert_eq!((came.target, came.stopped, came.least), (Watts::new(22_800), 5, None));
    assert_eq!(came.met.map(|met| met - at(2)), Some(Duration::MINUTE), "as long as saving takes");
    assert_eq!((came.over, came.held_at), (Duration::MINUTE, IDLE + Watts::new(5 * NODE)));
    let late = outcome.jobs.iter().filter(|record| record.finished > Some(at(10))).count();
    assert_eq!(late, 5);
    let ended = |record: &offtake_sim::JobOutcome| record.finished.expect("it ended") - at(0);
    let last = outcome.jobs.iter().map(ended).max().expect("there are some");
    assert_eq!(last, hours(13), "they save what they have done, and go on from there");
}

#[test]
fn an_event_that_idle_nodes_exceed_is_declared_with_what_can_be_had() {
    let outcome = under(&with_events(&[(2, 5, Cut::To(Watts::new(10_000)))]), "offtake");
    let [came] = outcome.grid.as_slice() else { unreachable!("one event begins") };
    assert_eq!((came.least, came.met, came.stopped), (Some(IDLE), None, 10));
    assert_eq!(came.over, hours(3));
    assert!(outcome.jobs.iter().all(|record| record.finished.is_some()), "it is over some day");
}

#[test]
fn events_one_after_the_other_are_each_met() {
    let events =
        [(1, 2, Cut::To(Watts::new(25_000))), (2, 3, Cut::To(Watts::new(20_000))), (4, 6, Cut::By(Ppm::new(1)))];
    let outcome = under(&with_events(&events), "offtake");
    assert!(outcome.grid.iter().all(|came| came.met.is_some() && came.held_at <= came.target));
    assert_eq!(outcome.grid.len(), 3);
    assert_eq!(outcome.cap_breaches, 0, "nothing is added to what is over a cap");
}
