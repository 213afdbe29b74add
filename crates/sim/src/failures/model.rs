//! What fails, how often and why, with the published figures that are taken where a scenario says nothing else.

use offtake_fleet::LevelIx;
use offtake_units::{Duration, Ppm};
use offtake_workload::synthetic::{Quantile, Spread};

/// How a fleet fails and what it takes to go on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FailureModel {
    /// What all of it is drawn from.
    pub seed: u64,
    /// From a failure until it is known.
    pub detect: Duration,
    /// Until the image is on the nodes of a job that starts again.
    pub image: Duration,
    /// From there until its workers have found each other.
    pub initialise: Duration,
    /// How long a node is out that a policy has drained and that is sound.
    pub look: Duration,
    /// Whether work goes on while a checkpoint is written.
    pub asynchronous: bool,
    /// What fails.
    pub classes: Vec<FailureClass>,
}

impl FailureModel {
    /// Nothing fails by itself; nodes may still be without power.
    pub(crate) const NOTHING: Self = Self {
        seed: 0,
        detect: Duration::ZERO,
        image: Duration::ZERO,
        initialise: Duration::ZERO,
        look: Duration::ZERO,
        asynchronous: false,
        classes: Vec::new(),
    };
}

/// Parts of one kind that fail independently of each other, each as a Poisson process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FailureClass {
    /// Its name.
    pub name: String,
    /// The parts.
    pub strikes: Strikes,
    /// Mean time between two failures of one part.
    pub every: Duration,
    /// Why they fail; at least one.
    pub causes: Vec<Cause>,
}

/// Parts that fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Strikes {
    /// Chips, and with one its node; a node without chips counts as one.
    Chips,
    /// Domains of a level, and with one all nodes in it.
    Domains(LevelIx),
    /// Circuits, and with one all nodes that it feeds, unless others of its redundancy group still do.
    Circuits,
}

/// A reason to fail.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cause {
    /// Its name.
    pub name: String,
    /// How frequent, against the others of the class.
    pub weight: u32,
    /// What it does.
    pub effect: Effect,
    /// The XID that the driver of the node's accelerators tells of it; none where it tells nothing.
    pub xid: Option<u16>,
}

/// What a failure does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    /// One job on the node ends; the node is sound. On a node without a job nothing happens.
    Application,
    /// The nodes are out for so long, from when that is known, and what runs on them has failed.
    Down {
        /// For how long.
        repair: Spread,
    },
    /// The nodes seem sound, and what runs on them fails again and again, until that is found and they are repaired.
    Bad {
        /// After so long each, one job there ends.
        fails: Duration,
        /// Until it is found, if no policy drains them sooner.
        found: Spread,
        /// How long they are out then.
        repair: Spread,
    },
    /// The nodes go on, slower, and with them every gang on them. Once that is found they are drained and repaired.
    Slow {
        /// Their share of full speed.
        speed: Ppm,
        /// Until it is found.
        found: Spread,
        /// How long they are out then.
        repair: Spread,
    },
}

const fn minutes(minutes: i64) -> Duration {
    Duration::from_secs(minutes * 60)
}

const fn hours(hours: i64) -> Duration {
    Duration::from_secs(hours * 3600)
}

/// Time between two unexpected interruptions of one chip: 419 in 54 days on 16,384 (Llama 3, arXiv:2407.21783, section
/// 3.3.4).
const LLAMA_CHIP_HOURS: i64 = 54 * 24 * 16_384 / 419;

/// How long nodes are out. Nobody has published that by cause; these are assumptions.
#[derive(Clone, Copy)]
enum Repair {
    /// Nothing is wrong with the node.
    None,
    /// The node is started anew: the driver marks rows of memory bad or resets the chip.
    Reset,
    /// Somebody works on the host.
    Maintenance,
    /// Somebody replaces a part.
    Part,
}

impl Repair {
    const fn effect(self) -> Effect {
        match self {
            Self::None => Effect::Application,
            Self::Reset => Effect::Down { repair: Spread::LogNormal { p50: minutes(20), p99: hours(4) } },
            Self::Maintenance => Effect::Down { repair: Spread::LogNormal { p50: hours(2), p99: hours(24) } },
            Self::Part => Effect::Down { repair: Spread::LogNormal { p50: hours(12), p99: hours(7 * 24) } },
        }
    }
}

