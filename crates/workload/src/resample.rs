//! A trace at another load: its jobs drawn anew, so that a fleet of any size is as busy as asked, from the first moment
//! on.
//!
//! A trace has one length and one load, and ramps up from an empty cluster. Here its jobs are drawn with replacement as
//! a Poisson process, at the rate at which the expected demand of chip-time is `offered_load` × capacity. Jobs without
//! chips are drawn like all others, in their proportion; jobs whose duration the trace does not tell are left out and
//! counted. Services are carried over as they are.
//!
//! At the start, the jobs are there that a process running forever would have left running, had each started when it
//! came: a job of duration *d* is there with a mean number of *d* × its rate, and has run a time drawn evenly from 0 to
//! *d* (this is exact: the arrivals before the start that outlive it are themselves a Poisson process over job and time
//! run). They are submitted at the start, in the order in which they would have come, with the duration that remains.
//! So the mean load is the same at every instant.
//!
//! The realised load differs from the offered one by chance, the more so where a few long jobs carry the demand: it is
//! reported.

use offtake_units::{Duration, Ppm, Timestamp};

use crate::check::MOST_JOBS;
use crate::human::{LAST_TIMESTAMP, LONGEST_DURATION};
use crate::rng::Rng;
use crate::{Job, Workload};

/// What to draw.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Resampling {
    /// Expected demand of chip-time over that of the capacity.
    pub offered_load: Ppm,
    /// The chips to be kept busy, in thousandths.
    pub capacity_chip_milli: u64,
    /// The first instant.
    pub start: Timestamp,
    /// How long jobs arrive.
    pub horizon: Duration,
    /// What all random draws come from.
    pub seed: u64,
}

/// What was drawn.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resampled {
    /// The work. A job that is drawn for the third time is called `name#3`.
    pub workload: Workload,
    /// Chip-time wanted between start and end of the horizon, if every job started when it is submitted, over the
    /// capacity's.
    pub realised_load: Ppm,
    /// Jobs that are there at the start.
    pub running_at_start: u64,
    /// Jobs that arrive later.
    pub arrivals: u64,
    /// Mean time between two arrivals, rounded down.
    pub mean_gap: Duration,
    /// Jobs of the trace that were not drawn from, as their duration is not known.
    pub without_duration: u64,
}

/// Why nothing can be drawn.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ResampleError {
    /// No job asks for chips for a known time.
    #[error("no job of the trace has chips and a duration: there is no demand to scale")]
    NoDemand,
    /// The offered load is zero.
    #[error("the offered load is 0; allowed is more than that, such as 1.1")]
    NoLoad,
    /// The capacity is zero.
    #[error("the capacity is 0 chips; allowed is more than that")]
    NoCapacity,
    /// The window is empty, too long, or beyond the calendar.
    #[error("the horizon is {given}; allowed is more than nothing, up to 100 years, and within the years 1970 to 9998")]
    Horizon {
        /// The horizon.
        given: Duration,
    },
    /// More jobs would be drawn than are allowed.
    #[error("about {expected} jobs would be drawn; allowed are {limit}: shorten the horizon or lower the load")]
    TooMany {
        /// The expected number.
        expected: u64,
        /// The largest.
        limit: u64,
    },
}

/// Draws the jobs of a trace anew at a load.
///
/// # Errors
/// When there is no demand to scale, or the request cannot be meant.
pub fn resample(source: &Workload, how: &Resampling) -> Result<Resampled, ResampleError> {
    let pool: Vec<Drawable<'_>> = source.jobs.iter().filter_map(Drawable::of).collect();
    let rate = Rate::of(&pool, how)?;
    let root = Rng::new(how.seed).derive("resample");
    let mut drawing = Drawing { how, pool: &pool, times_drawn: vec![0; pool.len()], jobs: Vec::new(), wanted: 0 };
    drawing.already_running(&rate, root.derive("running"));
    let running_at_start = drawing.jobs.len() as u64;
    drawing.arriving(&rate, root.derive("arrivals"), root.derive("jobs"));
    let capacity = u128::from(how.capacity_chip_milli) * how.horizon.as_millis() as u128;
    let load_ppm = drawing.wanted.saturating_mul(u128::from(Ppm::ONE.parts())) / capacity;
    Ok(Resampled {
        realised_load: Ppm::new(u32::try_from(load_ppm).unwrap_or(u32::MAX)),
        running_at_start,
        arrivals: drawing.jobs.len() as u64 - running_at_start,
        mean_gap: Duration::from_millis(i64::try_from(rate.gap_q32 >> 32).unwrap_or(i64::MAX)),
        without_duration: (source.jobs.len() - pool.len()) as u64,
        workload: Workload { jobs: drawing.jobs, services: source.services.clone() },
    })
}

/// A job of the trace that ends.
struct Drawable<'a> {
    job: &'a Job,
    duration_ms: u64,
    chip_milli: u64,
}

