//! Weather in a run: what heat leaves of caps, and how long cooling takes to follow.
//!
//! Each hour is known one hour before. What it leaves of a cap with a derating is announced as a curtailment of that cap. At
//! the grid connection of a site whose cooling follows load and weather the cap stays as it is and leaves servers less; the
//! engine knows that from the hour on. What has to be done ahead of it, as cooling still runs for what was drawn before, are
//! curtailments of a second cap: on what the servers draw.

use std::ops::Range;

use offtake_engine::{Curtailment, CurtailmentId, Event, LEAST_NOTICE, LimitIx, State};
use offtake_fleet::{CapKind, CapTarget, Cooling, DomainIx, Fleet, Meter as Place, SiteIx};
use offtake_units::{Duration, Timestamp, Watts};

use crate::course::Course;
use crate::grid::add_cap;
use crate::meters::Meter;
use crate::run::{Setup, SignalValue};

/// Curtailments by heat have identities from here on, behind those of grid events.
const HEAT: u64 = 1 << 40;

/// A cap at the grid connection of a site whose cooling is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cooled {
    /// The cap.
    pub cap: LimitIx,
    /// A cap on what the site's servers draw, which binds only as far as cooling asks for it.
    pub servers: LimitIx,
}

/// Caps on servers beside all caps at the grid connections of sites whose cooling is known, accounts of meters aside.
pub(crate) fn put_up(fleet: &mut Fleet, meters: &[Meter]) -> Vec<Cooled> {
    let is_account = |cap: LimitIx| meters.iter().any(|meter| meter.has_account(cap));
    let caps = (0..).map(LimitIx).zip(&fleet.caps);
    let caps = caps.filter(|(place, cap)| fleet.cooling_under(cap).is_some() && !is_account(*place));
    let caps: Vec<LimitIx> = caps.map(|(place, _)| place).collect();
    let beside = |cap: LimitIx| {
        let domain = domain_of(fleet, cap)?;
        let name = format!("cooling under {}", fleet.caps[cap.ix()].name);
        let servers = add_cap(fleet, domain, Place::It, &name);
        fleet.caps[servers.ix()].kind = fleet.caps[cap.ix()].kind;
        Some(Cooled { cap, servers })
    };
    caps.into_iter().filter_map(beside).collect()
}

fn domain_of(fleet: &Fleet, cap: LimitIx) -> Option<DomainIx> {
    match fleet.caps[cap.ix()].target {
        CapTarget::Domain(domain) => Some(domain),
        CapTarget::Circuit(_) | CapTarget::CircuitWithout { .. } => None,
    }
}

/// How long before a cap has to be met servers have to draw less: cooling follows them no sooner.
pub(crate) fn lead(fleet: &Fleet, cap: LimitIx) -> Duration {
    let cap = &fleet.caps[cap.ix()];
    match fleet.cooling_under(cap) {
        Some(cooling) if cap.kind == CapKind::Contract => cooling.follows,
        _ => Duration::ZERO,
    }
}

/// How hot it is at a site for a time.
#[derive(Clone, Debug)]
struct Known {
    site: SiteIx,
    span: Range<Timestamp>,
    /// None where nobody knows: then it is as hot as it can be.
    wet_bulb_mc: Option<i32>,
}

/// What a cap may show for a time.
#[derive(Clone, Debug)]
struct Asked {
    cooled: Cooled,
    watts: Watts,
    span: Range<Timestamp>,
}

/// The weather of a run.
#[derive(Debug)]
pub(crate) struct Weather<'a> {
    fleet: &'a Fleet,
    cooled: &'a [Cooled],
    /// Times that are known and not over.
    known: Vec<Known>,
    /// Grid events and hours of caps that are known and not over.
    asked: Vec<Asked>,
    /// How many curtailments were announced.
    announced: u64,
}

impl<'a> Weather<'a> {
    pub fn new(setup: &'a Setup) -> Self {
        // Up to the first hour that is known it is as hot as it can be.
        let first = |name: &str| {
            let hours =
                setup.signals.iter().filter(|signal| signal.zone == name).filter_map(|signal| match signal.value {
                    SignalValue::WetBulb { from, .. } => Some(from),
                    _ => None,
                });
            hours.min().unwrap_or(Timestamp::NEVER)
        };
        let sites = setup.fleet.sites.iter().zip((0..).map(SiteIx)).filter(|(site, _)| site.cooling.is_some());
        let known = sites
            .map(|(site, ix)| Known { site: ix, span: setup.start..first(&site.name), wet_bulb_mc: None })
            .filter(|known| !known.span.is_empty())
            .collect();
        Self { fleet: &setup.fleet, cooled: &setup.cooled, known, asked: Vec::new(), announced: 0 }
    }

    /// It is known how hot an hour will be at a site.
    pub fn forecast(&mut self, now: Timestamp, site: &str, from: Timestamp, wet_bulb_mc: i32, course: &mut Course) {
        let Some(place) = self.fleet.sites.iter().position(|known| known.name == site) else { return };
        let span = from..from.saturating_add(Duration::HOUR);
        self.derate(now, site, &span, wet_bulb_mc, course);
        if self.fleet.sites[place].cooling.is_none() {
            return;
        }
        let known = Known { site: SiteIx(place as u32), span: span.clone(), wet_bulb_mc: Some(wet_bulb_mc) };
        self.known.retain(|known| known.span.end > now);
        self.asked.retain(|asked| asked.span.end > now);
        let declared = self.cooled.iter().map(|cooled| {
            let watts = self.fleet.caps[cooled.cap.ix()].at_wet_bulb(wet_bulb_mc);
            Asked { cooled: *cooled, watts, span: span.clone() }
        });
        // What begins with the run binds at once.
        let all: Vec<Asked> = declared.filter(|_| from > now).chain(self.asked.iter().cloned()).collect();
        for asked in all {
            self.ask_while(now, &asked, &known, course);
        }
        self.known.push(known);
    }

