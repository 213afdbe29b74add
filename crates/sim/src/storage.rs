//! The storage of sites, which checkpoints are written to and read from.
//!
//! Whoever uses it shares its bandwidth fairly. A job writes its checkpoint again and again, so all that run are a steady
//! flow; a write among them takes its bytes over what the others leave: the mean of a processor-sharing queue, which
//! depends on no distribution (Kleinrock, Queueing Systems II, 1976, section 4.4). Reads are few, and bunch after a
//! failure: one takes its bytes over an equal share of what the writers leave, with those who read when it begins. A job
//! keeps the times that it found when it was placed.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use offtake_units::{Duration, Timestamp};
use offtake_workload::Checkpoint;

use crate::progress::Saving;

/// Of a thousand parts of the bandwidth, those that no flow of others takes away.
const LEAST_SHARE: u128 = 50;

/// One site's storage.
#[derive(Clone, Debug)]
pub(crate) struct Storage {
    /// Bytes a second; none for more than anybody needs.
    bandwidth: Option<u64>,
    /// What the jobs that run write, in bytes a second.
    flow: u128,
    /// When those who read are done.
    readers: BinaryHeap<Reverse<Timestamp>>,
}

impl Storage {
    pub(crate) fn new(bandwidth: Option<u64>) -> Self {
        Self { bandwidth, flow: 0, readers: BinaryHeap::new() }
    }

    /// How long a checkpoint is read that a job begins to load now.
    pub(crate) fn read(&mut self, now: Timestamp, bytes: u64) -> Duration {
        while self.readers.peek().is_some_and(|Reverse(done)| *done <= now) {
            self.readers.pop();
        }
        let time = self.time(u128::from(bytes) * (self.readers.len() as u128 + 1));
        if time > Duration::ZERO {
            self.readers.push(Reverse(now.saturating_add(time)));
        }
        time
    }

    /// How a job that begins to run saves its work.
    pub(crate) fn saving(&self, checkpoint: Checkpoint) -> Saving {
        Saving { interval: checkpoint.interval, write: self.time(u128::from(checkpoint.bytes)) }
    }

    /// A job writes from now on, or no more.
    pub(crate) fn flows(&mut self, bytes: u64, saving: Saving, more: bool) {
        let cycle = (saving.interval + saving.write).as_millis().max(1) as u128;
        let flow = u128::from(bytes) * 1000 / cycle;
        self.flow = if more { self.flow + flow } else { self.flow - flow };
    }

    /// How long so many bytes take over what the writers leave.
    fn time(&self, bytes: u128) -> Duration {
        let Some(bandwidth) = self.bandwidth.map(u128::from) else { return Duration::ZERO };
        let free = bandwidth.saturating_sub(self.flow).max(bandwidth * LEAST_SHARE / 1000).max(1);
        Duration::from_millis(i64::try_from((bytes * 1000).div_ceil(free)).unwrap_or(i64::MAX / 4))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GB: u64 = 1_000_000_000;

    #[test]
    fn those_who_read_and_write_share_the_bandwidth() {
        let mut storage = Storage::new(Some(10 * GB));
        let checkpoint = Checkpoint { interval: Duration::from_secs(90), bytes: 100 * GB };
        let saving = storage.saving(checkpoint);
        assert_eq!(saving.write, Duration::from_secs(10));
        storage.flows(checkpoint.bytes, saving, true);
        assert_eq!(storage.saving(checkpoint).write, Duration::from_millis(11_112), "1 of 10 GB/s is taken");
        let now = Timestamp::EPOCH;
        assert_eq!(storage.read(now, 90 * GB), Duration::from_secs(10));
        assert_eq!(storage.read(now, 90 * GB), Duration::from_secs(20), "two read at a time");
        assert_eq!(storage.read(now + Duration::from_secs(15), 90 * GB), Duration::from_secs(20), "the first is done");
        storage.flows(checkpoint.bytes, saving, false);
        assert_eq!(storage.saving(checkpoint).write, Duration::from_secs(10));
    }

    #[test]
    fn storage_without_a_limit_costs_nothing() {
        let mut storage = Storage::new(None);
        assert_eq!(storage.read(Timestamp::EPOCH, u64::MAX), Duration::ZERO);
        assert_eq!(storage.time(u128::MAX / 2000), Duration::ZERO);
    }
}
