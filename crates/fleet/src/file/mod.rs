//! Fleet files: TOML that people write, into a [`Fleet`]. docs/fleet-file.md is the reference of the keys.
//!
//! The way is: text (bounded) → [`syntax`] (keys and types) → kinds → templates → sites, each grown into the
//! [`tree`] → circuits and caps → back-up power → grid programmes. Each step checks what it makes, so that the first fault
//! stops it with its place in the file; nothing here panics on input or reads without a limit.

mod backup;
mod bounded;
mod cooling;
mod fault;
mod hours;
mod kinds;
mod limits;
mod node_list;
mod paths;
mod programmes;
mod ramps;
mod suggest;
mod syntax;
mod templates;
mod tori;
pub(crate) mod tree;
pub(crate) mod values;

use std::collections::BTreeMap;
use std::path::Path;

use offtake_units::Ppm;

use crate::file::fault::{Checked, Fault, at};
use crate::file::kinds::Accelerators;
use crate::file::node_list::Listed;
use crate::file::syntax::{FleetFile, in_order};
use crate::file::templates::{Holds, Known, Size, Templates, check_size};
use crate::file::tree::Tree;
use crate::file::values::{Values, check_name};
use crate::{Fleet, FleetError, NodeIx, Site};

pub use bounded::{MAX_FILE_BYTES, MAX_LINE_BYTES};

/// The most nodes of a fleet: room for a hundred of today's largest sites, and an end to a mistyped count.
pub const MAX_NODES: u32 = 4_000_000;
/// The most domains of a fleet, those that fill skipped levels included.
pub const MAX_DOMAINS: u32 = 4_000_000;
/// The most levels of a domain tree.
const MAX_LEVELS: usize = 12;

/// Reads a fleet file. `parameters` replace those that the file declares.
///
/// # Errors
/// When the file, or a node list that it names, cannot be read or says what cannot be.
pub fn read(path: &Path, parameters: &BTreeMap<String, i64>) -> Result<Fleet, FleetError> {
    let text = bounded::text(path)?;
    let base_dir = path.parent().unwrap_or(Path::new(""));
    parse(&text, &path.display().to_string(), base_dir, parameters)
}

/// Reads the text of a fleet file; `file_name` is what errors call it, and node lists are sought in `base_dir`.
///
/// # Errors
/// As [`read`].
pub fn parse(
    text: &str,
    file_name: &str,
    base_dir: &Path,
    parameters: &BTreeMap<String, i64>,
) -> Result<Fleet, FleetError> {
    let written = toml::from_str::<FleetFile>(text).map_err(|error| Fault::from_toml(&error));
    written.and_then(|file| build(&file, base_dir, parameters)).map_err(|fault| fault.locate(text, file_name))
}

fn build(file: &FleetFile, base_dir: &Path, parameters: &BTreeMap<String, i64>) -> Checked<Fleet> {
    check_name(&file.name)?;
    let values = Values::new(&file.parameters, parameters)?;
    let levels = levels(file)?;
    let accelerators = kinds::accelerators(&file.accelerators, &values)?;
    let mut node_kinds = kinds::node_kinds(&file.node_kinds, &accelerators, &values)?;
    let known = Known { levels: &levels, node_kinds: &node_kinds, values: &values };
    let templates = Templates::resolve(&file.templates, &known)?;
    if file.sites.is_empty() {
        return Err(at(&file.name, "the fleet has no site: write [sites.NAME]"));
    }
    let mut tree = Tree::new(levels.len());
    let mut node_names: BTreeMap<NodeIx, String> = BTreeMap::new();
    let mut sites = Vec::new();
    let mut sum = Size::default();
    for (name, entry) in in_order(&file.sites) {
        check_name(name)?;
        sites.push(site(name, entry, &levels, &values)?);
        let known = Known { levels: &levels, node_kinds: &node_kinds, values: &values };
        let content = Content::of(name, entry, &templates, &known, &accelerators, base_dir)?;
        let size = content.size();
        sum = Size { nodes: sum.nodes + size.nodes, domains: sum.domains + size.domains + 1 };
        check_size(name, sum)?;
        tree.open(0, name.get_ref());
        match content {
            Content::Counted(holds, _) => templates.grow(&holds, &mut tree),
            Content::Listed(mut listed) => {
                node_kinds.append(&mut listed.new_kinds);
                listed.grow(&mut tree, &mut node_names);
            }
        }
        tree.close();
    }
    let (domains, nodes) = tree.finish();
    let name = file.name.get_ref().clone();
    let accelerators = accelerators.kinds;
    let mut fleet =
        Fleet { name, levels, accelerators, node_kinds, sites, domains, nodes, node_names, ..Fleet::default() };
    check_node_names(&fleet, file)?;
    tori::add(&mut fleet, file, &values)?;
    cooling::check_load(&fleet, file)?;
    limits::add(&mut fleet, file, &values)?;
    backup::add(&mut fleet, file, &values)?;
    programmes::add(&mut fleet, file, &values)?;
    Ok(fleet)
}

