//! The launcher: a small process of the agent, from which it has its supervisors forked.
//!
//! The program is large. To load and link it anew for each supervisor takes longer than all that a supervisor does for a
//! short task; the launcher has that behind it.
//!
//! Its standard input is a socket, over which it is sent a folder and a connection for each supervisor. It ends with the
//! agent, and the supervisors live on. One that was killed is replaced at the next launch.

use std::ffi::OsStr;
use std::fs::OpenOptions;
use std::io::{self, IoSlice};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{ExitCode, Stdio};
use std::sync::{Mutex, PoisonError};

use nix::sys::socket::sockopt::SendTimeout;
use nix::sys::socket::{AddressFamily, ControlMessage, MsgFlags, SockFlag, SockType, sendmsg, setsockopt, socketpair};
use nix::sys::time::TimeVal;
use nix::unistd::{dup2_stderr, dup2_stdin, dup2_stdout, setsid};

use super::handle::Handle;
use super::launch::{self, WorkerLaunch};
use super::process::{complain, supervise};
use super::spawn::{self, Received};

const COMPLAINTS_FILE: &str = "supervisor.log";
/// Bytes of a folder's name, at most: what the system allows.
const FOLDER_LIMIT: usize = 4096;
/// Seconds that a launcher may leave a request lying when its queue is full.
const PATIENCE_S: i64 = 5;

/// A supervisor could not be started.
#[derive(Debug, thiserror::Error)]
#[error("cannot {what} {}: {source}", path.display())]
pub struct LaunchError {
    what: &'static str,
    path: PathBuf,
    source: io::Error,
}

/// The agent's end: starts supervisors.
#[derive(Debug)]
pub struct Launcher {
    exe: PathBuf,
    data: PathBuf,
    /// The socket of the process; none before the first launch.
    socket: Mutex<Option<OwnedFd>>,
}

impl Launcher {
    /// One that will run `exe supervise data`. The folder is named only for whoever lists processes.
    pub fn new(exe: PathBuf, data: PathBuf) -> Self {
        Self { exe, data, socket: Mutex::new(None) }
    }

    /// Starts the supervisor of a worker, and connects to it. It soon tells [`super::Status::Prepared`], or how it
    /// failed; if the connection ends without, it could not even be started. `dir` must exist, be absolute, be out of
    /// others' reach and belong to this worker alone; its entry in its own parent should be on disk already.
    ///
    /// Call it within a tokio runtime.
    ///
    /// # Errors
    /// If the launch cannot be written into `dir`, or the launcher cannot be started.
    pub fn launch(&self, dir: &Path, worker: &WorkerLaunch) -> Result<Handle, LaunchError> {
        let fault = |what, path: &Path| {
            let path = path.to_path_buf();
            move |source| LaunchError { what, path, source }
        };
        if !dir.is_absolute() {
            let source = io::Error::new(io::ErrorKind::InvalidInput, "the path is not absolute");
            return Err(fault("use folder", dir)(source));
        }
        launch::write(dir, worker).map_err(fault("write into", dir))?;
        let connect = || {
            let (ours, theirs) = UnixStream::pair()?;
            self.ask(dir, &theirs)?;
            Handle::new(ours)
        };
        connect().map_err(fault("start", &self.exe))
    }

    fn ask(&self, dir: &Path, connection: &UnixStream) -> io::Result<()> {
        let mut socket = self.socket.lock().unwrap_or_else(PoisonError::into_inner);
        if socket.as_ref().is_some_and(|known| send(known, dir, connection).is_ok()) {
            return Ok(());
        }
        // There is none yet, or it was killed.
        let new = self.start()?;
        send(&new, dir, connection)?;
        *socket = Some(new);
        Ok(())
    }

    fn start(&self) -> io::Result<OwnedFd> {
        let (ours, theirs) = socketpair(AddressFamily::Unix, SockType::SeqPacket, None, SockFlag::SOCK_CLOEXEC)?;
        setsockopt(&ours, SendTimeout, &TimeVal::new(PATIENCE_S, 0))?;
        let child = tokio::process::Command::new(&self.exe)
            .arg("supervise")
            .arg(&self.data)
            .env_clear()
            .current_dir("/")
            .stdin(Stdio::from(theirs))
            .stdout(Stdio::null())
            .spawn()?;
        // Dropped, it lives on until the socket is closed, and tokio reaps it.
        drop(child);
        Ok(ours)
    }
}

fn send(socket: &OwnedFd, dir: &Path, connection: &UnixStream) -> io::Result<()> {
    let name = [IoSlice::new(dir.as_os_str().as_bytes())];
    let descriptors = [connection.as_raw_fd()];
    let with = [ControlMessage::ScmRights(&descriptors)];
    sendmsg::<()>(socket.as_raw_fd(), &name, &with, MsgFlags::MSG_NOSIGNAL, None)?;
    Ok(())
}

/// Runs as the launcher of an agent, until the agent has left; in each process that is forked from it, as a supervisor,
/// until nothing of its worker runs any more. To be called before the process has opened a file or started a thread. Its
/// standard input is the agent's socket.
pub fn serve_launches() -> ExitCode {
    spawn::close_inherited();
    // What ends the agent's session or group by a signal is not meant for work that goes on. It fails where this is a
    // session's leader already.
    let _ = setsid();
    spawn::leave_children_to_the_system(true);
    let mut name = [0; FOLDER_LIMIT];
    loop {
        let received = spawn::receive(&io::stdin(), &mut name);
        let (dir, connection) = match received {
            Ok(Received::Request(length, connection)) => (Path::new(OsStr::from_bytes(&name[..length])), connection),
            Ok(Received::Closed) => return ExitCode::SUCCESS,
            Err(error) => {
                complain(&format!("cannot hear its agent: {error}"));
                return ExitCode::FAILURE;
            }
        };
        match spawn::fork() {
            Ok(true) => return begin(dir, connection),
            Ok(false) => {}
            // The agent sees the connection end.
            Err(error) => complain(&format!("cannot supervise the worker of {}: {error}", dir.display())),
        }
    }
}

/// In the forked process.
fn begin(dir: &Path, connection: OwnedFd) -> ExitCode {
    spawn::leave_children_to_the_system(false);
    let settle = || -> io::Result<()> {
        let log = OpenOptions::new().append(true).create(true).mode(0o600).open(dir.join(COMPLAINTS_FILE))?;
        dup2_stdin(&connection)?;
        dup2_stdout(&log)?;
        dup2_stderr(&log)?;
        Ok(())
    };
    if let Err(error) = settle() {
        complain(&format!("cannot supervise the worker of {}: {error}", dir.display()));
        return ExitCode::FAILURE;
    }
    // From here on it has only the first three.
    drop(connection);
    supervise(dir)
}
