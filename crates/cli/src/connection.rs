//! A command's calls to the server: patient where the server is away for a moment, and the same write never twice.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::Stream;
use offtake_client::{Client, ClientError, Method, Server};
use offtake_protocol::rest::{JobPage, JobQuery, JobView};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::context::{Choice, Surroundings};
use crate::identity::JobName;
use crate::terminal::{BadInput, Waiting};

/// How long a call is repeated while the server cannot be reached or is busy. A server that was killed is back well
/// within it.
const PATIENCE: Duration = Duration::from_secs(30);
/// The same for a question to a server that has never answered this command: most likely there is none.
const PATIENCE_AT_FIRST: Duration = Duration::from_secs(1);
/// The pause before the first repetition; each later one is twice as long, up to [`LONGEST_PAUSE`].
const FIRST_PAUSE: Duration = Duration::from_millis(20);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// A connection to the server that was chosen.
#[derive(Clone, Debug)]
pub struct Connection {
    client: Client,
    /// Whether the server has answered before.
    met: Arc<AtomicBool>,
}

impl Connection {
    /// To the server of a choice.
    ///
    /// # Errors
    /// When there is none.
    pub fn open(choice: &Choice) -> anyhow::Result<Self> {
        Self::to(Surroundings::of_process().find(choice)?)
    }

    /// To a server.
    ///
    /// # Errors
    /// When its address cannot be meant.
    pub fn to(server: Server) -> anyhow::Result<Self> {
        Ok(Self { client: Client::new(server)?, met: Arc::default() })
    }

    /// Reads.
    pub async fn get<T: DeserializeOwned>(&self, path: &str) -> anyhow::Result<T> {
        self.patiently(self.patience(), async || self.client.get(path).await).await
    }

    /// Writes once, however often the call must be repeated.
    pub async fn post<T: DeserializeOwned>(&self, path: &str, body: &impl Serialize) -> anyhow::Result<T> {
        let key = idempotency_key()?;
        self.patiently(PATIENCE, async || self.client.post(path, Some(&key), body).await).await
    }

    /// Puts something in its place, once.
    pub async fn put<T: DeserializeOwned>(&self, path: &str, body: &impl Serialize) -> anyhow::Result<T> {
        let key = idempotency_key()?;
        self.patiently(PATIENCE, async || {
            let request = self.client.request(Method::PUT, path).header("idempotency-key", &key).json(body);
            let answer = self.client.send(request).await?;
            self.client.read(answer).await
        })
        .await
    }

    /// Writes once, and asks for no more than that it was done.
    pub async fn order(&self, path: &str, body: &impl Serialize) -> anyhow::Result<()> {
        let key = idempotency_key()?;
        self.patiently(PATIENCE, async || {
            let request = self.client.request(Method::POST, path).header("idempotency-key", &key).json(body);
            self.client.send(request).await.map(drop)
        })
        .await
    }

    /// Deletes; what is already gone is as good.
    pub async fn delete(&self, path: &str) -> anyhow::Result<()> {
        self.patiently(PATIENCE, async || self.client.delete(path).await).await
    }

    /// An answer line by line, as it comes.
    pub async fn lines(&self, path: &str) -> anyhow::Result<impl Stream<Item = Result<Bytes, ClientError>> + use<>> {
        let response = self
            .patiently(self.patience(), async || self.client.send(self.client.request(Method::GET, path)).await)
            .await?;
        Ok(self.client.lines(response))
    }

    fn patience(&self) -> Duration {
        if self.met.load(Relaxed) { PATIENCE } else { PATIENCE_AT_FIRST }
    }

