//! Grid events: for a time a cap allows less, and what came of it.

use std::collections::BTreeMap;
use std::sync::Arc;

use offtake_engine::{
    ChipTime, Curtailment, CurtailmentId, Event, Fact, JobId, LEAST_NOTICE, LimitIx, Phase, Stage, State, StopReason,
    Throttle, Work,
};
use offtake_fleet::{AcceleratorKindIx, Cap, CapKind, CapTarget, DomainIx, Fleet, Meter};
use offtake_units::{Duration, Energy, Ppm, Timestamp, Watts};
use offtake_workload::{Job, Tier};

use crate::course::Course;
use crate::weather::{Weather, lead};

/// A cap that allows less for a time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GridEvent {
    /// Its name.
    pub name: String,
    /// The cap.
    pub cap: LimitIx,
    /// When everybody learns of it.
    pub announced: Timestamp,
    /// By when no more is drawn. Sooner than [`LEAST_NOTICE`] after everybody learned of it is too soon for who has to stop.
    pub at: Timestamp,
    /// Until when.
    pub until: Timestamp,
    /// How far it goes.
    pub cut: Cut,
    /// The grid programme that calls it, by its place in the fleet; none where nobody pays for it.
    pub programme: Option<usize>,
}

impl GridEvent {
    /// How long each span of its course is; rounded up.
    pub fn span(&self) -> Duration {
        let told = (self.until - self.announced).as_millis();
        Duration::from_millis(((told + told / 4 + SPANS - 1) / SPANS).max(1))
    }

    /// When all that has to stop for it is gone at the earliest.
    fn met_from(&self) -> Timestamp {
        self.announced.saturating_add(LEAST_NOTICE)
    }

    /// When nobody looks any more at what is drawn.
    fn closes(&self) -> Timestamp {
        self.announced.saturating_add(Duration::from_millis(self.span().as_millis().saturating_mul(SPANS)))
    }
}

/// How far a grid event goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cut {
    /// The cap allows so much.
    To(Watts),
    /// It allows this share less than is drawn when the event is announced.
    By(Ppm),
    /// It allows so much less than is drawn when the event is announced.
    Less(Watts),
}

/// Spans of equal length into which the course of an event is divided, from its announcement until it has been over for a
/// quarter of that time.
const SPANS: i64 = 160;

/// What came of a grid event.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GridOutcome {
    /// What was drawn when it was announced: of a cap at the grid connection, from the utility.
    pub before: Watts,
    /// What was allowed.
    pub target: Watts,
    /// What is drawn without any work, where that is more, and when that was declared.
    pub least: Option<(Watts, Timestamp)>,
    /// What is drawn without any work while cooling that runs on has not followed, where that is more, and until when.
    pub runs_on: Option<(Watts, Timestamp)>,
    /// When no more was drawn than was allowed, or than can be had.
    pub met: Option<Timestamp>,
    /// For how long after it was to be met more was drawn than was allowed, or than can be had.
    pub over: Duration,
    /// The most that was drawn after it was to be met.
    pub drawn: Watts,
    /// What was drawn less while it held than when it was announced.
    pub given_back: Energy,
    /// How often work was throttled further, pauses aside.
    pub throttled: u64,
    /// How often work was paused where it was.
    pub paused: u64,
    /// Work that gave way.
    pub stopped: u64,
    /// All work that gave power back, and what it lost by that.
    pub touched: BTreeMap<JobId, Touched>,
    /// What throttled work lost less, were its power levels a tenth faster, and what more, were they a tenth slower.
    pub if_levels_are_off: (ChipTime, ChipTime),
    /// Reserved work that gave way, stopped or paused, while weaker work went on that could have given way in its place.
    pub reserved_stopped: u64,
    /// The most that was drawn in each span of its course.
    pub course: Vec<Watts>,
}

/// Work that gave power back to a grid event.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Touched {
    /// What was asked for.
    pub spec: Arc<Job>,
    /// The kind of its first chip.
    pub chip: Option<AcceleratorKindIx>,
    /// The lowest power level that its chips went down to; pauses aside.
    pub throttle: Throttle,
    /// How often it was paused.
    pub pauses: u32,
    /// How often it was stopped.
    pub stops: u32,
    /// Chip-time that it lost while the event lasted: at the speed that was missing, or waiting; and what it had to do
    /// again.
    pub lost: ChipTime,
}

