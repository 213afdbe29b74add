//! One task on its node: made ready, run, watched to its end.
//!
//! Each task is a future of its own that is told what to do and tells the agent's core what happens. When the agent
//! ends, the future is dropped and the workers live on with their supervisors; the next run of the agent finds them by
//! the task's folder.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, DirBuilder};
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, TcpListener};
use std::os::unix::fs::{DirBuilderExt, chown};
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

use offtake_protocol::agent::{
    EnergySource, Exit, NumberedSignal, TaskEnd, TaskId, TaskRefusal, TaskSpec, WorkerEnd, WorkerSpec,
};
use offtake_workload::{Start, Stop, pattern};
use tokio::sync::{mpsc, watch};

use crate::accounts::Person;
use crate::core::{Input, Stand, refused};
use crate::environment::{DEFAULT_PATH, Surroundings, chip_indices, environment, is_script, slurm_step};
use crate::hooks::run_hook;
use crate::isolation::Limits;
use crate::link::unix_now_ms;
use crate::logs::{NamedFile, Streams, WorkerStreams};
use crate::node::Node;
use crate::power::{Meters, Part, Start as MeterStart};
use crate::store::{file, make_passage, read, write, write_bytes};
use crate::supervisor::{
    Cause, Command, Ended, Found, Handle, LogLimits, Status, StopPlan, Whom, WorkerLaunch, boot_now_ms, clean_up, find,
};

/// The most workers of a task. Each is two processes.
const MOST_WORKERS: usize = 4096;
/// The most processes and threads of a worker.
const MOST_PROCESSES: u64 = 1 << 16;
/// Mask of the permissions that new files of a worker do not get.
const UMASK: u32 = 0o022;
/// Time until a supervisor that cannot be reached, or remains that do not die, are tried again.
const AGAIN: Duration = Duration::from_millis(500);
/// How long a supervisor may take to tell where it stands.
const FIRST_STATUS_LIMIT: Duration = Duration::from_secs(5);

/// How long the meters may take to tell what they show.
const METERS_LIMIT: Duration = Duration::from_secs(5);

/// What a task is told.
#[derive(Clone, Debug)]
pub(crate) enum Order {
    Run,
    Signal(NumberedSignal),
    /// Its workers stand still, or go on.
    Pause(bool),
    Stop(Stop),
    Kill,
}

/// A worker as this run of the agent knows it.
struct Worker {
    spec: WorkerSpec,
    folder: PathBuf,
    stand: WorkerStand,
}

enum WorkerStand {
    /// Its supervisor is there, or was.
    Watched {
        handle: Option<Handle>,
        running_since_ms: Option<i64>,
        /// Whether it stands still.
        paused: bool,
    },
    Ended(Ended),
}

/// A task of an earlier run of the agent.
pub(crate) struct Adopted {
    pub spec: Arc<TaskSpec>,
    pub stand: Stand,
    pub signalled: u32,
    /// The names of its control groups.
    pub groups: Vec<String>,
    workers: Vec<Worker>,
}

/// A task, and the ways between it and the agent.
pub(crate) struct Task {
    pub id: TaskId,
    pub spec: Arc<TaskSpec>,
    pub node: Arc<Node>,
    /// Until when supervisors let their workers live.
    pub lease_until_ms: watch::Receiver<u64>,
    pub inputs: mpsc::Sender<Input>,
}

impl Task {
    /// Makes the task ready, and follows it to its end.
    pub async fn begin(self, mut orders: mpsc::UnboundedReceiver<Order>) {
        let prepared = tokio::select! {
            biased;
            () = killed(&mut orders) => Err(node_fault(WITHDRAWN.to_owned())),
            prepared = self.prepare() => prepared,
        };
        let launched = match prepared {
            Ok((person, launches)) => self.launch(&person, launches).await,
            Err(refusal) => Err(refusal),
        };
        match launched {
            Ok(workers) => {
                let _ = self.inputs.send(Input::Prepared(self.id)).await;
                self.follow(workers, orders, false, None).await;
            }
            Err(refusal) => self.tell_end(refused(refusal)).await,
        }
    }

    /// Follows a task of an earlier run to its end.
    pub async fn go_on(self, adopted: Adopted, orders: mpsc::UnboundedReceiver<Order>) {
        let went = matches!(adopted.stand, Stand::Running { .. });
        self.node.cores.lock().unwrap_or_else(PoisonError::into_inner).adopt(self.id, cores(&adopted.workers));
        // What the chips count themselves is still there to be compared with.
        let meters = read::<MeterStart>(&self.node.store.task(self.id).join(file::METERS));
        self.follow(adopted.workers, orders, went, meters).await;
    }

