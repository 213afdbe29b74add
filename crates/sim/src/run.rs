//! Virtual time: arrivals, ends, signals and samples in order, over the engine that also runs live.

use std::collections::BTreeMap;
use std::sync::Arc;

use offtake_engine::{
    ChipTime, Curtailment, CurtailmentId, Event, Fact, JobId, LimitIx, Phase, Policy, ReservationId, ServiceId, State,
    Work,
};
use offtake_fleet::{Fleet, Lowered, SiteIx};
use offtake_programmes::Series;
use offtake_units::{CarbonIntensity, Duration, Ppm, PricePerMwh, Timestamp, Watts};
use offtake_workload::{Job, Reservation, Service};

use crate::backup::{Supplies, UtilityLoss, UtilityOutcome};
use crate::course::{Costs, Course, Repairs};
use crate::dependencies::{Dependencies, Fate, Milestone, Standing};
use crate::energy::EnergyMeters;
use crate::failures::{FailureCounts, FailureModel, Process};
use crate::grid::{Grid, GridEvent, GridOutcome};
use crate::meters::{FeedLoss, Meter, Meters, Reading};
use crate::overload::{FeedOutcome, Feeds};
use crate::picture::Snapshot;
use crate::progress::Spent;
use crate::ramps::{RampOutcome, Ramps};
use crate::weather::{Cooled, Weather};

/// Curtailments by the clock have identities from here on, behind those of grid events, heat and losses of power.
const BY_CLOCK: u64 = 1 << 43;
/// How long before it begins at the least everybody learns of a time in which a cap allows less by the clock: as of heat.
/// What outlasts its beginning starts from then on only within what it leaves, so earlier would leave power unused.
const AHEAD: Duration = Duration::HOUR;
/// Hours in which caps allow less repeat after a year: where nobody has come any further by then, nobody ever will.
const HOURS_REPEAT: Duration = Duration::from_secs(366 * 24 * 3600);

static NOTHING_FAILS: FailureModel = FailureModel::NOTHING;

/// Everything that a run is made of; the same for all policies.
#[derive(Clone, Debug)]
pub struct Setup {
    /// The fleet.
    pub fleet: Arc<Fleet>,
    /// Jobs in the order of submission.
    pub jobs: Vec<Arc<Job>>,
    /// How much longer than it takes a job may take: what it asks for as a multiple of its `duration`, which is then known
    /// to nobody before it has ended; none where jobs ask for exactly what they take.
    pub overestimate: Option<Ppm>,
    /// Services.
    pub services: Vec<Arc<Service>>,
    /// What is set aside, known from the first instant on.
    pub reservations: Vec<Arc<Reservation>>,
    /// When caps allow less, in the order in which that is announced.
    pub grid_events: Vec<GridEvent>,
    /// Circuits that are out for a time.
    pub feed_losses: Vec<FeedLoss>,
    /// Sites whose utility is lost for a time, in the order in which that happens; of each site one at a time.
    pub utility_losses: Vec<UtilityLoss>,
    /// Caps at the grid connections of sites whose cooling follows load and weather.
    pub cooled: Vec<Cooled>,
    /// What is metered as time goes on.
    pub meters: Vec<Meter>,
    /// The first instant.
    pub start: Timestamp,
    /// How long the run lasts; none until all jobs with an end have ended.
    pub horizon: Option<Duration>,
    /// What every zone's price and carbon intensity is, from when.
    pub signals: Vec<Signal>,
    /// Time between two samples of the timeline.
    pub sample_every: Duration,
    /// How the fleet fails; none for a fleet that never does.
    pub failures: Option<FailureModel>,
}

/// A value of a zone, from an instant on.
#[derive(Clone, Debug)]
pub struct Signal {
    /// From when.
    pub at: Timestamp,
    /// The zone.
    pub zone: String,
    /// What.
    pub value: SignalValue,
}

/// A value of a zone.
#[derive(Clone, Copy, Debug)]
pub enum SignalValue {
    /// Electricity price.
    Price(PricePerMwh),
    /// Carbon intensity.
    Carbon(CarbonIntensity),
    /// Wet-bulb temperature of a site in the hour that is to come, in thousandths of a degree Celsius.
    WetBulb {
        /// When that hour begins.
        from: Timestamp,
        /// The temperature.
        milli_celsius: i32,
    },
}

