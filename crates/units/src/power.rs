//! Power, energy and carbon.

use std::fmt;
use std::iter::Sum;
use std::ops::{Add, AddAssign, Neg, Sub, SubAssign};

use serde::{Deserialize, Serialize};

use crate::{Duration, Ppm};

/// Real power in whole watts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Watts(i64);

/// Apparent power in volt-amperes, as circuits are rated.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct VoltAmperes(i64);

/// Energy in watt-milliseconds, so that ledgers add exactly; divided only when printed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Energy(i128);

/// Carbon intensity of electricity in mg CO2-equivalent per kWh.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct CarbonIntensity(i64);

/// Carbon emitted, in mg/kWh · W · ms: exact until it is printed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct CarbonMass(i128);

impl Watts {
    /// No power.
    pub const ZERO: Self = Self(0);

    /// A power of `watts` watts.
    pub const fn new(watts: i64) -> Self {
        Self(watts)
    }

    /// The power in watts.
    pub const fn get(self) -> i64 {
        self.0
    }

    /// The power in megawatts, for printing.
    pub fn as_mw(self) -> f64 {
        self.0 as f64 / 1e6
    }

    /// This share of the power, rounded up to a whole watt: a limit is never undercounted.
    pub fn share_up(self, share: Ppm) -> Self {
        let scaled = i128::from(self.0) * i128::from(share.parts());
        Self(scaled.div_euclid(1_000_000) as i64 + i64::from(scaled.rem_euclid(1_000_000) != 0))
    }

    /// `count` times this power.
    pub const fn times(self, count: u32) -> Self {
        Self(self.0 * count as i64)
    }

    /// The energy of this power over a span.
    pub fn over(self, span: Duration) -> Energy {
        Energy(i128::from(self.0) * i128::from(span.as_millis()))
    }
}

impl VoltAmperes {
    /// An apparent power of `va` volt-amperes.
    pub const fn new(va: i64) -> Self {
        Self(va)
    }

    /// The apparent power in volt-amperes.
    pub const fn get(self) -> i64 {
        self.0
    }

    /// The real power at a power factor, derated for continuous load, rounded down to a whole watt.
    pub fn continuous_watts(self, power_factor: Ppm, continuous_load_factor: Ppm) -> Watts {
        let scaled = i128::from(self.0) * i128::from(power_factor.parts()) * i128::from(continuous_load_factor.parts());
        Watts(scaled.div_euclid(1_000_000_000_000) as i64)
    }
}

impl Energy {
    /// No energy.
    pub const ZERO: Self = Self(0);

    /// An energy in watt-milliseconds, which are millijoules.
    pub const fn from_watt_millis(amount: i128) -> Self {
        Self(amount)
    }

    /// `part` of `whole` equal parts of it; both in one unit, the whole above zero.
    pub const fn part(self, part: i64, whole: i64) -> Self {
        Self(self.0 * part as i128 / whole as i128)
    }

    /// The energy times a share, rounded up.
    pub fn share_up(self, share: Ppm) -> Self {
        let scaled = self.0 * i128::from(share.parts());
        Self(scaled.div_euclid(1_000_000) + i128::from(scaled.rem_euclid(1_000_000) != 0))
    }

    /// The energy in watt-milliseconds.
    pub const fn watt_millis(self) -> i128 {
        self.0
    }

    /// The energy in megawatt-hours, for printing.
    pub fn as_mwh(self) -> f64 {
        self.0 as f64 / 3.6e12
    }
}

impl CarbonIntensity {
    /// An intensity of `mg` milligrams CO2-equivalent per kWh.
    pub const fn from_mg_per_kwh(mg: i64) -> Self {
        Self(mg)
    }

    /// The intensity in mg/kWh.
    pub const fn mg_per_kwh(self) -> i64 {
        self.0
    }

    /// What this energy emits.
    pub fn of(self, energy: Energy) -> CarbonMass {
        CarbonMass(energy.0 * i128::from(self.0))
    }
}

impl CarbonMass {
    /// Nothing emitted.
    pub const ZERO: Self = Self(0);

    /// The mass in tonnes, for printing. One kWh is 3.6e9 W·ms, one tonne is 1e9 mg.
    pub fn as_tonnes(self) -> f64 {
        self.0 as f64 / 3.6e9 / 1e9
    }
}

macro_rules! sums {
    ($($name:ident),*) => {$(
        impl Add for $name {
            type Output = Self;
            fn add(self, other: Self) -> Self {
                Self(self.0 + other.0)
            }
        }
        impl AddAssign for $name {
            fn add_assign(&mut self, other: Self) {
                self.0 += other.0;
            }
        }
        impl Sub for $name {
            type Output = Self;
            fn sub(self, other: Self) -> Self {
                Self(self.0 - other.0)
            }
        }
        impl SubAssign for $name {
            fn sub_assign(&mut self, other: Self) {
                self.0 -= other.0;
            }
        }
        impl Neg for $name {
            type Output = Self;
            fn neg(self) -> Self {
                Self(-self.0)
            }
        }
        impl Sum for $name {
            fn sum<I: Iterator<Item = Self>>(all: I) -> Self {
                all.fold(Self(0), Add::add)
            }
        }
    )*};
}
sums!(Watts, Energy, CarbonMass);

/// Writes three significant digits in the unit that suits: `950 W`, `78.3 kW`, `1.20 MW`.
impl fmt::Display for Watts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let watts = self.0 as f64;
        let (value, unit) = match self.0.unsigned_abs() {
            0..=999 => return write!(f, "{} W", self.0),
            1_000..=999_999 => (watts / 1e3, "kW"),
            _ => (watts / 1e6, "MW"),
        };
        let digits = match value.abs() {
            size if size < 10.0 => 2,
            size if size < 100.0 => 1,
            _ => 0,
        };
        write!(f, "{value:.digits$} {unit}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_round_against_the_user_of_power() {
        assert_eq!(Watts::new(1001).share_up(Ppm::new(500_000)), Watts::new(501));
        assert_eq!(Watts::new(-1001).share_up(Ppm::new(500_000)), Watts::new(-500));
        let rating = VoltAmperes::new(1_000_001).continuous_watts(Ppm::new(950_000), Ppm::new(800_000));
        assert_eq!(rating, Watts::new(760_000));
    }

    #[test]
    fn watts_are_written_in_the_unit_that_suits() {
        let written = [0, 950, 78_300, 1_200_000, 312_000_000].map(|w| Watts::new(w).to_string());
        assert_eq!(written, ["0 W", "950 W", "78.3 kW", "1.20 MW", "312 MW"]);
    }

    #[test]
    fn a_megawatt_for_an_hour_is_a_megawatt_hour() {
        let energy = Watts::new(1_000_000).over(Duration::HOUR);
        assert_eq!(energy.as_mwh(), 1.0);
        assert_eq!(CarbonIntensity::from_mg_per_kwh(400_000).of(energy).as_tonnes(), 0.4);
    }
}
