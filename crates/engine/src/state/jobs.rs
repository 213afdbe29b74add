//! Jobs come, wait, run and end.

use std::sync::Arc;

use offtake_fleet::{Fleet, NodeIx};
use offtake_units::{Duration, Timestamp};
use offtake_workload::{Gang, Job};

use super::{Hold, Phase, Stage, State, Work, kinds_of};
use crate::admission::admit;
use crate::crossing::{delay, weighs};
use crate::elastic::{elastic_gang, speed};
use crate::fact::{JobId, Placement, ServiceId, StopReason};
use crate::history::corrected;
use crate::place::ShapeIx;
use crate::policy::{Estimates, Order};
use crate::preempt::saves;
use crate::queue::{LaneIx, Turn, Waiting};
use crate::request::{Refusal, Shape};
use crate::throttle::Throttle;

/// With what a job enters the queue.
pub(super) struct Entry {
    pub turn: Turn,
    pub asked: Timestamp,
    /// How long it is expected to run.
    pub length: Option<Duration>,
}

/// What a job had while it ran.
struct Run {
    shape: ShapeIx,
    placement: Arc<Placement>,
    placed: Timestamp,
    ends: Timestamp,
}

impl State {
    // Jobs come.

    pub(super) fn submit(&mut self, job: JobId, spec: Arc<Job>) {
        if self.jobs.contains_key(&job) {
            return;
        }
        let turn = Turn(self.next_turn);
        self.next_turn += 1;
        if self.tenants_stand_apart() {
            self.tenants.number(&spec.tenant);
        }
        let planned = match self.policy.backfill.estimates {
            Estimates::Limit => None,
            Estimates::History => self.history.estimate(&spec),
        };
        // Replicas were let in with their service.
        let may_wait = if spec.service.is_some() { Ok(()) } else { self.lets_wait(&spec) };
        let mut crossing = 0;
        let phase = match self.intern_across(&spec, 0).and_then(|shape| may_wait.map(|()| shape)) {
            Ok((shape, crossed)) => {
                crossing = crossed;
                let asked = (shape, length(&spec, None, crossing).is_some());
                if self.mix.learn(self.policy.packing, asked, self.now, &self.shapes) {
                    self.scores.clear();
                }
                let length = length(&spec, planned, crossing);
                self.enqueue(job, &spec, Entry { turn, asked: self.now, length }, shape);
                self.count_waiting(&spec, true);
                Phase::Pending(shape)
            }
            Err(refusal) => {
                self.to_reject.push_back(job);
                Phase::Refused(refusal)
            }
        };
        self.jobs.insert(job, Work { spec, turn, asked: self.now, attempts: 0, planned, crossing, phase });
    }

    pub(super) fn enqueue(&mut self, job: JobId, spec: &Job, entry: Entry, shape: ShapeIx) {
        let Entry { turn, asked, length } = entry;
        let duration = length.unwrap_or(Duration::from_millis(i64::MAX));
        self.reservations.number(spec.reservation.as_deref());
        if spec.reservation.is_some() {
            self.tenants.number(&spec.tenant);
        }
        let lane = self.queue.push(
            self.lane_key(shape, spec),
            Waiting { turn, job, asked, duration },
            spec.chip_milli(),
            kinds_of(&self.shapes[shape.ix()]),
        );
        // A job that would end before a hold begins may run on held nodes although its lane is parked.
        let now = self.now;
        if self.queue.lane(lane).parked.is_some() && self.holds.iter().any(|hold| duration <= hold.start - now) {
            self.queue.wake(lane);
        }
        // One behind others may be among those that holds are kept for.
        let most = self.policy.most_holds();
        // Between two passes, shares are not known.
        let may_stand_before = |hold: &Hold| match self.policy.order {
            Order::Turn => self.jobs.get(&hold.job).is_some_and(|work| (work.spec.tier, work.turn) > (spec.tier, turn)),
            _ => true,
        };
        self.holds_stale |= most > 1
            && (self.holds.iter().filter(|hold| hold.job.is_job()).count() < most * self.fleet().node_kinds.len()
                || self.holds.iter().any(may_stand_before));
    }

