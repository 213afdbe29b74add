//! The API under `/v1`: what is sent and what is answered, in JSON. Instants are milliseconds since 1970 UTC.
//!
//! `docs/api.md` explains it; `docs/openapi.json` is generated from these types.

use std::collections::BTreeMap;

use offtake_units::{Duration, Timestamp};
use offtake_workload::{Dependency, JobFile, Reservation, Tier, human};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::agent::{EnergySource, Exit, Isolation};

/// What went wrong, as RFC 9457 has it; the content type is `application/problem+json`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Problem {
    /// The HTTP status.
    pub status: u16,
    /// A word for programs, such as `unknown_job`.
    pub code: String,
    /// What is wrong and how to mend it.
    pub detail: String,
    /// The field that is wrong.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub field: Option<String>,
    /// In a batch, which of the jobs is meant; from 0.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub index: Option<usize>,
}

/// Where a job stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum JobState {
    /// It waits for its turn and for room.
    Pending,
    /// It waits until it is released, until another job has ended, or until it may begin.
    Held,
    /// It has its nodes; its workers are being started.
    Starting,
    /// It runs.
    Running,
    /// Its workers are being ended.
    Stopping,
    /// It has ended with status 0.
    Finished,
    /// It has ended otherwise.
    Failed,
    /// It was withdrawn.
    Cancelled,
}

impl JobState {
    /// All states.
    pub const ALL: [Self; 8] = [
        Self::Pending,
        Self::Held,
        Self::Starting,
        Self::Running,
        Self::Stopping,
        Self::Finished,
        Self::Failed,
        Self::Cancelled,
    ];

    /// Whether it has ended for good.
    pub const fn is_over(self) -> bool {
        matches!(self, Self::Finished | Self::Failed | Self::Cancelled)
    }

    /// The word for it.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Held => "held",
            Self::Starting => "starting",
            Self::Running => "running",
            Self::Stopping => "stopping",
            Self::Finished => "finished",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
        }
    }
}

/// `POST /v1/jobs/batch`: many jobs, all or none of them.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SubmitBatch {
    /// The jobs, at most 10,000.
    pub jobs: Vec<JobFile>,
}

/// What can be said of a deadline.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// It can be met, if running work ends when it is expected to and nothing comes before the job.
    Possible,
    /// It cannot be met, even if nothing comes before the job.
    Impossible,
    /// Nobody knows: the job has no time limit, or waits for work that has none.
    Unknown,
}

/// Whether a job can end by its deadline.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Deadline {
    /// The deadline.
    pub deadline_ms: i64,
    /// Whether it can be met.
    pub verdict: Verdict,
    /// When the job can start at the earliest; none when nobody knows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub earliest_start_ms: Option<i64>,
    /// When it would then end, should it need all of its time limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub would_end_ms: Option<i64>,
    /// The same in one sentence.
    pub summary: String,
}

/// A job was accepted, and is on disk.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Submitted {
    /// Its identity; of an array, that of its first job and of the array itself.
    pub id: u64,
    /// Jobs: 1, or the number of indices of an array, whose identities follow each other.
    pub count: u32,
    /// Where it stands.
    pub state: JobState,
    /// Whether it can end by its deadline, where it has one; of an array, its first job. Left out behind the first 64
    /// such jobs of a batch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deadline: Option<Deadline>,
}

/// The jobs of a batch were accepted, and are on disk.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct SubmittedBatch {
    /// In the order of the batch.
    pub jobs: Vec<Submitted>,
}

/// A job.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct JobView {
    /// Its identity.
    pub id: u64,
    /// Its name.
    pub name: String,
    /// Where it stands.
    pub state: JobState,
    /// Why it stands there, in a few words: what it waits for, how it ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Who pays.
    pub tenant: String,
    /// Whom it runs as.
    pub user: String,
    /// Who may displace whom.
    pub tier: Tier,
    /// Workers, of all gangs.
    pub workers: u32,
    /// Chips that it asks for, in thousandths.
    pub chip_milli: u64,
    /// Processor cores that it asks for, in thousandths.
    pub cpu_milli: u64,
    /// When it was submitted.
    pub submitted_ms: i64,
    /// When it is expected to start, where it waits and somebody can tell.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub start_estimate: Option<StartEstimate>,
    /// When it last started.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started_ms: Option<i64>,
    /// When it ended for good.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended_ms: Option<i64>,
    /// How long it may run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit_ms: Option<i64>,
    /// When it must have ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deadline_ms: Option<i64>,
    /// The reservation in which it runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reservation: Option<String>,
    /// Nodes that it has, or last had, in the order of their ranks.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub nodes: Vec<String>,
    /// How often it has been placed.
    pub attempts: u32,
    /// The status of what was submitted: 0 to 255, or 128 plus a signal's number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exit_code: Option<i32>,
    /// Its place in an array.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub array: Option<ArrayView>,
    /// How many replicas run, where it is a service.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service: Option<ServiceView>,
    /// The service of which it is a replica.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replica_of: Option<u64>,
    /// Jobs that must have come so far before it may start.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub after: Vec<Dependency>,
    /// What it runs, shortened.
    pub command: String,
    /// The working directory.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub directory: String,
}

