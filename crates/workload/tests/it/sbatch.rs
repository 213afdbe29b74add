//! Batch scripts through the public interface: whole scripts as people write them, and each option by itself.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use offtake_units::{Duration, Timestamp};
use offtake_workload::human::parse_timestamp;
use offtake_workload::sbatch::{Options, Reading, Script, Surroundings};
use offtake_workload::{Array, ChipRequest, Groups, INNERMOST, JobText, Start, Submission, Tier};

fn surroundings() -> Surroundings {
    Surroundings {
        now: now(),
        utc_offset: Duration::HOUR,
        directory: "/home/ada/train".to_owned(),
        environment: BTreeMap::from([("HOME", "/home/ada"), ("LANG", "C")].map(|(k, v)| (k.to_owned(), v.to_owned()))),
    }
}

fn now() -> Timestamp {
    parse_timestamp("2026-11-21T12:00:00Z").expect("an instant")
}

fn words(line: &str) -> Vec<String> {
    line.split_whitespace().map(str::to_owned).collect()
}

/// A script with these directives, under these options of the command line.
fn read(directives: &str, line: &str) -> Result<Reading, String> {
    let (options, used) = Options::parse(&words(line)).map_err(|error| error.to_string())?;
    assert_eq!(used, words(line).len(), "{line}");
    let text = format!("#!/bin/sh\n#SBATCH {directives}\nhostname\n");
    let script = Script { name: Some("job.sh"), text: &text, arguments: &[] };
    options.read(Some(script), &surroundings()).map_err(|error| error.to_string())
}

/// What it means, once it has been read as any submission.
fn meant(directives: &str) -> Submission {
    let reading = read(directives, "").expect(directives);
    reading.job.read(now(), "ada").expect(directives)
}

/// Workers, the most of them on a node, then cores, chips and MiB of one.
fn shape(directives: &str) -> (u32, Option<u32>, u32, u64, u64) {
    let gang = meant(directives).job.gangs.remove(0);
    (gang.workers, gang.per_node, gang.cpu.get() / 1000, gang.chips.milli() / 1000, gang.memory.get())
}

fn refused(directives: &str) -> String {
    match read(directives, "") {
        Err(error) => error,
        Ok(reading) => reading.job.read(now(), "ada").expect_err(directives).to_string(),
    }
}

fn scripts() -> Vec<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let folders = ["tests/fixtures/sbatch", "../../examples", "../../examples/sbatch"];
    let mut found: Vec<PathBuf> = folders
        .iter()
        .flat_map(|folder| std::fs::read_dir(root.join(folder)).expect("the folder is there").flatten())
        .map(|entry| entry.path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "sbatch"))
        .collect();
    found.sort();
    found
}

#[test]
fn scripts_as_people_write_them() {
    let scripts = scripts();
    assert!(scripts.len() >= 13, "only {} scripts were found", scripts.len());
    for path in scripts {
        let text = JobText::open(&path).expect("a text");
        let arguments = words("env1 --fast");
        let mut reading = text.read(&Options::default(), &arguments, &surroundings()).expect("a script");
        let notes: String = reading.notes.iter().map(|note| format!("# {note}\n")).collect();
        let submission = reading.job.clone().read(now(), "ada").expect("a job");
        let program = submission.job.program.expect("it runs something");
        assert_eq!(program.start, Start::Script { text: text.text, arguments }, "{}", path.display());
        reading.job.script = None;
        let job = toml::to_string(&reading.job).expect("a job file can be written");
        let name = path.file_stem().and_then(|stem| stem.to_str()).expect("a name").to_owned();
        insta::with_settings!({
            snapshot_path => "../fixtures/sbatch", prepend_module_to_snapshot => false, omit_expression => true
        }, {
            insta::assert_snapshot!(name, format!("{notes}{job}"));
        });
    }
}

