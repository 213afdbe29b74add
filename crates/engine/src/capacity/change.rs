//! Every change of the account: work comes and goes, nodes are withheld and offered again.

use std::ops::Range;

use offtake_fleet::{NodeIx, NodeKindIx};
use offtake_units::{ChipMilli, Ppm, Watts};

use super::{
    Capacity, CellIx, ClassIx, Closed, Draw, FreeVector, LimitIx, SharedChip, Take, Watch, Withheld, size_bit,
};
use crate::throttle::Throttle;

impl Capacity {
    /// Work takes `take` of each node in `nodes`.
    ///
    /// The caller has made sure that every node has it: a missing chip, core or watt is a broken invariant.
    pub fn occupy(&mut self, nodes: Range<u32>, take: &Take) {
        self.shift(nodes, take, true);
    }

    /// Work gives `take` of each node in `nodes` back.
    pub fn vacate(&mut self, nodes: Range<u32>, take: &Take) {
        self.shift(nodes, take, false);
    }

    /// What a node has left once `take` is taken of it, or given back.
    pub(super) fn changed_vector(&self, node: NodeIx, take: &Take, taken: bool) -> FreeVector {
        let mut vector = self.class_of(node).vector.clone();
        if taken {
            vector.cpu -= take.cpu;
            vector.memory -= take.memory;
        } else {
            vector.cpu += take.cpu;
            vector.memory += take.memory;
        }
        if take.share.is_none() {
            let chips = take.chips.count_ones() as u16;
            vector.whole = if taken { vector.whole - chips } else { vector.whole + chips };
        } else {
            let mut state = (self.nodes[node.ix()].free_chips, self.nodes[node.ix()].shared.clone());
            change_chips(&mut state.0, &mut state.1, take, taken);
            vector.whole = state.0.count_ones() as u16;
            vector.shared = free_shares(&state.1);
        }
        if self.keeps_sizes() {
            let mut sizes = self.sizes[node.ix()].clone();
            change_sizes(&mut sizes, take, taken);
            vector.sizes = sizes.iter().fold(0, |bits, (size, _)| bits | size);
        }
        vector
    }

    /// Changes nodes run by run: those that are alike and lie together are moved at once.
    fn shift(&mut self, nodes: Range<u32>, take: &Take, taken: bool) {
        let mut start = nodes.start;
        // Nodes of one class may run different numbers of requests of one size.
        let one_by_one = take.share.is_some() || self.keeps_sizes();
        while start < nodes.end {
            let first = &self.nodes[start as usize];
            let (cell, from, withheld) = (first.cell, first.class, first.is_withheld());
            let alike = |node: &u32| {
                let state = &self.nodes[*node as usize];
                state.cell == cell && state.class == from && state.is_withheld() == withheld && !one_by_one
            };
            let end = (start + 1..nodes.end).find(|node| !alike(node)).unwrap_or(nodes.end);
            let vector = self.changed_vector(NodeIx(start), take, taken);
            let more = self.throttled_draw(vector.kind, take, taken);
            self.move_run(start..end, cell, (from, vector, more), withheld, |state| {
                change_chips(&mut state.free_chips, &mut state.shared, take, taken);
            });
            if let Some(sizes) = self.sizes.get_mut(start as usize) {
                change_sizes(sizes, take, taken);
            }
            start = end;
        }
    }

    /// What work that comes to a node, or goes, draws less than unthrottled work would.
    fn throttled_draw(&self, kind: NodeKindIx, take: &Take, comes: bool) -> Draw {
        let (full, at) = (self.chip_draw(kind), self.chip_draw_at(kind, take.throttle));
        let less = if comes { full.beyond(at) } else { at.beyond(full) };
        less.times(take.whole().into())
    }

    /// The whole chips of work that takes `take` of each node in `nodes` are throttled so far from now on.
    pub fn throttle(&mut self, nodes: Range<u32>, take: &Take, to: Throttle) {
        let mut start = nodes.start;
        while start < nodes.end {
            let cell = self.nodes[start as usize].cell;
            let end = (start + 1..nodes.end).find(|node| self.nodes[*node as usize].cell != cell).unwrap_or(nodes.end);
            let kind = self.cells[cell.ix()].kind;
            let more = self.chip_draw_at(kind, to).beyond(self.chip_draw_at(kind, take.throttle));
            self.draw_more(cell, more.times(take.whole().into()), end - start);
            start = end;
        }
    }

