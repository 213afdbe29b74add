//! Runs on fleets that fail.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use offtake_engine::{Health, Policy};
use offtake_sim::failures::{Cause, Effect, FailureClass, FailureModel, Strikes};
use offtake_sim::{Observer, Outcome, Setup, run};
use offtake_units::{CpuMilli, Duration, Mebibytes, Ppm, Timestamp};
use offtake_workload::synthetic::Spread;
use offtake_workload::{Checkpoint, ChipRequest, Gang, Job, Service, Tier};

/// Four racks of four nodes of four chips; each pair of racks on a feed of its own, the first with a second feed.
const FLEET: &str = r#"
name = "small"
levels = ["site", "rack"]

[accelerators.chip]
idle_watts = 100
operating_watts = 500
peak_watts = 600

[node_kinds.node]
accelerator = "chip"
chips = 4
cpu_cores = 64
memory_gib = 256
base_watts = 500

[templates.rack]
level = "rack"
nodes = { node = 4 }

[sites.here]
pue = 1.0
storage_bandwidth = 1e9
domains = { rack = 4 }

[circuits.a]
kva = 100
power_factor = 1.0
redundancy_group = "left"
feeds = [{ domain = "here/rack-0", share = 0.5 }, { domain = "here/rack-1", share = 0.5 }]

[circuits.b]
kva = 100
power_factor = 1.0
redundancy_group = "left"
feeds = [{ domain = "here/rack-0", share = 0.5 }, { domain = "here/rack-1", share = 0.5 }]

[circuits.c]
kva = 100
power_factor = 1.0
feeds = [{ domain = "here/rack-2" }, { domain = "here/rack-3" }]
"#;

pub struct Quiet;

impl Observer for Quiet {
    fn nanos(&mut self) -> u64 {
        0
    }

    fn progress(&mut self, _share_ppm: u32) {}
}

pub const fn hours(hours: i64) -> Duration {
    Duration::from_secs(hours * 3600)
}

pub fn job(nodes: u32, at: i64, span: Duration, checkpoint: Option<(Duration, u64)>) -> Job {
    Job {
        name: "job".to_owned(),
        tenant: format!("tenant-{}", nodes % 3),
        tier: Tier::Standard,
        submitted: Timestamp::from_secs(at),
        duration: Some(span),
        checkpoint: checkpoint.map(|(interval, bytes)| Checkpoint { interval, bytes }),
        gangs: vec![Gang {
            workers: nodes,
            chips: ChipRequest::Whole(4),
            cpu: CpuMilli::new(4000),
            memory: Mebibytes::new(1024),
            ..Gang::default()
        }],
        ..Job::default()
    }
}

fn class(name: &str, strikes: Strikes, every: Duration, effect: Effect) -> FailureClass {
    let cause = Cause { name: name.to_owned(), weight: 1, effect, xid: None };
    FailureClass { name: name.to_owned(), strikes, every, causes: vec![cause] }
}

fn down(repair: Duration) -> Effect {
    Effect::Down { repair: Spread::Fixed(repair) }
}

pub fn setup(jobs: Vec<Job>, horizon: Option<Duration>, failures: Option<FailureModel>) -> Setup {
    setup_on(4, jobs, horizon, failures)
}

/// [`setup`] with chips that have two power levels: nine tenths and seven tenths of the speed for 400 and 300 W.
pub fn throttled(jobs: Vec<Job>) -> Setup {
    let levels = r#"peak_watts = 600
power_levels = [
  { name = "eco", power = 0.666666, speed = 0.9, basis = "assumed", source = "a test" },
  { name = "low", power = 0.5, speed = 0.7, basis = "assumed", source = "a test" },
]"#;
    let fleet =
        offtake_fleet::parse(&FLEET.replace("peak_watts = 600", levels), "test fleet", Path::new(""), &BTreeMap::new());
    Setup { fleet: Arc::new(fleet.expect("the test's fleet is valid")), ..setup(jobs, None, None) }
}

