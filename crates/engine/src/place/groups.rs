//! Gangs in groups: each group in one domain of a level, all in one domain of a wider level.
//!
//! Any domain of the groups' level that takes several groups takes whole ones, so in the order of nodes the first so
//! many workers are one group, the next so many another.

use offtake_fleet::{DomainIx, LevelIx, NodeIx, NodeKindIx};

use super::Placing;
use crate::capacity::{CellIx, Withheld};
use crate::fact::Slot;
use crate::request::Request;

/// What a group takes where it fills whole nodes.
#[derive(Clone, Copy)]
struct Whole {
    nodes: u32,
    per_node: u32,
    level: LevelIx,
}

impl Placing<'_> {
    /// Places groups that each fill whole nodes, all in the fullest domain at a level that can give enough of them.
    pub(super) fn place_whole_groups(
        &mut self,
        gang: &Request,
        kind: NodeKindIx,
        per_node: u32,
        level: LevelIx,
        slots: &mut Vec<Slot>,
    ) -> bool {
        let Some((group, inner)) = gang.groups.filter(|(group, _)| group.is_multiple_of(per_node)) else {
            return false;
        };
        let (count, nodes) = (gang.workers / group, group / per_node);
        let enough = |cell| self.capacity.groups_in(cell, nodes, inner, count) >= count;
        let Some(cell) = self.fullest_where(kind, level, count * nodes, enough) else { return false };
        let placed = self.take_groups(cell, count, Whole { nodes, per_node, level: inner }, gang, slots);
        if !placed {
            self.undo(gang, slots);
        }
        placed
    }

    /// Takes `count` groups of a cell: all from one child if one can give them, otherwise from the children that can
    /// give the most.
    fn take_groups(&mut self, cell: CellIx, count: u32, whole: Whole, gang: &Request, slots: &mut Vec<Slot>) -> bool {
        let entry = self.capacity.cell(cell);
        if entry.level >= whole.level {
            return self.take_nodes(cell, count * whole.nodes, gang, whole.per_node, slots);
        }
        let children = entry.children.clone().map(CellIx);
        let mut able: Vec<(u32, u32, CellIx)> = children
            .map(|child| {
                let groups = self.capacity.groups_in(child, whole.nodes, whole.level, count);
                (groups, self.capacity.usable(child), child)
            })
            .filter(|(groups, ..)| *groups > 0)
            .collect();
        able.sort_unstable_by_key(|(groups, usable, child)| {
            (*groups, std::cmp::Reverse(*usable), std::cmp::Reverse(*child))
        });
        let mut left = count;
        while left > 0 {
            // Of the children that can give all that is left, the one that can give the least, and is the fullest.
            let enough = able.partition_point(|(groups, ..)| *groups < left);
            let of_these = able.get(enough).map_or(left, |(groups, ..)| *groups);
            let place = able.partition_point(|(groups, ..)| *groups <= of_these);
            let Some(place) = place.checked_sub(1) else { return false };
            let (.., child) = able.remove(place);
            // A cap may lie on several children, so that what one has taken the others lack.
            let given = self.capacity.groups_in(child, whole.nodes, whole.level, left);
            if given > 0 && !self.take_groups(child, given, whole, gang, slots) {
                return false;
            }
            left -= given;
        }
        true
    }

    /// Puts groups wherever the domains of their level inside one domain have room, the fullest first.
    pub(super) fn fill_groups(
        &mut self,
        gang: &Request,
        group: u32,
        level: LevelIx,
        domain: DomainIx,
        slots: &mut Vec<Slot>,
    ) -> bool {
        let one = Request { workers: group, ..gang.clone() };
        let mut inner = Vec::new();
        self.domains_with_room(&one, domain, level, &mut inner);
        inner.sort_unstable();
        let mut left = gang.workers / group;
        for (_, domain) in inner {
            while left > 0 {
                let mut slots_of_one = Vec::new();
                if !self.fill(&one, domain, &mut slots_of_one) {
                    self.take_back(&one, &slots_of_one);
                    break;
                }
                slots.append(&mut slots_of_one);
                left -= 1;
            }
        }
        left == 0
    }

    /// Takes one group back, and leaves the others of its gang.
    fn take_back(&mut self, gang: &Request, slots: &[Slot]) {
        self.release(gang, slots);
        let nodes = slots.iter().flat_map(|slot| slot.nodes.numbers().map(|node| (node, slot.workers)));
        for (node, workers) in nodes {
            let Some(here) = self.on_node.get_mut(&node) else { continue };
            *here -= workers;
            if *here == 0 {
                self.on_node.remove(&node);
            }
            self.capacity.offer(NodeIx(node), Withheld::Full);
        }
    }
}
