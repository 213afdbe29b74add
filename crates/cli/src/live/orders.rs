//! `offtake cancel`, `hold`, `release` and `requeue`: what is ordered of jobs.

use anyhow::Context;
use clap::Args;
use futures_util::{StreamExt, TryStreamExt};
use offtake_protocol::rest::Cancel;
use serde::Serialize;

use super::Common;
use crate::connection::Connection;
use crate::identity::JobName;
use crate::terminal::{print, print_json};

#[derive(Args)]
pub struct Arguments {
    /// Jobs; the number of an array means all its jobs that are not over
    #[arg(value_name = "JOB", required = true)]
    jobs: Vec<JobName>,
    #[command(flatten)]
    common: Common,
}

#[derive(Args)]
pub struct CancelArguments {
    #[command(flatten)]
    which: Arguments,
    /// Send this signal to their workers instead, such as USR1
    #[arg(long, short, value_name = "SIGNAL", conflicts_with = "now")]
    signal: Option<String>,
    /// End their workers at once, without any grace
    #[arg(long)]
    now: bool,
}

/// What was ordered.
#[derive(Serialize)]
struct Ordered {
    order: &'static str,
    jobs: Vec<u64>,
}

pub async fn order(arguments: &Arguments, order: &'static str) -> anyhow::Result<()> {
    give(arguments, order, &serde_json::json!({})).await
}

pub async fn cancel(arguments: &CancelArguments) -> anyhow::Result<()> {
    let body = Cancel { signal: arguments.signal.clone(), now: arguments.now };
    give(&arguments.which, "cancel", &body).await
}

async fn give(arguments: &Arguments, order: &'static str, body: &impl Serialize) -> anyhow::Result<()> {
    let connection = arguments.common.open()?;
    let mut jobs = Vec::new();
    for name in &arguments.jobs {
        jobs.extend(connection.identities(*name).await?);
    }
    give_all(&connection, order, &jobs, body).await?;
    if arguments.common.json {
        return print_json(&Ordered { order, jobs });
    }
    let done = match order {
        "cancel" => "cancelled, or told to end",
        "hold" => "held",
        "release" => "released",
        _ => "queued again",
    };
    jobs.iter().try_for_each(|job| print(&format!("job {job} {done}\n")))
}

/// Orders the same of several jobs; all are tried, and the first that says no is told.
pub async fn give_all(connection: &Connection, order: &str, jobs: &[u64], body: &impl Serialize) -> anyhow::Result<()> {
    /// Orders under way at one time.
    const AT_ONCE: usize = 16;
    let orders = jobs.iter().map(|job| async move {
        let path = format!("/v1/jobs/{job}/{order}");
        Ok(connection.order(&path, body).await.with_context(|| format!("job {job}")))
    });
    let results: Vec<anyhow::Result<()>> = futures_util::stream::iter(orders)
        .buffered(AT_ONCE)
        .try_collect::<Vec<_>>()
        .await
        .map_err(|never: std::convert::Infallible| match never {})?;
    results.into_iter().collect()
}
