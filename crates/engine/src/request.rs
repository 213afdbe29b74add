//! Requests as the engine sees them: names resolved against the fleet, so that equal requests are one *shape*.

use std::collections::BTreeMap;

use offtake_fleet::{AcceleratorKindIx, Fleet, LevelIx, NodeKind, NodeKindIx, Sides, Torus};
use offtake_units::{ChipMilli, CpuMilli, Duration, Mebibytes, Watts};
use offtake_workload::{ChipRequest, Gang, INNERMOST, Slice, Strength, Swing, Topology};
use serde::{Deserialize, Serialize};

use crate::capacity::Take;
use crate::fact::{NodeRange, Placement};
use crate::tenants::Counted;
use crate::throttle::Throttle;

/// What a job asks for, all of its gangs.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Shape {
    /// Its gangs; at least one.
    pub gangs: Vec<Request>,
}

/// What one gang asks for.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Request {
    /// Number of workers, those that stand by included.
    pub workers: u32,
    /// Accelerators of one worker.
    pub chips: ChipRequest,
    /// Processor of one worker.
    pub cpu: CpuMilli,
    /// Memory of one worker.
    pub memory: Mebibytes,
    /// The node kinds that can take at least one worker, with how many workers an empty node of it takes.
    pub kinds: Vec<(NodeKindIx, u32)>,
    /// The level at which one domain must or should hold all workers.
    pub topology: Option<(LevelIx, Strength)>,
    /// The widest level at which one domain may hold all workers where a narrower one should; otherwise the widest of all.
    pub widest: LevelIx,
    /// The most workers on one node, where that is fewer than all.
    pub per_node: Option<u32>,
    /// Workers of one group, and the level at which one domain must hold them; none where the workers are one group.
    pub groups: Option<(u32, LevelIx)>,
    /// Of the workers of a group, or else of all, those that stand by.
    pub spares: u32,
    /// The slice of a torus that its chips make.
    pub slice: Option<Sides>,
    /// The fewest workers that would do: fewer than `workers` for a gang that may shrink.
    pub least: u32,
    /// How its draw falls away and returns.
    pub swing: Option<Swing>,
}

impl Shape {
    /// Resolves the names of gangs that start together.
    ///
    /// # Errors
    /// [`Refusal`] when no node of the fleet can ever take a worker of one of them.
    pub fn resolve(gangs: &[Gang], fleet: &Fleet) -> Result<Self, Refusal> {
        let gangs = gangs.iter().map(|gang| Request::resolve(gang, fleet)).collect::<Result<Vec<_>, _>>()?;
        Ok(Self { gangs })
    }

    /// The chips of all gangs in thousandths.
    pub fn chip_milli(&self) -> u64 {
        self.gangs.iter().map(Request::chip_milli).sum()
    }

    /// The most that it could take of each accelerator kind, in thousandths of a chip.
    pub fn chips_by_accelerator(&self, fleet: &Fleet) -> BTreeMap<AcceleratorKindIx, u64> {
        let kinds = self.gangs.iter().flat_map(|gang| gang.accelerators(fleet));
        kinds.map(|kind| (kind, self.chip_milli_on(kind, fleet))).collect()
    }

    /// Its nodes where it is placed, with thousandths of chips on each; those without any are left out.
    pub fn footprint_nodes(&self, placement: &Placement) -> Vec<(NodeRange, u64)> {
        let gangs = self.gangs.iter().zip(&placement.gangs);
        let nodes = gangs.flat_map(|(gang, slots)| {
            slots.iter().map(|slot| (slot.nodes, u64::from(slot.workers) * gang.chips.milli()))
        });
        nodes.filter(|(_, milli)| *milli > 0).collect()
    }

    /// What quota and limits count of it.
    pub fn needs(&self, fleet: &Fleet) -> Needs {
        let need = |kind| (kind, self.least_milli_on(kind, fleet), self.chip_milli_on(kind, fleet));
        let gangs = self.gangs.iter().map(|gang| gang.accelerators(fleet).map(need).collect());
        Needs { gangs: gangs.collect(), least: self.least_milli(), most: self.chip_milli() }
    }

