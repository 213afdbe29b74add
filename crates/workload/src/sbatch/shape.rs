//! What a script asks of the nodes, and the gang that follows from it.
//!
//! With a number of nodes, a worker is a node's share: as many workers as nodes, one on each. With a number of tasks
//! alone, a worker is a task, and may lie anywhere. With neither, there is one worker.

use super::error::{Error, Note, Problem};
use super::options::{Given, Options};
use super::table::Key;
use super::values::{self, GPUS_ALLOWED, Gpus, MEMORY_ALLOWED};
use crate::check::{MOST_MEMORY, MOST_WORKERS};
use crate::{INNERMOST, Layout, WireGang, human};

/// The gang and what `srun` is told of it.
#[derive(Debug)]
pub(super) struct Shape {
    pub gang: WireGang,
    pub layout: Layout,
}

const ONE_CORE: u64 = 1000;
const COUNT_ALLOWED: &str = "a whole number from 1 to 1000000";

struct Asked<'a> {
    options: &'a Options,
    nodes: Option<u64>,
    tasks: Option<u64>,
    tasks_per_node: Option<u64>,
    cpus_per_task: Option<u64>,
    cpus_per_gpu: Option<u64>,
    least_cpus: u64,
    tasks_per_gpu: Option<u64>,
    gpus: Option<Gpus>,
    gpus_per_node: Option<Gpus>,
    gpus_per_task: Option<Gpus>,
}

/// A worker, in numbers.
struct Worker {
    tasks: u64,
    gpus: u64,
}

pub(super) fn shape(options: &Options, notes: &mut Vec<Note>) -> Result<Shape, Error> {
    let mut asked = Asked::read(options)?;
    asked.tasks_from_gpus()?;
    match asked.nodes(notes)? {
        Some(nodes) => asked.by_node(nodes, notes),
        None => asked.by_task(notes),
    }
}

impl<'a> Asked<'a> {
    fn read(options: &'a Options) -> Result<Self, Error> {
        let number = |key| options.last(key).map(count).transpose();
        let chips = |key| options.last(key).map(chips).transpose();
        let per_node = match (options.last(Key::Gres), options.last(Key::GpusPerNode)) {
            (Some(gres), None) => generic(gres)?,
            (None, per_node) => per_node.map(self::chips).transpose()?,
            (Some(gres), Some(per_node)) => match (generic(gres)?, self::chips(per_node)?) {
                (Some(one), other) if one != other => {
                    return Err(wrong(gres, "the same number as `--gpus-per-node`, or only one of the two"));
                }
                (_, other) => Some(other),
            },
        };
        let some = |gpus: Option<Gpus>| gpus.filter(|gpus| gpus.count > 0);
        Ok(Self {
            options,
            nodes: options.last(Key::Nodes).map(nodes).transpose()?,
            tasks: number(Key::Ntasks)?,
            tasks_per_node: number(Key::NtasksPerNode)?,
            cpus_per_task: number(Key::CpusPerTask)?,
            cpus_per_gpu: number(Key::CpusPerGpu)?,
            least_cpus: number(Key::MinCpus)?.unwrap_or(0),
            tasks_per_gpu: number(Key::NtasksPerGpu)?,
            gpus: some(chips(Key::Gpus)?),
            gpus_per_node: some(per_node),
            gpus_per_task: some(chips(Key::GpusPerTask)?),
        })
    }

    /// `--gpus=8 --gpus-per-task=2` are four tasks where nothing else says how many.
    fn tasks_from_gpus(&mut self) -> Result<(), Error> {
        let (Some(total), Some(each), None, None, None) =
            (&self.gpus, &self.gpus_per_task, self.tasks, self.tasks_per_node, self.nodes)
        else {
            return Ok(());
        };
        if !total.count.is_multiple_of(each.count) {
            return Err(self.wrong(Key::Gpus, format!("a multiple of `--gpus-per-task`, {}", each.count)));
        }
        self.tasks = Some(u64::from(total.count / each.count));
        Ok(())
    }

    /// The number of nodes, where one is asked for or follows.
    fn nodes(&self, notes: &mut Vec<Note>) -> Result<Option<u64>, Error> {
        let nodes = match (self.nodes, self.tasks, self.tasks_per_node) {
            (Some(nodes), Some(tasks), _) if tasks < nodes => {
                let line = self.options.last(Key::Nodes).and_then(|given| given.line);
                let text = format!("{tasks} tasks cannot run on {nodes} nodes: taken as --nodes={tasks}, as in Slurm");
                notes.push(Note { line, text });
                tasks
            }
            (Some(nodes), ..) => nodes,
            (None, Some(tasks), Some(per_node)) => tasks.div_ceil(per_node),
            (None, None, _) | (None, Some(1), None) => 1,
            (None, Some(_), None) => {
                let Some(given) = self.per_node_option() else { return Ok(None) };
                let text = format!(
                    "`--{}` counts for each node, and --nodes is not given: all tasks are placed on one node",
                    given.option
                );
                notes.push(Note { line: given.line, text });
                1
            }
        };
        Ok(Some(nodes))
    }

