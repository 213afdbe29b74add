//! Workers with a real supervisor, for tests.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use nix::unistd::geteuid;
use offtake_agent::supervisor::{
    Command, Ended, Handle, Launcher, LogLimits, Status, StopPlan, WorkerLaunch, boot_now_ms, log_read,
};
use offtake_protocol::agent::Stream;

/// How long anything may take that is waited for.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// The program that supervises, built as an example of this package.
pub fn supervisor_program() -> PathBuf {
    let test = std::env::current_exe().expect("the test's own program");
    let folder = test.ancestors().nth(2).expect("the folder of the profile");
    let program = folder.join("examples").join("supervise");
    assert!(program.exists(), "{} is missing: cargo build -p offtake-agent --examples", program.display());
    program
}

/// A time to sleep, of some weeks, that no other process sleeps for: by it, processes are found.
pub fn unique() -> String {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    format!("{}.{}", 1_000_000 + std::process::id(), 1_000 + NEXT.fetch_add(1, Ordering::Relaxed))
}

/// Processes that live and sleep for this time.
pub fn sleepers(time: &str) -> Vec<i32> {
    let wanted = format!("sleep\0{time}\0");
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc").expect("/proc").flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<i32>().ok()) else { continue };
        // A process that is gone or dead has no arguments.
        if fs::read(entry.path().join("cmdline")).is_ok_and(|arguments| arguments == wanted.as_bytes()) {
            found.push(pid);
        }
    }
    found
}

/// Waits until something holds.
pub async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < deadline, "waited in vain until {what}");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

/// A folder of its own, which goes with it.
pub struct Folder(PathBuf);

impl Folder {
    pub fn new() -> Self {
        let path = std::env::temp_dir().join(format!("offtake-it-{}", unique()));
        fs::create_dir_all(&path).expect("a folder for the test");
        Self(path)
    }

    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// A worker that runs a program in the folder, with output that the node keeps and a lease of ten minutes.
pub fn worker(folder: &Path, arguments: &[&str]) -> WorkerLaunch {
    WorkerLaunch {
        arguments: arguments.iter().map(|argument| (*argument).to_owned()).collect(),
        environment: BTreeMap::from([("PATH".to_owned(), "/usr/bin:/bin".to_owned())]),
        directory: folder.to_path_buf(),
        credentials: None,
        output: None,
        error: None,
        append: false,
        umask: 0o022,
        cpus: Vec::new(),
        group: None,
        limits: Vec::new(),
        logs: LogLimits::default(),
        stop: StopPlan { checkpoint: None, checkpoint_grace_ms: 0, grace_ms: 5_000 },
        lease_until_ms: boot_now_ms() + 600_000,
    }
}

/// The same for a shell script.
pub fn script(folder: &Path, text: &str) -> WorkerLaunch {
    worker(folder, &["sh", "-c", text])
}

/// Starts a supervisor. Its launcher ends at once.
pub fn launch(folder: &Path, worker: &WorkerLaunch) -> Handle {
    Launcher::new(supervisor_program(), folder.to_path_buf()).launch(folder, worker).expect("a supervisor")
}

/// Starts a supervisor, and waits until it has prepared.
pub async fn prepare(folder: &Path, worker: &WorkerLaunch) -> Handle {
    let mut handle = launch(folder, worker);
    assert_eq!(next(&mut handle).await, Status::Prepared);
    handle
}

/// Starts a supervisor and its worker; gives the worker's process.
pub async fn start(folder: &Path, worker: &WorkerLaunch) -> (Handle, i32) {
    let mut handle = prepare(folder, worker).await;
    handle.send(&Command::Go).await.expect("sent");
    match next(&mut handle).await {
        Status::Running { pid, .. } => (handle, pid),
        other => unreachable!("it does not run but is {other:?}"),
    }
}

pub async fn next(handle: &mut Handle) -> Status {
    let status = tokio::time::timeout(PATIENCE, handle.next()).await.expect("a status in time");
    status.expect("a whole connection").expect("a supervisor that lives")
}

/// Waits for the end.
pub async fn end(handle: &mut Handle) -> Ended {
    loop {
        if let Status::Ended(ended) = next(handle).await {
            return ended;
        }
    }
}

/// Runs a worker from its beginning to its end.
pub async fn run(folder: &Path, worker: &WorkerLaunch) -> Ended {
    let mut handle = launch(folder, worker);
    handle.send(&Command::Go).await.expect("sent");
    end(&mut handle).await
}

/// Output that the node keeps.
pub fn output(folder: &Path) -> String {
    let mut bytes = Vec::new();
    loop {
        let offset = u64::try_from(bytes.len()).expect("fits");
        let chunk = log_read(folder, Stream::Output, offset, 1 << 20).expect("a log");
        if chunk.bytes.is_empty() {
            return String::from_utf8(bytes).expect("text");
        }
        assert_eq!(chunk.offset, offset, "nothing is missing");
        bytes.extend(chunk.bytes);
    }
}

/// Whether this is root; says what is left out if not.
pub fn is_root(what: &str) -> bool {
    let root = geteuid().is_root();
    if !root {
        eprintln!("left out, as it needs root: {what}");
    }
    root
}
