//! Supervisors with real workers.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::{Command as Process, Stdio};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use offtake_agent::supervisor::{
    Cause, Command, Credentials, Found, Handle, Launcher, LogLimits, Resource, ResourceLimit, Status, StopPlan, Whom,
    boot_now_ms, clean_up, find, log_end, log_read,
};
use offtake_protocol::agent::{Exit, Stream};

use crate::support::{
    Folder, end, is_root, launch, next, output, prepare, run, script, sleepers, start, supervisor_program, unique,
    until, worker,
};

/// Why a worker was not started.
fn refusal(exit: Exit) -> String {
    let reason = if let Exit::NotStarted(reason) = &exit { Some(reason.clone()) } else { None };
    reason.unwrap_or_else(|| unreachable!("it was started, and ended as {exit:?}"))
}

/// The supervisor's process, from the first line of its record.
fn supervisor_pid(folder: &Folder) -> Pid {
    let record = fs::read_to_string(folder.path().join("record")).expect("a record");
    let (_, rest) = record.split_once("\"pid\":").expect("a process");
    let digits: String = rest.chars().take_while(char::is_ascii_digit).collect();
    Pid::from_raw(digits.parse().expect("a number"))
}

#[tokio::test]
async fn an_exit_status_is_recorded() {
    let folder = Folder::new();
    let (mut handle, pid) = start(folder.path(), &script(folder.path(), "echo to-out; echo to-err >&2; exit 7")).await;
    assert!(pid > 1);
    let ended = end(&mut handle).await;
    assert_eq!((&ended.exit, ended.cause), (&Exit::Status(7), None));
    assert!(ended.started_ms.expect("it started") <= ended.ended_ms);
    assert!(ended.peak_memory_kib.expect("measured") > 0);
    assert!(ended.cpu_ms.is_some());
    assert_eq!(find(folder.path()).expect("found"), Found::Ended(ended), "what was told is what was written down");
    assert_eq!(output(folder.path()), "to-out\n");
    assert_eq!(log_read(folder.path(), Stream::Error, 0, 100).expect("a log").bytes, b"to-err\n");
}

#[tokio::test]
async fn a_worker_that_is_killed_ends_by_a_signal() {
    let folder = Folder::new();
    let (mut handle, pid) = start(folder.path(), &worker(folder.path(), &["sleep", &unique()])).await;
    kill(Pid::from_raw(pid), Signal::SIGKILL).expect("killed");
    let ended = end(&mut handle).await;
    assert_eq!((ended.exit, ended.cause), (Exit::Signal(9), None));

    let folder = Folder::new();
    let real_time = script(folder.path(), "sh -c 'kill -35 $$'; kill -34 $$");
    assert_eq!(run(folder.path(), &real_time).await.exit, Exit::Signal(34));
}

#[tokio::test]
async fn what_cannot_be_executed_says_why() {
    let cases = [
        ("no-such-program", "there is no such program in its PATH (/usr/bin:/bin)"),
        ("./no-such-program", "there is no such file"),
        ("./no-interpreter", "the interpreter that it names is not there"),
        ("./no-program", "it is not executable for this user"),
        ("/usr", "it is a directory"),
    ];
    for (program, why) in cases {
        let folder = Folder::new();
        for (name, text, mode) in
            [("no-interpreter", "#!/no/interpreter\n", 0o755), ("no-program", "#!/bin/sh\n", 0o644)]
        {
            let path = folder.path().join(name);
            fs::write(&path, text).expect("written");
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).expect("set");
        }
        let ended = run(folder.path(), &worker(folder.path(), &[program])).await;
        assert!(!ended.node_fault && ended.started_ms.is_none());
        assert_eq!(refusal(ended.exit), format!("cannot execute `{program}`: {why}"));
    }

    let folder = Folder::new();
    let mut lost = worker(folder.path(), &["true"]);
    lost.directory = folder.path().join("nowhere");
    let ended = run(folder.path(), &lost).await;
    let reason = format!("cannot work in directory {}: No such file or directory", lost.directory.display());
    assert_eq!(ended.exit, Exit::NotStarted(reason));
}

