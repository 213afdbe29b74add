//! How long runs really took, by tenant and job name, and what to expect of the next.
//!
//! People ask for far more time than their work takes. The mean of the last two runs of the same user is a better guess,
//! and the simplest that is (Tsafrir, Etsion and Feitelson, "Backfilling Using System-Generated Predictions Rather than
//! User Runtime Estimates", IEEE TPDS 18(6), 2007). It is used to plan with, never to end work: the limit stays the
//! user's own. A run that outlasts its estimate is given more in the steps of that paper, up to its limit.

use std::collections::BTreeMap;
use std::sync::Arc;

use offtake_units::Duration;
use offtake_workload::Job;
use rustc_hash::FxHashMap;
use serde::{Deserialize, Serialize};

/// Names whose runs are remembered; the one not heard of for the longest is forgotten first.
const MOST_NAMES: usize = 65_536;

/// Runs that an estimate is made of.
pub const RUNS: usize = 2;

const fn minutes(count: i64) -> Duration {
    Duration::from_secs(60 * count)
}

/// What a run that outlasts its estimate is given beyond it, one after the other.
const STEPS: [Duration; 11] = [
    minutes(1),
    minutes(5),
    minutes(15),
    minutes(30),
    minutes(60),
    minutes(120),
    minutes(300),
    minutes(600),
    minutes(1200),
    minutes(3000),
    minutes(6000),
];

/// The last runs of some work.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Runs {
    /// The last first.
    lengths: Vec<Duration>,
    /// Which run of all it was.
    heard: u64,
}

/// The last runs of all work.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct History {
    by_name: FxHashMap<Arc<str>, Runs>,
    /// The names, the one not heard of for the longest first.
    in_order: BTreeMap<u64, Arc<str>>,
    heard: u64,
}

/// A name with its last runs, as an image holds it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunsImage {
    name: Arc<str>,
    lengths: Vec<Duration>,
}

/// What a job is a run of: its name without the number that runs are told apart by, as in `train-17`.
pub fn series(name: &str) -> &str {
    match name.rsplit_once('-') {
        Some((series, run))
            if !series.is_empty() && !run.is_empty() && run.bytes().all(|byte| byte.is_ascii_digit()) =>
        {
            series
        }
        _ => name,
    }
}

/// No name holds a line break.
fn name_of(job: &Job) -> Arc<str> {
    format!("{}\n{}", job.tenant, series(&job.name)).into()
}

impl History {
    /// A run has come to its end by itself.
    pub fn note(&mut self, job: &Job, length: Duration) {
        self.put(name_of(job), length);
    }

    fn put(&mut self, name: Arc<str>, length: Duration) {
        self.heard += 1;
        let heard = self.heard;
        if let Some(runs) = self.by_name.get_mut(&name) {
            self.in_order.remove(&runs.heard);
            runs.heard = heard;
            runs.lengths.insert(0, length);
            runs.lengths.truncate(RUNS);
        } else {
            if self.by_name.len() >= MOST_NAMES
                && let Some((_, oldest)) = self.in_order.pop_first()
            {
                self.by_name.remove(&oldest);
            }
            self.by_name.insert(Arc::clone(&name), Runs { lengths: vec![length], heard });
        }
        self.in_order.insert(heard, name);
    }

    /// How long a job is expected to run, in whole seconds, where that is less than its limit; none for one without a
    /// limit, or of whose kind too little is known.
    pub fn estimate(&self, job: &Job) -> Option<Duration> {
        let limit = job.duration?;
        let runs = self.by_name.get(&name_of(job)).filter(|runs| runs.lengths.len() == RUNS)?;
        let sum: i128 = runs.lengths.iter().map(|length| i128::from(length.as_millis())).sum();
        let mean = i64::try_from(sum / RUNS as i128).unwrap_or(i64::MAX / 2).max(1);
        let estimate = Duration::from_secs((mean + 999) / 1000);
        Some(estimate).filter(|estimate| *estimate < limit)
    }