/// What became of a job.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct JobOutcome {
    /// When it started.
    pub started: Option<Timestamp>,
    /// When it ended by itself.
    pub finished: Option<Timestamp>,
    /// It can never run on this fleet.
    pub rejected: bool,
    /// The lowest of its nodes.
    pub first_node: u32,
    /// How many nodes it ran on.
    pub nodes: u32,
    /// How often it was stopped and started again, or waited to.
    pub restarts: u32,
    /// Its work that counts, in time at full speed.
    pub useful: Duration,
}

/// The fleet at an instant.
#[derive(Clone, Debug, PartialEq)]
pub struct Sample {
    /// When.
    pub at: Timestamp,
    /// Chips in use by tier, in thousandths.
    pub chip_milli: [u64; 4],
    /// Jobs that wait.
    pub waiting_jobs: u64,
    /// Chips that they ask for, in thousandths.
    pub waiting_chip_milli: u64,
    /// Draw at the servers.
    pub it: Watts,
    /// Draw at the grid connections.
    pub facility: Watts,
    /// Fragmented chips, in thousandths.
    pub fragmented_chip_milli: u64,
    /// Free chips that are kept for blocked jobs, in thousandths.
    pub held_chip_milli: u64,
    /// Chips of nodes that are out, in thousandths.
    pub out_chip_milli: u64,
}

/// What one policy did.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// Per job, in the order of submission.
    pub jobs: Vec<JobOutcome>,
    /// The timeline.
    pub samples: Vec<Sample>,
    /// The state at the end.
    pub state: State,
    /// The fleet when most of it was in use.
    pub busiest: Snapshot,
    /// The highest facility draw.
    pub peak: Watts,
    /// Facts that the engine decided on.
    pub decisions: u64,
    /// Caps found exceeded, at a decision or by a recount.
    pub cap_breaches: u64,
    /// When the run ended.
    pub end: Timestamp,
    /// What became of the chip-time that was allocated.
    pub spent: Spent,
    /// Chip-time by tenant and accelerator kind, in the order of the fleet's kinds.
    pub tenants: BTreeMap<String, Vec<ChipTime>>,
    /// What failures did.
    pub failures: FailureCounts,
    /// How jobs that lost nodes went on.
    pub repairs: Repairs,
    /// What came of the grid events that were announced.
    pub grid: Vec<GridOutcome>,
    /// What came of the lost feeds.
    pub feeds: Vec<FeedOutcome>,
    /// What came of the losses of utilities that were seen.
    pub utility: Vec<UtilityOutcome>,
    /// What the meters showed.
    pub readings: Vec<Reading>,
    /// The energy that was drawn under the cap of each grid programme of the fleet.
    pub metered: Vec<Series>,
    /// How fast the draw of each site with a ramp changed.
    pub ramps: Vec<(SiteIx, RampOutcome)>,
    /// Time that each pass took, in nanoseconds, as the clock that was handed in tells; of the order of passes.
    pub pass_ns: Vec<u32>,
}

/// A clock for measuring passes, and where progress is reported to.
pub trait Observer {
    /// Nanoseconds since any fixed instant; zero where nothing is measured.
    fn nanos(&mut self) -> u64;
    /// How far virtual time has come, in parts per million.
    fn progress(&mut self, share_ppm: u32);
}

/// A broken invariant that a recount found.
#[derive(Debug, thiserror::Error)]
#[error("the engine's account is wrong at {} ms: {difference}", at.as_millis())]
pub struct Broken {
    at: Timestamp,
    difference: String,
}

/// Runs one policy over a setup.
///
/// # Errors
/// [`Broken`] when a recount finds an invariant broken: a fault of the engine.
pub fn run(setup: &Setup, policy: Policy, observer: &mut dyn Observer) -> Result<Outcome, Broken> {
    let mut run = Run::new(setup, policy);
    run.open();
    let mut last_progress = 0;
    while let Some(now) = run.next_instant() {
        run.happen(now);
        let before = observer.nanos();
        run.pass(now);
        let took = observer.nanos().saturating_sub(before);
        run.outcome.pass_ns.push(u32::try_from(took).unwrap_or(u32::MAX));
        run.observe(now)?;
        let share = run.share_done(now);
        if share >= last_progress + 5_000 {
            last_progress = share;
            observer.progress(share);
        }
    }
    run.close()
}

