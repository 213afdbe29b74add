//! `offtake job` and `offtake why`.

use clap::Args;
use offtake_protocol::rest::{JobDetail, Why};

use super::{Common, OneJob};
use crate::show::{figures::now_ms, job, why};
use crate::terminal::{print, print_json};

#[derive(Args)]
pub struct Arguments {
    #[command(flatten)]
    job: OneJob,
    #[command(flatten)]
    common: Common,
}

#[derive(Args)]
pub struct WhyArguments {
    #[command(flatten)]
    job: OneJob,
    /// Say what would displace a running job within a day, too, and how likely
    #[arg(long)]
    risk: bool,
    #[command(flatten)]
    common: Common,
}

pub async fn show(arguments: &Arguments) -> anyhow::Result<()> {
    let connection = arguments.common.open()?;
    let id = connection.identity(arguments.job.job).await?;
    let detail: JobDetail = connection.get(&format!("/v1/jobs/{id}")).await?;
    if arguments.common.json {
        return print_json(&detail);
    }
    print(&job::detail(&detail, now_ms()))
}

pub async fn why(arguments: &WhyArguments) -> anyhow::Result<()> {
    let connection = arguments.common.open()?;
    let id = connection.identity(arguments.job.job).await?;
    let query = if arguments.risk { "?risk=true" } else { "" };
    let answer: Why = connection.get(&format!("/v1/jobs/{id}/why{query}")).await?;
    if arguments.common.json {
        return print_json(&answer);
    }
    print(&why::why(&answer, now_ms()))
}
