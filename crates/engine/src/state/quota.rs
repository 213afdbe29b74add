//! What tenants may run: quota and limits on the path of placement, and who is woken when some comes back.

use std::collections::BTreeSet;
use std::sync::Arc;

use offtake_fleet::AcceleratorKindIx;
use offtake_workload::{Job, Tier};
use rustc_hash::FxHashMap;

use super::{Phase, State, Work};
use crate::fact::{JobId, Placement};
use crate::place::{Allowance, ShapeIx};
use crate::policy::Estimates;
use crate::queue::{Blocked, LaneIx, QuotaReturned, Turn};
use crate::request::{Refusal, Shape};
use crate::tenants::{Exceeded, Footprint, Headroom, Promise, TenantIx, TenantView, Tenants};

impl State {
    /// Takes over tenants as the policy declares them now.
    pub(super) fn declare_tenants(&mut self) {
        let fleet = Arc::clone(self.fleet());
        self.tenants.declare(&self.policy, &fleet, self.now);
        self.headroom = None;
        if self.tenants.is_active() {
            let mut tenants = std::mem::take(&mut self.tenants);
            self.count_all_in(&mut tenants);
            self.tenants = tenants;
        }
    }

    /// Counts a job at its tenant, as it waits or runs.
    pub(super) fn count_in(&mut self, job: JobId) {
        let Some(work) = self.jobs.get(&job).filter(|_| self.tenants.is_active()) else { return };
        let spec = Arc::clone(&work.spec);
        match &work.phase {
            Phase::Refused(_) => {}
            Phase::Pending(_) | Phase::Held(_) => self.count_waiting(&spec, true),
            Phase::Running { shape, placement, .. } => {
                let footprint = self.footprint(*shape, placement);
                let tenant = self.tenants.number(&spec.tenant);
                self.tenants.enter(tenant, &footprint, self.now);
            }
        }
    }

    pub(crate) fn footprint(&self, shape: ShapeIx, placement: &Placement) -> Footprint {
        self.footprint_of(self.shape(shape), placement)
    }

    fn footprint_of(&self, shape: &Shape, placement: &Placement) -> Footprint {
        let footprint = Footprint::of(shape, placement, self.fleet());
        if self.tenants.have_radii() { footprint.with_nodes(shape, placement) } else { footprint }
    }

    /// Where a job would have its tenant have more than may be in one place.
    pub(crate) fn exceeded_by(&self, job: JobId, shape: &Shape, placement: &Placement) -> Vec<Exceeded> {
        let tenant = self.tenant_of(job).filter(|tenant| self.tenants.has_radius(*tenant));
        tenant.map_or_else(Vec::new, |tenant| self.tenants.exceeded_by(tenant, &self.footprint_of(shape, placement)))
    }

    /// Whether it matters where the work of a lane runs.
    pub(crate) fn has_radius(&self, lane: LaneIx) -> bool {
        self.queue.lane(lane).key.tenant.is_some_and(|tenant| self.tenants.has_radius(tenant))
    }

    /// A job waits, on hold or not, or no longer does.
    pub(super) fn count_waiting(&mut self, spec: &Job, comes: bool) {
        if self.tenants.is_active() {
            let tenant = self.tenants.number(&spec.tenant);
            self.tenants.wait(tenant, spec.chip_milli(), comes);
        }
    }

    /// A job runs.
    pub(super) fn count_running(&mut self, spec: &Job, shape: ShapeIx, placement: &Placement) {
        if self.tenants.is_active() {
            let footprint = self.footprint(shape, placement);
            let tenant = self.tenants.number(&spec.tenant);
            self.tenants.enter(tenant, &footprint, self.now);
        }
    }

    /// A job runs no more; lanes that lack quota are tried again.
    pub(super) fn count_gone(&mut self, spec: &Job, shape: ShapeIx, placement: &Placement) {
        if self.tenants.is_active() {
            let footprint = self.footprint(shape, placement);
            let tenant = self.tenants.number(&spec.tenant);
            self.tenants.leave(tenant, &footprint, self.now);
            self.queue.return_quota();
            self.wake_within_radius(tenant);
            self.wake_promised();
        }
    }

    /// The job that quota is kept for is tried once that, or a limit, is all that it waited for and there is enough.
    fn wake_promised(&mut self) {
        let Some(job) = self.tenants.promise().map(|kept| kept.job) else { return };
        let lane = self.pending_shape(job).and_then(|shape| self.lane_of(shape, &self.jobs.get(&job)?.spec));
        if lane.is_some_and(|lane| self.queue.lane(lane).lacked_quota) && !self.waits_for_quota(job) {
            self.wake_job(job);
        }
    }

