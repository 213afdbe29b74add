//! Finding supervisors again, and ending what one that was killed has left.

use std::io;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use offtake_protocol::agent::Exit;

use super::record::{self, Event, Record};
use super::wire::Ended;
use super::{launch, tree, unix_now_ms};

/// How long processes may take to die.
const DYING: Duration = Duration::from_secs(10);
const POLL: Duration = Duration::from_millis(2);

/// What became of a worker's supervisor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Found {
    /// It lives: [`super::Handle::connect`] reaches it.
    Alive,
    /// It has left, and wrote down how the worker ended.
    Ended(Ended),
    /// It never took the worker on, or died before it started it. Nothing of the worker runs or ever ran; [`clean_up`]
    /// removes its groups. A worker that is to be launched after all gets a new folder.
    NeverRan,
    /// It was killed, or the machine went down, after it had started the worker or had begun to: [`clean_up`].
    Died {
        /// When the worker was started, in milliseconds since 1970.
        started_ms: i64,
    },
}

/// Finds out what became of the supervisor of the worker with this folder.
///
/// A supervisor that [`super::Launcher`] has just started counts as one that never ran until it has written its first
/// line. That does no harm: when its folder is removed it leaves, and without a command it starts nothing.
///
/// # Errors
/// If the record cannot be read.
pub fn find(dir: &Path) -> io::Result<Found> {
    let alive = |told: &record::Told| {
        told.supervisor.as_ref().is_some_and(|(identity, boot_id)| *boot_id == tree::boot_id() && identity.is_alive())
    };
    let mut told = record::read(dir)?;
    if told.ended.is_none() && !alive(&told) {
        // It may have written its last line and left between the two looks.
        told = record::read(dir)?;
    } else if told.ended.is_none() {
        return Ok(Found::Alive);
    }
    Ok(match (told.ended, told.starting_ms) {
        (Some(ended), _) => Found::Ended(ended),
        (None, Some(started_ms)) => Found::Died { started_ms },
        (None, None) => Found::NeverRan,
    })
}

/// Something of a worker could not be ended.
#[derive(Debug, thiserror::Error)]
pub enum CleanUpError {
    /// Its folder cannot be read or written.
    #[error("cannot read or write the worker's folder: {0}")]
    Folder(#[from] io::Error),
    /// Processes do not die.
    #[error("processes {0:?} of the worker do not die; they may hang in a device or file system")]
    Undead(Vec<i32>),
}

/// Ends what is left of a worker whose supervisor is dead, removes its groups, and writes down that its end is unknown.
/// Blocks until nothing of it runs any more: milliseconds as a rule, ten seconds at most. If the supervisor had written
/// the end down itself, that is what counts.
///
/// # Errors
/// If processes do not die, or the folder cannot be read or written. It can be called again.
pub fn clean_up(dir: &Path) -> Result<Ended, CleanUpError> {
    let told = record::read(dir)?;
    // After another start of the machine nothing can be left, and the numbers of processes mean others.
    let supervisor = told.supervisor.as_ref().filter(|(_, boot_id)| *boot_id == tree::boot_id());
    let group = launch::read(dir).ok().and_then(|worker| worker.group);
    if let Some((supervisor, _)) = supervisor {
        let remains = || {
            let mut pids = tree::remains(*supervisor, told.worker);
            pids.extend(group.iter().flat_map(|group| group.processes()).filter(|pid| tree::lives(*pid)));
            pids
        };
        let deadline = Instant::now() + DYING;
        loop {
            if let Some(group) = &group {
                group.kill();
            }
            if tree::kill_all(remains) == 0 {
                break;
            }
            if Instant::now() > deadline {
                return Err(CleanUpError::Undead(remains()));
            }
            thread::sleep(POLL);
        }
    }
    let measured = group.as_ref().map(|group| (group.cpu_ms(), group.peak_memory_kib()));
    let (cpu_ms, peak_memory_kib) = measured.unwrap_or_default();
    if let Some(group) = &group {
        group.remove()?;
    }
    if let Some(ended) = told.ended {
        return Ok(ended);
    }
    let died = "its supervisor was killed, or the machine went down";
    let exit = match told.starting_ms {
        Some(_) => Exit::Unknown(died.to_owned()),
        None => Exit::NotStarted(format!("{died}, before it was started")),
    };
    let ended = Ended {
        node_fault: told.starting_ms.is_none(),
        exit,
        cause: None,
        started_ms: told.starting_ms,
        ended_ms: unix_now_ms(),
        cpu_ms,
        peak_memory_kib,
        lost_output_bytes: 0,
    };
    match Record::reopen(dir) {
        // The agent ended before it had made the folder: nothing ran, and there is nothing to go by later.
        Err(error) if error.kind() == io::ErrorKind::NotFound && !dir.exists() => {}
        record => record?.commit(&Event::Ended(ended.clone()))?,
    }
    Ok(ended)
}
