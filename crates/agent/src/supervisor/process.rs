//! The supervisor's process: a single thread that waits for its connections, its worker, its clock and its pipes.
//!
//! There is one of it beside each worker, so it is small and starts quickly, forked from a process that waits for that:
//! no runtime, no configuration, no log but its standard error.

use std::env;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::process::ExitCode;
use std::thread;
use std::time::Duration;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::prctl::set_child_subreaper;
use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::signal::{SigSet, Signal, kill};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::sys::stat::umask;
use nix::sys::time::TimeSpec;
use nix::sys::timerfd::{ClockId, Expiration, TimerFd, TimerFlags, TimerSetTimeFlags};
use nix::unistd::{Pid, dup2_stdin, getpid, setsid};
use offtake_protocol::agent::Exit;

use super::core::{Action, Core, Input, Outcome, Phase};
use super::launch::{self, WorkerLaunch};
use super::output::{OWN_UMASK, Output};
use super::record::{Event, Identity, REASON_LIMIT, Record};
use super::spawn::{self, Reaped, StartError};
use super::wire::{Command, Ended, Status, Whom};
use super::{boot_now_ms, tree, unix_now_ms};

/// The socket in the worker's folder.
pub(super) const SOCKET_FILE: &str = "control.sock";
/// Connections at one time; an agent needs one. Beyond it, the oldest goes.
const CONNECTIONS: usize = 8;
/// Bytes of a command, at most.
const LINE_LIMIT: usize = 16 << 10;
/// Bytes of output that are carried at once.
const BUFFER: usize = 64 << 10;
/// Time between two tries to write down the end, when the disk refuses it and nobody is there to be told.
const RECORD_AGAIN: Duration = Duration::from_secs(1);

/// Runs as the supervisor of the worker with this folder, until nothing of the worker runs any more. To be called before
/// the process has opened a file or started a thread. Its standard input is the agent's connection.
///
/// It fails only before the worker could have started.
pub(super) fn supervise(dir: &Path) -> ExitCode {
    spawn::close_inherited();
    match Shell::new(dir) {
        Ok(shell) => {
            shell.run();
            ExitCode::SUCCESS
        }
        Err(error) => {
            complain(&format!("cannot supervise the worker of {}: {error}", dir.display()));
            ExitCode::FAILURE
        }
    }
}

pub(super) fn complain(words: &str) {
    // There is nobody to tell that it cannot be told.
    let _ = writeln!(io::stderr(), "offtake supervise: {words}");
}

struct Shell {
    core: Core,
    worker: WorkerLaunch,
    own: Identity,
    record: Record,
    output: Output,
    /// Why the worker can never be started.
    unfit: Option<StartError>,
    /// The worker's process, until it has been reaped.
    child: Option<Pid>,
    started_ms: Option<i64>,
    /// What was told last.
    told: Status,
    listener: UnixListener,
    connections: Vec<Connection>,
    signals: SignalFd,
    timer: TimerFd,
    timer_at_ms: Option<u64>,
    buffer: Vec<u8>,
}

struct Connection {
    stream: UnixStream,
    /// The beginning of a line.
    begun: Vec<u8>,
}

impl Shell {
    fn new(dir: &Path) -> io::Result<Self> {
        // The socket's name must be short, the folder's need not be.
        env::set_current_dir(dir)?;
        let here = Path::new(".");
        let worker = launch::read(here)?;
        setsid()?;
        set_child_subreaper(true)?;
        umask(OWN_UMASK);
        let signals = signals()?;

        let pid = getpid().as_raw();
        let own = Identity::of(pid).ok_or_else(|| io::Error::other("/proc is not there"))?;
        let mut record = Record::create(here)?;
        record.note(&Event::Prepared { supervisor: own, boot_id: tree::boot_id() })?;

        let listener = UnixListener::bind(SOCKET_FILE)?;
        listener.set_nonblocking(true)?;
        let (output, unfit) = match Output::open(here, &worker) {
            Ok(output) => (output, None),
            Err(reason) => (Output::none(), Some(StartError { reason, node_fault: false })),
        };
        let mut shell = Self {
            core: Core::new(worker.lease_until_ms),
            worker,
            own,
            record,
            output,
            unfit,
            child: None,
            started_ms: None,
            told: Status::Prepared,
            listener,
            connections: Vec::new(),
            signals,
            timer: TimerFd::new(ClockId::CLOCK_BOOTTIME, TimerFlags::TFD_NONBLOCK | TimerFlags::TFD_CLOEXEC)?,
            timer_at_ms: None,
            buffer: vec![0; BUFFER],
        };
        shell.admit(given_connection()?, shell.unfit.is_none());
        // The record's place in the folder must be on disk before the start is; by then it is, mostly while the agent
        // still waits for the other workers.
        if let Err(error) = File::open(here).and_then(|folder| folder.sync_all()) {
            let reason = format!("the node cannot keep its record: {error}");
            shell.unfit.get_or_insert(StartError { reason, node_fault: true });
        }
        Ok(shell)
    }

