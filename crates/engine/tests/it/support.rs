//! Fleets and jobs that tests read as a story.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use offtake_engine::{
    Backfill, Event, Explanation, Fact, Image, JobId, NodeRange, Phase, Policy, Stage, State, StopReason, decide,
};
use offtake_fleet::{Fleet, NodeIx};
use offtake_units::{ChipMilli, CpuMilli, Duration, Mebibytes, Timestamp};
use offtake_workload::{ChipRequest, Gang, Groups, Job, Strength, Tier, Topology};

/// Two sites: one of H100 in islands and racks with a rack cap, a site cap and two feeders; one of mixed nodes that hang
/// directly below the site.
pub const MIXED: &str = r#"
name = "mixed"
levels = ["site", "rack", "island"]

[accelerators.h100]
idle_watts = 100
operating_watts = 600
peak_watts = 700

[accelerators.a10]
idle_watts = 20
operating_watts = 120
peak_watts = 150

[node_kinds.h100-4]
accelerator = "h100"
chips = 4
cpu_cores = 64
memory_gib = 256
base_watts = 500

[node_kinds.a10-2]
accelerator = "a10"
chips = 2
cpu_cores = 16
memory_gib = 64
base_watts = 100

[node_kinds.host]
cpu_cores = 32
memory_gib = 64
base_watts = 200

[templates.island]
level = "island"
nodes = { h100-4 = 2 }

[templates.rack]
level = "rack"
domains = { island = 3 }

[sites.north]
pue = 1.2
domains = { rack = 4 }

[sites.south]
pue = 1.3
nodes = { a10-2 = 5, h100-4 = 2, host = 2 }

[caps.rack-1]
on = "north/rack-1"
watts = 12000
meter = "it"
kind = "contract"

[caps.north-grid]
on = "north"
watts = 66000
meter = "facility"
kind = "contract"

[circuits.feeder]
kva = 30
power_factor = 1.0
feeds = [{ domain = "north/rack-2" }, { domain = "north/rack-3", share = 0.5 }]
"#;

/// Four nodes of four chips, with nothing in the way.
pub const PLAIN: &str = r#"
name = "plain"
levels = ["site"]

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

[sites.here]
pue = 1.0
nodes = { node = 4 }
"#;

/// Two racks of three islands of two nodes.
pub const ISLANDS: &str = r#"
name = "islands"
levels = ["site", "rack", "island"]

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

[templates.island]
level = "island"
nodes = { node = 2 }

[templates.rack]
level = "rack"
domains = { island = 3 }

[sites.here]
pue = 1.0
domains = { rack = 2 }
"#;

pub fn fleet(text: &str) -> Arc<Fleet> {
    let fleet = offtake_fleet::parse(text, "test fleet", Path::new(""), &BTreeMap::new());
    Arc::new(fleet.expect("the test's fleet is valid"))
}

/// A gang of workers with whole chips.
pub fn gang(workers: u32, chips: u16) -> Gang {
    Gang {
        workers,
        chips: if chips == 0 { ChipRequest::None } else { ChipRequest::Whole(chips) },
        cpu: CpuMilli::new(u32::from(chips.max(1)) * 4000),
        memory: Mebibytes::new(u64::from(chips.max(1)) * 1024),
        ..Gang::default()
    }
}

pub fn share(milli: u16) -> Gang {
    Gang { chips: ChipRequest::Share(ChipMilli::new(milli)), ..gang(1, 1) }
}

pub fn within(gang: Gang, level: &str, strength: Strength) -> Gang {
    Gang { topology: Some(Topology::new(level, strength)), ..gang }
}

pub fn grouped(gang: Gang, workers: u32, level: &str) -> Gang {
    Gang { groups: Some(Groups { workers, level: level.to_owned() }), ..gang }
}

pub fn job(gangs: Vec<Gang>, seconds: Option<i64>) -> Job {
    Job {
        name: "job".to_owned(),
        tenant: "tenant".to_owned(),
        tier: Tier::Standard,
        submitted: Timestamp::EPOCH,
        duration: seconds.map(Duration::from_secs),
        deadline: None,
        checkpoint: None,
        pause: None,
        preemptible: false,
        gangs,
        ..Job::default()
    }
}

