//! Our JSON Lines: a line with the format and its version, then one line for each job and each service.

use std::io::Write;

use serde::{Deserialize, Serialize};

use super::wire::{WireJob, WireService};
use super::{Collected, check_writable};
use crate::Workload;
use crate::error::{TraceError, WriteError};
use crate::input::{InputError, Line, Lines, excerpt};

const FORMAT: &str = "offtake-workload";
/// Raised when a field is added, or when what one says changes.
const VERSION: u64 = 1;

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Head {
    format: String,
    version: u64,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Record {
    Job(Box<WireJob>),
    Service(Box<WireService>),
}

pub(super) fn read(mut lines: Lines<'_>, into: &mut Collected<'_>) -> Result<(), TraceError> {
    let file = lines.file().to_owned();
    let Some(first) = lines.next_line()? else {
        return Err(InputError::Empty { file }.into());
    };
    head(first)?;
    while let Some(line) = lines.next_line()? {
        match record(line)? {
            Record::Job(job) => {
                into.job(line.number, job.into_model().map_err(|fault| TraceError::fault(line.place(), fault))?)?
            }
            Record::Service(service) => {
                into.service(
                    line.number,
                    service.into_model().map_err(|fault| TraceError::fault(line.place(), fault))?,
                )?;
            }
        }
    }
    Ok(())
}

fn head(first: Line<'_>) -> Result<(), TraceError> {
    // The version is looked at before anything else: a later one may say more on this line.
    #[derive(Deserialize)]
    struct AnyHead {
        format: String,
        version: u64,
    }
    let any: Option<AnyHead> = serde_json::from_str(first.text).ok();
    if let Some(other) = any.filter(|head| head.format == FORMAT && head.version != VERSION) {
        return Err(TraceError::Version { at: first.place(), given: other.version, supported: VERSION });
    }
    match serde_json::from_str::<Head>(first.text) {
        Ok(head) if head.format == FORMAT => Ok(()),
        _ => Err(TraceError::NoVersion { at: first.place(), given: excerpt(first.text), supported: VERSION }),
    }
}

fn record(line: Line<'_>) -> Result<Record, TraceError> {
    let mut json = serde_json::Deserializer::from_str(line.text);
    let wrong = |field: String, error: &serde_json::Error| {
        // The library counts lines within what it was given, which is one line.
        let whole = error.to_string();
        let what = whole.rsplit_once(" at line ").map_or(whole.as_str(), |(what, _)| what);
        TraceError::Json { at: line.place(), column: error.column(), field, what: shorten(what) }
    };
    let record = serde_path_to_error::deserialize(&mut json).map_err(|error| {
        let path = error.path().to_string();
        let field = if path == "." { String::new() } else { excerpt(&path) };
        wrong(field, error.inner())
    })?;
    json.end().map_err(|error| wrong(String::new(), &error))?;
    Ok(record)
}

/// The library's messages name what is allowed, and repeat what was given, which may be long.
fn shorten(what: &str) -> String {
    const LONGEST_CHARS: usize = 400;
    if what.chars().nth(LONGEST_CHARS).is_none() {
        return what.replace(char::is_control, "\u{fffd}");
    }
    let expected = what.rsplit_once(", expected ").map_or("", |(_, expected)| expected);
    format!("{}, expected {}", excerpt(what), excerpt(expected))
}

/// Writes a workload as our JSON Lines.
///
/// # Errors
/// When a job or service is one that no reader accepts, and when the output fails.
pub fn write_jsonl(workload: &Workload, mut out: impl Write) -> Result<(), WriteError> {
    check_writable(workload)?;
    let head = Head { format: FORMAT.to_owned(), version: VERSION };
    write_line(&mut out, &head)?;
    for job in &workload.jobs {
        write_line(&mut out, &Record::Job(Box::new(WireJob::of_model(job))))?;
    }
    for service in &workload.services {
        write_line(&mut out, &Record::Service(Box::new(WireService::of_model(service))))?;
    }
    Ok(out.flush()?)
}

fn write_line(out: &mut impl Write, value: &impl Serialize) -> Result<(), WriteError> {
    serde_json::to_writer(&mut *out, value).map_err(std::io::Error::from)?;
    Ok(out.write_all(b"\n")?)
}
