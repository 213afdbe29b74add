//! Which jobs are on which node.

use offtake_engine::{JobId, Placement};
use offtake_fleet::NodeIx;

/// The jobs on each node.
#[derive(Clone, Debug)]
pub(crate) struct Occupants(Vec<Vec<JobId>>);

impl Occupants {
    /// So many nodes, on which nobody is.
    pub(crate) fn new(nodes: usize) -> Self {
        Self(vec![Vec::new(); nodes])
    }

    /// The jobs on a node, each once, in the order in which they came.
    pub(crate) fn on(&self, node: NodeIx) -> &[JobId] {
        self.0.get(node.ix()).map_or(&[], Vec::as_slice)
    }

    pub(crate) fn enter(&mut self, job: JobId, placement: &Placement) {
        for node in placement.slots().flat_map(|slot| slot.nodes.numbers()) {
            let jobs = &mut self.0[node as usize];
            // A node may run several slots of one job.
            if jobs.last() != Some(&job) {
                jobs.push(job);
            }
        }
    }

    pub(crate) fn leave(&mut self, job: JobId, placement: &Placement) {
        for node in placement.slots().flat_map(|slot| slot.nodes.numbers()) {
            self.0[node as usize].retain(|other| *other != job);
        }
    }
}
