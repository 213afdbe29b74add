//! Output that the node keeps: each stream in files that follow each other. A file's name says where in the stream it
//! begins, so a reader's place in the stream stays right when old files go.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use offtake_protocol::agent::Stream;

use super::launch::LogLimits;

/// Times that a reader looks again when files go under its hands.
const ATTEMPTS: usize = 8;

/// A piece of a stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogChunk {
    /// Where in the stream it begins: where it was asked for, or later where that is not kept any more.
    pub offset: u64,
    /// What is there; empty at the end.
    pub bytes: Vec<u8>,
}

/// Reads output that the node keeps, from `offset` on and `limit` bytes at most. It may give less than there is: ask again
/// with the offset behind what came.
///
/// # Errors
/// If the worker's folder cannot be read.
pub fn log_read(dir: &Path, stream: Stream, offset: u64, limit: usize) -> io::Result<LogChunk> {
    for _ in 0..ATTEMPTS {
        match read_once(dir, stream, offset, limit) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            done => return done,
        }
    }
    read_once(dir, stream, offset, limit)
}

/// Where the output that the node keeps ends now: all that was ever kept of it, in bytes.
///
/// # Errors
/// If the worker's folder cannot be read.
pub fn log_end(dir: &Path, stream: Stream) -> io::Result<u64> {
    let Some((base, path)) = files(dir, stream)?.pop() else { return Ok(0) };
    Ok(base + fs::metadata(path)?.len())
}

fn read_once(dir: &Path, stream: Stream, offset: u64, limit: usize) -> io::Result<LogChunk> {
    let files = files(dir, stream)?;
    let mut from = offset;
    for (index, (base, path)) in files.iter().enumerate() {
        let ends_before = files.get(index + 1).is_some_and(|(next, _)| *next <= offset);
        if ends_before {
            continue;
        }
        from = from.max(*base);
        let mut file = File::open(path)?;
        file.seek(SeekFrom::Start(from - base))?;
        let mut bytes = Vec::new();
        file.take(u64::try_from(limit).unwrap_or(u64::MAX)).read_to_end(&mut bytes)?;
        if !bytes.is_empty() {
            return Ok(LogChunk { offset: from, bytes });
        }
    }
    Ok(LogChunk { offset: from, bytes: Vec::new() })
}

/// The files of a stream with where they begin, the oldest first.
fn files(dir: &Path, stream: Stream) -> io::Result<Vec<(u64, PathBuf)>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        let name = entry.file_name();
        let base = name.to_str().and_then(|name| {
            let number = name.strip_prefix(word(stream))?.strip_prefix('.')?.strip_suffix(".log")?;
            number.parse().ok()
        });
        if let Some(base) = base {
            found.push((base, entry.path()));
        }
    }
    found.sort_unstable();
    Ok(found)
}

fn word(stream: Stream) -> &'static str {
    match stream {
        Stream::Output => "output",
        Stream::Error => "error",
    }
}

/// A stream that is being written.
#[derive(Debug)]
pub(super) struct Log {
    dir: PathBuf,
    stream: Stream,
    limits: LogLimits,
    file: Option<File>,
    /// Where the newest file begins.
    base: u64,
    /// Its length.
    len: u64,
    /// Where the files that are kept begin, the oldest first.
    kept: Vec<u64>,
    lost: u64,
}

impl Log {
    pub fn new(dir: &Path, stream: Stream, limits: LogLimits) -> Self {
        let limits = LogLimits { file_bytes: limits.file_bytes.max(1), files: limits.files.max(1) };
        Self { dir: dir.to_path_buf(), stream, limits, file: None, base: 0, len: 0, kept: Vec::new(), lost: 0 }
    }

    /// Adds output. What cannot be written is dropped and counted: the worker must not wait for a full disk.
    pub fn write(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            match self.write_some(bytes) {
                Ok(written) => bytes = &bytes[written..],
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => {
                    self.lost = self.lost.saturating_add(u64::try_from(bytes.len()).unwrap_or(u64::MAX));
                    return;
                }
            }
        }
    }

    /// Bytes that were dropped.
    pub fn lost(&self) -> u64 {
        self.lost
    }

    fn write_some(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.file.is_some() && self.len >= self.limits.file_bytes {
            self.file = None;
            self.base += self.len;
            self.len = 0;
        }
        let file = match &mut self.file {
            Some(file) => file,
            None => {
                let file = OpenOptions::new().append(true).create(true).mode(0o600).open(self.path(self.base))?;
                if self.kept.last() != Some(&self.base) {
                    self.kept.push(self.base);
                }
                while self.kept.len() > usize::try_from(self.limits.files).unwrap_or(usize::MAX) {
                    let oldest = self.kept.remove(0);
                    // If it cannot be removed, the node keeps more than it need.
                    let _ = fs::remove_file(self.path(oldest));
                }
                self.file.insert(file)
            }
        };
        let room = usize::try_from(self.limits.file_bytes - self.len).unwrap_or(usize::MAX);
        let written = file.write(&bytes[..bytes.len().min(room)])?;
        self.len += u64::try_from(written).unwrap_or(u64::MAX);
        Ok(written)
    }

    fn path(&self, base: u64) -> PathBuf {
        self.dir.join(format!("{}.{base}.log", word(self.stream)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Folder;

    #[test]
    fn places_in_a_stream_stay_right_when_old_files_go() {
        let folder = Folder::new("logs");
        let dir = folder.path();
        let mut log = Log::new(dir, Stream::Output, LogLimits { file_bytes: 10, files: 2 });
        log.write(b"0123456789abcdefghij");
        assert_eq!(
            log_read(dir, Stream::Output, 4, 100).expect("read"),
            LogChunk { offset: 4, bytes: b"456789".to_vec() }
        );
        assert_eq!(
            log_read(dir, Stream::Output, 10, 3).expect("read"),
            LogChunk { offset: 10, bytes: b"abc".to_vec() }
        );

        log.write(b"ABC");
        assert_eq!(log_end(dir, Stream::Output).expect("read"), 23);
        let after_loss = log_read(dir, Stream::Output, 4, 100).expect("read");
        assert_eq!(after_loss, LogChunk { offset: 10, bytes: b"abcdefghij".to_vec() }, "the first ten are gone");
        assert_eq!(log_read(dir, Stream::Output, 20, 100).expect("read").bytes, b"ABC");
        assert_eq!(log_read(dir, Stream::Output, 23, 100).expect("read"), LogChunk { offset: 23, bytes: Vec::new() });
        assert_eq!(log_end(dir, Stream::Error).expect("read"), 0);
    }

    #[test]
    fn a_disk_that_cannot_be_written_loses_output_and_says_how_much() {
        let mut log = Log::new(Path::new("/nonexistent"), Stream::Error, LogLimits::default());
        log.write(b"hello");
        log.write(b"world");
        assert_eq!(log.lost(), 10);
    }
}
