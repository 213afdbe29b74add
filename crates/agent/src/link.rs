//! Signed requests to the server.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use offtake_client::{Client, ClientError};
use offtake_protocol::agent::{NODE_HEADER, SIGNATURE_HEADER, TIME_HEADER};
use reqwest::Method;

use crate::identity::Identity;

/// The most of an answer, in bytes: orders with the batch scripts of all tasks of a node.
const MOST_ANSWER: usize = 64 << 20;

/// A way to the server, as one of its nodes.
#[derive(Debug)]
pub(crate) struct Link {
    pub client: Client,
    pub identity: Identity,
    /// The node's name.
    pub node: String,
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LinkError {
    #[error("{0}")]
    Unreachable(String),
    #[error("{detail}")]
    Refused { status: u16, detail: String },
    #[error("{0}")]
    Answer(String),
}

impl From<ClientError> for LinkError {
    fn from(error: ClientError) -> Self {
        match error {
            ClientError::Refused(problem) => Self::Refused { status: problem.status, detail: problem.detail },
            ClientError::Answer(reason) => Self::Answer(reason),
            other => Self::Unreachable(other.to_string()),
        }
    }
}

impl Link {
    /// Sends a body, signed, and gives the answer's.
    pub async fn post(&self, path: &str, body: &[u8], limit: Duration) -> Result<Vec<u8>, LinkError> {
        let time_ms = unix_now_ms();
        let request = self
            .client
            .request(Method::POST, path)
            .header(NODE_HEADER, &self.node)
            .header(TIME_HEADER, time_ms)
            .header(SIGNATURE_HEADER, self.identity.sign("POST", path, time_ms, body))
            .header("content-type", "application/json")
            .timeout(limit)
            .body(body.to_vec());
        let mut response = self.client.send(request).await?;
        let mut answer = Vec::new();
        while let Some(piece) = response.chunk().await.map_err(|error| LinkError::Unreachable(error.to_string()))? {
            if answer.len() + piece.len() > MOST_ANSWER {
                return Err(LinkError::Answer(format!("it is longer than {} MiB", MOST_ANSWER >> 20)));
            }
            answer.extend_from_slice(&piece);
        }
        Ok(answer)
    }
}

/// The node's wall clock, in milliseconds since 1970.
pub(crate) fn unix_now_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}
