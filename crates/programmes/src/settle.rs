//! What events earned, and what a programme pays for its capacity.

use std::collections::{BTreeMap, BTreeSet};

use jiff::civil::Date;
use offtake_units::{Currency, Duration, Energy, Money, Ppm, Timestamp, Watts};

use crate::baseline::{Basis, Hour, Lack, find};
use crate::programme::{Depth, Programme};
use crate::series::Series;

/// From one instant to a later one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    /// From when.
    pub from: Timestamp,
    /// Until when.
    pub until: Timestamp,
}

impl Span {
    pub(crate) fn length(self) -> Duration {
        self.until - self.from
    }
}

/// An event that a programme called.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// Its name.
    pub name: String,
    /// When it was called.
    pub announced: Timestamp,
    /// From when to when it lasts.
    pub span: Span,
    /// What it asks for.
    pub asked: Asked,
}

/// How much less an event asks to be drawn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asked {
    /// The programme's depth.
    Depth,
    /// So much less than the baseline.
    Watts(Watts),
    /// This share of the baseline less.
    Share(Ppm),
}

/// How an event departs from the terms.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Departure {
    /// It was called later than agreed: so long before it.
    Notice(Duration),
    /// It lasted longer than agreed: so long.
    Length(Duration),
    /// It asked for more than agreed.
    Depth,
    /// It is in no month of the season.
    Season,
    /// It is one more than the season has: so many.
    Number(u32),
}

/// What came of an event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settled {
    /// The event.
    pub event: Event,
    /// How it departs from the terms. Nobody pays back for an event that does.
    pub departures: Vec<Departure>,
    /// What was delivered; or why that is not known.
    pub delivered: Result<Delivered, Lack>,
}

/// What an event was worth.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Delivered {
    /// What the baseline rests on.
    pub basis: Basis,
    /// Its parts, none longer than an interval of the meter.
    pub parts: Vec<Part>,
    /// For what was delivered, up to what was asked.
    pub payment: Money,
    /// For what was short; not below zero, and taken off what is paid.
    pub penalty: Money,
    /// What it costs of its month's capacity payment; not below zero.
    pub forfeited: Money,
}

/// A part of an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Part {
    /// From when to when.
    pub span: Span,
    /// What would have been drawn without the event.
    pub baseline: Energy,
    /// What was drawn.
    pub metered: Energy,
    /// How much less was asked for.
    pub asked: Energy,
}

impl Part {
    /// What was drawn less than the baseline; nothing where more was drawn.
    pub fn delivered(&self) -> Energy {
        (self.baseline - self.metered).max(Energy::ZERO)
    }

    /// What was asked and not delivered.
    pub fn short(&self) -> Energy {
        (self.asked - self.delivered()).max(Energy::ZERO)
    }
}

impl Delivered {
    /// One energy of all its parts.
    pub fn sum(&self, of: impl Fn(&Part) -> Energy) -> Energy {
        self.parts.iter().map(of).sum()
    }
}

/// What is paid for the capacity of a month, or of that part of it that the meter has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Month {
    /// The first day of it.
    pub first: Date,
    /// The share of it.
    pub share: Ppm,
    /// What is paid.
    pub payment: Money,
}

/// What a programme pays for the time of a meter's series.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settlement {
    /// The currency of all of it.
    pub currency: Currency,
    /// For its capacity.
    pub months: Vec<Month>,
    /// For its events, in their order.
    pub events: Vec<Settled>,
}

impl Settlement {
    fn sum(&self, amounts: impl Iterator<Item = Money>) -> Money {
        amounts.fold(Money::zero(self.currency), |mut sum, amount| {
            sum.add(amount);
            sum
        })
    }

    fn of_events(&self, of: impl Fn(&Delivered) -> Money) -> Money {
        self.sum(self.events.iter().filter_map(|event| event.delivered.as_ref().ok()).map(of))
    }

    /// For capacity.
    pub fn capacity(&self) -> Money {
        self.sum(self.months.iter().map(|month| month.payment))
    }

    /// For energy delivered.
    pub fn energy(&self) -> Money {
        self.of_events(|delivered| delivered.payment)
    }

    /// For energy that was short.
    pub fn penalties(&self) -> Money {
        self.of_events(|delivered| delivered.penalty)
    }

    /// Of the payments for capacity.
    pub fn forfeited(&self) -> Money {
        self.of_events(|delivered| delivered.forfeited)
    }

    /// All that is paid, less penalties and what is forfeited.
    pub fn net(&self) -> Money {
        self.sum([self.capacity(), self.energy(), -self.penalties(), -self.forfeited()].into_iter())
    }
}

