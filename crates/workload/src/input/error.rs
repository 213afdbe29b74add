//! What can be wrong with a text file.

use std::fmt;
use std::io;
use std::path::PathBuf;

/// A line of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// The file, as it was named.
    pub file: PathBuf,
    /// The line, counted from 1.
    pub line: u64,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.file.display(), self.line)
    }
}

/// Why a text file cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum InputError {
    /// The file is missing, or may not be read.
    #[error("{}: the file cannot be opened: check that it exists and may be read", file.display())]
    Open {
        /// The file.
        file: PathBuf,
        /// What the system says.
        #[source]
        source: io::Error,
    },
    /// Reading broke off.
    #[error("{at}: the file cannot be read on")]
    Read {
        /// The line that was being read.
        at: Place,
        /// What the system says.
        #[source]
        source: io::Error,
    },
    /// The gzip data stops before its end.
    #[error("{at}: the compressed file is cut off here: fetch or compress it again")]
    Truncated {
        /// The line that was being read.
        at: Place,
    },
    /// The gzip data is damaged.
    #[error("{at}: the compressed data is damaged here: fetch or compress it again")]
    Damaged {
        /// The line that was being read.
        at: Place,
        /// What the decoder says.
        #[source]
        source: io::Error,
    },
    /// A line is longer than is allowed.
    #[error("{at}: the line is longer than {limit} bytes: is the file of another kind, or without line breaks?")]
    LineTooLong {
        /// The line.
        at: Place,
        /// Bytes that a line may have.
        limit: usize,
    },
    /// The text is longer than is allowed.
    #[error("{at}: the text is longer than {limit} bytes, uncompressed: split the file")]
    TooLarge {
        /// The line at which the limit was passed.
        at: Place,
        /// Bytes that a file may have.
        limit: u64,
    },
    /// A line is not UTF-8.
    #[error("{at}: byte {byte} of the line is not UTF-8: save the file as UTF-8 text")]
    NotUtf8 {
        /// The line.
        at: Place,
        /// The first wrong byte, counted from 1.
        byte: usize,
    },
    /// Nothing is in the file.
    #[error("{}: the file is empty: a first line with the format or the column names is needed", file.display())]
    Empty {
        /// The file.
        file: PathBuf,
    },
    /// A quote does not belong where it is.
    #[error(
        "{at}: a quote is not closed, or stands inside a field: write \"a \"\"b\"\" c\" for a \"b\" c, on one line"
    )]
    Quote {
        /// The line.
        at: Place,
    },
    /// A column that the format does not have.
    #[error("{at}: the column `{given}` is unknown; allowed are {allowed}")]
    UnknownColumn {
        /// The line of column names.
        at: Place,
        /// The column.
        given: String,
        /// The columns of the format.
        allowed: String,
    },
    /// A column that the format needs is not there.
    #[error("{at}: the column `{column}` is missing; the columns are {given}")]
    MissingColumn {
        /// The line of column names.
        at: Place,
        /// The column.
        column: String,
        /// The columns that are there.
        given: String,
    },
    /// A column occurs twice.
    #[error("{at}: the column `{column}` occurs twice: remove one")]
    RepeatedColumn {
        /// The line of column names.
        at: Place,
        /// The column.
        column: String,
    },
    /// A row has more or fewer fields than there are columns.
    #[error("{at}: the row has {given} fields; there are {allowed} columns")]
    RowWidth {
        /// The row.
        at: Place,
        /// Fields of the row.
        given: usize,
        /// Columns of the table.
        allowed: usize,
    },
    /// A value is not allowed.
    #[error("{at}: `{field}` is `{given}`; allowed is {allowed}")]
    Field {
        /// The line.
        at: Place,
        /// The field or column.
        field: String,
        /// What it says.
        given: String,
        /// What it may say.
        allowed: String,
    },
}

/// The beginning of a text that somebody wrote, without control characters, fit for an error message.
pub fn excerpt(text: &str) -> String {
    const LONGEST_CHARS: usize = 60;
    let mut shown: String =
        text.chars().take(LONGEST_CHARS).map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect();
    if text.chars().nth(LONGEST_CHARS).is_some() {
        shown.push('…');
    }
    shown
}
