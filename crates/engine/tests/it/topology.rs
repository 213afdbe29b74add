//! Groups, and the order of ranks: compared with a count of every domain, on fleets small enough for that.

use std::collections::BTreeMap;
use std::sync::Arc;

use offtake_engine::{Event, Explanation, Obstacle, Phase, ServiceId, StopReason};
use offtake_fleet::{Fleet, LevelIx, NodeIx};
use offtake_units::{Ppm, Timestamp};
use offtake_workload::{ChipRequest, Gang, Service, Strength};
use proptest::prelude::*;

use crate::support::{Engine, ISLANDS, fleet, gang, grouped, job, within};

/// Islands of so many nodes, rack by rack.
fn racks(sizes: &[Vec<u32>]) -> Arc<Fleet> {
    let (head, _) = ISLANDS.split_once("[templates.island]").expect("the fleet has templates");
    let mut text = head.to_owned();
    for size in 1..=3 {
        text.push_str(&format!("[templates.island-of-{size}]\nlevel = \"island\"\nnodes = {{ node = {size} }}\n"));
    }
    for (rack, islands) in sizes.iter().enumerate() {
        let count = |size: u32| islands.iter().filter(|island| **island == size).count();
        let domains: Vec<String> =
            (1..=3).filter(|size| count(*size) > 0).map(|size| format!("island-of-{size} = {}", count(size))).collect();
        text.push_str(&format!("[templates.rack-{rack}]\nlevel = \"rack\"\ndomains = {{ {} }}\n", domains.join(", ")));
    }
    let all: Vec<String> = (0..sizes.len()).map(|rack| format!("rack-{rack} = 1")).collect();
    text.push_str(&format!("[sites.here]\npue = 1.0\ndomains = {{ {} }}\n", all.join(", ")));
    fleet(&text)
}

/// Workers of each node, rank by rank.
fn ranks(engine: &Engine, job: offtake_engine::JobId) -> Vec<u32> {
    match engine.state.job(job).map(|work| &work.phase) {
        Some(Phase::Running { placement, .. }) => placement
            .slots()
            .flat_map(|slot| slot.nodes.numbers().flat_map(move |node| (0..slot.workers).map(move |_| node)))
            .collect(),
        _ => Vec::new(),
    }
}

/// Whether a gang fits, by counting what every node of every domain could take.
fn could_fit(engine: &Engine, gang: &Gang, outer: LevelIx) -> bool {
    let fleet = engine.state.fleet();
    let ChipRequest::Whole(chips) = gang.chips else { unreachable!("the test asks for whole chips") };
    let room = |node: u32| {
        let free = engine.state.capacity().class_of(NodeIx(node)).vector.whole;
        let most = u32::from(free / chips);
        gang.per_node.map_or(most, |per_node| most.min(per_node))
    };
    let (group, inner) = match &gang.groups {
        Some(groups) => (groups.workers, fleet.level(&groups.level).expect("the level is there")),
        None => (1, LevelIx(fleet.levels.len() as u32 - 1)),
    };
    fleet.domains_at(outer).any(|domain| {
        let mut rooms = BTreeMap::<_, u32>::new();
        for node in fleet.domains[domain as usize].nodes.clone() {
            *rooms.entry(fleet.around(NodeIx(node), inner)).or_default() += room(node);
        }
        rooms.into_values().map(|room| room / group * group).sum::<u32>() >= gang.workers
    })
}

type Asked = (u32, u32, u16, usize, usize, Option<u32>);

fn asked() -> impl Strategy<Value = Asked> {
    (1u32..5, 1u32..5, 1u16..=4, 0usize..3, 0usize..3, prop::option::weighted(0.3, 1u32..4))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, ..ProptestConfig::default() })]

    /// A gang is placed exactly where a count of all domains says that it fits: its groups each in one domain, by rank.
    #[test]
    fn groups_are_placed_where_they_fit_and_nowhere_else(
        sizes in prop::collection::vec(prop::collection::vec(1u32..=3, 1..4), 1..4),
        asked in prop::collection::vec(asked(), 1..12),
        ends in prop::collection::vec(any::<prop::sample::Index>(), 0..6),
    ) {
        let mut engine = Engine::new(racks(&sizes), "offtake");
        let mut running = Vec::new();
        for (turn, (groups, group, chips, outer, inner, per_node)) in asked.into_iter().enumerate() {
            let levels = ["site", "rack", "island"];
            let (outer, inner) = (outer.min(inner), outer.max(inner));
            let asks = Gang { per_node, ..gang(groups * group, chips) };
            let asks = within(grouped(asks, group, levels[inner]), levels[outer], Strength::Required);
            // A gang of one group lies in the domain of that, one of one worker anywhere.
            let effective = if groups == 1 { inner } else { outer };
            let fits = could_fit(&engine, &asks, LevelIx(if groups * group == 1 { 0 } else { effective as u32 }));
            let id = engine.submit(job(vec![asks.clone()], None));
            engine.pass(1);
            prop_assert_eq!(engine.runs(id), fits, "{:?}", asks);
            if !fits {
                engine.tell(Event::JobCancelled { job: id });
                continue;
            }
            let ranks = ranks(&engine, id);
            prop_assert_eq!(ranks.len() as u32, groups * group);
            prop_assert!(ranks.is_sorted(), "ranks follow the nodes: {:?}", ranks);
            let fleet = engine.state.fleet();
            for of_one in ranks.chunks(group as usize) {
                let mut domains: Vec<_> =
                    of_one.iter().map(|node| fleet.around(NodeIx(*node), LevelIx(inner as u32))).collect();
                domains.dedup();
                prop_assert_eq!(domains.len(), 1, "a group lies in one domain");
            }
            running.push(id);
            if let Some(end) = ends.get(turn) && !running.is_empty() {
                let id = running.swap_remove(end.index(running.len()));
                engine.tell(Event::JobFinished { job: id });
            }
        }
    }
}

