//! What holds workers apart, where this machine can.

use std::fs;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use offtake_agent::isolation::{Limits, Node};
use offtake_agent::supervisor::{Cause, Found, clean_up, find};
use offtake_protocol::agent::Exit;

use crate::support::{Folder, output, run, script, sleepers, start, unique, until, worker};

/// A node with a state folder of its own, by which its groups are told from others'. They go with it.
struct Bench {
    node: Node,
    state: Folder,
}

impl Bench {
    fn new() -> Self {
        let state = Folder::new();
        Self { node: Node::detect(state.path()), state }
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        self.node.sweep(&|_| false);
        self.node.withdraw();
    }
}

fn leave_out(what: &str) {
    eprintln!("left out, as no control group of this machine can be used for it: {what}");
}

#[tokio::test]
async fn a_worker_gets_no_more_memory_than_its_limit() {
    let bench = Bench::new();
    let node = &bench.node;
    if !node.isolation().memory {
        return leave_out("memory");
    }
    let folder = Folder::new();
    let limits = Limits { memory_bytes: Some(32 << 20), ..Limits::default() };
    let mut worker = script(folder.path(), "head -c 200000000 /dev/zero | tail -c 190000000 | wc -c");
    // `tail` keeps what it may have to print: it is the one that is killed, or the whole worker is.
    worker.group = node.create("1.1.0.0", &limits).expect("a group");
    let ended = run(folder.path(), &worker).await;
    assert!(!output(folder.path()).contains("190000000"), "it had more than its limit");
    assert_eq!(ended.cause, Some(Cause::Memory));
    assert!(ended.peak_memory_kib.expect("measured") <= 32 << 10);
}

#[tokio::test]
async fn a_worker_gets_no_more_processes_than_its_limit() {
    let bench = Bench::new();
    let node = &bench.node;
    if !node.isolation().pids {
        return leave_out("processes");
    }
    let folder = Folder::new();
    let mark = unique();
    let limits = Limits { pids: Some(8), ..Limits::default() };
    let text = format!("for i in 1 2 3 4 5 6 7 8 9 10 11 12; do sleep {mark} & done; wait");
    let mut worker = script(folder.path(), &text);
    worker.group = node.create("1.1.0.0", &limits).expect("a group");
    let ended = run(folder.path(), &worker).await;
    assert!(matches!(ended.exit, Exit::Status(status) if status != 0), "the shell cannot fork: {ended:?}");
    assert!(sleepers(&mark).is_empty(), "no orphans");
}

#[tokio::test]
async fn a_worker_stays_on_its_cores() {
    let bench = Bench::new();
    let node = &bench.node;
    let folder = Folder::new();
    if !node.isolation().by.iter().any(|by| by.starts_with("cgroup")) {
        return leave_out("cores");
    }
    let limits = Limits { cpus: vec![0], ..Limits::default() };
    let mut worker = script(folder.path(), "grep Cpus_allowed_list /proc/self/status");
    worker.group = node.create("1.1.0.0", &limits).expect("a group");
    worker.cpus = limits.cpus.clone();
    assert_eq!(run(folder.path(), &worker).await.exit, Exit::Status(0));
    assert_eq!(output(folder.path()), "Cpus_allowed_list:\t0\n");
}

#[tokio::test]
async fn a_device_that_was_not_given_cannot_be_opened() {
    let bench = Bench::new();
    let node = &bench.node;
    if !node.isolation().devices {
        return leave_out("devices");
    }
    let folder = Folder::new();
    // Stands for another worker's chip.
    let limits = Limits { denied_devices: vec!["/dev/zero".into(), "/dev/no-such-chip".into()], ..Limits::default() };
    let mut worker = script(folder.path(), "head -c 1 /dev/urandom > /dev/null && echo given; head -c 1 /dev/zero");
    worker.group = node.create("1.1.0.0", &limits).expect("a group");
    assert_eq!(run(folder.path(), &worker).await.exit, Exit::Status(1));
    assert_eq!(output(folder.path()), "given\n");
}

#[tokio::test]
async fn groups_are_gone_with_their_worker() {
    let bench = Bench::new();
    let node = &bench.node;
    let limits = Limits { memory_bytes: Some(64 << 20), pids: Some(100), ..Limits::default() };
    let Some(group) = node.create("1.1.0.0", &limits).expect("a group") else { return leave_out("removal") };
    let folder = Folder::new();
    let mut worker = script(folder.path(), "setsid sleep 1000 & exit 0");
    worker.group = Some(group.clone());
    run(folder.path(), &worker).await;
    let text = serde_json::to_value(&group).expect("JSON");
    for path in text["folders"].as_array().expect("folders") {
        assert!(!fs::exists(path.as_str().expect("text")).expect("seen"), "{path} is left");
    }
}

#[tokio::test]
async fn a_group_finds_what_hides_its_environment_and_session() {
    let bench = Bench::new();
    let node = &bench.node;
    let mark = unique();
    let folder = Folder::new();
    let Some(group) = node.create("1.1.0.0", &Limits { pids: Some(50), ..Limits::default() }).expect("a group") else {
        return leave_out("finding what hides");
    };
    let mut worker = script(folder.path(), &format!("env -i setsid sleep {mark} & exec sleep 1000"));
    worker.group = Some(group);
    let (_handle, _) = start(folder.path(), &worker).await;
    until("both run", || sleepers(&mark).len() == 1).await;
    until("it has hidden", || {
        sleepers(&mark).iter().all(|pid| fs::read(format!("/proc/{pid}/environ")).is_ok_and(|text| text.is_empty()))
    })
    .await;
    let record = fs::read_to_string(folder.path().join("record")).expect("a record");
    let (_, rest) = record.split_once("\"pid\":").expect("a process");
    let pid: String = rest.chars().take_while(char::is_ascii_digit).collect();
    kill(Pid::from_raw(pid.parse().expect("a number")), Signal::SIGKILL).expect("killed");
    until("it is dead", || matches!(find(folder.path()), Ok(Found::Died { .. }))).await;
    clean_up(folder.path()).expect("cleaned up");
    assert!(sleepers(&mark).is_empty(), "no orphans");
}

#[tokio::test]
async fn a_sweep_takes_what_is_left_and_spares_the_living() {
    let bench = Bench::new();
    let node = &bench.node;
    let (live, dead) = (unique(), unique());
    let limits = Limits { pids: Some(50), ..Limits::default() };
    let mut handles = Vec::new();
    for (name, mark) in [("1.1.0.0", &live), ("2.1.0.0", &dead)] {
        let folder = Folder::new();
        let mut worker = worker(folder.path(), &["sleep", mark]);
        let Some(group) = node.create(name, &limits).expect("a group") else { return leave_out("sweeping") };
        worker.group = Some(group);
        let (handle, _) = start(folder.path(), &worker).await;
        handles.push((handle, folder));
    }
    let others = Bench::new();
    others.node.sweep(&|_| false);
    assert_eq!((sleepers(&live).len(), sleepers(&dead).len()), (1, 1), "other agents' groups are not touched");

    let restarted = Node::detect(bench.state.path());
    restarted.sweep(&|name| name == "1.1.0.0");
    until("the dead one is gone", || sleepers(&dead).is_empty()).await;
    assert_eq!(sleepers(&live).len(), 1);
    restarted.sweep(&|_| false);
    until("the other too", || sleepers(&live).is_empty()).await;
    for (mut handle, _folder) in handles {
        assert_eq!(crate::support::end(&mut handle).await.exit, Exit::Signal(9));
    }
}
