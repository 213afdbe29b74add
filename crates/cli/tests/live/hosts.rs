//! Several hosts on one machine: each in a network namespace of its own, joined by a bridge that can be cut.
//!
//! The files are shared, as a cluster's are. Needs root and iproute2.

use std::process::Command;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::json;

use crate::host::{BINARY, Host, Ran, Server, eventually, is_root, repository, within};
use crate::training::Training;

/// The lease: what an isolated agent may go on for, and what the server waits.
const LEASE: Duration = Duration::from_secs(3);

/// A server's network and those of its nodes.
struct Network {
    /// Before all names, so that tests do not meet.
    prefix: String,
    nodes: usize,
}

impl Network {
    fn new(nodes: usize) -> Self {
        let network = Self { prefix: format!("ot{}", std::process::id()), nodes };
        let server = network.server();
        ip(&format!("netns add {server}"));
        ip(&format!("-n {server} link set lo up"));
        ip(&format!("-n {server} link add hub type bridge"));
        ip(&format!("-n {server} addr add 10.77.0.1/24 dev hub"));
        ip(&format!("-n {server} link set hub up"));
        for node in 0..nodes {
            let (name, address) = (network.node(node), Self::address(node));
            ip(&format!("netns add {name}"));
            ip(&format!("-n {server} link add port{node} type veth peer name eth0 netns {name}"));
            ip(&format!("-n {server} link set port{node} master hub up"));
            ip(&format!("-n {name} addr add {address}/24 dev eth0"));
            ip(&format!("-n {name} link set eth0 up"));
            ip(&format!("-n {name} link set lo up"));
        }
        network
    }

    fn server(&self) -> String {
        format!("{}s", self.prefix)
    }

    fn node(&self, node: usize) -> String {
        format!("{}n{node}", self.prefix)
    }

    fn address(node: usize) -> String {
        format!("10.77.0.{}", node + 11)
    }

    /// Cuts a node off from everyone, or joins it again.
    fn set_link(&self, node: usize, up: bool) {
        ip(&format!("-n {} link set port{node} {}", self.server(), if up { "up" } else { "down" }));
    }

    /// A command inside a network. The file systems stay as they are, unlike with `ip netns exec`.
    fn inside(&self, host: &Host, network: &str) -> Command {
        host.command("nsenter", &[&format!("--net=/var/run/netns/{network}"), BINARY])
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        let nodes = (0..self.nodes).map(|node| self.node(node));
        for name in nodes.chain([self.server()]) {
            let _ = Command::new("ip").args(["netns", "delete", &name]).output();
        }
    }
}

#[track_caller]
fn ip(words: &str) {
    let output = Command::new("ip").args(words.split(' ')).output().expect("iproute2 is there");
    assert!(output.status.success(), "ip {words}: {}", String::from_utf8_lossy(&output.stderr));
}

/// Starts the agent of a node, which joins over the network with what the operator hands it.
fn start_agent(host: &Host, network: &Network, server: &Server<'_>, node: usize) {
    let token = host.offtake("token join").succeeds().stdout;
    let url = server.up["url"].as_str().expect("it listens");
    let data = host.path(&format!("agent{node}"));
    let mut command = network.inside(host, &network.node(node));
    command.args(["agent", "--server", url, "--join", token.trim(), "--name", &format!("n{node}")]);
    command.args(["--address", &Network::address(node), "--cpus", "1", "--data"]).arg(&data);
    let log = std::fs::File::create(host.path(&format!("agent{node}.log"))).expect("the folder can be written");
    host.start(command.stderr(log));
}

fn now_ms() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |now| i64::try_from(now.as_millis()).unwrap_or(i64::MAX))
}

