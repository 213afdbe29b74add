//! Spans and instants as Slurm writes them.

use jiff::civil::{Date, DateTime, Time};
use jiff::tz::Offset;
use offtake_units::{Duration, Timestamp};

use crate::human::{LAST_TIMESTAMP, LONGEST_DURATION};

pub(super) const LIMIT_ALLOWED: &str = "minutes, minutes:seconds, hours:minutes:seconds, days-hours, days-hours:minutes or days-hours:minutes:seconds, up to 100 years; 0 or UNLIMITED for no limit";
pub(super) const MOMENT_ALLOWED: &str = "an instant such as 2026-01-20T12:34:00, 01/20 or 16:00, or now+1hour, today, tomorrow, midnight, noon, fika or teatime";

/// Reads a time limit; nothing inside for no limit.
pub(super) fn limit(text: &str) -> Option<Option<Duration>> {
    if text == "-1" || ["infinite", "unlimited"].iter().any(|word| text.eq_ignore_ascii_case(word)) {
        return Some(None);
    }
    let (days, rest) = text.split_once('-').map_or((None, text), |(days, rest)| (Some(days), rest));
    let parts: Vec<i64> = rest.split(':').map(number).collect::<Option<_>>()?;
    let seconds = match (days, parts.as_slice()) {
        (None, [minutes]) => minutes * 60,
        (None, [minutes, seconds]) => minutes * 60 + seconds,
        (None, [hours, minutes, seconds]) => hours * 3600 + minutes * 60 + seconds,
        (Some(days), [hours, rest @ ..]) if rest.len() <= 2 => {
            let minutes = rest.first().unwrap_or(&0);
            let seconds = rest.get(1).unwrap_or(&0);
            number(days)? * 86_400 + hours * 3600 + minutes * 60 + seconds
        }
        _ => return None,
    };
    match Duration::from_secs(seconds) {
        Duration::ZERO => Some(None),
        span if span <= LONGEST_DURATION => Some(Some(span)),
        _ => None,
    }
}

/// A number of up to nine digits, which may be multiplied by a day without leaving its integer.
fn number(text: &str) -> Option<i64> {
    let is_number = (1..=9).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit());
    if is_number { text.parse().ok() } else { None }
}

/// Reads an instant; what it leaves open is taken from `now` and the local time, which is `offset` ahead of UTC.
pub(super) fn moment(text: &str, now: Timestamp, offset: Duration) -> Option<Timestamp> {
    let text = text.trim().to_ascii_lowercase();
    let at = if let Some(rest) = text.strip_prefix("now") {
        now.saturating_add(later(rest.trim())?)
    } else if let Some(seconds) = text.strip_prefix("uts") {
        Timestamp::from_secs(number_of_seconds(seconds)?)
    } else {
        let offset = Offset::from_seconds(i32::try_from(offset.as_millis() / 1000).ok()?).ok()?;
        let local = offset.to_datetime(jiff::Timestamp::from_millisecond(now.as_millis()).ok()?);
        let at = offset.to_timestamp(civil(&text, local)?).ok()?;
        Timestamp::from_millis(at.as_millisecond())
    };
    (Timestamp::EPOCH..=LAST_TIMESTAMP).contains(&at).then_some(at)
}

fn number_of_seconds(text: &str) -> Option<i64> {
    let is_number = (1..=12).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit());
    if is_number { text.parse().ok() } else { None }
}

/// What stands behind `now`: nothing, or `+60`, `+1hour`, `+ 2 days`.
fn later(text: &str) -> Option<Duration> {
    const UNITS: [(&str, i64); 5] =
        [("seconds", 1), ("minutes", 60), ("hours", 3600), ("days", 86_400), ("weeks", 604_800)];
    if text.is_empty() {
        return Some(Duration::ZERO);
    }
    let text = text.strip_prefix('+')?.trim_start();
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let unit = text[digits..].trim_start();
    let (_, seconds) = UNITS.iter().find(|(name, _)| name.starts_with(unit))?;
    Some(Duration::from_secs(number(&text[..digits])? * seconds))
}

