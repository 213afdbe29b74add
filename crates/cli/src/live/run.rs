//! `offtake run`.

use std::process::ExitCode;

use clap::Args;
use clap::builder::RangedU64ValueParser;
use offtake_protocol::rest::FleetView;
use offtake_units::Timestamp;
use offtake_workload::human::write_timestamp;
use offtake_workload::{JobFile, Strength, Tier, WireGang};

use super::output::Printer;
use super::{Common, instants, launch, surroundings};
use crate::show::{figures, job};

#[derive(Args)]
pub struct Arguments {
    /// Workers, which start together or not at all
    #[arg(long, short, value_name = "N", default_value_t = 1, value_parser = RangedU64ValueParser::<u32>::new().range(1..))]
    workers: u32,
    /// The fewest workers with which it may start, and to which it may shrink
    #[arg(long, value_name = "N")]
    workers_min: Option<u32>,
    /// The most workers to which it may grow
    #[arg(long, value_name = "N")]
    workers_max: Option<u32>,
    /// Chips of each worker
    #[arg(long, value_name = "N")]
    chips: Option<u16>,
    /// Processor cores of each worker, such as 4 or 0.5 [default: 1, or less on few]
    #[arg(long, value_name = "N", value_parser = cores)]
    cpus: Option<u32>,
    /// Memory of each worker, such as 16GiB
    #[arg(long, value_name = "SIZE")]
    memory: Option<String>,
    /// Its name [default: the program's]
    #[arg(long)]
    name: Option<String>,
    /// Who pays
    #[arg(long)]
    tenant: Option<String>,
    /// Who may displace whom: reserved, guaranteed, standard or spot
    #[arg(long, value_parser = tier)]
    tier: Option<Tier>,
    /// How long it may run, such as 2h
    #[arg(long, value_name = "TIME")]
    time: Option<String>,
    /// File for its output, on its nodes, with Slurm's patterns; it is not printed then
    #[arg(long, value_name = "FILE")]
    output: Option<String>,
    /// Set a variable of its environment; it has those of this command too
    #[arg(long, value_name = "NAME=VALUE", value_parser = variable)]
    env: Vec<(String, String)>,
    /// Start it again after a failure of its own, so many times
    #[arg(long, value_name = "N")]
    restarts: Option<u32>,
    /// Run it in this reservation: on its nodes, while it lasts
    #[arg(long, value_name = "NAME")]
    reservation: Option<String>,
    /// When it must have ended: an instant such as 2026-03-02T08:00:00Z, or now+2h
    #[arg(long, value_name = "TIME", value_parser = instants::read)]
    deadline: Option<Timestamp>,
    /// Refuse it where its deadline cannot be met
    #[arg(long, requires = "deadline", requires = "time")]
    must_meet_deadline: bool,
    /// Keep its workers in one domain, such as rack:required or block:preferred
    #[arg(long, value_name = "LEVEL:STRENGTH", value_parser = topology)]
    topology: Option<(String, Strength)>,
    /// The program and its arguments
    #[arg(required = true, trailing_var_arg = true, value_name = "PROGRAM")]
    command: Vec<String>,
    #[command(flatten)]
    common: Common,
}

pub async fn run(arguments: &Arguments) -> anyhow::Result<ExitCode> {
    let mut job = job_file(arguments)?;
    let connection = arguments.common.open()?;
    if arguments.workers > 1 && arguments.cpus.is_none() {
        let fleet: FleetView = connection.get("/v1/fleet").await?;
        job.gangs[0].cpu_milli = Some(default_cores(arguments.workers, &fleet));
    }
    let mut printer = if arguments.workers > 1 { Printer::labelled(launch::label) } else { Printer::plain() };
    let detail = match launch::launch(&connection, &job, &mut printer).await? {
        launch::Watched::Over(detail) => detail,
        launch::Watched::Left => return Ok(launch::left()),
    };
    // The standard output is the work's own.
    match arguments.common.json {
        true => eprintln!("{}", serde_json::to_string_pretty(&*detail)?),
        false => eprint!("\n{}", job::receipt(&detail, figures::now_ms())),
    }
    Ok(launch::exit_code(&detail))
}

