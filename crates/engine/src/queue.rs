//! Waiting work. Jobs of one shape and tier wait in one *lane*, and where tenants stand apart those of one tenant and
//! priority; a lane whose first job does not fit is parked until something happens that could help exactly that shape,
//! so that a pass costs what changed and not what waits.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, VecDeque};

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
    /// Since it was parked only nodes were given back: nothing else can help.
    pub only_freed: bool,
    chunks: VecDeque<Chunk>,
}

/// A stretch of a lane with its shortest duration, so that a job short enough is found without looking at each.
#[derive(Clone, Debug)]
struct Chunk {
    jobs: Vec<Waiting>,
    shortest: Duration,
}

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
        self.chunks.iter().map(|chunk| chunk.shortest).min()
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
pub type TenantLanes = BTreeSet<(Reverse<i32>, Turn, LaneIx)>;

impl Standings {
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

/// All waiting work.
#[derive(Clone, Debug, Default)]
pub struct Queue {
    lanes: Vec<Lane>,
    by_key: FxHashMap<LaneKey, LaneIx>,
    /// Lanes with jobs that are not parked.
    ready: Standings,
    /// Lanes with jobs, parked or not.
    waiting: Standings,
    /// Lanes by the node kinds that their shape may use.
    on_kind: Vec<Vec<LaneIx>>,
    jobs: u64,
    /// By tier.
    chip_milli: [u64; 4],
}

impl Queue {
    /// An empty queue for a fleet of so many node kinds; it may keep the lanes of each tenant in order.
    pub fn new(kinds: usize, by_tenant: bool) -> Self {
        let standings = || Standings { by_tenant: by_tenant.then(Default::default), ..Standings::default() };
        Self { on_kind: vec![Vec::new(); kinds], ready: standings(), waiting: standings(), ..Self::default() }
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

    /// Lanes to be tried, the strongest tier and the earliest turn first.
    pub fn ready(&self) -> impl Iterator<Item = LaneIx> + '_ {
        self.ready.by_turn.iter().map(|(_, _, lane)| *lane)
    }

    /// The tenants with lanes of a tier to be tried, and those lanes.
    pub fn ready_of(&self, tier: Tier) -> impl Iterator<Item = (TenantIx, &TenantLanes)> {
        of_tier(&self.ready, tier)
    }

    /// The tenants with lanes of a tier, parked or not, and those lanes.
    pub fn waiting_of(&self, tier: Tier) -> impl Iterator<Item = (TenantIx, &TenantLanes)> {
        of_tier(&self.waiting, tier)
    }

    /// Lanes of a tier with jobs of a turn on, parked or not, the earliest turn first.
    pub fn in_turn(&self, tier: Tier, from: Turn) -> impl Iterator<Item = LaneIx> + '_ {
        let ends = (tier, from, LaneIx(0))..=(tier, Turn(u64::MAX), LaneIx(u32::MAX));
        self.waiting.by_turn.range(ends).map(|(_, _, lane)| *lane)
    }

    /// Parked lanes with jobs whose shape may use a node kind.
    pub fn parked_on(&self, kind: NodeKindIx) -> impl Iterator<Item = LaneIx> + '_ {
        let lanes = self.on_kind[kind.ix()].iter().copied();
        lanes.filter(|lane| self.lane(*lane).parked.is_some() && !self.lane(*lane).chunks.is_empty())
    }

    /// Whether any job waits whose shape may use a node kind.
    pub fn has_on(&self, kind: NodeKindIx) -> bool {
        self.on_kind[kind.ix()].iter().any(|lane| !self.lane(*lane).chunks.is_empty())
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
        let entry = &mut self.lanes[lane.0 as usize];
        let first = entry.first().map(|first| first.turn);
        entry.insert(waiting);
        if first.is_none_or(|first| waiting.turn < first) {
            // While nobody waited, nothing was told to the lane; and who comes before all others may need a hold.
            (entry.parked, entry.only_freed) = (None, false);
            if let Some(first) = first {
                self.waiting.remove(key, first, lane);
                self.ready.remove(key, first, lane);
            }
            self.waiting.insert(key, waiting.turn, lane);
            self.ready.insert(key, waiting.turn, lane);
        }
        self.jobs += 1;
        self.chip_milli[key.tier as usize] += chip_milli;
        lane
    }

    fn add_lane(&mut self, key: LaneKey, kinds: impl Iterator<Item = NodeKindIx>) -> LaneIx {
        let lane = LaneIx(self.lanes.len() as u32);
        self.lanes.push(Lane { key, parked: None, only_freed: false, chunks: VecDeque::new() });
        self.by_key.insert(key, lane);
        for kind in kinds {
            // Gangs of one job may share kinds.
            if self.on_kind[kind.ix()].last() != Some(&lane) {
                self.on_kind[kind.ix()].push(lane);
            }
        }
        lane
    }

    /// Takes a job out of its lane.
    pub fn remove(&mut self, lane: LaneIx, turn: Turn, chip_milli: u64) {
        let entry = &mut self.lanes[lane.0 as usize];
        let first = entry.first().map(|job| job.turn);
        entry.remove(turn);
        self.jobs -= 1;
        self.chip_milli[entry.key.tier as usize] -= chip_milli;
        if first != Some(turn) {
            return;
        }
        let (key, parked, next) = (entry.key, entry.parked.is_some(), entry.first().map(|job| job.turn));
        self.ready.remove(key, turn, lane);
        self.waiting.remove(key, turn, lane);
        if let Some(next) = next {
            self.waiting.insert(key, next, lane);
            if !parked {
                self.ready.insert(key, next, lane);
            }
        }
    }

    /// Lanes with jobs, the strongest tier and the earliest turn first.
    pub fn in_order(&self) -> impl Iterator<Item = LaneIx> + '_ {
        self.waiting.by_turn.iter().map(|(_, _, lane)| *lane)
    }

    /// Parks a lane until it is woken.
    pub fn park(&mut self, lane: LaneIx, why: Blocked) {
        let entry = &mut self.lanes[lane.0 as usize];
        entry.parked = Some(why);
        if let Some(first) = entry.first() {
            self.ready.remove(entry.key, first.turn, lane);
        }
    }

    /// Puts a lane back to where it stood.
    pub fn recall(&mut self, lane: LaneIx, parked: Option<Blocked>, only_freed: bool) {
        self.lanes[lane.0 as usize].only_freed = only_freed;
        if let Some(why) = parked {
            self.park(lane, why);
        }
    }

    /// Lets a parked lane be tried again; `only_freed` where nothing but nodes given back can help.
    pub fn wake(&mut self, lane: LaneIx, only_freed: bool) {
        let entry = &mut self.lanes[lane.0 as usize];
        if entry.parked.take().is_some() {
            entry.only_freed = only_freed;
        } else {
            entry.only_freed &= only_freed;
        }
        if let Some(first) = entry.first() {
            self.ready.insert(entry.key, first.turn, lane);
        }
    }
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
                prop_assert_eq!(queue.ready().next().is_some(), !truth.is_empty());
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
