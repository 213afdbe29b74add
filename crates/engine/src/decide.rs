//! One scheduling pass: admit → scale → place. Each proposal is applied as it is made, so a pass costs what it touches;
//! a second pass at the same instant proposes nothing.

use std::sync::Arc;

use offtake_fleet::NodeIx;
use offtake_units::Timestamp;

use crate::capacity::{LimitIx, Withheld};
use crate::fact::{Event, Fact, JobId, Placement};
use crate::place::{Placing, ShapeIx, could_help, fits};
use crate::policy::Queue as Discipline;
use crate::preempt;
use crate::queue::{Blocked, LaneIx};
use crate::request::Shape;
use crate::state::{Hold, Phase, State, kinds_of, standing};

/// Decides everything that can be decided at `now`; appends what it decided to `facts`, and has applied it.
pub fn decide(state: &mut State, now: Timestamp, facts: &mut Vec<Fact>) {
    state.advance(now);
    admit(state, facts);
    preempt::look_again(state);
    scale(state, facts);
    match state.policy.queue {
        Discipline::Fifo => in_order(state, facts),
        Discipline::Backfill => with_backfill(state, facts),
    }
    state.freed = Some(Vec::new());
}

/// Jobs that can never run are refused.
fn admit(state: &mut State, facts: &mut Vec<Fact>) {
    while let Some(job) = state.to_reject.front().copied() {
        let Some(Phase::Refused(reason)) = state.job(job).map(|work| work.phase.clone()) else {
            state.to_reject.pop_front();
            continue;
        };
        propose(state, facts, Event::JobRejected { job, reason });
    }
}

/// Services get the replicas that they want: new ones wait for a place like any job; of too many, those that still wait
/// go first, then the youngest.
fn scale(state: &mut State, facts: &mut Vec<Fact>) {
    let services: Vec<_> = state.services.keys().copied().collect();
    for service in services {
        loop {
            let known = &state.services[&service];
            let (have, wanted) = (known.replicas.len(), known.wanted as usize);
            if have < wanted {
                let replica = state.next_replica();
                propose(state, facts, Event::ReplicaAdded { service, replica });
            } else if have > wanted {
                let waits = |replica: &&JobId| state.pending_shape(**replica).is_some();
                let waiting =
                    if state.may_wait(&known.replica) { known.replicas.iter().rev().find(waits) } else { None };
                let Some(replica) = waiting.or(known.replicas.last()).copied() else { break };
                propose(state, facts, Event::ReplicaRetired { service, replica });
            } else {
                break;
            }
        }
    }
}

/// Strict order: whoever is first and does not fit holds everybody up.
fn in_order(state: &mut State, facts: &mut Vec<Fact>) {
    wake_due(state);
    while let Some(lane) = state.queue.head() {
        if state.queue.lane(lane).parked.is_some() {
            return;
        }
        if !try_first(state, lane, facts) && !try_own_hold(state, lane, facts) {
            preempt::make_room(state, lane, facts);
            let why = blocked_by(state, lane);
            state.queue.park(lane, why);
        }
    }
}

/// EASY backfill: the first blocked job of each pool of nodes gets a hold at its earliest start; others go first where
/// they delay no hold.
fn with_backfill(state: &mut State, facts: &mut Vec<Fact>) {
    wake_due(state);
    loop {
        if state.holds_stale {
            keep_holds(state, facts);
        }
        let Some(lane) = state.queue.next() else { return };
        let entry = state.queue.lane(lane);
        let (key, only_freed) = (entry.key, entry.only_freed);
        let may = |state: &State, held| !only_freed || state.freed_helps(key, held);
        let progress = (may(state, false) && try_first(state, lane, facts))
            || try_own_hold(state, lane, facts)
            || (may(state, true) && try_under_hold(state, lane, facts));
        if !progress {
            preempt::make_room(state, lane, facts);
            let why = blocked_by(state, lane);
            state.queue.park(lane, why);
            state.holds_stale |= lacks_hold(state, lane);
        }
    }
}

/// Jobs whose holds have begun are tried.
fn wake_due(state: &mut State) {
    let now = state.now();
    let due: Vec<JobId> = state.holds().iter().filter(|hold| hold.start <= now).map(|hold| hold.job).collect();
    due.into_iter().for_each(|job| state.wake_job(job));
}

pub(crate) fn propose(state: &mut State, facts: &mut Vec<Fact>, event: Event) {
    let fact = Fact { at: state.now(), event };
    state.apply(&fact);
    facts.push(fact);
}

