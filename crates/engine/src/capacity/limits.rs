//! Caps as running accounts: what is drawn under each, and how much more each can power.

use offtake_fleet::{CapKind, Cooling, DomainIx, Fleet};
use offtake_units::{Ppm, Watts};
use serde::{Deserialize, Serialize};

use super::classes::Draw;

/// Power in millionths of a watt: watts times a share in parts per million, exactly.
type MicroWatts = i64;

const PER_WATT: MicroWatts = 1_000_000;

/// Position of a limit; the same as its cap's in the fleet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct LimitIx(pub u32);

impl LimitIx {
    /// The position in a table by limit.
    pub const fn ix(self) -> usize {
        self.0 as usize
    }
}

/// A limit on a domain, with the share of the domain's draw that it counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Feed {
    /// The limit.
    pub limit: LimitIx,
    /// The domain that it lies on.
    pub domain: DomainIx,
    /// Share of the domain's IT draw that comes under it, PUE included; not so where the limit counts cooling as it is.
    pub factor: Ppm,
}

/// One cap's account. It is kept in what is drawn at the servers where the cap is at the grid connection of a site whose
/// cooling follows their load; in what the meter shows where that is in proportion.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limit {
    capacity: MicroWatts,
    /// What its meter may show.
    allows: Watts,
    /// The most that it can come to allow by what the fleet declares, whatever it has been set to since.
    declared: MicroWatts,
    /// The least that it is known to allow some day.
    lowest: MicroWatts,
    used: MicroWatts,
    /// How far it is over its capacity without anything having been added: the capacity fell.
    excess: MicroWatts,
    /// What it carries without any work.
    idle: MicroWatts,
    /// What it would carry with every chip at work.
    full: MicroWatts,
    /// What work that outlasts a hold may still add, where a hold needs power under the limit.
    extra: Option<MicroWatts>,
    kind: CapKind,
    /// The cooling beside the servers' draw where that is counted as it is, and what heat makes of it now.
    cooling: Option<Box<(Cooling, Ppm)>>,
    /// The topmost domains under it.
    pub domains: Vec<(DomainIx, Ppm)>,
}

impl Limit {
    /// The part of a draw that this limit counts.
    pub const fn counted(&self, draw: Draw) -> Watts {
        match self.kind {
            CapKind::Contract => draw.expected,
            CapKind::Breaker => draw.enforceable,
        }
    }

    /// How many further draws of this size, times the factor, the limit can power.
    pub fn allowance(&self, draw: Draw, factor: Ppm) -> u32 {
        self.count_in(self.left_for_more(), draw, factor)
    }

    /// How many draws of this size, times the factor, the limit could power if nothing else ran. A capacity that is set
    /// lower than declared may rise again.
    pub fn allowance_when_idle(&self, draw: Draw, factor: Ppm) -> u32 {
        self.count_in(self.capacity.max(self.declared) - self.idle, draw, factor)
    }

    fn count_in(&self, left: MicroWatts, draw: Draw, factor: Ppm) -> u32 {
        let each = self.counted(draw).get() * i64::from(factor.parts());
        if each <= 0 {
            return u32::MAX;
        }
        if left < each { 0 } else { u32::try_from(left / each).unwrap_or(u32::MAX) }
    }

    /// Whether it can ever bind.
    pub fn can_bind(&self) -> bool {
        self.full > self.capacity.min(self.lowest)
    }

    /// Whether it is exceeded by more than what was there already when its capacity fell.
    pub const fn is_breached(&self) -> bool {
        self.used > self.capacity + self.excess
    }

    /// What it allows now.
    pub const fn capacity(&self) -> Watts {
        self.allows
    }

    /// The same as the account counts it, in millionths of a watt.
    pub const fn capacity_micro(&self) -> i64 {
        self.capacity
    }

    /// Sets what it allows from now on. What is over it then was not added.
    pub fn set_capacity(&mut self, watts: Watts) {
        self.allows = Watts::new(watts.get().clamp(0, MicroWatts::MAX / PER_WATT));
        self.capacity = self.counted_of(self.allows);
        self.accept();
    }

    /// Sets what heat makes of the cooling that it counts: it allows as much as before at its meter.
    pub fn set_heat(&mut self, factor: Ppm) {
        if let Some(cooling) = &mut self.cooling {
            cooling.1 = factor;
            self.set_capacity(self.allows);
        }
    }

    /// As the account counts it where the meter shows so much.
    fn counted_of(&self, watts: Watts) -> MicroWatts {
        let counted = match self.cooling.as_deref() {
            Some((cooling, factor)) => cooling.it_under(watts, *factor),
            None => watts,
        };
        counted.get() * PER_WATT
    }

    /// What the meter shows of what is counted, in watts, rounded up.
    fn shown(&self, counted: MicroWatts) -> Watts {
        let counted = whole_up(counted);
        match self.cooling.as_deref() {
            Some((cooling, factor)) => cooling.facility(counted, *factor),
            None => counted,
        }
    }

    /// Whether it could ever bind if it allowed so much.
    pub fn would_bind(&self, watts: Watts) -> bool {
        self.full > self.counted_of(watts)
    }

    /// Some day it allows no more than this; none where nothing is known of such a day.
    pub fn set_lowest(&mut self, watts: Option<Watts>) {
        self.lowest = watts.map_or(MicroWatts::MAX, |watts| self.counted_of(watts));
    }

