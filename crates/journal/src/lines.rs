//! Records as JSON Lines: the form of archived segments, exports and backups.

use std::borrow::Cow;
use std::io::{self, BufRead, Read, Write};
use std::path::{Path, PathBuf};

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::value::RawValue;

use crate::error::{Damage, Error};
use crate::frame::MAX_RECORD;
use crate::hash::Position;

const FORMAT: &str = "offtake-journal";
const VERSION: u32 = 1;

/// The most bytes of one line: the largest record as base64, and what stands around it.
const MAX_LINE: u64 = (MAX_RECORD / 3 * 4) as u64 + 1_024;

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Header<'t> {
    #[serde(borrow)]
    format: Cow<'t, str>,
    version: u32,
    first: u64,
    #[serde(borrow)]
    previous: Cow<'t, str>,
    epoch: u64,
}

#[derive(Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Body<'t> {
    #[serde(skip_serializing_if = "Option::is_none")]
    sequence: Option<u64>,
    /// The JSON `null` is a record too.
    #[serde(borrow, default, deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    record: Option<&'t RawValue>,
    #[serde(borrow, skip_serializing_if = "Option::is_none")]
    base64: Option<Cow<'t, str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    last: Option<u64>,
    #[serde(borrow, skip_serializing_if = "Option::is_none")]
    chain: Option<Cow<'t, str>>,
}

fn present<'t, D: Deserializer<'t>>(deserializer: D) -> Result<Option<&'t RawValue>, D::Error> {
    <&RawValue>::deserialize(deserializer).map(Some)
}

/// Writes records that follow each other.
pub(crate) struct LineWriter<W> {
    output: W,
    at: Position,
}

impl<W: Write> LineWriter<W> {
    /// Begins after `previous`.
    pub(crate) fn begin(mut output: W, previous: Position, epoch: u64) -> io::Result<Self> {
        let header = Header {
            format: FORMAT.into(),
            version: VERSION,
            first: previous.sequence + 1,
            previous: previous.chain.to_string().into(),
            epoch,
        };
        write_line(&mut output, &header)?;
        Ok(Self { output, at: previous })
    }

    /// Writes the next record.
    pub(crate) fn record(&mut self, record: &[u8]) -> io::Result<()> {
        self.at = self.at.after(record);
        let mut body = Body { sequence: Some(self.at.sequence), ..Body::default() };
        match one_line_json(record) {
            Some(json) => body.record = Some(json),
            None => body.base64 = Some(BASE64.encode(record).into()),
        }
        write_line(&mut self.output, &body)
    }

    /// Writes the end; returns what was written to, and the last position.
    pub(crate) fn end(mut self) -> io::Result<(W, Position)> {
        let chain = Some(self.at.chain.to_string().into());
        write_line(&mut self.output, &Body { last: Some(self.at.sequence), chain, ..Body::default() })?;
        Ok((self.output, self.at))
    }
}

fn write_line(output: &mut impl Write, line: &impl Serialize) -> io::Result<()> {
    serde_json::to_writer(&mut *output, line)?;
    output.write_all(b"\n")
}

/// The record as JSON that comes back byte for byte.
fn one_line_json(record: &[u8]) -> Option<&RawValue> {
    if record.contains(&b'\n') || record.contains(&b'\r') {
        return None;
    }
    let json: &RawValue = serde_json::from_slice(record).ok()?;
    // White space around a value is no part of it.
    Some(json).filter(|json| json.get().len() == record.len())
}

/// A line after the header.
#[derive(Debug)]
pub(crate) enum Line<'l> {
    /// A record and its sequence.
    Record(u64, &'l [u8]),
    /// The end. Nothing follows.
    End(Position),
}

/// Reads what [`LineWriter`] wrote and checks it: sequences, chain, and that it is whole.
#[derive(Debug)]
pub(crate) struct LineReader<R> {
    input: R,
    file: PathBuf,
    number: u64,
    line: Vec<u8>,
    record: Vec<u8>,
    before: Position,
    at: Position,
    epoch: u64,
}

