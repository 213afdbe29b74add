//! Counting: the workers that find whole chips in each domain as running work ends and holds come near or are over.

use std::ops::Range;

use offtake_fleet::{DomainIx, LevelIx, NodeIx};
use offtake_units::Timestamp;
use rustc_hash::FxHashMap;

use super::watts::{Part, Power, needed, part_of, spared};
use super::{Search, running};
use crate::capacity::Withheld;
use crate::fact::JobId;
use crate::request::Request;
use crate::state::{Phase, State};

/// Workers that would find whole chips, by domain, as time goes on.
pub(super) struct Count<'a> {
    pub(super) gang: &'a Request,
    pub(super) level: LevelIx,
    /// Workers with room in each domain that has changed so far.
    pub(super) workers: FxHashMap<DomainIx, u32>,
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
    pub(super) power: Option<Power>,
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
    pub(super) fn new(search: &Search, state: &State, gang: &'a Request) -> Self {
        let now = state.now();
        let mut turns = Vec::new();
        let mut kept = FxHashMap::default();
        let mut power = Power::of(state);
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
    pub(super) fn next(&mut self, state: &State) -> Option<(Timestamp, DomainIx)> {
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
                self.give_back(state, NodeIx(node), (chips, placement.throttle));
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
    pub(super) fn gain(&mut self, state: &State, at: Timestamp, domain: DomainIx) {
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
    pub(super) fn workers_in(&mut self, state: &State, domain: DomainIx) -> u32 {
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
    pub(super) fn workers_on(&self, state: &State, node: u32) -> u32 {
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
    pub(super) fn domain_of(&self, state: &State, node: u32) -> Option<DomainIx> {
        let fleet = state.fleet();
        let mut domain = fleet.nodes[node as usize].domain;
        while fleet.domains[domain.ix()].level > self.level {
            domain = fleet.domains[domain.ix()].parent?;
        }
        (fleet.domains[domain.ix()].level == self.level).then_some(domain)
    }

    /// Of the jobs that have ended those that have left nodes of a domain which are kept for nobody, or watts under a cap
    /// in it or around it.
    pub(super) fn that_matter(&self, state: &State, domain: DomainIx) -> Vec<JobId> {
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
