//! Placement: a shape gets all of its workers, or nothing changes.
//!
//! A gang of several workers that must stay together takes whole nodes from the fullest domain that still fits, then
//! descends and does so again. What does not fill a node, and single workers, go to the node that the policy's packing
//! scores best; nodes with the same free vector are scored once.
//!
//! Slots lie in the order of their nodes, which is that of the domains: who goes through them rank by rank has neighbours
//! in rank as neighbours in the network.

mod groups;
mod slices;
mod spares;

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use offtake_fleet::{AcceleratorKindIx, DomainIx, Fleet, LevelIx, NodeIx, NodeKindIx};
use offtake_units::ChipMilli;
use offtake_workload::rng::Rng;
use offtake_workload::{ChipRequest, Strength};
use serde::{Deserialize, Serialize};

use crate::capacity::{Capacity, CellIx, ClassIx, FreeVector, Withheld, low_bits};
use crate::fact::{JobId, NodeRange, Placement, Slot};
use crate::policy::{Mix, Packing, Policy, Scored, random};
use crate::request::{Request, Shape};
use crate::tenants::Footprint;

/// Position of a shape among all that were ever asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ShapeIx(pub u32);

impl ShapeIx {
    /// The position in a table by shape.
    pub const fn ix(self) -> usize {
        self.0 as usize
    }
}

/// Scores of classes for the single worker of a shape, and what the classes are worth by themselves, so that each is
/// computed once.
#[derive(Clone, Debug, Default)]
pub struct Scores {
    by_shape: Vec<Vec<Option<(u32, Scored)>>>,
    values: Vec<Option<(u32, i64)>>,
}

impl Scores {
    fn known(&self, shape: ShapeIx, class: ClassIx, generation: u32) -> Option<Scored> {
        match self.by_shape.get(shape.ix())?.get(class.ix())? {
            Some((of, scored)) if *of == generation => Some(*scored),
            _ => None,
        }
    }

    fn keep(&mut self, shape: ShapeIx, class: ClassIx, generation: u32, scored: Scored) {
        if self.by_shape.len() <= shape.ix() {
            self.by_shape.resize_with(shape.ix() + 1, Vec::new);
        }
        put(&mut self.by_shape[shape.ix()], class, (generation, scored));
    }

    fn value(&mut self, class: ClassIx, generation: u32, value: impl FnOnce() -> i64) -> i64 {
        match self.values.get(class.ix()) {
            Some(Some((of, value))) if *of == generation => *value,
            _ => {
                let value = value();
                put(&mut self.values, class, (generation, value));
                value
            }
        }
    }

    /// Forgets all scores: what they depend on has changed.
    pub fn clear(&mut self) {
        self.by_shape.clear();
        self.values.clear();
    }
}

fn put<T: Clone>(classes: &mut Vec<Option<T>>, class: ClassIx, item: T) {
    if classes.len() <= class.ix() {
        classes.resize(class.ix() + 1, None);
    }
    classes[class.ix()] = Some(item);
}

/// A node that could be taken; the least is the best, its fields in the order of their weight.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Candidate {
    score: i64,
    /// From the node at which equal scores begin, upwards and around.
    distance: u32,
    node: u32,
    class: ClassIx,
    level: ChipMilli,
}

/// Thousandths of chips that a job may take, by accelerator kind; of none, any number.
#[derive(Clone, Debug, Default)]
pub struct Allowance(Vec<u64>);

impl Allowance {
    /// Of each kind so many.
    pub fn of(kinds: impl Iterator<Item = u64>) -> Self {
        let left: Vec<u64> = kinds.collect();
        Self(if left.iter().all(|milli| *milli == u64::MAX) { Vec::new() } else { left })
    }

    /// Of some kinds any number, of the others what it was.
    pub fn without_bound(mut self, of: impl Fn(AcceleratorKindIx) -> bool) -> Self {
        for (kind, left) in (0..).map(AcceleratorKindIx).zip(&mut self.0) {
            if of(kind) {
                *left = u64::MAX;
            }
        }
        self
    }

