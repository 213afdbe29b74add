//! When a blocked job can start if running work ends when it is expected to, and where.
//!
//! Candidates are found by *counting*: ends of running work are looked at in order, and per domain the workers that
//! would find whole chips there are added up; until they are enough in some domain nothing has to be tried. Only then
//! the work that leaves that domain is taken out, the job placed, and all put back. Where chips alone do not tell (parts
//! of a chip, hosts, several gangs, caps, quota) running work is taken out end by end, and the job tried at each.
//!
//! Holds of jobs that stand before this one are in the way while they overlap; those of others are not.

use std::collections::BTreeMap;
use std::sync::Arc;

use offtake_fleet::{DomainIx, LevelIx, NodeIx};
use offtake_units::{Duration, Timestamp};
use rustc_hash::{FxHashMap, FxHashSet};

use crate::capacity::{Limit, LimitIx, Withheld};
use crate::decide::place;
use crate::fact::{JobId, Placement};
use crate::place::{ShapeIx, could_help};
use crate::request::{Request, Shape};
use crate::state::{Hold, Phase, State, kinds_of};

/// A start in the future: when, where, and what may be drawn more then under each cap.
pub(crate) type Start = (Timestamp, Placement, Vec<(LimitIx, i64)>);

/// When a blocked job can start if running work ends when it is expected to, and on which nodes. Which holds are laid
/// afterwards is not defined.
///
/// Work that has outrun its expected end has none any more.
pub(crate) fn earliest_start(state: &mut State, shape_ix: ShapeIx, job: JobId) -> Option<Start> {
    let shape = Arc::clone(state.shape(shape_ix));
    let capped = state.capacity.limits().iter().any(Limit::can_bind);
    let spec = Arc::clone(&state.job(job)?.spec);
    let longest = Duration::from_millis(i64::MAX);
    let limit = state.job(job)?.limit().unwrap_or(longest);
    let length = state.job(job)?.length().unwrap_or(longest);
    let window = state.own_window(&spec).map(|window| (window.job, window.start, window.end));
    let own_window = window.map(|(window, ..)| window);
    let heeded = heeded(state, job, own_window);
    let search = Search { shape_ix, shape, job, length, limit, own_window, heeded };
    state.see_as(job);
    state.open_for(Some(job));
    if spec.reservation.is_some() {
        let (_, start, end) = window?;
        return search.in_window(state, start, end);
    }
    let now = state.now();
    search.meet(state, now);
    // Only jobs behind this one may have been in the way.
    if let Some(found) = search.attempt(state, now) {
        return Some(found);
    }
    match search.shape.gangs.as_slice() {
        [gang] if gang.whole_chips() > 0 && !capped && !state.waits_for_quota(job) => search.by_counting(state, gang),
        _ => search.by_trying(state),
    }
}

struct Search {
    shape_ix: ShapeIx,
    shape: Arc<Shape>,
    job: JobId,
    /// How long the job is expected to run.
    length: Duration,
    /// How long it may run.
    limit: Duration,
    /// What is reserved for it.
    own_window: Option<JobId>,
    /// Holds that it has to go round where they overlap.
    heeded: FxHashSet<JobId>,
}

/// The holds of jobs that stand before one, and those that are being emptied.
fn heeded(state: &State, job: JobId, own_window: Option<JobId>) -> FxHashSet<JobId> {
    let mine = state.standing_of(job);
    let others = state.holds.iter().filter(|hold| hold.job != job && Some(hold.job) != own_window);
    let heeded = others.filter(|hold| state.standing_of(hold.job) < mine || state.is_being_emptied(hold));
    heeded.map(|hold| hold.job).collect()
}

/// Running work that is taken out for a trial.
type Gone = Vec<(JobId, ShapeIx, Arc<Placement>)>;

impl Search {
    /// Whether the job has to go round a hold.
    fn heeds(&self, hold: &Hold) -> bool {
        self.heeded.contains(&hold.job)
    }

    /// How long the job counts as being at work where a hold comes: a window is kept clear of all that it may still do.
    const fn span_before(&self, hold: &Hold) -> Duration {
        if hold.job.is_window() { self.limit } else { self.length }
    }

    /// Lays the holds that are in the way of a start at an instant, and lifts all others.
    fn meet(&self, state: &mut State, at: Timestamp) {
        let meets = |hold: &Hold| hold.overlaps(at, at.saturating_add(self.span_before(hold)));
        state.lay_holds(|hold| self.heeds(hold) && meets(hold));
    }