/// How many replicas a service has.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ServiceView {
    /// Replicas that run.
    pub running: u32,
    /// Replicas that are wanted now.
    pub replicas: u32,
    /// The fewest.
    pub minimum: u32,
    /// The most.
    pub maximum: u32,
    /// The level over whose domains they are spread.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub spread: Option<String>,
    /// The most wanted replicas that may be down at one time by our own will; any number where left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub disruption_budget: Option<u32>,
}

/// A service, with its replicas counted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ListedService {
    /// Its identity.
    pub id: u64,
    /// Its name.
    pub name: String,
    /// Where it stands: as its replica that has come farthest.
    pub state: JobState,
    /// Who pays.
    pub tenant: String,
    /// Who may displace whom.
    pub tier: Tier,
    /// How many replicas run and are wanted, and its bounds.
    pub service: ServiceView,
    /// Replicas that have nodes and do not run yet.
    pub starting: u32,
    /// Replicas that wait: for a place, or until they may start again.
    pub waiting: u32,
    /// Replicas that are being stopped, those included that do not come back.
    pub stopping: u32,
    /// Replicas that have to leave drained nodes.
    pub on_drained: u32,
    /// Replicas that its load was last said to need, whatever its bounds are.
    pub demand: u32,
    /// Whether it has a demand curve, which says so anew at each full hour.
    pub has_curve: bool,
    /// The domains over which it is spread and the replicas that have nodes there, the most first; empty where it is not
    /// spread.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub domains: Vec<ReplicasIn>,
    /// What its replicas wait for, in a few words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub waits_for: Option<String>,
}

/// Replicas that have nodes in one domain.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ReplicasIn {
    /// The domain, by its path.
    pub domain: String,
    /// How many.
    pub replicas: u32,
}

/// On what an estimate rests.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Basis {
    /// Its nodes are kept for it from then on: it starts no later if running work ends when it is expected to.
    Kept,
    /// A look ahead from the state as it was: running work and whoever goes first take as long as they are expected to,
    /// and nobody new comes.
    LookAhead,
}

/// When a job that waits is expected to start.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct StartEstimate {
    /// When.
    pub start_ms: i64,
    /// On what that rests.
    pub basis: Basis,
    /// As of when it was estimated.
    pub as_of_ms: i64,
}

/// A job's place in an array.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ArrayView {
    /// The array's identity.
    pub id: u64,
    /// The job's index.
    pub index: u32,
}

/// `GET /v1/jobs/{id}`: a job with its history.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct JobDetail {
    /// The job.
    pub job: JobView,
    /// Its attempts, the first first.
    pub attempts: Vec<AttemptView>,
    /// What it has used so far.
    pub receipt: Receipt,
}

/// One placement of a job, and what came of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct AttemptView {
    /// From 1.
    pub number: u32,
    /// When it was placed.
    pub placed_ms: i64,
    /// When all its workers ran.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started_ms: Option<i64>,
    /// When the last of them had ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended_ms: Option<i64>,
    /// How it ended, in words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub outcome: Option<String>,
    /// Its nodes, in the order of their ranks.
    pub nodes: Vec<String>,
    /// How its workers ended, where not all with status 0; at most 64.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub failures: Vec<WorkerFailure>,
}

/// A worker that did not end with status 0.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct WorkerFailure {
    /// Its place in the step.
    pub rank: u32,
    /// Its node.
    pub node: String,
    /// How it ended.
    #[schema(value_type = Object)]
    pub exit: Exit,
}

