//! Fleet files from the outside: presets, the reference page, what is refused, and what always holds.

mod bad_input;
mod cooling;
mod docs;
mod node_lists;
mod presets;
mod programmes;
mod properties;
mod tori;

use std::collections::BTreeMap;
use std::path::Path;

use offtake_fleet::{Fleet, FleetError};

/// The example of the reference page, which is the valid file that tests start from.
fn example() -> &'static str {
    let page = include_str!("../../../../docs/fleet-file.md");
    let start = page.find("```toml\n").expect("the page has an example") + "```toml\n".len();
    let end = page[start..].find("```").expect("the example ends");
    &page[start..start + end]
}

fn parse(text: &str) -> Result<Fleet, FleetError> {
    offtake_fleet::parse(text, "fleet.toml", Path::new("."), &BTreeMap::new())
}

/// Checks what the model promises of any fleet.
fn check_structure(fleet: &Fleet) {
    let mut covered = 0;
    for (ix, domain) in fleet.domains.iter().enumerate() {
        let at_level = fleet.domains_at(domain.level);
        assert!(at_level.contains(&(ix as u32)), "levels are contiguous");
        assert_eq!(ix < fleet.sites.len(), domain.parent.is_none(), "sites come first");
        assert!(!domain.nodes.is_empty(), "no domain is empty");
        let mut next = domain.nodes.start;
        for child in domain.children.clone() {
            let child = &fleet.domains[child as usize];
            assert_eq!(child.parent.map(|parent| parent.ix()), Some(ix));
            assert_eq!(child.level.0, domain.level.0 + 1, "the depth of a domain is its level");
            assert_eq!(child.site, domain.site);
            assert_eq!(child.nodes.start, next, "children share out the nodes in order");
            next = child.nodes.end;
        }
        if domain.children.is_empty() {
            let held = &fleet.nodes[domain.nodes.start as usize..domain.nodes.end as usize];
            assert!(held.iter().all(|node| node.domain.ix() == ix), "nodes hang in the innermost domain");
        } else {
            assert_eq!(next, domain.nodes.end, "children hold all nodes");
        }
        if domain.parent.is_none() {
            assert_eq!(domain.nodes.start, covered, "sites share out the nodes in order");
            covered = domain.nodes.end;
        }
    }
    assert_eq!(covered as usize, fleet.nodes.len());
    let account = offtake_fleet::account(fleet);
    assert_eq!(account.chips, fleet.chips());
    assert_eq!(account.nodes, fleet.nodes.len() as u64);
    assert_eq!(account.sites.iter().map(|site| site.it.operating).sum::<offtake_units::Watts>(), account.it.operating);
    for cap in &account.caps {
        assert!(cap.chips_at_work <= cap.chips && (cap.binds || cap.chips_at_work == cap.chips), "{}", cap.cap);
    }
}
