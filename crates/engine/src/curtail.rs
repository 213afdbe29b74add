//! Curtailment: of what is drawn over a cap that was lowered, or is about to be, as much is given back as it takes, and the
//! least is lost.
//!
//! Weaker tiers give before stronger ones, whatever it costs. Within a tier those give first that start again, replicas
//! above what their services need among them, then those that would miss their deadline, then replicas that are needed, then
//! what is lost for good. Among alike work
//! it is stopped that loses the least for the watts that it gives back: what it does not save, and the time until it has
//! started again. Who is stopped waits at its turn, and starts again once the cap leaves it power.
//!
//! Of a curtailment that is announced everybody learns in time: from then on what outlasts its beginning starts only within
//! what it will leave, as if that were held for a job. Who has to be stopped is stopped as late as it can be: early enough
//! to save its work, one after the other on the storage of its site (the writes share its bandwidth), and those that have
//! nothing to save, or no time to, at the last moment.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use offtake_fleet::SiteIx;
use offtake_units::{Duration, Timestamp, Watts};
use offtake_workload::{ChipRequest, Job, Tier};

use crate::capacity::LimitIx;
use crate::decide::propose;
use crate::fact::{Curtailment, CurtailmentId, Event, Fact, JobId, Placement, StopReason};
use crate::preempt::{loss, saves, starts_again};
use crate::state::{Phase, State};

/// Who is stopped without time to save its work is told so long before its power is to be gone: for the signals, and for
/// what a host needs to end a process.
pub const LAST_MOMENT: Duration = Duration::from_secs(10);

/// Work that draws power under a cap.
#[derive(Clone, Copy, Debug)]
struct Giver {
    job: JobId,
    rank: (Reverse<Tier>, Loses),
    /// What its stop loses, in milliseconds of a chip.
    loss: u64,
    /// What it gives back, in millionths of a watt.
    gives: i64,
    /// How it saves its work first; none where it never does.
    saving: Option<Saving>,
}

/// When work is stopped, and when it can start again.
#[derive(Clone, Copy, Debug)]
struct Pause {
    /// Work that has ended by then is left alone.
    after: Timestamp,
    /// Its power is gone by then.
    from: Timestamp,
    /// There is power again; no later than it is gone where nobody knows.
    until: Timestamp,
}

impl Pause {
    /// Whether work that would end in time misses its deadline, where it has to start again.
    fn takes_beyond(self, deadline: Option<Timestamp>, ends: Timestamp, restart: Duration) -> bool {
        let lost = (self.until - self.from).max(Duration::ZERO) + restart;
        ends != Timestamp::NEVER && deadline.is_some_and(|by| ends <= by && by < ends.saturating_add(lost))
    }
}

/// What it takes to save work on the storage of a site.
#[derive(Clone, Copy, Debug)]
struct Saving {
    site: SiteIx,
    grace: Duration,
    /// With the storage to itself.
    write: Duration,
}

impl Saving {
    fn takes(self) -> Duration {
        self.grace.max(self.write)
    }
}

/// What the stop of work means to its owner, the least first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Loses {
    /// Time: it starts again, or is one replica of more than are needed.
    Time,
    /// Its deadline: it starts again too late for that.
    Deadline,
    /// A replica that its service needs.
    Service,
    /// All: it never starts again.
    All,
}

