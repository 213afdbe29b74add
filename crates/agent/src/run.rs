//! The agent: joins, finds what an earlier run has left, and does what the server wants until it is told to end.
//!
//! All that is decided is decided by [`Core`]; here is what it needs of the world. One loop owns it. Each task, each
//! request for output and each exchange with the server is a future of its own that tells the loop what came of it.
//!
//! *Exchanges.* A report waits at the server for news. When something has changed meanwhile, another report goes out at
//! once beside it, upon which the server answers the first. At most two are under way, so changes that come faster than
//! answers go out together.

use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use nvml_wrapper::Nvml;
use offtake_client::{Client, ClientError, Fingerprint, Server, Trust};
use offtake_protocol::agent::{
    Condition, EnergySource, Join, Joined, NodeDescription, Orders, TaskId, TaskSpec, VERSION,
};
use offtake_units::Mebibytes;
use tokio::sync::{mpsc, watch};
use tokio::task::{AbortHandle, JoinHandle, JoinSet};
use tokio::time::Instant;

use crate::accounts::Accounts;
use crate::core::{Action, Core, Ignored, Input};
use crate::cores::Cores;
use crate::discover::{Found, Roots, discover, local_address, nvml};
use crate::health;
use crate::identity::{Identity, IdentityError, Membership};
use crate::isolation;
use crate::limits::ChipPower;
use crate::link::{Link, LinkError};
use crate::logs;
use crate::node::Node;
use crate::power::Meters;
use crate::store::{Lock, Retention, Store};
use crate::supervisor::{Launcher, boot_now_ms};
use crate::task::{Order, Task, adopt};

/// How an agent is set up.
#[derive(Clone, Debug)]
pub struct Configuration {
    /// The server. Its token is not needed: the agent has a key of its own.
    pub server: Server,
    /// The agent's folder of data, which no other agent uses. Workers must be able to reach into it.
    pub data: PathBuf,
    /// Lets the node join; needed once. One that was used already does no harm.
    pub join_token: Option<String>,
    /// The node's name; the host's when left out.
    pub name: Option<String>,
    /// Where other nodes reach this one; the address that reaches the server when left out.
    pub address: Option<String>,
    /// Program that runs before each task. When it fails, the task is refused and the node takes no more work until a
    /// health check is well again, or the agent starts anew.
    pub prolog: Option<PathBuf>,
    /// Program that runs after each task. When it fails, the node takes no more work, as with the prolog.
    pub epilog: Option<PathBuf>,
    /// Program that tells whether the node is fit for work: by status 0.
    pub health_check: Option<PathBuf>,
    /// Time between two health checks.
    pub health_interval: Duration,
    /// How long a hook may take.
    pub hook_limit: Duration,
    /// The `offtake` binary: supervisor of workers and shim of Slurm's commands.
    pub exe: PathBuf,
    /// Cores for work; all that the agent itself may use when left out.
    pub cpus: Option<u32>,
    /// Memory for work; all that the agent itself may use when left out.
    pub memory: Option<Mebibytes>,
    /// How much output is kept of tasks that are over.
    pub retention: Retention,
    /// The most that a chip may draw, in watts, once the server has not been heard of for as long as its orders hold; as
    /// it was when left out.
    pub default_power_limit: Option<u32>,
}

impl Configuration {
    /// Time between two health checks, where it is not said.
    pub const HEALTH_INTERVAL: Duration = Duration::from_secs(60);
    /// How long a hook may take, where it is not said.
    pub const HOOK_LIMIT: Duration = Duration::from_secs(60);

    /// The usual for a server, with this folder and this binary.
    pub fn new(server: Server, data: PathBuf, exe: PathBuf) -> Self {
        Self {
            server,
            data,
            join_token: None,
            name: None,
            address: None,
            prolog: None,
            epilog: None,
            health_check: None,
            health_interval: Self::HEALTH_INTERVAL,
            hook_limit: Self::HOOK_LIMIT,
            exe,
            cpus: None,
            memory: None,
            retention: Retention::default(),
            default_power_limit: None,
        }
    }
}

