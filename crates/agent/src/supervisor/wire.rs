//! What agents and supervisors say to each other: one JSON object a line.

use offtake_protocol::agent::Exit;
use serde::{Deserialize, Serialize};

use super::core::Cause;
use super::launch::StopPlan;

/// What an agent tells a supervisor. Each may come more than once.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Command {
    /// Start the worker. Ignored once it was started or is to end.
    Go,
    /// The lease holds until this instant of [`super::boot_now_ms`]. A lease that was given is never cut short: the
    /// latest instant counts.
    Lease {
        /// When it ends.
        until_ms: u64,
    },
    /// Send a signal and go on. Ignored when nothing runs.
    Signal {
        /// The signal, as this machine numbers it.
        signal: i32,
        /// To which processes.
        to: Whom,
    },
    /// All of the worker's processes stand still until they are to go on, or to end. Ignored when nothing runs.
    Pause,
    /// They go on.
    Resume,
    /// End the worker with grace; at once where it stands still. A second one can only hasten the end.
    Stop(StopPlan),
    /// End the worker and its whole tree now.
    Kill,
}

/// Which processes get a signal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Whom {
    /// The worker and all that descend from it.
    Tree,
    /// Only the process that was started: of a batch script, its shell.
    Worker,
    /// All that descend from the worker, and not the worker: of a batch script, what its shell has started, so that the
    /// shell waits for them.
    Descendants,
}

/// Where a worker stands. A supervisor tells it to each connection at once, and again when it changes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// All is ready, and nothing runs.
    Prepared,
    /// The worker runs.
    Running {
        /// Its process, which also leads its session and its process group.
        pid: i32,
        /// Since when, in milliseconds since 1970.
        since_ms: i64,
        /// Whether all of its processes stand still, as it was told.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        paused: bool,
    },
    /// The worker is being ended, or has ended and what is left of its tree is being ended.
    Stopping,
    /// Nothing of it runs any more, or ever did. It is on disk, and the supervisor leaves.
    Ended(Ended),
}

/// How a worker ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ended {
    /// How.
    pub exit: Exit,
    /// What brought the end about, where it was not the worker itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cause: Option<Cause>,
    /// Of a worker that was not started: whether that is the node's fault, so that another node may do.
    #[serde(default)]
    pub node_fault: bool,
    /// When it started, in milliseconds since 1970; none when it never ran.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started_ms: Option<i64>,
    /// When nothing of it ran any more, in milliseconds since 1970.
    pub ended_ms: i64,
    /// Processor time of its whole tree, in milliseconds; none where it was not measured.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpu_ms: Option<u64>,
    /// The most memory at one time, in KiB: of the whole tree where a control group measured it, otherwise of its
    /// largest process; none where it was not measured.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub peak_memory_kib: Option<u64>,
    /// Bytes of output that could not be kept, as when the disk was full.
    #[serde(default)]
    pub lost_output_bytes: u64,
}
