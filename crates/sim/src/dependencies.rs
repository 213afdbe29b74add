//! Jobs that wait until others have come so far.

use std::collections::BTreeMap;
use std::sync::Arc;

use offtake_workload::{Job, When};

/// How far a job has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Milestone {
    Started,
    Succeeded,
    Failed,
    Cancelled,
}

/// What becomes of a job when another comes further.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    /// It waits for nothing more.
    Released,
    /// It waits for what can no longer be.
    InVain,
}

/// Where a job stands that waits for others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Standing {
    /// So many have not come so far.
    Waits(usize),
    /// One can no longer come so far.
    InVain,
}

/// Who waits for whom in a workload, by place.
#[derive(Debug, Default)]
pub(crate) struct Dependencies {
    dependents: BTreeMap<usize, Vec<(usize, When)>>,
    waiting: BTreeMap<usize, Standing>,
}

impl Dependencies {
    /// Of all jobs. One that is named and not there has come as far as it ever will.
    pub fn of(jobs: &[Arc<Job>]) -> Self {
        let mut dependencies = Self::default();
        if jobs.iter().all(|job| job.after.is_empty()) {
            return dependencies;
        }
        let places: BTreeMap<&str, usize> =
            jobs.iter().enumerate().map(|(place, job)| (job.name.as_str(), place)).collect();
        for (place, job) in jobs.iter().enumerate() {
            for predecessor in &job.after {
                let Some(other) = places.get(predecessor.job.as_str()) else { continue };
                dependencies.dependents.entry(*other).or_default().push((place, predecessor.when));
                match dependencies.waiting.entry(place).or_insert(Standing::Waits(0)) {
                    Standing::Waits(count) => *count += 1,
                    Standing::InVain => {}
                }
            }
        }
        dependencies
    }

    /// Where a job stands that comes; nothing where it may start.
    pub fn at_arrival(&self, job: usize) -> Option<Standing> {
        self.waiting.get(&job).copied()
    }

    /// A job has come so far: for whom that changes something, and what.
    pub fn passed(&mut self, job: usize, milestone: Milestone) -> Vec<(usize, Fate)> {
        let Some(dependents) = self.dependents.remove(&job) else { return Vec::new() };
        let mut fates = Vec::new();
        let mut left = Vec::new();
        for (dependent, when) in dependents {
            let outcome = fulfils(milestone, when);
            if outcome.is_none() {
                left.push((dependent, when));
            }
            let (Some(met), Some(Standing::Waits(count))) = (outcome, self.waiting.get_mut(&dependent)) else {
                continue;
            };
            if !met {
                self.waiting.insert(dependent, Standing::InVain);
                fates.push((dependent, Fate::InVain));
            } else if *count > 1 {
                *count -= 1;
            } else {
                self.waiting.remove(&dependent);
                fates.push((dependent, Fate::Released));
            }
        }
        if !left.is_empty() {
            self.dependents.insert(job, left);
        }
        fates
    }
}

/// Whether a job that has come so far fulfils what another waits for; none when it may yet.
pub(crate) const fn fulfils(milestone: Milestone, when: When) -> Option<bool> {
    match (when, milestone) {
        (When::Started, _) | (When::Ended, Milestone::Succeeded | Milestone::Failed | Milestone::Cancelled) => {
            Some(true)
        }
        (_, Milestone::Started) => None,
        (When::Succeeded, Milestone::Succeeded) | (When::Failed, Milestone::Failed) => Some(true),
        (When::Succeeded, _) | (When::Failed, _) => Some(false),
    }
}