/// What a job has used.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Receipt {
    /// Time that it waited, in milliseconds; all attempts.
    pub waited_ms: i64,
    /// Time that it ran, in milliseconds.
    pub ran_ms: i64,
    /// How often it started again.
    pub restarts: u32,
    /// Chip-hours that were allocated to it.
    pub chip_hours: f64,
    /// Core-hours that were allocated to it.
    pub core_hours: f64,
    /// Chip-hours (core-hours for a job without chips) whose work was lost.
    pub lost_hours: f64,
    /// Share of the allocated time whose work survived, from 0 to 1.
    pub goodput: f64,
    /// Energy at the servers, in kilowatt-hours.
    pub energy_kwh: f64,
    /// How that is known: `measured` by which meter, or `modelled`.
    pub energy_source: String,
    /// Energy at the grid connection, in kilowatt-hours.
    pub facility_kwh: f64,
    /// What the energy cost, by currency; empty where no price is known.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub energy_cost: BTreeMap<String, f64>,
    /// What it emitted, in kilograms of CO2; none where no intensity is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub co2_kg: Option<f64>,
}

impl Eq for Receipt {}

/// `GET /v1/jobs`: a page of jobs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct JobPage {
    /// The jobs, by identity, the youngest first.
    pub jobs: Vec<JobView>,
    /// What to give as `before` for the next page; none when this is the last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<u64>,
}

/// The query of `GET /v1/jobs`.
#[derive(Clone, Debug, Default, Serialize, Deserialize, ToSchema, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct JobQuery {
    /// States, separated by commas; those that are not over when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state: Option<String>,
    /// All states.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub all: Option<bool>,
    /// Only this tenant's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tenant: Option<String>,
    /// Only those of this name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Only those that run as this user.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// Only those of this array.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub array: Option<u64>,
    /// Only identities below this one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub before: Option<u64>,
    /// At most so many: 1 to 10,000; 1,000 when left out.
    #[param(minimum = 1, maximum = 10_000)]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<u32>,
}

/// `POST /v1/jobs/{id}/cancel`.
#[derive(Clone, Debug, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Cancel {
    /// Send this signal instead, such as `USR1`, and let it run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signal: Option<String>,
    /// End its workers at once, without any grace.
    #[serde(default)]
    pub now: bool,
}

/// `POST /v1/jobs/{id}/scale`: how many replicas a service has from now on. Either `replicas`, or one or both of the
/// others.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Scale {
    /// So many, neither more nor less.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replicas: Option<u32>,
    /// The fewest; as before when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub minimum: Option<u32>,
    /// The most; as before when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub maximum: Option<u32>,
}

/// `PUT /v1/jobs/{id}/demand`: how many replicas the load of a service needs now.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Demand {
    /// Replicas; what is less than the service's minimum or more than its maximum counts as that.
    pub replicas: u32,
}

/// `GET /v1/jobs/{id}/why`: why a job waits, or why it is where it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Why {
    /// The job.
    pub id: u64,
    /// Where it stands.
    pub state: JobState,
    /// The answer in one sentence.
    pub summary: String,
    /// What it asks for, in words.
    pub asks: String,
    /// What is missing now, one line a gang: how much of what; empty for a job that does not wait for room.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub missing: Vec<String>,
    /// Where it would fit best: a domain, and what is free there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nearest: Option<String>,
    /// What stands in the way: jobs with when they end, nodes that are down or drained, caps, work before it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub blockers: Vec<String>,
    /// When it will start at the latest, if running work ends when it is expected to; none when nobody knows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub earliest_start_ms: Option<i64>,
    /// When it is expected to start, with those before it in mind; none when nobody knows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub start_estimate: Option<StartEstimate>,
    /// How long it is planned to run where that is less than it asked for, and why; its time limit stays what it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub planned: Option<String>,
    /// Whether it can end by its deadline, where it has one and waits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deadline: Option<Deadline>,
    /// Jobs that come before it in its lane of the queue.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub jobs_before: Option<u64>,
    /// For a job that prefers a level at a cost: how wide it lies, or may by now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub levels: Option<Levels>,
    /// For a placed job: why there, and how often it should save its work.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub placed: Vec<String>,
    /// For a running job, where it was asked for: what would displace it, and how likely.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub risk: Option<Risk>,
    /// For a job that is not over: the policy in force, under which all this is so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub policy: Option<PolicyInForce>,
}

