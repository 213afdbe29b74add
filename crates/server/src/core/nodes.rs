//! Nodes and their agents: who has joined, what they report, how long they may go on without us, and what we want of them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use offtake_engine::{Event as EngineEvent, Fault, JobId, xid_in};
use offtake_fleet::{Fleet, JoinedNode, NodeIx};
use offtake_protocol::agent::{
    Condition, Edition, EnergySource, Exit, Join, Joined, Limited, LogRequest, NodeDescription, Order, Orders, Report,
    TaskEnd, TaskId, TaskPhase, TaskSpec, VERSION, Want, WorkerEnd,
};
use offtake_protocol::rest::Problem;
use offtake_units::{CpuMilli, Duration, Mebibytes, Timestamp};
use offtake_workload::{Start, User};
use serde::{Deserialize, Serialize};

use super::access::{problem, sha256_hex};
use super::limits::Distrusted;
use super::metered::MeterReading;
use super::records::{Attempt, Record, Seen};
use super::{Answer, Core, Ticket};
use crate::fact::Event;

/// The most that an agent's report is held back for news.
const LONGEST_POLL: Duration = Duration::from_secs(60);

/// Bytes of a node's name.
const LONGEST_NAME: usize = 253;

/// A drain that a health check has caused begins so; it ends when the check succeeds again.
const HEALTH: &str = "health check: ";

/// A node whose agent has joined.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct NodeRecord {
    /// What the agent said of it.
    pub description: Arc<NodeDescription>,
    /// The agent's public key, in hexadecimal.
    pub public_key: String,
    /// What is volatile.
    #[serde(skip)]
    pub(crate) now: NodeNow,
}

/// What is known of a node from its reports.
#[derive(Clone, Debug, Default)]
pub(crate) struct NodeNow {
    pub session: u64,
    pub report: u64,
    pub seen_at: Option<Timestamp>,
    /// Until when its agent may run what it has; none when it runs nothing for us.
    pub lease_until: Option<Timestamp>,
    /// Of its orders.
    pub version: u64,
    /// What it is ordered, each with the version of the orders that first listed it.
    pub tasks: BTreeMap<TaskId, u64>,
    pub condition: Condition,
    /// What its meter showed last.
    pub meter: Option<MeterReading>,
    /// How its chips are limited, where they can be.
    pub limited: Option<Limited>,
    /// Why nothing is built on its limits, if something went wrong with them.
    pub distrusted: Option<Distrusted>,
    /// Throttled jobs that have chips of it.
    pub throttled: BTreeSet<u64>,
    pub logs: Vec<LogRequest>,
    /// Whoever waits for news with a report.
    pub poll: Option<Poll>,
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Poll {
    ticket: Ticket,
    until: Timestamp,
    /// The orders that the agent has.
    seen: Edition,
    answers: u64,
}

impl NodeRecord {
    /// Where other nodes reach it.
    pub(crate) fn address(&self) -> String {
        self.description.address.clone()
    }
}

impl Core {
    // The fleet.

    /// Loads the fleet that is given; without one, it is that of the nodes that join.
    pub(super) fn open_fleet(&mut self, declared: Option<Arc<Fleet>>) {
        let empty = self.state.fleet().sites.is_empty();
        self.declared = declared.is_some();
        let fleet = declared.unwrap_or_else(|| self.joined_fleet());
        if empty {
            self.emit_engine(EngineEvent::FleetLoaded { fleet });
        } else if **self.state.fleet() != *fleet {
            self.emit_engine(EngineEvent::FleetChanged { fleet });
        }
        // What a fleet file declares takes work once its agent has reported.
        let expected = (0..self.names.len() as u32).map(NodeIx);
        let expected: Vec<NodeIx> = expected
            .filter(|at| !self.nodes.contains_key(&self.names[at.ix()]) && !self.state.conditions().contains_key(at))
            .collect();
        expected.into_iter().for_each(|node| self.emit_engine(EngineEvent::NodeLost { node }));
        self.sharing_follows();
    }

    fn joined_fleet(&self) -> Arc<Fleet> {
        let nodes: Vec<_> = self
            .joined
            .iter()
            .filter_map(|name| self.nodes.get(name))
            .map(|node| as_joined(&node.description))
            .collect();
        Arc::new(offtake_fleet::joined("local", &nodes))
    }