/// The same with so many racks of sixteen chips.
pub fn setup_on(racks: u32, jobs: Vec<Job>, horizon: Option<Duration>, failures: Option<FailureModel>) -> Setup {
    let text = FLEET.replace("domains = { rack = 4 }", &format!("domains = {{ rack = {racks} }}"));
    let fleet = offtake_fleet::parse(&text, "test fleet", Path::new(""), &BTreeMap::new());
    let mut jobs = jobs;
    jobs.sort_by_key(|job| job.submitted);
    Setup {
        reservations: Vec::new(),
        grid_events: Vec::new(),
        feed_losses: Vec::new(),
        utility_losses: Vec::new(),
        cooled: Vec::new(),
        meters: Vec::new(),
        fleet: Arc::new(fleet.expect("the test's fleet is valid")),
        jobs: jobs.into_iter().map(Arc::new).collect(),
        overestimate: None,
        services: Vec::new(),
        start: Timestamp::EPOCH,
        horizon,
        signals: Vec::new(),
        sample_every: hours(1),
        failures,
    }
}

pub fn under(setup: &Setup, policy: &str) -> Outcome {
    let policy = Policy::named(policy, 7).expect("the test's policy exists");
    run(setup, policy, &mut Quiet).expect("the accounts are right")
}

/// A year's mix of everything that can fail, on a busy fleet.
fn busy(failures: Option<FailureModel>) -> Setup {
    let jobs = (0..600).map(|index: i64| {
        let nodes = 1 + (index * 7 % 11) as u32;
        let saves = (index % 3 > 0).then(|| (Duration::from_secs(1800), 100_000_000_000));
        let mut job = job(nodes, index * 7_200, hours(1 + index * 5 % 23), saves);
        job.gangs[0].spares = u32::from(index % 5 == 0);
        job
    });
    let mut setup = setup(jobs.collect(), Some(hours(24 * 60)), failures);
    setup.services.push(Arc::new(Service {
        program: None,
        name: "chat".to_owned(),
        tenant: "serving".to_owned(),
        tier: Tier::Reserved,
        replica: job(1, 0, hours(1), None).gangs[0].clone(),
        minimum: 1,
        maximum: 3,
        demand: (0..24).map(|hour| Ppm::new(hour * 41_000)).collect(),
        ..Service::default()
    }));
    setup
}

fn everything() -> FailureModel {
    let slow =
        Effect::Slow { speed: Ppm::new(700_000), found: Spread::Fixed(hours(5)), repair: Spread::Fixed(hours(9)) };
    let bad = Effect::Bad { fails: hours(3), found: Spread::Fixed(hours(30)), repair: Spread::Fixed(hours(5)) };
    let racks = offtake_fleet::LevelIx(1);
    FailureModel {
        seed: 3,
        classes: vec![
            class("node", Strikes::Chips, hours(64 * 20), down(hours(3))),
            class("bug", Strikes::Chips, hours(64 * 30), Effect::Application),
            class("rack", Strikes::Domains(racks), hours(4 * 150), down(hours(6))),
            class("feed", Strikes::Circuits, hours(3 * 70), down(hours(12))),
            class("slow", Strikes::Chips, hours(64 * 60), slow),
            class("bad", Strikes::Chips, hours(64 * 90), bad),
        ],
        ..FailureModel::default()
    }
}

#[test]
fn every_chip_hour_is_booked_once() {
    for policy in ["fifo", "offtake"] {
        let outcome = under(&busy(Some(everything())), policy);
        assert_eq!(outcome.spent.total(), outcome.state.ledger().allocated, "{policy}");
        let spent = outcome.spent;
        let parts = [spent.useful, spent.rework, spent.restart, spent.saving, spent.slowness, spent.standby];
        assert!(parts.iter().all(|part| part.0 > 0), "{policy}: {spent:?}");
        let by_tenant: i128 = outcome.tenants.values().flatten().map(|time| time.0).sum();
        assert_eq!(by_tenant, spent.total().0, "all chips are of one kind");
        assert!(outcome.jobs.iter().any(|job| job.restarts > 0 && job.finished.is_some()));
        let counts = &outcome.failures.causes;
        assert!(counts.iter().all(|count| count.struck > 0), "{counts:?}");
        assert!(outcome.failures.out.0 > 0);
    }
}

#[test]
fn a_finished_job_has_done_its_work() {
    let setup = busy(Some(everything()));
    let outcome = under(&setup, "offtake");
    for (job, record) in setup.jobs.iter().zip(&outcome.jobs).filter(|(_, record)| record.finished.is_some()) {
        assert_eq!(Some(record.useful), job.duration, "{record:?}");
    }
}