#[tokio::test]
async fn output_that_cannot_be_opened_is_told_before_anything_starts() {
    let folder = Folder::new();
    let mut worker = worker(folder.path(), &["true"]);
    worker.output = Some("nowhere/out.txt".into());
    let mut handle = launch(folder.path(), &worker);
    let told = handle.next().await.expect("a whole connection");
    assert!(matches!(&told, Some(Status::Ended(_))), "it prepared: {told:?}");
    let Found::Ended(ended) = find(folder.path()).expect("found") else { unreachable!("it has ended") };
    let reason = refusal(ended.exit);
    assert!(reason.contains("nowhere/out.txt: No such file or directory"), "{reason}");
}

#[tokio::test]
async fn nothing_that_descends_from_a_worker_outlives_it() {
    let folder = Folder::new();
    let mark = unique();
    let text = format!(
        "sleep {mark} & \
         setsid sleep {mark} & \
         (setsid sh -c 'sleep {mark} & exec sleep {mark}' &) \n\
         env -i setsid sleep {mark} & \
         while [ $(pgrep -c -f '^sleep {mark}') -lt 5 ]; do sleep 0.01; done; exit 3"
    );
    let ended = run(folder.path(), &script(folder.path(), &text)).await;
    assert_eq!(ended.exit, Exit::Status(3));
    assert!(sleepers(&mark).is_empty(), "no orphans");
}

#[tokio::test]
async fn a_supervisor_outlives_its_launcher_and_is_found_again() {
    let folder = Folder::new();
    let text = "while [ ! -e go-on ]; do sleep 0.01; done; exit 5";
    let worker = script(folder.path(), text);
    fs::write(folder.path().join("worker.json"), serde_json::to_vec(&worker).expect("JSON")).expect("written");
    let mut launcher = Process::new(supervisor_program()).arg("launch").arg(folder.path()).spawn().expect("a launcher");
    let running =
        || fs::read_to_string(folder.path().join("record")).is_ok_and(|record| record.contains("\"started\""));
    until("the worker runs", running).await;
    launcher.kill().expect("killed");
    launcher.wait().expect("reaped");

    assert_eq!(find(folder.path()).expect("found"), Found::Alive);
    let mut handle = Handle::connect(folder.path()).expect("a connection");
    assert!(matches!(next(&mut handle).await, Status::Running { .. }));
    fs::write(folder.path().join("go-on"), "").expect("written");
    let ended = end(&mut handle).await;
    assert_eq!(ended.exit, Exit::Status(5));
    assert_eq!(find(folder.path()).expect("found"), Found::Ended(ended));
}

#[tokio::test]
async fn a_launcher_that_was_killed_is_replaced_and_its_supervisors_live_on() {
    let launcher_of = |pid: Pid| {
        let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("it lives");
        let parent = status.lines().find_map(|line| line.strip_prefix("PPid:")).expect("a parent");
        Pid::from_raw(parent.trim().parse().expect("a number"))
    };
    let folders = [Folder::new(), Folder::new()];
    let launcher = Launcher::new(supervisor_program(), folders[0].path().to_path_buf());
    let mut handles = Vec::new();
    let mut killed = Vec::new();
    for folder in &folders {
        let mut handle = launcher.launch(folder.path(), &script(folder.path(), "exit 4")).expect("one");
        assert_eq!(next(&mut handle).await, Status::Prepared);
        let process = launcher_of(supervisor_pid(folder));
        kill(process, Signal::SIGKILL).expect("killed");
        until("it is dead", || launcher_of(supervisor_pid(folder)) != process).await;
        handles.push(handle);
        killed.push(process);
    }
    assert_ne!(killed[0], killed[1]);
    for mut handle in handles {
        handle.send(&Command::Go).await.expect("sent");
        assert_eq!(end(&mut handle).await.exit, Exit::Status(4));
    }
}

