//! The fleet as data.
//!
//! Domains are numbered level by level (all sites, then all blocks, …) and, within a level, depth first; nodes are
//! numbered depth first. So the children of a domain, its descendants at any level, and its nodes are each one
//! contiguous range. A level that a part of the tree skips is filled with a domain of the same content and the same
//! name as its only child, so that the depth of a domain is its level.

use std::collections::BTreeMap;
use std::ops::Range;

use offtake_programmes::Programme;
use offtake_units::{CpuMilli, Duration, Mebibytes, Ppm, VoltAmperes, Watts};
use serde::{Deserialize, Serialize};

use crate::{Backup, Cooling, Schedule, Torus};

macro_rules! index {
    ($($(#[$doc:meta])* $name:ident),* $(,)?) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub u32);

        impl $name {
            /// The position in the table.
            pub const fn ix(self) -> usize {
                self.0 as usize
            }
        }
    )*};
}
index!(
    /// Position of a site in [`Fleet::sites`]; also the number of its domain.
    SiteIx,
    /// Position of a domain in [`Fleet::domains`].
    DomainIx,
    /// Position of a level in [`Fleet::levels`]; 0 is the widest, `site`.
    LevelIx,
    /// Position of a node in [`Fleet::nodes`].
    NodeIx,
    /// Position of a node kind in [`Fleet::node_kinds`].
    NodeKindIx,
    /// Position of an accelerator kind in [`Fleet::accelerators`].
    AcceleratorKindIx,
    /// Position of a circuit in [`Fleet::circuits`].
    CircuitIx,
);

/// Everything that can run work.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fleet {
    /// The fleet's name.
    pub name: String,
    /// Names of the levels of the domain tree, widest first; the first is `site`.
    pub levels: Vec<String>,
    /// Kinds of accelerator.
    pub accelerators: Vec<AcceleratorKind>,
    /// Kinds of node.
    pub node_kinds: Vec<NodeKind>,
    /// Sites, in the order of their domains.
    pub sites: Vec<Site>,
    /// Domains, level by level; the first `sites.len()` are the sites' own.
    pub domains: Vec<Domain>,
    /// Nodes, depth first.
    pub nodes: Vec<Node>,
    /// Names of nodes that a node list names; other nodes are named by their place in their domain.
    pub node_names: BTreeMap<NodeIx, String>,
    /// Circuits.
    pub circuits: Vec<Circuit>,
    /// Caps on domains and circuits, the circuits' own ratings included.
    pub caps: Vec<Cap>,
    /// Kinds of chip that are wired as tori.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tori: Vec<Torus>,
    /// Grid programmes in which caps are enrolled.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub programmes: Vec<Programme>,
}

/// One place behind one grid connection.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Site {
    /// Unique name.
    pub name: String,
    /// Who runs it: the own company, a cloud.
    pub provider: Option<String>,
    /// The provider's region.
    pub region: Option<String>,
    /// Electricity price zone, as signals name it.
    pub price_zone: Option<String>,
    /// Carbon intensity zone, as signals name it.
    pub carbon_zone: Option<String>,
    /// Law that holds there: an ISO 3166 code.
    pub jurisdiction: Option<String>,
    /// Facility power over IT power (ISO/IEC 30134-2); where `cooling` is known, that of full load in the greatest heat.
    pub pue: Ppm,
    /// What it draws beside its servers, as that follows their load and the weather; none where PUE is all that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cooling: Option<Cooling>,
    /// How long servers can go on at full power once a domain of a level has lost its cooling.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ride_through: Vec<(LevelIx, Duration)>,
    /// What its shared storage reads and writes, in bytes a second, where stated.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub storage_bandwidth: Option<u64>,
    /// What carries it while its utility is lost; none where nothing does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backup: Option<Backup>,
    /// How fast its draw may change, where that is limited.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ramp: Option<Ramp>,
}

