//! A meter's table and the events that were called, as they are written.

use std::path::Path;

use offtake_programmes::{Asked, Event, Series, Span};
use offtake_units::{Duration, Energy, Ppm, Timestamp, Watts};
use offtake_workload::human::{TIMESTAMP_ALLOWED, parse_timestamp, write_timestamp};
use offtake_workload::input::{Column, InputError, Lines, Row, Table, parse_decimal};

use crate::terminal::BadInput;

/// Places after the point that numbers may have.
const PLACES: u32 = 6;
/// Intervals of one table: nineteen years of five minutes.
const MOST_INTERVALS: usize = 2_000_000;
/// More events than anybody calls.
const MOST_EVENTS: usize = 10_000;
/// No programme calls for longer: what lasts longer is a slip in a date, of which every hour would be settled.
const LONGEST: Duration = Duration::from_secs(31 * 86_400);
/// A terawatt, in millionths of a megawatt.
const MOST_WATTS: i64 = 1_000_000_000_000;

/// What a meter counted. Rows rise by one interval, which is a part of an hour in whole minutes; rows that are not there and
/// empty fields are not known.
pub fn meter(path: &Path) -> anyhow::Result<Series> {
    const COLUMNS: [Column; 5] = [
        Column::required("utc"),
        Column::optional("kwh"),
        Column::optional("mwh"),
        Column::optional("kw"),
        Column::optional("mw"),
    ];
    let mut table = Table::new(Lines::open(path)?)?;
    let [utc, kwh, mwh, kw, mw] = table.positions(&COLUMNS)?;
    let mut given = [(kwh, Unit::Kwh), (mwh, Unit::Mwh), (kw, Unit::Kw), (mw, Unit::Mw)]
        .into_iter()
        .filter(|(column, _)| column.is_some());
    let (Some((column, unit)), None) = (given.next(), given.next()) else {
        let message = "what was counted stands in one column: `kwh`, `mwh`, `kw` or `mw`";
        return Err(BadInput(format!("{}: {message}", table.place())).into());
    };
    let mut rows: Vec<(Timestamp, Option<i64>)> = Vec::new();
    let mut interval: Option<Duration> = None;
    let mut count = 0;
    while let Some(row) = table.next_row()? {
        let at = instant(&row, utc)?;
        if let Some((before, _)) = rows.last() {
            count += steps(&row, utc, at - *before, &mut interval)?;
        }
        if count >= MOST_INTERVALS {
            return Err(row.wrong(utc, &format!("at most {MOST_INTERVALS} intervals after the first")).into());
        }
        let amount = match row.text(column) {
            "" => None,
            text => {
                let allowed = "a number from 0 on with up to six places, or nothing where it is not known";
                let amount = parse_decimal(text, PLACES).filter(|amount| (0..=unit.most()).contains(amount));
                Some(amount.ok_or_else(|| row.wrong(column, allowed))?)
            }
        };
        rows.push((at, amount));
    }
    let (Some((start, _)), Some(interval)) = (rows.first().copied(), interval) else {
        let message = "at least two rows are needed, which tell how long an interval is";
        return Err(BadInput(format!("{}: {message}", table.place())).into());
    };
    let mut energies = vec![None; count + 1];
    for (at, amount) in rows {
        let place = (at - start).as_millis() / interval.as_millis();
        energies[place as usize] = amount.map(|amount| unit.energy(amount, interval));
    }
    Ok(Series::new(start, interval, energies))
}

/// How many intervals a row is after the one before it; the first two rows tell how long one is.
fn steps(
    row: &Row<'_>,
    utc: Option<usize>,
    after: Duration,
    interval: &mut Option<Duration>,
) -> Result<usize, InputError> {
    let (after_ms, hour, minute) = (after.as_millis(), Duration::HOUR.as_millis(), Duration::MINUTE.as_millis());
    let Some(known) = *interval else {
        if after_ms <= 0 || after_ms > hour || hour % after_ms != 0 || after_ms % minute != 0 {
            let allowed = "a part of an hour after the row before, in whole minutes: 1, 5, 15, 30 or 60 of them";
            return Err(row.wrong(utc, allowed));
        }
        *interval = Some(after);
        return Ok(1);
    };
    if after_ms <= 0 || after_ms % known.as_millis() != 0 {
        let allowed = format!("a later instant, whole intervals of {known} after the row before");
        return Err(row.wrong(utc, &allowed));
    }
    Ok(usize::try_from(after_ms / known.as_millis()).unwrap_or(MOST_INTERVALS))
}

