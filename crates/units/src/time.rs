//! Instants and spans, in integer milliseconds.

use std::fmt;
use std::ops::{Add, AddAssign, Sub};
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// An instant: milliseconds since 1970-01-01T00:00:00Z, without leap seconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Timestamp(i64);

/// A span of time in milliseconds. Negative spans occur only as differences.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Duration(i64);

impl Timestamp {
    /// The epoch itself.
    pub const EPOCH: Self = Self(0);
    /// Later than any instant that can occur: what never comes.
    pub const NEVER: Self = Self(i64::MAX);

    /// The instant `ms` milliseconds after the epoch.
    pub const fn from_millis(ms: i64) -> Self {
        Self(ms)
    }

    /// The instant `s` seconds after the epoch.
    pub const fn from_secs(s: i64) -> Self {
        Self(s * 1000)
    }

    /// Milliseconds since the epoch.
    pub const fn as_millis(self) -> i64 {
        self.0
    }

    /// The sum, or [`Timestamp::NEVER`] where it would lie beyond.
    pub const fn saturating_add(self, span: Duration) -> Self {
        Self(self.0.saturating_add(span.0))
    }

    /// The time of day in UTC, as the span since midnight.
    pub const fn time_of_day(self) -> Duration {
        Duration(self.0.rem_euclid(Duration::DAY.0))
    }
}

impl Duration {
    /// No time at all.
    pub const ZERO: Self = Self(0);
    /// 60 seconds.
    pub const MINUTE: Self = Self(60_000);
    /// 60 minutes.
    pub const HOUR: Self = Self(3_600_000);
    /// 24 hours.
    pub const DAY: Self = Self(86_400_000);

    /// A span of `ms` milliseconds.
    pub const fn from_millis(ms: i64) -> Self {
        Self(ms)
    }

    /// A span of `s` seconds.
    pub const fn from_secs(s: i64) -> Self {
        Self(s * 1000)
    }

    /// The span in milliseconds.
    pub const fn as_millis(self) -> i64 {
        self.0
    }

    /// The span in seconds, for printing.
    pub fn as_secs_f64(self) -> f64 {
        self.0 as f64 / 1000.0
    }
}

impl Add<Duration> for Timestamp {
    type Output = Self;
    fn add(self, span: Duration) -> Self {
        Self(self.0 + span.0)
    }
}

impl Sub for Timestamp {
    type Output = Duration;
    fn sub(self, other: Self) -> Duration {
        Duration(self.0 - other.0)
    }
}

impl Sub<Duration> for Timestamp {
    type Output = Self;
    fn sub(self, span: Duration) -> Self {
        Self(self.0 - span.0)
    }
}

impl Add for Duration {
    type Output = Self;
    fn add(self, other: Self) -> Self {
        Self(self.0 + other.0)
    }
}

impl AddAssign for Duration {
    fn add_assign(&mut self, other: Self) {
        self.0 += other.0;
    }
}

impl Sub for Duration {
    type Output = Self;
    fn sub(self, other: Self) -> Self {
        Self(self.0 - other.0)
    }
}

/// Writes the two largest units that are not zero, as people say it: `2 d 3 h`, `45 min`, `12 s`, `250 ms`.
impl fmt::Display for Duration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const UNITS: [(i64, &str); 5] = [(86_400_000, "d"), (3_600_000, "h"), (60_000, "min"), (1000, "s"), (1, "ms")];
        if self.0 < 0 {
            write!(f, "-")?;
        }
        let ms = self.0.saturating_abs();
        let Some(first) = UNITS.iter().position(|(size, _)| ms >= *size) else {
            return write!(f, "0 s");
        };
        let (size, name) = UNITS[first];
        write!(f, "{} {name}", ms / size)?;
        if let Some((next_size, next_name)) = UNITS.get(first + 1) {
            let rest = ms % size / next_size;
            if rest > 0 && *next_name != "ms" {
                write!(f, " {rest} {next_name}")?;
            }
        }
        Ok(())
    }
}

/// What is wrong with a written duration.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{given}` is not a duration: write a number and a unit (ms, s, m, h, d, w), such as `90s`, `36h` or `1d12h`")]
pub struct ParseDurationError {
    given: String,
}

/// Reads `90s`, `36h`, `1d12h`, `250ms`; units ms, s, m (or min), h, d, w. No sign, no fraction.
impl FromStr for Duration {
    type Err = ParseDurationError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let fail = || ParseDurationError { given: text.chars().take(40).collect() };
        let mut total: i64 = 0;
        let mut rest = text.trim();
        if rest.is_empty() {
            return Err(fail());
        }
        while !rest.is_empty() {
            let digits = rest.len() - rest.trim_start_matches(|c: char| c.is_ascii_digit()).len();
            let number: i64 = rest[..digits].parse().map_err(|_| fail())?;
            rest = rest[digits..].trim_start();
            let letters = rest.len() - rest.trim_start_matches(|c: char| c.is_ascii_alphabetic()).len();
            let unit = match &rest[..letters] {
                "ms" => 1,
                "s" => 1000,
                "m" | "min" => 60_000,
                "h" => 3_600_000,
                "d" => 86_400_000,
                "w" => 7 * 86_400_000,
                _ => return Err(fail()),
            };
            rest = rest[letters..].trim_start();
            total = number.checked_mul(unit).and_then(|ms| total.checked_add(ms)).ok_or_else(fail)?;
        }
        Ok(Self(total))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_and_written() {
        for (text, ms) in
            [("90s", 90_000), ("1d12h", 129_600_000), ("250ms", 250), ("2w", 1_209_600_000), ("5 min", 300_000)]
        {
            assert_eq!(text.parse::<Duration>(), Ok(Duration::from_millis(ms)), "{text}");
        }
        for text in ["", "s", "5", "-5s", "5 fortnights", "99999999999999w", "1.5h"] {
            assert!(text.parse::<Duration>().is_err(), "{text}");
        }
        let written = [0, 250, 90_000, 7_800_000, 183_600_000].map(|ms| Duration::from_millis(ms).to_string());
        assert_eq!(written, ["0 s", "250 ms", "1 min 30 s", "2 h 10 min", "2 d 3 h"]);
    }
}
