//! What a supervisor and its launcher do below what the compiler can check: closing descriptors that were inherited,
//! forking and taking over descriptors, what happens in the worker's process between fork and exec, and reaping. Nothing
//! else is here.
#![expect(unsafe_code, reason = "the compiler cannot check what becomes of descriptors and processes")]

use std::ffi::CString;
use std::fs::{self, File};
use std::io::{self, IoSliceMut, Read};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::Path;
use std::process::{Command, ExitStatus, Stdio};

use nix::cmsg_space;
use nix::errno::Errno;
use nix::fcntl::{OFlag, open};
use nix::libc;
use nix::sched::{CpuSet, sched_setaffinity};
use nix::sys::prctl::set_pdeathsig;
use nix::sys::resource::{RLIM_INFINITY, Resource as Rlimit, setrlimit};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::socket::{ControlMessageOwned, MsgFlags, recvmsg};
use nix::sys::stat::{Mode, umask};
use nix::unistd::{Gid, Pid, Uid, chdir, getpid, getppid, pipe2, setgid, setgroups, setsid, setuid, write};

use offtake_protocol::agent::Exit;

use super::launch::{Resource, WorkerLaunch};
use super::tree::MARK;

/// Signals are numbered up to this.
const LAST_SIGNAL: i32 = 64;

/// A worker could not be started.
#[derive(Debug)]
pub(super) struct StartError {
    /// In words for the user.
    pub reason: String,
    /// Whether it is the node's fault.
    pub node_fault: bool,
}

/// What is done between fork and exec. The number goes through a pipe when it fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    Detach = 1,
    Groups,
    Cpus,
    Limits,
    User,
    Directory,
    Supervision,
}

impl Step {
    const ALL: [Self; 7] =
        [Self::Detach, Self::Groups, Self::Cpus, Self::Limits, Self::User, Self::Directory, Self::Supervision];

    fn failed(self, worker: &WorkerLaunch, error: &str) -> StartError {
        let what = match self {
            Self::Detach => "begin a session".to_owned(),
            Self::Groups => "join its control groups".to_owned(),
            Self::Cpus => format!("run on cores {:?}", worker.cpus),
            Self::Limits => "set its resource limits".to_owned(),
            Self::User => match &worker.credentials {
                Some(credentials) => format!("become user {}", credentials.uid),
                None => "become its user".to_owned(),
            },
            Self::Directory => format!("work in directory {}", worker.directory.display()),
            Self::Supervision => "be supervised".to_owned(),
        };
        StartError { reason: format!("cannot {what}: {error}"), node_fault: self != Self::Directory }
    }
}

/// Closes all descriptors but the first three. To be called before anything has opened one.
pub(super) fn close_inherited() {
    // SAFETY: plain system calls. Nothing in this process owns a descriptor above 2 yet, so none is closed under its
    // owner's hands.
    unsafe {
        if libc::syscall(libc::SYS_close_range, 3_u32, u32::MAX, 0_u32) == 0 {
            return;
        }
    }
    // A kernel before 5.9.
    let open: Vec<i32> = fs::read_dir("/proc/self/fd")
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .filter(|descriptor| *descriptor > 2)
        .collect();
    for descriptor in open {
        // SAFETY: as above; the one of the folder itself is closed already, which is told and ignored.
        unsafe {
            libc::close(descriptor);
        }
    }
}

/// Whether children that end are nobody's to wait for, as is right for a launcher, or leave their status.
pub(super) fn leave_children_to_the_system(leave: bool) {
    let handler = if leave { libc::SIG_IGN } else { libc::SIG_DFL };
    // SAFETY: neither is a function of ours. It cannot fail for a signal that can be caught.
    unsafe {
        libc::signal(libc::SIGCHLD, handler);
    }
}

/// Forks; true in the new process. Only for a process with a single thread.
pub(super) fn fork() -> io::Result<bool> {
    // SAFETY: there is no other thread, which might hold a lock that the new process would wait for.
    Ok(unsafe { nix::unistd::fork()? }.is_child())
}

/// What [`receive`] has received.
#[derive(Debug)]
pub(super) enum Received {
    /// So many bytes, and a descriptor.
    Request(usize, OwnedFd),
    /// The other end was closed.
    Closed,
}

