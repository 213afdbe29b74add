//! The engine: state as a fold over facts, and the passes that decide.
//!
//! It knows no file, socket, clock or thread: time comes in with facts and with `decide`, and the same facts give the
//! same decisions on any machine.

mod admission;
mod capacity;
mod decide;
mod fact;
mod index;
mod ledger;
mod place;
mod policy;
mod queue;
mod request;
mod state;

pub use admission::Admission;
pub use capacity::{Capacity, Class, Classes, Draw, FreeVector, Limit, LimitIx};
pub use decide::decide;
pub use fact::{Event, Fact, JobId, NodeRange, Placement, ServiceId, Slot};
pub use ledger::{ChipTime, Ledger, SiteAccount};
pub use policy::{Packing, Policy, Queue as Discipline};
pub use queue::{Blocked, Queue};
pub use request::Refusal;
pub use state::{Ended, Hold, Phase, ServiceState, State, Work};
