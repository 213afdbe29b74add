//! Time series from outside: prices of electricity, carbon intensity, weather.
//!
//! A series has one value an hour, in UTC. Hours that its source lacks carry the last known value forward, and are
//! counted ([`Gaps`]); before the first known hour and after the last of the file there is no value. Values are read
//! from decimal text to integers exactly. The formats are described in `docs/signals.md`.

mod carbon;
mod error;
mod price;
mod series;
mod weather;
mod wide;

pub use carbon::{CarbonSeries, CarbonZone, read_carbon};
pub use error::SignalError;
pub use price::{ExchangeRate, PriceSeries, Prices, read_prices};
pub use series::{Gaps, Series};
pub use weather::read_wet_bulb;
