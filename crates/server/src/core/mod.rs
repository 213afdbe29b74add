//! The server's loop as a state machine: commands, reports and time go in; facts, and what may be said once they are on
//! disk, come out. It knows no file, socket, clock or thread, so that a simulation can drive the same code.
//!
//! Facts are applied as they are proposed. Everything that leaves (answers, orders to agents) waits in the batch of the
//! facts that it rests on, and is released by the shell once those are on disk: so nobody ever sees what a crash could
//! take back. If the disk refuses a batch, the shell drops the core and folds the journal anew.

mod access;
mod attempts;
mod control;
mod deadlines;
mod defrag;
mod grid;
mod hours;
mod image;
mod limits;
pub(crate) mod metered;
mod nodes;
mod policy;
mod receipt;
mod records;
mod reservations;
mod services;
mod steps;
mod submit;
#[cfg(test)]
mod tests;
mod timers;
mod views;
mod waiting;
mod what_if;
mod why;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use offtake_engine::{Event as EngineEvent, Fact as EngineFact, JobId, Policy, State};
use offtake_fleet::{Fleet, NodeIx};
use offtake_protocol::agent::{Join, Joined, Orders, Report};
use offtake_protocol::rest::{
    CapView, Defrag, GridEvent, GridEventView, JobState, JobView, JoinTokenMade, NodeView, PolicyView, Problem,
    ReservationView, Scale, StepRequest, StepView, SubmittedBatch, TokenMade,
};
use offtake_units::{Duration, Timestamp};
use offtake_workload::{JobFile, Reservation, User};

use crate::fact::{Event, Fact};

pub use access::{Access, Caller};
pub use image::Image;
pub use nodes::NodeRecord;
pub use records::{Attempt, Record};
pub use views::{Figures, HistoryRow, LogSource, limit, states};
pub use what_if::{Fork, Starts};

use timers::Timers;

/// What a server is told when it starts.
#[derive(Clone, Debug)]
pub struct Settings {
    /// How long an agent may go on without hearing from the server.
    pub lease: Duration,
    /// How long the nodes of a gang may take to prepare, before its start is given up.
    pub prepare_timeout: Duration,
    /// Tokens of jobs are derived from it.
    pub secret: [u8; 32],
    /// Whom the jobs of a tenant run as.
    pub tenants: BTreeMap<String, User>,
    /// The server's version.
    pub version: String,
    /// Jobs that may be known and not over.
    pub most_jobs: usize,
    /// The policy from now on; none for the one in force.
    pub policy: Option<Policy>,
}

/// Names whoever waits for an answer.
pub type Ticket = u64;

/// What comes in.
#[derive(Debug)]
pub enum Input {
    /// Someone asks that something be changed.
    Command {
        /// Who is answered.
        ticket: Ticket,
        /// Who asks.
        caller: Caller,
        /// Under which key, so that a repetition changes nothing.
        key: Option<Key>,
        /// What.
        command: Command,
    },
    /// A node asks to join.
    Join {
        /// Who is answered.
        ticket: Ticket,
        /// What it says.
        join: Join,
    },
    /// A node's agent reports. Its signature has been verified.
    Report {
        /// Who is answered.
        ticket: Ticket,
        /// The node.
        node: String,
        /// What it says.
        report: Report,
    },
    /// Whoever waited with a report is gone.
    Hangup {
        /// Who.
        ticket: Ticket,
    },
}

/// An idempotency key.
#[derive(Clone, Debug)]
pub struct Key {
    /// SHA-256 of who asks and the key, in hexadecimal.
    pub key: String,
    /// SHA-256 of what is asked, in hexadecimal.
    pub request: String,
}

