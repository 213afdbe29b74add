//! Blast radii: how much of a tenant's work the loss of one domain or circuit may take.

use std::collections::BTreeMap;
use std::sync::Arc;

use offtake_engine::{
    Event, Explanation, JobId, Obstacle, Order, Policy, Preemption, Quota, State, Tenant, TenantTree,
};
use offtake_fleet::{LevelIx, NodeIx};
use offtake_units::Ppm;
use offtake_workload::{Elastic, Gang, Job, Strength};
use proptest::prelude::*;

use crate::support::{Engine, ISLANDS, MIXED, fleet, gang, job, of, within};

/// A tenant `a` with quota for so many chips, of which no place may hold more than a share; and one below it.
fn policy(kind: &str, chips: u32, radii: &[(&str, f64)]) -> Policy {
    let quota = BTreeMap::from([(kind.to_owned(), Quota { nominal: chips, ..Quota::default() })]);
    let share = |share: f64| Ppm::from_ratio(share).expect("it is a share");
    let blast_radius = radii.iter().map(|(level, most)| ((*level).to_owned(), share(*most))).collect();
    let a = Tenant { quota, blast_radius, ..Tenant::default() };
    let below = Tenant { parent: Some("a".to_owned()), ..Tenant::default() };
    let tenants = BTreeMap::from([("a".to_owned(), a), ("below".to_owned(), below)]);
    let tree = TenantTree { tenants, ..TenantTree::default() };
    let named = Policy::named("offtake", 7).expect("it has a name");
    let preemption = Some(Preemption::default());
    Policy { order: Order::FairShare, preemption, tenants: Arc::new(tree), ..named }
}

/// Chips of `a` and those below it in each domain of a level.
fn in_each(state: &State, level: &str) -> BTreeMap<u32, u32> {
    let level: LevelIx = state.fleet().level(level).expect("the fleet has the level");
    let mut chips = BTreeMap::new();
    for (_, work) in state.jobs() {
        if let (offtake_engine::Phase::Running { placement, .. }, "a" | "below") =
            (&work.phase, work.spec.tenant.as_str())
        {
            for slot in placement.slots() {
                for node in slot.nodes.numbers() {
                    let domain = state.fleet().around(NodeIx(node), level);
                    *chips.entry(domain.0).or_default() += slot.workers * 4;
                }
            }
        }
    }
    chips
}

fn obstacles(engine: &mut Engine, job: JobId) -> Vec<Obstacle> {
    match engine.state.explain(job) {
        Some(Explanation::Waiting(why)) => why.obstacles,
        _ => Vec::new(),
    }
}

#[test]
fn a_gang_is_spread_over_the_places_that_may_hold_it() {
    // Racks of six nodes with four chips; half of 24 is three nodes.
    let mut engine = Engine::under(fleet(ISLANDS), policy("chip", 24, &[("rack", 0.5)]));
    let wide = engine.submit(of("a", job(vec![gang(6, 4)], Some(100))));
    engine.decide();
    assert!(engine.runs(wide));
    assert!(in_each(&engine.state, "rack").values().all(|chips| *chips == 12));
    let other = engine.submit(of("b", job(vec![gang(6, 4)], Some(100))));
    engine.decide();
    assert!(engine.runs(other), "what one tenant may not use is there for others");
}

#[test]
fn where_several_of_a_path_have_a_radius_the_least_that_is_left_counts() {
    let chips = |nominal| BTreeMap::from([("chip".to_owned(), Quota { nominal, ..Quota::default() })]);
    let half = BTreeMap::from([("rack".to_owned(), Ppm::new(500_000))]);
    let quarter = BTreeMap::from([("rack".to_owned(), Ppm::new(250_000))]);
    let a = Tenant { quota: chips(24), blast_radius: quarter, ..Tenant::default() };
    let below = Tenant { parent: Some("a".to_owned()), quota: chips(24), blast_radius: half, ..Tenant::default() };
    let tenants = BTreeMap::from([("a".to_owned(), a), ("below".to_owned(), below)]);
    let tree = TenantTree { tenants, ..TenantTree::default() };
    let mut engine = Engine::under(fleet(ISLANDS), Policy { tenants: Arc::new(tree), ..policy("chip", 24, &[]) });
    let wide = engine.submit(of("below", job(vec![gang(6, 4)], Some(100))));
    engine.decide();
    assert!(engine.runs(wide), "three of its nodes may be in each rack, for both");
    assert!(in_each(&engine.state, "rack").values().all(|chips| *chips == 12));
}

