//! What can go wrong, and how to mend it.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use rusqlite::ErrorCode;

use crate::store;

/// Why a journal, or something beside it, did not do what was asked. Unless it says otherwise, nothing has changed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Another process, or another part of this one, appends to the journal.
    #[error(
        "the journal in {} is in use by {}: stop it first, or give another folder",
        folder.display(),
        holder.map_or("another process".to_owned(), |pid| format!("process {pid}"))
    )]
    Held {
        /// The journal's folder.
        folder: PathBuf,
        /// Who holds it, where it is known.
        holder: Option<u32>,
    },
    /// There is no journal where one is to be read.
    #[error("there is no journal in {}: it would have a file `journal.sqlite`", folder.display())]
    Missing {
        /// Where it was looked for.
        folder: PathBuf,
    },
    /// There is a journal where one is to be made.
    #[error("{} exists already, and nothing is overwritten: give another folder or file, or move it away", path.display())]
    Exists {
        /// What stands in the way.
        path: PathBuf,
    },
    /// The file is something else.
    #[error("{} is no journal of Offtake: {what}", file.display())]
    NotAJournal {
        /// The file.
        file: PathBuf,
        /// What tells.
        what: String,
    },
    /// A newer release wrote it.
    #[error(
        "{} has format {found}, and this release reads up to format {newest}: run the release that wrote it, or a newer \
         one, or restore a backup from before the upgrade into another folder", file.display()
    )]
    Newer {
        /// The file.
        file: PathBuf,
        /// Its format.
        found: i64,
        /// The newest format that can be read.
        newest: i64,
    },
    /// What is stored is not what was written.
    #[error("{0}")]
    Damaged(Damage),
    /// The caller does not know the journal's end.
    #[error("stale sequence: the caller knows the journal up to {expected}, it goes up to {head}; fold it anew")]
    StaleSequence {
        /// The sequence of the last record, as the caller has it.
        expected: u64,
        /// The sequence of the last record.
        head: u64,
    },
    /// The journal was opened again since the caller's epoch.
    #[error("stale epoch: the caller has {given}, the journal is at {current}; another server has taken over")]
    StaleEpoch {
        /// The caller's.
        given: u64,
        /// The journal's.
        current: u64,
    },
    /// A record or a batch is over the limit.
    #[error("{what} of {bytes} bytes is over the limit of {limit}: split it")]
    TooLarge {
        /// Record or batch.
        what: &'static str,
        /// Its size.
        bytes: usize,
        /// The most allowed.
        limit: usize,
    },
    /// No space is left, on the disk or in the size that the journal is allowed.
    #[error("no space is left for {}: free some", path.display())]
    Full {
        /// What was to be written.
        path: PathBuf,
    },
    /// The folder or its file system cannot be written to.
    #[error("{} cannot be written to: make it and its folder writable for this user", path.display())]
    ReadOnly {
        /// What was to be written.
        path: PathBuf,
    },
    /// An earlier append failed, so what is on disk has to be looked at before the next.
    #[error("an earlier append to the journal failed: reopen it, and fold it anew")]
    Failed,
    /// The batch waited behind one that failed, so it was not tried.
    #[error("not appended: a batch before it failed")]
    Behind,
    /// The writer has ended.
    #[error("the journal's writer has ended")]
    Closed,
    /// What was asked for lies beyond the journal's end.
    #[error("sequence {given} is beyond the journal's end: give at most {limit}")]
    Beyond {
        /// What was given.
        given: u64,
        /// The most that can be.
        limit: u64,
    },
    /// A file to restore from is no export, or not a whole one.
    #[error("{}:{line}: {what}", file.display())]
    Import {
        /// The file.
        file: PathBuf,
        /// The line, from 1.
        line: u64,
        /// What is wrong with it.
        what: String,
    },
    /// A file or folder cannot be used.
    #[error("{}: {source}", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// SQLite failed.
    #[error("{}: {source}", file.display())]
    Store {
        /// The database.
        file: PathBuf,
        /// Why.
        source: rusqlite::Error,
    },
}

impl Error {
    /// For `map_err` on what is done with a file.
    pub(crate) fn file(path: &Path) -> impl Fn(io::Error) -> Self {
        move |source| match source.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Self::Full { path: path.to_owned() },
            io::ErrorKind::ReadOnlyFilesystem => Self::ReadOnly { path: path.to_owned() },
            _ => Self::File { path: path.to_owned(), source },
        }
    }

    /// For `map_err` on what is done with the database `file`.
    pub(crate) fn store(file: &Path) -> impl Fn(rusqlite::Error) -> Self {
        move |source| {
            let path = || file.to_owned();
            match source.sqlite_error_code() {
                Some(ErrorCode::DiskFull) => Self::Full { path: path() },
                Some(ErrorCode::ReadOnly) => Self::ReadOnly { path: path() },
                Some(ErrorCode::NotADatabase) => {
                    Self::NotAJournal { file: file.to_owned(), what: "it is no SQLite database".to_owned() }
                }
                _ if store::is_damage(&source) => {
                    Self::Damaged(Damage { file: file.to_owned(), records: None, what: source.to_string() })
                }
                _ => Self::Store { file: file.to_owned(), source },
            }
        }
    }
}

/// A place where what is stored is not what was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Damage {
    /// The file.
    pub file: PathBuf,
    /// The first and the last sequence in doubt; none where it cannot be told.
    pub records: Option<(u64, u64)>,
    /// What tells.
    pub what: String,
}

impl fmt::Display for Damage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} is damaged", self.file.display())?;
        let Some((first, last)) = self.records else {
            return write!(f, ": {}; restore a backup into another folder (`offtake journal restore`)", self.what);
        };
        match first == last {
            true => write!(f, " at record {first}: {}", self.what)?,
            false => write!(f, " within records {first} to {last}: {}", self.what)?,
        }
        write!(f, "; restore a backup into another folder (`offtake journal restore`)")?;
        match first {
            1 => Ok(()),
            _ => write!(f, ", or save what is before it (`offtake journal export --until {}`)", first - 1),
        }
    }
}
