//! One scheduling pass: admit → scale → place → evacuate. Each proposal is applied as it is made, so a pass costs what
//! it touches; a second pass at the same instant proposes nothing.

use std::cmp::Reverse;
use std::collections::{BTreeSet, BinaryHeap};
use std::sync::Arc;

use offtake_fleet::{DomainIx, NodeIx, NodeKindIx, SiteIx};
use offtake_units::Timestamp;

use crate::blast::within_radii;
use crate::capacity::LimitIx;
use crate::crossing;
use crate::curtail;
use crate::elastic;
use crate::evacuation::evacuate;
use crate::fact::{Event, Fact, JobId, Placement};
use crate::health;
use crate::place::{Placing, ShapeIx, fits};
use crate::plan::earliest_start;
use crate::policy::Queue as Discipline;
use crate::preempt;
use crate::queue::{Blocked, LaneIx, Turn, Waiting};
use crate::ramp::{steps, where_borne};
use crate::request::Shape;
use crate::reserve;
use crate::state::{Hold, Phase, State, kinds_of};

/// Decides everything that can be decided at `now`; appends what it decided to `facts`, and has applied it.
pub fn decide(state: &mut State, now: Timestamp, facts: &mut Vec<Fact>) {
    state.advance(now);
    state.rank_tenants();
    state.notice_the_late();
    state.look_at_ramps();
    expect_more(state, facts);
    admit(state, facts);
    health::judge(state, facts);
    reserve::keep_windows(state, facts);
    curtail::keep_curtailments(state, facts);
    curtail::curtail(state, facts);
    crossing::cross(state, facts);
    preempt::look_again(state);
    loop {
        scale(state, facts);
        // What a service gives up is power for others; what stops in time may be a replica.
        curtail::restore(state, facts);
        curtail::end_pauses(state, facts);
        if curtail::prepare(state, facts) {
            continue;
        }
        match state.policy.queue {
            Discipline::Fifo => in_order(state, facts),
            Discipline::Backfill => with_backfill(state, facts),
        }
        // Whether a replica leaves a drained node depends on whether another has found its place.
        if !evacuate(state, facts) {
            break;
        }
    }
    state.open_for(None);
    elastic::grow(state, facts);
    state.settle_queue();
    state.freed = Some(Vec::new());
}

/// Work that has outlasted what was expected of it is expected to go on for longer.
fn expect_more(state: &mut State, facts: &mut Vec<Fact>) {
    for (job, ends) in state.outlasting() {
        propose(state, facts, Event::EstimateCorrected { job, ends });
    }
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
    state.look_under_all();
    let services: Vec<_> = state.services.keys().copied().collect();
    for service in services {
        while let Some(step) = state.next_step_of(service) {
            propose(state, facts, step);
        }
    }
}

/// Strict order: whoever is first and does not fit holds everybody up.
fn in_order(state: &mut State, facts: &mut Vec<Fact>) {
    wake_due(state);
    state.notice_quota();
    while let Some(lane) = state.head_lane() {
        if !state.queue.is_awake(lane) {
            return;
        }
        if state.lane_awaits_window(lane) {
            await_window(state, lane);
            continue;
        }
        open(state, lane);
        if !try_first(state, lane, facts) && !try_first_hold(state, lane, facts) && !await_ramp(state, lane) {
            preempt::make_room(state, lane, facts);
            park(state, lane);
            crossing::begin_to_wait(state, lane, facts);
        }
    }
}

