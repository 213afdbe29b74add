//! The work of a scenario: a trace at its own times or drawn anew, or jobs made up from classes.

use std::collections::BTreeSet;
use std::str::FromStr;
use std::sync::Arc;

use offtake_fleet::Fleet;
use offtake_units::{Duration, Ppm, Timestamp};
use offtake_workload::resample::{Resampling, resample};
use offtake_workload::synthetic::Synthetic;
use offtake_workload::{Job, Service, TraceFormat, Workload};

use super::file::{File, Unplaceable, WorkloadFile};
use super::{Reader, ScenarioError};

impl Reader {
    pub(super) fn workload(
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

    pub(super) fn traced(
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

    pub(super) fn made_up(
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
                let Some(gap) = described.gap_for_load(load, fleet.chips() * 1000) else {
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
    pub(super) fn check_placeable(
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
}
