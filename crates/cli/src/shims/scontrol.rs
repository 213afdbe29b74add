//! `scontrol`: what scripts ask of it.

use clap::{Parser, Subcommand};
use offtake_protocol::rest::{JobDetail, JobQuery, JobView, NodeView};
use offtake_workload::hostlist;

use super::squeue::{dependencies, field};
use super::{PARTITION, open, states, times};
use crate::connection::block_on;
use crate::identity::{JobName, jobs_of_slurm};
use crate::live::orders::give_all;
use crate::show::figures::now_ms;
use crate::terminal::{BadInput, print, printable};

/// Show and change jobs and nodes of an Offtake server, as Slurm's scontrol does.
#[derive(Parser, Debug)]
#[command(name = "scontrol", version, infer_subcommands = true)]
pub struct Arguments {
    /// Print each record on one line
    #[arg(short, long, global = true)]
    oneliner: bool,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand, Debug)]
enum Command {
    /// Show something
    #[command(subcommand)]
    Show(Show),
    /// Keep jobs from starting
    Hold(Jobs),
    /// Let held jobs start
    Release(Jobs),
    /// Stop running jobs and start them again
    Requeue(Jobs),
    /// Not offered
    #[command(hide = true)]
    Update {
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        words: Vec<String>,
    },
}

#[derive(Subcommand, Debug)]
enum Show {
    /// The names of a list, one a line; of the job's nodes when none is given
    Hostnames { list: Option<String> },
    /// Names as one list
    Hostlist { names: Vec<String> },
    /// Jobs
    #[command(alias = "jobs")]
    Job { jobs: Option<String> },
    /// Nodes
    #[command(alias = "nodes")]
    Node { names: Option<String> },
}

#[derive(clap::Args, Debug)]
struct Jobs {
    /// Jobs: 17, 17_3, 17_[1-4]; of an array all
    #[arg(required = true, value_name = "JOB")]
    jobs: Vec<String>,
}

pub fn run(arguments: &Arguments) -> anyhow::Result<()> {
    match &arguments.command {
        Command::Show(Show::Hostnames { list }) => print(&hostnames(list.as_deref())?),
        Command::Show(Show::Hostlist { names }) => {
            let names: Vec<&str> = names.iter().flat_map(|names| names.split(',')).collect();
            print(&format!("{}\n", hostlist::compress(names)))
        }
        Command::Show(Show::Job { jobs }) => block_on(show_jobs(jobs.as_deref(), arguments.oneliner)),
        Command::Show(Show::Node { names }) => block_on(show_nodes(names.as_deref(), arguments.oneliner)),
        Command::Hold(jobs) => block_on(order(jobs, "hold")),
        Command::Release(jobs) => block_on(order(jobs, "release")),
        Command::Requeue(jobs) => block_on(order(jobs, "requeue")),
        Command::Update { words } => {
            let what = words.join(" ");
            let message = format!("update {what}: not offered: use 'offtake drain', 'resume', 'hold' and 'release'");
            Err(BadInput(printable(&message)).into())
        }
    }
}

fn hostnames(list: Option<&str>) -> anyhow::Result<String> {
    let of_job = || std::env::var("SLURM_JOB_NODELIST").or_else(|_| std::env::var("SLURM_NODELIST")).ok();
    let missing =
        || BadInput("show hostnames: give a list such as `node[1-4]`: this is no job, so there is none".to_owned());
    let list = list.map(str::to_owned).or_else(of_job).ok_or_else(missing)?;
    let names = hostlist::expand(&list).map_err(|error| BadInput(error.to_string()))?;
    Ok(names.iter().map(|name| format!("{name}\n")).collect())
}

async fn order(jobs: &Jobs, order: &str) -> anyhow::Result<()> {
    let connection = open()?;
    let mut all = Vec::new();
    for words in &jobs.jobs {
        for name in jobs_of_slurm(words).map_err(BadInput)? {
            all.extend(connection.identities(name).await?);
        }
    }
    give_all(&connection, order, &all, &serde_json::json!({})).await
}

async fn show_jobs(names: Option<&str>, on_one_line: bool) -> anyhow::Result<()> {
    let connection = open()?;
    let names = jobs_of_slurm(names.unwrap_or_default()).map_err(BadInput)?;
    let mut jobs = Vec::new();
    if names.is_empty() {
        jobs = connection.jobs(JobQuery::default(), usize::MAX).await?;
    }
    for name in names {
        let ids = match name {
            JobName::Job(id) => vec![id],
            JobName::Index { .. } => connection.identities(name).await?,
        };
        for id in ids {
            jobs.push(connection.get::<JobDetail>(&format!("/v1/jobs/{id}")).await?.job);
        }
    }
    print(&jobs.iter().map(|job| record(&of_job(job, now_ms()), on_one_line)).collect::<String>())
}

