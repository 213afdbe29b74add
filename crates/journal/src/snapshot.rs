//! Snapshots: states that a fold need not begin before. They are disposable: without them the fold begins with the first
//! record.

use std::fs;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};

use flate2::Compression;
use flate2::read::ZlibDecoder;
use flate2::write::ZlibEncoder;

use crate::error::Error;
use crate::file;
use crate::hash::{Hash, Position};
use crate::reader::Reader;

/// How many are kept.
const KEPT: usize = 2;

/// The first bytes of a snapshot. Then come the sequence (8 bytes), the chain (32), the number of bytes (8), the bytes
/// packed with zlib, and the CRC-32 of all that is before it (4); numbers big-endian.
const MAGIC: &[u8; 8] = b"OftSnap1";

/// Bytes before what is packed.
const HEADER: usize = 8 + 8 + 32 + 8;

/// The snapshots beside a journal, `snapshots/` in its folder. The newest two are kept.
#[derive(Clone, Debug)]
pub struct Snapshots {
    folder: PathBuf,
}

/// A state, as the bytes that the caller made of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Snapshot {
    /// The last record that it has in it.
    pub position: Position,
    /// What was saved.
    pub bytes: Vec<u8>,
}

/// What [`Snapshots::latest`] found.
#[derive(Debug, Default)]
pub struct Found {
    /// The newest one that can be used.
    pub snapshot: Option<Snapshot>,
    /// Newer ones that cannot.
    pub skipped: Vec<Skipped>,
}

/// A snapshot that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Skipped {
    /// Its file.
    pub file: PathBuf,
    /// Why not.
    pub what: String,
}

impl Snapshots {
    /// The snapshots beside the journal in `folder`.
    pub fn of(folder: &Path) -> Self {
        Self { folder: folder.join("snapshots") }
    }

    /// Saves the state at `position`, whole or not at all, and removes older ones.
    ///
    /// # Errors
    /// It cannot be written. The others are as they were.
    pub fn save(&self, position: Position, bytes: &[u8]) -> Result<PathBuf, Error> {
        file::make_folder(&self.folder)?;
        let path = self.folder.join(format!("{:012}.snapshot", position.sequence));
        file::write_whole(&path, |output| {
            let packed = pack(position, bytes).map_err(Error::file(&path))?;
            output.write_all(&packed).map_err(Error::file(&path))
        })?;
        // One beyond this is of records that were cut off.
        let (beyond, older): (Vec<_>, Vec<_>) =
            self.list()?.into_iter().partition(|(sequence, _)| *sequence > position.sequence);
        for (_, path) in beyond.iter().chain(older.iter().skip(KEPT)) {
            fs::remove_file(path).map_err(Error::file(path))?;
        }
        Ok(path)
    }

    /// The newest snapshot of what `journal` has on disk. One that is damaged, or has records in it that the journal has
    /// not, is skipped.
    ///
    /// # Errors
    /// The folder or the journal cannot be read.
    pub fn latest(&self, journal: &Reader) -> Result<Found, Error> {
        let mut found = Found::default();
        for (sequence, path) in self.list()? {
            let what = match fs::read(&path).map_err(|error| error.to_string()).and_then(|packed| unpack(&packed)) {
                Err(what) => what,
                Ok(snapshot) if snapshot.position.sequence != sequence => "its name is another's".to_owned(),
                Ok(snapshot) => match journal.chain_at(sequence)? {
                    Some(chain) if chain == snapshot.position.chain => {
                        found.snapshot = Some(snapshot);
                        return Ok(found);
                    }
                    Some(_) => "the journal has other records".to_owned(),
                    None => "the journal ends before it".to_owned(),
                },
            };
            found.skipped.push(Skipped { file: path, what });
        }
        Ok(found)
    }

    /// The files and their sequences, the newest first.
    fn list(&self) -> Result<Vec<(u64, PathBuf)>, Error> {
        let failed = Error::file(&self.folder);
        let entries = match fs::read_dir(&self.folder) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries.map_err(&failed)?,
        };
        let mut list = Vec::new();
        for entry in entries {
            let path = entry.map_err(&failed)?.path();
            let is_snapshot = path.extension().is_some_and(|extension| extension == "snapshot");
            let sequence = path.file_stem().and_then(|stem| stem.to_str()).and_then(|stem| stem.parse().ok());
            list.extend(sequence.filter(|_| is_snapshot).map(|sequence| (sequence, path)));
        }
        list.sort_unstable();
        list.reverse();
        Ok(list)
    }
}

fn pack(position: Position, bytes: &[u8]) -> std::io::Result<Vec<u8>> {
    let mut packed = Vec::with_capacity(HEADER + bytes.len() / 4);
    packed.extend_from_slice(MAGIC);
    packed.extend_from_slice(&position.sequence.to_be_bytes());
    packed.extend_from_slice(&position.chain.0);
    packed.extend_from_slice(&(bytes.len() as u64).to_be_bytes());
    let mut encoder = ZlibEncoder::new(packed, Compression::fast());
    encoder.write_all(bytes)?;
    let mut packed = encoder.finish()?;
    let sum = crc32fast::hash(&packed);
    packed.extend_from_slice(&sum.to_be_bytes());
    Ok(packed)
}

fn unpack(packed: &[u8]) -> Result<Snapshot, String> {
    let (body, sum) = packed.split_last_chunk().ok_or("it ends early")?;
    if crc32fast::hash(body) != u32::from_be_bytes(*sum) {
        return Err("its checksum is wrong".to_owned());
    }
    let rest = body.strip_prefix(MAGIC).ok_or("it is no snapshot of this format")?;
    let (sequence, rest) = rest.split_first_chunk().ok_or("it ends early")?;
    let (chain, rest) = rest.split_first_chunk().ok_or("it ends early")?;
    let (length, rest) = rest.split_first_chunk().ok_or("it ends early")?;
    let length = u64::from_be_bytes(*length);
    let mut bytes = Vec::new();
    // One more than there should be shows that there are more.
    let read = ZlibDecoder::new(rest).take(length.saturating_add(1)).read_to_end(&mut bytes);
    read.map_err(|error| format!("what is packed is damaged: {error}"))?;
    if bytes.len() as u64 != length {
        return Err(format!("it has {} bytes, and {length} were saved", bytes.len()));
    }
    Ok(Snapshot { position: Position { sequence: u64::from_be_bytes(*sequence), chain: Hash(*chain) }, bytes })
}
