//! Tokens of people and programs, and those that let nodes join.

use axum::Json;
use axum::extract::{Request, State};
use axum::http::StatusCode;
use offtake_protocol::rest::{JoinTokenMade, JoinTokenRequest, TokenMade, TokenRequest, TokenView};
use offtake_units::Timestamp;

use super::body;
use super::caller::{self, Asker, Writer};
use super::jobs::unexpected;
use super::openapi::{Problems, WriteProblems};
use super::query::Named;
use crate::core::{Answer, Command};
use crate::problem::Refused;
use crate::server::App;
use crate::tokens;

/// Lists the tokens, without their secrets.
#[utoipa::path(
    get, path = "/v1/tokens", tag = "tokens", operation_id = "tokens",
    responses((status = 200, description = "The tokens.", body = [TokenView]), Problems)
)]
pub(super) async fn list(State(server): App, asker: Asker) -> Result<Json<Vec<TokenView>>, Refused> {
    asker.is_operator()?;
    Ok(Json(server.handle.ask(|core| core.tokens()).await?))
}

/// Makes a token. It is told once and kept nowhere.
#[utoipa::path(
    post, path = "/v1/tokens", tag = "tokens", operation_id = "make_token",
    params(super::openapi::IdempotencyKey),
    request_body = TokenRequest,
    responses((status = 201, description = "The token.", body = TokenMade), WriteProblems)
)]
pub(super) async fn make(
    State(server): App,
    writer: Writer,
    request: Request,
) -> Result<(StatusCode, Json<TokenMade>), Refused> {
    writer.is_operator()?;
    let (parts, body) = request.into_parts();
    body::says_json(&parts.headers)?;
    let read = body::read(&server, &parts.headers, body, body::OTHER).await?;
    let asked: TokenRequest = body::parse(&read.bytes)?;
    caller::name("name", &asked.name)?;
    caller::role(&asked.role)?;
    let user = asked.user.as_deref().map(caller::user).transpose()?;
    let command = tokens::make(asked.name, asked.role, user, asked.expires_ms.map(Timestamp::from_millis));
    let key = writer.key(parts.method.as_str(), parts.uri.path(), &read.bytes);
    match server.handle.command(writer.caller(), key, command).await? {
        Answer::Token(made) => Ok((StatusCode::CREATED, Json(made))),
        _ => Err(unexpected().into()),
    }
}

/// Revokes a token. It is refused from the next request on.
#[utoipa::path(
    delete, path = "/v1/tokens/{name}", tag = "tokens", operation_id = "revoke_token",
    params(("name" = String, Path, description = "The token's name."), super::openapi::IdempotencyKey),
    responses((status = 204, description = "It holds no more."), WriteProblems)
)]
pub(super) async fn revoke(
    State(server): App,
    writer: Writer,
    Named(name): Named<String>,
    request: Request,
) -> Result<StatusCode, Refused> {
    writer.is_operator()?;
    let key = writer.key(request.method().as_str(), request.uri().path(), &[]);
    match server.handle.command(writer.caller(), key, Command::RevokeToken(name)).await? {
        Answer::Done => Ok(StatusCode::NO_CONTENT),
        _ => Err(unexpected().into()),
    }
}

/// Makes a token that lets one node join, once.
#[utoipa::path(
    post, path = "/v1/join-tokens", tag = "tokens", operation_id = "make_join_token",
    params(super::openapi::IdempotencyKey),
    request_body(content = Option<JoinTokenRequest>, description = "For which node and how long; any, for a day, when left out."),
    responses((status = 201, description = "The token.", body = JoinTokenMade), WriteProblems)
)]
pub(super) async fn make_join_token(
    State(server): App,
    writer: Writer,
    request: Request,
) -> Result<(StatusCode, Json<JoinTokenMade>), Refused> {
    writer.is_operator()?;
    let (parts, body) = request.into_parts();
    let read = body::read(&server, &parts.headers, body, body::OTHER).await?;
    if !read.bytes.is_empty() {
        body::says_json(&parts.headers)?;
    }
    let asked: JoinTokenRequest = body::parse_or_default(&read.bytes)?;
    let command = tokens::make_join(asked, server.fingerprint.as_deref())?;
    let key = writer.key(parts.method.as_str(), parts.uri.path(), &read.bytes);
    match server.handle.command(writer.caller(), key, command).await? {
        Answer::JoinToken(made) => Ok((StatusCode::CREATED, Json(made))),
        _ => Err(unexpected().into()),
    }
}
