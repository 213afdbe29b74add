//! A job as people and programs write it: the TOML job file, the body of a submission, and what a `#SBATCH` script is
//! read into. One form, so that all ways in mean the same.

mod array;
mod read;
mod service;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::trace::{WireGang, map_without_twins};
use crate::{Dependency, Job, Service, Tier};

pub use read::MOST_SCRIPT_BYTES;
pub(crate) use read::check_script;
pub use service::ServiceFile;

/// The indices of a job array, `0-15%4`.
pub(crate) fn read_array(text: &str) -> Result<Array, crate::check::Fault> {
    array::parse("array", text)
}

/// A job as it is written. Times and sizes are texts as in `docs/job-file.md`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct JobFile {
    /// Its name; the name of what it runs when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Who pays; the tenant of whoever submits when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tenant: Option<String>,
    /// Who may displace whom; `standard` when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tier: Option<Tier>,
    /// Its standing among the waiting jobs of its tenant, where the policy asks for it: the highest goes first; 0 when
    /// left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub priority: Option<i32>,
    /// How long it may run, such as `36h`; no limit when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub duration: Option<String>,
    /// When it must have ended, as in RFC 3339.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deadline: Option<String>,
    /// Whether it is refused where its deadline cannot be met; false when left out: it is accepted, and told so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub must_meet_deadline: Option<bool>,
    /// The reservation in which it runs; none when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reservation: Option<String>,
    /// Whether it may be stopped for others.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub preemptible: Option<bool>,
    /// Time between two checkpoints.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub checkpoint_interval: Option<String>,
    /// Size of one checkpoint over all workers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub checkpoint_size: Option<String>,
    /// The longest time for which it stands being paused where it runs while power is short, its processes frozen, such as
    /// `10m`; it is never paused when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pause: Option<String>,
    /// Signal that asks the workers to save their work and end, such as `USR1`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub checkpoint_signal: Option<String>,
    /// Time that they get for it before SIGTERM; `60s` when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub checkpoint_grace: Option<String>,
    /// Time between SIGTERM and SIGKILL; `30s` when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub grace: Option<String>,
    /// Its gangs, which all start together; one worker with one core when left out.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub gangs: Vec<WireGang>,
    /// What every worker runs: a program and its arguments. Either this or `script`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub command: Vec<String>,
    /// A script that runs once, on the first node. Either this or `command`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub script: Option<String>,
    /// Arguments of the script.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub arguments: Vec<String>,
    /// Environment variables.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty", deserialize_with = "map_without_twins")]
    pub environment: BTreeMap<String, String>,
    /// The working directory.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub directory: Option<String>,
    /// File for standard output, with Slurm's `%` patterns.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub output: Option<String>,
    /// File for standard error.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// Whether output files that exist are added to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub append: Option<bool>,
    /// Tasks that `srun` starts where it is not told.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tasks: Option<u32>,
    /// Tasks on each node that `srun` starts where it is not told.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tasks_per_node: Option<u32>,
    /// Processor cores of one task.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpus_per_task: Option<u32>,
    /// A signal some time before the time limit, as Slurm writes it: `[B:]USR1@90`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signal: Option<String>,
    /// Whether it starts again when a node is lost; true when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub requeue: Option<bool>,
    /// How often it starts again after a failure of its own; never when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub restarts: Option<u32>,
    /// Jobs that must have come so far before it may start.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub after: Vec<Dependency>,
    /// Indices of a job array, as Slurm writes them: `0-15%4`, `1,3,5-9:2`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub array: Option<String>,
    /// It does not start before this instant, as in RFC 3339.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub begin: Option<String>,
    /// It is submitted on hold.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hold: Option<bool>,
    /// It is a service: work that stays, and is run as equal replicas of its one gang.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service: Option<ServiceFile>,
}

/// What a job file asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Submission {
    /// The job; of an array, any of its jobs, its program's `array` still none.
    pub job: Job,
    /// The array, where it is one.
    pub array: Option<Array>,
    /// Whether it is refused where its deadline cannot be met.
    pub must_meet_deadline: bool,
    /// The service, where it is one; the job is one of its replicas then, whose program it runs.
    pub service: Option<Service>,
}

/// The indices of a job array.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Array {
    /// Ascending, each once.
    pub indices: Vec<u32>,
    /// Between two of them, where they are evenly spaced; otherwise 1.
    pub step: u32,
    /// Jobs that may run at one time; none for any number.
    pub at_once: Option<u32>,
}
