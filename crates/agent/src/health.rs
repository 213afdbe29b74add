//! What the node measures and finds, from time to time: power, load, memory, and whether it is fit for work.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use offtake_protocol::agent::Condition;
use tokio::sync::watch;
use tokio::time::{Instant, MissedTickBehavior, interval};

use crate::discover::{meminfo_kib, word};
use crate::environment::DEFAULT_PATH;
use crate::hooks::run_hook;
use crate::node::Node;
use crate::power::{SAMPLE_INTERVAL, ipmi_power_mw};
use crate::supervisor::boot_now_ms;

const IPMITOOL: &str = "/usr/bin/ipmitool";

/// Whether the board's controller can be asked for the node's power.
pub(crate) fn has_ipmi() -> bool {
    Path::new(IPMITOOL).exists()
        && ["/dev/ipmi0", "/dev/ipmi/0", "/dev/ipmidev/0"].iter().any(|device| Path::new(device).exists())
}

/// Looks at the node for as long as the agent runs.
pub(crate) async fn watch(node: Arc<Node>, conditions: watch::Sender<Condition>) {
    let mut sample = interval(SAMPLE_INTERVAL);
    sample.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut check = interval(node.configuration.health_interval);
    check.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut unhealthy = node.unhealthy.subscribe();
    let mut asks_ipmi = has_ipmi() && !node.meters().has_node_sensor();
    loop {
        tokio::select! {
            _ = sample.tick() => {
                let node_mw = if asks_ipmi { ipmi_power_mw(Path::new(IPMITOOL)).await } else { None };
                // A controller that does not tell is not asked again and again.
                asks_ipmi &= node_mw.is_some();
                let measured = measure(Arc::clone(&node), node_mw).await;
                conditions.send_modify(|condition| *condition = Condition { unhealthy: condition.unhealthy.clone(), ..measured });
            }
            _ = check.tick(), if node.configuration.health_check.is_some() => {
                if let Some(reason) = failure(&node).await {
                    node.unhealthy.send_replace(reason);
                }
            }
            changed = unhealthy.changed() => match changed {
                Ok(()) => {
                    let reason = unhealthy.borrow_and_update().clone();
                    conditions.send_modify(|condition| condition.unhealthy = reason);
                }
                Err(_) => return,
            },
        }
    }
}

/// Runs the health check. None where there is none; otherwise why the node is not fit, if it is not.
async fn failure(node: &Node) -> Option<Option<String>> {
    let check = node.configuration.health_check.as_ref()?;
    let environment =
        BTreeMap::from([("PATH".to_owned(), DEFAULT_PATH.to_owned()), ("OFFTAKE_NODE".to_owned(), node.name.clone())]);
    let started = Instant::now();
    let outcome = run_hook(check, &environment, node.configuration.hook_limit).await;
    tracing::debug!(elapsed = ?started.elapsed(), ?outcome, "health check");
    Some(outcome.err())
}

async fn measure(node: Arc<Node>, node_mw: Option<u64>) -> Condition {
    // NVML and sensors behind slow buses take their time, and a broken chip may hold a reading for ever: then there are
    // no new ones.
    let reading = tokio::task::spawn_blocking(move || {
        let mut meters = node.meters.try_lock().ok()?;
        meters.sample(node_mw, boot_now_ms());
        meters.power()
    });
    let power = tokio::time::timeout(SAMPLE_INTERVAL, reading).await.ok().and_then(Result::ok).flatten();
    let proc = Path::new("/proc");
    let load = word(&proc.join("loadavg")).and_then(|line| line.split(' ').next()?.parse::<f64>().ok());
    Condition {
        unhealthy: None,
        power_mw: power.map(|(power_mw, _)| power_mw),
        power_source: power.map(|(_, source)| source),
        load_milli: load.map(|load| (load * 1000.0) as u32),
        free_memory_mib: meminfo_kib(proc, "MemAvailable").map(|kib| kib / 1024),
    }
}
