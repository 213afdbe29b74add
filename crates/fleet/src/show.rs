//! A fleet and its power account on a page: for people as text without frames in 80 columns, for machines as data.

use std::collections::BTreeMap;
use std::fmt;
use std::fmt::Write;
use std::ops::Range;

use offtake_units::Watts;
use serde::Serialize;

use crate::account::{Account, CapAccount, Draw, LevelAccount, SiteAccount, Spread, account};
use crate::file::values::grouped;
use crate::{AcceleratorKind, CapKind, DomainIx, Fleet, Meter, NodeKind, Site};

/// The width that the tables keep to.
const WIDTH: usize = 80;
/// Rows beyond this are counted, not listed: the data has them all.
const MAX_ROWS: usize = 24;
/// Warnings of one sort beyond this are counted, not listed.
const MAX_WARNINGS: usize = 5;

/// The page as data. `version` rises when a field changes its meaning or goes.
#[derive(Clone, Debug, Serialize)]
pub struct Page<'a> {
    /// The version of this format.
    pub version: u32,
    /// The fleet's name.
    pub name: &'a str,
    /// The levels of the domain tree, widest first.
    pub levels: &'a [String],
    /// Kinds of accelerator.
    pub accelerators: &'a [AcceleratorKind],
    /// Kinds of node.
    pub node_kinds: &'a [NodeKind],
    /// Sites.
    pub sites: &'a [Site],
    /// What it draws and may draw.
    pub account: Account,
    /// What deserves a second look.
    pub warnings: Vec<String>,
}

/// The page as data.
pub fn json(fleet: &Fleet) -> Page<'_> {
    let account = account(fleet);
    let warnings = warnings(fleet, &account);
    Page {
        version: 1,
        name: &fleet.name,
        levels: &fleet.levels,
        accelerators: &fleet.accelerators,
        node_kinds: &fleet.node_kinds,
        sites: &fleet.sites,
        account,
        warnings,
    }
}

/// What a check of a fleet file says once it could be read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Verdict {
    /// One line.
    pub verdict: String,
    /// What deserves a second look.
    pub warnings: Vec<String>,
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.verdict)?;
        self.warnings.iter().try_for_each(|warning| writeln!(f, "warning: {warning}"))
    }
}

/// The verdict and the warnings on a fleet that could be read.
pub fn check(fleet: &Fleet) -> Verdict {
    let account = account(fleet);
    Verdict { verdict: headline(fleet, &account), warnings: warnings(fleet, &account) }
}

/// The page as text.
pub fn text(fleet: &Fleet) -> String {
    let account = account(fleet);
    let mut page = wrapped(&headline(fleet, &account));
    for table in [chips(fleet, &account), sites(&account), levels(&account), caps(&account)] {
        if !table.rows.is_empty() {
            let _ = write!(page, "\n{table}");
        }
    }
    page
}

/// The text in lines of at most [`WIDTH`] letters.
fn wrapped(text: &str) -> String {
    let mut lines = String::new();
    let mut width = 0;
    for word in text.split(' ') {
        let letters = word.chars().count();
        if width > 0 && width + 1 + letters > WIDTH {
            lines.push('\n');
            width = 0;
        } else if width > 0 {
            lines.push(' ');
            width += 1;
        }
        lines.push_str(word);
        width += letters;
    }
    lines.push('\n');
    lines
}

/// Draw at work of nameplate, at the grid connection, in the words that presets state in their headers.
pub fn draw_line(account: &Account) -> String {
    let (operating, nameplate) = (account.facility.operating, account.facility.nameplate);
    format!("{operating} at work, {nameplate} nameplate at the grid connection")
}

fn headline(fleet: &Fleet, account: &Account) -> String {
    let binding = account.caps.iter().filter(|cap| cap.binds).count();
    let caps = match (account.caps.len(), binding) {
        (0, _) => "no cap set".to_owned(),
        (1, 0) => "its cap does not bind".to_owned(),
        (all, 0) => format!("none of {} caps binds", grouped(all as u64)),
        (all, binding) => format!("{} of {} caps bind", grouped(binding as u64), grouped(all as u64)),
    };
    format!(
        "{}: {} on {} at {}; {}; {caps}.",
        fleet.name,
        counted(account.chips, "chip"),
        counted(account.nodes, "node"),
        counted(account.sites.len() as u64, "site"),
        draw_line(account)
    )
}

