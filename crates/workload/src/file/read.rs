//! From what is written to what is meant.

use std::collections::BTreeMap;
use std::sync::Arc;

use offtake_units::{Duration, Timestamp};

use super::{JobFile, Submission, array, service};
use crate::check::{self, Fault};
use crate::human::{self, DURATION_ALLOWED, TIMESTAMP_ALLOWED};
use crate::trace::{WireGang, WireJob};
use crate::{Layout, Program, Start, Stop, pattern, signal};

/// Bytes of a script, as in Slurm.
pub const MOST_SCRIPT_BYTES: usize = 4 << 20;
/// Bytes of all environment variables together, and of all arguments.
const MOST_TEXT_BYTES: usize = 1 << 20;
/// Environment variables, and arguments.
const MOST_TEXTS: usize = 10_000;
/// Bytes that Linux hands to a program in one argument or variable.
const LONGEST_TEXT_BYTES: usize = (128 << 10) - 1;
const MOST_DEPENDENCIES: usize = 1000;
const MOST_RESTARTS: u32 = 1000;
/// Time that workers may take to end: they hold their nodes meanwhile.
const LONGEST_GRACE: Duration = Duration::DAY;
/// Time to save work where none is named.
const CHECKPOINT_GRACE: Duration = Duration::MINUTE;
/// Processor of the worker that a job has when it names no gang, in thousandths of a core.
const ONE_CORE: u32 = 1000;

impl JobFile {
    /// The job, submitted at `submitted` by a member of `tenant` (which counts where the file names none).
    ///
    /// # Errors
    /// The first field that cannot be meant.
    pub fn read(mut self, submitted: Timestamp, tenant: &str) -> Result<Submission, Fault> {
        let service = self.service.take();
        if service.is_some() {
            service::check_beside(&self)?;
        }
        let start = start(std::mem::take(&mut self.command), self.script.take(), std::mem::take(&mut self.arguments))?;
        let name = self.name.take().unwrap_or_else(|| default_name(&start));
        let must_meet_deadline = self.must_meet_deadline.unwrap_or(false);
        let array = self.array.as_deref().map(|text| array::parse("array", text)).transpose()?;
        let mut job = WireJob {
            name,
            tenant: self.tenant.take().unwrap_or_else(|| tenant.to_owned()),
            submitted: String::new(),
            tier: self.tier,
            priority: self.priority,
            duration: self.duration.take(),
            deadline: self.deadline.take(),
            preemptible: self.preemptible,
            reservation: self.reservation.take(),
            after: Vec::new(),
            checkpoint_interval: self.checkpoint_interval.take(),
            checkpoint_size: self.checkpoint_size.take(),
            pause: self.pause.take(),
            gangs: gangs(std::mem::take(&mut self.gangs)),
        }
        .submitted_at(submitted)?;
        check::job(&job)?;
        if must_meet_deadline && (job.deadline.is_none() || job.duration.is_none()) {
            let allowed = "true beside a `deadline` and a `duration`: without them nobody can tell";
            return Err(Fault::new("must_meet_deadline", true, allowed));
        }
        let program = self.program(start)?;
        if let (Some(begin), Some(deadline)) = (program.begin, job.deadline)
            && begin >= deadline
        {
            let given = human::write_timestamp(begin).unwrap_or_default();
            return Err(Fault::new("begin", given, "an instant before `deadline`"));
        }
        job.program = Some(Arc::new(program));
        let service = service.map(|service| service.of_replicas(&job)).transpose()?;
        Ok(Submission { job, array, must_meet_deadline, service })
    }