    /// A gang on those of its kinds of which enough is left.
    fn narrow<'g>(&self, gang: &'g Request, fleet: &Fleet) -> Cow<'g, Request> {
        let needed = gang.chip_milli();
        let allowed = |kind: &(NodeKindIx, u32)| {
            let accelerator = fleet.node_kinds[kind.0.ix()].accelerator;
            accelerator.and_then(|ix| self.0.get(ix.ix())).is_none_or(|left| *left >= needed)
        };
        if needed == 0 || gang.kinds.iter().all(allowed) {
            return Cow::Borrowed(gang);
        }
        let kinds = gang.kinds.iter().copied().filter(allowed).collect();
        Cow::Owned(Request { kinds, ..gang.clone() })
    }

    fn spend(&mut self, gang: &Request, slots: &[Slot], fleet: &Fleet) {
        if self.0.is_empty() {
            return;
        }
        let mut footprint = Footprint::default();
        footprint.take(gang, slots, fleet);
        for (kind, milli) in footprint.chips {
            if let Some(left) = self.0.get_mut(kind.ix()) {
                *left = left.saturating_sub(milli);
            }
        }
    }
}

/// One attempt to place a job.
pub struct Placing<'a> {
    /// Where it is placed; holds the placement once it succeeded.
    pub capacity: &'a mut Capacity,
    /// By what rule.
    pub policy: &'a Policy,
    /// Known scores.
    pub scores: &'a mut Scores,
    /// What has been asked for so far.
    pub mix: &'a Mix,
    /// The job, for what is drawn at random.
    pub job: JobId,
    /// What its tenant's quota leaves to it.
    allowance: Allowance,
    /// The shape whose scores are kept: one of a single worker, which are the many.
    scored: Option<ShapeIx>,
    /// Where the job draws from, once it does.
    random: Option<Rng>,
    /// Workers by node of the gang that is being placed, where it limits them.
    on_node: BTreeMap<u32, u32>,
    /// The domain in which all must lie; none for the whole fleet.
    inside: Option<DomainIx>,
}

/// Where a worker may go: anywhere, or the nodes of one domain.
type Within = Option<DomainIx>;

impl<'a> Placing<'a> {
    /// An attempt for one job.
    pub fn new(
        capacity: &'a mut Capacity,
        policy: &'a Policy,
        scores: &'a mut Scores,
        mix: &'a Mix,
        job: JobId,
        allowance: Allowance,
    ) -> Self {
        let (scored, random, on_node, inside) = (None, None, BTreeMap::new(), None);
        Self { capacity, policy, scores, mix, job, allowance, scored, random, on_node, inside }
    }

    /// The same attempt, with all workers in one domain.
    pub fn inside(self, domain: DomainIx) -> Self {
        Self { inside: Some(domain), ..self }
    }

    /// Places all gangs of a shape and occupies their nodes, or changes nothing.
    pub fn place(&mut self, shape_ix: ShapeIx, shape: &Shape) -> Option<Placement> {
        self.scored = (shape.gangs.len() == 1 && shape.gangs[0].workers == 1).then_some(shape_ix);
        self.place_gangs(shape)
    }

    /// The same for a shape that has no position.
    pub fn place_unscored(&mut self, shape: &Shape) -> Option<Placement> {
        self.scored = None;
        self.place_gangs(shape)
    }

