//! The cooling of a site as it is written: a convex curve, and how heat raises it.

use offtake_units::{Duration, Ppm, Watts};
use toml::Spanned;

use crate::account::Tallies;
use crate::file::fault::{Checked, at};
use crate::file::suggest::did_you_mean;
use crate::file::syntax::{self, FleetFile, Named, in_order};
use crate::file::values::{MAX_WATTS, Values};
use crate::{Cooling, Fleet, HeatPoint, LevelIx, LoadPoint};

/// Plants follow their load in minutes. Weather is known an hour ahead, and what it asks for has to be met so long before.
const LONGEST_LAG: Duration = Duration::from_secs(1800);

/// Nothing rides through longer; who can go on for ever has no cooling to lose.
const LONGEST_RIDE: Duration = Duration::HOUR;

/// Beyond ten times full load, or ten times a curve, somebody took percent for shares.
const MOST: u32 = 10;

pub(super) fn read(written: &Spanned<syntax::Cooling>, values: &Values) -> Checked<Cooling> {
    let entry = written.get_ref();
    let most = MAX_WATTS as f64 / 1e6;
    let full_load = values.real(&entry.full_load_megawatts, 0.000_001..=most, "a load in megawatts")?;
    let follows = match &entry.follows {
        Some(text) => time(text, LONGEST_LAG)?,
        None => Duration::ZERO,
    };
    Ok(Cooling {
        full_load: Watts::new((full_load * 1e6).round() as i64),
        follows,
        curve: curve(&entry.curve, values)?,
        heat: heat(&entry.heat, values)?,
    })
}

fn time(text: &Spanned<String>, longest: Duration) -> Checked<Duration> {
    let time: Duration =
        text.get_ref().parse().map_err(|error: offtake_units::ParseDurationError| at(text, error.to_string()))?;
    match time <= longest {
        true => Ok(time),
        false => Err(at(text, format!("{time} is not allowed: at most {longest}"))),
    }
}

/// Whether a slope is less than the one before it; both as how high and how wide.
fn is_flatter((high, wide): (i64, i64), before: (i64, i64)) -> bool {
    i128::from(high) * i128::from(before.1) < i128::from(before.0) * i128::from(wide)
}

fn between(from: Ppm, to: Ppm) -> i64 {
    i64::from(to.parts()) - i64::from(from.parts())
}

fn curve(written: &Spanned<Vec<syntax::LoadPoint>>, values: &Values) -> Checked<Vec<LoadPoint>> {
    let mut points: Vec<LoadPoint> = Vec::new();
    let mut slope = (0, 1);
    for entry in written.get_ref() {
        let next = LoadPoint {
            it: values.ratio(&entry.it, 1, "a share of full IT load")?,
            overhead: values.ratio(&entry.overhead, MOST, "what is drawn beside it, as a share of full IT load,")?,
        };
        match points.last() {
            None if next.it > Ppm::ZERO => {
                return Err(at(&entry.it, "the first point is that of no load: write { it = 0.0, overhead = … }"));
            }
            None => {}
            Some(last) if next.it <= last.it => {
                return Err(at(&entry.it, "is no more load than at the point before it: write the least first"));
            }
            Some(last) if next.overhead < last.overhead => {
                return Err(at(&entry.overhead, "more load takes no less: the point before it takes more"));
            }
            Some(last) => {
                let rise = (between(last.overhead, next.overhead), between(last.it, next.it));
                if is_flatter(rise, slope) {
                    let message = "rises more slowly up to here than up to the point before it: a curve of fans, pumps and \
                                   chillers is convex; leave out the one of the two that is off";
                    return Err(at(&entry.overhead, message));
                }
                slope = rise;
            }
        }
        points.push(next);
    }
    match points.last() {
        Some(last) if points.len() > 1 && last.it == Ppm::ONE => Ok(points),
        _ => Err(at(written, "goes from no load to full load: its first point has it = 0.0, its last it = 1.0")),
    }
}

fn heat(written: &[syntax::HeatPoint], values: &Values) -> Checked<Vec<HeatPoint>> {
    let mut points: Vec<HeatPoint> = Vec::new();
    let mut slope = (0, 1);
    for entry in written {
        let wet_bulb = values.real(&entry.wet_bulb_c, -60.0..=60.0, "a wet-bulb temperature in degrees Celsius")?;
        let next = HeatPoint {
            wet_bulb_mc: (wet_bulb * 1000.0).round() as i32,
            factor: values.ratio(&entry.factor, MOST, "what the curve is multiplied by")?,
        };
        if let Some(last) = points.last() {
            if next.wet_bulb_mc <= last.wet_bulb_mc {
                return Err(at(&entry.wet_bulb_c, "is no warmer than the point before it: write the coolest first"));
            }
            if next.factor < last.factor {
                return Err(at(&entry.factor, "heat takes no less: the point before it takes more"));
            }
            let rise = (between(last.factor, next.factor), i64::from(next.wet_bulb_mc - last.wet_bulb_mc));
            if is_flatter(rise, slope) {
                let message = "rises more slowly up to here than up to the point before it: what heat takes is convex; leave \
                               out the one of the two that is off";
                return Err(at(&entry.factor, message));
            }
            slope = rise;
        }
        points.push(next);
    }
    Ok(points)
}

/// The curve reaches as far as the servers' expected draw.
pub(super) fn check_load(fleet: &Fleet, file: &FleetFile) -> Checked<()> {
    if fleet.sites.iter().all(|site| site.cooling.is_none()) {
        return Ok(());
    }
    let tallies = Tallies::of(fleet);
    for (ix, (site, (_, entry))) in fleet.sites.iter().zip(in_order(&file.sites)).enumerate() {
        let (Some(cooling), Some(written)) = (&site.cooling, &entry.cooling) else { continue };
        let drawn = tallies.of_site(ix).operating;
        if drawn > cooling.full_load {
            let message = format!(
                "is less than what its servers draw at work, {drawn}: a curve tells nothing of what is beyond its end"
            );
            return Err(at(&written.get_ref().full_load_megawatts, message));
        }
    }
    Ok(())
}

/// How long the domains of each level go on without cooling.
pub(super) fn ride_through(written: &Named<Spanned<String>>, levels: &[String]) -> Checked<Vec<(LevelIx, Duration)>> {
    let mut times = Vec::new();
    for (level, text) in in_order(written) {
        let name = level.get_ref();
        let Some(place) = levels.iter().position(|known| known == name) else {
            let hint = did_you_mean(name, levels.iter().map(String::as_str));
            return Err(at(level, format!("`{name}` is no level{hint}; levels are: {}", levels.join(", "))));
        };
        times.push((LevelIx(place as u32), time(text, LONGEST_RIDE)?));
    }
    times.sort_unstable();
    Ok(times)
}
