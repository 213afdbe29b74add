//! What a worker sees: its whole environment, as PyTorch, the makers of chips and Slurm name things.
//!
//! `RANK` and its like are PyTorch's (`torch.distributed`, "Environment variable initialization"); the `SLURM_*` are
//! those of sbatch(1) and srun(1), "OUTPUT ENVIRONMENT VARIABLES". A batch script sees what sbatch(1) gives it: it is
//! no rank of anything. What the agent's own environment holds is never passed on.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use offtake_protocol::agent::{TaskId, TaskSpec, WorkerSpec};
use offtake_workload::{Start, hostlist};

/// Where programs are looked for when the job does not say.
pub const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// The one partition that there is for those who ask in Slurm's words.
const PARTITION: &str = "offtake";

/// Who makes a node's chips, as far as workers must be told in different words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Vendor {
    /// GPUs that CUDA numbers.
    Nvidia,
    /// GPUs that ROCm numbers.
    Amd,
    /// Trainium and Inferentia, which are given out by core.
    Neuron {
        /// Cores of one chip.
        cores_per_chip: u32,
    },
    /// Google's TPUs.
    Tpu,
}

/// An account of the node's operating system.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Account {
    /// Its name.
    pub name: String,
    /// Its number.
    pub uid: u32,
    /// Its own group.
    pub gid: u32,
    /// Its home.
    pub home: PathBuf,
    /// Its shell.
    pub shell: PathBuf,
}

/// What a worker is told of the node that it runs on.
#[derive(Clone, Copy, Debug)]
pub struct Surroundings<'a> {
    /// Whom it runs as.
    pub account: &'a Account,
    /// Who makes the node's chips; none for a node without any.
    pub vendor: Option<Vendor>,
    /// Whether a worker cannot open other chips than its own. Then those that it sees are numbered from 0.
    pub devices_isolated: bool,
    /// The server, as the agent reaches it.
    pub server: &'a str,
    /// The certificate that the agent takes for the server's, where it knows it by that.
    pub fingerprint: Option<&'a str>,
    /// Folder with `srun` and its like.
    pub shims: &'a Path,
    /// Folder for the task's own passing files.
    pub scratch: &'a Path,
    /// When it starts, in seconds since 1970.
    pub start_s: i64,
}

/// The whole environment of a worker.
pub fn environment(
    id: TaskId,
    spec: &TaskSpec,
    worker: &WorkerSpec,
    around: &Surroundings<'_>,
) -> BTreeMap<String, String> {
    let mut all = Variables(spec.environment.clone());
    all.person(around);
    all.offtake(id, spec, around);
    all.chips(worker, around);
    all.slurm_job(id, spec, around);
    if is_script(spec) {
        all.slurm_script(spec);
    } else {
        all.rank(spec, worker);
        all.slurm_step(id, spec, worker);
    }
    all.slurm_node(spec, worker);
    all.0
}

/// The step as Slurm counts it, for which a batch script is none.
pub const fn slurm_step(id: TaskId) -> u32 {
    id.step.saturating_sub(1)
}

/// Whether a task is the body of a batch script.
pub const fn is_script(spec: &TaskSpec) -> bool {
    matches!(spec.start, Start::Script { .. })
}

struct Variables(BTreeMap<String, String>);

impl Variables {
    fn set(&mut self, name: &str, value: impl ToString) {
        self.0.insert(name.to_owned(), value.to_string());
    }

    /// Of the job: a step inside it has them from the batch script, and they differ from the step's own.
    fn set_of_job(&mut self, of_job: bool, name: &str, value: impl ToString) {
        if of_job || !self.0.contains_key(name) {
            self.set(name, value);
        }
    }

    fn person(&mut self, around: &Surroundings<'_>) {
        let account = around.account;
        self.set("HOME", account.home.display());
        self.set("USER", &account.name);
        self.set("LOGNAME", &account.name);
        self.set("SHELL", account.shell.display());
        self.set("TMPDIR", around.scratch.display());
        let shims = around.shims.display().to_string();
        let path = self.0.get("PATH").map_or(DEFAULT_PATH, String::as_str);
        // A step inside a job has the path of the script that started it.
        if path.split(':').next() != Some(shims.as_str()) {
            let path = format!("{shims}:{path}");
            self.set("PATH", path);
        }
    }

