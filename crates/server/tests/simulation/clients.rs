//! People and programs that ask for things: each again and again under one key until they have an answer.

use std::collections::BTreeMap;

use offtake_protocol::rest::{JobState, Problem, Scale, Submitted};
use offtake_server::core::{Answer, Command};
use offtake_server::fact::Event as Fact;
use offtake_units::Duration;
use offtake_workload::rng::Rng;
use offtake_workload::{Dependency, JobFile, ServiceFile, Tier, When, WireGang, human};

use crate::plan::{between, in_1000};
use crate::server::Call;
use crate::world::{Event, World};

pub enum ClientEvent {
    /// Someone thinks of something to ask for.
    Act,
    /// Someone who has no answer yet asks again.
    Again(usize),
    /// Something is asked again that was answered: a call that the network kept, a retry by a library.
    Echo(usize),
}

#[derive(Clone, Debug)]
pub enum Ask {
    Submit(Vec<JobFile>),
    Cancel { job: u64, signal: Option<i32>, now: bool },
    Hold(u64),
    Release(u64),
    Requeue(u64),
    Scale { job: u64, minimum: u32, maximum: u32 },
    Demand { job: u64, replicas: u32 },
    Drain { node: String, reason: String },
    Resume(String),
    JoinToken { digest: String, expires_ms: i64 },
}

pub struct Clients {
    pub asks: Vec<Asked>,
    /// Jobs that someone was told of.
    pub known: Vec<u64>,
    /// For whom a join token was asked.
    pub tokens: BTreeMap<usize, usize>,
    rng: Rng,
}

pub struct Asked {
    pub ask: Ask,
    pub told: Option<Result<Told, Problem>>,
}

/// What is remembered of an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Told {
    Submitted(Vec<Submitted>),
    Job { state: JobState, attempts: u32 },
    Other,
}

impl Ask {
    pub fn command(&self) -> Command {
        match self.clone() {
            Self::Submit(files) => Command::Submit(files),
            Self::Cancel { job, signal, now } => Command::Cancel { job, signal, now },
            Self::Hold(job) => Command::Hold(job),
            Self::Release(job) => Command::Release(job),
            Self::Requeue(job) => Command::Requeue(job),
            Self::Scale { job, minimum, maximum } => {
                let scale = Scale { replicas: None, minimum: Some(minimum), maximum: Some(maximum) };
                Command::Scale { job, scale }
            }
            Self::Demand { job, replicas } => Command::Demand { job, replicas },
            Self::Drain { node, reason } => Command::Drain { node, reason },
            Self::Resume(node) => Command::Resume(node),
            Self::JoinToken { digest, expires_ms } => {
                let expires = offtake_units::Timestamp::from_millis(expires_ms);
                let made = Box::new(Fact::JoinTokenMade { digest, node: None, expires });
                let answer = offtake_protocol::rest::JoinTokenMade { token: String::new(), expires_ms };
                Command::MakeJoinToken { made, answer }
            }
        }
    }
}

impl Clients {
    pub fn new(rng: &Rng) -> Self {
        Self { asks: Vec::new(), known: Vec::new(), tokens: BTreeMap::new(), rng: rng.derive("clients") }
    }

    /// A key and what is asked under it.
    pub fn command(&self, ask: usize) -> (String, Command) {
        (format!("key {ask}"), self.asks[ask].ask.command())
    }

    pub fn all_told(&self) -> bool {
        self.asks.iter().all(|ask| ask.told.is_some())
    }

    fn some_job(&mut self) -> Option<u64> {
        let count = self.known.len() as u64;
        // Mostly of the youngest.
        let among = if in_1000(&mut self.rng, 800) { count.min(6) } else { count };
        let back = self.rng.below(among);
        (count > 0).then(|| self.known[(count - 1 - back) as usize])
    }
}

impl World {
    pub fn client_event(&mut self, event: ClientEvent) {
        match event {
            ClientEvent::Act => {
                if self.healed {
                    return;
                }
                self.act();
                let mean = u128::from(self.plan.between_asks_ms);
                let next = self.clients.rng.exponential(mean) as u64;
                self.at(self.now + next + 1, Event::Client(ClientEvent::Act));
            }
            ClientEvent::Again(ask) => {
                if self.clients.asks[ask].told.is_none() {
                    self.try_ask(ask);
                }
            }
            ClientEvent::Echo(ask) => self.send(Call::Ask { ask }),
        }
    }

    /// Asks for something until there is an answer.
    pub fn ask(&mut self, ask: Ask) -> usize {
        let number = self.clients.asks.len();
        self.say(format_args!("ask {number}: {ask:?}"));
        self.clients.asks.push(Asked { ask, told: None });
        self.try_ask(number);
        number
    }

