//! `offtake journal`: the store checked, copied and made anew.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::PathBuf;

use anyhow::Context;
use clap::{Args, Subcommand};
use offtake_journal::{Hash, Journal, Position, Reader, Report, Snapshots, Wanted};
use serde::Serialize;

use crate::context::Surroundings;
use crate::terminal::{BadInput, grouped, print, print_json};

#[derive(Subcommand)]
pub enum Command {
    /// Show that nothing that was written is lost or changed
    Verify {
        /// The hash of an earlier day, kept elsewhere: look for it too
        #[arg(long, value_name = "HASH")]
        head: Option<Hash>,
        #[command(flatten)]
        store: Store,
    },
    /// Write records as JSON Lines
    Export {
        /// The first record
        #[arg(long, value_name = "N", default_value_t = 1)]
        from: u64,
        /// The last record [default: the last there is]
        #[arg(long, value_name = "N")]
        until: Option<u64>,
        /// The file, which must not exist [default: standard output]
        #[arg(long, short, value_name = "FILE")]
        output: Option<PathBuf>,
        #[command(flatten)]
        store: Store,
    },
    /// Write everything to one packed file; the server may run meanwhile
    Backup {
        /// The file, which must not exist
        file: PathBuf,
        #[command(flatten)]
        store: Store,
    },
    /// Make a journal from a backup, or from exports that follow each other
    Restore {
        /// The files, the first first
        #[arg(required = true)]
        files: Vec<PathBuf>,
        #[command(flatten)]
        store: Store,
    },
    /// Move records that a snapshot covers to packed files; the server must not run
    Compact {
        /// The last record to be moved [default: the last that the newest snapshot covers]
        #[arg(long, value_name = "N")]
        until: Option<u64>,
        #[command(flatten)]
        store: Store,
    },
}

/// Where the journal is.
#[derive(Args)]
pub struct Store {
    /// The server's folder of data
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// The folder of the journal in a server's folder of data.
const FOLDER: &str = "journal";

impl Store {
    fn folder(&self) -> anyhow::Result<PathBuf> {
        let data = match &self.data {
            Some(data) => data.clone(),
            None => Surroundings::of_process().data_folder()?,
        };
        // The journal's own folder will do too.
        Ok(if data.join("journal.sqlite").exists() { data } else { data.join(FOLDER) })
    }
}

/// What was checked, copied or made.
#[derive(Serialize)]
struct Told {
    folder: PathBuf,
    #[serde(skip_serializing_if = "Option::is_none")]
    file: Option<PathBuf>,
    /// The last record that it is about.
    sequence: u64,
    /// The chain up to there: to be kept elsewhere.
    head: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    sound: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    damage: Option<String>,
    /// Where the hash that was asked for stands.
    #[serde(skip_serializing_if = "Option::is_none")]
    found_at: Option<u64>,
}

impl Told {
    fn of(folder: PathBuf, end: Position) -> Self {
        Self {
            folder,
            file: None,
            sequence: end.sequence,
            head: end.chain.to_string(),
            sound: None,
            damage: None,
            found_at: None,
        }
    }

