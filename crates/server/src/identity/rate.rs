//! How many requests one caller may make.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

/// A bucket for each caller, which fills by so many requests a second and holds those of one second.
#[derive(Debug)]
pub(crate) struct Rates {
    per_second: f64,
    buckets: Mutex<HashMap<String, Bucket>>,
}

#[derive(Clone, Copy, Debug)]
struct Bucket {
    left: f64,
    since: Instant,
}

/// Buckets kept; beyond that, full ones are dropped.
const MOST: usize = 10_000;

impl Rates {
    pub(crate) fn new(per_second: u32) -> Self {
        Self { per_second: f64::from(per_second.max(1)), buckets: Mutex::new(HashMap::new()) }
    }

    /// Takes one request of a caller; whether it may be made.
    pub(crate) fn take(&self, caller: &str) -> bool {
        self.take_at(caller, Instant::now())
    }

    fn take_at(&self, caller: &str, now: Instant) -> bool {
        let mut buckets = self.buckets.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(bucket) = buckets.get_mut(caller) {
            return bucket.take(self.per_second, now);
        }
        if buckets.len() >= MOST {
            buckets.retain(|_, bucket| !bucket.is_full(self.per_second, now));
        }
        let mut bucket = Bucket { left: self.per_second, since: now };
        let may = bucket.take(self.per_second, now);
        buckets.insert(caller.to_owned(), bucket);
        may
    }
}

impl Bucket {
    fn refilled(&self, per_second: f64, now: Instant) -> f64 {
        let passed = now.saturating_duration_since(self.since).as_secs_f64();
        (self.left + passed * per_second).min(per_second)
    }

    fn is_full(&self, per_second: f64, now: Instant) -> bool {
        self.refilled(per_second, now) >= per_second
    }

    fn take(&mut self, per_second: f64, now: Instant) -> bool {
        let left = self.refilled(per_second, now);
        let may = left >= 1.0;
        *self = Self { left: if may { left - 1.0 } else { left }, since: now };
        may
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_caller_has_so_many_requests_a_second_and_others_have_their_own() {
        let rates = Rates::new(3);
        let start = Instant::now();
        let made = (0..10).filter(|_| rates.take_at("a", start)).count();
        assert_eq!(made, 3);
        assert!(rates.take_at("b", start));
        let later = start + Duration::from_millis(700);
        assert_eq!((0..10).filter(|_| rates.take_at("a", later)).count(), 2);
        let much_later = start + Duration::from_secs(3600);
        assert_eq!((0..10).filter(|_| rates.take_at("a", much_later)).count(), 3);
    }
}
