//! Lines of a file, plain or gzip, in bounded memory.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Cursor, Read};
use std::path::{Path, PathBuf};

use flate2::bufread::MultiGzDecoder;

use super::{InputError, Place};

/// How much is read before a file is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of one line.
    pub line_bytes: usize,
    /// Bytes of the whole, uncompressed.
    pub total_bytes: u64,
}

impl Default for Limits {
    /// 1 MiB a line: a job of a thousand gangs needs a tenth of it. 4 GiB in all: ten million jobs.
    fn default() -> Self {
        Self { line_bytes: 1 << 20, total_bytes: 4 << 30 }
    }
}

/// A line of a file.
#[derive(Clone, Copy, Debug)]
pub struct Line<'a> {
    /// The file, as it was named.
    pub file: &'a Path,
    /// The line, counted from 1.
    pub number: u64,
    /// What it says, without its end.
    pub text: &'a str,
}

impl Line<'_> {
    /// Where the line is, for an error.
    pub fn place(&self) -> Place {
        Place { file: self.file.to_owned(), line: self.number }
    }
}

/// The lines of a file. Line ends are `\n` or `\r\n`; a byte order mark at the beginning is skipped.
pub struct Lines<'a> {
    source: Box<dyn BufRead + 'a>,
    compressed: bool,
    file: PathBuf,
    limits: Limits,
    line: u64,
    total_bytes: u64,
    buffer: Vec<u8>,
    put_back: bool,
}

impl<'a> Lines<'a> {
    /// Opens a file.
    ///
    /// # Errors
    /// When it cannot be opened or read.
    pub fn open(path: &Path) -> Result<Self, InputError> {
        let file = File::open(path).map_err(|source| InputError::Open { file: path.to_owned(), source })?;
        Self::new(file, path, Limits::default())
    }

