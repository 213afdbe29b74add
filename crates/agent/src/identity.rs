//! Who the agent is to the server: a key of its own, and the name under which it has joined.
//!
//! The key is made once, on the node, and never leaves it. The server knows its public half from the join, and takes
//! only requests that are signed with it.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair};
use offtake_protocol::agent::{Joined, signed_text};
use serde::{Deserialize, Serialize};

const KEY_FILE: &str = "agent.key";
const JOINED_FILE: &str = "joined.json";

/// The agent's key.
#[derive(Debug)]
pub struct Identity {
    key: Ed25519KeyPair,
}

/// A file of the agent's own cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("cannot use {path}: {reason}")]
pub struct IdentityError {
    path: PathBuf,
    reason: String,
}

fn fault(path: &Path, reason: impl ToString) -> IdentityError {
    IdentityError { path: path.to_owned(), reason: reason.to_string() }
}

impl Identity {
    /// Reads the key in the data folder, or makes one.
    ///
    /// # Errors
    /// When it cannot be read or written, or is no key.
    pub fn open(data: &Path) -> Result<Self, IdentityError> {
        let path = data.join(KEY_FILE);
        let bytes = match fs::read(&path) {
            Ok(bytes) => bytes,
            Err(missing) if missing.kind() == io::ErrorKind::NotFound => {
                let document = Ed25519KeyPair::generate_pkcs8v1(&aws_lc_rs::rand::SystemRandom::new())
                    .map_err(|_| fault(&path, "the system gives no random numbers"))?;
                write_durably(&path, document.as_ref(), 0o600).map_err(|error| fault(&path, error))?;
                document.as_ref().to_vec()
            }
            Err(other) => return Err(fault(&path, other)),
        };
        let key = Ed25519KeyPair::from_pkcs8(&bytes).map_err(|_| {
            fault(
                &path,
                "it is no Ed25519 key in PKCS#8; remove it and `joined.json`, and join anew with another token",
            )
        })?;
        Ok(Self { key })
    }

    /// The public half, in hexadecimal.
    pub fn public_key(&self) -> String {
        hexadecimal(self.key.public_key().as_ref())
    }

    /// Signs a request; in hexadecimal.
    pub fn sign(&self, method: &str, path: &str, time_ms: i64, body: &[u8]) -> String {
        let body = hexadecimal(digest(&SHA256, body).as_ref());
        hexadecimal(self.key.sign(&signed_text(method, path, time_ms, &body)).as_ref())
    }
}

/// What is remembered of a join.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Membership {
    /// The server that was joined.
    pub server: String,
    /// What it said.
    pub joined: Joined,
    /// The fingerprint by which its certificate is known, where nobody else vouches for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fingerprint: Option<String>,
}

impl Membership {
    /// What is remembered; none when the node has not joined a server yet.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn read(data: &Path) -> Result<Option<Self>, IdentityError> {
        let path = data.join(JOINED_FILE);
        match fs::read(&path) {
            Ok(bytes) => serde_json::from_slice(&bytes).map(Some).map_err(|error| fault(&path, error)),
            Err(missing) if missing.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(other) => Err(fault(&path, other)),
        }
    }

    /// Remembers it.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn write(&self, data: &Path) -> Result<(), IdentityError> {
        let path = data.join(JOINED_FILE);
        let bytes = serde_json::to_vec(self).map_err(|error| fault(&path, error))?;
        write_durably(&path, &bytes, 0o600).map_err(|error| fault(&path, error))
    }
}

/// Writes a file that is whole or not there, also after the power was lost.
pub(crate) fn write_durably(path: &Path, bytes: &[u8], mode: u32) -> io::Result<()> {
    let beside = path.with_extension("new");
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(mode).open(&beside)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(&beside, path)?;
    match path.parent() {
        Some(folder) => fs::File::open(folder)?.sync_all(),
        None => Ok(()),
    }
}

fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use aws_lc_rs::signature::{ED25519, UnparsedPublicKey};

    use super::*;
    use crate::testing::Folder;

    fn bytes(hexadecimal: &str) -> Vec<u8> {
        let digits = hexadecimal.as_bytes().chunks(2);
        digits.map(|two| u8::from_str_radix(std::str::from_utf8(two).expect("ASCII"), 16).expect("digits")).collect()
    }

    #[test]
    fn the_key_stays_the_same_and_signs() {
        let folder = Folder::new("identity");
        let first = Identity::open(folder.path()).expect("made");
        let second = Identity::open(folder.path()).expect("read");
        assert_eq!(first.public_key(), second.public_key());
        let mode = fs::metadata(folder.path().join(KEY_FILE)).expect("there").permissions().mode();
        assert_eq!(mode & 0o777, 0o600);

        let signature = second.sign("POST", "/v1/agents/exchange", 17, b"{}");
        let body = hexadecimal(digest(&SHA256, b"{}").as_ref());
        let text = signed_text("POST", "/v1/agents/exchange", 17, &body);
        let key = UnparsedPublicKey::new(&ED25519, bytes(&first.public_key()));
        key.verify(&text, &bytes(&signature)).expect("the signature holds");
    }

    #[test]
    fn a_broken_key_is_refused_with_a_way_out() {
        let folder = Folder::new("broken-key");
        folder.write(KEY_FILE, "not a key");
        let error = Identity::open(folder.path()).expect_err("refused").to_string();
        assert!(error.contains(KEY_FILE) && error.contains("join anew"), "{error}");
    }

    #[test]
    fn a_join_is_remembered() {
        let folder = Folder::new("joined");
        assert_eq!(Membership::read(folder.path()).expect("readable"), None);
        let joined = Joined { node: "gpu-1".to_owned(), lease_ms: 30_000 };
        let membership = Membership { server: "unix:/run/o.sock".to_owned(), joined, fingerprint: None };
        membership.write(folder.path()).expect("written");
        assert_eq!(Membership::read(folder.path()).expect("readable"), Some(membership));
    }
}