    fn offtake(&mut self, id: TaskId, spec: &TaskSpec, around: &Surroundings<'_>) {
        self.set("OFFTAKE_JOB_ID", id.job);
        self.set("OFFTAKE_ATTEMPT", id.attempt);
        self.set("OFFTAKE_STEP", id.step);
        self.set("OFFTAKE_RESTARTS", spec.restarts);
        self.set("OFFTAKE_SERVER", around.server);
        self.set("OFFTAKE_TOKEN", &spec.job_token);
        if let Some(fingerprint) = around.fingerprint {
            self.set("OFFTAKE_FINGERPRINT", fingerprint);
        }
        if let Some(first) = spec.nodes.first() {
            self.set("MASTER_ADDR", &first.address);
            self.set("MASTER_PORT", spec.port);
        }
    }

    fn rank(&mut self, spec: &TaskSpec, worker: &WorkerSpec) {
        self.set("RANK", worker.rank);
        self.set("WORLD_SIZE", spec.world_size);
        self.set("LOCAL_RANK", worker.local_rank);
        self.set("LOCAL_WORLD_SIZE", spec.workers.len());
        self.set("NODE_RANK", spec.node_rank);
    }

    /// A worker without chips sees none, rather than all.
    fn chips(&mut self, worker: &WorkerSpec, around: &Surroundings<'_>) {
        let Some(vendor) = around.vendor else { return };
        let own: Vec<u32> = chip_indices(worker.chips).collect();
        let from_0: Vec<u32> = (0..).take(own.len()).collect();
        let seen = if around.devices_isolated { &from_0 } else { &own };
        match vendor {
            Vendor::Nvidia => {
                // So that CUDA counts as NVML does, and not the fastest first.
                self.set("CUDA_DEVICE_ORDER", "PCI_BUS_ID");
                self.set("CUDA_VISIBLE_DEVICES", join(seen));
            }
            Vendor::Amd => {
                // HIP counts what ROCr leaves.
                self.set("ROCR_VISIBLE_DEVICES", join(seen));
                self.set("HIP_VISIBLE_DEVICES", join(&from_0));
            }
            Vendor::Neuron { cores_per_chip } => {
                // Neuron counts the cores of the node, whichever devices can be opened.
                let cores: Vec<u32> =
                    own.iter().flat_map(|chip| (chip * cores_per_chip..).take(cores_per_chip as usize)).collect();
                self.set("NEURON_RT_VISIBLE_CORES", join(&cores));
            }
            Vendor::Tpu => self.set("TPU_VISIBLE_CHIPS", join(seen)),
        }
    }

    fn slurm_job(&mut self, id: TaskId, spec: &TaskSpec, around: &Surroundings<'_>) {
        let whole = id.step == 0;
        let nodes = hostlist::compress(spec.nodes.iter().map(|node| node.name.as_str()));
        self.set("SLURM_JOB_ID", id.job);
        self.set("SLURM_JOBID", id.job);
        self.set("SLURM_JOB_NAME", &spec.job_name);
        self.set("SLURM_JOB_USER", &around.account.name);
        self.set("SLURM_JOB_UID", around.account.uid);
        self.set("SLURM_JOB_GID", around.account.gid);
        self.set("SLURM_JOB_ACCOUNT", &spec.tenant);
        self.set("SLURM_JOB_PARTITION", PARTITION);
        self.set("SLURM_CLUSTER_NAME", PARTITION);
        self.set_of_job(whole, "SLURM_JOB_NODELIST", &nodes);
        self.set_of_job(whole, "SLURM_JOB_NUM_NODES", spec.nodes.len());
        self.set_of_job(whole, "SLURM_JOB_START_TIME", around.start_s);
        if let Some(limit_ms) = spec.limit_ms {
            self.set_of_job(whole, "SLURM_JOB_END_TIME", around.start_s.saturating_add(limit_ms / 1000));
        }
        self.set_of_job(whole, "SLURM_SUBMIT_DIR", &spec.directory);
        let cores = spec.nodes.iter().map(|node| cores(each(spec, spec.cpu.get().into()) * u64::from(node.workers)));
        self.set_of_job(whole, "SLURM_JOB_CPUS_PER_NODE", runs(cores));
        self.set("SLURM_NODELIST", &nodes);
        self.set("SLURM_NNODES", spec.nodes.len());
        if let Some(cpus) = spec.layout.cpus_per_task {
            self.set("SLURM_CPUS_PER_TASK", cpus);
        }
        if let Some(tasks) = spec.layout.tasks_per_node {
            self.set("SLURM_NTASKS_PER_NODE", tasks);
        }
        if spec.restarts > 0 {
            self.set("SLURM_RESTART_COUNT", spec.restarts);
        }
        if let Some(array) = spec.array {
            self.set("SLURM_ARRAY_JOB_ID", array.array);
            self.set("SLURM_ARRAY_TASK_ID", array.index);
            self.set("SLURM_ARRAY_TASK_COUNT", array.count);
            self.set("SLURM_ARRAY_TASK_MIN", array.first);
            self.set("SLURM_ARRAY_TASK_MAX", array.last);
            self.set("SLURM_ARRAY_TASK_STEP", array.step);
        }
    }

