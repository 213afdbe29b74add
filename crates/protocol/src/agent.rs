//! What server and agents say to each other.
//!
//! Both always tell the whole: the server all that it wants of a node ([`Orders`]), the agent all that it has
//! ([`Report`]). So a message that is lost, doubled or late does no harm: the newest counts, by epoch and version, and
//! older ones are ignored.
//!
//! A *task* is one step's share on one node. Step 0 of a job's attempt is what was submitted; `srun` inside it asks for
//! further steps. All tasks of a step start together or not at all: the server orders [`Want::Prepare`] of all, and
//! [`Want::Run`] only once all have prepared.
//!
//! A task that the orders do not list (any more) is to be ended, if it lives, and forgotten. An agent lists a task that
//! has ended until the orders leave it out, which they do only once the end is on the server's disk.

use std::collections::BTreeMap;
use std::sync::Arc;

use offtake_units::{CpuMilli, Mebibytes};
use offtake_workload::{Layout, Start, Stop, User};
use serde::{Deserialize, Serialize};

/// The version of this protocol; a server refuses agents that speak another.
pub const VERSION: u32 = 1;

/// One step's share on one node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct TaskId {
    /// The job.
    pub job: u64,
    /// How often the job had been placed when this was ordered; from 1.
    pub attempt: u32,
    /// The step; 0 is what was submitted.
    pub step: u32,
}

impl std::fmt::Display for TaskId {
    /// As in file names: `17.1.0`.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}.{}.{}", self.job, self.attempt, self.step)
    }
}

/// Which of two messages of a server is newer: the later start of the server, then the later message.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Edition {
    /// Grows each time that a server opens its journal.
    pub epoch: u64,
    /// Grows with each change of a node's orders within an epoch.
    pub version: u64,
}

/// Everything that the server wants of one node.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Orders {
    /// Which orders these are.
    pub edition: Edition,
    /// The report that these answer.
    pub answers: u64,
    /// How long they hold, in milliseconds, from the moment that the agent sent the report that they answer. An agent
    /// that hears nothing newer ends its work before that.
    pub lease_ms: u32,
    /// All tasks, by identity.
    pub tasks: Vec<Order>,
    /// Power limits of chips; those that are not named have none of the server's. None where nothing is said, and all
    /// stay as they are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limits: Option<ChipLimits>,
    /// Output that somebody wants to read.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub logs: Vec<LogRequest>,
}

/// The most that each chip may draw, in watts, by its place on the node.
pub type ChipLimits = BTreeMap<u16, u32>;

/// What the server wants of one task.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Order {
    /// The task.
    pub task: TaskId,
    /// What is wanted.
    pub want: Want,
    /// A signal to send once to its workers: those with a higher number than the last one sent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signal: Option<NumberedSignal>,
    /// Whether its workers stand still once they run: none of their processes goes on until the orders say otherwise.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub paused: bool,
    /// What it is; left out once the agent has reported the task.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub spec: Option<Arc<TaskSpec>>,
}

/// What the server wants of a task.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Want {
    /// Everything is made ready, and nothing runs yet.
    Prepare,
    /// Its workers run. Wanted at once where a step has no other task.
    Run,
    /// Its workers end: by [`TaskSpec::stop`].
    Stop,
    /// Its workers end now, without any grace.
    Kill,
}

/// A signal that is sent once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NumberedSignal {
    /// Grows with each signal to the task.
    pub number: u32,
    /// The signal, as Linux numbers it on x86-64.
    pub signal: i32,
}

/// Everything that an agent must know to run a task.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TaskSpec {
    /// The job's name.
    pub job_name: String,
    /// Who pays.
    pub tenant: String,
    /// Whom the workers run as; named by the server's tenant map or a socket's peer credentials, never by a request.
    pub user: User,
    /// What is started.
    pub start: Start,
    /// Environment variables of the job.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub environment: BTreeMap<String, String>,
    /// The working directory; the user's home when empty.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub directory: String,
    /// File for standard output, with Slurm's `%` patterns; none for a file that the node keeps.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub output: Option<String>,
    /// File for standard error; none for where standard output goes, or for a file that the node keeps.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// Whether output files that exist are added to.
    pub append: bool,
    /// How it is stopped.
    pub stop: Stop,
    /// Whether its workers end together: when one of them ends otherwise than with status 0, the agent stops the others
    /// on its node at once, without a checkpoint. So it is with the gang of a command, and with `srun -K`; the tasks of
    /// any other step go on.
    #[serde(default)]
    pub ends_together: bool,
    /// The job's own layout of tasks, for what workers are told of it.
    pub layout: Layout,
    /// Processor of one worker, in thousandths of a core.
    pub cpu: CpuMilli,
    /// Memory of one worker; none for no limit.
    pub memory: Mebibytes,
    /// The workers here, by rank.
    pub workers: Vec<WorkerSpec>,
    /// Workers of the step, on all its nodes.
    pub world_size: u32,
    /// This node's place among `nodes`.
    pub node_rank: u32,
    /// All nodes of the step, in the order of their ranks.
    pub nodes: Arc<[NodeShare]>,
    /// The path of this node's domain, from its site inwards, joined by `/`; empty where an older server says nothing.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub domain: String,
    /// A TCP port on the first node for the workers to meet at.
    pub port: u16,
    /// Its place in a job array.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub array: Option<offtake_workload::ArrayTask>,
    /// When the time limit is reached, counted from the start of the attempt, in milliseconds; none for no limit. For
    /// what workers are told; the server ends them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit_ms: Option<i64>,
    /// How often the job has been started before.
    pub restarts: u32,
    /// Speaks for the job to the server while the attempt lasts: what `srun` and `sbatch` inside the job use.
    pub job_token: String,
}

