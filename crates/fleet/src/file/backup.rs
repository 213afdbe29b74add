//! Back-up power of sites.

use offtake_units::{CarbonIntensity, Currency, Duration, PricePerMwh, Watts};
use toml::Spanned;

use crate::account::Tallies;
use crate::file::fault::{Checked, at};
use crate::file::programmes::time;
use crate::file::syntax::{self, Number, in_order};
use crate::file::values::{MAX_WATTS, Values};
use crate::{Backup, Fleet, Generators};

/// A UPS that lasts for longer than a day is a storage of another kind.
const MAX_UPS_SECONDS: i64 = 86_400;
/// More generators than any site has.
const MAX_GENERATORS: i64 = 10_000;
/// More steps than anybody takes a load in; each is an instant of a simulation.
const MAX_BLOCKS: i64 = 100;
/// Hours of a leap year.
const HOURS_OF_A_YEAR: f64 = 8784.0;
/// More than any fuel emits: coal makes about one.
const MAX_KG_PER_KWH: f64 = 10.0;

/// Adds the back-up of each site, and checks that it can carry what its hosts draw idle.
pub(super) fn add(fleet: &mut Fleet, file: &syntax::FleetFile, values: &Values) -> Checked<()> {
    let sites = in_order(&file.sites);
    let written = sites.iter().enumerate().filter_map(|(ix, (_, site))| Some((ix, site.backup.as_ref()?)));
    let mut found = Vec::new();
    for (ix, entry) in written {
        let backup = backup(entry.get_ref(), values)?;
        check_idle(fleet, ix, entry, &backup)?;
        found.push((ix, backup));
    }
    for (ix, backup) in found {
        fleet.sites[ix].backup = Some(backup);
    }
    Ok(())
}

fn backup(entry: &syntax::Backup, values: &Values) -> Checked<Backup> {
    let ups = match &entry.ups_seconds {
        Some(seconds) => values.whole(seconds, 1..=MAX_UPS_SECONDS, "how long a UPS lasts, in seconds,")?,
        None => 0,
    };
    let or_default = |written: &Option<Spanned<String>>, default| written.as_ref().map_or(Ok(default), day);
    Ok(Backup {
        ups: Duration::from_secs(ups),
        generators: entry.generators.as_ref().map(|entry| generators(entry, values)).transpose()?,
        retransfer: or_default(&entry.retransfer, Duration::ZERO)?,
        boot: or_default(&entry.boot, Backup::BOOT)?,
    })
}

/// A time of at most a day.
fn day(written: &Spanned<String>) -> Checked<Duration> {
    let time = time(written)?;
    let message = || at(written, format!("{time} is longer than a day, which is more than any back-up takes"));
    (time <= Duration::DAY).then_some(time).ok_or_else(message)
}

fn generators(entry: &Spanned<syntax::Generators>, values: &Values) -> Checked<Generators> {
    let place = entry;
    let entry = entry.get_ref();
    let kilowatts = |number: &Spanned<Number>, what: &str| {
        let most = MAX_WATTS as f64 / 1000.0;
        values.real(number, 0.001..=most, what).map(|value| Watts::new((value * 1000.0).round() as i64))
    };
    let hours = |number: &Spanned<Number>, what: &str| {
        let hours = values.real(number, 0.0..=HOURS_OF_A_YEAR, what)?;
        Ok(Duration::from_millis((hours * 3.6e6).round() as i64))
    };
    let count = values.whole(&entry.count, 1..=MAX_GENERATORS, "a number of generators")? as u32;
    let each = kilowatts(&entry.kilowatts, "what a generator carries, in kilowatts,")?;
    if each.times(count) > Watts::new(MAX_WATTS) {
        return Err(at(&entry.count, "more than a terawatt in all: lower `count` or `kilowatts`"));
    }
    let (block, block_every) = match (&entry.block_step_kilowatts, &entry.block_every) {
        (None, None) => (each.times(count), Duration::ZERO),
        (Some(block), Some(every)) => (kilowatts(block, "a step of load in kilowatts")?, day(every)?),
        (Some(block), None) => {
            return Err(at(block, "how long from one step to the next? write `block_every = \"5s\"` beside it"));
        }
        (None, Some(every)) => {
            return Err(at(every, "there are no steps: write `block_step_kilowatts` beside it, or leave it out"));
        }
    };
    let generators = Generators {
        count,
        each,
        start: day(&entry.start)?,
        block: block.min(each.times(count)),
        block_every,
        permit: entry.permit_hours.as_ref().map(|number| hours(number, "a permit in hours a year")).transpose()?,
        fuel: entry.fuel_hours.as_ref().map(|number| hours(number, "a supply of fuel in hours")).transpose()?,
        carbon: CarbonIntensity::from_mg_per_kwh(
            (values.real(&entry.kg_co2_per_kwh, 0.0..=MAX_KG_PER_KWH, "kilograms of CO2 for a kWh")? * 1e6).round()
                as i64,
        ),
        price: match &entry.fuel_usd_per_mwh {
            Some(price) => {
                let micros = values.micros(price, "the fuel for a MWh, in dollars,")?;
                Some(PricePerMwh { micros, currency: Currency::USD })
            }
            None => None,
        },
    };
    if generators.blocks() > MAX_BLOCKS {
        let (steps, all) = (generators.blocks(), generators.capacity());
        let message = format!("takes {steps} steps to {all}; at most {MAX_BLOCKS} are allowed: make them larger");
        return Err(at(entry.block_step_kilowatts.as_ref().unwrap_or(&entry.kilowatts), message));
    }
    if generators.block_every == Duration::ZERO && generators.blocks() > 1 {
        let fault =
            "load in several steps at one instant is one step: say how long from one to the next, such as \"5s\"";
        return Err(entry.block_every.as_ref().map_or_else(|| at(place, fault), |every| at(every, fault)));
    }
    Ok(generators)
}

/// Idle hosts draw without any work, so nothing could give way to generators that carry less, or that carry it later than
/// the UPS is empty: the site would be dark at every loss, generators or not.
fn check_idle(fleet: &Fleet, ix: usize, entry: &Spanned<syntax::Backup>, backup: &Backup) -> Checked<()> {
    let (Some(generators), Some(written)) = (&backup.generators, &entry.get_ref().generators) else { return Ok(()) };
    let idle = Tallies::of(fleet).at_grid(fleet, ix).idle;
    let Some(after) = generators.carries(idle) else {
        let message = format!(
            "{} can never carry the site: its idle nodes draw {idle} at the grid connection; add generators, or leave \
             them out",
            generators.capacity()
        );
        return Err(at(&written.get_ref().kilowatts, message));
    };
    match &entry.get_ref().ups_seconds {
        Some(seconds) if backup.ups < after => {
            let message = format!(
                "the UPS is empty after {}, and the generators carry the {idle} that idle nodes draw only {after} after \
                 the loss: all would go dark each time; make it last longer, or leave it out where that is meant",
                backup.ups
            );
            Err(at(seconds, message))
        }
        _ => Ok(()),
    }
}