    /// A script is not one of the tasks that it may start, and sees how many those would be.
    fn slurm_script(&mut self, spec: &TaskSpec) {
        let per_node = tasks_of_script(spec);
        let tasks: u64 = per_node.iter().sum();
        self.set("SLURM_NTASKS", tasks);
        self.set("SLURM_NPROCS", tasks);
        self.set("SLURM_TASKS_PER_NODE", runs(per_node));
        self.set("SLURM_PROCID", 0);
        self.set("SLURM_LOCALID", 0);
        self.set("SLURM_GTIDS", 0);
    }

    fn slurm_step(&mut self, id: TaskId, spec: &TaskSpec, worker: &WorkerSpec) {
        let nodes = hostlist::compress(spec.nodes.iter().map(|node| node.name.as_str()));
        let per_node = runs(spec.nodes.iter().map(|node| u64::from(node.workers)));
        let ranks: Vec<u32> = spec.workers.iter().map(|worker| worker.rank).collect();
        self.set("SLURM_STEP_ID", slurm_step(id));
        self.set("SLURM_STEPID", slurm_step(id));
        self.set("SLURM_STEP_NODELIST", nodes);
        self.set("SLURM_STEP_NUM_NODES", spec.nodes.len());
        self.set("SLURM_STEP_NUM_TASKS", spec.world_size);
        self.set("SLURM_STEP_TASKS_PER_NODE", &per_node);
        self.set("SLURM_NTASKS", spec.world_size);
        self.set("SLURM_NPROCS", spec.world_size);
        self.set("SLURM_TASKS_PER_NODE", per_node);
        self.set("SLURM_PROCID", worker.rank);
        self.set("SLURM_LOCALID", worker.local_rank);
        self.set("SLURM_GTIDS", join(&ranks));
        if worker.chips != 0 {
            self.set("SLURM_STEP_GPUS", join(&all_chips(spec)));
        }
    }

    fn slurm_node(&mut self, spec: &TaskSpec, worker: &WorkerSpec) {
        let share = spec.nodes.get(spec.node_rank as usize);
        let workers = share.map_or(spec.workers.len() as u64, |share| u64::from(share.workers));
        self.set("SLURM_NODEID", spec.node_rank);
        if let Some(share) = share {
            self.set("SLURMD_NODENAME", &share.name);
            // As srun's manual has them: all switches from the top down, then the node, joined by full stops.
            let domains = spec.domain.split('/').filter(|name| !name.is_empty());
            let address: Vec<&str> = domains.chain([share.name.as_str()]).collect();
            self.set("SLURM_TOPOLOGY_ADDR", address.join("."));
            self.set("SLURM_TOPOLOGY_ADDR_PATTERN", "switch.".repeat(address.len() - 1) + "node");
        }
        if !spec.domain.is_empty() {
            self.set("OFFTAKE_TOPOLOGY", &spec.domain);
        }
        self.set("SLURM_CPUS_ON_NODE", cores(each(spec, spec.cpu.get().into()) * workers));
        if spec.memory.get() > 0 {
            self.set("SLURM_MEM_PER_NODE", each(spec, spec.memory.get()).saturating_mul(workers));
        }
        let chips = all_chips(spec);
        if worker.chips != 0 {
            self.set("SLURM_GPUS_ON_NODE", chips.len());
            self.set("SLURM_JOB_GPUS", join(&chips));
        }
    }
}