#[tokio::test]
async fn a_connection_that_breaks_changes_nothing() {
    let folder = Folder::new();
    let (handle, pid) = start(folder.path(), &worker(folder.path(), &["sleep", &unique()])).await;
    drop(handle);
    for _ in 0..20 {
        let mut handle = Handle::connect(folder.path()).expect("a connection");
        assert!(matches!(next(&mut handle).await, Status::Running { pid: same, .. } if same == pid));
    }
    let mut handle = Handle::connect(folder.path()).expect("a connection");
    handle.send(&Command::Kill).await.expect("sent");
    let ended = end(&mut handle).await;
    assert_eq!((ended.exit, ended.cause), (Exit::Signal(9), Some(Cause::Kill)));
}

#[tokio::test]
async fn what_a_killed_supervisor_leaves_is_cleaned_up() {
    let folder = Folder::new();
    let mark = unique();
    // One without the mark in its environment, one without the worker's session, and one that ignores signals.
    let text = format!(
        "env -i sleep {mark} & setsid sleep {mark} & (trap '' TERM HUP; exec sleep {mark}) & exec sleep {mark}"
    );
    let (mut handle, pid) = start(folder.path(), &script(folder.path(), &text)).await;
    until("all run", || sleepers(&mark).len() == 4).await;
    let supervisor = supervisor_pid(&folder);
    kill(supervisor, Signal::SIGKILL).expect("killed");

    assert_eq!(handle.next().await.unwrap_or(None), None, "the connection ends without a status");
    until("the worker is dead", || !sleepers(&mark).contains(&pid)).await;
    assert!(matches!(find(folder.path()).expect("found"), Found::Died { .. }));
    let ended = clean_up(folder.path()).expect("cleaned up");
    assert!(matches!(ended.exit, Exit::Unknown(_)));
    assert!(ended.started_ms.is_some());
    assert!(sleepers(&mark).is_empty(), "no orphans");
    assert_eq!(find(folder.path()).expect("found"), Found::Ended(ended.clone()));
    assert_eq!(clean_up(folder.path()).expect("cleaned up twice"), ended);
}

#[tokio::test]
async fn a_supervisor_that_is_killed_before_the_start_ran_nothing() {
    let folder = Folder::new();
    assert_eq!(find(folder.path()).expect("found"), Found::NeverRan);
    let handle = prepare(folder.path(), &worker(folder.path(), &["true"])).await;
    kill(supervisor_pid(&folder), Signal::SIGKILL).expect("killed");
    until("it is dead", || find(folder.path()).expect("found") == Found::NeverRan).await;
    drop(handle);
    let ended = clean_up(folder.path()).expect("cleaned up");
    assert!(matches!(ended.exit, Exit::NotStarted(_)) && ended.node_fault);
}

#[tokio::test]
async fn a_worker_is_taken_on_once() {
    let folder = Folder::new();
    let worker = script(folder.path(), "echo ran");
    let mut first = prepare(folder.path(), &worker).await;
    let mut second = launch(folder.path(), &worker);
    let _ = second.send(&Command::Go).await;
    assert_eq!(second.next().await.unwrap_or(None), None, "the second leaves");

    for _ in 0..3 {
        first.send(&Command::Go).await.expect("sent");
    }
    assert_eq!(end(&mut first).await.exit, Exit::Status(0));
    let mut third = launch(folder.path(), &worker);
    let _ = third.send(&Command::Go).await;
    assert_eq!(third.next().await.unwrap_or(None), None, "nor is it taken on after its end");
    assert_eq!(output(folder.path()), "ran\n");
}

#[tokio::test]
async fn the_end_of_the_lease_ends_the_worker() {
    let folder = Folder::new();
    let mark = unique();
    let mut worker = script(folder.path(), &format!("trap '' TERM; setsid sleep {mark} & sleep {mark}; sleep {mark}"));
    // Long enough for a start on a busy machine.
    worker.lease_until_ms = boot_now_ms() + 4_000;
    let (mut handle, _) = start(folder.path(), &worker).await;
    let until_ms = worker.lease_until_ms + 300;
    handle.send(&Command::Lease { until_ms }).await.expect("sent");
    let ended = end(&mut handle).await;
    assert!(boot_now_ms() >= until_ms, "the renewed lease counts");
    assert_eq!((ended.exit, ended.cause), (Exit::Signal(9), Some(Cause::Lease)));
    assert!(sleepers(&mark).is_empty(), "no orphans");
}

