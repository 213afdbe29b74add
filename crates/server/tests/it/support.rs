//! A server on a folder of its own, and an agent that does as a test wants.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair};
use offtake_client::{Client, ClientError, Server, Trust};
use offtake_fleet::JoinedNode;
use offtake_protocol::agent::{
    Join, Joined, NODE_HEADER, NodeDescription, Orders, Report, SIGNATURE_HEADER, TIME_HEADER, VERSION, signed_text,
};
use offtake_protocol::rest::{JobDetail, JobState, Problem, Role, Submitted, TokenMade, TokenRequest};
use offtake_server::{Configuration, Ready, ServerError, serve};
use offtake_units::{CpuMilli, Mebibytes};
use offtake_workload::User;
use serde_json::{Value, json};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

/// A folder that goes with the test.
pub struct Folder(PathBuf);

impl Folder {
    pub fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let name = format!("offtake-server-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let path = std::env::temp_dir().join(name);
        std::fs::create_dir_all(&path).expect("a folder for the test");
        Self(path)
    }

    pub fn path(&self) -> &Path {
        &self.0
    }

    /// As small servers of tests are configured.
    pub fn configuration(&self) -> Configuration {
        let listen = Some("127.0.0.1:0".parse().expect("an address"));
        let socket = Some(self.0.join("offtake.sock"));
        let users = ["ada", "bob", "research"].map(|name| (name.to_owned(), User::Name(name.to_owned())));
        let tenants = BTreeMap::from(users);
        let nodes = ["n1", "n2"].map(node);
        let fleet = Some(Arc::new(offtake_fleet::joined("lab", &nodes)));
        Configuration { listen, socket, tenants, fleet, ..Configuration::new(self.0.join("data")) }
    }
}

