//! Job files through the public interface: what they mean, what is refused, and that they are written as they are read.

use std::path::Path;

use offtake_units::{CpuMilli, Duration, Timestamp};
use offtake_workload::human::parse_timestamp;
use offtake_workload::sbatch::{Options, Surroundings};
use offtake_workload::{
    Array, ChipRequest, Dependency, JobFile, JobText, ServiceFile, Start, Strength, Tier, When, WireGang,
};
use proptest::prelude::*;

fn now() -> Timestamp {
    parse_timestamp("2026-11-21T12:00:00Z").expect("an instant")
}

fn parse(text: &str) -> JobFile {
    let surroundings = Surroundings {
        now: now(),
        utc_offset: Duration::ZERO,
        directory: "/home/ada".to_owned(),
        environment: Default::default(),
    };
    let text = JobText::from_reader(text.as_bytes()).expect("a text");
    text.read(&Options::default(), &[], &surroundings).expect("a job file").job
}

fn blocks(document: &str) -> Vec<String> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs").join(document);
    let text = std::fs::read_to_string(path).expect("the guide is there");
    let parts = text.split("```toml\n").skip(1);
    parts.map(|part| part.split("```").next().unwrap_or_default().to_owned()).collect()
}

#[test]
fn the_examples_of_the_guide_are_jobs() {
    let blocks = blocks("job-file.md");
    assert!(blocks.len() >= 4, "only {} examples", blocks.len());
    for block in blocks {
        parse(&block).read(now(), "ada").expect(&block);
    }
}

/// The guide has a line for each key, and the schema of the file names no other.
#[test]
fn the_guide_names_every_key() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/job-file.md");
    let guide = std::fs::read_to_string(path).expect("the guide is there");
    for text in ["nothing = 1", "[[gangs]]\nnothing = 1"] {
        let error = toml::from_str::<JobFile>(text).expect_err("an unknown key").message().to_owned();
        let keys: Vec<&str> = error.split('`').skip(3).step_by(2).collect();
        assert!(keys.len() >= 13, "{error}");
        for key in keys {
            let named = guide.lines().any(|line| line.starts_with('|') && line.contains(&format!("`{key}`")));
            assert!(named, "`{key}` has no line in docs/job-file.md");
        }
    }
}

#[test]
fn the_example_is_a_gang_that_checkpoints() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/train.toml");
    let job = parse(&std::fs::read_to_string(path).expect("it is there")).read(now(), "ada").expect("meant").job;
    assert_eq!((job.name.as_str(), job.gangs[0].workers), ("train", 4));
    let program = job.program.expect("it runs something");
    assert_eq!((program.stop.checkpoint_signal, program.restarts, program.requeue), (Some(10), 3, true));
}

#[test]
fn what_is_left_out() {
    let submission = parse("command = [\"/usr/bin/hostname\", \"-s\"]").read(now(), "ada").expect("meant");
    let job = submission.job;
    assert_eq!((job.name.as_str(), job.tenant.as_str(), job.tier), ("hostname", "ada", Tier::Standard));
    assert_eq!((job.submitted, job.duration, job.deadline, job.preemptible), (now(), None, None, false));
    assert_eq!((job.gangs.len(), job.gangs[0].workers, job.gangs[0].cpu), (1, 1, CpuMilli::new(1000)));
    assert_eq!((job.gangs[0].chips, job.gangs[0].per_node), (ChipRequest::None, None));
    let program = job.program.expect("it runs something");
    assert_eq!(program.start, Start::Command(vec!["/usr/bin/hostname".to_owned(), "-s".to_owned()]));
    assert!(program.requeue && !program.hold && !program.append && program.directory.is_empty());
    assert_eq!((program.restarts, program.warning, &program.user), (0, None, &None));
    assert_eq!((program.stop.checkpoint_signal, program.stop.grace), (None, Duration::from_secs(30)));
    assert_eq!(submission.array, None);
    let name = |command: &str| parse(&format!("command = ['{command}']")).read(now(), "ada").expect("meant").job.name;
    assert_eq!((name("/bin/"), name("/bin/a b"), name(" a")), ("job".to_owned(), "a b".to_owned(), "job".to_owned()));
}

