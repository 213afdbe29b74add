//! Full disks, folders that cannot be written to, and what is stale or too large.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::process::Command;

use offtake_journal::{Check, Error, Journal, MAX_RECORD, Reader};

use crate::support::{append, assert_success, folder, in_another_process, open, read_all, read_from, records, role};

#[test]
fn nothing_of_a_batch_that_finds_no_room_is_there() {
    let folder = folder();
    let mut journal = open(folder.path());
    append(&mut journal, &records(1, 10, 300)).expect("appends");
    let head = journal.head();
    journal.limit_size(Some(200_000)).expect("limited");
    assert!(matches!(append(&mut journal, &records(11, 1_000, 300)), Err(Error::Full { .. })));
    assert_eq!(journal.head(), head);
    assert!(matches!(append(&mut journal, &records(11, 1, 300)), Err(Error::Failed)));
    assert_eq!(read_all(folder.path()).expect("reads").len(), 10);
    assert_eq!(journal.reopen().expect("reopens"), head);
    // The limit holds after that too; what fits is taken.
    assert!(matches!(append(&mut journal, &records(11, 1_000, 300)), Err(Error::Full { .. })));
    journal.reopen().expect("reopens");
    append(&mut journal, &records(11, 10, 300)).expect("appends");
    journal.limit_size(None).expect("lifted");
    append(&mut journal, &records(21, 1_000, 300)).expect("appends");
    drop(journal);
    assert_eq!(open(folder.path()).epoch(), 2);
    assert_eq!(read_all(folder.path()).expect("reads"), records(1, 1_020, 300));
}

/// The system refuses to let a file grow, in the middle of an append, and then allows it again.
#[test]
fn a_write_that_the_system_refuses_takes_nothing_back_and_leaves_nothing() {
    const NAME: &str = "limits::a_write_that_the_system_refuses_takes_nothing_back_and_leaves_nothing";
    if let Some(path) = role() {
        let mut journal = open(path.as_ref());
        loop {
            let next = journal.head().sequence + 1;
            let head = journal.head();
            if let Err(error) = append(&mut journal, &records(next, 20, 500)) {
                assert!(matches!(error, Error::Full { .. } | Error::Store { .. }), "{error}");
                assert!(matches!(append(&mut journal, &records(next, 1, 500)), Err(Error::Failed)));
                assert!(next > 100, "{error} at once");
                // Nothing has changed, so it may be reopened or not; what is there is what was acknowledged.
                if let Ok(found) = journal.reopen() {
                    assert_eq!(found, head);
                }
                return fs::write(format!("{path}/acknowledged"), head.sequence.to_string()).expect("written");
            }
        }
    }
    let folder = folder();
    let path = folder.path().to_str().expect("text");
    let test = in_another_process(NAME, path);
    // A process that ignores the signal gets an error where it would be ended.
    let output = Command::new("sh")
        .args(["-c", "trap '' XFSZ; ulimit -f 1000; exec \"$@\"", "sh"])
        .arg(test.get_program())
        .args(test.get_args())
        .envs(test.get_envs().filter_map(|(name, value)| Some((name, value?))))
        .output()
        .expect("runs");
    assert_success(&output);
    let acknowledged: u64 =
        fs::read_to_string(folder.path().join("acknowledged")).expect("written").parse().expect("a number");
    let mut journal = open(folder.path());
    assert_eq!(journal.head().sequence, acknowledged);
    append(&mut journal, &records(acknowledged + 1, 500, 500)).expect("appends");
    assert_eq!(read_all(folder.path()).expect("reads"), records(1, acknowledged + 500, 500));
}

