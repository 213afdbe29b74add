//! From options to a job.

use std::collections::BTreeMap;

use super::error::{Error, Note, Problem, shown};
use super::options::{Given, Options};
use super::shape::{self, at, wrong};
use super::table::Key;
use super::{Mode, Reading, Script, Surroundings, clock, depend, script, values};
use crate::check::Fault;
use crate::file::{check_script, read_array};
use crate::{JobFile, Tier, WireGang, human, pattern, signal};

const CONSTRAINT_ALLOWED: &str = "names of features, all of which a node must have, separated by `&`: `ib&nvme`; `|`, counts and brackets are not supported";

pub(super) fn read(options: &Options, script: Option<Script<'_>>, around: &Surroundings) -> Result<Reading, Error> {
    let (text, name, arguments) = match (script, options.last(Key::Wrap)) {
        (Some(_), Some(wrap)) => return Err(at(wrap, Problem::WrapAndScript)),
        (None, None) => return Err(Error { line: None, problem: Problem::Nothing }),
        (Some(script), None) => {
            let name = script.name.map_or("sbatch", |name| name.rsplit('/').next().unwrap_or(name));
            (script.text.to_owned(), name, script.arguments.to_vec())
        }
        (None, Some(wrap)) => {
            let command = wrap.value.as_deref().unwrap_or_default();
            (format!("#!/bin/sh\n# This script was made of sbatch --wrap.\n\n{command}\n"), "wrap", Vec::new())
        }
    };
    check_script(&text)?;
    let directives = script::directives(&text)?;
    if let Some(wrap) = directives.last(Key::Wrap) {
        return Err(at(wrap, Problem::WrapAndScript));
    }
    let options = options.over(directives);
    let mut job = JobFile { script: Some(text), arguments, ..JobFile::default() };
    let mut notes = options.notes.clone();
    let given = Of { options: &options, around };
    given.check_plain(&mut notes)?;
    given.gang(&mut job, &mut notes)?;
    given.times(&mut job)?;
    given.files(&mut job)?;
    given.around(&mut job, name, &mut notes)?;
    notes.sort_by_key(|note| note.line.unwrap_or(u64::MAX));
    notes.dedup();
    let has = |key| options.last(key).is_some();
    let mode = Mode {
        parsable: has(Key::Parsable),
        quiet: has(Key::Quiet),
        test_only: has(Key::TestOnly),
        wait: has(Key::Wait),
    };
    Ok(Reading { job, notes, mode })
}

struct Of<'a> {
    options: &'a Options,
    around: &'a Surroundings,
}

impl<'a> Of<'a> {
    /// The value of an option.
    fn text(&self, key: Key) -> Option<(&'a Given, &'a str)> {
        self.options.last(key).map(|given| (given, given.value.as_deref().unwrap_or_default()))
    }

    /// Options that are done by doing nothing, for one value and no other.
    fn check_plain(&self, notes: &mut Vec<Note>) -> Result<(), Error> {
        let refused = |given: &Given, way_out: &str| {
            Err(at(given, Problem::Refused { option: given.option, way_out: way_out.to_owned() }))
        };
        if let Some((given, kind)) = self.text(Key::Distribution) {
            let (nodes, sockets) =
                kind.split_once([':', ',']).map_or((kind, None), |(nodes, rest)| (nodes, Some(rest)));
            if !["block", "*"].contains(&nodes) {
                return Err(wrong(given, "block, the order in which tasks are always placed on nodes"));
            }
            if sockets.is_some() {
                let text = format!(
                    "`{}`: what stands behind `{nodes}` is ignored: no task is bound to a socket",
                    shown(given.option, Some(kind))
                );
                notes.push(Note { line: given.line, text });
            }
        }
        if let Some((given, file)) = self.text(Key::Input)
            && !["/dev/null", "none"].contains(&file)
        {
            return refused(given, "standard input is empty: read the file in the script, with `<`");
        }
        if let Some((given, count)) = self.text(Key::NtasksPerCore)
            && count != "1"
        {
            return Err(wrong(given, "1: tasks share no core"));
        }
        if let Some((given, off)) = self.text(Key::NoKill)
            && off != "off"
        {
            return refused(given, "a job that loses a node is started again as a whole, or fails");
        }
        match self.text(Key::KillOnInvalidDep) {
            Some((given, "no")) => {
                refused(given, "a job whose dependency can no longer be met is cancelled: leave it out")
            }
            Some((given, other)) if other != "yes" => Err(wrong(given, "yes")),
            _ => Ok(()),
        }
    }

