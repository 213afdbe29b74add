//! What a node is worth to requests for several chips, each as if it came alone.
//!
//! Played in turn, the many small requests come first and leave nothing of a whole node to lose. But they find room
//! elsewhere as well, and what they take comes back piece by piece; a whole node comes back only when all that lies on it
//! has ended. So as far as work ends, a place of a wide request is worth the more, the fewer nodes there are that could
//! ever give it. Where work stays, the fleet fills up, and the combination counts that fills it best.

use offtake_fleet::NodeKindIx;

use super::mix::{Item, KindSet};
use super::replays::{Axis, LENGTH, REPLAYS, word};
use super::room::{Need, Room, WHOLE, Yardstick};

/// Where no work ends, what a wide request would find alone counts so many parts of the chips: without it whole nodes are
/// broken up for nothing, and with all of it a fleet filled past its capacity on openb takes 0.3 points less.
const LASTING: i128 = 3;

/// Where all work ends it counts so many times the chips, times the fleet's chips over those that could ever give it. On
/// openb at 0.95 of its capacity those who want 8 chips wait a tenth as long with three as with one.
const ENDING: i128 = 3;

const BILLION: i128 = 1_000_000_000;
const MILLION: i128 = 1_000_000;

/// The wide requests that are worth the most.
#[derive(Clone, Debug)]
pub struct Wide {
    cpu: Axis,
    memory: Axis,
    chips: Axis,
    /// Per node kind, those that may run there.
    allowed: Vec<u64>,
    /// What it is worth to each that it finds its place.
    worth: Vec<i64>,
}

impl Wide {
    /// Those of a demand of which `ending` in a million say when they end.
    ///
    /// Nobody has asked yet for what will be asked for: a whole node of each kind counts as asked for once, as in the
    /// rule of succession. Otherwise the first to fill the fleet would break up its largest nodes for months.
    pub fn of(weights: &[(&Item, i128)], total: i128, ending: i64, yardstick: &Yardstick) -> Self {
        let whole_nodes: Vec<Item> = yardstick.whole_nodes.iter().map(|need| whole_node(*need, yardstick)).collect();
        let foreseen = whole_nodes.iter().map(|item| (item, i128::from(item.need.chip_milli())));
        // In parts of a billion of the demand, of a million jobs, of the parts that count where no work ends.
        let worth = |item: &Item, weight: i128, times: i128| {
            let chips = i128::from(item.need.whole * WHOLE * REPLAYS as i64);
            (chips * (weight * BILLION / total) * times / (BILLION * MILLION * LASTING)) as i64
        };
        let rare = |item: &Item| {
            let could = yardstick.kinds().filter(|kind| item.kinds.contains(*kind));
            let could: i64 = could.map(|kind| yardstick.kind_chips[kind.ix()]).sum();
            LASTING * ENDING * i128::from(ending) * i128::from(yardstick.fleet_chips) / i128::from(could.max(1))
        };
        let known = weights.iter().map(|(item, weight)| (worth(item, *weight, MILLION + rare(item)), *item));
        let foreseen = foreseen.map(|(item, weight)| (worth(item, weight, rare(item)), item));
        let mut listed: Vec<(i64, &Item)> =
            known.chain(foreseen).filter(|(worth, item)| item.need.whole > 1 && *worth > 0).collect();
        listed.sort_unstable_by(|a, b| b.cmp(a));
        listed.truncate(LENGTH);
        let items: Vec<&Item> = listed.iter().map(|(_, item)| *item).collect();
        let axis = |of: fn(&Need) -> i64| Axis::new(&items, of);
        Self {
            cpu: axis(|need| need.cpu),
            memory: axis(|need| need.memory),
            chips: axis(|need| need.whole),
            allowed: yardstick.kinds().map(|kind| word(&items, |item| item.kinds.contains(kind))).collect(),
            worth: listed.iter().map(|(worth, _)| *worth).collect(),
        }
    }

    /// What a node with this room is worth to them, in thousandths of a chip for all replays.
    pub fn worth(&self, room: &Room) -> i64 {
        if room.whole < 2 || self.worth.is_empty() {
            return 0;
        }
        let within = |axis: &Axis, free| axis.words(0)[axis.rank(free)];
        let mut fits = within(&self.cpu, room.cpu)
            & within(&self.memory, room.memory)
            & within(&self.chips, room.whole)
            & self.allowed[room.kind.ix()];
        let mut worth = 0;
        while fits != 0 {
            worth += self.worth[fits.trailing_zeros() as usize];
            fits &= fits - 1;
        }
        worth
    }
}

/// A request for all of a node, on the kinds that have as much.
fn whole_node(need: Need, yardstick: &Yardstick) -> Item {
    let has = |other: &Need| other.whole >= need.whole && other.cpu >= need.cpu && other.memory >= need.memory;
    let kinds: Vec<(NodeKindIx, u32)> =
        yardstick.kinds().filter(|kind| has(&yardstick.whole_nodes[kind.ix()])).map(|kind| (kind, 1)).collect();
    Item { need, kinds: KindSet::of(&kinds, yardstick.whole_nodes.len()) }
}
