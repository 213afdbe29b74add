//! `srun`: inside a job a step of it, outside a job of its own.

use std::collections::BTreeMap;
use std::process::ExitCode;

use clap::Parser;
use offtake_protocol::rest::{StepRequest, StepView};
use offtake_workload::{JobFile, WireGang, hostlist};
use tokio::signal::unix::{SignalKind, signal};

use super::{open, times};
use crate::connection::{Connection, with_query};
use crate::live::follow::{self, Pauses};
use crate::live::output::Printer;
use crate::live::{launch, surroundings};
use crate::show::{figures, job};
use crate::terminal::BadInput;

/// Run a program on the nodes of a job, or as a job of its own, as Slurm's srun does.
#[derive(Parser, Debug, Default)]
#[command(name = "srun", version, disable_help_flag = true, infer_long_args = true)]
pub struct Arguments {
    /// Tasks in all
    #[arg(short, long, value_name = "N")]
    ntasks: Option<u32>,
    /// Nodes
    #[arg(short = 'N', long, value_name = "N")]
    nodes: Option<String>,
    /// Processor cores of a task
    #[arg(short, long, value_name = "N")]
    cpus_per_task: Option<u32>,
    /// Tasks on each node
    #[arg(long, value_name = "N")]
    ntasks_per_node: Option<u32>,
    /// Only these nodes of the job
    #[arg(short = 'w', long, value_name = "LIST")]
    nodelist: Option<String>,
    /// Chips in all
    #[arg(short = 'G', long, value_name = "[KIND:]N")]
    gpus: Option<String>,
    /// Chips of a task
    #[arg(long, value_name = "[KIND:]N")]
    gpus_per_task: Option<String>,
    /// Chips on each node
    #[arg(long, value_name = "[KIND:]N")]
    gpus_per_node: Option<String>,
    /// Chips on each node: gpu:N
    #[arg(long, value_name = "gpu:[KIND:]N")]
    gres: Option<String>,
    /// The environment: ALL, NONE, or names and NAME=VALUE, separated by commas
    #[arg(long, value_name = "WHAT")]
    export: Option<String>,
    /// The working directory
    #[arg(short = 'D', long, value_name = "DIR")]
    chdir: Option<String>,
    /// File for standard output, on the nodes
    #[arg(short, long, value_name = "FILE")]
    output: Option<String>,
    /// File for standard error, on the nodes
    #[arg(short, long, value_name = "FILE")]
    error: Option<String>,
    /// Put each task's number before its lines
    #[arg(short, long)]
    label: bool,
    /// Print parts of lines as they come
    #[arg(short, long)]
    unbuffered: bool,
    /// End the step when a task ends with another status than 0
    #[arg(long, value_name = "0|1", num_args = 0..=1, require_equals = true, default_missing_value = "1")]
    kill_on_bad_exit: Option<u8>,
    /// The same
    #[arg(short = 'K', hide = true)]
    kill: bool,
    /// The job whose step it is
    #[arg(long, value_name = "JOB")]
    jobid: Option<u64>,
    /// The name of the job
    #[arg(short = 'J', long, value_name = "NAME")]
    job_name: Option<String>,
    /// How long a job of its own may run
    #[arg(short, long, value_name = "TIME")]
    time: Option<String>,
    /// Who pays for a job of its own
    #[arg(short = 'A', long, value_name = "TENANT")]
    account: Option<String>,
    /// Say nothing but what is wrong
    #[arg(short = 'Q', long)]
    quiet: bool,
    /// Say what is done
    #[arg(short, long, action = clap::ArgAction::Count)]
    verbose: u8,
    /// Print help
    #[arg(long, action = clap::ArgAction::Help)]
    help: Option<bool>,
    #[command(flatten)]
    without_effect: WithoutEffect,
    #[command(flatten)]
    refused: Refused,
    /// The program and its arguments
    #[arg(required = true, trailing_var_arg = true, value_name = "PROGRAM")]
    command: Vec<String>,
}

