//! Free boxes in tori: which slices a grid of chips can still give, found without a scan.
//!
//! A grid is a set of free chips as bits. The slices that may be asked for are each a part of the next, so the largest
//! that a grid can give says all that it can give; grids are kept in order of that, and then of their free chips. Pods
//! whose grids are joined by switches are kept in order of their wholly free grids.

use std::ops::Range;

use offtake_fleet::{DomainIx, Fleet, LevelIx, NodeIx, NodeKindIx, Sides, Torus};

use super::Capacity;
use crate::index::{Bits, Ordered};

/// Chips of a grid, as bits.
type Mask = [u64; 4];

/// All tori of a fleet.
#[derive(Clone, Debug, Default)]
pub(super) struct Tori {
    /// By node kind.
    of_kind: Vec<Option<u8>>,
    tori: Vec<Index>,
}

#[derive(Clone, Debug)]
struct Index {
    torus: Torus,
    /// By slice, the smallest first, the places where one may lie.
    boxes: Vec<Vec<Mask>>,
    /// The first domain of the level of grids.
    first: u32,
    grids: Vec<Grid>,
    order: Ordered,
    /// All grids; those that the chips of the kind are not in can give nothing.
    all: Bits,
    pods: Option<Pods>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Grid {
    /// Its nodes.
    nodes: Range<u32>,
    free: Mask,
    /// How many of the slices it can give.
    gives: u32,
}

#[derive(Clone, Debug)]
struct Pods {
    level: LevelIx,
    first: u32,
    /// Wholly free grids of each.
    free: Vec<u32>,
    order: Ordered,
    all: Bits,
}

/// What a slice takes: nodes side by side, and the chips that it takes of each as bits.
pub type Part = (Range<u32>, u64);

impl Tori {
    pub(super) fn new(fleet: &Fleet) -> Self {
        let of = |accelerator| fleet.tori.iter().position(|torus| Some(torus.accelerator) == accelerator);
        let of_kind = fleet.node_kinds.iter().map(|kind| of(kind.accelerator).map(|place| place as u8)).collect();
        Self { of_kind, tori: fleet.tori.iter().map(|torus| Index::new(fleet, torus)).collect() }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.tori.is_empty()
    }

    /// Whether the same chips are free, and the same slices known to be.
    pub(super) fn is_like(&self, other: &Self) -> bool {
        let free = |index: &Index| index.pods.as_ref().map(|pods| pods.free.clone());
        self.tori.iter().zip(&other.tori).all(|(one, other)| one.grids == other.grids && free(one) == free(other))
    }

    fn of(&self, kind: NodeKindIx) -> Option<usize> {
        self.of_kind[kind.ix()].map(usize::from)
    }
}

impl Index {
    fn new(fleet: &Fleet, torus: &Torus) -> Self {
        let boxes: Vec<Vec<Mask>> = torus.slices().into_iter().map(|sides| boxes(torus, sides)).collect();
        let domains = fleet.domains_at(torus.level);
        let has = |nodes: &Range<u32>| {
            let first = fleet.nodes[nodes.start as usize];
            fleet.kind(first).accelerator == Some(torus.accelerator)
        };
        let grids: Vec<Grid> = domains
            .clone()
            .map(|domain| fleet.domains[domain as usize].nodes.clone())
            .map(|nodes| Grid {
                nodes: if nodes.is_empty() || !has(&nodes) { 0..0 } else { nodes },
                free: [0; 4],
                gives: 0,
            })
            .collect();
        let most = (boxes.len() as u32 + 1) * (Torus::chips(torus.grid) + 1);
        let pods = torus.joined.map(|level| {
            let pods = fleet.domains_at(level);
            let most = pods.clone().map(|pod| fleet.domains[pod as usize].nodes.len() as u32).max().unwrap_or(0);
            Pods {
                level,
                first: pods.start,
                free: vec![0; pods.len()],
                order: Ordered::new(pods.len(), most),
                all: full(pods.len()),
            }
        });
        let (order, all) = (Ordered::new(grids.len(), most), full(grids.len()));
        Self { torus: torus.clone(), boxes, first: domains.start, grids, order, all, pods }
    }

    fn key(&self, gives: u32, free: &Mask) -> u32 {
        gives * (Torus::chips(self.torus.grid) + 1) + count(free)
    }

    /// Brings the orders up to date with the free chips of a grid.
    fn settle(&mut self, fleet: &Fleet, grid: u32, free: Mask) {
        let entry = &self.grids[grid as usize];
        if entry.free == free {
            return;
        }
        let can = |boxes: &Vec<Mask>| boxes.iter().any(|part| is_within(part, &free));
        let gives = self.boxes.iter().rposition(can).map_or(0, |place| place as u32 + 1);
        let (before, after) = (self.key(entry.gives, &entry.free), self.key(gives, &free));
        let whole = Torus::chips(self.torus.grid);
        let (was_whole, is_whole) = (count(&entry.free) == whole, count(&free) == whole);
        self.order.rekey(grid, before, after);
        self.grids[grid as usize].free = free;
        self.grids[grid as usize].gives = gives;
        if let Some(pods) = self.pods.as_mut().filter(|_| was_whole != is_whole) {
            let node = self.grids[grid as usize].nodes.start;
            let pod = fleet.around(NodeIx(node), pods.level).0 - pods.first;
            let before = pods.free[pod as usize];
            let after = if is_whole { before + 1 } else { before - 1 };
            pods.order.rekey(pod, before, after);
            pods.free[pod as usize] = after;
        }
    }