/// How an agent is to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Departure {
    /// Workers go on, and the agent's next run finds them again. If there is none before the lease ends, they end.
    Pause,
    /// All work ends in good order first, and the server is told that nothing runs any more.
    Leave,
}

/// Why an agent cannot run.
#[derive(Debug, thiserror::Error)]
pub enum AgentError {
    /// Its folder cannot be used.
    #[error("cannot use the agent's folder {}: {reason}", path.display())]
    Data {
        /// The folder.
        path: PathBuf,
        /// Why.
        reason: std::io::Error,
    },
    /// Its key or what it remembers of its join cannot be used.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// The server's address or certificate cannot be meant.
    #[error(transparent)]
    Server(#[from] ClientError),
    /// The node has not joined yet, and there is no token.
    #[error(
        "this node has not joined a server yet: give a token with `--join`; `offtake token join` at the server makes one"
    )]
    NoToken,
    /// The server did not let the node join.
    #[error("the server at {server} did not let this node join: {reason}")]
    Join {
        /// The server.
        server: String,
        /// What it said.
        reason: String,
    },
}

/// The first wait before the server is tried again, and the longest.
const AGAIN: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(5));
/// How much longer than its own wait a report may take to be answered: as long again, within these limits.
const ANSWER_LIMIT: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(5));
/// How long a server that a node wants to join for the first time is waited for.
const JOIN_LIMIT: Duration = Duration::from_secs(30);
/// The longest that the agent lets a server hold back an answer.
const LONGEST_WAIT_MS: u32 = 30_000;
/// Reports under way at one time.
const EXCHANGES: usize = 2;
/// Requests for output that are answered at one time; further ones wait.
const LOGS: usize = 64;
/// How long an agent that leaves waits until its chips have their own limits back.
const RESTORE_LIMIT: Duration = Duration::from_secs(3);
/// How long an agent that leaves tries to tell so.
const FAREWELL_LIMIT: Duration = Duration::from_secs(10);

/// Runs an agent until `stop` says how it is to end.
///
/// # Errors
/// If it cannot begin: the folder, the key, the join. Once it runs it goes on, whatever becomes of the server.
pub async fn run(configuration: Configuration, stop: impl Future<Output = Departure>) -> Result<(), AgentError> {
    let (link, node, _lock) = begin(configuration).await?;
    let mut agent = Agent::new(link, Arc::new(node));
    agent.adopt().await.map_err(|reason| AgentError::Data { path: agent.node.store.data().to_owned(), reason })?;
    agent.work(stop).await;
    Ok(())
}

async fn begin(mut configuration: Configuration) -> Result<(Link, Node, Lock), AgentError> {
    let path = configuration.data.clone();
    let data = |reason| AgentError::Data { path: path.clone(), reason };
    let (store, lock) = Store::open(&configuration.data, configuration.retention).map_err(data)?;
    // The token of the first start carried the fingerprint of a server that vouches for itself; later starts have none.
    let remembered = Membership::read(store.data())?.filter(|known| known.server == configuration.server.url);
    if configuration.server.trust == Trust::System
        && let Some(fingerprint) = remembered.and_then(|known| Fingerprint::parse(&known.fingerprint?))
    {
        configuration.server.trust = Trust::Fingerprint(fingerprint);
    }
    let shims = store.make_shims(&configuration.exe).map_err(data)?;
    let identity = Identity::open(store.data())?;
    let client = Client::new(Server { token: None, ..configuration.server.clone() })?;

    let roots = Roots::default();
    let nvml = nvml().map(Arc::new);
    let mut found = discover(&roots, nvml.as_deref());
    // Who is given fewer cores leaves the first ones to others, as the kernel uses those most.
    if let Some(cpus) = configuration.cpus {
        let beyond = found.cores.len().saturating_sub(cpus as usize);
        found.cores.drain(..beyond);
    }
    found.memory = configuration.memory.unwrap_or(found.memory);
    let isolation = isolation::Node::detect(store.data());
    let of_nvidia = nvml.as_ref().map_or(0, |_| found.chips.as_ref().map_or(0, |chips| chips.count));
    let chip_power = find_limits(&roots, nvml.as_ref(), &mut found, store.data());
    let meters = Meters::find(&roots.sys, &roots.proc, nvml, of_nvidia);

    let membership = {
        let description = describe(&configuration, &found, &isolation, &meters).await;
        join_if_needed(&configuration, &client, &identity, description, store.data()).await?
    };
    let link = Link { client, identity, node: membership.joined.node.clone() };
    let fingerprint = fingerprint_of(&configuration.server.trust);
    let node = Node {
        name: membership.joined.node,
        cores: Mutex::new(Cores::new(found.cores.clone())),
        meters: Mutex::new(meters),
        chip_power: chip_power.map(Arc::new),
        accounts: Accounts::default(),
        unhealthy: watch::channel(None).0,
        launcher: Launcher::new(configuration.exe.clone(), store.data().to_path_buf()),
        store: Arc::new(store),
        configuration,
        found,
        isolation,
        shims,
        fingerprint,
    };
    Ok((link, node, lock))
}

