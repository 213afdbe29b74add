//! Elastic gangs: placed with as many workers as they prefer, or with fewer where those do not fit; grown into what
//! nobody else waits for.
//!
//! A change of size is a stop, with the time to save, and a start with another number of workers on nodes that are held
//! for it meanwhile. So each change costs what a stop costs, and a gang grows only where that is won back twice over.

use std::sync::Arc;

use offtake_fleet::{DomainIx, Fleet};
use offtake_units::{Duration, Ppm, Timestamp};
use offtake_workload::{Elastic, Gang, Job};

use crate::blast::within_radii;
use crate::capacity::LimitIx;
use crate::crossing::{as_wide_as, speed_across, weighs};
use crate::decide::propose;
use crate::fact::{Event, Fact, JobId, NodeRange, Placement, Slot, StopReason};
use crate::place::{Placing, ShapeIx};
use crate::preempt;
use crate::ramp::{steps, where_borne};
use crate::request::Shape;
use crate::state::{Phase, Stage, State};
use crate::throttle::Throttle;

/// How often a gang that could grow is looked at.
const LOOK_AGAIN: Duration = Duration::from_secs(600);

/// What is won must be so many times what the change costs.
const TIMES_THE_COST: i64 = 2;

/// For work without an expected end: how long it is held to run on.
const HORIZON: Duration = Duration::DAY;

/// The gang of a job whose number of workers may change, its position and its bounds.
pub fn elastic_gang(job: &Job) -> Option<(usize, &Gang, &Elastic)> {
    job.gangs.iter().enumerate().find_map(|(place, gang)| Some((place, gang, gang.elastic.as_ref()?)))
}

/// Workers of a gang of a placement.
pub fn workers_of(slots: &[Slot]) -> u32 {
    slots.iter().map(|slot| slot.workers * slot.nodes.count).sum()
}

/// The gangs of a job with another number of workers of its elastic gang.
fn resized(spec: &Job, workers: u32) -> Option<Vec<Gang>> {
    let (place, gang, _) = elastic_gang(spec)?;
    let mut gangs = spec.gangs.clone();
    gangs[place] = Gang { workers, per_node: gang.per_node.map(|most| most.min(workers)), ..gang.clone() };
    Some(gangs)
}

/// The gangs of a job with the workers that a placement gives them, and no wider.
pub fn as_placed(spec: &Job, placement: &Placement, fleet: &Fleet) -> Vec<Gang> {
    let workers = elastic_gang(spec).and_then(|(place, ..)| Some(workers_of(placement.gangs.get(place)?)));
    let gangs = workers.and_then(|workers| resized(spec, workers)).unwrap_or_else(|| spec.gangs.clone());
    as_wide_as(spec, gangs, placement, fleet)
}

impl State {
    /// The shape of a waiting job as a placement has it.
    pub(crate) fn shape_as_placed(&mut self, job: JobId, placement: &Placement) -> Option<ShapeIx> {
        let shape = self.pending_shape(job)?;
        let spec = Arc::clone(&self.job(job)?.spec);
        self.shape_of_size(&spec, placement).or(Some(shape))
    }

    /// The shape of a job as a placement has it, where that may differ from what it asks for.
    fn shape_of_size(&mut self, spec: &Job, placement: &Placement) -> Option<ShapeIx> {
        let is_resized = match elastic_gang(spec) {
            Some((place, gang, _)) => workers_of(placement.gangs.get(place)?) != gang.workers,
            None => false,
        };
        if !is_resized && !weighs(spec) {
            return None;
        }
        let gangs = as_placed(spec, placement, self.fleet());
        self.shape_of_running(&gangs).ok()
    }

    /// The speed of a running job, as a share of that with the workers that it prefers.
    pub fn speed(&self, job: JobId) -> Ppm {
        let Some(work) = self.job(job) else { return Ppm::ONE };
        let Phase::Running { placement, .. } = &work.phase else { return Ppm::ONE };
        speed(&work.spec, placement, self.fleet())
    }
}

