//! What holds for any input: no panic, and for any fleet that reads: the model's promises.

use std::fmt::Write;

use offtake_fleet::{SiteIx, account, racks, with_racks};
use proptest::prelude::*;

use super::{check_structure, example, parse};

/// A tree of a few levels with counts, some of them skipping a level.
fn fleet_text() -> impl Strategy<Value = String> {
    let counts = prop::collection::vec((1u32..5, 1u32..4, 1u32..4, any::<bool>()), 1..4);
    (counts, 100u32..200).prop_map(|(sites, pue)| {
        let mut text = "name = \"any\"\nlevels = [\"site\", \"hall\", \"row\", \"rack\"]\n\
            [accelerators.a]\nidle_watts = 50\noperating_watts = 300\npeak_watts = 400\n\
            [node_kinds.a-8]\naccelerator = \"a\"\nchips = 8\ncpu_cores = 64\nmemory_gib = 512\nbase_watts = 900\n\
            [node_kinds.host]\ncpu_cores = 64\nmemory_gib = 512\nbase_watts = 300\n"
            .to_owned();
        for (ix, (nodes, racks, halls, skip)) in sites.into_iter().enumerate() {
            let outer = if skip { "row" } else { "hall" };
            let _ = write!(
                text,
                "[templates.rack{ix}]\nlevel = \"rack\"\nnodes = {{ a-8 = {nodes}, host = 1 }}\n\
                [templates.hall{ix}]\nlevel = \"{outer}\"\ndomains = {{ rack{ix} = {racks} }}\n\
                [sites.s{ix}]\npue = {}\ndomains = {{ hall{ix} = {halls}, rack{ix} = {racks} }}\n\
                [caps.c{ix}]\non = \"s{ix}/*\"\nkilowatts = 80\nmeter = \"facility\"\nkind = \"breaker\"\n",
                f64::from(pue) / 100.0
            );
        }
        text
    })
}

proptest! {
    #[test]
    fn any_bytes_are_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        let _ = parse(&String::from_utf8_lossy(&bytes));
    }

    #[test]
    fn a_valid_file_with_any_part_replaced_is_read_or_refused(
        start in 0usize..2_000,
        length in 0usize..30,
        with in "[ -~\n]{0,12}|nan|-1|1e300|9223372036854775807|\\$halls|\\*|\"\\*/\\*\"",
    ) {
        let text = example();
        let start = text.floor_char_boundary(start.min(text.len()));
        let end = text.floor_char_boundary((start + length).min(text.len()));
        if let Ok(fleet) = parse(&format!("{}{with}{}", &text[..start], &text[end..])) {
            check_structure(&fleet);
        }
    }

    #[test]
    fn any_tree_keeps_the_promises_of_the_model(text in fleet_text()) {
        match parse(&text) {
            Ok(fleet) => check_structure(&fleet),
            Err(error) => prop_assert!(error.message.contains("can never be kept"), "{}\n{}", error, text),
        }
    }

    #[test]
    fn a_site_with_other_counts_of_its_racks_keeps_them_too(
        text in fleet_text(),
        counts in prop::collection::vec(0u32..4, 1..40),
    ) {
        let Ok(fleet) = parse(&text) else { return Ok(()) };
        for site in (0..fleet.sites.len() as u32).map(SiteIx) {
            let racks = racks(&fleet, site);
            let counts: Vec<u32> = counts.iter().copied().cycle().take(racks.len()).collect();
            let grown = with_racks(&fleet, site, &counts);
            let wanted = racks.iter().zip(&counts).map(|(rack, count)| rack.nodes.len() * *count as usize);
            prop_assert_eq!(grown.nodes.len(), wanted.sum::<usize>());
            if !grown.nodes.is_empty() {
                check_structure(&grown);
            }
            let same = with_racks(&fleet, site, &vec![1; racks.len()]);
            let (before, after) = (account(&fleet), account(&same));
            prop_assert_eq!(&before.sites[site.ix()], &after.sites[0]);
            let of_site = fleet.caps.iter().filter(|cap| fleet.site_of(cap.target) == Some(&fleet.sites[site.ix()]));
            prop_assert!(of_site.map(|cap| &cap.name).eq(same.caps.iter().map(|cap| &cap.name)));
        }
    }
}
