//! Who is at the other end of a connection.

use std::collections::BTreeMap;

use nix::unistd::{Uid, User as SystemUser};
use offtake_workload::User;
use tokio::net::UnixStream;

use crate::core::{Access, Caller};

/// Who is at the other end of a connection.
#[derive(Clone, Debug)]
pub(crate) enum Peer {
    /// Someone somewhere, who needs a token.
    Remote,
    /// A user of this machine, whom the kernel names.
    Local(std::sync::Arc<Caller>),
}

/// Who is at the other end of a socket: the kernel knows.
///
/// The server's own user and root may do everything. Anyone else is a member of the tenant that the tenant map gives to
/// that user, otherwise of the tenant named like the user. Their jobs run as them.
///
/// # Errors
/// The kernel does not tell.
pub(crate) fn of_socket(stream: &UnixStream, tenants: &BTreeMap<String, User>) -> std::io::Result<Caller> {
    let uid = stream.peer_cred()?.uid();
    let name = SystemUser::from_uid(Uid::from_raw(uid)).ok().flatten().map(|user| user.name);
    Ok(caller(uid, Uid::effective().as_raw(), name, tenants))
}

fn caller(uid: u32, own: u32, name: Option<String>, tenants: &BTreeMap<String, User>) -> Caller {
    let access = if uid == own || uid == 0 {
        Access::Operator
    } else {
        let is_theirs = |user: &User| match user {
            User::Id(id) => *id == uid,
            User::Name(of) => name.as_ref() == Some(of),
        };
        let mapped = tenants.iter().find(|(_, user)| is_theirs(user)).map(|(tenant, _)| tenant.clone());
        Access::Member(mapped.or_else(|| name.clone()).unwrap_or_else(|| uid.to_string()))
    };
    // A user's name may change hands, the number of a running process does not.
    Caller { name: format!("uid {uid}"), access, user: Some(User::Id(uid)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn users_of_the_machine_are_members_of_their_own_tenant() {
        let tenants =
            BTreeMap::from([("research".to_owned(), User::Name("ada".to_owned())), ("ops".to_owned(), User::Id(1002))]);
        let access = |uid, name: Option<&str>| caller(uid, 990, name.map(str::to_owned), &tenants).access;
        assert_eq!(access(990, Some("offtake")), Access::Operator);
        assert_eq!(access(0, Some("root")), Access::Operator);
        assert_eq!(access(1001, Some("ada")), Access::Member("research".to_owned()));
        assert_eq!(access(1002, None), Access::Member("ops".to_owned()));
        assert_eq!(access(1003, Some("bob")), Access::Member("bob".to_owned()));
        assert_eq!(access(1004, None), Access::Member("1004".to_owned()));
        assert_eq!(caller(1003, 990, None, &tenants).user, Some(User::Id(1003)));
    }
}
