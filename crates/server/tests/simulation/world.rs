//! The world: real time, what is to happen in it, and the network between its parts.

use std::collections::BTreeMap;
use std::fmt::Arguments;

use offtake_protocol::agent::TaskId;
use offtake_protocol::rest::Problem;
use offtake_server::core::Answer;
use offtake_workload::rng::Rng;

use crate::clients::{ClientEvent, Clients};
use crate::disk::Disk;
use crate::node::{AgentEvent, Node};
use crate::oracle::Oracle;
use crate::plan::{Fault, Plan, between, in_1000};
use crate::process::ProcessEvent;
use crate::server::{Call, Route, Server, Standing};
use crate::transcript::Transcript;

/// Events of one world: more are a loop that goes nowhere.
const MOST_EVENTS: u64 = 400_000;
/// Time after the last fault by which all is quiet, in milliseconds.
const QUIET_AFTER_MS: u64 = 300_000;

/// Something that is to happen.
pub enum Event {
    Arrives(Call),
    Turn(u64),
    Written(u64),
    ServerStarts,
    DiskHeals,
    Answered(Route, Box<Result<Answer, Problem>>),
    Joins(usize),
    AgentStarts(usize),
    Agent(usize, u64, AgentEvent),
    Supervisor(usize, TaskId, u32),
    Process(usize, u64, ProcessEvent),
    Fault(Fault),
    Healthy(usize),
    Client(ClientEvent),
    Heals,
}

pub struct World {
    /// Real time, in milliseconds.
    pub now: u64,
    pub plan: Plan,
    pub server: Server,
    pub disk: Disk,
    pub nodes: Vec<Node>,
    pub clients: Clients,
    pub oracle: Oracle,
    pub rng: Rng,
    /// Nothing breaks any more.
    pub healed: bool,
    pub turns: u64,
    events: BTreeMap<(u64, u64), Event>,
    next_event: u64,
    network: Rng,
    transcript: Transcript,
}

impl World {
    pub fn new(seed: u64, transcript: Transcript) -> Self {
        let rng = Rng::new(seed);
        let plan = Plan::new(&rng);
        let mut world = Self {
            now: 0,
            server: Server::new(&plan, &rng),
            disk: Disk::default(),
            nodes: (0..plan.nodes.len()).map(|node| Node::new(node, &plan, &rng)).collect(),
            clients: Clients::new(&rng),
            oracle: Oracle::default(),
            healed: false,
            turns: 0,
            events: BTreeMap::new(),
            next_event: 0,
            network: rng.derive("network"),
            rng,
            plan,
            transcript,
        };
        world.say(format_args!("world {seed}: {:?}", world.plan));
        world.at(0, Event::ServerStarts);
        for node in 0..world.nodes.len() {
            world.at(world.plan.nodes[node].joins_at_ms, Event::Joins(node));
        }
        for (at, fault) in world.plan.faults(&world.rng) {
            world.at(at, Event::Fault(fault));
        }
        world.at(100, Event::Client(ClientEvent::Act));
        world.at(world.plan.active_ms, Event::Heals);
        world
    }

    pub fn say(&self, what: Arguments<'_>) {
        self.transcript.say(self.now, what);
    }

    pub fn at(&mut self, at: u64, event: Event) {
        self.events.insert((at.max(self.now), self.next_event), event);
        self.next_event += 1;
    }

    /// Runs until all is quiet.
    pub fn run(&mut self) {
        let mut count = 0;
        let mut look_at = self.plan.active_ms + 2 * self.plan.lease_ms;
        while let Some(((at, _), event)) = self.events.pop_first() {
            self.now = at;
            self.handle(event);
            count += 1;
            assert!(count < MOST_EVENTS, "it goes round and round: {}", self.what_is_left());
            if at > look_at {
                if self.is_quiet() {
                    break;
                }
                self.resume_drained();
                self.cancel_services();
                look_at = at + 500;
                let late = at > self.plan.active_ms + QUIET_AFTER_MS;
                assert!(!late, "never quiet: {}", self.what_is_left());
            }
        }
        self.last_check();
        self.say(format_args!("quiet: {count} events, {} facts", self.disk.facts.len()));
    }

