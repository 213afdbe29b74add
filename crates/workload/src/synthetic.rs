//! Made-up workloads, described by a few numbers and a seed.
//!
//! A description is a mix of classes of jobs, a mean time between two arrivals, and perhaps a pattern of the day. The
//! same description and seed give the same jobs on every machine: arrivals, classes and durations are drawn in integers
//! (see [`crate::rng`]), each from its own branch of the tree, so that a change of one class's durations moves no
//! arrival.
//!
//! *Arrivals* are a Poisson process. With a pattern of the day they are one of the busiest hour's rate, thinned in the
//! other hours; the mean over a day stays the same.
//!
//! *Durations* follow a quantile function: given by points and straight lines between them, or log-normal through its
//! median and its 99th percentile, cut at 99.99%.

use offtake_units::{Duration, Ppm, Timestamp};
use serde::{Deserialize, Serialize};

use crate::check::{self, Fault, MOST_JOBS};
use crate::fixed::{self, NORMAL_P99_Q32, ONE_Q32};
use crate::human::{self, LAST_TIMESTAMP, LONGEST_DURATION};
use crate::rng::Rng;
use crate::trace::gang_text;
use crate::{Checkpoint, Gang, Job, Tier, Workload};

/// A described workload.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Synthetic {
    /// What all random draws come from.
    pub seed: u64,
    /// How many jobs.
    pub jobs: u64,
    /// When arrivals begin.
    #[serde(with = "human::timestamp")]
    pub start: Timestamp,
    /// Mean time between two arrivals, over a whole day.
    #[serde(with = "human::duration")]
    pub mean_gap: Duration,
    /// How busy each hour of the day is, in UTC and against the others; 24 values, or none for a steady rate.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub hourly_weights: Vec<u32>,
    /// The mix of jobs.
    pub classes: Vec<Class>,
}

/// Jobs of one kind.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Class {
    /// Its name; its jobs are `name-number`.
    pub name: String,
    /// How frequent its jobs are, against the other classes.
    pub weight: u32,
    /// Who pays.
    pub tenant: String,
    /// Who may displace whom.
    pub tier: Tier,
    /// Whether its jobs may be stopped for others.
    #[serde(default)]
    pub preemptible: bool,
    /// How long its jobs run.
    pub duration: Spread,
    /// Each job must have ended this long after it could first have; none for no deadline.
    #[serde(default, with = "human::optional_duration", skip_serializing_if = "Option::is_none")]
    pub slack: Option<Duration>,
    /// The reservation on whose nodes its jobs may run.
    #[serde(default)]
    pub reservation: Option<String>,
    /// Time between two checkpoints.
    #[serde(default, with = "human::optional_duration", skip_serializing_if = "Option::is_none")]
    pub checkpoint_interval: Option<Duration>,
    /// Bytes of one checkpoint, over all workers; beside an interval only.
    #[serde(default, rename = "checkpoint_size", with = "human::bytes")]
    pub checkpoint_bytes: u64,
    /// The longest time for which its jobs stand being paused where they run while power is short; none where they stand
    /// no pause.
    #[serde(default, with = "human::optional_duration", skip_serializing_if = "Option::is_none")]
    pub pause: Option<Duration>,
    /// What each job asks for.
    #[serde(with = "gang_text")]
    pub gangs: Vec<Gang>,
}

/// How durations are distributed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Spread {
    /// Always the same.
    Fixed(#[serde(with = "human::duration")] Duration),
    /// Log-normal through two points.
    LogNormal {
        /// Half are shorter.
        #[serde(with = "human::duration")]
        p50: Duration,
        /// 99% are shorter.
        #[serde(with = "human::duration")]
        p99: Duration,
    },
    /// Straight lines between points of rising share and duration, the first of share 0, the last of the whole.
    Quantiles(Vec<Quantile>),
}

/// A point of a distribution.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Quantile {
    /// The share that is shorter.
    pub share_ppm: Ppm,
    /// Than this.
    #[serde(with = "human::duration")]
    pub duration: Duration,
}

impl Spread {
    /// A duration, drawn.
    pub fn draw(&self, rng: &mut Rng) -> Duration {
        self.quantile(rng.share_q32())
    }

