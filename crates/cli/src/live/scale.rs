//! `offtake scale`.

use clap::Args;
use offtake_protocol::rest::{JobView, Scale};

use super::Common;
use crate::identity::JobName;
use crate::show::jobs;
use crate::terminal::{print, print_json};

#[derive(Args)]
pub struct Arguments {
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

pub async fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let connection = arguments.common.open()?;
    let id = connection.identity(arguments.job).await?;
    let Arguments { replicas, minimum, maximum, .. } = *arguments;
    let view: JobView = connection.post(&format!("/v1/jobs/{id}/scale"), &Scale { replicas, minimum, maximum }).await?;
    if arguments.common.json {
        return print_json(&view);
    }
    print(&format!("service {id} {}\n", jobs::state(&view)))
}
