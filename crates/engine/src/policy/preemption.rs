//! When weaker work is stopped for stronger work, and what that is held to cost.

use offtake_units::Duration;
use offtake_workload::{Job, Tier};
use serde::{Deserialize, Serialize};

/// When weaker work is stopped for stronger work, and what that is held to cost.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Preemption {
    /// What each chip of a stopped job loses beside unsaved work: the time until the job has started again.
    pub restart: Duration,
    /// The time in which a stopped job saves its work and ends, where the job does not say.
    pub grace: Duration,
    /// Whether work that may be stopped is moved elsewhere for a job for which nobody can be stopped, where more is won
    /// than lost.
    pub moves: bool,
    /// Whether quota that is lent is taken back for its owner: work of those that borrow is stopped for a job of the same
    /// tier whose tenant stays within its own.
    pub reclaim: bool,
    /// For how long work that was placed is left alone, by tier, the strongest first.
    pub minimum_run: [Duration; 4],
}

impl Default for Preemption {
    /// Ten minutes to start again: "The Llama 3 Herd of Models" (2024, section 3.3.4) tells of 466 interruptions in 54 days
    /// at over 90 % effective training time, which leaves at most 17 minutes for each, unsaved work included.
    fn default() -> Self {
        Self {
            restart: Duration::from_secs(600),
            grace: Duration::MINUTE,
            moves: false,
            reclaim: false,
            minimum_run: [Duration::HOUR, Duration::HOUR, Duration::from_secs(1_800), Duration::from_secs(600)],
        }
    }
}

impl Preemption {
    /// For how long work of a tier is left alone.
    pub const fn minimum_run(&self, tier: Tier) -> Duration {
        self.minimum_run[tier as usize]
    }

    /// The time in which a job saves its work and ends once it is stopped; never none.
    pub fn grace_of(&self, job: &Job) -> Duration {
        let Some(program) = &job.program else { return self.grace.max(Duration::from_millis(1)) };
        let stop = &program.stop;
        let saving = stop.checkpoint_signal.map_or(Duration::ZERO, |_| stop.checkpoint_grace);
        (saving + stop.grace).max(Duration::from_millis(1))
    }
}