    /// The shape of gangs that start together.
    ///
    /// # Errors
    /// Why they can never run.
    pub(crate) fn intern(&mut self, gangs: &[Gang]) -> Result<ShapeIx, Refusal> {
        if let Some(known) = self.shape_ids.get(gangs) {
            return known.clone();
        }
        let resolved = Shape::resolve(gangs, self.fleet()).and_then(|shape| match self.by_shape.get(&shape) {
            // Different words may mean one shape.
            Some(known) => Ok(*known),
            None => admit(&self.capacity, &shape).map(|()| self.add_shape(shape)),
        });
        self.shape_ids.insert(gangs.to_vec(), resolved.clone());
        resolved
    }

    /// Whether gangs that start together could ever run, if nothing else did.
    ///
    /// # Errors
    /// Why they never can.
    pub fn placeable(&self, gangs: &[Gang]) -> Result<(), Refusal> {
        if let Some(known) = self.shape_ids.get(gangs) {
            return known.clone().map(drop);
        }
        let shape = Shape::resolve(gangs, self.fleet())?;
        if self.by_shape.contains_key(&shape) { Ok(()) } else { admit(&self.capacity, &shape) }
    }

    /// A shape that is not known yet.
    pub(super) fn add_shape(&mut self, shape: Shape) -> ShapeIx {
        let place = ShapeIx(self.shapes.len() as u32);
        self.needs.push(shape.needs(self.fleet()));
        let shape = Arc::new(shape);
        self.by_shape.insert(Arc::clone(&shape), place);
        self.shapes.push(shape);
        place
    }

    /// Whether any job waits that could use the nodes of a shape.
    pub(crate) fn waits_beside(&self, shape: ShapeIx) -> bool {
        kinds_of(self.shape(shape)).any(|kind| self.queue.has_on(kind))
    }

    // Jobs wait.

    pub(crate) fn pending_shape(&self, job: JobId) -> Option<ShapeIx> {
        match self.jobs.get(&job)?.phase {
            Phase::Pending(shape) => Some(shape),
            _ => None,
        }
    }

    /// A waiting job leaves its lane, and gives up what is held for it.
    fn leave_lane(&mut self, job: JobId, shape: ShapeIx, spec: &Job, turn: Turn) {
        self.start_unknown.remove(&job);
        self.unhelped.forget(job);
        self.holds_stale = true;
        self.forget_promise(job);
        self.release_hold(job);
        self.crossing.forget(job);
        if let Some(lane) = self.lane_of(shape, spec) {
            self.queue.remove(lane, turn, spec.chip_milli());
            self.wake_next(lane, spec);
        }
    }

    /// Whoever is first of a lane after a job that weighs levels is tried, so that it begins to wait for its own.
    fn wake_next(&mut self, lane: LaneIx, before: &Job) {
        if weighs(before) {
            self.queue.wake(lane);
        }
    }

    /// A waiting job waits on as another shape, that may cross so many levels.
    pub(crate) fn wait_as(&mut self, job: JobId, shape: ShapeIx, crossing: u32) {
        let Some(work) = self.jobs.get_mut(&job) else { return };
        let Phase::Pending(before) = std::mem::replace(&mut work.phase, Phase::Pending(shape)) else { return };
        work.crossing = crossing;
        let entry = work.entry();
        let spec = Arc::clone(&work.spec);
        self.leave_lane(job, before, &spec, entry.turn);
        self.enqueue(job, &spec, entry, shape);
    }

    pub(super) fn put_on_hold(&mut self, job: JobId) {
        let Some(work) = self.jobs.get_mut(&job) else { return };
        let Phase::Pending(shape) = work.phase else { return };
        work.phase = Phase::Held(shape);
        let (spec, turn) = (Arc::clone(&work.spec), work.turn);
        self.leave_lane(job, shape, &spec, turn);
    }

    pub(super) fn release(&mut self, job: JobId) {
        let Some(work) = self.jobs.get_mut(&job) else { return };
        let Phase::Held(shape) = work.phase else { return };
        work.phase = Phase::Pending(shape);
        let entry = work.entry();
        let spec = Arc::clone(&work.spec);
        self.enqueue(job, &spec, entry, shape);
    }

    // Jobs run.

