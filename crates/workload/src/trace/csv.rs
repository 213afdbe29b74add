//! Our table: jobs of one gang each.

use std::collections::BTreeMap;
use std::io::Write;

use super::wire::{WireGang, WireJob};
use super::{Collected, check_writable};
use crate::check::Fault;
use crate::error::{TraceError, WriteError};
use crate::input::{Column, InputError, Row, Table, write_row};
use crate::{Strength, Tier, Workload};

const COLUMNS: [Column; 29] = [
    Column::required("name"),
    Column::required("tenant"),
    Column::required("submitted"),
    Column::optional("tier"),
    Column::optional("duration"),
    Column::optional("deadline"),
    Column::optional("preemptible"),
    Column::optional("checkpoint_interval"),
    Column::optional("checkpoint_size"),
    Column::optional("workers"),
    Column::optional("chips"),
    Column::optional("chip_milli"),
    Column::optional("cpu_milli"),
    Column::optional("memory"),
    Column::optional("accelerators"),
    Column::optional("attributes"),
    Column::optional("topology_level"),
    Column::optional("topology_strength"),
    Column::optional("group_workers"),
    Column::optional("group_level"),
    Column::optional("spares"),
    Column::optional("torus"),
    Column::optional("priority"),
    Column::optional("workers_min"),
    Column::optional("workers_max"),
    Column::optional("topology_cost_ppm"),
    Column::optional("swing_ppm"),
    Column::optional("swing_period"),
    Column::optional("pause"),
];
const WRITTEN_COLUMNS: usize = 29;

pub(super) fn read(mut table: Table<'_>, into: &mut Collected<'_>) -> Result<(), TraceError> {
    into.column = flat_name;
    let positions = table.positions(&COLUMNS)?;
    while let Some(row) = table.next_row()? {
        let job =
            wire_job(&row, &positions)?.into_model().map_err(|fault| TraceError::fault(row.place(), flat(fault)))?;
        into.job(row.number(), job)?;
    }
    Ok(())
}

/// A table has no gangs to number.
fn flat(fault: Fault) -> Fault {
    Fault { field: flat_name(&fault.field).to_owned(), ..fault }
}

fn flat_name(field: &str) -> &str {
    field.strip_prefix("gangs[0].").unwrap_or(field)
}

fn wire_job(row: &Row<'_>, positions: &[Option<usize>; COLUMNS.len()]) -> Result<WireJob, InputError> {
    let [
        name,
        tenant,
        submitted,
        tier,
        duration,
        deadline,
        preemptible,
        checkpoint_interval,
        checkpoint_size,
        workers,
        chips,
        chip_milli,
        cpu_milli,
        memory,
        accelerators,
        attributes,
        topology_level,
        topology_strength,
        group_workers,
        group_level,
        spares,
        torus,
        priority,
        workers_min,
        workers_max,
        topology_cost_ppm,
        swing_ppm,
        swing_period,
        pause,
    ] = *positions;
    let text = |position| Some(row.text(position)).filter(|text| !text.is_empty()).map(str::to_owned);
    let whole = |position| row.value::<u32>(position, "a whole number from 0 to 4294967295, or nothing");
    let chip_count = |position| row.value::<u16>(position, "a whole number from 0 to 65535, or nothing");
    let gang = WireGang {
        workers: whole(workers)?,
        workers_min: whole(workers_min)?,
        workers_max: whole(workers_max)?,
        chips: chip_count(chips)?,
        chip_milli: chip_count(chip_milli)?,
        cpu_milli: whole(cpu_milli)?,
        memory: text(memory),
        accelerators: text(accelerators).map_or_else(Vec::new, |kinds| kinds.split('|').map(str::to_owned).collect()),
        attributes: pairs(row, attributes)?,
        topology_level: text(topology_level),
        topology_strength: strength(row, topology_strength)?,
        topology_cost_ppm: whole(topology_cost_ppm)?,
        group_workers: whole(group_workers)?,
        group_level: text(group_level),
        spares: whole(spares)?,
        torus: text(torus),
        per_node: None,
        speedup: Vec::new(),
        swing_ppm: whole(swing_ppm)?,
        swing_period: text(swing_period),
    };
    Ok(WireJob {
        name: row.text(name).to_owned(),
        tenant: row.text(tenant).to_owned(),
        submitted: row.text(submitted).to_owned(),
        tier: tier_of(row, tier)?,
        priority: row.value(priority, "a whole number from -2147483648 to 2147483647, or nothing")?,
        duration: text(duration),
        deadline: text(deadline),
        preemptible: row.value(preemptible, "true, false or nothing")?,
        reservation: None,
        after: Vec::new(),
        checkpoint_interval: text(checkpoint_interval),
        checkpoint_size: text(checkpoint_size),
        pause: text(pause),
        gangs: vec![gang],
    })
}

