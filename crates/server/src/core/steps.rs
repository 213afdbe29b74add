//! Steps inside a running job: what `srun` asks for.

use std::sync::Arc;

use offtake_protocol::agent::{TaskId, WorkerSpec};
use offtake_protocol::rest::{JobState, Problem, StepRequest, StepView};

use super::access::{problem, unknown_job};
use super::attempts::{ran, status_of, step_of, worker};
use super::records::{Attempt, Record, Seen, Share, Step};
use super::{Answer, Caller, Core};
use crate::fact::Event;

/// Steps of one attempt that may run at one time.
const MOST_LIVE_STEPS: usize = 512;
/// Tasks of one step.
const MOST_TASKS: u32 = 100_000;
/// Bytes of a step's program, arguments and environment.
const MOST_BYTES: usize = 1 << 20;

impl Core {
    pub(super) fn ask_step(&mut self, caller: &Caller, job: u64, request: StepRequest) -> Result<Answer, Problem> {
        let Some(record) = self.records.get(&job) else { return Err(unknown_job(job)) };
        let Some(attempt) = record.live().filter(|attempt| attempt.stop.is_none()) else {
            return Err(problem(409, "not_running", format!("job {job} does not run: it can start no step")));
        };
        parts_of(record, attempt, &request)?;
        let live = attempt.steps.values().filter(|step| step.ended.is_none()).count();
        if live > MOST_LIVE_STEPS {
            let detail = format!("{MOST_LIVE_STEPS} steps of job {job} run already; wait for some to end");
            return Err(problem(429, "too_many_steps", detail));
        }
        let (number, step) = (attempt.number, attempt.next_step);
        self.emit(Event::StepAsked { job, attempt: number, step, request: Arc::new(request) });
        self.touched.insert(job);
        self.step(caller, job, step).map(|view| Answer::Step(Box::new(view)))
    }

    pub(super) fn end_step(&mut self, caller: &Caller, job: u64, number: u32) -> Result<Answer, Problem> {
        if number > 0
            && let Some(attempt) = self.records.get_mut(&job).and_then(|record| record.live_mut())
            && let Some(step) = attempt.steps.get_mut(&number)
        {
            step.stop = true;
            self.touch_nodes_of(job);
        }
        self.step(caller, job, number).map(|view| Answer::Step(Box::new(view)))
    }

    pub(super) fn note_step(&mut self, job: u64, attempt: u32, number: u32, request: &Arc<StepRequest>) {
        let Some(record) = self.records.get(&job) else { return };
        let Some(live) = record.live().filter(|live| live.number == attempt) else { return };
        let Ok(parts) = parts_of(record, live, request) else { return };
        let told: Vec<(Arc<str>, u32)> =
            parts.iter().map(|(node, workers)| (Arc::clone(node), workers.len() as u32)).collect();
        let step = step_of(Some(Arc::clone(request)), parts, &told, &self.nodes);
        let Some(live) = self.records.get_mut(&job).and_then(|record| record.live_mut()) else { return };
        live.next_step = live.next_step.max(number + 1);
        live.steps.insert(number, step);
        self.list_tasks(job, number);
    }

    pub(super) fn note_step_ended(
        &mut self,
        job: u64,
        attempt: u32,
        number: u32,
        exit_code: i32,
        reason: Option<&str>,
    ) {
        let Some(live) = self.records.get_mut(&job).and_then(|record| record.live_mut()) else { return };
        if live.number != attempt {
            return;
        }
        let Some(step) = live.steps.get_mut(&number) else { return };
        step.ended = Some((exit_code, reason.map(str::to_owned)));
        let tasks = std::mem::take(&mut step.tasks);
        let id = TaskId { job, attempt, step: number };
        for task in tasks {
            if let Some(node) = self.nodes.get_mut(&task.node) {
                node.now.tasks.remove(&id);
            }
            self.touch_node(&task.node);
        }
    }

