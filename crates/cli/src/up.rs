//! `offtake up`: control plane, store and a local agent in one process.

use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context;
use clap::Args;
use offtake_agent::{AgentError, Departure};
use offtake_client::{Server, Trust};
use offtake_engine::Policy;
use offtake_protocol::rest::{JoinTokenMade, JoinTokenRequest};
use offtake_units::Duration;
use serde::Serialize;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{oneshot, watch};

use crate::agent::Node;
use crate::connection::Connection;
use crate::context::{Contexts, Known, SOCKET, Surroundings};
use crate::logging::Logging;
use crate::terminal::{BadInput, print, print_json};

#[derive(Args)]
pub struct Arguments {
    /// Folder for all that is kept [default: /var/lib/offtake, or offtake in the user's data folder]
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// Address to listen on, beside the socket for this machine
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:7480")]
    listen: std::net::SocketAddr,
    /// The socket for this machine [default: in the user's runtime folder, or in --data]
    #[arg(long, value_name = "FILE")]
    socket: Option<PathBuf>,
    /// The fleet file [default: a fleet of the nodes that join]
    #[arg(long, value_name = "FILE")]
    fleet: Option<PathBuf>,
    /// The policy from now on [default: the one in force; offtake at first]
    #[arg(long, value_name = "POLICY", value_parser = policy)]
    policy: Option<Policy>,
    /// Whom the jobs of each tenant run as: a TOML file
    #[arg(long, value_name = "FILE")]
    tenants: Option<PathBuf>,
    /// How long an agent may go on without hearing from the server
    #[arg(long, value_name = "TIME", default_value = "30s")]
    lease: Duration,
    /// The certificate to show [default: one of its own making]
    #[arg(long, value_name = "PEM", requires = "tls_key")]
    tls_cert: Option<PathBuf>,
    /// The key of the certificate
    #[arg(long, value_name = "PEM", requires = "tls_cert")]
    tls_key: Option<PathBuf>,
    /// Run no agent: this machine runs no work
    #[arg(long)]
    no_agent: bool,
    /// Print JSON when ready
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    node: Node,
    #[command(flatten)]
    logging: Logging,
}

/// What a server is to be.
pub struct Plan {
    pub data: PathBuf,
    pub listen: std::net::SocketAddr,
    pub socket: PathBuf,
    pub fleet: Option<PathBuf>,
    pub policy: Option<Policy>,
    pub tenants: Option<PathBuf>,
    pub lease: Duration,
    /// Certificate and key.
    pub tls: Option<(PathBuf, PathBuf)>,
}

/// What a server that is ready says.
#[derive(Clone, Debug, Serialize)]
pub struct Ready {
    /// Its socket for this machine.
    pub socket: PathBuf,
    /// Its address for others.
    pub url: String,
    /// Its folder of data.
    pub data: PathBuf,
    /// The file with the operator's token, where it has just been made or is still there.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub token_file: Option<PathBuf>,
    /// The fingerprint of a certificate of its own making.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fingerprint: Option<String>,
    /// Whether a local agent runs too.
    pub agent: bool,
}

/// Runs the server until `stop`; tells `ready` once it answers.
async fn serve(plan: Plan, ready: oneshot::Sender<Ready>, stop: impl Future<Output = ()>) -> anyhow::Result<()> {
    let _ = (plan.listen, plan.fleet, plan.policy, plan.tenants, plan.lease, plan.tls, plan.data, plan.socket);
    drop((ready, stop));
    anyhow::bail!("the server is not part of this build")
}

fn policy(text: &str) -> Result<Policy, String> {
    /// Ties are broken alike at every start.
    const SEED: u64 = 0;
    Policy::named(text, SEED).ok_or_else(|| format!("allowed is {}", Policy::NAMES.join(", ")))
}

