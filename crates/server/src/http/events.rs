//! Facts as a stream: those on disk, then those that come, without a gap between.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::Response;
use offtake_engine::Event as EngineEvent;
use offtake_journal::{Check, Reader};
use offtake_protocol::rest::Problem;
use serde::Deserialize;
use tokio::sync::{broadcast, mpsc};

use super::caller::Asker;
use super::openapi::Problems;
use super::query::Asked;
use crate::core::{Access, Caller};
use crate::fact::{Event, Fact};
use crate::problem::{Refused, problem};
use crate::run_loop::Published;
use crate::server::{App, Server};

/// Between two comments that keep a silent connection open.
const KEEP_ALIVE: Duration = Duration::from_secs(15);

/// Pieces between the stream and the connection.
const PIECES: usize = 16;

/// Jobs whose tenants a stream remembers.
const MOST_TENANTS: usize = 100_000;

/// The query of the stream of facts.
#[derive(Debug, Default, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct EventQuery {
    /// The sequence of the last fact that is known already; 0, for all, when left out. The header `Last-Event-ID` counts
    /// before it.
    #[serde(default)]
    after: Option<u64>,
}

/// Streams facts as server-sent events: `id` is the sequence, `data` the fact as the journal has it.
///
/// A member of a tenant sees those about jobs of the tenant only.
#[utoipa::path(
    get, path = "/v1/events", tag = "events", operation_id = "events",
    params(EventQuery, ("Last-Event-ID" = Option<u64>, Header, description = "As `after`; sent by clients that come again.")),
    responses(
        (status = 200, description = "The stream; it does not end.", body = String, content_type = "text/event-stream"),
        Problems
    )
)]
pub(super) async fn follow(
    State(server): App,
    asker: Asker,
    Asked(query): Asked<EventQuery>,
    headers: HeaderMap,
) -> Result<Response, Refused> {
    let after = match headers.get("last-event-id") {
        None => query.after.unwrap_or(0),
        Some(given) => given.to_str().ok().and_then(|text| text.parse().ok()).ok_or_else(|| {
            let field = Some("Last-Event-ID".to_owned());
            let detail = "the header Last-Event-ID is the sequence of a fact, a number";
            Problem { field, ..problem(StatusCode::BAD_REQUEST, "invalid_header", detail) }
        })?,
    };
    let (pieces, mut connection) = mpsc::channel(PIECES);
    let stream = Stream {
        live: server.shared.events.subscribe(),
        server,
        caller: asker.0,
        last: after,
        tenants: HashMap::new(),
        pieces,
    };
    tokio::spawn(stream.run());
    let body = futures_util::stream::poll_fn(move |context| {
        connection.poll_recv(context).map(|piece| piece.map(Ok::<_, std::convert::Infallible>))
    });
    let mut response = Response::new(Body::from_stream(body));
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    Ok(response)
}

struct Stream {
    server: Arc<Server>,
    caller: Arc<Caller>,
    live: broadcast::Receiver<Arc<[Published]>>,
    /// The last fact that was sent, or passed over because the caller may not see it.
    last: u64,
    /// Tenants of jobs, as far as the stream has come across them.
    tenants: HashMap<u64, Option<Arc<str>>>,
    pieces: mpsc::Sender<Bytes>,
}

/// The stream is over: whoever read it is gone, or the journal cannot be read.
struct Over;

impl Stream {
    async fn run(mut self) {
        let server = Arc::clone(&self.server);
        tokio::select! {
            _ = self.follow() => {}
            () = server.stopped() => {}
        }
    }

    async fn follow(&mut self) -> Result<(), Over> {
        // Something at once, so that whoever asks knows that the stream has begun.
        self.send(b": facts follow\n\n".to_vec()).await?;
        loop {
            self.catch_up().await?;
            self.follow_live().await?;
        }
    }

    /// Sends what is on disk.
    async fn catch_up(&mut self) -> Result<(), Over> {
        while self.last < self.server.shared.sequence() {
            let (folder, from, until) = (self.server.journal.clone(), self.last + 1, self.server.shared.sequence());
            let chunk = tokio::task::spawn_blocking(move || {
                let reader = Reader::open(&folder)?;
                let mut reading = reader.read(from, Check::Checksum).until(until);
                reading.next_chunk()
            });
            let chunk = match chunk.await {
                Ok(Ok(Some(chunk))) => chunk,
                Ok(Ok(None)) => return Ok(()),
                Ok(Err(error)) => {
                    tracing::error!(%error, "the stream of facts ends: the journal cannot be read");
                    return Err(Over);
                }
                Err(_) => return Err(Over),
            };
            let mut text = Vec::new();
            for (sequence, record) in chunk.iter() {
                if self.sees_record(record).await? {
                    self.write(&mut text, sequence, record);
                }
            }
            self.last = chunk.next_sequence() - 1;
            self.send(text).await?;
        }
        Ok(())
    }

