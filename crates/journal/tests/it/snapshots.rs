//! Snapshots are disposable.

use std::fs;

use offtake_journal::{Position, Snapshots};

use crate::support::{append, chain_of, folder, open, records};

#[test]
fn the_newest_two_are_kept_and_the_newest_is_found() {
    let folder = folder();
    let mut journal = open(folder.path());
    let snapshots = Snapshots::of(folder.path());
    let reader = journal.reader().expect("opens");
    assert!(snapshots.latest(&reader).expect("reads").snapshot.is_none());
    for batch in 0..4u64 {
        append(&mut journal, &records(batch * 10 + 1, 10, 300)).expect("appends");
        snapshots.save(journal.head(), &vec![batch as u8; 100_000]).expect("saves");
    }
    let found = snapshots.latest(&reader).expect("reads");
    let snapshot = found.snapshot.expect("a snapshot");
    assert_eq!((snapshot.position, snapshot.bytes), (journal.head(), vec![3; 100_000]));
    assert!(found.skipped.is_empty());
    assert_eq!(fs::read_dir(folder.path().join("snapshots")).expect("listed").count(), 2);
    // Archived records have their place in the chain too.
    journal.compact(40).expect("compacts");
    assert!(snapshots.latest(&reader).expect("reads").snapshot.is_some());
}

#[test]
fn every_changed_bit_and_every_cut_is_noticed() {
    let folder = folder();
    let mut journal = open(folder.path());
    let snapshots = Snapshots::of(folder.path());
    append(&mut journal, &records(1, 5, 10)).expect("appends");
    snapshots.save(journal.head(), b"older").expect("saves");
    append(&mut journal, &records(6, 5, 10)).expect("appends");
    let newest = snapshots.save(journal.head(), b"newer").expect("saves");
    let reader = journal.reader().expect("opens");
    let sound = fs::read(&newest).expect("read");
    let flipped = (0..sound.len() * 8).step_by(5).map(|bit| {
        let mut bytes = sound.clone();
        bytes[bit / 8] ^= 1 << (bit % 8);
        bytes
    });
    let cut = (0..sound.len()).map(|end| sound[..end].to_vec());
    for bytes in flipped.chain(cut) {
        fs::write(&newest, bytes).expect("written");
        let found = snapshots.latest(&reader).expect("reads");
        assert_eq!(found.snapshot.expect("the older").bytes, b"older");
        assert_eq!(found.skipped.len(), 1);
        assert_eq!(found.skipped[0].file, newest);
    }
}

#[test]
fn one_of_other_records_is_skipped() {
    let folder = folder();
    let mut journal = open(folder.path());
    let snapshots = Snapshots::of(folder.path());
    append(&mut journal, &records(1, 10, 10)).expect("appends");
    let reader = journal.reader().expect("opens");
    snapshots.save(chain_of(&records(1, 4, 10)), b"within a batch").expect("saves");
    assert!(snapshots.latest(&reader).expect("reads").snapshot.is_some());
    let elsewhere = chain_of(&records(2, 8, 10));
    snapshots.save(elsewhere, b"other records").expect("saves");
    snapshots.save(Position { sequence: 12, ..elsewhere }, b"beyond the end").expect("saves");
    let found = snapshots.latest(&reader).expect("reads");
    assert_eq!(found.skipped.len(), 2, "{found:?}");
    // What is saved next is of the journal as it is now; one beyond it can be of no use.
    let path = snapshots.save(journal.head(), b"now").expect("saves");
    assert_eq!(snapshots.latest(&reader).expect("reads").snapshot.expect("one").bytes, b"now");
    assert!(path.is_file());
    assert_eq!(snapshots.latest(&reader).expect("reads").skipped, []);
}
