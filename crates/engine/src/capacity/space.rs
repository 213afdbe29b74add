//! What one node would have left, worked out beside the account: for searches that take work out only in thought.

use offtake_fleet::NodeIx;
use offtake_units::{ChipMilli, CpuMilli, Mebibytes};
use offtake_workload::ChipRequest;

use super::change::change_chips;
use super::{Capacity, SharedChip, Take};
use crate::request::Request;

/// What one node would have left.
#[derive(Clone, Debug)]
pub struct Space {
    free_chips: u64,
    shared: Vec<SharedChip>,
    cpu: CpuMilli,
    memory: Mebibytes,
}

impl Space {
    /// Work gives back what it took.
    pub fn give(&mut self, take: &Take) {
        change_chips(&mut self.free_chips, &mut self.shared, take, false);
        self.cpu += take.cpu;
        self.memory += take.memory;
    }

    /// How many workers of a gang would fit, at most `most`.
    pub fn workers(&self, gang: &Request, most: u32) -> u32 {
        let by_chips = match gang.chips {
            ChipRequest::None => most,
            ChipRequest::Whole(chips) => self.free_chips.count_ones() / u32::from(chips.max(1)),
            ChipRequest::Share(share) => {
                let each = share.get().max(1);
                let shared: u32 = self.shared.iter().map(|chip| u32::from(chip.free.get() / each)).sum();
                shared + self.free_chips.count_ones() * u32::from(ChipMilli::WHOLE.get() / each)
            }
        };
        let by_cpu = self.cpu.get().checked_div(gang.cpu.get()).unwrap_or(most);
        let by_memory = self.memory.get().checked_div(gang.memory.get()).unwrap_or(u64::from(most));
        by_chips.min(by_cpu).min(most).min(u32::try_from(by_memory).unwrap_or(most))
    }
}

impl Capacity {
    /// What a node has left, to work on.
    pub fn space(&self, node: NodeIx) -> Space {
        let state = &self.nodes[node.ix()];
        let free = &self.class_of(node).vector;
        Space { free_chips: state.free_chips, shared: state.shared.clone(), cpu: free.cpu, memory: free.memory }
    }
}
