//! Compaction: nothing is ever lost.

use std::fs;
use std::path::{Path, PathBuf};

use offtake_journal::{Check, Error, Reader, verify};

use crate::support::{append, chain_of, folder, open, read_all, read_from, records};

fn files(folder: &Path) -> Vec<PathBuf> {
    let mut files: Vec<_> =
        fs::read_dir(folder.join("archive")).expect("listed").map(|entry| entry.expect("listed").path()).collect();
    files.sort();
    files
}

#[test]
fn reading_goes_over_archive_and_database_alike() {
    let folder = folder();
    let mut journal = open(folder.path());
    for batch in 0..30 {
        append(&mut journal, &records(batch * 10 + 1, 10, 300)).expect("appends");
    }
    // Whole batches only.
    let first = journal.compact(104).expect("compacts");
    assert_eq!(first.iter().map(|segment| (segment.first, segment.last)).collect::<Vec<_>>(), [(1, 100)]);
    assert_eq!(first[0].chain, chain_of(&records(1, 100, 300)).chain);
    assert_eq!(journal.compact(104).expect("nothing to do"), []);
    journal.compact(200).expect("compacts");
    let kept: u64 = rusqlite::Connection::open(folder.path().join("journal.sqlite"))
        .and_then(|connection| connection.query_row("SELECT sum(count) FROM batch", (), |row| row.get(0)))
        .expect("counted");
    assert_eq!(kept, 100);
    let reader = Reader::open(folder.path()).expect("opens");
    for from in [1, 2, 100, 101, 150, 200, 201, 299, 300, 301] {
        for check in [Check::Checksum, Check::Chain] {
            assert_eq!(read_from(&reader, from, check).expect("reads"), records(from, 301 - from, 300));
        }
        assert_eq!(reader.chain_at(from - 1).expect("reads"), Some(chain_of(&records(1, from - 1, 300)).chain));
    }
    let report = verify(folder.path(), None).expect("reads");
    assert!(report.is_good());
    assert_eq!((report.sound.sequence, report.archived), (300, 200));
}

#[test]
fn a_wholly_archived_journal_goes_on() {
    let folder = folder();
    let mut journal = open(folder.path());
    append(&mut journal, &records(1, 10, 300)).expect("appends");
    journal.compact(u64::MAX).expect("compacts");
    drop(journal);
    let mut journal = open(folder.path());
    assert_eq!(journal.head(), chain_of(&records(1, 10, 300)));
    append(&mut journal, &records(11, 10, 300)).expect("appends");
    drop(journal);
    assert_eq!(open(folder.path()).head(), chain_of(&records(1, 20, 300)));
    assert_eq!(read_all(folder.path()).expect("reads"), records(1, 20, 300));
}

#[test]
fn many_records_make_many_segments() {
    let folder = folder();
    let mut journal = open(folder.path());
    // The second batch alone is more than a segment should have.
    for count in [60_000, 120_000, 50_000, 50_000] {
        let next = journal.head().sequence + 1;
        append(&mut journal, &records(next, count, 20)).expect("appends");
    }
    let segments = journal.compact(u64::MAX).expect("compacts");
    let bounds: Vec<_> = segments.iter().map(|segment| (segment.first, segment.last)).collect();
    assert_eq!(bounds, [(1, 60_000), (60_001, 180_000), (180_001, 280_000)]);
    assert_eq!(read_all(folder.path()).expect("reads"), records(1, 280_000, 20));
}

#[test]
fn a_compaction_that_came_to_no_end_is_done_again() {
    let folder = folder();
    let mut journal = open(folder.path());
    append(&mut journal, &records(1, 10, 300)).expect("appends");
    append(&mut journal, &records(11, 10, 300)).expect("appends");
    fs::create_dir(folder.path().join("archive")).expect("made");
    for name in ["000000000001-000000000010.jsonl.gz", "000000000001-000000000020.jsonl.gz.part"] {
        fs::write(folder.path().join("archive").join(name), "half").expect("written");
    }
    journal.compact(20).expect("compacts");
    assert_eq!(files(folder.path()), [folder.path().join("archive/000000000001-000000000020.jsonl.gz")]);
    assert_eq!(read_all(folder.path()).expect("reads"), records(1, 20, 300));
}

#[test]
fn damaged_records_are_not_archived() {
    let folder = folder();
    let mut journal = open(folder.path());
    for batch in 0..3 {
        append(&mut journal, &records(batch * 10 + 1, 10, 300)).expect("appends");
    }
    let other = rusqlite::Connection::open(folder.path().join("journal.sqlite")).expect("opens");
    other.execute("UPDATE batch SET chain = zeroblob(32) WHERE last = 10", ()).expect("runs");
    assert!(matches!(journal.compact(30), Err(Error::Damaged(_))));
    assert!(files(folder.path()).is_empty());
    assert_eq!(journal.head().sequence, 30);
    append(&mut journal, &records(31, 1, 300)).expect("appends");
}

#[test]
fn a_damaged_or_missing_segment_is_found() {
    let folder = folder();
    let mut journal = open(folder.path());
    append(&mut journal, &records(1, 100, 300)).expect("appends");
    journal.compact(100).expect("compacts");
    append(&mut journal, &records(101, 100, 300)).expect("appends");
    journal.compact(200).expect("compacts");
    append(&mut journal, &records(201, 10, 300)).expect("appends");
    let files = files(folder.path());
    let sound = fs::read(&files[1]).expect("read");
    for place in [0, 5, sound.len() / 2, sound.len() - 3] {
        let mut bytes = sound.clone();
        bytes[place] ^= 0x10;
        fs::write(&files[1], bytes).expect("written");
        let damage = verify(folder.path(), None).expect("reads").damage;
        // Of gzip's header not every bit has a meaning.
        if place != 5 {
            let damage = damage.expect("damage");
            assert_eq!(damage.file, files[1]);
            assert!(damage.records.expect("a place").0 > 100, "{damage}");
        }
    }
    fs::write(&files[1], &sound[..sound.len() / 2]).expect("written");
    assert!(verify(folder.path(), None).expect("reads").damage.is_some());
    fs::copy(&files[0], &files[1]).expect("copied");
    assert!(verify(folder.path(), None).expect("reads").damage.is_some());
    fs::remove_file(&files[1]).expect("removed");
    let report = verify(folder.path(), None).expect("reads");
    let damage = report.damage.expect("damage");
    assert_eq!((damage.records, report.sound.sequence), (Some((101, 200)), 100), "{damage}");
    // The rest is there all the same, and what is new can be appended.
    let reader = Reader::open(folder.path()).expect("opens");
    assert_eq!(read_from(&reader, 201, Check::Chain).expect("reads"), records(201, 10, 300));
    append(&mut journal, &records(211, 1, 300)).expect("appends");
    fs::write(&files[1], sound).expect("written");
    assert!(verify(folder.path(), None).expect("reads").is_good());
}
