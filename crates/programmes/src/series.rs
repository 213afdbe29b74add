//! What a meter counted.

use offtake_units::{Duration, Energy, Timestamp};

/// Energy by intervals of one length, one after the other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Series {
    start: Timestamp,
    interval: Duration,
    /// None where the meter told nothing.
    energies: Vec<Option<Energy>>,
}

impl Series {
    /// A series that begins at an instant; each interval is above zero.
    pub fn new(start: Timestamp, interval: Duration, energies: Vec<Option<Energy>>) -> Self {
        Self { start, interval: interval.max(Duration::from_millis(1)), energies }
    }

    /// When it begins.
    pub fn start(&self) -> Timestamp {
        self.start
    }

    /// When it ends.
    pub fn end(&self) -> Timestamp {
        self.at(self.energies.len())
    }

    /// How long an interval is.
    pub fn interval(&self) -> Duration {
        self.interval
    }

    fn at(&self, place: usize) -> Timestamp {
        self.start.saturating_add(Duration::from_millis(self.interval.as_millis().saturating_mul(place as i64)))
    }

    /// Each interval: when it begins, and its energy where that is known.
    pub fn intervals(&self) -> impl Iterator<Item = (Timestamp, Option<Energy>)> + '_ {
        self.energies.iter().enumerate().map(|(place, energy)| (self.at(place), *energy))
    }

    /// When the interval that lasts at an instant ends.
    pub(crate) fn edge_after(&self, at: Timestamp) -> Timestamp {
        let into = (at - self.start).as_millis().rem_euclid(self.interval.as_millis());
        at + (self.interval - Duration::from_millis(into))
    }

    /// The energy from one instant to another; of an interval that lies partly between them, by time. None where any of it
    /// is not known.
    pub fn between(&self, from: Timestamp, until: Timestamp) -> Option<Energy> {
        if from < self.start || until > self.end() {
            return None;
        }
        let mut sum = Energy::ZERO;
        let mut at = from;
        while at < until {
            let next = self.edge_after(at).min(until);
            let place = (at - self.start).as_millis() / self.interval.as_millis();
            let energy = (*self.energies.get(usize::try_from(place).ok()?)?)?;
            sum += energy.part((next - at).as_millis(), self.interval.as_millis());
            at = next;
        }
        Some(sum)
    }
}

#[cfg(test)]
mod tests {
    use offtake_units::Watts;

    use super::*;

    #[test]
    fn energy_between_two_instants_is_that_of_the_intervals_by_time() {
        let minute = |count: i64| Timestamp::from_secs(60 * count);
        let of = |watts: i64, minutes: i64| Watts::new(watts).over(Duration::from_secs(60 * minutes));
        let quarter = |watts: i64| Some(of(watts, 15));
        let series =
            Series::new(minute(15), Duration::from_secs(900), vec![quarter(100), quarter(200), None, quarter(300)]);
        assert_eq!(series.end(), minute(75));
        assert_eq!(series.between(minute(15), minute(45)), Some(of(100, 15) + of(200, 15)));
        assert_eq!(series.between(minute(20), minute(40)), Some(of(100, 10) + of(200, 10)));
        assert_eq!(series.between(minute(61), minute(62)), Some(of(300, 1)));
        for (from, until) in [(14, 30), (40, 50), (44, 46), (70, 76)] {
            assert_eq!(series.between(minute(from), minute(until)), None, "{from} to {until}");
        }
    }
}