    pub(crate) fn occupy(&mut self, shape: ShapeIx, placement: &Placement) {
        let shape = Arc::clone(self.shape(shape));
        self.occupy_gangs(&shape, placement);
    }

    pub(crate) fn vacate(&mut self, shape: ShapeIx, placement: &Placement) {
        let shape = Arc::clone(self.shape(shape));
        self.vacate_gangs(&shape, placement);
    }

    pub(crate) fn occupy_gangs(&mut self, shape: &Shape, placement: &Placement) {
        for (gang, slots) in shape.gangs.iter().zip(&placement.gangs) {
            slots.iter().for_each(|slot| {
                self.capacity.occupy(slot.nodes.numbers(), &gang.take(slot.workers, slot.chips).at(placement.throttle))
            });
        }
    }

    pub(crate) fn vacate_gangs(&mut self, shape: &Shape, placement: &Placement) {
        for (gang, slots) in shape.gangs.iter().zip(&placement.gangs) {
            slots.iter().for_each(|slot| {
                self.capacity.vacate(slot.nodes.numbers(), &gang.take(slot.workers, slot.chips).at(placement.throttle))
            });
        }
    }

    /// A job whose nodes are occupied has them from now on.
    pub(crate) fn start(&mut self, job: JobId, placement: &Arc<Placement>) {
        let now = self.now;
        let Some(shape) = self.shape_as_placed(job, placement) else { return };
        let Some(work) = self.jobs.get_mut(&job) else { return };
        let Phase::Pending(waited_as) = work.phase else { return };
        // Should it ever wait again, it is not known that nobody can tell when it starts.
        self.start_unknown.remove(&job);
        self.unhelped.forget(job);
        self.crossing.forget(job);
        let ends = work.expected_end_on(now, placement, self.capacity.fleet());
        work.attempts += 1;
        work.phase = Phase::Running {
            shape,
            placement: Arc::clone(placement),
            placed: now,
            since: now,
            ends,
            stage: Stage::Starting,
        };
        if ends != Timestamp::NEVER {
            self.ends.insert((ends, job));
        }
        if !placement.throttle.is_none() {
            self.throttled.insert(job);
        }
        let (spec, turn) = (Arc::clone(&work.spec), work.turn);
        self.rise(shape, placement);
        self.ledger.take_chips(spec.tier, self.shapes[shape.ix()].chip_milli());
        if let Some(lane) = self.lane_of(waited_as, &spec) {
            self.queue.remove(lane, turn, spec.chip_milli());
            self.wake_next(lane, &spec);
        }
        if !self.tenancy.is_empty() {
            let tenant = self.tenants.number(&spec.tenant);
            self.tenancy.enter(&mut self.capacity, tenant, placement);
        }
        let fleet = self.capacity.fleet();
        self.displaceable.enter(fleet, job, &spec, &self.shapes[shape.ix()], placement);
        self.forget_promise(job);
        self.count_waiting(&spec, false);
        self.count_running(&spec, shape, placement);
        // Who has waited too long may lack quota from now on.
        self.promise_due |= self.tenants.is_active() && self.tenants.promise().is_none();
        if elastic_gang(&spec).is_some() {
            let policy = self.policy.preemption.clone().unwrap_or_default();
            self.growing.until(job, now.saturating_add(policy.minimum_run(spec.tier)));
        }
        self.outlast(shape, placement, |start| ends > start, true);
        if spec.service.is_some() && !self.conditions.is_empty() {
            self.look_under(job);
        }
    }

    /// All workers of a placed job run: its time counts from now on.
    pub(super) fn started(&mut self, job: JobId) {
        let now = self.now;
        let Some(work) = self.jobs.get_mut(&job) else { return };
        let placed = match &work.phase {
            Phase::Running { placement, .. } => Arc::clone(placement),
            _ => return,
        };
        let mut after = work.expected_end_on(now, &placed, self.capacity.fleet());
        if !matches!(work.phase, Phase::Running { stage: Stage::Starting, .. }) {
            return;
        }
        // Only now is there anything that a pause could hold up.
        if let Some(paused) = self.paused.get_mut(&job) {
            *paused = now;
            after = after.saturating_add(work.spec.pause.unwrap_or_default());
        }
        let Phase::Running { shape, placement, since, ends, stage, .. } = &mut work.phase else { return };
        *stage = Stage::Running;
        *since = now;
        let (shape, placement) = (*shape, Arc::clone(placement));
        let before = std::mem::replace(ends, after);
        if after == before {
            return;
        }
        self.ends.remove(&(before, job));
        self.ends.insert((after, job));
        self.outlast(shape, &placement, |start| before <= start && start < after, true);
        self.outlast(shape, &placement, |start| after <= start && start < before, false);
        self.look_again();
    }

