//! Spares: nodes placed with a gang that stand idle beside it, and take the place of nodes that are lost.
//!
//! A swap moves no capacity: the spare works from then on, and the lost node stays with the job as the spare that it has
//! again once the node is back. So the rest of the gang keeps its nodes, and nobody else can come between.

use std::collections::BTreeMap;

use offtake_fleet::{DomainIx, Fleet, NodeIx};

use crate::fact::{JobId, Placement, Slot, StopReason};
use crate::request::Request;
use crate::state::{Phase, Stage, State};

/// The nodes of a gang that stand by: of each group, or else of the gang, the last.
pub fn of(fleet: &Fleet, gang: &Request, slots: &[Slot]) -> Vec<NodeIx> {
    let unit = gang.groups.map_or(gang.workers, |(group, _)| group);
    let mut parts = BTreeMap::<Option<DomainIx>, Vec<(NodeIx, u32)>>::new();
    for slot in slots {
        for node in slot.nodes.numbers().map(NodeIx) {
            parts.entry(part(fleet, gang, node)).or_default().push((node, slot.workers));
        }
    }
    let mut spares = Vec::new();
    for nodes in parts.into_values() {
        let groups = nodes.iter().map(|(_, workers)| workers).sum::<u32>() / unit.max(1);
        let mut left = groups * gang.spares;
        for (node, workers) in nodes.into_iter().rev().take_while(|(_, workers)| *workers > 0) {
            if left < workers {
                break;
            }
            left -= workers;
            spares.push(node);
        }
    }
    spares.sort_unstable();
    spares
}

/// The part of a gang for which a node may stand by: the domain of its group.
fn part(fleet: &Fleet, gang: &Request, node: NodeIx) -> Option<DomainIx> {
    gang.groups.map(|(_, level)| fleet.around(node, level))
}

impl State {
    /// How a running job that lost nodes goes on without waiting again: each node of it that works and takes no work any
    /// more, with the spare that takes its place. None when all of them are sound, when one has no spare, and when the
    /// job is to go for a reason of its own.
    pub fn repair(&self, job: JobId) -> Option<Vec<(NodeIx, NodeIx)>> {
        let Phase::Running { placement, stage, .. } = &self.job(job)?.phase else { return None };
        // Those on other nodes often fail before anybody knows of the node that was lost.
        let goes_on = match stage {
            // A pause ends with what it holds still.
            Stage::Starting | Stage::Running => !placement.throttle.is_paused(),
            Stage::Stopping(reason) => matches!(reason, StopReason::NodeLost | StopReason::WorkerFailed),
        };
        if placement.spares.is_empty() || !goes_on || self.is_suspected(job) {
            return None;
        }
        let on = |slot: Slot| {
            let numbers = slot.nodes.numbers();
            self.conditions().range(NodeIx(numbers.start)..NodeIx(numbers.end)).map(|(node, _)| *node)
        };
        let mut unfit: Vec<NodeIx> = placement.slots().flat_map(on).filter(|node| placement.works_on(*node)).collect();
        unfit.sort_unstable();
        unfit.dedup();
        if unfit.is_empty() { None } else { self.spares_for(job, &unfit) }
    }

    /// Spares that could take the place of nodes of a running job, the nearest first: pairs of a node and its spare.
    /// Nodes that stand by themselves need none. None when one of the nodes has none that is healthy and may be used.
    pub fn spares_for(&self, job: JobId, nodes: &[NodeIx]) -> Option<Vec<(NodeIx, NodeIx)>> {
        let Phase::Running { shape, placement, .. } = &self.job(job)?.phase else { return None };
        let fleet = self.fleet();
        let mut swaps: Vec<(NodeIx, NodeIx)> = Vec::new();
        for ((gang, slots), spares) in self.shape(*shape).gangs.iter().zip(&placement.gangs).zip(&placement.spares) {
            let works = |node: &&NodeIx| lies_on(slots, **node) && !spares.contains(node);
            for node in nodes.iter().filter(works) {
                let fits = |spare: &&NodeIx| {
                    part(fleet, gang, **spare) == part(fleet, gang, *node)
                        && !nodes.contains(spare)
                        && !self.conditions().contains_key(spare)
                        && !swaps.iter().any(|(_, taken)| taken == *spare)
                };
                let nearest = spares.iter().filter(fits).min_by_key(|spare| (spare.0.abs_diff(node.0), spare.0))?;
                swaps.push((*node, *nearest));
            }
        }
        let is_met = |node: &NodeIx| {
            let swapped = swaps.iter().any(|(from, _)| from == node);
            swapped || !placement.works_on(*node)
        };
        nodes.iter().all(is_met).then_some(swaps)
    }
}

fn lies_on(slots: &[Slot], node: NodeIx) -> bool {
    slots.iter().any(|slot| slot.nodes.numbers().contains(&node.0))
}

impl Placement {
    /// Whether workers of the job work on a node, rather than stand by or be elsewhere.
    pub fn works_on(&self, node: NodeIx) -> bool {
        let mut gangs = self.gangs.iter().enumerate();
        gangs.any(|(gang, slots)| lies_on(slots, node) && !self.spares_of(gang).contains(&node))
    }

    /// The nodes of a gang that stand by, ascending.
    pub fn spares_of(&self, gang: usize) -> &[NodeIx] {
        self.spares.get(gang).map_or(&[], Vec::as_slice)
    }

    /// The slots of a gang without the nodes that stand by: where its workers are, rank by rank.
    pub fn working(&self, gang: usize) -> Vec<Slot> {
        let (slots, spares) = (self.gangs.get(gang).map_or(&[][..], Vec::as_slice), self.spares_of(gang));
        if spares.is_empty() {
            return slots.to_vec();
        }
        let mut working = Vec::with_capacity(slots.len());
        for slot in slots {
            for node in slot.nodes.numbers().filter(|node| !spares.contains(&NodeIx(*node))) {
                Slot { nodes: crate::fact::NodeRange::one(node), ..*slot }.join(&mut working);
            }
        }
        working
    }

    /// The placement in which spares work and the nodes whose places they take stand by; none where one cannot.
    pub(crate) fn swapped(&self, swaps: &[(NodeIx, NodeIx)]) -> Option<Self> {
        let mut swapped = self.clone();
        for (from, to) in swaps {
            let gangs = 0..swapped.gangs.len();
            let serves = |gang: &usize| swapped.spares_of(*gang).contains(to) && lies_on(&self.gangs[*gang], *from);
            let gang = gangs.into_iter().find(serves)?;
            if swapped.spares_of(gang).contains(from) {
                return None;
            }
            let spares = &mut swapped.spares[gang];
            spares.retain(|spare| spare != to);
            spares.push(*from);
            spares.sort_unstable();
        }
        Some(swapped)
    }
}
