//! A machine of a test's own: its folders, the processes that belong to it, and commands run there as a user would.

use std::cell::RefCell;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

use crate::http::{self, Answer};

/// The command under test.
pub const BINARY: &str = env!("CARGO_BIN_EXE_offtake");

/// How long anything that should come about is waited for.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// The root of the repository, where the examples are.
pub fn repository() -> &'static Path {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2);
    root.expect("the crate lies two folders below the root")
}

/// Whether the test may make namespaces and mounts.
pub fn is_root() -> bool {
    nix::unistd::Uid::effective().is_root()
}

/// Asks until there is an answer.
#[track_caller]
pub fn eventually<T>(what: &str, ask: impl FnMut() -> Option<T>) -> T {
    within(PATIENCE, what, ask)
}

/// Asks until there is an answer, for so long.
#[track_caller]
pub fn within<T>(patience: Duration, what: &str, mut ask: impl FnMut() -> Option<T>) -> T {
    let begun = Instant::now();
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(begun.elapsed() < patience, "after {patience:?} still not: {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// A folder of a test's own, with all that runs out of it. Nothing of it is left when the test ends, however it ends.
pub struct Host {
    /// Short, because the names of sockets must be.
    folder: PathBuf,
    /// What this test has started and nobody has waited for.
    children: RefCell<Vec<Child>>,
}

impl Host {
    pub fn new(name: &str) -> Self {
        let folder = std::env::temp_dir().join(format!("offtake-live-{}-{name}", std::process::id()));
        for below in ["home", "run", "work"] {
            std::fs::create_dir_all(folder.join(below)).expect("the temporary folder can be written");
        }
        Self { folder, children: RefCell::default() }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// A file in the folder where commands run.
    pub fn work(&self, name: &str) -> PathBuf {
        self.folder.join("work").join(name)
    }

    pub fn write(&self, name: &str, content: impl AsRef<[u8]>) {
        std::fs::write(self.work(name), content).expect("the folder can be written");
    }

    /// The text of a file in the folder where commands run; empty where it is not there yet.
    pub fn text(&self, name: &str) -> String {
        std::fs::read_to_string(self.work(name)).unwrap_or_default()
    }

    /// A command as it runs on this machine.
    pub fn command(&self, program: &str, arguments: &[&str]) -> Command {
        let mut command = Command::new(program);
        command.args(arguments).current_dir(self.path("work")).stdin(Stdio::null());
        command.env_clear().env("PATH", std::env::var_os("PATH").unwrap_or_default());
        command.env("HOME", self.path("home")).env("XDG_RUNTIME_DIR", self.path("run")).env("LANG", "C.UTF-8");
        command
    }

    /// Runs `offtake` with words that hold no spaces.
    pub fn offtake(&self, arguments: &str) -> Ran {
        self.offtake_with(&arguments.split_whitespace().collect::<Vec<_>>())
    }

    pub fn offtake_with(&self, arguments: &[&str]) -> Ran {
        Ran::of(&mut self.command(BINARY, arguments))
    }

    /// Starts what goes on until the test ends.
    pub fn start(&self, command: &mut Command) -> Pid {
        let child = command.spawn().expect("the command can be started");
        let pid = pid_of(&child);
        self.children.borrow_mut().push(child);
        pid
    }

    /// Starts a server, and waits until it is ready.
    pub fn up(&self, arguments: &str) -> Server<'_> {
        self.up_by(&mut self.command(BINARY, &[]), arguments)
    }

    /// Starts a server by a command that takes the words of `offtake`.
    pub fn up_by(&self, command: &mut Command, arguments: &str) -> Server<'_> {
        let (ready, log) = (self.path("up.json"), self.path("up.log"));
        let _ = std::fs::remove_file(&ready);
        let file = |path: &Path| {
            let mut options = std::fs::File::options();
            options.create(true).append(true).open(path).expect("the folder can be written")
        };
        let data = self.path("data").display().to_string();
        command.args(["up", "--json", "--data", &data]);
        if !arguments.contains("--listen") {
            command.args(["--listen", "127.0.0.1:0"]);
        }
        command.args(arguments.split_whitespace()).stdout(file(&ready)).stderr(file(&log));
        let pid = self.start(command);
        let up = eventually("the server is ready", || {
            assert!(self.is_alive(pid), "the server ended: {}", std::fs::read_to_string(&log).unwrap_or_default());
            serde_json::from_str(&std::fs::read_to_string(&ready).ok()?).ok()
        });
        Server { host: self, pid, up }
    }

    /// Whether a process that this test started still runs.
    pub fn is_alive(&self, pid: Pid) -> bool {
        let mut children = self.children.borrow_mut();
        let child = children.iter_mut().find(|child| pid_of(child) == pid);
        child.is_some_and(|child| matches!(child.try_wait(), Ok(None)))
    }

    /// Sends a signal to a process that this test started, and waits for its end.
    pub fn end(&self, pid: Pid, signal: Signal) -> Option<i32> {
        let found = {
            let mut children = self.children.borrow_mut();
            let place = children.iter().position(|child| pid_of(child) == pid);
            place.map(|place| children.remove(place))
        };
        let mut child = found?;
        let _ = kill(pid, signal);
        child.wait().ok().and_then(|status| status.code())
    }

    /// Processes that belong to this machine: its folder is in their words or in their surroundings.
    pub fn processes(&self) -> Vec<Process> {
        let marker = self.folder.display().to_string();
        processes(&marker)
    }

    /// The name of the only node.
    pub fn node(&self) -> String {
        let nodes = self.offtake("nodes --json").succeeds().json();
        nodes[0]["name"].as_str().expect("a node has a name").to_owned()
    }

    /// The jobs, all of them, the youngest first.
    pub fn jobs(&self) -> Vec<Value> {
        let jobs = self.offtake("jobs --all --json").succeeds().json();
        jobs.as_array().expect("jobs are a list").clone()
    }

    pub fn job(&self, id: u64) -> Value {
        self.offtake(&format!("job {id} --json")).succeeds().json()
    }

    pub fn state(&self, id: u64) -> String {
        self.job(id)["job"]["state"].as_str().expect("a job has a state").to_owned()
    }

    /// Waits until a job is in one of these states.
    #[track_caller]
    pub fn awaits(&self, id: u64, states: &[&str]) -> Value {
        let mut last = Value::Null;
        let found = std::panic::Location::caller();
        let begun = Instant::now();
        loop {
            let job = self.job(id);
            if job["job"]["state"].as_str().is_some_and(|state| states.contains(&state)) {
                return job;
            }
            assert!(begun.elapsed() < PATIENCE, "{found}: job {id} is not {states:?}: {last:#}");
            last = job;
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Submits, and gives the job's identity.
    #[track_caller]
    pub fn submit(&self, arguments: &str) -> u64 {
        let ran = self.offtake(&format!("submit --json {arguments}")).succeeds();
        ran.json()["id"].as_u64().expect("what was submitted has an id")
    }

    /// All facts of the journal, as the server tells them.
    pub fn events(&self) -> Vec<Value> {
        let told = self.offtake("events --after 0 --json").succeeds().stdout;
        told.lines().map(|line| serde_json::from_str(line).expect("each line is an event")).collect()
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        let mut children = std::mem::take(&mut *self.children.borrow_mut());
        for child in &mut children {
            let _ = child.kill();
            let _ = child.wait();
        }
        // Supervisors end their workers when they are told to; nobody is there to tell them now.
        for _ in 0..10 {
            let left = self.processes();
            if left.is_empty() {
                break;
            }
            for process in left {
                let _ = kill(process.pid, Signal::SIGKILL);
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        if std::thread::panicking() {
            eprintln!("what is left to look at lies in {}", self.folder.display());
        } else {
            let _ = std::fs::remove_dir_all(&self.folder);
        }
    }
}

/// A server that is ready.
pub struct Server<'a> {
    pub host: &'a Host,
    pub pid: Pid,
    /// What it said of itself.
    pub up: Value,
}

impl Server<'_> {
    pub fn socket(&self) -> &str {
        self.up["socket"].as_str().expect("a server has a socket")
    }

    /// The operator's token.
    pub fn token(&self) -> String {
        let file = self.up["token_file"].as_str().expect("it says where its token is");
        std::fs::read_to_string(file).expect("the token can be read").trim().to_owned()
    }

    /// Asks over the socket, as the user who runs the test.
    pub fn ask(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Answer {
        http::ask(self.socket(), method, path, headers, body).expect("the server answers")
    }

    pub fn get(&self, path: &str) -> Answer {
        self.ask("GET", path, &[], b"")
    }

    pub fn post(&self, path: &str, body: &Value) -> Answer {
        self.ask("POST", path, &[], body.to_string().as_bytes())
    }

    /// Ends it without any warning.
    pub fn kill(self) {
        self.host.end(self.pid, Signal::SIGKILL);
    }

    /// Ends it in good order.
    pub fn stop(self) {
        let code = self.host.end(self.pid, Signal::SIGTERM);
        assert_eq!(code, Some(0), "a server that is told to end does so");
    }
}

/// What a run of the command left.
#[derive(Debug)]
pub struct Ran {
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

impl Ran {
    pub fn of(command: &mut Command) -> Self {
        let output = command.output().expect("the command can be started");
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("the command writes UTF-8");
        Self { code: output.status.code(), stdout: text(output.stdout), stderr: text(output.stderr) }
    }

    /// The run, which must have gone well.
    #[track_caller]
    pub fn succeeds(self) -> Self {
        assert_eq!(self.code, Some(0), "{}{}", self.stdout, self.stderr);
        self
    }

    /// What it says, refused as bad input.
    #[track_caller]
    pub fn refused(self) -> String {
        assert_eq!((self.code, self.stdout.as_str()), (Some(2), ""), "{}", self.stderr);
        self.stderr
    }

    #[track_caller]
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.stdout).expect("the command prints JSON and nothing else")
    }
}

/// A process of the machine.
#[derive(Clone, Debug)]
pub struct Process {
    pub pid: Pid,
    /// Its words, by spaces.
    pub words: String,
    /// Its surroundings, line by line.
    pub environment: String,
    /// Where it works.
    pub directory: PathBuf,
}

impl Process {
    /// The supervisor of a worker, which works in the worker's folder.
    pub fn is_supervisor(&self) -> bool {
        self.words.contains(" supervise ") && !self.is_launcher()
    }

    /// The process from which an agent has its supervisors forked; they have its words.
    pub fn is_launcher(&self) -> bool {
        self.words.contains(" supervise ") && self.directory == Path::new("/")
    }

    /// The value of a variable of its surroundings.
    pub fn variable(&self, name: &str) -> Option<&str> {
        self.environment.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix('='))
    }
}

/// All processes that name something in their words or in their surroundings. Those that have ended and are not yet
/// reaped name nothing.
pub fn processes(marker: &str) -> Vec<Process> {
    let own = Pid::this();
    let entries = std::fs::read_dir("/proc").expect("/proc is there").flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).map(Pid::from_raw);
    let text = |pid: Pid, file: &str, between: &str| {
        let bytes = std::fs::read(format!("/proc/{pid}/{file}")).unwrap_or_default();
        String::from_utf8_lossy(&bytes).replace('\0', between)
    };
    let found = pids.filter(|pid| *pid != own).map(|pid| Process {
        pid,
        words: text(pid, "cmdline", " "),
        environment: text(pid, "environ", "\n"),
        directory: std::fs::read_link(format!("/proc/{pid}/cwd")).unwrap_or_default(),
    });
    found.filter(|process| process.words.contains(marker) || process.environment.contains(marker)).collect()
}

fn pid_of(child: &Child) -> Pid {
    Pid::from_raw(i32::try_from(child.id()).expect("process numbers are small"))
}
