//! The control plane: the loop, identity, the API.
//!
//! [`core`] decides, without I/O. Around it is the shell: [`serve`] opens the journal, folds it, runs the loop that owns
//! the core on a thread of its own, and answers requests over HTTP. A request goes through `http` to the loop, which takes
//! all that waits into the core at once; what comes of it goes to the journal, and only from there to whoever waits, to
//! the streams of facts and to the history. So nothing is ever shown that a crash could take back.

mod clock;
mod concerns;
mod configuration;
pub mod core;
mod estimates;
pub mod fact;
mod history;
mod http;
mod identity;
mod listen;
mod log_relay;
mod metrics;
mod problem;
mod run_loop;
mod secrets;
mod serve;
mod server;
mod signals;
mod spans;
mod step_waiters;
mod store;
mod tokens;

pub use configuration::{Certificate, Configuration, Limits, PORT, Signals};
pub use http::openapi;
pub use listen::{ListenError, TlsError};
pub use serve::{Ready, ServerError, serve};
pub use store::StoreError;

/// The server's release.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");
