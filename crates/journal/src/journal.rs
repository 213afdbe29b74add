//! Appending: one process, one batch a transaction.

use std::io::Write;
use std::path::{Path, PathBuf};

use rusqlite::{Connection, TransactionBehavior};

use crate::archive::Segment;
use crate::error::{Damage, Error};
use crate::file;
use crate::frame;
use crate::hash::{Hash, Position};
use crate::lock::Lock;
use crate::reader::{Check, Reader};
use crate::store;

/// A journal that is open for appending. It holds the folder's lock until it is dropped.
#[derive(Debug)]
pub struct Journal {
    folder: PathBuf,
    file: PathBuf,
    /// None only while it is being reopened, or after that failed.
    connection: Option<Connection>,
    epoch: u64,
    head: Position,
    size_limit: Option<u64>,
    failed: bool,
    batch: Vec<u8>,
    _lock: Lock,
}

/// A journal, and what was found when it was opened.
#[derive(Debug)]
pub struct Opened {
    /// The journal.
    pub journal: Journal,
    /// The last batch, where it was damaged. The journal goes on without it.
    pub cut: Option<Cut>,
}

/// A damaged last batch that is no longer part of the journal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cut {
    /// The sequence of its first record.
    pub first: u64,
    /// The sequence of its last record.
    pub last: u64,
    /// What was wrong with it.
    pub what: String,
    /// Where its bytes are kept.
    pub aside: PathBuf,
}

impl Journal {
    /// Opens the journal in `folder` for appending, and raises its epoch; makes folder and journal where there are none.
    ///
    /// What a crash left of a batch that was never acknowledged goes without a word. The last batch is checked: where it is
    /// damaged, and the one before it is not, it is cut off and kept aside. All else is checked as it is read.
    ///
    /// # Errors
    /// Somebody else holds the journal, it cannot be written to, is of a newer format, or is damaged before its last batch.
    pub fn open(folder: &Path) -> Result<Opened, Error> {
        let lock = Lock::take(folder)?;
        let file = store::file_of(folder);
        let connection = store::open(folder)?;
        let cut = cut_damaged_end(folder, &connection)?;
        let failed = Error::store(&file);
        connection.execute("UPDATE journal SET epoch = epoch + 1", ()).map_err(&failed)?;
        let epoch = store::epoch(&connection).map_err(&failed)?;
        let head = store::head(&connection).map_err(&failed)?;
        let journal = Self {
            folder: folder.to_owned(),
            file: file.clone(),
            connection: Some(connection),
            epoch,
            head,
            size_limit: None,
            failed: false,
            batch: Vec::new(),
            _lock: lock,
        };
        Ok(Opened { journal, cut })
    }

    /// The journal's folder.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// How often the journal was opened for appending, this time included; more after a restore.
    pub fn epoch(&self) -> u64 {
        self.epoch
    }

    /// The end of what was appended.
    pub fn head(&self) -> Position {
        self.head
    }

    /// A reader beside this journal, for any thread.
    ///
    /// # Errors
    /// The journal cannot be read.
    pub fn reader(&self) -> Result<Reader, Error> {
        Reader::open(&self.folder)
    }

    /// Limits the size of `journal.sqlite`, its log not included: an append that needs more fails with [`Error::Full`].
    /// What is stored already stays.
    ///
    /// # Errors
    /// SQLite does not take it.
    pub fn limit_size(&mut self, bytes: Option<u64>) -> Result<(), Error> {
        self.size_limit = bytes;
        self.apply_size_limit()
    }