/// What someone asks for.
#[derive(Debug)]
pub enum Command {
    /// Jobs are submitted: all or none.
    Submit(Vec<JobFile>),
    /// A job is withdrawn; or sent a signal.
    Cancel {
        /// The job.
        job: u64,
        /// Send this instead.
        signal: Option<i32>,
        /// Without any grace.
        now: bool,
    },
    /// A job waits until it is released; one that runs saves its work, ends and waits.
    Hold(u64),
    /// A job on hold waits for its turn again.
    Release(u64),
    /// A running job starts again.
    Requeue(u64),
    /// A service has other bounds.
    Scale {
        /// The service.
        job: u64,
        /// Which.
        scale: Scale,
    },
    /// The load of a service needs so many replicas.
    Demand {
        /// The service.
        job: u64,
        /// Replicas.
        replicas: u32,
    },
    /// A node takes no new work.
    Drain {
        /// The node.
        node: String,
        /// Why.
        reason: String,
    },
    /// A drained node takes work again.
    Resume(String),
    /// A cap allows another draw.
    SetCap {
        /// The cap.
        cap: String,
        /// What, in watts; what the fleet declares where this is none.
        watts: Option<u64>,
    },
    /// A grid event is announced.
    Announce {
        /// Its name.
        name: String,
        /// What is asked for.
        event: Box<GridEvent>,
    },
    /// A grid event is withdrawn.
    Withdraw(String),
    /// The policy is set.
    SetPolicy(Box<Policy>),
    /// Work is moved so that a block comes free: for a job, or for those that are first in line.
    Defrag(Option<u64>),
    /// A step inside a running job.
    Step {
        /// The job.
        job: u64,
        /// What.
        request: Box<StepRequest>,
    },
    /// A step is ended.
    EndStep {
        /// The job.
        job: u64,
        /// The step.
        step: u32,
    },
    /// A token is made.
    MakeToken {
        /// Its fact.
        made: Box<Event>,
        /// What its maker is told.
        answer: TokenMade,
    },
    /// A token holds no more.
    RevokeToken(String),
    /// A token is made that lets a node join.
    MakeJoinToken {
        /// Its fact.
        made: Box<Event>,
        /// What its maker is told.
        answer: JoinTokenMade,
    },
    /// Capacity is set aside.
    Reserve(Box<Reservation>),
    /// A reservation is withdrawn.
    Unreserve(String),
    /// Facts from outside, such as prices: applied as they are.
    Tell(Vec<Event>),
}

/// What is answered.
#[derive(Clone, Debug)]
pub enum Answer {
    /// Jobs were accepted.
    Submitted(SubmittedBatch),
    /// A job was changed: how it stands now.
    Job(Box<JobView>),
    /// A node was changed: how it stands now.
    Node(Box<NodeView>),
    /// A cap was set: how it stands now.
    Cap(CapView),
    /// A grid event was announced: how it stands.
    GridEvent(Box<GridEventView>),
    /// The policy in force.
    Policy(Box<PolicyView>),
    /// What is being moved.
    Defrag(Box<Defrag>),
    /// A reservation was made: how it stands.
    Reservation(Box<ReservationView>),
    /// A step was asked for, or ended.
    Step(Box<StepView>),
    /// A token.
    Token(TokenMade),
    /// A token that lets a node join.
    JoinToken(JoinTokenMade),
    /// A node has joined.
    Joined(Joined),
    /// What the server wants of a node.
    Orders(Box<Orders>),
    /// It is done.
    Done,
}

/// An answer that may be given once the batch's facts are on disk.
#[derive(Debug)]
pub struct Reply {
    /// To whom.
    pub ticket: Ticket,
    /// What.
    pub answer: Result<Answer, Problem>,
}

/// What came of some inputs: to be written, then said.
#[derive(Debug, Default)]
pub struct Batch {
    /// Facts, in order.
    pub facts: Vec<Fact>,
    /// What may be said once they are on disk.
    pub replies: Vec<Reply>,
    /// Jobs that have ended with them.
    pub ended: Vec<u64>,
}

/// The policy of a server that is started for the first time and not told another.
fn first_policy() -> Option<Policy> {
    Policy::named("offtake", 0)
}

/// How many ended jobs stay in memory, until the history on disk has surely got them.
const ENDED_KEPT: usize = 20_000;

/// How many ends are remembered for dependencies on jobs that are long over.
const OUTCOMES_KEPT: usize = 1_000_000;

/// How long an idempotency key is remembered.
const KEYS_KEPT: Duration = Duration::DAY;

