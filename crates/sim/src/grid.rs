//! Grid events: for a time a cap allows less, and what came of it.

use offtake_engine::{Event, Fact, LimitIx, State, StopReason};
use offtake_fleet::{Cap, CapKind, CapTarget, DomainIx, Fleet, Meter};
use offtake_units::{Duration, Ppm, Timestamp, Watts};

use crate::course::Course;

/// A cap that allows less for a time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GridEvent {
    /// Its name.
    pub name: String,
    /// The cap.
    pub cap: LimitIx,
    /// From when.
    pub at: Timestamp,
    /// Until when.
    pub until: Timestamp,
    /// How far it goes.
    pub cut: Cut,
}

/// How far a grid event goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cut {
    /// The cap allows so much.
    To(Watts),
    /// It allows this share less than is drawn when the event begins.
    By(Ppm),
}

/// What came of a grid event.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct GridOutcome {
    /// What was drawn when it began.
    pub before: Watts,
    /// What was allowed.
    pub target: Watts,
    /// What is drawn without any work, where that is more: the target could not be met.
    pub least: Option<Watts>,
    /// When no more was drawn than was allowed.
    pub met: Option<Timestamp>,
    /// For how long more was drawn than allowed.
    pub over: Duration,
    /// The most that was drawn after it was met.
    pub held_at: Watts,
    /// Work that gave way.
    pub stopped: u64,
}

/// A cap on a domain that does not bind until it is set; gives its place.
pub(crate) fn add_cap(fleet: &mut Fleet, domain: DomainIx, meter: Meter, name: &str) -> LimitIx {
    let site = &fleet.sites[fleet.domains[domain.ix()].site.ix()];
    let factor = if meter == Meter::It { Ppm::ONE } else { site.pue };
    let nodes = fleet.domains[domain.ix()].nodes.clone();
    let most = |node: u32| {
        let kind = fleet.kind(fleet.nodes[node as usize]);
        let chip = fleet.accelerator(kind).map_or(Watts::ZERO, |chip| chip.peak);
        (kind.base + chip.times(kind.chips.into())).share_up(factor)
    };
    let watts = nodes.map(most).fold(Watts::ZERO, |all, node| all + node);
    fleet.caps.push(Cap {
        name: name.to_owned(),
        target: CapTarget::Domain(domain),
        watts,
        meter,
        kind: CapKind::Contract,
    });
    LimitIx(fleet.caps.len() as u32 - 1)
}

/// The grid events of a run, and what has come of them so far.
#[derive(Debug)]
pub(crate) struct Grid<'a> {
    /// In the order in which they begin.
    events: &'a [GridEvent],
    outcomes: Vec<GridOutcome>,
    /// How many have begun.
    begun: usize,
    /// Those that are not over.
    open: Vec<usize>,
    /// Since when what is drawn is as it is.
    since: Timestamp,
}

impl<'a> Grid<'a> {
    pub fn new(events: &'a [GridEvent], start: Timestamp) -> Self {
        Self { events, outcomes: Vec::new(), begun: 0, open: Vec::new(), since: start }
    }

    /// When an event begins or ends next.
    pub fn next(&self) -> Option<Timestamp> {
        let ends = self.open.iter().map(|event| self.events[*event].until);
        self.events.get(self.begun).map(|event| event.at).into_iter().chain(ends).min()
    }

    /// Caps are set for events that begin, and set back for those that are over.
    pub fn happen(&mut self, now: Timestamp, course: &mut Course) {
        self.measure(now, &course.state);
        self.open.retain(|event| {
            let event = &self.events[*event];
            if event.until <= now {
                let watts = course.state.fleet().caps[event.cap.ix()].watts;
                course.tell(now, Event::CapSet { cap: event.cap, watts });
            }
            event.until > now
        });
        while let Some(event) = self.events.get(self.begun).filter(|event| event.at <= now) {
            let before = course.state.capacity().limits()[event.cap.ix()].load();
            let target = match event.cut {
                Cut::To(watts) => watts,
                Cut::By(share) => before - before.share_up(share),
            };
            self.open.push(self.begun);
            self.begun += 1;
            self.outcomes.push(GridOutcome { before, target, ..GridOutcome::default() });
            course.tell(now, Event::CapSet { cap: event.cap, watts: target });
        }
    }

    /// Takes note of what a pass decided, and of what is drawn since.
    pub fn heed(&mut self, now: Timestamp, course: &Course) {
        for Fact { event, .. } in &course.decided {
            match event {
                Event::JobStopping { reason: StopReason::Curtailed, .. } => {
                    self.open.iter().for_each(|open| self.outcomes[*open].stopped += 1);
                }
                Event::CurtailmentUnmet { cap, least } => {
                    let of = self.open.iter().filter(|open| self.events[**open].cap == *cap);
                    of.for_each(|open| self.outcomes[*open].least = Some(*least));
                }
                _ => {}
            }
        }
        self.measure(now, &course.state);
    }

    /// What the run found.
    pub fn finish(mut self, end: Timestamp, state: &State) -> Vec<GridOutcome> {
        self.measure(end, state);
        self.outcomes
    }

    /// What is drawn has been drawn since it was measured last.
    fn measure(&mut self, now: Timestamp, state: &State) {
        let since = std::mem::replace(&mut self.since, now);
        for open in &self.open {
            let outcome = &mut self.outcomes[*open];
            let load = state.capacity().limits()[self.events[*open].cap.ix()].load();
            if load > outcome.target {
                outcome.over += now - since;
            } else {
                outcome.met = outcome.met.or(Some(now));
                outcome.held_at = outcome.held_at.max(load);
            }
        }
    }
}