#[test]
fn everything_that_can_be_said() {
    let text = r##"
        name = "pretrain"
        tenant = "nlp"
        tier = "guaranteed"
        duration = "36h"
        deadline = "2026-12-24T18:00:00Z"
        preemptible = true
        checkpoint_interval = "1h"
        checkpoint_size = "100GiB"
        checkpoint_signal = "SIGUSR1"
        checkpoint_grace = "2m"
        grace = "10s"
        script = "#!/bin/bash\nsrun hostname\n"
        arguments = ["a", "b"]
        environment = { OMP_NUM_THREADS = "8" }
        directory = "/scratch/nlp"
        output = "%x-%A_%a.out"
        error = "%x-%A_%a.err"
        append = true
        tasks = 16
        tasks_per_node = 8
        cpus_per_task = 12
        signal = "B:TERM@300"
        requeue = false
        restarts = 2
        after = [{ job = 17, when = "succeeded" }, { job = 18, when = "ended" }]
        array = "0-9:3%2"
        begin = "2026-11-22T00:00:00Z"
        hold = true
        [[gangs]]
        workers = 2
        chips = 8
        cpu_milli = 96000
        memory = "1TiB"
        accelerators = ["h100", "h200"]
        attributes = { fabric = "ib" }
        topology_level = "block"
        topology_strength = "preferred"
        per_node = 1
        [[gangs]]
        chip_milli = 500
    "##;
    let submission = parse(text).read(now(), "ada").expect("meant");
    assert_eq!(submission.array, Some(Array { indices: vec![0, 3, 6, 9], step: 3, at_once: Some(2) }));
    let job = submission.job;
    assert_eq!((job.tenant.as_str(), job.tier, job.preemptible), ("nlp", Tier::Guaranteed, true));
    assert_eq!(job.checkpoint.map(|checkpoint| checkpoint.bytes), Some(100 << 30));
    assert_eq!((job.gangs[0].per_node, job.gangs[1].chips.milli()), (Some(1), 500));
    assert_eq!(job.gangs[0].topology.as_ref().map(|topology| topology.strength), Some(Strength::Preferred));
    let program = job.program.expect("it runs something");
    assert_eq!(program.after[0], Dependency { job: 17, when: When::Succeeded });
    assert_eq!(program.stop.checkpoint_grace, Duration::from_secs(120));
    assert_eq!(
        program.warning.map(|w| (w.signal, w.before, w.script_only)),
        Some((15, Duration::from_secs(300), true))
    );
    assert_eq!((program.requeue, program.restarts, program.hold, program.append), (false, 2, true, true));
    assert_eq!(program.layout.tasks_per_node, Some(8));
    assert_eq!(program.begin, parse_timestamp("2026-11-22T00:00:00Z"));
}

