//! Requests that a node's agent has signed.
//!
//! A request that someone has seen and sends again does no harm, so there is no nonce: a report counts only if its
//! session and version are newer than the last, and pieces of output go to a request that somebody waits for, under
//! their place in the stream. Requests older than five minutes are refused all the same.

use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::signature::{ED25519, UnparsedPublicKey};
use axum::http::{HeaderMap, Method, StatusCode};
use offtake_protocol::agent::{NODE_HEADER, SIGNATURE_HEADER, TIME_HEADER, signed_text};
use offtake_protocol::rest::Problem;

use super::remembered::Remembered;
use crate::clock::wall;
use crate::problem::problem;
use crate::run_loop::Handle;
use crate::secrets::{sha256_hex, unhex};

/// Public keys of the nodes' agents.
#[derive(Debug)]
pub(crate) struct Agents {
    keys: Remembered<String, Arc<[u8; 32]>>,
}

/// What the headers of a signed request say.
#[derive(Debug)]
pub(crate) struct Signed {
    node: String,
    time_ms: i64,
    signature: [u8; 64],
}

/// How far the time of signing may be from the server's.
const FRESH_MS: u64 = 5 * 60 * 1000;

/// Longer than any node's name.
const LONGEST_NAME: usize = 1024;

impl Signed {
    /// # Errors
    /// When they are missing, or no such headers.
    pub(crate) fn of(headers: &HeaderMap) -> Result<Self, Problem> {
        let text = |name| headers.get(name).and_then(|value| value.to_str().ok());
        let node = text(NODE_HEADER).filter(|node| !node.is_empty() && node.len() <= LONGEST_NAME);
        let time_ms: Option<i64> = text(TIME_HEADER).and_then(|time| time.parse().ok());
        let signature = text(SIGNATURE_HEADER).and_then(unhex);
        let (Some(node), Some(time_ms), Some(signature)) = (node, time_ms, signature) else {
            let detail =
                format!("an agent's request needs the headers {NODE_HEADER}, {TIME_HEADER} and {SIGNATURE_HEADER}");
            return Err(problem(StatusCode::UNAUTHORIZED, "not_signed", detail));
        };
        let apart = wall().as_millis().abs_diff(time_ms);
        if apart > FRESH_MS {
            let detail = format!(
                "the request was signed {} s from the server's time; set the clocks of both machines",
                apart / 1000
            );
            return Err(problem(StatusCode::UNAUTHORIZED, "stale_signature", detail));
        }
        Ok(Self { node: node.to_owned(), time_ms, signature })
    }
}

impl Agents {
    pub(crate) fn new() -> Self {
        Self { keys: Remembered::new(Duration::from_secs(3600), 100_000) }
    }

    /// A node may have another key now.
    pub(crate) fn forget(&self, node: &str) {
        self.keys.forget_one(node);
    }

    /// No key is known to be right any more.
    pub(crate) fn forget_all(&self) {
        self.keys.forget();
    }

    /// The node whose agent has signed this.
    ///
    /// # Errors
    /// When it has not, or the core cannot be asked.
    pub(crate) async fn signer(
        &self,
        handle: &Handle,
        signed: Signed,
        method: &Method,
        path: &str,
        body: &[u8],
    ) -> Result<String, Problem> {
        let key = self.key(handle, &signed.node).await?;
        let text = signed_text(method.as_str(), path, signed.time_ms, &sha256_hex(body));
        let verified = UnparsedPublicKey::new(&ED25519, key.as_ref()).verify(&text, &signed.signature);
        // Whether the node is not known or the key is another one is nobody's business.
        verified.map_err(|_| unknown_agent(&signed.node))?;
        Ok(signed.node)
    }

    async fn key(&self, handle: &Handle, node: &str) -> Result<Arc<[u8; 32]>, Problem> {
        let edition = match self.keys.get(node) {
            Ok(key) => return Ok(key),
            Err(edition) => edition,
        };
        let asked = node.to_owned();
        let found = handle.ask(move |core| core.agent_key(&asked)).await?;
        let key = Arc::new(found.as_deref().and_then(unhex).ok_or_else(|| unknown_agent(node))?);
        self.keys.put(node.to_owned(), Arc::clone(&key), edition);
        Ok(key)
    }
}

fn unknown_agent(node: &str) -> Problem {
    let detail = format!("the server knows no agent of node `{node}` with this key; let the node join anew");
    problem(StatusCode::UNAUTHORIZED, "unknown_agent", detail)
}