/// The limits of the node's chips, where they can be set.
fn find_limits(roots: &Roots, nvml: Option<&Arc<Nvml>>, found: &mut Found, data: &Path) -> Option<ChipPower> {
    let chips = found.chips.as_mut()?;
    match ChipPower::find(roots, nvml, chips, data) {
        Ok(power) => {
            // A limit of the server's from before a restart says nothing of the chip.
            if let (Some(watts), Some(power)) = (&mut chips.watts, &power) {
                *watts = power.own();
            }
            power
        }
        Err(reason) => {
            tracing::warn!(
                reason,
                "the power of this node's chips cannot be limited: work is stopped where it would be throttled"
            );
            None
        }
    }
}

async fn describe(
    configuration: &Configuration,
    found: &Found,
    isolation: &isolation::Node,
    meters: &Meters,
) -> NodeDescription {
    let server = configuration.server.url.clone();
    let address = match &configuration.address {
        Some(address) => address.clone(),
        None => {
            let local = tokio::task::spawn_blocking(move || local_address(&server)).await;
            local.map_or_else(|_| found.host.clone(), |address| address.to_string())
        }
    };
    let mut power_sources = meters.sources();
    if !power_sources.contains(&EnergySource::Node) && health::has_ipmi() {
        power_sources.push(EnergySource::Node);
    }
    NodeDescription {
        protocol: VERSION,
        agent_version: env!("CARGO_PKG_VERSION").to_owned(),
        name: configuration.name.clone().unwrap_or_else(|| found.host.clone()),
        address,
        cpus: u32::try_from(found.cores.len()).unwrap_or(u32::MAX),
        memory: found.memory,
        accelerator: found.chips.as_ref().map(|chips| chips.kind.clone()),
        chips: found.chips.as_ref().map_or(0, |chips| chips.count),
        chip_memory: found.chips.as_ref().and_then(|chips| chips.memory),
        chip_watts: found.chips.as_ref().and_then(|chips| chips.watts),
        attributes: found.attributes.clone(),
        isolation: isolation.isolation(),
        power_sources,
    }
}

/// The fingerprint by which a server's certificate is known, where it is.
fn fingerprint_of(trust: &Trust) -> Option<String> {
    match trust {
        Trust::Fingerprint(fingerprint) => Some(fingerprint.to_string()),
        Trust::System | Trust::Authority(_) => None,
    }
}

