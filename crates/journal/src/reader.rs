//! Reading beside the one who appends: archived segments and the database as one.

use std::path::{Path, PathBuf};

use rusqlite::Connection;

use crate::archive::{self, Segment, SegmentReader};
use crate::error::{Damage, Error};
use crate::frame;
use crate::hash::{Hash, Position};
use crate::lines::Line;
use crate::store;

/// Bytes of records after which a chunk ends.
const CHUNK: usize = 1 << 20;

/// Reads a journal; a thread that reads has one of its own. It neither needs the journal's lock nor changes anything.
#[derive(Debug)]
pub struct Reader {
    folder: PathBuf,
    file: PathBuf,
    connection: Connection,
}

/// What is checked of the records that are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Check {
    /// Each record's checksum, and that none is missing.
    Checksum,
    /// The hash chain too.
    Chain,
}

/// Records that follow each other.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Chunk {
    first: u64,
    bytes: Vec<u8>,
    /// Where each record ends in `bytes`.
    ends: Vec<usize>,
}

impl Chunk {
    /// The records with their sequences.
    pub fn iter(&self) -> impl Iterator<Item = (u64, &[u8])> {
        let starts = std::iter::once(0).chain(self.ends.iter().copied());
        (self.first..).zip(starts.zip(&self.ends).map(|(start, &end)| &self.bytes[start..end]))
    }

    /// The sequence after the last record's.
    pub fn next_sequence(&self) -> u64 {
        self.first + self.ends.len() as u64
    }

    fn is_full(&self) -> bool {
        self.bytes.len() >= CHUNK
    }

    fn push(&mut self, record: &[u8]) {
        self.bytes.extend_from_slice(record);
        self.ends.push(self.bytes.len());
    }
}

impl Reader {
    /// Opens the journal in `folder` for reading.
    ///
    /// # Errors
    /// There is none, or it cannot be read.
    pub fn open(folder: &Path) -> Result<Self, Error> {
        let connection = store::open_read_only(folder)?;
        Ok(Self { folder: folder.to_owned(), file: store::file_of(folder), connection })
    }

    /// The journal's end at the moment, as it is written there.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn head(&self) -> Result<Position, Error> {
        store::head(&self.connection).map_err(Error::store(&self.file))
    }

    /// How often the journal was opened for appending.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn epoch(&self) -> Result<u64, Error> {
        store::epoch(&self.connection).map_err(Error::store(&self.file))
    }

    /// The chain at `sequence`; none where the journal ends before it.
    ///
    /// # Errors
    /// It cannot be read, or records that must be read for it are damaged.
    pub fn chain_at(&self, sequence: u64) -> Result<Option<Hash>, Error> {
        if let Some(chain) = self.written_chain(sequence)? {
            return Ok(Some(chain));
        }
        if sequence > self.head()?.sequence {
            return Ok(None);
        }
        let mut reading = self.read(sequence, Check::Chain).until(sequence);
        while reading.next_chunk()?.is_some() {}
        Ok(Some(reading.at.chain))
    }

    /// Reads from the record `from` on, 1 being the first. `Check::Chain` begins with the batch or segment that has it.
    pub fn read(&self, from: u64, check: Check) -> Reading<'_> {
        let from = from.max(1);
        let at = Position { sequence: from - 1, chain: Hash::ZERO };
        Reading { reader: self, from, until: u64::MAX, check, at, begun: false, archive: None }
    }

    /// The segments that were archived, in order.
    ///
    /// # Errors
    /// They cannot be read.
    pub(crate) fn segments(&self) -> Result<Vec<Segment>, Error> {
        archive::segments(&self.connection).map_err(|source| store::reading(&self.file, 1, source))
    }

    /// Whether SQLite finds the database's structure sound.
    ///
    /// # Errors
    /// It does not, or it cannot be read.
    pub(crate) fn check_structure(&self) -> Result<(), Error> {
        let found: String = self
            .connection
            .query_row("PRAGMA quick_check(1)", (), |row| row.get(0))
            .map_err(Error::store(&self.file))?;
        match found.as_str() {
            "ok" => Ok(()),
            _ => {
                Err(Error::Damaged(Damage { file: self.file.clone(), records: None, what: found.replace('\n', "; ") }))
            }
        }
    }

    /// The journal's folder.
    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    /// The end of the batch that has `sequence`.
    pub(crate) fn batch_end(&self, sequence: u64) -> Result<Option<u64>, Error> {
        self.connection
            .prepare_cached("SELECT min(last) FROM batch WHERE last >= ?1")
            .and_then(|mut statement| statement.query_row([sequence], |row| row.get(0)))
            .map_err(Error::store(&self.file))
    }

    /// The end of the last batch or segment that ends at `limit` at the latest.
    pub(crate) fn boundary(&self, limit: u64) -> Result<u64, Error> {
        let query = "SELECT max(last) FROM (SELECT max(last) AS last FROM batch WHERE last <= ?1
                     UNION ALL SELECT max(last) FROM segment WHERE last <= ?1)";
        let last: Option<u64> = self
            .connection
            .prepare_cached(query)
            .and_then(|mut statement| statement.query_row([limit.min(i64::MAX as u64)], |row| row.get(0)))
            .map_err(Error::store(&self.file))?;
        Ok(last.unwrap_or(0))
    }

    fn written_chain(&self, sequence: u64) -> Result<Option<Hash>, Error> {
        store::written_chain(&self.connection, sequence).map_err(|source| store::reading(&self.file, sequence, source))
    }
}

