//! Failures as they come: the next of each class is drawn when the last has struck, so that one costs no more on a
//! large fleet than on a small one.
//!
//! Nothing that is drawn depends on what runs: every policy meets the same failures, but for what strikes a node that is
//! out already. A failed node takes no new work
//! from then on; what ran on it keeps its nodes until the failure is found, and does nothing meanwhile.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap};
use std::ops::Range;
use std::sync::Arc;

use offtake_engine::{ChipTime, Event, Fault, JobId, Phase};
use offtake_fleet::{CircuitIx, DomainIx, Fleet, NodeIx};
use offtake_units::{Duration, Ppm, Timestamp};
use offtake_workload::rng::Rng;

use super::model::{Cause, Effect, FailureClass, FailureModel, Strikes};
use crate::course::Course;

/// How often a cause struck, and what that cost.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CauseCount {
    /// The class of parts.
    pub class: String,
    /// The cause.
    pub cause: String,
    /// How often it struck something that was sound until then, or a job.
    pub struck: u64,
    /// How many attempts of jobs it ended.
    pub jobs: u64,
    /// Their chip-time from the last checkpoint on until it was found.
    pub lost: ChipTime,
}

/// What failures did in a run.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FailureCounts {
    /// By cause, in the order of the model.
    pub causes: Vec<CauseCount>,
    /// Chip-time of nodes that were out.
    pub out: ChipTime,
    /// How often the policy drained a node.
    pub drained: u64,
    /// How often it put a job on hold.
    pub held: u64,
}

/// The failures of a run on their way.
#[derive(Debug)]
pub(crate) struct Process<'a> {
    model: &'a FailureModel,
    fleet: Arc<Fleet>,
    clocks: Vec<Clock>,
    pending: BinaryHeap<Reverse<(Timestamp, Pending)>>,
    /// How many of `pending` follow from failures that have struck.
    open: usize,
    /// Nodes that are out, since when and until when.
    out: BTreeMap<NodeIx, Out>,
    /// Circuits that are dead, until when.
    dead: BTreeMap<CircuitIx, Timestamp>,
    /// Nodes that are slow, or on which work fails, until that is found.
    ill: BTreeMap<NodeIx, Ill>,
    counts: FailureCounts,
    /// Chips of the nodes before each; a node without any counts as one.
    chips_before: Vec<u64>,
}

/// A node that seems sound and is not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Ill {
    found: Timestamp,
    cause: usize,
    repair: Duration,
}

#[derive(Clone, Copy, Debug)]
struct Out {
    since: Timestamp,
    until: Timestamp,
    lost: bool,
    drained: bool,
}

/// What will happen; what is sooner in this list goes first at one instant.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Pending {
    /// A node may be sound again.
    Repaired { node: NodeIx },
    /// A failed attempt is found out.
    Found { job: JobId, attempt: u32, node: NodeIx, cause: usize },
    /// A node that seemed sound is found out.
    IllFound { node: NodeIx },
    /// A job fails on a node that seems sound, and again after so long.
    Trips { node: NodeIx, every: Duration },
    /// A class strikes.
    Struck { class: usize },
}

/// The Poisson process of a class.
#[derive(Debug)]
struct Clock {
    gaps: Rng,
    choices: Rng,
    /// The last strike, and the mean gap, in milliseconds with 32 bits after the point.
    last_q32: u128,
    mean_q32: u128,
    /// How many parts there are, and for domains which.
    parts: u64,
    domains: Vec<DomainIx>,
    first_cause: usize,
}

impl Clock {
    /// When it strikes next.
    fn next(&mut self) -> Timestamp {
        self.last_q32 = self.last_q32.saturating_add(self.gaps.exponential(self.mean_q32));
        Timestamp::from_millis(i64::try_from(self.last_q32 >> 32).unwrap_or(i64::MAX))
    }
}

