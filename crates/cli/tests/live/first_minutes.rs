//! What somebody does in the first minutes, and what they are told when it goes wrong.

use std::process::Stdio;

use nix::sys::signal::Signal;
use serde_json::{Value, json};

use crate::host::{BINARY, Host, Ran, eventually, repository};

#[test]
fn a_machine_is_up_runs_work_and_shows_it() {
    let host = Host::new("minutes");
    let server = host.up("");
    assert_eq!(server.up["agent"], true);
    assert!(server.up["sequence"].as_u64().is_some() && server.up["timing"]["ready_ms"].as_f64().is_some());

    let ran = host.offtake("run -- echo hello").succeeds();
    assert_eq!(ran.stdout, "hello\n");
    assert!(
        ran.stderr.contains("job 1 (echo) finished") && ran.stderr.contains("goodput       100.0 %"),
        "{}",
        ran.stderr
    );

    let ran = host.offtake_with(&["run", "--", "sh", "-c", "echo oh >&2; exit 7"]);
    assert_eq!((ran.code, ran.stdout.as_str()), (Some(7), ""));
    assert!(ran.stderr.starts_with("oh\n") && ran.stderr.contains("status 7"), "{}", ran.stderr);

    let told = "echo $RANK/$WORLD_SIZE $LOCAL_RANK/$LOCAL_WORLD_SIZE $NODE_RANK $MASTER_ADDR $MASTER_PORT $SLURM_PROCID/$SLURM_NTASKS";
    let ran = host.offtake_with(&["run", "-w", "4", "--cpus", "0.25", "--", "sh", "-c", told]).succeeds();
    let mut lines: Vec<_> = ran.stdout.lines().collect();
    lines.sort_unstable();
    let port = lines[0].split(' ').nth(5).expect("a worker is told the port");
    assert!(port.parse::<u16>().is_ok_and(|port| port > 1024), "{port}");
    let expected: Vec<_> =
        (0..4).map(|rank| format!("[{rank}] {rank}/4 {rank}/4 0 127.0.0.1 {port} {rank}/4")).collect();
    assert_eq!(lines, expected);

    // Nothing of the user's own secrets or of the server's is in a worker's hands but what the user has.
    let ran = host.offtake_with(&["run", "--", "sh", "-c", "ls /proc/self/fd | wc -l"]).succeeds();
    assert!(
        ran.stdout.trim().parse::<u32>().is_ok_and(|open| open <= 4),
        "descriptors are not inherited: {}",
        ran.stdout
    );

    // Standard output is the work's.
    let ran = host.offtake("run --json -- true").succeeds();
    let said: Value = serde_json::from_str(&ran.stderr).expect("it is JSON and nothing else");
    assert_eq!((&said["job"]["state"], &said["receipt"]["goodput"]), (&json!("finished"), &json!(1.0)));
    server.stop();
}

#[test]
fn files_scripts_and_standard_input_are_submitted() {
    let host = Host::new("submit");
    let _server = host.up("");
    std::fs::create_dir(host.work("examples")).expect("the folder can be written");
    for name in ["train.py", "pretrain.sbatch", "train.toml"] {
        let from = repository().join("examples").join(name);
        std::fs::copy(from, host.work(&format!("examples/{name}"))).expect("the example is there");
    }
    let toml = host.submit("examples/train.toml");
    let script = host.submit("examples/pretrain.sbatch");
    let mut piped = host.command(BINARY, &["submit", "--json", "-"]);
    host.write("piped.sh", "#!/bin/sh\n#SBATCH --job-name=piped --comment=x\necho it is $SLURM_JOB_NAME\n");
    let input = std::fs::File::open(host.work("piped.sh")).expect("it was written");
    let ran = Ran::of(piped.stdin(Stdio::from(input))).succeeds();
    assert!(
        ran.stderr.contains("note: ") && ran.stderr.contains("comment"),
        "what is ignored is named: {}",
        ran.stderr
    );
    let piped = ran.json()["id"].as_u64().expect("it has an id");

    for id in [toml, script, piped] {
        let job = host.awaits(id, &["finished", "failed"]);
        assert_eq!(job["job"]["state"], "finished", "{job:#}");
    }
    assert_eq!(host.offtake(&format!("logs {piped}")).succeeds().stdout, "it is piped\n");
    let output = host.text(&format!("pretrain-{script}.out"));
    assert!(output.contains("4 workers with") && output.ends_with("complete\n"), "{output}");
    assert!(host.text(&format!("train-{toml}-0.out")).ends_with("complete\n"));
    for folder in ["checkpoints/train".to_owned(), format!("checkpoints/pretrain-{script}")] {
        let losses = host.text(&format!("{folder}/loss.csv"));
        let steps: Vec<u32> = losses.lines().filter_map(|line| line.split(',').next()?.parse().ok()).collect();
        assert_eq!(steps, (1..=200).collect::<Vec<_>>(), "{folder}");
    }
}

