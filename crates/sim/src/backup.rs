//! Losses of a site's utility: its UPS carries the servers, its generators take the load block by block, and what they do not
//! carry gives way before the UPS is empty; what nothing carries goes dark.
//!
//! All of it is told to the engine by what it knows already. What is carried is a cap at the grid connection, lowered by
//! curtailments whose end nobody knows; hosts without power are lost nodes that return once they have booted. So work gives
//! way as for a grid event: as late as it can, and saved as far as the time allows.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::ops::Range;

use offtake_engine::{
    ChipTime, Curtailment, CurtailmentId, Event, Fact, JobId, LimitIx, SiteAccount, State, StopReason, Throttle,
};
use offtake_fleet::{Backup, CapKind, CapTarget, DomainIx, Fleet, Meter, SiteIx};
use offtake_units::{CarbonMass, Duration, Energy, Money, Timestamp, Watts};

use crate::course::Course;
use crate::failures::Process;
use crate::grid::add_cap;

/// The utility of a site is lost for a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UtilityLoss {
    /// The site.
    pub site: SiteIx,
    /// From when.
    pub at: Timestamp,
    /// Until when.
    pub until: Timestamp,
    /// The cap at the grid connection that says what is carried meanwhile.
    pub cap: LimitIx,
}

impl UtilityLoss {
    /// A loss of a site's utility, for which the site gets a cap if it has none of its name yet. What that counts is what
    /// can be enforced, as generators trip on what is drawn and not on what was expected; it rises as fast as the slowest
    /// of the site's own caps at the grid connection.
    pub fn of(fleet: &mut Fleet, site: SiteIx, span: Range<Timestamp>) -> Self {
        let name = format!("back-up of {}", fleet.sites[site.ix()].name);
        let known = fleet.caps.iter().position(|cap| cap.name == name).map(|cap| LimitIx(cap as u32));
        let cap = known.unwrap_or_else(|| {
            let domain = DomainIx(site.0);
            let own = fleet.caps.iter();
            let own = own.filter(|cap| cap.target == CapTarget::Domain(domain) && cap.meter == Meter::Facility);
            let rise = own.filter_map(|cap| cap.rise).min();
            let added = add_cap(fleet, domain, Meter::Facility, &name);
            (fleet.caps[added.ix()].kind, fleet.caps[added.ix()].rise) = (CapKind::Breaker, rise);
            added
        });
        Self { site, at: span.start, until: span.end, cap }
    }
}

/// What came of the loss of a site's utility.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct UtilityOutcome {
    /// For how long the UPS carried at least a part of the servers.
    pub on_ups: Duration,
    /// What it gave.
    pub from_ups: Energy,
    /// For how long the generators ran, from the loss on.
    pub generators_ran: Duration,
    /// What they generated.
    pub generated: Energy,
    /// What they emitted.
    pub carbon: CarbonMass,
    /// What their fuel cost; none where no price is known.
    pub fuel: Option<Money>,
    /// For how long they were still permitted in the calendar year in which they ran last, after it; none where nobody
    /// limits it.
    pub permit_left: Option<Duration>,
    /// For how long hosts were without power, boots not counted.
    pub dark: Duration,
    /// Chip-time of hosts without power, or booting after it.
    pub out: ChipTime,
    /// When all was on the utility again.
    pub back: Option<Timestamp>,
    /// For how long, after the UPS was empty, more could be drawn than was carried.
    pub over: Duration,
    /// How often work was throttled further, pauses aside, so that the rest could be carried.
    pub throttled: u64,
    /// How often work was paused where it was.
    pub paused: u64,
    /// Attempts that were stopped.
    pub stopped: u64,
    /// Attempts that lost their power as they ran.
    pub dropped: u64,
    /// What they, and those that were stopped, had to do again.
    pub rework: ChipTime,
    /// What the ledger booked as drawn from the utility while nothing was.
    pub not_bought: NotBought,
}

/// Of an account of a site, what was not drawn from its utility.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NotBought {
    /// Energy.
    pub facility: Energy,
    /// What it would have cost.
    pub cost: Vec<Money>,
    /// What it would have emitted.
    pub carbon: CarbonMass,
}

