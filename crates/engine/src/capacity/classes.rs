//! Nodes with the same free vector are one class, so that a request is scored once per class and not once per node.

use offtake_fleet::{AcceleratorKind, NodeKind, NodeKindIx, PowerLevel};
use offtake_units::{ChipMilli, CpuMilli, Mebibytes, Watts};
use rustc_hash::FxHashMap;

use crate::index::Bits;

/// What a node has left.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct FreeVector {
    /// The node's kind.
    pub kind: NodeKindIx,
    /// Free processor.
    pub cpu: CpuMilli,
    /// Free memory.
    pub memory: Mebibytes,
    /// Chips that nothing uses.
    pub whole: u16,
    /// Free thousandths of the chips in shared use, descending.
    pub shared: Box<[u16]>,
    /// The sizes of the requests that run on it, as bits of `size_bit`; kept only while the policy asks for them.
    pub sizes: u64,
}

/// A request's size as a bit: a share, or so many whole chips of one node. One without chips has no size. 63 and 64
/// chips count as one size.
pub fn size_bit(whole: u32, share: bool) -> u64 {
    match (whole, share) {
        (_, true) => 1,
        (0, false) => 0,
        (chips, false) => 1 << chips.min(u64::BITS - 1),
    }
}

/// Draw of a node above its powered idle.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Draw {
    /// Expected draw of the work on it: what `contract` caps count.
    pub expected: Watts,
    /// The most that the chips in use can be made to draw: what `breaker` caps count.
    pub enforceable: Watts,
}

impl Draw {
    /// The draw of work on `kind`, from what is free: a shared chip draws its used share when it is expected to, and
    /// all of its peak when it must be enforced.
    pub fn of(vector: &FreeVector, kind: &NodeKind, accelerator: Option<&AcceleratorKind>) -> Self {
        let Some(accelerator) = accelerator else {
            return Self::default();
        };
        let used_whole = i64::from(kind.chips) - i64::from(vector.whole) - vector.shared.len() as i64;
        let operating = accelerator.operating.get() - accelerator.idle.get();
        let peak = accelerator.peak.get() - accelerator.idle.get();
        let whole = i64::from(ChipMilli::WHOLE.get());
        let shares: i64 = vector
            .shared
            .iter()
            .map(|free| (operating * (whole - i64::from(*free)) + whole - 1).div_euclid(whole))
            .sum();
        Self {
            expected: Watts::new(used_whole * operating + shares),
            enforceable: Watts::new((used_whole + vector.shared.len() as i64) * peak),
        }
    }
}

impl Draw {
    /// The draw of one chip at each of its power levels: no more than the level allows.
    pub fn of_levels(accelerator: &AcceleratorKind) -> Vec<Self> {
        let at = |level: &PowerLevel| {
            let most = accelerator.peak.share_up(level.power);
            Self { expected: most.min(accelerator.operating) - accelerator.idle, enforceable: most - accelerator.idle }
        };
        accelerator.power_levels.iter().map(at).collect()
    }

    /// What is drawn more than another.
    pub fn beyond(self, other: Self) -> Self {
        Self { expected: self.expected - other.expected, enforceable: self.enforceable - other.enforceable }
    }

    /// So many times as much.
    pub const fn times(self, count: u32) -> Self {
        Self { expected: self.expected.times(count), enforceable: self.enforceable.times(count) }
    }
}

/// Position of a class; reused after its last node left, then with another generation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ClassIx(u32);

impl ClassIx {
    /// The position in a table by class.
    pub const fn ix(self) -> usize {
        self.0 as usize
    }
}

/// The nodes of one free vector.
#[derive(Clone, Debug)]
pub struct Class {
    /// What each of its nodes has left.
    pub vector: FreeVector,
    /// What each of its nodes draws above idle.
    pub draw: Draw,
    /// Whether nothing runs on its nodes.
    pub is_free: bool,
    /// Tells a class from an earlier one in the same position.
    pub generation: u32,
    /// Nodes with this vector, the withheld ones included.
    nodes: u32,
    /// Nodes with this vector that may be used.
    members: Members,
}

/// A set of nodes: a short list while it is short.
#[derive(Clone, Debug)]
enum Members {
    Few(Vec<u32>),
    Many(Bits),
}

/// Longer lists become bits: below this, inserting into a sorted list is as cheap.
const FEW: usize = 64;

