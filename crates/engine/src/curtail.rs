//! Curtailment: of what is drawn over a cap that was lowered, or is about to be, as much is given back as it takes, and the
//! least is lost.
//!
//! Work gives power back on a ladder: it goes on at a lower power level of its chips, slower, level by level; it is paused
//! where it is, if it stands that for as long as the power is lacking; or it is stopped. A pause gives back as much as a
//! stop and loses nothing but time, so it comes when it would be the turn of a stop. Spot work is throttled or stopped
//! first, whatever that loses; then standard and then guaranteed work is throttled; then standard work is stopped; then
//! reserved work is throttled, guaranteed stopped, and reserved last. So nobody is stopped or paused while weaker work
//! runs that could be. Work that would miss its deadline by being throttled is treated
//! as if it were to be stopped; of what is stopped that goes first which starts again, replicas above what their services
//! need among it, then what would miss its deadline, then replicas that are needed are throttled, then stopped, then what
//! is lost for good is stopped. Of what is alike those steps are taken that lose the least for the watts that they give
//! back: chip-time while the power is lacking, what a stop does not save, and the time until it has started again. Who is
//! stopped waits at its turn, and starts again once the cap leaves it power; who was throttled gets its power back before
//! anybody starts, the strongest first.
//!
//! Of a curtailment that is announced everybody learns in time: from then on what outlasts its beginning starts only within
//! what it will leave, as if that were held for a job. Who has to be stopped is stopped as late as it can be: early enough
//! to save its work, one after the other on the storage of its site (the writes share its bandwidth), and those that have
//! nothing to save, or no time to, at the last moment. At a site with a ramp what would be a larger step than it stands falls
//! before, as fast as it stands.

use std::cmp::{Ordering, Reverse};
use std::collections::BTreeMap;

use offtake_fleet::{DomainIx, SiteIx};
use offtake_units::{Duration, Ppm, Timestamp, Watts};
use offtake_workload::{ChipRequest, Job, Tier};
use rustc_hash::{FxHashMap, FxHashSet};

use crate::capacity::LimitIx;
use crate::decide::propose;
use crate::fact::{Curtailment, CurtailmentId, Event, Fact, JobId, Placement, StopReason};
use crate::preempt::{loss, saves, starts_again};
use crate::ramp::time_to_fall;
use crate::state::{Phase, State, Work};
use crate::throttle::Throttle;

/// Who is stopped without time to save its work is told so long before its power is to be gone: for the signals, and for
/// what a host needs to end a process.
pub const LAST_MOMENT: Duration = Duration::from_secs(10);

/// How long power is taken to be lacking where nobody says.
const UNKNOWN: Duration = Duration::HOUR;

/// One way in which work gives back power that it draws under a cap.
#[derive(Clone, Copy, Debug)]
struct Giver {
    job: JobId,
    way: Way,
    /// What it loses by that, in milliseconds of a chip.
    loss: u64,
    /// What it gives back, in millionths of a watt.
    gives: i64,
    /// How it saves its work before it is stopped; none where it never does.
    saving: Option<Saving>,
}

impl Giver {
    /// How long before it has given it is told, where there is so much time.
    fn takes(self, time: Duration) -> Duration {
        self.saving.map(Saving::takes).filter(|takes| *takes <= time).unwrap_or(LAST_MOMENT)
    }
}

/// Ways to give power back, by whose turn it is, and of these by what it means to the owner.
type Ranked = BTreeMap<(Turn, Loses), Vec<Giver>>;

/// How work gives power back.
#[derive(Clone, Copy, Debug)]
enum Way {
    /// Its chips work at a lower power level, or it is paused.
    Throttle(Throttle),
    /// It is stopped.
    Stop,
}

impl Way {
    /// Whether it only goes on slower.
    const fn is_slower(self) -> bool {
        matches!(self, Self::Throttle(to) if !to.is_paused())
    }
}

/// When it is the turn of work to give power back, the first first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Turn {
    Spot,
    ThrottleStandard,
    ThrottleGuaranteed,
    Standard,
    ThrottleReserved,
    Guaranteed,
    Reserved,
}

impl Turn {
    const ALL: [Self; 7] = [
        Self::Spot,
        Self::ThrottleStandard,
        Self::ThrottleGuaranteed,
        Self::Standard,
        Self::ThrottleReserved,
        Self::Guaranteed,
        Self::Reserved,
    ];

