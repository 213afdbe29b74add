//! What each site with a ramp may take on: as much at one instant as it stands, and more with each second.
//!
//! An allowance that fills at the rate `up` and holds `max_step` (a token bucket): whatever starts, resumes or gets its power
//! back takes what it draws more, and waits until there is as much. What stops gives nothing back, so that a stop and a start
//! at one instant are two steps. A job that is larger than `max_step`, as hardware takes up the rest, starts when the
//! allowance is full, and what follows waits for the rest of it too.
//!
//! The first that lacks only this is waited for: nobody behind it takes of the allowance meanwhile. Each pass begins with
//! nobody waited for, and tries all that wait, in their order.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Debug;
use std::sync::Arc;

use offtake_fleet::{DomainIx, Fleet, Ramp, SiteIx};
use offtake_units::{Duration, Timestamp, Watts};
use serde::{Deserialize, Serialize};

use super::{Phase, State, kinds_of};
use crate::capacity::LimitIx;
use crate::explain::Obstacle;
use crate::fact::{JobId, Placement};
use crate::place::ShapeIx;
use crate::ramp::{Step, Unborne, bears, steps, time_to_fall};
use crate::request::Shape;
use crate::throttle::Throttle;

/// Millionths of a watt in a watt.
const MICRO: i64 = 1_000_000;

/// Between two passes for the sake of a ramp there is so much time at least, so that many small jobs do not make as many
/// passes.
const BETWEEN: Duration = Duration::from_secs(1);

/// The sites of a fleet that have ramps.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(super) struct Ramps {
    sites: BTreeMap<SiteIx, Account>,
    /// Who lacked nothing else at the last pass, or was not tried as another is waited for.
    waiting: BTreeSet<JobId>,
    /// Ramps do not count for whoever is tried now.
    #[serde(skip)]
    lifted: bool,
}

/// What one site may take on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Account {
    /// How much at once, in millionths of a watt; less than nothing after more than was there.
    level: i64,
    /// As of when.
    at: Timestamp,
    /// What the first that waits needs, in millionths of a watt.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    awaited: Option<i64>,
    /// What work draws beyond idle nodes, in millionths of a watt.
    drawn: i64,
    /// Of that, what falls away and returns, if all of it ever did at once.
    swing: i64,
    /// All that it ever took on, and gave back, in watts.
    risen: Watts,
    fallen: Watts,
}

/// What a site draws more, and of that what swings, in millionths of a watt.
type Change = (i64, i64);

/// What a site with a ramp has taken on so far, beyond what its idle nodes draw, as its ramp counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Course {
    /// What is drawn now.
    pub drawn: Watts,
    /// Of that, what falls away and returns, if all work ever did so at once: no more than that.
    pub swing: Watts,
    /// All that was ever taken on.
    pub risen: Watts,
    /// All that was ever given back.
    pub fallen: Watts,
}

impl Ramps {
    fn new(fleet: &Fleet, now: Timestamp) -> Self {
        let ramps = fleet.sites.iter().zip((0..).map(SiteIx)).filter_map(|(site, ix)| Some((ix, site.ramp.as_ref()?)));
        let full = |ramp: &Ramp| Account {
            level: ramp.max_step.get() * MICRO,
            at: now,
            awaited: None,
            drawn: 0,
            swing: 0,
            risen: Watts::ZERO,
            fallen: Watts::ZERO,
        };
        Self { sites: ramps.map(|(ix, ramp)| (ix, full(ramp))).collect(), ..Self::default() }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.sites.is_empty()
    }

    /// The same for the sites of another fleet, by their names.
    pub(super) fn on(self, before: &Fleet, fleet: &Fleet) -> Self {
        let renumbered = |(ix, account): (SiteIx, Account)| {
            let place = fleet.sites.iter().position(|site| site.name == before.sites[ix.ix()].name)?;
            Some((SiteIx(place as u32), account))
        };
        Self { sites: self.sites.into_iter().filter_map(renumbered).collect(), ..self }
    }

