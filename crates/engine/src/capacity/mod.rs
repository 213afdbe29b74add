//! The physical account: what every node has left, what every domain can still give, what every cap can still power.
//!
//! Placement works on counts. A *cell* is one node kind within one domain; it knows how many of its nodes are *usable*:
//! wholly free and within what the caps at or below its domain can still power. Cells are numbered level by level and
//! kind by kind, so that the children of a cell are one contiguous range, and each level keeps its cells in order of
//! usable nodes. What the caps *above* a cell allow is kept as bits (`open`): set while every one of them can power one
//! more, so that domains at their cap cost no look.

mod build;
mod change;
mod classes;
mod limits;
mod power;
mod space;
mod torus;

use std::ops::Range;
use std::sync::Arc;

use offtake_fleet::{DomainIx, Fleet, LevelIx, NodeIx, NodeKindIx, SiteIx};
use offtake_units::{ChipMilli, CpuMilli, Mebibytes, Watts};

pub use classes::{Class, ClassIx, Classes, Draw, FreeVector, size_bit};
pub use limits::{Feed, Limit, LimitIx};
pub use space::Space;
pub use torus::Part;

use crate::index::{Bits, Ordered};
use crate::throttle::Throttle;

/// Position of a cell.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CellIx(pub u32);

impl CellIx {
    const NONE: Self = Self(u32::MAX);

    const fn ix(self) -> usize {
        self.0 as usize
    }
}

/// One node kind within one domain.
#[derive(Clone, Debug)]
pub struct Cell {
    /// The domain.
    pub domain: DomainIx,
    /// The domain's level.
    pub level: LevelIx,
    /// The node kind.
    pub kind: NodeKindIx,
    /// The cell of the same kind in the domain around; `NONE` for a site's.
    parent: CellIx,
    /// The cells of the same kind in the domain's children.
    pub children: Range<u32>,
    /// All its nodes, at work or not.
    pub nodes: u32,
    /// Wholly free nodes that the domain's children can give, or, at the innermost domain, has.
    free: u32,
    /// Where its histogram starts.
    histogram: u32,
    /// Whether a cap lies directly on the domain that can ever bind.
    capped: bool,
}

/// What work takes of one node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Take {
    /// Processor.
    pub cpu: CpuMilli,
    /// Memory.
    pub memory: Mebibytes,
    /// Whole chips, or the one chip that is shared, as bits.
    pub chips: u64,
    /// The share of the one chip; none where chips are taken whole.
    pub share: Option<ChipMilli>,
    /// How far the whole chips are throttled.
    pub throttle: Throttle,
}

impl Take {
    /// The same with its whole chips throttled so far.
    pub const fn at(self, throttle: Throttle) -> Self {
        Self { throttle, ..self }
    }

    /// The whole chips that it takes.
    pub const fn whole(&self) -> u16 {
        if self.share.is_some() { 0 } else { self.chips.count_ones() as u16 }
    }
}

/// A chip in shared use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct SharedChip {
    chip: u8,
    free: ChipMilli,
}

#[derive(Clone, Debug)]
struct NodeState {
    class: ClassIx,
    cell: CellIx,
    /// Chips that nothing uses, as bits.
    free_chips: u64,
    /// Chips in shared use, by number; the rest is used whole.
    shared: Vec<SharedChip>,
    /// Why it is counted nowhere, as bits of [`Withheld`]; none while it may be used.
    withheld: u8,
}

impl NodeState {
    const fn is_withheld(&self) -> bool {
        self.withheld != 0
    }
}

/// Why a node is counted nowhere, so that placement cannot see it. Each reason comes and goes by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Withheld {
    /// It is kept for a blocked job.
    Held,
    /// It is lost or drained.
    Out,
    /// The gang that is being placed may put no more workers on it.
    Full,
    /// It runs work of one tenant at a time, and has work of another than the one that looks.
    Tenant,
    /// Whoever looks may use the nodes of its reservation and no others.
    Apart,
    /// The tenant of whoever looks may have no more work here.
    Radius,
}

impl Withheld {
    const fn bit(self) -> u8 {
        1 << self as u8
    }
}

/// One node kind's orders.
#[derive(Clone, Debug)]
struct KindIndex {
    /// A wholly free node.
    empty: FreeVector,
    /// Wholly free nodes that may be used.
    free: Bits,
    /// How many they are.
    free_count: u32,
    /// Draw of one chip at work.
    chip_draw: Draw,
    /// The same at each power level that it has.
    throttled: Vec<Draw>,
    /// Draw of all chips at work.
    node_draw: Draw,
    /// Nodes above which every cap can power one more chip.
    open: Bits,
    levels: Vec<LevelIndex>,
}

