//! `offtake trace`: between the formats of work.

use std::path::PathBuf;
use std::str::FromStr;

use clap::Subcommand;
use offtake_workload::TraceFormat;

use crate::terminal::{BadInput, grouped};

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
    },
}

pub fn run(command: &Command) -> anyhow::Result<()> {
    let Command::Convert { input, output, from, to } = command;
    let from = from.as_deref().map(|name| format(name, "openb, philly, csv or jsonl")).transpose()?;
    let to = to.as_deref().map(|name| format(name, "csv or jsonl")).transpose()?;
    let workload = offtake_workload::read(input, from)?;
    offtake_workload::write(output, &workload, to)?;
    eprintln!(
        "{} jobs and {} services written to {}",
        grouped(workload.jobs.len() as u64),
        grouped(workload.services.len() as u64),
        output.display()
    );
    Ok(())
}

fn format(name: &str, allowed: &str) -> anyhow::Result<TraceFormat> {
    TraceFormat::from_str(name).map_err(|_| BadInput(format!("`{name}` is no format; allowed is {allowed}")).into())
}
