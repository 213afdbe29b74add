//! What is to be looked at later, without looking at all of it in each pass.

use std::collections::{BTreeMap, BTreeSet};

use offtake_units::Timestamp;

use crate::fact::JobId;

/// Jobs that are to be looked at, and when.
#[derive(Clone, Debug, Default)]
pub struct Later {
    by_job: BTreeMap<JobId, Timestamp>,
    in_order: BTreeSet<(Timestamp, JobId)>,
}

impl Later {
    /// Of what an image holds.
    pub fn restore(by_job: BTreeMap<JobId, Timestamp>) -> Self {
        let in_order = by_job.iter().map(|(job, at)| (*at, *job)).collect();
        Self { by_job, in_order }
    }

    /// Whether a job is to be looked at.
    pub fn has(&self, job: JobId) -> bool {
        self.by_job.contains_key(&job)
    }

    /// When a job is to be looked at.
    pub fn at(&self, job: JobId) -> Option<Timestamp> {
        self.by_job.get(&job).copied()
    }

    /// When the next is to be looked at.
    pub fn next(&self) -> Option<Timestamp> {
        self.in_order.first().map(|(at, _)| *at)
    }

    /// As data.
    pub const fn image(&self) -> &BTreeMap<JobId, Timestamp> {
        &self.by_job
    }

    /// A job is to be looked at, at an instant, and no other.
    pub fn until(&mut self, job: JobId, at: Timestamp) {
        self.forget(job);
        self.by_job.insert(job, at);
        self.in_order.insert((at, job));
    }

    /// A job is not to be looked at any more.
    pub fn forget(&mut self, job: JobId) {
        if let Some(at) = self.by_job.remove(&job) {
            self.in_order.remove(&(at, job));
        }
    }

    /// The next job whose time has come.
    pub fn pop_due(&mut self, now: Timestamp) -> Option<JobId> {
        let (at, job) = self.in_order.first().copied()?;
        (at <= now).then(|| {
            self.forget(job);
            job
        })
    }
}
