//! `offtake bench packing`: how full each packing gets a cluster before work finds no place any more.
//!
//! The protocol of Weng et al. (USENIX ATC 2023): the pods of a list arrive one at a time in an order drawn from a seed,
//! until they have asked for a given part of the chips, 130 % as published; none leaves, and one that finds no place is
//! withdrawn. Pods are drawn again where the list is too short for that, and left out where it is too long. Published
//! ties go to nodes in an order drawn once per run, so the nodes are shuffled with the seed too.
//!
//! All of it goes through the engine by facts, like a live cluster: nothing is told to a packing beforehand.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use indicatif::{ProgressBar, ProgressStyle};
use offtake_engine::{Event, Fact, FreeVector, JobId, Phase, Policy, State, decide};
use offtake_fleet::Fleet;
use offtake_units::{ChipMilli, Timestamp};
use offtake_workload::rng::Rng;
use offtake_workload::{Job, Tier, TraceFormat};
use serde::Serialize;

use crate::terminal::BadInput;

/// What to fill with what.
#[derive(Clone, Debug)]
pub struct Options {
    /// The node list of the openb format.
    pub nodes: PathBuf,
    /// The pod list of the openb format, plain or gzip.
    pub pods: PathBuf,
    /// One fill for each seed and policy.
    pub seeds: RangeInclusive<u64>,
    /// What is asked for in all, in percent of the chips.
    pub fill_percent: u64,
    /// Names of policies.
    pub policies: Vec<String>,
    /// Fills at the same time.
    pub threads: usize,
}

/// What came of it.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// Nodes of the list.
    pub nodes: usize,
    /// Chips of the nodes.
    pub chips: u64,
    /// Pods of the list.
    pub pods: usize,
    /// What was asked for in all, in percent of the chips.
    pub fill_percent: u64,
    /// The first and the last seed.
    pub seeds: (u64, u64),
    /// Results by policy.
    pub policies: BTreeMap<String, Packed>,
    /// Measured times by policy.
    pub timing: BTreeMap<String, Timing>,
}

/// How full a policy got the cluster, over all seeds.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Packed {
    /// Chips in use, in percent: the mean.
    pub alloc_pct_mean: f64,
    /// Its standard deviation.
    pub alloc_pct_sd: f64,
    /// Chips that the typical request could not use because of where they are, in percent of all: the mean.
    pub frag_pct_mean: f64,
    /// Pods placed: the mean.
    pub placed_mean: f64,
}

/// How long the fills took, without reading files.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Timing {
    /// The median.
    pub fill_s_p50: f64,
    /// The longest.
    pub fill_s_max: f64,
    /// Decisions in a second, at the median.
    pub decisions_per_s: f64,
}

/// One fill.
#[derive(Clone, Copy, Debug)]
struct Fill {
    alloc_pct: f64,
    frag_pct: f64,
    placed: u64,
    arrived: u64,
    seconds: f64,
}

/// Fills the nodes once for each policy and seed.
///
/// # Errors
/// When a file cannot be read, a policy is not known, or there is nothing to do.
pub fn run(options: &Options) -> anyhow::Result<Report> {
    let policies = policies(options)?;
    let fleet = read_fleet(&options.nodes)?;
    let pods = read_pods(&options.pods)?;
    let seeds: Vec<u64> = options.seeds.clone().collect();
    let runs: Vec<(usize, u64)> =
        (0..policies.len()).flat_map(|policy| seeds.iter().map(move |seed| (policy, *seed))).collect();
    let bar = ProgressBar::new(runs.len() as u64);
    bar.set_style(ProgressStyle::with_template("fills {bar:30} {pos} of {len}, {eta} left")?);
    let fills = Mutex::new(BTreeMap::new());
    let next = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..options.threads.clamp(1, runs.len()) {
            scope.spawn(|| {
                while let Some((policy, seed)) = runs.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let fill = fill(&fleet, &pods, options.fill_percent, &policies[*policy], *seed);
                    fills.lock().unwrap_or_else(PoisonError::into_inner).insert((*policy, *seed), fill);
                    bar.inc(1);
                }
            });
        }
    });
    bar.finish_and_clear();
    let fills = fills.into_inner().unwrap_or_else(PoisonError::into_inner);
    let of = |policy: usize| fills.range((policy, 0)..=(policy, u64::MAX)).map(|(_, fill)| *fill).collect::<Vec<_>>();
    let by_policy = || options.policies.iter().enumerate().map(|(place, name)| (name.clone(), of(place)));
    Ok(Report {
        nodes: fleet.nodes.len(),
        chips: fleet.chips(),
        pods: pods.len(),
        fill_percent: options.fill_percent,
        seeds: (*options.seeds.start(), *options.seeds.end()),
        policies: by_policy().map(|(name, fills)| (name, packed(&fills))).collect(),
        timing: by_policy().map(|(name, fills)| (name, timing(&fills))).collect(),
    })
}