    /// What must be equal between a state and the fold of its journal.
    pub(super) fn essence(&self) -> impl Debug {
        let told = |(ix, account): (&SiteIx, &Account)| (*ix, Account { awaited: None, ..*account });
        self.sites.iter().map(told).collect::<Vec<_>>()
    }
}

impl Account {
    /// What may be taken on at an instant.
    fn left(&self, ramp: &Ramp, now: Timestamp) -> i64 {
        let filled = rate(ramp.up).saturating_mul((now - self.at).as_millis().max(0));
        self.level.saturating_add(filled).min(ramp.max_step.get() * MICRO)
    }

    fn take(&mut self, ramp: &Ramp, draw: i64, now: Timestamp) {
        self.level = self.left(ramp, now).saturating_sub(draw);
        self.at = self.at.max(now);
    }
}

/// Millionths of a watt with each millisecond.
const fn rate(per_second: Watts) -> i64 {
    per_second.get() * (MICRO / 1000)
}

/// What has to be there before so much is taken on: what is more is taken up by the site's hardware.
fn needed(ramp: &Ramp, draw: i64) -> i64 {
    draw.min(ramp.max_step.get() * MICRO)
}

impl State {
    /// Whether ramps do not matter to whoever is tried now.
    pub(crate) fn ramps_are_lifted(&self) -> bool {
        self.ramps.is_empty() || self.ramps.lifted
    }

    /// Whether ramps do not count for whoever is tried next.
    pub(crate) const fn lift_ramps(&mut self, lifted: bool) {
        self.ramps.lifted = lifted;
    }

    fn ramp_of(&self, site: SiteIx) -> Option<&Ramp> {
        self.fleet().sites.get(site.ix())?.ramp.as_ref()
    }

    pub(super) fn open_ramps(&mut self) {
        self.ramps = Ramps::new(self.fleet(), self.now);
    }

    /// Accounts as they were; sites without one begin with a full allowance.
    pub(super) fn take_in_ramps(&mut self, ramps: Ramps) {
        self.open_ramps();
        for (site, account) in ramps.sites {
            self.ramps.sites.entry(site).and_modify(|own| *own = account);
        }
        self.ramps.waiting = ramps.waiting;
        for (site, now) in self.drawn_at_sites() {
            self.ramps.sites.entry(site).and_modify(|account| (account.drawn, account.swing) = now);
        }
    }

    /// Per site with a ramp what its running work draws, made anew.
    fn drawn_at_sites(&self) -> BTreeMap<SiteIx, Change> {
        let mut drawn: BTreeMap<SiteIx, Change> = self.ramps.sites.keys().map(|site| (*site, (0, 0))).collect();
        if drawn.is_empty() {
            return drawn;
        }
        for (_, work) in self.running() {
            let Phase::Running { shape, placement, .. } = &work.phase else { continue };
            for (site, step) in steps(&self.capacity, &self.shapes[shape.ix()], placement) {
                let sum = drawn.entry(site).or_default();
                *sum = (sum.0 + step.draw, sum.1 + step.swing);
            }
        }
        drawn
    }

    /// What work at sites with ramps draws, where that is not what was counted.
    pub(super) fn ramp_difference(&self) -> Option<String> {
        let truth = self.drawn_at_sites();
        let sites = self.ramps.sites.iter();
        let counted: BTreeMap<SiteIx, Change> = sites.map(|(site, it)| (*site, (it.drawn, it.swing))).collect();
        (truth != counted).then(|| format!("sites draw {truth:?} as ramps count, not {counted:?}"))
    }

    // What happens.

    /// Work has come to where it is placed, or draws more there.
    pub(super) fn rise(&mut self, shape: ShapeIx, placement: &Placement) {
        self.change(shape, placement, 1);
    }

    /// Work has left, or draws nothing for now.
    pub(super) fn fall(&mut self, shape: ShapeIx, placement: &Placement) {
        self.change(shape, placement, -1);
    }

