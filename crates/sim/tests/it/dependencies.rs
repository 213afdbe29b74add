//! Jobs that wait for others in a simulated course of events.

use offtake_units::Timestamp;
use offtake_workload::{Job, Predecessor, When};

use crate::failures::{hours, job, setup, under};

fn named(name: &str, nodes: u32, at: i64, after: &[(&str, When)]) -> Job {
    let predecessor = |(job, when): &(&str, When)| Predecessor { job: (*job).to_owned(), when: *when };
    let after = after.iter().map(predecessor).collect();
    Job { name: name.to_owned(), after, ..job(nodes, at, hours(1), None) }
}

#[test]
fn jobs_start_when_those_that_they_wait_for_have_come_so_far() {
    let all = setup(Vec::new(), None, None).fleet.nodes.len() as u32;
    let jobs = vec![
        named("first", 1, 0, &[]),
        named("with", 1, 1, &[("first", When::Started)]),
        named("next", 1, 2, &[("first", When::Succeeded), ("with", When::Ended)]),
        named("never", 1, 3, &[("first", When::Failed)]),
        named("nor", 1, 4, &[("never", When::Succeeded)]),
        named("unless", 1, 5, &[("never", When::Ended)]),
        named("wide", all + 1, 6, &[]),
        named("instead", 1, 7, &[("wide", When::Failed)]),
        named("late", 1, 10 * 3600, &[("next", When::Succeeded)]),
    ];
    let outcome = under(&setup(jobs, None, None), "offtake");
    let started: Vec<Option<i64>> =
        outcome.jobs.iter().map(|job| job.started.map(|at| at.as_millis() / 1000)).collect();
    let hour = 3600;
    assert_eq!(
        started,
        [Some(0), Some(1), Some(hour + 1), None, None, Some(hour), None, Some(7), Some(10 * hour)],
        "in the order of their arrival"
    );
    let never: Vec<bool> = outcome.jobs.iter().map(|job| job.rejected).collect();
    assert_eq!(never, [false, false, false, true, true, false, true, false, false]);
}

#[test]
fn a_long_chain_is_gone_through_one_by_one_and_given_up_at_once() {
    let chain = |first: u32| {
        let mut jobs = vec![named("0", first, 0, &[])];
        jobs.extend(
            (1..200).map(|place| named(&place.to_string(), 1, 0, &[(&(place - 1).to_string(), When::Succeeded)])),
        );
        under(&setup(jobs, None, None), "backfill").jobs
    };
    for (place, job) in (0..).zip(chain(1)) {
        assert_eq!(job.started, Some(Timestamp::EPOCH + hours(place)), "job {place}");
    }
    assert!(chain(1_000_000).iter().all(|job| job.rejected && job.started.is_none()));
}
