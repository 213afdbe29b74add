//! The loop: one thread owns the core, takes in what waits, and lets out what came of it once it is on disk.
//!
//! While one batch is being written the next is made; no more than that, so the slower the disk, the larger the batches,
//! and the channel to the loop fills up only when the server really cannot keep up.

mod in_flight;
mod read_only;
mod release;
mod shared;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TryRecvError, TrySendError};
use std::time::{Duration, Instant};

use offtake_protocol::agent::{Join, Report};
use offtake_protocol::rest::Problem;
use offtake_units::Timestamp;
use offtake_workload::JobFile;
use rustc_hash::FxHashMap;
use tokio::sync::oneshot;

use crate::clock::Clock;
use crate::core::{Answer, Caller, Command, Core, Input, Key, Ticket};
use crate::problem::{busy, stopping};
use crate::store::{Store, StoreError};

use in_flight::InFlight;
use release::Release;

pub(crate) use shared::{Published, Shared};

/// An answer on its way.
type Waiting = oneshot::Sender<Result<Answer, Problem>>;

/// Looks at the core. What it returns is run once all that the core showed is on disk, or told why it never will be.
type Look = Box<dyn FnOnce(&mut Core) -> Told + Send>;

/// Tells what was seen.
type Told = Box<dyn FnOnce(Result<(), Problem>) + Send>;

/// What the loop is sent.
pub(crate) enum Message {
    /// Something to take in, its size in bytes, and who waits for the answer.
    Input(Box<Input>, usize, Ticket, Waiting),
    /// Whoever waited is gone.
    Hangup(Ticket),
    /// Someone wants to see something.
    Look(Look),
    /// The end: what waits is answered, what is written is on disk.
    Stop,
    /// Something that the loop looks at has changed.
    Wake,
}

/// Messages that are taken in before the core decides.
const MOST_AT_ONCE: usize = 1024;

/// Bytes of submissions that are taken in before the core decides: what comes of them must fit into one batch of the
/// journal. One that is larger is taken in alone.
const MOST_BYTES_AT_ONCE: usize = 16 << 20;

/// Batches on their way to the disk: one being written, one behind it.
const MOST_IN_FLIGHT: usize = 2;

/// The longest sleep.
const IDLE: Duration = Duration::from_secs(60);

/// Sends the loop what there is to do.
#[derive(Clone, Debug)]
pub(crate) struct Handle {
    messages: SyncSender<Message>,
    tickets: Arc<AtomicU64>,
}

impl std::fmt::Debug for Message {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Message")
    }
}

impl Handle {
    pub(crate) fn new(messages: SyncSender<Message>) -> Self {
        Self { messages, tickets: Arc::new(AtomicU64::new(1)) }
    }

    /// Has something changed.
    ///
    /// # Errors
    /// What the core says, or that it cannot be asked.
    pub(crate) async fn command(&self, caller: Caller, key: Option<Key>, command: Command) -> Result<Answer, Problem> {
        self.input(0, |ticket| Input::Command { ticket, caller, key, command }).await
    }

    /// Has jobs submitted that came in so many bytes.
    ///
    /// # Errors
    /// As [`Handle::command`].
    pub(crate) async fn submit(
        &self,
        caller: Caller,
        key: Option<Key>,
        files: Vec<JobFile>,
        bytes: usize,
    ) -> Result<Answer, Problem> {
        let command = Command::Submit(files);
        self.input(bytes, |ticket| Input::Command { ticket, caller, key, command }).await
    }

    /// Lets a node join.
    ///
    /// # Errors
    /// As [`Handle::command`].
    pub(crate) async fn join(&self, join: Join) -> Result<Answer, Problem> {
        self.input(0, |ticket| Input::Join { ticket, join }).await
    }

    /// Takes a node's report. The answer may come late: when there is news for the node.
    ///
    /// # Errors
    /// As [`Handle::command`].
    pub(crate) async fn report(&self, node: String, report: Report) -> Result<Answer, Problem> {
        self.input(0, |ticket| Input::Report { ticket, node, report }).await
    }

    async fn input(&self, bytes: usize, input: impl FnOnce(Ticket) -> Input) -> Result<Answer, Problem> {
        let ticket = self.tickets.fetch_add(1, Ordering::Relaxed);
        let (waiting, answer) = oneshot::channel();
        self.send(Message::Input(Box::new(input(ticket)), bytes, ticket, waiting))?;
        let mut gone = HangUp { messages: Some(&self.messages), ticket };
        let answer = answer.await;
        gone.messages = None;
        answer.unwrap_or_else(|_| Err(stopping()))
    }