    pub(super) fn note_fleet(&mut self) {
        let fleet = Arc::clone(self.state.fleet());
        self.names = (0..fleet.nodes.len() as u32).map(|node| Arc::from(fleet.node_name(NodeIx(node)))).collect();
        self.places = self.names.iter().enumerate().map(|(at, name)| (Arc::clone(name), NodeIx(at as u32))).collect();
    }

    /// A node's place in the fleet.
    pub(super) fn node_ix(&self, node: &str) -> Option<NodeIx> {
        self.places.get(node).copied()
    }

    /// Whether a node cannot be reached.
    pub(super) fn is_lost(&self, node: &str) -> bool {
        let condition = self.node_ix(node).and_then(|at| self.state.conditions().get(&at));
        condition.is_some_and(|condition| condition.lost)
    }

    // Joining.

    /// The public key of a node's agent, in hexadecimal.
    pub fn agent_key(&self, node: &str) -> Option<String> {
        self.nodes.get(node).map(|node| node.public_key.clone())
    }

    pub(super) fn join(&mut self, join: Join) -> Result<Joined, Problem> {
        let digest = sha256_hex(join.token.as_bytes());
        let description = Arc::new(join.node);
        let again = self.nodes.get(description.name.as_str());
        if again.is_some_and(|known| known.public_key == join.public_key) {
            // The answer to its first call was lost: it has used its token up already.
            return Ok(self.joined_answer(&description.name));
        }
        let now = self.state.now();
        let token = self.join_tokens.get(&digest).filter(|token| token.expires > now);
        let Some(token) = token else {
            let detail =
                "this join token is not known, was used, or holds no more: make a new one with `offtake token join`";
            return Err(problem(401, "bad_join_token", detail));
        };
        if token.node.as_ref().is_some_and(|only| *only != description.name) {
            let detail = format!("this join token is for another node than `{}`", description.name);
            return Err(problem(403, "bad_join_token", detail));
        }
        // Whoever had the name before has lost what it ran, should its lease end at this very instant.
        self.check_leases();
        self.acceptable(&description)?;
        let name = description.name.clone();
        self.emit(Event::AgentJoined { description, public_key: join.public_key, token: digest });
        self.fleet_stale = true;
        self.expect_report(&name);
        Ok(self.joined_answer(&name))
    }

    /// A node that has just joined has a whole lease to report for the first time.
    fn expect_report(&mut self, name: &str) {
        let until = self.state.now().saturating_add(self.settings.lease);
        if let Some(node) = self.nodes.get_mut(name) {
            node.now.lease_until = Some(until);
            self.leases_due = Some(self.leases_due.map_or(until, |due| due.min(until)));
        }
    }

    fn joined_answer(&self, node: &str) -> Joined {
        Joined { node: node.to_owned(), lease_ms: self.lease_ms() }
    }

    /// Whether a node can be one of ours.
    fn acceptable(&self, node: &NodeDescription) -> Result<(), Problem> {
        if node.protocol != VERSION {
            let detail = format!(
                "the agent (version {}) speaks protocol {}, this server speaks {VERSION}: install the same version on both",
                node.agent_version, node.protocol
            );
            return Err(problem(409, "protocol", detail));
        }
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"-_./".contains(&byte);
        if node.name.is_empty() || node.name.len() > LONGEST_NAME || !node.name.bytes().all(allowed) {
            let detail = "a node's name is 1 to 253 letters, digits, `-`, `_`, `.` or `/`: give another with --name";
            return Err(problem(422, "invalid_node", detail));
        }
        if let Some(live) = self.nodes.get(node.name.as_str())
            && live.now.lease_until.is_some_and(|until| until > self.state.now())
        {
            let detail = format!(
                "a node `{}` is here already, with another key: name this one with --name, or stop that one first",
                node.name
            );
            return Err(problem(409, "node_exists", detail));
        }
        if !self.declared {
            return Ok(());
        }
        let Some(at) = self.node_ix(&node.name) else {
            let detail =
                format!("the fleet file has no node `{}`: add it there, or name the node with --name", node.name);
            return Err(problem(422, "unknown_node", detail));
        };
        let fleet = self.state.fleet();
        let kind = fleet.kind(fleet.nodes[at.ix()]);
        match offtake_fleet::lacking(fleet, kind, &as_joined(node)) {
            None => Ok(()),
            Some(lacking) => Err(problem(
                422,
                "node_differs",
                format!("node `{}` is not as the fleet file has it: {lacking}", node.name),
            )),
        }
    }

