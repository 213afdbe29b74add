//! The mix of requests that has been asked for, learned from what is submitted.
//!
//! Counting is all that a submission costs. What packings need of the mix is derived from the counts anew each time a
//! quarter more has been submitted, and once an hour: on the openb lists a mix learned so loses nothing against one known
//! beforehand, and the work per submission stays bounded. It is a function of the facts alone.

use std::collections::{BTreeMap, btree_map};
use std::sync::Arc;

use offtake_fleet::{Fleet, NodeKindIx};
use offtake_units::{Duration, Timestamp};
use serde::{Deserialize, Serialize};

use super::Packing;
use super::fgd::Typical;
use super::replays::Replays;
use super::room::{Need, Room, Yardstick};
use crate::capacity::Classes;
use crate::place::ShapeIx;
use crate::request::{Request, Shape};

/// Submissions before the mix is first used; then it is derived anew when one in [`GROWTH`] has come on top, and once an
/// hour.
const FIRST: u64 = 16;

/// Looking only at 16, 64, 256, … costs openb at nine tenths of its capacity a point of
/// fragmentation.
const GROWTH: u64 = 4;

/// A gang counts as its workers, as far as this: one of 100,000 must not drown what all others ask for.
const MOST_WORKERS: u32 = 1024;

/// Distinct requests that are looked at, the most frequent: the tail beyond weighs nothing in a sample of 2,048.
const MOST_ITEMS: usize = 4096;

/// A set of node kinds.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct KindSet(Box<[u64]>);

impl KindSet {
    /// These, of `all` that there are.
    pub fn of(kinds: &[(NodeKindIx, u32)], all: usize) -> Self {
        let mut words = vec![0; all.div_ceil(64)];
        kinds.iter().for_each(|(kind, _)| words[kind.ix() / 64] |= 1 << (kind.ix() % 64));
        Self(words.into_boxed_slice())
    }

    /// Whether a kind is in it.
    pub fn contains(&self, kind: NodeKindIx) -> bool {
        self.0[kind.ix() / 64] >> (kind.ix() % 64) & 1 == 1
    }
}

/// What one worker asks for. In order: the fewest chips first.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Item {
    /// How much.
    pub need: Need,
    /// On which node kinds.
    pub kinds: KindSet,
}

/// Requests and how often each was made.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Demand(BTreeMap<Item, i64>);

impl Demand {
    /// Adds to a request's count.
    pub fn add(&mut self, item: Item, count: i64) {
        *self.0.entry(item).or_insert(0) += count;
    }

    /// A request's count.
    pub fn count(&self, item: &Item) -> i64 {
        self.0.get(item).copied().unwrap_or(0)
    }

    /// Requests and counts, the fewest chips first.
    pub fn iter(&self) -> btree_map::Iter<'_, Item, i64> {
        self.0.iter()
    }

    fn keep_most_frequent(&mut self) {
        if self.0.len() > MOST_ITEMS {
            let mut list: Vec<_> = std::mem::take(&mut self.0).into_iter().collect();
            list.sort_by(|(a, many), (b, few)| few.cmp(many).then_with(|| b.cmp(a)));
            list.truncate(MOST_ITEMS);
            self.0 = list.into_iter().collect();
        }
    }
}

impl IntoIterator for Demand {
    type Item = (Item, i64);
    type IntoIter = btree_map::IntoIter<Item, i64>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.into_iter()
    }
}

/// What has been asked for so far.
#[derive(Clone, Debug, Default)]
pub struct Mix {
    yardstick: Yardstick,
    kinds: usize,
    submitted: u64,
    /// Submissions of jobs that say when they end.
    ending: u64,
    next: u64,
    next_hour: Timestamp,
    /// Submissions of each shape.
    counts: Vec<Counts>,
    typical: Typical,
    replays: Option<Arc<Replays>>,
}

/// Submissions of a shape: all of them, and as they were when what packings need was derived.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counts {
    /// Until now.
    now: i64,
    /// When the typical requests were derived.
    typical: i64,
    /// When the replays were drawn.
    replays: i64,
}

impl Counts {
    /// Counts another shape that has become the same.
    pub const fn add(&mut self, other: Self) {
        self.now += other.now;
        self.typical += other.typical;
        self.replays += other.replays;
    }
}

/// The mix as it is kept in an image of the state, beside the counts of each shape.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MixImage {
    submitted: u64,
    #[serde(default)]
    ending: u64,
    /// The share of them, in millionths, when the replays were drawn.
    #[serde(default)]
    drawn_ending: i64,
    next: u64,
    next_hour: Timestamp,
}

impl Mix {
    /// Nothing yet, on a fleet.
    pub fn new(fleet: &Fleet) -> Self {
        Self { yardstick: Yardstick::of(fleet), kinds: fleet.node_kinds.len(), next: FIRST, ..Self::default() }
    }

