//! What a supervisor is told of its worker.

use std::collections::BTreeMap;
use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::wire::Whom;
use crate::isolation::Group;

/// File with the [`WorkerLaunch`], in the worker's folder.
pub(super) const LAUNCH_FILE: &str = "worker.json";

/// Everything that a supervisor must know to run a worker.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WorkerLaunch {
    /// The program and its arguments; at least the program. One without a slash is looked up in the worker's `PATH`.
    pub arguments: Vec<String>,
    /// The worker's whole environment: it inherits nothing. The supervisor adds `OFFTAKE_SUPERVISOR`, by which what is
    /// left of the worker is found when the supervisor was killed.
    pub environment: BTreeMap<String, String>,
    /// The working directory; absolute.
    pub directory: PathBuf,
    /// Whom it runs as; none for whoever runs the agent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub credentials: Option<Credentials>,
    /// File for standard output, taken from `directory` when relative; none for one that the node keeps. It is opened
    /// as the worker's user when the worker is prepared.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub output: Option<PathBuf>,
    /// File for standard error; none for one that the node keeps. May be the same as `output`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<PathBuf>,
    /// Whether output files that exist are added to rather than emptied. Emptying happens when the worker is prepared,
    /// so workers that share a file do not empty it under each other.
    pub append: bool,
    /// Mask of the permissions that new files do not get, such as `0o022`.
    pub umask: u32,
    /// Processor cores that the worker may use; empty for all.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub cpus: Vec<u32>,
    /// Control groups that it joins, made by [`crate::isolation::Node::create`]; none without. The supervisor removes
    /// them at the end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group: Option<Group>,
    /// Resource limits that differ from the agent's own.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub limits: Vec<ResourceLimit>,
    /// How much output the node keeps.
    pub logs: LogLimits,
    /// How it is stopped when the supervisor itself gets SIGTERM, as when the machine shuts down.
    pub stop: StopPlan,
    /// When the first lease ends, by [`super::boot_now_ms`].
    pub lease_until_ms: u64,
}

/// Whom a worker runs as.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Credentials {
    /// The user.
    pub uid: u32,
    /// The user's own group.
    pub gid: u32,
    /// Further groups.
    pub groups: Vec<u32>,
}

/// A resource limit, as `setrlimit` has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ResourceLimit {
    /// What is limited.
    pub resource: Resource,
    /// The limit; none for no limit.
    pub soft: Option<u64>,
    /// Up to where the worker may raise it; none for no limit. Only root can set it above the agent's own.
    pub hard: Option<u64>,
}

/// A resource that has a limit for each process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Resource {
    /// Size of a core dump, in bytes.
    CoreSize,
    /// Memory that may be locked, in bytes, as for RDMA.
    LockedMemory,
    /// Open files.
    OpenFiles,
    /// Stack, in bytes.
    Stack,
}

/// How much output of one stream the node keeps: `files` files of `file_bytes`. The oldest goes when a new one begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogLimits {
    /// Size at which a new file begins, in bytes; at least 1.
    pub file_bytes: u64,
    /// Files that are kept; at least 1.
    pub files: u32,
}

impl Default for LogLimits {
    /// Four files of 16 MiB.
    fn default() -> Self {
        Self { file_bytes: 16 << 20, files: 4 }
    }
}

/// How a worker is stopped: checkpoint signal, grace, SIGTERM, grace, SIGKILL to the whole tree.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StopPlan {
    /// The signal that asks it to save its work and end, and who gets it; none to begin with SIGTERM.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub checkpoint: Option<(i32, Whom)>,
    /// Time between that signal and SIGTERM, in milliseconds.
    #[serde(default)]
    pub checkpoint_grace_ms: u64,
    /// Time between SIGTERM and SIGKILL, in milliseconds.
    pub grace_ms: u64,
}

/// Writes what [`read`] reads.
pub(super) fn write(dir: &Path, worker: &WorkerLaunch) -> io::Result<()> {
    // The environment holds the job's token: nobody else may read it.
    let mut options = OpenOptions::new();
    let mut file = options.write(true).create(true).truncate(true).mode(0o600).open(dir.join(LAUNCH_FILE))?;
    file.write_all(&serde_json::to_vec(worker)?)
}

/// Reads what [`write`] wrote.
pub(super) fn read(dir: &Path) -> io::Result<WorkerLaunch> {
    Ok(serde_json::from_slice(&fs::read(dir.join(LAUNCH_FILE))?)?)
}
