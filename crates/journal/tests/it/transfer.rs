//! Export, backup, restore.

use std::fs;
use std::path::PathBuf;
use std::slice::from_ref;

use offtake_journal::{Error, Exported, Journal, Position, backup, export, restore, verify};
use proptest::prelude::*;

use crate::support::{append, chain_of, folder, open, read_all, records};

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn what_is_restored_is_what_was_exported(
        all in prop::collection::vec(prop_oneof![
            prop::collection::vec(any::<u8>(), 0..60),
            "[{]\"[a-z\\\\ü\u{2028}]{0,5}\":[0-9]{1,4}[}]|null|\"\\\\\\\\u12\"|[ \\n]1".prop_map(String::into_bytes),
        ], 0..40),
        split in 0..40usize,
        archived in 0..40u64,
    ) {
        let folder = folder();
        let source = folder.path().join("source");
        let mut journal = open(&source);
        for batch in all.chunks(7) {
            append(&mut journal, batch).expect("appends");
        }
        journal.compact(archived).expect("compacts");
        let split = split.min(all.len()) as u64;
        let files = [(1, Some(split), "a"), (split + 1, None, "b")].map(|(from, until, name)| {
            let file = folder.path().join(name);
            export(&source, from, until, fs::File::create(&file).expect("made")).expect("exports");
            file
        });
        let target = folder.path().join("target");
        let restored = restore(&files, &target).expect("restores");
        prop_assert_eq!(restored.head, chain_of(&all));
        prop_assert_eq!(&read_all(&target).expect("reads"), &all);
        prop_assert_eq!(verify(&target, Some(journal.head().chain)).expect("reads").sound, journal.head());
        prop_assert_eq!(open(&target).head(), journal.head());
    }
}

#[test]
fn a_backup_made_while_records_come_restores_with_a_new_epoch() {
    let folder = folder();
    let (source, target, file) = (folder.path().join("a"), folder.path().join("b"), folder.path().join("backup.gz"));
    let mut journal = open(&source);
    append(&mut journal, &records(1, 1_000, 300)).expect("appends");
    journal.compact(1_000).expect("compacts");
    append(&mut journal, &records(1_001, 1_000, 300)).expect("appends");
    let exported = backup(&source, &file).expect("backs up");
    assert_eq!(exported, Exported { first: 1, head: journal.head() });
    append(&mut journal, &records(2_001, 1, 300)).expect("appends");
    assert!(matches!(backup(&source, &file), Err(Error::Exists { .. })));

    let restored = restore(from_ref(&file), &target).expect("restores");
    assert_eq!(restored.head, exported.head);
    assert!(restored.epoch >= journal.epoch() + (1 << 20));
    let mut again = open(&target);
    assert_eq!(again.epoch(), restored.epoch + 1);
    append(&mut again, &records(2_001, 1, 300)).expect("appends");
    assert_eq!(again.head(), journal.head());
    drop(again);
    // The same old file once more: no epoch comes twice.
    fs::remove_dir_all(&target).expect("removed");
    let newest = folder.path().join("newest.gz");
    assert!(restore(&[file], &target).expect("restores").epoch > restored.epoch + 1);
    backup(&target, &newest).expect("backs up");
    let last = open(&target).epoch();
    fs::remove_dir_all(&target).expect("removed");
    assert!(restore(&[newest], &target).expect("restores").epoch >= last - 1 + (1 << 20));
}

#[test]
fn archived_segments_and_an_export_restore_together() {
    let folder = folder();
    let (source, target) = (folder.path().join("a"), folder.path().join("b"));
    let mut journal = open(&source);
    append(&mut journal, &records(1, 10, 300)).expect("appends");
    append(&mut journal, &records(11, 10, 300)).expect("appends");
    journal.compact(10).expect("compacts");
    let mut files: Vec<PathBuf> =
        fs::read_dir(source.join("archive")).expect("listed").map(|entry| entry.expect("listed").path()).collect();
    let rest = folder.path().join("rest.jsonl");
    export(&source, 11, None, fs::File::create(&rest).expect("made")).expect("exports");
    files.push(rest);
    assert_eq!(restore(&files, &target).expect("restores").head, journal.head());
}

#[test]
fn nothing_is_overwritten_and_no_half_journal_is_made() {
    let folder = folder();
    let (source, target) = (folder.path().join("a"), folder.path().join("b"));
    let mut journal = open(&source);
    append(&mut journal, &records(1, 100, 300)).expect("appends");
    let file = folder.path().join("export.jsonl");
    export(&source, 1, None, fs::File::create(&file).expect("made")).expect("exports");
    let text = fs::read_to_string(&file).expect("read");
    assert!(matches!(restore(from_ref(&file), &source), Err(Error::Held { .. })));
    drop(journal);
    assert!(matches!(restore(from_ref(&file), &source), Err(Error::Exists { .. })));

    let lines: Vec<&str> = text.lines().collect();
    let bad = [
        (String::new(), 1),
        (lines[..50].join("\n"), 50),
        (lines[..50].join("\n") + "\n", 51),
        ([&lines[..20], &lines[21..]].concat().join("\n"), 21),
        (text.replace("{\"record\":70,", "{\"record\":71,"), 102),
        ("\u{1f}\u{8b}".to_owned(), 1),
    ];
    for (text, line) in bad {
        fs::write(&file, text).expect("written");
        let error = restore(from_ref(&file), &target).expect_err("a bad file");
        assert!(matches!(error, Error::Import { line: found, .. } if found == line), "{error}");
        let left: Vec<_> =
            fs::read_dir(&target).expect("listed").map(|entry| entry.expect("listed").file_name()).collect();
        assert_eq!(left, ["journal.lock"]);
    }
    fs::write(&file, &text).expect("written");
    let twice = restore(&[file.clone(), file.clone()], &target).expect_err("no sequel");
    assert!(twice.to_string().contains("begins with record 1, where 101 is due"), "{twice}");
    assert_eq!(restore(&[file], &target).expect("restores").head, chain_of(&records(1, 100, 300)));
}

#[test]
fn an_export_keeps_within_the_journal() {
    let folder = folder();
    let mut journal = open(folder.path());
    assert_eq!(
        export(folder.path(), 1, None, Vec::new()).expect("exports"),
        Exported { first: 1, head: Position::START }
    );
    append(&mut journal, &records(1, 10, 300)).expect("appends");
    let part = export(folder.path(), 4, Some(6), Vec::new()).expect("exports");
    assert_eq!((part.first, part.head), (4, chain_of(&records(1, 6, 300))));
    assert_eq!(export(folder.path(), 11, Some(99), Vec::new()).expect("exports").head, journal.head());
    assert!(matches!(export(folder.path(), 12, None, Vec::new()), Err(Error::Beyond { given: 12, limit: 11 })));
    assert!(matches!(export(folder.path(), 5, Some(3), Vec::new()), Err(Error::Beyond { given: 5, limit: 4 })));
    let empty = folder.path().join("empty");
    assert!(matches!(export(&empty, 1, None, Vec::new()), Err(Error::Missing { .. })));
    assert!(!empty.exists());
    drop(Journal::open(&empty).expect("opens"));
}
