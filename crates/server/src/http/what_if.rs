//! What would happen.

use axum::Json;
use axum::extract::{Request, State};
use axum::http::StatusCode;
use offtake_protocol::rest::{WhatIf, WhatIfRequest};

use super::body;
use super::caller::Asker;
use super::jobs::unexpected;
use super::openapi::WriteProblems;
use crate::problem::{Refused, problem};
use crate::server::App;

/// Looks ahead on a copy of the state, beside what happens otherwise. Nothing is changed.
#[utoipa::path(
    post, path = "/v1/what-if", tag = "nodes", operation_id = "what_if",
    request_body = WhatIfRequest,
    responses((status = 200, description = "What would happen.", body = WhatIf), WriteProblems)
)]
pub(super) async fn ask(State(server): App, asker: Asker, request: Request) -> Result<Json<WhatIf>, Refused> {
    asker.sees_everything()?;
    let (parts, body) = request.into_parts();
    body::says_json(&parts.headers)?;
    let read = body::read(&server, &parts.headers, body, body::SUBMISSION).await?;
    let asked: WhatIfRequest = body::parse(&read.bytes)?;
    let busy = || {
        let detail = "the server looks ahead for others already; try again in a second";
        problem(StatusCode::TOO_MANY_REQUESTS, "busy", detail)
    };
    let _turn = server.what_ifs.try_acquire().map_err(|_| busy())?;
    let fork = server.handle.ask(|core| core.fork()).await?;
    let told = tokio::task::spawn_blocking(move || fork.what_if(asked)).await;
    Ok(Json(told.map_err(|_| unexpected())??))
}
