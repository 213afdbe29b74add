//! Quantities as people write them: `2024-05-01T08:00:00Z`, `36h`, `64GiB`.
//!
//! Each is read to an integer without a floating-point number in between, and written so that reading it back gives
//! the same integer.

use offtake_units::{Duration, Timestamp};

/// What an instant may look like, for error messages.
pub const TIMESTAMP_ALLOWED: &str = "an instant as in RFC 3339 from 1970 to 9998, to the millisecond, such as `2024-05-01T08:00:00Z` or `2024-05-01T10:00:00+02:00`";
/// What a span may look like, for error messages.
pub const DURATION_ALLOWED: &str =
    "a time above zero and up to 100 years as a number and a unit (ms, s, m, h, d, w), such as `90s`, `36h` or `1d12h`";
/// What a size may look like, for error messages.
pub const SIZE_ALLOWED: &str = "a size up to 1 EiB as a whole number and a unit (B, KiB, MiB, GiB, TiB, PiB; or kB, MB, GB, TB, PB), such as `64GiB`";

/// The longest span that a file may ask for, 100 years: it can be added to any instant that a file may name.
pub const LONGEST_DURATION: Duration = Duration::from_secs(100 * 365 * 86_400);
/// The last instant that a file may name: the end of the year 9998, as the date-time library stops in 9999.
pub const LAST_TIMESTAMP: Timestamp = Timestamp::from_millis(253_370_764_799_999);
/// The largest size that a file may name: 1 EiB.
pub const LARGEST_BYTES: u64 = 1 << 60;

const SIZE_UNITS: [(&str, u64); 12] = [
    ("EiB", 1 << 60),
    ("PiB", 1 << 50),
    ("TiB", 1 << 40),
    ("GiB", 1 << 30),
    ("MiB", 1 << 20),
    ("KiB", 1 << 10),
    ("PB", 1_000_000_000_000_000),
    ("TB", 1_000_000_000_000),
    ("GB", 1_000_000_000),
    ("MB", 1_000_000),
    ("kB", 1000),
    ("B", 1),
];
const BINARY_UNITS: usize = 6;

/// Reads an instant of RFC 3339; nothing when it is none, is before 1970 or has parts of a millisecond.
pub fn parse_timestamp(text: &str) -> Option<Timestamp> {
    if !has_shape_of_rfc3339(text) {
        return None;
    }
    let instant: jiff::Timestamp = text.parse().ok()?;
    let whole = instant.subsec_nanosecond() % 1_000_000 == 0;
    let ms = instant.as_millisecond();
    (whole && (0..=LAST_TIMESTAMP.as_millis()).contains(&ms)).then_some(Timestamp::from_millis(ms))
}

/// The date-time library also reads ISO 8601 and zone names in brackets, and takes second 60 for 59.
fn has_shape_of_rfc3339(text: &str) -> bool {
    const LENGTH_TO_SECONDS: usize = 19;
    let bytes = text.as_bytes();
    if bytes.len() <= LENGTH_TO_SECONDS || !bytes.is_ascii() {
        return false;
    }
    let (head, tail) = bytes.split_at(LENGTH_TO_SECONDS);
    let head_fits = head.iter().zip(b"dddd-dd-ddTdd:dd:dd").all(|(given, form)| fits(*given, *form));
    let zone = match tail.strip_prefix(b".") {
        Some(fraction) => {
            let digits = fraction.iter().take_while(|byte| byte.is_ascii_digit()).count();
            if !(1..=9).contains(&digits) {
                return false;
            }
            &fraction[digits..]
        }
        None => tail,
    };
    let is_offset = zone.len() == 6
        && matches!(zone[0], b'+' | b'-')
        && zone[1..].iter().zip(b"dd:dd").all(|(given, form)| fits(*given, *form));
    head_fits && head[17] < b'6' && (zone == b"Z" || is_offset)
}

fn fits(given: u8, form: u8) -> bool {
    if form == b'd' { given.is_ascii_digit() } else { given == form }
}

