//! `offtake trace`: between the formats of work.

use std::path::{Path, PathBuf};
use std::str::FromStr;

use clap::Subcommand;
use offtake_workload::TraceFormat;
use serde::Serialize;

use crate::terminal::{BadInput, grouped, print_json};

#[derive(Subcommand)]
pub enum Command {
    /// Convert a trace to our CSV or JSON Lines
    Convert {
        /// The trace; plain or gzip
        input: PathBuf,
        /// The file to write; `.gz` at its end compresses it
        output: PathBuf,
        /// Format of the input; told from its content otherwise
        #[arg(long, value_name = "FORMAT")]
        from: Option<String>,
        /// Format of the output, csv or jsonl; told from its name otherwise
        #[arg(long, value_name = "FORMAT")]
        to: Option<String>,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
}

/// What was written where.
#[derive(Serialize)]
struct Converted<'a> {
    jobs: u64,
    services: u64,
    output: &'a Path,
}

pub fn run(command: &Command) -> anyhow::Result<()> {
    let Command::Convert { input, output, from, to, json } = command;
    let from = from.as_deref().map(|name| format("--from", name, "openb, philly, csv or jsonl")).transpose()?;
    let to = to.as_deref().map(|name| format("--to", name, "csv or jsonl")).transpose()?;
    let workload = offtake_workload::read(input, from)?;
    offtake_workload::write(output, &workload, to)?;
    let (jobs, services) = (workload.jobs.len() as u64, workload.services.len() as u64);
    if *json {
        return print_json(&Converted { jobs, services, output });
    }
    eprintln!("{} jobs and {} services written to {}", grouped(jobs), grouped(services), output.display());
    Ok(())
}

fn format(option: &str, name: &str, allowed: &str) -> anyhow::Result<TraceFormat> {
    TraceFormat::from_str(name).map_err(|_| BadInput(format!("{option} `{name}`: allowed is {allowed}")).into())
}