/// The chips that bits stand for.
pub fn chip_indices(chips: u64) -> impl Iterator<Item = u32> {
    (0..u64::BITS).filter(move |bit| chips >> bit & 1 == 1)
}

fn all_chips(spec: &TaskSpec) -> Vec<u32> {
    chip_indices(spec.workers.iter().fold(0, |all, worker| all | worker.chips)).collect()
}

fn join(numbers: &[u32]) -> String {
    let numbers: Vec<String> = numbers.iter().map(u32::to_string).collect();
    numbers.join(",")
}

/// What one worker of the job has, of what one worker of the task has: a script has all that the job has of its node.
fn each(spec: &TaskSpec, amount: u64) -> u64 {
    let share = spec.nodes.get(spec.node_rank as usize);
    if is_script(spec) { share.map_or(amount, |share| amount / u64::from(share.workers.max(1))) } else { amount }
}

/// Whole cores that hold so many thousandths.
const fn cores(milli: u64) -> u64 {
    milli.div_ceil(1000)
}

/// How many tasks a script would start on each node, if it asked for nothing else: as many as it was submitted with.
fn tasks_of_script(spec: &TaskSpec) -> Vec<u64> {
    let nodes = spec.nodes.len() as u64;
    let layout = spec.layout;
    match (layout.tasks_per_node, layout.tasks) {
        (Some(each), _) => vec![u64::from(each); spec.nodes.len()],
        (None, Some(tasks)) if nodes > 0 => {
            // Slurm's block distribution: as even as can be, the first nodes one more.
            let tasks = u64::from(tasks);
            (0..nodes).map(|node| tasks / nodes + u64::from(node < tasks % nodes)).collect()
        }
        (None, _) => spec.nodes.iter().map(|node| u64::from(node.workers)).collect(),
    }
}