    /// An option that makes sense only for a node as a whole.
    fn per_node_option(&self) -> Option<&'a Given> {
        let chips = self.gpus_per_node.is_some();
        let keys = [Key::Gres, Key::GpusPerNode].into_iter().filter(|_| chips);
        let found = keys
            .chain([Key::Mem, Key::MinCpus, Key::NtasksPerGpu, Key::Overcommit])
            .find_map(|key| self.options.last(key));
        found.filter(|given| given.key != Key::Mem || given.value.as_deref() != Some("0"))
    }

    /// A worker is a node's share.
    fn by_node(&self, nodes: u64, notes: &mut Vec<Note>) -> Result<Shape, Error> {
        let mut gpus = self.gpus_of_a_node(nodes)?;
        let tasks = match (self.tasks, self.tasks_per_node) {
            (Some(tasks), most) => {
                let tasks = tasks.div_ceil(nodes);
                if most.is_some_and(|most| tasks > most) {
                    let allowed = format!("at least {tasks}, to hold `--ntasks` on {nodes} nodes");
                    return Err(self.wrong(Key::NtasksPerNode, allowed));
                }
                Some(tasks)
            }
            (None, Some(per_node)) => Some(per_node),
            (None, None) => self.tasks_of_gpus(gpus)?,
        };
        let share = tasks.unwrap_or(1);
        if gpus.is_none() {
            gpus = match (&self.gpus_per_task, self.tasks_per_gpu) {
                (Some(each), _) => Some(u64::from(each.count) * share),
                (None, Some(per_gpu)) if share.is_multiple_of(per_gpu) => Some(share / per_gpu),
                (None, Some(_)) => {
                    return Err(self.wrong(Key::NtasksPerGpu, format!("a divisor of the {share} tasks of a node")));
                }
                (None, None) => None,
            };
        }
        let gpus = gpus.unwrap_or(0);
        if self.gpus_per_task.as_ref().is_some_and(|each| u64::from(each.count) * share > gpus) {
            let allowed = format!("at most {}: a node has {gpus} chips for {share} tasks", gpus / share);
            return Err(self.wrong(Key::GpusPerTask, allowed));
        }
        let in_all = self.tasks.or(tasks.map(|tasks| tasks * nodes));
        let layout = Layout {
            tasks: in_all.map(small),
            tasks_per_node: self.tasks_per_node.or(tasks.filter(|tasks| in_all == Some(tasks * nodes))).map(small),
            cpus_per_task: self.cpus_per_task.map(small),
        };
        let gang = self.gang(nodes, Worker { tasks: share, gpus }, notes)?;
        let segment = self.segment(nodes)?;
        let gang = WireGang {
            per_node: Some(1),
            group_level: segment.map(|_| INNERMOST.to_owned()),
            group_workers: segment,
            ..gang
        };
        Ok(Shape { gang, layout })
    }

    /// The nodes of a segment, of which each lies in one domain of the innermost level.
    fn segment(&self, nodes: u64) -> Result<Option<u32>, Error> {
        let Some(given) = self.options.last(Key::Segment) else { return Ok(None) };
        let segment = count(given)?;
        if !nodes.is_multiple_of(segment) {
            return Err(wrong(given, format!("a divisor of the {nodes} nodes of the job")));
        }
        Ok(Some(small(segment)))
    }

    fn gpus_of_a_node(&self, nodes: u64) -> Result<Option<u64>, Error> {
        let total = self.gpus.as_ref().map(|gpus| u64::from(gpus.count));
        let each = self.gpus_per_node.as_ref().map(|gpus| u64::from(gpus.count));
        match (total, each) {
            (Some(total), Some(each)) if total != each * nodes => {
                Err(self.wrong(Key::Gpus, format!("{}, {each} on each of {nodes} nodes", each * nodes)))
            }
            (Some(total), None) if !total.is_multiple_of(nodes) => {
                Err(self.wrong(Key::Gpus, format!("a multiple of the {nodes} nodes, or `--gpus-per-node`")))
            }
            (Some(total), None) => Ok(Some(total / nodes)),
            (_, each) => Ok(each),
        }
    }

    /// The tasks of a node that follow from its chips.
    fn tasks_of_gpus(&self, gpus: Option<u64>) -> Result<Option<u64>, Error> {
        let Some(gpus) = gpus else { return Ok(None) };
        if let Some(per_gpu) = self.tasks_per_gpu {
            return Ok(Some(gpus * per_gpu));
        }
        let Some(each) = self.gpus_per_task.as_ref().map(|gpus| u64::from(gpus.count)) else { return Ok(None) };
        if !gpus.is_multiple_of(each) || gpus == 0 {
            return Err(self.wrong(Key::GpusPerTask, format!("a divisor of the {gpus} chips of a node")));
        }
        Ok(Some(gpus / each))
    }

    /// A worker is a task.
    fn by_task(&self, notes: &mut Vec<Note>) -> Result<Shape, Error> {
        if let Some(given) = self.options.last(Key::Segment) {
            return Err(wrong(given, "for jobs that say how many nodes with `--nodes`: a segment is counted in nodes"));
        }
        let tasks = self.tasks.unwrap_or(1);
        let each = self.gpus_per_task.as_ref().map(|gpus| u64::from(gpus.count));
        let total = self.gpus.as_ref().map(|gpus| u64::from(gpus.count));
        let gpus = match (total, each) {
            (Some(total), Some(each)) if total != each * tasks => {
                return Err(self.wrong(Key::Gpus, format!("{}, {each} for each of {tasks} tasks", each * tasks)));
            }
            (Some(total), None) if !total.is_multiple_of(tasks) => {
                let allowed = format!("a multiple of the {tasks} tasks, or a number of `--nodes` too");
                return Err(self.wrong(Key::Gpus, allowed));
            }
            (Some(total), None) => total / tasks,
            (_, each) => each.unwrap_or(0),
        };
        let layout =
            Layout { tasks: Some(small(tasks)), tasks_per_node: None, cpus_per_task: self.cpus_per_task.map(small) };
        Ok(Shape { gang: self.gang(tasks, Worker { tasks: 1, gpus }, notes)?, layout })
    }

    fn gang(&self, workers: u64, worker: Worker, notes: &mut Vec<Note>) -> Result<WireGang, Error> {
        let cores = self.cores(&worker)?;
        let memory = self.memory(cores, &worker, notes)?;
        let cpu_milli = u32::try_from(cores * ONE_CORE).map_err(|_| {
            let key = if self.cpus_per_task.is_some() { Key::CpusPerTask } else { Key::NtasksPerNode };
            self.wrong(key, format!("what makes no more than {} cores a worker", u64::from(u32::MAX) / ONE_CORE))
        })?;
        let chips = u16::try_from(worker.gpus).map_err(|_| self.wrong(Key::GpusPerTask, GPUS_ALLOWED))?;
        self.exclusive(chips, cores, notes)?;
        Ok(WireGang {
            workers: Some(small(workers)),
            chips: (chips > 0).then_some(chips),
            cpu_milli: Some(cpu_milli),
            memory: memory.map(|size| human::write_bytes(size << 20)),
            accelerators: self.kind()?.into_iter().collect(),
            ..WireGang::default()
        })
    }

    fn has(&self, key: Key) -> bool {
        self.options.last(key).is_some()
    }

    fn cores(&self, worker: &Worker) -> Result<u64, Error> {
        let cores = match (self.cpus_per_gpu, self.cpus_per_task) {
            (Some(_), Some(_)) => {
                return Err(self.wrong(Key::CpusPerGpu, "nothing beside `--cpus-per-task`: leave one of them out"));
            }
            (Some(_), None) if worker.gpus == 0 => {
                return Err(self.wrong(Key::CpusPerGpu, "nothing for a job without chips: use `--cpus-per-task`"));
            }
            (Some(per_gpu), None) => per_gpu * worker.gpus,
            // The tasks of a node share the cores of one, unless the node is theirs alone.
            (None, per_task) if self.has(Key::Overcommit) && !self.has(Key::Exclusive) => per_task.unwrap_or(1),
            (None, per_task) => per_task.unwrap_or(1) * worker.tasks,
        };
        Ok(cores.max(self.least_cpus))
    }

    /// Memory of a worker in MiB; none for no limit.
    fn memory(&self, cores: u64, worker: &Worker, notes: &mut Vec<Note>) -> Result<Option<u64>, Error> {
        let given: Vec<&Given> =
            [Key::Mem, Key::MemPerCpu, Key::MemPerGpu].iter().filter_map(|key| self.options.last(*key)).collect();
        let [given] = given.as_slice() else {
            return match given.last() {
                Some(last) => Err(wrong(last, "only one of `--mem`, `--mem-per-cpu` and `--mem-per-gpu`")),
                None => Ok(None),
            };
        };
        let size = values::mebibytes(value(given)).ok_or_else(|| wrong(given, MEMORY_ALLOWED))?;
        let times = match given.key {
            Key::MemPerCpu => cores,
            Key::MemPerGpu if worker.gpus == 0 => {
                return Err(wrong(given, "nothing for a job without chips: use `--mem`"));
            }
            Key::MemPerGpu => worker.gpus,
            _ => 1,
        };
        if size == 0 {
            let text = format!("`--{}=0` is read as no limit: the memory of the node is not set apart", given.option);
            notes.push(Note { line: given.line, text });
            return Ok(None);
        }
        let size = size.checked_mul(times).filter(|size| *size <= MOST_MEMORY.get());
        size.map(Some).ok_or_else(|| wrong(given, "what makes no more than 1 PiB for one worker"))
    }

    /// Whole nodes cannot be asked for as such. All chips of a node are, so that with them nothing changes.
    fn exclusive(&self, chips: u16, cores: u64, notes: &mut Vec<Note>) -> Result<(), Error> {
        let Some(given) = self.options.last(Key::Exclusive) else { return Ok(()) };
        if !matches!(given.value.as_deref(), None | Some("user")) {
            return Err(wrong(given, "no value, or `user`"));
        }
        if chips == 0 {
            let way_out = "a node cannot be asked for as a whole: ask for all of its cores with --ntasks-per-node and \
                           --cpus-per-task, and leave it out";
            return Err(at(given, Problem::Refused { option: given.option, way_out: way_out.to_owned() }));
        }
        let text = format!(
            "`--exclusive` is counted as what is asked for, {chips} chips and {cores} cores of each node: ask for all \
             of them, with --cpus-per-task, and nobody else is there"
        );
        notes.push(Note { line: given.line, text });
        Ok(())
    }

    /// The one kind of chip that is named, if any.
    fn kind(&self) -> Result<Option<String>, Error> {
        let named = [&self.gpus_per_node, &self.gpus, &self.gpus_per_task];
        let mut kinds: Vec<&String> = named.into_iter().flatten().filter_map(|gpus| gpus.kind.as_ref()).collect();
        kinds.sort();
        kinds.dedup();
        match kinds.as_slice() {
            [] => Ok(None),
            [kind] => Ok(Some((*kind).clone())),
            _ => Err(self.wrong(Key::GpusPerTask, GPUS_ALLOWED)),
        }
    }

    /// A fault of an option; of any that asks for chips where the one named was not given.
    fn wrong(&self, key: Key, allowed: impl Into<String>) -> Error {
        let keys = [key, Key::GpusPerTask, Key::Gpus, Key::GpusPerNode, Key::Gres, Key::NtasksPerNode, Key::Ntasks];
        match keys.iter().find_map(|key| self.options.last(*key)) {
            Some(given) => wrong(given, allowed),
            None => {
                let problem = Problem::Value { option: "ntasks", given: String::new(), allowed: allowed.into() };
                Error { line: None, problem }
            }
        }
    }
}