    /// Work of a tenant has gone from where it may have only so much: other nodes there than its own may help.
    fn wake_within_radius(&mut self, tenant: TenantIx) {
        if !self.tenants.has_radius(tenant) {
            return;
        }
        let may = |other: TenantIx| self.tenants.has_radius(other);
        let lanes: Vec<LaneIx> = Tier::ALL
            .into_iter()
            .flat_map(|tier| self.queue.in_turn(tier, Turn(0)))
            .filter(|lane| self.queue.lane(*lane).key.tenant.is_some_and(may))
            .collect();
        lanes.into_iter().for_each(|lane| self.queue.wake(lane));
    }

    /// A running job, taken out for a trial, uses quota again, or uses none.
    pub(super) fn try_quota(&mut self, job: JobId, placement: &Placement, comes: bool) {
        let Some(work) = self.jobs.get(&job).filter(|_| self.tenants.is_active()) else { return };
        let (Some(shape), Some(tenant)) = (work.phase.shape(), self.tenants.known(&work.spec.tenant)) else { return };
        let footprint = self.footprint(shape, placement);
        if comes {
            self.tenants.take(tenant, &footprint);
        } else {
            self.tenants.give(tenant, &footprint);
        }
    }

    /// The tenant of a job, where tenants matter.
    pub(crate) fn tenant_of(&self, job: JobId) -> Option<TenantIx> {
        let work = self.jobs.get(&job).filter(|_| self.tenants.is_active())?;
        self.tenants.known(&work.spec.tenant)
    }

    /// Whether a limit leaves no room for a job of a shape.
    pub(crate) fn is_full(&self, job: JobId, shape: ShapeIx) -> bool {
        self.is_full_for(job, self.shape(shape).chip_milli())
    }

    /// Whether a limit leaves no room for a job of so many chips, in thousandths.
    pub(crate) fn is_full_for(&self, job: JobId, chip_milli: u64) -> bool {
        self.tenant_of(job).is_some_and(|tenant| self.tenants.full(job, tenant, chip_milli).is_some())
    }

    /// What a job may take of each accelerator kind.
    pub(crate) fn allowance(&self, job: JobId) -> Allowance {
        let Some(tenant) = self.tenant_of(job) else { return Allowance::default() };
        let kinds = (0..self.fleet().accelerators.len() as u32).map(AcceleratorKindIx);
        Allowance::of(kinds.map(|kind| self.tenants.available_to(job, tenant, kind)))
    }

    /// Whether quota and limits leave room for a job where it is to run.
    pub(crate) fn is_allowed(&self, job: JobId, shape: ShapeIx, placement: &Placement) -> bool {
        let Some(tenant) = self.tenant_of(job) else { return true };
        let footprint = self.footprint(shape, placement);
        let has = |(kind, milli): &(AcceleratorKindIx, u64)| self.tenants.available_to(job, tenant, *kind) >= *milli;
        footprint.chips.iter().all(has)
            && self.tenants.full(job, tenant, footprint.chip_milli()).is_none()
            && self.tenants.exceeded_by(tenant, &footprint).is_empty()
    }

    /// Whether a parked lane's jobs are tried on what jobs of any other lane of their shape would be.
    pub(crate) fn sees_what_all_see(&self, lane: LaneIx) -> bool {
        // Windows are kept clear by limits, which do not show in how long jobs are planned to run.
        let by_limits = self.policy.backfill.estimates == Estimates::Limit || self.reservations().is_empty();
        by_limits
            && self.tenancy.is_empty()
            && !self.has_radius(lane)
            && self.queue.lane(lane).key.reservation.is_none()
    }

    /// Why quota or limits keep the first job of a lane from running anywhere, if they do.
    pub(crate) fn not_allowed(&self, lane: LaneIx) -> Option<Blocked> {
        let entry = self.queue.lane(lane);
        self.short_of_quota(entry.first()?.job, entry.key.tenant.filter(|_| self.tenants.is_active())?, entry.key.shape)
    }

    /// Whether quota or limits keep a job from running anywhere.
    pub(crate) fn waits_for_quota(&self, job: JobId) -> bool {
        let shape = self.jobs.get(&job).and_then(|work| work.phase.shape());
        let short = self.tenant_of(job).zip(shape).and_then(|(tenant, shape)| self.short_of_quota(job, tenant, shape));
        short.is_some()
    }

