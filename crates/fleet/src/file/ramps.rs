//! How fast the draw of a site may change.

use offtake_units::Watts;
use toml::Spanned;

use crate::file::fault::{Checked, Fault, at};
use crate::file::limits::power;
use crate::file::syntax::{self, Number};
use crate::file::values::Values;
use crate::{Ramp, Smoothing};

/// The limits of a site, with what its hardware takes up.
pub(super) fn ramp(entry: &syntax::Ramp, values: &Values) -> Checked<Ramp> {
    Ok(Ramp {
        max_step: limit(&entry.max_step, values, "a step")?,
        up: limit(&entry.up_per_second, values, "a rise with each second")?,
        down: limit(&entry.down_per_second, values, "a fall with each second")?,
        smoothing: entry.smoothing.as_ref().map(|smoothing| smoothing_of(smoothing, values)).transpose()?,
    })
}

fn limit(entry: &Spanned<syntax::Power>, values: &Values, what: &str) -> Checked<Watts> {
    let syntax::Power { watts, kilowatts, megawatts } = entry.get_ref();
    above_nothing([watts, kilowatts, megawatts], values, what)?
        .ok_or_else(|| at(entry, "is empty: write { megawatts = 8 }, or `kilowatts` or `watts`"))
}

fn smoothing_of(entry: &Spanned<syntax::Smoothing>, values: &Values) -> Checked<Smoothing> {
    let syntax::Smoothing { watts, kilowatts, megawatts, source } = entry.get_ref();
    let watts = above_nothing([watts, kilowatts, megawatts], values, "a swing that hardware takes up")?;
    let no_power = || at(entry, "takes up nothing: write { megawatts = 2, source = \"…\" }, or leave it out");
    if source.get_ref().trim().is_empty() {
        let message = "is empty: write who states that it takes up so much, such as \"acceptance test, March 2026\"";
        return Err(at(source, message));
    }
    Ok(Smoothing { watts: watts.ok_or_else(no_power)?, source: source.get_ref().clone() })
}

fn above_nothing(written: [&Option<Spanned<Number>>; 3], values: &Values, what: &str) -> Checked<Option<Watts>> {
    match power(written, values, what)? {
        Some((Watts::ZERO, span)) => {
            Err(Fault::Here(span, format!("{what} of nothing: no work could run; leave the ramp out instead")))
        }
        given => Ok(given.map(|(watts, _)| watts)),
    }
}