    /// The free place in a grid whose loss costs the fewest free places of larger slices, the largest first.
    fn best(&self, grid: &Grid, slice: usize, will_do: impl Fn(&Mask) -> bool) -> Option<Mask> {
        let larger: Vec<Vec<&Mask>> = self.boxes[slice + 1..]
            .iter()
            .rev()
            .map(|boxes| boxes.iter().filter(|part| is_within(part, &grid.free)).collect())
            .collect();
        let lost = |place: &Mask| -> Vec<usize> {
            larger.iter().map(|boxes| boxes.iter().filter(|part| meets(part, place)).count()).collect()
        };
        let free = self.boxes[slice].iter().filter(|place| is_within(place, &grid.free));
        let mut places: Vec<(Vec<usize>, &Mask)> = free.map(|place| (lost(place), place)).collect();
        places.sort_by(|(one, _), (other, _)| one.cmp(other));
        places.into_iter().map(|(_, place)| *place).find(will_do)
    }

    /// What a box takes of each node of a grid.
    fn parts(&self, grid: &Grid, place: &Mask) -> Vec<Part> {
        let chips = Torus::chips(self.torus.host);
        let mut parts: Vec<Part> = Vec::new();
        for node in grid.nodes.clone() {
            let is_in = |chip: &u32| contains(place, self.torus.place(node - grid.nodes.start, *chip));
            let taken = (0..chips).filter(is_in).fold(0_u64, |bits, chip| bits | 1 << chip);
            match parts.last_mut() {
                _ if taken == 0 => {}
                Some((nodes, last)) if *last == taken && nodes.end == node => nodes.end += 1,
                _ => parts.push((node..node + 1, taken)),
            }
        }
        parts
    }
}

impl Capacity {
    /// Where a slice may be taken: in the grid that can give the least beyond it, or as whole grids of the pod that has
    /// the fewest. `will_do` says whether the parts can be used.
    pub fn slice(&self, kind: NodeKindIx, sides: Sides, will_do: impl Fn(&[Part]) -> bool) -> Option<Vec<Part>> {
        let index = &self.tori.tori[self.tori.of(kind)?];
        let Some(slice) = index.torus.slices().iter().position(|other| *other == sides) else {
            return self.joined_slice(index, index.torus.grids(sides)?, will_do);
        };
        let mut found = None;
        let none = [0; 4];
        let accept = |grid: u32| {
            let grid_entry = &index.grids[grid as usize];
            let place = index.best(grid_entry, slice, |place| will_do(&index.parts(grid_entry, place)));
            found = place.map(|place| index.parts(grid_entry, &place));
            if found.is_some() { Ok(()) } else { Err(grid + 1) }
        };
        index.order.fullest(index.key(slice as u32 + 1, &none), 0..index.grids.len() as u32, &index.all, accept)?;
        found
    }

    fn joined_slice(&self, index: &Index, grids: u32, will_do: impl Fn(&[Part]) -> bool) -> Option<Vec<Part>> {
        let pods = index.pods.as_ref()?;
        let every = super::low_bits(Torus::chips(index.torus.host) as u16);
        let mut found = None;
        let accept = |pod: u32| {
            let nodes = &self.fleet.domains[(pods.first + pod) as usize].nodes;
            let inside = index.grids.iter().filter(|grid| !grid.nodes.is_empty() && nodes.contains(&grid.nodes.start));
            let whole = inside.filter(|grid| count(&grid.free) == Torus::chips(index.torus.grid));
            let usable =
                whole.map(|grid| (grid.nodes.clone(), every)).filter(|part| will_do(std::slice::from_ref(part)));
            let parts: Vec<Part> = usable.take(grids as usize).collect();
            if parts.len() < grids as usize || !will_do(&parts) {
                return Err(pod + 1);
            }
            found = Some(parts);
            Ok(())
        };
        pods.order.fullest(grids, 0..pods.free.len() as u32, &pods.all, accept)?;
        found
    }

    /// Whether the grid or pod around a node can give a slice now, processor, memory and power aside.
    pub fn gives_slice(&self, node: NodeIx, sides: Sides) -> bool {
        let kind = self.fleet.nodes[node.ix()].kind;
        let Some(index) = self.tori.of(kind).map(|torus| &self.tori.tori[torus]) else { return false };
        match index.torus.slices().iter().position(|other| *other == sides) {
            Some(slice) => {
                let grid = self.fleet.around(node, index.torus.level).0 - index.first;
                index.grids[grid as usize].gives > slice as u32
            }
            None => index.torus.grids(sides).zip(index.pods.as_ref()).is_some_and(|(grids, pods)| {
                pods.free[(self.fleet.around(node, pods.level).0 - pods.first) as usize] >= grids
            }),
        }
    }