    /// Thousandths of chips of a shape with the fewest workers.
    pub(crate) fn least_milli(&self, shape: ShapeIx) -> u64 {
        self.needs[shape.ix()].least
    }

    fn short_of_quota(&self, job: JobId, tenant: TenantIx, shape: ShapeIx) -> Option<Blocked> {
        let needs = &self.needs[shape.ix()];
        if self.tenants.full(job, tenant, needs.least).is_some() {
            return Some(Blocked::Limit);
        }
        needs.stuck_on(|kind| self.tenants.available_to(job, tenant, kind)).map(Blocked::Quota)
    }

    /// Whether quota or limits keep the first job of a lane from running anywhere, as they are now.
    pub(crate) fn lacks_quota(&self, lane: LaneIx) -> bool {
        self.not_allowed(lane).is_some()
    }

    /// Whether more quota, or a limit that is reached no longer, could help the first job of a lane, whatever else it
    /// waits for.
    pub(crate) fn could_use_quota(&self, lane: LaneIx) -> bool {
        let entry = self.queue.lane(lane);
        let (Some(first), Some(tenant)) = (entry.first(), entry.key.tenant.filter(|_| self.tenants.is_active())) else {
            return false;
        };
        let needs = &self.needs[entry.key.shape.ix()];
        needs.could_use_more(|kind| self.tenants.available_to(first.job, tenant, kind))
            || self.tenants.full(first.job, tenant, needs.most).is_some()
    }

    /// Where quota came back, finds to whom: their lanes that lacked some are tried, and who comes first of them may have
    /// something held.
    pub(crate) fn notice_quota(&mut self) {
        if !self.queue.is_quota_back_to_somebody() {
            return;
        }
        let back = self.headroom.take().map(|before| self.quota_returned(&before));
        self.holds_stale |= back.as_ref().is_none_or(|back| !back.shapes.is_empty());
        self.queue.quota_is_back_to(back);
    }

    /// Which tenants and shapes quota that came back could help.
    fn quota_returned(&self, before: &FxHashMap<TenantIx, Headroom>) -> QuotaReturned {
        let mut alike: FxHashMap<(&Headroom, Headroom), BTreeSet<TenantIx>> = FxHashMap::default();
        for tenant in self.queue.short_of_quota() {
            let now = self.tenants.headroom(tenant);
            if let Some(before) = before.get(&tenant).filter(|before| now.exceeds(before)) {
                alike.entry((before, now)).or_default().insert(tenant);
            }
        }
        let mut returned = QuotaReturned::default();
        for (number, ((before, now), tenants)) in alike.into_iter().enumerate() {
            returned.groups.push(tenants);
            for shape in self.queue.shapes_short_of_quota() {
                if now.helps(&self.needs[shape.ix()], before) {
                    returned.shapes.entry(shape).or_default().push(number);
                }
            }
        }
        returned
    }

    /// All that was to be tried has been. What is left to those who lack quota is noted: they are tried again once it is
    /// more.
    pub(crate) fn settle_queue(&mut self) {
        self.queue.settle();
        let left = |tenant| (tenant, self.tenants.headroom(tenant));
        self.headroom = Some(self.queue.short_of_quota().map(left).collect());
    }

    /// Keeps quota for the first job of a lane that waits for some, once it has waited too long and nobody who stands
    /// before it has: those behind take no more of it, so that it comes back to this one as running work ends.
    pub(crate) fn promise_quota(&mut self, lane: LaneIx) {
        if self.promise_to(lane).is_none() {
            return;
        }
        // By tier and turn, whatever the order: that does not change with what is kept.
        let turn = |lane: LaneIx| {
            let entry = self.queue.lane(lane);
            entry.first().map(|first| (entry.key.tier, first.turn))
        };
        let came_before = |kept: &Promise| {
            let other = self.jobs.get(&kept.job);
            other.is_some_and(|work| Some((work.spec.tier, work.turn)) <= turn(lane))
        };
        if self.tenants.promise().is_some_and(came_before) {
            return;
        }
        // Whoever came earlier, and lacks quota since others took it, has not been tried again for that.
        let before = self.late_lanes().take_while(|other| turn(*other) <= turn(lane));
        let Some((lane, promise)) = before.filter_map(|lane| Some((lane, self.promise_to(lane)?))).next() else {
            return;
        };
        if let Some(before) = self.tenants.promise().map(|kept| kept.job) {
            self.forget_promise(before);
        }
        self.tenants.keep(promise);
        // What was kept for another may be all that it lacked.
        self.queue.wake(lane);
    }

