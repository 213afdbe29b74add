//! Instants and durations as OpenADR writes them, in UTC.

use jiff::tz::TimeZone;
use jiff::{Span, Timestamp as Instant};
use offtake_units::{Duration, Timestamp};

/// What an instant may look like, for error messages.
pub const INSTANT: &str =
    "an instant as in RFC 3339 from 1970 to 9998, such as `2026-03-02T17:00:00Z`, or `0001-01-01T00:00:00Z` for now";
/// What a duration may look like, for error messages.
pub const DURATION: &str =
    "a duration above zero as in ISO 8601, such as `PT4H`, `P1D` or `P9999Y` for one without an end";

/// As long as for ever: what lasts longer ends only when it is withdrawn.
const FOR_EVER: Duration = Duration::from_secs(50 * 365 * 86_400);
/// The last instant that is read, the end of the year 9998: spans are added to it.
const LAST: i64 = 253_370_764_799_999;

/// When something begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    /// At this instant.
    At(Timestamp),
    /// When the event was last changed: OpenADR writes `0001-01-01`.
    Now,
}

/// Reads an instant; none when it is something else, or before 1970.
pub fn instant(text: &str) -> Option<Timestamp> {
    let ms = text.parse::<Instant>().ok()?.as_millisecond();
    (0..=LAST).contains(&ms).then_some(Timestamp::from_millis(ms))
}

/// Reads when something begins.
pub fn start(text: &str) -> Option<Start> {
    match text.starts_with("0001-01-01") {
        true => Some(Start::Now),
        false => instant(text).map(Start::At),
    }
}

/// Reads a duration, which may be of no length.
pub fn span(text: &str) -> Option<Span> {
    // The date-time library also reads what only looks like ISO 8601, such as `1h 30m`.
    let span: Span = text.strip_prefix('P').and_then(|_| text.parse().ok())?;
    (!span.is_negative()).then_some(span)
}

/// The instant so long after another. Months and years are those of the calendar in UTC, which has no summer time.
pub fn after(from: Timestamp, span: &Span) -> Timestamp {
    let end = Instant::from_millisecond(from.as_millis())
        .and_then(|from| from.to_zoned(TimeZone::UTC).checked_add(*span))
        .map_or(i64::MAX, |end| end.timestamp().as_millisecond());
    Timestamp::from_millis(end).min(for_ever(from))
}

/// When what has no end is taken to end.
pub fn for_ever(from: Timestamp) -> Timestamp {
    from.saturating_add(FOR_EVER)
}

/// Writes an instant as OpenADR does.
pub fn write_instant(at: Timestamp) -> String {
    Instant::from_millisecond(at.as_millis()).map_or_else(|_| String::new(), |at| at.to_string())
}

/// Writes a span as OpenADR does.
pub fn write_span(span: Duration) -> String {
    let ms = span.as_millis().max(0);
    match ms % 1000 {
        0 => format!("PT{}S", ms / 1000),
        part => format!("PT{}.{part:03}S", ms / 1000),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Timestamp {
        instant(text).expect("it is an instant")
    }

    #[test]
    fn instants_are_read_whatever_their_offset() {
        assert_eq!(at("2026-03-29T03:30:00+02:00"), at("2026-03-29T01:30:00Z"));
        assert_eq!(start("0001-01-01T00:00:00Z"), Some(Start::Now));
        assert_eq!(start("0001-01-01"), Some(Start::Now));
        for text in ["", "now", "2026-03-29", "2026-03-29T25:00:00Z", "1969-12-31T23:59:59Z", "-0001-01-01T00:00:00Z"] {
            assert_eq!(start(text), None, "{text}");
        }
    }

    #[test]
    fn spans_are_added_in_utc() {
        // Clocks go forward in Europe that night; a day is 24 hours all the same.
        for (text, end) in [
            ("P1D", "2026-03-30T00:00:00Z"),
            ("P1M", "2026-04-29T00:00:00Z"),
            ("PT90M", "2026-03-29T01:30:00Z"),
            ("P0Y0M0DT4H0M0S", "2026-03-29T04:00:00Z"),
            ("PT0.5S", "2026-03-29T00:00:00.500Z"),
            ("P9999Y", "2076-03-16T00:00:00Z"),
            ("P9999Y0M0DT0H0M0S", "2076-03-16T00:00:00Z"),
        ] {
            let span = span(text).expect("it is a span");
            assert_eq!(after(at("2026-03-29T00:00:00Z"), &span), at(end), "{text}");
        }
        for text in ["", "4h", "PT", "P", "-PT4H", "P-1D", "PT4H junk", "P99999999Y"] {
            assert!(span(text).is_none(), "{text}");
        }
    }

    #[test]
    fn spans_are_written() {
        assert_eq!(write_span(Duration::HOUR), "PT3600S");
        assert_eq!(write_span(Duration::from_millis(1_500)), "PT1.500S");
    }
}
