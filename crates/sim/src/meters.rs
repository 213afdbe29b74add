//! Meters: what is drawn at sites, in domains and over circuits as time goes on, against what each may carry.

use offtake_engine::LimitIx;
use offtake_fleet::{Cap, CapKind, CapTarget, CircuitIx, DomainIx, Fleet, Meter as Place};
use offtake_units::{Duration, Timestamp, Watts};

use crate::course::Course;

/// A circuit that is out for a time: what it carried goes over the others of its redundancy group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FeedLoss {
    /// The circuit.
    pub circuit: CircuitIx,
    /// From when.
    pub at: Timestamp,
    /// Until when.
    pub until: Timestamp,
}

/// What is watched.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Meter {
    /// A site or another domain, or a circuit.
    pub of: CapTarget,
    /// Where it is measured.
    pub place: Place,
    /// The account of what is drawn while all circuits are there, and once one is lost.
    drawn: Vec<(Option<CircuitIx>, LimitIx)>,
    /// Caps that it is held against; none for a circuit, whose rating is.
    pub caps: Vec<LimitIx>,
}

impl Meter {
    /// Whether a limit is none of the site's, and only counts what this meter shows.
    pub fn has_account(&self, limit: LimitIx) -> bool {
        self.drawn.iter().any(|(_, account)| *account == limit)
    }
}

/// What a meter showed: per span, the most that was drawn, and the most that each cap allowed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reading {
    /// The most that was drawn in each span.
    pub drawn: Vec<Watts>,
    /// Per cap, the most that it allowed in each span.
    pub allowed: Vec<Vec<Watts>>,
}

/// How long a span of a reading is.
pub const SPAN: Duration = Duration::MINUTE;

/// More than this at one time is not looked at by anybody.
const MOST_METERS: usize = 24;

/// Meters at all sites with caps, at domains whose caps fall with heat or by the clock, on circuits and at what they feed, as far as they
/// are few.
pub(crate) fn put_up(fleet: &mut Fleet, losses: &[FeedLoss]) -> Vec<Meter> {
    let is_site = |domain: DomainIx| domain.ix() < fleet.sites.len();
    let mut places: Vec<(DomainIx, Place)> = Vec::new();
    for cap in &fleet.caps {
        let CapTarget::Domain(domain) = cap.target else { continue };
        if (is_site(domain) || !cap.is_constant()) && !places.contains(&(domain, cap.meter)) {
            places.push((domain, cap.meter));
        }
    }
    let circuits = (0..fleet.circuits.len() as u32).map(CircuitIx);
    let circuits: Vec<CircuitIx> = circuits.filter(|_| fleet.circuits.len() <= MOST_METERS).collect();
    for feed in circuits.iter().flat_map(|circuit| &fleet.circuits[circuit.ix()].feeds) {
        if !places.contains(&(feed.domain, Place::It)) {
            places.push((feed.domain, Place::It));
        }
    }
    places.sort_by_key(|(domain, place)| (*domain, *place == Place::It));
    places.truncate(MOST_METERS);
    let mut meters = Vec::new();
    for (domain, place) in places {
        let of = CapTarget::Domain(domain);
        let caps = (0..).map(LimitIx).zip(&fleet.caps).filter(|(_, cap)| cap.target == of && cap.meter == place);
        let caps = caps.map(|(limit, _)| limit).collect();
        meters.push(Meter { of, place, caps, drawn: vec![(None, account(fleet, of, place))] });
    }
    for circuit in circuits {
        let of = CapTarget::Circuit(circuit);
        let mut drawn = vec![(None, account(fleet, of, Place::It))];
        let mut lost: Vec<CircuitIx> = losses.iter().map(|loss| loss.circuit).collect();
        lost.sort_unstable();
        lost.dedup();
        for lost in lost {
            if fleet.stands_in(circuit, lost) {
                let target = CapTarget::CircuitWithout { circuit, lost };
                drawn.push((Some(lost), account(fleet, target, Place::It)));
            }
        }
        meters.push(Meter { of, place: Place::It, caps: Vec::new(), drawn });
    }
    meters
}

/// An account of the expected draw of something: a cap that never binds.
fn account(fleet: &mut Fleet, target: CapTarget, meter: Place) -> LimitIx {
    let name = format!("meter {}", fleet.caps.len());
    let watts = Watts::new(i64::MAX / 1_000_000);
    fleet.caps.push(Cap {
        name,
        target,
        watts,
        meter,
        kind: CapKind::Contract,
        derating: Vec::new(),
        rise: None,
        schedule: None,
    });
    LimitIx(fleet.caps.len() as u32 - 1)
}

/// The meters of a run.
#[derive(Debug)]
pub(crate) struct Meters<'a> {
    meters: &'a [Meter],
    losses: &'a [FeedLoss],
    start: Timestamp,
    /// Since when what is drawn is as it is.
    since: Timestamp,
    readings: Vec<Reading>,
}

impl<'a> Meters<'a> {
    pub fn new(meters: &'a [Meter], losses: &'a [FeedLoss], start: Timestamp) -> Self {
        let reading = |meter: &Meter| Reading { drawn: Vec::new(), allowed: vec![Vec::new(); meter.caps.len()] };
        Self { meters, losses, start, since: start, readings: meters.iter().map(reading).collect() }
    }