/// Slurm's way to write a number for each node: `4(x2),3`.
fn runs(numbers: impl IntoIterator<Item = u64>) -> String {
    let mut runs: Vec<(u64, u32)> = Vec::new();
    for number in numbers {
        match runs.last_mut() {
            Some((last, times)) if *last == number => *times += 1,
            _ => runs.push((number, 1)),
        }
    }
    let words: Vec<String> = runs
        .into_iter()
        .map(|(number, times)| if times == 1 { number.to_string() } else { format!("{number}(x{times})") })
        .collect();
    words.join(",")
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use offtake_protocol::agent::NodeShare;
    use offtake_units::{CpuMilli, Mebibytes};
    use offtake_workload::{ArrayTask, Layout, Stop, User};

    use super::*;

    fn node(name: &str, workers: u32) -> NodeShare {
        NodeShare { name: name.to_owned(), address: format!("{name}.example"), workers }
    }

    /// The second node of a gang of eight workers on two, with two chips each.
    fn gang() -> TaskSpec {
        TaskSpec {
            job_name: "train".to_owned(),
            tenant: "lab".to_owned(),
            user: User::Id(1000),
            start: Start::Command(vec!["python3".to_owned()]),
            environment: [("PATH", "/opt/bin"), ("RANK", "77"), ("WANDB", "off")]
                .map(|(name, value)| (name.to_owned(), value.to_owned()))
                .into(),
            directory: "/home/ada/work".to_owned(),
            output: None,
            error: None,
            append: false,
            stop: Stop::default(),
            ends_together: true,
            layout: Layout::default(),
            cpu: CpuMilli::new(3500),
            memory: Mebibytes::new(1024),
            workers: (0..4).map(|n| WorkerSpec { rank: 4 + n, local_rank: n, chips: 0b11 << (2 * n) }).collect(),
            world_size: 8,
            node_rank: 1,
            nodes: Arc::new([node("gpu-03", 4), node("gpu-04", 4)]),
            domain: "north/block-2/rack-7".to_owned(),
            port: 29_500,
            array: None,
            limit_ms: Some(3_600_000),
            restarts: 0,
            job_token: "secret".to_owned(),
        }
    }

    fn account() -> Account {
        Account { name: "ada".to_owned(), uid: 1000, gid: 1001, home: "/home/ada".into(), shell: "/bin/bash".into() }
    }

    fn of(spec: &TaskSpec, step: u32, worker: usize, vendor: Option<Vendor>) -> BTreeMap<String, String> {
        let account = account();
        let around = Surroundings {
            account: &account,
            vendor,
            devices_isolated: false,
            server: "https://control:7443",
            fingerprint: Some("ab12"),
            shims: Path::new("/var/lib/offtake/shims"),
            scratch: Path::new("/var/lib/offtake/tasks/17.2.0/tmp"),
            start_s: 1_700_000_000,
        };
        environment(TaskId { job: 17, attempt: 2, step }, spec, &spec.workers[worker], &around)
    }

    fn check(found: &BTreeMap<String, String>, expected: &[(&str, &str)]) {
        for (name, value) in expected {
            assert_eq!(found.get(*name).map(String::as_str), Some(*value), "{name}");
        }
    }

    #[test]
    fn a_worker_of_a_gang_knows_its_place() {
        let found = of(&gang(), 0, 2, Some(Vendor::Nvidia));
        check(
            &found,
            &[
                ("RANK", "6"),
                ("WORLD_SIZE", "8"),
                ("LOCAL_RANK", "2"),
                ("LOCAL_WORLD_SIZE", "4"),
                ("NODE_RANK", "1"),
                ("MASTER_ADDR", "gpu-03.example"),
                ("MASTER_PORT", "29500"),
                ("CUDA_VISIBLE_DEVICES", "4,5"),
                ("SLURM_JOB_ID", "17"),
                ("SLURM_JOBID", "17"),
                ("SLURM_JOB_NODELIST", "gpu-[03-04]"),
                ("SLURM_NODELIST", "gpu-[03-04]"),
                ("SLURM_JOB_NUM_NODES", "2"),
                ("SLURM_NNODES", "2"),
                ("SLURM_NTASKS", "8"),
                ("SLURM_NPROCS", "8"),
                ("SLURM_PROCID", "6"),
                ("SLURM_LOCALID", "2"),
                ("SLURM_NODEID", "1"),
                ("SLURM_TOPOLOGY_ADDR", "north.block-2.rack-7.gpu-04"),
                ("SLURM_TOPOLOGY_ADDR_PATTERN", "switch.switch.switch.node"),
                ("OFFTAKE_TOPOLOGY", "north/block-2/rack-7"),
                ("SLURMD_NODENAME", "gpu-04"),
                ("SLURM_GTIDS", "4,5,6,7"),
                ("SLURM_TASKS_PER_NODE", "4(x2)"),
                ("SLURM_STEP_ID", "0"),
                ("SLURM_STEP_NODELIST", "gpu-[03-04]"),
                ("SLURM_STEP_TASKS_PER_NODE", "4(x2)"),
                ("SLURM_CPUS_ON_NODE", "14"),
                ("SLURM_JOB_CPUS_PER_NODE", "14(x2)"),
                ("SLURM_GPUS_ON_NODE", "8"),
                ("SLURM_JOB_GPUS", "0,1,2,3,4,5,6,7"),
                ("SLURM_MEM_PER_NODE", "4096"),
                ("SLURM_SUBMIT_DIR", "/home/ada/work"),
                ("SLURM_JOB_USER", "ada"),
                ("SLURM_JOB_UID", "1000"),
                ("SLURM_JOB_ACCOUNT", "lab"),
                ("SLURM_JOB_PARTITION", "offtake"),
                ("SLURM_JOB_START_TIME", "1700000000"),
                ("SLURM_JOB_END_TIME", "1700003600"),
                ("OFFTAKE_ATTEMPT", "2"),
                ("OFFTAKE_TOKEN", "secret"),
                ("OFFTAKE_FINGERPRINT", "ab12"),
                ("HOME", "/home/ada"),
                ("SHELL", "/bin/bash"),
                ("PATH", "/var/lib/offtake/shims:/opt/bin"),
                ("WANDB", "off"),
            ],
        );
        assert!(!found.contains_key("SLURM_RESTART_COUNT"), "as in Slurm, only after a restart");
        assert!(!found.contains_key("SLURM_ARRAY_JOB_ID"));
    }

    #[test]
    fn a_batch_script_is_no_rank() {
        let mut spec = gang();
        spec.environment.clear();
        spec.start = Start::Script { text: "#!/bin/sh\n".to_owned(), arguments: Vec::new() };
        spec.workers = vec![WorkerSpec { rank: 0, local_rank: 0, chips: 0xff }];
        spec.node_rank = 0;
        spec.cpu = CpuMilli::new(4 * 3500);
        spec.memory = Mebibytes::new(4 * 1024);
        spec.layout = Layout { tasks: Some(5), tasks_per_node: None, cpus_per_task: Some(3) };
        spec.restarts = 1;
        let found = of(&spec, 0, 0, Some(Vendor::Nvidia));
        check(
            &found,
            &[
                ("SLURM_NTASKS", "5"),
                ("SLURM_TASKS_PER_NODE", "3,2"),
                ("SLURM_CPUS_PER_TASK", "3"),
                ("SLURM_PROCID", "0"),
                ("SLURM_NODEID", "0"),
                ("SLURM_RESTART_COUNT", "1"),
                ("SLURM_CPUS_ON_NODE", "14"),
                ("SLURM_JOB_CPUS_PER_NODE", "14(x2)"),
                ("SLURM_MEM_PER_NODE", "4096"),
                ("SLURM_GPUS_ON_NODE", "8"),
                ("CUDA_VISIBLE_DEVICES", "0,1,2,3,4,5,6,7"),
                ("PATH", "/var/lib/offtake/shims:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"),
            ],
        );
        for name in ["RANK", "WORLD_SIZE", "LOCAL_RANK", "SLURM_STEP_ID", "SLURM_STEP_NODELIST"] {
            assert!(!found.contains_key(name), "{name}");
        }
    }

    #[test]
    fn a_step_keeps_what_is_told_of_its_job() {
        let mut spec = gang();
        spec.environment = of(&gang(), 0, 0, None);
        spec.nodes = Arc::new([node("gpu-04", 4)]);
        spec.node_rank = 0;
        spec.world_size = 4;
        let found = of(&spec, 3, 0, None);
        check(
            &found,
            &[
                ("SLURM_JOB_NODELIST", "gpu-[03-04]"),
                ("SLURM_JOB_NUM_NODES", "2"),
                ("SLURM_JOB_CPUS_PER_NODE", "14(x2)"),
                ("SLURM_STEP_NODELIST", "gpu-04"),
                ("SLURM_NNODES", "1"),
                ("SLURM_NTASKS", "4"),
                ("SLURM_STEP_ID", "2"),
                ("OFFTAKE_STEP", "3"),
                ("PATH", "/var/lib/offtake/shims:/opt/bin"),
            ],
        );
    }

    #[test]
    fn an_array_is_told_as_slurm_does() {
        let mut spec = gang();
        spec.array = Some(ArrayTask { array: 15, index: 4, count: 3, first: 0, last: 4, step: 2, at_once: Some(1) });
        let expected = [("JOB_ID", "15"), ("TASK_ID", "4"), ("TASK_COUNT", "3"), ("TASK_MIN", "0"), ("TASK_STEP", "2")];
        let found = of(&spec, 0, 0, None);
        for (name, value) in expected {
            check(&found, &[(&format!("SLURM_ARRAY_{name}"), value)]);
        }
    }

    #[test]
    fn each_vendor_counts_its_own_way() {
        let spec = gang();
        check(&of(&spec, 0, 1, Some(Vendor::Neuron { cores_per_chip: 2 })), &[("NEURON_RT_VISIBLE_CORES", "4,5,6,7")]);
        check(&of(&spec, 0, 1, Some(Vendor::Tpu)), &[("TPU_VISIBLE_CHIPS", "2,3")]);
        let amd = of(&spec, 0, 1, Some(Vendor::Amd));
        check(&amd, &[("ROCR_VISIBLE_DEVICES", "2,3"), ("HIP_VISIBLE_DEVICES", "0,1")]);
        let mut without = gang();
        without.workers[0].chips = 0;
        check(&of(&without, 0, 0, Some(Vendor::Nvidia)), &[("CUDA_VISIBLE_DEVICES", "")]);
        assert!(!of(&without, 0, 0, None).contains_key("CUDA_VISIBLE_DEVICES"), "there is nothing to hide");
    }

    #[test]
    fn numbers_of_nodes_are_written_as_slurm_does() {
        assert_eq!(runs([4, 4, 3, 4]), "4(x2),3,4");
        assert_eq!(runs([]), "");
    }
}
