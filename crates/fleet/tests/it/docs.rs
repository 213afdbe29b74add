use offtake_fleet::{CapKind, CapTarget, Meter, show};
use offtake_units::{Ppm, Watts};

use super::{check_structure, example, parse};

#[test]
fn the_example_of_the_reference_page_is_what_the_page_says() {
    let fleet = parse(example()).expect("the example is valid");
    check_structure(&fleet);
    assert_eq!((fleet.chips(), fleet.nodes.len(), fleet.caps.len()), (1_120, 140, 35));
    let rating = &fleet.caps[0];
    assert_eq!((rating.name.as_str(), rating.watts), ("feeder-a for feeder-b", Watts::new(532_000)));
    assert_eq!((rating.meter, rating.kind), (Meter::It, CapKind::Breaker));
    let CapTarget::CircuitWithout { circuit, lost } = rating.target else { unreachable!("{rating:?}") };
    assert_eq!((circuit.0, lost.0), (0, 1));
    let carried = fleet.limited_by(rating.target);
    assert_eq!(carried, [(fleet.circuits[0].feeds[0].domain, Ppm::ONE)], "alone it carries all of the hall");
    assert!(fleet.caps.iter().any(|cap| cap.name == "rack ashburn/hall-0/rack-3"));
    let node = offtake_fleet::NodeIx(14);
    assert_eq!(fleet.node_name(node), "ashburn/hall-0/rack-3/n2");
    assert_eq!(fleet.path(fleet.nodes[node.ix()].domain), "ashburn/hall-0/rack-3");
}

#[test]
fn the_page_for_people_keeps_to_eighty_columns_and_reads_well() {
    let fleet = parse(example()).expect("the example is valid");
    let text = show::text(&fleet);
    assert!(text.lines().all(|line| line.chars().count() <= 80), "{text}");
    assert_eq!(text, include_str!("example.txt"));
}

#[test]
fn the_page_for_machines_has_the_account() {
    let fleet = parse(example()).expect("the example is valid");
    let page = serde_json::to_value(show::json(&fleet)).expect("the page can be written as JSON");
    assert_eq!(page["account"]["chips"], 1_120);
    assert_eq!(page["account"]["sites"][0]["facility"]["operating_watts"], 1_184_000);
    assert_eq!(page["account"]["caps"][2]["kind"], "contract");
    assert_eq!(page["version"], 1);
}

#[test]
fn warnings_name_what_deserves_a_second_look() {
    let text = example()
        .replace("megawatts = 1.2", "megawatts = 1.1")
        .replace("kilowatts = 34", "kilowatts = 32")
        .replacen("share = 0.5", "share = 0.4", 1)
        .replace("[\"site\", \"hall\", \"rack\"]", "[\"site\", \"hall\", \"rack\", \"tray\"]");
    let verdict = show::check(&parse(&text).expect("it is valid all the same"));
    assert_eq!(
        verdict.warnings,
        [
            "cap `grid` binds: 1.10 MW allowed, the chips draw 1.18 MW at work; 896 of 1,024 chips can work at once",
            "32 caps like `rack ashburn/hall-0/rack-0` bind: 32.0 kW allowed, the chips can draw 32.8 kW; \
             30 of 32 chips can work at once",
            "no domain is at level `tray`",
            "the circuits of group `ashburn-hall-0` carry 90 % of `ashburn/hall-0`",
        ]
    );
    assert!(verdict.verdict.ends_with("33 of 35 caps bind."), "{}", verdict.verdict);
}
