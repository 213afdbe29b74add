//! Holds: nodes and power kept for blocked jobs, so that what goes first delays nobody.
//!
//! A hold lasts from its start until its job will have ended, so that holds may follow each other on one node. It is
//! *laid* while what it keeps is withheld. Between passes all are; for a trial those are lifted that are not in its way.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use offtake_fleet::NodeIx;
use offtake_units::{Timestamp, Watts};
use offtake_workload::ChipRequest;
use serde::{Deserialize, Serialize};

use super::{Phase, State, kinds_of};
use crate::capacity::{Capacity, LimitIx, Take, Withheld};
use crate::fact::{JobId, NodeRange, Placement, Slot};
use crate::place::ShapeIx;
use crate::request::{Request, Shape};
use crate::throttle::Throttle;

/// Capacity kept for a blocked job.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hold {
    /// The job.
    pub job: JobId,
    /// When it can start at the latest, if running work ends when it is expected to.
    pub start: Timestamp,
    /// When it will have ended if it starts then; [`Timestamp::NEVER`] when nobody knows.
    #[serde(default = "never")]
    pub end: Timestamp,
    /// The nodes kept, ascending.
    pub nodes: Vec<NodeRange>,
    /// Where the job will run.
    pub placement: Arc<Placement>,
    /// Per limit, what work that outlasts the hold's start may still draw more, in millionths of a watt.
    pub(super) extra: BTreeMap<LimitIx, i64>,
    /// Per limit, what the job itself will draw, in millionths of a watt.
    #[serde(default)]
    draw: BTreeMap<LimitIx, i64>,
    /// Whether what it keeps is withheld.
    #[serde(skip)]
    laid: bool,
}

const fn never() -> Timestamp {
    Timestamp::NEVER
}

fn set_held(capacity: &mut Capacity, nodes: Range<u32>, held: bool) {
    if held { capacity.withhold_all(nodes, Withheld::Held) } else { capacity.offer_all(nodes, Withheld::Held) }
}

impl State {
    pub(super) fn hold(&mut self, job: JobId, start: Timestamp, placement: &Arc<Placement>, extra: &[(LimitIx, i64)]) {
        let shape = self.pending_shape(job).filter(|_| !extra.is_empty());
        let hold = Hold {
            job,
            start,
            end: self.jobs.get(&job).map_or(Timestamp::NEVER, |work| work.expected_end(start)),
            nodes: placement.nodes(),
            placement: Arc::clone(placement),
            extra: extra.iter().copied().collect(),
            draw: shape.map_or_else(BTreeMap::new, |shape| self.draw_of(shape, placement)),
            laid: false,
        };
        self.draw_later(&hold, true);
        self.holds.push(hold);
        self.lay_hold(self.holds.len() - 1);
    }

    /// Keeps nodes for a window; holds of jobs that would be at work there meanwhile give way.
    pub(super) fn keep_window(&mut self, window: JobId, start: Timestamp, end: Timestamp, nodes: &[NodeRange]) {
        let hold = Hold {
            job: window,
            start,
            end,
            nodes: nodes.to_vec(),
            placement: Arc::default(),
            extra: BTreeMap::new(),
            draw: BTreeMap::new(),
            laid: false,
        };
        let gives_way = |other: &&Hold| {
            let own = self.jobs.get(&other.job).and_then(|work| self.window_of(&work.spec));
            let is_bound = !other.job.is_window() && own != Some(window);
            is_bound && other.overlaps(start, end) && hold.meets(&other.placement)
        };
        let giving_way: Vec<JobId> = self.holds.iter().filter(gives_way).map(|other| other.job).collect();
        giving_way.into_iter().for_each(|job| self.release_hold(job));
        self.holds.push(hold);
        self.lay_hold(self.holds.len() - 1);
    }

    /// Keeps power under a cap for a span: work that outlasts its beginning may draw so much more, in millionths of a watt.
    pub(super) fn keep_power(&mut self, keeper: JobId, span: Range<Timestamp>, (cap, left): (LimitIx, i64)) {
        self.holds.push(Hold {
            job: keeper,
            start: span.start,
            end: span.end,
            nodes: Vec::new(),
            placement: Arc::default(),
            extra: BTreeMap::from([(cap, left)]),
            draw: BTreeMap::new(),
            laid: false,
        });
        self.lay_hold(self.holds.len() - 1);
    }

    /// Where the hold of a job is that is laid.
    pub(crate) fn laid_hold_of(&self, job: JobId) -> Option<usize> {
        self.holds.iter().position(|hold| hold.job == job && hold.laid)
    }

