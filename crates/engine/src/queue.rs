//! Waiting work. Jobs of one shape and tier wait in one *lane*, and where tenants stand apart those of one tenant and
//! priority. A lane whose first job does not fit is parked until something happens that could help it. What waits for
//! room sleeps with all others of its shape: nodes that could help the shape *stir* it, its lanes are tried in their
//! order, and the first that fails as all of them would lets it sleep on. So a pass costs what changed, not what waits.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::ops::{Bound, RangeInclusive};

use offtake_fleet::{AcceleratorKindIx, NodeKindIx};
use offtake_units::{Duration, Timestamp};
use offtake_workload::Tier;
use rustc_hash::FxHashMap;
use serde::{Deserialize, Serialize};

use crate::capacity::LimitIx;
use crate::fact::JobId;
use crate::place::ShapeIx;
use crate::state::ReservationIx;
use crate::tenants::TenantIx;

/// A waiting job's place in the order of submission.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Turn(pub u64);

/// Position of a lane.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LaneIx(u32);

/// Why a job waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Blocked {
    /// No domain has room for it.
    Room,
    /// A cap leaves too little power where there would be room.
    Power(LimitIx),
    /// Its tenant has no quota left for the accelerator kinds that it may use, of which this is one.
    Quota(AcceleratorKindIx),
    /// Its tenant, or one above it, has as much running as it may.
    Limit,
    /// Its reservation has not begun, or is not there.
    Reservation,
    /// It would delay the job that capacity is held for, or comes after it.
    Behind(JobId),
}

/// A waiting job.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Waiting {
    /// Its turn.
    pub turn: Turn,
    /// The job.
    pub job: JobId,
    /// Since when it is there; jobs that come later have later turns.
    pub asked: Timestamp,
    /// How long it will run; [`Duration`] of `i64::MAX` when nobody knows.
    pub duration: Duration,
}

/// What jobs that wait in one lane have in common: where one of them does not fit, none does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct LaneKey {
    /// Their shape.
    pub shape: ShapeIx,
    /// Their tier.
    pub tier: Tier,
    /// Their tenant; none while tenants do not stand apart.
    pub tenant: Option<TenantIx>,
    /// Their priority within the tenant; zero where that does not matter.
    pub priority: i32,
    /// The reservation that they name.
    pub reservation: Option<ReservationIx>,
}

/// The waiting jobs of one kind, in the order of their turns.
#[derive(Clone, Debug)]
pub struct Lane {
    /// What they have in common.
    pub key: LaneKey,
    /// Why the first of them waits; none while it is to be tried.
    pub parked: Option<Blocked>,
    /// When it was parked, its tenant lacked quota for some of the accelerator kinds that it may use, or had reached a
    /// limit.
    pub lacked_quota: bool,
    chunks: VecDeque<Chunk>,
    shortest: Duration,
}

/// A stretch of a lane with its shortest duration, so that a job short enough is found without looking at each.
#[derive(Clone, Debug)]
struct Chunk {
    jobs: Vec<Waiting>,
    shortest: Duration,
}

/// Nothing is shorter than the one, nor longer than the other.
const SHORTEST: Duration = Duration::from_millis(i64::MIN);
const LONGEST: Duration = Duration::from_millis(i64::MAX);

/// A chunk this long is still quicker to move than to split.
const CHUNK: usize = 64;

impl Chunk {
    fn measure(&mut self) {
        self.shortest = self.jobs.iter().map(|job| job.duration).min().unwrap_or_default();
    }
}

impl Lane {
    /// The job whose turn it is.
    pub fn first(&self) -> Option<Waiting> {
        self.chunks.front().and_then(|chunk| chunk.jobs.first().copied())
    }

