//! Moves that open a block for a gang that waits.

use axum::Json;
use axum::extract::{Request, State};
use axum::http::StatusCode;
use offtake_protocol::rest::{Defrag, DefragQuery, DefragRequest};

use super::body;
use super::caller::{Asker, Writer};
use super::jobs::unexpected;
use super::openapi::{Problems, WriteProblems};
use super::query::Asked;
use crate::core::{Answer, Command};
use crate::problem::{Refused, problem};
use crate::server::App;

/// Plans moves of preemptible work that open a block for a gang that waits. Nothing is changed.
#[utoipa::path(
    get, path = "/v1/defrag", tag = "nodes", operation_id = "defrag_plan",
    params(DefragQuery),
    responses((status = 200, description = "What would be moved, and what that would win and lose.", body = Defrag), Problems)
)]
pub(super) async fn plan(
    State(server): App,
    asker: Asker,
    Asked(query): Asked<DefragQuery>,
) -> Result<Json<Defrag>, Refused> {
    asker.sees_everything()?;
    let busy = || {
        let detail = "the server looks ahead for others already; try again in a second";
        problem(StatusCode::TOO_MANY_REQUESTS, "busy", detail)
    };
    let _turn = server.what_ifs.try_acquire().map_err(|_| busy())?;
    let fork = server.handle.ask(|core| core.fork()).await?;
    let told = tokio::task::spawn_blocking(move || fork.defrag(query.job)).await;
    Ok(Json(told.map_err(|_| unexpected())??))
}

/// Carries out moves that win more than they lose, as they are planned at this instant.
#[utoipa::path(
    post, path = "/v1/defrag", tag = "nodes", operation_id = "defrag",
    params(super::openapi::IdempotencyKey),
    request_body = DefragRequest,
    responses((status = 200, description = "What is being moved.", body = Defrag), WriteProblems)
)]
pub(super) async fn apply(State(server): App, writer: Writer, request: Request) -> Result<Json<Defrag>, Refused> {
    writer.is_operator()?;
    let (parts, body) = request.into_parts();
    body::says_json(&parts.headers)?;
    let read = body::read(&server, &parts.headers, body, body::OTHER).await?;
    let asked: DefragRequest = body::parse(&read.bytes)?;
    let key = writer.key(parts.method.as_str(), parts.uri.path(), &read.bytes);
    match server.handle.command(writer.caller(), key, Command::Defrag(asked.job)).await? {
        Answer::Defrag(defrag) => Ok(Json(*defrag)),
        _ => Err(unexpected().into()),
    }
}
