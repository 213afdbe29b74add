//! Numbers as they are written, checked and made into quantities; parameters filled in.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;

use offtake_units::{Ppm, Watts};
use toml::Spanned;

use crate::file::fault::{Checked, Fault, at};
use crate::file::suggest::did_you_mean;
use crate::file::syntax::{Named, Number, in_order};

/// A terawatt: no grid connection comes near, and sums of all nodes stay far from overflow.
pub(super) const MAX_WATTS: i64 = 1_000_000_000_000;
/// A megawatt for one chip or one host: so that four million nodes of 64 chips still add up in 64 bits.
pub(super) const MAX_PART_WATTS: i64 = 1_000_000;
/// A price beyond this is a mistake, and what it comes to in a month could leave 128 bits.
const MAX_PRICE: f64 = 1e6;
/// Names longer than this are a mistake.
const MAX_NAME_BYTES: usize = 200;

/// The parameters of a fleet file, with what was handed in over what is written.
pub(super) struct Values(BTreeMap<String, i64>);

impl Values {
    pub(super) fn new(written: &Named<i64>, given: &BTreeMap<String, i64>) -> Checked<Self> {
        let mut values: BTreeMap<String, i64> = BTreeMap::new();
        for (name, value) in in_order(written) {
            check_name(name)?;
            values.insert(name.get_ref().clone(), *value);
        }
        for (name, value) in given {
            if !values.contains_key(name) {
                let hint = did_you_mean(name, values.keys().map(String::as_str));
                let known: Vec<&str> = values.keys().map(String::as_str).collect();
                let list = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
                let message = format!("`{name}` is no parameter of this fleet file{hint}; it has: {list}");
                return Err(Fault::Given("parameters".to_owned(), message));
            }
            values.insert(name.clone(), *value);
        }
        Ok(Self(values))
    }

    /// The number, with the words that say how it was written.
    fn resolve(&self, number: &Spanned<Number>) -> Checked<(f64, String)> {
        match number.get_ref() {
            Number::Whole(whole) => Ok((*whole as f64, whole.to_string())),
            Number::Real(real) => Ok((*real, real.to_string())),
            Number::Parameter(name) => match self.0.get(name) {
                Some(value) => Ok((*value as f64, format!("`${name}` = {value}"))),
                None => {
                    let hint = did_you_mean(name, self.0.keys().map(String::as_str));
                    let message = format!("`${name}` names no parameter{hint}; declare it under [parameters]");
                    Err(at(number, message))
                }
            },
        }
    }

    /// A whole number in a range; `what` names it in the error.
    pub(super) fn whole(&self, number: &Spanned<Number>, allowed: RangeInclusive<i64>, what: &str) -> Checked<i64> {
        let (value, written) = self.resolve(number)?;
        // Beyond 2^53 the float would be rounded; no range here reaches so far.
        if value.fract() == 0.0 && value >= *allowed.start() as f64 && value <= *allowed.end() as f64 {
            return Ok(value as i64);
        }
        let (low, high) = (grouped(*allowed.start()), grouped(*allowed.end()));
        Err(at(number, format!("{written} is not allowed: {what} is a whole number from {low} to {high}")))
    }

    /// A number in a range that need not be whole.
    pub(super) fn real(&self, number: &Spanned<Number>, allowed: RangeInclusive<f64>, what: &str) -> Checked<f64> {
        let (value, written) = self.resolve(number)?;
        if allowed.contains(&value) {
            return Ok(value);
        }
        let (low, high) = (allowed.start(), grouped(*allowed.end() as i64));
        Err(at(number, format!("{written} is not allowed: {what} is a number from {low} to {high}")))
    }

    /// A count of things, at least one.
    pub(super) fn count(&self, number: &Spanned<Number>) -> Checked<u32> {
        let most = i64::from(crate::MAX_NODES);
        self.whole(number, 1..=most, "a count").map(|count| u32::try_from(count).unwrap_or(crate::MAX_NODES))
    }

