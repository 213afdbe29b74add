//! Processes for the tests: `supervise DATA` is the launcher, as the `offtake` command starts it; `launch DIR` is an agent
//! that starts the worker whose launch lies in the folder, and then does nothing more.

use std::error::Error;
use std::future::pending;
use std::path::Path;
use std::process::ExitCode;

use offtake_agent::supervisor::{Command, Launcher, serve_launches};

fn main() -> ExitCode {
    let mut arguments = std::env::args_os().skip(1);
    let (Some(command), Some(dir)) = (arguments.next(), arguments.next()) else { return ExitCode::from(2) };
    match command.to_str() {
        Some("supervise") => serve_launches(),
        Some("launch") => match launch_and_wait(Path::new(&dir)) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                eprintln!("{error}");
                ExitCode::FAILURE
            }
        },
        _ => ExitCode::from(2),
    }
}

#[tokio::main(flavor = "current_thread")]
async fn launch_and_wait(dir: &Path) -> Result<(), Box<dyn Error>> {
    let worker = serde_json::from_slice(&std::fs::read(dir.join("worker.json"))?)?;
    let launcher = Launcher::new(std::env::current_exe()?, dir.to_path_buf());
    let mut handle = launcher.launch(dir, &worker)?;
    handle.send(&Command::Go).await?;
    pending().await
}
