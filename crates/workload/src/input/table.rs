//! CSV, one record a line.
//!
//! A field may be quoted; a quoted field may hold commas and doubled quotes, but no line break, so that a record is
//! never longer than a line may be and an unclosed quote cannot swallow the rest of a file.

use std::borrow::Cow;
use std::io::{self, Write};
use std::str::FromStr;

use super::{InputError, Line, Lines, Place, excerpt};

/// A column of a format.
#[derive(Clone, Copy, Debug)]
pub struct Column {
    /// Its name.
    pub name: &'static str,
    /// Whether a table without it is refused.
    pub required: bool,
}

impl Column {
    /// A column that must be there.
    pub const fn required(name: &'static str) -> Self {
        Self { name, required: true }
    }

    /// A column that may be left out.
    pub const fn optional(name: &'static str) -> Self {
        Self { name, required: false }
    }
}

/// A CSV file: column names, then rows of as many fields.
pub struct Table<'a> {
    lines: Lines<'a>,
    names: Vec<String>,
}

impl<'a> Table<'a> {
    /// Reads the column names.
    ///
    /// # Errors
    /// When the file is empty or a column has no name or occurs twice.
    pub fn new(mut lines: Lines<'a>) -> Result<Self, InputError> {
        let file = lines.file().to_owned();
        let Some(line) = lines.next_line()? else {
            return Err(InputError::Empty { file });
        };
        let names = split(line.text).map(|fields| fields.into_iter().map(Cow::into_owned).collect::<Vec<_>>());
        let names = names.ok_or_else(|| InputError::Quote { at: lines.place() })?;
        // Sorted, as a line of a mebibyte may hold half a million names.
        let mut sorted: Vec<&String> = names.iter().collect();
        sorted.sort_unstable();
        if let Some(pair) = sorted.windows(2).find(|pair| pair[0] == pair[1]) {
            return Err(InputError::RepeatedColumn { at: lines.place(), column: excerpt(pair[0]) });
        }
        Ok(Self { lines, names })
    }

    /// The names of the columns, as they stand.
    pub fn names(&self) -> &[String] {
        &self.names
    }

    /// The line that was read last, for an error.
    pub fn place(&self) -> Place {
        self.lines.place()
    }

    /// Where each column of a format stands in this table.
    ///
    /// # Errors
    /// When there is a column that is not of the format, or one that it needs is not there.
    pub fn positions<const N: usize>(&self, columns: &[Column; N]) -> Result<[Option<usize>; N], InputError> {
        if let Some(unknown) = self.names.iter().find(|name| columns.iter().all(|column| column.name != *name)) {
            let allowed: Vec<_> = columns.iter().map(|column| format!("`{}`", column.name)).collect();
            return Err(InputError::UnknownColumn {
                at: self.lines.place(),
                given: excerpt(unknown),
                allowed: allowed.join(", "),
            });
        }
        let positions = columns.map(|column| self.names.iter().position(|name| name == column.name));
        let missing = columns.iter().zip(&positions).find(|(column, at)| column.required && at.is_none());
        match missing {
            Some((column, _)) => Err(InputError::MissingColumn {
                at: self.lines.place(),
                column: column.name.to_owned(),
                given: excerpt(&self.names.join(", ")),
            }),
            None => Ok(positions),
        }
    }

    /// The next row; nothing at the end of the file.
    ///
    /// # Errors
    /// When the row has more or fewer fields than there are columns, or cannot be read.
    pub fn next_row(&mut self) -> Result<Option<Row<'_>>, InputError> {
        let Some(line) = self.lines.next_line()? else {
            return Ok(None);
        };
        let fields = split(line.text).ok_or_else(|| InputError::Quote { at: line.place() })?;
        if fields.len() != self.names.len() {
            return Err(InputError::RowWidth { at: line.place(), given: fields.len(), allowed: self.names.len() });
        }
        Ok(Some(Row { line, names: &self.names, fields }))
    }
}

/// A row of a table.
pub struct Row<'a> {
    line: Line<'a>,
    names: &'a [String],
    fields: Vec<Cow<'a, str>>,
}

