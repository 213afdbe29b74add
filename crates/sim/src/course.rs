//! Virtual time over a state: what has its nodes ends when its time says, and passes decide in between.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};

use offtake_engine::{Event, Fact, JobId, Phase, Stage, State, decide};
use offtake_units::{Duration, Timestamp, Watts};

/// When a job has left, which, in which attempt, and up to when its work is saved.
type Leaving = (Timestamp, JobId, u32, Option<Timestamp>);

/// A state over which virtual time passes.
#[derive(Debug)]
pub(crate) struct Course {
    /// The state.
    pub state: State,
    /// What the last pass decided.
    pub decided: Vec<Fact>,
    /// When running jobs end, with the attempt that does: one that is stopped before ends no more.
    ends: BinaryHeap<Reverse<(Timestamp, JobId, u32)>>,
    /// When jobs that give way to others have left, what they had saved then, and the attempt.
    leaving: BinaryHeap<Reverse<Leaving>>,
    /// What is left to do of jobs that were stopped with a part of their work saved.
    left: BTreeMap<JobId, Duration>,
}

impl Course {
    /// The course of a state from where it is.
    pub fn new(state: State) -> Self {
        let mut course = Self {
            decided: Vec::new(),
            ends: BinaryHeap::new(),
            leaving: BinaryHeap::new(),
            left: BTreeMap::new(),
            state,
        };
        for (job, work) in course.state.jobs() {
            if let Phase::Running { ends, .. } = work.phase
                && ends != Timestamp::NEVER
            {
                course.ends.push(Reverse((ends, job, work.attempts)));
            }
        }
        course
    }

    /// Something happens.
    pub fn tell(&mut self, at: Timestamp, event: Event) {
        self.state.apply(&Fact { at, event });
    }

    /// When the next job ends, or has left for another.
    pub fn next(&mut self) -> Option<Timestamp> {
        [self.next_end(), self.next_leaving()].into_iter().flatten().min()
    }

    fn next_leaving(&mut self) -> Option<Timestamp> {
        while let Some(Reverse((at, job, attempt, _))) = self.leaving.peek().copied() {
            if self.runs(job, attempt) {
                return Some(at);
            }
            self.leaving.pop();
        }
        None
    }

    fn next_end(&mut self) -> Option<Timestamp> {
        while let Some(Reverse((end, job, attempt))) = self.ends.peek().copied() {
            if self.runs(job, attempt) {
                return Some(end);
            }
            self.ends.pop();
        }
        None
    }

    fn runs(&self, job: JobId, attempt: u32) -> bool {
        let work = self.state.job(job);
        work.is_some_and(|work| work.attempts == attempt && matches!(work.phase, Phase::Running { .. }))
    }

    /// The next job that has come to its end ends.
    pub fn end_next(&mut self, now: Timestamp) -> Option<JobId> {
        self.next_end().filter(|end| *end <= now)?;
        let Reverse((_, job, _)) = self.ends.pop()?;
        self.tell(now, Event::JobFinished { job });
        self.left.remove(&job);
        Some(job)
    }

    /// The next job that has left for another waits again.
    pub fn leave_next(&mut self, now: Timestamp) -> Option<JobId> {
        self.next_leaving().filter(|at| *at <= now)?;
        let Reverse((_, job, _, saved_until)) = self.leaving.pop()?;
        self.requeue(now, job, false, saved_until);
        Some(job)
    }

    /// A running job is stopped and waits again. What it did since its last checkpoint is lost; without any, all is.
    pub fn interrupt(&mut self, now: Timestamp, job: JobId, held: bool) {
        let Some(work) = self.state.job(job) else { return };
        let Phase::Running { since, .. } = work.phase else { return };
        let ran = (now - since).max(Duration::ZERO).as_millis();
        let saved_until = work.spec.checkpoint.map(|checkpoint| {
            let interval = checkpoint.interval.as_millis().max(1);
            since + Duration::from_millis(ran / interval * interval)
        });
        self.requeue(now, job, held, saved_until);
    }

    /// A running job waits again, its work saved up to an instant; without one, all of this attempt is lost.
    fn requeue(&mut self, now: Timestamp, job: JobId, held: bool, saved_until: Option<Timestamp>) {
        let Some(work) = self.state.job(job) else { return };
        let Phase::Running { since, .. } = work.phase else { return };
        let to_do = self.left.get(&job).copied().or(work.spec.duration);
        if let (Some(saved), Some(to_do)) = (saved_until, to_do) {
            self.left.insert(job, (to_do - (saved - since)).max(Duration::ZERO));
        }
        self.tell(now, Event::JobRequeued { job, saved_until, held });
    }

    /// One pass; what it decided is in [`Course::decided`].
    pub fn pass(&mut self, now: Timestamp) {
        self.decided.clear();
        decide(&mut self.state, now, &mut self.decided);
        for fact in &self.decided {
            let (Event::JobPlaced { job, .. } | Event::JobStopping { job, .. }) = &fact.event else { continue };
            let Some(work) = self.state.job(*job) else { continue };
            if let Phase::Running { ends, stage: Stage::Stopping(_), .. } = work.phase {
                // It uses its grace to save its work as it is now; with nothing to save it is gone at once.
                let (at, saved) = work.spec.checkpoint.map_or((now, None), |_| (ends, Some(now)));
                self.leaving.push(Reverse((at, *job, work.attempts, saved)));
                continue;
            }
            if let Some(time) = self.left.get(job).copied().or(work.spec.duration) {
                self.ends.push(Reverse((now.saturating_add(time), *job, work.attempts)));
            }
        }
    }

    /// Draw at the servers and at the grid connections.
    pub fn draw(&self) -> (Watts, Watts) {
        let state = &self.state;
        let sites = state.fleet().sites.iter().zip((0..).map(offtake_fleet::SiteIx));
        sites.fold((Watts::ZERO, Watts::ZERO), |(it, facility), (site, ix)| {
            let draw = state.capacity().site_draw(ix);
            (it + draw, facility + draw.share_up(site.pue))
        })
    }
}
