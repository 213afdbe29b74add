//! Single-tenant nodes: they are told, and who may use them now.

use std::sync::Arc;

use offtake_fleet::NodeIx;
use offtake_workload::Job;

use super::{Phase, State};
use crate::fact::{JobId, NodeRange, Placement};
use crate::place::ShapeIx;
use crate::queue::{LaneIx, LaneKey, Queue, Turn};

impl State {
    /// Whether a node may run work of several tenants at one time.
    pub fn is_shared(&self, node: NodeIx) -> bool {
        !self.tenancy.is_single(node)
    }

    /// Lets a node run work of several tenants at one time, or of one only. Work that is there stays.
    pub(super) fn set_shared(&mut self, node: NodeIx, shared: bool) {
        if node.ix() >= self.fleet().nodes.len() || shared == self.is_shared(node) {
            return;
        }
        let were_shared = self.tenancy.is_empty();
        if shared {
            self.tenancy.open(&mut self.capacity, node);
        } else {
            let at_work = self.jobs.values().flat_map(|work| {
                let placement = match &work.phase {
                    Phase::Running { placement, .. } => Some(placement),
                    _ => None,
                };
                let slots = placement.into_iter().flat_map(|placement| placement.slots());
                let here = slots.filter(move |slot| slot.nodes.numbers().contains(&node.0));
                here.map(|_| work.spec.tenant.as_str())
            });
            self.tenancy.close(&mut self.capacity, node, at_work);
        }
        // Whether lanes are of one tenant each.
        if self.tenancy.is_empty() != were_shared {
            self.queue_anew();
        }
        // They were planned with others' work there, or without.
        self.replan_holds(|_, held| held == node);
        if shared {
            // Who waited for another tenant's work without an end may not have to any more.
            self.start_unknown.clear();
            self.wake_nodes(NodeRange { first: node, count: 1 });
        }
    }

    /// Puts all waiting jobs into their lanes again, in the order of their turns; each lane is tried anew.
    fn queue_anew(&mut self) {
        let mut waiting: Vec<(Turn, JobId, ShapeIx, Arc<Job>)> = Vec::new();
        for (job, work) in &self.jobs {
            if let Phase::Pending(shape) = work.phase {
                waiting.push((work.turn, *job, shape, Arc::clone(&work.spec)));
            }
        }
        waiting.sort_unstable_by_key(|(turn, ..)| *turn);
        self.queue = Queue::new(self.fleet().node_kinds.len());
        for (turn, job, shape, spec) in waiting {
            self.enqueue(job, &spec, turn, shape);
        }
    }

    /// The lane in which a job of a shape waits, if any of its kind ever did.
    pub(crate) fn lane_of(&self, shape: ShapeIx, spec: &Job) -> Option<LaneIx> {
        self.queue.lane_of(LaneKey { shape, tier: spec.tier, tenant: self.tenancy.known(&spec.tenant) })
    }

    /// Whether a job that asks for the same may wait: false where none such does.
    pub(crate) fn may_wait(&self, spec: &Job) -> bool {
        let Some(Ok(shape)) = self.shape_ids.get(&spec.gangs) else { return true };
        self.lane_of(*shape, spec).is_some_and(|lane| self.queue.lane(lane).first().is_some())
    }

    /// From now on the account shows what a job's tenant may use.
    pub(crate) fn see_as(&mut self, job: JobId) {
        if !self.tenancy.is_empty()
            && let Some(work) = self.jobs.get(&job)
        {
            self.tenancy.see_as(&mut self.capacity, &work.spec.tenant);
        }
    }

    /// Whether no other tenant's work is on the single-tenant nodes of a job's placement.
    pub(super) fn admits(&self, job: JobId, placement: &Placement) -> bool {
        if self.tenancy.is_empty() {
            return true;
        }
        let tenant = self.jobs.get(&job).and_then(|work| self.tenancy.known(&work.spec.tenant));
        let mut nodes = placement.slots().flat_map(|slot| slot.nodes.numbers()).map(NodeIx);
        nodes.all(|node| self.tenancy.admits(node, tenant))
    }

    /// A running job, taken out for a trial, is back on its single-tenant nodes.
    pub(crate) fn enter(&mut self, job: JobId, placement: &Placement) {
        if !self.tenancy.is_empty()
            && let Some(work) = self.jobs.get(&job)
        {
            self.tenancy.enter(&mut self.capacity, &work.spec.tenant, placement);
        }
    }

    /// A running job leaves its single-tenant nodes for a trial.
    pub(crate) fn leave(&mut self, job: JobId, placement: &Placement) {
        if !self.tenancy.is_empty()
            && let Some(work) = self.jobs.get(&job)
        {
            self.tenancy.leave(&mut self.capacity, &work.spec.tenant, placement);
        }
    }
}