    /// All that can fail without a trace, and the prolog.
    async fn prepare(&self) -> Result<(Person, Vec<WorkerLaunch>), TaskRefusal> {
        let spec = &*self.spec;
        check(spec, self.node.chips())?;
        let person = self.node.accounts.find(&spec.user).await?;
        let directory = match spec.directory.as_str() {
            "" => person.account.home.clone(),
            given => PathBuf::from(given),
        };
        check_directory(&directory)?;
        if spec.node_rank == 0 {
            check_port(spec.port)?;
        }
        self.make_folder(&person).map_err(|error| node_fault(format!("its folder cannot be made: {error}")))?;
        if let Some(prolog) = &self.node.configuration.prolog {
            let ran = run_hook(prolog, &self.hook_environment(&person), self.node.configuration.hook_limit).await;
            if let Err(reason) = ran {
                self.node.unhealthy.send_replace(Some(format!("prolog: {reason}")));
                return Err(node_fault(format!("the prolog failed: {reason}")));
            }
        }
        let launches = self.launches(&person, &directory);
        Ok((person, launches))
    }

    fn folder(&self) -> PathBuf {
        self.node.store.task(self.id)
    }

    fn make_folder(&self, person: &Person) -> io::Result<()> {
        let folder = self.folder();
        // Whatever is there is of a task that never ran, or it would have been adopted.
        self.node.store.remove(self.id)?;
        make_passage(&folder)?;
        write(&folder.join(file::TASK), &*self.spec)?;
        let own = |path: &Path| match &person.credentials {
            Some(user) => chown(path, Some(user.uid), Some(user.gid)),
            None => Ok(()),
        };
        let scratch = folder.join(file::SCRATCH);
        DirBuilder::new().mode(0o700).create(&scratch)?;
        own(&scratch)?;
        if let Start::Script { text, .. } = &self.spec.start {
            let script = folder.join(file::SCRIPT);
            write_bytes(&script, text.as_bytes(), 0o500)?;
            own(&script)?;
        }
        for worker in &self.spec.workers {
            DirBuilder::new().mode(0o700).create(folder.join(worker.rank.to_string()))?;
        }
        Ok(())
    }

