//! The ground truth: everything recomputed from the running work, and compared.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use offtake_fleet::{DomainIx, NodeIx};
use offtake_units::Timestamp;

use super::{Phase, Stage, State, Work};
use crate::capacity::{Capacity, Withheld};
use crate::displaceable::Displaceable;
use crate::fact::{JobId, Placement};
use crate::place::ShapeIx;
use crate::tenants::{Tenancy, Tenants};

impl State {
    /// The physical account, and who works where, made anew from the running work and the holds.
    pub(super) fn recounted(&self) -> (Capacity, Tenancy) {
        let mut truth = Capacity::new(Arc::clone(self.capacity.fleet()));
        if self.policy.packing.keeps_sizes() {
            truth.keep_sizes();
        }
        let mut tenancy = self.tenancy.without_work();
        for (_, work) in self.jobs() {
            let Phase::Running { shape, placement, .. } = &work.phase else { continue };
            for (gang, slots) in self.shape(*shape).gangs.iter().zip(&placement.gangs) {
                for slot in slots {
                    truth.occupy(slot.nodes.numbers(), &gang.take(slot.workers, slot.chips).at(placement.throttle));
                }
            }
            if let Some(tenant) = self.tenants.known(&work.spec.tenant).filter(|_| !tenancy.is_empty()) {
                tenancy.enter(&mut truth, tenant, placement);
            }
        }
        for node in self.holds.iter().flat_map(|hold| &hold.nodes).flat_map(|range| range.numbers()) {
            truth.withhold(NodeIx(node), Withheld::Held);
        }
        self.conditions.keys().for_each(|node| truth.withhold(*node, Withheld::Out));
        self.cooled_caps().into_iter().for_each(|(cap, factor)| truth.set_heat(cap, factor));
        for cap in self.changed_caps() {
            truth.set_cap(cap, self.allowed(cap));
            truth.foresee_cap(cap, self.lowest(cap));
        }
        truth.accept(self.capacity.breaches());
        for limit in self.holds.iter().flat_map(|hold| hold.extra.keys()) {
            let least = self.holds.iter().filter_map(|hold| hold.extra.get(limit).copied()).min();
            truth.set_extra(*limit, least);
        }
        (truth, tenancy)
    }

    /// Recomputes all truths from the running work, and names the first that is wrong.
    ///
    /// # Errors
    /// What differs: a broken invariant.
    pub fn check(&self) -> Result<(), String> {
        let proving = self.conditions.iter().filter_map(|(node, condition)| Some((condition.proves_until?, *node)));
        if proving.collect::<BTreeSet<_>>() != self.proving {
            return Err(format!("nodes prove themselves until {:?}", self.proving));
        }
        self.check_services()?;
        let (truth, tenancy) = self.recounted();
        let (mut in_use, mut waiting, mut asked) = ([0; 4], 0, [0; 4]);
        let mut ends = BTreeSet::new();
        let (mut stopping, mut throttled, mut paused) = (BTreeSet::new(), BTreeSet::new(), BTreeSet::new());
        let mut displaceable = Displaceable::new(self.fleet());
        for (job, work) in self.jobs() {
            match &work.phase {
                Phase::Refused(_) | Phase::Held(_) => {}
                Phase::Pending(_) => {
                    waiting += 1;
                    asked[work.spec.tier as usize] += work.spec.chip_milli();
                }
                Phase::Running { shape, placement, ends: end, stage, .. } => {
                    if matches!(stage, Stage::Stopping(_)) {
                        stopping.insert(job);
                    }
                    if !placement.throttle.is_none() {
                        throttled.insert(job);
                    }
                    if placement.throttle.is_paused() {
                        paused.insert(job);
                    }
                    in_use[work.spec.tier as usize] += self.shape(*shape).chip_milli();
                    if *end != Timestamp::NEVER {
                        ends.insert((*end, job));
                    }
                    displaceable.enter(self.fleet(), job, &work.spec, self.shape(*shape), placement);
                    self.check_placement(job, work, *shape, placement)?;
                }
            }
        }
        if let Some(difference) = self.capacity.difference(&truth) {
            return Err(difference);
        }
        if let Some(difference) = self.ramp_difference() {
            return Err(difference);
        }
        if self.throttled != throttled {
            return Err(format!("jobs {:?} are thought to be throttled, not {throttled:?}", self.throttled));
        }
        if !self.paused.keys().eq(&paused) {
            return Err(format!("jobs {:?} are thought to be paused, not {paused:?}", self.paused));
        }
        if self.displaceable != displaceable || self.stopping != stopping {
            return Err("what may be stopped for stronger work is wrong".to_owned());
        }
        if self.tenancy != tenancy {
            return Err(format!("who works where differs: {:?}, recounted {tenancy:?}", self.tenancy));
        }
        if let Some(difference) = self.tenants.difference(&self.recounted_tenants()) {
            return Err(difference);
        }
        if let Some(node) = tenancy.fault() {
            return Err(format!("work of several tenants has come together on the single-tenant node {}", node.0));
        }
        if let Some(limit) = self.capacity.limits().iter().position(|limit| limit.is_breached()) {
            return Err(format!("cap `{}` is exceeded", self.fleet().caps[limit].name));
        }
        let is_running_right = in_use == self.ledger.chip_milli_in_use && ends == self.ends;
        if !is_running_right || waiting != self.queue.jobs() || asked != self.queue.chip_milli_by_tier() {
            return Err("the totals of running and waiting work are wrong".to_owned());
        }
        Ok(())
    }

