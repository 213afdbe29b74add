//! One line of the valid example replaced, and the exact words of the error.

use std::collections::BTreeMap;
use std::path::Path;

use super::{example, parse};

#[test]
fn errors_say_where_what_and_how_to_mend() {
    let mut faults = String::new();
    for (given, instead, expected) in CASES {
        assert_eq!(example().matches(given).count().min(1), 1, "the example lacks {given}");
        let text = example().replacen(given, instead, 1);
        let said = match parse(&text) {
            Ok(_) => "(read without an error)".to_owned(),
            Err(error) => error.to_string(),
        };
        if said != *expected {
            faults.push_str(&format!("{given} -> {instead}\n  said:     {said}\n  expected: {expected}\n"));
        }
    }
    assert!(faults.is_empty(), "\n{faults}");
}

#[test]
fn parameters_handed_in_are_checked() {
    for (name, value, expected) in [
        (
            "hals",
            1,
            "fleet.toml: parameters: `hals` is no parameter of this fleet file (did you mean `halls`?); it has: halls",
        ),
        (
            "halls",
            0,
            "fleet.toml:39:20: sites.ashburn.domains.hall: `$halls` = 0 is not allowed: a count is a whole number from 1 to 4,000,000",
        ),
        (
            "halls",
            1_000_000,
            "fleet.toml:32:8: sites.ashburn: makes 64,000,000 nodes; at most 4,000,000 are allowed: lower a count",
        ),
    ] {
        let given = BTreeMap::from([(name.to_owned(), value)]);
        let error = offtake_fleet::parse(example(), "fleet.toml", Path::new("."), &given).expect_err("it is refused");
        assert_eq!(error.to_string(), expected);
    }
}

#[test]
fn files_that_cannot_be_read_say_so() {
    let none = BTreeMap::new();
    let error = offtake_fleet::read(Path::new("no/such.toml"), &none).expect_err("there is none");
    assert_eq!(error.to_string(), "no/such.toml: no such file");
    assert!(std::error::Error::source(&error).is_some());
    let error = offtake_fleet::read(Path::new("/dev/zero"), &none).expect_err("it has no end");
    assert_eq!(error.to_string(), "/dev/zero: is larger than 4 MiB: list many nodes in a CSV file instead");
    let folder = tempdir("utf8");
    let file = folder.join("latin.toml");
    std::fs::write(&file, b"name = \"a\"\n# caf\xe9\n").expect("the folder can be written");
    let error = offtake_fleet::read(&file, &none).expect_err("it is not UTF-8");
    assert_eq!((error.line, error.message.as_str()), (Some(2), "is not UTF-8 text: save the file as UTF-8"));
}

#[test]
fn deep_and_long_files_are_read_or_refused() {
    let deep = 200_000;
    for text in [
        format!("a = {}", "[".repeat(deep)),
        format!("a = {}", "{ a = ".repeat(deep)),
        format!("a{} = 1", ".a".repeat(deep)),
        format!("[a{}]", ".a".repeat(deep)),
        format!("name = \"{}\"", "x".repeat(deep)),
        "name = 1 # \u{feff}\0".to_owned(),
    ] {
        assert!(parse(&text).is_err());
    }
}

/// A folder of this test's own below the build folder.
pub fn tempdir(name: &str) -> std::path::PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    std::fs::create_dir_all(&folder).expect("the build folder can be written");
    folder
}

