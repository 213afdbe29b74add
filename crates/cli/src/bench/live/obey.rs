//! `offtake bench obey`: from a grid event without notice until every agent draws less, one slow and one that is cut off
//! among them.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use clap::Args;
use offtake_agent::{Action, Input};
use offtake_client::{Client, Method};
use offtake_protocol::agent::{ChipLimits, Limited};
use offtake_protocol::rest::{GridEvent, GridEventView, SubmittedBatch};
use serde::Serialize;

use super::simulated::{Agent, ended, identity, unix_ms};
use super::{Bed, CORES, Spread, node_name, say};

use crate::terminal::{grouped, print, print_json, table};

/// The command's arguments.
#[derive(Args)]
pub struct Arguments {
    /// Simulated agents, each with eight chips at work
    #[arg(long, value_name = "N", default_value_t = 1_000, value_parser = clap::value_parser!(u32).range(200..))]
    count: u32,
    /// Grid events, one after the other
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..100))]
    rounds: u32,
    /// How much later than the others the slow agent does what it is told, in seconds
    #[arg(long, value_name = "S", default_value_t = 2)]
    slow: u64,
    /// How long orders hold: work on a node that is cut off ends after two thirds of that
    #[arg(long, value_name = "TIME", default_value = "12s")]
    lease: offtake_units::Duration,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Report {
    agents: u32,
    rounds: u32,
    /// From the signal until an agent has obeyed: that which is cut off obeys when its orders are over.
    obeyed_ms: Spread,
    /// The slowest of those that are not cut off.
    living_ms: f64,
    /// Draw of the site once the event had begun, over what it allowed: the most of all rounds, in watts.
    over_w: i64,
    allowed_w: i64,
    server_cpu_s: f64,
}

/// Chips of a node.
const CHIPS: u16 = 8;
/// Draw of a chip without work, at work, and at the lowest power level; and of a host, in watts.
const IDLE: i64 = 100;
const WORK: i64 = 600;
const PEAK: i64 = 700;
const LOW: i64 = 420;
const HOST: i64 = 1_000;
/// What an event without notice has to be met by.
const COMPLY: Duration = Duration::from_secs(10);
/// How long anything may take before the measurement is given up.
const PATIENCE: Duration = Duration::from_secs(120);

/// Measures.
///
/// # Errors
/// When the server cannot be started, or something does not come to pass.
pub fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let report = super::on_all_cores(measure(arguments))?;
    if arguments.json {
        return print_json(&report);
    }
    let row = vec![
        grouped(u64::from(report.agents)),
        report.rounds.to_string(),
        format!("{:.0}", report.obeyed_ms.p50),
        format!("{:.0}", report.obeyed_ms.p99),
        format!("{:.0}", report.living_ms),
        format!("{:.0}", report.obeyed_ms.max),
        grouped(report.allowed_w.unsigned_abs()),
        report.over_w.to_string(),
        format!("{:.1}", report.server_cpu_s),
    ];
    let heads =
        ["agents", "events", "p50 ms", "p99 ms", "slow ms", "cut off ms", "allowed W", "over W", "server CPU s"];
    print(&table(&heads, &[row]))
}

fn fleet(nodes: u32) -> String {
    let full = i64::from(nodes) * (HOST + i64::from(CHIPS) * WORK);
    let level = LOW as f64 / PEAK as f64;
    format!(
        r#"name = "bench"
levels = ["site"]

[accelerators.chip]
idle_watts = {IDLE}
operating_watts = {WORK}
peak_watts = {PEAK}
power_levels = [{{ name = "low", power = {level}, speed = 0.85, basis = "assumed", source = "for a measurement" }}]

[node_kinds.node]
accelerator = "chip"
chips = {CHIPS}
cpu_cores = {CORES}
memory_gib = 256
base_watts = {HOST}

[sites.bench]
pue = 1.0
nodes = {{ node = {nodes} }}

[caps.grid]
on = "bench"
watts = {full}
meter = "it"
kind = "contract"
"#
    )
}

/// What is known of an agent from outside.
#[derive(Debug, Default)]
struct Watched {
    runs: AtomicBool,
    is_limited: AtomicBool,
    cut_off: AtomicBool,
    is_slow: AtomicBool,
    /// When it first drew less since the last signal.
    obeyed: Mutex<Option<Instant>>,
}

impl Watched {
    fn obeys(&self) {
        self.obeyed().get_or_insert_with(Instant::now);
    }

    fn obeyed(&self) -> std::sync::MutexGuard<'_, Option<Instant>> {
        self.obeyed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What its node really draws, in watts.
    fn draws(&self) -> i64 {
        let chip = match (self.runs.load(Ordering::Relaxed), self.is_limited.load(Ordering::Relaxed)) {
            (false, _) => IDLE,
            (true, true) => LOW,
            (true, false) => WORK,
        };
        HOST + i64::from(CHIPS) * chip
    }
}

/// Reports and does what it is told, for ever; its workers run until they are stopped.
async fn serve(mut agent: Agent, watched: Arc<Watched>, slow: Duration) {
    agent.core.handle(Input::CanLimit { set: ChipLimits::new(), fallback: None }, agent.now_ms(), &mut Vec::new());
    let mut news = true;
    loop {
        if watched.cut_off.load(Ordering::Relaxed) {
            // Its orders run out, and it ends what it has.
            news |= act(&mut agent, Input::Tick, &watched);
            tokio::time::sleep(Duration::from_millis(20)).await;
            continue;
        }
        let mut report = agent.core.report();
        report.wait_ms = if news { 0 } else { agent.core.longest_wait_ms() };
        let asked_at_ms = agent.now_ms();
        match agent.exchange(&report).await {
            Ok(_) if watched.cut_off.load(Ordering::Relaxed) => news = true,
            Ok(orders) => {
                if watched.is_slow.load(Ordering::Relaxed) {
                    tokio::time::sleep(slow).await;
                }
                news = act(&mut agent, Input::Orders { orders, asked_at_ms }, &watched);
            }
            Err(_) => tokio::time::sleep(Duration::from_millis(200)).await,
        }
    }
}

