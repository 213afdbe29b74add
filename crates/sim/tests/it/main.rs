//! What is ahead of a live state.

mod ahead;
mod dependencies;
mod failures;
mod reservations;