    /// Appends `records` as one batch, where the journal ends with the sequence `expected` and has the epoch `epoch`. When
    /// this returns they are on disk; the new end is returned. No records are no batch.
    ///
    /// # Errors
    /// Nothing of the batch is in the journal. After [`Error::StaleSequence`], [`Error::StaleEpoch`] and
    /// [`Error::TooLarge`] the journal is as it was. After any other it takes nothing until [`Journal::reopen`]: the
    /// caller drops its state and folds anew.
    pub fn append<I>(&mut self, expected: u64, epoch: u64, records: I) -> Result<Position, Error>
    where
        I: IntoIterator,
        I::Item: AsRef<[u8]>,
    {
        if self.failed {
            return Err(Error::Failed);
        }
        self.check_caller(expected, epoch)?;
        self.batch.clear();
        let mut head = self.head;
        for record in records {
            frame::push(&mut self.batch, record.as_ref())?;
            head = head.after(record.as_ref());
        }
        if head == self.head {
            return Ok(head);
        }
        self.failed = true;
        self.write(head)?;
        self.failed = false;
        self.head = head;
        Ok(head)
    }

    /// Looks at what is on disk after an append has failed, and takes appends again. Returns the journal's end, which is
    /// that of the last append that did not fail.
    ///
    /// # Errors
    /// The journal still cannot be used; this can be tried again.
    pub fn reopen(&mut self) -> Result<Position, Error> {
        self.failed = true;
        self.connection = None;
        let connection = store::open(&self.folder)?;
        let failed = Error::store(&self.file);
        let epoch = store::epoch(&connection).map_err(&failed)?;
        if epoch != self.epoch {
            return Err(Error::StaleEpoch { given: self.epoch, current: epoch });
        }
        // A log that could not be synced may hold the batch whose append failed. Its caller was told that it is not there.
        let on_disk = store::head(&connection).map_err(&failed)?;
        if on_disk.sequence > self.head.sequence {
            connection.execute("DELETE FROM batch WHERE last > ?1", [self.head.sequence]).map_err(&failed)?;
        }
        // This write lies over what is left of that batch in the log, and shows that the disk takes writes again.
        connection.execute("UPDATE journal SET epoch = ?1", [self.epoch]).map_err(&failed)?;
        let on_disk = store::head(&connection).map_err(&failed)?;
        if on_disk != self.head {
            let what = format!("it ends with record {}, and {} was on disk", on_disk.sequence, self.head.sequence);
            return Err(Error::Damaged(Damage { file: self.file.clone(), records: None, what }));
        }
        self.connection = Some(connection);
        self.apply_size_limit()?;
        self.failed = false;
        Ok(self.head)
    }

    /// Moves records up to the sequence `up_to`, whole batches only, to archived segments. Reading, exports and checks go
    /// over both alike. A segment is on disk, read again and checked, before its records leave the database, which uses
    /// their room again. Only what a snapshot covers should go: a start would read it from the archive.
    ///
    /// # Errors
    /// The records cannot be read or are damaged, or a segment cannot be written. What is in no segment stays where it is.
    pub fn compact(&mut self, up_to: u64) -> Result<Vec<Segment>, Error> {
        let reader = self.reader()?;
        let mut segments = Vec::new();
        while let Some(segment) = Segment::write(&reader, up_to)? {
            self.retire(&segment)?;
            segments.push(segment);
        }
        Ok(segments)
    }

    /// Takes a segment's records, which its file has, out of the database.
    pub(crate) fn retire(&mut self, segment: &Segment) -> Result<(), Error> {
        if self.failed {
            return Err(Error::Failed);
        }
        self.failed = true;
        let file = &self.file;
        let connection = self.connection.as_mut().ok_or(Error::Failed)?;
        retire(connection, segment).map_err(Error::store(file))?;
        self.failed = false;
        Ok(())
    }

    fn check_caller(&self, expected: u64, epoch: u64) -> Result<(), Error> {
        if epoch != self.epoch {
            return Err(Error::StaleEpoch { given: epoch, current: self.epoch });
        }
        if expected != self.head.sequence {
            return Err(Error::StaleSequence { expected, head: self.head.sequence });
        }
        Ok(())
    }