#[test]
fn shapes() {
    for (directives, expected) in [
        // Neither nodes nor tasks.
        ("", (1, Some(1), 1, 0, 0)),
        ("-c 8 --mem=4G", (1, Some(1), 8, 0, 4096)),
        ("--gpus=2", (1, Some(1), 1, 2, 0)),
        ("--ntasks-per-node=8 --gres=gpu:8", (1, Some(1), 8, 8, 0)),
        // Nodes: a worker is a node's share.
        ("-N 4", (4, Some(1), 1, 0, 0)),
        ("-N 4-4", (4, Some(1), 1, 0, 0)),
        ("-N 4 --ntasks-per-node=8 -c 12 --gres=gpu:h100:8 --mem=1T", (4, Some(1), 96, 8, 1 << 20)),
        ("-N 2 -n 8 -c 2", (2, Some(1), 8, 0, 0)),
        ("-N 2 -n 7 -c 2", (2, Some(1), 8, 0, 0)),
        ("-N 2 -n 7 --ntasks-per-node=4", (2, Some(1), 4, 0, 0)),
        ("-N 4 -n 2", (2, Some(1), 1, 0, 0)),
        ("-N 2 --gpus=16", (2, Some(1), 1, 8, 0)),
        ("-N 2 --ntasks-per-node=4 --gpus-per-task=2", (2, Some(1), 4, 8, 0)),
        ("-N 2 --gpus-per-node=8 --gpus-per-task=2 -c 4", (2, Some(1), 16, 8, 0)),
        ("-N 2 --gpus-per-node=8 --ntasks-per-gpu=2", (2, Some(1), 16, 8, 0)),
        ("-N 2 --ntasks-per-node=8 --ntasks-per-gpu=2", (2, Some(1), 8, 4, 0)),
        ("-N 2 --gpus-per-node=8 --cpus-per-gpu=12 --mem-per-gpu=100G", (2, Some(1), 96, 8, 819_200)),
        ("-N 2 --ntasks-per-node=4 -c 2 --mem-per-cpu=1G", (2, Some(1), 8, 0, 8192)),
        ("-N 2 --mincpus=32", (2, Some(1), 32, 0, 0)),
        ("-N 2 --ntasks-per-node=4 -c 3 -O", (2, Some(1), 3, 0, 0)),
        ("-N 2 --ntasks-per-node=4 --gpus-per-node=4 -O --exclusive", (2, Some(1), 4, 4, 0)),
        ("-n 16 --ntasks-per-node=4", (4, Some(1), 4, 0, 0)),
        ("-n 15 --ntasks-per-node=4", (4, Some(1), 4, 0, 0)),
        // Tasks alone: a worker is a task.
        ("-n 16", (16, None, 1, 0, 0)),
        ("-n 16 -c 4 --mem-per-cpu=2G", (16, None, 4, 0, 8192)),
        ("-n 4 --gpus=8", (4, None, 1, 2, 0)),
        ("-n 4 --gpus-per-task=a100:1 --mem-per-gpu=10G", (4, None, 1, 1, 10_240)),
        ("--gpus=8 --gpus-per-task=2", (4, None, 1, 2, 0)),
        ("-n 16 --mem=0", (16, None, 1, 0, 0)),
        // Something counts for each node: all tasks on one.
        ("-n 16 --mem=64G", (1, Some(1), 16, 0, 65_536)),
        ("-n 8 --gres=gpu:8 -c 4", (1, Some(1), 32, 8, 0)),
        ("-n 8 --gres=none", (8, None, 1, 0, 0)),
        ("-n 4 -O", (1, Some(1), 1, 0, 0)),
    ] {
        assert_eq!(shape(directives), expected, "{directives}");
    }
}

#[test]
fn segments_are_groups_in_the_innermost_domains() {
    let gang = meant("-N 32 --segment=16 --gpus-per-node=4").job.gangs.remove(0);
    assert_eq!(gang.groups, Some(Groups { workers: 16, level: INNERMOST.to_owned() }));
    assert_eq!(meant("-N 32").job.gangs[0].groups, None);
}