#[test]
fn who_would_have_too_much_in_one_place_waits_and_says_so() {
    let mut engine = Engine::under(fleet(ISLANDS), policy("chip", 48, &[("rack", 0.25)]));
    let first = engine.submit(of("a", job(vec![gang(3, 4)], Some(100))));
    engine.decide();
    let second = engine.submit(of("below", job(vec![gang(3, 4)], Some(200))));
    engine.decide();
    assert!(engine.runs(first) && engine.runs(second));
    let third = engine.submit(of("below", job(vec![gang(1, 4)], Some(10))));
    engine.decide();
    assert!(!engine.runs(third), "both racks hold all that they may");
    let held = |obstacle: &Obstacle| matches!(obstacle, Obstacle::BlastRadius { tenant, most: 12_000, left: 0, .. } if tenant == "a");
    assert!(obstacles(&mut engine, third).iter().any(held));
    engine.restore();
    engine.pass(100);
    assert!(engine.runs(third), "the first has gone from its rack");
}

#[test]
fn room_under_a_radius_need_not_be_where_work_went_from() {
    let mut engine = Engine::under(fleet(ISLANDS), policy("chip", 48, &[("rack", 0.25)]));
    let three = |engine: &mut Engine, seconds| engine.submit(of("a", job(vec![gang(3, 4)], Some(seconds))));
    let (first, second) = (three(&mut engine, 100), three(&mut engine, 500));
    let third = engine.submit(of("a", job(vec![gang(1, 4)], Some(10))));
    engine.decide();
    assert!(engine.runs(first) && engine.runs(second) && !engine.runs(third));
    for range in engine.nodes(first) {
        range.numbers().for_each(|node| {
            engine.tell(Event::NodeDrained { node: NodeIx(node), reason: String::new() });
        });
    }
    engine.pass(100);
    assert!(engine.runs(third), "its nodes are out, others of the rack are free");
}

#[test]
fn a_circuit_is_a_place() {
    // The feeder carries rack-2 and half of rack-3: of 96 chips it may feed 8.
    let mut engine = Engine::under(fleet(MIXED), policy("h100", 80, &[("circuit", 0.1)]));
    let jobs: Vec<JobId> = (0..20).map(|_| engine.submit(of("a", job(vec![gang(1, 4)], Some(100))))).collect();
    engine.decide();
    assert!(jobs.iter().any(|job| engine.runs(*job)));
    let racks = in_each(&engine.state, "rack");
    let fed: u32 = racks
        .iter()
        .filter(|(rack, _)| {
            let name = engine.state.fleet().path(offtake_fleet::DomainIx(**rack));
            name.ends_with("rack-2") || name.ends_with("rack-3")
        })
        .map(|(_, chips)| chips)
        .sum();
    assert_eq!(fed, 8);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    #[test]
    fn no_place_holds_more_than_it_may(
        shares in (1..=4u32, 1..=4u32),
        jobs in prop::collection::vec((0..3usize, 1..=8u32, 1..=300i64, 0..5u8), 1..30),
        restore in 0..30usize,
    ) {
        let (rack, island) = (shares.0 * 12, (shares.1 * 4).min(shares.0 * 12));
        let share = |chips: u32| f64::from(chips) / 48.0;
        let mut engine =
            Engine::under(fleet(ISLANDS), policy("chip", 48, &[("rack", share(rack)), ("island", share(island))]));
        for (place, (tenant, workers, seconds, kind)) in jobs.into_iter().enumerate() {
            let gangs = match kind {
                0 => vec![within(gang(workers, 4), "rack", Strength::Required)],
                1 => vec![within(gang(workers, 4), "island", Strength::Preferred)],
                2 => {
                    let bounds = Elastic { minimum: 1, maximum: 12, speedup: Vec::new() };
                    vec![Gang { elastic: Some(bounds), ..gang(workers, 4) }]
                }
                3 => vec![gang(workers, 4), gang(1, 4)],
                _ => vec![gang(workers, 4)],
            };
            let spec = of(["a", "below", "b"][tenant], job(gangs, Some(seconds)));
            engine.submit(Job { preemptible: tenant == 2, ..spec });
            engine.pass(seconds / 3);
            prop_assert!(in_each(&engine.state, "rack").values().all(|chips| *chips <= rack));
            prop_assert!(in_each(&engine.state, "island").values().all(|chips| *chips <= island));
            prop_assert_eq!(engine.state.check(), Ok(()));
            if place == restore {
                engine.restore();
            }
        }
        engine.pass(86_400);
    }
}