    fn place_gangs(&mut self, shape: &Shape) -> Option<Placement> {
        let mut placement = Placement { gangs: Vec::with_capacity(shape.gangs.len()), ..Placement::default() };
        for gang in &shape.gangs {
            let mut slots = Vec::new();
            let gang = self.allowance.narrow(gang, self.capacity.fleet());
            let placed = self.place_gang(&gang, &mut slots);
            self.offer_full();
            if placed {
                self.allowance.spend(&gang, &slots, self.capacity.fleet());
                placement.gangs.push(slots);
            } else {
                debug_assert!(slots.is_empty(), "a gang that does not fit leaves nothing behind");
                for (slots, gang) in placement.gangs.iter().zip(&shape.gangs) {
                    self.release(gang, slots);
                }
                return None;
            }
        }
        if shape.gangs.iter().any(|gang| gang.spares > 0) {
            let fleet = self.capacity.fleet();
            let gangs = shape.gangs.iter().zip(&placement.gangs);
            placement.spares = gangs.map(|(gang, slots)| spares::of(fleet, gang, slots)).collect();
        }
        Some(placement)
    }

    /// Places one gang by itself and occupies its nodes, or changes nothing.
    pub fn place_alone(&mut self, gang: &Request) -> Option<Vec<Slot>> {
        let mut slots = Vec::new();
        self.scored = None;
        let gang = self.allowance.narrow(gang, self.capacity.fleet());
        let placed = self.place_gang(&gang, &mut slots);
        self.offer_full();
        placed.then_some(slots)
    }

    fn release(&mut self, gang: &Request, slots: &[Slot]) {
        slots.iter().for_each(|slot| self.capacity.vacate(slot.nodes.numbers(), &gang.take(slot.workers, slot.chips)));
    }

    fn place_gang(&mut self, gang: &Request, slots: &mut Vec<Slot>) -> bool {
        if let Some(sides) = gang.slice {
            let placed = self.place_slice(gang, sides, slots);
            in_order(slots);
            return placed;
        }
        if gang.workers == 1 {
            return self.pack(gang, 1, self.inside, slots);
        }
        let (innermost, outermost) = match gang.topology {
            None => (0, 0),
            Some((level, Strength::Required)) => (level.0, level.0),
            Some((level, Strength::Preferred)) => (level.0, gang.widest.0),
        };
        let least = self.inside.map_or(0, |domain| self.capacity.fleet().domains[domain.ix()].level.0);
        let placed = (outermost.max(least)..=innermost.max(least))
            .rev()
            .map(LevelIx)
            .any(|level| self.place_whole_nodes(gang, level, slots) || self.place_anywhere(gang, level, slots));
        in_order(slots);
        placed
    }

    /// Fills whole nodes of the fullest domain at a level; the workers that do not fill one go to any node there.
    fn place_whole_nodes(&mut self, gang: &Request, level: LevelIx, slots: &mut Vec<Slot>) -> bool {
        if gang.whole_chips() == 0 {
            return false;
        }
        for (kind, per_node) in &gang.kinds {
            if gang.groups.is_some_and(|(group, _)| !per_node.is_multiple_of(group)) {
                if self.place_whole_groups(gang, *kind, *per_node, level, slots) {
                    return true;
                }
                continue;
            }
            let (full, rest) = (gang.workers / per_node, gang.workers % per_node);
            let needs = if rest == 0 { full..=full } else { full..=full + 1 };
            for need in needs.filter(|need| *need > 0) {
                let Some(cell) = self.fullest_where(*kind, level, need, |_| true) else { break };
                if self.take_nodes(cell, full, gang, *per_node, slots)
                    && (rest == 0 || {
                        let domain = self.capacity.cell(cell).domain;
                        self.pack(gang, rest, Some(domain), slots)
                    })
                {
                    return true;
                }
                self.undo(gang, slots);
            }
        }
        false
    }

    /// The fullest cell that will do, in the domain that the attempt is for.
    fn fullest_where(
        &self,
        kind: NodeKindIx,
        level: LevelIx,
        need: u32,
        will_do: impl Fn(CellIx) -> bool,
    ) -> Option<CellIx> {
        let nodes = self.inside.map(|domain| self.capacity.fleet().domains[domain.ix()].nodes.clone());
        self.capacity.fullest_where(kind, level, need, nodes, will_do)
    }

