//! `offtake simulate`: a scenario in, a report out.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use anyhow::Context;
use clap::Args;
use clap::builder::RangedU64ValueParser;
use flate2::Compression;
use flate2::write::GzEncoder;
use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use offtake_sim::report::{BackupLine, GridLine, GridSummary, PolicySummary, RampLine, render};
use offtake_sim::{Observer, Outcome, Overrides, Scenario};
use serde::Serialize;

use crate::show::statement;
use crate::terminal::{BadInput, grouped, print, print_json, table};

#[derive(Args)]
pub struct Arguments {
    /// The scenario file
    scenario: PathBuf,
    /// Policies to run instead of the scenario's, separated by commas
    #[arg(long = "policy", value_name = "A,B", value_delimiter = ',')]
    policies: Vec<String>,
    /// Seed of all that is drawn, instead of the scenario's
    #[arg(long)]
    seed: Option<u64>,
    /// Folder for summary, tables and report [default: out/NAME]
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Change a value of the scenario, such as workload.offered_load=0.9
    #[arg(long = "set", value_name = "KEY=VALUE")]
    set: Vec<String>,
    /// Policies run side by side on so many threads [default: all cores]
    #[arg(long, value_name = "N", value_parser = RangedU64ValueParser::<usize>::new().range(1..))]
    threads: Option<usize>,
    /// Print the summary as JSON
    #[arg(long)]
    json: bool,
}

/// What `summary.json` holds.
#[derive(Serialize)]
struct Summary<'a> {
    version: u32,
    scenario: &'a str,
    fleet: &'a str,
    chips: u64,
    seed: u64,
    policies: BTreeMap<&'a str, Figures<'a>>,
}

#[derive(Serialize)]
struct Figures<'a> {
    #[serde(flatten)]
    summary: &'a PolicySummary,
    timing: &'a Timing,
}

/// What was measured; it differs from run to run, and so stands apart.
#[derive(Serialize)]
struct Timing {
    decide_us: Spread,
    wall_s: f64,
    peak_rss_mb: f64,
}

#[derive(Serialize)]
struct Spread {
    p50: f64,
    p99: f64,
    max: f64,
}

struct Watch {
    since: Instant,
    bar: ProgressBar,
}

impl Observer for Watch {
    fn nanos(&mut self) -> u64 {
        u64::try_from(self.since.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }

    fn progress(&mut self, share_ppm: u32) {
        self.bar.set_position(u64::from(share_ppm));
    }
}

pub fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let scenario = offtake_sim::read(&arguments.scenario, &overrides(arguments)?)?;
    let out = arguments.out.clone().unwrap_or_else(|| Path::new("out").join(&scenario.name));
    let cannot_write = || format!("cannot write to {}", out.display());
    // A run may take an hour: whether its result can be written is known before.
    std::fs::create_dir_all(&out).with_context(cannot_write)?;
    Files::new(&out).begin("summary.json".to_owned()).with_context(cannot_write)?;
    let ran = run_policies(&scenario, arguments.threads)?;
    let summaries: Vec<PolicySummary> =
        ran.iter().map(|(_, outcome, _)| offtake_sim::summary(&scenario, outcome)).collect();
    let figures = ran.iter().zip(&summaries);
    let summary = Summary {
        version: 1,
        scenario: &scenario.name,
        fleet: &scenario.setup.fleet.name,
        chips: scenario.setup.fleet.chips(),
        seed: scenario.seed,
        policies: figures.map(|((name, _, timing), summary)| (name.as_str(), Figures { summary, timing })).collect(),
    };
    let json = serde_json::to_string_pretty(&summary)?;
    write_all(&out, &scenario, &json, &ran, &summaries, &command(arguments)).with_context(cannot_write)?;
    if arguments.json {
        print_json(&summary)?;
    } else {
        print(&text(&scenario, &ran, &summaries))?;
    }
    eprintln!("\nReport: {}", out.join("report.html").display());
    Ok(())
}