/// How wide a job lies that prefers a level at a cost, or may lie by now.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Levels {
    /// Levels by which it lies wider than it prefers; of a waiting job, by which it may by now.
    pub crossed: u32,
    /// Of a placed job: the share of its speed at which it goes there, in millionths.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub speed_ppm: Option<u32>,
    /// Of a waiting job: until when it waits before one level wider will do; none while it is not the first of its kind to
    /// wait for room, or where any level will do.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub crosses_ms: Option<i64>,
}

/// Which policy is in force.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PolicyInForce {
    /// The policy's name; `custom` where it is like none that has one.
    pub name: String,
    /// How often a policy was set, as `GET /v1/policy` says.
    pub version: u64,
}

/// What would displace a running job, and how likely.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Risk {
    /// How far it is looked ahead.
    pub horizon_ms: i64,
    /// It is being stopped already.
    pub stopping: bool,
    /// The tiers whose work may displace it under the policy in force; none where nothing may.
    pub displaced_by: Vec<Tier>,
    /// Thousandths of chips of its kinds of accelerator that its tenant has borrowed, where the policy lets their owners
    /// take them back: then work of its own tier may displace it too.
    #[serde(default)]
    pub borrowed_chip_milli: u64,
    /// Until when it is left alone, where it was placed a short time ago.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub protected_until_ms: Option<i64>,
    /// How many stronger jobs wait and would choose it now.
    pub chosen_by: u64,
    /// Those of them that the caller may know of.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub chosen_by_jobs: Vec<u64>,
    /// How many stronger jobs wait and would choose others, or find nobody; of each kind of job the first.
    pub spared_by: u64,
    /// The chance that one of its chips is interrupted within the horizon, at one interruption in 50,700 hours of a chip,
    /// in millionths.
    pub failure_ppm: u32,
    /// The chance that it is displaced or interrupted within the horizon, in millionths.
    pub any_ppm: u32,
    /// What it loses when it is stopped now: work that is not saved, and the start, in milliseconds of a chip.
    pub loss_chip_ms: u64,
    /// What it loses on average within the horizon, in milliseconds of a chip.
    pub expected_loss_chip_ms: u64,
}

/// The query of `GET /v1/jobs/{id}/why`.
#[derive(Clone, Debug, Default, Serialize, Deserialize, ToSchema, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct WhyQuery {
    /// For a running job, say what would displace it within a day, too.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub risk: Option<bool>,
}

/// The query of `GET /v1/jobs/{id}/logs`; the answer is one [`crate::agent::LogPiece`] a line.
#[derive(Clone, Debug, Default, Serialize, Deserialize, ToSchema, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct LogQuery {
    /// The attempt; the last when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attempt: Option<u32>,
    /// The step; 0, what was submitted, when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub step: Option<u32>,
    /// Only this rank.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rank: Option<u32>,
    /// Go on until the step has ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub follow: Option<bool>,
    /// Begin with so many bytes at the end of each stream.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tail_bytes: Option<u64>,
}

/// `POST /v1/jobs/{id}/steps`: a step inside a running job; what `srun` asks for. Needs the job's own token.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct StepRequest {
    /// The program and its arguments.
    pub command: Vec<String>,
    /// Tasks in all; as the job's layout says when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tasks: Option<u32>,
    /// Nodes, the first of the job's; all when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nodes: Option<u32>,
    /// Only these nodes of the job.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub node_list: Vec<String>,
    /// Tasks on each node.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tasks_per_node: Option<u32>,
    /// Processor cores of one task.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpus_per_task: Option<u32>,
    /// Chips of one task; the node's share over its tasks when left out, and all of it where that does not divide.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub chips_per_task: Option<u16>,
    /// Environment variables.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub environment: BTreeMap<String, String>,
    /// The working directory.
    #[serde(default)]
    pub directory: String,
    /// File for standard output.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub output: Option<String>,
    /// File for standard error.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// The step ends when any of its tasks ends with another status than 0.
    #[serde(default)]
    pub kill_on_bad_exit: bool,
}