    /// The duration below which this share lies; the share has 32 bits after the point.
    fn quantile(&self, share_q32: u64) -> Duration {
        let millis = |ms: u64| Duration::from_millis(ms.clamp(1, longest_ms()) as i64);
        match self {
            Self::Fixed(duration) => *duration,
            Self::LogNormal { p50, p99 } => {
                let (median, high) = (p50.as_millis() as u64, p99.as_millis() as u64);
                let to_p99 = fixed::log2_q32(high).saturating_sub(fixed::log2_q32(median));
                let deviation = i128::from(fixed::normal_quantile_q32(share_q32));
                let exponent = deviation * i128::from(to_p99) / i128::from(NORMAL_P99_Q32);
                millis(fixed::times_power_of_2(median, exponent as i64, longest_ms()))
            }
            Self::Quantiles(points) => {
                let at = |point: &Quantile| u128::from(point.share_ppm.parts()) * u128::from(ONE_Q32) / 1_000_000;
                let share = u128::from(share_q32);
                let after = points.partition_point(|point| at(point) <= share);
                match (points.get(after.wrapping_sub(1)), points.get(after)) {
                    (Some(low), Some(high)) => {
                        let (y0, y1) = (low.duration.as_millis() as u128, high.duration.as_millis() as u128);
                        millis((y0 + (y1 - y0) * (share - at(low)) / (at(high) - at(low))) as u64)
                    }
                    (Some(only), None) | (None, Some(only)) => only.duration,
                    (None, None) => Duration::from_millis(1),
                }
            }
        }
    }

    /// The mean duration, from equal steps of the quantile function.
    fn mean_ms(&self) -> u128 {
        const STEPS: u64 = 1 << 14;
        const STEP_Q32: u64 = ONE_Q32 / STEPS;
        let middles = (0..STEPS).map(|step| step * STEP_Q32 + STEP_Q32 / 2);
        middles.map(|share| self.quantile(share).as_millis() as u128).sum::<u128>() / u128::from(STEPS)
    }

    /// Whether it can be meant; `field` names it in the fault.
    ///
    /// # Errors
    /// When a duration is out of bounds, or the points do not rise from none to all.
    pub fn check(&self, field: &str) -> Result<(), Fault> {
        match self {
            Self::Fixed(duration) => span(field, *duration),
            Self::LogNormal { p50, p99 } => {
                span(field, *p50)?;
                span(field, *p99)?;
                if p99 < p50 {
                    return Err(Fault::new(field, human::write_duration(*p99), "a `p99` not below `p50`"));
                }
                Ok(())
            }
            Self::Quantiles(points) => {
                points.iter().try_for_each(|point| span(field, point.duration))?;
                let whole = points.first().is_some_and(|first| first.share_ppm == Ppm::new(0))
                    && points.last().is_some_and(|last| last.share_ppm == Ppm::ONE);
                let rises =
                    |pair: &[Quantile]| pair[0].share_ppm < pair[1].share_ppm && pair[0].duration <= pair[1].duration;
                if !whole || !points.windows(2).all(rises) {
                    let allowed = "points of rising share and not falling duration, from share 0 to share 1000000";
                    return Err(Fault::new(field, format!("{} points", points.len()), allowed));
                }
                Ok(())
            }
        }
    }
}

const fn longest_ms() -> u64 {
    LONGEST_DURATION.as_millis() as u64
}

fn span(field: &str, span: Duration) -> Result<(), Fault> {
    if span > Duration::ZERO && span <= LONGEST_DURATION {
        return Ok(());
    }
    Err(Fault::new(field, human::write_duration(span), human::DURATION_ALLOWED))
}