/// The state machine.
#[derive(Debug)]
pub struct Core {
    settings: Settings,
    state: State,
    epoch: u64,
    /// The last fact that was applied.
    sequence: u64,
    records: BTreeMap<u64, Record>,
    ended: VecDeque<u64>,
    outcomes: BTreeMap<u64, JobState>,
    next_job: u64,
    next_reservation: u64,
    next_curtailment: u64,
    /// Jobs that wait for another, by that.
    waiting: BTreeMap<u64, Vec<u64>>,
    arrays: BTreeMap<u64, waiting::ArrayRecord>,
    nodes: BTreeMap<Arc<str>, NodeRecord>,
    /// The names of the fleet's nodes, by position.
    names: Vec<Arc<str>>,
    places: BTreeMap<Arc<str>, NodeIx>,
    /// Nodes in the order in which they joined; the fleet is made of them unless a file declares it.
    joined: Vec<Arc<str>>,
    declared: bool,
    /// Nodes have joined that are not in the fleet yet.
    fleet_stale: bool,
    tokens: BTreeMap<String, access::Token>,
    join_tokens: BTreeMap<String, access::JoinToken>,
    keys: BTreeMap<String, submit::Keyed>,
    keys_in_order: VecDeque<(Timestamp, String)>,
    /// What nodes' meters showed, by site.
    books: BTreeMap<String, metered::Books>,
    unbooked: metered::Unbooked,
    /// When that was booked last.
    booked_at: Timestamp,
    timers: Timers,
    /// No lease is over before this.
    leases_due: Option<Timestamp>,
    /// Leases that have run out since this process began: the journal tells of all.
    leases_expired: u64,
    /// Agents that wait for news, by when they are answered without any.
    polls_due: BTreeSet<(Timestamp, Arc<str>)>,
    /// Nodes whose orders may have changed since they were last answered.
    news: BTreeSet<Arc<str>>,
    /// Jobs that have started or ended since others were last told.
    moved: Vec<u64>,
    /// Attempts whose tasks have changed since they were last looked at.
    touched: BTreeSet<u64>,
    version: u64,
    batch: Batch,
    scratch: Vec<EngineFact>,
    prices: receipt::Prices,
}

impl Core {
    /// A server that knows nothing yet: the fold of no facts.
    pub fn new(settings: Settings) -> Self {
        Self {
            settings,
            state: State::default(),
            epoch: 0,
            sequence: 0,
            records: BTreeMap::new(),
            ended: VecDeque::new(),
            outcomes: BTreeMap::new(),
            next_job: 1,
            next_reservation: 1,
            next_curtailment: 1,
            waiting: BTreeMap::new(),
            arrays: BTreeMap::new(),
            nodes: BTreeMap::new(),
            names: Vec::new(),
            places: BTreeMap::new(),
            joined: Vec::new(),
            declared: false,
            fleet_stale: false,
            tokens: BTreeMap::new(),
            join_tokens: BTreeMap::new(),
            keys: BTreeMap::new(),
            keys_in_order: VecDeque::new(),
            books: BTreeMap::new(),
            unbooked: metered::Unbooked::new(),
            booked_at: Timestamp::EPOCH,
            timers: Timers::default(),
            leases_due: None,
            leases_expired: 0,
            polls_due: BTreeSet::new(),
            news: BTreeSet::new(),
            moved: Vec::new(),
            touched: BTreeSet::new(),
            version: 0,
            batch: Batch::default(),
            scratch: Vec::new(),
            prices: receipt::Prices::default(),
        }
    }

    /// The engine's state.
    pub const fn state(&self) -> &State {
        &self.state
    }

    /// The last fact that was applied.
    pub const fn sequence(&self) -> u64 {
        self.sequence
    }

    /// The epoch: which opening of the journal this is.
    pub const fn epoch(&self) -> u64 {
        self.epoch
    }

    /// Folds a fact of the journal in.
    pub fn apply(&mut self, fact: &Fact) {
        self.sequence += 1;
        if let Event::Engine(event) = &fact.event {
            self.state.apply(&EngineFact { at: fact.at, event: event.clone() });
        } else {
            self.state.advance(fact.at);
        }
        self.note(fact.at, &fact.event);
    }

    /// Begins an epoch, once the journal has been folded: the first facts are written, and every node that may still
    /// run something has a whole lease before anything is started elsewhere.
    ///
    /// The fleet is the one given, or, without one, that of the nodes that join.
    pub fn open(&mut self, now: Timestamp, epoch: u64, declared: Option<Arc<Fleet>>) {
        self.epoch = epoch;
        self.state.advance(now);
        self.emit(Event::ServerStarted { epoch, version: self.settings.version.clone() });
        let is_new = self.state.fleet().sites.is_empty();
        self.open_fleet(declared);
        let policy = self.settings.policy.clone().or_else(|| is_new.then(first_policy).flatten());
        if let Some(policy) = policy.filter(|policy| policy != self.state.policy()) {
            self.emit_engine(EngineEvent::PolicySet { policy });
        }
        self.grant_leases();
        self.arm_hours();
        self.book_metered();
        let live: Vec<u64> =
            self.records.iter().filter(|(_, record)| record.end.is_none()).map(|(id, _)| *id).collect();
        for job in live {
            self.recall_running(job);
            self.recall_throttled(job);
            self.arm_timers(job);
            self.touched.insert(job);
        }
        self.pass(now);
    }

