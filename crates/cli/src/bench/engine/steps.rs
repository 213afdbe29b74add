//! Steps: gangs released at random until a new one would bring the fleet back to its level, the new one submitted and
//! placed: fact → decide → apply, as it happens live. Gangs have no expected end, and one that finds no place is
//! withdrawn.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use indicatif::{ProgressBar, ProgressStyle};
use offtake_engine::{Event, Fact, JobId, Phase, Policy, State, decide};
use offtake_fleet::{DomainIx, Fleet, LevelIx};
use offtake_units::Timestamp;
use offtake_workload::Job;
use offtake_workload::rng::Rng;
use serde::Serialize;

use super::mix::{CHIPS_PER_BLOCK, TENANTS, draw, job, tenant};
use super::{Arguments, LEVEL_PERCENT, Spread};
use crate::terminal::grouped;

#[derive(Serialize)]
pub struct Report {
    /// Blocks whose cap lets them give fewer nodes than they have free, at the end.
    blocks_held_back: u64,
    blocks: u64,
    level_pct: f64,
    steps: u64,
    placed: u64,
    failed: u64,
    placements_per_s: f64,
    steps_per_s: f64,
    place_us: Spread,
    place_1024_us: Spread,
    place_16384_us: Spread,
}

/// Measures the steps on a fleet.
///
/// # Errors
/// When a recount finds the account wrong.
pub fn measure(fleet: Arc<Fleet>, policy: Policy, arguments: &Arguments) -> anyhow::Result<Report> {
    Steps::new(fleet, policy, arguments).run(arguments)
}

struct Steps {
    state: State,
    rng: Rng,
    facts: Vec<Fact>,
    running: Vec<(JobId, u64)>,
    specs: BTreeMap<(u64, u64), Arc<Job>>,
    in_use: u64,
    target: u64,
    next: u64,
}

impl Steps {
    fn new(fleet: Arc<Fleet>, policy: Policy, arguments: &Arguments) -> Self {
        let chips = fleet.chips();
        let capped = fleet.caps.len() as u64 * (CHIPS_PER_BLOCK - CHIPS_PER_BLOCK * 4 / 5);
        let mut state = State::default();
        let at = Timestamp::EPOCH;
        state.apply(&Fact { at, event: Event::FleetLoaded { fleet } });
        state.apply(&Fact { at, event: Event::PolicySet { policy } });
        Self {
            state,
            rng: Rng::new(arguments.seed),
            facts: Vec::new(),
            running: Vec::new(),
            specs: BTreeMap::new(),
            in_use: 0,
            target: (chips - capped) * LEVEL_PERCENT / 100,
            next: 0,
        }
    }

    fn run(mut self, arguments: &Arguments) -> anyhow::Result<Report> {
        let bar = ProgressBar::new(arguments.steps + 1);
        bar.set_style(ProgressStyle::with_template(
            "steps {bar:30} {human_pos} of {human_len}, {per_sec}, {eta} left",
        )?);
        let mut misses = 0;
        while misses < 50 {
            let chips = draw(&mut self.rng, self.target);
            if self.in_use + chips > self.target || self.place(chips).is_none() {
                misses += 1;
            }
        }
        let mut times: [Vec<u32>; 3] = [Vec::new(), Vec::new(), Vec::new()];
        let (mut placed, mut failed) = (0, 0);
        let mut level = 0u128;
        let begin = Instant::now();
        for step in 0..arguments.steps {
            let chips = draw(&mut self.rng, self.target);
            while self.in_use + chips > self.target {
                self.release();
            }
            match self.place(chips) {
                None => failed += 1,
                Some(ns) => {
                    placed += 1;
                    match chips {
                        0..=64 => times[0].push(ns),
                        1_024..=4_096 => times[1].push(ns),
                        CHIPS_PER_BLOCK => times[2].push(ns),
                        _ => {}
                    }
                }
            }
            level += u128::from(self.in_use);
            if step % 1024 == 0 {
                bar.set_position(step);
            }
        }
        let wall = begin.elapsed().as_secs_f64();
        bar.finish_and_clear();
        if arguments.check {
            self.state.check().map_err(|difference| anyhow::anyhow!("the recount differs: {difference}"))?;
        }
        let fleet = Arc::clone(self.state.fleet());
        let blocks = fleet.domains_at(LevelIx(1));
        let held_back = blocks.clone().filter(|block| self.state.capacity().is_held_back(DomainIx(*block)));
        let [place_us, place_1024_us, place_16384_us] = times.map(Spread::of_micros);
        Ok(Report {
            blocks_held_back: held_back.count() as u64,
            blocks: blocks.len() as u64,
            level_pct: (level as f64 / f64::from(u32::try_from(arguments.steps)?) / fleet.chips() as f64 * 1e4).round()
                / 100.0,
            steps: arguments.steps,
            placed,
            failed,
            placements_per_s: (placed as f64 / wall).round(),
            steps_per_s: (arguments.steps as f64 / wall).round(),
            place_us,
            place_1024_us,
            place_16384_us,
        })
    }

    fn spec(&mut self, chips: u64) -> Arc<Job> {
        let number = self.rng.below(TENANTS);
        Arc::clone(self.specs.entry((chips, number)).or_insert_with(|| Arc::new(job(chips, tenant(number)))))
    }

    /// Submits a gang and lets the engine decide; how long that took, or nothing where it found no place.
    fn place(&mut self, chips: u64) -> Option<u32> {
        let spec = self.spec(chips);
        let id = JobId(self.next);
        self.next += 1;
        let now = self.state.now();
        let begin = Instant::now();
        self.state.apply(&Fact { at: now, event: Event::JobSubmitted { job: id, spec } });
        self.facts.clear();
        decide(&mut self.state, now, &mut self.facts);
        let took = u32::try_from(begin.elapsed().as_nanos()).unwrap_or(u32::MAX);
        if matches!(self.state.job(id).map(|work| &work.phase), Some(Phase::Running { .. })) {
            self.in_use += chips;
            self.running.push((id, chips));
            return Some(took);
        }
        self.state.apply(&Fact { at: now, event: Event::JobCancelled { job: id } });
        None
    }

    fn release(&mut self) {
        let place = self.rng.below(self.running.len() as u64) as usize;
        let (job, chips) = self.running.swap_remove(place);
        self.in_use -= chips;
        let now = self.state.now();
        self.state.apply(&Fact { at: now, event: Event::JobFinished { job } });
    }
}

impl Report {
    /// The figures for people.
    pub fn text(&self) -> (String, [(&'static str, &Spread); 3]) {
        let line = format!(
            "{:.1} % in use, {} of {} blocks held back by their cap\n{} steps/s, {} placed, {} found no place",
            self.level_pct,
            self.blocks_held_back,
            self.blocks,
            grouped(self.steps_per_s as u64),
            grouped(self.placed),
            grouped(self.failed),
        );
        let rows = [
            ("place up to 64 chips", &self.place_us),
            ("place 1,024 to 4,096 chips", &self.place_1024_us),
            ("place 16,384 chips", &self.place_16384_us),
        ];
        (line, rows)
    }
}
