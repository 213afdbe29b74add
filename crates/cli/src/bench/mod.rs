//! `offtake bench`: the engine measured, by commands that anyone can run.

mod engine;

use clap::Subcommand;

#[derive(Subcommand)]
pub enum Command {
    /// Fill a synthetic fleet and place and release gangs at that level
    Engine(engine::Arguments),
}

pub fn run(command: &Command) -> anyhow::Result<()> {
    match command {
        Command::Engine(arguments) => engine::run(arguments),
    }
}