    pub(super) fn note_joined(&mut self, description: &Arc<NodeDescription>, public_key: &str, token: &str) {
        self.join_tokens.remove(token);
        let name: Arc<str> = Arc::from(description.name.as_str());
        if !self.joined.contains(&name) {
            self.joined.push(Arc::clone(&name));
        }
        let now = self.nodes.remove(&name).map(|known| known.now).unwrap_or_default();
        let record = NodeRecord { description: Arc::clone(description), public_key: public_key.to_owned(), now };
        self.nodes.insert(name, record);
    }

    pub(super) fn note_changed(&mut self, description: &Arc<NodeDescription>) {
        if let Some(node) = self.nodes.get_mut(description.name.as_str()) {
            node.description = Arc::clone(description);
        }
    }

    /// Nodes that have joined since the last pass become part of the fleet, all at once.
    pub(super) fn fleet_follows(&mut self) {
        if !std::mem::take(&mut self.fleet_stale) {
            return;
        }
        if !self.declared {
            let fleet = self.joined_fleet();
            if **self.state.fleet() != *fleet {
                self.emit_engine(EngineEvent::FleetChanged { fleet });
            }
        }
        self.sharing_follows();
    }

    /// A node on which workers can open chips that were not given to them runs one tenant's work at a time.
    fn sharing_follows(&mut self) {
        let differs = |(name, node): (&Arc<str>, &NodeRecord)| {
            let at = self.node_ix(name)?;
            let shared = node.description.isolation.devices || node.description.chips == 0;
            (shared != self.state.is_shared(at)).then_some((at, shared))
        };
        let changes: Vec<(NodeIx, bool)> = self.nodes.iter().filter_map(differs).collect();
        for (node, shared) in changes {
            self.emit_engine(EngineEvent::NodeShared { node, shared });
        }
    }

    // Reports.

    pub(super) fn report(&mut self, ticket: Ticket, name: &str, report: Report) {
        let now = self.state.now();
        let Some(node) = self.nodes.get_mut(name) else {
            let detail = format!("no agent has joined for `{name}`: join with a new token");
            return self.reply(ticket, Err(problem(401, "unknown_agent", detail)));
        };
        if report.seen.epoch > self.epoch {
            let detail = format!(
                "this agent has orders of epoch {}, later than this server's {}: another server writes, or the journal was restored from a backup without `offtake journal restore`",
                report.seen.epoch, self.epoch
            );
            return self.reply(ticket, Err(problem(409, "stale_server", detail)));
        }
        let stale = report.session == node.now.session && report.version <= node.now.report;
        let (seen, answers, wait_ms) = (report.seen, report.version, report.wait_ms);
        if !stale {
            self.take_report(name, report);
        }
        let Some(node) = self.nodes.get_mut(name) else { return };
        let until = now.saturating_add(Duration::from_millis(i64::from(wait_ms)).min(LONGEST_POLL));
        let poll = Poll { ticket, until, seen, answers };
        let older = node.now.poll.replace(poll);
        let name: Arc<str> = Arc::from(name);
        self.polls_due.insert((until, Arc::clone(&name)));
        self.news.insert(Arc::clone(&name));
        // Only one waits for news: an older call is answered at once.
        if let Some(older) = older {
            self.polls_due.remove(&(older.until, Arc::clone(&name)));
            if older.until == until {
                self.polls_due.insert((until, Arc::clone(&name)));
            }
            self.answer(&name, older);
        }
    }

