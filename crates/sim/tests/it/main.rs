//! What is ahead of a live state.

mod ahead;
mod backup;
mod clock;
mod cooling;
mod crossing;
mod dependencies;
mod estimates;
mod failures;
mod feeds;
mod grid;
mod ramps;
mod reservations;
mod settlement;
