//! Those who wait for the end of a step.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::Notify;

/// Those who wait for the end of a step, by the job.
#[derive(Debug, Default)]
pub(crate) struct StepWaiters {
    jobs: Mutex<HashMap<u64, Arc<Notify>>>,
}

impl StepWaiters {
    /// Is notified when a step of the job has ended, or the attempt.
    pub(crate) fn of(&self, job: u64) -> Arc<Notify> {
        let mut jobs = self.jobs.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(jobs.entry(job).or_default())
    }

    /// Steps of these jobs have ended.
    pub(crate) fn wake(&self, ended: &[u64]) {
        if ended.is_empty() {
            return;
        }
        let mut jobs = self.jobs.lock().unwrap_or_else(PoisonError::into_inner);
        for job in ended {
            if let Some(waiters) = jobs.remove(job) {
                waiters.notify_waiters();
            }
        }
    }
}
