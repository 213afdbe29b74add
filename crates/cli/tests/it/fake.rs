//! A server that answers what a test tells it, and remembers what it was asked.

use std::collections::{BTreeMap, VecDeque};
use std::io::Read;
use std::net::{SocketAddr, TcpListener};
use std::process::Command;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, Method, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};

use crate::support::{BINARY, Folder};

/// What the server was asked.
#[derive(Clone, Debug)]
pub struct Asked {
    /// `POST /v1/jobs`.
    pub what: String,
    /// Its query, if any.
    pub query: String,
    /// The idempotency key, if any.
    pub key: Option<String>,
    /// The token, if any.
    pub token: Option<String>,
    pub body: Value,
}

/// An answer.
#[derive(Clone, Debug)]
pub struct Answer {
    status: u16,
    retry_after: Option<u32>,
    body: String,
}

/// It is done, and this is how it stands.
pub fn ok(body: Value) -> Answer {
    Answer { status: 200, retry_after: None, body: body.to_string() }
}

/// Lines, as they are.
pub fn text(body: &str) -> Answer {
    Answer { status: 200, retry_after: None, body: body.to_owned() }
}

/// It says no.
pub fn no(status: u16, detail: &str) -> Answer {
    let body = json!({ "status": status, "code": "test", "detail": detail });
    Answer { status, retry_after: None, body: body.to_string() }
}

/// It has no time now.
pub fn busy() -> Answer {
    Answer { retry_after: Some(0), ..no(429, "too many requests") }
}

#[derive(Default)]
struct Memory {
    answers: BTreeMap<String, VecDeque<Answer>>,
    asked: Vec<Asked>,
}

/// The server; it ends with the test.
pub struct Server {
    pub address: SocketAddr,
    memory: Arc<Mutex<Memory>>,
    _runtime: tokio::runtime::Runtime,
}

impl Server {
    /// Starts one that answers each question by its answers in turn, the last one for ever.
    pub fn answering(answers: &[(&str, &[Answer])]) -> Self {
        Self::after_drops(0, answers)
    }

    /// As [`Server::answering`], but the first connections break after something was asked.
    pub fn after_drops(drops: usize, answers: &[(&str, &[Answer])]) -> Self {
        let answers = answers.iter().map(|(what, answers)| ((*what).to_owned(), answers.iter().cloned().collect()));
        let memory = Arc::new(Mutex::new(Memory { answers: answers.collect(), asked: Vec::new() }));
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port is free");
        let address = listener.local_addr().expect("it has an address");
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .expect("a runtime can be made");
        let router = Router::new().fallback(answer).with_state(Arc::clone(&memory));
        runtime.spawn(async move {
            let listener = tokio::task::spawn_blocking(move || {
                for _ in 0..drops {
                    let (mut connection, _) = listener.accept().expect("somebody connects");
                    connection.read_exact(&mut [0; 16]).expect("something is asked");
                }
                listener
            });
            let listener = listener.await.expect("it does not panic");
            listener.set_nonblocking(true).expect("a listener can be so");
            let listener = tokio::net::TcpListener::from_std(listener).expect("it is a listener");
            axum::serve(listener, router).await.expect("it serves");
        });
        Self { address, memory, _runtime: runtime }
    }

    /// All that was asked so far.
    pub fn asked(&self) -> Vec<Asked> {
        self.memory.lock().expect("nobody panics with it").asked.clone()
    }

    /// All that was asked of one thing.
    pub fn asked_of(&self, what: &str) -> Vec<Asked> {
        self.asked().into_iter().filter(|asked| asked.what == what).collect()
    }

    /// A command that speaks to it.
    pub fn command(&self, folder: &Folder, program: &str, arguments: &str) -> Command {
        let mut command = alone(folder, program, arguments);
        command.env("OFFTAKE_SERVER", format!("http://{}", self.address)).env("OFFTAKE_TOKEN", "secret");
        command
    }
}

/// A command with nothing around it but its folder. `program` is `offtake`, or the name of a shim.
pub fn alone(folder: &Folder, program: &str, arguments: &str) -> Command {
    let path = folder.path(program);
    if !path.exists() {
        std::os::unix::fs::symlink(BINARY, &path).expect("a link can be made");
    }
    let mut command = Command::new(path);
    command.args(arguments.split_whitespace()).env_clear().env("HOME", folder.path("")).env("USER", "ada");
    command.current_dir(folder.path(""));
    command
}

async fn answer(
    State(memory): State<Arc<Mutex<Memory>>>,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let what = format!("{method} {}", uri.path());
    let header = |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).map(str::to_owned);
    let asked = Asked {
        what: what.clone(),
        query: uri.query().unwrap_or_default().to_owned(),
        key: header("idempotency-key"),
        token: header("authorization"),
        body: serde_json::from_slice(&body).unwrap_or_default(),
    };
    let mut memory = memory.lock().expect("nobody panics with it");
    memory.asked.push(asked);
    let answers = memory.answers.get_mut(&what);
    let answer = answers.and_then(|answers| match answers.len() {
        0 | 1 => answers.front().cloned(),
        _ => answers.pop_front(),
    });
    let Answer { status, retry_after, body } = answer.unwrap_or_else(|| no(404, &format!("{what} is unknown here")));
    let status = StatusCode::from_u16(status).expect("tests give statuses of HTTP");
    let mut response = (status, body).into_response();
    if let Some(seconds) = retry_after {
        response.headers_mut().insert("retry-after", seconds.into());
    }
    response
}

/// A job as the server tells it.
pub fn job(id: u64, state: &str) -> Value {
    json!({
        "id": id, "name": "train", "state": state, "tenant": "lab", "user": "ada", "tier": "standard", "workers": 1,
        "chip_milli": 0, "cpu_milli": 1000, "submitted_ms": 1_714_550_400_000_i64, "attempts": 0,
        "command": "python3 train.py"
    })
}

/// A job that has been placed once, with its history.
pub fn detail(id: u64, state: &str, exit_code: Option<i32>) -> Value {
    let is_over = ["finished", "failed", "cancelled"].contains(&state);
    let mut job = job(id, state);
    job["attempts"] = json!(1);
    job["nodes"] = json!(["n1"]);
    job["started_ms"] = json!(1_714_550_401_000_i64);
    let mut attempt = json!({ "number": 1, "placed_ms": 1_714_550_400_000_i64, "started_ms": 1_714_550_401_000_i64, "nodes": ["n1"] });
    if is_over {
        job["ended_ms"] = json!(1_714_550_403_000_i64);
        job["exit_code"] = json!(exit_code);
        attempt["ended_ms"] = json!(1_714_550_403_000_i64);
    }
    json!({ "job": job, "attempts": [attempt], "receipt": receipt() })
}

fn receipt() -> Value {
    json!({
        "waited_ms": 5, "ran_ms": 2000, "restarts": 0, "chip_hours": 0.0, "core_hours": 0.00056, "lost_hours": 0.0,
        "goodput": 1.0, "energy_kwh": 0.000_01, "energy_source": "modelled", "facility_kwh": 0.000_012
    })
}

/// A piece of output as the server tells it.
pub fn piece(rank: u32, stream: &str, offset: u64, text: &str) -> String {
    format!("{}\n", json!({ "rank": rank, "stream": stream, "offset": offset, "text": text }))
}