fn counted(count: u64, what: &str) -> String {
    format!("{} {what}{}", grouped(count), if count == 1 { "" } else { "s" })
}

fn chips(fleet: &Fleet, account: &Account) -> Table {
    let mut table = Table::new("Accelerators", &["chips", "idle W", "at work W", "peak W", "power levels"]);
    for (kind, count) in fleet.accelerators.iter().zip(&account.accelerators) {
        let levels = kind.power_levels.iter().map(|level| format!("{:.0} %", level.power.as_f64() * 100.0));
        let watts = [kind.idle, kind.operating, kind.peak].map(|watts| grouped(watts.get()));
        let [idle, operating, peak] = watts;
        let levels = levels.collect::<Vec<_>>().join(" ");
        table.row(&kind.name, vec![grouped(count.chips), idle, operating, peak, levels]);
    }
    table
}

fn sites(account: &Account) -> Table {
    let unit = Unit::for_all(account.sites.iter().map(|site| site.facility.idle));
    let headers = ["nodes", "chips", "PUE", "idle", "at work", "nameplate"];
    let mut table = Table::new("Sites (facility)", &headers);
    table.unit(unit, 3..6);
    let row = |table: &mut Table, name: &str, nodes: u64, chips: u64, pue: String, draw: Draw| {
        let [idle, operating, nameplate] = [draw.idle, draw.operating, draw.nameplate].map(|watts| unit.of(watts));
        table.row(name, vec![grouped(nodes), grouped(chips), pue, idle, operating, nameplate]);
    };
    for SiteAccount { site, nodes, chips, pue_ppm, facility, .. } in &account.sites {
        row(&mut table, site, *nodes, *chips, format!("{:.2}", pue_ppm.as_f64()), *facility);
    }
    table.shorten(MAX_ROWS);
    if account.sites.len() > 1 {
        row(&mut table, "all", account.nodes, account.chips, String::new(), account.facility);
    }
    table
}

fn levels(account: &Account) -> Table {
    let mut table = Table::new("Levels (it)", &["domains", "nodes each", "chips each", "at work", "nameplate"]);
    table.unit(Unit::Kilowatts, 3..5);
    let number = |spread: Spread<u64>| range(spread, |number| grouped(*number));
    let kilowatts = |spread: Spread<Watts>| range(spread, |watts| Unit::Kilowatts.of(*watts));
    for LevelAccount { level, domains, nodes, chips, operating_watts, nameplate_watts } in &account.levels {
        let cells = [number(*nodes), number(*chips), kilowatts(*operating_watts), kilowatts(*nameplate_watts)];
        table.row(level, std::iter::once(grouped(*domains)).chain(cells).collect());
    }
    table
}

fn caps(account: &Account) -> Table {
    let unit = Unit::for_all(account.caps.iter().map(|cap| cap.limit_watts));
    let mut table = Table::new("Caps", &["kind", "meter", "limit", "draw", "chips", "can work"]);
    table.unit(unit, 2..4);
    for alike in alike(account) {
        let name = match alike.count {
            1 => alike.first.cap.clone(),
            count => format!("{} × {}", alike.pattern, grouped(count)),
        };
        table.row(&name, cap_cells(alike.first, unit));
    }
    table.shorten(MAX_ROWS);
    table
}

/// Caps of one pattern with the same limit and the same chips.
struct Alike<'a> {
    pattern: &'a str,
    first: &'a CapAccount,
    count: u64,
}

