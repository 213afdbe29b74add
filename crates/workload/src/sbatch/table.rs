//! Every option of `sbatch` in Slurm 24 and 25, and what becomes of it. `docs/sbatch.md` says the same in words.

/// Whether an option has a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Takes {
    Nothing,
    /// Only behind an equals sign.
    Maybe,
    Value,
}

/// What becomes of an option.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Meaning {
    /// It is done; or, where its value decides, done or refused.
    Honoured(Key),
    /// The job runs as it would without; the reason is told.
    Ignored(&'static str),
    /// The job would be another one without it; what to do is told.
    Refused(&'static str),
}

/// An option that is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Key {
    Account,
    Array,
    Begin,
    Chdir,
    Constraint,
    CpusPerGpu,
    CpusPerTask,
    Deadline,
    Dependency,
    Distribution,
    Error,
    Exclusive,
    Export,
    Gpus,
    GpusPerNode,
    GpusPerTask,
    Gres,
    Hold,
    IgnorePbs,
    Input,
    JobName,
    KillOnInvalidDep,
    Mem,
    MemPerCpu,
    MemPerGpu,
    MinCpus,
    Nice,
    NoKill,
    Nodes,
    Ntasks,
    NtasksPerCore,
    NtasksPerGpu,
    NtasksPerNode,
    OpenMode,
    Output,
    Overcommit,
    Parsable,
    Partition,
    Priority,
    Qos,
    Quiet,
    Requeue,
    Reservation,
    NoRequeue,
    Segment,
    Signal,
    TestOnly,
    Time,
    Wait,
    Wrap,
}

/// An option of `sbatch`.
pub(super) struct Known {
    pub long: &'static str,
    pub short: Option<char>,
    pub takes: Takes,
    pub meaning: Meaning,
}

const fn done(long: &'static str, short: Option<char>, takes: Takes, key: Key) -> Known {
    Known { long, short, takes, meaning: Meaning::Honoured(key) }
}

const fn ignored(long: &'static str, short: Option<char>, takes: Takes, reason: &'static str) -> Known {
    Known { long, short, takes, meaning: Meaning::Ignored(reason) }
}

const fn refused(long: &'static str, short: Option<char>, takes: Takes, way_out: &'static str) -> Known {
    Known { long, short, takes, meaning: Meaning::Refused(way_out) }
}

use Takes::{Maybe, Nothing, Value};

const NO_MAIL: &str = "Offtake sends no mail; follow its event stream";
const NO_ACCOUNTING: &str = "usage is always measured, and told in the job's receipt";
const NO_BINDING: &str = "a worker runs on the cores and chips that were given to it";
const NO_SOCKETS: &str =
    "processors are asked for in cores: use --cpus-per-task, or --constraint for an attribute of the nodes";
const NO_BURST_BUFFER: &str = "burst buffers are not managed: stage the data in the script";
const NO_NODE_NAMES: &str = "jobs choose no nodes by name: use --constraint for an attribute that they have";
const NO_CLUSTERS: &str = "one server places over all sites: leave it out";
const NO_CONTAINER: &str = "no container is started around the job: start it in the script, with podman or apptainer";
const THE_USER_IS_KNOWN: &str = "whom a job runs as is never chosen by the request: log in as that user";
const OF_THE_COMMAND: &str = "it asks something of the `sbatch` command and submits nothing";