impl<'a> Process<'a> {
    pub(crate) fn new(model: &'a FailureModel, fleet: &Arc<Fleet>, start: Timestamp) -> Self {
        let mut chips = 0;
        let mut chips_before: Vec<u64> = Vec::with_capacity(fleet.nodes.len() + 1);
        for node in &fleet.nodes {
            chips_before.push(chips);
            chips += u64::from(fleet.kind(*node).chips.max(1));
        }
        let root = Rng::new(model.seed).derive("failures");
        let mut process = Self {
            model,
            fleet: Arc::clone(fleet),
            clocks: Vec::new(),
            pending: BinaryHeap::new(),
            open: 0,
            out: BTreeMap::new(),
            dead: BTreeMap::new(),
            ill: BTreeMap::new(),
            counts: FailureCounts::default(),
            chips_before,
        };
        for (class, failing) in model.classes.iter().enumerate() {
            let domains = match failing.strikes {
                Strikes::Domains(level) => domains_of(fleet, level),
                Strikes::Chips | Strikes::Circuits => Vec::new(),
            };
            let parts = match failing.strikes {
                Strikes::Chips => chips,
                Strikes::Domains(_) => domains.len() as u64,
                Strikes::Circuits => fleet.circuits.len() as u64,
            };
            let root = root.derive(&failing.name);
            let mut clock = Clock {
                gaps: root.derive("gaps"),
                choices: root.derive("choices"),
                last_q32: (start.as_millis().max(0) as u128) << 32,
                mean_q32: ((failing.every.as_millis() as u128) << 32) / u128::from(parts.max(1)),
                parts,
                domains,
                first_cause: process.counts.causes.len(),
            };
            if parts > 0 {
                process.pending.push(Reverse((clock.next(), Pending::Struck { class })));
            }
            process.clocks.push(clock);
            process.counts.causes.extend(failing.causes.iter().map(|cause| CauseCount {
                class: failing.name.clone(),
                cause: cause.name.clone(),
                struck: 0,
                jobs: 0,
                lost: ChipTime::default(),
            }));
        }
        process
    }

    /// When something happens next.
    pub(crate) fn next(&self) -> Option<Timestamp> {
        self.pending.peek().map(|Reverse((at, _))| *at)
    }

    /// Whether something will be found out or repaired.
    pub(crate) const fn is_open(&self) -> bool {
        self.open > 0
    }

    /// Chips of nodes that are out, in thousandths.
    pub(crate) fn chip_milli_out(&self) -> u64 {
        self.out.keys().map(|node| chip_milli(&self.fleet, *node)).sum()
    }

    /// Everything that happens up to an instant.
    pub(crate) fn happen(&mut self, now: Timestamp, course: &mut Course) {
        while let Some(Reverse((_, what))) = self.pending.peek().copied().filter(|Reverse((at, _))| *at <= now) {
            self.pending.pop();
            match what {
                Pending::Struck { class } => self.strike(now, class, course),
                Pending::Found { job, attempt, node, cause } => self.found(now, job, attempt, (node, cause), course),
                Pending::IllFound { node } => self.ill_found(now, node, course),
                Pending::Trips { node, every } => self.trips(now, node, every, course),
                Pending::Repaired { node } => self.repaired(now, node, course),
            }
            self.open -= usize::from(!matches!(what, Pending::Struck { .. }));
        }
    }

    fn expect(&mut self, at: Timestamp, what: Pending) {
        self.open += 1;
        self.pending.push(Reverse((at, what)));
    }

    fn strike(&mut self, now: Timestamp, class: usize, course: &mut Course) {
        let failing = &self.model.classes[class];
        let clock = &mut self.clocks[class];
        // All is drawn, whatever comes of it, so that the next draws are those of every other run.
        let part = clock.choices.below(clock.parts);
        let (cause, chosen) = chosen(failing, clock.choices.below(weights(failing)));
        let cause = clock.first_cause + cause;
        let pick = clock.choices.bits();
        let effect = &chosen.effect;
        let (first, second) = match effect {
            Effect::Application => (Duration::ZERO, Duration::ZERO),
            Effect::Down { repair } => (repair.draw(&mut clock.choices), Duration::ZERO),
            Effect::Slow { found, repair, .. } | Effect::Bad { found, repair, .. } => {
                (found.draw(&mut clock.choices), repair.draw(&mut clock.choices))
            }
        };
        self.pending.push(Reverse((clock.next(), Pending::Struck { class })));
        let nodes = self.nodes_of(failing.strikes, class, part);
        let until = now + self.model.detect + first;
        if let Strikes::Circuits = failing.strikes
            && !self.goes_dark(CircuitIx(part as u32), now, until)
        {
            return;
        }
        let mut struck = false;
        let mut jobs: BTreeMap<JobId, NodeIx> = BTreeMap::new();
        for node in nodes {
            match effect {
                Effect::Application => {
                    let on = course.on_node(node);
                    jobs.extend(on.get((pick % on.len().max(1) as u64) as usize).map(|job| (*job, node)));
                    struck |= !jobs.is_empty();
                }
                Effect::Down { .. } => {
                    struck |= self.take_out(now, node, until, course);
                    for job in course.on_node(node) {
                        jobs.entry(job).or_insert(node);
                    }
                }
                Effect::Slow { .. } | Effect::Bad { .. } => {
                    if self.ill.contains_key(&node) || self.out.contains_key(&node) {
                        continue;
                    }
                    struck = true;
                    let found = now + first;
                    self.ill.insert(node, Ill { found, cause, repair: second });
                    match effect {
                        Effect::Slow { speed, .. } => course.slow_down(now, node, *speed),
                        Effect::Bad { fails, .. } => self.expect(now + *fails, Pending::Trips { node, every: *fails }),
                        Effect::Application | Effect::Down { .. } => {}
                    }
                    self.expect(found, Pending::IllFound { node });
                }
            }
        }
        self.counts.causes[cause].struck += u64::from(struck);
        jobs.into_iter().for_each(|(job, node)| self.fails(now, job, (node, cause), course));
    }