/// Waits for a message with a descriptor. A message without one is passed over.
pub(super) fn receive(socket: &impl AsRawFd, buffer: &mut [u8]) -> io::Result<Received> {
    let mut space = cmsg_space!([RawFd; 1]);
    loop {
        let mut parts = [IoSliceMut::new(buffer)];
        let flags = MsgFlags::MSG_CMSG_CLOEXEC;
        let message = match recvmsg::<()>(socket.as_raw_fd(), &mut parts, Some(&mut space), flags) {
            Err(Errno::EINTR) => continue,
            message => message?,
        };
        if message.bytes == 0 {
            return Ok(Received::Closed);
        }
        let descriptors = message.cmsgs()?.find_map(|control| match control {
            ControlMessageOwned::ScmRights(descriptors) => descriptors.first().copied(),
            _ => None,
        });
        if let Some(descriptor) = descriptors {
            // SAFETY: the kernel has just made this descriptor for us, and nobody else knows of it.
            let descriptor = unsafe { OwnedFd::from_raw_fd(descriptor) };
            return Ok(Received::Request(message.bytes, descriptor));
        }
    }
}

/// Starts a worker: in a session of its own, in its groups, on its cores, as its user, and to be killed when this process
/// dies. Returns once its program is being executed.
pub(super) fn spawn(
    worker: &WorkerLaunch,
    mark: &str,
    entrances: Vec<File>,
    (output, error): (Stdio, Stdio),
) -> Result<Pid, StartError> {
    let broken = |error: io::Error| StartError { reason: format!("cannot start it: {error}"), node_fault: true };
    let Some((program, arguments)) = worker.arguments.split_first() else {
        return Err(StartError { reason: "it names no program".to_owned(), node_fault: false });
    };
    let mut setup = Setup::new(worker, entrances).map_err(|reason| StartError { reason, node_fault: false })?;
    let (told, tell) = pipe2(OFlag::O_CLOEXEC | OFlag::O_NONBLOCK).map_err(|error| broken(error.into()))?;
    let tell = File::from(tell);

    let mut command = Command::new(program);
    command.args(arguments).env_clear().envs(&worker.environment).env(MARK, mark);
    command.stdin(Stdio::null()).stdout(output).stderr(error);
    let act = move || {
        setup.run().map_err(|(step, error)| {
            // If this fails too, the error is told without the step.
            let _ = write(&tell, &[step as u8]);
            io::Error::from(error)
        })
    };
    // SAFETY: between fork and exec the closure makes only system calls that are safe in a signal handler, on memory
    // that was allocated before; it allocates nothing, takes no lock and does not unwind. See `Setup::run`.
    unsafe {
        command.pre_exec(act);
    }
    match command.spawn() {
        // Reaped by its number, like all that descends from it.
        Ok(child) => Ok(Pid::from_raw(i32::try_from(child.id()).expect("process numbers fit"))),
        Err(error) => {
            let mut step = [0];
            // Nothing in it: the program itself could not be executed.
            let failed = File::from(told).read_exact(&mut step).ok();
            let step = failed.and_then(|()| Step::ALL.into_iter().find(|candidate| *candidate as u8 == step[0]));
            let words = words(&error);
            Err(step.map_or_else(|| not_executed(worker, program, &error), |step| step.failed(worker, &words)))
        }
    }
}

/// What [`reap`] found.
#[derive(Debug)]
pub(super) enum Reaped {
    /// A process that has ended, and how.
    One(Pid, Exit),
    /// None that has ended.
    None,
    /// No child at all.
    Childless,
}

/// Reaps one child that has ended, by whatever signal: nix knows no real-time signals.
pub(super) fn reap() -> Reaped {
    let mut status = 0;
    loop {
        // SAFETY: a plain system call that writes one integer.
        let pid = unsafe { libc::waitpid(-1, &mut status, libc::WNOHANG) };
        if pid > 0 {
            let status = ExitStatus::from_raw(status);
            let by_signal = || Exit::Signal(status.signal().expect("what has no status ended by a signal"));
            return Reaped::One(Pid::from_raw(pid), status.code().map_or_else(by_signal, Exit::Status));
        }
        if pid == 0 {
            return Reaped::None;
        }
        match Errno::last() {
            Errno::EINTR => {}
            // The only other fault that these arguments can have.
            _ => return Reaped::Childless,
        }
    }
}

/// What the child does, with all memory that it needs.
struct Setup {
    supervisor: Pid,
    entrances: Vec<File>,
    cpus: Option<CpuSet>,
    limits: Vec<(Rlimit, u64, u64)>,
    user: Option<(Uid, Gid, Vec<Gid>)>,
    umask: Mode,
    directory: CString,
}

