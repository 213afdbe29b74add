//! `packing`: chips in use first, then free chips of nodes in use, then idle nodes.
//!
//! After the multi-resource packing of MLaaS (Weng et al., NSDI 2022) as compared in USENIX ATC 2023, section 6. On a
//! scale of 100 points, a shared chip gets 91 to 100, the more the less it has left; free chips of a node in use get 33
//! to 50, falling with the number asked for; an idle node gets at most 33, falling with its chips, so that the smallest
//! is opened first.

use super::room::{Need, Room, WHOLE};

/// Minus the points. A request without chips goes anywhere.
pub fn score(room: &Room, need: &Need, chips: u16) -> i64 {
    if need.is_host_only() {
        return 0;
    }
    if room.whole == i64::from(chips) {
        return -(33 - room.whole).max(0);
    }
    let level = i64::from(room.tightest(need));
    if need.share == 0 {
        -(50 - need.whole).max(33)
    } else if level == WHOLE {
        -(50 - 1)
    } else {
        -(100 - level * 100 / WHOLE / 10)
    }
}