    /// Sends what comes, as long as none is missing between.
    async fn follow_live(&mut self) -> Result<(), Over> {
        loop {
            let received = tokio::time::timeout(KEEP_ALIVE, self.live.recv()).await;
            let facts = match received {
                Err(_) => {
                    self.send(b":\n\n".to_vec()).await?;
                    continue;
                }
                Ok(Ok(facts)) => facts,
                Ok(Err(broadcast::error::RecvError::Lagged(_))) => return Ok(()),
                Ok(Err(broadcast::error::RecvError::Closed)) => return Err(Over),
            };
            let mut text = Vec::new();
            for fact in facts.iter() {
                if fact.sequence <= self.last {
                    continue;
                }
                if fact.sequence != self.last + 1 {
                    self.send(text).await?;
                    return Ok(());
                }
                if self.sees(fact.tenant.as_deref()) {
                    self.write(&mut text, fact.sequence, &fact.record);
                }
                self.last = fact.sequence;
            }
            self.send(text).await?;
        }
    }

    /// A reader learns what happens, not what was given to the jobs of others: that may hold their secrets.
    fn write(&self, text: &mut Vec<u8>, sequence: u64, record: &[u8]) {
        if self.caller.access == Access::Reader {
            write_event(text, sequence, &without_programs(record));
        } else {
            write_event(text, sequence, record);
        }
    }

    fn sees(&self, tenant: Option<&str>) -> bool {
        self.caller.only_tenant().is_none_or(|only| tenant == Some(only))
    }

    async fn sees_record(&mut self, record: &[u8]) -> Result<bool, Over> {
        if self.caller.only_tenant().is_none() {
            return Ok(true);
        }
        let Ok(fact) = serde_json::from_slice::<Fact>(record) else { return Ok(false) };
        let Some(job) = fact.event.job() else { return Ok(false) };
        if self.tenants.len() >= MOST_TENANTS {
            self.tenants.clear();
        }
        if let Event::Engine(EngineEvent::JobSubmitted { spec, .. }) = &fact.event {
            self.tenants.insert(job, Some(spec.tenant.as_str().into()));
        }
        if !self.tenants.contains_key(&job) {
            let tenant = self.tenant_of(job).await?;
            self.tenants.insert(job, tenant);
        }
        Ok(self.sees(self.tenants.get(&job).and_then(Option::as_deref)))
    }

    async fn tenant_of(&self, job: u64) -> Result<Option<Arc<str>>, Over> {
        let live = self.server.handle.ask(move |core| core.tenant_of(job)).await.map_err(|_| Over)?;
        if let Some(tenant) = live {
            return Ok(Some(tenant.into()));
        }
        let past = self.server.shared.history.job(job).await.map_err(|_| Over)?;
        Ok(past.map(|detail| detail.job.tenant.into()))
    }

    async fn send(&self, text: Vec<u8>) -> Result<(), Over> {
        if text.is_empty() {
            return Ok(());
        }
        self.pieces.send(text.into()).await.map_err(|_| Over)
    }
}

/// A fact without what a job runs and in which environment.
fn without_programs(record: &[u8]) -> Vec<u8> {
    let Ok(mut fact) = serde_json::from_slice::<serde_json::Value>(record) else { return b"{}".to_vec() };
    for submitted in ["job_submitted", "service_submitted"] {
        let Some(program) = fact.pointer_mut(&format!("/event/engine/{submitted}/spec/program")) else { continue };
        *program = serde_json::Value::Null;
    }
    if let Some(request) = fact.pointer_mut("/event/step_asked/request") {
        *request = serde_json::Value::Null;
    }
    fact.to_string().into_bytes()
}

/// A fact is JSON on one line, as the format wants it.
fn write_event(text: &mut Vec<u8>, sequence: u64, record: &[u8]) {
    text.extend_from_slice(format!("id: {sequence}\ndata: ").as_bytes());
    text.extend_from_slice(record);
    text.extend_from_slice(b"\n\n");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reader_learns_of_a_job_but_not_what_was_given_to_it() {
        let record = br#"{"at":1,"event":{"engine":{"job_submitted":{"job":7,"spec":{"name":"a","program":{"environment":{"KEY":"secret"}}}}}}}"#;
        let told = String::from_utf8(without_programs(record)).expect("JSON");
        assert!(told.contains("\"job\":7") && !told.contains("secret"), "{told}");
        let other = br#"{"at":1,"event":{"engine":{"job_started":{"job":7}}}}"#;
        assert_eq!(without_programs(other), other);
    }
}
