//! Whatever is asked: no cap is broken, no chip is given twice, gangs are whole, and the fold of the journal is the state.

use offtake_engine::{Event, JobId, ServiceId, State};
use offtake_units::Ppm;
use offtake_workload::{Gang, Job, Service, Strength, Tier};
use proptest::prelude::*;

use crate::support::{Engine, MIXED, fleet, gang, job, share, within};

#[derive(Clone, Debug)]
enum Step {
    Submit(Job),
    Pass(i64),
    Cancel(u64),
    FinishEarly(u64),
    Scale(u32),
}

fn gangs() -> impl Strategy<Value = Gang> {
    let chips = prop_oneof![3 => 1u16..=4, 1 => Just(0u16)];
    let whole = (1u32..=9, chips).prop_map(|(workers, chips)| gang(workers, chips));
    let kinds = prop_oneof![Just(vec![]), Just(vec!["h100".to_owned()]), Just(vec!["a10".to_owned()])];
    let level = prop_oneof![Just(None), Just(Some("rack")), Just(Some("island")), Just(Some("site"))];
    let topology = (level, prop_oneof![Just(Strength::Required), Just(Strength::Preferred)]);
    let any_gang = prop_oneof![3 => whole, 1 => (100u16..1000).prop_map(share), 1 => (2u32..6, 100u16..1000).prop_map(|(workers, milli)| Gang { workers, ..share(milli) })];
    (any_gang, kinds, topology).prop_map(|(gang, accelerators, (level, strength))| {
        let gang = Gang { accelerators, ..gang };
        level.map_or(gang.clone(), |level| within(gang, level, strength))
    })
}

fn steps() -> impl Strategy<Value = Step> {
    let jobs = (prop::collection::vec(gangs(), 1..3), prop::option::weighted(0.8, 1i64..500), 0usize..4);
    prop_oneof![
        6 => jobs.prop_map(|(gangs, seconds, tier)| Step::Submit(Job { tier: Tier::ALL[tier], ..job(gangs, seconds) })),
        4 => (0i64..200).prop_map(Step::Pass),
        1 => (0u64..60).prop_map(Step::Cancel),
        1 => (0u64..60).prop_map(Step::FinishEarly),
        1 => (0u32..8).prop_map(Step::Scale),
    ]
}

fn run(policy: &str, steps: Vec<Step>) {
    let mut engine = Engine::new(fleet(MIXED), policy);
    let spec = Service {
        name: "chat".to_owned(),
        tenant: "web".to_owned(),
        tier: Tier::Guaranteed,
        replica: gang(1, 2),
        minimum: 1,
        maximum: 8,
        demand: vec![Ppm::ONE; 24],
    };
    engine.tell(Event::ServiceSubmitted { service: ServiceId(0), spec: std::sync::Arc::new(spec) });
    for step in steps {
        match step {
            Step::Submit(job) => {
                engine.submit(job);
            }
            Step::Pass(seconds) => engine.pass(seconds),
            Step::Cancel(job) => engine.tell(Event::JobCancelled { job: JobId(job) }),
            Step::FinishEarly(job) if engine.runs(JobId(job)) => engine.tell(Event::JobFinished { job: JobId(job) }),
            Step::FinishEarly(_) => {}
            Step::Scale(replicas) => engine.tell(Event::ServiceScaled { service: ServiceId(0), replicas }),
        }
        engine.decide();
    }
    let mut folded = State::default();
    engine.journal.iter().for_each(|fact| folded.apply(fact));
    folded.advance(engine.state.now());
    folded.check().expect("every truth holds in the fold");
    assert_eq!(folded.essence(), engine.state.essence(), "the fold of the journal is the state");
}

/// Where all work ends when it is expected to, nobody starts later than its hold said.
fn holds_are_kept(policy: &str, steps: Vec<(Vec<Gang>, i64, i64)>) {
    let mut engine = Engine::new(fleet(MIXED), policy);
    for (gangs, seconds, then) in steps {
        engine.submit(job(gangs, Some(seconds)));
        engine.pass(0);
        // Each instant at which work ends is a pass of its own.
        (0..then).for_each(|_| engine.pass(1));
    }
    let mut promised = std::collections::BTreeMap::new();
    for fact in &engine.journal {
        match &fact.event {
            Event::HoldPlaced { job, start, .. } => {
                let first = promised.get(job).copied().unwrap_or(*start);
                let start = first.min(*start);
                promised.insert(*job, start);
            }
            Event::JobPlaced { job, .. } => {
                let start = promised.get(job).copied().unwrap_or(fact.at);
                assert!(fact.at <= start, "job {} was promised {start:?} and starts at {:?}", job.0, fact.at);
            }
            _ => {}
        }
    }
}

fn ending() -> impl Strategy<Value = (Vec<Gang>, i64, i64)> {
    (prop::collection::vec(gangs(), 1..2), 1i64..60, 0i64..15)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn hold_under_offtake(steps in prop::collection::vec(steps(), 1..60)) {
        run("offtake", steps);
    }

    #[test]
    fn holds_are_kept_under_backfill(steps in prop::collection::vec(ending(), 1..40)) {
        holds_are_kept("backfill", steps);
    }

    #[test]
    fn holds_are_kept_under_offtake(steps in prop::collection::vec(ending(), 1..40)) {
        holds_are_kept("offtake", steps);
    }

    #[test]
    fn hold_under_fifo(steps in prop::collection::vec(steps(), 1..60)) {
        run("fifo", steps);
    }

    #[test]
    fn hold_under_random(steps in prop::collection::vec(steps(), 1..60)) {
        run("random", steps);
    }

    #[test]
    fn hold_under_clustering(steps in prop::collection::vec(steps(), 1..60)) {
        run("clustering", steps);
    }
}