    fn run(mut self) {
        if let Some(StartError { reason, node_fault }) = self.unfit.take() {
            self.feed(Input::StartFailed { reason, node_fault });
        }
        while *self.core.phase() != Phase::Ended {
            self.arm();
            self.wait();
            self.read_signals();
            self.accept();
            self.read_commands();
            self.carry();
            self.reap();
            self.feed(Input::Tick);
        }
    }

    /// Sets the timer. It runs through suspension, which the time-out of `poll` does not.
    fn arm(&mut self) {
        let at = self.core.deadline();
        if at == self.timer_at_ms {
            return;
        }
        let set = match at {
            Some(ms) => {
                let whole = Duration::from_millis(ms).max(Duration::from_nanos(1));
                let flags = TimerSetTimeFlags::TFD_TIMER_ABSTIME;
                self.timer.set(Expiration::OneShot(TimeSpec::from_duration(whole)), flags)
            }
            None => self.timer.unset(),
        };
        match set {
            Ok(()) => self.timer_at_ms = at,
            Err(error) => complain(&format!("cannot set its clock: {error}")),
        }
    }

    fn wait(&mut self) {
        let mut sources: Vec<BorrowedFd<'_>> = vec![self.signals.as_fd(), self.timer.as_fd(), self.listener.as_fd()];
        sources.extend(self.connections.iter().map(|connection| connection.stream.as_fd()));
        sources.extend(self.output.pumps.iter().filter_map(|pump| pump.pipe()));
        let mut polled: Vec<PollFd<'_>> =
            sources.into_iter().map(|source| PollFd::new(source, PollFlags::POLLIN)).collect();
        // Should the timer be broken, the lease is still looked at every second.
        let limit =
            if self.timer_at_ms == self.core.deadline() { PollTimeout::NONE } else { PollTimeout::from(1000_u16) };
        match poll(&mut polled, limit) {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(error) => {
                complain(&format!("cannot wait: {error}"));
                thread::sleep(RECORD_AGAIN);
            }
        }
        // An alarm that has gone off is set anew.
        if self.timer_at_ms.is_some_and(|at| at <= boot_now_ms()) {
            let _ = self.timer.wait();
            self.timer_at_ms = None;
        }
    }

    /// Feeds the core, and does what it says.
    fn feed(&mut self, input: Input) {
        let mut actions = self.core.step(boot_now_ms(), input);
        while !actions.is_empty() {
            let mut more = Vec::new();
            for action in actions {
                match action {
                    Action::Spawn => {
                        let answer = self.start();
                        more.extend(self.core.step(boot_now_ms(), answer));
                    }
                    Action::Signal { signal, to } => self.signal(signal, to),
                    Action::Pause(pause) => {
                        let paused = self.pause(pause);
                        more.extend(self.core.step(boot_now_ms(), Input::Paused(paused)));
                    }
                    Action::KillTree => self.kill_tree(),
                    Action::Record(outcome) => self.finish(outcome),
                }
            }
            actions = more;
        }
        self.tell_change();
    }

    fn start(&mut self) -> Input {
        let at_ms = unix_now_ms();
        // On disk before anything of it can run: nobody will start it again.
        if let Err(error) = self.record.commit(&Event::Starting { at_ms }) {
            return Input::StartFailed {
                reason: format!("the node cannot write down that it starts: {error}"),
                node_fault: true,
            };
        }
        let entrances = match self.worker.group.as_ref().map_or_else(|| Ok(Vec::new()), |group| group.entrances()) {
            Ok(entrances) => entrances,
            Err(error) => {
                return Input::StartFailed {
                    reason: format!("its control groups cannot be joined: {error}"),
                    node_fault: true,
                };
            }
        };
        match spawn::spawn(&self.worker, &self.own.mark(), entrances, self.output.take_ends()) {
            Ok(pid) => {
                self.child = Some(pid);
                self.started_ms = Some(at_ms);
                if let Some(worker) = Identity::of(pid.as_raw()) {
                    // A help for whoever cleans up after this process; the worker is found without it too.
                    let _ = self.record.note(&Event::Started { worker });
                }
                Input::ChildStarted { pid: pid.as_raw(), since_ms: at_ms }
            }
            Err(StartError { reason, node_fault }) => Input::StartFailed { reason, node_fault },
        }
    }

