//! Batch scripts as people have them, unchanged: what is around them is Slurm's.

use std::time::Duration;

use serde_json::json;

use crate::host::{Host, eventually, repository, within};

/// Submits a script, waits for its end, and gives what it wrote.
fn batch(host: &Host, script: &str) -> String {
    host.write("script.sh", script);
    let id = host.submit("script.sh");
    let job = host.awaits(id, &["finished", "failed", "cancelled"]);
    let output = host.offtake(&format!("logs {id}")).succeeds().stdout;
    assert_eq!(job["job"]["state"], "finished", "{job:#}\n{output}");
    output
}

#[test]
fn the_body_runs_once_and_srun_starts_the_tasks() {
    let host = Host::new("srun");
    let _server = host.up("");
    let output = batch(
        &host,
        r#"#!/bin/bash
#SBATCH --job-name=steps --ntasks=4 --mem=64M --overcommit
set -euo pipefail
echo "body of $SLURM_JOB_NAME: $SLURM_NTASKS tasks, $SLURM_NNODES node, procid $SLURM_PROCID"
nodes=($(scontrol show hostnames "$SLURM_JOB_NODELIST"))
echo "nodes ${#nodes[@]}"
test "$(srun -n1 hostname)" = "$(hostname)"
srun -l sh -c 'echo task $SLURM_PROCID of $SLURM_NTASKS, $RANK of $WORLD_SIZE' | sort
srun -n2 --export=ALL,COLOR=red sh -c 'echo $COLOR $SLURM_STEP_ID' | sort
srun -n1 sh -c 'exit 5' 2>/dev/null || echo "srun ended with $?"
printf 'from stdin\n' | cat
"#,
    );
    let lines: Vec<_> = output.lines().collect();
    assert_eq!(lines[..2], ["body of steps: 4 tasks, 1 node, procid 0", "nodes 1"], "{output}");
    let tasks: Vec<_> = (0..4).map(|task| format!("{task}: task {task} of 4, {task} of 4")).collect();
    assert_eq!(lines[2..6], tasks[..], "{output}");
    assert!(lines[6].starts_with("red ") && lines[6] == lines[7], "one step of two tasks: {output}");
    assert_eq!(lines[8..], ["srun ended with 5", "from stdin"], "{output}");
}

#[test]
fn commands_of_slurm_work_inside_a_job() {
    let host = Host::new("inside");
    let _server = host.up("");
    let output = batch(
        &host,
        r#"#!/bin/bash
#SBATCH -J outer -n 1 -O --cpus-per-task=1
set -euo pipefail
id=$(sbatch --parsable --hold --wrap 'echo never')
sbatch --wrap 'echo inner' -J inner --hold
squeue -h -o '%i %j %T' | sort -n
squeue -h -j "$SLURM_JOB_ID" -o '%T'
scancel "$id"
sinfo -h -o '%T' | head -n 1
scontrol show job "$SLURM_JOB_ID" | grep -o 'JobName=outer'
"#,
    );
    let lines: Vec<_> = output.lines().collect();
    assert_eq!(lines[0], "Submitted batch job 3", "{output}");
    assert_eq!(lines[1..5], ["1 outer RUNNING", "2 wrap PENDING", "3 inner PENDING", "RUNNING"], "{output}");
    assert_eq!(lines[6], "JobName=outer", "{output}");
    assert_eq!(host.state(2), "cancelled");
    assert_eq!(host.state(3), "held");
}

/// As in PyTorch's own guide to `torchrun` under Slurm. A stand-in for `torchrun` shows what it is told.
#[test]
fn a_torchrun_script_runs_unchanged() {
    let host = Host::new("torchrun");
    let _server = host.up("");
    host.write("torchrun", "#!/bin/sh\necho \"torchrun $* on node $SLURM_NODEID of $SLURM_NNODES\"\n");
    let path = host.work("torchrun");
    std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o755)).expect("it is ours");
    let output = batch(
        &host,
        r#"#!/bin/bash

#SBATCH --job-name=multinode-example
#SBATCH --nodes=1
#SBATCH --ntasks=1
#SBATCH --cpus-per-task=1

export PATH=$PWD:$PATH
nodes=( $( scontrol show hostnames $SLURM_JOB_NODELIST ) )
nodes_array=($nodes)
head_node=${nodes_array[0]}
head_node_ip=$(srun --nodes=1 --ntasks=1 -w "$head_node" hostname --ip-address)

echo Node IP: $head_node_ip
export LOGLEVEL=INFO

srun torchrun \
--nnodes 1 \
--nproc_per_node 1 \
--rdzv_id $SLURM_JOB_ID \
--rdzv_backend c10d \
--rdzv_endpoint $MASTER_ADDR:29500 \
examples/train.py 50 10
"#,
    );
    let lines: Vec<_> = output.lines().collect();
    assert!(lines[0].starts_with("Node IP: ") && lines[0].len() > 10, "{output}");
    let expected = "torchrun --nnodes 1 --nproc_per_node 1 --rdzv_id 1 --rdzv_backend c10d --rdzv_endpoint 127.0.0.1:29500 \
                    examples/train.py 50 10 on node 0 of 1";
    assert_eq!(lines[1], expected, "{output}");
}

