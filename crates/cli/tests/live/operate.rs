//! What an operator does to a server that runs.

use std::path::Path;

use nix::sys::signal::{Signal, kill};
use offtake_client::Fingerprint;

use crate::host::{BINARY, Host, eventually};

/// Writes a new certificate and its key; tells its fingerprint.
fn renew(chain: &Path, key: &Path) -> Fingerprint {
    let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).expect("a certificate");
    std::fs::write(chain, made.cert.pem()).expect("written");
    std::fs::write(key, made.signing_key.serialize_pem()).expect("written");
    Fingerprint::of(made.cert.der())
}

#[test]
fn a_hangup_has_a_renewed_certificate_shown() {
    let host = Host::new("renewed");
    let (chain, key) = (host.path("chain.pem"), host.path("key.pem"));
    let first = renew(&chain, &key);
    let server = host.up(&format!("--no-agent --tls-cert {} --tls-key {}", chain.display(), key.display()));
    let (url, token) = (server.up["url"].as_str().expect("it listens").to_owned(), server.token());
    let shows = |fingerprint: Fingerprint| {
        let mut command = host.command(BINARY, &["nodes", "--json"]);
        command.env("OFFTAKE_SERVER", &url).env("OFFTAKE_TOKEN", &token);
        command.env("OFFTAKE_FINGERPRINT", fingerprint.to_string());
        command.output().expect("the command can be started").status.success()
    };
    assert!(shows(first));
    let second = renew(&chain, &key);
    kill(server.pid, Signal::SIGHUP).expect("the server runs");
    eventually("the new certificate is shown", || shows(second).then_some(()));
    assert!(!shows(first), "the old certificate is shown as well");

    std::fs::write(&key, "nothing").expect("written");
    kill(server.pid, Signal::SIGHUP).expect("the server runs");
    let log = || std::fs::read_to_string(host.path("up.log")).unwrap_or_default();
    eventually("the fault is told", || log().contains("the one so far stays").then_some(()));
    assert!(shows(second), "{}", log());
    assert_eq!(host.end(server.pid, Signal::SIGTERM), Some(0));
}
