//! What exists: sites, the domain tree, nodes, accelerators, circuits and caps.
//!
//! [`Fleet`] is the model that the engine loads; it is dense and immutable, so that a million chips fit in a few
//! megabytes.

mod model;

pub use model::{
    AcceleratorKind, AcceleratorKindIx, Basis, Cap, CapKind, CapTarget, Circuit, CircuitIx, Domain, DomainIx, Feed,
    Fleet, LevelIx, Meter, Node, NodeIx, NodeKind, NodeKindIx, PowerLevel, Site, SiteIx,
};