#[test]
fn arrays_and_dependencies_go_in_order() {
    let host = Host::new("arrays");
    let _server = host.up("");
    host.write("array.sh", "#!/bin/sh\n#SBATCH --array=1-5:2%1 -J sweep -o %x-%A_%a.out --overcommit -c 1\necho $SLURM_ARRAY_TASK_ID of $SLURM_ARRAY_TASK_COUNT in $SLURM_ARRAY_JOB_ID\n");
    host.write("after.sh", "#!/bin/sh\ncat sweep-1_*.out\n");
    host.write("fail.sh", "#!/bin/sh\nexit 1\n");
    let array = host.submit("array.sh");
    let after = host.submit(&format!("--dependency=afterok:{array} after.sh"));
    let fail = host.submit(&format!("--dependency=afterany:{after} fail.sh"));
    let never = host.submit(&format!("--dependency=afterok:{fail} after.sh"));
    let instead = host.submit(&format!("--dependency=afternotok:{fail} after.sh"));
    for (id, state) in [(after, "finished"), (fail, "failed"), (never, "cancelled"), (instead, "finished")] {
        host.awaits(id, &[state]);
    }
    for index in [1, 3, 5] {
        assert_eq!(host.text(&format!("sweep-{array}_{index}.out")), format!("{index} of 3 in {array}\n"));
    }
    let told = host.offtake(&format!("logs {after}")).succeeds().stdout;
    assert_eq!(told, format!("1 of 3 in {array}\n3 of 3 in {array}\n5 of 3 in {array}\n"));
    assert_eq!(host.job(array + 1)["job"]["array"], json!({ "id": array, "index": 3 }));
    assert_eq!(host.offtake(&format!("why {array}_3 --json")).succeeds().json()["id"], array + 1);
    // At most one at one time: each started when the one before it had ended.
    let time = |id: u64, field: &str| host.job(id)["job"][field].as_i64().expect("it ran");
    assert!(time(array + 1, "started_ms") >= time(array, "ended_ms"));
    assert!(time(array + 2, "started_ms") >= time(array + 1, "ended_ms"));
}

#[test]
fn a_signal_comes_before_the_limit_and_a_requeue_goes_on() {
    let host = Host::new("limits");
    let _server = host.up("");
    // The signal comes a second before the limit; the script says so, and asks for its own requeue.
    host.write(
        "signal.sh",
        r#"#!/bin/bash
#SBATCH --time=0:03 --signal=B:USR1@2 --requeue --open-mode=append -o signal.out -c 1
echo "start ${SLURM_RESTART_COUNT:-0}"
if [ -n "$SLURM_RESTART_COUNT" ]; then exit 0; fi
trap 'echo caught; scontrol requeue $SLURM_JOB_ID; sleep 60' USR1
sleep 60 &
wait
"#,
    );
    host.write("limit.sh", "#!/bin/sh\n#SBATCH -t 0:01 -o limit.out -c 1\necho begun\nsleep 60\n");
    let signal = host.submit("signal.sh");
    let limit = host.submit("limit.sh");
    let ended = host.awaits(limit, &["failed", "cancelled", "finished"]);
    assert_eq!(ended["job"]["state"], "failed", "{ended:#}");
    assert!(ended["job"]["reason"].as_str().is_some_and(|reason| reason.contains("limit")), "{ended:#}");
    let ended = host.awaits(signal, &["finished", "failed", "cancelled"]);
    assert_eq!((&ended["job"]["state"], &ended["job"]["attempts"]), (&json!("finished"), &json!(2)), "{ended:#}");
    // The shell may still come to say that its `sleep` was terminated, before it is itself.
    assert_eq!(host.text("signal.out").replace("Terminated\n", ""), "start 0\ncaught\nstart 1\n");
    within(Duration::from_secs(5), "nothing of them is left", || {
        host.processes().iter().all(|process| !process.is_supervisor()).then_some(())
    });
}

#[test]
fn the_examples_of_scripts_are_taken() {
    let host = Host::new("examples");
    let _server = host.up("");
    std::fs::create_dir(host.work("examples")).expect("the folder can be written");
    for name in ["train.py", "sbatch/array.sbatch"] {
        let to = host.work(&format!("examples/{}", name.rsplit('/').next().unwrap_or(name)));
        std::fs::copy(repository().join("examples").join(name), to).expect("the example is there");
    }
    let array = host.submit("examples/array.sbatch");
    eventually("two of its tasks have ended", || {
        let over = host.jobs().into_iter().filter(|job| job["state"] == "finished").count();
        (over >= 2).then_some(())
    });
    host.offtake(&format!("cancel {array} --now --json")).succeeds();
    eventually("the rest is cancelled", || host.offtake("jobs").succeeds().stdout.is_empty().then_some(()));
    assert!(host.text(&format!("sweep-{array}_0.out")).ends_with("complete\n"));
    // One that needs chips is refused where there are none, with the reason.
    let torchrun = repository().join("examples/sbatch/torchrun.sbatch").display().to_string();
    let refused = host.offtake(&format!("submit {torchrun}"));
    assert!(refused.code == Some(2) && !refused.stderr.is_empty(), "{refused:?}");
}
