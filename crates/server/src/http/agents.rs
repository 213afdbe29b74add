//! What agents ask. Their requests are signed; only joining needs a token instead.

use std::time::Duration;

use axum::Json;
use axum::extract::{Request, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use offtake_protocol::agent::{Join, Joined, LogPiece, Order, Orders, Report, TaskPhase, Want};
use offtake_protocol::rest::Problem;
use serde::Deserialize;

use super::body;
use super::jobs::unexpected;
use super::openapi::WriteProblems;
use super::query::{Asked, Named};
use crate::core::Answer;
use crate::identity::Signed;
use crate::problem::{JOURNAL_UNAVAILABLE, Refused, busy, problem, stopping};
use crate::server::{App, Server};

/// Lets a node join with a token that is good for one node, once. From then on its agent signs its requests.
#[utoipa::path(
    post, path = "/v1/agents/join", tag = "agents", operation_id = "agent_join",
    request_body(content = Object, description = "`offtake_protocol::agent::Join`"),
    responses(
        (status = 200, description = "`offtake_protocol::agent::Joined`", body = Object),
        WriteProblems
    ),
    security(())
)]
pub(super) async fn join(State(server): App, request: Request) -> Result<Json<Joined>, Refused> {
    // Whoever tries has no name yet.
    if !server.rates.take("joining nodes") {
        return Err(busy().into());
    }
    let (parts, body) = request.into_parts();
    body::says_json(&parts.headers)?;
    let read = body::read(&server, &parts.headers, body, body::OTHER).await?;
    let mut join: Join = body::parse(&read.bytes)?;
    // What follows a point is the fingerprint of the server's certificate.
    if let Some(end) = join.token.find('.') {
        join.token.truncate(end);
    }
    match server.handle.join(join).await? {
        Answer::Joined(joined) => Ok(Json(joined)),
        _ => Err(unexpected().into()),
    }
}

/// Takes an agent's report and answers with its orders, at the latest when the agent does not want to wait any more.
#[utoipa::path(
    post, path = "/v1/agents/exchange", tag = "agents", operation_id = "agent_exchange",
    request_body(content = Object, description = "`offtake_protocol::agent::Report`"),
    responses(
        (status = 200, description = "`offtake_protocol::agent::Orders`", body = Object),
        WriteProblems
    ),
    security(("agent" = []))
)]
pub(super) async fn exchange(State(server): App, request: Request) -> Result<Response, Refused> {
    let (node, read) = signed(&server, request, body::REPORT).await?;
    let report: Report = body::parse(&read.bytes)?;
    drop(read);
    server.shared.metrics.agent_report();
    if server.shared.read_only().is_some() {
        return Ok(stand_still(&server, &report).await?);
    }
    let asked = server.handle.report(node, report.clone());
    let answer = tokio::select! {
        answer = asked => answer,
        () = server.stopped() => Err(stopping()),
    };
    match answer {
        Ok(Answer::Orders(orders)) => Ok(as_json(&orders)),
        Ok(_) => Err(unexpected().into()),
        Err(problem) if problem.code == JOURNAL_UNAVAILABLE => Ok(stand_still(&server, &report).await?),
        Err(problem) => Err(problem.into()),
    }
}

fn as_json(orders: &Orders) -> Response {
    let body = serde_json::to_vec(orders).expect("orders are texts and numbers");
    ([(header::CONTENT_TYPE, "application/json")], body).into_response()
}

/// While nothing can be recorded, an agent is told to go on as it does: the orders that it has hold on, its lease is
/// renewed, and what has ended stays listed until that can be recorded. Nothing new is ordered.
///
/// Once the journal takes facts again the server grants every node a whole lease before it starts anything elsewhere, so
/// what is granted here is never longer.
async fn stand_still(server: &Server, report: &Report) -> Result<Response, Problem> {
    let wait = Duration::from_millis(u64::from(report.wait_ms)).min(server.lease / 4);
    tokio::select! {
        () = tokio::time::sleep(wait) => {}
        () = server.stopped() => return Err(stopping()),
    }
    let tasks = report.tasks.iter().map(|task| Order {
        task: task.task,
        want: match task.phase {
            TaskPhase::Preparing | TaskPhase::Prepared => Want::Prepare,
            TaskPhase::Running { .. } => Want::Run,
            TaskPhase::Stopping | TaskPhase::Ended(_) => Want::Stop,
        },
        signal: None,
        paused: task.paused,
        spec: None,
    });
    Ok(as_json(&Orders {
        edition: report.seen,
        answers: report.version,
        lease_ms: u32::try_from(server.lease.as_millis()).unwrap_or(u32::MAX),
        tasks: tasks.collect(),
        limits: None,
        logs: Vec::new(),
    }))
}

/// The query of a piece of output.
#[derive(Debug, Default, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct PieceQuery {
    /// Nothing more comes for this request.
    #[serde(default)]
    last: Option<bool>,
}

/// Takes a piece of output that somebody wants to read: one `LogPiece` a line. It is answered once the reader has room for
/// more.
#[utoipa::path(
    post, path = "/v1/agents/logs/{request}", tag = "agents", operation_id = "agent_logs",
    params(("request" = u64, Path, description = "The request for output, as the orders name it."), PieceQuery),
    request_body(content = LogPiece, content_type = "application/x-ndjson"),
    responses(
        (status = 204, description = "Taken."),
        (status = 410, description = "Nobody wants it any more.", body = Problem,
         content_type = "application/problem+json"),
        WriteProblems
    ),
    security(("agent" = []))
)]
pub(super) async fn logs(
    State(server): App,
    Named(id): Named<u64>,
    Asked(query): Asked<PieceQuery>,
    request: Request,
) -> Result<StatusCode, Refused> {
    let (node, read) = signed(&server, request, body::OTHER).await?;
    let lines = read.bytes.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
    for line in lines {
        let _: LogPiece = body::parse(line)?;
    }
    if !read.bytes.is_empty() {
        let mut piece = read.bytes.to_vec();
        if !piece.ends_with(b"\n") {
            piece.push(b'\n');
        }
        tokio::select! {
            passed = server.logs.pass(id, &node, piece.into()) => passed.map_err(|_| gone())?,
            () = server.stopped() => return Err(stopping().into()),
        }
    } else if !server.logs.is_of(id, &node) {
        return Err(gone().into());
    }
    if query.last == Some(true) {
        server.logs.close(id);
        server.handle.tell(move |core| core.drop_logs(&node, id));
    }
    Ok(StatusCode::NO_CONTENT)
}

fn gone() -> Problem {
    problem(StatusCode::GONE, "reader_gone", "nobody reads this output any more")
}

/// The node whose agent has signed a request, and the request's body.
async fn signed(server: &Server, request: Request, most: usize) -> Result<(String, body::Read), Problem> {
    let (parts, body) = request.into_parts();
    let signed = Signed::of(&parts.headers)?;
    let read = body::read(server, &parts.headers, body, most).await?;
    let path = parts.uri.path_and_query().map_or_else(|| parts.uri.path(), |path| path.as_str());
    let agents = &server.shared.agents;
    let node = agents.signer(&server.handle, signed, &parts.method, path, &read.bytes).await?;
    tracing::Span::current().record("caller", node.as_str());
    Ok((node, read))
}
