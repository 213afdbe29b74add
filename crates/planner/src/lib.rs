//! What is decided before there is work: how many servers a site can hold. It advises; the engine decides.

mod fill;
mod growth;
mod size;

pub use fill::Filled;
pub use growth::{Boundless, Count, Fit, fit};
pub use size::{CapUse, Row, SizeError, Sizing, limited_to, size};
