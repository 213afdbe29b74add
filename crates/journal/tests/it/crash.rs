//! What a crash leaves is a whole number of batches, and all that were acknowledged.

use std::fs::{self, OpenOptions};
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::Stdio;

use offtake_journal::verify;
use proptest::prelude::*;

use crate::support::{append, copy_database, folder, in_another_process, open, read_all, records, role};

fn log_length(folder: &Path) -> u64 {
    fs::metadata(folder.join("journal.sqlite-wal")).map_or(0, |log| log.len())
}

fn cut_log(folder: &Path, length: u64) {
    let log = OpenOptions::new().write(true).open(folder.join("journal.sqlite-wal")).expect("a log");
    log.set_len(length).expect("cut");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// While the log was never carried over, its loss from any byte on leaves a prefix.
    #[test]
    fn a_torn_log_leaves_whole_batches(
        sizes in prop::collection::vec((1..20u64, 10..3_000usize), 1..12),
        copied_after in 0..12usize,
        cuts in prop::collection::vec(0.0..1.0f64, 4),
    ) {
        let folder = folder();
        let mut journal = open(folder.path());
        let copied_after = copied_after.min(sizes.len());
        let mut ends = vec![0];
        let mut lengths = vec![log_length(folder.path())];
        for &(count, size) in &sizes[..copied_after] {
            let next = journal.head().sequence + 1;
            append(&mut journal, &records(next, count, size)).expect("appends");
            ends.push(journal.head().sequence);
            lengths.push(log_length(folder.path()));
        }
        let written = read_all(folder.path()).expect("reads");
        for cut in cuts {
            let crashed = crate::support::folder();
            copy_database(folder.path(), crashed.path());
            let length = log_length(crashed.path());
            let left = (length as f64 * cut) as u64;
            cut_log(crashed.path(), left);
            let found = open(crashed.path()).head();
            let acknowledged = ends.iter().zip(&lengths).filter(|(_, length)| **length <= left).map(|(end, _)| *end).max();
            prop_assert!(found.sequence >= acknowledged.unwrap_or(0), "{} of {:?}", found.sequence, acknowledged);
            prop_assert!(ends.contains(&found.sequence), "{} is no end of {:?}", found.sequence, ends);
            prop_assert_eq!(&read_all(crashed.path()).expect("reads"), &written[..found.sequence as usize]);
        }
        // Nothing is torn: all that was acknowledged is there.
        let crashed = crate::support::folder();
        copy_database(folder.path(), crashed.path());
        prop_assert_eq!(open(crashed.path()).head(), journal.head());
    }
}

/// The log is carried over many times meanwhile. What can tear is what was not synced: the last batch.
#[test]
fn a_crash_within_an_append_leaves_what_was_before_it() {
    let folder = folder();
    let mut journal = open(folder.path());
    for round in 0..400u64 {
        let next = journal.head().sequence + 1;
        let before = (journal.head(), log_length(folder.path()));
        append(&mut journal, &records(next, 100, 1_000)).expect("appends");
        if round % 16 != 7 {
            continue;
        }
        let crashed = crate::support::folder();
        copy_database(folder.path(), crashed.path());
        assert_eq!(open(crashed.path()).head(), journal.head());
        let after = log_length(folder.path());
        if after <= before.1 {
            // Written over what was carried over before.
            continue;
        }
        let crashed = crate::support::folder();
        copy_database(folder.path(), crashed.path());
        cut_log(crashed.path(), before.1 + (after - before.1) * (round % 10) / 10);
        assert_eq!(open(crashed.path()).head(), before.0);
        assert!(verify(crashed.path(), None).expect("reads").is_good());
    }
}

#[test]
fn a_killed_process_loses_nothing_that_it_acknowledged() {
    if let Some(path) = role() {
        let mut journal = open(path.as_ref());
        loop {
            let next = journal.head().sequence + 1;
            append(&mut journal, &records(next, next % 7 + 1, 200)).expect("appends");
            println!("acknowledged {}", journal.head().sequence);
        }
    }
    let folder = folder();
    let path = folder.path().to_str().expect("text");
    for round in 1..=6 {
        let mut child = in_another_process("crash::a_killed_process_loses_nothing_that_it_acknowledged", path)
            .stdout(Stdio::piped())
            .spawn()
            .expect("starts");
        let output = BufReader::new(child.stdout.take().expect("piped"));
        let mut acknowledged = 0;
        let mut seen = 0;
        for line in output.lines().map_while(Result::ok) {
            let Some((_, number)) = line.rsplit_once("acknowledged ") else { continue };
            // The last line may be torn.
            acknowledged = number.parse().unwrap_or(acknowledged);
            seen += 1;
            if seen == 40 * round {
                child.kill().expect("killed");
            }
        }
        child.wait().expect("gone");
        assert!(seen >= 40 * round);
        let journal = open(folder.path());
        assert!(journal.head().sequence >= acknowledged);
        assert_eq!(journal.epoch(), 2 * round);
        let expected: Vec<_> = records(1, journal.head().sequence, 200);
        assert_eq!(read_all(folder.path()).expect("reads"), expected);
    }
}
