//! Speaks to a server: over its socket, TCP or TLS. One kept-alive connection pool, JSON both ways, and the server's own
//! words where it says no.

mod trust;

use std::path::PathBuf;
use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::stream::Stream;
use offtake_protocol::rest::Problem;
use reqwest::header::RETRY_AFTER;
use reqwest::{RequestBuilder, StatusCode};
use serde::Serialize;
use serde::de::DeserializeOwned;

pub use reqwest::{Method, Response};
pub use trust::{Fingerprint, Trust};

/// Where a server is and how it is spoken to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Server {
    /// `unix:/path/to/socket`, `http://host:port` or `https://host:port`.
    pub url: String,
    /// Proves who asks; not needed over a socket.
    pub token: Option<String>,
    /// Which certificate is the server's.
    pub trust: Trust,
}

/// Why a call gave no answer.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The server's address cannot be meant.
    #[error("`{0}` is no address of a server; give `unix:/path/to/socket`, `http://host:port` or `https://host:port`")]
    Address(String),
    /// A file with certificates cannot be used.
    #[error("cannot use the certificates in {path}: {reason}")]
    Certificates {
        /// The file.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// The server cannot be reached, or the connection broke.
    #[error("cannot reach the server at {url}: {reason}")]
    Unreachable {
        /// The server.
        url: String,
        /// The innermost cause.
        reason: String,
    },
    /// The server said no.
    #[error("{}", .0.detail)]
    Refused(Problem),
    /// The server cannot take it now, and says when to ask again.
    #[error("{}", .problem.detail)]
    Busy {
        /// What it said.
        problem: Problem,
        /// How long to wait.
        retry_after: Duration,
    },
    /// The server's answer makes no sense.
    #[error("the server's answer is not understood: {0}")]
    Answer(String),
}

impl ClientError {
    /// What the server said, if it did.
    pub const fn problem(&self) -> Option<&Problem> {
        match self {
            Self::Refused(problem) | Self::Busy { problem, .. } => Some(problem),
            _ => None,
        }
    }
}

/// A connection to a server.
#[derive(Clone, Debug)]
pub struct Client {
    http: reqwest::Client,
    server: Server,
    base: String,
}

/// Time to connect.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

impl Client {
    /// A client of a server. Connects with the first call.
    ///
    /// # Errors
    /// When the address or the certificates cannot be used.
    pub fn new(server: Server) -> Result<Self, ClientError> {
        let builder = reqwest::Client::builder()
            .no_proxy()
            .http1_only()
            .connect_timeout(CONNECT_TIMEOUT)
            .tcp_nodelay(true)
            .tls_backend_preconfigured(server.trust.configuration()?);
        let (builder, base) = match server.url.strip_prefix("unix:") {
            Some(path) => (builder.unix_socket(PathBuf::from(path)), "http://offtake".to_owned()),
            None if server.url.starts_with("http://") || server.url.starts_with("https://") => {
                (builder, server.url.trim_end_matches('/').to_owned())
            }
            None => return Err(ClientError::Address(server.url)),
        };
        let http = builder.build().map_err(|_| ClientError::Address(server.url.clone()))?;
        Ok(Self { http, server, base })
    }

    /// The server that it speaks to.
    pub const fn server(&self) -> &Server {
        &self.server
    }

    /// A request, with the token. `path` begins with `/v1`.
    pub fn request(&self, method: Method, path: &str) -> RequestBuilder {
        let request = self.http.request(method, format!("{}{path}", self.base));
        match &self.server.token {
            Some(token) => request.bearer_auth(token),
            None => request,
        }
    }

    /// Sends a request and waits for the head of the answer.
    ///
    /// # Errors
    /// When the server cannot be reached, or says no.
    pub async fn send(&self, request: RequestBuilder) -> Result<Response, ClientError> {
        let response = request.send().await.map_err(|error| self.unreachable(&error))?;
        if response.status().is_success() {
            return Ok(response);
        }
        Err(refusal(response).await)
    }