pub fn run(arguments: &Arguments) -> anyhow::Result<ExitCode> {
    arguments.logging.start()?;
    let around = Surroundings::of_process();
    let plan = plan(arguments, &around)?;
    std::fs::create_dir_all(&plan.data).with_context(|| format!("cannot make {}", plan.data.display()))?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let agent_data = plan.data.join("agent");
    runtime.block_on(async {
        let mut signals = Signals::listen()?;
        let stop = Stop::default();
        let (ready, is_ready) = oneshot::channel();
        let mut server = tokio::spawn(serve(plan, ready, stop.ordered()));
        let mut ready = tokio::select! {
            Ok(ready) = is_ready => ready,
            ended = &mut server => return ended?.map(|()| ExitCode::SUCCESS),
        };
        note(&ready, &around);
        ready.agent = !arguments.no_agent;
        say(&ready, arguments.json)?;
        let mut agent = std::pin::pin!(async {
            if arguments.no_agent {
                stop.ordered().await;
                return Ok(());
            }
            let socket = format!("unix:{}", ready.socket.display());
            local_agent(&arguments.node, socket, agent_data, &stop).await
        });
        let ended = tokio::select! {
            // An agent that cannot begin is worth knowing of, though the server could go on alone.
            ended = &mut agent => Some(ended),
            ended = &mut server => return ended?.map(|()| ExitCode::SUCCESS),
            () = signals.any() => None,
        };
        stop.order();
        let ended = match ended {
            Some(ended) => ended,
            None => agent.await,
        };
        server.await??;
        ended.map(|()| ExitCode::SUCCESS)
    })
}

/// Runs the agent of this machine, which joins with its first start.
async fn local_agent(node: &Node, socket: String, data: PathBuf, stop: &Stop) -> anyhow::Result<()> {
    let server = Server { url: socket, token: None, trust: Trust::System };
    let departure = || {
        let stop = stop.ordered();
        async move {
            stop.await;
            // Workers outlive a server that starts again within the lease.
            Departure::Pause
        }
    };
    let mut configuration = node.configuration(server.clone(), data)?;
    match offtake_agent::run(configuration.clone(), departure()).await {
        Err(AgentError::NoToken) => {}
        ended => return Ok(ended?),
    }
    let made: JoinTokenMade = Connection::to(server)?.post("/v1/join-tokens", &JoinTokenRequest::default()).await?;
    configuration.join_token = Some(made.token);
    Ok(offtake_agent::run(configuration, departure()).await?)
}

/// Tells all parts of the process to end.
struct Stop(watch::Sender<bool>);

impl Default for Stop {
    fn default() -> Self {
        Self(watch::channel(false).0)
    }
}

impl Stop {
    fn order(&self) {
        self.0.send_replace(true);
    }

    /// Comes once the process is to end.
    fn ordered(&self) -> impl Future<Output = ()> + Send + use<> {
        let mut order = self.0.subscribe();
        async move {
            // When the sender is gone, so is the process.
            let _ = order.wait_for(|stop| *stop).await;
        }
    }
}

/// The signals that end a server in good order.
struct Signals {
    interrupt: Signal,
    terminate: Signal,
}

impl Signals {
    fn listen() -> std::io::Result<Self> {
        Ok(Self { interrupt: signal(SignalKind::interrupt())?, terminate: signal(SignalKind::terminate())? })
    }

