//! `sinfo`: nodes, those alike on one line.

use clap::Parser;
use offtake_protocol::rest::{NodeState, NodeView};
use offtake_workload::hostlist;

use super::format::Format;
use super::{PARTITION, open, states};
use crate::terminal::{BadInput, print, printable};

/// List nodes of an Offtake server, as Slurm's sinfo does.
#[derive(Parser, Debug)]
#[command(name = "sinfo", version, disable_help_flag = true, infer_long_args = true)]
pub struct Arguments {
    /// One line a node
    #[arg(short = 'N', long = "Node")]
    node: bool,
    /// Only these nodes
    #[arg(short, long)]
    nodes: Option<String>,
    /// Only those in these states, separated by commas
    #[arg(short = 't', long, value_delimiter = ',')]
    states: Vec<String>,
    /// What to print of each node
    #[arg(short = 'o', long)]
    format: Option<String>,
    /// Print no titles
    #[arg(short = 'h', long)]
    noheader: bool,
    /// Print more of each node
    #[arg(short, long, conflicts_with = "format")]
    long: bool,
    /// Why nodes are down or drained
    #[arg(short = 'R', long, conflicts_with_all = ["format", "long"])]
    list_reasons: bool,
    /// Print help
    #[arg(long, action = clap::ArgAction::Help)]
    help: Option<bool>,
}

const FIELDS: [(char, &str); 17] = [
    ('C', "CPUS(A/I/O/T)"),
    ('D', "NODES"),
    ('E', "REASON"),
    ('F', "NODES(A/I/O/T)"),
    ('G', "GRES"),
    ('N', "NODELIST"),
    ('P', "PARTITION"),
    ('R', "PARTITION"),
    ('T', "STATE"),
    ('a', "AVAIL"),
    ('c', "CPUS"),
    ('e', "FREE_MEM"),
    ('f', "AVAIL_FEATURES"),
    ('l', "TIMELIMIT"),
    ('m', "MEMORY"),
    ('n', "HOSTNAMES"),
    ('t', "STATE"),
];
/// Fields that tell of all nodes of a line together.
const TOGETHER: &str = "CDFN";

pub async fn run(arguments: Arguments) -> anyhow::Result<()> {
    let known: String = FIELDS.iter().map(|(letter, _)| *letter).collect();
    let wanted =
        arguments.format.as_deref().unwrap_or(match (arguments.node, arguments.long, arguments.list_reasons) {
            (_, _, true) => "%20E %N",
            (true, true, _) => "%N %.6D %.9P %.11T %.4c %.8m %G %20E",
            (true, false, _) => "%N %.6D %.9P %6t",
            (false, true, _) => "%9P %.5a %.10l %.6D %.11T %N %20E",
            (false, false, _) => "%9P %.5a %.10l %.6D %.6t %N",
        });
    let format = Format::read(wanted, &known).map_err(BadInput)?;
    let names = arguments.nodes.as_deref().map(hostlist::expand).transpose();
    let names = names.map_err(|error| BadInput(error.to_string()))?;
    let mut nodes: Vec<NodeView> = open()?.get("/v1/nodes").await?;
    nodes.retain(|node| names.as_ref().is_none_or(|names| names.contains(&node.name)));
    nodes.retain(|node| arguments.states.is_empty() || arguments.states.iter().any(|word| is(node.state, word)));
    nodes.retain(|node| !arguments.list_reasons || node.reason.is_some());
    let header = if arguments.noheader { String::new() } else { format.line(title) };
    print(&(header + &lines(&nodes, &format, arguments.node)))
}

/// Whether a word of Slurm's means a state.
fn is(state: NodeState, word: &str) -> bool {
    let word = word.to_ascii_lowercase();
    let (short, long) = states::of_node(state);
    let plain = |text: &str| text.trim_end_matches('*') == word;
    plain(short) || plain(long) || (word == "drain" && state == NodeState::Draining) || word == "all"
}