#[test]
fn a_seed_gives_the_same_failures_whatever_runs() {
    let idle = under(&setup(Vec::new(), Some(hours(24 * 60)), Some(everything())), "offtake");
    let busy_runs = ["fifo", "offtake"].map(|policy| under(&busy(Some(everything())), policy));
    let struck = |outcome: &Outcome, class: &str| {
        outcome.failures.causes.iter().find(|count| count.class == class).map(|count| count.struck)
    };
    for class in ["node", "rack", "feed", "slow"] {
        assert_eq!(struck(&busy_runs[0], class), struck(&busy_runs[1], class), "{class}");
        assert_eq!(struck(&idle, class), struck(&busy_runs[0], class), "{class}: idle nodes fail, too");
    }
    assert_eq!(idle.failures.out, busy_runs[0].failures.out);
    assert_eq!(struck(&idle, "bug"), Some(0), "nothing runs that could have one");
    let other = under(&busy(Some(FailureModel { seed: 4, ..everything() })), "fifo");
    assert_ne!(other.failures, busy_runs[0].failures);
}

#[test]
fn a_fleet_fails_as_often_as_it_is_said_to() {
    let model =
        FailureModel { classes: vec![class("node", Strikes::Chips, hours(64 * 10), down(hours(1)))], ..everything() };
    let outcome = under(&setup(Vec::new(), Some(hours(100_000)), Some(model)), "fifo");
    // Every ten hours; of 16 nodes one is out for an hour and a minute in ten, and cannot fail then.
    let expected = 10_000.0 * (1.0 - 1.0167 / 160.0);
    let struck = outcome.failures.causes[0].struck as f64;
    assert!((struck / expected - 1.0).abs() < 0.03, "{struck} of {expected}");
}

#[test]
fn a_feed_with_a_second_one_takes_nothing_down() {
    let model =
        FailureModel { classes: vec![class("feed", Strikes::Circuits, hours(2_000), down(hours(1)))], ..everything() };
    let jobs = (0..4).map(|_| job(4, 0, hours(5_000), None)).collect();
    let outcome = under(&setup(jobs, Some(hours(4_000)), Some(model)), "fifo");
    assert!(outcome.failures.causes[0].struck > 0, "the feed without a second one has failed");
    for record in &outcome.jobs {
        let has_two_feeds = record.first_node < 8;
        assert_eq!(record.restarts == 0, has_two_feeds, "{record:?}");
    }
}

#[test]
fn a_run_without_an_end_waits_for_what_failed() {
    let jobs = vec![job(16, 0, hours(50), Some((hours(1), 60_000_000_000)))];
    let model = FailureModel {
        classes: vec![class("node", Strikes::Chips, hours(64 * 10), down(hours(2)))],
        detect: Duration::from_secs(60),
        image: Duration::from_secs(60),
        initialise: Duration::from_secs(60),
        ..everything()
    };
    let outcome = under(&setup(jobs, None, Some(model)), "fifo");
    let record = outcome.jobs[0];
    assert!(record.finished.is_some() && record.restarts > 0, "{record:?}");
    // All of it: a minute of writing each hour, a minute for detection, two for image and workers, one of reading.
    let chips = 64_000;
    let least = i128::from(record.restarts) * 4 * 60_000 * chips;
    assert!(
        outcome.spent.restart.0 >= least - 60_000 * chips,
        "{:?} after {} restarts",
        outcome.spent,
        record.restarts
    );
}

/// Twelve nodes train for a long time while others wait for every node that is given back.
fn crowded(spares: u32) -> Outcome {
    let mut training = job(12, 0, hours(1_000), Some((hours(1), 60_000_000_000)));
    training.gangs[0].spares = spares;
    let others = (0..400).map(|index| job(1 + (index % 4) as u32, index * 9_000, hours(8), None));
    let jobs = std::iter::once(training).chain(others).collect();
    let model =
        FailureModel { classes: vec![class("node", Strikes::Chips, hours(64 * 15), down(hours(4)))], ..everything() };
    under(&setup(jobs, Some(hours(1_100)), Some(model)), "offtake")
}

