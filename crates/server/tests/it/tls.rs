//! TLS.

use std::net::SocketAddr;

use offtake_client::{Client, ClientError, Server, Trust};
use offtake_protocol::rest::Health;

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
    let wrong = offtake_client::Fingerprint::parse(&"0".repeat(64)).expect("a fingerprint");
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