fn job_file(arguments: &Arguments) -> anyhow::Result<JobFile> {
    let mut environment = surroundings::environment();
    environment.extend(arguments.env.iter().cloned());
    let (level, strength) = arguments.topology.clone().unzip();
    let gang = WireGang {
        workers: Some(arguments.workers),
        workers_min: arguments.workers_min,
        workers_max: arguments.workers_max,
        chips: arguments.chips,
        cpu_milli: Some(arguments.cpus.unwrap_or(1000)),
        memory: arguments.memory.clone(),
        topology_level: level,
        topology_strength: strength,
        ..WireGang::default()
    };
    Ok(JobFile {
        name: arguments.name.clone(),
        tenant: arguments.tenant.clone(),
        tier: arguments.tier,
        duration: arguments.time.clone(),
        gangs: vec![gang],
        command: arguments.command.clone(),
        environment,
        directory: Some(surroundings::directory()?),
        output: arguments.output.clone(),
        restarts: arguments.restarts,
        reservation: arguments.reservation.clone(),
        deadline: arguments.deadline.and_then(write_timestamp),
        must_meet_deadline: arguments.must_meet_deadline.then_some(true),
        ..JobFile::default()
    })
}

/// A core for each worker, or where the fleet has fewer cores than there are workers an equal share of those, so that a
/// gang can be tried out on any machine.
fn default_cores(workers: u32, fleet: &FleetView) -> u32 {
    let share = fleet.cpu_milli / u64::from(workers.max(1));
    u32::try_from(share).unwrap_or(1000).clamp(1, 1000)
}

fn cores(text: &str) -> Result<u32, String> {
    let allowed = || "write cores as a number with at most three decimals, such as 4 or 0.5".to_owned();
    let (whole, part) = text.split_once('.').unwrap_or((text, ""));
    if part.len() > 3 || !format!("{whole}{part}").bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(allowed());
    }
    let milli = format!("{whole}{part:0<3}").parse().map_err(|_| allowed())?;
    if milli == 0 { Err(allowed()) } else { Ok(milli) }
}

/// Reads the word for a tier.
pub fn tier(text: &str) -> Result<Tier, String> {
    Tier::ALL
        .into_iter()
        .find(|tier| figures::tier(*tier) == text)
        .ok_or_else(|| "allowed is reserved, guaranteed, standard or spot".to_owned())
}

fn variable(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').filter(|(name, _)| !name.is_empty()).ok_or("write NAME=VALUE")?;
    Ok((name.to_owned(), value.to_owned()))
}

fn topology(text: &str) -> Result<(String, Strength), String> {
    let strength = match text.split_once(':') {
        Some((level, "required")) => Some((level, Strength::Required)),
        Some((level, "preferred")) => Some((level, Strength::Preferred)),
        _ => None,
    };
    let (level, strength) = strength
        .filter(|(level, _)| !level.is_empty())
        .ok_or("write a level of the fleet and required or preferred, such as rack:required")?;
    Ok((level.to_owned(), strength))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_and_places_are_read() {
        assert_eq!(["4", "0.5", "1.25", "0.001"].map(cores), [Ok(4000), Ok(500), Ok(1250), Ok(1)]);
        for wrong in ["", "0", ".", "-1", "1.2345", "1e3", "x", "99999999999"] {
            assert!(cores(wrong).is_err(), "{wrong}");
        }
        assert_eq!(topology("rack:required"), Ok(("rack".to_owned(), Strength::Required)));
        for wrong in ["", "rack", "rack:", ":required", "rack:wanted"] {
            assert!(topology(wrong).is_err(), "{wrong}");
        }
        assert_eq!(variable("A=b=c"), Ok(("A".to_owned(), "b=c".to_owned())));
        assert!(variable("=x").is_err() && variable("x").is_err());
        assert_eq!((tier("spot"), tier("best").is_err()), (Ok(Tier::Spot), true));
    }
}
