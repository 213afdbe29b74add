//! Nodes and the fleet. A node's name may hold `/`: it is sent as `%2F`.

use axum::Json;
use axum::extract::{Request, State};
use axum::http::StatusCode;
use offtake_protocol::rest::{Drain, FleetView, NodeView, Problem};

use super::body;
use super::caller::{Asker, Writer};
use super::jobs::unexpected;
use super::openapi::{Problems, WriteProblems};
use super::query::Named;
use crate::core::{Answer, Command};
use crate::problem::{Refused, problem};
use crate::server::{App, Server};

/// Lists the nodes of the fleet.
#[utoipa::path(
    get, path = "/v1/nodes", tag = "nodes", operation_id = "nodes",
    responses((status = 200, description = "The nodes. Only jobs that the caller may see are named.", body = [NodeView]), Problems)
)]
pub(super) async fn list(State(server): App, asker: Asker) -> Result<Json<Vec<NodeView>>, Refused> {
    let caller = asker.caller();
    Ok(Json(server.handle.ask(move |core| core.nodes(&caller)).await?))
}

/// Shows a node.
#[utoipa::path(
    get, path = "/v1/nodes/{name}", tag = "nodes", operation_id = "node",
    params(("name" = String, Path, description = "The node; `/` in its name as `%2F`.")),
    responses((status = 200, description = "The node.", body = NodeView), Problems)
)]
pub(super) async fn get(
    State(server): App,
    asker: Asker,
    Named(name): Named<String>,
) -> Result<Json<NodeView>, Refused> {
    let (caller, asked) = (asker.caller(), name.clone());
    let found = server.handle.ask(move |core| core.node(&caller, &asked)).await?;
    let unknown = || problem(StatusCode::NOT_FOUND, "unknown_node", format!("the fleet has no node `{name}`"));
    Ok(Json(found.ok_or_else(unknown)?))
}

/// Has a node take no new work. What runs there goes on.
#[utoipa::path(
    post, path = "/v1/nodes/{name}/drain", tag = "nodes", operation_id = "drain",
    params(("name" = String, Path, description = "The node; `/` in its name as `%2F`."), super::openapi::IdempotencyKey),
    request_body = Drain,
    responses((status = 200, description = "The node as it stands now.", body = NodeView), WriteProblems)
)]
pub(super) async fn drain(
    State(server): App,
    writer: Writer,
    Named(name): Named<String>,
    request: Request,
) -> Result<Json<NodeView>, Refused> {
    let drain = |bytes: &[u8]| {
        let Drain { reason } = body::parse(bytes)?;
        Ok(Command::Drain { node: name, reason })
    };
    node(change(&server, &writer, request, drain).await?)
}

/// Has a drained node take work again.
#[utoipa::path(
    post, path = "/v1/nodes/{name}/resume", tag = "nodes", operation_id = "resume",
    params(("name" = String, Path, description = "The node; `/` in its name as `%2F`."), super::openapi::IdempotencyKey),
    responses((status = 200, description = "The node as it stands now.", body = NodeView), WriteProblems)
)]
pub(super) async fn resume(
    State(server): App,
    writer: Writer,
    Named(name): Named<String>,
    request: Request,
) -> Result<Json<NodeView>, Refused> {
    node(change(&server, &writer, request, |_| Ok(Command::Resume(name))).await?)
}

/// Carries out what an operator asks for in the body of a request.
pub(super) async fn change(
    server: &Server,
    writer: &Writer,
    request: Request,
    command: impl FnOnce(&[u8]) -> Result<Command, Problem>,
) -> Result<Answer, Refused> {
    writer.is_operator()?;
    let (parts, body) = request.into_parts();
    let read = body::read(server, &parts.headers, body, body::OTHER).await?;
    if !read.bytes.is_empty() {
        body::says_json(&parts.headers)?;
    }
    let command = command(&read.bytes)?;
    let key = writer.key(parts.method.as_str(), parts.uri.path(), &read.bytes);
    Ok(server.handle.command(writer.caller(), key, command).await?)
}

fn node(answer: Answer) -> Result<Json<NodeView>, Refused> {
    match answer {
        Answer::Node(view) => Ok(Json(*view)),
        _ => Err(unexpected().into()),
    }
}

/// Shows the fleet in figures.
#[utoipa::path(
    get, path = "/v1/fleet", tag = "nodes", operation_id = "fleet",
    responses((status = 200, description = "The fleet.", body = FleetView), Problems)
)]
pub(super) async fn fleet(State(server): App, _asker: Asker) -> Result<Json<FleetView>, Refused> {
    Ok(Json(server.handle.ask(|core| core.fleet()).await?))
}