/// The node's membership: the one that is remembered, unless a token leads to another. A server answers an agent that it
/// knows as it did the first time, so a token that stays in the agent's configuration does no harm.
async fn join_if_needed(
    configuration: &Configuration,
    client: &Client,
    identity: &Identity,
    node: NodeDescription,
    data: &Path,
) -> Result<Membership, AgentError> {
    let server = configuration.server.url.clone();
    let remembered = Membership::read(data)?;
    let Some(token) = configuration.join_token.clone() else { return remembered.ok_or(AgentError::NoToken) };
    // Who has joined before need not wait for the server: its work may be waiting for its agent.
    let patience = if remembered.is_some() { Duration::ZERO } else { JOIN_LIMIT };
    match join(client, Join { token, public_key: identity.public_key(), node }, patience).await {
        Ok(joined) => {
            let membership = Membership { server, joined, fingerprint: fingerprint_of(&configuration.server.trust) };
            if remembered.as_ref() != Some(&membership) {
                membership.write(data)?;
            }
            Ok(membership)
        }
        Err(reason) => match remembered.filter(|membership| membership.server == server) {
            Some(membership) => {
                tracing::warn!(%reason, "the token is of no use; going on as the node that has joined before");
                Ok(membership)
            }
            None => Err(AgentError::Join { server, reason }),
        },
    }
}

/// Joins. A server that is not there yet is waited for; one that says no is not asked twice.
async fn join(client: &Client, ask: Join, patience: Duration) -> Result<Joined, String> {
    let mut wait = AGAIN.0;
    let deadline = Instant::now() + patience;
    loop {
        let answer = tokio::time::timeout(ANSWER_LIMIT.1, client.post("/v1/agents/join", None, &ask)).await;
        match answer.map_err(|_| "it does not answer".to_owned()) {
            Err(_) | Ok(Err(ClientError::Unreachable { .. })) if Instant::now() + wait < deadline => {
                tokio::time::sleep(wait).await;
                wait = (wait * 2).min(AGAIN.1);
            }
            other => return other?.map_err(|error| error.to_string()),
        }
    }
}

/// What came of an exchange.
struct Answered {
    number: u64,
    asked_at_ms: u64,
    orders: Result<Orders, LinkError>,
}

/// A task that is alive on the node.
struct Alive {
    orders: mpsc::UnboundedSender<Order>,
    /// Whether it has ended.
    over: watch::Sender<bool>,
}

struct Agent {
    core: Core,
    node: Arc<Node>,
    link: Arc<Link>,
    tasks: BTreeMap<TaskId, Alive>,
    /// What follows the tasks.
    followers: JoinSet<()>,
    lease_until_ms: watch::Sender<u64>,
    inputs: (mpsc::Sender<Input>, mpsc::Receiver<Input>),
    answers: (mpsc::UnboundedSender<Answered>, mpsc::UnboundedReceiver<Answered>),
    /// Exchanges under way, by number.
    exchanges: BTreeMap<u64, AbortHandle>,
    exchange_number: u64,
    /// There is something to report.
    news: bool,
    /// What the node measured last.
    condition: Option<Condition>,
    /// The server is not asked before: it did not answer.
    not_before: Instant,
    /// Without news it is not asked before either: it answers at once, and has none itself.
    quiet_until: Instant,
    wait: Duration,
    logs: BTreeMap<u64, AbortHandle>,
    log_places: Arc<tokio::sync::Semaphore>,
    /// The epoch that is written down.
    epoch: u64,
}

impl Agent {
    fn new(link: Link, node: Arc<Node>) -> Self {
        let seen = node.store.seen();
        Self {
            core: Core::new(random_number(), seen),
            node,
            link: Arc::new(link),
            tasks: BTreeMap::new(),
            followers: JoinSet::new(),
            lease_until_ms: watch::channel(0).0,
            inputs: mpsc::channel(1024),
            answers: mpsc::unbounded_channel(),
            exchanges: BTreeMap::new(),
            exchange_number: 0,
            news: true,
            condition: None,
            not_before: Instant::now(),
            quiet_until: Instant::now(),
            wait: AGAIN.0,
            logs: BTreeMap::new(),
            log_places: Arc::new(tokio::sync::Semaphore::new(LOGS)),
            epoch: seen.epoch,
        }
    }

