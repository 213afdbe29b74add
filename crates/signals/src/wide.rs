//! The wide tables: `utc`, then a column for each zone; an empty field is a missing hour.

use std::path::Path;

use offtake_units::{Duration, Timestamp};
use offtake_workload::human::write_timestamp;
use offtake_workload::input::{InputError, Lines, Row, Table, excerpt, parse_decimal};

use crate::error::SignalError;
use crate::series::{Filling, Series};

/// Zones of one file. With the limit on rows it bounds the memory to 2 GB.
const MOST_ZONES: usize = 1000;
/// Rows and filled hours of one file: thirty years.
const MOST_HOURS: usize = 30 * 366 * 24;
/// Hours in a row that may be missing: a year, as some zones lack one.
const LONGEST_GAP_HOURS: i64 = 366 * 24;

/// The numbers that a table may hold.
pub(crate) struct Numbers {
    /// Digits after the point that are kept, and all that may be there.
    pub(crate) places: u32,
    /// The least number, in units of the last place.
    pub(crate) least: i64,
    /// Both in words.
    pub(crate) allowed: &'static str,
}

/// Reads the zones of a wide table.
pub(crate) fn read(path: &Path, numbers: &Numbers) -> Result<Vec<(String, Series<i64>)>, SignalError> {
    read_lines(Lines::open(path)?, numbers)
}

fn read_lines(lines: Lines<'_>, numbers: &Numbers) -> Result<Vec<(String, Series<i64>)>, SignalError> {
    let file = lines.file().to_owned();
    let mut table = Table::new(lines)?;
    let zones = zones(&table)?;
    let mut filling = vec![Filling::new(); zones.len()];
    let mut before: Option<Timestamp> = None;
    let mut hours = 0;
    while let Some(row) = table.next_row()? {
        let hour = hour(&row)?;
        if let Some(before) = before {
            let missing = missing_hours(&row, before, hour)?;
            for number in 1..=missing {
                let gap = before + Duration::from_millis(number * Duration::HOUR.as_millis());
                filling.iter_mut().for_each(|zone| zone.push(gap, None));
            }
            hours += missing as usize;
        }
        hours += 1;
        if hours > MOST_HOURS {
            return Err(row.wrong(Some(0), &format!("up to {MOST_HOURS} hours in a file")).into());
        }
        for (index, zone) in filling.iter_mut().enumerate() {
            let value = match row.text(Some(index + 1)) {
                "" => None,
                text => {
                    let number = parse_decimal(text, numbers.places).filter(|number| *number >= numbers.least);
                    Some(number.ok_or_else(|| row.wrong(Some(index + 1), numbers.allowed))?)
                }
            };
            zone.push(hour, value);
        }
        before = Some(hour);
    }
    let finished = zones.into_iter().zip(filling);
    finished
        .map(|(zone, filling)| match filling.finish() {
            Some(series) => Ok((zone, series)),
            None => Err(SignalError::NoValue { file: file.clone(), zone }),
        })
        .collect()
}

fn zones(table: &Table<'_>) -> Result<Vec<String>, InputError> {
    let at = table.place();
    match table.names().split_first() {
        Some((utc, zones)) if utc == "utc" && (1..=MOST_ZONES).contains(&zones.len()) => {
            let names = zones.iter();
            names
                .map(|zone| match zone.trim() {
                    "" => Err(InputError::Field {
                        at: at.clone(),
                        field: "zone".to_owned(),
                        given: excerpt(zone),
                        allowed: "a name, such as `DE-LU`".to_owned(),
                    }),
                    _ => Ok(zone.clone()),
                })
                .collect()
        }
        _ => Err(InputError::Field {
            at,
            field: "columns".to_owned(),
            given: excerpt(&table.names().join(",")),
            allowed: format!("`utc`, then 1 to {MOST_ZONES} columns that are named as zones"),
        }),
    }
}

