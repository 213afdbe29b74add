//! Tokens as they are made: the secret goes to whoever asked, its digest into the journal.

use axum::http::StatusCode;
use offtake_protocol::rest::{JoinTokenMade, JoinTokenRequest, Problem, Role, TokenMade};
use offtake_units::{Duration, Timestamp};
use offtake_workload::User;

use crate::clock::wall;
use crate::core::Command;
use crate::fact::Event;
use crate::problem::problem;
use crate::secrets::{JOIN_TOKEN, TOKEN, new_token, sha256_hex};

/// How long a join token holds when nothing is said, and the longest that it may.
const JOIN_TOKEN_HOLDS: Duration = Duration::DAY;
const LONGEST_HOLD_MS: i64 = 365 * 86_400_000;

/// A token to make.
pub(crate) fn make(name: String, role: Role, user: Option<User>, expires: Option<Timestamp>) -> Command {
    let token = new_token(TOKEN);
    let digest = sha256_hex(token.as_bytes());
    let made = Box::new(Event::TokenMade { name: name.clone(), digest, role, user, expires });
    Command::MakeToken { made, answer: TokenMade { name, token } }
}

/// A join token to make. The fingerprint of the server's own certificate goes with it.
///
/// # Errors
/// When it would hold no time at all, or too long.
pub(crate) fn make_join(asked: JoinTokenRequest, fingerprint: Option<&str>) -> Result<Command, Problem> {
    let holds = asked.valid_ms.unwrap_or(JOIN_TOKEN_HOLDS.as_millis());
    if !(1..=LONGEST_HOLD_MS).contains(&holds) {
        let detail = format!("a join token holds 1 to {LONGEST_HOLD_MS} ms, a year, not {holds}");
        return Err(Problem {
            field: Some("valid_ms".to_owned()),
            ..problem(StatusCode::UNPROCESSABLE_ENTITY, "invalid", detail)
        });
    }
    let expires = wall().saturating_add(Duration::from_millis(holds));
    let secret = new_token(JOIN_TOKEN);
    let digest = sha256_hex(secret.as_bytes());
    let token = fingerprint.map_or_else(|| secret.clone(), |fingerprint| format!("{secret}.{fingerprint}"));
    let made = Box::new(Event::JoinTokenMade { digest, node: asked.node, expires });
    Ok(Command::MakeJoinToken { made, answer: JoinTokenMade { token, expires_ms: expires.as_millis() } })
}
