//! Server, agent, supervisors and workers are killed at random under load; and the store is full or read-only.
//!
//! `OFFTAKE_CHAOS_SEED` repeats the choices of a run, `OFFTAKE_CHAOS_SECONDS` makes it longer.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};

use crate::host::{BINARY, Host, Server, eventually, is_root, within};
use crate::http;

/// A marker in the surroundings of all work, and of nothing else.
const MARKER: &str = "OFFTAKE_TEST_WORK=chaos";

/// Choices that a seed repeats: SplitMix64.
struct Choices(u64);

impl Choices {
    fn next(&mut self, below: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (mixed ^ (mixed >> 31)) % below
    }
}

/// An agent in a process of its own.
struct Agent<'a> {
    host: &'a Host,
    socket: String,
    pid: Pid,
}

impl<'a> Agent<'a> {
    fn join(server: &Server<'a>) -> Self {
        let token = server.host.offtake("token join").succeeds().stdout.trim().to_owned();
        let mut agent = Self { host: server.host, socket: server.socket().to_owned(), pid: Pid::from_raw(0) };
        agent.start(&["--join", &token]);
        eventually("the agent has joined", || {
            let nodes = agent.host.offtake("nodes --json").succeeds().json();
            (nodes[0]["state"] == "idle").then_some(())
        });
        agent
    }

    fn start(&mut self, more: &[&str]) {
        let (url, data) = (format!("unix:{}", self.socket), self.host.path("agent").display().to_string());
        let mut words = vec!["agent", "--server", &url, "--data", &data, "--name", "n1"];
        words.extend(more);
        let log = std::fs::File::options().create(true).append(true).open(self.host.path("agent.log"));
        let mut command = self.host.command(BINARY, &words);
        command.stderr(log.expect("the folder can be written"));
        self.pid = self.host.start(&mut command);
    }

    fn kill(&self) {
        self.host.end(self.pid, Signal::SIGKILL);
    }
}

/// A client that submits one job after another, each under a key of its own, and asks again until it is answered.
fn client(number: u64, socket: &str, directory: &str, stop: &AtomicBool, acknowledged: &Mutex<BTreeMap<String, u64>>) {
    for count in 0.. {
        if stop.load(Relaxed) {
            return;
        }
        let key = format!("c{number}-{count}");
        let work = format!("echo \"$OFFTAKE_JOB_ID $OFFTAKE_ATTEMPT\" >> started; sleep 0.{:02}", count * 7 % 40);
        let (name, value) = MARKER.split_once('=').expect("it is a variable");
        let job = json!({
            "name": key, "command": ["sh", "-c", work], "directory": directory, "restarts": 20, "grace": "1s",
            "environment": { name: value }, "gangs": [{ "cpu_milli": 100 }],
        });
        let body = job.to_string();
        // Whoever has begun to ask goes on until there is an answer: only then is it known whether the job is there.
        let answer = loop {
            let headers = [("idempotency-key", key.as_str())];
            match http::ask(socket, "POST", "/v1/jobs", &headers, body.as_bytes()) {
                Ok(answer) if answer.status == 201 || answer.status == 200 => break answer,
                Ok(answer) => assert!([429, 503].contains(&answer.status), "{}", answer.body),
                Err(_) => {}
            }
            std::thread::sleep(Duration::from_millis(30));
        };
        let id = answer.json()["id"].as_u64().expect("a job has an id");
        acknowledged.lock().expect("no client panics here").insert(key, id);
        std::thread::sleep(Duration::from_millis(100));
    }
}

