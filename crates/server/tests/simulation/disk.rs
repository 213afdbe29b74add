//! The server's disk: facts in order, written in groups, each of them whole or not at all.

use std::collections::VecDeque;

use offtake_server::core::{Answer, Batch, Ticket};
use offtake_server::fact::Fact;

use offtake_protocol::rest::Problem;

/// A batch that is on its way to the disk, with what is said once it is there.
pub struct Written {
    pub facts: Vec<Fact>,
    pub replies: Vec<(Ticket, Result<Answer, Problem>)>,
}

/// The disk.
#[derive(Default)]
pub struct Disk {
    /// What is on it.
    pub facts: Vec<Fact>,
    /// What is to be written, in order. The first `writing` of them are being written together.
    pub queue: VecDeque<Written>,
    pub writing: usize,
    /// It refuses to write.
    pub fails: bool,
    /// A snapshot: how many facts it holds, and the core as JSON.
    pub snapshot: Option<(usize, String)>,
}

impl Disk {
    pub fn take(&mut self, batch: Batch) {
        if batch.facts.is_empty() && batch.replies.is_empty() {
            return;
        }
        let replies = batch.replies.into_iter().map(|reply| (reply.ticket, reply.answer)).collect();
        self.queue.push_back(Written { facts: batch.facts, replies });
    }

    /// Begins to write all that waits. False when there is nothing, or it writes already.
    pub fn begin(&mut self) -> bool {
        if self.writing > 0 || self.queue.is_empty() {
            return false;
        }
        self.writing = self.queue.len();
        true
    }

    /// What was being written is on disk.
    pub fn commit(&mut self) -> Vec<Written> {
        let written: Vec<Written> = self.queue.drain(..std::mem::take(&mut self.writing)).collect();
        self.facts.extend(written.iter().flat_map(|batch| batch.facts.iter().cloned()));
        written
    }

    /// The writer is gone with what it had not written.
    pub fn drop_queue(&mut self) -> Vec<Written> {
        self.writing = 0;
        self.queue.drain(..).collect()
    }
}