    fn undo(&mut self, gang: &Request, slots: &mut Vec<Slot>) {
        self.release(gang, slots);
        slots.clear();
        self.offer_full();
    }

    /// Occupies what a gang takes of nodes, and withholds those that may take no more of it.
    fn occupy(&mut self, gang: &Request, nodes: Range<u32>, workers: u32, chips: u64) {
        self.capacity.occupy(nodes.clone(), &gang.take(workers, chips));
        let Some(most) = gang.per_node else { return };
        for node in nodes {
            let here = self.on_node.entry(node).or_default();
            *here += workers;
            // Where workers do not come one by one they come together, as many as fit at once.
            if *here >= most || !gang.one_by_one() {
                self.capacity.withhold(NodeIx(node), Withheld::Full);
            }
        }
    }

    /// Offers nodes to other gangs that may take no more of the one that was being placed.
    fn offer_full(&mut self) {
        for node in std::mem::take(&mut self.on_node).into_keys() {
            self.capacity.offer(NodeIx(node), Withheld::Full);
        }
    }

    /// Takes `count` whole nodes of a cell: all from one child if one can give them, otherwise from the children that
    /// can give the most.
    fn take_nodes(&mut self, cell: CellIx, count: u32, gang: &Request, per_node: u32, slots: &mut Vec<Slot>) -> bool {
        let mut left = count;
        if self.capacity.cell(cell).children.start < self.capacity.cell(cell).children.end {
            while left > 0 {
                let child = self.capacity.descend(cell, left);
                let given = self.capacity.usable(child).min(left);
                if given == 0 || !self.take_nodes(child, given, gang, per_node, slots) {
                    return false;
                }
                left -= given;
            }
            return true;
        }
        let kind = self.capacity.cell(cell).kind;
        let chips = low_bits(per_node as u16 * gang.whole_chips());
        let mut nodes = self.capacity.nodes_of(cell);
        while left > 0 {
            let Some(first) = self.capacity.first_free(kind, nodes.clone()) else { return false };
            let most = (first + left).min(nodes.end);
            let end = (first + 1..most).find(|node| !self.capacity.is_free(kind, *node)).unwrap_or(most);
            self.occupy(gang, first..end, per_node, chips);
            let nodes_taken = NodeRange { first: NodeIx(first), count: end - first };
            Slot { nodes: nodes_taken, workers: per_node, chips }.join(slots);
            left -= end - first;
            nodes.start = end;
        }
        true
    }

    /// Puts `workers` workers together on the node in `nodes` that scores best.
    fn pack(&mut self, gang: &Request, workers: u32, within: Within, slots: &mut Vec<Slot>) -> bool {
        let Some((node, level)) = self.best_node(gang, workers, within) else { return false };
        let chips = match gang.chips {
            ChipRequest::None => 0,
            ChipRequest::Share(_) => self.capacity.pick_shared(NodeIx(node), level),
            ChipRequest::Whole(chips) => self.capacity.pick_whole(NodeIx(node), chips * workers as u16),
        };
        self.occupy(gang, node..node + 1, workers, chips);
        Slot { nodes: NodeRange::one(node), workers, chips }.join(slots);
        true
    }

