//! What can be wrong with the options of a script, and what is told of those that do nothing.

use std::fmt;

use crate::check::Fault;
use crate::input::excerpt;

/// Why a script or its options cannot be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Error {
    /// The line of the script; none for an option on the command line, and for the script as a whole.
    pub line: Option<u64>,
    /// What is wrong.
    pub problem: Problem,
}

/// What is wrong with an option.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Problem {
    /// Slurm has no such option.
    #[error("`{given}` is no option of sbatch{hint}; docs/sbatch.md lists them")]
    Unknown {
        /// As it was given.
        given: String,
        /// The nearest one.
        hint: String,
    },
    /// The beginning of several names.
    #[error("`{given}` may be {candidates}: write it out")]
    Ambiguous {
        /// As it was given.
        given: String,
        /// What it may be.
        candidates: String,
    },
    /// An option without its value.
    #[error("`--{option}` needs a value: `--{option}=VALUE`")]
    NeedsValue {
        /// Its name.
        option: &'static str,
    },
    /// A value for an option that has none.
    #[error("`--{option}` has no value, and is given `{given}`")]
    HasNoValue {
        /// Its name.
        option: &'static str,
        /// The value.
        given: String,
    },
    /// A word where an option is expected.
    #[error("`{given}` is no option: allowed are options such as `--nodes=2` or `-N 2`, and a comment behind `#`")]
    Word {
        /// The word.
        given: String,
    },
    /// An option without which the job would be another one.
    #[error("`--{option}` is not supported, and the job would mean something else without it: {way_out}")]
    Refused {
        /// Its name.
        option: &'static str,
        /// What to do instead.
        way_out: String,
    },
    /// A value that is not allowed.
    #[error("`--{option}` is `{given}`; allowed is {allowed}")]
    Value {
        /// The option's name.
        option: &'static str,
        /// Its value.
        given: String,
        /// What is allowed.
        allowed: String,
    },
    /// A quotation mark without the other one.
    #[error("the quotation mark {0} is not closed")]
    Quote(char),
    /// A job of several different parts.
    #[error("heterogeneous jobs are not supported: submit a job file with several `gangs`, or one job for each part")]
    Heterogeneous,
    /// Directives of another batch system.
    #[error(
        "`{0}` is a directive of another batch system, which sbatch would obey: write it as `#SBATCH`, or add \
         `#SBATCH --ignore-pbs`"
    )]
    OtherSystem(String),
    /// A script and `--wrap`.
    #[error("`--wrap` is given and a script too: leave one of them out")]
    WrapAndScript,
    /// Neither a script nor `--wrap`.
    #[error("there is nothing to run: give a script, or a command with `--wrap`")]
    Nothing,
    /// The script, or a field that was made of an option, cannot be meant.
    #[error(transparent)]
    Fault(#[from] Fault),
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(line) = self.line {
            write!(f, "line {line}: ")?;
        }
        self.problem.fmt(f)
    }
}

impl std::error::Error for Error {}

impl From<Fault> for Error {
    fn from(fault: Fault) -> Self {
        Self { line: None, problem: Problem::Fault(fault) }
    }
}

/// What the submitter should know of an option: that it does nothing, or how it was understood.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Note {
    /// The line of the script; none for an option on the command line, and for the job as a whole.
    pub line: Option<u64>,
    /// In words.
    pub text: String,
}

impl fmt::Display for Note {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            Some(line) => write!(f, "line {line}: {}", self.text),
            None => f.write_str(&self.text),
        }
    }
}

/// An option as it was given, shortened.
pub(super) fn shown(option: &str, value: Option<&str>) -> String {
    match value {
        Some(value) => format!("--{option}={}", excerpt(value)),
        None => format!("--{option}"),
    }
}
