//! One job in full: where it stands, its attempts, and its receipt.

use offtake_protocol::agent::Exit;
use offtake_protocol::rest::{AttemptView, JobDetail, JobState, JobView, Receipt, WorkerFailure};
use offtake_workload::When;

use super::figures::{count, energy, instant, mass, milli, percent, since, span, three_digits, tier};
use super::jobs::{name, nodes};
use crate::terminal::printable;

/// A line of a description: what, and its value beside it.
pub fn line(what: &str, value: &str) -> String {
    format!("  {what:<13} {}", printable(value)).trim_end().to_owned() + "\n"
}

/// A job in full at `now_ms`.
pub fn detail(detail: &JobDetail, now_ms: i64) -> String {
    let job = &detail.job;
    let mut text = format!("{}\n\n", sentence(job, now_ms));
    text += &line("runs", &job.command);
    if !job.directory.is_empty() {
        text += &line("in", &job.directory);
    }
    text += &line("as", &format!("{}, for tenant {}, tier {}", job.user, job.tenant, tier(job.tier)));
    text += &line("asks for", &asks(job));
    for dependency in &job.after {
        let when = match dependency.when {
            When::Started => "has started",
            When::Ended => "has ended",
            When::Succeeded => "has finished with status 0",
            When::Failed => "has failed",
        };
        text += &line("after", &format!("job {} {when}", dependency.job));
    }
    text += &line("submitted", &instant(job.submitted_ms));
    if let Some(limit) = job.limit_ms {
        text += &line("time limit", &span(limit));
    }
    if let Some(deadline) = job.deadline_ms {
        text += &line("deadline", &instant(deadline));
    }
    if let Some(reservation) = &job.reservation {
        text += &line("reservation", reservation);
    }
    for attempt in &detail.attempts {
        text += &self::attempt(attempt, now_ms);
    }
    text + "\n" + &figures(&detail.receipt)
}

/// What a job was and used, at its end.
pub fn receipt(detail: &JobDetail, now_ms: i64) -> String {
    let failures: String =
        detail.attempts.last().iter().flat_map(|attempt| &attempt.failures).take(8).map(failure).collect();
    format!("{}\n\n{failures}{}", sentence(&detail.job, now_ms), figures(&detail.receipt))
}

/// Where a job stands, in a sentence.
fn sentence(job: &JobView, now_ms: i64) -> String {
    let who = format!("job {} ({})", name(job), printable(&job.name));
    let because = job.reason.as_deref().map(|reason| format!(": {}", printable(reason))).unwrap_or_default();
    let ran = || job.started_ms.map(|from| since(from, job.ended_ms.unwrap_or(now_ms)));
    let after = ran().map(|ran| format!(" after {ran}")).unwrap_or_default();
    match job.state {
        JobState::Pending => format!("{who} has waited for {}{because}.", since(job.submitted_ms, now_ms)),
        JobState::Held => format!("{who} is held{because}."),
        JobState::Starting => format!("{who} starts on {}.", nodes(&job.nodes)),
        JobState::Running => format!("{who} has run for {}.", ran().unwrap_or_default()),
        JobState::Stopping => format!("{who} is being stopped{because}."),
        JobState::Finished => format!("{who} finished{after}."),
        JobState::Failed => match job.exit_code {
            Some(code) => format!("{who} failed with status {code}{after}{because}."),
            None => format!("{who} failed{after}{because}."),
        },
        JobState::Cancelled => format!("{who} was cancelled{after}{because}."),
    }
}

fn asks(job: &JobView) -> String {
    let mut text = count(u64::from(job.workers), "worker");
    if job.chip_milli > 0 {
        text += &format!(", {} chips", milli(job.chip_milli));
    }
    let cores = if job.cpu_milli == 1000 { "core" } else { "cores" };
    text + &format!(", {} {cores}", milli(job.cpu_milli))
}

fn attempt(attempt: &AttemptView, now_ms: i64) -> String {
    let mut value = match (attempt.started_ms, attempt.ended_ms) {
        (Some(from), Some(until)) => format!("{}, ran {}", instant(from), since(from, until)),
        (Some(from), None) => format!("{}, has run {}", instant(from), since(from, now_ms)),
        (None, _) => format!("{}, did not start", instant(attempt.placed_ms)),
    };
    if attempt.started_ms.is_none() && attempt.ended_ms.is_none() {
        value = format!("{}, is starting", instant(attempt.placed_ms));
    }
    if let Some(outcome) = &attempt.outcome {
        value += &format!("; {outcome}");
    }
    let mut text = line(&format!("attempt {}", attempt.number), &value);
    text += &line("", &format!("on {}", nodes(&attempt.nodes)));
    text + &attempt.failures.iter().map(failure).collect::<String>()
}

fn failure(failure: &WorkerFailure) -> String {
    let how = match &failure.exit {
        Exit::Status(status) => format!("ended with status {status}"),
        Exit::Signal(signal) => format!("was ended by signal {signal}"),
        Exit::NotStarted(reason) => format!("did not start: {reason}"),
        Exit::Unknown(reason) => format!("is lost: {reason}"),
    };
    line("", &format!("worker {} on {} {how}", failure.rank, failure.node))
}

/// The receipt's figures, one a line.
fn figures(receipt: &Receipt) -> String {
    let mut text = line("waited", &span(receipt.waited_ms));
    text += &line("ran", &span(receipt.ran_ms));
    text += &line("restarts", &receipt.restarts.to_string());
    if receipt.ran_ms == 0 {
        return text;
    }
    text += &line("goodput", &percent(receipt.goodput));
    let lost = |hours: f64| match hours {
        hours if hours > 0.0 => format!(", {} of them lost", three_digits(hours)),
        _ => String::new(),
    };
    let uses_chips = receipt.chip_hours > 0.0;
    if uses_chips {
        text += &line("chip-hours", &format!("{}{}", three_digits(receipt.chip_hours), lost(receipt.lost_hours)));
    }
    let lost = if uses_chips { String::new() } else { lost(receipt.lost_hours) };
    text += &line("core-hours", &format!("{}{lost}", three_digits(receipt.core_hours)));
    let at_grid = energy(receipt.facility_kwh);
    text +=
        &line("energy", &format!("{}, {}; {at_grid} at the grid", energy(receipt.energy_kwh), receipt.energy_source));
    for (currency, cost) in &receipt.energy_cost {
        text += &line("energy cost", &format!("{} {currency}", three_digits_signed(*cost)));
    }
    if let Some(kg) = receipt.co2_kg {
        text += &line("CO2", &mass(kg));
    }
    text
}

/// Prices fall below zero at times, and so does a cost.
fn three_digits_signed(value: f64) -> String {
    if value < 0.0 { format!("-{}", three_digits(-value)) } else { three_digits(value) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::show::samples;

    #[test]
    fn a_job_in_full() {
        insta::assert_snapshot!(detail(&samples::restarted(), samples::NOW));
    }

    #[test]
    fn a_job_that_waits() {
        let job = samples::jobs().swap_remove(0);
        let waits =
            JobDetail { receipt: Receipt { waited_ms: 7_800_000, ..Receipt::default() }, attempts: vec![], job };
        insta::assert_snapshot!(detail(&waits, samples::NOW));
    }

    #[test]
    fn receipts() {
        let text: Vec<String> = samples::over().iter().map(|detail| receipt(detail, samples::NOW)).collect();
        insta::assert_snapshot!(text.join("---\n"));
    }
}
