//! The document of the API, and the API itself.

use std::path::PathBuf;

use serde_json::Value;

use crate::support::{Folder, start};

fn checked_in() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../docs/openapi.json")
}

/// `OFFTAKE_UPDATE=1 cargo test -p offtake-server openapi` writes it anew.
#[test]
fn the_document_that_is_checked_in_is_that_of_the_code() {
    let mut document = offtake_server::openapi().to_pretty_json().expect("JSON");
    document.push('\n');
    if std::env::var_os("OFFTAKE_UPDATE").is_some() {
        std::fs::write(checked_in(), &document).expect("written");
    }
    let known = std::fs::read_to_string(checked_in()).expect("docs/openapi.json");
    assert!(known == document, "docs/openapi.json is not that of the code: run this test with OFFTAKE_UPDATE=1");
}

#[test]
fn every_operation_says_who_may_ask_and_what_may_be_answered() {
    let document: Value = serde_json::to_value(offtake_server::openapi()).expect("JSON");
    for (path, operations) in document["paths"].as_object().expect("paths") {
        for (method, operation) in operations.as_object().expect("operations") {
            let responses = operation["responses"].as_object().expect("responses");
            assert!(responses.keys().any(|status| status.starts_with('2')), "{method} {path}");
            assert!(operation["summary"].is_string(), "{method} {path}");
            let open = operation["security"] == serde_json::json!([{}]);
            let is_open = ["/v1/health", "/v1/version", "/v1/openapi.json", "/v1/agents/join"].contains(&path.as_str());
            assert_eq!(open, is_open, "{method} {path}");
            assert!(is_open || responses.contains_key("401"), "{method} {path}");
            for parameter in operation["parameters"].as_array().into_iter().flatten() {
                let name = parameter["name"].as_str().expect("a name");
                assert!(parameter["description"].is_string(), "{method} {path} {name}");
                let of_path = path.contains(&format!("{{{name}}}"));
                assert_eq!(parameter["in"] == "path", of_path, "{method} {path} {name}");
                assert_eq!(parameter["required"] == true, of_path, "{method} {path} {name}");
            }
        }
    }
}

#[tokio::test]
async fn every_documented_path_is_served_and_figures_are_shown() {
    let folder = Folder::new();
    let server = start(folder.configuration()).await;
    let client = server.operator();
    let document: Value = server.nobody().get("/v1/openapi.json").await.expect("the document");
    for (path, operations) in document["paths"].as_object().expect("paths") {
        let concrete =
            path.replace("{id}", "1").replace("{step}", "1").replace("{request}", "1").replace("{name}", "n");
        for method in operations.as_object().expect("operations").keys() {
            let method: reqwest::Method = method.to_uppercase().parse().expect("a method");
            let response = client.request(method.clone(), &concrete).send().await.expect("an answer");
            let status = response.status().as_u16().to_string();
            let documented = &operations[method.as_str().to_lowercase()]["responses"];
            assert!(documented.get(&status).is_some(), "{method} {path} answers {status}");
        }
    }
    let response = client.request(reqwest::Method::GET, "/metrics").send().await.expect("the figures");
    let text = response.text().await.expect("text");
    for name in [
        "offtake_build_info{version=",
        "offtake_jobs{state=\"pending\"}",
        "offtake_queue_chips{tier=\"spot\"} 0",
        "offtake_lease_expired_total 0",
        "offtake_reservations{state=\"active\"} 0",
        "offtake_reserved_nodes 0",
        "offtake_journal_sequence ",
        "offtake_journal_commit_seconds_bucket",
        "offtake_placement_pass_seconds_count",
        "offtake_http_requests_total{route=\"/v1/jobs/{id}\",method=\"GET\",status=\"404\"}",
        "# EOF",
    ] {
        assert!(text.contains(name), "{name} is missing in\n{text}");
    }
    server.stop().await;
}
