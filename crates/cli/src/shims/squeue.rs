//! `squeue`: jobs, one a line.

use clap::Parser;
use offtake_protocol::rest::{JobDetail, JobQuery, JobState, JobView};
use offtake_workload::hostlist;

use super::format::Format;
use super::{PARTITION, lets_through, me, open, states, times};
use crate::connection::Connection;
use crate::identity::{JobName, jobs_of_slurm};
use crate::show::figures::{now_ms, tier};
use crate::show::jobs::name;
use crate::terminal::{BadInput, print, printable};

/// List jobs of an Offtake server, as Slurm's squeue does.
#[derive(Parser, Debug)]
#[command(name = "squeue", version, disable_help_flag = true, infer_long_args = true)]
pub struct Arguments {
    /// Only these users', separated by commas
    #[arg(short, long, value_delimiter = ',')]
    user: Vec<String>,
    /// Only one's own
    #[arg(long)]
    me: bool,
    /// Only these jobs, separated by commas
    #[arg(short, long, value_name = "JOBS")]
    jobs: Option<String>,
    /// Only those in these states, separated by commas, or all
    #[arg(short = 't', long, value_delimiter = ',')]
    states: Vec<String>,
    /// Only those of these names, separated by commas
    #[arg(short, long, value_delimiter = ',')]
    name: Vec<String>,
    /// Only those of these accounts (tenants), separated by commas
    #[arg(short = 'A', long, value_delimiter = ',')]
    account: Vec<String>,
    /// Only those on these nodes
    #[arg(short = 'w', long)]
    nodelist: Option<String>,
    /// What to print of each job
    #[arg(short = 'o', long)]
    format: Option<String>,
    /// Print no titles
    #[arg(short = 'h', long)]
    noheader: bool,
    /// Print more of each job
    #[arg(short, long, conflicts_with = "format")]
    long: bool,
    /// Print each job of an array on its own line; always so here
    #[arg(short = 'r', long)]
    array: bool,
    /// Print help
    #[arg(long, action = clap::ArgAction::Help)]
    help: Option<bool>,
}

const FIELDS: [(char, &str); 26] = [
    ('A', "JOBID"),
    ('C', "CPUS"),
    ('D', "NODES"),
    ('E', "DEPENDENCY"),
    ('F', "ARRAY_JOB_ID"),
    ('K', "ARRAY_TASK_ID"),
    ('L', "TIME_LEFT"),
    ('M', "TIME"),
    ('N', "NODELIST"),
    ('P', "PARTITION"),
    ('Q', "PRIORITY"),
    ('R', "NODELIST(REASON)"),
    ('S', "START_TIME"),
    ('T', "STATE"),
    ('V', "SUBMIT_TIME"),
    ('Z', "WORK_DIR"),
    ('a', "ACCOUNT"),
    ('b', "TRES_PER_NODE"),
    ('e', "END_TIME"),
    ('i', "JOBID"),
    ('j', "NAME"),
    ('l', "TIME_LIMIT"),
    ('o', "COMMAND"),
    ('q', "QOS"),
    ('t', "ST"),
    ('u', "USER"),
];
const SHORT: &str = "%.18i %.9P %.8j %.8u %.2t %.10M %.6D %R";
const LONG: &str = "%.18i %.9P %.8j %.8u %.8T %.10M %.9l %.6D %R";

pub async fn run(arguments: Arguments) -> anyhow::Result<()> {
    let known: String = FIELDS.iter().map(|(letter, _)| *letter).chain(['r']).collect();
    let wanted = arguments.format.as_deref().unwrap_or(if arguments.long { LONG } else { SHORT });
    let format = Format::read(wanted, &known).map_err(BadInput)?;
    let filter = Filter::of(&arguments)?;
    let mut jobs = filter.jobs(&open()?).await?;
    jobs.sort_by_key(|job| (job.state != JobState::Pending, job.state, job.id));
    let now_ms = now_ms();
    let header = if arguments.noheader { String::new() } else { format.line(title) };
    print(&jobs.iter().fold(header, |text, job| text + &format.line(|letter| field(job, letter, now_ms))))
}

