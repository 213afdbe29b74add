//! How people name jobs: `17`, or `17_3` for index 3 of the array 17.

use std::fmt;
use std::str::FromStr;

/// A job as it is named on a command line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum JobName {
    /// By its identity; of an array, all its jobs, where a command takes several.
    Job(u64),
    /// One job of an array.
    Index {
        /// The array.
        array: u64,
        /// The job's index.
        index: u32,
    },
}

impl fmt::Display for JobName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Job(id) => write!(f, "{id}"),
            Self::Index { array, index } => write!(f, "{array}_{index}"),
        }
    }
}

impl FromStr for JobName {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let read = match text.split_once('_') {
            None => number(text).map(Self::Job),
            Some((array, index)) => number(array).zip(number(index)).map(|(array, index)| Self::Index { array, index }),
        };
        read.ok_or_else(|| "write a job's number, such as 17, or 17_3 for index 3 of the array 17".to_owned())
    }
}

/// Digits alone: `+3` is no number of a job.
fn number<T: FromStr>(text: &str) -> Option<T> {
    text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok()).flatten()
}

/// The jobs that Slurm's commands take as one word: `17`, `17_3`, `17_[1-3,7]`, `17_[0-9:3]`, and several of these
/// with commas between them.
pub fn jobs_of_slurm(text: &str) -> Result<Vec<JobName>, String> {
    let mut jobs = Vec::new();
    for word in outside_brackets(text) {
        match word.split_once("_[").and_then(|(array, rest)| Some((array, rest.strip_suffix(']')?))) {
            None => jobs.push(word.parse()?),
            Some((array, indices)) => {
                let array = number(array).ok_or_else(|| format!("`{word}` names no array"))?;
                for index in indices_of(indices).ok_or_else(|| format!("`{indices}` are no indices, such as 1-3,7"))? {
                    jobs.push(JobName::Index { array, index });
                }
            }
        }
    }
    Ok(jobs)
}

/// The words between commas that stand in no bracket.
fn outside_brackets(text: &str) -> impl Iterator<Item = &str> {
    let mut depth = 0_u32;
    text.split(move |c: char| {
        match c {
            '[' => depth += 1,
            ']' => depth = depth.saturating_sub(1),
            _ => {}
        }
        c == ',' && depth == 0
    })
    .filter(|word| !word.is_empty())
}

/// The indices of `1-3,7,10-20:5`; none when it is something else, or names more than an array may have.
fn indices_of(text: &str) -> Option<Vec<u32>> {
    /// More than any array has.
    const MOST: usize = 100_000;
    let mut indices = Vec::new();
    for part in text.split(',') {
        let (range, step) =
            part.split_once(':').map_or(Some((part, 1)), |(range, step)| Some((range, number(step)?)))?;
        let (first, last): (u32, u32) = match range.split_once('-') {
            None => (number(range)?, number(range)?),
            Some((first, last)) => (number(first)?, number(last)?),
        };
        let count = last.checked_sub(first)? as usize / usize::try_from(step).ok().filter(|step| *step > 0)? + 1;
        if indices.len() + count > MOST {
            return None;
        }
        indices.extend((first..=last).step_by(step as usize));
    }
    Some(indices)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn jobs_are_read_as_people_name_them() {
        assert_eq!("17".parse(), Ok(JobName::Job(17)));
        assert_eq!("17_3".parse(), Ok(JobName::Index { array: 17, index: 3 }));
        for wrong in ["", "x", "-1", "+1", "17_", "_3", "17_3_1", "17.0", "99999999999999999999", "17_4294967296"] {
            assert!(wrong.parse::<JobName>().is_err(), "{wrong}");
        }
        for name in [JobName::Job(1), JobName::Index { array: 1, index: 0 }] {
            assert_eq!(name.to_string().parse(), Ok(name));
        }
    }

    #[test]
    fn several_jobs_are_read_as_slurm_writes_them() {
        let index = |index| JobName::Index { array: 17, index };
        assert_eq!(
            jobs_of_slurm("5,17_[1-3,7],6"),
            Ok([vec![JobName::Job(5)], [1, 2, 3, 7].map(index).to_vec(), vec![JobName::Job(6)]].concat())
        );
        assert_eq!(jobs_of_slurm("17_[0-9:4]"), Ok([0, 4, 8].map(index).to_vec()));
        for wrong in ["17_[3-1]", "17_[]", "17_[1", "x_[1]", "17_[0-9:0]", "17_[0-4000000000]"] {
            assert!(jobs_of_slurm(wrong).is_err(), "{wrong}");
        }
    }
}
