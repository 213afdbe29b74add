//! `offtake events`, and the reader of the stream of events.

use bytes::Bytes;
use std::time::Duration;

use clap::Args;
use futures_util::{Stream, StreamExt};
use offtake_client::ClientError;
use offtake_protocol::rest::Health;

use super::Common;
use super::follow::Pauses;
use crate::connection::Connection;
use crate::show::events::{Fact, fact};
use crate::terminal::print;

#[derive(Args)]
pub struct Arguments {
    /// Go on with what happens from now on
    #[arg(long, short)]
    follow: bool,
    /// Begin after the event of this number [default: the last 50]
    #[arg(long, value_name = "N")]
    after: Option<u64>,
    #[command(flatten)]
    common: Common,
}

/// Facts shown where nobody says from where.
const SHOWN: u64 = 50;
/// How long a stream is silent when all that is on disk has been told. A member of a tenant does not see the last one.
const SILENCE: Duration = Duration::from_millis(500);

pub async fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let connection = arguments.common.open()?;
    let last = connection.get::<Health>("/v1/health").await?.sequence;
    let after = arguments.after.unwrap_or(last.saturating_sub(SHOWN));
    let until = (!arguments.follow).then_some(last);
    follow(&connection, after, until, &mut |seen| match arguments.common.json {
        true => print(&format!("{}\n", serde_json::json!({ "sequence": seen.sequence, "fact": seen.record }))),
        false => print(&fact(seen)),
    })
    .await
}

/// Hands on each fact after one, once, up to `until`; a server that goes away and comes back is waited for.
///
/// # Errors
/// When the server stays away, or the facts are not taken.
pub async fn follow(
    connection: &Connection,
    mut after: u64,
    until: Option<u64>,
    take: &mut impl FnMut(&Fact) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let mut pauses = Pauses::new();
    while until.is_none_or(|until| after < until) {
        let lines = connection.lines(&format!("/v1/events?after={after}")).await?;
        let mut facts = std::pin::pin!(facts(lines));
        loop {
            let next = match until {
                None => facts.next().await,
                Some(_) => match tokio::time::timeout(SILENCE, facts.next()).await {
                    Ok(next) => next,
                    Err(_) => return Ok(()),
                },
            };
            let Some(fact) = next else { break };
            let fact = fact?;
            if until.is_some_and(|until| fact.sequence > until) {
                return Ok(());
            }
            pauses = Pauses::new();
            after = after.max(fact.sequence);
            take(&fact)?;
            if until == Some(fact.sequence) {
                return Ok(());
            }
        }
        pauses.pause().await;
    }
    Ok(())
}

/// Reads server-sent events until the connection breaks.
fn facts(lines: impl Stream<Item = Result<Bytes, ClientError>>) -> impl Stream<Item = Result<Fact, ClientError>> {
    let mut sequence = 0;
    let mut data = String::new();
    lines.take_while(|line| std::future::ready(line.is_ok())).filter_map(move |line| {
        let line = line.unwrap_or_default();
        let line = String::from_utf8_lossy(&line);
        let line = line.trim_end_matches('\r');
        let value = |name: &str| line.strip_prefix(name).map(|value| value.strip_prefix(' ').unwrap_or(value));
        let mut fact = None;
        if let Some(id) = value("id:") {
            sequence = id.parse().unwrap_or(sequence);
        } else if let Some(part) = value("data:") {
            data.push_str(part);
            data.push('\n');
        } else if line.is_empty() && !data.is_empty() {
            let record = serde_json::from_str(&std::mem::take(&mut data));
            fact = Some(
                record.map(|record| Fact { sequence, record }).map_err(|error| ClientError::Answer(error.to_string())),
            );
        }
        std::future::ready(fact)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sequences(text: &str) -> Vec<Option<u64>> {
        let lines = futures_util::stream::iter(text.lines().map(|line| Ok(Bytes::from(line.to_owned()))));
        let read = async { anyhow::Ok(facts(lines).map(|fact| fact.ok().map(|fact| fact.sequence)).collect().await) };
        crate::connection::block_on(read).expect("there is an event loop")
    }

    #[test]
    fn facts_are_read_from_the_stream() {
        let text = ": facts follow\n\nid: 7\ndata: {\"at\":1,\ndata: \"event\":{}}\n\n:\n\nid:8\ndata:{}\r\n\r\nid: 9\ndata: {";
        assert_eq!(sequences(text), [Some(7), Some(8)], "what has not ended is none");
        assert_eq!(sequences("id: 1\ndata: {\n\n"), [None]);
    }
}
