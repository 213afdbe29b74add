//! `offtake reserve`, `reservations` and `unreserve`.

use clap::Args;
use offtake_protocol::rest::ReservationView;
use offtake_units::{Duration, Timestamp};
use offtake_workload::{Purpose, Reservation};

use super::{Common, instants};
use crate::connection::segment;
use crate::show::reservations;
use crate::terminal::{print, print_json, width};

#[derive(Args)]
pub struct Arguments {
    /// Its name, by which jobs ask for it
    name: String,
    #[command(flatten)]
    what: What,
    /// Only nodes with this kind of chip
    #[arg(long, value_name = "KIND", conflicts_with = "domain")]
    accelerator: Option<String>,
    /// All in one domain of this level
    #[arg(long, value_name = "LEVEL", conflicts_with = "domain")]
    level: Option<String>,
    /// When it begins: an instant such as 2026-03-02T08:00:00Z, now, or now+2h
    #[arg(long, value_name = "TIME", default_value = "now", value_parser = instants::read)]
    start: Timestamp,
    /// How long it lasts, such as 4h
    #[arg(long, value_name = "TIME")]
    length: Duration,
    /// How much later it may begin where its nodes are not free in time
    #[arg(long, value_name = "TIME")]
    flexible: Option<Duration>,
    /// From one beginning to the next, such as 7d [default: once]
    #[arg(long, value_name = "TIME")]
    every: Option<Duration>,
    /// Only work of these tenants, separated by commas [default: of any]
    #[arg(long, value_name = "A,B", value_delimiter = ',', conflicts_with = "maintenance")]
    tenant: Vec<String>,
    /// Stop its jobs when it ends; they wait for the next
    #[arg(long, conflicts_with = "maintenance")]
    stop: bool,
    /// For maintenance: nothing runs there
    #[arg(long)]
    maintenance: bool,
    #[command(flatten)]
    common: Common,
}

#[derive(Args)]
#[group(required = true, multiple = false)]
struct What {
    /// So many nodes
    #[arg(long, value_name = "N")]
    nodes: Option<u32>,
    /// Nodes with so many chips in all
    #[arg(long, value_name = "N")]
    chips: Option<u64>,
    /// All nodes of a domain, by its path, such as north/rack-1
    #[arg(long, value_name = "PATH")]
    domain: Option<String>,
}

#[derive(Args)]
pub struct ListArguments {
    #[command(flatten)]
    common: Common,
}

#[derive(Args)]
pub struct WithdrawArguments {
    /// Its name
    name: String,
    #[command(flatten)]
    common: Common,
}

pub async fn reserve(arguments: &Arguments) -> anyhow::Result<()> {
    let body = Reservation {
        name: arguments.name.clone(),
        purpose: if arguments.maintenance { Purpose::Maintenance } else { Purpose::Work },
        tenants: arguments.tenant.clone(),
        domain: arguments.what.domain.clone(),
        nodes: arguments.what.nodes,
        chips: arguments.what.chips,
        accelerator: arguments.accelerator.clone(),
        level: arguments.level.clone(),
        start: arguments.start,
        length: arguments.length,
        flexible: arguments.flexible,
        every: arguments.every,
        stop: arguments.stop,
    };
    let made: ReservationView = arguments.common.open()?.post("/v1/reservations", &body).await?;
    if arguments.common.json {
        return print_json(&made);
    }
    print(&reservations::made(&made))
}

pub async fn list(arguments: &ListArguments) -> anyhow::Result<()> {
    let found: Vec<ReservationView> = arguments.common.open()?.get("/v1/reservations").await?;
    if arguments.common.json {
        return print_json(&found);
    }
    if found.is_empty() {
        eprint!("{}", reservations::NONE);
        return Ok(());
    }
    print(&reservations::reservations(&found, width()))
}

pub async fn withdraw(arguments: &WithdrawArguments) -> anyhow::Result<()> {
    let connection = arguments.common.open()?;
    connection.delete(&format!("/v1/reservations/{}", segment(&arguments.name))).await?;
    match arguments.common.json {
        true => print_json(&serde_json::json!({ "withdrawn": arguments.name })),
        false => print(&format!("reservation {} is withdrawn\n", arguments.name)),
    }
}
