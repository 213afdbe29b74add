//! `offtake bench agents`: how many agents one server keeps, each reporting within its lease.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use clap::Args;
use offtake_protocol::rest::FleetView;
use serde::Serialize;

use super::simulated::{Agent, Tally, identity};
use super::{Bed, say};

use crate::terminal::{grouped, print, print_json, table};

/// The command's arguments.
#[derive(Args)]
pub struct Arguments {
    /// Simulated agents
    #[arg(long, value_name = "N", default_value_t = 10_000)]
    count: u32,
    /// How long, after all have joined
    #[arg(long, value_name = "S", default_value_t = 30)]
    seconds: u64,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Report {
    agents: u32,
    seconds: u64,
    reports_per_s: f64,
    failures: u64,
    nodes_ready: u64,
    slowest_ms: f64,
    server_cpu_share: f64,
    server_memory_mib: f64,
}

/// Measures.
///
/// # Errors
/// When the server cannot be started, or refuses an agent.
pub fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let report = super::on_all_cores(measure(arguments))?;
    if arguments.json {
        return print_json(&report);
    }
    let row = vec![
        grouped(u64::from(report.agents)),
        grouped(report.nodes_ready),
        format!("{:.0}", report.reports_per_s),
        report.failures.to_string(),
        format!("{:.0}", report.slowest_ms),
        format!("{:.0}", report.server_cpu_share * 100.0),
        format!("{:.0}", report.server_memory_mib),
    ];
    print(&table(&["agents", "ready", "reports/s", "failures", "slowest ms", "server CPU %", "MiB"], &[row]))
}

async fn measure(arguments: &Arguments) -> anyhow::Result<Report> {
    let bed = Bed::start(&super::hosts(arguments.count), &[]).await?;
    let key = identity(bed.folder())?;
    let tally = Arc::new(Tally::default());
    for number in 0..arguments.count {
        let agent = Agent::join(bed.client()?, Arc::clone(&key), number, super::node_name(number), None).await?;
        tokio::spawn(agent.run(Arc::clone(&tally)));
        if (number + 1) % 1_000 == 0 {
            say(&format!("{} of {} agents have joined", number + 1, arguments.count));
        }
    }
    let (reports, cpu) = (tally.reports.load(Ordering::Relaxed), bed.cpu_seconds());
    tally.slowest_us.store(0, Ordering::Relaxed);
    tokio::time::sleep(Duration::from_secs(arguments.seconds)).await;
    let reports = tally.reports.load(Ordering::Relaxed) - reports;
    let cpu = bed.cpu_seconds() - cpu;
    let fleet: FleetView = bed.client()?.get("/v1/fleet").await?;
    Ok(Report {
        agents: arguments.count,
        seconds: arguments.seconds,
        reports_per_s: reports as f64 / arguments.seconds as f64,
        failures: tally.failures.load(Ordering::Relaxed),
        nodes_ready: fleet.nodes_ready,
        slowest_ms: tally.slowest_us.load(Ordering::Relaxed) as f64 / 1e3,
        server_cpu_share: cpu / arguments.seconds as f64,
        server_memory_mib: bed.peak_memory_mib(),
    })
}