/// A step of a job.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct StepView {
    /// The job.
    pub job: u64,
    /// The attempt.
    pub attempt: u32,
    /// The step; 0 is what was submitted.
    pub step: u32,
    /// Where it stands.
    pub state: JobState,
    /// Its tasks.
    pub tasks: u32,
    /// Its nodes, in the order of their ranks.
    pub nodes: Vec<String>,
    /// The highest status of its tasks, once all have ended: 0 to 255, or 128 plus a signal's number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exit_code: Option<i32>,
    /// How it ended, in words, where not well.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// Whether a node takes work.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum NodeState {
    /// It has room.
    Idle,
    /// Some of it is in use.
    Mixed,
    /// All of it is in use.
    Allocated,
    /// It takes no new work; work still runs.
    Draining,
    /// It takes no new work, and none runs.
    Drained,
    /// It cannot be reached.
    Down,
    /// Its agent has never joined.
    Expected,
}

/// A node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct NodeView {
    /// Its name.
    pub name: String,
    /// Whether it takes work.
    pub state: NodeState,
    /// Why it is drained or down.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// The domain that holds it.
    pub domain: String,
    /// Its kind in the fleet.
    pub kind: String,
    /// Kind of its accelerators.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub accelerator: Option<String>,
    /// Its chips.
    pub chips: u16,
    /// Chips in use, in thousandths.
    pub chip_milli_in_use: u64,
    /// Processor cores for work, in thousandths.
    pub cpu_milli: u64,
    /// Of these in use.
    pub cpu_milli_in_use: u64,
    /// Memory for work, in MiB.
    pub memory_mib: u64,
    /// Of it in use.
    pub memory_mib_in_use: u64,
    /// Jobs on it.
    pub jobs: Vec<u64>,
    /// Where other nodes reach it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address: Option<String>,
    /// When its agent last reported.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seen_ms: Option<i64>,
    /// The agent's version.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agent_version: Option<String>,
    /// What holds workers apart there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub isolation: Option<Isolation>,
    /// Draw, in watts: measured, or by the model.
    pub power_w: u64,
    /// How that is known.
    #[schema(value_type = String)]
    pub power_source: EnergySource,
    /// Why its chips are not kept to power levels though they have some: work there is stopped where it would be
    /// throttled.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub not_throttled: Option<String>,
}

/// `POST /v1/nodes/{name}/drain`.
#[derive(Clone, Debug, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Drain {
    /// Why.
    pub reason: String,
}

/// `GET /v1/fleet`: the fleet in figures.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct FleetView {
    /// Its name.
    pub name: String,
    /// The policy in force.
    pub policy: String,
    /// Names of its levels, the widest first.
    pub levels: Vec<String>,
    /// Nodes.
    pub nodes: u64,
    /// Of these, ready for work: neither down nor drained.
    pub nodes_ready: u64,
    /// Chips.
    pub chips: u64,
    /// Chips in use by tier, in thousandths: reserved, guaranteed, standard, spot.
    pub chip_milli_in_use: [u64; 4],
    /// Processor cores, in thousandths.
    pub cpu_milli: u64,
    /// Of these in use.
    pub cpu_milli_in_use: u64,
    /// Draw at the servers, in watts.
    pub power_w: u64,
    /// Draw at the grid connections, in watts.
    pub facility_w: u64,
    /// Jobs by state.
    pub jobs: BTreeMap<String, u64>,
    /// Domains, the widest first.
    pub domains: Vec<DomainView>,
    /// Caps.
    pub caps: Vec<CapView>,
    /// Circuits.
    #[serde(default)]
    pub circuits: Vec<CircuitView>,
    /// What the sensors of nodes showed, of each site with such nodes.
    #[serde(default)]
    pub metered: Vec<MeteredView>,
}

/// A domain in figures.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct DomainView {
    /// Its name from its site down, joined by `/`.
    pub path: String,
    /// Its level.
    pub level: String,
    /// Nodes.
    pub nodes: u64,
    /// Of these, ready for work.
    pub nodes_ready: u64,
    /// Chips.
    pub chips: u64,
    /// Chips in use, in thousandths.
    pub chip_milli_in_use: u64,
    /// Draw at its servers, in watts.
    #[serde(default)]
    pub power_w: u64,
}

/// Energy at those nodes of a site whose sensors show the draw of the whole node. What is metered and not counted is
/// unallocated: no receipt and no cap knows of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct MeteredView {
    /// The site.
    pub site: String,
    /// Since when, in milliseconds since 1970.
    pub since_ms: i64,
    /// By the sensors, in millijoules.
    pub metered_mj: u64,
    /// By the figures of the fleet, in millijoules.
    pub counted_mj: u64,
    /// What of it was booked last, by the sensors.
    pub last_metered_mj: u64,
    /// The same by the figures of the fleet.
    pub last_counted_mj: u64,
}

