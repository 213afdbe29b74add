//! What a supervisor did, on disk: a file with a line of JSON for each event. Only whole lines count.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use nix::fcntl::{FallocateFlags, fallocate};
use serde::{Deserialize, Serialize};

use super::wire::Ended;

const RECORD_FILE: &str = "record";
/// Kept on disk from the beginning, so that the end can be written when the disk is full. An end takes a few hundred
/// bytes; the longest reason is cut to [`REASON_LIMIT`].
const RESERVED: i64 = 16 << 10;
/// Bytes of a reason in an end, at most.
pub(super) const REASON_LIMIT: usize = 4 << 10;

/// An event in a record.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Event {
    /// A supervisor took this worker on.
    Prepared {
        /// The supervisor.
        supervisor: Identity,
        /// The run of the machine.
        boot_id: String,
    },
    /// The worker is about to be executed.
    Starting {
        /// When, in milliseconds since 1970.
        at_ms: i64,
    },
    /// The worker is being executed. Not waited for until it is on disk: it helps to find what is left of it.
    Started {
        /// Its process.
        worker: Identity,
    },
    /// Nothing of it runs any more, or ever did.
    Ended(Ended),
}

/// A process, told apart from any that gets the same number later.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Identity {
    /// Its number.
    pub pid: i32,
    /// When it started, in clock ticks since the machine did.
    pub start_ticks: u64,
}

/// All that a record tells.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Told {
    /// The supervisor, and the run of the machine that it belongs to.
    pub supervisor: Option<(Identity, String)>,
    /// When the worker was about to be executed.
    pub starting_ms: Option<i64>,
    /// The worker.
    pub worker: Option<Identity>,
    /// How it ended.
    pub ended: Option<Ended>,
}

/// A record that is written.
#[derive(Debug)]
pub(super) struct Record {
    file: File,
}

impl Record {
    /// Begins the record of a worker.
    ///
    /// # Errors
    /// If there is one already: then another supervisor has taken the worker on.
    pub fn create(folder: &Path) -> io::Result<Self> {
        let file = OpenOptions::new().append(true).create_new(true).mode(0o600).open(folder.join(RECORD_FILE))?;
        // Some file systems cannot; then a full disk can lose the end, and it is told as unknown.
        let _ = fallocate(&file, FallocateFlags::FALLOC_FL_KEEP_SIZE, 0, RESERVED);
        Ok(Self { file })
    }

    /// Opens the record of a worker whose supervisor is dead.
    pub fn reopen(folder: &Path) -> io::Result<Self> {
        Ok(Self { file: OpenOptions::new().append(true).create(true).mode(0o600).open(folder.join(RECORD_FILE))? })
    }

    /// Adds an event.
    pub fn note(&mut self, event: &Event) -> io::Result<()> {
        // It begins with a line feed, so that a torn line before does not spoil it.
        let mut line = vec![b'\n'];
        serde_json::to_writer(&mut line, event)?;
        line.push(b'\n');
        self.file.write_all(&line)
    }

    /// Adds an event, and returns once it is on disk.
    pub fn commit(&mut self, event: &Event) -> io::Result<()> {
        self.note(event)?;
        self.sync()
    }

    /// Returns once all events are on disk.
    pub fn sync(&self) -> io::Result<()> {
        self.file.sync_data()
    }
}

/// Reads the record of a worker; an empty one where there is none.
pub(super) fn read(folder: &Path) -> io::Result<Told> {
    let mut text = Vec::new();
    match File::open(folder.join(RECORD_FILE)) {
        Ok(file) => file.take(RESERVED.unsigned_abs()).read_to_end(&mut text)?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Told::default()),
        Err(error) => return Err(error),
    };
    let mut told = Told::default();
    for line in text.split(|byte| *byte == b'\n') {
        match serde_json::from_slice(line) {
            Ok(Event::Prepared { supervisor, boot_id }) => told.supervisor = Some((supervisor, boot_id)),
            Ok(Event::Starting { at_ms }) => told.starting_ms = Some(at_ms),
            Ok(Event::Started { worker }) => told.worker = Some(worker),
            // The first end counts.
            Ok(Event::Ended(ended)) => {
                told.ended.get_or_insert(ended);
            }
            // A blank line, or one torn by a crash.
            Err(_) => {}
        }
    }
    Ok(told)
}

#[cfg(test)]
mod tests {
    use offtake_protocol::agent::Exit;

    use super::*;
    use crate::testing::Folder;

    fn ended(exit: Exit) -> Ended {
        Ended {
            exit,
            cause: None,
            node_fault: false,
            started_ms: Some(1),
            ended_ms: 2,
            cpu_ms: None,
            peak_memory_kib: None,
            lost_output_bytes: 0,
        }
    }

    #[test]
    fn a_torn_line_is_no_event_and_spoils_none() {
        let folder = Folder::new("record");
        let folder = folder.path();
        let mut record = Record::create(folder).expect("a record");
        assert!(Record::create(folder).is_err(), "a second supervisor takes nothing on");
        record.commit(&Event::Starting { at_ms: 7 }).expect("written");
        record.file.write_all(b"\n{\"ended\":{\"exit\":{\"sta").expect("torn");
        assert_eq!(read(folder).expect("read").ended, None);

        let mut record = Record::reopen(folder).expect("opened");
        record.commit(&Event::Ended(ended(Exit::Status(3)))).expect("written");
        record.commit(&Event::Ended(ended(Exit::Status(4)))).expect("written");
        let told = read(folder).expect("read");
        assert_eq!(told.starting_ms, Some(7));
        assert_eq!(told.ended, Some(ended(Exit::Status(3))), "the first end counts");
    }
}
