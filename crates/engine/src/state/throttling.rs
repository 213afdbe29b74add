//! Running work at lower power levels of its chips.

use std::collections::BTreeSet;
use std::sync::Arc;

use offtake_fleet::NodeIx;
use offtake_units::{Duration, Ppm, Timestamp};
use offtake_workload::ChipRequest;

use super::{Phase, State, Work};
use crate::capacity::{Feed, LimitIx};
use crate::fact::JobId;
use crate::request::Request;
use crate::throttle::{Throttle, ends_at};

/// Power that is kept for what begins so soon is not given back to throttled work before.
const SOON: Duration = Duration::MINUTE;

impl State {
    /// Running work that is throttled.
    pub const fn throttled(&self) -> &BTreeSet<JobId> {
        &self.throttled
    }

    /// Nodes whose chips cannot be kept to a power level.
    pub const fn unthrottled_nodes(&self) -> &BTreeSet<NodeIx> {
        &self.unthrottled
    }

    /// The share of its speed that the power level of a job's chips leaves it; all of one that does not run.
    pub fn throttled_speed(&self, job: JobId) -> Ppm {
        match self.jobs.get(&job).map(|work| &work.phase) {
            Some(Phase::Running { placement, .. }) => placement.throttled_speed(self.fleet()),
            _ => Ppm::ONE,
        }
    }

    pub(super) fn set_throttles(&mut self, node: NodeIx, able: bool) {
        if able {
            self.unthrottled.remove(&node);
        } else if node.ix() < self.fleet().nodes.len() {
            self.unthrottled.insert(node);
        }
    }

    /// The chips of a running job work at another power level: it draws another power, and ends at another time.
    pub(super) fn throttle(&mut self, job: JobId, to: Throttle) {
        let now = self.now;
        let fleet = Arc::clone(self.fleet());
        let Some(work) = self.jobs.get_mut(&job) else { return };
        let Phase::Running { shape, placement, ends, stage, .. } = &mut work.phase else { return };
        // Chips that turn out not to be throttled draw more also while their work is being stopped.
        if placement.throttle == to || (stage.is_stopping() && to > placement.throttle) {
            return;
        }
        let (shape, before, ended) = (*shape, Arc::clone(placement), *ends);
        let after = Arc::new(before.throttled(to));
        *placement = Arc::clone(&after);
        if !stage.is_stopping() {
            *ends = ends_at(now, ended, before.throttled_speed(&fleet), after.throttled_speed(&fleet));
        }
        let ends = *ends;
        self.outlast(shape, &before, |start| ended > start, false);
        let breaches = self.capacity.breaches();
        let request = Arc::clone(&self.shapes[shape.ix()]);
        for (gang, slots) in request.gangs.iter().zip(&before.gangs) {
            for slot in slots {
                let take = gang.take(slot.workers, slot.chips).at(before.throttle);
                self.capacity.throttle(slot.nodes.numbers(), &take, to);
            }
        }
        self.rise_from(shape, &before, &after);
        self.outlast(shape, &after, |start| ends > start, true);
        if to.is_none() {
            self.throttled.remove(&job)
        } else {
            self.throttled.insert(job)
        };
        if ended != Timestamp::NEVER {
            self.ends.remove(&(ended, job));
            self.ends.insert((ends, job));
        }
        self.look_again();
        if to > before.throttle {
            self.wake_on(&after);
        } else if after.slots().any(|slot| slot.nodes.numbers().any(|node| self.unthrottled.contains(&NodeIx(node)))) {
            // Nobody decided that it draws more: its chips cannot be kept to what was decided. Somebody gives way for it.
            self.capacity.accept(breaches);
            self.draw_of(shape, &after).into_keys().for_each(|limit| self.note_lowered(limit));
        }
    }

