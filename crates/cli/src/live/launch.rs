//! Submits a job, prints what it writes, and ends as it ends: what `offtake run` and `srun` outside a job share.

use std::process::ExitCode;

use offtake_protocol::rest::{Cancel, JobDetail, JobState, Submitted, Verdict};
use offtake_workload::JobFile;
use tokio::signal::unix::{SignalKind, signal};

use super::follow;
use super::output::Printer;
use crate::connection::Connection;
use crate::terminal::accent;

/// What stands before a line of a worker among several.
pub fn label(rank: u32) -> String {
    format!("{} ", accent(&format!("[{rank}]"), &std::io::stdout()))
}

/// How a job that was watched ended.
pub enum Watched {
    /// It is over.
    Over(Box<JobDetail>),
    /// Whoever watched it asked twice to leave.
    Left,
}

/// Says of a job that was accepted that it cannot end by its deadline, or that nobody knows.
pub fn say_deadline(submitted: &Submitted, who: &str) {
    if let Some(deadline) = submitted.deadline.as_ref().filter(|deadline| deadline.verdict != Verdict::Possible) {
        eprintln!("{who}note: {}", deadline.summary);
    }
}

/// Submits a job and prints what it writes until it is over. The first interrupt cancels it, the second leaves it.
///
/// # Errors
/// When it is not accepted, or the server stays away.
pub async fn launch(connection: &Connection, job: &JobFile, printer: &mut Printer) -> anyhow::Result<Watched> {
    // Before the job exists: an interrupt in between would leave it behind.
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let submitted: Submitted = connection.post("/v1/jobs", job).await?;
    say_deadline(&submitted, "");
    let id = submitted.id;
    let mut followed = std::pin::pin!(follow::job(connection, id, printer));
    let mut cancelled = false;
    loop {
        tokio::select! {
            detail = &mut followed => return Ok(Watched::Over(Box::new(detail?))),
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
        if cancelled {
            eprintln!("job {id} is left to end by itself; 'offtake job {id}' shows how it goes on");
            return Ok(Watched::Left);
        }
        eprintln!("job {id} is being cancelled; interrupt again to leave it");
        match connection.order(&format!("/v1/jobs/{id}/cancel"), &Cancel::default()).await {
            // It may have ended by itself meanwhile.
            Err(error) if !follow::is_refusal(&error) => return Err(error),
            _ => cancelled = true,
        }
    }
}

/// The status that a command ends with when its work ended so.
pub fn exit_code(detail: &JobDetail) -> ExitCode {
    /// 128 and the signal of the keyboard's interrupt.
    const CANCELLED: u8 = 130;
    match (detail.job.exit_code, detail.job.state) {
        (Some(code), _) if code != 0 => ExitCode::from(u8::try_from(code).unwrap_or(1)),
        (_, JobState::Finished) => ExitCode::SUCCESS,
        (_, JobState::Cancelled) => ExitCode::from(CANCELLED),
        _ => ExitCode::FAILURE,
    }
}

/// The status of a command that was interrupted before its work ended.
pub fn left() -> ExitCode {
    ExitCode::from(130)
}