/// How fast the draw of a site may change at its grid connection, PUE included. It counts what can be enforced, as a
/// breaker does: of each chip at work its peak draw less its idle draw.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ramp {
    /// The largest change at one instant, above nothing.
    pub max_step: Watts,
    /// How much more with each second, above nothing.
    pub up: Watts,
    /// How much less with each second, above nothing.
    pub down: Watts,
    /// Hardware between the servers and the grid that takes up what changes faster.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub smoothing: Option<Smoothing>,
}

/// Batteries, supercapacitors or flywheels, as the site declares them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Smoothing {
    /// The largest swing that it takes up, for as long as that goes on.
    pub watts: Watts,
    /// Who says so.
    pub source: String,
}

impl Ramp {
    /// What the site's hardware takes up.
    pub fn smoothed(&self) -> Watts {
        self.smoothing.as_ref().map_or(Watts::ZERO, |smoothing| smoothing.watts)
    }
}

impl Site {
    /// What a watt more at its servers adds at its grid connection at the most.
    pub fn most_per_watt(&self) -> Ppm {
        self.cooling.as_ref().map_or(self.pue, Cooling::steepest)
    }

    /// What is drawn at its grid connection for so much at its servers, in weather of a wet-bulb temperature in thousandths
    /// of a degree Celsius, cooling having followed; rounded up.
    pub fn facility(&self, it: Watts, wet_bulb_mc: Option<i32>) -> Watts {
        match &self.cooling {
            Some(cooling) => cooling.facility(it, cooling.factor(wet_bulb_mc)),
            None => it.share_up(self.pue),
        }
    }
}

/// A domain of the containment tree.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Domain {
    /// Name within its parent.
    pub name: String,
    /// Its level.
    pub level: LevelIx,
    /// The domain around it; none for a site.
    pub parent: Option<DomainIx>,
    /// The site it belongs to.
    pub site: SiteIx,
    /// Its children; empty where nodes hang directly below.
    pub children: Range<u32>,
    /// All nodes in it, at any depth.
    pub nodes: Range<u32>,
}

/// A host.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Node {
    /// What it is.
    pub kind: NodeKindIx,
    /// The innermost domain that holds it.
    pub domain: DomainIx,
}

/// A kind of node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeKind {
    /// Unique name.
    pub name: String,
    /// Its accelerators; none for a host without any.
    pub accelerator: Option<AcceleratorKindIx>,
    /// Number of accelerators, at most [`NodeKind::MAX_CHIPS`].
    pub chips: u16,
    /// Processor cores for work.
    pub cpu: CpuMilli,
    /// Memory for work.
    pub memory: Mebibytes,
    /// What the powered host draws without its accelerators.
    pub base: Watts,
    /// Firmware, driver, image and other attributes that jobs may require.
    pub attributes: BTreeMap<String, String>,
}

impl NodeKind {
    /// The most accelerators that a node may have.
    pub const MAX_CHIPS: u16 = 64;
}

/// A kind of accelerator: one chip.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AcceleratorKind {
    /// Unique name, such as `h100` or `tpu-v5p`.
    pub name: String,
    /// Draw of a chip without work.
    pub idle: Watts,
    /// Expected draw of a chip at work, between idle and peak: what `contract` caps count.
    pub operating: Watts,
    /// The most a chip can be made to draw: what `breaker` caps count, and the nameplate.
    pub peak: Watts,
    /// Memory of one chip, where stated.
    pub memory: Option<Mebibytes>,
    /// Points of its power curve, from the highest power to the lowest.
    pub power_levels: Vec<PowerLevel>,
}

/// A point of a chip's curve.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PowerLevel {
    /// Name, unique within the chip.
    pub name: String,
    /// Share of peak power.
    pub power: Ppm,
    /// Share of full speed.
    pub speed: Ppm,
    /// Whether it was measured.
    pub basis: Basis,
    /// Where it comes from.
    pub source: String,
}