    /// Lets the steps from 1 of a job's attempt go on as their tasks have.
    pub(super) fn advance_steps(&mut self, job: u64) {
        let Some(attempt) = self.records.get_mut(&job).and_then(|record| record.live_mut()) else { return };
        let number = attempt.number;
        let (mut over, mut changed) = (Vec::new(), false);
        for (step, entry) in attempt.steps.iter_mut().filter(|(step, entry)| **step > 0 && entry.ended.is_none()) {
            if entry.all(Seen::Ended) {
                let (exit_code, reason) = verdict(entry);
                over.push(Event::StepEnded { job, attempt: number, step: *step, exit_code, reason });
                continue;
            }
            if !entry.go && entry.is_ready() {
                entry.go = true;
                changed = true;
            }
            let ends = || entry.tasks.iter().filter_map(|task| task.end.as_ref());
            // Tasks start together or not at all.
            let refused = ends().any(|end| end.refused.is_some() || (!entry.go && !ran(Some(end))));
            let kill = entry.request.as_ref().is_some_and(|request| request.kill_on_bad_exit);
            let bad = || ends().flat_map(|end| &end.workers).any(|worker| status_of(&worker.exit) != Some(0));
            if !entry.stop && (refused || (kill && bad())) {
                entry.stop = true;
                changed = true;
            }
        }
        if changed {
            self.touch_nodes_of(job);
        }
        over.into_iter().for_each(|event| self.emit(event));
    }

    /// A step of a job's last attempt.
    ///
    /// # Errors
    /// When there is none.
    pub fn step(&self, caller: &Caller, job: u64, number: u32) -> Result<StepView, Problem> {
        self.own(caller, job)?;
        let attempt = self.records.get(&job).and_then(Record::current);
        let unknown = || problem(404, "unknown_step", format!("job {job} has no step {number}"));
        let attempt = attempt.ok_or_else(unknown)?;
        let step = attempt.steps.get(&number).ok_or_else(unknown)?;
        let state = match &step.ended {
            Some((0, _)) => JobState::Finished,
            Some(_) => JobState::Failed,
            None if attempt.ended.is_some() => JobState::Cancelled,
            None if step.stop || attempt.stop.is_some() => JobState::Stopping,
            None if step.all(Seen::Running) => JobState::Running,
            None => JobState::Starting,
        };
        Ok(StepView {
            job,
            attempt: attempt.number,
            step: number,
            state,
            tasks: step.world,
            nodes: step.nodes.iter().map(|node| node.name.clone()).collect(),
            exit_code: step.ended.as_ref().map(|(code, _)| *code),
            reason: step.ended.as_ref().and_then(|(_, reason)| reason.clone()),
        })
    }
}

/// The highest status of a step's tasks, and what to say of it.
fn verdict(step: &Step) -> (i32, Option<String>) {
    let mut highest = 0;
    let mut reason = None;
    for task in &step.tasks {
        let Some(end) = &task.end else { continue };
        if let Some(refused) = &end.refused {
            highest = highest.max(1);
            reason.get_or_insert_with(|| format!("not started on {}: {}", task.node, refused.reason));
        }
        for worker in &end.workers {
            let code = status_of(&worker.exit).unwrap_or(137);
            if code != 0 {
                reason.get_or_insert_with(|| format!("task {} on {} ended with status {code}", worker.rank, task.node));
            }
            highest = highest.max(code);
        }
    }
    (highest, reason)
}

/// A node, and the workers of a step on it.
pub(super) type Part = (Arc<str>, Vec<WorkerSpec>);

