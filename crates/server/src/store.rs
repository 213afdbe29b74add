//! The journal and what stands beside it, as the loop needs them.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::sync_channel;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use offtake_engine::Event as EngineEvent;
use offtake_fleet::Fleet;
use offtake_journal::{Check, Error, Journal, Opened, Position, Reader, Row, Snapshots, Writer};
use offtake_units::Timestamp;

use crate::core::{Core, Image, Settings};
use crate::fact::{Event, Fact};
use crate::history;

/// Why the store cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The journal.
    #[error(transparent)]
    Journal(#[from] Error),
    /// A record of the journal is none of our facts.
    #[error(
        "record {sequence} of the journal is no fact of this release ({reason}): run the release that wrote it, or a newer \
         one"
    )]
    Unknown {
        /// Which record.
        sequence: u64,
        /// What is wrong with it.
        reason: serde_json::Error,
    },
    /// A thread has panicked, or could not be started.
    #[error("the server's {0} has failed: please report this with the server's log")]
    Thread(&'static str),
}

/// The journal, open for writing as long as it takes anything.
#[derive(Debug)]
pub(crate) struct Store {
    folder: PathBuf,
    settings: Settings,
    declared: Option<Arc<Fleet>>,
    size_limit: Option<u64>,
    writer: Option<Writer>,
    cannot_write: Option<String>,
    epoch: u64,
    /// The last fact that was given to the writer.
    handed_over: u64,
}

/// The journal, folded.
#[derive(Debug)]
pub(crate) struct Folded {
    pub(crate) core: Core,
    /// When the last fact was.
    pub(crate) last_fact: Timestamp,
}

impl Store {
    /// Opens the journal in `folder`; makes one where there is none. One that is there and takes nothing is opened for
    /// reading: [`Store::cannot_write`] says why.
    ///
    /// # Errors
    /// It is in use by another server, damaged, of a newer format, or cannot be made.
    pub(crate) fn open(
        folder: &Path,
        settings: Settings,
        declared: Option<Arc<Fleet>>,
        size_limit: Option<u64>,
    ) -> Result<Self, StoreError> {
        let mut store = Self {
            folder: folder.to_owned(),
            settings,
            declared,
            size_limit,
            writer: None,
            cannot_write: None,
            epoch: 0,
            handed_over: 0,
        };
        match store.open_writer() {
            Ok(()) => Ok(store),
            Err(error @ (Error::Full { .. } | Error::ReadOnly { .. })) => {
                let Ok(reader) = Reader::open(folder) else { return Err(error.into()) };
                store.epoch = reader.epoch()?;
                store.cannot_write = Some(error.to_string());
                Ok(store)
            }
            Err(error) => Err(error.into()),
        }
    }

    fn open_writer(&mut self) -> Result<(), Error> {
        let Opened { mut journal, cut } = Journal::open(&self.folder)?;
        if let Some(cut) = cut {
            tracing::warn!(
                first = cut.first, last = cut.last, what = cut.what, aside = %cut.aside.display(),
                "the journal's last batch was damaged and is cut off"
            );
        }
        journal.limit_size(self.size_limit)?;
        (self.epoch, self.handed_over) = (journal.epoch(), journal.head().sequence);
        self.writer = Some(Writer::start(journal)?);
        self.cannot_write = None;
        Ok(())
    }

    /// Why the journal takes nothing.
    pub(crate) fn cannot_write(&self) -> Option<String> {
        self.cannot_write.clone()
    }

    /// How often the journal was opened for writing.
    pub(crate) const fn epoch(&self) -> u64 {
        self.epoch
    }

    pub(crate) const fn handed_over(&self) -> u64 {
        self.handed_over
    }

    pub(crate) fn settings(&self) -> Settings {
        self.settings.clone()
    }

    pub(crate) fn declared(&self) -> Option<Arc<Fleet>> {
        self.declared.clone()
    }

