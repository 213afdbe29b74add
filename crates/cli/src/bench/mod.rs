//! `offtake bench`: the engine measured, by commands that anyone can run.

mod engine;
mod live;
mod packing;

use std::ops::RangeInclusive;
use std::path::PathBuf;

use clap::{Args, Subcommand};
use offtake_engine::Policy;

use crate::terminal::{print, print_json, table};

#[derive(Subcommand)]
pub enum Command {
    /// Fill a synthetic fleet and place and release gangs at that level
    Engine(engine::Arguments),
    /// Fill a synthetic fleet, and tell all its sites to draw less
    Curtail(engine::curtail::Arguments),
    /// Fill a fleet under caps that bind, and tell what share of the megawatts is used
    Fill(engine::fill::Arguments),
    /// Fill a cluster of the openb format, one pod at a time, under each packing
    Packing(PackingArguments),
    /// Submit jobs to a server of its own, as fast as it takes them
    Submit(live::submit::Arguments),
    /// Run jobs from submission to end on simulated agents
    Lifecycle(live::lifecycle::Arguments),
    /// Let simulated agents report to one server
    Agents(live::agents::Arguments),
    /// Announce a grid event without notice to simulated agents, and wait until all have obeyed
    Obey(live::obey::Arguments),
    /// Place a backlog that may start at one instant
    Backlog(live::backlog::Arguments),
    /// Restart a server on a journal of many facts
    Restart(live::restart::Arguments),
}

#[derive(Args)]
pub struct PackingArguments {
    /// Node list of the openb format
    #[arg(long, value_name = "CSV")]
    nodes: PathBuf,
    /// Pod list of the openb format, plain or gzip
    #[arg(long, value_name = "CSV")]
    pods: PathBuf,
    /// Seeds, one fill each
    #[arg(long, value_name = "A..B", default_value = "42..51", value_parser = seeds)]
    seeds: RangeInclusive<u64>,
    /// What is asked for in all, in percent of the chips
    #[arg(long, value_name = "PERCENT", default_value_t = 130)]
    fill: u64,
    /// Policies, separated by commas [default: all with a packing of their own]
    #[arg(long, value_name = "A,B", value_delimiter = ',')]
    policies: Vec<String>,
    /// Fills at the same time [default: all cores]
    #[arg(long, value_name = "N")]
    threads: Option<usize>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub fn run(command: &Command) -> anyhow::Result<()> {
    match command {
        Command::Engine(arguments) => engine::run(arguments),
        Command::Curtail(arguments) => engine::curtail::run(arguments),
        Command::Fill(arguments) => engine::fill::run(arguments),
        Command::Packing(arguments) => pack(arguments),
        Command::Submit(arguments) => live::submit::run(arguments),
        Command::Lifecycle(arguments) => live::lifecycle::run(arguments),
        Command::Agents(arguments) => live::agents::run(arguments),
        Command::Obey(arguments) => live::obey::run(arguments),
        Command::Backlog(arguments) => live::backlog::run(arguments),
        Command::Restart(arguments) => live::restart::run(arguments),
    }
}

fn pack(arguments: &PackingArguments) -> anyhow::Result<()> {
    let own_packing =
        || Policy::NAMES.iter().filter(|name| !["fifo", "backfill"].contains(name)).map(|name| (*name).to_owned());
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let report = packing::run(&packing::Options {
        nodes: arguments.nodes.clone(),
        pods: arguments.pods.clone(),
        seeds: arguments.seeds.clone(),
        fill_percent: arguments.fill,
        policies: if arguments.policies.is_empty() { own_packing().collect() } else { arguments.policies.clone() },
        threads: arguments.threads.unwrap_or(cores),
    })?;
    if arguments.json {
        return print_json(&report);
    }
    let rows: Vec<Vec<String>> = report
        .policies
        .iter()
        .map(|(name, packed)| {
            vec![
                name.clone(),
                format!("{:.2}", packed.alloc_pct_mean),
                format!("{:.2}", packed.alloc_pct_sd),
                format!("{:.2}", packed.frag_pct_mean),
                report.timing.get(name).map_or_else(String::new, |timing| format!("{:.3}", timing.fill_s_p50)),
            ]
        })
        .collect();
    print(&table(&["", "allocated %", "sd", "fragmented %", "fill s"], &rows))
}

/// Reads `42..51`, both ends included.
fn seeds(text: &str) -> Result<RangeInclusive<u64>, String> {
    let ends = text.split_once("..").unwrap_or((text, text));
    match (ends.0.parse(), ends.1.parse()) {
        (Ok(first), Ok(last)) if first <= last => Ok(first..=last),
        _ => Err("write the first and the last seed, such as 42..51".to_owned()),
    }
}
