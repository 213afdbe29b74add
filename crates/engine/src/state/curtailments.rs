//! Curtailments: announced, begun, over. What one that is to come takes is kept free like what a hold keeps.

use std::collections::BTreeMap;

use offtake_units::{Duration, Timestamp, Watts};
use serde::{Deserialize, Serialize};

use super::{Phase, State};
use crate::capacity::LimitIx;
use crate::fact::{Curtailment, CurtailmentId, JobId};

/// A curtailment that is not over.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Announced {
    /// What was asked for.
    pub spec: Curtailment,
    /// Whether its time has come.
    pub begun: bool,
    /// What is drawn under its cap without any work, where that is more than it asks for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub least: Option<Watts>,
    /// When it is looked again who has to be stopped for it; at once where nobody has looked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) look_at: Option<Timestamp>,
}

/// A cap that allowed less, and allows more with each minute until it allows all of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Rising {
    /// What it allows now.
    watts: Watts,
    /// When it allows more.
    next: Timestamp,
}

/// The time from one step of a rising cap to the next.
const STEP: Duration = Duration::MINUTE;

impl State {
    /// Curtailments that are not over.
    pub const fn curtailments(&self) -> &BTreeMap<CurtailmentId, Announced> {
        &self.curtailments
    }

    /// When a curtailment begins or ends next, or somebody may have to be stopped for one, or has been paused for as long as
    /// it may be: a pass is due then.
    pub fn next_curtailment(&self) -> Option<Timestamp> {
        let due = |announced: &Announced| {
            let spec = &announced.spec;
            let ahead = [announced.look_at.filter(|_| !announced.begun), Some(spec.from), Some(spec.until)];
            ahead.into_iter().flatten().filter(|at| *at > self.now && *at != Timestamp::NEVER).min()
        };
        let rise =
            self.rising.values().map(|rising| rising.next.max(self.now.saturating_add(Duration::from_millis(1))));
        let pauses = self.pauses_end().map(|(at, _)| at).filter(|at| *at > self.now);
        self.curtailments.values().filter_map(due).chain(rise).chain(pauses).min()
    }

    pub(super) fn announce(&mut self, id: CurtailmentId, spec: &Curtailment) {
        if self.capacity.limits().get(spec.cap.ix()).is_none() || self.curtailments.contains_key(&id) {
            return;
        }
        let announced = Announced { spec: spec.clone(), begun: false, least: None, look_at: None };
        self.curtailments.insert(id, announced);
        self.capacity.foresee_cap(spec.cap, self.lowest(spec.cap));
        // They were planned with what the cap leaves without it.
        self.replan_holds(|state, held| state.capacity.is_under(held, spec.cap));
        self.holds_stale = true;
        self.keep_curtailed();
    }

    /// What curtailments that are to come take is kept free from then on.
    pub(super) fn keep_curtailed(&mut self) {
        // One that takes nothing from anybody keeps nothing.
        let takes = |spec: &Curtailment| self.capacity.limits()[spec.cap.ix()].would_bind(spec.watts);
        let ahead = self.curtailments.iter().filter(|(_, it)| !it.begun && takes(&it.spec));
        let unkept = ahead.filter(|(id, _)| self.hold_of(JobId::of_curtailment(**id)).is_none());
        let unkept: Vec<(CurtailmentId, Curtailment)> = unkept.map(|(id, it)| (*id, it.spec.clone())).collect();
        for (id, Curtailment { cap, watts, from, until, .. }) in unkept {
            let draws = |(_, work): (JobId, &super::Work)| match &work.phase {
                Phase::Running { shape, placement, ends, .. } if *ends > from => {
                    self.draw_under(cap, *shape, placement)
                }
                _ => 0,
            };
            let drawn: i64 = self.running().map(draws).sum();
            let left = self.capacity.limits()[cap.ix()].left_when_idle(watts) - drawn;
            self.keep_power(JobId::of_curtailment(id), from..until, (cap, left));
        }
    }

    /// What curtailments of a cap that are to come leave to servers is found anew.
    pub(super) fn keep_curtailed_anew(&mut self, cap: LimitIx) {
        let ahead = self.curtailments.iter_mut().filter(|(_, it)| it.spec.cap == cap && !it.begun);
        let mut kept = Vec::new();
        for (id, announced) in ahead {
            announced.look_at = None;
            kept.push(JobId::of_curtailment(*id));
        }
        kept.into_iter().for_each(|keeper| self.release_hold(keeper));
        self.keep_curtailed();
    }

    /// Work is there for longer than it was thought: who has to stop for what is to come may be others.
    pub(super) fn look_again(&mut self) {
        self.curtailments.values_mut().for_each(|announced| announced.look_at = None);
    }

    pub(super) fn begin_curtailment(&mut self, id: CurtailmentId) {
        let Some(announced) = self.curtailments.get_mut(&id) else { return };
        announced.begun = true;
        let cap = announced.spec.cap;
        self.release_hold(JobId::of_curtailment(id));
        self.heed_cap(cap);
    }

