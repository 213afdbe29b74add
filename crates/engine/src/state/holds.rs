//! Holds: nodes and power kept for blocked jobs, so that what goes first delays nobody.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use offtake_fleet::NodeIx;
use offtake_units::Timestamp;
use offtake_workload::ChipRequest;
use serde::{Deserialize, Serialize};

use super::{Phase, State};
use crate::capacity::{LimitIx, Withheld};
use crate::fact::{JobId, NodeRange, Placement};
use crate::place::ShapeIx;
use crate::request::Request;

/// Capacity kept for a blocked job.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hold {
    /// The job.
    pub job: JobId,
    /// When it can start at the latest, if running work ends when it is expected to.
    pub start: Timestamp,
    /// The nodes kept, ascending.
    pub nodes: Vec<NodeRange>,
    /// Where the job will run.
    pub placement: Arc<Placement>,
    /// Per limit, what work that outlasts the hold's start may still draw more, in millionths of a watt.
    pub(super) extra: BTreeMap<LimitIx, i64>,
    /// Running jobs that must leave the nodes first.
    pub(crate) blockers: BTreeSet<JobId>,
}

impl State {
    pub(super) fn hold(&mut self, job: JobId, start: Timestamp, placement: &Arc<Placement>, extra: &[(LimitIx, i64)]) {
        let mut hold = Hold {
            job,
            start,
            nodes: placement.nodes(),
            placement: Arc::clone(placement),
            extra: extra.iter().copied().collect(),
            blockers: BTreeSet::new(),
        };
        for (_, other) in self.ends.range(..=(start, JobId(u64::MAX))) {
            if let Some(work) = self.jobs.get_mut(other)
                && work.blocks.is_none()
                && let Phase::Running { placement, .. } = &work.phase
                && hold.meets(placement)
            {
                work.blocks = Some(job);
                hold.blockers.insert(*other);
            }
        }
        self.holds.push(hold);
        self.lay_hold(self.holds.len() - 1);
    }

    /// Occupies a job's placement if nodes and caps have room for it now, or changes nothing.
    pub(crate) fn settle(&mut self, job: JobId, shape: ShapeIx, placement: &Placement) -> bool {
        if !self.admits(job, placement) {
            return false;
        }
        let limits = self.capacity.limits();
        let exceeds = |(limit, draw): (LimitIx, i64)| draw > limits[limit.ix()].left_micro().max(0);
        if self.draw_of(shape, placement).into_iter().any(exceeds) {
            return false;
        }
        let shape = Arc::clone(self.shape(shape));
        let gangs = shape.gangs.iter().zip(&placement.gangs);
        let slots = || {
            gangs
                .clone()
                .flat_map(|(gang, slots)| slots.iter().map(move |slot| (slot, gang.take(slot.workers, slot.chips))))
        };
        for (index, (slot, take)) in slots().enumerate() {
            if slot.nodes.numbers().all(|node| self.capacity.has_room(NodeIx(node), &take)) {
                self.capacity.occupy(slot.nodes.numbers(), &take);
            } else {
                slots().take(index).for_each(|(slot, take)| self.capacity.vacate(slot.nodes.numbers(), &take));
                return false;
            }
        }
        true
    }

    /// What is left under each limit that a placement draws from, the placement itself at work.
    pub(crate) fn left_with(&self, shape: ShapeIx, placement: &Placement) -> Vec<(LimitIx, i64)> {
        let limits = self.capacity.limits();
        self.draw_of(shape, placement).into_keys().map(|limit| (limit, limits[limit.ix()].left_micro())).collect()
    }

    /// Whether a running job draws anything under a cap that can bind.
    pub fn draws_under(&self, job: JobId, cap: LimitIx) -> bool {
        let Some(Phase::Running { shape, placement, .. }) = self.jobs.get(&job).map(|work| &work.phase) else {
            return false;
        };
        self.draw_of(*shape, placement).get(&cap).is_some_and(|draw| *draw > 0)
    }

    pub(crate) fn draw_of(&self, shape: ShapeIx, placement: &Placement) -> BTreeMap<LimitIx, i64> {
        let mut draw = BTreeMap::new();
        for (gang, slots) in self.shapes[shape.ix()].gangs.iter().zip(&placement.gangs) {
            for slot in slots {
                let take = gang.take(slot.workers, slot.chips);
                self.capacity.add_draw(slot.nodes.numbers(), &take, &mut draw);
            }
        }
        draw
    }

