//! `offtake policy`, `quota` and `share`.

use std::path::{Path, PathBuf};

use anyhow::Context;
use clap::{Args, Subcommand};
use offtake_engine::Policy;
use offtake_protocol::rest::{PolicyView, SetPolicy, TenantView};

use super::Common;
use crate::show::tenants;
use crate::terminal::{BadInput, print, print_json, width};

#[derive(Subcommand)]
pub enum Command {
    /// Print the policy in force, as a policy file
    Show(Arguments),
    /// Put a policy file in force
    Set(SetArguments),
}

#[derive(Args)]
pub struct Arguments {
    #[command(flatten)]
    common: Common,
}

#[derive(Args)]
pub struct SetArguments {
    /// Policy file (TOML)
    file: PathBuf,
    #[command(flatten)]
    common: Common,
}

pub async fn run(command: &Command) -> anyhow::Result<()> {
    match command {
        Command::Show(arguments) => show(arguments).await,
        Command::Set(arguments) => set(arguments).await,
    }
}

async fn show(arguments: &Arguments) -> anyhow::Result<()> {
    let policy: PolicyView = arguments.common.open()?.get("/v1/policy").await?;
    if arguments.common.json {
        return print_json(&policy);
    }
    print(&format!("# policy {}, version {}\n{}", policy.name, policy.version, policy.toml))
}

async fn set(arguments: &SetArguments) -> anyhow::Result<()> {
    let body = SetPolicy { toml: read(&arguments.file)? };
    let policy: PolicyView = arguments.common.open()?.put("/v1/policy", &body).await?;
    if arguments.common.json {
        return print_json(&policy);
    }
    print(&format!("policy {}, version {}\n", policy.name, policy.version))
}

/// The text of a policy file that can be meant.
pub fn read(file: &Path) -> anyhow::Result<String> {
    let shown = file.display();
    let text = std::fs::read_to_string(file).with_context(|| format!("{shown}: the policy file cannot be read"))?;
    Policy::from_toml(&text).map_err(|error| {
        let line = error.line.map(|line| format!(":{line}")).unwrap_or_default();
        BadInput(format!("{shown}{line}: {}", error.message))
    })?;
    Ok(text)
}

pub async fn quota(arguments: &Arguments) -> anyhow::Result<()> {
    list(arguments, tenants::quotas).await
}

pub async fn share(arguments: &Arguments) -> anyhow::Result<()> {
    list(arguments, tenants::shares).await
}

async fn list(arguments: &Arguments, table: fn(&[TenantView], Option<usize>) -> String) -> anyhow::Result<()> {
    let found: Vec<TenantView> = arguments.common.open()?.get("/v1/tenants").await?;
    if arguments.common.json {
        return print_json(&found);
    }
    print(&table(&found, width()))
}