/// What a number of a meter's table is.
#[derive(Clone, Copy)]
enum Unit {
    Kwh,
    Mwh,
    Kw,
    Mw,
}

impl Unit {
    /// A terawatt-hour, or a terawatt, in millionths of the unit.
    fn most(self) -> i64 {
        match self {
            Self::Kwh | Self::Kw => 1000 * MOST_WATTS,
            Self::Mwh | Self::Mw => MOST_WATTS,
        }
    }

    /// The energy of so many millionths of the unit in an interval, in which a power is the mean.
    fn energy(self, millionths: i64, interval: Duration) -> Energy {
        let (amount, ms) = (i128::from(millionths), i128::from(interval.as_millis()));
        Energy::from_watt_millis(match self {
            Self::Kwh => amount * 3600,
            Self::Mwh => amount * 3_600_000,
            Self::Kw => amount * ms / 1000,
            Self::Mw => amount * ms,
        })
    }
}

/// The events that a programme called.
pub fn events(path: &Path) -> anyhow::Result<Vec<Event>> {
    const COLUMNS: [Column; 6] = [
        Column::required("name"),
        Column::required("announced"),
        Column::required("at"),
        Column::required("until"),
        Column::optional("megawatts"),
        Column::optional("cut"),
    ];
    let mut table = Table::new(Lines::open(path)?)?;
    let [name, announced, at, until, megawatts, cut] = table.positions(&COLUMNS)?;
    let mut events: Vec<Event> = Vec::new();
    while let Some(row) = table.next_row()? {
        if row.text(name).trim().is_empty() {
            return Err(row.wrong(name, "a name").into());
        }
        let span = Span { from: instant(&row, at)?, until: instant(&row, until)? };
        if span.until <= span.from {
            return Err(row.wrong(until, "an instant after `at`").into());
        }
        if span.until - span.from > LONGEST {
            return Err(row.wrong(until, "an instant at most 31 days after `at`").into());
        }
        let announced_at = instant(&row, announced)?;
        if announced_at > span.from {
            return Err(row.wrong(announced, "an instant up to `at`").into());
        }
        if let Some(other) = events.iter().find(|other| other.span.from < span.until && span.from < other.span.until) {
            let from = write_timestamp(other.span.from).unwrap_or_default();
            return Err(row.wrong(at, &format!("one event at a time: `{}` is from {from}", other.name)).into());
        }
        if events.len() >= MOST_EVENTS {
            return Err(row.wrong(name, &format!("at most {MOST_EVENTS} events")).into());
        }
        let asked = asked(&row, megawatts, cut)?;
        events.push(Event { name: row.text(name).to_owned(), announced: announced_at, span, asked });
    }
    Ok(events)
}

fn asked(row: &Row<'_>, megawatts: Option<usize>, cut: Option<usize>) -> Result<Asked, InputError> {
    let number = |column, (least, most): (i64, i64), allowed: &str| match row.text(column) {
        "" => Ok(None),
        text => {
            let millionths = parse_decimal(text, PLACES).filter(|number| (least..=most).contains(number));
            millionths.map(Some).ok_or_else(|| row.wrong(column, allowed))
        }
    };
    let watts = number(megawatts, (0, MOST_WATTS), "how much less is asked for, or nothing for the programme's depth")?;
    let share = number(cut, (1, 1_000_000), "a share of the baseline above 0 and at most 1, or nothing")?;
    match (watts, share) {
        (None, None) => Ok(Asked::Depth),
        (Some(watts), None) => Ok(Asked::Watts(Watts::new(watts))),
        (None, Some(share)) => Ok(Asked::Share(Ppm::new(u32::try_from(share).unwrap_or(Ppm::ONE.parts())))),
        (Some(_), Some(_)) => Err(row.wrong(cut, "nothing beside `megawatts`")),
    }
}

fn instant(row: &Row<'_>, column: Option<usize>) -> Result<Timestamp, InputError> {
    parse_timestamp(row.text(column)).ok_or_else(|| row.wrong(column, TIMESTAMP_ALLOWED))
}
