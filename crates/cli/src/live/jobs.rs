//! `offtake jobs`.

use clap::Args;
use clap::builder::RangedU64ValueParser;
use offtake_protocol::rest::{JobQuery, JobState};

use super::Common;
use crate::show::{figures::now_ms, jobs};
use crate::terminal::{print, print_json, width};

#[derive(Args)]
pub struct Arguments {
    /// Those that are over too
    #[arg(long, conflicts_with = "state")]
    all: bool,
    /// Only those in these states, separated by commas
    #[arg(long, value_name = "A,B", value_delimiter = ',', value_parser = state)]
    state: Vec<JobState>,
    /// Only this tenant's
    #[arg(long)]
    tenant: Option<String>,
    /// Only those of this name
    #[arg(long)]
    name: Option<String>,
    /// Only those that run as this user
    #[arg(long)]
    user: Option<String>,
    /// At most so many, the youngest first [default: 1000]
    #[arg(long, value_name = "N", value_parser = RangedU64ValueParser::<usize>::new().range(1..))]
    limit: Option<usize>,
    #[command(flatten)]
    common: Common,
}

/// Jobs listed where nobody says how many.
const LISTED: usize = 1000;

pub async fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let query = query(arguments);
    let found = arguments.common.open()?.jobs(query, arguments.limit.unwrap_or(LISTED)).await?;
    if arguments.common.json {
        return print_json(&found);
    }
    if found.is_empty() {
        let is_narrow = arguments.all
            || !arguments.state.is_empty()
            || arguments.tenant.is_some()
            || arguments.name.is_some()
            || arguments.user.is_some();
        eprint!("{}", if is_narrow { jobs::NONE_AT_ALL } else { jobs::NONE });
        return Ok(());
    }
    print(&jobs::jobs(&found, now_ms(), width()))
}

fn query(arguments: &Arguments) -> JobQuery {
    let states: Vec<&str> = arguments.state.iter().map(|state| state.word()).collect();
    JobQuery {
        state: (!states.is_empty()).then(|| states.join(",")),
        all: arguments.all.then_some(true),
        tenant: arguments.tenant.clone(),
        name: arguments.name.clone(),
        user: arguments.user.clone(),
        ..JobQuery::default()
    }
}

/// Reads the word for a state.
pub fn state(text: &str) -> Result<JobState, String> {
    JobState::ALL.into_iter().find(|state| state.word() == text).ok_or_else(|| {
        let words: Vec<&str> = JobState::ALL.iter().map(|state| state.word()).collect();
        format!("allowed is {}", words.join(", "))
    })
}