    /// Has records appended behind all that were handed over before; `done` is called with why not, if not.
    ///
    /// # Errors
    /// They are too large, or the writer is gone; `done` is not called then.
    pub(crate) fn append(
        &mut self,
        records: Vec<Vec<u8>>,
        done: impl FnOnce(Result<(), String>) + Send + 'static,
    ) -> Result<(), Error> {
        let expected = self.handed_over;
        self.handed_over += records.len() as u64;
        let writer = self.writer.as_ref().ok_or(Error::Closed)?;
        let done = Box::new(move |written: Result<u64, Arc<Error>>| {
            done(written.map(drop).map_err(|error| error.to_string()));
        });
        writer.submit(expected, records, done)
    }

    /// Looks whether the journal takes something again: what the failed append may have left is removed, and a new epoch
    /// begins.
    ///
    /// # Errors
    /// It does not.
    pub(crate) fn try_to_write_again(&mut self) -> Result<(), Error> {
        if let Some(writer) = &self.writer {
            writer.restart()?;
        }
        // The new epoch needs the lock that the old one holds.
        drop(self.writer.take());
        self.open_writer()
    }

    /// Folds the journal: the newest snapshot that holds, and all facts after it.
    ///
    /// Jobs that have ended since `history` was last written are written there again.
    ///
    /// # Errors
    /// The journal cannot be read.
    pub(crate) fn fold(&self, history: Option<&offtake_journal::History>) -> Result<Folded, StoreError> {
        let reader = Reader::open(&self.folder)?;
        let written = history.map(applied).transpose()?;
        let core = match self.restored(&reader)? {
            Some(core) if written.is_none_or(|written| written >= core.sequence()) => core,
            Some(_) => {
                tracing::warn!("the history of jobs is older than the snapshot: all facts are folded");
                Core::new(self.settings())
            }
            None => Core::new(self.settings()),
        };
        let mut fold = Fold { last_fact: core.state().now(), core, catch_up: history.zip(written), rows: Vec::new() };
        fold.all(&self.folder)?;
        Ok(Folded { core: fold.core, last_fact: fold.last_fact })
    }

    /// The core of the newest snapshot that holds.
    fn restored(&self, reader: &Reader) -> Result<Option<Core>, StoreError> {
        let found = Snapshots::of(&self.folder).latest(reader)?;
        for skipped in found.skipped {
            tracing::warn!(file = %skipped.file.display(), what = skipped.what, "a snapshot is skipped");
        }
        let Some(snapshot) = found.snapshot else { return Ok(None) };
        let restored = serde_json::from_slice::<Image>(&snapshot.bytes)
            .map_err(|error| error.to_string())
            .and_then(|image| Core::restore(image, self.settings()).map_err(|error| error.to_string()));
        match restored {
            Ok(core) => Ok(Some(core)),
            // One of an older release, say. It only would have been faster.
            Err(what) => {
                tracing::warn!(sequence = snapshot.position.sequence, what, "a snapshot is skipped");
                Ok(None)
            }
        }
    }

    /// Leaves all on disk, and lets another server have the journal.
    ///
    /// # Errors
    /// The writer's thread has panicked.
    pub(crate) fn close(mut self) -> Result<(), StoreError> {
        match self.writer.take() {
            Some(writer) => writer.close().map(drop).map_err(|_| StoreError::Thread("journal")),
            None => Ok(()),
        }
    }
}

/// Up to which fact the history is written. One that cannot be read is made anew.
fn applied(history: &offtake_journal::History) -> Result<u64, Error> {
    match history.applied_sequence() {
        Ok(sequence) => Ok(sequence),
        Err(error) => {
            tracing::warn!(%error, "the history of jobs is made anew");
            history.clear()?;
            Ok(0)
        }
    }
}

/// Rows that are written at once while folding.
const ROWS_AT_ONCE: usize = 1000;

/// Parsed chunks between the thread that reads and the one that folds.
const CHUNKS_AHEAD: usize = 4;

struct Fold<'h> {
    core: Core,
    last_fact: Timestamp,
    /// The history, and the last fact that it has.
    catch_up: Option<(&'h offtake_journal::History, u64)>,
    rows: Vec<Row>,
}

