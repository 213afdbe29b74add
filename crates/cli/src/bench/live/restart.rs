//! `offtake bench restart`: how long a server needs until it is ready again on a journal of many facts.

use std::time::Duration;

use clap::Args;
use offtake_protocol::rest::{Health, SubmittedBatch};
use serde::Serialize;

use super::submit::JOB;
use super::{Bed, say};

use crate::terminal::{grouped, print, print_json, table};

/// The command's arguments.
#[derive(Args)]
pub struct Arguments {
    /// Facts in the journal
    #[arg(long, value_name = "N", default_value_t = 1_000_000)]
    facts: u64,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Report {
    facts: u64,
    /// From its snapshot and what came after.
    ready_s: f64,
    /// From the first fact, all snapshots removed.
    ready_without_snapshot_s: f64,
}

/// Measures.
///
/// # Errors
/// When the server cannot be started.
pub fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let report = super::on_all_cores(measure(arguments))?;
    if arguments.json {
        return print_json(&report);
    }
    let row = vec![
        grouped(report.facts),
        format!("{:.2}", report.ready_s),
        format!("{:.2}", report.ready_without_snapshot_s),
    ];
    print(&table(&["facts", "ready s", "without snapshot s"], &[row]))
}

async fn measure(arguments: &Arguments) -> anyhow::Result<Report> {
    const BATCH: usize = 1_000;
    let more = ["--most-jobs", "10000000"];
    let bed = Bed::start(&super::hosts(100), &more).await?;
    let client = bed.client()?;
    let body = format!("{{\"jobs\":[{}]}}", vec![JOB; BATCH].join(","));
    // Half of the facts submit jobs, half withdraw them: what is over is not carried along.
    loop {
        let request = client.request(offtake_client::Method::POST, "/v1/jobs/batch");
        let request = request.header("content-type", "application/json").body(body.clone());
        let response = client.send(request).await?;
        let batch: SubmittedBatch = client.read(response).await?;
        let calls = batch.jobs.iter().map(|job| {
            let client = client.clone();
            async move {
                let path = format!("/v1/jobs/{}/cancel", job.id);
                client.post::<offtake_protocol::rest::JobView>(&path, None, &serde_json::json!({})).await
            }
        });
        for answer in futures_util::future::join_all(calls).await {
            answer?;
        }
        let sequence = client.get::<Health>("/v1/health").await?.sequence;
        if sequence >= arguments.facts {
            break;
        }
        if sequence % 100_000 < 2_000 {
            say(&format!("{} of {} facts", grouped(sequence), grouped(arguments.facts)));
        }
    }
    let facts = client.get::<Health>("/v1/health").await?.sequence;
    let bed = Bed::start_in(bed.kill(), &more).await?;
    let with = bed.ready;
    let folder = bed.kill();
    std::fs::remove_dir_all(folder.join("data/journal/snapshots")).ok();
    let bed = Bed::start_in(folder, &more).await?;
    let without: Duration = bed.ready;
    Ok(Report { facts, ready_s: with.as_secs_f64(), ready_without_snapshot_s: without.as_secs_f64() })
}
