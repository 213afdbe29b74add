//! A whole agent against a server of the test.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, geteuid};
use offtake_agent::{AgentError, Configuration, Departure, run};
use offtake_client::Trust;
use offtake_protocol::agent::{
    Exit, LogRequest, NodeShare, NumberedSignal, Stream, TaskEnd, TaskId, TaskPhase, TaskSpec, Want, WorkerSpec,
};
use offtake_units::{CpuMilli, Mebibytes};
use offtake_workload::{Layout, Start, Stop, User};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use crate::server::{Server, TOKEN};
use crate::support::{Folder, PATIENCE, sleepers, supervisor_program, unique, until};

const LEASE_MS: u32 = 30_000;

struct Agent {
    stop: oneshot::Sender<Departure>,
    running: JoinHandle<Result<(), AgentError>>,
}

impl Agent {
    async fn end(self, departure: Departure) {
        self.stop.send(departure).expect("it runs");
        let ended = tokio::time::timeout(PATIENCE, self.running).await.expect("in time").expect("no panic");
        ended.expect("it ran well");
    }
}

fn configuration(server: &Server, folder: &Folder) -> Configuration {
    let reached = offtake_client::Server { url: server.url.clone(), token: None, trust: Trust::System };
    Configuration {
        join_token: Some(TOKEN.to_owned()),
        name: Some("node-1".to_owned()),
        ..Configuration::new(reached, folder.path().join("data"), supervisor_program())
    }
}

fn start(configuration: Configuration) -> Agent {
    let (stop, stopped) = oneshot::channel();
    let running = tokio::spawn(run(configuration, async { stopped.await.unwrap_or(Departure::Pause) }));
    Agent { stop, running }
}

fn id(job: u64) -> TaskId {
    TaskId { job, attempt: 1, step: 0 }
}

/// So many workers that run a line of shell.
fn gang(folder: &Folder, workers: u32, line: &str) -> TaskSpec {
    TaskSpec {
        job_name: "train".to_owned(),
        tenant: "lab".to_owned(),
        user: User::Id(geteuid().as_raw()),
        start: Start::Command(["sh", "-c", line].map(str::to_owned).to_vec()),
        environment: BTreeMap::from([("GREETING".to_owned(), "hello".to_owned())]),
        directory: folder.path().display().to_string(),
        output: None,
        error: None,
        append: false,
        stop: Stop::default(),
        ends_together: true,
        layout: Layout::default(),
        cpu: CpuMilli::new(0),
        memory: Mebibytes::new(0),
        workers: (0..workers).map(|rank| WorkerSpec { rank, local_rank: rank, chips: 0 }).collect(),
        world_size: workers,
        node_rank: 0,
        nodes: Arc::new([NodeShare { name: "node-1".to_owned(), address: "127.0.0.1".to_owned(), workers }]),
        domain: String::new(),
        port: 0,
        array: None,
        limit_ms: None,
        restarts: 0,
        job_token: "secret".to_owned(),
    }
}

fn request(number: u64, task: TaskId, follow: bool) -> LogRequest {
    LogRequest { id: number, task, rank: None, follow, tail_bytes: None }
}

async fn ended(server: &Server, task: TaskId) -> TaskEnd {
    match server.until(task, "it ends", |phase| matches!(phase, TaskPhase::Ended(_))).await {
        TaskPhase::Ended(end) => end,
        other => unreachable!("{other:?}"),
    }
}

async fn running(server: &Server, task: TaskId) {
    server.until(task, "it runs", |phase| matches!(phase, TaskPhase::Running { .. })).await;
}

fn exits(end: &TaskEnd) -> Vec<Exit> {
    end.workers.iter().map(|worker| worker.exit.clone()).collect()
}

