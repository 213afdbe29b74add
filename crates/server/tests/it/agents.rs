//! Agents: they join once, sign what they say, and speak only of their own node.

use std::time::Duration;

use futures_util::StreamExt;
use offtake_protocol::agent::{EnergySource, Exit, LogPiece, Stream, TaskEnd, TaskPhase, TaskReport, Want, WorkerEnd};
use offtake_protocol::rest::{JobDetail, JobState, JoinTokenMade, NodeState, NodeView};
use offtake_server::Configuration;
use serde_json::{Value, json};

use crate::support::{FakeAgent, Folder, job, now_ms, refused, start, state, submit, until};

fn ended(energy_mj: u64) -> TaskPhase {
    let now = now_ms();
    TaskPhase::Ended(TaskEnd {
        refused: None,
        workers: vec![WorkerEnd { rank: 0, exit: Exit::Status(0), started_ms: now - 10, ended_ms: now }],
        energy_mj,
        energy_source: EnergySource::Processor,
        cpu_ms: None,
        peak_memory_kib: None,
    })
}

#[tokio::test]
async fn a_node_joins_and_runs_a_job_to_its_end() {
    let folder = Folder::new();
    // Without a fleet file, the fleet is made of the nodes that join.
    let configuration = Configuration { fleet: None, ..folder.configuration() };
    let server = start(configuration.clone()).await;
    let client = server.operator();
    let mut agent = server.agent("n1").await;
    let orders = agent.exchange().await.expect("orders");
    assert!(orders.lease_ms > 0 && orders.tasks.is_empty());
    let node: NodeView = client.get("/v1/nodes/n1").await.expect("the node");
    assert_eq!(node.state, NodeState::Idle);

    // The agent waits; the job comes; the answer comes with it.
    agent.report.wait_ms = 20_000;
    let (orders, id) = tokio::join!(agent.exchange(), async {
        tokio::time::sleep(Duration::from_millis(50)).await;
        submit(&client, &job("one")).await.id
    });
    let order = orders.expect("orders").tasks.into_iter().next().expect("a task");
    assert_eq!((order.task.job, order.want), (id, Want::Run));
    assert!(order.spec.is_some());
    agent.report.wait_ms = 0;
    for phase in [TaskPhase::Running { since_ms: now_ms() }, ended(1000)] {
        agent.report.tasks = vec![TaskReport { task: order.task, phase, paused: false }];
        agent.exchange().await.expect("orders");
    }
    assert_eq!(state(&client, id).await, JobState::Finished);
    // The end is on disk, so the task is left out.
    until("the task is forgotten", async || {
        let orders = agent.exchange().await.expect("orders");
        if orders.tasks.is_empty() {
            agent.report.tasks.clear();
        }
        orders.tasks.is_empty()
    })
    .await;
    let detail: JobDetail = client.get(&format!("/v1/jobs/{id}")).await.expect("the job");
    assert_eq!(detail.attempts.len(), 1);
    assert_eq!(detail.job.nodes, ["n1"]);
    server.stop().await;

    let server = start(configuration).await;
    assert_eq!(state(&server.operator(), id).await, JobState::Finished);
    server.stop().await;
}

#[tokio::test]
async fn a_join_token_is_good_for_one_node_once() {
    let folder = Folder::new();
    let server = start(folder.configuration()).await;
    let made: JoinTokenMade =
        server.operator().post("/v1/join-tokens", None, &json!({"node": "n1"})).await.expect("a token");
    let other = FakeAgent::join(server.nobody(), "n2", made.token.clone()).await;
    assert!((400..500).contains(&refused(other.map(|_| ())).status), "another node joins");
    FakeAgent::join(server.nobody(), "n1", made.token.clone()).await.expect("the node joins");
    let again = FakeAgent::join(server.nobody(), "n1", made.token).await;
    assert!((400..500).contains(&refused(again.map(|_| ())).status), "it joins again");
    let forged = FakeAgent::join(server.nobody(), "n3", "on_forged".to_owned()).await;
    assert!((400..500).contains(&refused(forged.map(|_| ())).status));
    let wrong = refused(server.operator().post::<Value>("/v1/join-tokens", None, &json!({"valid_ms": -1})).await);
    assert_eq!((wrong.status, wrong.field.as_deref()), (422, Some("valid_ms")));
    server.stop().await;
}