    fn move_run(
        &mut self,
        nodes: Range<u32>,
        cell: CellIx,
        (from, vector, throttled): (ClassIx, FreeVector, Draw),
        withheld: bool,
        change: impl Fn(&mut super::NodeState),
    ) {
        let kind = vector.kind;
        let fleet = &self.fleet;
        let whole_after = vector.whole;
        let empty = &self.kinds[kind.ix()].empty;
        let to = self.classes.intern(vector, |vector| {
            let node_kind = &fleet.node_kinds[kind.ix()];
            (Draw::of(vector, node_kind, fleet.accelerator(node_kind)), vector == empty)
        });
        // Work that takes nothing moves nothing, and a class must not end while its node stays.
        if to == from {
            return;
        }
        let (before, after) = (self.classes.get(from), self.classes.get(to));
        let whole_before = before.vector.whole;
        let (free_before, free_after) = (before.is_free, after.is_free);
        let more = after.draw.beyond(before.draw).beyond(throttled);
        let count = nodes.len() as u32;
        for node in nodes.clone() {
            self.classes.leave(from, node, !withheld);
            self.classes.enter(to, node, !withheld);
            let state = &mut self.nodes[node as usize];
            state.class = to;
            change(state);
            if !withheld && free_before != free_after {
                let index = &mut self.kinds[kind.ix()];
                if free_after { index.add_free(node) } else { index.remove_free(node) }
            }
        }
        if !withheld {
            self.settle_grids(nodes);
        }
        if !withheld && whole_before != whole_after {
            self.count(cell, Some(whole_before), Some(whole_after), count);
        }
        self.draw_more(cell, more, count);
        if !withheld && free_before != free_after {
            let free = &mut self.cells[cell.ix()].free;
            *free = if free_after { *free + count } else { *free - count };
            self.refresh(cell);
        }
    }

    /// Moves `count` nodes from one bar of the histograms to another, in a cell and all around it.
    fn count(&mut self, cell: CellIx, from: Option<u16>, to: Option<u16>, count: u32) {
        let mut at = cell;
        while at != CellIx::NONE {
            let entry = &self.cells[at.ix()];
            if let Some(from) = from {
                self.histograms[(entry.histogram + u32::from(from)) as usize] -= count;
            }
            if let Some(to) = to {
                self.histograms[(entry.histogram + u32::from(to)) as usize] += count;
            }
            at = entry.parent;
        }
    }

    /// Books a change of draw under every limit around, and re-keys the domains of those that can bind.
    fn draw_more(&mut self, cell: CellIx, more: Draw, count: u32) {
        if more == Draw::default() {
            return;
        }
        let domain = self.cells[cell.ix()].domain;
        let site = self.fleet.domains[domain.ix()].site;
        self.site_draw[site.ix()] += more.expected.times(count);
        for index in 0..self.around[domain.ix()].len() {
            let feed = self.around[domain.ix()][index];
            let limit = &mut self.limits[feed.limit.ix()];
            let watts: Watts = limit.counted(more).times(count);
            limit.add(watts.get(), feed.factor);
            self.breaches += u64::from(watts > Watts::ZERO && limit.is_breached());
            if limit.can_bind() {
                self.rebind(feed.limit);
            }
        }
    }

    /// Sets what work that outlasts a hold may still draw more under a limit, in millionths of a watt.
    pub fn set_extra(&mut self, limit: LimitIx, extra: Option<i64>) {
        self.limits[limit.ix()].set_extra(extra);
        self.rebind(limit);
    }

    /// Sets what a limit allows from now on. What is over it then stays, and nothing is added.
    pub fn set_cap(&mut self, limit: LimitIx, watts: Watts) {
        self.limits[limit.ix()].set_capacity(watts);
        self.bind_anew(limit);
    }

    /// Sets what heat makes of the cooling that a limit counts. What is over it then stays, and nothing is added.
    pub fn set_heat(&mut self, limit: LimitIx, factor: Ppm) {
        self.limits[limit.ix()].set_heat(factor);
        self.bind_anew(limit);
    }

    /// Some day a limit allows no more than this; none where nothing is known of such a day.
    pub fn foresee_cap(&mut self, limit: LimitIx, watts: Option<Watts>) {
        self.limits[limit.ix()].set_lowest(watts);
        self.bind_anew(limit);
    }