/// A node of two cores, as those of the agents here.
fn node(name: &str) -> JoinedNode {
    JoinedNode {
        name: name.to_owned(),
        cpu: CpuMilli::new(2000),
        memory: Mebibytes::new(4096),
        accelerator: None,
        chips: 0,
        chip_memory: None,
        chip_watts: None,
        attributes: BTreeMap::new(),
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// A server that runs.
pub struct Running {
    pub ready: Ready,
    pub operator_token: String,
    stop: oneshot::Sender<()>,
    task: JoinHandle<Result<(), ServerError>>,
}

pub async fn start(configuration: Configuration) -> Running {
    try_start(configuration).await.expect("the server starts")
}

pub async fn try_start(configuration: Configuration) -> Result<Running, ServerError> {
    let (stop, stopped) = oneshot::channel::<()>();
    let (is_ready, ready) = oneshot::channel();
    let task = tokio::spawn(serve(configuration, |ready| drop(is_ready.send(ready)), async { drop(stopped.await) }));
    match ready.await {
        Ok(ready) => {
            let operator_token = std::fs::read_to_string(&ready.operator_token).expect("the operator's token");
            Ok(Running { ready, operator_token, stop, task })
        }
        Err(_) => Err(task.await.expect("the server does not panic").expect_err("a server that ends says why")),
    }
}

impl Running {
    pub async fn stop(self) {
        drop(self.stop);
        self.task.await.expect("the server does not panic").expect("the server ends in good order");
    }

    /// Over TCP, with a token.
    pub fn with(&self, token: &str) -> Client {
        self.over_tcp(Some(token))
    }

    pub fn operator(&self) -> Client {
        self.with(&self.operator_token)
    }

    pub fn nobody(&self) -> Client {
        self.over_tcp(None)
    }

    fn over_tcp(&self, token: Option<&str>) -> Client {
        let url = self.ready.url.clone().expect("the server listens at TCP");
        let trust = self.ready.fingerprint.as_deref().and_then(offtake_client::Fingerprint::parse);
        let trust = trust.map_or(Trust::System, Trust::Fingerprint);
        Client::new(Server { url, token: token.map(str::to_owned), trust }).expect("a client")
    }

    pub fn over_socket(&self) -> Client {
        let socket = self.ready.socket.as_ref().expect("the server has a socket");
        let url = format!("unix:{}", socket.display());
        Client::new(Server { url, token: None, trust: Trust::System }).expect("a client")
    }

    /// A client with a new token.
    pub async fn client_of(&self, name: &str, role: Role) -> Client {
        let request = TokenRequest { name: name.to_owned(), role, user: None, expires_ms: None };
        let made: TokenMade = self.operator().post("/v1/tokens", None, &request).await.expect("a token");
        self.with(&made.token)
    }

    pub async fn member_of(&self, tenant: &str) -> Client {
        self.client_of(&format!("member of {tenant}"), Role::Member { tenant: tenant.to_owned() }).await
    }

    /// Lets a node of two cores join.
    pub async fn agent(&self, name: &str) -> FakeAgent {
        let token = self.ready.join_token(None).await.expect("a join token");
        FakeAgent::join(self.nobody(), name, token).await.expect("the node joins")
    }
}

/// A job that does nothing.
pub fn job(name: &str) -> Value {
    json!({"name": name, "command": ["true"]})
}

pub async fn submit(client: &Client, job: &Value) -> Submitted {
    client.post("/v1/jobs", None, job).await.expect("the job is accepted")
}

/// What the server said no with.
pub fn refused<T: std::fmt::Debug>(answer: Result<T, ClientError>) -> Problem {
    let error = answer.expect_err("the server says no");
    let problem = error.problem().cloned();
    assert!(problem.is_some(), "not a problem, but {error}");
    problem.expect("just looked")
}

pub async fn state(client: &Client, id: u64) -> JobState {
    let detail: JobDetail = client.get(&format!("/v1/jobs/{id}")).await.expect("the job is there");
    detail.job.state
}

/// Waits until something is so, for a test's patience.
pub async fn until(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let began = Instant::now();
    while !holds().await {
        assert!(began.elapsed() < Duration::from_secs(30), "in vain: {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// An agent whose reports a test writes.
pub struct FakeAgent {
    client: Client,
    pub node: String,
    key: Ed25519KeyPair,
    pub report: Report,
}

impl FakeAgent {
    pub async fn join(client: Client, node: &str, token: String) -> Result<Self, ClientError> {
        let key = Ed25519KeyPair::generate().expect("a key");
        let description = NodeDescription {
            protocol: VERSION,
            agent_version: "test".to_owned(),
            name: node.to_owned(),
            address: "127.0.0.1".to_owned(),
            cpus: 2,
            memory: Mebibytes::new(4096),
            accelerator: None,
            chips: 0,
            chip_memory: None,
            chip_watts: None,
            attributes: BTreeMap::new(),
            isolation: offtake_protocol::agent::Isolation::default(),
            power_sources: Vec::new(),
        };
        let join = Join { token, public_key: hex(key.public_key().as_ref()), node: description };
        let joined: Joined = client.post("/v1/agents/join", None, &join).await?;
        Ok(Self { client, node: joined.node, key, report: Report { session: 7, ..Report::default() } })
    }

    /// Sends its next report.
    pub async fn exchange(&mut self) -> Result<Orders, ClientError> {
        self.report.version += 1;
        let body = serde_json::to_vec(&self.report).expect("a report");
        let response = self.post("/v1/agents/exchange", body).await?;
        let orders: Orders = self.client.read(response).await?;
        self.report.seen = orders.edition;
        Ok(orders)
    }

    pub async fn post(&self, path: &str, body: Vec<u8>) -> Result<reqwest::Response, ClientError> {
        let request = self.signed(path, now_ms(), body);
        self.client.send(request).await
    }

    /// A request signed at a time.
    pub fn signed(&self, path: &str, time_ms: i64, body: Vec<u8>) -> reqwest::RequestBuilder {
        let sum = hex(digest(&SHA256, &body).as_ref());
        let signature = self.key.sign(&signed_text("POST", path, time_ms, &sum));
        let method = "POST".parse().expect("a method");
        self.client
            .request(method, path)
            .header(NODE_HEADER, &self.node)
            .header(TIME_HEADER, time_ms.to_string())
            .header(SIGNATURE_HEADER, hex(signature.as_ref()))
            .header("content-type", "application/json")
            .body(body)
    }

    pub fn client(&self) -> &Client {
        &self.client
    }
}

pub fn now_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970");
    i64::try_from(since.as_millis()).expect("before the end of time")
}

pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