/// How a figure is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Basis {
    /// Measured, by the named source.
    Measured,
    /// Assumed.
    Assumed,
}

/// An electrical path that feeds domains across the tree.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Circuit {
    /// Unique name.
    pub name: String,
    /// Rating.
    pub rating: VoltAmperes,
    /// Real over apparent power.
    pub power_factor: Ppm,
    /// Share of the rating for continuous load (0.8 unless 100 %-rated, NEC 210.20).
    pub continuous_load_factor: Ppm,
    /// Circuits of one group stand in for each other.
    pub redundancy_group: Option<String>,
    /// The topmost domains it feeds, none inside another.
    pub feeds: Vec<Feed>,
    /// Points of its time-current curve, the smallest load first; none where it never carries more than its rating.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub overload: Vec<Overload>,
}

/// A load beyond the rating for continuous load, and for how long a circuit carries it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Overload {
    /// Load over rating.
    pub load: Ppm,
    /// How long it lasts before a breaker opens.
    pub lasts: Duration,
}

/// A domain on a circuit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Feed {
    /// The domain.
    pub domain: DomainIx,
    /// The share of the domain's power that comes over this circuit.
    pub share: Ppm,
}

impl Circuit {
    /// How soon after the loss of a feed others carry no more than their ratings: a sudden curtailment is met in ten
    /// seconds, and for five more nobody knows of it.
    pub const RELIEVED_IN: Duration = Duration::from_secs(15);

    /// What it may carry for ever.
    pub fn continuous(&self) -> Watts {
        self.rating.continuous_watts(self.power_factor, self.continuous_load_factor)
    }

    /// What it carries at a point of its curve.
    pub fn at(&self, point: &Overload) -> Watts {
        self.rating.continuous_watts(self.power_factor, point.load)
    }

    /// The most that it carries for a time.
    pub fn carries_for(&self, time: Duration) -> Watts {
        let lasting = self.overload.iter().take_while(|point| time <= point.lasts).last();
        lasting.map_or_else(|| self.continuous(), |point| self.at(point))
    }

    /// The share of a domain's power that comes over it, in millionths.
    pub fn share_of(&self, domain: DomainIx) -> u64 {
        let fed = self.feeds.iter().find(|feed| feed.domain == domain);
        fed.map_or(0, |feed| u64::from(feed.share.parts()))
    }
}

/// A limit in watts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cap {
    /// Unique name.
    pub name: String,
    /// What it limits.
    pub target: CapTarget,
    /// The limit.
    pub watts: Watts,
    /// Where it is measured.
    pub meter: Meter,
    /// Which draw it counts.
    pub kind: CapKind,
    /// How it falls as the air gets hotter and more humid, the coolest first; empty where it never does.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub derating: Vec<Derating>,
    /// How much more it allows with each minute once it allowed less; none where all of it is there at once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rise: Option<Watts>,
    /// Hours of the day in which it allows less; none where all are alike.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub schedule: Option<Schedule>,
}

/// What is left of a cap at a wet-bulb temperature.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Derating {
    /// Wet-bulb temperature, in thousandths of a degree Celsius.
    pub wet_bulb_mc: i32,
    /// The share of the cap that is left.
    pub share: Ppm,
}

impl Cap {
    /// What it allows at a wet-bulb temperature in thousandths of a degree Celsius: between two points of its derating in
    /// proportion, and before the first and after the last what those say; rounded down.
    pub fn at_wet_bulb(&self, wet_bulb_mc: i32) -> Watts {
        let at = |point: &Derating| (point.wet_bulb_mc, point.share.parts().into());
        let Some((share, span)) = interpolated(self.derating.iter().map(at), wet_bulb_mc) else { return self.watts };
        Watts::new((i128::from(self.watts.get()) * share / (span * 1_000_000)) as i64)
    }
}