    /// It may have changed whether a limit can ever bind.
    fn bind_anew(&mut self, limit: LimitIx) {
        for index in 0..self.limits[limit.ix()].domains.len() {
            let domain = self.limits[limit.ix()].domains[index].0;
            let capped = self.is_capped(domain);
            for cell in self.cells_of[domain.ix()].clone() {
                let cell = self.cell_list[cell as usize];
                self.cells[cell.ix()].capped = capped;
            }
        }
        self.rebind(limit);
    }

    /// Lets a limit allow everything, for a trial.
    pub fn lift_cap(&mut self, limit: LimitIx) {
        self.set_cap(limit, Watts::new(i64::MAX));
        self.set_extra(limit, None);
    }

    /// Takes what is drawn under the limits as it is: nothing of it was added just now.
    pub fn accept(&mut self, breaches: u64) {
        self.limits.iter_mut().for_each(super::Limit::accept);
        self.breaches = breaches;
    }

    /// What tells work that was added over a limit from work that was there before; to be given to
    /// [`Capacity::resume_watch`] once work that was taken out for a trial is back.
    pub fn pause_watch(&self) -> Watch {
        let over = self.limits.iter().enumerate().filter(|(_, limit)| limit.excess() > 0);
        Watch { breaches: self.breaches, excess: over.map(|(index, limit)| (index, limit.excess())).collect() }
    }

    /// Goes on where [`Capacity::pause_watch`] stopped.
    pub fn resume_watch(&mut self, watch: &Watch) {
        self.breaches = watch.breaches;
        watch.excess.iter().for_each(|(index, excess)| self.limits[*index].set_excess(*excess));
    }

    /// Brings the counts and bits that depend on a limit up to date.
    fn rebind(&mut self, limit: LimitIx) {
        for index in 0..self.limits[limit.ix()].domains.len() {
            let (domain, _) = self.limits[limit.ix()].domains[index];
            let cells = self.cells_of[domain.ix()].clone();
            for cell in cells {
                self.refresh(self.cell_list[cell as usize]);
            }
        }
        self.reopen(limit);
    }

    /// Recomputes how many nodes a cell can give, and passes a change on outwards.
    pub(super) fn refresh(&mut self, cell: CellIx) {
        let mut at = cell;
        loop {
            let entry = &self.cells[at.ix()];
            let mut now = entry.free;
            if entry.capped {
                let draw = self.kinds[entry.kind.ix()].node_draw;
                for feed in &self.on_domain[entry.domain.ix()] {
                    now = now.min(self.limits[feed.limit.ix()].allowance(draw, feed.factor));
                }
            }
            let before = self.usable[at.ix()];
            if now == before {
                return;
            }
            self.usable[at.ix()] = now;
            let index = &mut self.kinds[entry.kind.ix()].levels[entry.level.ix()];
            index.order.rekey(at.0 - index.cells.start, before, now);
            if entry.parent == CellIx::NONE {
                return;
            }
            at = entry.parent;
            self.cells[at.ix()].free = self.cells[at.ix()].free + now - before;
        }
    }

    /// Sets and clears the bits that say whether the caps around can power one more.
    pub(super) fn reopen(&mut self, limit: LimitIx) {
        for index in 0..self.limits[limit.ix()].domains.len() {
            let (domain, factor) = self.limits[limit.ix()].domains[index];
            for cell in self.cells_of[domain.ix()].clone() {
                let kind = self.cells[self.cell_list[cell as usize].ix()].kind;
                let entry = &self.limits[limit.ix()];
                // A limit that cannot bind is not looked at again when work goes, so it must not be closed either.
                let closes = |draw| entry.can_bind() && entry.allowance(draw, factor) == 0;
                let now = Closed {
                    to_chips: closes(self.kinds[kind.ix()].chip_draw),
                    to_nodes: closes(self.kinds[kind.ix()].node_draw),
                };
                let before = std::mem::replace(&mut self.closed[limit.ix()][index][kind.ix()], now);
                if now.to_chips != before.to_chips {
                    self.mark_chips(limit, index, kind, now.to_chips);
                }
                if now.to_nodes != before.to_nodes {
                    self.mark_nodes(limit, index, kind, now.to_nodes);
                }
            }
        }
    }

    fn mark_chips(&mut self, limit: LimitIx, index: usize, kind: NodeKindIx, closed: bool) {
        let domain = self.limits[limit.ix()].domains[index].0;
        let range = self.fleet.domains[domain.ix()].nodes.clone();
        self.kinds[kind.ix()].open.fill(range.clone(), !closed);
        if closed {
            return;
        }
        for other in self.overlapping(limit, index, kind, |closed| closed.to_chips) {
            let nodes = &self.fleet.domains[other].nodes;
            let shared = nodes.start.max(range.start)..nodes.end.min(range.end);
            self.kinds[kind.ix()].open.fill(shared, false);
        }
    }