    /// Each service has its replicas and no others, and knows those on drained nodes.
    fn check_services(&self) -> Result<(), String> {
        let mut known = 0;
        for (id, service) in &self.services {
            let of_it = |replica: &&JobId| self.job(**replica).is_some_and(|work| work.spec.service == Some(id.0));
            if let Some(other) = service.replicas.union(&service.leaving).find(|replica| !of_it(replica)) {
                return Err(format!("job {} is no replica of service {}", other.0, id.0));
            }
            if self.drains_changed.is_empty() && self.on_drained(service) != service.on_drained {
                return Err(format!("of service {} not {:?} are on drained nodes", id.0, service.on_drained));
            }
            known += service.replicas.len() + service.leaving.len();
        }
        let there = self.jobs.values().filter(|work| work.spec.service.is_some()).count();
        if known == there { Ok(()) } else { Err(format!("services know {known} of {there} replicas")) }
    }

    /// What tenants have and let wait, made anew from the work that is there.
    fn recounted_tenants(&self) -> Tenants {
        let mut truth = self.tenants.without_work();
        if truth.is_active() {
            self.count_all_in(&mut truth);
            if let Some(kept) = self.tenants.promise() {
                truth.keep(kept.clone());
            }
        }
        truth
    }

    /// Gangs are whole, in the domain that they require, on kinds and chips that they may use.
    fn check_placement(&self, job: JobId, work: &Work, shape: ShapeIx, placement: &Placement) -> Result<(), String> {
        let fleet = self.fleet();
        for (place, (gang, slots)) in self.shape(shape).gangs.iter().zip(&placement.gangs).enumerate() {
            let mut on_node = BTreeMap::<u32, u32>::new();
            for slot in slots {
                slot.nodes.numbers().for_each(|node| *on_node.entry(node).or_default() += slot.workers);
            }
            if let Some((node, workers)) =
                on_node.iter().find(|(_, workers)| gang.per_node.is_some_and(|most| **workers > most))
            {
                return Err(format!("job {} has {workers} workers of a gang on node {node}", job.0));
            }
            let workers: u32 = slots.iter().map(|slot| slot.workers * slot.nodes.count).sum();
            if workers != gang.workers || placement.gangs.len() != work.spec.gangs.len() {
                return Err(format!("job {} runs {workers} of {} workers", job.0, gang.workers));
            }
            let spares = placement.spares_of(place);
            let standing: u32 = spares.iter().filter_map(|node| on_node.get(&node.0)).sum();
            let parts = gang.groups.map_or(1, |(group, _)| gang.workers / group);
            if standing != gang.spares * parts {
                return Err(format!("of job {} {standing} workers stand by, not {}", job.0, gang.spares * parts));
            }
            let nodes = || slots.iter().flat_map(|slot| slot.nodes.numbers());
            let level = gang.outer_level();
            let mut around: Vec<_> = nodes().map(|node| fleet.around(NodeIx(node), level)).collect();
            around.dedup();
            if around.len() > 1 {
                return Err(format!("job {} is spread over {around:?}", job.0));
            }
            let mut in_domains = BTreeMap::<DomainIx, u32>::new();
            for (node, workers) in on_node {
                let level = gang.groups.map_or(level, |(_, level)| level);
                *in_domains.entry(fleet.around(NodeIx(node), level)).or_default() += workers;
            }
            let is_uneven = |workers: u32| gang.in_whole_groups(workers.into()) != u64::from(workers);
            if let Some((domain, workers)) = in_domains.into_iter().find(|(_, workers)| is_uneven(*workers)) {
                return Err(format!("job {} has {workers} workers, no whole groups, in {domain:?}", job.0));
            }
            let allowed = |node: u32| gang.kinds.iter().any(|(kind, _)| *kind == fleet.nodes[node as usize].kind);
            if let Some(node) = nodes().find(|node| !allowed(*node)) {
                return Err(format!("job {} runs on node {node} of a kind that it may not use", job.0));
            }
        }
        Ok(())
    }

    /// What must be equal between a state and the fold of its journal.
    pub fn essence(&self) -> String {
        let jobs: Vec<_> = self
            .jobs()
            .into_iter()
            .map(|(job, work)| (job, work.turn, work.attempts, work.planned, work.crossing, &work.phase))
            .collect();
        let services: Vec<_> = self
            .services
            .iter()
            .map(|(id, state)| (id, state.wanted, state.demanded, &state.replicas, &state.leaving, state.cancelled))
            .collect();
        let holds: Vec<_> =
            self.holds.iter().map(|hold| (hold.job, hold.start, hold.end, &hold.nodes, &hold.extra)).collect();
        let curtailments: Vec<_> =
            self.curtailments.iter().map(|(id, it)| (id, &it.spec, it.begun, it.least)).collect();
        let rest = (
            (self.now, self.ended, &self.ledger, &self.policy, self.policy_version),
            (self.reservations(), self.history.image(), self.crossing.image()),
            (
                &self.conditions,
                &self.faults,
                &self.proving,
                (&self.caps, curtailments, &self.rising, &self.unthrottled),
                (self.tenancy.image(), self.ramps.essence()),
                self.tenants.image(self.fleet()),
            ),
        );
        format!("{jobs:?}\n{services:?}\n{holds:?}\n{rest:?}\n{:?}", self.capacity.limits())
    }
}
