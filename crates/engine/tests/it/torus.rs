//! Slices of tori, compared with a search of every place of every grid.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use offtake_engine::{Event, Explanation, JobId, Obstacle, Phase};
use offtake_fleet::{Fleet, LevelIx, NodeIx, Sides};
use offtake_workload::{Gang, Job, Slice};
use proptest::prelude::*;

use crate::support::{Engine, fleet, gang, job};

const HEAD: &str = r#"
name = "tpu"
levels = ["site", "pod", "cube"]

[accelerators.tpu]
idle_watts = 100
operating_watts = 300
peak_watts = 400
"#;

/// Two pods of 16 x 16 chips, on hosts of 2 x 4.
fn plane() -> Arc<Fleet> {
    fleet(&format!(
        "{HEAD}torus = {{ level = \"pod\", grid = \"16x16\", host = \"2x4\" }}\n\
         [node_kinds.host]\naccelerator = \"tpu\"\nchips = 8\ncpu_cores = 180\nmemory_gib = 1536\nbase_watts = 800\n\
         [templates.pod]\nlevel = \"pod\"\nnodes = {{ host = 32 }}\n\
         [sites.here]\npue = 1.1\ndomains = {{ pod = 2 }}\n"
    ))
}

/// Two pods of three cubes of 4 x 4 x 4 chips, on hosts of 2 x 2 x 1; a slice has at most 128 chips.
pub fn space() -> Arc<Fleet> {
    fleet(&format!(
        "{HEAD}torus = {{ level = \"cube\", grid = \"4x4x4\", host = \"2x2x1\", joined = \"pod\", most_chips = 128 }}\n\
         [node_kinds.host]\naccelerator = \"tpu\"\nchips = 4\ncpu_cores = 208\nmemory_gib = 448\nbase_watts = 500\n\
         [templates.cube]\nlevel = \"cube\"\nnodes = {{ host = 16 }}\n\
         [templates.pod]\nlevel = \"pod\"\ndomains = {{ cube = 3 }}\n\
         [sites.here]\npue = 1.1\ndomains = {{ pod = 2 }}\n"
    ))
}

pub fn slice(text: &str, chips: u16) -> Gang {
    let slice: Slice = text.parse().expect("the test's slice is one");
    Gang { slice: Some(slice), ..gang((slice.chips() / u64::from(chips)) as u32, chips) }
}

fn asked(text: &str, chips: u16) -> Job {
    job(vec![slice(text, chips)], None)
}

/// Chips by grid and coordinates.
type Chip = (u32, Sides);

/// The chips that a job has: worked out from what is written in docs/fleet-file.md of where nodes and chips lie.
fn chips(engine: &Engine, job: JobId) -> Vec<Chip> {
    let fleet = engine.state.fleet();
    let torus = &fleet.tori[0];
    let Some(Phase::Running { placement, .. }) = engine.state.job(job).map(|work| &work.phase) else {
        return Vec::new();
    };
    let mut found = Vec::new();
    for slot in placement.slots() {
        for node in slot.nodes.numbers() {
            let domain = fleet.around(NodeIx(node), torus.level);
            let place = (node - fleet.domains[domain.ix()].nodes.start) as u16;
            let [across, down, _] = [0, 1, 2].map(|axis| torus.grid[axis] / torus.host[axis]);
            let host = [place % across, place / across % down, place / across / down];
            for chip in (0..64_u16).filter(|chip| slot.chips >> chip & 1 == 1) {
                let [wide, high, _] = torus.host;
                let inside = [chip % wide, chip / wide % high, chip / wide / high];
                found.push((domain.0, [0, 1, 2].map(|axis| host[axis] * torus.host[axis] + inside[axis])));
            }
        }
    }
    found
}

/// Whether chips are a box, and its sides in ascending order.
fn sides_of(chips: &[Chip]) -> Option<Sides> {
    let axis = |axis: usize| chips.iter().map(move |(_, at)| at[axis]);
    let mut sides = [0, 1, 2].map(|of| axis(of).max().unwrap_or(0) - axis(of).min().unwrap_or(0) + 1);
    let one_grid = chips.iter().all(|(grid, _)| *grid == chips[0].0);
    sides.sort_unstable();
    (one_grid && sides.into_iter().map(usize::from).product::<usize>() == chips.len()).then_some(sides)
}