    fn signal(&self, number: i32, to: Whom) {
        let Ok(signal) = Signal::try_from(number) else {
            complain(&format!("{number} is no signal that can be sent"));
            return;
        };
        if to == Whom::Tree && signal == Signal::SIGTERM {
            tree::terminate_all(|| tree::descendants(self.own.pid));
            return;
        }
        let worker = self.child.map(Pid::as_raw);
        let mut pids = match to {
            Whom::Worker => Vec::new(),
            Whom::Tree | Whom::Descendants => tree::descendants(self.own.pid),
        };
        pids.retain(|pid| Some(*pid) != worker);
        if to != Whom::Descendants {
            pids.extend(worker);
        }
        for pid in pids {
            // It may have ended already.
            let _ = kill(Pid::from_raw(pid), signal);
            if signal == Signal::SIGTERM {
                // One that is held still would not hear it.
                let _ = kill(Pid::from_raw(pid), Signal::SIGCONT);
            }
        }
    }

    /// Makes the tree stand still, or go on; gives whether it stands still. What cannot be made to stand still goes on.
    fn pause(&self, pause: bool) -> bool {
        let group = self.worker.group.as_ref();
        let find = || tree::descendants(self.own.pid);
        if pause && group.is_some_and(|group| group.freeze()) {
            return true;
        }
        if let Some(group) = group {
            group.thaw();
        }
        let stands_still = pause && tree::pause_all(find);
        if !stands_still {
            if pause {
                complain("its processes do not stand still");
            }
            tree::resume_all(find);
        }
        stands_still
    }

    fn kill_tree(&mut self) {
        if let Some(group) = &self.worker.group {
            group.kill();
        }
        tree::kill_all(|| tree::descendants(self.own.pid));
    }

    /// Reaps what has ended: the worker, and all orphans of its tree, which come to this process as their reaper.
    fn reap(&mut self) {
        while matches!(self.core.phase(), Phase::Running { .. } | Phase::Stopping) {
            match spawn::reap() {
                Reaped::None => return,
                Reaped::Childless => self.feed(Input::TreeGone),
                Reaped::One(pid, exit) if Some(pid) == self.child => {
                    self.child = None;
                    let out_of_memory = self.worker.group.as_ref().is_some_and(|group| group.ran_out_of_memory());
                    self.feed(Input::ChildExited { exit, out_of_memory });
                }
                Reaped::One(..) => {}
            }
        }
    }

    /// Writes down how it ended, and tells.
    fn finish(&mut self, outcome: Outcome) {
        // Nothing of it runs, so what is in the pipes is all there will be.
        for pump in &mut self.output.pumps {
            while pump.carry(&mut self.buffer) {}
        }
        let group = self.worker.group.as_ref();
        let usage = self.started_ms.and_then(|_| getrusage(UsageWho::RUSAGE_CHILDREN).ok());
        let cpu_ms = || {
            let usage = usage?;
            let micros = |time: nix::sys::time::TimeVal| time.tv_sec() * 1_000_000 + time.tv_usec();
            u64::try_from((micros(usage.user_time()) + micros(usage.system_time())) / 1000).ok()
        };
        let ended = Ended {
            exit: shortened(outcome.exit),
            cause: outcome.cause,
            node_fault: outcome.node_fault,
            started_ms: self.started_ms,
            ended_ms: unix_now_ms(),
            cpu_ms: self.started_ms.and(group.and_then(|group| group.cpu_ms())).or_else(cpu_ms),
            peak_memory_kib: self
                .started_ms
                .and(group.and_then(|group| group.peak_memory_kib()))
                .or_else(|| u64::try_from(usage?.max_rss()).ok()),
            lost_output_bytes: self.output.lost(),
        };
        if let Some(group) = group
            && let Err(error) = group.remove()
        {
            complain(&format!("cannot remove its control groups: {error}"));
        }
        let event = Event::Ended(ended.clone());
        let noted = self.record.note(&event);
        // Told before it is on disk, as the next work may be waiting for that. Whoever hears it keeps it too; if the power
        // goes before anybody has, the end is unknown, as it would be had the power gone a moment earlier.
        self.told = Status::Ended(ended);
        self.tell();
        let mut kept = noted.and_then(|()| self.record.sync());
        while let Err(error) = kept {
            // An agent that has heard it can pass it on; if there is none, the disk must take it sooner or later.
            complain(&format!("cannot write down how the worker ended: {error}"));
            if !self.connections.is_empty() {
                break;
            }
            thread::sleep(RECORD_AGAIN);
            self.accept();
            kept = self.record.commit(&event);
        }
    }

    fn carry(&mut self) {
        for pump in &mut self.output.pumps {
            pump.carry(&mut self.buffer);
        }
    }

