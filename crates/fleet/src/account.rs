//! What a fleet draws, idle, at work and at the most, against what it may draw.

use std::ops::Range;

use offtake_units::{Ppm, Watts};
use serde::Serialize;

use crate::{Cap, CapKind, CapTarget, DomainIx, Fleet, LevelIx, Meter, NodeKindIx};

/// The power account of a fleet.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Account {
    /// All hosts.
    pub nodes: u64,
    /// All chips.
    pub chips: u64,
    /// The draw at the servers.
    pub it: Draw,
    /// The draw at the grid connections: each site's draw times its PUE, or with what its cooling takes in the greatest heat.
    pub facility: Draw,
    /// Chips by kind, in the order of the fleet file.
    pub accelerators: Vec<ChipCount>,
    /// Each site.
    pub sites: Vec<SiteAccount>,
    /// Each level, the widest first.
    pub levels: Vec<LevelAccount>,
    /// Each cap, the circuits' ratings first.
    pub caps: Vec<CapAccount>,
}

/// A draw in three states.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Draw {
    /// All hosts powered, no chip at work.
    #[serde(rename = "idle_watts")]
    pub idle: Watts,
    /// All chips at work, drawing what is expected.
    #[serde(rename = "operating_watts")]
    pub operating: Watts,
    /// All chips at work, drawing the most that they can.
    #[serde(rename = "nameplate_watts")]
    pub nameplate: Watts,
}

/// Chips of one kind.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ChipCount {
    /// The accelerator kind.
    pub accelerator: String,
    /// How many.
    pub chips: u64,
}

/// A site's part of the account.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct SiteAccount {
    /// The site.
    pub site: String,
    /// Its hosts.
    pub nodes: u64,
    /// Its chips.
    pub chips: u64,
    /// Its chips by kind; kinds that it lacks are left out.
    pub accelerators: Vec<ChipCount>,
    /// Its PUE in parts per million; where its cooling is known, that of full load in the greatest heat.
    pub pue_ppm: Ppm,
    /// The draw at its servers.
    pub it: Draw,
    /// The draw at its grid connection.
    pub facility: Draw,
}

/// The domains of one level, from the smallest to the largest.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct LevelAccount {
    /// The level.
    pub level: String,
    /// How many domains it has.
    pub domains: u64,
    /// Hosts in one domain.
    pub nodes: Spread<u64>,
    /// Chips in one domain.
    pub chips: Spread<u64>,
    /// Draw at work of one domain, at the servers.
    pub operating_watts: Spread<Watts>,
    /// The most that one domain can draw, at the servers.
    pub nameplate_watts: Spread<Watts>,
}

/// The least and the most over a level's domains.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Spread<T> {
    /// The smallest domain's.
    pub least: T,
    /// The largest domain's.
    pub most: T,
}

/// What a cap allows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct CapAccount {
    /// The cap.
    pub cap: String,
    /// The domain's path or the circuit's name.
    pub on: String,
    /// Which draw it counts.
    pub kind: CapKind,
    /// Where it is measured.
    pub meter: Meter,
    /// The limit.
    pub limit_watts: Watts,
    /// What is drawn against it, where it is measured; in normal operation, all circuits up.
    pub draw: Draw,
    /// Whether not all chips can work at full power at once: a contract counts the expected draw, a breaker the most.
    pub binds: bool,
    /// The chips below it.
    pub chips: u64,
    /// The most of them that can work at full power at once, those that draw least first.
    pub chips_at_work: u64,
}

/// The power account of a fleet. Its cost is that of one pass over the nodes, and one over those below each cap.
pub fn account(fleet: &Fleet) -> Account {
    let tallies = Tallies::of(fleet);
    let sites: Vec<SiteAccount> = (0..fleet.sites.len()).map(|ix| site(fleet, &tallies, ix)).collect();
    let total = |of: fn(&SiteAccount) -> Draw| sites.iter().map(of).fold(Draw::default(), Draw::plus);
    let mut accelerators: Vec<ChipCount> = Vec::new();
    for kind in &fleet.accelerators {
        let counts = sites.iter().flat_map(|site| &site.accelerators).filter(|count| count.accelerator == kind.name);
        accelerators.push(ChipCount { accelerator: kind.name.clone(), chips: counts.map(|count| count.chips).sum() });
    }
    let levels = (0..fleet.levels.len()).map(|ix| level(fleet, &tallies, LevelIx(ix as u32))).collect();
    let caps = fleet.caps.iter().map(|cap| cap_account(fleet, &tallies, cap)).collect();
    Account {
        nodes: sites.iter().map(|site| site.nodes).sum(),
        chips: sites.iter().map(|site| site.chips).sum(),
        it: total(|site| site.it),
        facility: total(|site| site.facility),
        accelerators,
        sites,
        levels,
        caps,
    }
}

