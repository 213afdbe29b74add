//! Why a job waits, or why it is where it is.

use offtake_protocol::rest::Why;

use super::figures::{instant, span};
use super::job::line;
use crate::terminal::{grouped, printable};

/// The answer, and what it rests on; as known at `now_ms`.
pub fn why(why: &Why, now_ms: i64) -> String {
    let mut text = format!("{}\n\n", printable(&why.summary));
    text += &line("asks for", &why.asks);
    text += &lines("missing", &why.missing);
    text += &lines("nearest fit", why.nearest.as_slice());
    text += &lines("blocked by", &why.blockers);
    if let Some(before) = why.jobs_before {
        text += &line(
            "before it",
            &match before {
                0 => "no job".to_owned(),
                1 => "1 job".to_owned(),
                more => format!("{} jobs", grouped(more)),
            },
        );
    }
    if let Some(start) = why.earliest_start_ms {
        let from_now = if start > now_ms { format!(", in {}", span(start - now_ms)) } else { String::new() };
        text += &line("starts", &format!("{}{from_now}, if work ends as expected", instant(start)));
    } else if !why.missing.is_empty() {
        text += &line("starts", "nobody knows when: work in its way has no time limit, or its room does not exist now");
    }
    text + &lines("placed", &why.placed)
}

/// Several values under one name, which is said once.
fn lines(what: &str, values: &[String]) -> String {
    values.iter().enumerate().map(|(index, value)| line(if index == 0 { what } else { "" }, value)).collect()
}

#[cfg(test)]
mod tests {
    use offtake_protocol::rest::JobState;

    use super::*;
    use crate::show::samples::NOW;

    fn waits() -> Why {
        let owned = |lines: &[&str]| lines.iter().map(|line| (*line).to_owned()).collect();
        Why {
            id: 17,
            state: JobState::Pending,
            summary: "It waits for 8 more chips in one block.".to_owned(),
            asks: "64 workers of 8 chips in one block (required)".to_owned(),
            missing: owned(&["8 of 512 chips"]),
            nearest: Some("hall/block-3: 504 chips free".to_owned()),
            blockers: owned(&["job 12 (sweep) on 1 node until 2024-05-01 09:00:00 UTC", "node n-7 is drained: fan"]),
            earliest_start_ms: Some(NOW + 3_600_000),
            jobs_before: Some(1_204),
            placed: vec![],
        }
    }

    #[test]
    fn why_it_waits() {
        insta::assert_snapshot!(why(&waits(), NOW));
    }

    #[test]
    fn nobody_knows_when() {
        insta::assert_snapshot!(why(&Why { earliest_start_ms: None, jobs_before: Some(0), ..waits() }, NOW));
    }

    #[test]
    fn why_there() {
        let placed = Why {
            state: JobState::Running,
            summary: "It runs on 64 nodes of hall/block-3.".to_owned(),
            missing: vec![],
            nearest: None,
            blockers: vec![],
            earliest_start_ms: None,
            jobs_before: None,
            placed: vec!["hall/block-3 was the fullest block with room".to_owned()],
            ..waits()
        };
        insta::assert_snapshot!(why(&placed, NOW));
    }
}
