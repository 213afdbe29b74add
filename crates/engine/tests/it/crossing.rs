//! Levels at a cost: a gang waits for the level that it prefers as long as that is worth it, and is slower where it lies
//! wider. The figures are worked out by hand.

use std::collections::BTreeMap;

use offtake_engine::{Event, Explanation, JobId, Phase, State, Withheld};
use offtake_fleet::{LevelIx, NodeIx};
use offtake_units::{Ppm, Timestamp};
use offtake_workload::{Elastic, Gang, Job, Strength, Topology};
use proptest::prelude::*;

use crate::support::{Engine, ISLANDS, fleet, gang, job, within};

/// A gang of whole nodes that prefers an island, at a cost of a tenth a level.
fn weighing(workers: u32) -> Gang {
    let topology = Topology { cost: Ppm::new(100_000), ..Topology::new("island", Strength::Preferred) };
    Gang { topology: Some(topology), ..gang(workers, 4) }
}

impl Engine {
    /// A fleet of two racks of three islands of two nodes, full but for some nodes; and who is on each.
    fn full_but(free: &[u32], policy: &str) -> (Self, BTreeMap<u32, JobId>) {
        let mut engine = Self::new(fleet(ISLANDS), policy);
        let jobs: Vec<JobId> = (0..12).map(|_| engine.submit(job(vec![gang(1, 4)], Some(1_000_000)))).collect();
        engine.decide();
        let on: BTreeMap<u32, JobId> = jobs.into_iter().map(|job| (engine.nodes(job)[0].first.0, job)).collect();
        assert_eq!(on.len(), 12, "each node has its job");
        free.iter().for_each(|node| engine.tell(Event::JobFinished { job: on[node] }));
        (engine, on)
    }

    fn ends(&self, job: JobId) -> Timestamp {
        match self.state.job(job).map(|work| &work.phase) {
            Some(Phase::Running { ends, .. }) => *ends,
            phase => unreachable!("job {} runs, not {phase:?}", job.0),
        }
    }

    /// What is said of the levels of a placed job.
    fn levels(&mut self, job: JobId) -> Option<(u32, Ppm)> {
        match self.state.explain(job) {
            Some(Explanation::Placed(placed)) => placed.levels,
            _ => None,
        }
    }

    /// What is said of the levels of a waiting job.
    fn awaits(&mut self, job: JobId) -> Option<(u32, Option<Timestamp>)> {
        match self.state.explain(job) {
            Some(Explanation::Waiting(waiting)) => waiting.levels,
            _ => None,
        }
    }
}

#[test]
fn it_waits_a_tenth_of_its_time_for_an_island_and_takes_a_tenth_longer_in_a_rack() {
    for policy in ["offtake", "fifo"] {
        let (mut engine, _) = Engine::full_but(&[0, 2], policy);
        let job = engine.submit(job(vec![weighing(2)], Some(1000)));
        engine.decide();
        assert_eq!(engine.awaits(job), Some((0, Some(Timestamp::from_secs(100)))), "{policy}");
        assert_eq!(engine.state.next_crossing(), Some(Timestamp::from_secs(100)));
        engine.pass(99);
        assert!(!engine.runs(job), "an island may still come free");
        engine.restore();
        engine.pass(1);
        assert!(engine.runs(job), "a rack will do");
        assert_eq!(engine.levels(job), Some((1, Ppm::new(909_091))));
        assert_eq!(engine.ends(job), Timestamp::from_secs(100 + 1100));
        assert_eq!(engine.state.next_crossing(), None);
    }
}

#[test]
fn it_takes_an_island_that_comes_free_in_time() {
    let (mut engine, on) = Engine::full_but(&[0, 2], "offtake");
    let job = engine.submit(job(vec![weighing(2)], Some(1000)));
    engine.decide();
    engine.wait(50);
    engine.tell(Event::JobFinished { job: on[&1] });
    engine.decide();
    assert_eq!(engine.levels(job), Some((0, Ppm::ONE)));
    assert_eq!(engine.ends(job), Timestamp::from_secs(50 + 1000));
    assert_eq!(engine.state.next_crossing(), None, "it waits for nothing any more");
}

#[test]
fn it_crosses_level_by_level() {
    let (mut engine, _) = Engine::full_but(&[0, 6], "offtake");
    let job = engine.submit(job(vec![weighing(2)], Some(1000)));
    engine.decide();
    engine.pass(100);
    assert_eq!(engine.awaits(job), Some((1, Some(Timestamp::from_secs(200)))), "a rack would do, and none has room");
    engine.pass(100);
    assert_eq!(engine.levels(job), Some((2, Ppm::new(833_333))));
    assert_eq!(engine.ends(job), Timestamp::from_millis(200_000 + 1_200_001));
}

#[test]
fn without_a_cost_it_goes_wide_at_once() {
    let (mut engine, _) = Engine::full_but(&[0, 6], "offtake");
    let job = engine.submit(job(vec![within(gang(2, 4), "island", Strength::Preferred)], Some(1000)));
    engine.decide();
    assert_eq!(engine.ends(job), Timestamp::from_secs(1000));
    assert_eq!(engine.levels(job), None);
}

#[test]
fn a_level_that_could_never_hold_it_is_not_waited_for() {
    let (mut engine, _) = Engine::full_but(&[0, 1, 2, 6], "offtake");
    let first = engine.submit(job(vec![weighing(3)], Some(1000)));
    engine.decide();
    assert_eq!(engine.levels(first), Some((1, Ppm::new(909_091))), "no island has three nodes");
    assert_eq!(engine.ends(first), Timestamp::from_secs(1100));
}

