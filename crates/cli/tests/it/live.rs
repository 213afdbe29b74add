//! The commands that speak to a server, against one that answers what a test tells it.

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

use serde_json::json;

use crate::fake::{Server, alone, busy, detail, job, no, ok, piece, text};
use crate::support::Folder;

fn submitted(id: u64, count: u32) -> serde_json::Value {
    json!({ "id": id, "count": count, "state": "pending" })
}

#[test]
fn a_script_is_submitted_as_it_is() {
    let folder = Folder::new("live-submit");
    folder.write("train.sbatch", "#!/bin/sh\n#SBATCH --nodes=2 --comment=x\nhostname\n");
    folder.write("job.toml", "command = [\"true\"]\n");
    let server =
        Server::answering(&[("POST /v1/jobs", &[ok(submitted(17, 1)), ok(submitted(18, 1)), ok(submitted(19, 4))])]);
    let run = |arguments: &str| folder.run(&mut server.command(&folder, "offtake", arguments)).succeeds();
    let ran = run("submit --hold -J mine train.sbatch --lr 1");
    assert_eq!(ran.stdout, "job 17\n");
    assert!(ran.stderr.contains("note: "), "what is ignored is named: {}", ran.stderr);
    assert_eq!(run("submit job.toml --json").json()["id"], 18);
    assert_eq!(run("submit train.sbatch").stdout, "array 19 of 4 jobs\n");
    let asked = server.asked();
    let [script, file, _] = asked.as_slice() else { unreachable!("three jobs were submitted: {asked:?}") };
    assert_eq!((&script.body["name"], &script.body["hold"]), (&json!("mine"), &json!(true)));
    assert_eq!(script.body["arguments"], json!(["--lr", "1"]));
    let directory = folder.path("").canonicalize().expect("it is there");
    assert_eq!(file.body["directory"], json!(directory.display().to_string().trim_end_matches('/')));
    assert_eq!(script.token.as_deref(), Some("Bearer secret"));
    assert!(script.key.is_some() && script.key != file.key, "each submission has a key of its own");
    assert!(!script.body.to_string().contains("secret"), "a job does not see the user's token");
}

#[test]
fn a_lost_answer_is_asked_for_again_under_the_same_key() {
    let folder = Folder::new("live-again");
    folder.write("job.toml", "command = [\"true\"]\n");
    let answers = [busy(), busy(), ok(submitted(17, 1))];
    let server = Server::after_drops(2, &[("POST /v1/jobs", &answers)]);
    let ran = folder.run(&mut server.command(&folder, "offtake", "submit job.toml")).succeeds();
    assert_eq!(ran.stdout, "job 17\n");
    let keys: Vec<_> = server.asked().into_iter().map(|asked| asked.key).collect();
    assert_eq!(keys.len(), 3);
    assert!(keys.iter().all(|key| key.is_some() && *key == keys[0]), "{keys:?}");
}

#[test]
fn what_the_server_refuses_is_told_in_its_words() {
    let folder = Folder::new("live-refused");
    let server = Server::answering(&[
        ("GET /v1/jobs/17", &[no(404, "there is no job 17")]),
        ("GET /v1/jobs/18", &[no(500, "the store is read-only")]),
    ]);
    let refused = folder.run(&mut server.command(&folder, "offtake", "job 17")).refused();
    assert_eq!(refused, "error: there is no job 17\n");
    let failed = folder.run(&mut server.command(&folder, "offtake", "job 18"));
    assert_eq!((failed.code, failed.stderr.as_str()), (Some(1), "error: the store is read-only\n"));
    for arguments in
        ["job x", "why 17.0", "cancel", "jobs --state asleep", "drain n1", "what-if", "submit none.toml", "top"]
    {
        folder.run(&mut server.command(&folder, "offtake", arguments)).refused();
    }
}

#[test]
fn without_a_server_it_is_said_what_to_do() {
    let folder = Folder::new("live-none");
    let refused = folder.run(&mut alone(&folder, "offtake", "jobs")).refused();
    assert!(refused.contains("offtake up") && refused.contains("--server"), "{refused}");
    let refused = folder.run(&mut alone(&folder, "offtake", "jobs --server ftp://x")).refused();
    assert!(refused.contains("`ftp://x` is no address"), "{refused}");
}

