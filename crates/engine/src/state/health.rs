//! Faults that were seen, as far back as the policy looks, and nodes that have yet to prove themselves.

use std::collections::{BTreeMap, BTreeSet};

use offtake_fleet::NodeIx;
use offtake_units::{Duration, Timestamp};
use serde::{Deserialize, Serialize};

use super::State;
use crate::fact::{Fault, JobId};
use crate::policy::Blame;

/// Faults that were seen, and what is to follow from them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Faults {
    /// By job, the nodes that failed under it, and when last. Of those that failed at one instant only the first counts:
    /// a rack that goes dark is no fault of who is on it.
    under: BTreeMap<JobId, BTreeMap<NodeIx, Timestamp>>,
    /// By node, whose work failed on it.
    on: BTreeMap<NodeIx, Vec<Victim>>,
    /// Jobs that are to be put on hold once they wait, for so many failures.
    to_hold: BTreeMap<JobId, u64>,
    /// Jobs that are on hold for that.
    held: BTreeMap<JobId, u64>,
    /// Nodes that are to be drained, and why.
    to_drain: BTreeMap<NodeIx, Suspicion>,
    /// Nodes that were drained because jobs failed on them.
    suspected: BTreeSet<NodeIx>,
}

/// Work that failed on a node. Jobs of one name and tenant are one: a sweep of a hundred with one error in it says
/// nothing of its nodes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Victim {
    tenant: String,
    name: String,
    at: Timestamp,
}

/// Why a node is to be drained.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Suspicion {
    /// Its driver told of a fault of the hardware.
    Xid(u16),
    /// So many different jobs failed on it.
    KillsJobs(u32),
}

impl Suspicion {
    /// In words, for the drain.
    pub(crate) fn reason(self) -> String {
        match self {
            Self::Xid(code) => format!("health policy: XID {code} is a fault of the hardware"),
            Self::KillsJobs(jobs) => format!("health policy: {jobs} different jobs failed on it"),
        }
    }
}

impl Faults {
    pub(crate) fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// The same with other numbers for nodes; those that are gone are forgotten.
    pub(super) fn renumbered(self, nodes: &[Option<NodeIx>]) -> Self {
        let at = |node: NodeIx| nodes.get(node.ix()).copied().flatten();
        let under = self.under.into_iter().map(|(job, failed)| {
            (job, failed.into_iter().filter_map(|(node, when)| Some((at(node)?, when))).collect())
        });
        Self {
            under: under.collect(),
            on: self.on.into_iter().filter_map(|(node, victims)| Some((at(node)?, victims))).collect(),
            to_hold: self.to_hold,
            held: self.held,
            to_drain: self.to_drain.into_iter().filter_map(|(node, why)| Some((at(node)?, why))).collect(),
            suspected: self.suspected.into_iter().filter_map(at).collect(),
        }
    }

    /// A job has ended.
    pub(super) fn forget(&mut self, job: JobId) {
        self.under.remove(&job);
        self.to_hold.remove(&job);
        self.held.remove(&job);
    }

    /// A job is put on hold; whoever releases it gives it another chance.
    pub(super) fn hold(&mut self, job: JobId) {
        if let Some(failures) = self.to_hold.remove(&job) {
            self.under.remove(&job);
            self.held.insert(job, failures);
        }
    }

    pub(super) fn release(&mut self, job: JobId) {
        self.held.remove(&job);
    }

    /// A node is drained, by whomever.
    pub(super) fn drain(&mut self, node: NodeIx) {
        self.on.remove(&node);
        if let Some(Suspicion::KillsJobs(_)) = self.to_drain.remove(&node) {
            self.suspected.insert(node);
        }
    }

    pub(super) fn resume(&mut self, node: NodeIx) {
        self.suspected.remove(&node);
    }
}