#[test]
fn a_gang_with_spares_goes_on_at_once() {
    let (without, with) = (crowded(0), crowded(2));
    assert_eq!((without.repairs.swaps, without.repairs.nodes), (0, 0));
    assert!(without.repairs.waited > Duration::ZERO, "whoever has no spares queues: {:?}", without.repairs);
    assert!(with.repairs.swaps > 20 && with.repairs.nodes >= with.repairs.swaps, "{:?}", with.repairs);
    assert!(with.jobs[0].restarts as u64 >= with.repairs.swaps);
    assert!(with.jobs[0].useful > without.jobs[0].useful, "{:?} {:?}", with.jobs[0], without.jobs[0]);
    assert!(with.spent.standby.0 > 0 && without.spent.standby.0 == 0);
    assert_eq!(with.spent.total(), with.state.ledger().allocated);
}

#[test]
fn what_befalls_a_spare_does_not_befall_its_gang() {
    // The rack of each gang of three has a fourth node, which stands by; feeds take all at once and are left out.
    let mut jobs: Vec<Job> = (0..4).map(|_| job(3, 0, hours(400), Some((hours(1), 1_000_000_000)))).collect();
    jobs.iter_mut().for_each(|job| job.gangs[0].spares = 1);
    let slow =
        Effect::Slow { speed: Ppm::new(500_000), found: Spread::Fixed(hours(20)), repair: Spread::Fixed(hours(1)) };
    let model = FailureModel { classes: vec![class("slow", Strikes::Chips, hours(64 * 100), slow)], ..everything() };
    let outcome = under(&setup(jobs, Some(hours(300)), Some(model)), "offtake");
    let struck = outcome.failures.causes[0].struck;
    assert!(outcome.repairs.swaps > 0 && outcome.repairs.swaps < struck, "{:?} of {struck}", outcome.repairs);
    assert_eq!(outcome.repairs.waits, 0);
}

/// Nodes that seem sound, on which every job fails after two hours, until somebody notices after weeks; under a policy.
fn with_bad_nodes(health: Option<Health>, xid: Option<u16>) -> Outcome {
    let bad = Effect::Bad { fails: hours(2), found: Spread::Fixed(hours(500)), repair: Spread::Fixed(hours(8)) };
    let mut class = class("bad", Strikes::Chips, hours(64 * 150), bad);
    class.causes[0].xid = xid;
    let jobs = (0..500).map(|index: i64| {
        let name = format!("job-{index}");
        Job { name, ..job(1 + (index % 4) as u32, index * 7_200, hours(9), Some((hours(1), 1_000_000_000))) }
    });
    let setup = setup(jobs.collect(), Some(hours(1_000)), Some(FailureModel { classes: vec![class], ..everything() }));
    let policy = Policy { health, ..Policy::named("offtake", 7).expect("the test's policy exists") };
    run(&setup, policy, &mut Quiet).expect("the accounts are right")
}

#[test]
fn draining_nodes_that_kill_jobs_improves_goodput() {
    let goodput = |outcome: &Outcome| outcome.spent.useful.0 as f64 / outcome.spent.total().0 as f64;
    let nobody_looks = with_bad_nodes(None, None);
    let counted = with_bad_nodes(Some(Health::default()), None);
    let told = with_bad_nodes(Some(Health::default()), Some(94));
    assert_eq!((nobody_looks.failures.drained, nobody_looks.failures.held), (0, 0));
    assert!(counted.failures.drained > 0 && told.failures.drained > 0);
    assert!(goodput(&counted) > goodput(&nobody_looks) + 0.02, "{} {}", goodput(&counted), goodput(&nobody_looks));
    assert!(goodput(&told) > goodput(&counted), "{} {}: its driver tells at once", goodput(&told), goodput(&counted));
    for outcome in [&nobody_looks, &counted, &told] {
        assert_eq!(outcome.spent.total(), outcome.state.ledger().allocated);
    }
}

#[test]
fn nodes_that_come_back_wait_for_their_burn_in() {
    let jobs = vec![job(16, 0, hours(2_000), Some((hours(1), 1_000_000_000)))];
    let failures =
        FailureModel { classes: vec![class("node", Strikes::Chips, hours(64 * 30), down(hours(2)))], ..everything() };
    let setup = setup(jobs, Some(hours(600)), Some(failures));
    let useful = |burn_in| {
        let health = Some(Health { burn_in, hold_jobs_after: 0, ..Health::default() });
        let policy = Policy { health, ..Policy::named("offtake", 7).expect("the test's policy exists") };
        run(&setup, policy, &mut Quiet).expect("the accounts are right").jobs[0].useful
    };
    assert!(useful(hours(6)) < useful(Duration::ZERO), "all nodes are needed, and each waits");
}