/// Options that change nothing here, because what they ask for is so anyway or does not matter to what comes out.
#[derive(clap::Args, Debug, Default)]
struct WithoutEffect {
    #[arg(long, hide = true, num_args = 0..=1, require_equals = true, default_missing_value = "")]
    exclusive: Option<String>,
    #[arg(long, hide = true)]
    overlap: bool,
    #[arg(long, hide = true)]
    exact: bool,
    #[arg(long, hide = true)]
    whole: bool,
    #[arg(long, hide = true)]
    cpu_bind: Option<String>,
    #[arg(long, hide = true)]
    mem_bind: Option<String>,
    #[arg(long, hide = true)]
    gpu_bind: Option<String>,
    #[arg(long, hide = true)]
    accel_bind: Option<String>,
    #[arg(short = 'm', long, hide = true)]
    distribution: Option<String>,
    #[arg(long, hide = true)]
    hint: Option<String>,
    #[arg(long, hide = true)]
    mem: Option<String>,
    #[arg(long, hide = true)]
    mem_per_cpu: Option<String>,
    #[arg(long, hide = true)]
    mem_per_gpu: Option<String>,
    #[arg(short = 'p', long, hide = true)]
    partition: Option<String>,
    #[arg(short = 'q', long, hide = true)]
    qos: Option<String>,
    #[arg(short = 'W', long, hide = true)]
    wait: Option<String>,
    #[arg(long, hide = true)]
    comment: Option<String>,
    #[arg(long, hide = true, num_args = 0..=1, require_equals = true, default_missing_value = "")]
    propagate: Option<String>,
    #[arg(short = 'k', long, hide = true)]
    no_kill: bool,
    /// Taken unless it names a way to start tasks that we do not have.
    #[arg(long, hide = true)]
    mpi: Option<String>,
}

/// Options without which the step would be another.
#[derive(clap::Args, Debug, Default)]
struct Refused {
    #[arg(long, hide = true)]
    pty: bool,
    #[arg(long, hide = true)]
    multi_prog: bool,
    #[arg(short = 'i', long, hide = true)]
    input: Option<String>,
    #[arg(short = 'x', long, hide = true)]
    exclude: Option<String>,
    #[arg(short = 'r', long, hide = true)]
    relative: Option<String>,
    #[arg(long, hide = true)]
    het_group: Option<String>,
    #[arg(long, hide = true)]
    container_image: Option<String>,
    #[arg(long, hide = true)]
    container_mounts: Option<String>,
}

impl WithoutEffect {
    /// The names of those that were given and ask for what we do not do.
    fn given(&self) -> Vec<&'static str> {
        let all = [
            ("--cpu-bind", self.cpu_bind.is_some()),
            ("--mem-bind", self.mem_bind.is_some()),
            ("--gpu-bind", self.gpu_bind.is_some()),
            ("--accel-bind", self.accel_bind.is_some()),
            ("--distribution", self.distribution.is_some()),
            ("--hint", self.hint.is_some()),
            ("--mem", self.mem.is_some()),
            ("--mem-per-cpu", self.mem_per_cpu.is_some()),
            ("--mem-per-gpu", self.mem_per_gpu.is_some()),
            ("--partition", self.partition.is_some()),
            ("--qos", self.qos.is_some()),
            ("--wait", self.wait.is_some()),
            ("--propagate", self.propagate.is_some()),
            ("--mpi", self.mpi.as_deref().is_some_and(|kind| kind != "none")),
        ];
        all.into_iter().filter(|(_, given)| *given).map(|(name, _)| name).collect()
    }
}

impl Refused {
    fn check(&self) -> Result<(), BadInput> {
        let all = [
            ("--pty", self.pty, "there is no terminal on the nodes: run the program without it, or use ssh"),
            ("--multi-prog", self.multi_prog, "start each program with an srun of its own"),
            (
                "--input",
                self.input.as_deref().is_some_and(|input| !["none", "/dev/null"].contains(&input)),
                "standard input is empty: let the program read its file",
            ),
            ("--exclude", self.exclude.is_some(), "name the nodes with --nodelist"),
            ("--relative", self.relative.is_some(), "name the nodes with --nodelist"),
            ("--het-group", self.het_group.is_some(), "there are no heterogeneous jobs"),
            ("--container-image", self.container_image.is_some(), "start the container in the program"),
            ("--container-mounts", self.container_mounts.is_some(), "start the container in the program"),
        ];
        match all.into_iter().find(|(_, given, _)| *given) {
            Some((name, _, instead)) => Err(BadInput(format!("{name} is not offered: {instead}"))),
            None => Ok(()),
        }
    }
}