    /// Repeats a call while the server cannot be reached or is busy.
    async fn patiently<T>(
        &self,
        patience: Duration,
        call: impl AsyncFn() -> Result<T, ClientError>,
    ) -> anyhow::Result<T> {
        let begun = Instant::now();
        let _waiting = Waiting::for_(format!("waiting for the server at {}", self.client.server().url));
        let mut pause = FIRST_PAUSE;
        loop {
            let error = match call().await {
                Ok(answer) => {
                    self.met.store(true, Relaxed);
                    return Ok(answer);
                }
                Err(error) => error,
            };
            let (wait, limit) = match &error {
                ClientError::Unreachable { .. } => (pause, patience),
                ClientError::Busy { retry_after, .. } => (*retry_after, PATIENCE),
                _ => return Err(error.into()),
            };
            if begun.elapsed() + wait > limit {
                let is_here = self.client.server().url.starts_with("unix:");
                let is_gone = matches!(error, ClientError::Unreachable { .. });
                let error = anyhow::Error::from(error);
                let hint = "no server answers; 'offtake up' starts one";
                return Err(if is_here && is_gone { error.context(hint) } else { error });
            }
            tokio::time::sleep(wait).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    /// All jobs of a query, the youngest first; at most `limit`.
    pub async fn jobs(&self, mut query: JobQuery, limit: usize) -> anyhow::Result<Vec<JobView>> {
        const PAGE: usize = 1000;
        let mut jobs: Vec<JobView> = Vec::new();
        loop {
            let page = PAGE.min(limit - jobs.len());
            query.limit = u32::try_from(page).ok();
            let page: JobPage = self.get(&with_query("/v1/jobs", &query)).await?;
            let ended = page.jobs.is_empty();
            jobs.extend(page.jobs);
            query.before = page.next;
            if ended || query.before.is_none() || jobs.len() >= limit {
                jobs.truncate(limit);
                return Ok(jobs);
            }
        }
    }

    /// The identity of a job.
    pub async fn identity(&self, name: JobName) -> anyhow::Result<u64> {
        match name {
            JobName::Job(id) => Ok(id),
            JobName::Index { array, index } => {
                let jobs = self.array(array).await?;
                let found = jobs.iter().find(|job| job.array.is_some_and(|place| place.index == index));
                let no_such = || BadInput(format!("there is no job {name}: 'offtake jobs --all' lists what there is"));
                Ok(found.ok_or_else(no_such)?.id)
            }
        }
    }

    /// The identities that a name means to a command that takes several jobs: of an array, all that are not over.
    pub async fn identities(&self, name: JobName) -> anyhow::Result<Vec<u64>> {
        let JobName::Job(id) = name else {
            return Ok(vec![self.identity(name).await?]);
        };
        let mut jobs = self.array(id).await?;
        if jobs.is_empty() {
            return Ok(vec![id]);
        }
        jobs.retain(|job| !job.state.is_over());
        Ok(jobs.iter().rev().map(|job| job.id).collect())
    }

    async fn array(&self, array: u64) -> anyhow::Result<Vec<JobView>> {
        let query = JobQuery { array: Some(array), all: Some(true), ..JobQuery::default() };
        self.jobs(query, usize::MAX).await
    }
}

/// Runs a command's calls, on this thread.
///
/// # Errors
/// When the system gives no event loop, and those of the calls.
pub fn block_on<T>(calls: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(calls)
}

/// A path with its query: the fields that are set.
pub fn with_query(path: &str, query: &impl Serialize) -> String {
    let fields = serde_json::to_value(query).unwrap_or_default();
    let mut text = path.to_owned();
    let mut separator = '?';
    for (name, value) in fields.as_object().into_iter().flatten() {
        let value = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        text.push_str(&format!("{separator}{name}={}", segment(&value)));
        separator = '&';
    }
    text
}

/// A text as a part of a path or of a query.
pub fn segment(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            escaped.push(char::from(byte));
        } else {
            escaped.push_str(&format!("%{byte:02X}"));
        }
    }
    escaped
}

/// A key that no other write has: 122 random bits of the system.
fn idempotency_key() -> anyhow::Result<String> {
    use anyhow::Context;
    let key = std::fs::read_to_string("/proc/sys/kernel/random/uuid").context("the system gives no random numbers")?;
    Ok(key.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn queries_say_what_is_set() {
        assert_eq!(with_query("/v1/jobs", &JobQuery::default()), "/v1/jobs");
        let query = JobQuery { name: Some("a b&c=ü".to_owned()), all: Some(true), ..JobQuery::default() };
        assert_eq!(with_query("/v1/jobs", &query), "/v1/jobs?all=true&name=a%20b%26c%3D%C3%BC");
        assert_eq!(segment("../x"), "..%2Fx");
    }

    #[test]
    fn keys_differ() {
        let [one, other] =
            [idempotency_key(), idempotency_key()].map(|key| key.expect("the system has random numbers"));
        assert!(one.len() == 36 && one != other);
    }
}