#[test]
fn what_cannot_be_meant() {
    let long = |text: &str, count: usize| text.repeat(count);
    let run = "command = [\"true\"]\n";
    let script = |text: &str| format!("script = {}", toml::Value::String(text.to_owned()));
    let cases: Vec<(String, &str)> = vec![
        (String::new(), "`command` is ``; allowed is a program and its arguments"),
        ("command = [\"a\"]\nscript = \"#!/bin/sh\"".to_owned(), "either `command` or `script`, not both"),
        ("command = [\"\"]".to_owned(), "`command[0]` is ``"),
        ("command = [\"a\", \"b\\u0000\"]".to_owned(), "`command[1]`"),
        (format!("command = [\"{}\"]", long("a", 200_000)), "at most 131071 bytes"),
        (format!("command = [{}]", long("\"a\",", 10_001)), "at most 10000 words"),
        (format!("command = [{}]", long(&format!("\"{}\",", long("a", 100_000)), 11)), "at most 1048576 bytes in all"),
        (format!("{run}arguments = [\"a\"]"), "`arguments` is `a`; allowed is nothing beside `command`"),
        (script("echo"), "whose first line is `#!`"),
        (script("#!\necho"), "whose first line is `#!`"),
        (script("#!/bin/sh\r\necho\r\n"), "dos2unix"),
        (script("#!/bin/sh\n\0"), "without NUL"),
        (script(&format!("#!/bin/sh\n{}", long("x", 4 << 20))), "at most 4194304 bytes"),
        (format!("{run}environment = {{ \"A=B\" = \"1\" }}"), "keys that are not empty, without `=`"),
        (format!("{run}environment = {{ A = \"\\u0000\" }}"), "`environment.A`"),
        (format!("{run}environment = {{ A = \"{}\" }}", long("a", 131_070)), "at most 131071 bytes"),
        (
            format!(
                "{run}[environment]\n{}",
                (0..11).map(|i| format!("A{i} = \"{}\"\n", long("a", 100_000))).collect::<String>()
            ),
            "at most 1048576 bytes in all",
        ),
        (
            format!("{run}[environment]\n{}", (0..10_001).map(|i| format!("A{i}=''\n")).collect::<String>()),
            "at most 10000 variables",
        ),
        (format!("{run}directory = \"here\""), "a path from the root"),
        (format!("{run}directory = \"/{}\"", long("a", 4095)), "at most 4095 bytes"),
        (format!("{run}output = \"%q\""), "`output` is `%q`"),
        (format!("{run}error = \"\""), "`error` is ``"),
        (format!("{run}name = \" a\""), "`name`"),
        (format!("{run}tenant = \"\""), "`tenant`"),
        (format!("{run}duration = \"36\""), "`duration` is `36`"),
        (format!("{run}deadline = \"2026-11-21T12:00:00Z\""), "after `submitted`"),
        (format!("{run}begin = \"tomorrow\""), "`begin` is `tomorrow`"),
        (
            format!("{run}begin = \"2027-01-01T00:00:00Z\"\ndeadline = \"2026-12-01T00:00:00Z\""),
            "an instant before `deadline`",
        ),
        (format!("{run}checkpoint_interval = \"1h\""), "`checkpoint_size`"),
        (format!("{run}pause = \"a while\""), "`pause` is `a while`"),
        (format!("{run}pause = \"0s\""), "`pause` is `0s`"),
        (format!("{run}pause = \"10m\"\n[service]\nminimum = 1\nmaximum = 2"), "nothing beside `[service]`"),
        (format!("{run}checkpoint_signal = \"FOO\""), "`checkpoint_signal` is `FOO`"),
        (format!("{run}checkpoint_signal = \"KILL\""), "not KILL and STOP"),
        (format!("{run}checkpoint_grace = \"1m\""), "nothing without a `checkpoint_signal`"),
        (format!("{run}grace = \"25h\""), "`grace` is `25h`; allowed is up to 24h"),
        (format!("{run}signal = \"USR1@99999\""), "0 to 65535 seconds"),
        (format!("{run}restarts = 1001"), "0 to 1000"),
        (format!("{run}tasks = 0"), "`tasks` is `0`"),
        (format!("{run}cpus_per_task = 1000001"), "`cpus_per_task` is `1000001`"),
        (format!("{run}array = \"0-100001\""), "at most 100001"),
        (format!("{run}array = \"4000001\""), "from 0 to 4000000"),
        (format!("{run}after = [{}]", long("{ job = 1, when = \"ended\" },", 1001)), "at most 1000 jobs"),
        (format!("{run}[[gangs]]\nper_node = 2"), "`gangs[0].per_node` is `2`; allowed is 1 to `workers`, 1"),
        (format!("{run}[[gangs]]\nper_node = 0"), "`gangs[0].per_node`"),
        (format!("{run}[[gangs]]\nworkers = 0"), "`gangs[0].workers`"),
        (format!("{run}[[gangs]]\ntorus = \"4x4\""), "a slice beside `chips`"),
        (format!("{run}{}", long("[[gangs]]\n", 257)), "1 to 256 gangs"),
    ];
    for (text, part) in cases {
        let message = parse(&text).read(now(), "ada").expect_err(&text).to_string();
        let shown: String = text.chars().take(100).collect();
        assert!(message.contains(part), "{shown}\n  gives: {message}\n  and not: {part}");
        assert!(message.len() < 1000, "an error is short: {message}");
    }
}

fn text() -> impl Strategy<Value = String> {
    "[ -~é\n\t]{0,12}"
}

fn wire_gang() -> impl Strategy<Value = WireGang> {
    let numbers = (any::<Option<u32>>(), any::<Option<u16>>(), any::<Option<u16>>(), any::<Option<u32>>());
    let texts = (
        prop::option::of(text()),
        prop::collection::vec(text(), 0..3),
        prop::collection::btree_map(text(), text(), 0..3),
    );
    (numbers, texts, any::<Option<u32>>(), prop::option::of(text())).prop_map(
        |((workers, chips, chip_milli, cpu_milli), (memory, accelerators, attributes), per_node, topology_level)| {
            WireGang {
                workers,
                chips,
                chip_milli,
                cpu_milli,
                memory,
                accelerators,
                attributes,
                topology_strength: topology_level.as_ref().map(|_| Strength::Required),
                topology_level,
                per_node,
                ..WireGang::default()
            }
        },
    )
}