/// Backfill: the first blocked jobs hold capacity from their earliest starts on; others go first where they delay none.
fn with_backfill(state: &mut State, facts: &mut Vec<Fact>) {
    wake_due(state);
    loop {
        state.notice_quota();
        while state.holds_stale {
            keep_holds(state, facts);
        }
        let Some(lane) = state.next_lane() else {
            if state.promise_anew() {
                continue;
            }
            return;
        };
        if state.lane_awaits_window(lane) {
            await_window(state, lane);
            continue;
        }
        open(state, lane);
        let (key, needs_freed) = (state.queue.lane(lane).key, state.queue.needs_freed(lane));
        let may = |state: &State, under_holds| !needs_freed || state.freed_helps(key, under_holds);
        let progress = (may(state, false) && try_first(state, lane, facts))
            || try_own_holds(state, lane, facts)
            || (may(state, true) && try_under_holds(state, lane, facts));
        if progress {
            // The next of the lane may have waited too long as well, and lack the quota to be tried.
            state.promise_quota(lane);
        } else if !await_ramp(state, lane) {
            preempt::make_room(state, lane, facts);
            park(state, lane);
            let is_used_up = !may(state, true) && (!state.queue.lane(lane).lacked_quota || !may(state, false));
            if needs_freed && is_used_up && state.sees_what_all_see(lane) {
                state.queue.use_up(key.shape);
            }
            state.holds_stale = state.holds_stale || lacks_hold(state, lane);
            crossing::begin_to_wait(state, lane, facts);
        }
    }
}

/// A lane waits until its reservation begins.
fn await_window(state: &mut State, lane: LaneIx) {
    state.queue.park(lane, Blocked::Reservation, false);
    state.queue.failed(lane, None);
}

/// A lane waits until its site takes on more, where its first job lacks nothing else.
fn await_ramp(state: &mut State, lane: LaneIx) -> bool {
    let first = state.queue.lane(lane).first();
    let Some(site) = first.and_then(|first| state.kept_by_ramp(first.job)) else { return false };
    state.queue.park(lane, Blocked::Ramp(site), false);
    state.queue.failed(lane, None);
    true
}

/// The jobs of a lane may use what is reserved for them.
fn open(state: &mut State, lane: LaneIx) {
    let entry = state.queue.lane(lane);
    state.open_for(entry.first().filter(|_| entry.key.reservation.is_some()).map(|first| first.job));
}

/// A lane waits until something happens that could help it.
fn park(state: &mut State, lane: LaneIx) {
    let (why, could_use_quota) = (blocked_by(state, lane), state.could_use_quota(lane));
    state.queue.park(lane, why, could_use_quota);
    // Where nothing that only it may or may not do made a difference, all others of its shape would fail too.
    let is_alike = !could_use_quota && state.sees_what_all_see(lane);
    let so_would = state.queue.lane(lane).shortest().filter(|_| is_alike);
    state.queue.failed(lane, so_would);
    state.promise_quota(lane);
}

/// Jobs whose holds, or the windows of whose reservations, have begun are tried.
fn wake_due(state: &mut State) {
    let now = state.now();
    let due: Vec<JobId> = state.holds().iter().filter(|hold| hold.start <= now).map(|hold| hold.job).collect();
    due.into_iter().for_each(|job| state.wake_job(job));
    state.wake_begun();
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
    if is_resized(state, job, shape_ix) {
        // What is held for it is what it was stopped for.
        return false;
    }
    let placed = place_now(state, shape_ix, &shape, job);
    // Who waits for a ramp waits for it with all workers.
    let placed = placed.or_else(|| match state.kept_by_ramp(job) {
        None => elastic::place_smaller(state, job),
        Some(_) => None,
    });
    let Some(placement) = placed else { return false };
    if state.hold_of(job).is_some() {
        propose(state, facts, Event::HoldReleased { job });
    }
    begin(state, facts, job, Arc::new(placement));
    true
}

/// Whether a job waits to start with another number of workers than it prefers, on what is held for it.
fn is_resized(state: &State, job: JobId, shape: ShapeIx) -> bool {
    let Some((place, gang, _)) = state.job(job).and_then(|work| elastic::elastic_gang(&work.spec)) else {
        return false;
    };
    let hold = state.hold_of(job).filter(|hold| state.is_ripe(hold, shape));
    hold.is_some_and(|hold| elastic::workers_of(&hold.placement.gangs[place]) != gang.workers)
}

/// A job starts whose nodes the attempt itself has occupied: the rest of the fold follows.
fn begin(state: &mut State, facts: &mut Vec<Fact>, job: JobId, placement: Arc<Placement>) {
    state.start(job, &placement);
    facts.push(Fact { at: state.now(), event: Event::JobPlaced { job, placement } });
}