/// Places the first job of a lane on what no hold keeps.
fn try_first(state: &mut State, lane: LaneIx, facts: &mut Vec<Fact>) -> bool {
    let Some(first) = state.queue.lane(lane).first() else { return false };
    try_job(state, first.job, state.queue.lane(lane).key.shape, facts)
}

fn try_job(state: &mut State, job: JobId, shape_ix: ShapeIx, facts: &mut Vec<Fact>) -> bool {
    let shape = Arc::clone(state.shape(shape_ix));
    let Some(placement) = place(state, shape_ix, &shape, job) else { return false };
    if state.holds.iter().any(|hold| hold.job == job) {
        propose(state, facts, Event::HoldReleased { job });
    }
    begin(state, facts, job, Arc::new(placement));
    true
}

/// A job starts whose nodes the attempt itself has occupied: the rest of the fold follows.
fn begin(state: &mut State, facts: &mut Vec<Fact>, job: JobId, placement: Arc<Placement>) {
    state.start(job, &placement);
    facts.push(Fact { at: state.now(), event: Event::JobPlaced { job, placement } });
}

pub(crate) fn place(state: &mut State, shape_ix: ShapeIx, shape: &Shape, job: JobId) -> Option<Placement> {
    state.see_as(job);
    let State { capacity, policy, scores, mix, .. } = state;
    Placing::new(capacity, policy, scores, mix, job).place(shape_ix, shape)
}

/// Places the first job of a lane where its hold said once that is due; elsewhere if work has outrun its expected end.
fn try_own_hold(state: &mut State, lane: LaneIx, facts: &mut Vec<Fact>) -> bool {
    let Some(first) = state.queue.lane(lane).first() else { return false };
    let (job, shape, now) = (first.job, state.queue.lane(lane).key.shape, state.now());
    let Some(hold) = state.holds.iter().find(|hold| hold.job == job && hold.is_ripe(now)) else { return false };
    let placement = Arc::clone(&hold.placement);
    propose(state, facts, Event::HoldReleased { job });
    if !state.settle(job, shape, &placement) {
        return try_first(state, lane, facts);
    }
    begin(state, facts, job, placement);
    true
}

/// Places a job of a lane that ends before some hold begins on the nodes that the hold keeps.
fn try_under_hold(state: &mut State, lane: LaneIx, facts: &mut Vec<Fact>) -> bool {
    let shape_ix = state.queue.lane(lane).key.shape;
    let now = state.now();
    for index in 0..state.holds.len() {
        let hold = &state.holds[index];
        let Some(short) = state.queue.lane(lane).first_within(hold.start - now) else { continue };
        if short.job == hold.job {
            continue;
        }
        let nodes: Vec<NodeIx> = hold.nodes.iter().flat_map(|range| range.numbers()).map(NodeIx).collect();
        let shape = Arc::clone(state.shape(shape_ix));
        let room = |node: &NodeIx| {
            let free = &state.capacity.class_of(*node).vector;
            shape.gangs.iter().any(|gang| gang.kinds.iter().any(|(kind, _)| *kind == free.kind) && fits(free, gang, 1))
        };
        if !hold.keeps_power() && !nodes.iter().any(room) {
            continue;
        }
        state.lift_hold(index);
        let placed = place(state, shape_ix, &shape, short.job);
        state.lay_hold(index);
        if let Some(placement) = placed {
            begin(state, facts, short.job, Arc::new(placement));
            return true;
        }
    }
    false
}

/// Why the first job of a lane waits.
fn blocked_by(state: &State, lane: LaneIx) -> Blocked {
    let shape = state.shape(state.queue.lane(lane).key.shape);
    let needy = shape.gangs.iter().flat_map(|gang| gang.kinds.iter().map(move |(kind, _)| (gang, *kind)));
    for (gang, kind) in needy {
        if let Some(limit) = state.capacity.tight_limit(kind, u32::from(gang.whole_chips().max(1)) * gang.workers) {
            return Blocked::Power(limit);
        }
    }
    Blocked::Room
}

/// Whether the first job of a parked lane should have a hold: no job before it holds nodes of a kind that it may use.
fn lacks_hold(state: &State, lane: LaneIx) -> bool {
    let entry = state.queue.lane(lane);
    let Some(first) = entry.first() else { return false };
    let mine = standing(entry);
    let before = |hold: &Hold| state.standing_of(hold.job).is_some_and(|other| other <= mine);
    !state.start_unknown.contains(&first.job)
        && !state.holds.iter().any(|hold| before(hold) && overlap(state, hold, entry.key.shape))
}

