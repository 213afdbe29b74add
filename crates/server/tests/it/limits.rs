//! Bad input: clear errors, nothing lost, nothing leaked.

use offtake_protocol::rest::{Health, JobPage, Problem};
use offtake_server::Limits;
use serde_json::{Value, json};

use crate::support::{Folder, Running, job, refused, start, submit};

/// Sends a body as it is.
async fn raw(server: &Running, path: &str, kind: &str, body: impl Into<reqwest::Body>) -> (u16, Problem) {
    let request = server.operator().request(reqwest::Method::POST, path).header("content-type", kind).body(body);
    let response = request.send().await.expect("an answer");
    let status = response.status().as_u16();
    assert_eq!(response.headers()["content-type"], "application/problem+json", "{path}");
    (status, response.json().await.expect("a problem"))
}

#[tokio::test]
async fn malformed_bodies_are_told_what_is_wrong_with_them() {
    let folder = Folder::new();
    let server = start(folder.configuration()).await;
    let json_type = "application/json";
    for (body, status, field) in [
        ("", 400, None),
        ("{", 400, None),
        ("[]", 422, None),
        ("[\"a\"]", 422, None),
        ("{} {}", 400, None),
        ("\u{0}", 400, None),
        (r#"{"command": "true"}"#, 422, Some("command")),
        (r#"{"command": ["true"], "gangs": [{"workers": "two"}]}"#, 422, Some("gangs[0].workers")),
        (r#"{"command": ["true"], "nonsense": 1}"#, 422, Some("nonsense")),
        (r#"{"command": ["true"], "duration": "a while"}"#, 422, Some("duration")),
    ] {
        let (answered, problem) = raw(&server, "/v1/jobs", json_type, body).await;
        assert_eq!((answered, problem.field.as_deref()), (status, field), "{body}: {problem:?}");
        assert_eq!(problem.status, status);
    }
    let (status, _) = raw(&server, "/v1/jobs", "text/plain", r#"{"command": ["true"]}"#).await;
    assert_eq!(status, 415);
    let page: JobPage = server.operator().get("/v1/jobs?all=true").await.expect("a page");
    assert!(page.jobs.is_empty());
    server.stop().await;
}

#[tokio::test]
async fn oversized_bodies_are_refused_announced_or_not() {
    let folder = Folder::new();
    let server = start(folder.configuration()).await;
    let large = vec![b' '; (8 << 20) + 1];
    let (status, problem) = raw(&server, "/v1/jobs", "application/json", large.clone()).await;
    assert_eq!((status, problem.code.as_str()), (413, "too_large"));
    let pieces = futures_util::stream::iter(
        large.chunks(1 << 16).map(|piece| Ok::<_, std::io::Error>(piece.to_vec())).collect::<Vec<_>>(),
    );
    let (status, _) = raw(&server, "/v1/jobs", "application/json", reqwest::Body::wrap_stream(pieces)).await;
    assert_eq!(status, 413);
    let (status, _) = raw(&server, "/v1/jobs/1/cancel", "application/json", vec![b' '; (1 << 20) + 1]).await;
    assert_eq!(status, 413);
    let _: Health = server.nobody().get("/v1/health").await.expect("the server is well");
    server.stop().await;
}

#[tokio::test]
async fn unknown_paths_and_methods_are_problems_too() {
    let folder = Folder::new();
    let server = start(folder.configuration()).await;
    let client = server.operator();
    for path in ["/", "/v2/jobs", "/v1/jobs/x", "/v1/jobs/-1", "/v1/jobs/99999999999999999999", "/v1/nodes/a/b"] {
        assert_eq!(refused(client.get::<Value>(path).await).status, 404, "{path}");
    }
    let response = client.request(reqwest::Method::PUT, "/v1/jobs").send().await.expect("an answer");
    assert_eq!(response.status(), 405);
    assert_eq!(response.headers()["allow"], "GET,HEAD,POST");
    let problem: Problem = response.json().await.expect("a problem");
    assert_eq!(problem.code, "unknown_method");
    for query in ["?limit=x", "?limit=0", "?limit=10001", "?state=lost", "?nonsense=1", "?before=-1"] {
        let status = refused(client.get::<Value>(&format!("/v1/jobs{query}")).await).status;
        assert!(status == 400 || status == 422, "{query}: {status}");
    }
    server.stop().await;
}

#[tokio::test]
async fn names_lead_to_no_files() {
    let folder = Folder::new();
    let server = start(folder.configuration()).await;
    let client = server.operator();
    for name in ["..%2F..%2Fsecret", "%2Fetc%2Fpasswd", "..", "%00", "a%0Ab", "%FF"] {
        let problem = refused(client.get::<Value>(&format!("/v1/nodes/{name}")).await);
        assert!((400..500).contains(&problem.status), "{name}: {problem:?}");
        let drained = client.post::<Value>(&format!("/v1/nodes/{name}/drain"), None, &json!({"reason": "x"})).await;
        assert!((400..500).contains(&refused(drained).status), "{name}");
    }
    for name in ["../../etc", "a\u{0}b", "\n", ""] {
        let token = json!({"name": name, "role": {"member": {"tenant": name}}});
        let made = client.post::<Value>("/v1/tokens", None, &token).await;
        if name != "../../etc" {
            assert_eq!(refused(made).status, 422, "{name:?}");
        }
    }
    for query in ["step=-1", "attempt=x", "rank=..%2F..", "task=1"] {
        let status = refused(client.get::<Value>(&format!("/v1/jobs/1/logs?{query}")).await).status;
        assert_eq!(status, 400, "{query}");
    }
    server.stop().await;
}

#[tokio::test]
async fn a_caller_that_asks_too_often_is_told_when_to_come_again() {
    let folder = Folder::new();
    let mut configuration = folder.configuration();
    configuration.limits = Limits { requests_per_second: 5, ..Limits::default() };
    let server = start(configuration).await;
    let client = server.operator();
    let mut refused = 0;
    for _ in 0..50 {
        let response = client.request(reqwest::Method::GET, "/v1/fleet").send().await.expect("an answer");
        if response.status() == 429 {
            assert_eq!(response.headers()["retry-after"], "1");
            refused += 1;
        }
    }
    assert!(refused > 0, "50 requests at once are more than 5 a second");
    let _: Health = server.nobody().get("/v1/health").await.expect("others are not held up");
    server.stop().await;
}

#[tokio::test]
async fn more_jobs_than_may_wait_are_refused_and_the_rest_stay() {
    let folder = Folder::new();
    let mut configuration = folder.configuration();
    configuration.limits = Limits { jobs: 10, ..Limits::default() };
    let server = start(configuration).await;
    let client = server.operator();
    for number in 0..10 {
        submit(&client, &job(&format!("j{number}"))).await;
    }
    let response = client.request(reqwest::Method::POST, "/v1/jobs").json(&job("one more")).send().await;
    let response = response.expect("an answer");
    assert_eq!(response.status(), 429);
    assert!(response.headers().contains_key("retry-after"));
    let page: JobPage = client.get("/v1/jobs").await.expect("a page");
    assert_eq!(page.jobs.len(), 10);
    server.stop().await;
}

#[tokio::test]
async fn idempotency_keys_are_checked() {
    let folder = Folder::new();
    let server = start(folder.configuration()).await;
    let client = server.operator();
    for wrong in ["a b", &"x".repeat(256)] {
        let problem = refused(client.post::<Value>("/v1/jobs", Some(wrong), &job("one")).await);
        assert_eq!((problem.status, problem.field.as_deref()), (400, Some("Idempotency-Key")), "{wrong}");
    }
    server.stop().await;
}