#[tokio::test]
async fn a_lease_that_ends_before_the_start_ends_the_supervisor() {
    let folder = Folder::new();
    let mut worker = worker(folder.path(), &["true"]);
    worker.lease_until_ms = boot_now_ms() + 50;
    let mut handle = prepare(folder.path(), &worker).await;
    let ended = end(&mut handle).await;
    assert_eq!(ended.cause, Some(Cause::Lease));
    assert!(matches!(ended.exit, Exit::NotStarted(_)));
}

#[tokio::test]
async fn a_stubborn_worker_goes_through_all_rungs() {
    let folder = Folder::new();
    let text = "trap 'echo saving' USR1; trap 'echo no' TERM; echo ready; while :; do sleep 0.01; done";
    let (mut handle, _) = start(folder.path(), &script(folder.path(), text)).await;
    until("its traps are set", || output(folder.path()) == "ready\n").await;
    let plan = StopPlan { checkpoint: Some((10, Whom::Worker)), checkpoint_grace_ms: 100, grace_ms: 100 };
    handle.send(&Command::Stop(plan)).await.expect("sent");
    assert_eq!(next(&mut handle).await, Status::Stopping);
    let ended = end(&mut handle).await;
    assert_eq!((ended.exit, ended.cause), (Exit::Signal(9), Some(Cause::Stop)));
    assert_eq!(output(folder.path()), "ready\nsaving\nno\n");
}

#[tokio::test]
async fn a_shell_waits_while_what_it_started_saves_its_work() {
    let folder = Folder::new();
    let inner = "trap 'echo saved; exit 4' USR1; echo ready; while :; do sleep 0.01 || true; done";
    fs::write(folder.path().join("inner.sh"), inner).expect("written");
    let (mut handle, _) = start(folder.path(), &script(folder.path(), "sh inner.sh; echo status $?; exit 6")).await;
    until("the trap is set", || output(folder.path()) == "ready\n").await;
    let plan = StopPlan { checkpoint: Some((10, Whom::Descendants)), checkpoint_grace_ms: 10_000, grace_ms: 10_000 };
    handle.send(&Command::Stop(plan)).await.expect("sent");
    assert_eq!(end(&mut handle).await.exit, Exit::Status(6));
    assert_eq!(output(folder.path()), "ready\nsaved\nstatus 4\n");
}

#[tokio::test]
async fn what_is_forked_while_sigterm_goes_round_gets_it_too() {
    let folder = Folder::new();
    let mark = unique();
    let text = format!("i=0; while [ $i -lt 300 ]; do sleep {mark} & i=$((i+1)); done; wait");
    let (mut handle, _) = start(folder.path(), &script(folder.path(), &text)).await;
    until("it forks", || !sleepers(&mark).is_empty()).await;
    let plan = StopPlan { checkpoint: None, checkpoint_grace_ms: 0, grace_ms: 600_000 };
    handle.send(&Command::Stop(plan)).await.expect("sent");
    assert_eq!(end(&mut handle).await.exit, Exit::Signal(15));
    assert!(sleepers(&mark).is_empty(), "nobody is left who would be waited for");
}

#[tokio::test]
async fn a_supervisor_that_is_terminated_stops_its_worker_with_grace() {
    let folder = Folder::new();
    let text = "trap 'echo saved; exit 0' TERM; echo ready; while :; do sleep 0.01; done";
    let (mut handle, _) = start(folder.path(), &script(folder.path(), text)).await;
    until("the trap is set", || output(folder.path()) == "ready\n").await;
    kill(supervisor_pid(&folder), Signal::SIGTERM).expect("sent");
    let ended = end(&mut handle).await;
    assert_eq!((ended.exit, ended.cause), (Exit::Status(0), Some(Cause::Stop)));
    assert_eq!(output(folder.path()), "ready\nsaved\n");
}

