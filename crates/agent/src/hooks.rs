//! Programs of the operator around the work: prolog, epilog, health check.
//!
//! They run as the agent's own user with a plain environment and a limit of time. When the limit is over, they and all
//! that they started in their process group are killed.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use tokio::io::AsyncReadExt;
use tokio::process::Command;

/// The most of a hook's output that is looked at, in bytes.
const MOST_OUTPUT: u64 = 4 << 10;
/// How much of its first line is told, in characters.
const MOST_TOLD: usize = 200;

/// Runs a hook to its end.
///
/// # Errors
/// In words for the operator: it could not be started, ended with another status than 0, or took too long. The first
/// line that it wrote is in them.
pub async fn run_hook(program: &Path, environment: &BTreeMap<String, String>, limit: Duration) -> Result<(), String> {
    let name = program.display();
    // One pipe for both streams, so that the first line is the first line.
    let (reader, writer) = std::io::pipe().map_err(|error| format!("{name} cannot be run: {error}"))?;
    let errors = writer.try_clone().map_err(|error| format!("{name} cannot be run: {error}"))?;
    let mut command = Command::new(program);
    command.env_clear().envs(environment).current_dir("/").process_group(0).kill_on_drop(true);
    command.stdin(Stdio::null()).stdout(writer).stderr(errors);
    let mut child = command.spawn().map_err(|error| format!("{name} cannot be run: {error}"))?;
    let group = Group(child.id().and_then(|id| i32::try_from(id).ok()).map(Pid::from_raw));
    // The command holds our copies of the pipe's end.
    drop(command);

    let read = read_some(reader);
    tokio::pin!(read);
    let mut output = None;
    let waited = tokio::time::timeout(limit, async {
        loop {
            tokio::select! {
                text = &mut read, if output.is_none() => output = Some(text),
                status = child.wait() => return status,
            }
        }
    })
    .await;
    match waited {
        Ok(_) => group.leave(),
        Err(_) => {
            drop(group);
            let _ = child.wait().await;
        }
    }
    if output.is_none() {
        // What it left in the background may hold the pipe open: no reason to wait for that.
        output = tokio::time::timeout(Duration::from_millis(100), read).await.ok();
    }
    let line = output
        .unwrap_or_default()
        .lines()
        .next()
        .unwrap_or_default()
        .trim()
        .chars()
        .take(MOST_TOLD)
        .collect::<String>();
    let told = if line.is_empty() { String::new() } else { format!(": {line}") };
    match waited {
        Err(_) => Err(format!("{name} took longer than {} s{told}", limit.as_secs_f64())),
        Ok(Err(error)) => Err(format!("{name} cannot be waited for: {error}")),
        Ok(Ok(status)) if status.success() => Ok(()),
        Ok(Ok(status)) => Err(format!("{name} ended with {status}{told}")),
    }
}

/// A process group that is killed with its owner, as when nobody waits for the hook any more.
struct Group(Option<Pid>);

impl Group {
    /// What is left of it may go on.
    fn leave(mut self) {
        self.0 = None;
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        if let Some(group) = self.0 {
            // It may have ended by itself.
            let _ = killpg(group, Signal::SIGKILL);
        }
    }
}

/// The beginning of what comes out of a pipe; the rest is read too, so that nobody who writes is stopped by it.
async fn read_some(pipe: std::io::PipeReader) -> String {
    let file = tokio::net::unix::pipe::Receiver::from_owned_fd(pipe.into());
    let Ok(mut file) = file else { return String::new() };
    let mut text = Vec::new();
    let _ = (&mut file).take(MOST_OUTPUT).read_to_end(&mut text).await;
    let mut rest = [0; 4096];
    while let Ok(1..) = file.read(&mut rest).await {}
    String::from_utf8_lossy(&text).into_owned()
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;
    use std::path::PathBuf;

    use super::*;
    use crate::testing::Folder;

    fn script(folder: &Folder, body: &str) -> PathBuf {
        let path = folder.path().join("hook");
        fs::write(&path, format!("#!/bin/sh\n{body}\n")).expect("written");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("executable");
        path
    }

    async fn run(folder: &Folder, body: &str, limit_ms: u64) -> Result<(), String> {
        let environment = [("TASK".to_owned(), "17.1.0".to_owned())].into();
        run_hook(&script(folder, body), &environment, Duration::from_millis(limit_ms)).await
    }

    /// Waits until the process whose number is in the file is dead.
    async fn dies(pid: &Path) {
        let child: i32 = fs::read_to_string(pid).expect("written").trim().parse().expect("a number");
        let gone = || fs::read_to_string(format!("/proc/{child}/stat")).map_or(true, |stat| stat.contains(") Z"));
        for _ in 0..1000 {
            if gone() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        assert!(gone(), "what it started lives");
    }

    #[tokio::test]
    async fn a_hook_sees_only_what_it_is_given() {
        let folder = Folder::new("hook-environment");
        run(&folder, r#"test "$TASK" = 17.1.0 && test -z "$CARGO_MANIFEST_DIR""#, 10_000).await.expect("it is so");
    }

    #[tokio::test]
    async fn a_failure_tells_its_first_line() {
        let folder = Folder::new("hook-failure");
        let error =
            run(&folder, "echo GPU 3 fell off the bus >&2; echo more; exit 4", 10_000).await.expect_err("failed");
        assert!(error.ends_with("ended with exit status: 4: GPU 3 fell off the bus"), "{error}");
    }

    #[tokio::test]
    async fn one_that_hangs_is_killed_with_all_it_started() {
        let folder = Folder::new("hook-hangs");
        let pid = folder.path().join("pid");
        let body = format!("echo stuck; sleep 60 & echo $! > {}; wait", pid.display());
        let error = run(&folder, &body, 300).await.expect_err("too long");
        assert!(error.contains("took longer than 0.3 s: stuck"), "{error}");
        dies(&pid).await;
    }

    #[tokio::test]
    async fn one_that_nobody_waits_for_any_more_is_killed() {
        let folder = Folder::new("hook-dropped");
        let pid = folder.path().join("pid");
        let body =
            format!("sleep 60 & echo $! > {}.new; mv {}.new {}; wait", pid.display(), pid.display(), pid.display());
        tokio::select! {
            ended = run(&folder, &body, 60_000) => unreachable!("it hangs: {ended:?}"),
            () = async { while !pid.exists() { tokio::time::sleep(Duration::from_millis(5)).await } } => {}
        }
        dies(&pid).await;
    }

    #[tokio::test]
    async fn one_that_leaves_something_behind_does_not_hold_us() {
        let folder = Folder::new("hook-background");
        let started = std::time::Instant::now();
        run(&folder, "sleep 5 & exit 0", 10_000).await.expect("it ended well");
        assert!(started.elapsed() < Duration::from_secs(4));
    }

    #[tokio::test]
    async fn one_that_is_not_there() {
        let error = run_hook(Path::new("/nowhere/hook"), &BTreeMap::new(), Duration::from_secs(1)).await;
        assert!(error.expect_err("missing").contains("/nowhere/hook cannot be run"));
    }
}
