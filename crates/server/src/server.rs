//! What the handlers of requests have in common.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Semaphore, watch};

use crate::estimates::Estimates;
use crate::identity::Rates;
use crate::log_relay::LogRelay;
use crate::run_loop::{Handle, Shared};

/// What the handlers of requests have in common.
#[derive(Debug)]
pub(crate) struct Server {
    pub(crate) handle: Handle,
    pub(crate) shared: Arc<Shared>,
    pub(crate) rates: Rates,
    pub(crate) logs: LogRelay,
    /// KiB that bodies of requests may still take.
    pub(crate) bodies: Arc<Semaphore>,
    pub(crate) what_ifs: Semaphore,
    pub(crate) estimates: Estimates,
    pub(crate) stop: watch::Receiver<bool>,
    pub(crate) metrics_open: bool,
    /// Of the certificate, where it is the server's own.
    pub(crate) fingerprint: Option<String>,
    pub(crate) journal: std::path::PathBuf,
    /// How long an agent may go on without hearing from the server.
    pub(crate) lease: Duration,
    /// The OpenAPI document, as it is sent.
    pub(crate) openapi: axum::body::Bytes,
}

/// What the handlers are given.
pub(crate) type App = axum::extract::State<Arc<Server>>;

/// What-ifs at one time; each takes a processor for seconds.
pub(crate) const MOST_WHAT_IFS: usize = 2;

impl Server {
    /// Returns when the server is to stop.
    pub(crate) async fn stopped(&self) {
        let mut stop = self.stop.clone();
        // Without a sender there is nobody left who could stop it but the end itself.
        let _ = stop.wait_for(|stop| *stop).await;
    }
}