impl NotBought {
    /// What an account booked since it was another.
    fn between(before: &SiteAccount, now: &SiteAccount) -> Self {
        let spent = |money: &Money| {
            let mut spent = *money;
            let earlier = before.cost.iter().find(|earlier| earlier.currency == money.currency);
            earlier.into_iter().for_each(|earlier| spent.add(-*earlier));
            spent
        };
        Self {
            facility: now.facility - before.facility,
            cost: now.cost.iter().map(spent).collect(),
            carbon: now.carbon - before.carbon,
        }
    }
}

/// A year in which generators ran, and for how long.
type Permits = BTreeMap<(SiteIx, i64), Duration>;

/// What happens to a site from the loss of its utility until all is as it was.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Plan {
    /// From here on the UPS carries nothing.
    empty: Timestamp,
    /// The generators that are counted on; none where there are none, or they may not run.
    counted_on: Option<Start>,
    /// They take load from here on, until the utility or nobody does.
    run: Option<Range<Timestamp>>,
    /// Hosts are without power.
    dark: Vec<Range<Timestamp>>,
    /// All is on the utility again.
    back: Timestamp,
}

/// How generators start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Start {
    /// When they take their first block of load.
    takes: Timestamp,
    /// When they carry what idle hosts draw.
    powered: Timestamp,
    /// When their permit or their fuel ends; never where neither does.
    ends: Timestamp,
}

impl Plan {
    /// What comes of a loss at a site whose hosts draw `idle` at the grid connection without work. Permits are used up by
    /// it: a permit counts from the loss, at which the generators are cranked.
    fn of(loss: &UtilityLoss, backup: &Backup, idle: Watts, permits: &mut Permits) -> Self {
        let UtilityLoss { site, at, until, .. } = *loss;
        let good = until.saturating_add(backup.retransfer);
        let empty = at.saturating_add(backup.ups);
        let counted_on = backup.generators.as_ref().and_then(|generators| {
            let after = |span: Duration| at.saturating_add(span);
            let permitted = generators.permit.map(|permit| permitted_until(site, at, permit, permits));
            let ends = generators.fuel.map(after).into_iter().chain(permitted).min().unwrap_or(Timestamp::NEVER);
            let powered = after(generators.carries(idle)?);
            // Who could not carry even idle hosts before they have to stop is not started.
            (powered < ends).then_some(Start { takes: after(generators.start), powered, ends })
        });
        let plan = Self { empty, counted_on, run: None, dark: Vec::new(), back: good };
        // Nobody transfers to generators that were not there when the utility came back.
        let Some(start) = counted_on.filter(|start| start.powered < good && (start.takes < until || empty < until))
        else {
            return match until <= empty {
                true => Self { back: until, ..plan },
                false => Self { dark: vec![empty..good], ..plan },
            };
        };
        let mut dark = Vec::new();
        if empty < start.powered {
            dark.push(empty..start.powered);
        }
        if start.ends < until {
            dark.push(start.ends..good);
        }
        // Once the utility is good again, generators that have to stop give the load back sooner.
        let stop = start.ends.min(good);
        book(site, at..stop, permits);
        Self { run: Some(start.takes..stop), dark, back: if start.ends < until { good } else { stop }, ..plan }
    }

    fn is_dark(&self, at: Timestamp) -> bool {
        self.dark.iter().any(|dark| dark.contains(&at))
    }
}

/// The first instant of a calendar year, UTC.
fn year_begins(year: i64) -> Timestamp {
    let leap_days = |year: i64| year.div_euclid(4) - year.div_euclid(100) + year.div_euclid(400);
    let days = 365 * (year - 1970) + leap_days(year - 1) - leap_days(1969);
    Timestamp::from_millis(days * Duration::DAY.as_millis())
}

/// The calendar year of an instant, UTC.
fn year_of(at: Timestamp) -> i64 {
    // At most a year too late.
    let year = 1970 + at.as_millis().div_euclid(365 * Duration::DAY.as_millis());
    (0..).map(|back| year - back).find(|year| year_begins(*year) <= at).unwrap_or(year)
}

