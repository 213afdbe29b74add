//! How many servers a site can hold behind its caps, and what they deliver: with all chips at full power, at each of their
//! power levels, and by the rule of thumb that counts rating plates.
//!
//! Every row is a fleet. Its racks are found by the engine's own accounts of the site's caps ([`crate::growth`]), and it
//! is then handed to the engine with as much work as there is to be ([`crate::fill`]): what the row says runs is what the
//! engine has placed, under every cap. Chips, racks and cooling have to be had; the answer is about power alone.

use std::sync::Arc;

use offtake_engine::Throttle;
use offtake_fleet::{AcceleratorKind, Basis, Cap, Fleet, NodeKindIx, PowerLevel, SiteIx, racks, with_racks};
use offtake_units::{Ppm, Watts};
use serde::Serialize;

use crate::fill::{Filled, loaded};
use crate::growth::{Boundless, Count, Fit, fit};

/// What fits behind a site's caps.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Sizing {
    /// The version of this format; it rises when a field changes its meaning or goes.
    pub version: u32,
    /// The site.
    pub site: String,
    /// The share of chips at work, in parts per million.
    pub busy_ppm: Ppm,
    /// The rule of thumb, the fleet as it stands, full power, and each power level in turn.
    pub rows: Vec<Row>,
    /// The row that delivers most, by its place.
    pub best: usize,
}

/// One fleet behind the site's caps.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Row {
    /// What it is: `rule of thumb`, `as it stands`, `full power`, or the names of the power level.
    pub name: String,
    /// How far down their curves its chips are limited by their drivers; 0 at full power.
    pub level: Throttle,
    /// Its racks, or nodes where they hang directly below the site.
    pub racks: u64,
    /// Its servers, with chips or without.
    pub servers: u64,
    /// Its chips.
    pub chips: u64,
    /// Those at work.
    pub chips_at_work: u64,
    /// What is expected to be drawn at the servers.
    pub it_watts: Watts,
    /// The same at the grid connection.
    pub facility_watts: Watts,
    /// The cap that cannot power one rack more, or for the fleet as it stands the tightest; none where nothing is capped.
    pub cap: Option<CapUse>,
    /// Full-speed equivalents of the chips at work, in thousandths: what an hour delivers, in thousandths of a chip-hour.
    pub useful_chip_milli: u64,
    /// Against the rule of thumb, in parts per million; none where that fits nothing.
    pub against_rule_ppm: Option<u64>,
    /// What would be delivered were the assumed speeds a tenth lower, and a tenth higher; none where none is assumed.
    pub useful_if_assumed_levels_are_off: Option<[u64; 2]>,
}

/// A cap and what is drawn under it, by its own account.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct CapUse {
    /// The cap.
    pub name: String,
    /// What it allows.
    pub limit_watts: Watts,
    /// What is drawn under it: what is expected under a contract, what can be enforced under a breaker.
    pub load_watts: Watts,
}

/// Why a site has no size.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SizeError {
    /// It has no chips.
    #[error("site `{0}` has no chips: give it nodes with accelerators, as many as one rack")]
    NoChips(String),
    /// No cap limits how many there can be.
    #[error(
        "no cap limits how many racks site `{0}` can have: give it [caps.grid] with `on = \"{0}\"`, or circuits that feed \
         its halls"
    )]
    NoCap(String),
    /// More fit than a fleet may have.
    #[error(
        "behind the caps of site `{0}` fit more servers than a fleet may have: see whether their watts are meant so"
    )]
    TooMany(String),
    /// What another site draws of it is not known.
    #[error("circuit `{circuit}` feeds site `{other}` too: a site is sized behind circuits of its own")]
    Shared {
        /// The circuit.
        circuit: String,
        /// The other site.
        other: String,
    },
}

