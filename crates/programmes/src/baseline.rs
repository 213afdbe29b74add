//! What would have been drawn without an event.
//!
//! The rules of markets change by version and registration; those written here are what is computed, with the section
//! that each is taken from. An operator whose contract differs sees it in the days and the adjustment that are told.

use std::collections::BTreeSet;
use std::fmt;

use jiff::civil::Date;
use offtake_units::{Duration, Energy, Ppm, Timestamp, Watts};

use crate::programme::{Baseline, Programme};
use crate::series::Series;
use crate::settle::Span;
use crate::zone::DayKind;

/// How far back days are looked for (CAISO tariff 4.13.4, PJM Manual 11: 45 days).
const LOOK_BACK_DAYS: i32 = 45;
/// The hours before an event to which a baseline is adjusted: those that begin four, three and two hours before that in
/// which it begins. The last hour before it is left out, as a site may prepare in it.
const ADJUSTED_FROM: Duration = Duration::from_secs(4 * 3600);
const ADJUSTED_UNTIL: Duration = Duration::from_secs(3600);
/// A same-day adjustment of CAISO is between four fifths and six fifths.
const LEAST_RATIO: Ppm = Ppm::new(800_000);
const MOST_RATIO: Ppm = Ppm::new(1_200_000);
/// A day on which less than this share of the mean of all days of its window, itself among them, is drawn is none of PJM's.
const LOW_USE: (i64, i64) = (1, 4);

/// What a baseline rests on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Basis {
    /// The contract.
    Contract,
    /// Days before the event.
    Days {
        /// Which, the last first.
        days: Vec<Date>,
        /// How it was adjusted to the day of the event.
        adjustment: Adjustment,
    },
}

/// How a baseline is adjusted to the day of the event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Adjustment {
    /// Times this.
    Times(Ppm),
    /// Plus this, which may be below zero.
    Plus(Watts),
}

/// Why there is no baseline, or no settlement.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Lack {
    /// The meter does not tell what was drawn in the event.
    Metered,
    /// The meter does not tell what was drawn in the hours before it.
    Before,
    /// Too few days without events are known.
    Days {
        /// Of which kind.
        kind: &'static str,
        /// How many were found.
        found: usize,
        /// How many it takes.
        least: usize,
    },
}

impl fmt::Display for Lack {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Metered => f.write_str("the meter does not tell all that was drawn in the event"),
            Self::Before => {
                f.write_str("the meter does not tell what was drawn in the fourth to second hour before it")
            }
            Self::Days { kind, found, least } => {
                write!(f, "the baseline takes {least} {kind} without events, and the meter has {found} in 45 days")
            }
        }
    }
}

/// The baseline of an hour.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Hour {
    pub from: Timestamp,
    pub until: Timestamp,
    pub energy: Energy,
}

impl Hour {
    /// Of a part of the hour, by time.
    pub fn part(&self, span: Duration) -> Energy {
        self.energy.part(span.as_millis(), (self.until - self.from).as_millis())
    }
}

/// The hours that an event touches, at the programme's place.
pub(crate) fn hours(programme: &Programme, event: Span) -> Vec<Span> {
    let mut hours = Vec::new();
    let mut from = programme.zone.hour(event.from);
    while from < event.until {
        let until = from + Duration::HOUR;
        hours.push(Span { from, until });
        from = until;
    }
    hours
}

/// The baseline of each hour that an event touches, and what it rests on. No day is used on which any of `event_days` lies.
pub(crate) fn find(
    programme: &Programme,
    series: &Series,
    event_days: &BTreeSet<Date>,
    event: Span,
) -> Result<(Vec<Hour>, Basis), Lack> {
    let hours = hours(programme, event);
    let history = History { programme, series, event_days, event, hours: &hours };
    match programme.baseline {
        Baseline::FirmServiceLevel { contracted } => {
            let hour =
                |span: &Span| Hour { from: span.from, until: span.until, energy: contracted.over(span.length()) };
            Ok((hours.iter().map(hour).collect(), Basis::Contract))
        }
        Baseline::Caiso10Of10 => caiso(&history),
        Baseline::PjmCbl => pjm(&history),
    }
}

/// CAISO's 10-in-10 (tariff section 4.13.4, "Customer Load Baseline Methodology"): the hourly mean of the ten last business
/// days without an event, or of the four last other days; at least five, or four, of the 45 days before the event. It is
/// multiplied by what was metered in the fourth to second hour before the event over the same hours of those days, from
/// 0.8 to 1.2.
///
/// Where there are too few days the tariff also takes days with events; that is not done here.
fn caiso(history: &History<'_>) -> Result<(Vec<Hour>, Basis), Lack> {
    let is_business = |kind: DayKind| kind == DayKind::Business;
    let like = is_business(DayKind::of(history.day()));
    let (target, least, kind) = if like { (10, 5, "business days") } else { (4, 4, "days of weekends and holidays") };
    let days: Vec<i32> = history.days(|kind| is_business(kind) == like).take(target).collect();
    if days.len() < least {
        return Err(Lack::Days { kind, found: days.len(), least });
    }
    let before = history.before();
    let metered = history.series.between(before.from, before.until).ok_or(Lack::Before)?;
    let ratio = ratio(metered, history.mean(&days, before));
    let adjusted = |span: &Span| Hour {
        from: span.from,
        until: span.until,
        energy: history.mean(&days, *span).part(ratio.parts().into(), Ppm::ONE.parts().into()),
    };
    let hours = history.hours.iter().map(adjusted).collect();
    Ok((hours, Basis::Days { days: history.dates(&days), adjustment: Adjustment::Times(ratio) }))
}