    /// What remains of the file once the fields of the job are taken.
    fn program(self, start: Start) -> Result<Program, Fault> {
        check_environment(&self.environment)?;
        let directory = self.directory.unwrap_or_default();
        check_directory(&directory)?;
        for (field, file) in [("output", &self.output), ("error", &self.error)] {
            file.iter().try_for_each(|file| pattern::check(field, file))?;
        }
        let restarts = self.restarts.unwrap_or(0);
        if restarts > MOST_RESTARTS {
            return Err(Fault::new("restarts", restarts, format!("0 to {MOST_RESTARTS}")));
        }
        if self.after.len() > MOST_DEPENDENCIES {
            let given = format!("{} jobs", self.after.len());
            return Err(Fault::new("after", given, format!("at most {MOST_DEPENDENCIES} jobs")));
        }
        let begin = self
            .begin
            .map(|text| human::parse_timestamp(&text).ok_or_else(|| Fault::new("begin", text, TIMESTAMP_ALLOWED)));
        let layout =
            Layout { tasks: self.tasks, tasks_per_node: self.tasks_per_node, cpus_per_task: self.cpus_per_task };
        check_layout(&layout)?;
        Ok(Program {
            start,
            environment: self.environment,
            directory,
            output: self.output,
            error: self.error,
            append: self.append.unwrap_or(false),
            layout,
            stop: stop(self.checkpoint_signal, self.checkpoint_grace, self.grace)?,
            warning: self.signal.map(|text| signal::warning("signal", &text)).transpose()?,
            requeue: self.requeue.unwrap_or(true),
            restarts,
            after: self.after,
            array: None,
            begin: begin.transpose()?,
            user: None,
            hold: self.hold.unwrap_or(false),
        })
    }
}

fn start(command: Vec<String>, script: Option<String>, arguments: Vec<String>) -> Result<Start, Fault> {
    match (command.is_empty(), script) {
        (false, Some(_)) => Err(Fault::new("script", "a script", "either `command` or `script`, not both")),
        (true, None) => Err(Fault::new(
            "command",
            "",
            "a program and its arguments, such as `[\"python3\", \"train.py\"]`, or a `script`",
        )),
        (false, None) if !arguments.is_empty() => {
            let allowed = "nothing beside `command`: write them behind the program";
            Err(Fault::new("arguments", arguments.join(" "), allowed))
        }
        (false, None) => {
            check_texts("command", &command)?;
            if command[0].is_empty() {
                return Err(Fault::new("command[0]", "", "the name or the path of a program"));
            }
            Ok(Start::Command(command))
        }
        (true, Some(text)) => {
            check_script(&text)?;
            check_texts("arguments", &arguments)?;
            Ok(Start::Script { text, arguments })
        }
    }
}

/// The name of what runs, where it can be a job's.
fn default_name(start: &Start) -> String {
    let name = match start {
        Start::Command(words) => words[0].rsplit('/').next().unwrap_or_default(),
        Start::Script { .. } => "script",
    };
    if check::is_name(name) { name.to_owned() } else { "job".to_owned() }
}

fn gangs(written: Vec<WireGang>) -> Vec<WireGang> {
    if !written.is_empty() {
        return written;
    }
    vec![WireGang { workers: Some(1), cpu_milli: Some(ONE_CORE), ..WireGang::default() }]
}

pub(crate) fn check_script(text: &str) -> Result<(), Fault> {
    let first = text.lines().next().unwrap_or_default();
    if first.strip_prefix("#!").is_none_or(|interpreter| interpreter.trim().is_empty()) {
        let allowed = "a script whose first line is `#!` and an interpreter, such as `#!/bin/bash`";
        return Err(Fault::new("script", first, allowed));
    }
    if text.len() > MOST_SCRIPT_BYTES {
        return Err(Fault::new(
            "script",
            format!("{} bytes", text.len()),
            format!("at most {MOST_SCRIPT_BYTES} bytes"),
        ));
    }
    if text.contains('\0') {
        return Err(Fault::new("script", "a text with a NUL byte", "text without NUL bytes"));
    }
    if text.contains("\r\n") {
        let allowed = "lines that end in a line feed alone: convert it with `dos2unix`";
        return Err(Fault::new("script", "a text with DOS line breaks", allowed));
    }
    Ok(())
}

