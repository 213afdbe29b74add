//! `clustering`: requests of one size keep to the same nodes.
//!
//! After Gandiva (Xiao et al., OSDI 2018) as Weng et al. compare it (USENIX ATC 2023, section 6). A request's size is
//! "a share" or its number of chips; a node carries the sizes of what runs on it. Best is a node with this size alone,
//! then one with this size among others, then an unused one. The four cases lie 25 points apart; up to 25 more points
//! go to what the node has in use, in parts of the largest node, so that fuller nodes come first within a case.

use super::room::{Need, Room, Yardstick};
use crate::capacity::size_bit;

/// Points between two cases, and the most that a node's use adds.
const STEP: i64 = 25;

/// Minus the points; `sizes` are those of the node, as bits. A request without chips has no size.
pub fn score(sizes: u64, room: &Room, need: &Need, yardstick: &Yardstick) -> i64 {
    if need.is_host_only() {
        return 0;
    }
    let mine = size_bit(need.whole as u32, need.share > 0);
    let case = match sizes {
        only if only == mine => 3,
        mixed if mixed & mine != 0 => 2,
        0 => 1,
        _ => 0,
    };
    let used = yardstick.node_chips - room.left();
    -(case * STEP + STEP * used / yardstick.node_chips)
}
