//! A server from its start to its end.

use std::future::Future;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::sync_channel;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use offtake_protocol::rest::{JoinTokenRequest, Problem, Role};
use offtake_signals::SignalError;
use offtake_workload::User;
use tokio::sync::{Semaphore, mpsc, watch};

use crate::configuration::Configuration;
use crate::core::{Access, Answer, Caller, Command, Settings};
use crate::estimates::Estimates;
use crate::history::History;
use crate::http;
use crate::identity::Rates;
use crate::listen::{Connections, ListenError, Listeners, Shown, TlsError};
use crate::log_relay::LogRelay;
use crate::problem::problem;
use crate::run_loop::{Handle, Parts, RunLoop, Shared};
use crate::secrets::{own_secret, write_secret};
use crate::server::{MOST_WHAT_IFS, Server};
use crate::signals::Feed;
use crate::spans::Spans;
use crate::store::{SnapshotWriter, Store, StoreError};
use crate::tokens;

/// Why a server cannot start, or had to end.
#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    /// A file or folder of the server's data.
    #[error("cannot use {}: {source}", path.display())]
    Data {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The journal, or what stands beside it.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A socket, an address or a certificate.
    #[error(transparent)]
    Listen(#[from] ListenError),
    /// Prices or carbon intensity.
    #[error(transparent)]
    Signals(#[from] SignalError),
    /// The first token could not be made.
    #[error("cannot make the operator's token: {0}")]
    FirstToken(String),
}

/// A server that takes requests.
#[derive(Clone, Debug)]
pub struct Ready {
    /// Its socket.
    pub socket: Option<PathBuf>,
    /// Its URL over TCP.
    pub url: Option<String>,
    /// The SHA-256 of its certificate, in hexadecimal, where the server has made that itself.
    pub fingerprint: Option<String>,
    /// The file with the operator's token, which the first start makes.
    pub operator_token: PathBuf,
    /// The last fact on disk.
    pub sequence: u64,
    /// How long the start took.
    pub took: Duration,
    /// Why the journal takes nothing, when that is so: the server only shows how things stand.
    pub read_only: Option<String>,
    certificate: Option<Arc<Shown>>,
    handle: Handle,
}

impl Ready {
    /// Reads the certificate of an authority and its key anew; whether the server has one. Connections that are open go on
    /// as they are.
    ///
    /// # Errors
    /// The files cannot be used: the certificate so far stays.
    pub fn reload_certificate(&self) -> Result<bool, TlsError> {
        let Some(certificate) = &self.certificate else { return Ok(false) };
        certificate.reload().map(|()| true)
    }

    /// A token with which one node may join: the agent on this machine, say.
    ///
    /// # Errors
    /// When it cannot be recorded.
    pub async fn join_token(&self, node: Option<String>) -> Result<String, Problem> {
        let asked = JoinTokenRequest { node, valid_ms: None };
        let command = tokens::make_join(asked, self.fingerprint.as_deref())?;
        match self.handle.command(server_itself(), None, command).await? {
            Answer::JoinToken(made) => Ok(made.token),
            _ => Err(problem(axum::http::StatusCode::INTERNAL_SERVER_ERROR, "internal", "no token was made")),
        }
    }
}

/// In whose name the server changes something by itself.
fn server_itself() -> Caller {
    Caller { name: "server".to_owned(), access: Access::Operator, user: None }
}

/// Runs a server until `stop` is ready. `ready` is called once, as soon as requests are taken.
///
/// It ends in good order: what waits is answered and on disk, and a snapshot shortens the next start. Agents and their work
/// go on.
///
/// # Errors
/// It cannot start, or the journal can be neither written nor read any more.
pub async fn serve(
    configuration: Configuration,
    ready: impl FnOnce(Ready),
    stop: impl Future<Output = ()>,
) -> Result<(), ServerError> {
    let began = Instant::now();
    allow_many_files();
    let feed = Feed::read(&configuration.signals)?;
    let opened = {
        let configuration = configuration.clone();
        let opened = tokio::task::spawn_blocking(move || Opened::open(&configuration)).await;
        opened.map_err(|_| StoreError::Thread("start"))??
    };
    let listeners = Listeners::open(&configuration).await?;
    let (stopping, stopped) = watch::channel(false);
    let Opened { handle, parts, shared } = opened;
    let (loop_thread, mut loop_ended) = start_loop(parts)?;
    let mut result = begin(&configuration, &handle, &shared).await;

    let server = Arc::new(Server {
        handle: handle.clone(),
        shared: Arc::clone(&shared),
        rates: Rates::new(configuration.limits.requests_per_second),
        logs: LogRelay::new(),
        bodies: Arc::new(Semaphore::new(http::ALL_BODIES_KIB)),
        what_ifs: Semaphore::new(MOST_WHAT_IFS),
        estimates: Estimates::default(),
        stop: stopped.clone(),
        metrics_open: configuration.metrics_open,
        fingerprint: listeners.fingerprint().map(str::to_owned),
        journal: journal_folder(&configuration.data),
        lease: Duration::from_millis(u64::try_from(configuration.lease.as_millis()).unwrap_or(0)),
        openapi: http::openapi().to_json().expect("the document is texts").into(),
    });
    let (open, mut all_closed) = mpsc::channel(1);
    let connections = Connections {
        router: http::router(&server),
        most: Arc::new(Semaphore::new(configuration.limits.connections)),
        tenants: Arc::new(configuration.tenants.clone()),
        stop: stopped,
        open,
    };
    let ready_now = Ready {
        socket: configuration.socket.clone(),
        url: listeners.url(),
        fingerprint: server.fingerprint.clone(),
        operator_token: operator_token(&configuration.data),
        sequence: shared.sequence(),
        took: began.elapsed(),
        read_only: shared.read_only(),
        certificate: listeners.renewable(),
        handle: handle.clone(),
    };
    let prices = tokio::spawn(feed.run(handle.clone()));
    if result.is_ok() {
        listeners.serve(&connections);
        ready(ready_now);
        tokio::select! {
            () = stop => {}
            // It does not end by itself but for a reason.
            _ = loop_ended.recv() => {}
        }
    }
    // Nobody new is answered; then whoever waits; then the loop ends.
    stopping.send_replace(true);
    drop((connections, server));
    let _ = all_closed.recv().await;
    prices.abort();
    let ended = tokio::task::spawn_blocking(move || {
        handle.stop();
        loop_thread.join().map_err(|_| StoreError::Thread("loop"))?
    });
    let ended = ended.await.map_err(|_| StoreError::Thread("loop"))?;
    if result.is_ok() {
        result = ended.map_err(ServerError::from);
    }
    result
}

/// What a start needs from the disk.
struct Opened {
    handle: Handle,
    parts: Parts,
    shared: Arc<Shared>,
}

fn journal_folder(data: &Path) -> PathBuf {
    data.join("journal")
}

fn operator_token(data: &Path) -> PathBuf {
    data.join("operator.token")
}

impl Opened {
    fn open(configuration: &Configuration) -> Result<Self, ServerError> {
        let data = &configuration.data;
        make_private_folder(data).map_err(|source| ServerError::Data { path: data.clone(), source })?;
        let secret_file = data.join("secret");
        let settings = |secret| Settings {
            lease: configuration.lease,
            prepare_timeout: configuration.prepare_timeout,
            secret,
            tenants: configuration.tenants.clone(),
            version: crate::VERSION.to_owned(),
            policy: configuration.policy.clone(),
            most_jobs: configuration.limits.jobs,
        };
        let secret = own_secret(&secret_file).map_err(|source| ServerError::Data { path: secret_file, source })?;
        let folder = journal_folder(data);
        let declared = configuration.fleet.clone();
        let store = Store::open(&folder, settings(secret), declared, configuration.limits.journal_bytes)?;
        let history = Arc::new(offtake_journal::History::open(&folder).map_err(StoreError::from)?);
        let folded = store.fold(Some(&history))?;
        let history = History::start(history).map_err(|source| ServerError::Data { path: folder.clone(), source })?;
        let spans = Spans::new(configuration.spans);
        let shared = Arc::new(Shared::new(folded.core.sequence(), history, SnapshotWriter::of(&folder), spans));
        let (sender, messages) = sync_channel(configuration.limits.waiting.max(1));
        let parts = Parts {
            core: folded.core,
            store,
            messages,
            wake: sender.clone(),
            shared: Arc::clone(&shared),
            last_fact: folded.last_fact,
            snapshot_every: configuration.limits.snapshot_every,
        };
        Ok(Self { handle: Handle::new(sender), parts, shared })
    }
}

/// A folder that others may not look into. They may pass through it: an agent of this machine keeps below it what its
/// jobs' users must reach, and what is secret is readable for the owner alone.
fn make_private_folder(path: &Path) -> io::Result<()> {
    use std::os::unix::fs::DirBuilderExt;
    std::fs::DirBuilder::new().recursive(true).mode(0o711).create(path)
}

type LoopThread = JoinHandle<Result<(), StoreError>>;

/// Starts the loop on a thread of its own; the receiver is told when it ends.
fn start_loop(parts: Parts) -> Result<(LoopThread, mpsc::Receiver<()>), ServerError> {
    let (ends, ended) = mpsc::channel::<()>(1);
    let work = move || {
        let _ends = ends;
        RunLoop::new(parts).run()
    };
    let thread = std::thread::Builder::new().name("loop".to_owned()).spawn(work);
    Ok((thread.map_err(|_| StoreError::Thread("loop"))?, ended))
}

/// Makes the server ready for requests. One whose journal takes nothing is as ready as it can be.
async fn begin(configuration: &Configuration, handle: &Handle, shared: &Shared) -> Result<(), ServerError> {
    match prepare(configuration, handle).await {
        Err(problem) if shared.read_only().is_none() => Err(ServerError::FirstToken(problem.detail)),
        _ => Ok(()),
    }
}

/// What the first start records, and what the configuration changes.
async fn prepare(configuration: &Configuration, handle: &Handle) -> Result<(), Problem> {
    let tokens = handle.ask(|core| core.tokens()).await?;
    if tokens.is_empty() {
        // Whoever runs the server can read it; so can they run work as themselves.
        let user = User::Id(nix::unistd::Uid::effective().as_raw());
        let command = tokens::make("operator".to_owned(), Role::Operator, Some(user), None);
        let Command::MakeToken { answer, .. } = &command else { return Ok(()) };
        let path = operator_token(&configuration.data);
        write_secret(&path, answer.token.as_bytes()).map_err(|error| {
            let detail = format!("{}: {error}", path.display());
            problem(axum::http::StatusCode::INTERNAL_SERVER_ERROR, "operator_token", detail)
        })?;
        handle.command(server_itself(), None, command).await?;
    }
    Ok(())
}

/// As many connections as agents need descriptors.
fn allow_many_files() {
    let raised = getrlimit(Resource::RLIMIT_NOFILE)
        .and_then(|(soft, hard)| if soft < hard { setrlimit(Resource::RLIMIT_NOFILE, hard, hard) } else { Ok(()) });
    if let Err(error) = raised {
        tracing::warn!(%error, "the number of open files cannot be raised");
    }
}