    async fn any(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
}

fn plan(arguments: &Arguments, around: &Surroundings) -> anyhow::Result<Plan> {
    let data = match &arguments.data {
        Some(data) => data.clone(),
        None => around.data_folder()?,
    };
    let data = std::path::absolute(&data).with_context(|| format!("--data `{}`", data.display()))?;
    let socket = match &arguments.socket {
        Some(socket) => std::path::absolute(socket).with_context(|| format!("--socket `{}`", socket.display()))?,
        None => socket(&data, arguments.data.is_some(), around),
    };
    check_socket(&socket)?;
    Ok(Plan {
        data,
        listen: arguments.listen,
        socket,
        fleet: arguments.fleet.clone(),
        policy: arguments.policy,
        tenants: arguments.tenants.clone(),
        lease: arguments.lease,
        tls: arguments.tls_cert.clone().zip(arguments.tls_key.clone()),
    })
}

/// A server with a folder of its own has its socket there, so that two of them do not meet.
fn socket(data: &Path, is_own: bool, around: &Surroundings) -> PathBuf {
    let runtime = around.runtime_folder().filter(|_| !is_own);
    runtime.unwrap_or_else(|| data.to_owned()).join(SOCKET)
}

/// The system takes names of sockets up to a length.
fn check_socket(socket: &Path) -> Result<(), BadInput> {
    const LONGEST: usize = 107;
    let length = socket.as_os_str().len();
    if length <= LONGEST {
        return Ok(());
    }
    Err(BadInput(format!(
        "the socket's name {} has {length} bytes, and the system takes {LONGEST}: name a shorter one with --socket",
        socket.display()
    )))
}

/// Makes the server known to other commands, unless they speak to another one.
fn note(ready: &Ready, around: &Surroundings) {
    const NAME: &str = "local";
    let write = || {
        let file = around.contexts_file()?;
        let mut contexts = Contexts::read(&file)?;
        let known = Known { url: format!("unix:{}", ready.socket.display()), ..Known::default() };
        if contexts.contexts.get(NAME) == Some(&known) && contexts.current.is_some() {
            return Ok(());
        }
        contexts.contexts.insert(NAME.to_owned(), known);
        contexts.current.get_or_insert_with(|| NAME.to_owned());
        contexts.write(&file)
    };
    if let Err::<(), anyhow::Error>(error) = write() {
        tracing::warn!("other commands must name the server with --server: {error:#}");
    }
}

fn say(ready: &Ready, json: bool) -> anyhow::Result<()> {
    if json { print_json(ready) } else { print(&text(ready)) }
}

fn text(ready: &Ready) -> String {
    let parts =
        if ready.agent { "control plane, store and an agent for this machine" } else { "control plane and store" };
    let mut text = format!("offtake is up: {parts}.\n\n");
    let mut line = |what: &str, value: &str| {
        let _ = writeln!(text, "  {what:<12} {value}");
    };
    line("here", &format!("unix:{}", ready.socket.display()));
    line("from afar", &ready.url);
    if let Some(fingerprint) = &ready.fingerprint {
        line("fingerprint", fingerprint);
    }
    if let Some(file) = &ready.token_file {
        line("token in", &file.display().to_string());
    }
    line("data", &ready.data.display().to_string());
    text + "\nTry, in another terminal:\n\n  offtake run -- hostname\n  offtake jobs --all\n  offtake nodes\n  offtake top\n"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_up_is_said_with_what_to_try() {
        let ready = Ready {
            socket: "/run/user/1000/offtake/server.sock".into(),
            url: "https://127.0.0.1:7480".to_owned(),
            data: "/home/ada/.local/share/offtake".into(),
            token_file: Some("/home/ada/.local/share/offtake/operator.token".into()),
            fingerprint: Some("0a".repeat(32)),
            agent: true,
        };
        insta::assert_snapshot!(text(&ready));
    }

    #[test]
    fn a_server_with_its_own_folder_has_its_socket_there() {
        let around = Surroundings::of_process();
        assert_eq!(socket(Path::new("/srv/a"), true, &around), Path::new("/srv/a").join(SOCKET));
        assert!(check_socket(Path::new(&"x".repeat(107))).is_ok());
        let error = check_socket(Path::new(&"x".repeat(108))).expect_err("it is too long").to_string();
        assert!(error.contains("--socket"), "{error}");
    }

    #[test]
    fn policies_are_known_by_name() {
        assert!(policy("offtake").is_ok());
        assert!(policy("best").expect_err("it is unknown").contains("fifo"));
    }
}
