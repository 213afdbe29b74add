//! Services: work that stays, with replicas that really run.

use nix::sys::signal::{Signal, kill};
use serde_json::{Value, json};

use crate::host::{Host, eventually, repository};

/// A replica's program: it says that it runs, and stays.
const SERVICE: &str = r#"
name = "stays"
command = ["sh", "-c", "echo $OFFTAKE_JOB_ID runs; exec sleep 600"]
grace = "1s"
[service]
replicas = 2
[[gangs]]
cpu_milli = 100
"#;

impl Host {
    /// The replicas of a service that are not over, the youngest first.
    fn replicas(&self, service: u64) -> Vec<Value> {
        let mut jobs = self.offtake("jobs --json").succeeds().json().as_array().expect("jobs are a list").clone();
        jobs.retain(|job| job["replica_of"] == json!(service));
        jobs
    }

    /// Waits until so many replicas run, and no others are there.
    #[track_caller]
    fn runs(&self, service: u64, count: usize) -> Vec<Value> {
        eventually(&format!("{count} replicas of {service} run"), || {
            let replicas = self.replicas(service);
            let runs = |replica: &Value| replica["state"] == json!("running");
            (replicas.len() == count && replicas.iter().all(runs)).then_some(replicas)
        })
    }
}

#[test]
fn a_service_stays_until_it_is_cancelled() {
    let host = Host::new("service");
    let server = host.up("--cpus 2");
    host.write("service.toml", SERVICE);
    let service = host.submit("service.toml");
    let first = host.runs(service, 2).pop().expect("two")["id"].as_u64().expect("a number");
    let listed = host.offtake("jobs").succeeds().stdout;
    assert!(listed.contains("running 2/2") && listed.contains(&format!("replica of {service}")), "{listed}");
    let why = host.offtake(&format!("why {service}")).succeeds().stdout;
    assert!(why.contains(&format!("Service {service} runs 2 of 2 replicas")), "{why}");
    let all = host.offtake("services --json").succeeds().json();
    assert_eq!((&all[0]["id"], &all[0]["name"], &all[0]["demand"]), (&json!(service), &json!("stays"), &json!(2)));
    assert_eq!((&all[0]["service"]["replicas"], &all[0]["service"]["running"]), (&json!(2), &json!(2)), "{all:#}");
    let listed = host.offtake("services").succeeds().stdout;
    assert!(listed.contains("wanted") && listed.contains("stays"), "{listed}");

    // One that is killed comes back.
    let marker = format!("OFFTAKE_JOB_ID={first}");
    let worker = eventually("the replica's process is there", || {
        let all = host.processes().into_iter().filter(|process| !process.is_supervisor());
        let mut of_first = all.filter(|process| process.words.contains("sleep"));
        of_first.find(|process| process.variable("OFFTAKE_JOB_ID") == Some(&marker["OFFTAKE_JOB_ID=".len()..]))
    });
    kill(worker.pid, Signal::SIGKILL).expect("it runs");
    eventually("the replica starts again", || {
        let job = host.job(first);
        (job["job"]["attempts"] == json!(2) && job["job"]["state"] == json!("running")).then_some(())
    });
    assert_eq!(host.offtake(&format!("logs {first}")).succeeds().stdout, format!("{first} runs\n"));

    // More, and fewer, by hand and by what its load needs.
    assert!(host.offtake(&format!("scale {service} --replicas 4")).succeeds().stdout.contains("/4"));
    host.runs(service, 4);
    host.offtake(&format!("scale {service} --min 1 --max 3 --json")).succeeds();
    let demand = |replicas: u64| {
        let body = json!({ "replicas": replicas }).to_string();
        let path = format!("/v1/jobs/{service}/demand");
        let headers = [("content-type", "application/json")];
        server.ask("PUT", &path, &headers, body.as_bytes())
    };
    assert_eq!(demand(1).status, 200);
    host.runs(service, 1);
    assert_eq!(demand(9).status, 200);
    let three = host.runs(service, 3);
    assert_eq!(three.last().expect("three")["id"], json!(first), "the oldest stays");
    let held = host.offtake(&format!("hold {service}"));
    assert_eq!(held.code, Some(1), "{held:?}");
    assert_eq!(host.offtake(&format!("scale {first} --replicas 2")).code, Some(1), "a replica has none");
    host.offtake(&format!("scale {service}")).refused();

    // The server goes and comes; replicas do not notice.
    server.kill();
    let _server = host.up("--cpus 2");
    assert_eq!(host.runs(service, 3), host.runs(service, 3));
    assert_eq!(host.job(first)["job"]["attempts"], json!(2));

    host.offtake(&format!("cancel {service}")).succeeds();
    host.awaits(service, &["cancelled"]);
    assert!(host.replicas(service).is_empty());
    assert!(!host.processes().iter().any(|process| process.words.contains("sleep")), "nothing of it runs");
}

#[test]
fn the_example_answers() {
    let host = Host::new("hello");
    let _server = host.up("--cpus 2");
    std::fs::create_dir_all(host.work("examples")).expect("the folder can be made");
    for name in ["service.toml", "serve.py"] {
        let from = repository().join("examples").join(name);
        std::fs::copy(from, host.work(&format!("examples/{name}"))).expect("the example is there");
    }
    let service = host.submit("examples/service.toml");
    for replica in host.runs(service, 2) {
        let id = replica["id"].as_u64().expect("a number");
        let said = eventually("it says where it listens", || {
            let said = host.offtake(&format!("logs {id}")).succeeds().stdout;
            said.contains("listens on").then_some(said)
        });
        let address = said.split("http://").nth(1).and_then(|rest| rest.split('/').next()).expect("an address");
        let mut stream = std::net::TcpStream::connect(address).expect("it listens");
        std::io::Write::write_all(&mut stream, b"GET / HTTP/1.0\r\n\r\n").expect("it reads");
        let answer = std::io::read_to_string(stream).expect("it answers");
        assert!(answer.contains(&format!("hello from replica {id}, attempt 1")), "{answer}");
    }
    host.offtake(&format!("cancel {service}")).succeeds();
    host.awaits(service, &["cancelled"]);
}
