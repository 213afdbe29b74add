//! What the loop and those who ask it have in common.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::broadcast;

use crate::history::History;
use crate::identity::{Agents, Callers};
use crate::metrics::Metrics;
use crate::spans::Spans;
use crate::step_waiters::StepWaiters;
use crate::store::SnapshotWriter;

/// Batches that a subscriber may be behind, before it has to read from disk.
const EVENTS_KEPT: usize = 1024;

/// A fact that is on disk.
#[derive(Clone, Debug)]
pub(crate) struct Published {
    pub(crate) sequence: u64,
    /// As the journal has it.
    pub(crate) record: Arc<[u8]>,
    /// Whose job it is about.
    pub(crate) tenant: Option<Arc<str>>,
}

/// What the loop and those who ask it have in common.
#[derive(Debug)]
pub(crate) struct Shared {
    sequence: AtomicU64,
    epoch: AtomicU64,
    read_only: Mutex<Option<String>>,
    /// Facts on disk, as they come.
    pub(crate) events: broadcast::Sender<Arc<[Published]>>,
    pub(crate) callers: Callers,
    pub(crate) agents: Agents,
    pub(crate) steps: StepWaiters,
    pub(crate) history: History,
    pub(crate) snapshots: SnapshotWriter,
    pub(crate) metrics: Metrics,
    pub(crate) spans: Spans,
}

impl Shared {
    pub(crate) fn new(sequence: u64, history: History, snapshots: SnapshotWriter, spans: Spans) -> Self {
        Self {
            sequence: AtomicU64::new(sequence),
            epoch: AtomicU64::new(0),
            read_only: Mutex::new(None),
            events: broadcast::Sender::new(EVENTS_KEPT),
            callers: Callers::new(),
            agents: Agents::new(),
            steps: StepWaiters::default(),
            history,
            snapshots,
            metrics: Metrics::new(),
            spans,
        }
    }

    /// The last fact on disk.
    pub(crate) fn sequence(&self) -> u64 {
        self.sequence.load(Ordering::Acquire)
    }

    pub(super) fn set_sequence(&self, sequence: u64) {
        self.sequence.store(sequence, Ordering::Release);
    }

    /// How often the journal was opened.
    pub(crate) fn epoch(&self) -> u64 {
        self.epoch.load(Ordering::Acquire)
    }

    pub(super) fn set_epoch(&self, epoch: u64) {
        self.epoch.store(epoch, Ordering::Release);
    }

    /// Why nothing can be written, when that is so.
    pub(crate) fn read_only(&self) -> Option<String> {
        self.read_only.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(super) fn set_read_only(&self, reason: Option<String>) {
        *self.read_only.lock().unwrap_or_else(PoisonError::into_inner) = reason;
    }
}
