//! The agent and its supervisors, with real processes.

mod agent;
mod isolation;
mod server;
mod supervisor;
mod support;
