//! The server itself.

use axum::Json;
use axum::extract::{FromRequestParts, Request, State};
use axum::http::{HeaderValue, header};
use axum::response::{IntoResponse, Response};
use offtake_protocol::agent;
use offtake_protocol::rest::{Health, VersionView};

use super::caller::Asker;
use super::openapi::Problems;
use crate::problem::Refused;
use crate::server::App;

/// Says whether the server takes requests.
#[utoipa::path(
    get, path = "/v1/health", tag = "server", operation_id = "health",
    responses((status = 200, description = "`ready`, or `read_only` when the journal takes nothing.", body = Health)),
    security(())
)]
pub(super) async fn health(State(server): App) -> Json<Health> {
    let detail = server.shared.read_only();
    let status = if detail.is_some() { "read_only" } else { "ready" };
    Json(Health { status: status.to_owned(), sequence: server.shared.sequence(), detail })
}

/// Says which release the server is.
#[utoipa::path(
    get, path = "/v1/version", tag = "server", operation_id = "version",
    responses((status = 200, description = "The versions.", body = VersionView)),
    security(())
)]
pub(super) async fn version(State(server): App) -> Json<VersionView> {
    Json(VersionView {
        version: crate::VERSION.to_owned(),
        api: "v1".to_owned(),
        agent_protocol: agent::VERSION,
        epoch: server.shared.epoch(),
    })
}

/// Shows this document.
#[utoipa::path(
    get, path = "/v1/openapi.json", tag = "server", operation_id = "openapi",
    responses((status = 200, description = "The OpenAPI document.", body = Object, content_type = "application/json")),
    security(())
)]
pub(super) async fn openapi(State(server): App) -> Response {
    ([(header::CONTENT_TYPE, HeaderValue::from_static("application/json"))], server.openapi.clone()).into_response()
}

/// Shows the figures for Prometheus. Needs no token where the server is configured so.
#[utoipa::path(
    get, path = "/metrics", tag = "server", operation_id = "metrics",
    responses(
        (status = 200, description = "The figures, as OpenMetrics has them.", body = String,
         content_type = "application/openmetrics-text; version=1.0.0; charset=utf-8"),
        Problems
    )
)]
pub(super) async fn metrics(State(server): App, request: Request) -> Result<Response, Refused> {
    if !server.metrics_open {
        Asker::from_request_parts(&mut request.into_parts().0, &server).await?;
    }
    let figures = server.handle.ask(|core| core.figures()).await?;
    let text = server.shared.metrics.encode(&figures, server.shared.sequence(), server.shared.read_only().is_some());
    let kind = HeaderValue::from_static("application/openmetrics-text; version=1.0.0; charset=utf-8");
    Ok(([(header::CONTENT_TYPE, kind)], text).into_response())
}
