//! What is ahead of a live state.

mod ahead;
mod crossing;
mod dependencies;
mod estimates;
mod failures;
mod grid;
mod reservations;
mod settlement;