/// Sizes a site: so many racks of its own mix as fit behind its caps with this share of the nodes of each kind at work,
/// steadily, and all others idle. Caps count as they are declared, before heat takes its share.
///
/// # Errors
/// When the site has no chips, when nothing limits its racks, or when a circuit of it feeds another site.
pub fn size(fleet: &Fleet, site: SiteIx, busy: Ppm) -> Result<Sizing, SizeError> {
    check(fleet, site)?;
    let all = racks(fleet, site);
    let fitted = |fleet: &Fleet, count| {
        let account = loaded(Arc::new(fleet.clone()));
        fit(account.capacity(), &all, count).map_err(|boundless| {
            let name = fleet.sites[site.ix()].name.clone();
            match boundless {
                Boundless::NoCap => SizeError::NoCap(name),
                Boundless::TooMany => SizeError::TooMany(name),
            }
        })
    };
    let sized = |name: String, level: Throttle, fit: &Fit| {
        let limited = limited_to(fleet, level);
        let filled = Filled::of(with_racks(&limited, site, &fit.counts), busy);
        let racks = fit.counts.iter().map(|count| u64::from(*count)).sum();
        Row { racks, cap: Some(under(&filled, &fleet.caps[fit.refuses])), ..row(&filled, name, level, fleet) }
    };
    let mut rows = vec![sized("rule of thumb".to_owned(), Throttle::NONE, &fitted(fleet, Count::Nameplate)?)];
    let stands = Filled::of(with_racks(fleet, site, &vec![1; all.len()]), busy);
    let row = row(&stands, "as it stands".to_owned(), Throttle::NONE, fleet);
    rows.push(Row { racks: all.len() as u64, cap: tightest(&stands), ..row });
    for level in levels(fleet, site) {
        let fit = fitted(&limited_to(fleet, level), Count::Draw { busy })?;
        rows.push(sized(name_of(fleet, site, level), level, &fit));
    }
    let rule = rows[0].useful_chip_milli;
    for row in &mut rows {
        row.against_rule_ppm = (row.useful_chip_milli * 1_000_000).checked_div(rule);
    }
    let best = (0..rows.len()).rev().max_by_key(|row| rows[*row].useful_chip_milli).unwrap_or_default();
    Ok(Sizing { version: 1, site: fleet.sites[site.ix()].name.clone(), busy_ppm: busy, rows, best })
}

/// The fleet with all chips limited to a power level by their drivers: that is the most that they draw, and what they draw
/// at work where they would draw more. Chips without levels stay as they are.
pub fn limited_to(fleet: &Fleet, level: Throttle) -> Fleet {
    let limited = |chip: &AcceleratorKind| {
        let Some(at) = level.of(&chip.power_levels) else { return chip.clone() };
        let most = chip.peak.share_up(at.power);
        AcceleratorKind { operating: chip.operating.min(most), peak: most, ..chip.clone() }
    };
    Fleet { accelerators: fleet.accelerators.iter().map(limited).collect(), ..fleet.clone() }
}

fn check(fleet: &Fleet, site: SiteIx) -> Result<(), SizeError> {
    let name = |site: SiteIx| fleet.sites[site.ix()].name.clone();
    for circuit in &fleet.circuits {
        let (own, others): (Vec<SiteIx>, Vec<SiteIx>) =
            circuit.feeds.iter().map(|feed| fleet.domains[feed.domain.ix()].site).partition(|fed| *fed == site);
        if let (Some(_), Some(other)) = (own.first(), others.first()) {
            return Err(SizeError::Shared { circuit: circuit.name.clone(), other: name(*other) });
        }
    }
    match kinds(fleet, site).is_empty() {
        true => Err(SizeError::NoChips(name(site))),
        false => Ok(()),
    }
}

/// The kinds of a site's nodes that have chips.
fn kinds(fleet: &Fleet, site: SiteIx) -> Vec<NodeKindIx> {
    let nodes = &fleet.domains[site.ix()].nodes;
    let mut has = vec![false; fleet.node_kinds.len()];
    for node in &fleet.nodes[nodes.start as usize..nodes.end as usize] {
        has[node.kind.ix()] = fleet.kind(*node).chips > 0;
    }
    (0..).zip(has).filter(|(_, has)| *has).map(|(kind, _)| NodeKindIx(kind)).collect()
}

