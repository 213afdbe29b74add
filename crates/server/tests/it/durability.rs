//! What is acknowledged stays; what cannot be recorded is not acknowledged.

use offtake_protocol::agent::{TaskPhase, TaskReport, Want};
use offtake_protocol::rest::{Health, JobPage, JobState, Submitted};
use offtake_server::Limits;
use serde_json::Value;

use crate::support::{Folder, job, now_ms, refused, start, state, submit, try_start, until};

#[tokio::test]
async fn a_restart_keeps_every_job_with_and_without_a_snapshot() {
    let folder = Folder::new();
    let server = start(folder.configuration()).await;
    let mut ids = Vec::new();
    for number in 0..5 {
        ids.push(submit(&server.operator(), &job(&format!("j{number}"))).await.id);
    }
    server.stop().await;
    let snapshots = folder.path().join("data/journal/snapshots");
    assert!(std::fs::read_dir(&snapshots).expect("snapshots").count() > 0, "a stop leaves a snapshot");
    for with_snapshot in [true, false] {
        if !with_snapshot {
            std::fs::remove_dir_all(&snapshots).expect("they are disposable");
        }
        let server = start(folder.configuration()).await;
        let page: JobPage = server.operator().get("/v1/jobs").await.expect("a page");
        let mut found: Vec<u64> = page.jobs.iter().map(|job| job.id).collect();
        found.sort_unstable();
        assert_eq!(found, ids);
        ids.push(submit(&server.operator(), &job("more")).await.id);
        server.stop().await;
    }
}

#[tokio::test]
async fn a_damaged_snapshot_is_passed_over() {
    let folder = Folder::new();
    let server = start(folder.configuration()).await;
    let id = submit(&server.operator(), &job("one")).await.id;
    server.stop().await;
    for snapshot in std::fs::read_dir(folder.path().join("data/journal/snapshots")).expect("snapshots") {
        let path = snapshot.expect("a file").path();
        let mut bytes = std::fs::read(&path).expect("a snapshot");
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        std::fs::write(&path, bytes).expect("written");
    }
    let server = start(folder.configuration()).await;
    assert_eq!(state(&server.operator(), id).await, JobState::Pending);
    server.stop().await;
}

#[tokio::test]
async fn a_history_that_is_lost_is_made_again() {
    let folder = Folder::new();
    let server = start(folder.configuration()).await;
    let client = server.operator();
    let id = submit(&client, &job("one")).await.id;
    let _: Value =
        client.post(&format!("/v1/jobs/{id}/cancel"), None, &serde_json::json!({})).await.expect("cancelled");
    server.stop().await;
    for file in ["history.sqlite", "history.sqlite-wal", "history.sqlite-shm"] {
        let _ = std::fs::remove_file(folder.path().join("data/journal").join(file));
    }
    let server = start(folder.configuration()).await;
    let page: JobPage = server.operator().get("/v1/jobs?state=cancelled").await.expect("a page");
    assert_eq!(page.jobs.len(), 1);
    server.stop().await;
    let history = offtake_journal::History::open(&folder.path().join("data/journal")).expect("the history");
    assert!(history.get(id).expect("a row").is_some(), "the disk has it again");
}

#[tokio::test]
async fn a_second_server_on_the_same_folder_is_refused() {
    let folder = Folder::new();
    let server = start(folder.configuration()).await;
    let mut other = folder.configuration();
    other.socket = Some(folder.path().join("other.sock"));
    let error = try_start(other).await.err().expect("the folder is in use");
    assert!(error.to_string().contains("in use"), "{error}");
    submit(&server.operator(), &job("one")).await;
    server.stop().await;
}