/// One worker on a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WorkerSpec {
    /// Its place in the step.
    pub rank: u32,
    /// Its place on the node.
    pub local_rank: u32,
    /// The chips that it may use, as bits: bit 0 is the node's first.
    pub chips: u64,
}

/// A node's part in a step.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeShare {
    /// Its name.
    pub name: String,
    /// Where other nodes reach it: a host name or an address.
    pub address: String,
    /// Workers on it.
    pub workers: u32,
}

/// Everything that an agent has.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// The run of the agent that reports: drawn at its start.
    pub session: u64,
    /// Grows with each report of a session.
    pub version: u64,
    /// The newest orders that it has.
    pub seen: Edition,
    /// Whether the agent waits for news: the answer may be held back until there are any, but no longer than
    /// [`Report::wait_ms`].
    pub wait_ms: u32,
    /// All tasks, by identity.
    pub tasks: Vec<TaskReport>,
    /// How its chips are limited; none where the agent cannot limit them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limits: Option<Limited>,
    /// What the node measures and finds, when there is something new to say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub condition: Option<Condition>,
    /// The agent ends its run in good order: nothing of it runs any more, and its lease is over.
    #[serde(default)]
    pub leaves: bool,
}

/// How the chips of a node are limited.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limited {
    /// The limits that are in force, but for those that the chips had before.
    pub set: ChipLimits,
    /// Why a limit that was ordered is not in force, if that ever happened in this run of the agent: it is to be
    /// trusted with none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failed: Option<String>,
}

/// Where a task stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TaskReport {
    /// The task.
    pub task: TaskId,
    /// Where it stands.
    pub phase: TaskPhase,
    /// Whether all of its workers stand still, as it was ordered.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub paused: bool,
}

/// Where a task stands on its node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TaskPhase {
    /// It is being made ready: directories, prolog, supervisors.
    Preparing,
    /// All is ready, and nothing runs.
    Prepared,
    /// Its workers run.
    Running {
        /// Since when, by the node's clock, in milliseconds since 1970.
        since_ms: i64,
    },
    /// Its workers are being ended.
    Stopping,
    /// Nothing of it runs any more, or ever did.
    Ended(TaskEnd),
}

/// How a task ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TaskEnd {
    /// Why it never ran; none when it ran.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refused: Option<TaskRefusal>,
    /// How each worker ended, by rank; empty where none ran.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub workers: Vec<WorkerEnd>,
    /// Energy that it took at the node, in millijoules.
    pub energy_mj: u64,
    /// How that is known.
    pub energy_source: EnergySource,
    /// Processor time, in milliseconds; none where it was not measured.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpu_ms: Option<u64>,
    /// The most memory at one time, in KiB; none where it was not measured.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub peak_memory_kib: Option<u64>,
}

/// Why a task never ran.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TaskRefusal {
    /// In words for the user.
    pub reason: String,
    /// Whether it is the node's fault, so that another may do; otherwise the job's.
    pub node_fault: bool,
}

/// How a worker ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WorkerEnd {
    /// Its place in the step.
    pub rank: u32,
    /// How.
    pub exit: Exit,
    /// When it started, by the node's clock, in milliseconds since 1970.
    pub started_ms: i64,
    /// When it ended.
    pub ended_ms: i64,
}

/// How a process ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Exit {
    /// By itself, with a status.
    Status(i32),
    /// By a signal.
    Signal(i32),
    /// It could not be started: its program is missing, its directory is not there.
    NotStarted(String),
    /// Nobody knows how it would have ended: whoever watched it is gone, or its node ended it when it was cut off from
    /// the server. It is dead.
    Unknown(String),
}

/// How an amount of energy is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EnergySource {
    /// The node measures none: the server's model of the node applies.
    Model,
    /// The chips' own energy counters (NVML).
    ChipCounter,
    /// The chips' power, sampled.
    ChipPower,
    /// The processor's energy counters (RAPL), shared by processor time.
    Processor,
    /// The whole node's power sensor (hwmon, IPMI), shared by what was allocated.
    Node,
}