/// All of them, in the order of their names. An alias follows what it stands for.
pub(super) const OPTIONS: &[Known] = &[
    done("account", Some('A'), Value, Key::Account),
    ignored("acctg-freq", None, Value, NO_ACCOUNTING),
    done("array", Some('a'), Value, Key::Array),
    refused("batch", None, Value, "the body runs on the job's first node: ask for one kind of node with --constraint"),
    refused("bb", None, Value, NO_BURST_BUFFER),
    refused("bbf", None, Value, NO_BURST_BUFFER),
    done("begin", Some('b'), Value, Key::Begin),
    done("chdir", Some('D'), Value, Key::Chdir),
    done("workdir", None, Value, Key::Chdir),
    refused("cluster-constraint", None, Value, NO_CLUSTERS),
    refused("clusters", Some('M'), Value, NO_CLUSTERS),
    ignored("comment", None, Value, "a job carries no comment"),
    ignored("consolidate-segments", None, Nothing, "segments always lie in as few domains as they fit"),
    done("constraint", Some('C'), Value, Key::Constraint),
    refused("container", None, Value, NO_CONTAINER),
    refused("container-id", None, Value, NO_CONTAINER),
    refused("contiguous", None, Nothing, "write a job file with `topology_level`, the domain that must hold all nodes"),
    refused("core-spec", Some('S'), Value, "cores for the system are set aside by the node's agent: leave it out"),
    refused("cores-per-socket", None, Value, NO_SOCKETS),
    ignored("cpu-freq", None, Value, "the processor's frequency stays with the node"),
    done("cpus-per-gpu", None, Value, Key::CpusPerGpu),
    done("cpus-per-task", Some('c'), Value, Key::CpusPerTask),
    done("deadline", None, Value, Key::Deadline),
    ignored("delay-boot", None, Value, "no node is booted for a job"),
    done("dependency", Some('d'), Value, Key::Dependency),
    done("distribution", Some('m'), Value, Key::Distribution),
    done("error", Some('e'), Value, Key::Error),
    refused("exclude", Some('x'), Value, NO_NODE_NAMES),
    done("exclusive", None, Maybe, Key::Exclusive),
    done("export", None, Value, Key::Export),
    refused("export-file", None, Value, "read the file in the script: `set -a; . FILE`"),
    refused("extra", None, Value, "use --constraint for an attribute of the nodes"),
    refused("extra-node-info", Some('B'), Value, NO_SOCKETS),
    ignored(
        "get-user-env",
        None,
        Maybe,
        "the body starts with what --export says; source the profile in the script if it needs it",
    ),
    refused("gid", None, Value, THE_USER_IS_KNOWN),
    ignored("gpu-bind", None, Value, NO_BINDING),
    ignored("gpu-freq", None, Value, "the chips' frequency stays with the node"),
    done("gpus", Some('G'), Value, Key::Gpus),
    done("gpus-per-node", None, Value, Key::GpusPerNode),
    refused("gpus-per-socket", None, Value, "use --gpus-per-node"),
    done("gpus-per-task", None, Value, Key::GpusPerTask),
    done("gres", None, Value, Key::Gres),
    ignored("gres-flags", None, Value, NO_BINDING),
    refused("help", Some('h'), Nothing, OF_THE_COMMAND),
    ignored("hint", None, Value, NO_BINDING),
    done("hold", Some('H'), Nothing, Key::Hold),
    done("ignore-pbs", None, Nothing, Key::IgnorePbs),
    done("input", Some('i'), Value, Key::Input),
    done("job-name", Some('J'), Value, Key::JobName),
    done("kill-on-invalid-dep", None, Value, Key::KillOnInvalidDep),
    refused("licenses", Some('L'), Value, "licences are not counted: leave it out, or have the script wait for one"),
    ignored("mail-type", None, Value, NO_MAIL),
    ignored("mail-user", None, Value, NO_MAIL),
    refused("mcs-label", None, Value, "tenants are told apart by --account"),
    done("mem", None, Value, Key::Mem),
    ignored("mem-bind", None, Value, NO_BINDING),
    done("mem-per-cpu", None, Value, Key::MemPerCpu),
    done("mem-per-gpu", None, Value, Key::MemPerGpu),
    done("mincpus", None, Value, Key::MinCpus),
    ignored("network", None, Value, "the network is not divided among jobs"),
    done("nice", None, Maybe, Key::Nice),
    done("no-kill", Some('k'), Maybe, Key::NoKill),
    done("no-requeue", None, Nothing, Key::NoRequeue),
    refused("nodefile", Some('F'), Value, NO_NODE_NAMES),
    refused("nodelist", Some('w'), Value, NO_NODE_NAMES),
    done("nodes", Some('N'), Value, Key::Nodes),
    done("ntasks", Some('n'), Value, Key::Ntasks),
    done("ntasks-per-core", None, Value, Key::NtasksPerCore),
    done("ntasks-per-gpu", None, Value, Key::NtasksPerGpu),
    done("ntasks-per-node", None, Value, Key::NtasksPerNode),
    done("tasks-per-node", None, Value, Key::NtasksPerNode),
    refused("ntasks-per-socket", None, Value, "use --ntasks-per-node"),
    ignored("oom-kill-step", None, Maybe, "a worker out of memory is ended, and the gang with it"),
    done("open-mode", None, Value, Key::OpenMode),
    done("output", Some('o'), Value, Key::Output),
    done("overcommit", Some('O'), Nothing, Key::Overcommit),
    ignored("oversubscribe", Some('s'), Nothing, "nodes are shared by what is asked of them, cores and chips are not"),
    ignored("share", None, Nothing, "nodes are shared by what is asked of them, cores and chips are not"),
    done("parsable", None, Nothing, Key::Parsable),
    done("partition", Some('p'), Value, Key::Partition),
    ignored("power", None, Value, "power is managed by the caps of the fleet"),
    ignored("prefer", None, Value, "it is a wish that Slurm too may leave unmet; --constraint binds"),
    done("priority", None, Value, Key::Priority),
    ignored("profile", None, Value, NO_ACCOUNTING),
    ignored("propagate", None, Maybe, "workers have the limits that the node's agent gives them"),
    done("qos", Some('q'), Value, Key::Qos),
    done("quiet", Some('Q'), Nothing, Key::Quiet),
    refused("reboot", None, Nothing, "no node is booted for a job: leave it out"),
    done("requeue", None, Nothing, Key::Requeue),
    done("reservation", None, Value, Key::Reservation),
    ignored("resv-ports", None, Maybe, "every step has a port of its own in MASTER_PORT"),
    done("segment", None, Value, Key::Segment),
    done("signal", None, Value, Key::Signal),
    refused("sockets-per-node", None, Value, NO_SOCKETS),
    refused("spread-job", None, Nothing, "say how many nodes with --nodes"),
    refused(
        "spread-segments",
        None,
        Nothing,
        "segments lie as close together as they fit: leave it out, or write a job file with one gang for each",
    ),
    ignored("stepmgr", None, Nothing, "the server manages steps"),
    ignored("switches", None, Value, "it is a wish that ends in Slurm too; a job file's `topology_level` binds"),
    done("test-only", None, Nothing, Key::TestOnly),
    ignored("thread-spec", None, Value, "cores for the system are set aside by the node's agent"),
    ignored("threads-per-core", None, Value, NO_BINDING),
    done("time", Some('t'), Value, Key::Time),
    ignored("time-min", None, Value, "the limit is never lowered"),
    refused("tmp", None, Value, "disks are not counted: use --constraint for nodes that have one"),
    ignored("tres-bind", None, Value, NO_BINDING),
    refused("tres-per-task", None, Value, "use --cpus-per-task, --gpus-per-task and --mem-per-cpu"),
    refused("uid", None, Value, THE_USER_IS_KNOWN),
    refused("usage", None, Nothing, OF_THE_COMMAND),
    ignored("use-min-nodes", None, Nothing, "say how many nodes with --nodes"),
    ignored("verbose", Some('v'), Nothing, "there is nothing more to say"),
    refused("version", Some('V'), Nothing, OF_THE_COMMAND),
    done("wait", Some('W'), Nothing, Key::Wait),
    ignored("wait-all-nodes", None, Value, "a job starts when all of its nodes are ready, always"),
    ignored("wckey", None, Value, NO_ACCOUNTING),
    done("wrap", None, Value, Key::Wrap),
    refused("x11", None, Maybe, "no display is forwarded: leave it out"),
];

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn no_option_stands_there_twice() {
        let longs: BTreeSet<&str> = OPTIONS.iter().map(|known| known.long).collect();
        assert_eq!(longs.len(), OPTIONS.len());
        let shorts: Vec<char> = OPTIONS.iter().filter_map(|known| known.short).collect();
        assert_eq!(shorts.iter().collect::<BTreeSet<_>>().len(), shorts.len());
    }

    /// The guide has a line for each option, under the heading of what becomes of it.
    #[test]
    fn the_guide_names_every_option_where_it_belongs() {
        let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/sbatch.md");
        let guide = std::fs::read_to_string(path).expect("the guide is there");
        let section = |heading: &str| {
            let rest = guide.split_once(&format!("\n## {heading}\n")).expect("the heading is there").1;
            rest.split("\n## ").next().unwrap_or_default().to_owned()
        };
        let (done, ignored, refused) = (section("Honoured"), section("Ignored, by name"), section("Refused"));
        for known in OPTIONS {
            let place = match known.meaning {
                Meaning::Honoured(_) => &done,
                Meaning::Ignored(_) => &ignored,
                Meaning::Refused(_) => &refused,
            };
            let name = format!("`--{}`", known.long);
            let named = place.lines().any(|line| line.starts_with('|') && line.contains(&name));
            assert!(named, "{name} is missing from its table in docs/sbatch.md");
            if let Some(short) = known.short {
                assert!(place.contains(&format!("`-{short}`")), "-{short} is missing from docs/sbatch.md");
            }
        }
    }
}
