//! Reservations: capacity kept for a time, and for jobs that name it.
//!
//! Jobs that name one run on its nodes, while its window lasts, and nowhere else: until it begins, and once it is over,
//! they wait. They have no holds of their own: what they need is kept already.
//!
//! The next window of each is a hold without a waiting job; the one after it is placed when that is over. Nothing that
//! would outlast a window's beginning comes to its nodes, so that one window ahead is enough.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use offtake_units::Timestamp;
use offtake_workload::{Job, Reservation};
use rustc_hash::FxHashMap;
use serde::{Deserialize, Serialize};

use super::{Hold, State};
use crate::fact::{JobId, NodeRange, ReservationId};
use crate::queue::{Blocked, LaneIx};

/// A reservation's name as lanes know it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ReservationIx(u32);

/// A reservation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reserved {
    /// What was asked for.
    pub spec: Arc<Reservation>,
    /// When its window begins, or the next one that has no nodes yet should.
    pub start: Timestamp,
    /// When its window ends; none while no nodes are kept.
    pub end: Option<Timestamp>,
    /// When it is looked at next.
    look_at: Timestamp,
}

impl Reserved {
    /// The nodes of its window are to be found anew.
    pub(super) fn forget_window(&mut self) {
        if self.end.take().is_some() {
            self.look_at = Timestamp::EPOCH;
        }
    }
}

/// All reservations.
#[derive(Clone, Debug, Default)]
pub struct Reservations {
    by_id: BTreeMap<ReservationId, Reserved>,
    /// When each is looked at next.
    due: BTreeSet<(Timestamp, ReservationId)>,
    /// Names that jobs in the queue use.
    names: FxHashMap<String, ReservationIx>,
}

impl Reservations {
    /// Of what an image holds.
    pub fn restore(by_id: BTreeMap<ReservationId, Reserved>) -> Self {
        let due = by_id.iter().map(|(id, reserved)| (reserved.look_at, *id)).collect();
        Self { by_id, due, names: FxHashMap::default() }
    }

    /// The number of the name that a job uses, given when it is first asked for.
    pub fn number(&mut self, name: Option<&str>) -> Option<ReservationIx> {
        let name = name?;
        let next = ReservationIx(self.names.len() as u32);
        Some(*self.names.entry(name.to_owned()).or_insert(next))
    }

    /// The number of the name that a job uses, if it was ever given.
    pub fn known(&self, name: Option<&str>) -> Option<ReservationIx> {
        self.names.get(name?).copied()
    }

    fn look_at(&mut self, id: ReservationId, at: Timestamp) {
        if let Some(reserved) = self.by_id.get_mut(&id) {
            self.due.remove(&(reserved.look_at, id));
            reserved.look_at = at;
            self.due.insert((at, id));
        }
    }

    /// One that is to be looked at, and has not been.
    pub fn due(&self, now: Timestamp) -> Option<(ReservationId, &Reserved)> {
        let (_, id) = self.due.first().filter(|(at, _)| *at <= now)?;
        Some((*id, self.by_id.get(id)?))
    }
}

impl State {
    /// Reservations that are not over.
    pub const fn reservations(&self) -> &BTreeMap<ReservationId, Reserved> {
        &self.reservations.by_id
    }

    /// When a window begins or ends next, or a new one is to be placed: a pass is due then.
    pub fn next_window(&self) -> Option<Timestamp> {
        let (ends, _) = self.reservations.due.first()?;
        let begins = self.holds.iter().filter(|hold| hold.job.is_window()).map(|hold| hold.start);
        begins.filter(|begins| *begins > self.now).chain([*ends]).min()
    }

    /// The nodes kept by a reservation's window.
    pub fn window(&self, reservation: ReservationId) -> Option<&Hold> {
        self.hold_of(JobId::of_window(reservation))
    }

    pub(super) fn reserve(&mut self, id: ReservationId, spec: &Arc<Reservation>) {
        let reserved = Reserved { spec: Arc::clone(spec), start: spec.start, end: None, look_at: Timestamp::EPOCH };
        if let std::collections::btree_map::Entry::Vacant(entry) = self.reservations.by_id.entry(id) {
            entry.insert(reserved);
            self.reservations.due.insert((Timestamp::EPOCH, id));
        }
    }

    pub(super) fn unreserve(&mut self, id: ReservationId) {
        if let Some(reserved) = self.reservations.by_id.remove(&id) {
            self.reservations.due.remove(&(reserved.look_at, id));
            self.end_window(id);
        }
    }

    /// Nothing is kept for a window any more, nor for one who waits for the next.
    fn end_window(&mut self, id: ReservationId) {
        self.release_hold(JobId::of_window(id));
        self.start_unknown.clear();
        let waits = |job: &JobId| self.jobs.get(job).is_some_and(|work| self.awaits_window(&work.spec));
        if let Some(job) = self.tenants.promise().map(|kept| kept.job).filter(waits) {
            self.forget_promise(job);
        }
    }

