//! What the journal does in a second. It measures and judges nothing:
//! `cargo bench -p offtake-journal`

use std::fs::File;
use std::io::Write;
use std::sync::mpsc;
use std::time::Instant;

use offtake_journal::{Check, Filter, History, Journal, Reader, Row, Snapshots, Writer, backup, restore, verify};
use tempfile::tempdir;

const TOTAL: u64 = 1_000_000;

fn timed<R>(what: &str, count: u64, work: impl FnOnce() -> R) -> R {
    let start = Instant::now();
    let result = work();
    let seconds = start.elapsed().as_secs_f64();
    println!("{what}: {count} in {seconds:.3} s, {:.0}/s", count as f64 / seconds);
    result
}

fn read(reader: &Reader, from: u64, check: Check) -> usize {
    reader
        .read(from, check)
        .map(|chunk| chunk.expect("reads").iter().map(|(_, record)| record.len()).sum::<usize>())
        .sum()
}

fn main() {
    let folder = tempdir().expect("a temporary folder");
    let source = folder.path().join("a");
    let mut journal = Journal::open(&source).expect("opens").journal;
    let hundred = vec![format!("\"{}\"", "x".repeat(298)).into_bytes(); 100];
    let append = |journal: &mut Journal, records: &[Vec<u8>]| {
        journal.append(journal.head().sequence, journal.epoch(), records).expect("appends");
    };
    timed("the disk alone: write 32 KiB and sync", 300, || {
        let mut file = File::create(folder.path().join("disk")).expect("made");
        for _ in 0..300 {
            file.write_all(&[7; 32 << 10]).and_then(|()| file.sync_data()).expect("written");
        }
    });
    timed("append, batches of 100, one fsync each", TOTAL, || {
        for _ in 0..TOTAL / 100 {
            append(&mut journal, &hundred);
        }
    });
    timed("append, batches of 1, one fsync each", 2_000, || {
        for _ in 0..2_000 {
            append(&mut journal, &hundred[..1]);
        }
    });
    let reader = journal.reader().expect("opens");
    timed("read with checksums", TOTAL, || read(&reader, 1, Check::Checksum));
    timed("read with checksums and chain", TOTAL, || read(&reader, 1, Check::Chain));
    timed("verify", TOTAL, || verify(&source, None).expect("reads"));
    drop(journal);
    let journal = timed("open", 1, || Journal::open(&source).expect("opens").journal);

    let writer = Writer::start(journal).expect("starts");
    let head = writer.with(|journal| journal.head().sequence).expect("open");
    let (to, outcomes) = mpsc::channel();
    timed("group commit, single records, all handed in at once", 200_000, || {
        for next in head..head + 200_000 {
            let to = to.clone();
            let done = Box::new(move |result: Result<u64, _>| to.send(result.is_ok()).expect("somebody listens"));
            writer.submit(next, vec![hundred[0].clone()], done).expect("open");
        }
        assert!(outcomes.iter().take(200_000).all(|acknowledged| acknowledged));
    });
    let mut waits: Vec<f64> = (head + 200_000..head + 202_000)
        .map(|next| {
            let to = to.clone();
            let start = Instant::now();
            let done = Box::new(move |result: Result<u64, _>| to.send(result.is_ok()).expect("somebody listens"));
            writer.submit(next, vec![hundred[0].clone()], done).expect("open");
            assert!(outcomes.recv().expect("told"));
            start.elapsed().as_secs_f64() * 1e3
        })
        .collect();
    waits.sort_by(f64::total_cmp);
    println!("group commit, one at a time: median {:.3} ms, 99th of 100 {:.3} ms", waits[1_000], waits[1_980]);
    let mut journal = writer.close().expect("ends");

    let snapshots = Snapshots::of(&source);
    timed("compact", TOTAL, || journal.compact(TOTAL).expect("compacts"));
    timed("read from archive", TOTAL, || read(&reader, 1, Check::Checksum));
    let file = folder.path().join("backup.gz");
    let all = journal.head().sequence;
    timed("backup", all, || backup(&source, &file).expect("backs up"));
    timed("restore", all, || restore(&[file], &folder.path().join("b")).expect("restores"));
    timed("save a snapshot of 50 MB", 1, || {
        snapshots.save(journal.head(), &hundred.concat().repeat(1_700)).expect("saves")
    });

    let history = History::open(&source).expect("opens");
    let row = |id: u64| Row {
        id,
        tenant: format!("tenant-{}", id % 50),
        name: format!("job-{}", id % 1_000),
        user: format!("user-{}", id % 200),
        state: "finished".to_owned(),
        array: None,
        ended_ms: id as i64,
        document: hundred[0].repeat(3),
    };
    timed("history, batches of 1,000", 200_000, || {
        for batch in 0..200 {
            let rows: Vec<Row> = (batch * 1_000..(batch + 1) * 1_000).map(row).collect();
            history.upsert(&rows, batch).expect("writes");
        }
    });
    let filter = Filter { tenant: Some("tenant-7".to_owned()), limit: 1_000, ..Filter::default() };
    timed("history, 1,000 of a tenant", 1_000, || history.list(&filter).expect("reads"));
}
