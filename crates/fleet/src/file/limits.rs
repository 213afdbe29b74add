//! Circuits and caps: what feeds what, and how much it may draw.

use std::collections::HashSet;

use offtake_units::{Duration, Ppm, VoltAmperes, Watts};
use toml::Spanned;

use crate::account::Tallies;
use crate::file::fault::{Checked, Fault, at};
use crate::file::hours;
use crate::file::paths::{is_pattern, matches, resolve};
use crate::file::programmes::time;
use crate::file::suggest::did_you_mean;
use crate::file::syntax::{self, Named, Number, in_order};
use crate::file::values::{MAX_WATTS, Values, check_name};
use crate::{Cap, CapKind, CapTarget, Circuit, CircuitIx, Derating, DomainIx, Feed, Fleet, Meter, Overload};

/// NEC 210.20: continuous load at most 80 % of a rating, unless the circuit is rated for all of it.
const CONTINUOUS_LOAD_FACTOR: Ppm = Ppm::new(800_000);
/// Caps beyond this are a pattern gone wild; each is watched in every decision.
const MAX_CAPS: usize = 1_000_000;
/// Beyond this a breaker opens by its magnet, at once.
const MOST_OVERLOAD: f64 = 20.0;

/// Adds the circuits, each with its rating as a breaker cap, then the caps, and checks that each can be kept.
pub(super) fn add(fleet: &mut Fleet, file: &syntax::FleetFile, values: &Values) -> Checked<()> {
    let mut caps = Caps { list: Vec::new(), spans: Vec::new(), names: HashSet::new() };
    for (name, entry) in in_order(&file.circuits) {
        let circuit = circuit(fleet, name, entry, values)?;
        fleet.circuits.push(circuit);
    }
    check_groups(fleet, &file.circuits)?;
    check_curves(fleet, &file.circuits)?;
    for (ix, (_, entry)) in in_order(&file.circuits).into_iter().enumerate() {
        for cap in ratings(fleet, CircuitIx(ix as u32)) {
            caps.push(cap, entry.kva.span())?;
        }
    }
    for (name, entry) in in_order(&file.caps) {
        check_name(name)?;
        let (watts, span) = limit(name, entry, values)?;
        let targets = targets(fleet, name, entry)?;
        let derating = derating(entry, values)?;
        let schedule = hours::schedule(watts, entry, values)?;
        if schedule.is_some() && targets.list.len() > hours::MOST_CAPS {
            let most = hours::MOST_CAPS;
            return Err(at(
                name,
                format!("`hours` on {} caps: at most {most} may follow the clock", targets.list.len()),
            ));
        }
        let rise = entry.rise_watts_per_minute.as_ref().map(|rise| rise_of(rise, values)).transpose()?;
        for target in targets.list {
            let suffix = match target {
                _ if !targets.by_pattern => String::new(),
                CapTarget::Domain(domain) => format!(" {}", fleet.path(domain)),
                CapTarget::Circuit(circuit) | CapTarget::CircuitWithout { circuit, .. } => {
                    format!(" {}", fleet.circuits[circuit.ix()].name)
                }
            };
            let name = format!("{}{suffix}", name.get_ref());
            let (derating, schedule) = (derating.clone(), schedule.clone());
            let cap = Cap { name, target, watts, meter: entry.meter, kind: entry.kind, derating, rise, schedule };
            caps.push(cap, span.clone())?;
        }
    }
    fleet.caps = caps.list;
    check_idle(fleet, &caps.spans)
}

/// The caps by a circuit's rating: one, or, where others of its redundancy group feed the same domains, one for the loss
/// of each of those. Then it carries at least what it does while all are there. Where its curve lets it carry more for as
/// long as it takes to relieve it, those caps are by that, and its rating is one beside them.
fn ratings(fleet: &Fleet, ix: CircuitIx) -> Vec<Cap> {
    let circuit = &fleet.circuits[ix.ix()];
    let (continuous, borne) = (circuit.continuous(), circuit.carries_for(Circuit::RELIEVED_IN));
    let rated = |name, target, watts| Cap {
        name,
        target,
        watts,
        meter: Meter::It,
        kind: CapKind::Breaker,
        derating: Vec::new(),
        rise: None,
        schedule: None,
    };
    let stands_in = (0..fleet.circuits.len() as u32).map(CircuitIx).filter(|other| fleet.stands_in(ix, *other));
    let of_loss = |lost: CircuitIx| {
        let name = format!("{} for {}", circuit.name, fleet.circuits[lost.ix()].name);
        rated(name, CapTarget::CircuitWithout { circuit: ix, lost }, borne)
    };
    let mut caps: Vec<Cap> = stands_in.map(of_loss).collect();
    if caps.is_empty() || borne > continuous {
        caps.insert(0, rated(format!("{} rating", circuit.name), CapTarget::Circuit(ix), continuous));
    }
    caps
}