    /// From now on whoever is tried may use what is reserved for a job, and nothing else if it names a reservation.
    pub(crate) fn open_for(&mut self, job: Option<JobId>) {
        let work = job.and_then(|job| self.jobs.get(&job));
        let opened = work.and_then(|work| self.own_window(&work.spec)).map(|window| window.job);
        if opened != self.opened {
            self.set_apart(false);
            self.opened = opened;
            self.set_apart(true);
            self.lay_holds(|_| true);
        }
    }

    /// Whether what whoever is tried may use is not what a job may.
    pub(crate) fn is_apart(&self, job: JobId) -> bool {
        let Some(work) = self.jobs.get(&job) else { return false };
        match &work.spec.reservation {
            None => self.opened.is_some(),
            Some(_) => self.opened.is_none() || self.opened != self.window_of(&work.spec),
        }
    }

    /// All nodes but those of the opened window are withheld from whoever is tried, or offered again.
    fn set_apart(&mut self, apart: bool) {
        let Some(window) = self.opened.and_then(|window| self.hold_of(window)) else { return };
        let mut others = Vec::with_capacity(window.nodes.len() + 1);
        let mut from = 0;
        for range in &window.nodes {
            others.push(from..range.first.0);
            from = range.numbers().end;
        }
        others.push(from..self.fleet().nodes.len() as u32);
        for nodes in others {
            match apart {
                true => self.capacity.withhold_all(nodes, Withheld::Apart),
                false => self.capacity.offer_all(nodes, Withheld::Apart),
            }
        }
    }

    /// A hold that comes (or goes) takes of what those that start while it lasts leave to others.
    fn draw_later(&mut self, hold: &Hold, comes: bool) {
        for other in self.holds.iter_mut().filter(|other| hold.start <= other.start && other.start < hold.end) {
            other.draw_at_start(&hold.draw, comes);
        }
        hold.draw.keys().for_each(|limit| self.lay_extra(*limit));
    }

    /// The hold of a job.
    pub(crate) fn hold_of(&self, job: JobId) -> Option<&Hold> {
        self.holds.iter().find(|hold| hold.job == job)
    }

    /// Whether work is being stopped on what a hold keeps.
    pub(crate) fn is_being_emptied(&self, hold: &Hold) -> bool {
        let meets = |job: &JobId| match self.jobs.get(job).map(|work| &work.phase) {
            Some(Phase::Running { placement, .. }) => hold.meets(placement),
            _ => false,
        };
        hold.start > self.now && self.stopping.iter().any(meets)
    }

    /// Whether a job could start where its hold says: nothing is left that must leave first, and what it draws is kept
    /// for no other.
    pub(crate) fn is_ripe(&self, hold: &Hold, shape: ShapeIx) -> bool {
        if hold.start <= self.now {
            return true;
        }
        let gangs = self.shape(shape).gangs.iter().zip(&hold.placement.gangs);
        let mut takes =
            gangs.flat_map(|(gang, slots)| slots.iter().map(move |slot| (slot, gang.take(slot.workers, slot.chips))));
        let has_room = |(slot, take): (&Slot, Take)| {
            slot.nodes.numbers().all(|node| {
                !self.capacity.is_withheld(NodeIx(node), Withheld::Out) && self.capacity.has_room(NodeIx(node), &take)
            })
        };
        if !takes.all(has_room) || !self.admits(hold.job, &hold.placement) {
            return false;
        }
        let work = self.jobs.get(&hold.job);
        let own = work.and_then(|work| self.window_of(&work.spec));
        let first = |other: &&Hold| other.job != hold.job && Some(other.job) != own && other.start < hold.start;
        if self.holds.iter().filter(first).any(|other| other.meets(&hold.placement)) {
            return false;
        }
        // Those that start later have been told of it; those that start before it have not.
        let end = work.map_or(Timestamp::NEVER, |work| work.expected_end(self.now));
        let unaware: Vec<&Hold> = self.holds.iter().filter(first).filter(|other| other.start < end).collect();
        let leaves = |other: &&Hold| {
            hold.draw.iter().all(|(limit, draw)| other.extra.get(limit).is_none_or(|extra| draw <= extra))
        };
        unaware.iter().all(leaves)
    }

