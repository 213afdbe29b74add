//! What a job's workers execute, and what is to happen around it. A trace has none; a job that is to run has one.

use std::collections::BTreeMap;

use offtake_units::{Duration, Timestamp};
use serde::{Deserialize, Serialize};

/// What a job executes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Program {
    /// What is started.
    pub start: Start,
    /// Environment variables, beside those that tell a worker its place in the job.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub environment: BTreeMap<String, String>,
    /// The working directory; the home of the user when empty.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub directory: String,
    /// File for standard output, with Slurm's `%` patterns; none for a file that the node keeps.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub output: Option<String>,
    /// File for standard error; none for the same as standard output where that is named, otherwise a file that the
    /// node keeps.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// Whether output files that exist are added to rather than emptied; a restart always adds.
    #[serde(default, skip_serializing_if = "is_false")]
    pub append: bool,
    /// What a step that names no layout of its own starts.
    #[serde(default)]
    pub layout: Layout,
    /// How it is stopped.
    #[serde(default)]
    pub stop: Stop,
    /// A signal some time before the time limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub warning: Option<Warning>,
    /// Whether it starts again when a node is lost, and when an operator requeues it.
    #[serde(default, skip_serializing_if = "is_false")]
    pub requeue: bool,
    /// How often it starts again after a failure of its own: a worker that ended with another status than 0.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub restarts: u32,
    /// Jobs that must have come so far before this one may start; all of them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub after: Vec<Dependency>,
    /// Its place in a job array.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub array: Option<ArrayTask>,
    /// It does not start before this instant.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub begin: Option<Timestamp>,
    /// Whom its workers run as: set by the server from its tenant map or a socket's peer credentials, never by a
    /// request.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<User>,
    /// It is submitted on hold: it waits until it is released.
    #[serde(default, skip_serializing_if = "is_false")]
    pub hold: bool,
}

/// A user of a node's operating system.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum User {
    /// By name, looked up on the node.
    Name(String),
    /// By number, as a socket's peer credentials tell it; the group is the user's own on the node.
    Id(u32),
}

/// What is started.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Start {
    /// Every worker runs this program with these arguments; at least the program.
    Command(Vec<String>),
    /// The body runs once, on the first node, as a batch script does under Slurm; it starts steps on the others.
    Script {
        /// The text, its first line `#!` and an interpreter.
        text: String,
        /// Arguments.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        arguments: Vec<String>,
    },
}

/// How many tasks a step starts where it does not say so itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Layout {
    /// Tasks in all; none for one a worker.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tasks: Option<u32>,
    /// Tasks on each node.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tasks_per_node: Option<u32>,
    /// Processor cores of one task.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpus_per_task: Option<u32>,
}

/// How a job is stopped: checkpoint signal, grace, SIGTERM, grace, SIGKILL to the whole tree.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stop {
    /// Signal that asks the workers to save their work and end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub checkpoint_signal: Option<i32>,
    /// Time they get for it before SIGTERM.
    #[serde(default)]
    pub checkpoint_grace: Duration,
    /// Time between SIGTERM and SIGKILL.
    pub grace: Duration,
}

impl Default for Stop {
    /// No checkpoint signal, and 30 seconds from SIGTERM to SIGKILL as Slurm's `KillWait` has it.
    fn default() -> Self {
        Self { checkpoint_signal: None, checkpoint_grace: Duration::ZERO, grace: Duration::from_secs(30) }
    }
}

/// A signal some time before the time limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Warning {
    /// The signal.
    pub signal: i32,
    /// How long before the limit.
    pub before: Duration,
    /// Only the batch script gets it, not the steps that it started (`B:` in Slurm).
    pub script_only: bool,
}

/// Another job that must have come so far.
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Dependency {
    /// The job's identity.
    pub job: u64,
    /// How far.
    pub when: When,
}

/// How far a job must have come.
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum When {
    /// It has started, or has been cancelled.
    Started,
    /// It has ended, however.
    Ended,
    /// It has finished with status 0; when it ends otherwise, the dependent job is cancelled.
    Succeeded,
    /// It has failed; when it succeeds, the dependent job is cancelled.
    Failed,
}

/// A job's place in a job array.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ArrayTask {
    /// The identity of the array: of its first job.
    pub array: u64,
    /// This job's index.
    pub index: u32,
    /// Indices in the array.
    pub count: u32,
    /// The lowest index.
    pub first: u32,
    /// The highest index.
    pub last: u32,
    /// Between two indices.
    pub step: u32,
    /// Jobs of the array that may run at one time; none for any number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at_once: Option<u32>,
}

const fn is_false(value: &bool) -> bool {
    !*value
}

const fn is_zero(value: &u32) -> bool {
    *value == 0
}