/// A step's tasks on the nodes of its attempt.
///
/// As under Slurm: `--nodes` and `--nodelist` choose nodes; tasks are as many as asked for, or as the job's layout has
/// them, or one a worker; they fill the nodes' workers in order, or are dealt out evenly where there are more tasks than
/// workers. Every task sees all chips that the job has on its node unless it asks for its own.
fn parts_of(record: &Record, attempt: &Attempt, request: &StepRequest) -> Result<Vec<Part>, Problem> {
    let fault =
        |field: &str, detail: String| Problem { field: Some(field.to_owned()), ..problem(422, "invalid_step", detail) };
    check_size(request).map_err(|detail| fault("command", detail))?;
    let mut shares: Vec<&Share> = attempt.shares.iter().collect();
    if let Some(other) = request.node_list.iter().find(|name| !shares.iter().any(|share| *share.node == ***name)) {
        return Err(fault("node_list", format!("`{other}` is no node of this job")));
    }
    if !request.node_list.is_empty() {
        shares.retain(|share| request.node_list.iter().any(|name| *share.node == **name));
    }
    if let Some(nodes) = request.nodes {
        if nodes == 0 || nodes as usize > shares.len() {
            let detail = format!("{nodes} nodes are asked for, and there are {}", shares.len());
            return Err(fault("nodes", detail));
        }
        shares.truncate(nodes as usize);
    }
    let layout = record.program().map(|program| program.layout).unwrap_or_default();
    let narrowed = request.nodes.is_some() || !request.node_list.is_empty();
    let per_node = request.tasks_per_node.or(if request.tasks.is_none() { layout.tasks_per_node } else { None });
    let workers: u32 = shares.iter().map(|share| share.workers.len() as u32).sum();
    let tasks = match (request.tasks, per_node) {
        (Some(tasks), _) => tasks,
        (None, Some(each)) => each.saturating_mul(shares.len() as u32),
        (None, None) => layout.tasks.filter(|_| !narrowed).unwrap_or(workers),
    };
    if tasks == 0 || tasks > MOST_TASKS {
        return Err(fault("tasks", format!("a step has 1 to {MOST_TASKS} tasks, not {tasks}")));
    }
    let counts = deal(tasks, per_node, &shares);
    if counts.iter().sum::<u32>() < tasks {
        let detail = format!("{tasks} tasks do not go on {} nodes with so few on each", shares.len());
        return Err(fault("tasks_per_node", detail));
    }
    let mut rank = 0;
    let mut parts = Vec::new();
    for (share, count) in shares.iter().zip(counts).filter(|(_, count)| *count > 0) {
        let chips = chips_of(share, count, request.chips_per_task)
            .ok_or_else(|| fault("chips_per_task", format!("{} has too few chips of this job", share.node)))?;
        let workers = chips.into_iter().enumerate().map(|(local, chips)| {
            rank += 1;
            worker(rank - 1, local as u32, chips)
        });
        parts.push((Arc::clone(&share.node), workers.collect()));
    }
    Ok(parts)
}

fn check_size(request: &StepRequest) -> Result<(), String> {
    let environment = request.environment.iter().map(|(name, value)| name.len() + value.len());
    let bytes = request.command.iter().map(String::len).chain(environment).sum::<usize>();
    if request.command.first().is_none_or(String::is_empty) {
        return Err("a step runs a program: give at least its name".to_owned());
    }
    if bytes > MOST_BYTES {
        return Err(format!("a step's arguments and environment have at most {MOST_BYTES} bytes, not {bytes}"));
    }
    let texts = request.command.iter().chain(request.environment.values());
    if texts.chain(request.environment.keys()).chain([&request.directory]).any(|text| text.contains('\0')) {
        return Err("no text of a step contains a NUL".to_owned());
    }
    Ok(())
}

/// How many tasks go on each node.
fn deal(tasks: u32, per_node: Option<u32>, shares: &[&Share]) -> Vec<u32> {
    let workers = |share: &&Share| share.workers.len() as u32;
    let mut left = tasks;
    let mut fill = |most: u32| {
        let taken = most.min(left);
        left -= taken;
        taken
    };
    if let Some(each) = per_node {
        return shares.iter().map(|_| fill(each)).collect();
    }
    if tasks <= shares.iter().map(workers).sum() {
        return shares.iter().map(|share| fill(workers(share))).collect();
    }
    let nodes = shares.len() as u32;
    (0..nodes).map(|node| fill(tasks / nodes + u32::from(node < tasks % nodes))).collect()
}

/// The chips of each of a node's tasks; none where there are too few.
fn chips_of(share: &Share, tasks: u32, each: Option<u16>) -> Option<Vec<u64>> {
    let mut left = share.chips();
    let Some(each) = each else { return Some(vec![left; tasks as usize]) };
    let mut of_tasks = Vec::with_capacity(tasks as usize);
    for _ in 0..tasks {
        let mut chips = 0;
        for _ in 0..each {
            if left == 0 {
                return None;
            }
            chips |= left & left.wrapping_neg();
            left &= left - 1;
        }
        of_tasks.push(chips);
    }
    Some(of_tasks)
}
