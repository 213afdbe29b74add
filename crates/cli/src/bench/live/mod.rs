//! `offtake bench submit|lifecycle|agents|obey|backlog|restart`: the live control plane measured, against a server of its own in a
//! folder that is removed afterwards. Server and load are two processes, so both share the machine's cores; ratios
//! between runs on one machine are what counts.

pub mod agents;
pub mod backlog;
pub mod lifecycle;
pub mod obey;
pub mod restart;
mod simulated;
pub mod submit;

use std::fs;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::Context;
use offtake_client::{Client, Server, Trust};
use offtake_protocol::rest::Health;

/// How long a server may take until it answers.
const START_TIMEOUT: Duration = Duration::from_secs(60);

/// A server for a measurement.
pub struct Bed {
    child: Child,
    folder: PathBuf,
    /// From its start until it was ready.
    pub ready: Duration,
}

impl Bed {
    /// Starts a server in a new folder, with a fleet whose nodes it waits for.
    pub async fn start(fleet: &str, more: &[&str]) -> anyhow::Result<Self> {
        let folder = std::env::temp_dir().join(format!("offtake-bench-{}", std::process::id()));
        fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
        fs::write(folder.join("fleet.toml"), fleet)?;
        Self::start_in(folder, more).await
    }

    /// Starts a server on a folder that is there.
    pub async fn start_in(folder: PathBuf, more: &[&str]) -> anyhow::Result<Self> {
        let begin = Instant::now();
        let log = fs::OpenOptions::new().create(true).append(true).mode(0o600).open(folder.join("server.log"))?;
        let child = Command::new(std::env::current_exe()?)
            .args(["up", "--no-agent", "--listen", "127.0.0.1:0", "--most-requests", "100000000"])
            .arg("--data")
            .arg(folder.join("data"))
            .arg("--socket")
            .arg(folder.join("socket"))
            .arg("--fleet")
            .arg(folder.join("fleet.toml"))
            .args(more)
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()?;
        let mut bed = Self { child, folder, ready: Duration::ZERO };
        let client = bed.client()?;
        loop {
            if client.get::<Health>("/v1/health").await.is_ok_and(|health| health.status == "ready") {
                break;
            }
            if let Some(status) = bed.child.try_wait()? {
                let log = fs::read_to_string(bed.folder.join("server.log")).unwrap_or_default();
                anyhow::bail!("the server ended with {status}:\n{log}");
            }
            if begin.elapsed() > START_TIMEOUT {
                anyhow::bail!("the server was not ready within {} s", START_TIMEOUT.as_secs());
            }
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        bed.ready = begin.elapsed();
        Ok(bed)
    }

    /// A client with a connection of its own.
    pub fn client(&self) -> anyhow::Result<Client> {
        let url = format!("unix:{}", self.folder.join("socket").display());
        Ok(Client::new(Server { url, token: None, trust: Trust::System })?)
    }

    /// The folder that all is in.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Processor seconds that the server has used.
    pub fn cpu_seconds(&self) -> f64 {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.child.id())).unwrap_or_default();
        // After the name in brackets come state, …: user and system time are the 12th and 13th, in ticks of 10 ms.
        let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
        let ticks = |at: usize| fields.get(at).and_then(|field| field.parse::<f64>().ok()).unwrap_or(0.0);
        (ticks(11) + ticks(12)) / 100.0
    }

    /// The most memory that the server has used, in MiB.
    pub fn peak_memory_mib(&self) -> f64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap_or_default();
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let kib = line.and_then(|line| line.split_whitespace().next()?.parse::<f64>().ok());
        kib.unwrap_or(0.0) / 1024.0
    }

    /// Stops the server without any warning, and leaves its folder.
    pub fn kill(mut self) -> PathBuf {
        // It may have ended already.
        self.child.kill().ok();
        self.child.wait().ok();
        std::mem::take(&mut self.folder)
    }
}

impl Drop for Bed {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
        if !self.folder.as_os_str().is_empty() {
            fs::remove_dir_all(&self.folder).ok();
        }
    }
}

/// Cores of a host, each with room for one worker.
const CORES: u32 = 64;

/// A fleet of equal hosts.
fn hosts(nodes: u32) -> String {
    format!(
        "name = \"bench\"\nlevels = [\"site\"]\n\n[node_kinds.host]\ncpu_cores = {CORES}\nmemory_gib = 256\nbase_watts = 300\n\n\
         [sites.bench]\npue = 1.2\nnodes = {{ host = {nodes} }}\n"
    )
}

/// The name of a node of that fleet.
pub fn node_name(number: u32) -> String {
    format!("bench/n{number}")
}

/// Figures of a distribution, in milliseconds.
#[derive(serde::Serialize)]
pub struct Spread {
    /// Half are below.
    pub p50: f64,
    /// Of a hundred 99 are below.
    pub p99: f64,
    /// All are at most.
    pub max: f64,
}

impl Spread {
    /// Of durations.
    pub fn of(mut taken: Vec<Duration>) -> Self {
        taken.sort_unstable();
        let at = |share: f64| {
            let place = ((taken.len() as f64 * share) as usize).min(taken.len().saturating_sub(1));
            taken.get(place).map_or(0.0, |time| time.as_secs_f64() * 1e3)
        };
        Self { p50: at(0.5), p99: at(0.99), max: at(1.0) }
    }
}

/// Writes a line to standard error, at once.
pub fn say(text: &str) {
    // Nobody to tell is no reason to stop.
    writeln!(std::io::stderr(), "{text}").ok();
}

/// Runs a measurement with as many threads as there are cores.
fn on_all_cores<T>(measurement: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
    tokio::runtime::Builder::new_multi_thread().enable_all().build()?.block_on(measurement)
}
