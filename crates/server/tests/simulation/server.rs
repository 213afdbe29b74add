//! The shell around the server's core: it hands in what arrives, writes the facts, and says what may be said then.

use std::collections::BTreeMap;

use offtake_engine::{Policy, Preemption};
use offtake_protocol::agent::{Join, Report};
use offtake_protocol::rest::{Problem, StepRequest, StepView};
use offtake_server::core::{Access, Answer, Caller, Command, Core, Image, Input, Key, Settings, Ticket};
use offtake_server::fact::Fact;
use offtake_units::{Duration, Timestamp};
use offtake_workload::User;
use offtake_workload::rng::Rng;

use crate::clock::Clock;
use crate::plan::{Plan, between, in_1000};
use crate::world::{Event, World};

/// Rounds of the loop between two full checks of the state.
const CHECK_EVERY: u64 = 7;
/// 2026-01-01.
const BEGINS_MS: i64 = 1_767_225_600_000;

/// What is sent to the server.
#[derive(Clone, Debug)]
pub enum Call {
    Report { node: usize, session: u64, exchange: u64, asked_at_ms: u64, report: Box<Report> },
    Join { node: usize, join: Box<Join> },
    Ask { ask: usize },
    Step { from: Place, token: String, job: u64, key: String, request: Box<StepRequest> },
    StepPoll { from: Place, token: String, job: u64, step: u32 },
}

/// A process that talks to the server: its node and its number there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    pub node: usize,
    pub pid: u64,
    /// Which of its questions this is.
    pub asked: u64,
}

/// Who waits for an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Route {
    Agent { node: usize, session: u64, exchange: u64, asked_at_ms: u64 },
    Joining { node: usize },
    Ask(usize),
    Process(Place),
}

impl Call {
    pub fn route(&self) -> Route {
        match *self {
            Self::Report { node, session, exchange, asked_at_ms, .. } => {
                Route::Agent { node, session, exchange, asked_at_ms }
            }
            Self::Join { node, .. } => Route::Joining { node },
            Self::Ask { ask } => Route::Ask(ask),
            Self::Step { from, .. } | Self::StepPoll { from, .. } => Route::Process(from),
        }
    }
}

/// Whether the server takes anything in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    Down,
    /// It runs, and has no core, as the disk refuses to write.
    Refuses,
    Up,
}

pub struct Server {
    pub standing: Standing,
    pub core: Option<Box<Core>>,
    /// The fold of what is on disk.
    pub shadow: Box<Core>,
    /// Counts the cores, so that nothing meant for one reaches another.
    pub run: u64,
    pub clock: Clock,
    inbox: Vec<(Ticket, Call)>,
    routes: BTreeMap<Ticket, Route>,
    next_ticket: Ticket,
    turn_at: Option<u64>,
    settings: Settings,
    rng: Rng,
}

pub fn operator() -> Caller {
    Caller { name: "root".to_owned(), access: Access::Operator, user: Some(User::Name("root".to_owned())) }
}

fn problem(status: u16, code: &str) -> Problem {
    Problem { status, code: code.to_owned(), detail: code.to_owned(), field: None, index: None }
}

/// Weaker work is stopped for stronger work soon after it was placed.
fn preempting() -> Policy {
    let policy = Policy::named("offtake", 0).expect("it has a name");
    let preemption = Preemption { minimum_run: [Duration::from_secs(2); 4], ..Preemption::default() };
    Policy { preemption: Some(preemption), ..policy }
}

impl Server {
    pub fn new(plan: &Plan, rng: &Rng) -> Self {
        let settings = Settings {
            lease: Duration::from_millis(plan.lease_ms as i64),
            prepare_timeout: Duration::from_millis(plan.prepare_timeout_ms as i64),
            secret: [7; 32],
            tenants: BTreeMap::new(),
            version: "0".to_owned(),
            most_jobs: 1_000,
            policy: plan.preempts.then(preempting),
        };
        Self {
            standing: Standing::Down,
            core: None,
            shadow: Box::new(Core::new(settings.clone())),
            run: 0,
            clock: Clock { offset_ms: BEGINS_MS, drift_ppm: 0 },
            inbox: Vec::new(),
            routes: BTreeMap::new(),
            next_ticket: 1,
            turn_at: None,
            settings,
            rng: rng.derive("server"),
        }
    }
}

impl World {
    pub fn server_now(&self) -> Timestamp {
        Timestamp::from_millis(self.server.clock.at(self.now))
    }