/// Caps so far, with the place of each one's limit in the file.
struct Caps {
    list: Vec<Cap>,
    spans: Vec<std::ops::Range<usize>>,
    names: HashSet<String>,
}

impl Caps {
    fn push(&mut self, cap: Cap, span: std::ops::Range<usize>) -> Checked<()> {
        if self.list.len() >= MAX_CAPS {
            return Err(Fault::Here(span, "more than a million caps: narrow the pattern".to_owned()));
        }
        if !self.names.insert(cap.name.clone()) {
            return Err(Fault::Here(span, format!("a second cap named `{}`: rename one", cap.name)));
        }
        self.list.push(cap);
        self.spans.push(span);
        Ok(())
    }
}

fn circuit(fleet: &Fleet, name: &Spanned<String>, entry: &syntax::Circuit, values: &Values) -> Checked<Circuit> {
    check_name(name)?;
    let kva = values.real(&entry.kva, 0.001..=1e9, "a rating in kVA")?;
    let mut feeds: Vec<Feed> = Vec::new();
    for feed in entry.feeds.get_ref() {
        let share = match &feed.share {
            Some(share) => values.share(share, "a share")?,
            None => Ppm::ONE,
        };
        let domains = resolve(&fleet.domains, fleet.sites.len() as u32, &feed.domain)?;
        feeds.extend(domains.into_iter().map(|domain| Feed { domain, share }));
        check_apart(fleet, &mut feeds, &feed.domain)?;
    }
    if feeds.is_empty() {
        return Err(at(&entry.feeds, "feeds nothing: write { domain = \"site/hall-0\" }"));
    }
    let factor = entry.continuous_load_factor.as_ref();
    let continuous_load_factor =
        factor.map_or(Ok(CONTINUOUS_LOAD_FACTOR), |factor| values.share(factor, "a continuous load factor"))?;
    Ok(Circuit {
        name: name.get_ref().clone(),
        rating: VoltAmperes::new((kva * 1000.0).round() as i64),
        power_factor: values.share(&entry.power_factor, "a power factor")?,
        continuous_load_factor,
        overload: overload(entry, values, continuous_load_factor)?,
        redundancy_group: entry.redundancy_group.as_ref().map(|group| group.get_ref().clone()),
        feeds,
    })
}

/// The points of a time-current curve: ever more, for ever shorter.
fn overload(entry: &syntax::Circuit, values: &Values, continuous: Ppm) -> Checked<Vec<Overload>> {
    let mut points: Vec<Overload> = Vec::with_capacity(entry.overload.len());
    for point in &entry.overload {
        let load = values.real(&point.load, 0.0..=MOST_OVERLOAD, "a load over the rating")?;
        let next = Overload { load: Ppm::new((load * 1e6).round() as u32), lasts: time(&point.lasts)? };
        if next.lasts == Duration::ZERO {
            return Err(at(&point.lasts, "what lasts for no time cannot be carried: leave the point out"));
        }
        let (load, lasts) = points.last().map_or((continuous, None), |last| (last.load, Some(last.lasts)));
        if next.load <= load {
            let before = if lasts.is_some() { "the point before it" } else { "the load that it carries for ever" };
            let message = format!("is no more than {before}, {}: write what lasts longest first", load.as_f64());
            return Err(at(&point.load, message));
        }
        if lasts.is_some_and(|lasts| next.lasts >= lasts) {
            return Err(at(&point.lasts, "a larger load lasts shorter than the one before it"));
        }
        points.push(next);
    }
    Ok(points)
}

/// Sorts the feeds by their nodes; none may be fed twice or lie inside another.
fn check_apart(fleet: &Fleet, feeds: &mut [Feed], written: &Spanned<String>) -> Checked<()> {
    feeds.sort_by_key(|feed| {
        let nodes = &fleet.domains[feed.domain.ix()].nodes;
        (nodes.start, nodes.end)
    });
    for pair in feeds.windows(2) {
        if fleet.domains[pair[1].domain.ix()].nodes.start < fleet.domains[pair[0].domain.ix()].nodes.end {
            let (one, other) = (fleet.path(pair[0].domain), fleet.path(pair[1].domain));
            let message = format!("`{one}` and `{other}` overlap: a circuit feeds each domain once, at its top");
            return Err(at(written, message));
        }
    }
    Ok(())
}