/// The parts of a time in each calendar year.
fn by_year(span: Range<Timestamp>) -> impl Iterator<Item = (i64, Range<Timestamp>)> {
    let years = year_of(span.start)..=year_of(span.end);
    years.map(move |year| (year, span.start.max(year_begins(year))..span.end.min(year_begins(year + 1))))
}

/// Until when generators that start now may run; [`Timestamp::NEVER`] where nobody will see them stop.
fn permitted_until(site: SiteIx, at: Timestamp, permit: Duration, permits: &Permits) -> Timestamp {
    // Beyond the next year a permit that lasts over its end lasts over every other.
    let seen = at..year_begins(year_of(at) + 2);
    let ends = by_year(seen).find_map(|(year, span)| {
        let used = permits.get(&(site, year)).copied().unwrap_or(Duration::ZERO);
        let ends = span.start.saturating_add((permit - used).max(Duration::ZERO));
        (ends < span.end).then_some(ends)
    });
    ends.unwrap_or(Timestamp::NEVER)
}

fn book(site: SiteIx, span: Range<Timestamp>, permits: &mut Permits) {
    for (year, span) in by_year(span) {
        *permits.entry((site, year)).or_insert(Duration::ZERO) += (span.end - span.start).max(Duration::ZERO);
    }
}

/// What is done at an instant; what is sooner in this list goes first.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Step {
    /// All is on the utility again.
    Back,
    /// Generators carry idle hosts, or the utility does.
    Powered,
    /// The utility is lost.
    Lost,
    /// So much is carried from an instant on, until another where that is known.
    Carries { watts: Watts, from: Timestamp, until: Timestamp },
    /// Hosts are without power until then.
    Dark { until: Timestamp },
    /// What carries the load changes.
    Shifts,
}

/// Curtailments by lost utilities have identities from here on, behind those of grid events and of heat.
const FIRST: u64 = 1 << 41;

/// Everybody learns so long before that generators have to stop: time to save work, and for other work to go on meanwhile.
const STOP_NOTICE: Duration = Duration::HOUR;

/// Generators that have to stop so soon after they carry alone leave too little time to save work on them: it is saved on
/// the UPS.
const LEAST_RUN: Duration = Duration::from_secs(600);

/// The losses of a run.
#[derive(Debug)]
pub(crate) struct Supplies<'a> {
    losses: &'a [UtilityLoss],
    plans: Vec<Plan>,
    backups: Vec<Backup>,
    outcomes: Vec<UtilityOutcome>,
    steps: BinaryHeap<Reverse<(Timestamp, Step, usize)>>,
    /// Losses that are not over, each with the account of its site when it began.
    open: BTreeMap<usize, SiteAccount>,
    /// Curtailments that last until a loss is over.
    curtailed: Vec<(usize, CurtailmentId)>,
    announced: u64,
    /// Work that was stopped or dropped, until its attempt is closed.
    met: BTreeMap<JobId, usize>,
    /// Since when what is drawn is as it is.
    since: Timestamp,
}

impl<'a> Supplies<'a> {
    pub fn new(losses: &'a [UtilityLoss], fleet: &Fleet, idle: impl Fn(LimitIx) -> Watts, start: Timestamp) -> Self {
        let mut permits = Permits::new();
        let (mut plans, mut backups, mut outcomes, mut steps) = (Vec::new(), Vec::new(), Vec::new(), BinaryHeap::new());
        for (place, loss) in losses.iter().enumerate() {
            let backup = fleet.sites[loss.site.ix()].backup.clone().unwrap_or_default();
            let plan = Plan::of(loss, &backup, idle(loss.cap), &mut permits);
            steps.extend(steps_of(loss, &backup, &plan).into_iter().map(|(at, step)| Reverse((at, step, place))));
            let ran = plan.run.as_ref().map_or(Duration::ZERO, |run| run.end - loss.at);
            let permit = backup.generators.as_ref().and_then(|generators| generators.permit);
            let used = permits.get(&(loss.site, year_of(plan.back))).copied().unwrap_or(Duration::ZERO);
            outcomes.push(UtilityOutcome {
                generators_ran: ran,
                permit_left: permit.map(|permit| (permit - used).max(Duration::ZERO)),
                dark: plan.dark.iter().fold(Duration::ZERO, |all, dark| all + (dark.end - dark.start)),
                ..UtilityOutcome::default()
            });
            plans.push(plan);
            backups.push(backup);
        }
        Self {
            losses,
            plans,
            backups,
            outcomes,
            steps,
            open: BTreeMap::new(),
            curtailed: Vec::new(),
            announced: 0,
            met: BTreeMap::new(),
            since: start,
        }
    }

