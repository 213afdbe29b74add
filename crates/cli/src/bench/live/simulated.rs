//! Agents without machines: the agent's own state machine and signed calls, and workers that do nothing.

use std::collections::VecDeque;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use offtake_agent::{Action, Core, Identity, Input};
use offtake_client::{Client, ClientError};
use offtake_protocol::agent::{
    Edition, EnergySource, Exit, Isolation, Join, Joined, NODE_HEADER, NodeDescription, Orders, SIGNATURE_HEADER,
    TIME_HEADER, TaskEnd, TaskId, VERSION, WorkerEnd,
};
use offtake_protocol::rest::{JoinTokenMade, JoinTokenRequest};
use offtake_units::Mebibytes;

use super::CORES;

/// What all simulated agents have done.
#[derive(Debug, Default)]
pub struct Tally {
    /// Reports answered.
    pub reports: AtomicU64,
    /// Reports that were not.
    pub failures: AtomicU64,
    /// Tasks run.
    pub tasks: AtomicU64,
    /// The longest that an answer took beyond what it was allowed to be held back, in microseconds.
    pub slowest_us: AtomicU64,
}

/// A node that joins and reports like any other.
pub struct Agent {
    name: String,
    /// What it decides by.
    pub core: Core,
    identity: Arc<Identity>,
    client: Client,
    begin: Instant,
}

/// The key that all simulated agents share.
///
/// # Errors
/// When it cannot be made.
pub fn identity(folder: &Path) -> anyhow::Result<Arc<Identity>> {
    Ok(Arc::new(Identity::open(folder)?))
}

impl Agent {
    /// Joins the server as one of the fleet's nodes, with so many chips of a kind; the number sets its session.
    ///
    /// # Errors
    /// When the server refuses.
    pub async fn join(
        client: Client,
        identity: Arc<Identity>,
        number: u32,
        name: String,
        chips: Option<(&str, u16)>,
    ) -> anyhow::Result<Self> {
        let request = JoinTokenRequest { node: Some(name.clone()), valid_ms: None };
        let token: JoinTokenMade = client.post("/v1/join-tokens", None, &request).await?;
        let token = token.token.split('.').next().unwrap_or_default().to_owned();
        let node = NodeDescription {
            protocol: VERSION,
            agent_version: env!("CARGO_PKG_VERSION").to_owned(),
            address: "127.0.0.1".to_owned(),
            cpus: CORES,
            memory: Mebibytes::new(256 << 10),
            accelerator: chips.map(|(kind, _)| kind.to_owned()),
            chips: chips.map_or(0, |(_, count)| count),
            chip_memory: None,
            chip_watts: None,
            attributes: std::collections::BTreeMap::new(),
            isolation: Isolation::default(),
            power_sources: Vec::new(),
            name: name.clone(),
        };
        let join = Join { token, public_key: identity.public_key(), node };
        let _: Joined = client.post("/v1/agents/join", None, &join).await?;
        let core = Core::new(u64::from(number) + 1, Edition::default());
        Ok(Self { name, core, identity, client, begin: Instant::now() })
    }

    /// Reports once, so that the server knows it to be there.
    ///
    /// # Errors
    /// When the server refuses.
    pub async fn report_once(&mut self) -> anyhow::Result<()> {
        let report = self.core.report();
        self.exchange(&report).await?;
        Ok(())
    }

    /// Reports and does what it is told, for ever.
    pub async fn run(mut self, tally: Arc<Tally>) {
        loop {
            let busy = self.core.alive() > 0;
            let mut report = self.core.report();
            // Ended tasks are told at once; otherwise the server may wait for news.
            let told =
                report.tasks.iter().any(|task| !matches!(task.phase, offtake_protocol::agent::TaskPhase::Prepared));
            report.wait_ms = if busy || told { 0 } else { self.core.longest_wait_ms() };
            let wait = Duration::from_millis(u64::from(report.wait_ms));
            let asked_at_ms = self.now_ms();
            let call = Instant::now();
            match self.exchange(&report).await {
                Ok(orders) => {
                    let over = call.elapsed().saturating_sub(wait).as_micros() as u64;
                    tally.slowest_us.fetch_max(over, Ordering::Relaxed);
                    tally.reports.fetch_add(1, Ordering::Relaxed);
                    let idle = orders.tasks.is_empty() && told;
                    self.obey(orders, asked_at_ms, &tally);
                    if idle {
                        continue;
                    }
                }
                Err(_) => {
                    tally.failures.fetch_add(1, Ordering::Relaxed);
                    tokio::time::sleep(Duration::from_millis(200)).await;
                }
            }
        }
    }

    /// Sends a report.
    ///
    /// # Errors
    /// When the server does not answer it with orders.
    pub async fn exchange(&self, report: &offtake_protocol::agent::Report) -> Result<Orders, ClientError> {
        const PATH: &str = "/v1/agents/exchange";
        let body = serde_json::to_vec(report).map_err(|error| ClientError::Answer(error.to_string()))?;
        let time_ms = unix_ms();
        let signature = self.identity.sign("POST", PATH, time_ms, &body);
        let request = self
            .client
            .request(offtake_client::Method::POST, PATH)
            .header("content-type", "application/json")
            .header(NODE_HEADER, &self.name)
            .header(TIME_HEADER, time_ms.to_string())
            .header(SIGNATURE_HEADER, signature)
            .body(body);
        let response = self.client.send(request).await?;
        self.client.read(response).await
    }

    fn obey(&mut self, orders: Orders, asked_at_ms: u64, tally: &Tally) {
        let mut inputs = VecDeque::from([Input::Orders { orders, asked_at_ms }]);
        let mut actions = Vec::new();
        let mut workers: Vec<(TaskId, Vec<u32>)> = Vec::new();
        while let Some(input) = inputs.pop_front() {
            let now_ms = self.now_ms();
            self.core.handle(input, now_ms, &mut actions);
            for action in actions.drain(..) {
                match action {
                    Action::Prepare(task, spec) => {
                        workers.push((task, spec.workers.iter().map(|worker| worker.rank).collect()));
                        inputs.push_back(Input::Prepared(task));
                    }
                    Action::Run(task) => {
                        tally.tasks.fetch_add(1, Ordering::Relaxed);
                        let ranks = workers.iter().find(|(id, _)| *id == task);
                        let ranks = ranks.map_or_else(Vec::new, |(_, ranks)| ranks.clone());
                        inputs.push_back(Input::Running { task, since_ms: unix_ms() });
                        inputs.push_back(Input::Ended(task, ended(&ranks)));
                    }
                    Action::Pause(task, paused) => inputs.push_back(Input::Paused { task, paused }),
                    Action::Stop(task, _) | Action::Kill(task) => inputs.push_back(Input::Ended(task, ended(&[]))),
                    _ => {}
                }
            }
        }
    }

    /// Milliseconds of its own clock.
    pub fn now_ms(&self) -> u64 {
        self.begin.elapsed().as_millis() as u64
    }
}

/// The end of a task whose workers, of these ranks, end well.
pub fn ended(ranks: &[u32]) -> TaskEnd {
    let now = unix_ms();
    let worker = |rank: &u32| WorkerEnd { rank: *rank, exit: Exit::Status(0), started_ms: now, ended_ms: now };
    TaskEnd {
        refused: None,
        workers: ranks.iter().map(worker).collect(),
        energy_mj: 0,
        energy_source: EnergySource::Model,
        cpu_ms: None,
        peak_memory_kib: None,
    }
}

/// Milliseconds since 1970.
pub fn unix_ms() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as i64)
}