/// The speed of a job as it is placed: with so many workers, across so many levels, and at which power level.
pub fn speed(spec: &Job, placement: &Placement, fleet: &Fleet) -> Ppm {
    let of = |(place, gang, _): (usize, &Gang, &Elastic)| Some(gang.speed(workers_of(placement.gangs.get(place)?)));
    let with_workers = elastic_gang(spec).and_then(of).unwrap_or(Ppm::ONE);
    let across = if weighs(spec) { speed_across(spec, placement, fleet) } else { Ppm::ONE };
    slowed(slowed(with_workers, across), placement.throttled_speed(fleet))
}

/// A speed of which only a share is left.
fn slowed(speed: Ppm, left: Ppm) -> Ppm {
    let parts = u64::from(speed.parts()) * u64::from(left.parts()) / u64::from(Ppm::ONE.parts());
    Ppm::new(u32::try_from(parts).unwrap_or(u32::MAX))
}

/// Places a job that does not fit as it prefers with as many workers as do fit.
pub fn place_smaller(state: &mut State, job: JobId) -> Option<Placement> {
    elastic_gang(&state.job(job)?.spec)?;
    let spec = state.as_it_may_be(job)?;
    let (_, gang, bounds) = elastic_gang(&spec)?;
    let found = most_that_fit(state, job, &spec, bounds.minimum, gang.workers.checked_sub(1)?)?;
    if state.ramps_are_lifted() {
        return Some(found);
    }
    let shape = Shape::resolve(&as_placed(&spec, &found, state.fleet()), state.fleet()).ok()?;
    let wanted = steps(&state.capacity, &shape, &found);
    if state.can_rise(&wanted) {
        return Some(found);
    }
    state.vacate_gangs(&shape, &found);
    state.await_rise(job, &wanted);
    None
}

/// Occupies nodes for the most workers within bounds that fit; or changes nothing.
fn most_that_fit(state: &mut State, job: JobId, spec: &Job, least: u32, most: u32) -> Option<Placement> {
    if least > most {
        return None;
    }
    // A size that is only tried is no shape that was asked for.
    let fits = |state: &mut State, workers: u32| {
        let shape = Shape::resolve(&resized(spec, workers)?, state.fleet()).ok()?;
        if state.is_full_for(job, shape.chip_milli()) {
            return None;
        }
        let allowance = state.allowance(job);
        state.see_as(job);
        let placement = within_radii(state, job, &shape, |state| {
            where_borne(state, &shape, None, |state, shape, site| {
                let State { capacity, policy, scores, mix, .. } = &mut *state;
                let mut placing = Placing::new(capacity, policy, scores, mix, job, allowance.clone());
                if let Some(site) = site {
                    placing = placing.inside(DomainIx(site.0));
                }
                placing.place_unscored(shape)
            })
        })?;
        Some((shape, placement))
    };
    if let Some((_, placement)) = fits(state, most) {
        return Some(placement);
    }
    let (mut fit, mut too_many) = (fits(state, least)?, most);
    // What fits last is given back before more is tried.
    let mut workers = least;
    while too_many - workers > 1 {
        let middle = workers + (too_many - workers) / 2;
        state.vacate_gangs(&fit.0, &fit.1);
        match fits(state, middle) {
            Some(more) => (fit, workers) = (more, middle),
            None => {
                state.occupy_gangs(&fit.0, &fit.1);
                too_many = middle;
            }
        }
    }
    Some(fit.1)
}

/// What an elastic job that must leave nodes keeps of its own: a part of its placement that is enough to go on.
pub fn kept_of(spec: &Job, placement: &Placement, lost: &[NodeRange]) -> Option<Placement> {
    let (place, _, bounds) = elastic_gang(spec)?;
    let is_lost = |node: u32| lost.iter().any(|range| range.numbers().contains(&node));
    // It starts again at full power.
    let mut kept = placement.throttled(Throttle::NONE);
    for (index, slots) in kept.gangs.iter_mut().enumerate() {
        let mut left: Vec<Slot> = Vec::with_capacity(slots.len());
        for slot in slots.iter() {
            for node in slot.nodes.numbers().filter(|node| !is_lost(*node)) {
                let first = offtake_fleet::NodeIx(node);
                Slot { nodes: NodeRange { first, count: 1 }, ..*slot }.join(&mut left);
            }
        }
        // All other gangs stay whole.
        if index != place && left != *slots {
            return None;
        }
        *slots = left;
    }
    let workers = workers_of(&kept.gangs[place]);
    (bounds.minimum <= workers && workers < workers_of(&placement.gangs[place])).then_some(kept)
}