/// Which jobs are meant; shared with `scancel`.
#[derive(Default)]
pub struct Filter {
    pub users: Vec<String>,
    pub names: Vec<String>,
    pub accounts: Vec<String>,
    pub states: Vec<JobState>,
    pub nodes: Vec<String>,
    pub jobs: Vec<JobName>,
}

impl Filter {
    fn of(arguments: &Arguments) -> anyhow::Result<Self> {
        let mut users = arguments.user.clone();
        if arguments.me {
            users.push(me()?);
        }
        let mut states = Vec::new();
        for word in &arguments.states {
            states.extend(states::jobs_of(word).map_err(BadInput)?);
        }
        let list = arguments.nodelist.as_deref().unwrap_or_default();
        let nodes = if list.is_empty() {
            Vec::new()
        } else {
            hostlist::expand(list).map_err(|error| BadInput(error.to_string()))?
        };
        let jobs = jobs_of_slurm(arguments.jobs.as_deref().unwrap_or_default()).map_err(BadInput)?;
        Ok(Self { users, names: arguments.name.clone(), accounts: arguments.account.clone(), states, nodes, jobs })
    }

    /// All jobs that it lets through; of those that are over only where their state is named.
    pub async fn jobs(&self, connection: &Connection) -> anyhow::Result<Vec<JobView>> {
        let mut found = Vec::new();
        for name in &self.jobs {
            found.extend(of_name(connection, *name).await?);
        }
        if self.jobs.is_empty() {
            let words: Vec<&str> = self.states.iter().map(|state| state.word()).collect();
            let only = |words: &[String]| match words {
                [word] => Some(word.clone()),
                _ => None,
            };
            let query = JobQuery {
                state: (!words.is_empty()).then(|| words.join(",")),
                tenant: only(&self.accounts),
                name: only(&self.names),
                user: only(&self.users),
                ..JobQuery::default()
            };
            found = connection.jobs(query, usize::MAX).await?;
        }
        found.retain(|job| self.lets(job));
        Ok(found)
    }

    fn lets(&self, job: &JobView) -> bool {
        let in_state = if self.states.is_empty() { !job.state.is_over() } else { self.states.contains(&job.state) };
        in_state
            && lets_through(&self.users, &job.user)
            && lets_through(&self.names, &job.name)
            && lets_through(&self.accounts, &job.tenant)
            && (self.nodes.is_empty() || job.nodes.iter().any(|node| self.nodes.contains(node)))
    }
}

/// A job, or all jobs of an array.
async fn of_name(connection: &Connection, name: JobName) -> anyhow::Result<Vec<JobView>> {
    let id = match name {
        JobName::Job(id) => {
            let query = JobQuery { array: Some(id), all: Some(true), ..JobQuery::default() };
            let jobs = connection.jobs(query, usize::MAX).await?;
            if !jobs.is_empty() {
                return Ok(jobs);
            }
            id
        }
        JobName::Index { .. } => connection.identity(name).await?,
    };
    Ok(vec![connection.get::<JobDetail>(&format!("/v1/jobs/{id}")).await?.job])
}

fn title(letter: char) -> String {
    let found = FIELDS.iter().find(|(known, _)| *known == letter);
    found.map_or("REASON", |(_, title)| title).to_owned()
}

