//! Submission: what is asked for becomes jobs, all or none; a repetition under one key gets the first answer.

use std::sync::Arc;

use offtake_engine::{Event as EngineEvent, JobId};
use offtake_protocol::rest::{JobState, Problem, Submitted, SubmittedBatch};
use offtake_units::Timestamp;
use offtake_workload::check::Fault;
use offtake_workload::{ArrayTask, Dependency, Job, JobFile, Program, Service, Start, Submission, User};
use serde::{Deserialize, Serialize};

use super::access::{Access, forbidden, problem};
use super::deadlines::MOST_LOOKED_AT;
use super::records::{Held, Record};
use super::services::may_spread;
use super::{Answer, Caller, Core, KEYS_KEPT, Key};
use crate::fact::Event;

/// Bytes that the jobs of one call may take in the journal.
const MOST_BYTES: usize = 128 << 20;

/// Jobs that one job may wait for.
const MOST_DEPENDENCIES: usize = 10_000;

/// Jobs that one call may submit, arrays counted by their indices.
const MOST_JOBS_A_CALL: usize = 100_001;

/// What was answered under a key.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Keyed {
    pub request: String,
    pub submitted: Vec<Submitted>,
}

impl Core {
    /// Whether a key was used before, and for what.
    ///
    /// # Errors
    /// When it was used for something else.
    pub(super) fn keyed(&self, key: Option<&Key>) -> Result<Option<&Keyed>, Problem> {
        let Some(key) = key else { return Ok(None) };
        let Some(known) = self.keys.get(&key.key) else { return Ok(None) };
        if known.request == key.request {
            return Ok(Some(known));
        }
        let detail = "this idempotency key was used for another request; take a new one";
        Err(problem(422, "key_reused", detail))
    }

    pub(super) fn note_keyed(&mut self, at: Timestamp, key: &str, request: &str, submitted: &[Submitted]) {
        while let Some((since, old)) = self.keys_in_order.front() {
            if at - *since < KEYS_KEPT {
                break;
            }
            self.keys.remove(old);
            self.keys_in_order.pop_front();
        }
        self.keys.insert(key.to_owned(), Keyed { request: request.to_owned(), submitted: submitted.to_vec() });
        self.keys_in_order.push_back((at, key.to_owned()));
    }

    pub(super) fn remember(&mut self, key: Option<Key>, submitted: Vec<Submitted>) {
        if let Some(Key { key, request }) = key {
            self.emit(Event::Keyed { key, request, submitted });
        }
    }

    pub(super) fn submit(&mut self, caller: &Caller, key: Option<Key>, files: Vec<JobFile>) -> Result<Answer, Problem> {
        if let Some(known) = self.keyed(key.as_ref())? {
            return Ok(Answer::Submitted(SubmittedBatch { jobs: known.submitted.clone() }));
        }
        caller.may_write()?;
        let alone = files.len() == 1;
        let mut asked = Vec::with_capacity(files.len());
        let mut count = 0;
        for (index, file) in files.into_iter().enumerate() {
            let read = self.read(caller, file).map_err(|mut problem| {
                problem.index = (!alone).then_some(index);
                problem
            })?;
            count += read.array.as_ref().map_or(1, |array| array.indices.len());
            asked.push(read);
        }
        self.has_room_for(count)?;
        let bytes: usize = asked.iter().map(size).sum();
        if bytes > MOST_BYTES {
            let detail = format!(
                "{bytes} bytes of jobs in one call, those of arrays counted for each index; allowed are {MOST_BYTES}: \
                 submit them in several, or have a shorter script call a longer one"
            );
            return Err(problem(422, "too_large", detail));
        }
        self.keep_deadlines(&asked)?;
        let mut looks = MOST_LOOKED_AT;
        let mut jobs: Vec<Submitted> = Vec::with_capacity(asked.len());
        for submission in asked {
            let has_deadline = submission.job.deadline.is_some();
            let mut accepted = self.accept(submission);
            if has_deadline && looks > 0 {
                looks -= 1;
                accepted.deadline = self.deadline_of(accepted.id);
            }
            jobs.push(accepted);
        }
        self.remember(key, jobs.clone());
        Ok(Answer::Submitted(SubmittedBatch { jobs }))
    }