    fn print(&self, json: bool, text: &str) -> anyhow::Result<()> {
        if json { print_json(self) } else { print(&format!("{text}\nhead {}\n", self.head)) }
    }
}

pub fn run(command: &Command) -> anyhow::Result<()> {
    match command {
        Command::Verify { head, store } => verify(*head, store),
        Command::Export { from, until, output, store } => export(*from, *until, output.as_ref(), store),
        Command::Backup { file, store } => {
            let folder = store.folder()?;
            let done = offtake_journal::backup(&folder, file)?;
            let told = Told { file: Some(file.clone()), ..Told::of(folder, done.head) };
            told.print(store.json, &format!("{} records written to {}", grouped(done.head.sequence), file.display()))
        }
        Command::Restore { files, store } => {
            let folder = store.folder()?;
            std::fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
            let done = offtake_journal::restore(files, &folder)?;
            let text = format!("{} records restored to {}", grouped(done.head.sequence), folder.display());
            Told::of(folder, done.head).print(store.json, &text)
        }
        Command::Compact { until, store } => compact(*until, store),
    }
}

fn verify(wanted: Option<Hash>, store: &Store) -> anyhow::Result<()> {
    let folder = store.folder()?;
    let report = offtake_journal::verify(&folder, wanted)?;
    let told = Told {
        sound: Some(report.is_good()),
        damage: report.damage.as_ref().map(ToString::to_string),
        found_at: match report.wanted {
            Some(Wanted::At(sequence)) => Some(sequence),
            Some(Wanted::Missing) | None => None,
        },
        ..Told::of(folder, report.sound)
    };
    told.print(store.json, &sentences(&report))?;
    if report.is_good() { Ok(()) } else { Err(anyhow::anyhow!("the journal is not as it was written")) }
}

/// What a check found, a sentence a line.
fn sentences(report: &Report) -> String {
    let end = grouped(report.sound.sequence);
    let mut text = match &report.damage {
        None => format!("All {end} records are as they were written; {} are archived.", grouped(report.archived)),
        Some(damage) => format!("Records up to {end} are as they were written. {damage}."),
    };
    match report.wanted {
        Some(Wanted::At(sequence)) => {
            text += &format!("\nThe hash is that of record {}: nothing up to there was changed.", grouped(sequence));
        }
        Some(Wanted::Missing) => {
            text += "\nNo record has the hash: the journal was cut or rewritten, or is another one.";
        }
        None => {}
    }
    text
}

fn export(from: u64, until: Option<u64>, output: Option<&PathBuf>, store: &Store) -> anyhow::Result<()> {
    let folder = store.folder()?;
    let Some(file) = output else {
        if store.json {
            return Err(
                BadInput("--json: name a file with --output: the records go to standard output".to_owned()).into()
            );
        }
        offtake_journal::export(&folder, from, until, std::io::stdout().lock())?;
        return Ok(());
    };
    let cannot = || format!("cannot write {}", file.display());
    let mut out = BufWriter::new(File::create_new(file).with_context(cannot)?);
    let done = offtake_journal::export(&folder, from, until, &mut out)
        .map_err(anyhow::Error::from)
        .and_then(|done| out.flush().with_context(cannot).map(|()| done))
        // A file without its end would be taken for an export.
        .inspect_err(|_| drop(std::fs::remove_file(file)))?;
    let count = (done.head.sequence + 1).saturating_sub(done.first);
    let told = Told { file: Some(file.clone()), ..Told::of(folder, done.head) };
    told.print(store.json, &format!("{} records written to {}", grouped(count), file.display()))
}

fn compact(until: Option<u64>, store: &Store) -> anyhow::Result<()> {
    let folder = store.folder()?;
    // Opening would make a journal where there is none.
    let reader = Reader::open(&folder)?;
    let covered = Snapshots::of(&folder).latest(&reader)?.snapshot.map_or(0, |snapshot| snapshot.position.sequence);
    let until = until.unwrap_or(covered);
    let mut journal = Journal::open(&folder)?.journal;
    let moved: u64 = journal.compact(until)?.iter().map(|segment| segment.last + 1 - segment.first).sum();
    let text = match moved {
        0 => "No record is covered by a snapshot and not yet archived.".to_owned(),
        moved => format!("{} records moved to {}", grouped(moved), folder.join("archive").display()),
    };
    Told::of(folder, journal.head()).print(store.json, &text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_check_finds_is_said_in_sentences() {
        let sound = Position { sequence: 1200, chain: Hash::ZERO };
        let good = Report { sound, archived: 1000, wanted: Some(Wanted::At(7)), damage: None };
        assert_eq!(
            sentences(&good),
            "All 1,200 records are as they were written; 1,000 are archived.\n\
             The hash is that of record 7: nothing up to there was changed."
        );
        let damage = offtake_journal::Damage {
            file: "journal.sqlite".into(),
            records: Some((1201, 1201)),
            what: "its checksum is wrong".to_owned(),
        };
        let bad = sentences(&Report { damage: Some(damage), wanted: Some(Wanted::Missing), ..good });
        assert!(bad.starts_with("Records up to 1,200 are as they were written. journal.sqlite is damaged"), "{bad}");
        assert!(bad.ends_with("or is another one."), "{bad}");
    }
}