/// What points, in the order of their places, say of a place: a value over a span. Between two points it is in proportion,
/// and before the first and after the last what those say; none where there are no points.
pub(crate) fn interpolated(points: impl Iterator<Item = (i32, i128)>, place: i32) -> Option<(i128, i128)> {
    let mut low = None;
    for point in points {
        if point.0 > place {
            let (from, value) = low.unwrap_or(point);
            let span = (i128::from(point.0) - i128::from(from)).max(1);
            let over = (i128::from(place) - i128::from(from)).max(0);
            return Some((value * span + (point.1 - value) * over, span));
        }
        low = Some(point);
    }
    low.map(|(_, value)| (value, 1))
}

/// What a cap limits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CapTarget {
    /// A domain; a site is the widest.
    Domain(DomainIx),
    /// A circuit.
    Circuit(CircuitIx),
    /// A circuit once another of its redundancy group is lost, and those that are left carry what it did, each by its
    /// share.
    CircuitWithout {
        /// The circuit.
        circuit: CircuitIx,
        /// The one that is lost.
        lost: CircuitIx,
    },
}

/// Where a cap is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Meter {
    /// At the servers.
    It,
    /// At the grid connection: IT power and what cooling takes beside it, or times the site's PUE.
    Facility,
}

/// Which draw a cap counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CapKind {
    /// The sum of expected draws.
    Contract,
    /// The sum of what can be enforced: idle draw of powered nodes plus the peak of chips at work.
    Breaker,
}

impl Fleet {
    /// Whether a circuit carries more once another is lost.
    pub fn stands_in(&self, circuit: CircuitIx, lost: CircuitIx) -> bool {
        let (one, other) = (&self.circuits[circuit.ix()], &self.circuits[lost.ix()]);
        circuit != lost
            && one.redundancy_group.is_some()
            && one.redundancy_group == other.redundancy_group
            && one.feeds.iter().any(|feed| other.share_of(feed.domain) > 0)
    }

    /// The site of what a cap limits: that of the first domain, where a circuit feeds several.
    pub fn site_of(&self, target: CapTarget) -> Option<&Site> {
        let domain = match target {
            CapTarget::Domain(domain) => domain,
            CapTarget::Circuit(circuit) | CapTarget::CircuitWithout { circuit, .. } => {
                self.circuits[circuit.ix()].feeds.first()?.domain
            }
        };
        Some(&self.sites[self.domains[domain.ix()].site.ix()])
    }

    /// The cooling that a cap counts as it is: it is at the grid connection of a whole site whose cooling is known.
    pub fn cooling_under(&self, cap: &Cap) -> Option<&Cooling> {
        match (cap.target, cap.meter) {
            (CapTarget::Domain(domain), Meter::Facility) => self.sites.get(domain.ix())?.cooling.as_ref(),
            _ => None,
        }
    }

    /// What a cap counts for each watt at the servers of a domain beside the share that comes under it. Of a part of a site
    /// whose cooling follows its load that is the most that a watt can add, whatever the others draw and however hot it is.
    pub fn counted_per_watt(&self, cap: &Cap, domain: DomainIx) -> Ppm {
        let site = &self.sites[self.domains[domain.ix()].site.ix()];
        match (cap.meter, &site.cooling) {
            (Meter::It, _) => Ppm::ONE,
            (Meter::Facility, Some(_)) if self.cooling_under(cap).is_some() => Ppm::ONE,
            (Meter::Facility, _) => site.most_per_watt(),
        }
    }

    /// The domains that a cap limits, each with the share of its power that comes under it, PUE aside.
    pub fn limited_by(&self, target: CapTarget) -> Vec<(DomainIx, Ppm)> {
        let (circuit, lost) = match target {
            CapTarget::Domain(domain) => return vec![(domain, Ppm::ONE)],
            CapTarget::Circuit(circuit) => (&self.circuits[circuit.ix()], None),
            CapTarget::CircuitWithout { circuit, lost } => {
                (&self.circuits[circuit.ix()], Some(&self.circuits[lost.ix()]))
            }
        };
        let share = |feed: &Feed| match lost {
            Some(lost) => self.share_without(circuit, feed, lost),
            None => feed.share,
        };
        circuit.feeds.iter().map(|feed| (feed.domain, share(feed))).collect()
    }