    /// The server is started, or folds its journal anew.
    pub fn start_server(&mut self) {
        if self.server.standing == Standing::Up {
            return;
        }
        if self.disk.fails {
            self.server.standing = Standing::Refuses;
            self.say(format_args!("server: the disk refuses, so it takes nothing in"));
            return;
        }
        if self.server.standing == Standing::Down {
            let rng = &mut self.server.rng;
            let drift_ppm = if self.plan.faults { between(rng, 0, 10_000) as i64 - 5_000 } else { 0 };
            let offset_ms = BEGINS_MS + if self.plan.faults { between(rng, 0, 6_000) as i64 } else { 0 };
            self.server.clock = Clock { offset_ms, drift_ppm };
        }
        let mut core = self.fold();
        self.server.standing = Standing::Up;
        self.server.run += 1;
        self.server.turn_at = None;
        let epoch = core.epoch() + 1;
        core.open(self.server_now(), epoch, None);
        self.say(format_args!("server: epoch {epoch} opens after fact {}", self.disk.facts.len()));
        self.disk.take(core.take());
        self.server.core = Some(Box::new(core));
        self.write();
        self.set_turn();
    }

    /// The core of what is on disk: folded from the first fact, or from a snapshot on.
    fn fold(&mut self) -> Core {
        let settings = self.server.settings.clone();
        let facts = &self.disk.facts;
        let (mut core, from) = match (self.server.rng.below(3), &self.disk.snapshot) {
            (0, Some((from, text))) => (restored(text, settings), *from),
            (1, _) => {
                let text = serde_json::to_string(&self.server.shadow.image()).expect("an image is data");
                (restored(&text, settings), facts.len())
            }
            _ => (Core::new(settings), 0),
        };
        facts[from..].iter().for_each(|fact| core.apply(fact));
        assert_eq!(core.sequence(), facts.len() as u64, "sequences are gapless");
        compare("folding from elsewhere", &core, &self.server.shadow);
        core
    }

    /// The process dies: what was on its way to the disk is there or not, and nobody is told.
    pub fn kill_server(&mut self) {
        self.say(format_args!("server: killed"));
        let kept = self.disk.writing > 0 && in_1000(&mut self.server.rng, 500);
        self.drop_core(kept);
        self.server.standing = Standing::Down;
    }

    fn drop_core(&mut self, kept: bool) {
        if kept {
            let written = self.disk.commit();
            self.say(format_args!("disk: what was being written is there, though nobody is told"));
            written.iter().for_each(|batch| self.on_disk(&batch.facts));
        }
        let refused = self.disk.drop_queue();
        if self.server.standing == Standing::Up && self.disk.fails {
            for (ticket, _) in refused.into_iter().flat_map(|batch| batch.replies) {
                self.answer(ticket, Err(problem(503, "unavailable")));
            }
        }
        self.server.core = None;
        self.server.run += 1;
        self.server.inbox.clear();
        self.server.routes.clear();
    }

    /// Something arrives at the server.
    pub fn arrives(&mut self, call: Call) {
        let ticket = self.server.next_ticket;
        self.server.next_ticket += 1;
        match self.server.standing {
            Standing::Down => return,
            Standing::Refuses => {
                self.server.routes.insert(ticket, call.route());
                return self.answer(ticket, Err(problem(503, "unavailable")));
            }
            Standing::Up => {}
        }
        self.server.routes.insert(ticket, call.route());
        self.server.inbox.push((ticket, call));
        let at = self.now + self.server.rng.below(3);
        self.turn_at(at);
    }

    fn turn_at(&mut self, at: u64) {
        if self.server.turn_at.is_none_or(|due| at < due) {
            self.server.turn_at = Some(at);
            self.at(at, Event::Turn(self.server.run));
        }
    }

    fn set_turn(&mut self) {
        let Some(due) = self.server.core.as_ref().and_then(|core| core.next_timer()) else { return };
        let now = self.server.core.as_ref().map_or(due, |core| core.state().now());
        assert!(due > now, "the server wants to be woken at an instant that is over");
        let at = self.server.clock.when(due.as_millis()).max(self.now + 1);
        self.turn_at(at);
    }

