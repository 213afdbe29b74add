//! Times as Slurm writes them.

use offtake_units::Timestamp;
use offtake_workload::human;

/// A span: `0:05`, `2:03`, `1:02:03`, `1-02:03:04`.
pub fn span(ms: i64) -> String {
    let seconds = ms.max(0) / 1000;
    let (days, hours, minutes, rest) = (seconds / 86_400, seconds / 3600 % 24, seconds / 60 % 60, seconds % 60);
    match (days, hours) {
        (0, 0) => format!("{minutes}:{rest:02}"),
        (0, _) => format!("{hours}:{minutes:02}:{rest:02}"),
        _ => format!("{days}-{hours:02}:{minutes:02}:{rest:02}"),
    }
}

/// A limit; `UNLIMITED` for none.
pub fn limit(ms: Option<i64>) -> String {
    ms.map_or_else(|| "UNLIMITED".to_owned(), span)
}

/// An instant in UTC: `2024-05-01T08:00:00`; `N/A` for none.
pub fn instant(ms: Option<i64>) -> String {
    let text = ms.and_then(|ms| human::write_timestamp(Timestamp::from_millis(ms.div_euclid(1000) * 1000)));
    text.map_or_else(|| "N/A".to_owned(), |text| text.trim_end_matches('Z').to_owned())
}

/// Reads a limit as Slurm's `--time` has it, in seconds: minutes, `minutes:seconds`, `hours:minutes:seconds`, or with
/// days before a dash. None when it is something else, or for no limit.
pub fn parse_limit(text: &str) -> Option<u64> {
    let number = |text: &str| -> Option<u64> {
        (text.len() <= 9 && text.bytes().all(|byte| byte.is_ascii_digit())).then(|| text.parse().ok()).flatten()
    };
    let (days, rest) =
        text.split_once('-').map_or(Some((None, text)), |(days, rest)| Some((Some(number(days)?), rest)))?;
    let parts = rest.split(':').map(number).collect::<Option<Vec<_>>>()?;
    let seconds = match (days, parts.as_slice()) {
        (None, [minutes]) => minutes * 60,
        (None, [minutes, seconds]) => minutes * 60 + seconds,
        (Some(_), [hours]) => hours * 3600,
        (Some(_), [hours, minutes]) => hours * 3600 + minutes * 60,
        (_, [hours, minutes, seconds]) => hours * 3600 + minutes * 60 + seconds,
        _ => return None,
    };
    Some(days.unwrap_or_default() * 86_400 + seconds).filter(|seconds| *seconds > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_written_as_slurm_does() {
        assert_eq!(
            [0, 5_999, 123_000, 3_723_000, 93_784_000, -1].map(span),
            ["0:00", "0:05", "2:03", "1:02:03", "1-02:03:04", "0:00"]
        );
        assert_eq!(instant(Some(1_714_550_400_999)), "2024-05-01T08:00:00");
        assert_eq!((instant(None), limit(None)), ("N/A".to_owned(), "UNLIMITED".to_owned()));
    }

    #[test]
    fn limits_are_read_as_slurm_does() {
        assert_eq!(
            ["90", "1:30", "2:00:00", "1-0", "1-12:30", "1-00:00:01"].map(parse_limit),
            [Some(5400), Some(90), Some(7200), Some(86_400), Some(131_400), Some(86_401)]
        );
        for wrong in ["", "0", "x", "-1", "1-", "1:2:3:4", "+5", "1e3", "UNLIMITED"] {
            assert_eq!(parse_limit(wrong), None, "{wrong}");
        }
    }
}
