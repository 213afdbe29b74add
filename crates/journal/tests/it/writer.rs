//! Group commit.

use std::sync::mpsc::{self, Sender};
use std::sync::{Arc, Mutex};
use std::thread;

use offtake_journal::{Done, Error, Writer};

use crate::support::{append, chain_of, folder, open, read_all, records};

type Outcome = Result<u64, Arc<Error>>;

fn tell(to: &Sender<Outcome>) -> Done {
    let to = to.clone();
    Box::new(move |result| to.send(result).expect("somebody listens"))
}

/// Keeps the writer's thread busy until the returned sender is dropped, so that what is submitted waits together.
fn hold(writer: &Arc<Writer>) -> Sender<()> {
    let (release, released) = mpsc::channel::<()>();
    let (begun, begin) = mpsc::channel();
    let same = Arc::clone(writer);
    thread::spawn(move || {
        same.with(move |_| {
            begun.send(()).expect("somebody waits");
            let _ = released.recv();
        })
    });
    begin.recv().expect("the task runs");
    release
}

#[test]
fn what_waits_is_committed_at_once_and_told_in_order() {
    let folder = folder();
    let writer = Arc::new(Writer::start(open(folder.path())).expect("starts"));
    let (to, outcomes) = mpsc::channel();
    let held = hold(&writer);
    for batch in 0..50 {
        writer.submit(batch * 3, records(batch * 3 + 1, 3, 100), tell(&to)).expect("open");
    }
    assert_eq!(writer.backlog().batches, 50);
    drop(held);
    for batch in 1..=50 {
        assert_eq!(outcomes.recv().expect("told").expect("on disk"), batch * 3);
    }
    assert_eq!(read_all(folder.path()).expect("reads"), records(1, 150, 100));
    assert_eq!(writer.backlog().bytes, 0);
    let transactions: u64 = rusqlite::Connection::open(folder.path().join("journal.sqlite"))
        .and_then(|connection| connection.query_row("SELECT count(*) FROM batch", (), |row| row.get(0)))
        .expect("counted");
    assert_eq!(transactions, 1);
}

#[test]
fn a_record_is_readable_before_its_completion_runs() {
    let folder = folder();
    let journal = open(folder.path());
    let reader = Mutex::new(journal.reader().expect("opens"));
    let writer = Writer::start(journal).expect("starts");
    let (to, outcomes) = mpsc::channel();
    let done = Box::new(move |result: Outcome| {
        let head = reader.lock().expect("whole").head().expect("reads").sequence;
        to.send((result.expect("on disk"), head)).expect("somebody listens");
    });
    writer.submit(0, records(1, 4, 100), done).expect("open");
    assert_eq!(outcomes.recv().expect("told"), (4, 4));
}

#[test]
fn many_threads_submit_and_every_record_is_there_once() {
    let folder = folder();
    let writer = Writer::start(open(folder.path())).expect("starts");
    // Whoever knows the end hands in next, as the server's loop does.
    let end = Mutex::new(0);
    let (to, outcomes) = mpsc::channel();
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for _ in 0..200 {
                    let mut end = end.lock().expect("whole");
                    writer.submit(*end, records(*end + 1, 5, 100), tell(&to)).expect("open");
                    *end += 5;
                }
            });
        }
    });
    drop(to);
    let journal = writer.close().expect("ends");
    let acknowledged: Vec<u64> = outcomes.iter().map(|outcome| outcome.expect("on disk")).collect();
    assert_eq!(acknowledged, (1..=800).map(|batch| batch * 5).collect::<Vec<_>>());
    assert_eq!(journal.head(), chain_of(&records(1, 4_000, 100)));
}

#[test]
fn after_a_failed_commit_all_fails_until_a_restart() {
    let folder = folder();
    let mut journal = open(folder.path());
    append(&mut journal, &records(1, 2, 100)).expect("appends");
    journal.limit_size(Some(200_000)).expect("limited");
    let writer = Arc::new(Writer::start(journal).expect("starts"));
    let (to, outcomes) = mpsc::channel();
    writer.submit(2, records(3, 2_000, 300), tell(&to)).expect("open");
    writer.submit(2_002, records(2_003, 1, 300), tell(&to)).expect("open");
    assert!(matches!(*outcomes.recv().expect("told").expect_err("full"), Error::Full { .. }));
    assert!(matches!(*outcomes.recv().expect("told").expect_err("behind"), Error::Behind | Error::Full { .. }));
    // It would fit now, but it was decided before the caller knew.
    writer.submit(2, records(3, 1, 300), tell(&to)).expect("open");
    assert!(matches!(*outcomes.recv().expect("told").expect_err("behind"), Error::Behind));
    assert_eq!(writer.restart().expect("reopens"), chain_of(&records(1, 2, 100)));
    writer.submit(2, records(3, 1, 100), tell(&to)).expect("open");
    assert_eq!(outcomes.recv().expect("told").expect("on disk"), 3);
    assert_eq!(read_all(folder.path()).expect("reads"), records(1, 3, 100));
}

