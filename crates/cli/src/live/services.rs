//! `offtake services` and `scale`.

use clap::Args;
use offtake_protocol::rest::{JobView, ListedService, Scale};

use super::Common;
use crate::identity::JobName;
use crate::show::{jobs, services};
use crate::terminal::{print, print_json, width};

#[derive(Args)]
pub struct ListArguments {
    #[command(flatten)]
    common: Common,
}

#[derive(Args)]
pub struct ScaleArguments {
    /// The service
    #[arg(value_name = "JOB")]
    job: JobName,
    /// So many replicas, neither more nor less
    #[arg(long, value_name = "N", conflicts_with_all = ["minimum", "maximum"], required_unless_present_any = ["minimum", "maximum"])]
    replicas: Option<u32>,
    /// The fewest replicas
    #[arg(long = "min", value_name = "N")]
    minimum: Option<u32>,
    /// The most replicas
    #[arg(long = "max", value_name = "N")]
    maximum: Option<u32>,
    #[command(flatten)]
    common: Common,
}

pub async fn list(arguments: &ListArguments) -> anyhow::Result<()> {
    let found: Vec<ListedService> = arguments.common.open()?.get("/v1/services").await?;
    if arguments.common.json {
        return print_json(&found);
    }
    if found.is_empty() {
        eprint!("{}", services::NONE);
        return Ok(());
    }
    print(&services::services(&found, width()))
}

pub async fn scale(arguments: &ScaleArguments) -> anyhow::Result<()> {
    let connection = arguments.common.open()?;
    let id = connection.identity(arguments.job).await?;
    let ScaleArguments { replicas, minimum, maximum, .. } = *arguments;
    let view: JobView = connection.post(&format!("/v1/jobs/{id}/scale"), &Scale { replicas, minimum, maximum }).await?;
    if arguments.common.json {
        return print_json(&view);
    }
    print(&format!("service {id} {}\n", jobs::state(&view)))
}
