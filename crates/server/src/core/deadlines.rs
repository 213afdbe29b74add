//! Whether jobs can end by their deadlines, told when they are submitted and whenever somebody asks why they wait.

use std::sync::Arc;

use offtake_engine::{Event as EngineEvent, Fact as EngineFact, JobId, State};
use offtake_protocol::rest::{Deadline, Problem, Verdict};
use offtake_units::Timestamp;
use offtake_workload::{Job, Submission};

use super::Core;
use super::access::problem;
use super::why::instant;

/// Jobs of one call whose deadlines are looked at: each costs a search for its start.
pub(super) const MOST_LOOKED_AT: usize = 64;

/// What can be said of a job that would wait from now on, or does.
fn judge(state: &mut State, id: JobId, job: &Job) -> Option<Deadline> {
    let deadline = job.deadline?;
    let now = state.now();
    let begin = job.program.as_ref().and_then(|program| program.begin).unwrap_or(now).max(now);
    // Of a job on hold it is known when it may begin, not what it waits for then.
    let is_on_hold = matches!(state.job(id)?.phase, offtake_engine::Phase::Held(_));
    let start = if is_on_hold { Some(begin) } else { state.earliest_start(id).map(|start| start.max(begin)) };
    let end = start.and_then(|start| Some(start.saturating_add(job.duration?)));
    let shown = instant(deadline);
    let (verdict, summary) = match (start, end) {
        (Some(start), Some(end)) if end > deadline => {
            let (start, end) = (instant(start), instant(end));
            let text = format!(
                "Its deadline, {shown}, cannot be met: the earliest start is {start}, and it would end at {end}."
            );
            (Verdict::Impossible, text)
        }
        (Some(start), _) if start >= deadline => {
            let text = format!("Its deadline, {shown}, cannot be met: the earliest start is {}.", instant(start));
            (Verdict::Impossible, text)
        }
        (Some(start), Some(end)) => {
            let (start, end) = (instant(start), instant(end));
            let text = format!(
                "Its deadline, {shown}, can be met: the earliest start is {start} if nothing comes before it, and it \
                 would end at {end}."
            );
            (Verdict::Possible, text)
        }
        (Some(_), None) => {
            (Verdict::Unknown, format!("Whether its deadline, {shown}, is met nobody can tell: it has no time limit."))
        }
        (None, _) => {
            let text = format!(
                "Whether its deadline, {shown}, is met nobody can tell: it waits for work without a time limit."
            );
            (Verdict::Unknown, text)
        }
    };
    let ms = |at: Option<Timestamp>| at.map(Timestamp::as_millis);
    let (earliest_start_ms, would_end_ms) = (ms(start), ms(end));
    Some(Deadline { deadline_ms: deadline.as_millis(), verdict, earliest_start_ms, would_end_ms, summary })
}

impl Core {
    /// Whether a job that waits can end by its deadline.
    pub(super) fn deadline_of(&mut self, id: u64) -> Option<Deadline> {
        let job = Arc::clone(&self.records.get(&id)?.spec);
        job.deadline?;
        judge(&mut self.state, JobId(id), &job)
    }

    /// # Errors
    /// When one of some jobs is to be refused unless it can end by its deadline, and cannot.
    pub(super) fn keep_deadlines(&self, asked: &[Submission]) -> Result<(), Problem> {
        let binding = asked.iter().enumerate().filter(|(_, submission)| submission.must_meet_deadline);
        let binding: Vec<(usize, &Job)> = binding.map(|(index, submission)| (index, &submission.job)).collect();
        if binding.is_empty() {
            return Ok(());
        }
        let of = |index: usize, code: &str, detail: String| Problem {
            field: Some("must_meet_deadline".to_owned()),
            index: (asked.len() > 1).then_some(index),
            ..problem(422, code, detail)
        };
        if let Some((index, _)) = binding.get(MOST_LOOKED_AT) {
            let detail = format!("at most {MOST_LOOKED_AT} jobs of one call may have deadlines that must be met");
            return Err(of(*index, "too_many", detail));
        }
        // Asked of a copy, so that a job that is refused leaves no trace.
        let mut copy = self.state.clone();
        for (place, (index, job)) in binding.into_iter().enumerate() {
            let id = JobId(self.next_job + place as u64);
            let event = EngineEvent::JobSubmitted { job: id, spec: Arc::new(job.clone()) };
            copy.apply(&EngineFact { at: copy.now(), event });
            if let Some(answer) = judge(&mut copy, id, job).filter(|answer| answer.verdict == Verdict::Impossible) {
                let detail = format!(
                    "{} Give it a later deadline or less time, or submit it without `must_meet_deadline`",
                    answer.summary
                );
                return Err(of(index, "deadline", detail));
            }
        }
        Ok(())
    }
}
