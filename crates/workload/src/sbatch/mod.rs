//! Batch scripts of Slurm: `#SBATCH` directives and the command line of `sbatch`.
//!
//! Each option is honoured, ignored by name, or refused because the job would mean something else without it.
//! `docs/sbatch.md` lists them all and says where this differs from Slurm. Variables of the environment such as
//! `SBATCH_PARTITION` are not looked at.

mod clock;
mod depend;
mod error;
mod options;
mod read;
mod script;
mod shape;
mod table;
mod values;

use std::collections::BTreeMap;

use offtake_units::{Duration, Timestamp};

use crate::JobFile;

pub use error::{Error, Note, Problem};
pub use options::Options;

/// What a submission takes from where it is made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Surroundings {
    /// The instant of the submission.
    pub now: Timestamp,
    /// How far the local time is ahead of UTC; negative to the west.
    pub utc_offset: Duration,
    /// The submitter's working directory, from the root.
    pub directory: String,
    /// The submitter's environment variables, of which `--export` takes all or some.
    pub environment: BTreeMap<String, String>,
}

/// A script to be submitted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Script<'a> {
    /// Its file name, for the job's name; none for standard input.
    pub name: Option<&'a str>,
    /// Its text.
    pub text: &'a str,
    /// Its arguments.
    pub arguments: &'a [String],
}

/// What a script and its options say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reading {
    /// The job.
    pub job: JobFile,
    /// What the submitter should know, in the order of the script.
    pub notes: Vec<Note>,
    /// What is asked of the command that submits.
    pub mode: Mode,
}

/// What is asked of the command that submits, and not of the job.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Mode {
    /// Print the job's identity alone.
    pub parsable: bool,
    /// Print nothing but errors.
    pub quiet: bool,
    /// Only say whether and when the job would start.
    pub test_only: bool,
    /// Wait until the job has ended, and end with its status.
    pub wait: bool,
}

impl Options {
    /// The job of a script under these options, which count more than its directives; without a script, of `--wrap`.
    ///
    /// # Errors
    /// When an option is unknown, refused or wrong, or the script is none.
    pub fn read(&self, script: Option<Script<'_>>, surroundings: &Surroundings) -> Result<Reading, Error> {
        read::read(self, script, surroundings)
    }
}
