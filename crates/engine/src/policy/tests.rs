//! Small free vectors on which each packing's order is plain, and any vectors on which none may fail.

use std::collections::BTreeMap;
use std::sync::Arc;

use offtake_fleet::{
    AcceleratorKind, AcceleratorKindIx, Domain, DomainIx, Fleet, LevelIx, Node, NodeIx, NodeKind, NodeKindIx, Site,
    SiteIx,
};
use offtake_units::{ChipMilli, CpuMilli, Duration, Mebibytes, Ppm, Timestamp, Watts};
use offtake_workload::{ChipRequest, Gang, Job, Tier};
use proptest::prelude::*;

use super::replays::REPLAYS;
use super::*;
use crate::capacity::size_bit;
use crate::decide::decide;
use crate::fact::{Event, Fact, JobId};
use crate::place::{ShapeIx, fits};
use crate::request::Shape;
use crate::state::State;

/// A fleet with one node of each kind: chips, cores, GiB.
fn fleet(kinds: &[(u16, u32, u64)]) -> Fleet {
    let kind = |(number, (chips, cores, gib)): (usize, &(u16, u32, u64))| NodeKind {
        name: format!("kind-{number}"),
        accelerator: (*chips > 0).then_some(AcceleratorKindIx(0)),
        chips: *chips,
        cpu: CpuMilli::new(cores * 1000),
        memory: Mebibytes::new(gib * 1024),
        base: Watts::ZERO,
        attributes: BTreeMap::new(),
    };
    let count = kinds.len() as u32;
    let (idle, peak) = (Watts::new(1), Watts::new(2));
    Fleet {
        levels: vec!["site".to_owned()],
        accelerators: vec![AcceleratorKind {
            name: "chip".to_owned(),
            idle,
            operating: peak,
            peak,
            memory: None,
            power_levels: Vec::new(),
        }],
        node_kinds: kinds.iter().enumerate().map(kind).collect(),
        sites: vec![Site {
            name: "site".to_owned(),
            provider: None,
            region: None,
            price_zone: None,
            carbon_zone: None,
            jurisdiction: None,
            storage_bandwidth: None,
            backup: None,
            ramp: None,
            pue: Ppm::ONE,
            cooling: None,
            ride_through: Vec::new(),
        }],
        domains: vec![Domain {
            name: "site".to_owned(),
            level: LevelIx(0),
            parent: None,
            site: SiteIx(0),
            children: 1..1,
            nodes: 0..count,
        }],
        nodes: (0..count).map(|kind| Node { kind: NodeKindIx(kind), domain: DomainIx(0) }).collect(),
        ..Fleet::default()
    }
}

/// The fleet of most tests: nodes of 8 chips, 128 cores and 1,024 GiB.
fn eights() -> Fleet {
    fleet(&[(8, 128, 1024)])
}

fn free(whole: u16, shared: &[u16], cores: u32) -> FreeVector {
    let (cpu, memory) = (CpuMilli::new(cores * 1000), Mebibytes::new(1024 * 1024));
    FreeVector { kind: NodeKindIx(0), cpu, memory, whole, shared: shared.into(), sizes: 0 }
}

fn request(chips: ChipRequest, cores: u32) -> Request {
    Request {
        workers: 1,
        chips,
        cpu: CpuMilli::new(cores * 1000),
        memory: Mebibytes::new(1024),
        kinds: vec![(NodeKindIx(0), 1)],
        topology: None,
        widest: LevelIx(0),
        per_node: None,
        groups: None,
        spares: 0,
        slice: None,
        least: 1,
        swing: None,
    }
}

fn share(milli: u16, cores: u32) -> Request {
    request(ChipRequest::Share(ChipMilli::new(milli)), cores)
}

fn whole(chips: u16, cores: u32) -> Request {
    request(ChipRequest::Whole(chips), cores)
}

fn scored(packing: Packing, mix: &Mix, fleet: &Fleet, free: &FreeVector, request: &Request) -> Scored {
    let value = packing.value(mix, free);
    packing.score(mix, free, value, &fleet.node_kinds[free.kind.ix()], request, 1)
}

/// Checks that a packing ranks free vectors strictly as they are listed.
#[track_caller]
fn ranks(packing: Packing, mix: &[(Request, i64)], request: &Request, listed: &[FreeVector]) {
    let fleet = eights();
    let mix = Mix::given(&fleet, packing, mix, false);
    let scores: Vec<i64> = listed.iter().map(|free| scored(packing, &mix, &fleet, free, request).score).collect();
    assert!(scores.is_sorted_by(|a, b| a < b), "{packing:?} gives {scores:?}");
}

