//! What many tests need.

use std::env;
use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use offtake_journal::{Check, Error, Journal, Position, Reader};
use tempfile::TempDir;

pub fn folder() -> TempDir {
    tempfile::tempdir().expect("a temporary folder")
}

pub fn open(folder: &Path) -> Journal {
    let opened = Journal::open(folder).expect("opens");
    assert_eq!(opened.cut, None);
    opened.journal
}

/// Appends where the journal ends.
pub fn append(journal: &mut Journal, records: &[Vec<u8>]) -> Result<Position, Error> {
    journal.append(journal.head().sequence, journal.epoch(), records)
}

/// `count` records that differ, each of `size` bytes, from `first` on.
pub fn records(first: u64, count: u64, size: usize) -> Vec<Vec<u8>> {
    (first..first + count)
        .map(|sequence| {
            let mut record = format!("{{\"record\":{sequence},\"pad\":\"").into_bytes();
            record.resize(size.max(record.len() + 2) - 2, b'x');
            record.extend_from_slice(b"\"}");
            record
        })
        .collect()
}

pub fn read_from(reader: &Reader, from: u64, check: Check) -> Result<Vec<Vec<u8>>, Error> {
    let mut all = Vec::new();
    for chunk in reader.read(from, check) {
        for (sequence, record) in chunk?.iter() {
            assert_eq!(sequence, from + all.len() as u64);
            all.push(record.to_vec());
        }
    }
    Ok(all)
}

pub fn read_all(folder: &Path) -> Result<Vec<Vec<u8>>, Error> {
    read_from(&Reader::open(folder)?, 1, Check::Chain)
}

pub fn chain_of(records: &[Vec<u8>]) -> Position {
    records.iter().fold(Position::START, |at, record| at.after(record))
}

/// Copies the database and its log as a crash would leave them.
pub fn copy_database(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("made");
    for name in ["journal.sqlite", "journal.sqlite-wal"] {
        if from.join(name).exists() {
            fs::copy(from.join(name), to.join(name)).expect("copied");
        }
    }
}

/// Runs the test `name` of this program in another process, where `role()` is `role`.
pub fn in_another_process(name: &str, role: &str) -> Command {
    let mut command = Command::new(env::current_exe().expect("this program"));
    command.args([name, "--exact", "--nocapture", "--test-threads=1"]).env("JOURNAL_TEST_ROLE", role);
    command
}

/// What this process was started for by a test; none in the test itself.
pub fn role() -> Option<String> {
    env::var("JOURNAL_TEST_ROLE").ok()
}

pub fn assert_success(output: &Output) {
    let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
    assert!(output.status.success(), "{}{}", text(&output.stdout), text(&output.stderr));
}
