//! `offtake bench engine`: what a placement costs on a fleet of any size, nearly full.
//!
//! A step releases gangs drawn at random until a new one would bring the fleet back to its level, submits the new one
//! and lets the engine decide: fact → decide → apply, as it happens live. Gangs have no expected end, and one that
//! finds no place is withdrawn.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use offtake_engine::{Event, Fact, JobId, Phase, Policy, State, decide};
use offtake_fleet::Fleet;
use offtake_units::{CpuMilli, Mebibytes, Timestamp};
use offtake_workload::rng::Rng;
use offtake_workload::{ChipRequest, Gang, Job, Strength, Tier, Topology};
use serde::Serialize;

use crate::simulate::memory_mb;
use crate::terminal::{BadInput, grouped, print, print_json, table};

#[derive(Args)]
pub struct Arguments {
    /// Chips of the synthetic fleet, 16 a node
    #[arg(long, value_name = "N", default_value_t = 1_000_000)]
    accelerators: u64,
    /// Every other block may power only four fifths of its chips
    #[arg(long)]
    caps_bind: bool,
    /// Place-and-release steps
    #[arg(long, value_name = "N", default_value_t = 200_000)]
    steps: u64,
    /// Seed of the gangs and of who is released
    #[arg(long, default_value_t = 42)]
    seed: u64,
    /// Recount every truth at the end
    #[arg(long)]
    check: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Report {
    accelerators: u64,
    nodes: u64,
    caps_bind: bool,
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
    rss_mb: f64,
    /// A fixed loop on this machine, so that machines compare: nanoseconds for one step of splitmix64.
    calibration_ns: f64,
}

#[derive(Serialize)]
struct Spread {
    p50: f64,
    p99: f64,
    max: f64,
}

const CHIPS_PER_NODE: u64 = 16;
const CHIPS_PER_RACK: u64 = 256;
const CHIPS_PER_BLOCK: u64 = 16_384;
const BLOCKS_PER_SITE: u64 = 32;
/// Share of what can be powered that is in use, in percent.
const LEVEL_PERCENT: u64 = 95;

pub fn run(arguments: &Arguments) -> anyhow::Result<()> {
    if !(CHIPS_PER_BLOCK..=64_000_000).contains(&arguments.accelerators) || arguments.steps == 0 {
        let message = "--accelerators: allowed is 16384 to 64000000, and --steps at least 1";
        return Err(BadInput(message.to_owned()).into());
    }
    let text = fleet_text(arguments.accelerators, arguments.caps_bind);
    let fleet = Arc::new(offtake_fleet::parse(&text, "synthetic fleet", Path::new(""), &BTreeMap::new())?);
    let report = Bench::new(fleet, arguments)?.run(arguments)?;
    if arguments.json { print_json(&report) } else { print(&report.text()) }
}

/// Nodes of 16 chips in islands of 4, racks of 4 islands, blocks of 64 racks and sites of 32 blocks.
fn fleet_text(chips: u64, caps_bind: bool) -> String {
    let blocks = chips / CHIPS_PER_BLOCK;
    let racks = chips % CHIPS_PER_BLOCK / CHIPS_PER_RACK;
    let mut text = "name = \"synthetic\"\nlevels = [\"site\", \"block\", \"rack\", \"island\"]\n\
        [accelerators.chip]\nidle_watts = 100\noperating_watts = 500\npeak_watts = 600\n\
        [node_kinds.node]\naccelerator = \"chip\"\nchips = 16\ncpu_cores = 192\nmemory_gib = 2048\nbase_watts = 1000\n\
        [templates.island]\nlevel = \"island\"\nnodes = { node = 4 }\n\
        [templates.rack]\nlevel = \"rack\"\ndomains = { island = 4 }\n\
        [templates.block]\nlevel = \"block\"\ndomains = { rack = 64 }\n"
        .to_owned();
    if racks > 0 {
        let _ = write!(text, "[templates.part]\nlevel = \"block\"\ndomains = {{ rack = {racks} }}\n");
    }
    let sites = blocks.div_ceil(BLOCKS_PER_SITE);
    for site in 0..sites {
        let here = (blocks - site * BLOCKS_PER_SITE).min(BLOCKS_PER_SITE);
        let part = if site + 1 == sites && racks > 0 { ", part = 1" } else { "" };
        let _ = write!(text, "[sites.site-{site}]\npue = 1.2\ndomains = {{ block = {here}{part} }}\n");
    }
    if caps_bind {
        // Nodes idle at 1,000 W + 16 × 100 W; each chip at work adds 400 W; four fifths of them may be at work.
        let watts = CHIPS_PER_BLOCK / CHIPS_PER_NODE * (1000 + 16 * 100) + CHIPS_PER_BLOCK * 4 / 5 * 400;
        for block in (0..blocks).step_by(2) {
            let (site, place) = (block / BLOCKS_PER_SITE, block % BLOCKS_PER_SITE);
            let _ = write!(
                text,
                "[caps.cap-{block}]\non = \"site-{site}/block-{place}\"\nwatts = {watts}\nmeter = \"it\"\nkind = \"contract\"\n"
            );
        }
    }
    text
}

struct Bench {
    state: State,
    rng: Rng,
    facts: Vec<Fact>,
    running: Vec<(JobId, u64)>,
    specs: BTreeMap<u64, Arc<Job>>,
    in_use: u64,
    target: u64,
    next: u64,
}

impl Bench {
    fn new(fleet: Arc<Fleet>, arguments: &Arguments) -> anyhow::Result<Self> {
        let chips = fleet.chips();
        let capped = fleet.caps.len() as u64 * (CHIPS_PER_BLOCK - CHIPS_PER_BLOCK * 4 / 5);
        let mut state = State::default();
        let at = Timestamp::EPOCH;
        state.apply(&Fact { at, event: Event::FleetLoaded { fleet } });
        let policy =
            Policy::named("offtake", arguments.seed).ok_or_else(|| anyhow::anyhow!("policy offtake is gone"))?;
        state.apply(&Fact { at, event: Event::PolicySet { policy } });
        Ok(Self {
            state,
            rng: Rng::new(arguments.seed),
            facts: Vec::new(),
            running: Vec::new(),
            specs: BTreeMap::new(),
            in_use: 0,
            target: (chips - capped) * LEVEL_PERCENT / 100,
            next: 0,
        })
    }