#[test]
fn a_stale_batch_fails_alone() {
    let folder = folder();
    let writer = Arc::new(Writer::start(open(folder.path())).expect("starts"));
    let (to, outcomes) = mpsc::channel();
    let held = hold(&writer);
    for expected in [0, 5, 1, 2] {
        writer.submit(expected, records(expected + 1, 1, 100), tell(&to)).expect("open");
    }
    drop(held);
    let told: Vec<Outcome> = outcomes.iter().take(4).collect();
    assert!(matches!(told[0], Ok(1)));
    assert!(matches!(**told[1].as_ref().expect_err("stale"), Error::StaleSequence { expected: 5, head: 1 }));
    assert!(matches!((&told[2], &told[3]), (Ok(2), Ok(3))));
}

#[test]
fn submitting_waits_for_room() {
    let folder = folder();
    let writer = Arc::new(Writer::start(open(folder.path())).expect("starts"));
    let (to, outcomes) = mpsc::channel();
    let held = hold(&writer);
    let same = Arc::clone(&writer);
    let submitting = thread::spawn(move || {
        for batch in 0..6u64 {
            same.submit(batch, vec![vec![0; 30 << 20]], tell(&to)).expect("open");
        }
    });
    while writer.backlog().batches < 2 {
        thread::yield_now();
    }
    // Two take the room that there is; the third waits, whatever time it gets.
    for _ in 0..1_000 {
        thread::yield_now();
        assert_eq!(writer.backlog().batches, 2);
    }
    drop(held);
    submitting.join().expect("all handed in");
    assert_eq!(outcomes.iter().map(|outcome| outcome.expect("on disk")).collect::<Vec<_>>(), [1, 2, 3, 4, 5, 6]);
}

#[test]
fn closing_commits_what_waits() {
    for by_drop in [false, true] {
        let folder = folder();
        let writer = Writer::start(open(folder.path())).expect("starts");
        let (to, outcomes) = mpsc::channel();
        for batch in 0..100 {
            writer.submit(batch, records(batch + 1, 1, 100), tell(&to)).expect("open");
        }
        match by_drop {
            true => drop(writer),
            false => assert_eq!(writer.close().expect("ends").head().sequence, 100),
        }
        assert_eq!(outcomes.try_iter().filter(Result::is_ok).count(), 100);
        assert_eq!(open(folder.path()).head().sequence, 100);
    }
}

#[test]
fn what_is_too_large_is_refused_at_once() {
    let folder = folder();
    let writer = Writer::start(open(folder.path())).expect("starts");
    let large = vec![vec![0; offtake_journal::MAX_RECORD + 1]];
    let result = writer.submit(0, large, Box::new(|_| unreachable!("not taken")));
    assert!(matches!(result, Err(Error::TooLarge { .. })));
}

#[test]
fn nobody_waits_for_a_writer_that_is_gone() {
    let folder = folder();
    let writer = Writer::start(open(folder.path())).expect("starts");
    let panicked = writer.with(|_| -> () { std::panic::resume_unwind(Box::new("a fault of the caller's")) });
    assert!(matches!(panicked, Err(Error::Closed)));
    // The thread may still be on its way out.
    while writer.submit(0, records(1, 1, 10), Box::new(|_| {})).is_ok() {
        thread::yield_now();
    }
    assert!(matches!(writer.restart(), Err(Error::Closed)));
    assert!(matches!(writer.close(), Err(Error::Closed)));
    // Its lock is free again.
    open(folder.path());
}

#[test]
fn compaction_and_commits_go_side_by_side() {
    let folder = folder();
    let writer = Writer::start(open(folder.path())).expect("starts");
    let (to, outcomes) = mpsc::channel();
    thread::scope(|scope| {
        scope.spawn(|| {
            for batch in 0..300 {
                writer.submit(batch * 10, records(batch * 10 + 1, 10, 300), tell(&to)).expect("open");
            }
        });
        let mut archived = 0;
        while archived < 1_000 {
            let head = writer.with(|journal| journal.head().sequence).expect("open");
            archived = writer.compact(head).expect("compacts").last().map_or(archived, |segment| segment.last);
        }
    });
    drop(to);
    writer.close().expect("ends");
    assert_eq!(outcomes.iter().filter(Result::is_ok).count(), 300);
    assert_eq!(read_all(folder.path()).expect("reads"), records(1, 3_000, 300));
}
