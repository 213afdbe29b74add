//! What goes over the wire: the API of the control plane ([`rest`]), and what server and agents say to each other
//! ([`agent`]).

pub mod agent;
pub mod rest;