    /// Takes an input in. What follows from it is decided by [`Core::pass`].
    pub fn handle(&mut self, now: Timestamp, input: Input) {
        self.state.advance(now);
        match input {
            Input::Command { ticket, caller, key, command } => {
                let answer = self.command(&caller, key, command);
                self.reply(ticket, answer);
            }
            Input::Join { ticket, join } => {
                let answer = self.join(join).map(Answer::Joined);
                self.reply(ticket, answer);
            }
            Input::Report { ticket, node, report } => self.report(ticket, &node, report),
            Input::Hangup { ticket } => self.hang_up(ticket),
        }
    }

    /// Decides all that can be decided: attempts whose tasks have changed, timers that are due, the engine's pass, and
    /// orders for the agents that wait for them.
    pub fn pass(&mut self, now: Timestamp) {
        self.state.advance(now);
        self.fleet_follows();
        self.run_timers();
        self.check_leases();
        self.advance_touched();
        self.move_others();
        let mut facts = std::mem::take(&mut self.scratch);
        offtake_engine::decide(&mut self.state, now, &mut facts);
        self.book(&mut facts);
        self.scratch = facts;
        self.move_others();
        self.answer_polls();
    }

    /// Notes and keeps what the engine has decided and applied.
    fn book(&mut self, facts: &mut Vec<offtake_engine::Fact>) {
        for fact in facts.drain(..) {
            self.sequence += 1;
            let event = Event::Engine(fact.event);
            self.note(fact.at, &event);
            self.batch.facts.push(Fact { at: fact.at, event });
        }
    }

    /// What came of the inputs since it was last asked.
    pub fn take(&mut self) -> Batch {
        std::mem::take(&mut self.batch)
    }

    /// When [`Core::pass`] is to be called at the latest though nothing comes in.
    pub fn next_timer(&self) -> Option<Timestamp> {
        let due = [
            self.timers.next(),
            self.next_lease(),
            self.next_poll(),
            self.state.next_proof(),
            self.state.next_window(),
            self.state.next_crossing(),
            self.state.next_curtailment(),
            self.state.next_rise(),
        ];
        due.into_iter().flatten().min()
    }

    fn reply(&mut self, ticket: Ticket, answer: Result<Answer, Problem>) {
        self.batch.replies.push(Reply { ticket, answer });
    }

    /// Applies an event as of now, and has it written.
    fn emit(&mut self, event: Event) {
        let at = self.state.now();
        self.sequence += 1;
        if let Event::Engine(event) = &event {
            self.state.apply(&EngineFact { at, event: event.clone() });
        }
        self.note(at, &event);
        self.batch.facts.push(Fact { at, event });
    }

    fn emit_engine(&mut self, event: EngineEvent) {
        self.emit(Event::Engine(event));
    }

    /// The fold of what the engine does not know.
    fn note(&mut self, at: Timestamp, event: &Event) {
        match event {
            Event::Engine(event) => self.note_engine(at, event),
            Event::ServerStarted { epoch, .. } => self.epoch = *epoch,
            Event::AgentJoined { description, public_key, token } => self.note_joined(description, public_key, token),
            Event::AgentChanged { description } => self.note_changed(description),
            Event::EnergyMetered { site, since, metered } => self.note_metered(site, *since, *metered),
            Event::TokenMade { name, digest, role, user, expires } => {
                self.note_token(name, digest, role, user.as_ref(), *expires);
            }
            Event::TokenRevoked { name } => self.note_revoked(name),
            Event::JoinTokenMade { digest, node, expires } => self.note_join_token(digest, node.as_ref(), *expires),
            Event::Keyed { key, request, submitted } => self.note_keyed(at, key, request, submitted),
            Event::HeldByUser { job, held } => self.note_held_by_user(*job, *held),
            Event::StepAsked { job, attempt, step, request } => self.note_step(*job, *attempt, *step, request),
            Event::StepEnded { job, attempt, step, exit_code, reason } => {
                self.note_step_ended(*job, *attempt, *step, *exit_code, reason.as_deref());
            }
            Event::AttemptEnded { job, attempt, .. } => self.note_attempt_ended(at, *job, *attempt, event),
        }
    }