    /// The node that scores best, equal scores by number, with the level of the chip to share.
    fn best_node(&mut self, gang: &Request, workers: u32, within: Within) -> Option<(u32, ChipMilli)> {
        let all = self.capacity.fleet().nodes.len() as u32;
        let nodes = within.map_or(0..all, |domain| self.capacity.fleet().domains[domain.ix()].nodes.clone());
        let mut origin = 0;
        if self.policy.packing == Packing::Random {
            match self.draw_node(gang, workers, &nodes) {
                Ok(drawn) => return Some(drawn),
                Err(last) => origin = last,
            }
        }
        let mut best = None;
        let consider = |best: &mut Option<Candidate>, capacity: &Capacity, standing: Scored, class: ClassIx| {
            if best.is_some_and(|best: Candidate| best.score < standing.score) {
                return;
            }
            let Some(node) = first_node(capacity, class, gang, workers, standing.level, &nodes, origin) else { return };
            let distance = if node >= origin { node - origin } else { all - origin + node };
            let found = Candidate { score: standing.score, distance, node, class, level: standing.level };
            *best = Some(best.map_or(found, |best| best.min(found)));
        };
        // What is known comes first; what is not is worked out only where it could still be the best.
        let mut unknown = Vec::new();
        for (kind, _) in gang.kinds.iter().filter(|(_, per_node)| *per_node >= workers) {
            for class in self.capacity.classes().of_kind(*kind) {
                let entry = self.capacity.classes().get(*class);
                if entry.is_withheld() || !fits(&entry.vector, gang, workers) {
                    continue;
                }
                match self.scored.and_then(|shape| self.scores.known(shape, *class, entry.generation)) {
                    Some(standing) => consider(&mut best, self.capacity, standing, *class),
                    None => {
                        unknown.push((self.policy.packing.least(self.mix, &entry.vector, gang, workers), *class));
                    }
                }
            }
        }
        unknown.sort_unstable();
        for (least, class) in unknown {
            if best.is_some_and(|best| best.score < least) {
                break;
            }
            let standing = self.score(class, gang, workers);
            consider(&mut best, self.capacity, standing, class);
        }
        let Candidate { node, class, level, .. } = best?;
        let vector = &self.capacity.classes().get(class).vector;
        if self.policy.packing.keeps_domains_whole() && *vector == *self.capacity.empty(vector.kind) {
            return Some((self.fresh_node(vector.kind, within).unwrap_or(node), level));
        }
        Some((node, level))
    }

    /// The standing of a class, kept where the shape's scores are.
    fn score(&mut self, class: ClassIx, gang: &Request, workers: u32) -> Scored {
        let entry = self.capacity.classes().get(class);
        let kind = &self.capacity.fleet().node_kinds[entry.vector.kind.ix()];
        let packing = self.policy.packing;
        let value = self.scores.value(class, entry.generation, || packing.value(self.mix, &entry.vector));
        let standing = packing.score(self.mix, &entry.vector, value, kind, gang, workers);
        if let Some(shape) = self.scored {
            self.scores.keep(shape, class, entry.generation, standing);
        }
        standing
    }

    /// A node drawn from all that can take the workers; or else, where few can, the node from which to look for one.
    fn draw_node(&mut self, gang: &Request, workers: u32, nodes: &Range<u32>) -> Result<(u32, ChipMilli), u32> {
        let (seed, job) = (self.policy.seed, self.job);
        let rng = self.random.get_or_insert_with(|| random::source(seed, job));
        let mut node = nodes.start;
        for _ in 0..random::DRAWS {
            node = nodes.start + rng.below(nodes.len() as u64) as u32;
            let class = self.capacity.class_ix(NodeIx(node));
            let free = &self.capacity.classes().get(class).vector;
            let may = gang.kinds.iter().any(|(kind, per_node)| *kind == free.kind && *per_node >= workers);
            if !may || !fits(free, gang, workers) {
                continue;
            }
            let (level, share) = match gang.chips {
                ChipRequest::Share(share) => {
                    let level = random::level(free, share, rng);
                    (level, Some((share, level)))
                }
                ChipRequest::None | ChipRequest::Whole(_) => (ChipMilli::WHOLE, None),
            };
            let more = self.capacity.more_draw(class, gang.whole_chips() * workers as u16, share);
            if self.capacity.first_powered(class, node..node + 1, more).is_some() {
                return Ok((node, level));
            }
        }
        Err(node)
    }

