//! Speaks to a VTN: its programmes, events and reports over HTTP, with a token by OAuth 2.0 client credentials.
//!
//! Everything that comes back is bounded, in bytes, pages and time.

use std::collections::BTreeSet;
use std::fmt;
use std::time::Duration;

use reqwest::{Method, RequestBuilder, Response};
use serde_json::Value;

/// A whole call.
const TIMEOUT: Duration = Duration::from_secs(20);
/// Bytes of one answer.
const MOST_BYTES: usize = 4 << 20;
/// Objects of one page; OpenADR allows no more.
const PAGE: usize = 50;
/// Pages of one list.
const MOST_PAGES: usize = 40;
/// Characters of an answer that an error repeats.
const MOST_SAID: usize = 200;

/// Who asks a VTN.
#[derive(Clone)]
pub struct Credentials {
    /// The client that the VTN's authorisation server knows.
    pub client: String,
    /// Its secret.
    pub secret: String,
    /// Where tokens are given; `/auth/token` of the VTN when nothing is said.
    pub token_url: Option<String>,
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credentials")
            .field("client", &self.client)
            .field("token_url", &self.token_url)
            .finish_non_exhaustive()
    }
}

/// Why a VTN gave no answer that can be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Trouble {
    /// It cannot be reached, or the connection broke.
    #[error("{url} cannot be reached: {reason}")]
    Unreachable {
        /// The address.
        url: String,
        /// The innermost cause.
        reason: String,
    },
    /// It says no.
    #[error("{url} says {status}: {said}")]
    Refused {
        /// The address.
        url: String,
        /// The status.
        status: u16,
        /// The beginning of what it said.
        said: String,
    },
    /// What it says makes no sense.
    #[error("what {url} says is not understood: {reason}")]
    Garbage {
        /// The address.
        url: String,
        /// Why.
        reason: String,
    },
    /// No token is given, so nothing was asked of the VTN itself.
    #[error("no token is given: {reason}")]
    NoToken {
        /// Why.
        reason: String,
    },
    /// It has no programme of this name, for this client.
    #[error("it has no programme `{name}` for this client; it has {known}")]
    NoProgram {
        /// What was asked for.
        name: String,
        /// What there is.
        known: String,
    },
}

impl Trouble {
    /// Whether asking again would give the same answer. Credentials may be mended at the VTN, so 401 is not final, and
    /// neither is anything that the giver of tokens says.
    pub const fn is_final(&self) -> bool {
        matches!(self, Self::Refused { status: 400 | 402..=407 | 409..=428, .. })
    }
}

/// A connection to a VTN.
#[derive(Debug)]
pub struct Client {
    http: reqwest::Client,
    base: String,
    credentials: Credentials,
    token: Option<String>,
}

impl Client {
    /// A client of the VTN at `base`, through `http`, which says whom to trust and follows no redirection.
    pub fn new(http: reqwest::Client, base: &str, credentials: Credentials) -> Self {
        Self { http, base: base.trim_end_matches('/').to_owned(), credentials, token: None }
    }

    /// The identity of a programme.
    ///
    /// # Errors
    /// When the VTN does not answer, or has none of that name.
    pub async fn program(&mut self, name: &str) -> Result<String, Trouble> {
        let programs = self.list("/programs", &[]).await?;
        let field = |program: &Value, field: &str| program.get(field).and_then(Value::as_str).map(str::to_owned);
        let found = programs.iter().find(|program| field(program, "programName").as_deref() == Some(name));
        found.and_then(|program| field(program, "id")).ok_or_else(|| {
            let names: Vec<String> =
                programs.iter().filter_map(|program| field(program, "programName")).take(10).collect();
            let known = if names.is_empty() { "none".to_owned() } else { names.join(", ") };
            Trouble::NoProgram { name: name.to_owned(), known }
        })
    }

    /// The events of a programme, as they are; [`crate::listing`] reads them.
    ///
    /// # Errors
    /// When the VTN does not answer, or with something else than a list.
    pub async fn events(&mut self, program: &str) -> Result<Vec<Value>, Trouble> {
        self.list("/events", &[("programID", program)]).await
    }

    /// Whether the VTN says that there is no such event.
    ///
    /// # Errors
    /// When the VTN does not answer.
    pub async fn is_gone(&mut self, event: &str) -> Result<bool, Trouble> {
        match self.call(Method::GET, &format!("/events/{event}"), &[], None).await {
            Ok(_) => Ok(false),
            Err(Trouble::Refused { status: 404 | 410, .. }) => Ok(true),
            Err(trouble) => Err(trouble),
        }
    }

    /// Sends a report.
    ///
    /// # Errors
    /// When the VTN does not answer, or does not take it.
    pub async fn report(&mut self, body: &Value) -> Result<(), Trouble> {
        let answer = self.call(Method::POST, "/reports", &[], Some(body)).await;
        // It has taken it; what it says of it is of no use here.
        if matches!(answer, Err(Trouble::Garbage { .. })) { Ok(()) } else { answer.map(drop) }
    }