    /// When something happens next.
    pub fn next(&self) -> Option<Timestamp> {
        self.steps.peek().map(|Reverse((at, ..))| *at)
    }

    /// What is drawn has been drawn since somebody last looked: who carried it.
    pub fn read(&mut self, now: Timestamp, state: &State) {
        let since = std::mem::replace(&mut self.since, now);
        let span = now - since;
        if span <= Duration::ZERO {
            return;
        }
        for place in self.open.keys() {
            let (loss, plan, came) = (&self.losses[*place], &self.plans[*place], &mut self.outcomes[*place]);
            if plan.is_dark(since) {
                continue;
            }
            let generators = self.backups[*place].generators.as_ref();
            let running = generators.filter(|_| plan.run.as_ref().is_some_and(|run| run.contains(&since)));
            let carried = running.map_or(Watts::ZERO, |generators| generators.carry(since - loss.at));
            let it = state.capacity().site_draw(loss.site);
            let facility = state.facility_draw(loss.site);
            let generated = carried.min(facility);
            came.generated += generated.over(span);
            if let Some(generators) = running {
                came.carbon += generators.carbon.of(generated.over(span));
                if let Some(price) = generators.price {
                    let cost = price.of(generated.over(span));
                    came.fuel.get_or_insert_with(|| Money::zero(cost.currency)).add(cost);
                }
            }
            if since < plan.empty {
                // The UPS carries servers; cooling waits for the generators.
                came.from_ups += it.over(span) - it.over(span).part(generated.get(), facility.get().max(1));
                came.on_ups += if generated < facility { span } else { Duration::ZERO };
            } else if state.capacity().limits()[loss.cap.ix()].load() > carried {
                came.over += span;
            }
        }
    }

    /// Everything that happens up to an instant.
    pub fn happen(&mut self, now: Timestamp, course: &mut Course, failures: &mut Option<Process<'_>>) {
        while self.next().is_some_and(|at| at <= now)
            && let Some(Reverse((_, step, place))) = self.steps.pop()
        {
            let UtilityLoss { site, cap, .. } = self.losses[place];
            match step {
                Step::Lost => {
                    course.state.advance(now);
                    course.off_grid.insert(site);
                    self.open.insert(place, course.state.ledger().sites[site.ix()].clone());
                }
                Step::Carries { watts, from, until } => {
                    let curtailment = CurtailmentId(FIRST + self.announced);
                    self.announced += 1;
                    self.curtailed.push((place, curtailment));
                    let name = format!("utility of {} lost", course.state.fleet().sites[site.ix()].name);
                    let spec = Curtailment { name, cap, watts, from, until };
                    course.tell(now, Event::CurtailmentAnnounced { curtailment, spec });
                }
                Step::Dark { until } => {
                    course.unpowered.insert(site);
                    let booted = until.saturating_add(self.backups[place].boot);
                    let nodes = course.state.fleet().domains[site.ix()].nodes.clone();
                    let Some(failures) = failures else { continue };
                    let dropped = failures.lose_power(now, nodes, booted, course);
                    self.outcomes[place].dropped += dropped.len() as u64;
                    self.met.extend(dropped.into_iter().map(|job| (job, place)));
                }
                Step::Powered => _ = course.unpowered.remove(&site),
                Step::Back => {
                    course.state.advance(now);
                    course.off_grid.remove(&site);
                    self.settle(place, &course.state);
                    self.outcomes[place].back = Some(now);
                    let (over, rest) = self.curtailed.drain(..).partition(|(of, _)| *of == place);
                    self.curtailed = rest;
                    let over: Vec<(usize, CurtailmentId)> = over;
                    for (_, curtailment) in over {
                        course.tell(now, Event::CurtailmentEnded { curtailment });
                    }
                }
                Step::Shifts => {}
            }
        }
    }

