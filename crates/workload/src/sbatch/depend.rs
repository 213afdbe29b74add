//! Dependencies on other jobs.

use super::error::Error;
use super::options::Given;
use super::shape::wrong;
use crate::{Dependency, When};

const ALLOWED: &str = "after, afterany, afterok or afternotok, a colon and the identities of jobs, separated by commas: `afterok:17:18,afterany:20`";

/// Reads `afterok:17:18,afterany:20`.
pub(super) fn dependencies(given: &Given) -> Result<Vec<Dependency>, Error> {
    let text = given.value.as_deref().unwrap_or_default();
    if text.contains('?') {
        return Err(wrong(
            given,
            "conditions separated by commas, which must all hold: any one of several is not supported",
        ));
    }
    let mut all = Vec::new();
    for part in text.split(',') {
        let (kind, jobs) = match part.split_once(':') {
            Some((kind, jobs)) if !is_number(kind) => (kind, jobs),
            // Without a kind it is any end of the job.
            _ => ("afterany", part),
        };
        let when = match kind.to_ascii_lowercase().as_str() {
            "after" => When::Started,
            "afterany" => When::Ended,
            "afterok" => When::Succeeded,
            "afternotok" => When::Failed,
            "aftercorr" => {
                return Err(wrong(given, "afterok: tasks of two arrays are not tied to each other one by one"));
            }
            "afterburstbuffer" => return Err(wrong(given, "afterany: burst buffers are not managed")),
            _ => return Err(wrong(given, ALLOWED)),
        };
        for job in jobs.split(':') {
            all.push(Dependency { job: identity(given, when, job)?, when });
        }
    }
    Ok(all)
}

fn identity(given: &Given, when: When, text: &str) -> Result<u64, Error> {
    let text = match text.split_once('+') {
        Some((job, "0")) if when == When::Started => job,
        Some(_) => return Err(wrong(given, "no delay behind `+`: use --begin for a time")),
        None => text,
    };
    // All tasks of an array are what its own identity means.
    let text = text.strip_suffix("_*").unwrap_or(text);
    if text.contains('_') {
        return Err(wrong(given, "the identity of the array's task itself, as `offtake jobs` shows it"));
    }
    let number = if is_number(text) { text.parse().ok() } else { None };
    number.ok_or_else(|| wrong(given, ALLOWED))
}

fn is_number(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sbatch::table::Key;

    fn read(text: &str) -> Result<Vec<(u64, When)>, String> {
        let given = Given { key: Key::Dependency, option: "dependency", value: Some(text.to_owned()), line: None };
        let all = dependencies(&given).map_err(|error| error.to_string())?;
        Ok(all.into_iter().map(|dependency| (dependency.job, dependency.when)).collect())
    }

    #[test]
    fn all_kinds() {
        assert_eq!(read("afterok:17"), Ok(vec![(17, When::Succeeded)]));
        assert_eq!(
            read("afterok:17:18,afterany:20,afternotok:3"),
            Ok(vec![(17, When::Succeeded), (18, When::Succeeded), (20, When::Ended), (3, When::Failed)])
        );
        assert_eq!(read("after:4+0"), Ok(vec![(4, When::Started)]));
        assert_eq!(read("4:5"), Ok(vec![(4, When::Ended), (5, When::Ended)]));
        assert_eq!(read("afterok:9_*"), Ok(vec![(9, When::Succeeded)]));
    }

    #[test]
    fn what_is_not_supported_says_what_is() {
        for (text, part) in [
            ("afterok:1?afterany:2", "any one of several is not supported"),
            ("aftercorr:1", "allowed is afterok"),
            ("singleton", "after, afterany, afterok or afternotok"),
            ("after:1+5", "use --begin"),
            ("afterok:1_3", "the identity of the array's task itself"),
            ("afterok:", "after, afterany"),
            ("afterok:x", "after, afterany"),
            ("", "after, afterany"),
            ("afterok:99999999999999999999", "after, afterany"),
        ] {
            let message = read(text).expect_err(text);
            assert!(message.contains(part), "{text}\n  gives: {message}\n  and not: {part}");
        }
    }
}