impl Draw {
    fn plus(self, other: Self) -> Self {
        Self {
            idle: self.idle + other.idle,
            operating: self.operating + other.operating,
            nameplate: self.nameplate + other.nameplate,
        }
    }

    /// A share of it, or with a ratio above one what must come in for it.
    fn scaled(self, ratio: Ppm) -> Self {
        self.each(|watts| watts.share_up(ratio))
    }

    fn each(self, of: impl Fn(Watts) -> Watts) -> Self {
        Self { idle: of(self.idle), operating: of(self.operating), nameplate: of(self.nameplate) }
    }
}

/// What is in each domain.
pub(crate) struct Tallies(Vec<Tally>);

#[derive(Clone, Copy, Default)]
struct Tally {
    nodes: u32,
    chips: u64,
    draw: Draw,
}

impl Tallies {
    /// Counts the nodes of the innermost domains, then adds up from the deepest level: children come after parents.
    pub(crate) fn of(fleet: &Fleet) -> Self {
        let of_kind: Vec<Tally> = (0..fleet.node_kinds.len()).map(|ix| tally(fleet, NodeKindIx(ix as u32))).collect();
        let mut tallies = vec![Tally::default(); fleet.domains.len()];
        for node in &fleet.nodes {
            tallies[node.domain.ix()].add(of_kind[node.kind.ix()]);
        }
        for ix in (0..fleet.domains.len()).rev() {
            if let Some(parent) = fleet.domains[ix].parent {
                let own = tallies[ix];
                tallies[parent.ix()].add(own);
            }
        }
        Self(tallies)
    }

    /// The draw of a site at its grid connection, where it is as hot as it can be.
    pub(crate) fn at_grid(&self, fleet: &Fleet, site: usize) -> Draw {
        let at_grid = |watts| fleet.sites[site].facility(watts, None);
        let Draw { idle, operating, nameplate } = self.0[site].draw;
        Draw { idle: at_grid(idle), operating: at_grid(operating), nameplate: at_grid(nameplate) }
    }

    /// The draw at the servers of a site.
    pub(crate) fn of_site(&self, site: usize) -> Draw {
        self.0[site].draw
    }

    /// The draw that a cap sees where it is measured.
    pub(crate) fn against(&self, fleet: &Fleet, cap: &Cap) -> Draw {
        let seen = |part: &Part| self.0[part.domain.ix()].draw.scaled(part.share).scaled(part.overhead);
        let draw = parts(fleet, cap).iter().map(seen).fold(Draw::default(), Draw::plus);
        match fleet.cooling_under(cap) {
            Some(cooling) => draw.each(|it| cooling.facility(it, cooling.factor(None))),
            None => draw,
        }
    }
}

impl Tally {
    fn add(&mut self, other: Self) {
        self.nodes += other.nodes;
        self.chips += other.chips;
        self.draw = self.draw.plus(other.draw);
    }
}

fn tally(fleet: &Fleet, kind: NodeKindIx) -> Tally {
    let kind = &fleet.node_kinds[kind.ix()];
    let chips = u32::from(kind.chips);
    let mut draw = Draw { idle: kind.base, operating: kind.base, nameplate: kind.base };
    if let Some(chip) = fleet.accelerator(kind) {
        draw = draw.plus(Draw {
            idle: chip.idle.times(chips),
            operating: chip.operating.times(chips),
            nameplate: chip.peak.times(chips),
        });
    }
    Tally { nodes: 1, chips: u64::from(chips), draw }
}

/// A domain as a cap sees it.
struct Part {
    domain: DomainIx,
    /// The share of its power that passes the cap's meter.
    share: Ppm,
    /// What the meter shows for each watt at the servers.
    overhead: Ppm,
}

fn parts(fleet: &Fleet, cap: &Cap) -> Vec<Part> {
    let part = |domain: DomainIx, share: Ppm| Part { domain, share, overhead: fleet.counted_per_watt(cap, domain) };
    fleet.limited_by(cap.target).into_iter().map(|(domain, share)| part(domain, share)).collect()
}

fn site(fleet: &Fleet, tallies: &Tallies, ix: usize) -> SiteAccount {
    let (site, domain, tally) = (&fleet.sites[ix], &fleet.domains[ix], &tallies.0[ix]);
    let counts = chips_by_kind(fleet, &domain.nodes);
    let present = counts.iter().enumerate().filter(|(_, chips)| **chips > 0);
    SiteAccount {
        site: site.name.clone(),
        nodes: u64::from(tally.nodes),
        chips: tally.chips,
        accelerators: present
            .map(|(kind, chips)| ChipCount { accelerator: fleet.accelerators[kind].name.clone(), chips: *chips })
            .collect(),
        pue_ppm: site.pue,
        it: tally.draw,
        facility: tally.draw.each(|it| site.facility(it, None)),
    }
}

