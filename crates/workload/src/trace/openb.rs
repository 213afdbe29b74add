//! The pod lists of the openb trace. A pod is a job of one worker.
//!
//! Times are seconds since the trace began and are kept so: it began at 1970-01-01T00:00:00Z. A pod runs from
//! `scheduled_time`, or from `creation_time` where it was never scheduled, to `deletion_time`; one that ends in the
//! second in which it began ran for one second. The variants without times give jobs without an end, all submitted at
//! the beginning, in the order of the list.

use offtake_units::{ChipMilli, CpuMilli, Duration, Mebibytes, Timestamp};

use super::Collected;
use crate::error::TraceError;
use crate::human::LONGEST_DURATION;
use crate::input::{Column, InputError, Row, Table};
use crate::{ChipRequest, Gang, Job, Tier};

const COLUMNS: [Column; 11] = [
    Column::required("name"),
    Column::required("cpu_milli"),
    Column::required("memory_mib"),
    Column::required("num_gpu"),
    Column::required("gpu_milli"),
    Column::optional("gpu_spec"),
    Column::optional("qos"),
    Column::optional("pod_phase"),
    Column::optional("creation_time"),
    Column::optional("deletion_time"),
    Column::optional("scheduled_time"),
];

/// The trace names no tenants.
const TENANT: &str = "openb";

pub(super) fn read(mut table: Table<'_>, into: &mut Collected<'_>) -> Result<(), TraceError> {
    let [name, cpu, memory, chips, share, spec, qos, _phase, created, deleted, scheduled] =
        table.positions(&COLUMNS)?;
    into.column = |field| match field {
        "gangs[0].memory" => "memory_mib",
        "gangs[0].accelerators" => "gpu_spec",
        other => other,
    };
    while let Some(row) = table.next_row()? {
        let gang = Gang {
            workers: 1,
            chips: chip_request(&row, chips, share)?,
            cpu: CpuMilli::new(row.needed(cpu, "thousandths of a core, 0 to 4294967295")?),
            memory: Mebibytes::new(row.needed(memory, "MiB, a whole number")?),
            accelerators: row.text(spec).split('|').filter(|kind| !kind.is_empty()).map(str::to_owned).collect(),
            ..Gang::default()
        };
        let (tier, preemptible) = service_class(&row, qos)?;
        let submitted = seconds(&row, created)?.unwrap_or(Timestamp::EPOCH);
        let job = Job {
            name: row.text(name).to_owned(),
            tenant: TENANT.to_owned(),
            tier,
            submitted,
            duration: duration(&row, submitted, scheduled, deleted)?,
            deadline: None,
            checkpoint: None,
            pause: None,
            preemptible,
            gangs: vec![gang],
            ..Job::default()
        };
        into.job(row.number(), job)?;
    }
    Ok(())
}

fn chip_request(row: &Row<'_>, chips: Option<usize>, share: Option<usize>) -> Result<ChipRequest, InputError> {
    const WHOLE: u16 = ChipMilli::WHOLE.get();
    let share_allowed = "0 without a GPU, 1 to 1000 for one, 1000 for more";
    let count: u16 = row.needed(chips, "a number of GPUs, 0 to 65535")?;
    match (count, row.needed::<u16>(share, share_allowed)?) {
        (0, 0) => Ok(ChipRequest::None),
        (1, part @ 1..WHOLE) => Ok(ChipRequest::Share(ChipMilli::new(part))),
        (1.., WHOLE) => Ok(ChipRequest::Whole(count)),
        _ => Err(row.wrong(share, share_allowed)),
    }
}

/// Long-running services are `LS`; what gives way is `BE`; the rest are the classes of Kubernetes.
fn service_class(row: &Row<'_>, qos: Option<usize>) -> Result<(Tier, bool), InputError> {
    match row.text(qos) {
        "LS" | "Guaranteed" => Ok((Tier::Guaranteed, false)),
        "Burstable" | "" => Ok((Tier::Standard, false)),
        "BE" => Ok((Tier::Spot, true)),
        _ => Err(row.wrong(qos, "LS, BE, Burstable, Guaranteed or nothing")),
    }
}

fn duration(
    row: &Row<'_>,
    submitted: Timestamp,
    scheduled: Option<usize>,
    deleted: Option<usize>,
) -> Result<Option<Duration>, InputError> {
    let start = seconds(row, scheduled)?;
    if start.is_some_and(|start| start < submitted) {
        return Err(row.wrong(scheduled, "not before `creation_time`"));
    }
    let Some(end) = seconds(row, deleted)? else {
        return Ok(None);
    };
    let run = end - start.unwrap_or(submitted);
    if run < Duration::ZERO {
        return Err(row.wrong(deleted, "not before `creation_time` and `scheduled_time`"));
    }
    Ok(Some(run.max(Duration::from_secs(1))))
}

fn seconds(row: &Row<'_>, position: Option<usize>) -> Result<Option<Timestamp>, InputError> {
    const ALLOWED: &str = "whole seconds since the trace began, up to 100 years, or nothing";
    let Some(seconds) = row.value::<u32>(position, ALLOWED)? else {
        return Ok(None);
    };
    let at = Timestamp::from_secs(i64::from(seconds));
    if at > Timestamp::EPOCH + LONGEST_DURATION {
        return Err(row.wrong(position, ALLOWED));
    }
    Ok(Some(at))
}
