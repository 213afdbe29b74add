//! Jobs, one a line.

use offtake_protocol::rest::{JobState, JobView};

use super::figures::{milli, since, tier};
use crate::terminal::{Align, listing, shortened};

/// What is said where there is nothing to list.
pub const NONE: &str = "No job waits or runs. 'offtake jobs --all' lists those that are over too.\n";
/// What is said where no job at all is found.
pub const NONE_AT_ALL: &str = "There is no such job.\n";

/// A column of the table: its title, and what a job has there at an instant.
type Column = (&'static str, Align, fn(&JobView, i64) -> String);

const COLUMNS: [Column; 9] = [
    ("job", Align::Right, |job, _| name(job)),
    ("name", Align::Left, |job, _| job.name.clone()),
    ("tenant", Align::Left, |job, _| job.tenant.clone()),
    ("tier", Align::Left, |job, _| tier(job.tier).to_owned()),
    ("workers", Align::Right, |job, _| job.workers.to_string()),
    ("chips", Align::Right, |job, _| milli(job.chip_milli)),
    ("state", Align::Left, |job, _| job.state.word().to_owned()),
    ("for", Align::Right, how_long),
    ("where or why", Align::Left, |job, _| place_or_reason(job)),
];
/// Columns that a narrow terminal has no room for.
const IF_WIDE: [&str; 2] = ["tier", "workers"];
/// From so many columns of the terminal on it is wide.
const WIDE: usize = 100;

/// A table of jobs as they stand at `now_ms`.
pub fn jobs(jobs: &[JobView], now_ms: i64, width: Option<usize>) -> String {
    let is_wide = width.is_none_or(|width| width >= WIDE);
    let columns: Vec<&Column> = COLUMNS.iter().filter(|column| is_wide || !IF_WIDE.contains(&column.0)).collect();
    let rows: Vec<Vec<String>> =
        jobs.iter().map(|job| columns.iter().map(|(_, _, value)| value(job, now_ms)).collect()).collect();
    let titles: Vec<(&str, Align)> = columns.iter().map(|(title, align, _)| (*title, *align)).collect();
    listing(&titles, &rows, width)
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