    fn handle(&mut self, event: Event) {
        match event {
            Event::Arrives(call) => self.arrives(call),
            Event::Turn(run) => self.turn(run),
            Event::Written(run) => self.written(run),
            Event::ServerStarts => self.start_server(),
            Event::DiskHeals => {
                self.disk.fails = false;
                if self.server.standing == Standing::Refuses {
                    self.start_server();
                }
            }
            Event::Answered(route, answer) => self.answered(route, *answer),
            Event::Joins(node) => self.ask_to_join(node),
            Event::AgentStarts(node) => self.power_on(node),
            Event::Agent(node, session, event) => self.agent_event(node, session, event),
            Event::Supervisor(node, task, rank) => self.supervisor_tick(node, task, rank),
            Event::Process(node, pid, event) => self.process_event(node, pid, event),
            Event::Fault(fault) => self.breaks(fault),
            Event::Healthy(node) => self.nodes[node].unhealthy = false,
            Event::Client(event) => self.client_event(event),
            Event::Heals => self.heals(),
        }
    }

    fn breaks(&mut self, fault: Fault) {
        if self.healed {
            return;
        }
        self.say(format_args!("fault: {fault:?}"));
        match fault {
            Fault::ServerDies { for_ms } => {
                if self.server.standing != Standing::Down {
                    self.kill_server();
                    self.at(self.now + for_ms, Event::ServerStarts);
                }
            }
            Fault::DiskFails { for_ms } => {
                self.disk.fails = true;
                self.at(self.now + for_ms, Event::DiskHeals);
            }
            Fault::Cut { node, for_ms } => {
                let until = &mut self.nodes[node].cut_until;
                *until = (self.now + for_ms).max(*until);
            }
            Fault::AgentDies { node, for_ms } => {
                if self.kill_agent(node) {
                    self.at(self.now + for_ms, Event::AgentStarts(node));
                }
            }
            Fault::AgentLeaves { node } => self.leave(node),
            Fault::PowerLost { node, for_ms, wiped } => {
                self.lose_power(node, wiped);
                self.at(self.now + for_ms, Event::AgentStarts(node));
            }
            Fault::SupervisorDies { node } => self.kill_some_supervisor(node),
            Fault::Unhealthy { node, for_ms } => {
                self.nodes[node].unhealthy = true;
                self.at(self.now + for_ms, Event::Healthy(node));
            }
        }
    }

    /// Whatever is broken is mended, and breaks no more.
    fn heals(&mut self) {
        self.say(format_args!("all heals"));
        self.healed = true;
        (self.plan.lost, self.plan.doubled, self.plan.late) = (0, 0, 0);
        self.disk.fails = false;
        self.start_server();
        for node in 0..self.nodes.len() {
            self.nodes[node].unhealthy = false;
            self.nodes[node].cut_until = self.now;
            self.plan.nodes[node].refuses = 0;
            self.power_on(node);
        }
    }

    // The network.

    fn is_cut(&self, node: Option<usize>) -> bool {
        node.is_some_and(|node| self.nodes[node].cut_until > self.now)
    }

    /// How long a message takes; none when it is lost.
    fn takes(&mut self, node: Option<usize>) -> Option<u64> {
        let plan = &self.plan;
        let (lost, late, lease) = (plan.lost, plan.late, plan.lease_ms);
        if self.is_cut(node) || in_1000(&mut self.network, lost) {
            return None;
        }
        Some(match self.network.below(1000) {
            share if share < late => between(&mut self.network, 100, 3 * lease),
            share if share < 100 => between(&mut self.network, 10, 300),
            _ => self.network.below(10),
        })
    }

    /// Sends something to the server.
    pub fn send(&mut self, call: Call) {
        let node = node_of(call.route());
        if in_1000(&mut self.network, self.plan.doubled)
            && let Some(takes) = self.takes(node)
        {
            self.at(self.now + takes, Event::Arrives(call.clone()));
        }
        if let Some(takes) = self.takes(node) {
            self.at(self.now + takes, Event::Arrives(call));
        }
    }

    /// Sends an answer of the server.
    pub fn reply(&mut self, route: Route, answer: Result<Answer, Problem>) {
        if let Some(takes) = self.takes(node_of(route)) {
            self.at(self.now + takes, Event::Answered(route, Box::new(answer)));
        }
    }

    fn answered(&mut self, route: Route, answer: Result<Answer, Problem>) {
        // Cut while it was on its way.
        if self.is_cut(node_of(route)) {
            return;
        }
        match route {
            Route::Agent { node, session, exchange, asked_at_ms } => {
                self.orders(node, session, exchange, asked_at_ms, answer);
            }
            Route::Joining { node } => self.joined(node, answer),
            Route::Ask(ask) => self.told(ask, answer),
            Route::Process(place) => self.told_process(place, answer),
        }
    }
}

const fn node_of(route: Route) -> Option<usize> {
    match route {
        Route::Agent { node, .. } | Route::Joining { node } => Some(node),
        Route::Process(place) => Some(place.node),
        Route::Ask(_) => None,
    }
}
