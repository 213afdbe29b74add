//! The `%` patterns of Slurm in the names of output files.
//!
//! `%j` is the job, `%A` and `%a` the array and the index in it, `%x` the job's name, `%u` the user, `%N` the node and
//! `%n` its place among the job's nodes, `%t` the worker's place in the step, `%s` the step, `%J` job and step, `%b` the
//! index modulo 10, `%r` how often the job had started before, and `%%` a percent sign. A number after the percent sign
//! fills a number up with zeros: `%4j`. A backslash anywhere turns all of them off, and is left out itself.

use crate::check::Fault;

const ALLOWED: &str = "a file name in which `%` is followed by one of `jAaxuNntsJbr%`, or by a width and one of them (`%4j`); at most 4095 bytes, without NUL";
/// Bytes of a path on Linux.
pub(crate) const LONGEST_PATH_BYTES: usize = 4095;
/// Slurm fills up to no more digits than this.
const WIDEST: usize = 10;
/// What Slurm writes for the index of a job that is in no array.
const NO_INDEX: u64 = 4_294_967_294;

/// What a pattern is filled in with.
#[derive(Clone, Copy, Debug)]
pub struct Place<'a> {
    /// The job.
    pub job: u64,
    /// The array and the job's index in it, where it is in one.
    pub array: Option<(u64, u32)>,
    /// The job's name.
    pub name: &'a str,
    /// Whom it runs as.
    pub user: &'a str,
    /// The node; only what stands before the first dot is written.
    pub node: &'a str,
    /// The node's place in the job.
    pub node_rank: u32,
    /// The worker's place in the step.
    pub rank: u32,
    /// The step as Slurm counts it, from 0; none for the batch script.
    pub step: Option<u32>,
    /// How often the job had started before.
    pub restarts: u32,
}

/// The file name of a pattern at a place. What is no pattern stays as it is. A slash in the name of a job or a user
/// becomes `_`, so that neither chooses the folder.
pub fn expand(pattern: &str, place: &Place<'_>) -> String {
    if pattern.contains('\\') {
        return pattern.replace('\\', "");
    }
    let mut name = String::with_capacity(pattern.len());
    let mut rest = pattern;
    while let Some((before, after)) = rest.split_once('%') {
        name.push_str(before);
        let (width, letter, length) = specifier(after);
        match letter.and_then(|letter| filled(letter, width, place)) {
            Some(text) => name.push_str(&text),
            None => {
                name.push('%');
                name.push_str(&after[..length]);
            }
        }
        rest = &after[length..];
    }
    name.push_str(rest);
    name
}

/// The width and the letter behind a percent sign, and how many bytes they are.
fn specifier(text: &str) -> (usize, Option<char>, usize) {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let letter = text[digits..].chars().next();
    let width = text[..digits].parse().unwrap_or(WIDEST).min(WIDEST);
    (if digits == 0 { 0 } else { width }, letter, digits + letter.map_or(0, char::len_utf8))
}

fn filled(letter: char, width: usize, place: &Place<'_>) -> Option<String> {
    let number = |value: u64| Some(format!("{value:0width$}"));
    let (array, index) = place.array.map_or((place.job, NO_INDEX), |(array, index)| (array, u64::from(index)));
    match letter {
        'j' => number(place.job),
        'A' => number(array),
        'a' => number(index),
        'b' => number(index % 10),
        'n' => number(u64::from(place.node_rank)),
        't' => number(u64::from(place.rank)),
        'r' => number(u64::from(place.restarts)),
        's' => place.step.map_or_else(|| Some("batch".to_owned()), |step| number(u64::from(step))),
        'J' => {
            let step = place.step.map_or_else(|| "batch".to_owned(), |step| step.to_string());
            Some(format!("{:0width$}.{step}", place.job))
        }
        'N' => Some(place.node.split('.').next().unwrap_or_default().to_owned()),
        'x' => Some(place.name.replace('/', "_")),
        'u' => Some(place.user.replace('/', "_")),
        '%' => Some("%".to_owned()),
        _ => None,
    }
}

/// Whether a pattern can be filled in.
pub(crate) fn check(field: &str, pattern: &str) -> Result<(), Fault> {
    let fault = || Err(Fault::new(field, pattern, ALLOWED));
    if pattern.is_empty() || pattern.len() > LONGEST_PATH_BYTES || pattern.contains('\0') {
        return fault();
    }
    if pattern.contains('\\') {
        return Ok(());
    }
    let mut rest = pattern;
    while let Some((_, after)) = rest.split_once('%') {
        let (_, letter, length) = specifier(after);
        if !letter.is_some_and(|letter| "jAaxuNntsJbr%".contains(letter)) {
            return fault();
        }
        rest = &after[length..];
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const PLACE: Place<'_> = Place {
        job: 128,
        array: Some((120, 8)),
        name: "../x/y",
        user: "ada",
        node: "node7.example.org",
        node_rank: 3,
        rank: 12,
        step: Some(0),
        restarts: 2,
    };

    #[test]
    fn each_pattern() {
        for (pattern, name) in [
            ("slurm-%j.out", "slurm-128.out"),
            ("slurm-%A_%a.out", "slurm-120_8.out"),
            ("job%J.out", "job128.0.out"),
            ("job%4j.out", "job0128.out"),
            ("job%j-%2t.out", "job128-12.out"),
            ("%x/%u", ".._x_y/ada"),
            ("%N-%n-%s-%b-%r", "node7-3-0-8-2"),
            ("100%%", "100%"),
            ("%5N", "node7"),
            ("%99j", "0000000128"),
            ("\\slurm-%j", "slurm-%j"),
            ("%q%", "%q%"),
            ("%é", "%é"),
            ("", ""),
        ] {
            assert_eq!(expand(pattern, &PLACE), name, "{pattern}");
        }
        let alone = Place { array: None, step: None, ..PLACE };
        assert_eq!(expand("%A_%a %s %J", &alone), "128_4294967294 batch 128.batch");
    }

    #[test]
    fn what_cannot_be_filled_in_is_refused() {
        for good in ["a", "%j", "%4j", "%%", "\\%q", "/tmp/%x-%A_%a.out"] {
            assert!(check("output", good).is_ok(), "{good}");
        }
        for wrong in ["", "%", "%q", "%4", "%é", "a\0", &"x".repeat(4096)] {
            assert!(check("output", wrong).is_err(), "{wrong}");
        }
    }

    proptest! {
        #[test]
        fn any_text_can_be_expanded(pattern in "[%\\\\0-9a-zA-Zé/]{0,40}") {
            let name = expand(&pattern, &PLACE);
            prop_assert!(pattern.contains('%') || pattern.contains('\\') || name == pattern);
        }
    }
}