    fn surroundings<'a>(&'a self, person: &'a Person, scratch: &'a Path) -> Surroundings<'a> {
        Surroundings {
            account: &person.account,
            vendor: self.node.found.chips.as_ref().map(|chips| chips.vendor),
            devices_isolated: self.node.devices_isolated(),
            server: &self.node.configuration.server.url,
            fingerprint: self.node.fingerprint.as_deref(),
            shims: &self.node.shims,
            scratch,
            start_s: unix_now_ms() / 1000,
        }
    }

    /// Hooks run as root: nothing that the job chose may reach them but its names.
    fn hook_environment(&self, person: &Person) -> BTreeMap<String, String> {
        let mut spec = TaskSpec::clone(&self.spec);
        spec.environment.clear();
        let scratch = self.folder().join(file::SCRATCH);
        let first = spec.workers.first().copied().unwrap_or(WorkerSpec { rank: 0, local_rank: 0, chips: 0 });
        let mut all = environment(self.id, &spec, &first, &self.surroundings(person, &scratch));
        all.insert("PATH".to_owned(), DEFAULT_PATH.to_owned());
        all.remove("OFFTAKE_TOKEN");
        all.remove("HOME");
        all.remove("TMPDIR");
        all
    }

    fn launches(&self, person: &Person, directory: &Path) -> Vec<WorkerLaunch> {
        let spec = &*self.spec;
        let folder = self.folder();
        let scratch = folder.join(file::SCRATCH);
        let around = self.surroundings(person, &scratch);
        let arguments = match &spec.start {
            Start::Command(arguments) => arguments.clone(),
            Start::Script { arguments, .. } => {
                let script = folder.join(file::SCRIPT).display().to_string();
                std::iter::once(script).chain(arguments.iter().cloned()).collect()
            }
        };
        let cores = self.node.cores.lock().unwrap_or_else(PoisonError::into_inner).give(
            self.id,
            spec.workers.len(),
            spec.cpu.get(),
        );
        let named = |worker: &WorkerSpec, pattern: &Option<String>| {
            let place = pattern::Place {
                job: self.id.job,
                array: spec.array.map(|array| (array.array, array.index)),
                name: &spec.job_name,
                user: &person.account.name,
                node: &self.node.name,
                node_rank: spec.node_rank,
                rank: worker.rank,
                step: (!is_script(spec)).then(|| slurm_step(self.id)),
                restarts: spec.restarts,
            };
            pattern.as_ref().map(|pattern| directory.join(pattern::expand(pattern, &place)))
        };
        let launch = |(worker, cpus): (&WorkerSpec, Vec<u32>)| {
            let output = named(worker, &spec.output);
            WorkerLaunch {
                arguments: arguments.clone(),
                environment: environment(self.id, spec, worker, &around),
                directory: directory.to_owned(),
                credentials: person.credentials.clone(),
                error: named(worker, &spec.error).or_else(|| output.clone()),
                output,
                append: spec.append,
                umask: UMASK,
                cpus,
                group: None,
                limits: Vec::new(),
                logs: LogLimits::default(),
                stop: self.plan(spec.stop),
                lease_until_ms: *self.lease_until_ms.borrow(),
            }
        };
        spec.workers.iter().zip(cores).map(launch).collect()
    }

    /// Starts the supervisors, and waits until all are ready. It leaves nothing that runs when it fails.
    async fn launch(&self, person: &Person, mut launches: Vec<WorkerLaunch>) -> Result<Vec<Worker>, TaskRefusal> {
        let folder = self.folder();
        let streams = streams(person, &self.spec, &launches);
        write(&folder.join(file::STREAMS), &streams).map_err(|error| node_fault(format!("its folder: {error}")))?;
        let mut workers = Vec::with_capacity(launches.len());
        let mut failed = None;
        for (spec, launch_of) in self.spec.workers.iter().zip(&mut launches) {
            match self.launch_one(&folder, spec, launch_of) {
                Ok(worker) => workers.push(worker),
                Err(refusal) => {
                    failed = Some(refusal);
                    break;
                }
            }
        }
        for worker in &mut workers {
            if let Err(refusal) = first_status(worker).await {
                failed.get_or_insert(refusal);
            }
        }
        let Some(refusal) = failed else { return Ok(workers) };
        end_prepared(workers).await;
        Err(refusal)
    }

    fn launch_one(
        &self,
        folder: &Path,
        spec: &WorkerSpec,
        launch_of: &mut WorkerLaunch,
    ) -> Result<Worker, TaskRefusal> {
        let limits = Limits {
            cpus: launch_of.cpus.clone(),
            memory_bytes: Some(self.spec.memory.get() << 20).filter(|bytes| *bytes > 0),
            pids: Some(MOST_PROCESSES),
            denied_devices: self.node.devices_but(spec.chips),
        };
        let group = self.node.isolation.create(&group_name(self.id, spec), &limits);
        launch_of.group = group.map_err(|error| node_fault(error.to_string()))?;
        let folder = folder.join(spec.rank.to_string());
        let handle = self.node.launcher.launch(&folder, launch_of).map_err(|error| node_fault(error.to_string()))?;
        let stand = WorkerStand::Watched { handle: Some(handle), running_since_ms: None, paused: false };
        Ok(Worker { spec: *spec, folder, stand })
    }

    /// Who gets the signal that asks for a checkpoint: of a script what its shell has started, so that the shell waits
    /// for it; otherwise all of the worker, as with Slurm.
    fn plan(&self, stop: Stop) -> StopPlan {
        let whom = if is_script(&self.spec) { Whom::Descendants } else { Whom::Tree };
        let millis = |span: offtake_units::Duration| u64::try_from(span.as_millis()).unwrap_or(0);
        StopPlan {
            checkpoint: stop.checkpoint_signal.map(|signal| (signal, whom)),
            checkpoint_grace_ms: millis(stop.checkpoint_grace),
            grace_ms: millis(stop.grace),
        }
    }

    /// Passes orders on, and tells what happens, until nothing of the task runs any more.
    async fn follow(
        self,
        workers: Vec<Worker>,
        mut orders: mpsc::UnboundedReceiver<Order>,
        went: bool,
        mut meters: Option<MeterStart>,
    ) {
        let (told, mut statuses) = mpsc::unbounded_channel();
        let mut following = Following::new(went);
        for (index, worker) in workers.into_iter().enumerate() {
            let (commands, commanded) = mpsc::unbounded_channel();
            following.commands.push(commands);
            match worker.stand {
                WorkerStand::Ended(ended) => following.ends.push(Some((worker.spec, ended))),
                WorkerStand::Watched { handle, running_since_ms, paused } => {
                    following.ends.push(None);
                    following.paused.extend(paused.then_some(index));
                    following.running.extend(running_since_ms.map(|since| (index, since)));
                    let lease = self.lease_until_ms.clone();
                    tokio::spawn(watch_worker(index, worker.folder, handle, commanded, lease, told.clone()));
                }
            }
        }
        if let Some(input) = following.stands_still(self.id) {
            let _ = self.inputs.send(input).await;
        }
        while !following.is_over() {
            tokio::select! {
                order = orders.recv() => match order {
                    Some(order) => self.pass_on(order, &mut following, &mut meters).await,
                    // The agent ends, and the workers go on.
                    None => return,
                },
                status = statuses.recv() => match status {
                    Some((index, status)) => {
                        for input in following.take(index, status, self.id, &self.spec) {
                            let _ = self.inputs.send(input).await;
                        }
                    }
                    None => return,
                },
            }
        }
        let end = self.end(following, meters).await;
        self.tell_end(end).await;
    }

    async fn pass_on(&self, order: Order, following: &mut Following, meters: &mut Option<MeterStart>) {
        match order {
            Order::Run => {
                following.went = true;
                following.command(&Command::Go);
                *meters = self.start_meters().await;
            }
            Order::Signal(signal) => {
                // So that another run of the agent does not send it again.
                let path = self.folder().join(file::SIGNAL);
                if let Err(error) = write(&path, &signal.number) {
                    tracing::warn!(task = %self.id, %error, "the number of a signal cannot be written down");
                }
                // A shell would end by a signal that is meant for what it runs; and what it runs has tasks of its own.
                let to = if is_script(&self.spec) { Whom::Worker } else { Whom::Tree };
                following.command(&Command::Signal { signal: signal.signal, to });
            }
            Order::Pause(true) => following.command(&Command::Pause),
            Order::Pause(false) => following.command(&Command::Resume),
            Order::Stop(stop) => following.command(&Command::Stop(self.plan(stop))),
            Order::Kill => following.command(&Command::Kill),
        }
    }

    fn chips(&self) -> u64 {
        self.spec.workers.iter().fold(0, |all, worker| all | worker.chips)
    }

    async fn start_meters(&self) -> Option<MeterStart> {
        let chips = self.chips();
        let start = self.metered(move |meters| meters.start(chips, boot_now_ms())).await?;
        if chips != 0
            && let Err(error) = write(&self.folder().join(file::METERS), &start.clone().lasting())
        {
            tracing::warn!(task = %self.id, %error, "what the meters show cannot be written down");
        }
        Some(start)
    }

    /// Reads the meters; none where they do not tell in time. The driver of a chip that is broken may hang, and must not
    /// hold the agent up.
    async fn metered<T: Send + 'static>(&self, read: impl FnOnce(&mut Meters) -> T + Send + 'static) -> Option<T> {
        if self.node.chips() == 0 {
            return Some(read(&mut self.node.meters()));
        }
        let node = Arc::clone(&self.node);
        let reading = tokio::task::spawn_blocking(move || read(&mut node.meters()));
        tokio::time::timeout(METERS_LIMIT, reading).await.ok()?.ok()
    }

    async fn end(&self, following: Following, meters: Option<MeterStart>) -> TaskEnd {
        let mut end = task_end(&following);
        if let Some(start) = meters {
            let part = Part { cpu_ms: end.cpu_ms, allocated_ppm: self.node.part_ppm(&self.spec) };
            let read = self.metered(move |meters| meters.energy(&start, part, boot_now_ms())).await;
            (end.energy_mj, end.energy_source) = read.unwrap_or((0, EnergySource::Model));
        }
        if let Some(epilog) = &self.node.configuration.epilog {
            let person = self.node.accounts.find(&self.spec.user).await;
            if let Ok(person) = person
                && let Err(reason) =
                    run_hook(epilog, &self.hook_environment(&person), self.node.configuration.hook_limit).await
            {
                self.node.unhealthy.send_replace(Some(format!("epilog: {reason}")));
            }
        }
        end
    }

    async fn tell_end(self, end: TaskEnd) {
        self.node.cores.lock().unwrap_or_else(PoisonError::into_inner).take_back(self.id);
        let folder = self.folder();
        if folder.exists()
            && let Err(error) = write(&folder.join(file::END), &end)
        {
            tracing::warn!(task = %self.id, %error, "how it ended cannot be written down");
        }
        let _ = self.inputs.send(Input::Ended(self.id, end)).await;
    }
}

