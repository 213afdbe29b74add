//! A backlog: a full fleet on which many jobs run, while many more wait behind one another. What a pass over all of them
//! costs, what one after a single event does, what the search for victims does, and a look a day ahead.

use std::sync::Arc;
use std::time::Instant;

use offtake_engine::{Event, Fact, JobId, Phase, Policy, State, StopReason, decide};
use offtake_fleet::Fleet;
use offtake_units::{Duration, Timestamp};
use offtake_workload::rng::Rng;
use offtake_workload::{Checkpoint, Job, Tier};
use serde::Serialize;

use super::mix::{TENANTS, draw, job, tenant};
use super::{Arguments, LEVEL_PERCENT, Spread};
use crate::simulate::memory_mb;
use crate::terminal::grouped;

/// Running jobs, for each million chips.
const RUNNING_PER_MILLION: u64 = 20_000;
/// Chips of the gang for which victims are sought.
const STRONG: u64 = 4_096;
const FULL_PASSES: usize = 5;
const SEARCHES: usize = 20;
const EVENTS: usize = 2_000;

#[derive(Serialize)]
pub struct Report {
    /// Jobs that run, that wait, and for how many of those capacity is held.
    running: u64,
    pending: u64,
    holds: u64,
    /// A pass in which every waiting job is to be tried anew, and all holds planned, as after a change of the policy.
    full_pass_ms: Spread,
    /// A pass after one job has ended.
    incremental_pass_ms: Spread,
    /// A pass in which a gang of 4,096 chips of the strongest tier displaces others; zero where the fleet has no room
    /// for one.
    preempt_4096_ms: Spread,
    /// Stopped for it, at the median.
    victims: u64,
    /// A look ahead of 24 hours.
    whatif_24h_s: f64,
    /// Memory before the state was copied for any measurement.
    backlog_rss_mb: f64,
}

/// Measures a backlog on a fleet.
///
/// # Errors
/// When a recount finds the account wrong.
pub fn measure(fleet: Arc<Fleet>, policy: Policy, arguments: &Arguments) -> anyhow::Result<Report> {
    let mut backlog = Backlog::new(fleet, policy, arguments.seed);
    backlog.fill();
    backlog.pile_up(arguments.pending);
    let (backlog_rss_mb, running) = (memory_mb("VmRSS:"), backlog.running.len() as u64);
    if arguments.check {
        backlog.state.check().map_err(|difference| anyhow::anyhow!("the recount differs: {difference}"))?;
    }
    let full = (0..FULL_PASSES).map(|_| backlog.full_pass()).collect();
    let searches = backlog.searches();
    let begin = Instant::now();
    let day = Some(Duration::DAY);
    std::hint::black_box(offtake_sim::look_ahead(backlog.state.clone(), Vec::new(), Vec::new(), day));
    let whatif_24h_s = (begin.elapsed().as_secs_f64() * 1e3).round() / 1e3;
    let (pending, holds) = (backlog.state.queue().jobs(), backlog.state.holds().len() as u64);
    let mut victims: Vec<u64> = searches.iter().map(|(_, victims)| *victims).collect();
    victims.sort_unstable();
    Ok(Report {
        running,
        pending,
        holds,
        full_pass_ms: Spread::of_millis(full),
        incremental_pass_ms: Spread::of_millis(backlog.events()),
        preempt_4096_ms: Spread::of_millis(searches.into_iter().map(|(ns, _)| ns).collect()),
        victims: victims.get(victims.len() / 2).copied().unwrap_or(0),
        whatif_24h_s,
        backlog_rss_mb,
    })
}

pub(super) struct Backlog {
    pub state: State,
    rng: Rng,
    facts: Vec<Fact>,
    pub running: Vec<JobId>,
    next: u64,
}

impl Backlog {
    pub fn new(fleet: Arc<Fleet>, policy: Policy, seed: u64) -> Self {
        let mut state = State::default();
        let at = Timestamp::EPOCH;
        state.apply(&Fact { at, event: Event::FleetLoaded { fleet } });
        state.apply(&Fact { at, event: Event::PolicySet { policy } });
        Self { state, rng: Rng::new(seed), facts: Vec::new(), running: Vec::new(), next: 0 }
    }

    /// Two thirds can be displaced by stronger work; each runs between one and 72 hours.
    fn job(&mut self, chips: u64) -> Job {
        Job {
            name: format!("class-{}", self.rng.below(500)),
            preemptible: self.rng.below(3) > 0,
            duration: Some(Duration::from_secs(3600 + self.rng.below(71 * 3600) as i64)),
            checkpoint: Some(Checkpoint { interval: Duration::from_secs(1800), bytes: chips << 30 }),
            ..job(chips, tenant(self.rng.below(TENANTS)))
        }
    }