/// Grows elastic jobs into what nobody waits for, those whose turn it is to be looked at.
pub fn grow(state: &mut State, facts: &mut Vec<Fact>) {
    if state.policy.preemption.is_none() {
        return;
    }
    let now = state.now();
    while let Some(job) = state.growing.pop_due(now) {
        if let Some((placement, extra)) = larger(state, job) {
            resize(state, job, placement, extra, facts);
        } else if state.job(job).is_some_and(|work| matches!(work.phase, Phase::Running { .. })) {
            state.growing.until(job, now.saturating_add(LOOK_AGAIN));
        }
    }
}

/// Stops a job for another size, and holds nodes for it.
pub fn resize(state: &mut State, job: JobId, placement: Placement, extra: Vec<(LimitIx, i64)>, facts: &mut Vec<Fact>) {
    let place = state.job(job).and_then(|work| elastic_gang(&work.spec)).map_or(0, |(place, ..)| place);
    let workers = workers_of(&placement.gangs[place]);
    propose(state, facts, Event::JobStopping { job, reason: StopReason::Resized { workers }, by: None });
    let ends = state.job(job).and_then(|work| match work.phase {
        Phase::Running { ends, .. } => Some(ends),
        _ => None,
    });
    let start = ends.unwrap_or_else(|| state.now());
    propose(state, facts, Event::HoldPlaced { job, start, placement: Arc::new(placement), extra });
}

/// Where a running job would have more workers, if that wins more than it costs and nobody waits for the nodes.
fn larger(state: &mut State, job: JobId) -> Option<(Placement, Vec<(LimitIx, i64)>)> {
    let now = state.now();
    let work = state.job(job)?;
    let spec = Arc::clone(&work.spec);
    let Phase::Running { shape, placement, placed, since, ends, stage } = &work.phase else { return None };
    let (shape, placement, since_placed, since) = (*shape, Arc::clone(placement), now - *placed, now - *since);
    let left = if *ends == Timestamp::NEVER { HORIZON } else { *ends - now };
    let (place, _, bounds) = elastic_gang(&spec)?;
    let policy = state.policy.preemption.clone()?;
    let workers = workers_of(&placement.gangs[place]);
    // Who is paused could not save its work first.
    let may = !matches!(stage, Stage::Stopping(_))
        && !placement.throttle.is_paused()
        && since_placed >= policy.minimum_run(spec.tier);
    // What is reserved is all that a job of a reservation may have: it has taken what it could.
    if !may
        || spec.reservation.is_some()
        || workers >= bounds.maximum
        || state.waits_beside(shape)
        || !preempt::starts_again(&spec)
    {
        return None;
    }
    let watch = state.capacity.pause_watch();
    state.see_as(job);
    state.vacate(shape, &placement);
    state.leave(job, &placement);
    // It grows no wider than it lies.
    let as_wide = Job { gangs: as_wide_as(&spec, spec.gangs.clone(), &placement, state.fleet()), ..Job::clone(&spec) };
    let found = most_that_fit(state, job, &as_wide, workers + 1, bounds.maximum);
    let found = found.and_then(|larger| {
        let resized = Shape::resolve(&as_placed(&spec, &larger, state.fleet()), state.fleet()).ok()?;
        let extra = state.left_with(&resized, &larger);
        state.vacate_gangs(&resized, &larger);
        Some((larger, extra))
    });
    state.occupy(shape, &placement);
    state.enter(job, &placement);
    state.capacity.resume_watch(&watch);
    let (larger, extra) = found?;
    let of = |placement: &Placement| i128::from(speed(&spec, placement, state.fleet()).parts());
    let (slow, fast) = (of(&placement), of(&larger));
    let saved = i128::from(left.as_millis()) * (fast - slow) / fast.max(1);
    let cost = preempt::unsaved(&spec, since_placed, since) + policy.restart;
    (saved > i128::from(cost.as_millis() * TIMES_THE_COST)).then_some((larger, extra))
}
