//! What is told of jobs, nodes and the fleet.

use std::collections::BTreeMap;
use std::sync::Arc;

use offtake_engine::{JobId, LimitIx, Phase, Stage};
use offtake_fleet::{DomainIx, Fleet, NodeIx, SiteIx};
use offtake_protocol::agent::{EnergySource, TaskId};
use offtake_protocol::rest::{
    ArrayView, AttemptView, Basis, DomainView, FleetView, JobDetail, JobQuery, JobState, JobView, LogQuery, NodeState,
    NodeView, Problem, StartEstimate,
};
use offtake_units::{Duration, Timestamp, Watts};
use offtake_workload::{Gang, Start};

use super::access::{problem, show_user, unknown_job};
use super::grid::circuits;
use super::receipt::is_plausible;
use super::records::{Attempt, Record};
use super::{Caller, Core};

/// Characters of a command that are told.
const LONGEST_COMMAND: usize = 120;
/// Jobs on a page where nothing is said.
pub const PAGE: u32 = 1_000;
/// The most jobs on a page.
pub const LARGEST_PAGE: u32 = 10_000;

/// A job that has ended, for the history on disk.
#[derive(Clone, Debug)]
pub struct HistoryRow {
    /// The job.
    pub id: u64,
    /// Who pays.
    pub tenant: String,
    /// Its name.
    pub name: String,
    /// Whom it ran as.
    pub user: String,
    /// How it ended.
    pub state: JobState,
    /// The array that it was of.
    pub array: Option<u64>,
    /// When it ended.
    pub ended_ms: i64,
    /// All that is told of it.
    pub document: JobDetail,
}

/// Where output of a job lies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogSource {
    /// The node.
    pub node: Arc<str>,
    /// The task there.
    pub task: TaskId,
    /// Whether the node's agent can be asked now.
    pub reachable: bool,
}

/// Counts for the metrics.
#[derive(Clone, Debug, Default)]
pub struct Figures {
    /// Jobs that are not over, by state.
    pub jobs: BTreeMap<&'static str, u64>,
    /// Jobs that have ended since the first fact, by state.
    pub ended: BTreeMap<&'static str, u64>,
    /// Chips that waiting jobs ask for by tier, in thousandths.
    pub waiting_chip_milli: [u64; 4],
    /// Chips in all.
    pub chips: u64,
    /// Chips in use by tier, in thousandths.
    pub chip_milli_in_use: [u64; 4],
    /// Nodes by state.
    pub nodes: BTreeMap<&'static str, u64>,
    /// Leases that have run out since this server started.
    pub leases_expired: u64,
    /// Reservations by state.
    pub reservations: BTreeMap<&'static str, u64>,
    /// Nodes of reservations whose windows last.
    pub reserved_nodes: u64,
    /// Per site: its name, draw at the servers and at the grid connection, in watts.
    pub power: Vec<(String, u64, u64)>,
    /// Per cap: its name, what it allows and what is used, in watts.
    pub caps: Vec<(String, u64, u64)>,
}

impl Core {
    /// Jobs in memory that match, the youngest first: all that are not over, and those that ended last.
    ///
    /// # Errors
    /// When the query cannot be meant.
    pub fn live_jobs(&self, caller: &Caller, query: &JobQuery) -> Result<Vec<JobView>, Problem> {
        let states = states(query)?;
        let limit = limit(query)?;
        let below = query.before.unwrap_or(u64::MAX);
        let matches = |view: &JobView| {
            states.contains(&view.state)
                && query.user.as_ref().is_none_or(|user| *user == view.user)
                && query.array.is_none_or(|array| view.array.is_some_and(|of| of.id == array))
        };
        let mut found = Vec::new();
        for (id, record) in self.records.range(..below).rev() {
            let of_tenant = query.tenant.as_ref().is_none_or(|tenant| *tenant == record.spec.tenant);
            let of_name = query.name.as_ref().is_none_or(|name| *name == record.spec.name);
            if !caller.sees(&record.spec.tenant)
                || !of_tenant
                || !of_name
                || !states.contains(&self.job_state(*id, record))
            {
                continue;
            }
            let view = self.view(*id, record);
            if matches(&view) {
                found.push(view);
                if found.len() == limit {
                    break;
                }
            }
        }
        Ok(found)
    }