#[test]
fn jobs_are_held_released_requeued_cancelled_and_explained() {
    let host = Host::new("orders");
    let _server = host.up("--cpus 1");
    let node = host.node();
    host.write("long.toml", "name = \"long\"\ncommand = [\"sleep\", \"600\"]\ngrace = \"1s\"\nduration = \"1h\"\n");
    let first = host.submit("long.toml");
    host.awaits(first, &["running"]);
    let second = host.submit("long.toml");
    let why = host.offtake(&format!("why {second} --json")).succeeds().json();
    assert_eq!((&why["id"], &why["state"]), (&json!(second), &json!("pending")));
    assert!(
        why["earliest_start_ms"].as_i64().is_some() && !why["missing"].as_array().expect("a list").is_empty(),
        "{why:#}"
    );
    let why = host.offtake(&format!("why {second}")).succeeds().stdout;
    assert!(why.contains(&format!("job {first}")), "what stands in the way is named: {why}");
    let why = host.offtake(&format!("why {first}")).succeeds().stdout;
    assert!(why.contains(&node), "{why}");

    let listed = host.offtake("jobs").succeeds().stdout;
    assert!(listed.lines().count() == 3 && listed.contains("running") && listed.contains("pending"), "{listed}");

    // What is ahead, beside what happens otherwise; and nothing changes.
    let before = host.events().len();
    for way in [
        format!("--drain {node}"),
        format!("--lose {node}"),
        "--cap local=0.000001@..1h".to_owned(),
        "--submit long.toml".to_owned(),
    ] {
        let ahead = host.offtake(&format!("what-if {way} --horizon 4h --json")).succeeds().json();
        assert!(ahead["summary"].as_str().is_some_and(|text| !text.is_empty()), "{way}: {ahead:#}");
        host.offtake(&format!("what-if {way} --horizon 4h")).succeeds();
    }
    let ahead = host.offtake(&format!("what-if --lose {node} --horizon 4h --json")).succeeds().json();
    assert!(ahead["changed"].as_u64() >= Some(1), "{ahead:#}");
    assert_eq!(host.events().len(), before);

    host.offtake(&format!("hold {second}")).succeeds();
    assert_eq!(host.state(second), "held");
    host.offtake(&format!("hold {first} --json")).succeeds();
    host.awaits(first, &["held"]);
    host.offtake(&format!("release {second}")).succeeds();
    host.awaits(second, &["running"]);
    host.offtake(&format!("requeue {second}")).succeeds();
    let again = eventually("it runs once more", || {
        let job = host.job(second);
        (job["job"]["attempts"] == 2 && job["job"]["state"] == "running").then_some(job)
    });
    assert_eq!(again["receipt"]["restarts"], 1, "{again:#}");

    host.offtake(&format!("drain {node} --reason upgrade")).succeeds();
    host.offtake(&format!("cancel {second}")).succeeds();
    host.awaits(second, &["cancelled"]);
    let nodes = host.offtake("nodes --json").succeeds().json();
    assert_eq!((&nodes[0]["state"], &nodes[0]["reason"]), (&json!("drained"), &json!("upgrade")));
    host.offtake(&format!("release {first}")).succeeds();
    assert_eq!(host.state(first), "pending");
    let why = host.offtake(&format!("why {first}")).succeeds().stdout;
    assert!(why.contains("drain"), "{why}");
    host.offtake(&format!("resume {node}")).succeeds();
    host.awaits(first, &["running"]);
    host.offtake(&format!("cancel {first} --now")).succeeds();
    host.awaits(first, &["cancelled"]);

    // A signal instead, which the work makes of what it will.
    host.write("trap.toml", "command = [\"sh\", \"-c\", \"trap 'exit 3' USR1; while :; do sleep 0.02; done\"]\n");
    let trap = host.submit("trap.toml");
    host.awaits(trap, &["running"]);
    host.offtake(&format!("cancel {trap} -s USR1")).succeeds();
    assert_eq!(host.awaits(trap, &["failed"])["job"]["exit_code"], 3);

    let told = host.offtake("events --after 0").succeeds().stdout;
    assert!(told.contains("job started") && told.contains("upgrade"), "{told}");
    let all: Vec<u64> = host.jobs().iter().filter_map(|job| job["id"].as_u64()).collect();
    assert_eq!(all, [trap, second, first]);
    assert!(host.offtake("jobs").succeeds().stdout.is_empty(), "all are over");
}

