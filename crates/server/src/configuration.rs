//! What a server is started with.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;

use offtake_engine::Policy;
use offtake_fleet::Fleet;
use offtake_units::Duration;
use offtake_workload::User;

/// What a server is started with.
#[derive(Clone, Debug)]
pub struct Configuration {
    /// The folder with the journal and the server's secrets; made where it is not there.
    pub data: PathBuf,
    /// The unix socket; none for none.
    pub socket: Option<PathBuf>,
    /// The TCP address; none for none. Anything but a loopback address is served over TLS only.
    pub listen: Option<SocketAddr>,
    /// The certificate to serve TLS with.
    pub certificate: Certificate,
    /// The fleet; made of the nodes that join when there is none.
    pub fleet: Option<Arc<Fleet>>,
    /// The policy; the one in force, or the default one, when there is none.
    pub policy: Option<Policy>,
    /// Whom the jobs of a tenant run as.
    pub tenants: BTreeMap<String, User>,
    /// How long an agent may go on without hearing from the server.
    pub lease: Duration,
    /// How long the nodes of a gang may take to prepare, before its start is given up.
    pub prepare_timeout: Duration,
    /// How much is taken from outside.
    pub limits: Limits,
    /// Whether `/metrics` needs no token.
    pub metrics_open: bool,
    /// Whether spans go to the process's tracer provider of OpenTelemetry.
    pub spans: bool,
    /// Files with prices, carbon intensity and weather; published as their hours come.
    pub signals: Signals,
}

impl Configuration {
    /// A server of this machine: its store in `data`, on the usual port of the loopback interface, no socket.
    pub fn new(data: PathBuf) -> Self {
        Self {
            data,
            socket: None,
            listen: Some(SocketAddr::from((Ipv4Addr::LOCALHOST, PORT))),
            certificate: Certificate::default(),
            fleet: None,
            policy: None,
            tenants: BTreeMap::new(),
            lease: Duration::from_secs(60),
            prepare_timeout: Duration::from_secs(120),
            limits: Limits::default(),
            metrics_open: false,
            spans: false,
            signals: Signals::default(),
        }
    }
}

/// The usual port.
pub const PORT: u16 = 7433;

/// The certificate that TLS is served with.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Certificate {
    /// One that the server makes for itself and keeps in its folder. Whoever connects knows it by its fingerprint.
    #[default]
    Own,
    /// One of an authority. TLS is then served on loopback addresses too.
    Given {
        /// The certificate and those that lead to the authority (PEM).
        chain: PathBuf,
        /// Its private key (PEM).
        key: PathBuf,
    },
}

/// How much is taken from outside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Jobs that may be known and not over.
    pub jobs: usize,
    /// Connections at one time. Each agent has one or two.
    pub connections: usize,
    /// Requests a second of one token, or one user of the socket; bursts may be as large.
    pub requests_per_second: u32,
    /// Requests that may wait for the loop. One more is told to come again.
    pub waiting: usize,
    /// Facts after which a snapshot is written.
    pub snapshot_every: u64,
    /// Bytes that the journal's file may have; none for no limit but the disk's.
    pub journal_bytes: Option<u64>,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            jobs: 1_000_000,
            connections: 24_000,
            requests_per_second: 20_000,
            waiting: 16_384,
            snapshot_every: 200_000,
            journal_bytes: None,
        }
    }
}

/// Files with prices, carbon intensity and weather, as `docs/signals.md` explains them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Signals {
    /// Prices by the hour, and the zones that they are of.
    pub prices: Option<(PathBuf, PathBuf)>,
    /// Carbon intensity by the hour, and the zones that it is of.
    pub carbon: Option<(PathBuf, PathBuf)>,
    /// Wet-bulb temperatures of sites by the hour.
    pub weather: Option<PathBuf>,
}