    fn note_engine(&mut self, at: Timestamp, event: &EngineEvent) {
        match event {
            EngineEvent::FleetLoaded { .. } | EngineEvent::FleetChanged { .. } => self.note_fleet(),
            EngineEvent::JobSubmitted { job, spec } => self.note_submitted(at, *job, spec),
            EngineEvent::JobPlaced { job, placement } => self.note_placed(at, *job, placement),
            EngineEvent::JobStarted { job } => self.note_started(at, *job),
            EngineEvent::JobThrottled { job, to } => self.note_throttled(at, *job, *to),
            EngineEvent::JobStopping { job, reason, by } => self.note_stopping(*job, *reason, *by),
            EngineEvent::JobRequeued { job, saved_until, held } => self.note_requeued(at, *job, *saved_until, *held),
            EngineEvent::JobHeld { job } => self.note_held(*job),
            EngineEvent::JobReleased { job } => self.note_released(*job),
            EngineEvent::JobFinished { job } => self.note_end(at, *job, JobState::Finished, None),
            EngineEvent::JobFailed { job } => self.note_end(at, *job, JobState::Failed, None),
            EngineEvent::JobCancelled { job } => self.note_end(at, *job, JobState::Cancelled, None),
            EngineEvent::JobRejected { job, reason } => {
                self.note_end(at, *job, JobState::Failed, Some(reason.to_string()));
            }
            EngineEvent::ServiceSubmitted { service, spec } => self.note_service(at, *service, spec),
            EngineEvent::ServiceCancelled { service } => self.note_service_cancelled(at, *service),
            EngineEvent::ReplicaAdded { service, replica } => self.note_replica(at, *service, *replica),
            EngineEvent::ReplicaRetired { service, replica } => self.note_retired(at, *service, *replica),
            EngineEvent::PricePublished { zone, price } => self.prices.price(at, zone, *price),
            EngineEvent::CarbonPublished { zone, intensity } => self.prices.carbon(at, zone, *intensity),
            EngineEvent::ReservationMade { reservation, .. } => {
                self.next_reservation = self.next_reservation.max(reservation.0 + 1);
            }
            EngineEvent::CurtailmentAnnounced { curtailment, .. } => {
                self.next_curtailment = self.next_curtailment.max(curtailment.0 + 1);
            }
            EngineEvent::NodesSwapped { job, saved_until, .. } => self.note_swapped(at, *job, *saved_until),
            EngineEvent::PolicySet { .. }
            | EngineEvent::EstimateCorrected { .. }
            | EngineEvent::WeatherPublished { .. }
            | EngineEvent::LevelAwaited { .. }
            | EngineEvent::LevelCrossed { .. }
            | EngineEvent::ServiceScaled { .. }
            | EngineEvent::ServiceBounded { .. }
            | EngineEvent::HoldPlaced { .. }
            | EngineEvent::HoldReleased { .. }
            | EngineEvent::ReservationCancelled { .. }
            | EngineEvent::ReservationRefused { .. }
            | EngineEvent::WindowPlaced { .. }
            | EngineEvent::WindowMissed { .. }
            | EngineEvent::WindowEnded { .. }
            | EngineEvent::NodeLost { .. }
            | EngineEvent::NodeReturned { .. }
            | EngineEvent::NodeDrained { .. }
            | EngineEvent::NodeResumed { .. }
            | EngineEvent::NodeProved { .. }
            | EngineEvent::FaultSeen { .. }
            | EngineEvent::NodeShared { .. }
            | EngineEvent::NodeThrottles { .. }
            | EngineEvent::CapSet { .. }
            | EngineEvent::CapRose { .. }
            | EngineEvent::CurtailmentBegan { .. }
            | EngineEvent::CurtailmentEnded { .. }
            | EngineEvent::CurtailmentUnmet { .. } => {}
        }
    }

    /// A job that is not over, as the engine knows it.
    fn work(&self, job: u64) -> Option<&offtake_engine::Work> {
        self.state.job(JobId(job))
    }
}
