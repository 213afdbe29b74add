//! Segments: records that are no longer in the database.

use std::fs::{self, File};
use std::io::BufReader;
use std::path::{Path, PathBuf};

use flate2::Compression;
use flate2::bufread::GzDecoder;
use flate2::write::GzEncoder;
use rusqlite::{Connection, OptionalExtension};

use crate::error::{Damage, Error};
use crate::file;
use crate::hash::{Hash, Position};
use crate::lines::{Line, LineReader, LineWriter};
use crate::reader::{Check, Reader};

/// Records after which a segment ends with the batch that is being written.
const RECORDS: u64 = 100_000;

/// Records that follow each other in a file of their own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Segment {
    /// The sequence of the first record.
    pub first: u64,
    /// The sequence of the last record.
    pub last: u64,
    /// The chain up to the last record.
    pub chain: Hash,
}

impl Segment {
    /// Writes the first records that are not archived yet, whole batches up to `limit`, to a file, and reads it again. The
    /// journal does not know of it yet. None where there is nothing to archive.
    pub(crate) fn write(reader: &Reader, limit: u64) -> Result<Option<Self>, Error> {
        let archived = reader.segments()?.last().map_or(0, |segment| segment.last);
        let mut last = reader.boundary(limit.min(archived.saturating_add(RECORDS)))?;
        if last <= archived {
            // The next batch alone is more than a segment should have.
            last = match reader.batch_end(archived + 1)? {
                Some(end) if end <= limit => end,
                _ => return Ok(None),
            };
        }
        let previous = Position {
            sequence: archived,
            chain: reader.chain_at(archived)?.ok_or_else(|| Error::Beyond { given: archived, limit: last })?,
        };
        let (first, epoch) = (archived + 1, reader.epoch()?);
        let path = path_of(reader.folder(), first, last);
        file::make_folder(path.parent().unwrap_or(reader.folder()))?;
        remove_unknown(&path, first)?;
        let end = file::write_whole(&path, |output| {
            let failed = Error::file(&path);
            let packed = GzEncoder::new(output, Compression::fast());
            let mut lines = LineWriter::begin(packed, previous, epoch).map_err(&failed)?;
            for chunk in reader.read(first, Check::Chain).until(last) {
                for (_, record) in chunk?.iter() {
                    lines.record(record).map_err(&failed)?;
                }
            }
            let (packed, end) = lines.end().map_err(&failed)?;
            packed.finish().map_err(&failed)?;
            Ok(end)
        })?;
        let segment = Self { first, last: end.sequence, chain: end.chain };
        segment.check(reader.folder(), previous.chain)?;
        Ok(Some(segment))
    }

    /// Opens the segment's file; `previous` is the chain before its first record.
    pub(crate) fn open(&self, folder: &Path, previous: Hash) -> Result<SegmentReader, Error> {
        let path = path_of(folder, self.first, self.last);
        let file = File::open(&path).map_err(|source| match source.kind() {
            std::io::ErrorKind::NotFound => self.damaged(&path, "the file is missing: put it back from a backup"),
            _ => Error::file(&path)(source),
        })?;
        let input = BufReader::with_capacity(1 << 16, GzDecoder::new(BufReader::with_capacity(1 << 16, file)));
        let lines = LineReader::begin(input, &path).map_err(|error| error.in_archive(self.first))?;
        if lines.before() != (Position { sequence: self.first - 1, chain: previous }) {
            return Err(self.damaged(&path, "it does not follow what is before it"));
        }
        Ok(lines)
    }

    /// Reads the file to its end and compares.
    fn check(&self, folder: &Path, previous: Hash) -> Result<(), Error> {
        let mut lines = self.open(folder, previous)?;
        loop {
            let next = lines.at().sequence + 1;
            match lines.next_line().map_err(|error| error.in_archive(next))? {
                Line::Record(..) => {}
                Line::End(end) if end.sequence == self.last && end.chain == self.chain => return Ok(()),
                Line::End(_) => return Err(self.damaged(lines.file(), "it is not what was written")),
            }
        }
    }

    pub(crate) fn damaged(&self, file: &Path, what: &str) -> Error {
        let records = Some((self.first, self.last));
        Error::Damaged(Damage { file: file.to_owned(), records, what: what.to_owned() })
    }
}

/// Reads the lines of a segment's file.
pub(crate) type SegmentReader = LineReader<BufReader<GzDecoder<BufReader<File>>>>;

/// Removes what a compaction that never came to its end has left: the database still has those records.
fn remove_unknown(path: &Path, first: u64) -> Result<(), Error> {
    let Some(folder) = path.parent() else { return Ok(()) };
    let failed = Error::file(folder);
    for entry in fs::read_dir(folder).map_err(&failed)? {
        let entry = entry.map_err(&failed)?;
        if entry.file_name().to_string_lossy().starts_with(&format!("{first:012}-")) {
            fs::remove_file(entry.path()).map_err(&failed)?;
        }
    }
    Ok(())
}

fn path_of(folder: &Path, first: u64, last: u64) -> PathBuf {
    folder.join("archive").join(format!("{first:012}-{last:012}.jsonl.gz"))
}

/// All segments, in order.
pub(crate) fn segments(connection: &Connection) -> rusqlite::Result<Vec<Segment>> {
    connection.prepare_cached("SELECT first, last, chain FROM segment ORDER BY last")?.query_map((), segment)?.collect()
}

/// The first segment that ends with `sequence` or later.
pub(crate) fn segment_with(connection: &Connection, sequence: u64) -> rusqlite::Result<Option<Segment>> {
    connection
        .prepare_cached("SELECT first, last, chain FROM segment WHERE last >= ?1 ORDER BY last LIMIT 1")?
        .query_row([sequence], segment)
        .optional()
}

fn segment(row: &rusqlite::Row<'_>) -> rusqlite::Result<Segment> {
    Ok(Segment { first: row.get(0)?, last: row.get(1)?, chain: Hash(row.get(2)?) })
}