    fn run(mut self, arguments: &Arguments) -> anyhow::Result<Report> {
        let calibration_ns = calibrate();
        let bar = ProgressBar::new(arguments.steps + 1);
        bar.set_style(ProgressStyle::with_template(
            "steps {bar:30} {human_pos} of {human_len}, {per_sec}, {eta} left",
        )?);
        let mut misses = 0;
        while misses < 50 {
            let chips = self.draw();
            if self.in_use + chips > self.target || self.place(chips).is_none() {
                misses += 1;
            }
        }
        let mut times: [Vec<u32>; 3] = [Vec::new(), Vec::new(), Vec::new()];
        let (mut placed, mut failed) = (0, 0);
        let mut level = 0u128;
        let begin = Instant::now();
        for step in 0..arguments.steps {
            let chips = self.draw();
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
                        16_384 => times[2].push(ns),
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
        let blocks = fleet.domains_at(offtake_fleet::LevelIx(1));
        let capacity = self.state.capacity();
        let held_back = blocks.clone().filter(|block| capacity.is_held_back(offtake_fleet::DomainIx(*block)));
        let [place, place_1024, place_16384] = times.map(spread);
        Ok(Report {
            accelerators: fleet.chips(),
            nodes: fleet.nodes.len() as u64,
            caps_bind: arguments.caps_bind,
            blocks_held_back: held_back.count() as u64,
            blocks: blocks.len() as u64,
            level_pct: (level as f64 / f64::from(u32::try_from(arguments.steps)?) / fleet.chips() as f64 * 1e4).round()
                / 100.0,
            steps: arguments.steps,
            placed,
            failed,
            placements_per_s: (placed as f64 / wall).round(),
            steps_per_s: (arguments.steps as f64 / wall).round(),
            place_us: place,
            place_1024_us: place_1024,
            place_16384_us: place_16384,
            rss_mb: memory_mb("VmRSS:"),
            calibration_ns,
        })
    }

    /// Chips of the next gang: 1 in 30 % of the cases, 2–16 in 30 %, 17–64 in 30 %, 65–512 in 8 %, 1,024–4,096 in 1.8 %
    /// and 16,384 in 0.2 %. Above one node, whole nodes.
    fn draw(&mut self) -> u64 {
        let (low, high) = match self.rng.below(1000) {
            0..300 => return 1,
            300..600 => (2, 16),
            600..900 => (17, 64),
            900..980 => (65, 512),
            980..998 => (1_024, 4_096),
            _ => return CHIPS_PER_BLOCK,
        };
        let chips = low + self.rng.below(high - low + 1);
        if chips > CHIPS_PER_NODE { chips.next_multiple_of(CHIPS_PER_NODE) } else { chips }
    }

    fn spec(&mut self, chips: u64) -> Arc<Job> {
        Arc::clone(self.specs.entry(chips).or_insert_with(|| Arc::new(job(chips))))
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

/// Up to 16 chips one worker of one node; above that, workers of 16. Each asks for the narrowest level that holds it; the
/// largest prefers one block.
fn job(chips: u64) -> Job {
    let (workers, each) = if chips <= CHIPS_PER_NODE { (1, chips) } else { (chips / CHIPS_PER_NODE, CHIPS_PER_NODE) };
    let (level, strength) = match chips {
        0..=64 => ("island", Strength::Required),
        65..=512 => ("rack", Strength::Preferred),
        1_024..=4_096 => ("block", Strength::Required),
        _ => ("block", Strength::Preferred),
    };
    let gang = Gang {
        workers: workers as u32,
        chips: ChipRequest::Whole(each as u16),
        cpu: CpuMilli::new(each as u32 * 8_000),
        memory: Mebibytes::new(each * 64 * 1024),
        topology: Some(Topology { level: level.to_owned(), strength }),
        ..Gang::default()
    };
    Job {
        name: format!("gang-{chips}"),
        tenant: "bench".to_owned(),
        tier: Tier::Standard,
        submitted: Timestamp::EPOCH,
        duration: None,
        deadline: None,
        checkpoint: None,
        preemptible: false,
        gangs: vec![gang],
        ..Job::default()
    }
}

fn calibrate() -> f64 {
    const STEPS: u32 = 20_000_000;
    let begin = Instant::now();
    let mut state = 0u64;
    let mut sum = 0u64;
    for _ in 0..STEPS {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        sum ^= mixed ^ (mixed >> 31);
    }
    std::hint::black_box(sum);
    (begin.elapsed().as_secs_f64() * 1e9 / f64::from(STEPS) * 1000.0).round() / 1000.0
}

fn spread(mut nanos: Vec<u32>) -> Spread {
    nanos.sort_unstable();
    let at = |percent: usize| {
        nanos.get((nanos.len() * percent).div_ceil(100).max(1) - 1).map_or(0.0, |ns| f64::from(*ns) / 1e3)
    };
    Spread { p50: at(50), p99: at(99), max: at(100) }
}

impl Report {
    fn text(&self) -> String {
        let row = |name: &str, spread: &Spread| {
            let us = |value: f64| format!("{value:.2}");
            vec![name.to_owned(), us(spread.p50), us(spread.p99), us(spread.max)]
        };
        let rows = [
            row("up to 64 chips", &self.place_us),
            row("1,024 to 4,096 chips", &self.place_1024_us),
            row("16,384 chips", &self.place_16384_us),
        ];
        format!(
            "{} chips on {} nodes, {:.1} % in use, {} of {} blocks held back by their cap\n{} steps/s, {} placed, {} found no place, \
             {:.0} MB resident, calibration {:.3} ns\n\n{}",
            grouped(self.accelerators),
            grouped(self.nodes),
            self.level_pct,
            self.blocks_held_back,
            self.blocks,
            grouped(self.steps_per_s as u64),
            grouped(self.placed),
            grouped(self.failed),
            self.rss_mb,
            self.calibration_ns,
            table(&["place, µs", "p50", "p99", "max"], &rows)
        )
    }
}
