//! Lanes: jobs that ask for the same, in the order of their turns.

use std::collections::VecDeque;

use offtake_fleet::{AcceleratorKindIx, SiteIx};
use offtake_units::{Duration, Timestamp};
use offtake_workload::Tier;
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
pub struct LaneIx(pub(super) u32);

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
    /// Its site takes on no more at once, or keeps what it does for another that comes first.
    Ramp(SiteIx),
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
    pub(super) chunks: VecDeque<Chunk>,
    pub(super) shortest: Duration,
}

/// A stretch of a lane with its shortest duration, so that a job short enough is found without looking at each.
#[derive(Clone, Debug)]
pub(super) struct Chunk {
    pub(super) jobs: Vec<Waiting>,
    shortest: Duration,
}

/// A chunk this long is still quicker to move than to split.
pub(super) const CHUNK: usize = 64;

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

    pub(super) fn insert(&mut self, waiting: Waiting) {
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

    pub(super) fn remove(&mut self, turn: Turn) {
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
