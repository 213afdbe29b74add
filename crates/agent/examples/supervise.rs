//! Processes for the tests: `supervise DIR` is the supervisor, as the `offtake` command starts it; `launch DIR` is an agent
//! that starts the worker whose launch lies in the folder, and then does nothing more.

use std::error::Error;
use std::future::pending;
use std::path::Path;
use std::process::ExitCode;

use offtake_agent::supervisor::{Command, launch, supervise};

fn main() -> ExitCode {
    let mut arguments = std::env::args_os().skip(1);
    let (Some(command), Some(dir)) = (arguments.next(), arguments.next()) else { return ExitCode::from(2) };
    match command.to_str() {
        Some("supervise") => supervise(Path::new(&dir)),
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
    let mut handle = launch(dir, &worker, &std::env::current_exe()?)?;
    handle.send(&Command::Go).await?;
    pending().await
}
