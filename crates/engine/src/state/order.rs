//! Who goes first: the standing of those that wait, under the order of the policy.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use offtake_units::{Ppm, Timestamp};
use offtake_workload::Tier;
use rustc_hash::FxHashMap;

use super::State;
use crate::fact::JobId;
use crate::policy::{Factors, Order};
use crate::queue::{Awake, Firsts, LaneIx, LaneKey, Turn, Waiting};
use crate::request::Needs;
use crate::tenants::{Headroom, Rank, TenantIx};

/// Where a waiting job stands; the least goes first. What an order does not ask for is the same for all.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Standing {
    tier: Option<Tier>,
    /// Who has waited too long goes before others of the tier, by turn.
    in_time: bool,
    rank: Rank,
    tenant: TenantIx,
    priority: Reverse<i32>,
    turn: Turn,
}

/// What the standing of a waiting job follows from.
#[derive(Clone, Copy, Debug)]
struct Candidate {
    key: LaneKey,
    turn: Turn,
    asked: Timestamp,
}

impl State {
    /// The standing of a lane's first job.
    pub(crate) fn standing(&self, lane: LaneIx) -> Standing {
        let entry = self.queue.lane(lane);
        let (turn, asked) = entry.first().map_or((Turn(u64::MAX), self.now), |first| (first.turn, first.asked));
        self.standing_as(Candidate { key: entry.key, turn, asked })
    }

    /// The standing of a job that waits in a lane.
    pub(crate) fn standing_in(&self, key: LaneKey, waiting: &Waiting) -> Standing {
        self.standing_as(Candidate { key, turn: waiting.turn, asked: waiting.asked })
    }

    /// The standing of a job among those that wait.
    pub(crate) fn standing_of(&self, job: JobId) -> Option<Standing> {
        let work = self.jobs.get(&job)?;
        let key = self.lane_key(work.phase.shape()?, &work.spec);
        Some(self.standing_as(Candidate { key, turn: work.turn, asked: work.asked }))
    }

    fn standing_as(&self, candidate: Candidate) -> Standing {
        let Candidate { key, turn, asked } = candidate;
        let tenant = key.tenant.unwrap_or_default();
        let by_turn = Standing {
            tier: Some(key.tier),
            in_time: false,
            rank: Rank::default(),
            tenant: TenantIx::ROOT,
            priority: Reverse(0),
            turn,
        };
        match self.policy.order {
            Order::Turn => by_turn,
            Order::FairShare if self.is_late(asked) => by_turn,
            Order::FairShare => Standing {
                in_time: true,
                rank: self.tenants.rank(tenant),
                tenant,
                priority: Reverse(key.priority),
                ..by_turn
            },
            Order::Multifactor => {
                let mut rank = Rank::default();
                rank[0] = self.multifactor(key, asked);
                Standing { tier: None, rank, ..by_turn }
            }
            Order::Cohort => {
                let mut rank = Rank::default();
                rank[0] = key.tier as u64;
                let in_time = self.would_borrow(key);
                Standing { tier: None, in_time, rank, priority: Reverse(key.priority), ..by_turn }
            }
        }
    }

    /// Slurm's priority as a rank: the highest is the least.
    fn multifactor(&self, key: LaneKey, asked: Timestamp) -> u64 {
        let chips = u128::from(self.shape(key.shape).chip_milli()) * 1_000_000;
        let all = u128::from(self.fleet().chips()).max(1) * 1000;
        let factors = Factors {
            waited: self.now - asked,
            fair_share: key.tenant.map_or(Ppm::ONE, |tenant| self.tenants.fair_factor(tenant)),
            job_size: Ppm::new(u32::try_from(chips / all).unwrap_or(u32::MAX)),
            weaker_tiers: Tier::Spot as u32 - key.tier as u32,
            priority: key.priority,
        };
        let sum = self.policy.multifactor.sum(&factors);
        u64::try_from((1_i128 << 63) - sum).unwrap_or(0)
    }

    /// Whether the jobs of a lane, wherever they may run, would take their tenant beyond its quota.
    fn would_borrow(&self, key: LaneKey) -> bool {
        let Some(tenant) = key.tenant else { return false };
        let needs = self.shape(key.shape).chips_by_accelerator(self.fleet());
        let beyond = |(kind, milli): (&_, &u64)| {
            let account = self.tenants.is_under_quota(*kind).then(|| self.tenants.at_work(tenant, *kind));
            account.is_some_and(|account| account.used + milli > account.subtree)
        };
        !needs.is_empty() && needs.iter().all(beyond)
    }

