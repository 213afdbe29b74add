//! What a job, a service and a gang look like in our own formats, between the text and the model.
//!
//! CSV and JSON Lines name the same fields and share this way to the model, so that they cannot drift apart.

use std::collections::BTreeMap;
use std::fmt;

use offtake_units::{ChipMilli, CpuMilli, Mebibytes, Ppm, Timestamp};
use serde::de::{self, MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};

use crate::check::Fault;
use crate::human::{self, DURATION_ALLOWED, SIZE_ALLOWED, TIMESTAMP_ALLOWED};
use crate::input::excerpt;
use crate::slice::SLICE_ALLOWED;
use crate::{
    Checkpoint, ChipRequest, Elastic, Gang, Groups, Job, Predecessor, Service, Strength, Swing, Tier, Topology,
};

/// The fields of a job, its gangs aside.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct WireJob {
    pub name: String,
    pub tenant: String,
    pub submitted: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tier: Option<Tier>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub priority: Option<i32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub duration: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deadline: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub preemptible: Option<bool>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reservation: Option<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub after: Vec<Predecessor>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub checkpoint_interval: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub checkpoint_size: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pause: Option<String>,
    pub gangs: Vec<WireGang>,
}

/// A gang as our formats write it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct WireGang {
    /// Number of workers; 1 when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub workers: Option<u32>,
    /// The fewest workers, for a gang that may shrink; `workers` is then what it prefers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub workers_min: Option<u32>,
    /// The most workers, for a gang that may grow.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub workers_max: Option<u32>,
    /// Its speed with other numbers of workers; as the workers when left out.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub speedup: Vec<WireSpeed>,
    /// Whole chips of one worker. Either this or `chip_milli`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub chips: Option<u16>,
    /// Share of one chip, in thousandths.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub chip_milli: Option<u16>,
    /// Processor of one worker, in thousandths of a core.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpu_milli: Option<u32>,
    /// Memory of one worker, such as `64GiB`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory: Option<String>,
    /// Kinds of accelerator that it may use; any when left out.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub accelerators: Vec<String>,
    /// Attributes that its nodes must have.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty", deserialize_with = "map_without_twins")]
    pub attributes: BTreeMap<String, String>,
    /// The level of the one domain that holds all workers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub topology_level: Option<String>,
    /// Whether wider will do.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub topology_strength: Option<Strength>,
    /// What each level costs by which they lie wider than preferred, in millionths of the time that the work takes;
    /// 0 when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub topology_cost_ppm: Option<u32>,
    /// Workers of one group; `workers` is a multiple of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group_workers: Option<u32>,
    /// The level of the one domain that holds a group.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group_level: Option<String>,
    /// Workers more that stand by on nodes of their own, in each group or else in the gang; 0 when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub spares: Option<u32>,
    /// The slice of a torus that the chips of all workers make, such as `4x4x8` or `16x16`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub torus: Option<String>,
    /// The most workers on one node; as many as it takes when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub per_node: Option<u32>,
    /// The share of what its chips draw beyond their idle draw that falls away and returns at all of them at once, in
    /// millionths.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub swing_ppm: Option<u32>,
    /// The time from one such fall to the next, such as `2s`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub swing_period: Option<String>,
}

/// The speed of a gang with some number of workers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct WireSpeed {
    /// Workers.
    pub workers: u32,
    /// Speed in millionths of that with the preferred number of workers.
    pub speed_ppm: u32,
}

/// The fields of a service.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct WireService {
    pub name: String,
    pub tenant: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tier: Option<Tier>,
    pub replica: WireGang,
    pub minimum: u32,
    pub maximum: u32,
    pub demand_ppm: Vec<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub spread: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub disruption_budget: Option<u32>,
}

impl WireJob {
    /// The job; its fields that are text are read, everything else is left to `check`.
    pub(crate) fn into_model(self) -> Result<Job, Fault> {
        let submitted = instant("submitted", &self.submitted)?;
        self.submitted_at(submitted)
    }

