//! What is known of each job beyond what the engine needs: its attempts, their steps and tasks, how it ended.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use offtake_engine::{Placement, StopReason};
use offtake_protocol::agent::{EnergySource, NodeShare, NumberedSignal, TaskEnd, WorkerSpec};
use offtake_protocol::rest::{JobState, StepRequest, WorkerFailure};
use offtake_units::{Ppm, Timestamp};
use offtake_workload::{Dependency, Job, Program, Service};
use serde::{Deserialize, Serialize};

use super::attempts::ran;

/// A job.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Record {
    /// What was asked for.
    pub spec: Arc<Job>,
    /// When.
    pub submitted: Timestamp,
    /// What it waits for, other than its turn and room.
    pub held: Held,
    /// Its placements, the first first.
    pub attempts: Vec<Attempt>,
    /// How it ended; none while it has not.
    pub end: Option<End>,
    /// Chip-milliseconds (of a job without chips: core-milliseconds, both in thousandths) whose work was lost.
    pub lost: i128,
    /// What else is known of a service, whose replicas have records of their own; of any other job none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service: Option<ServiceRecord>,
}

/// What is known of a service beyond what the engine needs.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ServiceRecord {
    /// What was asked for.
    pub asked: Arc<Service>,
    /// Its replicas that are not over.
    pub replicas: BTreeSet<u64>,
    /// It is withdrawn, and over once its last replica is.
    pub cancelled: bool,
}

/// What a job waits for, other than its turn and room.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Held {
    /// Someone put it on hold.
    pub by_user: bool,
    /// Its start failed too often.
    pub by_failed_starts: bool,
    /// The health policy holds it, as so many of its nodes failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub killed_nodes: Option<u64>,
    /// Jobs that have not come as far as they must.
    pub after: Vec<Dependency>,
    /// It does not start before.
    pub begin: Option<Timestamp>,
    /// As many of its array run as may run at one time.
    pub by_array: bool,
}

impl Held {
    /// Whether it waits for anything.
    pub const fn is_held(&self) -> bool {
        let by_name = self.by_user || self.by_failed_starts || self.killed_nodes.is_some();
        by_name || !self.after.is_empty() || self.begin.is_some() || self.by_array
    }
}

/// How a job ended.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct End {
    /// Finished, failed or cancelled.
    pub state: JobState,
    /// When.
    pub at: Timestamp,
    /// Why, where there is more to say.
    pub reason: Option<String>,
}

/// One placement of a job.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Attempt {
    /// From 1.
    pub number: u32,
    /// When it was placed.
    pub placed: Timestamp,
    /// When all its workers ran.
    pub started: Option<Timestamp>,
    /// When nothing of it ran any more.
    pub ended: Option<Timestamp>,
    /// Where.
    pub placement: Arc<Placement>,
    /// Its nodes in the order of their ranks.
    pub shares: Arc<[Share]>,
    /// When it has reached its limit of time, which moves while it is throttled or paused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit_at: Option<Timestamp>,
    /// The share of its speed that the power level of its chips leaves it; none where it was never throttled.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub speed: Option<Ppm>,
    /// Since when it is paused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub paused_since: Option<Timestamp>,
    /// By when its agents have to have limited its chips, or paused it.
    #[serde(skip)]
    pub obey_by: Option<Timestamp>,
    /// It got its signal before the limit of time.
    #[serde(skip)]
    pub warned: bool,
    /// Why it is being ended.
    pub stop: Option<StopReason>,
    /// When it has to have ended, whatever it has saved.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stop_by: Option<Timestamp>,
    /// The status of what was submitted.
    pub exit_code: Option<i32>,
    /// How it ended, in words.
    pub outcome: Option<String>,
    /// Workers that did not end with status 0; at most 64.
    pub failures: Vec<WorkerFailure>,
    /// Energy at the servers, in millijoules.
    pub energy_mj: u64,
    /// How that is known.
    pub energy_source: EnergySource,
    /// What runs: step 0 is what was submitted.
    pub steps: BTreeMap<u32, Step>,
    /// The next step's number.
    pub next_step: u32,
    /// No grace is given any more.
    #[serde(skip)]
    pub kill: bool,
}

