//! A worker's supervisor: a process of its own beside each worker, from the same binary as the agent.
//! A [`Launcher`] has it forked.
//!
//! It outlives the agent. It starts the worker at most once, keeps its output, ends its whole tree when it is told to or
//! when the lease ends, and writes down how the worker ended. An agent that starts again finds it by [`find`], and what
//! is left of one that was killed it ends by [`clean_up`].
//!
//! Each worker has a folder. In it are
//!
//! | file | what |
//! |---|---|
//! | `worker.json` | the [`WorkerLaunch`], written by [`Launcher::launch`] |
//! | `record` | what the supervisor did, one line of JSON each: prepared, started, ended |
//! | `control.sock` | where it takes [`Command`]s and tells its [`Status`] |
//! | `output.N.log`, `error.N.log` | output that the node keeps, from byte N of the stream on |
//! | `supervisor.log` | the supervisor's own complaints |
//!
//! A start is on disk before the worker is executed, so neither a crash of the supervisor nor of the node can make it
//! run twice: whoever finds a start without an end knows that it ran, and not how it ended.
//!
//! [`Core`] decides; it does no I/O. `process` is the shell around it.

mod core;
mod find;
mod handle;
mod launch;
mod launcher;
mod logs;
mod output;
mod process;
mod record;
mod spawn;
mod tree;
mod wire;

pub use self::core::{Action, Cause, Core, Input, Outcome, Phase};
pub use find::{CleanUpError, Found, clean_up, find};
pub use handle::Handle;
pub use launch::{Credentials, LogLimits, Resource, ResourceLimit, StopPlan, WorkerLaunch};
pub use launcher::{LaunchError, Launcher, serve_launches};
pub use logs::{LogChunk, log_end, log_read};
pub use wire::{Command, Ended, Status, Whom};

/// The clock of leases: milliseconds since the machine started, time in suspension included (`CLOCK_BOOTTIME`). All
/// processes of a machine read the same.
pub fn boot_now_ms() -> u64 {
    let now = nix::time::clock_gettime(nix::time::ClockId::CLOCK_BOOTTIME).expect("every Linux has this clock");
    let millis = now.tv_sec() * 1000 + now.tv_nsec() / 1_000_000;
    u64::try_from(millis).expect("the machine has started in the past")
}

/// The node's wall clock, in milliseconds since 1970.
fn unix_now_ms() -> i64 {
    let now = nix::time::clock_gettime(nix::time::ClockId::CLOCK_REALTIME).expect("every Linux has this clock");
    now.tv_sec() * 1000 + now.tv_nsec() / 1_000_000
}
