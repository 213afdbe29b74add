//! Connections: over the unix socket, over TCP on this machine, over TLS from elsewhere.

mod shown;
mod tls;

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use hyper::body::Incoming;
use hyper_util::rt::{TokioIo, TokioTimer};
use offtake_workload::User;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio_rustls::TlsAcceptor;
use tower::Service;

use crate::configuration::{Certificate, Configuration};
use crate::identity::{Peer, of_socket};

pub(crate) use shown::Shown;
pub(crate) use tls::Tls;
pub use tls::TlsError;

/// The longest that a request's head may take to come, and that a connection may be silent between two requests.
const HEAD_IN_TIME: Duration = Duration::from_secs(90);

/// The longest that a TLS handshake may take.
const HANDSHAKE_IN_TIME: Duration = Duration::from_secs(10);

/// After a failure to accept, such as for want of file descriptors.
const AFTER_FAILURE: Duration = Duration::from_millis(100);

/// How long requests under way may take to end when the server stops.
const LAST_REQUESTS: Duration = Duration::from_secs(10);

/// Why the server cannot listen.
#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    /// The unix socket.
    #[error("cannot listen at the socket {}: {source}", path.display())]
    Socket {
        /// Where.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The TCP address.
    #[error("cannot listen at {address}: {source}; give another address, or stop what listens there")]
    Address {
        /// Where.
        address: SocketAddr,
        /// Why.
        source: io::Error,
    },
    /// The certificate.
    #[error(transparent)]
    Tls(#[from] TlsError),
}

/// What the server listens at.
pub(crate) struct Listeners {
    unix: Option<(UnixListener, PathBuf)>,
    tcp: Option<TcpListener>,
    tls: Option<Tls>,
}

/// What every connection needs.
#[derive(Clone)]
pub(crate) struct Connections {
    pub(crate) router: Router,
    pub(crate) most: Arc<Semaphore>,
    pub(crate) tenants: Arc<BTreeMap<String, User>>,
    pub(crate) stop: watch::Receiver<bool>,
    /// Held by each connection; all are closed when it can be received from no more.
    pub(crate) open: tokio::sync::mpsc::Sender<Infallible>,
}

impl Listeners {
    /// Opens the socket and the address of a configuration. Nobody is answered yet.
    ///
    /// # Errors
    /// One cannot be opened, or TLS is needed and has no certificate.
    pub(crate) async fn open(configuration: &Configuration) -> Result<Self, ListenError> {
        let tls = configuration.listen.filter(|address| needs_tls(*address, &configuration.certificate));
        let tls = tls.map(|address| Tls::load(&configuration.certificate, &configuration.data, address)).transpose()?;
        let unix = match &configuration.socket {
            Some(path) => {
                let bound = bind(path).map_err(|source| ListenError::Socket { path: path.clone(), source })?;
                Some((bound, path.clone()))
            }
            None => None,
        };
        let tcp = match configuration.listen {
            Some(address) => {
                let bound = TcpListener::bind(address).await;
                Some(bound.map_err(|source| ListenError::Address { address, source })?)
            }
            None => None,
        };
        Ok(Self { unix, tcp, tls })
    }

    /// The server's URL over TCP.
    pub(crate) fn url(&self) -> Option<String> {
        let address = self.tcp.as_ref()?.local_addr().ok()?;
        let scheme = if self.tls.is_some() { "https" } else { "http" };
        Some(format!("{scheme}://{address}"))
    }

    /// The fingerprint of the server's own certificate.
    pub(crate) fn fingerprint(&self) -> Option<&str> {
        self.tls.as_ref()?.fingerprint.as_deref()
    }

    /// The certificate of an authority, which is renewed from time to time.
    pub(crate) fn renewable(&self) -> Option<Arc<Shown>> {
        self.tls.as_ref().filter(|tls| tls.fingerprint.is_none()).map(|tls| Arc::clone(&tls.shown))
    }

    /// Answers whoever connects, until the server stops.
    pub(crate) fn serve(self, connections: &Connections) {
        if let Some((listener, path)) = self.unix {
            tokio::spawn(serve_unix(listener, path, connections.clone()));
        }
        if let Some(listener) = self.tcp {
            tokio::spawn(serve_tcp(listener, self.tls.map(|tls| tls.acceptor), connections.clone()));
        }
    }
}

/// Plain HTTP does not leave the machine.
fn needs_tls(address: SocketAddr, certificate: &Certificate) -> bool {
    !address.ip().is_loopback() || *certificate != Certificate::Own
}

/// Everybody on the machine may connect: the kernel says who it is.
fn bind(path: &Path) -> io::Result<UnixListener> {
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder)?;
    }
    // The journal's lock is held, so a socket that is there is what another run has left behind, or another server's
    // whose journal is elsewhere.
    if std::os::unix::net::UnixStream::connect(path).is_ok() {
        return Err(io::Error::new(io::ErrorKind::AddrInUse, "another server answers there"));
    }
    match std::fs::symlink_metadata(path) {
        Ok(found) if std::os::unix::fs::FileTypeExt::is_socket(&found.file_type()) => std::fs::remove_file(path)?,
        Ok(_) => return Err(io::Error::new(io::ErrorKind::AlreadyExists, "something else than a socket is there")),
        Err(_) => {}
    }
    let listener = UnixListener::bind(path)?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o666))?;
    Ok(listener)
}

