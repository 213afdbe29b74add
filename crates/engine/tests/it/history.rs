//! Runs so far say how long the next is expected to take.

use std::sync::Arc;

use offtake_engine::{Backfill, Estimates, Event, JobId, Phase, Policy, ReservationId};
use offtake_units::{Duration, Timestamp};
use offtake_workload::{Job, Purpose, Reservation};

use crate::support::{Engine, PLAIN, fleet, gang, job};

/// An engine that has seen two runs of `train` of 100 s each, which had asked for 1,000 s.
fn experienced() -> Engine {
    let policy = Policy::named("backfill", 7).expect("it has a name");
    let backfill = Backfill { estimates: Estimates::History, ..Backfill::default() };
    let mut engine = Engine::under(fleet(PLAIN), Policy { backfill, ..policy });
    for _ in 0..2 {
        let run = engine.submit(train(1));
        engine.decide();
        assert_eq!(ends(&engine, run), Some(engine.now() + Duration::from_secs(1000)));
        engine.wait(100);
        engine.tell(Event::JobFinished { job: run });
    }
    engine
}

fn train(workers: u32) -> Job {
    Job { name: "train".to_owned(), ..job(vec![gang(workers, 4)], Some(1000)) }
}

fn ends(engine: &Engine, job: JobId) -> Option<Timestamp> {
    match engine.state.job(job)?.phase {
        Phase::Running { ends, .. } => Some(ends),
        _ => None,
    }
}

#[test]
fn a_short_run_that_asks_for_much_goes_before_a_blocked_job() {
    let mut engine = experienced();
    let begun = engine.now();
    let long = engine.submit(job(vec![gang(3, 4)], Some(200)));
    let head = engine.submit(job(vec![gang(4, 4)], Some(50)));
    let short = engine.submit(train(1));
    let unknown = engine.submit(job(vec![gang(1, 4)], Some(1000)));
    engine.decide();
    engine.restore();
    assert!(engine.runs(long) && engine.runs(short) && !engine.runs(head) && !engine.runs(unknown));
    assert_eq!(ends(&engine, short), Some(begun + Duration::from_secs(100)));
    engine.wait(100);
    engine.decide();
    assert!(engine.runs(short), "its limit is its own");
    assert_eq!(ends(&engine, short), Some(begun + Duration::from_secs(160)), "a minute more is expected");
    engine.wait(820);
    engine.decide();
    assert_eq!(ends(&engine, short), Some(begun + Duration::from_secs(1000)), "and no more than its limit");
    engine.wait(81);
    engine.decide();
    assert_eq!(ends(&engine, short), Some(begun + Duration::from_secs(1000)), "nobody knows any more");
    assert_eq!(engine.folded().essence(), engine.state.essence());
}

#[test]
fn no_guess_brings_work_into_a_window() {
    let mut engine = experienced();
    let spec = Reservation {
        name: "patch-day".to_owned(),
        purpose: Purpose::Maintenance,
        tenants: Vec::new(),
        domain: None,
        nodes: Some(4),
        chips: None,
        accelerator: None,
        level: None,
        start: engine.now() + Duration::from_secs(500),
        length: Duration::from_secs(50),
        flexible: None,
        every: None,
        stop: false,
    };
    let running = engine.submit(train(1));
    engine.decide();
    assert!(engine.runs(running));
    assert!(engine.state.window_of_new(&spec).is_err(), "it may still be there");
    engine.tell(Event::JobFinished { job: running });
    engine.tell(Event::ReservationMade { reservation: ReservationId(1), spec: Arc::new(spec) });
    let guessed = engine.submit(train(1));
    let sure = engine.submit(job(vec![gang(1, 4)], Some(500)));
    engine.decide();
    assert!(!engine.runs(guessed) && engine.runs(sure));
    let after = engine.now() + Duration::from_secs(550);
    assert_eq!(engine.state.earliest_start(guessed), Some(after));
}
