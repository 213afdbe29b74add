//! State: the fold over facts. [`State::apply`] is the only way in; `decide` applies what it proposes.

mod check;
mod curtailments;
mod health;
mod holds;
mod image;
mod jobs;
mod nodes;
mod order;
mod quota;
mod ramps;
mod reservations;
mod services;
mod tenants;
mod throttling;
mod wake;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::ops::Bound;
use std::sync::Arc;

use offtake_fleet::{Fleet, NodeIx, NodeKindIx, SiteIx};
use offtake_units::{Duration, Timestamp, Watts};
use offtake_workload::{Gang, Job, Service};
use rustc_hash::FxHashMap;
use serde::{Deserialize, Serialize};

use crate::capacity::{Capacity, LimitIx};
use crate::displaceable::Displaceable;
use crate::fact::{CurtailmentId, Event, Fact, JobId, NodeRange, Placement, ServiceId, StopReason};
use crate::history::History;
use crate::later::Later;
use crate::ledger::Ledger;
use crate::place::{Scores, ShapeIx};
use crate::policy::{Mix, Policy};
use crate::queue::{Blocked, Queue, Turn};
use crate::request::{Needs, Refusal, Shape};
use crate::tenants::{Headroom, Tenancy, TenantIx, Tenants};

pub use curtailments::Announced;
use curtailments::Rising;
use health::Faults;
pub use holds::Hold;
pub use image::{Image, Unfit};
pub use nodes::NodeCondition;
pub use ramps::Course;
use ramps::Ramps;
use reservations::Reservations;
pub use reservations::{ReservationIx, Reserved};

/// A job that is known and has not ended.
#[derive(Clone, Debug)]
pub struct Work {
    /// What was asked for.
    pub spec: Arc<Job>,
    /// Its place in the order of submission.
    pub turn: Turn,
    /// When it came.
    pub asked: Timestamp,
    /// How often it has been placed.
    pub attempts: u32,
    /// How long it is expected to run, where that is less than its limit.
    pub planned: Option<Duration>,
    /// Levels by which it may by now be placed wider than it prefers, where each has a cost.
    pub crossing: u32,
    /// Where it stands.
    pub phase: Phase,
}

/// Where a job stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Phase {
    /// It can never run here; the engine will say so.
    Refused(Refusal),
    /// It waits.
    Pending(ShapeIx),
    /// It waits until it is released.
    Held(ShapeIx),
    /// It has its nodes.
    Running {
        /// Its shape.
        shape: ShapeIx,
        /// Where.
        placement: Arc<Placement>,
        /// Since when it has them.
        placed: Timestamp,
        /// Since when its time counts: since all its workers run, or as long as nobody said so since it was placed.
        since: Timestamp,
        /// When it is expected to end; [`Timestamp::NEVER`] when nobody knows.
        ends: Timestamp,
        /// How far it has come.
        stage: Stage,
    },
}

/// How far a job that has its nodes has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Stage {
    /// Its workers are being started. In a simulation nobody says more.
    Starting,
    /// Its workers run.
    Running,
    /// Its workers are being stopped.
    Stopping(StopReason),
}

impl Stage {
    /// Whether its workers are being stopped.
    pub(crate) const fn is_stopping(self) -> bool {
        matches!(self, Self::Stopping(_))
    }
}

/// A service and its replicas.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ServiceState {
    /// What was asked for.
    pub spec: Arc<Service>,
    /// One replica as a job.
    pub replica: Arc<Job>,
    /// Replicas wanted.
    pub wanted: u32,
    /// Replicas that were last asked for, whatever its bounds are.
    #[serde(default)]
    pub demanded: u32,
    /// When they were asked for.
    #[serde(default = "epoch")]
    pub demanded_at: Timestamp,
    /// Replicas that wait or run, the oldest first.
    pub replicas: BTreeSet<JobId>,
    /// Replicas that are being stopped and do not come back.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub leaving: BTreeSet<JobId>,
    /// Of the replicas those on drained nodes, whether they are being stopped or not. Made anew from the rest.
    #[serde(skip)]
    pub on_drained: BTreeSet<JobId>,
    /// It is withdrawn.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub cancelled: bool,
}

const fn epoch() -> Timestamp {
    Timestamp::EPOCH
}

/// How many jobs have ended, and how.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ended {
    /// By themselves.
    pub finished: u64,
    /// Without the result that they were for.
    pub failed: u64,
    /// Withdrawn.
    pub cancelled: u64,
    /// Refused, as they can never run.
    pub rejected: u64,
}

