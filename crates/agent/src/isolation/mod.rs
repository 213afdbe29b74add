//! What holds workers apart on a node: control groups, version 1 or 2, and CPU affinity where there are none.
//!
//! An agent makes one [`Node`] when it starts, and a [`Group`] for each worker. All its groups lie in one folder of its
//! own in each hierarchy, below the group that the agent itself is in; it touches no other.

mod group;
mod mounts;
mod node;

pub use group::Group;
pub use node::{GroupError, Limits, Node};
