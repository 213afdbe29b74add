//! How fast the draw of sites with ramps changed, as their ramps count.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use offtake_engine::{Event, Fact, JobId, RampCourse, State};
use offtake_fleet::SiteIx;
use offtake_units::{Timestamp, Watts};

/// Changes are also looked at over so many seconds.
const SPAN_S: i64 = 60;

/// What a site with a ramp showed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RampOutcome {
    /// The most that was taken on at one instant.
    pub step_up: Watts,
    /// The most that was given back at one instant.
    pub step_down: Watts,
    /// The most by which the draw rose in a minute.
    pub minute_up: Watts,
    /// The most by which it fell in a minute.
    pub minute_down: Watts,
    /// The largest job: what would have vanished had it stopped.
    pub largest: Watts,
    /// The most that would have fallen away and returned if all work ever did so at once.
    pub swing: Watts,
    /// Starts that waited for nothing but the ramp.
    pub waited: u64,
}

/// The draw within a second.
#[derive(Clone, Copy, Debug)]
struct Second {
    number: i64,
    least: Watts,
    most: Watts,
    last: Watts,
}

#[derive(Debug, Default)]
struct Site {
    before: RampCourse,
    /// What was taken on and given back at the last instant.
    now: (Timestamp, Watts, Watts),
    /// The last minute, and the last second before it.
    minute: VecDeque<Second>,
    outcome: RampOutcome,
}

/// All sites with ramps.
#[derive(Debug, Default)]
pub(crate) struct Ramps {
    sites: BTreeMap<SiteIx, Site>,
    waiting: BTreeSet<JobId>,
}

impl Ramps {
    /// Takes note of what was decided at an instant, and of what is drawn then.
    pub fn observe(&mut self, now: Timestamp, state: &State, decided: &[Fact]) {
        for (ix, course) in state.ramp_courses() {
            self.sites.entry(ix).or_default().see(now, course);
        }
        if self.sites.is_empty() {
            return;
        }
        for fact in decided {
            let Event::JobPlaced { job, .. } = &fact.event else { continue };
            for (site, step) in state.steps_of(*job) {
                let Some(site) = self.sites.get_mut(&site) else { continue };
                site.outcome.largest = site.outcome.largest.max(step);
                site.outcome.waited += u64::from(self.waiting.contains(job));
            }
        }
        self.waiting = state.kept_by_ramps().collect();
    }

    /// What each site showed.
    pub fn finish(self) -> Vec<(SiteIx, RampOutcome)> {
        self.sites.into_iter().map(|(ix, site)| (ix, site.outcome)).collect()
    }
}

impl Site {
    fn see(&mut self, now: Timestamp, course: RampCourse) {
        let (up, down) = (course.risen - self.before.risen, course.fallen - self.before.fallen);
        let before = std::mem::replace(&mut self.before, course);
        self.now = if self.now.0 == now { (now, self.now.1 + up, self.now.2 + down) } else { (now, up, down) };
        let outcome = &mut self.outcome;
        outcome.step_up = outcome.step_up.max(self.now.1);
        outcome.step_down = outcome.step_down.max(self.now.2);
        outcome.swing = outcome.swing.max(course.swing);
        let number = now.as_millis().div_euclid(1000);
        if self.minute.back().is_none_or(|last| last.number < number) {
            self.minute.push_back(Second { number, least: before.drawn, most: before.drawn, last: before.drawn });
        }
        if let Some(second) = self.minute.back_mut() {
            second.least = second.least.min(course.drawn);
            second.most = second.most.max(course.drawn);
            second.last = course.drawn;
        }
        let start = number - SPAN_S;
        while self.minute.get(1).is_some_and(|next| next.number <= start) {
            self.minute.pop_front();
        }
        for second in &self.minute {
            // Of what was before, the draw with which the minute began.
            let is_before = second.number < start;
            let (least, most) = if is_before { (second.last, second.last) } else { (second.least, second.most) };
            outcome.minute_up = outcome.minute_up.max(course.drawn - least);
            outcome.minute_down = outcome.minute_down.max(most - course.drawn);
        }
    }
}
