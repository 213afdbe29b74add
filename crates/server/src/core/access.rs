//! Who may do what: tokens, their holders, and the nodes' join tokens.

use aws_lc_rs::{constant_time, digest, hmac};
use offtake_protocol::rest::{Problem, Role, TokenView};
use offtake_units::Timestamp;
use offtake_workload::User;
use serde::{Deserialize, Serialize};

use super::Core;

/// Who asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Caller {
    /// The name of the token, or of the user at the other end of the socket.
    pub name: String,
    /// What they may do.
    pub access: Access,
    /// Whom their jobs run as; none for whom the tenant map names.
    pub user: Option<User>,
}

/// What someone may do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Access {
    /// Everything.
    Operator,
    /// The jobs of one tenant.
    Member(String),
    /// To see everything, and change nothing.
    Reader,
    /// What runs inside a job: the jobs of its tenant, and steps of the job itself.
    Job {
        /// The job.
        job: u64,
        /// Its tenant.
        tenant: String,
    },
}

impl Caller {
    /// The only tenant whose jobs they may see; none for all.
    pub fn only_tenant(&self) -> Option<&str> {
        match &self.access {
            Access::Operator | Access::Reader => None,
            Access::Member(tenant) | Access::Job { tenant, .. } => Some(tenant),
        }
    }

    /// Whether they may see the jobs of a tenant.
    pub fn sees(&self, tenant: &str) -> bool {
        self.only_tenant().is_none_or(|only| only == tenant)
    }

    /// # Errors
    /// When they may change nothing.
    pub fn may_write(&self) -> Result<(), Problem> {
        if self.access == Access::Reader {
            return Err(forbidden("this token may only read; ask an operator for one with the role `member`"));
        }
        Ok(())
    }

    /// # Errors
    /// When they are no operator.
    pub fn is_operator(&self) -> Result<(), Problem> {
        if self.access != Access::Operator {
            return Err(forbidden("only an operator may do this"));
        }
        Ok(())
    }
}

/// A token's record.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Token {
    pub name: String,
    pub role: Role,
    pub user: Option<User>,
    pub expires: Option<Timestamp>,
}

/// The record of a token that lets a node join.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct JoinToken {
    pub node: Option<String>,
    pub expires: Timestamp,
}

/// What a job's own token begins with.
const JOB_TOKEN: &str = "oj_";

impl Core {
    /// Who holds a token; none when nobody does, or it holds no more.
    pub fn authenticate(&self, token: &str) -> Option<Caller> {
        if let Some(of_job) = token.strip_prefix(JOB_TOKEN) {
            return self.holder_of_job_token(token, of_job);
        }
        let found = self.tokens.get(&sha256_hex(token.as_bytes()))?;
        if found.expires.is_some_and(|expires| expires <= self.state.now()) {
            return None;
        }
        let access = match &found.role {
            Role::Operator => Access::Operator,
            Role::Member { tenant } => Access::Member(tenant.clone()),
            Role::Reader => Access::Reader,
        };
        Some(Caller { name: found.name.clone(), access, user: found.user.clone() })
    }

    /// The token that speaks for a job while an attempt of it lasts.
    pub(crate) fn job_token(&self, job: u64, attempt: u32) -> String {
        let key = hmac::Key::new(hmac::HMAC_SHA256, &self.settings.secret);
        let tag = hmac::sign(&key, format!("job {job} attempt {attempt}").as_bytes());
        format!("{JOB_TOKEN}{job}_{attempt}_{}", hex(tag.as_ref()))
    }

    fn holder_of_job_token(&self, token: &str, of_job: &str) -> Option<Caller> {
        let mut parts = of_job.split('_');
        let job: u64 = parts.next()?.parse().ok()?;
        let attempt: u32 = parts.next()?.parse().ok()?;
        let record = self.records.get(&job).filter(|record| record.end.is_none())?;
        record.current().filter(|current| current.number == attempt && current.ended.is_none())?;
        constant_time::verify_slices_are_equal(self.job_token(job, attempt).as_bytes(), token.as_bytes()).ok()?;
        let tenant = record.spec.tenant.clone();
        let user = record.spec.program.as_ref().and_then(|program| program.user.clone());
        Some(Caller { name: format!("job {job}"), access: Access::Job { job, tenant }, user })
    }

    /// The tokens, by name.
    pub fn tokens(&self) -> Vec<TokenView> {
        let mut tokens: Vec<TokenView> = self
            .tokens
            .values()
            .map(|token| TokenView {
                name: token.name.clone(),
                role: token.role.clone(),
                user: token.user.as_ref().map(show_user),
                expires_ms: token.expires.map(Timestamp::as_millis),
            })
            .collect();
        tokens.sort_by(|a, b| a.name.cmp(&b.name));
        tokens
    }

    pub(super) fn note_token(
        &mut self,
        name: &str,
        digest: &str,
        role: &Role,
        user: Option<&User>,
        expires: Option<Timestamp>,
    ) {
        let token = Token { name: name.to_owned(), role: role.clone(), user: user.cloned(), expires };
        self.tokens.insert(digest.to_owned(), token);
    }

    pub(super) fn note_revoked(&mut self, name: &str) {
        self.tokens.retain(|_, token| token.name != name);
    }

    pub(super) fn note_join_token(&mut self, digest: &str, node: Option<&String>, expires: Timestamp) {
        let now = self.state.now();
        self.join_tokens.retain(|_, token| token.expires > now);
        self.join_tokens.insert(digest.to_owned(), JoinToken { node: node.cloned(), expires });
    }
}

/// A user as people read it.
pub(super) fn show_user(user: &User) -> String {
    match user {
        User::Name(name) => name.clone(),
        User::Id(id) => id.to_string(),
    }
}

/// SHA-256 in hexadecimal.
pub fn sha256_hex(bytes: &[u8]) -> String {
    hex(digest::digest(&digest::SHA256, bytes).as_ref())
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

pub(super) fn problem(status: u16, code: &str, detail: impl Into<String>) -> Problem {
    Problem { status, code: code.to_owned(), detail: detail.into(), field: None, index: None }
}

pub(super) fn forbidden(detail: &str) -> Problem {
    problem(403, "forbidden", detail)
}

/// The same for a job that is not there and for one that is another tenant's.
pub(super) fn unknown_job(job: u64) -> Problem {
    problem(404, "unknown_job", format!("there is no job {job}"))
}
