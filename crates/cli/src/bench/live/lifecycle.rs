//! `offtake bench lifecycle`: whole lives of jobs a second: submitted, placed, started, finished, all on disk.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use clap::Args;
use offtake_protocol::rest::SubmittedBatch;
use serde::Serialize;

use super::simulated::{Agent, Tally, identity};
use super::submit::JOB;
use super::{Bed, say};

use crate::terminal::{grouped, print, print_json, table};

/// The command's arguments.
#[derive(Args)]
pub struct Arguments {
    /// Simulated agents, each with room for 64 jobs
    #[arg(long, value_name = "N", default_value_t = 32)]
    agents: u32,
    /// Jobs in all
    #[arg(long, value_name = "N", default_value_t = 100_000)]
    jobs: u64,
    /// Jobs in one call
    #[arg(long, value_name = "N", default_value_t = 1_000)]
    batch: usize,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Report {
    agents: u32,
    jobs: u64,
    jobs_per_s: f64,
    facts: u64,
    facts_per_s: f64,
    reports: u64,
    server_cpu_s: f64,
    server_memory_mib: f64,
}

/// Measures.
///
/// # Errors
/// When the server cannot be started, or a job does not end.
pub fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let report = super::on_all_cores(measure(arguments))?;
    if arguments.json {
        return print_json(&report);
    }
    let row = vec![
        report.agents.to_string(),
        grouped(report.jobs),
        grouped(report.jobs_per_s as u64),
        grouped(report.facts_per_s as u64),
        grouped(report.reports),
        format!("{:.1}", report.server_cpu_s),
        format!("{:.0}", report.server_memory_mib),
    ];
    print(&table(&["agents", "jobs", "jobs/s", "facts/s", "reports", "server CPU s", "MiB"], &[row]))
}

async fn measure(arguments: &Arguments) -> anyhow::Result<Report> {
    let bed = Bed::start(&super::hosts(arguments.agents), &["--most-jobs", "10000000"]).await?;
    let key = identity(bed.folder())?;
    let tally = Arc::new(Tally::default());
    for number in 0..arguments.agents {
        let agent = Agent::join(bed.client()?, Arc::clone(&key), number, super::node_name(number), None).await?;
        tokio::spawn(agent.run(Arc::clone(&tally)));
    }
    let client = bed.client()?;
    let before = client.get::<offtake_protocol::rest::Health>("/v1/health").await?.sequence;
    let body = format!("{{\"jobs\":[{}]}}", vec![JOB; arguments.batch].join(","));
    let begin = Instant::now();
    let mut submitted = 0;
    while submitted < arguments.jobs {
        // So many wait at most that the queue is never empty, and never all that there is.
        let ahead = submitted.saturating_sub(tally.tasks.load(Ordering::Relaxed));
        if ahead > 20_000 {
            tokio::time::sleep(Duration::from_millis(5)).await;
            continue;
        }
        let request = client.request(offtake_client::Method::POST, "/v1/jobs/batch");
        let request = request.header("content-type", "application/json").body(body.clone());
        let response = client.send(request).await?;
        submitted += client.read::<SubmittedBatch>(response).await?.jobs.len() as u64;
    }
    let mut last = 0;
    let mut since = Instant::now();
    loop {
        let ended = ended(&client).await?;
        if ended >= submitted {
            break;
        }
        if ended > last {
            (last, since) = (ended, Instant::now());
        } else if since.elapsed() > Duration::from_secs(60) {
            say(&format!("{ended} of {submitted} jobs have ended, and for a minute no more"));
            anyhow::bail!("the jobs do not end");
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let elapsed = begin.elapsed().as_secs_f64();
    let facts = client.get::<offtake_protocol::rest::Health>("/v1/health").await?.sequence - before;
    Ok(Report {
        agents: arguments.agents,
        jobs: submitted,
        jobs_per_s: submitted as f64 / elapsed,
        facts,
        facts_per_s: facts as f64 / elapsed,
        reports: tally.reports.load(Ordering::Relaxed),
        server_cpu_s: bed.cpu_seconds(),
        server_memory_mib: bed.peak_memory_mib(),
    })
}

/// Jobs that have finished, by the server's own count.
async fn ended(client: &offtake_client::Client) -> anyhow::Result<u64> {
    let response = client.send(client.request(offtake_client::Method::GET, "/metrics")).await?;
    let text = response.text().await?;
    let line = text.lines().find(|line| line.starts_with("offtake_jobs_ended_total") && line.contains("finished"));
    let value = line.and_then(|line| line.rsplit(' ').next()?.parse::<f64>().ok());
    Ok(value.unwrap_or(0.0) as u64)
}
