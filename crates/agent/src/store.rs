//! The agent's folder of data.
//!
//! ```text
//! agent.key joined.json seen.json lock    identity, membership, the newest server seen, one agent at a time
//! shims/                                  srun, sbatch and their like
//! tasks/17.1.0/                           a task that the server may still ask for
//!     task.json                           what it is
//!     streams.json                        where its output goes
//!     meters.json signal end.json         energy at its start, the last signal sent, how it ended
//!     script tmp/                         the batch script's text, the task's passing files
//!     0/ 1/ …                             a worker's folder, which is its supervisor's
//! logs/17.1.0/                            what is left of a task that was forgotten: its output
//! ```
//!
//! Nothing here is forced onto the disk but the agent's identity: a supervisor writes down its worker's start durably
//! before the start, in a folder below; what the power takes from us is then found to have been started.

use std::collections::VecDeque;
use std::fs::{self, DirBuilder, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use nix::fcntl::{Flock, FlockArg};
use offtake_protocol::agent::{Edition, TaskId};
use serde::Serialize;
use serde::de::DeserializeOwned;

/// How long and how much output is kept of tasks that were forgotten.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retention {
    /// How long.
    pub age: Duration,
    /// How many bytes in all.
    pub bytes: u64,
}

impl Default for Retention {
    /// A week, and 10 GiB.
    fn default() -> Self {
        Self { age: Duration::from_secs(7 * 24 * 3600), bytes: 10 << 30 }
    }
}

/// The most tasks whose output is kept.
const MOST_LOGS: usize = 100_000;

/// Names of the files of a task.
pub(crate) mod file {
    pub const TASK: &str = "task.json";
    pub const STREAMS: &str = "streams.json";
    pub const METERS: &str = "meters.json";
    pub const SIGNAL: &str = "signal";
    pub const END: &str = "end.json";
    pub const SCRIPT: &str = "script";
    pub const SCRATCH: &str = "tmp";
}

/// The agent's folder of data.
#[derive(Debug)]
pub(crate) struct Store {
    data: PathBuf,
    kept: Mutex<Kept>,
    retention: Retention,
}