/// Curtailments begin and are over. What cannot be had is declared at once.
pub fn keep_curtailments(state: &mut State, facts: &mut Vec<Fact>) {
    let now = state.now();
    let ids: Vec<CurtailmentId> = state.curtailments.keys().copied().collect();
    for curtailment in ids {
        let Some(announced) = state.curtailments.get(&curtailment) else { continue };
        let Curtailment { cap, watts, from, until, .. } = announced.spec;
        let (begun, declared) = (announced.begun, announced.least);
        if until <= now {
            propose(state, facts, Event::CurtailmentEnded { curtailment });
            continue;
        }
        let least = state.capacity.limits()[cap.ix()].idle();
        if least > watts && declared != Some(least) {
            propose(state, facts, Event::CurtailmentUnmet { cap, least, curtailment: Some(curtailment) });
        }
        if from <= now && !begun {
            propose(state, facts, Event::CurtailmentBegan { curtailment });
        }
    }
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
        let Some(limit) = state.capacity.limits().get(cap.ix()) else { continue };
        let over = -limit.left_micro();
        if over <= 0 {
            continue;
        }
        let now = state.now();
        let begun = || state.curtailments.values().filter(|announced| announced.begun && announced.spec.cap == cap);
        let until = begun().map(|announced| announced.spec.until).max().unwrap_or(now);
        // Whoever is met by one that has just begun has had its time.
        let by = begun().map(|announced| announced.spec.from).find(|from| *from == now);
        let (stops, over) = state.relief(cap, over, Pause { after: Timestamp::EPOCH, from: now, until });
        for giver in stops {
            propose(state, facts, Event::JobStopping { job: giver.job, reason: StopReason::Curtailed, by });
        }
        let of_cap = |announced: &crate::state::Announced| announced.spec.cap == cap && announced.least.is_some();
        if over > 0 && !state.curtailments.values().any(of_cap) {
            let allowed = state.capacity.limits()[cap.ix()].capacity();
            let least = allowed + Watts::new(over.unsigned_abs().div_ceil(1_000_000) as i64);
            propose(state, facts, Event::CurtailmentUnmet { cap, least, curtailment: None });
        }
    }
}

/// Stops work in time under caps that are about to be curtailed.
pub fn prepare(state: &mut State, facts: &mut Vec<Fact>) {
    let now = state.now();
    let due = |announced: &crate::state::Announced| !announced.begun && announced.look_at.is_none_or(|at| at <= now);
    let mut ahead: Vec<(CurtailmentId, Curtailment)> = state
        .curtailments
        .iter()
        .filter(|(_, announced)| due(announced))
        .map(|(id, announced)| (*id, announced.spec.clone()))
        .collect();
    ahead.sort_by_key(|(id, spec)| (spec.from, *id));
    for (id, spec) in ahead {
        let (stops, look_at) = state.preparation(id, &spec);
        for job in stops {
            propose(state, facts, Event::JobStopping { job, reason: StopReason::Curtailed, by: Some(spec.from) });
        }
        if let Some(announced) = state.curtailments.get_mut(&id) {
            announced.look_at = Some(look_at);
        }
    }
}

impl State {
    /// Who is stopped now so that a curtailment that is to come is met, and when to look again.
    fn preparation(&self, id: CurtailmentId, spec: &Curtailment) -> (Vec<JobId>, Timestamp) {
        let time = spec.from - self.now();
        // What changes after the last look is seen when the curtailment begins.
        let last = if time > LAST_MOMENT { spec.from - LAST_MOMENT } else { spec.from };
        let left = self.hold_of(JobId::of_curtailment(id)).and_then(|hold| hold.leaves().next());
        let booked = left.map_or(0, |(_, left)| -left);
        // Shared chips are booked as if each were used alone: more than they draw together.
        let over = booked.min(self.drawn_over(spec));
        if over <= 0 {
            return (Vec::new(), last);
        }
        let (stops, _) = self.relief(spec.cap, over, Pause { after: spec.from, from: spec.from, until: spec.until });
        if time <= LAST_MOMENT {
            return (stops.into_iter().map(|giver| giver.job).collect(), last);
        }
        let (saving, lead) = saved_in(&stops, time);
        match saving.is_empty() || lead < time {
            true => (Vec::new(), last.min(spec.from - lead)),
            false => (saving, last),
        }
    }

    /// What is drawn now over what a curtailment asks for, without what ends by itself before, in millionths of a watt. Work
    /// on a part of a chip counts as if it left the chip awake.
    fn drawn_over(&self, spec: &Curtailment) -> i64 {
        let gives = |work: &crate::state::Work| match &work.phase {
            Phase::Running { shape, placement, ends, .. } if *ends <= spec.from => {
                let shares = work.spec.gangs.iter().any(|gang| matches!(gang.chips, ChipRequest::Share(_)));
                if shares { 0 } else { self.draw_under(spec.cap, *shape, placement) }
            }
            _ => 0,
        };
        let given_back: i64 = self.running().map(|(_, work)| gives(work)).sum();
        -self.capacity.limits()[spec.cap.ix()].left_of(spec.watts) - given_back
    }