/// A circuit and what it carries.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct CircuitView {
    /// Its name.
    pub name: String,
    /// The site at which it is.
    pub site: String,
    /// What it may carry for continuous load, in volt-amperes.
    pub allows_va: u64,
    /// What it carries while all circuits are there, in volt-amperes.
    pub used_va: u64,
    /// Circuits of one group stand in for each other.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub redundancy_group: Option<String>,
    /// What it feeds.
    pub feeds: Vec<FeedView>,
}

/// A domain on a circuit.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct FeedView {
    /// The domain's path.
    pub domain: String,
    /// The share of its draw that comes over the circuit, in millionths.
    pub share_ppm: u32,
}

/// A cap and what is drawn under it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct CapView {
    /// Its name.
    pub name: String,
    /// What it allows, in watts.
    pub watts: u64,
    /// What the fleet file says that it allows, in watts; nothing where that is what it allows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub declared_w: Option<u64>,
    /// What is counted under it, in watts.
    pub used_w: u64,
}

/// `PUT /v1/caps/{name}`.
#[derive(Clone, Debug, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SetCap {
    /// What it allows from now on, in watts; what the fleet file says where this is left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub watts: Option<u64>,
}

/// `PUT /v1/grid/events/{name}`: for a time a cap is to allow less.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct GridEvent {
    /// The cap.
    pub cap: String,
    /// What it is to allow, in watts. This, or `cut_ppm`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub watts: Option<u64>,
    /// How much less than is drawn under it now, in millionths of that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cut_ppm: Option<u32>,
    /// By when no more is drawn, as in RFC 3339; ten seconds from now where that is sooner, or nothing is said.
    #[schema(value_type = Option<String>, format = DateTime)]
    #[serde(default, with = "human::optional_timestamp", skip_serializing_if = "Option::is_none")]
    pub at: Option<Timestamp>,
    /// For how long, such as `3h`.
    #[schema(value_type = String)]
    #[serde(with = "human::duration")]
    pub hold: Duration,
}

/// A grid event that is not over.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct GridEventView {
    /// Its name.
    pub name: String,
    /// The cap that is to allow less.
    pub cap: String,
    /// What it is to allow, in watts.
    pub watts: u64,
    /// By when no more is drawn.
    pub from_ms: i64,
    /// Until when.
    pub until_ms: i64,
    /// Where it stands.
    pub state: GridEventState,
    /// What is drawn under the cap now, in watts.
    pub used_w: u64,
    /// What is drawn without any work, in watts, where that is more than is to be drawn: it cannot be met, and this is what
    /// can be had.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub least_w: Option<u64>,
}

/// Where a grid event stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum GridEventState {
    /// Its time is to come.
    Announced,
    /// Its cap allows no more than it says.
    Active,
}

/// `GET /v1/policy`: the policy in force.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PolicyView {
    /// How many policies have been set so far, this one included.
    pub version: u64,
    /// The named policy that it is, or `custom`.
    pub name: String,
    /// The policy as a policy file.
    pub toml: String,
}

/// `PUT /v1/policy`: another policy.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SetPolicy {
    /// The policy as a policy file.
    pub toml: String,
}

/// A tenant with those below it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct TenantView {
    /// Its name; empty for that which stands for all.
    pub name: String,
    /// The tenant that it hangs below; empty below the root, none for the root and where the caller may not know it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parent: Option<String>,
    /// Its weight among its siblings.
    pub weight: u32,
    /// Its dominant share of the fleet over its weight, in millionths.
    pub share_ppm: u32,
    /// Jobs that run.
    pub running_jobs: u64,
    /// Their chips, in thousandths.
    pub running_chip_milli: u64,
    /// Jobs that wait.
    pub pending_jobs: u64,
    /// Their chips, in thousandths.
    pub pending_chip_milli: u64,
    /// The most jobs that may run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub most_running_jobs: Option<u32>,
    /// The most chips of jobs that run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub most_running_chips: Option<u32>,
    /// The most jobs that may wait.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub most_pending_jobs: Option<u32>,
    /// The most chips of jobs that wait.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub most_pending_chips: Option<u32>,
    /// By kind of accelerator that is under quota or in use.
    pub quota: Vec<QuotaView>,
}