    /// When a circuit is lost or comes back next.
    pub fn next(&self) -> Option<Timestamp> {
        if self.meters.is_empty() {
            return None;
        }
        let instants = self.losses.iter().flat_map(|loss| [loss.at, loss.until]);
        instants.filter(|at| *at > self.since).min()
    }

    /// What is drawn has been drawn since the meters were read last.
    pub fn read(&mut self, now: Timestamp, course: &Course) {
        if self.meters.is_empty() || now <= self.since {
            self.since = now;
            return;
        }
        let since = std::mem::replace(&mut self.since, now);
        let place = |at: Timestamp| (at - self.start).as_millis() / SPAN.as_millis();
        let spans = place(since) as usize..place(now + SPAN - Duration::from_millis(1)) as usize;
        let limits = course.state.capacity().limits();
        let lost = |circuit: CircuitIx| {
            self.losses.iter().any(|loss| loss.circuit == circuit && loss.at <= since && since < loss.until)
        };
        for (meter, reading) in self.meters.iter().zip(&mut self.readings) {
            let is_out = matches!(meter.of, CapTarget::Circuit(circuit) if lost(circuit));
            let account = meter.drawn.iter().rev().find(|(without, _)| without.is_none_or(lost));
            let is_dark = |limit: LimitIx| !course.unpowered.is_empty() && course.is_at(limit, &course.unpowered);
            let account = account.filter(|(_, limit)| !is_dark(*limit));
            let load = account.map_or(Watts::ZERO, |(_, limit)| course.state.metered(*limit));
            let load = if is_out { Watts::ZERO } else { load };
            reading.drawn.resize(spans.end.max(reading.drawn.len()), Watts::ZERO);
            reading.drawn[spans.clone()].iter_mut().for_each(|most| *most = load.max(*most));
            for (cap, allowed) in meter.caps.iter().zip(&mut reading.allowed) {
                let now = limits[cap.ix()].capacity();
                allowed.resize(spans.end.max(allowed.len()), Watts::ZERO);
                allowed[spans.clone()].iter_mut().for_each(|most| *most = now.max(*most));
            }
        }
    }

    /// What they showed.
    pub fn finish(mut self, end: Timestamp, course: &Course) -> Vec<Reading> {
        self.read(end, course);
        self.readings
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::path::Path;
    use std::sync::Arc;

    use offtake_engine::{Event, Fact, State};

    use super::*;

    const HALL: &str = r#"
name = "hall"
levels = ["site", "hall"]
[accelerators.chip]
idle_watts = 100
operating_watts = 500
peak_watts = 600
[node_kinds.node]
accelerator = "chip"
chips = 4
cpu_cores = 64
memory_gib = 256
base_watts = 600
[templates.hall]
level = "hall"
nodes = { node = 10 }
[sites.here]
pue = 1.2
domains = { hall = 1 }
[circuits.a]
kva = 40
power_factor = 1.0
redundancy_group = "both"
feeds = [{ domain = "here/hall-0", share = 0.6 }]
[circuits.b]
kva = 40
power_factor = 1.0
redundancy_group = "both"
feeds = [{ domain = "here/hall-0", share = 0.4 }]
[caps.grid]
on = "here"
watts = 40_000
meter = "facility"
kind = "contract"
"#;

    #[test]
    fn a_circuit_carries_what_another_did_while_that_is_out() {
        let mut fleet = offtake_fleet::parse(HALL, "hall", Path::new(""), &BTreeMap::new()).expect("it is valid");
        let at = |minutes: i64| Timestamp::from_secs(60 * minutes);
        let losses = [FeedLoss { circuit: CircuitIx(0), at: at(2), until: at(4) }];
        let meters = put_up(&mut fleet, &losses);
        let mut state = State::default();
        state.apply(&Fact { at: at(0), event: Event::FleetLoaded { fleet: Arc::new(fleet) } });
        let mut course = Course::new(state);
        let mut watched = Meters::new(&meters, &losses, at(0));
        while let Some(next) = watched.next() {
            watched.read(next, &course);
        }
        let grid = LimitIx(2);
        course.tell(at(4), Event::CapSet { cap: grid, watts: Watts::new(30_000) });
        let readings = watched.finish(at(5), &course);
        // Ten idle nodes of 1,000 W.
        let watts = |readings: &[i64]| readings.iter().copied().map(Watts::new).collect::<Vec<_>>();
        let [site, hall, a, b] = readings.as_slice() else { unreachable!("a site, what is fed, and two circuits") };
        assert_eq!(site.drawn, watts(&[12_000; 5]));
        assert_eq!(site.allowed, [watts(&[40_000, 40_000, 40_000, 40_000, 30_000])]);
        assert_eq!((&hall.drawn, hall.allowed.len()), (&watts(&[10_000; 5]), 0));
        assert_eq!(a.drawn, watts(&[6_000, 6_000, 0, 0, 6_000]));
        assert_eq!(b.drawn, watts(&[4_000, 4_000, 10_000, 10_000, 4_000]));
    }
}
