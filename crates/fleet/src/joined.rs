//! A fleet without a file: one site, and the nodes that have joined it, in the order in which they came.
//!
//! Nodes are only ever added behind the others, so a node keeps its position while the fleet grows.

use std::collections::BTreeMap;

use offtake_units::{CpuMilli, Mebibytes, Ppm, Watts};

use crate::{
    AcceleratorKind, AcceleratorKindIx, Domain, DomainIx, Fleet, LevelIx, Node, NodeIx, NodeKind, NodeKindIx, Site,
    SiteIx,
};

/// A node as it describes itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JoinedNode {
    /// Unique name.
    pub name: String,
    /// Processor for work.
    pub cpu: CpuMilli,
    /// Memory for work.
    pub memory: Mebibytes,
    /// Kind of its accelerators; none for a host without any.
    pub accelerator: Option<String>,
    /// Number of accelerators.
    pub chips: u16,
    /// Memory of one chip.
    pub chip_memory: Option<Mebibytes>,
    /// The most that one chip may draw, as its driver has it, in watts.
    pub chip_watts: Option<u32>,
    /// Attributes that jobs may require.
    pub attributes: BTreeMap<String, String>,
}

/// Idle, operating and peak watts of chips that are known by name. Peaks are the makers' data sheets (for trn2 and
/// tpu-v5p, of which there is none, the assumptions of the fleet presets); idle and operating draw as in the presets,
/// where each is derived.
const KNOWN_CHIPS: [(&str, i64, i64, i64); 12] = [
    ("a10", 20, 115, 150),
    ("a100", 60, 340, 400),
    ("gb200", 140, 1080, 1200),
    ("h100", 75, 640, 700),
    ("h200", 80, 640, 700),
    ("l4", 12, 58, 72),
    ("l40s", 35, 280, 350),
    ("mi300x", 130, 600, 750),
    ("t4", 10, 55, 70),
    ("tpu-v5p", 110, 400, 500),
    ("trn2", 100, 400, 500),
    ("v100", 40, 230, 300),
];

/// Peak of a chip of which nothing is known: that of an A100 SXM4. An assumption.
const UNKNOWN_CHIP_WATTS: i64 = 400;
/// Draw of a host: 50 W and 4 W a core, between a desktop and a server of two sockets. An assumption.
const HOST_WATTS: i64 = 50;
const WATTS_PER_CORE: i64 = 4;

/// The fleet of the nodes that have joined a site. Power by the figures above: a fleet file says it better.
pub fn joined(site: &str, joined: &[JoinedNode]) -> Fleet {
    let mut fleet = Fleet {
        name: site.to_owned(),
        levels: vec!["site".to_owned()],
        sites: vec![Site {
            name: site.to_owned(),
            provider: None,
            region: None,
            price_zone: None,
            carbon_zone: None,
            jurisdiction: None,
            pue: Ppm::new(1_000_000),
            cooling: None,
            ride_through: Vec::new(),
            storage_bandwidth: None,
            backup: None,
            ramp: None,
        }],
        domains: vec![Domain {
            name: site.to_owned(),
            level: LevelIx(0),
            parent: None,
            site: SiteIx(0),
            children: 0..0,
            nodes: 0..joined.len() as u32,
        }],
        ..Fleet::default()
    };
    for (index, node) in joined.iter().enumerate() {
        let kind = kind_of(&mut fleet, node);
        fleet.nodes.push(Node { kind, domain: DomainIx(0) });
        fleet.node_names.insert(NodeIx(index as u32), node.name.clone());
    }
    fleet
}

fn kind_of(fleet: &mut Fleet, node: &JoinedNode) -> NodeKindIx {
    let chips = node.chips.min(NodeKind::MAX_CHIPS);
    let accelerator = node.accelerator.as_ref().filter(|_| chips > 0).map(|name| chip_of(fleet, name, node));
    let cores = i64::from(node.cpu.get()) / 1000;
    let kind = NodeKind {
        name: String::new(),
        accelerator,
        chips: if accelerator.is_some() { chips } else { 0 },
        cpu: node.cpu,
        memory: node.memory,
        base: Watts::new(HOST_WATTS + WATTS_PER_CORE * cores),
        attributes: node.attributes.clone(),
    };
    let same = |known: &NodeKind| NodeKind { name: String::new(), ..known.clone() } == kind;
    if let Some(place) = fleet.node_kinds.iter().position(same) {
        return NodeKindIx(place as u32);
    }
    let stem = match accelerator {
        Some(chip) => format!("{}-{chips}", fleet.accelerators[chip.ix()].name),
        None => format!("cpu-{cores}"),
    };
    let is_new = |name: &String| fleet.node_kinds.iter().all(|known| known.name != *name);
    let numbered = (2..).map(|number| format!("{stem}-{number}"));
    let name = std::iter::once(stem.clone()).chain(numbered).find(is_new).unwrap_or(stem);
    fleet.node_kinds.push(NodeKind { name, ..kind });
    NodeKindIx(fleet.node_kinds.len() as u32 - 1)
}