#[test]
fn groups_leave_islands_whole_where_they_can() {
    let mut engine = Engine::new(racks(&[vec![3, 3, 2], vec![2, 2, 2]]), "offtake");
    let pairs = engine.submit(job(vec![within(grouped(gang(6, 4), 2, "island"), "rack", Strength::Required)], None));
    engine.pass(0);
    assert_eq!(ranks(&engine, pairs), [8, 9, 10, 11, 12, 13], "the rack of pairs, not the one of threes");
    let threes = engine.submit(job(vec![grouped(gang(6, 4), 3, "island")], None));
    engine.pass(0);
    assert!(engine.runs(threes));
}

#[test]
fn spares_lie_beside_the_gang_and_take_the_place_of_what_is_lost() {
    let mut engine = Engine::new(racks(&[vec![3, 3], vec![3, 3]]), "offtake");
    let asks = Gang { spares: 1, ..grouped(gang(4, 4), 2, "island") };
    let training = engine.submit(job(vec![asks.clone()], Some(100)));
    engine.pass(0);
    let placed = |engine: &Engine| match engine.state.job(training).map(|work| &work.phase) {
        Some(Phase::Running { placement, .. }) => Arc::clone(placement),
        other => unreachable!("the job runs: {other:?}"),
    };
    let before = placed(&engine);
    assert_eq!(before.spares, [[NodeIx(2), NodeIx(5)]], "one in each island");
    assert_eq!(before.working(0).iter().map(|slot| slot.nodes.numbers()).collect::<Vec<_>>(), [0..2, 3..5]);
    assert_eq!(engine.state.ledger().chip_milli_in_use.iter().sum::<u64>(), 6 * 4000, "what stands by is its own");
    engine.tell(Event::NodeLost { node: NodeIx(4) });
    let swaps = engine.state.spares_for(training, &[NodeIx(4)]).expect("a spare is there");
    assert_eq!(swaps, [(NodeIx(4), NodeIx(5))]);
    assert_eq!(engine.state.spares_for(training, &[NodeIx(3), NodeIx(4)]), None, "one spare is not enough for two");
    assert_eq!(engine.state.spares_for(training, &[NodeIx(2)]), Some(vec![]), "what stands by needs no spare");
    assert_eq!(engine.state.repair(training), Some(swaps.clone()), "the lost node is known");
    engine.pass(10);
    engine.tell(Event::NodesSwapped { job: training, swaps, saved_until: Some(Timestamp::from_secs(7)) });
    assert_eq!(engine.state.repair(training), None, "nothing is left to do");
    assert_eq!(engine.state.ledger().lost.0, 6 * 4000 * 3_000, "three seconds since the last checkpoint");
    let after = placed(&engine);
    assert_eq!(after.spares, [[NodeIx(2), NodeIx(4)]]);
    assert_eq!(after.working(0).iter().map(|slot| slot.nodes.numbers()).collect::<Vec<_>>(), [0..2, 3..4, 5..6]);
    for swaps in [vec![(NodeIx(0), NodeIx(9))], vec![(NodeIx(9), NodeIx(2))], vec![(NodeIx(2), NodeIx(4))]] {
        engine.tell(Event::NodesSwapped { job: training, swaps, saved_until: None });
        assert_eq!(placed(&engine), after, "what cannot be changes nothing");
    }
    assert_eq!(engine.state.spares_for(training, &[NodeIx(3)]), None, "the spare of that island is lost");
    engine.tell(Event::NodeReturned { node: NodeIx(4) });
    assert_eq!(engine.state.spares_for(training, &[NodeIx(3)]), Some(vec![(NodeIx(3), NodeIx(4))]));
    engine.restore();
    assert_eq!(engine.folded().essence(), engine.state.essence());
    engine.pass(99);
    assert!(engine.runs(training), "it began anew");
    engine.pass(1);
    assert_eq!(engine.state.ledger().chip_milli_in_use, [0; 4]);
    let uneven = Gang { spares: 1, ..gang(4, 2) };
    assert_eq!(
        engine.state.placeable(&[uneven]).expect_err("two workers fill a node").to_string(),
        "4 workers and 1 spares do not each fill whole nodes of any kind; ask for multiples of what a node takes"
    );
}

