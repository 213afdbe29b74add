//! Who asks.

use std::sync::Arc;

use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use axum::http::{HeaderMap, StatusCode, header};
use offtake_protocol::rest::{Problem, Role};

use crate::core::{Access, Caller, Key};
use crate::identity::Peer;
use crate::problem::{Refused, busy, problem};
use crate::secrets::sha256_hex;
use crate::server::Server;
use crate::spans::Noted;

/// Who asks, by the token of the request, otherwise by the other end of the socket.
#[derive(Clone, Debug)]
pub(super) struct Asker(pub(super) Arc<Caller>);

/// Who asks, where something is to be changed, and under which key.
#[derive(Clone, Debug)]
pub(super) struct Writer {
    caller: Arc<Caller>,
    key: Option<String>,
}

impl FromRequestParts<Arc<Server>> for Asker {
    type Rejection = Refused;

    async fn from_request_parts(parts: &mut Parts, server: &Arc<Server>) -> Result<Self, Refused> {
        let caller = identify(parts, server).await?;
        tracing::Span::current().record("caller", caller.name.as_str());
        if let Some(Noted(noted)) = parts.extensions.get() {
            // It is the same one where a handler asks twice.
            let _ = noted.set(Arc::clone(&caller));
        }
        if !server.rates.take(&caller.name) {
            let detail = "this token makes more requests a second than it may; wait a second, or send jobs in batches";
            return Err(Problem { detail: detail.to_owned(), code: "too_many_requests".to_owned(), ..busy() }.into());
        }
        Ok(Self(caller))
    }
}

impl FromRequestParts<Arc<Server>> for Writer {
    type Rejection = Refused;

    async fn from_request_parts(parts: &mut Parts, server: &Arc<Server>) -> Result<Self, Refused> {
        let Asker(caller) = Asker::from_request_parts(parts, server).await?;
        caller.may_write()?;
        Ok(Self { caller, key: idempotency_key(&parts.headers)? })
    }
}

async fn identify(parts: &Parts, server: &Server) -> Result<Arc<Caller>, Problem> {
    if let Some(given) = parts.headers.get(header::AUTHORIZATION) {
        let token = given.to_str().ok().and_then(bearer);
        let token = token.ok_or_else(|| unauthorized("the header Authorization must be `Bearer` and a token"))?;
        return server.shared.callers.holder(&server.handle, token).await;
    }
    match parts.extensions.get::<Peer>() {
        Some(Peer::Local(caller)) => Ok(Arc::clone(caller)),
        Some(Peer::Remote) | None => Err(unauthorized("this needs a token: send the header `Authorization: Bearer …`")),
    }
}

/// The scheme's name is not case-sensitive (RFC 9110, 11.1).
fn bearer(given: &str) -> Option<&str> {
    let (scheme, token) = given.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}

fn unauthorized(detail: &str) -> Problem {
    problem(StatusCode::UNAUTHORIZED, "unauthorized", detail)
}

/// Characters of an idempotency key.
const LONGEST_KEY: usize = 255;

fn idempotency_key(headers: &HeaderMap) -> Result<Option<String>, Problem> {
    let Some(given) = headers.get("idempotency-key") else { return Ok(None) };
    let key = given.as_bytes();
    if key.is_empty() || key.len() > LONGEST_KEY || !key.iter().all(u8::is_ascii_graphic) {
        let detail = format!("the header Idempotency-Key has 1 to {LONGEST_KEY} visible ASCII characters");
        let field = Some("Idempotency-Key".to_owned());
        return Err(Problem { field, ..problem(StatusCode::BAD_REQUEST, "invalid_key", detail) });
    }
    Ok(Some(String::from_utf8_lossy(key).into_owned()))
}

impl Writer {
    pub(super) fn caller(&self) -> Caller {
        (*self.caller).clone()
    }

    /// The idempotency key, which holds for one caller and one request.
    pub(super) fn key(&self, method: &str, path: &str, body: &[u8]) -> Option<Key> {
        let key = self.key.as_ref()?;
        let mut asked = Vec::with_capacity(method.len() + path.len() + body.len() + 2);
        for part in [method.as_bytes(), b"\n", path.as_bytes(), b"\n", body] {
            asked.extend_from_slice(part);
        }
        Some(Key { key: sha256_hex(format!("{}\n{key}", self.caller.name).as_bytes()), request: sha256_hex(&asked) })
    }

