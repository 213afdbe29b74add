//! `offtake grid report`: what grid programmes pay, for a simulated run, or by any meter's table.

mod tables;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use clap::Args;
use offtake_programmes::{Programme, Statement, settle};
use serde::{Deserialize, Serialize};

use crate::show::statement::full;
use crate::terminal::{BadInput, print, print_json};

#[derive(Args)]
pub struct Arguments {
    /// Folder of a simulated run, such as out/peak-day
    #[arg(value_name = "RUN", required_unless_present = "fleet", conflicts_with_all = ["fleet", "meter", "events"])]
    run: Option<PathBuf>,
    /// Fleet file with the terms, to settle a meter's table
    #[arg(long, value_name = "FILE", requires_all = ["meter", "events"])]
    fleet: Option<PathBuf>,
    /// What the meter counted: CSV with `utc` and one of `kwh`, `mwh`, `kw` and `mw`
    #[arg(long, value_name = "CSV", requires = "fleet")]
    meter: Option<PathBuf>,
    /// What was called: CSV with `name`, `announced`, `at`, `until`; optionally `megawatts` or `cut`
    #[arg(long, value_name = "CSV", requires = "fleet")]
    events: Option<PathBuf>,
    /// The grid programme [default: of a run all, of a fleet file its only one]
    #[arg(long, value_name = "NAME")]
    programme: Option<String>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub fn run(arguments: &Arguments) -> anyhow::Result<()> {
    if let Some(folder) = &arguments.run {
        return of_run(folder, arguments);
    }
    let (Some(fleet), Some(meter), Some(events)) = (&arguments.fleet, &arguments.meter, &arguments.events) else {
        return Err(BadInput("a run's folder is needed, or --fleet, --meter and --events".to_owned()).into());
    };
    let fleet_file = fleet.display().to_string();
    let fleet = offtake_fleet::read(fleet, &BTreeMap::new())?;
    let programme = chosen(&fleet.programmes, arguments.programme.as_deref(), &fleet_file)?;
    let series = tables::meter(meter)?;
    let settlement = settle(programme, &series, &tables::events(events)?);
    let statement = Statement::of(programme, &settlement);
    if arguments.json {
        return print_json(&statement);
    }
    print(&full(&statement))
}

fn chosen<'a>(programmes: &'a [Programme], name: Option<&str>, file: &str) -> Result<&'a Programme, BadInput> {
    let known = programmes.iter().map(|programme| programme.name.as_str()).collect::<Vec<_>>().join(", ");
    match (programmes, name) {
        ([], _) => Err(BadInput(format!("{file}: has no grid programme: describe one under [programmes.NAME]"))),
        (_, Some(name)) => {
            let found = programmes.iter().find(|programme| programme.name == name);
            found.ok_or_else(|| BadInput(format!("--programme `{name}`: {file} has {known}")))
        }
        ([only], None) => Ok(only),
        _ => Err(BadInput(format!("{file}: has several grid programmes: choose one with --programme, of {known}"))),
    }
}

/// What of a run's summary is needed.
#[derive(Deserialize)]
struct Summary {
    policies: BTreeMap<String, Figures>,
}

#[derive(Deserialize)]
struct Figures {
    #[serde(default)]
    grid: Grid,
}

#[derive(Default, Deserialize)]
struct Grid {
    #[serde(default)]
    programmes: Vec<Statement>,
}

/// What a policy's run earned.
#[derive(Serialize)]
struct Earned<'a> {
    policy: &'a str,
    programmes: Vec<Statement>,
}

fn of_run(folder: &Path, arguments: &Arguments) -> anyhow::Result<()> {
    let path = folder.join("summary.json");
    let file = path.display();
    let text = std::fs::read_to_string(&path).map_err(|error| {
        BadInput(format!("{file}: cannot be read ({}): name the folder of a run, such as out/peak-day", error.kind()))
    })?;
    let summary: Summary = serde_json::from_str(&text).map_err(|error| {
        BadInput(format!("{file}:{}: is not the summary of a run: {error}; run `offtake simulate` again", error.line()))
    })?;
    let is_asked = |statement: &Statement| arguments.programme.as_ref().is_none_or(|name| *name == statement.programme);
    let earned = summary.policies.iter().map(|(policy, figures)| {
        let programmes = figures.grid.programmes.iter().filter(|statement| is_asked(statement)).cloned().collect();
        Earned { policy, programmes }
    });
    let earned: Vec<Earned<'_>> = earned.collect();
    if earned.iter().all(|earned| earned.programmes.is_empty()) {
        let which = arguments.programme.as_ref().map(|name| format!(" `{name}`")).unwrap_or_default();
        let message = format!("{file}: the run has no grid programme{which}: describe one in its fleet file");
        return Err(BadInput(message).into());
    }
    if arguments.json {
        return print_json(&earned);
    }
    let mut text = String::new();
    for Earned { policy, programmes } in &earned {
        if !text.is_empty() {
            text.push('\n');
        }
        if earned.len() > 1 {
            text.push_str(&format!("Policy {policy}\n\n"));
        }
        let statements: Vec<String> = programmes.iter().map(full).collect();
        text.push_str(&statements.join("\n"));
    }
    print(&text)
}