    fn take_report(&mut self, name: &str, report: Report) {
        let now = self.state.now();
        let Some(node) = self.nodes.get_mut(name) else { return };
        node.now.session = report.session;
        node.now.report = report.version;
        node.now.seen_at = Some(now);
        // A report may be of an earlier run of the agent, and have been long on its way. It tells nothing of tasks that
        // were ordered later than the orders that it has seen.
        let seen = report.seen;
        let knows = |told: u64| seen.epoch == self.epoch && seen.version >= told;
        let knows_all = seen.epoch == self.epoch && node.now.tasks.values().all(|told| knows(*told));
        let listed = node.now.tasks.iter().filter(|(_, told)| knows(**told));
        let listed: Vec<TaskId> = listed.map(|(task, _)| *task).collect();
        if let Some(condition) = report.condition {
            let unhealthy = condition.unhealthy.clone();
            let is_news = node.now.condition.unhealthy != unhealthy;
            node.now.condition = condition;
            self.follow_health(name, unhealthy, is_news);
        }
        self.read_meter(name);
        self.take_limits(name, report.session, report.limits);
        if report.leaves && !knows_all {
            return;
        }
        if report.leaves {
            self.lose_node(name, "its agent has left");
            return self.touch_jobs_of(&BTreeSet::from([Arc::from(name)]));
        }
        if self.is_lost(name)
            && let Some(at) = self.node_ix(name)
        {
            self.emit_engine(EngineEvent::NodeReturned { node: at });
        }
        let mut told = BTreeSet::new();
        for task in report.tasks {
            told.insert(task.task);
            self.task_pauses(name, task.task, task.paused);
            self.task_is(name, task.task, task.phase);
        }
        for task in listed.into_iter().filter(|task| !told.contains(task)) {
            // An agent never drops what it has: what it spoke of once and does not list now is gone with its disk.
            if self.seen(name, task) > Seen::Unknown {
                self.task_is(name, task, TaskPhase::Ended(self.lost_end(name, task, "its node has forgotten it")));
            }
        }
    }

    fn seen(&self, node: &str, task: TaskId) -> Seen {
        self.task(node, task).map_or(Seen::Unknown, |task| task.seen)
    }

    fn task(&self, node: &str, id: TaskId) -> Option<&super::records::Task> {
        let attempt = self.records.get(&id.job)?.live().filter(|attempt| attempt.number == id.attempt)?;
        attempt.steps.get(&id.step)?.tasks.iter().find(|task| *task.node == *node)
    }

    fn task_pauses(&mut self, node: &str, id: TaskId, paused: bool) {
        let attempt = self.records.get_mut(&id.job).and_then(|record| record.live_mut());
        let step = attempt.filter(|attempt| attempt.number == id.attempt).and_then(|it| it.steps.get_mut(&id.step));
        if let Some(task) = step.and_then(|step| step.tasks.iter_mut().find(|task| *task.node == *node)) {
            let goes_on = task.paused && !paused;
            task.paused = paused;
            if goes_on {
                self.has_to_stand_still(id.job);
            }
        }
    }

    /// Takes in what an agent says of a task. What is older than what it said before changes nothing.
    fn task_is(&mut self, node: &str, id: TaskId, phase: TaskPhase) {
        let attempt = self.records.get_mut(&id.job).and_then(|record| record.live_mut());
        let Some(attempt) = attempt.filter(|attempt| attempt.number == id.attempt) else { return };
        let ending = attempt.stop.is_some();
        let Some(step) = attempt.steps.get_mut(&id.step) else { return };
        let ending = ending || step.stop;
        let Some(task) = step.tasks.iter_mut().find(|task| *task.node == *node) else { return };
        let seen = match &phase {
            TaskPhase::Preparing => Seen::Preparing,
            TaskPhase::Prepared => Seen::Prepared,
            TaskPhase::Running { .. } => Seen::Running,
            TaskPhase::Stopping => Seen::Stopping,
            TaskPhase::Ended(_) => Seen::Ended,
        };
        if seen <= task.seen {
            return;
        }
        task.seen = seen;
        if let TaskPhase::Ended(mut end) = phase {
            // That it never ran is no refusal once it was not to run any more.
            end.refused = end.refused.filter(|_| !ending);
            task.end = Some(end);
        }
        if seen == Seen::Running && !task.paused {
            self.has_to_stand_still(id.job);
        }
        self.touched.insert(id.job);
    }

    fn lost_end(&self, node: &str, task: TaskId, why: &str) -> TaskEnd {
        let now = self.state.now().as_millis();
        let workers = self.task(node, task).map_or_else(Vec::new, |task| {
            let lost = |worker: &offtake_protocol::agent::WorkerSpec| WorkerEnd {
                rank: worker.rank,
                exit: Exit::Unknown(why.to_owned()),
                started_ms: now,
                ended_ms: now,
            };
            task.workers.iter().map(lost).collect()
        });
        TaskEnd {
            refused: None,
            workers,
            energy_mj: 0,
            energy_source: EnergySource::Model,
            cpu_ms: None,
            peak_memory_kib: None,
        }
    }