/// A date, a time of day, or both.
fn civil(text: &str, local: DateTime) -> Option<DateTime> {
    let mut date: Option<(Date, bool)> = None;
    let mut time: Option<Time> = None;
    let mut rest = text.replace(" am", "am").replace(" pm", "pm");
    if rest.len() >= 10 && rest.is_char_boundary(10) && rest.as_bytes()[4] == b'-' && rest.as_bytes()[7] == b'-' {
        let tail = rest.split_off(10);
        let [year, month, day] = fields(&rest, '-')?;
        date = Some((Date::new(i16::try_from(year).ok()?, month as i8, day as i8).ok()?, true));
        rest = tail.strip_prefix('t').unwrap_or(&tail).to_owned();
    }
    for word in rest.split(|letter: char| letter.is_whitespace() || letter == '-').filter(|word| !word.is_empty()) {
        if let Some(found) = time_of_day(word) {
            if time.replace(found).is_some() {
                return None;
            }
        } else if date.replace(day(word, local.date())?).is_some() {
            return None;
        }
    }
    match (date, time) {
        (None, None) => None,
        (None, Some(time)) => {
            let today = local.date().to_datetime(time);
            if today > local { Some(today) } else { Some(local.date().tomorrow().ok()?.to_datetime(time)) }
        }
        (Some((date, has_year)), time) => {
            let at = date.to_datetime(time.unwrap_or(Time::midnight()));
            if has_year || at >= local {
                return Some(at);
            }
            Some(Date::new(date.year() + 1, date.month(), date.day()).ok()?.to_datetime(at.time()))
        }
    }
}

/// A day, and whether its year is certain.
fn day(word: &str, today: Date) -> Option<(Date, bool)> {
    match word {
        "today" => return Some((today, true)),
        "tomorrow" => return Some((today.tomorrow().ok()?, true)),
        _ => {}
    }
    let parts: Vec<&str> = if word.contains('/') {
        word.split('/').collect()
    } else if word.contains('.') {
        word.split('.').collect()
    } else if word.is_ascii() && [4, 6].contains(&word.len()) {
        [0, 2, 4].iter().filter_map(|at| word.get(*at..at + 2)).collect()
    } else {
        return None;
    };
    let (month, day, year) = match parts.as_slice() {
        [month, day] => (month, day, None),
        [month, day, year] => (month, day, Some(number(year)?)),
        _ => return None,
    };
    let year_in_full = match year {
        None => i64::from(today.year()),
        Some(year @ 0..=99) => 2000 + year,
        Some(year) => year,
    };
    let small = |text: &str| number(text).and_then(|number| i8::try_from(number).ok());
    let date = Date::new(i16::try_from(year_in_full).ok()?, small(month)?, small(day)?).ok()?;
    Some((date, year.is_some()))
}

fn time_of_day(word: &str) -> Option<Time> {
    let at = |hour| Time::new(hour, 0, 0, 0).ok();
    match word {
        "midnight" => return at(0),
        "elevenses" => return at(11),
        "noon" => return at(12),
        "fika" => return at(15),
        "teatime" => return at(16),
        _ => {}
    }
    let (clock, afternoon) = match (word.strip_suffix("am"), word.strip_suffix("pm")) {
        (Some(clock), _) => (clock, Some(false)),
        (_, Some(clock)) => (clock, Some(true)),
        _ => (word, None),
    };
    let [hour, minute, second] = fields(clock, ':').or_else(|| fields(&format!("{clock}:00"), ':'))?;
    let hour = match afternoon {
        None => hour,
        Some(_) if !(1..=12).contains(&hour) => return None,
        Some(is_afternoon) => hour % 12 + if is_afternoon { 12 } else { 0 },
    };
    Time::new(i8::try_from(hour).ok()?, i8::try_from(minute).ok()?, i8::try_from(second).ok()?, 0).ok()
}