    /// A running job is expected to end later than it was.
    pub(super) fn correct_end(&mut self, job: JobId, after: Timestamp) {
        let Some(Phase::Running { shape, placement, ends, .. }) = self.jobs.get_mut(&job).map(|work| &mut work.phase)
        else {
            return;
        };
        let (shape, placement) = (*shape, Arc::clone(placement));
        let before = std::mem::replace(ends, after.max(*ends));
        if after <= before {
            return;
        }
        self.ends.remove(&(before, job));
        self.ends.insert((after, job));
        // Starts that could not be told while nobody knew when it ends can be told now.
        self.start_unknown.clear();
        self.outlast(shape, &placement, |start| before <= start && start < after, true);
        self.look_again();
    }

    /// Running work that has outlasted its estimate and may run on, with when it is to be expected to end.
    pub(crate) fn outlasting(&self) -> Vec<(JobId, Timestamp)> {
        let outlasts = |(_, job): &(Timestamp, JobId)| {
            let work = self.jobs.get(job)?;
            let Phase::Running { since, stage, .. } = &work.phase else { return None };
            let (planned, limit) = work.planned.zip(work.spec.duration).filter(|_| !self.paused.contains_key(job))?;
            let ran = self.now - *since;
            let runs_on = !matches!(stage, Stage::Stopping(_)) && ran < limit;
            runs_on.then(|| (*job, since.saturating_add(corrected(planned, ran, limit))))
        };
        self.ends.range(..=(self.now, JobId(u64::MAX))).filter_map(outlasts).collect()
    }

    /// Spares of a running job take the places of other nodes of it, and its workers start again. No capacity moves.
    pub(super) fn swap(&mut self, job: JobId, swaps: &[(NodeIx, NodeIx)], saved_until: Option<Timestamp>) {
        let now = self.now;
        let Some(work) = self.jobs.get_mut(&job) else { return };
        let Phase::Running { placement, .. } = &work.phase else { return };
        let Some(swapped) = placement.swapped(swaps) else { return };
        let mut after = work.expected_end_on(now, &swapped, self.capacity.fleet());
        if let Some(paused) = self.paused.get_mut(&job) {
            *paused = now;
            after = after.saturating_add(work.spec.pause.unwrap_or_default());
        }
        let Phase::Running { shape, placement, placed, since, ends, stage } = &mut work.phase else { return };
        *placement = Arc::new(swapped);
        let lost_since = saved_until.map_or(*placed, |saved| saved.clamp(*placed, now.max(*placed)));
        (*placed, *since, *stage) = (now, now, Stage::Starting);
        let before = std::mem::replace(ends, after);
        let (shape, placement) = (*shape, Arc::clone(placement));
        work.attempts += 1;
        self.stopping.remove(&job);
        // What was held for it while it was to move, or to change its size.
        self.release_hold(job);
        self.ledger.lose(self.shapes[shape.ix()].chip_milli(), lost_since, now);
        // Its workers have stopped, and start again at once.
        self.fall(shape, &placement);
        self.rise(shape, &placement);
        self.ends.remove(&(before, job));
        if after != Timestamp::NEVER {
            self.ends.insert((after, job));
        }
        self.outlast(shape, &placement, |start| before <= start && start < after, true);
        self.outlast(shape, &placement, |start| after <= start && start < before, false);
        self.look_again();
        self.look_under(job);
    }