#[tokio::test]
async fn output_goes_to_named_files() {
    let folder = Folder::new();
    let out = folder.path().join("out.txt");
    fs::write(&out, "before\n").expect("written");
    let mut worker = script(folder.path(), "echo one; echo two >&2; echo three");
    worker.output = Some("out.txt".into());
    worker.error = Some(out.clone());
    worker.append = true;
    run(folder.path(), &worker).await;
    assert_eq!(fs::read_to_string(&out).expect("read"), "before\none\ntwo\nthree\n");

    let folder = Folder::new();
    worker.append = false;
    worker.output = Some(out.clone());
    worker.error = None;
    worker.directory = folder.path().to_path_buf();
    run(folder.path(), &worker).await;
    assert_eq!(fs::read_to_string(&out).expect("read"), "one\nthree\n");
    assert_eq!(log_read(folder.path(), Stream::Error, 0, 100).expect("a log").bytes, b"two\n");
}

#[tokio::test]
async fn output_that_the_node_keeps_is_rotated() {
    let folder = Folder::new();
    let mut worker = script(folder.path(), "i=0; while [ $i -lt 5000 ]; do echo line-$i; i=$((i+1)); done");
    worker.logs = LogLimits { file_bytes: 1_000, files: 3 };
    run(folder.path(), &worker).await;
    let whole: String = (0..5_000).map(|number| format!("line-{number}\n")).collect();
    let end = log_end(folder.path(), Stream::Output).expect("a log");
    assert_eq!(end, u64::try_from(whole.len()).expect("fits"));
    let mut tail = Vec::new();
    let first = log_read(folder.path(), Stream::Output, 0, usize::MAX).expect("a log");
    let mut at = first.offset;
    while at < end {
        let chunk = log_read(folder.path(), Stream::Output, at, usize::MAX).expect("a log");
        assert_eq!(chunk.offset, at);
        at += u64::try_from(chunk.bytes.len()).expect("fits");
        tail.extend(chunk.bytes);
    }
    assert!((2_000..=3_000).contains(&tail.len()), "{} bytes are kept", tail.len());
    assert!(whole.as_bytes().ends_with(&tail));
}

#[tokio::test]
async fn a_worker_inherits_nothing() {
    let folder = Folder::new();
    let text =
        "ls -l /proc/self/fd; env; grep -E '^(SigBlk|SigIgn)' /proc/self/status; umask; pwd; ps -o sid= -p $$; echo $$";
    let mut worker = script(folder.path(), text);
    worker.environment.insert("JOB".to_owned(), "mine".to_owned());
    worker.umask = 0o027;
    fs::write(folder.path().join("worker.json"), serde_json::to_vec(&worker).expect("JSON")).expect("written");
    // A launcher with an open file, a secret, and signals that it ignores.
    let launcher = format!(
        "trap '' HUP USR1; exec 7</etc/passwd; SECRET=x exec {} launch {}",
        supervisor_program().display(),
        folder.path().display()
    );
    let mut launcher = Process::new("sh").arg("-c").arg(launcher).stdin(Stdio::null()).spawn().expect("a launcher");
    until("it has ended", || matches!(find(folder.path()), Ok(Found::Ended(_)))).await;
    launcher.kill().expect("killed");
    launcher.wait().expect("reaped");

    let output = output(folder.path());
    assert!(!output.contains("passwd") && !output.contains("SECRET"), "{output}");
    let lines: Vec<&str> = output.lines().collect();
    // 0 to 2, and the folder that is being listed.
    let descriptors = lines.iter().filter(|line| line.contains(" -> ")).count();
    assert_eq!(descriptors, 4, "{output}");
    let variables: Vec<&&str> = lines.iter().filter(|line| line.contains('=')).collect();
    let known = ["JOB=mine", "PATH=/usr/bin:/bin", "OFFTAKE_SUPERVISOR=", "PWD=", "_=", "OLDPWD=", "SHLVL="];
    assert!(variables.iter().all(|line| known.iter().any(|known| line.starts_with(known))), "{output}");
    for name in ["SigBlk:\t", "SigIgn:\t"] {
        let mask = lines.iter().find_map(|line| line.strip_prefix(name)).expect("a line of the status");
        // Two signals the C library keeps for itself, and lets nobody touch.
        let of_the_library = 0b11 << 31;
        assert_eq!(u64::from_str_radix(mask, 16).expect("a mask") & !of_the_library, 0, "{output}");
    }
    let [.., mask, directory, session, pid] = lines[..] else { unreachable!("{output}") };
    assert_eq!((mask, directory), ("0027", folder.path().to_str().expect("text")));
    assert_eq!(session.trim(), pid, "it leads its own session");
}

