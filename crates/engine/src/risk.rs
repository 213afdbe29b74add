//! What would displace a running job, and how likely.
//!
//! Of stronger work that waits, it is found out by the very search that would stop others for it. Of failures, from the
//! rate at which chips fail: one of a gang's chips is enough.

use offtake_units::{Duration, Ppm, Timestamp};
use offtake_workload::Tier;

use crate::fact::JobId;
use crate::preempt::{self, is_displaceable};
use crate::state::{Phase, Stage, State};

/// Hours of one chip between two unexpected interruptions: 419 in 54 days on 16,384 GPUs ("The Llama 3 Herd of Models",
/// 2024, table 5).
pub const CHIP_HOURS_BETWEEN_FAILURES: u64 = 50_700;

/// Lanes of stronger work that are searched for, those that come first.
const MOST_SEARCHES: usize = 16;

/// What would displace a running job, and how likely.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Risk {
    /// How far it is looked ahead.
    pub horizon: Duration,
    /// It is being stopped already.
    pub stopping: bool,
    /// The tiers whose work may displace it under the policy in force; none where nothing may.
    pub displaced_by: Vec<Tier>,
    /// Thousandths of chips, of the kinds that it runs on, that its tenant has borrowed: as long as there are any, work of
    /// its own tier may displace it whose tenant wants them back. None where the policy lets nothing be taken back.
    pub borrowed: u64,
    /// Until when it is left alone, as it was placed a short time ago.
    pub protected_until: Option<Timestamp>,
    /// Stronger work that waits and would choose it now, the strongest first.
    pub chosen_by: Vec<JobId>,
    /// Stronger work that waits and would choose others, or finds nobody.
    pub spared_by: u64,
    /// The chance that one of its chips is interrupted within the horizon, or before it ends where that is sooner.
    pub failure: Ppm,
    /// The chance that it is displaced or interrupted within the horizon.
    pub any: Ppm,
    /// What it loses when it is stopped now, in milliseconds of a chip.
    pub loss: u64,
    /// What it loses on average within the horizon, in milliseconds of a chip.
    pub expected_loss: u64,
}

impl State {
    /// What would displace a running job within a horizon, and how likely; nothing for a job that does not run. The state
    /// is the same afterwards.
    pub fn risk(&mut self, job: JobId, horizon: Duration) -> Option<Risk> {
        let work = self.job(job)?;
        let Phase::Running { shape, placement, placed, since, ends, stage } = &work.phase else { return None };
        let (tier, now, placed, ends) = (work.spec.tier, self.now(), *placed, *ends);
        let stopping = matches!(stage, Stage::Stopping(_));
        let chip_milli = self.shape(*shape).chip_milli();
        let policy = self.policy.preemption.clone();
        let costs = policy.clone().unwrap_or_default();
        let loss = preempt::loss(&costs, &work.spec, chip_milli, now - placed, now - *since);
        let may = policy.is_some() && is_displaceable(&work.spec);
        let displaced_by: Vec<Tier> = Tier::ALL.into_iter().filter(|other| may && *other < tier).collect();
        let reclaims = may && costs.reclaim;
        let footprint = self.footprint(*shape, placement);
        let tenant = self.tenant_of(job).filter(|_| reclaims);
        let borrowed = |tenant| footprint.chips.iter().map(|(kind, _)| self.tenants.borrowed(tenant, *kind)).sum();
        let borrowed: u64 = tenant.map_or(0, borrowed);
        let protected = placed.saturating_add(costs.minimum_run(tier));
        let (mut chosen_by, mut spared_by) = (Vec::new(), 0);
        if may && !stopping {
            let lanes: Vec<_> = self.queue.in_order().map(|lane| self.queue.lane(lane)).collect();
            let takes_back = |job| borrowed > 0 && self.reclaim_for(job).is_some();
            let first = lanes.into_iter().filter_map(|lane| Some((lane.key.tier, lane.first()?.job)));
            let first = first.filter(|(other, job)| *other < tier || *other == tier && takes_back(*job));
            let first: Vec<JobId> = first.map(|(_, job)| job).take(MOST_SEARCHES).collect();
            for other in first {
                let plan = self.preemption_for(other);
                if plan.is_some_and(|plan| plan.victims.contains(&job)) {
                    chosen_by.push(other);
                } else {
                    spared_by += 1;
                }
            }
        }
        let exposed = (ends - now).max(Duration::ZERO);
        let exposed = if exposed < horizon { exposed } else { horizon };
        let failure = failure_within(chip_milli, exposed);
        let any = if stopping || !chosen_by.is_empty() { Ppm::ONE } else { failure };
        let expected = u128::from(loss) * u128::from(any.parts()) / u128::from(Ppm::ONE.parts());
        Some(Risk {
            horizon,
            stopping,
            displaced_by,
            borrowed,
            protected_until: (may && protected > now).then_some(protected),
            chosen_by,
            spared_by,
            failure,
            any,
            loss,
            expected_loss: u64::try_from(expected).unwrap_or(u64::MAX),
        })
    }
}

/// The chance that one of some chips is interrupted within a span, if each is at random at the published rate:
/// 1 − exp(−chips × hours / [`CHIP_HOURS_BETWEEN_FAILURES`]), in whole numbers.
pub fn failure_within(chip_milli: u64, span: Duration) -> Ppm {
    const SCALE: u128 = 1 << 40;
    const HALVINGS: u32 = 20;
    let hours_milli_ms = u128::from(chip_milli) * span.as_millis().max(0) as u128;
    let per_failure = u128::from(CHIP_HOURS_BETWEEN_FAILURES) * 3_600_000 * 1000;
    // exp(−x) = (1 − x / 2^20)^(2^20); beyond 2^20 the chance is one.
    let Some(step) = (hours_milli_ms * (SCALE >> HALVINGS) / per_failure).checked_sub(0).filter(|step| *step < SCALE)
    else {
        return Ppm::ONE;
    };
    let mut survives = SCALE - step;
    for _ in 0..HALVINGS {
        survives = survives * survives / SCALE;
    }
    Ppm::new(((SCALE - survives) * 1_000_000 / SCALE) as u32)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_large_gang_is_interrupted_as_often_as_published() {
        let of = |chips: u64, hours: i64| failure_within(chips * 1000, Duration::from_secs(hours * 3600)).parts();
        // 16,384 chips: one interruption in 3.09 hours, so 1 − 1/e within them.
        let mean = 50_700 * 3600 / 16_384;
        let within = failure_within(16_384_000, Duration::from_secs(mean)).parts();
        assert!(within.abs_diff(632_120) < 200, "{within}");
        assert!(of(8, 24).abs_diff(3_780) < 5, "{}", of(8, 24));
        assert_eq!((of(0, 24), of(1_000_000, 1_000_000), of(8, 0)), (0, 1_000_000, 0));
    }
}
