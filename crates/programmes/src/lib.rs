//! Grid programmes: what a utility or a market pays for less draw when it asks, and what was earned by a meter's series.
//!
//! [`Programme`] is the contract as data. [`settle`] takes it with a [`Series`] of metered energy and the [`Event`]s that
//! were called, and gives a [`Settlement`]: per event the baseline, what was delivered against what was asked, and money
//! in exact integers. What a series does not tell is said ([`Lack`]), never guessed. [`Statement`] is the same in numbers
//! for people. Nothing here reads files or clocks, and time zones are those that are built in, so that the same input
//! gives the same result anywhere.

mod baseline;
mod programme;
mod series;
mod settle;
mod statement;
mod zone;

pub use baseline::{Adjustment, Basis, Lack};
pub use programme::{Baseline, Depth, Pay, Programme};
pub use series::Series;
pub use settle::{Asked, Delivered, Departure, Event, Month, Part, Settled, Settlement, Span, settle};
pub use statement::{EventFigures, EventLine, MonthLine, Statement};
pub use zone::{Daily, Zone};
