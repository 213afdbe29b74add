//! A gang of real processes that find each other, save their work, and go on from there.

use nix::sys::signal::{Signal, kill};
use serde_json::json;

use crate::host::{Host, eventually};
use crate::training::Training;

#[test]
fn a_gang_is_held_and_killed_and_ends_right() {
    let host = Host::new("gang");
    let _server = host.up("");
    let training = Training { host: &host, folder: "checkpoints", steps: 150 };
    let job = json!({
        "name": "train", "command": training.command(), "restarts": 3, "directory": host.path("work"),
        "checkpoint_signal": "USR1", "checkpoint_grace": "20s", "gangs": [{ "workers": 4, "cpu_milli": 250 }],
    });
    host.write("train.toml", toml::to_string(&job).expect("a job can be written as TOML"));
    let id = host.submit("train.toml");
    eventually("it trains", || (training.losses().len() >= 20).then_some(()));

    // On hold: it saves, ends and waits. Nothing of it runs meanwhile.
    host.offtake(&format!("hold {id}")).succeeds();
    host.awaits(id, &["held"]);
    let held = training.losses().len();
    let saved: serde_json::Value =
        serde_json::from_str(&host.text("checkpoints/checkpoint.json")).expect("a checkpoint is there");
    assert_eq!(saved["step"], json!(held), "the last step before the hold is saved");
    assert!(training.workers().is_empty(), "{:?}", training.workers());
    assert!(training.writers().trim_end().lines().last().is_some_and(|line| line.contains(" ends ")));

    // Released: it goes on from there. One of its workers is killed: all of them start again.
    host.offtake(&format!("release {id}")).succeeds();
    eventually("it goes on", || (training.losses().len() >= held + 10).then_some(()));
    let workers = training.workers();
    assert_eq!(workers.len(), 4, "{workers:?}");
    let second = workers.iter().find(|worker| worker.variable("RANK") == Some("2")).expect("there is a worker 2");
    kill(second.pid, Signal::SIGKILL).expect("it lives");

    let job = host.awaits(id, &["finished", "failed"]);
    let output: String =
        (1..=3).map(|attempt| host.offtake(&format!("logs {id} --attempt {attempt}")).succeeds().stdout).collect();
    assert_eq!((&job["job"]["state"], &job["job"]["attempts"]), (&json!("finished"), &json!(3)), "{job:#}\n{output}");
    training.ended_right(&output);
    assert_eq!(training.writers().matches(" begins ").count(), 3, "{}", training.writers());
    assert!(
        output.contains(&format!("steps {} to 150", held + 1)),
        "it resumed after the step that was saved:\n{output}"
    );

    // The receipt knows what was lost: the attempt that was killed, not the one that saved its work.
    let receipt = &job["receipt"];
    let figure = |name: &str| receipt[name].as_f64().unwrap_or(f64::NAN);
    assert_eq!(receipt["restarts"], 2, "{receipt:#}");
    assert!(figure("goodput") > 0.0 && figure("goodput") < 1.0, "{receipt:#}");
    assert!(figure("lost_hours") > 0.0 && figure("lost_hours") < figure("core_hours"), "{receipt:#}");
    assert!(figure("energy_kwh") > 0.0 && figure("waited_ms") > 0.0, "{receipt:#}");
    let failure = &job["attempts"][1]["failures"];
    assert!(failure.to_string().contains('9'), "worker 2 was killed by signal 9: {failure:#}");
}