    /// A loss is over, or the run is.
    fn settle(&mut self, place: usize, state: &State) {
        let Some(before) = self.open.remove(&place) else { return };
        let account = &state.ledger().sites[self.losses[place].site.ix()];
        self.outcomes[place].not_bought = NotBought::between(&before, account);
    }

    /// Takes note of what a pass decided.
    pub fn heed(&mut self, course: &Course) {
        if self.open.is_empty() {
            return;
        }
        // Paused work draws nothing, and would.
        let draws = |job: JobId, place: &usize| {
            course.state.drawn_by_at(job, self.losses[*place].cap, Throttle::NONE) > Watts::ZERO
        };
        let concerned = |job: JobId| self.open.keys().copied().find(|place| draws(job, place));
        for Fact { event, .. } in &course.decided {
            let Event::JobStopping { job, reason: StopReason::Curtailed, .. } = event else { continue };
            if let Some(place) = concerned(*job) {
                self.outcomes[place].stopped += 1;
                self.met.insert(*job, place);
            }
        }
        for (job, to) in &course.throttled {
            if let Some(place) = concerned(*job) {
                let came = &mut self.outcomes[place];
                *(if to.is_paused() { &mut came.paused } else { &mut came.throttled }) += 1;
            }
        }
    }

    /// An attempt has ended and has to do so much of its work again.
    pub fn note_rework(&mut self, job: JobId, chip_milli: u64, rework: Duration) {
        let Some(place) = self.met.remove(&job) else { return };
        self.outcomes[place].rework.0 += i128::from(chip_milli) * i128::from(rework.as_millis());
    }

    /// What the run found, of the losses that it saw; its state is that of its end.
    pub fn finish(mut self, end: Timestamp, state: &State) -> Vec<UtilityOutcome> {
        for place in 0..self.losses.len() {
            self.settle(place, state);
            let (loss, plan, came) = (&self.losses[place], &self.plans[place], &mut self.outcomes[place]);
            if loss.at >= end {
                continue;
            }
            let ran = came.generators_ran.min(end - loss.at);
            came.permit_left = came.permit_left.map(|left| left + (came.generators_ran - ran));
            came.generators_ran = ran;
            let dark = plan.dark.iter().map(|dark| (dark.end.min(end) - dark.start).max(Duration::ZERO));
            came.dark = dark.fold(Duration::ZERO, |all, dark| all + dark);
            let fleet = state.fleet();
            let nodes = &fleet.domains[loss.site.ix()].nodes;
            let nodes = &fleet.nodes[nodes.start as usize..nodes.end as usize];
            let chips: i128 = nodes.iter().map(|node| i128::from(fleet.kind(*node).chips)).sum();
            let mut counted = loss.at;
            for dark in &plan.dark {
                let booted = dark.end.saturating_add(self.backups[place].boot).min(end);
                let out = (booted - dark.start.max(counted)).max(Duration::ZERO);
                came.out.0 += chips * 1000 * i128::from(out.as_millis());
                counted = counted.max(booted);
            }
        }
        let seen = self.losses.iter().take_while(|loss| loss.at < end).count();
        self.outcomes.truncate(seen);
        self.outcomes
    }
}

