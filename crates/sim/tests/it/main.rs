//! What is ahead of a live state.

mod ahead;
mod dependencies;
mod estimates;
mod failures;
mod reservations;
