//! What no well-meaning client sends: it is refused with words that help, and changes nothing.

use nix::sys::signal::Signal;
use offtake_agent::Identity;
use offtake_protocol::agent::{NODE_HEADER, SIGNATURE_HEADER, TIME_HEADER};
use serde_json::{Value, json};

use crate::host::{BINARY, Host, Server, eventually};
use crate::http;

/// A job that waits: it takes room in the queue and nothing else.
fn waiting(name: &str) -> Value {
    json!({ "name": name, "command": ["true"], "directory": "/", "hold": true })
}

#[test]
fn bodies_that_mean_nothing_are_refused() {
    let host = Host::new("bodies");
    let server = host.up("");
    let before = host.events().len();
    let post = |body: &[u8]| server.ask("POST", "/v1/jobs", &[], body);
    for wrong in [&b"{"[..], b"nonsense", b"{\"command\":", b"\xff\xfe", b"null", b"[]", b"7"] {
        let answer = post(wrong);
        assert!([400, 422].contains(&answer.status), "{wrong:?}: {answer:?}");
        assert!(!answer.problem(answer.status).is_empty());
    }
    let deep = [vec![b'['; 100_000], vec![b']'; 100_000]].concat();
    assert!([400, 422].contains(&post(&deep).status), "deep nesting is no way to use up the stack");
    for (field, job) in [
        ("comand", json!({ "comand": ["true"] })),
        ("command", json!({ "command": [] })),
        ("command", json!({ "command": ["a\u{0}b"] })),
        ("workers", json!({ "command": ["true"], "gangs": [{ "workers": -1 }] })),
        ("workers", json!({ "command": ["true"], "gangs": [{ "workers": 99_999_999_999_u64 }] })),
        ("duration", json!({ "command": ["true"], "duration": "soon" })),
        ("output", json!({ "command": ["true"], "output": "%q" })),
        ("directory", json!({ "command": ["true"], "directory": "relative" })),
        ("array", json!({ "command": ["true"], "array": "0-99999999" })),
        ("after", json!({ "command": ["true"], "after": [{ "job": 99, "when": "succeeded" }] })),
        ("environment", json!({ "command": ["true"], "environment": { "A=B": "c" } })),
        ("name", json!({ "command": ["true"], "name": "x".repeat(300) })),
    ] {
        let answer = server.post("/v1/jobs", &job);
        assert!((400..500).contains(&answer.status), "{job}: {answer:?}");
        let said = answer.problem(answer.status);
        assert!(said.contains(field) || said.contains("job 99"), "{job}: {said}");
    }
    let huge = json!({ "command": ["true"], "name": "x".repeat(40 << 20) }).to_string();
    assert_eq!(post(huge.as_bytes()).status, 413);
    let key = "k".repeat(300);
    assert_eq!(server.ask("POST", "/v1/jobs", &[("idempotency-key", &key)], b"{}").status, 400);

    // One wrong job of a batch refuses all of it, and says which.
    let batch = json!({ "jobs": [waiting("a"), { "command": [] }, waiting("b")] });
    let answer = server.post("/v1/jobs/batch", &batch);
    assert!((400..500).contains(&answer.status) && answer.json()["index"] == 1, "{answer:?}");
    assert_eq!(host.events().len(), before, "nothing of it changed anything");

    // The same key with something else is no repetition.
    let keyed = |name: &str| {
        server.ask("POST", "/v1/jobs", &[("idempotency-key", "one")], waiting(name).to_string().as_bytes())
    };
    let (first, again) = (keyed("a"), keyed("a"));
    assert_eq!((first.status, &first.body), (201, &again.body));
    assert!([409, 422].contains(&keyed("b").status));
    assert_eq!(host.jobs().len(), 1);
}

