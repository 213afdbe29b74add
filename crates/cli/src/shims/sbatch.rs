//! `sbatch`: submits a batch script.

use std::process::ExitCode;

use clap::Parser;

use super::open;
use crate::live::submit;
use crate::terminal::print;

/// Submit a batch script to an Offtake server, as Slurm's sbatch does; docs/sbatch.md lists its options.
#[derive(Parser, Debug)]
#[command(name = "sbatch", version, disable_help_flag = true)]
pub struct Arguments {
    /// Options, the script, and its arguments; without a script standard input is read
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "SCRIPT")]
    words: Vec<String>,
    /// Print help
    #[arg(long, action = clap::ArgAction::Help)]
    help: Option<bool>,
}

pub async fn run(arguments: Arguments) -> anyhow::Result<ExitCode> {
    let reading = submit::read_batch(&arguments.words)?;
    let parsable = reading.mode.parsable;
    submit::submit(&open()?, &reading, "sbatch: ", &|submitted| match parsable {
        true => print(&format!("{}\n", submitted.id)),
        false => print(&format!("Submitted batch job {}\n", submitted.id)),
    })
    .await
}
