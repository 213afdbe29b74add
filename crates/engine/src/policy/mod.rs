//! Policies: in which order jobs are tried, and which of several possible nodes a worker gets.
//!
//! A packing is a pure function: it sees what a node has left, the request and the mix of requests so far, and gives a
//! score, the lowest of which wins. Nodes with the same free vector get the same score, so it is computed once for all
//! of them. The published packings are those compared by Weng et al., "Beware of Fragmentation" (USENIX ATC 2023);
//! docs/policies.md says what each is good for.

mod bestfit;
mod clustering;
mod dotprod;
mod fgd;
mod file;
mod health;
mod mix;
mod offtake;
mod order;
mod packing;
mod preemption;
pub mod random;
mod replays;
mod room;
#[cfg(test)]
mod tests;
mod wide;

use std::fmt;
use std::sync::Arc;

use offtake_fleet::NodeKind;
use offtake_units::ChipMilli;
use serde::{Deserialize, Serialize};

use crate::capacity::FreeVector;
use crate::request::Request;
use crate::tenants::TenantTree;

pub use file::PolicyError;
pub use health::{Blame, Health, xid_in};
pub use order::{Factors, Fairness, Multifactor, Order};

pub use mix::{Counts, Mix, MixImage};
pub use preemption::Preemption;
use room::{Need, Room};

/// How jobs are ordered and placed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Policy {
    /// What happens behind a blocked job.
    pub queue: Queue,
    /// Which node a worker gets.
    pub packing: Packing,
    /// Seed of what is drawn at random.
    pub seed: u64,
    /// What is kept for those that wait.
    #[serde(default)]
    pub backfill: Backfill,
    /// When weaker work is stopped for stronger work; never where this is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub preemption: Option<Preemption>,
    /// What becomes of jobs that kill nodes and nodes that kill jobs; nothing where this is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub health: Option<Health>,
    /// Who goes first.
    #[serde(default, skip_serializing_if = "is_default")]
    pub order: Order,
    /// What counts in a share, and how long anybody waits behind others of the same tier.
    #[serde(default, skip_serializing_if = "is_default")]
    pub fairness: Fairness,
    /// The weights of [`Order::Multifactor`].
    #[serde(default, skip_serializing_if = "is_default")]
    pub multifactor: Multifactor,
    /// Tenants with weights, quotas and limits.
    #[serde(default, skip_serializing_if = "is_default")]
    pub tenants: Arc<TenantTree>,
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            queue: Queue::Backfill,
            packing: Packing::FirstFit,
            seed: 0,
            backfill: Backfill::default(),
            preemption: None,
            health: None,
            order: Order::default(),
            fairness: Fairness::default(),
            multifactor: Multifactor::default(),
            tenants: Arc::default(),
        }
    }
}

/// What is kept for blocked jobs where others may go first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Backfill {
    /// How many blocked jobs hold capacity, the first in order of those that may use the same kind of node; none for 0.
    /// With one it is EASY (Lifka, JSSPP 1995); with many it is conservative (Mu'alem and Feitelson, IEEE TPDS 2001).
    pub holds: u32,
    /// How long jobs are expected to run.
    #[serde(skip_serializing_if = "is_default")]
    pub estimates: Estimates,
}

impl Default for Backfill {
    fn default() -> Self {
        Self { holds: 1, estimates: Estimates::default() }
    }
}

/// How long a job is expected to run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Estimates {
    /// As long as its limit lets it.
    #[default]
    Limit,
    /// As long as the last two runs of its tenant and name took, and no longer than its limit lets it.
    History,
}

/// What happens behind a blocked job.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Queue {
    /// Everything waits.
    Fifo,
    /// Jobs that delay nobody for whom capacity is held go first.
    Backfill,
}

/// Which node a worker gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Packing {
    /// The lowest-numbered that fits.
    FirstFit,
    /// Any that fits, all equally likely.
    Random,
    /// The one whose free resources point least along the request.
    DotProd,
    /// One that runs requests of the same size.
    Clustering,
    /// One that is in use, on chips that are in use.
    Packing,
    /// The one with the least left.
    BestFit,
    /// The one on which free chips become useless to the typical request the least.
    Fgd,
    /// The one that loses the least of what it could still take.
    Offtake,
}