    /// As data, the name not heard of for the longest first.
    pub fn image(&self) -> Vec<RunsImage> {
        let lengths = |name: &Arc<str>| self.by_name.get(name).map(|runs| runs.lengths.clone());
        let images = self.in_order.values().filter_map(|name| {
            let lengths = lengths(name)?;
            Some(RunsImage { name: Arc::clone(name), lengths })
        });
        images.collect()
    }

    /// Of what an image holds.
    pub fn restore(image: Vec<RunsImage>) -> Self {
        let mut history = Self::default();
        for RunsImage { name, lengths } in image {
            lengths.into_iter().rev().for_each(|length| history.put(Arc::clone(&name), length));
        }
        history
    }
}

/// What to expect of a run that has lasted for `ran` and was estimated at `estimate`: the next step beyond it that has
/// not passed, but no more than its limit.
pub fn corrected(estimate: Duration, ran: Duration, limit: Duration) -> Duration {
    let next = STEPS.into_iter().map(|step| estimate + step).find(|next| *next > ran);
    next.unwrap_or(limit).min(limit)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn job(name: &str, limit: Option<i64>) -> Job {
        Job { name: name.to_owned(), tenant: "lab".to_owned(), duration: limit.map(minutes), ..Job::default() }
    }

    #[test]
    fn two_runs_make_an_estimate_below_the_limit() {
        let mut history = History::default();
        let day = job("train", Some(24 * 60));
        history.note(&day, minutes(100));
        assert_eq!(history.estimate(&day), None, "one run is too little");
        history.note(&day, minutes(200));
        assert_eq!(history.estimate(&day), Some(minutes(150)));
        history.note(&day, minutes(10) + Duration::from_millis(2));
        let expected = minutes(105) + Duration::from_secs(1);
        assert_eq!(history.estimate(&day), Some(expected), "the last two count, in whole seconds upwards");
        assert_eq!(history.estimate(&job("train", Some(105))), None, "never beyond the limit");
        assert_eq!(history.estimate(&job("train", None)), None, "without a limit nothing is promised");
        assert_eq!(history.estimate(&job("eval", Some(60))), None);
        let other = Job { tenant: "shop".to_owned(), ..day };
        assert_eq!(history.estimate(&other), None, "what others call the same is not the same");
        assert_eq!(History::restore(history.image()).image(), history.image());
    }

    #[test]
    fn runs_that_are_numbered_are_of_one_kind() {
        let mut history = History::default();
        history.note(&job("train-17", None), minutes(1));
        history.note(&job("train-9", None), minutes(3));
        assert_eq!(history.estimate(&job("train", Some(9))), Some(minutes(2)));
        for other in ["-17", "17", "train-", "train-v2", "train-1x", "train-1-1"] {
            assert_eq!(history.estimate(&job(other, Some(9))), None, "{other}");
        }
    }

    #[test]
    fn the_name_not_heard_of_for_the_longest_is_forgotten() {
        let mut history = History::default();
        (0..MOST_NAMES).for_each(|number| history.note(&job(&number.to_string(), None), minutes(1)));
        history.note(&job("0", None), minutes(1));
        history.note(&job("new", None), minutes(1));
        assert_eq!((history.by_name.len(), history.in_order.len()), (MOST_NAMES, MOST_NAMES));
        let limited = |name: &str| Job { duration: Some(minutes(9)), ..job(name, None) };
        assert_eq!(history.estimate(&limited("0")), Some(minutes(1)));
        history.note(&job("1", None), minutes(1));
        assert_eq!(history.estimate(&limited("1")), None, "its first run is forgotten");
    }

    #[test]
    fn what_outlasts_its_estimate_gets_more_in_growing_steps() {
        let of = |ran| corrected(minutes(10), ran, minutes(600)).as_millis() / 60_000;
        assert_eq!([10, 11, 15, 60, 369, 370, 599].map(|ran| of(minutes(ran))), [11, 15, 25, 70, 600, 600, 600]);
    }
}
