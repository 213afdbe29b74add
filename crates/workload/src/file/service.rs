//! What a job file says of a service, beside what it says of one replica.

use offtake_units::Ppm;
use serde::{Deserialize, Serialize};

use super::JobFile;
use crate::check::{self, Fault};
use crate::{Job, Service};

/// How many replicas a service has, and where.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct ServiceFile {
    /// How many replicas run, neither more nor less. Either this or `minimum` and `maximum`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replicas: Option<u32>,
    /// The fewest replicas.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub minimum: Option<u32>,
    /// The most replicas.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub maximum: Option<u32>,
    /// Share of `maximum` that is wanted in each hour of the day in UTC, in parts per million: 24 values, or none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub demand_ppm: Vec<u32>,
    /// The level of the fleet over whose domains the replicas are spread, as evenly as there is room; anywhere when left
    /// out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub spread: Option<String>,
    /// The most wanted replicas that may be down at one time by our own will; any number when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub disruption_budget: Option<u32>,
}

impl ServiceFile {
    /// The fewest and the most replicas.
    ///
    /// # Errors
    /// When it does not say, or says it twice.
    fn bounds(&self) -> Result<(u32, u32), Fault> {
        match (self.replicas, self.minimum, self.maximum) {
            (Some(replicas), None, None) => Ok((replicas, replicas)),
            (Some(replicas), ..) => {
                let allowed = "either `replicas`, or `minimum` and `maximum`";
                Err(Fault::new("service.replicas", replicas, allowed))
            }
            (None, Some(minimum), Some(maximum)) => Ok((minimum, maximum)),
            (None, ..) => Err(Fault::new("service", "", "`replicas`, or `minimum` and `maximum`")),
        }
    }

    /// The service whose replicas are each like a job.
    ///
    /// # Errors
    /// The first field that cannot be meant.
    pub(super) fn of_replicas(self, job: &Job) -> Result<Service, Fault> {
        let (minimum, maximum) = self.bounds()?;
        let [replica] = job.gangs.as_slice() else {
            return Err(Fault::new("gangs", job.gangs.len(), "one gang for a service: each replica is one"));
        };
        let service = Service {
            name: job.name.clone(),
            tenant: job.tenant.clone(),
            tier: job.tier,
            replica: replica.clone(),
            minimum,
            maximum,
            demand: self.demand_ppm.into_iter().map(Ppm::new).collect(),
            spread: self.spread,
            disruption_budget: self.disruption_budget,
            program: job.program.clone(),
        };
        check::service(&service).map_err(|fault| Fault { field: in_file(&fault.field), ..fault })?;
        Ok(service)
    }
}

/// A field of a service as the job file names it.
fn in_file(field: &str) -> String {
    match field.strip_prefix("replica.") {
        Some(of_gang) => format!("gangs[0].{of_gang}"),
        None if ["name", "tenant"].contains(&field) => field.to_owned(),
        None => format!("service.{field}"),
    }
}

/// Whether nothing is said beside a service that only work that ends can have.
pub(super) fn check_beside(file: &JobFile) -> Result<(), Fault> {
    let said = [
        ("duration", file.duration.is_some()),
        ("deadline", file.deadline.is_some()),
        ("must_meet_deadline", file.must_meet_deadline.is_some()),
        ("reservation", file.reservation.is_some()),
        ("preemptible", file.preemptible.is_some()),
        ("priority", file.priority.is_some()),
        ("checkpoint_interval", file.checkpoint_interval.is_some()),
        ("checkpoint_size", file.checkpoint_size.is_some()),
        ("pause", file.pause.is_some()),
        ("signal", file.signal.is_some()),
        ("requeue", file.requeue.is_some()),
        ("restarts", file.restarts.is_some()),
        ("after", !file.after.is_empty()),
        ("array", file.array.is_some()),
        ("begin", file.begin.is_some()),
        ("hold", file.hold.is_some()),
    ];
    match said.iter().find(|(_, is_said)| *is_said) {
        Some((field, _)) => {
            Err(Fault::new(*field, "given", "nothing beside `[service]`: its replicas stay, and start again"))
        }
        None => Ok(()),
    }
}