    /// The jobs whose turns come first.
    pub fn first_few(&self, count: usize) -> impl Iterator<Item = Waiting> + '_ {
        self.chunks.iter().flat_map(|chunk| chunk.jobs.iter().copied()).take(count)
    }

    /// The first job that runs no longer than `longest`.
    pub fn first_within(&self, longest: Duration) -> Option<Waiting> {
        let chunk = self.chunks.iter().find(|chunk| chunk.shortest <= longest)?;
        chunk.jobs.iter().find(|job| job.duration <= longest).copied()
    }

    /// The shortest of its jobs.
    pub fn shortest(&self) -> Option<Duration> {
        (!self.chunks.is_empty()).then_some(self.shortest)
    }

    /// Its jobs, in the order of their turns.
    pub fn jobs(&self) -> impl Iterator<Item = Waiting> + '_ {
        self.chunks.iter().flat_map(|chunk| chunk.jobs.iter().copied())
    }

    /// Jobs with a turn before this one.
    pub fn before(&self, turn: Turn) -> u64 {
        let place = self.place(turn);
        let whole = self.chunks.iter().take(place).map(|chunk| chunk.jobs.len()).sum::<usize>();
        let part = self.chunks.get(place).map_or(0, |chunk| chunk.jobs.partition_point(|job| job.turn < turn));
        (whole + part) as u64
    }

    /// The chunk that holds a turn or would; the number of chunks for a turn after all.
    fn place(&self, turn: Turn) -> usize {
        self.chunks.partition_point(|chunk| chunk.jobs.last().is_some_and(|job| job.turn < turn))
    }

    fn insert(&mut self, waiting: Waiting) {
        self.shortest = if self.chunks.is_empty() { waiting.duration } else { self.shortest.min(waiting.duration) };
        let mut place = self.place(waiting.turn);
        if place == self.chunks.len() {
            // Behind all others, as whoever is new comes.
            if self.chunks.back().is_none_or(|chunk| chunk.jobs.len() >= CHUNK) {
                self.chunks.push_back(Chunk { jobs: Vec::new(), shortest: waiting.duration });
            }
            place = self.chunks.len() - 1;
        }
        let chunk = &mut self.chunks[place];
        chunk.shortest = chunk.shortest.min(waiting.duration);
        chunk.jobs.insert(chunk.jobs.partition_point(|job| job.turn < waiting.turn), waiting);
        if chunk.jobs.len() > 2 * CHUNK {
            let mut rest = Chunk { jobs: chunk.jobs.split_off(CHUNK), shortest: Duration::ZERO };
            rest.measure();
            chunk.measure();
            self.chunks.insert(place + 1, rest);
        }
    }

    fn remove(&mut self, turn: Turn) {
        let place = self.place(turn);
        let Some(chunk) = self.chunks.get_mut(place) else { return };
        chunk.jobs.retain(|job| job.turn != turn);
        chunk.measure();
        if chunk.jobs.is_empty() {
            self.chunks.remove(place);
        }
        self.shortest = self.chunks.iter().map(|chunk| chunk.shortest).min().unwrap_or_default();
    }
}

/// Lanes by where they stand.
#[derive(Clone, Debug, Default)]
struct Standings {
    /// By tier and the turn of their first job.
    by_turn: BTreeSet<(Tier, Turn, LaneIx)>,
    /// By tier and tenant, there by priority and turn; only where the order of tenants matters.
    by_tenant: Option<[BTreeMap<TenantIx, TenantLanes>; 4]>,
}

/// A tenant's lanes of one tier, the highest priority and the earliest turn first.
pub type TenantLanes = BTreeSet<Candidate>;

impl Standings {
    fn new(by_tenant: bool) -> Self {
        Self { by_turn: BTreeSet::new(), by_tenant: by_tenant.then(Default::default) }
    }

    fn insert(&mut self, key: LaneKey, turn: Turn, lane: LaneIx) {
        self.by_turn.insert((key.tier, turn, lane));
        if let (Some(tiers), Some(tenant)) = (&mut self.by_tenant, key.tenant) {
            tiers[key.tier as usize].entry(tenant).or_default().insert((Reverse(key.priority), turn, lane));
        }
    }

    fn remove(&mut self, key: LaneKey, turn: Turn, lane: LaneIx) {
        self.by_turn.remove(&(key.tier, turn, lane));
        if let (Some(tiers), Some(tenant)) = (&mut self.by_tenant, key.tenant)
            && let Some(lanes) = tiers[key.tier as usize].get_mut(&tenant)
        {
            lanes.remove(&(Reverse(key.priority), turn, lane));
            if lanes.is_empty() {
                tiers[key.tier as usize].remove(&tenant);
            }
        }
    }
}

/// The parked lanes of one shape.
#[derive(Clone, Debug)]
struct Sleepers {
    shape: ShapeIx,
    lanes: Standings,
    /// How many of them a cap keeps waiting, and how many lacked quota.
    under_caps: u32,
    lacking_quota: u32,
    /// Lanes without a shorter job than this have no room, whoever asks; those with a reservation may have.
    no_room: Option<Duration>,
    /// No lane has a shorter job than this.
    shortest: Duration,
    kinds: Vec<NodeKindIx>,
}

/// What happened that could help the lanes of a shape, and who was tried since.
#[derive(Clone, Debug)]
struct Stir {
    /// Nodes or watts came; quota alone otherwise.
    has_room: bool,
    /// Only nodes were given back: nothing else can help.
    only_freed: bool,
    failed: Vec<LaneIx>,
}

