//! What is asked for: jobs that end and services that stay.

mod model;

pub use model::{Checkpoint, ChipRequest, Gang, Job, Service, Strength, Tier, Topology, Workload};