pub fn of(tenant: &str, job: Job) -> Job {
    Job { tenant: tenant.to_owned(), ..job }
}

/// Whether a job is being stopped for another.
pub fn is_leaving(phase: &Phase) -> bool {
    let Phase::Running { stage: Stage::Stopping(reason), .. } = phase else { return false };
    matches!(
        reason,
        StopReason::Preempted { .. }
            | StopReason::Reclaimed { .. }
            | StopReason::Resized { .. }
            | StopReason::Curtailed
            | StopReason::Moved
            | StopReason::Drained
    )
}

/// A state with every fact that made it, checked after every step.
pub struct Engine {
    pub state: State,
    /// A state restored from an image of this one, told the same ever since: it decides the same.
    pub twin: Option<State>,
    pub journal: Vec<Fact>,
    now: i64,
    next: u64,
}

impl Engine {
    pub fn new(fleet: Arc<Fleet>, policy: &str) -> Self {
        Self::under(fleet, Policy::named(policy, 7).expect("the test's policy exists"))
    }

    pub fn under(fleet: Arc<Fleet>, policy: Policy) -> Self {
        let mut engine = Self { state: State::default(), twin: None, journal: Vec::new(), now: 0, next: 0 };
        engine.tell(Event::FleetLoaded { fleet });
        engine.tell(Event::PolicySet { policy });
        engine
    }

    /// So many blocked jobs hold capacity from now on.
    pub fn keep(&mut self, holds: u32) {
        let policy = Policy { backfill: Backfill { holds, ..Backfill::default() }, ..self.state.policy().clone() };
        self.tell(Event::PolicySet { policy });
    }

    pub fn now(&self) -> Timestamp {
        Timestamp::from_secs(self.now)
    }

    pub fn tell(&mut self, event: Event) {
        let fact = Fact { at: self.now(), event };
        self.state.apply(&fact);
        if let Some(twin) = &mut self.twin {
            twin.apply(&fact);
        }
        self.journal.push(fact);
        self.check();
    }

    /// Writes the state down, reads it again, and lets what was read live beside it from now on.
    pub fn restore(&mut self) {
        let written = serde_json::to_string(&self.state.image()).expect("an image can be written");
        let image: Image = serde_json::from_str(&written).expect("what was written can be read");
        let twin = State::restore(image).expect("an image of a state holds together");
        twin.check().expect("every truth holds in what was restored");
        assert_eq!(twin.essence(), self.state.essence(), "what was restored is what was written");
        for (job, _) in self.state.jobs() {
            assert_eq!(twin.blocked(job), self.state.blocked(job), "what was tried in vain is not tried again");
        }
        self.twin = Some(twin);
    }

    /// Decides once more on a copy that remembers nothing of what was tried in vain: it places nothing either.
    pub fn nothing_is_missed(&self) {
        let mut image = serde_json::to_value(self.state.image()).expect("an image can be written");
        let remembered = image["remembered"].as_object_mut().expect("a table");
        remembered.remove("queue");
        remembered.insert("lanes".to_owned(), serde_json::Value::Array(Vec::new()));
        remembered.insert("freed".to_owned(), serde_json::Value::Null);
        let image: Image = serde_json::from_value(image).expect("what was written can be read");
        let mut full = State::restore(image).expect("an image of a state holds together");
        let mut decided = Vec::new();
        decide(&mut full, self.now(), &mut decided);
        let placed = decided.iter().find_map(|fact| match fact.event {
            Event::JobPlaced { job, .. } => Some(job),
            _ => None,
        });
        let why = placed.map(|job| self.state.blocked(job));
        assert_eq!(why, None, "a pass that looks at all places what this one has missed: {decided:?}");
    }

    /// Asks why of every job: each has an answer, and asking changes nothing.
    pub fn explain_all(&mut self) {
        let before = self.state.essence();
        let jobs: Vec<JobId> = self.state.jobs().into_iter().map(|(job, _)| job).collect();
        for job in jobs {
            let why = {
                let mut c = self.state.clone();
                c.explain(job)
            }
            .expect("the job is known");
            // Of several gangs the first may have been put where the next would have fitted, and no longer be.
            let one_gang = self.state.job(job).is_some_and(|work| work.spec.gangs.len() == 1);
            if let Explanation::Waiting(why) = why
                && one_gang
            {
                assert!(!why.obstacles.is_empty(), "after a pass something is in the way of job {}", job.0);
            }
        }
        self.check();
        assert_eq!(self.state.essence(), before, "asking why changes nothing");
    }

