//! `offtake bench` at small sizes: its keys, its recount, its repeatability.

use serde_json::Value;

use crate::support::{Folder, repository};

#[test]
fn the_engine_is_measured_and_recounted() {
    for more in ["", "--caps-bind"] {
        let report = engine(more);
        let mut keys: Vec<&str> = report.as_object().expect("a report").keys().map(String::as_str).collect();
        keys.sort_unstable();
        let promised = [
            "accelerators",
            "backlog_rss_mb",
            "blocks",
            "blocks_held_back",
            "calibration_ns",
            "caps_bind",
            "failed",
            "full_pass_ms",
            "holds",
            "incremental_pass_ms",
            "level_pct",
            "nodes",
            "pending",
            "place_1024_us",
            "place_16384_us",
            "place_us",
            "placed",
            "placements_per_s",
            "preempt_4096_ms",
            "rss_mb",
            "running",
            "steps",
            "steps_per_s",
            "victims",
            "whatif_24h_s",
        ];
        assert_eq!(keys, promised);
        let count = |key: &str| report[key].as_u64().expect("a count");
        assert_eq!((count("accelerators"), count("nodes"), count("blocks")), (65_536, 4_096, 4));
        assert_eq!(count("placed") + count("failed"), 2_000);
        // A gang of a whole block finds none free at this level; nearly all others find room.
        assert!(count("failed") <= 40, "{} of 2,000 found no place {more}", count("failed"));
        assert_eq!(count("blocks_held_back"), if more.is_empty() { 0 } else { 2 });
        let again = engine(more);
        assert_eq!((&report["placed"], &report["level_pct"]), (&again["placed"], &again["level_pct"]));
    }
}

fn engine(more: &str) -> Value {
    let ran = Folder::new("bench-engine")
        .offtake(&format!("bench engine --accelerators 65536 --steps 2000 --pending 1000 --check --json {more}"));
    ran.succeeds().json()
}

#[test]
fn a_hall_under_a_cap_is_filled_further_than_by_nameplates() {
    let hall = repository().join("fleets/colossus-hall.toml");
    let folder = Folder::new("bench-fill");
    let fill = || folder.offtake(&format!("bench fill --fleet {} --days 1 --json", hall.display())).succeeds().json();
    let report = fill();
    let count = |of: &Value, key: &str| of[key].as_u64().expect("a count");
    let (engine, rule) = (&report["engine"], &report["rule_of_thumb"]);
    assert_eq!((count(engine, "breaches"), count(rule, "breaches")), (0, 0));
    assert!(count(engine, "used_ppm") > 950_000, "{engine}");
    // A chip at work is expected to draw 565 W (H100) or 560 W (H200) above idle, and 625 or 620 by its plate.
    assert!(count(rule, "most_used_ppm") <= 1_000_000 * 565 / 625, "{rule}");
    assert!(count(engine, "most_used_ppm") <= 1_000_000);
    assert_eq!(report, fill(), "the same seed fills alike");
}

#[test]
fn packings_are_compared_on_the_published_cluster() {
    let folder = Folder::new("bench-packing");
    let (nodes, pods) = lists();
    let run = |threads: u32| {
        let command = format!(
            "bench packing --nodes {nodes} --pods {pods} --seeds 42..43 --fill 130 --policies fgd,offtake --threads {threads} --json"
        );
        folder.offtake(&command).succeeds().json()
    };
    let report = run(2);
    assert_eq!((&report["chips"], &report["nodes"], &report["pods"]), (&6_212.into(), &1_213.into(), &8_152.into()));
    for policy in ["fgd", "offtake"] {
        let allocated = report["policies"][policy]["alloc_pct_mean"].as_f64().expect("a share");
        assert!((90.0..100.0).contains(&allocated), "{policy} allocated {allocated} %");
    }
    assert_eq!(report["policies"], run(1)["policies"], "threads change nothing");
}

#[test]
fn what_cannot_be_measured_is_refused() {
    let folder = Folder::with_scenario("bench-refused");
    let hall = repository().join("fleets/colossus-hall.toml").display().to_string();
    let (nodes, pods) = lists();
    for (arguments, said) in [
        ("bench engine --accelerators 100".to_owned(), "allowed is 8192 to 64000000"),
        ("bench engine --accelerators 99999999999".to_owned(), "allowed is 8192 to 64000000"),
        ("bench engine --steps 0".to_owned(), "--steps at least 1"),
        (format!("bench fill --fleet {hall} --cap 30"), "allowed is more than 47"),
        (format!("bench fill --fleet {hall} --cap 101"), "up to 100"),
        ("bench fill --fleet no.toml".to_owned(), "no.toml"),
        (format!("bench packing --nodes no.csv --pods {pods}"), "no.csv"),
        (format!("bench packing --nodes {nodes} --pods no.csv"), "no.csv"),
        (format!("bench packing --nodes jobs.csv --pods {pods}"), "model"),
        (format!("bench packing --nodes {nodes} --pods jobs.csv"), "jobs.csv"),
        (format!("bench packing --nodes {nodes} --pods {pods} --seeds 9..1"), "such as 42..51"),
        (format!("bench packing --nodes {nodes} --pods {pods} --policies fdg"), "fdg"),
        (format!("bench packing --nodes {nodes} --pods {pods} --fill 0"), "fill above 0 %"),
    ] {
        let refused = folder.offtake(&arguments).refused();
        assert!(refused.contains(said), "offtake {arguments}\n{refused}");
    }
}

fn lists() -> (String, String) {
    let file = |name: &str| repository().join(name).display().to_string();
    (file("fleets/openb/openb_node_list_gpu_node.csv"), file("data/openb/openb_pod_list_default.csv.gz"))
}