impl Stir {
    const NOTHING: Self = Self { has_room: false, only_freed: false, failed: Vec::new() };
}

/// To whom quota came back, or a limit that is no longer reached.
#[derive(Clone, Debug, Default)]
enum QuotaBack {
    #[default]
    ToNobody,
    /// To whom has not been looked at.
    ToSomebody,
    To(QuotaReturned),
    ToAll,
}

/// To whom quota came back that could help them.
#[derive(Clone, Debug, Default)]
pub struct QuotaReturned {
    /// Tenants that had the same left before, and have the same now.
    pub groups: Vec<BTreeSet<TenantIx>>,
    /// Which of those groups it could help, by shape.
    pub shapes: BTreeMap<ShapeIx, Vec<usize>>,
}

/// A tenant's lane to be tried, the highest priority and the earliest turn first.
pub type Candidate = (Reverse<i32>, Turn, LaneIx);

/// The first lanes of each shape to be tried, by tier.
#[derive(Clone, Debug, Default)]
pub struct Firsts {
    /// Of all that are late, the last in turn first.
    pub late: [Vec<(Turn, LaneIx)>; 4],
    /// Of each tenant, the last to be tried first; none without any.
    pub of_tenants: [BTreeMap<TenantIx, Vec<Candidate>>; 4],
    /// Those tenants, whose turn it is last.
    pub order: [Vec<TenantIx>; 4],
    /// How often shares had changed when they were put in order.
    pub as_of: [Option<u64>; 4],
}

/// Lanes among which the next to be tried is sought: those to be tried in any case, or those of one shape that was
/// stirred.
#[derive(Clone, Copy, Debug)]
pub struct Awake<'a> {
    queue: &'a Queue,
    standings: &'a Standings,
    /// Of one shape; whether room for it came.
    asleep: Option<(&'a Sleepers, Option<&'a Stir>)>,
}

impl Sleepers {
    /// Notes the shortest job of a lane; one with a reservation is tried as if it had the shortest of all.
    fn heed(&mut self, lane: &Lane) {
        let shortest = if lane.key.reservation.is_some() { SHORTEST } else { lane.shortest };
        self.shortest = self.shortest.min(shortest);
    }

    /// Whether some lane may have room.
    fn may_have_room(&self) -> bool {
        self.no_room.is_none_or(|longest| self.shortest < longest)
    }
}

impl<'a> Awake<'a> {
    /// The shape that was stirred; none where these are to be tried in any case.
    pub const fn shape(self) -> Option<ShapeIx> {
        match self.asleep {
            Some((asleep, _)) => Some(asleep.shape),
            None => None,
        }
    }

    fn may(self, lane: LaneIx) -> bool {
        let Some((asleep, stir)) = self.asleep else { return true };
        let entry = self.queue.lane(lane);
        let is_concerned = stir.is_some_and(|stir| stir.has_room) || self.queue.has_quota_back(entry);
        is_concerned
            && !stir.is_some_and(|stir| stir.failed.contains(&lane))
            && (entry.key.reservation.is_some() || asleep.no_room.is_none_or(|longest| entry.shortest < longest))
    }

    /// The strongest tier and the earliest turn first.
    pub fn in_order(self) -> impl Iterator<Item = LaneIx> + 'a {
        self.standings.by_turn.iter().map(|(_, _, lane)| *lane).filter(move |lane| self.may(*lane))
    }

    /// Those of a tier, the earliest turn first, from a turn on and up to the first for which something does
    /// not hold.
    pub fn in_turn(
        self,
        tier: Tier,
        from: Turn,
        holds: impl Fn(LaneIx) -> bool,
    ) -> impl Iterator<Item = (Turn, LaneIx)> {
        let turns = self.standings.by_turn.range(all_of(tier, from)).map(|(_, turn, lane)| (*turn, *lane));
        turns.take_while(move |(_, lane)| holds(*lane)).filter(move |(_, lane)| self.may(*lane))
    }

    /// The tenants with lanes of a tier, and those lanes.
    pub fn by_tenant(self, tier: Tier) -> impl Iterator<Item = (TenantIx, impl Iterator<Item = Candidate> + 'a)> {
        of_tier(self.standings, tier)
            .map(move |(tenant, lanes)| (tenant, lanes.iter().copied().filter(move |(.., lane)| self.may(*lane))))
    }

    /// A tenant's lanes of a tier after one.
    pub fn of_tenant(self, tier: Tier, tenant: TenantIx, after: Candidate) -> impl Iterator<Item = Candidate> + 'a {
        let lanes = self.standings.by_tenant.as_ref().and_then(|tiers| tiers[tier as usize].get(&tenant));
        let lanes =
            lanes.into_iter().flat_map(move |lanes| lanes.range((Bound::Excluded(after), Bound::Unbounded)).copied());
        lanes.filter(move |(.., lane)| self.may(*lane))
    }
}