/// Three numbers between two separators.
fn fields(text: &str, separator: char) -> Option<[i64; 3]> {
    let parts: Vec<i64> = text.split(separator).map(number).collect::<Option<_>>()?;
    let three: [i64; 3] = parts.try_into().ok()?;
    three[1..].iter().all(|part| *part < 100).then_some(three)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::human;

    #[test]
    fn limits() {
        for (text, seconds) in [
            ("30", 1800),
            ("0:30", 30),
            ("90:15", 5415),
            ("01:02:03", 3723),
            ("48:00:00", 172_800),
            ("2-0", 172_800),
            ("1-12", 129_600),
            ("1-12:30", 131_400),
            ("7-00:00:01", 604_801),
        ] {
            assert_eq!(limit(text), Some(Some(Duration::from_secs(seconds))), "{text}");
        }
        for text in ["0", "00:00:00", "0-0", "-1", "UNLIMITED", "infinite"] {
            assert_eq!(limit(text), Some(None), "{text}");
        }
        for wrong in [
            "",
            ":",
            "1:",
            "a",
            "1h",
            "1-",
            "-5",
            "1:2:3:4",
            "1-1:1:1:1",
            "1.5",
            "+5",
            "36501-0",
            "9999999999",
            "1-2-3",
        ] {
            assert_eq!(limit(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn moments() {
        // A Saturday, half past two in the afternoon where the clock is two hours ahead.
        let now = human::parse_timestamp("2026-11-21T14:30:00+02:00").expect("an instant");
        let read = |text| moment(text, now, Duration::HOUR + Duration::HOUR).and_then(human::write_timestamp);
        for (text, at) in [
            ("now", "2026-11-21T12:30:00Z"),
            ("now+60", "2026-11-21T12:31:00Z"),
            ("now+1hour", "2026-11-21T13:30:00Z"),
            ("now + 2 days", "2026-11-23T12:30:00Z"),
            ("now+1week", "2026-11-28T12:30:00Z"),
            ("now+5min", "2026-11-21T12:35:00Z"),
            ("uts1000000000", "2001-09-09T01:46:40Z"),
            ("16:00", "2026-11-21T14:00:00Z"),
            ("08:00:30", "2026-11-22T06:00:30Z"),
            ("4:00PM", "2026-11-21T14:00:00Z"),
            ("12:15 am", "2026-11-21T22:15:00Z"),
            ("14:30", "2026-11-22T12:30:00Z"),
            ("midnight", "2026-11-21T22:00:00Z"),
            ("noon", "2026-11-22T10:00:00Z"),
            ("fika", "2026-11-21T13:00:00Z"),
            ("teatime", "2026-11-21T14:00:00Z"),
            ("today", "2026-11-20T22:00:00Z"),
            ("tomorrow", "2026-11-21T22:00:00Z"),
            ("tomorrow 08:00", "2026-11-22T06:00:00Z"),
            ("noon tomorrow", "2026-11-22T10:00:00Z"),
            ("2027-01-20", "2027-01-19T22:00:00Z"),
            ("2027-01-20T12:34", "2027-01-20T10:34:00Z"),
            ("2027-01-20T12:34:56", "2027-01-20T10:34:56Z"),
            ("12/24", "2026-12-23T22:00:00Z"),
            ("01/20", "2027-01-19T22:00:00Z"),
            ("01/20/28-06:00", "2028-01-20T04:00:00Z"),
            ("12.24.2026", "2026-12-23T22:00:00Z"),
            ("1224", "2026-12-23T22:00:00Z"),
            ("012028", "2028-01-19T22:00:00Z"),
        ] {
            assert_eq!(read(text).as_deref(), Some(at), "{text}");
        }
        for wrong in [
            "",
            "soon",
            "25:00",
            "12:60",
            "13:00pm",
            "0:10am",
            "now-1hour",
            "now+",
            "now+x",
            "now+1year",
            "2027-13-01",
            "2027-02-30",
            "02/30",
            "noon noon",
            "today tomorrow",
            "1/2/3/4",
            "uts",
            "é",
            "2026-11-é",
            "2027-01-20Tnever",
            "now+999999999weeks",
        ] {
            assert_eq!(read(wrong), None, "{wrong}");
        }
    }
}
