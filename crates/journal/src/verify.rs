//! Showing that nothing that was written is lost or changed.

use std::path::Path;

use crate::error::{Damage, Error};
use crate::hash::{Hash, Position};
use crate::reader::{Check, Reader};

/// What a check of a whole journal found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// The last record that is as it was written, and all before it; the head, where nothing is damaged.
    pub sound: Position,
    /// How many of these are in archived segments.
    pub archived: u64,
    /// What became of the hash that was asked for.
    pub wanted: Option<Wanted>,
    /// The first damaged place.
    pub damage: Option<Damage>,
}

/// What became of a hash that was kept outside the journal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// It is the chain at this sequence: nothing up to there was changed since it was noted down.
    At(u64),
    /// No sound record has it: the journal was cut or rewritten, or it is another journal.
    Missing,
}

impl Report {
    /// Whether nothing is damaged and the hash asked for was found.
    pub fn is_good(&self) -> bool {
        self.damage.is_none() && self.wanted != Some(Wanted::Missing)
    }
}

/// Reads the whole journal in `folder` and checks sequences, checksums, chain and SQLite's own structure; looks for the
/// hash `wanted`, the head of any earlier day. It may be appended to meanwhile.
///
/// # Errors
/// There is no journal, or it cannot be read at all. Damage is no error here, but in the report.
pub fn verify(folder: &Path, wanted: Option<Hash>) -> Result<Report, Error> {
    let reader = Reader::open(folder)?;
    let mut report =
        Report { sound: Position::START, archived: 0, wanted: wanted.map(|_| Wanted::Missing), damage: None };
    match check(&reader, wanted, &mut report) {
        Ok(()) => {}
        Err(Error::Damaged(damage)) => report.damage = Some(damage),
        Err(error) => return Err(error),
    }
    Ok(report)
}

fn check(reader: &Reader, wanted: Option<Hash>, report: &mut Report) -> Result<(), Error> {
    let head = reader.head()?.sequence;
    let archived = reader.segments()?.last().map_or(0, |segment| segment.last);
    if wanted == Some(Hash::ZERO) {
        report.wanted = Some(Wanted::At(0));
    }
    for chunk in reader.read(1, Check::Chain).until(head) {
        for (_, record) in chunk?.iter() {
            report.sound = report.sound.after(record);
            if Some(report.sound.chain) == wanted {
                report.wanted = Some(Wanted::At(report.sound.sequence));
            }
        }
        report.archived = report.sound.sequence.min(archived);
    }
    reader.check_structure()
}
