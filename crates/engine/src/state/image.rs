//! A state as data, and back: for snapshots, and to carry work over to another fleet.
//!
//! An image holds what is true and what the passes remember; everything else is made anew from that. A state that was
//! restored decides as the one it was taken of would.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use offtake_fleet::{AcceleratorKindIx, Fleet, NodeIx};
use offtake_units::{Duration, Timestamp, Watts};
use offtake_workload::{Gang, Job, Tier};
use rustc_hash::{FxHashMap, FxHashSet};
use serde::{Deserialize, Serialize};

use super::curtailments::Rising;
use super::health::Faults;
use super::jobs::{Entry, length};
use super::ramps::Ramps;
use super::reservations::{Reservations, Reserved};
use super::{Announced, Ended, Hold, NodeCondition, Phase, ServiceState, Stage, State, Work};
use crate::capacity::{LimitIx, Withheld};
use crate::elastic::{as_placed, elastic_gang};
use crate::fact::{CurtailmentId, JobId, NodeRange, Placement, ReservationId, ServiceId, Slot};
use crate::history::{History, RunsImage};
use crate::later::Later;
use crate::ledger::Ledger;
use crate::place::ShapeIx;
use crate::policy::{Counts, Mix, MixImage, Policy};
use crate::queue::{Blocked, Lane, LaneKey, QueueMemory, Turn};
use crate::request::{Refusal, Shape};
use crate::tenants::{Tenancy, TenancyImage, TenantImage};

/// A state as data.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Image {
    now: Timestamp,
    policy: Policy,
    #[serde(default)]
    policy_version: u64,
    fleet: Arc<Fleet>,
    ledger: Ledger,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    history: Vec<RunsImage>,
    ended: Ended,
    next_turn: u64,
    next_replica: u64,
    conditions: BTreeMap<NodeIx, NodeCondition>,
    #[serde(default, skip_serializing_if = "Faults::is_empty")]
    faults: Faults,
    caps: BTreeMap<LimitIx, Watts>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    curtailments: BTreeMap<CurtailmentId, Announced>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    rising: BTreeMap<LimitIx, Rising>,
    #[serde(default, skip_serializing_if = "Ramps::is_empty")]
    ramps: Ramps,
    #[serde(default, skip_serializing_if = "TenancyImage::is_empty")]
    tenancy: TenancyImage,
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    unthrottled: BTreeSet<NodeIx>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    paused: BTreeMap<JobId, Timestamp>,
    /// In the order in which they were met.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    tenants: Vec<TenantImage>,
    /// By position.
    shapes: Vec<ShapeImage>,
    mix: MixImage,
    /// By turn.
    jobs: Vec<JobImage>,
    services: BTreeMap<ServiceId, ServiceState>,
    holds: Vec<Hold>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    reservations: BTreeMap<ReservationId, Reserved>,
    remembered: Remembered,
}