    fn gang(&self, job: &mut JobFile, notes: &mut Vec<Note>) -> Result<(), Error> {
        let mut shape = shape::shape(self.options, notes)?;
        if let Some((given, features)) = self.text(Key::Constraint) {
            constrain(&mut shape.gang, given, features, notes)?;
        }
        job.gangs = vec![shape.gang];
        job.tasks = shape.layout.tasks;
        job.tasks_per_node = shape.layout.tasks_per_node;
        job.cpus_per_task = shape.layout.cpus_per_task;
        Ok(())
    }

    fn times(&self, job: &mut JobFile) -> Result<(), Error> {
        if let Some((given, text)) = self.text(Key::Time) {
            let limit = clock::limit(text).ok_or_else(|| wrong(given, clock::LIMIT_ALLOWED))?;
            job.duration = limit.map(human::write_duration);
        }
        let moment = |key| {
            self.text(key).map(|(given, text)| {
                let at = clock::moment(text, self.around.now, self.around.utc_offset);
                at.and_then(human::write_timestamp).ok_or_else(|| wrong(given, clock::MOMENT_ALLOWED))
            })
        };
        job.begin = moment(Key::Begin).transpose()?;
        job.deadline = moment(Key::Deadline).transpose()?;
        if let Some((given, text)) = self.text(Key::Signal) {
            // Slurm's `R:` lets a job start that would run into a reservation, which none does here.
            let bare = text.strip_prefix("R:").unwrap_or(text).replace("RB:", "B:").replace("BR:", "B:");
            signal::warning("signal", &bare).map_err(|fault| wrong(given, fault.allowed))?;
            job.signal = Some(bare);
        }
        Ok(())
    }

    fn files(&self, job: &mut JobFile) -> Result<(), Error> {
        let by_default = if self.options.last(Key::Array).is_some() { "slurm-%A_%a.out" } else { "slurm-%j.out" };
        let file = |key| {
            let checked = |(given, text): (&Given, &str)| {
                pattern::check(given.option, text).map_err(|fault| wrong(given, fault.allowed))?;
                Ok::<_, Error>(text.to_owned())
            };
            self.text(key).map(checked).transpose()
        };
        job.output = Some(file(Key::Output)?.unwrap_or_else(|| by_default.to_owned()));
        job.error = file(Key::Error)?;
        job.append = match self.text(Key::OpenMode) {
            None => None,
            Some((_, "append" | "a")) => Some(true),
            Some((_, "truncate" | "t")) => Some(false),
            Some((given, _)) => return Err(wrong(given, "append or truncate")),
        };
        job.directory = Some(match self.text(Key::Chdir) {
            None | Some((_, ".")) => self.around.directory.clone(),
            Some((_, path)) if path.starts_with('/') => path.to_owned(),
            Some((given, "")) => return Err(wrong(given, "the path of a folder")),
            Some((_, path)) => format!("{}/{path}", self.around.directory.trim_end_matches('/')),
        });
        Ok(())
    }

    /// `--priority`, or else what `--nice` takes off; 100 where it does not say how much, as in Slurm.
    fn priority(&self) -> Result<Option<i32>, Error> {
        let number = |(given, text): (&Given, &str)| {
            text.parse::<i32>().map_err(|_| wrong(given, "a whole number from -2147483648 to 2147483647"))
        };
        if let Some(priority) = self.text(Key::Priority) {
            return number(priority).map(Some);
        }
        let nice = |(given, text)| if str::is_empty(text) { Ok(100) } else { number((given, text)) };
        Ok(self.text(Key::Nice).map(nice).transpose()?.map(i32::saturating_neg))
    }