    /// How much further the chips of running work can be throttled: each step with the speed that it leaves of that at
    /// full power, and when the work ends then.
    pub(crate) fn throttle_steps(&self, work: &Work) -> Vec<(Throttle, Ppm, Timestamp)> {
        let Phase::Running { shape, placement, since, ends, stage, .. } = &work.phase else { return Vec::new() };
        let curves = placement.curves(self.fleet());
        let most = curves.iter().map(|levels| levels.len().saturating_sub(1)).max().unwrap_or_default();
        let shares = |gang: &Request| matches!(gang.chips, ChipRequest::Share(_));
        let is_fixed = |node: u32| self.unthrottled.contains(&NodeIx(node));
        if stage.is_stopping()
            || most <= usize::from(placement.throttle.0)
            || self.shapes[shape.ix()].gangs.iter().any(shares)
            || !self.unthrottled.is_empty() && placement.slots().flat_map(|slot| slot.nodes.numbers()).any(is_fixed)
        {
            return Vec::new();
        }
        let own = self.window_of(&work.spec);
        let windows = || self.holds.iter().filter(|hold| hold.job.is_window() && Some(hold.job) != own);
        // What is expected of it may be less than it may take.
        let latest = if work.planned.is_some() { work.latest_end(*since).max(*ends) } else { *ends };
        let speed = placement.throttle.speed(&curves);
        let runs_into_one = |to: &Throttle| {
            let until = ends_at(self.now, latest, speed, to.speed(&curves));
            windows().any(|hold| *ends <= hold.start && hold.start < until && hold.meets(placement))
        };
        let steps = (placement.throttle.0 + 1..=u8::try_from(most).unwrap_or(u8::MAX)).map(Throttle);
        let steps = steps.filter(|to| !runs_into_one(to));
        steps.map(|to| (to, to.speed(&curves), ends_at(self.now, *ends, speed, to.speed(&curves)))).collect()
    }

    /// How much less a throttled job may be throttled, so that no cap is exceeded and nothing that is kept is used up;
    /// none where not at all.
    pub(crate) fn restorable(&self, job: JobId) -> Option<Throttle> {
        let Phase::Running { shape, placement, ends, stage, .. } = &self.jobs.get(&job)?.phase else { return None };
        let limits = self.capacity.limits();
        if stage.is_stopping() {
            return None;
        }
        // What its first node alone would draw more: mostly that is too much already.
        let slot = placement.slots().next()?;
        let node = self.fleet().nodes[slot.nodes.first.ix()];
        let at = |throttle| self.capacity.chip_draw_at(node.kind, throttle);
        let more = at(Throttle(placement.throttle.0.checked_sub(1)?)).beyond(at(placement.throttle));
        let more = more.times(slot.chips.count_ones());
        let is_too_much = |feed: &Feed| {
            let limit = &limits[feed.limit.ix()];
            let more = limit.counted(more).get() * i64::from(feed.factor.parts());
            more > 0 && more > limit.left_micro() && limit.can_bind()
        };
        if self.capacity.around(node.domain).iter().any(is_too_much) {
            return None;
        }
        let keeps = |hold: &&super::Hold| {
            // Where power has to fall slowly, some may have been given back long before.
            let falls = hold.leaves().map(|(cap, _)| self.longest_fall(cap)).max().unwrap_or_default();
            let is_soon = hold.start <= self.now.saturating_add(SOON + falls);
            hold.start < *ends && (hold.job.curtailment().is_none() || is_soon)
        };
        let holds = || self.holds.iter().filter(keeps);
        let left = |limit: LimitIx| {
            let kept = holds().flat_map(super::Hold::leaves).filter(|(of, _)| *of == limit).map(|(_, left)| left);
            kept.fold(limits[limit.ix()].left_micro(), i64::min)
        };
        let drawn = self.draw_of(*shape, placement);
        (0..placement.throttle.0).map(Throttle).find(|to| {
            let draw = self.draw_of(*shape, &placement.throttled(*to));
            draw.into_iter().all(|(limit, draw)| {
                let more = draw - drawn.get(&limit).copied().unwrap_or_default();
                more <= 0 || more <= left(limit)
            })
        })
    }
}