/// Everything that the engine knows.
#[derive(Clone, Debug)]
pub struct State {
    pub(crate) now: Timestamp,
    pub(crate) policy: Policy,
    /// How many policies have been set.
    policy_version: u64,
    pub(crate) capacity: Capacity,
    pub(crate) scores: Scores,
    pub(crate) mix: Mix,
    pub(crate) queue: Queue,
    pub(crate) holds: Vec<Hold>,
    /// Nodes that laid holds keep, and how many keep each.
    kept: FxHashMap<u32, u32>,
    /// Whether a blocked job may lack its hold.
    pub(crate) holds_stale: bool,
    /// All with an earlier turn had waited too long at the last pass, as far as their lane's first goes.
    pub(crate) late_before: Turn,
    /// Whether quota may be kept for somebody else now.
    promise_due: bool,
    /// What was left to tenants that lacked quota after the last pass; none when that is not known.
    headroom: Option<FxHashMap<TenantIx, Headroom>>,
    /// Nodes given back since the last pass; none when they are too many to tell.
    pub(crate) freed: Option<Vec<NodeRange>>,
    /// Blocked jobs whose start nobody can tell: they wait for work without an expected end.
    pub(crate) start_unknown: BTreeSet<JobId>,
    /// Blocked jobs that nobody could be stopped for, and when they are looked at again.
    pub(crate) unhelped: Later,
    /// Running elastic jobs, and when it is looked whether they can grow.
    pub(crate) growing: Later,
    /// Waiting jobs that will do without a level once they have waited for it long enough, and when.
    pub(crate) crossing: Later,
    /// Running work that may be stopped for stronger work.
    pub(crate) displaceable: Displaceable,
    pub(crate) reservations: Reservations,
    /// The window that whoever is tried now may use.
    opened: Option<JobId>,
    pub(crate) services: BTreeMap<ServiceId, ServiceState>,
    /// Nodes with work on them that have been drained or resumed since it was looked who is there.
    pub(crate) drains_changed: BTreeSet<NodeIx>,
    /// Caps that more is drawn under than they allow, since the last pass.
    pub(crate) lowered: BTreeSet<LimitIx>,
    /// Running work that is throttled or paused.
    throttled: BTreeSet<JobId>,
    /// Of that the paused, and since when.
    paused: BTreeMap<JobId, Timestamp>,
    /// Nodes whose chips cannot be kept to a power level.
    unthrottled: BTreeSet<NodeIx>,
    /// Whether throttled work may get power back now.
    pub(crate) power_freed: bool,
    pub(crate) to_reject: VecDeque<JobId>,
    /// Nodes that take no work, and why.
    conditions: BTreeMap<NodeIx, NodeCondition>,
    /// Nodes that have yet to prove themselves, by when they have.
    proving: BTreeSet<(Timestamp, NodeIx)>,
    /// Faults that were seen.
    faults: Faults,
    /// Curtailments that are not over.
    pub(crate) curtailments: BTreeMap<CurtailmentId, Announced>,
    /// Caps that allowed less, and rise.
    rising: BTreeMap<LimitIx, Rising>,
    /// Caps that are set to another draw than the fleet declares.
    caps: BTreeMap<LimitIx, Watts>,
    /// What sites may take on at once.
    ramps: Ramps,
    /// Nodes that run work of one tenant at a time, and whose.
    pub(crate) tenancy: Tenancy,
    /// Who pays: what each has had and may have.
    pub(crate) tenants: Tenants,
    shapes: Vec<Arc<Shape>>,
    /// What quota and limits count of each shape.
    needs: Vec<Needs>,
    by_shape: FxHashMap<Arc<Shape>, ShapeIx>,
    shape_ids: FxHashMap<Vec<Gang>, Result<ShapeIx, Refusal>>,
    jobs: FxHashMap<JobId, Work>,
    ends: BTreeSet<(Timestamp, JobId)>,
    /// Running jobs that are being stopped.
    pub(crate) stopping: BTreeSet<JobId>,
    ledger: Ledger,
    pub(crate) history: History,
    ended: Ended,
    next_turn: u64,
    next_replica: u64,
}