struct Run<'a> {
    setup: &'a Setup,
    course: Course,
    failures: Option<Process<'a>>,
    dependencies: Dependencies,
    grid: Grid<'a>,
    feeds: Feeds<'a>,
    supplies: Supplies<'a>,
    /// Times that were announced, each in which a cap allows less by the clock.
    announced: u64,
    /// Caps that follow the clock were looked at until here.
    looked_until: Timestamp,
    /// When a job came, ended or kept some of its work last.
    stirred: Timestamp,
    weather: Weather<'a>,
    meters: Meters<'a>,
    energy: EnergyMeters,
    ramps: Ramps,
    /// Someone was released at this instant: it is to be tried yet.
    again: bool,
    next_job: usize,
    next_signal: usize,
    next_hour: Timestamp,
    next_sample: Timestamp,
    next_check: Timestamp,
    most_in_use: u64,
    /// What is known of the outcome so far; its state comes last.
    outcome: Outcome,
}

impl<'a> Run<'a> {
    fn new(setup: &'a Setup, policy: Policy) -> Self {
        let mut state = State::default();
        let first = [Event::FleetLoaded { fleet: Arc::clone(&setup.fleet) }, Event::PolicySet { policy }];
        first.into_iter().for_each(|event| state.apply(&Fact { at: setup.start, event }));
        let idle = |cap: LimitIx| state.capacity().limits()[cap.ix()].idle();
        let supplies = Supplies::new(&setup.utility_losses, &setup.fleet, idle, setup.start);
        // Hosts without power are out like those that failed.
        let nothing_fails = (!setup.utility_losses.is_empty()).then_some(&NOTHING_FAILS);
        let failures = setup.failures.as_ref().or(nothing_fails);
        Self {
            setup,
            course: Course::new(state).with_costs(Costs::of(setup.failures.as_ref())),
            failures: failures.map(|model| Process::new(model, &setup.fleet, setup.start)),
            feeds: Feeds::new(&setup.feed_losses, &setup.fleet, setup.start),
            supplies,
            dependencies: Dependencies::of(&setup.jobs),
            grid: Grid::new(&setup.grid_events, &setup.fleet, setup.start),
            weather: Weather::new(setup),
            announced: 0,
            looked_until: setup.start - Duration::DAY,
            stirred: setup.start,
            meters: Meters::new(&setup.meters, &setup.feed_losses, setup.start),
            energy: EnergyMeters::of_programmes(&setup.fleet, setup.start),
            ramps: Ramps::default(),
            again: false,
            next_job: 0,
            next_signal: 0,
            next_hour: setup.start,
            next_sample: setup.start,
            next_check: setup.start + between_checks(setup),
            most_in_use: 0,
            outcome: Outcome {
                jobs: vec![JobOutcome::default(); setup.jobs.len()],
                samples: Vec::new(),
                busiest: Snapshot::empty(setup.start),
                state: State::default(),
                peak: Watts::ZERO,
                decisions: 0,
                cap_breaches: 0,
                end: setup.start,
                spent: Spent::default(),
                tenants: BTreeMap::new(),
                failures: FailureCounts::default(),
                repairs: Repairs::default(),
                grid: Vec::new(),
                feeds: Vec::new(),
                utility: Vec::new(),
                readings: Vec::new(),
                metered: Vec::new(),
                ramps: Vec::new(),
                pass_ns: Vec::new(),
            },
        }
    }

    fn open(&mut self) {
        for (index, spec) in self.setup.reservations.iter().enumerate() {
            let reservation = ReservationId(index as u64);
            self.course.tell(self.setup.start, Event::ReservationMade { reservation, spec: Arc::clone(spec) });
        }
        for (index, spec) in self.setup.services.iter().enumerate() {
            let event = Event::ServiceSubmitted { service: ServiceId(index as u64), spec: Arc::clone(spec) };
            self.course.tell(self.setup.start, event);
        }
    }

