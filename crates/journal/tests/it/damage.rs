//! What is stored is changed behind the journal's back.

use std::fs;
use std::path::Path;

use offtake_journal::{Check, Damage, Error, Journal, Reader, Wanted, backup, export, restore, verify};
use rusqlite::Connection;

use crate::support::{append, chain_of, folder, open, read_all, read_from, records};

/// A closed journal of five batches of ten records.
fn fifty(folder: &Path) {
    let mut journal = open(folder);
    for batch in 0..5 {
        append(&mut journal, &records(batch * 10 + 1, 10, 300)).expect("appends");
    }
}

fn tamper(folder: &Path, query: &str) {
    let connection = Connection::open(folder.join("journal.sqlite")).expect("opens");
    assert!(connection.execute(query, ()).expect("runs") > 0, "{query}");
}

/// Changes the bytes of one record within the batch that ends with `last`.
fn flip(folder: &Path, last: u64, text: &str) {
    let connection = Connection::open(folder.join("journal.sqlite")).expect("opens");
    let mut batch: Vec<u8> =
        connection.query_row("SELECT records FROM batch WHERE last = ?1", [last], |row| row.get(0)).expect("a batch");
    let at = batch.windows(text.len()).position(|window| window == text.as_bytes()).expect("that record");
    batch[at + text.len() - 1] ^= 1;
    connection.execute("UPDATE batch SET records = ?1 WHERE last = ?2", (batch, last)).expect("runs");
}

fn damage_of<T: std::fmt::Debug>(result: Result<T, Error>) -> Damage {
    let error = result.expect_err("damage");
    let damage = if let Error::Damaged(damage) = &error { Some(damage.clone()) } else { None };
    damage.ok_or(error).expect("damage, and no other error")
}

#[test]
fn a_damaged_last_batch_is_cut_and_kept_aside() {
    for query in [
        None,
        Some("UPDATE batch SET chain = zeroblob(32) WHERE last = 50"),
        Some("UPDATE batch SET count = 9 WHERE last = 50"),
        Some("UPDATE batch SET records = zeroblob(100) WHERE last = 50"),
        Some("UPDATE batch SET records = substr(records, 1, 1000) WHERE last = 50"),
    ] {
        let folder = folder();
        fifty(folder.path());
        match query {
            Some(query) => tamper(folder.path(), query),
            None => flip(folder.path(), 50, "{\"record\":47"),
        }
        let bytes: Vec<u8> = Connection::open(folder.path().join("journal.sqlite"))
            .and_then(|connection| {
                connection.query_row("SELECT records FROM batch WHERE last = 50", (), |row| row.get(0))
            })
            .expect("a batch");
        assert!(!verify(folder.path(), None).expect("reads").is_good());
        let opened = Journal::open(folder.path()).expect("opens");
        let cut = opened.cut.expect("a cut");
        assert_eq!((cut.first, cut.last), (41, 50), "{cut:?}");
        assert_eq!(fs::read(&cut.aside).expect("kept"), bytes);
        assert_eq!(opened.journal.head(), chain_of(&records(1, 40, 300)));
        drop(opened.journal);
        // It is told once, and the journal goes on.
        let mut journal = open(folder.path());
        append(&mut journal, &records(41, 3, 300)).expect("appends");
        assert_eq!(read_all(folder.path()).expect("reads"), records(1, 43, 300));
        assert!(verify(folder.path(), None).expect("reads").is_good());
    }
}

#[test]
fn the_same_place_is_cut_twice_without_loss() {
    let folder = folder();
    let mut kept = Vec::new();
    for _ in 0..2 {
        append(&mut open(folder.path()), &records(1, 5, 300)).expect("appends");
        flip(folder.path(), 5, "{\"record\":3");
        let opened = Journal::open(folder.path()).expect("opens");
        assert_eq!(opened.journal.head().sequence, 0);
        kept.push(opened.cut.expect("a cut").aside);
    }
    assert_ne!(kept[0], kept[1]);
    assert!(kept.iter().all(|path| path.is_file()));
}

#[test]
fn two_damaged_batches_are_no_torn_tail() {
    let folder = folder();
    fifty(folder.path());
    flip(folder.path(), 50, "{\"record\":47");
    flip(folder.path(), 40, "{\"record\":33");
    let damage = damage_of(Journal::open(folder.path()));
    assert_eq!(damage.records, Some((33, 33)));
    assert!(damage.to_string().contains("offtake journal restore"), "{damage}");
    assert!(damage.to_string().contains("offtake journal export --until 32"), "{damage}");
}

#[test]
fn a_missing_batch_before_the_last_is_no_torn_tail() {
    let folder = folder();
    fifty(folder.path());
    tamper(folder.path(), "DELETE FROM batch WHERE last = 40");
    let damage = damage_of(Journal::open(folder.path()));
    assert_eq!(damage.records, Some((31, 50)));
}

