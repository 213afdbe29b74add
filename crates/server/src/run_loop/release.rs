//! What is let out once a batch is on disk.

use offtake_protocol::rest::Problem;

use super::{Published, Shared, Told, Waiting};
use crate::core::{Answer, Core, HistoryRow, Image};
use crate::fact::{Event, Fact};

/// What is let out once a batch is on disk, or refused when it never will be.
pub(super) struct Release {
    told: Vec<Told>,
    answers: Vec<(Waiting, Result<Answer, Problem>)>,
    /// The last fact of the batch; 0 for one without facts.
    last: u64,
    published: Vec<Published>,
    ended: Vec<HistoryRow>,
    /// Jobs with a step that has ended.
    steps: Vec<u64>,
    snapshot: Option<Image>,
}

impl std::fmt::Debug for Release {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Release").field("last", &self.last).finish_non_exhaustive()
    }
}

impl Release {
    pub(super) fn new(told: Vec<Told>) -> Self {
        Self {
            told,
            answers: Vec::new(),
            last: 0,
            published: Vec::new(),
            ended: Vec::new(),
            steps: Vec::new(),
            snapshot: None,
        }
    }

    pub(super) fn answer(&mut self, waiting: Waiting, answer: Result<Answer, Problem>) {
        self.answers.push((waiting, answer));
    }

    /// The facts of the batch, of which `before` were handed over before; returns them as the journal has them.
    pub(super) fn publish(&mut self, core: &Core, facts: &[Fact], before: u64, shared: &Shared) -> Vec<Vec<u8>> {
        let someone_listens = shared.events.receiver_count() > 0;
        let mut records = Vec::with_capacity(facts.len());
        for (sequence, fact) in (before + 1..).zip(facts) {
            let record = serde_json::to_vec(fact).expect("a fact is texts and numbers");
            let job = fact.event.job();
            if someone_listens {
                let tenant = job.and_then(|job| core.tenant_of(job)).map(Into::into);
                self.published.push(Published { sequence, record: record.as_slice().into(), tenant });
            }
            if fact.event.ends_a_step() {
                self.steps.extend(job);
            }
            match &fact.event {
                Event::TokenRevoked { .. } => shared.callers.forget(),
                Event::AgentJoined { description, .. } => shared.agents.forget(&description.name),
                _ => {}
            }
            self.last = sequence;
            records.push(record);
        }
        records
    }

    pub(super) fn ended(&mut self, rows: Vec<HistoryRow>) {
        self.ended = rows;
    }

    pub(super) fn snapshot(&mut self, image: Image) {
        self.snapshot = Some(image);
    }

    /// Lets it out: the facts are on disk.
    pub(super) fn go(self, shared: &Shared) {
        if self.last > 0 {
            shared.set_sequence(self.last);
        }
        for (waiting, answer) in self.answers {
            // Whoever asked may be gone.
            let _ = waiting.send(answer);
        }
        for told in self.told {
            told(Ok(()));
        }
        if !self.published.is_empty() {
            // Nobody may listen any more.
            let _ = shared.events.send(self.published.into());
        }
        shared.steps.wake(&self.steps);
        if self.last > 0 {
            shared.history.ended(self.last, self.ended);
        }
        if let Some(image) = self.snapshot {
            shared.snapshots.write_beside(image);
        }
    }

    /// The facts never happened.
    pub(super) fn refuse(self, problem: &Problem) {
        for (waiting, _) in self.answers {
            let _ = waiting.send(Err(problem.clone()));
        }
        for told in self.told {
            told(Err(problem.clone()));
        }
    }
}