impl Class {
    /// The lowest usable node in `range` and in `open`.
    pub fn first_node(&self, range: std::ops::Range<u32>, open: Option<&Bits>) -> Option<u32> {
        match (&self.members, open) {
            (Members::Few(list), _) => {
                let from = list.partition_point(|node| *node < range.start);
                list[from..]
                    .iter()
                    .copied()
                    .take_while(|node| *node < range.end)
                    .find(|node| open.is_none_or(|open| open.contains(*node)))
            }
            (Members::Many(bits), Some(open)) => bits.first_common(open, range),
            (Members::Many(bits), None) => bits.first_in(range),
        }
    }

    /// Number of nodes with this vector.
    pub const fn nodes(&self) -> u32 {
        self.nodes
    }

    /// Whether no node may be used.
    pub fn is_withheld(&self) -> bool {
        matches!(&self.members, Members::Few(list) if list.is_empty())
    }
}

/// All classes that occur.
#[derive(Clone, Debug)]
pub struct Classes {
    table: Vec<Class>,
    vacant: Vec<u32>,
    by_vector: FxHashMap<FreeVector, ClassIx>,
    /// The classes of each node kind, in no particular order.
    by_kind: Vec<Vec<ClassIx>>,
    node_bound: usize,
}

impl Classes {
    /// No class yet, for a fleet of so many kinds and nodes.
    pub fn new(kinds: usize, nodes: usize) -> Self {
        Self {
            table: Vec::new(),
            vacant: Vec::new(),
            by_vector: FxHashMap::default(),
            by_kind: vec![Vec::new(); kinds],
            node_bound: nodes,
        }
    }

    /// The class at a position.
    pub fn get(&self, class: ClassIx) -> &Class {
        &self.table[class.ix()]
    }

    /// The classes that occur on a node kind.
    pub fn of_kind(&self, kind: NodeKindIx) -> &[ClassIx] {
        &self.by_kind[kind.ix()]
    }

    /// All classes that occur.
    pub fn iter(&self) -> impl Iterator<Item = &Class> {
        self.by_kind.iter().flatten().map(|class| self.get(*class))
    }

    /// The class of a vector; made when it is new, with the draw that `draw` gives, and whether nothing runs on its nodes.
    pub fn intern(&mut self, vector: FreeVector, draw: impl FnOnce(&FreeVector) -> (Draw, bool)) -> ClassIx {
        if let Some(class) = self.by_vector.get(&vector) {
            return *class;
        }
        let (draw, is_free) = draw(&vector);
        let fresh = |generation| Class {
            vector: vector.clone(),
            draw,
            is_free,
            generation,
            nodes: 0,
            members: Members::Few(Vec::new()),
        };
        let class = match self.vacant.pop() {
            Some(place) => {
                let generation = self.table[place as usize].generation + 1;
                self.table[place as usize] = fresh(generation);
                ClassIx(place)
            }
            None => {
                self.table.push(fresh(1));
                ClassIx(self.table.len() as u32 - 1)
            }
        };
        self.by_kind[vector.kind.ix()].push(class);
        self.by_vector.insert(vector, class);
        class
    }

    /// Adds a node to a class.
    pub fn enter(&mut self, class: ClassIx, node: u32, usable: bool) {
        self.table[class.ix()].nodes += 1;
        if usable {
            self.offer(class, node);
        }
    }

    /// Takes a node out of a class; the class ends with its last node.
    pub fn leave(&mut self, class: ClassIx, node: u32, usable: bool) {
        if usable {
            self.withhold(class, node);
        }
        let entry = &mut self.table[class.ix()];
        entry.nodes -= 1;
        if entry.nodes == 0 {
            self.by_vector.remove(&entry.vector);
            let kind = &mut self.by_kind[entry.vector.kind.ix()];
            if let Some(place) = kind.iter().position(|other| *other == class) {
                kind.swap_remove(place);
            }
            self.vacant.push(class.0);
        }
    }

    /// Makes a node of a class usable.
    pub fn offer(&mut self, class: ClassIx, node: u32) {
        let bound = self.node_bound;
        match &mut self.table[class.ix()].members {
            Members::Few(list) if list.len() == FEW => {
                let mut bits = Bits::new(bound);
                list.iter().for_each(|member| bits.insert(*member));
                bits.insert(node);
                self.table[class.ix()].members = Members::Many(bits);
            }
            Members::Few(list) => list.insert(list.partition_point(|member| *member < node), node),
            Members::Many(bits) => bits.insert(node),
        }
    }

    /// Makes a node of a class unusable.
    pub fn withhold(&mut self, class: ClassIx, node: u32) {
        match &mut self.table[class.ix()].members {
            Members::Few(list) => {
                if let Ok(place) = list.binary_search(&node) {
                    list.remove(place);
                }
            }
            Members::Many(bits) => {
                bits.remove(node);
                if bits.is_empty() {
                    self.table[class.ix()].members = Members::Few(Vec::new());
                }
            }
        }
    }
}
