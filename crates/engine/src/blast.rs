//! Attempts that keep a tenant's work within its blast radii: where one would have too much in one place, as much of it
//! as may be there stays open, the rest of the place is closed, and it is tried again.

use std::collections::{BTreeMap, BTreeSet};

use offtake_fleet::NodeIx;

use crate::capacity::Withheld;
use crate::fact::{JobId, Placement};
use crate::request::Shape;
use crate::state::State;
use crate::tenants::Area;

/// Where an attempt leads that keeps within the radii of a job's tenant; what it occupies otherwise is given back.
pub fn within_radii(
    state: &mut State,
    job: JobId,
    shape: &Shape,
    mut attempt: impl FnMut(&mut State) -> Option<Placement>,
) -> Option<Placement> {
    let mut closed: BTreeSet<Area> = BTreeSet::new();
    let found = loop {
        let Some(placement) = attempt(state) else { break None };
        // Several of its path may have a radius there: the least that is left to any counts.
        let mut exceeded: BTreeMap<Area, u64> = BTreeMap::new();
        for over in state.exceeded_by(job, shape, &placement) {
            let left = exceeded.entry(over.area).or_insert(over.left);
            *left = over.left.min(*left);
        }
        if exceeded.is_empty() {
            break Some(placement);
        }
        state.vacate_gangs(shape, &placement);
        for (area, left) in exceeded {
            // What was left open once and still was too much is closed.
            let left = if closed.insert(area) { left } else { 0 };
            close(state, shape, &placement, area, left);
        }
    };
    for nodes in closed.iter().flat_map(|area| area.nodes(state.fleet())).collect::<Vec<_>>() {
        state.capacity.offer_all(nodes, Withheld::Radius);
    }
    found
}

/// Closes an area but for the nodes of a placement, in their order, that hold no more than is left there.
fn close(state: &mut State, shape: &Shape, placement: &Placement, area: Area, mut left: u64) {
    let areas = area.nodes(state.fleet());
    let is_inside = |node: u32| areas.iter().any(|nodes| nodes.contains(&node));
    let mut open = BTreeSet::new();
    for (shown, milli) in shape.footprint_nodes(placement) {
        for node in shown.numbers().filter(|node| is_inside(*node)) {
            match left.checked_sub(milli) {
                Some(rest) if open.insert(node) => left = rest,
                _ => {}
            }
        }
    }
    for nodes in areas {
        state.capacity.withhold_all(nodes, Withheld::Radius);
    }
    open.into_iter().for_each(|node| state.capacity.offer(NodeIx(node), Withheld::Radius));
}
