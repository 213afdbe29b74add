//! Weather, as cooling feels it.

use std::collections::BTreeMap;
use std::path::Path;

use crate::error::SignalError;
use crate::series::Series;
use crate::wide::{self, Numbers};

/// The tables are in degrees Celsius; three places make thousandths.
const NUMBERS: Numbers = Numbers {
    places: 3,
    least: -60_000,
    allowed: "degrees Celsius: a decimal number from -60 with up to three places, or nothing",
};

/// Reads a wide table of wet-bulb temperatures, in thousandths of a degree Celsius, by the sites that its columns name.
///
/// # Errors
/// When the file cannot be read.
pub fn read_wet_bulb(path: &Path) -> Result<BTreeMap<String, Series<i64>>, SignalError> {
    Ok(wide::read(path, &NUMBERS)?.into_iter().collect())
}