    fn try_ask(&mut self, ask: usize) {
        self.send(Call::Ask { ask });
        let patience = between(&mut self.clients.rng, 500, 4_000);
        self.at(self.now + patience, Event::Client(ClientEvent::Again(ask)));
    }

    /// Someone has an answer.
    pub fn told(&mut self, ask: usize, answer: Result<Answer, Problem>) {
        if let Err(Problem { status: 503 | 429, .. }) = &answer {
            return;
        }
        let told = answer.map(|answer| match answer {
            Answer::Submitted(batch) => Told::Submitted(batch.jobs),
            Answer::Job(view) => Told::Job { state: view.state, attempts: view.attempts },
            _ => Told::Other,
        });
        let asked = &mut self.clients.asks[ask];
        match (&asked.told, &told) {
            (Some(Ok(Told::Submitted(first))), Ok(Told::Submitted(again))) => {
                assert_eq!(first, again, "ask {ask}: the same key, the same answer");
            }
            (Some(_), _) => {}
            (None, _) => {
                asked.told = Some(told.clone());
                self.say(format_args!("told {ask}: {told:?}"));
                self.told_first(ask, told);
            }
        }
    }

    fn told_first(&mut self, ask: usize, told: Result<Told, Problem>) {
        if let Ok(Told::Submitted(jobs)) = &told {
            for submitted in jobs {
                self.clients.known.extend(submitted.id..submitted.id + u64::from(submitted.count));
            }
        }
        if let Some(node) = self.clients.tokens.remove(&ask) {
            self.has_join_token(node, ask);
        }
        if in_1000(&mut self.clients.rng, 100) {
            let later = between(&mut self.clients.rng, 1, 20_000);
            self.at(self.now + later, Event::Client(ClientEvent::Echo(ask)));
        }
    }

    /// Something of what people do.
    fn act(&mut self) {
        let full = self.clients.known.len() as u64 >= self.plan.most_jobs;
        let choice = self.clients.rng.below(100);
        let ask = if choice < 55 || self.clients.known.is_empty() {
            if full {
                return;
            }
            let count = if in_1000(&mut self.clients.rng, 150) { between(&mut self.clients.rng, 2, 6) } else { 1 };
            Ask::Submit((0..count).map(|_| self.some_file()).collect())
        } else if choice < 90 {
            let Some(job) = self.clients.some_job() else { return };
            let replica = self.some_replica(job);
            let rng = &mut self.clients.rng;
            match choice {
                55..60 if replica.is_some() => {
                    let minimum = rng.below(4) as u32;
                    Ask::Scale { job, minimum, maximum: minimum.max(1) + rng.below(3) as u32 }
                }
                60..68 if replica.is_some() => Ask::Demand { job, replicas: rng.below(6) as u32 },
                _ if replica.is_some() && in_1000(rng, 700) => {
                    let job = replica.unwrap_or(job);
                    match choice {
                        68..72 => Ask::Cancel { job, signal: None, now: in_1000(rng, 300) },
                        72..78 => Ask::Hold(job),
                        78..84 => Ask::Release(job),
                        _ => Ask::Requeue(job),
                    }
                }
                55..65 => Ask::Cancel { job, signal: None, now: in_1000(rng, 300) },
                65..68 => Ask::Cancel { job, signal: Some(12), now: false },
                68..74 => Ask::Hold(job),
                74..84 => Ask::Release(job),
                _ => Ask::Requeue(job),
            }
        } else {
            let rng = &mut self.clients.rng;
            let node = self.plan.nodes[rng.below(self.plan.nodes.len() as u64) as usize].name.clone();
            if choice < 94 {
                Ask::Drain { node, reason: format!("reason {}", self.clients.asks.len()) }
            } else {
                Ask::Resume(node)
            }
        };
        self.ask(ask);
    }

    /// A replica of a service that has any.
    fn some_replica(&mut self, service: u64) -> Option<u64> {
        let replicas = self.oracle.replicas_of(service);
        (!replicas.is_empty()).then(|| replicas[self.clients.rng.below(replicas.len() as u64) as usize])
    }

    /// What stays is withdrawn when all has healed.
    pub fn cancel_services(&mut self) {
        if self.clients.all_told() {
            for job in self.oracle.services_left() {
                self.ask(Ask::Cancel { job, signal: None, now: false });
            }
        }
    }

    /// What is still drained when all has healed takes work again.
    pub fn resume_drained(&mut self) {
        if self.clients.all_told() {
            for node in self.drained() {
                self.ask(Ask::Resume(node));
            }
        }
    }