/// A field of a job.
pub fn field(job: &JobView, letter: char, now_ms: i64) -> String {
    let nodes = || hostlist::compress(job.nodes.iter().map(String::as_str));
    let has_nodes = matches!(job.state, JobState::Starting | JobState::Running | JobState::Stopping);
    let used = job.started_ms.map_or(0, |from| job.ended_ms.unwrap_or(now_ms) - from);
    let text = match letter {
        'A' => job.id.to_string(),
        'C' => job.cpu_milli.div_ceil(1000).to_string(),
        'D' if job.nodes.is_empty() => job.workers.to_string(),
        'D' => job.nodes.len().to_string(),
        'E' => dependencies(job),
        'F' => job.array.map_or(job.id, |place| place.id).to_string(),
        'K' => job.array.map_or_else(|| "N/A".to_owned(), |place| place.index.to_string()),
        'L' => times::limit(job.limit_ms.map(|limit| limit - used)),
        'M' => times::span(used),
        'N' if has_nodes => nodes(),
        'N' => String::new(),
        'P' => PARTITION.to_owned(),
        'Q' => "0".to_owned(),
        'R' if has_nodes => nodes(),
        'R' => format!("({})", reason(job)),
        'S' => times::instant(job.started_ms.or(job.start_estimate.map(|estimate| estimate.start_ms))),
        'T' => states::of_job(job.state).1.to_owned(),
        'V' => times::instant(Some(job.submitted_ms)),
        'Z' => job.directory.clone(),
        'a' => job.tenant.clone(),
        'b' if job.chip_milli > 0 => format!("gres/gpu:{}", job.chip_milli.div_ceil(1000)),
        'b' => "N/A".to_owned(),
        'e' => times::instant(job.ended_ms.or_else(|| Some(job.started_ms? + job.limit_ms?))),
        'i' => name(job),
        'j' => job.name.clone(),
        'l' => times::limit(job.limit_ms),
        'o' => job.command.clone(),
        'q' => tier(job.tier).to_owned(),
        't' => states::of_job(job.state).0.to_owned(),
        'u' => job.user.clone(),
        _ => reason(job),
    };
    printable(&text)
}

fn reason(job: &JobView) -> String {
    job.reason.clone().unwrap_or_else(|| "None".to_owned())
}

/// As Slurm writes them: `afterok:12,afterany:13`.
pub fn dependencies(job: &JobView) -> String {
    use offtake_workload::When;
    let word = |when| match when {
        When::Started => "after",
        When::Ended => "afterany",
        When::Succeeded => "afterok",
        When::Failed => "afternotok",
    };
    let all: Vec<String> =
        job.after.iter().map(|dependency| format!("{}:{}", word(dependency.when), dependency.job)).collect();
    if all.is_empty() { "(null)".to_owned() } else { all.join(",") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::show::samples;

    fn printed(wanted: &str) -> String {
        let known: String = FIELDS.iter().map(|(letter, _)| *letter).chain(['r']).collect();
        let format = Format::read(wanted, &known).expect("it is a format");
        let jobs = samples::jobs();
        jobs.iter().fold(format.line(title), |text, job| text + &format.line(|letter| field(job, letter, samples::NOW)))
    }

    #[test]
    fn the_default_columns_are_slurms() {
        insta::assert_snapshot!(printed(SHORT));
    }

    #[test]
    fn every_field_has_a_value() {
        let wanted: String = FIELDS.iter().map(|(letter, _)| format!("%{letter}|")).collect();
        insta::assert_snapshot!(printed(&wanted));
    }

    #[test]
    fn options_are_read_as_slurm_does() {
        let read = |words: &str| Arguments::try_parse_from(words.split(' '));
        let arguments = read("squeue -hu ada,bob -j5,17_[1-2] -t PD,r -o%i --me -A x").expect("they are options");
        assert_eq!((arguments.noheader, arguments.user.len(), arguments.me), (true, 2, true));
        assert_eq!((arguments.format.as_deref(), arguments.states.len()), (Some("%i"), 2));
        for refused in ["squeue --sort=i", "squeue -O jobid", "squeue --json", "squeue -p gpu"] {
            let error = read(refused).expect_err("it is refused").to_string();
            assert!(
                error.contains(refused.split(' ').nth(1).unwrap_or_default().split('=').next().unwrap_or_default()),
                "{error}"
            );
        }
    }

    #[test]
    fn filters_let_through_what_they_name() {
        let let_through = |filter: Filter| -> Vec<u64> {
            samples::jobs().iter().filter(|job| filter.lets(job)).map(|job| job.id).collect()
        };
        assert_eq!(let_through(Filter::default()), [17, 16, 15, 14, 9]);
        assert_eq!(let_through(Filter { states: vec![JobState::Failed], ..Filter::default() }), [7]);
        assert_eq!(
            let_through(Filter { names: vec!["later".to_owned(), "goes".to_owned()], ..Filter::default() }),
            [16, 9]
        );
        assert_eq!(let_through(Filter { users: vec!["bob".to_owned()], ..Filter::default() }), [0_u64; 0]);
        assert_eq!(let_through(Filter { nodes: vec!["n-0064".to_owned()], ..Filter::default() }), [14]);
    }
}