    /// A job with its history, if it is in memory and the caller may see it.
    pub fn job(&self, caller: &Caller, id: u64) -> Option<JobDetail> {
        let record = self.records.get(&id).filter(|record| caller.sees(&record.spec.tenant))?;
        Some(self.detail(id, record))
    }

    /// The tenant of a job in memory.
    pub fn tenant_of(&self, job: u64) -> Option<String> {
        self.records.get(&job).map(|record| record.spec.tenant.clone())
    }

    /// What the history on disk keeps of a job that has ended.
    pub fn history_row(&self, id: u64) -> Option<HistoryRow> {
        let record = self.records.get(&id)?;
        let end = record.end.as_ref()?;
        let document = self.detail(id, record);
        Some(HistoryRow {
            id,
            tenant: record.spec.tenant.clone(),
            name: record.spec.name.clone(),
            user: document.job.user.clone(),
            state: end.state,
            array: document.job.array.map(|array| array.id),
            ended_ms: end.at.as_millis(),
            document,
        })
    }

    fn detail(&self, id: u64, record: &Record) -> JobDetail {
        let attempts = record.attempts.iter().map(|attempt| AttemptView {
            number: attempt.number,
            placed_ms: attempt.placed.as_millis(),
            started_ms: attempt.started.map(Timestamp::as_millis),
            ended_ms: attempt.ended.map(Timestamp::as_millis),
            outcome: attempt.outcome.clone(),
            nodes: node_names(attempt),
            failures: attempt.failures.clone(),
        });
        JobDetail { job: self.view(id, record), attempts: attempts.collect(), receipt: self.receipt(record) }
    }

    /// Where a job stands.
    pub(super) fn job_state(&self, id: u64, record: &Record) -> JobState {
        if let Some(end) = &record.end {
            return end.state;
        }
        if record.service.is_some() {
            return self.service_state(id);
        }
        match self.work(id).map(|work| &work.phase) {
            Some(Phase::Held(_)) => JobState::Held,
            Some(Phase::Running { stage: Stage::Starting, .. }) => JobState::Starting,
            Some(Phase::Running { stage: Stage::Running, .. }) => JobState::Running,
            Some(Phase::Running { stage: Stage::Stopping(_), .. }) => JobState::Stopping,
            Some(Phase::Pending(_) | Phase::Refused(_)) | None => JobState::Pending,
        }
    }

    fn view(&self, id: u64, record: &Record) -> JobView {
        let state = self.job_state(id, record);
        let last = record.current();
        let program = record.program();
        // What it has while it runs, which may differ from what it asks for where a gang is elastic.
        let placed = record.live().filter(|_| record.spec.gangs.iter().any(|gang| gang.elastic.is_some()));
        let workers_of = |(place, gang): (usize, &Gang)| match placed {
            Some(attempt) => attempt.placement.workers(place),
            None => gang.workers,
        };
        let gangs = || record.spec.gangs.iter().enumerate();
        JobView {
            id,
            name: record.spec.name.clone(),
            state,
            reason: self.reason(id, record, state),
            tenant: record.spec.tenant.clone(),
            user: program.and_then(|program| program.user.as_ref()).map(show_user).unwrap_or_default(),
            tier: record.spec.tier,
            workers: gangs().map(workers_of).sum(),
            chip_milli: placed
                .map_or_else(|| record.spec.chip_milli(), |attempt| attempt.placement.chip_milli(&record.spec)),
            cpu_milli: gangs()
                .map(|(place, gang)| u64::from(workers_of((place, gang))) * u64::from(gang.cpu.get()))
                .sum(),
            submitted_ms: record.submitted.as_millis(),
            start_estimate: self.kept_start(id).filter(|_| state == JobState::Pending),
            started_ms: last.and_then(|attempt| attempt.started).map(Timestamp::as_millis),
            ended_ms: record.end.as_ref().map(|end| end.at.as_millis()),
            limit_ms: record.spec.duration.map(Duration::as_millis),
            deadline_ms: record.spec.deadline.map(Timestamp::as_millis),
            reservation: record.spec.reservation.clone(),
            nodes: last.map(node_names).unwrap_or_default(),
            attempts: record.attempts.len() as u32,
            exit_code: last.and_then(|attempt| attempt.exit_code),
            array: program
                .and_then(|program| program.array)
                .map(|array| ArrayView { id: array.array, index: array.index }),
            service: self.service_view(id, record),
            replica_of: record.spec.service.filter(|_| record.is_replica()),
            after: program.map(|program| program.after.clone()).unwrap_or_default(),
            command: program.map(|program| shown(&program.start)).unwrap_or_default(),
            directory: program.map(|program| program.directory.clone()).unwrap_or_default(),
        }
    }

