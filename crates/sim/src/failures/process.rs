//! Failures as they come: the next of each class is drawn when the last has struck, so that one costs no more on a
//! large fleet than on a small one.
//!
//! Nothing that is drawn depends on what runs: every policy meets the same failures. A failed node takes no new work
//! from then on; what ran on it keeps its nodes until the failure is found, and does nothing meanwhile.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap};
use std::sync::Arc;

use offtake_engine::{ChipTime, Event, JobId, Phase};
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
    /// Nodes that are slow, until that is found.
    slow: BTreeMap<NodeIx, Timestamp>,
    counts: FailureCounts,
    /// Chips of the nodes before each; a node without any counts as one.
    chips_before: Vec<u64>,
}

#[derive(Clone, Copy, Debug)]
struct Out {
    since: Timestamp,
    until: Timestamp,
    drained: bool,
}

/// What will happen; what is sooner in this list goes first at one instant.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Pending {
    /// A node may be sound again.
    Repaired { node: NodeIx },
    /// A failed attempt is found out.
    Found { job: JobId, attempt: u32, cause: usize },
    /// A slow node is found out.
    SlowFound { node: NodeIx, cause: usize, repair: Duration },
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
            slow: BTreeMap::new(),
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
                Pending::Found { job, attempt, cause } => self.found(now, job, attempt, cause, course),
                Pending::SlowFound { node, cause, repair } => self.slow_found(now, node, cause, repair, course),
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
            Effect::Slow { found, repair, .. } => (found.draw(&mut clock.choices), repair.draw(&mut clock.choices)),
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
        let mut jobs: BTreeSet<JobId> = BTreeSet::new();
        for node in nodes {
            match effect {
                Effect::Application => {
                    let on = course.on_node(node);
                    jobs.extend(on.get((pick % on.len().max(1) as u64) as usize));
                    struck |= !jobs.is_empty();
                }
                Effect::Down { .. } => {
                    struck |= self.take_out(now, node, until, course);
                    jobs.extend(course.on_node(node));
                }
                Effect::Slow { speed, .. } => {
                    if self.slow.contains_key(&node) || self.out.contains_key(&node) {
                        continue;
                    }
                    struck = true;
                    let found = now + first;
                    self.slow.insert(node, found);
                    course.slow_down(now, node, *speed);
                    self.expect(found, Pending::SlowFound { node, cause, repair: second });
                }
            }
        }
        self.counts.causes[cause].struck += u64::from(struck);
        for job in jobs {
            if let Some(attempt) = course.fail(now, job) {
                self.expect(now + self.model.detect, Pending::Found { job, attempt, cause });
            }
        }
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
        if self.slow.remove(&node).is_some() {
            course.slow_down(now, node, Ppm::ONE);
        }
        self.out.insert(node, Out { since: now, until, drained: false });
        course.tell(now, Event::NodeLost { node });
        true
    }

    fn found(&mut self, now: Timestamp, job: JobId, attempt: u32, cause: usize, course: &mut Course) {
        if !course.runs(job, attempt) {
            return;
        }
        let Some(chip_milli) = course.state.job(job).map(|work| work.spec.chip_milli()) else { return };
        let ended = course.recover(now, job);
        let count = &mut self.counts.causes[cause];
        count.jobs += 1;
        let ms = i128::from(ended.rework) + i128::from(self.model.detect.as_millis());
        count.lost.0 += i128::from(chip_milli) * ms;
    }

    fn slow_found(&mut self, now: Timestamp, node: NodeIx, cause: usize, repair: Duration, course: &mut Course) {
        if self.slow.get(&node) != Some(&now) {
            return;
        }
        self.slow.remove(&node);
        course.tell(now, Event::NodeDrained { node, reason: "slow".to_owned() });
        for job in course.on_node(node) {
            let stopped = course.state.job(job).is_some_and(|work| matches!(work.phase, Phase::Running { .. }));
            course.evacuate(now, job);
            self.counts.causes[cause].jobs += u64::from(stopped);
        }
        course.slow_down(now, node, Ppm::ONE);
        let until = now + repair;
        self.out.insert(node, Out { since: now, until, drained: true });
        self.expect(until, Pending::Repaired { node });
    }

    /// A node is sound again, unless it has failed anew meanwhile.
    fn repaired(&mut self, now: Timestamp, node: NodeIx, course: &mut Course) {
        let Some(out) = self.out.get(&node).copied().filter(|out| out.until <= now) else { return };
        self.out.remove(&node);
        self.counts.out.0 += out_time(&self.fleet, node, out.since, now);
        let event = if out.drained { Event::NodeResumed { node } } else { Event::NodeReturned { node } };
        course.tell(now, event);
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