    /// Hours begin whose weather is known.
    pub fn begin(&mut self, now: Timestamp, course: &mut Course) {
        for known in self.known.iter().filter(|known| known.span.start == now) {
            let site = self.fleet.sites[known.site.ix()].name.clone();
            if let Some(wet_bulb_mc) = known.wet_bulb_mc {
                course.tell(now, Event::WeatherPublished { site, wet_bulb_mc });
            }
        }
    }

    /// A cap may show so much for a time, by a grid event or by the clock. Gives what can be had until when, where that is
    /// more for a while: cooling runs on beside servers without any work.
    pub fn announce(
        &mut self,
        now: Timestamp,
        (cap, watts): (LimitIx, Watts),
        span: Range<Timestamp>,
        course: &mut Course,
    ) -> Option<(Watts, Timestamp)> {
        let cooled = *self.cooled.iter().find(|cooled| cooled.cap == cap)?;
        let asked = Asked { cooled, watts, span };
        let mut had: Option<(Watts, Timestamp)> = None;
        for known in self.known.clone() {
            // Cooling may run on from an hour into the next.
            let more = self.ask_while(now, &asked, &known, course);
            had = had.zip(more).map(|(a, b)| (a.0.max(b.0), a.1.max(b.1))).or(had).or(more);
        }
        self.asked.push(asked);
        had
    }

    /// What cooling leaves now to more work on the servers under a cap, in millionths of a watt.
    pub fn left_to_servers(&self, cap: LimitIx, state: &State) -> i64 {
        let cooled = self.cooled.iter().find(|cooled| cooled.cap == cap);
        cooled.map_or(i64::MAX, |cooled| state.capacity().limits()[cooled.servers.ix()].left_micro())
    }

    /// What is asked of a cap, as far as it is known how hot it is then.
    fn ask_while(
        &mut self,
        now: Timestamp,
        asked: &Asked,
        known: &Known,
        course: &mut Course,
    ) -> Option<(Watts, Timestamp)> {
        let span = asked.span.start.max(known.span.start)..asked.span.end.min(known.span.end);
        let is_there = domain_of(self.fleet, asked.cooled.cap) == Some(DomainIx(known.site.0));
        let cooling = self.fleet.sites[known.site.ix()].cooling.as_ref().filter(|_| is_there && !span.is_empty())?;
        self.ask(now, &Asked { span, ..asked.clone() }, (known, cooling), course)
    }

    /// Servers draw no more than leaves the cap what is asked for, so long before that cooling has followed. Where there is no
    /// time for that nothing starts until they do, and until it has followed they draw as much less as it takes too much.
    fn ask(
        &mut self,
        now: Timestamp,
        Asked { cooled, watts, span }: &Asked,
        (known, cooling): (&Known, &Cooling),
        course: &mut Course,
    ) -> Option<(Watts, Timestamp)> {
        let (factor, lead) = (cooling.factor(known.wet_bulb_mc), lead(self.fleet, cooled.cap));
        let it = cooling.it_under(*watts, factor);
        let from = (span.start - lead).max(now.saturating_add(LEAST_NOTICE));
        self.tell(now, *cooled, it, from..span.end, course);
        let followed = from.saturating_add(lead).min(span.end);
        if followed <= span.start {
            return None;
        }
        let load = course.state.cooled_load(known.site).max(it);
        let taken = cooling.overhead(load, factor);
        self.tell(now, *cooled, load, now..from, course);
        self.tell(now, *cooled, (*watts - taken).max(Watts::ZERO).min(it), span.start..followed, course);
        let least = course.state.capacity().limits()[cooled.servers.ix()].idle() + taken;
        (least > *watts).then_some((least, followed))
    }

    /// Announces what servers may draw for a time, where that takes anything from them.
    fn tell(&mut self, now: Timestamp, cooled: Cooled, watts: Watts, span: Range<Timestamp>, course: &mut Course) {
        if course.state.capacity().limits()[cooled.servers.ix()].would_bind(watts) {
            let name = format!("cooling under {}", self.fleet.caps[cooled.cap.ix()].name);
            self.curtail(now, (name, cooled.servers), watts, span, course);
        }
    }

    /// What the weather of an hour leaves of the caps of a site is announced as a curtailment of them.
    fn derate(&mut self, now: Timestamp, site: &str, span: &Range<Timestamp>, wet_bulb_mc: i32, course: &mut Course) {
        for (cap, limit) in self.fleet.caps.iter().zip((0..).map(LimitIx)) {
            let watts = cap.at_wet_bulb(wet_bulb_mc);
            let is_there = self.fleet.site_of(cap.target).is_some_and(|of| of.name == site);
            if !cap.derating.is_empty() && is_there && watts != cap.watts {
                self.curtail(now, (format!("heat on {}", cap.name), limit), watts, span.clone(), course);
            }
        }
    }

    fn curtail(
        &mut self,
        now: Timestamp,
        (name, cap): (String, LimitIx),
        watts: Watts,
        Range { start: from, end: until }: Range<Timestamp>,
        course: &mut Course,
    ) {
        let curtailment = CurtailmentId(HEAT + self.announced);
        self.announced += 1;
        let spec = Curtailment { name, cap, watts, from, until };
        course.tell(now, Event::CurtailmentAnnounced { curtailment, spec });
    }
}
