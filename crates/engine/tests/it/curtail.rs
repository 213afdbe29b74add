//! A cap is lowered below what is drawn under it: what gives way is enough, weakest first, and loses little.

use std::collections::BTreeMap;

use offtake_engine::{Event, JobId, LimitIx, Phase, Stage, StopReason};
use offtake_units::{Duration, Watts};
use offtake_workload::{Checkpoint, Job, Tier};
use proptest::prelude::*;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};

use super::support::{Engine, PLAIN, fleet, gang, job};

const GRID: LimitIx = LimitIx(0);
/// What the sixteen idle nodes draw.
const IDLE: i64 = 16 * 900;
/// What a chip draws more at work.
const CHIP: i64 = 400;

/// Sixteen nodes of four chips under one contract that never binds by itself.
fn engine() -> Engine {
    let text = PLAIN.replace("node = 4 }", "node = 16 }");
    let cap = "[caps.grid]\non = \"here\"\nwatts = 60000\nmeter = \"it\"\nkind = \"contract\"\n";
    Engine::new(fleet(&format!("{text}\n{cap}")), "backfill")
}

fn lower(engine: &mut Engine, chips_at_work: i64) {
    engine.tell(Event::CapSet { cap: GRID, watts: Watts::new(IDLE + CHIP * chips_at_work) });
    engine.decide();
}

fn of(tier: Tier, workers: u32, checkpoint_s: Option<i64>) -> Job {
    let checkpoint = checkpoint_s.map(|seconds| Checkpoint { interval: Duration::from_secs(seconds), bytes: 0 });
    Job { tier, checkpoint, ..job(vec![gang(workers, 4)], Some(100_000)) }
}

fn curtailed(engine: &Engine) -> Vec<JobId> {
    let stopping = Stage::Stopping(StopReason::Curtailed);
    let is = |phase: &Phase| matches!(phase, Phase::Running { stage, .. } if *stage == stopping);
    engine.state.jobs().into_iter().filter(|(_, work)| is(&work.phase)).map(|(job, _)| job).collect()
}

fn declared(engine: &Engine) -> Vec<Watts> {
    let least = engine.journal.iter().filter_map(|fact| match fact.event {
        Event::CurtailmentUnmet { least, .. } => Some(least),
        _ => None,
    });
    least.collect()
}

#[test]
fn the_weakest_gives_way_and_comes_back_when_the_cap_rises() {
    let mut engine = engine();
    let reserved = engine.submit(of(Tier::Reserved, 4, None));
    let standard = engine.submit(of(Tier::Standard, 4, Some(600)));
    let spot = engine.submit(of(Tier::Spot, 4, None));
    engine.pass(0);
    engine.pass(7200);
    lower(&mut engine, 40);
    assert_eq!(curtailed(&engine), [spot], "two hours lost of spot work come before two minutes of another's");
    lower(&mut engine, 40);
    assert_eq!(curtailed(&engine), [spot], "what is stopping already counts");
    lower(&mut engine, 16);
    assert_eq!(curtailed(&engine), [standard, spot]);
    engine.restore();
    engine.pass(120);
    assert!(engine.runs(reserved) && !engine.runs(standard) && !engine.runs(spot));
    lower(&mut engine, 48);
    assert!(engine.runs(standard) && engine.runs(spot), "power that is back starts them again");
    assert!(declared(&engine).is_empty());
}

#[test]
fn work_that_saved_a_while_ago_loses_less() {
    let mut engine = engine();
    let saves = engine.submit(of(Tier::Standard, 4, Some(600)));
    let never = engine.submit(of(Tier::Standard, 4, None));
    engine.pass(0);
    engine.pass(3000);
    lower(&mut engine, 16);
    assert_eq!(curtailed(&engine), [saves]);
    assert!(engine.runs(never));
}

#[test]
fn no_more_is_stopped_than_it_takes() {
    let mut engine = engine();
    let small: Vec<JobId> = (0..3).map(|_| engine.submit(of(Tier::Standard, 1, Some(60)))).collect();
    let large = engine.submit(of(Tier::Standard, 8, Some(60)));
    engine.pass(0);
    engine.pass(60);
    // Thirty-two and twelve chips work; ten have to go.
    lower(&mut engine, 34);
    assert_eq!(curtailed(&engine), small);
    assert!(engine.runs(large));
}

#[test]
fn a_cap_below_what_idle_nodes_draw_is_declared_at_once() {
    let mut engine = engine();
    engine.submit(of(Tier::Reserved, 4, None));
    engine.pass(0);
    engine.tell(Event::CapSet { cap: GRID, watts: Watts::new(IDLE - 1000) });
    engine.decide();
    assert_eq!(curtailed(&engine).len(), 1, "it is kept as far as it goes");
    assert_eq!(declared(&engine), [Watts::new(IDLE)]);
    engine.restore();
    engine.pass(120);
    assert_eq!(declared(&engine).len(), 1, "once is enough");
}