    /// What the chips of work draw changes with their power level.
    pub(super) fn rise_from(&mut self, shape: ShapeIx, before: &Placement, after: &Placement) {
        self.change_by(self.more(shape, before, after));
    }

    /// What work draws more at each site at one power level than at another.
    fn more(&self, shape: ShapeIx, before: &Placement, after: &Placement) -> BTreeMap<SiteIx, Change> {
        if self.ramps.is_empty() {
            return BTreeMap::new();
        }
        let of = |placement| steps(&self.capacity, &self.shapes[shape.ix()], placement);
        let before = of(before);
        let more = |(site, step): (SiteIx, Step)| {
            let before = before.get(&site).copied().unwrap_or_default();
            (site, (step.draw - before.draw, step.swing - before.swing))
        };
        of(after).into_iter().map(more).collect()
    }

    fn change(&mut self, shape: ShapeIx, placement: &Placement, sign: i64) {
        if self.ramps.is_empty() {
            return;
        }
        let steps = steps(&self.capacity, &self.shapes[shape.ix()], placement);
        self.change_by(steps.into_iter().map(|(site, step)| (site, (sign * step.draw, sign * step.swing))).collect());
    }

    fn change_by(&mut self, changes: BTreeMap<SiteIx, Change>) {
        let now = self.now;
        let fleet = Arc::clone(self.fleet());
        for (site, (change, swing)) in changes {
            let Some(account) = self.ramps.sites.get_mut(&site) else { continue };
            let Some(ramp) = &fleet.sites[site.ix()].ramp else { continue };
            (account.drawn, account.swing) = (account.drawn + change, account.swing + swing);
            let watts = Watts::new(change.abs() / MICRO + i64::from(change % MICRO != 0));
            if change > 0 {
                account.take(ramp, change, now);
                account.risen += watts;
            } else {
                account.fallen += watts;
            }
        }
    }

    // Who may start.

    /// All that wait for a ramp are tried again, and nobody is waited for.
    pub(crate) fn look_at_ramps(&mut self) {
        if self.ramps.is_empty() {
            return;
        }
        self.ramps.sites.values_mut().for_each(|account| account.awaited = None);
        for job in std::mem::take(&mut self.ramps.waiting) {
            match self.jobs.get(&job).map(|work| &work.phase) {
                Some(Phase::Pending(_)) => self.wake_job(job),
                Some(Phase::Running { .. }) => self.power_freed = true,
                _ => {}
            }
        }
    }

    /// When a site can take on what the first that waits for it needs: a pass is due then.
    pub fn next_rise(&self) -> Option<Timestamp> {
        let ready = |(site, account): (&SiteIx, &Account)| self.ready_for(*site, account.awaited?);
        let next = self.ramps.sites.iter().filter_map(ready).min()?;
        Some(next.max(self.now.saturating_add(BETWEEN)))
    }

    /// When a site can take on so much at once, in millionths of a watt.
    fn ready_for(&self, site: SiteIx, needed: i64) -> Option<Timestamp> {
        let (account, ramp) = (self.ramps.sites.get(&site)?, self.ramp_of(site)?);
        let lacks = needed.saturating_sub(account.level).max(0);
        let span = Duration::from_millis(lacks.unsigned_abs().div_ceil(rate(ramp.up).unsigned_abs().max(1)) as i64);
        Some(account.at.saturating_add(span).max(self.now))
    }

    /// Whether sites can take on what a job adds now, and nobody else is waited for there.
    pub(crate) fn can_rise(&self, steps: &BTreeMap<SiteIx, Step>) -> bool {
        steps.iter().all(|(site, step)| self.can_rise_by(*site, step.draw))
    }

    fn can_rise_by(&self, site: SiteIx, draw: i64) -> bool {
        let (Some(account), Some(ramp)) = (self.ramps.sites.get(&site), self.ramp_of(site)) else { return true };
        draw <= 0 || account.awaited.is_none() && account.left(ramp, self.now) >= needed(ramp, draw)
    }

