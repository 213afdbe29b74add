//! Preemption: weaker work is stopped for stronger work that does not fit, so that the least is lost.
//!
//! What a stopped job loses is its chips' time since its last checkpoint, or since it was placed where it has none, and
//! the time until it has started again. Who is stopped keeps its turn; the nodes are held for the job that they are
//! emptied for. Work of a stronger tier is never stopped, nor work that was placed too recently; and work of the same tier
//! only where its tenant has borrowed what the job's tenant has lent. So two jobs cannot displace each other in turn.

mod choose;
mod reclaim;
mod search;

use std::collections::BTreeSet;
use std::sync::Arc;

use offtake_units::{ChipMilli, CpuMilli, Duration, Timestamp};
use offtake_workload::{Job, Tier};

use crate::decide::propose;
use crate::defrag::{self, Defragmentation};
use crate::elastic::{elastic_gang, kept_of, workers_of};
use crate::fact::{Event, Fact, JobId, NodeRange, Placement, StopReason};
use crate::policy::Preemption;
use crate::queue::LaneIx;
use crate::state::{Phase, Stage, State, Work};

pub use crate::displaceable::{is_displaceable, starts_again};
pub use search::Search;

pub use search::Plan;

/// A job that nobody can be stopped for is not looked at again before an eighth of the time has passed for which it has
/// waited, and this at least: so what a job costs that waits for months does not grow with the months. Where only lent
/// quota could be taken back, all work as strong is searched, and it is as long as the job has waited.
const AGAIN_AFTER: Duration = Duration::MINUTE;

/// By then it is looked at again in any case.
const AGAIN_BY: Duration = Duration::HOUR;

/// Jobs of one lane for which work is stopped in one pass at most.
const AT_ONCE: usize = 16;

/// Jobs that nobody could be stopped for a while ago are tried again.
pub fn look_again(state: &mut State) {
    while let Some(job) = state.unhelped.pop_due(state.now()) {
        state.wake_job(job);
    }
}

/// Stops weaker work for the first jobs of a lane that do not fit, and keeps what it leaves for them.
pub fn make_room(state: &mut State, lane: LaneIx, facts: &mut Vec<Fact>) {
    let entry = state.queue.lane(lane);
    let key = entry.key;
    let Some(policy) = &state.policy.preemption else { return };
    // What is reserved is kept from all others: there is nobody to stop for those who may use it.
    let none = state.displaceable.none_below(key.tier) && !(policy.moves && state.displaceable.any());
    let takes_back = |first: JobId| state.displaceable.any_of(key.tier) && state.reclaim_for(first).is_some();
    if key.reservation.is_some() || none && !entry.first().is_some_and(|first| takes_back(first.job)) {
        return;
    }
    let jobs: Vec<JobId> = entry.first_few(AT_ONCE).map(|waiting| waiting.job).collect();
    for job in jobs {
        if state.unhelped.has(job) {
            return;
        }
        if state.holds().iter().any(|hold| hold.job == job && state.is_being_emptied(hold)) {
            continue;
        }
        let Some((plan, released)) = plan(state, job) else {
            if state.policy.preemption.as_ref().is_some_and(|policy| policy.moves)
                && let Some(moves) = state.defragmentation_for(job).filter(Defragmentation::pays)
            {
                defrag::carry_out(state, moves, facts);
                continue;
            }
            let now = state.now();
            let waited = state.job(job).map_or(Duration::ZERO, |work| now - work.asked);
            let after = if none { waited } else { Duration::from_millis(waited.as_millis() / 8) };
            state.unhelped.until(job, now.saturating_add(after.clamp(AGAIN_AFTER, AGAIN_BY)));
            return;
        };
        carry_out(state, job, plan, released, facts);
    }
}

