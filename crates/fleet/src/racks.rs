//! A site with more or fewer of its racks: the same mix behind the same circuits and caps.

use std::collections::BTreeMap;
use std::ops::Range;

use crate::file::tree::Tree;
use crate::{Cap, CapTarget, Circuit, CircuitIx, Domain, DomainIx, Feed, Fleet, SiteIx};

/// What a site grows by: the innermost domain that holds nodes, or, where nodes hang directly below the site, one node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rack {
    /// The innermost domain around its nodes.
    pub domain: DomainIx,
    /// Its nodes.
    pub nodes: Range<u32>,
    /// The domains that are this rack and nothing else, the widest first: one for each level that it fills. None where
    /// it is a node.
    pub own: Vec<DomainIx>,
}

/// The racks of a site, depth first.
pub fn racks(fleet: &Fleet, site: SiteIx) -> Vec<Rack> {
    let nodes = fleet.domains[site.ix()].nodes.clone();
    let mut racks = Vec::new();
    let mut from = nodes.start;
    while from < nodes.end {
        let domain = fleet.nodes[from as usize].domain;
        let is_site = domain.ix() == site.ix();
        let until = if is_site { from + 1 } else { fleet.domains[domain.ix()].nodes.end };
        let own = if is_site { Vec::new() } else { same_rack(fleet, domain) };
        racks.push(Rack { domain, nodes: from..until, own });
        from = until;
    }
    racks
}

/// A domain and those around it that only stand for it at levels that the tree skips, the widest first.
fn same_rack(fleet: &Fleet, domain: DomainIx) -> Vec<DomainIx> {
    let mut same = vec![domain];
    let mut inner = &fleet.domains[domain.ix()];
    while let Some(parent) = inner.parent {
        let outer = &fleet.domains[parent.ix()];
        if outer.parent.is_none() || outer.nodes != inner.nodes || outer.name != inner.name {
            break;
        }
        same.push(parent);
        inner = outer;
    }
    same.reverse();
    same
}

/// A fleet of one site that has each of its racks so many times, in the order of [`racks`]; racks beyond the list, and
/// domains of which nothing is left, are left out. Caps and circuits stay as they are, but for a cap on a rack itself,
/// which every copy of the rack brings along, and the circuits that feed a rack, which feed its copies too. Names of nodes
/// and the wiring of tori are dropped.
pub fn with_racks(fleet: &Fleet, site: SiteIx, counts: &[u32]) -> Fleet {
    let levels = fleet.levels.len();
    let mut copies = vec![0; fleet.nodes.len()];
    let mut tops = BTreeMap::new();
    for (rack, count) in racks(fleet, site).into_iter().zip(counts) {
        copies[rack.nodes.start as usize..rack.nodes.end as usize].fill(*count);
        if let Some(top) = rack.own.first() {
            tops.insert(*top, rack);
        }
    }
    let mut grown = Grown { fleet, copies, tops, tree: Tree::new(levels), made: vec![Vec::new(); levels] };
    grown.domain(DomainIx(site.0));
    grown.finish(site)
}

/// The tree of a site while it is built anew.
struct Grown<'a> {
    fleet: &'a Fleet,
    /// How often each node of the fleet is wanted, with its rack.
    copies: Vec<u32>,
    /// The racks by their widest domains.
    tops: BTreeMap<DomainIx, Rack>,
    tree: Tree,
    /// By level, which domain of the old tree each of the new one is made of.
    made: Vec<Vec<DomainIx>>,
}

impl Grown<'_> {
    fn domain(&mut self, domain: DomainIx) {
        let Domain { level, name, children, nodes, .. } = &self.fleet.domains[domain.ix()];
        if let Some(rack) = self.tops.remove(&domain) {
            (0..self.copies[nodes.start as usize]).for_each(|copy| self.rack(&rack, name, copy));
            return;
        }
        let is_left = self.copies[nodes.start as usize..nodes.end as usize].iter().any(|copies| *copies > 0);
        if level.0 > 0 && !is_left {
            return;
        }
        self.tree.open(level.ix(), name);
        self.made[level.ix()].push(domain);
        if children.is_empty() {
            for node in nodes.clone() {
                self.tree.nodes(self.fleet.nodes[node as usize].kind, self.copies[node as usize]);
            }
        }
        children.clone().for_each(|child| self.domain(DomainIx(child)));
        self.tree.close();
    }

    fn rack(&mut self, rack: &Rack, name: &str, copy: u32) {
        let name = if copy == 0 { name.to_owned() } else { format!("{name}+{copy}") };
        self.tree.open(self.fleet.domains[rack.domain.ix()].level.ix(), &name);
        for own in &rack.own {
            self.made[self.fleet.domains[own.ix()].level.ix()].push(*own);
        }
        for node in rack.nodes.clone() {
            self.tree.nodes(self.fleet.nodes[node as usize].kind, 1);
        }
        self.tree.close();
    }

    fn finish(self, site: SiteIx) -> Fleet {
        let (domains, nodes) = self.tree.finish();
        let mut copies: BTreeMap<DomainIx, Vec<DomainIx>> = BTreeMap::new();
        for (new, old) in self.made.into_iter().flatten().enumerate() {
            copies.entry(old).or_default().push(DomainIx(new as u32));
        }
        let copies_of = |domain: DomainIx| copies.get(&domain).map_or(&[][..], Vec::as_slice);
        let fed = |circuit: &Circuit| -> Vec<Feed> {
            let feeds = circuit.feeds.iter();
            feeds
                .flat_map(|feed| copies_of(feed.domain).iter().map(|domain| Feed { domain: *domain, ..*feed }))
                .collect()
        };
        let mut circuits = Vec::new();
        let mut kept: BTreeMap<CircuitIx, CircuitIx> = BTreeMap::new();
        for (old, circuit) in self.fleet.circuits.iter().enumerate() {
            let feeds = fed(circuit);
            if !feeds.is_empty() {
                kept.insert(CircuitIx(old as u32), CircuitIx(circuits.len() as u32));
                circuits.push(Circuit { feeds, ..circuit.clone() });
            }
        }
        let mut caps = Vec::new();
        for cap in &self.fleet.caps {
            let targets: Vec<CapTarget> = match cap.target {
                CapTarget::Domain(domain) => copies_of(domain).iter().map(|copy| CapTarget::Domain(*copy)).collect(),
                CapTarget::Circuit(circuit) => {
                    kept.get(&circuit).map(|new| CapTarget::Circuit(*new)).into_iter().collect()
                }
                CapTarget::CircuitWithout { circuit, lost } => {
                    let both = kept.get(&circuit).zip(kept.get(&lost));
                    let target = both.map(|(new, lost)| CapTarget::CircuitWithout { circuit: *new, lost: *lost });
                    target.into_iter().collect()
                }
            };
            for (copy, target) in targets.into_iter().enumerate() {
                let name = if copy == 0 { cap.name.clone() } else { format!("{}+{copy}", cap.name) };
                caps.push(Cap { name, target, ..cap.clone() });
            }
        }
        Fleet {
            name: self.fleet.name.clone(),
            levels: self.fleet.levels.clone(),
            accelerators: self.fleet.accelerators.clone(),
            node_kinds: self.fleet.node_kinds.clone(),
            sites: vec![self.fleet.sites[site.ix()].clone()],
            domains,
            nodes,
            circuits,
            caps,
            ..Fleet::default()
        }
    }
}
