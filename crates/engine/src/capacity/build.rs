//! The account of a fleet without work.

use std::collections::BTreeMap;
use std::sync::Arc;

use offtake_fleet::{DomainIx, Fleet, LevelIx, NodeKindIx};
use offtake_units::Watts;

use super::classes::{Classes, Draw, FreeVector};
use super::limits::{self, Feed, LimitIx};
use super::{Capacity, Cell, CellIx, Closed, KindIndex, LevelIndex, NodeState, low_bits};
use crate::index::{Bits, Ordered};

impl Capacity {
    /// A fleet without work.
    pub fn new(fleet: Arc<Fleet>) -> Self {
        let (limits, on_domain) = limits::open_accounts(&fleet);
        let mut capacity = Self {
            nodes: Vec::with_capacity(fleet.nodes.len()),
            sizes: Vec::new(),
            classes: Classes::new(fleet.node_kinds.len(), fleet.nodes.len()),
            kinds: Vec::new(),
            cells: Vec::new(),
            usable: Vec::new(),
            histograms: Vec::new(),
            cells_of: Vec::new(),
            cell_list: Vec::new(),
            closed: limits
                .iter()
                .map(|limit| vec![vec![Closed::default(); fleet.node_kinds.len()]; limit.domains.len()])
                .collect(),
            around: feeds_around(&fleet, &on_domain),
            inside: feeds_inside(&fleet, &on_domain),
            limits,
            on_domain,
            site_draw: vec![Watts::ZERO; fleet.sites.len()],
            breaches: 0,
            tori: super::torus::Tori::new(&fleet),
            fleet,
        };
        capacity.number_cells();
        capacity.add_nodes();
        let all: Vec<CellIx> = (0..capacity.cells.len() as u32).rev().map(CellIx).collect();
        all.into_iter().for_each(|cell| capacity.refresh(cell));
        capacity.settle_grids(0..capacity.nodes.len() as u32);
        (0..capacity.limits.len() as u32).for_each(|limit| capacity.reopen(LimitIx(limit)));
        capacity
    }

    fn number_cells(&mut self) {
        let fleet = Arc::clone(&self.fleet);
        let kinds = fleet.node_kinds.len();
        // How many nodes of each kind each domain has: nodes lie in their innermost domains, parents add up.
        let mut counts = vec![BTreeMap::<u32, u32>::new(); fleet.domains.len()];
        for node in &fleet.nodes {
            *counts[node.domain.ix()].entry(node.kind.0).or_default() += 1;
        }
        for domain in (0..fleet.domains.len()).rev() {
            if let Some(parent) = fleet.domains[domain].parent {
                let below = counts[domain].clone();
                below.into_iter().for_each(|(kind, count)| *counts[parent.ix()].entry(kind).or_default() += count);
            }
        }
        let mut cell_at = vec![BTreeMap::<u32, CellIx>::new(); fleet.domains.len()];
        let mut histogram = 0;
        for kind in 0..kinds as u32 {
            let node_kind = &fleet.node_kinds[kind as usize];
            let accelerator = fleet.accelerator(node_kind);
            let empty = FreeVector {
                kind: NodeKindIx(kind),
                cpu: node_kind.cpu,
                memory: node_kind.memory,
                whole: node_kind.chips,
                shared: Box::default(),
                sizes: 0,
            };
            let draw_with = |whole| Draw::of(&FreeVector { whole, ..empty.clone() }, node_kind, accelerator);
            let mut all_nodes = Bits::new(fleet.nodes.len());
            all_nodes.fill(0..fleet.nodes.len() as u32, true);
            let mut index = KindIndex {
                free: Bits::new(fleet.nodes.len()),
                free_count: 0,
                chip_draw: draw_with(node_kind.chips.saturating_sub(1)),
                throttled: accelerator.map_or_else(Vec::new, Draw::of_levels),
                node_draw: draw_with(0),
                open: all_nodes,
                levels: Vec::new(),
                empty,
            };
            for level in 0..fleet.levels.len() as u32 {
                let start = self.cells.len() as u32;
                let mut most = 0;
                for domain in fleet.domains_at(LevelIx(level)) {
                    let Some(count) = counts[domain as usize].get(&kind) else { continue };
                    let cell = CellIx(self.cells.len() as u32);
                    cell_at[domain as usize].insert(kind, cell);
                    let parent = fleet.domains[domain as usize]
                        .parent
                        .and_then(|parent| cell_at[parent.ix()].get(&kind).copied())
                        .unwrap_or(CellIx::NONE);
                    if parent != CellIx::NONE {
                        let children = &mut self.cells[parent.ix()].children;
                        *children = if children.start == children.end {
                            cell.0..cell.0 + 1
                        } else {
                            children.start..cell.0 + 1
                        };
                    }
                    self.cells.push(Cell {
                        domain: DomainIx(domain),
                        level: LevelIx(level),
                        kind: NodeKindIx(kind),
                        parent,
                        children: 0..0,
                        nodes: *count,
                        free: 0,
                        histogram,
                        capped: self.is_capped(DomainIx(domain)),
                    });
                    histogram += u32::from(node_kind.chips) + 1;
                    most = most.max(*count);
                }
                let cells = start..self.cells.len() as u32;
                let mut open = Bits::new(cells.len());
                open.fill(0..cells.len() as u32, true);
                index.levels.push(LevelIndex { order: Ordered::new(cells.len(), most), cells, open });
            }
            self.kinds.push(index);
        }
        self.usable = vec![0; self.cells.len()];
        self.histograms = vec![0; histogram as usize];
        for cells in &cell_at {
            let start = self.cell_list.len() as u32;
            self.cell_list.extend(cells.values());
            self.cells_of.push(start..self.cell_list.len() as u32);
        }
    }