    /// A node is drained while its health check fails. Where that tells of an XID and there is a health policy, that says
    /// what follows.
    fn follow_health(&mut self, name: &str, unhealthy: Option<String>, is_news: bool) {
        let Some(at) = self.node_ix(name) else { return };
        let xid = unhealthy.as_deref().filter(|_| self.state.policy().health.is_some()).and_then(xid_in);
        if let Some(code) = xid {
            if is_news {
                let job = self.job_alone_on(name);
                self.emit_engine(EngineEvent::FaultSeen { node: at, job, fault: Fault::Xid(code) });
            }
            return;
        }
        let drained = self.state.conditions().get(&at).and_then(|condition| condition.drained.clone());
        let by_check = drained.as_ref().is_some_and(|reason| reason.starts_with(HEALTH));
        match unhealthy {
            Some(why) if drained.is_none() => {
                self.emit_engine(EngineEvent::NodeDrained { node: at, reason: format!("{HEALTH}{why}") });
            }
            None if by_check => self.emit_engine(EngineEvent::NodeResumed { node: at }),
            _ => {}
        }
    }

    /// The job that works on a node, if it is the only one.
    fn job_alone_on(&self, name: &str) -> Option<JobId> {
        let works = |record: &&super::Record| {
            record.live().is_some_and(|attempt| attempt.shares.iter().any(|share| &*share.node == name))
        };
        let mut jobs = self.records.iter().filter(|(_, record)| works(record)).map(|(job, _)| JobId(*job));
        jobs.next().filter(|_| jobs.next().is_none())
    }

    // Leases.

    fn lease_ms(&self) -> u32 {
        u32::try_from(self.settings.lease.as_millis()).unwrap_or(u32::MAX)
    }

    /// After a restart nobody knows how long agents were told that they may go on: at most a whole lease from now.
    pub(super) fn grant_leases(&mut self) {
        let until = self.state.now().saturating_add(self.settings.lease);
        self.nodes.values_mut().for_each(|node| node.now.lease_until = Some(until));
    }

    pub(super) fn next_lease(&self) -> Option<Timestamp> {
        self.leases_due
    }

    /// Nodes that have not been heard of for a whole lease are lost, with all that ran there.
    pub(super) fn check_leases(&mut self) {
        let now = self.state.now();
        if self.leases_due.is_some_and(|due| due > now) {
            return;
        }
        let over = |node: &NodeRecord| node.now.lease_until.is_some_and(|until| until <= now);
        let lost: BTreeSet<Arc<str>> =
            self.nodes.iter().filter(|(_, node)| over(node)).map(|(name, _)| Arc::clone(name)).collect();
        self.leases_expired += lost.len() as u64;
        lost.iter().for_each(|name| self.lose_node(name, "its node was not heard of for a whole lease"));
        if !lost.is_empty() {
            self.touch_jobs_of(&lost);
        }
        // Looked at again when the first of those that are left could be over: renewals only move that on.
        self.leases_due = self.nodes.values().filter_map(|node| node.now.lease_until).min();
    }

    fn lose_node(&mut self, name: &str, why: &str) {
        let Some(node) = self.nodes.get_mut(name) else { return };
        node.now.lease_until = None;
        let tasks: Vec<TaskId> = node.now.tasks.keys().copied().collect();
        if let Some(at) = self.node_ix(name)
            && !self.is_lost(name)
        {
            self.emit_engine(EngineEvent::NodeLost { node: at });
        }
        for task in tasks {
            let end = self.lost_end(name, task, why);
            self.task_is(name, task, TaskPhase::Ended(end));
        }
    }

    /// Jobs that have any of these nodes are looked at again, also those of which nothing runs there now.
    fn touch_jobs_of(&mut self, nodes: &BTreeSet<Arc<str>>) {
        let is_on = |attempt: &Attempt| attempt.shares.iter().any(|share| nodes.contains(&share.node));
        let jobs = self.records.iter().filter(|(_, record)| record.live().is_some_and(is_on));
        self.touched.extend(jobs.map(|(job, _)| *job));
    }

    // Orders.

    /// Adds a step's tasks to what their nodes are ordered.
    pub(super) fn list_tasks(&mut self, job: u64, step: u32) {
        let Some(attempt) = self.records.get(&job).and_then(|record| record.live()) else { return };
        let id = TaskId { job, attempt: attempt.number, step };
        let Some(step) = attempt.steps.get(&step) else { return };
        let names: Vec<Arc<str>> = step.tasks.iter().map(|task| Arc::clone(&task.node)).collect();
        for name in names {
            self.touch_node(&name);
            if let Some(node) = self.nodes.get_mut(&name) {
                node.now.tasks.insert(id, node.now.version);
            }
        }
    }

