//! What people ask of jobs and nodes that are there.

use offtake_engine::{Event as EngineEvent, JobId, Phase, StopReason};
use offtake_fleet::NodeIx;
use offtake_protocol::rest::{Problem, Submitted};

use super::access::{Access, forbidden, problem, unknown_job};
use super::{Answer, Caller, Command, Core, Key};

/// Bytes of a reason that someone gives.
const LONGEST_REASON: usize = 1024;

impl Core {
    pub(super) fn command(&mut self, caller: &Caller, key: Option<Key>, command: Command) -> Result<Answer, Problem> {
        if let Command::Submit(files) = command {
            return self.submit(caller, key, files);
        }
        let known = self.keyed(key.as_ref())?.cloned();
        caller.may_write()?;
        if let Command::Step { job, .. } = command
            && let Some(step) = known.as_ref().and_then(|known| known.submitted.first())
        {
            let step = u32::try_from(step.id).unwrap_or(u32::MAX);
            self.may_step(caller, job)?;
            return self.step(caller, job, step).map(|view| Answer::Step(Box::new(view)));
        }
        let is_step = matches!(command, Command::Step { .. });
        let answer = self.change(caller, command, known.is_some())?;
        if known.is_none() {
            let asked = match &answer {
                Answer::Step(view) if is_step => {
                    vec![Submitted { id: u64::from(view.step), count: 1, state: view.state, deadline: None }]
                }
                _ => Vec::new(),
            };
            self.remember(key, asked);
        }
        Ok(answer)
    }

    /// Carries a command out; one that was carried out before only says how things stand.
    fn change(&mut self, caller: &Caller, command: Command, repeated: bool) -> Result<Answer, Problem> {
        match command {
            Command::Submit(_) => Ok(Answer::Done),
            Command::Cancel { job, signal, now } => {
                self.own(caller, job)?;
                if !repeated {
                    self.cancel(job, signal, now)?;
                }
                self.job_answer(caller, job)
            }
            Command::Hold(job) => {
                self.own(caller, job)?;
                if !repeated {
                    self.hold(job)?;
                }
                self.job_answer(caller, job)
            }
            Command::Release(job) => {
                self.own(caller, job)?;
                if !repeated {
                    self.release(job)?;
                }
                self.job_answer(caller, job)
            }
            Command::Requeue(job) => {
                self.own(caller, job)?;
                if !repeated {
                    self.requeue(job)?;
                }
                self.job_answer(caller, job)
            }
            Command::Scale { job, scale } => {
                self.own(caller, job)?;
                if !repeated {
                    self.scale(job, scale)?;
                }
                self.job_answer(caller, job)
            }
            Command::Demand { job, replicas } => {
                self.own(caller, job)?;
                if !repeated {
                    self.demand(job, replicas)?;
                }
                self.job_answer(caller, job)
            }
            Command::Drain { node, reason } => {
                caller.is_operator()?;
                if !repeated {
                    self.drain(&node, reason)?;
                }
                self.node_answer(caller, &node)
            }
            Command::Resume(node) => {
                caller.is_operator()?;
                let at = self.known_node(&node)?;
                if !repeated {
                    self.emit_engine(EngineEvent::NodeResumed { node: at });
                }
                self.node_answer(caller, &node)
            }
            Command::SetCap { cap, watts } => {
                caller.is_operator()?;
                if !repeated {
                    self.set_cap(&cap, watts)?;
                }
                self.cap_answer(&cap)
            }
            Command::Announce { name, event } => {
                caller.is_operator()?;
                if !repeated {
                    self.announce(&name, &event)?;
                }
                self.grid_event_answer(&name)
            }
            Command::Withdraw(name) => {
                caller.is_operator()?;
                if !repeated {
                    self.withdraw(&name)?;
                }
                Ok(Answer::Done)
            }
            Command::SetPolicy(policy) => {
                caller.is_operator()?;
                if repeated { Ok(Answer::Policy(Box::new(self.policy()))) } else { self.set_policy(*policy) }
            }
            Command::Defrag(job) => {
                caller.is_operator()?;
                if repeated { Ok(Answer::Defrag(Box::default())) } else { self.defrag(job) }
            }
            Command::Step { job, request } => {
                self.may_step(caller, job)?;
                self.ask_step(caller, job, *request)
            }
            Command::EndStep { job, step } => {
                self.may_step(caller, job)?;
                self.end_step(caller, job, step)
            }
            Command::MakeToken { made, answer } => {
                caller.is_operator()?;
                if self.tokens.values().any(|token| token.name == answer.name) {
                    let detail = format!("there is a token `{}` already; revoke it or take another name", answer.name);
                    return Err(problem(409, "token_exists", detail));
                }
                self.emit(*made);
                Ok(Answer::Token(answer))
            }
            Command::RevokeToken(name) => {
                caller.is_operator()?;
                if repeated {
                    return Ok(Answer::Done);
                }
                if !self.tokens.values().any(|token| token.name == name) {
                    return Err(problem(404, "unknown_token", format!("there is no token `{name}`")));
                }
                self.emit(crate::fact::Event::TokenRevoked { name });
                Ok(Answer::Done)
            }
            Command::MakeJoinToken { made, answer } => {
                caller.is_operator()?;
                self.emit(*made);
                Ok(Answer::JoinToken(answer))
            }
            Command::Reserve(spec) => {
                caller.is_operator()?;
                self.reserve(caller, &spec, repeated)
            }
            Command::Unreserve(name) => {
                caller.is_operator()?;
                if !repeated {
                    self.unreserve(&name)?;
                }
                Ok(Answer::Done)
            }
            Command::Tell(events) => {
                caller.is_operator()?;
                if !repeated {
                    events.into_iter().for_each(|event| self.emit(event));
                }
                Ok(Answer::Done)
            }
        }
    }