/// Why a task that was killed before it ran has ended.
const WITHDRAWN: &str = "it was withdrawn before it ran";

/// Resolves when the task is to be killed, or the agent ends. Before it is ready nothing else can be done.
async fn killed(orders: &mut mpsc::UnboundedReceiver<Order>) {
    while let Some(order) = orders.recv().await {
        if matches!(order, Order::Kill | Order::Stop(_)) {
            return;
        }
    }
    // The agent ends; whoever waits for this future is dropped with it.
    std::future::pending().await
}

fn node_fault(reason: String) -> TaskRefusal {
    TaskRefusal { reason, node_fault: true }
}

fn job_fault(reason: String) -> TaskRefusal {
    TaskRefusal { reason, node_fault: false }
}

/// The name of a worker's control groups.
fn group_name(id: TaskId, worker: &WorkerSpec) -> String {
    format!("{id}.{}", worker.rank)
}

/// What must hold of whatever a server orders.
fn check(spec: &TaskSpec, chips: u16) -> Result<(), TaskRefusal> {
    let workers = spec.workers.len();
    if workers == 0 || workers > MOST_WORKERS {
        return Err(node_fault(format!("it has {workers} workers here; an agent runs 1 to {MOST_WORKERS} of a task")));
    }
    let program = match &spec.start {
        Start::Command(arguments) => arguments.first(),
        Start::Script { text, .. } => Some(text),
    };
    if program.is_none_or(String::is_empty) {
        return Err(job_fault("it names no program".to_owned()));
    }
    let mut ranks: Vec<u32> = spec.workers.iter().map(|worker| worker.rank).collect();
    ranks.sort_unstable();
    if ranks.windows(2).any(|two| two[0] == two[1]) {
        return Err(node_fault("two of its workers have one rank".to_owned()));
    }
    let beyond = |worker: &WorkerSpec| chip_indices(worker.chips).any(|chip| chip >= u32::from(chips));
    if spec.workers.iter().any(beyond) {
        return Err(node_fault(format!("it was given a chip that is not there: this node has {chips}")));
    }
    let wrong =
        |(name, value): (&String, &String)| name.is_empty() || name.contains(['=', '\0']) || value.contains('\0');
    if spec.environment.iter().any(wrong) {
        return Err(job_fault(
            "a name in its environment is empty or has `=` in it, or something has a NUL".to_owned(),
        ));
    }
    Ok(())
}

