//! State: the fold over facts. [`State::apply`] is the only way in; `decide` applies what it proposes.

mod check;
mod holds;
mod wake;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use offtake_fleet::{Fleet, NodeKindIx};
use offtake_units::{Duration, Timestamp};
use offtake_workload::{Gang, Job, Service, Tier};
use rustc_hash::FxHashMap;

use crate::admission::resolve;
use crate::capacity::Capacity;
use crate::fact::{Event, Fact, JobId, NodeRange, Placement, ServiceId};
use crate::ledger::Ledger;
use crate::place::{Scores, ShapeIx};
use crate::policy::{Mix, Policy};
use crate::queue::{Blocked, Lane, Queue, Turn, Waiting};
use crate::request::{Refusal, Shape};

pub use holds::Hold;

/// A job that is known and has not ended.
#[derive(Clone, Debug)]
pub struct Work {
    /// What was asked for.
    pub spec: Arc<Job>,
    /// Its place in the order of submission.
    pub turn: Turn,
    /// Where it stands.
    pub phase: Phase,
    /// The job whose held nodes it runs on, or must leave.
    blocks: Option<JobId>,
}

/// Where a job stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Phase {
    /// It can never run here; the engine will say so.
    Refused(Refusal),
    /// It waits.
    Pending(ShapeIx),
    /// It runs.
    Running {
        /// Its shape.
        shape: ShapeIx,
        /// Where.
        placement: Arc<Placement>,
        /// Since when.
        since: Timestamp,
        /// When it is expected to end; [`Timestamp::NEVER`] when nobody knows.
        ends: Timestamp,
    },
}

/// A service and its replicas.
#[derive(Clone, Debug)]
pub struct ServiceState {
    /// What was asked for.
    pub spec: Arc<Service>,
    /// One replica as a job.
    pub replica: Arc<Job>,
    /// Replicas wanted.
    pub wanted: u32,
    /// Replicas that wait or run, the oldest first.
    pub replicas: VecDeque<JobId>,
}

/// How many jobs have ended, and how.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ended {
    /// By themselves.
    pub finished: u64,
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
    pub(crate) capacity: Capacity,
    pub(crate) scores: Scores,
    pub(crate) mix: Mix,
    pub(crate) queue: Queue,
    pub(crate) holds: Vec<Hold>,
    /// Whether a blocked job may lack its hold.
    pub(crate) holds_stale: bool,
    /// Nodes given back since the last pass; none when they are too many to tell.
    pub(crate) freed: Option<Vec<NodeRange>>,
    /// Blocked jobs whose start nobody can tell: they wait for work without an expected end.
    pub(crate) start_unknown: BTreeSet<JobId>,
    pub(crate) services: BTreeMap<ServiceId, ServiceState>,
    pub(crate) to_reject: VecDeque<JobId>,
    shapes: Vec<Arc<Shape>>,
    shape_ids: FxHashMap<Vec<Gang>, Result<ShapeIx, Refusal>>,
    jobs: FxHashMap<JobId, Work>,
    ends: BTreeSet<(Timestamp, JobId)>,
    ledger: Ledger,
    ended: Ended,
    next_turn: u64,
    next_replica: u64,
}

/// Replicas get their identities from here up; submitters stay below.
const REPLICAS: u64 = 1 << 63;