/// What an attempt has of one node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Share {
    /// The node.
    pub node: Arc<str>,
    /// Its workers, each with its chips as bits.
    pub workers: Vec<u64>,
    /// The rank of the first of them.
    pub first_rank: u32,
}

impl Share {
    /// The chips of all workers, as bits.
    pub fn chips(&self) -> u64 {
        self.workers.iter().fold(0, |chips, of_worker| chips | of_worker)
    }
}

/// Equal programs that start together on some of an attempt's nodes.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Step {
    /// What `srun` asked for; none for step 0.
    pub request: Option<Arc<StepRequest>>,
    /// One a node.
    pub tasks: Vec<Task>,
    /// Workers in all.
    pub world: u32,
    /// The nodes, as their workers are told.
    pub nodes: Arc<[NodeShare]>,
    /// Its status and how it ended, once nothing of it runs any more.
    pub ended: Option<(i32, Option<String>)>,
    /// All have prepared: they are to run.
    #[serde(skip)]
    pub go: bool,
    /// It is to end, though the attempt goes on.
    #[serde(skip)]
    pub stop: bool,
}

/// A step's share on one node.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Task {
    /// The node.
    pub node: Arc<str>,
    /// Its place among the step's nodes.
    pub node_rank: u32,
    /// Its workers.
    pub workers: Vec<WorkerSpec>,
    /// What its agent last said.
    #[serde(skip)]
    pub seen: Seen,
    /// How it ended.
    #[serde(skip)]
    pub end: Option<TaskEnd>,
    /// A signal to its workers.
    #[serde(skip)]
    pub signal: Option<NumberedSignal>,
    /// Whether its agent last said that it stands still.
    #[serde(skip)]
    pub paused: bool,
}

/// How far a task has come, as its agent last said. Grows only.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Seen {
    /// The agent has not spoken of it.
    #[default]
    Unknown,
    /// It is being made ready.
    Preparing,
    /// It is ready.
    Prepared,
    /// Its workers run.
    Running,
    /// They are being ended.
    Stopping,
    /// Nothing of it runs any more.
    Ended,
}

impl Record {
    /// A job that was just asked for.
    pub(crate) const fn new(spec: Arc<Job>, submitted: Timestamp, held: Held) -> Self {
        Self { spec, submitted, held, attempts: Vec::new(), end: None, lost: 0, service: None }
    }

    /// Whether it is a replica of a service.
    pub(crate) fn is_replica(&self) -> bool {
        self.service.is_none() && self.spec.service.is_some()
    }

    /// What it runs.
    pub fn program(&self) -> Option<&Arc<Program>> {
        self.spec.program.as_ref()
    }

    /// Its last placement.
    pub fn current(&self) -> Option<&Attempt> {
        self.attempts.last()
    }

    /// Its placement, if it has its nodes now.
    pub(crate) fn live(&self) -> Option<&Attempt> {
        self.attempts.last().filter(|attempt| attempt.ended.is_none())
    }

    /// Its placement, if it has its nodes now.
    pub(crate) fn live_mut(&mut self) -> Option<&mut Attempt> {
        self.attempts.last_mut().filter(|attempt| attempt.ended.is_none())
    }
}

impl Attempt {
    /// Whether nothing of any step runs, as far as agents have said.
    pub(crate) fn is_quiet(&self) -> bool {
        self.steps.values().flat_map(|step| &step.tasks).all(|task| task.seen == Seen::Ended)
    }
}

impl Step {
    /// Whether all tasks have prepared, so that they may run: each says so, or one runs already, by the word of an
    /// earlier run of the server. One that its agent ends by itself may never have prepared.
    pub(crate) fn is_ready(&self) -> bool {
        let ready = |task: &Task| match task.seen {
            Seen::Prepared | Seen::Running => true,
            Seen::Unknown | Seen::Preparing | Seen::Stopping => false,
            Seen::Ended => ran(task.end.as_ref()),
        };
        self.tasks.iter().any(|task| task.seen == Seen::Running) || self.tasks.iter().all(ready)
    }

    /// Whether all tasks have come at least so far.
    pub(crate) fn all(&self, seen: Seen) -> bool {
        self.tasks.iter().all(|task| task.seen >= seen)
    }
}
