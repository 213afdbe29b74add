//! Readers beside the one who appends.

use std::thread;

use offtake_journal::{Check, Error, Reader};

use crate::support::{append, folder, open, read_from, records};

#[test]
fn a_reader_follows_what_is_appended() {
    let folder = folder();
    let mut journal = open(folder.path());
    let reader = journal.reader().expect("opens");
    let mut reading = reader.read(3, Check::Chain);
    append(&mut journal, &records(1, 2, 50)).expect("appends");
    assert_eq!(reading.next_chunk().expect("reads"), None);
    append(&mut journal, &records(3, 2, 50)).expect("appends");
    let chunk = reading.next_chunk().expect("reads").expect("two records");
    assert_eq!(chunk.iter().map(|(sequence, _)| sequence).collect::<Vec<_>>(), [3, 4]);
    assert_eq!(chunk.next_sequence(), 5);
    assert_eq!(reading.next_chunk().expect("reads"), None);
    journal.compact(2).expect("compacts");
    append(&mut journal, &records(5, 1, 50)).expect("appends");
    journal.compact(4).expect("compacts");
    assert_eq!(reading.next_chunk().expect("reads").expect("one record").iter().next().expect("one").0, 5);
}

#[test]
fn reading_goes_on_while_records_are_appended_and_archived() {
    let folder = folder();
    let mut journal = open(folder.path());
    append(&mut journal, &records(1, 500, 3_000)).expect("appends");
    let total = 20_000;
    let path = folder.path().to_owned();
    let reading = thread::spawn(move || {
        let reader = Reader::open(&path).expect("opens");
        let mut reading = reader.read(1, Check::Chain);
        let mut next = 1;
        while next <= total {
            for (sequence, record) in reading.next_chunk().expect("reads").iter().flat_map(|chunk| chunk.iter()) {
                assert_eq!(sequence, next);
                assert_eq!(record, records(next, 1, 3_000)[0]);
                next += 1;
            }
        }
    });
    while journal.head().sequence < total {
        let next = journal.head().sequence + 1;
        append(&mut journal, &records(next, 250, 3_000)).expect("appends");
        if next % 1_000 == 1 {
            journal.compact(next - 1).expect("compacts");
        }
    }
    reading.join().expect("read all");
}

#[test]
fn one_who_only_reads_needs_no_lock_and_leaves_the_epoch() {
    let folder = folder();
    assert!(matches!(Reader::open(folder.path()), Err(Error::Missing { .. })));
    let mut journal = open(folder.path());
    append(&mut journal, &records(1, 3, 10)).expect("appends");
    let reader = Reader::open(folder.path()).expect("opens");
    assert_eq!(reader.epoch().expect("reads"), 1);
    assert_eq!(reader.head().expect("reads"), journal.head());
    drop(journal);
    assert_eq!(read_from(&reader, 1, Check::Chain).expect("reads").len(), 3);
    assert_eq!(open(folder.path()).epoch(), 2);
}