impl Default for State {
    fn default() -> Self {
        let fleet = Arc::new(Fleet::default());
        Self {
            now: Timestamp::EPOCH,
            policy: Policy::default(),
            ledger: Ledger::new(&fleet),
            capacity: Capacity::new(fleet),
            scores: Scores::default(),
            mix: Mix::default(),
            queue: Queue::default(),
            holds: Vec::new(),
            holds_stale: false,
            freed: Some(Vec::new()),
            start_unknown: BTreeSet::new(),
            services: BTreeMap::new(),
            to_reject: VecDeque::new(),
            shapes: Vec::new(),
            shape_ids: FxHashMap::default(),
            jobs: FxHashMap::default(),
            ends: BTreeSet::new(),
            ended: Ended::default(),
            next_turn: 0,
            next_replica: REPLICAS,
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

    /// Running jobs with an expected end, the earliest first.
    pub(crate) fn ends(&self) -> impl Iterator<Item = (Timestamp, JobId)> + '_ {
        self.ends.iter().copied()
    }

    pub(crate) fn shape(&self, shape: ShapeIx) -> &Arc<Shape> {
        &self.shapes[shape.ix()]
    }

    /// Where a waiting job stands and why; nothing for a job that does not wait.
    pub fn blocked(&self, job: JobId) -> Option<Blocked> {
        let work = self.jobs.get(&job)?;
        let Phase::Pending(shape) = work.phase else { return None };
        let lane = self.queue.lane(self.queue.lane_of(shape, work.spec.tier)?);
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
        self.ledger.accrue(now - self.now, capacity.fleet(), |site| capacity.site_draw(site));
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
            Event::PolicySet { policy } => {
                self.policy = *policy;
                self.scores.clear();
                self.mix.derive(policy.packing, &self.shapes);
                if policy.packing.keeps_sizes() != self.capacity.keeps_sizes() {
                    self.capacity = self.recounted();
                }
            }
            Event::JobSubmitted { job, spec } => self.submit(*job, Arc::clone(spec)),
            Event::JobRejected { job, .. } => {
                self.jobs.remove(job);
                self.to_reject.retain(|other| other != job);
                self.ended.rejected += 1;
            }
            Event::JobPlaced { job, placement } => {
                if let Some(shape) = self.pending_shape(*job) {
                    self.occupy(shape, placement);
                    self.start(*job, placement);
                }
            }
            Event::JobFinished { job } => {
                self.ended.finished += u64::from(self.end(*job, true));
            }
            Event::JobCancelled { job } => {
                self.ended.cancelled += u64::from(self.end(*job, false));
            }
            Event::ServiceSubmitted { service, spec } => self.add_service(*service, spec),
            Event::ServiceScaled { service, replicas } => {
                if let Some(state) = self.services.get_mut(service) {
                    state.wanted = (*replicas).max(state.spec.minimum);
                }
            }
            Event::ReplicaAdded { service, replica } => self.add_replica(*service, *replica),
            Event::ReplicaRetired { service, replica } => {
                self.end(*replica, true);
                if let Some(state) = self.services.get_mut(service) {
                    state.replicas.retain(|other| other != replica);
                }
            }
            Event::HoldPlaced { job, start, placement, extra } => self.hold(*job, *start, placement, extra),
            Event::HoldReleased { job } => self.release_hold(*job),
            Event::PricePublished { zone, price } => self.ledger.set_price(self.capacity.fleet(), zone, *price),
            Event::CarbonPublished { zone, intensity } => {
                self.ledger.set_intensity(self.capacity.fleet(), zone, *intensity);
            }
        }
    }

    fn load(&mut self, fleet: &Arc<Fleet>) {
        self.ledger = Ledger::new(fleet);
        self.queue = Queue::new(fleet.node_kinds.len());
        self.mix = Mix::new(fleet);
        self.capacity = Capacity::new(Arc::clone(fleet));
        if self.policy.packing.keeps_sizes() {
            self.capacity.keep_sizes();
        }
    }

    // Jobs come.

    fn submit(&mut self, job: JobId, spec: Arc<Job>) {
        if self.jobs.contains_key(&job) {
            return;
        }
        let turn = Turn(self.next_turn);
        self.next_turn += 1;
        let phase = match self.intern(&spec.gangs) {
            Ok(shape) => {
                if self.mix.learn(self.policy.packing, shape, self.now, &self.shapes) {
                    self.scores.clear();
                }
                self.enqueue(job, &spec, turn, shape);
                Phase::Pending(shape)
            }
            Err(refusal) => {
                self.to_reject.push_back(job);
                Phase::Refused(refusal)
            }
        };
        self.jobs.insert(job, Work { spec, turn, phase, blocks: None });
    }

    fn enqueue(&mut self, job: JobId, spec: &Job, turn: Turn, shape: ShapeIx) {
        let duration = spec.duration.unwrap_or(Duration::from_millis(i64::MAX));
        let lane = self.queue.push(
            (shape, spec.tier),
            Waiting { turn, job, duration },
            spec.chip_milli(),
            kinds_of(&self.shapes[shape.ix()]),
        );
        // A job that would end before a hold begins may run on held nodes although its lane is parked.
        let now = self.now;
        if self.queue.lane(lane).parked.is_some() && self.holds.iter().any(|hold| duration <= hold.start - now) {
            self.queue.wake(lane, false);
        }
    }

    fn intern(&mut self, gangs: &[Gang]) -> Result<ShapeIx, Refusal> {
        if let Some(known) = self.shape_ids.get(gangs) {
            return known.clone();
        }
        let resolved = resolve(&self.capacity, gangs).map(|shape| {
            // Different words may mean one shape.
            let place = self.shapes.iter().position(|other| **other == shape).unwrap_or_else(|| {
                self.shapes.push(Arc::new(shape));
                self.shapes.len() - 1
            });
            ShapeIx(place as u32)
        });
        self.shape_ids.insert(gangs.to_vec(), resolved.clone());
        resolved
    }

    fn add_service(&mut self, service: ServiceId, spec: &Arc<Service>) {
        let replica = Arc::new(Job {
            name: spec.name.clone(),
            tenant: spec.tenant.clone(),
            tier: spec.tier,
            submitted: self.now,
            duration: None,
            deadline: None,
            checkpoint: None,
            preemptible: false,
            gangs: vec![spec.replica.clone()],
        });
        let state = ServiceState { spec: Arc::clone(spec), replica, wanted: spec.minimum, replicas: VecDeque::new() };
        self.services.entry(service).or_insert(state);
    }

