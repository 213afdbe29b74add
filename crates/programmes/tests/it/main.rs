//! Settlements that can be worked out by hand, and what holds for all.

mod baselines;
mod settlements;

use offtake_programmes::{Asked, Baseline, Depth, Event, Pay, Programme, Series, Span, Zone};
use offtake_units::{Currency, Duration, Energy, Ppm, PricePerKwMonth, PricePerMwh, Timestamp, Watts};

/// Midnight of 2 June 2025, a Monday, in Chicago.
const START: Timestamp = Timestamp::from_secs(1_748_840_400);
const MW: i64 = 1_000_000;

fn programme(baseline: Baseline) -> Programme {
    let currency = Currency::USD;
    let per_mwh = |micros| PricePerMwh { micros, currency };
    Programme {
        name: "summer".to_owned(),
        cap: "grid".to_owned(),
        zone: Zone::named("America/Chicago").expect("it is a zone"),
        notice: Duration::from_secs(1800),
        longest: Duration::from_secs(4 * 3600),
        depth: Depth::Watts(Watts::new(4 * MW)),
        events: 3,
        months: vec![6, 7, 8, 9],
        baseline,
        pay: Pay {
            capacity: PricePerKwMonth { micros: 6_000_000, currency },
            energy: per_mwh(100_000_000),
            penalty: per_mwh(300_000_000),
            forfeit: Ppm::ONE,
        },
        source: "a test".to_owned(),
    }
}

/// An event of so many hours on a day, counted from 2 June, half an hour after it is called.
fn event(day: i64, hour: i64, hours: i64) -> Event {
    let from = instant(day, hour);
    Event {
        name: format!("day {day}"),
        announced: from - Duration::from_secs(1800),
        span: Span { from, until: from + Duration::from_secs(hours * 3600) },
        asked: Asked::Depth,
    }
}

fn instant(day: i64, hour: i64) -> Timestamp {
    START + Duration::from_secs(day * 86_400 + hour * 3600)
}

/// Quarters of an hour of so many days; `watts` by day and hour, none where the meter is silent.
fn metered(days: i64, watts: impl Fn(i64, i64) -> Option<i64>) -> Series {
    let quarter = Duration::from_secs(900);
    let energy = |place: i64| watts(place / 96, place % 96 / 4).map(|watts| Watts::new(watts).over(quarter));
    Series::new(START, quarter, (0..days * 96).map(energy).collect())
}

fn mwh(thousandths: i64) -> Energy {
    Watts::new(1000).over(Duration::HOUR).part(thousandths, 1)
}
