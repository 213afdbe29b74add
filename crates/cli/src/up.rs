//! `offtake up`: control plane, store and a local agent in one process.

use std::collections::BTreeMap;
use std::io::IsTerminal;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Instant;

use anyhow::Context;
use clap::Args;
use offtake_agent::{AgentError, Departure};
use offtake_client::{Client, Server, Trust};
use offtake_engine::Policy;
use offtake_protocol::rest::FleetView;
use offtake_server::{Certificate, Configuration, Limits, Ready};
use offtake_units::Duration;
use offtake_workload::User;
use serde::Serialize;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{oneshot, watch};

use crate::agent::Node;
use crate::context::{Contexts, Known, SOCKET, Surroundings};
use crate::logging::Logging;
use crate::telemetry::Export;
use crate::terminal::{BadInput, print, print_json};

#[derive(Args)]
pub struct Arguments {
    /// Folder for all that is kept [default: /var/lib/offtake, or the user's own]
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// Address to listen on, beside the socket for this machine
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:7433")]
    listen: SocketAddr,
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
    /// The certificate to show, read anew at SIGHUP [default: one of its own making]
    #[arg(long, value_name = "PEM", requires = "tls_key")]
    tls_cert: Option<PathBuf>,
    /// The key of the certificate
    #[arg(long, value_name = "PEM", requires = "tls_cert")]
    tls_key: Option<PathBuf>,
    /// Electricity prices by the hour, and the zones that they are of
    #[arg(long, value_names = ["CSV", "ZONES"], num_args = 2)]
    prices: Option<Vec<PathBuf>>,
    /// Carbon intensity by the hour, and the zones that it is of
    #[arg(long, value_names = ["CSV", "ZONES"], num_args = 2)]
    carbon: Option<Vec<PathBuf>>,
    /// Wet-bulb temperatures of sites by the hour
    #[arg(long, value_name = "CSV")]
    weather: Option<PathBuf>,
    /// Jobs that may wait or run at one time
    #[arg(long, value_name = "N", default_value_t = Limits::default().jobs)]
    most_jobs: usize,
    /// Requests a second that one token, or one user of the socket, may make
    #[arg(long, value_name = "N", default_value_t = Limits::default().requests_per_second)]
    most_requests: u32,
    /// Serve /metrics without a token
    #[arg(long)]
    metrics_open: bool,
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

/// What is up.
#[derive(Debug, Serialize)]
struct Up {
    /// The server's socket for this machine.
    socket: PathBuf,
    /// Its address for others.
    #[serde(skip_serializing_if = "Option::is_none")]
    url: Option<String>,
    /// Its folder of data.
    data: PathBuf,
    /// The file with the operator's token.
    token_file: PathBuf,
    /// The fingerprint of a certificate of its own making.
    #[serde(skip_serializing_if = "Option::is_none")]
    fingerprint: Option<String>,
    /// Whether a local agent runs too, and has joined.
    agent: bool,
    /// Why the journal takes nothing, when that is so.
    #[serde(skip_serializing_if = "Option::is_none")]
    read_only: Option<String>,
    /// Facts on disk.
    sequence: u64,
    timing: Timing,
}

/// What was measured; it differs from start to start.
#[derive(Debug, Serialize)]
struct Timing {
    ready_ms: f64,
}

fn policy(text: &str) -> Result<Policy, String> {
    /// Ties are broken alike at every start.
    const SEED: u64 = 0;
    Policy::named(text, SEED).ok_or_else(|| format!("allowed is {}", Policy::NAMES.join(", ")))
}

pub fn run(arguments: &Arguments) -> anyhow::Result<ExitCode> {
    arguments.logging.start()?;
    let around = Surroundings::of_process();
    let (mut configuration, socket) = configuration(arguments, &around)?;
    // Ends after the event loop, which is made after it.
    let export = Export::begin();
    configuration.spans = export.is_on();
    let data = configuration.data.clone();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        let mut signals = Signals::listen()?;
        let stop = Stop::default();
        let (tell, is_ready) = oneshot::channel();
        // Nobody is told only when the process ends already.
        let tell = |ready| drop(tell.send(ready));
        let mut server = tokio::spawn(offtake_server::serve(configuration, tell, stop.ordered()));
        let ready: Ready = tokio::select! {
            Ok(ready) = is_ready => ready,
            ended = &mut server => return ended?.map(|()| ExitCode::SUCCESS).map_err(Into::into),
        };
        let mut up = Up::of(&ready, socket, data.clone(), !arguments.no_agent);
        note(&up, &around);
        let here = Server { url: format!("unix:{}", up.socket.display()), token: None, trust: Trust::System };
        let mut agent = std::pin::pin!(async {
            if arguments.no_agent {
                say(&up, arguments.json)?;
                stop.ordered().await;
                return Ok(());
            }
            let work = local_agent(arguments, &ready, here.clone(), data.join("agent"), &stop);
            let tell = async {
                let begun = Instant::now();
                tokio::select! {
                    joined = any_node(here.clone()) => joined?,
                    () = stop.ordered() => return Ok(()),
                }
                up.timing.ready_ms += begun.elapsed().as_secs_f64() * 1000.0;
                say(&up, arguments.json)
            };
            tokio::try_join!(work, tell).map(|_| ())
        });
        let ended = tokio::select! {
            // An agent that cannot begin is worth knowing of, though the server could go on alone.
            ended = &mut agent => Some(ended),
            ended = &mut server => return ended?.map(|()| ExitCode::SUCCESS).map_err(Into::into),
            () = signals.end(&ready) => None,
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

impl Up {
    fn of(ready: &Ready, socket: PathBuf, data: PathBuf, agent: bool) -> Self {
        Self {
            socket,
            url: ready.url.clone(),
            data,
            token_file: ready.operator_token.clone(),
            fingerprint: ready.fingerprint.clone(),
            agent,
            read_only: ready.read_only.clone(),
            sequence: ready.sequence,
            timing: Timing { ready_ms: ready.took.as_secs_f64() * 1000.0 },
        }
    }
}

/// Waits until the fleet has a node: work that came before there is any would be refused, as it fits nowhere.
async fn any_node(server: Server) -> anyhow::Result<()> {
    const PAUSE: std::time::Duration = std::time::Duration::from_millis(5);
    let client = Client::new(server)?;
    while client.get::<FleetView>("/v1/fleet").await?.nodes == 0 {
        tokio::time::sleep(PAUSE).await;
    }
    Ok(())
}

/// Runs the agent of this machine, which joins with its first start.
async fn local_agent(
    arguments: &Arguments,
    ready: &Ready,
    server: Server,
    data: PathBuf,
    stop: &Stop,
) -> anyhow::Result<()> {
    let departure = || {
        let stop = stop.ordered();
        async move {
            stop.await;
            // Workers outlive a server that starts again within the lease.
            Departure::Pause
        }
    };
    let mut configuration = arguments.node.configuration(server, data)?;
    match offtake_agent::run(configuration.clone(), departure()).await {
        Err(AgentError::NoToken) => {}
        ended => return Ok(ended?),
    }
    let token = ready.join_token(None).await;
    configuration.join_token = Some(token.map_err(|problem| anyhow::anyhow!(problem.detail))?);
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

/// The signals that end a server in good order, and the one that has its certificate read anew.
struct Signals {
    interrupt: Signal,
    terminate: Signal,
    hangup: Signal,
}

impl Signals {
    fn listen() -> std::io::Result<Self> {
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
            hangup: signal(SignalKind::hangup())?,
        })
    }

    /// Comes with the signal to end.
    async fn end(&mut self, ready: &Ready) {
        loop {
            tokio::select! {
                _ = self.interrupt.recv() => return,
                _ = self.terminate.recv() => return,
                _ = self.hangup.recv() => {}
            }
            // The terminal that it was started at is gone, and whoever sat there.
            if std::io::stdin().is_terminal() {
                return;
            }
            match ready.reload_certificate() {
                Ok(true) => tracing::info!("the certificate was read anew"),
                Ok(false) => tracing::info!("there is nothing to read anew: no certificate of an authority is served"),
                Err(error) => tracing::error!(%error, "the certificate cannot be read anew: the one so far stays"),
            }
        }
    }
}

/// What the server is started with, and its socket.
fn configuration(arguments: &Arguments, around: &Surroundings) -> anyhow::Result<(Configuration, PathBuf)> {
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
    let folder = socket.parent().unwrap_or(Path::new("/"));
    std::fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
    let mut configuration = Configuration::new(data);
    configuration.socket = Some(socket.clone());
    configuration.listen = Some(arguments.listen);
    if let Some((chain, key)) = arguments.tls_cert.clone().zip(arguments.tls_key.clone()) {
        configuration.certificate = Certificate::Given { chain, key };
    }
    if let Some(file) = &arguments.fleet {
        configuration.fleet = Some(Arc::new(offtake_fleet::read(file, &BTreeMap::new())?));
    }
    configuration.policy = arguments.policy.clone();
    if let Some(file) = &arguments.tenants {
        configuration.tenants = tenants(file)?;
    }
    configuration.lease = arguments.lease;
    configuration.limits.jobs = arguments.most_jobs;
    configuration.limits.requests_per_second = arguments.most_requests;
    configuration.metrics_open = arguments.metrics_open;
    let pair = |files: &Option<Vec<PathBuf>>| match files.as_deref() {
        Some([hours, zones]) => Some((hours.clone(), zones.clone())),
        _ => None,
    };
    configuration.signals = offtake_server::Signals {
        prices: pair(&arguments.prices),
        carbon: pair(&arguments.carbon),
        weather: arguments.weather.clone(),
    };
    Ok((configuration, socket))
}

/// Reads whom the jobs of each tenant run as: `lab = "ada"`, or by number, `lab = 1000`.
fn tenants(file: &Path) -> anyhow::Result<BTreeMap<String, User>> {
    let text = std::fs::read_to_string(file)
        .map_err(|error| BadInput(format!("{}: the tenants cannot be read: {error}", file.display())))?;
    let wrong = |what: String| BadInput(format!("{}: {what}", file.display()));
    let table: toml::Table = text.parse().map_err(|error: toml::de::Error| wrong(error.message().to_owned()))?;
    let mut tenants = BTreeMap::new();
    for (tenant, value) in table {
        let user = match &value {
            toml::Value::String(name) if !name.is_empty() => Some(User::Name(name.clone())),
            toml::Value::Integer(id) => u32::try_from(*id).ok().map(User::Id),
            _ => None,
        };
        let allowed =
            || wrong(format!("`{tenant}` is {value}; allowed is the name or the number of a user, such as `\"ada\"`"));
        tenants.insert(tenant.clone(), user.ok_or_else(allowed)?);
    }
    Ok(tenants)
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
fn note(up: &Up, around: &Surroundings) {
    const NAME: &str = "local";
    let write = || {
        let file = around.contexts_file()?;
        let mut contexts = Contexts::read(&file)?;
        let known = Known { url: format!("unix:{}", up.socket.display()), ..Known::default() };
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

fn say(up: &Up, json: bool) -> anyhow::Result<()> {
    if json { print_json(up) } else { print(&text(up)) }
}

fn text(up: &Up) -> String {
    let parts = if up.agent { "control plane, store and an agent for this machine" } else { "control plane and store" };
    let mut text = format!("offtake is up: {parts}.\n");
    if let Some(reason) = &up.read_only {
        text += &format!("It only shows how things stand, and takes nothing: {reason}\n");
    }
    text += "\n";
    let mut line = |what: &str, value: &str| text += &format!("  {what:<12} {value}\n");
    line("here", &format!("unix:{}", up.socket.display()));
    if let Some(url) = &up.url {
        line("from afar", url);
    }
    if let Some(fingerprint) = &up.fingerprint {
        line("fingerprint", fingerprint);
    }
    line("token in", &up.token_file.display().to_string());
    line("data", &up.data.display().to_string());
    text + "\nTry, in another terminal:\n\n  offtake run -- hostname\n  offtake jobs --all\n  offtake nodes\n  offtake top\n"
}

#[cfg(test)]
mod tests {
    use super::*;

    fn up() -> Up {
        Up {
            socket: "/run/user/1000/offtake/server.sock".into(),
            url: Some("https://127.0.0.1:7433".to_owned()),
            data: "/home/ada/.local/share/offtake".into(),
            token_file: "/home/ada/.local/share/offtake/operator.token".into(),
            fingerprint: Some("0a".repeat(32)),
            agent: true,
            read_only: None,
            sequence: 7,
            timing: Timing { ready_ms: 41.0 },
        }
    }

    #[test]
    fn what_is_up_is_said_with_what_to_try() {
        insta::assert_snapshot!(text(&up()));
        let lame = Up { read_only: Some("the disk is full".to_owned()), agent: false, ..up() };
        assert!(text(&lame).contains("takes nothing: the disk is full"));
    }

    #[test]
    fn tenants_run_as_users() {
        let file = std::env::temp_dir().join(format!("offtake-tenants-{}.toml", std::process::id()));
        let read = |text: &str| {
            std::fs::write(&file, text).expect("the file can be written");
            tenants(&file).map_err(|error| error.to_string())
        };
        let both = [("lab".to_owned(), User::Name("ada".to_owned())), ("hall".to_owned(), User::Id(1000))];
        assert_eq!(read("lab = \"ada\"\nhall = 1000\n"), Ok(BTreeMap::from(both)));
        for wrong in ["lab = -1", "lab = \"\"", "lab = [1]", "lab ="] {
            assert!(read(wrong).expect_err(wrong).contains("offtake-tenants"), "{wrong}");
        }
        std::fs::remove_file(&file).expect("the file can be removed");
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