    /// Takes all tasks of an attempt off what their nodes are ordered.
    pub(super) fn unlist_tasks(&mut self, job: u64) {
        self.for_each_task(job, |node, task| {
            node.now.tasks.remove(&task);
        });
    }

    /// The orders of all nodes of an attempt have changed.
    pub(super) fn touch_nodes_of(&mut self, job: u64) {
        self.for_each_task(job, |_, _| {});
    }

    fn for_each_task(&mut self, job: u64, mut each: impl FnMut(&mut NodeRecord, TaskId)) {
        let Some(attempt) = self.records.get(&job).and_then(|record| record.live()) else { return };
        let number = attempt.number;
        let tasks = attempt.steps.iter().flat_map(|(step, entry)| entry.tasks.iter().map(move |task| (*step, task)));
        let tasks: Vec<(u32, Arc<str>)> = tasks.map(|(step, task)| (step, Arc::clone(&task.node))).collect();
        for (step, name) in tasks {
            if let Some(node) = self.nodes.get_mut(&name) {
                each(node, TaskId { job, attempt: number, step });
            }
            self.touch_node(&name);
        }
    }

    pub(super) fn touch_node(&mut self, name: &str) {
        self.version += 1;
        if let Some((name, node)) = self.nodes.get_key_value(name) {
            if node.now.poll.is_some() {
                self.news.insert(Arc::clone(name));
            }
            let name = Arc::clone(name);
            if let Some(node) = self.nodes.get_mut(&name) {
                node.now.version = self.version;
            }
        }
    }

    /// Somebody wants to read output on a node.
    pub fn ask_logs(&mut self, node: &str, request: LogRequest) {
        if let Some(known) = self.nodes.get_mut(node) {
            known.now.logs.push(request);
            self.touch_node(node);
        }
    }

    /// Nobody reads it any more.
    pub fn drop_logs(&mut self, node: &str, id: u64) {
        if let Some(known) = self.nodes.get_mut(node) {
            known.now.logs.retain(|request| request.id != id);
            self.touch_node(node);
        }
    }

    pub(super) fn next_poll(&self) -> Option<Timestamp> {
        self.polls_due.first().map(|(until, _)| *until)
    }

    pub(super) fn hang_up(&mut self, ticket: Ticket) {
        for node in self.nodes.values_mut() {
            if node.now.poll.is_some_and(|poll| poll.ticket == ticket) {
                node.now.poll = None;
            }
        }
    }

    /// Answers the agents for which there is news, or which have waited long enough.
    pub(super) fn answer_polls(&mut self) {
        let now = self.state.now();
        while let Some((until, name)) = self.polls_due.first().cloned() {
            if until > now {
                break;
            }
            self.polls_due.pop_first();
            self.news.insert(name);
        }
        for name in std::mem::take(&mut self.news) {
            let Some(node) = self.nodes.get_mut(&name) else { continue };
            let Some(poll) = node.now.poll else { continue };
            let edition = Edition { epoch: self.epoch, version: node.now.version };
            if poll.until > now && edition <= poll.seen {
                continue;
            }
            node.now.poll = None;
            self.polls_due.remove(&(poll.until, Arc::clone(&name)));
            self.answer(&name, poll);
        }
    }

    fn answer(&mut self, name: &str, poll: Poll) {
        let orders = self.orders(name, poll.answers);
        self.reply(poll.ticket, Ok(Answer::Orders(Box::new(orders))));
        // One that has left, or is lost, has nothing to run that a lease would be for.
        if self.is_lost(name) {
            return;
        }
        let until = self.state.now().saturating_add(self.settings.lease);
        if let Some(node) = self.nodes.get_mut(name) {
            node.now.lease_until = Some(until);
            self.leases_due = Some(self.leases_due.map_or(until, |due| due.min(until)));
        }
    }

    fn orders(&self, name: &str, answers: u64) -> Orders {
        let Some(node) = self.nodes.get(name) else { return Orders::default() };
        Orders {
            edition: Edition { epoch: self.epoch, version: node.now.version },
            answers,
            lease_ms: self.lease_ms(),
            tasks: node.now.tasks.keys().filter_map(|task| self.order(name, *task)).collect(),
            limits: node.now.limited.as_ref().map(|_| self.limits_of(name)),
            logs: node.now.logs.clone(),
        }
    }