/// A tenant's chips of one kind, in thousandths; only what is in use where the kind is not under quota.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct QuotaView {
    /// The kind of accelerator.
    pub accelerator: String,
    /// In use by it and those below it.
    pub in_use_chip_milli: u64,
    /// Its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nominal_chip_milli: Option<u64>,
    /// Its own and what those below it lend.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subtree_chip_milli: Option<u64>,
    /// The most that it may borrow beyond that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub borrowing_limit_chip_milli: Option<u64>,
    /// The most of that which it lends.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lending_limit_chip_milli: Option<u64>,
    /// What it has borrowed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub borrowed_chip_milli: Option<u64>,
    /// What it does not use and yet could not have now, as others have borrowed it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lent_chip_milli: Option<u64>,
    /// What it could still use now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub available_chip_milli: Option<u64>,
}

/// Which moves `GET /v1/defrag` plans.
#[derive(Clone, Debug, Default, Serialize, Deserialize, ToSchema, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct DefragQuery {
    /// The waiting job for which a block is opened; those that are first in line when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub job: Option<u64>,
}

/// `POST /v1/defrag`: moves that win more than they lose are carried out.
#[derive(Clone, Debug, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct DefragRequest {
    /// The waiting job for which a block is opened; those that are first in line when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub job: Option<u64>,
}

/// Moves that open blocks for gangs that wait.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Defrag {
    /// A plan for each job for which there is one, each as if it were the only one.
    pub plans: Vec<DefragPlan>,
}

/// Moves that open a block for one job.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct DefragPlan {
    /// The job that waits.
    pub job: u64,
    /// Its name.
    pub name: String,
    /// The level and path of the innermost domain around what is opened.
    pub opens: String,
    /// The nodes that the job gets, the first 64.
    pub nodes: Vec<String>,
    /// Who goes where.
    pub moves: Vec<DefragMove>,
    /// What those who are moved lose, in milliseconds of a chip: unsaved work, and the time to start again.
    pub cost_chip_ms: u64,
    /// What is won, in milliseconds of a chip: the chips of the job for as long as it would wait longer otherwise.
    pub gain_chip_ms: u64,
    /// Whether more is won than lost.
    pub pays: bool,
    /// When the job would start.
    pub start_ms: i64,
    /// When it would start otherwise; left out where nobody can tell, which counts as a day.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub start_otherwise_ms: Option<i64>,
}

/// A job that saves its work, stops and starts again elsewhere.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct DefragMove {
    /// The job.
    pub job: u64,
    /// Its name.
    pub name: String,
    /// Its chips, in thousandths.
    pub chip_milli: u64,
    /// The nodes where it runs, the first 64.
    pub from: Vec<String>,
    /// The nodes that it goes to, the first 64.
    pub to: Vec<String>,
}

/// Where a reservation stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum ReservationState {
    /// Its window lasts.
    Active,
    /// It has nodes for its next window.
    Planned,
    /// It recurs, and has no nodes for its next window yet.
    Waiting,
}

impl ReservationState {
    /// All states.
    pub const ALL: [Self; 3] = [Self::Active, Self::Planned, Self::Waiting];

    /// The word for it.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Planned => "planned",
            Self::Waiting => "waiting",
        }
    }
}

/// A reservation, or a maintenance window.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ReservationView {
    /// What was asked for.
    pub asked: Reservation,
    /// Where it stands.
    pub state: ReservationState,
    /// When its window begins, or should.
    pub start_ms: i64,
    /// When its window ends, or should.
    pub end_ms: i64,
    /// The nodes of its window.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub nodes: Vec<String>,
    /// Jobs that name it and run, as far as the caller may see them.
    pub running_jobs: u64,
    /// Jobs that name it and wait, as far as the caller may see them.
    pub pending_jobs: u64,
}

/// `POST /v1/what-if`: what would happen. Nothing is changed.
#[derive(Clone, Debug, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct WhatIfRequest {
    /// Domains or nodes that take no new work from now on.
    #[serde(default)]
    pub drain: Vec<String>,
    /// Domains or nodes that are lost now.
    #[serde(default)]
    pub lose: Vec<String>,
    /// Caps for some time.
    #[serde(default)]
    pub caps: Vec<WhatIfCap>,
    /// Grid events that are announced now.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub grid_events: Vec<GridEvent>,
    /// Jobs that are submitted now.
    #[serde(default)]
    pub submit: Vec<JobFile>,
    /// This policy, as a policy file, is put in force now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub policy: Option<String>,
    /// How far ahead, in milliseconds; until all work with an end has ended, but no more than 30 days, when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub horizon_ms: Option<i64>,
}