/// The policies that have a name.
const NAMED: [(&str, Queue, Packing, Order); 11] = [
    ("fifo", Queue::Fifo, Packing::FirstFit, Order::Turn),
    ("backfill", Queue::Backfill, Packing::FirstFit, Order::Turn),
    ("random", Queue::Backfill, Packing::Random, Order::Turn),
    ("dotprod", Queue::Backfill, Packing::DotProd, Order::Turn),
    ("clustering", Queue::Backfill, Packing::Clustering, Order::Turn),
    ("packing", Queue::Backfill, Packing::Packing, Order::Turn),
    ("bestfit", Queue::Backfill, Packing::BestFit, Order::Turn),
    ("fgd", Queue::Backfill, Packing::Fgd, Order::Turn),
    ("offtake", Queue::Backfill, Packing::Offtake, Order::Turn),
    ("multifactor", Queue::Backfill, Packing::FirstFit, Order::Multifactor),
    ("cohort", Queue::Backfill, Packing::FirstFit, Order::Cohort),
];

impl Policy {
    /// The names that [`Policy::named`] knows.
    pub const NAMES: [&str; NAMED.len()] = {
        let mut names = [""; NAMED.len()];
        let mut place = 0;
        while place < names.len() {
            names[place] = NAMED[place].0;
            place += 1;
        }
        names
    };

    /// The policy of a name.
    pub fn named(name: &str, seed: u64) -> Option<Self> {
        let (_, queue, packing, order) = NAMED.iter().find(|(known, ..)| *known == name)?;
        Some(Self { queue: *queue, packing: *packing, seed, order: *order, ..Self::default() })
    }

    /// Its name; none for a combination that has none.
    pub fn name(&self) -> Option<&'static str> {
        Self::NAMES.into_iter().find(|name| Self::named(name, self.seed).as_ref() == Some(self))
    }

    /// How many blocked jobs may hold capacity on one kind of node.
    pub fn most_holds(&self) -> usize {
        if self.order == Order::Cohort { 0 } else { self.backfill.holds as usize }
    }
}

impl fmt::Display for Policy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let like = |(_, queue, packing, order): &&(&str, Queue, Packing, Order)| {
            (*queue, *packing, *order) == (self.queue, self.packing, self.order)
        };
        match NAMED.iter().find(like) {
            Some((name, ..)) => f.write_str(name)?,
            None if self.order == Order::Turn => write!(f, "{:?} with {:?}", self.queue, self.packing)?,
            None => write!(f, "{:?} with {:?} by {:?}", self.queue, self.packing, self.order)?,
        }
        match self.backfill.holds {
            holds if holds == Backfill::default().holds => Ok(()),
            holds => write!(f, ", {holds} holds"),
        }
    }
}

/// A node's standing for a request; the lowest score wins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Scored {
    /// The lower, the better.
    pub score: i64,
    /// For a share of a chip: what the chip to take has left.
    pub level: ChipMilli,
}

impl Packing {
    /// What a free vector is worth by itself: the part of a score that no request changes.
    pub fn value(self, mix: &Mix, free: &FreeVector) -> i64 {
        match self {
            Self::Fgd => mix.typical().fragmented(&Room::of(free)),
            Self::Offtake => mix.replays().map_or(0, |replays| replays.value(&Room::of(free))),
            _ => 0,
        }
    }

    /// The standing of nodes with a free vector of this value for `workers` workers of a request that fits on them.
    pub fn score(
        self,
        mix: &Mix,
        free: &FreeVector,
        value: i64,
        kind: &NodeKind,
        request: &Request,
        workers: u32,
    ) -> Scored {
        let (room, need) = (Room::of(free), Need::of(request, workers));
        let yardstick = mix.yardstick();
        let scored = |score| Scored { score, level: ChipMilli::new(room.tightest(&need)) };
        match self {
            Self::FirstFit | Self::Random => scored(0),
            Self::DotProd => scored(dotprod::score(&room, &need, yardstick)),
            Self::Clustering => scored(clustering::score(free.sizes, &room, &need, yardstick)),
            Self::Packing => scored(packing::score(&room, &need, kind.chips)),
            Self::BestFit => scored(bestfit::score(&room, &need, yardstick)),
            Self::Fgd => fgd::score(mix.typical(), value, &room, &need),
            Self::Offtake => offtake::score(mix.replays(), yardstick, value, &room, &need),
        }
    }

    /// A score that nodes with a free vector cannot fall below, cheap to tell.
    pub fn least(self, mix: &Mix, free: &FreeVector, request: &Request, workers: u32) -> i64 {
        match self {
            Self::Offtake => offtake::least(mix.yardstick(), &Room::of(free), &Need::of(request, workers)),
            _ => i64::MIN,
        }
    }

    /// Whether nodes remember the sizes of the requests that run on them.
    pub const fn keeps_sizes(self) -> bool {
        matches!(self, Self::Clustering)
    }

    /// Whether a worker that needs a fresh node takes it from the fullest domain.
    pub const fn keeps_domains_whole(self) -> bool {
        !matches!(self, Self::Random)
    }
}