    /// A job lacks nothing but that sites take on what it draws: it is waited for, unless another is.
    pub(crate) fn await_rise(&mut self, job: JobId, steps: &BTreeMap<SiteIx, Step>) {
        let lacking = steps.iter().filter(|(site, step)| !self.can_rise_by(**site, step.draw));
        let lacking: Vec<(SiteIx, i64)> = lacking.map(|(site, step)| (*site, step.draw)).collect();
        lacking.into_iter().for_each(|(site, draw)| self.await_draw(job, site, draw));
    }

    fn await_draw(&mut self, job: JobId, site: SiteIx, draw: i64) {
        let Some(needed) = self.ramp_of(site).map(|ramp| needed(ramp, draw)) else { return };
        if let Some(account) = self.ramps.sites.get_mut(&site) {
            account.awaited.get_or_insert(needed);
        }
        self.ramps.waiting.insert(job);
    }

    /// Whether at each site that a shape could go to another is waited for: then it need not be tried.
    pub(crate) fn waits_behind_a_rise(&mut self, job: JobId, shape: &Shape) -> bool {
        let draws = shape.chip_milli() > 0;
        let could_go = |site: &SiteIx| {
            let has = |kind| self.capacity.cell_of(DomainIx(site.0), kind).is_some();
            kinds_of(shape).any(has)
        };
        let is_awaited = |site: SiteIx| self.ramps.sites.get(&site).is_some_and(|account| account.awaited.is_some());
        let mut sites = (0..self.fleet().sites.len() as u32).map(SiteIx).filter(could_go);
        let waits = draws && sites.all(is_awaited);
        if waits {
            self.ramps.waiting.insert(job);
        }
        waits
    }

    /// The site whose ramp keeps a job waiting, as of the last pass; the first where there are several.
    pub(crate) fn kept_by_ramp(&self, job: JobId) -> Option<SiteIx> {
        let awaited = self.ramps.sites.iter().find(|(_, account)| account.awaited.is_some());
        awaited.filter(|_| self.ramps.waiting.contains(&job)).map(|(site, _)| *site)
    }

    /// Who waits for nothing but a ramp, or behind another that does, as of the last pass.
    pub fn kept_by_ramps(&self) -> impl Iterator<Item = JobId> {
        self.ramps.waiting.iter().copied()
    }

    /// Up to which power level, of those from the first given to before the last, the chips of a throttled job may go now: as
    /// far as its sites can take it on. What it lacks is waited for.
    pub(crate) fn restorable_on_ramps(&mut self, job: JobId, (to, above): (Throttle, Throttle)) -> Option<Throttle> {
        if self.ramps.is_empty() {
            return Some(to);
        }
        let Phase::Running { shape, placement, .. } = &self.jobs.get(&job)?.phase else { return None };
        let (shape, placement) = (*shape, Arc::clone(placement));
        let more =
            |from: Throttle, to: Throttle| self.more(shape, &placement.throttled(from), &placement.throttled(to));
        let can = |level: &Throttle| {
            more(placement.throttle, *level).into_iter().all(|(site, (draw, _))| self.can_rise_by(site, draw))
        };
        let found = (to.0..above.0).map(Throttle).find(can);
        // What it does not get now is waited for, a level at a time.
        let (from, next) = found.map_or((placement.throttle, above), |found| (found, found));
        if let Some(next) = next.0.checked_sub(1).map(Throttle).filter(|next| *next >= to) {
            let lacking = more(from, next).into_iter().filter(|(_, (draw, _))| *draw > 0);
            lacking.collect::<Vec<_>>().into_iter().for_each(|(site, (draw, _))| self.await_draw(job, site, draw));
        }
        found
    }