/// Requests of one shape.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct ShapeImage {
    /// One way to write it.
    gangs: Vec<Gang>,
    counts: Counts,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct JobImage {
    job: JobId,
    spec: Arc<Job>,
    turn: Turn,
    /// When it came; what it says itself where nobody noted it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    asked: Option<Timestamp>,
    attempts: u32,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    planned: Option<Duration>,
    #[serde(default, skip_serializing_if = "is_none_crossed")]
    crossing: u32,
    phase: PhaseImage,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum PhaseImage {
    Refused(Refusal),
    Pending,
    Held,
    Running { placement: Arc<Placement>, placed: Timestamp, since: Timestamp, ends: Timestamp, stage: Stage },
}

/// What the passes remember so that nothing is tried in vain. A state without it would be as true, but would try again
/// what has failed before, and could by now have luck with it.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Remembered {
    lanes: Vec<LaneImage>,
    #[serde(default)]
    queue: QueueMemory,
    freed: Option<Vec<NodeRange>>,
    holds_stale: bool,
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    lowered: BTreeSet<LimitIx>,
    #[serde(default)]
    power_freed: bool,
    #[serde(default)]
    late_before: Turn,
    #[serde(default)]
    promise_due: bool,
    /// Quota that is kept: for whom, of which kind, how many thousandths of chips.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    promise: Option<(JobId, AcceleratorKindIx, u64)>,
    start_unknown: BTreeSet<JobId>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    unhelped: BTreeMap<JobId, Timestamp>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    growing: BTreeMap<JobId, Timestamp>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    crossing: BTreeMap<JobId, Timestamp>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct LaneImage {
    shape: ShapeIx,
    tier: Tier,
    /// Where tenants stand apart.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    tenant: Option<String>,
    #[serde(default, skip_serializing_if = "is_zero")]
    priority: i32,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    reservation: Option<String>,
    parked: Option<Blocked>,
    /// Where nobody noted it, it may have.
    #[serde(default = "yes")]
    lacked_quota: bool,
}

const fn yes() -> bool {
    true
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks for a reference")]
const fn is_zero(number: &i32) -> bool {
    *number == 0
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks for a reference")]
const fn is_none_crossed(levels: &u32) -> bool {
    *levels == 0
}

/// An image that does not hold together: it was damaged, or written by something else.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the image of the state does not hold together: {0}; fold the journal from its beginning")]
pub struct Unfit(String);

impl State {
    /// The state as data.
    pub fn image(&self) -> Image {
        let mut words: Vec<Option<&Vec<Gang>>> = vec![None; self.shapes.len()];
        for (gangs, known) in &self.shape_ids {
            if let Ok(shape) = known {
                // Of several ways to write a shape the least is taken: their order here is not defined.
                let least = &mut words[shape.ix()];
                *least = Some(least.map_or(gangs, |least| least.min(gangs)));
            }
        }
        let shapes = words.into_iter().enumerate().map(|(place, gangs)| ShapeImage {
            gangs: gangs.cloned().unwrap_or_default(),
            counts: self.mix.counts(ShapeIx(place as u32)),
        });
        let mut jobs: Vec<JobImage> = self.jobs.iter().map(|(job, work)| JobImage::of(*job, work)).collect();
        jobs.sort_unstable_by_key(|image| image.turn);
        Image {
            now: self.now,
            policy: self.policy.clone(),
            policy_version: self.policy_version,
            fleet: Arc::clone(self.fleet()),
            ledger: self.ledger.clone(),
            history: self.history.image(),
            ended: self.ended,
            next_turn: self.next_turn,
            next_replica: self.next_replica,
            conditions: self.conditions.clone(),
            faults: self.faults.clone(),
            caps: self.caps.clone(),
            curtailments: self.curtailments.clone(),
            rising: self.rising.clone(),
            ramps: self.ramps.clone(),
            tenancy: self.tenancy.image(),
            unthrottled: self.unthrottled.clone(),
            paused: self.paused.clone(),
            tenants: self.tenants.image(self.fleet()),
            shapes: shapes.collect(),
            mix: self.mix.image(),
            jobs,
            services: self.services.clone(),
            holds: self.holds.clone(),
            reservations: self.reservations().clone(),
            remembered: self.remembered(),
        }
    }

    fn remembered(&self) -> Remembered {
        let tenant = |lane: &Lane| {
            let first = self.jobs.get(&lane.first()?.job)?;
            lane.key.tenant.map(|_| first.spec.tenant.clone())
        };
        let reservation = |lane: &Lane| self.jobs.get(&lane.first()?.job)?.spec.reservation.clone();
        let lanes = self.queue.in_order().map(|lane| self.queue.lane(lane)).map(|lane| LaneImage {
            reservation: reservation(lane),
            shape: lane.key.shape,
            tier: lane.key.tier,
            tenant: tenant(lane),
            priority: lane.key.priority,
            parked: lane.parked,
            lacked_quota: lane.lacked_quota,
        });
        Remembered {
            lanes: lanes.filter(|lane| lane.parked.is_some()).collect(),
            queue: self.queue.memory(),
            freed: self.freed.clone(),
            holds_stale: self.holds_stale,
            lowered: self.lowered.clone(),
            power_freed: self.power_freed,
            late_before: self.late_before,
            promise_due: self.promise_due,
            promise: self.promise_image(),
            start_unknown: self.start_unknown.clone(),
            unhelped: self.unhelped.image().clone(),
            growing: self.growing.image().clone(),
            crossing: self.crossing.image().clone(),
        }
    }

    /// The state of an image.
    ///
    /// # Errors
    /// [`Unfit`] when the image contradicts itself.
    pub fn restore(image: Image) -> Result<Self, Unfit> {
        let mut state = Self { policy: image.policy.clone(), ..Self::default() };
        state.tenants.meet(&image.tenants);
        state.load(&image.fleet);
        for gangs in image.shapes.iter().map(|shape| &shape.gangs) {
            state.shape_of_running(gangs)?;
        }
        if state.shapes.len() != image.shapes.len() {
            return Err(Unfit("two of its shapes are one".to_owned()));
        }
        let remembered = image.remembered.clone();
        let counts = image.shapes.iter().map(|shape| shape.counts).collect();
        state.take_in(image, counts)?;
        if let Some(promise) = remembered.promise {
            state.recall_promise(promise);
        }
        for lane in remembered.lanes {
            let tenant = lane.tenant.and_then(|tenant| state.tenants.known(&tenant));
            let reservation = state.reservations.known(lane.reservation.as_deref());
            let key = LaneKey { shape: lane.shape, tier: lane.tier, tenant, priority: lane.priority, reservation };
            if let (Some(place), Some(why)) = (state.queue.lane_of(key), lane.parked) {
                state.queue.park(place, why, lane.lacked_quota);
            }
        }
        state.queue.remember(remembered.queue);
        state.freed = remembered.freed;
        state.holds_stale = remembered.holds_stale;
        state.lowered = remembered.lowered;
        state.power_freed = remembered.power_freed;
        state.late_before = remembered.late_before;
        state.promise_due = remembered.promise_due;
        state.start_unknown = remembered.start_unknown;
        state.unhelped = Later::restore(remembered.unhelped);
        state.growing = Later::restore(remembered.growing);
        state.crossing = Later::restore(remembered.crossing);
        Ok(state)
    }

    /// Carries everything over to another fleet, in which nodes, sites and caps are known by their names. Holds are
    /// planned anew. A fleet without room where work runs changes nothing.
    pub(super) fn refit(&mut self, fleet: &Arc<Fleet>) {
        let before = Arc::clone(self.fleet());
        let Some(mut image) = self.image().on(&before, fleet) else { return };
        if let Some(until) = self.proves_until() {
            let known: FxHashSet<String> =
                (0..before.nodes.len() as u32).map(|node| before.node_name(NodeIx(node))).collect();
            let nodes = (0..fleet.nodes.len() as u32).map(NodeIx);
            for node in nodes.filter(|node| !known.contains(&fleet.node_name(*node))) {
                image.conditions.entry(node).or_default().proves_until = Some(until);
            }
        }
        let mut state = Self { policy: image.policy.clone(), ..Self::default() };
        state.tenants.meet(&image.tenants);
        state.load(fleet);
        state.take_in_caps(image.caps.clone(), image.curtailments.clone(), image.rising.clone());
        // Shapes that can no longer run are forgotten, and who asks for one is refused; two may have become one.
        let mut counts: Vec<Counts> = Vec::new();
        for known in &image.shapes {
            let Ok(place) = state.intern(&known.gangs) else { continue };
            counts.resize(state.shapes.len(), Counts::default());
            counts[place.ix()].add(known.counts);
        }
        let breaches = self.capacity.breaches();
        if state.take_in(image, counts).is_ok() {
            state.capacity.accept(breaches);
            state.power_freed = true;
            (0..fleet.caps.len() as u32).for_each(|cap| state.note_lowered(LimitIx(cap)));
            *self = state;
        }
    }

    /// Takes an image in on a fleet and the shapes that are there, with their counts.
    fn take_in(&mut self, image: Image, counts: Vec<Counts>) -> Result<(), Unfit> {
        self.now = image.now;
        self.policy_version = image.policy_version;
        self.ledger = image.ledger;
        self.history = History::restore(image.history);
        self.ended = image.ended;
        self.next_turn = image.next_turn;
        self.next_replica = image.next_replica;
        self.services = image.services;
        self.reservations = Reservations::restore(image.reservations);
        self.mix = Mix::restore(self.capacity.fleet(), image.mix, counts, &self.shapes);
        image.tenancy.single.iter().try_for_each(|node| self.has_node(*node))?;
        self.tenancy = Tenancy::restore(image.tenancy);
        image.unthrottled.iter().try_for_each(|node| self.has_node(*node))?;
        self.unthrottled = image.unthrottled;
        for job in image.jobs {
            self.take_in_job(job)?;
        }
        let is_paused = |job: &&JobId| {
            let phase = self.jobs.get(job).map(|work| &work.phase);
            matches!(phase, Some(Phase::Running { placement, .. }) if placement.throttle.is_paused())
        };
        if image.paused.len() != self.throttled.iter().filter(is_paused).count()
            || !image.paused.keys().all(|job| is_paused(&job))
        {
            return Err(Unfit("since when work is paused is not clear".to_owned()));
        }
        self.paused = image.paused;
        let fleet = Arc::clone(self.fleet());
        self.tenants.recall(image.tenants, &fleet);
        if let Some(node) = self.tenancy.fault() {
            return Err(Unfit(format!("who works on the single-tenant node {} is not clear", node.0)));
        }
        self.take_in_caps(image.caps, image.curtailments, image.rising);
        self.take_in_ramps(image.ramps);
        self.capacity.accept(0);
        for node in image.conditions.keys() {
            self.has_node(*node)?;
            self.capacity.withhold(*node, Withheld::Out);
        }
        self.conditions = image.conditions;
        self.drains_changed = self.conditions.keys().copied().collect();
        self.note_proving();
        self.faults = image.faults;
        for hold in image.holds {
            for range in &hold.nodes {
                range.numbers().try_for_each(|node| self.has_node(NodeIx(node)))?;
            }
            self.holds.push(hold);
            self.lay_hold(self.holds.len() - 1);
        }
        self.keep_curtailed();
        Ok(())
    }

    fn has_node(&self, node: NodeIx) -> Result<(), Unfit> {
        let known = node.ix() < self.fleet().nodes.len();
        known.then_some(()).ok_or_else(|| Unfit(format!("node {} is not there", node.0)))
    }

    fn take_in_job(&mut self, image: JobImage) -> Result<(), Unfit> {
        let JobImage { job, spec, turn, asked, attempts, planned, mut crossing, phase } = image;
        let asked = asked.unwrap_or(spec.submitted);
        if self.tenants_stand_apart() {
            self.tenants.number(&spec.tenant);
        }
        let mut waits_as = |state: &mut Self, phase: fn(ShapeIx) -> Phase| match state.intern_across(&spec, crossing) {
            Ok((shape, crossed)) => {
                crossing = crossed;
                phase(shape)
            }
            Err(refusal) => Phase::Refused(refusal),
        };
        let phase = match phase {
            PhaseImage::Refused(refusal) => Phase::Refused(refusal),
            PhaseImage::Pending => waits_as(self, Phase::Pending),
            PhaseImage::Held => waits_as(self, Phase::Held),
            PhaseImage::Running { placement, placed, since, ends, stage } => {
                let gangs = as_placed(&spec, &placement, self.fleet());
                let shape = self.shape_of_running(&gangs)?;
                self.occupy_checked(job, shape, &placement)?;
                if !self.tenancy.is_empty() {
                    let tenant = self.tenants.number(&spec.tenant);
                    self.tenancy.enter(&mut self.capacity, tenant, &placement);
                }
                let fleet = self.capacity.fleet();
                self.displaceable.enter(fleet, job, &spec, &self.shapes[shape.ix()], &placement);
                if elastic_gang(&spec).is_some() {
                    let policy = self.policy.preemption.clone().unwrap_or_default();
                    self.growing.until(job, placed.saturating_add(policy.minimum_run(spec.tier)));
                }
                if ends != Timestamp::NEVER {
                    self.ends.insert((ends, job));
                }
                if matches!(stage, Stage::Stopping(_)) {
                    self.stopping.insert(job);
                }
                if !placement.throttle.is_none() {
                    self.throttled.insert(job);
                }
                Phase::Running { shape, placement, placed, since, ends, stage }
            }
        };
        match &phase {
            Phase::Refused(_) => self.to_reject.push_back(job),
            Phase::Pending(shape) => {
                let length = length(&spec, planned, crossing);
                self.enqueue(job, &spec, Entry { turn, asked, length }, *shape);
            }
            Phase::Held(_) | Phase::Running { .. } => {}
        }
        self.jobs.insert(job, Work { spec, turn, asked, attempts, planned, crossing, phase });
        self.count_in(job);
        Ok(())
    }

    /// The shape of what runs, or was let in before: nobody asks again whether it ever could.
    pub(crate) fn shape_of_running(&mut self, gangs: &[Gang]) -> Result<ShapeIx, Unfit> {
        if let Some(Ok(known)) = self.shape_ids.get(gangs) {
            return Ok(*known);
        }
        let shape = Shape::resolve(gangs, self.fleet()).map_err(|refusal| Unfit(refusal.to_string()))?;
        let known = self.by_shape.get(&shape).copied();
        let place = known.unwrap_or_else(|| self.add_shape(shape));
        self.shape_ids.insert(gangs.to_vec(), Ok(place));
        Ok(place)
    }

    fn occupy_checked(&mut self, job: JobId, shape: ShapeIx, placement: &Placement) -> Result<(), Unfit> {
        let unfit = || Unfit(format!("job {} has no room where it runs", job.0));
        let shape = Arc::clone(self.shape(shape));
        if shape.gangs.len() != placement.gangs.len() {
            return Err(unfit());
        }
        for (gang, slots) in shape.gangs.iter().zip(&placement.gangs) {
            for slot in slots {
                let take = gang.take(slot.workers, slot.chips).at(placement.throttle);
                for node in slot.nodes.numbers() {
                    self.has_node(NodeIx(node))?;
                    let kind = self.fleet().nodes[node as usize].kind;
                    let may = gang.kinds.iter().any(|(other, _)| *other == kind);
                    if !may || !self.capacity.has_room(NodeIx(node), &take) {
                        return Err(unfit());
                    }
                }
                self.capacity.occupy(slot.nodes.numbers(), &take);
            }
        }
        Ok(())
    }
}

impl JobImage {
    fn of(job: JobId, work: &Work) -> Self {
        let phase = match &work.phase {
            Phase::Refused(refusal) => PhaseImage::Refused(refusal.clone()),
            Phase::Pending(_) => PhaseImage::Pending,
            Phase::Held(_) => PhaseImage::Held,
            Phase::Running { placement, placed, since, ends, stage, .. } => PhaseImage::Running {
                placement: Arc::clone(placement),
                placed: *placed,
                since: *since,
                ends: *ends,
                stage: *stage,
            },
        };
        let (turn, asked, attempts, planned) = (work.turn, Some(work.asked), work.attempts, work.planned);
        Self { job, spec: Arc::clone(&work.spec), turn, asked, attempts, planned, crossing: work.crossing, phase }
    }
}

impl Image {
    /// The same work on another fleet; none where that lacks a node on which some runs.
    fn on(mut self, before: &Fleet, fleet: &Arc<Fleet>) -> Option<Self> {
        let named: FxHashMap<String, NodeIx> =
            (0..fleet.nodes.len() as u32).map(NodeIx).map(|node| (fleet.node_name(node), node)).collect();
        let nodes: Vec<Option<NodeIx>> =
            (0..before.nodes.len() as u32).map(|node| named.get(&before.node_name(NodeIx(node))).copied()).collect();
        for job in &mut self.jobs {
            match &mut job.phase {
                PhaseImage::Running { placement, .. } => *placement = Arc::new(placement.renumbered(&nodes)?),
                // Perhaps it can run now.
                phase @ PhaseImage::Refused(_) => *phase = PhaseImage::Pending,
                PhaseImage::Pending | PhaseImage::Held => {}
            }
        }
        let cap_named = |name: &str| fleet.caps.iter().position(|cap| cap.name == name);
        self.caps = std::mem::take(&mut self.caps)
            .into_iter()
            .filter_map(|(cap, watts)| {
                let place = cap_named(&before.caps[cap.ix()].name)?;
                (fleet.caps[place].watts != watts).then_some((LimitIx(place as u32), watts))
            })
            .collect();
        self.curtailments.retain(|_, announced| {
            let place = cap_named(&before.caps[announced.spec.cap.ix()].name);
            place.is_some_and(|place| {
                announced.spec.cap = LimitIx(place as u32);
                true
            })
        });
        let rises = |place: &usize| fleet.caps[*place].rise.is_some();
        let rising = std::mem::take(&mut self.rising).into_iter();
        let renumbered = rising.filter_map(|(cap, rising)| {
            let place = cap_named(&before.caps[cap.ix()].name).filter(rises)?;
            Some((LimitIx(place as u32), rising))
        });
        self.rising = renumbered.collect();
        self.conditions = std::mem::take(&mut self.conditions)
            .into_iter()
            .filter_map(|(node, condition)| Some((nodes[node.ix()]?, condition)))
            .collect();
        self.faults = self.faults.renumbered(&nodes);
        self.ramps = std::mem::take(&mut self.ramps).on(before, fleet);
        self.tenancy = self.tenancy.renumbered(&nodes);
        self.unthrottled = self.unthrottled.iter().filter_map(|node| nodes[node.ix()]).collect();
        self.ledger = self.ledger.on(before, fleet);
        self.holds = Vec::new();
        self.reservations.values_mut().for_each(Reserved::forget_window);
        self.fleet = Arc::clone(fleet);
        Some(self)
    }
}

impl Placement {
    /// The same placement with other numbers for its nodes; none where one has no number.
    fn renumbered(&self, numbers: &[Option<NodeIx>]) -> Option<Self> {
        let mut gangs = Vec::with_capacity(self.gangs.len());
        for slots in &self.gangs {
            let mut renumbered: Vec<Slot> = Vec::with_capacity(slots.len());
            for slot in slots {
                for node in slot.nodes.numbers() {
                    let first = numbers[node as usize]?;
                    Slot { nodes: NodeRange { first, count: 1 }, ..*slot }.join(&mut renumbered);
                }
            }
            gangs.push(renumbered);
        }
        let mut spares = self.spares.clone();
        for node in spares.iter_mut().flatten() {
            *node = numbers[node.ix()]?;
        }
        spares.iter_mut().for_each(|nodes| nodes.sort_unstable());
        Some(Self { gangs, spares, throttle: self.throttle })
    }
}