    pub(super) fn stopping(&mut self, job: JobId, reason: StopReason, by: Option<Timestamp>) {
        let now = self.now;
        let Some(work) = self.jobs.get_mut(&job) else { return };
        let Phase::Running { shape, placement, ends, stage, .. } = &mut work.phase else { return };
        *stage = Stage::Stopping(reason);
        self.stopping.insert(job);
        if let Some(service) = work.spec.service
            && let Some(state) = self.services.get_mut(&ServiceId(service))
        {
            state.stopping(job, reason);
        }
        // Whoever is stopped by a decision has left once its grace is over; nobody knows that of others.
        let (StopReason::Preempted { .. }
        | StopReason::Reclaimed { .. }
        | StopReason::Curtailed
        | StopReason::Moved
        | StopReason::Retired
        | StopReason::Drained
        | StopReason::Resized { .. }) = reason
        else {
            return;
        };
        let policy = self.policy.preemption.clone().unwrap_or_default();
        let (before, grace) = (*ends, policy.grace_of(&work.spec));
        let (shape, placement) = (*shape, Arc::clone(placement));
        // Who stands still saves nothing, and needs no time for it.
        let is_paused = placement.throttle.is_paused();
        let (saves, grace) = (saves(&work.spec) && !is_paused, if is_paused { Duration::ZERO } else { grace });
        let after = match by {
            // It shares the storage with the others that save their work.
            Some(by) if saves => by.max(now),
            Some(by) => now.saturating_add(grace).min(by.max(now)),
            None => now.saturating_add(grace),
        };
        let after = after.min(before);
        if let Some(Phase::Running { ends, .. }) = self.jobs.get_mut(&job).map(|work| &mut work.phase) {
            *ends = after;
        }
        if after < before {
            self.ends.remove(&(before, job));
            self.ends.insert((after, job));
            self.outlast(shape, &placement, |start| after <= start && start < before, false);
        }
    }

    /// A running job gives its nodes back and waits again at its turn.
    pub(super) fn requeue(&mut self, job: JobId, saved_until: Option<Timestamp>, held: bool) {
        let Some(work) = self.jobs.get_mut(&job) else { return };
        let Phase::Running { shape, .. } = work.phase else { return };
        let spec = Arc::clone(&work.spec);
        // It waits as it was asked for, whatever its size was and wherever it lay.
        let is_other = elastic_gang(&spec).is_some() || weighs(&spec);
        let asked = if is_other { self.intern_across(&spec, 0).ok() } else { None };
        let (waits_as, crossing) = asked.unwrap_or((shape, 0));
        let Some(work) = self.jobs.get_mut(&job) else { return };
        work.crossing = crossing;
        let phase = std::mem::replace(&mut work.phase, Phase::Held(waits_as));
        if let Phase::Running { placement, placed, ends, .. } = phase {
            let lost_since = saved_until.map_or(placed, |saved| saved.clamp(placed, self.now.max(placed)));
            self.give_back(job, &spec, &Run { shape, placement, placed: lost_since, ends }, false);
            self.count_waiting(&spec, true);
            self.look_under(job);
        }
        if !held {
            self.release(job);
        }
    }

    // Jobs end.

    /// Takes a job out, whether it waits or runs. False when it is not known.
    pub(super) fn end(&mut self, job: JobId, survived: bool) -> bool {
        let Some(work) = self.jobs.remove(&job) else { return false };
        self.faults.forget(job);
        self.leave_service(job, &work.spec);
        if survived && self.policy.backfill.estimates == Estimates::History {
            self.note_run(&work);
        }
        match work.phase {
            Phase::Refused(_) => self.to_reject.retain(|other| *other != job),
            Phase::Held(_) => self.count_waiting(&work.spec, false),
            Phase::Pending(shape) => {
                self.count_waiting(&work.spec, false);
                self.leave_lane(job, shape, &work.spec, work.turn);
                // What was held for it may help throttled work.
                self.power_freed = true;
            }
            Phase::Running { shape, placement, placed, ends, .. } => {
                // What is held for it while it is moved, or changes its size.
                self.release_hold(job);
                self.give_back(job, &work.spec, &Run { shape, placement, placed, ends }, survived);
            }
        }
        true
    }

    /// How long a job ran that has ended by itself; one that was placed before did a part of its work then, and one that is
    /// throttled took longer than it would.
    fn note_run(&mut self, work: &Work) {
        if let Phase::Running { since, placement, .. } = &work.phase
            && placement.throttle.is_none()
            && work.attempts == 1
            && work.spec.service.is_none()
        {
            self.history.note(&work.spec, self.now - *since);
        }
    }