#[test]
fn paths_and_queries_lead_nowhere_else() {
    let host = Host::new("paths");
    let server = host.up("");
    host.write("secret", "nobody may read this");
    host.write("name.toml", "name = \"../../../etc/x\"\ncommand = [\"echo\", \"hi\"]\noutput = \"%x.out\"\n");
    let id = host.submit("name.toml");
    host.awaits(id, &["finished"]);
    assert_eq!(host.text(".._.._.._etc_x.out"), "hi\n", "a job's name makes no folders");
    for path in [
        "/v1/jobs/../../secret",
        "/v1/jobs/%2e%2e%2fsecret",
        "/v1/jobs/1%2f..%2f..%2fsecret",
        "/v1/jobs/-1",
        "/v1/jobs/18446744073709551616",
        "/v1/jobs/1/logs?attempt=../../secret",
        "/v1/jobs/1/logs?step=-1",
        "/v1/jobs/1/logs?file=/etc/passwd",
        "/v1/jobs/1/logs?attempt=4294967295",
        "/v1/nodes/..%2f..%2fsecret",
        "/v1/nodes/%00",
        "/v1/jobs?limit=0",
        "/v1/jobs?limit=99999999",
        "/v1/jobs?state=asleep",
        "/v1/events?after=-1",
        "/..%2f..%2f..%2fetc/passwd",
    ] {
        let answer = server.get(path);
        assert!((400..500).contains(&answer.status), "{path}: {answer:?}");
        assert!(!answer.body.contains("nobody may read"), "{path}");
    }
    assert_eq!(server.ask("DELETE", "/v1/jobs/1", &[], b"").status, 405);
    for raw in
        [&b"NONSENSE\r\n\r\n"[..], b"GET / HTTP/9.9\r\n\r\n", b"GET /v1/jobs HTTP/1.1\r\ncontent-length: x\r\n\r\n"]
    {
        let answer = http::raw(server.socket(), raw, b"");
        assert!(answer.is_err() || answer.is_ok_and(|answer| (400..506).contains(&answer.status)));
    }
    assert_eq!(server.get("/v1/health").status, 200);
}

#[test]
fn nobody_without_a_token_sees_anything() {
    let host = Host::new("open");
    let server = host.up("--no-agent");
    // Over the network, where nobody is known by the kernel.
    let address = server.up["url"].as_str().and_then(|url| url.strip_prefix("http://")).expect("it listens").to_owned();
    let ask = |path: &str, headers: &str| {
        use std::io::{Read, Write};
        let mut stream = std::net::TcpStream::connect(&address).expect("it listens");
        write!(stream, "GET {path} HTTP/1.0\r\nhost: x\r\n{headers}\r\n").expect("it reads");
        let mut text = String::new();
        stream.read_to_string(&mut text).expect("it answers");
        text.split(' ').nth(1).and_then(|status| status.parse::<u16>().ok()).expect("a status")
    };
    let paths = ["/v1/jobs", "/v1/nodes", "/v1/fleet", "/v1/events", "/v1/tokens", "/metrics", "/v1/jobs/1/logs"];
    for path in paths {
        assert_eq!(ask(path, ""), 401, "{path}");
        for wrong in ["Bearer x", "Basic eDp5", "Bearer", "bearer "] {
            assert_eq!(ask(path, &format!("authorization: {wrong}\r\n")), 401, "{path} {wrong}");
        }
    }
    let token = server.token();
    assert_eq!(ask("/v1/jobs", &format!("authorization: Bearer {token}\r\n")), 200);
    assert_eq!(ask("/v1/jobs", &format!("authorization: Bearer {}x\r\n", token)), 401);
}

