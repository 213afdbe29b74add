//! The commands that speak to a server.

pub mod contexts;
mod defrag;
mod events;
pub mod follow;
mod grid;
mod instants;
mod job;
mod jobs;
pub mod launch;
mod logs;
mod nodes;
mod openadr;
pub mod orders;
pub mod output;
mod policy;
mod reserve;
mod run;
mod services;
pub mod submit;
pub mod surroundings;
mod token;
mod top;
mod what_if;

use std::process::ExitCode;

use clap::{Args, Subcommand};

use crate::connection::{Connection, block_on};
use crate::context::Choice;
use crate::identity::JobName;

// What all commands that speak to a server have.
#[derive(Args)]
pub struct Common {
    #[command(flatten)]
    server: Choice,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

impl Common {
    fn open(&self) -> anyhow::Result<Connection> {
        Connection::open(&self.server)
    }
}

#[derive(Subcommand)]
#[command(defer = true)]
pub enum Command {
    /// Run a program as a job: its output live, its receipt at the end, its exit code
    Run(run::Arguments),
    /// Submit a job file or a batch script
    Submit(submit::Arguments),
    /// List jobs
    Jobs(jobs::Arguments),
    /// Show a job with its attempts and its receipt
    Job(job::Arguments),
    /// Say why a job waits, or why it is where it is
    Why(job::WhyArguments),
    /// Print what a job has written
    Logs(logs::Arguments),
    /// Cancel jobs, or send them a signal
    Cancel(orders::CancelArguments),
    /// Keep jobs from starting; those that run save their work and wait
    Hold(orders::Arguments),
    /// Let held jobs start
    Release(orders::Arguments),
    /// Stop running jobs and start them again
    Requeue(orders::Arguments),
    /// Set how many replicas a service has
    Scale(services::ScaleArguments),
    /// List services, how many of their replicas run, and what they wait for
    Services(services::ListArguments),
    /// List nodes
    Nodes(nodes::Arguments),
    /// Give a node no new work
    Drain(nodes::DrainArguments),
    /// Give a drained node work again
    Resume(nodes::ResumeArguments),
    /// List caps and what is drawn under them, or set what one allows
    Grid(grid::Arguments),
    /// Watch the fleet, the queue and what happens
    Top(top::Arguments),
    /// Print what has happened
    Events(events::Arguments),
    /// Look ahead on the live state, and change nothing
    WhatIf(what_if::Arguments),
    /// Plan moves that open a block for a gang that waits, and carry them out
    Defrag(defrag::Arguments),
    /// Set nodes aside for a time: for jobs that name the reservation, or for maintenance
    Reserve(reserve::Arguments),
    /// List reservations and maintenance windows
    Reservations(reserve::ListArguments),
    /// Withdraw a reservation; jobs that run on its nodes go on
    Unreserve(reserve::WithdrawArguments),
    /// Show tenants with their quotas, what they borrow and what they lend
    Quota(policy::Arguments),
    /// Show tenants with their weights and shares, the order of their work
    Share(policy::Arguments),
    /// Show the policy in force, or set another
    #[command(subcommand)]
    Policy(policy::Command),
    /// Make, list and revoke tokens
    #[command(subcommand)]
    Token(token::Command),
}

pub fn run(command: &Command) -> anyhow::Result<ExitCode> {
    block_on(async {
        match command {
            Command::Run(arguments) => return run::run(arguments).await,
            Command::Submit(arguments) => return submit::run(arguments).await,
            Command::Jobs(arguments) => jobs::run(arguments).await,
            Command::Job(arguments) => job::show(arguments).await,
            Command::Why(arguments) => job::why(arguments).await,
            Command::Logs(arguments) => logs::run(arguments).await,
            Command::Cancel(arguments) => orders::cancel(arguments).await,
            Command::Hold(arguments) => orders::order(arguments, "hold").await,
            Command::Release(arguments) => orders::order(arguments, "release").await,
            Command::Requeue(arguments) => orders::order(arguments, "requeue").await,
            Command::Scale(arguments) => services::scale(arguments).await,
            Command::Services(arguments) => services::list(arguments).await,
            Command::Nodes(arguments) => nodes::list(arguments).await,
            Command::Drain(arguments) => nodes::drain(arguments).await,
            Command::Resume(arguments) => nodes::resume(arguments).await,
            Command::Grid(arguments) => grid::run(arguments).await,
            Command::Top(arguments) => top::run(arguments).await,
            Command::Events(arguments) => events::run(arguments).await,
            Command::WhatIf(arguments) => what_if::run(arguments).await,
            Command::Defrag(arguments) => defrag::run(arguments).await,
            Command::Reserve(arguments) => reserve::reserve(arguments).await,
            Command::Reservations(arguments) => reserve::list(arguments).await,
            Command::Unreserve(arguments) => reserve::withdraw(arguments).await,
            Command::Quota(arguments) => policy::quota(arguments).await,
            Command::Share(arguments) => policy::share(arguments).await,
            Command::Policy(command) => policy::run(command).await,
            Command::Token(command) => token::run(command).await,
        }?;
        Ok(ExitCode::SUCCESS)
    })
}

// A job, or one of an array.
#[derive(Args)]
pub struct OneJob {
    /// The job: its number, or 17_3 for index 3 of the array 17
    #[arg(value_name = "JOB")]
    job: JobName,
}