#[test]
fn nothing_acknowledged_is_lost_and_nothing_runs_twice() {
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    let now =
        std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).map_or(0, |now| now.as_micros() as u64);
    let seed = number("OFFTAKE_CHAOS_SEED").unwrap_or(now);
    let seconds = number("OFFTAKE_CHAOS_SECONDS").unwrap_or(20);
    println!("OFFTAKE_CHAOS_SEED={seed} OFFTAKE_CHAOS_SECONDS={seconds}");
    let mut choices = Choices(seed);

    let host = Host::new("chaos");
    let up = || host.up("--no-agent --lease 3s");
    let mut server = Some(up());
    let mut agent = Agent::join(server.as_ref().expect("it was started"));
    let (stop, acknowledged) = (Arc::new(AtomicBool::new(false)), Arc::new(Mutex::new(BTreeMap::new())));
    let directory = host.path("work").display().to_string();
    let clients: Vec<_> = (0..3)
        .map(|number| {
            let (stop, acknowledged) = (Arc::clone(&stop), Arc::clone(&acknowledged));
            let (socket, directory) = (agent.socket.clone(), directory.clone());
            std::thread::spawn(move || client(number, &socket, &directory, &stop, &acknowledged))
        })
        .collect();

    let mut killed = BTreeMap::<&str, u32>::new();
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_secs(seconds) {
        std::thread::sleep(Duration::from_millis(100 + choices.next(400)));
        let what = match choices.next(20) {
            0..3 => {
                server.take().expect("it was started").kill();
                std::thread::sleep(Duration::from_millis(choices.next(300)));
                server = Some(up());
                "server"
            }
            3..7 => {
                agent.kill();
                std::thread::sleep(Duration::from_millis(choices.next(600)));
                agent.start(&[]);
                "agent"
            }
            7 => {
                agent.kill();
                server.take().expect("it was started").kill();
                server = Some(up());
                agent.start(&[]);
                "both"
            }
            other => {
                let wants_supervisor = other < 13;
                let mut found = host.processes();
                found.retain(|process| match wants_supervisor {
                    true => process.is_supervisor() || process.is_launcher(),
                    false => process.environment.lines().any(|line| line == MARKER),
                });
                let Some(process) =
                    usize::try_from(choices.next(found.len().max(1) as u64)).ok().and_then(|at| found.get(at))
                else {
                    continue;
                };
                let _ = kill(process.pid, Signal::SIGKILL);
                if wants_supervisor { "supervisor" } else { "worker" }
            }
        };
        *killed.entry(what).or_default() += 1;
    }
    stop.store(true, Relaxed);
    for client in clients {
        client.join().expect("every job was answered in the end");
    }
    let server = server.expect("it was started");
    assert!(host.is_alive(agent.pid), "the agent ended by itself: see agent.log");
    within(Duration::from_secs(60), "all jobs are over", || {
        host.offtake("jobs --json").succeeds().json().as_array().is_some_and(Vec::is_empty).then_some(())
    });

    let acknowledged = acknowledged.lock().expect("no client panics here").clone();
    println!("{} jobs acknowledged; killed: {killed:?}", acknowledged.len());
    check(&host, &acknowledged);
    // A supervisor that was killed leaves its worker to the agent: nothing of it may stay.
    within(Duration::from_secs(15), "no work is left", || {
        let left = host.processes();
        left.iter().all(|process| !process.environment.lines().any(|line| line == MARKER)).then_some(())
    });
    let nodes = host.offtake("nodes --json").succeeds().json();
    assert_eq!((&nodes[0]["cpu_milli_in_use"], &nodes[0]["jobs"]), (&json!(0), &json!([])), "{nodes:#}");
    agent.kill();
    server.stop();
    host.offtake(&format!("journal verify --data {}", host.path("data").display())).succeeds();
}

/// What the journal says of a job.
#[derive(Debug, Default)]
struct Told {
    submitted: u32,
    placed: u64,
    ended: Vec<String>,
    /// Attempts whose work ended with status 0.
    ended_well: Vec<u64>,
}

