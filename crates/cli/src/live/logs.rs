//! `offtake logs`.

use clap::Args;
use futures_util::StreamExt;
use offtake_protocol::rest::{LogQuery, StepView};

use super::output::Printer;
use super::{Common, OneJob, follow, launch};
use crate::connection::{Connection, with_query};
use crate::terminal::print;

#[derive(Args)]
pub struct Arguments {
    #[command(flatten)]
    job: OneJob,
    /// Go on until the job has ended
    #[arg(long, short)]
    follow: bool,
    /// Only the worker of this rank
    #[arg(long, value_name = "N")]
    rank: Option<u32>,
    /// The output of this step [default: 0, what was submitted]
    #[arg(long, value_name = "N")]
    step: Option<u32>,
    /// The output of this attempt [default: the last]
    #[arg(long, value_name = "N")]
    attempt: Option<u32>,
    /// Begin with so many bytes at the end of each stream
    #[arg(long, value_name = "BYTES")]
    tail: Option<u64>,
    #[command(flatten)]
    common: Common,
}

pub async fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let connection = arguments.common.open()?;
    let id = connection.identity(arguments.job.job).await?;
    let query = LogQuery {
        attempt: arguments.attempt,
        step: arguments.step,
        rank: arguments.rank,
        follow: arguments.follow.then_some(true),
        tail_bytes: arguments.tail,
    };
    let path = with_query(&format!("/v1/jobs/{id}/logs"), &query);
    if arguments.common.json {
        let mut lines = std::pin::pin!(connection.lines(&path).await?);
        while let Some(line) = lines.next().await {
            print(&format!("{}\n", String::from_utf8_lossy(&line?)))?;
        }
        return Ok(());
    }
    let mut printer = if arguments.rank.is_none() && has_several(&connection, id, arguments.step.unwrap_or(0)).await {
        Printer::labelled(launch::label)
    } else {
        Printer::plain()
    };
    let whole = arguments.attempt.is_none() && arguments.step.is_none() && arguments.rank.is_none();
    if arguments.follow && whole && arguments.tail.is_none() {
        return follow::job(&connection, id, &mut printer).await.map(drop);
    }
    follow::step(&connection, &path, &mut printer).await
}

/// Whether a step has several workers, so that lines need their rank. A step that has not begun has none yet.
async fn has_several(connection: &Connection, id: u64, step: u32) -> bool {
    let step: anyhow::Result<StepView> = connection.get(&format!("/v1/jobs/{id}/steps/{step}")).await;
    step.is_ok_and(|step| step.tasks > 1)
}