    /// Of whom it is the first turn, if of anybody.
    const fn first_of(self) -> Option<Tier> {
        match self {
            Self::Spot => Some(Tier::Spot),
            Self::ThrottleStandard => Some(Tier::Standard),
            Self::ThrottleGuaranteed => Some(Tier::Guaranteed),
            Self::ThrottleReserved => Some(Tier::Reserved),
            Self::Standard | Self::Guaranteed | Self::Reserved => None,
        }
    }

    fn of(tier: Tier, way: Way, loses: Loses) -> Self {
        let only_slower = way.is_slower() && loses == Loses::Time;
        match tier {
            Tier::Spot => Self::Spot,
            Tier::Standard if only_slower => Self::ThrottleStandard,
            Tier::Standard => Self::Standard,
            Tier::Guaranteed if only_slower => Self::ThrottleGuaranteed,
            Tier::Guaranteed => Self::Guaranteed,
            Tier::Reserved if only_slower => Self::ThrottleReserved,
            Tier::Reserved => Self::Reserved,
        }
    }
}

/// From one way of a job, or from none, to another that gives more.
#[derive(Clone, Copy, Debug)]
struct Step {
    to: Giver,
    /// What it loses more, and what it gives more.
    loss: u64,
    gives: i64,
    /// Where the ways of its job begin.
    ways: usize,
}

/// When power is lacking.
#[derive(Clone, Copy, Debug)]
struct Shortage {
    /// Work that has ended by then is left alone.
    after: Timestamp,
    /// Its power is gone by then.
    from: Timestamp,
    /// There is power again; no later than it is gone, or never, where nobody knows.
    until: Timestamp,
}

impl Shortage {
    /// For how long it lacks to work that would end by itself.
    fn lasts(self, ends: Timestamp) -> Duration {
        let is_known = self.until > self.from && self.until != Timestamp::NEVER;
        let lasts = if is_known { self.until - self.from } else { UNKNOWN };
        if ends == Timestamp::NEVER { lasts } else { lasts.min(ends - self.from).max(Duration::ZERO) }
    }
}

/// Whether work that would end in time misses its deadline where it loses so much time.
fn takes_beyond(deadline: Option<Timestamp>, ends: Timestamp, lost: Duration) -> bool {
    ends != Timestamp::NEVER && deadline.is_some_and(|by| ends <= by && by < ends.saturating_add(lost))
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

/// What it means to the owner of work that it gives power back, the least first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Loses {
    /// Time: it goes on slower, or starts again, or is one replica of more than are needed.
    Time,
    /// Its deadline: it ends too late for that.
    Deadline,
    /// Speed of a replica that its service needs.
    Latency,
    /// A replica that its service needs.
    Service,
    /// All: it never starts again.
    All,
}

