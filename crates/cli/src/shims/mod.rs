//! Slurm's commands over our server, as far as scripts use them. They are this same binary under their own names; inside
//! a job they stand on its PATH and speak with the job's own token.

mod format;
mod sbatch;
mod scancel;
mod scontrol;
mod sinfo;
mod squeue;
mod srun;
mod states;
mod times;

use std::ffi::OsStr;
use std::path::Path;
use std::process::ExitCode;

use clap::Parser;

use crate::connection::{Connection, block_on};
use crate::context::Choice;
use crate::terminal::BadInput;

/// The partition that all work and all nodes are said to be in.
const PARTITION: &str = "offtake";

/// One of Slurm's commands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shim {
    Srun,
    Sbatch,
    Squeue,
    Scancel,
    Sinfo,
    Scontrol,
}

impl Shim {
    const ALL: [Self; 6] = [Self::Srun, Self::Sbatch, Self::Squeue, Self::Scancel, Self::Sinfo, Self::Scontrol];

    /// The command that a program is called as; none when it is called by another name.
    pub fn of(program: &OsStr) -> Option<Self> {
        let name = Path::new(program).file_name()?;
        Self::ALL.into_iter().find(|shim| name == shim.name())
    }

    /// Its name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Srun => "srun",
            Self::Sbatch => "sbatch",
            Self::Squeue => "squeue",
            Self::Scancel => "scancel",
            Self::Sinfo => "sinfo",
            Self::Scontrol => "scontrol",
        }
    }
}

pub fn run(shim: Shim) -> anyhow::Result<ExitCode> {
    match shim {
        Shim::Srun => block_on(srun::run(srun::Arguments::parse())),
        Shim::Sbatch => block_on(sbatch::run(sbatch::Arguments::parse())),
        Shim::Squeue => done(block_on(squeue::run(squeue::Arguments::parse()))),
        Shim::Scancel => done(block_on(scancel::run(scancel::Arguments::parse()))),
        Shim::Sinfo => done(block_on(sinfo::run(sinfo::Arguments::parse()))),
        Shim::Scontrol => done(scontrol::run(&scontrol::Arguments::parse())),
    }
}

fn done(result: anyhow::Result<()>) -> anyhow::Result<ExitCode> {
    result.map(|()| ExitCode::SUCCESS)
}

/// To the job's own server inside a job, and to the user's outside.
fn open() -> anyhow::Result<Connection> {
    Connection::open(&Choice::default())
}

/// The user's name, for `--me`.
fn me() -> Result<String, BadInput> {
    let set = |name| std::env::var(name).ok().filter(|value| !value.is_empty());
    set("USER")
        .or_else(|| set("LOGNAME"))
        .ok_or_else(|| BadInput("--me: USER is not set: name the user with -u".to_owned()))
}

/// Whether a filter of several words, none of which means any, lets a value through.
fn lets_through(words: &[String], value: &str) -> bool {
    words.is_empty() || words.iter().any(|word| word == value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_are_told_by_their_names() {
        assert_eq!(Shim::of(OsStr::new("/run/job/bin/srun")), Some(Shim::Srun));
        assert_eq!(Shim::of(OsStr::new("scontrol")), Some(Shim::Scontrol));
        for other in ["offtake", "/srun/offtake", "srun2", ""] {
            assert_eq!(Shim::of(OsStr::new(other)), None, "{other}");
        }
    }
}
