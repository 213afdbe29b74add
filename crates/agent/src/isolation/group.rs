//! The control groups of one worker.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde::{Deserialize, Serialize};

/// How long a group may take to become empty when it is removed.
const EMPTYING: Duration = Duration::from_secs(2);
/// How long processes may take to come to a stop: one that waits for a device is not stopped before that answers.
const FREEZING: Duration = Duration::from_secs(1);
const POLL: Duration = Duration::from_millis(5);

/// The control groups of one worker: a folder in each hierarchy.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Group {
    /// The folders; at least one.
    pub(super) folders: Vec<PathBuf>,
}

impl Group {
    /// The files through which a process joins: it writes `0` to each. Opened beforehand, so that a process can join
    /// between fork and exec.
    pub(crate) fn entrances(&self) -> io::Result<Vec<File>> {
        self.folders.iter().map(|folder| OpenOptions::new().write(true).open(folder.join("cgroup.procs"))).collect()
    }

    /// Processes in it.
    pub(crate) fn processes(&self) -> Vec<i32> {
        let mut pids: Vec<i32> = self
            .folders
            .iter()
            .filter_map(|folder| fs::read_to_string(folder.join("cgroup.procs")).ok())
            .flat_map(|text| text.lines().filter_map(|line| line.parse().ok()).collect::<Vec<i32>>())
            .collect();
        pids.sort_unstable();
        pids.dedup();
        pids
    }

    /// Kills all processes in it, those that they fork meanwhile included where the kernel can do that. Does not wait
    /// until they are gone.
    pub(crate) fn kill(&self) {
        if self.processes().is_empty() {
            return;
        }
        // Version 2 kills a group at once.
        if self.folders.iter().any(|folder| fs::write(folder.join("cgroup.kill"), "1").is_ok()) {
            return;
        }
        // Version 1 can at least hold them still meanwhile.
        let freezer = self.folders.iter().map(|folder| folder.join("freezer.state")).find(|file| file.exists());
        if let Some(file) = &freezer {
            // Nothing to be done if it fails: they are killed anyway, and found again if they fork.
            let _ = fs::write(file, "FROZEN");
        }
        for pid in self.processes() {
            // It may have ended already.
            let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
        }
        if let Some(file) = &freezer {
            let _ = fs::write(file, "THAWED");
        }
    }

    /// Lets no process in it go on, nor any that they fork. False where the kernel cannot do that, or has not in time.
    pub(crate) fn freeze(&self) -> bool {
        let frozen = || self.keyed("cgroup.events", "frozen") == Some(1);
        let asked = self.folders.iter().any(|folder| fs::write(folder.join("cgroup.freeze"), "1").is_ok());
        let deadline = Instant::now() + FREEZING;
        while asked && !frozen() && Instant::now() < deadline {
            thread::sleep(POLL);
        }
        asked && frozen()
    }

    /// Lets its processes go on.
    pub(crate) fn thaw(&self) {
        for file in self.folders.iter().map(|folder| folder.join("cgroup.freeze")).filter(|file| file.exists()) {
            if let Err(error) = fs::write(&file, "0") {
                eprintln!("{} cannot be written, and its processes do not go on: {error}", file.display());
            }
        }
    }

    /// Removes it, once the processes in it are gone, for which it waits a little.
    ///
    /// # Errors
    /// If processes in it do not end.
    pub(crate) fn remove(&self) -> io::Result<()> {
        let deadline = Instant::now() + EMPTYING;
        for folder in &self.folders {
            loop {
                match fs::remove_dir(folder) {
                    Err(error) if error.raw_os_error() == Some(Errno::EBUSY as i32) && Instant::now() < deadline => {
                        thread::sleep(POLL);
                    }
                    Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                    _ => break,
                }
            }
        }
        Ok(())
    }

    /// The most memory that its processes had at one time, in KiB; none where that is not measured.
    pub(crate) fn peak_memory_kib(&self) -> Option<u64> {
        let bytes = self.number("memory.peak").or_else(|| self.number("memory.max_usage_in_bytes"))?;
        Some(bytes / 1024)
    }

    /// Processor time of all that ran in it, in milliseconds; none where that is not measured.
    pub(crate) fn cpu_ms(&self) -> Option<u64> {
        Some(self.keyed("cpu.stat", "usage_usec")? / 1000)
    }

    /// Whether a process in it was killed because the group had used all its memory.
    pub(crate) fn ran_out_of_memory(&self) -> bool {
        let kills = self.keyed("memory.events", "oom_kill").or_else(|| self.keyed("memory.oom_control", "oom_kill"));
        kills.is_some_and(|kills| kills > 0)
    }

    fn number(&self, file: &str) -> Option<u64> {
        self.folders.iter().find_map(|folder| fs::read_to_string(folder.join(file)).ok()?.trim().parse().ok())
    }

    fn keyed(&self, file: &str, key: &str) -> Option<u64> {
        self.folders.iter().find_map(|folder| keyed(&folder.join(file), key))
    }
}

fn keyed(file: &Path, key: &str) -> Option<u64> {
    let text = fs::read_to_string(file).ok()?;
    text.lines().find_map(|line| line.strip_prefix(key)?.trim().parse().ok())
}
