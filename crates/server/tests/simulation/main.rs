//! The live control plane in a simulated world: the server's loop, agents and supervisors as they are, and around them a
//! network that delays, drops, doubles and cuts, a disk that tears and refuses, clocks that drift, nodes that lose power.
//!
//! One seed is one world, and gives the same run on every machine:
//!
//! ```text
//! OFFTAKE_SEED=17 cargo test -p offtake-server --test simulation          one seed, with all that happens in it
//! OFFTAKE_SEEDS=0..100000 cargo test -p offtake-server --test simulation  a range of seeds
//! ```

mod clients;
mod clock;
mod disk;
mod node;
mod oracle;
mod plan;
mod process;
mod server;
mod transcript;
mod world;

use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering};

use offtake_engine::{Event as EngineEvent, StopReason};
use offtake_server::fact::{Event, Fact};
use transcript::Transcript;
use world::World;

/// Seeds of an ordinary run of the tests.
const SEEDS: u64 = 4_000;
/// Events before a failure that are shown.
const SHOWN: usize = 60;

/// What came of a world.
#[derive(Debug, PartialEq)]
struct Outcome {
    /// All that is on its disk.
    facts: Vec<Fact>,
}

/// Runs a world to its end.
fn run(seed: u64, transcript: &Transcript) -> Result<Outcome, String> {
    let run = AssertUnwindSafe(|| {
        let mut world = World::new(seed, transcript.clone());
        world.run();
        Outcome { facts: world.disk.facts }
    });
    catch_unwind(run).map_err(|thrown| {
        let text = thrown.downcast_ref::<String>().cloned();
        text.or_else(|| thrown.downcast_ref::<&str>().map(ToString::to_string)).unwrap_or_default()
    })
}

/// What is to be read of a seed that fails: it is run once more, with its transcript.
fn account(seed: u64, failure: &str) -> String {
    let transcript = Transcript::kept();
    let again =
        run(seed, &transcript).err().unwrap_or_else(|| "the second run went well: it is not the same".to_owned());
    format!(
        "{}\nseed {seed} fails: {failure}\n(again: {again})\nall of it: OFFTAKE_SEED={seed} cargo test -p offtake-server --test simulation",
        transcript.last(SHOWN)
    )
}

fn run_all(seeds: Range<u64>, most_failures: usize) {
    let next = AtomicU64::new(seeds.start);
    let worker = || {
        let mut failures = Vec::new();
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= seeds.end {
                return failures;
            }
            let outcome = run(seed, &Transcript::none());
            if let Err(failure) = outcome {
                failures.push((seed, failure));
                if failures.len() >= most_failures {
                    next.store(seeds.end, Ordering::Relaxed);
                }
            }
        }
    };
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let mut failures: Vec<(u64, String)> = std::thread::scope(|scope| {
        let workers: Vec<_> = (0..threads).map(|_| scope.spawn(worker)).collect();
        workers.into_iter().flat_map(|worker| worker.join().expect("it catches what is thrown")).collect()
    });
    failures.sort();
    for (seed, failure) in &failures {
        eprintln!("seed {seed}: {failure}");
    }
    assert!(failures.is_empty(), "{}", account(failures[0].0, &failures[0].1));
}

fn asked(name: &str) -> Option<Range<u64>> {
    let text = std::env::var(name).ok()?;
    let number = |text: &str| text.parse::<u64>().expect("a seed is a number");
    match text.split_once("..") {
        Some((from, to)) => Some(number(from)..number(to)),
        None => Some(number(&text)..number(&text) + 1),
    }
}

#[test]
fn nothing_acknowledged_is_lost() {
    if let Some(one) = asked("OFFTAKE_SEED") {
        let transcript = Transcript::kept();
        let outcome = run(one.start, &transcript);
        println!("{}", transcript.last(usize::MAX));
        assert_eq!(outcome.map(drop), Ok(()), "seed {}", one.start);
        return;
    }
    match asked("OFFTAKE_SEEDS") {
        Some(seeds) => run_all(seeds, usize::MAX),
        None => run_all(0..SEEDS, 1),
    }
}

#[test]
fn work_makes_room_for_stronger_work_and_replicas_leave_drained_nodes() {
    let (mut stopped, mut made_room, mut left) = (0, 0, 0);
    for seed in 0..200 {
        let outcome = run(seed, &Transcript::none()).expect("the seed goes well");
        let mut waited_for = std::collections::BTreeSet::new();
        for fact in outcome.facts {
            match fact.event {
                Event::Engine(EngineEvent::JobStopping { reason: StopReason::Preempted { by }, .. }) => {
                    stopped += 1;
                    waited_for.insert(by);
                }
                Event::Engine(EngineEvent::JobStopping { reason: StopReason::Drained, .. }) => left += 1,
                Event::Engine(EngineEvent::JobPlaced { job, .. }) => made_room += u32::from(waited_for.remove(&job)),
                _ => {}
            }
        }
    }
    assert!(stopped >= 20 && made_room >= 10, "{stopped} jobs were stopped, {made_room} got what they left");
    assert!(left >= 10, "{left} replicas were stopped as their nodes were drained");
}

#[test]
fn a_seed_gives_one_run() {
    for seed in [1, 2, 3, 4] {
        let (first, second) = (Transcript::kept(), Transcript::kept());
        let facts = run(seed, &first);
        assert_eq!(facts, run(seed, &second), "seed {seed}");
        assert!(facts.is_ok_and(|outcome| outcome.facts.len() > 20), "seed {seed} has a history");
        assert_eq!(first.last(usize::MAX), second.last(usize::MAX), "seed {seed}");
    }
    assert_ne!(run(1, &Transcript::none()), run(2, &Transcript::none()), "seeds differ");
}