/// Writes an instant of RFC 3339 in UTC; nothing when it lies outside the years 1970 to 9998.
pub fn write_timestamp(at: Timestamp) -> Option<String> {
    let ms = at.as_millis();
    if !(0..=LAST_TIMESTAMP.as_millis()).contains(&ms) {
        return None;
    }
    jiff::Timestamp::from_millisecond(ms).ok().map(|instant| instant.to_string())
}

/// Reads a span above zero and up to [`LONGEST_DURATION`].
pub fn parse_duration(text: &str) -> Option<Duration> {
    text.parse().ok().filter(|span| (Duration::from_millis(1)..=LONGEST_DURATION).contains(span))
}

/// Writes a span exactly, in the largest unit that divides it.
pub fn write_duration(span: Duration) -> String {
    let ms = span.as_millis();
    let units = [(3_600_000, "h"), (60_000, "m"), (1000, "s")];
    match units.iter().find(|(size, _)| ms % size == 0) {
        Some((size, unit)) => format!("{}{unit}", ms / size),
        None => format!("{ms}ms"),
    }
}

/// Reads a size up to [`LARGEST_BYTES`].
pub fn parse_bytes(text: &str) -> Option<u64> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let number: u64 = text[..digits].parse().ok()?;
    let unit = text[digits..].trim_start_matches(' ');
    let (_, size) = SIZE_UNITS.iter().find(|(name, _)| *name == unit)?;
    number.checked_mul(*size).filter(|bytes| *bytes <= LARGEST_BYTES)
}

/// Writes a size exactly, in the largest power of 1,024 that divides it.
pub fn write_bytes(bytes: u64) -> String {
    match SIZE_UNITS[..BINARY_UNITS].iter().find(|(_, size)| bytes >= *size && bytes.is_multiple_of(*size)) {
        Some((unit, size)) => format!("{}{unit}", bytes / size),
        None => format!("{bytes}B"),
    }
}

/// A span as text, for `#[serde(with)]`.
pub mod duration {
    use offtake_units::Duration;
    use serde::{Deserialize, Deserializer, Serializer, de};

    /// Writes it.
    ///
    /// # Errors
    /// Those of the serializer.
    pub fn serialize<S: Serializer>(span: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&super::write_duration(*span))
    }

    /// Reads it.
    ///
    /// # Errors
    /// When it is not a span above zero.
    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
        let text = String::deserialize(deserializer)?;
        super::parse_duration(&text)
            .ok_or_else(|| de::Error::invalid_value(de::Unexpected::Str(&text), &super::DURATION_ALLOWED))
    }
}

/// A span as text that may be left out, for `#[serde(default, with)]`.
pub mod optional_duration {
    use offtake_units::Duration;
    use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

    /// Writes it.
    ///
    /// # Errors
    /// Those of the serializer.
    pub fn serialize<S: Serializer>(span: &Option<Duration>, serializer: S) -> Result<S::Ok, S::Error> {
        span.map(super::write_duration).serialize(serializer)
    }

    /// Reads it.
    ///
    /// # Errors
    /// When it is not a span above zero.
    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Duration>, D::Error> {
        let Some(text) = Option::<String>::deserialize(deserializer)? else {
            return Ok(None);
        };
        super::parse_duration(&text)
            .map(Some)
            .ok_or_else(|| de::Error::invalid_value(de::Unexpected::Str(&text), &super::DURATION_ALLOWED))
    }
}

/// A size as text, for `#[serde(with)]`.
pub mod bytes {
    use serde::{Deserialize, Deserializer, Serializer, de};

    /// Writes it.
    ///
    /// # Errors
    /// Those of the serializer.
    pub fn serialize<S: Serializer>(bytes: &u64, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&super::write_bytes(*bytes))
    }

    /// Reads it.
    ///
    /// # Errors
    /// When it is not a size.
    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u64, D::Error> {
        let text = String::deserialize(deserializer)?;
        super::parse_bytes(&text)
            .ok_or_else(|| de::Error::invalid_value(de::Unexpected::Str(&text), &super::SIZE_ALLOWED))
    }
}

/// An instant as text, for `#[serde(with)]`.
pub mod timestamp {
    use offtake_units::Timestamp;
    use serde::{Deserialize, Deserializer, Serialize, Serializer, de, ser};

