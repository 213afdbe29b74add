//! Jobs, one a line.

use offtake_protocol::rest::{Basis, JobState, JobView, StartEstimate};

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
    ("state", Align::Left, |job, _| state(job)),
    ("for", Align::Right, how_long),
    ("where or why", Align::Left, place_or_reason),
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

/// Where it stands; of a service, how many of its replicas run.
pub fn state(job: &JobView) -> String {
    match &job.service {
        Some(service) if !job.state.is_over() => {
            format!("{} {}/{}", job.state.word(), service.running, service.replicas)
        }
        _ => job.state.word().to_owned(),
    }
}

/// How long it has waited, or has run.
fn how_long(job: &JobView, now_ms: i64) -> String {
    if job.service.is_some() {
        return since(job.submitted_ms, job.ended_ms.unwrap_or(now_ms));
    }
    let from = job.started_ms.unwrap_or(job.submitted_ms);
    match job.state {
        JobState::Pending | JobState::Held | JobState::Starting => since(job.submitted_ms, now_ms),
        JobState::Running | JobState::Stopping => since(from, now_ms),
        JobState::Finished | JobState::Failed | JobState::Cancelled => {
            job.started_ms.map_or_else(|| "–".to_owned(), |from| since(from, job.ended_ms.unwrap_or(now_ms)))
        }
    }
}

/// Where a job runs; why one does not, or when it is expected to.
fn place_or_reason(job: &JobView, now_ms: i64) -> String {
    if let Some(service) = job.service.as_ref().filter(|_| !job.state.is_over()) {
        return match (service.minimum, service.maximum) {
            (least, most) if least == most => "service".to_owned(),
            (least, most) => format!("service of {least} to {most} replicas"),
        };
    }
    let place = whereabouts(job, now_ms);
    match job.replica_of {
        Some(service) if place.is_empty() => format!("replica of {service}"),
        Some(service) => format!("replica of {service}: {place}"),
        None => place,
    }
}

fn whereabouts(job: &JobView, now_ms: i64) -> String {
    if matches!(job.state, JobState::Starting | JobState::Running | JobState::Stopping) {
        return nodes(&job.nodes);
    }
    match (&job.reason, &job.start_estimate) {
        (Some(reason), _) => reason.clone(),
        (None, Some(estimate)) => expected(estimate, now_ms),
        (None, None) => nodes(&job.nodes),
    }
}

fn expected(estimate: &StartEstimate, now_ms: i64) -> String {
    let left = since(now_ms, estimate.start_ms);
    match estimate.basis {
        Basis::Kept => format!("starts in {left} at the latest"),
        Basis::LookAhead => format!("starts in about {left}"),
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
    fn who_waits_is_told_when_it_starts() {
        let start_ms = samples::NOW + 5_400_000;
        let waits = |basis| JobView {
            start_estimate: Some(StartEstimate { start_ms, basis, as_of_ms: samples::NOW }),
            ..samples::job(1, "later", JobState::Pending)
        };
        let told = |job: &JobView| place_or_reason(job, samples::NOW);
        assert_eq!(told(&waits(Basis::Kept)), "starts in 1 h 30 min at the latest");
        assert_eq!(told(&waits(Basis::LookAhead)), "starts in about 1 h 30 min");
        let again = JobView { reason: Some("starts again: a node was lost".to_owned()), ..waits(Basis::Kept) };
        assert_eq!(told(&again), "starts again: a node was lost");
    }

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