    fn job_answer(&self, caller: &Caller, job: u64) -> Result<Answer, Problem> {
        let detail = self.job(caller, job).ok_or_else(|| unknown_job(job))?;
        Ok(Answer::Job(Box::new(detail.job)))
    }

    fn node_answer(&self, caller: &Caller, node: &str) -> Result<Answer, Problem> {
        self.node(caller, node).map(|view| Answer::Node(Box::new(view))).ok_or_else(|| unknown_node(node))
    }

    /// # Errors
    /// When there is no such job, or none that the caller may know of.
    pub(super) fn own(&self, caller: &Caller, job: u64) -> Result<(), Problem> {
        let record = self.records.get(&job).filter(|record| caller.sees(&record.spec.tenant));
        record.map(drop).ok_or_else(|| unknown_job(job))
    }

    fn may_step(&self, caller: &Caller, job: u64) -> Result<(), Problem> {
        self.own(caller, job)?;
        match &caller.access {
            Access::Operator => Ok(()),
            Access::Job { job: own, .. } if *own == job => Ok(()),
            _ => Err(forbidden("steps are asked for from inside the job")),
        }
    }

    /// # Errors
    /// When the job is over.
    pub(super) fn not_over(&self, job: u64) -> Result<(), Problem> {
        match self.records.get(&job).and_then(|record| record.end.as_ref()) {
            None => Ok(()),
            Some(end) => Err(problem(409, "job_is_over", format!("job {job} has {} already", end.state.word()))),
        }
    }

    fn cancel(&mut self, job: u64, signal: Option<i32>, now: bool) -> Result<(), Problem> {
        self.not_over(job)?;
        if self.is_service(job) {
            match signal {
                Some(signal) => {
                    self.replicas_of(job).into_iter().for_each(|replica| self.signal(replica, signal, false))
                }
                None => self.cancel_service(job, now),
            }
            return Ok(());
        }
        let runs = self.records.get(&job).is_some_and(|record| record.live().is_some());
        if let Some(signal) = signal {
            if !runs {
                return Err(problem(409, "not_running", format!("job {job} does not run: there is nothing to signal")));
            }
            self.signal(job, signal, false);
            return Ok(());
        }
        if !runs {
            self.emit_engine(EngineEvent::JobCancelled { job: JobId(job) });
            return Ok(());
        }
        self.stop(job, StopReason::Cancelled);
        if now {
            self.kill(job);
        }
        Ok(())
    }

    /// No grace is given any more to the workers of a running job.
    pub(super) fn kill(&mut self, job: u64) {
        if let Some(attempt) = self.records.get_mut(&job).and_then(|record| record.live_mut()) {
            attempt.kill = true;
            self.touch_nodes_of(job);
        }
    }

    fn hold(&mut self, job: u64) -> Result<(), Problem> {
        self.not_over(job)?;
        self.no_service(job)?;
        self.hold_waiting(job);
        if self.records.get(&job).is_some_and(|record| record.live().is_some()) {
            self.stop(job, StopReason::Held);
        }
        Ok(())
    }

    fn requeue(&mut self, job: u64) -> Result<(), Problem> {
        self.not_over(job)?;
        self.no_service(job)?;
        if !self.work(job).is_some_and(|work| matches!(work.phase, Phase::Running { .. })) {
            return Err(problem(409, "not_running", format!("job {job} does not run: it waits for its turn already")));
        }
        self.stop(job, StopReason::Requeued);
        Ok(())
    }

    /// # Errors
    /// When the fleet has no such node.
    pub(super) fn known_node(&self, node: &str) -> Result<NodeIx, Problem> {
        self.node_ix(node).ok_or_else(|| unknown_node(node))
    }

    fn drain(&mut self, node: &str, reason: String) -> Result<(), Problem> {
        let at = self.known_node(node)?;
        if reason.trim().is_empty() || reason.len() > LONGEST_REASON || reason.chars().any(char::is_control) {
            let detail = format!("say why the node is drained, in at most {LONGEST_REASON} bytes on one line");
            return Err(Problem { field: Some("reason".to_owned()), ..problem(422, "invalid_reason", detail) });
        }
        self.emit_engine(EngineEvent::NodeDrained { node: at, reason });
        Ok(())
    }
}

fn unknown_node(node: &str) -> Problem {
    problem(404, "unknown_node", format!("the fleet has no node `{node}`"))
}