fn chip_of(fleet: &mut Fleet, name: &str, node: &JoinedNode) -> AcceleratorKindIx {
    if let Some(place) = fleet.accelerators.iter().position(|chip| chip.name == name) {
        return AcceleratorKindIx(place as u32);
    }
    let known = KNOWN_CHIPS.iter().find(|(known, ..)| *known == name);
    let (idle, operating, peak) = match (known, node.chip_watts) {
        (Some((_, idle, operating, peak)), _) => (*idle, *operating, *peak),
        // Assumptions: idle at a tenth of the peak, at work at four fifths.
        (None, watts) => {
            let peak = watts.map_or(UNKNOWN_CHIP_WATTS, i64::from).max(1);
            (peak / 10, peak * 4 / 5, peak)
        }
    };
    fleet.accelerators.push(AcceleratorKind {
        name: name.to_owned(),
        idle: Watts::new(idle),
        operating: Watts::new(operating),
        peak: Watts::new(peak),
        memory: node.chip_memory,
        power_levels: Vec::new(),
    });
    AcceleratorKindIx(fleet.accelerators.len() as u32 - 1)
}

/// What a node that joins lacks of what the fleet file says of it, in words; none when it is all there.
pub fn lacking(fleet: &Fleet, declared: &NodeKind, node: &JoinedNode) -> Option<String> {
    let expected = fleet.accelerator(declared).map(|chip| chip.name.as_str());
    if declared.chips > 0 && expected != node.accelerator.as_deref() {
        let found = node.accelerator.as_deref().unwrap_or("none");
        return Some(format!("its accelerators are {found}, not {}", expected.unwrap_or("none")));
    }
    if node.chips < declared.chips {
        return Some(format!("it has {} chips, not {}", node.chips, declared.chips));
    }
    if node.cpu < declared.cpu {
        return Some(format!("it has {}, not {}", node.cpu, declared.cpu));
    }
    (node.memory < declared.memory).then(|| format!("it has {}, not {}", node.memory, declared.memory))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(name: &str, chips: u16, cores: u32) -> JoinedNode {
        JoinedNode {
            name: name.to_owned(),
            cpu: CpuMilli::new(cores * 1000),
            memory: Mebibytes::new(1 << 20),
            accelerator: (chips > 0).then(|| "h100".to_owned()),
            chips,
            chip_memory: None,
            chip_watts: None,
            attributes: BTreeMap::new(),
        }
    }

    #[test]
    fn nodes_keep_their_positions_as_others_join() {
        let few = [node("b", 8, 96), node("a", 0, 4)];
        let more = [node("b", 8, 96), node("a", 0, 4), node("c", 8, 96), node("d", 8, 128)];
        let (before, after) = (joined("here", &few), joined("here", &more));
        assert_eq!(before.nodes[..], after.nodes[..2]);
        assert_eq!(after.node_name(NodeIx(0)), "b");
        assert_eq!(after.chips(), 24);
        let names: Vec<&str> = after.node_kinds.iter().map(|kind| kind.name.as_str()).collect();
        assert_eq!(names, ["h100-8", "cpu-4", "h100-8-2"]);
        assert_eq!(after.nodes[0].kind, after.nodes[2].kind);
    }

    #[test]
    fn a_node_that_is_smaller_than_declared_is_told_so() {
        let fleet = joined("here", &[node("a", 8, 96)]);
        let kind = &fleet.node_kinds[0];
        assert_eq!(lacking(&fleet, kind, &node("a", 8, 96)), None);
        assert_eq!(lacking(&fleet, kind, &node("a", 8, 128)), None);
        assert_eq!(lacking(&fleet, kind, &node("a", 7, 96)).as_deref(), Some("it has 7 chips, not 8"));
        let none = lacking(&fleet, kind, &node("a", 0, 96));
        assert_eq!(none.as_deref(), Some("its accelerators are none, not h100"));
    }

    #[test]
    fn an_unknown_chip_draws_by_what_its_driver_allows() {
        let strange = JoinedNode { accelerator: Some("x1".to_owned()), chip_watts: Some(1000), ..node("a", 2, 8) };
        let fleet = joined("here", &[strange]);
        let chip = &fleet.accelerators[0];
        assert_eq!((chip.idle.get(), chip.operating.get(), chip.peak.get()), (100, 800, 1000));
    }
}
