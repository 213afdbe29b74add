//! The flattened job list of the Philly trace.
//!
//! `time` is a local date and time whose zone the trace does not state: it is taken as UTC and as the submission. A job
//! of more than 8 chips is as many workers of 8 as it fills, and a second gang of one worker with what remains (12 chips:
//! one worker of 8, one of 4); gangs of a job start together. The trace says nothing about processors, memory, kinds,
//! tiers or topology: nothing is asked for. Jobs have no names: they are called by their place in the list.

use offtake_units::{CpuMilli, Duration, Mebibytes, Timestamp};

use super::Collected;
use crate::error::TraceError;
use crate::human::{DURATION_ALLOWED, LONGEST_DURATION};
use crate::input::{Column, InputError, Row, Table};
use crate::{ChipRequest, Gang, Job, Tier};

const COLUMNS: [Column; 4] =
    [Column::required("time"), Column::required("duration_s"), Column::required("gpus"), Column::required("vc")];

/// Chips of the largest machine of that cluster.
const CHIPS_PER_WORKER: u32 = 8;

pub(super) fn read(mut table: Table<'_>, into: &mut Collected<'_>) -> Result<(), TraceError> {
    let [time, seconds, chips, tenant] = table.positions(&COLUMNS)?;
    into.column = |field| if field == "tenant" { "vc" } else { field };
    let mut number = 0_u32;
    while let Some(row) = table.next_row()? {
        number += 1;
        let job = Job {
            name: format!("philly-{number:06}"),
            tenant: row.text(tenant).to_owned(),
            tier: Tier::Standard,
            submitted: local_time(&row, time)?,
            duration: Some(duration(&row, seconds)?),
            deadline: None,
            checkpoint: None,
            pause: None,
            preemptible: false,
            gangs: gangs(&row, chips)?,
            ..Job::default()
        };
        into.job(row.number(), job)?;
    }
    Ok(())
}

fn local_time(row: &Row<'_>, position: Option<usize>) -> Result<Timestamp, InputError> {
    const ALLOWED: &str = "a date and time from 1970 on, such as `2017-09-04 10:30:41`";
    const LENGTH: usize = 19;
    let text = row.text(position);
    let wrong = || row.wrong(position, ALLOWED);
    // The date-time library reads more forms than this one.
    let has_form = text.len() == LENGTH && text.bytes().all(|byte| byte.is_ascii_digit() || b"- :".contains(&byte));
    if !has_form || text.ends_with(":60") {
        return Err(wrong());
    }
    let civil: jiff::civil::DateTime = text.parse().map_err(|_| wrong())?;
    let instant = jiff::tz::Offset::UTC.to_timestamp(civil).map_err(|_| wrong())?;
    let at = Timestamp::from_millis(instant.as_millisecond());
    if at < Timestamp::EPOCH { Err(wrong()) } else { Ok(at) }
}

fn duration(row: &Row<'_>, position: Option<usize>) -> Result<Duration, InputError> {
    let seconds: u32 = row.needed(position, "whole seconds from 1 up to 100 years")?;
    let run = Duration::from_secs(i64::from(seconds));
    if run == Duration::ZERO || run > LONGEST_DURATION {
        return Err(row.wrong(position, DURATION_ALLOWED));
    }
    Ok(run)
}

fn gangs(row: &Row<'_>, position: Option<usize>) -> Result<Vec<Gang>, InputError> {
    const MOST_CHIPS: u32 = 1_000_000;
    let allowed = "a number of GPUs, 1 to 1000000";
    let chips: u32 = row.needed(position, allowed)?;
    if !(1..=MOST_CHIPS).contains(&chips) {
        return Err(row.wrong(position, allowed));
    }
    let (full, rest) = (chips / CHIPS_PER_WORKER, chips % CHIPS_PER_WORKER);
    let parts = [(full, CHIPS_PER_WORKER as u16), (1, rest as u16)];
    Ok(parts.into_iter().filter(|(workers, chips)| *workers > 0 && *chips > 0).map(gang).collect())
}

fn gang((workers, chips): (u32, u16)) -> Gang {
    Gang { workers, chips: ChipRequest::Whole(chips), cpu: CpuMilli::ZERO, memory: Mebibytes::ZERO, ..Gang::default() }
}
