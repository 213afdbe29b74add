//! What can be wrong with a trace, on the way in and on the way out.

use std::io;
use std::path::PathBuf;

use crate::check::Fault;
use crate::input::{InputError, Place};

/// Why a trace cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum TraceError {
    /// The file itself cannot be read, or a value in it is not allowed.
    #[error(transparent)]
    Input(#[from] InputError),
    /// It cannot be told which format this is.
    #[error(
        "{at}: the format cannot be told from `{given}`: name it; allowed are openb, philly, csv and jsonl (described \
         in docs/workload.md)"
    )]
    UnknownFormat {
        /// The first line.
        at: Place,
        /// What it says.
        given: String,
    },
    /// A JSON Lines file without its first line.
    #[error(
        "{at}: the first line is `{given}`; allowed is {{\"format\":\"offtake-workload\",\"version\":{supported}}}"
    )]
    NoVersion {
        /// The first line.
        at: Place,
        /// What it says.
        given: String,
        /// The version that is read and written.
        supported: u64,
    },
    /// A JSON Lines file of another version.
    #[error(
        "{at}: `version` is {given}; allowed is {supported}: a higher one needs a newer Offtake, a lower one was never \
         written"
    )]
    Version {
        /// The first line.
        at: Place,
        /// The version.
        given: u64,
        /// The version that is read and written.
        supported: u64,
    },
    /// A line that is not the JSON of a job or a service.
    #[error("{at}: column {column}: {}{what}", if field.is_empty() { String::new() } else { format!("`{field}`: ") })]
    Json {
        /// The line.
        at: Place,
        /// The column, counted in bytes from 1.
        column: usize,
        /// The path of the field, as far as it is known.
        field: String,
        /// What is wrong, what was given and what is allowed.
        what: String,
    },
    /// Two jobs or services of one name.
    #[error("{at}: the name `{name}` is already taken by line {first_line}: allowed is a name that occurs once")]
    DuplicateName {
        /// The second of them.
        at: Place,
        /// Their name.
        name: String,
        /// The line of the first.
        first_line: u64,
    },
    /// More work than is read.
    #[error("{at}: there are more than {limit} jobs, services, gangs and entries of their lists: split the file")]
    TooMany {
        /// The line at which the limit was passed.
        at: Place,
        /// Jobs, services, gangs and entries that a file may have together.
        limit: usize,
    },
}

impl TraceError {
    /// The error of a value in a line.
    pub(crate) fn fault(at: Place, fault: Fault) -> Self {
        Self::Input(InputError::Field { at, field: fault.field, given: fault.given, allowed: fault.allowed })
    }
}

/// Why a workload cannot be written.
#[derive(Debug, thiserror::Error)]
pub enum WriteError {
    /// The output fails.
    #[error("the workload cannot be written")]
    Io(#[from] io::Error),
    /// The output file cannot be made.
    #[error("{}: the file cannot be written: check the folder, its rights and the free space", file.display())]
    File {
        /// The file.
        file: PathBuf,
        /// What the system says.
        #[source]
        source: io::Error,
    },
    /// A format that is only read.
    #[error("{}: `{given}` is no format that can be written; allowed are csv and jsonl, as `.csv`, `.jsonl`, `.csv.gz` or `.jsonl.gz`", file.display())]
    Format {
        /// The file.
        file: PathBuf,
        /// The format, or the end of the file's name.
        given: String,
    },
    /// A job or service that no reader would accept.
    #[error("`{name}` cannot be written")]
    Invalid {
        /// Its name.
        name: String,
        /// The field that is not allowed.
        #[source]
        fault: Fault,
    },
    /// Two jobs or services of one name.
    #[error("the name `{name}` occurs twice: allowed is a name that occurs once")]
    DuplicateName {
        /// Their name.
        name: String,
    },
    /// A job with a field that CSV has no column for.
    #[error("the job `{name}` has `{field}`, for which CSV has no column: write JSON Lines (`.jsonl`)")]
    CsvField {
        /// The job.
        name: String,
        /// The field.
        field: &'static str,
    },
    /// A job of several gangs, for CSV.
    #[error("the job `{name}` has {gangs} gangs; CSV carries one: write JSON Lines (`.jsonl`)")]
    CsvGangs {
        /// The job.
        name: String,
        /// Its gangs.
        gangs: usize,
    },
    /// A table has no room for speeds.
    #[error("the job `{name}` states speeds, which a table cannot carry; write JSON Lines")]
    CsvSpeedup {
        /// The job.
        name: String,
    },
    /// A service, for CSV.
    #[error("`{name}` is a service; CSV carries jobs only: write JSON Lines (`.jsonl`)")]
    CsvService {
        /// The service.
        name: String,
    },
}
