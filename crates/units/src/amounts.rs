//! Shares, processors, memory, parts of a chip.

use std::fmt;
use std::ops::{Add, AddAssign, Sub, SubAssign};

use serde::{Deserialize, Serialize};

/// A ratio in parts per million: speeds, PUE, shares, power factors.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Ppm(u32);

impl Ppm {
    /// Nothing.
    pub const ZERO: Self = Self(0);

    /// The whole: 1,000,000 parts per million.
    pub const ONE: Self = Self(1_000_000);

    /// How long something takes at this speed that takes so long at full speed, rounded up; forever at none.
    pub fn time_for(self, at_full_speed: crate::Duration) -> crate::Duration {
        let time = i128::from(at_full_speed.as_millis()) * 1_000_000;
        let slowed = if self.0 == 0 { i128::MAX } else { (time + i128::from(self.0) - 1) / i128::from(self.0) };
        crate::Duration::from_millis(i64::try_from(slowed).unwrap_or(i64::MAX))
    }

    /// What is done at this speed in some time, in time at full speed.
    pub fn done_in(self, span: crate::Duration) -> crate::Duration {
        let done = i128::from(span.as_millis()) * i128::from(self.0) / 1_000_000;
        crate::Duration::from_millis(i64::try_from(done).unwrap_or(i64::MAX))
    }

    /// A ratio of `parts` millionths.
    pub const fn new(parts: u32) -> Self {
        Self(parts)
    }

    /// The ratio nearest to `ratio`, or nothing when it is negative, not a number or above 4,294.
    pub fn from_ratio(ratio: f64) -> Option<Self> {
        let parts = (ratio * 1e6).round();
        (parts >= 0.0 && parts <= f64::from(u32::MAX)).then_some(Self(parts as u32))
    }

    /// Parts per million.
    pub const fn parts(self) -> u32 {
        self.0
    }

    /// The ratio for printing.
    pub fn as_f64(self) -> f64 {
        f64::from(self.0) / 1e6
    }
}

macro_rules! amount {
    ($(#[$doc:meta])* $name:ident($repr:ty), $unit:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name($repr);

        impl $name {
            /// None of it.
            pub const ZERO: Self = Self(0);

            /// The amount in the unit of the type.
            pub const fn new(amount: $repr) -> Self {
                Self(amount)
            }

            /// The amount in the unit of the type.
            pub const fn get(self) -> $repr {
                self.0
            }
        }

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

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!("{} ", $unit), self.0)
            }
        }
    };
}

amount!(
    /// Processor time in thousandths of a core.
    CpuMilli(u32), "thousandths of a core"
);
amount!(
    /// Host memory in MiB.
    Mebibytes(u64), "MiB"
);
amount!(
    /// A part of one accelerator in thousandths; 1000 is the whole chip.
    ChipMilli(u16), "thousandths of a chip"
);

impl ChipMilli {
    /// One whole chip.
    pub const WHOLE: Self = Self(1000);
}