    /// A job fails on a node.
    fn fails(&mut self, now: Timestamp, job: JobId, (node, cause): (NodeIx, usize), course: &mut Course) {
        if let Some(attempt) = course.fail(now, job) {
            self.expect(now + self.model.detect, Pending::Found { job, attempt, node, cause });
        }
    }

    /// Another job fails on a node that seems sound.
    fn trips(&mut self, now: Timestamp, node: NodeIx, every: Duration, course: &mut Course) {
        let Some(ill) = self.ill.get(&node).copied() else { return };
        if let Some(job) = course.on_node(node).first() {
            self.fails(now, *job, (node, ill.cause), course);
        }
        self.expect(now + every, Pending::Trips { node, every });
    }

    /// The nodes of a part that fails.
    fn nodes_of(&self, strikes: Strikes, class: usize, part: u64) -> Vec<NodeIx> {
        let in_domain = |domain: DomainIx| self.fleet.domains[domain.ix()].nodes.clone().map(NodeIx);
        match strikes {
            Strikes::Chips => {
                let node = self.chips_before.partition_point(|before| *before <= part).saturating_sub(1);
                vec![NodeIx(node as u32)]
            }
            Strikes::Domains(_) => {
                self.clocks[class].domains.get(part as usize).copied().map(in_domain).into_iter().flatten().collect()
            }
            Strikes::Circuits => {
                let feeds = self.fleet.circuits.get(part as usize).map_or(&[][..], |circuit| &circuit.feeds);
                feeds.iter().flat_map(|feed| in_domain(feed.domain)).collect()
            }
        }
    }

    /// A circuit is dead; true where no other of its group feeds on.
    fn goes_dark(&mut self, circuit: CircuitIx, now: Timestamp, until: Timestamp) -> bool {
        self.dead.retain(|_, until| *until > now);
        self.dead.insert(circuit, until);
        let group = &self.fleet.circuits[circuit.ix()].redundancy_group;
        let mut others = self.fleet.circuits.iter().zip((0..).map(CircuitIx));
        group.is_none() || others.all(|(other, ix)| other.redundancy_group != *group || self.dead.contains_key(&ix))
    }

    /// A node is out; true where it was not before.
    fn take_out(&mut self, now: Timestamp, node: NodeIx, until: Timestamp, course: &mut Course) -> bool {
        self.expect(until, Pending::Repaired { node });
        if let Some(out) = self.out.get_mut(&node) {
            out.until = out.until.max(until);
            return false;
        }
        if self.ill.remove(&node).is_some() {
            course.slow_down(now, node, Ppm::ONE);
        }
        self.out.insert(node, Out { since: now, until, lost: true, drained: false });
        course.tell(now, Event::NodeLost { node });
        true
    }

    /// Nodes have no power until an instant, at which they have booted; gives the jobs that still ran on them, which have
    /// failed, and everybody sees it.
    pub(crate) fn lose_power(
        &mut self,
        now: Timestamp,
        nodes: Range<u32>,
        until: Timestamp,
        course: &mut Course,
    ) -> BTreeSet<JobId> {
        let mut jobs = BTreeSet::new();
        for node in nodes.map(NodeIx) {
            jobs.extend(course.on_node(node));
            self.take_out(now, node, until, course);
        }
        for job in &jobs {
            course.recover(now, *job);
        }
        jobs
    }

    fn found(&mut self, now: Timestamp, job: JobId, attempt: u32, (node, cause): (NodeIx, usize), course: &mut Course) {
        if !course.runs(job, attempt) {
            return;
        }
        let Some(work) = course.state.job(job) else { return };
        let chip_milli = work.spec.chip_milli();
        if course.state.policy().health.is_some() {
            let fault = match (self.cause(cause), self.out.contains_key(&node)) {
                (Cause { xid: Some(code), .. }, _) => Fault::Xid(*code),
                (_, true) => Fault::NodeLost,
                (_, false) => Fault::WorkerFailed,
            };
            course.tell(now, Event::FaultSeen { node, job: Some(job), fault });
        }
        let ended = course.recover(now, job);
        let count = &mut self.counts.causes[cause];
        count.jobs += 1;
        let ms = i128::from(ended.rework) + i128::from(self.model.detect.as_millis());
        count.lost.0 += i128::from(chip_milli) * ms;
    }