    async fn list(&mut self, path: &str, query: &[(&str, &str)]) -> Result<Vec<Value>, Trouble> {
        let mut all = Vec::new();
        let mut known = BTreeSet::new();
        // One more page than may be full: it says whether that was all.
        for page in 0..=MOST_PAGES {
            let (skip, limit) = ((page * PAGE).to_string(), PAGE.to_string());
            let query: Vec<(&str, &str)> =
                query.iter().copied().chain([("skip", skip.as_str()), ("limit", &limit)]).collect();
            let Value::Array(items) = self.call(Method::GET, path, &query, None).await? else {
                return Err(self.garbage(path, "it is no list"));
            };
            if items.len() > PAGE {
                return Err(
                    self.garbage(path, &format!("a page has {} objects; at most {PAGE} were asked for", items.len()))
                );
            }
            let is_last = items.len() < PAGE;
            // Pages overlap by a few where something was added meanwhile. Where all is known, `skip` is not honoured.
            let ids: Vec<String> = items.iter().filter_map(|item| item.get("id")).map(Value::to_string).collect();
            let is_repeated = !items.is_empty() && ids.len() == items.len() && ids.iter().all(|id| known.contains(id));
            if is_repeated {
                return Err(self.garbage(path, &format!("page {} repeats objects of the pages before it", page + 1)));
            }
            known.extend(ids);
            all.extend(items);
            if all.len() > MOST_PAGES * PAGE {
                break;
            }
            if is_last {
                return Ok(all);
            }
        }
        Err(self.garbage(path, &format!("it lists more than {} objects", MOST_PAGES * PAGE)))
    }

    /// Calls once, and once more with a new token where the old one may no longer be good.
    async fn call(
        &mut self,
        method: Method,
        path: &str,
        query: &[(&str, &str)],
        body: Option<&Value>,
    ) -> Result<Value, Trouble> {
        let url = format!("{}{path}", self.base);
        loop {
            let (token, is_new) = match self.token.take() {
                Some(token) => (token, false),
                None => (self.new_token().await?, true),
            };
            let mut request = self.http.request(method.clone(), &url).query(query).bearer_auth(&token);
            if let Some(body) = body {
                request = request.json(body);
            }
            let answer = send(&url, request).await;
            // A token that has run out is 401; there are VTNs that say 403.
            let is_refused = matches!(answer, Err(Trouble::Refused { status: 401 | 403, .. }));
            if !is_refused {
                self.token = Some(token);
            }
            if !is_refused || is_new {
                return answer;
            }
        }
    }

    async fn new_token(&self) -> Result<String, Trouble> {
        let url = self.credentials.token_url.clone().unwrap_or_else(|| format!("{}/auth/token", self.base));
        let form = [
            ("grant_type", "client_credentials"),
            ("client_id", self.credentials.client.as_str()),
            ("client_secret", self.credentials.secret.as_str()),
        ];
        let answer = send(&url, self.http.post(&url).form(&form)).await;
        // A refusal here says nothing about what the token was for, such as a report.
        let answer = answer.map_err(|trouble| match trouble {
            Trouble::Unreachable { .. } => trouble,
            _ => Trouble::NoToken { reason: trouble.to_string() },
        })?;
        let token = answer.get("access_token").and_then(Value::as_str).filter(|token| !token.is_empty());
        token
            .map(str::to_owned)
            .ok_or_else(|| Trouble::NoToken { reason: format!("{url} answers without `access_token`") })
    }

    fn garbage(&self, path: &str, reason: &str) -> Trouble {
        Trouble::Garbage { url: format!("{}{path}", self.base), reason: reason.to_owned() }
    }
}

async fn send(url: &str, request: RequestBuilder) -> Result<Value, Trouble> {
    let unreachable = |error: reqwest::Error| {
        let mut innermost: &dyn std::error::Error = &error;
        while let Some(source) = innermost.source() {
            innermost = source;
        }
        Trouble::Unreachable { url: url.to_owned(), reason: innermost.to_string() }
    };
    let response = request.timeout(TIMEOUT).send().await.map_err(unreachable)?;
    let status = response.status();
    let body = read(response).await.map_err(unreachable)?;
    if !status.is_success() {
        return Err(Trouble::Refused { url: url.to_owned(), status: status.as_u16(), said: problem(&body) });
    }
    if body.len() > MOST_BYTES {
        let reason = format!("it is longer than {MOST_BYTES} bytes");
        return Err(Trouble::Garbage { url: url.to_owned(), reason });
    }
    serde_json::from_slice(&body).map_err(|error| Trouble::Garbage { url: url.to_owned(), reason: error.to_string() })
}

/// What a refusal says. The rest of it may differ each time, such as an identity of the occurrence.
fn problem(body: &[u8]) -> String {
    let problem: Value = serde_json::from_slice(body).unwrap_or_default();
    let detail =
        ["detail", "error_description", "title", "error"].iter().find_map(|field| problem.get(field)?.as_str());
    let said = detail.map_or_else(|| String::from_utf8_lossy(body), Into::into);
    said.chars().take(MOST_SAID).collect()
}

/// Reads a body until it is over, or longer than it may be.
async fn read(mut response: Response) -> Result<Vec<u8>, reqwest::Error> {
    let mut body = Vec::new();
    while let Some(piece) = response.chunk().await? {
        body.extend_from_slice(&piece);
        if body.len() > MOST_BYTES {
            break;
        }
    }
    Ok(body)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_the_vtn_itself_says_of_a_request_is_final() {
        let refused = |status| Trouble::Refused { url: String::new(), status, said: String::new() };
        for (status, is_final) in
            [(400, true), (401, false), (403, true), (404, true), (408, false), (409, true), (429, false), (500, false)]
        {
            assert_eq!(refused(status).is_final(), is_final, "{status}");
        }
        assert!(!Trouble::NoToken { reason: refused(400).to_string() }.is_final());
    }
}