fn tier_of(row: &Row<'_>, position: Option<usize>) -> Result<Option<Tier>, InputError> {
    let text = row.text(position);
    let found = Tier::ALL.into_iter().find(|tier| tier_name(*tier) == text);
    if found.is_none() && !text.is_empty() {
        return Err(row.wrong(position, "reserved, guaranteed, standard, spot or nothing"));
    }
    Ok(found)
}

const fn tier_name(tier: Tier) -> &'static str {
    match tier {
        Tier::Reserved => "reserved",
        Tier::Guaranteed => "guaranteed",
        Tier::Standard => "standard",
        Tier::Spot => "spot",
    }
}

fn strength(row: &Row<'_>, position: Option<usize>) -> Result<Option<Strength>, InputError> {
    match row.text(position) {
        "" => Ok(None),
        "required" => Ok(Some(Strength::Required)),
        "preferred" => Ok(Some(Strength::Preferred)),
        _ => Err(row.wrong(position, "required, preferred or nothing")),
    }
}

const fn strength_name(strength: Strength) -> &'static str {
    match strength {
        Strength::Required => "required",
        Strength::Preferred => "preferred",
    }
}

/// `disk=nvme|zone=a`
fn pairs(row: &Row<'_>, position: Option<usize>) -> Result<BTreeMap<String, String>, InputError> {
    let mut map = BTreeMap::new();
    for pair in row.text(position).split('|').filter(|_| !row.text(position).is_empty()) {
        let (key, value) = pair.split_once('=').ok_or_else(|| row.wrong(position, "such as `disk=nvme|zone=a`"))?;
        if map.insert(key.to_owned(), value.to_owned()).is_some() {
            return Err(row.wrong(position, "pairs whose keys occur once"));
        }
    }
    Ok(map)
}

/// Writes the jobs of a workload as our table.
///
/// # Errors
/// When there are services or jobs of several gangs, which a table cannot carry; when a job is one that no reader
/// accepts; when the output fails.
pub fn write_csv(workload: &Workload, mut out: impl Write) -> Result<(), WriteError> {
    check_writable(workload)?;
    if let Some(service) = workload.services.first() {
        return Err(WriteError::CsvService { name: service.name.clone() });
    }
    if let Some(job) = workload.jobs.iter().find(|job| job.gangs.len() != 1) {
        return Err(WriteError::CsvGangs { name: job.name.clone(), gangs: job.gangs.len() });
    }
    let states_speeds =
        |job: &&crate::Job| job.gangs.iter().flat_map(|gang| &gang.elastic).any(|gang| !gang.speedup.is_empty());
    if let Some(job) = workload.jobs.iter().find(states_speeds) {
        return Err(WriteError::CsvSpeedup { name: job.name.clone() });
    }
    let more = |job: &&crate::Job| job.reservation.is_some() || !job.after.is_empty();
    if let Some(job) = workload.jobs.iter().find(more) {
        let field = if job.reservation.is_some() { "reservation" } else { "after" };
        return Err(WriteError::CsvField { name: job.name.clone(), field });
    }
    write_row(&mut out, COLUMNS[..WRITTEN_COLUMNS].iter().map(|column| column.name))?;
    for job in &workload.jobs {
        let mut wire = WireJob::of_model(job);
        let gang = wire.gangs.pop().unwrap_or_default();
        let number = |number: Option<u32>| number.map(|n| n.to_string()).unwrap_or_default();
        let attributes: Vec<_> = gang.attributes.iter().map(|(key, value)| format!("{key}={value}")).collect();
        let fields: [String; WRITTEN_COLUMNS] = [
            wire.name,
            wire.tenant,
            wire.submitted,
            tier_name(job.tier).to_owned(),
            wire.duration.unwrap_or_default(),
            wire.deadline.unwrap_or_default(),
            job.preemptible.to_string(),
            wire.checkpoint_interval.unwrap_or_default(),
            wire.checkpoint_size.unwrap_or_default(),
            number(gang.workers),
            number(gang.chips.map(u32::from)),
            number(gang.chip_milli.map(u32::from)),
            number(gang.cpu_milli),
            gang.memory.unwrap_or_default(),
            gang.accelerators.join("|"),
            attributes.join("|"),
            gang.topology_level.unwrap_or_default(),
            gang.topology_strength.map(strength_name).unwrap_or_default().to_owned(),
            number(gang.group_workers),
            gang.group_level.unwrap_or_default(),
            number(gang.spares),
            gang.torus.unwrap_or_default(),
            wire.priority.unwrap_or_default().to_string(),
            number(gang.workers_min),
            number(gang.workers_max),
            number(gang.topology_cost_ppm),
            number(gang.swing_ppm),
            gang.swing_period.unwrap_or_default(),
            wire.pause.unwrap_or_default(),
        ];
        write_row(&mut out, fields.iter().map(String::as_str))?;
    }
    Ok(out.flush()?)
}