impl KindIndex {
    fn add_free(&mut self, node: u32) {
        self.free.insert(node);
        self.free_count += 1;
    }

    fn remove_free(&mut self, node: u32) {
        self.free.remove(node);
        self.free_count -= 1;
    }
}

/// The cells of one kind at one level.
#[derive(Clone, Debug)]
struct LevelIndex {
    cells: Range<u32>,
    order: Ordered,
    /// Cells above which every cap can power one more node.
    open: Bits,
}

/// Whether a limit on one of its domains is closed for a node kind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Closed {
    to_chips: bool,
    to_nodes: bool,
}

/// What tells work that was added over a limit from work that was there before.
#[derive(Clone, Debug)]
pub struct Watch {
    breaches: u64,
    /// Limits that are over, and how far without anything having been added.
    excess: Vec<(usize, i64)>,
}

/// The account of a fleet.
#[derive(Clone, Debug)]
pub struct Capacity {
    fleet: Arc<Fleet>,
    nodes: Vec<NodeState>,
    /// Per node, the sizes of the requests that run on it, and how many of each; empty unless they are kept.
    sizes: Vec<Vec<(u64, u32)>>,
    classes: Classes,
    kinds: Vec<KindIndex>,
    cells: Vec<Cell>,
    usable: Vec<u32>,
    /// Per cell, the number of its usable nodes by wholly free chips.
    histograms: Vec<u32>,
    /// The cells of each domain.
    cells_of: Vec<Range<u32>>,
    cell_list: Vec<CellIx>,
    limits: Vec<Limit>,
    /// Limits directly on each domain.
    on_domain: Vec<Vec<Feed>>,
    /// Limits on each domain and around it, from the inside out.
    around: Vec<Box<[Feed]>>,
    /// Limits on domains inside each domain.
    inside: Vec<Vec<Feed>>,
    /// Per limit, per topmost domain under it, per node kind.
    closed: Vec<Vec<Vec<Closed>>>,
    /// Expected IT draw of each site.
    site_draw: Vec<Watts>,
    /// How often a limit was found exceeded after a change that should have kept it.
    breaches: u64,
    /// The grids of chips that are wired as tori.
    tori: torus::Tori,
}

impl Capacity {
    /// Remembers, from now on, the sizes of the requests that run on each node. To be called before any work comes.
    pub fn keep_sizes(&mut self) {
        self.sizes = vec![Vec::new(); self.fleet.nodes.len()];
    }

    /// Whether nodes remember the sizes of the requests that run on them.
    pub const fn keeps_sizes(&self) -> bool {
        !self.sizes.is_empty()
    }

    // What there is.

    /// The fleet whose account this is.
    pub const fn fleet(&self) -> &Arc<Fleet> {
        &self.fleet
    }

    /// The classes of nodes.
    pub const fn classes(&self) -> &Classes {
        &self.classes
    }

    /// The limits, in the order of the fleet's caps.
    pub fn limits(&self) -> &[Limit] {
        &self.limits
    }

    /// The expected IT draw of a site.
    pub fn site_draw(&self, site: SiteIx) -> Watts {
        self.site_draw[site.ix()]
    }

    /// How often a limit was found exceeded after work was added; never, unless an invariant is broken.
    pub const fn breaches(&self) -> u64 {
        self.breaches
    }

    /// A cell.
    pub fn cell(&self, cell: CellIx) -> &Cell {
        &self.cells[cell.ix()]
    }

    /// The cell of a kind in a domain, if the domain has nodes of that kind.
    pub fn cell_of(&self, domain: DomainIx, kind: NodeKindIx) -> Option<CellIx> {
        self.cells_in(domain).iter().copied().find(|cell| self.cells[cell.ix()].kind == kind)
    }

    fn cells_in(&self, domain: DomainIx) -> &[CellIx] {
        let range = &self.cells_of[domain.ix()];
        &self.cell_list[range.start as usize..range.end as usize]
    }

    /// Nodes that a cell can still give whole, as far as the caps at and below its domain go.
    pub fn usable(&self, cell: CellIx) -> u32 {
        self.usable[cell.ix()]
    }

    /// The nodes of a cell's domain, of all kinds.
    pub fn nodes_of(&self, cell: CellIx) -> Range<u32> {
        self.fleet.domains[self.cells[cell.ix()].domain.ix()].nodes.clone()
    }

