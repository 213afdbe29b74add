//! Waking parked lanes: only where what was given back could help exactly their shape.

use offtake_fleet::NodeIx;

use super::{Phase, State};
use crate::capacity::Withheld;
use crate::fact::{JobId, NodeRange, Placement};
use crate::place::{could_help, takes_one};
use crate::queue::{Blocked, Lane, LaneIx, LaneKey};

/// More stretches of nodes than this given back between two passes are not told apart.
const MOST_FREED: usize = 4096;

impl State {
    pub(crate) fn wake_job(&mut self, job: JobId) {
        if let Some(work) = self.jobs.get(&job)
            && let Phase::Pending(shape) = work.phase
            && let Some(lane) = self.lane_of(shape, &work.spec)
        {
            self.queue.wake(lane, false);
        }
    }

    /// Wakes the lanes that the capacity given back by a placement could help.
    pub(super) fn wake_on(&mut self, placement: &Placement) {
        placement.slots().for_each(|slot| self.wake_nodes(slot.nodes));
    }

    pub(super) fn wake_nodes(&mut self, nodes: NodeRange) {
        match &mut self.freed {
            Some(freed) if freed.len() < MOST_FREED => freed.push(nodes),
            freed => *freed = None,
        }
        let mut seen = None;
        for node in nodes.numbers().map(NodeIx) {
            if self.capacity.is_withheld(node, Withheld::Out) {
                continue;
            }
            // Nodes of one class in one domain help the same shapes, whoever asks.
            let like = (self.capacity.class_ix(node), self.fleet().nodes[node.ix()].domain);
            if !self.tenancy.is_single(node) && seen.replace(like) == Some(like) {
                continue;
            }
            let kind = self.fleet().nodes[node.ix()].kind;
            let helped: Vec<(LaneIx, bool)> = self
                .queue
                .parked_on(kind)
                .filter_map(|lane| self.help(self.queue.lane(lane), node).map(|only_freed| (lane, only_freed)))
                .collect();
            helped.into_iter().for_each(|(lane, only_freed)| self.queue.wake(lane, only_freed));
        }
    }

    /// Whether a node just given back could help a lane, and then whether only the node itself can.
    fn help(&self, lane: &Lane, node: NodeIx) -> Option<bool> {
        match lane.parked {
            // Watts given back under a cap help wherever the cap reaches.
            Some(Blocked::Power(_)) if self.capacity.is_under_a_cap(node) => Some(false),
            _ => self.node_helps(lane.key, node).then_some(true),
        }
    }

    fn node_helps(&self, key: LaneKey, node: NodeIx) -> bool {
        // How much room is around a node depends on who looks: where that matters it is found out by trying.
        let helps = if self.tenancy.is_empty() { could_help } else { takes_one };
        self.tenancy.admits(node, key.tenant)
            && self.shapes[key.shape.ix()].gangs.iter().any(|gang| helps(&self.capacity, gang, node))
    }

    /// Whether nodes given back since the last pass could help a lane, of those that are held or of those that are not.
    pub(crate) fn freed_helps(&self, key: LaneKey, held: bool) -> bool {
        let Some(freed) = &self.freed else { return true };
        let nodes = freed.iter().flat_map(|range| range.numbers()).map(NodeIx);
        nodes
            .filter(|node| self.capacity.is_withheld(*node, Withheld::Held) == held)
            .any(|node| self.node_helps(key, node))
    }
}
