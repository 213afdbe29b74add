//! Caps, and grid events. `/` in a name is sent as `%2F`.

use axum::Json;
use axum::extract::{Request, State};
use axum::http::StatusCode;
use offtake_protocol::rest::{CapView, GridEvent, GridEventView, SetCap};

use super::body;
use super::caller::{Asker, Writer};
use super::jobs::unexpected;
use super::nodes::change;
use super::openapi::{Problems, WriteProblems};
use super::query::Named;
use crate::core::{Answer, Command};
use crate::problem::Refused;
use crate::server::App;

/// Sets what a cap allows from now on. Work gives way at once where more is drawn under it, the weakest first.
#[utoipa::path(
    put, path = "/v1/caps/{name}", tag = "grid", operation_id = "set_cap",
    params(("name" = String, Path, description = "The cap; `/` in its name as `%2F`."), super::openapi::IdempotencyKey),
    request_body = SetCap,
    responses((status = 200, description = "The cap as it stands now.", body = CapView), WriteProblems)
)]
pub(super) async fn set_cap(
    State(server): App,
    writer: Writer,
    Named(name): Named<String>,
    request: Request,
) -> Result<Json<CapView>, Refused> {
    let set = |bytes: &[u8]| {
        let SetCap { watts } = body::parse(bytes)?;
        Ok(Command::SetCap { cap: name, watts })
    };
    match change(&server, &writer, request, set).await? {
        Answer::Cap(view) => Ok(Json(view)),
        _ => Err(unexpected().into()),
    }
}

/// Lists the grid events that are not over.
#[utoipa::path(
    get, path = "/v1/grid/events", tag = "grid", operation_id = "grid_events",
    responses((status = 200, description = "The events, in the order in which they begin.", body = [GridEventView]), Problems)
)]
pub(super) async fn list(State(server): App, _asker: Asker) -> Result<Json<Vec<GridEventView>>, Refused> {
    Ok(Json(server.handle.ask(|core| core.grid_events()).await?))
}

/// Announces a grid event: for a time a cap is to allow less.
///
/// From now on no work starts that would have to stop for it, and so much is stopped in time that no more is drawn when it
/// begins. What cannot be had is said in the answer. An event of that name that asks
/// for the same instants and watts is left as it is.
#[utoipa::path(
    put, path = "/v1/grid/events/{name}", tag = "grid", operation_id = "announce_grid_event",
    params(("name" = String, Path, description = "The event; `/` in its name as `%2F`."), super::openapi::IdempotencyKey),
    request_body = GridEvent,
    responses((status = 200, description = "The event as it stands now.", body = GridEventView), WriteProblems)
)]
pub(super) async fn announce(
    State(server): App,
    writer: Writer,
    Named(name): Named<String>,
    request: Request,
) -> Result<Json<GridEventView>, Refused> {
    let announce = |bytes: &[u8]| {
        let event: GridEvent = body::parse(bytes)?;
        Ok(Command::Announce { name, event: Box::new(event) })
    };
    match change(&server, &writer, request, announce).await? {
        Answer::GridEvent(view) => Ok(Json(*view)),
        _ => Err(unexpected().into()),
    }
}

/// Withdraws a grid event: its cap allows again what it did, at once.
#[utoipa::path(
    delete, path = "/v1/grid/events/{name}", tag = "grid", operation_id = "withdraw_grid_event",
    params(("name" = String, Path, description = "The event; `/` in its name as `%2F`."), super::openapi::IdempotencyKey),
    responses((status = 204, description = "It is withdrawn."), WriteProblems)
)]
pub(super) async fn withdraw(
    State(server): App,
    writer: Writer,
    Named(name): Named<String>,
    request: Request,
) -> Result<StatusCode, Refused> {
    match change(&server, &writer, request, |_| Ok(Command::Withdraw(name))).await? {
        Answer::Done => Ok(StatusCode::NO_CONTENT),
        _ => Err(unexpected().into()),
    }
}