impl Fold<'_> {
    /// One thread reads and parses, this one folds.
    fn all(&mut self, folder: &Path) -> Result<(), StoreError> {
        let from = self.core.sequence() + 1;
        let (parsed, chunks) = sync_channel(CHUNKS_AHEAD);
        std::thread::scope(|scope| {
            let reading = scope.spawn(move || -> Result<(), StoreError> {
                let reader = Reader::open(folder)?;
                let mut reading = reader.read(from, Check::Checksum);
                while let Some(chunk) = reading.next_chunk()? {
                    let facts: Result<Vec<Fact>, StoreError> = chunk.iter().map(parse).collect();
                    if parsed.send(facts?).is_err() {
                        break;
                    }
                }
                Ok(())
            });
            let folded = chunks.iter().try_for_each(|facts| self.chunk(&facts));
            drop(chunks);
            reading.join().map_err(|_| StoreError::Thread("reading"))??;
            folded
        })?;
        self.write_rows()
    }

    fn chunk(&mut self, facts: &[Fact]) -> Result<(), StoreError> {
        for fact in facts {
            self.core.apply(fact);
            self.last_fact = self.last_fact.max(fact.at);
            let behind = self.catch_up.is_some_and(|(_, written)| self.core.sequence() > written);
            if behind && let Some(job) = ended(&fact.event) {
                self.rows.extend(self.core.history_row(job).map(history::row));
            }
        }
        if self.rows.len() >= ROWS_AT_ONCE { self.write_rows() } else { Ok(()) }
    }

    fn write_rows(&mut self) -> Result<(), StoreError> {
        let Some((history, written)) = self.catch_up else { return Ok(()) };
        if self.core.sequence() > written
            && let Err(error) = history.upsert(&self.rows, self.core.sequence())
        {
            // The disk may be full. What is not in the history now is folded again next time.
            tracing::warn!(%error, "the history of jobs cannot be written");
            self.catch_up = None;
        }
        self.rows.clear();
        Ok(())
    }
}

fn parse((sequence, record): (u64, &[u8])) -> Result<Fact, StoreError> {
    serde_json::from_slice(record).map_err(|reason| StoreError::Unknown { sequence, reason })
}

/// The job that has ended with this.
fn ended(event: &Event) -> Option<u64> {
    match event {
        Event::Engine(
            EngineEvent::JobFinished { job }
            | EngineEvent::JobFailed { job }
            | EngineEvent::JobCancelled { job }
            | EngineEvent::JobRejected { job, .. },
        ) => Some(job.0),
        _ => None,
    }
}

/// Writes snapshots, one at a time.
#[derive(Debug)]
pub(crate) struct SnapshotWriter {
    folder: PathBuf,
    busy: Arc<AtomicBool>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl SnapshotWriter {
    pub(crate) fn of(folder: &Path) -> Self {
        Self { folder: folder.to_owned(), busy: Arc::default(), thread: Mutex::new(None) }
    }

    /// Writes one on a thread of its own, unless one is being written.
    pub(crate) fn write_beside(&self, image: Image) {
        if self.busy.swap(true, Ordering::AcqRel) {
            return;
        }
        let (folder, busy) = (self.folder.clone(), Arc::clone(&self.busy));
        let work = move || {
            save(&folder, &image);
            busy.store(false, Ordering::Release);
        };
        match std::thread::Builder::new().name("snapshot".to_owned()).spawn(work) {
            Ok(thread) => *self.lock() = Some(thread),
            Err(error) => {
                tracing::warn!(%error, "no snapshot: there is no thread for it");
                self.busy.store(false, Ordering::Release);
            }
        }
    }

    /// Writes one once the one that is being written is.
    pub(crate) fn write_now(&self, image: &Image) {
        if let Some(thread) = self.lock().take() {
            // A panic there was shown there.
            let _ = thread.join();
        }
        save(&self.folder, image);
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Option<JoinHandle<()>>> {
        self.thread.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A snapshot that cannot be written is missed by nobody but the next start.
fn save(folder: &Path, image: &Image) {
    let saved = || -> Result<(), Error> {
        let sequence = image.sequence();
        let Some(chain) = Reader::open(folder)?.chain_at(sequence)? else { return Ok(()) };
        let bytes = serde_json::to_vec(image).expect("an image is texts and numbers");
        Snapshots::of(folder).save(Position { sequence, chain }, &bytes).map(drop)
    };
    if let Err(error) = saved() {
        tracing::warn!(%error, "the snapshot cannot be written");
    }
}
