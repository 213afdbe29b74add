//! The domain tree while it grows, depth first, into the order that the model wants: level by level.

use crate::{Domain, DomainIx, LevelIx, Node, NodeKindIx, SiteIx};

/// Domains and nodes so far. Each level has its own list, so that the children of a domain, which are pushed one
/// after the other, stay together; the lists are joined at the end.
pub(crate) struct Tree {
    levels: Vec<Vec<Domain>>,
    nodes: Vec<NodeKindIx>,
    /// How many levels each [`Tree::open`] went down: more than one where it skipped some.
    steps: Vec<usize>,
    depth: usize,
}

impl Tree {
    pub(crate) fn new(levels: usize) -> Self {
        Self { levels: vec![Vec::new(); levels], nodes: Vec::new(), steps: Vec::new(), depth: 0 }
    }

    /// Goes down into a new domain at this level, which must be below the open one.
    pub(crate) fn open(&mut self, level: usize, name: &str) {
        let first = self.depth;
        while self.depth <= level {
            let depth = self.depth;
            let parent = depth.checked_sub(1).map(|above| DomainIx(self.levels[above].len() as u32 - 1));
            let site = SiteIx(self.levels[0].len() as u32 - u32::from(depth > 0));
            let children = self.levels.get(depth + 1).map_or(0, Vec::len) as u32;
            let nodes = self.nodes.len() as u32;
            self.levels[depth].push(Domain {
                name: name.to_owned(),
                level: LevelIx(depth as u32),
                parent,
                site,
                children: children..children,
                nodes: nodes..nodes,
            });
            self.depth += 1;
        }
        self.steps.push(self.depth - first);
    }

    /// Goes back up from the domain that was opened last.
    pub(crate) fn close(&mut self) {
        for _ in 0..self.steps.pop().unwrap_or_default() {
            self.depth -= 1;
            let children = self.levels.get(self.depth + 1).map_or(0, Vec::len) as u32;
            let nodes = self.nodes.len() as u32;
            if let Some(domain) = self.levels[self.depth].last_mut() {
                domain.children.end = children;
                domain.nodes.end = nodes;
            }
        }
    }

    /// Puts nodes directly into the open domain.
    pub(crate) fn nodes(&mut self, kind: NodeKindIx, count: u32) {
        self.nodes.extend(std::iter::repeat_n(kind, count as usize));
    }

    /// The number that the next node will have.
    pub(crate) fn next_node(&self) -> u32 {
        self.nodes.len() as u32
    }

    /// All domains and nodes, numbered as the model says.
    pub(crate) fn finish(self) -> (Vec<Domain>, Vec<Node>) {
        let mut starts = vec![0];
        for level in &self.levels {
            starts.push(starts[starts.len() - 1] + level.len() as u32);
        }
        let mut nodes: Vec<Node> = self.nodes.iter().map(|kind| Node { kind: *kind, domain: DomainIx(0) }).collect();
        let mut domains: Vec<Domain> = Vec::with_capacity(starts[starts.len() - 1] as usize);
        for (depth, level) in self.levels.into_iter().enumerate() {
            for mut domain in level {
                let here = DomainIx(domains.len() as u32);
                domain.parent = domain.parent.map(|parent| DomainIx(parent.0 + starts[depth - 1]));
                if domain.children.is_empty() {
                    domain.children = 0..0;
                    let held = domain.nodes.start as usize..domain.nodes.end as usize;
                    nodes[held].iter_mut().for_each(|node| node.domain = here);
                } else {
                    domain.children.start += starts[depth + 1];
                    domain.children.end += starts[depth + 1];
                }
                domains.push(domain);
            }
        }
        (domains, nodes)
    }
}
