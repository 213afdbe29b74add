//! While the journal takes nothing: reads go on, writes are refused, and each second it is tried again.

use std::sync::mpsc::RecvTimeoutError;
use std::time::{Duration, Instant};

use super::{Message, RunLoop};
use offtake_journal::Error;

use crate::core::Core;
use crate::problem::journal_unavailable;
use crate::store::StoreError;

/// Between two tries.
const PROBE: Duration = Duration::from_secs(1);

impl RunLoop {
    /// Drops all that is not on disk, folds the journal anew and serves reads from that, until the journal takes facts
    /// again or the server is stopped.
    ///
    /// # Errors
    /// The journal cannot be read either.
    pub(super) fn survive(&mut self, reason: &str) -> Result<(), StoreError> {
        let mut reason = reason.to_owned();
        loop {
            tracing::error!(reason, "the journal takes nothing: read-only until it does");
            self.shared.set_read_only(Some(reason.clone()));
            self.in_flight.wait_below(1);
            self.refuse_all(&reason);
            // The facts that took something back may be gone with the batch.
            self.shared.callers.forget();
            self.shared.agents.forget_all();
            self.fold_anew()?;
            self.serve_reads(&reason)?;
            if self.stopping {
                return Ok(());
            }
            self.in_flight.recovered();
            self.core.open(self.clock.now(), self.store.epoch(), self.store.declared());
            self.shared.set_epoch(self.store.epoch());
            self.hand_over(Duration::ZERO);
            self.in_flight.wait_below(1);
            match self.in_flight.failure() {
                Some(again) => reason = again,
                None => break,
            }
        }
        tracing::info!("the journal takes facts again");
        self.shared.set_read_only(None);
        Ok(())
    }

    fn refuse_all(&mut self, reason: &str) {
        let problem = journal_unavailable(reason);
        for (_, waiting) in self.waiting.drain() {
            let _ = waiting.send(Err(problem.clone()));
        }
        for told in self.told.drain(..) {
            told(Err(problem.clone()));
        }
    }

    fn fold_anew(&mut self) -> Result<(), StoreError> {
        // The state that never was goes before the memory for the new one is taken.
        self.core = Core::new(self.store.settings());
        let folded = self.store.fold(None)?;
        self.core = folded.core;
        Ok(())
    }

    /// # Errors
    /// Another server has taken the journal over: this one must not go on.
    fn serve_reads(&mut self, reason: &str) -> Result<(), StoreError> {
        for message in std::mem::take(&mut self.put_off) {
            self.only_show(message, reason);
        }
        let mut next_try = Instant::now() + PROBE;
        while !self.stopping {
            match self.messages.recv_timeout(next_try.saturating_duration_since(Instant::now())) {
                Ok(message) => self.only_show(message, reason),
                Err(RecvTimeoutError::Disconnected) => self.stopping = true,
                Err(RecvTimeoutError::Timeout) => {}
            }
            if Instant::now() >= next_try {
                match self.store.try_to_write_again() {
                    Ok(()) => return Ok(()),
                    Err(error @ (Error::StaleEpoch { .. } | Error::Held { .. })) => return Err(error.into()),
                    Err(error) => tracing::warn!(%error, "the journal still takes nothing"),
                }
                next_try = Instant::now() + PROBE;
            }
        }
        Ok(())
    }

    fn only_show(&mut self, message: Message, reason: &str) {
        match message {
            Message::Input(_, _, _, waiting) => {
                let _ = waiting.send(Err(journal_unavailable(reason)));
            }
            Message::Look(look) => look(&mut self.core)(Ok(())),
            Message::Stop => self.stopping = true,
            Message::Hangup(_) | Message::Wake => {}
        }
    }
}
