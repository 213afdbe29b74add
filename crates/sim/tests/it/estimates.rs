//! Work that asks for longer than it takes.

use offtake_engine::{Backfill, Estimates, Policy};
use offtake_sim::{Outcome, Setup, run};
use offtake_units::{Ppm, Timestamp};
use offtake_workload::Job;

use crate::failures::{Quiet, hours, job, setup};

fn planned_with(setup: &Setup, estimates: Estimates) -> Outcome {
    let base = Policy::named("backfill", 7).expect("it is there");
    let policy = Policy { backfill: Backfill { estimates, ..base.backfill }, ..base };
    run(setup, policy, &mut Quiet).expect("the accounts are right")
}

fn named(name: &str, job: Job) -> Job {
    Job { name: name.to_owned(), tenant: "lab".to_owned(), ..job }
}

#[test]
fn what_runs_took_before_lets_more_go_first() {
    let all = setup(Vec::new(), None, None).fleet.nodes.len() as u32;
    let jobs = vec![
        named("eval-1", job(1, 0, hours(3), None)),
        named("eval-2", job(1, 0, hours(3), None)),
        // Asks for 8 hours, and takes 2.
        named("fill-1", job(all - 1, 4 * 3600, hours(2), None)),
        named("wide-1", job(all, 4 * 3600 + 1, hours(1), None)),
        // Asks for 12 hours, more than until the wide one may start; the last two runs of its kind took 3.
        named("eval-3", job(1, 4 * 3600 + 2, hours(3), None)),
    ];
    let setup = Setup { overestimate: Some(Ppm::new(4_000_000)), ..setup(jobs, None, None) };
    let at = |seconds: i64| Some(Timestamp::from_secs(seconds));
    let ran = |outcome: &Outcome, index: usize| (outcome.jobs[index].started, outcome.jobs[index].finished);

    let by_limits = planned_with(&setup, Estimates::Limit);
    assert_eq!(ran(&by_limits, 2), (at(4 * 3600), at(6 * 3600)), "it ends when its work is done");
    assert_eq!(ran(&by_limits, 3), (at(6 * 3600), at(7 * 3600)));
    assert_eq!(ran(&by_limits, 4), (at(7 * 3600), at(10 * 3600)));

    let by_history = planned_with(&setup, Estimates::History);
    let first = 4 * 3600 + 2;
    assert_eq!(ran(&by_history, 4), (at(first), at(first + 3 * 3600)), "it is expected to be gone in time");
    assert_eq!(ran(&by_history, 3).0, at(first + 3 * 3600), "what was expected is not what was");

    // Who asks for what it takes is where it was.
    let times = |outcome: &Outcome| (0..5).map(|index| ran(outcome, index)).collect::<Vec<_>>();
    let once = planned_with(&Setup { overestimate: Some(Ppm::ONE), ..setup.clone() }, Estimates::Limit);
    let exact = planned_with(&Setup { overestimate: None, ..setup }, Estimates::Limit);
    assert_eq!(times(&once), times(&exact));
}
