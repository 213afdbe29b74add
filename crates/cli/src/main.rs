//! The `offtake` command.

mod agent;
mod bench;
mod connection;
mod context;
mod fleet;
mod grid_report;
mod identity;
mod journal;
mod live;
mod logging;
mod plan;
mod shims;
mod show;
mod simulate;
mod telemetry;
mod terminal;
mod trace;
mod up;

use std::process::ExitCode;

use clap::{CommandFactory, Parser, Subcommand};
use clap_complete::Shell;
use offtake_client::ClientError;

/// A year of a fleet is made of hundreds of millions of small allocations, which the system's allocator is slow at.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// The word with which an agent starts the process from which its workers' supervisors are forked.
const SUPERVISE: &str = "supervise";

/// One control plane for fleets of AI compute: chips, topology, megawatts, prices and tenants in one plan.
#[derive(Parser)]
#[command(name = "offtake", version, max_term_width = 100, arg_required_else_help = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

// Each is built when it is named, as building all takes a good part of a short command's time. What is flattened into
// them has plain comments: its documentation would be taken for that of the command.
#[derive(Subcommand)]
#[command(defer = true)]
enum Command {
    /// Start a server and an agent for this machine, in one process
    Up(Box<up::Arguments>),
    /// Make this machine a node of a fleet
    Agent(agent::Arguments),
    #[command(flatten)]
    Live(live::Command),
    /// Name servers, and choose which one commands speak to
    #[command(subcommand)]
    Context(live::contexts::Command),
    /// Check, copy and restore a server's store
    #[command(subcommand)]
    Journal(journal::Command),
    /// Run a scenario in virtual time and write a report
    Simulate(simulate::Arguments),
    /// Check a fleet file, or show what it holds
    #[command(subcommand)]
    Fleet(fleet::Command),
    /// Look at what a site can hold
    #[command(subcommand)]
    Plan(plan::Command),
    /// Convert traces of work
    #[command(subcommand)]
    Trace(trace::Command),
    /// Measure the engine
    #[command(subcommand)]
    Bench(bench::Command),
    /// Print what a shell needs to complete these commands
    Completions {
        /// The shell
        shell: Shell,
    },
}

fn main() -> ExitCode {
    let mut words = std::env::args_os();
    let program = words.next().unwrap_or_default();
    // A worker's supervisor lives as long as the worker: it begins before anything that costs time or memory.
    if words.next().is_some_and(|word| word == SUPERVISE) {
        return offtake_agent::supervisor::serve_launches();
    }
    if let Some(shim) = shims::Shim::of(&program) {
        return end(shims::run(shim), shim.name());
    }
    let done = |result: anyhow::Result<()>| result.map(|()| ExitCode::SUCCESS);
    let result = match Cli::parse().command {
        Command::Up(arguments) => up::run(&arguments),
        Command::Agent(arguments) => agent::run(&arguments),
        Command::Live(command) => live::run(&command),
        Command::Context(command) => done(live::contexts::run(&command)),
        Command::Journal(command) => done(journal::run(&command)),
        Command::Simulate(arguments) => done(simulate::run(&arguments)),
        Command::Fleet(command) => done(fleet::run(&command)),
        Command::Plan(command) => done(plan::run(&command)),
        Command::Trace(command) => done(trace::run(&command)),
        Command::Bench(command) => done(bench::run(&command)),
        Command::Completions { shell } => done(completions(shell)),
    };
    end(result, "")
}

/// What a command that ended so tells the caller: its status, and what went wrong. A shim puts its name before it, as
/// Slurm does.
fn end(result: anyhow::Result<ExitCode>, shim: &str) -> ExitCode {
    match result {
        Ok(code) => code,
        Err(error) if is_broken_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            let who = if shim.is_empty() { String::new() } else { format!("{shim}: ") };
            eprintln!("{who}error: {}", terminal::chain(&error));
            ExitCode::from(if is_bad_input(&error) { 2 } else { 1 })
        }
    }
}

fn completions(shell: Shell) -> anyhow::Result<()> {
    let mut text = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "offtake", &mut text);
    terminal::print(&String::from_utf8_lossy(&text))
}

/// Whether what was given is at fault, rather than the machine or the program.
fn is_bad_input(error: &anyhow::Error) -> bool {
    error.is::<offtake_sim::ScenarioError>()
        || error.is::<offtake_fleet::FleetError>()
        || error.is::<offtake_workload::TraceError>()
        || error.is::<offtake_workload::JobTextError>()
        || error.is::<offtake_workload::sbatch::Error>()
        || error.is::<offtake_workload::input::InputError>()
        || error.is::<terminal::BadInput>()
        || error.downcast_ref::<ClientError>().is_some_and(is_refused_input)
        || error.downcast_ref().is_some_and(|error| !matches!(error, offtake_workload::WriteError::File { .. }))
}

/// Whether the server says that what was asked cannot be meant: not that it cannot be done now.
fn is_refused_input(error: &ClientError) -> bool {
    match error {
        ClientError::Address(_) | ClientError::Certificates { .. } => true,
        ClientError::Refused(problem) => matches!(problem.status, 400..=407 | 410..=428),
        ClientError::Busy { .. } | ClientError::Unreachable { .. } | ClientError::Answer(_) => false,
    }
}

/// Whoever read our output has seen enough.
fn is_broken_pipe(error: &anyhow::Error) -> bool {
    let io = error.chain().find_map(|cause| cause.downcast_ref::<std::io::Error>());
    io.is_some_and(|error| error.kind() == std::io::ErrorKind::BrokenPipe)
}
