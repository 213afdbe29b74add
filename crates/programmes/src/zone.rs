//! Days and hours at the place of a programme.

use std::fmt;
use std::ops::Range;

use jiff::ToSpan;
use jiff::civil::{Date, DateTime, Weekday};
use jiff::tz::{TimeZone, TimeZoneDatabase};
use offtake_units::{Duration, Timestamp};
use serde::{Deserialize, Serialize};

/// A time zone by its IANA name, such as `America/Chicago`. Its rules are those that are built in: they are the same on
/// every machine.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Zone {
    name: String,
    rules: TimeZone,
}

/// A time of a day.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Daily {
    /// Its day of the week: 0 is Monday.
    pub weekday: u8,
    /// Its month, 1 to 12.
    pub month: u8,
    /// The time.
    pub time: Range<Timestamp>,
}

/// Days that a customer's load is alike on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum DayKind {
    /// Monday to Friday, without holidays.
    Business,
    /// Saturday.
    Saturday,
    /// Sunday, or a holiday.
    Sunday,
}

impl Zone {
    /// The zone of an IANA name; none where no zone has that name.
    pub fn named(name: &str) -> Option<Self> {
        let rules = TimeZoneDatabase::bundled().get(name).ok()?;
        Some(Self { name: name.to_owned(), rules })
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What clocks there show.
    pub fn local(&self, at: Timestamp) -> DateTime {
        let instant = jiff::Timestamp::from_millisecond(at.as_millis()).unwrap_or(jiff::Timestamp::MAX);
        self.rules.to_datetime(instant)
    }

    /// The day there.
    pub(crate) fn day(&self, at: Timestamp) -> Date {
        self.local(at).date()
    }

    /// When clocks there show this; the earlier of two instants, and the later where they skip it.
    fn instant(&self, local: DateTime) -> Timestamp {
        let instant = self.rules.to_ambiguous_timestamp(local).compatible().unwrap_or(jiff::Timestamp::MAX);
        Timestamp::from_millis(instant.as_millisecond())
    }

    /// From one minute of the day until another, of the same day or of the next, on each day that a span has a part of.
    pub fn daily(&self, span: Range<Timestamp>, from: u16, until: u16) -> impl Iterator<Item = Daily> {
        let first = self.day(span.start).yesterday().unwrap_or(Date::MIN);
        let last = self.day(span.end);
        first.series(1.day()).take_while(move |day| *day <= last).map(move |day| {
            let at = |minute: u16, days: i64| {
                let minute = i64::from(minute) + days * 24 * 60;
                let local = day.at(0, 0, 0, 0).checked_add(minute.minutes()).unwrap_or(DateTime::MAX);
                self.instant(local)
            };
            let ends = at(until, i64::from(until <= from));
            Daily {
                weekday: day.weekday().to_monday_zero_offset() as u8,
                month: day.month() as u8,
                time: at(from, 0)..ends,
            }
        })
    }

    /// The same time of day, so many days before.
    pub(crate) fn days_before(&self, at: Timestamp, days: i32) -> Timestamp {
        let local = self.local(at);
        self.instant(local.checked_sub(days.days()).unwrap_or(DateTime::MIN))
    }

    /// When the hour there began.
    pub(crate) fn hour(&self, at: Timestamp) -> Timestamp {
        let time = self.local(at).time();
        let into = 60_000 * i64::from(time.minute()) + 1000 * i64::from(time.second()) + i64::from(time.millisecond());
        at - Duration::from_millis(into)
    }

    /// When the month there begins and ends.
    pub(crate) fn month(&self, at: Timestamp) -> (Timestamp, Timestamp) {
        let first = self.day(at).first_of_month();
        let next = first.last_of_month().tomorrow().unwrap_or(Date::MAX);
        (self.instant(first.at(0, 0, 0, 0)), self.instant(next.at(0, 0, 0, 0)))
    }
}

impl DayKind {
    /// The kind of a day. Holidays are the six of NERC (*Additional Off-peak Days*), by which both CAISO and PJM go: New
    /// Year's Day, Memorial Day, Independence Day, Labor Day, Thanksgiving and Christmas, on the Monday after where they
    /// fall on a Sunday.
    pub(crate) fn of(day: Date) -> Self {
        match day.weekday() {
            Weekday::Sunday => Self::Sunday,
            _ if is_holiday(day) => Self::Sunday,
            Weekday::Saturday => Self::Saturday,
            _ => Self::Business,
        }
    }
}

fn is_holiday(day: Date) -> bool {
    let fixed = |day: Date| matches!((day.month(), day.day()), (1, 1) | (7, 4) | (12, 25));
    let week = (day.day() + 6) / 7;
    let is_last = day.day() > day.days_in_month() - 7;
    let by_weekday = match (day.month(), day.weekday()) {
        (5, Weekday::Monday) => is_last,
        (9, Weekday::Monday) => week == 1,
        (11, Weekday::Thursday) => week == 4,
        _ => false,
    };
    let of_sunday = day.weekday() == Weekday::Monday && day.yesterday().is_ok_and(fixed);
    by_weekday || of_sunday || fixed(day)
}

impl fmt::Debug for Zone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)
    }
}