#[tokio::test]
async fn a_full_disk_takes_no_jobs_loses_none_and_is_written_again_when_there_is_room() {
    let folder = Folder::new();
    let mut configuration = folder.configuration();
    configuration.limits = Limits { journal_bytes: Some(400 << 10), ..Limits::default() };
    let server = start(configuration).await;
    let client = server.operator();
    let mut acknowledged = Vec::new();
    let large =
        |number: usize| serde_json::json!({"name": format!("j{number}"), "command": ["true", "x".repeat(20_000)]});
    let problem = loop {
        let answer = client.post::<Submitted>("/v1/jobs", None, &large(acknowledged.len())).await;
        match answer {
            Ok(submitted) => acknowledged.push(submitted.id),
            Err(_) => break refused(answer),
        }
        assert!(acknowledged.len() < 1000, "the journal takes more than it may");
    };
    assert_eq!((problem.status, problem.code.as_str()), (503, "journal_unavailable"));
    // Reads go on, and show what is on disk and nothing else.
    let page: JobPage = client.get("/v1/jobs?all=true").await.expect("reads go on");
    let mut known: Vec<u64> = page.jobs.iter().map(|job| job.id).collect();
    known.sort_unstable();
    assert_eq!(known, acknowledged);
    server.stop().await;

    // With room, all goes on.
    let server = start(folder.configuration()).await;
    let client = server.operator();
    until("the server takes jobs", async || {
        client.get::<Health>("/v1/health").await.is_ok_and(|health| health.status == "ready")
    })
    .await;
    let more = submit(&client, &job("more")).await.id;
    let page: JobPage = client.get("/v1/jobs?all=true").await.expect("a page");
    assert_eq!(page.jobs.len(), acknowledged.len() + 1);
    assert!(!acknowledged.contains(&more));
    server.stop().await;
}

/// Has the journal refuse every batch, until it is lifted.
fn refuse_batches(folder: &Folder, refuse: bool) {
    let file = folder.path().join("data/journal/journal.sqlite");
    let connection = rusqlite::Connection::open(file).expect("the journal's file");
    connection.busy_timeout(std::time::Duration::from_secs(10)).expect("set");
    let change = if refuse {
        "CREATE TRIGGER refuse BEFORE INSERT ON batch BEGIN SELECT RAISE(ABORT, 'refused by the test'); END"
    } else {
        "DROP TRIGGER refuse"
    };
    connection.execute_batch(change).expect("changed");
}

#[tokio::test]
async fn a_journal_that_fails_and_comes_back_loses_nothing_and_doubles_nothing() {
    let folder = Folder::new();
    let server = start(folder.configuration()).await;
    let client = server.operator();
    let before = submit(&client, &job("before")).await.id;
    let mut agent = server.agent("n1").await;
    let task = agent.exchange().await.expect("orders").tasks[0].task;
    let phase = TaskPhase::Running { since_ms: now_ms() };
    agent.report.tasks = vec![TaskReport { task, phase, paused: false }];
    agent.exchange().await.expect("orders");
    refuse_batches(&folder, true);
    let problem = refused(client.post::<Submitted>("/v1/jobs", Some("k"), &job("during")).await);
    assert_eq!((problem.status, problem.code.as_str()), (503, "journal_unavailable"));
    let health: Health = client.get("/v1/health").await.expect("health");
    assert_eq!(health.status, "read_only");
    assert!(health.detail.is_some_and(|detail| detail.contains("refused by the test")));
    // The agent's lease is renewed, and its work goes on.
    let orders = agent.exchange().await.expect("orders");
    assert!(orders.lease_ms > 0);
    assert_eq!(orders.tasks.iter().map(|order| (order.task, order.want)).collect::<Vec<_>>(), [(task, Want::Run)]);
    let page: JobPage = client.get("/v1/jobs?all=true").await.expect("reads go on");
    assert_eq!(page.jobs.iter().map(|job| job.id).collect::<Vec<_>>(), [before]);
    refuse_batches(&folder, false);
    let mut accepted = None;
    until("the same key is accepted", async || {
        accepted = client.post::<Submitted>("/v1/jobs", Some("k"), &job("during")).await.ok();
        accepted.is_some()
    })
    .await;
    let health: Health = client.get("/v1/health").await.expect("health");
    assert_eq!((health.status.as_str(), health.detail), ("ready", None));
    let again: Submitted = client.post("/v1/jobs", Some("k"), &job("during")).await.expect("accepted once");
    assert_eq!(Some(again), accepted);
    let page: JobPage = client.get("/v1/jobs?all=true").await.expect("a page");
    assert_eq!(page.jobs.len(), 2);
    server.stop().await;
}
