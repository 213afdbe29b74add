//! Capacity that is set aside in a simulated course of events.

use std::sync::Arc;

use offtake_sim::Setup;
use offtake_units::{Duration, Timestamp};
use offtake_workload::{Job, Purpose, Reservation};

use crate::failures::{hours, job, setup, under};

fn reservation(nodes: u32, start: i64, length: i64) -> Reservation {
    Reservation {
        name: "course".to_owned(),
        purpose: Purpose::Work,
        tenants: Vec::new(),
        domain: None,
        nodes: Some(nodes),
        chips: None,
        accelerator: None,
        level: None,
        start: Timestamp::from_secs(start * 3600),
        length: hours(length),
        flexible: None,
        every: None,
        stop: false,
    }
}

#[test]
fn nothing_runs_into_maintenance_that_recurs() {
    // A job of 5 hours each hour, on a fleet of which all is away from the 10th to the 12th hour of each day.
    let jobs = (0..100).map(|hour: i64| job(1, hour * 3600, hours(5), None)).collect();
    let all = setup(Vec::new(), None, None).fleet.nodes.len() as u32;
    let away = Reservation { purpose: Purpose::Maintenance, every: Some(Duration::DAY), ..reservation(all, 10, 2) };
    let setup = Setup { reservations: vec![Arc::new(away)], ..setup(jobs, Some(hours(200)), None) };
    let outcome = under(&setup, "offtake");
    for record in &outcome.jobs {
        let (started, finished) = (record.started.expect("it ran"), record.finished.expect("it ended"));
        assert_eq!(finished - started, hours(5));
        let first = started.as_millis().div_euclid(hours(24).as_millis());
        for day in first..first + 2 {
            let begins = Timestamp::from_secs((day * 24 + 10) * 3600);
            let is_clear = finished <= begins || started >= begins + hours(2);
            assert!(is_clear, "a job runs from {started:?} to {finished:?}");
        }
    }
}

#[test]
fn jobs_of_a_reservation_are_stopped_where_it_says_so() {
    let named = |job: Job| Job { reservation: Some("course".to_owned()), ..job };
    let jobs = vec![named(job(1, 3600, hours(10), None))];
    let all = setup(Vec::new(), None, None).fleet.nodes.len() as u32;
    let course = Reservation { stop: true, ..reservation(all, 1, 2) };
    let setup = Setup { reservations: vec![Arc::new(course)], ..setup(jobs, None, None) };
    let outcome = under(&setup, "offtake");
    let (started, finished) = (outcome.jobs[0].started, outcome.jobs[0].finished);
    assert_eq!(started, Some(Timestamp::from_secs(3600)), "the nodes are set aside for it");
    assert_eq!(finished, None, "it runs nowhere else");
}
