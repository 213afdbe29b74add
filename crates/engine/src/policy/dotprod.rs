//! `dotprod`: the node whose free processor and chips have the smallest product with the request.
//!
//! The alignment score of Tetris (Grandl et al., SIGCOMM 2014) as Weng et al. use it (USENIX ATC 2023, section 6): free
//! and requested amounts count as parts of the largest node, and of 100 points the mean product is taken off, so that
//! nodes with little left that matters to the request come first. Whole points, as published: closer scores are equal.

use super::room::{Need, Room, Yardstick};

/// Minus the points of 100.
pub fn score(room: &Room, need: &Need, yardstick: &Yardstick) -> i64 {
    let (cpu, chips) = (i128::from(yardstick.node_cpu).pow(2), i128::from(yardstick.node_chips).pow(2));
    let product = i128::from(room.cpu) * i128::from(need.cpu) * chips
        + i128::from(room.left()) * i128::from(need.chip_milli()) * cpu;
    -((100 * cpu * chips - 50 * product) / (cpu * chips)) as i64
}