    /// Watts of one chip or one host.
    pub(super) fn part_watts(&self, number: &Spanned<Number>) -> Checked<Watts> {
        self.whole(number, 0..=MAX_PART_WATTS, "a draw in watts").map(Watts::new)
    }

    /// A share above none and up to all.
    pub(super) fn share(&self, number: &Spanned<Number>, what: &str) -> Checked<Ppm> {
        let (value, written) = self.resolve(number)?;
        match Ppm::from_ratio(value) {
            Some(share) if share > Ppm::new(0) && share <= Ppm::ONE => Ok(share),
            _ => Err(at(number, format!("{written} is not allowed: {what} is above 0 and at most 1"))),
        }
    }

    /// A ratio from none up to `most`.
    pub(super) fn ratio(&self, number: &Spanned<Number>, most: u32, what: &str) -> Checked<Ppm> {
        let (value, written) = self.resolve(number)?;
        match Ppm::from_ratio(value) {
            Some(ratio) if ratio.parts() <= most * Ppm::ONE.parts() => Ok(ratio),
            _ => Err(at(number, format!("{written} is not allowed: {what} is from 0 to {most}"))),
        }
    }

    /// An amount of money in millionths of its currency's unit.
    pub(super) fn micros(&self, number: &Spanned<Number>, what: &str) -> Checked<i64> {
        self.real(number, 0.0..=MAX_PRICE, what).map(|price| (price * 1e6).round() as i64)
    }

    /// Facility power over IT power.
    pub(super) fn pue(&self, number: &Spanned<Number>) -> Checked<Ppm> {
        let (value, written) = self.resolve(number)?;
        match Ppm::from_ratio(value) {
            Some(pue) if pue >= Ppm::ONE && pue.parts() <= 10 * Ppm::ONE.parts() => Ok(pue),
            _ => Err(at(
                number,
                format!(
                    "{written} is not allowed: PUE is facility power over IT power, from 1 to 10; 1.1 to 1.5 is usual"
                ),
            )),
        }
    }

    /// Bytes a second.
    pub(super) fn bandwidth(&self, number: &Spanned<Number>) -> Checked<u64> {
        let (value, written) = self.resolve(number)?;
        if (1e6..=1e18).contains(&value) {
            return Ok(value as u64);
        }
        let allowed = "storage reads and writes 1e6 to 1e18 bytes a second; 1e12 is a terabyte a second";
        Err(at(number, format!("{written} is not allowed: {allowed}")))
    }
}

/// What of a name is wrong, if anything: names are parts of paths, patterns and tables.
pub(super) fn name_fault(name: &str) -> Option<String> {
    let shown: String = name.chars().take(40).collect();
    if name.is_empty() {
        Some("a name is empty".to_owned())
    } else if name.len() > MAX_NAME_BYTES {
        Some(format!("the name `{shown}…` is longer than {MAX_NAME_BYTES} bytes"))
    } else if name.trim() != name {
        Some(format!("the name `{shown}` begins or ends with a space"))
    } else {
        let odd = name.chars().find(|letter| letter.is_control() || matches!(letter, '/' | '*'))?;
        Some(format!("the name `{}` holds {odd:?}, which names may not", shown.escape_debug()))
    }
}

/// Checks a name in the fleet file.
pub(super) fn check_name(name: &Spanned<String>) -> Checked<()> {
    name_fault(name.get_ref()).map_or(Ok(()), |fault| Err(at(name, fault)))
}

/// `1234567` as `1,234,567`.
pub(crate) fn grouped(number: impl Into<i128>) -> String {
    let number: i128 = number.into();
    let digits = number.unsigned_abs().to_string();
    let mut text = if number < 0 { "-".to_owned() } else { String::new() };
    for (ix, digit) in digits.chars().enumerate() {
        if ix > 0 && (digits.len() - ix).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}
