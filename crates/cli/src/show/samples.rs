//! Answers of a server that the tests show.

use std::collections::BTreeMap;

use offtake_protocol::agent::{EnergySource, Exit};
use offtake_protocol::rest::{
    ArrayView, AttemptView, JobDetail, JobState, JobView, NodeState, NodeView, Receipt, WorkerFailure,
};
use offtake_workload::{Dependency, Tier, When};

/// 2024-05-01 08:00:00 UTC.
pub const NOW: i64 = 1_714_550_400_000;

pub fn job(id: u64, name: &str, state: JobState) -> JobView {
    JobView {
        id,
        name: name.to_owned(),
        state,
        reason: None,
        tenant: "research".to_owned(),
        user: "ada".to_owned(),
        tier: Tier::Standard,
        workers: 2,
        chip_milli: 16_000,
        cpu_milli: 8_000,
        submitted_ms: NOW - 7_800_000,
        start_estimate: None,
        started_ms: None,
        ended_ms: None,
        limit_ms: None,
        deadline_ms: None,
        reservation: None,
        nodes: vec![],
        attempts: 0,
        exit_code: None,
        array: None,
        service: None,
        replica_of: None,
        after: vec![],
        command: "python3 train.py".to_owned(),
        directory: "/home/ada".to_owned(),
    }
}

fn ran(job: JobView, reason: Option<&str>) -> JobView {
    let reason = reason.map(str::to_owned);
    JobView {
        started_ms: Some(NOW - 123_000),
        nodes: vec!["n-0001".to_owned(), "n-0002".to_owned()],
        attempts: 1,
        reason,
        ..job
    }
}

/// One of each state.
pub fn jobs() -> Vec<JobView> {
    let ended = |job: JobView| JobView { ended_ms: Some(NOW - 3_000), ..job };
    let many: Vec<String> = (1..=64).map(|number| format!("n-{number:04}")).collect();
    vec![
        JobView {
            reason: Some("waits for 8 more chips in one block".to_owned()),
            limit_ms: Some(86_400_000),
            after: vec![Dependency { job: 12, when: When::Succeeded }],
            tier: Tier::Reserved,
            ..job(17, "pretrain-of-a-model-with-a-long-name", JobState::Pending)
        },
        JobView { reason: Some("held by its user".to_owned()), ..job(16, "later", JobState::Held) },
        JobView { nodes: vec!["n-0001".to_owned()], ..job(15, "comes", JobState::Starting) },
        JobView {
            nodes: many,
            workers: 64,
            chip_milli: 512_000,
            array: Some(ArrayView { id: 10, index: 4 }),
            ..ran(job(14, "sweep", JobState::Running), None)
        },
        ran(job(9, "goes", JobState::Stopping), Some("cancelled by ada")),
        ended(ran(job(8, "good", JobState::Finished), None)),
        ended(JobView {
            exit_code: Some(137),
            ..ran(job(7, "bad", JobState::Failed), Some("worker 1 was ended by signal 9"))
        }),
        JobView { chip_milli: 500, workers: 1, ..ended(job(6, "never", JobState::Cancelled)) },
    ]
}

fn receipt() -> Receipt {
    Receipt {
        waited_ms: 1_200,
        ran_ms: 123_000,
        restarts: 1,
        chip_hours: 0.547,
        core_hours: 0.273,
        lost_hours: 0.0154,
        goodput: 0.9718,
        energy_kwh: 0.042,
        energy_source: "measured (NVML)".to_owned(),
        facility_kwh: 0.0546,
        energy_cost: BTreeMap::from([("USD".to_owned(), 0.00382)]),
        co2_kg: Some(0.0164),
    }
}