/// A program of the operator.
fn hook(folder: &Folder, body: &str) -> PathBuf {
    let path = folder.path().join("hook");
    fs::write(&path, format!("#!/bin/sh\n{body}\n")).expect("written");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("executable");
    path
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_gang_runs_and_its_output_can_be_read_also_after_it_was_forgotten() {
    let (folder, server) = (Folder::new(), Server::start(LEASE_MS).await);
    let agent = start(configuration(&server, &folder));
    server.want(id(1), Want::Prepare, &gang(&folder, 2, "echo $GREETING $RANK of $WORLD_SIZE; echo oh >&2"));
    server.until(id(1), "it is prepared", |phase| *phase == TaskPhase::Prepared).await;
    server.want(id(1), Want::Run, &gang(&folder, 2, ""));
    let end = ended(&server, id(1)).await;
    assert_eq!(exits(&end), [Exit::Status(0), Exit::Status(0)]);
    let expected: BTreeMap<(u32, Stream), String> = BTreeMap::from([
        ((0, Stream::Output), "hello 0 of 2\n".to_owned()),
        ((0, Stream::Error), "oh\n".to_owned()),
        ((1, Stream::Output), "hello 1 of 2\n".to_owned()),
        ((1, Stream::Error), "oh\n".to_owned()),
    ]);
    assert_eq!(server.logs(request(1, id(1), true)).await, expected);

    server.order(|orders| orders.tasks.clear());
    let data = folder.path().join("data");
    until("it is forgotten", || server.phase(id(1)).is_none() && data.join("logs/1.1.0").exists()).await;
    until("its folder is gone", || !data.join("tasks/1.1.0").exists()).await;
    assert_eq!(server.logs(request(2, id(1), false)).await, expected);
    assert!(server.logs(request(3, id(99), false)).await.is_empty(), "a task that never was");
    agent.end(Departure::Pause).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_batch_script_sees_what_slurm_shows_and_names_its_output() {
    let (folder, server) = (Folder::new(), Server::start(LEASE_MS).await);
    let agent = start(configuration(&server, &folder));
    let text = "#!/bin/sh\necho $SLURM_JOB_ID $SLURM_NNODES ${RANK-none} $1\ncommand -v srun\n";
    let start = Start::Script { text: text.to_owned(), arguments: vec!["x y".to_owned()] };
    let spec = TaskSpec { start, output: Some("%x-%j.out".to_owned()), ..gang(&folder, 1, "") };
    server.want(id(17), Want::Run, &spec);
    assert_eq!(exits(&ended(&server, id(17)).await), [Exit::Status(0)]);
    let data = folder.path().join("data").canonicalize().expect("there");
    let output = fs::read_to_string(folder.path().join("train-17.out")).expect("written");
    assert_eq!(output, format!("17 1 none x y\n{}\n", data.join("shims/srun").display()));
    let logs = server.logs(request(1, id(17), false)).await;
    assert_eq!(logs, BTreeMap::from([((0, Stream::Output), output)]));
    agent.end(Departure::Pause).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn workers_outlive_their_agent_and_are_found_again() {
    let (folder, server) = (Folder::new(), Server::start(LEASE_MS).await);
    let agent = start(configuration(&server, &folder));
    let line = "echo once >> ran; until test -e go; do sleep 0.01; done; exit 7";
    server.want(id(1), Want::Run, &gang(&folder, 1, line));
    server.want(id(2), Want::Run, &gang(&folder, 1, "exit 3"));
    running(&server, id(1)).await;
    ended(&server, id(2)).await;
    agent.end(Departure::Pause).await;

    server.state().report = None;
    let agent = start(Configuration { join_token: None, ..configuration(&server, &folder) });
    running(&server, id(1)).await;
    assert_eq!(exits(&ended(&server, id(2)).await), [Exit::Status(3)], "told again, as nobody said that it is known");
    fs::write(folder.path().join("go"), "").expect("written");
    assert_eq!(exits(&ended(&server, id(1)).await), [Exit::Status(7)]);
    assert_eq!(fs::read_to_string(folder.path().join("ran")).expect("written"), "once\n");
    agent.end(Departure::Pause).await;

    // It ends while no agent is there.
    server.order(|orders| orders.tasks.clear());
    fs::remove_file(folder.path().join("go")).expect("removed");
    let agent = start(configuration(&server, &folder));
    server.want(id(3), Want::Run, &gang(&folder, 1, line));
    running(&server, id(3)).await;
    agent.end(Departure::Pause).await;
    fs::write(folder.path().join("go"), "").expect("written");
    let record = folder.path().join("data/tasks/3.1.0/0/record");
    until("its supervisor has left", || fs::read_to_string(&record).is_ok_and(|text| text.contains("ended"))).await;
    let agent = start(configuration(&server, &folder));
    assert_eq!(exits(&ended(&server, id(3)).await), [Exit::Status(7)]);
    agent.end(Departure::Pause).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_server_work_ends_within_the_lease() {
    let (folder, server) = (Folder::new(), Server::start(3_000).await);
    let agent = start(configuration(&server, &folder));
    let time = unique();
    // It does not heed SIGTERM.
    server.want(id(1), Want::Run, &gang(&folder, 1, &format!("trap '' TERM; sleep {time}; sleep {time}")));
    running(&server, id(1)).await;
    until("it sleeps", || sleepers(&time).len() == 1).await;
    server.state().mute = true;
    let silent = Instant::now();
    until("it is ended", || sleepers(&time).is_empty()).await;
    // The lease counts from the last report that was answered, which was sent before the silence.
    assert!(silent.elapsed() < Duration::from_millis(3_000), "it outlived the lease: {:?}", silent.elapsed());
    server.state().mute = false;
    let end = ended(&server, id(1)).await;
    // It did not fail: nobody knows how it would have ended.
    assert!(matches!(exits(&end)[..], [Exit::Unknown(_)]), "{end:?}");
    agent.end(Departure::Pause).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_not_wanted_ends() {
    // A server that has said all waits with its next answer for a fifth of the lease.
    let (folder, server) = (Folder::new(), Server::start(3_000).await);
    let agent = start(configuration(&server, &folder));
    let times = [unique(), unique()];
    for (job, time) in [(1, &times[0]), (2, &times[1])] {
        server.want(id(job), Want::Run, &gang(&folder, 1, &format!("trap '' TERM; sleep {time}; sleep {time}")));
        running(&server, id(job)).await;
    }
    server.want(id(1), Want::Kill, &gang(&folder, 1, ""));
    assert_eq!(exits(&ended(&server, id(1)).await), [Exit::Signal(9)]);
    server.order(|orders| orders.tasks.clear());
    until("nothing is left", || server.phase(id(2)).is_none()).await;
    assert!(times.iter().all(|time| sleepers(time).is_empty()));
    agent.end(Departure::Pause).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_gang_ends_when_one_of_it_fails() {
    let (folder, server) = (Folder::new(), Server::start(LEASE_MS).await);
    let agent = start(configuration(&server, &folder));
    let line = "test $RANK = 1 && exit 5; exec sleep 1000";
    server.want(id(1), Want::Run, &gang(&folder, 3, line));
    let end = ended(&server, id(1)).await;
    assert_eq!(exits(&end), [Exit::Signal(15), Exit::Status(5), Exit::Signal(15)]);
    agent.end(Departure::Pause).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_run_is_refused_with_whose_fault_it_is() {
    let (folder, server) = (Folder::new(), Server::start(LEASE_MS).await);
    let agent = start(configuration(&server, &folder));
    let good = gang(&folder, 1, "true");
    let taken = std::net::TcpListener::bind("0.0.0.0:0").expect("a port");
    let port = taken.local_addr().expect("bound").port();
    let cases = [
        (
            TaskSpec { directory: "/no/such/folder".to_owned(), ..good.clone() },
            "/no/such/folder is not on this node",
            false,
        ),
        (TaskSpec { user: User::Name("no-such-user".to_owned()), ..good.clone() }, "no user `no-such-user`", false),
        (TaskSpec { start: Start::Command(Vec::new()), ..good.clone() }, "names no program", false),
        (TaskSpec { workers: Vec::new(), ..good.clone() }, "0 workers", true),
        (
            TaskSpec { workers: vec![WorkerSpec { rank: 0, local_rank: 0, chips: 1 << 63 }], ..good.clone() },
            "a chip that is not there",
            true,
        ),
        (TaskSpec { port, ..good.clone() }, "is in use", true),
        (TaskSpec { output: Some("/no/such/folder/out".to_owned()), ..good }, "/no/such/folder/out", false),
    ];
    for (job, (spec, words, node_fault)) in (1..).zip(cases) {
        server.want(id(job), Want::Run, &spec);
        let refusal = ended(&server, id(job)).await.refused.expect("refused");
        assert!(refusal.reason.contains(words), "{}", refusal.reason);
        assert_eq!(refusal.node_fault, node_fault, "{}", refusal.reason);
    }
    // A program that is missing was started, as far as the node could.
    server.want(
        id(90),
        Want::Run,
        &TaskSpec { start: Start::Command(vec!["no-such-program".to_owned()]), ..gang(&folder, 1, "") },
    );
    let end = ended(&server, id(90)).await;
    assert!(matches!(&exits(&end)[..], [Exit::NotStarted(reason)] if reason.contains("no-such-program")), "{end:?}");
    agent.end(Departure::Pause).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_prolog_that_fails_keeps_work_away() {
    let (folder, server) = (Folder::new(), Server::start(LEASE_MS).await);
    let prolog = hook(&folder, "echo GPU $SLURM_JOB_ID fell off; test -z \"$GREETING$OFFTAKE_TOKEN\" && exit 1");
    let agent = start(Configuration { prolog: Some(prolog), ..configuration(&server, &folder) });
    server.want(id(1), Want::Run, &gang(&folder, 1, "touch ran"));
    let refusal = ended(&server, id(1)).await.refused.expect("refused");
    assert!(refusal.node_fault && refusal.reason.contains("GPU 1 fell off"), "{}", refusal.reason);
    let unhealthy = || {
        let state = server.state();
        let condition = state.report.as_ref().and_then(|report| report.condition.clone());
        condition.and_then(|condition| condition.unhealthy).is_some_and(|reason| reason.contains("GPU 1 fell off"))
    };
    until("the node is unhealthy", unhealthy).await;
    assert!(!folder.path().join("ran").exists());
    agent.end(Departure::Pause).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn output_is_followed_as_it_grows() {
    let (folder, server) = (Folder::new(), Server::start(LEASE_MS).await);
    let agent = start(configuration(&server, &folder));
    let line = "echo one; until test -e go; do sleep 0.01; done; head -c 3000000 /dev/zero | tr '\\0' x";
    server.want(id(1), Want::Run, &gang(&folder, 1, line));
    running(&server, id(1)).await;
    server.order(|orders| orders.logs.push(request(5, id(1), true)));
    let so_far = || server.text(5).remove(&(0, Stream::Output)).unwrap_or_default();
    until("the first line has come", || so_far() == "one\n").await;
    fs::write(folder.path().join("go"), "").expect("written");
    ended(&server, id(1)).await;
    // The task is forgotten while its output is still being sent.
    server.order(|orders| orders.tasks.clear());
    server.finished(5).await;
    assert_eq!(so_far(), format!("one\n{}", "x".repeat(3_000_000)));
    agent.end(Departure::Pause).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_leaves_ends_its_work_and_says_so() {
    let (folder, server) = (Folder::new(), Server::start(LEASE_MS).await);
    let agent = start(configuration(&server, &folder));
    let time = unique();
    server.want(id(1), Want::Run, &gang(&folder, 1, &format!("exec sleep {time}")));
    running(&server, id(1)).await;
    agent.end(Departure::Leave).await;
    assert!(sleepers(&time).is_empty());
    let report = server.state().report.clone().expect("a report");
    assert!(report.leaves);
    assert!(matches!(report.tasks[0].phase, TaskPhase::Ended(_)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_short_tasks_each_run_once() {
    const TASKS: u64 = 60;
    let (folder, server) = (Folder::new(), Server::start(LEASE_MS).await);
    let agent = start(configuration(&server, &folder));
    let spec = gang(&folder, 1, "echo $OFFTAKE_JOB_ID >> ran");
    for job in 1..=TASKS {
        server.want(id(job), Want::Run, &spec);
    }
    for job in 1..=TASKS {
        assert_eq!(exits(&ended(&server, id(job)).await), [Exit::Status(0)]);
    }
    let ran = fs::read_to_string(folder.path().join("ran")).expect("written");
    let mut jobs: Vec<u64> = ran.lines().map(|line| line.parse().expect("a number")).collect();
    jobs.sort_unstable();
    assert_eq!(jobs, (1..=TASKS).collect::<Vec<u64>>());
    server.order(|orders| orders.tasks.clear());
    let tasks = folder.path().join("data/tasks");
    let empty = |path: &Path| fs::read_dir(path).expect("readable").count() == 0;
    until("all are forgotten", || empty(&tasks)).await;
    agent.end(Departure::Pause).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_may_not_join_is_told_why() {
    let (folder, server) = (Folder::new(), Server::start(LEASE_MS).await);
    let wrong = Configuration { join_token: Some("guessed".to_owned()), ..configuration(&server, &folder) };
    let error = run(wrong, std::future::pending()).await.expect_err("refused").to_string();
    assert!(error.contains("this token lets nobody join"), "{error}");
    let without = Configuration { join_token: None, ..configuration(&server, &folder) };
    let error = run(without, std::future::pending()).await.expect_err("refused").to_string();
    assert!(error.contains("--join"), "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_task_that_cannot_be_read_is_ended() {
    let (folder, server) = (Folder::new(), Server::start(LEASE_MS).await);
    let agent = start(configuration(&server, &folder));
    let time = unique();
    server.want(id(1), Want::Run, &gang(&folder, 1, &format!("exec sleep {time}")));
    running(&server, id(1)).await;
    until("it sleeps", || sleepers(&time).len() == 1).await;
    agent.end(Departure::Pause).await;
    let task = folder.path().join("data/tasks/1.1.0");
    fs::write(task.join("task.json"), "{").expect("written");
    server.state().report = None;
    let agent = start(configuration(&server, &folder));
    until("it reports", || server.state().report.is_some()).await;
    assert!(sleepers(&time).is_empty());
    agent.end(Departure::Pause).await;
}

/// The supervisor of the worker with this folder.
fn supervisor_of(worker: &Path) -> Pid {
    let folder = worker.canonicalize().expect("there");
    let all = fs::read_dir("/proc").expect("readable").flatten();
    let mut pids = all.filter_map(|entry| {
        let pid = entry.file_name().to_str()?.parse().ok()?;
        (fs::read_link(entry.path().join("cwd")).ok()? == folder).then_some(pid)
    });
    Pid::from_raw(pids.next().expect("it lives"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_whose_supervisor_is_killed_ends_with_it() {
    let (folder, server) = (Folder::new(), Server::start(LEASE_MS).await);
    let agent = start(configuration(&server, &folder));
    let times = [unique(), unique()];
    for (job, time) in [(1, &times[0]), (2, &times[1])] {
        server.want(id(job), Want::Run, &gang(&folder, 1, &format!("echo $OFFTAKE_JOB_ID >> ran; exec sleep {time}")));
        running(&server, id(job)).await;
    }
    let kill_supervisor = |job: u64| {
        let pid = supervisor_of(&folder.path().join(format!("data/tasks/{job}.1.0/0")));
        kill(pid, Signal::SIGKILL).expect("killed");
    };
    kill_supervisor(1);
    let end = ended(&server, id(1)).await;
    assert!(matches!(&exits(&end)[..], [Exit::Unknown(_)]), "{end:?}");
    assert!(sleepers(&times[0]).is_empty(), "it is told only when nothing runs any more");

    // And while no agent is there.
    agent.end(Departure::Pause).await;
    kill_supervisor(2);
    let agent = start(configuration(&server, &folder));
    let end = ended(&server, id(2)).await;
    assert!(matches!(&exits(&end)[..], [Exit::Unknown(_)]), "{end:?}");
    assert!(sleepers(&times[1]).is_empty());
    assert_eq!(fs::read_to_string(folder.path().join("ran")).expect("written"), "1\n2\n", "each ran once");
    agent.end(Departure::Pause).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_signal_is_sent_once_whatever_becomes_of_the_agent() {
    let (folder, server) = (Folder::new(), Server::start(LEASE_MS).await);
    let agent = start(configuration(&server, &folder));
    let line = "trap 'echo saved >> saves' USR1; touch ready; while :; do sleep 0.01; done";
    let spec = gang(&folder, 1, line);
    server.want(id(1), Want::Run, &spec);
    running(&server, id(1)).await;
    until("it is ready", || folder.path().join("ready").exists()).await;
    server.order(|orders| orders.tasks[0].signal = Some(NumberedSignal { number: 1, signal: 10 }));
    let saves = || fs::read_to_string(folder.path().join("saves")).unwrap_or_default();
    until("it has saved", || saves() == "saved\n").await;
    agent.end(Departure::Pause).await;
    server.state().report = None;
    let agent = start(configuration(&server, &folder));
    running(&server, id(1)).await;
    server.order(|orders| orders.tasks[0].signal = Some(NumberedSignal { number: 2, signal: 10 }));
    until("it has saved again", || saves() == "saved\nsaved\n").await;
    server.want(id(1), Want::Stop, &spec);
    assert_eq!(exits(&ended(&server, id(1)).await), [Exit::Signal(15)]);
    assert_eq!(saves(), "saved\nsaved\n");
    agent.end(Departure::Pause).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_health_check_speaks_for_the_node() {
    let (folder, server) = (Folder::new(), Server::start(LEASE_MS).await);
    let sick = folder.path().join("sick");
    fs::write(&sick, "").expect("written");
    let check = hook(&folder, &format!("if test -e {}; then echo no link on ib0; exit 1; fi", sick.display()));
    let agent = start(Configuration {
        health_check: Some(check),
        health_interval: Duration::from_millis(20),
        ..configuration(&server, &folder)
    });
    let condition = || server.state().report.as_ref().and_then(|report| report.condition.clone());
    let unhealthy = || condition().and_then(|condition| condition.unhealthy);
    until("it is sick", || unhealthy().is_some_and(|reason| reason.ends_with("no link on ib0"))).await;
    fs::remove_file(&sick).expect("removed");
    until("it is well again", || condition().is_some() && unhealthy().is_none()).await;
    agent.end(Departure::Pause).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_paused_gang_stands_still_over_a_restart_of_its_agent() {
    let (folder, server) = (Folder::new(), Server::start(LEASE_MS).await);
    let agent = start(configuration(&server, &folder));
    let line = "while :; do echo >> count-$RANK; sleep 0.01; done";
    server.want(id(1), Want::Run, &gang(&folder, 2, line));
    running(&server, id(1)).await;
    let counted =
        || [0, 1].map(|rank| fs::read(folder.path().join(format!("count-{rank}"))).map_or(0, |bytes| bytes.len()));
    until("both count", || counted().iter().all(|count| *count > 3)).await;
    let pause = |paused| server.order(|orders| orders.tasks.iter_mut().for_each(|order| order.paused = paused));
    let told = || server.state().report.as_ref().is_some_and(|report| report.tasks.iter().any(|task| task.paused));
    pause(true);
    until("it says that both stand still", told).await;
    let before = counted();
    agent.end(Departure::Pause).await;
    server.state().report = None;
    let agent = start(Configuration { join_token: None, ..configuration(&server, &folder) });
    until("it says so again", told).await;
    assert_eq!(counted(), before);
    pause(false);
    until("both go on", || counted().iter().zip(before).all(|(now, before)| *now > before + 3)).await;
    until("it says so", || !told()).await;
    pause(true);
    until("they stand still once more", told).await;
    server.order(|orders| orders.tasks.clear());
    until("a server that has forgotten them ends them", || server.phase(id(1)).is_none()).await;
    agent.end(Departure::Pause).await;
}
