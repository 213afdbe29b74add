//! When a blocked job can start if running work ends when it is expected to, and where.
//!
//! Candidates are found by *counting*: ends of running work are looked at in order, and per domain the workers that
//! would find whole chips there are added up; until they are enough in some domain nothing has to be tried. Only then
//! the work that leaves that domain is taken out, the job placed, and all put back. The same goes for watts, by cap: all
//! that ends under a cap gives back what it draws. Where chips and watts alone do not tell (parts of a chip, hosts,
//! several gangs, quota) running work is taken out end by end, and the job tried at each.
//!
//! Holds of jobs that stand before this one are in the way while they overlap; those of others are not.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::sync::Arc;

use offtake_fleet::{DomainIx, LevelIx, NodeIx, NodeKindIx};
use offtake_units::{Duration, Ppm, Timestamp};
use rustc_hash::{FxHashMap, FxHashSet};

use crate::capacity::{Feed, Limit, LimitIx, Withheld};
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
        [gang] if gang.whole_chips() > 0 && !state.waits_for_quota(job) => search.by_counting(state, gang),
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
            let mut gone = Gone::new();
            for job in count.that_matter(state, domain) {
                self.take_out(state, job, &mut gone);
            }
            self.meet(state, at);
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
    /// Domains that gained room or watts at the present instant.
    gained: Vec<(Timestamp, DomainIx)>,
    /// What caps leave; none where none can bind.
    power: Option<Power>,
}

/// Watts for the gang as time goes on.
struct Power {
    /// What is left under each limit, and what was given back so far, in millionths of a watt.
    left: Vec<i64>,
    /// What holds in the way leave under a limit to work that meets them.
    spared: BTreeSet<(LimitIx, i64, JobId)>,
    /// The outermost domains with a cap inside those that would hold all workers.
    parts: FxHashMap<DomainIx, Part>,
    /// Limits that have enough since the last end of work.
    enough: Vec<LimitIx>,
}