const CASES: &[(&str, &str, &str)] = &[
    (
        "[sites.albany]",
        "[sites.ashburn.backup]\nups_seconds = 0\n[sites.albany]",
        "fleet.toml:42:15: sites.ashburn.backup.ups_seconds: 0 is not allowed: how long a UPS lasts, in seconds, is a whole number from 1 to 86,400",
    ),
    (
        "[sites.albany]",
        "[sites.ashburn.backup]\nups_seconds = 11\n[sites.ashburn.backup.generators]\ncount = 2\nkilowatts = 400\nstart = \"12s\"\nkg_co2_per_kwh = 0.7\n[sites.albany]",
        "fleet.toml:42:15: sites.ashburn.backup.ups_seconds: the UPS is empty after 11 s, and the generators carry the 512 kW that idle nodes draw only 12 s after the loss: all would go dark each time; make it last longer, or leave it out where that is meant",
    ),
    (
        "[sites.albany]",
        "[sites.ashburn.backup.generators]\ncount = 2\nkilowatts = 250\nstart = \"12s\"\nkg_co2_per_kwh = 0.7\n[sites.albany]",
        "fleet.toml:43:13: sites.ashburn.backup.generators.kilowatts: 500 kW can never carry the site: its idle nodes draw 512 kW at the grid connection; add generators, or leave them out",
    ),
    (
        "[sites.albany]",
        "[sites.ashburn.backup.generators]\ncount = 2\nkilowatts = 400\nstart = \"12s\"\nkg_co2_per_kwh = 0.7\nblock_step_kilowatts = 300\n[sites.albany]",
        "fleet.toml:46:24: sites.ashburn.backup.generators.block_step_kilowatts: how long from one step to the next? write `block_every = \"5s\"` beside it",
    ),
    (
        "[sites.albany]",
        "[sites.ashburn.backup.generators]\ncount = 2\nkilowatts = 400\nstart = \"12s\"\nkg_co2_per_kwh = 0.7\nblock_every = \"5s\"\n[sites.albany]",
        "fleet.toml:46:15: sites.ashburn.backup.generators.block_every: there are no steps: write `block_step_kilowatts` beside it, or leave it out",
    ),
    (
        "[sites.albany]",
        "[sites.ashburn.backup.generators]\ncount = 2\nkilowatts = 400\nstart = \"12s\"\nkg_co2_per_kwh = 0.7\nblock_step_kilowatts = 300\nblock_every = \"0s\"\n[sites.albany]",
        "fleet.toml:47:15: sites.ashburn.backup.generators.block_every: load in several steps at one instant is one step: say how long from one to the next, such as \"5s\"",
    ),
    (
        "[sites.albany]",
        "[sites.ashburn.backup.generators]\ncount = 2\nkilowatts = 400\nstart = \"12s\"\nkg_co2_per_kwh = 0.7\nblock_step_kilowatts = 7\nblock_every = \"5s\"\n[sites.albany]",
        "fleet.toml:46:24: sites.ashburn.backup.generators.block_step_kilowatts: takes 115 steps to 800 kW; at most 100 are allowed: make them larger",
    ),
    (
        "[sites.albany]",
        "[sites.ashburn.backup]\nups_seconds = 16\n[sites.ashburn.backup.generators]\ncount = 2\nkilowatts = 400\nstart = \"12s\"\nkg_co2_per_kwh = 0.7\nblock_step_kilowatts = 300\nblock_every = \"5s\"\n[sites.albany]",
        "fleet.toml:42:15: sites.ashburn.backup.ups_seconds: the UPS is empty after 16 s, and the generators carry the 512 kW that idle nodes draw only 17 s after the loss: all would go dark each time; make it last longer, or leave it out where that is meant",
    ),
    (
        "[sites.albany]",
        "[sites.ashburn.backup.generators]\ncount = 2\nkilowatts = 400\nstart = \"soon\"\nkg_co2_per_kwh = 0.7\n[sites.albany]",
        "fleet.toml:44:9: sites.ashburn.backup.generators.start: `soon` is not a duration: write a number and a unit (ms, s, m, h, d, w), such as `90s`, `36h` or `1d12h`",
    ),
    (
        "[sites.albany]",
        "[sites.ashburn.backup.generators]\ncount = 2\nkilowatts = 400\nstart = \"2d\"\nkg_co2_per_kwh = 0.7\n[sites.albany]",
        "fleet.toml:44:9: sites.ashburn.backup.generators.start: 2 d is longer than a day, which is more than any back-up takes",
    ),
    (
        "[sites.albany]",
        "[sites.ashburn.backup.generators]\ncount = 2\nkilowatts = 400\nstart = \"12s\"\nkg_co2_per_kwh = 0.7\npermit_hours = 9000\n[sites.albany]",
        "fleet.toml:46:16: sites.ashburn.backup.generators.permit_hours: 9000 is not allowed: a permit in hours a year is a number from 0 to 8,784",
    ),
    (
        "[sites.albany]",
        "[sites.ashburn.backup.generators]\ncount = 2\nkilowatts = 400\nstart = \"12s\"\n[sites.albany]",
        "fleet.toml:41:1: sites.ashburn.backup.generators: missing key `kg_co2_per_kwh`",
    ),
    (
        "[sites.albany]",
        "[sites.ashburn.backup]\nups = 60\n[sites.albany]",
        "fleet.toml:42:1: sites.ashburn.backup.ups: `ups` is no key here; allowed: ups_seconds, generators, retransfer, boot",
    ),
    (
        "kva = 700",
        "kva = 700\noverload = [{ load = 0.8, lasts = \"60s\" }]",
        "fleet.toml:47:22: circuits.feeder-a.overload[0].load: is no more than the load that it carries for ever, 0.8: write what lasts longest first",
    ),
    (
        "kva = 700",
        "kva = 700\noverload = [{ load = 1.25, lasts = \"60s\" }, { load = 1.2, lasts = \"5s\" }]",
        "fleet.toml:47:54: circuits.feeder-a.overload[1].load: is no more than the point before it, 1.25: write what lasts longest first",
    ),
    (
        "kva = 700",
        "kva = 700\noverload = [{ load = 1.25, lasts = \"60s\" }, { load = 1.5, lasts = \"60s\" }]",
        "fleet.toml:47:67: circuits.feeder-a.overload[1].lasts: a larger load lasts shorter than the one before it",
    ),
    (
        "kva = 700",
        "kva = 700\noverload = [{ load = 1.25, lasts = \"0s\" }]",
        "fleet.toml:47:36: circuits.feeder-a.overload[0].lasts: what lasts for no time cannot be carried: leave the point out",
    ),
    (
        "kva = 700",
        "kva = 700\noverload = [{ load = 25, lasts = \"1s\" }]",
        "fleet.toml:47:22: circuits.feeder-a.overload[0].load: 25 is not allowed: a load over the rating is a number from 0 to 20",
    ),
    (
        "kva = 700",
        "kva = 250\noverload = [{ load = 2.0, lasts = \"60s\" }]",
        "fleet.toml:46:7: circuits.feeder-a.kva: cap `feeder-a for feeder-b` of 190 kW for longer than its curve allows more can never be kept: its nodes draw 205 kW idle; raise it or feed fewer nodes",
    ),
    (
        "redundancy_group = \"ashburn-hall-0\"",
        "overload = [{ load = 1.25, lasts = \"60s\" }]",
        "fleet.toml:48:22: circuits.feeder-a.overload[0].load: it stands in for no other circuit, and is never loaded beyond its rating: leave `overload` out",
    ),
    (
        "idle_watts = 75",
        "idel_watts = 75",
        "fleet.toml:8:1: accelerators.h100.idel_watts: `idel_watts` is no key here (did you mean `idle_watts`?); allowed: idle_watts, operating_watts, peak_watts, memory_gib, base_watts, power_levels, torus",
    ),
    ("idle_watts = 75", "", "fleet.toml:7:1: accelerators.h100: missing key `idle_watts`"),
    (
        "[accelerators.h100]",
        "accelerators.b = 5\n[accelerators.h100]",
        "fleet.toml:7:1: parameters.accelerators: invalid type: map, expected a whole number",
    ),
    (
        "attributes = {",
        "attributes = 5 # {",
        "fleet.toml:22:14: node_kinds.h100-8.attributes: invalid type: integer `5`, expected a table",
    ),
    (
        "idle_watts = 75",
        "idle_watts = -75",
        "fleet.toml:8:14: accelerators.h100.idle_watts: -75 is not allowed: a draw in watts is a whole number from 0 to 1,000,000",
    ),
    (
        "idle_watts = 75",
        "idle_watts = nan",
        "fleet.toml:8:14: accelerators.h100.idle_watts: NaN is not allowed: a draw in watts is a whole number from 0 to 1,000,000",
    ),
    (
        "idle_watts = 75",
        "idle_watts = inf",
        "fleet.toml:8:14: accelerators.h100.idle_watts: inf is not allowed: a draw in watts is a whole number from 0 to 1,000,000",
    ),
    (
        "idle_watts = 75",
        "idle_watts = 75.5",
        "fleet.toml:8:14: accelerators.h100.idle_watts: 75.5 is not allowed: a draw in watts is a whole number from 0 to 1,000,000",
    ),
    (
        "idle_watts = 75",
        "idle_watts = \"75\"",
        "fleet.toml:8:14: accelerators.h100.idle_watts: `75` is text: write a number without quotes, or a parameter such as \"$buildings\"",
    ),
    (
        "idle_watts = 75",
        "idle_watts = true",
        "fleet.toml:8:14: accelerators.h100.idle_watts: invalid type: boolean `true`, expected a number, or a parameter such as \"$buildings\"",
    ),
    (
        "idle_watts = 75",
        "idle_watts = 99999999999999999999",
        "fleet.toml:8:14: accelerators.h100.idle_watts: 99999999999999999999 is beyond any limit here",
    ),
    (
        "idle_watts = 75",
        "idle_watts = 75\nidle_watts = 76",
        "fleet.toml:9:1: the key is written twice: rename one, or make them one",
    ),
    (
        "idle_watts = 75",
        "idle_watts = 601",
        "fleet.toml:9:19: accelerators.h100.operating_watts: 600 W at work is below 601 W idle: idle ≤ operating ≤ peak",
    ),
    (
        "operating_watts = 600",
        "operating_watts = 701",
        "fleet.toml:10:14: accelerators.h100.peak_watts: 700 W at the most is below 701 W at work: idle ≤ operating ≤ peak",
    ),
    (
        "power = 0.8",
        "power = 1.8",
        "fleet.toml:13:27: accelerators.h100.power_levels[0].power: 1.8 is not allowed: a share of peak power is above 0 and at most 1",
    ),
    (
        "power = 0.8",
        "power = 0.1",
        "fleet.toml:13:27: accelerators.h100.power_levels[0].power: 70 W is below the 75 W that the chip draws idle",
    ),
    (
        "speed = 0.95",
        "speed = 0",
        "fleet.toml:13:40: accelerators.h100.power_levels[0].speed: 0 is not allowed: a share of full speed is above 0 and at most 1",
    ),
    (
        "\"assumed\"",
        "\"asumed\"",
        "fleet.toml:13:54: accelerators.h100.power_levels[0].basis: `asumed` is no value here (did you mean `assumed`?); allowed: measured, assumed",
    ),
    (
        "\"our own runs, to be repeated\"",
        "\"\"",
        "fleet.toml:13:74: accelerators.h100.power_levels[0].source: say where the figures come from, or \"assumption\"",
    ),
    (
        "{ name = \"eco\"",
        "{ name = \"full\"",
        "fleet.toml:13:12: accelerators.h100.power_levels[0].name: a second power level named `full`",
    ),
    (
        "accelerator = \"h100\"",
        "accelerator = \"H10\"",
        "fleet.toml:17:15: node_kinds.h100-8.accelerator: `H10` is no accelerator (did you mean `h100`?); declare it as [accelerators.H10]",
    ),
    (
        "chips = 8",
        "chips = 65",
        "fleet.toml:18:9: node_kinds.h100-8.chips: 65 is not allowed: the number of chips of a node is a whole number from 1 to 64",
    ),
    (
        "chips = 8",
        "chips = 0",
        "fleet.toml:18:9: node_kinds.h100-8.chips: 0 is not allowed: the number of chips of a node is a whole number from 1 to 64",
    ),
    (
        "chips = 8\n",
        "",
        "fleet.toml:17:15: node_kinds.h100-8.accelerator: how many? Write `chips` beside `accelerator`",
    ),
    (
        "cpu_cores = 112",
        "cpu_cores = 0",
        "fleet.toml:19:13: node_kinds.h100-8.cpu_cores: 0 is not allowed: the number of processor cores is a number from 0.001 to 1,000,000",
    ),
    (
        "\"site\", \"hall\"",
        "\"hall\", \"site\"",
        "fleet.toml:2:10: levels: the first level is `site`: write levels = [\"site\", …], widest first",
    ),
    (
        "\"site\", \"hall\", \"rack\"",
        "\"site\", \"hall\", \"hall\"",
        "fleet.toml:2:27: levels[2]: a second level named `hall`",
    ),
    (
        "level = \"rack\"",
        "level = \"rak\"",
        "fleet.toml:25:9: templates.rack.level: `rak` is no level (did you mean `rack`?); the levels are: site, hall, rack",
    ),
    (
        "level = \"rack\"",
        "level = \"hall\"",
        "fleet.toml:30:13: templates.hall.domains.rack: `rack` is at level `hall`, which is not below `hall`: `levels` goes from the widest to the narrowest",
    ),
    (
        "nodes = { h100-8 = 4 }",
        "domains = { hall = 4 }",
        "fleet.toml:26:13: templates.rack.domains.hall: a template cannot hold itself: rack → hall → rack",
    ),
    (
        "nodes = { h100-8 = 4 }",
        "nodes = { h100-9 = 4 }",
        "fleet.toml:26:11: templates.rack.nodes.h100-9: `h100-9` is no node kind (did you mean `h100-8`?); declare it as [node_kinds.h100-9]",
    ),
    (
        "nodes = { h100-8 = 4 }",
        "nodes = { h100-8 = 0 }",
        "fleet.toml:26:20: templates.rack.nodes.h100-8: 0 is not allowed: a count is a whole number from 1 to 4,000,000",
    ),
    (
        "nodes = { h100-8 = 4 }",
        "nodes = {}",
        "fleet.toml:26:9: templates.rack.nodes: is empty: write node kinds and their counts, such as { h100-8 = 4 }",
    ),
    (
        "nodes = { h100-8 = 4 }",
        "",
        "fleet.toml:24:12: templates.rack: is empty: write `domains = { … }` or `nodes = { … }`",
    ),
    (
        "domains = { rack = 16 }",
        "domains = { rack = 16 }\nnodes = { h100-8 = 1 }",
        "fleet.toml:31:9: templates.hall.nodes: a domain holds domains or nodes, not both: put the nodes into a template",
    ),
    (
        "domains = { rack = 16 }",
        "domains = { rack = 5_000_000 }",
        "fleet.toml:30:20: templates.hall.domains.rack: 5000000 is not allowed: a count is a whole number from 1 to 4,000,000",
    ),
    (
        "domains = { rack = 16 }",
        "domains = { rack = 2_000_000 }",
        "fleet.toml:28:12: templates.hall: makes 8,000,000 nodes; at most 4,000,000 are allowed: lower a count",
    ),
    (
        "domains = { rack = 16 }",
        "name = \"hall\"\ndomains = { rack = 16 }",
        "fleet.toml:40:11: sites.ashburn.domains: two children are named `hall`: put {n} into the template's `name`",
    ),
    (
        "domains = { rack = 16 }",
        "name = \"a/b\"\ndomains = { rack = 16 }",
        "fleet.toml:30:8: templates.hall.name: the name `a/b` holds '/', which names may not",
    ),
    (
        "\"$halls\"",
        "\"$hall\"",
        "fleet.toml:39:20: sites.ashburn.domains.hall: `$hall` names no parameter (did you mean `halls`?); declare it under [parameters]",
    ),
    (
        "\"$halls\"",
        "\"halls\"",
        "fleet.toml:39:20: sites.ashburn.domains.hall: `halls` is text: write a number without quotes, or a parameter such as \"$buildings\"",
    ),
    (
        "halls = 2",
        "halls = 2.5",
        "fleet.toml:5:9: parameters.halls: invalid type: floating point `2.5`, expected a whole number",
    ),
    (
        "pue = 1.25",
        "pue = 0.9",
        "fleet.toml:38:7: sites.ashburn.pue: 0.9 is not allowed: PUE is facility power over IT power, from 1 to 10; 1.1 to 1.5 is usual",
    ),
    (
        "pue = 1.25",
        "",
        "fleet.toml:32:8: sites.ashburn: says nothing of what it draws beside its servers: write `pue`, or a curve as `cooling`",
    ),
    (
        "pue = 1.25",
        "pue = 1.25\ncooling = { full_load_megawatts = 1.2, curve = [{ it = 0, overhead = 0.03 }, { it = 0.5, overhead = 0.08 }, { it = 1, overhead = 0.2 }] }",
        "fleet.toml:38:7: sites.ashburn.pue: `cooling` says what is drawn beside the servers: leave `pue` out",
    ),
    (
        "pue = 1.25",
        "cooling = { full_load_megawatts = 1.2, curve = [{ it = 0, overhead = 0.03 }, { it = 0.5, overhead = 0.12 }, { it = 1, overhead = 0.2 }] }",
        "fleet.toml:38:130: sites.ashburn.cooling.curve[2].overhead: rises more slowly up to here than up to the point before it: a curve of fans, pumps and chillers is convex; leave out the one of the two that is off",
    ),
    (
        "pue = 1.25",
        "cooling = { full_load_megawatts = 1.2, curve = [{ it = 0, overhead = 0.03 }, { it = 0.5, overhead = 0.02 }, { it = 1, overhead = 0.2 }] }",
        "fleet.toml:38:101: sites.ashburn.cooling.curve[1].overhead: more load takes no less: the point before it takes more",
    ),
    (
        "pue = 1.25",
        "cooling = { full_load_megawatts = 1.2, curve = [{ it = 0, overhead = 0.03 }, { it = 0, overhead = 0.08 }, { it = 1, overhead = 0.2 }] }",
        "fleet.toml:38:85: sites.ashburn.cooling.curve[1].it: is no more load than at the point before it: write the least first",
    ),
    (
        "pue = 1.25",
        "cooling = { full_load_megawatts = 1.2, curve = [{ it = 0.1, overhead = 0.03 }, { it = 1, overhead = 0.2 }] }",
        "fleet.toml:38:56: sites.ashburn.cooling.curve[0].it: the first point is that of no load: write { it = 0.0, overhead = … }",
    ),
    (
        "pue = 1.25",
        "cooling = { full_load_megawatts = 1.2, curve = [{ it = 0, overhead = 0.03 }, { it = 0.9, overhead = 0.2 }] }",
        "fleet.toml:38:48: sites.ashburn.cooling.curve: goes from no load to full load: its first point has it = 0.0, its last it = 1.0",
    ),
    (
        "pue = 1.25",
        "cooling = { full_load_megawatts = 1.2, curve = [{ it = 0, overhead = 3 }, { it = 100, overhead = 20 }] }",
        "fleet.toml:38:82: sites.ashburn.cooling.curve[1].it: 100 is not allowed: a share of full IT load is from 0 to 1",
    ),
    (
        "pue = 1.25",
        "cooling = { full_load_megawatts = 0.9, curve = [{ it = 0, overhead = 0.03 }, { it = 0.5, overhead = 0.08 }, { it = 1, overhead = 0.2 }] }",
        "fleet.toml:38:35: sites.ashburn.cooling.full_load_megawatts: is less than what its servers draw at work, 947 kW: a curve tells nothing of what is beyond its end",
    ),
    (
        "pue = 1.25",
        "cooling = { full_load_megawatts = 1.2, curve = [{ it = 0, overhead = 0.03 }, { it = 0.5, overhead = 0.08 }, { it = 1, overhead = 0.2 }], follows = \"2h\" }",
        "fleet.toml:38:148: sites.ashburn.cooling.follows: 2 h is not allowed: at most 30 min",
    ),
    (
        "pue = 1.25",
        "cooling = { full_load_megawatts = 1.2, curve = [{ it = 0, overhead = 0.03 }, { it = 0.5, overhead = 0.08 }, { it = 1, overhead = 0.2 }], heat = [{ wet_bulb_c = 10, factor = 1 }, { wet_bulb_c = 20, factor = 1.5 }, { wet_bulb_c = 30, factor = 1.6 }] }",
        "fleet.toml:38:242: sites.ashburn.cooling.heat[2].factor: rises more slowly up to here than up to the point before it: what heat takes is convex; leave out the one of the two that is off",
    ),
    (
        "pue = 1.25",
        "cooling = { full_load_megawatts = 1.2, curve = [{ it = 0, overhead = 0.03 }, { it = 0.5, overhead = 0.08 }, { it = 1, overhead = 0.2 }], heat = [{ wet_bulb_c = 10, factor = 1 }, { wet_bulb_c = 20, factor = 0.5 }] }",
        "fleet.toml:38:207: sites.ashburn.cooling.heat[1].factor: heat takes no less: the point before it takes more",
    ),
    (
        "pue = 1.25",
        "cooling = { full_load_megawatts = 1.2, curve = [{ it = 0, overhead = 0.03 }, { it = 0.5, overhead = 0.08 }, { it = 1, overhead = 0.2 }], heat = [{ wet_bulb_c = 10, factor = 1 }, { wet_bulb_c = 10, factor = 2 }] }",
        "fleet.toml:38:194: sites.ashburn.cooling.heat[1].wet_bulb_c: is no warmer than the point before it: write the coolest first",
    ),
    (
        "pue = 1.25",
        "pue = 1.25\nride_through = { rak = \"20s\" }",
        "fleet.toml:39:18: sites.ashburn.ride_through.rak: `rak` is no level (did you mean `rack`?); levels are: site, hall, rack",
    ),
    (
        "pue = 1.25",
        "pue = 1.25\nride_through = { rack = \"20\" }",
        "fleet.toml:39:25: sites.ashburn.ride_through.rack: `20` is not a duration: write a number and a unit (ms, s, m, h, d, w), such as `90s`, `36h` or `1d12h`",
    ),
    (
        "provider = \"own\"",
        "provider = \" \"",
        "fleet.toml:33:12: sites.ashburn.provider: is empty: leave the key out instead",
    ),
    (
        "[sites.albany]",
        "[sites.\"al/bany\"]",
        "fleet.toml:41:8: sites.al/bany: the name `al/bany` holds '/', which names may not",
    ),
    (
        "[sites.albany]",
        "[sites.ashburn]",
        "fleet.toml:41:8: sites.ashburn: the key is written twice: rename one, or make them one",
    ),
    (
        "power_factor = 0.95",
        "power_factor = 1.95",
        "fleet.toml:47:16: circuits.feeder-a.power_factor: 1.95 is not allowed: a power factor is above 0 and at most 1",
    ),
    (
        "kva = 700",
        "kva = 10",
        "fleet.toml:46:7: circuits.feeder-a.kva: cap `feeder-a for feeder-b` of 7.60 kW can never be kept: its nodes draw 205 kW idle; raise it or feed fewer nodes",
    ),
    (
        "kva = 700",
        "kva = 0",
        "fleet.toml:46:7: circuits.feeder-a.kva: 0 is not allowed: a rating in kVA is a number from 0.001 to 1,000,000,000",
    ),
    (
        "share = 0.5",
        "share = 0",
        "fleet.toml:49:47: circuits.feeder-a.feeds[0].share: 0 is not allowed: a share is above 0 and at most 1",
    ),
    (
        "share = 0.5",
        "share = 0.7",
        "fleet.toml:55:9: circuits.feeder-b.feeds: the circuits of group `ashburn-hall-0` feed 1.2 of `ashburn/hall-0`: their shares make at most 1",
    ),
    (
        "redundancy_group = \"ashburn-hall-0\"\nfeeds = [{ domain = \"ashburn/hall-0\", share = 0.5 }]\n\n[caps.grid]",
        "redundancy_group = \"ashburn-hall-0\"\nfeeds = [{ domain = \"ashburn/hall-0/rack-1\", share = 0.5 }]\n\n[caps.grid]",
        "fleet.toml:55:9: circuits.feeder-b.feeds: the circuits of group `ashburn-hall-0` feed `ashburn/hall-0` and `ashburn/hall-0/rack-1`, of which one holds the other: those of a group feed the same domains",
    ),
    (
        "domain = \"ashburn/hall-0\", share = 0.5",
        "domain = \"ashburn/hall-9\", share = 0.5",
        "fleet.toml:49:21: circuits.feeder-a.feeds[0].domain: `ashburn/hall-9` matches no domain: no `hall-9` there (did you mean `hall-0`?); there is: hall-0, hall-1",
    ),
    (
        "{ domain = \"ashburn/hall-0\", share = 0.5 }",
        "",
        "fleet.toml:49:9: circuits.feeder-a.feeds: feeds nothing: write { domain = \"site/hall-0\" }",
    ),
    (
        "{ domain = \"ashburn/hall-0\", share = 0.5 }",
        "{ domain = \"ashburn\" }, { domain = \"*/hall-1\" }",
        "fleet.toml:49:45: circuits.feeder-a.feeds[1].domain: `ashburn` and `ashburn/hall-1` overlap: a circuit feeds each domain once, at its top",
    ),
    (
        "on = \"ashburn\"",
        "on = \"ashborn\"",
        "fleet.toml:58:6: caps.grid.on: `ashborn` matches no domain: no `ashborn` there (did you mean `ashburn`?); there is: ashburn, albany",
    ),
    ("on = \"ashburn\"", "", "fleet.toml:57:7: caps.grid: is on nothing: write `on = \"site/…\"` or `circuit = \"…\"`"),
    (
        "on = \"ashburn\"",
        "on = \"ashburn\"\ncircuit = \"feeder-a\"",
        "fleet.toml:59:11: caps.grid.circuit: a cap is on a domain or on a circuit: write one of the two",
    ),
    (
        "on = \"ashburn\"",
        "circuit = \"feeder-c\"",
        "fleet.toml:58:11: caps.grid.circuit: `feeder-c` is no circuit (did you mean `feeder-a`?); declare it as [circuits.feeder-c]",
    ),
    (
        "megawatts = 1.2",
        "megawatts = 0.5",
        "fleet.toml:59:13: caps.grid.megawatts: cap `grid` of 500 kW can never be kept: its nodes draw 512 kW idle; raise it or feed fewer nodes",
    ),
    (
        "megawatts = 1.2",
        "megawatts = 1.2\nwatts = 7",
        "fleet.toml:59:13: caps.grid.megawatts: a second limit: write one of `watts`, `kilowatts` and `megawatts`",
    ),
    ("megawatts = 1.2", "", "fleet.toml:57:7: caps.grid: has no limit: write `watts`, `kilowatts` or `megawatts`"),
    (
        "meter = \"facility\"",
        "meter = \"grid\"",
        "fleet.toml:60:9: caps.grid.meter: `grid` is no value here; allowed: it, facility",
    ),
    (
        "meter = \"facility\"\nkind = \"contract\"",
        "meter = \"facility\"\nkind = \"contract\"\nderating = [{ wet_bulb_c = 24, share = 1.2 }]",
        "fleet.toml:62:40: caps.grid.derating[0].share: 1.2 is not allowed: a share of the cap is above 0 and at most 1",
    ),
    (
        "meter = \"facility\"\nkind = \"contract\"",
        "meter = \"facility\"\nkind = \"contract\"\nderating = [{ wet_bulb_c = 24, share = 1 }, { wet_bulb_c = 24, share = 0.9 }]",
        "fleet.toml:62:60: caps.grid.derating[1].wet_bulb_c: is no warmer than the point before it: write the coolest first",
    ),
    (
        "meter = \"facility\"\nkind = \"contract\"",
        "meter = \"facility\"\nkind = \"contract\"\nderating = [{ wet_bulb_c = 24, share = 0.9 }, { wet_bulb_c = 30, share = 1 }]",
        "fleet.toml:62:74: caps.grid.derating[1].share: heat leaves no more of a cap: the point before it leaves less",
    ),
    (
        "meter = \"facility\"\nkind = \"contract\"",
        "meter = \"facility\"\nkind = \"contract\"\nrise_watts_per_minute = 0",
        "fleet.toml:62:25: caps.grid.rise_watts_per_minute: 0 is not allowed: a rise in watts a minute is a number from 1 to 1,000,000,000,000",
    ),
    (
        "meter = \"facility\"\nkind = \"contract\"",
        "meter = \"facility\"\nkind = \"contract\"\nderating = [{ wet_bulb_c = 124, share = 0.9 }]",
        "fleet.toml:62:28: caps.grid.derating[0].wet_bulb_c: 124 is not allowed: a wet-bulb temperature in degrees Celsius is a number from -60 to 60",
    ),
    (
        "meter = \"facility\"\nkind = \"contract\"",
        "meter = \"facility\"\nkind = \"contract\"\nderating = [{ wet_bulb_c = 24, share = 1 }, { wet_bulb_c = 34, share = 0.3 }]",
        "fleet.toml:59:13: caps.grid.megawatts: cap `grid` of 360 kW in heat can never be kept: its nodes draw 512 kW idle; raise it or feed fewer nodes",
    ),
    (
        "meter = \"facility\"\nkind = \"contract\"",
        "meter = \"facility\"\nkind = \"contract\"\nhours = [{ from = \"16:00\", until = \"21:00\", megawatts = 1 }]",
        "fleet.toml:62:9: caps.grid.hours: whose hours? Write `time_zone` beside them, such as \"America/Chicago\"",
    ),
    (
        "meter = \"facility\"\nkind = \"contract\"",
        "meter = \"facility\"\nkind = \"contract\"\nhours = []\ntime_zone = \"America/Chicago\"",
        "fleet.toml:62:9: caps.grid.hours: is empty: leave the key out for a cap that allows the same at all hours",
    ),
    (
        "meter = \"facility\"\nkind = \"contract\"",
        "meter = \"facility\"\nkind = \"contract\"\nhours = [{ from = \"16:00\", until = \"16:00\", megawatts = 1 }]\ntime_zone = \"America/Chicago\"",
        "fleet.toml:62:36: caps.grid.hours[0].until: is when it begins: write 00:00 and 24:00 for a whole day",
    ),
    (
        "meter = \"facility\"\nkind = \"contract\"",
        "meter = \"facility\"\nkind = \"contract\"\nhours = [{ from = \"4pm\", until = \"21:00\", megawatts = 1 }]\ntime_zone = \"America/Chicago\"",
        "fleet.toml:62:19: caps.grid.hours[0].from: `4pm` is no time of the day: write 00:00 to 23:59",
    ),
    (
        "meter = \"facility\"\nkind = \"contract\"",
        "meter = \"facility\"\nkind = \"contract\"\nhours = [{ from = \"16:00\", until = \"24:30\", megawatts = 1 }]\ntime_zone = \"America/Chicago\"",
        "fleet.toml:62:36: caps.grid.hours[0].until: `24:30` is no time of the day: write 00:00 to 24:00",
    ),
    (
        "meter = \"facility\"\nkind = \"contract\"",
        "meter = \"facility\"\nkind = \"contract\"\nhours = [{ from = \"16:00\", until = \"21:00\" }]\ntime_zone = \"America/Chicago\"",
        "fleet.toml:62:19: caps.grid.hours[0].from: has no limit: write `watts`, `kilowatts` or `megawatts` beside it",
    ),
    (
        "meter = \"facility\"\nkind = \"contract\"",
        "meter = \"facility\"\nkind = \"contract\"\nhours = [{ from = \"16:00\", until = \"21:00\", megawatts = 1.2 }]\ntime_zone = \"America/Chicago\"",
        "fleet.toml:62:57: caps.grid.hours[0].megawatts: 1.20 MW is no less than the cap's 1.20 MW: hours are times in which it allows less",
    ),
    (
        "meter = \"facility\"\nkind = \"contract\"",
        "meter = \"facility\"\nkind = \"contract\"\nhours = [{ from = \"16:00\", until = \"21:00\", megawatts = 0.5 }]\ntime_zone = \"America/Chicago\"",
        "fleet.toml:59:13: caps.grid.megawatts: cap `grid` of 500 kW in its `hours` can never be kept: its nodes draw 512 kW idle; raise it or feed fewer nodes",
    ),
    (
        "meter = \"facility\"\nkind = \"contract\"",
        "meter = \"facility\"\nkind = \"contract\"\nhours = [{ from = \"16:00\", until = \"21:00\", megawatts = 1, days = [\"monday\"] }]\ntime_zone = \"America/Chicago\"",
        "fleet.toml:62:68: caps.grid.hours[0].days[0]: `monday` is no day: write one of mon, tue, wed, thu, fri, sat, sun",
    ),
    (
        "meter = \"facility\"\nkind = \"contract\"",
        "meter = \"facility\"\nkind = \"contract\"\nhours = [{ from = \"16:00\", until = \"21:00\", megawatts = 1, days = [] }]\ntime_zone = \"America/Chicago\"",
        "fleet.toml:62:67: caps.grid.hours[0].days: is empty: leave the key out for all days",
    ),
    (
        "[caps.grid]",
        "[caps.\"feeder-a for feeder-b\"]",
        "fleet.toml:59:13: caps.feeder-a for feeder-b.megawatts: a second cap named `feeder-a for feeder-b`: rename one",
    ),
    (
        "[sites.albany]\npue = 1.2",
        "[sites.albany]\npue = 1.2\nramp = { max_step = { megawatts = 0 }, up_per_second = { kilowatts = 5 }, down_per_second = { kilowatts = 5 } }",
        "fleet.toml:43:35: sites.albany.ramp.max_step.megawatts: a step of nothing: no work could run; leave the ramp out instead",
    ),
    (
        "[sites.albany]\npue = 1.2",
        "[sites.albany]\npue = 1.2\nramp = { max_step = { megawatts = 2 }, up_per_second = { }, down_per_second = { kilowatts = 5 } }",
        "fleet.toml:43:56: sites.albany.ramp.up_per_second: is empty: write { megawatts = 8 }, or `kilowatts` or `watts`",
    ),
    (
        "[sites.albany]\npue = 1.2",
        "[sites.albany]\npue = 1.2\nramp = { max_step = { megawatts = 2 }, up_per_second = { kilowatts = 5 } }",
        "fleet.toml:43:8: sites.albany.ramp: missing key `down_per_second`",
    ),
    (
        "[sites.albany]\npue = 1.2",
        "[sites.albany]\npue = 1.2\nramp = { max_step = { megawatts = 2 }, up_per_second = { kilowatts = 5 }, down_per_second = { kilowatts = 5, watts = 1 } }",
        "fleet.toml:43:107: sites.albany.ramp.down_per_second.kilowatts: a second fall with each second: write one of `watts`, `kilowatts` and `megawatts`",
    ),
    (
        "[sites.albany]\npue = 1.2",
        "[sites.albany]\npue = 1.2\nramp = { max_step = { megawatts = 2 }, up_per_second = { kilowatts = 5 }, down_per_second = { kilowatts = 5 }, smoothing = { megawatts = 2 } }",
        "fleet.toml:43:124: sites.albany.ramp.smoothing: missing key `source`",
    ),
    (
        "[sites.albany]\npue = 1.2",
        "[sites.albany]\npue = 1.2\nramp = { max_step = { megawatts = 2 }, up_per_second = { kilowatts = 5 }, down_per_second = { kilowatts = 5 }, smoothing = { megawatts = 2, source = \"\" } }",
        "fleet.toml:43:150: sites.albany.ramp.smoothing.source: is empty: write who states that it takes up so much, such as \"acceptance test, March 2026\"",
    ),
    (
        "[sites.albany]\npue = 1.2",
        "[sites.albany]\npue = 1.2\nramp = { max_step = { megawatts = 2 }, up_per_second = { kilowatts = 5 }, down_per_second = { kilowatts = 5 }, smoothing = { source = \"a test\" } }",
        "fleet.toml:43:124: sites.albany.ramp.smoothing: takes up nothing: write { megawatts = 2, source = \"…\" }, or leave it out",
    ),
    ("name = \"example\"", "name = \"\"", "fleet.toml:1:8: name: a name is empty"),
    (
        "name = \"example\"",
        "name = example",
        "fleet.toml:1:8: name: string values must be quoted, expected literal string",
    ),
];