    /// The most that it could take of an accelerator kind, in thousandths of a chip.
    pub fn chip_milli_on(&self, kind: AcceleratorKindIx, fleet: &Fleet) -> u64 {
        self.takers(kind, fleet).map(Request::chip_milli).sum()
    }

    /// The same with the fewest workers.
    pub fn least_milli_on(&self, kind: AcceleratorKindIx, fleet: &Fleet) -> u64 {
        self.takers(kind, fleet).map(Request::least_milli).sum()
    }

    /// The chips of all gangs with the fewest workers, in thousandths.
    pub fn least_milli(&self) -> u64 {
        self.gangs.iter().map(Request::least_milli).sum()
    }

    fn takers<'a>(&'a self, kind: AcceleratorKindIx, fleet: &'a Fleet) -> impl Iterator<Item = &'a Request> {
        self.gangs.iter().filter(move |gang| gang.accelerators(fleet).any(|other| other == kind))
    }
}

/// What quota and limits count of a shape, in thousandths of chips.
#[derive(Clone, Debug)]
pub struct Needs {
    /// By gang, for each accelerator kind that it may use: what the shape needs of it at least, and at most.
    gangs: Vec<Vec<(AcceleratorKindIx, u64, u64)>>,
    /// With the fewest workers.
    pub least: u64,
    /// With as many as it asks for.
    pub most: u64,
}

impl Needs {
    /// The first accelerator kind of a gang for which too little is left of each that it may use.
    pub fn stuck_on(&self, left: impl Fn(AcceleratorKindIx) -> u64) -> Option<AcceleratorKindIx> {
        let is_short = |(kind, least, _): &(AcceleratorKindIx, u64, u64)| left(*kind) < *least;
        let stuck = self.gangs.iter().filter(|kinds| kinds.iter().all(is_short));
        stuck.filter_map(|kinds| kinds.first()).map(|(kind, ..)| *kind).min()
    }

    /// Whether it could use more of an accelerator kind than is left of it.
    pub fn could_use_more(&self, left: impl Fn(AcceleratorKindIx) -> u64) -> bool {
        self.gangs.iter().flatten().any(|(kind, _, most)| left(*kind) < *most)
    }
}

