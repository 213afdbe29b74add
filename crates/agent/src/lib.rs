//! What runs on a node: agent and worker supervisor.
//!
//! [`run()`] is the agent: it joins a server, tells it what the node has, and does what it wants. What it does is decided
//! by [`Core`], a state machine without I/O. Each worker has a process of its own beside it, its [`supervisor`], which
//! outlives the agent; [`isolation`] holds workers apart.

mod accounts;
mod core;
mod cores;
mod discover;
mod environment;
mod health;
mod hooks;
mod identity;
pub mod isolation;
mod limits;
mod link;
mod logs;
mod node;
mod power;
mod run;
mod store;
pub mod supervisor;
mod task;
#[cfg(test)]
mod testing;

pub use core::{Action, Core, Ignored, Input, Stand, refused};
pub use discover::{Chips, Found, Roots, discover, local_address, nvml};
pub use environment::{Account, Surroundings, Vendor, environment};
pub use identity::{Identity, IdentityError};
pub use run::{AgentError, Configuration, Departure, run};
pub use store::Retention;