    /// The loop goes round once.
    pub fn turn(&mut self, run: u64) {
        if run != self.server.run || self.server.turn_at.is_none_or(|due| due > self.now) {
            return;
        }
        self.server.turn_at = None;
        let now = self.server_now();
        let Some(mut core) = self.server.core.take() else { return };
        for (ticket, call) in std::mem::take(&mut self.server.inbox) {
            let input = match call {
                Call::StepPoll { token, job, step, .. } => {
                    let seen = step_as_on_view(&core, &token, job, step);
                    let replies = vec![(ticket, seen.map(|view| Answer::Step(Box::new(view))))];
                    self.disk.take(core.take());
                    self.disk.queue.push_back(crate::disk::Written { facts: Vec::new(), replies });
                    continue;
                }
                Call::Report { node, report, .. } => {
                    Some(Input::Report { ticket, node: self.plan.nodes[node].name.clone(), report: *report })
                }
                Call::Join { join, .. } => Some(Input::Join { ticket, join: *join }),
                Call::Ask { ask } => {
                    let (key, command) = self.clients.command(ask);
                    let key = Some(Key { request: format!("request of {key}"), key });
                    Some(Input::Command { ticket, caller: operator(), key, command })
                }
                Call::Step { token, job, key, request, .. } => core.authenticate(&token).map(|caller| {
                    let key = Some(Key { request: format!("request of {key}"), key });
                    Input::Command { ticket, caller, key, command: Command::Step { job, request } }
                }),
            };
            match input {
                Some(input) => core.handle(now, input),
                None => self.answer(ticket, Err(problem(401, "unauthorized"))),
            }
        }
        core.pass(now);
        let batch = core.take();
        self.proposed(&batch.facts);
        self.disk.take(batch);
        self.turns += 1;
        if self.turns.is_multiple_of(CHECK_EVERY) {
            assert_eq!(core.state().check(), Ok(()), "the state holds together");
        }
        self.server.core = Some(core);
        self.write();
        self.set_turn();
    }

    // The disk.

    fn write(&mut self) {
        if !self.disk.begin() {
            return;
        }
        let rng = &mut self.server.rng;
        let takes = match rng.below(20) {
            0 => between(rng, 50, 800),
            _ => rng.below(12),
        };
        self.at(self.now + takes, Event::Written(self.server.run));
    }

    /// A write has ended, one way or the other.
    pub fn written(&mut self, run: u64) {
        if run != self.server.run {
            return;
        }
        if self.disk.fails {
            self.say(format_args!("disk: refused {} batches", self.disk.queue.len()));
            let kept = in_1000(&mut self.server.rng, 200);
            self.drop_core(kept);
            self.server.standing = Standing::Refuses;
            return;
        }
        for batch in self.disk.commit() {
            self.on_disk(&batch.facts);
            for (ticket, answer) in batch.replies {
                self.answer(ticket, answer);
            }
        }
        if self.disk.queue.is_empty()
            && in_1000(&mut self.server.rng, 10)
            && let Some(core) = &self.server.core
        {
            let mut folded = Core::restore(self.server.shadow.image(), self.server.settings.clone()).expect("whole");
            // The live one has seen later times than that of its last fact.
            folded.handle(core.state().now(), Input::Hangup { ticket: 0 });
            compare("folding what is on disk", core, &folded);
        }
        if in_1000(&mut self.server.rng, 5) {
            let text = serde_json::to_string(&self.server.shadow.image()).expect("an image is data");
            self.disk.snapshot = Some((self.disk.facts.len(), text));
        }
        self.write();
    }

    /// Facts have reached the disk.
    fn on_disk(&mut self, facts: &[Fact]) {
        for fact in facts {
            self.server.shadow.apply(fact);
            self.note(fact);
        }
    }

    /// An answer leaves the server.
    fn answer(&mut self, ticket: Ticket, answer: Result<Answer, Problem>) {
        let Some(route) = self.server.routes.remove(&ticket) else { return };
        if let Route::Ask(ask) = route {
            self.said(ask, &answer);
        }
        self.reply(route, answer);
    }
}

fn step_as_on_view(core: &Core, token: &str, job: u64, step: u32) -> Result<StepView, Problem> {
    let caller = core.authenticate(token).ok_or_else(|| problem(401, "unauthorized"))?;
    core.step(&caller, job, step)
}

fn restored(text: &str, settings: Settings) -> Core {
    let image: Image = serde_json::from_str(text).expect("an image reads back");
    Core::restore(image, settings).expect("an image holds together")
}

/// Two cores that have folded the same facts are the same.
fn compare(what: &str, one: &Core, other: &Core) {
    assert_eq!(one.sequence(), other.sequence(), "{what}: sequences");
    assert_eq!(one.state().essence(), other.state().essence(), "{what}: the engine's state");
    let data = |core: &Core| {
        let mut image = serde_json::to_value(core.image()).expect("an image is data");
        let fields = image.as_object_mut().expect("an image has fields");
        // Compared above; it remembers besides what was tried in vain.
        fields.remove("engine");
        // Who waits for jobs that have ended long ago.
        fields.remove("waiting");
        image
    };
    let (one, other) = (data(one), data(other));
    for (name, value) in one.as_object().expect("an image has fields") {
        assert_eq!(value, &other[name], "{what}: {name}");
    }
}
