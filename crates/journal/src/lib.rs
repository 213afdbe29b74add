//! Durable facts: a gapless, checksummed, hash-chained journal on SQLite.
//!
//! A *record* is a string of bytes; what it means is the caller's. Records are numbered from 1 without gaps: a record's
//! *sequence*. A [`Journal`] appends them in *batches*, one transaction each; a batch is on disk as a whole or not at
//! all. [`Writer`] gives a journal a thread of its own and commits in groups what comes from many callers. Any number of
//! [`Reader`]s read beside it.
//!
//! # The folder
//!
//! | file | what |
//! |---|---|
//! | `journal.sqlite` | the records, in batches |
//! | `journal.lock` | held by the one process that appends; holds its pid |
//! | `archive/*.jsonl.gz` | segments of verified records that [`Journal::compact`] moved out of `journal.sqlite` |
//! | `cut-*.batch` | a damaged last batch, set aside when the journal was opened |
//! | `snapshots/*.snapshot` | disposable: see [`Snapshots`] |
//! | `history.sqlite` | disposable: see [`History`] |
//!
//! # The chain
//!
//! Whoever keeps the hash of a sequence outside the journal can show later that nothing up to it was changed:
//!
//! ```text
//! chain(0) = 32 bytes of zero
//! chain(n) = SHA-256( chain(n-1) || length of record n in bytes, as 8 bytes, big-endian || record n )
//! ```
//!
//! # Format 1
//!
//! `journal.sqlite` has the application id `0x4f66744b`, its `user_version` is the format. A row of `batch` is a batch:
//! the sequence of its `last` record, the `count` of its records, the `chain` of its last record, and its `records`, each
//! of which is its length (4 bytes, big-endian), the CRC-32 (as in gzip) of that length and the record (4 bytes,
//! big-endian), and the record. A row of `segment` is an archived segment: `first` and `last` sequence and the `chain` of
//! the last. `journal` has one row with the `epoch`: how often the journal was opened for writing.
//!
//! Archived segments, exports and backups are JSON Lines: a header, a line for each record, an end.
//!
//! ```text
//! {"format":"offtake-journal","version":1,"first":1,"previous":"<chain before the first, hex>","epoch":3}
//! {"sequence":1,"record":{"any":"JSON"}}
//! {"sequence":2,"base64":"/w=="}
//! {"last":2,"chain":"<chain of the last, hex>"}
//! ```
//!
//! A record that is JSON on one line stands as it is, byte for byte; any other as `base64`.

mod archive;
mod error;
mod file;
mod frame;
mod hash;
mod history;
mod journal;
mod lines;
mod lock;
mod reader;
mod snapshot;
mod store;
mod transfer;
mod verify;
mod writer;

pub use archive::Segment;
pub use error::{Damage, Error};
pub use frame::{MAX_BATCH, MAX_RECORD};
pub use hash::{Hash, NotAHash, Position};
pub use history::{Filter, History, Row};
pub use journal::{Cut, Journal, Opened};
pub use reader::{Check, Chunk, Reader, Reading};
pub use snapshot::{Found, Skipped, Snapshot, Snapshots};
pub use transfer::{Exported, Restored, backup, export, restore};
pub use verify::{Report, Wanted, verify};
pub use writer::{Backlog, Done, Writer};
