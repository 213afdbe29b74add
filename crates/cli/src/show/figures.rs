//! Instants, spans and amounts as people read them.

use offtake_units::{Duration, Timestamp};
use offtake_workload::{Tier, human};

/// A span: `45 ms`, `12 s`, `2 min 3 s`.
pub fn span(ms: i64) -> String {
    Duration::from_millis(ms).to_string()
}

/// An instant to the second: `2026-05-01 08:00:00 UTC`.
pub fn instant(ms: i64) -> String {
    let seconds = Timestamp::from_millis(ms.div_euclid(1000) * 1000);
    match human::write_timestamp(seconds) {
        Some(text) => text.replacen('T', " ", 1).replacen('Z', " UTC", 1),
        None => format!("{ms} ms since 1970"),
    }
}

/// The time between two instants, as a span; a clock that runs behind gives none.
pub fn since(from_ms: i64, now_ms: i64) -> String {
    span(now_ms.saturating_sub(from_ms).max(0))
}

/// Now, in milliseconds since 1970.
pub fn now_ms() -> i64 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    now.map_or(0, |since| i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
}

/// Thousandths as a number: `8`, `0.5`, `1.25`.
pub fn milli(milli: u64) -> String {
    let whole = crate::terminal::grouped(milli / 1000);
    let part = format!("{:03}", milli % 1000);
    let part = part.trim_end_matches('0');
    if part.is_empty() { whole } else { format!("{whole}.{part}") }
}

/// An energy in the unit that fits it.
pub fn energy(kwh: f64) -> String {
    scaled(kwh * 1000.0, &[(1e6, "MWh"), (1e3, "kWh"), (1.0, "Wh"), (1e-3, "mWh")])
}

/// A power in the unit that fits it.
pub fn power(watts: u64) -> String {
    scaled(watts as f64, &[(1e6, "MW"), (1e3, "kW"), (1.0, "W")])
}

/// A bar whose share is filled.
pub fn filled(part: u64, whole: u64, bar: usize) -> String {
    let full = cells(part, whole, bar);
    format!("{}{}", "█".repeat(full), "·".repeat(bar - full))
}

/// Cells of a bar; something in use shows at least one.
pub fn cells(part: u64, whole: u64, bar: usize) -> usize {
    if part == 0 || whole == 0 {
        return 0;
    }
    let share = u128::from(part.min(whole)) * bar as u128 / u128::from(whole);
    usize::try_from(share).unwrap_or(bar).clamp(1, bar)
}

/// An apparent power in the unit that fits it.
pub fn apparent(volt_amperes: u64) -> String {
    scaled(volt_amperes as f64, &[(1e6, "MVA"), (1e3, "kVA"), (1.0, "VA")])
}

/// A mass in the unit that fits it.
pub fn mass(kg: f64) -> String {
    scaled(kg * 1000.0, &[(1e6, "t"), (1e3, "kg"), (1.0, "g"), (1e-3, "mg")])
}

/// An amount of memory in GiB, to a tenth.
pub fn gib(mib: u64) -> String {
    format!("{:.1}", mib as f64 / 1024.0)
}

/// A share from 0 to 1 in percent.
pub fn percent(share: f64) -> String {
    format!("{:.1} %", share * 100.0)
}

/// A number to three digits, and no more than are known.
pub fn three_digits(value: f64) -> String {
    let size = value.abs();
    match () {
        () if size == 0.0 => "0".to_owned(),
        () if size >= 99.95 => crate::terminal::grouped(value.round().max(0.0) as u64),
        () if size >= 9.995 => format!("{value:.1}"),
        () if size >= 0.9995 => format!("{value:.2}"),
        () => {
            let digits = (2 - size.log10().floor() as i32).clamp(3, 9) as usize;
            format!("{value:.digits$}")
        }
    }
}

fn scaled(value: f64, units: &[(f64, &str)]) -> String {
    let fitting = units.iter().find(|(size, _)| value >= *size).or(units.last());
    let (size, unit) = fitting.copied().unwrap_or((1.0, ""));
    if value == 0.0 {
        return format!("0 {unit}");
    }
    format!("{} {unit}", three_digits(value / size))
}

/// The word for a tier.
pub const fn tier(tier: Tier) -> &'static str {
    match tier {
        Tier::Reserved => "reserved",
        Tier::Guaranteed => "guaranteed",
        Tier::Standard => "standard",
        Tier::Spot => "spot",
    }
}

/// A number with its noun: `1 node`, `2 nodes`.
pub fn count(number: u64, noun: &str) -> String {
    format!("{} {noun}{}", crate::terminal::grouped(number), if number == 1 { "" } else { "s" })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_show_what_is_known_and_no_more() {
        assert_eq!([0, 500, 8000, 1_250_000, 1_001].map(milli), ["0", "0.5", "8", "1,250", "1.001"]);
        assert_eq!(
            [0.0, 1e-9, 0.000_042, 0.042, 3.1, 1234.0].map(energy),
            ["0 mWh", "0.00100 mWh", "42.0 mWh", "42.0 Wh", "3.10 kWh", "1.23 MWh"]
        );
        assert_eq!([0, 850, 12_340, 78_300_000].map(power), ["0 W", "850 W", "12.3 kW", "78.3 MW"]);
        assert_eq!([0.000_012, 0.5, 2.0, 4321.0].map(mass), ["12.0 mg", "500 g", "2.00 kg", "4.32 t"]);
        assert_eq!(
            [0.0, 0.000_123_4, 0.5, 1.0, 9.999, 99.99, 12_345.6].map(three_digits),
            ["0", "0.000123", "0.500", "1.00", "10.0", "100", "12,346"]
        );
        assert_eq!((count(1, "node"), count(2000, "node")), ("1 node".to_owned(), "2,000 nodes".to_owned()));
        assert_eq!(percent(0.9718), "97.2 %");
    }

    #[test]
    fn instants_are_said_in_utc() {
        assert_eq!(instant(1_714_550_400_250), "2024-05-01 08:00:00 UTC");
        assert_eq!(instant(i64::MAX), format!("{} ms since 1970", i64::MAX));
        assert_eq!((since(1_000, 124_000), since(5_000, 1_000)), ("2 min 3 s".to_owned(), "0 s".to_owned()));
    }

    #[test]
    fn bars_show_what_is_in_use_and_no_more() {
        assert_eq!(
            [(0, 10), (1, 1000), (5, 10), (10, 10), (11, 10), (1, 0)].map(|(part, whole)| cells(part, whole, 10)),
            [0, 1, 5, 10, 10, 0]
        );
        assert_eq!(filled(3, 10, 10), "███·······");
    }
}
