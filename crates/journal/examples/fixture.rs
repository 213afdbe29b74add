//! Makes a journal of the present format for `tests/fixtures`, and prints its head: `fixture FOLDER`.

use std::env;
use std::error::Error;
use std::fs;
use std::path::PathBuf;

use offtake_journal::{Journal, Position, Snapshots};

fn main() -> Result<(), Box<dyn Error>> {
    let folder: PathBuf = env::args_os().nth(1).ok_or("usage: fixture FOLDER")?.into();
    for opening in 0..2u8 {
        let mut journal = Journal::open(&folder)?.journal;
        let records: Vec<Vec<u8>> = (opening * 20 + 1..=opening * 20 + 20).map(record).collect();
        for batch in records.chunks(8) {
            journal.append(journal.head().sequence, journal.epoch(), batch)?;
            if journal.head().sequence == 16 {
                journal.compact(16)?;
            }
            // The end of the first batch after the second opening is 28; a snapshot may lie within a batch.
            if journal.head().sequence == 28 {
                let chain = journal.reader()?.chain_at(24)?.ok_or("the journal ends early")?;
                let position = Position { sequence: 24, chain };
                Snapshots::of(&folder).save(position, b"a state")?;
            }
        }
        println!("{} {}", journal.head().sequence, journal.head().chain);
    }
    fs::remove_file(folder.join("journal.lock"))?;
    Ok(())
}

fn record(sequence: u8) -> Vec<u8> {
    match sequence % 10 {
        0 => vec![0xff, sequence, 0, b'\n'],
        9 => Vec::new(),
        _ => format!("{{\"at\":{sequence},\"event\":\"job_submitted\"}}").into_bytes(),
    }
}
