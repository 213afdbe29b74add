//! What is ahead of a live state.

mod ahead;
mod failures;
mod reservations;