#[test]
fn layouts_for_srun() {
    for (directives, expected) in [
        ("", (None, None, None)),
        ("-N 4", (None, None, None)),
        ("-n 16 -c 2", (Some(16), None, Some(2))),
        ("-N 4 --ntasks-per-node=8", (Some(32), Some(8), None)),
        ("-N 2 -n 7", (Some(7), None, None)),
        ("-N 2 -n 8", (Some(8), Some(4), None)),
        ("-n 15 --ntasks-per-node=4", (Some(15), Some(4), None)),
        ("-n 8 --mem=1G", (Some(8), Some(8), None)),
        ("-N 2 --gpus-per-node=4 --gpus-per-task=1", (Some(8), Some(4), None)),
    ] {
        let layout = meant(directives).job.program.expect("a program").layout;
        assert_eq!((layout.tasks, layout.tasks_per_node, layout.cpus_per_task), expected, "{directives}");
    }
}

#[test]
fn the_command_line_counts_more_than_the_script() {
    let both = |script: &str, line: &str| read(script, line).expect(script).job;
    assert_eq!(both("-N 2 -t 10", "-N 4").gangs[0].workers, Some(4));
    assert_eq!(both("-N 2 -t 10", "-N 4").duration.as_deref(), Some("10m"));
    assert_eq!(both("--mem=4G", "--mem-per-cpu=1G -c 2").gangs[0].memory.as_deref(), Some("2GiB"));
    assert_eq!(both("--gres=gpu:8", "--gpus-per-node=2").gangs[0].chips, Some(2));
    assert_eq!(both("--requeue", "--no-requeue").requeue, Some(false));
    assert_eq!(both("--no-requeue", "--requeue").requeue, Some(true));
    assert_eq!(both("--no-requeue --requeue", "").requeue, Some(true), "the last one counts");
    assert_eq!(both("-J a -J b", "").name.as_deref(), Some("b"));
}

#[test]
fn what_surrounds_the_job() {
    let job = read("-J x", "").expect("good").job;
    assert_eq!(job.output.as_deref(), Some("slurm-%j.out"));
    assert_eq!(job.directory.as_deref(), Some("/home/ada/train"));
    assert_eq!(job.environment.len(), 2, "all of the submitter's variables");
    assert_eq!((job.requeue, job.append, job.hold), (None, None, None));
    let job = read("--array=1,2 -D ../out -o %x.%a -e /tmp/%j --open-mode=append -H -A nlp --export=LANG,X=1", "");
    let job = job.expect("good").job;
    assert_eq!(job.name.as_deref(), Some("job.sh"));
    assert_eq!(job.directory.as_deref(), Some("/home/ada/train/../out"));
    assert_eq!((job.output.as_deref(), job.error.as_deref()), (Some("%x.%a"), Some("/tmp/%j")));
    assert_eq!((job.append, job.hold, job.tenant.as_deref()), (Some(true), Some(true), Some("nlp")));
    assert_eq!(job.environment, BTreeMap::from([("LANG", "C"), ("X", "1")].map(|(k, v)| (k.to_owned(), v.to_owned()))));
    let array = meant("--array=0-6:3%2").array;
    assert_eq!(array, Some(Array { indices: vec![0, 3, 6], step: 3, at_once: Some(2) }));
    assert_eq!(read("--array=1", "").expect("good").job.output.as_deref(), Some("slurm-%A_%a.out"));
}

#[test]
fn tiers_and_features() {
    let of = |directives: &str| {
        let job = meant(directives).job;
        (job.tier, job.gangs[0].accelerators.clone(), job.gangs[0].attributes.clone())
    };
    assert_eq!(of("-p spot").0, Tier::Spot);
    assert_eq!(of("-p spot -q guaranteed").0, Tier::Guaranteed, "--qos counts more than --partition");
    assert_eq!(of("-p gpu").0, Tier::Standard);
    let attributes = |pairs: &[(&str, &str)]| {
        pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect::<BTreeMap<_, _>>()
    };
    assert_eq!(of("-C ib&zone=a").2, attributes(&[("ib", "true"), ("zone", "a")]));
    assert_eq!(of("-C h100,ib --gpus=1"), (Tier::Standard, vec!["h100".to_owned()], attributes(&[("ib", "true")])));
    assert_eq!(of("-C h100").2, attributes(&[("h100", "true")]), "without chips it is an attribute");
    assert_eq!(of("--gpus-per-node=NVIDIA_H100_80GB_HBM3:4").1, ["h100"]);
}