/// Places a job that starts at once: at a site that takes on what it draws.
fn place_now(state: &mut State, shape_ix: ShapeIx, shape: &Shape, job: JobId) -> Option<Placement> {
    if state.ramps_are_lifted() {
        return place(state, shape_ix, shape, job);
    }
    if state.waits_behind_a_rise(job, shape) {
        return None;
    }
    let found = place(state, shape_ix, shape, job)?;
    let wanted = steps(&state.capacity, shape, &found);
    if state.can_rise(&wanted) {
        return Some(found);
    }
    state.vacate(shape_ix, &found);
    let others = (0..state.fleet().sites.len() as u32).map(SiteIx).filter(|site| !wanted.contains_key(site));
    for site in others {
        let Some(found) = place_at(state, shape_ix, shape, job, Some(site)) else { continue };
        if state.can_rise(&steps(&state.capacity, shape, &found)) {
            return Some(found);
        }
        state.vacate(shape_ix, &found);
    }
    state.await_rise(job, &wanted);
    None
}

/// Places a job where its sites stand it, whether they take on what it draws now or not.
pub(crate) fn place(state: &mut State, shape_ix: ShapeIx, shape: &Shape, job: JobId) -> Option<Placement> {
    place_at(state, shape_ix, shape, job, None)
}

fn place_at(
    state: &mut State,
    shape_ix: ShapeIx,
    shape: &Shape,
    job: JobId,
    site: Option<SiteIx>,
) -> Option<Placement> {
    if state.is_apart(job) || state.is_full(job, shape_ix) {
        return None;
    }
    // Who weighs levels may lie narrower with a part of what is kept for itself.
    let own = state.job(job).filter(|work| crossing::weighs(&work.spec)).and_then(|_| state.laid_hold_of(job));
    if let Some(own) = own {
        state.lift_hold(own);
    }
    let found = within_radii(state, job, shape, |state| {
        where_borne(state, shape, site, |state, shape, site| place_around(state, shape_ix, shape, job, site))
    });
    if let Some(own) = own {
        state.lay_hold(own);
    }
    found
}

fn place_around(
    state: &mut State,
    shape_ix: ShapeIx,
    shape: &Shape,
    job: JobId,
    site: Option<SiteIx>,
) -> Option<Placement> {
    let allowance = state.allowance(job);
    state.see_as(job);
    let mut spread = state.spread_of(job, shape);
    if let Some(site) = site {
        spread.retain(|domain| state.fleet().domains[domain.ix()].site == site);
    }
    let State { capacity, policy, scores, mix, .. } = state;
    for domain in spread {
        let placing = Placing::new(capacity, policy, scores, mix, job, allowance.clone());
        let inside = placing.inside(domain).place(shape_ix, shape);
        if inside.is_some() {
            return inside;
        }
    }
    let mut placing = Placing::new(capacity, policy, scores, mix, job, allowance);
    if let Some(site) = site {
        placing = placing.inside(DomainIx(site.0));
    }
    placing.place(shape_ix, shape)
}

/// Places the first job of a lane where its hold said once it can.
fn try_first_hold(state: &mut State, lane: LaneIx, facts: &mut Vec<Fact>) -> bool {
    let (shape, first) = (state.queue.lane(lane).key.shape, state.queue.lane(lane).first());
    let ripe = |first: &Waiting| state.hold_of(first.job).is_some_and(|hold| state.is_ripe(hold, shape));
    first.filter(ripe).is_some_and(|first| try_own_hold(state, first.job, shape, facts))
}

