//! Levels at a cost in a simulated course of events.

use offtake_units::{Ppm, Timestamp};
use offtake_workload::{Gang, Job, Strength, Topology};

use crate::failures::{hours, job, setup, under};

#[test]
fn a_gang_waits_for_its_rack_and_then_runs_longer_across() {
    // Each of the four racks keeps one node of four.
    let mut jobs: Vec<Job> = (0..4).map(|at| job(3, at, hours(100), None)).collect();
    let topology = Topology { cost: Ppm::new(100_000), ..Topology::new("rack", Strength::Preferred) };
    let wide = job(2, 10, hours(10), None);
    jobs.push(Job { gangs: vec![Gang { topology: Some(topology), ..wide.gangs[0].clone() }], ..wide });
    for policy in ["offtake", "fifo", "backfill"] {
        let outcome = under(&setup(jobs.clone(), None, None), policy);
        let wide = &outcome.jobs[4];
        let started = Timestamp::from_secs(10) + hours(1);
        assert_eq!(wide.started, Some(started), "a tenth of its ten hours later, under {policy}");
        // 1 / 1.1 of its speed.
        let finished = started + Ppm::new(909_091).time_for(hours(10));
        assert_eq!(wide.finished, Some(finished), "eleven hours, but for what a millionth rounds off, under {policy}");
    }
}
