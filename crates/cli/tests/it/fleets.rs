//! `offtake fleet` on the fleets that come with it.

use std::path::PathBuf;

use serde_json::Value;

use crate::support::{Folder, repository};

#[test]
fn every_preset_is_checked_and_shown() {
    let folder = Folder::new("presets");
    let presets = presets();
    assert!(presets.len() >= 7, "{presets:?}");
    for preset in presets {
        let file = preset.display();
        let name = preset.file_stem().expect("a file has a name").to_string_lossy().into_owned();
        let checked = folder.offtake(&format!("fleet check {file}")).succeeds().stdout;
        assert!(checked.starts_with(&format!("{name}: ")), "{checked}");
        let verdict = folder.offtake(&format!("fleet check {file} --json")).succeeds().json();
        assert_eq!(verdict["verdict"].as_str(), checked.lines().next());
        let shown = folder.offtake(&format!("fleet show {file}")).succeeds().stdout;
        assert!(shown.lines().all(|line| line.chars().count() <= 80), "wider than 80 columns:\n{shown}");
        let page = folder.offtake(&format!("fleet show {file} --json")).succeeds().json();
        assert_eq!(page["name"], Value::String(name));
        assert_eq!(page["warnings"], verdict["warnings"]);
    }
}

#[test]
fn the_pages_of_two_presets_read_well() {
    let folder = Folder::new("preset-pages");
    for name in ["openb", "neocloud"] {
        let file = repository().join(format!("fleets/{name}.toml"));
        let shown = folder.offtake(&format!("fleet show {}", file.display())).succeeds().stdout;
        insta::assert_snapshot!(format!("fleet-show-{name}"), shown);
    }
}

#[test]
fn parameters_of_a_file_are_set_from_the_command_line() {
    let folder = Folder::with_scenario("parameters");
    let fleet = crate::support::FLEET.replace("name = \"pair\"\n", "name = \"pair\"\n[parameters]\nnodes = 2\n");
    folder.write("fleet.toml", fleet.replace("{ node = 2 }", "{ node = \"$nodes\" }"));
    let shown = |more: &str| folder.offtake(&format!("fleet show fleet.toml --json {more}")).succeeds().json();
    assert_eq!(shown("")["account"]["chips"], 16);
    assert_eq!(shown("--set nodes=5")["account"]["chips"], 40);
    for (given, said) in
        [("nodes", "write NAME=NUMBER"), ("nodes=five", "write NAME=NUMBER"), ("racks=5", "it has: nodes")]
    {
        let refused = folder.offtake(&format!("fleet show fleet.toml --set {given}")).refused();
        assert!(refused.contains(said), "{refused}");
    }
}

fn presets() -> Vec<PathBuf> {
    let files = std::fs::read_dir(repository().join("fleets")).expect("the fleets are there").flatten();
    let mut presets: Vec<PathBuf> =
        files.map(|file| file.path()).filter(|path| path.extension().is_some_and(|ext| ext == "toml")).collect();
    presets.sort();
    presets
}