impl<R: BufRead> LineReader<R> {
    /// Reads the header of `file`, whose content is `input`.
    pub(crate) fn begin(input: R, file: &Path) -> Result<Self, Error> {
        let (line, record) = (Vec::new(), Vec::new());
        let (before, at) = (Position::START, Position::START);
        let mut reader = Self { input, file: file.to_owned(), number: 0, line, record, before, at, epoch: 0 };
        reader.next_raw()?;
        let header: Header<'_> = serde_json::from_slice(&reader.line)
            .map_err(|error| reader.fault(format!("no header of a journal's export: {error}")))?;
        if header.format != FORMAT {
            return Err(reader.fault(format!("format \"{}\", where `{FORMAT}` is read", header.format)));
        }
        if header.version != VERSION {
            let what = format!(
                "version {}, and this release reads version {VERSION}: use the release that wrote the file",
                header.version
            );
            return Err(reader.fault(what));
        }
        let sequence = header.first.checked_sub(1).ok_or_else(|| reader.fault("records begin with 1".to_owned()))?;
        let chain = header.previous.parse().map_err(|error| reader.fault(format!("previous: {error}")))?;
        let before = Position { sequence, chain };
        (reader.epoch, reader.before, reader.at) = (header.epoch, before, before);
        Ok(reader)
    }

    /// The file that is read.
    pub(crate) fn file(&self) -> &Path {
        &self.file
    }

    /// The position before the first record.
    pub(crate) fn before(&self) -> Position {
        self.before
    }

    /// The position of the last record read.
    pub(crate) fn at(&self) -> Position {
        self.at
    }

    /// The journal's epoch when the file was written.
    pub(crate) fn epoch(&self) -> u64 {
        self.epoch
    }

    /// The next line. After the end there is none to ask for.
    pub(crate) fn next_line(&mut self) -> Result<Line<'_>, Error> {
        self.next_raw()?;
        let body: Body<'_> = serde_json::from_slice(&self.line)
            .map_err(|error| self.fault(format!("neither a record nor the end: {error}")))?;
        match body {
            Body { sequence: Some(sequence), record, base64, last: None, chain: None } => {
                if sequence != self.at.sequence + 1 {
                    return Err(self.fault(format!("record {sequence}, where {} is due", self.at.sequence + 1)));
                }
                self.record.clear();
                match (record, base64) {
                    (Some(json), None) => self.record.extend_from_slice(json.get().as_bytes()),
                    (None, Some(text)) => BASE64
                        .decode_vec(text.as_bytes(), &mut self.record)
                        .map_err(|error| self.fault(format!("base64: {error}")))?,
                    _ => return Err(self.fault("either `record` or `base64` is due".to_owned())),
                }
                if self.record.len() > MAX_RECORD {
                    return Err(self.fault(format!("a record is at most {MAX_RECORD} bytes")));
                }
                self.at = self.at.after(&self.record);
                Ok(Line::Record(sequence, &self.record))
            }
            Body { sequence: None, record: None, base64: None, last: Some(last), chain: Some(chain) } => {
                if last != self.at.sequence {
                    return Err(
                        self.fault(format!("the end is at record {last}, the last read was {}", self.at.sequence))
                    );
                }
                if chain.parse() != Ok(self.at.chain) {
                    return Err(self.fault("the hash chain does not fit: a record was changed".to_owned()));
                }
                self.expect_nothing_more()?;
                Ok(Line::End(self.at))
            }
            _ => Err(self.fault("neither a record nor the end".to_owned())),
        }
    }

    fn next_raw(&mut self) -> Result<(), Error> {
        self.number += 1;
        self.line.clear();
        let read = (&mut self.input).take(MAX_LINE).read_until(b'\n', &mut self.line);
        read.map_err(|error| self.unreadable(error))?;
        if self.line.pop() == Some(b'\n') {
            return Ok(());
        }
        Err(self.fault(match self.line.len() as u64 + 1 >= MAX_LINE {
            true => format!("a line is at most {MAX_LINE} bytes"),
            false => "the file ends early: it is not whole".to_owned(),
        }))
    }

    fn expect_nothing_more(&mut self) -> Result<(), Error> {
        match self.input.fill_buf().map(<[u8]>::is_empty) {
            Ok(true) => Ok(()),
            Ok(false) => Err(self.fault("something follows the end".to_owned())),
            Err(error) => Err(self.unreadable(error)),
        }
    }

    fn unreadable(&self, error: io::Error) -> Error {
        use io::ErrorKind::{InvalidData, InvalidInput, UnexpectedEof};
        match error.kind() {
            InvalidData | InvalidInput | UnexpectedEof => self.fault(format!("what is packed is damaged: {error}")),
            _ => Error::file(&self.file)(error),
        }
    }

    fn fault(&self, what: String) -> Error {
        Error::Import { file: self.file.clone(), line: self.number, what }
    }
}