fn check_directory(directory: &Path) -> Result<(), TaskRefusal> {
    let told = directory.display();
    if !directory.is_absolute() {
        return Err(job_fault(format!("its directory {told} is not absolute")));
    }
    match fs::metadata(directory) {
        Ok(found) if !found.is_dir() => Err(job_fault(format!("its directory {told} is a file"))),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            Err(job_fault(format!("its directory {told} is not on this node")))
        }
        // Who may not look may still be let in as the job's user: the supervisor finds out.
        _ => Ok(()),
    }
}

/// Whether workers can meet at a port of this node.
fn check_port(port: u16) -> Result<(), TaskRefusal> {
    if port == 0 {
        return Ok(());
    }
    let in_use = |bound: io::Result<TcpListener>| bound.is_err_and(|error| error.kind() == io::ErrorKind::AddrInUse);
    if in_use(TcpListener::bind((Ipv4Addr::UNSPECIFIED, port)))
        || in_use(TcpListener::bind((Ipv6Addr::UNSPECIFIED, port)))
    {
        return Err(node_fault(format!("port {port}, where its workers are to meet, is in use on this node")));
    }
    Ok(())
}

fn streams(person: &Person, spec: &TaskSpec, launches: &[WorkerLaunch]) -> Streams {
    let named = |launch: &WorkerLaunch, path: &Option<PathBuf>| {
        let path = path.clone()?;
        let from = if launch.append { fs::metadata(&path).map_or(0, |metadata| metadata.len()) } else { 0 };
        Some(NamedFile { path, from })
    };
    let of = |(worker, launch): (&WorkerSpec, &WorkerLaunch)| WorkerStreams {
        rank: worker.rank,
        output: named(launch, &launch.output),
        error: named(launch, &launch.error).filter(|_| launch.error != launch.output),
        together: launch.output.is_some() && launch.error == launch.output,
    };
    Streams { uid: person.account.uid, workers: spec.workers.iter().zip(launches).map(of).collect() }
}

/// Waits for a supervisor that has just been started.
async fn first_status(worker: &mut Worker) -> Result<(), TaskRefusal> {
    let WorkerStand::Watched { handle: Some(handle), .. } = &mut worker.stand else { return Ok(()) };
    match tokio::time::timeout(FIRST_STATUS_LIMIT, handle.next()).await {
        Ok(Ok(Some(Status::Ended(ended)))) => {
            let refusal = TaskRefusal { reason: why_not(&ended.exit), node_fault: ended.node_fault };
            worker.stand = WorkerStand::Ended(ended);
            Err(refusal)
        }
        Ok(Ok(Some(_))) => Ok(()),
        Ok(Ok(None)) => Err(node_fault("its supervisor left before it was ready".to_owned())),
        Ok(Err(error)) => Err(node_fault(format!("its supervisor broke off: {error}"))),
        Err(_) => Err(node_fault(format!("its supervisor was not ready in {} s", FIRST_STATUS_LIMIT.as_secs()))),
    }
}