/// Permissions mean nothing to root, so the test runs as another user then.
#[test]
fn a_folder_that_cannot_be_written_to_can_be_read() {
    const NAME: &str = "limits::a_folder_that_cannot_be_written_to_can_be_read";
    if let Some(path) = role() {
        let error = Journal::open(path.as_ref()).expect_err("read-only");
        assert!(matches!(error, Error::ReadOnly { .. }), "{error}");
        let reader = Reader::open(path.as_ref()).expect("opens");
        assert_eq!(read_from(&reader, 1, Check::Chain).expect("reads"), records(1, 10, 300));
        return;
    }
    let folder = folder();
    let inner = folder.path().join("with space?&#%");
    append(&mut open(&inner), &records(1, 10, 300)).expect("appends");
    for (path, mode) in [
        (inner.join("journal.sqlite"), 0o444),
        (inner.join("journal.lock"), 0o444),
        (inner.clone(), 0o555),
        (folder.path().to_owned(), 0o755),
    ] {
        fs::set_permissions(path, Permissions::from_mode(mode)).expect("set");
    }
    let mut test = in_another_process(NAME, inner.to_str().expect("text"));
    if fs::write(inner.join("probe"), "").is_ok() {
        fs::remove_file(inner.join("probe")).expect("removed");
        // The program itself may lie where only root can read.
        let program = folder.path().join("test");
        fs::copy(test.get_program(), &program).expect("copied");
        let arguments: Vec<_> = test.get_args().map(ToOwned::to_owned).collect();
        test = Command::new(program);
        test.args(arguments).env("JOURNAL_TEST_ROLE", &inner).current_dir("/").uid(65_534).gid(65_534);
    }
    let output = test.output().expect("runs");
    fs::set_permissions(&inner, Permissions::from_mode(0o755)).expect("set");
    assert_success(&output);
}

#[test]
fn what_is_stale_or_too_large_changes_nothing() {
    let folder = folder();
    let mut journal = open(folder.path());
    append(&mut journal, &records(1, 2, 10)).expect("appends");
    let head = journal.head();
    assert!(matches!(journal.append(1, 1, [b"x"]), Err(Error::StaleSequence { expected: 1, head: 2 })));
    assert!(matches!(journal.append(3, 1, [b"x"]), Err(Error::StaleSequence { expected: 3, head: 2 })));
    assert!(matches!(journal.append(2, 0, [b"x"]), Err(Error::StaleEpoch { given: 0, current: 1 })));
    let large = vec![0; MAX_RECORD + 1];
    assert!(matches!(journal.append(2, 1, [b"x".as_slice(), &large]), Err(Error::TooLarge { what: "a record", .. })));
    assert_eq!(journal.append(2, 1, [[0; 0]; 0]).expect("nothing"), head);
    assert_eq!(journal.head(), head);
    append(&mut journal, &records(3, 1, 10)).expect("appends");
    assert_eq!(read_all(folder.path()).expect("reads"), records(1, 3, 10));
}

/// A lock that a file system does not keep: the transaction itself finds that somebody else has appended or taken over.
#[test]
fn without_the_lock_the_transaction_still_refuses() {
    for takeover in
        ["UPDATE journal SET epoch = epoch + 1", "INSERT INTO batch SELECT last + 1, count, chain, records FROM batch"]
    {
        let folder = folder();
        let mut journal = open(folder.path());
        append(&mut journal, &records(1, 1, 10)).expect("appends");
        let other = rusqlite::Connection::open(folder.path().join("journal.sqlite")).expect("opens");
        other.execute(takeover, ()).expect("runs");
        let error = append(&mut journal, &records(2, 1, 10)).expect_err("stale");
        assert!(matches!(error, Error::StaleEpoch { .. } | Error::StaleSequence { .. }), "{error}");
    }
}

/// A batch whose commit was reported as failed, and that the log had all the same.
#[test]
fn what_a_failed_append_left_behind_is_taken_back() {
    let folder = folder();
    let mut journal = open(folder.path());
    append(&mut journal, &records(1, 1, 10)).expect("appends");
    let head = journal.head();
    let other = rusqlite::Connection::open(folder.path().join("journal.sqlite")).expect("opens");
    other.execute("INSERT INTO batch SELECT last + 1, count, chain, records FROM batch", ()).expect("runs");
    assert!(append(&mut journal, &records(2, 1, 10)).is_err());
    assert_eq!(journal.reopen().expect("reopens"), head);
    append(&mut journal, &records(2, 1, 10)).expect("appends");
    assert_eq!(read_all(folder.path()).expect("reads"), records(1, 2, 10));
    // Acknowledged records that are gone are another matter.
    other.execute("DELETE FROM batch WHERE last = 2", ()).expect("runs");
    assert!(append(&mut journal, &records(3, 1, 10)).is_err());
    assert!(matches!(journal.reopen(), Err(Error::Damaged(_))));
    assert!(matches!(append(&mut journal, &records(3, 1, 10)), Err(Error::Failed)));
}
