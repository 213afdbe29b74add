//! The API as its description says it is: schemathesis makes thousands of requests of `docs/openapi.json`, right and wrong
//! ones, and holds every answer against it.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::host::{Host, repository};

/// The version that is known to work.
const SCHEMATHESIS: &str = "schemathesis==4.32.5";

/// Two nodes that never join: jobs are taken and wait, as nothing that was made up at random may run.
const FLEET: &str = "name = \"pair\"\n\n[node_kinds.node]\ncpu_cores = 64\nmemory_gib = 512\nbase_watts = 1_000\n\n\
                     [sites.hall]\npue = 1.5\nnodes = { node = 2 }\n";

/// Python with schemathesis, kept in the build folder; or why there is none.
fn schemathesis() -> Result<PathBuf, String> {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("schemathesis");
    let program = folder.join("bin/schemathesis");
    if folder.join("complete").is_file() {
        return Ok(program);
    }
    let run = |command: &mut Command| match command.output() {
        Ok(output) if output.status.success() => Ok(()),
        Ok(output) => Err(String::from_utf8_lossy(&output.stderr).into_owned()),
        Err(error) => Err(error.to_string()),
    };
    run(Command::new("python3").args(["-m", "venv", "--clear"]).arg(&folder))?;
    run(Command::new(folder.join("bin/pip")).args(["install", "--quiet", "--retries", "1", SCHEMATHESIS]))?;
    std::fs::write(folder.join("complete"), "").map_err(|error| error.to_string())?;
    Ok(program)
}

#[test]
fn every_answer_is_as_the_description_says() {
    let program = match schemathesis() {
        Ok(program) => program,
        Err(reason) => {
            println!("left out: {SCHEMATHESIS} cannot be installed: {reason}");
            return;
        }
    };
    let host = Host::new("api");
    host.write("fleet.toml", FLEET);
    let server = host.up("--no-agent --most-requests 1000000 --fleet fleet.toml");
    let url = server.up["url"].as_str().expect("it listens");
    let config = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/live/schemathesis.toml");
    let description = repository().join("docs/openapi.json");
    let mut command = host.command(&program.display().to_string(), &["--config-file"]);
    command.arg(config).arg("run").arg(description).args(["--url", url, "--no-color"]);
    command.args(["--header", &format!("Authorization: Bearer {}", server.token())]);
    // Streams without an end, and what only agents and jobs may ask, which need keys and tokens of their own.
    command.args(["--exclude-path", "/v1/events", "--exclude-path-regex", "^/v1/agents/|/steps"]);
    let output = command.output().expect("it was installed");
    let report = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{report}{}", String::from_utf8_lossy(&output.stderr));
    let cases = report.lines().find(|line| line.contains(" generated, ")).unwrap_or_default();
    println!("{}", cases.trim());
    assert_eq!(server.get("/v1/health").json()["status"], "ready");
}
