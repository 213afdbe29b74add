//! `offtake plan`: what a site can hold.

use std::collections::BTreeMap;
use std::path::PathBuf;

use clap::{Args, Subcommand};
use offtake_fleet::{Fleet, SiteIx};
use offtake_planner::{Row, Sizing};
use offtake_units::{Ppm, Watts};

use crate::terminal::{Align, BadInput, grouped, listing, print, print_json, width};

#[derive(Subcommand)]
pub enum Command {
    /// Find how many servers fit behind a site's caps, and which power level delivers most
    ///
    /// Behind all caps and circuits of the site, also after the loss of any one feed of a redundancy group, by what
    /// the engine counts: expected draw under contracts, what can be enforced under breakers. Racks of the site's own
    /// mix are added, all sorts alike, until the next does not fit; then the engine places work on them. The rule of
    /// thumb counts every rack at its nameplate instead, under every cap.
    ///
    /// Work is steady: so many nodes of each kind are at work, all others idle. It sizes against power alone: chips,
    /// racks, network and cooling have to be there, and caps count as declared, before heat takes its share.
    #[command(verbatim_doc_comment)]
    Size(SizeArguments),
}

#[derive(Args)]
pub struct SizeArguments {
    /// The site, as the fleet file names it
    site: String,
    /// The fleet file
    #[arg(long, value_name = "FILE")]
    fleet: PathBuf,
    /// Share of the nodes of each kind that are at work at one time
    #[arg(long, value_name = "SHARE", default_value = "0.9", value_parser = share)]
    busy: Ppm,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub fn run(command: &Command) -> anyhow::Result<()> {
    let Command::Size(arguments) = command;
    let fleet = offtake_fleet::read(&arguments.fleet, &BTreeMap::new())?;
    let sizing = offtake_planner::size(&fleet, site(&fleet, &arguments.site)?, arguments.busy);
    let sizing = sizing.map_err(|error| BadInput(error.to_string()))?;
    if arguments.json { print_json(&sizing) } else { print(&text(&sizing)) }
}

fn site(fleet: &Fleet, name: &str) -> Result<SiteIx, BadInput> {
    let place = fleet.sites.iter().position(|site| site.name == name);
    place.map(|place| SiteIx(place as u32)).ok_or_else(|| {
        let names: Vec<&str> = fleet.sites.iter().map(|site| site.name.as_str()).collect();
        BadInput(format!("fleet `{}` has no site `{name}`; it has: {}", fleet.name, names.join(", ")))
    })
}

/// Reads `0.9`: above nothing, at most all.
fn share(text: &str) -> Result<Ppm, String> {
    let share = text.parse().ok().filter(|share| (0.0..=1.0).contains(share)).and_then(Ppm::from_ratio);
    share.filter(|share| *share > Ppm::ZERO).ok_or_else(|| "write a share above 0 and up to 1, such as 0.9".to_owned())
}

const COLUMNS: [(&str, Align); 9] = [
    ("", Align::Left),
    ("servers", Align::Right),
    ("chips", Align::Right),
    ("it MW", Align::Right),
    ("facility MW", Align::Right),
    ("of cap %", Align::Right),
    ("useful", Align::Right),
    ("gain %", Align::Right),
    ("cap", Align::Left),
];

fn text(sizing: &Sizing) -> String {
    let best = &sizing.rows[sizing.best];
    let rows: Vec<Vec<String>> = sizing.rows.iter().map(row).collect();
    let mut text = format!(
        "{}: {} servers fit at {}, and deliver {} chip-hours an hour{}.\n\n{}",
        sizing.site,
        grouped(best.servers),
        best.name,
        chips(best.useful_chip_milli),
        gain(best).map_or_else(String::new, |gain| format!(", {gain} % against the rule of thumb")),
        listing(&COLUMNS, &rows, width()),
    );
    text += &format!(
        "\nWith {:.0} % of the nodes of each kind at work. Useful: chip-hours an hour at full speed.\n",
        sizing.busy_ppm.as_f64() * 100.0
    );
    for row in &sizing.rows {
        if let Some([slower, faster]) = row.useful_if_assumed_levels_are_off {
            text += &format!(
                "The speed at {} is assumed: {} to {} were it a tenth lower or higher.\n",
                row.name,
                chips(slower),
                chips(faster)
            );
        }
    }
    text += "It counts power alone: chips, racks, network and cooling have to be there.\n";
    text
}

fn row(row: &Row) -> Vec<String> {
    let cap = row.cap.as_ref();
    let used = cap.map(|cap| format!("{:.1}", cap.load_watts.as_mw() / cap.limit_watts.as_mw() * 100.0));
    vec![
        row.name.clone(),
        grouped(row.servers),
        grouped(row.chips),
        megawatts(row.it_watts),
        megawatts(row.facility_watts),
        used.unwrap_or_default(),
        chips(row.useful_chip_milli),
        gain(row).unwrap_or_default(),
        cap.map_or_else(String::new, |cap| cap.name.clone()),
    ]
}

fn megawatts(watts: Watts) -> String {
    format!("{:.2}", watts.as_mw())
}

fn chips(milli: u64) -> String {
    grouped((milli + 500) / 1000)
}

/// How much more than the rule of thumb, in percent.
fn gain(row: &Row) -> Option<String> {
    row.against_rule_ppm.map(|ppm| format!("{:+.1}", ppm as f64 / 1e4 - 100.0))
}