/// Why a request can never run on a fleet.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[serde(rename_all = "snake_case")]
pub enum Refusal {
    /// No accelerator kind of that name.
    #[error("the fleet has no accelerator `{name}`; it has {known}")]
    UnknownAccelerator {
        /// What was asked for.
        name: String,
        /// What there is.
        known: String,
    },
    /// No level of that name.
    #[error("the fleet has no level `{name}`; its levels are {known}")]
    UnknownLevel {
        /// What was asked for.
        name: String,
        /// What there is.
        known: String,
    },
    /// No kind of node takes even one worker.
    #[error("no node takes one worker of {worker}: {reason}")]
    NoSuchNode {
        /// The worker.
        worker: String,
        /// What excludes all kinds of node.
        reason: String,
    },
    /// No domain of the level has room for all workers, even when it is empty.
    #[error("no {level} holds {workers} workers even when it is empty; the largest holds {most}")]
    TooLarge {
        /// The level.
        level: String,
        /// Workers asked for.
        workers: u32,
        /// Workers that the largest domain takes.
        most: u64,
    },
    /// Its workers do not make whole groups.
    #[error("{workers} workers make no whole groups of {group}; ask for a multiple")]
    UnevenGroups {
        /// Workers asked for.
        workers: u32,
        /// Workers of a group.
        group: u32,
    },
    /// No chips that it may use are wired as a torus that gives such slices.
    #[error("no such slice: {slice}; allowed are {allowed}")]
    NoSuchSlice {
        /// The slice.
        slice: String,
        /// What the tori of the fleet give, chip by chip.
        allowed: String,
    },
    /// Workers and those that stand by do not each make whole nodes.
    #[error(
        "{workers} workers and {spares} spares do not each fill whole nodes of any kind; ask for multiples of what \
         a node takes"
    )]
    UnevenSpares {
        /// Workers of a group, or of the gang.
        workers: u32,
        /// Workers that stand by beside them.
        spares: u32,
    },
    /// The level of its groups is wider than that of the whole gang.
    #[error("groups by {level} are wider than the one {within} that is to hold them all; name a level inside it")]
    WideGroups {
        /// The level of a group.
        level: String,
        /// The level of the gang.
        within: String,
    },
    /// No domain of the level has room for all workers in their groups, even when it is empty.
    #[error(
        "no {level} holds {workers} workers in groups of {group}, each in one {group_level}, even when it is empty; \
         the largest holds {most}"
    )]
    TooManyGroups {
        /// The level.
        level: String,
        /// Workers asked for.
        workers: u32,
        /// Workers of a group.
        group: u32,
        /// The level of a group.
        group_level: String,
        /// Workers, in whole groups, that the largest domain takes.
        most: u64,
    },
    /// The tenant, or one above it, lets as much wait as it may.
    #[error("tenant `{tenant}` may have {limit} {words}, and has no room for this job: wait until some have started", words = counted.words())]
    OverLimit {
        /// Whose limit; empty for that of all tenants together.
        tenant: String,
        /// What it counts.
        counted: Counted,
        /// The most.
        limit: u32,
    },
    /// Caps leave too little power for the gang, even when nothing else runs.
    #[error("no {level} can power {workers} workers under its caps, even when nothing else runs")]
    TooHungry {
        /// The level.
        level: String,
        /// Workers asked for.
        workers: u32,
    },
    /// Its sudden stop is a larger step than any site stands that could hold it.
    #[error(
        "its sudden stop is a step of {step}, and site {site} stands {most}, the `max_step` of its ramp with what its \
         hardware smooths; ask for fewer chips"
    )]
    TooSteep {
        /// The first such site.
        site: String,
        /// What would vanish at one instant.
        step: Watts,
        /// What the site stands.
        most: Watts,
    },
    /// Its draw swings further than any site stands that could hold it.
    #[error(
        "its draw swings by {swing} every {period}, and site {site} stands {most} in that time, by the rates of its ramp \
         with what its hardware smooths; ask for fewer chips, or smooth its swing"
    )]
    TooShaky {
        /// The first such site.
        site: String,
        /// What falls away and returns.
        swing: Watts,
        /// From one fall to the next.
        period: Duration,
        /// What the site stands in that time.
        most: Watts,
    },
}