/// `2021-01-01T00:00Z`, or with seconds of zero.
fn hour(row: &Row<'_>) -> Result<Timestamp, InputError> {
    const ALLOWED: &str = "a full hour in UTC from 1970 to 9998, such as `2021-01-01T00:00Z`";
    const FORMS: [&[u8]; 2] = [b"dddd-dd-ddTdd:00Z", b"dddd-dd-ddTdd:00:00Z"];
    let text = row.text(Some(0));
    let fits = |form: &[u8]| {
        form.len() == text.len()
            && form.iter().zip(text.bytes()).all(|(want, given)| match want {
                b'd' => given.is_ascii_digit(),
                other => given == *other,
            })
    };
    if !FORMS.into_iter().any(fits) {
        return Err(row.wrong(Some(0), ALLOWED));
    }
    let instant: jiff::Timestamp = text.parse().map_err(|_| row.wrong(Some(0), ALLOWED))?;
    let at = Timestamp::from_millis(instant.as_millisecond());
    if write_timestamp(at).is_none() {
        return Err(row.wrong(Some(0), ALLOWED));
    }
    Ok(at)
}

fn missing_hours(row: &Row<'_>, before: Timestamp, hour: Timestamp) -> Result<i64, SignalError> {
    let steps = (hour.as_millis() - before.as_millis()) / Duration::HOUR.as_millis();
    if steps < 1 {
        return Err(SignalError::NotLater {
            at: row.place(),
            given: excerpt(row.text(Some(0))),
            before: write_timestamp(before).unwrap_or_default(),
        });
    }
    let missing = steps - 1;
    if missing > LONGEST_GAP_HOURS {
        return Err(SignalError::LongGap { at: row.place(), missing, limit: LONGEST_GAP_HOURS });
    }
    Ok(missing)
}

#[cfg(test)]
mod tests {
    use offtake_workload::input::Limits;
    use proptest::prelude::*;

    use super::*;

    fn of(text: &[u8]) -> Result<Vec<(String, Series<i64>)>, SignalError> {
        read_lines(
            Lines::new(text, Path::new("w"), Limits::default())?,
            &Numbers { places: 6, least: i64::MIN, allowed: "a number" },
        )
    }

    #[test]
    fn rows_that_are_missing_are_gaps_too() {
        let read = of(b"utc,A,B\n2021-01-01T00:00Z,1,\n2021-01-01T03:00:00Z,2.5,7\n").expect("good");
        let (zone, series) = &read[0];
        assert_eq!((zone.as_str(), series.gaps().carried_hours), ("A", 2));
        assert_eq!(series.hours().map(|(_, value)| value / 100_000).collect::<Vec<_>>(), [10, 10, 10, 25]);
        assert_eq!(read[1].1.gaps().leading_hours, 3);
    }

    #[test]
    fn errors_name_their_place() {
        let cases: [(&str, &str); 12] = [
            ("", "w: the file is empty"),
            ("time,A\n", "w:1: `columns` is `time,A`; allowed is `utc`"),
            ("utc\n", "w:1: `columns` is `utc`"),
            ("utc,\n", "w:1: `zone` is ``"),
            ("utc,A,A\n", "w:1: the column `A` occurs twice"),
            ("utc,A\n2021-01-01T00:00Z\n", "w:2: the row has 1 fields"),
            ("utc,A\n2021-01-01T00:30Z,1\n", "w:2: `utc` is `2021-01-01T00:30Z`; allowed is a full hour"),
            ("utc,A\n2021-01-01T00:00Z,NaN\n", "w:2: `A` is `NaN`; allowed is a number"),
            (
                "utc,A\n2021-01-01T00:00Z,1\n2021-01-01T00:00Z,1\n",
                "w:3: `utc` is `2021-01-01T00:00Z`; allowed is a later",
            ),
            ("utc,A\n2021-01-01T00:00Z,1\n2023-01-01T00:00Z,1\n", "w:3: 17519 hours are missing"),
            ("utc,A\n2021-01-01T00:00Z,\n", "w: the zone `A` has no value"),
            ("utc,A\n2021-13-01T00:00Z,1\n", "w:2: `utc` is `2021-13-01T00:00Z`"),
        ];
        for (text, expected) in cases {
            let message = of(text.as_bytes()).expect_err(text).to_string();
            assert!(message.starts_with(expected), "{text}\n  gives: {message}");
        }
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200), text in "[0-9TZ:,.\n-]{0,120}") {
            let _ = of(&bytes);
            let _ = of(format!("utc,A,B\n2021-01-01T00:00Z,1,2\n{text}").as_bytes());
        }
    }
}
