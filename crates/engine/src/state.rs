//! State: the fold over facts. [`State::apply`] is the only way in; `decide` applies what it proposes.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use offtake_fleet::{Fleet, LevelIx, NodeIx, NodeKindIx};
use offtake_units::{Duration, Timestamp};
use offtake_workload::{ChipRequest, Gang, Job, Service, Strength, Tier};
use rustc_hash::FxHashMap;

use crate::admission::resolve;
use crate::capacity::{Capacity, LimitIx};
use crate::fact::{Event, Fact, JobId, NodeRange, Placement, ServiceId};
use crate::ledger::Ledger;
use crate::place::{Scores, ShapeIx, could_help};
use crate::policy::{Mix, Policy};
use crate::queue::{Blocked, Lane, LaneIx, Queue, Turn, Waiting};
use crate::request::{Refusal, Request, Shape};

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

/// Capacity kept for a blocked job.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hold {
    /// The job.
    pub job: JobId,
    /// When it can start at the latest, if running work ends when it is expected to.
    pub start: Timestamp,
    /// The nodes kept, ascending.
    pub nodes: Vec<NodeRange>,
    /// Where the job will run.
    pub placement: Arc<Placement>,
    /// Per limit, what work that outlasts the hold's start may still draw more, in millionths of a watt.
    extra: BTreeMap<LimitIx, i64>,
    /// Running jobs that must leave the nodes first.
    blockers: BTreeSet<JobId>,
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