    /// When what is kept for a job begins.
    pub(super) fn kept_start(&self, id: u64) -> Option<StartEstimate> {
        let hold = self.state.holds().iter().find(|hold| hold.job == JobId(id))?;
        let now = self.state.now();
        let start_ms = hold.start.max(now).as_millis();
        Some(StartEstimate { start_ms, basis: Basis::Kept, as_of_ms: now.as_millis() })
    }

    fn reason(&self, id: u64, record: &Record, state: JobState) -> Option<String> {
        let outcome = || record.current().and_then(|attempt| attempt.outcome.clone());
        match state {
            JobState::Finished => None,
            JobState::Failed | JobState::Cancelled => {
                record.end.as_ref().and_then(|end| end.reason.clone()).or_else(outcome)
            }
            JobState::Held => self.why_held(record),
            JobState::Pending => outcome().map(|outcome| format!("starts again: {outcome}")),
            JobState::Stopping => record.current().and_then(|attempt| attempt.stop).map(|reason| {
                use offtake_engine::StopReason;
                match reason {
                    StopReason::Cancelled => "is cancelled",
                    StopReason::Held => "is put on hold",
                    StopReason::Requeued => "is requeued",
                    StopReason::TimeLimit => "has reached its time limit",
                    StopReason::WorkerFailed => "a worker has failed",
                    StopReason::NodeLost => "a node is lost",
                    StopReason::NotStarted => "could not start",
                    StopReason::Preempted { .. } => "makes room for a stronger job",
                    StopReason::Reclaimed { .. } => "gives back quota that its tenant has borrowed",
                    StopReason::ReservationEnded => "its reservation has ended",
                    StopReason::Curtailed => "gives its power back for a lowered cap",
                    StopReason::Moved => "is moved elsewhere",
                    StopReason::Retired => "is no longer wanted",
                    StopReason::Drained => "leaves a drained node",
                    StopReason::Resized { .. } => "changes its number of workers",
                }
                .to_owned()
            }),
            JobState::Starting | JobState::Running => self.how_throttled(id),
        }
    }

    // Nodes.

    /// All nodes of the fleet.
    pub fn nodes(&self, caller: &Caller) -> Vec<NodeView> {
        let jobs = self.jobs_by_node(caller);
        let nothing = Vec::new();
        (0..self.names.len() as u32)
            .map(|node| self.node_view(NodeIx(node), jobs.get(&NodeIx(node)).unwrap_or(&nothing)))
            .collect()
    }

    /// A node of the fleet.
    pub fn node(&self, caller: &Caller, name: &str) -> Option<NodeView> {
        let at = self.node_ix(name)?;
        let jobs = self.jobs_by_node(caller).remove(&at).unwrap_or_default();
        Some(self.node_view(at, &jobs))
    }

    fn jobs_by_node(&self, caller: &Caller) -> BTreeMap<NodeIx, Vec<u64>> {
        let mut jobs: BTreeMap<NodeIx, Vec<u64>> = BTreeMap::new();
        for (id, record) in self.records.iter().filter(|(_, record)| caller.sees(&record.spec.tenant)) {
            let Some(attempt) = record.live() else { continue };
            for node in attempt.shares.iter().filter_map(|share| self.node_ix(&share.node)) {
                jobs.entry(node).or_default().push(*id);
            }
        }
        jobs
    }