    pub(super) fn place_window(&mut self, id: ReservationId, start: Timestamp, end: Timestamp, nodes: &[NodeRange]) {
        let Some(reserved) = self.reservations.by_id.get_mut(&id) else { return };
        (reserved.start, reserved.end) = (start, Some(end));
        self.reservations.look_at(id, end);
        let window = JobId::of_window(id);
        self.release_hold(window);
        self.keep_window(window, start, end, nodes);
        // Where it lasts already, it has other nodes than before.
        let lanes = self.lanes_of(id).to_vec();
        lanes.into_iter().for_each(|lane| self.queue.wake(lane));
    }

    /// A window had no nodes in time, or is over: the next is looked for once this one would have ended. One that does
    /// not recur is over.
    pub(super) fn close_window(&mut self, id: ReservationId) {
        let now = self.now;
        let Some(reserved) = self.reservations.by_id.get_mut(&id) else { return };
        let Some(every) = reserved.spec.every else { return self.unreserve(id) };
        let over = reserved.end.take().unwrap_or(reserved.start.saturating_add(reserved.spec.length));
        // Counted from the first, so that one that began late does not shift the others.
        let passed = (now.max(reserved.start) - reserved.spec.start).as_millis() / every.as_millis().max(1);
        let next = every.as_millis().saturating_mul(passed + 1);
        reserved.start = reserved.spec.start.saturating_add(offtake_units::Duration::from_millis(next));
        self.reservations.look_at(id, over);
        self.end_window(id);
    }

    /// The window that a job may use.
    pub(crate) fn window_of(&self, spec: &Job) -> Option<JobId> {
        let name = spec.reservation.as_ref()?;
        let mine = |reserved: &Reserved| reserved.spec.name == *name && reserved.spec.admits(&spec.tenant);
        let (id, _) = self.reservations.by_id.iter().find(|(_, reserved)| mine(reserved))?;
        Some(JobId::of_window(*id))
    }

    /// The window in which a job has to run, if its reservation has nodes; when it begins and ends.
    pub(crate) fn own_window(&self, spec: &Job) -> Option<&Hold> {
        self.hold_of(self.window_of(spec)?)
    }

    /// Whether a job names a reservation that has not begun or is not there.
    pub(crate) fn awaits_window(&self, spec: &Job) -> bool {
        let lasts = |hold: &Hold| hold.start <= self.now && self.now < hold.end;
        spec.reservation.is_some() && !self.own_window(spec).is_some_and(lasts)
    }

    /// Whether the jobs of a lane wait for their reservation.
    pub(crate) fn lane_awaits_window(&self, lane: LaneIx) -> bool {
        let entry = self.queue.lane(lane);
        let first = entry.first().filter(|_| entry.key.reservation.is_some());
        first.and_then(|first| self.job(first.job)).is_some_and(|work| self.awaits_window(&work.spec))
    }

    /// Jobs whose windows have begun are tried.
    pub(crate) fn wake_begun(&mut self) {
        let has_begun = |hold: &&Hold| hold.start <= self.now;
        let windows = self.holds.iter().filter(has_begun).filter_map(|hold| hold.job.reservation());
        let lanes = windows.flat_map(|reservation| self.lanes_of(reservation)).copied();
        let waits = |lane: &LaneIx| self.queue.lane(*lane).parked == Some(Blocked::Reservation);
        let woken: Vec<LaneIx> = lanes.filter(waits).filter(|lane| !self.lane_awaits_window(*lane)).collect();
        woken.into_iter().for_each(|lane| self.queue.wake(lane));
    }

    /// Something on nodes was given back: jobs whose windows have them are tried.
    pub(super) fn wake_windows_on(&mut self, nodes: NodeRange) {
        let windows = self.holds.iter().filter(|hold| hold.job.is_window() && hold.start <= self.now);
        let windows = windows.filter(|hold| hold.meets_any(std::iter::once(nodes)));
        let lanes =
            windows.filter_map(|hold| hold.job.reservation()).flat_map(|reservation| self.lanes_of(reservation));
        let woken: Vec<LaneIx> = lanes.copied().collect();
        woken.into_iter().for_each(|lane| self.queue.wake(lane));
    }

    /// The lanes whose jobs name a reservation.
    fn lanes_of(&self, reservation: ReservationId) -> &[LaneIx] {
        let reserved = self.reservations.by_id.get(&reservation);
        let number = reserved.and_then(|reserved| self.reservations.known(Some(&reserved.spec.name)));
        number.map_or(&[], |number| self.queue.naming(number))
    }

    /// Whether a job would be at work on a window's nodes while they are kept from it.
    pub(crate) fn runs_into_a_window(&self, job: JobId, placement: &crate::fact::Placement) -> bool {
        let Some(work) = self.job(job) else { return false };
        let (own, end) = (self.window_of(&work.spec), work.latest_end(self.now));
        let kept = self.holds.iter().filter(|hold| hold.job.is_window() && Some(hold.job) != own);
        kept.filter(|hold| hold.overlaps(self.now, end)).any(|hold| hold.meets(placement))
    }
}