    /// What would be kept for the first job of a lane; none where it does not wait for quota, has not waited too long, or
    /// can never have any.
    fn promise_to(&self, lane: LaneIx) -> Option<Promise> {
        let entry = self.queue.lane(lane);
        let (first, tenant) = (entry.first()?, entry.key.tenant?);
        let waits = entry.parked.is_some() && self.lacks_quota(lane);
        let shape = self.shape(entry.key.shape);
        if !waits || !self.is_late(first.asked) || !self.tenants.could_run(tenant, shape.chip_milli()) {
            return None;
        }
        let needs = shape.chips_by_accelerator(self.fleet());
        let reachable = |(kind, milli): &(&_, &u64)| self.tenants.could_have(tenant, **kind) >= **milli;
        needs.iter().find(reachable).map(|(kind, milli)| Promise::new(first.job, tenant, *kind, *milli))
    }

    /// The lanes whose first jobs have waited too long, by tier and turn.
    fn late_lanes(&self) -> impl Iterator<Item = LaneIx> + '_ {
        let late = |tier| self.queue.in_turn(tier, Turn(0)).take_while(|lane| self.lane_is_late(*lane));
        Tier::ALL.into_iter().flat_map(late)
    }

    /// No quota is kept for a job any more: it runs, or waits no longer.
    pub(super) fn forget_promise(&mut self, job: JobId) {
        if self.tenants.promise().is_some_and(|kept| kept.job == job) && self.tenants.keep_no_more() {
            self.queue.return_quota();
            self.promise_due = true;
        }
    }

    /// Looks among all who have waited too long for the one that quota is kept for next, once it is kept for nobody.
    pub(crate) fn promise_anew(&mut self) -> bool {
        let is_due = std::mem::take(&mut self.promise_due);
        if is_due {
            let late: Vec<LaneIx> = self.late_lanes().collect();
            late.into_iter().for_each(|lane| self.promise_quota(lane));
        }
        is_due
    }

    /// What is kept of quota, as data: for whom, of which kind, how many thousandths of chips.
    pub(super) fn promise_image(&self) -> Option<(JobId, AcceleratorKindIx, u64)> {
        self.tenants.promise().map(|kept| (kept.job, kept.kind, kept.milli))
    }

    /// Keeps what an image says.
    pub(super) fn recall_promise(&mut self, (job, kind, milli): (JobId, AcceleratorKindIx, u64)) {
        if let Some(tenant) = self.tenant_of(job).filter(|_| kind.ix() < self.fleet().accelerators.len()) {
            self.tenants.keep(Promise::new(job, tenant, kind, milli));
        }
    }

    /// Whether a tenant may let one more job wait.
    ///
    /// # Errors
    /// The limit that is reached.
    pub fn lets_wait(&self, spec: &Job) -> Result<(), Refusal> {
        if !self.tenants.is_active() {
            return Ok(());
        }
        // Whom nobody has met yet hangs below the root.
        let tenant = self.tenants.known(&spec.tenant).unwrap_or_default();
        let Some(full) = self.tenants.full_of_waiting(tenant, spec.chip_milli()) else { return Ok(()) };
        Err(Refusal::OverLimit {
            tenant: self.tenants.name(full.tenant).to_owned(),
            counted: full.counted,
            limit: full.limit,
        })
    }

    /// Tenants and what each has: the root first, each before those below it.
    pub fn tenants(&self) -> Vec<TenantView> {
        let mut tenants = self.tenants.clone();
        if !tenants.is_active() {
            // Nobody counts what nobody asks for.
            tenants.declare_as(&self.policy, self.fleet(), self.now, true);
            self.count_all_in(&mut tenants);
        }
        tenants.rank_at(self.now);
        tenants.view()
    }

    /// Counts all work in as it waits or runs, in the order in which it came.
    pub(super) fn count_all_in(&self, tenants: &mut Tenants) {
        let mut all: Vec<&Work> = self.jobs.values().collect();
        all.sort_unstable_by_key(|work| work.turn);
        for work in all {
            let tenant = tenants.number(&work.spec.tenant);
            match &work.phase {
                Phase::Refused(_) => {}
                Phase::Pending(_) | Phase::Held(_) => tenants.wait(tenant, work.spec.chip_milli(), true),
                Phase::Running { shape, placement, .. } => {
                    tenants.enter(tenant, &self.footprint(*shape, placement), self.now);
                }
            }
        }
    }
}