/// All caps, those that bind first.
fn alike(account: &Account) -> Vec<Alike<'_>> {
    let (binding, free): (Vec<&CapAccount>, Vec<&CapAccount>) = account.caps.iter().partition(|cap| cap.binds);
    let mut groups: Vec<Alike<'_>> = Vec::new();
    let mut places = BTreeMap::new();
    for cap in binding.into_iter().chain(free) {
        let of_pattern = cap.cap.strip_suffix(&cap.on).and_then(|name| name.strip_suffix(' '));
        let pattern = of_pattern.unwrap_or(&cap.cap);
        let key = (pattern, cap.limit_watts, cap.draw.operating, cap.draw.nameplate, cap.chips, cap.chips_at_work);
        let place = *places.entry(key).or_insert(groups.len());
        match groups.get_mut(place) {
            Some(group) => group.count += 1,
            None => groups.push(Alike { pattern, first: cap, count: 1 }),
        }
    }
    groups
}

fn cap_cells(cap: &CapAccount, unit: Unit) -> Vec<String> {
    let (kind, draw) = match cap.kind {
        CapKind::Contract => ("contract", cap.draw.operating),
        CapKind::Breaker => ("breaker", cap.draw.nameplate),
    };
    let meter = match cap.meter {
        Meter::It => "it",
        Meter::Facility => "facility",
    };
    let can_work = if cap.binds { grouped(cap.chips_at_work) } else { "all".to_owned() };
    let (limit, draw) = (unit.of(cap.limit_watts), unit.of(draw));
    vec![kind.to_owned(), meter.to_owned(), limit, draw, grouped(cap.chips), can_work]
}

fn warnings(fleet: &Fleet, account: &Account) -> Vec<String> {
    let mut warnings = Vec::new();
    let binding: Vec<Alike<'_>> = alike(account).into_iter().filter(|alike| alike.first.binds).collect();
    for Alike { first: cap, count, .. } in binding.iter().take(MAX_WARNINGS) {
        let caps = match count {
            1 => format!("cap `{}` binds", cap.cap),
            count => format!("{} caps like `{}` bind", grouped(*count), cap.cap),
        };
        let draw = match cap.kind {
            CapKind::Contract => format!("the chips draw {} at work", cap.draw.operating),
            CapKind::Breaker => format!("the chips can draw {}", cap.draw.nameplate),
        };
        let (limit, working, chips) = (cap.limit_watts, grouped(cap.chips_at_work), counted(cap.chips, "chip"));
        warnings.push(format!("{caps}: {limit} allowed, {draw}; {working} of {chips} can work at once"));
    }
    let more: u64 = binding.iter().skip(MAX_WARNINGS).map(|alike| alike.count).sum();
    if more > 0 {
        warnings.push(format!("and {} that bind", counted(more, "more cap")));
    }
    for (ix, level) in account.levels.iter().enumerate().skip(1) {
        let above = &account.levels[ix - 1];
        if level.domains == 0 {
            warnings.push(format!("no domain is at level `{}`", level.level));
        } else if level.domains == 1 && above.domains == 1 {
            warnings.push(format!("level `{}` has one domain: asking for it asks for nothing", level.level));
        } else if level.domains == above.domains && level.nodes == above.nodes {
            warnings.push(format!("levels `{}` and `{}` have the same domains", above.level, level.level));
        }
    }
    for count in account.accelerators.iter().filter(|count| count.chips == 0) {
        warnings.push(format!("no chip is a `{}`", count.accelerator));
    }
    warnings.extend(half_fed(fleet));
    warnings
}

/// Domains whose circuits of one redundancy group carry less than all of their power.
fn half_fed(fleet: &Fleet) -> Vec<String> {
    let mut fed: BTreeMap<(&str, DomainIx), u64> = BTreeMap::new();
    for circuit in &fleet.circuits {
        let Some(group) = &circuit.redundancy_group else { continue };
        for feed in &circuit.feeds {
            *fed.entry((group, feed.domain)).or_default() += u64::from(feed.share.parts());
        }
    }
    // Thirds do not add up to one exactly.
    let short = fed.into_iter().filter(|(_, share)| *share + 10 < 1_000_000);
    let say = |((group, domain), share): ((&str, DomainIx), u64)| {
        format!("the circuits of group `{group}` carry {:.0} % of `{}`", share as f64 / 1e4, fleet.path(domain))
    };
    short.take(MAX_WARNINGS).map(say).collect()
}