/// More stretches of nodes than this given back between two passes are not told apart.
const MOST_FREED: usize = 4096;

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
                if self.mix.learn(self.policy.packing, shape, &self.shapes) {
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

    // Holds.

    fn hold(&mut self, job: JobId, start: Timestamp, placement: &Arc<Placement>, extra: &[(LimitIx, i64)]) {
        let mut hold = Hold {
            job,
            start,
            nodes: placement.nodes(),
            placement: Arc::clone(placement),
            extra: extra.iter().copied().collect(),
            blockers: BTreeSet::new(),
        };
        for (_, other) in self.ends.range(..=(start, JobId(u64::MAX))) {
            if let Some(work) = self.jobs.get_mut(other)
                && work.blocks.is_none()
                && let Phase::Running { placement, .. } = &work.phase
                && hold.meets(placement)
            {
                work.blocks = Some(job);
                hold.blockers.insert(*other);
            }
        }
        self.holds.push(hold);
        self.lay_hold(self.holds.len() - 1);
    }

    /// Occupies a placement if nodes and caps have room for it now, or changes nothing.
    pub(crate) fn settle(&mut self, shape: ShapeIx, placement: &Placement) -> bool {
        let limits = self.capacity.limits();
        if self.draw_of(shape, placement).into_iter().any(|(limit, draw)| draw > limits[limit.ix()].left_micro()) {
            return false;
        }
        let shape = Arc::clone(self.shape(shape));
        let gangs = shape.gangs.iter().zip(&placement.gangs);
        let slots = || {
            gangs
                .clone()
                .flat_map(|(gang, slots)| slots.iter().map(move |slot| (slot, gang.take(slot.workers, slot.chips))))
        };
        for (index, (slot, take)) in slots().enumerate() {
            if slot.nodes.numbers().all(|node| self.capacity.has_room(NodeIx(node), &take)) {
                self.capacity.occupy(slot.nodes.numbers(), &take);
            } else {
                slots().take(index).for_each(|(slot, take)| self.capacity.vacate(slot.nodes.numbers(), &take));
                return false;
            }
        }
        true
    }

    /// What is left under each limit that a placement draws from, the placement itself at work.
    pub(crate) fn left_with(&self, shape: ShapeIx, placement: &Placement) -> Vec<(LimitIx, i64)> {
        let limits = self.capacity.limits();
        self.draw_of(shape, placement).into_keys().map(|limit| (limit, limits[limit.ix()].left_micro())).collect()
    }

    fn draw_of(&self, shape: ShapeIx, placement: &Placement) -> BTreeMap<LimitIx, i64> {
        let mut draw = BTreeMap::new();
        for (gang, slots) in self.shapes[shape.ix()].gangs.iter().zip(&placement.gangs) {
            for slot in slots {
                let take = gang.take(slot.workers, slot.chips);
                self.capacity.add_draw(slot.nodes.numbers(), &take, &mut draw);
            }
        }
        draw
    }

    /// Work that outlasts a hold's start comes (or goes): less (or more) is left to others. What shares chips counts as
    /// if it used them alone, and gives nothing back when it goes early: others may hold the chip awake.
    fn outlast(&mut self, shape: ShapeIx, placement: &Placement, ends: Timestamp, comes: bool) {
        if !self.holds.iter().any(Hold::keeps_power) {
            return;
        }
        let draw = self.draw_of(shape, placement);
        let shares = |gang: &Request| matches!(gang.chips, ChipRequest::Share(_));
        let counts = comes || !self.shapes[shape.ix()].gangs.iter().any(shares);
        for hold in self.holds.iter_mut().filter(|hold| counts && ends > hold.start) {
            for (limit, extra) in &mut hold.extra {
                let watts = draw.get(limit).copied().unwrap_or_default();
                *extra = if comes { *extra - watts } else { *extra + watts };
            }
        }
        draw.keys().for_each(|limit| self.lay_extra(*limit, None));
    }

    /// Keeps what a hold keeps from everybody.
    pub(crate) fn lay_hold(&mut self, index: usize) {
        self.keep(index, true);
    }

    /// Lets whoever is tried next use what a hold keeps.
    pub(crate) fn lift_hold(&mut self, index: usize) {
        self.keep(index, false);
    }

    fn keep(&mut self, index: usize, kept: bool) {
        let hold = &self.holds[index];
        for node in hold.nodes.iter().flat_map(|range| range.numbers()).map(NodeIx) {
            if kept { self.capacity.withhold(node) } else { self.capacity.offer(node) }
        }
        let limits: Vec<LimitIx> = hold.extra.keys().copied().collect();
        limits.into_iter().for_each(|limit| self.lay_extra(limit, (!kept).then_some(index)));
    }

    /// Tells a limit the least that any hold, but one, leaves to others.
    fn lay_extra(&mut self, limit: LimitIx, but: Option<usize>) {
        let holds = self.holds.iter().enumerate().filter(|(index, _)| Some(*index) != but);
        let least = holds.filter_map(|(_, hold)| hold.extra.get(&limit).copied()).min();
        self.capacity.set_extra(limit, least);
    }

    fn release_hold(&mut self, job: JobId) {
        let Some(place) = self.holds.iter().position(|hold| hold.job == job) else { return };
        self.lift_hold(place);
        let hold = self.holds.remove(place);
        for blocker in &hold.blockers {
            if let Some(work) = self.jobs.get_mut(blocker) {
                work.blocks = None;
            }
        }
        self.holds_stale = true;
        for range in &hold.nodes {
            self.wake_nodes(*range);
        }
    }

    fn unblock(&mut self, owner: JobId, blocker: JobId) {
        let Some(hold) = self.holds.iter_mut().find(|hold| hold.job == owner) else { return };
        hold.blockers.remove(&blocker);
        if hold.blockers.is_empty() {
            self.wake_job(owner);
        }
    }

    // Parked lanes.

    pub(crate) fn wake_job(&mut self, job: JobId) {
        if let Some(work) = self.jobs.get(&job)
            && let Phase::Pending(shape) = work.phase
            && let Some(lane) = self.queue.lane_of(shape, work.spec.tier)
        {
            self.queue.wake(lane, false);
        }
    }

    /// Wakes the lanes that the capacity given back by a placement could help.
    fn wake_on(&mut self, placement: &Placement) {
        placement.slots().for_each(|slot| self.wake_nodes(slot.nodes));
    }

    fn wake_nodes(&mut self, nodes: NodeRange) {
        match &mut self.freed {
            Some(freed) if freed.len() < MOST_FREED => freed.push(nodes),
            freed => *freed = None,
        }
        let mut seen = None;
        for node in nodes.numbers().map(NodeIx) {
            // Nodes of one class in one domain help the same shapes.
            let like = (self.capacity.class_ix(node), self.fleet().nodes[node.ix()].domain);
            if seen.replace(like) == Some(like) {
                continue;
            }
            let kind = self.fleet().nodes[node.ix()].kind;
            let helped: Vec<(LaneIx, bool)> = self
                .queue
                .parked_on(kind)
                .filter_map(|lane| self.help(self.queue.lane(lane), node).map(|only_freed| (lane, only_freed)))
                .collect();
            helped.into_iter().for_each(|(lane, only_freed)| self.queue.wake(lane, only_freed));
        }
    }

    /// Whether a node just given back could help a lane, and then whether only the node itself can.
    fn help(&self, lane: &Lane, node: NodeIx) -> Option<bool> {
        match lane.parked {
            // Watts given back under a cap help wherever the cap reaches.
            Some(Blocked::Power(_)) if self.capacity.is_under_a_cap(node) => Some(false),
            _ => self.node_helps(lane.shape, node).then_some(true),
        }
    }

    fn node_helps(&self, shape: ShapeIx, node: NodeIx) -> bool {
        self.shapes[shape.ix()].gangs.iter().any(|gang| could_help(&self.capacity, gang, node))
    }

    /// Whether nodes given back since the last pass could help a shape, of those that are held or of those that are not.
    pub(crate) fn freed_helps(&self, shape: ShapeIx, held: bool) -> bool {
        let Some(freed) = &self.freed else { return true };
        let nodes = freed.iter().flat_map(|range| range.numbers()).map(NodeIx);
        nodes.filter(|node| self.capacity.is_withheld(*node) == held).any(|node| self.node_helps(shape, node))
    }

    /// The physical account, made anew from the running work and the holds.
    fn recounted(&self) -> Capacity {
        let mut truth = Capacity::new(Arc::clone(self.capacity.fleet()));
        if self.policy.packing.keeps_sizes() {
            truth.keep_sizes();
        }
        for (_, work) in self.jobs() {
            let Phase::Running { shape, placement, .. } = &work.phase else { continue };
            for (gang, slots) in self.shape(*shape).gangs.iter().zip(&placement.gangs) {
                for slot in slots {
                    truth.occupy(slot.nodes.numbers(), &gang.take(slot.workers, slot.chips));
                }
            }
        }
        for node in self.holds.iter().flat_map(|hold| &hold.nodes).flat_map(|range| range.numbers()) {
            truth.withhold(NodeIx(node));
        }
        for limit in self.holds.iter().flat_map(|hold| hold.extra.keys()) {
            let least = self.holds.iter().filter_map(|hold| hold.extra.get(limit).copied()).min();
            truth.set_extra(*limit, least);
        }
        truth
    }

    /// Recomputes all truths from the running work, and names the first that is wrong.
    ///
    /// # Errors
    /// What differs: a broken invariant.
    pub fn check(&self) -> Result<(), String> {
        let truth = self.recounted();
        let (mut in_use, mut waiting) = ([0; 4], 0);
        let mut ends = BTreeSet::new();
        for (job, work) in self.jobs() {
            match &work.phase {
                Phase::Refused(_) => {}
                Phase::Pending(_) => waiting += 1,
                Phase::Running { shape, placement, ends: end, .. } => {
                    in_use[work.spec.tier as usize] += work.spec.chip_milli();
                    if *end != Timestamp::NEVER {
                        ends.insert((*end, job));
                    }
                    self.check_placement(job, work, *shape, placement)?;
                }
            }
        }
        if let Some(difference) = self.capacity.difference(&truth) {
            return Err(difference);
        }
        if let Some(limit) = self.capacity.limits().iter().position(|limit| limit.is_breached()) {
            return Err(format!("cap `{}` is exceeded", self.fleet().caps[limit].name));
        }
        if in_use != self.ledger.chip_milli_in_use || ends != self.ends || waiting != self.queue.jobs() {
            return Err("the totals of running and waiting work are wrong".to_owned());
        }
        Ok(())
    }

    /// Gangs are whole, in the domain that they require, on kinds and chips that they may use.
    fn check_placement(&self, job: JobId, work: &Work, shape: ShapeIx, placement: &Placement) -> Result<(), String> {
        let fleet = self.fleet();
        for (gang, slots) in self.shape(shape).gangs.iter().zip(&placement.gangs) {
            let workers: u32 = slots.iter().map(|slot| slot.workers * slot.nodes.count).sum();
            if workers != gang.workers || placement.gangs.len() != work.spec.gangs.len() {
                return Err(format!("job {} runs {workers} of {} workers", job.0, gang.workers));
            }
            let nodes = || slots.iter().flat_map(|slot| slot.nodes.numbers());
            let level = match gang.topology {
                Some((level, Strength::Required)) => level,
                _ => LevelIx(0),
            };
            let mut around: Vec<_> = nodes()
                .map(|node| {
                    let mut domain = fleet.nodes[node as usize].domain;
                    while fleet.domains[domain.ix()].level > level {
                        domain = fleet.domains[domain.ix()].parent.unwrap_or(domain);
                    }
                    domain
                })
                .collect();
            around.dedup();
            if around.len() > 1 {
                return Err(format!("job {} is spread over {around:?}", job.0));
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
        let jobs: Vec<_> = self.jobs().into_iter().map(|(job, work)| (job, work.turn, &work.phase)).collect();
        let services: Vec<_> = self.services.iter().map(|(id, state)| (id, state.wanted, &state.replicas)).collect();
        let holds: Vec<_> =
            self.holds.iter().map(|hold| (hold.job, hold.start, &hold.nodes, &hold.extra, &hold.blockers)).collect();
        let rest = (self.now, self.ended, &self.ledger, &self.policy);
        format!("{jobs:?}\n{services:?}\n{holds:?}\n{rest:?}\n{:?}", self.capacity.limits())
    }
}

impl Hold {
    /// Whether nothing that must leave is left.
    pub(crate) fn is_ripe(&self, now: Timestamp) -> bool {
        self.blockers.is_empty() || now.as_millis() >= self.start.as_millis()
    }

    /// Whether it keeps power under some cap, beside its nodes.
    pub(crate) fn keeps_power(&self) -> bool {
        !self.extra.is_empty()
    }

    fn meets(&self, placement: &Placement) -> bool {
        placement.slots().any(|slot| {
            let range = slot.nodes.numbers();
            let place = self.nodes.partition_point(|held| held.numbers().end <= range.start);
            self.nodes.get(place).is_some_and(|held| held.first.0 < range.end)
        })
    }
}

pub(crate) fn kinds_of(shape: &Shape) -> impl Iterator<Item = NodeKindIx> + '_ {
    shape.gangs.iter().flat_map(|gang| gang.kinds.iter().map(|(kind, _)| *kind))
}

/// The standing of a lane's first job.
pub(crate) fn standing(lane: &Lane) -> (Tier, Turn) {
    (lane.tier, lane.first().map_or(Turn(u64::MAX), |first| first.turn))
}
