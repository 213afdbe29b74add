//! `offtake bench backlog`: a backlog that may all start at one instant, on nodes that nothing runs on: what the control
//! plane decides a second, each decision on disk, and what the engine alone does.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use clap::Args;
use offtake_client::Client;
use offtake_engine::{Event, Fact, JobId, Policy, State, decide};
use offtake_fleet::{Fleet, NodeIx};
use offtake_protocol::rest::{FleetView, SubmittedBatch};
use offtake_units::{CpuMilli, Timestamp};
use offtake_workload::human;
use offtake_workload::{Gang, Job};
use serde::Serialize;
use serde_json::json;

use super::simulated::{Agent, identity};
use super::{Bed, CORES, say};
use crate::terminal::{grouped, print, print_json, table};

/// The command's arguments.
#[derive(Args)]
pub struct Arguments {
    /// Nodes, in racks of 32 and blocks of 512
    #[arg(long, value_name = "N", default_value_t = 10_000)]
    nodes: u32,
    /// Nodes of one job, each whole
    #[arg(long, value_name = "N", default_value_t = 1)]
    workers: u32,
    /// Jobs [default: as many as the nodes hold]
    #[arg(long, value_name = "N")]
    jobs: Option<u32>,
    /// Tenants who submit them in turns
    #[arg(long, value_name = "N", default_value_t = 20)]
    tenants: u32,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Report {
    nodes: u32,
    workers: u32,
    jobs: u32,
    /// Jobs placed a second, from the instant at which all may start until the last placement is on disk.
    decisions_per_s: f64,
    /// The same by the engine alone, without server and journal.
    engine_per_s: f64,
    seconds: f64,
}

const NODES_PER_RACK: u32 = 32;
const RACKS_PER_BLOCK: u32 = 16;
/// Jobs in one call.
const BATCH: u32 = 1_000;
/// From the first submission until all may start.
const PAUSE: Duration = Duration::from_secs(10);
/// As long as it may take until all are placed.
const MOST: Duration = Duration::from_secs(60);

/// Measures.
///
/// # Errors
/// When the server cannot be started, or does not place all jobs.
pub fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let text = fleet_text(arguments.nodes);
    let fleet = Arc::new(offtake_fleet::parse(&text, "fleet", Path::new(""), &BTreeMap::new())?);
    let jobs = arguments.jobs.unwrap_or(arguments.nodes / arguments.workers.max(1));
    let engine = alone(&fleet, jobs, arguments)?;
    let seconds = super::on_all_cores(measure(&fleet, &text, jobs, arguments))?.as_secs_f64();
    let report = Report {
        nodes: arguments.nodes,
        workers: arguments.workers,
        jobs,
        decisions_per_s: (f64::from(jobs) / seconds).round(),
        engine_per_s: (f64::from(jobs) / engine.as_secs_f64()).round(),
        seconds,
    };
    if arguments.json {
        return print_json(&report);
    }
    let row = vec![
        grouped(report.nodes.into()),
        grouped(report.jobs.into()),
        grouped(report.workers.into()),
        grouped(report.decisions_per_s as u64),
        grouped(report.engine_per_s as u64),
    ];
    print(&table(&["nodes", "jobs", "nodes each", "decided/s, on disk", "engine alone/s"], &[row]))
}

/// Hosts as [`super::hosts`] has them, in racks and blocks.
fn fleet_text(nodes: u32) -> String {
    let (racks, last) = (nodes / NODES_PER_RACK, nodes % NODES_PER_RACK);
    let parts = [("block", racks / RACKS_PER_BLOCK), ("rack", racks % RACKS_PER_BLOCK), ("last", last.min(1))];
    let parts: Vec<String> =
        parts.iter().filter(|(_, count)| *count > 0).map(|(name, count)| format!("{name} = {count}")).collect();
    format!(
        "name = \"bench\"\nlevels = [\"site\", \"block\", \"rack\"]\n\n\
         [node_kinds.host]\ncpu_cores = {CORES}\nmemory_gib = 256\nbase_watts = 300\n\n\
         [templates.rack]\nlevel = \"rack\"\nnodes = {{ host = {NODES_PER_RACK} }}\n\
         [templates.last]\nlevel = \"rack\"\nnodes = {{ host = {} }}\n\
         [templates.block]\nlevel = \"block\"\ndomains = {{ rack = {RACKS_PER_BLOCK} }}\n\n\
         [sites.bench]\npue = 1.2\ndomains = {{ {} }}\n",
        last.max(1),
        parts.join(", "),
    )
}