    pub(super) fn end_curtailment(&mut self, id: CurtailmentId) {
        let Some(announced) = self.curtailments.remove(&id) else { return };
        let cap = announced.spec.cap;
        self.release_hold(JobId::of_curtailment(id));
        self.capacity.foresee_cap(cap, self.lowest(cap));
        // They were planned with what it left, under a cap that may never bind from now on.
        self.replan_holds(|state, held| state.capacity.is_under(held, cap));
        self.heed_cap(cap);
        self.power_freed = true;
        // Whoever waited for what was kept free from then on may be tried.
        self.wake_under_cap(cap);
    }

    /// Whether work that was asked to have ended by an instant still has to: a curtailment of a cap under which it draws
    /// begins then, or before its own grace would be over, or later at a site that has to fall before.
    pub fn has_to_end_by(&self, job: JobId, by: Timestamp) -> bool {
        let Some(work) = self.jobs.get(&job) else { return false };
        let graced = by.saturating_add(self.policy.preemption.clone().unwrap_or_default().grace_of(&work.spec));
        self.curtailments.values().any(|announced| {
            let Curtailment { cap, from, .. } = announced.spec;
            let is_meant = by <= from && (from <= graced || self.ramp_under(cap).is_some());
            is_meant && self.drawn_by(job, cap) > Watts::ZERO
        })
    }

    /// A curtailment asks for less than is drawn without any work.
    pub(super) fn declare(&mut self, id: CurtailmentId, least: Watts) {
        if let Some(announced) = self.curtailments.get_mut(&id) {
            announced.least = Some(least);
        }
    }

    /// What a cap allows now: what it was set to, or less while it is curtailed.
    pub(crate) fn allowed(&self, cap: LimitIx) -> Watts {
        let goal = self.goal(cap);
        self.rising.get(&cap).map_or(goal, |rising| rising.watts.min(goal))
    }

    /// What it would allow if it rose at once.
    fn goal(&self, cap: LimitIx) -> Watts {
        let set = self.caps.get(&cap).copied().unwrap_or_else(|| self.fleet().caps[cap.ix()].watts);
        let begun = self.curtailments.values().filter(|announced| announced.begun && announced.spec.cap == cap);
        begun.map(|announced| announced.spec.watts).fold(set, Watts::min)
    }

    /// Caps that may allow something else than the fleet file says.
    pub(super) fn changed_caps(&self) -> impl Iterator<Item = LimitIx> {
        let curtailed = self.curtailments.values().map(|announced| announced.spec.cap);
        self.caps.keys().copied().chain(curtailed).chain(self.rising.keys().copied())
    }

    /// The least that is known to be left of a cap, by curtailments or while it rises.
    pub(super) fn lowest(&self, cap: LimitIx) -> Option<Watts> {
        let on_cap = self.curtailments.values().filter(|announced| announced.spec.cap == cap);
        let rising = self.rising.get(&cap).map(|rising| rising.watts);
        on_cap.map(|announced| announced.spec.watts).chain(rising).min()
    }

    /// A cap is to allow something else: more only step by step, where its site stands no more.
    pub(super) fn let_rise(&mut self, cap: LimitIx) {
        if self.fleet().caps.get(cap.ix()).is_none_or(|cap| cap.rise.is_none()) {
            return;
        }
        let before = self.capacity.limits()[cap.ix()].capacity();
        if self.goal(cap) > before {
            let next = self.now.saturating_add(STEP);
            self.rising.entry(cap).or_insert(Rising { watts: before, next }).watts = before;
        } else {
            self.rising.remove(&cap);
        }
        self.capacity.foresee_cap(cap, self.lowest(cap));
    }

    /// What rising caps allow by now, of those that are to allow more.
    pub(crate) fn risen(&self) -> Vec<(LimitIx, Watts)> {
        let more = |(cap, rising): (&LimitIx, &Rising)| {
            let rise = self.fleet().caps[cap.ix()].rise?;
            let steps = (self.now - rising.next).as_millis().div_euclid(STEP.as_millis()) + 1;
            let risen = rise.get().saturating_mul(steps).saturating_add(rising.watts.get());
            (steps > 0).then(|| (*cap, Watts::new(risen).min(self.goal(*cap))))
        };
        self.rising.iter().filter_map(more).collect()
    }

    pub(super) fn raise_cap(&mut self, cap: LimitIx, watts: Watts) {
        let now = self.now;
        let Some(rising) = self.rising.get_mut(&cap) else { return };
        let late = (now - rising.next).as_millis().rem_euclid(STEP.as_millis());
        *rising = Rising { watts, next: now.saturating_add(STEP - Duration::from_millis(late)) };
        if watts >= self.goal(cap) {
            self.rising.remove(&cap);
        }
        self.capacity.foresee_cap(cap, self.lowest(cap));
        self.settle_cap(cap);
    }

    /// Caps as they were set, and curtailments, of a state that has none yet.
    pub(super) fn take_in_caps(
        &mut self,
        caps: BTreeMap<LimitIx, Watts>,
        curtailments: BTreeMap<CurtailmentId, Announced>,
        rising: BTreeMap<LimitIx, Rising>,
    ) {
        (self.caps, self.curtailments, self.rising) = (caps, curtailments, rising);
        for (cap, factor) in self.cooled_caps() {
            self.capacity.set_heat(cap, factor);
        }
        let changed: Vec<LimitIx> = self.changed_caps().collect();
        for cap in changed {
            self.capacity.set_cap(cap, self.allowed(cap));
            self.capacity.foresee_cap(cap, self.lowest(cap));
        }
    }
}
