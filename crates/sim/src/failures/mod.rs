//! Failures of a fleet: what fails, how often, why and for how long; drawn from a seed, the same for every policy.

mod interval;
mod model;
mod process;

pub use interval::IntervalAdvice;
pub(crate) use interval::gain;
pub use model::{Cause, Effect, FailureClass, FailureModel, Strikes};
pub use process::{CauseCount, FailureCounts};

pub(crate) use process::Process;