#[test]
fn replicas_are_spread_and_a_budget_keeps_them_up() {
    let mut engine = Engine::new(racks(&[vec![3, 3], vec![2], vec![1]]), "offtake");
    let spec = Service {
        program: None,
        name: "chat".to_owned(),
        tenant: "web".to_owned(),
        replica: gang(1, 4),
        minimum: 6,
        maximum: 8,
        demand: vec![Ppm::ONE; 24],
        spread: Some("rack".to_owned()),
        disruption_budget: Some(1),
        ..Service::default()
    };
    engine.tell(Event::ServiceSubmitted { service: ServiceId(0), spec: Arc::new(spec) });
    engine.pass(0);
    let in_racks = |engine: &Engine| {
        let fleet = engine.state.fleet();
        let mut racks = BTreeMap::<u32, u32>::new();
        for (job, _) in engine.state.jobs() {
            for node in engine.nodes(job) {
                *racks.entry(fleet.around(node.first, LevelIx(1)).0).or_default() += 1;
            }
        }
        racks.into_values().collect::<Vec<_>>()
    };
    assert_eq!(in_racks(&engine), [3, 2, 1], "as evenly as there is room");
    let replicas: Vec<_> = engine.state.jobs().into_iter().map(|(job, _)| job).collect();
    assert!(replicas.iter().all(|replica| engine.state.may_disrupt(*replica)));
    engine.tell(Event::JobStopping { job: replicas[0], reason: StopReason::Requeued, by: None });
    assert!(!engine.state.may_disrupt(replicas[1]), "one is down already");
    assert!(engine.state.may_disrupt(replicas[0]), "that one is no longer up");
    engine.tell(Event::JobRequeued { job: replicas[0], saved_until: None, held: false });
    engine.pass(1);
    assert!(engine.state.may_disrupt(replicas[1]), "it is up again");
    assert_eq!(in_racks(&engine), [3, 2, 1]);
}

#[test]
fn why_tells_room_that_is_scattered_from_none() {
    let mut engine = Engine::new(racks(&[vec![3, 3]]), "offtake");
    let pair = engine.submit(job(vec![grouped(gang(4, 4), 2, "island")], None));
    engine.pass(0);
    assert!(engine.runs(pair));
    let waits = engine.submit(job(vec![within(gang(2, 4), "island", Strength::Required)], None));
    let more = engine.submit(job(vec![gang(3, 4)], None));
    engine.pass(0);
    let obstacles = |engine: &mut Engine, job| match engine.state.explain(job) {
        Some(Explanation::Waiting(waiting)) => waiting.obstacles,
        other => unreachable!("the job waits: {other:?}"),
    };
    assert_eq!(obstacles(&mut engine, waits), [Obstacle::Scattered], "two nodes are free, each in another island");
    assert_eq!(obstacles(&mut engine, more), [Obstacle::Room]);
}

#[test]
fn what_makes_no_groups_is_refused() {
    let mut engine = Engine::new(racks(&[vec![3, 2]]), "offtake");
    let refused = |engine: &mut Engine, gang| engine.state.placeable(&[gang]).expect_err("it never runs").to_string();
    assert_eq!(
        refused(&mut engine, grouped(gang(4, 4), 4, "island")),
        "no island holds 4 workers even when it is empty; the largest holds 3"
    );
    assert_eq!(
        refused(&mut engine, grouped(gang(6, 4), 3, "island")),
        "no site holds 6 workers in groups of 3, each in one island, even when it is empty; the largest holds 3"
    );
    assert_eq!(
        refused(&mut engine, within(grouped(gang(4, 4), 2, "rack"), "island", Strength::Required)),
        "groups by rack are wider than the one island that is to hold them all; name a level inside it"
    );
    assert_eq!(
        refused(&mut engine, grouped(gang(4, 4), 3, "island")),
        "4 workers make no whole groups of 3; ask for a multiple"
    );
    assert!(engine.state.placeable(&[grouped(gang(4, 4), 2, "innermost")]).is_ok());
}
