//! A distributed training run, read back from what it left: `examples/train.py` and its checkpoint folder.

use std::collections::BTreeSet;

use crate::host::{Host, Process, repository};

/// A run of `examples/train.py` in the working folder.
pub struct Training<'a> {
    pub host: &'a Host,
    /// Its checkpoint folder.
    pub folder: &'a str,
    /// The step after which it is complete.
    pub steps: u32,
}

impl Training<'_> {
    /// The words that start a worker.
    pub fn command(&self) -> Vec<String> {
        let program = repository().join("examples/train.py").display().to_string();
        let steps = self.steps.to_string();
        let words = ["python3", &program, "--plain", "--checkpoint", self.folder, "--steps", &steps, "--every", "5"];
        words.into_iter().chain(["--step-time", "0.03"]).map(str::to_owned).collect()
    }

    /// Its steps so far, as they are on disk.
    pub fn losses(&self) -> Vec<u32> {
        let losses = self.host.text(&format!("{}/loss.csv", self.folder));
        losses.lines().filter_map(|line| line.split_once(',')?.0.parse().ok()).collect()
    }

    /// Its workers that live.
    pub fn workers(&self) -> Vec<Process> {
        let mut all = self.host.processes();
        all.retain(|process| process.words.contains("train.py") && !process.is_supervisor());
        all.retain(|process| process.words.contains(self.folder) && process.words.contains("python"));
        all
    }

    /// All steps are there, once each and in order; and no two processes ever wrote at one time: nobody began while the
    /// writer before lived. One that was killed says nothing of its end, but its lock goes with it, and a second
    /// writer would have said that it was turned away.
    #[track_caller]
    pub fn ended_right(&self, output: &str) {
        assert_eq!(self.losses(), (1..=self.steps).collect::<Vec<_>>(), "the loss has a gap or a step twice");
        assert!(!output.contains("another writer"), "two writers met:\n{output}");
        let log = self.writers();
        let mut runs = BTreeSet::new();
        let mut writer = None;
        for line in log.lines() {
            let fields: Vec<_> = line.split(' ').collect();
            let [_, what, pid, host, run] = fields[..] else { unreachable!("a line of writers.log: {line}") };
            if what == "begins" {
                assert!(runs.insert(run.to_owned()), "one attempt wrote as two processes:\n{log}");
                writer = Some((pid, host, run));
            } else {
                assert_eq!(writer.take(), Some((pid, host, run)), "another than the writer wrote:\n{log}");
            }
        }
        assert!(log.trim_end().lines().last().is_some_and(|line| line.contains(" ends ")), "{log}");
    }

    pub fn writers(&self) -> String {
        self.host.text(&format!("{}/writers.log", self.folder))
    }
}