#[test]
fn a_job_that_never_starts_again_is_stopped_last_of_its_tier() {
    let mut engine = engine();
    let program = |requeue: bool| {
        let text = serde_json::json!({ "start": { "command": ["train"] }, "requeue": requeue });
        Some(serde_json::from_value(text).expect("a program"))
    };
    let once = engine.submit(Job { program: program(false), ..of(Tier::Standard, 4, None) });
    engine.pass(0);
    engine.pass(3600);
    let again = engine.submit(Job { program: program(true), ..of(Tier::Standard, 4, None) });
    let stronger = engine.submit(of(Tier::Guaranteed, 4, None));
    engine.pass(0);
    engine.pass(7200);
    lower(&mut engine, 32);
    assert_eq!(curtailed(&engine), [again], "it loses more, and not all");
    lower(&mut engine, 16);
    assert_eq!(curtailed(&engine), [once, again]);
    assert!(engine.runs(stronger));
}

/// Work as the account of this test sees it.
#[derive(Clone, Copy, Debug)]
struct Worker {
    job: JobId,
    tier: Tier,
    chips: i64,
    loss: i64,
}

/// What runs, with chips × (time since the last checkpoint + ten minutes).
fn workers(engine: &Engine) -> Vec<Worker> {
    let now = engine.now();
    let worker = |(job, work): (JobId, &offtake_engine::Work)| {
        let Phase::Running { placed, since, .. } = &work.phase else { return None };
        let chips = i64::from(work.spec.gangs[0].workers) * 4;
        let unsaved = match work.spec.checkpoint {
            Some(checkpoint) => (now - *since).as_millis() % checkpoint.interval.as_millis(),
            None => (now - *placed).as_millis(),
        };
        Some(Worker { job, tier: work.spec.tier, chips, loss: chips * (unsaved + 600_000) })
    };
    engine.state.jobs().into_iter().filter_map(worker).collect()
}

/// The least loss of work of one tier that gives back so many chips' draw.
fn least_loss(alike: &[Worker], chips: i64) -> i64 {
    let sums = (0..1_u32 << alike.len()).map(|chosen| {
        let of = alike.iter().enumerate().filter(|(place, _)| chosen & (1 << place) != 0);
        of.fold((0, 0), |(chips, loss), (_, worker)| (chips + worker.chips, loss + worker.loss))
    });
    sums.filter(|(given, _)| *given >= chips).map(|(_, loss)| loss).min().unwrap_or(i64::MAX)
}

fn jobs() -> impl Strategy<Value = Vec<(u8, u32, Option<i64>, i64)>> {
    prop::collection::vec((0..4_u8, 1..4_u32, prop::option::of(60..4000_i64), 0..3000_i64), 3..11)
}

#[test]
fn enough_gives_way_weakest_first_at_a_loss_near_the_least() {
    let seed = TestRng::deterministic_rng(RngAlgorithm::ChaCha);
    let mut runner = TestRunner::new_with_rng(Config { cases: 512, ..Config::default() }, seed);
    let lost = std::cell::RefCell::new((0_f64, 0_f64, 0));
    let ran = runner.run(&(jobs(), 0..64_i64), |(asked, left)| {
        let mut engine = engine();
        let tiers = [Tier::Reserved, Tier::Guaranteed, Tier::Standard, Tier::Spot];
        for (tier, nodes, checkpoint, after) in asked {
            engine.submit(of(tiers[tier as usize], nodes, checkpoint));
            engine.pass(after);
        }
        let before = workers(&engine);
        let over = before.iter().map(|worker| worker.chips).sum::<i64>() - left;
        lower(&mut engine, left);
        let stopped = curtailed(&engine);
        let mut by_tier: BTreeMap<Tier, (Vec<Worker>, Vec<Worker>)> = BTreeMap::new();
        for worker in before {
            let (all, gone) = by_tier.entry(worker.tier).or_default();
            all.push(worker);
            if stopped.contains(&worker.job) {
                gone.push(worker);
            }
        }
        let mut needed = over;
        for (all, gone) in by_tier.values().rev() {
            let given: i64 = gone.iter().map(|worker| worker.chips).sum();
            if needed <= 0 {
                prop_assert!(gone.is_empty(), "stronger work is stopped in vain");
            } else if given < needed {
                prop_assert_eq!(gone.len(), all.len(), "stronger work is stopped while weaker runs");
            } else {
                for worker in gone {
                    prop_assert!(given - worker.chips < needed, "job {} need not have been stopped", worker.job.0);
                }
                let mut lost = lost.borrow_mut();
                lost.0 += gone.iter().map(|worker| worker.loss).sum::<i64>() as f64;
                lost.1 += least_loss(all, needed) as f64;
                lost.2 += 1;
            }
            needed -= given;
        }
        prop_assert!(needed <= 0, "the cap does not hold with what is left");
        prop_assert!(declared(&engine).is_empty());
        Ok(())
    });
    ran.expect("every cut is kept");
    let (given_up, least, cuts) = lost.into_inner();
    assert!(cuts > 300, "{cuts} cuts");
    assert!(given_up <= least * 1.05, "what is lost is {:.3} of the least", given_up / least);
}
