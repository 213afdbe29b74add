//! Carbon intensity of electricity.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use offtake_units::{CarbonIntensity, Ppm, Timestamp};
use offtake_workload::input::{Column, Lines, Table, excerpt, parse_decimal};

use crate::error::SignalError;
use crate::series::Series;
use crate::wide::{self, Numbers};

/// The carbon intensity of one zone's electricity, by the hour.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CarbonSeries {
    /// What is known about the zone.
    pub zone: CarbonZone,
    /// The file it was read from.
    pub source: PathBuf,
    /// Milligrams of CO2-equivalent per kWh.
    pub mg_per_kwh: Series<i64>,
}

impl CarbonSeries {
    /// The intensity at an instant.
    pub fn at(&self, at: Timestamp) -> Option<CarbonIntensity> {
        self.mg_per_kwh.at(at).map(CarbonIntensity::from_mg_per_kwh)
    }
}

/// A zone of carbon intensity.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CarbonZone {
    /// The zone, as sites name it.
    pub name: String,
    /// What people call it.
    pub long_name: String,
    /// Its country.
    pub country: String,
    /// The share of hours that the source estimated instead of measuring.
    pub estimated: Ppm,
}

/// The tables are in grams; three places make milligrams. To make electricity takes nothing out of the air.
const NUMBERS: Numbers = Numbers {
    places: 3,
    least: 0,
    allowed: "grams CO2-equivalent per kWh: a decimal number from 0 with up to three places, or nothing",
};

const ZONE_COLUMNS: [Column; 8] = [
    Column::required("zone"),
    Column::required("zone_name"),
    Column::required("country"),
    Column::required("estimated_share"),
    // The source's own name, and statistics of the series, for people.
    Column::optional("emaps_zone_id"),
    Column::optional("lifecycle_mean"),
    Column::optional("direct_mean"),
    Column::optional("low_carbon_pct_mean"),
];

/// Reads a wide table of carbon intensities and the list of its zones. Zones of the list without a column are no error.
///
/// # Errors
/// When either file cannot be read, or a zone of the table is not in the list.
pub fn read_carbon(carbon: &Path, zones: &Path) -> Result<BTreeMap<String, CarbonSeries>, SignalError> {
    let mut described = read_zones(Table::new(Lines::open(zones)?)?)?;
    let mut series = BTreeMap::new();
    for (name, mg_per_kwh) in wide::read(carbon, &NUMBERS)? {
        let Some(zone) = described.remove(&name) else {
            let given: Vec<_> = described.keys().map(String::as_str).collect();
            return Err(SignalError::UnknownZone { file: zones.to_owned(), zone: name, given: given.join(", ") });
        };
        series.insert(name, CarbonSeries { zone, source: carbon.to_owned(), mg_per_kwh });
    }
    Ok(series)
}

fn read_zones(mut table: Table<'_>) -> Result<BTreeMap<String, CarbonZone>, SignalError> {
    let [name, long_name, country, estimated, ..] = table.positions(&ZONE_COLUMNS)?;
    let mut zones = BTreeMap::new();
    while let Some(row) = table.next_row()? {
        let share = parse_decimal(row.text(estimated), 6).and_then(|parts| u32::try_from(parts).ok()).map(Ppm::new);
        let share = share.filter(|share| *share <= Ppm::ONE);
        let zone = CarbonZone {
            name: row.text(name).to_owned(),
            long_name: row.text(long_name).to_owned(),
            country: row.text(country).to_owned(),
            estimated: share.ok_or_else(|| row.wrong(estimated, "a share from 0 to 1 with up to six places"))?,
        };
        if zone.name.trim().is_empty() {
            return Err(row.wrong(name, "a name, such as `DE-LU`").into());
        }
        if let Some(twin) = zones.insert(zone.name.clone(), zone) {
            return Err(SignalError::RepeatedZone { at: row.place(), zone: excerpt(&twin.name) });
        }
    }
    Ok(zones)
}
