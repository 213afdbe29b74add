//! Grid programmes: what may be asked of a cap, and what is paid for it.

use offtake_programmes::{Baseline, Depth, Pay, Programme, Zone};
use offtake_units::{Currency, Duration, Ppm, PricePerKwMonth, PricePerMwh, Watts};
use toml::Spanned;

use crate::account::Tallies;
use crate::file::fault::{Checked, Fault, at};
use crate::file::limits::power;
use crate::file::suggest::did_you_mean;
use crate::file::syntax::{self, BaselineMethod, in_order};
use crate::file::values::{Values, check_name};
use crate::{Cap, CapKind, CapTarget, Fleet, Meter};

/// More events than a season has hours.
const MAX_EVENTS: i64 = 10_000;

/// Adds the grid programmes, and checks that each can be kept.
pub(super) fn add(fleet: &mut Fleet, file: &syntax::FleetFile, values: &Values) -> Checked<()> {
    for (name, entry) in in_order(&file.programmes) {
        check_name(name)?;
        let programme = programme(fleet, name, entry, values)?;
        fleet.programmes.push(programme);
    }
    Ok(())
}

fn programme(fleet: &Fleet, name: &Spanned<String>, entry: &syntax::Programme, values: &Values) -> Checked<Programme> {
    let cap = cap(fleet, &entry.cap)?;
    if entry.source.get_ref().trim().is_empty() {
        return Err(at(&entry.source, "is empty: name the tariff or contract, or say that the terms are invented"));
    }
    let longest = time(&entry.longest)?;
    if longest == Duration::ZERO {
        return Err(at(&entry.longest, "an event lasts for some time: write \"4h\""));
    }
    let (depth, baseline) = (depth(entry, values)?, baseline(entry, values)?);
    let programme = Programme {
        name: name.get_ref().clone(),
        cap: cap.name.clone(),
        zone: zone(&entry.time_zone)?,
        notice: time(&entry.notice)?,
        longest,
        depth,
        events: values.whole(&entry.events, 1..=MAX_EVENTS, "a number of events")? as u32,
        months: months(entry.months.as_ref(), values)?,
        baseline,
        pay: pay(entry, values)?,
        source: entry.source.get_ref().clone(),
    };
    check_capacity(entry, &programme)?;
    check_depth(fleet, cap, entry, &programme)?;
    Ok(programme)
}

/// The cap is what the utility's meter sees, and what is drawn.
fn cap<'a>(fleet: &'a Fleet, name: &Spanned<String>) -> Checked<&'a Cap> {
    let found = fleet.caps.iter().find(|cap| cap.name == *name.get_ref());
    let cap = found.ok_or_else(|| {
        let hint = did_you_mean(name.get_ref(), fleet.caps.iter().map(|cap| cap.name.as_str()));
        at(name, format!("`{0}` is no cap{hint}; declare it as [caps.{0}]", name.get_ref()))
    })?;
    if cap.kind != CapKind::Contract || cap.meter != Meter::Facility || !matches!(cap.target, CapTarget::Domain(_)) {
        let message = format!(
            "cap `{}` is not what a utility meters: name one `on` a site or domain with meter = \"facility\" and \
             kind = \"contract\"",
            cap.name
        );
        return Err(at(name, message));
    }
    Ok(cap)
}

pub(super) fn time(written: &Spanned<String>) -> Checked<Duration> {
    written.get_ref().parse().map_err(|error: offtake_units::ParseDurationError| at(written, error.to_string()))
}

fn depth(entry: &syntax::Programme, values: &Values) -> Checked<Depth> {
    let depth = entry.depth.get_ref();
    let watts = power([&depth.watts, &depth.kilowatts, &depth.megawatts], values, "a depth")?;
    match (watts, &depth.share) {
        (Some((Watts::ZERO, span)), None) => Err(Fault::Here(span, "a depth of nothing asks for nothing".to_owned())),
        (Some((watts, _)), None) => Ok(Depth::Watts(watts)),
        (None, Some(share)) => values.share(share, "a share of the baseline").map(Depth::Share),
        (Some(_), Some(share)) => Err(at(share, "a second depth: write a power or a share")),
        (None, None) => {
            Err(at(&entry.depth, "is empty: write { megawatts = 8 }, or { share = 0.25 } for a part of the baseline"))
        }
    }
}