    /// What would be left now if it allowed so much, in millionths of a watt.
    pub fn left_of(&self, watts: Watts) -> i64 {
        self.counted_of(watts) - self.used
    }

    /// What would be left without any work if it allowed so much, in millionths of a watt.
    pub fn left_when_idle(&self, watts: Watts) -> i64 {
        self.counted_of(watts) - whole_up(self.idle).get() * PER_WATT
    }

    /// What is drawn under it without any work, in watts, rounded up.
    pub fn idle(&self) -> Watts {
        self.shown(self.idle)
    }

    /// What its meter shows where so much more is counted than it allows, in watts, rounded up.
    pub fn shown_over(&self, micro: i64) -> Watts {
        self.shown(self.capacity + micro)
    }

    /// Takes what is drawn under it as it is.
    pub fn accept(&mut self) {
        self.excess = self.over();
    }

    fn over(&self) -> MicroWatts {
        (self.used - self.capacity).max(0)
    }

    /// How far it is over without anything having been added, in millionths of a watt.
    pub const fn excess(&self) -> i64 {
        self.excess
    }

    /// Sets that back to what it was before work was taken out and put back.
    pub const fn set_excess(&mut self, excess: i64) {
        self.excess = excess;
    }

    /// What it carries now, in watts, rounded up.
    pub fn load(&self) -> Watts {
        self.shown(self.used)
    }

    /// Books a change of draw; until the work is known to end before a hold begins, it counts as outlasting it.
    pub fn add(&mut self, watts: i64, factor: Ppm) {
        let more = watts * i64::from(factor.parts());
        self.used += more;
        self.excess = self.excess.min(self.over());
        self.extra = self.extra.map(|extra| extra - more);
    }

    /// What is left now to work that no hold makes room for, in millionths of a watt.
    pub fn left_for_more(&self) -> i64 {
        self.extra.map_or(self.left_micro(), |extra| self.left_micro().min(extra))
    }

    /// What is left now, in millionths of a watt, holds aside.
    pub const fn left_micro(&self) -> i64 {
        self.capacity - self.used
    }

    /// What work that outlasts a hold may still add, in millionths of a watt.
    pub const fn extra(&self) -> Option<i64> {
        self.extra
    }

    /// Sets what work that outlasts a hold may still add, in millionths of a watt.
    pub const fn set_extra(&mut self, extra: Option<i64>) {
        self.extra = extra;
    }
}

/// The limits of a fleet with every powered node idle, and for each domain those that lie directly on it.
pub fn open_accounts(fleet: &Fleet) -> (Vec<Limit>, Vec<Vec<Feed>>) {
    let mut on_domain = vec![Vec::new(); fleet.domains.len()];
    let mut limits = Vec::with_capacity(fleet.caps.len());
    for (index, cap) in fleet.caps.iter().enumerate() {
        let domains: Vec<(DomainIx, Ppm)> = fleet
            .limited_by(cap.target)
            .into_iter()
            .map(|(domain, share)| (domain, product_up(share, fleet.counted_per_watt(cap, domain))))
            .collect();
        let (mut used, mut full) = (0, 0);
        for (domain, factor) in &domains {
            on_domain[domain.ix()].push(Feed { limit: LimitIx(index as u32), domain: *domain, factor: *factor });
            let range = &fleet.domains[domain.ix()].nodes;
            for node in &fleet.nodes[range.start as usize..range.end as usize] {
                let kind = fleet.kind(*node);
                let accelerator = fleet.accelerator(kind);
                let chips = i64::from(kind.chips);
                let idle = kind.base.get() + accelerator.map_or(0, |chip| chip.idle.get() * chips);
                let busy = accelerator.map_or(0, |chip| match cap.kind {
                    CapKind::Contract => (chip.operating.get() - chip.idle.get()) * chips,
                    CapKind::Breaker => (chip.peak.get() - chip.idle.get()) * chips,
                });
                used += idle * i64::from(factor.parts());
                full += (idle + busy) * i64::from(factor.parts());
            }
        }
        let mut limit = Limit {
            capacity: 0,
            allows: Watts::ZERO,
            declared: 0,
            lowest: MicroWatts::MAX,
            used,
            excess: 0,
            idle: used,
            full,
            extra: None,
            kind: cap.kind,
            cooling: fleet.cooling_under(cap).map(|cooling| Box::new((cooling.clone(), cooling.coolest()))),
            domains,
        };
        limit.declared = limit.counted_of(cap.watts);
        limit.set_capacity(cap.watts);
        if let Some(cooling) = fleet.cooling_under(cap) {
            limit.set_heat(cooling.factor(None));
        }
        limits.push(limit);
    }
    (limits, on_domain)
}

/// Millionths of a watt in watts, rounded up.
const fn whole_up(micro: MicroWatts) -> Watts {
    Watts::new(micro.div_euclid(PER_WATT) + (micro.rem_euclid(PER_WATT) != 0) as i64)
}

fn product_up(a: Ppm, b: Ppm) -> Ppm {
    let product = u64::from(a.parts()) * u64::from(b.parts());
    Ppm::new(u32::try_from(product.div_ceil(1_000_000)).unwrap_or(u32::MAX))
}