    fn some_file(&mut self) -> JobFile {
        let file = self.some_job_file();
        let mut rng = self.clients.rng.derive_index(self.clients.asks.len() as u64);
        if !in_1000(&mut rng, 150) || file.gangs.len() != 1 {
            return file;
        }
        let minimum = rng.below(4) as u32;
        let service = ServiceFile {
            minimum: Some(minimum),
            maximum: Some(minimum.max(1) + rng.below(3) as u32),
            disruption_budget: in_1000(&mut rng, 600).then(|| rng.below(3) as u32),
            ..ServiceFile::default()
        };
        JobFile {
            name: file.name,
            tier: file.tier,
            checkpoint_signal: file.checkpoint_signal,
            checkpoint_grace: file.checkpoint_grace,
            grace: file.grace,
            gangs: file.gangs,
            command: file.command,
            script: file.script,
            service: Some(service),
            ..JobFile::default()
        }
    }

    fn some_job_file(&mut self) -> JobFile {
        let now = self.server_now();
        let clients = &mut self.clients;
        let mut after = Vec::new();
        if in_1000(&mut clients.rng, 200) {
            let count = between(&mut clients.rng, 1, 3);
            for _ in 0..count {
                let Some(job) = clients.some_job() else { break };
                let all = [When::Started, When::Ended, When::Succeeded, When::Failed];
                after.push(Dependency { job, when: all[clients.rng.below(4) as usize] });
            }
        }
        let rng = &mut clients.rng;
        let seconds = |rng: &mut Rng, from, to| format!("{}ms", between(rng, from, to));
        let script = in_1000(rng, 250);
        let saves = in_1000(rng, 300);
        let limited = in_1000(rng, 400);
        let chips = self.plan.nodes.iter().map(|node| u64::from(node.chips)).max().unwrap_or(0);
        // Two gangs are small enough to lie on any node together: nobody looks whether they ever can.
        let count = if in_1000(rng, 100) { 2 } else { 1 };
        // A gang with spares takes whole nodes of one kind.
        let alike =
            self.plan.nodes.iter().all(|node| u64::from(node.chips) == chips && node.cpus == self.plan.nodes[0].cpus);
        let most_spare = self.plan.nodes.len() as u64 - 1;
        let spared = alike && count == 1 && chips > 0 && most_spare > 0 && in_1000(rng, 400);
        let gangs = (0..count).map(|_| {
            if spared {
                let workers = between(rng, 1, most_spare + 1) as u32;
                return WireGang {
                    workers: Some(workers),
                    chips: Some(chips as u16),
                    cpu_milli: Some(500),
                    spares: Some(1),
                    ..WireGang::default()
                };
            }
            let workers = if count == 2 { 1 } else { between(rng, 1, 5).min(between(rng, 1, 5)) as u32 };
            WireGang {
                workers: Some(workers),
                chips: (count == 1 && chips > 0 && in_1000(rng, 600)).then(|| between(rng, 1, chips.min(2) + 1) as u16),
                cpu_milli: Some(if count == 1 { between(rng, 1, 3) as u32 * 500 } else { 500 }),
                memory: in_1000(rng, 500).then(|| "1GiB".to_owned()),
                per_node: in_1000(rng, 200).then(|| between(rng, 1, u64::from(workers) + 1) as u32),
                ..WireGang::default()
            }
        });
        let gangs = gangs.collect();
        let preempts = self.plan.preempts;
        JobFile {
            name: Some("work".to_owned()),
            tier: in_1000(rng, if preempts { 700 } else { 300 }).then(|| Tier::ALL[rng.below(4) as usize]),
            preemptible: (preempts && in_1000(rng, 500)).then_some(true),
            duration: limited.then(|| seconds(rng, 1_000, 30_000)),
            checkpoint_signal: saves.then(|| "USR1".to_owned()),
            checkpoint_grace: saves.then(|| seconds(rng, 500, 8_000)),
            grace: Some(seconds(rng, 200, 6_000)),
            gangs,
            command: if script { Vec::new() } else { vec!["work".to_owned()] },
            script: script.then(|| "#!/bin/sh\nsrun work\n".to_owned()),
            signal: (limited && in_1000(rng, 200)).then(|| "B:USR2@1".to_owned()),
            requeue: in_1000(rng, 200).then_some(false),
            restarts: in_1000(rng, 300).then(|| between(rng, 1, 3) as u32),
            after,
            array: in_1000(rng, 120).then(|| ["0-3%2", "1,4,7%1", "0-2", "0-5%3"][rng.below(4) as usize].to_owned()),
            begin: in_1000(rng, 80).then(|| {
                let later = Duration::from_millis(between(rng, 0, 15_000) as i64);
                human::write_timestamp(now.saturating_add(later)).expect("a year that can be written")
            }),
            hold: in_1000(rng, 80).then_some(true),
            ..JobFile::default()
        }
    }
}
