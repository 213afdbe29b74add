//! The agent and its supervisors, with real processes.

mod isolation;
mod supervisor;
mod support;