fn small(count: u64) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}

fn value(given: &Given) -> &str {
    given.value.as_deref().unwrap_or_default()
}

pub(super) fn at(given: &Given, problem: Problem) -> Error {
    Error { line: given.line, problem }
}

pub(super) fn wrong(given: &Given, allowed: impl Into<String>) -> Error {
    let shown = crate::input::excerpt(value(given));
    at(given, Problem::Value { option: given.option, given: shown, allowed: allowed.into() })
}

fn whole(text: &str) -> Option<u64> {
    let is_number = (1..=9).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit());
    let number = if is_number { text.parse().ok() } else { None };
    number.filter(|number| (1..=u64::from(MOST_WORKERS)).contains(number))
}

fn count(given: &Given) -> Result<u64, Error> {
    whole(value(given)).ok_or_else(|| wrong(given, COUNT_ALLOWED))
}

fn nodes(given: &Given) -> Result<u64, Error> {
    match value(given).split_once('-') {
        None => count(given),
        Some((least, most)) => match (whole(least), whole(most)) {
            (Some(least), Some(most)) if least == most => Ok(least),
            _ => {
                Err(wrong(given, "one number, such as `4`: a range of nodes is not supported, so give the one wanted"))
            }
        },
    }
}

fn chips(given: &Given) -> Result<Gpus, Error> {
    values::gpus(value(given)).ok_or_else(|| wrong(given, GPUS_ALLOWED))
}

fn generic(given: &Given) -> Result<Option<Gpus>, Error> {
    values::gres(value(given)).map_err(|item| {
        let allowed =
            format!("`gpu:8` or `gpu:h100:8`; `{}` is no resource that is counted", crate::input::excerpt(item));
        wrong(given, allowed)
    })
}