    /// How many workers of `chips` whole chips each the usable nodes of a cell could take, were processor, memory and
    /// power no object.
    pub fn room(&self, cell: CellIx, chips: u16) -> u32 {
        let entry = &self.cells[cell.ix()];
        let most = self.kinds[entry.kind.ix()].empty.whole;
        if chips == 0 {
            let bars = entry.histogram as usize..(entry.histogram + u32::from(most)) as usize + 1;
            return self.histograms[bars].iter().sum();
        }
        (chips..=most)
            .map(|free| self.histograms[(entry.histogram + u32::from(free)) as usize] * u32::from(free / chips))
            .sum()
    }

    /// The most free whole chips on one usable node of a cell.
    pub fn most_free(&self, cell: CellIx) -> u16 {
        let entry = &self.cells[cell.ix()];
        let most = self.kinds[entry.kind.ix()].empty.whole;
        let has = |free: &u16| self.histograms[(entry.histogram + u32::from(*free)) as usize] > 0;
        (0..=most).rev().find(has).unwrap_or(0)
    }

    /// Whether some usable node has all its chips free and yet is not wholly free: host-only work lies on it.
    pub fn has_chips_under_host_work(&self, kind: NodeKindIx) -> bool {
        let index = &self.kinds[kind.ix()];
        let sites = index.levels[0].cells.clone();
        let all_chips: u32 = sites.map(|cell| self.room(CellIx(cell), index.empty.whole.max(1))).sum();
        all_chips > index.free_count
    }

    /// Whether a node has the very chips of `take` left, and processor and memory.
    pub fn has_room(&self, node: NodeIx, take: &Take) -> bool {
        let state = &self.nodes[node.ix()];
        let free = &self.class_of(node).vector;
        let chips = match take.share {
            None => state.free_chips & take.chips == take.chips,
            Some(share) => {
                let of_chip = |shared: &&SharedChip| 1 << shared.chip == take.chips;
                let left = state.shared.iter().find(of_chip).map(|shared| shared.free);
                state.free_chips & take.chips != 0 || left.is_some_and(|left| left >= share)
            }
        };
        chips && free.cpu >= take.cpu && free.memory >= take.memory
    }

    /// Whether nothing is taken of a node.
    pub fn is_idle(&self, node: NodeIx) -> bool {
        self.class_of(node).vector == *self.empty(self.fleet.nodes[node.ix()].kind)
    }

    /// Whether a wholly free node of a kind may be used.
    pub fn is_free(&self, kind: NodeKindIx, node: u32) -> bool {
        self.kinds[kind.ix()].free.contains(node)
    }

    /// The class of a node.
    pub fn class_of(&self, node: NodeIx) -> &Class {
        self.classes.get(self.nodes[node.ix()].class)
    }

    /// The class of a node, by position.
    pub fn class_ix(&self, node: NodeIx) -> ClassIx {
        self.nodes[node.ix()].class
    }

    /// Whether a node is withheld for a reason.
    pub fn is_withheld(&self, node: NodeIx, why: Withheld) -> bool {
        self.nodes[node.ix()].withheld & why.bit() != 0
    }

    /// What a wholly free node of a kind has.
    pub fn empty(&self, kind: NodeKindIx) -> &FreeVector {
        &self.kinds[kind.ix()].empty
    }

    // Looking for a place.

    /// The fullest cell of a kind at a level that can give `need` whole nodes, every cap above it included.
    pub fn fullest(&self, kind: NodeKindIx, level: LevelIx, need: u32) -> Option<CellIx> {
        self.fullest_where(kind, level, need, None, |_| true)
    }

    /// The same among the cells that `will_do`, of domains inside a range of nodes where one is given.
    pub fn fullest_where(
        &self,
        kind: NodeKindIx,
        level: LevelIx,
        need: u32,
        inside: Option<Range<u32>>,
        will_do: impl Fn(CellIx) -> bool,
    ) -> Option<CellIx> {
        let index = &self.kinds[kind.ix()].levels[level.ix()];
        let first = index.cells.start;
        let accept = |member| {
            let mut above = self.cells[(first + member) as usize].parent;
            let mut refused = None;
            while above != CellIx::NONE {
                if self.usable[above.ix()] < need {
                    refused = Some(above);
                }
                above = self.cells[above.ix()].parent;
            }
            match refused {
                // The widest refusing domain refuses the most: go on behind its last cell of this level.
                Some(cell) => Err(self.cells_within(kind, level, &self.nodes_of(cell)).end - first),
                None if will_do(CellIx(first + member)) => Ok(()),
                None => Err(member + 1),
            }
        };
        let cells = inside.map_or(index.cells.clone(), |nodes| self.cells_within(kind, level, &nodes));
        index
            .order
            .fullest(need, cells.start - first..cells.end - first, &index.open, accept)
            .map(|member| CellIx(first + member))
    }