    /// Whether a job that was asked for at an instant has waited longer than anybody shall.
    pub(super) fn is_late(&self, asked: Timestamp) -> bool {
        self.policy.fairness.ageing.is_some_and(|most| self.now - asked > most)
    }

    pub(super) fn lane_is_late(&self, lane: LaneIx) -> bool {
        self.queue.lane(lane).first().is_some_and(|first| self.is_late(first.asked))
    }

    /// Works out shares as of now, where the order asks for them.
    pub(crate) fn rank_tenants(&mut self) {
        if self.policy.order.needs_shares() {
            self.tenants.rank_at(self.now);
        }
    }

    /// Who has come to wait too long since the last pass may take over what is held for others, and have quota kept.
    pub(crate) fn notice_the_late(&mut self) {
        let matters = self.policy.order == Order::FairShare || self.tenants.is_active();
        if !matters || self.policy.fairness.ageing.is_none() || self.queue.jobs() == 0 {
            return;
        }
        let since = self.late_before;
        let late: Vec<LaneIx> = Tier::ALL
            .into_iter()
            .flat_map(|tier| self.queue.in_turn(tier, since).take_while(|lane| self.lane_is_late(*lane)))
            .collect();
        let turns = late.iter().filter_map(|lane| self.queue.lane(*lane).first()).map(|first| first.turn);
        if let Some(last) = turns.max() {
            self.late_before = Turn(last.0 + 1);
            self.holds_stale |= self.policy.order == Order::FairShare;
        }
        for lane in late {
            self.promise_quota(lane);
        }
    }

    /// The lane to try next.
    pub(crate) fn next_lane(&mut self) -> Option<LaneIx> {
        if let Some(only) = self.queue.only_awake() {
            return only;
        }
        if matches!(self.policy.order, Order::Multifactor | Order::Cohort) {
            let may = |awake: Awake<'_>, lane: LaneIx| awake.shape().is_none() || !self.lacks_quota(lane);
            let lanes = self.queue.awake().flat_map(|awake| awake.in_order().filter(move |lane| may(awake, *lane)));
            return lanes.min_by_key(|lane| self.standing(*lane));
        }
        let mut firsts = self.queue.take_firsts().unwrap_or_else(|| Box::new(self.firsts()));
        let next = Tier::ALL.into_iter().find_map(|tier| self.next_of(tier, &mut firsts));
        self.queue.know_firsts(firsts);
        next
    }

    /// The first lanes of each shape to be tried; most that lack quota are left out.
    fn firsts(&self) -> Firsts {
        let mut firsts = Firsts::default();
        let mut left: FxHashMap<TenantIx, Headroom> = FxHashMap::default();
        for awake in self.queue.awake() {
            let needs = awake.shape().filter(|_| self.tenants.is_active()).map(|shape| &self.needs[shape.ix()]);
            for tier in Tier::ALL {
                firsts.by_turn[tier as usize]
                    .extend(awake.in_turn(tier, Turn(0), |lane| self.goes_by_turn(lane)).next());
                for (tenant, mut lanes) in awake.by_tenant(tier) {
                    // What is kept for one job is there for nobody else of its tenant.
                    let is_kept_for = self.tenants.promise().is_some_and(|kept| kept.is_of(tenant));
                    let mut lacks = |needs: &&Needs| {
                        left.entry(tenant).or_insert_with(|| self.tenants.headroom(tenant)).lacks(needs)
                    };
                    if !is_kept_for && needs.as_ref().is_some_and(&mut lacks) {
                        continue;
                    }
                    if let Some(first) = lanes.next() {
                        firsts.of_tenants[tier as usize].entry(tenant).or_default().push(first);
                    }
                }
            }
        }
        let descending = |lanes: &mut Vec<(Turn, LaneIx)>| lanes.sort_unstable_by_key(|first| Reverse(*first));
        firsts.by_turn.iter_mut().for_each(descending);
        let of_tenants = firsts.of_tenants.iter_mut().flat_map(BTreeMap::values_mut);
        of_tenants.for_each(|lanes| lanes.sort_unstable_by_key(|first| Reverse(*first)));
        firsts
    }