fn chips_by_kind(fleet: &Fleet, nodes: &Range<u32>) -> Vec<u64> {
    let mut of_node_kind = vec![0u64; fleet.node_kinds.len()];
    for node in &fleet.nodes[nodes.start as usize..nodes.end as usize] {
        of_node_kind[node.kind.ix()] += 1;
    }
    let mut chips = vec![0u64; fleet.accelerators.len()];
    for (kind, count) in fleet.node_kinds.iter().zip(of_node_kind) {
        if let Some(accelerator) = kind.accelerator {
            chips[accelerator.ix()] += count * u64::from(kind.chips);
        }
    }
    chips
}

fn level(fleet: &Fleet, tallies: &Tallies, level: LevelIx) -> LevelAccount {
    let domains = fleet.domains_at(level);
    let here = &tallies.0[domains.start as usize..domains.end as usize];
    LevelAccount {
        level: fleet.levels[level.ix()].clone(),
        domains: here.len() as u64,
        nodes: spread(here, |tally| u64::from(tally.nodes)),
        chips: spread(here, |tally| tally.chips),
        operating_watts: spread(here, |tally| tally.draw.operating),
        nameplate_watts: spread(here, |tally| tally.draw.nameplate),
    }
}

fn spread<T: Ord + Default + Copy>(tallies: &[Tally], of: impl Fn(&Tally) -> T) -> Spread<T> {
    let least = tallies.iter().map(&of).min().unwrap_or_default();
    let most = tallies.iter().map(&of).max().unwrap_or_default();
    Spread { least, most }
}

fn cap_account(fleet: &Fleet, tallies: &Tallies, cap: &Cap) -> CapAccount {
    let draw = tallies.against(fleet, cap);
    let counted = match cap.kind {
        CapKind::Contract => draw.operating,
        CapKind::Breaker => draw.nameplate,
    };
    let parts = parts(fleet, cap);
    let chips = parts.iter().map(|part| tallies.0[part.domain.ix()].chips).sum();
    let binds = counted > cap.watts;
    CapAccount {
        cap: cap.name.clone(),
        on: match cap.target {
            CapTarget::Domain(domain) => fleet.path(domain),
            CapTarget::Circuit(circuit) | CapTarget::CircuitWithout { circuit, .. } => {
                fleet.circuits[circuit.ix()].name.clone()
            }
        },
        kind: cap.kind,
        meter: cap.meter,
        limit_watts: cap.watts,
        draw,
        binds,
        chips,
        chips_at_work: if binds {
            chips_at_work(fleet, cap, &parts, left_above(fleet, tallies, cap, draw.idle))
        } else {
            chips
        },
    }
}

/// What a cap leaves above the idle draw, as it is counted: at the servers, where it counts cooling as it is.
fn left_above(fleet: &Fleet, tallies: &Tallies, cap: &Cap, idle: Watts) -> Watts {
    match (fleet.cooling_under(cap), cap.target) {
        (Some(cooling), CapTarget::Domain(domain)) => {
            cooling.it_under(cap.watts, cooling.factor(None)) - tallies.0[domain.ix()].draw.idle
        }
        _ => cap.watts - idle,
    }
}

/// Fills what is left above the idle draw, the chips that add least first: no choice keeps more of them at work.
fn chips_at_work(fleet: &Fleet, cap: &Cap, parts: &[Part], left: Watts) -> u64 {
    // Shares and overheads are millionths each, so the sums are kept in millionths of millionths of a watt.
    let mut left = i128::from(left.get().max(0)) * 1_000_000_000_000;
    let mut steps: Vec<(i128, u64)> = Vec::new();
    for part in parts {
        let ratio = i128::from(part.share.parts()) * i128::from(part.overhead.parts());
        let counts = chips_by_kind(fleet, &fleet.domains[part.domain.ix()].nodes);
        for (kind, count) in fleet.accelerators.iter().zip(counts) {
            let at_work = match cap.kind {
                CapKind::Contract => kind.operating,
                CapKind::Breaker => kind.peak,
            };
            steps.push((i128::from((at_work - kind.idle).get()) * ratio, count));
        }
    }
    steps.sort_unstable();
    let mut working = 0;
    for (step, count) in steps {
        let fit = if step == 0 { count } else { count.min(u64::try_from(left / step).unwrap_or(u64::MAX)) };
        left -= step * i128::from(fit);
        working += fit;
    }
    working
}