#[tokio::test]
async fn cores_and_resource_limits_are_set() {
    let folder = Folder::new();
    let mut worker = script(folder.path(), "grep Cpus_allowed_list /proc/self/status; ulimit -n; ulimit -Hn");
    worker.cpus = vec![0];
    worker.limits = vec![ResourceLimit { resource: Resource::OpenFiles, soft: Some(77), hard: Some(99) }];
    assert_eq!(run(folder.path(), &worker).await.exit, Exit::Status(0));
    assert_eq!(output(folder.path()), "Cpus_allowed_list:\t0\n77\n99\n");
}

#[tokio::test]
async fn a_worker_runs_as_its_user_and_writes_as_its_user() {
    if !is_root("running as another user") {
        return;
    }
    let folder = Folder::new();
    let mut worker = script(folder.path(), "id -u; id -g; id -G; cat /proc/self/status | grep CapEff");
    worker.directory = "/".into();
    worker.credentials = Some(Credentials { uid: 65_534, gid: 65_534, groups: vec![65_534, 12] });
    assert_eq!(run(folder.path(), &worker).await.exit, Exit::Status(0));
    assert_eq!(output(folder.path()), "65534\n65534\n65534 12\nCapEff:\t0000000000000000\n");

    // The folder is root's, and its other files are out of reach too.
    let folder = Folder::new();
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).expect("set");
    worker.output = Some(folder.path().join("out.txt"));
    let mut handle = launch(folder.path(), &worker);
    let ended = end(&mut handle).await;
    let reason = refusal(ended.exit);
    assert!(reason.contains("Permission denied"), "{reason}");

    let (folder, theirs) = (Folder::new(), Folder::new());
    std::os::unix::fs::chown(theirs.path(), Some(65_534), Some(65_534)).expect("given away");
    worker.output = Some(theirs.path().join("out.txt"));
    assert_eq!(run(folder.path(), &worker).await.exit, Exit::Status(0));
    let metadata = fs::metadata(theirs.path().join("out.txt")).expect("written");
    assert_eq!(std::os::unix::fs::MetadataExt::uid(&metadata), 65_534);

    // Its supervisor's death kills it too, although it changed its user.
    let folder = Folder::new();
    let mark = unique();
    let mut sleeper = worker.clone();
    sleeper.output = None;
    sleeper.arguments = vec!["sleep".to_owned(), mark.clone()];
    let (_handle, _) = start(folder.path(), &sleeper).await;
    kill(supervisor_pid(&folder), Signal::SIGKILL).expect("killed");
    until("it is dead", || sleepers(&mark).is_empty()).await;
}

#[tokio::test]
async fn another_user_than_its_own_is_refused_without_root() {
    if nix::unistd::geteuid().is_root() {
        eprintln!("left out, as it needs an ordinary user: changing the user without the right to");
        return;
    }
    let folder = Folder::new();
    let mut worker = worker(folder.path(), &["true"]);
    worker.credentials = Some(Credentials { uid: 1, gid: 1, groups: Vec::new() });
    let ended = run(folder.path(), &worker).await;
    assert!(matches!(&ended.exit, Exit::NotStarted(reason) if reason.contains("cannot become user 1")), "{ended:?}");
    assert!(ended.node_fault);
}

#[tokio::test]
async fn a_full_disk_costs_output_and_nothing_else() {
    if !is_root("a disk that is full") {
        return;
    }
    let folder = Folder::new();
    let flags = nix::mount::MsFlags::empty();
    if nix::mount::mount(Some("tmpfs"), folder.path(), Some("tmpfs"), flags, Some("size=64k")).is_err() {
        eprintln!("left out, as it needs the right to mount: a disk that is full");
        return;
    }
    let ended = run(folder.path(), &script(folder.path(), "head -c 300000 /dev/zero; echo done >&2; exit 8")).await;
    let found = find(folder.path()).expect("found");
    // The supervisor leaves a moment after it has told the end.
    until("it has left", || nix::mount::umount(folder.path()).is_ok()).await;
    assert_eq!(ended.exit, Exit::Status(8));
    assert!(ended.lost_output_bytes > 200_000, "{ended:?}");
    assert_eq!(found, Found::Ended(ended), "the end was written although the disk is full");
}

