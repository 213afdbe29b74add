//! TLS.

use std::net::SocketAddr;

use offtake_client::{Client, ClientError, Fingerprint, Server, Trust};
use offtake_protocol::rest::Health;
use offtake_server::Certificate;

use crate::support::{FakeAgent, Folder, job, start, submit};

/// Every address, so that TLS is needed, with a port of the system's choice.
fn everywhere() -> Option<SocketAddr> {
    Some("0.0.0.0:0".parse().expect("an address"))
}

#[tokio::test]
async fn beyond_the_machine_only_tls_is_spoken_and_the_fingerprint_tells_the_server() {
    let folder = Folder::new();
    let mut configuration = folder.configuration();
    configuration.listen = everywhere();
    let server = start(configuration.clone()).await;
    let fingerprint = server.ready.fingerprint.clone().expect("a certificate of its own");
    assert!(server.ready.url.as_ref().expect("a URL").starts_with("https://"));
    submit(&server.operator(), &job("one")).await;

    let url = server.ready.url.clone().expect("a URL");
    let client = |url: String, trust| Client::new(Server { url, token: None, trust }).expect("a client");
    let wrong = Fingerprint::parse(&"0".repeat(64)).expect("a fingerprint");
    let other = client(url.clone(), Trust::Fingerprint(wrong)).get::<Health>("/v1/health").await;
    assert!(matches!(other, Err(ClientError::Unreachable { .. })), "{other:?}");
    let plain = client(url.replace("https", "http"), Trust::System).get::<Health>("/v1/health").await;
    assert!(plain.is_err(), "plain HTTP is answered: {plain:?}");

    let token = server.ready.join_token(None).await.expect("a join token");
    assert!(token.ends_with(&format!(".{fingerprint}")), "the token carries the fingerprint");
    let mut agent = FakeAgent::join(server.nobody(), "n1", token).await.expect("the node joins");
    agent.exchange().await.expect("orders over TLS");
    server.stop().await;

    let server = start(configuration).await;
    assert_eq!(server.ready.fingerprint, Some(fingerprint), "the certificate stays");
    server.stop().await;
}

#[tokio::test]
async fn a_renewed_certificate_is_shown_without_a_restart_and_an_unfit_one_is_not() {
    let folder = Folder::new();
    let (chain, key) = (folder.path().join("chain.pem"), folder.path().join("key.pem"));
    let renew = || {
        let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).expect("a certificate");
        std::fs::write(&chain, made.cert.pem()).expect("written");
        std::fs::write(&key, made.signing_key.serialize_pem()).expect("written");
        Trust::Fingerprint(Fingerprint::of(made.cert.der()))
    };
    let first = renew();
    let mut configuration = folder.configuration();
    configuration.certificate = Certificate::Given { chain: chain.clone(), key: key.clone() };
    let server = start(configuration).await;
    let url = server.ready.url.clone().expect("a URL");
    let client = |trust| Client::new(Server { url: url.clone(), token: None, trust }).expect("a client");
    let health = async |client: &Client| client.get::<Health>("/v1/health").await;
    let open = client(first.clone());
    health(&open).await.expect("the first certificate is shown");

    let second = renew();
    assert!(health(&client(second.clone())).await.is_err(), "nobody has said that it was renewed");
    assert!(server.ready.reload_certificate().expect("both fit"));
    health(&client(second.clone())).await.expect("the second certificate is shown");
    assert!(health(&client(first)).await.is_err(), "the first certificate is still shown");
    health(&open).await.expect("a connection that is open goes on");

    let kept = std::fs::read(&key).expect("read");
    renew();
    std::fs::write(&key, kept).expect("written");
    server.ready.reload_certificate().expect_err("the key is not that of the certificate");
    std::fs::write(&chain, "").expect("written");
    server.ready.reload_certificate().expect_err("there is no certificate");
    health(&client(second)).await.expect("the second certificate stays");
    server.stop().await;
}