/// Holds what was answered, what the journal says and what the work itself wrote against each other.
#[track_caller]
fn check(host: &Host, acknowledged: &BTreeMap<String, u64>) {
    let mut jobs = BTreeMap::<u64, Told>::new();
    let events = host.events();
    let sequences: Vec<u64> = events.iter().filter_map(|event| event["sequence"].as_u64()).collect();
    assert_eq!(sequences, (1..=events.len() as u64).collect::<Vec<_>>(), "the journal has no gap");
    for event in &events {
        let fact = &event["fact"]["event"];
        let engine = fact["engine"].as_object().and_then(|engine| engine.iter().next());
        let Some((kind, body)) = engine.or_else(|| fact.as_object()?.iter().next()) else { continue };
        let Some(job) = body["job"].as_u64() else { continue };
        let told = jobs.entry(job).or_default();
        match kind.as_str() {
            "job_submitted" => told.submitted += 1,
            "job_placed" => told.placed += 1,
            "job_finished" | "job_failed" | "job_cancelled" | "job_rejected" => told.ended.push(kind.clone()),
            "attempt_ended" if body["exit_code"] == 0 => told.ended_well.extend(body["attempt"].as_u64()),
            _ => {}
        }
    }
    let listed: BTreeMap<u64, Value> =
        host.jobs().into_iter().map(|job| (job["id"].as_u64().expect("a job has an id"), job)).collect();
    assert_eq!(listed.len(), acknowledged.len(), "a job is there twice, or one that nobody knows of");
    for (key, id) in acknowledged {
        let job = listed.get(id).unwrap_or(&Value::Null);
        assert_eq!(job["name"], json!(key), "{key} was acknowledged as {id} and is not there");
        let told = &jobs[id];
        assert_eq!((told.submitted, told.ended.len()), (1, 1), "{key}: {told:?}");
        let state = job["state"].as_str().unwrap_or_default();
        assert_eq!(told.ended[0], format!("job_{state}"), "{key}: {told:?}");
        // Work that ended well ends a job, so there is one such attempt and it is the last.
        let expected = if state == "finished" { vec![told.placed] } else { Vec::new() };
        assert_eq!(told.ended_well, expected, "{key}: {told:?} {job:#}");
    }
    let mut started = BTreeMap::<(u64, u64), u32>::new();
    for line in host.text("started").lines() {
        let (job, attempt) = line.split_once(' ').expect("a line has a job and an attempt");
        let number = |text: &str| text.parse::<u64>().expect("they are numbers");
        *started.entry((number(job), number(attempt))).or_default() += 1;
    }
    for ((job, attempt), times) in &started {
        assert_eq!(*times, 1, "attempt {attempt} of job {job} ran {times} times");
        let placed = jobs.get(job).map_or(0, |told| told.placed);
        assert!(*attempt <= placed, "attempt {attempt} of job {job} ran, and the journal knows of {placed}");
    }
    for (job, told) in &jobs {
        for attempt in &told.ended_well {
            assert!(started.contains_key(&(*job, *attempt)), "attempt {attempt} of job {job} never ran: {told:?}");
        }
    }
}

/// The work is ended by whoever is still there: the agent, or the supervisor alone. It did not fail, and starts again.
#[test]
fn a_server_that_is_away_for_longer_than_a_lease_fails_no_job() {
    // It saves its work when it is asked to, and ends with status 0: that is not the end of the job.
    let work = "trap 'exit 0' USR1 TERM; echo >> starts; until test -e finish; do sleep 0.05; done";
    for with_agent in [true, false] {
        let host = Host::new(if with_agent { "away-one" } else { "away-two" });
        host.write("job.toml", format!("command = [\"sh\", \"-c\", \"{work}\"]\ncheckpoint_signal = \"USR1\"\n"));
        let arguments = if with_agent { "--lease 2s" } else { "--lease 2s --no-agent" };
        let server = host.up(arguments);
        let _agent = (!with_agent).then(|| Agent::join(&server));
        let id = host.submit("job.toml");
        host.awaits(id, &["running"]);
        eventually("it runs", || (host.text("starts").lines().count() == 1).then_some(()));
        server.kill();
        eventually("nothing of it runs", || {
            host.processes().iter().all(|process| !process.is_supervisor()).then_some(())
        });
        let server = host.up(arguments);
        eventually("it runs again", || {
            let job = host.job(id);
            assert!(job["job"]["state"] != "failed" && job["job"]["state"] != "finished", "{job:#}");
            (job["job"]["attempts"] == 2 && host.text("starts").lines().count() == 2).then_some(())
        });
        host.write("finish", "");
        host.awaits(id, &["finished"]);
        server.stop();
    }
}

/// A small disk of the test's own.
struct Disk(std::path::PathBuf);

impl Disk {
    fn new(at: std::path::PathBuf, size: &str) -> Self {
        std::fs::create_dir(&at).expect("the folder can be written");
        mount(Some("tmpfs"), &at, Some("tmpfs"), MsFlags::empty(), Some(size)).expect("root may mount");
        Self(at)
    }

