//! Chips that are wired as tori, and what of them may be asked for.

use std::collections::BTreeMap;
use std::path::Path;

use offtake_fleet::{Fleet, FleetError, LevelIx, Torus};

fn read(torus: &str, hosts: u32) -> Result<Fleet, FleetError> {
    let text = format!(
        "name = \"t\"\nlevels = [\"site\", \"pod\", \"cube\"]\n\
         [accelerators.tpu]\nidle_watts = 1\noperating_watts = 2\npeak_watts = 3\ntorus = {{ {torus} }}\n\
         [node_kinds.host]\naccelerator = \"tpu\"\nchips = 4\ncpu_cores = 8\nmemory_gib = 8\nbase_watts = 1\n\
         [templates.cube]\nlevel = \"cube\"\nnodes = {{ host = {hosts} }}\n\
         [templates.pod]\nlevel = \"pod\"\ndomains = {{ cube = 2 }}\n\
         [sites.s]\npue = 1.0\ndomains = {{ pod = 1 }}\n"
    );
    offtake_fleet::parse(&text, "fleet.toml", Path::new(""), &BTreeMap::new())
}

const CUBE: &str = "level = \"cube\", grid = \"4x4x4\", host = \"2x2x1\"";

#[test]
fn slices_are_those_that_are_published() {
    let fleet = read(&format!("{CUBE}, joined = \"pod\", most_chips = 6144"), 16).expect("a torus");
    let torus = &fleet.tori[0];
    assert_eq!((torus.level, torus.joined, torus.hosts()), (LevelIx(2), Some(LevelIx(1)), 16));
    for allowed in [[2, 2, 1], [2, 2, 2], [2, 2, 4], [2, 4, 4], [4, 4, 4], [4, 4, 8], [8, 16, 16], [16, 16, 24]] {
        assert!(torus.allows(allowed), "{allowed:?}");
    }
    for refused in [[1, 1, 1], [1, 2, 2], [4, 2, 2], [8, 4, 4], [4, 4, 6], [0, 4, 4], [16, 24, 24], [2, 4, 1]] {
        assert!(!torus.allows(refused), "{refused:?}");
    }
    let flat = Torus { grid: [16, 16, 1], host: [2, 4, 1], joined: None, most_chips: 256, ..torus.clone() };
    assert_eq!(flat.allowed(), "1x1, 2x2, 2x4, 4x4, 4x8, 8x8, 8x16, 16x16");
    assert_eq!(flat.turned([2, 4, 1]), [[2, 4, 1]], "turned it would lie across two hosts");
    assert_eq!(flat.turned([8, 16, 1]), [[8, 16, 1], [16, 8, 1]]);
    assert!(!flat.allows([16, 32, 1]));
    let small = Torus { host: [2, 2, 1], ..flat };
    assert_eq!(small.turned([2, 4, 1]), [[2, 4, 1], [4, 2, 1]]);
}

#[test]
fn every_chip_has_a_place_of_its_own() {
    for (grid, host) in [([4, 4, 4], [2, 2, 1]), ([16, 16, 1], [2, 4, 1])] {
        let fleet = read(CUBE, 16).expect("a torus");
        let torus = Torus { grid, host, ..fleet.tori[0].clone() };
        let chips = Torus::chips(host);
        let mut places: Vec<u32> = (0..torus.hosts())
            .flat_map(|node| (0..chips).map(move |chip| (node, chip)))
            .map(|(n, c)| torus.place(n, c))
            .collect();
        places.sort_unstable();
        assert!(places.into_iter().eq(0..Torus::chips(grid)));
    }
}

#[test]
fn what_is_no_torus_is_refused() {
    for (torus, hosts, part) in [
        (CUBE.replace("4x4x4", "4xx4"), 16, "chips along two or three axes"),
        (CUBE.replace("4x4x4", "0x4x4"), 16, "chips along two or three axes"),
        (CUBE.replace("4x4x4", "32x32"), 16, "a grid has at most 256 chips"),
        (CUBE.replace("4x4x4", "65535x65535x65535"), 16, "a grid has at most 256 chips"),
        (CUBE.replace("2x2x1", "3x2x1"), 16, "the chips of a node divide those of the grid"),
        (CUBE.replace("\"cube\"", "\"cuba\""), 16, "`cuba` is no level (did you mean `cube`?)"),
        (format!("{CUBE}, joined = \"cube\""), 16, "names no level around `cube`"),
        (format!("{CUBE}, joined = \"pod\", most_chips = 0"), 16, "the most chips of a slice"),
        (CUBE.to_owned(), 15, "is no such grid: that is 16 nodes of 4 chips each"),
        (CUBE.replace("2x2x1", "2x1x1"), 16, "that is 32 nodes of 2 chips each"),
        (CUBE.replace("\"cube\"", "\"pod\""), 16, "is no such grid"),
    ] {
        let error = read(&torus, hosts).expect_err(&torus).to_string();
        assert!(error.contains(part), "{torus}: {error}");
    }
}