/// A way through the journal, from one record on.
#[derive(Debug)]
pub struct Reading<'r> {
    reader: &'r Reader,
    /// The first record to hand out.
    from: u64,
    until: u64,
    check: Check,
    /// The last record read, and with `Check::Chain` the chain up to it.
    at: Position,
    begun: bool,
    archive: Option<Box<(Segment, SegmentReader)>>,
}

impl Reading<'_> {
    /// Ends with the record `until`. What is after it is not looked at.
    pub fn until(mut self, until: u64) -> Self {
        self.until = until;
        self
    }

    /// The next records; none at the journal's end. When records have come since, a later call has them.
    ///
    /// # Errors
    /// The journal cannot be read, or is damaged: then what is before the damage has been handed out, as far as whole
    /// batches go.
    pub fn next_chunk(&mut self) -> Result<Option<Chunk>, Error> {
        let mut chunk = Chunk { first: self.from, ..Chunk::default() };
        let result = self.fill(&mut chunk);
        self.from = chunk.next_sequence();
        if result.is_err()
            && let Some(archive) = self.archive.take()
        {
            // The next call comes here again: nothing after a segment is read before its end was seen.
            self.at = archive.1.before();
        }
        match chunk.ends.is_empty() {
            true => result.map(|()| None),
            false => Ok(Some(chunk)),
        }
    }

    fn fill(&mut self, chunk: &mut Chunk) -> Result<(), Error> {
        while !chunk.is_full() && self.at.sequence < self.until {
            if self.archive.is_some() {
                self.read_archive(chunk)?;
            } else if !self.open_archive()? && !self.read_batches(chunk)? {
                break;
            }
        }
        Ok(())
    }

    /// Opens the archived segment that has the next record, if one has.
    fn open_archive(&mut self) -> Result<bool, Error> {
        let reader = self.reader;
        let next = self.at.sequence + 1;
        let segment = archive::segment_with(&reader.connection, next)
            .map_err(|source| store::reading(&reader.file, next, source))?;
        let Some(segment) = segment else { return Ok(false) };
        if segment.first > next {
            return Err(self.missing(next, segment.first));
        }
        let previous = self.chain_before(segment.first)?;
        self.archive = Some(Box::new((segment, segment.open(&reader.folder, previous)?)));
        Ok(true)
    }

    /// The chain before a batch or segment that begins at `first`.
    fn chain_before(&self, first: u64) -> Result<Hash, Error> {
        if self.begun && self.check == Check::Chain && first == self.at.sequence + 1 {
            return Ok(self.at.chain);
        }
        self.reader.written_chain(first - 1)?.ok_or_else(|| {
            let what = format!("there is no batch that ends with record {}", first - 1);
            self.damaged(first - 1, first - 1, what)
        })
    }

    fn read_archive(&mut self, chunk: &mut Chunk) -> Result<(), Error> {
        let Some(archive) = &mut self.archive else { return Ok(()) };
        let (segment, lines) = archive.as_mut();
        while !chunk.is_full() && self.at.sequence < self.until {
            match lines.next_line().map_err(|error| error.in_archive(self.at.sequence + 1))? {
                Line::Record(sequence, _) if sequence < chunk.next_sequence() => {}
                Line::Record(_, record) => chunk.push(record),
                Line::End(end) => {
                    if (end.sequence, end.chain) != (segment.last, segment.chain) {
                        return Err(segment.damaged(lines.file(), "it is not the segment that the journal knows"));
                    }
                    self.archive = None;
                    return Ok(());
                }
            }
            self.at = lines.at();
            self.begun = true;
        }
        Ok(())
    }

    /// Reads batches in one transaction, so that a compaction in between takes none away; false when none came.
    fn read_batches(&mut self, chunk: &mut Chunk) -> Result<bool, Error> {
        let reader = self.reader;
        let next = self.at.sequence + 1;
        let failed = |source| store::reading(&reader.file, next, source);
        let transaction = reader.connection.unchecked_transaction().map_err(failed)?;
        if archive::segment_with(&transaction, next).map_err(failed)?.is_some() {
            return Ok(true);
        }
        let mut statement = transaction
            .prepare_cached("SELECT last, count, chain, records FROM batch WHERE last >= ?1 ORDER BY last")
            .map_err(failed)?;
        let mut rows = statement.query([next]).map_err(failed)?;
        let mut any = false;
        while !chunk.is_full() && self.at.sequence < self.until {
            let next = self.at.sequence + 1;
            let failed = |source| store::reading(&reader.file, next, source);
            let Some(row) = rows.next().map_err(failed)? else { break };
            let batch = Batch::of(row).map_err(failed)?;
            self.read_batch(&batch, chunk)?;
            any = true;
        }
        Ok(any)
    }

    fn read_batch(&mut self, batch: &Batch<'_>, chunk: &mut Chunk) -> Result<(), Error> {
        let next = self.at.sequence + 1;
        let first = match batch.last.checked_sub(batch.count) {
            Some(before) if batch.count > 0 => before + 1,
            _ => return Err(self.damaged(next, batch.last, format!("a batch of {} records", batch.count))),
        };
        if first > next {
            return Err(self.missing(next, first));
        }
        // The first batch may begin before the first record asked for.
        if self.begun && first < next {
            let due = batch.last.saturating_sub(next - 1);
            let what = format!("a batch of {} records, where {due} are due", batch.count);
            return Err(self.damaged(next, batch.last, what));
        }
        let mut at = Position { sequence: first - 1, chain: Hash::ZERO };
        if self.check == Check::Chain {
            at.chain = self.chain_before(first)?;
        }
        let start = (chunk.bytes.len(), chunk.ends.len());
        let result = self.take_records(batch, &mut at, chunk);
        if result.is_err() {
            chunk.bytes.truncate(start.0);
            chunk.ends.truncate(start.1);
        }
        result?;
        self.at = at;
        self.begun = true;
        Ok(())
    }

    fn take_records(&self, batch: &Batch<'_>, at: &mut Position, chunk: &mut Chunk) -> Result<(), Error> {
        let mut rest = batch.records;
        while at.sequence < batch.last.min(self.until) {
            let sequence = at.sequence + 1;
            let record = frame::pop(&mut rest).map_err(|what| self.damaged(sequence, sequence, what.to_owned()))?;
            match self.check {
                Check::Checksum => at.sequence = sequence,
                Check::Chain => *at = at.after(record),
            }
            if sequence == chunk.next_sequence() {
                chunk.push(record);
            }
        }
        if at.sequence < batch.last {
            return Ok(());
        }
        let first = batch.last + 1 - batch.count;
        if !rest.is_empty() {
            let what = format!("{} bytes follow the last record of the batch", rest.len());
            return Err(self.damaged(first, batch.last, what));
        }
        if self.check == Check::Chain && at.chain != batch.chain {
            let what = "the hash chain does not fit".to_owned();
            return Err(self.damaged(first, batch.last, what));
        }
        Ok(())
    }

    fn missing(&self, next: u64, first: u64) -> Error {
        self.damaged(
            next,
            first.saturating_sub(1),
            format!("record {next} is missing: what follows begins with {first}"),
        )
    }

    fn damaged(&self, first: u64, last: u64, what: String) -> Error {
        Error::Damaged(Damage { file: self.reader.file.clone(), records: Some((first, last.max(first))), what })
    }
}

impl Iterator for Reading<'_> {
    type Item = Result<Chunk, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        self.next_chunk().transpose()
    }
}

/// A row of `batch`.
struct Batch<'r> {
    last: u64,
    count: u64,
    chain: Hash,
    records: &'r [u8],
}

impl<'r> Batch<'r> {
    fn of(row: &'r rusqlite::Row<'_>) -> rusqlite::Result<Self> {
        let records = row.get_ref(3)?.as_blob()?;
        Ok(Self { last: row.get(0)?, count: row.get(1)?, chain: Hash(row.get(2)?), records })
    }
}