    /// Shows the core as it is, once all of it is on disk.
    ///
    /// # Errors
    /// When the core cannot be asked.
    pub(crate) async fn ask<T, F>(&self, look: F) -> Result<T, Problem>
    where
        T: Send + 'static,
        F: FnOnce(&mut Core) -> T + Send + 'static,
    {
        let (sender, answer) = oneshot::channel();
        self.send(Message::Look(Box::new(move |core| {
            let seen = look(core);
            Box::new(move |on_disk| {
                // Whoever asked may be gone.
                let _ = sender.send(on_disk.map(|()| seen));
            })
        })))?;
        answer.await.unwrap_or_else(|_| Err(stopping()))
    }

    /// Has something done by the core of which nobody waits for the end. It is not done when the server is too busy.
    pub(crate) fn tell(&self, change: impl FnOnce(&mut Core) + Send + 'static) {
        let look: Look = Box::new(move |core| {
            change(core);
            Box::new(|_| ())
        });
        let _ = self.messages.try_send(Message::Look(look));
    }

    /// Ends the loop. Blocks while more waits than the loop takes.
    pub(crate) fn stop(&self) {
        // It has ended already when it cannot be told.
        let _ = self.messages.send(Message::Stop);
    }

    fn send(&self, message: Message) -> Result<(), Problem> {
        self.messages.try_send(message).map_err(|error| match error {
            TrySendError::Full(_) => busy(),
            TrySendError::Disconnected(_) => stopping(),
        })
    }
}

/// Tells the loop that whoever waited is gone, when an answer is dropped before it came.
struct HangUp<'a> {
    messages: Option<&'a SyncSender<Message>>,
    ticket: Ticket,
}

impl Drop for HangUp<'_> {
    fn drop(&mut self) {
        if let Some(messages) = self.messages {
            // An answer that nobody hears does no harm.
            let _ = messages.try_send(Message::Hangup(self.ticket));
        }
    }
}

/// The loop.
pub(crate) struct RunLoop {
    core: Core,
    store: Store,
    clock: Clock,
    messages: Receiver<Message>,
    waiting: FxHashMap<Ticket, Waiting>,
    told: Vec<Told>,
    /// What came after a batch could not be written: it is looked at once the journal is folded anew.
    put_off: Vec<Message>,
    in_flight: Arc<InFlight>,
    shared: Arc<Shared>,
    snapshot_every: u64,
    snapshot_at: u64,
    stopping: bool,
}

/// What a loop is made of.
pub(crate) struct Parts {
    pub(crate) core: Core,
    pub(crate) store: Store,
    pub(crate) messages: Receiver<Message>,
    pub(crate) wake: SyncSender<Message>,
    pub(crate) shared: Arc<Shared>,
    pub(crate) last_fact: Timestamp,
    pub(crate) snapshot_every: u64,
}

impl RunLoop {
    pub(crate) fn new(parts: Parts) -> Self {
        let snapshot_every = parts.snapshot_every.max(1);
        Self {
            snapshot_at: parts.core.sequence() + snapshot_every,
            clock: Clock::starting_after(parts.last_fact),
            waiting: FxHashMap::default(),
            told: Vec::new(),
            put_off: Vec::new(),
            in_flight: Arc::new(InFlight::new(parts.wake)),
            stopping: false,
            snapshot_every,
            core: parts.core,
            store: parts.store,
            messages: parts.messages,
            shared: parts.shared,
        }
    }

    /// Runs until it is told to stop.
    ///
    /// # Errors
    /// The journal can be neither written nor read.
    pub(crate) fn run(mut self) -> Result<(), StoreError> {
        self.begin()?;
        while !self.stopping {
            self.take_in_what_waits();
            self.decide();
            self.in_flight.wait_below(MOST_IN_FLIGHT);
            if let Some(reason) = self.in_flight.failure() {
                self.survive(&reason)?;
            }
        }
        self.end()
    }

    /// Opens an epoch, or, where the journal takes nothing, waits for that.
    fn begin(&mut self) -> Result<(), StoreError> {
        match self.store.cannot_write() {
            Some(reason) => self.survive(&reason),
            None => self.open(),
        }
    }

