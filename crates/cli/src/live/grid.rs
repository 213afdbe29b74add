//! `offtake grid`: what is drawn under each cap, what caps allow, grid events and what they earned.

use clap::{Args, Subcommand};
use offtake_protocol::rest::{CapView, FleetView, GridEvent, GridEventView, SetCap, WhatIf, WhatIfRequest};
use offtake_units::{Duration, Ppm, Timestamp};

use super::what_if::watts;
use super::{Common, instants, openadr};
use crate::connection::segment;
use crate::grid_report;
use crate::show::figures::now_ms;
use crate::show::{grid, one_line, what_if};
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
    /// List the grid events that are not over
    Events(EventsArguments),
    /// Announce a grid event: for a time a cap allows less, and work gives way in time
    Announce(AnnounceArguments),
    /// Show what a grid event would do, job by job; nothing is changed
    Simulate(SimulateArguments),
    /// Withdraw a grid event; its cap allows again what it did
    Withdraw(WithdrawArguments),
    /// Settle grid programmes: what events delivered against their baselines, and what that pays
    Report(grid_report::Arguments),
    /// Follow a utility's OpenADR 3.1 server: announce what its events ask for, and report what was drawn
    Follow(openadr::Arguments),
}

#[derive(Args)]
struct EventsArguments {
    #[command(flatten)]
    common: Common,
}

#[derive(Args)]
struct AnnounceArguments {
    /// Its name
    name: String,
    #[command(flatten)]
    what: What,
    #[command(flatten)]
    common: Common,
}

#[derive(Args)]
struct SimulateArguments {
    #[command(flatten)]
    what: What,
    #[command(flatten)]
    common: Common,
}

#[derive(Args)]
struct What {
    /// The cap that is to allow less
    cap: String,
    #[command(flatten)]
    depth: Depth,
    /// By when it has to be met, as 2026-03-02T17:00:00Z or now+30m [default: in ten seconds]
    #[arg(long, value_name = "TIME", value_parser = instants::read)]
    at: Option<Timestamp>,
    /// For how long, such as 3h
    #[arg(long = "for", value_name = "TIME")]
    hold: Duration,
}

impl What {
    fn event(&self) -> Result<GridEvent, BadInput> {
        Ok(GridEvent {
            cap: self.cap.clone(),
            watts: self.depth.to.as_deref().map(power).transpose()?,
            cut_ppm: self.depth.cut.as_deref().map(share).transpose()?,
            at: self.at,
            hold: self.hold,
        })
    }
}

#[derive(Args)]
#[group(required = true, multiple = false)]
struct Depth {
    /// What it allows, such as 1.5MW, 800kW or 750W
    #[arg(long, value_name = "POWER")]
    to: Option<String>,
    /// How much less than is drawn now, such as 25%
    #[arg(long, value_name = "SHARE")]
    cut: Option<String>,
}

#[derive(Args)]
struct WithdrawArguments {
    /// Its name
    name: String,
    #[command(flatten)]
    common: Common,
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
        Some(Command::Set(set)) => put(&set.common, &set.cap, Some(power(&set.power)?)).await,
        Some(Command::Events(events)) => list_events(&events.common).await,
        Some(Command::Announce(event)) => announce(event).await,
        Some(Command::Simulate(event)) => simulate(event).await,
        Some(Command::Withdraw(event)) => withdraw(event).await,
        Some(Command::Report(report)) => grid_report::run(report),
        Some(Command::Follow(follow)) => openadr::run(follow).await,
        Some(Command::Reset(reset)) => put(&reset.common, &reset.cap, None).await,
    }
}

async fn list(common: &Common) -> anyhow::Result<()> {
    let fleet: FleetView = common.open()?.get("/v1/fleet").await?;
    if common.json {
        return print_json(&fleet.caps);
    }
    print(&one_line::one_lines(&fleet, width()))?;
    print(&grid::metered(&fleet.metered))?;
    if fleet.caps.is_empty() {
        eprint!("{}", grid::NONE);
        return Ok(());
    }
    print(&grid::caps(&fleet.caps, width()))
}

fn power(text: &str) -> Result<u64, BadInput> {
    watts(text).ok_or_else(|| BadInput(format!("`{text}` is no power: write it as 1.5MW, 800kW or 750W")))
}

/// A share in millionths.
pub(super) fn share(text: &str) -> Result<u32, BadInput> {
    let percent = text.strip_suffix('%').and_then(|number| number.trim().parse::<f64>().ok());
    let share = percent.filter(|percent| *percent > 0.0).and_then(|percent| Ppm::from_ratio(percent / 100.0));
    let share = share.map(Ppm::parts).filter(|parts| *parts <= Ppm::ONE.parts());
    share.ok_or_else(|| BadInput(format!("`{text}` is no share of what is drawn: write it as 25%")))
}

async fn list_events(common: &Common) -> anyhow::Result<()> {
    let events: Vec<GridEventView> = common.open()?.get("/v1/grid/events").await?;
    if common.json {
        return print_json(&events);
    }
    if events.is_empty() {
        eprint!("{}", grid::NO_EVENTS);
        return Ok(());
    }
    print(&grid::events(&events, now_ms(), width()))
}

async fn announce(event: &AnnounceArguments) -> anyhow::Result<()> {
    let path = format!("/v1/grid/events/{}", segment(&event.name));
    let view: GridEventView = event.common.open()?.put(&path, &event.what.event()?).await?;
    if event.common.json {
        return print_json(&view);
    }
    print(&grid::announced(&view, now_ms()))
}

async fn simulate(event: &SimulateArguments) -> anyhow::Result<()> {
    let request = WhatIfRequest { grid_events: vec![event.what.event()?], ..WhatIfRequest::default() };
    let answer: WhatIf = event.common.open()?.post("/v1/what-if", &request).await?;
    if event.common.json {
        return print_json(&answer);
    }
    print(&what_if::what_if(&answer, width()))
}

async fn withdraw(event: &WithdrawArguments) -> anyhow::Result<()> {
    event.common.open()?.delete(&format!("/v1/grid/events/{}", segment(&event.name))).await?;
    match event.common.json {
        true => print_json(&serde_json::json!({ "withdrawn": event.name })),
        false => print(&format!("grid event {} is withdrawn\n", event.name)),
    }
}

async fn put(common: &Common, name: &str, watts: Option<u64>) -> anyhow::Result<()> {
    let cap: CapView = common.open()?.put(&format!("/v1/caps/{}", segment(name)), &SetCap { watts }).await?;
    if common.json {
        return print_json(&cap);
    }
    print(&grid::set(&cap))
}