/// Places a job of a lane where its hold said once it can; elsewhere if work has outrun its expected end.
fn try_own_holds(state: &mut State, lane: LaneIx, facts: &mut Vec<Fact>) -> bool {
    let shape = state.queue.lane(lane).key.shape;
    let here = |hold: &Hold| {
        let work = state.job(hold.job)?;
        (work.phase == Phase::Pending(shape) && state.lane_of(shape, &work.spec) == Some(lane)).then_some(work.turn)
    };
    let mut ripe: Vec<(Turn, JobId)> = state
        .holds
        .iter()
        .filter_map(|hold| here(hold).filter(|_| state.is_ripe(hold, shape)).map(|turn| (turn, hold.job)))
        .collect();
    if !ripe.is_empty() && lacks_hold(state, lane) {
        // Who comes first gets a hold before others start earlier than theirs say.
        ripe.retain(|(_, job)| state.hold_of(*job).is_some_and(|hold| hold.start <= state.now()));
    }
    ripe.sort_unstable();
    ripe.into_iter().any(|(_, job)| try_own_hold(state, job, shape, facts))
}

fn try_own_hold(state: &mut State, job: JobId, shape: ShapeIx, facts: &mut Vec<Fact>) -> bool {
    let Some(hold) = state.hold_of(job) else { return false };
    let (placement, is_due) = (Arc::clone(&hold.placement), hold.start <= state.now());
    if !state.ramps_are_lifted() {
        let wanted = steps(&state.capacity, state.shape(shape), &placement);
        if !state.can_rise(&wanted) {
            state.await_rise(job, &wanted);
            return false;
        }
    }
    if state.job(job).is_some_and(|work| crossing::weighs(&work.spec)) && !is_resized(state, job, shape) {
        // What is kept for it may be wider than what has come free since.
        let of = Arc::clone(state.shape(shape));
        if let Some(placement) = place_now(state, shape, &of, job) {
            propose(state, facts, Event::HoldReleased { job });
            begin(state, facts, job, Arc::new(placement));
            return true;
        }
    }
    if state.settle(job, shape, &placement) {
        propose(state, facts, Event::HoldReleased { job });
        begin(state, facts, job, placement);
        return true;
    }
    if !is_due {
        return false;
    }
    propose(state, facts, Event::HoldReleased { job });
    try_job(state, job, shape, facts)
}

/// Places a job of a lane on nodes kept for later: the first for which what is kept from its end on is not in the way.
fn try_under_holds(state: &mut State, lane: LaneIx, facts: &mut Vec<Fact>) -> bool {
    let now = state.now();
    let Some(shortest) = state.queue.lane(lane).shortest() else { return false };
    let mut starts: Vec<Timestamp> = state.holds.iter().map(|hold| hold.start).collect();
    starts.retain(|start| shortest <= *start - now);
    starts.sort_unstable();
    starts.dedup();
    // The later what is in the way begins, the more jobs may be tried, and the earlier the turn of the first of them.
    let mut best = None;
    let (mut low, mut high) = (0, starts.len());
    while low < high {
        // The first try, with the least in the way, tells whether any can.
        let middle = if best.is_none() { low } else { low + (high - low) / 2 };
        match trial_until(state, lane, starts[middle]) {
            Some(found) => {
                best = Some(found);
                low = middle + 1;
            }
            None if best.is_none() => break,
            None => high = middle,
        }
    }
    state.lay_holds(|_| true);
    let Some((job, placement)) = best else { return false };
    state.occupy(state.queue.lane(lane).key.shape, &placement);
    if state.hold_of(job).is_some() {
        propose(state, facts, Event::HoldReleased { job });
    }
    begin(state, facts, job, Arc::new(placement));
    true
}