#[test]
fn the_next_of_its_kind_waits_from_when_it_is_the_first() {
    let (mut engine, on) = Engine::full_but(&[0, 2], "offtake");
    let first = engine.submit(job(vec![weighing(2)], Some(1000)));
    let second = engine.submit(job(vec![weighing(2)], Some(1000)));
    engine.decide();
    assert_eq!(engine.awaits(second), Some((0, None)), "another comes first");
    engine.pass(40);
    engine.tell(Event::JobCancelled { job: first });
    engine.decide();
    assert_eq!(engine.awaits(second), Some((0, Some(Timestamp::from_secs(140)))));
    // Stopped and waiting again, it prefers what it preferred.
    engine.pass(100);
    assert_eq!(engine.levels(second).map(|(crossed, _)| crossed), Some(1));
    engine.tell(Event::JobRequeued { job: second, saved_until: None, held: false });
    engine.decide();
    assert_eq!(engine.awaits(second), Some((0, Some(Timestamp::from_secs(240)))));
    engine.tell(Event::JobFinished { job: on[&3] });
    engine.decide();
    assert_eq!(engine.levels(second), Some((0, Ppm::ONE)));
}

#[test]
fn a_smaller_gang_in_its_island_goes_before_a_whole_one_across() {
    let (mut engine, _) = Engine::full_but(&[0, 2], "offtake");
    let elastic = Some(Elastic { minimum: 1, maximum: 2, speedup: Vec::new() });
    let job = engine.submit(job(vec![Gang { elastic, ..weighing(2) }], Some(1000)));
    engine.decide();
    assert_eq!(engine.nodes(job).iter().map(|nodes| nodes.count).sum::<u32>(), 1);
    assert_eq!(engine.ends(job), Timestamp::from_secs(2000), "half the workers, and no level crossed");
}

/// Nodes that nothing uses and nobody else has kept, by the domain of a level.
fn free_by(state: &State, level: u32, job: JobId) -> BTreeMap<u32, u32> {
    let mut free = BTreeMap::new();
    for node in (0..state.fleet().nodes.len() as u32).map(NodeIx) {
        let kept = state
            .holds()
            .iter()
            .any(|hold| hold.job != job && hold.nodes.iter().any(|range| range.numbers().contains(&node.0)));
        let is_free = state.capacity().class_of(node).vector.whole == 4;
        if is_free && !kept && !state.capacity().is_withheld(node, Withheld::Out) {
            *free.entry(state.fleet().around(node, LevelIx(level)).0).or_default() += 1;
        }
    }
    free
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, ..ProptestConfig::default() })]

    /// Never wider than needed: whoever crosses has waited for each level that could hold it, and none that it did not
    /// cross had room. What is folded from the facts is what lived, and what was restored decides the same.
    #[test]
    fn nobody_crosses_before_its_time_nor_past_a_level_with_room(
        steps in prop::collection::vec((1u32..=4, 100i64..2000, 0i64..120, any::<bool>(), any::<prop::sample::Index>()), 1..40),
        holds in 0u32..3,
        fifo in any::<bool>(),
    ) {
        let mut engine = Engine::new(fleet(ISLANDS), if fifo { "fifo" } else { "offtake" });
        if !fifo {
            engine.keep(holds);
        }
        let half = steps.len() / 2;
        for (step, (workers, seconds, wait, weighs, stopped)) in steps.into_iter().enumerate() {
            let gang = if weighs { weighing(workers) } else { gang(workers, 4) };
            engine.submit(job(vec![gang], Some(seconds)));
            engine.pass(wait);
            let running: Vec<JobId> = engine.state.jobs().into_iter().map(|(job, _)| job).filter(|job| engine.runs(*job)).collect();
            if workers == 4 && !running.is_empty() {
                engine.tell(Event::JobRequeued { job: *stopped.get(&running), saved_until: None, held: false });
                engine.decide();
            }
            if step == half {
                engine.restore();
            }
        }
        prop_assert_eq!(engine.folded().essence(), engine.state.essence());

        let mut state = State::default();
        let mut awaited: BTreeMap<JobId, Timestamp> = BTreeMap::new();
        let mut crossed: BTreeMap<JobId, u32> = BTreeMap::new();
        for fact in &engine.journal {
            match &fact.event {
                Event::LevelAwaited { job } => {
                    awaited.insert(*job, fact.at);
                }
                Event::LevelCrossed { job } => *crossed.entry(*job).or_default() += 1,
                Event::JobPlaced { job, placement } => {
                    let spec: &Job = &state.job(*job).expect("it waits").spec;
                    let gang = &spec.gangs[0];
                    if gang.topology.is_some() {
                        let level = (0..=2).rev().find(|level| {
                            let mut around = placement.nodes().into_iter().flat_map(|range| range.numbers()).map(|node| {
                                state.fleet().around(NodeIx(node), LevelIx(*level))
                            });
                            let first = around.next();
                            around.all(|domain| Some(domain) == first)
                        }).expect("a site holds all");
                        // No island holds more than two.
                        let waited_for = 2 - level - u32::from(gang.workers > 2 && level < 2);
                        prop_assert!(waited_for <= crossed.get(job).copied().unwrap_or(0));
                        if waited_for > 0 {
                            let each = spec.duration.expect("it has a limit").as_millis() / 10;
                            let waited = fact.at - awaited[job];
                            prop_assert!(waited.as_millis() >= i64::from(waited_for) * each);
                        }
                        for narrower in level + 1..=2 {
                            let most = free_by(&state, narrower, *job).into_values().max().unwrap_or(0);
                            prop_assert!(most < gang.workers, "{most} nodes were free in one domain of level {narrower}");
                        }
                    }
                    awaited.remove(job);
                    crossed.remove(job);
                }
                _ => {}
            }
            state.apply(fact);
        }
    }
}