#[test]
fn a_partition_moves_a_gang_and_never_makes_two_writers() {
    if !is_root() || Command::new("ip").arg("-V").output().is_err() {
        println!("left out: networks of their own need root and iproute2");
        return;
    }
    let host = Host::new("hosts");
    let network = Network::new(4);
    let lease = format!("--lease {}s", LEASE.as_secs());
    let server = host
        .up_by(&mut network.inside(&host, &network.server()), &format!("--no-agent --listen 10.77.0.1:7433 {lease}"));
    assert!(server.up["fingerprint"].as_str().is_some(), "what others reach is encrypted: {:#}", server.up);
    for node in 0..4 {
        start_agent(&host, &network, &server, node);
    }
    eventually("four nodes have joined", || {
        let nodes = host.offtake("nodes --json").succeeds().json();
        (nodes.as_array()?.iter().filter(|node| node["state"] == "idle").count() == 4).then_some(())
    });

    let training = Training { host: &host, folder: "checkpoints", steps: 400 };
    let job = json!({
        "name": "train", "command": training.command(), "directory": host.path("work"), "restarts": 2,
        "checkpoint_signal": "USR1", "checkpoint_grace": "5s", "grace": "2s",
        "gangs": [{ "workers": 3, "per_node": 1, "cpu_milli": 1000 }],
    });
    host.write("train.toml", toml::to_string(&job).expect("a job can be written as TOML"));
    let id = host.submit("train.toml");
    eventually("it trains", || (training.losses().len() >= 20).then_some(()));
    let workers = training.workers();
    assert_eq!(workers.len(), 3, "{workers:?}");
    let first = workers.iter().find(|worker| worker.variable("RANK") == Some("0")).expect("somebody writes");
    let name = first.variable("SLURMD_NODENAME").expect("a worker knows its node").to_owned();
    let node: usize = name.trim_start_matches('n').parse().expect("nodes are numbered");
    assert_eq!(first.variable("MASTER_ADDR"), Some(Network::address(node).as_str()));

    // The writer's node is cut off. It ends its work by itself, before anybody else may begin.
    network.set_link(node, false);
    let cut = now_ms();
    let ended = within(LEASE * 3, "the isolated node has ended its work", || {
        let lives = training.workers().iter().any(|worker| worker.variable("SLURMD_NODENAME") == Some(&name));
        (!lives).then(now_ms)
    });
    let moved = eventually("it runs elsewhere", || {
        let job = host.job(id);
        (job["job"]["attempts"] == 2 && job["job"]["state"] == "running").then_some(job)
    });
    let placed = moved["attempts"][1]["placed_ms"].as_i64().expect("it was placed");
    assert!(ended <= placed, "the old writer ended {} ms after the new one was placed", ended - placed);
    assert!(placed - cut >= LEASE.as_millis() as i64 / 2, "the server waits for the lease: {} ms", placed - cut);
    let nodes: Vec<_> =
        moved["job"]["nodes"].as_array().expect("a list").iter().filter_map(|node| node.as_str()).collect();
    assert!(nodes.len() == 3 && !nodes.contains(&name.as_str()), "{nodes:?}");
    let stands = |name: &str| {
        let nodes = host.offtake("nodes --json").succeeds().json();
        let node = nodes.as_array().and_then(|nodes| nodes.iter().find(|node| node["name"] == name).cloned());
        node.expect("a node stays known")["state"].as_str().unwrap_or_default().to_owned()
    };
    assert_eq!(stands(&name), "down");

    // It heals: the node takes work again, and what it had is over.
    network.set_link(node, true);
    eventually("the node is back", || (stands(&name) == "idle").then_some(()));
    let job = host.awaits(id, &["finished", "failed"]);
    let output: String =
        (1..=2).map(|attempt| host.offtake(&format!("logs {id} --attempt {attempt}")).stdout).collect();
    assert_eq!((&job["job"]["state"], &job["job"]["attempts"]), (&json!("finished"), &json!(2)), "{job:#}\n{output}");
    training.ended_right(&output);
    println!("ended {} ms after the cut, placed elsewhere {} ms after it", ended - cut, placed - cut);
}

/// The example is a test too: it kills the server and a node, cuts the writer off, and holds the losses and the writers
/// against each other itself.
#[test]
fn an_ugly_day_ends_well() {
    if !is_root() || Command::new("ip").arg("-V").output().is_err() {
        println!("left out: networks of their own need root and iproute2");
        return;
    }
    let host = Host::new("ugly-day");
    let example = repository().join("examples/ugly-day/run").display().to_string();
    let mut command = host.command("python3", &[&example, "--offtake", BINARY]);
    let ran = Ran::of(command.env("TMPDIR", host.path("home"))).succeeds();
    assert!(ran.stdout.contains("200 steps, none missing and none twice (loss.csv); 3 writers"), "{}", ran.stdout);
    assert!(ran.stdout.contains("goodput") && ran.stdout.contains("energy"), "{}", ran.stdout);
    assert_eq!(host.text("loss.csv").lines().count(), 200);
    assert!(host.processes().is_empty(), "it leaves nothing behind: {:?}", host.processes());
}