/// Workers in a capped part of a domain.
#[derive(Clone, Copy)]
struct Part {
    /// With room.
    workers: u32,
    /// With power, too.
    powered: u32,
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
        let limits = state.capacity.limits();
        let mut power = limits.iter().any(Limit::can_bind).then(|| Power {
            left: limits.iter().map(Limit::left_micro).collect(),
            spared: BTreeSet::new(),
            parts: FxHashMap::default(),
            enough: Vec::new(),
        });
        for hold in state.holds.iter().filter(|hold| search.heeds(hold)) {
            let span = search.span_before(hold);
            if hold.overlaps(now, now.saturating_add(span)) {
                for node in hold.nodes.iter().flat_map(|range| range.numbers()) {
                    *kept.entry(node).or_default() += 1;
                }
                power.iter_mut().for_each(|power| power.spared.extend(spared(hold)));
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
            power,
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
                self.give_back(state, NodeIx(node), chips);
                // What is seen of a node with another tenant's work is nothing until that has gone.
                let unseen =
                    !self.freed.contains_key(&node) && state.capacity.is_withheld(NodeIx(node), Withheld::Tenant);
                let before = if unseen { 0 } else { self.workers_on(state, node) };
                *self.freed.entry(node).or_default() += chips;
                let after = self.workers_on(state, node);
                if !self.kept.contains_key(&node) && (after > before || self.power.is_some()) {
                    self.change(state, at, node, before, after);
                }
            }
        }
        let enough = self.power.as_mut().map(|power| std::mem::take(&mut power.enough));
        enough.into_iter().flatten().for_each(|limit| self.gain_under(state, at, limit));
    }

    /// Work that ends on a node gives back what it draws, a shared chip as if it were used alone.
    fn give_back(&mut self, state: &State, node: NodeIx, chips: u16) {
        if self.power.is_none() {
            return;
        }
        if let Some(domain) = self.domain_of(state, node.0) {
            self.workers_in(state, domain);
        }
        let like = state.fleet().nodes[node.ix()];
        let draw = state.capacity.chip_draw(like.kind);
        for feed in state.capacity.around(like.domain) {
            let Some(power) = &mut self.power else { return };
            let limit = &state.capacity.limits()[feed.limit.ix()];
            if !limit.can_bind() {
                continue;
            }
            let left = &mut power.left[feed.limit.ix()];
            let before = *left;
            *left += limit.counted(draw).times(chips.into()).get() * i64::from(feed.factor.parts());
            // Of a draw in one of its domains a limit may count more than of one in another, and of one kind than of
            // another: what several kinds together need is not known before.
            let comes_to_do = |(domain, factor): &(DomainIx, Ppm)| {
                let feed = Feed { factor: *factor, domain: *domain, ..*feed };
                let needed = needed(state, self.gang, feed, *domain);
                needed <= *left && (before < needed || kinds_in(state, self.gang, *domain).nth(1).is_some())
            };
            if limit.domains.iter().any(comes_to_do) {
                power.enough.push(feed.limit);
            }
            limit.domains.iter().for_each(|(part, _)| self.recount(state, *part));
        }
    }

    /// A part of a domain has power for another number of workers.
    fn recount(&mut self, state: &State, part: DomainIx) {
        let (Some(power), gang) = (&mut self.power, self.gang) else { return };
        let Some(before) = power.parts.get(&part).copied() else { return };
        let now = Part { powered: before.workers.min(power.workers(state, gang, part)), ..before };
        power.parts.insert(part, now);
        let whole = self.domain_of(state, state.fleet().domains[part.ix()].nodes.start);
        if let Some(workers) = whole.and_then(|domain| self.workers.get_mut(&domain)) {
            *workers = (*workers + now.powered).saturating_sub(before.powered);
        }
    }

    /// A limit has watts that were not there before: every domain under it may have enough now.
    fn gain_under(&mut self, state: &State, at: Timestamp, limit: LimitIx) {
        let fleet = state.fleet();
        for (domain, _) in &state.capacity.limits()[limit.ix()].domains {
            let under = fleet.domains[domain.ix()].nodes.clone();
            // Of one level, they are in the order of their nodes.
            let at_level = fleet.domains_at(self.level);
            let before = fleet.domains[at_level.start as usize..at_level.end as usize]
                .partition_point(|domain| domain.nodes.end <= under.start);
            let rest = (at_level.start + before as u32..at_level.end).map(DomainIx);
            for domain in rest.take_while(|domain| fleet.domains[domain.ix()].nodes.start < under.end) {
                self.gain(state, at, domain);
            }
        }
    }

    fn turn(&mut self, state: &State, at: Timestamp, turn: Turn, job: JobId) {
        let Some(hold) = state.hold_of(job) else { return };
        if let Some(power) = &mut self.power {
            match turn {
                Turn::Near => power.spared.extend(spared(hold)),
                Turn::Over => spared(hold).for_each(|spared| _ = power.spared.remove(&spared)),
            }
            let limits = hold.leaves().map(|(limit, _)| &state.capacity.limits()[limit.ix()]);
            let parts: Vec<DomainIx> = limits.flat_map(|limit| &limit.domains).map(|(domain, _)| *domain).collect();
            parts.into_iter().for_each(|part| self.recount(state, part));
        }
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
        if turn == Turn::Over && self.power.is_some() {
            hold.leaves().for_each(|(limit, _)| self.gain_under(state, at, limit));
        }
    }

    /// A node has room for another number of workers.
    fn change(&mut self, state: &State, at: Timestamp, node: u32, before: u32, after: u32) {
        let Some(domain) = self.domain_of(state, node) else {
            // In no domain of the level, it would hold all by itself.
            if after >= self.gang.workers {
                self.gained.push((at, state.fleet().nodes[node as usize].domain));
            }
            return;
        };
        let workers = self.workers_in(state, domain);
        let part = self.power.as_mut().zip(part_of(state, node, self.level));
        match part.and_then(|(power, part)| Some((part, power.parts.get_mut(&part)?))) {
            Some((part, entry)) => {
                entry.workers = (entry.workers + after).saturating_sub(before);
                self.recount(state, part);
            }
            None => {
                self.workers.insert(domain, (workers + after).saturating_sub(before));
            }
        }
        if after > before || self.power.is_some() {
            self.gain(state, at, domain);
        }
    }

    /// A domain that has gained something is one to be tried if it may have enough.
    fn gain(&mut self, state: &State, at: Timestamp, domain: DomainIx) {
        let is_powered = |power: &Power| {
            let mut feeds = state.capacity.around(domain).iter();
            feeds.all(|feed| needed(state, self.gang, *feed, domain) <= power.left_to(feed.limit))
        };
        if self.workers_in(state, domain) >= self.gang.workers
            && self.gained.last() != Some(&(at, domain))
            && self.power.as_ref().is_none_or(is_powered)
        {
            self.gained.push((at, domain));
        }
    }

    /// Workers with room in a domain, and with power in each capped part of it.
    fn workers_in(&mut self, state: &State, domain: DomainIx) -> u32 {
        if let Some(workers) = self.workers.get(&domain) {
            return *workers;
        }
        let (capacity, gang) = (&state.capacity, self.gang);
        let room = |domain: DomainIx| -> u32 {
            let cells = gang.kinds.iter().filter_map(|(kind, _)| capacity.cell_of(domain, *kind));
            cells.map(|cell| capacity.room(cell, gang.whole_chips())).sum()
        };
        let mut workers = room(domain);
        if let Some(power) = &mut self.power {
            for feed in capacity.inside(domain) {
                let first = state.fleet().domains[feed.domain.ix()].nodes.start;
                if power.parts.contains_key(&feed.domain) || part_of(state, first, self.level) != Some(feed.domain) {
                    continue;
                }
                let inside = room(feed.domain);
                let powered = inside.min(power.workers(state, gang, feed.domain));
                power.parts.insert(feed.domain, Part { workers: inside, powered });
                workers = workers - inside + powered;
            }
        }
        self.workers.insert(domain, workers);
        workers
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

    /// Of the jobs that have ended those that have left nodes of a domain which are kept for nobody, or watts under a cap
    /// in it or around it.
    fn that_matter(&self, state: &State, domain: DomainIx) -> Vec<JobId> {
        let of = |domain: DomainIx| state.fleet().domains[domain.ix()].nodes.clone();
        let within = of(domain);
        let limits = state.capacity.around(domain).iter().map(|feed| &state.capacity.limits()[feed.limit.ix()]);
        let binding = limits.filter(|limit| limit.can_bind());
        let fed: Vec<Range<u32>> = binding.flat_map(|limit| &limit.domains).map(|(domain, _)| of(*domain)).collect();
        // What holds keep may still give back watts.
        let is_there = |node: u32| self.power.is_some() || !self.kept.contains_key(&node);
        let matters =
            |node: u32| (within.contains(&node) && is_there(node)) || fed.iter().any(|nodes| nodes.contains(&node));
        let gave = |job: &JobId| {
            running(state, *job)
                .is_some_and(|(_, placement)| placement.slots().flat_map(|slot| slot.nodes.numbers()).any(matters))
        };
        self.ended.iter().copied().filter(gave).collect()
    }
}

