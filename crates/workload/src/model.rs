//! Jobs and services as data, in the words of people: kinds, levels and attributes are names here, and are resolved
//! against a fleet by the engine.

use std::collections::BTreeMap;
use std::sync::Arc;

use offtake_units::{ChipMilli, CpuMilli, Duration, Mebibytes, Ppm, Timestamp};
use serde::{Deserialize, Serialize};

use crate::{Program, Slice, When};

/// All work of a scenario.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Workload {
    /// Jobs in the order of submission.
    pub jobs: Vec<Job>,
    /// Services.
    pub services: Vec<Service>,
}

/// Work that ends.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Job {
    /// Its name in the trace or job file.
    pub name: String,
    /// Who pays.
    pub tenant: String,
    /// Who may displace whom.
    pub tier: Tier,
    /// Its standing among the waiting jobs of its tenant, where the policy asks for it; the highest goes first.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub priority: i32,
    /// When it is submitted.
    pub submitted: Timestamp,
    /// How long it runs once it is placed; none when its end is not known, in which case it never counts as future
    /// free capacity.
    pub duration: Option<Duration>,
    /// When it must have ended.
    pub deadline: Option<Timestamp>,
    /// How it saves its work.
    pub checkpoint: Option<Checkpoint>,
    /// The longest time for which it stands being paused where it runs, its processes frozen, while power is short; none
    /// where it stands no pause at all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pause: Option<Duration>,
    /// Whether it may be stopped for others.
    pub preemptible: bool,
    /// Its gangs, which all start together; at least one.
    pub gangs: Vec<Gang>,
    /// The reservation in which it runs: on its nodes and while its window lasts, and nowhere else.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reservation: Option<String>,
    /// Jobs of the same workload that must have come so far before it may start. Live jobs have theirs in `program`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub after: Vec<Predecessor>,
    /// What its workers execute; none in a trace and in a simulation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub program: Option<Arc<Program>>,
    /// The identity of the service of which it is a replica.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service: Option<u64>,
}

/// A job, by its name, that must have come so far before another of the same workload may start.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Predecessor {
    /// Its name.
    pub job: String,
    /// How far.
    pub when: When,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks for a reference")]
const fn is_zero(number: &i32) -> bool {
    *number == 0
}

/// Work that stays: replicas that follow a demand curve.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Service {
    /// Its name.
    pub name: String,
    /// Who pays.
    pub tenant: String,
    /// Who may displace whom.
    pub tier: Tier,
    /// One replica.
    pub replica: Gang,
    /// Replicas that always run.
    pub minimum: u32,
    /// Replicas at the top of the demand curve.
    pub maximum: u32,
    /// Share of `maximum` wanted in each hour of the day, UTC; 24 values, or none where nobody knows.
    pub demand: Vec<Ppm>,
    /// Name of the level over whose domains its replicas are spread, as evenly as there is room; anywhere without.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub spread: Option<String>,
    /// The most wanted replicas that may be down at one time by our own will; any number without.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub disruption_budget: Option<u32>,
    /// What the workers of a replica execute; none in a trace and in a simulation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub program: Option<Arc<Program>>,
}

/// A set of equal workers that start together or not at all.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Gang {
    /// Number of workers, at least 1.
    pub workers: u32,
    /// Accelerators of one worker.
    pub chips: ChipRequest,
    /// Processor of one worker.
    pub cpu: CpuMilli,
    /// Memory of one worker.
    pub memory: Mebibytes,
    /// Names of the accelerator kinds that it may use; empty for any.
    pub accelerators: Vec<String>,
    /// Attributes that its nodes must have.
    pub attributes: BTreeMap<String, String>,
    /// Where its workers must or should lie.
    pub topology: Option<Topology>,
    /// The most workers on one node; none for as many as it takes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub per_node: Option<u32>,
    /// How its workers lie in groups, beside what `topology` says of them all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub groups: Option<Groups>,
    /// Workers more that stand by, in each group or, without groups, in the gang: whole nodes beside its own, placed with
    /// it and idle, to take the place of nodes that are lost.
    #[serde(default, skip_serializing_if = "is_nothing")]
    pub spares: u32,
    /// The slice of a torus that its chips make.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub slice: Option<Slice>,
    /// How far the number of workers may differ from `workers`, the preferred one; none where it may not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub elastic: Option<Elastic>,
    /// How its power falls away and returns while it works; none where nobody says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub swing: Option<Swing>,
}

/// How the power of a synchronous gang falls away and returns, at all its chips at once: while they wait for each other,
/// or save.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Swing {
    /// The share of what its chips draw beyond their idle draw.
    pub share: Ppm,
    /// The time from one fall to the next.
    pub period: Duration,
}

/// How far a gang may shrink and grow, and what that does to its speed.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Elastic {
    /// The fewest workers.
    pub minimum: u32,
    /// The most workers.
    pub maximum: u32,
    /// Speeds with some numbers of workers, ascending, as shares of that with the preferred number; between them it is
    /// interpolated, below the first it falls with the workers, above the last it rises no more. None: as the workers.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub speedup: Vec<(u32, Ppm)>,
}

/// Accelerators of one worker.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ChipRequest {
    /// None: the worker needs a host only.
    #[default]
    None,
    /// A part of one chip, less than the whole.
    Share(ChipMilli),
    /// Whole chips of one node, at least 1.
    Whole(u16),
}

