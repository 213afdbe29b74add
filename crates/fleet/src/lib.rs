//! What exists: sites, the domain tree, nodes, accelerators, circuits and caps.
//!
//! [`Fleet`] is the model that the engine loads; it is dense and immutable, so that a million chips fit in a few
//! megabytes. [`read`] makes one from a fleet file, [`account()`] adds up what it draws against its caps, and [`show`]
//! puts that on a page.

pub mod account;
mod backup;
mod cooling;
mod error;
mod file;
mod hours;
mod joined;
mod model;
mod racks;
pub mod show;
mod torus;

pub use account::account;
pub use backup::{Backup, Generators};
pub use cooling::{Cooling, HeatPoint, LoadPoint};
pub use error::FleetError;
pub use file::{MAX_DOMAINS, MAX_FILE_BYTES, MAX_LINE_BYTES, MAX_NODES, parse, read};
pub use hours::{Hours, Lowered, Schedule};
pub use joined::{JoinedNode, joined, lacking};
use model::interpolated;
pub use model::{
    AcceleratorKind, AcceleratorKindIx, Basis, Cap, CapKind, CapTarget, Circuit, CircuitIx, Derating, Domain, DomainIx,
    Feed, Fleet, LevelIx, Meter, Node, NodeIx, NodeKind, NodeKindIx, Overload, PowerLevel, Ramp, Site, SiteIx,
    Smoothing,
};
pub use racks::{Rack, racks, with_racks};
pub use torus::{Sides, Torus};