pub async fn run(arguments: Arguments) -> anyhow::Result<ExitCode> {
    arguments.refused.check()?;
    if !arguments.quiet {
        arguments.without_effect.given().iter().for_each(|name| eprintln!("srun: note: {name} is ignored"));
    }
    let around = Around::of_process();
    let connection = open()?;
    match arguments.jobid.or(around.job) {
        Some(job) => step(&connection, job, &arguments, &around).await,
        None => own_job(&connection, &arguments).await,
    }
}

/// What the job around says of itself.
#[derive(Default)]
struct Around {
    job: Option<u64>,
    tasks: Option<u32>,
    nodes: Option<u32>,
}

impl Around {
    fn of_process() -> Self {
        let number = |names: &[&str]| names.iter().find_map(|name| std::env::var(name).ok()?.parse::<u64>().ok());
        let small = |names: &[&str]| number(names).and_then(|number| u32::try_from(number).ok());
        Self {
            job: number(&["SLURM_JOB_ID", "SLURM_JOBID"]),
            tasks: small(&["SLURM_NTASKS", "SLURM_NPROCS"]),
            nodes: small(&["SLURM_NNODES", "SLURM_JOB_NUM_NODES"]),
        }
    }
}

async fn step(connection: &Connection, job: u64, arguments: &Arguments, around: &Around) -> anyhow::Result<ExitCode> {
    let request = request(arguments, around)?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let step: StepView = connection.post(&format!("/v1/jobs/{job}/steps"), &request).await?;
    let path = format!("/v1/jobs/{job}/steps/{}", step.step);
    if arguments.verbose > 0 {
        eprintln!("srun: step {job}.{} on {} with {} tasks", step.step, step.nodes.join(","), step.tasks);
    }
    let mut ended = std::pin::pin!(watch(connection, &step, &path, arguments));
    let mut cancelled = false;
    let end = loop {
        tokio::select! {
            end = &mut ended => break end?,
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
        if cancelled {
            return Ok(launch::left());
        }
        eprintln!("srun: step {job}.{} is being ended", step.step);
        connection.delete(&path).await?;
        cancelled = true;
    };
    let code = end.exit_code.unwrap_or(i32::from(end.state != offtake_protocol::rest::JobState::Finished));
    if let Some(reason) = end.reason.filter(|_| code != 0) {
        eprintln!("srun: error: step {job}.{}: {reason}", end.step);
    }
    Ok(ExitCode::from(u8::try_from(code).unwrap_or(1)))
}

/// Prints what a step writes, and waits for its end.
async fn watch(
    connection: &Connection,
    step: &StepView,
    path: &str,
    arguments: &Arguments,
) -> anyhow::Result<StepView> {
    if arguments.output.is_none() || arguments.error.is_none() {
        let query = offtake_protocol::rest::LogQuery {
            attempt: Some(step.attempt),
            step: Some(step.step),
            follow: Some(true),
            ..Default::default()
        };
        let mut printer = printer(arguments, step.tasks);
        follow::step(connection, &with_query(&format!("/v1/jobs/{}/logs", step.job), &query), &mut printer).await?;
    }
    let mut pauses = Pauses::new();
    loop {
        let now: StepView = connection.get(path).await?;
        if now.state.is_over() {
            return Ok(now);
        }
        pauses.pause().await;
    }
}

fn printer(arguments: &Arguments, tasks: u32) -> Printer {
    match (arguments.label, arguments.unbuffered || tasks <= 1) {
        (true, _) => Printer::labelled(|rank| format!("{rank}: ")),
        (false, true) => Printer::plain(),
        (false, false) => Printer::by_line(),
    }
}

/// The step that the options ask for.
fn request(arguments: &Arguments, around: &Around) -> Result<StepRequest, BadInput> {
    let nodes = arguments.nodes.as_deref().map(number_of_nodes).transpose()?;
    let node_list = match arguments.nodelist.as_deref() {
        None => Vec::new(),
        Some(list) => hostlist::expand(list).map_err(|error| BadInput(format!("--nodelist: {error}")))?,
    };
    let environment = environment(arguments.export.as_deref(), &surroundings::environment())?;
    Ok(StepRequest {
        command: arguments.command.clone(),
        tasks: arguments.ntasks,
        nodes,
        node_list,
        tasks_per_node: arguments.ntasks_per_node,
        cpus_per_task: arguments.cpus_per_task,
        chips_per_task: chips_per_task(arguments, nodes, around)?,
        environment,
        directory: match &arguments.chdir {
            Some(directory) => directory.clone(),
            None => surroundings::directory().map_err(|error| BadInput(error.to_string()))?,
        },
        output: arguments.output.clone(),
        error: arguments.error.clone(),
        kill_on_bad_exit: arguments.kill || arguments.kill_on_bad_exit.is_some_and(|value| value != 0),
    })
}

/// Reads `2`, or `2-2`; a range would leave open what the script counts on.
fn number_of_nodes(text: &str) -> Result<u32, BadInput> {
    let (least, most) = text.split_once('-').unwrap_or((text, text));
    match (least.parse::<u32>(), most.parse::<u32>()) {
        (Ok(least), Ok(most)) if least == most && least > 0 => Ok(least),
        _ => Err(BadInput(format!("--nodes `{text}`: write one number of nodes"))),
    }
}

/// Chips of a task: as asked for, or what all or a node's come to for each task; none where nothing is asked for.
fn chips_per_task(arguments: &Arguments, nodes: Option<u32>, around: &Around) -> Result<Option<u16>, BadInput> {
    if let Some(text) = &arguments.gpus_per_task {
        return chips("--gpus-per-task", text).map(Some);
    }
    let nodes = nodes.or(around.nodes).unwrap_or(1).max(1);
    let per_node = arguments.ntasks_per_node;
    let tasks = arguments.ntasks.or_else(|| Some(per_node? * nodes)).or(around.tasks).unwrap_or(nodes).max(1);
    let gres = arguments.gres.as_deref().filter(|gres| *gres != "none");
    let (option, all) = match (&arguments.gpus, &arguments.gpus_per_node, gres) {
        (Some(text), ..) => ("--gpus", u32::from(chips("--gpus", text)?)),
        (None, Some(text), _) => ("--gpus-per-node", u32::from(chips("--gpus-per-node", text)?) * nodes),
        (None, None, Some(text)) => {
            let text = text.strip_prefix("gpu:").or(text.strip_prefix("gres/gpu:"));
            let text =
                text.ok_or_else(|| BadInput(format!("--gres `{}`: allowed is gpu:N", gres.unwrap_or_default())))?;
            ("--gres", u32::from(chips("--gres", text)?) * nodes)
        }
        (None, None, None) => return Ok(None),
    };
    if !all.is_multiple_of(tasks) {
        return Err(BadInput(format!(
            "{option}: {all} chips cannot be shared evenly by {tasks} tasks: use --gpus-per-task"
        )));
    }
    let each = u16::try_from(all / tasks);
    each.map(Some)
        .map_err(|_| BadInput(format!("{option}: {} chips of a task are more than any node has", all / tasks)))
}

/// Reads `4` or `h100:4`.
fn chips(option: &str, text: &str) -> Result<u16, BadInput> {
    let number = text.rsplit(':').next().unwrap_or(text);
    number.parse().map_err(|_| BadInput(format!("{option} `{text}`: write a number of chips, such as 4 or h100:4")))
}

/// The environment that `--export` asks for.
fn environment(export: Option<&str>, all: &BTreeMap<String, String>) -> Result<BTreeMap<String, String>, BadInput> {
    let words: Vec<&str> = export.unwrap_or("ALL").split(',').filter(|word| !word.is_empty()).collect();
    let mut environment = BTreeMap::new();
    if words.contains(&"NONE") && words.len() > 1 {
        return Err(BadInput("--export: NONE stands alone".to_owned()));
    }
    for word in words {
        match (word, word.split_once('=')) {
            ("ALL", _) => environment.extend(all.clone()),
            ("NONE", _) => {}
            (_, Some((name, value))) => drop(environment.insert(name.to_owned(), value.to_owned())),
            (name, None) => environment.extend(all.get(name).map(|value| (name.to_owned(), value.clone()))),
        }
    }
    Ok(environment)
}

/// Outside a job: one of its own, as `offtake run` has it.
async fn own_job(connection: &Connection, arguments: &Arguments) -> anyhow::Result<ExitCode> {
    let job = job_file(arguments)?;
    let tasks = job.gangs.first().and_then(|gang| gang.workers).unwrap_or(1);
    let mut printer = printer(arguments, tasks);
    let detail = match launch::launch(connection, &job, &mut printer).await? {
        launch::Watched::Over(detail) => detail,
        launch::Watched::Left => return Ok(launch::left()),
    };
    let code = launch::exit_code(&detail);
    if code != ExitCode::SUCCESS && !arguments.quiet {
        let said = job::receipt(&detail, figures::now_ms());
        eprintln!("srun: error: {}", said.lines().next().unwrap_or_default());
    }
    Ok(code)
}

fn job_file(arguments: &Arguments) -> anyhow::Result<JobFile> {
    if arguments.nodelist.is_some() {
        return Err(BadInput(
            "--nodelist is for steps of a job: outside a job the server chooses the nodes".to_owned(),
        )
        .into());
    }
    let nodes = arguments.nodes.as_deref().map(number_of_nodes).transpose()?;
    let per_node = arguments.ntasks_per_node;
    let tasks = arguments.ntasks.unwrap_or(nodes.unwrap_or(1).saturating_mul(per_node.unwrap_or(1)));
    let seconds = arguments.time.as_deref().map(|text| {
        times::parse_limit(text)
            .ok_or_else(|| BadInput(format!("--time `{text}`: write minutes, or days-hours:minutes:seconds")))
    });
    let request = request(arguments, &Around::default())?;
    let gang = WireGang {
        workers: Some(tasks),
        chips: request.chips_per_task,
        cpu_milli: Some(arguments.cpus_per_task.unwrap_or(1).saturating_mul(1000)),
        per_node: per_node.or(nodes.map(|nodes| tasks.div_ceil(nodes))),
        ..WireGang::default()
    };
    Ok(JobFile {
        name: arguments.job_name.clone(),
        tenant: arguments.account.clone(),
        duration: seconds.transpose()?.map(|seconds| format!("{seconds}s")),
        gangs: vec![gang],
        command: request.command,
        environment: request.environment,
        directory: Some(request.directory),
        output: request.output,
        error: request.error,
        ..JobFile::default()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(words: &str) -> Arguments {
        Arguments::try_parse_from(words.split(' ')).unwrap_or_else(|error| unreachable!("{error}"))
    }

    fn step_of(words: &str) -> Result<StepRequest, BadInput> {
        let around = Around { job: Some(17), tasks: Some(4), nodes: Some(2) };
        request(&read(words), &around)
    }

    #[test]
    fn options_are_read_as_slurm_does() {
        let step =
            step_of("srun -N2 -n 16 -c4 --ntasks-per-node=8 -w n[1-2] -K -l --mpi=pmi2 python3 -u train.py --lr 1")
                .expect("it is a step");
        assert_eq!(step.command, ["python3", "-u", "train.py", "--lr", "1"]);
        assert_eq!(
            (step.tasks, step.nodes, step.tasks_per_node, step.cpus_per_task),
            (Some(16), Some(2), Some(8), Some(4))
        );
        assert_eq!((step.node_list, step.kill_on_bad_exit), (vec!["n1".to_owned(), "n2".to_owned()], true));
        let step = step_of("srun --kill-on-bad-exit=0 --exclusive --overlap -u hostname").expect("it is a step");
        assert_eq!((step.tasks, step.nodes, step.kill_on_bad_exit, step.chips_per_task), (None, None, false, None));
        assert!(step_of("srun --kill-on-bad-exit hostname").is_ok_and(|step| step.kill_on_bad_exit));
        assert!(step_of("srun -D /tmp hostname").is_ok_and(|step| step.directory == "/tmp"));
        assert_eq!(step_of("srun --export=NONE hostname").map(|step| step.environment.len()).ok(), Some(0));
    }

    #[test]
    fn chips_are_shared_by_tasks() {
        let chips = |words: &str| step_of(words).map(|step| step.chips_per_task).map_err(|error| error.to_string());
        assert_eq!(chips("srun --gpus-per-task=h100:2 x"), Ok(Some(2)));
        assert_eq!(chips("srun --gpus=8 x"), Ok(Some(2)), "the job has four tasks");
        assert_eq!(chips("srun --gpus-per-node=8 --ntasks-per-node=1 x"), Ok(Some(8)));
        assert_eq!(chips("srun -n16 --gres=gpu:a100:8 x"), Ok(Some(1)));
        assert_eq!(chips("srun --gres=none x"), Ok(None));
        for wrong in ["srun --gpus=7 x", "srun --gpus=x x", "srun --gres=fpga:1 x", "srun --gpus-per-task=-1 x"] {
            assert!(chips(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn what_is_not_offered_is_refused_by_name() {
        for (words, name) in [
            ("srun --pty bash", "--pty"),
            ("srun --multi-prog conf", "--multi-prog"),
            ("srun -i file cat", "--input"),
            ("srun -x n1 hostname", "--exclude"),
        ] {
            let error = read(words).refused.check().expect_err("it is refused").to_string();
            assert!(error.starts_with(name), "{error}");
        }
        assert!(read("srun --input=none cat").refused.check().is_ok());
        let unknown = Arguments::try_parse_from(["srun", "--no-such", "x"]).expect_err("it is unknown").to_string();
        assert!(unknown.contains("--no-such"), "{unknown}");
        for wrong in ["srun -N 1-4 x", "srun -N 0 x", "srun -w n[1 x", "srun --export=NONE,A x"] {
            assert!(step_of(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn what_has_no_effect_is_named() {
        let given = |words: &str| read(words).without_effect.given();
        assert_eq!(given("srun --cpu-bind=none --mpi=pmi2 --exclusive x"), ["--cpu-bind", "--mpi"]);
        assert_eq!(given("srun --mpi=none --overlap x"), [""; 0]);
    }

    #[test]
    fn the_environment_is_what_export_names() {
        let all = BTreeMap::from([("A", "1"), ("B", "2")].map(|(name, value)| (name.to_owned(), value.to_owned())));
        let names = |export| {
            let environment = environment(export, &all).expect("it is a list");
            environment.into_iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>().join(" ")
        };
        assert_eq!(names(None), "A=1 B=2");
        assert_eq!(names(Some("ALL,C=3,A=9")), "A=9 B=2 C=3");
        assert_eq!(names(Some("B,C=3,D")), "B=2 C=3");
        assert_eq!(names(Some("NONE")), "");
    }

    #[test]
    fn outside_a_job_it_is_one_of_its_own() {
        let job = |words: &str| job_file(&read(words)).map_err(|error| error.to_string());
        let wide = job("srun -N 2 --ntasks-per-node=4 --gpus-per-task=1 -c 2 -t 1:30 -J x -A lab python3 a.py")
            .expect("a job");
        let gang = &wide.gangs[0];
        assert_eq!((gang.workers, gang.chips, gang.cpu_milli, gang.per_node), (Some(8), Some(1), Some(2000), Some(4)));
        assert_eq!(
            (wide.duration.as_deref(), wide.name.as_deref(), wide.tenant.as_deref()),
            (Some("90s"), Some("x"), Some("lab"))
        );
        let spread = job("srun -N 2 -n 3 hostname").expect("a job");
        assert_eq!((spread.gangs[0].workers, spread.gangs[0].per_node), (Some(3), Some(2)));
        assert!(job("srun -w n1 hostname").is_err() && job("srun -t soon hostname").is_err());
    }
}