    fn fill(&self) {
        use std::io::Write;
        let mut file = std::fs::File::create(self.0.join("filler")).expect("there is room for a name");
        for size in [1 << 16, 1 << 12, 1] {
            while file.write_all(&vec![0; size]).is_ok() {}
        }
    }

    fn empty(&self) {
        std::fs::remove_file(self.0.join("filler")).expect("it was filled");
    }

    fn set_read_only(&self, read_only: bool) {
        let flags = if read_only { MsFlags::MS_RDONLY } else { MsFlags::empty() };
        mount(None::<&str>, &self.0, None::<&str>, MsFlags::MS_REMOUNT | flags, None::<&str>).expect("root may mount");
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = umount2(&self.0, MntFlags::MNT_DETACH);
    }
}

/// Submits one job under a key: its identity, or what the server says instead.
fn submit(server: &Server<'_>, key: &str, command: &str) -> Result<u64, String> {
    let job = json!({ "name": key, "command": ["sh", "-c", command], "directory": server.host.path("work"),
        "grace": "1s", "gangs": [{ "cpu_milli": 100 }] });
    let answer = server.ask("POST", "/v1/jobs", &[("idempotency-key", key)], job.to_string().as_bytes());
    match answer.status {
        201 | 200 => Ok(answer.json()["id"].as_u64().expect("a job has an id")),
        _ => Err(answer.problem(503)),
    }
}

#[test]
fn a_full_disk_and_a_read_only_one_refuse_writes_and_lose_nothing() {
    if !is_root() {
        println!("left out: a small disk of its own needs root");
        return;
    }
    let host = Host::new("disk");
    let disk = Disk::new(host.path("data"), "size=6m");
    // The socket lies elsewhere: it must be made anew on a disk that cannot be written.
    let arguments = format!("--no-agent --lease 20s --socket {}", host.path("run/server.sock").display());
    let server = host.up(&arguments);
    let agent = Agent::join(&server);
    let mut acknowledged = BTreeMap::new();
    let mut note = |key: &str, id: u64| acknowledged.insert(key.to_owned(), id);
    let beat = "while ! test -e stop; do date >> beats; sleep 0.05; done";
    note("beat", submit(&server, "beat", beat).expect("there is room"));
    eventually("it runs", || (host.text("beats").lines().count() > 2).then_some(()));

    disk.fill();
    let mut count = 0;
    let refused = eventually("a write is refused", || {
        count += 1;
        let key = format!("full-{count}");
        match submit(&server, &key, "true") {
            Ok(id) => {
                note(&key, id);
                None
            }
            Err(detail) => Some(detail),
        }
    });
    assert!(refused.contains("disk") || refused.contains("full") || refused.contains("space"), "{refused}");
    let health = server.get("/v1/health").json();
    assert_eq!(health["status"], "read_only", "{health:#}");
    assert_eq!(host.state(1), "running", "reads go on");
    let beats = host.text("beats").lines().count();
    eventually("work goes on", || (host.text("beats").lines().count() > beats + 5).then_some(()));

    disk.empty();
    let id = eventually("there is room again", || submit(&server, &format!("full-{count}"), "true").ok());
    note(&format!("full-{count}"), id);
    host.awaits(id, &["finished"]);

    // Read-only, as when the file system found an error: it shows how things stand.
    server.kill();
    disk.set_read_only(true);
    let server = host.up(&arguments);
    assert!(server.up["read_only"].as_str().is_some_and(|reason| !reason.is_empty()), "{:#}", server.up);
    assert_eq!(host.state(id), "finished", "reads go on");
    submit(&server, "locked", "true").expect_err("nothing can be written");
    let beats = host.text("beats").lines().count();
    eventually("work goes on", || (host.text("beats").lines().count() > beats + 5).then_some(()));
    disk.set_read_only(false);
    let id = eventually("it can be written again", || submit(&server, "locked", "true").ok());
    note("locked", id);

    host.write("stop", "");
    for id in acknowledged.values() {
        host.awaits(*id, &["finished"]);
    }
    let events = host.events();
    let finished = events.iter().filter(|event| !event["fact"]["event"]["engine"]["job_finished"].is_null()).count();
    assert_eq!(finished, acknowledged.len(), "each ended once");
    agent.kill();
    server.stop();
    host.offtake(&format!("journal verify --data {}", host.path("data").display())).succeeds();
}
