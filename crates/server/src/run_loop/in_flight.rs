//! Batches on their way to the disk, in order.

use std::collections::VecDeque;
use std::sync::mpsc::SyncSender;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use super::{Message, Release, Shared};
use crate::problem::journal_unavailable;

/// Batches on their way to the disk, in order, each with what is let out once it is there.
#[derive(Debug)]
pub(super) struct InFlight {
    inner: Mutex<Inner>,
    changed: Condvar,
    wake: SyncSender<Message>,
}

#[derive(Debug, Default)]
struct Inner {
    /// Each batch with those behind it that have no facts of their own.
    batches: VecDeque<Vec<Release>>,
    failure: Option<String>,
}

impl InFlight {
    pub(super) fn new(wake: SyncSender<Message>) -> Self {
        Self { inner: Mutex::default(), changed: Condvar::new(), wake }
    }

    /// A batch is about to be given to the journal.
    pub(super) fn push(&self, release: Release) {
        self.lock().batches.push_back(vec![release]);
    }

    /// Something that needs no facts but those before it.
    pub(super) fn release_behind(&self, release: Release, shared: &Shared) {
        {
            let mut inner = self.lock();
            if let Some(last) = inner.batches.back_mut() {
                last.push(release);
                return;
            }
            if let Some(reason) = inner.failure.clone() {
                drop(inner);
                release.refuse(&journal_unavailable(&reason));
                return;
            }
        }
        release.go(shared);
    }

    /// The oldest batch is on disk, or never will be.
    pub(super) fn written(&self, result: Result<(), String>, shared: &Shared) {
        let (releases, failure) = {
            let mut inner = self.lock();
            if let Err(reason) = result
                && inner.failure.is_none()
            {
                // Before anyone hears of it: whoever was refused finds the server read-only.
                shared.set_read_only(Some(reason.clone()));
                inner.failure = Some(reason);
            }
            (inner.batches.pop_front().unwrap_or_default(), inner.failure.clone())
        };
        self.changed.notify_all();
        for release in releases {
            match &failure {
                None => release.go(shared),
                Some(reason) => release.refuse(&journal_unavailable(reason)),
            }
        }
        if failure.is_some() {
            // A full channel wakes the loop as well.
            let _ = self.wake.try_send(Message::Wake);
        }
    }

    /// Waits until fewer batches than this are on their way.
    pub(super) fn wait_below(&self, most: usize) {
        let inner = self.lock();
        let waited = self.changed.wait_while(inner, |inner| inner.batches.len() >= most);
        drop(waited.unwrap_or_else(PoisonError::into_inner));
    }

    /// Why a batch could not be written.
    pub(super) fn failure(&self) -> Option<String> {
        self.lock().failure.clone()
    }

    /// The journal takes batches again.
    pub(super) fn recovered(&self) {
        self.lock().failure = None;
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
