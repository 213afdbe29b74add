//! What caps can still power.

use std::collections::BTreeMap;
use std::ops::Range;

use offtake_fleet::{DomainIx, NodeIx, NodeKindIx};
use offtake_units::{ChipMilli, Watts};

use super::classes::{ClassIx, Draw};
use super::limits::{Feed, Limit, LimitIx};
use super::{Capacity, Take};
use crate::throttle::Throttle;

impl Capacity {
    /// Whether every cap on a domain and around it can power `count` more draws of this size.
    pub fn can_power(&self, domain: DomainIx, draw: Draw, count: u32) -> bool {
        let feeds = self.around[domain.ix()].iter();
        feeds.into_iter().all(|feed| self.limits[feed.limit.ix()].allowance(draw, feed.factor) >= count)
    }

    /// Whether every cap on a domain and around it could power `count` draws of this size if nothing else ran.
    pub fn could_power(&self, domain: DomainIx, draw: Draw, count: u32) -> bool {
        let feeds = self.around[domain.ix()].iter();
        feeds.into_iter().all(|feed| self.limits[feed.limit.ix()].allowance_when_idle(draw, feed.factor) >= count)
    }

    /// What `take` on each of `nodes` draws at most under each limit that can ever bind, in millionths of a watt, added
    /// to `sums`.
    pub fn add_draw(&self, nodes: Range<u32>, take: &Take, sums: &mut BTreeMap<LimitIx, i64>) {
        for run in self.alike(nodes) {
            let (more, count) = (self.draw_on(NodeIx(run.start), take), run.len() as i64);
            for feed in &self.around[self.fleet.nodes[run.start as usize].domain.ix()] {
                let limit = &self.limits[feed.limit.ix()];
                if limit.can_bind() {
                    let factor = i64::from(feed.factor.parts());
                    *sums.entry(feed.limit).or_default() += limit.counted(more).get() * factor * count;
                }
            }
        }
    }

    /// Nodes in runs of one kind in one domain each: under every limit they draw alike.
    fn alike(&self, nodes: Range<u32>) -> impl Iterator<Item = Range<u32>> {
        let fleet = &self.fleet.nodes[nodes.start as usize..nodes.end as usize];
        let mut start = nodes.start;
        fleet.chunk_by(|a, b| a == b).map(move |run| {
            let from = start;
            start += run.len() as u32;
            from..start
        })
    }

    /// The same under one limit.
    pub fn draw_under(&self, limit: LimitIx, nodes: Range<u32>, take: &Take) -> i64 {
        let of = &self.limits[limit.ix()];
        // Over all nodes of one kind in the one domain of a limit the account is short.
        if let ([(domain, factor)], None) = (of.domains.as_slice(), take.share)
            && let [cell] = self.cells_in(*domain)
        {
            let under = &self.fleet.domains[domain.ix()].nodes;
            let count = nodes.end.min(under.end).saturating_sub(nodes.start.max(under.start));
            let chip = self.chip_draw_at(self.cells[cell.ix()].kind, take.throttle);
            let chips = i64::from(count) * i64::from(take.whole());
            return of.counted(chip).get() * i64::from(factor.parts()) * chips;
        }
        let drawn = |run: Range<u32>| {
            let feeds = self.around[self.fleet.nodes[run.start as usize].domain.ix()].iter();
            let factors: i64 =
                feeds.filter(|feed| feed.limit == limit).map(|feed| i64::from(feed.factor.parts())).sum();
            if factors == 0 {
                return 0;
            }
            of.counted(self.draw_on(NodeIx(run.start), take)).get() * factors * run.len() as i64
        };
        self.alike(nodes).map(drawn).sum()
    }

    /// What `take` on each of `nodes` can be made to draw, in all.
    pub fn enforceable(&self, nodes: Range<u32>, take: &Take) -> Watts {
        let drawn = |run: Range<u32>| self.draw_on(NodeIx(run.start), take).enforceable.get() * run.len() as i64;
        Watts::new(self.alike(nodes).map(drawn).sum())
    }

    /// What `take` on a node draws at most.
    fn draw_on(&self, node: NodeIx, take: &Take) -> Draw {
        match take.share {
            None => self.chip_draw_at(self.fleet.nodes[node.ix()].kind, take.throttle).times(take.whole().into()),
            Some(share) => self.more_draw(self.class_ix(node), 0, Some((share, ChipMilli::WHOLE))),
        }
    }