/// Work that runs slower than it could for an event, or waits for it to be over.
#[derive(Clone, Copy, Debug)]
struct Lacking {
    event: usize,
    since: Timestamp,
    /// The share of its speed that is missing.
    speed: Ppm,
    /// Whether it was stopped, rather than go on slower or stand still.
    stopped: bool,
    chip_milli: u64,
}

impl GridOutcome {
    /// What can be drawn at best: what was allowed, or what idle nodes draw.
    pub fn goal(&self) -> Watts {
        self.least.map_or(self.target, |(least, _)| least.max(self.target))
    }

    /// The same at an instant, as cooling still runs on.
    fn goal_at(&self, at: Timestamp) -> Watts {
        let runs_on = self.runs_on.filter(|(_, until)| at < *until);
        runs_on.map_or(self.goal(), |(least, _)| least.max(self.goal()))
    }
}

/// A cap on a domain that does not bind until it is set; gives its place.
pub(crate) fn add_cap(fleet: &mut Fleet, domain: DomainIx, meter: Meter, name: &str) -> LimitIx {
    let mut cap = Cap {
        name: name.to_owned(),
        target: CapTarget::Domain(domain),
        watts: Watts::ZERO,
        meter,
        kind: CapKind::Contract,
        derating: Vec::new(),
        rise: None,
        schedule: None,
    };
    let factor = fleet.counted_per_watt(&cap, domain);
    let nodes = fleet.domains[domain.ix()].nodes.clone();
    let most = |node: u32| {
        let kind = fleet.kind(fleet.nodes[node as usize]);
        let chip = fleet.accelerator(kind).map_or(Watts::ZERO, |chip| chip.peak);
        (kind.base + chip.times(kind.chips.into())).share_up(factor)
    };
    let watts = nodes.map(most).fold(Watts::ZERO, |all, node| all + node);
    cap.watts = fleet.cooling_under(&cap).map_or(watts, |cooling| cooling.facility(watts, cooling.factor(None)));
    fleet.caps.push(cap);
    LimitIx(fleet.caps.len() as u32 - 1)
}

/// The grid events of a run, and what has come of them so far.
#[derive(Debug)]
pub(crate) struct Grid<'a> {
    /// In the order in which they are announced.
    events: &'a [GridEvent],
    /// How long before each event servers have to draw less for it, as cooling follows them.
    leads: Vec<Duration>,
    outcomes: Vec<GridOutcome>,
    /// Those that were announced, until nobody looks any more.
    open: Vec<usize>,
    /// Reserved work that gave way to an event whose time has not come: when, and what it drew.
    reserved: Vec<(usize, Timestamp, Watts)>,
    /// Work that lacks power for an event.
    lacking: BTreeMap<JobId, Lacking>,
    /// The power levels of work that is throttled.
    levels: BTreeMap<JobId, Throttle>,
    /// Since when what is drawn is as it is.
    since: Timestamp,
}

impl<'a> Grid<'a> {
    pub fn new(events: &'a [GridEvent], fleet: &Fleet, start: Timestamp) -> Self {
        let leads = events.iter().map(|event| lead(fleet, event.cap)).collect();
        let (outcomes, open, reserved) = (Vec::new(), Vec::new(), Vec::new());
        let (lacking, levels) = (BTreeMap::new(), BTreeMap::new());
        Self { events, leads, outcomes, open, reserved, lacking, levels, since: start }
    }

    /// When an event is announced, has to be met, or is over next.
    pub fn next(&self) -> Option<Timestamp> {
        let open = self.open.iter().flat_map(|event| [self.events[*event].at, self.events[*event].until]);
        let ahead = self.events.get(self.outcomes.len()).map(|event| event.announced);
        open.filter(|at| *at > self.since).chain(ahead).min()
    }