/// Settles all events of a programme by what a meter counted, and its capacity for the time that the meter counted.
///
/// Each interval of the meter is settled for itself: too much in one makes up for nothing in another. Of an interval that
/// lies partly in an event, its part by time counts.
pub fn settle(programme: &Programme, series: &Series, events: &[Event]) -> Settlement {
    let mut events: Vec<Event> = events.to_vec();
    events.sort_by_key(|event| event.span.from);
    let event_days = days_of(programme, &events);
    let months = months(programme, series);
    let mut left: BTreeMap<Date, Money> = months.iter().map(|month| (month.first, month.payment)).collect();
    let mut called: BTreeMap<(i16, u8), u32> = BTreeMap::new();
    let settle = |event: Event| {
        let mut departures = departures(programme, &event, &mut called);
        let delivered = find(programme, series, &event_days, event.span).and_then(|(hours, basis)| {
            let parts = parts(programme, series, &event, &hours)?;
            let depth = |part: &Part| programme.depth.of(part.baseline, part.span.length());
            let is_deeper = match (event.asked, programme.depth) {
                (Asked::Depth, _) => false,
                (Asked::Share(asked), Depth::Share(depth)) => asked > depth,
                // Both in whole watts: the energy of a share is not rounded as its watts are.
                (Asked::Watts(asked), _) if programme.committed().is_some() => Some(asked) > programme.committed(),
                _ => {
                    let asked: Energy = parts.iter().map(|part| part.asked).sum();
                    asked > parts.iter().map(depth).sum()
                }
            };
            if is_deeper {
                departures.push(Departure::Depth);
            }
            Ok(worth(programme, &event, basis, parts, departures.is_empty(), &mut left))
        });
        Settled { event, departures, delivered }
    };
    let events = events.into_iter().map(settle).collect();
    Settlement { currency: programme.pay.currency(), months, events }
}

/// The days on which anything of an event lies.
fn days_of(programme: &Programme, events: &[Event]) -> BTreeSet<Date> {
    let mut days = BTreeSet::new();
    for Event { span, .. } in events {
        let last = programme.zone.day(span.until - Duration::from_millis(1));
        let first = programme.zone.day(span.from);
        days.extend(first.series(jiff::Span::new().days(1)).take_while(|day| *day <= last));
    }
    days
}

fn departures(programme: &Programme, event: &Event, called: &mut BTreeMap<(i16, u8), u32>) -> Vec<Departure> {
    let mut departures = Vec::new();
    let (notice, length) = (event.span.from - event.announced, event.span.length());
    if notice < programme.notice {
        departures.push(Departure::Notice(notice));
    }
    if length > programme.longest {
        departures.push(Departure::Length(length));
    }
    if programme.in_season(event.span.from) {
        let count = called.entry(programme.season(event.span.from)).or_default();
        *count += 1;
        if *count > programme.events {
            departures.push(Departure::Number(*count));
        }
    } else {
        departures.push(Departure::Season);
    }
    departures
}

/// An event in parts that lie in one interval of the meter and in one hour of the baseline.
fn parts(programme: &Programme, series: &Series, event: &Event, hours: &[Hour]) -> Result<Vec<Part>, Lack> {
    let mut parts = Vec::new();
    for hour in hours {
        let mut from = hour.from.max(event.span.from);
        let end = hour.until.min(event.span.until);
        while from < end {
            let span = Span { from, until: series.edge_after(from).min(end) };
            let baseline = hour.part(span.length());
            let metered = series.between(span.from, span.until).ok_or(Lack::Metered)?;
            let asked = match event.asked {
                Asked::Depth => programme.depth,
                Asked::Watts(watts) => Depth::Watts(watts),
                Asked::Share(share) => Depth::Share(share),
            };
            parts.push(Part { span, baseline, metered, asked: asked.of(baseline, span.length()) });
            from = span.until;
        }
    }
    Ok(parts)
}

fn worth(
    programme: &Programme,
    event: &Event,
    basis: Basis,
    parts: Vec<Part>,
    is_within_terms: bool,
    left: &mut BTreeMap<Date, Money>,
) -> Delivered {
    let pay = &programme.pay;
    let nothing = Money::zero(pay.currency());
    let mut delivered = Delivered { basis, parts, payment: nothing, penalty: nothing, forfeited: nothing };
    let paid = delivered.sum(|part| part.delivered().min(part.asked));
    delivered.payment = pay.energy.of(paid);
    if !is_within_terms {
        return delivered;
    }
    let (asked, short) = (delivered.sum(|part| part.asked), delivered.sum(Part::short));
    delivered.penalty = pay.penalty.of(short);
    let first = programme.zone.day(event.span.from).first_of_month();
    if let (Some(left), Some(watts)) = (left.get_mut(&first), programme.committed()) {
        let missing = i128::from(pay.forfeit.parts()) * short.watt_millis() / asked.watt_millis().max(1);
        let missing = i64::try_from(missing).unwrap_or_default();
        // No more of a month's payment is lost than there is.
        delivered.forfeited = pay.capacity.of(watts).part(missing, Ppm::ONE.parts().into()).min(*left);
        left.add(-delivered.forfeited);
    }
    delivered
}

/// What is paid for the capacity of each month of the season that the meter has, in whole or in part.
fn months(programme: &Programme, series: &Series) -> Vec<Month> {
    let mut months = Vec::new();
    let Some(watts) = programme.committed() else { return months };
    let mut at = series.start();
    while at < series.end() {
        let (from, until) = programme.zone.month(at);
        let covered = (until.min(series.end()) - at).as_millis();
        let whole = (until - from).as_millis().max(1);
        if programme.in_season(at) {
            let share = i128::from(covered) * 1_000_000 / i128::from(whole);
            months.push(Month {
                first: programme.zone.day(at).first_of_month(),
                share: Ppm::new(u32::try_from(share).unwrap_or(Ppm::ONE.parts())),
                payment: programme.pay.capacity.of(watts).part(covered, whole),
            });
        }
        at = until.max(at + Duration::HOUR);
    }
    months
}
