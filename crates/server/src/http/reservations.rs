//! Reservations and maintenance windows.

use axum::Json;
use axum::extract::{Request, State};
use axum::http::StatusCode;
use offtake_protocol::rest::ReservationView;
use offtake_workload::Reservation;

use super::body;
use super::caller::{Asker, Writer};
use super::jobs::unexpected;
use super::openapi::{Problems, WriteProblems};
use super::query::Named;
use crate::core::{Answer, Command};
use crate::problem::Refused;
use crate::server::App;

/// Lists reservations and maintenance windows that are not over.
#[utoipa::path(
    get, path = "/v1/reservations", tag = "reservations", operation_id = "reservations",
    responses((
        status = 200,
        description = "The reservations, by name. A member sees maintenance and what its own tenant may use.",
        body = [ReservationView]
    ), Problems)
)]
pub(super) async fn list(State(server): App, asker: Asker) -> Result<Json<Vec<ReservationView>>, Refused> {
    let caller = asker.caller();
    Ok(Json(server.handle.ask(move |core| core.reservations(&caller)).await?))
}

/// Sets capacity aside for a time: for jobs that name it, or for maintenance.
///
/// It is made with its nodes, or not at all: where they cannot be had in time the answer says when they can.
#[utoipa::path(
    post, path = "/v1/reservations", tag = "reservations", operation_id = "reserve",
    params(super::openapi::IdempotencyKey),
    request_body = Reservation,
    responses((status = 201, description = "It is made.", body = ReservationView), WriteProblems)
)]
pub(super) async fn make(
    State(server): App,
    writer: Writer,
    request: Request,
) -> Result<(StatusCode, Json<ReservationView>), Refused> {
    writer.is_operator()?;
    let (parts, body) = request.into_parts();
    body::says_json(&parts.headers)?;
    let read = body::read(&server, &parts.headers, body, body::OTHER).await?;
    let asked: Reservation = body::parse(&read.bytes)?;
    let key = writer.key(parts.method.as_str(), parts.uri.path(), &read.bytes);
    match server.handle.command(writer.caller(), key, Command::Reserve(Box::new(asked))).await? {
        Answer::Reservation(view) => Ok((StatusCode::CREATED, Json(*view))),
        _ => Err(unexpected().into()),
    }
}

/// Withdraws a reservation. Jobs that run on its nodes go on; those that wait for it wait on.
#[utoipa::path(
    delete, path = "/v1/reservations/{name}", tag = "reservations", operation_id = "unreserve",
    params(("name" = String, Path, description = "The reservation's name."), super::openapi::IdempotencyKey),
    responses((status = 204, description = "It is withdrawn."), WriteProblems)
)]
pub(super) async fn withdraw(
    State(server): App,
    writer: Writer,
    Named(name): Named<String>,
    request: Request,
) -> Result<StatusCode, Refused> {
    writer.is_operator()?;
    let key = writer.key(request.method().as_str(), request.uri().path(), &[]);
    match server.handle.command(writer.caller(), key, Command::Unreserve(name)).await? {
        Answer::Done => Ok(StatusCode::NO_CONTENT),
        _ => Err(unexpected().into()),
    }
}
