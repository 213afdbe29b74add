//! A scenario file as it is written.

use std::collections::BTreeMap;
use std::path::PathBuf;

use offtake_units::{Duration, Timestamp};
use offtake_workload::synthetic::Class;
use offtake_workload::{Reservation, ServiceText, human};
use serde::{Deserialize, Deserializer};

use super::failures::FailuresFile;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct File {
    pub(super) name: String,
    pub(super) fleet: PathBuf,
    #[serde(default)]
    pub(super) parameters: BTreeMap<String, i64>,
    #[serde(default, with = "human::optional_timestamp")]
    pub(super) start: Option<Timestamp>,
    #[serde(default, with = "human::optional_duration")]
    pub(super) horizon: Option<Duration>,
    #[serde(default)]
    pub(super) seed: u64,
    pub(super) policies: Vec<String>,
    pub(super) focus: Option<String>,
    #[serde(default)]
    pub(super) notes: Vec<String>,
    pub(super) workload: WorkloadFile,
    #[serde(default)]
    pub(super) services: Vec<ServiceText>,
    pub(super) signals: Option<SignalsFile>,
    pub(super) failures: Option<FailuresFile>,
    #[serde(default)]
    pub(super) reservations: Vec<Reservation>,
    #[serde(default)]
    pub(super) grid_events: Vec<GridEventFile>,
    #[serde(default)]
    pub(super) grid_programmes: Vec<ProgrammeFile>,
    #[serde(default)]
    pub(super) feed_losses: Vec<FeedLossFile>,
    #[serde(default)]
    pub(super) utility_losses: Vec<UtilityLossFile>,
    #[serde(default)]
    pub(super) cooling_losses: Vec<CoolingLossFile>,
    #[serde(default)]
    pub(super) sources: Vec<SourceFile>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct GridEventFile {
    pub(super) name: String,
    pub(super) on: Option<String>,
    pub(super) cap: Option<String>,
    /// A grid programme of the fleet, on whose cap it is.
    pub(super) programme: Option<String>,
    #[serde(with = "human::timestamp")]
    pub(super) at: Timestamp,
    #[serde(default)]
    pub(super) notice: Option<NoticeText>,
    #[serde(with = "human::duration")]
    pub(super) hold: Duration,
    pub(super) cut: Option<f64>,
    pub(super) megawatts: Option<f64>,
    pub(super) kilowatts: Option<f64>,
    pub(super) watts: Option<f64>,
}

/// A circuit that is out for a time.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct FeedLossFile {
    pub(super) circuit: String,
    #[serde(with = "human::timestamp")]
    pub(super) at: Timestamp,
    #[serde(with = "human::duration")]
    pub(super) hold: Duration,
}

/// A site whose utility is lost for a time.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct UtilityLossFile {
    pub(super) site: String,
    #[serde(with = "human::timestamp")]
    pub(super) at: Timestamp,
    #[serde(with = "human::duration")]
    pub(super) hold: Duration,
}

/// A domain whose cooling is lost for a time, but for a share.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct CoolingLossFile {
    pub(super) on: String,
    #[serde(with = "human::timestamp")]
    pub(super) at: Timestamp,
    #[serde(with = "human::duration")]
    pub(super) hold: Duration,
    pub(super) leaves: f64,
}

/// Events of which each is drawn: one of the notices, one of the holds, one of the cuts.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ProgrammeFile {
    pub(super) name: String,
    pub(super) on: Option<String>,
    pub(super) cap: Option<String>,
    pub(super) programme: Option<String>,
    pub(super) events: u32,
    #[serde(default)]
    pub(super) notice: Vec<NoticeText>,
    pub(super) hold: Vec<TimeText>,
    #[serde(default)]
    pub(super) cut: Vec<f64>,
    #[serde(default)]
    pub(super) megawatts: Vec<f64>,
}

/// A time as people write it, such as `30m`.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(transparent)]
pub(super) struct TimeText(#[serde(with = "human::duration")] pub(super) Duration);

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct WorkloadFile {
    pub(super) trace: Option<PathBuf>,
    pub(super) format: Option<String>,
    pub(super) offered_load: Option<f64>,
    pub(super) overestimate: Option<f64>,
    #[serde(default)]
    pub(super) unplaceable: Unplaceable,
    pub(super) jobs: Option<u64>,
    #[serde(default)]
    pub(super) hourly_weights: Vec<u32>,
    #[serde(default)]
    pub(super) classes: Vec<Class>,
}

/// What happens to work that no domain of the fleet can ever hold.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Unplaceable {
    /// The scenario is refused.
    #[default]
    Error,
    /// The engine rejects it, and the report counts it.
    Reject,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct SignalsFile {
    pub(super) prices: Option<PathBuf>,
    pub(super) price_zones: Option<PathBuf>,
    pub(super) carbon: Option<PathBuf>,
    pub(super) carbon_zones: Option<PathBuf>,
    /// Wet-bulb temperatures by site.
    pub(super) weather: Option<PathBuf>,
    /// The instant of the series at which the run begins, where the two calendars differ.
    #[serde(default, with = "human::optional_timestamp")]
    pub(super) from: Option<Timestamp>,
    /// Zones of sites whose own the fleet file does not name.
    #[serde(default)]
    pub(super) zone_of: BTreeMap<String, ZoneFile>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ZoneFile {
    pub(super) price: Option<String>,
    pub(super) carbon: Option<String>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct SourceFile {
    pub(super) what: String,
    pub(super) source: String,
    pub(super) licence: String,
}

/// A time as people write it, or `0s`.
#[derive(Clone, Copy, Debug)]
pub(super) struct NoticeText(pub(super) Duration);

impl<'de> Deserialize<'de> for NoticeText {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let read = if text == "0s" { Some(Duration::ZERO) } else { human::parse_duration(&text) };
        read.map(Self).ok_or_else(|| {
            serde::de::Error::invalid_value(serde::de::Unexpected::Str(&text), &"a time such as `30m`, or `0s`")
        })
    }
}