impl Synthetic {
    /// The jobs, one after the other in the order of submission, without holding them.
    ///
    /// # Errors
    /// When the description cannot be meant.
    pub fn generate(&self) -> Result<Jobs<'_>, Fault> {
        self.check()?;
        let root = Rng::new(self.seed).derive("synthetic");
        let busiest = self.hourly_weights.iter().copied().max().map_or(1, u64::from);
        let all: u64 = self.hourly_weights.iter().copied().map(u64::from).sum();
        // The rate of the busiest hour is 24 × its weight / all weights times the mean rate.
        let mean_q32 = u128::from(self.mean_gap.as_millis() as u64) << 32;
        let busy_gap_q32 = if all == 0 { mean_q32 } else { mean_q32 * u128::from(all) / u128::from(24 * busiest) };
        let classes: Vec<u64> = self
            .classes
            .iter()
            .scan(0, |sum, class| {
                *sum += u64::from(class.weight);
                Some(*sum)
            })
            .collect();
        Ok(Jobs {
            described: self,
            given: 0,
            clock_q32: (self.start.as_millis() as u128) << 32,
            busy_gap_q32,
            busiest,
            cumulative_weights: classes,
            arrivals: root.derive("arrivals"),
            choices: root.derive("classes"),
            durations: root.derive("durations"),
        })
    }

    /// The jobs as a workload.
    ///
    /// # Errors
    /// When the description cannot be meant.
    pub fn workload(&self) -> Result<Workload, Fault> {
        let mut jobs = Vec::new();
        // Millions of jobs are moved again and again while the list grows. Where so much memory cannot be had, it does.
        let _ = jobs.try_reserve_exact(self.jobs as usize);
        jobs.extend(self.generate()?);
        Ok(Workload { jobs, services: Vec::new() })
    }

    /// The mean gap between arrivals at which the expected demand is this share of a capacity; nothing when no class
    /// asks for chips, no gap of a millisecond or more does it, or the description cannot be
    /// meant.
    pub fn gap_for_load(&self, offered_load: Ppm, capacity: u64) -> Option<Duration> {
        self.check().ok()?;
        let weights: u128 = self.classes.iter().map(|class| u128::from(class.weight)).sum();
        let demand = self.classes.iter().map(Class::weighted_chip_time).fold(0, u128::saturating_add);
        let offered = u128::from(offered_load.parts()).checked_mul(u128::from(capacity))?.checked_mul(weights)?;
        let gap_ms = demand.checked_mul(u128::from(Ppm::ONE.parts()))?.checked_div(offered)?;
        let gap = Duration::from_millis(i64::try_from(gap_ms).ok()?);
        (gap > Duration::ZERO && gap <= LONGEST_DURATION).then_some(gap)
    }

    fn check(&self) -> Result<(), Fault> {
        if !(Timestamp::EPOCH..=LAST_TIMESTAMP).contains(&self.start) {
            return Err(Fault::new("start", self.start.as_millis(), human::TIMESTAMP_ALLOWED));
        }
        if self.jobs > MOST_JOBS {
            return Err(Fault::new("jobs", self.jobs, format!("up to {MOST_JOBS}")));
        }
        span("mean_gap", self.mean_gap)?;
        let hours = self.hourly_weights.len();
        if hours != 0 && hours != 24 {
            return Err(Fault::new("hourly_weights", format!("{hours} values"), "24 values, or none"));
        }
        if hours == 24 && self.hourly_weights.iter().all(|weight| *weight == 0) {
            return Err(Fault::new("hourly_weights", 0, "at least one above zero"));
        }
        if self.classes.iter().all(|class| class.weight == 0) {
            return Err(Fault::new("classes", self.classes.len(), "at least one with a `weight` above zero"));
        }
        for (index, class) in self.classes.iter().enumerate() {
            let field = format!("classes[{index}].");
            class.duration.check(&format!("{field}duration"))?;
            if let Some(slack) = class.slack {
                span(&format!("{field}slack"), slack)?;
            }
            // A job of the class stands for all that it gives.
            let longest = class.duration.quantile(ONE_Q32 - 1);
            check::job(&class.job(u64::MAX, self.start, longest))
                .map_err(|fault| Fault { field: format!("{field}{}", fault.field), ..fault })?;
        }
        Ok(())
    }
}

impl Class {
    fn job(&self, number: u64, submitted: Timestamp, duration: Duration) -> Job {
        Job {
            name: format!("{}-{number}", self.name),
            tenant: self.tenant.clone(),
            tier: self.tier,
            submitted,
            duration: Some(duration),
            deadline: self.slack.map(|slack| submitted.saturating_add(duration).saturating_add(slack)),
            checkpoint: self.checkpoint_interval.map(|interval| Checkpoint { interval, bytes: self.checkpoint_bytes }),
            pause: self.pause,
            preemptible: self.preemptible,
            reservation: self.reservation.clone(),
            gangs: self.gangs.clone(),
            ..Job::default()
        }
    }

