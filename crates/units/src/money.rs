//! Money and prices. An amount keeps its currency; only a dated rate converts it.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::Energy;

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

impl Money {
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
}