#[test]
fn policies_keep_their_names() {
    for name in Policy::NAMES {
        let policy = Policy::named(name, 7);
        assert_eq!(policy.map(|policy| policy.to_string()).as_deref(), Some(name));
    }
    assert_eq!(Policy::named("best", 7), None);
    let odd = Policy { queue: Queue::Fifo, packing: Packing::Fgd, ..Policy::default() };
    assert_eq!((odd.name(), odd.to_string().as_str()), (None, "Fifo with Fgd"));
}

#[test]
fn dotprod_takes_the_smallest_product() {
    ranks(Packing::DotProd, &[], &whole(4, 64), &[free(4, &[], 64), free(8, &[], 64), free(8, &[], 128)]);
}

#[test]
fn bestfit_takes_the_least_left_of_cores_and_chips_alike() {
    ranks(
        Packing::BestFit,
        &[],
        &whole(1, 8),
        &[free(1, &[], 8), free(2, &[], 8), free(1, &[], 40), free(8, &[], 128)],
    );
}

#[test]
fn packing_takes_shared_chips_then_nodes_in_use_then_idle_ones() {
    let nodes = [free(1, &[100], 8), free(1, &[500], 8), free(3, &[], 8), free(8, &[], 128)];
    ranks(Packing::Packing, &[], &share(100, 1), &nodes);
}

#[test]
fn clustering_keeps_sizes_together() {
    let (fours, shares) = (size_bit(4, false), size_bit(0, true));
    let runs = |sizes| FreeVector { sizes, ..free(4, &[], 64) };
    ranks(Packing::Clustering, &[], &whole(4, 8), &[runs(fours), runs(fours | shares), runs(0), runs(shares)]);
}

#[test]
fn sixty_three_chips_and_more_are_one_size() {
    assert_eq!(size_bit(63, false), size_bit(64, false));
    assert_ne!(size_bit(62, false), size_bit(63, false));
    assert_eq!(size_bit(0, false), 0);
}

#[test]
fn fgd_spares_the_chips_that_the_typical_request_needs() {
    // Halves are typical: 700 left can lose 200 without harm, a whole chip loses one of two.
    let typical = [(share(500, 1), 9), (whole(1, 1), 1)];
    ranks(Packing::Fgd, &typical, &share(200, 1), &[free(0, &[700], 64), free(0, &[600], 64)]);
    let mix = Mix::given(&eights(), Packing::Fgd, &typical, false);
    let chosen = scored(Packing::Fgd, &mix, &eights(), &free(1, &[700, 600], 64), &share(200, 1));
    assert_eq!(chosen.level, ChipMilli::new(700));
}

#[test]
fn fgd_is_the_published_measure() {
    let mix = Mix::given(&eights(), Packing::Fgd, &[(share(500, 8), 3), (whole(2, 8), 1)], false);
    let fragmented = |free: &FreeVector| mix.typical().fragmented(&Room::of(free));
    // Three of four can use all but the 400; the fourth can use the two whole chips only.
    assert_eq!(fragmented(&free(2, &[700, 400], 64)), 3 * 400 + 1100);
    // Without the cores, nobody can use anything.
    assert_eq!(fragmented(&free(2, &[700, 400], 7)), 4 * 3100);
    assert_eq!(fragmented(&free(0, &[], 64)), 0);
}

#[test]
fn offtake_keeps_cores_for_the_chips_that_would_lack_them() {
    // Each chip of the mix comes with 16 cores. Both nodes have four chips; the first has no core to spare for a
    // greedy request, the second has.
    let mix = [(whole(1, 16), 1)];
    ranks(Packing::Offtake, &mix, &whole(1, 64), &[free(4, &[], 112), free(4, &[], 64)]);
    // Fragmentation alone sees less: the rest of the first node still fits one request.
    let fgd = Mix::given(&eights(), Packing::Fgd, &mix, false);
    let score = |free: &FreeVector| scored(Packing::Fgd, &fgd, &eights(), free, &whole(1, 32)).score;
    assert_eq!(score(&free(4, &[], 48)), score(&free(4, &[], 112)));
}

#[test]
fn offtake_is_best_fit_before_it_knows_anything() {
    let nodes = [free(1, &[], 8), free(1, &[], 40), free(8, &[], 128)];
    ranks(Packing::Offtake, &[], &whole(1, 8), &nodes);
    let mix = Mix::given(&eights(), Packing::Offtake, &[], false);
    assert!(mix.replays().is_none());
    let chosen = scored(Packing::Offtake, &mix, &eights(), &free(1, &[700, 300], 8), &share(200, 1));
    assert_eq!(chosen.level, ChipMilli::new(300));
}