/// All waiting work.
#[derive(Clone, Debug, Default)]
pub struct Queue {
    lanes: Vec<Lane>,
    by_key: FxHashMap<LaneKey, LaneIx>,
    /// Lanes with jobs that are not parked.
    ready: Standings,
    /// Lanes with jobs, parked or not.
    waiting: Standings,
    /// By shape.
    asleep: BTreeMap<ShapeIx, Sleepers>,
    stirred: BTreeMap<ShapeIx, Stir>,
    quota_back: QuotaBack,
    /// As they were found, as long as nothing could help any other lane.
    firsts: Option<Box<Firsts>>,
    /// Shapes with parked lanes, by the node kinds that they may use.
    on_kind: Vec<BTreeSet<ShapeIx>>,
    /// Lanes with jobs, by the node kinds that they may use.
    waiting_on: Vec<u32>,
    /// Shapes with parked lanes that lacked quota.
    lacking_quota: BTreeSet<ShapeIx>,
    /// Tenants with parked lanes that lacked quota, and how many.
    short: BTreeMap<TenantIx, u32>,
    by_tenant: bool,
    /// Lanes by the reservation that their jobs name.
    naming: FxHashMap<ReservationIx, Vec<LaneIx>>,
    jobs: u64,
    /// By tier.
    chip_milli: [u64; 4],
}

impl Queue {
    /// An empty queue for a fleet of so many node kinds; it may keep the lanes of each tenant in order.
    pub fn new(kinds: usize, by_tenant: bool) -> Self {
        Self {
            on_kind: vec![BTreeSet::new(); kinds],
            waiting_on: vec![0; kinds],
            ready: Standings::new(by_tenant),
            waiting: Standings::new(by_tenant),
            by_tenant,
            ..Self::default()
        }
    }

    /// Number of waiting jobs.
    pub const fn jobs(&self) -> u64 {
        self.jobs
    }

    /// Chips that waiting jobs ask for, in thousandths.
    pub fn chip_milli(&self) -> u64 {
        self.chip_milli.iter().sum()
    }

    /// Chips that waiting jobs of each tier ask for, in thousandths.
    pub const fn chip_milli_by_tier(&self) -> [u64; 4] {
        self.chip_milli
    }

    /// A lane.
    pub fn lane(&self, lane: LaneIx) -> &Lane {
        &self.lanes[lane.0 as usize]
    }

    /// The lane of some jobs, if any of them ever waited.
    pub fn lane_of(&self, key: LaneKey) -> Option<LaneIx> {
        self.by_key.get(&key).copied()
    }