    /// Name, tenant, tier, environment, and what happens before and after.
    fn around(&self, job: &mut JobFile, name: &str, notes: &mut Vec<Note>) -> Result<(), Error> {
        job.name = Some(self.text(Key::JobName).map_or(name, |(_, name)| name).to_owned());
        job.tenant = self.text(Key::Account).map(|(_, account)| account.to_owned());
        for key in [Key::Partition, Key::Qos] {
            let Some((given, word)) = self.text(key) else { continue };
            match tier(word) {
                Some(tier) => job.tier = Some(tier),
                None => {
                    let text = format!(
                        "`{}` is ignored: it names no tier (reserved, guaranteed, standard, spot), and there are no \
                         partitions: where a job may lie follows from what it asks for",
                        shown(given.option, Some(word))
                    );
                    notes.push(Note { line: given.line, text });
                }
            }
        }
        if let Some((given, name)) = self.text(Key::Reservation) {
            if name.contains(',') {
                return Err(wrong(given, "the name of one reservation"));
            }
            job.reservation = Some(name.to_owned());
        }
        job.priority = self.priority()?;
        job.environment = match self.text(Key::Export) {
            None => values::exported("ALL", &self.around.environment).unwrap_or_default(),
            Some((given, text)) => values::exported(text, &self.around.environment).ok_or_else(|| {
                wrong(given, "ALL, NONE, or names and NAME=value separated by commas, with ALL among them or without")
            })?,
        };
        if let Some((given, text)) = self.text(Key::Array) {
            read_array(text).map_err(|fault: Fault| wrong(given, fault.allowed))?;
            job.array = Some(text.to_owned());
        }
        if let Some(given) = self.options.last(Key::Dependency) {
            job.after = depend::dependencies(given)?;
        }
        job.hold = self.options.last(Key::Hold).map(|_| true);
        job.requeue = self.options.given.iter().rev().find_map(|given| match given.key {
            Key::Requeue => Some(true),
            Key::NoRequeue => Some(false),
            _ => None,
        });
        Ok(())
    }
}

fn tier(word: &str) -> Option<Tier> {
    match word.to_ascii_lowercase().as_str() {
        "reserved" => Some(Tier::Reserved),
        "guaranteed" => Some(Tier::Guaranteed),
        "standard" => Some(Tier::Standard),
        "spot" => Some(Tier::Spot),
        _ => None,
    }
}

/// A feature is the kind of the chips that are asked for, or an attribute of the node: `ib` is `ib = "true"`, and
/// `zone=a` is `zone = "a"`.
fn constrain(gang: &mut WireGang, given: &Given, features: &str, notes: &mut Vec<Note>) -> Result<(), Error> {
    let mut attributes = BTreeMap::new();
    for feature in features.split(['&', ',']).map(str::trim) {
        let (key, value) = feature.split_once('=').unwrap_or((feature, "true"));
        let is_word = |text: &str| {
            (1..=crate::check::LONGEST_WORD_BYTES).contains(&text.len())
                && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_./".contains(&byte))
        };
        if !is_word(key) || !is_word(value) {
            return Err(wrong(given, CONSTRAINT_ALLOWED));
        }
        if gang.chips.is_some() && !feature.contains('=') && values::is_kind(key) {
            let kind = values::kind_name(key);
            if gang.accelerators.iter().any(|other| *other != kind) {
                return Err(wrong(given, format!("the kind of chip that is asked for, {}", gang.accelerators[0])));
            }
            notes.push(Note {
                line: given.line,
                text: format!("the feature `{key}` is read as chips of the kind {kind}"),
            });
            gang.accelerators = vec![kind];
        } else if attributes.insert(key.to_owned(), value.to_owned()).is_some_and(|other| other != value) {
            return Err(wrong(given, format!("one value for `{key}`")));
        }
    }
    gang.attributes = attributes;
    Ok(())
}