impl Request {
    /// Resolves a gang's names.
    ///
    /// # Errors
    /// [`Refusal`] when no node of the fleet can ever take one of its workers.
    pub fn resolve(gang: &Gang, fleet: &Fleet) -> Result<Self, Refusal> {
        let known = || fleet.accelerators.iter().map(|chip| chip.name.as_str()).collect::<Vec<_>>().join(", ");
        let has_any = |name: &String| fleet.accelerators.iter().any(|chip| chip.name == *name);
        if !gang.accelerators.is_empty() && !gang.accelerators.iter().any(has_any) {
            return Err(Refusal::UnknownAccelerator { name: gang.accelerators.join("|"), known: known() });
        }
        let topology = match &gang.topology {
            None => None,
            Some(topology) => Some((level_of(&topology.level, fleet)?, topology.strength)),
        };
        let widest = match &gang.topology {
            Some(Topology { strength: Strength::Preferred, widest: Some(widest), .. }) => level_of(widest, fleet)?,
            _ => LevelIx(0),
        };
        let groups = match &gang.groups {
            None => None,
            Some(groups) => {
                if groups.workers == 0 || !gang.workers.is_multiple_of(groups.workers) {
                    return Err(Refusal::UnevenGroups { workers: gang.workers, group: groups.workers });
                }
                Some((groups.workers, level_of(&groups.level, fleet)?))
            }
        };
        if let (Some((_, inner)), Some((outer, _))) = (groups, topology)
            && inner < outer
        {
            let name = |level: LevelIx| fleet.levels[level.ix()].clone();
            return Err(Refusal::WideGroups { level: name(inner), within: name(outer) });
        }
        let mut kinds = Vec::new();
        for (index, kind) in fleet.node_kinds.iter().enumerate() {
            let accelerator = fleet.accelerator(kind).map(|chip| &chip.name);
            let allowed =
                gang.accelerators.is_empty() || accelerator.is_some_and(|name| gang.accelerators.contains(name));
            let attributes = gang.attributes.iter().all(|(name, value)| kind.attributes.get(name) == Some(value));
            let per_node = workers_per_node(gang, kind);
            if allowed && attributes && per_node > 0 {
                kinds.push((NodeKindIx(index as u32), per_node));
            }
        }
        if kinds.is_empty() {
            return Err(Refusal::NoSuchNode { worker: describe_worker(gang), reason: why_no_kind(gang, fleet) });
        }
        if let Some(slice) = gang.slice {
            kinds.retain(|(kind, _)| gives(fleet, *kind, slice, gang.chips));
            if kinds.is_empty() {
                return Err(Refusal::NoSuchSlice { slice: slice.to_string(), allowed: allowed_slices(fleet) });
            }
        }
        let (room, own) = (gang.room(), groups.map_or(gang.workers, |(group, _)| group));
        if gang.spares > 0 {
            let whole = matches!(gang.chips, ChipRequest::Whole(_));
            kinds.retain(|(_, per_node)| {
                whole && own.is_multiple_of(*per_node) && gang.spares.is_multiple_of(*per_node)
            });
            if kinds.is_empty() {
                return Err(Refusal::UnevenSpares { workers: own, spares: gang.spares });
            }
        }
        // A gang of one group is a gang that must lie in the domain of one.
        let (groups, topology, widest) = match groups {
            Some((group, level)) if group >= gang.workers => (None, Some((level, Strength::Required)), LevelIx(0)),
            groups => (groups.map(|(group, level)| (group + gang.spares, level)), topology, widest),
        };
        Ok(Self {
            workers: room,
            chips: gang.chips,
            cpu: gang.cpu,
            memory: gang.memory,
            kinds,
            topology,
            widest,
            per_node: gang.per_node.filter(|most| *most < room),
            groups,
            spares: gang.spares,
            slice: gang.slice.map(|slice| slice.sides),
            least: gang.elastic.as_ref().map_or(room, |elastic| elastic.minimum.min(room)),
            swing: gang.swing,
        })
    }

    /// What `workers` workers take of one node, on the chips given as bits.
    pub fn take(&self, workers: u32, chips: u64) -> Take {
        Take {
            cpu: CpuMilli::new(self.cpu.get() * workers),
            memory: Mebibytes::new(self.memory.get() * u64::from(workers)),
            chips,
            share: match self.chips {
                ChipRequest::Share(share) => Some(share),
                ChipRequest::None | ChipRequest::Whole(_) => None,
            },
            throttle: Throttle::NONE,
        }
    }

    /// Whether workers come to a node one by one, so that several turns may put some there.
    pub const fn one_by_one(&self) -> bool {
        matches!(self.chips, ChipRequest::Share(_)) || self.groups.is_some() && self.per_node.is_some()
    }

    /// The widest level at which one domain holds all workers, or is to hold them.
    pub fn outer_level(&self) -> LevelIx {
        match self.topology {
            Some((level, Strength::Required)) => level,
            Some((_, Strength::Preferred)) => self.widest,
            None => LevelIx(0),
        }
    }

    /// Of workers that one domain of the level of groups has room for, those that make whole groups.
    pub fn in_whole_groups(&self, workers: u64) -> u64 {
        self.groups.map_or(workers, |(group, _)| workers - workers % u64::from(group))
    }

    /// The chips of all workers in thousandths.
    pub fn chip_milli(&self) -> u64 {
        u64::from(self.workers) * self.chips.milli()
    }

    fn least_milli(&self) -> u64 {
        u64::from(self.least) * self.chips.milli()
    }

