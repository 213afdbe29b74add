//! When a blocked job can start if running work ends when it is expected to, and where.
//!
//! Candidates are found by *counting*: ends of running work are looked at in order, and per domain the workers that
//! would find whole chips there are added up; until they are enough in some domain nothing has to be tried. Only then
//! the work that leaves that domain is taken out, the job placed, and all put back. The same goes for watts, by cap. Where chips and watts alone do not tell (parts of a chip, hosts,
//! several gangs, quota) running work is taken out end by end, and the job tried at each.
//!
//! Holds of jobs that stand before this one are in the way while they overlap; those of others are not.

mod count;
mod watts;

use std::collections::BTreeMap;
use std::sync::Arc;

use offtake_fleet::NodeIx;
use offtake_units::{Duration, Timestamp};
use rustc_hash::FxHashSet;

use self::count::Count;
use crate::capacity::{LimitIx, Withheld};
use crate::decide::place;
use crate::fact::{JobId, Placement};
use crate::place::{ShapeIx, could_help};
use crate::request::{Request, Shape};
use crate::state::{Hold, Phase, State, kinds_of};

/// A start in the future: when, where, and what may be drawn more then under each cap.
pub(crate) type Start = (Timestamp, Placement, Vec<(LimitIx, i64)>);

/// When a blocked job can start if running work ends when it is expected to, and on which nodes. Which holds are laid
/// afterwards is not defined.
///
/// Work that has outrun its expected end has none any more.
pub(crate) fn earliest_start(state: &mut State, shape_ix: ShapeIx, job: JobId) -> Option<Start> {
    let shape = Arc::clone(state.shape(shape_ix));
    let spec = Arc::clone(&state.job(job)?.spec);
    let longest = Duration::from_millis(i64::MAX);
    let limit = state.job(job)?.limit().unwrap_or(longest);
    let length = state.job(job)?.length().unwrap_or(longest);
    let window = state.own_window(&spec).map(|window| (window.job, window.start, window.end));
    let own_window = window.map(|(window, ..)| window);
    let heeded = heeded(state, job, own_window);
    let search = Search { shape_ix, shape, job, length, limit, own_window, heeded };
    state.see_as(job);
    state.open_for(Some(job));
    if spec.reservation.is_some() {
        let (_, start, end) = window?;
        return search.in_window(state, start, end);
    }
    let now = state.now();
    search.meet(state, now);
    // Only jobs behind this one may have been in the way.
    if let Some(found) = search.attempt(state, now) {
        return Some(found);
    }
    match search.shape.gangs.as_slice() {
        [gang] if gang.whole_chips() > 0 && !state.waits_for_quota(job) => search.by_counting(state, gang),
        _ => search.by_trying(state),
    }
}

struct Search {
    shape_ix: ShapeIx,
    shape: Arc<Shape>,
    job: JobId,
    /// How long the job is expected to run.
    length: Duration,
    /// How long it may run.
    limit: Duration,
    /// What is reserved for it.
    own_window: Option<JobId>,
    /// Holds that it has to go round where they overlap.
    heeded: FxHashSet<JobId>,
}

/// The holds of jobs that stand before one, and those that are being emptied.
fn heeded(state: &State, job: JobId, own_window: Option<JobId>) -> FxHashSet<JobId> {
    let mine = state.standing_of(job);
    let others = state.holds.iter().filter(|hold| hold.job != job && Some(hold.job) != own_window);
    let heeded = others.filter(|hold| state.standing_of(hold.job) < mine || state.is_being_emptied(hold));
    heeded.map(|hold| hold.job).collect()
}

/// Running work that is taken out for a trial.
type Gone = Vec<(JobId, ShapeIx, Arc<Placement>)>;

impl Search {
    /// Whether the job has to go round a hold.
    fn heeds(&self, hold: &Hold) -> bool {
        self.heeded.contains(&hold.job)
    }

    /// How long the job counts as being at work where a hold comes: a window is kept clear of all that it may still do.
    const fn span_before(&self, hold: &Hold) -> Duration {
        if hold.job.is_window() { self.limit } else { self.length }
    }

    /// Lays the holds that are in the way of a start at an instant, and lifts all others.
    fn meet(&self, state: &mut State, at: Timestamp) {
        let meets = |hold: &Hold| hold.overlaps(at, at.saturating_add(self.span_before(hold)));
        state.lay_holds(|hold| self.heeds(hold) && meets(hold));
    }

    /// When holds that the job has to go round are over, in order.
    fn hold_ends(&self, state: &State) -> Vec<Timestamp> {
        let over = |hold: &&Hold| hold.end != Timestamp::NEVER && hold.end > state.now() && self.heeds(hold);
        let mut ends: Vec<Timestamp> = state.holds.iter().filter(over).map(|hold| hold.end).collect();
        ends.sort_unstable();
        ends.dedup();
        ends
    }

    fn take_out(&self, state: &mut State, job: JobId, gone: &mut Gone) {
        let Some((shape, placement)) = running(state, job) else { return };
        state.vacate(shape, &placement);
        state.leave(job, &placement);
        gone.push((job, shape, placement));
    }

    fn put_back(&self, state: &mut State, gone: Gone) {
        for (job, shape, placement) in gone.iter().rev() {
            state.occupy(*shape, placement);
            state.enter(*job, placement);
        }
    }