    fn submit(&mut self, spec: Job) -> JobId {
        let (id, at) = (JobId(self.next), self.state.now());
        self.next += 1;
        self.state.apply(&Fact { at, event: Event::JobSubmitted { job: id, spec: Arc::new(spec) } });
        id
    }

    fn pass(&mut self) -> u64 {
        self.facts.clear();
        let now = self.state.now();
        let begin = Instant::now();
        decide(&mut self.state, now, &mut self.facts);
        begin.elapsed().as_nanos() as u64
    }

    /// Fills the fleet, with as many jobs as it should run: where too few run for the chips in use, small ones come.
    pub fn fill(&mut self) {
        let chips = self.state.fleet().chips();
        let (target, jobs) = (chips * LEVEL_PERCENT / 100, chips * RUNNING_PER_MILLION / 1_000_000);
        let (mut in_use, mut misses) = (0, 0);
        while misses < 50 {
            let wanted = draw(&mut self.rng, chips);
            let behind = in_use * jobs > self.running.len() as u64 * target;
            if behind && wanted > 64 {
                continue;
            }
            let spec = self.job(wanted);
            if in_use + wanted > target {
                misses += 1;
                continue;
            }
            let id = self.submit(spec);
            self.pass();
            if self.runs(id) {
                in_use += wanted;
                self.running.push(id);
            } else {
                misses += 1;
                let at = self.state.now();
                self.state.apply(&Fact { at, event: Event::JobCancelled { job: id } });
            }
        }
    }

    fn runs(&self, job: JobId) -> bool {
        matches!(self.state.job(job).map(|work| &work.phase), Some(Phase::Running { .. }))
    }

    /// Submits more until so many wait.
    fn pile_up(&mut self, pending: u64) {
        let chips = self.state.fleet().chips();
        while self.state.queue().jobs() < pending {
            for _ in self.state.queue().jobs()..pending {
                let wanted = draw(&mut self.rng, chips);
                let spec = self.job(wanted);
                self.submit(spec);
            }
            self.pass();
            for fact in &self.facts {
                if let Event::JobPlaced { job, .. } = fact.event {
                    self.running.push(job);
                }
            }
        }
    }

    /// Nanoseconds of a pass after the policy has changed: every lane is tried anew, and every hold planned.
    fn full_pass(&mut self) -> u64 {
        let before = self.state.clone();
        let mut policy = before.policy().clone();
        policy.fairness.half_life += Duration::from_millis(1);
        self.state.apply(&Fact { at: before.now(), event: Event::PolicySet { policy } });
        let took = self.pass();
        self.state = before;
        took
    }

    /// Nanoseconds of passes that displace others, each on a copy of the state, and how many were displaced.
    fn searches(&mut self) -> Vec<(u64, u64)> {
        if self.state.fleet().chips() < STRONG {
            return Vec::new();
        }
        let before = self.state.clone();
        let mut searches = Vec::with_capacity(SEARCHES);
        for search in 0..SEARCHES {
            self.state.advance(before.now() + Duration::from_secs(search as i64 * 600));
            self.pass();
            let spec = Job { tier: Tier::Reserved, ..self.job(STRONG) };
            self.submit(Job { preemptible: false, ..spec });
            let took = self.pass();
            let is_victim =
                |fact: &&Fact| matches!(fact.event, Event::JobStopping { reason: StopReason::Preempted { .. }, .. });
            searches.push((took, self.facts.iter().filter(is_victim).count() as u64));
            self.state = before.clone();
        }
        searches
    }

    /// Nanoseconds of passes, each after one job has ended a second after the last did.
    fn events(&mut self) -> Vec<u64> {
        let mut passes = Vec::with_capacity(EVENTS);
        for _ in 0..EVENTS.min(self.running.len() / 2) {
            let place = self.rng.below(self.running.len() as u64) as usize;
            let job = self.running.swap_remove(place);
            let at = self.state.now() + Duration::from_secs(1);
            self.state.apply(&Fact { at, event: Event::JobFinished { job } });
            passes.push(self.pass());
        }
        passes
    }
}

impl Report {
    /// The figures for people.
    pub fn text(&self) -> (String, [(&'static str, &Spread); 3]) {
        let line = format!(
            "backlog: {} jobs run, {} wait, capacity is held for {}; {} stopped for a gang of 4,096 chips\n\
             24 hours ahead in {:.1} s, {:.0} MB resident",
            grouped(self.running),
            grouped(self.pending),
            self.holds,
            self.victims,
            self.whatif_24h_s,
            self.backlog_rss_mb,
        );
        let rows = [
            ("full pass", &self.full_pass_ms),
            ("pass after one event", &self.incremental_pass_ms),
            ("pass that displaces for 4,096 chips", &self.preempt_4096_ms),
        ];
        (line, rows)
    }
}