/// The engine with the same policy on the same backlog.
fn alone(fleet: &Arc<Fleet>, jobs: u32, arguments: &Arguments) -> anyhow::Result<Duration> {
    let mut state = State::default();
    let policy = Policy::named("offtake", 0).ok_or_else(|| anyhow::anyhow!("policy offtake is gone"))?;
    let gang = Gang { workers: arguments.workers, cpu: CpuMilli::new(CORES * 1000), ..Gang::default() };
    let spec = |tenant: u32| Job {
        name: "work".to_owned(),
        tenant: tenant_name(tenant),
        duration: Some(offtake_units::Duration::HOUR),
        gangs: vec![gang.clone()],
        ..Job::default()
    };
    let specs: Vec<Arc<Job>> = (0..arguments.tenants.max(1)).map(|tenant| Arc::new(spec(tenant))).collect();
    let mut tell = |event| state.apply(&Fact { at: Timestamp::EPOCH, event });
    tell(Event::FleetLoaded { fleet: Arc::clone(fleet) });
    tell(Event::PolicySet { policy });
    for job in 0..jobs {
        let spec = Arc::clone(&specs[job as usize % specs.len()]);
        tell(Event::JobSubmitted { job: JobId(job.into()), spec });
    }
    let begin = Instant::now();
    let mut facts = Vec::new();
    decide(&mut state, Timestamp::EPOCH, &mut facts);
    let took = begin.elapsed();
    let placed = facts.iter().filter(|fact| matches!(fact.event, Event::JobPlaced { .. })).count();
    anyhow::ensure!(placed == jobs as usize, "the engine placed {placed} of {jobs} jobs");
    Ok(took)
}

fn tenant_name(number: u32) -> String {
    format!("tenant-{number:02}")
}

async fn measure(fleet: &Fleet, text: &str, jobs: u32, arguments: &Arguments) -> anyhow::Result<Duration> {
    // Nodes join and then fall silent: their lease outlasts the measurement.
    let bed = Bed::start(text, &["--lease", "1h", "--most-jobs", "10000000"]).await?;
    let key = identity(bed.folder())?;
    let client = bed.client()?;
    for number in 0..fleet.nodes.len() as u32 {
        let name = fleet.node_name(NodeIx(number));
        let mut agent = Agent::join(bed.client()?, Arc::clone(&key), number, name, None).await?;
        agent.report_once().await?;
        if (number + 1) % 1_000 == 0 {
            say(&format!("{} of {} nodes have joined", number + 1, fleet.nodes.len()));
        }
    }
    let ready = client.get::<FleetView>("/v1/fleet").await?.nodes_ready;
    anyhow::ensure!(ready == fleet.nodes.len() as u64, "{ready} of {} nodes are ready", fleet.nodes.len());
    let begin = SystemTime::now() + PAUSE;
    submit(&client, jobs, begin, arguments).await?;
    anyhow::ensure!(SystemTime::now() < begin, "the jobs were still being submitted when they were to start");
    tokio::time::sleep(begin.duration_since(SystemTime::now()).unwrap_or_default()).await;
    loop {
        let placed = placed(&client).await?;
        let elapsed = begin.elapsed().unwrap_or_default();
        if placed >= u64::from(jobs) {
            return Ok(elapsed);
        }
        anyhow::ensure!(elapsed < MOST, "{placed} of {jobs} jobs were placed within {} s", MOST.as_secs());
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

async fn submit(client: &Client, jobs: u32, begin: SystemTime, arguments: &Arguments) -> anyhow::Result<()> {
    let begin = begin.duration_since(SystemTime::UNIX_EPOCH)?.as_millis() as i64;
    let begin = human::write_timestamp(Timestamp::from_millis(begin));
    let gang = json!({ "workers": arguments.workers, "cpu_milli": CORES * 1000 });
    let job = |number: u32| {
        let tenant = tenant_name(number % arguments.tenants.max(1));
        json!({ "name": "work", "tenant": tenant, "gangs": [gang], "command": ["true"], "duration": "1h", "begin": begin })
    };
    for first in (0..jobs).step_by(BATCH as usize) {
        let batch: Vec<_> = (first..jobs.min(first + BATCH)).map(job).collect();
        let _: SubmittedBatch = client.post("/v1/jobs/batch", None, &json!({ "jobs": batch })).await?;
    }
    Ok(())
}

/// Jobs that have their nodes, by the server's own count, which shows only what is on disk.
async fn placed(client: &Client) -> anyhow::Result<u64> {
    let response = client.send(client.request(offtake_client::Method::GET, "/metrics")).await?;
    let text = response.text().await?;
    let line = text.lines().find(|line| line.starts_with("offtake_jobs{") && line.contains("\"starting\""));
    let value = line.and_then(|line| line.rsplit(' ').next()?.parse::<f64>().ok());
    Ok(value.unwrap_or(0.0) as u64)
}