    /// The first lane of a tier to be tried: those that go by turn, then the others by the shares of tenants. Those that were tried
    /// since, or would fail for lack of quota, are left out, and the next of their shape comes in.
    fn next_of(&self, tier: Tier, firsts: &mut Firsts) -> Option<LaneIx> {
        let by_turn = &mut firsts.by_turn[tier as usize];
        while let Some((turn, lane)) = by_turn.last().copied() {
            if self.is_to_be_tried(turn, lane) {
                return Some(lane);
            }
            by_turn.pop();
            let awake = self.queue.awake_beside(lane);
            let after = Turn(turn.0 + 1);
            let next = awake.filter_map(|awake| awake.in_turn(tier, after, |lane| self.goes_by_turn(lane)).next());
            next.for_each(|next| insert_descending(by_turn, next));
        }
        let (tenants, order) = (&mut firsts.of_tenants[tier as usize], &mut firsts.order[tier as usize]);
        let as_of = &mut firsts.as_of[tier as usize];
        if as_of.replace(self.tenants.changes()) != Some(self.tenants.changes()) {
            order.clear();
            order.extend(tenants.keys());
            order.sort_by_cached_key(|tenant| Reverse((self.tenants.rank(*tenant), *tenant)));
        }
        while let Some(tenant) = order.last().copied() {
            let Some(lanes) = tenants.get_mut(&tenant) else { break };
            while let Some(first @ (_, turn, lane)) = lanes.last().copied() {
                if self.is_to_be_tried(turn, lane) {
                    return Some(lane);
                }
                lanes.pop();
                let awake = self.queue.awake_beside(lane);
                let next = awake.filter_map(|awake| awake.of_tenant(tier, tenant, first).next());
                next.for_each(|next| insert_descending(lanes, next));
            }
            tenants.remove(&tenant);
            order.pop();
        }
        None
    }

    /// Whether only its turn tells when a lane is tried: shares do not count, or it has waited too long for that.
    fn goes_by_turn(&self, lane: LaneIx) -> bool {
        self.policy.order == Order::Turn || self.lane_is_late(lane)
    }

    fn is_to_be_tried(&self, turn: Turn, lane: LaneIx) -> bool {
        let entry = self.queue.lane(lane);
        let is_same = entry.first().is_some_and(|first| first.turn == turn) && self.queue.is_awake(lane);
        is_same && (entry.parked.is_none() || !self.lacks_quota(lane))
    }

    /// Lanes with jobs, parked or not, in the order of their first jobs.
    pub(crate) fn lanes_in_order(&self) -> Box<dyn Iterator<Item = LaneIx> + '_> {
        match self.policy.order {
            Order::Turn => Box::new(self.queue.in_order()),
            Order::FairShare => Box::new(Tier::ALL.into_iter().flat_map(|tier| {
                let late = self.queue.in_turn(tier, Turn(0)).take_while(|lane| self.lane_is_late(*lane));
                let mut tenants: Vec<_> = self.queue.waiting_of(tier).collect();
                tenants.sort_by_cached_key(|(tenant, _)| (self.tenants.rank(*tenant), *tenant));
                let lanes = tenants.into_iter().flat_map(|(_, lanes)| lanes.iter().map(|(_, _, lane)| *lane));
                late.chain(lanes.filter(|lane| !self.lane_is_late(*lane)))
            })),
            Order::Multifactor | Order::Cohort => {
                let mut lanes: Vec<LaneIx> = self.queue.in_order().collect();
                lanes.sort_by_cached_key(|lane| self.standing(*lane));
                Box::new(lanes.into_iter())
            }
        }
    }

    /// The lane of the job that goes before all others, parked or not. Who waits for nodes of a reservation is in nobody's
    /// way.
    pub(crate) fn head_lane(&self) -> Option<LaneIx> {
        let counts = |lane: &LaneIx| {
            let entry = self.queue.lane(*lane);
            entry.key.reservation.is_none() || self.queue.is_awake(*lane)
        };
        self.lanes_in_order().find(counts)
    }
}

/// Puts one among some that are in descending order, unless it is there.
fn insert_descending<T: Ord>(all: &mut Vec<T>, one: T) {
    if let Err(place) = all.binary_search_by(|other| one.cmp(other)) {
        all.insert(place, one);
    }
}