impl Row<'_> {
    /// Where the row is, for an error.
    pub fn place(&self) -> Place {
        self.line.place()
    }

    /// The line of the row, counted from 1.
    pub fn number(&self) -> u64 {
        self.line.number
    }

    /// The text at a position; empty where the column was left out.
    pub fn text(&self, position: Option<usize>) -> &str {
        position.and_then(|at| self.fields.get(at)).map_or("", |field| field)
    }

    /// The value at a position; nothing where it is empty.
    ///
    /// # Errors
    /// When it cannot be read as what is `allowed`.
    pub fn value<T: FromStr>(&self, position: Option<usize>, allowed: &str) -> Result<Option<T>, InputError> {
        match self.text(position) {
            "" => Ok(None),
            text => text.parse().map(Some).map_err(|_| self.wrong(position, allowed)),
        }
    }

    /// The value at a position, which may not be empty.
    ///
    /// # Errors
    /// When it is empty or cannot be read as what is `allowed`.
    pub fn needed<T: FromStr>(&self, position: Option<usize>, allowed: &str) -> Result<T, InputError> {
        self.value(position, allowed)?.ok_or_else(|| self.wrong(position, allowed))
    }

    /// The error of a field that is not what is `allowed`.
    pub fn wrong(&self, position: Option<usize>, allowed: &str) -> InputError {
        InputError::Field {
            at: self.place(),
            field: excerpt(position.and_then(|at| self.names.get(at)).map_or("", String::as_str)),
            given: excerpt(self.text(position)),
            allowed: allowed.to_owned(),
        }
    }
}

/// The fields of a line; nothing when a quote does not belong where it is.
fn split(line: &str) -> Option<Vec<Cow<'_, str>>> {
    let mut fields = Vec::new();
    let mut rest = line;
    loop {
        let (field, after) = match rest.strip_prefix('"') {
            Some(quoted) => take_quoted(quoted)?,
            None => {
                let end = rest.find(',').unwrap_or(rest.len());
                (Cow::Borrowed(&rest[..end]), &rest[end..])
            }
        };
        if matches!(&field, Cow::Borrowed(plain) if !rest.starts_with('"') && plain.contains('"')) {
            return None;
        }
        fields.push(field);
        match after.strip_prefix(',') {
            Some(next) => rest = next,
            None => return after.is_empty().then_some(fields),
        }
    }
}

/// The field whose opening quote was just taken, and what follows its closing quote.
fn take_quoted(text: &str) -> Option<(Cow<'_, str>, &str)> {
    let mut searched = 0;
    let mut doubled = false;
    loop {
        let quote = searched + text[searched..].find('"')?;
        let after = &text[quote + 1..];
        if after.starts_with('"') {
            doubled = true;
            searched = quote + 2;
            continue;
        }
        let inside = &text[..quote];
        let field = if doubled { Cow::Owned(inside.replace("\"\"", "\"")) } else { Cow::Borrowed(inside) };
        return Some((field, after));
    }
}

/// Writes a row, quoting the fields that need it. A field may hold no line break.
///
/// # Errors
/// When the output fails.
pub fn write_row<'f>(out: &mut impl Write, fields: impl IntoIterator<Item = &'f str>) -> io::Result<()> {
    for (index, field) in fields.into_iter().enumerate() {
        if index > 0 {
            out.write_all(b",")?;
        }
        if field.contains(['"', ',']) {
            write!(out, "\"{}\"", field.replace('"', "\"\""))?;
        } else {
            out.write_all(field.as_bytes())?;
        }
    }
    out.write_all(b"\n")
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::input::Limits;

    #[test]
    fn a_line_is_split_as_it_was_joined() {
        let cases: [(&str, Option<&[&str]>); 9] = [
            ("a,b", Some(&["a", "b"])),
            (",", Some(&["", ""])),
            ("\"a,b\",c", Some(&["a,b", "c"])),
            ("\"a \"\"b\"\"\"", Some(&["a \"b\""])),
            ("\"\"", Some(&[""])),
            ("a\"b", None),
            ("\"a", None),
            ("\"a\"b", None),
            ("\"\"\"", None),
        ];
        for (line, expected) in cases {
            let fields = split(line);
            assert_eq!(fields.as_ref().map(|all| all.iter().map(|f| &**f).collect::<Vec<_>>()).as_deref(), expected);
            if let Some(fields) = fields {
                let mut joined = Vec::new();
                write_row(&mut joined, fields.iter().map(|f| &**f)).expect("memory takes all");
                let joined = String::from_utf8(joined).expect("text");
                assert_eq!(split(joined.trim_end_matches('\n')), Some(fields));
            }
        }
    }

    #[test]
    fn columns_are_known_present_and_single() {
        let columns = [Column::required("a"), Column::optional("b")];
        let positions = |text: &'static str| {
            let lines = Lines::new(text.as_bytes(), Path::new("x"), Limits::default())?;
            Table::new(lines)?.positions(&columns)
        };
        assert_eq!(positions("b,a\n").expect("any order"), [Some(1), Some(0)]);
        assert_eq!(positions("a\n").expect("b may be left out"), [Some(0), None]);
        assert!(matches!(positions("a,c\n"), Err(InputError::UnknownColumn { .. })));
        assert!(matches!(positions("b\n"), Err(InputError::MissingColumn { .. })));
        assert!(matches!(positions("a,a\n"), Err(InputError::RepeatedColumn { .. })));
        assert!(matches!(positions("\n \n"), Err(InputError::Empty { .. })));
    }
}