    /// The same, whatever its own text says of when it was submitted.
    pub(crate) fn submitted_at(self, submitted: Timestamp) -> Result<Job, Fault> {
        let span = |field: &str, text: &str| {
            human::parse_duration(text).ok_or_else(|| Fault::new(field, text, DURATION_ALLOWED))
        };
        let checkpoint = match (&self.checkpoint_interval, &self.checkpoint_size) {
            (None, None) => None,
            (Some(interval), Some(size)) => Some(Checkpoint {
                interval: span("checkpoint_interval", interval)?,
                bytes: human::parse_bytes(size).ok_or_else(|| Fault::new("checkpoint_size", size, SIZE_ALLOWED))?,
            }),
            (Some(_), None) => {
                return Err(Fault::new("checkpoint_size", "", "a size beside `checkpoint_interval`"));
            }
            (None, Some(_)) => {
                return Err(Fault::new("checkpoint_interval", "", "a time beside `checkpoint_size`"));
            }
        };
        let gangs = self.gangs.into_iter().enumerate();
        Ok(Job {
            submitted,
            duration: self.duration.map(|text| span("duration", &text)).transpose()?,
            deadline: self.deadline.map(|text| instant("deadline", &text)).transpose()?,
            name: self.name,
            tenant: self.tenant,
            tier: self.tier.unwrap_or(Tier::Standard),
            priority: self.priority.unwrap_or_default(),
            checkpoint,
            pause: self.pause.map(|text| span("pause", &text)).transpose()?,
            preemptible: self.preemptible.unwrap_or(false),
            reservation: self.reservation,
            after: self.after,
            gangs: gangs.map(|(index, gang)| gang.into_model(&format!("gangs[{index}]."))).collect::<Result<_, _>>()?,
            ..Job::default()
        })
    }

    /// The job as it is written. It has passed `check`, so that its instants can be.
    pub(crate) fn of_model(job: &Job) -> Self {
        Self {
            name: job.name.clone(),
            tenant: job.tenant.clone(),
            submitted: human::write_timestamp(job.submitted).unwrap_or_default(),
            tier: Some(job.tier),
            priority: Some(job.priority).filter(|priority| *priority != 0),
            duration: job.duration.map(human::write_duration),
            deadline: job.deadline.and_then(human::write_timestamp),
            preemptible: job.preemptible.then_some(true),
            reservation: job.reservation.clone(),
            after: job.after.clone(),
            checkpoint_interval: job.checkpoint.map(|checkpoint| human::write_duration(checkpoint.interval)),
            checkpoint_size: job.checkpoint.map(|checkpoint| human::write_bytes(checkpoint.bytes)),
            pause: job.pause.map(human::write_duration),
            gangs: job.gangs.iter().map(WireGang::of_model).collect(),
        }
    }
}

fn instant(field: &str, text: &str) -> Result<Timestamp, Fault> {
    human::parse_timestamp(text).ok_or_else(|| Fault::new(field, text, TIMESTAMP_ALLOWED))
}

