//! What would happen, beside what happens otherwise.

use offtake_protocol::rest::{JobChange, Outlook, WhatIf};

use super::figures::{count, instant, power, span};
use crate::terminal::{Align, grouped, listing, printable, shortened};

const FIGURES: [(&str, Align); 3] = [("", Align::Left), ("as it is", Align::Right), ("then", Align::Right)];
const CHANGES: [(&str, Align); 5] = [
    ("job", Align::Right),
    ("name", Align::Left),
    ("starts otherwise", Align::Left),
    ("starts then", Align::Left),
    ("change", Align::Left),
];

/// The answer, the figures of both outlooks, and the jobs for which something changes.
pub fn what_if(answer: &WhatIf, width: Option<usize>) -> String {
    let mut text = printable(&answer.summary);
    text += &format!(
        "\n\nFrom {} for {}:\n\n",
        instant(answer.from_ms),
        span(answer.until_ms.saturating_sub(answer.from_ms))
    );
    text += &listing(&FIGURES, &figures(&answer.otherwise, &answer.then), width);
    if answer.jobs.is_empty() {
        return text;
    }
    let rows: Vec<Vec<String>> = answer.jobs.iter().map(|change| row(change, answer.from_ms)).collect();
    text += &format!("\n{}", listing(&CHANGES, &rows, width));
    let more = answer.changed.saturating_sub(answer.jobs.len() as u64);
    if more > 0 {
        text += &format!("and {}.\n", count(more, "more job"));
    }
    text
}

fn figures(otherwise: &Outlook, then: &Outlook) -> Vec<Vec<String>> {
    let row = |what: &str, value: &dyn Fn(&Outlook) -> String| vec![what.to_owned(), value(otherwise), value(then)];
    vec![
        row("jobs finished", &|outlook| grouped(outlook.finished)),
        row("jobs still running", &|outlook| grouped(outlook.running)),
        row("jobs still waiting", &|outlook| grouped(outlook.waiting)),
        row("jobs that can never run", &|outlook| grouped(outlook.refused)),
        row("jobs stopped and started again", &|outlook| grouped(outlook.restarted)),
        row("mean wait", &|outlook| span(outlook.mean_wait_ms)),
        row("chip-hours lost", &|outlook| format!("{:.1}", outlook.lost_chip_ms as f64 / 3_600_000.0)),
        row("highest draw", &|outlook| power(outlook.peak_w)),
    ]
}

fn row(change: &JobChange, from_ms: i64) -> Vec<String> {
    let start = |at: Option<i64>| match at {
        None => "–".to_owned(),
        Some(at) if at <= from_ms => "runs".to_owned(),
        Some(at) => format!("in {}", span(at - from_ms)),
    };
    vec![
        if change.id == 0 { "new".to_owned() } else { change.id.to_string() },
        shortened(&change.name, 40),
        start(change.start_otherwise_ms),
        start(change.start_then_ms),
        change.change.clone(),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::show::samples::NOW;

    #[test]
    fn both_outlooks_and_who_changes() {
        let change = |id, name: &str, otherwise, then, change: &str| JobChange {
            id,
            name: name.to_owned(),
            change: change.to_owned(),
            start_otherwise_ms: otherwise,
            start_then_ms: then,
            end_otherwise_ms: None,
            end_then_ms: None,
        };
        let answer = WhatIf {
            from_ms: NOW,
            until_ms: NOW + 43_200_000,
            summary: "Three jobs start later, by 2 h at the mean; one is stopped and starts again.".to_owned(),
            otherwise: Outlook { finished: 412, running: 3, peak_w: 78_300_000, ..Outlook::default() },
            then: Outlook {
                finished: 409,
                running: 5,
                waiting: 1,
                restarted: 1,
                mean_wait_ms: 7_200_000,
                lost_chip_ms: 4_500_000,
                peak_w: 71_000_000,
                ..Outlook::default()
            },
            jobs: vec![
                change(12, "sweep", Some(NOW - 5), Some(NOW + 60_000), "is stopped and starts again"),
                change(17, "pretrain", Some(NOW + 3_600_000), Some(NOW + 10_800_000), "starts 2 h later"),
                change(0, "new-job", None, None, "can never run"),
            ],
            changed: 5,
        };
        insta::assert_snapshot!(what_if(&answer, None));
        let text = what_if(&answer, Some(80));
        assert!(text.lines().skip(4).all(|line| line.chars().count() <= 80), "{text}");
        let nothing = WhatIf { jobs: vec![], changed: 0, ..answer };
        assert!(what_if(&nothing, None).ends_with("71.0 MW\n"), "no list of nobody");
    }
}