impl State {
    /// A fault showed on a node.
    pub(super) fn see_fault(&mut self, node: NodeIx, job: Option<JobId>, fault: Fault) {
        let Some(health) = self.policy.health.as_ref().filter(|_| node.ix() < self.capacity.fleet().nodes.len()) else {
            return;
        };
        let (now, since) = (self.now, self.now - health.window);
        let work = job.and_then(|job| Some((job, &self.jobs.get(&job)?.spec)));
        let blame = match fault {
            Fault::NodeLost => Blame::Node,
            Fault::WorkerFailed => Blame::Job,
            Fault::Xid(code) => health.blame(code),
        };
        let drained = self.conditions.get(&node).is_some_and(|condition| condition.drained.is_some());
        if let (Fault::Xid(code), Blame::Node, false) = (fault, blame, drained) {
            self.faults.to_drain.insert(node, Suspicion::Xid(code));
        }
        let Some((job, spec)) = work else { return };
        match blame {
            Blame::Node if health.hold_jobs_after > 0 => {
                let failed = self.faults.under.entry(job).or_default();
                failed.retain(|_, at| *at > since);
                if !failed.values().any(|at| *at == now) {
                    failed.insert(node, now);
                }
                let failures = failed.len() as u64;
                if failures >= health.most_failures(spec.chip_milli()) {
                    self.faults.to_hold.insert(job, failures);
                }
            }
            Blame::Job if health.drain_nodes_after > 0 && !drained => {
                let may_drain = self.faults.suspected.len() < self.most_suspected();
                let victims = self.faults.on.entry(node).or_default();
                victims
                    .retain(|victim| victim.at > since && (&victim.tenant, &victim.name) != (&spec.tenant, &spec.name));
                victims.push(Victim { tenant: spec.tenant.clone(), name: spec.name.clone(), at: now });
                let jobs = victims.len() as u32;
                if jobs >= health.drain_nodes_after && may_drain {
                    self.faults.to_drain.entry(node).or_insert(Suspicion::KillsJobs(jobs));
                }
                // More than that many need not be told apart.
                if jobs > health.drain_nodes_after {
                    victims.remove(0);
                }
            }
            Blame::Node | Blame::Job => {}
        }
    }

    /// How many nodes may be drained at one time because jobs failed on them.
    fn most_suspected(&self) -> usize {
        let share = self.policy.health.as_ref().map_or(0, |health| u64::from(health.most_drained.parts()));
        (self.fleet().nodes.len() as u64 * share / 1_000_000).max(1) as usize
    }

    /// Nodes that are to be drained, and why.
    pub(crate) fn to_drain(&self) -> impl Iterator<Item = (NodeIx, Suspicion)> + '_ {
        self.faults.to_drain.iter().map(|(node, why)| (*node, *why))
    }

    /// Jobs that are to be put on hold once they wait.
    pub(crate) fn to_hold(&self) -> impl Iterator<Item = JobId> + '_ {
        self.faults.to_hold.keys().copied()
    }

    /// Whether a job is to be put on hold, for the nodes that it killed.
    pub(crate) fn is_suspected(&self, job: JobId) -> bool {
        self.faults.to_hold.contains_key(&job)
    }

    /// How many failures of nodes a job is on hold for; none for a job that is not on hold for that.
    pub fn killed_nodes(&self, job: JobId) -> Option<u64> {
        self.faults.held.get(&job).copied()
    }

    /// Until when a node that joins or comes back takes no work.
    pub(super) fn proves_until(&self) -> Option<Timestamp> {
        let burn_in = self.policy.health.as_ref()?.burn_in;
        (burn_in > Duration::ZERO).then(|| self.now.saturating_add(burn_in))
    }

    /// When a node has proved itself next.
    pub fn next_proof(&self) -> Option<Timestamp> {
        self.proving.first().map(|(at, _)| *at)
    }

    /// The first node that has proved itself by now.
    pub(crate) fn proved(&self) -> Option<NodeIx> {
        self.proving.first().filter(|(at, _)| *at <= self.now).map(|(_, node)| *node)
    }

    /// Nodes that have yet to prove themselves are known from their conditions.
    pub(super) fn note_proving(&mut self) {
        let proving = self.conditions.iter().filter_map(|(node, condition)| Some((condition.proves_until?, *node)));
        self.proving = proving.collect();
    }
}