impl WireGang {
    pub(crate) fn into_model(self, prefix: &str) -> Result<Gang, Fault> {
        let field = |name: &str| format!("{prefix}{name}");
        let slice = match self.torus {
            None => None,
            Some(text) => {
                let slice = text.parse().map_err(|_| Fault::new(field("torus"), text, SLICE_ALLOWED))?;
                Some(slice)
            }
        };
        let workers = self.workers.unwrap_or(1);
        let elastic = match (self.workers_min, self.workers_max, self.speedup.first()) {
            (None, None, None) => None,
            (None, None, Some(speed)) => {
                let allowed = "a gang with `workers_min` or `workers_max`, whose number of workers may change";
                return Err(Fault::new(field("speedup"), speed.workers, allowed));
            }
            (minimum, maximum, _) => Some(Elastic {
                minimum: minimum.unwrap_or(workers),
                maximum: maximum.unwrap_or(workers),
                speedup: self.speedup.iter().map(|speed| (speed.workers, Ppm::new(speed.speed_ppm))).collect(),
            }),
        };
        let chips = match (self.chips, self.chip_milli) {
            (None, None) => ChipRequest::None,
            (Some(chips), None) => ChipRequest::Whole(chips),
            (None, Some(share)) => ChipRequest::Share(ChipMilli::new(share)),
            (Some(_), Some(share)) => {
                return Err(Fault::new(field("chip_milli"), share, "either `chips` or `chip_milli`, not both"));
            }
        };
        let memory = match self.memory {
            None => Mebibytes::ZERO,
            Some(text) => memory(&text).ok_or_else(|| {
                Fault::new(field("memory"), text, "a size in whole MiB up to 1 PiB, such as `64GiB` or `1536MiB`")
            })?,
        };
        let topology = match (self.topology_level, self.topology_strength) {
            (None, None) => match self.topology_cost_ppm {
                None => None,
                Some(cost) => {
                    let allowed = "nothing without `topology_level` and `topology_strength`";
                    return Err(Fault::new(field("topology_cost_ppm"), cost, allowed));
                }
            },
            (Some(level), Some(strength)) => {
                let cost = Ppm::new(self.topology_cost_ppm.unwrap_or_default());
                Some(Topology { cost, ..Topology::new(level, strength) })
            }
            (Some(_), None) => {
                let allowed = "required or preferred beside `topology_level`";
                return Err(Fault::new(field("topology_strength"), "", allowed));
            }
            (None, Some(_)) => {
                let allowed = "the name of a level beside `topology_strength`";
                return Err(Fault::new(field("topology_level"), "", allowed));
            }
        };
        let groups = match (self.group_workers, self.group_level) {
            (None, None) => None,
            (Some(workers), Some(level)) => Some(Groups { workers, level }),
            (Some(_), None) => {
                return Err(Fault::new(field("group_level"), "", "the name of a level beside `group_workers`"));
            }
            (None, Some(_)) => {
                return Err(Fault::new(field("group_workers"), "", "a number beside `group_level`"));
            }
        };
        let swing = match (self.swing_ppm, self.swing_period) {
            (None, None) => None,
            (Some(share), Some(period)) => Some(Swing {
                share: Ppm::new(share),
                period: human::parse_duration(&period)
                    .ok_or_else(|| Fault::new(field("swing_period"), period, DURATION_ALLOWED))?,
            }),
            (Some(_), None) => {
                return Err(Fault::new(field("swing_period"), "", "a time beside `swing_ppm`, such as `2s`"));
            }
            (None, Some(_)) => {
                return Err(Fault::new(field("swing_ppm"), "", "a number beside `swing_period`"));
            }
        };
        Ok(Gang {
            workers,
            chips,
            cpu: CpuMilli::new(self.cpu_milli.unwrap_or(0)),
            memory,
            accelerators: self.accelerators,
            attributes: self.attributes,
            topology,
            per_node: self.per_node,
            groups,
            spares: self.spares.unwrap_or(0),
            slice,
            elastic,
            swing,
        })
    }

    pub(crate) fn of_model(gang: &Gang) -> Self {
        let (chips, chip_milli) = match gang.chips {
            ChipRequest::None => (None, None),
            ChipRequest::Share(share) => (None, Some(share.get())),
            ChipRequest::Whole(chips) => (Some(chips), None),
        };
        Self {
            workers: Some(gang.workers),
            chips,
            chip_milli,
            cpu_milli: (gang.cpu != CpuMilli::ZERO).then(|| gang.cpu.get()),
            memory: (gang.memory != Mebibytes::ZERO).then(|| human::write_bytes(gang.memory.get() << 20)),
            accelerators: gang.accelerators.clone(),
            attributes: gang.attributes.clone(),
            topology_level: gang.topology.as_ref().map(|topology| topology.level.clone()),
            topology_strength: gang.topology.as_ref().map(|topology| topology.strength),
            topology_cost_ppm: gang.topology.as_ref().map(|topology| topology.cost.parts()).filter(|cost| *cost > 0),
            per_node: gang.per_node,
            group_workers: gang.groups.as_ref().map(|groups| groups.workers),
            group_level: gang.groups.as_ref().map(|groups| groups.level.clone()),
            spares: (gang.spares > 0).then_some(gang.spares),
            torus: gang.slice.map(|slice| slice.to_string()),
            workers_min: gang.elastic.as_ref().map(|elastic| elastic.minimum),
            workers_max: gang.elastic.as_ref().map(|elastic| elastic.maximum),
            speedup: gang.elastic.iter().flat_map(|elastic| &elastic.speedup).map(WireSpeed::of).collect(),
            swing_ppm: gang.swing.map(|swing| swing.share.parts()),
            swing_period: gang.swing.map(|swing| human::write_duration(swing.period)),
        }
    }
}