    /// Writes the batch that ends at `head`. The journal's end and epoch are compared with those on disk, in the same
    /// transaction: a lock that a file system does not keep must not fork the chain.
    fn write(&mut self, head: Position) -> Result<(), Error> {
        let failed = Error::store(&self.file);
        let connection = self.connection.as_mut().ok_or(Error::Failed)?;
        let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate).map_err(&failed)?;
        let epoch = store::epoch(&transaction).map_err(&failed)?;
        if epoch != self.epoch {
            return Err(Error::StaleEpoch { given: self.epoch, current: epoch });
        }
        let on_disk = store::head(&transaction).map_err(&failed)?;
        if on_disk != self.head {
            return Err(Error::StaleSequence { expected: self.head.sequence, head: on_disk.sequence });
        }
        store::insert(&transaction, head, head.sequence - self.head.sequence, &self.batch).map_err(&failed)?;
        transaction.commit().map_err(&failed)
    }

    fn apply_size_limit(&self) -> Result<(), Error> {
        let Some(connection) = &self.connection else { return Ok(()) };
        let failed = Error::store(&self.file);
        let page: u64 = connection.pragma_query_value(None, "page_size", |row| row.get(0)).map_err(&failed)?;
        // SQLite's own limit, where none is set.
        let pages = self.size_limit.map_or(4_294_967_294, |bytes| (bytes / page).max(1));
        connection.pragma_update_and_check(None, "max_page_count", pages, |_| Ok(())).map_err(&failed)
    }
}

fn retire(connection: &mut Connection, segment: &Segment) -> rusqlite::Result<()> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    transaction.prepare_cached("INSERT INTO segment (first, last, chain) VALUES (?1, ?2, ?3)")?.execute((
        segment.first,
        segment.last,
        segment.chain.0,
    ))?;
    transaction.prepare_cached("DELETE FROM batch WHERE last <= ?1")?.execute([segment.last])?;
    transaction.commit()
}

/// Cuts off the last batch where it is damaged and the one before it is not.
fn cut_damaged_end(folder: &Path, connection: &Connection) -> Result<Option<Cut>, Error> {
    let file = store::file_of(folder);
    let reader = Reader::open(folder)?;
    let end = store::head(connection).map_err(Error::store(&file))?;
    let Some(count) = store::count(connection, end.sequence).map_err(Error::store(&file))? else { return Ok(None) };
    let before = reader.boundary(end.sequence - 1)?;
    let chain = reader.chain_at(before)?.unwrap_or(Hash::ZERO);
    let records =
        store::records(connection, end.sequence).map_err(|source| store::reading(&file, before + 1, source))?;
    let what = match chain_through(&records, count, chain) {
        Ok(_) if end.sequence != before + count => {
            let what = "records are missing before the last batch".to_owned();
            return Err(Error::Damaged(Damage { file, records: Some((before + 1, end.sequence)), what }));
        }
        Ok(chain) if chain == end.chain => return Ok(None),
        Ok(_) => "the hash chain does not fit".to_owned(),
        Err(what) => what,
    };
    let mut reading = reader.read(before, Check::Chain).until(before);
    while reading.next_chunk()?.is_some() {}
    let aside = keep_aside(folder, before + 1, end.sequence, &records)?;
    connection.execute("DELETE FROM batch WHERE last = ?1", [end.sequence]).map_err(Error::store(&file))?;
    Ok(Some(Cut { first: before + 1, last: end.sequence, what, aside }))
}

/// The chain after a batch of `count` records; or what is wrong with them.
fn chain_through(mut records: &[u8], count: u64, before: Hash) -> Result<Hash, String> {
    let (mut found, mut chain) = (0, before);
    while !records.is_empty() {
        found += 1;
        let record = frame::pop(&mut records).map_err(|what| format!("its record {found}: {what}"))?;
        chain = chain.after(record);
    }
    if found != count {
        return Err(format!("it has {found} records, and {count} were written"));
    }
    Ok(chain)
}

fn keep_aside(folder: &Path, first: u64, last: u64, records: &[u8]) -> Result<PathBuf, Error> {
    let name = |copy| folder.join(format!("cut-{first:012}-{last:012}-{copy}.batch"));
    let path = (1..).map(name).find(|path| !path.exists()).unwrap_or_else(|| name(0));
    file::write_whole(&path, |output| output.write_all(records).map_err(Error::file(&path)))?;
    Ok(path)
}
