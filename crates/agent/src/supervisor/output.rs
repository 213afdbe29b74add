//! Where a worker's output goes: into a file that the job names, or through a pipe into files that the node keeps.

use std::fs::{File, OpenOptions};
use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::sys::stat::{Mode, umask};
use nix::unistd::{Gid, Uid, getegid, geteuid, getgroups, pipe2, setegid, seteuid, setgroups};
use offtake_protocol::agent::Stream;

use super::launch::{Credentials, WorkerLaunch};
use super::logs::Log;

/// The supervisor's own files are nobody else's.
pub(super) const OWN_UMASK: Mode = Mode::from_bits_truncate(0o077);

/// Both streams of a worker that has not started.
#[derive(Debug)]
pub(super) struct Output {
    /// What the worker gets as its standard output and standard error; none once it has got them.
    ends: Option<(Stdio, Stdio)>,
    /// What comes through pipes.
    pub pumps: Vec<Pump>,
}

/// Carries what comes through a pipe into files.
#[derive(Debug)]
pub(super) struct Pump {
    pipe: File,
    log: Log,
    open: bool,
}

impl Output {
    /// Opens files as the worker's user, and pipes.
    ///
    /// # Errors
    /// In words for the user.
    pub fn open(dir: &Path, worker: &WorkerLaunch) -> Result<Self, String> {
        let path = |file: &Option<PathBuf>| file.as_ref().map(|file| worker.directory.join(file));
        let (output, error) = (path(&worker.output), path(&worker.error));
        let mut pumps = Vec::new();
        let mut end = |path: &Option<PathBuf>, stream| match path {
            Some(path) => {
                open_file(worker, path).map_err(|error| format!("cannot write to {}: {error}", path.display()))
            }
            None => {
                let pump = Pump::open(Log::new(dir, stream, worker.logs));
                let (pump, end) = pump.map_err(|error| format!("cannot make a pipe for its output: {error}"))?;
                pumps.push(pump);
                Ok(end)
            }
        };
        let first = end(&output, Stream::Output)?;
        let second = if output.is_some() && output == error {
            first.try_clone().map_err(|error| format!("cannot write to one file twice: {error}"))?
        } else {
            end(&error, Stream::Error)?
        };
        Ok(Self { ends: Some((first.into(), second.into())), pumps })
    }

    /// Of a worker that will never start.
    pub fn none() -> Self {
        Self { ends: None, pumps: Vec::new() }
    }

    /// What the worker gets. The supervisor must not keep it, or it would never see the end of the pipes.
    pub fn take_ends(&mut self) -> (Stdio, Stdio) {
        self.ends.take().unwrap_or_else(|| (Stdio::null(), Stdio::null()))
    }

    /// Bytes of output that could not be kept.
    pub fn lost(&self) -> u64 {
        self.pumps.iter().map(|pump| pump.log.lost()).sum()
    }
}

impl Pump {
    fn open(log: Log) -> io::Result<(Self, File)> {
        let (read, write) = pipe2(OFlag::O_CLOEXEC)?;
        fcntl(&read, FcntlArg::F_SETFL(OFlag::O_NONBLOCK))?;
        Ok((Self { pipe: File::from(read), log, open: true }, File::from(write)))
    }

    /// The pipe, until its end has come.
    pub fn pipe(&self) -> Option<BorrowedFd<'_>> {
        self.open.then(|| self.pipe.as_fd())
    }

    /// Carries what is there and fits into the buffer. Whether there may be more.
    pub fn carry(&mut self, buffer: &mut [u8]) -> bool {
        if !self.open {
            return false;
        }
        match self.pipe.read(buffer) {
            Ok(0) => self.open = false,
            Ok(count) => self.log.write(&buffer[..count]),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return false,
            Err(_) => self.open = false,
        }
        self.open
    }
}

/// Opens a file that the job names, with the rights of its user alone: a path that the user could not write is refused.
fn open_file(worker: &WorkerLaunch, path: &Path) -> io::Result<File> {
    // All writes go to the end, so that workers may share a file. A pipe that nobody reads must not block.
    let mut flags = OFlag::O_NONBLOCK | OFlag::O_NOCTTY;
    if !worker.append {
        flags |= OFlag::O_TRUNC;
    }
    let mask = Mode::from_bits_truncate(worker.umask);
    let file = as_user(worker.credentials.as_ref(), || {
        umask(mask);
        let file = OpenOptions::new().append(true).create(true).mode(0o666).custom_flags(flags.bits()).open(path);
        umask(OWN_UMASK);
        file
    })?;
    fcntl(&file, FcntlArg::F_SETFL(OFlag::O_APPEND))?;
    Ok(file)
}

/// Does something with the rights of another user. Only for a process with a single thread.
fn as_user<T>(credentials: Option<&Credentials>, act: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
    let (Some(credentials), true) = (credentials, geteuid().is_root()) else { return act() };
    let (uid, gid, groups) = (geteuid(), getegid(), getgroups()?);
    let theirs: Vec<Gid> = credentials.groups.iter().copied().map(Gid::from_raw).collect();
    let change = || {
        setgroups(&theirs)?;
        setegid(Gid::from_raw(credentials.gid))?;
        seteuid(Uid::from_raw(credentials.uid))
    };
    let result = match change() {
        Ok(()) => act(),
        Err(error) => Err(error.into()),
    };
    seteuid(uid)?;
    setegid(gid)?;
    setgroups(&groups)?;
    result
}