    fn add_nodes(&mut self) {
        let fleet = Arc::clone(&self.fleet);
        // Wholly free nodes of a kind are one class.
        let mut classes = vec![None; fleet.node_kinds.len()];
        for (number, node) in fleet.nodes.iter().enumerate() {
            let kind = fleet.kind(*node);
            let cell = self
                .cell_of(node.domain, node.kind)
                .expect("number_cells makes a cell for every kind that a domain has a node of");
            let class = *classes[node.kind.ix()].get_or_insert_with(|| {
                self.classes.intern(self.kinds[node.kind.ix()].empty.clone(), |_| (Draw::default(), true))
            });
            self.classes.enter(class, number as u32, true);
            self.kinds[node.kind.ix()].add_free(number as u32);
            self.nodes.push(NodeState {
                class,
                cell,
                free_chips: low_bits(kind.chips),
                shared: Vec::new(),
                withheld: 0,
            });
            self.cells[cell.ix()].free += 1;
            let mut above = cell;
            while above != CellIx::NONE {
                self.histograms[(self.cells[above.ix()].histogram + u32::from(kind.chips)) as usize] += 1;
                above = self.cells[above.ix()].parent;
            }
            let idle =
                kind.base + fleet.accelerator(kind).map_or(Watts::ZERO, |chip| chip.idle.times(kind.chips.into()));
            self.site_draw[fleet.domains[node.domain.ix()].site.ix()] += idle;
        }
    }
}

fn feeds_around(fleet: &Fleet, on_domain: &[Vec<Feed>]) -> Vec<Box<[Feed]>> {
    let mut around: Vec<Box<[Feed]>> = Vec::with_capacity(fleet.domains.len());
    for (index, domain) in fleet.domains.iter().enumerate() {
        let mut feeds = on_domain[index].clone();
        if let Some(parent) = domain.parent {
            feeds.extend_from_slice(&around[parent.ix()]);
        }
        around.push(feeds.into_boxed_slice());
    }
    around
}

fn feeds_inside(fleet: &Fleet, on_domain: &[Vec<Feed>]) -> Vec<Vec<Feed>> {
    let mut inside = vec![Vec::new(); fleet.domains.len()];
    for (index, feeds) in on_domain.iter().enumerate() {
        let mut above = fleet.domains[index].parent;
        while let Some(domain) = above {
            inside[domain.ix()].extend_from_slice(feeds);
            above = fleet.domains[domain.ix()].parent;
        }
    }
    inside
}
