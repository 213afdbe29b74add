//! `offtake grid`: what is drawn under each cap, and what caps allow.

use clap::{Args, Subcommand};
use offtake_protocol::rest::{CapView, FleetView, SetCap};

use super::Common;
use super::what_if::watts;
use crate::connection::segment;
use crate::show::grid;
use crate::terminal::{BadInput, print, print_json, width};

#[derive(Args)]
#[command(args_conflicts_with_subcommands = true)]
pub struct Arguments {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    common: Common,
}

#[derive(Subcommand)]
enum Command {
    /// Let a cap allow another draw; work gives way at once where more is drawn
    Set(SetArguments),
    /// Let a cap allow again what the fleet file says
    Reset(ResetArguments),
}

#[derive(Args)]
struct SetArguments {
    /// The cap
    cap: String,
    /// What it allows, such as 1.5MW, 800kW or 750W
    power: String,
    #[command(flatten)]
    common: Common,
}

#[derive(Args)]
struct ResetArguments {
    /// The cap
    cap: String,
    #[command(flatten)]
    common: Common,
}

pub async fn run(arguments: &Arguments) -> anyhow::Result<()> {
    match &arguments.command {
        None => list(&arguments.common).await,
        Some(Command::Set(set)) => {
            let wrong = || {
                let message = format!("`{}` is no power: write it as 1.5MW, 800kW or 750W", set.power);
                BadInput(message)
            };
            put(&set.common, &set.cap, Some(watts(&set.power).ok_or_else(wrong)?)).await
        }
        Some(Command::Reset(reset)) => put(&reset.common, &reset.cap, None).await,
    }
}

async fn list(common: &Common) -> anyhow::Result<()> {
    let fleet: FleetView = common.open()?.get("/v1/fleet").await?;
    if common.json {
        return print_json(&fleet.caps);
    }
    if fleet.caps.is_empty() {
        eprint!("{}", grid::NONE);
        return Ok(());
    }
    print(&grid::caps(&fleet.caps, width()))
}

async fn put(common: &Common, name: &str, watts: Option<u64>) -> anyhow::Result<()> {
    let cap: CapView = common.open()?.put(&format!("/v1/caps/{}", segment(name)), &SetCap { watts }).await?;
    if common.json {
        return print_json(&cap);
    }
    print(&grid::set(&cap))
}