impl<'a> Drawable<'a> {
    fn of(job: &'a Job) -> Option<Self> {
        let duration = job.duration.filter(|duration| (Duration::ZERO..=LONGEST_DURATION).contains(duration))?;
        let duration_ms = (duration.as_millis() as u64).max(1);
        Some(Self { job, duration_ms, chip_milli: job.chip_milli() })
    }
}

/// How often jobs come. Times have 32 bits after the point, in milliseconds.
struct Rate {
    /// Between two arrivals of any job.
    gap_q32: u128,
    /// Between two arrivals of one job of the pool.
    gap_of_one_q32: u128,
}

impl Rate {
    fn of(pool: &[Drawable<'_>], how: &Resampling) -> Result<Self, ResampleError> {
        if how.offered_load == Ppm::new(0) {
            return Err(ResampleError::NoLoad);
        }
        if how.capacity_chip_milli == 0 {
            return Err(ResampleError::NoCapacity);
        }
        let horizon = how.horizon;
        let end = how.start.saturating_add(horizon);
        if horizon <= Duration::ZERO
            || horizon > LONGEST_DURATION
            || how.start < Timestamp::EPOCH
            || end > LAST_TIMESTAMP
        {
            return Err(ResampleError::Horizon { given: horizon });
        }
        let too_many = |expected: u128| ResampleError::TooMany {
            expected: u64::try_from(expected).unwrap_or(u64::MAX),
            limit: MOST_JOBS,
        };
        let demand: u128 = pool.iter().map(|one| u128::from(one.chip_milli) * u128::from(one.duration_ms)).sum();
        if demand == 0 {
            return Err(ResampleError::NoDemand);
        }
        // One job of the pool comes every `demand` / (load × capacity); any of them as many times as often.
        let offered = u128::from(how.offered_load.parts()) * u128::from(how.capacity_chip_milli);
        let gap_of_one_q32 = ratio_q32(demand, u128::from(Ppm::ONE.parts()), offered);
        let gap_q32 = gap_of_one_q32 / pool.len() as u128;
        if gap_q32 == 0 {
            return Err(too_many(u128::MAX));
        }
        let all_durations: u128 = pool.iter().map(|one| u128::from(one.duration_ms)).sum();
        let expected = ((horizon.as_millis() as u128) << 32) / gap_q32 + (all_durations << 32) / gap_of_one_q32;
        if expected > u128::from(MOST_JOBS) {
            return Err(too_many(expected));
        }
        Ok(Self { gap_q32, gap_of_one_q32 })
    }
}

/// `amount` × `factor` / `divisor` with 32 bits after the point, as exactly as 128 bits allow.
fn ratio_q32(amount: u128, factor: u128, divisor: u128) -> u128 {
    match amount.checked_mul(factor << 32) {
        Some(product) => product / divisor,
        None => (amount / divisor).saturating_mul(factor << 32),
    }
}

/// The jobs that have been drawn so far.
struct Drawing<'a> {
    how: &'a Resampling,
    pool: &'a [Drawable<'a>],
    times_drawn: Vec<u64>,
    jobs: Vec<Job>,
    /// Thousandths of chips × milliseconds within the horizon.
    wanted: u128,
}