fn overrides(arguments: &Arguments) -> anyhow::Result<Overrides> {
    let mut set = Vec::new();
    for given in &arguments.set {
        let Some((key, value)) = given.split_once('=').filter(|(key, _)| !key.is_empty()) else {
            let message = format!("--set `{given}`: write KEY=VALUE, such as `workload.offered_load=0.9`");
            return Err(BadInput(message).into());
        };
        set.push((key.to_owned(), value.to_owned()));
    }
    Ok(Overrides { policies: arguments.policies.clone(), seed: arguments.seed, set })
}

/// The command that makes the same report again.
fn command(arguments: &Arguments) -> String {
    let mut words = vec!["offtake simulate".to_owned(), arguments.scenario.display().to_string()];
    if !arguments.policies.is_empty() {
        words.push(format!("--policy {}", arguments.policies.join(",")));
    }
    words.extend(arguments.seed.map(|seed| format!("--seed {seed}")));
    words.extend(arguments.set.iter().map(|set| format!("--set '{set}'")));
    words.join(" ")
}

type Ran = (String, Outcome, Timing);

/// Runs each policy on its own; which thread runs which does not matter to what comes out.
fn run_policies(scenario: &Scenario, threads: Option<usize>) -> anyhow::Result<Vec<Ran>> {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let threads = threads.unwrap_or(cores).clamp(1, scenario.policies.len());
    let style = ProgressStyle::with_template("{prefix:>10} {bar:30} {percent:>3}% of virtual time, {eta} left")?;
    let bars = MultiProgress::new();
    let next = AtomicUsize::new(0);
    let done = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                while let Some((name, policy)) = scenario.policies.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let bar = bars.add(ProgressBar::new(1_000_000).with_style(style.clone()).with_prefix(name.clone()));
                    let mut watch = Watch { since: Instant::now(), bar };
                    let result = offtake_sim::run(&scenario.setup, policy.clone(), &mut watch);
                    watch.bar.finish_and_clear();
                    let wall_s = watch.since.elapsed().as_secs_f64();
                    if let Ok(mut done) = done.lock() {
                        done.push((name.clone(), result, wall_s));
                    }
                }
            });
        }
    });
    let mut ran = Vec::new();
    for (name, result, wall_s) in done.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner) {
        let outcome = result.with_context(|| format!("policy {name}"))?;
        let timing = Timing { decide_us: spread(&outcome.pass_ns), wall_s, peak_rss_mb: peak_rss_mb() };
        ran.push((name, outcome, timing));
    }
    ran.sort_by_key(|(name, _, _)| scenario.policies.iter().position(|(other, _)| other == name));
    Ok(ran)
}

fn spread(nanos: &[u32]) -> Spread {
    let mut sorted = nanos.to_vec();
    sorted.sort_unstable();
    let at = |percent: usize| {
        sorted.get((sorted.len() * percent).div_ceil(100).max(1) - 1).map_or(0.0, |ns| f64::from(*ns) / 1e3)
    };
    Spread { p50: at(50), p99: at(99), max: at(100) }
}

/// The most memory that this process ever held, as Linux tells; zero where it does not.
pub fn peak_rss_mb() -> f64 {
    memory_mb("VmHWM:")
}

/// A line of this process's memory account.
pub fn memory_mb(line: &str) -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let kib = status.lines().find_map(|text| text.strip_prefix(line)?.split_whitespace().next()?.parse::<f64>().ok());
    kib.map_or(0.0, |kib| (kib / 1024.0 * 10.0).round() / 10.0)
}

/// The files of a run. All are written beside their place and moved there when the last is whole, so that a run that
/// fails leaves what was there before.
struct Files<'a> {
    folder: &'a Path,
    begun: Vec<String>,
}

impl<'a> Files<'a> {
    fn new(folder: &'a Path) -> Self {
        Self { folder, begun: Vec::new() }
    }

