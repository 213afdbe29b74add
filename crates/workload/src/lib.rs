//! What is asked for: jobs that end and services that stay.
//!
//! The model is data ([`Workload`], [`Job`], [`Service`]). It is read from traces and our own formats ([`read`],
//! described in `docs/workload.md`), made up from a description ([`synthetic`]), or drawn anew from a trace at a given
//! load ([`resample`]). A job that is to run is written as a [`JobFile`] or a batch script of Slurm ([`sbatch`]), which
//! [`JobText`] tells apart. Whatever is read has passed [`check`], so that the engine meets no impossible request.

pub mod check;
mod error;
mod file;
pub mod fixed;
pub mod hostlist;
pub mod human;
pub mod input;
mod job_text;
mod model;
pub mod output;
pub mod pattern;
mod program;
pub mod resample;
mod reservation;
pub mod rng;
pub mod sbatch;
pub mod signal;
mod slice;
mod suggest;
pub mod synthetic;
mod trace;

pub use error::{TraceError, WriteError};
pub use file::{Array, JobFile, MOST_SCRIPT_BYTES, ServiceFile, Submission};
pub use job_text::{JobText, JobTextError};
pub use model::{
    Checkpoint, ChipRequest, Elastic, Gang, Groups, INNERMOST, Job, Predecessor, Service, Strength, Swing, Tier,
    Topology, Workload,
};
pub use program::{ArrayTask, Dependency, Layout, Program, Start, Stop, User, Warning, When};
pub use reservation::{Purpose, Reservation};
pub use slice::Slice;
pub use trace::{ServiceText, TraceFormat, WireGang, WireSpeed, read, read_from, write, write_csv, write_jsonl};