#[test]
fn a_node_takes_off_a_replay_what_it_has_room_for() {
    let mix = Mix::given(&eights(), Packing::Offtake, &[(whole(2, 8), 1)], false);
    // Beside what the node takes off the replays, the request for two chips that would fit alone counts a third.
    let alone = |free: &FreeVector| if free.whole >= 2 { REPLAYS as i64 * 2000 / 3 } else { 0 };
    let value = |free: &FreeVector| Packing::Offtake.value(&mix, free) - alone(free);
    let replays = value(&free(2, &[], 8)) / 2000;
    assert_eq!(replays, REPLAYS as i64);
    assert_eq!(value(&free(8, &[], 128)), replays * 8000);
    assert_eq!(value(&free(7, &[500], 128)), replays * 6000);
    assert_eq!(value(&free(8, &[], 31)), replays * 6000);
    assert_eq!(value(&free(1, &[900, 900], 128)), 0);
    let halves = Mix::given(&eights(), Packing::Offtake, &[(share(500, 1), 1)], false);
    let value = |free: &FreeVector| Packing::Offtake.value(&halves, free);
    assert_eq!(value(&free(1, &[700, 499], 128)), replays * 1500);
}

/// A fleet of 2 nodes of 8 chips and 128 cores, the rare ones, before 40 with fewer cores.
fn two_rare() -> Fleet {
    let mut fleet = fleet(&[(8, 128, 1024), (8, 96, 1024)]);
    fleet.nodes = (0..42).map(|node| Node { kind: NodeKindIx(u32::from(node >= 2)), domain: DomainIx(0) }).collect();
    fleet.domains[0].nodes = 0..42;
    fleet
}

/// A job of one worker that ends after an hour, or nobody knows when.
fn one(chips: u16, cores: u32, ends: bool) -> Job {
    let gang =
        Gang { workers: 1, chips: ChipRequest::Whole(chips), cpu: CpuMilli::new(cores * 1000), ..Gang::default() };
    Job { duration: ends.then_some(Duration::HOUR), gangs: vec![gang], ..work(0, 0, 1) }
}

/// How many of the rare nodes are wholly free after so many jobs of one chip and 12 or 16 cores have come; before each tenth of
/// them one of 8 chips comes that only the rare nodes could hold, if it is asked for, and ends at once.
fn rare_nodes_left(jobs: u64, rare_are_asked_for: bool, ends: bool) -> usize {
    let mut state = State::default();
    let mut tell = |event| {
        let mut facts = vec![Fact { at: Timestamp::EPOCH, event }];
        state.apply(&facts[0]);
        decide(&mut state, Timestamp::EPOCH, &mut facts);
    };
    let policy = Policy { packing: Packing::Offtake, ..Policy::default() };
    tell(Event::PolicySet { policy });
    tell(Event::FleetLoaded { fleet: Arc::new(two_rare()) });
    for number in 0..jobs {
        if rare_are_asked_for && number % 10 == 0 {
            let job = JobId(jobs + number);
            tell(Event::JobSubmitted { job, spec: Arc::new(one(8, 120, ends)) });
            tell(Event::JobFinished { job });
        }
        tell(Event::JobSubmitted {
            job: JobId(number),
            spec: Arc::new(one(1, if number % 4 == 0 { 16 } else { 12 }, ends)),
        });
    }
    let whole = |node: &u32| state.capacity().class_of(NodeIx(*node)).vector.whole == 8;
    (0..2).filter(whole).count()
}

#[test]
fn rare_nodes_stay_whole_for_those_who_fit_nowhere_else() {
    // 12 cores a chip is what most nodes have: who wants 16 leaves a chip there without, and none on a rare one.
    assert_eq!(rare_nodes_left(200, true, true), 2);
    // Before anybody has asked for them, too.
    assert_eq!(rare_nodes_left(200, false, true), 2);
    // Where nobody leaves, the fullest fleet counts; and once nothing else fits they are used.
    assert_eq!(rare_nodes_left(200, false, false), 0);
    assert_eq!(rare_nodes_left(400, true, true), 0);
}

#[test]
fn host_only_work_counts_where_cores_are_scarce() {
    let hosts = request(ChipRequest::None, 8);
    // 16 cores a chip is what the fleet has: alone the request of chips leaves none to spare.
    let scarce = Mix::given(&eights(), Packing::Offtake, &[(whole(1, 16), 1), (hosts.clone(), 1)], false);
    let ample = Mix::given(&eights(), Packing::Offtake, &[(whole(1, 4), 1), (hosts, 1)], false);
    let full = free(8, &[], 128);
    let replays = Packing::Offtake.value(&ample, &full) / 8000;
    assert!(Packing::Offtake.value(&scarce, &full) < replays * 8000);
}

