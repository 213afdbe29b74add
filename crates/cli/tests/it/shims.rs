//! Slurm's commands, as this same binary under their names.

use serde_json::json;

use crate::fake::{Server, detail, job, no, ok, piece, text};
use crate::support::Folder;

fn step(state: &str, exit_code: Option<i32>) -> serde_json::Value {
    json!({ "job": 17, "attempt": 1, "step": 2, "state": state, "tasks": 2, "nodes": ["n1", "n2"], "exit_code": exit_code })
}

#[test]
fn srun_inside_a_job_is_a_step_of_it() {
    let folder = Folder::new("shim-srun");
    let lines = [piece(1, "output", 0, "b\n"), piece(0, "output", 0, "a\n"), piece(0, "error", 0, "wrong\n")].concat();
    let server = Server::answering(&[
        ("POST /v1/jobs/17/steps", &[ok(step("starting", None))]),
        ("GET /v1/jobs/17/logs", &[text(&lines)]),
        ("GET /v1/jobs/17/steps/2", &[ok(step("running", None)), ok(step("failed", Some(7)))]),
    ]);
    let mut srun = server.command(&folder, "srun", "-l -n 2 --gpus-per-task=1 python3 train.py --x");
    let ran = folder.run(srun.env("SLURM_JOB_ID", "17").env("MASTER_ADDR", "n1").env("SLURM_PROCID", "0"));
    assert_eq!((ran.code, ran.stdout.as_str(), ran.stderr.as_str()), (Some(7), "1: b\n0: a\n", "0: wrong\n"));
    let body = &server.asked_of("POST /v1/jobs/17/steps")[0].body;
    assert_eq!((&body["command"], &body["tasks"]), (&json!(["python3", "train.py", "--x"]), &json!(2)));
    assert_eq!(body["environment"]["MASTER_ADDR"], "n1");
    assert!(body["environment"].get("SLURM_PROCID").is_none(), "each task has a place of its own");
    assert_eq!(server.asked_of("GET /v1/jobs/17/logs")[0].query, "attempt=1&follow=true&step=2");
}

#[test]
fn srun_outside_a_job_is_one() {
    let folder = Folder::new("shim-srun-alone");
    let server = Server::answering(&[
        ("POST /v1/jobs", &[ok(json!({ "id": 5, "count": 1, "state": "pending" }))]),
        ("GET /v1/jobs/5", &[ok(detail(5, "finished", Some(0)))]),
        ("GET /v1/jobs/5/logs", &[text(&piece(0, "output", 0, "n1\n"))]),
    ]);
    let ran = folder.run(&mut server.command(&folder, "srun", "-n 1 hostname")).succeeds();
    assert_eq!((ran.stdout.as_str(), ran.stderr.as_str()), ("n1\n", ""));
    let refused = folder.run(&mut server.command(&folder, "srun", "--pty bash")).refused();
    assert!(refused.starts_with("srun: error: --pty is not offered"), "{refused}");
}

#[test]
fn sbatch_says_what_slurms_does() {
    let folder = Folder::new("shim-sbatch");
    folder.write("train.sh", "#!/bin/sh\n#SBATCH -J fine\nhostname\n");
    let server = Server::answering(&[("POST /v1/jobs", &[ok(json!({ "id": 5, "count": 1, "state": "pending" }))])]);
    let run = |arguments: &str| folder.run(&mut server.command(&folder, "sbatch", arguments));
    assert_eq!(run("train.sh").succeeds().stdout, "Submitted batch job 5\n");
    assert_eq!(run("--parsable train.sh --parsable").succeeds().stdout, "5\n");
    assert_eq!(server.asked()[1].body["arguments"], json!(["--parsable"]));
    assert_eq!(run("--parsable --wrap hostname").succeeds().stdout, "5\n");
    assert!(run("--no-such train.sh").refused().starts_with("sbatch: error: "));
    assert!(run("none.sh").refused().contains("none.sh"));
}

#[test]
fn squeue_and_scancel_know_jobs_by_their_words() {
    let folder = Folder::new("shim-squeue");
    let server = Server::answering(&[
        ("GET /v1/jobs", &[ok(json!({ "jobs": [] }))]),
        ("GET /v1/jobs/17", &[ok(detail(17, "running", None))]),
        ("GET /v1/jobs/18", &[no(404, "there is no job 18")]),
        ("POST /v1/jobs/17/cancel", &[ok(job(17, "stopping"))]),
    ]);
    let run = |program: &str, arguments: &str| folder.run(&mut server.command(&folder, program, arguments));
    assert_eq!(run("squeue", "-h -j 17 -o %i:%t:%N").succeeds().stdout, "17:R:n1\n");
    assert!(run("squeue", "").succeeds().stdout.starts_with("             JOBID PARTITION     NAME     USER ST"));
    assert_eq!(run("squeue", "-h -u bob -j 17").succeeds().stdout, "");
    assert_eq!(run("squeue", "-j 18").refused(), "squeue: error: there is no job 18\n");
    assert_eq!(run("scancel", "-s TERM 17").succeeds().stdout, "");
    assert_eq!(server.asked_of("POST /v1/jobs/17/cancel")[0].body["signal"], "TERM");
}

#[test]
fn scontrol_tells_the_names_of_hosts_without_a_server() {
    let folder = Folder::new("shim-scontrol");
    let server = Server::answering(&[]);
    let run = |arguments: &str| {
        let mut command = server.command(&folder, "scontrol", arguments);
        folder.run(command.env("SLURM_JOB_NODELIST", "n[01-03]"))
    };
    assert_eq!(run("show hostnames").succeeds().stdout, "n01\nn02\nn03\n");
    assert_eq!(run("show hostnames a[1-2],b").succeeds().stdout, "a1\na2\nb\n");
    assert_eq!(run("show hostlist n1,n2,n3").succeeds().stdout, "n[1-3]\n");
    assert!(run("update jobid=17 timelimit=60").refused().contains("update jobid=17 timelimit=60"));
    assert!(server.asked().is_empty());
}