    /// The next instant at which something happens; none when the run is over.
    fn next_instant(&mut self) -> Option<Timestamp> {
        if std::mem::take(&mut self.again) {
            return Some(self.course.state.now());
        }
        let arrival = self.setup.jobs.get(self.next_job).map(|job| job.submitted.max(self.setup.start));
        let failures = self.failures.as_ref();
        let work = [arrival, self.course.next()].into_iter().flatten().min();
        // Whoever gave way comes back when an event is over, and whoever waits for a ramp starts once there is enough.
        let rise = self.course.state.next_rise();
        let power = [self.grid.next(), self.feeds.next(), self.supplies.next(), self.meters.next(), rise];
        let work = power.into_iter().chain([work]).flatten().min();
        let limit = self.setup.horizon.map(|horizon| self.setup.start + horizon);
        let work = work.or_else(|| if limit.is_none() { self.eased() } else { None });
        // Failures go on for ever; without a horizon they count as long as there is work, or one of them is not over.
        let counts = |failures: &&Process<'_>| limit.is_some() || work.is_some() || failures.is_open();
        let failure = failures.filter(counts).and_then(Process::next);
        let work = [work, failure].into_iter().flatten().min();
        // Windows recur for ever: without a horizon they count as long as there is work.
        let due = self.course.next_due().filter(|_| limit.is_some() || work.is_some());
        let work = [work, due].into_iter().flatten().min();
        // Meters show less from then on.
        let cooled = self.course.state.next_cooled().unwrap_or(Timestamp::NEVER);
        let noted = self.next_hour.min(self.next_sample).min(cooled);
        match limit {
            None => work.map(|work| work.min(noted)),
            Some(limit) => {
                let next = work.unwrap_or(Timestamp::NEVER).min(noted);
                (next < limit).then_some(next)
            }
        }
    }

    /// When a curtailment begins or is over next, as long as a job with an end waits for its power or stands still for it.
    fn eased(&self) -> Option<Timestamp> {
        let state = &self.course.state;
        let goes_on = |work: &Work| {
            let is_there = matches!(work.phase, Phase::Pending(_) | Phase::Running { .. });
            is_there && work.spec.duration.is_some() && work.spec.service.is_none()
        };
        let next = state.next_curtailment().filter(|_| state.now() - self.stirred <= HOURS_REPEAT)?;
        state.jobs().into_iter().any(|(_, work)| goes_on(work)).then_some(next)
    }

    /// A job with the time that it asks for.
    fn as_asked(&mut self, job: JobId, spec: &Arc<Job>) -> Arc<Job> {
        let Some((takes, overestimate)) = spec.duration.zip(self.setup.overestimate) else { return Arc::clone(spec) };
        self.course.takes(job, takes);
        Arc::new(Job { duration: Some(overestimate.done_in(takes)), ..Job::clone(spec) })
    }

    /// Everything that happens at an instant: ends first, so that what they give back is there for those who come.
    fn happen(&mut self, now: Timestamp) {
        self.meters.read(now, &self.course);
        self.energy.read(now, &self.course);
        self.feeds.read(now, &self.course.state);
        self.supplies.read(now, &self.course.state);
        self.feeds.happen(now, &mut self.course);
        self.grid.happen(now, &mut self.weather, &mut self.course);
        while let Some(job) = self.course.end_next(now) {
            self.outcome.jobs[job.0 as usize].finished = Some(now);
            self.stirred = now;
            self.grid.ended(now, job);
            self.passed(now, job.0 as usize, Milestone::Succeeded);
        }
        while let Some(job) = self.course.leave_next(now) {
            if self.course.state.job(job).is_none() {
                self.grid.ended(now, job);
            }
        }
        self.supplies.happen(now, &mut self.course, &mut self.failures);
        if let Some(failures) = &mut self.failures {
            failures.happen(now, &mut self.course);
        }
        if now >= self.next_hour {
            self.hour(now);
            self.next_hour = self.next_hour + Duration::HOUR;
        }
        while let Some(job) = self.setup.jobs.get(self.next_job).filter(|job| job.submitted <= now) {
            let spec = self.as_asked(JobId(self.next_job as u64), job);
            let event = Event::JobSubmitted { job: JobId(self.next_job as u64), spec };
            self.course.tell(now, event);
            let place = self.next_job;
            self.next_job += 1;
            self.stirred = now;
            match self.dependencies.at_arrival(place) {
                None => {}
                Some(Standing::Waits(_)) => self.course.tell(now, Event::JobHeld { job: JobId(place as u64) }),
                Some(Standing::InVain) => {
                    self.withdraw(now, place);
                    self.passed(now, place, Milestone::Cancelled);
                }
            }
        }
    }