fn job_file() -> impl Strategy<Value = JobFile> {
    let some = || prop::option::of(text());
    let flag = any::<Option<bool>>;
    let count = any::<Option<u32>>;
    let when = prop::sample::select(vec![When::Started, When::Ended, When::Succeeded, When::Failed]);
    // TOML's integers are signed.
    let after = (0..=i64::MAX as u64, when).prop_map(|(job, when)| Dependency { job, when });
    let about = (
        some(),
        some(),
        prop::option::of(prop::sample::select(Tier::ALL.to_vec())),
        some(),
        some(),
        flag(),
        any::<Option<i32>>(),
        (flag(), some()),
    );
    let service = (count(), count(), count(), prop::collection::vec(any::<u32>(), 0..3), some(), count()).prop_map(
        |(replicas, minimum, maximum, demand_ppm, spread, disruption_budget)| ServiceFile {
            replicas,
            minimum,
            maximum,
            demand_ppm,
            spread,
            disruption_budget,
        },
    );
    let service = prop::option::of(service);
    let stop = (some(), some(), some(), some(), some());
    let runs = (
        prop::collection::vec(wire_gang(), 0..3),
        prop::collection::vec(text(), 0..3),
        some(),
        prop::collection::vec(text(), 0..3),
        prop::collection::btree_map(text(), text(), 0..3),
        some(),
    );
    let files = (some(), some(), flag(), count(), count(), count());
    let rest = (some(), flag(), count(), prop::collection::vec(after, 0..3), some(), some(), flag(), service);
    (about, stop, runs, files, rest).prop_map(|(about, stop, runs, files, rest)| JobFile {
        name: about.0,
        tenant: about.1,
        tier: about.2,
        duration: about.3,
        deadline: about.4,
        preemptible: about.5,
        priority: about.6,
        must_meet_deadline: about.7.0,
        reservation: about.7.1,
        pause: stop.0.clone(),
        checkpoint_interval: stop.0,
        checkpoint_size: stop.1,
        checkpoint_signal: stop.2,
        checkpoint_grace: stop.3,
        grace: stop.4,
        gangs: runs.0,
        command: runs.1,
        script: runs.2,
        arguments: runs.3,
        environment: runs.4,
        directory: runs.5,
        output: files.0,
        error: files.1,
        append: files.2,
        tasks: files.3,
        tasks_per_node: files.4,
        cpus_per_task: files.5,
        signal: rest.0,
        requeue: rest.1,
        restarts: rest.2,
        after: rest.3,
        array: rest.4,
        begin: rest.5,
        hold: rest.6,
        service: rest.7,
    })
}

#[test]
fn a_service_is_a_job_file_of_one_replica() {
    let read = |text: &str| parse(text).read(now(), "ada");
    let file = |service: &str| format!("command = [\"serve\"]\n[[gangs]]\nchips = 2\n[service]\n{service}\n");
    let asked = read(&file("minimum = 1\nmaximum = 8\nspread = \"rack\"\ndisruption_budget = 1")).expect("a service");
    let service = asked.service.expect("it is one");
    assert_eq!((service.minimum, service.maximum, service.disruption_budget), (1, 8, Some(1)));
    assert_eq!((service.spread.as_deref(), service.name.as_str()), (Some("rack"), "serve"));
    assert_eq!((&service.replica, &service.program), (&asked.job.gangs[0], &asked.job.program));
    assert_eq!(service.demand_at(now()), None, "nobody knows");
    let fixed = read(&file("replicas = 3")).expect("a service").service.expect("it is one");
    assert_eq!((fixed.minimum, fixed.maximum), (3, 3));
    let curve = format!("minimum = 0\nmaximum = 10\ndemand_ppm = {:?}", [250_001; 24]);
    let curved = read(&file(&curve)).expect("a service").service.expect("it is one");
    assert_eq!(curved.demand_at(now()), Some(3), "a part of a replica is one");
    let refused = |text: &str, field: &str| {
        let fault = read(text).expect_err("it cannot be meant");
        assert_eq!(fault.field, field, "{fault}");
    };
    refused(&file(""), "service");
    refused(&file("replicas = 0"), "service.maximum");
    refused(&file("replicas = 1\nminimum = 1"), "service.replicas");
    refused(&file("minimum = 3\nmaximum = 2"), "service.minimum");
    refused(&file("replicas = 1\ndemand_ppm = [1]"), "service.demand_ppm");
    refused(&format!("duration = \"1h\"\n{}", file("replicas = 1")), "duration");
    refused(&format!("array = \"0-3\"\n{}", file("replicas = 1")), "array");
    refused(&format!("{}[[gangs]]\nworkers = 1\n", file("replicas = 1")), "gangs");
}

proptest! {
    #[test]
    fn what_is_written_is_read_back(file in job_file()) {
        let written = toml::to_string(&file).expect("any job file can be written");
        prop_assert_eq!(&parse(&written), &file);
        let written = serde_json::to_string(&file).expect("any job file can be written");
        prop_assert_eq!(&serde_json::from_str::<JobFile>(&written).expect("our own JSON"), &file);
    }

    #[test]
    fn any_job_file_is_meant_or_refused(file in job_file()) {
        let _ = file.read(now(), "ada");
    }

    #[test]
    fn any_directives_are_meant_or_refused(lines in prop::collection::vec("(#SBATCH )?[-a-zA-Z0-9=:,%@\"'# ]{0,30}", 0..6)) {
        let text = format!("#!/bin/sh\n{}\n", lines.join("\n"));
        let surroundings = Surroundings {
            now: now(),
            utc_offset: Duration::ZERO,
            directory: "/".to_owned(),
            environment: Default::default(),
        };
        let text = JobText::from_reader(text.as_bytes()).expect("a text");
        if let Ok(reading) = text.read(&Options::default(), &[], &surroundings) {
            let _ = reading.job.read(now(), "ada");
        }
    }
}
