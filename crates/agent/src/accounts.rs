//! The accounts of the node's operating system.

use std::collections::BTreeMap;
use std::ffi::CString;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use nix::unistd::{Uid, User as SystemUser, geteuid, getgrouplist};
use offtake_protocol::agent::TaskRefusal;
use offtake_workload::User;

use crate::environment::Account;
use crate::supervisor::Credentials;

/// How long an account is remembered; a directory service may take long to ask.
const REMEMBERED: Duration = Duration::from_secs(60);
/// How long looking one up may take.
const LIMIT: Duration = Duration::from_secs(10);
/// The most accounts that are remembered.
const MOST: usize = 10_000;

/// An account, and what a process needs to run as it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Person {
    pub account: Account,
    /// None for whoever runs the agent, where that is not root.
    pub credentials: Option<Credentials>,
}

/// Accounts that were looked up.
#[derive(Debug, Default)]
pub(crate) struct Accounts {
    known: Mutex<BTreeMap<String, (Person, Instant)>>,
}

impl Accounts {
    /// Looks up whom a job runs as. An agent that is not root runs only its own user's jobs.
    pub async fn find(&self, user: &User) -> Result<Person, TaskRefusal> {
        let key = name_of(user);
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner).get(&key).cloned();
        if let Some((person, at)) = known
            && at.elapsed() < REMEMBERED
        {
            return Ok(person);
        }
        let wanted = user.clone();
        let looked_up = tokio::time::timeout(LIMIT, tokio::task::spawn_blocking(move || look_up(&wanted))).await;
        let person = match looked_up {
            Ok(Ok(found)) => found?,
            Ok(Err(error)) => return Err(refusal(format!("the user {key} cannot be looked up: {error}"), true)),
            Err(_) => return Err(refusal(format!("the user {key} could not be looked up in {LIMIT:?}"), true)),
        };
        let mut all = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if all.len() >= MOST {
            all.clear();
        }
        all.insert(key, (person.clone(), Instant::now()));
        Ok(person)
    }
}

fn name_of(user: &User) -> String {
    match user {
        User::Name(name) => format!("`{name}`"),
        User::Id(id) => format!("number {id}"),
    }
}

fn refusal(reason: String, node_fault: bool) -> TaskRefusal {
    TaskRefusal { reason, node_fault }
}

fn look_up(user: &User) -> Result<Person, TaskRefusal> {
    let found = match user {
        User::Name(name) => SystemUser::from_name(name),
        User::Id(id) => SystemUser::from_uid(Uid::from_raw(*id)),
    };
    let key = name_of(user);
    let found = found
        .map_err(|error| refusal(format!("the user {key} cannot be looked up: {error}"), true))?
        .ok_or_else(|| refusal(format!("there is no user {key} on this node"), false))?;
    let own = geteuid();
    if !own.is_root() && found.uid != own {
        let reason = format!("the agent runs as user {own} and is not root, so it cannot run work as {}", found.name);
        return Err(refusal(reason, false));
    }
    let credentials = if own.is_root() { Some(credentials(&found)?) } else { None };
    let account = Account {
        uid: found.uid.as_raw(),
        gid: found.gid.as_raw(),
        name: found.name,
        home: found.dir,
        shell: found.shell,
    };
    Ok(Person { account, credentials })
}

fn credentials(user: &SystemUser) -> Result<Credentials, TaskRefusal> {
    let fault = |error: String| refusal(format!("the groups of {} cannot be looked up: {error}", user.name), true);
    let name = CString::new(user.name.as_bytes()).map_err(|error| fault(error.to_string()))?;
    let groups = getgrouplist(&name, user.gid).map_err(|error| fault(error.to_string()))?;
    Ok(Credentials {
        uid: user.uid.as_raw(),
        gid: user.gid.as_raw(),
        groups: groups.into_iter().map(nix::unistd::Gid::as_raw).collect(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn whoever_runs_the_test_is_known_by_number_and_name() {
        let accounts = Accounts::default();
        let by_id = accounts.find(&User::Id(geteuid().as_raw())).await.expect("there");
        let by_name = accounts.find(&User::Name(by_id.account.name.clone())).await.expect("there");
        assert_eq!(by_id, by_name);
        assert_eq!(by_id.credentials.is_some(), geteuid().is_root());
    }

    #[tokio::test]
    async fn a_user_that_is_not_there_is_the_jobs_fault() {
        let refusal = Accounts::default().find(&User::Name("no-such-user".to_owned())).await.expect_err("refused");
        assert_eq!(refusal.reason, "there is no user `no-such-user` on this node");
        assert!(!refusal.node_fault);
    }
}
