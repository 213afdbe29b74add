//! What the core said lately, for those who ask the same with every request.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Answers of the core that are good for a short time, or until they are taken back.
#[derive(Debug)]
pub(super) struct Remembered<K, V> {
    inner: Mutex<Inner<K, V>>,
    lasts: Duration,
    most: usize,
}

#[derive(Debug)]
struct Inner<K, V> {
    known: HashMap<K, (V, Instant)>,
    /// Grows whenever something is taken back: what was asked before is not remembered after.
    edition: u64,
}

impl<K: Hash + Eq, V: Clone> Remembered<K, V> {
    pub(super) fn new(lasts: Duration, most: usize) -> Self {
        Self { inner: Mutex::new(Inner { known: HashMap::new(), edition: 0 }), lasts, most }
    }

    /// What is remembered; otherwise the edition to give to [`Remembered::put`].
    pub(super) fn get<Q: Hash + Eq + ?Sized>(&self, key: &Q) -> Result<V, u64>
    where
        K: std::borrow::Borrow<Q>,
    {
        let inner = self.lock();
        match inner.known.get(key) {
            Some((value, since)) if since.elapsed() < self.lasts => Ok(value.clone()),
            _ => Err(inner.edition),
        }
    }

    /// Remembers what was asked for at `edition`, unless something was taken back since.
    pub(super) fn put(&self, key: K, value: V, edition: u64) {
        let mut inner = self.lock();
        if inner.edition != edition {
            return;
        }
        if inner.known.len() >= self.most {
            inner.known.clear();
        }
        inner.known.insert(key, (value, Instant::now()));
    }

    /// Nothing that was said so far holds any more.
    pub(super) fn forget(&self) {
        let mut inner = self.lock();
        inner.known.clear();
        inner.edition += 1;
    }

    /// What was said of this holds no more.
    pub(super) fn forget_one<Q: Hash + Eq + ?Sized>(&self, key: &Q)
    where
        K: std::borrow::Borrow<Q>,
    {
        let mut inner = self.lock();
        inner.known.remove(key);
        inner.edition += 1;
    }

    fn lock(&self) -> MutexGuard<'_, Inner<K, V>> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_from_before_it_was_taken_back_is_not_remembered() {
        let remembered = Remembered::new(Duration::from_secs(3600), 8);
        let edition = remembered.get("a").expect_err("nothing is known yet");
        remembered.forget();
        remembered.put("a", 1, edition);
        let edition = remembered.get("a").expect_err("the answer was older than what took it back");
        remembered.put("a", 2, edition);
        assert_eq!(remembered.get("a"), Ok(2));
        remembered.forget_one("a");
        assert!(remembered.get("a").is_err());
    }

    #[test]
    fn no_more_is_remembered_than_may_be() {
        let remembered = Remembered::new(Duration::from_secs(3600), 4);
        for key in 0..100 {
            remembered.put(key, key, 0);
            assert!(remembered.lock().known.len() <= 4);
        }
    }
}