    fn node_view(&self, at: NodeIx, jobs: &[u64]) -> NodeView {
        let fleet = self.state.fleet();
        let node = fleet.nodes[at.ix()];
        let kind = fleet.kind(node);
        let use_ = self.usage(at);
        let name = &self.names[at.ix()];
        let known = self.nodes.get(name);
        let condition = self.state.conditions().get(&at);
        let (state, reason) = match (known, condition) {
            (None, _) => (NodeState::Expected, None),
            (_, Some(condition)) if condition.lost => (NodeState::Down, Some("not heard of".to_owned())),
            (_, Some(condition)) if condition.drained.is_some() => {
                let state = if use_.idle { NodeState::Drained } else { NodeState::Draining };
                (state, condition.drained.clone())
            }
            (_, Some(condition)) if condition.proves_until.is_some() => {
                (NodeState::Drained, Some("it has joined or come back, and stands its burn-in".to_owned()))
            }
            _ if use_.idle => (NodeState::Idle, None),
            _ if use_.full => (NodeState::Allocated, None),
            _ => (NodeState::Mixed, None),
        };
        let measured = known.and_then(|known| {
            let condition = &known.now.condition;
            let most =
                kind.base + fleet.accelerator(kind).map_or(Watts::ZERO, |chip| chip.peak).times(kind.chips.into());
            let read = condition.power_mw.map(|power_mw| power_mw / 1000);
            // Without chips what a host draws at work is not known.
            let read = read.filter(|read| kind.chips == 0 || is_plausible(*read, whole(most)));
            Some((read?, condition.power_source?))
        });
        let (power_w, power_source) = measured.unwrap_or((use_.watts, EnergySource::Model));
        NodeView {
            name: name.to_string(),
            state,
            reason,
            domain: fleet.path(node.domain),
            kind: kind.name.clone(),
            accelerator: fleet.accelerator(kind).map(|chip| chip.name.clone()),
            chips: kind.chips,
            chip_milli_in_use: use_.chip_milli,
            cpu_milli: u64::from(kind.cpu.get()),
            cpu_milli_in_use: use_.cpu_milli,
            memory_mib: kind.memory.get(),
            memory_mib_in_use: use_.memory_mib,
            jobs: jobs.to_vec(),
            address: known.map(|known| known.description.address.clone()),
            seen_ms: known.and_then(|known| known.now.seen_at).map(Timestamp::as_millis),
            agent_version: known.map(|known| known.description.agent_version.clone()),
            isolation: known.map(|known| known.description.isolation.clone()),
            power_w,
            power_source,
            not_throttled: self.why_not_limited(at),
        }
    }

    pub(super) fn usage(&self, at: NodeIx) -> Usage {
        let capacity = self.state.capacity();
        let class = capacity.class_of(at);
        let free = &class.vector;
        let empty = capacity.empty(free.kind);
        let kind = &self.state.fleet().node_kinds[free.kind.ix()];
        let chip = self.state.fleet().accelerator(kind);
        let idle = kind.base + chip.map_or(Watts::ZERO, |chip| chip.idle).times(kind.chips.into());
        let shared: u64 = free.shared.iter().map(|left| u64::from(*left)).sum();
        let chips = u64::from(empty.whole) * 1000;
        let left = u64::from(free.whole) * 1000 + shared;
        let no_chip_left = empty.whole > 0 && left == 0;
        Usage {
            idle: free == empty,
            full: no_chip_left || (empty.whole == 0 && free.cpu.get() == 0),
            chip_milli: chips - left.min(chips),
            cpu_milli: u64::from(empty.cpu.get() - free.cpu.get()),
            memory_mib: empty.memory.get() - free.memory.get(),
            watts: whole(idle + class.draw.expected),
        }
    }

    // The fleet.