    /// Counts a shape submitted at `now` by a job that says when it ends, or does not; true when scores that were computed
    /// before no longer hold.
    pub fn learn(
        &mut self,
        packing: Packing,
        (shape, ends): (ShapeIx, bool),
        now: Timestamp,
        shapes: &[Arc<Shape>],
    ) -> bool {
        if self.counts.len() <= shape.ix() {
            self.counts.resize(shape.ix() + 1, Counts::default());
        }
        self.counts[shape.ix()].now += 1;
        self.submitted += 1;
        self.ending += u64::from(ends);
        if self.submitted < FIRST || (self.submitted < self.next && now < self.next_hour) {
            return false;
        }
        self.next = self.submitted + self.submitted / GROWTH;
        self.next_hour = now.saturating_add(Duration::HOUR);
        self.derive(packing, shapes)
    }

    /// Derives from the counts what a packing needs; true when scores that were computed before no longer hold.
    pub fn derive(&mut self, packing: Packing, shapes: &[Arc<Shape>]) -> bool {
        self.counts.iter_mut().for_each(|counts| counts.typical = counts.now);
        let demand = self.demand(shapes, |counts| counts.now);
        self.take(packing, &demand)
    }

    fn demand(&self, shapes: &[Arc<Shape>], count: impl Fn(&Counts) -> i64) -> Demand {
        let mut demand = Demand::default();
        let counts = self.counts.iter().map(count);
        for (shape, count) in shapes.iter().zip(counts).filter(|(_, count)| *count > 0) {
            for gang in &shape.gangs {
                demand.add(self.item(gang), count * i64::from(gang.workers.min(MOST_WORKERS)));
            }
        }
        demand.keep_most_frequent();
        demand
    }

    /// What an image keeps, beside the counts.
    pub fn image(&self) -> MixImage {
        let Self { submitted, ending, next, next_hour, .. } = *self;
        let drawn_ending = self.replays.as_ref().map_or(0, |replays| replays.ending());
        MixImage { submitted, ending, drawn_ending, next, next_hour }
    }

    /// How often a shape was submitted.
    pub fn counts(&self, shape: ShapeIx) -> Counts {
        self.counts.get(shape.ix()).copied().unwrap_or_default()
    }

    /// The mix of an image on a fleet, with the counts of each shape.
    pub fn restore(fleet: &Fleet, image: MixImage, counts: Vec<Counts>, shapes: &[Arc<Shape>]) -> Self {
        let MixImage { submitted, ending, drawn_ending, next, next_hour } = image;
        let mut mix = Self { submitted, ending, next, next_hour, counts, ..Self::new(fleet) };
        mix.typical = Typical::of(&mix.demand(shapes, |counts| counts.typical));
        let drawn = mix.demand(shapes, |counts| counts.replays);
        mix.replays = Replays::draw(&drawn, drawn_ending, &mix.yardstick, None).map(Arc::new);
        mix
    }

    fn take(&mut self, packing: Packing, demand: &Demand) -> bool {
        self.typical = Typical::of(demand);
        let ending = (self.ending * 1_000_000 / self.submitted.max(1)) as i64;
        match packing {
            Packing::Fgd => true,
            Packing::Offtake => match Replays::draw(demand, ending, &self.yardstick, self.replays.as_deref()) {
                Some(drawn) => {
                    self.replays = Some(Arc::new(drawn));
                    self.counts.iter_mut().for_each(|counts| counts.replays = counts.now);
                    true
                }
                None => false,
            },
            _ => false,
        }
    }

    fn item(&self, gang: &Request) -> Item {
        Item { need: Need::of(gang, 1), kinds: KindSet::of(&gang.kinds, self.kinds) }
    }

    /// A mix that is known beforehand: requests and how often each is made.
    #[cfg(test)]
    pub fn given(fleet: &Fleet, packing: Packing, requests: &[(Request, i64)], ends: bool) -> Self {
        let mut mix = Self { submitted: 1, ending: u64::from(ends), ..Self::new(fleet) };
        let mut demand = Demand::default();
        requests.iter().for_each(|(request, count)| demand.add(mix.item(request), *count));
        mix.take(packing, &demand);
        mix
    }

    /// The fleet's measures.
    pub const fn yardstick(&self) -> &Yardstick {
        &self.yardstick
    }

    /// The typical requests.
    pub const fn typical(&self) -> &Typical {
        &self.typical
    }

    /// Samples of the demand; none before any was learned.
    pub fn replays(&self) -> Option<&Replays> {
        self.replays.as_deref()
    }

    /// Free chips, in thousandths, that the typical request could not use because of where they are: the fragmentation
    /// of Weng et al. (USENIX ATC 2023, section 4). None before any request is known.
    pub fn fragmented(&self, classes: &Classes) -> u64 {
        let of_class = |class: &crate::capacity::Class| {
            i128::from(self.typical.fragmented(&Room::of(&class.vector))) * i128::from(class.nodes())
        };
        let sum: i128 = classes.iter().map(of_class).sum();
        (sum / i128::from(self.typical.total().max(1))) as u64
    }
}
