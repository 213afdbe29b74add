//! The API: routes, and what every request passes through.

mod about;
mod agents;
mod body;
mod caller;
mod defrag;
mod events;
mod grid;
mod jobs;
mod logs;
mod nodes;
mod observe;
mod openapi;
mod policy;
mod query;
mod reservations;
mod services;
mod steps;
mod tokens;
mod what_if;

use std::sync::Arc;

use axum::Router;
use axum::http::{Method, StatusCode, Uri};
use axum::middleware::from_fn_with_state;
use axum::routing::{get, post, put};

use crate::problem::{Refused, problem};
use crate::server::Server;

pub(crate) use body::ALL_KIB as ALL_BODIES_KIB;
pub use openapi::openapi;

/// All routes.
pub(crate) fn router(server: &Arc<Server>) -> Router {
    Router::new()
        .route("/v1/jobs", get(jobs::list).post(jobs::submit))
        .route("/v1/jobs/batch", post(jobs::submit_batch))
        .route("/v1/jobs/{id}", get(jobs::get))
        .route("/v1/jobs/{id}/cancel", post(jobs::cancel))
        .route("/v1/jobs/{id}/hold", post(jobs::hold))
        .route("/v1/jobs/{id}/release", post(jobs::release))
        .route("/v1/jobs/{id}/requeue", post(jobs::requeue))
        .route("/v1/jobs/{id}/scale", post(jobs::scale))
        .route("/v1/jobs/{id}/demand", put(jobs::demand))
        .route("/v1/jobs/{id}/why", get(jobs::why))
        .route("/v1/jobs/{id}/logs", get(logs::read))
        .route("/v1/jobs/{id}/steps", post(steps::ask))
        .route("/v1/jobs/{id}/steps/{step}", get(steps::get).delete(steps::end))
        .route("/v1/services", get(services::list))
        .route("/v1/nodes", get(nodes::list))
        .route("/v1/nodes/{name}", get(nodes::get))
        .route("/v1/nodes/{name}/drain", post(nodes::drain))
        .route("/v1/nodes/{name}/resume", post(nodes::resume))
        .route("/v1/fleet", get(nodes::fleet))
        .route("/v1/caps/{name}", put(grid::set_cap))
        .route("/v1/grid/events", get(grid::list))
        .route("/v1/grid/events/{name}", put(grid::announce).delete(grid::withdraw))
        .route("/v1/policy", get(policy::get).put(policy::set))
        .route("/v1/tenants", get(policy::tenants))
        .route("/v1/reservations", get(reservations::list).post(reservations::make))
        .route("/v1/reservations/{name}", axum::routing::delete(reservations::withdraw))
        .route("/v1/what-if", post(what_if::ask))
        .route("/v1/defrag", get(defrag::plan).post(defrag::apply))
        .route("/v1/events", get(events::follow))
        .route("/v1/tokens", get(tokens::list).post(tokens::make))
        .route("/v1/tokens/{name}", axum::routing::delete(tokens::revoke))
        .route("/v1/join-tokens", post(tokens::make_join_token))
        .route("/v1/agents/join", post(agents::join))
        .route("/v1/agents/exchange", post(agents::exchange))
        .route("/v1/agents/logs/{request}", post(agents::logs))
        .route("/v1/health", get(about::health))
        .route("/v1/version", get(about::version))
        .route("/v1/openapi.json", get(about::openapi))
        .route("/metrics", get(about::metrics))
        .fallback(unknown_path)
        .method_not_allowed_fallback(unknown_method)
        .layer(from_fn_with_state(Arc::clone(server), observe::observe))
        .with_state(Arc::clone(server))
}

async fn unknown_path(uri: Uri) -> Refused {
    let path: String = uri.path().chars().take(200).collect();
    let detail = format!("there is nothing at {path}; /v1/openapi.json lists what there is");
    problem(StatusCode::NOT_FOUND, "unknown_path", detail).into()
}

async fn unknown_method(method: Method, uri: Uri) -> Refused {
    let path: String = uri.path().chars().take(200).collect();
    let detail = format!("{path} does not take {method}; the header Allow lists what it takes");
    problem(StatusCode::METHOD_NOT_ALLOWED, "unknown_method", detail).into()
}