    fn partial(&self, name: &str) -> PathBuf {
        self.folder.join(format!(".{name}.partial"))
    }

    fn begin(&mut self, name: String) -> std::io::Result<BufWriter<File>> {
        let file = File::create(self.partial(&name))?;
        self.begun.push(name);
        Ok(BufWriter::new(file))
    }

    fn finish(mut self) -> std::io::Result<()> {
        for name in &self.begun {
            std::fs::rename(self.partial(name), self.folder.join(name))?;
        }
        self.begun.clear();
        Ok(())
    }
}

impl Drop for Files<'_> {
    fn drop(&mut self) {
        for name in &self.begun {
            // Nothing more can be done about a file that cannot be removed.
            let _ = std::fs::remove_file(self.partial(name));
        }
    }
}

fn write_all(
    out: &Path,
    scenario: &Scenario,
    json: &str,
    ran: &[Ran],
    summaries: &[PolicySummary],
    command: &str,
) -> anyhow::Result<()> {
    let mut files = Files::new(out);
    for (name, outcome, _) in ran {
        let mut jobs = GzEncoder::new(files.begin(format!("jobs-{name}.csv.gz"))?, Compression::fast());
        offtake_sim::write_jobs(scenario, outcome, &mut jobs)?;
        jobs.finish()?.flush()?;
        let mut timeline = files.begin(format!("timeline-{name}.csv"))?;
        offtake_sim::write_timeline(scenario, outcome, &mut timeline)?;
        timeline.flush()?;
        for (programme, series, settlement) in offtake_sim::settlements(&scenario.setup, outcome) {
            let of = format!("{}-{name}.csv", programme.name);
            let mut meter = files.begin(format!("meter-{of}"))?;
            offtake_sim::write_meter(series, &mut meter)?;
            meter.flush()?;
            let mut events = files.begin(format!("events-{of}"))?;
            offtake_sim::write_events(&settlement, &mut events)?;
            events.flush()?;
        }
    }
    let outcomes: Vec<(&str, &Outcome)> = ran.iter().map(|(name, outcome, _)| (name.as_str(), outcome)).collect();
    let page = render(&offtake_sim::report_data(scenario, &outcomes, summaries, command.to_owned()));
    for (name, text) in [("report.html", page.as_str()), ("summary.json", json)] {
        let mut file = files.begin(name.to_owned())?;
        file.write_all(text.as_bytes())?;
        file.flush()?;
    }
    Ok(files.finish()?)
}

fn text(scenario: &Scenario, ran: &[Ran], summaries: &[PolicySummary]) -> String {
    let focus = ran.iter().position(|(name, _, _)| *name == scenario.focus).unwrap_or_default();
    let best = &summaries[focus];
    let breaches =
        if best.cap_breaches == 0 { "no cap broken".to_owned() } else { format!("{} caps broken", best.cap_breaches) };
    let mut text = format!(
        "{} kept {:.1} % of {} chips busy; {} jobs finished,\n{} waiting at the end, p95 wait {}; peak {:.2} MW, {breaches}.\n\n",
        scenario.focus,
        best.allocation_pct,
        grouped(scenario.setup.fleet.chips()),
        grouped(best.finished),
        grouped(best.waiting_at_end),
        span(best.wait_s.p95),
        best.peak_mw,
    );
    let header = ["", "alloc %", "frag %", "finished", "mean wait", "p95 wait", "mean JCT", "$/chip-h"];
    let rows: Vec<Vec<String>> = ran
        .iter()
        .zip(summaries)
        .map(|((name, _, _), figures)| {
            vec![
                name.clone(),
                format!("{:.2}", figures.allocation_pct),
                format!("{:.2}", figures.fragmentation_pct),
                grouped(figures.finished),
                span(figures.wait_s.mean),
                span(figures.wait_s.p95),
                span(figures.jct_s.mean),
                figures.usd_per_useful_chip_hour.map_or_else(|| "–".to_owned(), |usd| format!("{usd:.4}")),
            ]
        })
        .collect();
    text.push_str(&table(&header, &rows));
    if let Some(figures) = &best.grid {
        if figures.events > 0 {
            text.push_str(&grid(figures));
        }
        for programme in &figures.programmes {
            text.push('\n');
            text.push_str(&statement::brief(programme));
        }
    }
    if let Some(backup) = &best.backup {
        backup.sites.iter().for_each(|site| text.push_str(&supply(site)));
    }
    best.ramps.iter().for_each(|site| text.push_str(&ramp(site)));
    text
}