/// Curtailments begin and are over, and caps rise again. What cannot be had is declared at once.
pub fn keep_curtailments(state: &mut State, facts: &mut Vec<Fact>) {
    let now = state.now();
    for (cap, watts) in state.risen() {
        propose(state, facts, Event::CapRose { cap, watts });
    }
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

/// Work gives power back under the caps that were lowered since the last pass, the narrowest first, as what gives way under one does
/// under those around it.
pub fn curtail(state: &mut State, facts: &mut Vec<Fact>) {
    let mut lowered: Vec<LimitIx> = std::mem::take(&mut state.lowered).into_iter().collect();
    lowered.sort_by_key(|cap| {
        let limit = &state.capacity.limits()[cap.ix()];
        let nodes = |(domain, _): &(DomainIx, Ppm)| state.fleet().domains[domain.ix()].nodes.len();
        (limit.domains.iter().map(nodes).sum::<usize>(), limit.left_micro())
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
        let (stops, over) = state.relief(cap, over, Shortage { after: Timestamp::EPOCH, from: now, until });
        stops.into_iter().for_each(|giver| give(state, facts, giver, by));
        let of_cap = |announced: &crate::state::Announced| announced.spec.cap == cap && announced.least.is_some();
        if over > 0 && !state.curtailments.values().any(of_cap) {
            let least = state.capacity.limits()[cap.ix()].shown_over(over);
            propose(state, facts, Event::CurtailmentUnmet { cap, least, curtailment: None });
        }
    }
}

/// Work gives power back, by an instant where that is known.
fn give(state: &mut State, facts: &mut Vec<Fact>, Giver { job, way, .. }: Giver, by: Option<Timestamp>) {
    let event = match way {
        Way::Throttle(to) => Event::JobThrottled { job, to },
        Way::Stop => Event::JobStopping { job, reason: StopReason::Curtailed, by },
    };
    propose(state, facts, event);
}

/// Power that has come free goes first to work that was throttled or paused, the strongest first.
pub fn restore(state: &mut State, facts: &mut Vec<Fact>) {
    if !std::mem::take(&mut state.power_freed) || state.throttled().is_empty() {
        return;
    }
    let turn = |job: &JobId| Some((state.job(*job)?.spec.tier, state.job(*job)?.turn, *job));
    let mut throttled: Vec<_> = state.throttled().iter().filter_map(turn).collect();
    throttled.sort_unstable();
    for (.., job) in throttled {
        let levels = state.restorable(job);
        if let Some(to) = levels.and_then(|levels| state.restorable_on_ramps(job, levels)) {
            propose(state, facts, Event::JobThrottled { job, to });
        }
    }
}

/// Who has been paused for as long as it stands is stopped. It saves nothing: it cannot go on without power.
pub fn end_pauses(state: &mut State, facts: &mut Vec<Fact>) {
    let now = state.now();
    let due: Vec<JobId> = state.pauses_end().filter(|(at, _)| *at <= now).map(|(_, job)| job).collect();
    for job in due {
        propose(state, facts, Event::JobStopping { job, reason: StopReason::Curtailed, by: Some(now) });
    }
}

/// Work under caps that are about to be curtailed gives power back in time. False where none does now.
pub fn prepare(state: &mut State, facts: &mut Vec<Fact>) -> bool {
    let now = state.now();
    let due = |announced: &crate::state::Announced| !announced.begun && announced.look_at.is_none_or(|at| at <= now);
    let mut ahead: Vec<(CurtailmentId, Curtailment)> = state
        .curtailments
        .iter()
        .filter(|(_, announced)| due(announced))
        .map(|(id, announced)| (*id, announced.spec.clone()))
        .collect();
    // Of two at one time first the one that takes more: what gives way for it may be enough for the other, too.
    let left = |spec: &Curtailment| state.capacity.limits()[spec.cap.ix()].left_of(spec.watts);
    ahead.sort_by_key(|(id, spec)| (spec.from, left(spec), *id));
    let before = facts.len();
    for (id, spec) in ahead {
        let (stops, look_at) = state.preparation(id, &spec);
        stops.into_iter().for_each(|(giver, by)| give(state, facts, giver, Some(by)));
        if let Some(announced) = state.curtailments.get_mut(&id) {
            announced.look_at = Some(look_at);
        }
    }
    facts.len() > before
}

impl State {
    /// Who gives power back now so that a curtailment that is to come is met, each with when it has to have, and when to look
    /// again.
    fn preparation(&self, id: CurtailmentId, spec: &Curtailment) -> (Vec<(Giver, Timestamp)>, Timestamp) {
        let (now, time) = (self.now(), spec.from - self.now());
        // What changes after the last look is seen when the curtailment begins.
        let last = if time > LAST_MOMENT { spec.from - LAST_MOMENT } else { spec.from };
        let left = self.hold_of(JobId::of_curtailment(id)).and_then(|hold| hold.leaves().next());
        let booked = left.map_or(0, |(_, left)| -left);
        // Shared chips are booked as if each were used alone: more than they draw together.
        let over = booked.min(self.drawn_over(spec));
        if over <= 0 {
            return (Vec::new(), last);
        }
        let (stops, _) = self.relief(spec.cap, over, Shortage { after: spec.from, from: spec.from, until: spec.until });
        let falls = self.falls(spec, &stops);
        let by = |giver: &Giver| {
            let fall = falls.get(&giver.job).copied().unwrap_or(spec.from);
            fall.max(now.saturating_add(giver.takes(time))).min(spec.from)
        };
        let told = |giving: Vec<Giver>| giving.into_iter().map(|giver| (giver, by(&giver))).collect();
        if time <= LAST_MOMENT {
            return (told(stops), last);
        }
        let (saving, lead) = saved_in(&stops, time);
        let (mut giving, mut look_at) = match saving.is_empty() || lead < time {
            true => (Vec::new(), last.min(spec.from - lead)),
            false => (saving, last),
        };
        for giver in &stops {
            let Some(fall) = falls.get(&giver.job) else { continue };
            let begins = *fall - giver.takes(time);
            if begins > now {
                look_at = look_at.min(begins);
            } else if giving.iter().all(|other| other.job != giver.job) {
                giving.push(*giver);
            }
        }
        (told(giving), look_at)
    }

    /// Of those who are to give power back at a site with a ramp, who has to have before the rest: so early that from then on
    /// no more falls at once than a step, nor faster than the site stands. Who loses least for what it gives goes first.
    fn falls(&self, spec: &Curtailment, stops: &[Giver]) -> BTreeMap<JobId, Timestamp> {
        let Some((site, ramp)) = self.ramp_under(spec.cap) else { return BTreeMap::new() };
        let fall = |giver: &Giver| match giver.way {
            Way::Throttle(to) => self.fall_at(site, giver.job, Some(to)),
            Way::Stop => self.fall_at(site, giver.job, None),
        };
        let mut order: Vec<(&Giver, i64)> = stops.iter().map(|giver| (giver, fall(giver))).collect();
        order.sort_unstable_by(|(a, _), (b, _)| by_cost((a.loss, a.gives), (b.loss, b.gives)).then(a.job.cmp(&b.job)));
        let mut rest: i64 = order.iter().map(|(_, fall)| fall).sum();
        let mut falls = BTreeMap::new();
        for (giver, fall) in order {
            let Some(span) = time_to_fall(ramp, rest) else { break };
            falls.insert(giver.job, spec.from - span);
            rest -= fall;
        }
        falls
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

    /// What gives so much power back that `over` less is drawn under a cap, in millionths of a watt; and what is still over
    /// then.
    fn relief(&self, cap: LimitIx, over: i64, shortage: Shortage) -> (Vec<Giver>, i64) {
        let (by_tier, stopping) = self.asked(cap, shortage);
        let mut over = over - stopping;
        let mut chosen: FxHashMap<JobId, Giver> = FxHashMap::default();
        let mut turns: Vec<Vec<JobId>> = Vec::new();
        let mut givers = Ranked::new();
        for turn in Turn::ALL {
            if over <= 0 {
                break;
            }
            // What the stronger could give is worked out only once the weaker have not given enough.
            if let Some(tier) = turn.first_of() {
                self.add_givers(cap, shortage, &by_tier[tier as usize], &mut givers);
            }
            for (_, alike) in givers.range((turn, Loses::Time)..=(turn, Loses::All)) {
                if over <= 0 {
                    break;
                }
                let mut new = Vec::new();
                for step in cheapest(alike, &chosen, over) {
                    over -= step.gives;
                    let given = chosen.entry(step.to.job).or_insert_with(|| {
                        new.push(step.to.job);
                        step.to
                    });
                    if step.to.gives > given.gives {
                        *given = step.to;
                    }
                }
                turns.push(new);
            }
        }
        // What closes the gap may make needless what gave before its turn, the strongest first.
        turns.pop();
        for job in turns.into_iter().rev().flatten() {
            let is_in_vain = |giver: &Giver| giver.way.is_slower() && giver.gives <= -over;
            if chosen.get(&job).is_some_and(is_in_vain) {
                over += chosen.remove(&job).map_or(0, |giver| giver.gives);
            }
        }
        let mut chosen: Vec<Giver> = chosen.into_values().collect();
        chosen.sort_unstable_by_key(|giver| giver.job);
        (chosen, over)
    }

    /// Work under a cap that a shortage meets, by tier; and what that gives back which is being stopped already.
    fn asked(&self, cap: LimitIx, shortage: Shortage) -> ([Vec<(JobId, &Work)>; 4], i64) {
        let (mut by_tier, mut stopping) = ([const { Vec::new() }; 4], 0);
        for (job, work) in self.running() {
            let Phase::Running { shape, placement, ends, stage, .. } = &work.phase else { continue };
            match () {
                () if *ends <= shortage.after => {}
                () if stage.is_stopping() => stopping += self.draw_under(cap, *shape, placement).max(0),
                () => by_tier[work.spec.tier as usize].push((job, work)),
            }
        }
        (by_tier, stopping)
    }

    /// For how long work would stand still that is paused; none where no power at all is left: then hosts go dark, and what
    /// stands still on them is lost.
    fn stands_still(&self, cap: LimitIx, mut shortage: Shortage) -> Option<Duration> {
        let specs = || self.curtailments.values().map(|announced| &announced.spec);
        if specs().any(|spec| spec.cap == cap && spec.watts == Watts::ZERO) {
            return None;
        }
        let place = |cap: LimitIx| self.capacity.limits()[cap.ix()].domains.first().map(|(domain, _)| *domain);
        // What follows at once keeps it standing.
        while shortage.until > shortage.from {
            let follows = |spec: &&Curtailment| spec.from <= shortage.until && shortage.until < spec.until;
            let next =
                specs().filter(follows).filter(|spec| place(spec.cap) == place(cap)).map(|spec| spec.until).max();
            let Some(until) = next else { break };
            shortage.until = until;
        }
        // It gives its power back a moment before that has to be gone, and where power falls slowly long before.
        let before = (LAST_MOMENT + self.longest_fall(cap, None)).min(shortage.from - self.now());
        Some(shortage.lasts(Timestamp::NEVER) + before)
    }

    /// All ways in which some work could give power back that it draws under a cap, by rank, those of one job side by side and
    /// what gives least first.
    fn add_givers(&self, cap: LimitIx, shortage: Shortage, asked: &[(JobId, &Work)], givers: &mut Ranked) {
        let policy = self.policy.preemption.clone().unwrap_or_default();
        let (surplus, now) = (self.surplus_replicas(), self.now());
        let stands_still = self.stands_still(cap, shortage);
        for (job, work) in asked.iter().copied() {
            let Phase::Running { shape, placement, placed, since, ends, .. } = &work.phase else { continue };
            let gives = self.draw_under(cap, *shape, placement);
            if gives <= 0 {
                continue;
            }
            let rank = |way, loses| (Turn::of(work.spec.tier, way, loses), loses);
            let is_replica = work.spec.service.is_some();
            let is_needed = is_replica && !surplus.contains(&job);
            let chip_milli = self.shape(*shape).chip_milli();
            let lasts = shortage.lasts(*ends);
            let misses = |lost: Duration| takes_beyond(work.spec.deadline, *ends, lost);
            let speed = placement.throttled_speed(self.fleet());
            let pause = stands_still.and_then(|lasts| self.pause_step(work, lasts));
            for (to, slower, until) in self.throttle_steps(work).into_iter().chain(pause) {
                let lost = speed.parts().saturating_sub(slower.parts());
                let meanwhile = Ppm::new(lost).done_in(shortage.lasts(Timestamp::NEVER));
                let loses = match () {
                    () if is_needed => Loses::Latency,
                    () if misses(speed.time_for(meanwhile).min(until - *ends)) => Loses::Deadline,
                    () => Loses::Time,
                };
                let loss = chip_time(chip_milli, lasts, lost);
                let gives = gives - self.draw_if(cap, (*shape, placement), gives, to);
                let way = Way::Throttle(to);
                let giver = Giver { job, way, loss, gives, saving: None };
                givers.entry(rank(way, loses)).or_default().push(giver);
            }
            let loses = match () {
                () if is_needed => Loses::Service,
                () if is_replica => Loses::Time,
                () if !starts_again(&work.spec) => Loses::All,
                () if misses(lasts + policy.restart) => Loses::Deadline,
                () => Loses::Time,
            };
            let saving = self.saving(&work.spec, placement);
            let is_saved = saving.is_some_and(|saving| saving.takes() <= shortage.from - now);
            // What a replica has served is served.
            let (placed, since) = if is_replica || is_saved { (now, now) } else { (*placed, *since) };
            let stops = loss(&policy, &work.spec, chip_milli, now - placed, now - since);
            // Nobody needs what one of too many replicas would have served meanwhile.
            let lasts = if is_replica && !is_needed { Duration::ZERO } else { lasts };
            let loss = stops.saturating_add(chip_time(chip_milli, lasts, speed.parts()));
            let giver = Giver { job, way: Way::Stop, loss, gives, saving };
            givers.entry(rank(Way::Stop, loses)).or_default().push(giver);
        }
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
fn saved_in(givers: &[Giver], time: Duration) -> (Vec<Giver>, Duration) {
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
            saved.push(*giver);
        }
    }
    saved.sort_unstable_by_key(|giver| giver.job);
    (saved, lead)
}

/// So much time of some chips, in thousandths, at a share of full speed, in milliseconds of a chip.
fn chip_time(chip_milli: u64, span: Duration, speed_ppm: u32) -> u64 {
    let time = u128::from(chip_milli) * span.as_millis().max(0) as u128 * u128::from(speed_ppm);
    u64::try_from(time.div_ceil(1_000_000_000)).unwrap_or(u64::MAX)
}

/// Which of two losses is the smaller for what is given.
fn by_cost(a: (u64, i64), b: (u64, i64)) -> Ordering {
    (u128::from(a.0) * b.1 as u128).cmp(&(u128::from(b.0) * a.1 as u128))
}

/// The ways of one job, those that give less first, as steps from what it gives already, each dearer for what it gives than
/// the one before: a way that another one with less loss or more power makes useless is none of them.
fn steps((start, ways): (usize, &[Giver]), given: Option<&Giver>, steps: &mut Vec<Step>) {
    let (first, from) = (steps.len(), given.map_or((0, 0), |given| (given.loss, given.gives)));
    for way in ways.iter().filter(|way| way.gives > from.1) {
        loop {
            let (loss, gives) = steps[first..].last().map_or(from, |step| (step.to.loss, step.to.gives));
            if way.gives == gives && way.loss >= loss {
                // Of two that are alike the gentler, which comes first.
                break;
            }
            let step = Step { to: *way, loss: way.loss.saturating_sub(loss), gives: way.gives - gives, ways: start };
            match steps[first..].last() {
                Some(last) if by_cost((step.loss, step.gives), (last.loss, last.gives)).is_le() => _ = steps.pop(),
                _ if step.gives <= 0 => break,
                _ => {
                    steps.push(step);
                    break;
                }
            }
        }
    }
}

/// Of alike ways to give power back those that give as much as is `needed`, all where that is not enough: whoever loses
/// least for what it gives, the largest of those that cost alike, as long as it is not more than is needed; and to close
/// the gap one that is.
fn cheapest(alike: &[Giver], given: &FxHashMap<JobId, Giver>, needed: i64) -> Vec<Step> {
    let mut order = Vec::with_capacity(alike.len());
    let mut start = 0;
    for ways in alike.chunk_by(|a, b| a.job == b.job) {
        steps((start, ways), given.get(&ways[0].job), &mut order);
        start += ways.len();
    }
    order.sort_unstable_by(|a, b| {
        let cost = by_cost((a.loss, a.gives), (b.loss, b.gives));
        cost.then(b.gives.cmp(&a.gives)).then(b.to.job.cmp(&a.to.job))
    });
    let (mut taken, mut rest, mut lost) = (Vec::new(), needed, 0_u64);
    // The least that is lost in all by closing the gap with one, that one, and how many were taken before it.
    let mut best: Option<(u64, Step, usize)> = None;
    // Work whose next step was not taken takes none after it.
    let mut left_out: FxHashSet<JobId> = FxHashSet::default();
    for step in order {
        if left_out.contains(&step.to.job) {
            continue;
        }
        let least = best.map_or(u64::MAX, |(least, ..)| least);
        // Whatever comes from here on loses as much for each watt, or more.
        let at_least = u128::from(step.loss) * rest as u128 / step.gives as u128;
        if u128::from(lost) + at_least >= u128::from(least) {
            break;
        }
        if step.gives < rest && lost.saturating_add(step.loss) < least {
            taken.push(step);
            (rest, lost) = (rest - step.gives, lost.saturating_add(step.loss));
            continue;
        }
        left_out.insert(step.to.job);
        if step.gives >= rest {
            let step = smallest(step, alike, rest);
            let all = lost.saturating_add(step.loss);
            if all < least {
                best = Some((all, step, taken.len()));
            }
        }
    }
    let Some((_, last, before)) = best else { return taken };
    taken.truncate(before);
    taken.push(last);
    // What closes the gap may give so much that some of the others need not.
    let mut spare = taken.iter().map(|step| step.gives).sum::<i64>() - needed;
    let mut deepest: FxHashMap<JobId, i64> = FxHashMap::default();
    for step in &taken {
        let most = deepest.entry(step.to.job).or_default();
        *most = step.to.gives.max(*most);
    }
    taken.sort_unstable_by_key(|step| (Reverse(step.loss), step.to.job));
    taken.retain(|step| {
        let is_in_vain = step.gives <= spare && deepest.get(&step.to.job) == Some(&step.to.gives);
        spare -= if is_in_vain { step.gives } else { 0 };
        !is_in_vain
    });
    taken
}

/// The step of the same job that is enough, too, and loses least.
fn smallest(step: Step, alike: &[Giver], rest: i64) -> Step {
    let from = (step.to.loss - step.loss, step.to.gives - step.gives);
    let ways = alike[step.ways..].iter().take_while(|way| way.job == step.to.job);
    let to = |way: &Giver| Step {
        to: *way,
        loss: way.loss.saturating_sub(from.0),
        gives: way.gives - from.1,
        ways: step.ways,
    };
    ways.map(to).filter(|other| other.gives >= rest).min_by_key(|other| (other.loss, other.gives)).unwrap_or(step)
}