    /// Reads.
    ///
    /// # Errors
    /// As [`Client::send`], and when the answer is none.
    pub async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, ClientError> {
        let response = self.send(self.request(Method::GET, path)).await?;
        self.read(response).await
    }

    /// Writes, once: a repetition with the same key changes nothing and gets the same answer.
    ///
    /// # Errors
    /// As [`Client::get`].
    pub async fn post<T: DeserializeOwned>(
        &self,
        path: &str,
        key: Option<&str>,
        body: &impl Serialize,
    ) -> Result<T, ClientError> {
        let mut request = self.request(Method::POST, path).json(body);
        if let Some(key) = key {
            request = request.header("idempotency-key", key);
        }
        let response = self.send(request).await?;
        self.read(response).await
    }

    /// Deletes.
    ///
    /// # Errors
    /// As [`Client::send`].
    pub async fn delete(&self, path: &str) -> Result<(), ClientError> {
        self.send(self.request(Method::DELETE, path)).await.map(drop)
    }

    /// Reads an answer to its end.
    ///
    /// # Errors
    /// When the connection breaks, or it is not what was expected.
    pub async fn read<T: DeserializeOwned>(&self, response: Response) -> Result<T, ClientError> {
        let body = response.bytes().await.map_err(|error| self.unreachable(&error))?;
        serde_json::from_slice(&body).map_err(|error| ClientError::Answer(error.to_string()))
    }

    /// An answer line by line, as it comes.
    pub fn lines(&self, response: Response) -> impl Stream<Item = Result<Bytes, ClientError>> + use<> {
        let client = self.clone();
        let state = (Box::pin(response.bytes_stream()), Vec::new(), false);
        futures_util::stream::unfold(state, move |(mut body, mut rest, mut ended)| {
            let client = client.clone();
            async move {
                loop {
                    if let Some(end) = rest.iter().position(|byte| *byte == b'\n') {
                        let mut line: Vec<u8> = rest.drain(..=end).collect();
                        line.pop();
                        return Some((Ok(Bytes::from(line)), (body, rest, ended)));
                    }
                    if ended {
                        let last = std::mem::take(&mut rest);
                        return (!last.is_empty()).then(|| (Ok(Bytes::from(last)), (body, rest, ended)));
                    }
                    match body.next().await {
                        Some(Ok(piece)) => rest.extend_from_slice(&piece),
                        Some(Err(error)) => {
                            rest.clear();
                            ended = true;
                            return Some((Err(client.unreachable(&error)), (body, rest, ended)));
                        }
                        None => ended = true,
                    }
                }
            }
        })
    }

    fn unreachable(&self, error: &reqwest::Error) -> ClientError {
        let mut innermost: &dyn std::error::Error = error;
        while let Some(source) = innermost.source() {
            innermost = source;
        }
        ClientError::Unreachable { url: self.server.url.clone(), reason: innermost.to_string() }
    }
}

/// What the server said, or as much as can be told of an answer that none of our servers gives.
async fn refusal(response: Response) -> ClientError {
    let status = response.status();
    let retry_after = retry_after(&response);
    let body = response.bytes().await.unwrap_or_default();
    let problem = serde_json::from_slice(&body).unwrap_or_else(|_| other_problem(status, &body));
    match retry_after {
        Some(retry_after) => ClientError::Busy { problem, retry_after },
        None => ClientError::Refused(problem),
    }
}

/// When to ask again, where the server cannot take it now: in seconds.
fn retry_after(response: &Response) -> Option<Duration> {
    let is_busy = matches!(response.status(), StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE);
    let seconds = response.headers().get(RETRY_AFTER)?.to_str().ok()?.trim().parse().ok()?;
    is_busy.then(|| Duration::from_secs(seconds))
}

fn other_problem(status: StatusCode, body: &[u8]) -> Problem {
    let text: String = String::from_utf8_lossy(body).chars().take(200).collect();
    Problem {
        status: status.as_u16(),
        code: "http".to_owned(),
        detail: format!("the server answered {status}: {text}"),
        field: None,
        index: None,
    }
}