    /// When holds that the job has to go round are over, in order.
    fn hold_ends(&self, state: &State) -> Vec<Timestamp> {
        let over = |hold: &&Hold| hold.end != Timestamp::NEVER && hold.end > state.now() && self.heeds(hold);
        let mut ends: Vec<Timestamp> = state.holds.iter().filter(over).map(|hold| hold.end).collect();
        ends.sort_unstable();
        ends.dedup();
        ends
    }

    fn take_out(&self, state: &mut State, job: JobId, gone: &mut Gone) {
        let Some((shape, placement)) = running(state, job) else { return };
        state.vacate(shape, &placement);
        state.leave(job, &placement);
        gone.push((job, shape, placement));
    }

    fn put_back(&self, state: &mut State, gone: Gone) {
        for (job, shape, placement) in gone.iter().rev() {
            state.occupy(*shape, placement);
            state.enter(*job, placement);
        }
    }

    /// Places the job as the account stands, at an instant, and takes it out again.
    fn attempt(&self, state: &mut State, at: Timestamp) -> Option<Start> {
        let trial = place(state, self.shape_ix, &self.shape, self.job)?;
        let mut extra: BTreeMap<LimitIx, i64> = state.left_with(&self.shape, &trial).into_iter().collect();
        for hold in state.holds.iter().filter(|hold| hold.overlaps(at, at.saturating_add(Duration::from_millis(1)))) {
            if self.heeds(hold) {
                for (limit, draw) in hold.draw() {
                    extra.entry(*limit).and_modify(|left| *left -= draw);
                }
            }
        }
        state.vacate(self.shape_ix, &trial);
        Some((at, trial, extra.into_iter().collect()))
    }

    /// Tries when the window begins in which the job has to run, and as work in it ends.
    fn in_window(&self, state: &mut State, start: Timestamp, end: Timestamp) -> Option<Start> {
        let watch = state.capacity.pause_watch();
        let mut gone = Gone::new();
        let mut at = start.max(state.now());
        let mut last = (state.now(), JobId(u64::MAX));
        let mut found = None;
        while found.is_none() && at < end {
            let ended: Vec<_> = state.ends_after(last).take_while(|(ends, _)| *ends <= at).collect();
            last = ended.last().copied().unwrap_or(last);
            for (_, other) in ended {
                let meets = |(_, placement): (_, Arc<Placement>)| self.own_hold(state).map(|own| own.meets(&placement));
                if running(state, other).and_then(meets) == Some(true) {
                    self.take_out(state, other, &mut gone);
                }
            }
            self.meet(state, at);
            found = self.attempt(state, at);
            at = state.ends_after(last).next().map_or(end, |(ends, _)| ends);
        }
        self.put_back(state, gone);
        state.capacity.resume_watch(&watch);
        found
    }

    fn own_hold<'a>(&self, state: &'a State) -> Option<&'a Hold> {
        state.hold_of(self.own_window?)
    }

    /// Takes running work out end by end, and tries at each that could help.
    fn by_trying(&self, state: &mut State) -> Option<Start> {
        let watch = state.capacity.pause_watch();
        let mut gone = Gone::new();
        let mut found = None;
        let mut holds = self.hold_ends(state).into_iter().peekable();
        let mut last = (state.now(), JobId(u64::MAX));
        while found.is_none() {
            let next = state.ends_after(last).next();
            let hold = holds.next_if(|end| next.is_none_or(|(at, _)| *end <= at));
            let helps = match (hold, next) {
                (Some(_), _) => true,
                (None, Some((_, other))) => self.frees(state, other, &mut gone),
                (None, None) => break,
            };
            let at = match (hold, next) {
                (Some(at), _) => at,
                (None, next) => {
                    last = next.unwrap_or(last);
                    last.0
                }
            };
            if helps {
                self.meet(state, at);
                found = self.attempt(state, at);
            }
        }
        self.put_back(state, gone);
        state.capacity.resume_watch(&watch);
        found
    }

    /// Takes a running job out if it is on nodes that this one may use; whether what it gives back could help.
    fn frees(&self, state: &mut State, other: JobId, gone: &mut Gone) -> bool {
        let Some((_, placement)) = running(state, other) else { return false };
        let fleet = Arc::clone(state.fleet());
        let mut nodes: Vec<NodeIx> = placement.slots().flat_map(|slot| slot.nodes.numbers()).map(NodeIx).collect();
        if !nodes.iter().any(|node| kinds_of(&self.shape).any(|kind| kind == fleet.nodes[node.ix()].kind)) {
            return false;
        }
        self.take_out(state, other, gone);
        let is = |node: &NodeIx, why| state.capacity.is_withheld(*node, why);
        // One node of each stretch in one domain stands for the others.
        nodes.dedup_by_key(|node| {
            let like = fleet.nodes[node.ix()];
            (like.domain, like.kind, is(node, Withheld::Out), is(node, Withheld::Tenant))
        });
        // Where other tenants stay, only watts can have come free.
        let helps = |node: &NodeIx| match is(node, Withheld::Tenant) {
            true => state.capacity.is_under_a_cap(*node),
            false => self.shape.gangs.iter().any(|gang| could_help(&state.capacity, gang, *node)),
        };
        nodes.iter().any(helps)
    }

    /// Counts until some domain may have room, and tries there.
    fn by_counting(&self, state: &mut State, gang: &Request) -> Option<Start> {
        let mut count = Count::new(self, state, gang);
        let watch = state.capacity.pause_watch();
        let mut found = None;
        while found.is_none() {
            let Some((at, domain)) = count.next(state) else { break };
            self.meet(state, at);
            let mut gone = Gone::new();
            for job in count.left_from(state, domain) {
                self.take_out(state, job, &mut gone);
            }
            found = self.attempt(state, at);
            self.put_back(state, gone);
        }
        state.capacity.resume_watch(&watch);
        found
    }
}