fn check_texts(field: &str, texts: &[String]) -> Result<(), Fault> {
    if texts.len() > MOST_TEXTS {
        return Err(Fault::new(field, format!("{} words", texts.len()), format!("at most {MOST_TEXTS} words")));
    }
    for (index, text) in texts.iter().enumerate() {
        if text.contains('\0') {
            return Err(Fault::new(format!("{field}[{index}]"), text, "text without NUL bytes"));
        }
        if text.len() > LONGEST_TEXT_BYTES {
            return Err(Fault::new(format!("{field}[{index}]"), text, format!("at most {LONGEST_TEXT_BYTES} bytes")));
        }
    }
    let bytes: usize = texts.iter().map(String::len).sum();
    if bytes > MOST_TEXT_BYTES {
        return Err(Fault::new(field, format!("{bytes} bytes"), format!("at most {MOST_TEXT_BYTES} bytes in all")));
    }
    Ok(())
}

fn check_environment(variables: &BTreeMap<String, String>) -> Result<(), Fault> {
    if variables.len() > MOST_TEXTS {
        let given = format!("{} variables", variables.len());
        return Err(Fault::new("environment", given, format!("at most {MOST_TEXTS} variables")));
    }
    let mut bytes = 0;
    for (key, value) in variables {
        if key.is_empty() || key.contains(['=', '\0']) {
            return Err(Fault::new("environment", key, "keys that are not empty, without `=` and NUL"));
        }
        // Between the two stands an equals sign, and behind them a NUL.
        let length = key.len() + value.len() + 2;
        if value.contains('\0') {
            return Err(Fault::new(format!("environment.{}", crate::input::excerpt(key)), value, "text without NUL"));
        }
        if length > LONGEST_TEXT_BYTES {
            let field = format!("environment.{}", crate::input::excerpt(key));
            return Err(Fault::new(field, value, format!("key and value of at most {LONGEST_TEXT_BYTES} bytes")));
        }
        bytes += length;
    }
    if bytes > MOST_TEXT_BYTES {
        let given = format!("{bytes} bytes");
        return Err(Fault::new("environment", given, format!("at most {MOST_TEXT_BYTES} bytes in all")));
    }
    Ok(())
}

fn check_directory(directory: &str) -> Result<(), Fault> {
    let is_absolute = directory.is_empty() || directory.starts_with('/');
    if is_absolute && directory.len() <= pattern::LONGEST_PATH_BYTES && !directory.contains('\0') {
        return Ok(());
    }
    let allowed =
        "a path from the root such as `/home/ada/train`, of at most 4095 bytes, or nothing for the user's home";
    Err(Fault::new("directory", directory, allowed))
}

fn check_layout(layout: &Layout) -> Result<(), Fault> {
    for (field, count) in
        [("tasks", layout.tasks), ("tasks_per_node", layout.tasks_per_node), ("cpus_per_task", layout.cpus_per_task)]
    {
        if let Some(count) = count.filter(|count| !(1..=check::MOST_WORKERS).contains(count)) {
            return Err(Fault::new(field, count, format!("1 to {}", check::MOST_WORKERS)));
        }
    }
    Ok(())
}

fn stop(signal: Option<String>, checkpoint_grace: Option<String>, grace: Option<String>) -> Result<Stop, Fault> {
    let span = |field: &str, text: String| match human::parse_duration(&text) {
        None => Err(Fault::new(field, text, DURATION_ALLOWED)),
        Some(span) if span > LONGEST_GRACE => Err(Fault::new(field, text, "up to 24h")),
        Some(span) => Ok(span),
    };
    let mut stop = Stop::default();
    if let Some(text) = grace {
        stop.grace = span("grace", text)?;
    }
    let Some(text) = signal else {
        return match checkpoint_grace {
            Some(text) => Err(Fault::new("checkpoint_grace", text, "nothing without a `checkpoint_signal`")),
            None => Ok(stop),
        };
    };
    let number = signal::parse(&text).filter(|number| ![signal::KILL, signal::STOP].contains(number));
    let allowed = || format!("{}; not KILL and STOP, which no program can answer", signal::SIGNAL_ALLOWED);
    stop.checkpoint_signal = Some(number.ok_or_else(|| Fault::new("checkpoint_signal", text, allowed()))?);
    stop.checkpoint_grace = checkpoint_grace.map_or(Ok(CHECKPOINT_GRACE), |text| span("checkpoint_grace", text))?;
    Ok(stop)
}