impl Default for State {
    fn default() -> Self {
        let fleet = Arc::new(Fleet::default());
        Self {
            now: Timestamp::EPOCH,
            policy: Policy::default(),
            policy_version: 0,
            ledger: Ledger::new(&fleet),
            capacity: Capacity::new(fleet),
            scores: Scores::default(),
            mix: Mix::default(),
            queue: Queue::default(),
            holds: Vec::new(),
            kept: FxHashMap::default(),
            holds_stale: false,
            late_before: Turn(0),
            promise_due: false,
            headroom: None,
            freed: Some(Vec::new()),
            start_unknown: BTreeSet::new(),
            unhelped: Later::default(),
            growing: Later::default(),
            crossing: Later::default(),
            displaceable: Displaceable::default(),
            reservations: Reservations::default(),
            opened: None,
            services: BTreeMap::new(),
            drains_changed: BTreeSet::new(),
            lowered: BTreeSet::new(),
            throttled: BTreeSet::new(),
            paused: BTreeMap::new(),
            unthrottled: BTreeSet::new(),
            power_freed: false,
            to_reject: VecDeque::new(),
            conditions: BTreeMap::new(),
            proving: BTreeSet::new(),
            faults: Faults::default(),
            curtailments: BTreeMap::new(),
            rising: BTreeMap::new(),
            caps: BTreeMap::new(),
            ramps: Ramps::default(),
            tenancy: Tenancy::default(),
            tenants: Tenants::default(),
            shapes: Vec::new(),
            needs: Vec::new(),
            by_shape: FxHashMap::default(),
            shape_ids: FxHashMap::default(),
            jobs: FxHashMap::default(),
            ends: BTreeSet::new(),
            stopping: BTreeSet::new(),
            history: History::default(),
            ended: Ended::default(),
            next_turn: 0,
            next_replica: JobId::REPLICAS,
        }
    }
}

impl State {
    /// The later of the last fact and the clock that was handed in.
    pub const fn now(&self) -> Timestamp {
        self.now
    }

    /// The fleet.
    pub const fn fleet(&self) -> &Arc<Fleet> {
        self.capacity.fleet()
    }

    /// The policy in force.
    pub const fn policy(&self) -> &Policy {
        &self.policy
    }

    /// How many policies have been set so far.
    pub const fn policy_version(&self) -> u64 {
        self.policy_version
    }

    /// The physical account.
    pub const fn capacity(&self) -> &Capacity {
        &self.capacity
    }

    /// The accounts of what was used.
    pub const fn ledger(&self) -> &Ledger {
        &self.ledger
    }

    /// Waiting work.
    pub const fn queue(&self) -> &Queue {
        &self.queue
    }

    /// Free chips, in thousandths, that the typical request could not use because of where they are.
    pub fn fragmented_chip_milli(&self) -> u64 {
        self.mix.fragmented(self.capacity.classes())
    }

    /// Free chips on nodes that are kept for blocked jobs, in thousandths.
    pub fn held_chip_milli(&self) -> u64 {
        let ranges = self.holds.iter().flat_map(|hold| &hold.nodes).flat_map(|range| range.numbers());
        let nodes: BTreeSet<u32> = ranges.collect();
        nodes.into_iter().map(|node| u64::from(self.capacity.class_of(NodeIx(node)).vector.whole) * 1000).sum()
    }

    /// Capacity kept for blocked jobs.
    pub fn holds(&self) -> &[Hold] {
        &self.holds
    }

    /// How many jobs have ended.
    pub const fn ended(&self) -> Ended {
        self.ended
    }

    /// A job that is known and has not ended.
    pub fn job(&self, job: JobId) -> Option<&Work> {
        self.jobs.get(&job)
    }

    /// All jobs that are known and have not ended, by identity.
    pub fn jobs(&self) -> Vec<(JobId, &Work)> {
        let mut jobs: Vec<_> = self.jobs.iter().map(|(job, work)| (*job, work)).collect();
        jobs.sort_unstable_by_key(|(job, _)| *job);
        jobs
    }

    /// Jobs that have their nodes, in no order.
    pub(crate) fn running(&self) -> impl Iterator<Item = (JobId, &Work)> {
        let running = self.jobs.iter().filter(|(_, work)| matches!(work.phase, Phase::Running { .. }));
        running.map(|(job, work)| (*job, work))
    }

