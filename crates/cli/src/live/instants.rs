//! Instants on the command line.

use offtake_units::{Duration, Timestamp};
use offtake_workload::human::{LAST_TIMESTAMP, TIMESTAMP_ALLOWED, parse_timestamp};

use crate::show::figures::now_ms;

/// Reads an instant: as in RFC 3339, `now`, or `now+2h`.
pub fn read(text: &str) -> Result<Timestamp, String> {
    at(text, Timestamp::from_millis(now_ms()))
}

fn at(text: &str, now: Timestamp) -> Result<Timestamp, String> {
    let wrong = || format!("write {TIMESTAMP_ALLOWED}, `now`, or `now+2h`");
    let Some(rest) = text.strip_prefix("now") else { return parse_timestamp(text).ok_or_else(wrong) };
    if rest.is_empty() {
        return Ok(now);
    }
    let later: Duration = rest.strip_prefix('+').and_then(|span| span.parse().ok()).ok_or_else(wrong)?;
    Some(now.saturating_add(later)).filter(|at| *at <= LAST_TIMESTAMP).ok_or_else(wrong)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn instants_are_read() {
        let now = Timestamp::from_secs(1_714_550_400);
        let later = |seconds: i64| Ok(Timestamp::from_secs(1_714_550_400 + seconds));
        assert_eq!(at("now", now), later(0));
        assert_eq!(at("now+90s", now), later(90));
        assert_eq!(at("now+1d12h", now), later(36 * 3600));
        assert_eq!(at("2024-05-01T10:00:00+02:00", now), later(0));
        for wrong in ["", "now+", "now-2h", "nowish", "tomorrow", "2024-05-01", "now+9999999d"] {
            assert!(at(wrong, now).is_err(), "{wrong}");
        }
    }
}
