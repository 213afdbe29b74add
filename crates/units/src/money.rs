//! Money and prices. An amount keeps its currency; only a dated rate converts it.

use std::fmt;
use std::ops::Neg;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::{Energy, Watts};

/// A currency by its ISO 4217 code.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Currency([u8; 3]);

impl Currency {
    /// United States dollar.
    pub const USD: Self = Self(*b"USD");

    /// The three-letter code.
    pub fn code(&self) -> &str {
        std::str::from_utf8(&self.0).expect("a currency is made of ASCII letters only")
    }
}

impl FromStr for Currency {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text.as_bytes() {
            [a, b, c] if text.bytes().all(|letter| letter.is_ascii_uppercase()) => Ok(Self([*a, *b, *c])),
            _ => Err("a currency is three capital letters (ISO 4217), such as `USD` or `EUR`".to_owned()),
        }
    }
}

impl fmt::Display for Currency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.code())
    }
}

impl fmt::Debug for Currency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.code())
    }
}

impl Serialize for Currency {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.code())
    }
}

impl<'de> Deserialize<'de> for Currency {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

/// A price of energy in millionths of a currency unit per MWh; negative prices occur.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PricePerMwh {
    /// Millionths of a currency unit.
    pub micros: i64,
    /// The currency they are in.
    pub currency: Currency,
}

/// A price of capacity in millionths of a currency unit for a kilowatt and a month.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PricePerKwMonth {
    /// Millionths of a currency unit.
    pub micros: i64,
    /// The currency they are in.
    pub currency: Currency,
}

/// An amount of money as micro-units · W · ms / MWh: exact until it is printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Money {
    scaled: i128,
    /// The currency of the amount.
    pub currency: Currency,
}

impl PricePerMwh {
    /// What this energy costs.
    pub fn of(self, energy: Energy) -> Money {
        Money { scaled: energy.watt_millis() * i128::from(self.micros), currency: self.currency }
    }
}

impl PricePerKwMonth {
    /// What this power is worth in a whole month. A kilowatt is a thousand watts, and one MWh is 3.6e12 W·ms.
    pub fn of(self, power: Watts) -> Money {
        let scaled = i128::from(self.micros) * i128::from(power.get()) * 3_600_000_000;
        Money { scaled, currency: self.currency }
    }
}

impl Money {
    /// No money.
    pub const fn zero(currency: Currency) -> Self {
        Self { scaled: 0, currency }
    }

    /// `part` of `whole` equal parts of it; the whole is above zero.
    pub const fn part(self, part: i64, whole: i64) -> Self {
        let (part, whole) = (part as i128, whole as i128);
        // Divided first: a month's capacity of a terawatt times the milliseconds of the month is beyond 128 bits.
        let scaled = self.scaled / whole * part + self.scaled % whole * part / whole;
        Self { scaled, currency: self.currency }
    }

    /// The lesser of two amounts of one currency.
    ///
    /// # Panics
    /// As [`Money::add`].
    pub fn min(self, other: Self) -> Self {
        assert_eq!(self.currency, other.currency, "amounts of two currencies are never compared");
        Self { scaled: self.scaled.min(other.scaled), currency: self.currency }
    }

    /// Adds an amount of the same currency.
    ///
    /// # Panics
    /// When the currencies differ: converting needs a dated rate.
    pub fn add(&mut self, other: Self) {
        assert_eq!(self.currency, other.currency, "amounts of two currencies are never added");
        self.scaled += other.scaled;
    }

    /// The amount in units of its currency, for printing. One MWh is 3.6e12 W·ms.
    pub fn as_units(self) -> f64 {
        self.scaled as f64 / 3.6e12 / 1e6
    }
}

impl Neg for Money {
    type Output = Self;
    fn neg(self) -> Self {
        Self { scaled: -self.scaled, ..self }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Duration, Watts};

    #[test]
    fn ten_megawatt_hours_at_forty_dollars() {
        let price = PricePerMwh { micros: 40_000_000, currency: Currency::USD };
        let cost = price.of(Watts::new(10_000_000).over(Duration::HOUR));
        assert_eq!(cost.as_units(), 400.0);
        assert!("usd".parse::<Currency>().is_err());
    }

    #[test]
    fn a_megawatt_at_six_dollars_for_a_kilowatt_and_a_month() {
        let price = PricePerKwMonth { micros: 6_000_000, currency: Currency::USD };
        let month = price.of(Watts::new(1_000_000));
        assert_eq!(month.as_units(), 6000.0);
        assert_eq!(month.part(1, 30).as_units(), 200.0);
        let mut net = -month;
        net.add(month.min(month.part(1, 2)));
        assert_eq!(net.as_units(), -3000.0);
    }
}