#[test]
fn what_is_told_of_options_that_do_nothing() {
    for (directives, part) in [
        ("--mail-type=ALL", "line 2: `--mail-type=ALL` is ignored: Offtake sends no mail"),
        ("-p gpu", "line 2: `--partition=gpu` is ignored: it names no tier"),
        ("--mem=0", "line 2: `--mem=0` is read as no limit"),
        ("--exclusive --gres=gpu:8 -c 4", "line 2: `--exclusive` is counted as what is asked for, 8 chips and 4 cores"),
        ("-n 4 --gres=gpu:4", "line 2: `--gres` counts for each node, and --nodes is not given"),
        ("-N 4 -n 2", "line 2: 2 tasks cannot run on 4 nodes: taken as --nodes=2"),
        ("-C a100 --gpus=1", "line 2: the feature `a100` is read as chips of the kind a100"),
        ("-m block:cyclic", "line 2: `--distribution=block:cyclic`: what stands behind `block` is ignored"),
        ("--hint=nomultithread", "line 2: `--hint=nomultithread` is ignored"),
    ] {
        let notes: Vec<String> =
            read(directives, "").expect(directives).notes.iter().map(ToString::to_string).collect();
        assert!(notes.iter().any(|note| note.starts_with(part)), "{directives}\n  tells: {notes:?}\n  and not: {part}");
    }
    let quiet = "-N 2 -k=off --kill-on-invalid-dep=yes -i /dev/null --ntasks-per-core=1 -m block --ignore-pbs";
    assert!(read(&quiet.replace("-k=off", "--no-kill=off"), "").expect("good").notes.is_empty());
    let from_the_line = read("", "--mail-user=ada").expect("good");
    assert_eq!(from_the_line.notes[0].line, None);
}