/// A job with two attempts, the first of which failed.
pub fn restarted() -> JobDetail {
    let nodes = vec!["n-0001".to_owned(), "n-0002".to_owned()];
    let failed = AttemptView {
        number: 1,
        placed_ms: NOW - 200_000,
        started_ms: Some(NOW - 199_900),
        ended_ms: Some(NOW - 130_000),
        outcome: Some("a worker failed".to_owned()),
        nodes: nodes.clone(),
        failures: vec![
            WorkerFailure { rank: 0, node: "n-0001".to_owned(), exit: Exit::Signal(9) },
            WorkerFailure { rank: 1, node: "n-0002".to_owned(), exit: Exit::Status(3) },
        ],
    };
    let refused = AttemptView {
        number: 2,
        placed_ms: NOW - 129_000,
        started_ms: None,
        ended_ms: Some(NOW - 128_000),
        outcome: Some("node n-0002 refused it".to_owned()),
        nodes: nodes.clone(),
        failures: vec![WorkerFailure {
            rank: 1,
            node: "n-0002".to_owned(),
            exit: Exit::NotStarted("no such program".to_owned()),
        }],
    };
    let running = AttemptView {
        number: 3,
        placed_ms: NOW - 123_100,
        started_ms: Some(NOW - 123_000),
        ended_ms: None,
        outcome: None,
        nodes,
        failures: vec![],
    };
    JobDetail {
        job: JobView { attempts: 3, limit_ms: Some(7_200_000), ..ran(job(17, "train", JobState::Running), None) },
        attempts: vec![failed, refused, running],
        receipt: receipt(),
    }
}

/// Jobs that are over: well, badly, on processors alone, and before they began.
pub fn over() -> Vec<JobDetail> {
    let mut all = jobs();
    let [good, bad, never] = [5, 6, 7].map(|index| all[index].clone());
    let mut on_processors = receipt();
    (on_processors.chip_hours, on_processors.restarts, on_processors.co2_kg) = (0.0, 0, None);
    on_processors.energy_source = "modelled".to_owned();
    on_processors.energy_cost = BTreeMap::from([("EUR".to_owned(), -0.0012)]);
    all.truncate(0);
    let failed = restarted().attempts.swap_remove(0);
    vec![
        JobDetail { job: good.clone(), attempts: vec![], receipt: receipt() },
        JobDetail { job: bad, attempts: vec![failed], receipt: receipt() },
        JobDetail { job: good, attempts: vec![], receipt: on_processors },
        JobDetail { job: never, attempts: vec![], receipt: Receipt { waited_ms: 45, ..Receipt::default() } },
    ]
}

pub fn node(name: &str, state: NodeState) -> NodeView {
    NodeView {
        name: name.to_owned(),
        state,
        reason: None,
        domain: "hall/block-1/rack-2".to_owned(),
        kind: "dgx".to_owned(),
        accelerator: Some("h100".to_owned()),
        chips: 8,
        chip_milli_in_use: 0,
        cpu_milli: 96_000,
        cpu_milli_in_use: 0,
        memory_mib: 2_097_152,
        memory_mib_in_use: 0,
        jobs: vec![],
        address: Some("10.0.0.1".to_owned()),
        seen_ms: Some(NOW - 65_000),
        agent_version: Some("0.1.0".to_owned()),
        isolation: None,
        power_w: 2_140,
        power_source: EnergySource::ChipCounter,
        not_throttled: None,
    }
}

/// One of each state.
pub fn nodes() -> Vec<NodeView> {
    let reason = |reason: &str| Some(reason.to_owned());
    let used = |name: &str, state, chips: u64, jobs: Vec<u64>| NodeView {
        chip_milli_in_use: chips * 1000,
        cpu_milli_in_use: chips * 12_000,
        jobs,
        ..node(name, state)
    };
    vec![
        node("n-0001", NodeState::Idle),
        used("n-0002", NodeState::Mixed, 2, vec![14, 15]),
        used("n-0003", NodeState::Allocated, 8, (1..=9).collect()),
        NodeView { reason: reason("fan 3 is to be changed"), ..used("n-0004", NodeState::Draining, 8, vec![17]) },
        NodeView { reason: reason("health check: XID 79"), ..node("n-0005", NodeState::Drained) },
        NodeView { reason: reason("it does not answer"), ..node("n-0006", NodeState::Down) },
        NodeView { accelerator: None, chips: 0, seen_ms: None, ..node("login", NodeState::Expected) },
    ]
}