    /// The fleet in figures.
    pub fn fleet(&self) -> FleetView {
        let fleet = self.state.fleet();
        let ready: Vec<bool> = (0..fleet.nodes.len() as u32).map(|node| self.is_ready(NodeIx(node))).collect();
        let usage: Vec<Usage> = (0..fleet.nodes.len() as u32).map(|node| self.usage(NodeIx(node))).collect();
        let domains = (0..fleet.domains.len() as u32).map(|domain| {
            let entry = &fleet.domains[domain as usize];
            let nodes = entry.nodes.start as usize..entry.nodes.end as usize;
            DomainView {
                path: fleet.path(DomainIx(domain)),
                level: fleet.levels[entry.level.ix()].clone(),
                nodes: nodes.len() as u64,
                nodes_ready: ready[nodes.clone()].iter().filter(|ready| **ready).count() as u64,
                chips: fleet.nodes[nodes.clone()].iter().map(|node| u64::from(fleet.kind(*node).chips)).sum(),
                chip_milli_in_use: usage[nodes.clone()].iter().map(|usage| usage.chip_milli).sum(),
                power_w: usage[nodes].iter().map(|usage| usage.watts).sum(),
            }
        });
        let domains: Vec<DomainView> = domains.collect();
        let figures = self.figures();
        FleetView {
            name: fleet.name.clone(),
            policy: self.state.policy().name().unwrap_or("custom").to_owned(),
            levels: fleet.levels.clone(),
            nodes: fleet.nodes.len() as u64,
            nodes_ready: ready.iter().filter(|ready| **ready).count() as u64,
            chips: fleet.chips(),
            chip_milli_in_use: self.state.ledger().chip_milli_in_use,
            cpu_milli: fleet.nodes.iter().map(|node| u64::from(fleet.kind(*node).cpu.get())).sum(),
            cpu_milli_in_use: usage.iter().map(|usage| usage.cpu_milli).sum(),
            power_w: figures.power.iter().map(|(_, it, _)| it).sum(),
            facility_w: figures.power.iter().map(|(_, _, facility)| facility).sum(),
            jobs: figures.jobs.into_iter().map(|(state, count)| (state.to_owned(), count)).collect(),
            circuits: circuits(fleet, &domains),
            domains,
            caps: self.caps(),
            metered: self.metered(),
        }
    }

    /// Whether a node takes work.
    fn is_ready(&self, at: NodeIx) -> bool {
        self.nodes.contains_key(&self.names[at.ix()]) && !self.state.conditions().contains_key(&at)
    }

    /// Counts for the metrics.
    pub fn figures(&self) -> Figures {
        let fleet: &Fleet = self.state.fleet();
        let mut figures = Figures {
            waiting_chip_milli: self.state.queue().chip_milli_by_tier(),
            chips: fleet.chips(),
            chip_milli_in_use: self.state.ledger().chip_milli_in_use,
            leases_expired: self.leases_expired,
            ..Figures::default()
        };
        for state in JobState::ALL.into_iter().filter(|state| !state.is_over()) {
            figures.jobs.insert(state.word(), 0);
        }
        // Of services their replicas are counted.
        let jobs = self.records.iter().filter(|(_, record)| record.end.is_none() && record.service.is_none());
        for (id, record) in jobs {
            *figures.jobs.entry(self.job_state(*id, record).word()).or_default() += 1;
        }
        (figures.reservations, figures.reserved_nodes) = self.reservation_figures();
        let ended = self.state.ended();
        figures.ended.insert(JobState::Finished.word(), ended.finished);
        figures.ended.insert(JobState::Failed.word(), ended.failed + ended.rejected);
        figures.ended.insert(JobState::Cancelled.word(), ended.cancelled);
        for node in 0..fleet.nodes.len() as u32 {
            let at = NodeIx(node);
            let word = match (self.nodes.contains_key(&self.names[at.ix()]), self.state.conditions().get(&at)) {
                (false, _) => "expected",
                (_, Some(condition)) if condition.lost => "down",
                (_, Some(_)) => "drained",
                _ => "ready",
            };
            *figures.nodes.entry(word).or_default() += 1;
        }
        for (site, entry) in fleet.sites.iter().enumerate() {
            let ix = SiteIx(site as u32);
            let (it, facility) = (self.state.capacity().site_draw(ix), self.state.facility_draw(ix));
            figures.power.push((entry.name.clone(), whole(it), whole(facility)));
        }
        for ((cap, limit), ix) in fleet.caps.iter().zip(self.state.capacity().limits()).zip((0..).map(LimitIx)) {
            figures.caps.push((cap.name.clone(), whole(limit.capacity()), whole(self.state.metered(ix))));
        }
        figures
    }

