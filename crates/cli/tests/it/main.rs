//! The built `offtake` command, as people and machines use it.

mod bad_input;
mod bench;
mod dependencies;
mod determinism;
mod documents;
mod fake;
mod fleets;
mod help;
mod interrupted;
mod live;
mod openadr;
mod plan;
mod programmes;
mod shims;
mod simulate;
mod support;
mod traces;
