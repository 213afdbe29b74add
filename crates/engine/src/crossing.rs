//! Levels at a cost: a gang that lies wider than it prefers is slower, and waits for so much of its time before it goes
//! wider.
//!
//! With `n` levels crossed at a cost each a gang goes at 1 / (1 + n × cost) of its speed, so that its run takes n × cost
//! of its time longer. A job that is the first of its kind to wait for room waits that long for the next level to do
//! without it ("delay scheduling": Zaharia et al., EuroSys 2010), level by level; levels at which no domain could ever
//! hold it are crossed at once. What will do by now is part of its shape: all else follows from that.

use std::ops::Range;

use offtake_fleet::{Fleet, LevelIx, NodeIx};
use offtake_units::{Duration, Ppm, Timestamp};
use offtake_workload::{Gang, Job, Strength, Topology};

use crate::decide::propose;
use crate::fact::{Event, Fact, JobId, Placement, Slot};
use crate::place::ShapeIx;
use crate::queue::{Blocked, LaneIx};
use crate::request::{Refusal, level_of};
use crate::state::{Phase, State, Work};

/// For work without an expected end: how long it is held to run.
const HORIZON: Duration = Duration::DAY;

/// The shortest wait for a level, so that none begins and ends at one instant.
const SHORTEST_WAIT: Duration = Duration::from_millis(1);

/// The level that a gang prefers at a cost, and that.
fn preferred(gang: &Gang, fleet: &Fleet) -> Option<(LevelIx, Ppm)> {
    let topology = gang.topology.as_ref().filter(|topology| costs(topology))?;
    level_of(&topology.level, fleet).ok().map(|level| (level, topology.cost))
}

fn costs(topology: &Topology) -> bool {
    topology.strength == Strength::Preferred && topology.cost > Ppm::ZERO
}

/// Whether a job weighs what a wider place costs.
pub fn weighs(spec: &Job) -> bool {
    spec.gangs.iter().filter_map(|gang| gang.topology.as_ref()).any(costs)
}

/// Gangs that lie no more than so many levels wider than they prefer.
pub fn within(gangs: &[Gang], crossed: u32, fleet: &Fleet) -> Vec<Gang> {
    let narrowed = |gang: &Gang| {
        let (level, _) = preferred(gang, fleet)?;
        let widest = level.0.checked_sub(crossed).filter(|widest| *widest > 0);
        let widest = widest.map(|widest| fleet.levels[widest as usize].clone());
        let topology = gang.topology.clone().map(|topology| Topology { cost: Ppm::ZERO, widest, ..topology });
        Some(Gang { topology, ..gang.clone() })
    };
    gangs.iter().map(|gang| narrowed(gang).unwrap_or_else(|| gang.clone())).collect()
}

/// The most levels that a gang of a job could cross.
fn most_crossed(spec: &Job, fleet: &Fleet) -> u32 {
    spec.gangs.iter().filter_map(|gang| preferred(gang, fleet)).map(|(level, _)| level.0).max().unwrap_or(0)
}

/// Levels by which the domain that holds a gang is wider than it prefers, where that costs something: where levels are
/// skipped, as on a site without racks, it counts as the site.
fn crossed_by(gang: &Gang, slots: &[Slot], fleet: &Fleet) -> u32 {
    let Some((level, _)) = preferred(gang, fleet) else { return 0 };
    let Some(Range { start, end }) = span(slots) else { return 0 };
    let holds_all = |crossed: &u32| {
        let domain = &fleet.domains[fleet.around(NodeIx(start), LevelIx(level.0 - crossed)).ix()];
        domain.level.0 == level.0 - crossed && domain.nodes.end >= end
    };
    (0..level.0).find(holds_all).unwrap_or(level.0)
}

/// From the first node of a gang to behind the last.
fn span(slots: &[Slot]) -> Option<Range<u32>> {
    let first = slots.iter().map(|slot| slot.nodes.first.0).min()?;
    let last = slots.iter().map(|slot| slot.nodes.numbers().end).max()?;
    Some(first..last)
}

/// Levels by which each gang of a job lies wider than it prefers, where that costs something. On one node none does.
pub fn levels_crossed(spec: &Job, placement: &Placement, fleet: &Fleet) -> Vec<u32> {
    let crossed = |(gang, slots): (&Gang, &Vec<Slot>)| match span(slots) {
        Some(span) if span.len() > 1 => crossed_by(gang, slots, fleet),
        _ => 0,
    };
    spec.gangs.iter().zip(&placement.gangs).map(crossed).collect()
}

/// The gangs of a job, no wider than a placement has them.
pub fn as_wide_as(spec: &Job, gangs: Vec<Gang>, placement: &Placement, fleet: &Fleet) -> Vec<Gang> {
    if !weighs(spec) {
        return gangs;
    }
    let crossed = spec.gangs.iter().zip(&placement.gangs).map(|(gang, slots)| crossed_by(gang, slots, fleet));
    within(&gangs, crossed.max().unwrap_or(0), fleet)
}