/// What a node measures and finds.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Condition {
    /// Why the node must not take new work: a health check that failed; none when all is well.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unhealthy: Option<String>,
    /// Draw of the node now, in milliwatts; none where it is not measured.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub power_mw: Option<u64>,
    /// How that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub power_source: Option<EnergySource>,
    /// Load average of one minute, in thousandths.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub load_milli: Option<u32>,
    /// Memory available, in MiB.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub free_memory_mib: Option<u64>,
}

/// Somebody wants to read output of a task on this node. The agent sends it to the server in pieces, as it grows, until
/// the request is gone from the orders.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogRequest {
    /// Names the request; never reused within an epoch.
    pub id: u64,
    /// The task, which may have ended long ago.
    pub task: TaskId,
    /// Only this rank; none for all on the node.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rank: Option<u32>,
    /// Whether what is written later is wanted too, until the task has ended.
    pub follow: bool,
    /// Only so many bytes at the end of each stream to begin with; none for all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tail_bytes: Option<u64>,
}

/// The query of the last `POST /v1/agents/logs/{id}` for a [`LogRequest`]: all that was asked for has been sent. Each
/// such post carries [`LogPiece`]s, one JSON object a line; the last may have none. The server answers 410 when nobody
/// reads any more, upon which the agent sends no more.
pub const LOG_END_QUERY: &str = "last=true";

/// A piece of output, one JSON object a line in what an agent sends for a [`LogRequest`], and in what a reader of logs
/// gets.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct LogPiece {
    /// The worker's place in the step.
    pub rank: u32,
    /// Which of its streams.
    pub stream: Stream,
    /// Where in the stream this begins, in bytes.
    pub offset: u64,
    /// The text; bytes that are no UTF-8 are replaced.
    pub text: String,
}

/// A stream of output.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Stream {
    /// Standard output; standard error too, where both go to one file.
    Output,
    /// Standard error.
    Error,
}

/// What an agent says of its node when it joins.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeDescription {
    /// The protocol that the agent speaks: [`VERSION`].
    pub protocol: u32,
    /// The agent's own version.
    pub agent_version: String,
    /// The node's name.
    pub name: String,
    /// Where other nodes reach it.
    pub address: String,
    /// Processor cores for work.
    pub cpus: u32,
    /// Memory for work.
    pub memory: Mebibytes,
    /// Kind of its accelerators, as fleet files name them (`h100`, `trn2`); none for a host without any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub accelerator: Option<String>,
    /// Number of accelerators.
    pub chips: u16,
    /// Memory of one chip.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub chip_memory: Option<Mebibytes>,
    /// The most that one chip may draw, in watts, where the driver tells it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub chip_watts: Option<u32>,
    /// Driver, kernel and other attributes that jobs may require.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub attributes: BTreeMap<String, String>,
    /// What holds workers apart here.
    pub isolation: Isolation,
    /// Where the agent measures power.
    pub power_sources: Vec<EnergySource>,
}

/// What holds workers apart on a node.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Isolation {
    /// Workers run only on the cores given to them.
    pub cpus: bool,
    /// Workers get no more memory than was given to them.
    pub memory: bool,
    /// The number of processes is limited.
    pub pids: bool,
    /// Workers cannot open chips that were not given to them. A node without it runs one tenant at a time.
    pub devices: bool,
    /// By what: `cgroup v2`, `cgroup v1`, `affinity`.
    pub by: Vec<String>,
}

/// A node asks to join.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Join {
    /// A token that lets one node join, once.
    pub token: String,
    /// The agent's Ed25519 public key, 32 bytes in hexadecimal. Every later request is signed with its secret half.
    pub public_key: String,
    /// The node.
    pub node: NodeDescription,
}

/// The node has joined.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Joined {
    /// The name under which the server knows the node.
    pub node: String,
    /// The server's lease, in milliseconds.
    pub lease_ms: u32,
}

/// Header that names the agent's node.
pub const NODE_HEADER: &str = "offtake-node";
/// Header with the time of signing, in milliseconds since 1970. The server takes requests of the last five minutes.
pub const TIME_HEADER: &str = "offtake-time";
/// Header with the signature, in hexadecimal, of what [`signed_text`] gives.
pub const SIGNATURE_HEADER: &str = "offtake-signature";

/// The bytes that an agent signs: method, path with query, time and the SHA-256 of the body in hexadecimal, each ended
/// by a line feed.
pub fn signed_text(method: &str, path: &str, time_ms: i64, body_sha256_hex: &str) -> Vec<u8> {
    format!("{method}\n{path}\n{time_ms}\n{body_sha256_hex}\n").into_bytes()
}
