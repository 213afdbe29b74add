//! Virtual time over the engine: scenarios in, outcomes and reports out.

mod ahead;
mod backup;
mod course;
mod dependencies;
mod energy;
pub mod failures;
mod grid;
mod meters;
mod occupants;
mod overload;
mod picture;
mod progress;
mod ramps;
pub mod report;
mod results;
mod run;
mod scenario;
mod settlement;
mod storage;
mod weather;

pub use ahead::{Ahead, Awaiting, JobAhead, look_ahead, starts_ahead, with_cap};
pub use backup::{NotBought, UtilityLoss, UtilityOutcome};
pub use course::Repairs;
pub use grid::{Cut, GridEvent, GridOutcome, Touched};
pub use meters::{FeedLoss, Meter, Reading, SPAN as METER_SPAN};
pub use overload::{FeedLoad, FeedOutcome};
pub use picture::Snapshot;
pub use progress::Spent;
pub use ramps::RampOutcome;
pub use results::{report_data, summary, write_jobs, write_timeline};
pub use run::{Broken, JobOutcome, Observer, Outcome, Sample, Setup, Signal, SignalValue, run};
pub use scenario::{Overrides, Scenario, ScenarioError, read};
pub use settlement::{settlements, write_events, write_meter};
pub use weather::Cooled;