fn why_not(exit: &Exit) -> String {
    match exit {
        Exit::NotStarted(reason) | Exit::Unknown(reason) => reason.clone(),
        Exit::Status(status) => format!("it ended with status {status} before it was to start"),
        Exit::Signal(signal) => format!("it ended by signal {signal} before it was to start"),
    }
}

/// Ends supervisors whose workers have not been started, waits until they are gone, and gives how each ended.
async fn end_prepared(workers: Vec<Worker>) -> Vec<Worker> {
    let mut ended = Vec::with_capacity(workers.len());
    for worker in workers {
        let (commands, commanded) = mpsc::unbounded_channel();
        let (told, mut statuses) = mpsc::unbounded_channel();
        let (_keep, lease) = watch::channel(0);
        let mut stand = worker.stand;
        if let WorkerStand::Watched { handle, .. } = stand {
            let _ = commands.send(Command::Kill);
            tokio::spawn(watch_worker(0, worker.folder.clone(), handle, commanded, lease, told));
            stand = loop {
                match statuses.recv().await {
                    Some((_, Status::Ended(end))) => break WorkerStand::Ended(end),
                    Some(_) => {}
                    // Whoever watched it is gone, as when the agent ends.
                    None => break WorkerStand::Watched { handle: None, running_since_ms: None, paused: false },
                }
            };
        }
        ended.push(Worker { stand, ..worker });
    }
    ended
}

/// What is known of the workers of a task.
struct Following {
    commands: Vec<mpsc::UnboundedSender<Command>>,
    running: BTreeMap<usize, i64>,
    /// Those that stand still.
    paused: BTreeSet<usize>,
    ends: Vec<Option<(WorkerSpec, Ended)>>,
    /// Whether they were told to run.
    went: bool,
    told_running: bool,
    /// Whether the core was told that all stand still.
    told_paused: bool,
    told_failure: bool,
}

impl Following {
    const fn new(went: bool) -> Self {
        Self {
            commands: Vec::new(),
            running: BTreeMap::new(),
            paused: BTreeSet::new(),
            ends: Vec::new(),
            went,
            told_running: went,
            told_paused: false,
            told_failure: false,
        }
    }

    fn is_over(&self) -> bool {
        self.ends.iter().all(Option::is_some)
    }

    fn command(&self, command: &Command) {
        for commands in &self.commands {
            // Whoever has ended needs none.
            let _ = commands.send(command.clone());
        }
    }

    /// Takes in what a supervisor tells, and gives what the core is to know of it.
    fn take(&mut self, index: usize, status: Status, id: TaskId, spec: &TaskSpec) -> Vec<Input> {
        let mut inputs = Vec::new();
        match status {
            Status::Prepared => {}
            Status::Stopping => _ = self.paused.remove(&index),
            Status::Running { since_ms, paused, .. } => {
                self.running.insert(index, since_ms);
                if paused {
                    self.paused.insert(index)
                } else {
                    self.paused.remove(&index)
                };
            }
            Status::Ended(ended) => {
                self.paused.remove(&index);
                let failed = ended.exit != Exit::Status(0);
                self.running.extend(ended.started_ms.map(|since| (index, since)));
                self.ends[index] = Some((spec.workers[index], ended));
                if failed && self.went && !self.told_failure && !self.is_over() {
                    self.told_failure = true;
                    inputs.push(Input::WorkerFailed(id));
                }
            }
        }
        if self.went && !self.told_running && self.running.len() == self.ends.len() {
            self.told_running = true;
            let since_ms = self.running.values().copied().max().unwrap_or_default();
            inputs.insert(0, Input::Running { task: id, since_ms });
        }
        inputs.extend(self.stands_still(id));
        inputs
    }

    /// What the core is to know of whether all stand still, where that is news.
    fn stands_still(&mut self, id: TaskId) -> Option<Input> {
        // Whoever has ended stands still for good.
        let paused = !self.paused.is_empty()
            && (0..).zip(&self.ends).all(|(index, end)| end.is_some() || self.paused.contains(&index));
        let is_news = std::mem::replace(&mut self.told_paused, paused) != paused;
        is_news.then_some(Input::Paused { task: id, paused })
    }
}

