//! Curtailment: of what is drawn over a cap that was lowered as much is given back as it takes, and the least is lost.
//!
//! Weaker tiers give before stronger ones, whatever it costs. Within a tier those give first that start again, replicas
//! above what their services need among them, then replicas that are needed, then what is lost for good. Among alike work
//! it is stopped that loses the least for the watts that it gives back: what it has not saved, and the time until it has
//! started again. Who is stopped waits at its turn, and starts again once the cap leaves it power.

use std::cmp::Reverse;

use offtake_units::Watts;
use offtake_workload::Tier;

use crate::capacity::LimitIx;
use crate::decide::propose;
use crate::fact::{Event, Fact, JobId, StopReason};
use crate::preempt::{loss, starts_again};
use crate::state::{Phase, State};

/// What gives power back under a cap.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Curtailment {
    /// Work to be stopped.
    stops: Vec<JobId>,
    /// What is drawn under the cap with no work at all, where that is more than it allows.
    least: Option<Watts>,
}

/// Work that draws power under a cap.
#[derive(Clone, Copy, Debug)]
struct Giver {
    job: JobId,
    rank: (Reverse<Tier>, Loses),
    /// What its stop loses, in milliseconds of a chip.
    loss: u64,
    /// What it gives back, in millionths of a watt.
    gives: i64,
}

/// What the stop of work means to its owner, the least first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Loses {
    /// Time: it starts again, or is one replica of more than are needed.
    Time,
    /// A replica that its service needs.
    Service,
    /// All: it never starts again.
    All,
}

/// Stops work under the caps that were lowered since the last pass, the narrowest first, as what gives way under one does
/// under those around it.
pub fn curtail(state: &mut State, facts: &mut Vec<Fact>) {
    let mut lowered: Vec<LimitIx> = std::mem::take(&mut state.lowered).into_iter().collect();
    lowered.sort_by_key(|cap| {
        let domains = state.capacity.limits()[cap.ix()].domains.iter();
        domains.map(|(domain, _)| state.fleet().domains[domain.ix()].nodes.len()).sum::<usize>()
    });
    for cap in lowered {
        let Some(Curtailment { stops, least }) = state.curtailment_under(cap) else { continue };
        for job in stops {
            propose(state, facts, Event::JobStopping { job, reason: StopReason::Curtailed });
        }
        if let Some(least) = least {
            propose(state, facts, Event::CurtailmentUnmet { cap, least });
        }
    }
}

impl State {
    /// What has to give way for a cap to hold; none where it holds, or will once what is being stopped has ended.
    fn curtailment_under(&self, cap: LimitIx) -> Option<Curtailment> {
        let limit = self.capacity.limits().get(cap.ix())?;
        let mut over = -limit.left_micro();
        if over <= 0 {
            return None;
        }
        let surplus = self.surplus_replicas();
        let mut givers = Vec::new();
        for (job, work) in self.running() {
            let Phase::Running { shape, placement, placed, since, stage, .. } = &work.phase else { continue };
            let gives = self.draw_under(cap, *shape, placement);
            if gives <= 0 {
                continue;
            }
            if stage.is_stopping() {
                over -= gives;
                continue;
            }
            let is_replica = work.spec.service.is_some();
            let loses = match () {
                () if is_replica && !surplus.contains(&job) => Loses::Service,
                () if is_replica || starts_again(&work.spec) => Loses::Time,
                () => Loses::All,
            };
            let policy = self.policy.preemption.clone().unwrap_or_default();
            let now = self.now();
            // What a replica has served is served.
            let (placed, since) = if is_replica { (now, now) } else { (*placed, *since) };
            let loss = loss(&policy, &work.spec, self.shape(*shape).chip_milli(), now - placed, now - since);
            givers.push(Giver { job, rank: (Reverse(work.spec.tier), loses), loss, gives });
        }
        if over <= 0 {
            return None;
        }
        let mut stops = Vec::new();
        givers.sort_unstable_by_key(|giver| (giver.rank, giver.job));
        for alike in givers.chunk_by(|a, b| a.rank == b.rank) {
            let chosen = cheapest(alike, over);
            over -= chosen.iter().map(|giver| giver.gives).sum::<i64>();
            stops.extend(chosen.into_iter().map(|giver| giver.job));
            if over <= 0 {
                break;
            }
        }
        stops.sort_unstable();
        let least = (over > 0).then(|| limit.capacity() + Watts::new(over.unsigned_abs().div_ceil(1_000_000) as i64));
        Some(Curtailment { stops, least })
    }
}

/// Work that gives back as much as is `needed`, all of it where that is not enough: whoever loses least for what it gives,
/// the largest of those that cost alike, as long as it is not more than is needed; and to close the gap one that is.
fn cheapest(givers: &[Giver], needed: i64) -> Vec<Giver> {
    let mut order = givers.to_vec();
    order.sort_unstable_by(|a, b| {
        let (a_cost, b_cost) = (u128::from(a.loss) * b.gives as u128, u128::from(b.loss) * a.gives as u128);
        a_cost.cmp(&b_cost).then(b.gives.cmp(&a.gives)).then(b.job.cmp(&a.job))
    });
    let (mut taken, mut rest, mut lost) = (Vec::new(), needed, 0);
    // The least that is lost in all by closing the gap with one, that one, and how many were taken before it.
    let mut best: Option<(u64, Giver, usize)> = None;
    for giver in order {
        if giver.gives >= rest {
            let all = lost + giver.loss;
            if best.is_none_or(|(least, ..)| all < least) {
                best = Some((all, giver, taken.len()));
            }
        } else if best.is_none_or(|(least, ..)| lost + giver.loss < least) {
            taken.push(giver);
            (rest, lost) = (rest - giver.gives, lost + giver.loss);
        }
    }
    let Some((_, last, before)) = best else { return taken };
    taken.truncate(before);
    taken.push(last);
    // What closes the gap may give so much that some of the others need not.
    let mut spare = taken.iter().map(|giver| giver.gives).sum::<i64>() - needed;
    taken.sort_unstable_by_key(|giver| (Reverse(giver.loss), giver.job));
    taken.retain(|giver| {
        let is_in_vain = giver.gives <= spare;
        spare -= if is_in_vain { giver.gives } else { 0 };
        !is_in_vain
    });
    taken
}
