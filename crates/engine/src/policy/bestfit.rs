//! `bestfit`: the node with the least left, after the request, in processor and chips.
//!
//! As Weng et al. compare it (USENIX ATC 2023, section 6), after Protean (Hadary et al., OSDI 2020): what is left counts
//! as parts of the largest node, and of 100 points their mean is taken off. Whole points, as published.

use super::room::{Need, Room, Yardstick};

/// Minus the points of 100.
pub fn score(room: &Room, need: &Need, yardstick: &Yardstick) -> i64 {
    let (cpu, chips) = (i128::from(yardstick.node_cpu), i128::from(yardstick.node_chips));
    let left = i128::from(room.cpu - need.cpu) * chips + i128::from(room.left() - need.chip_milli()) * cpu;
    -((200 * cpu * chips - 100 * left) / (2 * cpu * chips)) as i64
}
