//! Faults while a fleet file is read, and where in the file they are.

use std::ops::Range;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use crate::FleetError;
use crate::file::suggest::did_you_mean;

/// What stops a fleet file from being read.
#[derive(Debug)]
pub(super) enum Fault {
    /// These bytes of the fleet file.
    Here(Range<usize>, String),
    /// Nothing that is written in the fleet file: a parameter handed in.
    Given(String, String),
    /// Another file.
    There(Box<FleetError>),
}

pub(super) type Checked<T> = Result<T, Fault>;

/// A fault of this value.
pub(super) fn at<T>(value: &Spanned<T>, message: impl Into<String>) -> Fault {
    Fault::Here(value.span(), message.into())
}

impl Fault {
    /// The same in the parser's words, made ours where they say too little.
    pub(super) fn from_toml(error: &toml::de::Error) -> Self {
        Self::Here(error.span().unwrap_or_default(), reword(error.message()))
    }

    /// The error that people see: line, column and key found from the place in the text.
    pub(super) fn locate(self, text: &str, file_name: &str) -> FleetError {
        let mut error = FleetError {
            file: file_name.to_owned(),
            line: None,
            column: None,
            field: None,
            message: String::new(),
            source: None,
        };
        match self {
            Self::There(elsewhere) => return *elsewhere,
            Self::Given(field, message) => (error.field, error.message) = (Some(field), message),
            Self::Here(span, message) => {
                let before = &text[..text.floor_char_boundary(span.start)];
                let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
                error.line = Some(before.matches('\n').count() as u64 + 1);
                error.column = Some(before[line_start..].chars().count() as u64 + 1);
                error.field = key_at(text, span.start);
                error.message = message;
            }
        }
        error
    }
}

/// The dotted key of the innermost thing written at this byte.
fn key_at(text: &str, offset: usize) -> Option<String> {
    let (table, _) = DeTable::parse_recoverable(text);
    let mut found = None;
    search(table.get_ref(), "", offset, &mut found);
    found.map(|(_, key)| key)
}

type Found = Option<(usize, String)>;

fn search(table: &DeTable<'_>, prefix: &str, offset: usize, found: &mut Found) {
    for (key, value) in table {
        let path = if prefix.is_empty() { key.get_ref().to_string() } else { format!("{prefix}.{}", key.get_ref()) };
        keep_narrowest(key.span(), &path, offset, found);
        search_value(value, &path, offset, found);
    }
}

fn search_value(value: &Spanned<DeValue<'_>>, path: &str, offset: usize, found: &mut Found) {
    keep_narrowest(value.span(), path, offset, found);
    match value.get_ref() {
        DeValue::Table(table) => search(table, path, offset, found),
        DeValue::Array(array) => {
            for (ix, element) in array.iter().enumerate() {
                search_value(element, &format!("{path}[{ix}]"), offset, found);
            }
        }
        _ => {}
    }
}

/// Of two that hold the byte the narrower is kept, and of two as narrow the one inside.
fn keep_narrowest(span: Range<usize>, path: &str, offset: usize, found: &mut Found) {
    let width = span.len();
    if span.contains(&offset) && found.as_ref().is_none_or(|(narrowest, _)| width <= *narrowest) {
        *found = Some((width, path.to_owned()));
    }
}

/// Unknown keys and values get a suggestion and the list of what is allowed; words of the programming language go.
fn reword(message: &str) -> String {
    let quoted: Vec<&str> = message.split('`').skip(1).step_by(2).collect();
    let what = if message.starts_with("unknown field") { "key" } else { "value" };
    if let Some((given, allowed)) = quoted.split_first()
        && (message.starts_with("unknown field") || message.starts_with("unknown variant"))
        && !allowed.is_empty()
    {
        let hint = did_you_mean(given, allowed.iter().copied());
        return format!("`{given}` is no {what} here{hint}; allowed: {}", allowed.join(", "));
    }
    if message == "duplicate key" {
        return "the key is written twice: rename one, or make them one".to_owned();
    }
    let message = message.replace("missing field", "missing key");
    match message.split_once(", expected ") {
        Some((found, expected)) if message.starts_with("invalid type") => {
            let expected = match expected {
                "i64" => "a whole number",
                "a sequence" => "a list",
                "a map" => "a table",
                _ if expected.starts_with("struct ") => "a table of keys",
                _ => expected,
            };
            format!("{found}, expected {expected}")
        }
        _ => message,
    }
}
