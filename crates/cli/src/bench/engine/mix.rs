//! The gangs that are asked for, and the fleet they are asked of.

use std::fmt::Write as _;

use offtake_units::{CpuMilli, Mebibytes};
use offtake_workload::rng::Rng;
use offtake_workload::{ChipRequest, Gang, Job, Strength, Tier, Topology};

/// Chips of a node.
pub const CHIPS_PER_NODE: u64 = 16;
const CHIPS_PER_RACK: u64 = 256;
/// Chips of a block.
pub const CHIPS_PER_BLOCK: u64 = 16_384;
const BLOCKS_PER_SITE: u64 = 32;
/// Tenants among whom all work is shared out.
pub const TENANTS: u64 = 100;

/// The name of a tenant.
pub fn tenant(number: u64) -> String {
    format!("tenant-{number:02}")
}

/// The smallest fleet: the backlog's largest gang takes half of it.
pub const FEWEST_CHIPS: u64 = 8_192;

/// Chips of the next gang that is no larger than `most`: 1 in 30 % of the cases, 2–16 in 30 %, 17–64 in 30 %, 65–512 in 8 %, 1,024–4,096 in 1.8 % and
/// 16,384 in 0.2 %. Above one node, whole nodes.
pub fn draw(rng: &mut Rng, most: u64) -> u64 {
    loop {
        let chips = draw_any(rng);
        if chips <= most {
            return chips;
        }
    }
}

fn draw_any(rng: &mut Rng) -> u64 {
    let (low, high) = match rng.below(1000) {
        0..300 => return 1,
        300..600 => (2, 16),
        600..900 => (17, 64),
        900..980 => (65, 512),
        980..998 => (1_024, 4_096),
        _ => return CHIPS_PER_BLOCK,
    };
    let chips = low + rng.below(high - low + 1);
    if chips > CHIPS_PER_NODE { chips.next_multiple_of(CHIPS_PER_NODE) } else { chips }
}

/// Up to 16 chips one worker of one node; above that, workers of 16. Each asks for the narrowest level that holds it; the
/// largest prefers one block.
pub fn job(chips: u64, tenant: String) -> Job {
    let (workers, each) = if chips <= CHIPS_PER_NODE { (1, chips) } else { (chips / CHIPS_PER_NODE, CHIPS_PER_NODE) };
    let (level, strength) = match chips {
        0..=64 => ("island", Strength::Required),
        65..=512 => ("rack", Strength::Preferred),
        1_024..=4_096 => ("block", Strength::Required),
        _ => ("block", Strength::Preferred),
    };
    let gang = Gang {
        workers: workers as u32,
        chips: ChipRequest::Whole(each as u16),
        cpu: CpuMilli::new(each as u32 * 8_000),
        memory: Mebibytes::new(each * 64 * 1024),
        topology: Some(Topology::new(level, strength)),
        ..Gang::default()
    };
    Job { name: format!("gang-{chips}"), tenant, tier: Tier::Standard, gangs: vec![gang], ..Job::default() }
}

/// Nodes of 16 chips in islands of 4, racks of 4 islands, blocks of 64 racks and sites of 32 blocks.
pub fn fleet_text(chips: u64, caps_bind: bool) -> String {
    let blocks = chips / CHIPS_PER_BLOCK;
    let racks = chips % CHIPS_PER_BLOCK / CHIPS_PER_RACK;
    let mut text = "name = \"synthetic\"\nlevels = [\"site\", \"block\", \"rack\", \"island\"]\n\
        [accelerators.chip]\nidle_watts = 100\noperating_watts = 500\npeak_watts = 600\n\
        [node_kinds.node]\naccelerator = \"chip\"\nchips = 16\ncpu_cores = 192\nmemory_gib = 2048\nbase_watts = 1000\n\
        [templates.island]\nlevel = \"island\"\nnodes = { node = 4 }\n\
        [templates.rack]\nlevel = \"rack\"\ndomains = { island = 4 }\n\
        [templates.block]\nlevel = \"block\"\ndomains = { rack = 64 }\n"
        .to_owned();
    if racks > 0 {
        let _ = write!(text, "[templates.part]\nlevel = \"block\"\ndomains = {{ rack = {racks} }}\n");
    }
    let sites = blocks.div_ceil(BLOCKS_PER_SITE).max(1);
    for site in 0..sites {
        let whole = (blocks - site * BLOCKS_PER_SITE).min(BLOCKS_PER_SITE);
        let part = u64::from(site + 1 == sites && racks > 0);
        let domains = [("block", whole), ("part", part)].into_iter().filter(|(_, count)| *count > 0);
        let domains: Vec<String> = domains.map(|(template, count)| format!("{template} = {count}")).collect();
        let _ = write!(text, "[sites.site-{site}]\npue = 1.2\ndomains = {{ {} }}\n", domains.join(", "));
    }
    if caps_bind {
        // Nodes idle at 1,000 W + 16 × 100 W; each chip at work adds 400 W; four fifths of them may be at work.
        let watts = CHIPS_PER_BLOCK / CHIPS_PER_NODE * (1000 + 16 * 100) + CHIPS_PER_BLOCK * 4 / 5 * 400;
        for block in (0..blocks).step_by(2) {
            let (site, place) = (block / BLOCKS_PER_SITE, block % BLOCKS_PER_SITE);
            let _ = write!(
                text,
                "[caps.cap-{block}]\non = \"site-{site}/block-{place}\"\nwatts = {watts}\nmeter = \"it\"\nkind = \"contract\"\n"
            );
        }
    }
    text
}