    /// A job has come so far: who waited for that is released, who waits for what can no longer be is withdrawn.
    fn passed(&mut self, now: Timestamp, job: usize, milestone: Milestone) {
        let mut come = vec![(job, milestone)];
        while let Some((job, milestone)) = come.pop() {
            for (dependent, fate) in self.dependencies.passed(job, milestone) {
                // Who has not come yet learns of it then.
                match fate {
                    _ if dependent >= self.next_job => {}
                    Fate::Released => self.course.tell(now, Event::JobReleased { job: JobId(dependent as u64) }),
                    Fate::InVain => {
                        self.withdraw(now, dependent);
                        come.push((dependent, Milestone::Cancelled));
                    }
                }
            }
        }
    }

    /// A job can never run, as what it waits for can no longer be.
    fn withdraw(&mut self, now: Timestamp, job: usize) {
        self.course.tell(now, Event::JobCancelled { job: JobId(job as u64) });
        self.outcome.jobs[job].rejected = true;
    }

    /// New values of signals, caps that follow the clock, and the demand of services for the hour.
    fn hour(&mut self, now: Timestamp) {
        self.look_ahead(now);
        while let Some(signal) = self.setup.signals.get(self.next_signal).filter(|signal| signal.at <= now) {
            let zone = signal.zone.clone();
            match signal.value {
                SignalValue::Price(price) => self.course.tell(now, Event::PricePublished { zone, price }),
                SignalValue::Carbon(intensity) => self.course.tell(now, Event::CarbonPublished { zone, intensity }),
                SignalValue::WetBulb { from, milli_celsius } => {
                    self.weather.forecast(now, &zone, from, milli_celsius, &mut self.course);
                }
            }
            self.next_signal += 1;
        }
        self.weather.begin(now, &mut self.course);
        for (index, service) in self.setup.services.iter().enumerate() {
            let Some(replicas) = service.demand_at(now) else { continue };
            self.course.tell(now, Event::ServiceScaled { service: ServiceId(index as u64), replicas });
        }
    }

    /// Times in which caps allow less by the clock are announced an hour ahead.
    fn look_ahead(&mut self, now: Timestamp) {
        let until = now.saturating_add(AHEAD + AHEAD);
        for Lowered { name, cap, time, watts } in self.setup.fleet.lowered_in(&(self.looked_until..until)) {
            if time.end > now {
                let (from, until) = (time.start.max(now), time.end);
                let curtailment = CurtailmentId(BY_CLOCK + self.announced);
                self.announced += 1;
                let cap = LimitIx(cap);
                let spec = Curtailment { name, cap, watts, from, until };
                self.course.tell(now, Event::CurtailmentAnnounced { curtailment, spec });
                self.weather.announce(now, (cap, watts), from..until, &mut self.course);
            }
        }
        self.looked_until = until;
    }

    fn pass(&mut self, now: Timestamp) {
        self.course.pass(now);
        if let Some(failures) = &mut self.failures {
            failures.heed(now, &mut self.course);
        }
        self.outcome.decisions += self.course.decided.len() as u64;
    }

    /// Takes note of what was decided, samples the timeline, recounts now and then.
    fn observe(&mut self, now: Timestamp) -> Result<(), Broken> {
        let mut passed = Vec::new();
        for fact in &self.course.decided {
            match &fact.event {
                Event::JobPlaced { job, placement } => {
                    let Some(record) = self.outcome.jobs.get_mut(job.0 as usize) else { continue };
                    if record.started.is_none() {
                        passed.push((job.0 as usize, Milestone::Started));
                    }
                    record.started = record.started.or(Some(now));
                    record.first_node = placement.slots().map(|slot| slot.nodes.first.0).min().unwrap_or_default();
                    record.nodes = placement.slots().map(|slot| slot.nodes.count).sum();
                }
                Event::JobRejected { job, .. } => {
                    if let Some(record) = self.outcome.jobs.get_mut(job.0 as usize) {
                        record.rejected = true;
                        passed.push((job.0 as usize, Milestone::Failed));
                    }
                }
                _ => {}
            }
        }
        self.feeds.heed(&self.course);
        self.supplies.heed(&self.course);
        self.note_closed(true);
        self.ramps.observe(now, &self.course.state, &self.course.decided);
        self.grid.heed(now, &self.weather, &self.course);
        let waited = self.course.state.queue().jobs();
        passed.into_iter().for_each(|(job, milestone)| self.passed(now, job, milestone));
        self.again = self.course.state.queue().jobs() > waited;
        let (_, facility) = self.course.draw();
        self.outcome.peak = self.outcome.peak.max(facility);
        if now >= self.next_sample {
            self.sample(now);
            self.next_sample = self.next_sample + self.setup.sample_every;
        }
        if now >= self.next_check {
            self.next_check = now + between_checks(self.setup);
            self.course.state.check().map_err(|difference| Broken { at: now, difference })?;
        }
        Ok(())
    }

