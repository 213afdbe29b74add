//! Why a job waits, or why it is where it is.

use offtake_protocol::rest::{Basis, Risk, StartEstimate, Why};
use offtake_workload::Tier;

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
    if let Some(estimate) = &why.start_estimate {
        text += &line("expected", &expected(estimate, now_ms));
    }
    text += &lines("planned", why.planned.as_slice());
    if let Some(deadline) = &why.deadline {
        text += &line("deadline", &deadline.summary);
    }
    text += &lines("placed", &why.placed);
    if let Some(policy) = &why.policy {
        text += &line("policy", &format!("{}, version {}", policy.name, policy.version));
    }
    text + &why.risk.iter().map(|risk| lines("risk", &at_risk(risk, now_ms))).collect::<String>()
}

/// What would displace a running job, a line each.
fn at_risk(risk: &Risk, now_ms: i64) -> Vec<String> {
    let percent = |ppm: u32| format!("{:.2} %", f64::from(ppm) / 1e4);
    let chip_hours = |ms: u64| format!("{:.1} chip-hours", ms as f64 / 3.6e6);
    let tier = |tier: &Tier| format!("{tier:?}").to_lowercase();
    let mut told = Vec::new();
    if risk.stopping {
        told.push("it is being stopped".to_owned());
    } else if risk.displaced_by.is_empty() {
        told.push("no other work may displace it".to_owned());
    } else {
        let tiers: Vec<String> = risk.displaced_by.iter().map(tier).collect();
        told.push(format!("work of these tiers may displace it: {}", tiers.join(", ")));
    }
    if risk.borrowed_chip_milli > 0 && !risk.stopping {
        let chips = risk.borrowed_chip_milli.div_ceil(1000);
        told.push(format!("its tenant has borrowed {} chips, whose owners may take them back", grouped(chips)));
    }
    if let Some(until) = risk.protected_until_ms {
        told.push(format!("it is left alone until {}, for {}", instant(until), span(until - now_ms)));
    }
    if risk.chosen_by > 0 || risk.spared_by > 0 {
        let named: Vec<String> = risk.chosen_by_jobs.iter().map(ToString::to_string).collect();
        let named = if named.is_empty() { String::new() } else { format!(" (jobs {})", named.join(", ")) };
        told.push(format!(
            "of stronger work that waits, {} would choose it{named}, {} would not",
            grouped(risk.chosen_by),
            grouped(risk.spared_by)
        ));
    }
    told.push(format!("a chip of it fails within {}: {}", span(risk.horizon_ms), percent(risk.failure_ppm)));
    told.push(format!(
        "stopped now it loses {}; within {} {} on average, at {} in all",
        chip_hours(risk.loss_chip_ms),
        span(risk.horizon_ms),
        chip_hours(risk.expected_loss_chip_ms),
        percent(risk.any_ppm)
    ));
    told
}

fn expected(estimate: &StartEstimate, now_ms: i64) -> String {
    let when = match estimate.start_ms - now_ms {
        left if left > 0 => format!("{}, in {}", instant(estimate.start_ms), span(left)),
        _ => "at once".to_owned(),
    };
    match estimate.basis {
        Basis::Kept => format!("{when}: its nodes are kept"),
        Basis::LookAhead => {
            format!("{when}, by a look ahead as of {}: others may come first", instant(estimate.as_of_ms))
        }
    }
}

/// Several values under one name, which is said once.
fn lines(what: &str, values: &[String]) -> String {
    values.iter().enumerate().map(|(index, value)| line(if index == 0 { what } else { "" }, value)).collect()
}

#[cfg(test)]
mod tests {
    use offtake_protocol::rest::{JobState, PolicyInForce};

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
            start_estimate: None,
            planned: None,
            deadline: None,
            jobs_before: Some(1_204),
            levels: None,
            placed: vec![],
            risk: None,
            policy: Some(PolicyInForce { name: "offtake".to_owned(), version: 3 }),
        }
    }

    #[test]
    fn why_it_waits() {
        insta::assert_snapshot!(why(&waits(), NOW));
    }

    #[test]
    fn when_it_is_expected() {
        let estimate = |basis, minutes: i64| {
            let start_ms = NOW + minutes * 60_000;
            Why { start_estimate: Some(StartEstimate { start_ms, basis, as_of_ms: NOW - 3_000 }), ..waits() }
        };
        let told = [estimate(Basis::Kept, 60), estimate(Basis::LookAhead, 90), estimate(Basis::LookAhead, -1)];
        let told = told.map(|told| why(&told, NOW).lines().find(|line| line.contains("expected ")).map(str::to_owned));
        insta::assert_debug_snapshot!(told);
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
        let risk = Risk {
            horizon_ms: 86_400_000,
            stopping: false,
            displaced_by: vec![Tier::Reserved, Tier::Guaranteed],
            borrowed_chip_milli: 4_000,
            protected_until_ms: Some(NOW + 600_000),
            chosen_by: 2,
            chosen_by_jobs: vec![17],
            spared_by: 1,
            failure_ppm: 3_780,
            any_ppm: 1_000_000,
            loss_chip_ms: 18_000_000,
            expected_loss_chip_ms: 18_000_000,
        };
        let told = at_risk(&risk, NOW);
        assert!(told[0].ends_with("reserved, guaranteed") && told[2].ends_with("for 10 min"), "{told:?}");
        assert_eq!(told[1], "its tenant has borrowed 4 chips, whose owners may take them back");
        assert_eq!(told[3], "of stronger work that waits, 2 would choose it (jobs 17), 1 would not");
        assert_eq!(told[4], "a chip of it fails within 1 d: 0.38 %");
        assert_eq!(
            told[5],
            "stopped now it loses 5.0 chip-hours; within 1 d 5.0 chip-hours on average, at 100.00 % in all"
        );
    }
}