#[tokio::test]
async fn only_the_nodes_own_key_is_believed() {
    let folder = Folder::new();
    let server = start(folder.configuration()).await;
    let (one, mut two) = (server.agent("n1").await, server.agent("n2").await);
    two.node = "n1".to_owned();
    let problem = refused(two.exchange().await);
    assert_eq!((problem.status, problem.code.as_str()), (401, "unknown_agent"), "one node speaks for another");
    two.node = "n9".to_owned();
    assert_eq!(refused(two.exchange().await).code, "unknown_agent");

    let body = serde_json::to_vec(&one.report).expect("a report");
    let path = "/v1/agents/exchange";
    for minutes in [-6, 6] {
        let stale = one.signed(path, now_ms() + minutes * 60_000, body.clone());
        assert_eq!(refused(one.client().send(stale).await).code, "stale_signature");
    }
    let other_path = one.signed("/v1/agents/logs/1", now_ms(), body.clone());
    let (client, request) = other_path.build_split();
    let mut request = request.expect("a request");
    request.url_mut().set_path(path);
    let response = client.execute(request).await.expect("an answer");
    assert_eq!(response.status(), 401, "a signature holds for one path");
    let unsigned = one.client().request(reqwest::Method::POST, path).body(body);
    assert_eq!(refused(one.client().send(unsigned).await).code, "not_signed");
    server.stop().await;
}

#[tokio::test]
async fn a_node_that_joins_anew_has_a_new_key_at_once() {
    let folder = Folder::new();
    let mut configuration = folder.configuration();
    configuration.lease = offtake_units::Duration::from_millis(500);
    let server = start(configuration).await;
    let mut old = server.agent("n1").await;
    old.exchange().await.expect("orders");
    // While the old one may run work there is no other of this name.
    let token = server.ready.join_token(None).await.expect("a join token");
    let early = FakeAgent::join(server.nobody(), "n1", token.clone()).await;
    assert_eq!(refused(early.map(|_| ())).code, "node_exists");
    let mut joined = None;
    until("its lease is over", async || {
        joined = FakeAgent::join(server.nobody(), "n1", token.clone()).await.ok();
        joined.is_some()
    })
    .await;
    let mut new = joined.expect("it has joined");
    new.exchange().await.expect("orders");
    assert_eq!(refused(old.exchange().await).code, "unknown_agent");
    server.stop().await;
}

#[tokio::test]
async fn output_comes_through_the_server_while_the_job_runs() {
    let folder = Folder::new();
    let server = start(folder.configuration()).await;
    let client = server.operator();
    let mut agent = server.agent("n1").await;
    let id = submit(&client, &job("one")).await.id;
    let order = agent.exchange().await.expect("orders").tasks.into_iter().next().expect("a task");
    agent.report.tasks =
        vec![TaskReport { task: order.task, phase: TaskPhase::Running { since_ms: now_ms() }, paused: false }];
    agent.exchange().await.expect("orders");

    let request = client.request(reqwest::Method::GET, &format!("/v1/jobs/{id}/logs?follow=true&rank=0"));
    let response = client.send(request).await.expect("the stream begins");
    let mut lines = Box::pin(client.lines(response));
    let asked = agent.exchange().await.expect("orders").logs.into_iter().next().expect("a request for output");
    assert_eq!((asked.task, asked.follow, asked.rank), (order.task, true, Some(0)));
    let path = format!("/v1/agents/logs/{}", asked.id);
    let piece = |text: &str| {
        let piece = LogPiece { rank: 0, stream: Stream::Output, offset: 0, text: text.to_owned() };
        serde_json::to_vec(&piece).expect("a piece")
    };
    agent.post(&path, piece("hello\n")).await.expect("taken");
    let line = lines.next().await.expect("a line").expect("the stream goes on");
    let read: LogPiece = serde_json::from_slice(&line).expect("a piece");
    assert_eq!(read.text, "hello\n");
    assert_eq!(refused(agent.post(&path, b"{\"rank\": 1}".to_vec()).await).status, 422);
    agent.post(&format!("{path}?last=true"), Vec::new()).await.expect("the end");
    assert!(lines.next().await.is_none(), "the stream ends with the last node's output");
    assert!(agent.exchange().await.expect("orders").logs.is_empty());

    // A reader that goes away is told of.
    let request = client.request(reqwest::Method::GET, &format!("/v1/jobs/{id}/logs?follow=true"));
    let response = client.send(request).await.expect("the stream begins");
    let asked = agent.exchange().await.expect("orders").logs.into_iter().next().expect("a request for output");
    drop(response);
    let path = format!("/v1/agents/logs/{}", asked.id);
    until("the agent is told", async || {
        agent
            .post(&path, piece("more\n"))
            .await
            .is_err_and(|error| error.problem().is_some_and(|problem| problem.status == 410))
    })
    .await;
    until("the request is gone", async || agent.exchange().await.expect("orders").logs.is_empty()).await;

    let none = client.request(reqwest::Method::GET, "/v1/jobs/999/logs");
    assert_eq!(refused(client.send(none).await).status, 404);
    server.stop().await;
}
