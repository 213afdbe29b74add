//! `offtake bench submit`: durable submissions a second over kept-alive connections.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use clap::Args;
use offtake_protocol::rest::{Submitted, SubmittedBatch};
use serde::Serialize;

use super::{Bed, Spread};

use crate::terminal::{grouped, print, print_json, table};

/// The command's arguments.
#[derive(Args)]
pub struct Arguments {
    /// Connections at the same time
    #[arg(long, value_name = "N", default_value_t = 4)]
    clients: usize,
    /// Jobs in one call; 1 submits them singly
    #[arg(long, value_name = "N", default_value_t = 100)]
    batch: usize,
    /// How long
    #[arg(long, value_name = "S", default_value_t = 5)]
    seconds: u64,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Report {
    clients: usize,
    batch: usize,
    jobs: u64,
    jobs_per_s: f64,
    call_ms: Spread,
    server_cpu_s: f64,
    server_memory_mib: f64,
}

/// One job as it is submitted.
pub const JOB: &str = r#"{"name":"train","command":["/usr/bin/python3","train.py","--epochs","3"],"directory":"/srv/train","environment":{"LANG":"C.UTF-8"},"duration":"1h"}"#;

/// Measures.
///
/// # Errors
/// When the server cannot be started, or refuses a job.
pub fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let report = super::on_all_cores(measure(arguments))?;
    if arguments.json {
        return print_json(&report);
    }
    let row = vec![
        report.clients.to_string(),
        report.batch.to_string(),
        grouped(report.jobs),
        grouped(report.jobs_per_s as u64),
        format!("{:.2}", report.call_ms.p50),
        format!("{:.2}", report.call_ms.p99),
        format!("{:.1}", report.server_cpu_s),
        format!("{:.0}", report.server_memory_mib),
    ];
    let head = ["clients", "batch", "jobs", "jobs/s", "call p50 ms", "p99 ms", "server CPU s", "MiB"];
    print(&table(&head, &[row]))
}

async fn measure(arguments: &Arguments) -> anyhow::Result<Report> {
    let bed = Bed::start(&super::hosts(1_000), &["--most-jobs", "10000000"]).await?;
    let body: Arc<str> = match arguments.batch {
        0 | 1 => Arc::from(JOB),
        count => Arc::from(format!("{{\"jobs\":[{}]}}", vec![JOB; count].join(","))),
    };
    let over = Arc::new(AtomicBool::new(false));
    let begin = Instant::now();
    let mut clients = Vec::new();
    for _ in 0..arguments.clients.max(1) {
        let (client, body, over, single) = (bed.client()?, Arc::clone(&body), Arc::clone(&over), arguments.batch <= 1);
        clients.push(tokio::spawn(async move {
            let mut taken = Vec::new();
            let mut jobs = 0;
            while !over.load(Ordering::Relaxed) {
                let path = if single { "/v1/jobs" } else { "/v1/jobs/batch" };
                let call = Instant::now();
                let request = client.request(offtake_client::Method::POST, path);
                let request = request.header("content-type", "application/json").body(body.to_string());
                let response = client.send(request).await?;
                jobs += if single {
                    client.read::<Submitted>(response).await.map(|_| 1)?
                } else {
                    client.read::<SubmittedBatch>(response).await?.jobs.len() as u64
                };
                taken.push(call.elapsed());
            }
            anyhow::Ok((jobs, taken))
        }));
    }
    tokio::time::sleep(Duration::from_secs(arguments.seconds)).await;
    over.store(true, Ordering::Relaxed);
    let (mut jobs, mut taken) = (0, Vec::new());
    for client in clients {
        let (more, times) = client.await??;
        jobs += more;
        taken.extend(times);
    }
    let elapsed = begin.elapsed().as_secs_f64();
    Ok(Report {
        clients: arguments.clients,
        batch: arguments.batch.max(1),
        jobs,
        jobs_per_s: jobs as f64 / elapsed,
        call_ms: Spread::of(taken),
        server_cpu_s: bed.cpu_seconds(),
        server_memory_mib: bed.peak_memory_mib(),
    })
}