impl WireSpeed {
    const fn of((workers, speed): &(u32, Ppm)) -> Self {
        Self { workers: *workers, speed_ppm: speed.parts() }
    }
}

impl WireService {
    pub(crate) fn into_model(self) -> Result<Service, Fault> {
        Ok(Service {
            name: self.name,
            tenant: self.tenant,
            tier: self.tier.unwrap_or(Tier::Standard),
            replica: self.replica.into_model("replica.")?,
            minimum: self.minimum,
            maximum: self.maximum,
            demand: self.demand_ppm.into_iter().map(Ppm::new).collect(),
            spread: self.spread,
            disruption_budget: self.disruption_budget,
            program: None,
        })
    }

    pub(crate) fn of_model(service: &Service) -> Self {
        Self {
            name: service.name.clone(),
            tenant: service.tenant.clone(),
            tier: Some(service.tier),
            replica: WireGang::of_model(&service.replica),
            minimum: service.minimum,
            maximum: service.maximum,
            demand_ppm: service.demand.iter().map(|share| share.parts()).collect(),
            spread: service.spread.clone(),
            disruption_budget: service.disruption_budget,
        }
    }
}

fn memory(text: &str) -> Option<Mebibytes> {
    const MEBIBYTE: u64 = 1 << 20;
    let bytes = human::parse_bytes(text)?;
    bytes.is_multiple_of(MEBIBYTE).then(|| Mebibytes::new(bytes / MEBIBYTE))
}

/// A map whose keys occur once; by itself the last of two would win, unseen.
pub(crate) fn map_without_twins<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<BTreeMap<String, String>, D::Error> {
    struct Pairs;
    impl<'de> Visitor<'de> for Pairs {
        type Value = BTreeMap<String, String>;
        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("an object of texts")
        }
        fn visit_map<A: MapAccess<'de>>(self, mut pairs: A) -> Result<Self::Value, A::Error> {
            let mut map = BTreeMap::new();
            while let Some((key, value)) = pairs.next_entry::<String, String>()? {
                if map.contains_key(&key) {
                    return Err(de::Error::custom(format!("the key `{}` occurs twice", excerpt(&key))));
                }
                map.insert(key, value);
            }
            Ok(map)
        }
    }
    deserializer.deserialize_map(Pairs)
}

/// Gangs as our formats write them, for `#[serde(with)]` in other files of people.
pub(crate) mod gang_text {
    use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

    use super::WireGang;
    use crate::Gang;

    pub(crate) fn serialize<S: Serializer>(gangs: &[Gang], serializer: S) -> Result<S::Ok, S::Error> {
        gangs.iter().map(WireGang::of_model).collect::<Vec<_>>().serialize(serializer)
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<Gang>, D::Error> {
        let gangs = Vec::<WireGang>::deserialize(deserializer)?.into_iter().enumerate();
        gangs
            .map(|(index, gang)| gang.into_model(&format!("gangs[{index}].")))
            .collect::<Result<_, _>>()
            .map_err(de::Error::custom)
    }
}

/// A service as our formats write it, for other files of people.
#[derive(Clone, Debug, Deserialize)]
#[serde(try_from = "WireService")]
pub struct ServiceText(
    /// The service.
    pub Service,
);

impl TryFrom<WireService> for ServiceText {
    type Error = String;

    fn try_from(wire: WireService) -> Result<Self, String> {
        let service = wire.into_model().map_err(|fault| fault.to_string())?;
        crate::check::service(&service).map_err(|fault| fault.to_string())?;
        Ok(Self(service))
    }
}
