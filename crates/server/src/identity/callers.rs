//! Who holds a token.

use std::sync::Arc;
use std::time::Duration;

use axum::http::StatusCode;
use offtake_protocol::rest::Problem;

use super::remembered::Remembered;
use crate::core::{Access, Caller};
use crate::problem::problem;
use crate::run_loop::Handle;
use crate::secrets::sha256_hex;

/// Holders of tokens, by the digest of the token.
///
/// The core is asked once a second for each token that is in use, so that one that expires ends within a second. One
/// that is revoked ends at once. Tokens of jobs end with an attempt, and are asked for each time.
#[derive(Debug)]
pub(crate) struct Callers {
    known: Remembered<String, Arc<Caller>>,
}

/// Longer than any token.
const LONGEST_TOKEN: usize = 256;

impl Callers {
    pub(crate) fn new() -> Self {
        Self { known: Remembered::new(Duration::from_secs(1), 10_000) }
    }

    /// Tokens may hold no more.
    pub(crate) fn forget(&self) {
        self.known.forget();
    }

    /// # Errors
    /// When nobody holds the token, or the core cannot be asked.
    pub(crate) async fn holder(&self, handle: &Handle, token: &str) -> Result<Arc<Caller>, Problem> {
        if token.is_empty() || token.len() > LONGEST_TOKEN {
            return Err(unknown_token());
        }
        let digest = sha256_hex(token.as_bytes());
        let edition = match self.known.get(&digest) {
            Ok(caller) => return Ok(caller),
            Err(edition) => edition,
        };
        let asked = token.to_owned();
        let found = handle.ask(move |core| core.authenticate(&asked)).await?;
        let caller = Arc::new(found.ok_or_else(unknown_token)?);
        if !matches!(caller.access, Access::Job { .. }) {
            self.known.put(digest, Arc::clone(&caller), edition);
        }
        Ok(caller)
    }
}

fn unknown_token() -> Problem {
    problem(
        StatusCode::UNAUTHORIZED,
        "unknown_token",
        "this token is not known, was revoked or has expired; ask an operator for another",
    )
}
