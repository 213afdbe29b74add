//! One-line diagrams: from a site over its circuits to what they feed, with what each carries.

use offtake_protocol::rest::{CircuitView, FeedView, FleetView};

use super::figures::{apparent, filled, percent, power};
use crate::terminal::{Align, listing, printable};

const COLUMNS: [(&str, Align); 6] = [
    ("circuit", Align::Left),
    ("load", Align::Left),
    ("carries", Align::Right),
    ("may carry", Align::Right),
    ("of it", Align::Right),
    ("feeds", Align::Left),
];

/// Cells of a bar, of which all are filled where a circuit carries as much as it may for continuous load.
const BAR: usize = 12;

/// The circuits of each site, under what the site draws; nothing where there is none.
pub fn one_lines(fleet: &FleetView, width: Option<usize>) -> String {
    let sites = fleet.domains.iter().filter(|domain| fleet.circuits.iter().any(|circuit| circuit.site == domain.path));
    let diagram = |site: &offtake_protocol::rest::DomainView| {
        let circuits: Vec<&CircuitView> = fleet.circuits.iter().filter(|circuit| circuit.site == site.path).collect();
        let row = |(place, circuit): (usize, &&CircuitView)| row(circuit, place + 1 == circuits.len());
        let rows: Vec<Vec<String>> = circuits.iter().enumerate().map(row).collect();
        let drawn = power(site.power_w);
        format!("{}: {drawn} at the servers\n{}\n", printable(&site.path), listing(&COLUMNS, &rows, width))
    };
    sites.map(diagram).collect()
}

fn row(circuit: &CircuitView, is_last: bool) -> Vec<String> {
    let CircuitView { name, used_va, allows_va, .. } = circuit;
    let share = *used_va as f64 / (*allows_va).max(1) as f64;
    let over = if used_va > allows_va { ", over" } else { "" };
    vec![
        format!("{} {name}", if is_last { "└─" } else { "├─" }),
        filled(*used_va, *allows_va, BAR),
        apparent(*used_va),
        apparent(*allows_va),
        format!("{}{over}", percent(share)),
        feeds(circuit),
    ]
}

/// What a circuit feeds, below its site; many in one number.
fn feeds(circuit: &CircuitView) -> String {
    const MOST: usize = 3;
    let below = |feed: &FeedView| {
        let path = feed.domain.strip_prefix(&circuit.site).map_or(&*feed.domain, |path| path.trim_start_matches('/'));
        let name = if path.is_empty() { "all" } else { path };
        match feed.share_ppm {
            1_000_000 => name.to_owned(),
            share => format!("{name} ({})", percent(f64::from(share) / 1e6)),
        }
    };
    match circuit.feeds.len() {
        count if count > MOST => format!("{count} domains"),
        _ => circuit.feeds.iter().map(below).collect::<Vec<_>>().join(", "),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use offtake_protocol::rest::DomainView;

    use super::*;

    fn circuit(name: &str, used_va: u64, feeds: &[(&str, u32)]) -> CircuitView {
        let feed = |(domain, share_ppm): &(&str, u32)| FeedView { domain: (*domain).to_owned(), share_ppm: *share_ppm };
        CircuitView {
            name: name.to_owned(),
            site: "ashburn".to_owned(),
            allows_va: 560_000,
            used_va,
            redundancy_group: None,
            feeds: feeds.iter().map(feed).collect(),
        }
    }

    #[test]
    fn sites_are_shown_with_their_circuits() {
        let domain = |path: &str, power_w| DomainView {
            path: path.to_owned(),
            level: "site".to_owned(),
            nodes: 2,
            nodes_ready: 2,
            chips: 16,
            chip_milli_in_use: 0,
            power_w,
        };
        let racks: Vec<String> = (0..4).map(|rack| format!("ashburn/hall-1/rack-{rack}")).collect();
        let racks: Vec<(&str, u32)> = racks.iter().map(|rack| (rack.as_str(), 1_000_000)).collect();
        let fleet = FleetView {
            name: "pair".to_owned(),
            policy: "offtake".to_owned(),
            levels: vec![],
            nodes: 4,
            nodes_ready: 4,
            chips: 32,
            chip_milli_in_use: [0; 4],
            cpu_milli: 0,
            cpu_milli_in_use: 0,
            power_w: 0,
            facility_w: 0,
            jobs: BTreeMap::new(),
            domains: vec![domain("ashburn", 812_000), domain("albany", 9_000), domain("ashburn/hall-0", 500_000)],
            caps: vec![],
            metered: vec![],
            circuits: vec![
                circuit("feeder-a", 263_158, &[("ashburn/hall-0", 500_000)]),
                circuit("feeder-b", 263_158, &[("ashburn/hall-0", 500_000)]),
                circuit("racks", 600_000, &racks),
                circuit("spare", 0, &[("ashburn", 1_000_000)]),
            ],
        };
        insta::assert_snapshot!(one_lines(&fleet, Some(80)));
    }
}
