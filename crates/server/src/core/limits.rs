//! Power limits: what the chips of throttled work may draw at most, and whether their agents keep to it; and whether paused
//! work stands still.
//!
//! A node whose agent does not say that a limit is in force in time is not relied on: what is throttled there counts at
//! full power again, upon which the engine stops it, or something else. Work that does not stand still in time is stopped.

use std::sync::Arc;

use offtake_engine::{Event as EngineEvent, JobId, Pace, Phase, StopReason, Throttle, ends_at};
use offtake_fleet::NodeIx;
use offtake_protocol::agent::{ChipLimits, Limited};
use offtake_units::{Duration, Ppm, Timestamp};

use super::Core;
use super::records::{Attempt, Seen, Task};
use super::timers::{Timer, limit_of};

/// How long agents have to limit the chips of a job that is throttled. Half of the notice of an event that has none
/// remains for its stop.
const OBEY_WITHIN: Duration = Duration::from_secs(5);

/// How long a node whose agent did not do as it was told is not relied on, unless the agent starts anew.
const DISTRUSTED_FOR: Duration = Duration::from_secs(600);

const UNABLE: &str = "its agent cannot limit them";

/// Why nothing is built on the limits of a node.
#[derive(Clone, Debug)]
pub(crate) struct Distrusted {
    /// The run of its agent in which something went wrong.
    session: u64,
    until: Timestamp,
    reason: String,
}

impl Attempt {
    /// How it goes on, of work that stands still for no longer than that.
    pub(super) fn pace(&self, longest: Option<Duration>) -> Pace {
        match self.paused_since {
            Some(since) => Pace::Paused { since, longest: longest.unwrap_or_default() },
            None => Pace::At(self.speed.unwrap_or(Ppm::ONE)),
        }
    }
}

impl Core {
    // The fold.

    /// A job goes at another speed, or stands still: its limit of time moves, and its agents get other orders.
    pub(super) fn note_throttled(&mut self, at: Timestamp, job: JobId, to: Throttle) {
        let fleet = Arc::clone(self.state.fleet());
        let Some(record) = self.records.get_mut(&job.0) else { return };
        let longest = record.spec.pause;
        let limit = record.live().and_then(|attempt| limit_of(record, attempt));
        let Some(attempt) = record.live_mut() else { return };
        let before = attempt.pace(longest);
        // The state may be ahead of this fact, by others of its pass.
        attempt.paused_since = to.is_paused().then_some(at);
        if !to.is_paused() {
            attempt.speed = Some(attempt.placement.speed_at(&fleet, to));
        }
        let after = attempt.pace(longest);
        attempt.limit_at = limit.map(|limit| ends_at(at, limit, before, after));
        attempt.obey_by = (!to.is_none()).then(|| at.saturating_add(OBEY_WITHIN));
        self.arm_limit(job.0);
        self.arm_obedience(job.0);
        self.order_limits(job.0, !to.is_none());
    }

    /// Its nodes are ordered to limit the chips of a job, or to limit them no more: all of its nodes, whether or not they
    /// have a task of it just now.
    pub(super) fn order_limits(&mut self, job: u64, limited: bool) {
        let Some(attempt) = self.records.get(&job).and_then(|record| record.live()) else { return };
        let names: Vec<Arc<str>> = attempt.shares.iter().map(|share| Arc::clone(&share.node)).collect();
        for name in names {
            if let Some(node) = self.nodes.get_mut(&name) {
                let changed = if limited { node.now.throttled.insert(job) } else { node.now.throttled.remove(&job) };
                if limited || changed {
                    self.touch_node(&name);
                }
            }
        }
    }

    /// Agents of throttled work have a whole lease after a restart of the server, as for anything else.
    pub(super) fn recall_throttled(&mut self, job: u64) {
        let by = self.state.now().saturating_add(self.settings.lease.max(OBEY_WITHIN));
        let throttle = self.throttle_of(job);
        let Some(attempt) = self.records.get_mut(&job).and_then(|record| record.live_mut()) else { return };
        attempt.obey_by = (!throttle.is_none()).then_some(by);
        self.arm_obedience(job);
        if !throttle.is_none() {
            self.order_limits(job, true);
        }
    }

    /// A task of work that is paused goes on, or begins only now: its agent has as long for it as after the order.
    pub(super) fn has_to_stand_still(&mut self, job: u64) {
        let by = self.state.now().saturating_add(OBEY_WITHIN);
        let attempt = self.records.get_mut(&job).and_then(|record| record.live_mut());
        let Some(attempt) = attempt.filter(|attempt| attempt.paused_since.is_some()) else { return };
        attempt.obey_by = Some(by);
        self.arm_obedience(job);
    }

    fn arm_obedience(&mut self, job: u64) {
        let Some(attempt) = self.records.get(&job).and_then(|record| record.live()) else { return };
        if let Some(by) = attempt.obey_by {
            self.timers.set(by, Timer::Obey(job, attempt.number));
        }
    }

    // What is ordered.

    fn throttle_of(&self, job: u64) -> Throttle {
        match self.work(job).map(|work| &work.phase) {
            Some(Phase::Running { placement, .. }) => placement.throttle,
            _ => Throttle::NONE,
        }
    }

    /// Whether a job is to stand still.
    pub(super) fn is_paused(&self, job: u64) -> bool {
        self.throttle_of(job).is_paused()
    }

    /// The limits of a node's chips: those of the throttled work that has them.
    pub(super) fn limits_of(&self, node: &str) -> ChipLimits {
        let Some(known) = self.nodes.get(node) else { return ChipLimits::new() };
        known.now.throttled.iter().filter_map(|job| self.limits_for(node, *job)).flatten().collect()
    }

