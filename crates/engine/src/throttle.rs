//! Throttling: work goes on at a lower power level of its chips, slower, rather than be stopped. The lowest of all is a
//! pause: it stands still where it is, and its chips draw what they do without work.

use offtake_fleet::{Fleet, NodeKindIx, PowerLevel};
use offtake_units::{Duration, Ppm, Timestamp};
use serde::{Deserialize, Serialize};

use crate::fact::{Placement, Slot};

/// How far down the curves of its chips work goes: the place of a power level among those of each chip, of which the first
/// is full power, or the last of a chip that has fewer. A chip without any other is never throttled, but may be paused.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Throttle(pub u8);

impl Throttle {
    /// Full power.
    pub const NONE: Self = Self(0);

    /// A pause, below every power level: the processes are frozen, and the chips draw what they do without work.
    pub const PAUSED: Self = Self(u8::MAX);

    /// Whether it is full power.
    pub const fn is_none(&self) -> bool {
        self.0 == 0
    }

    /// Whether it is a pause.
    pub const fn is_paused(self) -> bool {
        self.0 == Self::PAUSED.0
    }

    /// What a chip has at this level, of something that it has at each of its power levels; none at full power, and
    /// none in a pause.
    pub fn of<T>(self, levels: &[T]) -> Option<&T> {
        let lowest = levels.len().checked_sub(1).filter(|_| !self.is_none() && !self.is_paused())?;
        levels.get(usize::from(self.0).min(lowest))
    }

    /// The speed of work that is throttled so far on chips with these curves: that of the slowest.
    pub(crate) fn speed(self, curves: &[&[PowerLevel]]) -> Ppm {
        if self.is_paused() {
            return Ppm::ZERO;
        }
        curves.iter().filter_map(|levels| self.of(levels)).map(|level| level.speed).min().unwrap_or(Ppm::ONE)
    }
}

impl Placement {
    /// The same with its chips throttled so far.
    pub(crate) fn throttled(&self, throttle: Throttle) -> Self {
        Self { throttle, ..self.clone() }
    }

    /// The curves of its chips, each with its power levels; one may come up several times.
    pub(crate) fn curves<'a>(&self, fleet: &'a Fleet) -> Vec<&'a [PowerLevel]> {
        let nodes = |slot: Slot| &fleet.nodes[slot.nodes.first.ix()..][..slot.nodes.count as usize];
        let mut kinds: Vec<NodeKindIx> = Vec::new();
        for run in self.slots().flat_map(|slot| nodes(slot).chunk_by(|a, b| a.kind == b.kind)) {
            if kinds.last() != Some(&run[0].kind) {
                kinds.push(run[0].kind);
            }
        }
        let chips = kinds.into_iter().filter_map(|kind| fleet.accelerator(&fleet.node_kinds[kind.ix()]));
        chips.map(|chip| &chip.power_levels[..]).collect()
    }

    /// The share of its speed that a power level leaves it: that of the slowest chip.
    pub fn speed_at(&self, fleet: &Fleet, throttle: Throttle) -> Ppm {
        self.throttled(throttle).throttled_speed(fleet)
    }

    /// The speed that its power level leaves: that of the slowest chip.
    pub(crate) fn throttled_speed(&self, fleet: &Fleet) -> Ppm {
        if self.throttle.is_none() { Ppm::ONE } else { self.throttle.speed(&self.curves(fleet)) }
    }
}

/// How work goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pace {
    /// At a share of its speed, more than nothing.
    At(Ppm),
    /// Not at all.
    Paused {
        /// Since when.
        since: Timestamp,
        /// For how long at most: then it is stopped.
        longest: Duration,
    },
}

/// When work that was to end at one pace ends at another, which it takes now. Of paused work it is the latest that can
/// be: as if it was paused for as long as it may be. Once it goes on, it is later by the pause and by nothing else.
pub fn ends_at(now: Timestamp, ends: Timestamp, before: Pace, after: Pace) -> Timestamp {
    if ends == Timestamp::NEVER || ends <= now {
        return ends;
    }
    match (before, after) {
        (Pace::Paused { since, longest }, _) => {
            let unused = (since.saturating_add(longest) - now).max(Duration::ZERO);
            ends_at(now, ends - unused, Pace::At(Ppm::ONE), after)
        }
        (_, Pace::Paused { longest, .. }) => ends_at(now, ends, before, Pace::At(Ppm::ONE)).saturating_add(longest),
        (Pace::At(before), Pace::At(after)) => {
            let left = i128::from((ends - now).as_millis()) * i128::from(before.parts());
            let after = i128::from(after.parts().max(1));
            now.saturating_add(Duration::from_millis(i64::try_from((left + after - 1) / after).unwrap_or(i64::MAX)))
        }
    }
}
