//! Follows a job: its output attempt by attempt, until it is over.

use std::time::Duration;

use bytes::Bytes;
use futures_util::{Stream, StreamExt};
use offtake_client::ClientError;
use offtake_protocol::agent::LogPiece;
use offtake_protocol::rest::{JobDetail, JobState, LogQuery};

use super::output::Printer;
use crate::connection::{Connection, with_query};
use crate::terminal::{Waiting, printable};

/// Pauses between questions whose answer has not changed: short at first, so that a short job costs no time.
pub struct Pauses(Duration);

impl Pauses {
    const FIRST: Duration = Duration::from_millis(2);
    const LONGEST: Duration = Duration::from_millis(500);

    pub const fn new() -> Self {
        Self(Self::FIRST)
    }

    /// Waits, each time longer.
    pub async fn pause(&mut self) {
        tokio::time::sleep(self.0).await;
        self.0 = (self.0 * 3 / 2).min(Self::LONGEST);
    }
}

/// Whether a stream of output ended by itself.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Ended {
    Whole,
    Broken,
}

/// Prints what a job writes until it is over. A server that goes away and comes back is waited for.
///
/// # Errors
/// When the server stays away, or the output cannot be printed.
pub async fn job(connection: &Connection, id: u64, printer: &mut Printer) -> anyhow::Result<JobDetail> {
    let path = format!("/v1/jobs/{id}");
    let mut printed = 0;
    let mut pauses = Pauses::new();
    let mut note: Option<(String, Waiting)> = None;
    loop {
        let detail: JobDetail = connection.get(&path).await?;
        let (state, attempts) = (detail.job.state, detail.job.attempts);
        if attempts > printed {
            note = None;
            let ended = attempt(connection, &detail, printed + 1, printer).await?;
            if ended == Some(Ended::Whole) {
                printed += 1;
                printer.restart(&mut std::io::stdout(), &mut std::io::stderr())?;
                pauses = Pauses::new();
                continue;
            }
            if ended.is_none() && state.is_over() {
                printed = attempts;
            }
            printer.resume();
        } else if state.is_over() {
            return Ok(detail);
        }
        if matches!(state, JobState::Pending | JobState::Held) {
            let reason = detail.job.reason.as_deref().map(|reason| format!(": {}", printable(reason)));
            let text = format!("job {id} is {}{}", state.word(), reason.unwrap_or_default());
            if note.as_ref().is_none_or(|(said, _)| *said != text) {
                note = Some((text.clone(), Waiting::for_(text)));
            }
        }
        pauses.pause().await;
    }
}

/// Prints what an attempt writes until it has ended; none where its output cannot be had.
async fn attempt(
    connection: &Connection,
    detail: &JobDetail,
    number: u32,
    printer: &mut Printer,
) -> anyhow::Result<Option<Ended>> {
    let id = detail.job.id;
    let query = LogQuery { attempt: Some(number), follow: Some(true), ..LogQuery::default() };
    let lines = match connection.lines(&with_query(&format!("/v1/jobs/{id}/logs"), &query)).await {
        Ok(lines) => lines,
        Err(error) if is_refusal(&error) => {
            if detail.job.state.is_over() {
                eprintln!("the output of attempt {number} cannot be read: {error}");
            }
            return Ok(None);
        }
        Err(error) => return Err(error),
    };
    if pieces(lines, printer).await? == Ended::Broken {
        return Ok(Some(Ended::Broken));
    }
    // A server that stops in good order ends the answer too, long before the attempt.
    let after: JobDetail = connection.get(&format!("/v1/jobs/{id}")).await?;
    let is_over = after.job.state.is_over() || after.job.attempts > number;
    let has_ended = after.attempts.iter().any(|attempt| attempt.number == number && attempt.ended_ms.is_some());
    Ok(Some(if is_over || has_ended { Ended::Whole } else { Ended::Broken }))
}

/// Prints a step's output to its end, over as many connections as it takes.
///
/// # Errors
/// When the server stays away or refuses, or the output cannot be printed.
pub async fn step(connection: &Connection, path: &str, printer: &mut Printer) -> anyhow::Result<()> {
    while pieces(connection.lines(path).await?, printer).await? == Ended::Broken {
        printer.resume();
    }
    printer.finish(&mut std::io::stdout(), &mut std::io::stderr())?;
    Ok(())
}

/// Prints pieces as they come.
async fn pieces(lines: impl Stream<Item = Result<Bytes, ClientError>>, printer: &mut Printer) -> anyhow::Result<Ended> {
    let mut lines = std::pin::pin!(lines);
    while let Some(line) = lines.next().await {
        match line {
            Err(_) => return Ok(Ended::Broken),
            // What keeps a connection alive says nothing.
            Ok(line) if line.is_empty() => {}
            Ok(line) => {
                let piece: LogPiece =
                    serde_json::from_slice(&line).map_err(|error| ClientError::Answer(error.to_string()))?;
                printer.piece(&piece, &mut std::io::stdout(), &mut std::io::stderr())?;
            }
        }
    }
    Ok(Ended::Whole)
}

/// Whether the server answered, and said no.
pub fn is_refusal(error: &anyhow::Error) -> bool {
    error.downcast_ref::<ClientError>().is_some_and(|error| error.problem().is_some())
}
