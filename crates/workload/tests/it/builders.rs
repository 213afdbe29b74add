//! Workloads as proptest makes them up: anything that may be meant.

use std::collections::BTreeSet;
use std::str::FromStr;

use offtake_units::{ChipMilli, CpuMilli, Duration, Mebibytes, Ppm, Timestamp};
use offtake_workload::{
    Checkpoint, ChipRequest, Elastic, Gang, Groups, Job, Service, Slice, Strength, Swing, Tier, Topology, Workload,
};
use proptest::prelude::*;

const LAST_MS: i64 = 253_370_764_799_999;
const LONGEST_MS: i64 = 100 * 365 * 86_400_000;

fn name() -> impl Strategy<Value = String> {
    prop_oneof![
        "[a-z0-9#.-]{1,12}",
        "[^\\p{C}\\s]([^\\p{C}]{0,30}[^\\p{C}\\s])?",
        Just("a,\"b\" c".to_owned()),
        Just("\"".to_owned()),
    ]
    .prop_filter("a name has no spaces at its ends and is no control character", |name| {
        !name.is_empty() && name.trim() == name && !name.chars().any(char::is_control) && name.len() <= 253
    })
}

fn word() -> impl Strategy<Value = String> {
    "[A-Za-z0-9._/-]{1,10}"
}

fn tier() -> impl Strategy<Value = Tier> {
    proptest::sample::select(Tier::ALL.to_vec())
}

fn span() -> impl Strategy<Value = Duration> {
    prop_oneof![1..=LONGEST_MS, 1_i64..1_000_000, Just(3_600_000), Just(129_600_000)].prop_map(Duration::from_millis)
}

fn chips() -> impl Strategy<Value = ChipRequest> {
    prop_oneof![
        Just(ChipRequest::None),
        (1_u16..1000).prop_map(|share| ChipRequest::Share(ChipMilli::new(share))),
        (1_u16..=u16::MAX).prop_map(ChipRequest::Whole),
    ]
}

pub fn gang() -> impl Strategy<Value = Gang> {
    let topology = proptest::option::of((word(), proptest::option::of(0_u32..=1_000_000)).prop_map(|(level, cost)| {
        let strength = if cost.is_some() { Strength::Preferred } else { Strength::Required };
        Topology { cost: Ppm::new(cost.unwrap_or_default()), ..Topology::new(level, strength) }
    }));
    let attribute = name().prop_map(|value| value.replace('|', "/"));
    (
        1_u32..=1_000_000,
        chips(),
        any::<u32>(),
        0_u64..=(1 << 30),
        proptest::collection::vec(word(), 0..3),
        proptest::collection::btree_map(word(), attribute, 0..3),
        topology,
        proptest::option::of((1_u32..9, word())),
        (
            0_u32..3,
            proptest::option::of((any::<u32>(), any::<u32>())),
            proptest::option::of((1_u32..=1_000_000, span())),
        ),
    )
        .prop_map(
            |(workers, chips, cpu, memory, accelerators, attributes, topology, groups, (spares, elastic, swing))| {
                Gang {
                    workers,
                    chips,
                    cpu: CpuMilli::new(cpu),
                    memory: Mebibytes::new(memory),
                    accelerators,
                    attributes,
                    topology,
                    // A gang in groups, with spares or in a slice has a fixed number of workers.
                    elastic: elastic.filter(|_| groups.is_none() && spares == 0).map(|(fewer, more)| Elastic {
                        minimum: 1 + fewer % workers,
                        maximum: workers + more % (1_000_001 - workers),
                        speedup: Vec::new(),
                    }),
                    groups: groups.map(|(parts, level)| Groups { workers: workers / gcd(workers, parts), level }),
                    swing: swing
                        .filter(|_| chips != ChipRequest::None)
                        .map(|(share, period)| Swing { share: Ppm::new(share), period }),
                    spares: if matches!(chips, ChipRequest::Whole(_)) && workers < 100_000 { spares } else { 0 },
                    ..Gang::default()
                }
            },
        )
        .prop_flat_map(|gang| {
            let slice = Slice::from_str(&format!("{}x{}", gang.workers % 9 + 1, gang.workers % 7 + 1));
            let sliced = slice.ok().map(|slice| Gang {
                workers: u32::from(slice.sides[0]),
                chips: ChipRequest::Whole(slice.sides[1]),
                slice: Some(slice),
                topology: None,
                groups: None,
                elastic: None,
                spares: 0,
                ..gang.clone()
            });
            prop_oneof![4 => Just(gang.clone()), 1 => Just(sliced.unwrap_or(gang))]
        })
}