/// Where the workers of a gang lie.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Topology {
    /// Name of the level of the one domain that holds them all, or [`INNERMOST`].
    pub level: String,
    /// Whether wider will do.
    pub strength: Strength,
    /// What each level costs by which its workers lie wider than preferred, in time: with `n` levels crossed the gang
    /// goes at 1 / (1 + n × cost) of its speed, and it waits for so much of its time before it crosses one. None: being
    /// wider costs nothing.
    #[serde(default, skip_serializing_if = "costs_nothing")]
    pub cost: Ppm,
    /// Name of the widest level that will do, where it is preferred; any where there is none. A scheduler says so of a
    /// gang that waits before it crosses levels; nobody asks for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub widest: Option<String>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde hands references")]
fn costs_nothing(cost: &Ppm) -> bool {
    *cost == Ppm::ZERO
}

impl Topology {
    /// In one domain of a level, or preferably so at no cost.
    pub fn new(level: impl Into<String>, strength: Strength) -> Self {
        Self { level: level.into(), strength, cost: Ppm::ZERO, widest: None }
    }
}

/// Stands for the innermost level of a fleet, whatever its name there is.
pub const INNERMOST: &str = "innermost";

/// How the workers of a gang lie in groups: by rank, the first so many are one group, the next so many another.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Groups {
    /// Workers of one group; the gang's workers are a multiple of it.
    pub workers: u32,
    /// Name of the level of the one domain that holds a group, or [`INNERMOST`].
    pub level: String,
}

/// Whether a topology request binds.
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Strength {
    /// In one domain of the level, or not at all.
    Required,
    /// In one domain of the level if one fits now, otherwise in the narrowest wider one that fits.
    Preferred,
}

/// How a job saves its work.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Checkpoint {
    /// Time between two checkpoints.
    pub interval: Duration,
    /// Size of one, over all workers.
    pub bytes: u64,
}

/// Who may displace whom; the first is the strongest.
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Tier {
    /// Paid for whether used or not.
    Reserved,
    /// Promised.
    Guaranteed,
    /// The ordinary.
    #[default]
    Standard,
    /// What is left.
    Spot,
}

impl Tier {
    /// All tiers, the strongest first.
    pub const ALL: [Self; 4] = [Self::Reserved, Self::Guaranteed, Self::Standard, Self::Spot];
}

impl ChipRequest {
    /// The chips in thousandths.
    pub fn milli(self) -> u64 {
        match self {
            Self::None => 0,
            Self::Share(share) => u64::from(share.get()),
            Self::Whole(chips) => u64::from(chips) * u64::from(ChipMilli::WHOLE.get()),
        }
    }
}

impl Gang {
    /// Workers for whom there is room: those that work, and those that stand by.
    pub fn room(&self) -> u32 {
        let parts = self.groups.as_ref().map_or(1, |groups| self.workers / groups.workers.max(1));
        self.workers.saturating_add(self.spares.saturating_mul(parts))
    }

    /// Its speed with some number of workers, as a share of that with the preferred number.
    pub fn speed(&self, workers: u32) -> Ppm {
        let full = u64::from(Ppm::ONE.parts());
        let ratio = |parts: u64, of: u64, by: u64| Ppm::new(u32::try_from(parts * of / by.max(1)).unwrap_or(u32::MAX));
        let Some(elastic) = self.elastic.as_ref().filter(|_| workers != self.workers) else { return Ppm::ONE };
        if elastic.speedup.is_empty() {
            return ratio(full, u64::from(workers), u64::from(self.workers));
        }
        // With none it stands still; with the preferred number it has full speed, whether that is written down or not.
        let mut points: Vec<(u32, u64)> = vec![(0, 0), (self.workers, full)];
        points.extend(elastic.speedup.iter().map(|(workers, speed)| (*workers, u64::from(speed.parts()))));
        points.sort_unstable();
        let above = points.partition_point(|(known, _)| *known < workers);
        let (Some((from, slow)), Some((to, fast))) = (points.get(above.wrapping_sub(1)), points.get(above)) else {
            return points.last().map_or(Ppm::ONE, |(_, speed)| ratio(*speed, 1, 1));
        };
        let more = fast.saturating_sub(*slow) * u64::from(workers - from) / u64::from(to - from).max(1);
        ratio(slow + more, 1, 1)
    }

    /// The chips of all workers in thousandths, of those that stand by too.
    pub fn chip_milli(&self) -> u64 {
        u64::from(self.room()) * self.chips.milli()
    }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde hands references")]
const fn is_nothing(count: &u32) -> bool {
    *count == 0
}

impl Service {
    /// Replicas that its curve wants in the hour of an instant, before its minimum; none without a curve.
    pub fn demand_at(&self, now: Timestamp) -> Option<u32> {
        let hour = usize::try_from(now.time_of_day().as_millis() / Duration::HOUR.as_millis()).ok()?;
        let share = u64::from(self.demand.get(hour)?.parts());
        u32::try_from((u64::from(self.maximum) * share).div_ceil(u64::from(Ppm::ONE.parts()))).ok()
    }
}

impl Job {
    /// The chips of all gangs in thousandths.
    pub fn chip_milli(&self) -> u64 {
        self.gangs.iter().map(Gang::chip_milli).sum()
    }

    /// Those of the chips that stand by as spares, in thousandths.
    pub fn spare_chip_milli(&self) -> u64 {
        self.gangs.iter().map(|gang| u64::from(gang.room() - gang.workers) * gang.chips.milli()).sum()
    }
}