#[test]
fn damage_in_the_middle_is_found_where_it_is() {
    for (query, records_in_doubt, sound, by_checksum) in [
        (None, (23, 23), 20, true),
        (Some("DELETE FROM batch WHERE last = 20"), (11, 20), 10, true),
        (Some("UPDATE batch SET chain = zeroblob(32) WHERE last = 30"), (21, 30), 20, false),
        (Some("UPDATE batch SET chain = zeroblob(3) WHERE last = 30"), (21, 21), 20, true),
        (Some("UPDATE batch SET count = 11 WHERE last = 30"), (21, 30), 20, true),
        (
            Some("UPDATE batch SET records = (SELECT records FROM batch WHERE last = 20) WHERE last = 30"),
            (21, 30),
            20,
            false,
        ),
    ] {
        let folder = folder();
        fifty(folder.path());
        match query {
            Some(query) => tamper(folder.path(), query),
            None => flip(folder.path(), 30, "{\"record\":23"),
        }
        let report = verify(folder.path(), None).expect("reads");
        let damage = report.damage.clone().expect("damage");
        assert_eq!(damage.records, Some(records_in_doubt), "{damage}");
        assert_eq!(report.sound, chain_of(&records(1, sound, 300)), "{damage}");
        assert_eq!(damage_of(read_all(folder.path())), damage);

        let reader = Reader::open(folder.path()).expect("opens");
        let mut reading = reader.read(5, Check::Chain);
        let before = reading.next_chunk().expect("reads").expect("what is before the damage");
        assert_eq!(before.next_sequence(), sound + 1);
        assert_eq!(damage_of(reading.next_chunk()), damage);
        assert_eq!(damage_of(reading.next_chunk()), damage);
        assert_eq!(read_from(&reader, 1, Check::Checksum).is_err(), by_checksum, "{damage}");

        // The ways out that are named.
        damage_of(backup(folder.path(), &folder.path().join("backup")));
        let mut saved = Vec::new();
        export(folder.path(), 1, Some(damage.records.expect("a place").0 - 1), &mut saved).expect("exports");
        let file = folder.path().join("saved.jsonl");
        fs::write(&file, saved).expect("written");
        let mended = folder.path().join("mended");
        restore(&[file], &mended).expect("restores");
        let saved = damage.records.expect("a place").0 - 1;
        assert_eq!(read_all(&mended).expect("reads"), records(1, saved, 300));
    }
}

#[test]
fn whatever_bit_of_a_record_flips_in_the_file_is_detected() {
    let folder = folder();
    fifty(folder.path());
    let path = folder.path().join("journal.sqlite");
    let sound = fs::read(&path).expect("read");
    for sequence in [1, 17, 34, 50] {
        let text = format!("{{\"record\":{sequence},\"pad");
        // SQLite leaves older copies in its pages: all are changed, the one that counts among them.
        let windows = sound.windows(text.len()).enumerate();
        let starts: Vec<usize> =
            windows.filter(|(_, window)| *window == text.as_bytes()).map(|(start, _)| start).collect();
        for bit in [0, 77, 300, 1_111, 2_300] {
            let mut bytes = sound.clone();
            for start in &starts {
                bytes[start + bit / 8] ^= 1 << (bit % 8);
            }
            fs::write(&path, bytes).expect("written");
            let report = verify(folder.path(), None).expect("reads");
            assert!(report.damage.is_some(), "bit {bit} of record {sequence}");
            assert!(report.sound.sequence < sequence);
        }
    }
}

/// Flips every 97th bit of the whole file: SQLite's own structures too.
#[test]
fn no_flipped_bit_anywhere_gives_other_records() {
    let folder = folder();
    fifty(folder.path());
    let path = folder.path().join("journal.sqlite");
    let sound = fs::read(&path).expect("read");
    let expected = records(1, 50, 300);
    let mut detected = 0;
    for bit in (0..sound.len() * 8).step_by(97) {
        let mut bytes = sound.clone();
        bytes[bit / 8] ^= 1 << (bit % 8);
        fs::write(&path, bytes).expect("written");
        match read_all(folder.path()) {
            // The end itself may be lost; then what is left is a prefix that ends with a batch.
            Ok(read) => assert!(read.len() % 10 == 0 && read == expected[..read.len()], "bit {bit}"),
            Err(_) => detected += 1,
        }
    }
    assert!(detected > 0);
}

#[test]
fn a_head_kept_outside_shows_what_was_rewritten() {
    let folder = folder();
    fifty(folder.path());
    let early = chain_of(&records(1, 33, 300)).chain;
    assert_eq!(verify(folder.path(), Some(early)).expect("reads").wanted, Some(Wanted::At(33)));
    // Somebody takes the end off, and leaves all sound.
    tamper(folder.path(), "DELETE FROM batch WHERE last > 30");
    let report = verify(folder.path(), Some(early)).expect("reads");
    assert_eq!((report.wanted, report.damage.is_none(), report.is_good()), (Some(Wanted::Missing), true, false));
}

#[test]
fn what_is_no_journal_is_left_alone() {
    let folder = folder();
    let path = folder.path().join("journal.sqlite");
    fs::write(&path, "some text that is no database, and long enough to be taken for a header of one, or so it seems")
        .expect("written");
    let before = fs::read(&path).expect("read");
    assert!(matches!(Journal::open(folder.path()), Err(Error::NotAJournal { .. })));
    assert_eq!(fs::read(&path).expect("read"), before);
    fs::remove_file(&path).expect("removed");

    Connection::open(&path).and_then(|other| other.execute_batch("CREATE TABLE mine (x)")).expect("made");
    let before = fs::read(&path).expect("read");
    assert!(matches!(Journal::open(folder.path()), Err(Error::NotAJournal { .. })));
    assert!(matches!(Reader::open(folder.path()), Err(Error::NotAJournal { .. })));
    assert_eq!(fs::read(&path).expect("read"), before);
}

#[test]
fn a_newer_format_is_refused_with_what_to_do() {
    let folder = folder();
    fifty(folder.path());
    Connection::open(folder.path().join("journal.sqlite"))
        .and_then(|connection| connection.pragma_update(None, "user_version", 2))
        .expect("changed");
    let error = Journal::open(folder.path()).expect_err("newer");
    assert!(matches!(error, Error::Newer { found: 2, newest: 1, .. }));
    assert!(error.to_string().contains("run the release that wrote it"), "{error}");
    assert!(matches!(Reader::open(folder.path()), Err(Error::Newer { .. })));
}
