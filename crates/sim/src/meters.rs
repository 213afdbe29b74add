//! Meters: what is drawn at sites, in domains and over circuits as time goes on, against what each may carry.

use offtake_engine::{LimitIx, State};
use offtake_fleet::{Cap, CapKind, CapTarget, CircuitIx, DomainIx, Fleet, Meter as Place};
use offtake_units::{Duration, Timestamp, Watts};

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
    /// Whether a limit is an account that it reads, and allows anything.
    pub fn has_account(&self, limit: LimitIx) -> bool {
        self.drawn.iter().any(|(_, account)| *account == limit)
    }
}

/// What a meter showed: per span, the most that was drawn, and what each cap allowed at its end.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reading {
    /// The most that was drawn in each span.
    pub drawn: Vec<Watts>,
    /// Per cap, what it allowed in each span.
    pub allowed: Vec<Vec<Watts>>,
}

/// How long a span of a reading is.
pub const SPAN: Duration = Duration::MINUTE;

/// More than this at one time is not looked at by anybody.
const MOST_METERS: usize = 24;

/// Meters at all sites with caps, at domains whose caps fall with heat, and on circuits, as far as they are few.
pub(crate) fn put_up(fleet: &mut Fleet, losses: &[FeedLoss]) -> Vec<Meter> {
    let is_site = |domain: DomainIx| domain.ix() < fleet.sites.len();
    let mut places: Vec<(DomainIx, Place)> = Vec::new();
    for cap in &fleet.caps {
        let CapTarget::Domain(domain) = cap.target else { continue };
        if (is_site(domain) || !cap.derating.is_empty()) && !places.contains(&(domain, cap.meter)) {
            places.push((domain, cap.meter));
        }
    }
    places.sort_by_key(|(domain, place)| (*domain, *place == Place::It));
    let circuits = (0..fleet.circuits.len() as u32).map(CircuitIx);
    let circuits: Vec<CircuitIx> = circuits.filter(|_| fleet.circuits.len() <= MOST_METERS).collect();
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
            if stands_in(fleet, circuit, lost) {
                let target = CapTarget::CircuitWithout { circuit, lost };
                drawn.push((Some(lost), account(fleet, target, Place::It)));
            }
        }
        meters.push(Meter { of, place: Place::It, caps: Vec::new(), drawn });
    }
    meters
}

/// Whether a circuit carries more once another is lost.
pub(crate) fn stands_in(fleet: &Fleet, circuit: CircuitIx, lost: CircuitIx) -> bool {
    let (one, other) = (&fleet.circuits[circuit.ix()], &fleet.circuits[lost.ix()]);
    circuit != lost
        && one.redundancy_group.is_some()
        && one.redundancy_group == other.redundancy_group
        && one.feeds.iter().any(|feed| other.share_of(feed.domain) > 0)
}

/// An account of the expected draw of something: a cap that never binds.
fn account(fleet: &mut Fleet, target: CapTarget, meter: Place) -> LimitIx {
    let name = format!("meter {}", fleet.caps.len());
    let watts = Watts::new(i64::MAX / 1_000_000);
    fleet.caps.push(Cap { name, target, watts, meter, kind: CapKind::Contract, derating: Vec::new() });
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
        let instants = self.losses.iter().flat_map(|loss| [loss.at, loss.until]);
        instants.filter(|at| *at > self.since).min()
    }

    /// What is drawn has been drawn since the meters were read last.
    pub fn read(&mut self, now: Timestamp, state: &State) {
        if self.meters.is_empty() || now <= self.since {
            self.since = now;
            return;
        }
        let since = std::mem::replace(&mut self.since, now);
        let place = |at: Timestamp| (at - self.start).as_millis() / SPAN.as_millis();
        let spans = place(since) as usize..place(now + SPAN - Duration::from_millis(1)) as usize;
        let limits = state.capacity().limits();
        let lost = |circuit: CircuitIx| {
            self.losses.iter().any(|loss| loss.circuit == circuit && loss.at <= since && since < loss.until)
        };
        for (meter, reading) in self.meters.iter().zip(&mut self.readings) {
            let is_out = matches!(meter.of, CapTarget::Circuit(circuit) if lost(circuit));
            let account = meter.drawn.iter().rev().find(|(without, _)| without.is_none_or(lost));
            let load = account.map_or(Watts::ZERO, |(_, limit)| limits[limit.ix()].load());
            let load = if is_out { Watts::ZERO } else { load };
            reading.drawn.resize(spans.end.max(reading.drawn.len()), Watts::ZERO);
            reading.drawn[spans.clone()].iter_mut().for_each(|most| *most = load.max(*most));
            for (cap, allowed) in meter.caps.iter().zip(&mut reading.allowed) {
                let now = limits[cap.ix()].capacity();
                allowed.resize(spans.end.max(allowed.len()), now);
                allowed[spans.clone()].iter_mut().for_each(|least| *least = now);
            }
        }
    }

    /// What they showed.
    pub fn finish(mut self, end: Timestamp, state: &State) -> Vec<Reading> {
        self.read(end, state);
        self.readings
    }
}
