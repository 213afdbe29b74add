//! A server for tests: as much of HTTP and of the protocol as an agent needs, and what it was told to be checked.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::signature::{ED25519, UnparsedPublicKey};
use offtake_protocol::agent::{
    Edition, Join, Joined, LOG_END_QUERY, LogPiece, LogRequest, NODE_HEADER, Order, Orders, Report, SIGNATURE_HEADER,
    Stream, TIME_HEADER, TaskId, TaskPhase, TaskSpec, Want, signed_text,
};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;

use crate::support::PATIENCE;

pub const TOKEN: &str = "join-me";
const NODE: &str = "node-1";

/// What the server knows and wants.
pub struct State {
    pub joined: Option<Join>,
    pub orders: Orders,
    pub report: Option<Report>,
    pub reports: u64,
    /// It hears nothing.
    pub mute: bool,
    pieces: BTreeMap<u64, Vec<LogPiece>>,
    complete: Vec<u64>,
}

#[derive(Clone)]
pub struct Server {
    state: Arc<Mutex<State>>,
    news: Arc<Notify>,
    pub url: String,
}

struct Request {
    method: String,
    path: String,
    headers: BTreeMap<String, String>,
    body: Vec<u8>,
}

impl Server {
    pub async fn start(lease_ms: u32) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let url = format!("http://{}", listener.local_addr().expect("bound"));
        let state = State {
            joined: None,
            orders: Orders { edition: Edition { epoch: 3, version: 1 }, lease_ms, ..Orders::default() },
            report: None,
            reports: 0,
            mute: false,
            pieces: BTreeMap::new(),
            complete: Vec::new(),
        };
        let server = Self { state: Arc::new(Mutex::new(state)), news: Arc::default(), url };
        let accepting = server.clone();
        tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.expect("a connection");
                let serving = accepting.clone();
                tokio::spawn(async move { serving.serve(stream).await });
            }
        });
        server
    }

    pub fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no test fails in between")
    }

    /// Changes what the server wants.
    pub fn order(&self, change: impl FnOnce(&mut Orders)) {
        let mut state = self.state();
        change(&mut state.orders);
        state.orders.edition.version += 1;
        drop(state);
        self.news.notify_waiters();
    }

    /// Wants something of a task that it has not ordered yet, or more of one that it has.
    pub fn want(&self, task: TaskId, want: Want, spec: &TaskSpec) {
        self.order(|orders| {
            orders.tasks.retain(|order| order.task != task);
            orders.tasks.push(Order { task, want, signal: None, paused: false, spec: Some(Arc::new(spec.clone())) });
        });
    }

    /// Waits for a report of a task of which this holds.
    pub async fn until(&self, task: TaskId, what: &str, holds: impl Fn(&TaskPhase) -> bool) -> TaskPhase {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let known = self.phase(task);
            if let Some(phase) = known.as_ref().filter(|phase| holds(phase)) {
                return phase.clone();
            }
            assert!(Instant::now() < deadline, "waited in vain until {what}; it is {known:?}");
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }

    pub fn phase(&self, task: TaskId) -> Option<TaskPhase> {
        let state = self.state();
        let found = state.report.as_ref()?.tasks.iter().find(|report| report.task == task);
        found.map(|report| report.phase.clone())
    }

    /// Asks for output, and gives it once all has come, by rank and stream.
    pub async fn logs(&self, request: LogRequest) -> BTreeMap<(u32, Stream), String> {
        let id = request.id;
        self.order(|orders| orders.logs.push(request));
        self.finished(id).await;
        self.order(|orders| orders.logs.retain(|request| request.id != id));
        self.text(id)
    }

    /// Waits until all that a request asks for has come.
    pub async fn finished(&self, id: u64) {
        crate::support::until("all output has come", || self.state().complete.contains(&id)).await;
    }

    /// What has come so far for a request.
    pub fn text(&self, id: u64) -> BTreeMap<(u32, Stream), String> {
        let mut all = BTreeMap::<(u32, Stream), String>::new();
        for piece in self.state().pieces.get(&id).into_iter().flatten() {
            all.entry((piece.rank, piece.stream)).or_default().push_str(&piece.text);
        }
        all
    }

    async fn serve(self, stream: TcpStream) {
        let mut stream = BufReader::new(stream);
        while let Some(request) = read(&mut stream).await {
            if self.state().mute {
                return;
            }
            let (status, body) = self.answer(request).await;
            let head = format!("HTTP/1.1 {status} x\r\ncontent-length: {}\r\n\r\n", body.len());
            let whole = [head.into_bytes(), body].concat();
            if stream.get_mut().write_all(&whole).await.is_err() {
                return;
            }
        }
    }

    async fn answer(&self, request: Request) -> (u16, Vec<u8>) {
        assert_eq!(request.method, "POST");
        if request.path == "/v1/agents/join" {
            return self.join(&request.body);
        }
        self.check_signature(&request);
        if request.path == "/v1/agents/exchange" {
            return self.exchange(serde_json::from_slice(&request.body).expect("a report")).await;
        }
        let (path, query) = request.path.split_once('?').unwrap_or((&request.path, ""));
        let id: u64 = path.strip_prefix("/v1/agents/logs/").expect("a path that is known").parse().expect("a number");
        let lines = request.body.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
        let pieces = lines.map(|line| serde_json::from_slice::<LogPiece>(line).expect("a piece"));
        let mut state = self.state();
        if !state.orders.logs.iter().any(|request| request.id == id) {
            return (410, br#"{"status":410,"code":"gone","detail":"nobody reads"}"#.to_vec());
        }
        state.pieces.entry(id).or_default().extend(pieces);
        if query == LOG_END_QUERY {
            state.complete.push(id);
        }
        (200, b"{}".to_vec())
    }

    fn join(&self, body: &[u8]) -> (u16, Vec<u8>) {
        let join: Join = serde_json::from_slice(body).expect("a join");
        let mut state = self.state();
        let known = state.joined.as_ref().is_some_and(|known| known.public_key == join.public_key);
        if !known && (join.token != TOKEN || state.joined.is_some()) {
            let problem = r#"{"status":403,"code":"unknown_token","detail":"this token lets nobody join"}"#;
            return (403, problem.as_bytes().to_vec());
        }
        let joined = Joined { node: NODE.to_owned(), lease_ms: state.orders.lease_ms };
        state.joined = Some(join);
        (200, serde_json::to_vec(&joined).expect("written"))
    }

    fn check_signature(&self, request: &Request) {
        assert_eq!(request.headers[NODE_HEADER], NODE);
        let key = bytes(&self.state().joined.as_ref().expect("joined").public_key);
        let body: String = digest(&SHA256, &request.body).as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
        let time_ms = request.headers[TIME_HEADER].parse().expect("a time");
        let text = signed_text(&request.method, &request.path, time_ms, &body);
        let signature = bytes(&request.headers[SIGNATURE_HEADER]);
        UnparsedPublicKey::new(&ED25519, key).verify(&text, &signature).expect("the agent's own signature");
    }

    /// Holds the answer back until there is news, or a younger report.
    async fn exchange(&self, report: Report) -> (u16, Vec<u8>) {
        let (seen, answers, session) = (report.seen, report.version, report.session);
        let deadline = tokio::time::Instant::now() + Duration::from_millis(report.wait_ms.into());
        let number = {
            let mut state = self.state();
            let older = state.report.as_ref().filter(|known| known.session == session);
            if older.is_none_or(|older| older.version < report.version) {
                state.report = Some(report);
            }
            state.reports += 1;
            state.reports
        };
        self.news.notify_waiters();
        loop {
            let news = self.news.notified();
            let mut news = std::pin::pin!(news);
            news.as_mut().enable();
            {
                let state = self.state();
                if state.orders.edition > seen || state.reports > number {
                    break;
                }
            }
            if tokio::time::timeout_at(deadline, news).await.is_err() {
                break;
            }
        }
        let orders = Orders { answers, ..self.state().orders.clone() };
        (200, serde_json::to_vec(&orders).expect("written"))
    }
}

fn bytes(hexadecimal: &str) -> Vec<u8> {
    let digits = hexadecimal.as_bytes().chunks(2);
    digits.map(|two| u8::from_str_radix(std::str::from_utf8(two).expect("ASCII"), 16).expect("digits")).collect()
}

async fn read(stream: &mut BufReader<TcpStream>) -> Option<Request> {
    let mut line = String::new();
    stream.read_line(&mut line).await.ok().filter(|length| *length > 0)?;
    let mut words = line.split(' ').map(str::to_owned);
    let (method, path) = (words.next()?, words.next()?);
    let mut headers = BTreeMap::new();
    loop {
        let mut line = String::new();
        stream.read_line(&mut line).await.ok()?;
        let Some((name, value)) = line.trim_end().split_once(':') else { break };
        headers.insert(name.to_ascii_lowercase(), value.trim().to_owned());
    }
    let length = headers.get("content-length").map_or(0, |length| length.parse().expect("a length"));
    let mut body = vec![0; length];
    stream.read_exact(&mut body).await.ok()?;
    Some(Request { method, path, headers, body })
}