    fn has_room_for(&self, count: usize) -> Result<(), Problem> {
        if count > MOST_JOBS_A_CALL {
            let detail = format!("{count} jobs in one call; allowed are {MOST_JOBS_A_CALL}: submit them in several");
            return Err(problem(422, "too_many_jobs", detail));
        }
        let live = self.records.len() - self.ended.len();
        if live + count > self.settings.most_jobs {
            let detail = format!(
                "{live} jobs wait or run, and {} may: try again when some have ended, or raise --most-jobs",
                self.settings.most_jobs
            );
            return Err(problem(429, "queue_full", detail));
        }
        Ok(())
    }

    /// A submission as it will be run: whose it is, as whom, and whether it ever can.
    fn read(&self, caller: &Caller, file: JobFile) -> Result<Submission, Problem> {
        let own = match &caller.access {
            Access::Member(tenant) | Access::Job { tenant, .. } => tenant.as_str(),
            Access::Operator | Access::Reader => DEFAULT_TENANT,
        };
        let mut asked = file.read(self.state.now(), own).map_err(|fault| of_fault(&fault))?;
        if !caller.sees(&asked.job.tenant) {
            let detail = format!("this token submits for the tenant `{own}` only, not for `{}`", asked.job.tenant);
            return Err(forbidden(&detail));
        }
        let user = self.user_of(caller, &asked.job)?;
        let Some(program) = asked.job.program.as_mut().map(Arc::make_mut) else {
            return Err(problem(422, "no_program", "the job has nothing to run: give `command` or `script`"));
        };
        program.user = Some(user);
        program.after = self.each_of_arrays(&program.after)?;
        for dependency in &program.after {
            let known = self.records.get(&dependency.job).map(|record| record.spec.tenant.as_str());
            let over = self.outcomes.contains_key(&dependency.job);
            if !known.map_or(over, |tenant| caller.sees(tenant)) {
                let detail = format!("there is no job {} to wait for", dependency.job);
                return Err(Problem { field: Some("after".to_owned()), ..problem(422, "unknown_dependency", detail) });
            }
        }
        if self.state.fleet().nodes.is_empty() {
            let detail = "no node has joined this server yet: start an agent, and try again";
            return Err(problem(503, "no_nodes", detail));
        }
        self.may_use_reservation(&asked.job)?;
        self.state.placeable(&asked.job.gangs).map_err(|refusal| problem(422, "unplaceable", refusal.to_string()))?;
        asked.service.iter().try_for_each(|service| may_spread(self.state.fleet(), service))?;
        self.state.lets_wait(&asked.job).map_err(|refusal| problem(429, "pending_limit", refusal.to_string()))?;
        Ok(asked)
    }

    /// Dependencies on an array, named by its identity, as dependencies on each of its jobs.
    fn each_of_arrays(&self, after: &[Dependency]) -> Result<Vec<Dependency>, Problem> {
        let mut each = Vec::with_capacity(after.len());
        for dependency in after {
            let record = self.records.get(&dependency.job);
            let array = record.and_then(|record| record.program()?.array).filter(|task| task.array == dependency.job);
            let count = array.map_or(1, |task| u64::from(task.count));
            each.extend((0..count).map(|offset| Dependency { job: dependency.job + offset, when: dependency.when }));
            if each.len() > MOST_DEPENDENCIES {
                let detail =
                    format!("a job waits for at most {MOST_DEPENDENCIES} others, those of arrays counted singly");
                return Err(Problem { field: Some("after".to_owned()), ..problem(422, "too_many", detail) });
            }
        }
        Ok(each)
    }