    /// Finds what an earlier run has left.
    async fn adopt(&mut self) -> std::io::Result<()> {
        if let Some(power) = &self.node.chip_power {
            let fallback = self.node.configuration.default_power_limit.map(|watts| power.all_at(watts));
            self.handle(Input::CanLimit { set: power.set(), fallback });
        }
        let mut groups = BTreeSet::new();
        for id in self.node.store.tasks()? {
            // What cannot be read may run, so without it the agent must not say what it has.
            let Some(adopted) = adopt(&self.node, id).await? else { continue };
            tracing::info!(task = %id, stand = ?adopted.stand, "found again");
            groups.extend(adopted.groups.iter().cloned());
            let input = Input::Adopted {
                task: id,
                spec: Arc::clone(&adopted.spec),
                stand: adopted.stand.clone(),
                signalled: adopted.signalled,
            };
            if !matches!(adopted.stand, crate::core::Stand::Ended(_)) {
                let (task, orders) = self.new_task(id, Arc::clone(&adopted.spec));
                self.followers.spawn(task.go_on(adopted, orders));
            }
            self.handle(input);
        }
        let node = Arc::clone(&self.node);
        let swept = tokio::task::spawn_blocking(move || node.isolation.sweep(&|name| groups.contains(name))).await;
        if let Err(error) = swept {
            tracing::error!(%error, "control groups of an earlier run cannot be removed");
        }
        Ok(())
    }

    async fn work(&mut self, stop: impl Future<Output = Departure>) {
        let (conditions, mut condition) = watch::channel(Condition::default());
        let watching = Watching(tokio::spawn(health::watch(Arc::clone(&self.node), conditions)));
        let mut stop = std::pin::pin!(stop);
        let mut stopped = false;
        let mut farewell: Option<Instant> = None;
        loop {
            while self.followers.try_join_next().is_some() {}
            self.exchange();
            let tick_ms = self.core.next_tick_ms();
            let tick = async move {
                match tick_ms {
                    Some(at_ms) => tokio::time::sleep(Duration::from_millis(at_ms.saturating_sub(boot_now_ms()))).await,
                    None => std::future::pending().await,
                }
            };
            let held_up_until = self.next_exchange().filter(|at| Instant::now() < *at);
            tokio::select! {
                input = self.inputs.1.recv() => {
                    let input = input.expect("the agent keeps a sender");
                    self.handle(input);
                    // What has come in meanwhile is reported together.
                    while let Ok(more) = self.inputs.1.try_recv() {
                        self.handle(more);
                    }
                }
                answered = self.answers.1.recv() => {
                    let answered = answered.expect("the agent keeps a sender");
                    let told = self.answered(answered);
                    if farewell.is_some() && told {
                        break;
                    }
                }
                () = tick => self.handle(Input::Tick),
                () = tokio::time::sleep_until(held_up_until.unwrap_or(self.not_before)), if held_up_until.is_some() => {}
                Ok(()) = condition.changed() => self.take_condition(condition.borrow_and_update().clone()),
                departure = &mut stop, if !stopped => {
                    stopped = true;
                    match departure {
                        Departure::Pause => break,
                        Departure::Leave => self.handle(Input::Leave),
                    }
                }
                () = tokio::time::sleep_until(farewell.unwrap_or(self.not_before)), if farewell.is_some() => break,
            }
            if farewell.is_none() && self.core.has_left() {
                farewell = Some(Instant::now() + FAREWELL_LIMIT);
                // Only the report that says so counts now.
                self.exchanges.values().for_each(AbortHandle::abort);
                self.exchanges.clear();
                self.news = true;
            }
        }
        drop(watching);
        self.exchanges.values().chain(self.logs.values()).for_each(AbortHandle::abort);
        // The workers stay with their supervisors.
        self.followers.shutdown().await;
        if let Some(power) = self.node.chip_power.clone().filter(|_| farewell.is_some()) {
            // What comes after us here is not the server's.
            let restored = tokio::task::spawn_blocking(move || power.limit(&BTreeMap::new()));
            let _ = tokio::time::timeout(RESTORE_LIMIT, restored).await;
        }
    }

