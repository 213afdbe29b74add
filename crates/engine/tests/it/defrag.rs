//! Moves that open a block: proposed where they win more than they lose, and what becomes of them.

use offtake_engine::{Event, JobId, Phase, Policy, Preemption, Stage, carry_out_moves};
use offtake_fleet::{LevelIx, NodeKindIx};
use offtake_units::{Duration, Timestamp};
use offtake_workload::{Checkpoint, Gang, Job, Strength};
use proptest::prelude::*;

use crate::support::{Engine, ISLANDS, MIXED, fleet, gang, job, within};

fn moving(moves: bool) -> Policy {
    let preemption = Preemption {
        restart: Duration::from_secs(100),
        grace: Duration::from_secs(20),
        minimum_run: [Duration::from_secs(60); 4],
        moves,
        ..Preemption::default()
    };
    Policy { preemption: Some(preemption), ..Policy::named("offtake", 7).expect("it has a name") }
}

fn movable(gang: Gang) -> Job {
    Job {
        preemptible: true,
        checkpoint: Some(Checkpoint { interval: Duration::from_secs(10), bytes: 0 }),
        ..job(vec![gang], Some(100_000))
    }
}

/// One job on a node of each island of both racks.
fn scattered(policy: Policy) -> Engine {
    let mut engine = Engine::under(fleet(ISLANDS), policy);
    let all: Vec<JobId> = (0..12).map(|_| engine.submit(movable(gang(1, 4)))).collect();
    engine.pass(0);
    for id in all {
        if engine.nodes(id)[0].first.0 % 2 == 1 {
            engine.tell(Event::JobCancelled { job: id });
        }
    }
    engine.pass(100);
    engine
}

impl Engine {
    fn all_move(&mut self) {
        let stops = |phase: &Phase| matches!(phase, Phase::Running { stage: Stage::Stopping(_), .. });
        let leaving: Vec<JobId> =
            self.state.jobs().into_iter().filter(|(_, work)| stops(&work.phase)).map(|(job, _)| job).collect();
        let saved_until = Some(self.now());
        for job in leaving {
            self.tell(Event::JobRequeued { job, saved_until, held: false });
            self.decide();
        }
    }
}

#[test]
fn a_block_is_opened_for_a_gang_that_waits() {
    let mut engine = scattered(moving(true));
    let waits = engine.submit(job(vec![within(gang(6, 4), "rack", Strength::Required)], Some(1000)));
    engine.pass(0);
    let stopping = engine
        .state
        .jobs()
        .into_iter()
        .filter(|(_, work)| matches!(work.phase, Phase::Running { stage: Stage::Stopping(_), .. }));
    assert_eq!(stopping.count(), 3, "three of one rack go to the other");
    engine.all_move();
    assert!(engine.runs(waits));
    assert_eq!(engine.state.queue().jobs(), 0, "whoever was moved runs again");
}

#[test]
fn it_is_only_proposed_where_the_policy_does_not_allow_it() {
    let mut engine = scattered(moving(false));
    let waits = engine.submit(job(vec![within(gang(6, 4), "rack", Strength::Required)], Some(1000)));
    engine.pass(0);
    assert!(!engine.runs(waits));
    let plan = engine.state.defragmentation_for(waits).expect("there is a way");
    assert_eq!(plan.moves.len(), 3);
    assert!(plan.pays(), "{plan:?}");
    carry_out_moves(&mut engine.state, plan, &mut engine.journal);
    engine.check();
    engine.all_move();
    assert!(engine.runs(waits));
}

#[test]
fn it_does_not_pay_for_who_would_not_wait_long() {
    let mut engine = scattered(moving(true));
    // Three of one rack end in a moment.
    let ends = engine.state.jobs().into_iter().map(|(job, _)| job).take(3).collect::<Vec<_>>();
    for job in ends {
        engine.tell(Event::JobCancelled { job });
    }
    engine.pass(0);
    let brief = (0..6).map(|_| engine.submit(job(vec![gang(1, 4)], Some(30)))).collect::<Vec<_>>();
    engine.pass(0);
    assert!(brief.iter().all(|job| engine.runs(*job)));
    let waits = engine.submit(job(vec![within(gang(6, 4), "rack", Strength::Required)], Some(1000)));
    engine.pass(0);
    assert!(engine.state.defragmentation_for(waits).is_none_or(|plan| !plan.pays()));
    engine.pass(31);
    assert_eq!(engine.state.now(), Timestamp::from_secs(131));
    engine.check();
}

#[test]
fn a_size_is_opened_for_nobody_in_particular() {
    let mut engine = scattered(moving(false));
    let before = engine.state.essence();
    let plan = engine.state.defragmentation(LevelIx(1), NodeKindIx(0), 6).expect("there is a way");
    assert_eq!((plan.moves.len(), plan.gain, plan.pays()), (3, None, false));
    assert!(engine.state.defragmentation(LevelIx(1), NodeKindIx(0), 7).is_none(), "no rack has seven");
    assert_eq!(engine.state.essence(), before);
    engine.check();
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn what_is_carried_out_opens_the_block_and_breaks_no_cap(
        jobs in prop::collection::vec((1u32..4, 1u16..=4, any::<bool>(), any::<bool>()), 4..24),
        ask in (2u32..7, prop_oneof![Just("rack"), Just("island")]),
    ) {
        let mut engine = Engine::under(fleet(MIXED), moving(false));
        let h100 = |gang: Gang| Gang { accelerators: vec!["h100".to_owned()], ..gang };
        for (workers, chips, may, stays) in jobs {
            let id = engine.submit(Job { preemptible: may, ..movable(h100(gang(workers, chips))) });
            engine.pass(1);
            if !stays {
                engine.tell(Event::JobCancelled { job: id });
            }
        }
        engine.pass(100);
        let waits = engine.submit(job(vec![h100(within(gang(ask.0, 4), ask.1, Strength::Required))], Some(1000)));
        engine.pass(0);
        let before = engine.state.essence();
        let plan = engine.state.defragmentation_for(waits);
        prop_assert_eq!(&engine.state.essence(), &before, "a plan changes nothing");
        if let Some(plan) = plan.filter(|plan| plan.pays()) {
            prop_assert!(Some(plan.cost) < plan.gain);
            let queue = engine.state.queue().jobs();
            carry_out_moves(&mut engine.state, plan, &mut engine.journal);
            engine.decide();
            engine.all_move();
            // Caps are checked at every step.
            prop_assert!(engine.runs(waits), "the block is open");
            prop_assert!(engine.state.queue().jobs() < queue, "and nobody waits for it who ran");
        }
    }
}
