//! What we depend on, and what we must not: licences, edges between our crates, and nothing of the world in the engine.

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;

use serde_json::Value;

use crate::support::repository;

/// Licences that ask for no more than to be named, or for nothing.
const ALLOWED_LICENCES: [(&str, &str); 11] = [
    ("Apache-2.0", "our own"),
    ("MIT", "permissive"),
    ("BSD-2-Clause", "permissive"),
    ("BSD-3-Clause", "permissive"),
    ("ISC", "permissive"),
    ("Zlib", "permissive"),
    ("BSL-1.0", "permissive; binaries need not name it"),
    ("Unicode-3.0", "permissive; tables of Unicode"),
    ("CC0-1.0", "public domain"),
    ("Unlicense", "public domain; always offered beside MIT"),
    ("CDLA-Permissive-2.0", "permissive, for data: Mozilla's list of authorities"),
];

/// Each of our crates and what it may stand on; `cli` stands on all.
const EDGES: [(&str, &[&str]); 15] = [
    ("offtake-units", &[]),
    ("offtake-programmes", &["offtake-units"]),
    // A fleet file says which grid programmes its caps are enrolled in.
    ("offtake-fleet", &["offtake-units", "offtake-programmes"]),
    ("offtake-workload", &["offtake-units"]),
    ("offtake-engine", &["offtake-units", "offtake-fleet", "offtake-workload"]),
    // The bounded reader of text files is `workload`'s.
    ("offtake-signals", &["offtake-units", "offtake-workload"]),
    ("offtake-planner", &["offtake-units", "offtake-fleet", "offtake-workload", "offtake-engine"]),
    (
        "offtake-sim",
        &[
            "offtake-units",
            "offtake-programmes",
            "offtake-fleet",
            "offtake-workload",
            "offtake-engine",
            "offtake-signals",
        ],
    ),
    ("offtake-protocol", &["offtake-units", "offtake-workload"]),
    ("offtake-client", &["offtake-protocol"]),
    ("offtake-journal", &[]),
    // What a utility says is one adapter's business: no other crate of ours knows OpenADR.
    ("offtake-openadr", &["offtake-units"]),
    ("offtake-agent", &["offtake-units", "offtake-workload", "offtake-protocol", "offtake-client"]),
    // In its tests the server meets real agents.
    (
        "offtake-server",
        &[
            "offtake-units",
            "offtake-fleet",
            "offtake-workload",
            "offtake-signals",
            "offtake-engine",
            "offtake-sim",
            "offtake-protocol",
            "offtake-journal",
            "offtake-agent",
            "offtake-client",
        ],
    ),
    (
        "offtake",
        &[
            "offtake-units",
            "offtake-programmes",
            "offtake-fleet",
            "offtake-workload",
            "offtake-engine",
            "offtake-planner",
            "offtake-sim",
            "offtake-protocol",
            "offtake-journal",
            "offtake-client",
            "offtake-openadr",
            "offtake-server",
            "offtake-agent",
        ],
    ),
];

/// Crates that bring an event loop, a socket or a store: a decision must not wait for any.
const NOT_BELOW_THE_ENGINE: [&str; 22] = [
    "async-executor",
    "async-io",
    "async-std",
    "axum",
    "curl",
    "futures-executor",
    "h2",
    "hyper",
    "libsqlite3-sys",
    "mio",
    "polling",
    "postgres",
    "quinn",
    "redb",
    "reqwest",
    "rusqlite",
    "smol",
    "socket2",
    "tokio",
    "tokio-postgres",
    "tonic",
    "ureq",
];

/// What the engine's own sources never name, and what they take instead.
const NOT_IN_THE_ENGINE: [(&str, &str); 8] = [
    ("std::fs", "facts"),
    ("std::io", "facts"),
    ("std::net", "facts"),
    ("std::env", "facts"),
    ("std::process", "facts"),
    ("std::thread", "states side by side, in whoever calls"),
    ("std::time", "`offtake_units::Timestamp`, handed in"),
    ("std::collections::Hash", "`FxHashMap`, or `BTreeMap` where the order is seen"),
];

#[test]
fn every_licence_is_allowed() {
    for package in packages() {
        let (name, licence) = (text(&package, "name"), package["license"].as_str().unwrap_or_default());
        assert!(is_allowed(licence), "{name} has the licence `{licence}`");
    }
}