/// The circuits of one redundancy group feed the same domains, and never more than the whole of one.
fn check_groups(fleet: &Fleet, entries: &Named<syntax::Circuit>) -> Checked<()> {
    let mut fed: std::collections::BTreeMap<(&str, DomainIx), u64> = std::collections::BTreeMap::new();
    for (circuit, (_, entry)) in fleet.circuits.iter().zip(in_order(entries)) {
        let Some(group) = &circuit.redundancy_group else { continue };
        for feed in &circuit.feeds {
            let sum = fed.entry((group, feed.domain)).or_default();
            *sum += u64::from(feed.share.parts());
            // Thirds do not add up to one exactly.
            if *sum > u64::from(Ppm::ONE.parts()) + 10 {
                let (path, share) = (fleet.path(feed.domain), *sum as f64 / 1e6);
                let message =
                    format!("the circuits of group `{group}` feed {share} of `{path}`: their shares make at most 1");
                return Err(at(&entry.feeds, message));
            }
            let nodes = |domain: DomainIx| &fleet.domains[domain.ix()].nodes;
            let meets = |other: &DomainIx| {
                *other != feed.domain
                    && nodes(*other).start < nodes(feed.domain).end
                    && nodes(feed.domain).start < nodes(*other).end
            };
            let mut of_group = fed.range((group.as_str(), DomainIx(0))..).take_while(|((name, _), _)| name == group);
            if let Some(((_, other), _)) = of_group.find(|((_, other), _)| meets(other)) {
                let message = format!(
                    "the circuits of group `{group}` feed `{}` and `{}`, of which one holds the other: those of a group \
                     feed the same domains",
                    fleet.path(*other),
                    fleet.path(feed.domain)
                );
                return Err(at(&entry.feeds, message));
            }
        }
    }
    Ok(())
}

/// Only for another of its group is more carried than a rating.
fn check_curves(fleet: &Fleet, entries: &Named<syntax::Circuit>) -> Checked<()> {
    let all = || (0..fleet.circuits.len() as u32).map(CircuitIx);
    for (ix, (_, entry)) in all().zip(in_order(entries)) {
        if let Some(point) = entry.overload.first()
            && !all().any(|other| fleet.stands_in(ix, other))
        {
            let message =
                "it stands in for no other circuit, and is never loaded beyond its rating: leave `overload` out";
            return Err(at(&point.load, message));
        }
    }
    Ok(())
}

/// The limit in watts, and where it is written.
fn limit(name: &Spanned<String>, entry: &syntax::Cap, values: &Values) -> Checked<(Watts, std::ops::Range<usize>)> {
    match power([&entry.watts, &entry.kilowatts, &entry.megawatts], values, "a limit")? {
        Some((Watts::ZERO, span)) => {
            let message = "a limit of nothing: leave the domain out of the fleet instead";
            Err(Fault::Here(span, message.to_owned()))
        }
        Some(limit) => Ok(limit),
        None => Err(at(name, "has no limit: write `watts`, `kilowatts` or `megawatts`")),
    }
}

/// A power that may be written in watts, kilowatts or megawatts, and where it is written; none where it is not. `what` names
/// it in errors.
pub(super) fn power(
    [watts, kilowatts, megawatts]: [&Option<Spanned<Number>>; 3],
    values: &Values,
    what: &str,
) -> Checked<Option<(Watts, std::ops::Range<usize>)>> {
    let written = [(watts, 1.0), (kilowatts, 1e3), (megawatts, 1e6)];
    let mut given = written.into_iter().filter_map(|(number, unit)| number.as_ref().map(|number| (number, unit)));
    match (given.next(), given.next()) {
        (Some((number, unit)), None) => {
            let most = MAX_WATTS as f64 / unit;
            let value = values.real(number, 0.0..=most, what)?;
            Ok(Some((Watts::new((value * unit).round() as i64), number.span())))
        }
        (None, _) => Ok(None),
        (_, Some((number, _))) => {
            // Without its article: "a second limit".
            let thing = what.split_once(' ').map_or(what, |(_, thing)| thing);
            Err(at(number, format!("a second {thing}: write one of `watts`, `kilowatts` and `megawatts`")))
        }
    }
}

