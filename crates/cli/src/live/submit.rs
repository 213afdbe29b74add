//! `offtake submit`, and what `sbatch` shares with it.

use std::path::Path;
use std::process::ExitCode;

use clap::Args;
use offtake_protocol::rest::{JobDetail, Submitted, WhatIf, WhatIfRequest};
use offtake_units::Timestamp;
use offtake_workload::human::write_timestamp;
use offtake_workload::sbatch::{Options, Reading, Script};
use offtake_workload::{JobFile, JobText};

use super::follow::Pauses;
use super::{Common, instants, launch, surroundings};
use crate::connection::Connection;
use crate::show::figures;
use crate::terminal::{BadInput, print, print_json};

#[derive(Args)]
pub struct Arguments {
    /// Submit it on hold: it waits until it is released
    #[arg(long)]
    hold: bool,
    /// Its standing among the waiting jobs of its tenant; the highest goes first
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    priority: Option<i32>,
    /// Run it in this reservation: on its nodes, while it lasts
    #[arg(long, value_name = "NAME")]
    reservation: Option<String>,
    /// When it must have ended: an instant such as 2026-03-02T08:00:00Z, or now+2h
    #[arg(long, value_name = "TIME", value_parser = instants::read)]
    deadline: Option<Timestamp>,
    /// Refuse it where its deadline cannot be met
    #[arg(long)]
    must_meet_deadline: bool,
    /// The fewest workers of its only gang, with which it may start and to which it may shrink
    #[arg(long, value_name = "N")]
    workers_min: Option<u32>,
    /// The most workers of its only gang, to which it may grow
    #[arg(long, value_name = "N")]
    workers_max: Option<u32>,
    /// Job file (TOML), #SBATCH script, or -; options of sbatch before it, a script's arguments behind it
    #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true, value_name = "FILE")]
    words: Vec<String>,
    #[command(flatten)]
    common: Common,
}

pub async fn run(arguments: &Arguments) -> anyhow::Result<ExitCode> {
    let (words, json) = without_json(&arguments.words);
    let mut reading = read(&words)?;
    if arguments.hold {
        reading.job.hold = Some(true);
    }
    reading.job.priority = arguments.priority.or(reading.job.priority);
    reading.job.reservation = arguments.reservation.clone().or(reading.job.reservation);
    reading.job.deadline = arguments.deadline.and_then(write_timestamp).or(reading.job.deadline);
    if arguments.must_meet_deadline {
        reading.job.must_meet_deadline = Some(true);
    }
    bound_workers(&mut reading.job, arguments)?;
    let json = json || arguments.common.json;
    let parsable = reading.mode.parsable;
    let word = if reading.job.service.is_some() { "service" } else { "job" };
    submit(&arguments.common.open()?, &reading, "", &|submitted| match (json, parsable, submitted.count) {
        (true, ..) => print_json(submitted),
        (_, true, _) => print(&format!("{}\n", submitted.id)),
        (_, _, 1) => print(&format!("{word} {}\n", submitted.id)),
        (_, _, count) => print(&format!("array {} of {count} jobs\n", submitted.id)),
    })
    .await
}

/// Makes the only gang of a job elastic, where that is asked for.
fn bound_workers(job: &mut JobFile, arguments: &Arguments) -> Result<(), BadInput> {
    let (minimum, maximum) = (arguments.workers_min, arguments.workers_max);
    if minimum.is_none() && maximum.is_none() {
        return Ok(());
    }
    let [gang] = job.gangs.as_mut_slice() else {
        let given = job.gangs.len();
        return Err(BadInput(format!(
            "--workers-min and --workers-max are for a job of one gang; this one names {given}"
        )));
    };
    gang.workers_min = minimum.or(gang.workers_min);
    gang.workers_max = maximum.or(gang.workers_max);
    Ok(())
}

/// `--json` may stand anywhere before `--`; a script gets it behind that.
fn without_json(words: &[String]) -> (Vec<String>, bool) {
    let end = words.iter().position(|word| word == "--").unwrap_or(words.len());
    let (ours, rest) = words.split_at(end);
    let kept: Vec<String> = ours.iter().filter(|word| *word != "--json").cloned().collect();
    let json = kept.len() < ours.len();
    (kept.into_iter().chain(rest.iter().cloned()).collect(), json)
}

/// Reads options of sbatch, the file that they stand before, and its arguments, which may stand behind `--`.
fn read(words: &[String]) -> anyhow::Result<Reading> {
    let (options, used) = Options::parse(words)?;
    let surroundings = surroundings::of_script()?;
    let mut reading = match words.get(used..).unwrap_or_default() {
        [] => options.read(None, &surroundings)?,
        [file, dashes, arguments @ ..] if dashes == "--" => text(file)?.read(&options, arguments, &surroundings)?,
        [file, arguments @ ..] => text(file)?.read(&options, arguments, &surroundings)?,
    };
    reading.job.directory.get_or_insert(surroundings.directory);
    Ok(reading)
}