    fn mark_nodes(&mut self, limit: LimitIx, index: usize, kind: NodeKindIx, closed: bool) {
        let domain = self.limits[limit.ix()].domains[index].0;
        self.fill_below(domain.ix(), domain.ix(), kind, !closed);
        if closed {
            return;
        }
        for other in self.overlapping(limit, index, kind, |closed| closed.to_nodes) {
            self.fill_below(other, domain.ix(), kind, false);
        }
    }

    /// Marks the cells that lie below one domain and inside another, at every level.
    fn fill_below(&mut self, domain: usize, inside: usize, kind: NodeKindIx, open: bool) {
        let (outer, inner) = (&self.fleet.domains[domain], &self.fleet.domains[inside]);
        let nodes = outer.nodes.start.max(inner.nodes.start)..outer.nodes.end.min(inner.nodes.end);
        let first_level = outer.level.max(inner.level).0 + 1;
        for level in first_level..self.fleet.levels.len() as u32 {
            let cells = self.cells_within(kind, offtake_fleet::LevelIx(level), &nodes);
            let index = &mut self.kinds[kind.ix()].levels[level as usize];
            index.open.fill(cells.start - index.cells.start..cells.end - index.cells.start, open);
        }
    }

    /// The domains, around or inside that of a limit, on which another limit is closed for a kind.
    fn overlapping(
        &self,
        limit: LimitIx,
        index: usize,
        kind: NodeKindIx,
        is_closed: impl Fn(&Closed) -> bool,
    ) -> Vec<usize> {
        let domain = self.limits[limit.ix()].domains[index].0;
        let around = self.around[domain.ix()].iter();
        let feeds = around.chain(&self.inside[domain.ix()]).filter(|feed| {
            let place = self.limits[feed.limit.ix()].domains.iter().position(|(at, _)| *at == feed.domain);
            place.is_some_and(|place| is_closed(&self.closed[feed.limit.ix()][place][kind.ix()]))
        });
        feeds.map(|feed| feed.domain.ix()).collect()
    }

    /// Keeps a node from every order for a reason.
    pub fn withhold(&mut self, node: NodeIx, why: Withheld) {
        self.withhold_all(node.0..node.0 + 1, why);
    }

    /// Takes back a reason for which a node is withheld; with the last, the node is there again.
    pub fn offer(&mut self, node: NodeIx, why: Withheld) {
        self.offer_all(node.0..node.0 + 1, why);
    }

    /// Keeps nodes side by side from every order for a reason.
    pub fn withhold_all(&mut self, nodes: Range<u32>, why: Withheld) {
        self.set_withheld(nodes, |reasons| reasons | why.bit());
    }

    /// Takes back a reason for which nodes side by side are withheld.
    pub fn offer_all(&mut self, nodes: Range<u32>, why: Withheld) {
        self.set_withheld(nodes, |reasons| reasons & !why.bit());
    }

    /// Changes the reasons of nodes run by run: those that are alike and lie together are moved at once.
    fn set_withheld(&mut self, nodes: Range<u32>, change: impl Fn(u8) -> u8) {
        let mut start = nodes.start;
        while start < nodes.end {
            let first = &self.nodes[start as usize];
            let (cell, class, reasons) = (first.cell, first.class, first.withheld);
            let alike = |node: &u32| {
                let state = &self.nodes[*node as usize];
                state.cell == cell && state.class == class && state.withheld == reasons
            };
            let end = (start + 1..nodes.end).find(|node| !alike(node)).unwrap_or(nodes.end);
            let run = start..end;
            start = end;
            self.nodes[run.start as usize..run.end as usize].iter_mut().for_each(|state| {
                state.withheld = change(reasons);
            });
            let withheld = change(reasons) != 0;
            if withheld != (reasons != 0) {
                self.move_withheld(run, cell, class, withheld);
            }
        }
    }

