//! Which lanes are to be tried: of those asleep, the ones that something which happened may help.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;

use offtake_fleet::NodeKindIx;
use offtake_units::Duration;
use offtake_workload::Tier;

use super::Queue;
use super::lane::{Lane, LaneIx, Turn};
use super::standings::{Candidate, Standings, all_of, of_tier};
use crate::place::ShapeIx;
use crate::tenants::TenantIx;

/// The parked lanes of one shape.
#[derive(Clone, Debug)]
pub(super) struct Sleepers {
    pub(super) shape: ShapeIx,
    pub(super) lanes: Standings,
    /// How many of them a cap keeps waiting, and how many lacked quota.
    pub(super) under_caps: u32,
    pub(super) lacking_quota: u32,
    /// Lanes without a shorter job than this have no room, whoever asks; those with a reservation may have.
    pub(super) no_room: Option<Duration>,
    pub(super) kinds: Vec<NodeKindIx>,
}

/// What happened that could help the lanes of a shape, and who was tried since.
#[derive(Clone, Debug)]
pub(super) struct Stir {
    /// Nodes or watts came; quota alone otherwise.
    pub(super) has_room: bool,
    /// Only nodes were given back: nothing else can help.
    pub(super) only_freed: bool,
    pub(super) failed: Vec<LaneIx>,
}

impl Stir {
    pub(super) const NOTHING: Self = Self { has_room: false, only_freed: false, failed: Vec::new() };
}

/// To whom quota came back, or a limit that is no longer reached.
#[derive(Clone, Debug, Default)]
pub(super) enum QuotaBack {
    #[default]
    ToNobody,
    /// To whom has not been looked at.
    ToSomebody,
    To(QuotaReturned),
    ToAll,
}

impl QuotaBack {
    /// Whether some lane of a shape may have enough of it.
    pub(super) fn may_help(&self, shape: ShapeIx) -> bool {
        match self {
            Self::ToNobody => false,
            Self::ToSomebody | Self::ToAll => true,
            Self::To(whom) => whom.shapes.contains_key(&shape),
        }
    }

    /// Whether a lane lacked quota, and may have enough now.
    pub(super) fn helps(&self, lane: &Lane) -> bool {
        lane.lacked_quota
            && match self {
                Self::ToNobody => false,
                Self::ToSomebody | Self::ToAll => true,
                Self::To(whom) => {
                    let groups = whom.shapes.get(&lane.key.shape).map_or(&[][..], Vec::as_slice);
                    let is_among = |tenant| groups.iter().any(|group| whom.groups[*group].contains(&tenant));
                    lane.key.tenant.is_some_and(is_among)
                }
            }
    }
}

/// To whom quota came back that could help them.
#[derive(Clone, Debug, Default)]
pub struct QuotaReturned {
    /// Tenants that had the same left before, and have the same now.
    pub groups: Vec<BTreeSet<TenantIx>>,
    /// Which of those groups it could help, by shape.
    pub shapes: BTreeMap<ShapeIx, Vec<usize>>,
}

/// The first lanes of each shape to be tried, by tier.
#[derive(Clone, Debug, Default)]
pub struct Firsts {
    /// Of those that go by turn, the last first.
    pub by_turn: [Vec<(Turn, LaneIx)>; 4],
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
    pub(super) queue: &'a Queue,
    pub(super) standings: &'a Standings,
    /// Of one shape; whether room for it came.
    pub(super) asleep: Option<(&'a Sleepers, Option<&'a Stir>)>,
}

impl<'a> Awake<'a> {
    /// The shape that was stirred; none where these are to be tried in any case.
    pub const fn shape(self) -> Option<ShapeIx> {
        match self.asleep {
            Some((asleep, _)) => Some(asleep.shape),
            None => None,
        }
    }

    pub(super) fn may(self, lane: LaneIx) -> bool {
        let Some((asleep, stir)) = self.asleep else { return true };
        let entry = self.queue.lane(lane);
        // Nodes of a reservation that are given back wake its lanes by themselves; no others can help them.
        let has_room = |stir: &Stir| stir.has_room && !(stir.only_freed && entry.key.reservation.is_some());
        let is_concerned = stir.is_some_and(has_room) || self.queue.quota_back.helps(entry);
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