/// What is done when. What is announced is what is known then: nobody knows when the utility comes back.
fn steps_of(loss: &UtilityLoss, backup: &Backup, plan: &Plan) -> Vec<(Timestamp, Step)> {
    let never = Timestamp::NEVER;
    let mut steps = vec![(loss.at, Step::Lost), (plan.empty, Step::Shifts)];
    for dark in &plan.dark {
        steps.extend([(dark.start, Step::Dark { until: dark.end }), (dark.end, Step::Powered)]);
    }
    match backup.generators.as_ref().zip(plan.counted_on) {
        Some((generators, start)) => {
            let from = plan.empty.max(start.powered);
            let carries = |watts, from, until| Step::Carries { watts, from, until };
            steps.push((loss.at, carries(generators.capacity(), from, never)));
            for block in 0..generators.blocks() {
                let at = loss.at.saturating_add(generators.takes(block));
                steps.push((at, Step::Shifts));
                if at > from {
                    let before = generators.carry(generators.takes(block - 1));
                    steps.push((loss.at, carries(before, from, at)));
                }
            }
            // Who is being stopped for the later of two instants is not gone by the sooner: one at a time.
            let told = from.max(start.ends - STOP_NOTICE);
            if start.ends < from.saturating_add(LEAST_RUN) {
                // They may have to stop even before the UPS would be empty.
                steps.push((loss.at, carries(Watts::ZERO, from.min(start.ends), never)));
            } else if start.ends != never && told < loss.until {
                steps.push((told, carries(Watts::ZERO, start.ends, never)));
            }
        }
        // Without any notice nothing could be done.
        None if loss.at < plan.empty => {
            steps.push((loss.at, Step::Carries { watts: Watts::ZERO, from: plan.empty, until: never }));
        }
        None => {}
    }
    steps.retain(|(at, step)| *at < plan.back || matches!(step, Step::Powered));
    steps.push((plan.back, Step::Back));
    steps
}

#[cfg(test)]
mod tests {
    use offtake_fleet::Generators;
    use offtake_units::CarbonIntensity;

    use super::*;

    const SITE: SiteIx = SiteIx(0);

    #[test]
    fn years_begin_when_the_calendar_says() {
        for (year, seconds) in [
            (1969, -31_536_000),
            (1970, 0),
            (1973, 94_694_400),
            (2000, 946_684_800),
            (2001, 978_307_200),
            (2026, 1_767_225_600),
            (2101, 4_133_980_800),
        ] {
            let begins = Timestamp::from_secs(seconds);
            assert_eq!(year_begins(year), begins);
            assert_eq!(year_of(begins), year);
            assert_eq!(year_of(begins - Duration::from_millis(1)), year - 1);
        }
    }

    #[test]
    fn a_permit_is_new_in_each_calendar_year() {
        let (hour, eve) = (Duration::HOUR, year_begins(2026) - Duration::HOUR);
        let generators = Generators {
            count: 1,
            each: Watts::new(1000),
            start: Duration::from_secs(10),
            block: Watts::new(1000),
            block_every: Duration::ZERO,
            permit: Some(Duration::from_secs(3 * 3600)),
            fuel: None,
            carbon: CarbonIntensity::default(),
            price: None,
        };
        let backup = Backup { ups: Duration::MINUTE, generators: Some(generators), ..Backup::default() };
        let mut permits = Permits::new();
        let loss = |at: Timestamp, hours: i64| UtilityLoss {
            site: SITE,
            at,
            until: at + Duration::from_secs(hours * 3600),
            cap: LimitIx(0),
        };
        // Two of its three hours in the old year, one of them here; all three of the new one.
        book(SITE, eve - hour..eve, &mut permits);
        let plan = Plan::of(&loss(eve, 6), &backup, Watts::new(500), &mut permits);
        let stop = year_begins(2026) + Duration::from_secs(3 * 3600);
        assert_eq!((plan.run, plan.dark), (Some(eve + Duration::from_secs(10)..stop), vec![stop..loss(eve, 6).until]));
        let used = [2025, 2026, 2027].map(|year| permits.get(&(SITE, year)).copied().unwrap_or_default());
        assert_eq!(used, [2, 3, 0].map(|hours| Duration::from_secs(hours * 3600)));
        // Nothing is left of that year: the UPS alone.
        let later = stop + Duration::DAY;
        let plan = Plan::of(&loss(later, 1), &backup, Watts::new(500), &mut permits);
        assert_eq!((plan.run, plan.dark), (None, vec![later + Duration::MINUTE..later + hour]));
        let next = year_begins(2027);
        let plan = Plan::of(&loss(next, 1), &backup, Watts::new(500), &mut permits);
        assert_eq!((plan.run, plan.back), (Some(next + Duration::from_secs(10)..next + hour), next + hour));
    }
}