async fn serve_unix(listener: UnixListener, path: PathBuf, connections: Connections) {
    let mut stop = connections.stop.clone();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = told(&mut stop) => break,
        };
        let stream = match accepted {
            Ok((stream, _)) => stream,
            Err(error) => {
                pause(&error).await;
                continue;
            }
        };
        let Ok(turn) = Arc::clone(&connections.most).try_acquire_owned() else { continue };
        let connections = connections.clone();
        tokio::spawn(async move {
            let (stream, caller) = match name(stream, Arc::clone(&connections.tenants)).await {
                Ok(named) => named,
                Err(error) => {
                    tracing::warn!(%error, "the kernel does not say who has connected");
                    return;
                }
            };
            serve(stream, Peer::Local(Arc::new(caller)), connections, turn).await;
        });
    }
    let _ = std::fs::remove_file(path);
}

/// The user's name may have to be fetched from a directory service.
async fn name(
    stream: tokio::net::UnixStream,
    tenants: Arc<BTreeMap<String, User>>,
) -> io::Result<(tokio::net::UnixStream, crate::core::Caller)> {
    let named = tokio::task::spawn_blocking(move || {
        let caller = of_socket(&stream, &tenants)?;
        Ok((stream, caller))
    });
    named.await.map_err(io::Error::other)?
}

async fn serve_tcp(listener: TcpListener, tls: Option<TlsAcceptor>, connections: Connections) {
    let mut stop = connections.stop.clone();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = told(&mut stop) => return,
        };
        let stream = match accepted {
            Ok((stream, _)) => stream,
            Err(error) => {
                pause(&error).await;
                continue;
            }
        };
        let Ok(turn) = Arc::clone(&connections.most).try_acquire_owned() else { continue };
        // A failure shows when the connection is used.
        let _ = stream.set_nodelay(true);
        let (tls, connections) = (tls.clone(), connections.clone());
        tokio::spawn(async move {
            let Some(tls) = tls else { return serve(stream, Peer::Remote, connections, turn).await };
            match tokio::time::timeout(HANDSHAKE_IN_TIME, tls.accept(stream)).await {
                Ok(Ok(stream)) => serve(stream, Peer::Remote, connections, turn).await,
                Ok(Err(error)) => tracing::debug!(%error, "no TLS connection came about"),
                Err(_) => tracing::debug!("a TLS handshake took too long"),
            }
        });
    }
}

/// Returns when the server is to stop.
async fn told(stop: &mut watch::Receiver<bool>) {
    // Without a sender there is nobody left who could say more.
    let _ = stop.wait_for(|stop| *stop).await;
}

async fn pause(error: &io::Error) {
    tracing::warn!(%error, "a connection could not be accepted");
    tokio::time::sleep(AFTER_FAILURE).await;
}

async fn serve<S>(stream: S, peer: Peer, connections: Connections, _turn: OwnedSemaphorePermit)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let Connections { router, mut stop, open: _open, .. } = connections;
    let service = hyper::service::service_fn(move |mut request: hyper::Request<Incoming>| {
        request.extensions_mut().insert(peer.clone());
        router.clone().call(request.map(Body::new))
    });
    let connection = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_IN_TIME)
        .serve_connection(TokioIo::new(stream), service);
    tokio::pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = told(&mut stop) => {
            connection.as_mut().graceful_shutdown();
            match tokio::time::timeout(LAST_REQUESTS, connection.as_mut()).await {
                Ok(ended) => ended,
                Err(_) => return,
            }
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "a connection broke off");
    }
}
