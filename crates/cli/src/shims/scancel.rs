//! `scancel`: withdraws jobs, or sends them a signal.

use clap::Parser;
use offtake_protocol::rest::Cancel;

use super::squeue::Filter;
use super::{lets_through, me, open, states};
use crate::identity::{JobName, jobs_of_slurm};
use crate::live::orders::give_all;
use crate::terminal::BadInput;

/// Cancel jobs of an Offtake server, as Slurm's scancel does.
#[derive(Parser, Debug)]
#[command(name = "scancel", version, infer_long_args = true)]
pub struct Arguments {
    /// Jobs: 17, 17_3, 17_[1-4]; of an array all
    #[arg(value_name = "JOB")]
    jobs: Vec<String>,
    /// Send this signal instead
    #[arg(short, long)]
    signal: Option<String>,
    /// Only this user's
    #[arg(short, long)]
    user: Option<String>,
    /// Only one's own
    #[arg(long)]
    me: bool,
    /// Only those of this name
    #[arg(short, long, alias = "jobname")]
    name: Option<String>,
    /// Only those of this account (tenant)
    #[arg(short = 'A', long)]
    account: Option<String>,
    /// Only those in this state
    #[arg(short = 't', long)]
    state: Option<String>,
    /// Signal the batch script
    #[arg(short, long)]
    batch: bool,
    /// Signal the batch script and its steps
    #[arg(short, long)]
    full: bool,
    /// Say nothing of jobs that are over
    #[arg(short = 'Q', long)]
    quiet: bool,
    /// Say more
    #[arg(short, long, action = clap::ArgAction::Count)]
    verbose: u8,
}

pub async fn run(arguments: Arguments) -> anyhow::Result<()> {
    let filter = filter(&arguments)?;
    let connection = open()?;
    let is_plain = lets_all(&filter);
    let mut jobs = Vec::new();
    if is_plain {
        for name in &filter.jobs {
            jobs.extend(connection.identities(*name).await?);
        }
    } else {
        jobs.extend(filter.jobs(&connection).await?.iter().map(|job| job.id));
    }
    let body = Cancel { signal: arguments.signal, now: false };
    let result = give_all(&connection, "cancel", &jobs, &body).await;
    if arguments.quiet { Ok(()) } else { result }
}

fn filter(arguments: &Arguments) -> anyhow::Result<Filter> {
    let mut users: Vec<String> = arguments.user.iter().cloned().collect();
    if arguments.me {
        users.push(me()?);
    }
    let mut jobs: Vec<JobName> = Vec::new();
    for words in &arguments.jobs {
        jobs.extend(jobs_of_slurm(words).map_err(BadInput)?);
    }
    let states = arguments.state.as_deref().map(states::jobs_of).transpose().map_err(BadInput)?;
    let filter = Filter {
        users,
        names: arguments.name.iter().cloned().collect(),
        accounts: arguments.account.iter().cloned().collect(),
        states: states.unwrap_or_default(),
        nodes: Vec::new(),
        jobs,
    };
    if filter.jobs.is_empty() && lets_all(&filter) {
        return Err(BadInput("name jobs, or say whose or which with -u, -n, -A, -t or --me".to_owned()).into());
    }
    Ok(filter)
}

/// Whether it asks for no more than certain jobs.
fn lets_all(filter: &Filter) -> bool {
    let any = "";
    lets_through(&filter.users, any)
        && lets_through(&filter.names, any)
        && lets_through(&filter.accounts, any)
        && filter.states.is_empty()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(words: &str) -> anyhow::Result<Filter> {
        filter(&Arguments::try_parse_from(words.split(' '))?)
    }

    #[test]
    fn jobs_are_named_or_described() {
        let named = read("scancel 5 17_[1-2],6").expect("they are jobs");
        assert_eq!(named.jobs.len(), 4);
        assert!(lets_all(&named));
        let described = read("scancel -u ada -t PD").expect("they are described");
        assert!(described.jobs.is_empty() && !lets_all(&described));
        for refused in ["scancel", "scancel x", "scancel -t sleeping", "scancel -i 5", "scancel 17_"] {
            assert!(read(refused).is_err(), "{refused}");
        }
    }
}