fn task_end(following: &Following) -> TaskEnd {
    let ends: Vec<&(WorkerSpec, Ended)> = following.ends.iter().flatten().collect();
    let ran = ends.iter().any(|(_, ended)| ended.started_ms.is_some());
    if !ran {
        // That a program is missing is how a worker ended; that the node could not start it is a refusal.
        let fault = ends.iter().find(|(_, ended)| ended.node_fault).map(|(_, ended)| node_fault(why_not(&ended.exit)));
        // It was the job's fault least of all.
        let withdrawn = (!following.went).then(|| node_fault(WITHDRAWN.to_owned()));
        if let Some(refusal) = fault.or(withdrawn) {
            return refused(refusal);
        }
    }
    let worker = |(spec, ended): &&(WorkerSpec, Ended)| WorkerEnd {
        rank: spec.rank,
        // A worker that nobody was there to watch over did not fail.
        exit: match ended.cause {
            Some(Cause::Lease) => Exit::Unknown("its lease ended".to_owned()),
            _ => ended.exit.clone(),
        },
        started_ms: ended.started_ms.unwrap_or(ended.ended_ms),
        ended_ms: ended.ended_ms,
    };
    let sum = |of: fn(&Ended) -> Option<u64>| {
        let known: Vec<u64> = ends.iter().filter_map(|(_, ended)| of(ended)).collect();
        (!known.is_empty()).then(|| known.iter().sum())
    };
    TaskEnd {
        refused: None,
        workers: ends.iter().map(worker).collect(),
        energy_mj: 0,
        energy_source: EnergySource::Model,
        cpu_ms: sum(|ended| ended.cpu_ms),
        peak_memory_kib: sum(|ended| ended.peak_memory_kib),
    }
}

/// Speaks with a supervisor until its worker has ended. A supervisor that was lost is looked for, and what it may have
/// left is ended: the end is told only when nothing runs any more.
async fn watch_worker(
    index: usize,
    folder: PathBuf,
    mut handle: Option<Handle>,
    mut commanded: mpsc::UnboundedReceiver<Command>,
    mut lease: watch::Receiver<u64>,
    told: mpsc::UnboundedSender<(usize, Status)>,
) {
    let mut unsent = None;
    loop {
        let Some(connection) = &mut handle else {
            match reconnect(&folder).await {
                Ok(found) => handle = Some(found),
                Err(ended) => {
                    let _ = told.send((index, Status::Ended(ended)));
                    return;
                }
            }
            continue;
        };
        if let Some(command) = unsent.take()
            && connection.send(&command).await.is_err()
        {
            unsent = Some(command);
            handle = None;
            continue;
        }
        tokio::select! {
            status = connection.next() => match status {
                Ok(Some(status)) => {
                    let over = matches!(status, Status::Ended(_));
                    if told.send((index, status)).is_err() || over {
                        return;
                    }
                }
                Ok(None) | Err(_) => handle = None,
            },
            command = commanded.recv() => match command {
                Some(command) => unsent = Some(command),
                None => return,
            },
            changed = lease.changed() => match changed {
                Ok(()) => unsent = Some(Command::Lease { until_ms: *lease.borrow_and_update() }),
                Err(_) => std::future::pending().await,
            },
        }
    }
}

/// Finds a supervisor again, or how its worker ended.
async fn reconnect(folder: &Path) -> Result<Handle, Ended> {
    loop {
        match find(folder) {
            Ok(Found::Alive) => match Handle::connect(folder) {
                Ok(handle) => return Ok(handle),
                Err(error) => tracing::debug!(folder = %folder.display(), %error, "a supervisor does not answer"),
            },
            Ok(Found::Ended(ended)) => return Err(ended),
            Ok(Found::NeverRan | Found::Died { .. }) => {
                let gone = folder.to_owned();
                match tokio::task::spawn_blocking(move || clean_up(&gone)).await {
                    Ok(Ok(ended)) => return Err(ended),
                    Ok(Err(error)) => tracing::warn!(folder = %folder.display(), %error, "remains of a worker"),
                    Err(error) => tracing::error!(folder = %folder.display(), %error, "remains of a worker"),
                }
            }
            Err(error) => tracing::warn!(folder = %folder.display(), %error, "a worker's record cannot be read"),
        }
        tokio::time::sleep(AGAIN).await;
    }
}