impl Error {
    /// A fault in an archived segment is damage of the journal, at the record that was due.
    pub(crate) fn in_archive(self, sequence: u64) -> Self {
        match self {
            Self::Import { file, line, what } => {
                let what = format!("line {line}: {what}");
                Self::Damaged(Damage { file, records: Some((sequence, sequence)), what })
            }
            other => other,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(records: &[&[u8]]) -> Vec<u8> {
        let mut writer = LineWriter::begin(Vec::new(), Position::START, 7).expect("memory");
        for record in records {
            writer.record(record).expect("memory");
        }
        writer.end().expect("memory").0
    }

    fn read(bytes: &[u8]) -> Result<Vec<Vec<u8>>, Error> {
        let mut reader = LineReader::begin(bytes, Path::new("x.jsonl"))?;
        let mut records = Vec::new();
        loop {
            match reader.next_line()? {
                Line::Record(_, record) => records.push(record.to_vec()),
                Line::End(_) => return Ok(records),
            }
        }
    }

    const AWKWARD: &[&[u8]] = &[
        b"{\"a\":1}",
        b"{ \"a\" : 1.50e3,\t\"b\":\"\\u00e9\\ud800\" }",
        b" {}",
        b"{}\n",
        b"[\n]",
        b"null",
        b"true",
        b"",
        b"\xff\x00",
        b"not json",
        b"1 2",
        b"\"\xe2\x80\xa8\"",
    ];

    #[test]
    fn any_bytes_come_back() {
        let bytes = written(AWKWARD);
        assert_eq!(read(&bytes).expect("as written"), AWKWARD);
        let text = String::from_utf8(bytes).expect("JSON");
        assert!(text.contains("{\"sequence\":1,\"record\":{\"a\":1}}\n"), "{text}");
        assert!(text.contains("{\"sequence\":6,\"record\":null}\n"), "{text}");
        assert!(text.contains("{\"sequence\":8,\"base64\":\"\"}\n"), "{text}");
    }

    #[test]
    fn what_is_cut_or_changed_is_refused() {
        let bytes = written(AWKWARD);
        for end in 0..bytes.len() {
            assert!(read(&bytes[..end]).is_err(), "cut at {end}");
        }
        let text = String::from_utf8(bytes).expect("JSON");
        for (from, to) in [
            ("{\"a\":1}", "{\"a\":2}"),
            ("\"version\":1", "\"version\":2"),
            ("\"first\":1", "\"first\":0"),
            ("\"first\":1", "\"first\":2"),
            ("\"previous\":\"0", "\"previous\":\"1"),
            ("offtake-journal", "other"),
            ("\"sequence\":3", "\"sequence\":4"),
            ("\"last\":12", "\"last\":13"),
            ("\"base64\":\"\"", "\"base64\":\"?\""),
            ("\"record\":null", "\"record\":null,\"base64\":\"\""),
            ("\"record\":null", "\"more\":null"),
        ] {
            assert!(text.contains(from), "{from}");
            assert!(read(text.replacen(from, to, 1).as_bytes()).is_err(), "{from} → {to}");
        }
        assert!(read(format!("{text}\n").as_bytes()).is_err());
    }
}
