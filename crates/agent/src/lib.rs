//! What runs on a node: agent and worker supervisor.

mod core;
mod discover;
mod environment;
mod hooks;
mod identity;
pub mod isolation;
pub mod supervisor;
#[cfg(test)]
mod testing;

pub use core::{Action, Core, Ignored, Input, Stand, refused};
pub use discover::{Chips, Found, Roots, discover, local_address, nvml};
pub use environment::{Account, Surroundings, Vendor, environment};
