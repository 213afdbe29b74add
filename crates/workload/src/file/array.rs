//! The indices of a job array as Slurm writes them.

use super::Array;
use crate::check::Fault;

/// Indices of one array.
pub(crate) const MOST_INDICES: usize = 100_001;
/// The highest index, Slurm's own bound.
pub(crate) const HIGHEST_INDEX: u32 = 4_000_000;

const ALLOWED: &str = "indices from 0 to 4000000, at most 100001 of them, as numbers and ranges separated by commas, with a step behind a colon and a limit behind a percent sign: `0-15%4`, `1,3,5-9:2`";

/// Reads `0-15%4` or `1,3,5-9:2`.
pub(crate) fn parse(field: &str, text: &str) -> Result<Array, Fault> {
    let fault = || Fault::new(field, text, ALLOWED);
    let (indices, at_once) = text.split_once('%').map_or((text, None), |(indices, most)| (indices, Some(most)));
    let at_once = at_once.map(|most| number(most).filter(|most| *most > 0).ok_or_else(fault)).transpose()?;
    let mut all: Vec<u32> = Vec::new();
    for part in indices.split(',') {
        let (range, step) = part.split_once(':').map_or((part, Some(1)), |(range, step)| (range, number(step)));
        let (first, last) = match range.split_once('-') {
            Some((first, last)) => (number(first), number(last)),
            None if part == range => (number(range), number(range)),
            None => return Err(fault()),
        };
        let (Some(first), Some(last), Some(step @ 1..)) = (first, last, step) else { return Err(fault()) };
        if first > last || last > HIGHEST_INDEX || ((last - first) / step) as usize >= 2 * MOST_INDICES - all.len() {
            return Err(fault());
        }
        all.extend((first..=last).step_by(step as usize));
    }
    all.sort_unstable();
    all.dedup();
    if all.len() > MOST_INDICES {
        return Err(fault());
    }
    Ok(Array { step: spacing(&all), indices: all, at_once })
}

fn number(text: &str) -> Option<u32> {
    if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    text.parse().ok()
}

/// The distance between neighbours where it is always the same, otherwise 1.
fn spacing(indices: &[u32]) -> u32 {
    let mut gaps = indices.windows(2).map(|pair| pair[1] - pair[0]);
    let first = gaps.next().unwrap_or(1);
    if gaps.all(|gap| gap == first) { first } else { 1 }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Option<(Vec<u32>, u32, Option<u32>)> {
        parse("array", text).ok().map(|array| (array.indices, array.step, array.at_once))
    }

    #[test]
    fn indices() {
        assert_eq!(read("3"), Some((vec![3], 1, None)));
        assert_eq!(read("0-3%2"), Some((vec![0, 1, 2, 3], 1, Some(2))));
        assert_eq!(read("1,3,5-9:2"), Some((vec![1, 3, 5, 7, 9], 2, None)));
        assert_eq!(read("0-15:4"), Some((vec![0, 4, 8, 12], 4, None)));
        assert_eq!(read("7,1,1-2"), Some((vec![1, 2, 7], 1, None)), "sorted, each once");
        assert_eq!(read("0-100000").map(|(indices, ..)| indices.len()), Some(MOST_INDICES));
        assert_eq!(read("0-4000000:40").map(|(indices, ..)| indices.len()), Some(100_001));
        for wrong in [
            "",
            ",",
            "1,",
            "-1",
            "1-",
            "3-1",
            "a",
            "1:2",
            "0-5:0",
            "0-5:",
            "1%0",
            "1%",
            "1%2%3",
            "0-100001",
            "4000001",
            "99999999999",
            "+1",
            "0-3,",
            "[1-3]",
        ] {
            assert_eq!(read(wrong), None, "{wrong}");
        }
        let many = ["0-100000"; 100].join(",");
        assert_eq!(read(&many), None, "the sum is bounded before anything is made");
    }
}