/// Whom to stop for a waiting job, and whose holds it takes over; the state is the same afterwards.
pub(crate) fn plan(state: &mut State, job: JobId) -> Option<(Plan, Vec<JobId>)> {
    let shape = state.pending_shape(job)?;
    let spec = &state.job(job)?.spec;
    if spec.reservation.is_some() {
        return None;
    }
    let tier = spec.tier;
    let own_start = state.holds().iter().find(|hold| hold.job == job).map(|hold| hold.start);
    let takes_back = state.reclaim_for(job).is_some();
    // Whoever would borrow holds nothing against an owner.
    let borrows = |other: JobId| takes_back && state.reclaim_for(other).is_none();
    let gives_way = |other| {
        let work = state.job(other);
        let as_strong = |work: &Work| work.spec.tier == tier && work.spec.tenant != spec.tenant;
        work.is_some_and(|work| work.spec.tier > tier || as_strong(work) && borrows(other))
    };
    let held = state.holds().iter().map(|hold| hold.job);
    let lifted: BTreeSet<JobId> = held.filter(|other| *other == job || gives_way(*other)).collect();
    state.lay_holds(|hold| !lifted.contains(&hold.job));
    let found = Search::new(state, job, tier).run(shape);
    state.lay_holds(|_| true);
    let request = Arc::clone(state.shape(shape));
    let found = found.filter(|plan| state.exceeded_by(job, &request, &plan.placement).is_empty());
    let found = found.filter(|plan| state.unborne(&request, &plan.placement).is_empty());
    // What is held for it comes as early.
    let plan = found.filter(|plan| own_start.is_none_or(|start| plan.start < start))?;
    let taken_over = state
        .holds()
        .iter()
        .filter(|hold| hold.job != job && lifted.contains(&hold.job) && hold.meets(&plan.placement));
    let released = taken_over.map(|hold| hold.job).collect();
    Some((plan, released))
}

fn carry_out(state: &mut State, job: JobId, plan: Plan, released: Vec<JobId>, facts: &mut Vec<Fact>) {
    let own = state.holds().iter().any(|hold| hold.job == job).then_some(job);
    own.into_iter().chain(released).for_each(|job| propose(state, facts, Event::HoldReleased { job }));
    let emptied = plan.placement.nodes();
    // Whoever shrinks gives back a part of its quota only.
    let shape = state.pending_shape(job);
    let has_quota = shape.is_some_and(|shape| state.is_allowed(job, shape, &plan.placement));
    let mut shrunk = Vec::new();
    for victim in plan.victims {
        let stops = |work: &Work| !matches!(work.phase, Phase::Running { stage: Stage::Stopping(_), .. });
        if !state.job(victim).is_some_and(stops) {
            continue;
        }
        let is_reclaimed = plan.reclaimed.binary_search(&victim).is_ok();
        if let Some(kept) = kept_by(state, victim, &emptied).filter(|_| has_quota || !is_reclaimed) {
            shrunk.push((victim, kept));
            continue;
        }
        let reason = if is_reclaimed { StopReason::Reclaimed { by: job } } else { StopReason::Preempted { by: job } };
        propose(state, facts, Event::JobStopping { job: victim, reason, by: None });
    }
    let placement = Arc::new(plan.placement);
    for (victim, kept) in &shrunk {
        let place = state.job(*victim).and_then(|work| elastic_gang(&work.spec)).map_or(0, |(place, ..)| place);
        let workers = workers_of(&kept.gangs[place]);
        propose(state, facts, Event::JobStopping { job: *victim, reason: StopReason::Resized { workers }, by: None });
    }
    propose(state, facts, Event::HoldPlaced { job, start: plan.start, placement, extra: plan.extra });
    for (victim, kept) in shrunk {
        let placement = Arc::new(kept);
        propose(state, facts, Event::HoldPlaced { job: victim, start: plan.start, placement, extra: Vec::new() });
    }
}

/// What an elastic victim keeps of its own nodes, so that it need not wait.
fn kept_by(state: &State, victim: JobId, emptied: &[NodeRange]) -> Option<Placement> {
    let work = state.job(victim)?;
    let Phase::Running { placement, .. } = &work.phase else { return None };
    kept_of(&work.spec, placement, emptied)
}

impl State {
    /// Whom a waiting job would displace if it were tried now; none where nobody can be stopped for it, or not before
    /// what is held for it is free. The state is the same afterwards.
    pub fn preemption_for(&mut self, job: JobId) -> Option<Plan> {
        plan(self, job).map(|(plan, _)| plan)
    }

    /// Running work that a tier may displace now, what that costs in milliseconds of a chip, and when it has left then.
    /// What is being stopped already costs nothing.
    pub(crate) fn victims_for(&self, tier: Tier) -> Vec<(JobId, u64, Timestamp)> {
        self.victims_among(self.displaceable.below(tier))
    }