impl Power {
    /// What work that meets the holds in the way may draw more under a limit.
    fn left_to(&self, limit: LimitIx) -> i64 {
        let spared = self.spared.range((limit, i64::MIN, JobId(0))..).next().filter(|(of, ..)| *of == limit);
        spared.map_or(i64::MAX, |(_, most, _)| *most).min(self.left[limit.ix()]).max(0)
    }

    /// Workers that the caps directly on a domain can power at most.
    fn workers(&self, state: &State, gang: &Request, domain: DomainIx) -> u32 {
        let own = state.capacity.around(domain).iter().take_while(|feed| feed.domain == domain);
        let most =
            own.filter_map(|feed| self.left_to(feed.limit).checked_div(drawn_by_one(state, gang, *feed, domain)));
        most.min().map_or(u32::MAX, |most| u32::try_from(most).unwrap_or(u32::MAX))
    }
}

/// What a hold leaves to others.
fn spared(hold: &Hold) -> impl Iterator<Item = (LimitIx, i64, JobId)> {
    hold.leaves().map(|(limit, most)| (limit, most, hold.job))
}

/// The outermost domain around a node with a cap that can bind, inside that of a level.
fn part_of(state: &State, node: u32, level: LevelIx) -> Option<DomainIx> {
    let feeds = state.capacity.around(state.fleet().nodes[node as usize].domain);
    let is_inside = |feed: &&Feed| state.fleet().domains[feed.domain.ix()].level > level;
    let binding = |feed: &&Feed| state.capacity.limits()[feed.limit.ix()].can_bind();
    feeds.iter().take_while(is_inside).filter(binding).last().map(|feed| feed.domain)
}

/// The kinds that a gang may use in a domain.
fn kinds_in(state: &State, gang: &Request, domain: DomainIx) -> impl Iterator<Item = NodeKindIx> {
    let kinds = gang.kinds.iter().map(|(kind, _)| *kind);
    kinds.filter(move |kind| state.capacity.cell_of(domain, *kind).is_some())
}

/// What a gang that runs in a domain as a whole draws at least under a limit on it or around it, in millionths of a watt;
/// nothing where the limit can never bind.
fn needed(state: &State, gang: &Request, feed: Feed, domain: DomainIx) -> i64 {
    drawn_by_one(state, gang, feed, domain) * i64::from(gang.workers)
}

/// The same of one worker.
fn drawn_by_one(state: &State, gang: &Request, feed: Feed, domain: DomainIx) -> i64 {
    let limit = &state.capacity.limits()[feed.limit.ix()];
    if !limit.can_bind() {
        return 0;
    }
    let draws = kinds_in(state, gang, domain).map(|kind| limit.counted(state.capacity.chip_draw(kind)).get());
    draws.min().unwrap_or(0) * i64::from(gang.whole_chips()) * i64::from(feed.factor.parts())
}
