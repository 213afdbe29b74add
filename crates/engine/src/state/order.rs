//! Who goes first: the standing of those that wait, under the order of the policy.

use std::cmp::Reverse;

use offtake_units::{Ppm, Timestamp};
use offtake_workload::Tier;

use super::State;
use crate::fact::JobId;
use crate::policy::{Factors, Order};
use crate::queue::{Awake, LaneIx, LaneKey, Turn, Waiting};
use crate::tenants::{Rank, TenantIx};

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
        if !matters || self.policy.fairness.ageing.is_none() {
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
        let mut looked_at = Vec::new();
        let look = |awake: Awake<'_>| {
            self.queue.known_first(awake).unwrap_or_else(|| {
                let first = self.first_of(awake);
                looked_at.extend(awake.shape().map(|shape| (shape, first)));
                first
            })
        };
        let next = self.queue.awake().filter_map(look).min_by_key(|lane| self.standing(*lane));
        self.queue.know_firsts(looked_at);
        next
    }

    fn first_of(&self, awake: Awake<'_>) -> Option<LaneIx> {
        // Whoever lacks quota now would fail; those to be tried in any case are told so, and why.
        let may = |lane: &LaneIx| awake.shape().is_none() || !self.lacks_quota(*lane);
        match self.policy.order {
            Order::Turn => awake.in_order().find(may),
            Order::FairShare => Tier::ALL.into_iter().find_map(|tier| {
                // Who came earlier is late earlier.
                let late = awake.in_turn(tier, |lane| self.lane_is_late(lane)).find(may);
                late.or_else(|| {
                    let firsts =
                        awake.by_tenant(tier).filter_map(|(tenant, mut lanes)| Some((tenant, lanes.find(may)?)));
                    firsts.min_by_key(|(tenant, _)| (self.tenants.rank(*tenant), *tenant)).map(|(_, lane)| lane)
                })
            }),
            Order::Multifactor | Order::Cohort => awake.in_order().filter(may).min_by_key(|lane| self.standing(*lane)),
        }
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