/// Reads the words of `sbatch` itself: every word behind the script is the script's, and without a script standard
/// input is read.
///
/// # Errors
/// When an option, the script or what it says cannot be meant.
pub fn read_batch(words: &[String]) -> anyhow::Result<Reading> {
    let (options, used) = Options::parse(words)?;
    let surroundings = surroundings::of_script()?;
    let (script, arguments) = match words.get(used..).unwrap_or_default() {
        // `--wrap` needs none.
        [] if options.read(None, &surroundings).is_ok() => return Ok(options.read(None, &surroundings)?),
        [] => (JobText::from_reader(std::io::stdin().lock())?, [].as_slice()),
        [file, arguments @ ..] => (JobText::open(Path::new(file))?, arguments),
    };
    let file = script.file.as_deref().and_then(Path::file_name).and_then(|name| name.to_str());
    let script = Script { name: file, text: &script.text, arguments };
    Ok(options.read(Some(script), &surroundings)?)
}

/// Reads the job of a file, for commands that take no options of sbatch.
///
/// # Errors
/// When the file or what it says cannot be meant.
pub fn read_one(file: &str) -> anyhow::Result<JobFile> {
    let surroundings = surroundings::of_script()?;
    let reading = text(file)?.read(&Options::default(), &[], &surroundings)?;
    Ok(reading.job)
}

fn text(file: &str) -> anyhow::Result<JobText> {
    Ok(match file {
        "-" => JobText::from_reader(std::io::stdin().lock())?,
        file => JobText::open(Path::new(file))?,
    })
}

/// Submits what was read, tells it with `tell`, and waits for its end where that is asked for.
///
/// # Errors
/// When it is not accepted, or the server stays away.
pub async fn submit(
    connection: &Connection,
    reading: &Reading,
    who: &str,
    tell: &impl Fn(&Submitted) -> anyhow::Result<()>,
) -> anyhow::Result<ExitCode> {
    if !reading.mode.quiet {
        reading.notes.iter().for_each(|note| eprintln!("{who}note: {note}"));
    }
    if reading.mode.test_only {
        return test(connection, &reading.job, who).await;
    }
    let submitted: Submitted = connection.post("/v1/jobs", &reading.job).await?;
    launch::say_deadline(&submitted, who);
    if !reading.mode.quiet || reading.mode.parsable {
        tell(&submitted)?;
    }
    if !reading.mode.wait {
        return Ok(ExitCode::SUCCESS);
    }
    let mut worst = ExitCode::SUCCESS;
    for id in submitted.id..submitted.id + u64::from(submitted.count) {
        let code = launch::exit_code(&end(connection, id).await?);
        if code != ExitCode::SUCCESS {
            worst = code;
        }
    }
    Ok(worst)
}

/// Says when a job would start, and submits nothing.
async fn test(connection: &Connection, job: &JobFile, who: &str) -> anyhow::Result<ExitCode> {
    let request = WhatIfRequest { submit: vec![job.clone()], ..WhatIfRequest::default() };
    let answer: WhatIf = connection.post("/v1/what-if", &request).await?;
    let start = answer.jobs.iter().find(|change| change.id == 0).and_then(|change| change.start_then_ms);
    match start {
        Some(start) => eprintln!("{who}the job would start at {}", figures::instant(start)),
        None => eprintln!("{who}the job would not start: {}", answer.summary),
    }
    Ok(if start.is_some() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Waits for the end of a job.
async fn end(connection: &Connection, id: u64) -> anyhow::Result<JobDetail> {
    let mut pauses = Pauses::new();
    loop {
        let detail: JobDetail = connection.get(&format!("/v1/jobs/{id}")).await?;
        if detail.job.state.is_over() {
            return Ok(detail);
        }
        pauses.pause().await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn owned(words: &[&str]) -> Vec<String> {
        words.iter().map(|word| (*word).to_owned()).collect()
    }

    #[test]
    fn json_is_ours_before_the_dashes() {
        let read = |words: &[&str]| without_json(&owned(words));
        assert_eq!(read(&["-N", "2", "--json", "a.sh"]), (owned(&["-N", "2", "a.sh"]), true));
        assert_eq!(read(&["a.toml", "--json"]), (owned(&["a.toml"]), true));
        assert_eq!(read(&["a.sh", "--", "--json"]), (owned(&["a.sh", "--", "--json"]), false));
    }

    #[test]
    fn a_command_is_wrapped() {
        let reading = read(&owned(&["--wrap", "hostname", "-J", "who"])).expect("it is a job");
        assert_eq!(reading.job.name.as_deref(), Some("who"));
        assert!(reading.job.script.is_some_and(|script| script.contains("hostname")));
        assert!(reading.job.directory.is_some_and(|directory| directory.starts_with('/')));
        assert!(read(&owned(&["--no-such-option", "a.sh"])).is_err());
        assert!(read(&owned(&["no-such-file.sh"])).is_err());
    }
}