    /// Places the job as the account stands, at an instant, and takes it out again.
    fn attempt(&self, state: &mut State, at: Timestamp) -> Option<Start> {
        let trial = place(state, self.shape_ix, &self.shape, self.job)?;
        let mut extra: BTreeMap<LimitIx, i64> = state.left_with(&self.shape, &trial).into_iter().collect();
        for hold in state.holds.iter().filter(|hold| hold.overlaps(at, at.saturating_add(Duration::from_millis(1)))) {
            if self.heeds(hold) {
                for (limit, draw) in hold.draw() {
                    extra.entry(*limit).and_modify(|left| *left -= draw);
                }
            }
        }
        state.vacate(self.shape_ix, &trial);
        Some((at, trial, extra.into_iter().collect()))
    }

    /// Tries when the window begins in which the job has to run, and as work in it ends.
    fn in_window(&self, state: &mut State, start: Timestamp, end: Timestamp) -> Option<Start> {
        let watch = state.capacity.pause_watch();
        let mut gone = Gone::new();
        let mut at = start.max(state.now());
        let mut last = (state.now(), JobId(u64::MAX));
        let mut found = None;
        while found.is_none() && at < end {
            let ended: Vec<_> = state.ends_after(last).take_while(|(ends, _)| *ends <= at).collect();
            last = ended.last().copied().unwrap_or(last);
            for (_, other) in ended {
                let meets = |(_, placement): (_, Arc<Placement>)| self.own_hold(state).map(|own| own.meets(&placement));
                if running(state, other).and_then(meets) == Some(true) {
                    self.take_out(state, other, &mut gone);
                }
            }
            self.meet(state, at);
            found = self.attempt(state, at);
            at = state.ends_after(last).next().map_or(end, |(ends, _)| ends);
        }
        self.put_back(state, gone);
        state.capacity.resume_watch(&watch);
        found
    }

    fn own_hold<'a>(&self, state: &'a State) -> Option<&'a Hold> {
        state.hold_of(self.own_window?)
    }

    /// Takes running work out end by end, and tries at each that could help.
    fn by_trying(&self, state: &mut State) -> Option<Start> {
        let watch = state.capacity.pause_watch();
        let mut gone = Gone::new();
        let mut found = None;
        let mut holds = self.hold_ends(state).into_iter().peekable();
        let mut last = (state.now(), JobId(u64::MAX));
        while found.is_none() {
            let next = state.ends_after(last).next();
            let hold = holds.next_if(|end| next.is_none_or(|(at, _)| *end <= at));
            let helps = match (hold, next) {
                (Some(_), _) => true,
                (None, Some((_, other))) => self.frees(state, other, &mut gone),
                (None, None) => break,
            };
            let at = match (hold, next) {
                (Some(at), _) => at,
                (None, next) => {
                    last = next.unwrap_or(last);
                    last.0
                }
            };
            if helps {
                self.meet(state, at);
                found = self.attempt(state, at);
            }
        }
        self.put_back(state, gone);
        state.capacity.resume_watch(&watch);
        found
    }

    /// Takes a running job out if it is on nodes that this one may use; whether what it gives back could help.
    fn frees(&self, state: &mut State, other: JobId, gone: &mut Gone) -> bool {
        let Some((_, placement)) = running(state, other) else { return false };
        let fleet = Arc::clone(state.fleet());
        let mut nodes: Vec<NodeIx> = placement.slots().flat_map(|slot| slot.nodes.numbers()).map(NodeIx).collect();
        if !nodes.iter().any(|node| kinds_of(&self.shape).any(|kind| kind == fleet.nodes[node.ix()].kind)) {
            return false;
        }
        self.take_out(state, other, gone);
        let is = |node: &NodeIx, why| state.capacity.is_withheld(*node, why);
        // One node of each stretch in one domain stands for the others.
        nodes.dedup_by_key(|node| {
            let like = fleet.nodes[node.ix()];
            (like.domain, like.kind, is(node, Withheld::Out), is(node, Withheld::Tenant))
        });
        // Where other tenants stay, only watts can have come free.
        let helps = |node: &NodeIx| match is(node, Withheld::Tenant) {
            true => state.capacity.is_under_a_cap(*node),
            false => self.shape.gangs.iter().any(|gang| could_help(&state.capacity, gang, *node)),
        };
        nodes.iter().any(helps)
    }

    /// Counts until some domain may have room, and tries there.
    fn by_counting(&self, state: &mut State, gang: &Request) -> Option<Start> {
        let mut count = Count::new(self, state, gang);
        let watch = state.capacity.pause_watch();
        let mut found = None;
        while found.is_none() {
            let Some((at, domain)) = count.next(state) else { break };
            let mut gone = Gone::new();
            for job in count.that_matter(state, domain) {
                self.take_out(state, job, &mut gone);
            }
            self.meet(state, at);
            found = self.attempt(state, at);
            self.put_back(state, gone);
        }
        state.capacity.resume_watch(&watch);
        found
    }
}

fn running(state: &State, job: JobId) -> Option<(ShapeIx, Arc<Placement>)> {
    match &state.job(job)?.phase {
        Phase::Running { shape, placement, .. } => Some((*shape, Arc::clone(placement))),
        _ => None,
    }
}