    /// Events are announced.
    pub fn happen(&mut self, now: Timestamp, weather: &mut Weather<'_>, course: &mut Course) {
        self.measure(now, course);
        self.open.retain(|event| self.events[*event].closes() > now);
        while let Some(event) = self.events.get(self.outcomes.len()).filter(|event| event.announced <= now) {
            // Who gives it is another matter: off the grid less is asked of what will be drawn from it again.
            let load = course.state.metered(event.cap);
            let watts = match event.cut {
                Cut::To(watts) => watts,
                Cut::By(share) => load - load.share_up(share),
                Cut::Less(watts) => (load - watts).max(Watts::ZERO),
            };
            let before = course.bought(event.cap);
            let place = self.outcomes.len();
            self.open.push(place);
            // Who has to stop is not gone any sooner.
            let over = (event.met_from() - event.at).max(Duration::ZERO);
            let over = if before > watts { over } else { Duration::ZERO };
            let GridEvent { name, cap, until, .. } = event.clone();
            let spec = Curtailment { name, cap, watts, from: event.at.max(event.met_from()), until };
            course.tell(now, Event::CurtailmentAnnounced { curtailment: CurtailmentId(place as u64), spec });
            let runs_on = weather.announce(now, (event.cap, watts), event.at..event.until, course);
            self.outcomes.push(GridOutcome { before, target: watts, over, runs_on, ..GridOutcome::default() });
        }
    }

    /// Takes note of what a pass decided, and of what is drawn since.
    pub fn heed(&mut self, now: Timestamp, weather: &Weather<'_>, course: &Course) {
        for Fact { event, .. } in &course.decided {
            match event {
                Event::JobStopping { job, reason: StopReason::Curtailed, .. } => {
                    self.note_stop(now, *job, &course.state)
                }
                Event::JobThrottled { job, to } => self.note_throttle(now, *job, *to, &course.state),
                Event::JobPlaced { job, .. } => self.ended(now, *job),
                Event::ReplicaRetired { replica, .. } => self.ended(now, *replica),
                Event::CurtailmentUnmet { least, curtailment: Some(curtailment), .. } => {
                    // Curtailments by heat are none of these.
                    if let Some(outcome) = self.outcomes.get_mut(curtailment.0 as usize) {
                        // In greater heat cooling takes more beside idle nodes.
                        let (known, at) = outcome.least.unwrap_or((*least, now));
                        outcome.least = Some((known.max(*least), at));
                    }
                }
                _ => {}
            }
        }
        self.hand_over(now, &course.state);
        self.judge(now, weather, &course.state);
        self.measure(now, course);
    }

    /// An attempt has ended and has to do so much of its work again.
    pub fn note_rework(&mut self, job: JobId, rework: Duration) {
        // What fails while it is throttled fails for other reasons.
        let stopped = self.lacking.get(&job).copied().filter(|lacking| lacking.stopped);
        let Some(Lacking { event, chip_milli, .. }) = stopped else { return };
        let touched = self.outcomes[event].touched.entry(job).or_default();
        touched.lost.0 += i128::from(chip_milli) * i128::from(rework.as_millis());
    }

    /// Work is over.
    pub fn ended(&mut self, now: Timestamp, job: JobId) {
        self.levels.remove(&job);
        self.settle(now, job);
    }

    /// What work lacks is as it was up to now, and it lacks nothing from now on.
    fn settle(&mut self, now: Timestamp, job: JobId) {
        let Some(Lacking { event, since, speed, chip_milli, .. }) = self.lacking.remove(&job) else { return };
        let span = (now.min(self.events[event].until) - since).max(Duration::ZERO);
        let lost = |missing: Ppm| i128::from(chip_milli) * i128::from(missing.done_in(span).as_millis());
        let outcome = &mut self.outcomes[event];
        outcome.touched.entry(job).or_default().lost.0 += lost(speed);
        if speed < Ppm::ONE {
            let tenth = (Ppm::ONE.parts() - speed.parts()) / 10;
            outcome.if_levels_are_off.0.0 += lost(Ppm::new(tenth.min(speed.parts())));
            outcome.if_levels_are_off.1.0 += lost(Ppm::new(tenth));
        }
    }