    /// A cause by its place among those of all classes.
    fn cause(&self, place: usize) -> &'a Cause {
        let at = self.clocks.partition_point(|clock| clock.first_cause <= place).saturating_sub(1);
        &self.model.classes[at].causes[place - self.clocks[at].first_cause]
    }

    fn ill_found(&mut self, now: Timestamp, node: NodeIx, course: &mut Course) {
        if self.ill.get(&node).is_some_and(|ill| ill.found == now) {
            course.tell(now, Event::NodeDrained { node, reason: "it was found out".to_owned() });
            self.take_for_repair(now, node, course);
        }
    }

    /// The policy has drained a node: somebody looks at it, and repairs what is wrong.
    fn drained(&mut self, now: Timestamp, node: NodeIx, course: &mut Course) {
        self.counts.drained += 1;
        match self.out.get_mut(&node) {
            Some(out) => out.drained = true,
            None => self.take_for_repair(now, node, course),
        }
    }

    /// A drained node is emptied and repaired.
    fn take_for_repair(&mut self, now: Timestamp, node: NodeIx, course: &mut Course) {
        let ill = self.ill.remove(&node);
        for job in course.on_node(node) {
            let stopped = course.state.job(job).is_some_and(|work| matches!(work.phase, Phase::Running { .. }));
            course.evacuate(now, job);
            if let Some(ill) = ill {
                self.counts.causes[ill.cause].jobs += u64::from(stopped);
            }
        }
        course.slow_down(now, node, Ppm::ONE);
        let until = now + ill.map_or(self.model.look, |ill| ill.repair);
        self.out.insert(node, Out { since: now, until, lost: false, drained: true });
        self.expect(until, Pending::Repaired { node });
    }

    /// A node is sound again, unless it has failed anew meanwhile.
    fn repaired(&mut self, now: Timestamp, node: NodeIx, course: &mut Course) {
        let Some(out) = self.out.get(&node).copied().filter(|out| out.until <= now) else { return };
        self.out.remove(&node);
        self.counts.out.0 += out_time(&self.fleet, node, out.since, now);
        if out.lost {
            course.tell(now, Event::NodeReturned { node });
        }
        if out.drained {
            course.tell(now, Event::NodeResumed { node });
        }
    }

    /// Takes note of what the policy decided.
    pub(crate) fn heed(&mut self, now: Timestamp, course: &mut Course) {
        let decided = std::mem::take(&mut course.decided);
        for fact in &decided {
            match fact.event {
                Event::NodeDrained { node, .. } => self.drained(now, node, course),
                Event::JobHeld { .. } => self.counts.held += 1,
                _ => {}
            }
        }
        course.decided = decided;
    }

    /// What failures did, up to an instant.
    pub(crate) fn finish(mut self, now: Timestamp) -> FailureCounts {
        for (node, out) in &self.out {
            self.counts.out.0 += out_time(&self.fleet, *node, out.since, now);
        }
        self.counts
    }
}

fn chip_milli(fleet: &Fleet, node: NodeIx) -> u64 {
    u64::from(fleet.kind(fleet.nodes[node.ix()]).chips) * 1000
}

fn out_time(fleet: &Fleet, node: NodeIx, since: Timestamp, until: Timestamp) -> i128 {
    i128::from(chip_milli(fleet, node)) * i128::from((until - since).as_millis().max(0))
}

fn domains_of(fleet: &Fleet, level: offtake_fleet::LevelIx) -> Vec<DomainIx> {
    let domains = fleet.domains.iter().zip((0..).map(DomainIx));
    domains.filter(|(domain, _)| domain.level == level).map(|(_, ix)| ix).collect()
}

fn weights(class: &FailureClass) -> u64 {
    class.causes.iter().map(|cause| u64::from(cause.weight)).sum()
}

/// The cause at a place in the row of all weights.
fn chosen(class: &FailureClass, mut place: u64) -> (usize, &Cause) {
    for (index, cause) in class.causes.iter().enumerate() {
        match place.checked_sub(u64::from(cause.weight)) {
            Some(rest) => place = rest,
            None => return (index, cause),
        }
    }
    (class.causes.len() - 1, &class.causes[class.causes.len() - 1])
}
