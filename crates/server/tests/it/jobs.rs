//! Jobs: submitted, read, changed.

use offtake_protocol::rest::{JobPage, JobState, JobView, Submitted, SubmittedBatch, Why};
use serde_json::{Value, json};

use crate::support::{Folder, job, refused, start, state, submit};

#[tokio::test]
async fn a_job_is_submitted_read_and_cancelled_over_socket_and_tcp() {
    let folder = Folder::new();
    let server = start(folder.configuration()).await;
    for client in [server.over_socket(), server.operator()] {
        let submitted = submit(&client, &job("one")).await;
        assert_eq!(submitted.count, 1);
        assert_eq!(state(&client, submitted.id).await, JobState::Pending);
        let why: Why = client.get(&format!("/v1/jobs/{}/why", submitted.id)).await.expect("why it waits");
        assert!(!why.summary.is_empty());
        let page: JobPage = client.get("/v1/jobs?name=one").await.expect("a page");
        assert_eq!(page.jobs.iter().map(|job| job.id).collect::<Vec<_>>(), [submitted.id]);
        let path = format!("/v1/jobs/{}/cancel", submitted.id);
        let view: JobView = client.post(&path, None, &json!({})).await.expect("it is cancelled");
        assert_eq!(view.state, JobState::Cancelled);
        let again = refused(client.post::<Value>(&path, None, &json!({})).await);
        assert_eq!((again.status, again.code.as_str()), (409, "job_is_over"));
    }
    server.stop().await;
}

#[tokio::test]
async fn a_job_is_held_and_released() {
    let folder = Folder::new();
    let server = start(folder.configuration()).await;
    let client = server.operator();
    let id = submit(&client, &job("one")).await.id;
    let held: JobView = client.post(&format!("/v1/jobs/{id}/hold"), None, &json!({})).await.expect("held");
    assert_eq!(held.state, JobState::Held);
    let released: JobView = client.post(&format!("/v1/jobs/{id}/release"), None, &json!({})).await.expect("released");
    assert_eq!(released.state, JobState::Pending);
    let requeued = refused(client.post::<Value>(&format!("/v1/jobs/{id}/requeue"), None, &json!({})).await);
    assert_eq!(requeued.status, 409);
    server.stop().await;
}

#[tokio::test]
async fn a_repetition_under_one_key_gets_the_same_answer_and_no_second_job() {
    let folder = Folder::new();
    let server = start(folder.configuration()).await;
    let client = server.operator();
    let first: Submitted = client.post("/v1/jobs", Some("k1"), &job("one")).await.expect("accepted");
    let again: Submitted = client.post("/v1/jobs", Some("k1"), &job("one")).await.expect("accepted once");
    assert_eq!(first, again);
    let other = refused(client.post::<Submitted>("/v1/jobs", Some("k1"), &job("two")).await);
    assert_eq!(other.code, "key_reused");
    let page: JobPage = client.get("/v1/jobs?all=true").await.expect("a page");
    assert_eq!(page.jobs.len(), 1);

    // A key is its owner's.
    let member = server.member_of("research").await;
    let theirs: Submitted = member.post("/v1/jobs", Some("k1"), &job("one")).await.expect("another's key");
    assert_ne!(theirs.id, first.id);

    // It outlives a restart.
    server.stop().await;
    let server = start(folder.configuration()).await;
    let again: Submitted = server.operator().post("/v1/jobs", Some("k1"), &job("one")).await.expect("accepted once");
    assert_eq!(first, again);
    server.stop().await;
}

#[tokio::test]
async fn a_batch_is_accepted_whole_or_not_at_all() {
    let folder = Folder::new();
    let server = start(folder.configuration()).await;
    let client = server.operator();
    let jobs: Vec<Value> = (0..100).map(|number| job(&format!("j{number}"))).collect();
    let batch: SubmittedBatch = client.post("/v1/jobs/batch", None, &json!({"jobs": jobs})).await.expect("accepted");
    let ids: Vec<u64> = batch.jobs.iter().map(|job| job.id).collect();
    assert_eq!(ids, (ids[0]..ids[0] + 100).collect::<Vec<_>>());

    let wrong = json!({"jobs": [job("good"), {"name": "bad", "command": ["true"], "duration": "a while"}]});
    let problem = refused(client.post::<Value>("/v1/jobs/batch", None, &wrong).await);
    assert_eq!((problem.status, problem.index), (422, Some(1)));
    let page: JobPage = client.get("/v1/jobs?all=true&name=good").await.expect("a page");
    assert!(page.jobs.is_empty());
    let none = refused(client.post::<Value>("/v1/jobs/batch", None, &json!({"jobs": []})).await);
    assert_eq!(none.status, 422);
    server.stop().await;
}

#[tokio::test]
async fn pages_show_every_job_once_also_those_that_only_the_disk_has() {
    let folder = Folder::new();
    let server = start(folder.configuration()).await;
    let client = server.operator();
    let jobs: Vec<Value> = (0..25).map(|number| job(&format!("j{number}"))).collect();
    let batch: SubmittedBatch = client.post("/v1/jobs/batch", None, &json!({"jobs": jobs})).await.expect("accepted");
    for over in batch.jobs.iter().step_by(2) {
        let path = format!("/v1/jobs/{}/cancel", over.id);
        let _: JobView = client.post(&path, None, &json!({})).await.expect("cancelled");
    }
    server.stop().await;
    let server = start(folder.configuration()).await;
    let client = server.operator();
    let (mut seen, mut path) = (Vec::new(), "/v1/jobs?all=true&limit=7".to_owned());
    loop {
        let page: JobPage = client.get(&path).await.expect("a page");
        seen.extend(page.jobs.iter().map(|job| job.id));
        match page.next {
            Some(next) => path = format!("/v1/jobs?all=true&limit=7&before={next}"),
            None => break,
        }
    }
    let all: Vec<u64> = batch.jobs.iter().rev().map(|job| job.id).collect();
    assert_eq!(seen, all);
    let over: JobPage = client.get("/v1/jobs?state=cancelled").await.expect("a page");
    assert_eq!(over.jobs.len(), 13);
    server.stop().await;
}
