//! A virtual end node (VEN) of OpenADR 3.1: reads the events of a utility's server (VTN), works out what they ask of one
//! cap, and reports what was drawn.
//!
//! [`listing`] reads what a VTN says, and trusts none of it. [`wanted`] makes of events that overlap and contradict each
//! other one limit at each instant. [`Follower`] compares that with what stands announced and says what to do: it does
//! no I/O, so whoever drives it decides how limits are carried out. [`Client`] speaks to the VTN.
//!
//! What is announced is the only memory: a limit's name says what it asks for, so that one that is asked for again is
//! known again, also after a restart.

mod client;
mod event;
mod follow;
mod limit;
mod period;
mod report;

pub use client::{Client, Credentials, Trouble};
pub use event::{AskedReport, Event, Interval, Listing, Nonsense, Payload, listing};
pub use follow::{Action, Follower, Seen, Settings, Standing};
pub use limit::{Limit, Scope, wanted};
pub use report::{Report, ReportKey};
