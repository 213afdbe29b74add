//! How much of the fleet a tenant has had: what it holds now, and what it held, which counts half as much with each
//! half-life that has gone by.
//!
//! The past is the average of what was held, weighted by 2^(−age / half-life). Between two changes what is held is
//! steady, so that the average at any instant follows from the last change in closed form, and nothing is updated while
//! time passes. Averages change with facts only, whenever anyone asks in between: a replay finds the same.

use offtake_units::{Duration, Timestamp};
use offtake_workload::fixed::times_power_of_2;
use serde::{Deserialize, Serialize};

/// Bits after the point of an average.
const AVERAGE_BITS: u32 = 20;

/// Bits after the point of a share of the fleet.
pub const SHARE_BITS: u32 = 44;

/// What was held of one resource, on average over the past.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Average {
    /// The average, with [`AVERAGE_BITS`] bits after the point.
    level: u64,
    /// As of when.
    at: Timestamp,
}

/// What a tenant itself has of one resource: thousandths of a chip or of a core, or MiB.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Holding {
    /// Held now.
    pub held: u64,
    /// Held in the past.
    pub average: Average,
}

impl Holding {
    /// The average at an instant; zero without a half-life.
    fn level_at(&self, now: Timestamp, half_life: Duration) -> u64 {
        if half_life <= Duration::ZERO {
            return 0;
        }
        let held = self.held << AVERAGE_BITS;
        let past = (now - self.average.at).as_millis().max(0);
        let halvings_q32 = (i128::from(past) << 32) / i128::from(half_life.as_millis());
        let exponent_q32 = -i64::try_from(halvings_q32).unwrap_or(i64::MAX);
        let part = |distance: u64| times_power_of_2(distance, exponent_q32, u64::MAX);
        let before = self.average.level;
        if before >= held { held + part(before - held) } else { held - part(held - before) }
    }

    /// Something else is held from now on.
    pub fn set(&mut self, held: u64, now: Timestamp, half_life: Duration) {
        self.average = Average { level: self.level_at(now, half_life), at: now };
        self.held = held;
    }

    /// What counts in a share, with [`AVERAGE_BITS`] bits after the point: what is held, and what was.
    pub fn counted(&self, now: Timestamp, half_life: Duration) -> u128 {
        u128::from(self.held << AVERAGE_BITS) + u128::from(self.level_at(now, half_life))
    }

    /// The past alone, with [`AVERAGE_BITS`] bits after the point.
    pub fn past(&self, now: Timestamp, half_life: Duration) -> u64 {
        self.level_at(now, half_life)
    }
}

/// What an amount that is held counts at once.
pub const fn counted_now(held: u64) -> u128 {
    (held as u128) << AVERAGE_BITS
}

/// The part of a capacity that a counted amount is, over a weight, with [`SHARE_BITS`] bits after the point.
pub fn part_of(counted: u128, capacity: u64, weight: u32) -> u64 {
    let whole = u128::from(capacity) * u128::from(weight.max(1));
    let part = (counted << (SHARE_BITS - AVERAGE_BITS)).checked_div(whole).unwrap_or(0);
    u64::try_from(part).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: Duration = Duration::from_secs(86_400);

    fn at(days: i64) -> Timestamp {
        Timestamp::from_secs(days * 86_400)
    }

    #[test]
    fn the_past_halves_with_each_half_life() {
        let mut holding = Holding::default();
        holding.set(1000, at(0), DAY);
        assert_eq!(holding.past(at(0), DAY), 0);
        assert_eq!(holding.past(at(1), DAY), 500 << AVERAGE_BITS);
        holding.set(0, at(1), DAY);
        assert_eq!(holding.past(at(2), DAY), 250 << AVERAGE_BITS);
        assert_eq!(holding.past(at(4), DAY), (125 << AVERAGE_BITS) / 2);
        assert_eq!(holding.past(at(400), DAY), 0, "in the end nothing is left");
    }

    #[test]
    fn without_a_half_life_only_what_is_held_counts() {
        let mut holding = Holding::default();
        holding.set(1000, at(0), Duration::ZERO);
        assert_eq!(holding.counted(at(9), Duration::ZERO), counted_now(1000));
    }

    #[test]
    fn a_share_is_over_the_weight() {
        assert_eq!(part_of(counted_now(500), 1000, 1), 1 << (SHARE_BITS - 1));
        assert_eq!(part_of(counted_now(500), 1000, 2), 1 << (SHARE_BITS - 2));
        assert_eq!(part_of(counted_now(500), 0, 1), 0, "what the fleet has none of is no share");
    }
}
