//! Jobs, one a line.

use offtake_protocol::rest::{JobState, JobView};

use super::figures::{milli, since, tier};
use crate::terminal::{Align, listing, shortened};

/// What is said where there is nothing to list.
pub const NONE: &str = "No job waits or runs. 'offtake jobs --all' lists those that are over too.\n";
/// What is said where no job at all is found.
pub const NONE_AT_ALL: &str = "There is no such job.\n";

const COLUMNS: [(&str, Align); 9] = [
    ("job", Align::Right),
    ("name", Align::Left),
    ("tenant", Align::Left),
    ("tier", Align::Left),
    ("workers", Align::Right),
    ("chips", Align::Right),
    ("state", Align::Left),
    ("for", Align::Right),
    ("where or why", Align::Left),
];

/// A table of jobs as they stand at `now_ms`.
pub fn jobs(jobs: &[JobView], now_ms: i64, width: Option<usize>) -> String {
    let rows: Vec<Vec<String>> = jobs.iter().map(|job| row(job, now_ms)).collect();
    listing(&COLUMNS, &rows, width)
}

fn row(job: &JobView, now_ms: i64) -> Vec<String> {
    vec![
        name(job),
        job.name.clone(),
        job.tenant.clone(),
        tier(job.tier).to_owned(),
        job.workers.to_string(),
        milli(job.chip_milli),
        job.state.word().to_owned(),
        how_long(job, now_ms),
        place_or_reason(job),
    ]
}

/// The job as people name it.
pub fn name(job: &JobView) -> String {
    job.array.map_or_else(|| job.id.to_string(), |place| format!("{}_{}", place.id, place.index))
}

/// How long it has waited, or has run.
fn how_long(job: &JobView, now_ms: i64) -> String {
    let from = job.started_ms.unwrap_or(job.submitted_ms);
    match job.state {
        JobState::Pending | JobState::Held | JobState::Starting => since(job.submitted_ms, now_ms),
        JobState::Running | JobState::Stopping => since(from, now_ms),
        JobState::Finished | JobState::Failed | JobState::Cancelled => {
            job.started_ms.map_or_else(|| "–".to_owned(), |from| since(from, job.ended_ms.unwrap_or(now_ms)))
        }
    }
}

/// Where a job runs; why one does not.
fn place_or_reason(job: &JobView) -> String {
    let runs = matches!(job.state, JobState::Starting | JobState::Running | JobState::Stopping);
    match (&job.reason, runs) {
        (Some(reason), false) => reason.clone(),
        _ => nodes(&job.nodes),
    }
}

/// The first nodes, and how many more.
pub fn nodes(nodes: &[String]) -> String {
    const SHOWN: usize = 3;
    let first = nodes.iter().take(SHOWN).map(|node| shortened(node, 40)).collect::<Vec<_>>().join(" ");
    match nodes.len().saturating_sub(SHOWN) {
        0 => first,
        more => format!("{first} and {more} more"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::show::samples;

    #[test]
    fn every_state_in_a_table() {
        let listed = samples::jobs();
        insta::assert_snapshot!(jobs(&listed, samples::NOW, None));
    }

    #[test]
    fn every_state_in_80_columns() {
        let text = jobs(&samples::jobs(), samples::NOW, Some(80));
        assert!(text.lines().all(|line| line.chars().count() <= 80), "{text}");
        insta::assert_snapshot!(text);
    }
}
