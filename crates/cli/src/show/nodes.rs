//! Nodes, one a line.

use offtake_protocol::rest::{NodeState, NodeView};

use super::figures::{gib, milli, since};
use crate::terminal::{Align, grouped, listing};

/// What is said where there is none.
pub const NONE: &str =
    "No node has joined. 'offtake token join' makes a token for one; then run 'offtake agent' there.\n";

const COLUMNS: [(&str, Align); 9] = [
    ("node", Align::Left),
    ("state", Align::Left),
    ("chips", Align::Right),
    ("used", Align::Right),
    ("cores", Align::Right),
    ("used", Align::Right),
    ("GiB", Align::Right),
    ("W", Align::Right),
    ("remarks", Align::Left),
];

/// A table of nodes as they stand at `now_ms`.
pub fn nodes(nodes: &[NodeView], now_ms: i64, width: Option<usize>) -> String {
    let rows: Vec<Vec<String>> = nodes.iter().map(|node| row(node, now_ms)).collect();
    listing(&COLUMNS, &rows, width)
}

fn row(node: &NodeView, now_ms: i64) -> Vec<String> {
    let chips = match &node.accelerator {
        Some(kind) if node.chips > 0 => format!("{} {kind}", node.chips),
        _ => node.chips.to_string(),
    };
    vec![
        node.name.clone(),
        state(node.state).to_owned(),
        chips,
        milli(node.chip_milli_in_use),
        milli(node.cpu_milli),
        milli(node.cpu_milli_in_use),
        gib(node.memory_mib),
        grouped(node.power_w),
        remark(node, now_ms),
    ]
}

/// What else is to be said of a node, the most pressing first.
fn remark(node: &NodeView, now_ms: i64) -> String {
    let mut parts = Vec::new();
    parts.extend(node.reason.clone());
    if let (NodeState::Down, Some(seen)) = (node.state, node.seen_ms) {
        parts.push(format!("last seen {} ago", since(seen, now_ms)));
    }
    match node.jobs.as_slice() {
        [] => {}
        [job] => parts.push(format!("job {job}")),
        jobs if jobs.len() <= 4 => {
            parts.push(format!("jobs {}", jobs.iter().map(u64::to_string).collect::<Vec<_>>().join(" ")));
        }
        jobs => parts.push(format!("{} jobs", jobs.len())),
    }
    parts.extend(node.not_throttled.as_ref().map(|why| format!("not throttled: {why}")));
    parts.push(node.domain.clone());
    parts.retain(|part| !part.is_empty());
    parts.join("; ")
}

/// The word for a state.
pub const fn state(state: NodeState) -> &'static str {
    match state {
        NodeState::Idle => "idle",
        NodeState::Mixed => "mixed",
        NodeState::Allocated => "allocated",
        NodeState::Draining => "draining",
        NodeState::Drained => "drained",
        NodeState::Down => "down",
        NodeState::Expected => "expected",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::show::samples;

    #[test]
    fn every_state_in_a_table() {
        insta::assert_snapshot!(nodes(&samples::nodes(), samples::NOW, None));
    }

    #[test]
    fn every_state_in_80_columns() {
        let text = nodes(&samples::nodes(), samples::NOW, Some(80));
        assert!(text.lines().all(|line| line.chars().count() <= 80), "{text}");
        insta::assert_snapshot!(text);
    }
}
