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

use transcript::Transcript;
use world::World;

/// Seeds of an ordinary run of the tests.
const SEEDS: u64 = 3_000;
/// Events before a failure that are shown.
const SHOWN: usize = 60;

/// Runs a world to its end; gives the facts on its disk.
fn run(seed: u64, transcript: &Transcript) -> Result<String, String> {
    let run = AssertUnwindSafe(|| {
        let mut world = World::new(seed, transcript.clone());
        world.run();
        serde_json::to_string(&world.disk.facts).expect("facts are data")
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
            if let Err(failure) = run(seed, &Transcript::none()) {
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
fn a_seed_gives_one_run() {
    for seed in [1, 2, 3, 4] {
        let (first, second) = (Transcript::kept(), Transcript::kept());
        let facts = run(seed, &first);
        assert_eq!(facts, run(seed, &second), "seed {seed}");
        assert!(facts.is_ok_and(|facts| facts.len() > 1000), "seed {seed} has a history");
        assert_eq!(first.last(usize::MAX), second.last(usize::MAX), "seed {seed}");
    }
    assert_ne!(run(1, &Transcript::none()), run(2, &Transcript::none()), "seeds differ");
}
#[test]
fn temp() {
    use offtake_engine::*;
    use offtake_units::*;
    for per in [None, Some(1), Some(2)] {
        for kinds in [[4, 3, 2], [4, 4, 4], [4, 4, 3]] {
            let nodes: Vec<_> = kinds
                .iter()
                .enumerate()
                .map(|(at, cpu)| offtake_fleet::JoinedNode {
                    name: format!("n{at}"),
                    cpu: CpuMilli::new(cpu * 1000),
                    memory: Mebibytes::new(16000),
                    accelerator: None,
                    chips: 0,
                    chip_memory: None,
                    chip_watts: None,
                    attributes: Default::default(),
                })
                .collect();
            let fleet = std::sync::Arc::new(offtake_fleet::joined("local", &nodes));
            let mut state = State::default();
            let at = Timestamp::EPOCH;
            state.apply(&Fact { at, event: Event::FleetLoaded { fleet } });
            let file = offtake_workload::JobFile {
                command: vec!["x".to_owned()],
                gangs: vec![offtake_workload::WireGang {
                    workers: Some(3),
                    cpu_milli: Some(1000),
                    per_node: per,
                    ..Default::default()
                }],
                ..Default::default()
            };
            let job = file.read(at, "a").expect("reads").job;
            let ok = state.placeable(&job.gangs);
            state.apply(&Fact { at, event: Event::JobSubmitted { job: JobId(1), spec: std::sync::Arc::new(job) } });
            let mut facts = Vec::new();
            decide(&mut state, at, &mut facts);
            println!("{per:?} {kinds:?} {ok:?} {facts:?}");
        }
    }
}
