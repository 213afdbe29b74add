//! The quantities that Offtake reasons about, as types.
//!
//! A bare number never crosses a function boundary: a cap is [`Watts`], a wait is a [`Duration`], a share is
//! [`Ppm`]. All of them are integers, so that the same facts give the same result on any machine.

mod amounts;
mod money;
mod power;
mod time;

pub use amounts::{ChipMilli, CpuMilli, Mebibytes, Ppm};
pub use money::{Currency, Money, PricePerKwMonth, PricePerMwh};
pub use power::{CarbonIntensity, CarbonMass, Energy, VoltAmperes, Watts};
pub use time::{Duration, ParseDurationError, Timestamp};
