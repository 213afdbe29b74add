//! What a seed makes of a world: its nodes, how ill its network, disk, clocks and machines are, and for how long.

use offtake_workload::rng::Rng;

/// The constants of one world.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Until when people ask for things and things break. From then on all heals.
    pub active_ms: u64,
    pub lease_ms: u64,
    pub prepare_timeout_ms: u64,
    /// Whether anything ever breaks.
    pub faults: bool,
    /// Per mille of messages that are lost, come twice, or come late.
    pub lost: u64,
    pub doubled: u64,
    pub late: u64,
    pub nodes: Vec<NodePlan>,
    /// Mean time between two things that people ask for.
    pub between_asks_ms: u64,
    pub most_jobs: u64,
    /// Whether weaker work is stopped for stronger work.
    pub preempts: bool,
}

#[derive(Clone, Debug)]
pub struct NodePlan {
    pub name: String,
    pub cpus: u32,
    pub chips: u16,
    pub joins_at_ms: u64,
    /// Per mille of the preparations that are refused by its fault.
    pub refuses: u64,
}

/// Something that breaks, or heals.
#[derive(Clone, Copy, Debug)]
pub enum Fault {
    ServerDies { for_ms: u64 },
    DiskFails { for_ms: u64 },
    Cut { node: usize, for_ms: u64 },
    AgentDies { node: usize, for_ms: u64 },
    AgentLeaves { node: usize },
    PowerLost { node: usize, for_ms: u64, wiped: bool },
    SupervisorDies { node: usize },
    Unhealthy { node: usize, for_ms: u64 },
}

/// One of `from..to`.
pub fn between(rng: &mut Rng, from: u64, to: u64) -> u64 {
    from + rng.below(to - from)
}

/// True so many times in a thousand.
pub fn in_1000(rng: &mut Rng, times: u64) -> bool {
    rng.below(1000) < times
}

impl Plan {
    pub fn new(rng: &Rng) -> Self {
        let preempts = in_1000(&mut rng.derive("preempts"), 400);
        let mut rng = rng.derive("plan");
        let faults = !in_1000(&mut rng, 100);
        let ill = |rng: &mut Rng, most: u64| if faults && in_1000(rng, 700) { rng.below(most) } else { 0 };
        let active_ms = between(&mut rng, 20_000, 90_000);
        let count = between(&mut rng, 1, 5);
        // All nodes have chips, or none: gangs are not spread over nodes with and without, though they are admitted.
        let has_chips = in_1000(&mut rng, 700);
        let alike = in_1000(&mut rng, 300).then(|| (between(&mut rng, 2, 7) as u32, between(&mut rng, 1, 3) as u16));
        let nodes = (0..count).map(|at| NodePlan {
            name: format!("n{at}"),
            cpus: alike.map_or_else(|| between(&mut rng, 2, 7) as u32, |(cpus, _)| cpus),
            chips: match alike {
                _ if !has_chips => 0,
                Some((_, chips)) => chips,
                None => between(&mut rng, 1, 5) as u16,
            },
            joins_at_ms: if at == 0 || in_1000(&mut rng, 700) { rng.below(500) } else { rng.below(active_ms / 2) },
            refuses: ill(&mut rng, 150),
        });
        let nodes = nodes.collect();
        Self {
            active_ms,
            lease_ms: between(&mut rng, 6_000, 12_000),
            prepare_timeout_ms: between(&mut rng, 4_000, 12_000),
            faults,
            lost: ill(&mut rng, 100),
            doubled: ill(&mut rng, 100),
            late: ill(&mut rng, 50),
            nodes,
            between_asks_ms: between(&mut rng, 500, 6_000),
            most_jobs: between(&mut rng, 10, 80),
            preempts,
        }
    }

    /// What breaks, and when.
    pub fn faults(&self, rng: &Rng) -> Vec<(u64, Fault)> {
        let mut rng = rng.derive("faults");
        let mut all = Vec::new();
        if !self.faults {
            return all;
        }
        let lease = self.lease_ms;
        let mut add = |rng: &mut Rng, most: u64, make: &mut dyn FnMut(&mut Rng) -> Fault| {
            for _ in 0..rng.below(most + 1) {
                let at = rng.below(self.active_ms);
                all.push((at, make(rng)));
            }
        };
        add(&mut rng, 3, &mut |rng| Fault::ServerDies { for_ms: short_or_long(rng, lease) });
        add(&mut rng, 1, &mut |rng| Fault::DiskFails { for_ms: short_or_long(rng, lease) });
        for node in 0..self.nodes.len() {
            add(&mut rng, 2, &mut |rng| Fault::Cut { node, for_ms: short_or_long(rng, lease) });
            add(&mut rng, 2, &mut |rng| Fault::AgentDies { node, for_ms: short_or_long(rng, lease) });
            add(&mut rng, 1, &mut |_| Fault::SupervisorDies { node });
            add(&mut rng, 1, &mut |rng| Fault::PowerLost {
                node,
                for_ms: short_or_long(rng, lease),
                wiped: in_1000(rng, 200),
            });
            if in_1000(&mut rng, 300) {
                add(&mut rng, 1, &mut |rng| Fault::Unhealthy { node, for_ms: short_or_long(rng, lease) });
                add(&mut rng, 1, &mut |_| Fault::AgentLeaves { node });
            }
        }
        all
    }
}

/// A time below, about, or above a lease.
fn short_or_long(rng: &mut Rng, lease_ms: u64) -> u64 {
    match rng.below(3) {
        0 => rng.below(300),
        1 => rng.below(lease_ms),
        _ => lease_ms / 2 + rng.below(2 * lease_ms),
    }
}