#[tokio::test]
async fn nonsense_on_the_socket_does_no_harm() {
    let folder = Folder::new();
    let (mut handle, _) = start(folder.path(), &worker(folder.path(), &["sleep", &unique()])).await;
    for nonsense in [&b"{\"explode\":1}\n"[..], &[b'x'; 100_000], b"\xff\xfe\n"] {
        use std::io::{Read, Write};
        let mut stream =
            std::os::unix::net::UnixStream::connect(folder.path().join("control.sock")).expect("connected");
        let _ = stream.write_all(nonsense);
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer);
        assert!(answer.starts_with(b"{\"running\""), "a greeting, then the connection is closed");
    }
    handle.send(&Command::Kill).await.expect("sent");
    assert_eq!(end(&mut handle).await.exit, Exit::Signal(9));
}

/// Counts in a file, ten times a hundred milliseconds, in a process of its own session.
const COUNTS: &str = "setsid sh -c 'while :; do echo >> count; sleep 0.01; done' & wait";

fn counted(folder: &Folder) -> usize {
    fs::read(folder.path().join("count")).map_or(0, |bytes| bytes.len())
}

async fn paused(handle: &mut Handle, expected: bool) {
    assert!(matches!(next(handle).await, Status::Running { paused, .. } if paused == expected));
}

#[tokio::test]
async fn a_paused_worker_stands_still_with_all_that_descends_from_it_and_goes_on() {
    let folder = Folder::new();
    let (mut handle, _) = start(folder.path(), &script(folder.path(), COUNTS)).await;
    until("it counts", || counted(&folder) > 3).await;
    handle.send(&Command::Pause).await.expect("sent");
    paused(&mut handle, true).await;
    let before = counted(&folder);
    // A connection that breaks changes nothing, and the next learns of it.
    drop(handle);
    tokio::time::sleep(std::time::Duration::from_millis(200)).await;
    assert_eq!(counted(&folder), before);
    let mut handle = Handle::connect(folder.path()).expect("a connection");
    paused(&mut handle, true).await;
    handle.send(&Command::Pause).await.expect("sent");
    handle.send(&Command::Resume).await.expect("sent");
    paused(&mut handle, false).await;
    until("it goes on", || counted(&folder) > before + 3).await;

    handle.send(&Command::Pause).await.expect("sent");
    paused(&mut handle, true).await;
    let stop = StopPlan { checkpoint: None, checkpoint_grace_ms: 0, grace_ms: 600_000 };
    handle.send(&Command::Stop(stop)).await.expect("sent");
    let ended = end(&mut handle).await;
    assert_eq!((ended.exit, ended.cause), (Exit::Signal(9), Some(Cause::Stop)), "it is not asked first");
}

#[tokio::test]
async fn a_paused_worker_dies_with_its_lease() {
    let folder = Folder::new();
    let mut worker = script(folder.path(), COUNTS);
    worker.lease_until_ms = boot_now_ms() + 1_500;
    let (mut handle, _) = start(folder.path(), &worker).await;
    until("it counts", || counted(&folder) > 0).await;
    handle.send(&Command::Pause).await.expect("sent");
    let ended = end(&mut handle).await;
    assert_eq!((ended.exit, ended.cause), (Exit::Signal(9), Some(Cause::Lease)));
}

#[test]
fn of_a_worker_whose_folder_was_never_made_nothing_is_left() {
    let folder = Folder::new();
    let ended = clean_up(&folder.path().join("0")).expect("there is nothing to clean up");
    assert!(matches!(ended.exit, Exit::NotStarted(_)) && ended.node_fault, "{ended:?}");
    assert!(!folder.path().join("0").exists());
}