/// How much more a cap allows with each minute.
fn rise_of(number: &Spanned<syntax::Number>, values: &Values) -> Checked<Watts> {
    let most = MAX_WATTS as f64;
    Ok(Watts::new(values.real(number, 1.0..=most, "a rise in watts a minute")?.round() as i64))
}

/// How a cap falls as it gets hot.
fn derating(entry: &syntax::Cap, values: &Values) -> Checked<Vec<Derating>> {
    let mut points: Vec<Derating> = Vec::with_capacity(entry.derating.len());
    for point in &entry.derating {
        let wet_bulb = values.real(&point.wet_bulb_c, -60.0..=60.0, "a wet-bulb temperature in degrees Celsius")?;
        let next = Derating {
            wet_bulb_mc: (wet_bulb * 1000.0).round() as i32,
            share: values.share(&point.share, "a share of the cap")?,
        };
        if let Some(last) = points.last() {
            if next.wet_bulb_mc <= last.wet_bulb_mc {
                return Err(at(&point.wet_bulb_c, "is no warmer than the point before it: write the coolest first"));
            }
            if next.share > last.share {
                return Err(at(&point.share, "heat leaves no more of a cap: the point before it leaves less"));
            }
        }
        points.push(next);
    }
    Ok(points)
}

struct Targets {
    list: Vec<CapTarget>,
    /// Set where the target was written as a pattern, so that each match is named.
    by_pattern: bool,
}

fn targets(fleet: &Fleet, name: &Spanned<String>, entry: &syntax::Cap) -> Checked<Targets> {
    let (list, written): (Vec<CapTarget>, _) = match (&entry.on, &entry.circuit) {
        (Some(path), None) => {
            let domains = resolve(&fleet.domains, fleet.sites.len() as u32, path)?;
            (domains.into_iter().map(CapTarget::Domain).collect(), path)
        }
        (None, Some(pattern)) => (circuits_named(fleet, pattern)?, pattern),
        (Some(_), Some(circuit)) => {
            return Err(at(circuit, "a cap is on a domain or on a circuit: write one of the two"));
        }
        (None, None) => return Err(at(name, "is on nothing: write `on = \"site/…\"` or `circuit = \"…\"`")),
    };
    Ok(Targets { list, by_pattern: is_pattern(written.get_ref()) })
}

fn circuits_named(fleet: &Fleet, pattern: &Spanned<String>) -> Checked<Vec<CapTarget>> {
    let given = pattern.get_ref();
    let all = fleet.circuits.iter().enumerate();
    let found: Vec<CapTarget> = all
        .filter(|(_, circuit)| matches(given, &circuit.name))
        .map(|(ix, _)| CapTarget::Circuit(CircuitIx(ix as u32)))
        .collect();
    if found.is_empty() {
        let hint = did_you_mean(given, fleet.circuits.iter().map(|circuit| circuit.name.as_str()));
        return Err(at(pattern, format!("`{given}` is no circuit{hint}; declare it as [circuits.{given}]")));
    }
    Ok(found)
}

/// A cap below what its nodes draw without work could never be kept. A circuit that carries more than its rating for others
/// is brought back to it by stopping work, so that idle nodes have to leave it that.
fn check_idle(fleet: &Fleet, spans: &[std::ops::Range<usize>]) -> Checked<()> {
    if fleet.caps.is_empty() {
        return Ok(());
    }
    let tallies = Tallies::of(fleet);
    for (cap, span) in fleet.caps.iter().zip(spans) {
        let idle = tallies.against(fleet, cap).idle;
        let declared = cap.least();
        let least = match cap.target {
            CapTarget::CircuitWithout { circuit, .. } => declared.min(fleet.circuits[circuit.ix()].continuous()),
            CapTarget::Domain(_) | CapTarget::Circuit(_) => declared,
        };
        if least < idle {
            let heat = match () {
                () if least < declared => " for longer than its curve allows more",
                () if cap.at_wet_bulb(i32::MAX) == least && least < cap.watts => " in heat",
                () if least < cap.watts => " in its `hours`",
                () => "",
            };
            let message = format!(
                "cap `{}` of {least}{heat} can never be kept: its nodes draw {idle} idle; raise it or feed fewer nodes",
                cap.name
            );
            return Err(Fault::Here(span.clone(), message));
        }
    }
    Ok(())
}