/// Where the first job of a lane that ends by an instant would go if what is kept from then on were not.
fn trial_until(state: &mut State, lane: LaneIx, until: Timestamp) -> Option<(JobId, Placement)> {
    let shape_ix = state.queue.lane(lane).key.shape;
    let short = state.queue.lane(lane).first_within(until - state.now())?;
    let shape = Arc::clone(state.shape(shape_ix));
    let room = |node: u32| {
        let free = &state.capacity.class_of(NodeIx(node)).vector;
        shape.gangs.iter().any(|gang| gang.kinds.iter().any(|(kind, _)| *kind == free.kind) && fits(free, gang, 1))
    };
    let mut later = state.holds.iter().filter(|hold| hold.start >= until);
    if !later.any(|hold| hold.keeps_power() || hold.nodes.iter().flat_map(|range| range.numbers()).any(room)) {
        return None;
    }
    let now = state.now();
    let latest = |state: &State, job: JobId| state.job(job).map_or(Timestamp::NEVER, |work| work.latest_end(now));
    let trial = |state: &mut State, job: JobId| {
        // No window is entered by work that may still be there when it begins, whatever is expected of it.
        let end = latest(state, job);
        state.lay_holds(|hold| hold.start < until || (hold.job.is_window() && hold.start < end));
        let placement = place_now(state, shape_ix, &shape, job)?;
        state.vacate(shape_ix, &placement);
        Some((job, placement))
    };
    if let Some(found) = trial(state, short.job) {
        return Some(found);
    }
    // Who may run for longer than is expected of it is in the way of none that may not.
    if latest(state, short.job) <= until {
        return None;
    }
    let few = state.queue.lane(lane).first_few(MOST_LOOKED_AT);
    let sure = few.map(|waiting| waiting.job).find(|job| latest(state, *job) <= until)?;
    trial(state, sure)
}

/// Jobs of one lane that are looked at for one that is sure to end in time.
const MOST_LOOKED_AT: usize = 64;

/// Why the first job of a lane waits.
fn blocked_by(state: &State, lane: LaneIx) -> Blocked {
    if let Some(why) = state.not_allowed(lane) {
        return why;
    }
    let shape = state.shape(state.queue.lane(lane).key.shape);
    let needy = shape.gangs.iter().flat_map(|gang| gang.kinds.iter().map(move |(kind, _)| (gang, *kind)));
    for (gang, kind) in needy {
        if let Some(limit) = state.capacity.tight_limit(kind, u32::from(gang.whole_chips().max(1)) * gang.workers) {
            return Blocked::Power(limit);
        }
    }
    Blocked::Room
}

/// Whether the first job of a parked lane should have a hold: it waits for more than quota, and fewer before it than may
/// have one hold nodes of each kind that it may use.
fn lacks_hold(state: &State, lane: LaneIx) -> bool {
    let entry = state.queue.lane(lane);
    let Some(first) = entry.first().filter(|_| entry.key.reservation.is_none()) else { return false };
    let awaits_ramp = matches!(entry.parked, Some(Blocked::Ramp(_)));
    if awaits_ramp || state.start_unknown.contains(&first.job) || state.lacks_quota(lane) {
        return false;
    }
    let most = state.policy.most_holds();
    let mine = state.standing(lane);
    let is_before = |hold: &&Hold| state.standing_of(hold.job).is_some_and(|other| other <= mine);
    kinds_of(state.shape(entry.key.shape)).all(|kind| {
        let is_on_kind = |hold: &&Hold| {
            let shape = state.pending_shape(hold.job);
            shape.is_some_and(|shape| kinds_of(state.shape(shape)).any(|other| other == kind))
        };
        // Who stands where matters only where there are so many.
        let on_kind = || state.holds.iter().filter(is_on_kind);
        on_kind().count() < most || on_kind().filter(is_before).count() < most
    })
}

/// Sees to it that the first blocked jobs have their holds, as far as their turn has come.
fn keep_holds(state: &mut State, facts: &mut Vec<Fact>) {
    state.holds_stale = false;
    for (job, shape_ix) in lacking(state) {
        match earliest_start(state, shape_ix, job) {
            Some((start, placement, extra)) => {
                let yielding = yielding(state, job, shape_ix, start, &placement, &extra);
                yielding.into_iter().for_each(|job| propose(state, facts, Event::HoldReleased { job }));
                let placement = Arc::new(placement);
                propose(state, facts, Event::HoldPlaced { job, start, placement, extra });
                // What is there once work has ended may be free already: a gang that shares nodes is placed worker by
                // worker, and may not have found it.
                if state.hold_of(job).is_some_and(|hold| state.is_ripe(hold, shape_ix)) {
                    state.wake_job(job);
                }
            }
            None => {
                state.start_unknown.insert(job);
                // Perhaps the next can be told.
                state.holds_stale = true;
            }
        }
    }
    state.open_for(None);
    state.lay_holds(|_| true);
}