/// Looks at the folder of a task that an earlier run of the agent has left. None for one that never ran, of which
/// nothing is left afterwards: the server orders it anew, or takes it for lost.
pub(crate) async fn adopt(node: &Node, id: TaskId) -> io::Result<Option<Adopted>> {
    let folder = node.store.task(id);
    let written = match fs::read(folder.join(file::TASK)) {
        Err(other) if other.kind() != io::ErrorKind::NotFound => return Err(other),
        written => written.unwrap_or_default(),
    };
    let Ok(spec) = serde_json::from_slice::<TaskSpec>(&written).map(Arc::new) else {
        // Torn by a loss of power, or of an agent with other words: nobody can go on with it.
        end_prepared(unknown_workers(&folder)?).await;
        node.store.remove(id)?;
        return Ok(None);
    };
    let signalled = read(&folder.join(file::SIGNAL)).unwrap_or(0);
    let groups: Vec<String> = spec.workers.iter().map(|worker| group_name(id, worker)).collect();
    if let Some(end) = read::<TaskEnd>(&folder.join(file::END)) {
        return Ok(Some(Adopted { spec, stand: Stand::Ended(end), signalled, groups, workers: Vec::new() }));
    }
    let mut workers = Vec::with_capacity(spec.workers.len());
    for worker in &spec.workers {
        let folder = folder.join(worker.rank.to_string());
        workers.push(Worker { spec: *worker, stand: stand_of(&folder).await?, folder });
    }
    let waits = |worker: &Worker| matches!(worker.stand, WorkerStand::Watched { handle: Some(_), .. });
    if started_ms(&workers).is_none() && !workers.iter().all(waits) {
        // Not all were made ready. An order of the run before may still have reached one of them.
        workers = end_prepared(workers).await;
        if started_ms(&workers).is_none() {
            node.store.remove(id)?;
            return Ok(None);
        }
    }
    let stand = started_ms(&workers).map_or(Stand::Prepared, |since_ms| Stand::Running { since_ms });
    Ok(Some(Adopted { spec, stand, signalled, groups, workers }))
}

/// When the last of the workers that have been started was.
fn started_ms(workers: &[Worker]) -> Option<i64> {
    let since = |worker: &Worker| match &worker.stand {
        WorkerStand::Watched { running_since_ms, .. } => *running_since_ms,
        WorkerStand::Ended(ended) => ended.started_ms,
    };
    workers.iter().filter_map(since).max()
}

/// The workers of a task of which nothing is known but its folder.
fn unknown_workers(folder: &Path) -> io::Result<Vec<Worker>> {
    let mut workers = Vec::new();
    for entry in fs::read_dir(folder)? {
        let folder = entry?.path();
        let rank = folder.file_name().and_then(|name| name.to_str()?.parse().ok());
        if let Some(rank) = rank {
            let stand = WorkerStand::Watched { handle: None, running_since_ms: None, paused: false };
            workers.push(Worker { spec: WorkerSpec { rank, local_rank: 0, chips: 0 }, folder, stand });
        }
    }
    Ok(workers)
}

/// The cores that workers were given, as their supervisors know it.
fn cores(workers: &[Worker]) -> Vec<Vec<u32>> {
    let launch = |worker: &Worker| read::<WorkerLaunch>(&worker.folder.join("worker.json"));
    workers.iter().map(|worker| launch(worker).map(|launch| launch.cpus).unwrap_or_default()).collect()
}

/// Where a worker of an earlier run stands. That it never ran is said only when its record says so.
async fn stand_of(folder: &Path) -> io::Result<WorkerStand> {
    let lost = |running_since_ms| WorkerStand::Watched { handle: None, running_since_ms, paused: false };
    let deadline = Instant::now() + FIRST_STATUS_LIMIT;
    while Instant::now() < deadline {
        match find(folder) {
            Err(missing) if missing.kind() == io::ErrorKind::NotFound => return Ok(lost(None)),
            Err(other) => return Err(other),
            Ok(Found::NeverRan) => return Ok(lost(None)),
            Ok(Found::Died { started_ms }) => return Ok(lost(Some(started_ms))),
            Ok(Found::Ended(ended)) => return Ok(WorkerStand::Ended(ended)),
            Ok(Found::Alive) => {}
        }
        if let Some(stand) = asked(folder).await {
            return Ok(stand);
        }
        // It may be about to die, which its record does not tell yet.
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    Ok(lost(Some(unix_now_ms())))
}

/// Where a worker stands by what its supervisor says; none when that does not answer.
async fn asked(folder: &Path) -> Option<WorkerStand> {
    let mut handle = Handle::connect(folder).ok()?;
    let (running_since_ms, paused) =
        match tokio::time::timeout(FIRST_STATUS_LIMIT, handle.next()).await.ok()?.ok()?? {
            Status::Ended(ended) => return Some(WorkerStand::Ended(ended)),
            Status::Prepared => (None, false),
            Status::Running { since_ms, paused, .. } => (Some(since_ms), paused),
            // It was started, or it would not have to be stopped; since when is told with its end.
            Status::Stopping => (Some(unix_now_ms()), false),
        };
    Some(WorkerStand::Watched { handle: Some(handle), running_since_ms, paused })
}