    /// Lanes to be tried.
    pub fn awake(&self) -> impl Iterator<Item = Awake<'_>> {
        let stirred = self.stirred.keys().copied();
        let lacking = self.lacking_quota.iter().copied();
        let lacking = lacking.filter(|shape| self.may_have_quota_back(*shape) && !self.stirred.contains_key(shape));
        let asleep = stirred.chain(lacking).filter(|shape| self.asleep[shape].may_have_room());
        std::iter::once(self.ready()).chain(asleep.filter_map(|shape| self.awake_of(shape)))
    }

    /// The only lane to be tried, or none; nothing where there may be several.
    pub fn only_awake(&self) -> Option<Option<LaneIx>> {
        let may_others = !self.stirred.is_empty() || !matches!(self.quota_back, QuotaBack::ToNobody);
        let mut ready = self.ready.by_turn.iter().map(|(.., lane)| *lane);
        let first = ready.next();
        (!may_others && ready.next().is_none()).then_some(first)
    }

    /// The first lanes to be tried, where they are known; they are to be given back with [`Self::know_firsts`].
    pub fn take_firsts(&mut self) -> Option<Box<Firsts>> {
        self.firsts.take()
    }

    /// The first lanes to be tried, as long as nothing could help any other.
    pub fn know_firsts(&mut self, firsts: Box<Firsts>) {
        self.firsts = Some(firsts);
    }

    /// Tenants with parked lanes that lacked quota.
    pub fn short_of_quota(&self) -> impl Iterator<Item = TenantIx> + '_ {
        self.short.keys().copied()
    }

    /// Whether quota came back and to whom has not been looked at.
    pub const fn is_quota_back_to_somebody(&self) -> bool {
        matches!(self.quota_back, QuotaBack::ToSomebody)
    }

    /// Shapes with parked lanes that lacked quota.
    pub fn shapes_short_of_quota(&self) -> impl Iterator<Item = ShapeIx> + '_ {
        self.lacking_quota.iter().copied()
    }

    /// To whom quota came back; to all, where nobody can tell.
    pub fn quota_is_back_to(&mut self, whom: Option<QuotaReturned>) {
        self.firsts = None;
        self.quota_back = whom.map_or(QuotaBack::ToAll, QuotaBack::To);
    }

    fn may_have_quota_back(&self, shape: ShapeIx) -> bool {
        match &self.quota_back {
            QuotaBack::ToNobody => false,
            QuotaBack::ToSomebody | QuotaBack::ToAll => true,
            QuotaBack::To(whom) => whom.shapes.contains_key(&shape),
        }
    }

    /// Whether a lane lacked quota, and enough may have come back.
    fn has_quota_back(&self, lane: &Lane) -> bool {
        lane.lacked_quota
            && match &self.quota_back {
                QuotaBack::ToNobody => false,
                QuotaBack::ToSomebody | QuotaBack::ToAll => true,
                QuotaBack::To(whom) => {
                    let groups = whom.shapes.get(&lane.key.shape).map_or(&[][..], Vec::as_slice);
                    let is_among = |tenant| groups.iter().any(|group| whom.groups[*group].contains(&tenant));
                    lane.key.tenant.is_some_and(is_among)
                }
            }
    }

    /// What was given back since the last pass helps no lane of a shape any more.
    pub fn use_up(&mut self, shape: ShapeIx) {
        self.stirred.get_mut(&shape).into_iter().for_each(|stir| stir.has_room = false);
    }

    /// Lanes among which others that wait like one are: those to be tried in any case, and those of its shape.
    pub fn awake_beside(&self, lane: LaneIx) -> impl Iterator<Item = Awake<'_>> {
        std::iter::once(self.ready()).chain(self.awake_of(self.lane(lane).key.shape))
    }

    const fn ready(&self) -> Awake<'_> {
        Awake { queue: self, standings: &self.ready, asleep: None }
    }

    fn awake_of(&self, shape: ShapeIx) -> Option<Awake<'_>> {
        let asleep = self.asleep.get(&shape)?;
        Some(Awake { queue: self, standings: &asleep.lanes, asleep: Some((asleep, self.stirred.get(&shape))) })
    }

    /// Whether a lane is to be tried.
    pub fn is_awake(&self, lane: LaneIx) -> bool {
        let entry = self.lane(lane);
        match entry.parked {
            None => entry.first().is_some(),
            Some(_) => self.awake_of(entry.key.shape).is_some_and(|awake| awake.may(lane)),
        }
    }

    /// Whether nothing but nodes given back since the last pass can help a lane that is to be tried.
    pub fn needs_freed(&self, lane: LaneIx) -> bool {
        let entry = self.lane(lane);
        let is_helped_otherwise = entry.parked.is_none() || self.has_quota_back(entry);
        !is_helped_otherwise && self.stirred.get(&entry.key.shape).is_some_and(|stir| stir.only_freed)
    }

    /// The tenants with lanes of a tier, parked or not, and those lanes.
    pub fn waiting_of(&self, tier: Tier) -> impl Iterator<Item = (TenantIx, &TenantLanes)> {
        of_tier(&self.waiting, tier)
    }

    /// Lanes of a tier with jobs of a turn on, parked or not, the earliest turn first.
    pub fn in_turn(&self, tier: Tier, from: Turn) -> impl Iterator<Item = LaneIx> + '_ {
        self.waiting.by_turn.range(all_of(tier, from)).map(|(_, _, lane)| *lane)
    }

    /// Shapes of parked lanes that may use a node kind, and whether a cap keeps some of those lanes waiting.
    pub fn asleep_on(&self, kind: NodeKindIx) -> impl Iterator<Item = (ShapeIx, bool)> + '_ {
        self.on_kind[kind.ix()].iter().map(|shape| (*shape, self.asleep[shape].under_caps > 0))
    }

    /// What happened to shapes since the last pass.
    pub fn memory(&self) -> QueueMemory {
        let room = self.asleep.iter().filter_map(|(shape, asleep)| Some((*shape, asleep.no_room?)));
        QueueMemory {
            stirred: self.stirred.iter().map(|(shape, stir)| (*shape, stir.only_freed)).collect(),
            no_room: room.collect(),
            quota_came_back: !matches!(self.quota_back, QuotaBack::ToNobody),
        }
    }

    /// Takes over what happened to shapes since the last pass.
    pub fn remember(&mut self, memory: QueueMemory) {
        for (shape, longest) in memory.no_room {
            self.asleep.get_mut(&shape).into_iter().for_each(|asleep| asleep.no_room = Some(longest));
        }
        memory.stirred.into_iter().for_each(|(shape, only_freed)| self.stir(shape, only_freed));
        self.quota_back = if memory.quota_came_back { QuotaBack::ToSomebody } else { QuotaBack::ToNobody };
    }

    /// Whether any job waits whose shape may use a node kind.
    pub fn has_on(&self, kind: NodeKindIx) -> bool {
        self.waiting_on[kind.ix()] > 0
    }

    /// Lanes whose jobs name a reservation.
    pub fn naming(&self, reservation: ReservationIx) -> &[LaneIx] {
        self.naming.get(&reservation).map_or(&[], Vec::as_slice)
    }

    /// Adds a job to its lane at its turn; the kinds are those that its shape may use.
    pub fn push(
        &mut self,
        key: LaneKey,
        waiting: Waiting,
        chip_milli: u64,
        kinds: impl Iterator<Item = NodeKindIx>,
    ) -> LaneIx {
        let lane = match self.by_key.get(&key) {
            Some(lane) => *lane,
            None => self.add_lane(key, kinds),
        };
        let first = self.lane(lane).first().map(|first| first.turn);
        // While nobody waited, nothing was told to the lane; and who comes before all others may need a hold.
        let is_first = first.is_none_or(|first| waiting.turn < first);
        if is_first {
            self.stand_down(lane);
            match first {
                Some(first) => self.waiting.remove(key, first, lane),
                None => self.asleep[&key.shape].kinds.iter().for_each(|kind| self.waiting_on[kind.ix()] += 1),
            }
            self.waiting.insert(key, waiting.turn, lane);
        }
        self.lanes[lane.0 as usize].insert(waiting);
        if is_first {
            let entry = &mut self.lanes[lane.0 as usize];
            (entry.parked, entry.lacked_quota) = (None, false);
            self.line_up(lane);
        } else if let Some(asleep) = self.asleep.get_mut(&key.shape) {
            asleep.heed(&self.lanes[lane.0 as usize]);
        }
        self.jobs += 1;
        self.chip_milli[key.tier as usize] += chip_milli;
        lane
    }

    fn add_lane(&mut self, key: LaneKey, kinds: impl Iterator<Item = NodeKindIx>) -> LaneIx {
        let lane = LaneIx(self.lanes.len() as u32);
        let chunks = VecDeque::new();
        self.lanes.push(Lane { key, parked: None, lacked_quota: false, chunks, shortest: Duration::ZERO });
        self.by_key.insert(key, lane);
        if let Some(reservation) = key.reservation {
            self.naming.entry(reservation).or_default().push(lane);
        }
        let by_tenant = self.by_tenant;
        self.asleep.entry(key.shape).or_insert_with(|| {
            // Gangs of one job may share kinds.
            let kinds: BTreeSet<NodeKindIx> = kinds.collect();
            Sleepers {
                shape: key.shape,
                lanes: Standings::new(by_tenant),
                under_caps: 0,
                lacking_quota: 0,
                no_room: None,
                shortest: LONGEST,
                kinds: kinds.into_iter().collect(),
            }
        });
        lane
    }

    /// Takes a job out of its lane.
    pub fn remove(&mut self, lane: LaneIx, turn: Turn, chip_milli: u64) {
        let is_first = self.lane(lane).first().is_some_and(|first| first.turn == turn);
        if is_first {
            self.stand_down(lane);
        }
        let entry = &mut self.lanes[lane.0 as usize];
        let key = entry.key;
        entry.remove(turn);
        self.jobs -= 1;
        self.chip_milli[key.tier as usize] -= chip_milli;
        if is_first {
            self.waiting.remove(key, turn, lane);
            match self.lane(lane).first() {
                Some(next) => self.waiting.insert(key, next.turn, lane),
                None => self.asleep[&key.shape].kinds.iter().for_each(|kind| self.waiting_on[kind.ix()] -= 1),
            }
            self.line_up(lane);
        }
    }

    /// Takes a lane out of those to be tried, or of those asleep.
    fn stand_down(&mut self, lane: LaneIx) {
        let entry = &self.lanes[lane.0 as usize];
        let (Some(first), Some(asleep)) = (entry.first(), self.asleep.get_mut(&entry.key.shape)) else { return };
        let Some(why) = entry.parked else { return self.ready.remove(entry.key, first.turn, lane) };
        asleep.lanes.remove(entry.key, first.turn, lane);
        if asleep.lanes.by_turn.is_empty() {
            asleep.kinds.iter().for_each(|kind| _ = self.on_kind[kind.ix()].remove(&entry.key.shape));
        }
        if matches!(why, Blocked::Power(_)) {
            asleep.under_caps -= 1;
            // Nobody is there any more who would be told of watts given back.
            if asleep.under_caps == 0 && asleep.no_room.take().is_some() {
                self.firsts = None;
            }
        }
        if entry.lacked_quota {
            asleep.lacking_quota -= 1;
            if asleep.lacking_quota == 0 {
                self.lacking_quota.remove(&entry.key.shape);
            }
            if let Some(tenant) = entry.key.tenant
                && let Some(lanes) = self.short.get_mut(&tenant)
            {
                *lanes -= 1;
                if *lanes == 0 {
                    self.short.remove(&tenant);
                }
            }
        }
    }

    /// Puts a lane with jobs among those to be tried, or among those asleep.
    fn line_up(&mut self, lane: LaneIx) {
        let entry = &self.lanes[lane.0 as usize];
        let (Some(first), Some(asleep)) = (entry.first(), self.asleep.get_mut(&entry.key.shape)) else { return };
        let Some(why) = entry.parked else {
            self.firsts = None;
            return self.ready.insert(entry.key, first.turn, lane);
        };
        if asleep.lanes.by_turn.is_empty() {
            asleep.kinds.iter().for_each(|kind| _ = self.on_kind[kind.ix()].insert(entry.key.shape));
        }
        asleep.lanes.insert(entry.key, first.turn, lane);
        asleep.heed(entry);
        asleep.under_caps += u32::from(matches!(why, Blocked::Power(_)));
        if entry.lacked_quota {
            asleep.lacking_quota += 1;
            self.lacking_quota.insert(entry.key.shape);
            if let Some(tenant) = entry.key.tenant {
                *self.short.entry(tenant).or_default() += 1;
            }
        }
    }

    /// Lanes with jobs, the strongest tier and the earliest turn first.
    pub fn in_order(&self) -> impl Iterator<Item = LaneIx> + '_ {
        self.waiting.by_turn.iter().map(|(_, _, lane)| *lane)
    }

    /// Parks a lane until it is woken, or its shape is stirred.
    pub fn park(&mut self, lane: LaneIx, why: Blocked, lacks_quota: bool) {
        let entry = self.lane(lane);
        if (entry.parked, entry.lacked_quota) != (Some(why), lacks_quota) {
            self.put(lane, Some(why), lacks_quota);
        }
    }

    /// Lets a parked lane be tried again.
    pub fn wake(&mut self, lane: LaneIx) {
        if self.lane(lane).parked.is_some() {
            self.put(lane, None, false);
        }
    }

    fn put(&mut self, lane: LaneIx, parked: Option<Blocked>, lacked_quota: bool) {
        self.stand_down(lane);
        let entry = &mut self.lanes[lane.0 as usize];
        (entry.parked, entry.lacked_quota) = (parked, lacked_quota);
        self.line_up(lane);
    }

    /// Lets the parked lanes of a shape be tried again; `only_freed` where nothing but nodes given back can help.
    pub fn stir(&mut self, shape: ShapeIx, only_freed: bool) {
        let Some(asleep) = self.asleep.get_mut(&shape) else { return };
        asleep.no_room = None;
        self.firsts = None;
        let before = self.stirred.get(&shape).filter(|stir| stir.has_room);
        let only_freed = only_freed && before.is_none_or(|stir| stir.only_freed);
        self.stirred.insert(shape, Stir { has_room: true, only_freed, ..Stir::NOTHING });
    }

    /// Lets lanes that lacked quota be tried again, as far as their tenants have more of it.
    pub fn return_quota(&mut self) {
        if !self.lacking_quota.is_empty() {
            self.quota_back = QuotaBack::ToSomebody;
        }
        self.firsts = None;
        self.stirred.values_mut().for_each(|stir| stir.failed.clear());
    }

    /// A lane was tried and failed; so would all others of its shape, those with a job shorter than this left out, where
    /// one is given.
    pub fn failed(&mut self, lane: LaneIx, so_would: Option<Duration>) {
        let shape = self.lane(lane).key.shape;
        if let (Some(longest), Some(asleep)) = (so_would, self.asleep.get_mut(&shape)) {
            asleep.no_room = Some(asleep.no_room.map_or(longest, |before| before.min(longest)));
        }
        if self.may_have_quota_back(shape) || self.stirred.contains_key(&shape) {
            self.stirred.entry(shape).or_insert(Stir::NOTHING).failed.push(lane);
        }
    }

    /// All that was stirred sleeps again.
    pub fn settle(&mut self) {
        self.stirred.clear();
        self.quota_back = QuotaBack::ToNobody;
        self.firsts = None;
    }
}

