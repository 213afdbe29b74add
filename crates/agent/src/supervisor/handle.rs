//! The agent's end of a connection to a supervisor.

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::path::Path;

use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};

use super::process::SOCKET_FILE;
use super::wire::{Command, Status};

/// A connection to a supervisor. When it breaks, nothing changes for the worker.
#[derive(Debug)]
pub struct Handle {
    statuses: Lines<BufReader<OwnedReadHalf>>,
    commands: OwnedWriteHalf,
}

impl Handle {
    /// Connects to the supervisor of the worker with this folder. The first status comes at once.
    ///
    /// # Errors
    /// If no supervisor listens there, or none does any more.
    pub fn connect(dir: &Path) -> io::Result<Self> {
        // The name of a socket has at most 108 bytes, a folder's may have more.
        let folder = File::open(dir)?;
        let name = format!("/proc/self/fd/{}/{SOCKET_FILE}", folder.as_raw_fd());
        Self::new(std::os::unix::net::UnixStream::connect(name)?)
    }

    pub(super) fn new(stream: std::os::unix::net::UnixStream) -> io::Result<Self> {
        stream.set_nonblocking(true)?;
        let (read, commands) = UnixStream::from_std(stream)?.into_split();
        Ok(Self { statuses: BufReader::new(read).lines(), commands })
    }

    /// Sends a command.
    ///
    /// # Errors
    /// If the supervisor has left. [`super::find`] tells how the worker ended.
    pub async fn send(&mut self, command: &Command) -> io::Result<()> {
        let mut line = serde_json::to_vec(command)?;
        line.push(b'\n');
        self.commands.write_all(&line).await
    }

    /// The next status; none when the supervisor has left. After [`Status::Ended`] comes nothing more. Nothing is lost
    /// when the future is dropped, so it can stand in a `select!`.
    ///
    /// # Errors
    /// If the connection broke, or what comes makes no sense. [`super::find`] tells what became of the supervisor.
    pub async fn next(&mut self) -> io::Result<Option<Status>> {
        match self.statuses.next_line().await {
            Ok(Some(line)) => Ok(Some(serde_json::from_str(&line)?)),
            Ok(None) => Ok(None),
            // It left before it had read all that it was sent.
            Err(error) if error.kind() == io::ErrorKind::ConnectionReset => Ok(None),
            Err(error) => Err(error),
        }
    }
}
