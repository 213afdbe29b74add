//! Power limits: what the chips of throttled work may draw at most, and whether their agents keep to it.
//!
//! A node whose agent does not say that a limit is in force in time is not relied on: what is throttled there counts at
//! full power again, upon which the engine stops it, or something else.

use std::sync::Arc;

use offtake_engine::{Event as EngineEvent, JobId, Phase, Throttle, ends_at};
use offtake_fleet::NodeIx;
use offtake_protocol::agent::{ChipLimits, Limited};
use offtake_units::{Duration, Ppm, Timestamp};

use super::Core;
use super::records::Attempt;
use super::timers::Timer;

/// How long agents have to limit the chips of a job that is throttled. Half of the notice of an event that has none
/// remains for its stop.
const OBEY_WITHIN: Duration = Duration::from_secs(5);

impl Core {
    // The fold.

    /// A job goes at another speed: its limit of time moves, and its agents get other orders.
    pub(super) fn note_throttled(&mut self, at: Timestamp, job: JobId, to: Throttle) {
        let speed = self.state.throttled_speed(job);
        let Some(attempt) = self.records.get_mut(&job.0).and_then(|record| record.live_mut()) else { return };
        let before = attempt.speed.replace(speed).unwrap_or(Ppm::ONE);
        attempt.limit_at = attempt.limit_at.map(|limit| ends_at(at, limit, before, speed));
        attempt.obey_by = (!to.is_none()).then(|| at.saturating_add(OBEY_WITHIN));
        self.arm_limit(job.0);
        self.arm_obedience(job.0);
        self.touch_nodes_of(job.0);
    }

    /// Agents of throttled work have a whole lease after a restart of the server, as for anything else.
    pub(super) fn recall_throttled(&mut self, job: u64) {
        let by = self.state.now().saturating_add(self.settings.lease.max(OBEY_WITHIN));
        let throttle = self.throttle_of(job);
        let Some(attempt) = self.records.get_mut(&job).and_then(|record| record.live_mut()) else { return };
        attempt.obey_by = (!throttle.is_none()).then_some(by);
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

    /// The limits of a node's chips: those of the throttled work that has them.
    pub(super) fn limits_of(&self, node: &str) -> ChipLimits {
        let Some(known) = self.nodes.get(node) else { return ChipLimits::new() };
        let mut jobs: Vec<u64> = known.now.tasks.keys().map(|task| task.job).collect();
        jobs.dedup();
        jobs.into_iter().filter_map(|job| self.limits_for(node, job)).flatten().collect()
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
    pub(super) fn take_limits(&mut self, name: &str, said: Option<Limited>) {
        let ordered = self.limits_of(name);
        let Some(node) = self.nodes.get_mut(name) else { return };
        // An agent that was silent and now has what is ordered is as good as any.
        if said.as_ref().is_some_and(|limited| limited.failed.is_none() && limited.set == ordered) {
            node.now.distrusted = None;
        }
        let failed = said.as_ref().and_then(|limited| limited.failed.clone());
        node.now.limited = said;
        match failed {
            Some(reason) => self.distrust(name, reason),
            None => self.follow_limits(name),
        }
    }

    /// The node's agent did not do what it was told, and nothing more is built on it until it does.
    fn distrust(&mut self, name: &str, reason: String) {
        let Some(node) = self.nodes.get_mut(name) else { return };
        node.now.distrusted.get_or_insert(reason);
        self.follow_limits(name);
        let has_it = |attempt: &Attempt| attempt.shares.iter().any(|share| *share.node == *name);
        let is_there = |job: &&JobId| self.records.get(&job.0).and_then(|record| record.live()).is_some_and(has_it);
        let there: Vec<JobId> = self.state.throttled().iter().filter(is_there).copied().collect();
        for job in there {
            self.emit_engine(EngineEvent::JobThrottled { job, to: Throttle::NONE });
        }
    }

    fn follow_limits(&mut self, name: &str) {
        let Some((at, node)) = self.node_ix(name).zip(self.nodes.get(name)) else { return };
        let able = node.now.limited.is_some() && node.now.distrusted.is_none();
        let fleet = self.state.fleet();
        let chip = fleet.accelerator(fleet.kind(fleet.nodes[at.ix()]));
        let has_levels = chip.is_some_and(|chip| !chip.power_levels.is_empty());
        if has_levels && able == self.state.unthrottled_nodes().contains(&at) {
            self.emit_engine(EngineEvent::NodeThrottles { node: at, able });
        }
    }

    /// By now all agents of a job that was throttled should have said so.
    pub(super) fn should_have_obeyed(&mut self, job: u64) {
        let Some(attempt) = self.records.get(&job).and_then(|record| record.live()) else { return };
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
        if !self.state.unthrottled_nodes().contains(&at) {
            return None;
        }
        Some(node.now.distrusted.clone().unwrap_or_else(|| "its agent cannot limit them".to_owned()))
    }
}