#[test]
fn more_than_there_is_room_for_is_put_off() {
    let host = Host::new("flood");
    let server = host.up("--most-jobs 2500");
    let batch = json!({ "jobs": (0..1000).map(|at| waiting(&format!("j{at}"))).collect::<Vec<_>>() });
    assert_eq!(server.post("/v1/jobs/batch", &batch).status, 201);
    assert_eq!(server.post("/v1/jobs/batch", &batch).status, 201);
    let answer = server.post("/v1/jobs/batch", &batch);
    let detail = answer.problem(429);
    assert!(detail.contains("2,500") || detail.contains("2500"), "{detail}");
    let retry = answer.header("retry-after").and_then(|after| after.parse::<u32>().ok());
    assert!(retry.is_some_and(|seconds| seconds >= 1), "{}", answer.headers);
    assert_eq!(server.post("/v1/jobs", &waiting("one more")).status, 201, "there is room for one");
    assert_eq!(host.offtake("jobs --json --limit 5000").succeeds().json().as_array().map(Vec::len), Some(2001));
    // 100,000 at once: refused as a whole, and the memory stays small.
    let array = json!({ "command": ["true"], "array": "0-100000", "hold": true });
    assert_eq!(server.post("/v1/jobs", &array).status, 429);
    let status = std::fs::read_to_string(format!("/proc/{}/status", server.pid)).expect("it runs");
    let peak = status
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:")?.trim().strip_suffix(" kB")?.trim().parse::<u64>().ok());
    assert!(peak.is_some_and(|peak| peak < 512 << 10), "{peak:?} KiB");
    server.stop();

    let server = host.up("--most-requests 5");
    let mut answers = (0..50).map(|_| server.get("/v1/jobs"));
    let limited = answers.find(|answer| answer.status == 429).expect("50 at once are more than 5 a second");
    assert!(limited.header("retry-after").is_some(), "{}", limited.headers);
    eventually("a second later it answers again", || (server.get("/v1/jobs").status == 200).then_some(()));
}

/// An agent that is not what it should be.
struct Impostor {
    identity: Identity,
}

impl Impostor {
    fn exchange(&self, server: &Server<'_>, node: &str, epoch: u64) -> http::Answer {
        let path = "/v1/agents/exchange";
        let body =
            json!({ "session": 1, "version": 1, "seen": { "epoch": epoch, "version": 0 }, "wait_ms": 0, "tasks": [] });
        let body = serde_json::to_vec(&body).expect("it is JSON");
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("it is later");
        let now = i64::try_from(now.as_millis()).expect("it is not that late");
        let signature = self.identity.sign("POST", path, now, &body);
        let time = now.to_string();
        let headers = [(NODE_HEADER, node), (TIME_HEADER, time.as_str()), (SIGNATURE_HEADER, signature.as_str())];
        server.ask("POST", path, &headers, &body)
    }
}

#[test]
fn an_agent_speaks_only_for_itself() {
    let host = Host::new("impostor");
    let server = host.up("--name n1");
    let agent = host.path("other-agent");
    let token = host.offtake("token join --node n2").succeeds().stdout.trim().to_owned();
    let url = format!("unix:{}", server.socket());
    let words = ["agent", "--server", &url, "--join", &token, "--name", "n2", "--data", &agent.display().to_string()];
    let pid = host.start(&mut host.command(BINARY, &words));
    eventually("n2 has joined", || {
        (host.offtake("nodes --json").succeeds().json().as_array().map(Vec::len) == Some(2)).then_some(())
    });
    host.end(pid, Signal::SIGKILL);

    // A join token serves once, and one node.
    let other = host.path("third-agent").display().to_string();
    for name in ["n2", "n3"] {
        let words = ["agent", "--server", &url, "--join", &token, "--name", name, "--data", &other];
        let refused = host.offtake_with(&words);
        assert!(refused.code != Some(0) && refused.stderr.contains("token"), "{name}: {refused:?}");
    }

    let n2 = Impostor { identity: Identity::open(&agent).expect("it has joined") };
    assert_eq!(n2.exchange(&server, "n1", 1).status, 401, "another's node with its own key");
    assert_eq!(n2.exchange(&server, "n9", 1).status, 401, "a node that nobody knows");
    let answer = n2.exchange(&server, "n2", 99);
    assert!(answer.status == 409, "an epoch that this server never had: {answer:?}");
    let stranger = Impostor { identity: Identity::open(&host.path("work")).expect("a key can be made") };
    assert_eq!(stranger.exchange(&server, "n2", 1).status, 401);
    assert_eq!(host.offtake("run -- echo well").succeeds().stdout, "well\n");
}
