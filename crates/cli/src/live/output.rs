//! What workers write, as it comes, on this command's own streams.

use std::collections::BTreeMap;
use std::io::Write;

use offtake_protocol::agent::{LogPiece, Stream};

/// A worker's stream.
type Source = (u32, Stream);

/// Prints pieces of output. Of several workers whole lines, so that lines of different workers do not mix.
#[derive(Default)]
pub struct Printer {
    /// What stands before each line of a rank.
    label: Option<fn(u32) -> String>,
    by_line: bool,
    /// The begun line of each stream.
    begun: BTreeMap<Source, String>,
    /// How far each stream has come, in bytes.
    seen: BTreeMap<Source, u64>,
    /// Up to where what comes has been printed before a connection was made anew.
    known: BTreeMap<Source, u64>,
}

/// A line without an end is printed once it is so long.
const LONGEST_LINE: usize = 64 << 10;

impl Printer {
    /// Prints all as it comes.
    pub fn plain() -> Self {
        Self::default()
    }

    /// Prints line by line.
    pub fn by_line() -> Self {
        Self { by_line: true, ..Self::default() }
    }

    /// Prints line by line, each with its worker's rank before it.
    pub fn labelled(label: fn(u32) -> String) -> Self {
        Self { label: Some(label), by_line: true, ..Self::default() }
    }

    /// Pieces come from the beginning again: what was printed is skipped.
    pub fn resume(&mut self) {
        self.known.clone_from(&self.seen);
    }

    /// Other streams come now: those of the next attempt.
    ///
    /// # Errors
    /// When the rest of a line cannot be printed.
    pub fn restart(&mut self, out: &mut impl Write, err: &mut impl Write) -> std::io::Result<()> {
        self.finish(out, err)?;
        self.seen.clear();
        self.known.clear();
        Ok(())
    }

    /// Prints a piece.
    ///
    /// # Errors
    /// When it cannot be printed.
    pub fn piece(&mut self, piece: &LogPiece, out: &mut impl Write, err: &mut impl Write) -> std::io::Result<()> {
        let source = (piece.rank, piece.stream);
        let text = self.new_part(source, piece).to_owned();
        self.seen.insert(source, piece.offset + piece.text.len() as u64);
        let to: &mut dyn Write = if piece.stream == Stream::Output { out } else { err };
        if !self.by_line {
            to.write_all(text.as_bytes())?;
            return to.flush();
        }
        let mut line = self.begun.remove(&source).unwrap_or_default();
        line.push_str(&text);
        while let Some(end) = line.find('\n') {
            let rest = line.split_off(end + 1);
            self.print(piece.rank, &line, to)?;
            line = rest;
        }
        if line.len() > LONGEST_LINE {
            self.print(piece.rank, &std::mem::take(&mut line), to)?;
        }
        if !line.is_empty() {
            self.begun.insert(source, line);
        }
        to.flush()
    }

    /// Prints lines that have not ended.
    ///
    /// # Errors
    /// When they cannot be printed.
    pub fn finish(&mut self, out: &mut impl Write, err: &mut impl Write) -> std::io::Result<()> {
        for ((rank, stream), line) in std::mem::take(&mut self.begun) {
            let to: &mut dyn Write = if stream == Stream::Output { &mut *out } else { &mut *err };
            self.print(rank, &format!("{line}\n"), to)?;
            to.flush()?;
        }
        Ok(())
    }

    fn print(&self, rank: u32, line: &str, to: &mut dyn Write) -> std::io::Result<()> {
        if let Some(label) = self.label {
            to.write_all(label(rank).as_bytes())?;
        }
        to.write_all(line.as_bytes())
    }

    /// What of a piece has not been printed. Where replaced bytes make the text longer than what was written, the
    /// count runs ahead of the stream; so it counts only up to where the connection was made anew.
    fn new_part<'a>(&mut self, source: Source, piece: &'a LogPiece) -> &'a str {
        let Some(known) = self.known.get(&source).copied() else {
            return &piece.text;
        };
        if piece.offset >= known {
            self.known.remove(&source);
            return &piece.text;
        }
        let skip = usize::try_from(known - piece.offset).unwrap_or(usize::MAX).min(piece.text.len());
        let boundary = (skip..=piece.text.len()).find(|at| piece.text.is_char_boundary(*at));
        &piece.text[boundary.unwrap_or(piece.text.len())..]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn piece(rank: u32, offset: u64, text: &str) -> LogPiece {
        LogPiece { rank, stream: Stream::Output, offset, text: text.to_owned() }
    }

    fn printed(mut printer: Printer, pieces: &[LogPiece]) -> String {
        let (mut out, mut err) = (Vec::new(), Vec::new());
        for piece in pieces {
            printer.piece(piece, &mut out, &mut err).expect("memory takes all");
        }
        printer.finish(&mut out, &mut err).expect("memory takes all");
        assert!(err.is_empty());
        String::from_utf8(out).expect("text was written")
    }

    #[test]
    fn one_worker_is_printed_as_it_writes() {
        assert_eq!(printed(Printer::plain(), &[piece(0, 0, "10%\r"), piece(0, 4, "20%")]), "10%\r20%");
    }

    #[test]
    fn lines_of_several_workers_do_not_mix() {
        let pieces =
            [piece(0, 0, "a"), piece(1, 0, "x\ny"), piece(0, 1, "b\n"), piece(1, 3, "z\n"), piece(0, 3, "end")];
        assert_eq!(
            printed(Printer::labelled(|rank| format!("[{rank}] ")), &pieces),
            "[1] x\n[0] ab\n[1] yz\n[0] end\n"
        );
        assert_eq!(printed(Printer::by_line(), &pieces), "x\nab\nyz\nend\n");
    }

    #[test]
    fn a_line_without_end_is_printed_all_the_same() {
        let long = "ü".repeat(LONGEST_LINE);
        let printed = printed(Printer::by_line(), &[piece(0, 0, &long)]);
        assert_eq!(printed.trim_end(), long);
    }

    #[test]
    fn what_was_printed_before_a_new_connection_is_skipped() {
        let (mut out, mut err) = (Vec::new(), Vec::new());
        let mut printer = Printer::plain();
        let mut print = |printer: &mut Printer, piece: LogPiece| {
            printer.piece(&piece, &mut out, &mut err).expect("memory takes all");
        };
        print(&mut printer, piece(0, 0, "grün "));
        printer.resume();
        print(&mut printer, piece(0, 0, "gr"));
        print(&mut printer, piece(0, 2, "ün ist"));
        print(&mut printer, piece(1, 0, "!"));
        print(&mut printer, piece(0, 9, " es"));
        assert_eq!(String::from_utf8(out).expect("text was written"), "grün ist! es");
    }

    #[test]
    fn errors_go_where_errors_go() {
        let (mut out, mut err) = (Vec::new(), Vec::new());
        let wrong = LogPiece { stream: Stream::Error, ..piece(0, 0, "wrong\n") };
        Printer::plain().piece(&wrong, &mut out, &mut err).expect("memory takes all");
        assert_eq!((out.as_slice(), err.as_slice()), (&b""[..], &b"wrong\n"[..]));
    }
}