fn baseline(entry: &syntax::Programme, values: &Values) -> Checked<Baseline> {
    let baseline = entry.baseline.get_ref();
    let contracted =
        power([&baseline.watts, &baseline.kilowatts, &baseline.megawatts], values, "a contracted baseline")?;
    match (baseline.method, contracted) {
        (BaselineMethod::FirmServiceLevel, Some((contracted, _))) => Ok(Baseline::FirmServiceLevel { contracted }),
        (BaselineMethod::FirmServiceLevel, None) => {
            let message =
                "a firm service level is counted from a contracted baseline: write `megawatts` beside `method`";
            Err(at(&entry.baseline, message))
        }
        (_, Some((_, span))) => {
            let message = "this method finds the baseline from the meter: leave the power out";
            Err(Fault::Here(span, message.to_owned()))
        }
        (BaselineMethod::Caiso10Of10, None) => Ok(Baseline::Caiso10Of10),
        (BaselineMethod::PjmCbl, None) => Ok(Baseline::PjmCbl),
    }
}

/// The zone in which days and hours are counted.
pub(super) fn zone(written: &Spanned<String>) -> Checked<Zone> {
    let no_zone = || at(written, "no time zone has that name: write its IANA name, such as \"America/Chicago\"");
    Zone::named(written.get_ref()).ok_or_else(no_zone)
}

pub(super) fn months(written: Option<&Spanned<Vec<Spanned<syntax::Number>>>>, values: &Values) -> Checked<Vec<u8>> {
    let Some(written) = written else { return Ok((1..=12).collect()) };
    let mut months: Vec<u8> = Vec::new();
    for month in written.get_ref() {
        let number = values.whole(month, 1..=12, "a month")? as u8;
        if months.contains(&number) {
            return Err(at(month, format!("a second {number}: write each month once")));
        }
        months.push(number);
    }
    if months.is_empty() {
        return Err(at(written, "is empty: a season has at least one month; leave the key out for all of the year"));
    }
    months.sort_unstable();
    Ok(months)
}

fn pay(entry: &syntax::Programme, values: &Values) -> Checked<Pay> {
    let currency: Currency = entry.currency.get_ref().parse().map_err(|error: String| at(&entry.currency, error))?;
    let micros = |number: &Option<Spanned<syntax::Number>>, what: &str| {
        number.as_ref().map_or(Ok(0), |number| values.micros(number, what))
    };
    let forfeit = match &entry.forfeit {
        Some(share) => values.share(share, "a share of the capacity payment")?,
        None => Ppm::ZERO,
    };
    let per_mwh = |micros| PricePerMwh { micros, currency };
    Ok(Pay {
        capacity: PricePerKwMonth { micros: micros(&entry.capacity_per_kw_month, "a payment per kW-month")?, currency },
        energy: per_mwh(micros(&entry.energy_per_mwh, "a payment per MWh")?),
        penalty: per_mwh(micros(&entry.penalty_per_mwh, "a penalty per MWh")?),
        forfeit,
    })
}

/// A capacity payment is for kilowatts that are known, and only what is paid can be forfeited.
fn check_capacity(entry: &syntax::Programme, programme: &Programme) -> Checked<()> {
    let is_paid = programme.pay.capacity.micros > 0;
    match (&entry.capacity_per_kw_month, &entry.forfeit) {
        (Some(number), _) if is_paid && programme.committed().is_none() => {
            let message = "is paid for kilowatts, and the depth is a share of what only the meter tells: write the depth \
                           as a power";
            Err(at(number, message))
        }
        (_, Some(forfeit)) if !is_paid => {
            Err(at(forfeit, "there is no `capacity_per_kw_month` of which anything could be forfeited"))
        }
        _ => Ok(()),
    }
}

/// What an event asks for can be had.
fn check_depth(fleet: &Fleet, cap: &Cap, entry: &syntax::Programme, programme: &Programme) -> Checked<()> {
    let idle = Tallies::of(fleet).against(fleet, cap).idle;
    if let Baseline::FirmServiceLevel { contracted } = programme.baseline
        && contracted > cap.watts
    {
        let message = format!("a baseline of {contracted} is never drawn: cap `{}` allows {}", cap.name, cap.watts);
        return Err(at(&entry.baseline, message));
    }
    let fault = match (programme.firm_level(), programme.depth) {
        (Some(firm), _) if firm < idle => {
            let firm = if firm < Watts::ZERO { "less than nothing".to_owned() } else { firm.to_string() };
            format!("leaves {firm} of the contracted baseline, and idle nodes draw {idle}: ask for less")
        }
        (None, Depth::Watts(watts)) if watts > cap.watts - idle => format!(
            "{watts} can never be given back: cap `{}` allows {}, and idle nodes draw {idle}; ask for less",
            cap.name, cap.watts
        ),
        _ => return Ok(()),
    };
    Err(at(&entry.depth, fault))
}
