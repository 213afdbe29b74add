//! Workloads in files: which format a file has, and the way in and out.

mod csv;
mod jsonl;
mod openb;
mod philly;
mod wire;

use std::collections::BTreeMap;
use std::fmt;
use std::fs::File;
use std::io::{BufWriter, Read, Write};
use std::path::Path;
use std::str::FromStr;

use flate2::{Compression, GzBuilder};
use offtake_units::Timestamp;

use crate::check::{self, Fault};
use crate::error::{TraceError, WriteError};
use crate::input::{InputError, Limits, Lines, Place, Table, excerpt};
use crate::output::write_atomically;
use crate::{Gang, Job, Service, Workload};

pub use csv::write_csv;
pub use jsonl::write_jsonl;
pub use wire::{ServiceText, WireGang, WireSpeed};
pub(crate) use wire::{WireJob, gang_text, map_without_twins};

/// Jobs, services, gangs and the entries of their lists that a file may have together: more than any trace we know, and less than 10 GB of them.
const MOST_RECORDS: usize = 20_000_000;

/// A format of workloads.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum TraceFormat {
    /// The pod lists of the openb trace (Alibaba, 2023).
    Openb,
    /// The job list of the Philly trace (Microsoft, 2017), as flattened.
    Philly,
    /// Our table: jobs of one gang.
    Csv,
    /// Our JSON Lines: all there is.
    JsonLines,
}

impl TraceFormat {
    /// All formats.
    pub const ALL: [Self; 4] = [Self::Openb, Self::Philly, Self::Csv, Self::JsonLines];

    /// The name of the format, as [`FromStr`] reads it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Openb => "openb",
            Self::Philly => "philly",
            Self::Csv => "csv",
            Self::JsonLines => "jsonl",
        }
    }

    /// The format of a file that begins with this line; of its name where the line does not say.
    fn detect(first: &str, file: &Path) -> Option<Self> {
        let has = |column: &str| first.split(',').any(|name| name.trim_matches('"') == column);
        if first.trim_start().starts_with('{') {
            return Some(Self::JsonLines);
        }
        if has("num_gpu") || has("gpu_milli") {
            return Some(Self::Openb);
        }
        if has("duration_s") && has("vc") {
            return Some(Self::Philly);
        }
        if has("name") && has("submitted") {
            return Some(Self::Csv);
        }
        Self::of_name(file)
    }

    /// The format of ours that the end of a file's name stands for, `.gz` aside.
    fn of_name(file: &Path) -> Option<Self> {
        let name = file.file_name()?.to_str()?;
        let (_, extension) = name.strip_suffix(".gz").unwrap_or(name).rsplit_once('.')?;
        match extension {
            "csv" => Some(Self::Csv),
            "jsonl" | "ndjson" => Some(Self::JsonLines),
            _ => None,
        }
    }
}

