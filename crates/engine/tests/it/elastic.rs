//! Gangs that shrink and grow: they start with what fits, give nodes up before they are stopped, and never flap.

use offtake_engine::{Event, JobId, Phase, Policy, Preemption, Stage, StopReason};
use offtake_units::{Duration, Ppm, Timestamp};
use offtake_workload::{Checkpoint, Elastic, Gang, Job, Strength, Tier};

use crate::support::{Engine, ISLANDS, PLAIN, fleet, gang, job, within};

const MINIMUM_RUN: i64 = 60;
const RESTART: i64 = 100;

fn preempting() -> Policy {
    let preemption = Preemption {
        restart: Duration::from_secs(RESTART),
        grace: Duration::from_secs(20),
        minimum_run: [Duration::from_secs(MINIMUM_RUN); 4],
        ..Preemption::default()
    };
    Policy { preemption: Some(preemption), ..Policy::named("offtake", 7).expect("it has a name") }
}

/// A gang of whole nodes with bounds.
fn elastic(minimum: u32, workers: u32, maximum: u32) -> Gang {
    Gang { elastic: Some(Elastic { minimum, maximum, speedup: Vec::new() }), ..gang(workers, 4) }
}

fn saving(job: Job) -> Job {
    Job { checkpoint: Some(Checkpoint { interval: Duration::from_secs(10), bytes: 0 }), ..job }
}

fn spot(gang: Gang, seconds: i64) -> Job {
    saving(Job { tier: Tier::Spot, ..job(vec![gang], Some(seconds)) })
}

impl Engine {
    fn workers(&self, job: JobId) -> u32 {
        self.nodes(job).iter().map(|nodes| nodes.count).sum()
    }

    /// Whoever is being stopped has saved its work and is gone.
    fn all_leave(&mut self) {
        let stops = |phase: &Phase| matches!(phase, Phase::Running { stage: Stage::Stopping(_), .. });
        let leaving: Vec<JobId> =
            self.state.jobs().into_iter().filter(|(_, work)| stops(&work.phase)).map(|(job, _)| job).collect();
        let saved_until = Some(self.now());
        leaving.into_iter().for_each(|job| self.tell(Event::JobRequeued { job, saved_until, held: false }));
        self.decide();
    }

    fn resizes(&self, job: JobId) -> Vec<u32> {
        let resize = |event: &Event| match event {
            Event::JobStopping { job: other, reason: StopReason::Resized { workers }, .. } if *other == job => {
                Some(*workers)
            }
            _ => None,
        };
        self.journal.iter().filter_map(|fact| resize(&fact.event)).collect()
    }
}

#[test]
fn it_starts_with_the_most_that_fit_and_takes_longer() {
    let mut engine = Engine::under(fleet(PLAIN), preempting());
    engine.submit(job(vec![gang(1, 4)], None));
    let grows = engine.submit(spot(elastic(2, 4, 8), 300));
    engine.pass(0);
    assert_eq!((engine.workers(grows), engine.state.speed(grows)), (3, Ppm::new(750_000)));
    let ends = engine.state.job(grows).map(|work| work.phase.clone());
    assert!(matches!(ends, Some(Phase::Running { ends, .. }) if ends == Timestamp::from_secs(400)));
    engine.restore();
    engine.pass(400);
    assert!(engine.state.job(grows).is_none(), "all of its chips are given back");
    assert_eq!(engine.state.ledger().chip_milli_in_use, [0, 0, 4000, 0]);
}

#[test]
fn it_waits_where_not_even_the_fewest_fit_and_is_woken_when_they_do() {
    let mut engine = Engine::under(fleet(PLAIN), preempting());
    let others: Vec<JobId> = (0..4).map(|_| engine.submit(job(vec![gang(1, 4)], None))).collect();
    let waits = engine.submit(spot(elastic(2, 4, 4), 300));
    engine.pass(0);
    engine.tell(Event::JobFinished { job: others[0] });
    engine.pass(10);
    assert!(!engine.runs(waits));
    engine.tell(Event::JobFinished { job: others[1] });
    engine.pass(10);
    assert_eq!(engine.workers(waits), 2);
}

#[test]
fn a_victim_gives_up_nodes_before_it_is_stopped() {
    let mut engine = Engine::under(fleet(PLAIN), preempting());
    let shrinks = engine.submit(spot(elastic(2, 4, 4), 10_000));
    engine.pass(0);
    engine.pass(100);
    let strong = engine.submit(Job { tier: Tier::Reserved, ..job(vec![gang(2, 4)], Some(1000)) });
    engine.pass(0);
    assert_eq!(engine.resizes(shrinks), [2]);
    engine.restore();
    engine.pass(5);
    engine.all_leave();
    assert!(engine.runs(strong));
    assert_eq!(engine.workers(shrinks), 2, "it goes on with what is left, at once");
    engine.check();
    let folded = engine.folded();
    assert_eq!(folded.essence(), engine.state.essence());
}