    /// Work to be stopped so that `over` less is drawn under a cap, in millionths of a watt; and what is still over then.
    fn relief(&self, cap: LimitIx, over: i64, pause: Pause) -> (Vec<Giver>, i64) {
        let (mut givers, stopping) = self.givers(cap, pause);
        let mut over = over - stopping;
        let mut stops = Vec::new();
        givers.sort_unstable_by_key(|giver| (giver.rank, giver.job));
        for alike in givers.chunk_by(|a, b| a.rank == b.rank) {
            if over <= 0 {
                break;
            }
            let chosen = cheapest(alike, over);
            over -= chosen.iter().map(|giver| giver.gives).sum::<i64>();
            stops.extend(chosen);
        }
        stops.sort_unstable_by_key(|giver| giver.job);
        (stops, over)
    }

    /// Work under a cap that a pause meets, and what that gives back which is being stopped already.
    fn givers(&self, cap: LimitIx, pause: Pause) -> (Vec<Giver>, i64) {
        let policy = self.policy.preemption.clone().unwrap_or_default();
        let (surplus, now) = (self.surplus_replicas(), self.now());
        let (mut givers, mut stopping) = (Vec::new(), 0);
        for (job, work) in self.running() {
            let Phase::Running { shape, placement, placed, since, ends, stage } = &work.phase else { continue };
            if *ends <= pause.after {
                continue;
            }
            let gives = self.draw_under(cap, *shape, placement);
            if gives <= 0 {
                continue;
            }
            if stage.is_stopping() {
                stopping += gives;
                continue;
            }
            let is_replica = work.spec.service.is_some();
            let loses = match () {
                () if is_replica && !surplus.contains(&job) => Loses::Service,
                () if is_replica => Loses::Time,
                () if !starts_again(&work.spec) => Loses::All,
                () if pause.takes_beyond(work.spec.deadline, *ends, policy.restart) => Loses::Deadline,
                () => Loses::Time,
            };
            let saving = self.saving(&work.spec, placement);
            let is_saved = saving.is_some_and(|saving| saving.takes() <= pause.from - now);
            // What a replica has served is served.
            let (placed, since) = if is_replica || is_saved { (now, now) } else { (*placed, *since) };
            let loss = loss(&policy, &work.spec, self.shape(*shape).chip_milli(), now - placed, now - since);
            givers.push(Giver { job, rank: (Reverse(work.spec.tier), loses), loss, gives, saving });
        }
        (givers, stopping)
    }

    /// What it takes to save the work of a job where it runs.
    fn saving(&self, job: &Job, placement: &Placement) -> Option<Saving> {
        if !saves(job) {
            return None;
        }
        let bytes = job.checkpoint.map_or(0, |checkpoint| u128::from(checkpoint.bytes));
        let grace = self.policy.preemption.clone().unwrap_or_default().grace_of(job);
        let first = placement.slots().next()?.nodes.first;
        let site = self.fleet().domains[self.fleet().nodes[first.ix()].domain.ix()].site;
        let bandwidth = self.fleet().sites[site.ix()].storage_bandwidth.map_or(u128::MAX, u128::from).max(1);
        let write = Duration::from_millis(i64::try_from((bytes * 1000).div_ceil(bandwidth)).unwrap_or(i64::MAX / 4));
        Some(Saving { site, grace, write })
    }

    /// How long a job takes to save its work where it runs, with the storage to itself; none where it never does.
    pub fn time_to_save(&self, job: &Job, placement: &Placement) -> Option<Duration> {
        self.saving(job, placement).map(Saving::takes)
    }
}

/// Those of some that can save their work in a time, one after the other at each site, the largest first; and how long that
/// takes them.
fn saved_in(givers: &[Giver], time: Duration) -> (Vec<JobId>, Duration) {
    let mut savers: Vec<(&Giver, Saving)> = givers.iter().filter_map(|giver| Some((giver, giver.saving?))).collect();
    savers.sort_unstable_by_key(|(giver, _)| (Reverse(giver.gives), giver.job));
    let mut busy: BTreeMap<SiteIx, Duration> = BTreeMap::new();
    let (mut saved, mut lead) = (Vec::new(), Duration::ZERO);
    for (giver, Saving { site, grace, write }) in savers {
        let busy = busy.entry(site).or_default();
        let done = *busy + write;
        if done.max(grace) <= time {
            *busy = done;
            lead = lead.max(done).max(grace);
            saved.push(giver.job);
        }
    }
    saved.sort_unstable();
    (saved, lead)
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