    /// Limits on a domain and around it, from the inside out.
    pub fn around(&self, domain: DomainIx) -> &[Feed] {
        &self.around[domain.ix()]
    }

    /// Limits on domains inside a domain.
    pub fn inside(&self, domain: DomainIx) -> &[Feed] {
        &self.inside[domain.ix()]
    }

    /// Whether a limit that can ever bind lies directly on a domain.
    pub(super) fn is_capped(&self, domain: DomainIx) -> bool {
        self.on_domain[domain.ix()].iter().any(|feed| self.limits[feed.limit.ix()].can_bind())
    }

    /// Whether a node lies under a limit.
    pub fn is_under(&self, node: NodeIx, limit: LimitIx) -> bool {
        self.around[self.fleet.nodes[node.ix()].domain.ix()].iter().any(|feed| feed.limit == limit)
    }

    /// Whether a node lies under a limit that can ever bind.
    pub fn is_under_a_cap(&self, node: NodeIx) -> bool {
        let mut feeds = self.around[self.fleet.nodes[node.ix()].domain.ix()].iter();
        feeds.any(|feed| self.limits[feed.limit.ix()].can_bind())
    }

    /// Whether a cap directly on a domain leaves no power for one more chip of some kind in it.
    pub fn is_at_cap(&self, domain: DomainIx) -> bool {
        self.on_domain[domain.ix()].iter().any(|feed| {
            self.cells_in(domain).iter().any(|cell| {
                let draw = self.chip_draw(self.cells[cell.ix()].kind);
                self.limits[feed.limit.ix()].allowance(draw, feed.factor) == 0
            })
        })
    }

    /// Whether a cap directly on a domain lets it give fewer nodes than it has wholly free.
    pub fn is_held_back(&self, domain: DomainIx) -> bool {
        self.cells_in(domain).iter().any(|cell| self.usable[cell.ix()] < self.cells[cell.ix()].free)
    }

    /// A limit that cannot power `chips` more chips of a kind at work.
    pub fn tight_limit(&self, kind: NodeKindIx, chips: u32) -> Option<LimitIx> {
        let draw = self.chip_draw(kind);
        let is_tight = |limit: &Limit| {
            let on_kind = |domain: &DomainIx| self.cell_of(*domain, kind).is_some();
            limit.domains.iter().any(|(domain, factor)| on_kind(domain) && limit.allowance(draw, *factor) < chips)
        };
        let place = self.limits.iter().position(|limit| limit.can_bind() && is_tight(limit))?;
        Some(LimitIx(place as u32))
    }

    /// The draw of one chip of a kind at work.
    pub fn chip_draw(&self, kind: NodeKindIx) -> Draw {
        self.kinds[kind.ix()].chip_draw
    }

    /// The same of a chip that is throttled so far.
    pub fn chip_draw_at(&self, kind: NodeKindIx, throttle: Throttle) -> Draw {
        if throttle.is_paused() {
            return Draw::default();
        }
        let index = &self.kinds[kind.ix()];
        throttle.of(&index.throttled).copied().unwrap_or(index.chip_draw)
    }

    /// The first limit, from the innermost domain out, that cannot power `more` on a node.
    pub fn refusal(&self, node: NodeIx, more: Draw) -> Option<Feed> {
        let feeds = &self.around[self.fleet.nodes[node.ix()].domain.ix()];
        feeds.iter().find(|feed| self.limits[feed.limit.ix()].allowance(more, feed.factor) == 0).copied()
    }

    /// What a class's nodes draw more once `whole` chips, or `share` of a chip that has `level` left, are at work.
    pub fn more_draw(&self, class: ClassIx, whole: u16, share: Option<(ChipMilli, ChipMilli)>) -> Draw {
        let entry = self.classes.get(class);
        let chip = self.kinds[entry.vector.kind.ix()].chip_draw;
        let Some((share, level)) = share else {
            return chip.times(whole.into());
        };
        let scale = i64::from(ChipMilli::WHOLE.get());
        let drawn = |used: i64| (chip.expected.get() * used + scale - 1).div_euclid(scale);
        let used = scale - i64::from(level.get());
        let fresh = level == ChipMilli::WHOLE;
        Draw {
            expected: Watts::new(drawn(used + i64::from(share.get())) - drawn(used)),
            enforceable: if fresh { chip.enforceable } else { Watts::ZERO },
        }
    }
}
