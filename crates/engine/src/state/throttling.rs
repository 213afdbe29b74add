//! Running work at lower power levels of its chips.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use offtake_fleet::NodeIx;
use offtake_units::{Duration, Ppm, Timestamp};
use offtake_workload::ChipRequest;

use super::{Hold, Phase, State, Work};
use crate::capacity::{Feed, LimitIx};
use crate::fact::{JobId, Placement};
use crate::place::ShapeIx;
use crate::throttle::{Pace, Throttle, ends_at};

/// Power that is kept for what begins so soon is not given back to throttled work before.
const SOON: Duration = Duration::MINUTE;

impl State {
    /// Running work that is throttled or paused.
    pub const fn throttled(&self) -> &BTreeSet<JobId> {
        &self.throttled
    }

    /// Since when running work is paused, the paused alone.
    pub const fn paused(&self) -> &BTreeMap<JobId, Timestamp> {
        &self.paused
    }

    /// When paused work has stood still for as long as it may, and is stopped.
    pub(crate) fn pauses_end(&self) -> impl Iterator<Item = (Timestamp, JobId)> + '_ {
        self.paused.iter().filter_map(|(job, since)| {
            let work = self.jobs.get(job)?;
            let longest = work.spec.pause.filter(|_| !self.stopping.contains(job))?;
            Some((since.saturating_add(longest), *job))
        })
    }

    /// How a job goes on with its chips throttled so far, whatever the number of its workers.
    fn pace(&self, job: JobId, placement: &Placement) -> Pace {
        if !placement.throttle.is_paused() {
            return Pace::At(placement.throttled_speed(self.fleet()));
        }
        let longest = self.jobs.get(&job).and_then(|work| work.spec.pause).unwrap_or_default();
        Pace::Paused { since: self.paused.get(&job).copied().unwrap_or(self.now), longest }
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
        let Some(work) = self.jobs.get(&job) else { return };
        let Phase::Running { shape, placement, ends, stage, .. } = &work.phase else { return };
        // Chips that turn out not to be throttled draw more also while their work is being stopped.
        if placement.throttle == to || (stage.is_stopping() && to > placement.throttle) {
            return;
        }
        let (shape, before, ended, is_stopping) = (*shape, Arc::clone(placement), *ends, stage.is_stopping());
        let after = Arc::new(before.throttled(to));
        let pace = self.pace(job, &before);
        match to.is_paused() {
            true => self.paused.insert(job, now),
            false => self.paused.remove(&job),
        };
        let ends = if is_stopping { ended } else { ends_at(now, ended, pace, self.pace(job, &after)) };
        if let Some(Phase::Running { placement, ends: end, .. }) = self.jobs.get_mut(&job).map(|work| &mut work.phase) {
            (*placement, *end) = (Arc::clone(&after), ends);
        }
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
        let Phase::Running { shape, placement, ends, stage, .. } = &work.phase else { return Vec::new() };
        let curves = placement.curves(self.fleet());
        let most = curves.iter().map(|levels| levels.len().saturating_sub(1)).max().unwrap_or_default();
        if stage.is_stopping()
            || most <= usize::from(placement.throttle.0)
            || self.shares_chips(*shape)
            || self.is_fixed(placement)
        {
            return Vec::new();
        }
        let speed = placement.throttle.speed(&curves);
        let at = |ends, to: Throttle| ends_at(self.now, ends, Pace::At(speed), Pace::At(to.speed(&curves)));
        let steps = (placement.throttle.0 + 1..=u8::try_from(most).unwrap_or(u8::MAX)).map(Throttle);
        let steps = steps.filter(|to| !self.runs_into_window(work, |latest| at(latest, *to)));
        steps.map(|to| (to, to.speed(&curves), at(*ends, to))).collect()
    }

    /// The step from there to a pause, which is to last so long; none where the work does not stand that.
    pub(crate) fn pause_step(&self, work: &Work, lasts: Duration) -> Option<(Throttle, Ppm, Timestamp)> {
        let Phase::Running { shape, placement, ends, stage, .. } = &work.phase else { return None };
        let longest = work.spec.pause.filter(|longest| lasts <= *longest)?;
        if stage.is_stopping() || placement.throttle.is_paused() || self.shares_chips(*shape) {
            return None;
        }
        let before = Pace::At(placement.throttled_speed(self.fleet()));
        let paused = |ends| ends_at(self.now, ends, before, Pace::Paused { since: self.now, longest });
        let runs_into_window = self.runs_into_window(work, paused);
        (!runs_into_window).then(|| (Throttle::PAUSED, Ppm::ZERO, paused(*ends)))
    }

    fn shares_chips(&self, shape: ShapeIx) -> bool {
        self.shapes[shape.ix()].gangs.iter().any(|gang| matches!(gang.chips, ChipRequest::Share(_)))
    }

    /// Whether chips of a placement cannot be kept to a power level.
    fn is_fixed(&self, placement: &Placement) -> bool {
        let is_fixed = |node: u32| self.unthrottled.contains(&NodeIx(node));
        !self.unthrottled.is_empty() && placement.slots().flat_map(|slot| slot.nodes.numbers()).any(is_fixed)
    }

    /// Whether running work that is to end later would still be there when somebody else's window begins on its nodes.
    fn runs_into_window(&self, work: &Work, later: impl Fn(Timestamp) -> Timestamp) -> bool {
        let Phase::Running { placement, since, ends, .. } = &work.phase else { return false };
        let own = self.window_of(&work.spec);
        // What is expected of it may be less than it may take.
        let latest = if work.planned.is_some() { work.latest_end(*since).max(*ends) } else { *ends };
        let until = later(latest);
        let meets = |hold: &Hold| *ends <= hold.start && hold.start < until && hold.meets(placement);
        self.holds.iter().any(|hold| hold.job.is_window() && Some(hold.job) != own && meets(hold))
    }

    /// How much less a throttled job may be throttled, so that no cap is exceeded and nothing that is kept is used up;
    /// none where not at all.
    pub(crate) fn restorable(&self, job: JobId) -> Option<(Throttle, Throttle)> {
        let Phase::Running { shape, placement, ends, stage, .. } = &self.jobs.get(&job)?.phase else { return None };
        let limits = self.capacity.limits();
        if stage.is_stopping() {
            return None;
        }
        // Whoever is paused may go on at any power level that its chips can be kept to.
        let above = if placement.throttle.is_paused() {
            let levels = placement.curves(self.fleet()).iter().map(|levels| levels.len()).max().unwrap_or_default();
            if self.is_fixed(placement) { 1 } else { u8::try_from(levels.max(1)).unwrap_or(u8::MAX) }
        } else {
            placement.throttle.0
        };
        // What its first node alone would draw more: mostly that is too much already.
        let slot = placement.slots().next()?;
        let node = self.fleet().nodes[slot.nodes.first.ix()];
        let at = |throttle| self.capacity.chip_draw_at(node.kind, throttle);
        let more = at(Throttle(above.checked_sub(1)?)).beyond(at(placement.throttle));
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
            let falls = hold.leaves().map(|(cap, _)| self.longest_fall(cap, Some(job))).max().unwrap_or_default();
            let is_soon = hold.start <= self.now.saturating_add(SOON + falls);
            hold.start < *ends && (hold.job.curtailment().is_none() || is_soon)
        };
        let holds = || self.holds.iter().filter(keeps);
        let left = |limit: LimitIx| {
            let kept = holds().flat_map(super::Hold::leaves).filter(|(of, _)| *of == limit).map(|(_, left)| left);
            kept.fold(limits[limit.ix()].left_micro(), i64::min)
        };
        let drawn = self.draw_of(*shape, placement);
        let found = (0..above).map(Throttle).find(|to| {
            let draw = self.draw_of(*shape, &placement.throttled(*to));
            draw.into_iter().all(|(limit, draw)| {
                let more = draw - drawn.get(&limit).copied().unwrap_or_default();
                more <= 0 || more <= left(limit)
            })
        });
        found.map(|to| (to, Throttle(above)))
    }
}