#[test]
fn lists_are_tables_for_people_and_json_for_machines() {
    let folder = Folder::new("live-lists");
    let page = |ids: [u64; 2], next: Option<u64>| ok(json!({ "jobs": ids.map(|id| job(id, "pending")), "next": next }));
    let server = Server::answering(&[
        ("GET /v1/jobs", &[page([9, 8], Some(8)), page([7, 6], None), page([9, 8], Some(8)), page([7, 6], None)]),
        ("GET /v1/nodes", &[ok(json!([]))]),
    ]);
    let run = |arguments: &str| folder.run(&mut server.command(&folder, "offtake", arguments)).succeeds();
    let listed = run("jobs --all --user ada --json").json();
    let ids: Vec<_> = listed.as_array().expect("a list").iter().map(|job| job["id"].clone()).collect();
    assert_eq!(ids, [9, 8, 7, 6]);
    assert_eq!(server.asked()[0].query, "all=true&limit=1000&user=ada");
    assert_eq!(server.asked()[1].query, "all=true&before=8&limit=998&user=ada");
    assert_eq!(run("jobs --limit 3").stdout.lines().count(), 4, "a line of titles and three jobs");
    let none = run("nodes");
    assert!(none.stdout.is_empty() && none.stderr.contains("offtake agent"), "{}", none.stderr);
}

#[test]
fn the_number_of_an_array_means_all_its_jobs_that_are_not_over() {
    let folder = Folder::new("live-array");
    let of_array = |id: u64, index: u32, state: &str| {
        let mut job = job(id, state);
        job["array"] = json!({ "id": 17, "index": index });
        job
    };
    let jobs = json!({ "jobs": [of_array(19, 5, "pending"), of_array(18, 3, "running"), of_array(17, 1, "finished")] });
    let server = Server::answering(&[
        ("GET /v1/jobs", &[ok(jobs)]),
        ("POST /v1/jobs/18/cancel", &[ok(job(18, "stopping"))]),
        ("POST /v1/jobs/19/cancel", &[ok(job(19, "cancelled"))]),
        (
            "GET /v1/jobs/18/why",
            &[ok(json!({ "id": 18, "state": "running", "summary": "It runs.", "asks": "1 core" }))],
        ),
    ]);
    let run = |arguments: &str| folder.run(&mut server.command(&folder, "offtake", arguments));
    let cancelled = run("cancel 17 --signal USR1 --json").succeeds().json();
    assert_eq!(cancelled["jobs"], json!([18, 19]));
    assert_eq!(server.asked_of("POST /v1/jobs/18/cancel")[0].body, json!({ "signal": "USR1", "now": false }));
    assert!(run("why 17_3").succeeds().stdout.contains("It runs."));
    assert!(run("why 17_4").refused().contains("there is no job 17_4"));
}

#[test]
fn run_prints_the_works_output_and_ends_as_it_ends() {
    let folder = Folder::new("live-run");
    let lines = [piece(0, "output", 0, "one\n"), piece(0, "error", 0, "oh\n")].concat();
    let whole = lines.clone() + &piece(0, "output", 4, "two\n");
    let server = Server::answering(&[
        ("POST /v1/jobs", &[ok(submitted(17, 1))]),
        (
            "GET /v1/jobs/17",
            &[
                ok(json!({ "job": job(17, "pending"), "attempts": [], "receipt": receipt() })),
                ok(detail(17, "running", None)),
                // The first stream of output has ended, but the attempt has not: the server was restarted.
                ok(detail(17, "running", None)),
                ok(detail(17, "running", None)),
                ok(detail(17, "failed", Some(3))),
            ],
        ),
        ("GET /v1/jobs/17/logs", &[text(&lines), text(&whole)]),
    ]);
    let arguments = "run --cpus 0.5 --env A=1 --topology rack:required -- python3 train.py --epochs 2";
    let ran = folder.run(&mut server.command(&folder, "offtake", arguments));
    assert_eq!((ran.code, ran.stdout.as_str()), (Some(3), "one\ntwo\n"), "{}", ran.stderr);
    assert!(ran.stderr.starts_with("oh\n"), "{}", ran.stderr);
    assert!(ran.stderr.contains("job 17 (train) failed with status 3 after 2 s."), "{}", ran.stderr);
    assert!(ran.stderr.contains("modelled"), "{}", ran.stderr);
    let body = &server.asked_of("POST /v1/jobs")[0].body;
    assert_eq!(body["command"], json!(["python3", "train.py", "--epochs", "2"]));
    assert_eq!((&body["environment"]["A"], &body["environment"]["USER"]), (&json!("1"), &json!("ada")));
    assert_eq!(body["gangs"][0]["cpu_milli"], 500);
    assert_eq!(server.asked_of("GET /v1/jobs/17/logs")[0].query, "attempt=1&follow=true");
}

