use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use offtake_fleet::{Fleet, LevelIx, account, show};

use super::check_structure;

fn path(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../fleets").join(name)
}

fn preset(name: &str, parameters: &[(&str, i64)]) -> Fleet {
    let parameters: BTreeMap<String, i64> =
        parameters.iter().map(|(name, value)| ((*name).to_owned(), *value)).collect();
    offtake_fleet::read(&path(name), &parameters).expect("the preset is valid")
}

fn domains_at(fleet: &Fleet, level: u32) -> usize {
    fleet.domains_at(LevelIx(level)).len()
}

#[test]
fn every_preset_reads_and_states_its_draw_truly() {
    let mut count = 0;
    for entry in path("").read_dir().expect("the presets are there") {
        let file = entry.expect("the folder can be read").path();
        if file.extension().is_none_or(|extension| extension != "toml") {
            continue;
        }
        count += 1;
        let name = file.file_name().expect("it has a name").to_string_lossy();
        let fleet = preset(&name, &[]);
        check_structure(&fleet);
        assert_eq!(format!("{}.toml", fleet.name), name);
        let text = std::fs::read_to_string(&file).expect("it was just read");
        let header = format!("# Draw: {}.", show::draw_line(&account(&fleet)));
        assert!(text.lines().any(|line| line == header), "{name} does not state: {header}");
        let shown = show::text(&fleet);
        assert!(shown.lines().all(|line| line.chars().count() <= 80), "{shown}");
    }
    assert_eq!(count, 9);
}

#[test]
fn a_cap_falls_in_proportion_between_two_points_of_its_derating() {
    let fleet = preset("colossus-hall.toml", &[]);
    let cooling = fleet.caps.iter().find(|cap| cap.name == "cooling").expect("it has cooling");
    let megawatts = |degrees: i32| cooling.at_wet_bulb(degrees * 1000).as_mw();
    assert_eq!([-20, 24, 28, 32, 50].map(megawatts), [26.0, 26.0, 23.712, 21.424, 21.424]);
    let grid = fleet.caps.iter().find(|cap| cap.name == "grid").expect("it has a contract");
    assert_eq!(grid.at_wet_bulb(50_000), grid.watts);
}

#[test]
fn openb_has_the_nodes_of_the_paper() {
    let fleet = preset("openb.toml", &[]);
    assert_eq!((fleet.nodes.len(), fleet.chips(), fleet.node_kinds.len()), (1_213, 6_212, 15));
    assert_eq!(fleet.node_name(offtake_fleet::NodeIx(0)), "openb-node-0000");
    let by_model: Vec<(String, u64)> =
        account(&fleet).accelerators.into_iter().map(|count| (count.accelerator, count.chips)).collect();
    let expected =
        [("P100", 265), ("T4", 842), ("V100M16", 195), ("V100M32", 204), ("A10", 2), ("G2", 4_392), ("G3", 312)];
    assert_eq!(by_model, expected.map(|(name, chips)| (name.to_owned(), chips)));
}

#[test]
fn lingjun_tells_racks_of_one_name_apart() {
    let fleet = preset("lingjun.toml", &[]);
    assert_eq!((fleet.nodes.len(), fleet.chips()), (847, 6_776));
    assert_eq!((domains_at(&fleet, 1), domains_at(&fleet, 2)), (3, 119));
}

#[test]
fn rainier_grows_to_a_million_chips_in_well_under_a_second() {
    let fleet = preset("rainier.toml", &[]);
    assert_eq!((fleet.chips(), fleet.nodes.len(), domains_at(&fleet, 3)), (499_968, 31_248, 7_812));
    let start = Instant::now();
    let million = [("buildings", 25), ("blocks", 25), ("ultraservers", 25), ("grid_megawatts", 800)];
    let fleet = preset("rainier.toml", &million);
    assert!(show::text(&fleet).starts_with("rainier: 1,000,000 chips on 62,500 nodes at 1 site; "));
    // Far more than is needed, so that a busy machine does not fail the test.
    assert!(start.elapsed() < Duration::from_secs(5), "{:?}", start.elapsed());
    check_structure(&fleet);
}

#[test]
fn colossus_is_bound_by_its_caps_at_1360_watts_a_chip() {
    let fleet = preset("colossus.toml", &[]);
    let account = account(&fleet);
    assert_eq!(account.chips, 222_464);
    let watts_per_chip = account.facility.operating.get() / account.chips as i64;
    assert!((1_355..=1_365).contains(&watts_per_chip), "{watts_per_chip}");
    assert!(account.facility.operating.as_mw() > 300.0);
    assert!(account.caps.iter().filter(|cap| cap.binds).count() >= 3);
}

#[test]
fn tpu_pods_have_their_sizes() {
    let fleet = preset("tpu-v5p.toml", &[("pods", 1)]);
    assert_eq!((fleet.chips(), domains_at(&fleet, 2)), (8_960, 140));
    let fleet = preset("tpu-v6e.toml", &[("pods", 1)]);
    assert_eq!((fleet.chips(), fleet.nodes.len()), (256, 32));
}

#[test]
fn neocloud_spans_the_zones() {
    let fleet = preset("neocloud.toml", &[]);
    let zones: std::collections::BTreeSet<&str> =
        fleet.sites.iter().filter_map(|site| site.price_zone.as_deref()).collect();
    let expected = ["AU-NSW", "DE-LU", "US-CAL-CISO", "US-MIDA-PJM", "US-NY-NYIS", "US-TEX-ERCO"];
    assert_eq!(zones.into_iter().collect::<Vec<_>>(), expected);
    assert_eq!(fleet.chips(), 45_696);
}
