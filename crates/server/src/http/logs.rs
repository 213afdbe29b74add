//! Output of jobs, as it comes from the nodes.

use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::Response;
use offtake_protocol::agent::{LogPiece, LogRequest, TaskId};
use offtake_protocol::rest::{LogQuery, Problem};
use tokio::sync::mpsc;

use super::caller::Asker;
use super::openapi::Problems;
use super::query::{Asked, Named};
use crate::core::LogSource;
use crate::log_relay::LogRelay;
use crate::problem::{Refused, problem};
use crate::server::{App, Server};

/// How often it is looked whether the nodes that are still to send something can be reached.
const LOOK_AGAIN: Duration = Duration::from_secs(5);

/// Streams the output of a job: one piece a line, those of several nodes as they come.
#[utoipa::path(
    get, path = "/v1/jobs/{id}/logs", tag = "jobs", operation_id = "logs",
    params(("id" = u64, Path, description = "The job."), LogQuery),
    responses(
        (status = 200, description = "Pieces of output, one JSON object a line.", body = LogPiece,
         content_type = "application/x-ndjson"),
        Problems
    )
)]
pub(super) async fn read(
    State(server): App,
    asker: Asker,
    Named(id): Named<u64>,
    Asked(query): Asked<LogQuery>,
) -> Result<Response, Refused> {
    let (caller, asked) = (asker.caller(), query.clone());
    let sources = server.handle.ask(move |core| core.log_sources(&caller, id, &asked)).await?;
    let sources = match sources {
        Err(problem) if problem.code == "unknown_job" => long_over(&server, &asker, id, &query, problem).await?,
        sources => sources?,
    };
    if !sources.is_empty() && !sources.iter().any(|source| source.reachable) {
        let nodes: Vec<&str> = sources.iter().map(|source| &*source.node).collect();
        let detail = format!("the output lies on {}, which cannot be reached now", nodes.join(", "));
        return Err(problem(StatusCode::SERVICE_UNAVAILABLE, "nodes_unreachable", detail).into());
    }
    let (pieces, reader) = LogRelay::channel();
    let mut open = Open { server: Arc::clone(&server), requests: Vec::new() };
    for source in sources.into_iter().filter(|source| source.reachable) {
        open.ask(&source, &query, &pieces).await?;
    }
    drop(pieces);
    let stream = futures_util::stream::unfold((reader, open), |(mut reader, mut open)| async move {
        let piece = open.next(&mut reader).await?;
        Some((Ok::<_, std::convert::Infallible>(piece), (reader, open)))
    });
    let mut response = Response::new(Body::from_stream(stream));
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/x-ndjson"));
    Ok(response)
}

/// Where the output of a job lies that is no longer in memory.
async fn long_over(
    server: &Server,
    asker: &Asker,
    id: u64,
    query: &LogQuery,
    unknown: Problem,
) -> Result<Vec<LogSource>, Problem> {
    let found = server.shared.history.job(id).await?.filter(|detail| asker.0.sees(&detail.job.tenant));
    let detail = found.ok_or(unknown)?;
    let attempt = match query.attempt {
        None => detail.attempts.last(),
        Some(number) => detail.attempts.iter().find(|attempt| attempt.number == number),
    };
    let attempt = attempt
        .ok_or_else(|| problem(StatusCode::NOT_FOUND, "no_output", format!("job {id} has no such attempt")))?
        .clone();
    let task = TaskId { job: id, attempt: attempt.number, step: query.step.unwrap_or(0) };
    let caller = asker.caller();
    server
        .handle
        .ask(move |core| {
            let sources = attempt.nodes.into_iter().map(|node| {
                let known = core.node(&caller, &node);
                let down = known.is_none_or(|view| view.state == offtake_protocol::rest::NodeState::Down);
                LogSource { node: node.into(), task, reachable: !down }
            });
            sources.collect()
        })
        .await
}

/// A reader's requests to nodes. When the reader goes, so do they.
struct Open {
    server: Arc<Server>,
    requests: Vec<(u64, String)>,
}

impl Open {
    async fn ask(&mut self, source: &LogSource, query: &LogQuery, pieces: &mpsc::Sender<Bytes>) -> Result<(), Problem> {
        let id = self.server.logs.open(&source.node, pieces.clone());
        self.requests.push((id, source.node.to_string()));
        let request = LogRequest {
            id,
            task: source.task,
            rank: query.rank,
            follow: query.follow.unwrap_or(false),
            tail_bytes: query.tail_bytes,
        };
        let node = Arc::clone(&source.node);
        self.server.handle.ask(move |core| core.ask_logs(&node, request)).await
    }

    /// The next piece; none when all nodes have sent what they have, or cannot be reached any more.
    async fn next(&mut self, reader: &mut mpsc::Receiver<Bytes>) -> Option<Bytes> {
        loop {
            tokio::select! {
                piece = reader.recv() => return piece,
                () = self.server.stopped() => return None,
                () = tokio::time::sleep(LOOK_AGAIN) => self.give_up_lost().await,
            }
        }
    }

    /// Waits no longer for nodes that are down.
    async fn give_up_lost(&mut self) {
        let open: Vec<(u64, String)> =
            self.requests.iter().filter(|(id, _)| self.server.logs.is_open(*id)).cloned().collect();
        let lost = self.server.handle.ask(move |core| {
            let anyone = crate::core::Caller { name: String::new(), access: crate::core::Access::Reader, user: None };
            let is_lost = |node: &str| {
                core.node(&anyone, node).is_none_or(|view| view.state == offtake_protocol::rest::NodeState::Down)
            };
            open.into_iter().filter(|(_, node)| is_lost(node)).map(|(id, _)| id).collect::<Vec<_>>()
        });
        for id in lost.await.unwrap_or_default() {
            self.server.logs.close(id);
        }
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        let requests = std::mem::take(&mut self.requests);
        for (id, _) in &requests {
            self.server.logs.close(*id);
        }
        self.server.handle.tell(move |core| {
            for (id, node) in requests {
                core.drop_logs(&node, id);
            }
        });
    }
}