    /// The limits of a job's chips on a node; none where it is not throttled.
    fn limits_for(&self, node: &str, job: u64) -> Option<impl Iterator<Item = (u16, u32)> + use<>> {
        let throttle = self.throttle_of(job);
        if throttle.is_none() {
            return None;
        }
        let share = self.records.get(&job)?.live()?.shares.iter().find(|share| *share.node == *node)?;
        let fleet = self.state.fleet();
        let chip = fleet.accelerator(fleet.kind(fleet.nodes[self.node_ix(node)?.ix()]))?;
        let most = chip.peak.share_up(throttle.of(&chip.power_levels)?.power);
        let watts = u32::try_from(most.get()).ok()?;
        let chips = share.chips();
        Some((0..64).filter(move |chip| chips >> chip & 1 == 1).map(move |chip| (chip, watts)))
    }

    // What is reported.

    /// A node whose chips can be limited is throttled from now on, and another no more.
    pub(super) fn take_limits(&mut self, name: &str, session: u64, said: Option<Limited>) {
        let now = self.state.now();
        let is_throttled = !self.throttled_on(name).is_empty();
        let Some(node) = self.nodes.get_mut(name) else { return };
        node.now.distrusted.take_if(|distrusted| distrusted.session != session || distrusted.until <= now);
        let fault = match &said {
            Some(limited) => limited.failed.clone(),
            // It could before, or nothing of it would be throttled.
            None => is_throttled.then(|| UNABLE.to_owned()),
        };
        node.now.limited = said;
        match fault {
            Some(reason) => self.distrust(name, reason),
            None => self.follow_limits(name),
        }
    }

    /// The node's agent did not do what it was told, and nothing more is built on it for a while.
    fn distrust(&mut self, name: &str, reason: String) {
        let until = self.state.now().saturating_add(DISTRUSTED_FOR);
        let Some(node) = self.nodes.get_mut(name) else { return };
        let session = node.now.session;
        node.now.distrusted = Some(Distrusted { session, until, reason });
        self.follow_limits(name);
        for job in self.throttled_on(name) {
            self.emit_engine(EngineEvent::JobThrottled { job: JobId(job), to: Throttle::NONE });
        }
    }

    /// Jobs with chips on a node that a limit keeps to a power level. What stands still needs none.
    fn throttled_on(&self, name: &str) -> Vec<u64> {
        let there = self.nodes.get(name).map(|node| &node.now.throttled).into_iter().flatten();
        let throttle = |job: u64| self.throttle_of(job);
        there.copied().filter(|job| !throttle(*job).is_none() && !throttle(*job).is_paused()).collect()
    }

    fn follow_limits(&mut self, name: &str) {
        let Some((at, node)) = self.node_ix(name).zip(self.nodes.get(name)) else { return };
        let able = node.now.limited.is_some() && node.now.distrusted.is_none();
        if self.has_levels(at) && able == self.state.unthrottled_nodes().contains(&at) {
            self.emit_engine(EngineEvent::NodeThrottles { node: at, able });
        }
    }

    /// Whether the chips of a node have power levels at all.
    fn has_levels(&self, at: NodeIx) -> bool {
        let fleet = self.state.fleet();
        let chip = fleet.accelerator(fleet.kind(fleet.nodes[at.ix()]));
        chip.is_some_and(|chip| !chip.power_levels.is_empty())
    }

    /// By now all agents of a job that was throttled or paused should have said so.
    pub(super) fn should_have_obeyed(&mut self, job: u64) {
        let Some(attempt) = self.records.get(&job).and_then(|record| record.live()) else { return };
        if self.is_paused(job) {
            let goes_on = |task: &Task| task.seen == Seen::Running && !task.paused;
            if attempt.steps.values().flat_map(|step| &step.tasks).any(goes_on) {
                self.stop(job, StopReason::Curtailed);
            }
            return;
        }
        let lacks = |node: &Arc<str>| {
            let set = self.nodes.get(node).and_then(|node| node.now.limited.as_ref()).map(|limited| &limited.set);
            let obeys = |(chip, most): (u16, u32)| set.and_then(|set| set.get(&chip)).is_some_and(|set| *set <= most);
            self.limits_for(node, job).is_some_and(|mut limits| !limits.all(obeys))
        };
        let slow: Vec<Arc<str>> =
            attempt.shares.iter().map(|share| &share.node).filter(|node| lacks(node)).cloned().collect();
        for node in slow {
            self.distrust(&node, "its agent did not limit them in time".to_owned());
        }
    }

    /// At which power level a job runs, in words, if not at full power.
    pub(super) fn how_throttled(&self, job: u64) -> Option<String> {
        let throttle = self.throttle_of(job);
        if throttle.is_paused() {
            return Some("paused, as power is short".to_owned());
        }
        let share = self.records.get(&job)?.live()?.shares.first()?;
        let fleet = self.state.fleet();
        let chip = fleet.accelerator(fleet.kind(fleet.nodes[self.node_ix(&share.node)?.ix()]))?;
        let level = throttle.of(&chip.power_levels)?;
        let speed = self.state.throttled_speed(JobId(job)).as_f64() * 100.0;
        Some(format!("throttled to {} as power is short: {speed:.0} % of its speed", level.name))
    }

    /// Why the power of a node's chips is not limited; none where it is, or there is nothing to limit.
    pub(super) fn why_not_limited(&self, at: NodeIx) -> Option<String> {
        let node = self.nodes.get(&self.names[at.ix()])?;
        if !self.has_levels(at) || !self.state.unthrottled_nodes().contains(&at) {
            return None;
        }
        let distrusted = node.now.distrusted.as_ref().map(|distrusted| distrusted.reason.clone());
        Some(distrusted.unwrap_or_else(|| UNABLE.to_owned()))
    }
}