/// A name means one node in the whole fleet; each list has seen to its own.
fn check_node_names(fleet: &Fleet, file: &FleetFile) -> Checked<()> {
    if file.sites.values().filter(|site| site.node_list.is_some()).count() < 2 {
        return Ok(());
    }
    let mut seen = std::collections::HashSet::new();
    for (node, name) in &fleet.node_names {
        if !seen.insert(name) {
            let site = fleet.domains.iter().take(fleet.sites.len()).position(|site| site.nodes.contains(&node.0));
            let entry = site.and_then(|ix| in_order(&file.sites).get(ix).map(|(name, _)| *name));
            let message = format!("a second node named `{name}` in the fleet: names are unique across sites");
            return Err(at(entry.unwrap_or(&file.name), message));
        }
    }
    Ok(())
}

fn levels(file: &FleetFile) -> Checked<Vec<String>> {
    let written = file.levels.get_ref();
    let mut levels: Vec<String> = Vec::new();
    for level in written {
        check_name(level)?;
        if levels.contains(level.get_ref()) {
            return Err(at(level, format!("a second level named `{}`", level.get_ref())));
        }
        levels.push(level.get_ref().clone());
    }
    if levels.first().is_none_or(|first| first != "site") {
        return Err(at(&file.levels, "the first level is `site`: write levels = [\"site\", …], widest first"));
    }
    match written.get(MAX_LEVELS) {
        Some(level) => Err(at(level, format!("at most {MAX_LEVELS} levels are allowed"))),
        None => Ok(levels),
    }
}

fn site(name: &toml::Spanned<String>, entry: &syntax::Site, levels: &[String], values: &Values) -> Checked<Site> {
    let text = |written: &Option<toml::Spanned<String>>| match written {
        Some(written) if written.get_ref().trim().is_empty() => Err(at(written, "is empty: leave the key out instead")),
        written => Ok(written.as_ref().map(|written| written.get_ref().clone())),
    };
    let cooling = entry.cooling.as_ref().map(|cooling| cooling::read(cooling, values)).transpose()?;
    let pue: Ppm = match (&entry.pue, &cooling) {
        (Some(pue), None) => values.pue(pue)?,
        (None, Some(cooling)) => cooling.pue(),
        (Some(pue), Some(_)) => {
            return Err(at(pue, "`cooling` says what is drawn beside the servers: leave `pue` out"));
        }
        (None, None) => {
            let message = "says nothing of what it draws beside its servers: write `pue`, or a curve as `cooling`";
            return Err(at(name, message));
        }
    };
    Ok(Site {
        name: name.get_ref().clone(),
        provider: text(&entry.provider)?,
        region: text(&entry.region)?,
        price_zone: text(&entry.price_zone)?,
        carbon_zone: text(&entry.carbon_zone)?,
        jurisdiction: text(&entry.jurisdiction)?,
        pue,
        cooling,
        ride_through: cooling::ride_through(&entry.ride_through, levels)?,
        storage_bandwidth: entry.storage_bandwidth.as_ref().map(|number| values.bandwidth(number)).transpose()?,
        backup: None,
        ramp: entry.ramp.as_ref().map(|ramp| ramps::ramp(ramp, values)).transpose()?,
    })
}

/// What is in a site.
enum Content {
    Counted(Holds, Size),
    Listed(Listed),
}

impl Content {
    fn of(
        name: &toml::Spanned<String>,
        entry: &syntax::Site,
        templates: &Templates,
        known: &Known<'_>,
        accelerators: &Accelerators,
        base_dir: &Path,
    ) -> Checked<Self> {
        let Some(list) = &entry.node_list else {
            let (holds, size) = templates.of_site(name, entry, known)?;
            return Ok(Self::Counted(holds, size));
        };
        if entry.domains.is_some() || entry.nodes.is_some() {
            return Err(at(list, "the list says what is in the site: leave out `domains` and `nodes`"));
        }
        node_list::read(list.get_ref(), base_dir, known, accelerators).map(Self::Listed)
    }

    fn size(&self) -> Size {
        match self {
            Self::Counted(_, size) => *size,
            Self::Listed(listed) => listed.size,
        }
    }
}