/// What the back-up of a site did.
fn supply(site: &BackupLine) -> String {
    let times = if site.losses == 1 { "once".to_owned() } else { format!("{} times", site.losses) };
    let hours = |hours: f64| span(hours * 3600.0);
    let carried = [
        (site.ups_s > 0.0).then(|| format!("{} on the UPS", span(site.ups_s))),
        (site.generator_hours > 0.0).then(|| {
            let left = site.permit_hours_left.map(|left| format!(", {} of their permit left", hours(left)));
            format!("{} on generators{}", hours(site.generator_hours), left.unwrap_or_default())
        }),
        (site.dark_s > 0.0).then(|| format!("{} dark", span(site.dark_s))),
        (site.dropped > 0).then(|| format!("{} attempts lost power running", grouped(site.dropped))),
    ];
    let carried: Vec<String> = carried.into_iter().flatten().collect();
    format!("\nUtility of {} lost {times}: {}.\n", site.site, carried.join("; "))
}

/// How fast the draw of a site changed.
fn ramp(site: &RampLine) -> String {
    let waited = if site.waited == 1 { "1 start".to_owned() } else { format!("{} starts", grouped(site.waited)) };
    format!(
        "\nRamp of {}: largest step up {:.2} MW and largest job {:.2} MW, of {:.2} MW;\nfastest minute {:.3} MW/s up, of \
         {:.3}; {waited} waited for it.\n",
        site.site,
        site.step_up_mw,
        site.largest_job_mw,
        site.max_step_mw + site.smoothing_mw.unwrap_or_default(),
        site.minute_up_mw_per_s,
        // A step may come on top of what the rate lets through.
        site.up_mw_per_s + site.max_step_mw / 60.0,
    )
}

/// What came of the grid events.
fn grid(grid: &GridSummary) -> String {
    let sum = |of: fn(&GridLine) -> u64| grid.lines.iter().map(of).sum::<u64>();
    let (throttled, paused, stopped) = (sum(|line| line.throttled), sum(|line| line.paused), sum(|line| line.stopped));
    let met = match (grid.feasible, grid.met, grid.held_to_end) {
        (0, ..) => "none could be met".to_owned(),
        (1, 1, 1) if grid.events == 1 => "met in time and to its end".to_owned(),
        (feasible, met, held) if met == feasible && held == met => {
            format!("all {} that could be met were, in time and to their end", grouped(feasible))
        }
        (feasible, met, held) => {
            format!("{} of {} met in time, {} to their end", grouped(met), grouped(feasible), grouped(held))
        }
    };
    let unmet = match grid.declared_infeasible {
        0 => String::new(),
        unmet => format!("; {} asked for less than can be had", grouped(unmet)),
    };
    let times = |what, count| if count > 0 { format!("{what} {} times, ", grouped(count)) } else { String::new() };
    let slower = times("throttled", throttled) + &times("paused", paused);
    let what = if grid.events == 1 { "Grid event" } else { "Grid events" };
    format!("\n{what}: {met}{unmet}; {slower}{} attempts stopped.\n", grouped(stopped))
}

fn span(seconds: f64) -> String {
    offtake_units::Duration::from_millis((seconds * 1000.0) as i64).to_string()
}
