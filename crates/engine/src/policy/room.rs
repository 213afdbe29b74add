//! What a node has left and what a request needs of it, as the scores calculate with them.

use offtake_fleet::{Fleet, NodeKind, NodeKindIx};
use offtake_units::ChipMilli;
use offtake_workload::ChipRequest;

use crate::capacity::FreeVector;
use crate::request::Request;

/// Thousandths of a whole chip.
pub const WHOLE: i64 = ChipMilli::WHOLE.get() as i64;

/// The most chips of a node.
pub const MOST: usize = NodeKind::MAX_CHIPS as usize;

/// What the workers of one request need of a node together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Need {
    /// Whole chips.
    pub whole: i64,
    /// Thousandths of the one chip to share; 0 where chips are whole.
    pub share: i64,
    /// Thousandths of a core.
    pub cpu: i64,
    /// MiB.
    pub memory: i64,
}

impl Need {
    /// The need of so many workers. Workers that share a chip come one by one.
    pub fn of(request: &Request, workers: u32) -> Self {
        let workers = i64::from(workers);
        let (whole, share) = match request.chips {
            ChipRequest::None => (0, 0),
            ChipRequest::Share(share) => (0, i64::from(share.get())),
            ChipRequest::Whole(chips) => (i64::from(chips), 0),
        };
        let memory = i64::try_from(request.memory.get()).unwrap_or(i64::MAX);
        Self {
            whole: whole * workers,
            share,
            cpu: i64::from(request.cpu.get()) * workers,
            memory: memory.saturating_mul(workers),
        }
    }

    /// Thousandths of a chip, in all.
    pub const fn chip_milli(&self) -> i64 {
        self.whole * WHOLE + self.share
    }

    /// Whether it needs no chip.
    pub const fn is_host_only(&self) -> bool {
        self.chip_milli() == 0
    }
}

/// What a node has left.
#[derive(Clone, Copy, Debug)]
pub struct Room {
    /// The node's kind.
    pub kind: NodeKindIx,
    /// Thousandths of a core.
    pub cpu: i64,
    /// MiB.
    pub memory: i64,
    /// Chips that nothing uses.
    pub whole: i64,
    shared: [u16; MOST],
    shares: usize,
}

impl Room {
    /// The room of a free vector.
    pub fn of(free: &FreeVector) -> Self {
        let mut shared = [0; MOST];
        shared[..free.shared.len()].copy_from_slice(&free.shared);
        Self {
            kind: free.kind,
            cpu: i64::from(free.cpu.get()),
            memory: i64::try_from(free.memory.get()).unwrap_or(i64::MAX),
            whole: i64::from(free.whole),
            shared,
            shares: free.shared.len(),
        }
    }

    /// What the chips in shared use have left, in no particular order once something was taken.
    pub fn shared(&self) -> &[u16] {
        &self.shared[..self.shares]
    }

    /// Free thousandths of all chips.
    pub fn left(&self) -> i64 {
        self.whole * WHOLE + self.shared().iter().map(|free| i64::from(*free)).sum::<i64>()
    }

    /// What the chip has left that holds the share most tightly; a wholly free one where no other does.
    pub fn tightest(&self, need: &Need) -> u16 {
        let holds = |free: &u16| need.share > 0 && i64::from(*free) >= need.share;
        self.shared().iter().copied().filter(holds).min().unwrap_or(ChipMilli::WHOLE.get())
    }

    /// The chips to choose from, as what they have left, each once, from the tightest on; for a request that shares no
    /// chip there is nothing to choose. The room must be as it was made.
    pub fn choices(&self, need: &Need) -> impl Iterator<Item = u16> + use<'_> {
        let share = need.share;
        let holding = self.shared().iter().copied().filter(move |free| share > 0 && i64::from(*free) >= share);
        let mut last = 0;
        let distinct = holding.rev().filter(move |free| std::mem::replace(&mut last, *free) != *free);
        distinct.chain((share == 0 || self.whole > 0).then_some(ChipMilli::WHOLE.get()))
    }

    /// What is left once the need is met, a share from the chip that has `level` left.
    pub fn after(&self, need: &Need, level: u16) -> Self {
        let mut after = *self;
        after.cpu -= need.cpu;
        after.memory -= need.memory;
        after.whole -= need.whole;
        if need.share == 0 {
            return after;
        }
        let left = level - need.share as u16;
        if level == ChipMilli::WHOLE.get() {
            after.whole -= 1;
            after.shared[after.shares] = left;
            after.shares += 1;
        } else if let Some(chip) = after.shared[..after.shares].iter_mut().find(|free| **free == level) {
            *chip = left;
        }
        after
    }
}

/// The measures of a fleet against which packings hold a node.
#[derive(Clone, Debug, Default)]
pub struct Yardstick {
    /// Thousandths of a core of the node with the most; at least 1.
    pub node_cpu: i64,
    /// Thousandths of a chip of the node with the most; at least 1.
    pub node_chips: i64,
    /// Thousandths of a core of all nodes.
    pub fleet_cpu: i64,
    /// Thousandths of a chip of all nodes.
    pub fleet_chips: i64,
    /// Thousandths of a chip of all nodes of each kind.
    pub kind_chips: Vec<i64>,
    /// What a whole node of each kind has.
    pub whole_nodes: Vec<Need>,
}

impl Yardstick {
    /// The measures of a fleet.
    pub fn of(fleet: &Fleet) -> Self {
        let kinds = || fleet.nodes.iter().map(|node| fleet.kind(*node));
        let (cpu, chips) =
            (|kind: &NodeKind| i64::from(kind.cpu.get()), |kind: &NodeKind| i64::from(kind.chips) * WHOLE);
        let mut kind_chips = vec![0; fleet.node_kinds.len()];
        fleet.nodes.iter().for_each(|node| kind_chips[node.kind.ix()] += chips(fleet.kind(*node)));
        let whole = |kind: &NodeKind| Need {
            whole: i64::from(kind.chips),
            share: 0,
            cpu: cpu(kind),
            memory: i64::try_from(kind.memory.get()).unwrap_or(i64::MAX),
        };
        Self {
            node_cpu: kinds().map(cpu).max().unwrap_or(0).max(1),
            node_chips: kinds().map(chips).max().unwrap_or(0).max(1),
            fleet_cpu: kinds().map(cpu).sum(),
            fleet_chips: kinds().map(chips).sum(),
            kind_chips,
            whole_nodes: fleet.node_kinds.iter().map(whole).collect(),
        }
    }

    /// The node kinds of the fleet.
    pub fn kinds(&self) -> impl Iterator<Item = NodeKindIx> + use<> {
        (0..self.whole_nodes.len() as u32).map(NodeKindIx)
    }
}