/// The blocked jobs that should hold capacity and do not: on each kind of node so many of the first in order, those
/// left out whose start nobody can tell.
fn lacking(state: &mut State) -> Vec<(JobId, ShapeIx)> {
    let most = state.policy.most_holds();
    let next = state.next_lane().map(|lane| state.standing(lane));
    let state = &*state;
    let mut held = vec![0; state.fleet().node_kinds.len()];
    let mut found = Vec::new();
    let mut begun = BinaryHeap::new();
    let mut rests = Vec::new();
    // What jobs of a reservation need is kept already.
    let is_parked = |lane: &LaneIx| {
        let entry = state.queue.lane(*lane);
        entry.parked.is_some_and(|why| !matches!(why, Blocked::Ramp(_))) && entry.key.reservation.is_none()
    };
    let mut lanes = state.lanes_in_order().filter(is_parked).peekable();
    loop {
        // Lanes come in the order of their first jobs; a lane's next job waits among those of the others.
        let first = lanes.peek().map(|lane| state.standing(*lane));
        let (order, rest) = match (begun.peek().copied(), first) {
            (Some(Reverse((order, rest))), first) if first.is_none_or(|first| order < first) => {
                begun.pop();
                (order, rest)
            }
            (_, Some(first)) => {
                let Some(lane) = lanes.next() else { break };
                rests.push((lane, state.queue.lane(lane).jobs().peekable()));
                (first, rests.len() - 1)
            }
            _ => break,
        };
        if next.is_some_and(|next| next <= order) || held.iter().all(|held| *held >= most) {
            break;
        }
        let (lane, jobs) = &mut rests[rest];
        let Some(waiting) = jobs.next() else { continue };
        let key = state.queue.lane(*lane).key;
        let kinds: BTreeSet<NodeKindIx> = kinds_of(state.shape(key.shape)).collect();
        if state.hold_of(waiting.job).is_none() {
            let lacks = kinds.iter().all(|kind| held[kind.ix()] < most);
            if !lacks || state.start_unknown.contains(&waiting.job) || state.lacks_quota(*lane) {
                // The same goes for those behind it.
                continue;
            }
            found.push((waiting.job, key.shape));
        }
        kinds.iter().for_each(|kind| held[kind.ix()] += 1);
        if let Some(after) = jobs.peek() {
            begun.push(Reverse((state.standing_in(key, after), rest)));
        }
    }
    found
}

/// The jobs behind another whose holds give way to that job's: they would be in its way, draw power where it does, or be
/// too many on a kind of node.
fn yielding(
    state: &State,
    job: JobId,
    shape: ShapeIx,
    start: Timestamp,
    placement: &Placement,
    extra: &[(LimitIx, i64)],
) -> Vec<JobId> {
    let Some(work) = state.job(job) else { return Vec::new() };
    let end = work.expected_end(start);
    let mine = state.standing_of(job);
    let is_behind = |hold: &Hold| state.standing_of(hold.job) > mine && !state.is_being_emptied(hold);
    let most = state.policy.most_holds();
    let mut released: BTreeSet<JobId> = state
        .holds
        .iter()
        .filter(|hold| is_behind(hold) && hold.overlaps(start, end))
        .filter(|hold| hold.meets(placement) || hold.shares_power(extra))
        .map(|hold| hold.job)
        .collect();
    for kind in kinds_of(state.shape(shape)) {
        let on_kind = |hold: &&Hold| {
            let shape = state.pending_shape(hold.job).filter(|_| !released.contains(&hold.job));
            shape.is_some_and(|shape| kinds_of(state.shape(shape)).any(|other| other == kind))
        };
        let mut held: Vec<&Hold> = state.holds.iter().filter(on_kind).collect();
        let too_many = (held.len() + 1).saturating_sub(most);
        if too_many > 0 {
            held.sort_by_cached_key(|hold| state.standing_of(hold.job));
            released.extend(held.iter().rev().take(too_many).filter(|hold| is_behind(hold)).map(|hold| hold.job));
        }
    }
    state.holds.iter().map(|hold| hold.job).filter(|job| released.contains(job)).collect()
}
