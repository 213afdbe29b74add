//! Tenants that stand apart: in lanes of their own, and on single-tenant nodes.

use std::sync::Arc;

use offtake_fleet::NodeIx;
use offtake_workload::Job;

use super::jobs::Entry;
use super::{Phase, State};
use crate::fact::{JobId, NodeRange, Placement};
use crate::place::ShapeIx;
use crate::policy::Order;
use crate::queue::{LaneIx, LaneKey, Queue, Turn};
use crate::tenants::TenantIx;

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
        let were_apart = self.tenants_stand_apart();
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
                here.map(|_| (work.turn, work.spec.tenant.as_str()))
            });
            let mut at_work: Vec<_> = at_work.collect();
            at_work.sort_unstable();
            let at_work: Vec<TenantIx> = at_work.into_iter().map(|(_, tenant)| self.tenants.number(tenant)).collect();
            self.tenancy.close(&mut self.capacity, node, at_work.into_iter());
            self.number_tenants();
        }
        if self.tenants_stand_apart() != were_apart {
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

    /// Gives a number to the tenant of every job that is known, in the order in which those came.
    pub(super) fn number_tenants(&mut self) {
        let mut met: Vec<(Turn, &str)> =
            self.jobs.values().map(|work| (work.turn, work.spec.tenant.as_str())).collect();
        met.sort_unstable();
        for (_, tenant) in met {
            self.tenants.number(tenant);
        }
    }

    /// Puts all waiting jobs into their lanes again, in the order of their turns; each lane is tried anew.
    pub(super) fn queue_anew(&mut self) {
        let mut waiting: Vec<(Entry, JobId, ShapeIx, Arc<Job>)> = Vec::new();
        for (job, work) in &self.jobs {
            if let Phase::Pending(shape) = work.phase {
                let entry = work.entry();
                waiting.push((entry, *job, shape, Arc::clone(&work.spec)));
            }
        }
        waiting.sort_unstable_by_key(|(entry, ..)| entry.turn);
        self.queue = self.empty_queue(self.fleet().node_kinds.len());
        for (entry, job, shape, spec) in waiting {
            self.enqueue(job, &spec, entry, shape);
        }
    }

    /// A queue for a fleet of so many node kinds, as the order of the policy needs it.
    pub(super) fn empty_queue(&self, kinds: usize) -> Queue {
        Queue::new(kinds, self.policy.order == Order::FairShare)
    }

    /// Whether lanes are of one tenant each.
    pub(super) fn tenants_stand_apart(&self) -> bool {
        !self.tenancy.is_empty() || self.tenants.is_active() || self.policy.order.tells_tenants_apart()
    }

    /// What a job of a shape has in common with others of its lane.
    pub(crate) fn lane_key(&self, shape: ShapeIx, spec: &Job) -> LaneKey {
        // What is reserved may be for some tenants only.
        let is_apart = self.tenants_stand_apart() || spec.reservation.is_some();
        let tenant = if is_apart { self.tenants.known(&spec.tenant) } else { None };
        let priority = if self.policy.order.tells_tenants_apart() { spec.priority } else { 0 };
        let reservation = self.reservations.known(spec.reservation.as_deref());
        LaneKey { shape, tier: spec.tier, tenant, priority, reservation }
    }

    /// The lane in which a job of a shape waits, if any of its kind ever did.
    pub(crate) fn lane_of(&self, shape: ShapeIx, spec: &Job) -> Option<LaneIx> {
        self.queue.lane_of(self.lane_key(shape, spec))
    }

    /// Whether a job that asks for the same may wait: false where none such does.
    pub(crate) fn may_wait(&self, spec: &Job) -> bool {
        let Some(Ok(shape)) = self.shape_ids.get(&spec.gangs) else { return true };
        self.lane_of(*shape, spec).is_some_and(|lane| self.queue.lane(lane).first().is_some())
    }

    /// From now on the account shows what a job's tenant may use.
    pub(crate) fn see_as(&mut self, job: JobId) {
        if !self.tenancy.is_empty()
            && let Some(tenant) = self.jobs.get(&job).and_then(|work| self.tenants.known(&work.spec.tenant))
        {
            self.tenancy.see_as(&mut self.capacity, tenant);
        }
    }

    /// Whether no other tenant's work is on the single-tenant nodes of a job's placement.
    pub(super) fn admits(&self, job: JobId, placement: &Placement) -> bool {
        if self.tenancy.is_empty() {
            return true;
        }
        let tenant = self.jobs.get(&job).and_then(|work| self.tenants.known(&work.spec.tenant));
        let mut nodes = placement.slots().flat_map(|slot| slot.nodes.numbers()).map(NodeIx);
        nodes.all(|node| self.tenancy.admits(node, tenant))
    }

    /// A running job, taken out for a trial, is back on its single-tenant nodes and uses its quota.
    pub(crate) fn enter(&mut self, job: JobId, placement: &Placement) {
        if !self.tenancy.is_empty()
            && let Some(tenant) = self.jobs.get(&job).and_then(|work| self.tenants.known(&work.spec.tenant))
        {
            self.tenancy.enter(&mut self.capacity, tenant, placement);
        }
        self.try_quota(job, placement, true);
    }

    /// A running job leaves its single-tenant nodes and its quota for a trial.
    pub(crate) fn leave(&mut self, job: JobId, placement: &Placement) {
        if !self.tenancy.is_empty()
            && let Some(tenant) = self.jobs.get(&job).and_then(|work| self.tenants.known(&work.spec.tenant))
        {
            self.tenancy.leave(&mut self.capacity, tenant, placement);
        }
        self.try_quota(job, placement, false);
    }
}
