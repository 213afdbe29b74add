//! Waking what waits: only where what was given back could help exactly its shape.

use offtake_fleet::NodeIx;

use super::{Phase, State};
use crate::capacity::Withheld;
use crate::fact::{JobId, NodeRange, Placement};
use crate::place::{ShapeIx, could_help, takes_one};
use crate::queue::LaneKey;

/// More stretches of nodes than this given back between two passes are not told apart.
const MOST_FREED: usize = 4096;

impl State {
    pub(crate) fn wake_job(&mut self, job: JobId) {
        if let Some(work) = self.jobs.get(&job)
            && let Phase::Pending(shape) = work.phase
            && let Some(lane) = self.lane_of(shape, &work.spec)
        {
            self.queue.wake(lane);
        }
    }

    /// Stirs the shapes that the capacity given back by a placement could help.
    pub(super) fn wake_on(&mut self, placement: &Placement) {
        placement.slots().for_each(|slot| self.wake_nodes(slot.nodes));
    }

    pub(super) fn wake_nodes(&mut self, nodes: NodeRange) {
        match &mut self.freed {
            Some(freed) if freed.len() < MOST_FREED => freed.push(nodes),
            freed => *freed = None,
        }
        self.wake_windows_on(nodes);
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
            let is_under_a_cap = self.capacity.is_under_a_cap(node);
            let help = |(shape, waits_for_power): (ShapeIx, bool)| match waits_for_power && is_under_a_cap {
                // Watts given back under a cap help wherever the cap reaches.
                true => Some((shape, false)),
                false => self.node_helps(shape, node).then_some((shape, true)),
            };
            let helped: Vec<(ShapeIx, bool)> = self.queue.asleep_on(kind).filter_map(help).collect();
            helped.into_iter().for_each(|(shape, only_freed)| self.queue.stir(shape, only_freed));
        }
    }

    fn node_helps(&self, shape: ShapeIx, node: NodeIx) -> bool {
        // How much room is around a node depends on who looks: where that matters it is found out by trying.
        let helps = if self.tenancy.is_empty() { could_help } else { takes_one };
        self.shapes[shape.ix()].gangs.iter().any(|gang| helps(&self.capacity, gang, node))
    }

    /// Whether nodes given back since the last pass could help a lane, with what holds keep for later or without.
    pub(crate) fn freed_helps(&self, key: LaneKey, under_holds: bool) -> bool {
        let Some(freed) = &self.freed else { return true };
        // One worker goes to one node; of several, some may go to what is held and others to what is not.
        let is_one = self.shapes[key.shape.ix()].gangs.iter().map(|gang| gang.workers).sum::<u32>() == 1;
        let counts = |node: &NodeIx| match self.capacity.is_withheld(*node, Withheld::Held) {
            true => under_holds,
            false => !under_holds || !is_one,
        };
        let mut nodes = freed.iter().flat_map(|range| range.numbers()).map(NodeIx).filter(counts);
        nodes.any(|node| self.tenancy.admits(node, key.tenant) && self.node_helps(key.shape, node))
    }
}
