//! The same scenario and seed give the same bytes, whoever runs it on how many threads.

use std::collections::BTreeMap;

use crate::support::{Folder, POLICIES, repository, untimed};

/// A slice of a real cluster under all policies: half full fleets, shares of chips, services, prices and carbon.
#[test]
fn threads_and_repetition_change_nothing_but_measured_times() {
    let folder = Folder::new("determinism");
    let mut first = None;
    for (out, threads) in [("one", 1), ("two", 2), ("four", 4), ("again", 4)] {
        let written = written(&folder, out, &format!("--threads {threads}"));
        let first = first.get_or_insert_with(|| written.clone());
        assert_eq!(first.keys().collect::<Vec<_>>(), written.keys().collect::<Vec<_>>());
        for (name, bytes) in &written {
            assert!(first[name] == *bytes, "{name} differs with {threads} threads");
        }
    }
    let other = written(&folder, "other-seed", "--threads 4 --seed 43");
    let first = first.expect("a run was written");
    assert!(first["jobs-fifo.csv.gz"] != other["jobs-fifo.csv.gz"], "another seed draws other work");
}

/// The files of a run, with the summary's measured times left out.
fn written(folder: &Folder, out: &str, more: &str) -> BTreeMap<String, Vec<u8>> {
    let scenario = repository().join("examples/openb.toml");
    let scenario = scenario.display();
    folder.offtake(&format!("simulate {scenario} --out {out} --policy {POLICIES} --set horizon=2h {more}")).succeeds();
    let prefix = format!("{out}/");
    let mut files: BTreeMap<String, Vec<u8>> = folder
        .contents()
        .into_iter()
        .filter_map(|(name, bytes)| Some((name.strip_prefix(&prefix)?.to_owned(), bytes)))
        .collect();
    assert_eq!(files.len(), 2 + 2 * POLICIES.split(',').count());
    let summary = untimed(folder.json(&format!("{out}/summary.json")));
    files.insert("summary.json".to_owned(), summary.to_string().into_bytes());
    files
}