#[test]
fn a_victim_that_would_keep_too_few_is_stopped() {
    let mut engine = Engine::under(fleet(PLAIN), preempting());
    let stops = engine.submit(spot(elastic(3, 4, 4), 10_000));
    engine.pass(0);
    engine.pass(100);
    engine.submit(Job { tier: Tier::Reserved, ..job(vec![gang(2, 4)], Some(1000)) });
    engine.pass(0);
    assert_eq!(engine.resizes(stops), Vec::<u32>::new());
    engine.all_leave();
    assert!(!engine.runs(stops));
}

#[test]
fn it_grows_into_what_nobody_waits_for() {
    let mut engine = Engine::under(fleet(PLAIN), preempting());
    let other = engine.submit(job(vec![gang(2, 4)], None));
    let grows = engine.submit(spot(elastic(1, 2, 4), 10_000));
    engine.pass(0);
    assert_eq!(engine.workers(grows), 2);
    engine.tell(Event::JobFinished { job: other });
    engine.pass(10);
    assert_eq!(engine.workers(grows), 2, "it was placed too short a time ago");
    for _ in 0..80 {
        engine.pass(10);
        engine.all_leave();
    }
    assert_eq!((engine.workers(grows), engine.resizes(grows)), (4, vec![4]));
    assert_eq!(engine.state.speed(grows), Ppm::new(2_000_000));
}

#[test]
fn it_does_not_grow_for_less_than_that_costs() {
    let mut engine = Engine::under(fleet(PLAIN), preempting());
    let other = engine.submit(job(vec![gang(2, 4)], None));
    // Twice as fast, the last 380 seconds would be 190: less than twice the restart.
    let ends_soon = engine.submit(spot(elastic(1, 2, 4), 440));
    engine.pass(0);
    engine.tell(Event::JobFinished { job: other });
    for _ in 0..8 {
        engine.pass(50);
    }
    assert_eq!(engine.resizes(ends_soon), Vec::<u32>::new());
}

#[test]
fn it_does_not_grow_while_others_wait() {
    let mut engine = Engine::under(fleet(ISLANDS), preempting());
    let fills = engine.submit(job(vec![gang(8, 4)], None));
    let grows = engine.submit(spot(elastic(1, 2, 4), 10_000));
    engine.pass(0);
    let waits =
        engine.submit(Job { tier: Tier::Spot, ..job(vec![within(gang(6, 4), "rack", Strength::Required)], None) });
    for _ in 0..20 {
        engine.pass(100);
    }
    assert!(engine.runs(fills) && !engine.runs(waits));
    assert_eq!(engine.resizes(grows), Vec::<u32>::new());
}

#[test]
fn it_never_flaps() {
    let mut engine = Engine::under(fleet(PLAIN), preempting());
    let flaps = engine.submit(spot(elastic(1, 2, 4), 1_000_000));
    engine.pass(0);
    // Stronger work comes and goes as often as it can: whenever the gang has grown, and as soon as it has shrunk.
    let (seconds, step) = (20_000, 10);
    let mut strong: Option<JobId> = None;
    for _ in 0..seconds / step {
        engine.pass(step);
        engine.all_leave();
        match strong {
            Some(job) if engine.runs(job) => {
                engine.tell(Event::JobFinished { job });
                strong = None;
            }
            None if engine.workers(flaps) == 4 => {
                strong = Some(engine.submit(Job { tier: Tier::Reserved, ..job(vec![gang(2, 4)], Some(1000)) }));
            }
            _ => {}
        }
        engine.decide();
    }
    let changes = engine.resizes(flaps).len() as i64;
    assert!(changes >= 10, "{changes} changes are no alternation");
    assert!(changes <= seconds / MINIMUM_RUN, "{changes} changes in {seconds} seconds");
}

#[test]
fn speeds_between_points_are_interpolated() {
    let speedup = vec![(2, Ppm::new(600_000)), (8, Ppm::new(1_600_000))];
    let gang = Gang { elastic: Some(Elastic { minimum: 1, maximum: 10, speedup }), ..gang(4, 4) };
    let speeds = [1, 2, 3, 4, 6, 8, 10].map(|workers| gang.speed(workers).parts());
    assert_eq!(speeds, [300_000, 600_000, 800_000, 1_000_000, 1_300_000, 1_600_000, 1_600_000]);
}