/// Three significant digits, or all of the whole part.
fn fixed(value: f64) -> String {
    let digits = match value.abs() {
        size if size < 10.0 => 2,
        size if size < 100.0 => 1,
        _ => return grouped(value.round() as i64),
    };
    format!("{value:.digits$}")
}

/// The unit of a table: one for all of its rows, so that they can be compared.
#[derive(Clone, Copy)]
enum Unit {
    Kilowatts,
    Megawatts,
}

impl Unit {
    /// Megawatts where that leaves no row below one.
    fn for_all(mut watts: impl Iterator<Item = Watts>) -> Self {
        if watts.all(|watts| watts.as_mw() >= 1.0) { Self::Megawatts } else { Self::Kilowatts }
    }

    fn of(self, watts: Watts) -> String {
        match self {
            Self::Kilowatts => fixed(watts.as_mw() * 1e3),
            Self::Megawatts => fixed(watts.as_mw()),
        }
    }

    const fn name(self) -> &'static str {
        match self {
            Self::Kilowatts => "kW",
            Self::Megawatts => "MW",
        }
    }
}

fn range<T: PartialEq>(spread: Spread<T>, text: impl Fn(&T) -> String) -> String {
    let (least, most) = (text(&spread.least), text(&spread.most));
    if least == most { most } else { format!("{least}–{most}") }
}

/// A table without frames: names on the left, cut where they are too long, and the rest right-aligned.
struct Table {
    title: &'static str,
    headers: Vec<String>,
    rows: Vec<(String, Vec<String>)>,
}

impl Table {
    fn new(title: &'static str, headers: &[&'static str]) -> Self {
        Self { title, headers: headers.iter().map(|header| (*header).to_owned()).collect(), rows: Vec::new() }
    }

    /// Puts a unit into the headers of some columns.
    fn unit(&mut self, unit: Unit, columns: Range<usize>) {
        self.headers[columns].iter_mut().for_each(|header| *header = format!("{header} {}", unit.name()));
    }

    fn row(&mut self, name: &str, cells: Vec<String>) {
        self.rows.push((name.to_owned(), cells));
    }

    /// Keeps the first rows and says how many there are besides.
    fn shorten(&mut self, most: usize) {
        let more = self.rows.len().saturating_sub(most);
        if more > 0 {
            self.rows.truncate(most);
            self.rows.push((format!("… {} more", grouped(more as u64)), Vec::new()));
        }
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let letters = |text: &str| text.chars().count();
        let mut widths: Vec<usize> = self.headers.iter().map(|header| letters(header)).collect();
        for (_, cells) in &self.rows {
            for (width, cell) in widths.iter_mut().zip(cells) {
                *width = (*width).max(letters(cell));
            }
        }
        let taken: usize = widths.iter().map(|width| width + 2).sum();
        let longest = self.rows.iter().map(|(name, _)| letters(name)).chain([letters(self.title)]).max();
        let names = longest.unwrap_or_default().min(WIDTH.saturating_sub(taken).max(12));
        let mut line = |name: &str, cells: &mut dyn Iterator<Item = &str>| {
            let mut text = format!("{:names$}", cut(name, names));
            for (cell, width) in cells.zip(&widths) {
                let _ = write!(text, "  {cell:>width$}");
            }
            writeln!(f, "{}", text.trim_end())
        };
        line(self.title, &mut self.headers.iter().map(String::as_str))?;
        for (name, cells) in &self.rows {
            line(name, &mut cells.iter().map(String::as_str))?;
        }
        Ok(())
    }
}

/// The first letters of a name that is too long, the last of them `…`.
fn cut(name: &str, width: usize) -> String {
    match name.chars().count() > width {
        true => name.chars().take(width.saturating_sub(1)).chain(['…']).collect(),
        false => name.to_owned(),
    }
}
