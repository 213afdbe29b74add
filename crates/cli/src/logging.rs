//! What the long-running commands log: on standard error, as text or JSON.

use std::io::IsTerminal;

use clap::{Args, ValueEnum};
use tracing_subscriber::EnvFilter;

use crate::terminal::BadInput;

#[derive(Args)]
pub struct Logging {
    /// How log lines are written
    #[arg(long, value_enum, default_value = "text", value_name = "FORMAT")]
    log_format: Format,
    /// What is logged: error, warn, info, debug or trace [default: info, or as OFFTAKE_LOG says]
    #[arg(long, value_name = "FILTER")]
    log: Option<String>,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    Text,
    Json,
}

impl Logging {
    /// Begins to log. Once in a process.
    ///
    /// # Errors
    /// When the filter cannot be meant.
    pub fn start(&self) -> anyhow::Result<()> {
        let set = std::env::var("OFFTAKE_LOG").ok().filter(|value| !value.is_empty());
        let wanted = self.log.clone().or(set).unwrap_or_else(|| "info".to_owned());
        let filter = EnvFilter::try_new(&wanted).map_err(|error| {
            BadInput(format!(
                "--log `{wanted}`: {error}; allowed is a level such as info, or warn,offtake_server=debug"
            ))
        })?;
        let is_plain = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        let lines = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
        match self.log_format {
            Format::Text => lines.with_ansi(!is_plain && std::io::stderr().is_terminal()).init(),
            Format::Json => lines.json().init(),
        }
        Ok(())
    }
}