/// Tells whether there is something to report.
fn act(agent: &mut Agent, input: Input, watched: &Watched) -> bool {
    let (mut inputs, mut actions, mut news) = (vec![input], Vec::new(), false);
    while let Some(input) = inputs.pop() {
        let now_ms = agent.now_ms();
        agent.core.handle(input, now_ms, &mut actions);
        for action in actions.drain(..) {
            match action {
                Action::Prepare(task, _) => inputs.push(Input::Prepared(task)),
                Action::Run(task) => {
                    watched.runs.store(true, Ordering::Relaxed);
                    inputs.push(Input::Running { task, since_ms: unix_ms() });
                }
                Action::Stop(task, _) | Action::Kill(task) => {
                    watched.runs.store(false, Ordering::Relaxed);
                    watched.obeys();
                    // Its only worker.
                    inputs.push(Input::Ended(task, ended(&[0])));
                }
                Action::Pause(task, paused) => inputs.push(Input::Paused { task, paused }),
                Action::Limit(set) => {
                    watched.is_limited.store(!set.is_empty(), Ordering::Relaxed);
                    if !set.is_empty() {
                        watched.obeys();
                    }
                    inputs.push(Input::Limited(Limited { set, failed: None }));
                }
                Action::Report => news = true,
                _ => {}
            }
        }
    }
    news
}

async fn measure(arguments: &Arguments) -> anyhow::Result<Report> {
    let bed = Bed::start(&fleet(arguments.count), &["--lease", &format!("{}ms", arguments.lease.as_millis())]).await?;
    let key = identity(bed.folder())?;
    let client = bed.client()?;
    let slow = Duration::from_secs(arguments.slow);
    let mut all = Vec::new();
    for number in 0..arguments.count {
        let chips = Some(("chip", CHIPS));
        let agent = Agent::join(bed.client()?, Arc::clone(&key), number, node_name(number), chips).await?;
        let watched = Arc::new(Watched::default());
        tokio::spawn(serve(agent, Arc::clone(&watched), slow));
        all.push(watched);
    }
    submit(&client, arguments.count).await?;
    let allowed = i64::from(arguments.count) * (HOST + i64::from(CHIPS) * LOW);
    let (mut taken, mut living, mut over) = (Vec::new(), Duration::ZERO, i64::MIN);
    for round in 0..arguments.rounds {
        until("all work runs at full power", || {
            all.iter().all(|agent| agent.draws() == HOST + i64::from(CHIPS) * WORK)
        })
        .await?;
        let (cut_off, slow) = (round as usize, all.len() - 1 - round as usize);
        all[slow].is_slow.store(true, Ordering::Relaxed);
        all[cut_off].cut_off.store(true, Ordering::Relaxed);
        all.iter().for_each(|agent| *agent.obeyed() = None);
        let begin = Instant::now();
        let path = format!("/v1/grid/events/round-{round}");
        let hold = offtake_units::Duration::from_secs(3600);
        let watts = u64::try_from(allowed).ok();
        let event = GridEvent { cap: "grid".to_owned(), watts, cut_ppm: None, at: None, hold };
        let put = client.request(Method::PUT, &path).header("content-type", "application/json");
        let put = put.body(serde_json::to_vec(&event)?);
        let _: GridEventView = client.read(client.send(put).await?).await?;
        tokio::time::sleep(COMPLY.saturating_sub(begin.elapsed())).await;
        over = over.max(all.iter().map(|agent| agent.draws()).sum::<i64>() - allowed);
        // Nothing is built for a while on those that failed before: others give way for them.
        let asked = &all[cut_off..=slow];
        until("all agents have obeyed", || asked.iter().all(|agent| agent.obeyed().is_some())).await?;
        let after = |agent: &Arc<Watched>| agent.obeyed().map(|at| at.saturating_duration_since(begin));
        taken.extend(asked.iter().filter_map(after));
        living = asked[1..].iter().filter_map(after).fold(living, Duration::max);
        say(&format!("event {} of {} is met", round + 1, arguments.rounds));
        all[slow].is_slow.store(false, Ordering::Relaxed);
        all[cut_off].cut_off.store(false, Ordering::Relaxed);
        client.delete(&path).await?;
    }
    Ok(Report {
        agents: arguments.count,
        rounds: arguments.rounds,
        obeyed_ms: Spread::of(taken),
        living_ms: living.as_secs_f64() * 1e3,
        over_w: over,
        allowed_w: allowed,
        server_cpu_s: bed.cpu_seconds(),
    })
}

/// A job that fills a node, for each of them.
async fn submit(client: &Client, count: u32) -> anyhow::Result<()> {
    let job = format!(
        r#"{{"tier":"standard","requeue":true,"command":["train"],"gangs":[{{"workers":1,"chips":{CHIPS}}}]}}"#
    );
    let body = format!("{{\"jobs\":[{}]}}", vec![job; count as usize].join(","));
    let request = client.request(Method::POST, "/v1/jobs/batch").header("content-type", "application/json").body(body);
    let response = client.send(request).await?;
    client.read::<SubmittedBatch>(response).await?;
    Ok(())
}

async fn until(what: &str, holds: impl Fn() -> bool) -> anyhow::Result<()> {
    let begin = Instant::now();
    while !holds() {
        if begin.elapsed() > PATIENCE {
            anyhow::bail!("for {} s it did not come to pass that {what}", PATIENCE.as_secs());
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    Ok(())
}