    fn order(&self, node: &str, id: TaskId) -> Option<Order> {
        let record = self.records.get(&id.job)?;
        let attempt = record.live()?;
        let step = attempt.steps.get(&id.step)?;
        let task = step.tasks.iter().find(|task| *task.node == *node)?;
        // Who stands still cannot save its work first.
        let paused = self.is_paused(id.job);
        let want = if attempt.kill || paused && attempt.stop.is_some() {
            Want::Kill
        } else if attempt.stop.is_some() || step.stop {
            Want::Stop
        } else if step.go {
            Want::Run
        } else {
            Want::Prepare
        };
        let spec = match task.seen {
            Seen::Unknown => Some(Arc::new(self.task_spec(record, id, task)?)),
            _ => None,
        };
        Some(Order { task: id, want, signal: task.signal, paused, spec })
    }

    fn domain_of(&self, node: &str) -> String {
        let fleet = self.state.fleet();
        self.node_ix(node).map_or_else(String::new, |node| fleet.path(fleet.nodes[node.ix()].domain))
    }

    /// None for a job that has nothing to run.
    fn task_spec(&self, record: &Record, id: TaskId, task: &super::records::Task) -> Option<TaskSpec> {
        let program = record.program()?;
        let attempt = record.live();
        let step = attempt.and_then(|attempt| attempt.steps.get(&id.step));
        let request = step.and_then(|step| step.request.as_ref());
        let gangs = &record.spec.gangs;
        let script = id.step == 0 && matches!(program.start, Start::Script { .. });
        // A script has all that its job has of its node.
        let here = attempt.and_then(|attempt| attempt.shares.iter().find(|share| *share.node == *task.node));
        let times = if script { here.map_or(1, |share| share.workers.len()) } else { 1 };
        let cpu = gangs.iter().map(|gang| gang.cpu.get()).max().unwrap_or(0);
        let cpu = request.and_then(|request| request.cpus_per_task).map_or(cpu, |cores| cores.saturating_mul(1000));
        let memory = gangs.iter().map(|gang| gang.memory.get()).max().unwrap_or(0);
        let memory = if request.is_some() { 0 } else { memory };
        Some(TaskSpec {
            job_name: record.spec.name.clone(),
            tenant: record.spec.tenant.clone(),
            user: program.user.clone().unwrap_or(User::Name("nobody".to_owned())),
            start: request.map_or_else(|| program.start.clone(), |request| Start::Command(request.command.clone())),
            environment: request.map_or_else(|| program.environment.clone(), |request| request.environment.clone()),
            directory: request.map_or_else(|| program.directory.clone(), |request| request.directory.clone()),
            output: request.map_or_else(|| program.output.clone(), |request| request.output.clone()),
            error: request.map_or_else(|| program.error.clone(), |request| request.error.clone()),
            append: program.append || id.attempt > 1,
            stop: program.stop,
            ends_together: request.map_or(!script, |request| request.kill_on_bad_exit),
            layout: program.layout,
            cpu: CpuMilli::new(cpu.saturating_mul(times as u32)),
            memory: Mebibytes::new(memory * times as u64),
            workers: task.workers.clone(),
            world_size: step.map_or(1, |step| step.world),
            node_rank: task.node_rank,
            nodes: step.map_or_else(|| Arc::from([]), |step| Arc::clone(&step.nodes)),
            domain: self.domain_of(&task.node),
            port: port_of(id),
            array: program.array,
            limit_ms: record.spec.duration.map(Duration::as_millis),
            restarts: id.attempt - 1,
            job_token: self.job_token(id.job, id.attempt),
        })
    }
}

fn as_joined(said: &NodeDescription) -> JoinedNode {
    JoinedNode {
        name: said.name.clone(),
        cpu: CpuMilli::new(said.cpus.saturating_mul(1000)),
        memory: said.memory,
        accelerator: said.accelerator.clone(),
        chips: said.chips,
        chip_memory: said.chip_memory,
        chip_watts: said.chip_watts,
        attributes: said.attributes.clone(),
    }
}

/// The port at which the workers of a step meet: below those that Linux gives out by itself, and another for each step
/// that is likely to run at the same time on a node.
fn port_of(task: TaskId) -> u16 {
    const FIRST: u64 = 20_000;
    const COUNT: u64 = 12_000;
    (FIRST + (task.job * 7 + u64::from(task.attempt) * 3 + u64::from(task.step)) % COUNT) as u16
}
