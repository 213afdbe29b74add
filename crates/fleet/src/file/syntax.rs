//! A fleet file as it is written: keys and types, nothing checked yet. docs/fleet-file.md explains each key.

use std::collections::BTreeMap;
use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, Error, Visitor};
use toml::Spanned;

use crate::{Basis, CapKind, Meter};

/// Tables by name; [`in_order`] gives them back in the order of the file.
pub(super) type Named<T> = BTreeMap<Spanned<String>, T>;

/// The entries in the order of the file, whatever their names.
pub(super) fn in_order<T>(entries: &Named<T>) -> Vec<(&Spanned<String>, &T)> {
    let mut list: Vec<_> = entries.iter().collect();
    list.sort_by_key(|(name, _)| name.span().start);
    list
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct FleetFile {
    pub name: Spanned<String>,
    #[serde(default = "site_alone")]
    pub levels: Spanned<Vec<Spanned<String>>>,
    #[serde(default)]
    pub parameters: Named<i64>,
    #[serde(default)]
    pub accelerators: Named<Accelerator>,
    #[serde(default)]
    pub node_kinds: Named<NodeKind>,
    #[serde(default)]
    pub templates: Named<Template>,
    #[serde(default)]
    pub sites: Named<Site>,
    #[serde(default)]
    pub circuits: Named<Circuit>,
    #[serde(default)]
    pub caps: Named<Cap>,
    #[serde(default)]
    pub programmes: Named<Programme>,
}

fn site_alone() -> Spanned<Vec<Spanned<String>>> {
    Spanned::new(0..0, vec![Spanned::new(0..0, "site".to_owned())])
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Accelerator {
    pub idle_watts: Spanned<Number>,
    pub operating_watts: Spanned<Number>,
    pub peak_watts: Spanned<Number>,
    pub memory_gib: Option<Spanned<Number>>,
    /// What a host of a node list draws without its chips of this kind.
    pub base_watts: Option<Spanned<Number>>,
    #[serde(default)]
    pub power_levels: Vec<PowerLevel>,
    pub torus: Option<Spanned<Torus>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Torus {
    pub level: Spanned<String>,
    pub grid: Spanned<String>,
    pub host: Spanned<String>,
    pub joined: Option<Spanned<String>>,
    pub most_chips: Option<Spanned<Number>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct PowerLevel {
    pub name: Spanned<String>,
    pub power: Spanned<Number>,
    pub speed: Spanned<Number>,
    pub basis: Basis,
    pub source: Spanned<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct NodeKind {
    pub accelerator: Option<Spanned<String>>,
    pub chips: Option<Spanned<Number>>,
    pub cpu_cores: Spanned<Number>,
    pub memory_gib: Spanned<Number>,
    pub base_watts: Spanned<Number>,
    #[serde(default)]
    pub attributes: BTreeMap<String, String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Template {
    pub level: Spanned<String>,
    pub name: Option<Spanned<String>>,
    pub domains: Option<Spanned<Named<Spanned<Number>>>>,
    pub nodes: Option<Spanned<Named<Spanned<Number>>>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Site {
    pub provider: Option<Spanned<String>>,
    pub region: Option<Spanned<String>>,
    pub price_zone: Option<Spanned<String>>,
    pub carbon_zone: Option<Spanned<String>>,
    pub jurisdiction: Option<Spanned<String>>,
    pub pue: Option<Spanned<Number>>,
    pub cooling: Option<Spanned<Cooling>>,
    #[serde(default)]
    pub ride_through: Named<Spanned<String>>,
    pub storage_bandwidth: Option<Spanned<Number>>,
    pub backup: Option<Spanned<Backup>>,
    pub ramp: Option<Ramp>,
    pub domains: Option<Spanned<Named<Spanned<Number>>>>,
    pub nodes: Option<Spanned<Named<Spanned<Number>>>>,
    pub node_list: Option<Spanned<NodeList>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Backup {
    pub ups_seconds: Option<Spanned<Number>>,
    pub generators: Option<Spanned<Generators>>,
    pub retransfer: Option<Spanned<String>>,
    pub boot: Option<Spanned<String>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Cooling {
    pub full_load_megawatts: Spanned<Number>,
    pub follows: Option<Spanned<String>>,
    pub curve: Spanned<Vec<LoadPoint>>,
    #[serde(default)]
    pub heat: Vec<HeatPoint>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Ramp {
    pub max_step: Spanned<Power>,
    pub up_per_second: Spanned<Power>,
    pub down_per_second: Spanned<Power>,
    pub smoothing: Option<Spanned<Smoothing>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct LoadPoint {
    pub it: Spanned<Number>,
    pub overhead: Spanned<Number>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Generators {
    pub count: Spanned<Number>,
    pub kilowatts: Spanned<Number>,
    pub start: Spanned<String>,
    pub block_step_kilowatts: Option<Spanned<Number>>,
    pub block_every: Option<Spanned<String>>,
    pub permit_hours: Option<Spanned<Number>>,
    pub fuel_hours: Option<Spanned<Number>>,
    pub kg_co2_per_kwh: Spanned<Number>,
    pub fuel_usd_per_mwh: Option<Spanned<Number>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Power {
    pub watts: Option<Spanned<Number>>,
    pub kilowatts: Option<Spanned<Number>>,
    pub megawatts: Option<Spanned<Number>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Smoothing {
    pub watts: Option<Spanned<Number>>,
    pub kilowatts: Option<Spanned<Number>>,
    pub megawatts: Option<Spanned<Number>>,
    pub source: Spanned<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct HeatPoint {
    pub wet_bulb_c: Spanned<Number>,
    pub factor: Spanned<Number>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct NodeList {
    pub file: Spanned<String>,
    pub kind: Option<Spanned<String>>,
    pub base_watts: Option<Spanned<Number>>,
    #[serde(default)]
    pub columns: Columns,
    /// The column that names the domain of a level.
    #[serde(default)]
    pub domains: Named<Spanned<String>>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Columns {
    pub name: Option<Spanned<String>>,
    pub kind: Option<Spanned<String>>,
    pub accelerator: Option<Spanned<String>>,
    pub chips: Option<Spanned<String>>,
    pub cpu_milli: Option<Spanned<String>>,
    pub cpu_cores: Option<Spanned<String>>,
    pub memory_mib: Option<Spanned<String>>,
    pub memory_gib: Option<Spanned<String>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Circuit {
    pub kva: Spanned<Number>,
    pub power_factor: Spanned<Number>,
    pub continuous_load_factor: Option<Spanned<Number>>,
    pub redundancy_group: Option<Spanned<String>>,
    #[serde(default)]
    pub overload: Vec<Overload>,
    pub feeds: Spanned<Vec<Feed>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Overload {
    pub load: Spanned<Number>,
    pub lasts: Spanned<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Feed {
    pub domain: Spanned<String>,
    pub share: Option<Spanned<Number>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Cap {
    pub on: Option<Spanned<String>>,
    pub circuit: Option<Spanned<String>>,
    pub watts: Option<Spanned<Number>>,
    pub kilowatts: Option<Spanned<Number>>,
    pub megawatts: Option<Spanned<Number>>,
    pub meter: Meter,
    pub kind: CapKind,
    #[serde(default)]
    pub derating: Vec<Derating>,
    pub rise_watts_per_minute: Option<Spanned<Number>>,
    pub time_zone: Option<Spanned<String>>,
    pub hours: Option<Spanned<Vec<Hours>>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Hours {
    pub from: Spanned<String>,
    pub until: Spanned<String>,
    pub days: Option<Spanned<Vec<Spanned<String>>>>,
    pub months: Option<Spanned<Vec<Spanned<Number>>>>,
    pub watts: Option<Spanned<Number>>,
    pub kilowatts: Option<Spanned<Number>>,
    pub megawatts: Option<Spanned<Number>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Derating {
    pub wet_bulb_c: Spanned<Number>,
    pub share: Spanned<Number>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Programme {
    pub cap: Spanned<String>,
    pub time_zone: Spanned<String>,
    pub notice: Spanned<String>,
    pub longest: Spanned<String>,
    pub depth: Spanned<Depth>,
    pub events: Spanned<Number>,
    pub months: Option<Spanned<Vec<Spanned<Number>>>>,
    pub baseline: Spanned<Baseline>,
    pub currency: Spanned<String>,
    pub capacity_per_kw_month: Option<Spanned<Number>>,
    pub energy_per_mwh: Option<Spanned<Number>>,
    pub penalty_per_mwh: Option<Spanned<Number>>,
    pub forfeit: Option<Spanned<Number>>,
    pub source: Spanned<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Depth {
    pub watts: Option<Spanned<Number>>,
    pub kilowatts: Option<Spanned<Number>>,
    pub megawatts: Option<Spanned<Number>>,
    pub share: Option<Spanned<Number>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Baseline {
    pub method: BaselineMethod,
    pub watts: Option<Spanned<Number>>,
    pub kilowatts: Option<Spanned<Number>>,
    pub megawatts: Option<Spanned<Number>>,
}

#[derive(Clone, Copy, Deserialize)]
pub(super) enum BaselineMethod {
    #[serde(rename = "firm_service_level")]
    FirmServiceLevel,
    #[serde(rename = "caiso_10_of_10")]
    Caiso10Of10,
    #[serde(rename = "pjm_cbl")]
    PjmCbl,
}

/// A number, or the parameter that holds it.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Number {
    Whole(i64),
    Real(f64),
    Parameter(String),
}

impl<'de> Deserialize<'de> for Number {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(NumberVisitor)
    }
}

struct NumberVisitor;

impl Visitor<'_> for NumberVisitor {
    type Value = Number;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a number, or a parameter such as \"$buildings\"")
    }

    fn visit_i64<E: Error>(self, number: i64) -> Result<Number, E> {
        Ok(Number::Whole(number))
    }

    fn visit_u64<E: Error>(self, number: u64) -> Result<Number, E> {
        self.visit_i128(i128::from(number))
    }

    fn visit_i128<E: Error>(self, number: i128) -> Result<Number, E> {
        i64::try_from(number).map(Number::Whole).map_err(|_| E::custom(format!("{number} is beyond any limit here")))
    }

    fn visit_f64<E: Error>(self, number: f64) -> Result<Number, E> {
        Ok(Number::Real(number))
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Number, E> {
        match text.strip_prefix('$') {
            Some(name) => Ok(Number::Parameter(name.to_owned())),
            None => Err(E::custom(format!(
                "`{}` is text: write a number without quotes, or a parameter such as \"$buildings\"",
                text.chars().take(40).collect::<String>()
            ))),
        }
    }
}
