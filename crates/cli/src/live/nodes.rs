//! `offtake nodes`, `drain` and `resume`.

use clap::Args;
use offtake_protocol::rest::{Drain, NodeView};

use super::Common;
use crate::connection::segment;
use crate::show::{figures::now_ms, nodes};
use crate::terminal::{print, print_json, width};

#[derive(Args)]
pub struct Arguments {
    #[command(flatten)]
    common: Common,
}

#[derive(Args)]
pub struct DrainArguments {
    /// The node
    node: String,
    /// Why
    #[arg(long, value_name = "TEXT")]
    reason: String,
    #[command(flatten)]
    common: Common,
}

#[derive(Args)]
pub struct ResumeArguments {
    /// The node
    node: String,
    #[command(flatten)]
    common: Common,
}

pub async fn list(arguments: &Arguments) -> anyhow::Result<()> {
    let found: Vec<NodeView> = arguments.common.open()?.get("/v1/nodes").await?;
    if arguments.common.json {
        return print_json(&found);
    }
    if found.is_empty() {
        eprint!("{}", nodes::NONE);
        return Ok(());
    }
    print(&nodes::nodes(&found, now_ms(), width()))
}

pub async fn drain(arguments: &DrainArguments) -> anyhow::Result<()> {
    let body = Drain { reason: arguments.reason.clone() };
    let path = format!("/v1/nodes/{}/drain", segment(&arguments.node));
    let node: NodeView = arguments.common.open()?.post(&path, &body).await?;
    say(&node, arguments.common.json)
}

pub async fn resume(arguments: &ResumeArguments) -> anyhow::Result<()> {
    let path = format!("/v1/nodes/{}/resume", segment(&arguments.node));
    let node: NodeView = arguments.common.open()?.post(&path, &serde_json::json!({})).await?;
    say(&node, arguments.common.json)
}

fn say(node: &NodeView, json: bool) -> anyhow::Result<()> {
    if json {
        return print_json(node);
    }
    print(&format!("node {} is {}\n", node.name, nodes::state(node.state)))
}