impl Drawing<'_> {
    /// Lays the durations of the pool end to end and walks along them in steps of a Poisson process: each point hit is a
    /// job that is running, and how long it has run.
    fn already_running(&mut self, rate: &Rate, mut rng: Rng) {
        let mut hits = Vec::new();
        let mut position_q32 = rng.exponential(rate.gap_of_one_q32);
        let mut begin_q32 = 0;
        for (index, one) in self.pool.iter().enumerate() {
            let end_q32 = begin_q32 + (u128::from(one.duration_ms) << 32);
            while position_q32 < end_q32 {
                let has_run_ms = ((position_q32 - begin_q32) >> 32) as u64;
                hits.push((has_run_ms, index));
                position_q32 = position_q32.saturating_add(rng.exponential(rate.gap_of_one_q32));
            }
            begin_q32 = end_q32;
        }
        // The longest here came first.
        hits.sort_unstable_by(|a, b| b.cmp(a));
        for (has_run_ms, index) in hits {
            self.add(index, self.how.start, has_run_ms);
        }
    }

    fn arriving(&mut self, rate: &Rate, mut arrivals: Rng, mut choices: Rng) {
        let end_q32 = (self.how.horizon.as_millis() as u128) << 32;
        let mut clock_q32 = arrivals.exponential(rate.gap_q32);
        while clock_q32 < end_q32 {
            let index = choices.below(self.pool.len() as u64) as usize;
            self.add(index, self.how.start + Duration::from_millis((clock_q32 >> 32) as i64), 0);
            clock_q32 = clock_q32.saturating_add(arrivals.exponential(rate.gap_q32));
        }
    }

    fn add(&mut self, index: usize, submitted: Timestamp, has_run_ms: u64) {
        let one = &self.pool[index];
        self.times_drawn[index] += 1;
        let rest = Duration::from_millis((one.duration_ms - has_run_ms) as i64);
        let came = submitted - Duration::from_millis(has_run_ms as i64);
        // A deadline keeps its distance to the arrival, and leaves a job that is running the time that it needs.
        let deadline = one.job.deadline.map(|deadline| {
            let moved = came.saturating_add(deadline - one.job.submitted);
            let kept = if has_run_ms > 0 { moved.max(submitted.saturating_add(rest)) } else { moved };
            kept.min(LAST_TIMESTAMP)
        });
        self.jobs.push(Job {
            name: format!("{}#{}", one.job.name, self.times_drawn[index]),
            submitted,
            duration: Some(rest),
            deadline,
            // Those that it waited for are drawn as often as it comes, or not at all.
            after: Vec::new(),
            ..one.job.clone()
        });
        let end = self.how.start + self.how.horizon;
        let inside = (end - submitted).min(rest);
        self.wanted += u128::from(one.chip_milli) * inside.as_millis() as u128;
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use offtake_units::{CpuMilli, Mebibytes};

    use super::*;
    use crate::{ChipRequest, Gang, Tier};

    fn job(name: &str, chips: ChipRequest, hours: Option<i64>) -> Job {
        let gang = Gang { workers: 1, chips, cpu: CpuMilli::new(1000), memory: Mebibytes::ZERO, ..Gang::default() };
        Job {
            name: name.to_owned(),
            tenant: "t".to_owned(),
            tier: Tier::Standard,
            submitted: Timestamp::from_secs(1000),
            duration: hours.map(|hours| Duration::from_secs(hours * 3600)),
            deadline: Some(Timestamp::from_secs(1000) + Duration::DAY),
            checkpoint: None,
            pause: None,
            preemptible: false,
            gangs: vec![gang],
            ..Job::default()
        }
    }

    fn source() -> Workload {
        let jobs = vec![
            job("big", ChipRequest::Whole(8), Some(10)),
            job("small", ChipRequest::Whole(1), Some(2)),
            job("host", ChipRequest::None, Some(1)),
            job("endless", ChipRequest::Whole(8), None),
        ];
        Workload { jobs, services: Vec::new() }
    }

    const HOW: Resampling = Resampling {
        offered_load: Ppm::new(1_100_000),
        capacity_chip_milli: 1_000_000,
        start: Timestamp::from_secs(86_400 * 365),
        horizon: Duration::from_secs(86_400 * 14),
        seed: 5,
    };

    #[test]
    fn the_load_is_the_one_offered_from_the_first_moment_on() {
        let drawn = resample(&source(), &HOW).expect("there is demand");
        let jobs = &drawn.workload.jobs;
        assert_eq!(drawn, resample(&source(), &HOW).expect("again"));
        assert!((1_070_000..1_130_000).contains(&drawn.realised_load.parts()), "{:?}", drawn.realised_load);
        assert_eq!(drawn.without_duration, 1);
        assert_eq!(drawn.running_at_start + drawn.arrivals, jobs.len() as u64);
        assert!(jobs.windows(2).all(|pair| pair[0].submitted <= pair[1].submitted));
        let busy_at = |hours: i64| -> u64 {
            let at = HOW.start + Duration::from_secs(hours * 3600);
            let runs = |job: &&Job| job.submitted <= at && job.submitted + job.duration.expect("it ends") > at;
            jobs.iter().filter(runs).map(Job::chip_milli).sum()
        };
        for hours in [0, 1, 24, 200, 335] {
            assert!((950_000..1_250_000).contains(&busy_at(hours)), "{hours} h: {}", busy_at(hours));
        }
        let hosts = jobs.iter().filter(|job| job.chip_milli() == 0).count() as u64;
        assert!((drawn.arrivals / 3 * 9 / 10..drawn.arrivals / 3 * 11 / 10).contains(&hosts), "{hosts}");
    }

    #[test]
    fn names_are_unique_and_jobs_can_be_meant() {
        let drawn = resample(&source(), &HOW).expect("there is demand");
        let names: BTreeSet<_> = drawn.workload.jobs.iter().map(|job| &job.name).collect();
        assert_eq!(names.len(), drawn.workload.jobs.len());
        assert!(names.iter().any(|name| *name == "big#3"));
        drawn.workload.jobs.iter().try_for_each(crate::check::job).expect("each can be meant");
    }

    #[test]
    fn a_request_that_cannot_be_meant_is_refused() {
        let refused = |how: Resampling| resample(&source(), &how).expect_err("refused");
        assert_eq!(refused(Resampling { offered_load: Ppm::new(0), ..HOW }), ResampleError::NoLoad);
        assert_eq!(refused(Resampling { capacity_chip_milli: 0, ..HOW }), ResampleError::NoCapacity);
        let horizon = Resampling { horizon: Duration::ZERO, ..HOW };
        assert!(matches!(refused(horizon), ResampleError::Horizon { .. }));
        let endless = Resampling { capacity_chip_milli: u64::MAX, ..HOW };
        assert!(matches!(refused(endless), ResampleError::TooMany { .. }));
        let nothing = Workload::default();
        assert_eq!(resample(&nothing, &HOW), Err(ResampleError::NoDemand));
    }
}