    /// A wholly free node, from the fullest domain at every level.
    fn fresh_node(&self, kind: NodeKindIx, within: Within) -> Option<u32> {
        let mut cell = match within {
            Some(domain) => self.capacity.cell_of(domain, kind).filter(|cell| self.capacity.usable(*cell) > 0)?,
            None => self.capacity.fullest(kind, LevelIx(0), 1)?,
        };
        while self.capacity.cell(cell).children.start < self.capacity.cell(cell).children.end {
            cell = self.capacity.descend(cell, 1);
        }
        self.capacity.first_free(kind, self.capacity.nodes_of(cell))
    }

    /// Puts workers wherever the nodes of one domain have room, as many together as possible, on one accelerator kind.
    fn place_anywhere(&mut self, gang: &Request, level: LevelIx, slots: &mut Vec<Slot>) -> bool {
        if gang.spares > 0 {
            return false;
        }
        let chips = gang.whole_chips();
        let fleet = Arc::clone(self.capacity.fleet());
        let accelerator = |kind: NodeKindIx| match gang.chips {
            // Whoever needs no chip may lie beside any.
            ChipRequest::None => None,
            ChipRequest::Share(_) | ChipRequest::Whole(_) => fleet.node_kinds[kind.ix()].accelerator,
        };
        let mut tried = Vec::new();
        for (first, _) in &gang.kinds {
            if tried.contains(&accelerator(*first)) {
                continue;
            }
            tried.push(accelerator(*first));
            let kinds: Vec<(NodeKindIx, u32)> =
                gang.kinds.iter().copied().filter(|(kind, _)| accelerator(*kind) == accelerator(*first)).collect();
            // Workers that fill a node gain nothing over whole nodes unless host-only work lies on free chips.
            let fills = |(kind, per_node): &(NodeKindIx, u32)| {
                *per_node == 1 && fleet.node_kinds[kind.ix()].chips == chips && chips > 0
            };
            if kinds.iter().all(|kind| fills(kind) && !self.capacity.has_chips_under_host_work(kind.0))
                && kinds.len() == 1
            {
                continue;
            }
            let request = Request { kinds, ..gang.clone() };
            let mut domains = Vec::new();
            let around = self.inside.map_or(0..fleet.sites.len() as u32, |domain| domain.0..domain.0 + 1);
            for domain in around {
                self.domains_with_room(&request, DomainIx(domain), level, &mut domains);
            }
            domains.sort_unstable();
            for (_, domain) in domains {
                let filled = match gang.groups {
                    None => self.fill(&request, domain, slots),
                    Some((group, level)) => self.fill_groups(&request, group, level, domain, slots),
                };
                if filled {
                    return true;
                }
                self.undo(gang, slots);
            }
        }
        false
    }

    fn fill(&mut self, gang: &Request, domain: DomainIx, slots: &mut Vec<Slot>) -> bool {
        let most = gang.kinds.iter().map(|(_, per_node)| *per_node).max().unwrap_or(0);
        let mut together = if gang.one_by_one() { 1 } else { most };
        let mut left = gang.workers;
        while left > 0 && together > 0 {
            together = together.min(left);
            if self.pack(gang, together, Some(domain), slots) {
                left -= together;
            } else {
                together -= 1;
            }
        }
        left == 0
    }

    /// Domains at a level that may hold all workers, by room; parts of the tree without room or power are passed over.
    fn domains_with_room(&self, gang: &Request, domain: DomainIx, level: LevelIx, found: &mut Vec<(u64, DomainIx)>) {
        let chips = gang.whole_chips();
        let shares = matches!(gang.chips, ChipRequest::Share(_));
        let mut room = 0_u64;
        let mut powered = false;
        for (kind, per_node) in &gang.kinds {
            let Some(cell) = self.capacity.cell_of(domain, *kind) else { continue };
            room += if shares || chips == 0 {
                u64::from(self.capacity.room(cell, 0)) * u64::from(*per_node)
            } else {
                u64::from(self.capacity.room(cell, chips))
            };
            powered |= self.capacity.can_power(domain, self.capacity.chip_draw(*kind), gang.workers * u32::from(chips));
        }
        if room < u64::from(gang.workers) || !powered {
            return;
        }
        let entry = &self.capacity.fleet().domains[domain.ix()];
        if entry.level == level {
            found.push((room, domain));
            return;
        }
        for child in entry.children.clone() {
            self.domains_with_room(gang, DomainIx(child), level, found);
        }
    }
}

