//! Scenario files: which fleet, which work, which signals, for how long, under which policies.

mod failures;
mod file;
mod grid;
mod signals;
mod utility;
mod work;

use std::collections::BTreeSet;
use std::fmt::Display;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::Arc;

use self::file::File;
use crate::meters::put_up;
use crate::run::Setup;
use crate::weather;
use offtake_engine::{Policy, PolicyError};
use offtake_signals::ExchangeRate;
use offtake_units::{Duration, Ppm};
use offtake_workload::{Job, Purpose, Reservation, Service, ServiceText};

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

/// Runs of no longer than this are metered minute by minute.
const MOST_METERED: Duration = Duration::from_secs(2 * 86_400);
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
        let mut grid_events = self.grid_events(&file.grid_events, &file.grid_programmes, &mut fleet)?;
        grid_events.extend(self.cooling_losses(&file.cooling_losses, &mut fleet, &mut notes)?);
        for (name, policy) in &policies {
            let wrong = |error: PolicyError| self.fault("policies", format!("names `{name}`"), error.message);
            policy.check_on(&fleet).map_err(wrong)?;
        }
        let feed_losses = self.feed_losses(&file, &fleet)?;
        let utility_losses = self.utility_losses(&file.utility_losses, &mut fleet)?;
        // Minute by minute only what is short, and where power changes.
        let is_watched = file.horizon.is_some_and(|horizon| horizon <= MOST_METERED)
            && (!grid_events.is_empty()
                || !feed_losses.is_empty()
                || !utility_losses.is_empty()
                || fleet.sites.iter().any(|site| site.cooling.is_some())
                || fleet.caps.iter().any(|cap| !cap.is_constant()));
        let meters = if is_watched { put_up(&mut fleet, &feed_losses) } else { Vec::new() };
        let cooled = weather::put_up(&mut fleet, &meters);
        let fleet = Arc::new(fleet);
        let failures = self.failures(file.failures.as_ref(), &fleet, seed)?;
        let (workload, start) = self.workload(&file, &fleet, seed, &mut notes)?;
        let overestimate = self.overestimate(file.workload.overestimate, &mut notes)?;
        let mut services = workload.services;
        services.extend(file.services.iter().map(|ServiceText(service)| service.clone()));
        if workload.jobs.is_empty() && services.is_empty() {
            return Err(self.fault("workload", "holds no job", "at least one job or service"));
        }
        self.check_service_names(&services)?;
        self.check_reservations(&file.reservations)?;
        self.check_named_reservations(&file, &workload.jobs)?;
        self.check_placeable(&file.workload, &fleet, &workload.jobs, &services)?;
        let ends = workload.jobs.iter().map(|job| job.submitted + job.duration.unwrap_or(Duration::ZERO) - start);
        // Without a horizon the run ends with its last job: at this time, or later where jobs wait.
        let span = file.horizon.or(ends.max()).unwrap_or(Duration::HOUR);
        let grid_events = self.draw_grid_events(grid_events, start, span, seed)?;
        self.check_feed_losses(&feed_losses, &meters, start)?;
        self.check_utility_losses(&file.utility_losses, start)?;
        let (signals, rates) = self.signals(&file, &fleet, start, span, &mut notes)?;
        let sample_every = Duration::from_millis((span.as_millis() / SAMPLES).max(Duration::MINUTE.as_millis()));
        Ok(Scenario {
            name: file.name,
            file: self.file,
            setup: Setup {
                fleet,
                jobs: workload.jobs.into_iter().map(Arc::new).collect(),
                overestimate,
                services: services.into_iter().map(Arc::new).collect(),
                reservations: file.reservations.into_iter().map(Arc::new).collect(),
                grid_events,
                feed_losses,
                utility_losses,
                cooled,
                meters,
                start,
                horizon: file.horizon,
                signals,
                sample_every,
                failures,
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
                // Instants are text in scenarios; on the command line they may stand without quotes.
                .filter(|value| !value.is_datetime())
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
        let from = self.table_of(field).unwrap_or_default();
        let place = self.text.lines().skip(from).position(is_key);
        place.map(|line| from + line + 1)
    }

    /// The line, from 0, of the table that a field such as `reservations[1].start` lies in.
    fn table_of(&self, field: &str) -> Option<usize> {
        let (tables, rest) = field.split_once('[')?;
        let index: usize = rest.split_once(']')?.0.parse().ok()?;
        let is_head = |line: &str| {
            let name = line.trim().strip_prefix("[[").and_then(|line| line.split_once("]]"));
            name.is_some_and(|(name, _)| name.trim() == tables)
        };
        self.text.lines().enumerate().filter(|(_, line)| is_head(line)).nth(index).map(|(line, _)| line)
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

    fn overestimate(&self, given: Option<f64>, notes: &mut Vec<String>) -> Result<Option<Ppm>, ScenarioError> {
        let Some(given) = given else { return Ok(None) };
        let factor = Ppm::from_ratio(given).filter(|factor| (1_000_000..=1_000_000_000).contains(&factor.parts()));
        let allowed = "1 to 1000: the time that jobs ask for over the time that they take";
        let factor = factor.ok_or_else(|| self.value("workload.overestimate", given, allowed))?;
        notes.push(format!("Jobs ask for {given} times as long as they take."));
        Ok(Some(factor))
    }

    fn check_service_names(&self, services: &[Service]) -> Result<(), ScenarioError> {
        let mut names = BTreeSet::new();
        match services.iter().find(|service| !names.insert(service.name.as_str())) {
            Some(twin) => Err(self.fault("services", format!("name `{}` twice", twin.name), "each name once")),
            None => Ok(()),
        }
    }

    fn check_reservations(&self, reservations: &[Reservation]) -> Result<(), ScenarioError> {
        for (index, reservation) in reservations.iter().enumerate() {
            reservation.check().map_err(|fault| {
                let field = format!("reservations[{index}].{}", fault.field);
                self.value(&field, fault.given, fault.allowed)
            })?;
        }
        let mut names = BTreeSet::new();
        match reservations.iter().find(|reservation| !names.insert(reservation.name.as_str())) {
            Some(twin) => Err(self.fault("reservations", format!("name `{}` twice", twin.name), "each name once")),
            None => Ok(()),
        }
    }

    /// A job that names a reservation that is not there would wait for ever.
    fn check_named_reservations(&self, file: &File, jobs: &[Job]) -> Result<(), ScenarioError> {
        let for_work = file.reservations.iter().filter(|reservation| reservation.purpose == Purpose::Work);
        let known: BTreeSet<&str> = for_work.map(|reservation| reservation.name.as_str()).collect();
        let allowed = || match known.len() {
            0 => "none, as the file has no [[reservations]] for work".to_owned(),
            _ => format!("one of {}", known.iter().copied().collect::<Vec<_>>().join(", ")),
        };
        let unknown = |named: &Option<String>| named.as_ref().is_some_and(|name| !known.contains(name.as_str()));
        let classes = &file.workload.classes;
        if let Some(index) = classes.iter().position(|class| unknown(&class.reservation)) {
            let given = classes[index].reservation.as_deref().unwrap_or_default();
            return Err(self.value(&format!("workload.classes[{index}].reservation"), given, allowed()));
        }
        let Some(job) = jobs.iter().find(|job| unknown(&job.reservation)) else { return Ok(()) };
        let given = job.reservation.as_deref().unwrap_or_default();
        let fault = format!("has job `{}` with the `reservation` `{given}`", job.name);
        Err(self.fault("workload.trace", fault, allowed()))
    }

    fn policies(&self, names: &[String], seed: u64) -> Result<Vec<(String, Policy)>, ScenarioError> {
        let known = || format!("one or more of {}, or of policy files (*.toml)", Policy::NAMES.join(", "));
        if names.is_empty() {
            return Err(self.fault("policies", "is empty", known()));
        }
        let mut policies: Vec<(String, Policy)> = Vec::new();
        for given in names {
            let (name, policy) = match given.strip_suffix(".toml") {
                Some(path) => (path.rsplit(['/', '\\']).next().unwrap_or(path), self.policy_file(given, seed)?),
                None => {
                    (given.as_str(), Policy::named(given, seed).ok_or_else(|| self.value("policies", given, known()))?)
                }
            };
            if policies.iter().any(|(other, _)| other == name) {
                return Err(self.fault("policies", format!("names `{name}` twice"), "each policy once"));
            }
            policies.push((name.to_owned(), policy));
        }
        Ok(policies)
    }

    /// The policy of a file, named as seen from the scenario; its seed, where it gives none, is the scenario's.
    fn policy_file(&self, given: &str, seed: u64) -> Result<Policy, ScenarioError> {
        let path = self.dir.join(given);
        let file = path.display().to_string();
        let text = read_text(&path, &file).map_err(|error| match error {
            ScenarioError::Unreadable { source, .. } => {
                let fault = format!("names `{given}`, which cannot be read: {source}");
                self.fault("policies", fault, "the path of a policy file, as seen from the scenario")
            }
            other => other,
        })?;
        let wrong =
            |error: PolicyError| ScenarioError::Syntax { file: file.clone(), line: error.line, message: error.message };
        let policy = Policy::from_toml(&text).map_err(wrong)?;
        let seed = if policy.seed == 0 { seed } else { policy.seed };
        Ok(Policy { seed, ..policy })
    }

    fn focus(&self, focus: Option<&str>, policies: &[(String, Policy)]) -> Result<String, ScenarioError> {
        let has = |name: &str| policies.iter().any(|(other, _)| other == name);
        match focus {
            Some(name) if has(name) => Ok(name.to_owned()),
            Some(name) if Policy::named(name, 0).is_none() => {
                let run: Vec<&str> = policies.iter().map(|(name, _)| name.as_str()).collect();
                Err(self.value("focus", name, format!("one of the policies: {}", run.join(", "))))
            }
            _ if has("offtake") => Ok("offtake".to_owned()),
            _ => Ok(policies[0].0.clone()),
        }
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
