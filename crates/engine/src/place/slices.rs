//! Slices of a torus: boxes of chips side by side, or whole grids that switches join.

use std::collections::BTreeMap;

use offtake_fleet::{NodeIx, Sides};

use super::{Placing, fits};
use crate::capacity::{Capacity, Part};
use crate::fact::{NodeRange, Slot};
use crate::request::Request;

impl Placing<'_> {
    /// Takes the chips of a slice, where that keeps larger boxes whole.
    pub(super) fn place_slice(&mut self, gang: &Request, sides: Sides, slots: &mut Vec<Slot>) -> bool {
        let inside = self.inside.map(|domain| self.capacity.fleet().domains[domain.ix()].nodes.clone());
        for (kind, _) in &gang.kinds {
            let will_do = |parts: &[Part]| {
                let lies = |(nodes, _): &Part| {
                    inside.as_ref().is_none_or(|around| around.start <= nodes.start && nodes.end <= around.end)
                };
                parts.iter().all(lies) && can_use(self.capacity, gang, parts)
            };
            let Some(parts) = self.capacity.slice(*kind, sides, will_do) else { continue };
            for (nodes, chips) in parts {
                let workers = workers(gang, chips);
                self.occupy(gang, nodes.clone(), workers, chips);
                let range = NodeRange { first: NodeIx(nodes.start), count: nodes.len() as u32 };
                Slot { nodes: range, workers, chips }.join(slots);
            }
            return true;
        }
        false
    }
}

fn workers(gang: &Request, chips: u64) -> u32 {
    chips.count_ones() / u32::from(gang.whole_chips().max(1))
}

/// Whether the nodes have processor and memory for the workers of a slice, and caps power for its chips.
fn can_use(capacity: &Capacity, gang: &Request, parts: &[Part]) -> bool {
    let mut draw = BTreeMap::new();
    for (nodes, chips) in parts {
        let workers = workers(gang, *chips);
        if !nodes.clone().all(|node| fits(&capacity.class_of(NodeIx(node)).vector, gang, workers)) {
            return false;
        }
        capacity.add_draw(nodes.clone(), &gang.take(workers, *chips), &mut draw);
    }
    draw.into_iter().all(|(limit, draw)| draw <= capacity.limits()[limit.ix()].left_for_more().max(0))
}
