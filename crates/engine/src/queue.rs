//! Waiting work. Jobs of one shape and tier wait in one *lane*, and where tenants stand apart those of one tenant and
//! priority. A lane whose first job does not fit is parked until something happens that could help it. What waits for
//! room sleeps with all others of its shape: nodes that could help the shape *stir* it, its lanes are tried in their
//! order, and the first that fails as all of them would lets it sleep on. So a pass costs what changed, not what waits.

mod awake;
mod lane;
mod standings;

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use offtake_fleet::NodeKindIx;
use offtake_units::Duration;
use offtake_workload::Tier;
use rustc_hash::FxHashMap;
use serde::{Deserialize, Serialize};

use self::awake::{QuotaBack, Sleepers, Stir};
use self::standings::{Standings, all_of, of_tier};
use crate::place::ShapeIx;
use crate::state::ReservationIx;
use crate::tenants::TenantIx;

pub use self::awake::{Awake, Firsts, QuotaReturned};
pub use self::lane::{Blocked, Lane, LaneIx, LaneKey, Turn, Waiting};
pub use self::standings::TenantLanes;

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
        let lacking = lacking.filter(|shape| self.quota_back.may_help(*shape) && !self.stirred.contains_key(shape));
        std::iter::once(self.ready()).chain(stirred.chain(lacking).filter_map(|shape| self.awake_of(shape)))
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
        let is_helped_otherwise = entry.parked.is_none() || self.quota_back.helps(entry);
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
        if self.quota_back.may_help(shape) || self.stirred.contains_key(&shape) {
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

#[cfg(test)]
mod tests {
    use offtake_units::Timestamp;
    use proptest::prelude::*;

    use super::lane::CHUNK;
    use super::*;
    use crate::fact::JobId;

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