    /// # Errors
    /// When only an operator may do it.
    pub(super) fn is_operator(&self) -> Result<(), Problem> {
        needs_operator(&self.caller)
    }
}

impl Writer {
    /// Whether they may see the jobs of a tenant.
    pub(super) fn sees(&self, tenant: &str) -> bool {
        self.caller.sees(tenant)
    }
}

impl Asker {
    pub(super) fn caller(&self) -> Caller {
        (*self.0).clone()
    }

    /// # Errors
    /// When only an operator may do it.
    pub(super) fn is_operator(&self) -> Result<(), Problem> {
        needs_operator(&self.0)
    }

    /// # Errors
    /// When the answer would show jobs of other tenants.
    pub(super) fn sees_everything(&self) -> Result<(), Problem> {
        match self.0.access {
            Access::Operator | Access::Reader => Ok(()),
            Access::Member(_) | Access::Job { .. } => Err(forbidden(&self.0, "`operator` or `reader`")),
        }
    }
}

fn needs_operator(caller: &Caller) -> Result<(), Problem> {
    match caller.access {
        Access::Operator => Ok(()),
        _ => Err(forbidden(caller, "`operator`")),
    }
}

fn forbidden(caller: &Caller, needed: &str) -> Problem {
    let has = match &caller.access {
        Access::Operator => "`operator`".to_owned(),
        Access::Reader => "`reader`".to_owned(),
        Access::Member(tenant) => format!("`member` of tenant `{tenant}`"),
        Access::Job { job, .. } => format!("that of job {job}"),
    };
    let detail = format!("this needs the role {needed}; `{}` has the role {has}", caller.name);
    problem(StatusCode::FORBIDDEN, "forbidden", detail)
}

/// Whom jobs of a token run as: a name, or a number.
///
/// # Errors
/// When it is no user's name.
pub(super) fn user(text: &str) -> Result<offtake_workload::User, Problem> {
    let wrong = text.is_empty() || text.len() > 32 || text.starts_with('-');
    if wrong || !text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-$".contains(&byte)) {
        let detail = "a user is named by 1 to 32 letters, digits, `.`, `_`, `-` or `$`, or by a number";
        return Err(Problem {
            field: Some("user".to_owned()),
            ..problem(StatusCode::UNPROCESSABLE_ENTITY, "invalid_user", detail)
        });
    }
    Ok(text.parse().map_or_else(|_| offtake_workload::User::Name(text.to_owned()), offtake_workload::User::Id))
}

/// The name of a token, or of a tenant in one.
///
/// # Errors
/// When it is none.
pub(super) fn name(field: &str, text: &str) -> Result<(), Problem> {
    if text.is_empty() || text.len() > 128 || text.trim() != text || text.chars().any(char::is_control) {
        let detail = format!("`{field}` has 1 to 128 bytes, no control characters and no spaces around it");
        return Err(Problem {
            field: Some(field.to_owned()),
            ..problem(StatusCode::UNPROCESSABLE_ENTITY, "invalid_name", detail)
        });
    }
    Ok(())
}

/// What a role means, checked.
///
/// # Errors
/// When it names no tenant.
pub(super) fn role(role: &Role) -> Result<(), Problem> {
    match role {
        Role::Operator | Role::Reader => Ok(()),
        Role::Member { tenant } => name("role.member.tenant", tenant),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn users_are_names_or_numbers_and_nothing_else() {
        assert_eq!(user("1001"), Ok(offtake_workload::User::Id(1001)));
        assert_eq!(user("ada"), Ok(offtake_workload::User::Name("ada".to_owned())));
        for wrong in ["", "a b", "-x", "a/b", "a\n", "ä", &"x".repeat(33)] {
            assert!(user(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn keys_are_visible_characters() {
        let of = |value: &[u8]| {
            let mut headers = HeaderMap::new();
            headers.insert("idempotency-key", axum::http::HeaderValue::from_bytes(value).expect("a header's value"));
            idempotency_key(&headers)
        };
        assert_eq!(of(b"a-1").expect("a key"), Some("a-1".to_owned()));
        for wrong in [&b""[..], b"a b", b"\xff", &[b'x'; 256]] {
            assert!(of(wrong).is_err(), "{wrong:?}");
        }
    }
}