    fn lack(
        &mut self,
        now: Timestamp,
        job: JobId,
        (event, speed, stopped): (usize, Ppm, bool),
        state: &State,
    ) -> &mut Touched {
        self.settle(now, job);
        let chips = |work: &Work| match &work.phase {
            Phase::Running { placement, .. } => placement.chip_milli(&work.spec),
            _ => work.spec.chip_milli(),
        };
        let chip_milli = state.job(job).map_or(0, chips);
        self.lacking.insert(job, Lacking { event, since: now, speed, stopped, chip_milli });
        let touched = self.outcomes[event].touched.entry(job).or_default();
        if let Some(work) = state.job(job) {
            touched.spec = Arc::clone(&work.spec);
            if let Phase::Running { placement, .. } = &work.phase {
                let fleet = state.fleet();
                let node = placement.slots().next().map(|slot| fleet.nodes[slot.nodes.first.ix()]);
                touched.chip = node.and_then(|node| fleet.kind(node).accelerator);
            }
        }
        touched
    }

    /// When servers draw no more than an event leaves them.
    fn due(&self, event: usize) -> Timestamp {
        self.events[event].at - self.leads[event]
    }

    fn note_throttle(&mut self, now: Timestamp, job: JobId, to: Throttle, state: &State) {
        let before = match to.is_none() {
            true => self.levels.remove(&job),
            false => self.levels.insert(job, to),
        };
        let before = before.unwrap_or_default();
        let is_further = to > before;
        let missing = Ppm::ONE.parts() - state.throttled_speed(job).parts().min(Ppm::ONE.parts());
        let lasting =
            self.lacking.get(&job).map(|lacking| lacking.event).filter(|event| self.events[*event].until > now);
        // Before its last moment nobody is throttled for an event.
        let is_due = |event: &usize| is_further && self.due(*event) <= now.saturating_add(LEAST_NOTICE);
        let Some(event) = lasting.or_else(|| self.met_by(now, job, state).filter(is_due)) else {
            return self.settle(now, job);
        };
        if missing == 0 {
            return self.settle(now, job);
        }
        let touched = self.lack(now, job, (event, Ppm::new(missing), false), state);
        if !to.is_paused() {
            touched.throttle = touched.throttle.max(to);
            self.outcomes[event].throttled += u64::from(is_further);
            return;
        }
        touched.pauses += 1;
        self.outcomes[event].paused += 1;
        let draw = state.drawn_by_at(job, self.events[event].cap, before);
        self.note_reserved(now, job, (event, draw), state);
    }

    /// Work that still lacks power when an event is over lacks it for the one that lasts on.
    fn hand_over(&mut self, now: Timestamp, state: &State) {
        let over = |lacking: &Lacking| self.events[lacking.event].until <= now;
        let left: Vec<(JobId, Lacking)> =
            self.lacking.iter().filter(|(_, lacking)| over(lacking)).map(|(job, lacking)| (*job, *lacking)).collect();
        for (job, lacking) in left {
            self.settle(now, job);
            let begun = |open: &usize| self.due(*open) <= now.saturating_add(LEAST_NOTICE);
            let next = match state.job(job).map(|work| &work.phase) {
                Some(Phase::Running { .. }) => self.met_by(now, job, state).filter(begun),
                Some(_) => {
                    let cap = self.events[lacking.event].cap;
                    let lasts = |open: &usize| self.events[*open].cap == cap && self.events[*open].until > now;
                    self.open.iter().copied().find(|open| lasts(open) && begun(open))
                }
                None => None,
            };
            if let Some(event) = next {
                let before = self.outcomes[lacking.event].touched.get(&job).map_or(Throttle::NONE, |it| it.throttle);
                let touched = self.lack(now, job, (event, lacking.speed, lacking.stopped), state);
                touched.throttle = touched.throttle.max(before);
            }
        }
    }

    /// The event to which work gives power back: the next under whose cap it draws; one that lasts already where none is to
    /// come.
    fn met_by(&self, now: Timestamp, job: JobId, state: &State) -> Option<usize> {
        // Paused work draws nothing, and would.
        let draws = |open: &usize| state.drawn_by_at(job, self.events[*open].cap, Throttle::NONE) > Watts::ZERO;
        let lasts = |open: &usize| self.events[*open].until > now;
        let concerned = self.open.iter().copied().filter(|open| lasts(open) && draws(open));
        concerned.min_by_key(|open| (self.events[*open].at < now, self.events[*open].at))
    }