    /// How many grids are whole in the pod of a joined slice that has the most, or how many grids can give a slice.
    pub fn slices_left(&self, kind: NodeKindIx, sides: Sides) -> u32 {
        let Some(index) = self.tori.of(kind).map(|torus| &self.tori.tori[torus]) else { return 0 };
        match index.torus.slices().iter().position(|other| *other == sides) {
            Some(slice) => index.grids.iter().filter(|grid| grid.gives > slice as u32).count() as u32,
            None => index.pods.as_ref().and_then(|pods| pods.free.iter().copied().max()).unwrap_or(0),
        }
    }

    /// Every place where a slice of one grid may lie, with the grid's domain; whole grids of a joined slice.
    pub fn slice_places(&self, kind: NodeKindIx, sides: Sides) -> Vec<(DomainIx, Vec<Part>)> {
        let Some(index) = self.tori.of(kind).map(|torus| &self.tori.tori[torus]) else { return Vec::new() };
        let Some(slice) = index.torus.slices().iter().position(|other| *other == sides) else { return Vec::new() };
        let grids = index.grids.iter().enumerate().filter(|(_, grid)| !grid.nodes.is_empty());
        let places = |(number, grid): (usize, &Grid)| {
            let domain = DomainIx(index.first + number as u32);
            index.boxes[slice].iter().map(|place| (domain, index.parts(grid, place))).collect::<Vec<_>>()
        };
        grids.flat_map(places).collect()
    }

    /// Brings the grids of some nodes of one domain up to date.
    pub(super) fn settle_grids(&mut self, nodes: Range<u32>) {
        if self.tori.is_empty() || nodes.is_empty() {
            return;
        }
        let mut at = nodes.start;
        while at < nodes.end {
            let kind = self.fleet.nodes[at as usize].kind;
            let Some(torus) = self.tori.of(kind) else {
                at += 1;
                continue;
            };
            let index = &self.tori.tori[torus];
            let grid = self.fleet.around(NodeIx(at), index.torus.level).0 - index.first;
            let (first, end) = (index.grids[grid as usize].nodes.start, index.grids[grid as usize].nodes.end);
            let mut free = index.grids[grid as usize].free;
            while at < nodes.end && at < end {
                let state = &self.nodes[at as usize];
                let chips = if state.is_withheld() { 0 } else { state.free_chips };
                for chip in 0..Torus::chips(index.torus.host) {
                    let place = index.torus.place(at - first, chip);
                    let (word, bit) = ((place / 64) as usize, 1 << (place % 64));
                    free[word] = if chips >> chip & 1 == 1 { free[word] | bit } else { free[word] & !bit };
                }
                at += 1;
            }
            let fleet = std::sync::Arc::clone(&self.fleet);
            self.tori.tori[torus].settle(&fleet, grid, free);
        }
    }
}

fn full(len: usize) -> Bits {
    let mut all = Bits::new(len);
    all.fill(0..len as u32, true);
    all
}

fn boxes(torus: &Torus, sides: Sides) -> Vec<Mask> {
    let mut boxes = Vec::new();
    for way in torus.turned(sides) {
        let step = |axis: usize| way[axis].min(torus.host[axis]).max(1) as usize;
        let starts = |axis: usize| (0..=torus.grid[axis] - way[axis]).step_by(step(axis));
        for z in starts(2) {
            for y in starts(1) {
                for x in starts(0) {
                    boxes.push(mask(torus, [x, y, z], way));
                }
            }
        }
    }
    boxes
}

fn mask(torus: &Torus, start: Sides, sides: Sides) -> Mask {
    let mut mask = [0_u64; 4];
    let range = |axis: usize| u32::from(start[axis])..u32::from(start[axis] + sides[axis]);
    let [wide, high, _] = torus.grid.map(u32::from);
    for z in range(2) {
        for y in range(1) {
            for x in range(0) {
                let place = x + wide * (y + high * z);
                mask[(place / 64) as usize] |= 1 << (place % 64);
            }
        }
    }
    mask
}

fn is_within(part: &Mask, free: &Mask) -> bool {
    part.iter().zip(free).all(|(part, free)| part & !free == 0)
}

fn meets(one: &Mask, other: &Mask) -> bool {
    one.iter().zip(other).any(|(one, other)| one & other != 0)
}

fn count(mask: &Mask) -> u32 {
    mask.iter().map(|word| word.count_ones()).sum()
}

const fn contains(mask: &Mask, place: u32) -> bool {
    mask[(place / 64) as usize] >> (place % 64) & 1 == 1
}