    /// Takes note of attempts that have ended; those whose job has not ended were stopped, or time is over.
    fn note_closed(&mut self, stopped: bool) {
        for (job, ended) in self.course.closed.drain(..) {
            self.grid.note_rework(job, Duration::from_millis(ended.rework));
            let Some(record) = self.outcome.jobs.get_mut(job.0 as usize) else { continue };
            let chip_milli = self.setup.jobs[job.0 as usize].chip_milli();
            self.supplies.note_rework(job, chip_milli, Duration::from_millis(ended.rework));
            record.useful += Duration::from_millis(ended.useful);
            if ended.useful > 0 {
                self.stirred = self.course.state.now();
            }
            record.restarts += u32::from(stopped && record.finished.is_none());
        }
    }

    fn sample(&mut self, now: Timestamp) {
        let (it, facility) = self.course.draw();
        let state = &self.course.state;
        let chip_milli = state.ledger().chip_milli_in_use;
        self.outcome.samples.push(Sample {
            at: now,
            chip_milli,
            waiting_jobs: state.queue().jobs(),
            waiting_chip_milli: state.queue().chip_milli(),
            it,
            facility,
            fragmented_chip_milli: state.fragmented_chip_milli(),
            held_chip_milli: state.held_chip_milli(),
            out_chip_milli: self.failures.as_ref().map_or(0, Process::chip_milli_out),
        });
        let in_use: u64 = chip_milli.iter().sum();
        if in_use > self.most_in_use {
            self.most_in_use = in_use;
            self.outcome.busiest = Snapshot::take(state);
        }
    }

    fn share_done(&self, now: Timestamp) -> u32 {
        match self.setup.horizon {
            Some(horizon) => ((now - self.setup.start).as_millis() * 1_000_000 / horizon.as_millis().max(1)) as u32,
            None => (self.next_job as u64 * 1_000_000 / self.setup.jobs.len().max(1) as u64) as u32,
        }
    }

    fn close(mut self) -> Result<Outcome, Broken> {
        let end = match self.setup.horizon {
            Some(horizon) => self.setup.start + horizon,
            None => self.course.state.now(),
        };
        self.course.finish(end);
        self.note_closed(false);
        self.outcome.failures = self.failures.map(|failures| failures.finish(end)).unwrap_or_default();
        self.outcome.spent = self.course.spent;
        self.outcome.repairs = self.course.repairs;
        self.outcome.grid = self.grid.finish(end, &self.course);
        self.outcome.readings = self.meters.finish(end, &self.course);
        self.outcome.metered = self.energy.finish(end, &self.course);
        self.outcome.feeds = self.feeds.finish(end, &self.course.state);
        self.outcome.ramps = self.ramps.finish();
        self.supplies.read(end, &self.course.state);
        self.outcome.tenants = self.course.tenants;
        self.outcome.state = self.course.state;
        self.outcome.state.advance(end);
        self.outcome.utility = self.supplies.finish(end, &self.outcome.state);
        self.outcome.end = end;
        self.outcome.state.check().map_err(|difference| Broken { at: end, difference })?;
        self.outcome.cap_breaches = self.outcome.state.capacity().breaches();
        Ok(self.outcome)
    }
}

/// Time from one recount of all invariants to the next: a day, and no more than a hundred recounts in a run, which would
/// take a sixth of the time of a year of half a million chips.
fn between_checks(setup: &Setup) -> Duration {
    Duration::from_millis(setup.horizon.map_or(0, |horizon| horizon.as_millis() / 100)).max(Duration::DAY)
}

/// Whether a job runs at the end of a run.
pub fn is_running(state: &State, job: JobId) -> bool {
    state.job(job).is_some_and(|work| matches!(work.phase, Phase::Running { .. }))
}
