//! `offtake defrag`.

use clap::Args;
use offtake_protocol::rest::{Defrag, DefragRequest};

use super::Common;
use crate::identity::JobName;
use crate::show::{defrag, figures::now_ms};
use crate::terminal::{print, print_json, width};

#[derive(Args)]
pub struct Arguments {
    /// The waiting job for which a block is opened [default: those that are first in line]
    #[arg(value_name = "JOB")]
    job: Option<JobName>,
    /// Move whoever has to be moved, where that wins more than it loses
    #[arg(long)]
    apply: bool,
    #[command(flatten)]
    common: Common,
}

pub async fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let connection = arguments.common.open()?;
    let job = match arguments.job {
        Some(name) => Some(connection.identity(name).await?),
        None => None,
    };
    let answer: Defrag = if arguments.apply {
        connection.post("/v1/defrag", &DefragRequest { job }).await?
    } else {
        let query = job.map(|job| format!("?job={job}")).unwrap_or_default();
        connection.get(&format!("/v1/defrag{query}")).await?
    };
    if arguments.common.json {
        return print_json(&answer);
    }
    print(&defrag::defrag(&answer, arguments.apply, now_ms(), width()))
}