    // Output.

    /// Where the output of a job lies.
    ///
    /// # Errors
    /// When there is no such job, attempt or step.
    pub fn log_sources(&self, caller: &Caller, job: u64, query: &LogQuery) -> Result<Vec<LogSource>, Problem> {
        let record = self.records.get(&job).filter(|record| caller.sees(&record.spec.tenant));
        let record = record.ok_or_else(|| unknown_job(job))?;
        let attempt = match query.attempt {
            None => record.current(),
            Some(number) => record.attempts.iter().find(|attempt| attempt.number == number),
        };
        let Some(attempt) = attempt else {
            let detail = match query.attempt {
                None => format!("job {job} has not started yet: it has no output"),
                Some(number) => format!("job {job} has no attempt {number}"),
            };
            return Err(problem(404, "no_output", detail));
        };
        let number = query.step.unwrap_or(0);
        let Some(step) = attempt.steps.get(&number) else {
            return Err(problem(404, "unknown_step", format!("job {job} has no step {number}")));
        };
        let task = TaskId { job, attempt: attempt.number, step: number };
        // Of a step that is over only its nodes are known; a script's other nodes have no output.
        let nodes: Vec<Arc<str>> = if step.tasks.is_empty() {
            step.nodes.iter().map(|node| Arc::from(node.name.as_str())).collect()
        } else {
            step.tasks.iter().map(|task| Arc::clone(&task.node)).collect()
        };
        let reachable = |node: &Arc<str>| !self.is_lost(node) && self.nodes.contains_key(node);
        Ok(nodes.into_iter().map(|node| LogSource { reachable: reachable(&node), node, task }).collect())
    }
}

pub(super) struct Usage {
    idle: bool,
    full: bool,
    chip_milli: u64,
    cpu_milli: u64,
    memory_mib: u64,
    /// Idle draw included.
    pub watts: u64,
}

pub(super) fn whole(watts: Watts) -> u64 {
    u64::try_from(watts.get()).unwrap_or(0)
}

fn node_names(attempt: &Attempt) -> Vec<String> {
    attempt.shares.iter().map(|share| share.node.to_string()).collect()
}

fn shown(start: &Start) -> String {
    let whole = match start {
        Start::Command(words) => words.join(" "),
        Start::Script { .. } => "script".to_owned(),
    };
    if whole.chars().count() <= LONGEST_COMMAND {
        return whole;
    }
    let mut short: String = whole.chars().take(LONGEST_COMMAND - 1).collect();
    short.push('…');
    short
}

/// The states that a query asks for.
///
/// # Errors
/// When one is none of ours.
pub fn states(query: &JobQuery) -> Result<Vec<JobState>, Problem> {
    if query.all == Some(true) {
        return Ok(JobState::ALL.to_vec());
    }
    let Some(words) = &query.state else {
        return Ok(JobState::ALL.into_iter().filter(|state| !state.is_over()).collect());
    };
    let read = |word: &str| JobState::ALL.into_iter().find(|state| state.word() == word.trim());
    let words = words.split(',');
    words
        .map(|word| {
            read(word).ok_or_else(|| {
                let known: Vec<&str> = JobState::ALL.iter().map(|state| state.word()).collect();
                let detail = format!("`{word}` is no state of a job; states are {}", known.join(", "));
                Problem { field: Some("state".to_owned()), ..problem(422, "invalid_query", detail) }
            })
        })
        .collect()
}

/// How many jobs a query asks for.
///
/// # Errors
/// When that is none, or too many.
pub fn limit(query: &JobQuery) -> Result<usize, Problem> {
    let limit = query.limit.unwrap_or(PAGE);
    if (1..=LARGEST_PAGE).contains(&limit) {
        return Ok(limit as usize);
    }
    let detail = format!("a page has 1 to {LARGEST_PAGE} jobs, not {limit}");
    Err(Problem { field: Some("limit".to_owned()), ..problem(422, "invalid_query", detail) })
}