async fn show_nodes(names: Option<&str>, on_one_line: bool) -> anyhow::Result<()> {
    let names = names.map(hostlist::expand).transpose().map_err(|error| BadInput(error.to_string()))?;
    let mut nodes: Vec<NodeView> = open()?.get("/v1/nodes").await?;
    if let Some(names) = names {
        if let Some(unknown) = names.iter().find(|name| nodes.iter().all(|node| node.name != **name)) {
            return Err(BadInput(format!("there is no node `{unknown}`: 'sinfo -N' lists what there is")).into());
        }
        nodes.retain(|node| names.contains(&node.name));
    }
    print(&nodes.iter().map(|node| record(&of_node(node), on_one_line)).collect::<String>())
}

/// A record's lines, each of several `Name=value`.
type Record = Vec<Vec<(&'static str, String)>>;

fn record(record: &Record, on_one_line: bool) -> String {
    let lines: Vec<String> = record
        .iter()
        .map(|line| {
            line.iter().map(|(name, value)| format!("{name}={}", printable(value))).collect::<Vec<_>>().join(" ")
        })
        .collect();
    lines.join(if on_one_line { " " } else { "\n   " }) + if on_one_line { "\n" } else { "\n\n" }
}

fn of_job(job: &JobView, now_ms: i64) -> Record {
    let of = |letter| field(job, letter, now_ms);
    let mut first = vec![("JobId", job.id.to_string())];
    if let Some(place) = job.array {
        first.extend([("ArrayJobId", place.id.to_string()), ("ArrayTaskId", place.index.to_string())]);
    }
    first.push(("JobName", of('j')));
    let code = job.exit_code.unwrap_or_default();
    let exit = if code > 128 { format!("0:{}", code - 128) } else { format!("{code}:0") };
    let restarts = job.attempts.saturating_sub(1);
    vec![
        first,
        vec![("UserId", of('u')), ("Account", of('a')), ("QOS", of('q')), ("Partition", PARTITION.to_owned())],
        vec![("JobState", of('T')), ("Reason", of('r').replace(' ', "_")), ("Dependency", dependencies(job))],
        vec![("Restarts", restarts.to_string()), ("ExitCode", exit)],
        vec![("RunTime", of('M')), ("TimeLimit", of('l'))],
        vec![("SubmitTime", of('V')), ("StartTime", of('S')), ("EndTime", of('e'))],
        vec![("NodeList", of('N')), ("NumNodes", of('D')), ("NumCPUs", of('C')), ("NumTasks", job.workers.to_string())],
        vec![("TresPerNode", of('b'))],
        vec![("Command", of('o'))],
        vec![("WorkDir", of('Z'))],
    ]
}

fn of_node(node: &NodeView) -> Record {
    let gres = match node.chips {
        0 => "(null)".to_owned(),
        chips => format!("gpu:{}:{chips}", node.accelerator.as_deref().unwrap_or("chip")),
    };
    let free = node.memory_mib.saturating_sub(node.memory_mib_in_use);
    let mut lines = vec![
        vec![("NodeName", node.name.clone())],
        vec![
            ("CPUAlloc", node.cpu_milli_in_use.div_ceil(1000).to_string()),
            ("CPUTot", (node.cpu_milli / 1000).to_string()),
        ],
        vec![("Gres", gres)],
        vec![
            ("NodeAddr", node.address.clone().unwrap_or_else(|| node.name.clone())),
            ("NodeHostName", node.name.clone()),
        ],
        vec![("RealMemory", node.memory_mib.to_string()), ("FreeMem", free.to_string())],
        vec![("State", states::of_node(node.state).1.to_ascii_uppercase()), ("Partitions", PARTITION.to_owned())],
        vec![("CurrentWatts", node.power_w.to_string())],
        vec![("LastBusyTime", times::instant(node.seen_ms))],
    ];
    if let Some(reason) = &node.reason {
        lines.push(vec![("Reason", reason.clone())]);
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::show::samples;

    #[test]
    fn lists_of_hosts_are_told_apart_and_together() {
        assert_eq!(hostnames(Some("n[1-2],x")).expect("it is a list"), "n1\nn2\nx\n");
        assert!(hostnames(Some("n[1-")).expect_err("a bracket is open").is::<BadInput>());
    }

    #[test]
    fn jobs_and_nodes_in_full() {
        let jobs = samples::jobs();
        let mut text: String = jobs[3..7].iter().map(|job| record(&of_job(job, samples::NOW), false)).collect();
        text += &samples::nodes()[4..].iter().map(|node| record(&of_node(node), false)).collect::<String>();
        text += &record(&of_job(&jobs[0], samples::NOW), true);
        insta::assert_snapshot!(text);
    }

    #[test]
    fn what_is_not_offered_is_refused_by_name() {
        let arguments =
            Arguments::try_parse_from(["scontrol", "update", "nodename=n1", "state=drain"]).expect("it is known");
        let error = run(&arguments).expect_err("it is refused").to_string();
        assert!(error.contains("nodename=n1") && error.contains("offtake drain"), "{error}");
        for refused in ["scontrol reconfigure", "scontrol show partition", "scontrol"] {
            assert!(Arguments::try_parse_from(refused.split(' ')).is_err(), "{refused}");
        }
    }
}
