//! Moves that open blocks for gangs that wait.

use offtake_protocol::rest::{Defrag, DefragMove, DefragPlan};

use super::figures::{count, milli, span};
use crate::terminal::{Align, listing, printable, shortened};

const MOVES: [(&str, Align); 5] =
    [("job", Align::Right), ("name", Align::Left), ("chips", Align::Right), ("from", Align::Left), ("to", Align::Left)];

/// Nodes that are named; the rest is counted.
const MOST_NAMED: usize = 3;

/// The plans, or what of them is being carried out.
pub fn defrag(answer: &Defrag, applied: bool, now_ms: i64, width: Option<usize>) -> String {
    if answer.plans.is_empty() {
        let nothing = if applied {
            "Nobody is moved: no moves let a waiting job start sooner and win more than they lose."
        } else {
            "No moves would let a waiting job start sooner."
        };
        return format!("{nothing}\n");
    }
    let plans = answer.plans.iter().map(|one| plan(one, applied, now_ms, width));
    plans.collect::<Vec<_>>().join("\n")
}

fn plan(plan: &DefragPlan, applied: bool, now_ms: i64, width: Option<usize>) -> String {
    let moves = count(plan.moves.len() as u64, "move");
    let verb = match (applied, plan.moves.len()) {
        (true, 1) => "opens",
        (true, _) => "open",
        (false, _) => "would open",
    };
    let job = format!("job {} ({})", plan.job, shortened(&printable(&plan.name), 40));
    let mut text = format!("{moves} {verb} {} in {} for {job}:\n\n", nodes(&plan.nodes), printable(&plan.opens));
    text += &listing(&MOVES, &plan.moves.iter().map(row).collect::<Vec<_>>(), width);
    let from_now = |at: i64| format!("in {}", span((at - now_ms).max(0)));
    let otherwise = match plan.start_otherwise_ms {
        Some(at) => format!("instead of {}", from_now(at)),
        None => "and nobody knows when otherwise, which counts as a day".to_owned(),
    };
    text += &format!("\nIt starts {}, {otherwise}.\n", from_now(plan.start_ms));
    let hours = |ms: u64| format!("{:.1} chip-hours", ms as f64 / 3.6e6);
    text += &format!("Won: {}. Lost: {}. ", hours(plan.gain_chip_ms), hours(plan.cost_chip_ms));
    text += &match (applied, plan.pays) {
        (true, _) => "The moves are under way.".to_owned(),
        (false, true) => format!("`offtake defrag {} --apply` carries it out.", plan.job),
        (false, false) => "It is not carried out, as it loses more than it wins.".to_owned(),
    };
    text + "\n"
}

fn row(one: &DefragMove) -> Vec<String> {
    vec![
        one.job.to_string(),
        shortened(&printable(&one.name), 40),
        milli(one.chip_milli),
        nodes(&one.from),
        nodes(&one.to),
    ]
}

/// The first of some nodes by name, and how many more there are.
fn nodes(names: &[String]) -> String {
    let named = names.iter().take(MOST_NAMED).map(|name| printable(name)).collect::<Vec<_>>().join(", ");
    match names.len().saturating_sub(MOST_NAMED) {
        0 => named,
        more => format!("{named} and {more} more"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::show::samples::NOW;

    fn answer() -> Defrag {
        let names = |nodes: &[u32]| nodes.iter().map(|node| format!("r1-n{node}")).collect::<Vec<_>>();
        let one = |job, name: &str, from: u32, to: u32| DefragMove {
            job,
            name: name.to_owned(),
            chip_milli: 4_000,
            from: names(&[from]),
            to: vec![format!("r2-n{to}")],
        };
        let plan = DefragPlan {
            job: 17,
            name: "pretrain".to_owned(),
            opens: "rack hall/r1".to_owned(),
            nodes: names(&[0, 1, 2, 3, 4, 5]),
            moves: vec![one(3, "sweep", 1, 0), one(8, "notebook", 4, 2)],
            cost_chip_ms: 5_400_000,
            gain_chip_ms: 345_600_000,
            pays: true,
            start_ms: NOW + 20_000,
            start_otherwise_ms: Some(NOW + 14_420_000),
        };
        let vain = DefragPlan { pays: false, start_otherwise_ms: None, gain_chip_ms: 1_000, ..plan.clone() };
        Defrag { plans: vec![plan, vain] }
    }

    #[test]
    fn a_plan_says_who_moves_and_what_that_is_worth() {
        insta::assert_snapshot!(defrag(&answer(), false, NOW, None));
        let text = defrag(&answer(), false, NOW, Some(60));
        assert!(text.lines().skip(2).take(3).all(|line| line.chars().count() <= 60), "{text}");
    }

    #[test]
    fn what_is_carried_out_is_told_so() {
        let text = defrag(&answer(), true, NOW, None);
        assert!(text.contains("The moves are under way.\n") && !text.contains("--apply"), "{text}");
        assert!(defrag(&Defrag::default(), true, NOW, None).starts_with("Nobody is moved"));
        assert!(defrag(&Defrag::default(), false, NOW, None).starts_with("No moves"));
    }
}
