//! Feeds that stand in for each other: whatever runs, any one of them may be lost.

use std::collections::BTreeMap;

use offtake_engine::Phase;
use offtake_fleet::{Fleet, NodeIx};
use proptest::prelude::*;

use crate::support::{Engine, fleet, gang, job};

/// A hall on two feeds, one on four of unequal shares, and one on three of which two feed half of it.
const FED: &str = r#"
name = "fed"
levels = ["site", "hall"]

[accelerators.chip]
idle_watts = 100
operating_watts = 500
peak_watts = 600

[node_kinds.node]
accelerator = "chip"
chips = 4
cpu_cores = 64
memory_gib = 256
base_watts = 500

[templates.hall]
level = "hall"
nodes = { node = 6 }

[sites.here]
pue = 1.0
domains = { hall = 3 }

[circuits.two-a]
kva = 12
power_factor = 1.0
continuous_load_factor = 1.0
redundancy_group = "two"
feeds = [{ domain = "here/hall-0", share = 0.5 }]

[circuits.two-b]
kva = 13
power_factor = 1.0
continuous_load_factor = 1.0
redundancy_group = "two"
feeds = [{ domain = "here/hall-0", share = 0.5 }]

[circuits.four-a]
kva = 5
power_factor = 1.0
redundancy_group = "four"
feeds = [{ domain = "here/hall-1", share = 0.25 }]

[circuits.four-b]
kva = 6
power_factor = 1.0
redundancy_group = "four"
feeds = [{ domain = "here/hall-1", share = 0.25 }]

[circuits.four-c]
kva = 12
power_factor = 1.0
redundancy_group = "four"
feeds = [{ domain = "here/hall-1", share = 0.2 }, { domain = "here/hall-2", share = 0.3 }]

[circuits.four-d]
kva = 12
power_factor = 1.0
redundancy_group = "four"
feeds = [{ domain = "here/hall-1", share = 0.3 }, { domain = "here/hall-2", share = 0.7 }]
"#;

/// The most that each node can draw with what runs on it, in watts.
fn peaks(engine: &Engine) -> Vec<f64> {
    let mut watts = vec![500.0 + 4.0 * 100.0; engine.state.fleet().nodes.len()];
    for (_, work) in engine.state.jobs() {
        let Phase::Running { placement, .. } = &work.phase else { continue };
        for slot in placement.slots() {
            for node in slot.nodes.numbers() {
                watts[node as usize] += 500.0 * f64::from(slot.chips.count_ones());
            }
        }
    }
    watts
}

/// What each circuit carries with these draws of nodes, in watts, where some of them are lost: worked out from the file
/// alone.
fn carried(fleet: &Fleet, watts: &[f64], lost: Option<usize>) -> BTreeMap<usize, f64> {
    let mut loads = BTreeMap::new();
    for domain in fleet.domains_at(offtake_fleet::LevelIx(1)) {
        let nodes = &fleet.domains[domain as usize].nodes;
        let load: f64 = watts[nodes.start as usize..nodes.end as usize].iter().sum();
        let feeds: Vec<(usize, f64)> = (0..fleet.circuits.len())
            .filter(|circuit| Some(*circuit) != lost)
            .flat_map(|circuit| {
                let of = fleet.circuits[circuit].feeds.iter().filter(move |feed| feed.domain.0 == domain);
                of.map(move |feed| (circuit, f64::from(feed.share.parts())))
            })
            .collect();
        let all: f64 = feeds.iter().map(|(_, share)| share).sum();
        feeds.into_iter().for_each(|(circuit, share)| *loads.entry(circuit).or_insert(0.0) += load * share / all);
    }
    loads
}

fn no_circuit_is_over(engine: &Engine) {
    let (fleet, watts) = (engine.state.fleet(), peaks(engine));
    for lost in std::iter::once(None).chain((0..fleet.circuits.len()).map(Some)) {
        for (circuit, load) in carried(fleet, &watts, lost) {
            let circuit = &fleet.circuits[circuit];
            let rating = circuit.rating.continuous_watts(circuit.power_factor, circuit.continuous_load_factor);
            let most = rating.get() as f64 + 1e-6;
            assert!(load <= most, "{} carries {load} W of {rating} without {lost:?}", circuit.name);
        }
    }
}

#[test]
fn two_feeds_run_what_one_can_carry() {
    let mut engine = Engine::new(fleet(FED), "offtake");
    for _ in 0..18 {
        engine.submit(job(vec![gang(1, 4)], None));
    }
    engine.pass(0);
    let on = |hall: u32| {
        let runs = |node: u32| peaks(&engine)[node as usize] > 900.0;
        (hall * 6..hall * 6 + 6).filter(|node| runs(*node)).count()
    };
    // Six nodes draw 5.4 kW idle, and each 2 kW more at its peak; the weaker feed carries 12 kW.
    assert_eq!(on(0), 3);
    no_circuit_is_over(&engine);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, ..ProptestConfig::default() })]

    #[test]
    fn any_one_feed_may_be_lost(work in prop::collection::vec((1u32..5, 1u16..=4, 1i64..100, 0i64..40, 0u32..18), 1..60)) {
        let mut engine = Engine::new(fleet(FED), "offtake");
        for (workers, chips, seconds, then, node) in work {
            engine.submit(job(vec![gang(workers, chips)], Some(seconds)));
            engine.pass(then);
            if then == 7 {
                engine.tell(offtake_engine::Event::NodeLost { node: NodeIx(node) });
                engine.pass(0);
            }
            no_circuit_is_over(&engine);
        }
    }
}
