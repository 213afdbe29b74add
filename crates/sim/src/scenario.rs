//! Scenario files: which fleet, which work, which signals, for how long, under which policies.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Display;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::Arc;

use offtake_engine::Policy;
use offtake_fleet::Fleet;
use offtake_signals::{CarbonSeries, ExchangeRate, Prices};
use offtake_units::{Duration, Ppm, Timestamp};
use offtake_workload::human::LONGEST_DURATION;
use offtake_workload::resample::{Resampling, resample};
use offtake_workload::synthetic::{Class, Synthetic};
use offtake_workload::{Job, Service, ServiceText, TraceFormat, Workload, human};
use serde::Deserialize;

use crate::run::{Setup, Signal, SignalValue};

/// What is wrong with a scenario.
#[derive(Debug, thiserror::Error)]
pub enum ScenarioError {
    /// The scenario file cannot be read.
    #[error("{file}: the scenario cannot be read: name a file that exists, such as examples/openb.toml")]
    Unreadable {
        /// The file.
        file: String,
        /// Why.
        source: std::io::Error,
    },
    /// The file is not what a scenario looks like.
    #[error("{file}{}: {message}", line.map(|line| format!(":{line}")).unwrap_or_default())]
    Syntax {
        /// The file.
        file: String,
        /// The line, from 1.
        line: Option<usize>,
        /// What is wrong, and what is allowed.
        message: String,
    },
    /// A value cannot be meant.
    #[error("{file}{}: `{field}` {fault}; allowed is {allowed}", line.map(|line| format!(":{line}")).unwrap_or_default())]
    Value {
        /// The file.
        file: String,
        /// The line, from 1.
        line: Option<usize>,
        /// The key, or the option of the command line that set it.
        field: String,
        /// What it says, or that it is missing.
        fault: String,
        /// What it may say.
        allowed: String,
    },
    /// Work that no domain of the fleet could ever hold.
    #[error("{file}: {work} can never run on this fleet: {reason}")]
    Unplaceable {
        /// The scenario or the trace.
        file: String,
        /// Which job or service.
        work: String,
        /// Why, and what to do.
        reason: String,
    },
    /// The fleet cannot be read.
    #[error(transparent)]
    Fleet(#[from] offtake_fleet::FleetError),
    /// The trace cannot be read.
    #[error(transparent)]
    Trace(#[from] offtake_workload::TraceError),
    /// A signal cannot be read.
    #[error(transparent)]
    Signal(#[from] offtake_signals::SignalError),
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    name: String,
    fleet: PathBuf,
    #[serde(default)]
    parameters: BTreeMap<String, i64>,
    #[serde(default, with = "optional_timestamp")]
    start: Option<Timestamp>,
    #[serde(default, with = "human::optional_duration")]
    horizon: Option<Duration>,
    #[serde(default)]
    seed: u64,
    policies: Vec<String>,
    focus: Option<String>,
    #[serde(default)]
    notes: Vec<String>,
    workload: WorkloadFile,
    #[serde(default)]
    services: Vec<ServiceText>,
    signals: Option<SignalsFile>,
    #[serde(default)]
    sources: Vec<SourceFile>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct WorkloadFile {
    trace: Option<PathBuf>,
    format: Option<String>,
    offered_load: Option<f64>,
    #[serde(default)]
    unplaceable: Unplaceable,
    jobs: Option<u64>,
    #[serde(default)]
    hourly_weights: Vec<u32>,
    #[serde(default)]
    classes: Vec<Class>,
}

/// What happens to work that no domain of the fleet can ever hold.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Unplaceable {
    /// The scenario is refused.
    #[default]
    Error,
    /// The engine rejects it, and the report counts it.
    Reject,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct SignalsFile {
    prices: Option<PathBuf>,
    price_zones: Option<PathBuf>,
    carbon: Option<PathBuf>,
    carbon_zones: Option<PathBuf>,
    /// The instant of the series at which the run begins, where the two calendars differ.
    #[serde(default, with = "optional_timestamp")]
    from: Option<Timestamp>,
    /// Zones of sites whose own the fleet file does not name.
    #[serde(default)]
    zone_of: BTreeMap<String, ZoneFile>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct ZoneFile {
    price: Option<String>,
    carbon: Option<String>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct SourceFile {
    what: String,
    source: String,
    licence: String,
}

mod optional_timestamp {
    use offtake_units::Timestamp;
    use offtake_workload::human;
    use serde::{Deserialize, Deserializer};

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Timestamp>, D::Error> {
        #[derive(Deserialize)]
        #[serde(transparent)]
        struct Wrapped(#[serde(with = "human::timestamp")] Timestamp);
        Ok(Some(Wrapped::deserialize(deserializer)?.0))
    }
}

/// A scenario, read and ready to run.
#[derive(Clone, Debug)]
pub struct Scenario {
    /// Its name.
    pub name: String,
    /// The file it was read from, as it was named.
    pub file: String,
    /// What every policy runs.
    pub setup: Setup,
    /// Seed of all that is drawn.
    pub seed: u64,
    /// The policies by name, in order.
    pub policies: Vec<(String, Policy)>,
    /// The policy that the report is about.
    pub focus: String,
    /// The load that was asked for.
    pub offered_load_asked: Option<Ppm>,
    /// Sentences for the reader.
    pub notes: Vec<String>,
    /// What, source and licence of the data.
    pub sources: Vec<[String; 3]>,
    /// Rates of the currencies that occur.
    pub rates: Vec<ExchangeRate>,
}

/// What the command line changes in a scenario.
#[derive(Clone, Debug, Default)]
pub struct Overrides {
    /// Policies to run instead.
    pub policies: Vec<String>,
    /// Another seed.
    pub seed: Option<u64>,
    /// Other values by dotted key, as TOML.
    pub set: Vec<(String, String)>,
}

/// At most so many samples make a timeline.
const SAMPLES: i64 = 576;
/// Scenarios are written by people: a larger file is of another kind.
const LARGEST_FILE_BYTES: u64 = 4 << 20;
/// Bytes of a scenario's name.
const LONGEST_NAME_BYTES: usize = 100;

/// Reads a scenario and all that it names.
///
/// # Errors
/// [`ScenarioError`], with file, line and field, when anything cannot be read or meant.
pub fn read(path: &Path, overrides: &Overrides) -> Result<Scenario, ScenarioError> {
    let file = path.display().to_string();
    let text = read_text(path, &file)?;
    let dir = path.parent().unwrap_or(Path::new("")).to_owned();
    Reader { file, text, dir, overrides: overrides.clone() }.read()
}

fn read_text(path: &Path, file: &str) -> Result<String, ScenarioError> {
    let unreadable = |source| ScenarioError::Unreadable { file: file.to_owned(), source };
    let wrong =
        |line, message: &str| ScenarioError::Syntax { file: file.to_owned(), line, message: message.to_owned() };
    let mut bytes = Vec::new();
    let opened = std::fs::File::open(path).map_err(unreadable)?;
    opened.take(LARGEST_FILE_BYTES + 1).read_to_end(&mut bytes).map_err(unreadable)?;
    if bytes.len() as u64 > LARGEST_FILE_BYTES {
        return Err(wrong(None, "is larger than 4 MiB: a scenario is short and names its trace, which may be long"));
    }
    String::from_utf8(bytes).map_err(|error| {
        let before = &error.as_bytes()[..error.utf8_error().valid_up_to()];
        let line = before.iter().filter(|byte| **byte == b'\n').count() + 1;
        wrong(Some(line), "is not UTF-8 text: save the file as UTF-8")
    })
}

struct Reader {
    file: String,
    text: String,
    dir: PathBuf,
    overrides: Overrides,
}

impl Reader {
    fn read(self) -> Result<Scenario, ScenarioError> {
        let overrides = &self.overrides;
        let file = self.parse()?;
        self.check_name(&file.name)?;
        let seed = overrides.seed.unwrap_or(file.seed);
        let names = if overrides.policies.is_empty() { &file.policies } else { &overrides.policies };
        let policies = self.policies(names, seed)?;
        let focus = self.focus(file.focus.as_deref(), &policies)?;
        let mut fleet = offtake_fleet::read(&self.dir.join(&file.fleet), &file.parameters)?;
        let mut notes = file.notes.clone();
        self.lay_zones(&file, &mut fleet, &mut notes)?;
        let fleet = Arc::new(fleet);
        let (workload, start) = self.workload(&file, &fleet, seed, &mut notes)?;
        let mut services = workload.services;
        services.extend(file.services.iter().map(|ServiceText(service)| service.clone()));
        if workload.jobs.is_empty() && services.is_empty() {
            return Err(self.fault("workload", "holds no job", "at least one job or service"));
        }
        self.check_service_names(&services)?;
        self.check_placeable(&file.workload, &fleet, &workload.jobs, &services)?;
        let ends = workload.jobs.iter().map(|job| job.submitted + job.duration.unwrap_or(Duration::ZERO) - start);
        // Without a horizon the run ends with its last job: at this time, or later where jobs wait.
        let span = file.horizon.or(ends.max()).unwrap_or(Duration::HOUR);
        let (signals, rates) = self.signals(&file, &fleet, start, span, &mut notes)?;
        let sample_every = Duration::from_millis((span.as_millis() / SAMPLES).max(Duration::MINUTE.as_millis()));
        Ok(Scenario {
            name: file.name,
            file: self.file,
            setup: Setup {
                fleet,
                jobs: workload.jobs.into_iter().map(Arc::new).collect(),
                services: services.into_iter().map(Arc::new).collect(),
                start,
                horizon: file.horizon,
                signals,
                sample_every,
            },
            seed,
            policies,
            focus,
            offered_load_asked: file.workload.offered_load.and_then(Ppm::from_ratio),
            notes,
            sources: file.sources.into_iter().map(|source| [source.what, source.source, source.licence]).collect(),
            rates,
        })
    }

    // Values.

    /// The file as a value, with what the command line sets in it.
    fn parse(&self) -> Result<File, ScenarioError> {
        let as_written = || {
            let document = toml::Deserializer::parse(&self.text).map_err(|error| self.syntax("", &error))?;
            serde_path_to_error::deserialize(document)
                .map_err(|error| self.syntax(&error.path().to_string(), error.inner()))
        };
        if self.overrides.set.is_empty() {
            return as_written();
        }
        let table = self.with_set()?;
        serde_path_to_error::deserialize(toml::Value::Table(table)).map_err(|error| {
            // What was wrong before has a line in the file.
            as_written().err().unwrap_or_else(|| ScenarioError::Syntax {
                file: format!("{} with --set", self.file),
                line: None,
                message: words(&error.path().to_string(), error.inner().message()),
            })
        })
    }

    fn with_set(&self) -> Result<toml::Table, ScenarioError> {
        let mut table: toml::Table = toml::from_str(&self.text).map_err(|error| self.syntax("", &error))?;
        for (key, text) in &self.overrides.set {
            let value = toml::Table::from_str(&format!("value = {text}"))
                .ok()
                .and_then(|mut parsed| parsed.remove("value"))
                .unwrap_or_else(|| toml::Value::String(text.clone()));
            let mut parts: Vec<&str> = key.split('.').collect();
            let last = parts.pop().unwrap_or(key);
            let mut at = &mut table;
            for part in parts {
                let entry = at.entry(part).or_insert_with(|| toml::Value::Table(toml::Table::new()));
                let toml::Value::Table(inner) = entry else {
                    let fault = format!("lies below `{part}`, which is a value");
                    return Err(self.fault(key, fault, "a key of a table, such as `workload.offered_load`"));
                };
                at = inner;
            }
            at.insert(last.to_owned(), value);
        }
        Ok(table)
    }

    fn syntax(&self, path: &str, error: &toml::de::Error) -> ScenarioError {
        let span = error.span().map(|span| span.start.min(self.text.len())..span.end.min(self.text.len()));
        let line = span.clone().map(|span| self.text[..span.start].matches('\n').count() + 1);
        let mut message = words(path, error.message());
        // The parser says what is wrong of a key, but not of which.
        if let Some(key) = span.and_then(|span| self.text.get(span)).filter(|_| message == "duplicate key") {
            message = format!("the key `{key}` is written twice");
        }
        ScenarioError::Syntax { file: self.file.clone(), line, message }
    }

    /// A field that says what it may not.
    fn value(&self, field: &str, given: impl Display, allowed: impl Into<String>) -> ScenarioError {
        self.fault(field, format!("is `{given}`"), allowed)
    }

    /// A field with any fault; it is told by the line of the file, or by the option that set it.
    fn fault(&self, field: &str, fault: impl Into<String>, allowed: impl Into<String>) -> ScenarioError {
        let set = self.overrides.set.iter().any(|(key, _)| key == field);
        let (line, field) = match field {
            "policies" if !self.overrides.policies.is_empty() => (None, "--policy".to_owned()),
            _ if set => (None, format!("--set {field}")),
            _ => (self.line_of(field), field.to_owned()),
        };
        ScenarioError::Value { file: self.file.clone(), line, field, fault: fault.into(), allowed: allowed.into() }
    }

    fn line_of(&self, field: &str) -> Option<usize> {
        let key = field.rsplit('.').next().unwrap_or(field);
        let is_key = |line: &str| {
            let line = line.trim_start();
            let is_value = line.strip_prefix(key).is_some_and(|rest| rest.trim_start().starts_with('='));
            is_value || line.trim_start_matches('[').trim_end().trim_end_matches(']') == field && line.starts_with('[')
        };
        self.text.lines().position(is_key).map(|line| line + 1)
    }

    /// The name is also that of the folder that results are written to.
    fn check_name(&self, name: &str) -> Result<(), ScenarioError> {
        let is_folder = (1..=LONGEST_NAME_BYTES).contains(&name.len())
            && name.trim() == name
            && !name.starts_with('.')
            && !name.chars().any(|letter| letter.is_control() || ['/', '\\'].contains(&letter));
        if is_folder {
            return Ok(());
        }
        let allowed = "the name of a folder: 1 to 100 bytes without `/`, not beginning with `.`";
        Err(self.value("name", name.escape_debug(), allowed))
    }

    fn check_service_names(&self, services: &[Service]) -> Result<(), ScenarioError> {
        let mut names = BTreeSet::new();
        match services.iter().find(|service| !names.insert(service.name.as_str())) {
            Some(twin) => Err(self.fault("services", format!("name `{}` twice", twin.name), "each name once")),
            None => Ok(()),
        }
    }

    fn policies(&self, names: &[String], seed: u64) -> Result<Vec<(String, Policy)>, ScenarioError> {
        let known = || Policy::NAMES.join(", ");
        if names.is_empty() {
            return Err(self.fault("policies", "is empty", format!("one or more of {}", known())));
        }
        let mut policies: Vec<(String, Policy)> = Vec::new();
        for name in names {
            let Some(policy) = Policy::named(name, seed) else {
                return Err(self.value("policies", name, known()));
            };
            if policies.iter().any(|(other, _)| other == name) {
                return Err(self.fault("policies", format!("names `{name}` twice"), "each policy once"));
            }
            policies.push((name.clone(), policy));
        }
        Ok(policies)
    }

    fn focus(&self, focus: Option<&str>, policies: &[(String, Policy)]) -> Result<String, ScenarioError> {
        let has = |name: &str| policies.iter().any(|(other, _)| other == name);
        match focus {
            Some(name) if Policy::named(name, 0).is_none() => {
                Err(self.value("focus", name, format!("one of the policies: {}", Policy::NAMES.join(", "))))
            }
            Some(name) if has(name) => Ok(name.to_owned()),
            _ if has("offtake") => Ok("offtake".to_owned()),
            _ => Ok(policies[0].0.clone()),
        }
    }

    /// Puts sites into the zones that the scenario names for them.
    fn lay_zones(&self, file: &File, fleet: &mut Fleet, notes: &mut Vec<String>) -> Result<(), ScenarioError> {
        for (name, zones) in file.signals.iter().flat_map(|signals| &signals.zone_of) {
            let known = fleet.sites.iter().map(|site| site.name.as_str()).collect::<Vec<_>>().join(", ");
            let Some(site) = fleet.sites.iter_mut().find(|site| site.name == *name) else {
                return Err(self.value("signals.zone_of", name, format!("a site of the fleet: {known}")));
            };
            site.price_zone = zones.price.clone().or(site.price_zone.take());
            site.carbon_zone = zones.carbon.clone().or(site.carbon_zone.take());
            let mut laid: Vec<&str> = [&zones.price, &zones.carbon].into_iter().flatten().map(String::as_str).collect();
            laid.dedup();
            let zones = laid.join(" and ");
            notes.push(format!("Site {name} is taken to lie in zone {zones}, which its fleet file does not say."));
        }
        Ok(())
    }

    // Work.

    fn workload(
        &self,
        file: &File,
        fleet: &Fleet,
        seed: u64,
        notes: &mut Vec<String>,
    ) -> Result<(Workload, Timestamp), ScenarioError> {
        let work = &file.workload;
        let load = match work.offered_load {
            None => None,
            Some(load) => match Ppm::from_ratio(load).filter(|load| load.parts() > 0 && load.parts() <= 100_000_000) {
                Some(load) => Some(load),
                None => {
                    return Err(self.value("workload.offered_load", load, "more than 0 and at most 100, such as 1.1"));
                }
            },
        };
        match &work.trace {
            Some(trace) if work.classes.is_empty() && work.jobs.is_none() && work.hourly_weights.is_empty() => {
                let format = match &work.format {
                    None => None,
                    Some(name) => Some(TraceFormat::from_str(name).map_err(|_| {
                        self.value("workload.format", name, "openb, philly, csv or jsonl, or nothing to detect it")
                    })?),
                };
                let trace = offtake_workload::read(&self.dir.join(trace), format)?;
                self.traced(file, fleet, trace, load, seed, notes)
            }
            Some(_) => {
                let fault = "stands beside `classes`, `jobs` or `hourly_weights`";
                Err(self.fault("workload.trace", fault, "either a trace, or those to make jobs up from"))
            }
            None if work.classes.is_empty() => {
                Err(self.fault("workload", "names no work", "a `trace`, or `classes` to make jobs up from"))
            }
            None => self.made_up(file, fleet, load, seed, notes),
        }
    }

    fn traced(
        &self,
        file: &File,
        fleet: &Fleet,
        trace: Workload,
        load: Option<Ppm>,
        seed: u64,
        notes: &mut Vec<String>,
    ) -> Result<(Workload, Timestamp), ScenarioError> {
        let first = trace.jobs.iter().map(|job| job.submitted).min().unwrap_or(Timestamp::EPOCH);
        let start = file.start.unwrap_or(first);
        let Some(offered_load) = load else {
            // A trace keeps its own spacing; another start moves it as a whole.
            let shift = start - first;
            let jobs = trace.jobs.into_iter().map(|mut job| {
                job.submitted = job.submitted + shift;
                job.deadline = job.deadline.map(|deadline| deadline + shift);
                job
            });
            return Ok((Workload { jobs: jobs.collect(), services: trace.services }, start));
        };
        let Some(horizon) = file.horizon else {
            return Err(self.fault("horizon", "is missing", "a time beside `workload.offered_load`, such as `14d`"));
        };
        let how = Resampling { offered_load, capacity_chip_milli: fleet.chips() * 1000, start, horizon, seed };
        let drawn = resample(&trace, &how)
            .map_err(|error| self.value("workload.offered_load", offered_load.as_f64(), error.to_string()))?;
        notes.push(format!(
            "The trace is drawn anew with seed {seed}: {} jobs arrive, one every {} on average, and {} already run at the \
             start, so that the load is steady from the first moment.",
            drawn.arrivals, drawn.mean_gap, drawn.running_at_start
        ));
        if drawn.without_duration > 0 {
            notes.push(format!(
                "{} jobs of the trace are left out, as the trace does not say how long they ran.",
                drawn.without_duration
            ));
        }
        Ok((drawn.workload, start))
    }

    fn made_up(
        &self,
        file: &File,
        fleet: &Fleet,
        load: Option<Ppm>,
        seed: u64,
        notes: &mut Vec<String>,
    ) -> Result<(Workload, Timestamp), ScenarioError> {
        let work = &file.workload;
        let Some(horizon) = file.horizon else {
            return Err(self.fault("horizon", "is missing", "a time beside `workload.classes`, such as `365d`"));
        };
        let start = file.start.unwrap_or(Timestamp::EPOCH);
        let mut described = Synthetic {
            seed,
            jobs: 1,
            start,
            mean_gap: Duration::HOUR,
            hourly_weights: work.hourly_weights.clone(),
            classes: work.classes.clone(),
        };
        (described.jobs, described.mean_gap) = match (work.jobs, load) {
            (Some(jobs), None) if jobs > 0 => {
                (jobs, Duration::from_millis((horizon.as_millis() / i64::try_from(jobs).unwrap_or(i64::MAX)).max(1)))
            }
            (None, Some(load)) => {
                let gap = described
                    .gap_for_load(load, fleet.chips() * 1000)
                    .or_else(|| described.gap_for_load(load, fleet.chips()));
                let Some(gap) = gap else {
                    return Err(self.value(
                        "workload.offered_load",
                        load.as_f64(),
                        "a load that the classes can make up",
                    ));
                };
                ((horizon.as_millis() / gap.as_millis()).max(1) as u64, gap)
            }
            (jobs, load) => {
                let fault = match (jobs, load) {
                    (None, _) => "is missing",
                    (Some(_), None) => "is `0`",
                    (Some(_), Some(_)) => "stands beside `offered_load`",
                };
                return Err(self.fault("workload.jobs", fault, "either `jobs` above 0, or `offered_load`"));
            }
        };
        let workload = described.workload().map_err(|fault| ScenarioError::Value {
            file: self.file.clone(),
            line: None,
            field: format!("workload.{}", fault.field),
            fault: format!("is `{}`", fault.given),
            allowed: fault.allowed,
        })?;
        notes.push(format!(
            "Work is made up with seed {seed} from {} classes of jobs, one job every {} on average.",
            work.classes.len(),
            described.mean_gap
        ));
        Ok((workload, start))
    }

    /// Work that no domain could ever hold is a mistake, unless the scenario says that it is to be rejected.
    fn check_placeable(
        &self,
        work: &WorkloadFile,
        fleet: &Arc<Fleet>,
        jobs: &[Job],
        services: &[Service],
    ) -> Result<(), ScenarioError> {
        let judge = offtake_engine::Admission::new(Arc::clone(fleet));
        for service in services {
            if let Err(reason) = judge.placeable(std::slice::from_ref(&service.replica)) {
                let work = format!("service `{}`", service.name);
                return Err(ScenarioError::Unplaceable { file: self.file.clone(), work, reason: reason.to_string() });
            }
        }
        if work.unplaceable == Unplaceable::Reject {
            return Ok(());
        }
        let mut known = BTreeSet::new();
        for job in jobs {
            if !known.insert(&job.gangs) {
                continue;
            }
            if let Err(reason) = judge.placeable(&job.gangs) {
                let trace = work.trace.as_ref().map(|trace| self.dir.join(trace).display().to_string());
                return Err(ScenarioError::Unplaceable {
                    file: trace.unwrap_or_else(|| self.file.clone()),
                    work: format!("job `{}`", job.name),
                    reason: format!(
                        "{reason}; or write `unplaceable = \"reject\"` under [workload] of {} to count such jobs as rejected",
                        self.file
                    ),
                });
            }
        }
        Ok(())
    }

    // Signals.

    fn pair(&self, table: &str, zones: &str, has_table: bool) -> ScenarioError {
        let (given, missing) = if has_table { (table, zones) } else { (zones, table) };
        self.fault(&format!("signals.{given}"), format!("stands without `{missing}`"), "both or none of them")
    }

    fn signals(
        &self,
        scenario: &File,
        fleet: &Fleet,
        start: Timestamp,
        span: Duration,
        notes: &mut Vec<String>,
    ) -> Result<(Vec<Signal>, Vec<ExchangeRate>), ScenarioError> {
        let Some(file) = &scenario.signals else { return Ok((Vec::new(), Vec::new())) };
        let prices = match (&file.prices, &file.price_zones) {
            (Some(prices), Some(zones)) => offtake_signals::read_prices(&self.dir.join(prices), &self.dir.join(zones))?,
            (None, None) => Prices { zones: BTreeMap::new(), rates: BTreeMap::new() },
            _ => return Err(self.pair("prices", "price_zones", file.prices.is_some())),
        };
        let carbon: BTreeMap<String, CarbonSeries> = match (&file.carbon, &file.carbon_zones) {
            (Some(carbon), Some(zones)) => offtake_signals::read_carbon(&self.dir.join(carbon), &self.dir.join(zones))?,
            (None, None) => BTreeMap::new(),
            _ => return Err(self.pair("carbon", "carbon_zones", file.carbon.is_some())),
        };
        let from = file.from.unwrap_or(start);
        let price_zones: BTreeSet<&str> = fleet.sites.iter().filter_map(|site| site.price_zone.as_deref()).collect();
        let carbon_zones: BTreeSet<&str> = fleet.sites.iter().filter_map(|site| site.carbon_zone.as_deref()).collect();
        let priced: Vec<_> = price_zones.into_iter().filter_map(|zone| Some((zone, prices.zones.get(zone)?))).collect();
        let counted: Vec<_> = carbon_zones.into_iter().filter_map(|zone| Some((zone, carbon.get(zone)?))).collect();
        let ends = priced.iter().map(|(_, series)| series.micros.end());
        let ends = ends.chain(counted.iter().map(|(_, series)| series.mg_per_kwh.end()));
        let known = ends.max().map_or(Duration::ZERO, |end| end - from).min(LONGEST_DURATION);
        let hours = scenario.horizon.unwrap_or(known.max(span)).as_millis() / Duration::HOUR.as_millis() + 1;
        let mut signals = Vec::new();
        let mut used = BTreeSet::new();
        for hour in 0..=hours {
            let ahead = Duration::from_millis(hour * Duration::HOUR.as_millis());
            let (at, then) = (start + ahead, from + ahead);
            for (zone, price) in priced.iter().filter_map(|(zone, series)| Some((*zone, series.at(then)?))) {
                used.insert(price.currency);
                signals.push(Signal { at, zone: zone.to_owned(), value: SignalValue::Price(price) });
            }
            for (zone, intensity) in counted.iter().filter_map(|(zone, series)| Some((*zone, series.at(then)?))) {
                signals.push(Signal { at, zone: zone.to_owned(), value: SignalValue::Carbon(intensity) });
            }
        }
        let missing = |zone: &str, what: &str, has: &dyn Fn(Timestamp) -> bool| {
            let hours = (span.as_millis() / Duration::HOUR.as_millis()).max(1);
            let known = (0..hours).filter(|hour| has(from + Duration::from_millis(hour * Duration::HOUR.as_millis())));
            let missing = hours - known.count() as i64;
            let told = match missing {
                0 => return None,
                _ if missing == hours => format!("Zone {zone} has no {what} at the time of the run."),
                _ => {
                    format!("Zone {zone} has no {what} for {missing} of {hours} hours: the last before them holds on.")
                }
            };
            Some(told)
        };
        notes.extend(priced.iter().filter_map(|(zone, series)| missing(zone, "price", &|at| series.at(at).is_some())));
        let carbon_gaps = counted.iter();
        notes.extend(
            carbon_gaps.filter_map(|(zone, series)| missing(zone, "carbon intensity", &|at| series.at(at).is_some())),
        );
        if file.from.is_some() {
            notes.push(format!(
                "Signals are those from {} on, laid under the run's first hour.",
                human::write_timestamp(from).unwrap_or_default()
            ));
        }
        let known = |zone: &Option<String>, has: &dyn Fn(&str) -> bool| zone.as_deref().is_some_and(has);
        let unpriced =
            fleet.sites.iter().filter(|site| !known(&site.price_zone, &|zone| prices.zones.contains_key(zone)));
        let unpriced: Vec<&str> = unpriced.map(|site| site.name.as_str()).collect();
        if !unpriced.is_empty() {
            notes.push(format!("No price is known for {}: their energy is not in the cost.", unpriced.join(", ")));
        }
        let rates = prices.rates.into_values().filter(|rate| used.contains(&rate.currency)).collect();
        Ok((signals, rates))
    }
}

/// What the reader of TOML says of a key, in the words of all other errors: given is this, allowed is that.
fn words(path: &str, message: &str) -> String {
    let message = message.replace('\n', " ");
    let wrong = message.strip_prefix("invalid type: ").or(message.strip_prefix("invalid value: "));
    if let Some((given, allowed)) = wrong.and_then(|wrong| wrong.split_once(", expected ")) {
        let value = given.split_once(['`', '"']).map(|(_, value)| value.trim_end_matches(['`', '"']));
        let given = value.map_or_else(|| format!("a {given}"), |value| format!("`{value}`"));
        let allowed = match allowed {
            "u64" | "u32" | "u16" => "a whole number from 0 on",
            "i64" => "a whole number",
            "f64" => "a number",
            "a string" => "a text in quotes",
            "path string" => "a path in quotes",
            other => other,
        };
        return format!("`{path}` is {given}; allowed is {allowed}");
    }
    let is_named = path.is_empty() || path == "." || message.contains(&format!("`{path}`"));
    if is_named { message } else { format!("`{path}`: {message}") }
}
