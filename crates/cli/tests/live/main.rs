//! The built `offtake` command with a server, agents and work that really run.
//!
//! Each test has a machine of its own: folders, socket and port. Nothing of it is left when it ends.

mod api;
mod bad_input;
mod chaos;
mod distributed;
mod first_minutes;
mod grid;
mod host;
mod hosts;
mod http;
mod operate;
mod policy;
mod services;
mod slurm;
mod training;
