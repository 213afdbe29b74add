//! `offtake agent`: this machine as a node of a fleet.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use offtake_agent::{Configuration, Departure};
use offtake_client::{Fingerprint, Server};
use offtake_units::{Duration, Mebibytes};
use offtake_workload::human;
use tokio::signal::unix::{SignalKind, signal};

use crate::context::{Known, Surroundings};
use crate::logging::Logging;
use crate::terminal::BadInput;

#[derive(Args)]
pub struct Arguments {
    /// The server: https://HOST:PORT, http://HOST:PORT or unix:PATH
    #[arg(long, value_name = "URL")]
    server: String,
    /// Lets the node join; needed once [default: OFFTAKE_JOIN of the environment]
    #[arg(long, value_name = "TOKEN")]
    join: Option<String>,
    /// The certificate of the authority that signed the server's
    #[arg(long, value_name = "PEM")]
    ca: Option<PathBuf>,
    /// Folder for what the agent keeps, such as output of jobs
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    #[command(flatten)]
    node: Node,
    #[command(flatten)]
    logging: Logging,
}

// What an agent says and does of its node.
#[derive(Args, Default)]
pub struct Node {
    /// The node's name [default: the host's]
    #[arg(long, value_name = "NODE", help_heading = "Node")]
    name: Option<String>,
    /// Where other nodes reach it [default: the address that reaches the server]
    #[arg(long, value_name = "HOST", help_heading = "Node")]
    address: Option<String>,
    /// Cores for work [default: all]
    #[arg(long, value_name = "N", help_heading = "Node", value_parser = clap::value_parser!(u32).range(1..))]
    cpus: Option<u32>,
    /// Memory for work, such as 64GiB [default: all]
    #[arg(long, value_name = "SIZE", help_heading = "Node", value_parser = memory)]
    memory: Option<Mebibytes>,
    /// Program that runs before each task on the node
    #[arg(long, value_name = "PROGRAM", help_heading = "Node")]
    prolog: Option<PathBuf>,
    /// Program that runs after each task on the node
    #[arg(long, value_name = "PROGRAM", help_heading = "Node")]
    epilog: Option<PathBuf>,
    /// Program that tells by its status whether the node is fit for work
    #[arg(long, value_name = "PROGRAM", help_heading = "Node")]
    health_check: Option<PathBuf>,
    /// Time between two health checks [default: 1m]
    #[arg(long, value_name = "TIME", help_heading = "Node")]
    health_interval: Option<Duration>,
    /// Most that a chip may draw once the server is gone for a lease [default: as before]
    #[arg(long, value_name = "WATTS", help_heading = "Node", value_parser = clap::value_parser!(u32).range(1..))]
    default_power_limit: Option<u32>,
}

impl Node {
    /// The agent of this node, for a server.
    ///
    /// # Errors
    /// When a program is not there, or this binary cannot be found.
    pub fn configuration(&self, server: Server, data: PathBuf) -> anyhow::Result<Configuration> {
        let mut configuration = Configuration::new(server, data, std::env::current_exe()?);
        configuration.name.clone_from(&self.name);
        configuration.address.clone_from(&self.address);
        configuration.cpus = self.cpus;
        configuration.memory = self.memory;
        configuration.default_power_limit = self.default_power_limit;
        configuration.prolog = program("--prolog", self.prolog.as_ref())?;
        configuration.epilog = program("--epilog", self.epilog.as_ref())?;
        configuration.health_check = program("--health-check", self.health_check.as_ref())?;
        if let Some(interval) = self.health_interval {
            configuration.health_interval = std::time::Duration::from_millis(interval.as_millis().unsigned_abs());
        }
        Ok(configuration)
    }
}

/// A program that is there, by its whole path: the agent does not run where it was started.
fn program(option: &str, given: Option<&PathBuf>) -> Result<Option<PathBuf>, BadInput> {
    let Some(path) = given else { return Ok(None) };
    let whole = path.canonicalize().ok().filter(|path| path.is_file());
    whole.map(Some).ok_or_else(|| BadInput(format!("{option} `{}`: name a program that is there", path.display())))
}

fn memory(text: &str) -> Result<Mebibytes, String> {
    const MEBIBYTE: u64 = 1 << 20;
    let bytes = human::parse_bytes(text).filter(|bytes| *bytes >= MEBIBYTE);
    bytes.map(|bytes| Mebibytes::new(bytes / MEBIBYTE)).ok_or_else(|| format!("allowed is {}", human::SIZE_ALLOWED))
}

pub fn run(arguments: &Arguments) -> anyhow::Result<ExitCode> {
    arguments.logging.start()?;
    let from_environment = || std::env::var("OFFTAKE_JOIN").ok().filter(|token| !token.is_empty());
    let join = arguments.join.clone().or_else(from_environment);
    let (token, fingerprint) = join.as_deref().map_or((None, None), parts);
    let known = Known {
        url: arguments.server.clone(),
        fingerprint: fingerprint.map(|fingerprint| fingerprint.to_string()),
        ca: arguments.ca.clone(),
        ..Known::default()
    };
    let data = match &arguments.data {
        Some(data) => data.clone(),
        None => Surroundings::of_process().data_folder()?.join("agent"),
    };
    let mut configuration = arguments.node.configuration(known.server()?, data)?;
    configuration.join_token = token;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        let stop = departure()?;
        offtake_agent::run(configuration, stop).await?;
        Ok(ExitCode::SUCCESS)
    })
}

/// A join token, and the fingerprint of the server's certificate where it carries one.
fn parts(join: &str) -> (Option<String>, Option<Fingerprint>) {
    match join.rsplit_once('.').and_then(|(token, text)| Some((token, Fingerprint::parse(text)?))) {
        Some((token, fingerprint)) => (Some(token.to_owned()), Some(fingerprint)),
        None => (Some(join.to_owned()), None),
    }
}

/// How the agent is to end: told to terminate, as a service manager does for an upgrade, it leaves its workers to the
/// next run; interrupted at the keyboard, it ends them in good order.
fn departure() -> std::io::Result<impl Future<Output = Departure>> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => Departure::Pause,
            _ = interrupt.recv() => Departure::Leave,
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_join_token_may_carry_a_fingerprint() {
        let digits = "0a".repeat(32);
        let (token, fingerprint) = parts(&format!("secret.{digits}"));
        assert_eq!((token.as_deref(), fingerprint.map(|text| text.to_string())), (Some("secret"), Some(digits)));
        let (token, fingerprint) = parts("secret.x");
        assert_eq!((token.as_deref(), fingerprint), (Some("secret.x"), None));
    }

    #[test]
    fn what_a_node_is_told_is_checked() {
        assert_eq!(memory("64GiB"), Ok(Mebibytes::new(65_536)));
        assert!(memory("64").is_err() && memory("1B").is_err());
        let server = || Known { url: "http://x:1".to_owned(), ..Known::default() }.server().expect("it is an address");
        let node = Node { prolog: Some("no/such".into()), ..Node::default() };
        let error = node.configuration(server(), "data".into()).expect_err("it is not there").to_string();
        assert!(error.starts_with("--prolog `no/such`"), "{error}");
        let node = Node { name: Some("n1".to_owned()), epilog: Some("/bin/sh".into()), ..Node::default() };
        let configuration = node.configuration(server(), "data".into()).expect("all is there");
        assert_eq!(configuration.name.as_deref(), Some("n1"));
        assert!(configuration.epilog.is_some_and(|path| path.is_absolute()));
    }
}