/// Puts slots in the order of their nodes, node by node where several lie on the same.
fn in_order(slots: &mut Vec<Slot>) {
    let lies_before = |pair: &[Slot]| pair[0].nodes.numbers().end <= pair[1].nodes.first.0;
    if slots.windows(2).all(lies_before) {
        return;
    }
    let mut single: Vec<Slot> = slots
        .drain(..)
        .flat_map(|slot| slot.nodes.numbers().map(move |node| Slot { nodes: NodeRange::one(node), ..slot }))
        .collect();
    single.sort_unstable_by_key(|slot| (slot.nodes.first, slot.chips.trailing_zeros(), slot.chips));
    single.into_iter().for_each(|slot| slot.join(slots));
}

/// The first node of a class, from `origin` upwards and around, that caps can power at work.
fn first_node(
    capacity: &Capacity,
    class: ClassIx,
    gang: &Request,
    workers: u32,
    level: ChipMilli,
    nodes: &Range<u32>,
    origin: u32,
) -> Option<u32> {
    let share = match gang.chips {
        ChipRequest::Share(share) => Some((share, level)),
        ChipRequest::None | ChipRequest::Whole(_) => None,
    };
    let more = capacity.more_draw(class, gang.whole_chips() * workers as u16, share);
    let above = nodes.start.max(origin)..nodes.end;
    let below = nodes.start..nodes.end.min(origin);
    capacity.first_powered(class, above, more).or_else(|| capacity.first_powered(class, below, more))
}

/// Whether workers fit a free vector; power is looked at per node.
pub fn fits(free: &FreeVector, gang: &Request, workers: u32) -> bool {
    let chips = match gang.chips {
        ChipRequest::None => true,
        ChipRequest::Share(share) => free.whole > 0 || free.shared.first().is_some_and(|most| *most >= share.get()),
        ChipRequest::Whole(chips) => u32::from(free.whole) >= u32::from(chips) * workers,
    };
    chips
        && u64::from(free.cpu.get()) >= u64::from(gang.cpu.get()) * u64::from(workers)
        && free.memory.get() >= gang.memory.get() * u64::from(workers)
}

/// Whether a node, as far as it alone goes, could take a worker of a gang.
pub fn takes_one(capacity: &Capacity, gang: &Request, node: NodeIx) -> bool {
    let free = &capacity.class_of(node).vector;
    let may = !capacity.is_withheld(node, Withheld::Out) && gang.kinds.iter().any(|(kind, _)| *kind == free.kind);
    may && fits(free, gang, 1)
}

/// Whether capacity on a node, just given back, could let a gang fit that did not fit before.
pub fn could_help(capacity: &Capacity, gang: &Request, node: NodeIx) -> bool {
    if !takes_one(capacity, gang, node) {
        return false;
    }
    if let Some(sides) = gang.slice {
        return capacity.gives_slice(node, sides);
    }
    if gang.least == 1 {
        return true;
    }
    // All workers in the domain around, as far as whole chips tell; caps and processors are looked at when it is tried.
    let level = gang.outer_level();
    let fleet = capacity.fleet();
    let mut domain = fleet.nodes[node.ix()].domain;
    while fleet.domains[domain.ix()].level > level {
        let Some(parent) = fleet.domains[domain.ix()].parent else { break };
        domain = parent;
    }
    if fleet.domains[domain.ix()].level < level {
        return false;
    }
    let chips = gang.whole_chips();
    if chips == 0 {
        return true;
    }
    let room = gang.kinds.iter().filter_map(|(kind, _)| capacity.cell_of(domain, *kind));
    room.map(|cell| capacity.room(cell, chips)).sum::<u32>() >= gang.least
}
