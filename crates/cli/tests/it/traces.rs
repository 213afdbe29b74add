//! `offtake trace convert`: what was converted is the same work.

use serde_json::Value;

use crate::support::{Folder, repository, untimed};

#[test]
fn a_converted_trace_runs_like_the_one_it_came_from() {
    let folder = Folder::new("openb-converted");
    let pods = repository().join("data/openb/openb_pod_list_default.csv.gz");
    folder.offtake(&format!("trace convert {} work.jsonl.gz", pods.display())).succeeds();
    folder.offtake(&format!("trace convert {} work.jsonl", pods.display())).succeeds();
    let direct = simulated(&folder, "direct", "");
    let lines = simulated(&folder, "lines", &set_trace(&folder, "work.jsonl"));
    let gzip = simulated(&folder, "gzip", &set_trace(&folder, "work.jsonl.gz"));
    assert_eq!(direct, lines);
    assert_eq!(direct, gzip);
}

#[test]
fn our_two_formats_carry_the_same() {
    let folder = Folder::new("round-trip");
    let pods = repository().join("data/openb/openb_pod_list_default.csv.gz");
    for (from, to) in [
        (pods.display().to_string().as_str(), "a.csv"),
        ("a.csv", "b.jsonl"),
        ("b.jsonl", "c.csv.gz"),
        ("c.csv.gz", "d.jsonl"),
        ("d.jsonl", "e.csv"),
    ] {
        folder.offtake(&format!("trace convert {from} {to}")).succeeds();
    }
    assert!(folder.text("a.csv") == folder.text("e.csv"), "the table changed on its way");
    assert!(folder.text("b.jsonl") == folder.text("d.jsonl"), "the lines changed on their way");
}

#[test]
fn jobs_of_several_gangs_go_to_lines_and_not_to_a_table() {
    let folder = Folder::new("philly-converted");
    let list = repository().join("data/philly/philly_jobs.csv.gz");
    let list = list.display();
    let ran = folder.offtake(&format!("trace convert {list} work.jsonl")).succeeds();
    let jobs = folder.text("work.jsonl").lines().count() - 1;
    assert_eq!((jobs, ran.stdout.as_str()), (82_247, ""));
    assert!(ran.stderr.contains("82,247 jobs and 0 services written to work.jsonl"), "{}", ran.stderr);
    let before = folder.contents();
    let said = folder.offtake(&format!("trace convert {list} work.csv")).refused();
    assert!(said.contains("several gangs") || said.contains("2 gangs"), "{said}");
    assert_eq!(folder.contents(), before, "nothing is left of a table that cannot be");
}

fn set_trace(folder: &Folder, name: &str) -> String {
    format!("--set workload.trace={} --set workload.format=jsonl", folder.path(name).display())
}

fn simulated(folder: &Folder, out: &str, more: &str) -> Value {
    let scenario = repository().join("examples/openb.toml");
    let scenario = scenario.display();
    let ran = folder.offtake(&format!("simulate {scenario} --out {out} --policy fifo --set horizon=1h --json {more}"));
    untimed(ran.succeeds().json())
}