/// Whether a slice of one grid fits anywhere: every turn of it, at every place where it holds whole hosts or lies in one.
fn fits(fleet: &Fleet, taken: &BTreeSet<Chip>, sides: Sides) -> bool {
    let torus = &fleet.tori[0];
    let [x, y, z] = sides;
    let turns = [[x, y, z], [x, z, y], [y, x, z], [y, z, x], [z, x, y], [z, y, x]];
    let grids = fleet.domains_at(torus.level);
    let ranges = |way: Sides, axis: usize| 0..torus.grid[axis].saturating_sub(way[axis] - 1);
    turns.into_iter().filter(|way| (0..3).all(|axis| way[axis] <= torus.grid[axis])).any(|way| {
        let is_placed = |start: Sides| {
            let ends = |axis: usize| start[axis] + way[axis];
            let whole = (0..3).all(|a| start[a].is_multiple_of(torus.host[a]) && ends(a).is_multiple_of(torus.host[a]));
            let in_one = (0..3).all(|a| start[a] / torus.host[a] == (ends(a) - 1) / torus.host[a]);
            let aligned = (0..3).all(|a| start[a].is_multiple_of(way[a]));
            whole || in_one && aligned
        };
        grids.clone().any(|grid| {
            ranges(way, 2).any(|z| {
                ranges(way, 1).any(|y| {
                    ranges(way, 0).any(|x| {
                        let is_free = |at: Sides| !taken.contains(&(grid, at));
                        is_placed([x, y, z])
                            && (z..z + way[2])
                                .all(|z| (y..y + way[1]).all(|y| (x..x + way[0]).all(|x| is_free([x, y, z]))))
                    })
                })
            })
        })
    })
}

fn check(engine: &mut Engine, texts: &[&str], chips_each: impl Fn(&str) -> u16, steps: Vec<(usize, usize)>) {
    let fleet = Arc::clone(engine.state.fleet());
    let torus = fleet.tori[0].clone();
    let mut running: BTreeMap<JobId, Vec<Chip>> = BTreeMap::new();
    for (shape, end) in steps {
        let text = texts[shape % texts.len()];
        let taken: BTreeSet<Chip> = running.values().flatten().copied().collect();
        assert_eq!(taken.len(), running.values().map(Vec::len).sum::<usize>(), "no chip is there twice");
        let sides = slice(text, chips_each(text)).slice.expect("it is one").sides;
        let expected = match torus.grids(sides).filter(|grids| *grids > 1) {
            None => fits(&fleet, &taken, sides),
            Some(grids) => fleet.domains_at(LevelIx(1)).any(|pod| {
                let cubes = fleet.domains[pod as usize].children.clone();
                cubes.filter(|cube| taken.iter().all(|(grid, _)| grid != cube)).count() as u32 >= grids
            }),
        };
        let id = engine.submit(asked(text, chips_each(text)));
        engine.pass(1);
        assert_eq!(engine.runs(id), expected, "{text} with {} chips taken", taken.len());
        if !expected {
            engine.tell(Event::JobCancelled { job: id });
        } else {
            let chips = chips(engine, id);
            assert_eq!(chips.len() as u64, slice(text, 1).slice.expect("it is one").chips());
            let mut wanted = sides;
            wanted.sort_unstable();
            assert!(torus.grids(sides).is_some_and(|grids| grids > 1) || sides_of(&chips) == Some(wanted), "{text}");
            running.insert(id, chips);
        }
        if end % 3 != 0 && !running.is_empty() {
            let id = *running.keys().nth(end % running.len()).expect("there is one");
            running.remove(&id);
            engine.tell(Event::JobFinished { job: id });
        }
    }
}