#[test]
fn licence_expressions_are_read_as_meant() {
    for (licence, allowed) in [
        ("MIT", true),
        ("MIT/Apache-2.0", true),
        ("GPL-3.0-only", false),
        ("GPL-3.0-only OR MIT", true),
        ("GPL-3.0-only AND MIT", false),
        ("(MIT OR Apache-2.0) AND Unicode-3.0", true),
        ("(MIT OR Apache-2.0) AND GPL-2.0-only", false),
        ("Apache-2.0 WITH LLVM-exception OR Apache-2.0 OR MIT", true),
        ("MIT OR GPL-2.0-only AND MIT", true),
        ("", false),
    ] {
        assert_eq!(is_allowed(licence), allowed, "{licence}");
    }
}

#[test]
fn our_crates_stand_on_each_other_as_planned() {
    let ours: BTreeMap<String, Value> = packages()
        .into_iter()
        .filter(|package| package["source"].is_null())
        .map(|package| (text(&package, "name"), package))
        .collect();
    let planned: BTreeSet<&str> = EDGES.iter().map(|(name, _)| *name).collect();
    assert_eq!(ours.keys().map(String::as_str).collect::<BTreeSet<_>>(), planned, "a crate comes with its line here");
    for (name, allowed) in EDGES {
        let below = ours[name]["dependencies"].as_array().expect("a list");
        let below: Vec<String> = below.iter().map(|dependency| text(dependency, "name")).collect();
        for edge in below.iter().filter(|edge| edge.starts_with("offtake")) {
            assert!(allowed.contains(&edge.as_str()), "{name} must not stand on {edge}");
        }
    }
}

#[test]
fn nothing_below_the_engine_waits_for_the_world() {
    let tree = cargo(&["tree", "--offline", "--locked", "-p", "offtake-engine", "-e", "normal", "--prefix", "none"]);
    let names: BTreeSet<&str> = tree.lines().filter_map(|line| line.split_whitespace().next()).collect();
    assert!(names.contains("offtake-units"), "{tree}");
    for name in NOT_BELOW_THE_ENGINE {
        assert!(!names.contains(name), "{name} is below the engine");
    }
}

#[test]
fn the_engine_names_no_file_socket_clock_or_thread() {
    let mut folders = vec![repository().join("crates/engine/src")];
    let mut read = 0;
    while let Some(folder) = folders.pop() {
        for path in std::fs::read_dir(&folder).expect("the sources are there").flatten().map(|entry| entry.path()) {
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            read += 1;
            let source = std::fs::read_to_string(&path).expect("a source is text");
            for (named, instead) in NOT_IN_THE_ENGINE {
                assert!(!source.contains(named), "{} names {named}; take {instead}", path.display());
            }
        }
    }
    assert!(read > 10, "only {read} sources were found");
}

/// A choice needs one allowed licence, a sum all of them. `AND` binds tighter than `OR`; a slash is an old `OR`.
fn is_allowed(expression: &str) -> bool {
    let spaced = expression.replace('/', " OR ").replace('(', " ( ").replace(')', " ) ");
    let mut words = spaced.split_whitespace().peekable();
    let allowed = any_of(&mut words);
    allowed && words.next().is_none()
}

type Words<'a> = std::iter::Peekable<std::str::SplitWhitespace<'a>>;

fn any_of(words: &mut Words<'_>) -> bool {
    let mut allowed = all_of(words);
    while words.next_if_eq(&"OR").is_some() {
        allowed |= all_of(words);
    }
    allowed
}

fn all_of(words: &mut Words<'_>) -> bool {
    let mut allowed = one(words);
    while words.next_if_eq(&"AND").is_some() {
        allowed &= one(words);
    }
    allowed
}

fn one(words: &mut Words<'_>) -> bool {
    if words.next_if_eq(&"(").is_some() {
        return any_of(words) & words.next_if_eq(&")").is_some();
    }
    let Some(name) = words.next() else { return false };
    // An exception only ever permits more.
    if words.next_if_eq(&"WITH").is_some() {
        words.next();
    }
    ALLOWED_LICENCES.iter().any(|(allowed, _)| *allowed == name)
}

/// Every package of the lock file that a build on this machine can use.
fn packages() -> Vec<Value> {
    // Those of other platforms were never fetched.
    let about = cargo(&["-vV"]);
    let host = about.lines().find_map(|line| line.strip_prefix("host: ")).expect("cargo says where it runs");
    let asked = ["metadata", "--offline", "--locked", "--format-version", "1", "--filter-platform", host];
    let metadata = cargo(&asked);
    let metadata: Value = serde_json::from_str(&metadata).expect("cargo prints JSON");
    metadata["packages"].as_array().expect("a list of packages").clone()
}

fn cargo(arguments: &[&str]) -> String {
    let output = Command::new(env!("CARGO")).args(arguments).current_dir(repository()).output().expect("cargo runs");
    assert!(output.status.success(), "cargo says: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("cargo prints text")
}

fn text(of: &Value, key: &str) -> String {
    of[key].as_str().expect("a text").to_owned()
}