/// Keeps other agents out of the folder.
#[derive(Debug)]
pub(crate) struct Lock(#[expect(dead_code, reason = "it is held, not read")] Flock<fs::File>);

/// Output of tasks that were forgotten, the oldest first.
#[derive(Debug, Default)]
struct Kept {
    logs: VecDeque<(SystemTime, PathBuf, u64)>,
    bytes: u64,
}

impl Store {
    /// Opens the folder, or makes it.
    pub fn open(data: &Path, retention: Retention) -> io::Result<(Self, Lock)> {
        make_passage(data)?;
        let data = data.canonicalize()?;
        let lock = OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(data.join("lock"))?;
        let lock = Flock::lock(lock, FlockArg::LockExclusiveNonblock).map_err(|(_, error)| match error {
            nix::errno::Errno::EWOULDBLOCK => io::Error::other("another agent uses it"),
            other => other.into(),
        })?;
        make_passage(&data.join("tasks"))?;
        DirBuilder::new().recursive(true).mode(0o700).create(data.join("logs"))?;
        let store = Self { kept: Mutex::new(found(&data.join("logs"))), data, retention };
        store.sweep();
        Ok((store, Lock(lock)))
    }

    pub fn data(&self) -> &Path {
        &self.data
    }

    pub fn task(&self, id: TaskId) -> PathBuf {
        self.data.join("tasks").join(id.to_string())
    }

    /// Where the output of a task is, whether it was forgotten or not.
    pub fn output(&self, id: TaskId) -> PathBuf {
        let alive = self.task(id);
        if alive.exists() { alive } else { self.data.join("logs").join(id.to_string()) }
    }

    /// The tasks of which there is a folder.
    pub fn tasks(&self) -> io::Result<Vec<TaskId>> {
        let mut all = Vec::new();
        for entry in fs::read_dir(self.data.join("tasks"))? {
            if let Some(id) = entry?.file_name().to_str().and_then(task_id) {
                all.push(id);
            }
        }
        all.sort_unstable();
        Ok(all)
    }

    /// Makes the names by which batch scripts call us.
    pub fn make_shims(&self, exe: &Path) -> io::Result<PathBuf> {
        const SHIMS: [&str; 6] = ["srun", "sbatch", "squeue", "scancel", "sinfo", "scontrol"];
        let folder = self.data.join("shims");
        DirBuilder::new().recursive(true).create(&folder)?;
        fs::set_permissions(&folder, fs::Permissions::from_mode(0o755))?;
        for name in SHIMS {
            let (path, beside) = (folder.join(name), folder.join(format!(".{name}")));
            if fs::read_link(&path).is_ok_and(|target| target == exe) {
                continue;
            }
            match fs::remove_file(&beside) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => std::os::unix::fs::symlink(exe, &beside)?,
            }
            fs::rename(&beside, &path)?;
        }
        Ok(folder)
    }

    /// The newest edition that an earlier run is known to have seen: that of its server, before all its messages.
    pub fn seen(&self) -> Edition {
        let epoch = read(&self.data.join("seen.json")).unwrap_or(0);
        Edition { epoch, version: 0 }
    }

    pub fn write_seen(&self, epoch: u64) -> io::Result<()> {
        crate::identity::write_durably(&self.data.join("seen.json"), epoch.to_string().as_bytes(), 0o600)
    }

    /// Keeps the output of a task, and removes all else of it.
    pub fn forget(&self, id: TaskId) -> io::Result<()> {
        let task = self.task(id);
        let mut bytes = 0;
        for entry in fs::read_dir(&task)? {
            let entry = entry?;
            let (name, path) = (entry.file_name(), entry.path());
            if name == file::STREAMS {
                continue;
            }
            if !entry.file_type()?.is_dir() {
                fs::remove_file(&path)?;
            } else if name == file::SCRATCH {
                fs::remove_dir_all(&path)?;
            } else {
                bytes += strip_worker(&path)?;
            }
        }
        if bytes == 0 && !names_files(&task) {
            return fs::remove_dir_all(&task);
        }
        let kept = self.data.join("logs").join(id.to_string());
        fs::rename(&task, &kept)?;
        let mut all = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        all.bytes += bytes;
        all.logs.push_back((SystemTime::now(), kept, bytes));
        drop(all);
        self.sweep();
        Ok(())
    }

    /// Removes all of a task, as if it had never come.
    pub fn remove(&self, id: TaskId) -> io::Result<()> {
        match fs::remove_dir_all(self.task(id)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    /// Removes output that is too old or too much.
    pub fn sweep(&self) {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        while let Some((since, path, bytes)) = kept.logs.front() {
            let old = since.elapsed().is_ok_and(|age| age > self.retention.age);
            if !old && kept.bytes <= self.retention.bytes && kept.logs.len() <= MOST_LOGS {
                return;
            }
            if let Err(error) = fs::remove_dir_all(path) {
                tracing::warn!(path = %path.display(), %error, "old output cannot be removed");
            }
            let bytes = *bytes;
            kept.bytes = kept.bytes.saturating_sub(bytes);
            kept.logs.pop_front();
        }
    }
}

/// Makes a folder through which workers reach their scripts and scratch folders, and in which they can list nothing.
pub(crate) fn make_passage(path: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o711).create(path)?;
    // Whatever the agent's own mask is.
    fs::set_permissions(path, fs::Permissions::from_mode(0o711))
}

/// Leaves of a worker's folder only its output. Gives its size in bytes.
fn strip_worker(folder: &Path) -> io::Result<u64> {
    let mut bytes = 0;
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let name = entry.file_name();
        let is_output = name
            .to_str()
            .is_some_and(|name| name.ends_with(".log") && (name.starts_with("output.") || name.starts_with("error.")));
        if is_output {
            bytes += entry.metadata()?.len();
        } else {
            fs::remove_file(entry.path())?;
        }
    }
    Ok(bytes)
}

/// Whether the job named files for its output, which can still be read when the node keeps none.
fn names_files(task: &Path) -> bool {
    read::<crate::logs::Streams>(&task.join(file::STREAMS)).is_some_and(|streams| streams.names_files())
}

fn found(logs: &Path) -> Kept {
    let mut kept = Kept::default();
    for entry in fs::read_dir(logs).into_iter().flatten().flatten() {
        let Ok(since) = entry.metadata().and_then(|metadata| metadata.modified()) else { continue };
        let workers = fs::read_dir(entry.path()).into_iter().flatten().flatten();
        let files = workers.filter_map(|worker| fs::read_dir(worker.path()).ok()).flatten().flatten();
        let bytes = files.filter_map(|file| Some(file.metadata().ok()?.len())).sum();
        kept.bytes += bytes;
        kept.logs.push_back((since, entry.path(), bytes));
    }
    kept.logs.make_contiguous().sort_unstable();
    kept
}

fn task_id(name: &str) -> Option<TaskId> {
    let mut parts = name.split('.');
    let id = TaskId {
        job: parts.next()?.parse().ok()?,
        attempt: parts.next()?.parse().ok()?,
        step: parts.next()?.parse().ok()?,
    };
    // Numbers have other spellings, which are not ours.
    (id.to_string() == name).then_some(id)
}