fn policies(options: &Options) -> anyhow::Result<Vec<Policy>> {
    if options.policies.is_empty() || options.seeds.is_empty() || options.fill_percent == 0 {
        return Err(BadInput("nothing to do: name a policy, a seed and a fill above 0 %".to_owned()).into());
    }
    let named = |name: &String| {
        Policy::named(name, 0)
            .ok_or_else(|| BadInput(format!("no policy `{name}`: allowed are {}", Policy::NAMES.join(", "))).into())
    };
    options.policies.iter().map(named).collect()
}

/// The fleet of a node list: one site without limits, so that its watts, which a chip must have, decide nothing.
fn read_fleet(nodes: &Path) -> anyhow::Result<Fleet> {
    const MODEL: &str = "model";
    let shown = nodes.display();
    let text = std::fs::read_to_string(nodes)
        .map_err(|error| BadInput(format!("{shown}: the node list cannot be read: {}", error.kind())))?;
    let mut lines = text.lines().map(|line| line.split(','));
    let column = lines.next().and_then(|mut header| header.position(|name| name == MODEL));
    let column = column.ok_or_else(|| BadInput(format!("`{shown}`: its first line names no column `{MODEL}`")))?;
    let models: BTreeSet<&str> = lines.filter_map(|mut row| row.nth(column)).filter(|name| !name.is_empty()).collect();
    let mut fleet = "name = \"nodes\"\n".to_owned();
    for model in models {
        let name = serde_json::to_string(model)?;
        fleet +=
            &format!("[accelerators.{name}]\nidle_watts = 0\noperating_watts = 1\npeak_watts = 1\nbase_watts = 0\n");
    }
    let file = serde_json::to_string(&nodes.display().to_string())?;
    fleet += &format!(
        "[sites.site]\npue = 1\nnode_list.file = {file}\nnode_list.base_watts = 0\n[sites.site.node_list.columns]\n\
         name = \"sn\"\naccelerator = \"{MODEL}\"\nchips = \"gpu\"\ncpu_milli = \"cpu_milli\"\nmemory_mib = \"memory_mib\"\n"
    );
    Ok(offtake_fleet::parse(&fleet, &shown.to_string(), Path::new(""), &BTreeMap::new())?)
}

/// The pods of a list as jobs that never end and differ in what they ask for only.
fn read_pods(pods: &Path) -> anyhow::Result<Vec<Arc<Job>>> {
    let jobs = offtake_workload::read(pods, Some(TraceFormat::Openb))?.jobs;
    if jobs.iter().all(|job| job.chip_milli() == 0) {
        return Err(BadInput(format!("`{}`: no pod asks for a chip", pods.display())).into());
    }
    let alike =
        |job| Job { submitted: Timestamp::EPOCH, duration: None, tier: Tier::Standard, preemptible: false, ..job };
    Ok(jobs.into_iter().map(|job| Arc::new(alike(job))).collect())
}