    /// Whom a job runs as: the tenant map's user, or else the caller's own; never one that a request names.
    fn user_of(&self, caller: &Caller, job: &Job) -> Result<User, Problem> {
        let mapped = self.settings.tenants.get(&job.tenant).cloned();
        mapped.or_else(|| caller.user.clone()).ok_or_else(|| {
            let detail = format!(
                "nobody is named whom jobs of `{}` run as: give the tenant a user in the server's tenant map, or the \
                 token one when it is made",
                job.tenant
            );
            problem(422, "no_user", detail)
        })
    }

    fn accept(&mut self, submission: Submission) -> Submitted {
        let first = self.next_job;
        let Submission { job, array, service, .. } = submission;
        if let Some(service) = service {
            let state = self.accept_service(first, Service { program: job.program, ..service });
            return Submitted { id: first, count: 1, state, deadline: None };
        }
        let Some(array) = array else {
            let state = self.accept_one(first, Arc::new(job));
            return Submitted { id: first, count: 1, state, deadline: None };
        };
        let count = array.indices.len() as u32;
        let (lowest, highest) = (array.indices[0], array.indices[array.indices.len() - 1]);
        let mut state = JobState::Pending;
        for (offset, index) in array.indices.iter().enumerate() {
            let mut job = job.clone();
            if let Some(program) = job.program.as_mut() {
                Arc::<Program>::make_mut(program).array = Some(ArrayTask {
                    array: first,
                    index: *index,
                    count,
                    first: lowest,
                    last: highest,
                    step: array.step,
                    at_once: array.at_once,
                });
            }
            let one = self.accept_one(first + offset as u64, Arc::new(job));
            if offset == 0 {
                state = one;
            }
        }
        Submitted { id: first, count, state, deadline: None }
    }

    fn accept_one(&mut self, id: u64, spec: Arc<Job>) -> JobState {
        self.emit_engine(EngineEvent::JobSubmitted { job: JobId(id), spec });
        self.settle_at_submission(id)
    }

    pub(super) fn note_submitted(&mut self, at: Timestamp, job: JobId, spec: &Arc<Job>) {
        self.number_from(job.0 + 1);
        let held = self.held_at_submission(job.0, spec);
        if let Some(begin) = held.begin {
            self.timers.set(begin, super::timers::Timer::Begin(job.0));
        }
        self.records.insert(job.0, Record::new(Arc::clone(spec), at, held));
    }

    /// Jobs, services and their replicas are numbered in one row, from here on.
    pub(super) fn number_from(&mut self, next: u64) {
        self.next_job = self.next_job.max(next);
        self.state.number_replicas_from(self.next_job);
    }

    fn held_at_submission(&mut self, job: u64, spec: &Job) -> Held {
        let Some(program) = &spec.program else { return Held::default() };
        let now = self.state.now();
        Held {
            by_user: program.hold,
            by_failed_starts: false,
            killed_nodes: None,
            after: self.unmet(job, &program.after),
            begin: program.begin.filter(|begin| *begin > now),
            by_array: self.joins_array(job, program.array),
        }
    }
}

/// Bytes that a submission will about take in the journal.
fn size(submission: &Submission) -> usize {
    const OVERHEAD: usize = 1024;
    const DEPENDENCY: usize = 40;
    let count = submission.array.as_ref().map_or(1, |array| array.indices.len());
    let Some(program) = &submission.job.program else { return OVERHEAD };
    let start = match &program.start {
        Start::Command(words) => words.iter().map(String::len).sum::<usize>(),
        Start::Script { text, arguments } => text.len() + arguments.iter().map(String::len).sum::<usize>(),
    };
    let environment: usize = program.environment.iter().map(|(name, value)| name.len() + value.len()).sum();
    (OVERHEAD + start + environment + program.after.len() * DEPENDENCY) * count
}

/// Whom work belongs to that an operator submits without naming anyone.
pub(super) const DEFAULT_TENANT: &str = "default";

pub(super) fn of_fault(fault: &Fault) -> Problem {
    Problem { field: Some(fault.field.clone()), ..problem(422, "invalid_job", fault.to_string()) }
}
