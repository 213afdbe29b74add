//! The part of a pass that sees to health: nodes that have proved themselves take work, those that kill jobs take no more,
//! and jobs that kill nodes wait until somebody has looked at them.

use offtake_fleet::NodeIx;

use crate::decide::propose;
use crate::fact::{Event, Fact, JobId};
use crate::state::State;

/// Decides on nodes and jobs whose faults have come to what the policy bears.
pub fn judge(state: &mut State, facts: &mut Vec<Fact>) {
    while let Some(node) = state.proved() {
        propose(state, facts, Event::NodeProved { node });
    }
    let drains: Vec<(NodeIx, String)> = state.to_drain().map(|(node, why)| (node, why.reason())).collect();
    for (node, reason) in drains {
        propose(state, facts, Event::NodeDrained { node, reason });
    }
    // Those that run still are looked at when they wait.
    let waits = |job: &JobId| state.pending_shape(*job).is_some();
    let holds: Vec<JobId> = state.to_hold().filter(waits).collect();
    for job in holds {
        propose(state, facts, Event::JobHeld { job });
    }
}