/// A cap on a domain for some time.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct WhatIfCap {
    /// The domain.
    pub domain: String,
    /// What it allows, at the servers, in watts.
    pub watts: u64,
    /// From when; now when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from_ms: Option<i64>,
    /// Until when; for ever when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until_ms: Option<i64>,
}

/// What would happen, beside what happens otherwise.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct WhatIf {
    /// From when it was looked ahead.
    pub from_ms: i64,
    /// Until when.
    pub until_ms: i64,
    /// The answer in one sentence.
    pub summary: String,
    /// As it is.
    pub otherwise: Outlook,
    /// As it would be.
    pub then: Outlook,
    /// Jobs for which something changes, those hurt most first; at most 1,000.
    pub jobs: Vec<JobChange>,
    /// Jobs for which something changes.
    pub changed: u64,
}

/// A look ahead, in figures.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Outlook {
    /// Jobs that finish.
    pub finished: u64,
    /// Jobs that still run at the end.
    pub running: u64,
    /// Jobs that still wait at the end.
    pub waiting: u64,
    /// Jobs that can never run.
    pub refused: u64,
    /// Jobs that are stopped and start again.
    pub restarted: u64,
    /// The mean wait of those that wait now or come, in milliseconds; waits that last count so far.
    pub mean_wait_ms: i64,
    /// Chip-time lost, in chip-milliseconds.
    pub lost_chip_ms: u64,
    /// The highest draw at the servers, in watts.
    pub peak_w: u64,
}

/// What changes for a job.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct JobChange {
    /// The job; 0 and its name for one that is not submitted.
    pub id: u64,
    /// Its name.
    pub name: String,
    /// In words: `starts 2 h later`, `moves from a to b`, `is stopped and starts again`, `can never run`.
    pub change: String,
    /// When it starts otherwise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub start_otherwise_ms: Option<i64>,
    /// When it would start.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub start_then_ms: Option<i64>,
    /// When it ends otherwise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub end_otherwise_ms: Option<i64>,
    /// When it would end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub end_then_ms: Option<i64>,
}

/// What a token allows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// Everything.
    Operator,
    /// The jobs of one tenant.
    Member {
        /// The tenant.
        tenant: String,
    },
    /// To see everything, and change nothing.
    Reader,
}

/// `POST /v1/tokens`: a new token.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct TokenRequest {
    /// Its name, for people; unique.
    pub name: String,
    /// What it allows.
    pub role: Role,
    /// Whom jobs submitted with it run as; as the tenant map says when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// Until when it holds; for ever when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_ms: Option<i64>,
}

/// A token, which is told once and never again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct TokenMade {
    /// Its name.
    pub name: String,
    /// The token.
    pub token: String,
}

/// A token without its secret.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct TokenView {
    /// Its name.
    pub name: String,
    /// What it allows.
    pub role: Role,
    /// Whom jobs submitted with it run as.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// Until when it holds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_ms: Option<i64>,
}

/// `POST /v1/join-tokens`: lets one node join, once.
#[derive(Clone, Debug, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct JoinTokenRequest {
    /// Only a node of this name; any when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node: Option<String>,
    /// How long it holds; a day when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub valid_ms: Option<i64>,
}

/// A token that lets one node join. It carries the fingerprint of the server's certificate where that is not signed by
/// a known authority: `TOKEN` or `TOKEN.FINGERPRINT`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct JoinTokenMade {
    /// The token.
    pub token: String,
    /// Until when it holds.
    pub expires_ms: i64,
}

/// `GET /v1/health`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Health {
    /// `ready`, or `read_only` when the journal takes nothing.
    pub status: String,
    /// The last fact on disk.
    pub sequence: u64,
    /// What is wrong.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
}

/// `GET /v1/version`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct VersionView {
    /// The server's version.
    pub version: String,
    /// The API's: `v1`.
    pub api: String,
    /// The protocol of the agents.
    pub agent_protocol: u32,
    /// The epoch: how often the journal was opened.
    pub epoch: u64,
}
