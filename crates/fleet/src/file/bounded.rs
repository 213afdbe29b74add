//! Files read without trusting their size: a limit on the whole of a fleet file, and on each line of a node list.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::Path;

use flate2::read::MultiGzDecoder;

use crate::FleetError;

/// The largest fleet file. One that needs more wants a node list.
pub const MAX_FILE_BYTES: u64 = 4 << 20;
/// The longest line of a node list.
pub const MAX_LINE_BYTES: usize = 1 << 20;

/// The text of a fleet file.
pub(super) fn text(path: &Path) -> Result<String, FleetError> {
    let file = path.display().to_string();
    let fault = |line, message: String, source| FleetError {
        file: file.clone(),
        line,
        column: None,
        field: None,
        message,
        source,
    };
    let mut bytes = Vec::new();
    File::open(path)
        .and_then(|open| open.take(MAX_FILE_BYTES + 1).read_to_end(&mut bytes))
        .map_err(|error| fault(None, unreadable(&error), Some(error)))?;
    if bytes.len() as u64 > MAX_FILE_BYTES {
        let message = format!("is larger than {} MiB: list many nodes in a CSV file instead", MAX_FILE_BYTES >> 20);
        return Err(fault(None, message, None));
    }
    String::from_utf8(bytes).map_err(|error| {
        let valid = &error.as_bytes()[..error.utf8_error().valid_up_to()];
        let line = valid.iter().filter(|byte| **byte == b'\n').count() as u64 + 1;
        fault(Some(line), "is not UTF-8 text: save the file as UTF-8".to_owned(), None)
    })
}

/// What to say about a file that cannot be read; the system's own words follow as the source.
pub(super) fn unreadable(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::NotFound => "no such file".to_owned(),
        _ => "cannot be read".to_owned(),
    }
}

/// The bytes of a node list, unpacked where they are gzip, never more than a line's limit between two records.
pub(super) struct Lines {
    inner: Box<dyn Read>,
    left: usize,
}

/// Why [`Lines`] stopped; carried inside an [`io::Error`].
#[derive(Debug, thiserror::Error)]
#[error("a line is longer than 1 MiB")]
pub(super) struct LineTooLong;

impl Lines {
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        let mut file = BufReader::new(File::open(path)?);
        let packed = file.fill_buf()?.starts_with(&[0x1f, 0x8b]);
        let inner: Box<dyn Read> = if packed { Box::new(MultiGzDecoder::new(file)) } else { Box::new(file) };
        Ok(Self { inner, left: MAX_LINE_BYTES })
    }

    /// Allows another line: to be called after each record.
    pub(super) fn refill(&mut self) {
        self.left = MAX_LINE_BYTES;
    }
}

impl Read for Lines {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.left == 0 {
            return Err(io::Error::new(io::ErrorKind::InvalidData, LineTooLong));
        }
        let most = buffer.len().min(self.left);
        let read = self.inner.read(&mut buffer[..most])?;
        self.left -= read;
        Ok(read)
    }
}