    /// The same of work of a tier itself.
    pub(crate) fn victims_of(&self, tier: Tier) -> Vec<(JobId, u64, Timestamp)> {
        self.victims_among(self.displaceable.of(tier))
    }

    /// Running work that may be moved elsewhere now, as [`State::victims_for`]; nothing that is being stopped or is
    /// paused, and no replicas.
    pub(crate) fn movable(&self) -> Vec<(JobId, u64, Timestamp)> {
        let stays = |job: &JobId| {
            let is_out = |work: &crate::state::Work| {
                work.spec.service.is_some()
                    || self.paused().contains_key(job)
                    || matches!(work.phase, Phase::Running { stage: Stage::Stopping(_), .. })
            };
            self.job(*job).is_some_and(is_out)
        };
        self.victims_among(self.displaceable.all().filter(|job| !stays(job)))
    }

    fn victims_among(&self, jobs: impl Iterator<Item = JobId>) -> Vec<(JobId, u64, Timestamp)> {
        let policy = self.policy.preemption.clone().unwrap_or_default();
        let now = self.now();
        let surplus = self.surplus_replicas();
        let victim = |job: JobId| {
            let work = self.job(job)?;
            let Phase::Running { shape, placement, placed, since, ends, stage } = &work.phase else { return None };
            // Nobody else could use the nodes of its reservation, and it may run nowhere else.
            if self.own_window(&work.spec).is_some_and(|window| window.meets(placement)) {
                return None;
            }
            let is_paused = placement.throttle.is_paused();
            let leaves = if is_paused { now } else { now.saturating_add(policy.grace_of(&work.spec)) };
            if matches!(stage, Stage::Stopping(_)) {
                return Some((job, 0, if *ends > now { leaves.min(*ends) } else { leaves }));
            }
            if now - *placed < policy.minimum_run(work.spec.tier)
                || work.spec.service.is_some() && !surplus.contains(&job)
            {
                return None;
            }
            let chip_milli = self.shape(*shape).chip_milli();
            Some((job, loss(&policy, &work.spec, chip_milli, now - *placed, now - *since), leaves.min(*ends)))
        };
        jobs.filter_map(victim).collect()
    }

    /// Running replicas above the minimum of their services and within their disruption budgets, the youngest.
    pub(crate) fn surplus_replicas(&self) -> BTreeSet<JobId> {
        let mut surplus = BTreeSet::new();
        for service in self.services.values() {
            let up = service.replicas.iter().filter(|job| self.is_up(**job)).copied();
            surplus.extend(up.skip((service.spec.minimum as usize).max(service.least_up())));
        }
        surplus
    }
}

/// What a job loses when it is stopped now, in milliseconds of a chip: what it has not saved, and the time until it has
/// started again. A job without chips counts a thousandth of one for each core.
pub fn loss(policy: &Preemption, job: &Job, chip_milli: u64, since_placed: Duration, since_running: Duration) -> u64 {
    let unsaved = unsaved(job, since_placed, since_running).as_millis();
    let milli = match chip_milli {
        0 => job.gangs.iter().map(|gang| u64::from(gang.workers) * u64::from(cores(gang.cpu))).sum(),
        chips => chips,
    };
    let lost = u128::from(milli) * (unsaved as u128 + policy.restart.as_millis().max(0) as u128);
    u64::try_from(lost.div_ceil(u128::from(ChipMilli::WHOLE.get()))).unwrap_or(u64::MAX)
}

/// Whether a job that is asked to stop saves its work first.
pub fn saves(job: &Job) -> bool {
    let signal = job.program.as_ref().and_then(|program| program.stop.checkpoint_signal);
    job.checkpoint.is_some() || signal.is_some()
}

/// How long a job has worked since it last saved its work; since it was placed where it never does.
pub fn unsaved(job: &Job, since_placed: Duration, since_running: Duration) -> Duration {
    match job.checkpoint {
        Some(checkpoint) => {
            Duration::from_millis(since_running.as_millis().max(0) % checkpoint.interval.as_millis().max(1))
        }
        None => since_placed.max(Duration::ZERO),
    }
}

const fn cores(cpu: CpuMilli) -> u32 {
    cpu.get().div_ceil(1000)
}