    /// Weight × thousandths of chips × mean milliseconds.
    fn weighted_chip_time(&self) -> u128 {
        let chip_milli: u128 = self.gangs.iter().map(|gang| u128::from(gang.chip_milli())).sum();
        (u128::from(self.weight) * chip_milli).saturating_mul(self.duration.mean_ms())
    }
}

/// The jobs of a description.
#[derive(Clone, Debug)]
pub struct Jobs<'a> {
    described: &'a Synthetic,
    given: u64,
    clock_q32: u128,
    busy_gap_q32: u128,
    busiest: u64,
    cumulative_weights: Vec<u64>,
    arrivals: Rng,
    choices: Rng,
    durations: Rng,
}

impl Jobs<'_> {
    fn next_arrival(&mut self) -> Timestamp {
        loop {
            let gap = self.arrivals.exponential(self.busy_gap_q32);
            self.clock_q32 = self.clock_q32.saturating_add(gap);
            let at = Timestamp::from_millis(i64::try_from(self.clock_q32 >> 32).unwrap_or(i64::MAX));
            let hour = at.time_of_day().as_millis() / Duration::HOUR.as_millis();
            let Some(weight) = self.described.hourly_weights.get(hour as usize) else {
                return at;
            };
            if self.arrivals.below(self.busiest) < u64::from(*weight) {
                return at;
            }
        }
    }
}

impl Iterator for Jobs<'_> {
    type Item = Job;

    /// Ends early where the calendar does, at the end of the year 9998.
    fn next(&mut self) -> Option<Job> {
        if self.given == self.described.jobs {
            return None;
        }
        let submitted = self.next_arrival();
        let total = self.cumulative_weights.last().copied()?;
        let chosen = self.choices.below(total);
        let class = self.described.classes.get(self.cumulative_weights.partition_point(|sum| *sum <= chosen))?;
        let duration = class.duration.quantile(self.durations.share_q32());
        let job = class.job(self.given, submitted, duration);
        if submitted > LAST_TIMESTAMP || job.deadline.is_some_and(|deadline| deadline > LAST_TIMESTAMP) {
            self.given = self.described.jobs;
            return None;
        }
        self.given += 1;
        Some(job)
    }
}

#[cfg(test)]
mod tests {

    use offtake_units::{CpuMilli, Mebibytes};

    use super::*;
    use crate::ChipRequest;

    fn described() -> Synthetic {
        let gang = Gang {
            workers: 4,
            chips: ChipRequest::Whole(8),
            cpu: CpuMilli::new(8000),
            memory: Mebibytes::new(1024),
            accelerators: vec!["h100".to_owned()],
            ..Gang::default()
        };
        let class = Class {
            name: "train".to_owned(),
            weight: 3,
            tenant: "a".to_owned(),
            tier: Tier::Standard,
            preemptible: true,
            duration: Spread::LogNormal { p50: Duration::HOUR, p99: Duration::DAY },
            slack: Some(Duration::HOUR),
            reservation: None,
            checkpoint_interval: Some(Duration::HOUR),
            checkpoint_bytes: 1 << 30,
            pause: None,
            gangs: vec![gang.clone()],
        };
        let points = [(0, 1), (500_000, 10), (1_000_000, 100)];
        let points = points.map(|(share, minutes)| Quantile {
            share_ppm: Ppm::new(share),
            duration: Duration::from_secs(minutes * 60),
        });
        let small = Class {
            name: "small".to_owned(),
            weight: 7,
            duration: Spread::Quantiles(points.to_vec()),
            gangs: vec![Gang { workers: 1, chips: ChipRequest::Share(offtake_units::ChipMilli::new(500)), ..gang }],
            ..class.clone()
        };
        Synthetic {
            seed: 11,
            jobs: 50_000,
            start: Timestamp::EPOCH,
            mean_gap: Duration::from_secs(30),
            hourly_weights: (0..24).map(|hour| if hour < 12 { 1 } else { 3 }).collect(),
            classes: vec![class, small],
        }
    }

