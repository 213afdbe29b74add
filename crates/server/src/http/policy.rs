//! The policy in force, and what tenants have under it.

use axum::Json;
use axum::extract::{Request, State};
use axum::http::StatusCode;
use offtake_engine::Policy;
use offtake_protocol::rest::{PolicyView, SetPolicy, TenantView};

use super::body;
use super::caller::{Asker, Writer};
use super::jobs::unexpected;
use super::openapi::{Problems, WriteProblems};
use crate::core::{Answer, Command};
use crate::problem::{Refused, problem};
use crate::server::App;

/// Shows the policy in force.
#[utoipa::path(
    get, path = "/v1/policy", tag = "policy", operation_id = "policy",
    responses((status = 200, description = "The policy.", body = PolicyView), Problems)
)]
pub(super) async fn get(State(server): App, _asker: Asker) -> Result<Json<PolicyView>, Refused> {
    Ok(Json(server.handle.ask(|core| core.policy()).await?))
}

/// Sets the policy. One that is in force already changes nothing.
#[utoipa::path(
    put, path = "/v1/policy", tag = "policy", operation_id = "set_policy",
    params(super::openapi::IdempotencyKey),
    request_body = SetPolicy,
    responses((status = 200, description = "The policy in force now.", body = PolicyView), WriteProblems)
)]
pub(super) async fn set(State(server): App, writer: Writer, request: Request) -> Result<Json<PolicyView>, Refused> {
    writer.is_operator()?;
    let (parts, body) = request.into_parts();
    body::says_json(&parts.headers)?;
    let read = body::read(&server, &parts.headers, body, body::OTHER).await?;
    let asked: SetPolicy = body::parse(&read.bytes)?;
    let wrong = |error: offtake_engine::PolicyError| {
        problem(StatusCode::UNPROCESSABLE_ENTITY, "policy", format!("the policy file, {error}"))
    };
    let policy = Policy::from_toml(&asked.toml).map_err(wrong)?;
    let key = writer.key(parts.method.as_str(), parts.uri.path(), &read.bytes);
    match server.handle.command(writer.caller(), key, Command::SetPolicy(Box::new(policy))).await? {
        Answer::Policy(view) => Ok(Json(*view)),
        _ => Err(unexpected().into()),
    }
}

/// Lists tenants and what each has: its quota, what it borrows and lends, what runs and waits, its share.
#[utoipa::path(
    get, path = "/v1/tenants", tag = "policy", operation_id = "tenants",
    responses((
        status = 200,
        description = "The tenants, each before those below it; the first, without a name, stands for all. A member sees \
            its own tenant and those below it.",
        body = [TenantView]
    ), Problems)
)]
pub(super) async fn tenants(State(server): App, asker: Asker) -> Result<Json<Vec<TenantView>>, Refused> {
    let caller = asker.caller();
    Ok(Json(server.handle.ask(move |core| core.tenants(&caller)).await?))
}
