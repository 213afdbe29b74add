//! Journals as files: exports, backups, and journals made from them.

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use flate2::Compression;
use flate2::bufread::MultiGzDecoder;
use flate2::write::GzEncoder;
use rusqlite::Connection;

use crate::error::Error;
use crate::frame;
use crate::hash::Position;
use crate::lines::{Line, LineReader, LineWriter};
use crate::lock::Lock;
use crate::reader::{Check, Reader};
use crate::{file, store};

/// How far a restore raises the epoch at least.
const EPOCH_STEP: u64 = 1 << 20;

/// Bytes after which a batch that is restored ends.
const BATCH: usize = 1 << 18;

/// What was written by an export or a backup.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Exported {
    /// The sequence of the first record; one more than the last where there is none.
    pub first: u64,
    /// The last record, and the chain up to it.
    pub head: Position,
}

/// What was made by a restore.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Restored {
    /// The end of the new journal.
    pub head: Position,
    /// Its epoch. Opening it raises it by one more.
    pub epoch: u64,
}

/// Writes the records `from` to `until` of the journal in `folder`, checked, as JSON Lines to `output`; without `until`,
/// to the end that the journal has now. It may be appended to meanwhile.
///
/// # Errors
/// The journal cannot be read, is damaged, or ends before `from`; or `output` fails. What was written has no end line then.
pub fn export(folder: &Path, from: u64, until: Option<u64>, output: impl Write) -> Result<Exported, Error> {
    write(&Reader::open(folder)?, from, until, output, Path::new("output"))
}

/// Writes the whole journal in `folder`, archived segments included, to the new file `target`, packed. It may be appended
/// to meanwhile: the backup has all up to the end that the journal has now.
///
/// # Errors
/// There is a file of that name, it cannot be written, or the journal cannot be read or is damaged: no file is left.
pub fn backup(folder: &Path, target: &Path) -> Result<Exported, Error> {
    let reader = Reader::open(folder)?;
    if target.exists() {
        return Err(Error::Exists { path: target.to_owned() });
    }
    file::write_whole(target, |output| {
        let mut packed = GzEncoder::new(output, Compression::fast());
        let exported = write(&reader, 1, None, &mut packed, target)?;
        packed.finish().map_err(Error::file(target))?;
        Ok(exported)
    })
}

fn write(reader: &Reader, from: u64, until: Option<u64>, output: impl Write, name: &Path) -> Result<Exported, Error> {
    let failed = Error::file(name);
    let from = from.max(1);
    let until = reader.head()?.sequence.min(until.unwrap_or(u64::MAX));
    if from > until + 1 {
        return Err(Error::Beyond { given: from, limit: until + 1 });
    }
    let beyond = || Error::Beyond { given: from, limit: until + 1 };
    let previous = Position { sequence: from - 1, chain: reader.chain_at(from - 1)?.ok_or_else(beyond)? };
    let mut lines = LineWriter::begin(output, previous, reader.epoch()?).map_err(&failed)?;
    for chunk in reader.read(from, Check::Chain).until(until) {
        for (_, record) in chunk?.iter() {
            lines.record(record).map_err(&failed)?;
        }
    }
    let (mut output, head) = lines.end().map_err(&failed)?;
    output.flush().map_err(&failed)?;
    Ok(Exported { first: from, head })
}

/// Makes a journal in `folder` from exports, backups or archived segments, packed or not, that follow each other from the
/// first record on.
///
/// The new journal has the same records and the same chain. Its epoch is one that nobody has seen, however old the files
/// are: at least 2^20 above theirs, and no less than the time in milliseconds.
///
/// # Errors
/// There is a journal or a part of one in `folder`; a file is not whole, was changed, or does not follow the one before. No
/// journal is made then.
pub fn restore(files: &[PathBuf], folder: &Path) -> Result<Restored, Error> {
    let _lock = Lock::take(folder)?;
    let target = store::file_of(folder);
    // What goes with another journal would be taken for this one's.
    for name in ["journal.sqlite", "archive", "snapshots", "history.sqlite"] {
        let path = folder.join(name);
        if path.exists() {
            return Err(Error::Exists { path });
        }
    }
    let part = file::part_of(&target);
    let result = fill(files, &part).and_then(|restored| {
        fs::rename(&part, &target).map_err(Error::file(&target))?;
        file::sync_folder(folder)?;
        Ok(restored)
    });
    if result.is_err() {
        let _ = fs::remove_file(&part);
    }
    result
}

fn fill(files: &[PathBuf], part: &Path) -> Result<Restored, Error> {
    match fs::remove_file(part) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(Error::file(part)(error)),
        _ => {}
    }
    let mut connection = store::open_draft(part)?;
    let failed = Error::store(part);
    let transaction = connection.transaction().map_err(&failed)?;
    let mut draft = Draft { connection: &transaction, file: part, head: Position::START, count: 0, batch: Vec::new() };
    let mut newest = 0;
    for file in files {
        newest = newest.max(draft.read(file)?);
    }
    draft.close_batch()?;
    let head = draft.head;
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64);
    let epoch = now.max(newest.saturating_add(EPOCH_STEP));
    transaction.execute("UPDATE journal SET epoch = ?1", [epoch]).map_err(&failed)?;
    transaction.commit().map_err(&failed)?;
    connection.close().map_err(|(_, source)| failed(source))?;
    File::open(part).and_then(|file| file.sync_all()).map_err(Error::file(part))?;
    Ok(Restored { head, epoch })
}

/// A journal that is being filled.
struct Draft<'d> {
    connection: &'d Connection,
    file: &'d Path,
    head: Position,
    /// Records in `batch`.
    count: u64,
    batch: Vec<u8>,
}

impl Draft<'_> {
    /// Adds a file's records; returns the epoch that it was written in.
    fn read(&mut self, file: &Path) -> Result<u64, Error> {
        let mut lines = LineReader::begin(open(file)?, file)?;
        if lines.before() != self.head {
            let (given, due) = (lines.before().sequence + 1, self.head.sequence + 1);
            let what = match given == due {
                true => {
                    format!("its record {given} does not follow the records before it: the hash chain does not fit")
                }
                false => format!("it begins with record {given}, where {due} is due"),
            };
            return Err(Error::Import { file: file.to_owned(), line: 1, what });
        }
        loop {
            match lines.next_line()? {
                Line::Record(_, record) => self.push(record)?,
                Line::End(end) => {
                    self.head = end;
                    self.close_batch()?;
                    return Ok(lines.epoch());
                }
            }
            // Every record's chain is known once it is read; a batch ends with one.
            if self.batch.len() >= BATCH {
                self.head = lines.at();
                self.close_batch()?;
            }
        }
    }

    fn push(&mut self, record: &[u8]) -> Result<(), Error> {
        frame::push(&mut self.batch, record)?;
        self.count += 1;
        Ok(())
    }

    fn close_batch(&mut self) -> Result<(), Error> {
        if self.count > 0 {
            store::insert(self.connection, self.head, self.count, &self.batch).map_err(Error::store(self.file))?;
        }
        self.count = 0;
        self.batch.clear();
        Ok(())
    }
}

/// Opens a file that may be packed.
fn open(path: &Path) -> Result<Box<dyn BufRead>, Error> {
    let failed = Error::file(path);
    let mut input = BufReader::with_capacity(1 << 16, File::open(path).map_err(&failed)?);
    let packed = input.fill_buf().map_err(&failed)?.starts_with(&[0x1f, 0x8b]);
    Ok(match packed {
        true => Box::new(BufReader::with_capacity(1 << 16, MultiGzDecoder::new(input))),
        false => Box::new(input),
    })
}