    /// The cells of a kind at a level whose domains lie in a range of nodes.
    fn cells_within(&self, kind: NodeKindIx, level: LevelIx, nodes: &Range<u32>) -> Range<u32> {
        let cells = &self.kinds[kind.ix()].levels[level.ix()].cells;
        let first_from = |node: u32| {
            let (mut low, mut high) = (cells.start, cells.end);
            while low < high {
                let middle = low + (high - low) / 2;
                if self.nodes_of(CellIx(middle)).start < node {
                    low = middle + 1;
                } else {
                    high = middle;
                }
            }
            low
        };
        first_from(nodes.start)..first_from(nodes.end)
    }

    /// Of a cell's children, the fullest that can give `need` nodes, or else the one that can give the most.
    pub fn descend(&self, cell: CellIx, need: u32) -> CellIx {
        let children = self.cells[cell.ix()].children.clone();
        let mut fits: Option<(u32, u32)> = None;
        let mut most: (u32, u32) = (0, children.start);
        for child in children {
            let usable = self.usable[child as usize];
            if usable >= need {
                if fits.is_none_or(|(best, _)| usable < best) {
                    fits = Some((usable, child));
                    if usable == need {
                        break;
                    }
                }
            } else if usable > most.0 {
                most = (usable, child);
            }
        }
        CellIx(fits.unwrap_or(most).1)
    }

    /// How many groups of `nodes` whole nodes, each in one domain of a level, a cell can give; counted up to `enough`.
    ///
    /// Caps on the way limit nodes, domains of the level limit groups, and each is inside one other: so the least on
    /// every way up, added, is what can be given.
    pub fn groups_in(&self, cell: CellIx, nodes: u32, level: LevelIx, enough: u32) -> u32 {
        let entry = &self.cells[cell.ix()];
        let most = (self.usable[cell.ix()] / nodes).min(enough);
        if entry.level >= level || most == 0 {
            return most;
        }
        let mut groups = 0;
        for child in entry.children.clone() {
            groups += self.groups_in(CellIx(child), nodes, level, most - groups);
            if groups >= most {
                break;
            }
        }
        groups
    }

    /// The lowest wholly free node of a kind in a range.
    pub fn first_free(&self, kind: NodeKindIx, range: Range<u32>) -> Option<u32> {
        self.kinds[kind.ix()].free.first_in(range)
    }

    /// The lowest node of a class in `range` on which `more` draw fits under every cap.
    pub fn first_powered(&self, class: ClassIx, range: Range<u32>, more: Draw) -> Option<u32> {
        let entry = self.classes.get(class);
        let kind = &self.kinds[entry.vector.kind.ix()];
        if more == Draw::default() || self.limits.is_empty() {
            return entry.first_node(range, None);
        }
        let takes_a_chip = more.enforceable >= kind.chip_draw.enforceable && more.expected >= kind.chip_draw.expected;
        let mut from = range.start;
        loop {
            let node = entry.first_node(from..range.end, takes_a_chip.then_some(&kind.open))?;
            match self.refusal(NodeIx(node), more) {
                None => return Some(node),
                Some(feed) => from = self.fleet.domains[feed.domain.ix()].nodes.end.max(node + 1),
            }
        }
    }

    /// The chips of a node that a request takes: `whole` free ones, or the shared or free one that has `level` left.
    pub fn pick_whole(&self, node: NodeIx, whole: u16) -> u64 {
        let mut left = self.nodes[node.ix()].free_chips;
        let mut picked = 0;
        for _ in 0..whole {
            let lowest = left & left.wrapping_neg();
            picked |= lowest;
            left ^= lowest;
        }
        picked
    }

    /// The lowest chip of a node that has exactly `level` left, as a bit.
    pub fn pick_shared(&self, node: NodeIx, level: ChipMilli) -> u64 {
        let state = &self.nodes[node.ix()];
        if level == ChipMilli::WHOLE {
            return self.pick_whole(node, 1);
        }
        state.shared.iter().find(|chip| chip.free == level).map_or(0, |chip| 1 << chip.chip)
    }
}

/// The `count` lowest bits.
pub const fn low_bits(count: u16) -> u64 {
    if count >= 64 { u64::MAX } else { (1 << count) - 1 }
}
