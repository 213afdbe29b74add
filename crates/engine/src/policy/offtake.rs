//! `offtake`: a node is worth the work it would still take.
//!
//! The demand so far is kept as replays: short sequences of requests drawn from it (see [`super::replays`]). A node's
//! value is the chips that it alone would take off them, from its free processor, memory and chips, with each
//! request on the tightest chip. A placement costs the value that it destroys beyond what it uses; as what it uses is
//! the same on every node, the node is best where the value falls the least.
//!
//! To that comes what requests for several chips would find on the node if they came alone (see [`super::wide`]): without
//! it, a fleet below its capacity breaks up whole nodes that nobody else will ever fill.
//!
//! Fragmentation measures ask which one request still fits; replays ask which *combination* still does, so a core that
//! stands between a free chip and its next request counts for what it costs. Of equal losses, the node with the least
//! left wins: before anything is learned this is best fit.

use offtake_units::ChipMilli;

use super::Scored;
use super::replays::{REPLAYS, Replays};
use super::room::{Need, Room, WHOLE, Yardstick};

/// Room for what is left, in parts of the largest node, below the loss.
const TIE_BITS: u32 = 21;

/// Shared chips of a node that are looked at, the tightest: as many as most nodes have at all.
const MOST_CHOICES: usize = 8;

/// A loss is told apart from another in so many parts of what is asked for, of one chip at most. Finer than this a sample
/// tells more chance than loss, and what counts is that nodes fill up.
const GRAINS: i64 = 10;

/// A larger loss counts as this, so that a score stays a number of 64 bits.
const MOST_LOSS: i64 = 1 << (i64::BITS - 2 - TIE_BITS);

/// Parts of the largest node.
const PARTS: i64 = 1_000_000;

/// The chip on which the value falls the least, the tightest of equals; `value` is the value before.
pub fn score(replays: Option<&Replays>, yardstick: &Yardstick, value: i64, room: &Room, need: &Need) -> Scored {
    let mut best = Scored { score: i64::MAX, level: ChipMilli::WHOLE };
    let asked = if need.chip_milli() == 0 { WHOLE } else { need.chip_milli().min(WHOLE) };
    let grain = (asked * REPLAYS as i64 / GRAINS).max(1);
    // The wholly free chip is the last choice; it is always looked at.
    let choices = room.choices(need).enumerate();
    for (_, level) in choices.filter(|(place, level)| *place < MOST_CHOICES || *level == ChipMilli::WHOLE.get()) {
        // Taken greedily, a smaller node may by chance take more; that is no gain.
        let loss = (value - replays.map_or(0, |replays| replays.value(&room.after(need, level)))).max(0) / grain;
        let loss = loss.min(MOST_LOSS);
        if loss < best.score {
            best = Scored { score: loss, level: ChipMilli::new(level) };
        }
    }
    Scored { score: (best.score << TIE_BITS) + least(yardstick, room, need), level: best.level }
}

/// The score where nothing is lost: what would be left, in parts of the largest node.
pub fn least(yardstick: &Yardstick, room: &Room, need: &Need) -> i64 {
    let chips = (room.left() - need.chip_milli()) * PARTS / yardstick.node_chips;
    let cpu = (room.cpu - need.cpu) * PARTS / yardstick.node_cpu;
    chips + cpu
}