/// The pods in the order of their arrival.
fn arrivals(pods: &[Arc<Job>], target_chip_milli: u64, rng: &mut Rng) -> Vec<Arc<Job>> {
    let mut arriving = pods.to_vec();
    shuffle(&mut arriving, rng);
    let mut asked: u64 = arriving.iter().map(|pod| pod.chip_milli()).sum();
    while asked > target_chip_milli {
        let place = rng.below(arriving.len() as u64) as usize;
        asked -= arriving.swap_remove(place).chip_milli();
    }
    loop {
        let pod = &pods[rng.below(pods.len() as u64) as usize];
        asked += pod.chip_milli();
        if asked > target_chip_milli {
            return arriving;
        }
        arriving.push(Arc::clone(pod));
    }
}

fn shuffle<T>(list: &mut [T], rng: &mut Rng) {
    for last in (1..list.len()).rev() {
        list.swap(last, rng.below(last as u64 + 1) as usize);
    }
}

fn fill(fleet: &Fleet, pods: &[Arc<Job>], percent: u64, policy: &Policy, seed: u64) -> Fill {
    let rng = Rng::new(seed);
    let chip_milli = fleet.chips() * u64::from(ChipMilli::WHOLE.get());
    let arriving = arrivals(pods, chip_milli * percent / 100, &mut rng.derive("pods"));
    let mut fleet = fleet.clone();
    fleet.node_names.clear();
    shuffle(&mut fleet.nodes, &mut rng.derive("nodes"));
    let policy = Policy { seed, ..policy.clone() };
    let begin = Instant::now();
    let at = Timestamp::EPOCH;
    let mut state = State::default();
    let mut facts = Vec::new();
    let mut placed = 0;
    state.apply(&Fact { at, event: Event::FleetLoaded { fleet: Arc::new(fleet) } });
    state.apply(&Fact { at, event: Event::PolicySet { policy } });
    for (number, spec) in arriving.iter().enumerate() {
        let job = JobId(number as u64);
        state.apply(&Fact { at, event: Event::JobSubmitted { job, spec: Arc::clone(spec) } });
        facts.clear();
        decide(&mut state, at, &mut facts);
        match state.job(job).map(|work| &work.phase) {
            Some(Phase::Running { .. }) => placed += 1,
            Some(_) => state.apply(&Fact { at, event: Event::JobCancelled { job } }),
            None => {}
        }
    }
    let seconds = begin.elapsed().as_secs_f64();
    let left = |free: &FreeVector| {
        let whole = u64::from(free.whole) * u64::from(ChipMilli::WHOLE.get());
        whole + free.shared.iter().map(|left| u64::from(*left)).sum::<u64>()
    };
    let free: u64 = state.capacity().classes().iter().map(|class| left(&class.vector) * u64::from(class.nodes())).sum();
    let percent = |part: u64| part as f64 * 100.0 / chip_milli as f64;
    Fill {
        alloc_pct: percent(chip_milli - free),
        frag_pct: percent(state.fragmented_chip_milli()),
        placed,
        arrived: arriving.len() as u64,
        seconds,
    }
}

fn packed(fills: &[Fill]) -> Packed {
    let count = fills.len() as f64;
    let mean = |of: fn(&Fill) -> f64| fills.iter().map(of).sum::<f64>() / count;
    let alloc_pct = mean(|fill| fill.alloc_pct);
    let squares: f64 = fills.iter().map(|fill| (fill.alloc_pct - alloc_pct).powi(2)).sum();
    Packed {
        alloc_pct_mean: rounded(alloc_pct),
        alloc_pct_sd: rounded((squares / (count - 1.0).max(1.0)).sqrt()),
        frag_pct_mean: rounded(mean(|fill| fill.frag_pct)),
        placed_mean: rounded(mean(|fill| fill.placed as f64)),
    }
}

fn timing(fills: &[Fill]) -> Timing {
    let mut sorted = fills.to_vec();
    sorted.sort_by(|a, b| a.seconds.total_cmp(&b.seconds));
    let (median, longest) = (sorted[sorted.len() / 2], sorted[sorted.len() - 1]);
    Timing {
        fill_s_p50: rounded(median.seconds),
        fill_s_max: rounded(longest.seconds),
        decisions_per_s: (median.arrived as f64 / median.seconds).round(),
    }
}

fn rounded(number: f64) -> f64 {
    (number * 1000.0).round() / 1000.0
}