fn running(state: &State, job: JobId) -> Option<(ShapeIx, Arc<Placement>)> {
    match &state.job(job)?.phase {
        Phase::Running { shape, placement, .. } => Some((*shape, Arc::clone(placement))),
        _ => None,
    }
}

/// Workers that would find whole chips, by domain, as time goes on.
struct Count<'a> {
    gang: &'a Request,
    level: LevelIx,
    /// Workers with room in each domain that has changed so far.
    workers: FxHashMap<DomainIx, u32>,
    /// Chips given back so far, by node.
    freed: FxHashMap<u32, u16>,
    /// Holds in the way, by node.
    kept: FxHashMap<u32, u32>,
    /// Running jobs whose ends have been counted, in order.
    ended: Vec<JobId>,
    /// The end that was counted last.
    last: (Timestamp, JobId),
    /// Holds that come to be in the way of a later start, and those that no longer are, the last first.
    turns: Vec<(Timestamp, Turn, JobId)>,
    /// Domains that gained room at the present instant.
    gained: Vec<(Timestamp, DomainIx)>,
}

/// How a hold changes with the time of the start.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Turn {
    /// It is over: it is in the way no more.
    Over,
    /// Whoever starts later than this does not end before it.
    Near,
}

impl<'a> Count<'a> {
    /// As of now, with the holds laid that are in the way of a start now.
    fn new(search: &Search, state: &State, gang: &'a Request) -> Self {
        let now = state.now();
        let mut turns = Vec::new();
        let mut kept = FxHashMap::default();
        for hold in state.holds.iter().filter(|hold| search.heeds(hold)) {
            let span = search.span_before(hold);
            if hold.overlaps(now, now.saturating_add(span)) {
                for node in hold.nodes.iter().flat_map(|range| range.numbers()) {
                    *kept.entry(node).or_default() += 1;
                }
            } else if let Some(near) = hold.start.as_millis().checked_sub(span.as_millis()) {
                turns.push((Timestamp::from_millis(near), Turn::Near, hold.job));
            }
            if hold.end != Timestamp::NEVER {
                turns.push((hold.end, Turn::Over, hold.job));
            }
        }
        turns.retain(|(at, ..)| *at >= now);
        turns.sort_unstable_by(|a, b| b.cmp(a));
        let level = gang.outer_level();
        Self {
            gang,
            level,
            workers: FxHashMap::default(),
            freed: FxHashMap::default(),
            kept,
            ended: Vec::new(),
            last: (now, JobId(u64::MAX)),
            turns,
            gained: Vec::new(),
        }
    }