impl fmt::Display for TraceFormat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A name that is not that of a format.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{given}` is not a format of workloads; allowed are openb, philly, csv and jsonl")]
pub struct ParseTraceFormatError {
    given: String,
}

impl FromStr for TraceFormat {
    type Err = ParseTraceFormatError;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let found = Self::ALL.into_iter().find(|format| format.name() == text);
        found.ok_or_else(|| ParseTraceFormatError { given: excerpt(text) })
    }
}

/// Reads a workload from a file, plain or gzip. Without a `format` it is told from the first line, then from the name.
///
/// Jobs come out in the order of submission; those of one instant in the order of the file.
///
/// # Errors
/// When the file cannot be read, or anything in it is not allowed.
pub fn read(path: &Path, format: Option<TraceFormat>) -> Result<Workload, TraceError> {
    read_lines(Lines::open(path)?, format)
}

/// Reads a workload from any source; `name` stands for it in errors.
///
/// # Errors
/// As [`read`].
pub fn read_from(source: impl Read, name: &Path, format: Option<TraceFormat>) -> Result<Workload, TraceError> {
    read_lines(Lines::new(source, name, Limits::default())?, format)
}

fn read_lines(mut lines: Lines<'_>, format: Option<TraceFormat>) -> Result<Workload, TraceError> {
    let file = lines.file().to_owned();
    let Some(first) = lines.next_line()? else {
        return Err(InputError::Empty { file }.into());
    };
    let format = format
        .or_else(|| TraceFormat::detect(first.text, &file))
        .ok_or_else(|| TraceError::UnknownFormat { at: first.place(), given: excerpt(first.text) })?;
    lines.put_back();
    let mut collected = Collected::new(&file);
    match format {
        TraceFormat::Openb => openb::read(Table::new(lines)?, &mut collected)?,
        TraceFormat::Philly => philly::read(Table::new(lines)?, &mut collected)?,
        TraceFormat::Csv => csv::read(Table::new(lines)?, &mut collected)?,
        TraceFormat::JsonLines => jsonl::read(lines, &mut collected)?,
    }
    collected.finish()
}

/// The work of a file while it is read, checked one by one and as a whole.
struct Collected<'f> {
    file: &'f Path,
    workload: Workload,
    job_lines: Vec<u64>,
    service_lines: Vec<u64>,
    records: usize,
    /// What the format at hand calls a field of ours, for errors.
    column: fn(&str) -> &str,
}

impl<'f> Collected<'f> {
    fn new(file: &'f Path) -> Self {
        let (job_lines, service_lines) = (Vec::new(), Vec::new());
        Self { file, workload: Workload::default(), job_lines, service_lines, records: 0, column: |field| field }
    }

    fn place(&self, line: u64) -> Place {
        Place { file: self.file.to_owned(), line }
    }

    fn job(&mut self, line: u64, job: Job) -> Result<(), TraceError> {
        check::job(&job).map_err(|fault| {
            let field = (self.column)(&fault.field).to_owned();
            TraceError::fault(self.place(line), Fault { field, ..fault })
        })?;
        self.count(line, 1 + job.after.len() + job.gangs.iter().map(records_of).sum::<usize>())?;
        self.workload.jobs.push(job);
        self.job_lines.push(line);
        Ok(())
    }

    fn service(&mut self, line: u64, service: Service) -> Result<(), TraceError> {
        check::service(&service).map_err(|fault| TraceError::fault(self.place(line), fault))?;
        self.count(line, 1 + records_of(&service.replica))?;
        self.workload.services.push(service);
        self.service_lines.push(line);
        Ok(())
    }

    fn count(&mut self, line: u64, records: usize) -> Result<(), TraceError> {
        self.records += records;
        if self.records > MOST_RECORDS {
            return Err(TraceError::TooMany { at: self.place(line), limit: MOST_RECORDS });
        }
        Ok(())
    }

    fn finish(mut self) -> Result<Workload, TraceError> {
        let jobs = self.workload.jobs.iter().map(|job| job.name.as_str()).zip(self.job_lines.iter().copied());
        let services = self.workload.services.iter().map(|service| service.name.as_str());
        let named: Vec<_> = jobs.chain(services.zip(self.service_lines.iter().copied())).collect();
        if let Some((name, first_line, line)) = first_twin(named) {
            let (at, name) = (self.place(line), excerpt(name));
            return Err(TraceError::DuplicateName { at, name, first_line });
        }
        self.check_order()?;
        self.workload.jobs.sort_by_key(|job| job.submitted);
        Ok(self.workload)
    }

    /// Whoever waits for another comes after it, so that nobody waits in a circle.
    fn check_order(&self) -> Result<(), TraceError> {
        let jobs = || self.workload.jobs.iter().zip(&self.job_lines);
        if jobs().all(|(job, _)| job.after.is_empty()) {
            return Ok(());
        }
        let places: BTreeMap<&str, (Timestamp, u64)> =
            jobs().map(|(job, line)| (job.name.as_str(), (job.submitted, *line))).collect();
        for (job, line) in jobs() {
            let comes_before = |name: &str| places.get(name).is_some_and(|place| *place < (job.submitted, *line));
            let wrong = job.after.iter().position(|predecessor| !comes_before(&predecessor.job));
            if let Some(index) = wrong {
                let allowed = "the name of a job that is submitted before this one; of one instant, a line above";
                let fault = Fault::new(format!("after[{index}].job"), &job.after[index].job, allowed);
                return Err(TraceError::fault(self.place(*line), fault));
            }
        }
        Ok(())
    }
}

/// What a gang takes of the limit: itself and its lists.
fn records_of(gang: &Gang) -> usize {
    1 + gang.accelerators.len() + gang.attributes.len()
}

/// A name that occurs twice, with the number that each time came with.
fn first_twin(mut named: Vec<(&str, u64)>) -> Option<(&str, u64, u64)> {
    named.sort_unstable();
    let twins = named.windows(2).filter(|pair| pair[0].0 == pair[1].0);
    twins.min_by_key(|pair| pair[1].1).map(|pair| (pair[0].0, pair[0].1, pair[1].1))
}

/// Refuses what no reader would accept.
fn check_writable(workload: &Workload) -> Result<(), WriteError> {
    for job in &workload.jobs {
        check::job(job).map_err(|fault| WriteError::Invalid { name: excerpt(&job.name), fault })?;
    }
    for service in &workload.services {
        check::service(service).map_err(|fault| WriteError::Invalid { name: excerpt(&service.name), fault })?;
    }
    let jobs = workload.jobs.iter().map(|job| job.name.as_str());
    let names = jobs.chain(workload.services.iter().map(|service| service.name.as_str()));
    match first_twin(names.zip(1..).collect()) {
        Some((name, ..)) => Err(WriteError::DuplicateName { name: excerpt(name) }),
        None => Ok(()),
    }
}

/// Writes a workload to a file that is whole or not there, gzip where its name ends in `.gz`. Without a `format` it is
/// told from the name.
///
/// # Errors
/// When the format is only read, cannot carry the workload, or the file cannot be written.
pub fn write(path: &Path, workload: &Workload, format: Option<TraceFormat>) -> Result<(), WriteError> {
    let Some(format) = format.or_else(|| TraceFormat::of_name(path)) else {
        let given = excerpt(&path.extension().unwrap_or_default().to_string_lossy());
        return Err(WriteError::Format { file: path.to_owned(), given });
    };
    let to = |out: &mut dyn Write| match format {
        TraceFormat::Csv => write_csv(workload, out),
        TraceFormat::JsonLines => write_jsonl(workload, out),
        TraceFormat::Openb | TraceFormat::Philly => {
            Err(WriteError::Format { file: path.to_owned(), given: format.to_string() })
        }
    };
    let wrap = |source| WriteError::File { file: path.to_owned(), source };
    write_atomically(path, wrap, |out: &mut BufWriter<File>| {
        if path.extension().is_none_or(|extension| extension != "gz") {
            return to(out);
        }
        // No name and no time in the header: the same workload gives the same bytes.
        let mut gzip = GzBuilder::new().write(out, Compression::default());
        to(&mut gzip)?;
        gzip.finish().map(drop).map_err(wrap)
    })
}
