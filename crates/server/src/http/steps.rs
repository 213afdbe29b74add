//! Steps inside running jobs: what `srun` asks for.

use std::time::Duration;

use axum::Json;
use axum::extract::{Request, State};
use axum::http::StatusCode;
use offtake_protocol::rest::{StepRequest, StepView};
use serde::Deserialize;

use super::body;
use super::caller::{Asker, Writer};
use super::jobs::unexpected;
use super::openapi::{Problems, WriteProblems};
use super::query::{Asked, Named};
use crate::core::{Answer, Command};
use crate::problem::{Refused, stopping};
use crate::server::App;

/// The longest that a request may wait for the end of a step.
const LONGEST_WAIT_MS: u64 = 300_000;

/// Starts a step inside a running job.
#[utoipa::path(
    post, path = "/v1/jobs/{id}/steps", tag = "steps", operation_id = "start_step",
    params(("id" = u64, Path, description = "The job."), super::openapi::IdempotencyKey),
    request_body = StepRequest,
    responses((status = 201, description = "The step.", body = StepView), WriteProblems)
)]
pub(super) async fn ask(
    State(server): App,
    writer: Writer,
    Named(job): Named<u64>,
    request: Request,
) -> Result<(StatusCode, Json<StepView>), Refused> {
    let (parts, body) = request.into_parts();
    body::says_json(&parts.headers)?;
    let read = body::read(&server, &parts.headers, body, body::OTHER).await?;
    let request: StepRequest = body::parse(&read.bytes)?;
    let key = writer.key(parts.method.as_str(), parts.uri.path(), &read.bytes);
    match server.handle.command(writer.caller(), key, Command::Step { job, request: Box::new(request) }).await? {
        Answer::Step(view) => Ok((StatusCode::CREATED, Json(*view))),
        _ => Err(unexpected().into()),
    }
}

/// The query of a step.
#[derive(Debug, Default, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct StepQuery {
    /// Answer only when the step has ended, or this time is over: in milliseconds, at most 300,000.
    #[serde(default)]
    #[param(maximum = 300_000)]
    wait_ms: Option<u64>,
}

/// Shows a step; waits for its end when asked to.
#[utoipa::path(
    get, path = "/v1/jobs/{id}/steps/{step}", tag = "steps", operation_id = "step",
    params(("id" = u64, Path, description = "The job."), ("step" = u32, Path, description = "The step."), StepQuery),
    responses((status = 200, description = "The step.", body = StepView), Problems)
)]
pub(super) async fn get(
    State(server): App,
    asker: Asker,
    Named((job, step)): Named<(u64, u32)>,
    Asked(query): Asked<StepQuery>,
) -> Result<Json<StepView>, Refused> {
    let until = tokio::time::Instant::now() + Duration::from_millis(query.wait_ms.unwrap_or(0).min(LONGEST_WAIT_MS));
    loop {
        // Before it is looked, so that an end in between is not missed.
        let waiters = server.shared.steps.of(job);
        let ended = waiters.notified();
        tokio::pin!(ended);
        ended.as_mut().enable();
        let caller = asker.caller();
        let view = server.handle.ask(move |core| core.step(&caller, job, step)).await??;
        if view.state.is_over() {
            return Ok(Json(view));
        }
        tokio::select! {
            () = ended => {}
            () = tokio::time::sleep_until(until) => return Ok(Json(view)),
            () = server.stopped() => return Err(stopping().into()),
        }
    }
}

/// Ends a step.
#[utoipa::path(
    delete, path = "/v1/jobs/{id}/steps/{step}", tag = "steps", operation_id = "end_step",
    params(
        ("id" = u64, Path, description = "The job."),
        ("step" = u32, Path, description = "The step."),
        super::openapi::IdempotencyKey
    ),
    responses((status = 200, description = "The step as it stands now.", body = StepView), WriteProblems)
)]
pub(super) async fn end(
    State(server): App,
    writer: Writer,
    Named((job, step)): Named<(u64, u32)>,
    request: Request,
) -> Result<Json<StepView>, Refused> {
    let key = writer.key(request.method().as_str(), request.uri().path(), &[]);
    match server.handle.command(writer.caller(), key, Command::EndStep { job, step }).await? {
        Answer::Step(view) => Ok(Json(*view)),
        _ => Err(unexpected().into()),
    }
}
