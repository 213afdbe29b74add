//! Group commit: a thread that owns the journal and commits at once all that waits.

use std::collections::VecDeque;
use std::mem;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, mpsc};
use std::thread::{self, JoinHandle};

use crate::archive::Segment;
use crate::error::Error;
use crate::frame::{HEADER, MAX_BATCH, MAX_RECORD};
use crate::hash::Position;
use crate::journal::Journal;
use crate::reader::Reader;

/// Called once a batch is on disk, with the sequence of its last record, or once it is known not to be. It runs on the
/// writer's thread, in the order of submission: it should be short, must not panic and must not wait for the writer. Should
/// the writer's thread die of a panic, it is dropped and not called.
pub type Done = Box<dyn FnOnce(Result<u64, Arc<Error>>) + Send>;

/// Bytes that may wait. One batch that is larger waits alone.
const WAITING_BYTES: usize = 64 << 20;

/// Batches and tasks that may wait.
const WAITING_ITEMS: usize = 16_384;

/// Bytes after which a transaction is committed, though more waits.
const COMMIT_BYTES: usize = 16 << 20;

/// A journal with a thread of its own.
///
/// Many threads may submit. What waits while the disk is busy is committed in one transaction next. After a commit has
/// failed, all that was submitted fails with [`Error::Behind`] until [`Writer::restart`]: it was decided on facts that are
/// not there.
#[derive(Debug)]
pub struct Writer {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<Journal>>,
}

/// What waits for the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Backlog {
    /// Batches, those not counted that are being committed.
    pub batches: usize,
    /// Their bytes.
    pub bytes: usize,
}

impl Writer {
    /// Starts the thread.
    ///
    /// # Errors
    /// The system gives no thread.
    pub fn start(mut journal: Journal) -> Result<Self, Error> {
        let folder = journal.folder().to_owned();
        let shared = Arc::new(Shared::default());
        let queue = Arc::clone(&shared);
        let work = move || {
            let _guard = CloseOnExit(&queue);
            let mut committer =
                Committer { journal: &mut journal, failed: false, group: Vec::new(), records: 0, bytes: 0 };
            while let Some(items) = queue.take() {
                committer.work_through(items);
            }
            journal
        };
        let thread = thread::Builder::new().name("journal".to_owned()).spawn(work).map_err(Error::file(&folder))?;
        Ok(Self { shared, thread: Some(thread) })
    }

    /// Hands in a batch for a journal that ends with the sequence `expected` once all that was handed in before is
    /// appended. Waits while too much is in the queue.
    ///
    /// # Errors
    /// The batch is too large, or the writer has ended; `done` is not called then.
    pub fn submit(&self, expected: u64, records: Vec<Vec<u8>>, done: Done) -> Result<(), Error> {
        let largest = records.iter().map(Vec::len).max().unwrap_or(0);
        let bytes = records.iter().map(|record| record.len() + HEADER).sum();
        for (what, bytes, limit) in [("a record", largest, MAX_RECORD), ("a batch", bytes, MAX_BATCH)] {
            if bytes > limit {
                return Err(Error::TooLarge { what, bytes, limit });
            }
        }
        self.shared.put(Item::Batch(Batch { expected, records, bytes, done }))
    }

    /// Runs `task` on the writer's thread after all that was submitted before it is on disk, and returns what it returns.
    /// Commits wait for it.
    ///
    /// # Errors
    /// The writer has ended.
    pub fn with<R: Send + 'static>(&self, task: impl FnOnce(&mut Journal) -> R + Send + 'static) -> Result<R, Error> {
        self.ask(|reply| Item::Task(Box::new(move |journal| drop(reply.send(task(journal))))))
    }

    /// Begins a new run after a commit has failed: reopens the journal, and takes batches again. Returns the journal's end,
    /// from which the caller folds anew. All submitted before this is decided by then: it is on disk, or has failed.
    ///
    /// # Errors
    /// The cause is still there; this can be tried again. Or the writer has ended.
    pub fn restart(&self) -> Result<Position, Error> {
        self.ask(Item::Restart)?
    }

    /// As [`Journal::compact`], while batches are being committed.
    ///
    /// # Errors
    /// As there, or the writer has ended.
    pub fn compact(&self, up_to: u64) -> Result<Vec<Segment>, Error> {
        let folder = self.with(|journal| journal.folder().to_owned())?;
        let reader = Reader::open(&folder)?;
        let mut segments = Vec::new();
        while let Some(segment) = Segment::write(&reader, up_to)? {
            self.with(move |journal| journal.retire(&segment))??;
            segments.push(segment);
        }
        Ok(segments)
    }

    /// What waits at the moment.
    pub fn backlog(&self) -> Backlog {
        let queue = self.shared.lock();
        Backlog { batches: queue.items.len(), bytes: queue.bytes }
    }

    /// Commits all that waits, ends the thread and gives the journal back.
    ///
    /// # Errors
    /// The thread has panicked.
    pub fn close(mut self) -> Result<Journal, Error> {
        self.end().ok_or(Error::Closed)
    }

    fn end(&mut self) -> Option<Journal> {
        self.shared.close();
        self.thread.take()?.join().ok()
    }

    fn ask<R>(&self, item: impl FnOnce(mpsc::Sender<R>) -> Item) -> Result<R, Error> {
        let (reply, answer) = mpsc::channel();
        self.shared.put(item(reply))?;
        answer.recv().map_err(|_| Error::Closed)
    }
}