/// One line for all nodes that differ in no field, or one a node.
fn lines(nodes: &[NodeView], format: &Format, each: bool) -> String {
    let mut groups: Vec<(Vec<String>, Vec<&NodeView>)> = Vec::new();
    for node in nodes {
        let apart = format.letters().filter(|letter| !TOGETHER.contains(*letter));
        let mut key: Vec<String> = apart.map(|letter| field(&[node], letter)).collect();
        if each {
            key.push(node.name.clone());
        }
        match groups.iter_mut().find(|(known, _)| *known == key) {
            Some((_, members)) => members.push(node),
            None => groups.push((key, vec![node])),
        }
    }
    groups.iter().map(|(_, members)| format.line(|letter| field(members, letter))).collect()
}

fn title(letter: char) -> String {
    FIELDS.iter().find(|(known, _)| *known == letter).map_or("", |(_, title)| title).to_owned()
}

/// A field of nodes that are alike.
fn field(nodes: &[&NodeView], letter: char) -> String {
    let Some(first) = nodes.first() else { return String::new() };
    let sum = |of: &dyn Fn(&NodeView) -> u64| nodes.iter().map(|node| of(node)).sum::<u64>();
    let is_out = |node: &NodeView| {
        matches!(node.state, NodeState::Draining | NodeState::Drained | NodeState::Down | NodeState::Expected)
    };
    let in_use = |node: &NodeView| matches!(node.state, NodeState::Mixed | NodeState::Allocated);
    let text = match letter {
        'C' => {
            let used = sum(&|node| node.cpu_milli_in_use.div_ceil(1000));
            let all = sum(&|node| node.cpu_milli / 1000);
            let out =
                sum(&|node| if is_out(node) { node.cpu_milli.saturating_sub(node.cpu_milli_in_use) / 1000 } else { 0 });
            format!("{used}/{}/{out}/{all}", all.saturating_sub(used + out))
        }
        'D' => nodes.len().to_string(),
        'E' => first.reason.clone().unwrap_or_else(|| "none".to_owned()),
        'F' => {
            let (used, out) = (sum(&|node| u64::from(in_use(node))), sum(&|node| u64::from(is_out(node))));
            format!("{used}/{}/{out}/{}", nodes.len() as u64 - used - out, nodes.len())
        }
        'G' if first.chips == 0 => "(null)".to_owned(),
        'G' => format!("gpu:{}:{}", first.accelerator.as_deref().unwrap_or("chip"), first.chips),
        'N' => hostlist::compress(nodes.iter().map(|node| node.name.as_str())),
        'P' => format!("{PARTITION}*"),
        'R' => PARTITION.to_owned(),
        'T' => states::of_node(first.state).1.to_owned(),
        'a' => "up".to_owned(),
        'c' => (first.cpu_milli / 1000).to_string(),
        'e' => first.memory_mib.saturating_sub(first.memory_mib_in_use).to_string(),
        'f' => "(null)".to_owned(),
        'l' => "infinite".to_owned(),
        'm' => first.memory_mib.to_string(),
        'n' => first.name.clone(),
        _ => states::of_node(first.state).0.to_owned(),
    };
    printable(&text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::show::samples;

    fn printed(wanted: &str, each: bool) -> String {
        let known: String = FIELDS.iter().map(|(letter, _)| *letter).collect();
        let format = Format::read(wanted, &known).expect("it is a format");
        let mut nodes = samples::nodes();
        nodes.push(samples::node("n-0007", NodeState::Idle));
        nodes.push(samples::node("n-0008", NodeState::Idle));
        format.line(title) + &lines(&nodes, &format, each)
    }

    #[test]
    fn nodes_alike_share_a_line() {
        insta::assert_snapshot!(printed("%9P %.5a %.10l %.6D %.6t %N", false));
    }

    #[test]
    fn every_field_of_every_node() {
        let wanted: String = FIELDS.iter().map(|(letter, _)| format!("%{letter}|")).collect();
        insta::assert_snapshot!(printed(&wanted, true));
    }

    #[test]
    fn all_together() {
        assert_eq!(printed("%D %F %C", false), "NODES NODES(A/I/O/T) CPUS(A/I/O/T)\n9 2/3/4/9 216/360/288/864\n");
    }

    #[test]
    fn states_are_meant_by_slurms_words() {
        assert!(is(NodeState::Mixed, "mix") && is(NodeState::Mixed, "MIXED") && is(NodeState::Down, "down"));
        assert!(is(NodeState::Draining, "drain") && !is(NodeState::Idle, "drain"));
    }
}
