//! A value an hour.

use offtake_units::{Duration, Timestamp};

/// Values by the hour, in UTC, without a gap from the first known hour to the last of the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Series<T> {
    start: Timestamp,
    values: Vec<T>,
    gaps: Gaps,
}

/// Hours that the source lacks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Gaps {
    /// Hours before the first known one: they have no value.
    pub leading_hours: u32,
    /// Hours that carry the last known value forward.
    pub carried_hours: u32,
    /// The most hours in a row that do.
    pub longest_hours: u32,
}

impl<T: Copy> Series<T> {
    /// When the first value begins to hold.
    pub fn start(&self) -> Timestamp {
        self.start
    }

    /// When the last value ceases to hold.
    pub fn end(&self) -> Timestamp {
        self.start.saturating_add(Duration::from_millis(self.values.len() as i64 * Duration::HOUR.as_millis()))
    }

    /// The hours that the source lacks.
    pub fn gaps(&self) -> Gaps {
        self.gaps
    }

    /// The value of the hour in which an instant lies; nothing before the first known hour and after the last.
    pub fn at(&self, at: Timestamp) -> Option<T> {
        if at < self.start {
            return None;
        }
        let hour = (at.as_millis() - self.start.as_millis()) / Duration::HOUR.as_millis();
        self.values.get(usize::try_from(hour).ok()?).copied()
    }

    /// The hours and their values, in order.
    pub fn hours(&self) -> impl ExactSizeIterator<Item = (Timestamp, T)> {
        let (start, hour_ms) = (self.start.as_millis(), Duration::HOUR.as_millis());
        let numbered = self.values.iter().enumerate();
        numbered.map(move |(hour, value)| (Timestamp::from_millis(start + hour as i64 * hour_ms), *value))
    }
}

/// A series while its hours are read, in order.
#[derive(Clone, Debug)]
pub(crate) struct Filling<T> {
    start: Option<Timestamp>,
    values: Vec<T>,
    gaps: Gaps,
    gap_hours: u32,
}

impl<T: Copy> Filling<T> {
    pub(crate) fn new() -> Self {
        Self { start: None, values: Vec::new(), gaps: Gaps::default(), gap_hours: 0 }
    }

    /// The next hour, with its value where there is one.
    pub(crate) fn push(&mut self, hour: Timestamp, value: Option<T>) {
        match (value, self.values.last().copied()) {
            (Some(value), _) => {
                self.start.get_or_insert(hour);
                self.values.push(value);
                self.gap_hours = 0;
            }
            (None, Some(last)) => {
                self.values.push(last);
                self.gap_hours += 1;
                self.gaps.carried_hours += 1;
                self.gaps.longest_hours = self.gaps.longest_hours.max(self.gap_hours);
            }
            (None, None) => self.gaps.leading_hours += 1,
        }
    }

    /// The series; nothing when no hour had a value.
    pub(crate) fn finish(self) -> Option<Series<T>> {
        self.start.map(|start| Series { start, values: self.values, gaps: self.gaps })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hour(number: i64) -> Timestamp {
        Timestamp::from_secs(number * 3600)
    }

    #[test]
    fn missing_hours_carry_the_last_value_and_are_counted() {
        let mut filling = Filling::new();
        for (number, value) in [None, Some(5), None, None, Some(7), None].into_iter().enumerate() {
            filling.push(hour(number as i64), value);
        }
        let series = filling.finish().expect("there are values");
        let at = |number| series.at(hour(number));
        assert_eq!(
            [at(-1), at(0), at(1), at(2), at(3), at(4), at(5), at(6)],
            [None, None, Some(5), Some(5), Some(5), Some(7), Some(7), None]
        );
        assert_eq!(series.gaps(), Gaps { leading_hours: 1, carried_hours: 3, longest_hours: 2 });
        assert_eq!(series.at(hour(4) + Duration::from_millis(3_599_999)), Some(7));
        assert_eq!((series.start(), series.end()), (hour(1), hour(6)));
        assert_eq!(series.at(Timestamp::NEVER), None);
        assert_eq!(series.hours().next(), Some((hour(1), 5)));
        assert!(Filling::<i64>::new().finish().is_none());
    }
}
