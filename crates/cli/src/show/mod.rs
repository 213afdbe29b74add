//! What the server answers, as text for people: pure functions from the API's types.

pub mod defrag;
pub mod events;
pub mod figures;
pub mod grid;
pub mod job;
pub mod jobs;
pub mod nodes;
pub mod one_line;
pub mod reservations;
pub mod services;
pub mod statement;
pub mod tenants;
pub mod tokens;
pub mod what_if;
pub mod why;

#[cfg(test)]
pub mod samples;