/// Reads a file of the agent's own; none when it is not there, or torn.
pub(crate) fn read<T: DeserializeOwned>(path: &Path) -> Option<T> {
    serde_json::from_slice(&fs::read(path).ok()?).ok()
}

/// Writes a file that is whole or not there, as long as the machine runs.
pub(crate) fn write(path: &Path, content: &impl Serialize) -> io::Result<()> {
    write_bytes(path, &serde_json::to_vec(content)?, 0o600)
}

/// As [`write`], with these bytes and permissions.
pub(crate) fn write_bytes(path: &Path, bytes: &[u8], mode: u32) -> io::Result<()> {
    let beside = path.with_extension("new");
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(mode).open(&beside)?;
    file.write_all(bytes)?;
    // Whatever the agent's own mask is.
    file.set_permissions(fs::Permissions::from_mode(mode))?;
    drop(file);
    fs::rename(&beside, path)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Folder;

    fn id(job: u64) -> TaskId {
        TaskId { job, attempt: 1, step: 0 }
    }

    fn store(folder: &Folder, bytes: u64) -> (Store, Lock) {
        let retention = Retention { bytes, ..Retention::default() };
        Store::open(folder.path(), retention).expect("opened")
    }

    fn task(folder: &Folder, job: u64, output: &str) {
        folder.write(&format!("tasks/{job}.1.0/task.json"), "{}");
        folder.write(&format!("tasks/{job}.1.0/tmp/x"), "");
        folder.write(&format!("tasks/{job}.1.0/0/worker.json"), "the job's token");
        if !output.is_empty() {
            folder.write(&format!("tasks/{job}.1.0/0/output.0.log"), output);
        }
    }

    #[test]
    fn one_agent_at_a_time() {
        let folder = Folder::new("lock");
        let first = store(&folder, 1);
        let second = Store::open(folder.path(), Retention::default()).expect_err("refused");
        assert!(second.to_string().contains("another agent"));
        drop(first);
        store(&folder, 1);
    }

    #[test]
    fn only_the_output_of_a_forgotten_task_is_kept() {
        let folder = Folder::new("forget");
        let (store, _lock) = store(&folder, 1000);
        task(&folder, 7, "hello");
        assert_eq!(store.tasks().expect("readable"), [id(7)]);
        store.forget(id(7)).expect("forgotten");
        assert_eq!(store.tasks().expect("readable"), []);
        let kept = folder.path().join("logs/7.1.0");
        assert_eq!(store.output(id(7)), kept.canonicalize().expect("there"));
        assert_eq!(fs::read_to_string(kept.join("0/output.0.log")).expect("kept"), "hello");
        assert!(!kept.join("0/worker.json").exists() && !kept.join("task.json").exists() && !kept.join("tmp").exists());
    }

    #[test]
    fn a_task_without_output_leaves_nothing() {
        let folder = Folder::new("silent");
        let (store, _lock) = store(&folder, 1000);
        task(&folder, 7, "");
        store.forget(id(7)).expect("forgotten");
        assert!(!folder.path().join("logs/7.1.0").exists());
    }

    #[test]
    fn the_oldest_output_goes_when_there_is_too_much() {
        let folder = Folder::new("retention");
        let (first, lock) = store(&folder, 10);
        for job in [1, 2, 3] {
            task(&folder, job, "12345");
            first.forget(id(job)).expect("forgotten");
        }
        let kept = |job: u64| folder.path().join(format!("logs/{job}.1.0")).exists();
        assert_eq!([1, 2, 3].map(kept), [false, true, true]);
        drop((first, lock));
        let _later = store(&folder, 5);
        assert_eq!([1, 2, 3].map(kept), [false, false, true], "also of an earlier run");
    }

    #[test]
    fn names_that_are_no_tasks_are_left_alone() {
        for name in ["..", "1.2", "1.2.3.4", "01.1.0", "+1.1.0", "x"] {
            assert_eq!(task_id(name), None, "{name}");
        }
        assert_eq!(task_id("17.1.0"), Some(TaskId { job: 17, attempt: 1, step: 0 }));
    }

    #[test]
    fn shims_follow_the_binary() {
        let folder = Folder::new("shims");
        let (store, _lock) = store(&folder, 1);
        store.make_shims(Path::new("/old/offtake")).expect("made");
        let shims = store.make_shims(Path::new("/new/offtake")).expect("made");
        assert_eq!(fs::read_link(shims.join("srun")).expect("a link"), Path::new("/new/offtake"));
    }
}