/// What happened to shapes of waiting work since the last pass.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct QueueMemory {
    /// Shapes that were stirred, and whether nothing but nodes given back can help them.
    stirred: Vec<(ShapeIx, bool)>,
    /// Shapes for whose lanes there is no room, those with a job shorter than this left out.
    no_room: Vec<(ShapeIx, Duration)>,
    quota_came_back: bool,
}

/// Where lanes of a tier stand by turn, from a turn on.
const fn all_of(tier: Tier, from: Turn) -> RangeInclusive<(Tier, Turn, LaneIx)> {
    RangeInclusive::new((tier, from, LaneIx(0)), (tier, Turn(u64::MAX), LaneIx(u32::MAX)))
}

fn of_tier(standings: &Standings, tier: Tier) -> impl Iterator<Item = (TenantIx, &TenantLanes)> {
    let tenants = standings.by_tenant.as_ref().map(|tiers| &tiers[tier as usize]);
    tenants.into_iter().flatten().map(|(tenant, lanes)| (*tenant, lanes))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const KEY: LaneKey =
        LaneKey { shape: ShapeIx(0), tier: Tier::Standard, tenant: None, priority: 0, reservation: None };

    proptest! {
        #[test]
        fn a_lane_keeps_its_turns_and_finds_the_first_short_enough(ops in prop::collection::vec((0u8..3, 0i64..50), 1..600)) {
            let mut queue = Queue::new(1, false);
            let mut truth: Vec<Waiting> = Vec::new();
            let mut gone: Vec<Waiting> = Vec::new();
            let mut lane = None;
            for (turn, (op, number)) in ops.into_iter().enumerate() {
                let pushed = match op {
                    0 if !truth.is_empty() => None,
                    // One that has left comes back to its turn.
                    1 if !gone.is_empty() => Some(gone.swap_remove(number as usize % gone.len())),
                    _ => {
                        let duration = Duration::from_secs(number);
                        Some(Waiting { turn: Turn(turn as u64), job: JobId(turn as u64), asked: Timestamp::EPOCH, duration })
                    }
                };
                if let Some(waiting) = pushed {
                    truth.insert(truth.partition_point(|other| other.turn < waiting.turn), waiting);
                    lane = Some(queue.push(KEY, waiting, 1000, std::iter::empty()));
                } else if let Some(lane) = lane {
                    let left = truth.remove(number as usize % truth.len());
                    queue.remove(lane, left.turn, 1000);
                    gone.push(left);
                }
                let Some(lane) = lane else { continue };
                let longest = Duration::from_secs(number);
                prop_assert_eq!(queue.lane(lane).first(), truth.first().copied());
                let expected = truth.iter().find(|job| job.duration <= longest).copied();
                prop_assert_eq!(queue.lane(lane).first_within(longest), expected);
                let before = truth.iter().filter(|job| job.turn < Turn(number as u64)).count();
                prop_assert_eq!(queue.lane(lane).before(Turn(number as u64)), before as u64);
                prop_assert_eq!(queue.jobs(), truth.len() as u64);
                prop_assert_eq!(queue.is_awake(lane), !truth.is_empty());
                prop_assert_eq!(queue.ready.by_turn.first().map(|(_, turn, _)| *turn), truth.first().map(|job| job.turn));
                prop_assert_eq!(queue.waiting.by_turn.len(), usize::from(!truth.is_empty()));
            }
        }

        #[test]
        fn a_long_lane_is_split_where_many_come_back(order in Just((0..1000u64).collect::<Vec<_>>()).prop_shuffle()) {
            let mut queue = Queue::new(1, false);
            for turn in &order {
                let (asked, duration) = (Timestamp::EPOCH, Duration::from_secs(1));
                let waiting = Waiting { turn: Turn(*turn), job: JobId(*turn), asked, duration };
                queue.push(KEY, waiting, 1000, std::iter::empty());
            }
            let lane = &queue.lanes[0];
            let turns: Vec<u64> = lane.chunks.iter().flat_map(|chunk| &chunk.jobs).map(|job| job.turn.0).collect();
            prop_assert_eq!(turns, (0..1000).collect::<Vec<_>>());
            prop_assert!(lane.chunks.iter().all(|chunk| chunk.jobs.len() <= 2 * CHUNK));
        }
    }
}