impl Drop for Writer {
    /// As [`Writer::close`].
    fn drop(&mut self) {
        self.end();
    }
}

enum Item {
    Batch(Batch),
    Task(Box<dyn FnOnce(&mut Journal) + Send>),
    Restart(mpsc::Sender<Result<Position, Error>>),
}

struct Batch {
    expected: u64,
    records: Vec<Vec<u8>>,
    bytes: usize,
    done: Done,
}

#[derive(Default)]
struct Queue {
    items: VecDeque<Item>,
    /// Of all batches.
    bytes: usize,
    closed: bool,
}

#[derive(Default)]
struct Shared {
    queue: Mutex<Queue>,
    /// Something waits, or the queue is closed.
    filled: Condvar,
    /// There is room, or the queue is closed.
    emptied: Condvar,
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shared").finish_non_exhaustive()
    }
}

impl Shared {
    /// Nothing can panic while the queue is locked.
    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn put(&self, item: Item) -> Result<(), Error> {
        let bytes = if let Item::Batch(batch) = &item { batch.bytes } else { 0 };
        let is_full = |queue: &mut Queue| {
            let over = queue.items.len() >= WAITING_ITEMS || queue.bytes + bytes > WAITING_BYTES;
            over && !queue.items.is_empty() && !queue.closed
        };
        let mut queue = self.emptied.wait_while(self.lock(), is_full).unwrap_or_else(PoisonError::into_inner);
        if queue.closed {
            return Err(Error::Closed);
        }
        queue.bytes += bytes;
        queue.items.push_back(item);
        self.filled.notify_one();
        Ok(())
    }

    /// All that waits; none once the queue is closed and empty.
    fn take(&self) -> Option<VecDeque<Item>> {
        let nothing = |queue: &mut Queue| queue.items.is_empty() && !queue.closed;
        let mut queue = self.filled.wait_while(self.lock(), nothing).unwrap_or_else(PoisonError::into_inner);
        queue.bytes = 0;
        self.emptied.notify_all();
        Some(mem::take(&mut queue.items)).filter(|items| !items.is_empty())
    }

    fn close(&self) {
        self.lock().closed = true;
        self.filled.notify_all();
        self.emptied.notify_all();
    }
}

/// Nobody waits for a thread that is gone.
struct CloseOnExit<'s>(&'s Shared);

impl Drop for CloseOnExit<'_> {
    fn drop(&mut self) {
        self.0.close();
        let left = mem::take(&mut self.0.lock().items);
        drop(left);
    }
}

struct Committer<'j> {
    journal: &'j mut Journal,
    /// Whether a commit has failed since the start or the last restart.
    failed: bool,
    /// Batches that go into the next transaction.
    group: Vec<Batch>,
    /// Records in the group.
    records: u64,
    bytes: usize,
}

impl Committer<'_> {
    fn work_through(&mut self, items: VecDeque<Item>) {
        for item in items {
            match item {
                Item::Batch(batch) => self.add(batch),
                Item::Task(task) => {
                    self.commit();
                    task(self.journal);
                }
                Item::Restart(reply) => {
                    self.commit();
                    let result = self.journal.reopen();
                    self.failed = result.is_err();
                    // Whoever asked may have gone.
                    let _ = reply.send(result);
                }
            }
        }
        self.commit();
    }

    fn add(&mut self, batch: Batch) {
        if self.bytes + batch.bytes > COMMIT_BYTES {
            self.commit();
        }
        if !self.failed {
            let head = self.journal.head().sequence + self.records;
            if batch.expected == head {
                self.bytes += batch.bytes;
                self.records += batch.count();
                self.group.push(batch);
                return;
            }
            self.commit();
            let stale = Error::StaleSequence { expected: batch.expected, head };
            return (batch.done)(Err(Arc::new(if self.failed { Error::Behind } else { stale })));
        }
        (batch.done)(Err(Arc::new(Error::Behind)));
    }

    fn commit(&mut self) {
        (self.records, self.bytes) = (0, 0);
        let group = mem::take(&mut self.group);
        if group.is_empty() {
            return;
        }
        let before = self.journal.head().sequence;
        let records = group.iter().flat_map(|batch| &batch.records);
        let result = self.journal.append(before, self.journal.epoch(), records);
        self.failed = result.is_err();
        let failure = result.err().map(Arc::new);
        let mut last = before;
        for batch in group {
            last += batch.count();
            (batch.done)(failure.clone().map_or(Ok(last), Err));
        }
    }
}

impl Batch {
    fn count(&self) -> u64 {
        self.records.len() as u64
    }
}
