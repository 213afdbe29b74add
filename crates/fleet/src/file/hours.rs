//! Hours of the day in which a cap allows less.

use offtake_units::Watts;
use toml::Spanned;

use crate::file::fault::{Checked, at};
use crate::file::limits::power;
use crate::file::programmes::{months, zone};
use crate::file::syntax;
use crate::file::values::Values;
use crate::{Hours, Schedule};

/// Caps with hours beyond this are a pattern gone wild: each time of each is watched in every decision.
pub(super) const MOST_CAPS: usize = 64;
const DAYS: [&str; 7] = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"];

/// When a cap of so many watts allows less.
pub(super) fn schedule(watts: Watts, entry: &syntax::Cap, values: &Values) -> Checked<Option<Schedule>> {
    let (zoned, written) = match (&entry.time_zone, &entry.hours) {
        (None, None) => return Ok(None),
        (Some(zoned), Some(written)) => (zoned, written),
        (Some(zoned), None) => return Err(at(zoned, "is of no use without `hours`")),
        (None, Some(written)) => {
            return Err(at(written, "whose hours? Write `time_zone` beside them, such as \"America/Chicago\""));
        }
    };
    if written.get_ref().is_empty() {
        return Err(at(written, "is empty: leave the key out for a cap that allows the same at all hours"));
    }
    let hours = written.get_ref().iter().map(|entry| hours(watts, entry, values)).collect::<Checked<_>>()?;
    Ok(Some(Schedule { zone: zone(zoned)?, hours }))
}

fn hours(most: Watts, entry: &syntax::Hours, values: &Values) -> Checked<Hours> {
    let (from, until) = (minute(&entry.from, 1439)?, minute(&entry.until, 1440)?);
    if from == until {
        return Err(at(&entry.until, "is when it begins: write 00:00 and 24:00 for a whole day"));
    }
    let Some((watts, span)) = power([&entry.watts, &entry.kilowatts, &entry.megawatts], values, "a limit")? else {
        return Err(at(&entry.from, "has no limit: write `watts`, `kilowatts` or `megawatts` beside it"));
    };
    if watts >= most {
        let message = format!("{watts} is no less than the cap's {most}: hours are times in which it allows less");
        return Err(crate::file::fault::Fault::Here(span, message));
    }
    Ok(Hours { from, until, days: days(entry)?, months: months(entry.months.as_ref(), values)?, watts })
}

/// A time of the day, as `16:30`.
fn minute(written: &Spanned<String>, most: u16) -> Checked<u16> {
    let number = |text: &str| (text.len() == 2).then(|| text.parse::<u16>().ok()).flatten();
    let parts = written.get_ref().split_once(':').and_then(|(hour, minute)| Some((number(hour)?, number(minute)?)));
    let minute = parts.filter(|(_, minute)| *minute < 60).map(|(hour, minute)| 60 * hour + minute);
    let wrong = || {
        let text = written.get_ref();
        at(written, format!("`{text}` is no time of the day: write 00:00 to {:02}:{:02}", most / 60, most % 60))
    };
    minute.filter(|minute| *minute <= most).ok_or_else(wrong)
}

fn days(entry: &syntax::Hours) -> Checked<Vec<u8>> {
    let Some(written) = &entry.days else { return Ok((0..7).collect()) };
    let mut days: Vec<u8> = Vec::new();
    for day in written.get_ref() {
        let name = day.get_ref();
        let place = DAYS.iter().position(|known| known == name);
        let place = place.ok_or_else(|| at(day, format!("`{name}` is no day: write one of {}", DAYS.join(", "))))?;
        if days.contains(&(place as u8)) {
            return Err(at(day, format!("a second {name}: write each day once")));
        }
        days.push(place as u8);
    }
    if days.is_empty() {
        return Err(at(written, "is empty: leave the key out for all days"));
    }
    days.sort_unstable();
    Ok(days)
}
