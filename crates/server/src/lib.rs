//! The control plane: the loop, identity, the API.

pub mod core;
pub mod fact;
