//! Any text is a fleet or an error; what is read can be shown and checked.

#![no_main]

use std::collections::BTreeMap;
use std::path::Path;

use libfuzzer_sys::{Corpus, fuzz_target};
use offtake_fleet::show;

/// Larger fleets are allowed, and take longer to make than a fuzzer has for one input.
const MOST_NODES: usize = 10_000;

fuzz_target!(|text: &str| -> Corpus {
    let Ok(fleet) = offtake_fleet::parse(text, "fleet.toml", Path::new("/nowhere"), &BTreeMap::new()) else {
        return Corpus::Keep;
    };
    if fleet.nodes.len() > MOST_NODES {
        return Corpus::Reject;
    }
    let _ = (show::text(&fleet), show::check(&fleet));
    Corpus::Keep
});