    /// The site of what a cap limits, and how fast its draw may change.
    pub(crate) fn ramp_under(&self, cap: LimitIx) -> Option<(SiteIx, &Ramp)> {
        let (domain, _) = *self.capacity.limits().get(cap.ix())?.domains.first()?;
        let site = self.fleet().domains[domain.ix()].site;
        Some((site, self.ramp_of(site)?))
    }

    /// How long it takes until all work has stopped at the site of what a cap limits, as fast as that stands it; and before it
    /// stops, some job has all of its power back.
    pub(crate) fn longest_fall(&self, cap: LimitIx, restored: Option<JobId>) -> Duration {
        let falls = |(site, ramp)| {
            let more = restored.map_or(0, |job| -self.fall_at(site, job, Some(Throttle::NONE)));
            time_to_fall(ramp, self.ramps.sites.get(&site)?.drawn + more)
        };
        self.ramp_under(cap).and_then(falls).unwrap_or(Duration::ZERO)
    }

    /// What a running job draws less at a site at a lower power level, or stopped, in millionths of a watt.
    pub(crate) fn fall_at(&self, site: SiteIx, job: JobId, to: Option<Throttle>) -> i64 {
        let Some(Phase::Running { shape, placement, .. }) = self.jobs.get(&job).map(|work| &work.phase) else {
            return 0;
        };
        let at = |placement: &Placement| {
            let steps = steps(&self.capacity, &self.shapes[shape.ix()], placement);
            steps.get(&site).map_or(0, |step| step.draw)
        };
        at(placement) - to.map_or(0, |to| at(&placement.throttled(to)))
    }

    /// What a running job draws at each site with a ramp: what would vanish there if it stopped now.
    pub fn steps_of(&self, job: JobId) -> Vec<(SiteIx, Watts)> {
        match self.jobs.get(&job).map(|work| &work.phase) {
            Some(Phase::Running { shape, placement, .. }) if !self.ramps.is_empty() => {
                let steps = steps(&self.capacity, &self.shapes[shape.ix()], placement);
                steps.into_iter().map(|(site, step)| (site, step.watts())).collect()
            }
            _ => Vec::new(),
        }
    }

    /// Why sites do not stand what a job would take on: which, and what of it.
    pub(crate) fn unborne(&self, shape: &Shape, placement: &Placement) -> Vec<(SiteIx, Unborne)> {
        if self.ramps.is_empty() {
            return Vec::new();
        }
        let steps = steps(&self.capacity, shape, placement);
        let unborne = |(site, step): (SiteIx, Step)| Some((site, bears(self.ramp_of(site)?, step).err()?));
        steps.into_iter().filter_map(unborne).collect()
    }

    /// Which sites cannot take on now what a job would draw there.
    pub(crate) fn met_by_ramps(&self, shape: &Shape, placement: &Placement) -> Vec<Obstacle> {
        if self.ramps.is_empty() {
            return Vec::new();
        }
        let steps = steps(&self.capacity, shape, placement);
        let lacking = steps.iter().filter(|(site, step)| !self.can_rise_by(**site, step.draw));
        let told = |(site, step): (&SiteIx, &Step)| {
            let (account, ramp) = (self.ramps.sites.get(site)?, self.ramp_of(*site)?);
            let ready = self.ready_for(*site, needed(ramp, step.draw))?;
            let left = Watts::new(account.left(ramp, self.now).max(0) / MICRO);
            Some(Obstacle::Ramp { site: *site, needed: step.watts(), left, ready })
        };
        lacking.filter_map(told).collect()
    }

    /// What sites with ramps have taken on so far.
    pub fn ramp_courses(&self) -> impl Iterator<Item = (SiteIx, Course)> {
        let watts = |micro: i64| Watts::new(micro.div_euclid(MICRO) + i64::from(micro.rem_euclid(MICRO) != 0));
        self.ramps.sites.iter().map(move |(site, account)| {
            let Account { drawn, swing, risen, fallen, .. } = *account;
            (*site, Course { drawn: watts(drawn), swing: watts(swing), risen, fallen })
        })
    }
}
