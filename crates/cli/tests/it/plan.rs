//! `offtake plan` on a fleet that comes with it.

use serde_json::Value;

use crate::support::{Folder, repository};

#[test]
fn a_hall_is_sized_behind_its_caps_and_feeds() {
    let folder = Folder::new("plan-size");
    let hall = repository().join("fleets/colossus-hall.toml");
    let size = |more: &str| folder.offtake(&format!("plan size memphis --fleet {} {more}", hall.display())).succeeds();
    insta::assert_snapshot!("plan-size-colossus-hall", size("").stdout);
    let sizing = size("--busy 1 --json").json();
    assert_eq!((&sizing["version"], &sizing["busy_ppm"]), (&1.into(), &1_000_000.into()));
    let rows = sizing["rows"].as_array().expect("rows");
    let names: Vec<&str> = rows.iter().filter_map(|row| row["name"].as_str()).collect();
    assert_eq!(names, ["rule of thumb", "as it stands", "full power", "eco", "low"]);
    assert_eq!(sizing["best"], 4);
    for row in rows {
        let watts = |key: &str| row["cap"][key].as_i64().expect("watts");
        assert!(watts("load_watts") <= watts("limit_watts"), "{row}");
        let is_level = row["level"].as_u64().expect("a level") > 0;
        assert_eq!(row["useful_if_assumed_levels_are_off"] != Value::Null, is_level);
    }
}

#[test]
fn what_cannot_be_sized_is_refused() {
    let folder = Folder::with_scenario("plan-refused");
    for (arguments, said) in [
        ("plan size nowhere --fleet fleet.toml", "has no site `nowhere`; it has: hall"),
        ("plan size hall --fleet nothing.toml", "nothing.toml"),
        ("plan size hall --fleet fleet.toml", "no cap limits how many racks site `hall` can have"),
        ("plan size hall", "--fleet <FILE>"),
        ("plan size hall --fleet fleet.toml --busy 0", "above 0 and up to 1"),
        ("plan size hall --fleet fleet.toml --busy 1.5", "above 0 and up to 1"),
        ("plan size hall --fleet fleet.toml --busy NaN", "above 0 and up to 1"),
    ] {
        let refused = folder.offtake(arguments).refused();
        assert!(refused.contains(said), "offtake {arguments}\n{refused}");
    }
}