    /// The first facts of an epoch.
    fn open(&mut self) -> Result<(), StoreError> {
        self.core.open(self.clock.now(), self.store.epoch(), self.store.declared());
        self.shared.set_epoch(self.store.epoch());
        self.hand_over(Duration::ZERO);
        self.in_flight.wait_below(1);
        match self.in_flight.failure() {
            Some(reason) => self.survive(&reason),
            None => Ok(()),
        }
    }

    fn take_in_what_waits(&mut self) {
        let mut message = match self.messages.recv_timeout(self.until_next_timer()) {
            Ok(message) => message,
            Err(RecvTimeoutError::Timeout) => return,
            Err(RecvTimeoutError::Disconnected) => {
                self.stopping = true;
                return;
            }
        };
        let mut bytes = 0;
        for _ in 0..MOST_AT_ONCE {
            bytes += self.take_in(message);
            if bytes >= MOST_BYTES_AT_ONCE {
                return;
            }
            message = match self.messages.try_recv() {
                Ok(message) => message,
                Err(TryRecvError::Empty | TryRecvError::Disconnected) => return,
            };
        }
        self.take_in(message);
    }

    /// Takes a message in; how many bytes it had.
    fn take_in(&mut self, message: Message) -> usize {
        if self.in_flight.failure().is_some() {
            self.put_off.push(message);
            return 0;
        }
        match message {
            Message::Input(input, bytes, ticket, waiting) => {
                self.waiting.insert(ticket, waiting);
                self.core.handle(self.clock.now(), *input);
                return bytes;
            }
            Message::Hangup(ticket) => {
                if self.waiting.remove(&ticket).is_some() {
                    self.core.handle(self.clock.now(), Input::Hangup { ticket });
                }
            }
            Message::Look(look) => self.told.push(look(&mut self.core)),
            Message::Stop => self.stopping = true,
            Message::Wake => {}
        }
        0
    }

    fn decide(&mut self) {
        let began = Instant::now();
        self.core.pass(self.clock.now());
        let took = began.elapsed();
        self.shared.metrics.placement_pass(took);
        self.hand_over(took);
    }

    /// Gives what came of the inputs and of a pass to the journal, and what may be said then to whoever the journal calls
    /// back.
    fn hand_over(&mut self, pass: Duration) {
        let batch = self.core.take();
        let mut release = Release::new(std::mem::take(&mut self.told));
        for reply in batch.replies {
            if let Some(waiting) = self.waiting.remove(&reply.ticket) {
                release.answer(waiting, reply.answer);
            }
        }
        if batch.facts.is_empty() {
            self.in_flight.release_behind(release, &self.shared);
            return;
        }
        let facts = batch.facts.len();
        let pass = self.shared.spans.pass(pass, facts);
        let records = release.publish(&self.core, &batch.facts, self.store.handed_over(), &self.shared);
        release.ended(batch.ended.iter().filter_map(|job| self.core.history_row(*job)).collect());
        if self.core.sequence() >= self.snapshot_at {
            self.snapshot_at = self.core.sequence() + self.snapshot_every;
            release.snapshot(self.core.image());
        }
        self.in_flight.push(release);
        let (in_flight, shared) = (Arc::clone(&self.in_flight), Arc::clone(&self.shared));
        let began = Instant::now();
        let given = self.store.append(records, move |written| {
            let took = began.elapsed();
            shared.metrics.journal_commit(took);
            shared.spans.commit(took, facts, pass);
            in_flight.written(written, &shared);
        });
        if let Err(error) = given {
            // All before it is decided first.
            self.in_flight.wait_below(2);
            self.in_flight.written(Err(error.to_string()), &self.shared);
        }
    }

    fn until_next_timer(&self) -> Duration {
        let Some(next) = self.core.next_timer() else { return IDLE };
        let left = (next - self.clock.now()).as_millis();
        Duration::from_millis(u64::try_from(left).unwrap_or(0)).min(IDLE)
    }

    /// Answers what still waits in the channel, and leaves all on disk.
    fn end(mut self) -> Result<(), StoreError> {
        let mut bytes = 0;
        while let Ok(message) = self.messages.try_recv() {
            bytes += self.take_in(message);
            if bytes >= MOST_BYTES_AT_ONCE {
                self.decide();
                bytes = 0;
            }
        }
        self.decide();
        self.in_flight.wait_below(1);
        for (_, waiting) in self.waiting.drain() {
            let _ = waiting.send(Err(stopping()));
        }
        let all_written = self.in_flight.failure().is_none() && self.shared.read_only().is_none();
        if all_written && self.shared.history.flush() {
            self.shared.snapshots.write_now(&self.core.image());
        }
        self.store.close()
    }
}
