//! What an operator does to a server that runs.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::sync::{Arc, Mutex};

use nix::sys::signal::{Signal, kill};
use offtake_client::Fingerprint;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::KeyValue;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use prost::Message;

use crate::host::{BINARY, Host, eventually};

/// Writes a new certificate and its key; tells its fingerprint.
fn renew(chain: &Path, key: &Path) -> Fingerprint {
    let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).expect("a certificate");
    std::fs::write(chain, made.cert.pem()).expect("written");
    std::fs::write(key, made.signing_key.serialize_pem()).expect("written");
    Fingerprint::of(made.cert.der())
}

#[test]
fn a_hangup_has_a_renewed_certificate_shown() {
    let host = Host::new("renewed");
    let (chain, key) = (host.path("chain.pem"), host.path("key.pem"));
    let first = renew(&chain, &key);
    let server = host.up(&format!("--no-agent --tls-cert {} --tls-key {}", chain.display(), key.display()));
    let (url, token) = (server.up["url"].as_str().expect("it listens").to_owned(), server.token());
    let shows = |fingerprint: Fingerprint| {
        let mut command = host.command(BINARY, &["nodes", "--json"]);
        command.env("OFFTAKE_SERVER", &url).env("OFFTAKE_TOKEN", &token);
        command.env("OFFTAKE_FINGERPRINT", fingerprint.to_string());
        command.output().expect("the command can be started").status.success()
    };
    assert!(shows(first));
    let second = renew(&chain, &key);
    kill(server.pid, Signal::SIGHUP).expect("the server runs");
    eventually("the new certificate is shown", || shows(second).then_some(()));
    assert!(!shows(first), "the old certificate is shown as well");

    std::fs::write(&key, "nothing").expect("written");
    kill(server.pid, Signal::SIGHUP).expect("the server runs");
    let log = || std::fs::read_to_string(host.path("up.log")).unwrap_or_default();
    eventually("the fault is told", || log().contains("the one so far stays").then_some(()));
    assert!(shows(second), "{}", log());
    assert_eq!(host.end(server.pid, Signal::SIGTERM), Some(0));
}

/// The heads and bodies of requests.
type Sent = Arc<Mutex<Vec<(String, ExportTraceServiceRequest)>>>;

/// A collector that takes spans, and what it was sent.
fn collector() -> (SocketAddr, Sent) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("bound");
    let sent = Sent::default();
    let all = Arc::clone(&sent);
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let mut stream = BufReader::new(stream);
            // Each connection is used for as long as there is something to send.
            while let Some((head, body)) = request(&mut stream) {
                let spans = ExportTraceServiceRequest::decode(body.as_slice()).expect("OTLP in protobuf");
                all.lock().expect("held for a moment").push((head, spans));
                stream.get_mut().write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").expect("it listens");
            }
        }
    });
    (address, sent)
}

/// The next request's head and body.
fn request(stream: &mut BufReader<TcpStream>) -> Option<(String, Vec<u8>)> {
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        if stream.read_line(&mut head).ok()? == 0 {
            return None;
        }
    }
    head.make_ascii_lowercase();
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: "))?.parse().ok()?;
    let mut body = vec![0; length];
    stream.read_exact(&mut body).ok()?;
    Some((head, body))
}

/// Attributes as text, by name.
fn attributes(of: &[KeyValue]) -> BTreeMap<String, String> {
    let text = |value: &Value| match value {
        Value::StringValue(text) => text.clone(),
        Value::IntValue(number) => number.to_string(),
        other => format!("{other:?}"),
    };
    let value = |pair: &KeyValue| pair.value.as_ref()?.value.as_ref().map(text);
    of.iter().map(|pair| (pair.key.clone(), value(pair).unwrap_or_default())).collect()
}