#[test]
fn what_is_wrong_is_said_and_nothing_is_lost() {
    let host = Host::new("wrong");
    let server = host.up("");
    let ran = host.offtake("run -- no-such-program");
    assert_eq!(ran.code, Some(127));
    assert!(ran.stderr.contains("cannot execute `no-such-program`"), "{}", ran.stderr);
    host.write("nowhere.toml", "command = [\"true\"]\ndirectory = \"/no/such/place\"\n");
    let nowhere = host.submit("nowhere.toml");
    let job = host.awaits(nowhere, &["failed"]);
    let reason = job["job"]["reason"].as_str().unwrap_or_default();
    assert!(reason.contains("/no/such/place"), "{job:#}");

    let refused = host.offtake("jobs --token wrong").refused();
    assert!(refused.contains("token"), "{refused}");
    let refused = host.offtake("job 999").refused();
    assert!(refused.contains("999"), "{refused}");
    let refused = host.offtake("run -w 100000 -- true").refused();
    assert!(refused.contains("100000") || refused.contains("100,000"), "{refused}");
    host.write("wrong.toml", "comand = [\"true\"]\n");
    let refused = host.offtake("submit wrong.toml").refused();
    assert!(refused.contains("wrong.toml:1") && refused.contains("command"), "{refused}");

    // A second server on the same store.
    let data = host.path("data").display().to_string();
    let second =
        host.offtake(&format!("up --data {data} --listen 127.0.0.1:0 --socket {}", host.path("other.sock").display()));
    assert!(second.code != Some(0) && second.stderr.contains(&data), "{second:?}");
    // And one that would take the first one's socket.
    let other = host.path("other").display().to_string();
    let second = host.offtake(&format!("up --data {other} --listen 127.0.0.1:0 --socket {}", server.socket()));
    assert!(second.code != Some(0) && !second.stderr.is_empty(), "{second:?}");
    assert_eq!(host.offtake("run -- echo still").succeeds().stdout, "still\n");

    // What is there is there after a stop too.
    let before: Vec<Value> = host.jobs();
    server.stop();
    let verified = host.offtake(&format!("journal verify --data {data} --json")).succeeds();
    assert!(
        verified.json()["records"].as_u64().or(verified.json()["sequence"].as_u64()).is_some(),
        "{}",
        verified.stdout
    );
    let server = host.up("");
    assert_eq!(host.jobs(), before);
    host.end(server.pid, Signal::SIGINT);
    assert!(host.offtake("jobs").code == Some(1), "nobody answers");
}

#[test]
fn tokens_and_contexts_say_who_asks_and_whom() {
    let host = Host::new("tokens");
    let server = host.up("");
    let url = server.up["url"].as_str().expect("it listens").to_owned();
    let user = nix::unistd::Uid::effective();
    let make = |words: &str| host.offtake(&format!("token create {words}")).succeeds().stdout.trim().to_owned();
    let (lab, other, reader) = (
        make(&format!("lab --role member --tenant lab --user {user}")),
        make("other --role member --tenant other"),
        make("see --role reader"),
    );
    let listed = host.offtake("token list --json").succeeds().json();
    let names: Vec<_> = listed.as_array().expect("a list").iter().filter_map(|token| token["name"].as_str()).collect();
    assert!(["lab", "other", "see", "operator"].iter().all(|name| names.contains(name)), "{names:?}");
    assert!(!listed.to_string().contains(&lab), "a token is told once");

    host.offtake(&format!("context add lab --server {url} --token {lab}")).succeeds();
    host.offtake("context use lab").succeeds();
    host.write("job.toml", "command = [\"true\"]\nhold = true\n");
    let id = host.submit("job.toml");
    assert_eq!(host.job(id)["job"]["tenant"], "lab");
    // Another tenant's jobs are not there.
    for words in
        [format!("job {id}"), format!("why {id}"), format!("logs {id}"), format!("cancel {id}"), format!("hold {id}")]
    {
        let theirs = host.offtake(&format!("{words} --token {other}"));
        assert!(theirs.code != Some(0) && theirs.stderr.contains("there is no job"), "{words}: {theirs:?}");
    }
    assert_eq!(host.offtake(&format!("jobs --all --json --token {other}")).succeeds().json(), json!([]));
    // A reader sees, and changes nothing.
    host.offtake(&format!("job {id} --token {reader}")).succeeds();
    let refused = host.offtake(&format!("cancel {id} --token {reader}"));
    assert!(refused.code != Some(0) && refused.stderr.contains("only read"), "{refused:?}");
    // A member makes no tokens and drains nothing.
    assert!(host.offtake("token create mine --role operator").code != Some(0));

    host.offtake("context use local").succeeds();
    host.offtake("token revoke lab").succeeds();
    let refused = host.offtake("jobs --context lab").refused();
    assert!(refused.contains("revoked"), "{refused}");
    assert_eq!(host.state(id), "held");
    assert!(std::fs::metadata(server.up["token_file"].as_str().expect("a file")).is_ok_and(|file| {
        use std::os::unix::fs::PermissionsExt;
        file.permissions().mode() & 0o077 == 0
    }));
}
