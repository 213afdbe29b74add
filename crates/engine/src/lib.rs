//! The engine: state as a fold over facts, and the passes that decide.
//!
//! It knows no file, socket, clock or thread: time comes in with facts and with `decide`, and the same facts give the
//! same decisions on any machine.

mod admission;
mod blast;
mod capacity;
mod cooling;
mod crossing;
mod curtail;
mod decide;
mod defrag;
mod displaceable;
mod elastic;
mod evacuation;
mod explain;
mod fact;
mod health;
mod history;
mod index;
mod later;
mod ledger;
mod opening;
mod place;
mod plan;
mod policy;
mod preempt;
mod queue;
mod ramp;
mod request;
mod reserve;
mod risk;
mod state;
mod tenants;
mod throttle;

pub use admission::Admission;
pub use capacity::{Capacity, Class, Classes, Draw, FreeVector, Limit, LimitIx, Withheld};
pub use curtail::LAST_MOMENT as LEAST_NOTICE;
pub use decide::decide;
pub use defrag::{Defragmentation, Move, carry_out as carry_out_moves};
pub use displaceable::starts_again;
pub use elastic::speed;
pub use explain::{Explanation, Nearest, Need, Obstacle, Placed, Promise, Waiting};
pub use fact::{
    Curtailment, CurtailmentId, Event, Fact, Fault, JobId, NodeRange, Placement, ReservationId, ServiceId, Slot,
    StopReason,
};
pub use history::series;
pub use ledger::{ChipTime, Ledger, SiteAccount};
pub use opening::Opening;
pub use policy::{
    Backfill, Blame, Estimates, Fairness, Health, Multifactor, Order, Packing, Policy, PolicyError, Preemption,
    Queue as Discipline, xid_in,
};
pub use preempt::Plan as PreemptionPlan;
pub use queue::{Blocked, Queue};
pub use ramp::Unborne;
pub use request::Refusal;
pub use reserve::{Unmet, Window};
pub use risk::{CHIP_HOURS_BETWEEN_FAILURES, Risk};
pub use state::{
    Announced, Course as RampCourse, Ended, Hold, Image, NodeCondition, Phase, Reserved, ServiceState, Stage, State,
    Unfit, Work,
};
pub use tenants::{Counted, Entitled, Limits, Load, Quota, QuotaView, Tenant, TenantTree, TenantView};
pub use throttle::{Pace, Throttle, ends_at};