    /// The state that the journal folds to.
    pub fn folded(&self) -> State {
        let mut folded = State::default();
        self.journal.iter().for_each(|fact| folded.apply(fact));
        folded.advance(self.state.now());
        folded
    }

    pub fn submit(&mut self, job: Job) -> JobId {
        let id = JobId(self.next);
        self.next += 1;
        self.tell(Event::JobSubmitted { job: id, spec: Arc::new(job) });
        id
    }

    /// Lets `seconds` pass, ends what is due, and decides.
    pub fn pass(&mut self, seconds: i64) {
        self.now += seconds;
        let now = self.now();
        let due = |phase: &Phase| matches!(phase, Phase::Running { ends, .. } if *ends <= now);
        let ended: Vec<(JobId, bool)> = self
            .state
            .jobs()
            .into_iter()
            .filter(|(_, work)| due(&work.phase))
            .map(|(job, work)| (job, is_leaving(&work.phase)))
            .collect();
        for (job, leaves) in ended {
            self.tell(match leaves {
                true => Event::JobRequeued { job, saved_until: None, held: false },
                false => Event::JobFinished { job },
            });
        }
        self.decide();
    }

    /// Lets `seconds` pass in which nothing happens.
    pub fn wait(&mut self, seconds: i64) {
        self.now += seconds;
    }

    pub fn decide(&mut self) -> usize {
        let before = self.journal.len();
        decide(&mut self.state, Timestamp::from_secs(self.now), &mut self.journal);
        self.check();
        let proposed = self.journal.len() - before;
        if let Some(twin) = &mut self.twin {
            let mut decided = Vec::new();
            decide(twin, Timestamp::from_secs(self.now), &mut decided);
            assert_eq!(decided, self.journal[before..], "what was restored decides the same");
            twin.check().expect("every truth holds in what was restored");
        }
        decide(&mut self.state, Timestamp::from_secs(self.now), &mut self.journal);
        let again = &self.journal[before + proposed..];
        assert!(
            again.is_empty(),
            "a second pass at the same instant proposes nothing, but: {again:?} after {:?}",
            &self.journal[before.saturating_sub(3)..before + proposed]
        );
        proposed
    }

    pub fn check(&self) {
        self.state.check().expect("every truth holds after every step");
        assert_eq!(self.state.capacity().breaches(), 0, "no cap is ever exceeded");
    }

    /// Folds the journal anew and sees to it that no work came to a single-tenant node where another tenant's was.
    pub fn tenants_are_apart(&self) {
        let mut folded = State::default();
        for fact in &self.journal {
            folded.apply(fact);
            let Event::JobPlaced { job, placement } = &fact.event else { continue };
            let tenant = &folded.job(*job).expect("it was just placed").spec.tenant;
            let single: Vec<_> = placement
                .nodes()
                .into_iter()
                .flat_map(NodeRange::numbers)
                .filter(|node| !folded.is_shared(NodeIx(*node)))
                .collect();
            for (other, work) in folded.jobs() {
                let Phase::Running { placement, .. } = &work.phase else { continue };
                let meet = placement.slots().any(|slot| single.iter().any(|node| slot.nodes.numbers().contains(node)));
                assert!(!meet || work.spec.tenant == *tenant, "job {} came to job {}'s node", job.0, other.0);
            }
        }
    }

    pub fn runs(&self, job: JobId) -> bool {
        self.state.job(job).is_some_and(|work| matches!(work.phase, Phase::Running { .. }))
    }

    /// Where a running job's workers are.
    pub fn nodes(&self, job: JobId) -> Vec<NodeRange> {
        match self.state.job(job).map(|work| &work.phase) {
            Some(Phase::Running { placement, .. }) => placement.slots().map(|slot| slot.nodes).collect(),
            _ => Vec::new(),
        }
    }
}
