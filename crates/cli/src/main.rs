//! The `offtake` command.

mod bench;
mod fleet;
mod simulate;
mod terminal;
mod trace;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// One control plane for fleets of AI compute: chips, topology, megawatts, prices and tenants in one plan.
#[derive(Parser)]
#[command(name = "offtake", version, max_term_width = 100, arg_required_else_help = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run a scenario in virtual time and write a report
    Simulate(simulate::Arguments),
    /// Check a fleet file, or show what it holds
    #[command(subcommand)]
    Fleet(fleet::Command),
    /// Convert traces of work
    #[command(subcommand)]
    Trace(trace::Command),
    /// Measure the engine
    #[command(subcommand)]
    Bench(bench::Command),
}

fn main() -> ExitCode {
    let result = match Cli::parse().command {
        Command::Simulate(arguments) => simulate::run(&arguments),
        Command::Fleet(command) => fleet::run(&command),
        Command::Trace(command) => trace::run(&command),
        Command::Bench(command) => bench::run(&command),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) if is_broken_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {}", terminal::chain(&error));
            ExitCode::from(if is_bad_input(&error) { 2 } else { 1 })
        }
    }
}

/// Whether what was given is at fault, rather than the machine or the program.
fn is_bad_input(error: &anyhow::Error) -> bool {
    error.is::<offtake_sim::ScenarioError>()
        || error.is::<offtake_fleet::FleetError>()
        || error.is::<offtake_workload::TraceError>()
        || error.is::<terminal::BadInput>()
        || error.downcast_ref().is_some_and(|error| !matches!(error, offtake_workload::WriteError::File { .. }))
}

/// Whoever read our output has seen enough.
fn is_broken_pipe(error: &anyhow::Error) -> bool {
    let io = error.chain().find_map(|cause| cause.downcast_ref::<std::io::Error>());
    io.is_some_and(|error| error.kind() == std::io::ErrorKind::BrokenPipe)
}