    /// Work that outlasts the start of some holds comes (or goes): less (or more) is left to others. What shares chips
    /// counts as if it used them alone, and gives nothing back when it goes early: others may hold the chip awake.
    pub(super) fn outlast(
        &mut self,
        shape: ShapeIx,
        placement: &Placement,
        outlasts: impl Fn(Timestamp) -> bool,
        comes: bool,
    ) {
        if !self.holds.iter().any(Hold::keeps_power) {
            return;
        }
        let draw = self.draw_of(shape, placement);
        let shares = |gang: &Request| matches!(gang.chips, ChipRequest::Share(_));
        let counts = comes || !self.shapes[shape.ix()].gangs.iter().any(shares);
        for hold in self.holds.iter_mut().filter(|hold| counts && outlasts(hold.start)) {
            for (limit, extra) in &mut hold.extra {
                let watts = draw.get(limit).copied().unwrap_or_default();
                *extra = if comes { *extra - watts } else { *extra + watts };
            }
        }
        draw.keys().for_each(|limit| self.lay_extra(*limit, None));
    }

    /// Keeps what a hold keeps from everybody.
    pub(crate) fn lay_hold(&mut self, index: usize) {
        self.keep(index, true);
    }

    /// Lets whoever is tried next use what a hold keeps.
    pub(crate) fn lift_hold(&mut self, index: usize) {
        self.keep(index, false);
    }

    /// Lets whoever is tried next use what all holds keep.
    pub(crate) fn lift_all_holds(&mut self) {
        for index in 0..self.holds.len() {
            self.lift_hold(index);
            let limits: Vec<LimitIx> = self.holds[index].extra.keys().copied().collect();
            limits.into_iter().for_each(|limit| self.capacity.set_extra(limit, None));
        }
    }

    fn keep(&mut self, index: usize, kept: bool) {
        let hold = &self.holds[index];
        for node in hold.nodes.iter().flat_map(|range| range.numbers()).map(NodeIx) {
            if kept {
                self.capacity.withhold(node, Withheld::Held);
            } else {
                self.capacity.offer(node, Withheld::Held);
            }
        }
        let limits: Vec<LimitIx> = hold.extra.keys().copied().collect();
        limits.into_iter().for_each(|limit| self.lay_extra(limit, (!kept).then_some(index)));
    }

    /// Tells a limit the least that any hold, but one, leaves to others.
    fn lay_extra(&mut self, limit: LimitIx, but: Option<usize>) {
        let holds = self.holds.iter().enumerate().filter(|(index, _)| Some(*index) != but);
        let least = holds.filter_map(|(_, hold)| hold.extra.get(&limit).copied()).min();
        self.capacity.set_extra(limit, least);
    }

    pub(super) fn release_hold(&mut self, job: JobId) {
        let Some(place) = self.holds.iter().position(|hold| hold.job == job) else { return };
        self.lift_hold(place);
        let hold = self.holds.remove(place);
        for blocker in &hold.blockers {
            if let Some(work) = self.jobs.get_mut(blocker) {
                work.blocks = None;
            }
        }
        self.holds_stale = true;
        for range in &hold.nodes {
            self.wake_nodes(*range);
        }
    }

    pub(super) fn unblock(&mut self, owner: JobId, blocker: JobId) {
        let Some(hold) = self.holds.iter_mut().find(|hold| hold.job == owner) else { return };
        hold.blockers.remove(&blocker);
        if hold.blockers.is_empty() {
            self.wake_job(owner);
        }
    }
}

impl Hold {
    /// Whether nothing that must leave is left.
    pub(crate) fn is_ripe(&self, now: Timestamp) -> bool {
        self.blockers.is_empty() || now.as_millis() >= self.start.as_millis()
    }

    /// Whether it keeps power under some cap, beside its nodes.
    pub(crate) fn keeps_power(&self) -> bool {
        !self.extra.is_empty()
    }

    pub(crate) fn meets(&self, placement: &Placement) -> bool {
        placement.slots().any(|slot| {
            let range = slot.nodes.numbers();
            let place = self.nodes.partition_point(|held| held.numbers().end <= range.start);
            self.nodes.get(place).is_some_and(|held| held.first.0 < range.end)
        })
    }
}