/// The share of its speed at which a job goes where it lies wider than it prefers: that of its slowest gang.
pub fn speed_across(spec: &Job, placement: &Placement, fleet: &Fleet) -> Ppm {
    let of = |(gang, crossed): (&Gang, u32)| {
        let cost = gang.topology.as_ref().map_or(0, |topology| u64::from(topology.cost.parts()));
        let whole = u64::from(Ppm::ONE.parts());
        let taken = whole + u64::from(crossed) * cost;
        Ppm::new(((whole * whole + taken / 2) / taken) as u32)
    };
    let gangs = spec.gangs.iter().zip(levels_crossed(spec, placement, fleet));
    gangs.map(of).min().unwrap_or(Ppm::ONE)
}

/// What each level costs a job at the most.
fn dearest(spec: &Job) -> Ppm {
    let topologies = spec.gangs.iter().filter_map(|gang| gang.topology.as_ref());
    topologies.filter(|topology| costs(topology)).map(|topology| topology.cost).max().unwrap_or(Ppm::ZERO)
}

/// How much longer a job may run than it would where it prefers to lie, with so many levels crossed. A program ends when
/// its time is over, wherever it lies.
pub fn delay(spec: &Job, crossed: u32, length: Duration) -> Duration {
    if crossed == 0 || spec.program.is_some() {
        return Duration::ZERO;
    }
    let each = dearest(spec).done_in(length).as_millis();
    Duration::from_millis(each.saturating_mul(i64::from(crossed)))
}

impl Work {
    /// How long it waits for one level before it does without.
    fn wait_for_a_level(&self) -> Duration {
        let length = self.planned.or(self.spec.duration).unwrap_or(HORIZON);
        dearest(&self.spec).done_in(length).max(SHORTEST_WAIT)
    }
}

impl State {
    /// The shape of a job that may by now cross so many levels, and how many it may: more, where no domain of a narrower
    /// level could ever hold it.
    ///
    /// # Errors
    /// Why it can never run.
    pub(crate) fn intern_across(&mut self, spec: &Job, crossed: u32) -> Result<(ShapeIx, u32), Refusal> {
        if !weighs(spec) {
            return self.intern(&spec.gangs).map(|shape| (shape, 0));
        }
        let most = most_crossed(spec, self.fleet());
        let mut crossed = crossed.min(most);
        loop {
            let gangs = within(&spec.gangs, crossed, self.fleet());
            match self.intern(&gangs) {
                Err(_) if crossed < most => crossed += 1,
                found => return found.map(|shape| (shape, crossed)),
            }
        }
    }

    /// A waiting job as it may be placed by now.
    pub(crate) fn as_it_may_be(&self, job: JobId) -> Option<Job> {
        let work = self.job(job)?;
        let gangs = within(&work.spec.gangs, work.crossing, self.fleet());
        Some(Job { gangs, ..Job::clone(&work.spec) })
    }

    /// Whether a waiting job may cross more levels once it has waited for them.
    fn could_cross(&self, job: JobId) -> bool {
        let may = |work: &Work| {
            matches!(work.phase, Phase::Pending(_))
                && weighs(&work.spec)
                && work.crossing < most_crossed(&work.spec, self.fleet())
        };
        self.job(job).is_some_and(may)
    }

    /// When a waiting job does without the level that it waits for.
    pub fn crosses_at(&self, job: JobId) -> Option<Timestamp> {
        self.crossing.at(job)
    }

    /// When a waiting job next does without the level that it waits for.
    pub fn next_crossing(&self) -> Option<Timestamp> {
        self.crossing.next()
    }

    /// A job begins to wait for the widest level that will do.
    pub(crate) fn await_level(&mut self, job: JobId) {
        if self.could_cross(job)
            && let Some(wait) = self.job(job).map(Work::wait_for_a_level)
        {
            self.crossing.until(job, self.now.saturating_add(wait));
        }
    }

    /// A job has waited for a level long enough: one wider will do.
    pub(crate) fn cross_level(&mut self, job: JobId) {
        self.crossing.forget(job);
        if !self.could_cross(job) {
            return;
        }
        let Some((spec, crossing)) = self.job(job).map(|work| (work.spec.clone(), work.crossing)) else { return };
        if let Ok((shape, crossing)) = self.intern_across(&spec, crossing + 1) {
            self.wait_as(job, shape, crossing);
            self.await_level(job);
        }
    }
}

/// Jobs that have waited for a level long enough do without it.
pub fn cross(state: &mut State, facts: &mut Vec<Fact>) {
    while let Some(job) = state.crossing.pop_due(state.now()) {
        propose(state, facts, Event::LevelCrossed { job });
    }
}

/// The first job of a lane that has no room begins to wait for its level, if it does not yet.
pub fn begin_to_wait(state: &mut State, lane: LaneIx, facts: &mut Vec<Fact>) {
    let entry = state.queue.lane(lane);
    let Some(Blocked::Room | Blocked::Power(_)) = entry.parked else { return };
    let Some(first) = entry.first() else { return };
    if !state.crossing.has(first.job) && state.could_cross(first.job) {
        propose(state, facts, Event::LevelAwaited { job: first.job });
    }
}