    /// Takes a run of nodes of one cell and class out of every order, or puts it back.
    fn move_withheld(&mut self, run: Range<u32>, cell: CellIx, class: ClassIx, withheld: bool) {
        let alike = self.classes.get(class);
        let (kind, whole, wholly_free) = (alike.vector.kind, alike.vector.whole, alike.is_free);
        let count = run.len() as u32;
        for node in run.clone() {
            if withheld { self.classes.withhold(class, node) } else { self.classes.offer(class, node) }
        }
        if withheld {
            self.count(cell, Some(whole), None, count);
        } else {
            self.count(cell, None, Some(whole), count);
        }
        self.settle_grids(run.clone());
        if wholly_free {
            let index = &mut self.kinds[kind.ix()];
            for node in run {
                if withheld { index.remove_free(node) } else { index.add_free(node) }
            }
            let free = &mut self.cells[cell.ix()].free;
            *free = if withheld { *free - count } else { *free + count };
            self.refresh(cell);
        }
    }

    /// Compares with an account that was built anew from the same work; names the first difference.
    pub fn difference(&self, truth: &Self) -> Option<String> {
        // Classes that were found alike, here and there.
        let mut alike = None;
        for node in 0..self.nodes.len() as u32 {
            let (here, there) = (self.class_of(NodeIx(node)), truth.class_of(NodeIx(node)));
            let pair = (self.class_ix(NodeIx(node)), truth.class_ix(NodeIx(node)));
            if alike != Some(pair) && here.vector != there.vector {
                return Some(format!("node {node} has {:?} left, recounted {:?}", here.vector, there.vector));
            }
            alike = Some(pair);
            let index = &self.kinds[here.vector.kind.ix()];
            if self.nodes[node as usize].withheld != truth.nodes[node as usize].withheld {
                return Some(format!("node {node} is withheld in one account only"));
            }
            let listed = here.first_node(node..node + 1, None).is_some();
            if listed == self.nodes[node as usize].is_withheld() {
                return Some(format!("node {node} is wrongly listed in its class"));
            }
            if index.open.contains(node) != truth.kinds[here.vector.kind.ix()].open.contains(node) {
                return Some(format!("node {node} is open in one account only"));
            }
        }
        let pairs = [(&self.usable, &truth.usable), (&self.histograms, &truth.histograms)];
        if let Some((here, there)) = pairs.iter().find(|(here, there)| here != there) {
            return Some(format!("counts differ: {here:?}, recounted {there:?}"));
        }
        if self.limits != truth.limits || self.closed != truth.closed {
            return Some(format!("limits differ: {:?}, recounted {:?}", self.limits, truth.limits));
        }
        if !self.tori.is_like(&truth.tori) {
            return Some("the free boxes of tori differ".to_owned());
        }
        if self.site_draw != truth.site_draw {
            return Some(format!("draw differs: {:?}, recounted {:?}", self.site_draw, truth.site_draw));
        }
        let orders_differ = self.kinds.iter().zip(&truth.kinds).any(|(here, there)| {
            here.free != there.free
                || here.levels.iter().zip(&there.levels).any(|(here, there)| here.open != there.open)
        });
        orders_differ.then(|| "the orders of free nodes differ".to_owned())
    }
}

pub(super) fn change_chips(free_chips: &mut u64, shared: &mut Vec<SharedChip>, take: &Take, taken: bool) {
    let Some(share) = take.share else {
        *free_chips = if taken { *free_chips & !take.chips } else { *free_chips | take.chips };
        return;
    };
    let chip = take.chips.trailing_zeros() as u8;
    let place = shared.partition_point(|other| other.chip < chip);
    let listed = shared.get(place).is_some_and(|other| other.chip == chip);
    if taken {
        if !listed {
            *free_chips &= !take.chips;
            shared.insert(place, SharedChip { chip, free: ChipMilli::WHOLE });
        }
        shared[place].free -= share;
    } else if listed {
        shared[place].free += share;
        if shared[place].free == ChipMilli::WHOLE {
            shared.remove(place);
            *free_chips |= take.chips;
        }
    }
}

fn change_sizes(sizes: &mut Vec<(u64, u32)>, take: &Take, taken: bool) {
    let size = size_bit(take.chips.count_ones(), take.share.is_some());
    match sizes.iter().position(|(other, _)| *other == size) {
        _ if size == 0 => {}
        Some(place) if taken => sizes[place].1 += 1,
        Some(place) => {
            sizes[place].1 -= 1;
            sizes.retain(|(_, count)| *count > 0);
        }
        None => sizes.push((size, 1)),
    }
}

/// The shares that are left, descending; a chip without any is as good as used whole.
fn free_shares(shared: &[SharedChip]) -> Box<[u16]> {
    let mut free: Vec<u16> = shared.iter().map(|chip| chip.free.get()).filter(|free| *free > 0).collect();
    free.sort_unstable_by(|a, b| b.cmp(a));
    free.into_boxed_slice()
}