    fn take_condition(&mut self, condition: Condition) {
        let before = self.condition.as_ref().and_then(|known| known.unhealthy.clone());
        if condition.unhealthy != before {
            self.news = true;
        }
        self.condition = Some(condition);
        // Somebody else may have set other limits, or a driver was loaded anew.
        self.handle(Input::KeepLimits);
    }

    fn handle(&mut self, input: Input) {
        if let Input::Ended(id, _) = &input
            && let Some(task) = self.tasks.get(id)
        {
            task.over.send_replace(true);
        }
        let mut actions = Vec::new();
        self.core.handle(input, boot_now_ms(), &mut actions);
        for action in actions {
            self.act(action);
        }
    }

    fn act(&mut self, action: Action) {
        match action {
            Action::Prepare(id, spec) => {
                let (task, orders) = self.new_task(id, spec);
                self.followers.spawn(task.begin(orders));
            }
            Action::Run(id) => self.tell(id, Order::Run),
            Action::Signal(id, signal) => self.tell(id, Order::Signal(signal)),
            Action::Pause(id, paused) => self.tell(id, Order::Pause(paused)),
            Action::Stop(id, stop) => self.tell(id, Order::Stop(stop)),
            Action::Kill(id) => self.tell(id, Order::Kill),
            Action::Forget(id) => self.forget(id),
            Action::ExtendLease(until_ms) => {
                self.lease_until_ms.send_replace(until_ms);
            }
            Action::Limit(wanted) => {
                let Some(power) = self.node.chip_power.clone() else { return };
                let inputs = self.inputs.0.clone();
                // A driver takes its time, and hangs on a broken chip: then the server hears of no limit in time.
                tokio::task::spawn_blocking(move || {
                    tracing::debug!(?wanted, "chips are limited");
                    // The agent may have ended meanwhile.
                    let _ = inputs.blocking_send(Input::Limited(power.limit(&wanted)));
                });
            }
            Action::StartLog(request) => {
                let over =
                    self.tasks.get(&request.task).map_or_else(|| watch::channel(true).1, |task| task.over.subscribe());
                let (link, store) = (Arc::clone(&self.link), Arc::clone(&self.node.store));
                let places = Arc::clone(&self.log_places);
                let id = request.id;
                let answer = tokio::spawn(async move {
                    let _place = places.acquire().await;
                    logs::answer(link, store, request, over).await;
                });
                self.logs.insert(id, answer.abort_handle());
            }
            Action::StopLog(id) => {
                if let Some(answer) = self.logs.remove(&id) {
                    answer.abort();
                }
            }
            Action::Report => self.news = true,
            Action::Ignored(edition, Ignored::StaleServer) => {
                tracing::warn!(
                    epoch = edition.epoch,
                    seen = self.core.seen().epoch,
                    "orders of a server that was replaced are ignored"
                );
            }
            Action::Ignored(edition, Ignored::TooLate) => {
                tracing::warn!(version = edition.version, "orders came when their lease was over; they are ignored");
            }
        }
    }

    fn new_task(&mut self, id: TaskId, spec: Arc<TaskSpec>) -> (Task, mpsc::UnboundedReceiver<Order>) {
        let (orders, ordered) = mpsc::unbounded_channel();
        self.tasks.insert(id, Alive { orders, over: watch::channel(false).0 });
        let task = Task {
            id,
            spec,
            node: Arc::clone(&self.node),
            lease_until_ms: self.lease_until_ms.subscribe(),
            inputs: self.inputs.0.clone(),
        };
        (task, ordered)
    }

    fn tell(&self, id: TaskId, order: Order) {
        if let Some(task) = self.tasks.get(&id) {
            // One that has just ended needs no more orders.
            let _ = task.orders.send(order);
        }
    }

