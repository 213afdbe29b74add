//! `offtake fleet`: check a fleet file, show what it holds.

use std::collections::BTreeMap;
use std::path::PathBuf;

use clap::{Args, Subcommand};
use offtake_fleet::{Fleet, show};

use crate::terminal::{BadInput, print, print_json};

#[derive(Subcommand)]
pub enum Command {
    /// Read a fleet file and say what is wrong or worth knowing
    Check {
        #[command(flatten)]
        target: Target,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Count chips and megawatts by level, and tell which caps bind
    Show {
        #[command(flatten)]
        target: Target,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
}

#[derive(Args)]
pub struct Target {
    /// The fleet file
    file: PathBuf,
    /// Set a parameter of the file
    #[arg(long = "set", value_name = "NAME=NUMBER")]
    set: Vec<String>,
}

impl Target {
    fn read(&self) -> anyhow::Result<Fleet> {
        let mut parameters = BTreeMap::new();
        for given in &self.set {
            let parsed = given.split_once('=').and_then(|(name, value)| Some((name.to_owned(), value.parse().ok()?)));
            let Some((name, value)) = parsed else {
                return Err(BadInput(format!("--set `{given}`: write NAME=NUMBER, such as `buildings=30`")).into());
            };
            parameters.insert(name, value);
        }
        Ok(offtake_fleet::read(&self.file, &parameters)?)
    }
}

pub fn run(command: &Command) -> anyhow::Result<()> {
    match command {
        Command::Check { target, json: true } => print_json(&show::check(&target.read()?)),
        Command::Check { target, json: false } => print(&show::check(&target.read()?).to_string()),
        Command::Show { target, json: true } => print_json(&show::json(&target.read()?)),
        Command::Show { target, json: false } => print(&show::text(&target.read()?)),
    }
}
