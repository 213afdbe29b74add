//! Processes, as `/proc` shows them.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};
use std::{fs, thread};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::record::Identity;

/// Times that a tree is looked through for processes that were forked meanwhile.
const PASSES: usize = 16;
/// Time given to processes to come to a stop before they are looked at again.
const STILL: Duration = Duration::from_millis(1);
/// How long processes may take to come to a stop that are to be paused: one that waits for a device, or for a processor that
/// is busy, does not stop before.
const PAUSING: Duration = Duration::from_secs(2);
/// How long they may take at first before all are let go and stopped anew; each time twice as long.
const FIRST_PATIENCE: Duration = Duration::from_millis(50);
/// The variable in the environment of workers that names their supervisor.
pub(super) const MARK: &str = "OFFTAKE_SUPERVISOR";

/// What `/proc/PID/stat` tells of a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stat {
    dead: bool,
    stopped: bool,
    parent: i32,
    session: i32,
    start_ticks: u64,
}

fn stat(pid: i32) -> Option<Stat> {
    parse_stat(&fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
}

fn parse_stat(text: &str) -> Option<Stat> {
    // The name, in brackets, may itself have brackets and spaces. After it come state, parent, group and session, as
    // fields 3 to 6; the start is field 22.
    let (_, fields) = text.rsplit_once(')')?;
    let fields: Vec<&str> = fields.split_whitespace().collect();
    Some(Stat {
        dead: matches!(*fields.first()?, "Z" | "X"),
        stopped: matches!(*fields.first()?, "T" | "t"),
        parent: fields.get(1)?.parse().ok()?,
        session: fields.get(3)?.parse().ok()?,
        start_ticks: fields.get(19)?.parse().ok()?,
    })
}

/// Whether a process lives: one that has ended and was not reaped does not.
pub(super) fn lives(pid: i32) -> bool {
    stat(pid).is_some_and(|stat| !stat.dead)
}

/// The run of the machine: another after each start.
pub(super) fn boot_id() -> String {
    fs::read_to_string("/proc/sys/kernel/random/boot_id").map(|text| text.trim().to_owned()).unwrap_or_default()
}

impl Identity {
    /// A process that lives, or has not been reaped.
    pub fn of(pid: i32) -> Option<Self> {
        Some(Self { pid, start_ticks: stat(pid)?.start_ticks })
    }

    /// Whether it lives.
    pub fn is_alive(self) -> bool {
        stat(self.pid).is_some_and(|stat| !stat.dead && stat.start_ticks == self.start_ticks)
    }

    /// What its worker's [`MARK`] says: of no other supervisor in this run of the machine.
    pub fn mark(self) -> String {
        format!("{}.{}", self.pid, self.start_ticks)
    }
}

/// All that descend from a process and live. One that is a subreaper keeps all that ever descended from it.
pub(super) fn descendants(of: i32) -> Vec<i32> {
    let mut found = Vec::new();
    let mut next = children(of);
    while let Some(pid) = next.pop() {
        if !found.contains(&pid) {
            found.push(pid);
            next.extend(children(pid));
        }
    }
    found
}

fn children(of: i32) -> Vec<i32> {
    let Ok(threads) = fs::read_dir(format!("/proc/{of}/task")) else { return Vec::new() };
    let mut pids = Vec::new();
    for thread in threads.flatten() {
        match fs::read_to_string(thread.path().join("children")) {
            Ok(text) => pids.extend(text.split_whitespace().filter_map(|pid| pid.parse::<i32>().ok())),
            // A kernel without this file, or the process has ended meanwhile.
            Err(_) => return everyone().filter(|pid| stat(*pid).is_some_and(|stat| stat.parent == of)).collect(),
        }
    }
    pids
}

fn everyone() -> impl Iterator<Item = i32> {
    fs::read_dir("/proc").into_iter().flatten().flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok())
}

/// Kills all processes that `find` finds, also if they fork meanwhile. Returns how many there were. Does not wait until
/// they are gone.
pub(super) fn kill_all(find: impl Fn() -> Vec<i32>) -> usize {
    let held = hold_still(find);
    held.iter().for_each(|pid| send(*pid, Signal::SIGKILL));
    held.len()
}