    #[test]
    fn the_same_description_gives_the_same_jobs_everywhere() {
        let all = described().workload().expect("meant").jobs;
        assert_eq!(all, described().workload().expect("meant").jobs);
        let digest = all.iter().fold(0_u64, |sum, job| {
            let run = job.duration.map_or(0, Duration::as_millis);
            sum.rotate_left(5) ^ (job.submitted.as_millis() as u64) ^ ((run as u64) << 20)
        });
        assert_eq!(digest, PINNED_DIGEST, "a change of these draws changes every scenario");
    }
    const PINNED_DIGEST: u64 = 1_575_385_463_129_736_275;

    #[test]
    fn the_jobs_are_distributed_as_described() {
        let described = described();
        let jobs = described.workload().expect("meant").jobs;
        assert_eq!(jobs.len(), 50_000);
        assert!(jobs.windows(2).all(|pair| pair[0].submitted <= pair[1].submitted));
        jobs.iter().try_for_each(check::job).expect("each can be meant");
        let mean_gap = jobs[jobs.len() - 1].submitted.as_millis() as f64 / jobs.len() as f64;
        assert!((mean_gap / 30_000.0 - 1.0).abs() < 0.03, "{mean_gap}");
        let days = jobs.iter().filter(|job| job.submitted < Timestamp::EPOCH + Duration::from_secs(17 * 86_400));
        let (morning, afternoon): (Vec<_>, Vec<_>) =
            days.partition(|job| job.submitted.time_of_day() < Duration::from_secs(43_200));
        let ratio = afternoon.len() as f64 / morning.len() as f64;
        assert!((ratio - 3.0).abs() < 0.1, "{ratio}");
        let mut trained: Vec<_> = jobs.iter().filter(|job| job.name.starts_with("train")).collect();
        assert!((14_600..15_400).contains(&trained.len()), "{}", trained.len());
        trained.sort_by_key(|job| job.duration);
        let at = |share: usize| trained[trained.len() * share / 100].duration.expect("it ends").as_secs_f64();
        assert!((at(50) / 3600.0 - 1.0).abs() < 0.05, "{}", at(50));
        assert!((at(99) / 86_400.0 - 1.0).abs() < 0.1, "{}", at(99));
    }

    #[test]
    fn the_gap_for_a_load_gives_that_load() {
        let mut described = described();
        let capacity = 1_000_000;
        described.mean_gap = described.gap_for_load(Ppm::new(900_000), capacity).expect("there is demand");
        let jobs = described.workload().expect("meant").jobs;
        let demand: f64 =
            jobs.iter().map(|job| job.chip_milli() as f64 * job.duration.expect("it ends").as_millis() as f64).sum();
        let span = jobs[jobs.len() - 1].submitted.as_millis() as f64;
        let load = demand / span / capacity as f64;
        assert!((load - 0.9).abs() < 0.04, "{load}");
    }

    #[test]
    fn impossible_descriptions_are_refused() {
        let refused = |change: &dyn Fn(&mut Synthetic)| {
            let mut described = described();
            change(&mut described);
            described.generate().map(drop).expect_err("refused").field
        };
        assert_eq!(refused(&|d| d.hourly_weights = vec![1; 23]), "hourly_weights");
        assert_eq!(refused(&|d| d.hourly_weights = vec![0; 24]), "hourly_weights");
        assert_eq!(refused(&|d| d.mean_gap = Duration::ZERO), "mean_gap");
        assert_eq!(refused(&|d| d.classes.clear()), "classes");
        assert_eq!(refused(&|d| d.classes[1].gangs[0].workers = 0), "classes[1].gangs[0].workers");
        assert_eq!(refused(&|d| d.classes[0].duration = Spread::Quantiles(Vec::new())), "classes[0].duration");
        assert_eq!(refused(&|d| d.start = Timestamp::NEVER), "start");
    }

    #[test]
    fn a_description_survives_being_written() {
        let text = serde_json::to_string(&described()).expect("written");
        assert_eq!(serde_json::from_str::<Synthetic>(&text).expect("read"), described());
        assert!(text.contains("\"p50\":\"1h\""), "{text}");
    }
}