/// Causes of the 419 interruptions: Llama 3, table 5.
const LLAMA_CAUSES: [(&str, u32, Repair); 18] = [
    ("faulty GPU", 148, Repair::Part),
    ("GPU HBM3 memory", 72, Repair::Reset),
    ("software bug", 54, Repair::None),
    ("network switch or cable", 35, Repair::Part),
    ("host maintenance", 32, Repair::Maintenance),
    ("GPU SRAM memory", 19, Repair::Reset),
    ("GPU system processor", 17, Repair::Reset),
    ("NIC", 7, Repair::Part),
    ("NCCL watchdog timeouts", 7, Repair::None),
    ("silent data corruption", 6, Repair::Part),
    ("GPU thermal interface and sensor", 6, Repair::Part),
    ("SSD", 3, Repair::Part),
    ("power supply", 3, Repair::Part),
    ("server chassis", 2, Repair::Part),
    ("IO expansion board", 2, Repair::Part),
    ("dependency", 2, Repair::None),
    ("CPU", 2, Repair::Part),
    ("system memory", 2, Repair::Part),
];

impl Default for FailureModel {
    /// Nodes at the rate and with the causes of Llama 3, found and restarted as fast as is published: a node is missed
    /// when its agent's lease runs out, some 40 s, and a minute is taken; 4,800 devices train again within 150 s
    /// (FlashRecovery, arXiv:2509.03047). A minute until the image is there is an assumption, and so
    /// is an hour for a look at a node that is sound.
    fn default() -> Self {
        Self {
            seed: 0,
            detect: minutes(1),
            image: minutes(1),
            initialise: Duration::from_secs(150),
            look: hours(1),
            asynchronous: false,
            classes: vec![FailureClass::nodes()],
        }
    }
}

impl FailureModel {
    /// Chips that each fail once in so long, and take down what is there; restarts are as published.
    pub fn of_chips(every: Duration) -> Self {
        Self { classes: vec![FailureClass { every, ..FailureClass::nodes() }], ..Self::default() }
    }
}

impl FailureClass {
    /// Nodes, through any of their chips, as Llama 3 saw them fail.
    pub fn nodes() -> Self {
        let cause = |(name, weight, repair): (&str, u32, Repair)| Cause {
            name: name.to_owned(),
            weight,
            effect: repair.effect(),
            xid: None,
        };
        Self {
            name: "node".to_owned(),
            strikes: Strikes::Chips,
            every: hours(LLAMA_CHIP_HOURS),
            causes: LLAMA_CAUSES.into_iter().map(cause).collect(),
        }
    }

    /// Racks: 20 of a cluster of 1,800 machines, with 40 to 80 in a rack, fail in a year and come back in 1 to 6 hours
    /// (J. Dean, Handling Large Datasets at Google, Data-Intensive Computing Symposium, 2008).
    pub fn racks(level: LevelIx) -> Self {
        let point = |share, duration| Quantile { share_ppm: Ppm::new(share), duration };
        let repair = Spread::Quantiles(vec![point(0, hours(1)), point(1_000_000, hours(6))]);
        Self {
            name: "rack".to_owned(),
            strikes: Strikes::Domains(level),
            every: hours(8760 * 1_800 / 60 / 20),
            causes: vec![Cause {
                name: "rack failure".to_owned(),
                weight: 1,
                effect: Effect::Down { repair },
                xid: None,
            }],
        }
    }

    /// Feeds: one power distribution unit of a cluster of 1,800 machines, with 500 to 1,000 on each, fails in a year and
    /// comes back in 6 hours (J. Dean, as above).
    pub fn feeds() -> Self {
        let repair = Spread::Fixed(hours(6));
        Self {
            name: "feed".to_owned(),
            strikes: Strikes::Circuits,
            every: hours(8760 * 1_800 / 750),
            causes: vec![Cause {
                name: "feed failure".to_owned(),
                weight: 1,
                effect: Effect::Down { repair },
                xid: None,
            }],
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_published_figures_add_up() {
        assert_eq!(LLAMA_CAUSES.iter().map(|(_, count, _)| count).sum::<u32>(), 419);
        assert!((50_600..50_800).contains(&LLAMA_CHIP_HOURS), "about one per 50,700 chip-hours");
    }
}