fn chips(fleet: &Fleet, site: SiteIx) -> impl Iterator<Item = &AcceleratorKind> {
    kinds(fleet, site).into_iter().filter_map(|kind| fleet.accelerator(&fleet.node_kinds[kind.ix()]))
}

/// As many levels as the longest curve of the site's chips has, of which the first is full power.
fn levels(fleet: &Fleet, site: SiteIx) -> impl Iterator<Item = Throttle> + use<> {
    let most = chips(fleet, site).map(|chip| chip.power_levels.len()).max().unwrap_or(0).max(1);
    (0..u8::try_from(most).unwrap_or(u8::MAX)).map(Throttle)
}

fn name_of(fleet: &Fleet, site: SiteIx, level: Throttle) -> String {
    if level.is_none() {
        return "full power".to_owned();
    }
    let mut names: Vec<&str> =
        chips(fleet, site).filter_map(|chip| level.of(&chip.power_levels)).map(|level| level.name.as_str()).collect();
    names.dedup();
    names.join(", ")
}

/// What the engine has placed, as a row. `unlimited` has the curves of the chips.
fn row(filled: &Filled, name: String, level: Throttle, unlimited: &Fleet) -> Row {
    let fleet = filled.state.fleet();
    let it_watts = filled.state.capacity().site_draw(SiteIx(0));
    let at = |kind: &NodeKindIx| {
        let chip = unlimited.accelerator(&unlimited.node_kinds[kind.ix()]);
        chip.and_then(|chip| level.of(&chip.power_levels))
    };
    // An assumed speed counts so many tenths.
    let useful = |tenths: u64| {
        let speed = |kind| match at(kind) {
            None => 1_000_000,
            Some(PowerLevel { speed, basis: Basis::Measured, .. }) => u64::from(speed.parts()),
            Some(PowerLevel { speed, .. }) => (u64::from(speed.parts()) * tenths / 10).min(1_000_000),
        };
        filled.working.iter().map(|(kind, chips)| chips * speed(kind)).sum::<u64>() / 1000
    };
    let is_assumed = filled.working.keys().any(|kind| at(kind).is_some_and(|at| at.basis == Basis::Assumed));
    Row {
        name,
        level,
        racks: 0,
        servers: fleet.nodes.len() as u64,
        chips: fleet.chips(),
        chips_at_work: filled.working.values().sum(),
        it_watts,
        facility_watts: fleet.sites[0].facility(it_watts, None),
        cap: None,
        useful_chip_milli: useful(10),
        against_rule_ppm: None,
        useful_if_assumed_levels_are_off: is_assumed.then(|| [useful(9), useful(11)]),
    }
}

/// A cap, with what is drawn under it; nothing where no rack is left of what it limits.
fn under(filled: &Filled, cap: &Cap) -> CapUse {
    let place = filled.state.fleet().caps.iter().position(|kept| kept.name == cap.name);
    let nothing = || CapUse { name: cap.name.clone(), limit_watts: cap.watts, load_watts: Watts::ZERO };
    place.map_or_else(nothing, |place| cap_use(filled, place))
}

/// The cap at a place of the fleet that was filled.
fn cap_use(filled: &Filled, place: usize) -> CapUse {
    let cap = &filled.state.fleet().caps[place];
    let load_watts = filled.state.capacity().limits()[place].load();
    CapUse { name: cap.name.clone(), limit_watts: cap.watts, load_watts }
}

/// The cap of which the largest share is used; the first of equals.
fn tightest(filled: &Filled) -> Option<CapUse> {
    let (caps, limits) = (&filled.state.fleet().caps, filled.state.capacity().limits());
    let part = |load: usize, limit: usize| i128::from(limits[load].load().get()) * i128::from(caps[limit].watts.get());
    let tightest = (0..caps.len()).reduce(|a, b| if part(b, a) > part(a, b) { b } else { a });
    tightest.map(|place| cap_use(filled, place))
}
