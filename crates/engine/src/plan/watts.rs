//! The watts that caps leave as time goes on: all that ends under a cap gives back what it draws.

use std::collections::BTreeSet;

use offtake_fleet::{DomainIx, LevelIx, NodeIx, NodeKindIx};
use offtake_units::{Ppm, Timestamp};
use rustc_hash::FxHashMap;

use super::count::Count;
use crate::capacity::{Feed, Limit, LimitIx};
use crate::fact::JobId;
use crate::request::Request;
use crate::state::{Hold, State};
use crate::throttle::Throttle;

/// Watts for the gang as time goes on.
pub(super) struct Power {
    /// What is left under each limit, and what was given back so far, in millionths of a watt.
    pub(super) left: Vec<i64>,
    /// What holds in the way leave under a limit to work that meets them.
    pub(super) spared: BTreeSet<(LimitIx, i64, JobId)>,
    /// The outermost domains with a cap inside those that would hold all workers.
    pub(super) parts: FxHashMap<DomainIx, Part>,
    /// Limits that have enough since the last end of work.
    pub(super) enough: Vec<LimitIx>,
}

/// Workers in a capped part of a domain.
#[derive(Clone, Copy)]
pub(super) struct Part {
    /// With room.
    pub(super) workers: u32,
    /// With power, too.
    pub(super) powered: u32,
}

impl Count<'_> {
    /// Work that ends on a node gives back what it draws, a shared chip as if it were used alone.
    pub(super) fn give_back(&mut self, state: &State, node: NodeIx, (chips, throttle): (u16, Throttle)) {
        if self.power.is_none() {
            return;
        }
        if let Some(domain) = self.domain_of(state, node.0) {
            self.workers_in(state, domain);
        }
        let like = state.fleet().nodes[node.ix()];
        let draw = state.capacity.chip_draw_at(like.kind, throttle);
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
    pub(super) fn recount(&mut self, state: &State, part: DomainIx) {
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
    pub(super) fn gain_under(&mut self, state: &State, at: Timestamp, limit: LimitIx) {
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
}

impl Power {
    /// As of now, with no hold in the way; none where no cap can bind.
    pub(super) fn of(state: &State) -> Option<Self> {
        let limits = state.capacity.limits();
        limits.iter().any(Limit::can_bind).then(|| Self {
            left: limits.iter().map(Limit::left_micro).collect(),
            spared: BTreeSet::new(),
            parts: FxHashMap::default(),
            enough: Vec::new(),
        })
    }

    /// What work that meets the holds in the way may draw more under a limit.
    pub(super) fn left_to(&self, limit: LimitIx) -> i64 {
        let spared = self.spared.range((limit, i64::MIN, JobId(0))..).next().filter(|(of, ..)| *of == limit);
        spared.map_or(i64::MAX, |(_, most, _)| *most).min(self.left[limit.ix()]).max(0)
    }

    /// Workers that the caps directly on a domain can power at most.
    pub(super) fn workers(&self, state: &State, gang: &Request, domain: DomainIx) -> u32 {
        let own = state.capacity.around(domain).iter().take_while(|feed| feed.domain == domain);
        let most =
            own.filter_map(|feed| self.left_to(feed.limit).checked_div(drawn_by_one(state, gang, *feed, domain)));
        most.min().map_or(u32::MAX, |most| u32::try_from(most).unwrap_or(u32::MAX))
    }
}

/// What a hold leaves to others.
pub(super) fn spared(hold: &Hold) -> impl Iterator<Item = (LimitIx, i64, JobId)> {
    hold.leaves().map(|(limit, most)| (limit, most, hold.job))
}

/// The outermost domain around a node with a cap that can bind, inside that of a level.
pub(super) fn part_of(state: &State, node: u32, level: LevelIx) -> Option<DomainIx> {
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
pub(super) fn needed(state: &State, gang: &Request, feed: Feed, domain: DomainIx) -> i64 {
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
