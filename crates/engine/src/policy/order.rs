//! Who goes first.

use offtake_units::{Duration, Ppm};
use serde::{Deserialize, Serialize};

/// Who goes first of those that wait.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Order {
    /// The strongest tier, then who came first.
    #[default]
    Turn,
    /// The strongest tier; there who has waited too long; then the tenant with the least weighted dominant share of the
    /// fleet (Ghodsi et al., NSDI 2011); there the highest priority, then who came first.
    FairShare,
    /// The highest sum of weighted factors, as Slurm's `priority/multifactor` has it; for comparison.
    Multifactor,
    /// Who stays within the quota of its tenant; then the strongest tier, the highest priority, who came first, as in
    /// Kueue's cohorts without fair sharing; nothing is held for anybody. For comparison.
    Cohort,
}

/// What counts in a share, and how long anybody waits behind others of the same tier.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Fairness {
    /// The time after which what was held counts half; zero counts only what is held now.
    pub half_life: Duration,
    /// A job that waits longer than this goes before others of its tier, whatever the shares; none for never.
    pub ageing: Option<Duration>,
}

impl Default for Fairness {
    /// Seven days each: the half-life that Slurm's `PriorityDecayHalfLife` has.
    fn default() -> Self {
        let week = Duration::from_secs(7 * 86_400);
        Self { half_life: week, ageing: Some(week) }
    }
}

/// The weights of the factors of [`Order::Multifactor`]: each factor is between 0 and 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Multifactor {
    /// Time waited, over `max_age`.
    pub age: u32,
    /// 2^(−use / share): what the tenant had of all that was had, against its part by weight.
    pub fair_share: u32,
    /// Chips asked for, over those of the fleet.
    pub job_size: u32,
    /// 1 for the strongest tier, 0 for the weakest.
    pub tier: u32,
    /// The time waited at which its factor is 1.
    pub max_age: Duration,
}

impl Default for Multifactor {
    /// The proportions of the example in Slurm's own guide to the plugin, and its `PriorityMaxAge` of seven days; the
    /// tier outweighs all else.
    fn default() -> Self {
        let max_age = Duration::from_secs(7 * 86_400);
        Self { age: 1000, fair_share: 10_000, job_size: 1000, tier: 100_000, max_age }
    }
}

/// The factors of a job.
#[derive(Clone, Copy, Debug)]
pub struct Factors {
    /// Time waited.
    pub waited: Duration,
    /// The tenant's factor.
    pub fair_share: Ppm,
    /// The job's size.
    pub job_size: Ppm,
    /// Tiers that are weaker, of three.
    pub weaker_tiers: u32,
    /// Its priority, which is added as it is, as Slurm subtracts a nice value.
    pub priority: i32,
}

impl Multifactor {
    /// The sum of a job's weighted factors, in millionths; the highest goes first.
    pub fn sum(&self, factors: &Factors) -> i128 {
        let one = i128::from(Ppm::ONE.parts());
        let age = i128::from(factors.waited.as_millis().max(0)) * one / i128::from(self.max_age.as_millis().max(1));
        let parts = [
            (self.age, age.min(one)),
            (self.fair_share, i128::from(factors.fair_share.parts())),
            (self.job_size, i128::from(factors.job_size.parts())),
            (self.tier, i128::from(factors.weaker_tiers) * one / 3),
        ];
        parts.into_iter().map(|(weight, factor)| i128::from(weight) * factor).sum::<i128>()
            + i128::from(factors.priority) * one
    }
}

impl Order {
    /// Whether it asks what tenants have had.
    pub const fn needs_shares(self) -> bool {
        matches!(self, Self::FairShare | Self::Multifactor)
    }

    /// Whether jobs of different tenants or priorities stand apart.
    pub const fn tells_tenants_apart(self) -> bool {
        !matches!(self, Self::Turn)
    }
}
