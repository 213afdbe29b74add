//! Output of work on its way from the agents to those who read it.
//!
//! A reader's request is put into the orders of the nodes that have the output; their agents then send it here in pieces.
//! Pieces pass through a short channel: an agent waits for a slow reader. When the reader is gone the agent is told so.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use axum::body::Bytes;
use tokio::sync::mpsc;

/// Pieces between agent and reader, each at most as large as a request may be.
const PIECES: usize = 4;

/// Requests of readers that agents answer.
#[derive(Debug)]
pub(crate) struct LogRelay {
    next: AtomicU64,
    requests: Mutex<HashMap<u64, Request>>,
}

#[derive(Debug)]
struct Request {
    node: String,
    pieces: mpsc::Sender<Bytes>,
}

/// Why a piece was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Gone;

impl LogRelay {
    pub(crate) fn new() -> Self {
        Self { next: AtomicU64::new(1), requests: Mutex::default() }
    }

    /// A channel to a reader.
    pub(crate) fn channel() -> (mpsc::Sender<Bytes>, mpsc::Receiver<Bytes>) {
        mpsc::channel(PIECES)
    }

    /// A request to a node, whose output goes to `pieces`.
    pub(crate) fn open(&self, node: &str, pieces: mpsc::Sender<Bytes>) -> u64 {
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        self.lock().insert(id, Request { node: node.to_owned(), pieces });
        id
    }

    /// Nothing more comes for the request, or nobody wants it; whether it was open.
    pub(crate) fn close(&self, id: u64) -> bool {
        self.lock().remove(&id).is_some()
    }

    /// Whether a node may still send something for the request.
    pub(crate) fn is_open(&self, id: u64) -> bool {
        self.lock().contains_key(&id)
    }

    /// Whether the request is this node's to answer.
    pub(crate) fn is_of(&self, id: u64, node: &str) -> bool {
        self.lock().get(&id).is_some_and(|request| request.node == node)
    }

    /// Passes a piece of a node's output on, when the reader has taken those before it.
    ///
    /// # Errors
    /// Nobody waits for it from this node.
    pub(crate) async fn pass(&self, id: u64, node: &str, piece: Bytes) -> Result<(), Gone> {
        let request = self.lock().get(&id).filter(|request| request.node == node).map(|request| request.pieces.clone());
        request.ok_or(Gone)?.send(piece).await.map_err(|_| Gone)
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<u64, Request>> {
        self.requests.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn pieces_come_from_the_node_that_was_asked_until_the_reader_is_gone() {
        let relay = LogRelay::new();
        let (pieces, mut reader) = LogRelay::channel();
        let id = relay.open("a", pieces);
        assert_eq!(relay.pass(id, "b", Bytes::from_static(b"forged")).await, Err(Gone));
        assert_eq!(relay.pass(id, "a", Bytes::from_static(b"one")).await, Ok(()));
        assert_eq!(reader.recv().await.as_deref(), Some(&b"one"[..]));
        drop(reader);
        assert_eq!(relay.pass(id, "a", Bytes::from_static(b"two")).await, Err(Gone));
        assert!(relay.close(id));
        assert!(!relay.close(id));
    }

    #[tokio::test]
    async fn the_stream_ends_with_the_last_request() {
        let relay = LogRelay::new();
        let (pieces, mut reader) = LogRelay::channel();
        let ids = [relay.open("a", pieces.clone()), relay.open("b", pieces)];
        relay.close(ids[0]);
        assert_eq!(relay.pass(ids[1], "b", Bytes::from_static(b"last")).await, Ok(()));
        relay.close(ids[1]);
        assert_eq!(reader.recv().await.as_deref(), Some(&b"last"[..]));
        assert_eq!(reader.recv().await, None);
    }
}