#[test]
fn what_is_refused_says_what_to_do() {
    for (directives, part) in [
        ("-N 2-4", "`--nodes` is `2-4`; allowed is one number"),
        ("-N 6 --segment=4", "`--segment` is `4`; allowed is a divisor of the 6 nodes"),
        ("-n 8 --segment=4", "for jobs that say how many nodes with `--nodes`"),
        ("-N 0", "a whole number from 1 to 1000000"),
        ("-n x", "`--ntasks` is `x`"),
        ("-c 1.5", "`--cpus-per-task` is `1.5`"),
        ("-N 3 --gpus=8", "`--gpus` is `8`; allowed is a multiple of the 3 nodes"),
        ("-N 2 --gpus=8 --gpus-per-node=8", "16, 8 on each of 2 nodes"),
        ("-n 3 --gpus=8", "a multiple of the 3 tasks"),
        ("-n 4 --gpus=8 --gpus-per-task=1", "4, 1 for each of 4 tasks"),
        ("--gpus=8 --gpus-per-task=3", "a multiple of `--gpus-per-task`, 3"),
        ("-N 2 -n 9 --ntasks-per-node=4", "`--ntasks-per-node` is `4`; allowed is at least 5"),
        ("-N 1 --gpus-per-node=4 --gpus-per-task=2 --ntasks-per-node=4", "at most 1: a node has 4 chips for 4 tasks"),
        ("-N 1 --gpus-per-node=4 --gpus-per-task=3", "a divisor of the 4 chips"),
        ("--gres=gpu:2 --gpus-per-node=4", "the same number as `--gpus-per-node`"),
        ("--gres=gpu:2,nvme:1", "`nvme:1` is no resource that is counted"),
        ("--gpus=volta:2,kepler:1", "one kind for a job"),
        ("--gpus=a100:2 --gpus-per-task=h100:1", "one kind for a job"),
        ("--mem=4G --mem-per-cpu=1G", "only one of `--mem`"),
        ("--mem=4X", "`64G`"),
        ("--mem=2000T", "no more than 1 PiB"),
        ("--mem-per-gpu=4G", "nothing for a job without chips"),
        ("--cpus-per-gpu=4", "nothing for a job without chips"),
        ("--cpus-per-gpu=4 --gpus=1 -c 2", "nothing beside `--cpus-per-task`"),
        ("-c 5000000", "`--cpus-per-task` is `5000000`"),
        ("-N 1 --ntasks-per-node=1000000 -c 1000000", "no more than 4294967 cores"),
        ("--exclusive", "`--exclusive` is not supported"),
        ("--exclusive=mcs --gpus=1", "no value, or `user`"),
        ("-C a|b", "names of features"),
        ("-C [a*2&b*2]", "names of features"),
        ("-C a100 --gpus=h100:1", "the kind of chip that is asked for, h100"),
        ("-C zone=a&zone=b", "one value for `zone`"),
        ("-t soon", "days-hours:minutes:seconds"),
        ("--begin=soon", "now+1hour"),
        ("--begin=tomorrow --deadline=now+1hour", "an instant before `deadline`"),
        ("--deadline=2026-11-21T10:00", "after `submitted`"),
        ("--signal=FOO@9", "[B:]SIGNAL[@SECONDS]"),
        ("--array=5-1", "`0-15%4`"),
        ("--array=0-200000", "at most 100001 of them"),
        ("-o %q", "`%` is followed by"),
        ("--open-mode=new", "append or truncate"),
        ("--export=A,,B", "names and NAME=value"),
        ("-d afterok:1?afterok:2", "any one of several is not supported"),
        ("-d singleton", "afternotok"),
        ("-m cyclic", "the order in which tasks are always placed"),
        ("-i data.txt", "read the file in the script"),
        ("--ntasks-per-core=2", "tasks share no core"),
        ("-k", "a job that loses a node"),
        ("--kill-on-invalid-dep=no", "is cancelled"),
        ("-w node7", "jobs choose no nodes by name"),
        ("-x node7", "jobs choose no nodes by name"),
        ("--reservation=a,b", "the name of one reservation"),
        ("-L matlab:1", "licences are not counted"),
        ("--uid=0", "never chosen by the request"),
        ("--wrap=true", "`--wrap` is given and a script too"),
        ("--tres-per-task=cpu:2", "use --cpus-per-task"),
        ("-J \u{1}", "`name`"),
    ] {
        let message = refused(directives);
        assert!(message.contains(part), "{directives}\n  gives: {message}\n  and not: {part}");
    }
}

#[test]
fn a_command_is_wrapped() {
    let line: Vec<String> = ["--wrap", "sleep 1 && hostname", "-n2", "--parsable", "-W"].map(str::to_owned).into();
    let (options, used) = Options::parse(&line).expect("options");
    assert_eq!(used, line.len());
    let reading = options.read(None, &surroundings()).expect("a job");
    assert_eq!(reading.job.name.as_deref(), Some("wrap"));
    assert!(reading.mode.parsable && reading.mode.wait && !reading.mode.test_only);
    let job = reading.job.read(now(), "ada").expect("meant").job;
    assert_eq!(job.gangs[0].chips, ChipRequest::None);
    let text = "#!/bin/sh\n# This script was made of sbatch --wrap.\n\nsleep 1 && hostname\n".to_owned();
    let start = Start::Script { text, arguments: Vec::new() };
    assert_eq!(job.program.expect("a program").start, start);
    let nothing = Options::default().read(None, &surroundings()).expect_err("nothing");
    assert_eq!(nothing.to_string(), "there is nothing to run: give a script, or a command with `--wrap`");
}