impl Setup {
    fn new(worker: &WorkerLaunch, entrances: Vec<File>) -> Result<Self, String> {
        let mut cpus = CpuSet::new();
        for cpu in &worker.cpus {
            let index = usize::try_from(*cpu).unwrap_or(usize::MAX);
            cpus.set(index).map_err(|_| format!("cannot run on core {cpu}: there is none of that number"))?;
        }
        let limit = |bound: Option<u64>| bound.unwrap_or(RLIM_INFINITY);
        let directory = CString::new(worker.directory.as_os_str().as_bytes())
            .map_err(|_| "its directory's name has a zero byte".to_owned())?;
        Ok(Self {
            supervisor: getpid(),
            entrances,
            cpus: (!worker.cpus.is_empty()).then_some(cpus),
            limits: worker
                .limits
                .iter()
                .map(|limits| (rlimit(limits.resource), limit(limits.soft), limit(limits.hard)))
                .collect(),
            user: worker.credentials.as_ref().map(|credentials| {
                let groups = credentials.groups.iter().copied().map(Gid::from_raw).collect();
                (Uid::from_raw(credentials.uid), Gid::from_raw(credentials.gid), groups)
            }),
            umask: Mode::from_bits_truncate(worker.umask),
            directory,
        })
    }

    /// Runs between fork and exec: see the safety comment where it is called.
    fn run(&mut self) -> Result<(), (Step, Errno)> {
        let at = |step: Step| move |error: Errno| (step, error);
        for signal in 1..=LAST_SIGNAL {
            // SAFETY: `signal` is safe in a signal handler, and the default is no function of ours. It fails for those
            // that cannot be caught or that the C library keeps for itself, which is right.
            unsafe {
                libc::signal(signal, libc::SIG_DFL);
            }
        }
        SigSet::empty().thread_set_mask().map_err(at(Step::Detach))?;
        setsid().map_err(at(Step::Detach))?;
        // As whoever runs the agent, who may write there.
        for entrance in &self.entrances {
            write(entrance, b"0").map_err(at(Step::Groups))?;
        }
        if let Some(cpus) = &self.cpus {
            sched_setaffinity(Pid::from_raw(0), cpus).map_err(at(Step::Cpus))?;
        }
        for (resource, soft, hard) in &self.limits {
            setrlimit(*resource, *soft, *hard).map_err(at(Step::Limits))?;
        }
        if let Some((uid, gid, groups)) = &self.user {
            // Only root may change its groups; for anyone else the last of these fails unless it is the same user.
            if Uid::effective().is_root() {
                setgroups(groups).map_err(at(Step::User))?;
                setgid(*gid).map_err(at(Step::User))?;
            }
            setuid(*uid).map_err(at(Step::User))?;
        }
        // The agent may be spared when memory runs out; its workers are not.
        if let Ok(file) = open(c"/proc/self/oom_score_adj", OFlag::O_WRONLY | OFlag::O_CLOEXEC, Mode::empty()) {
            let _ = write(file, b"0");
        }
        umask(self.umask);
        chdir(self.directory.as_c_str()).map_err(at(Step::Directory))?;
        // After the change of user, which resets it.
        set_pdeathsig(Signal::SIGKILL).map_err(at(Step::Supervision))?;
        if getppid() != self.supervisor {
            // The supervisor died before that.
            return Err((Step::Supervision, Errno::ESRCH));
        }
        Ok(())
    }
}

fn rlimit(resource: Resource) -> Rlimit {
    match resource {
        Resource::CoreSize => Rlimit::RLIMIT_CORE,
        Resource::LockedMemory => Rlimit::RLIMIT_MEMLOCK,
        Resource::OpenFiles => Rlimit::RLIMIT_NOFILE,
        Resource::Stack => Rlimit::RLIMIT_STACK,
    }
}

/// An error of the system without its number.
fn words(error: &io::Error) -> String {
    match error.raw_os_error() {
        Some(number) => Errno::from_raw(number).desc().to_owned(),
        None => error.to_string(),
    }
}

fn not_executed(worker: &WorkerLaunch, program: &str, error: &io::Error) -> StartError {
    let path = worker.directory.join(program);
    let why = match error.kind() {
        io::ErrorKind::NotFound if !program.contains('/') => {
            let path = worker.environment.get("PATH").map_or("", String::as_str);
            format!("there is no such program in its PATH ({path})")
        }
        io::ErrorKind::NotFound if path.exists() => "the interpreter that it names is not there".to_owned(),
        io::ErrorKind::NotFound => "there is no such file".to_owned(),
        io::ErrorKind::PermissionDenied if Path::new(&path).is_dir() => "it is a directory".to_owned(),
        io::ErrorKind::PermissionDenied => "it is not executable for this user".to_owned(),
        _ => words(error),
    };
    let lacks = [Errno::EAGAIN, Errno::ENOMEM, Errno::EMFILE, Errno::ENFILE];
    let node_fault = error.raw_os_error().is_some_and(|number| lacks.contains(&Errno::from_raw(number)));
    StartError { reason: format!("cannot execute `{program}`: {why}"), node_fault }
}
