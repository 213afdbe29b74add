//! The time that the core is told: it never goes back, whatever happens to the machine's clock.

use std::time::{Instant, SystemTime, UNIX_EPOCH};

use offtake_units::{Duration, Timestamp};

/// The wall clock's time at the start, or that of the last fact if it is later; from then on what has really passed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clock {
    at_start: Timestamp,
    started: Instant,
}

impl Clock {
    /// A clock that shows no earlier time than that of the last fact.
    pub(crate) fn starting_after(last_fact: Timestamp) -> Self {
        Self { at_start: wall().max(last_fact), started: Instant::now() }
    }

    pub(crate) fn now(&self) -> Timestamp {
        let passed = i64::try_from(self.started.elapsed().as_millis()).unwrap_or(i64::MAX);
        self.at_start.saturating_add(Duration::from_millis(passed))
    }
}

/// The machine's clock.
pub(crate) fn wall() -> Timestamp {
    let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp::from_millis(i64::try_from(since_epoch.as_millis()).unwrap_or(i64::MAX))
}