    /// The lines of any source; `name` stands for it in errors. Gzip is known by its first two bytes.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn new(mut source: impl Read + 'a, name: &Path, limits: Limits) -> Result<Self, InputError> {
        const BUFFER_BYTES: usize = 1 << 16;
        const GZIP_MAGIC: [u8; 2] = [0x1f, 0x8b];
        let mut head = Vec::new();
        (&mut source)
            .take(2)
            .read_to_end(&mut head)
            .map_err(|source| InputError::Read { at: Place { file: name.to_owned(), line: 1 }, source })?;
        let compressed = head == GZIP_MAGIC;
        let whole = BufReader::with_capacity(BUFFER_BYTES, Cursor::new(head).chain(source));
        let source: Box<dyn BufRead + 'a> = if compressed {
            Box::new(BufReader::with_capacity(BUFFER_BYTES, MultiGzDecoder::new(whole)))
        } else {
            Box::new(whole)
        };
        Ok(Self {
            source,
            compressed,
            file: name.to_owned(),
            limits,
            line: 0,
            total_bytes: 0,
            buffer: Vec::new(),
            put_back: false,
        })
    }

    /// The file, as it was named.
    pub fn file(&self) -> &Path {
        &self.file
    }

    /// The line that was read last.
    pub fn place(&self) -> Place {
        Place { file: self.file.clone(), line: self.line.max(1) }
    }

    /// Gives the line that was read last once more.
    pub fn put_back(&mut self) {
        self.put_back = self.line > 0;
    }

    /// The next line that is not blank; nothing at the end of the file.
    ///
    /// # Errors
    /// When a limit is passed, the text is not UTF-8, or the file cannot be read on.
    pub fn next_line(&mut self) -> Result<Option<Line<'_>>, InputError> {
        let mut ready = std::mem::take(&mut self.put_back);
        while !ready {
            if !self.fill()? {
                return Ok(None);
            }
            ready = !self.buffer.iter().all(u8::is_ascii_whitespace);
        }
        match std::str::from_utf8(&self.buffer) {
            Ok(text) => Ok(Some(Line { file: &self.file, number: self.line, text })),
            Err(wrong) => Err(InputError::NotUtf8 {
                at: Place { file: self.file.clone(), line: self.line },
                byte: wrong.valid_up_to() + 1,
            }),
        }
    }

    /// Fills the buffer with the next line; false at the end.
    fn fill(&mut self) -> Result<bool, InputError> {
        self.buffer.clear();
        self.line += 1;
        loop {
            let chunk = match self.source.fill_buf() {
                Ok(chunk) => chunk,
                Err(interrupted) if interrupted.kind() == io::ErrorKind::Interrupted => continue,
                Err(source) => return Err(self.broken(source)),
            };
            if chunk.is_empty() {
                if self.buffer.is_empty() {
                    // The last line that was read is the one that errors about the whole file point to.
                    self.line -= 1;
                    return Ok(false);
                }
                break;
            }
            let end = chunk.iter().position(|byte| *byte == b'\n');
            let part = &chunk[..end.unwrap_or(chunk.len())];
            if self.buffer.len() + part.len() > self.limits.line_bytes {
                return Err(InputError::LineTooLong { at: self.place(), limit: self.limits.line_bytes });
            }
            self.buffer.extend_from_slice(part);
            let used = part.len() + usize::from(end.is_some());
            self.source.consume(used);
            self.total_bytes += used as u64;
            if self.total_bytes > self.limits.total_bytes {
                return Err(InputError::TooLarge { at: self.place(), limit: self.limits.total_bytes });
            }
            if end.is_some() {
                break;
            }
        }
        if self.buffer.last() == Some(&b'\r') {
            self.buffer.pop();
        }
        if self.line == 1 && self.buffer.starts_with("\u{feff}".as_bytes()) {
            self.buffer.drain(..3);
        }
        Ok(true)
    }

    fn broken(&self, source: io::Error) -> InputError {
        let at = self.place();
        match source.kind() {
            io::ErrorKind::UnexpectedEof if self.compressed => InputError::Truncated { at },
            io::ErrorKind::InvalidInput | io::ErrorKind::InvalidData if self.compressed => {
                InputError::Damaged { at, source }
            }
            _ => InputError::Read { at, source },
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use flate2::Compression;
    use flate2::write::GzEncoder;

    use super::*;

    fn all(bytes: &[u8], limits: Limits) -> Result<Vec<(u64, String)>, InputError> {
        let mut lines = Lines::new(bytes, Path::new("x"), limits)?;
        let mut read = Vec::new();
        while let Some(line) = lines.next_line()? {
            read.push((line.number, line.text.to_owned()));
        }
        Ok(read)
    }

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
        encoder.write_all(bytes).expect("memory takes all");
        encoder.finish().expect("memory takes all")
    }

    #[test]
    fn lines_end_in_any_way_and_blank_ones_are_counted_but_skipped() {
        let text = "\u{feff}a\r\n\n  \nb\nc".as_bytes();
        let expected = vec![(1, "a".to_owned()), (4, "b".to_owned()), (5, "c".to_owned())];
        assert_eq!(all(text, Limits::default()).expect("plain"), expected);
        assert_eq!(all(&gzip(text), Limits::default()).expect("gzip"), expected);
        let twice = [gzip(b"a\n"), gzip(b"b\n")].concat();
        assert_eq!(all(&twice, Limits::default()).expect("two members").len(), 2);
        assert!(all(b"", Limits::default()).expect("empty").is_empty());
    }

    #[test]
    fn an_endless_line_is_refused_before_it_is_held() {
        let endless = io::repeat(b'x');
        let mut lines = Lines::new(endless, Path::new("x"), Limits::default()).expect("opens");
        assert!(matches!(lines.next_line(), Err(InputError::LineTooLong { limit: 1_048_576, .. })));
    }

    #[test]
    fn a_compressed_bomb_is_refused() {
        let bomb = gzip(&vec![b'\n'; 1 << 20]);
        let limits = Limits { line_bytes: 100, total_bytes: 1 << 16 };
        assert!(matches!(all(&bomb, limits), Err(InputError::TooLarge { .. })));
    }

    #[test]
    fn cut_and_damaged_gzip_is_told_apart_from_the_end() {
        let good = gzip(b"first\nsecond\nthird\n");
        for cut in 2..good.len() {
            let error = all(&good[..cut], Limits::default()).expect_err("cut");
            assert!(matches!(error, InputError::Truncated { .. } | InputError::Damaged { .. }), "{cut}: {error:?}");
        }
        let mut bad = good.clone();
        let last = bad.len() - 6;
        bad[last] ^= 0xff;
        assert!(matches!(all(&bad, Limits::default()), Err(InputError::Damaged { .. })));
    }

    #[test]
    fn what_is_not_utf8_is_refused_with_its_byte() {
        assert!(matches!(all(b"ok\nab\xff", Limits::default()), Err(InputError::NotUtf8 { byte: 3, .. })));
    }
}
