//! `offtake events`, and the reader of the stream of events.

use bytes::Bytes;
use clap::Args;
use futures_util::{Stream, StreamExt};
use offtake_client::ClientError;
use offtake_protocol::rest::{EventQuery, EventView, Health};

use super::Common;
use super::follow::Pauses;
use crate::connection::{Connection, with_query};
use crate::show::events::event;
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

/// Events shown where nobody says from where.
const SHOWN: u64 = 50;

pub async fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let connection = arguments.common.open()?;
    let after = match arguments.after {
        Some(after) => after,
        None => connection.get::<Health>("/v1/health").await?.sequence.saturating_sub(SHOWN),
    };
    follow(&connection, after, arguments.follow, &mut |seen| match arguments.common.json {
        true => print(&format!("{}\n", serde_json::to_string(seen)?)),
        false => print(&event(seen)),
    })
    .await
}

/// Hands on each event after one, once; a server that goes away and comes back is waited for. Ends with the last event
/// when nothing that comes later is wanted.
///
/// # Errors
/// When the server stays away, or the events are not taken.
pub async fn follow(
    connection: &Connection,
    mut after: u64,
    follow: bool,
    take: &mut impl FnMut(&EventView) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let mut pauses = Pauses::new();
    loop {
        let query = EventQuery { after: Some(after), follow: Some(follow) };
        let lines = connection.lines(&with_query("/v1/events", &query)).await?;
        let ended_well = read(lines, &mut |event| {
            pauses = Pauses::new();
            after = after.max(event.sequence);
            take(event)
        })
        .await?;
        if ended_well && !follow {
            return Ok(());
        }
        pauses.pause().await;
    }
}

/// Reads server-sent events; whether the stream ended by itself.
async fn read(
    lines: impl Stream<Item = Result<Bytes, ClientError>>,
    take: &mut impl FnMut(&EventView) -> anyhow::Result<()>,
) -> anyhow::Result<bool> {
    let mut lines = std::pin::pin!(lines);
    let mut data = String::new();
    while let Some(line) = lines.next().await {
        let Ok(line) = line else { return Ok(false) };
        let line = String::from_utf8_lossy(&line);
        let line = line.trim_end_matches('\r');
        if let Some(part) = line.strip_prefix("data:") {
            data.push_str(part.strip_prefix(' ').unwrap_or(part));
            data.push('\n');
        } else if line.is_empty() && !data.is_empty() {
            let event = serde_json::from_str(&std::mem::take(&mut data))
                .map_err(|error| ClientError::Answer(error.to_string()))?;
            take(&event)?;
        }
    }
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sequences(text: &str) -> anyhow::Result<Vec<u64>> {
        let lines = futures_util::stream::iter(text.lines().map(|line| Ok(Bytes::from(line.to_owned()))));
        let mut seen = Vec::new();
        crate::connection::block_on(async {
            read(lines, &mut |event| {
                seen.push(event.sequence);
                Ok(())
            })
            .await
        })?;
        Ok(seen)
    }

    #[test]
    fn events_are_read_from_the_stream() {
        let text = ": hello\n\nid: 7\nevent: fact\ndata: {\"sequence\":7,\"at_ms\":1,\ndata: \"kind\":\"a\",\"text\":\"b\"}\n\n\
                    data:{\"sequence\":8,\"at_ms\":1,\"kind\":\"a\",\"text\":\"b\"}\r\n\r\ndata: {\"sequence\":9";
        assert_eq!(sequences(text).expect("they are events"), [7, 8], "what has not ended is none");
        assert!(sequences("data: 7\n\n").is_err());
    }
}
