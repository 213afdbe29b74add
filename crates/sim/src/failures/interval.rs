//! Advice on how often a job should save its work: Young (CACM 17(9), 1974) and Daly (FGCS 22(3), 2006). It is advice to
//! people, in floating point; nothing is decided by it.

use offtake_units::{Duration, Ppm};
use offtake_workload::Job;

use super::model::{Effect, FailureModel, Strikes};

/// How often a job should save its work, and what that would gain.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct IntervalAdvice {
    /// The interval that it has.
    pub configured: Duration,
    /// The best by Young's first-order formula, the square root of twice the cost times the time between failures.
    pub young: Duration,
    /// The best by Daly's higher-order one, which holds where a checkpoint takes long, too.
    pub daly: Duration,
    /// Expected goodput with the interval that it has.
    pub goodput: f64,
    /// Expected goodput with Daly's.
    pub best_goodput: f64,
}

impl IntervalAdvice {
    /// For a job that works `configured` long between two checkpoints of which each takes `cost`, fails once in `mtbf`, and
    /// then takes `restart` until it works again. None where checkpoints cost nothing or it never fails.
    pub fn of(configured: Duration, cost: Duration, mtbf: Duration, restart: Duration) -> Option<Self> {
        let [tau, delta, mtbf, restart] = [configured, cost, mtbf, restart].map(Duration::as_secs_f64);
        if delta <= 0.0 || mtbf <= 0.0 || tau <= 0.0 {
            return None;
        }
        let young = (2.0 * delta * mtbf).sqrt();
        let part = (delta / (2.0 * mtbf)).sqrt();
        let daly = if delta < 2.0 * mtbf { young * (1.0 + part / 3.0 + part * part / 9.0) - delta } else { mtbf };
        // Daly's equation for the wall time of work of length T, solved for T over that.
        let goodput = |tau: f64| tau / (mtbf * (restart / mtbf).exp() * ((tau + delta) / mtbf).exp_m1());
        Some(Self {
            configured,
            young: seconds(young),
            daly: seconds(daly),
            goodput: goodput(tau),
            best_goodput: goodput(daly),
        })
    }

    /// For a job on a fleet that fails like this, whose storage gives it a bandwidth, in bytes a second.
    pub fn on(job: &Job, failures: &FailureModel, bandwidth: Option<u64>) -> Option<Self> {
        let checkpoint = job.checkpoint.filter(|_| !failures.asynchronous)?;
        let cost = |bandwidth: u64| seconds(checkpoint.bytes as f64 / bandwidth.max(1) as f64);
        let cost = bandwidth.map(cost)?;
        let restart = failures.detect + failures.image + failures.initialise + cost;
        Self::of(checkpoint.interval, cost, failures.mtbf(job.chip_milli() - job.spare_chip_milli())?, restart)
    }
}

impl FailureModel {
    /// Mean time between two failures that end a job on so many chips, in thousandths, as far as its chips and their nodes
    /// cause them. None where they never do.
    pub fn mtbf(&self, chip_milli: u64) -> Option<Duration> {
        let chips = self.classes.iter().filter(|class| class.strikes == Strikes::Chips);
        let rate: f64 = chips
            .map(|class| {
                let weight = |ends: bool| {
                    let counts =
                        class.causes.iter().filter(|cause| !ends || !matches!(cause.effect, Effect::Slow { .. }));
                    counts.map(|cause| f64::from(cause.weight)).sum::<f64>()
                };
                weight(true) / weight(false).max(1.0) / class.every.as_secs_f64().max(1e-3)
            })
            .sum();
        let chips = chip_milli as f64 / 1000.0;
        (rate * chips > 0.0).then(|| seconds(1.0 / (rate * chips)))
    }
}

fn seconds(seconds: f64) -> Duration {
    Duration::from_millis((seconds * 1000.0).min(i64::MAX as f64 / 4.0) as i64)
}

/// The share by which goodput would grow over some jobs, each by its chips and its time, if all took their advice.
pub(crate) fn gain<'a>(jobs: impl Iterator<Item = (&'a Job, Option<IntervalAdvice>)>) -> f64 {
    let (mut gained, mut all) = (0.0, 0.0);
    for (job, advice) in jobs {
        let Some(duration) = job.duration else { continue };
        let work = job.chip_milli() as f64 / f64::from(Ppm::ONE.parts()) * duration.as_secs_f64();
        all += work;
        gained += work * advice.map_or(0.0, |advice| advice.best_goodput - advice.goodput);
    }
    if all > 0.0 { gained / all } else { 0.0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn secs(seconds: i64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn the_advice_is_that_of_the_papers() {
        // Young: the square root of 2 · 60 s · 86,400 s is 3,220 s; Daly's is 3,240 s less the 60.
        let advice = IntervalAdvice::of(secs(600), secs(60), secs(86_400), secs(300)).expect("it fails");
        assert_eq!(advice.young.as_millis() / 1000, 3_219);
        assert_eq!(advice.daly.as_millis() / 1000, 3_180);
        assert!((advice.goodput - 0.902).abs() < 0.002 && (advice.best_goodput - 0.959).abs() < 0.002, "{advice:?}");
        assert!(IntervalAdvice::of(secs(600), secs(0), secs(86_400), secs(300)).is_none());
        let hopeless = IntervalAdvice::of(secs(600), secs(900), secs(300), secs(0)).expect("it fails");
        assert_eq!(hopeless.daly, secs(300), "a checkpoint that takes longer than twice the time between failures");
    }

    #[test]
    fn no_interval_is_better_than_the_one_advised() {
        for (cost, mtbf) in [(1, 3_600), (30, 7_200), (300, 86_400), (5, 600)] {
            let of = |interval| IntervalAdvice::of(interval, secs(cost), secs(mtbf), secs(120)).expect("it fails");
            let best = of(secs(600)).best_goodput;
            for interval in (10..20_000).step_by(10) {
                let goodput = of(secs(interval)).goodput;
                assert!(goodput < best + 0.002, "{cost} s every {interval} s at {mtbf} s: {goodput} against {best}");
            }
        }
    }

    #[test]
    fn a_large_job_fails_more_often() {
        let model = FailureModel::default();
        let one = model.mtbf(1_000).expect("it fails").as_secs_f64() / 3_600.0;
        let many = model.mtbf(16_384_000).expect("it fails").as_secs_f64() / 3_600.0;
        assert!((one - 50_678.0).abs() < 2.0 && (many - 3.093).abs() < 0.01, "{one} {many}");
    }
}