    fn forget(&mut self, id: TaskId) {
        self.tasks.remove(&id);
        let store = Arc::clone(&self.node.store);
        tokio::task::spawn_blocking(move || {
            // A task that was refused at once has no folder.
            if store.task(id).exists()
                && let Err(error) = store.forget(id)
            {
                tracing::warn!(task = %id, %error, "what is left of a task cannot be removed");
            }
        });
    }

    /// When the next report is due; none while enough are under way.
    fn next_exchange(&self) -> Option<Instant> {
        if self.news && self.exchanges.len() < EXCHANGES {
            return Some(self.not_before);
        }
        self.exchanges.is_empty().then(|| self.not_before.max(self.quiet_until))
    }

    /// Sends a report, if one is due.
    fn exchange(&mut self) {
        if self.next_exchange().is_none_or(|at| Instant::now() < at) {
            return;
        }
        let mut report = self.core.report();
        // A server that has just been asked for the first time tells its lease at once.
        report.wait_ms = if report.leaves { 0 } else { self.core.longest_wait_ms().min(LONGEST_WAIT_MS) };
        report.condition = self.condition.clone();
        let wait = Duration::from_millis(u64::from(report.wait_ms));
        let limit = wait + if wait.is_zero() { ANSWER_LIMIT.1 } else { wait.clamp(ANSWER_LIMIT.0, ANSWER_LIMIT.1) };
        self.news = false;
        self.exchange_number += 1;
        let number = self.exchange_number;
        let (link, answers) = (Arc::clone(&self.link), self.answers.0.clone());
        let exchange = tokio::spawn(async move {
            let body = serde_json::to_vec(&report).expect("a report can be written");
            let asked_at_ms = boot_now_ms();
            let orders = link.post("/v1/agents/exchange", &body, limit).await.and_then(|answer| {
                serde_json::from_slice(&answer).map_err(|error| LinkError::Answer(error.to_string()))
            });
            let _ = answers.send(Answered { number, asked_at_ms, orders });
        });
        self.exchanges.insert(number, exchange.abort_handle());
    }

    /// Takes in what came of an exchange; tells whether the server has answered.
    fn answered(&mut self, answered: Answered) -> bool {
        if self.exchanges.remove(&answered.number).is_none() {
            return false;
        }
        match answered.orders {
            Ok(orders) => {
                self.wait = AGAIN.0;
                let seen = self.core.seen();
                self.handle(Input::Orders { orders, asked_at_ms: answered.asked_at_ms });
                self.remember_server();
                let waited_ms = boot_now_ms().saturating_sub(answered.asked_at_ms);
                let at_once = waited_ms < u64::from(self.core.longest_wait_ms().min(LONGEST_WAIT_MS)) / 2;
                // A server that does not wait and has no news is not asked all the time.
                let idle = self.core.seen() == seen && !self.news && self.exchanges.is_empty();
                if idle && at_once {
                    self.quiet_until = Instant::now() + AGAIN.0;
                }
                true
            }
            Err(error) => {
                // What it told may not have come.
                self.news = true;
                tracing::warn!(%error, "the server does not answer a report");
                self.not_before = Instant::now() + self.wait.mul_f64(0.5 + random_share() / 2.0);
                self.wait = (self.wait * 2).min(AGAIN.1);
                false
            }
        }
    }

    fn remember_server(&mut self) {
        let epoch = self.core.seen().epoch;
        if epoch == self.epoch {
            return;
        }
        match self.node.store.write_seen(epoch) {
            Ok(()) => self.epoch = epoch,
            Err(error) => tracing::warn!(%error, "the server's epoch cannot be written down"),
        }
    }
}

/// A future that ends with its owner.
struct Watching(JoinHandle<()>);

impl Drop for Watching {
    fn drop(&mut self) {
        self.0.abort();
    }
}

fn random_number() -> u64 {
    let mut bytes = [0; 8];
    aws_lc_rs::rand::fill(&mut bytes).expect("the system gives random numbers");
    u64::from_le_bytes(bytes)
}

/// From 0 to 1.
fn random_share() -> f64 {
    (random_number() >> 11) as f64 / (1_u64 << 53) as f64
}