const FLAT: [&str; 8] = ["1x1", "2x2", "2x4", "4x4", "4x8", "8x8", "8x16", "16x16"];
const DEEP: [&str; 6] = ["2x2x1", "2x2x2", "2x2x4", "2x4x4", "4x4x4", "4x4x8"];

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, ..ProptestConfig::default() })]

    #[test]
    fn flat_slices_are_placed_where_they_fit_and_nowhere_else(
        steps in prop::collection::vec((0usize..8, 0usize..60), 1..50),
    ) {
        let chips = |text: &str| if text == "1x1" { 1 } else { 4 };
        check(&mut Engine::new(plane(), "offtake"), &FLAT, chips, steps);
    }

    #[test]
    fn slices_of_cubes_are_placed_where_they_fit_and_nowhere_else(
        steps in prop::collection::vec((0usize..6, 0usize..60), 1..50),
    ) {
        check(&mut Engine::new(space(), "offtake"), &DEEP, |_| 4, steps);
    }
}

#[test]
fn small_slices_leave_large_boxes_whole() {
    let mut engine = Engine::new(plane(), "offtake");
    for _ in 0..8 {
        engine.submit(asked("2x2", 4));
    }
    engine.pass(0);
    let large = engine.submit(asked("16x16", 8));
    let half = engine.submit(asked("8x16", 8));
    let quarter = engine.submit(asked("8x8", 8));
    let eighth = engine.submit(asked("4x8", 8));
    engine.pass(0);
    for slice in [large, half, quarter, eighth] {
        assert!(engine.runs(slice), "eight small slices lie in one eighth of one pod");
    }
}

#[test]
fn a_lost_host_is_in_no_slice_and_waiting_ones_start_when_it_returns() {
    let mut engine = Engine::new(space(), "offtake");
    for cube in 0..6 {
        engine.tell(Event::NodeLost { node: NodeIx(cube * 16) });
    }
    let cube = engine.submit(asked("4x4x4", 4));
    engine.pass(0);
    assert!(!engine.runs(cube));
    engine.restore();
    engine.tell(Event::NodeReturned { node: NodeIx(16) });
    engine.pass(1);
    assert!(engine.runs(cube));
    assert_eq!(chips(&engine, cube)[0].0, engine.state.fleet().around(NodeIx(16), LevelIx(2)).0);
    engine.explain_all();
}

#[test]
fn why_a_slice_waits_although_enough_chips_are_free() {
    let mut engine = Engine::new(space(), "offtake");
    let small: Vec<JobId> = (0..24).map(|_| engine.submit(asked("2x2x4", 4))).collect();
    engine.pass(0);
    // One quarter of each cube stays.
    for (place, id) in small.into_iter().enumerate() {
        if place % 4 != 0 {
            engine.tell(Event::JobFinished { job: id });
        }
    }
    let waits = engine.submit(asked("4x4x4", 4));
    engine.pass(0);
    match engine.state.explain(waits) {
        Some(Explanation::Waiting(waiting)) => {
            assert_eq!(waiting.obstacles, [Obstacle::Scattered]);
            let opening = waiting.opening.expect("one small slice moves");
            assert_eq!(opening.moves.len(), 1);
            let (moved, elsewhere) = &opening.moves[0];
            assert!(engine.runs(*moved));
            let opened: BTreeSet<u32> = opening.placement.slots().flat_map(|slot| slot.nodes.numbers()).collect();
            assert_eq!(opened.len(), 16);
            assert!(elsewhere.slots().flat_map(|slot| slot.nodes.numbers()).all(|node| !opened.contains(&node)));
        }
        other => unreachable!("it waits: {other:?}"),
    }
    engine.explain_all();
}

#[test]
fn other_shapes_are_refused_with_those_that_are_allowed() {
    let refused = |fleet, gang: Gang| {
        let engine = Engine::new(fleet, "offtake");
        engine.state.placeable(&[gang]).expect_err("it is no slice").to_string()
    };
    assert_eq!(
        refused(plane(), slice("4x16", 4)),
        "no such slice: 4x16; allowed are on tpu 1x1, 2x2, 2x4, 4x4, 4x8, 8x8, 8x16, 16x16"
    );
    assert_eq!(
        refused(space(), slice("8x8x8", 4)),
        "no such slice: 8x8x8; allowed are on tpu 2x2x1, 2x2x2, 2x2x4, 2x4x4, 4x4x4, boxes of whole 4x4x4 with \
         ascending sides and at most 128 chips"
    );
    assert!(refused(space(), slice("8x4x4", 4)).starts_with("no such slice: 8x4x4"));
}