#[test]
fn the_mix_is_learned_at_its_times_and_scores_change_only_then() {
    let fleet = eights();
    let shapes = [Arc::new(Shape { gangs: vec![whole(2, 8)] }), Arc::new(Shape { gangs: vec![share(500, 8)] })];
    let mut mix = Mix::new(&fleet);
    let mut learned = Vec::new();
    for submission in 1..=300_u32 {
        // From 16 submissions on, the demand is another.
        let shape = ShapeIx(u32::from(submission > 16));
        if mix.learn(Packing::Offtake, (shape, false), Timestamp::EPOCH, &shapes) {
            learned.push(submission);
        }
    }
    assert_eq!(learned[0], 16);
    assert!(learned.windows(2).all(|pair| pair[1] * 4 >= pair[0] * 5), "each time a quarter more: {learned:?}");
    let mut same = Mix::new(&fleet);
    let learned =
        (1..=300).filter(|_| same.learn(Packing::Offtake, (ShapeIx(0), false), Timestamp::EPOCH, &shapes)).count();
    assert_eq!(learned, 1, "a demand that stays is not drawn anew");
    assert!((0..300).all(|_| !Mix::new(&fleet).learn(Packing::BestFit, (ShapeIx(0), true), Timestamp::EPOCH, &shapes)));
}

prop_compose! {
    fn any_fleet()(kinds in prop::collection::vec((0_u16..=64, 0_u32..=4_000, 0_u64..=1 << 22), 1..4)) -> Fleet {
        fleet(&kinds)
    }
}

/// A request that may use the kinds that take it when they are empty, as `Request::resolve` makes it.
fn resolved(fleet: &Fleet, chips: ChipRequest, cpu: u32, memory: u64, workers: u32) -> Option<Request> {
    let base = request(chips, 0);
    let request = Request { cpu: CpuMilli::new(cpu), memory: Mebibytes::new(memory), ..base };
    let takes = |(_, kind): &(usize, &NodeKind)| fits(&empty(kind), &request, workers);
    let kinds = fleet.node_kinds.iter().enumerate().filter(takes);
    let kinds: Vec<_> = kinds.map(|(number, _)| (NodeKindIx(number as u32), workers)).collect();
    (!kinds.is_empty()).then_some(Request { workers, kinds, ..request })
}

fn empty(kind: &NodeKind) -> FreeVector {
    FreeVector {
        kind: NodeKindIx(0),
        cpu: kind.cpu,
        memory: kind.memory,
        whole: kind.chips,
        shared: Box::default(),
        sizes: 0,
    }
}

/// What is asked: chips (0 none, up to 64 whole, else a share of some steps of 15 thousandths), processor and memory in
/// thousandths of a node, workers.
type Asked = (u16, u32, u64, u32);

fn any_asked() -> impl Strategy<Value = Asked> {
    (0_u16..=130, 0_u32..=1000, 0_u64..=1000, 1_u32..=4)
}