    fn note_stop(&mut self, now: Timestamp, job: JobId, state: &State) {
        let Some(event) = self.met_by(now, job, state) else { return };
        let draw = state.drawn_by(job, self.events[event].cap);
        self.outcomes[event].stopped += 1;
        self.lack(now, job, (event, Ppm::ONE, true), state).stops += 1;
        self.note_reserved(now, job, (event, draw), state);
    }

    /// Reserved work gave so much back by giving way.
    fn note_reserved(&mut self, now: Timestamp, job: JobId, (event, draw): (usize, Watts), state: &State) {
        if draw > Watts::ZERO && state.job(job).is_some_and(|work| work.spec.tier == Tier::Reserved) {
            self.reserved.push((event, now, draw));
        }
    }

    /// Once the time of an event has come: whether there was a weaker one for each that gave way to it.
    fn judge(&mut self, now: Timestamp, weather: &Weather<'_>, state: &State) {
        let (events, outcomes) = (self.events, &mut self.outcomes);
        self.reserved.retain(|(event, since, draw)| {
            let (event, outcome) = (&events[*event], &mut outcomes[*event]);
            if event.at > now {
                return true;
            }
            let limits = state.capacity().limits();
            let room = limits[event.cap.ix()].left_of(outcome.goal()).min(weather.left_to_servers(event.cap, state));
            if *draw <= Watts::new(room.div_euclid(1_000_000)) + drawn_by_weaker(state, event.cap, *since) {
                outcome.reserved_stopped += 1;
            }
            false
        });
    }

    /// What the run found.
    pub fn finish(mut self, end: Timestamp, course: &Course) -> Vec<GridOutcome> {
        let lacking: Vec<JobId> = self.lacking.keys().copied().collect();
        lacking.into_iter().for_each(|job| self.settle(end, job));
        self.measure(end, course);
        self.outcomes
    }

    /// What is drawn has been drawn since it was measured last.
    fn measure(&mut self, now: Timestamp, course: &Course) {
        let since = std::mem::replace(&mut self.since, now);
        for open in &self.open {
            let (event, outcome) = (&self.events[*open], &mut self.outcomes[*open]);
            let load = course.bought(event.cap);
            let goal = outcome.goal_at(since);
            note_course(event, &mut outcome.course, since, now, load);
            let due = now.min(event.until) - since.max(event.at);
            if due > Duration::ZERO {
                outcome.drawn = outcome.drawn.max(load);
                outcome.given_back += (outcome.before - load).max(Watts::ZERO).over(due);
            }
            if load <= goal {
                // Who has to stop for what is asked too soon is gone when it can be.
                let is_too_soon = event.at < event.met_from() && outcome.before > goal;
                let soonest = if is_too_soon { event.met_from() } else { event.announced };
                outcome.met = outcome.met.or(Some(since.max(soonest)));
            } else if due > Duration::ZERO {
                outcome.over += due;
            } else if now <= event.at {
                // It rose again before it mattered.
                outcome.met = None;
            }
        }
    }
}

/// So much was drawn from one instant to another.
fn note_course(event: &GridEvent, course: &mut Vec<Watts>, since: Timestamp, until: Timestamp, load: Watts) {
    let span = event.span().as_millis();
    let place = |at: Timestamp| (at.clamp(event.announced, event.closes()) - event.announced).as_millis();
    let (first, end) = (place(since) / span, (place(until) + span - 1) / span);
    course.resize(course.len().max(end as usize), Watts::ZERO);
    for drawn in &mut course[first as usize..(end as usize).max(first as usize)] {
        *drawn = load.max(*drawn);
    }
}

/// What is drawn under a cap by work of weaker tiers than reserved that had begun before an instant and goes on.
fn drawn_by_weaker(state: &State, cap: LimitIx, before: Timestamp) -> Watts {
    let goes_on = |work: &Work| match &work.phase {
        Phase::Running { placed, stage, .. } => {
            !matches!(stage, Stage::Stopping(_)) && *placed < before && work.spec.tier != Tier::Reserved
        }
        _ => false,
    };
    let jobs = state.jobs().into_iter().filter(|(_, work)| goes_on(work));
    jobs.map(|(job, _)| state.drawn_by(job, cap)).fold(Watts::ZERO, |all, draw| all + draw)
}