    /// A job that ran gives back what it had.
    fn give_back(&mut self, job: JobId, spec: &Job, run: &Run, survived: bool) {
        let Run { shape, placement, placed, ends } = run;
        let ends = *ends;
        self.ends.remove(&(ends, job));
        self.stopping.remove(&job);
        self.throttled.remove(&job);
        self.paused.remove(&job);
        self.power_freed = true;
        if ends == Timestamp::NEVER || ends < self.now {
            self.start_unknown.clear();
        }
        let chip_milli = self.shapes[shape.ix()].chip_milli();
        self.ledger.give_chips(spec.tier, chip_milli);
        if !survived {
            self.ledger.lose(chip_milli, *placed, self.now);
        }
        self.vacate(*shape, placement);
        self.fall(*shape, placement);
        if !self.tenancy.is_empty() {
            let tenant = self.tenants.number(&spec.tenant);
            self.tenancy.leave(&mut self.capacity, tenant, placement);
            self.tenancy.settle();
        }
        let fleet = self.capacity.fleet();
        self.displaceable.leave(fleet, job, spec, &self.shapes[shape.ix()], placement);
        self.count_gone(spec, *shape, placement);
        self.growing.forget(job);
        self.outlast(*shape, placement, |start| ends > start, false);
        self.ripen_on(placement);
        self.wake_on(placement);
    }
}

/// How long a job is expected to run, of which something may be planned, where it may cross so many levels.
pub(super) fn length(spec: &Job, planned: Option<Duration>, crossing: u32) -> Option<Duration> {
    planned.or_else(|| {
        let limit = spec.duration?;
        Some(Duration::from_millis(limit.as_millis().saturating_add(delay(spec, crossing, limit).as_millis())))
    })
}

impl Work {
    /// How long it is expected to run where it may be placed by now.
    pub(crate) fn length(&self) -> Option<Duration> {
        length(&self.spec, self.planned, self.crossing)
    }

    /// The longest that it may run there.
    pub(crate) fn limit(&self) -> Option<Duration> {
        length(&self.spec, None, self.crossing)
    }

    /// With what it enters the queue.
    pub(super) fn entry(&self) -> Entry {
        Entry { turn: self.turn, asked: self.asked, length: self.length() }
    }

    /// When it is expected to end if its time begins now.
    pub(crate) fn expected_end(&self, now: Timestamp) -> Timestamp {
        self.length().map_or(Timestamp::NEVER, |length| now.saturating_add(length))
    }

    /// When it ends at the latest if its time begins now.
    pub(crate) fn latest_end(&self, now: Timestamp) -> Timestamp {
        self.limit().map_or(Timestamp::NEVER, |limit| now.saturating_add(limit))
    }

    /// The same where it is placed.
    ///
    /// What a job runs for is a limit where it has a program, and otherwise its work at the size that it prefers and no
    /// wider than it prefers.
    /// A pause takes no part in that.
    fn expected_end_on(&self, now: Timestamp, placement: &Placement, fleet: &Fleet) -> Timestamp {
        let resumed = placement.throttle.is_paused().then(|| placement.throttled(Throttle::NONE));
        let placement = resumed.as_ref().unwrap_or(placement);
        match self.spec.duration {
            Some(duration) if self.spec.program.is_none() && self.planned.is_none() => {
                now.saturating_add(speed(&self.spec, placement, fleet).time_for(duration))
            }
            _ => self.length().map_or(Timestamp::NEVER, |length| {
                now.saturating_add(placement.throttled_speed(fleet).time_for(length))
            }),
        }
    }

    /// When it leaves its nodes at the latest, as it runs; [`Timestamp::NEVER`] where nobody knows.
    pub(crate) fn leaves(&self) -> Option<Timestamp> {
        match &self.phase {
            Phase::Running { ends, stage: Stage::Stopping(_), .. } => Some(*ends),
            Phase::Running { since, .. } if self.planned.is_some() => Some(self.latest_end(*since)),
            Phase::Running { ends, .. } => Some(*ends),
            _ => None,
        }
    }
}
