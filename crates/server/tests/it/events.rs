//! The stream of facts.

use std::time::Duration;

use futures_util::{Stream, StreamExt};
use offtake_client::Client;
use serde_json::Value;

use crate::support::{Folder, job, refused, start, submit};

type Event = (u64, Value);

/// The facts after one, as they come.
async fn follow(client: &Client, path: &str, last: Option<u64>) -> impl Stream<Item = Event> + use<> {
    let mut request = client.request(reqwest::Method::GET, path);
    if let Some(last) = last {
        request = request.header("last-event-id", last);
    }
    let response = client.send(request).await.expect("the stream begins");
    assert_eq!(response.headers()["content-type"], "text/event-stream");
    let lines = Box::pin(client.lines(response));
    futures_util::stream::unfold((lines, 0), |(mut lines, mut id)| async move {
        loop {
            let line = lines.next().await?.expect("the stream goes on");
            let line = String::from_utf8(line.to_vec()).expect("text");
            if let Some(given) = line.strip_prefix("id: ") {
                id = given.parse().expect("a sequence");
            }
            if let Some(data) = line.strip_prefix("data: ") {
                return Some(((id, serde_json::from_str(data).expect("a fact")), (lines, id)));
            }
        }
    })
}

async fn next(events: &mut (impl Stream<Item = Event> + Unpin)) -> Event {
    tokio::time::timeout(Duration::from_secs(20), events.next()).await.expect("in time").expect("a fact")
}

fn submitted(event: &Event) -> Option<u64> {
    event.1["event"]["engine"]["job_submitted"]["job"].as_u64()
}

#[tokio::test]
async fn facts_come_from_disk_then_live_without_a_gap_and_again_from_where_one_left() {
    let folder = Folder::new();
    let server = start(folder.configuration()).await;
    let client = server.operator();
    let first = submit(&client, &job("first")).await.id;
    let mut events = Box::pin(follow(&client, "/v1/events", None).await);
    let mut last = 0;
    let mut jobs = Vec::new();
    while jobs.len() < 4 {
        let event = next(&mut events).await;
        assert_eq!(event.0, last + 1, "no gap");
        last = event.0;
        jobs.extend(submitted(&event));
        if jobs.len() == 1 && jobs[0] == first && submitted(&event).is_some() {
            for number in 0..3 {
                submit(&client, &job(&format!("later{number}"))).await;
            }
        }
    }
    drop(events);

    let second = jobs[1];
    let mut again = Box::pin(follow(&client, "/v1/events?after=0", Some(last - 1)).await);
    assert_eq!(next(&mut again).await.0, last, "the header counts before the query");
    let mut after = Box::pin(follow(&client, "/v1/events?after=1", None).await);
    assert_eq!(next(&mut after).await.0, 2);
    assert!(second > first);
    let problem = client.request(reqwest::Method::GET, "/v1/events").header("last-event-id", "x");
    assert_eq!(refused(client.send(problem).await).status, 400);
    server.stop().await;
}

#[tokio::test]
async fn a_member_gets_facts_about_its_own_tenants_jobs_only_from_disk_and_live() {
    let folder = Folder::new();
    let server = start(folder.configuration()).await;
    let (ada, bob) = (server.member_of("ada").await, server.member_of("bob").await);
    submit(&bob, &job("his")).await;
    let hers = submit(&ada, &job("hers")).await.id;
    let mut events = Box::pin(follow(&ada, "/v1/events", None).await);
    let event = next(&mut events).await;
    assert_eq!(submitted(&event), Some(hers), "nothing of the server or of others comes before");
    submit(&bob, &job("his")).await;
    let later = submit(&ada, &job("hers")).await.id;
    loop {
        let event = next(&mut events).await;
        let text = event.1.to_string();
        assert!(!text.contains("his") && !text.contains("token"), "{text}");
        if submitted(&event) == Some(later) {
            break;
        }
    }
    server.stop().await;
}