    /// Running jobs with an expected end after another, the earliest first.
    pub(crate) fn ends_after(&self, last: (Timestamp, JobId)) -> impl Iterator<Item = (Timestamp, JobId)> + '_ {
        self.ends.range((Bound::Excluded(last), Bound::Unbounded)).copied()
    }

    pub(crate) fn shape(&self, shape: ShapeIx) -> &Arc<Shape> {
        &self.shapes[shape.ix()]
    }

    /// Where a waiting job stands and why; nothing for a job that does not wait.
    pub fn blocked(&self, job: JobId) -> Option<Blocked> {
        let work = self.jobs.get(&job)?;
        let Phase::Pending(shape) = work.phase else { return None };
        let lane = self.queue.lane(self.lane_of(shape, &work.spec)?);
        match lane.first() {
            Some(first) if first.job != job => Some(Blocked::Behind(first.job)),
            _ => lane.parked,
        }
    }

    /// Lets time pass, and books what was drawn meanwhile. Time never goes back.
    pub fn advance(&mut self, now: Timestamp) {
        if now <= self.now {
            return;
        }
        let capacity = &self.capacity;
        self.ledger.accrue(now - self.now, now, capacity.fleet(), |site| capacity.site_draw(site));
        self.now = now;
    }

    /// Folds a fact in. Facts about jobs that are not known, or not in the phase that the fact speaks of, change
    /// nothing, so that a repeated report is harmless.
    pub fn apply(&mut self, fact: &Fact) {
        match &fact.event {
            // Whatever was before is no part of the account: a fleet's energy counts from when it is known.
            Event::FleetLoaded { fleet } => {
                self.now = fact.at;
                self.load(fleet);
            }
            event => {
                self.advance(fact.at);
                self.apply_event(event);
            }
        }
    }

    fn apply_event(&mut self, event: &Event) {
        match event {
            Event::FleetLoaded { .. } => {}
            Event::PolicySet { policy } => self.set_policy(policy),
            Event::JobSubmitted { job, spec } => self.submit(*job, Arc::clone(spec)),
            Event::JobRejected { job, .. } => {
                if let Some(work) = self.jobs.remove(job) {
                    self.leave_service(*job, &work.spec);
                }
                self.to_reject.retain(|other| other != job);
                self.ended.rejected += 1;
            }
            Event::JobPlaced { job, placement } => {
                if let Some(shape) = self.shape_as_placed(*job, placement) {
                    self.occupy(shape, placement);
                    self.start(*job, placement);
                }
            }
            Event::NodesSwapped { job, swaps, saved_until } => self.swap(*job, swaps, *saved_until),
            Event::JobStarted { job } => self.started(*job),
            Event::EstimateCorrected { job, ends } => self.correct_end(*job, *ends),
            Event::JobThrottled { job, to } => self.throttle(*job, *to),
            Event::JobStopping { job, reason, by } => self.stopping(*job, *reason, *by),
            Event::JobRequeued { job, saved_until, held } => self.requeue(*job, *saved_until, *held),
            Event::JobHeld { job } => {
                self.faults.hold(*job);
                self.put_on_hold(*job);
            }
            Event::JobReleased { job } => {
                self.faults.release(*job);
                self.release(*job);
            }
            Event::LevelAwaited { job } => self.await_level(*job),
            Event::LevelCrossed { job } => self.cross_level(*job),
            Event::JobFinished { job } => {
                self.ended.finished += u64::from(self.end(*job, true));
            }
            Event::JobFailed { job } => {
                self.ended.failed += u64::from(self.end(*job, false));
            }
            Event::JobCancelled { job } => {
                self.ended.cancelled += u64::from(self.end(*job, false));
            }
            Event::ServiceSubmitted { service, spec } => self.add_service(*service, spec),
            Event::ServiceScaled { service, replicas } => self.scale_service(*service, *replicas),
            Event::ServiceBounded { service, minimum, maximum } => self.bound_service(*service, *minimum, *maximum),
            Event::ServiceCancelled { service } => self.cancel_service(*service),
            Event::ReplicaAdded { service, replica } => self.add_replica(*service, *replica),
            Event::ReplicaRetired { replica, .. } => drop(self.end(*replica, true)),
            Event::HoldPlaced { job, start, placement, extra } => self.hold(*job, *start, placement, extra),
            Event::HoldReleased { job } => self.release_hold(*job),
            Event::ReservationMade { reservation, spec } => self.reserve(*reservation, spec),
            Event::ReservationCancelled { reservation } | Event::ReservationRefused { reservation, .. } => {
                self.unreserve(*reservation);
            }
            Event::WindowPlaced { reservation, start, end, nodes } => {
                self.place_window(*reservation, *start, *end, nodes);
            }
            Event::WindowMissed { reservation, .. } | Event::WindowEnded { reservation } => {
                self.close_window(*reservation);
            }
            Event::FleetChanged { fleet } => self.refit(fleet),
            Event::NodeLost { node } => self.set_condition(*node, |condition| condition.lost = true),
            Event::NodeReturned { node } => {
                let until = self.proves_until();
                self.set_condition(*node, |condition| {
                    if std::mem::take(&mut condition.lost) {
                        condition.proves_until = until;
                    }
                });
            }
            Event::NodeDrained { node, reason } => {
                self.faults.drain(*node);
                self.set_condition(*node, |condition| condition.drained = Some(reason.clone()));
                self.note_drain(*node);
            }
            // Who resumes a node that has yet to prove itself knows it for sound.
            Event::NodeResumed { node } => {
                self.faults.resume(*node);
                let until = self.proves_until();
                self.set_condition(*node, |condition| {
                    condition.proves_until = condition.drained.take().and(until);
                });
                self.note_drain(*node);
            }
            Event::NodeProved { node } => self.set_condition(*node, |condition| condition.proves_until = None),
            Event::FaultSeen { node, job, fault } => self.see_fault(*node, *job, *fault),
            Event::NodeShared { node, shared } => self.set_shared(*node, *shared),
            Event::NodeThrottles { node, able } => self.set_throttles(*node, *able),
            Event::CapSet { cap, watts } => self.set_cap(*cap, *watts),
            Event::CurtailmentAnnounced { curtailment, spec } => self.announce(*curtailment, spec),
            Event::CurtailmentBegan { curtailment } => self.begin_curtailment(*curtailment),
            Event::CurtailmentEnded { curtailment } => self.end_curtailment(*curtailment),
            Event::CapRose { cap, watts } => self.raise_cap(*cap, *watts),
            Event::CurtailmentUnmet { least, curtailment: Some(curtailment), .. } => self.declare(*curtailment, *least),
            Event::CurtailmentUnmet { cap, .. } => _ = self.lowered.remove(cap),
            Event::PricePublished { zone, price } => self.ledger.set_price(self.capacity.fleet(), zone, *price),
            Event::CarbonPublished { zone, intensity } => {
                self.ledger.set_intensity(self.capacity.fleet(), zone, *intensity);
            }
            Event::WeatherPublished { site, wet_bulb_mc } => self.set_weather(site, *wet_bulb_mc),
        }
    }

    pub(crate) fn set_wet_bulb(&mut self, site: SiteIx, wet_bulb_mc: i32) {
        self.ledger.set_weather(site, wet_bulb_mc);
    }

    fn set_policy(&mut self, policy: &Policy) {
        let before = std::mem::replace(&mut self.policy, policy.clone());
        self.policy_version += 1;
        self.scores.clear();
        self.mix.derive(policy.packing, &self.shapes);
        if policy.packing.keeps_sizes() != self.capacity.keeps_sizes() {
            self.capacity = self.recounted().0;
        }
        if policy.order != before.order || policy.fairness != before.fairness || policy.tenants != before.tenants {
            self.declare_tenants();
            if self.tenants_stand_apart() {
                self.number_tenants();
            }
            self.queue_anew();
            // They were planned for whoever stood first.
            self.replan_holds(|_, _| true);
            self.start_unknown.clear();
        }
    }

    fn load(&mut self, fleet: &Arc<Fleet>) {
        self.tenancy = Tenancy::default();
        self.ledger = Ledger::new(fleet);
        self.displaceable = Displaceable::new(fleet);
        self.queue = self.empty_queue(fleet.node_kinds.len());
        self.mix = Mix::new(fleet);
        self.capacity = Capacity::new(Arc::clone(fleet));
        if self.policy.packing.keeps_sizes() {
            self.capacity.keep_sizes();
        }
        self.open_ramps();
        self.declare_tenants();
    }
}

pub(crate) fn kinds_of(shape: &Shape) -> impl Iterator<Item = NodeKindIx> + '_ {
    shape.gangs.iter().flat_map(|gang| gang.kinds.iter().map(|(kind, _)| *kind))
}

impl Phase {
    /// The shape of a job that waits, is on hold or runs.
    pub(crate) const fn shape(&self) -> Option<ShapeIx> {
        match self {
            Self::Refused(_) => None,
            Self::Pending(shape) | Self::Held(shape) | Self::Running { shape, .. } => Some(*shape),
        }
    }
}