    /// The next instant at which a domain gains room and may then have enough.
    fn next(&mut self, state: &State) -> Option<(Timestamp, DomainIx)> {
        loop {
            if let Some(gained) = self.gained.pop() {
                return Some(gained);
            }
            let end = state.ends_after(self.last).next();
            let turn = self.turns.last().copied();
            // Of one instant: holds that are over, then ends of work, then holds that come near.
            let turn = turn
                .filter(|(at, turn, _)| end.is_none_or(|(end, _)| *at < end || (*at == end && *turn == Turn::Over)));
            match (turn, end) {
                (Some((at, turn, job)), _) => {
                    self.turns.pop();
                    self.turn(state, at, turn, job);
                }
                (None, Some((at, job))) => {
                    self.last = (at, job);
                    self.end(state, at, job);
                }
                (None, None) => return None,
            }
        }
    }

    fn end(&mut self, state: &State, at: Timestamp, job: JobId) {
        let Some(Phase::Running { placement, .. }) = state.job(job).map(|work| &work.phase) else { return };
        self.ended.push(job);
        for slot in placement.slots() {
            let chips = slot.chips.count_ones() as u16;
            for node in slot.nodes.numbers() {
                // What is seen of a node with another tenant's work is nothing until that has gone.
                let unseen =
                    !self.freed.contains_key(&node) && state.capacity.is_withheld(NodeIx(node), Withheld::Tenant);
                let before = if unseen { 0 } else { self.workers_on(state, node) };
                *self.freed.entry(node).or_default() += chips;
                let after = self.workers_on(state, node);
                if after > before && !self.kept.contains_key(&node) {
                    self.change(state, at, node, before, after);
                }
            }
        }
    }

    fn turn(&mut self, state: &State, at: Timestamp, turn: Turn, job: JobId) {
        let Some(hold) = state.hold_of(job) else { return };
        for node in hold.nodes.iter().flat_map(|range| range.numbers()) {
            let room = self.workers_on(state, node);
            let keepers = self.kept.entry(node).or_default();
            match turn {
                Turn::Near => *keepers += 1,
                Turn::Over => *keepers -= 1,
            }
            match (turn, *keepers) {
                (Turn::Near, 1) => self.change(state, at, node, room, 0),
                (Turn::Over, 0) => {
                    self.kept.remove(&node);
                    self.change(state, at, node, 0, room);
                }
                _ => {}
            }
        }
    }

    /// A node has room for another number of workers.
    fn change(&mut self, state: &State, at: Timestamp, node: u32, before: u32, after: u32) {
        let Some(domain) = self.domain_of(state, node) else { return };
        let gang = self.gang;
        let workers = self.workers.entry(domain).or_insert_with(|| {
            let cells = gang.kinds.iter().filter_map(|(kind, _)| state.capacity.cell_of(domain, *kind));
            cells.map(|cell| state.capacity.room(cell, gang.whole_chips())).sum()
        });
        *workers = (*workers + after).saturating_sub(before);
        if after > before && *workers >= gang.workers && self.gained.last() != Some(&(at, domain)) {
            self.gained.push((at, domain));
        }
    }

    /// Workers for which a node has whole chips left, as far as work has ended.
    fn workers_on(&self, state: &State, node: u32) -> u32 {
        let free = &state.capacity.class_of(NodeIx(node)).vector;
        let may = self.gang.kinds.iter().any(|(kind, _)| *kind == free.kind);
        if !may || state.capacity.is_withheld(NodeIx(node), Withheld::Out) {
            return 0;
        }
        let most = state.capacity.empty(free.kind).whole;
        let whole = (free.whole + self.freed.get(&node).copied().unwrap_or_default()).min(most);
        u32::from(whole / self.gang.whole_chips())
    }

    /// The domain around a node that would hold all workers.
    fn domain_of(&self, state: &State, node: u32) -> Option<DomainIx> {
        let fleet = state.fleet();
        let mut domain = fleet.nodes[node as usize].domain;
        while fleet.domains[domain.ix()].level > self.level {
            domain = fleet.domains[domain.ix()].parent?;
        }
        (fleet.domains[domain.ix()].level == self.level).then_some(domain)
    }

    /// The running jobs that have left nodes of a domain which are kept for nobody.
    fn left_from(&self, state: &State, domain: DomainIx) -> Vec<JobId> {
        let within = state.fleet().domains[domain.ix()].nodes.clone();
        let gave = |job: &JobId| {
            running(state, *job).is_some_and(|(_, placement)| {
                let mut nodes = placement.slots().flat_map(|slot| slot.nodes.numbers());
                nodes.any(|node| within.contains(&node) && !self.kept.contains_key(&node))
            })
        };
        self.ended.iter().copied().filter(gave).collect()
    }
}