fn receipt() -> serde_json::Value {
    detail(1, "running", None)["receipt"].clone()
}

#[test]
fn an_interrupt_cancels_the_job() {
    let folder = Folder::new("live-interrupt");
    let running = vec![ok(json!({ "job": job(17, "pending"), "attempts": [], "receipt": receipt() })); 20];
    let over = ok(json!({ "job": job(17, "cancelled"), "attempts": [], "receipt": receipt() }));
    let answers = [running, vec![over]].concat();
    let server = Server::answering(&[
        ("POST /v1/jobs", &[ok(submitted(17, 1))]),
        ("GET /v1/jobs/17", &answers),
        ("POST /v1/jobs/17/cancel", &[ok(job(17, "cancelled"))]),
    ]);
    let mut command = server.command(&folder, "offtake", "run -- sleep 60");
    let mut child = command.stderr(Stdio::piped()).stdout(Stdio::null()).spawn().expect("it starts");
    while server.asked_of("GET /v1/jobs/17").is_empty() {
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    let killed = Command::new("kill").args(["-INT", &child.id().to_string()]).status().expect("kill is there");
    assert!(killed.success());
    let stderr = BufReader::new(child.stderr.take().expect("it is piped"));
    let said: Vec<String> = stderr.lines().map(|line| line.expect("it is text")).collect();
    assert_eq!(child.wait().expect("it ends").code(), Some(130), "{said:?}");
    assert!(said[0].contains("job 17 is being cancelled"), "{said:?}");
    assert_eq!(server.asked_of("POST /v1/jobs/17/cancel").len(), 1);
}

#[test]
fn events_are_told_once_each() {
    let folder = Folder::new("live-events");
    let event = |sequence: u64| {
        let fact = json!({ "at": 1_714_550_400_000_i64, "event": { "engine": { "job_started": { "job": 17 } } } });
        format!("id: {sequence}\ndata: {fact}\n\n")
    };
    let server = Server::answering(&[
        ("GET /v1/health", &[ok(json!({ "status": "ready", "sequence": 90 }))]),
        ("GET /v1/events", &[text(&(event(89) + &event(90)))]),
    ]);
    let ran = folder.run(&mut server.command(&folder, "offtake", "events")).succeeds();
    assert_eq!(ran.stdout.lines().count(), 2, "{}", ran.stdout);
    assert!(ran.stdout.starts_with("      89  2024-05-01 08:00:00 UTC  job started  job 17\n"), "{}", ran.stdout);
    assert_eq!(server.asked_of("GET /v1/events")[0].query, "after=40");
    let ran = folder.run(&mut server.command(&folder, "offtake", "events --after 88 --json")).succeeds();
    assert_eq!(ran.stdout.lines().count(), 2, "{}", ran.stdout);
}

#[test]
fn what_if_sends_what_would_happen() {
    let folder = Folder::new("live-what-if");
    folder.write("job.toml", "name = \"new\"\ncommand = [\"true\"]\n");
    let outlook = json!({ "finished": 1, "running": 0, "waiting": 0, "refused": 0, "restarted": 0, "mean_wait_ms": 0,
        "lost_chip_ms": 0, "peak_w": 1000 });
    let answer = json!({ "from_ms": 1_714_550_400_000_i64, "until_ms": 1_714_554_000_000_i64, "summary": "Nothing changes.",
        "otherwise": outlook, "then": outlook, "jobs": [], "changed": 0 });
    let server = Server::answering(&[("POST /v1/what-if", &[ok(answer)])]);
    let arguments = "what-if --drain a --drain b --lose c --cap hall=1.5 --submit job.toml --horizon 12h";
    let ran = folder.run(&mut server.command(&folder, "offtake", arguments)).succeeds();
    assert!(ran.stdout.starts_with("Nothing changes.\n"), "{}", ran.stdout);
    let body = &server.asked()[0].body;
    assert_eq!((&body["drain"], &body["lose"]), (&json!(["a", "b"]), &json!(["c"])));
    assert_eq!((&body["caps"][0]["watts"], &body["horizon_ms"]), (&json!(1_500_000), &json!(43_200_000)));
    assert_eq!(body["submit"][0]["name"], "new");
}

#[test]
fn contexts_are_added_used_and_removed() {
    let folder = Folder::new("live-contexts");
    let server = Server::answering(&[("GET /v1/nodes", &[ok(json!([]))])]);
    let run = |arguments: &str| folder.run(&mut alone(&folder, "offtake", arguments));
    run(&format!("context add here --server http://{} --token t1", server.address)).succeeds();
    run("context add there --server https://there:7480").succeeds();
    run("nodes").succeeds();
    assert_eq!(server.asked()[0].token.as_deref(), Some("Bearer t1"), "the first context is used until another is");
    let listed = run("context list").succeeds().stdout;
    assert_eq!(listed.lines().nth(1).map(|line| line.starts_with("*  here")), Some(true), "{listed}");
    run("context use there").succeeds();
    assert_eq!(run("context list --json").succeeds().json()[1]["current"], true);
    run("nodes --context here").succeeds();
    run("context remove there").succeeds();
    assert!(run("context use there").refused().contains("there is no context `there`"));
    assert!(run("context add bad --server nonsense").refused().contains("`nonsense` is no address"));
    assert!(run("nodes --context there").refused().contains("known are here"));
}

#[test]
fn tokens_are_made_for_roles() {
    let folder = Folder::new("live-tokens");
    let server = Server::answering(&[
        ("POST /v1/tokens", &[ok(json!({ "name": "ci", "token": "ot-1" }))]),
        ("DELETE /v1/tokens/a%20b", &[ok(json!({}))]),
        ("POST /v1/join-tokens", &[ok(json!({ "token": "join-1", "expires_ms": 1_714_550_400_000_i64 }))]),
    ]);
    let run = |arguments: &str| folder.run(&mut server.command(&folder, "offtake", arguments));
    assert_eq!(run("token create ci --role member --tenant lab").succeeds().stdout, "ot-1\n");
    assert_eq!(server.asked()[0].body["role"], json!({ "member": { "tenant": "lab" } }));
    assert_eq!(run("token join --node n1 --valid 2h").succeeds().stdout, "join-1\n");
    assert_eq!(server.asked()[1].body, json!({ "node": "n1", "valid_ms": 7_200_000 }));
    let revoked = folder.run(server.command(&folder, "offtake", "token revoke").arg("a b")).succeeds();
    assert_eq!(revoked.stdout, "token a b holds no more\n");
    run("token create ci --role member").refused();
    run("token create ci --role reader --tenant lab").refused();
}

#[test]
fn completions_name_the_commands() {
    let folder = Folder::new("live-completions");
    for shell in ["bash", "zsh", "fish"] {
        let text = folder.run(&mut alone(&folder, "offtake", &format!("completions {shell}"))).succeeds().stdout;
        assert!(text.contains("what-if") && text.contains("submit"), "{shell}");
    }
}

#[test]
fn moves_are_planned_first_and_carried_out_on_demand() {
    let folder = Folder::new("live-defrag");
    let moved = json!({ "job": 3, "name": "part", "chip_milli": 2000, "from": ["n1"], "to": ["n2"] });
    let plan = json!({ "plans": [{ "job": 17, "name": "whole", "opens": "site local", "nodes": ["n1"], "moves": [moved],
        "cost_chip_ms": 1_200_000, "gain_chip_ms": 345_600_000, "pays": true, "start_ms": 1_714_550_400_000_i64 }] });
    let server = Server::answering(&[("GET /v1/defrag", &[ok(plan.clone())]), ("POST /v1/defrag", &[ok(plan)])]);
    let run = |arguments: &str| folder.run(&mut server.command(&folder, "offtake", arguments)).succeeds().stdout;
    let told = run("defrag 17");
    assert!(told.starts_with("1 move would open n1 in site local for job 17 (whole):\n"), "{told}");
    assert!(told.ends_with("`offtake defrag 17 --apply` carries it out.\n"), "{told}");
    assert_eq!(server.asked_of("GET /v1/defrag")[0].query, "job=17");
    assert!(run("defrag --apply").contains("The moves are under way.\n"));
    assert_eq!(server.asked_of("POST /v1/defrag")[0].body, json!({}));
}