impl TryFrom<String> for Zone {
    type Error = String;
    fn try_from(name: String) -> Result<Self, String> {
        Self::named(&name)
            .ok_or_else(|| format!("`{name}` is no time zone: write its IANA name, such as `America/Chicago`"))
    }
}

impl From<Zone> for String {
    fn from(zone: Zone) -> Self {
        zone.name
    }
}

#[cfg(test)]
mod tests {
    use jiff::civil::date;

    use super::*;

    #[test]
    fn holidays_are_no_business_days() {
        for (year, month, day, kind) in [
            (2025, 7, 4, DayKind::Sunday),
            (2025, 9, 1, DayKind::Sunday),
            (2025, 5, 26, DayKind::Sunday),
            (2025, 5, 19, DayKind::Business),
            (2025, 11, 27, DayKind::Sunday),
            (2025, 11, 28, DayKind::Business),
            // Christmas of 2022 was a Sunday.
            (2022, 12, 26, DayKind::Sunday),
            // Independence Day of 2026 is a Saturday: it stays one.
            (2026, 7, 3, DayKind::Business),
            (2026, 7, 4, DayKind::Sunday),
            (2025, 7, 5, DayKind::Saturday),
        ] {
            assert_eq!(DayKind::of(date(year, month, day)), kind, "{year}-{month}-{day}");
        }
    }

    #[test]
    fn times_of_the_day_follow_the_clock() {
        let zone = Zone::named("America/Chicago").expect("it is a zone");
        // Noon of 8 March 2025 to noon of the tenth: clocks go forward in the night to the ninth.
        let noon = |day: i8| zone.instant(date(2025, 3, day).at(12, 0, 0, 0));
        let days: Vec<Daily> = zone.daily(noon(8)..noon(10), 22 * 60, 6 * 60).collect();
        assert_eq!(days.iter().map(|day| day.weekday).collect::<Vec<_>>(), [4, 5, 6, 0]);
        let hours: Vec<i64> = days.iter().map(|day| (day.time.end - day.time.start).as_millis() / 3_600_000).collect();
        assert_eq!(hours, [8, 7, 8, 8]);
        assert_eq!(zone.local(days[1].time.end), date(2025, 3, 9).at(6, 0, 0, 0));
        let whole = zone.daily(noon(8)..noon(8), 0, 24 * 60).nth(1).expect("it is that day");
        assert_eq!(whole.time.end - whole.time.start, Duration::DAY);
    }

    #[test]
    fn a_day_before_is_the_same_time_of_day() {
        let zone = Zone::named("America/Chicago").expect("it is a zone");
        // Five in the afternoon of 10 March 2025, the day after clocks went forward: two days before it was an hour more.
        let at = Timestamp::from_secs(1_741_644_000);
        assert_eq!(zone.local(at).hour(), 17);
        assert_eq!(at - zone.days_before(at, 1), Duration::DAY);
        assert_eq!(at - zone.days_before(at, 2), Duration::from_secs(2 * 86_400 - 3600));
        assert_eq!(zone.hour(at + Duration::MINUTE), at);
        let (first, next) = zone.month(at);
        assert_eq!(next - first, Duration::from_secs(31 * 86_400 - 3600));
        assert!(Zone::named("Memphis").is_none());
    }
}