fn overlap(state: &State, hold: &Hold, shape: ShapeIx) -> bool {
    state.pending_shape(hold.job).is_some_and(|other| {
        let mine = state.shape(shape);
        kinds_of(state.shape(other)).any(|kind| kinds_of(mine).any(|other| other == kind))
    })
}

/// Sees to it that the first blocked job of each pool of nodes has its hold, as far as its turn has come.
fn keep_holds(state: &mut State, facts: &mut Vec<Fact>) {
    state.holds_stale = false;
    let next = state.queue.next().map(|lane| standing(state.queue.lane(lane)));
    let turn_has_come = |lane: &LaneIx| next.is_none_or(|next| standing(state.queue.lane(*lane)) < next);
    let lanes: Vec<LaneIx> = state.queue.parked_in_order().take_while(turn_has_come).collect();
    for lane in lanes {
        if !lacks_hold(state, lane) {
            continue;
        }
        let (shape_ix, first) = (state.queue.lane(lane).key.shape, state.queue.lane(lane).first());
        let Some(job) = first.map(|first| first.job) else { continue };
        // A stronger job takes over the pool from weaker ones.
        let weaker: Vec<JobId> = state
            .holds
            .iter()
            .filter(|hold| overlap(state, hold, shape_ix) && !state.is_being_emptied(hold))
            .map(|hold| hold.job)
            .collect();
        weaker.into_iter().for_each(|job| propose(state, facts, Event::HoldReleased { job }));
        match earliest_start(state, shape_ix, job) {
            Some((start, placement, extra)) => {
                let placement = Arc::new(placement);
                propose(state, facts, Event::HoldPlaced { job, start, placement, extra });
            }
            None => {
                state.start_unknown.insert(job);
            }
        }
    }
}

/// A start in the future: when, where, and what may be drawn more then under each cap.
pub(crate) type Start = (Timestamp, Placement, Vec<(LimitIx, i64)>);

/// When a blocked job can start if running work ends when it is expected to, and on which nodes. Running work is taken
/// out in the order of its ends until the job fits, and put back.
///
/// Work that has outrun its expected end has none any more.
pub(crate) fn earliest_start(state: &mut State, shape_ix: ShapeIx, job: JobId) -> Option<Start> {
    let shape = Arc::clone(state.shape(shape_ix));
    let now = state.now();
    let ends: Vec<(Timestamp, JobId)> = state.ends().filter(|(end, _)| *end > now).collect();
    let mut gone: Vec<(JobId, ShapeIx, Arc<Placement>)> = Vec::new();
    let mut found = None;
    let watch = state.capacity.pause_watch();
    state.see_as(job);
    for (end, other) in ends {
        let Some(Phase::Running { shape: other_shape, placement, .. }) = state.job(other).map(|work| &work.phase)
        else {
            continue;
        };
        let (other_shape, placement) = (*other_shape, Arc::clone(placement));
        let fleet = state.fleet();
        let mut nodes: Vec<NodeIx> = placement.slots().flat_map(|slot| slot.nodes.numbers()).map(NodeIx).collect();
        if !nodes.iter().any(|node| kinds_of(&shape).any(|kind| kind == fleet.nodes[node.ix()].kind)) {
            continue;
        }
        state.vacate(other_shape, &placement);
        state.leave(other, &placement);
        gone.push((other, other_shape, placement));
        let fleet = state.fleet();
        let is = |node: &NodeIx, why| state.capacity.is_withheld(*node, why);
        // One node of each stretch in one domain stands for the others.
        nodes.dedup_by_key(|node| {
            let like = fleet.nodes[node.ix()];
            (like.domain, like.kind, is(node, Withheld::Out), is(node, Withheld::Tenant))
        });
        // Where other tenants stay, only watts can have come free.
        let helps = |node: &NodeIx| match is(node, Withheld::Tenant) {
            true => state.capacity.is_under_a_cap(*node),
            false => shape.gangs.iter().any(|gang| could_help(&state.capacity, gang, *node)),
        };
        if nodes.iter().any(helps)
            && let Some(trial) = place(state, shape_ix, &shape, job)
        {
            let extra = state.left_with(shape_ix, &trial);
            state.vacate(shape_ix, &trial);
            found = Some((end, trial, extra));
            break;
        }
    }
    for (other, shape, placement) in gone.iter().rev() {
        state.occupy(*shape, placement);
        state.enter(*other, placement);
    }
    state.capacity.resume_watch(&watch);
    found
}