#[test]
fn requests_passes_and_commits_are_spans_at_a_collector() {
    let host = Host::new("spans");
    let (address, sent) = collector();
    let mut command = host.command(BINARY, &[]);
    command.env("OTEL_EXPORTER_OTLP_ENDPOINT", format!("http://{address}"));
    command.env("OTEL_EXPORTER_OTLP_HEADERS", "api-key=secret").env("OTEL_RESOURCE_ATTRIBUTES", "site=lab");
    let server = host.up_by(&mut command, "--no-agent");
    let made = host.offtake("token create ada --role member --tenant lab --json").succeeds().json();
    let member = format!("Bearer {}", made["token"].as_str().expect("a token"));
    let parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    let answer = server.ask("GET", "/v1/jobs/17", &[("authorization", &member), ("traceparent", parent)], b"");
    assert_eq!(answer.status, 404);
    let id = answer.header("x-request-id").expect("a request has an id").to_owned();
    // What has not been sent yet is sent at the end.
    assert_eq!(host.end(server.pid, Signal::SIGTERM), Some(0));

    let sent = sent.lock().expect("nobody sends any more");
    assert!(sent.iter().all(|(head, _)| head.starts_with("post /v1/traces ") && head.contains("api-key: secret")));
    let of = sent[0].1.resource_spans[0].resource.as_ref().map(|resource| attributes(&resource.attributes));
    let of = of.expect("what the spans are of");
    assert_eq!((of["service.name"].as_str(), of["site"].as_str()), ("offtake", "lab"));
    let scopes = sent.iter().flat_map(|(_, sent)| &sent.resource_spans).flat_map(|of| &of.scope_spans);
    let spans: Vec<_> = scopes.flat_map(|of| &of.spans).collect();
    let named = |name: &str| spans.iter().find(|span| span.name == name).expect("there is such a span");

    let request = named("GET /v1/jobs/{id}");
    let expected = [
        ("http.request.method", "GET"),
        ("http.response.status_code", "404"),
        ("http.route", "/v1/jobs/{id}"),
        ("offtake.caller", "ada"),
        ("offtake.request_id", &id),
        ("offtake.tenant", "lab"),
    ];
    let expected = expected.map(|(name, value)| (name.to_owned(), value.to_owned()));
    assert_eq!(attributes(&request.attributes), BTreeMap::from(expected));
    assert_eq!(hex(&request.trace_id) + "-" + &hex(&request.parent_span_id), parent[3..52]);
    assert!(request.start_time_unix_nano < request.end_time_unix_nano);
    let (pass, commit) = (named("placement pass"), named("journal commit"));
    assert_eq!((&commit.trace_id, &commit.parent_span_id), (&pass.trace_id, &pass.span_id));
    assert_ne!(attributes(&commit.attributes)["offtake.facts"], "0");
}

#[test]
fn a_collector_that_is_away_or_silent_or_meant_wrongly_stops_nothing() {
    let silent = TcpListener::bind("127.0.0.1:0").expect("a port");
    let silent = silent.local_addr().map(|address| (silent, format!("http://{address}"))).expect("bound");
    let cases = [
        (silent.1.as_str(), "http/protobuf", "the last spans were not exported"),
        ("http://127.0.0.1:1", "http/protobuf", "spans are exported"),
        ("http://127.0.0.1:4317", "grpc", "allowed is http/protobuf"),
        ("no address", "", "no spans are exported"),
    ];
    for (endpoint, protocol, told) in cases {
        let host = Host::new("no-spans");
        let mut command = host.command(BINARY, &[]);
        command.env("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint).env("OTEL_EXPORTER_OTLP_PROTOCOL", protocol);
        let server = host.up_by(&mut command, "--no-agent");
        host.offtake("jobs").succeeds();
        assert_eq!(host.end(server.pid, Signal::SIGTERM), Some(0), "{endpoint}");
        let log = std::fs::read_to_string(host.path("up.log")).expect("a log");
        assert!(log.contains(told), "{endpoint}: {log}");
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[test]
fn a_gang_is_made_elastic_on_the_command_line() {
    let host = Host::new("elastic");
    host.up("--cpus 1");
    let job = |name: &str, command: &str, workers: u32| {
        let gang = format!("[[gangs]]\nworkers = {workers}\ncpu_milli = 250\n");
        host.write(name, format!("command = [\"sh\", \"-c\", \"{command}\"]\noutput = \"%t.out\"\n{gang}"));
    };
    job("sleep.toml", "sleep 600", 3);
    job("job.toml", "echo $WORLD_SIZE", 4);
    let sleeper = host.submit("sleep.toml");
    host.awaits(sleeper, &["running"]);
    // Four workers would wait for the sleeper; bounds let them start as one.
    let id = host.submit("--workers-min 1 --workers-max 4 job.toml");
    host.awaits(id, &["finished"]);
    assert_eq!((host.text("0.out"), host.state(sleeper)), ("1\n".to_owned(), "running".to_owned()));
    let ran = host.offtake_with(&["run", "--workers", "4", "--workers-min", "1", "--cpus", "0.25", "--", "env"]);
    assert!(ran.code == Some(0) && ran.stdout.contains("WORLD_SIZE=1"), "{ran:?}");

    for (words, named) in [
        ("submit --workers-min 5 job.toml", ["`gangs[0].workers_min`", "1 to `workers`, 4"]),
        ("run --workers 4 --workers-max 3 --cpus 0.25 -- true", ["`gangs[0].workers_max`", "`workers`, 4, to"]),
    ] {
        let said = host.offtake(words).refused();
        assert!(named.iter().all(|word| said.contains(word)), "{words}: {said}");
    }
    host.write("two.toml", "command = [\"true\"]\n[[gangs]]\nworkers = 1\n[[gangs]]\nworkers = 1\n");
    assert!(host.offtake("submit --workers-min 1 two.toml").refused().contains("a job of one gang; this one names 2"));
}