    /// The share of a domain's power that a circuit carries once another of its group is lost, rounded up.
    fn share_without(&self, circuit: &Circuit, feed: &Feed, lost: &Circuit) -> Ppm {
        let lost_share = lost.share_of(feed.domain);
        let group = self.circuits.iter().filter(|other| other.redundancy_group == circuit.redundancy_group);
        let all: u64 = group.map(|other| other.share_of(feed.domain)).sum();
        let own = u64::from(feed.share.parts());
        let left = all.saturating_sub(lost_share).max(own);
        Ppm::new(u32::try_from((own * all).div_ceil(left)).unwrap_or(u32::MAX))
    }

    /// Position of the cap on which the events of a grid programme act.
    pub fn cap_of(&self, programme: &Programme) -> Option<usize> {
        self.caps.iter().position(|cap| cap.name == programme.cap)
    }

    /// The accelerators of all nodes.
    pub fn chips(&self) -> u64 {
        self.nodes.iter().map(|node| u64::from(self.kind(*node).chips)).sum()
    }

    /// The kind of a node.
    pub fn kind(&self, node: Node) -> &NodeKind {
        &self.node_kinds[node.kind.ix()]
    }

    /// The accelerator kind of a node kind; none for hosts without any.
    pub fn accelerator(&self, kind: &NodeKind) -> Option<&AcceleratorKind> {
        kind.accelerator.map(|ix| &self.accelerators[ix.ix()])
    }

    /// The level of a name, `site` being 0.
    pub fn level(&self, name: &str) -> Option<LevelIx> {
        self.levels.iter().position(|level| level == name).map(|ix| LevelIx(ix as u32))
    }

    /// The domains of one level, in order.
    pub fn domains_at(&self, level: LevelIx) -> Range<u32> {
        let start = self.domains.partition_point(|domain| domain.level < level) as u32;
        let end = self.domains.partition_point(|domain| domain.level <= level) as u32;
        start..end
    }

    /// How the chips of a node kind are wired, where that is a torus.
    pub fn torus_of(&self, kind: NodeKindIx) -> Option<&Torus> {
        let accelerator = self.node_kinds[kind.ix()].accelerator?;
        self.tori.iter().find(|torus| torus.accelerator == accelerator)
    }

    /// The site of a node.
    pub fn site_of_node(&self, node: NodeIx) -> SiteIx {
        self.domains[self.nodes[node.ix()].domain.ix()].site
    }

    /// The domain of a level that holds a node.
    pub fn around(&self, node: NodeIx, level: LevelIx) -> DomainIx {
        let mut domain = self.nodes[node.ix()].domain;
        while self.domains[domain.ix()].level > level
            && let Some(parent) = self.domains[domain.ix()].parent
        {
            domain = parent;
        }
        domain
    }

    /// A domain's name from its site down, joined by `/`; levels that it skips are left out.
    pub fn path(&self, domain: DomainIx) -> String {
        let this = &self.domains[domain.ix()];
        match this.parent {
            None => this.name.clone(),
            Some(parent)
                if self.domains[parent.ix()].nodes == this.nodes && self.domains[parent.ix()].name == this.name =>
            {
                self.path(parent)
            }
            Some(parent) => format!("{}/{}", self.path(parent), this.name),
        }
    }

    /// A node's name: as its node list gives it, otherwise its domain's path and its place there.
    pub fn node_name(&self, node: NodeIx) -> String {
        if let Some(name) = self.node_names.get(&node) {
            return name.clone();
        }
        let domain = self.nodes[node.ix()].domain;
        format!("{}/n{}", self.path(domain), node.0 - self.domains[domain.ix()].nodes.start)
    }
}