    fn add_replica(&mut self, service: ServiceId, replica: JobId) {
        let Some(state) = self.services.get_mut(&service) else { return };
        state.replicas.push_back(replica);
        let spec = Arc::clone(&state.replica);
        self.next_replica = self.next_replica.max(replica.0 + 1);
        self.submit(replica, spec);
    }

    /// The identity of the next replica.
    pub(crate) const fn next_replica(&self) -> JobId {
        JobId(self.next_replica)
    }

    // Jobs start and end.

    pub(crate) fn pending_shape(&self, job: JobId) -> Option<ShapeIx> {
        match self.jobs.get(&job)?.phase {
            Phase::Pending(shape) => Some(shape),
            _ => None,
        }
    }

    /// The standing of a waiting job among all: the strongest tier, then the earliest turn.
    pub(crate) fn standing_of(&self, job: JobId) -> Option<(Tier, Turn)> {
        self.jobs.get(&job).map(|work| (work.spec.tier, work.turn))
    }

    pub(crate) fn occupy(&mut self, shape: ShapeIx, placement: &Placement) {
        let shape = Arc::clone(self.shape(shape));
        for (gang, slots) in shape.gangs.iter().zip(&placement.gangs) {
            slots
                .iter()
                .for_each(|slot| self.capacity.occupy(slot.nodes.numbers(), &gang.take(slot.workers, slot.chips)));
        }
    }

    pub(crate) fn vacate(&mut self, shape: ShapeIx, placement: &Placement) {
        let shape = Arc::clone(self.shape(shape));
        for (gang, slots) in shape.gangs.iter().zip(&placement.gangs) {
            slots
                .iter()
                .for_each(|slot| self.capacity.vacate(slot.nodes.numbers(), &gang.take(slot.workers, slot.chips)));
        }
    }

    /// A job whose nodes are occupied runs from now on.
    pub(crate) fn start(&mut self, job: JobId, placement: &Arc<Placement>) {
        let now = self.now;
        let Some(work) = self.jobs.get_mut(&job) else { return };
        let Phase::Pending(shape) = work.phase else { return };
        let ends = work.spec.duration.map_or(Timestamp::NEVER, |duration| now.saturating_add(duration));
        work.phase = Phase::Running { shape, placement: Arc::clone(placement), since: now, ends };
        if ends != Timestamp::NEVER {
            self.ends.insert((ends, job));
        }
        let chip_milli = work.spec.chip_milli();
        self.ledger.take_chips(work.spec.tier, chip_milli);
        if let Some(lane) = self.queue.lane_of(shape, work.spec.tier) {
            self.queue.remove(lane, work.turn, chip_milli);
        }
        self.outlast(shape, placement, ends, true);
        let Some(work) = self.jobs.get_mut(&job) else { return };
        if let Some(hold) = self.holds.iter_mut().find(|hold| hold.meets(placement)) {
            hold.blockers.insert(job);
            work.blocks = Some(hold.job);
        }
    }

    /// Takes a job out, whether it waits or runs. False when it is not known.
    fn end(&mut self, job: JobId, survived: bool) -> bool {
        let Some(work) = self.jobs.remove(&job) else { return false };
        let chip_milli = work.spec.chip_milli();
        match work.phase {
            Phase::Refused(_) => self.to_reject.retain(|other| *other != job),
            Phase::Pending(shape) => {
                self.start_unknown.remove(&job);
                self.holds_stale = true;
                self.release_hold(job);
                if let Some(lane) = self.queue.lane_of(shape, work.spec.tier) {
                    self.queue.remove(lane, work.turn, chip_milli);
                }
            }
            Phase::Running { shape, placement, since, ends } => {
                self.ends.remove(&(ends, job));
                if ends == Timestamp::NEVER || ends < self.now {
                    self.start_unknown.clear();
                }
                self.ledger.give_chips(work.spec.tier, chip_milli);
                if !survived {
                    self.ledger.lose(chip_milli, since, self.now);
                }
                self.vacate(shape, &placement);
                self.outlast(shape, &placement, ends, false);
                if let Some(owner) = work.blocks {
                    self.unblock(owner, job);
                }
                self.wake_on(&placement);
            }
        }
        true
    }
}

pub(crate) fn kinds_of(shape: &Shape) -> impl Iterator<Item = NodeKindIx> + '_ {
    shape.gangs.iter().flat_map(|gang| gang.kinds.iter().map(|(kind, _)| *kind))
}

/// The standing of a lane's first job.
pub(crate) fn standing(lane: &Lane) -> (Tier, Turn) {
    (lane.tier, lane.first().map_or(Turn(u64::MAX), |first| first.turn))
}
