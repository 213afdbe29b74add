//! Moves that open a block for a gang that waits: shown as a plan, and carried out where somebody says so.

use offtake_engine::{Defragmentation, JobId, NodeRange, Phase, Placement, State, carry_out_moves};
use offtake_fleet::{DomainIx, Fleet, NodeIx};
use offtake_protocol::rest::{Defrag, DefragMove, DefragPlan, Problem};
use offtake_units::Timestamp;

use super::access::{problem, unknown_job};
use super::what_if::Fork;
use super::{Answer, Core};

/// Lanes whose first job is planned for, where nobody names one.
const MOST_PLANNED: usize = 16;

/// Nodes that are named of each placement.
const MOST_NODES: usize = 64;

impl Fork {
    /// Moves that would open a block for a job, or for those that are first in line.
    ///
    /// # Errors
    /// When the job does not wait.
    pub fn defrag(mut self, job: Option<u64>) -> Result<Defrag, Problem> {
        let asked = asked(&self.state, job)?;
        let found: Vec<Defragmentation> =
            asked.into_iter().filter_map(|job| self.state.defragmentation_for(job)).collect();
        let name = |job: u64| self.names.get(&job).cloned().unwrap_or_default();
        Ok(Defrag { plans: found.iter().map(|plan| describe(&self.state, plan, name)).collect() })
    }
}

impl Core {
    /// Carries out the moves that win more than they lose, for a job, or for those that are first in line.
    ///
    /// # Errors
    /// When the named job does not wait, nobody can be moved for it, or that would lose more than it wins.
    pub(super) fn defrag(&mut self, job: Option<u64>) -> Result<Answer, Problem> {
        let mut plans = Vec::new();
        for asked in asked(&self.state, job)? {
            let Some(plan) = self.state.defragmentation_for(asked) else {
                let Some(named) = job else { continue };
                let detail =
                    format!("nobody can be moved so that job {named} starts sooner; `why` says what it waits for");
                return Err(problem(409, "nothing_to_move", detail));
            };
            if !plan.pays() {
                let Some(named) = job else { continue };
                let detail = format!(
                    "the moves for job {named} would lose {} chip-seconds and win {}; they are carried out only where more is won than lost",
                    plan.cost / 1000,
                    plan.gain.unwrap_or(0) / 1000
                );
                return Err(problem(409, "does_not_pay", detail));
            }
            let name = |job: u64| self.records.get(&job).map(|record| record.spec.name.clone()).unwrap_or_default();
            plans.push(describe(&self.state, &plan, name));
            let mut facts = Vec::new();
            carry_out_moves(&mut self.state, plan, &mut facts);
            self.book(&mut facts);
        }
        Ok(Answer::Defrag(Box::new(Defrag { plans })))
    }
}

/// Whom to plan for.
fn asked(state: &State, job: Option<u64>) -> Result<Vec<JobId>, Problem> {
    let Some(job) = job else { return Ok(state.first_in_line(MOST_PLANNED)) };
    let Some(work) = state.job(JobId(job)) else { return Err(unknown_job(job)) };
    match work.phase {
        Phase::Pending(_) => Ok(vec![JobId(job)]),
        Phase::Refused(_) | Phase::Held(_) | Phase::Running { .. } => {
            let detail =
                format!("job {job} does not wait for room: it is on hold, has its nodes already, or never fits");
            Err(problem(409, "not_waiting", detail))
        }
    }
}

fn describe(state: &State, plan: &Defragmentation, name: impl Fn(u64) -> String) -> DefragPlan {
    let fleet = state.fleet();
    let job = plan.job.map_or(0, |job| job.0);
    let moves = plan.moves.iter().map(|one| DefragMove {
        job: one.job.0,
        name: name(one.job.0),
        chip_milli: state.job(one.job).map_or(0, |work| one.from.chip_milli(&work.spec)),
        from: named(fleet, &one.from),
        to: named(fleet, &one.to),
    });
    DefragPlan {
        job,
        name: name(job),
        opens: around(fleet, &plan.opened.nodes()).map(|domain| shown(fleet, domain)).unwrap_or_default(),
        nodes: named(fleet, &plan.opened),
        moves: moves.collect(),
        cost_chip_ms: plan.cost,
        gain_chip_ms: plan.gain.unwrap_or(0),
        pays: plan.pays(),
        start_ms: plan.start.as_millis(),
        start_otherwise_ms: plan.otherwise.map(Timestamp::as_millis),
    }
}

/// The names of the first nodes of a placement.
fn named(fleet: &Fleet, placement: &Placement) -> Vec<String> {
    let nodes = placement.nodes().into_iter().flat_map(NodeRange::numbers);
    nodes.take(MOST_NODES).map(|node| fleet.node_name(NodeIx(node))).collect()
}

/// A domain with the name of its level.
fn shown(fleet: &Fleet, domain: DomainIx) -> String {
    format!("{} {}", fleet.levels[fleet.domains[domain.ix()].level.ix()], fleet.path(domain))
}

/// The innermost domain around all of some nodes.
fn around(fleet: &Fleet, nodes: &[NodeRange]) -> Option<DomainIx> {
    let (first, last) = (nodes.first()?.numbers().start, nodes.last()?.numbers().end);
    let mut domain = fleet.nodes[first as usize].domain;
    while !fleet.domains[domain.ix()].nodes.contains(&(last - 1)) {
        domain = fleet.domains[domain.ix()].parent?;
    }
    Some(domain)
}