    fn read_signals(&mut self) {
        while let Ok(Some(signal)) = self.signals.read_signal() {
            // The machine shuts down, or somebody ends it by hand. All other signals only wake it up.
            if i32::try_from(signal.ssi_signo) == Ok(Signal::SIGTERM as i32) {
                self.feed(Input::Stop(self.worker.stop));
            }
        }
    }

    fn accept(&mut self) {
        while let Ok((stream, _)) = self.listener.accept() {
            self.admit(stream, true);
        }
    }

    fn admit(&mut self, stream: UnixStream, greet: bool) {
        if stream.set_nonblocking(true).is_err() {
            return;
        }
        if self.connections.len() == CONNECTIONS {
            self.connections.remove(0);
        }
        let mut connection = Connection { stream, begun: Vec::new() };
        if !greet || connection.send(&self.told) {
            self.connections.push(connection);
        }
    }

    fn read_commands(&mut self) {
        let mut commands = Vec::new();
        self.connections.retain_mut(|connection| connection.receive(&mut commands));
        for command in commands {
            self.feed(match command {
                Command::Go => Input::Go,
                Command::Lease { until_ms } => Input::Lease { until_ms },
                Command::Signal { signal, to } => Input::Signal { signal, to },
                Command::Pause => Input::Pause,
                Command::Resume => Input::Resume,
                Command::Stop(plan) => Input::Stop(plan),
                Command::Kill => Input::Kill,
            });
        }
    }

    fn tell_change(&mut self) {
        let status = match self.core.phase() {
            Phase::Prepared | Phase::Starting => Status::Prepared,
            Phase::Running { pid, since_ms } => {
                Status::Running { pid: *pid, since_ms: *since_ms, paused: self.core.is_paused() }
            }
            Phase::Stopping => Status::Stopping,
            // Told when it was written down.
            Phase::Ended => return,
        };
        if status != self.told {
            self.told = status;
            self.tell();
        }
    }

    fn tell(&mut self) {
        let told = &self.told;
        self.connections.retain_mut(|connection| connection.send(told));
    }
}

impl Connection {
    /// Sends a status; false when the connection is broken or its reader sleeps.
    fn send(&mut self, status: &Status) -> bool {
        let Ok(mut line) = serde_json::to_vec(status) else { return false };
        line.push(b'\n');
        self.stream.write_all(&line).is_ok()
    }

    /// Takes in what has come; false when the connection is to go.
    fn receive(&mut self, commands: &mut Vec<Command>) -> bool {
        let mut buffer = [0; 4096];
        loop {
            match self.stream.read(&mut buffer) {
                Ok(0) => return false,
                Ok(count) => self.begun.extend_from_slice(&buffer[..count]),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return true,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => return false,
            }
            while let Some(end) = self.begun.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = self.begun.drain(..=end).collect();
                match serde_json::from_slice(&line) {
                    Ok(command) => commands.push(command),
                    Err(error) => {
                        complain(&format!("a command makes no sense: {error}"));
                        return false;
                    }
                }
            }
            if self.begun.len() > LINE_LIMIT {
                complain(&format!("a command has more than {LINE_LIMIT} bytes"));
                return false;
            }
        }
    }
}

/// The connection that the agent gave as standard input, which is `/dev/null` afterwards.
fn given_connection() -> io::Result<UnixStream> {
    let stream = UnixStream::from(io::stdin().as_fd().try_clone_to_owned()?);
    dup2_stdin(File::open("/dev/null")?)?;
    Ok(stream)
}

/// Signals come through a descriptor, and none of them ends the process. The worker gets them unblocked.
fn signals() -> io::Result<SignalFd> {
    let mut mask = SigSet::empty();
    let blocked = [
        Signal::SIGCHLD,
        Signal::SIGTERM,
        Signal::SIGINT,
        Signal::SIGHUP,
        Signal::SIGQUIT,
        Signal::SIGUSR1,
        Signal::SIGUSR2,
        Signal::SIGALRM,
        Signal::SIGTSTP,
        Signal::SIGTTIN,
        Signal::SIGTTOU,
    ];
    for signal in blocked {
        mask.add(signal);
    }
    mask.thread_block()?;
    Ok(SignalFd::with_flags(&mask, SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC)?)
}

/// A reason is cut so that an end fits into what was reserved on disk.
fn shortened(exit: Exit) -> Exit {
    match exit {
        Exit::NotStarted(mut reason) if reason.len() > REASON_LIMIT => {
            let end = (0..=REASON_LIMIT).rev().find(|end| reason.is_char_boundary(*end)).unwrap_or(0);
            reason.truncate(end);
            Exit::NotStarted(reason)
        }
        exit => exit,
    }
}