/// One energy over another, within the limits of a same-day adjustment.
fn ratio(metered: Energy, mean: Energy) -> Ppm {
    if mean <= Energy::ZERO {
        return Ppm::ONE;
    }
    let parts = metered.watt_millis() * 1_000_000 / mean.watt_millis();
    let parts = parts.clamp(LEAST_RATIO.parts().into(), MOST_RATIO.parts().into());
    Ppm::new(u32::try_from(parts).unwrap_or(MOST_RATIO.parts()))
}

/// PJM's standard customer baseline load for economic load response, "3 day types with symmetric additive adjustment"
/// (Operating Agreement, Schedule 1, section 3.3A.2; Manual 11, section 10): of the five last weekdays without an event
/// the four on which most was drawn in the hours of the event, of the three last Saturdays two, of the three last Sundays
/// and holidays two; all in the 45 days before. A day on which less was drawn in those hours than a quarter of the mean of
/// all five (or three), itself among them, gives its place to the one before. What was metered above the mean in the fourth
/// to second hour before the event is added, or taken off.
///
/// Where there are too few days PJM also takes days with events; that is not done here.
fn pjm(history: &History<'_>) -> Result<(Vec<Hour>, Basis), Lack> {
    let like = DayKind::of(history.day());
    let (window, kind) = match like {
        DayKind::Business => (5, "weekdays"),
        DayKind::Saturday => (3, "Saturdays"),
        DayKind::Sunday => (3, "Sundays and holidays"),
    };
    let mut candidates = history.days(|kind| kind == like);
    let mut days: Vec<(Energy, i32)> = Vec::new();
    loop {
        let Some(day) = candidates.next() else {
            return Err(Lack::Days { kind, found: days.len(), least: window });
        };
        days.push((history.used_on(day), day));
        if days.len() == window {
            let all: Energy = days.iter().map(|(used, _)| *used).sum();
            let low = all.part(LOW_USE.0, LOW_USE.1 * window as i64);
            days.retain(|(used, _)| *used >= low);
        }
        if days.len() == window {
            break;
        }
    }
    // Of two days alike the later stays.
    days.sort_by_key(|(used, day)| (std::cmp::Reverse(*used), *day));
    days.pop();
    let mut days: Vec<i32> = days.into_iter().map(|(_, day)| day).collect();
    days.sort_unstable();
    let before = history.before();
    let metered = history.series.between(before.from, before.until).ok_or(Lack::Before)?;
    let above = (metered - history.mean(&days, before)).watt_millis() / i128::from(before.length().as_millis());
    let above = Watts::new(i64::try_from(above).unwrap_or_default());
    let adjusted = |span: &Span| Hour {
        from: span.from,
        until: span.until,
        energy: (history.mean(&days, *span) + above.over(span.length())).max(Energy::ZERO),
    };
    let hours = history.hours.iter().map(adjusted).collect();
    Ok((hours, Basis::Days { days: history.dates(&days), adjustment: Adjustment::Plus(above) }))
}

/// What is known of the days before an event. A day is a number: how many days before that of the event it is.
struct History<'a> {
    programme: &'a Programme,
    series: &'a Series,
    event_days: &'a BTreeSet<Date>,
    event: Span,
    hours: &'a [Span],
}

impl History<'_> {
    fn day(&self) -> Date {
        self.programme.zone.day(self.event.from)
    }

    fn dates(&self, days: &[i32]) -> Vec<Date> {
        days.iter().map(|day| self.programme.zone.day(self.on(*day, self.event).from)).collect()
    }

    /// The hours before the event to which a baseline is adjusted.
    fn before(&self) -> Span {
        let hour = self.programme.zone.hour(self.event.from);
        Span { from: hour - ADJUSTED_FROM, until: hour - ADJUSTED_UNTIL }
    }

    /// The same time of day, so many days before.
    fn on(&self, day: i32, span: Span) -> Span {
        let from = self.programme.zone.days_before(span.from, day);
        Span { from, until: from + span.length() }
    }

    /// Days of a kind without events and without gaps in what is needed of them, the last first.
    fn days(&self, is_like: impl Fn(DayKind) -> bool) -> impl Iterator<Item = i32> {
        let zone = &self.programme.zone;
        (1..=LOOK_BACK_DAYS).filter(move |day| {
            let (before, event) = (self.on(*day, self.before()), self.on(*day, self.event));
            let needed = self.hours.iter().copied().chain([self.before()]).map(|span| self.on(*day, span));
            is_like(DayKind::of(zone.day(event.from)))
                && !has_any(self.event_days, zone.day(before.from), zone.day(event.until - Duration::from_millis(1)))
                && needed.into_iter().all(|span| self.series.between(span.from, span.until).is_some())
        })
    }

    /// The mean energy of the same time of some days, which are days of [`History::days`].
    fn mean(&self, days: &[i32], span: Span) -> Energy {
        let on = |day: &i32| {
            let span = self.on(*day, span);
            self.series.between(span.from, span.until).unwrap_or_default()
        };
        days.iter().map(on).sum::<Energy>().part(1, days.len().max(1) as i64)
    }

    /// The energy of a day in the hours of the event.
    fn used_on(&self, day: i32) -> Energy {
        self.hours.iter().map(|span| self.mean(&[day], *span)).sum()
    }
}

fn has_any(days: &BTreeSet<Date>, first: Date, last: Date) -> bool {
    days.range(first..=last.max(first)).next().is_some()
}