const fn gcd(a: u32, b: u32) -> u32 {
    if b == 0 { a } else { gcd(b, a % b) }
}

fn job(most_gangs: usize) -> impl Strategy<Value = Job> {
    let checkpoint =
        proptest::option::of((span(), 0_u64..=(1 << 60)).prop_map(|(interval, bytes)| Checkpoint { interval, bytes }));
    (
        (name(), name(), tier(), any::<bool>(), any::<i32>()),
        (0_i64..LAST_MS, proptest::option::of(any::<u64>()), proptest::option::of(span())),
        checkpoint,
        proptest::collection::vec(gang(), 1..=most_gangs),
    )
        .prop_map(
            |((name, tenant, tier, preemptible, priority), (submitted_ms, slack, duration), checkpoint, gangs)| Job {
                name,
                tenant,
                tier,
                submitted: Timestamp::from_millis(submitted_ms),
                duration,
                deadline: slack.map(|slack| {
                    let room = (LAST_MS - submitted_ms) as u64;
                    Timestamp::from_millis(submitted_ms + 1 + (slack % room) as i64)
                }),
                checkpoint,
                preemptible,
                priority,
                gangs,
                ..Job::default()
            },
        )
}

fn service() -> impl Strategy<Value = Service> {
    let demand = proptest::collection::vec((0_u32..=1_000_000).prop_map(Ppm::new), 24);
    let spread = (proptest::option::of(word()), proptest::option::of(any::<u32>()));
    (name(), name(), tier(), gang(), 1_u32..=1_000_000, any::<u32>(), demand, spread).prop_map(
        |(name, tenant, tier, replica, maximum, minimum, demand, (spread, disruption_budget))| Service {
            program: None,
            name,
            tenant,
            tier,
            replica,
            minimum: minimum % (maximum + 1),
            maximum,
            demand,
            spread,
            disruption_budget,
        },
    )
}

/// Jobs in the order of submission, names once.
pub fn workload(most_gangs: usize, most_services: usize) -> impl Strategy<Value = Workload> {
    let jobs = proptest::collection::vec(job(most_gangs), 0..8);
    let services = proptest::collection::vec(service(), 0..=most_services);
    (jobs, services).prop_map(|(mut jobs, mut services)| {
        let mut taken = BTreeSet::new();
        jobs.retain(|job| taken.insert(job.name.clone()));
        services.retain(|service| taken.insert(service.name.clone()));
        // One gang of a job may be elastic, and no replica.
        jobs.iter_mut().flat_map(|job| job.gangs.iter_mut().skip(1)).for_each(|gang| gang.elastic = None);
        services.iter_mut().for_each(|service| service.replica.elastic = None);
        jobs.sort_by_key(|job| job.submitted);
        Workload { jobs, services }
    })
}

/// A job of one worker with one chip, to be changed by the test.
pub fn plain_job(name: &str) -> Job {
    let gang = Gang {
        workers: 1,
        chips: ChipRequest::Whole(1),
        cpu: CpuMilli::ZERO,
        memory: Mebibytes::ZERO,
        ..Gang::default()
    };
    Job {
        name: name.to_owned(),
        tenant: "t".to_owned(),
        tier: Tier::Standard,
        submitted: Timestamp::EPOCH,
        duration: None,
        deadline: None,
        checkpoint: None,
        pause: None,
        preemptible: false,
        gangs: vec![gang],
        ..Job::default()
    }
}