    /// Writes it.
    ///
    /// # Errors
    /// When it lies outside the years 1970 to 9998.
    pub fn serialize<S: Serializer>(at: &Timestamp, serializer: S) -> Result<S::Ok, S::Error> {
        let text = super::write_timestamp(*at).ok_or_else(|| ser::Error::custom("the instant is not in 1970..9998"))?;
        text.serialize(serializer)
    }

    /// Reads it.
    ///
    /// # Errors
    /// When it is not an instant of RFC 3339.
    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Timestamp, D::Error> {
        let text = String::deserialize(deserializer)?;
        super::parse_timestamp(&text)
            .ok_or_else(|| de::Error::invalid_value(de::Unexpected::Str(&text), &super::TIMESTAMP_ALLOWED))
    }
}

/// An instant as text that may be left out, for `#[serde(default, with)]`.
pub mod optional_timestamp {
    use offtake_units::Timestamp;
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    #[derive(Serialize, Deserialize)]
    #[serde(transparent)]
    struct At(#[serde(with = "super::timestamp")] Timestamp);

    /// Writes it.
    ///
    /// # Errors
    /// When it lies outside the years 1970 to 9998.
    pub fn serialize<S: Serializer>(at: &Option<Timestamp>, serializer: S) -> Result<S::Ok, S::Error> {
        at.map(At).serialize(serializer)
    }

    /// Reads it.
    ///
    /// # Errors
    /// When it is not an instant of RFC 3339.
    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Timestamp>, D::Error> {
        Ok(Option::<At>::deserialize(deserializer)?.map(|at| at.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn instants() {
        let read = |text| parse_timestamp(text).map(Timestamp::as_millis);
        assert_eq!(read("1970-01-01T00:00:00Z"), Some(0));
        assert_eq!(read("2024-05-01T10:00:00.250+02:00"), Some(1_714_550_400_250));
        assert_eq!(read("9998-12-31T23:59:59.999Z"), Some(LAST_TIMESTAMP.as_millis()));
        for wrong in [
            "",
            "2024-05-01",
            "2024-05-01T10:00:00",
            "2024-05-01T10:00Z",
            "2024-05-01 10:00:00Z",
            "2024-02-30T10:00:00Z",
            "2024-05-01T10:00:60Z",
            "2024-05-01T24:00:00Z",
            "2024-05-01T10:00:00.0001Z",
            "2024-05-01T10:00:00.Z",
            "2024-05-01T10:00:00+02:00[Europe/Paris]",
            "1969-12-31T23:59:59Z",
            "9999-12-31T23:59:59Z",
            "20240501T100000Z",
            "NaN",
        ] {
            assert_eq!(read(wrong), None, "{wrong}");
        }
        assert_eq!(
            write_timestamp(Timestamp::from_millis(1_714_550_400_250)).as_deref(),
            Some("2024-05-01T08:00:00.25Z")
        );
        assert_eq!(write_timestamp(Timestamp::NEVER), None);
    }

    #[test]
    fn sizes() {
        for (text, bytes) in
            [("0B", 0), ("64GiB", 64 << 30), ("1 TiB", 1 << 40), ("1536MB", 1_536_000_000), ("1EiB", 1 << 60)]
        {
            assert_eq!(parse_bytes(text), Some(bytes), "{text}");
            assert_eq!(parse_bytes(&write_bytes(bytes)), Some(bytes), "{text}");
        }
        for wrong in ["", "64", "GiB", "1.5GiB", "-1B", "64gib", "64 GiB ", "1025PiB", "99999999999999999999B", "€"] {
            assert_eq!(parse_bytes(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn spans_are_written_exactly() {
        for ms in [1, 999, 1000, 90_000, 3_600_000, 129_600_000, 3_600_001] {
            let span = Duration::from_millis(ms);
            assert_eq!(parse_duration(&write_duration(span)), Some(span));
        }
        assert_eq!(write_duration(Duration::from_millis(129_600_000)), "36h");
        assert_eq!((parse_duration("0s"), parse_duration("-1s"), parse_duration("36501d")), (None, None, None));
    }
}