fn asked_of(fleet: &Fleet, (chips, cpu, memory, workers): Asked) -> Option<Request> {
    let chips = match chips {
        0 => ChipRequest::None,
        1..=64 => ChipRequest::Whole(chips),
        _ => ChipRequest::Share(ChipMilli::new((chips - 64) * 15)),
    };
    let workers = if matches!(chips, ChipRequest::Share(_)) { 1 } else { workers };
    let kind = &fleet.node_kinds[0];
    let cpu = (u64::from(kind.cpu.get()) * u64::from(cpu) / 1000) as u32;
    resolved(fleet, chips, cpu, kind.memory.get() * memory / 1000, workers)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    /// Whatever fits has a score, on a chip that exists and holds it, that depends on the free vector alone.
    #[test]
    fn whatever_fits_has_a_score(
        fleet in any_fleet(),
        mix in prop::collection::vec((any_asked(), 1_i64..1_000_000), 0..12),
        asked in any_asked(),
        (used, shares) in (0_u16..=64, prop::collection::vec(1_u16..1000, 0..=64)),
        (cpu, memory, sizes) in (0_u32..=1000, 0_u64..=1000, any::<u64>()),
    ) {
        let mix: Vec<_> = mix.into_iter().filter_map(|(asked, count)| Some((asked_of(&fleet, asked)?, count))).collect();
        let Some(request) = asked_of(&fleet, asked) else { return Ok(()) };
        for (number, kind) in fleet.node_kinds.iter().enumerate() {
            let left = kind.chips - used.min(kind.chips);
            let mut shared: Vec<u16> = shares.iter().copied().take(usize::from(left)).collect();
            shared.sort_unstable_by(|a, b| b.cmp(a));
            let free = FreeVector {
                kind: NodeKindIx(number as u32),
                cpu: CpuMilli::new((u64::from(kind.cpu.get()) * u64::from(cpu) / 1000) as u32),
                memory: Mebibytes::new(kind.memory.get() * memory / 1000),
                whole: left - shared.len() as u16,
                shared: shared.into_boxed_slice(),
                sizes,
            };
            if !request.kinds.iter().any(|(kind, _)| *kind == free.kind) || !fits(&free, &request, request.workers) {
                continue;
            }
            for name in Policy::NAMES {
                let packing = Policy::named(name, 0).map_or(Packing::FirstFit, |policy| policy.packing);
                let mix = Mix::given(&fleet, packing, &mix, false);
                let value = packing.value(&mix, &free);
                let found = packing.score(&mix, &free, value, kind, &request, request.workers);
                prop_assert_eq!(found, packing.score(&mix, &free.clone(), value, kind, &request, request.workers));
                prop_assert!(found.score < i64::MAX);
                if let ChipRequest::Share(share) = request.chips {
                    prop_assert!(found.level >= share);
                    let is_whole = free.whole > 0 && found.level == ChipMilli::WHOLE;
                    let exists = is_whole || free.shared.contains(&found.level.get());
                    prop_assert!(exists, "{name} chose a chip with {} left", found.level);
                    let drawn = random::level(&free, share, &mut random::source(cpu.into(), JobId(7)));
                    prop_assert!(drawn >= share);
                }
            }
        }
    }

    /// Work comes and goes under one policy, then under another, and the account stays right; its fold is the same.
    #[test]
    fn the_account_stays_right_under_any_policy(
        policies in (0..NAMED.len(), 0..NAMED.len()),
        steps in prop::collection::vec((0_u8..3, 0_u16..12, 0_u32..8, 1_u32..4), 1..80),
    ) {
        let fleet = fleet(&[(4, 32, 64), (4, 32, 64), (8, 16, 64), (2, 64, 64), (0, 64, 64)]);
        let (mut state, mut journal) = (State::default(), Vec::new());
        let mut tell = |state: &mut State, event| {
            let mut facts = vec![Fact { at: Timestamp::EPOCH, event }];
            state.apply(&facts[0]);
            decide(state, Timestamp::EPOCH, &mut facts);
            journal.append(&mut facts);
            state.check()
        };
        let set = |place: usize| Event::PolicySet { policy: Policy { queue: NAMED[place].1, packing: NAMED[place].2, seed: 3, ..Policy::default() } };
        tell(&mut state, set(policies.0)).map_err(TestCaseError::fail)?;
        tell(&mut state, Event::FleetLoaded { fleet: Arc::new(fleet) }).map_err(TestCaseError::fail)?;
        let mut running: Vec<JobId> = Vec::new();
        for (number, (op, chips, cores, workers)) in steps.iter().enumerate() {
            if number == steps.len() / 2 {
                tell(&mut state, set(policies.1)).map_err(TestCaseError::fail)?;
            }
            let job = JobId(number as u64);
            let event = if *op == 0 && !running.is_empty() {
                Event::JobFinished { job: running.swap_remove(usize::from(*chips) % running.len()) }
            } else {
                running.push(job);
                Event::JobSubmitted { job, spec: Arc::new(work(*chips, *cores, *workers)) }
            };
            tell(&mut state, event).map_err(TestCaseError::fail)?;
        }
        let mut folded = State::default();
        journal.iter().for_each(|fact| folded.apply(fact));
        prop_assert_eq!(folded.check(), Ok(()));
        prop_assert_eq!(folded.essence(), state.essence());
    }
}

/// A gang of 1 to 3 workers without chips, with a share, or with whole chips.
fn work(chips: u16, cores: u32, workers: u32) -> Job {
    let chips = match chips {
        0 | 1 => ChipRequest::None,
        2..=7 => ChipRequest::Share(ChipMilli::new(chips * 120)),
        _ => ChipRequest::Whole(chips - 7),
    };
    let gang = Gang { workers, chips, cpu: CpuMilli::new(cores * 1000), memory: Mebibytes::ZERO, ..Gang::default() };
    Job {
        name: String::new(),
        tenant: String::new(),
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