    /// The accelerator kinds of which it may take chips; one may come several times.
    pub fn accelerators<'a>(&'a self, fleet: &'a Fleet) -> impl Iterator<Item = AcceleratorKindIx> + 'a {
        let kinds = self.kinds.iter().filter(|_| self.chips != ChipRequest::None);
        kinds.filter_map(|(kind, _)| fleet.node_kinds[kind.ix()].accelerator)
    }

    /// Whole chips of one worker.
    pub const fn whole_chips(&self) -> u16 {
        match self.chips {
            ChipRequest::Whole(chips) => chips,
            ChipRequest::None | ChipRequest::Share(_) => 0,
        }
    }
}

/// Whether nodes of a kind may be part of a slice, each with whole workers.
fn gives(fleet: &Fleet, kind: NodeKindIx, slice: Slice, chips: ChipRequest) -> bool {
    let of_worker = match chips {
        ChipRequest::Whole(chips) => u32::from(chips.max(1)),
        ChipRequest::None | ChipRequest::Share(_) => return false,
    };
    let torus = fleet.torus_of(kind).filter(|torus| torus.allows(slice.sides));
    torus.is_some_and(|torus| Torus::chips(torus.host).min(Torus::chips(slice.sides)).is_multiple_of(of_worker))
}

fn allowed_slices(fleet: &Fleet) -> String {
    let name = |torus: &Torus| fleet.accelerators[torus.accelerator.ix()].name.clone();
    let each = |torus: &Torus| format!("on {} {}", name(torus), torus.allowed());
    match fleet.tori.is_empty() {
        true => "none, as no chips of the fleet are wired as a torus".to_owned(),
        false => fleet.tori.iter().map(each).collect::<Vec<_>>().join("; "),
    }
}

pub(crate) fn level_of(name: &str, fleet: &Fleet) -> Result<LevelIx, Refusal> {
    let innermost = || (name == INNERMOST).then(|| LevelIx((fleet.levels.len() as u32).saturating_sub(1)));
    let unknown = || Refusal::UnknownLevel { name: name.to_owned(), known: fleet.levels.join(", ") };
    fleet.level(name).or_else(innermost).ok_or_else(unknown)
}

fn workers_per_node(gang: &Gang, kind: &NodeKind) -> u32 {
    let whole = u32::from(ChipMilli::WHOLE.get());
    let by_chips = match gang.chips {
        ChipRequest::None => u32::MAX,
        ChipRequest::Share(share) => u32::from(kind.chips) * (whole / u32::from(share.get()).max(1)),
        ChipRequest::Whole(chips) => u32::from(kind.chips / chips.max(1)),
    };
    let by_cpu = kind.cpu.get().checked_div(gang.cpu.get()).unwrap_or(u32::MAX);
    let by_memory = kind.memory.get().checked_div(gang.memory.get()).unwrap_or(u64::MAX);
    let by_memory = u32::try_from(by_memory).unwrap_or(u32::MAX);
    by_chips.min(by_cpu).min(by_memory).min(gang.workers).min(gang.per_node.unwrap_or(u32::MAX))
}

fn describe_worker(gang: &Gang) -> String {
    let chips = match gang.chips {
        ChipRequest::None => "no chip".to_owned(),
        ChipRequest::Share(share) => format!("{share}"),
        ChipRequest::Whole(1) => "1 chip".to_owned(),
        ChipRequest::Whole(chips) => format!("{chips} chips"),
    };
    format!("{chips}, {} and {}", gang.cpu, gang.memory)
}

fn why_no_kind(gang: &Gang, fleet: &Fleet) -> String {
    let lacks = fleet.node_kinds.iter().all(|kind| workers_per_node(gang, kind) == 0);
    if lacks {
        let most = fleet.node_kinds.iter().map(|kind| kind.chips).max().unwrap_or(0);
        return format!("the largest node has {most} chips; ask for fewer chips, cores or MiB a worker");
    }
    let attributes: Vec<String> = gang.attributes.iter().map(|(name, value)| format!("{name}={value}")).collect();
    if attributes.is_empty() {
        return format!("none of {} is on a node that large", gang.accelerators.join(", "));
    }
    format!("no kind of node that is large enough has {}", attributes.join(" and "))
}