    /// Occupies a job's placement if nodes and caps have room for it now, or changes nothing.
    pub(crate) fn settle(&mut self, job: JobId, shape: ShapeIx, placement: &Placement) -> bool {
        let may = self.admits(job, placement) && self.is_allowed(job, shape, placement);
        if !may || self.runs_into_a_window(job, placement) {
            return false;
        }
        if !self.unborne(self.shape(shape), placement).is_empty() {
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
            gangs.clone().flat_map(|(gang, slots)| {
                slots.iter().map(move |slot| (slot, gang.take(slot.workers, slot.chips).at(placement.throttle)))
            })
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
    pub(crate) fn left_with(&self, shape: &Shape, placement: &Placement) -> Vec<(LimitIx, i64)> {
        let limits = self.capacity.limits();
        self.draw_of_gangs(shape, placement).into_keys().map(|limit| (limit, limits[limit.ix()].left_micro())).collect()
    }

    /// What work draws more than idle nodes do under a cap, in millionths of a watt.
    pub(crate) fn draw_under(&self, cap: LimitIx, shape: ShapeIx, placement: &Placement) -> i64 {
        self.draw_under_at(cap, shape, placement, placement.throttle)
    }

    /// The same if its chips were throttled so far.
    pub(crate) fn draw_under_at(&self, cap: LimitIx, shape: ShapeIx, placement: &Placement, at: Throttle) -> i64 {
        let gangs = self.shapes[shape.ix()].gangs.iter().zip(&placement.gangs);
        let slots = gangs.flat_map(|(gang, slots)| slots.iter().map(move |slot| (gang, slot)));
        let draws = slots.map(|(gang, slot)| {
            let take = gang.take(slot.workers, slot.chips).at(at);
            self.capacity.draw_under(cap, slot.nodes.numbers(), &take)
        });
        draws.sum()
    }

    /// What work that is known to draw so much under a cap would if its chips were throttled so far.
    pub(crate) fn draw_if(&self, cap: LimitIx, work: (ShapeIx, &Placement), drawn: i64, at: Throttle) -> i64 {
        let (shape, placement) = work;
        let limit = &self.capacity.limits()[cap.ix()];
        let mut kinds = kinds_of(&self.shapes[shape.ix()]);
        let first = kinds.next().filter(|first| kinds.all(|kind| kind == *first));
        let draw = |throttle| first.map_or(0, |kind| limit.counted(self.capacity.chip_draw_at(kind, throttle)).get());
        match draw(placement.throttle) {
            // Chips of one kind draw alike: what they draw in all goes by what one does.
            now if now > 0 => drawn / now * draw(at),
            _ => self.draw_under_at(cap, shape, placement, at),
        }
    }

    /// What a running job draws more than idle nodes do under a cap; nothing for one that does not run.
    pub fn drawn_by(&self, job: JobId, cap: LimitIx) -> Watts {
        match self.jobs.get(&job).map(|work| &work.phase) {
            Some(Phase::Running { placement, .. }) => self.drawn_by_at(job, cap, placement.throttle),
            _ => Watts::ZERO,
        }
    }

    /// The same if its chips were throttled so far.
    pub fn drawn_by_at(&self, job: JobId, cap: LimitIx, at: Throttle) -> Watts {
        match self.jobs.get(&job).map(|work| &work.phase) {
            Some(Phase::Running { shape, placement, .. }) => {
                Watts::new((self.draw_under_at(cap, *shape, placement, at) + 999_999).div_euclid(1_000_000))
            }
            _ => Watts::ZERO,
        }
    }

    pub(crate) fn draw_of(&self, shape: ShapeIx, placement: &Placement) -> BTreeMap<LimitIx, i64> {
        self.draw_of_gangs(&self.shapes[shape.ix()], placement)
    }

    /// The same for a shape that nobody has asked for yet.
    pub(crate) fn draw_of_gangs(&self, shape: &Shape, placement: &Placement) -> BTreeMap<LimitIx, i64> {
        let mut draw = BTreeMap::new();
        for (gang, slots) in shape.gangs.iter().zip(&placement.gangs) {
            for slot in slots {
                let take = gang.take(slot.workers, slot.chips).at(placement.throttle);
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
        // What is to be curtailed is worked out anew before anybody stops for it.
        let counts = |hold: &Hold| counts || hold.job.curtailment().is_some();
        for hold in self.holds.iter_mut().filter(|hold| counts(hold) && outlasts(hold.start)) {
            hold.draw_at_start(&draw, comes);
        }
        draw.keys().for_each(|limit| self.lay_extra(*limit));
    }

    /// Keeps what a hold keeps from everybody.
    pub(crate) fn lay_hold(&mut self, index: usize) {
        self.lay_some_holds(|place, hold| hold.laid || place == index);
    }

    /// Lets whoever is tried next use what a hold keeps, as far as no other keeps it.
    pub(crate) fn lift_hold(&mut self, index: usize) {
        self.lay_some_holds(|place, hold| hold.laid && place != index);
    }

    /// Whoever is tried next meets these holds and no others.
    pub(crate) fn lay_holds(&mut self, stands: impl Fn(&Hold) -> bool) {
        self.lay_some_holds(|_, hold| stands(hold));
    }

    fn lay_some_holds(&mut self, stands: impl Fn(usize, &Hold) -> bool) {
        for index in 0..self.holds.len() {
            let laid = stands(index, &self.holds[index]) && self.opened != Some(self.holds[index].job);
            let hold = &mut self.holds[index];
            if laid == hold.laid {
                continue;
            }
            hold.laid = laid;
            for range in &hold.nodes {
                // Nodes side by side whose last keeper goes, or whose first comes, are moved together.
                let mut moved = range.first.0..range.first.0;
                for node in range.numbers() {
                    let keepers = self.kept.entry(node).or_default();
                    *keepers = if laid { *keepers + 1 } else { *keepers - 1 };
                    let moves = *keepers == u32::from(laid);
                    if *keepers == 0 {
                        self.kept.remove(&node);
                    }
                    match moves {
                        true if moved.end == node => moved.end += 1,
                        true => set_held(&mut self.capacity, std::mem::replace(&mut moved, node..node + 1), laid),
                        false => {}
                    }
                }
                set_held(&mut self.capacity, moved, laid);
            }
        }
        // Work that was taken out for a trial was counted as if it outlasted the holds.
        let mut least: BTreeMap<LimitIx, Option<i64>> = BTreeMap::new();
        for hold in &self.holds {
            for (limit, extra) in &hold.extra {
                let least = least.entry(*limit).or_default();
                if hold.laid {
                    *least = Some(least.map_or(*extra, |least| least.min(*extra)));
                }
            }
        }
        for (limit, least) in least {
            if self.capacity.limits()[limit.ix()].extra() != least {
                self.capacity.set_extra(limit, least);
            }
        }
    }

    /// Tells a limit the least that any laid hold leaves to others.
    fn lay_extra(&mut self, limit: LimitIx) {
        let laid = self.holds.iter().filter(|hold| hold.laid);
        let least = laid.filter_map(|hold| hold.extra.get(&limit).copied()).min();
        self.capacity.set_extra(limit, least);
    }

    pub(super) fn release_hold(&mut self, job: JobId) {
        let Some(place) = self.holds.iter().position(|hold| hold.job == job) else { return };
        self.lift_hold(place);
        let hold = self.holds.remove(place);
        self.draw_later(&hold, false);
        self.holds_stale = true;
        for range in &hold.nodes {
            self.wake_nodes(*range);
        }
        self.ripen(|other| other.meets_any(hold.nodes.iter().copied()));
    }

    /// Work has left a placement: whoever its nodes are kept for, and waits for nothing else any more, is tried.
    pub(super) fn ripen_on(&mut self, placement: &Placement) {
        if placement.slots().flat_map(|slot| slot.nodes.numbers()).any(|node| self.kept.contains_key(&node)) {
            self.ripen(|hold| hold.meets(placement));
        }
    }

    fn ripen(&mut self, concerns: impl Fn(&Hold) -> bool) {
        let ripe = |hold: &&Hold| {
            let shape = self.pending_shape(hold.job);
            concerns(hold) && shape.is_some_and(|shape| self.is_ripe(hold, shape))
        };
        let owners: Vec<JobId> = self.holds.iter().filter(ripe).map(|hold| hold.job).collect();
        owners.into_iter().for_each(|job| self.wake_job(job));
    }
}

impl Hold {
    /// Others draw so much more (or less) when it starts.
    fn draw_at_start(&mut self, draw: &BTreeMap<LimitIx, i64>, more: bool) {
        for (limit, extra) in &mut self.extra {
            let watts = draw.get(limit).copied().unwrap_or_default();
            *extra = if more { *extra - watts } else { *extra + watts };
        }
    }

    /// Per limit, what the job will draw, in millionths of a watt.
    pub(crate) const fn draw(&self) -> &BTreeMap<LimitIx, i64> {
        &self.draw
    }

    /// Whether it keeps power under some cap, beside its nodes.
    pub(crate) fn keeps_power(&self) -> bool {
        !self.extra.is_empty()
    }

    /// Per limit under which it keeps power, what work that outlasts its start may still draw more, in millionths of a
    /// watt.
    pub(crate) fn leaves(&self) -> impl Iterator<Item = (LimitIx, i64)> {
        self.extra.iter().map(|(limit, most)| (*limit, *most))
    }

    /// Whether its job would be at work at some time in a span.
    pub(crate) fn overlaps(&self, from: Timestamp, until: Timestamp) -> bool {
        self.start < until && from < self.end
    }

    /// Whether a limit counts what both draw.
    pub(crate) fn shares_power(&self, extra: &[(LimitIx, i64)]) -> bool {
        extra.iter().any(|(limit, _)| self.extra.contains_key(limit))
    }

    pub(crate) fn meets(&self, placement: &Placement) -> bool {
        self.meets_any(placement.slots().map(|slot| slot.nodes))
    }

    pub(super) fn meets_any(&self, mut ranges: impl Iterator<Item = NodeRange>) -> bool {
        ranges.any(|range| {
            let range = range.numbers();
            let place = self.nodes.partition_point(|held| held.numbers().end <= range.start);
            self.nodes.get(place).is_some_and(|held| held.first.0 < range.end)
        })
    }
}
