//! Who may do what, and who may see what.

use offtake_protocol::rest::{JobPage, NodeView, Role, TokenMade, TokenRequest, TokenView};
use serde_json::{Value, json};

use crate::support::{Folder, job, now_ms, refused, start, submit, until};

#[tokio::test]
async fn nothing_but_the_server_itself_is_open_without_a_token() {
    let folder = Folder::new();
    let server = start(folder.configuration()).await;
    let nobody = server.nobody();
    for open in ["/v1/health", "/v1/version", "/v1/openapi.json"] {
        let _: Value = nobody.get(open).await.expect(open);
    }
    for closed in [
        "/v1/jobs",
        "/v1/jobs/1",
        "/v1/jobs/1/why",
        "/v1/jobs/1/logs",
        "/v1/nodes",
        "/v1/fleet",
        "/v1/events",
        "/metrics",
        "/v1/tokens",
        "/v1/jobs/1/steps/0",
    ] {
        let problem = refused(nobody.get::<Value>(closed).await);
        assert_eq!(problem.status, 401, "{closed}");
    }
    for closed in [
        "/v1/jobs",
        "/v1/jobs/batch",
        "/v1/jobs/1/cancel",
        "/v1/what-if",
        "/v1/defrag",
        "/v1/tokens",
        "/v1/join-tokens",
    ] {
        let problem = refused(nobody.post::<Value>(closed, None, &json!({})).await);
        assert_eq!(problem.status, 401, "{closed}");
    }
    for wrong in ["", "ot_", "ot_0000", "oj_1_1_00", &"x".repeat(4000)] {
        let problem = refused(server.with(wrong).get::<Value>("/v1/jobs").await);
        assert_eq!(problem.status, 401, "{wrong}");
    }
    server.stop().await;
}

#[tokio::test]
async fn the_first_start_makes_one_operators_token_that_only_the_owner_can_read() {
    use std::os::unix::fs::PermissionsExt;
    let folder = Folder::new();
    let server = start(folder.configuration()).await;
    let (path, token) = (server.ready.operator_token.clone(), server.operator_token.clone());
    for secret in [&path, &path.with_file_name("secret")] {
        let mode = std::fs::metadata(secret).expect("a file").permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{}", secret.display());
    }
    server.stop().await;
    let journal = std::fs::read(folder.path().join("data/journal/journal.sqlite")).expect("the journal");
    assert!(!journal.windows(token.len()).any(|part| part == token.as_bytes()), "the token stands in the journal");
    let server = start(folder.configuration()).await;
    assert_eq!(server.operator_token, token, "the second start makes no other");
    let _: JobPage = server.operator().get("/v1/jobs").await.expect("it still holds");
    server.stop().await;
}

#[tokio::test]
async fn a_member_sees_its_own_tenants_jobs_and_no_others() {
    let folder = Folder::new();
    let server = start(folder.configuration()).await;
    let (ada, bob) = (server.member_of("ada").await, server.member_of("bob").await);
    let (hers, his) = (submit(&ada, &job("hers")).await.id, submit(&bob, &job("his")).await.id);
    let absent = refused(ada.get::<Value>("/v1/jobs/99999").await);
    for path in ["", "/why", "/logs", "/steps/0"] {
        let problem = refused(ada.get::<Value>(&format!("/v1/jobs/{his}{path}")).await);
        assert_eq!((problem.status, &problem.code), (404, &absent.code), "{path}");
    }
    for path in ["cancel", "hold", "release", "requeue"] {
        let problem = refused(ada.post::<Value>(&format!("/v1/jobs/{his}/{path}"), None, &json!({})).await);
        assert_eq!((problem.status, &problem.code), (404, &absent.code), "{path}");
    }
    for path in ["/v1/jobs?all=true", "/v1/jobs?all=true&tenant=bob", "/v1/jobs?all=true&name=his"] {
        let page: JobPage = ada.get(path).await.expect("a page");
        assert!(page.jobs.iter().all(|job| job.id == hers), "{path}");
    }
    let other = json!({"command": ["true"], "tenant": "bob"});
    let problem = refused(ada.post::<Value>("/v1/jobs", None, &other).await);
    assert!((400..500).contains(&problem.status), "a member submits for another tenant: {problem:?}");
    server.stop().await;
}

#[tokio::test]
async fn roles_end_where_they_should() {
    let folder = Folder::new();
    let server = start(folder.configuration()).await;
    server.agent("n1").await.exchange().await.expect("orders");
    let member = server.member_of("ada").await;
    let reader = server.client_of("reader", Role::Reader).await;
    let id = submit(&member, &job("one")).await.id;
    let _: Value = reader.get(&format!("/v1/jobs/{id}")).await.expect("a reader sees everything");
    for client in [&member, &reader] {
        for (path, body) in [
            ("/v1/nodes/n1/drain", json!({"reason": "broken"})),
            ("/v1/nodes/n1/resume", json!({})),
            ("/v1/tokens", json!({"name": "x", "role": "operator"})),
            ("/v1/join-tokens", json!({})),
        ] {
            assert_eq!(refused(client.post::<Value>(path, None, &body).await).status, 403, "{path}");
        }
        assert_eq!(refused(client.get::<Value>("/v1/tokens").await).status, 403);
        assert_eq!(refused(client.delete("/v1/tokens/operator").await).status, 403);
    }
    assert_eq!(refused(reader.post::<Value>("/v1/jobs", None, &job("no")).await).status, 403);
    assert_eq!(refused(reader.post::<Value>(&format!("/v1/jobs/{id}/cancel"), None, &json!({})).await).status, 403);
    assert_eq!(refused(member.post::<Value>("/v1/what-if", None, &json!({})).await).status, 403);

    let drained: NodeView =
        server.operator().post("/v1/nodes/n1/drain", None, &json!({"reason": "a fan"})).await.expect("drained");
    assert_eq!(drained.reason.as_deref(), Some("a fan"));
    let _: NodeView = server.operator().post("/v1/nodes/n1/resume", None, &json!({})).await.expect("resumed");
    server.stop().await;
}

#[tokio::test]
async fn a_token_that_is_revoked_holds_no_more_and_one_that_expires_neither() {
    let folder = Folder::new();
    let server = start(folder.configuration()).await;
    let member = server.member_of("ada").await;
    let _: JobPage = member.get("/v1/jobs").await.expect("it holds");
    let tokens: Vec<TokenView> = server.operator().get("/v1/tokens").await.expect("the tokens");
    assert_eq!(tokens.iter().map(|token| token.name.as_str()).collect::<Vec<_>>(), ["member of ada", "operator"]);
    server.operator().delete("/v1/tokens/member%20of%20ada").await.expect("revoked");
    assert_eq!(refused(member.get::<JobPage>("/v1/jobs").await).status, 401);
    assert_eq!(refused(server.operator().delete("/v1/tokens/member%20of%20ada").await).status, 404);

    let soon =
        TokenRequest { name: "short".to_owned(), role: Role::Reader, user: None, expires_ms: Some(now_ms() + 300) };
    let made: TokenMade = server.operator().post("/v1/tokens", None, &soon).await.expect("a token");
    let client = server.with(&made.token);
    until("the token expires", async || client.get::<JobPage>("/v1/jobs").await.is_err()).await;
    assert_eq!(refused(client.get::<JobPage>("/v1/jobs").await).status, 401);
    server.stop().await;
}