/// Sends SIGTERM to all processes that `find` finds. Nobody forks while it goes round: what a shell that then dies of it
/// had just started would run on, and be waited for as one that saves its work.
pub(super) fn terminate_all(find: impl Fn() -> Vec<i32>) {
    let held = hold_still(find);
    for signal in [Signal::SIGTERM, Signal::SIGCONT] {
        held.iter().for_each(|pid| send(*pid, signal));
    }
}

/// Stops all processes that `find` finds, also if they fork meanwhile; gives whether all of them stand still in time.
pub(super) fn pause_all(find: impl Fn() -> Vec<i32>) -> bool {
    let deadline = Instant::now() + PAUSING;
    let mut patience = FIRST_PATIENCE;
    while Instant::now() < deadline {
        let until = Instant::now() + patience;
        while Instant::now() < until {
            let held = hold_still(&find);
            if !held.is_empty() && held.iter().all(|pid| is_still(*pid)) {
                return true;
            }
        }
        // Whoever has vforked waits, deaf to signals, until its child executes a program; if that was stopped before it did,
        // neither gets on. Let go for a moment, it has.
        resume_all(&find);
        thread::sleep(5 * STILL);
        patience *= 2;
    }
    false
}

/// Lets all processes that `find` finds go on.
pub(super) fn resume_all(find: impl Fn() -> Vec<i32>) {
    find().iter().for_each(|pid| send(*pid, Signal::SIGCONT));
}

/// Stops all processes that `find` finds, until all are still and no new one is found; gives them as they were found.
fn hold_still(find: impl Fn() -> Vec<i32>) -> Vec<i32> {
    let mut held = Vec::new();
    let mut known = BTreeSet::new();
    for _ in 0..PASSES {
        // One that is not still yet may be in the middle of a fork.
        let all_still = held.iter().all(|pid| is_still(*pid));
        let new: Vec<i32> = find().into_iter().filter(|pid| known.insert(*pid)).collect();
        if new.is_empty() {
            if all_still {
                break;
            }
            thread::sleep(STILL);
        }
        new.iter().for_each(|pid| send(*pid, Signal::SIGSTOP));
        held.extend(new);
    }
    held
}

/// Whether no thread of a process does anything any more.
fn is_still(pid: i32) -> bool {
    let threads = fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    let mut told = threads.filter_map(|thread| parse_stat(&fs::read_to_string(thread.path().join("stat")).ok()?));
    told.all(|stat| stat.stopped || stat.dead)
}

/// Sends a signal to a process that may have ended already.
fn send(pid: i32, signal: Signal) {
    let _ = kill(Pid::from_raw(pid), signal);
}

/// What is left of the tree of a worker whose supervisor is dead: all that carry its mark in their environment, and all
/// in its session.
pub(super) fn remains(supervisor: Identity, worker: Option<Identity>) -> Vec<i32> {
    let entry = format!("{MARK}={}", supervisor.mark());
    let session = worker.filter(|worker| {
        // If the leader's number went to another process, the session may be that one's.
        stat(worker.pid).is_none_or(|stat| stat.start_ticks == worker.start_ticks)
    });
    let own = i32::try_from(std::process::id()).expect("process numbers fit");
    everyone()
        .filter(|pid| *pid != own)
        .filter(|pid| {
            stat(*pid).is_some_and(|stat| {
                !stat.dead && (session.is_some_and(|worker| stat.session == worker.pid) || carries(*pid, &entry))
            })
        })
        .collect()
}

fn carries(pid: i32, entry: &str) -> bool {
    let environment = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
    environment.split(|byte| *byte == 0).any(|variable| variable == entry.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_with_brackets_do_not_confuse() {
        let text = "17 (a) b (c)) S 4 17 17 0 -1 4194560 1 0 0 0 0 0 0 0 20 0 1 0 9876 1 1";
        assert_eq!(
            parse_stat(text),
            Some(Stat { dead: false, stopped: false, parent: 4, session: 17, start_ticks: 9876 })
        );
        assert_eq!(parse_stat("17 (x) Z 4"), None);
    }

    #[test]
    fn a_process_is_told_from_a_later_one_of_its_number() {
        let own = i32::try_from(std::process::id()).expect("fits");
        let identity = Identity::of(own).expect("it lives");
        assert!(identity.is_alive());
        assert!(!Identity { start_ticks: identity.start_ticks + 1, ..identity }.is_alive());
    }
}
