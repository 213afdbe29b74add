//! Defragmentation: work that may be stopped is moved elsewhere, so that a block comes free for a gang that needs it
//! whole.
//!
//! A plan takes the set of jobs that loses the least, of those for whom there is room elsewhere once the block is taken;
//! it is the search of preemption, only that whoever is stopped has a place to go to. It is carried out only where what
//! is won, the chips of the gang times the time that it would wait otherwise, is more than what is lost.

use std::sync::Arc;

use offtake_fleet::{LevelIx, NodeKindIx};
use offtake_units::{ChipMilli, Duration, Timestamp};
use offtake_workload::{ChipRequest, Gang, Strength, Topology};

use crate::decide::propose;
use crate::fact::{Event, Fact, JobId, Placement, StopReason};
use crate::plan::earliest_start;
use crate::preempt::{Plan, Search};
use crate::request::Shape;
use crate::state::State;

/// For a gang whose start nobody can tell: how long it is held to wait.
const HORIZON: Duration = Duration::DAY;

/// Moves that open a block.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Defragmentation {
    /// The waiting job for which it is; none for a size that somebody asked for.
    pub job: Option<JobId>,
    /// What is opened.
    pub opened: Placement,
    /// Who goes where.
    pub moves: Vec<Move>,
    /// When all have left.
    pub start: Timestamp,
    /// When the job would start otherwise; none where nobody can tell, or no job waits for it.
    pub otherwise: Option<Timestamp>,
    /// What is lost, in milliseconds of a chip.
    pub cost: u64,
    /// What is won, in milliseconds of a chip: the chips opened for as long as the job would wait longer otherwise; none
    /// where no job waits for it.
    pub gain: Option<u64>,
    plan: Plan,
}

/// A job that is stopped and starts again elsewhere.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Move {
    /// The job.
    pub job: JobId,
    /// Where it runs.
    pub from: Arc<Placement>,
    /// Where it goes.
    pub to: Placement,
}

impl Defragmentation {
    /// Whether it wins more than it loses.
    pub fn pays(&self) -> bool {
        self.gain.is_some_and(|gain| gain > self.cost)
    }
}

impl State {
    /// The first waiting job of each lane, at most so many: those for whom a block may be opened.
    pub fn first_in_line(&self, most: usize) -> Vec<JobId> {
        let lanes = self.queue().in_order().take(most);
        lanes.filter_map(|lane| self.queue().lane(lane).first()).map(|first| first.job).collect()
    }

    /// Moves that let a waiting job start, if there are any; the state is the same afterwards. There are none for a job
    /// for which work is being stopped already.
    pub fn defragmentation_for(&mut self, job: JobId) -> Option<Defragmentation> {
        let shape = self.pending_shape(job)?;
        let own = self.holds().iter().position(|hold| hold.job == job);
        if own.is_some_and(|own| self.is_being_emptied(&self.holds()[own])) {
            return None;
        }
        let otherwise = match own {
            Some(own) => Some(self.holds()[own].start),
            None => earliest_start(self, shape, job).map(|(start, ..)| start),
        };
        self.lay_holds(|_| true);
        let chips = self.shape(shape).chip_milli();
        let found = {
            own.into_iter().for_each(|own| self.lift_hold(own));
            let shape = Arc::clone(self.shape(shape));
            let found = self.moves(Some(job), &shape);
            own.into_iter().for_each(|own| self.lay_hold(own));
            found?
        };
        let waits = otherwise.unwrap_or_else(|| self.now().saturating_add(HORIZON)) - found.start;
        let gain = u128::from(chips) * waits.as_millis().max(0) as u128 / u128::from(ChipMilli::WHOLE.get());
        Some(Defragmentation { gain: Some(u64::try_from(gain).unwrap_or(u64::MAX)), otherwise, ..found })
    }

    /// Moves that free so many whole nodes of a kind in one domain of a level; the state is the same afterwards.
    pub fn defragmentation(&mut self, level: LevelIx, kind: NodeKindIx, nodes: u32) -> Option<Defragmentation> {
        let fleet = Arc::clone(self.fleet());
        let node = &fleet.node_kinds[kind.ix()];
        let gang = Gang {
            workers: nodes,
            chips: if node.chips == 0 { ChipRequest::None } else { ChipRequest::Whole(node.chips) },
            cpu: node.cpu,
            memory: node.memory,
            accelerators: fleet.accelerator(node).map(|chip| chip.name.clone()).into_iter().collect(),
            attributes: node.attributes.clone(),
            topology: Some(Topology::new(fleet.levels[level.ix()].clone(), Strength::Required)),
            per_node: None,
            ..Gang::default()
        };
        let shape = Shape::resolve(&[gang], &fleet).ok()?;
        self.moves(None, &shape)
    }

    fn moves(&mut self, job: Option<JobId>, shape: &Shape) -> Option<Defragmentation> {
        let (plan, places) = Search::of_movable(self, job).run_and_move(shape)?;
        // Nobody moves for a job to a site that does not stand it.
        if job.is_some() && !self.unborne(shape, &plan.placement).is_empty() {
            return None;
        }
        let from = |job: JobId| match self.job(job).map(|work| &work.phase) {
            Some(crate::state::Phase::Running { placement, .. }) => Some(Arc::clone(placement)),
            _ => None,
        };
        let moves = places.into_iter().filter_map(|(job, to)| Some(Move { job, from: from(job)?, to })).collect();
        let (opened, cost, start) = (plan.placement.clone(), plan.cost, plan.start);
        Some(Defragmentation { job, opened, moves, start, otherwise: None, cost, gain: None, plan })
    }
}

/// Stops whoever moves, and holds for each the nodes that it goes to, and for the job those that come free. To be called
/// on the state of which the plan was made.
pub fn carry_out(state: &mut State, defragmentation: Defragmentation, facts: &mut Vec<Fact>) {
    let Defragmentation { job, moves, plan, .. } = defragmentation;
    if let Some(job) = job
        && state.holds().iter().any(|hold| hold.job == job)
    {
        propose(state, facts, Event::HoldReleased { job });
    }
    for Move { job, .. } in &moves {
        propose(state, facts, Event::JobStopping { job: *job, reason: StopReason::Moved, by: None });
    }
    let start = plan.start;
    if let Some(job) = job {
        let placement = Arc::new(plan.placement);
        propose(state, facts, Event::HoldPlaced { job, start, placement, extra: plan.extra });
    }
    for Move { job, to, .. } in moves {
        propose(state, facts, Event::HoldPlaced { job, start, placement: Arc::new(to), extra: Vec::new() });
    }
}
