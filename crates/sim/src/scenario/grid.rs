//! The grid events of a scenario.

use std::borrow::Cow;
use std::collections::BTreeMap;

use offtake_engine::{LEAST_NOTICE, LimitIx};
use offtake_fleet::{CapTarget, CircuitIx, DomainIx, Fleet, Meter as Place};
use offtake_programmes::{Baseline, Depth};
use offtake_units::{Duration, Ppm, Timestamp, Watts};
use offtake_workload::rng::Rng;

use super::file::{CoolingLossFile, File, GridEventFile, ProgrammeFile};
use super::{Reader, ScenarioError};
use crate::grid::{Cut, GridEvent, add_cap};
use crate::meters::{FeedLoss, Meter};

/// More than any site draws: a terawatt.
const MOST_MEGAWATTS: f64 = 1e6;

/// More events than anybody looks at.
const MOST_EVENTS: u32 = 100_000;

impl Reader {
    /// Grid events in the order in which they are announced. Domains that they name get a cap each, at the grid connection.
    pub(super) fn grid_events(
        &self,
        events: &[GridEventFile],
        programmes: &[ProgrammeFile],
        fleet: &mut Fleet,
    ) -> Result<Vec<Asked>, ScenarioError> {
        let mut of_domains: BTreeMap<DomainIx, LimitIx> = BTreeMap::new();
        let mut asked = Vec::new();
        for event in events {
            let wrong = |(key, fault, allowed): Wrong| self.wrong("grid_events", &event.name, &key, &fault, &allowed);
            let place = [&event.on, &event.cap, &event.programme].map(Option::as_deref);
            let on = place_of(place, fleet, &mut of_domains).map_err(wrong)?;
            let cut = on.of_contract(cut(event, on.depth(fleet)).map_err(wrong)?, fleet);
            let notice = event.notice.map_or(on.notice(fleet), |notice| notice.0);
            let span = Span { notice, hold: event.hold };
            asked.push(Asked::Once(span.event(event.name.clone(), on, event.at, cut)));
        }
        for programme in programmes {
            let wrong =
                |(key, fault, allowed): Wrong| self.wrong("grid_programmes", &programme.name, &key, &fault, &allowed);
            let place = [&programme.on, &programme.cap, &programme.programme].map(Option::as_deref);
            let on = place_of(place, fleet, &mut of_domains).map_err(wrong)?;
            asked.push(Asked::Programme(Programme::read(programme, on, fleet).map_err(wrong)?));
        }
        Ok(asked)
    }

    /// Losses of cooling as grid events at the servers that nobody announces: the power of a domain has to be down before its
    /// ride-through is over.
    pub(super) fn cooling_losses(
        &self,
        losses: &[CoolingLossFile],
        fleet: &mut Fleet,
        notes: &mut Vec<String>,
    ) -> Result<Vec<Asked>, ScenarioError> {
        let mut of_domains: BTreeMap<DomainIx, LimitIx> = BTreeMap::new();
        let mut asked = Vec::new();
        for (place, loss) in losses.iter().enumerate() {
            let field = |key: &str| format!("cooling_losses[{place}].{key}");
            let of_path = |domain: &DomainIx| fleet.path(*domain) == loss.on;
            let known: Vec<DomainIx> = (0..fleet.domains.len() as u32).map(DomainIx).filter(of_path).collect();
            if known.is_empty() {
                let allowed = "the path of a site or domain, such as `ashburn/hall-0`";
                return Err(self.value(&field("on"), &loss.on, allowed));
            }
            let rides = |domain: DomainIx| {
                let (site, level) = (fleet.domains[domain.ix()].site, fleet.domains[domain.ix()].level);
                let times = fleet.sites[site.ix()].ride_through.iter();
                times.filter(|(of, _)| *of == level).map(|(_, time)| (domain, *time)).next()
            };
            let Some((domain, rides)) = known.iter().find_map(|domain| rides(*domain)) else {
                let level = &fleet.levels[fleet.domains[known[0].ix()].level.ix()];
                let fault = format!("is `{}`, and nothing says how long a {level} there rides through", loss.on);
                let allowed = format!("a domain of a level in its site's `ride_through = {{ {level} = \"20s\" }}`");
                return Err(self.fault(&field("on"), fault, allowed));
            };
            let Some(leaves) = Ppm::from_ratio(loss.leaves).filter(|share| *share < Ppm::ONE) else {
                return Err(self.value(
                    &field("leaves"),
                    loss.leaves,
                    "a share of its power at work, from 0 to below 1",
                ));
            };
            if loss.hold <= rides {
                notes.push(format!(
                    "{} rides through a loss of cooling of {}: nothing has to be done.",
                    loss.on, loss.hold
                ));
                continue;
            }
            if rides < LEAST_NOTICE {
                notes.push(format!(
                    "{} rides through a loss of cooling for {rides}, and work is stopped in {LEAST_NOTICE}: it is too hot for \
                     the time between.",
                    loss.on
                ));
            }
            let at_work = at_work(fleet, domain);
            let name = format!("cooling of {}", loss.on);
            let cap = *of_domains.entry(domain).or_insert_with(|| add_cap(fleet, domain, Place::It, &name));
            asked.push(Asked::Once(GridEvent {
                name: format!("{} loses its cooling", loss.on),
                cap,
                announced: loss.at,
                at: loss.at.saturating_add(rides),
                until: loss.at.saturating_add(loss.hold.max(LEAST_NOTICE)),
                cut: Cut::To(at_work - at_work.share_up(Ppm::new(Ppm::ONE.parts() - leaves.parts()))),
                programme: None,
            }));
        }
        Ok(asked)
    }

    /// Circuits that are out for a time.
    pub(super) fn feed_losses(&self, file: &File, fleet: &Fleet) -> Result<Vec<FeedLoss>, ScenarioError> {
        let mut losses: Vec<FeedLoss> = Vec::new();
        for (place, loss) in file.feed_losses.iter().enumerate() {
            let field = |key: &str| format!("feed_losses[{place}].{key}");
            let names = fleet.circuits.iter().map(|circuit| circuit.name.as_str());
            let Some(found) = names.clone().position(|name| name == loss.circuit) else {
                let known = names.take(12).collect::<Vec<_>>().join(", ");
                let known = if known.is_empty() { "none, as the fleet file has no circuits".to_owned() } else { known };
                return Err(self.value(&field("circuit"), &loss.circuit, known));
            };
            let circuit = CircuitIx(found as u32);
            let others = (0..fleet.circuits.len() as u32).map(CircuitIx);
            if !others.into_iter().any(|other| fleet.stands_in(other, circuit)) {
                let fault = format!("is `{}`, and no other circuit stands in for it", loss.circuit);
                let allowed = "a circuit of a redundancy group; nodes that lose all power are part of `[failures]`";
                return Err(self.fault(&field("circuit"), fault, allowed));
            }
            let (at, until) = (loss.at, loss.at.saturating_add(loss.hold));
            let group = &fleet.circuits[circuit.ix()].redundancy_group;
            let meets = |other: &&FeedLoss| {
                fleet.circuits[other.circuit.ix()].redundancy_group == *group && other.at < until && at < other.until
            };
            if losses.iter().any(|other| meets(&other)) {
                let fault = "is while another circuit of its redundancy group is out";
                return Err(self.fault(&field("at"), fault, "one circuit of a group at a time"));
            }
            losses.push(FeedLoss { circuit, at, until });
        }
        Ok(losses)
    }

    /// Circuits are not lost before the run, and somebody looks.
    pub(super) fn check_feed_losses(
        &self,
        losses: &[FeedLoss],
        meters: &[Meter],
        start: Timestamp,
    ) -> Result<(), ScenarioError> {
        for (place, loss) in losses.iter().enumerate() {
            let field = |key: &str| format!("feed_losses[{place}].{key}");
            if loss.at < start {
                return Err(self.fault(&field("at"), "is before the run begins", "an instant from its start on"));
            }
            if !meters.iter().any(|meter| meter.of == CapTarget::Circuit(loss.circuit)) {
                let fault = "would be seen by nobody";
                let allowed = "a run with a horizon of at most two days and a fleet of at most 24 circuits";
                return Err(self.fault(&field("circuit"), fault, allowed));
            }
        }
        Ok(())
    }

    fn wrong(&self, table: &'static str, name: &str, key: &str, fault: &str, allowed: &str) -> ScenarioError {
        self.fault(table, format!("`{name}`: `{key}` {fault}"), allowed)
    }

    /// The events that are asked for, those of programmes drawn over the run, in the order in which they are announced.
    pub(super) fn draw_grid_events(
        &self,
        asked: Vec<Asked>,
        start: Timestamp,
        span: Duration,
        seed: u64,
    ) -> Result<Vec<GridEvent>, ScenarioError> {
        let root = Rng::new(seed).derive("grid programmes");
        let mut events = Vec::new();
        for asked in asked {
            match asked {
                Asked::Once(event) if event.announced < start => {
                    let key = if event.at < start { "at" } else { "notice" };
                    let fault = "is before the run begins";
                    return Err(self.wrong(
                        "grid_events",
                        &event.name,
                        key,
                        fault,
                        "an event of which all is in the run",
                    ));
                }
                Asked::Once(event) => events.push(event),
                Asked::Programme(programme) => {
                    let drawn = programme.draw(&root, start, span);
                    let too_many = "do not fit into the run one after the other";
                    let fewer = "fewer of them, or shorter ones";
                    let wrong = || self.wrong("grid_programmes", &programme.name, "events", too_many, fewer);
                    events.extend(drawn.ok_or_else(wrong)?);
                }
            }
        }
        events.sort_by_key(|event| event.announced);
        let mut by_start: Vec<&GridEvent> = events.iter().collect();
        by_start.sort_by_key(|event| (event.cap, event.at));
        for pair in by_start.windows(2) {
            if pair[0].cap == pair[1].cap && pair[1].at < pair[0].until {
                let fault = format!("`{}` begins before `{}` on the same cap is over", pair[1].name, pair[0].name);
                return Err(self.fault("grid_events", fault, "one at a time for each cap or domain"));
            }
        }
        Ok(events)
    }
}

/// What the servers of a domain draw with all chips at work.
fn at_work(fleet: &Fleet, domain: DomainIx) -> Watts {
    let nodes = fleet.domains[domain.ix()].nodes.clone();
    let drawn = |node: u32| {
        let kind = fleet.kind(fleet.nodes[node as usize]);
        kind.base + fleet.accelerator(kind).map_or(Watts::ZERO, |chip| chip.operating.times(kind.chips.into()))
    };
    nodes.map(drawn).sum()
}

/// The key that is wrong, what is wrong with it, and what is allowed.
type Wrong = (Cow<'static, str>, Cow<'static, str>, Cow<'static, str>);

/// Events as a scenario asks for them.
#[derive(Debug)]
pub(super) enum Asked {
    Once(GridEvent),
    Programme(Programme),
}

/// How long before an event everybody learns of it, and how long it lasts.
#[derive(Clone, Copy, Debug)]
struct Span {
    notice: Duration,
    hold: Duration,
}

impl Span {
    fn event(self, name: String, on: On, at: Timestamp, cut: Cut) -> GridEvent {
        let announced = at - self.notice;
        let met_by = at.max(announced + LEAST_NOTICE);
        let On { cap, programme } = on;
        GridEvent { name, cap, announced, at: met_by, until: met_by.saturating_add(self.hold), cut, programme }
    }
}

/// Events of which each is drawn.
#[derive(Debug)]
pub(super) struct Programme {
    name: String,
    on: On,
    events: u32,
    notice: Vec<Duration>,
    hold: Vec<Duration>,
    cuts: Vec<Cut>,
}

impl Programme {
    fn read(file: &ProgrammeFile, on: On, fleet: &Fleet) -> Result<Self, Wrong> {
        if !(1..=MOST_EVENTS).contains(&file.events) {
            return Err(("events".into(), format!("is {}", file.events).into(), "from 1 to 100000".into()));
        }
        let hold: Vec<Duration> = file.hold.iter().map(|time| time.0).collect();
        if hold.is_empty() {
            return Err(("hold".into(), "has no time".into(), "times such as `[\"15m\", \"4h\"]`".into()));
        }
        let mut notice: Vec<Duration> = file.notice.iter().map(|time| time.0).collect();
        if notice.is_empty() {
            notice.push(on.notice(fleet));
        }
        let cuts: Vec<Cut> = match (file.cut.is_empty(), file.megawatts.is_empty()) {
            (false, true) => file.cut.iter().map(|share| by(*share)).collect::<Result<_, _>>()?,
            (true, false) => {
                file.megawatts.iter().map(|power| to("megawatts", *power, 1.0)).collect::<Result<_, _>>()?
            }
            (false, false) => return Err(("cut".into(), "stands beside `megawatts`".into(), "one of the two".into())),
            (true, true) => {
                let missing = || ("cut".into(), "is missing".into(), "`cut`, or `megawatts` in its place".into());
                vec![on.depth(fleet).ok_or_else(missing)?]
            }
        };
        let cuts = cuts.into_iter().map(|cut| on.of_contract(cut, fleet)).collect();
        Ok(Self { name: file.name.clone(), on, events: file.events, notice, hold, cuts })
    }

    /// The run is divided into as many parts as there are events: each part has one, whole, at an instant by chance.
    fn draw(&self, root: &Rng, start: Timestamp, span: Duration) -> Option<Vec<GridEvent>> {
        let part = span.as_millis() / i64::from(self.events);
        let mut all = Vec::new();
        for number in 0..self.events {
            let mut rng = root.derive(&self.name).derive_index(number.into());
            let mut one_of = |count: usize| rng.below(count as u64) as usize;
            let span =
                Span { notice: self.notice[one_of(self.notice.len())], hold: self.hold[one_of(self.hold.len())] };
            let cut = self.cuts[one_of(self.cuts.len())];
            let rest = part - span.notice.max(LEAST_NOTICE).as_millis() - span.hold.as_millis();
            let after = rng.below(u64::try_from(rest).ok().filter(|rest| *rest > 0)?) as i64 + span.notice.as_millis();
            // Whole seconds, as people would write them.
            let after = after - after % 1000;
            let at = start + Duration::from_millis(part * i64::from(number) + after);
            all.push(span.event(format!("{} {}", self.name, number + 1), self.on, at, cut));
        }
        Some(all)
    }
}

/// What an event acts on: a cap, and the grid programme of the fleet that calls it, if one does.
#[derive(Clone, Copy, Debug)]
struct On {
    cap: LimitIx,
    programme: Option<usize>,
}

impl On {
    /// How long before it an event is called that does not say: as the programme has agreed.
    fn notice(self, fleet: &Fleet) -> Duration {
        self.programme.map_or(Duration::ZERO, |programme| fleet.programmes[programme].notice)
    }

    /// A share under a firm service level is one of the contracted baseline, by which it is settled: of what happens to be
    /// drawn it would be kept and yet be short.
    fn of_contract(self, cut: Cut, fleet: &Fleet) -> Cut {
        let baseline = self.programme.map(|programme| fleet.programmes[programme].baseline);
        match (cut, baseline) {
            (Cut::By(share), Some(Baseline::FirmServiceLevel { contracted })) => {
                Cut::To(contracted - contracted.share_up(share))
            }
            _ => cut,
        }
    }

    /// What the programme asks for where an event does not say.
    fn depth(self, fleet: &Fleet) -> Option<Cut> {
        let programme = &fleet.programmes[self.programme?];
        Some(match (programme.firm_level(), programme.depth) {
            (Some(level), _) => Cut::To(level),
            (None, Depth::Watts(watts)) => Cut::Less(watts),
            (None, Depth::Share(share)) => Cut::By(share),
        })
    }
}

/// What an event acts on, of `on`, `cap` and `programme`; a domain gets a cap.
fn place_of(
    place: [Option<&str>; 3],
    fleet: &mut Fleet,
    of_domains: &mut BTreeMap<DomainIx, LimitIx>,
) -> Result<On, Wrong> {
    match place {
        [Some(path), None, None] => {
            let mut domains = (0..fleet.domains.len() as u32).map(DomainIx);
            let domain = domains.find(|domain| fleet.path(*domain) == path).ok_or_else(|| {
                let allowed = "the path of a site or domain, such as `ashburn/hall-0`";
                ("on".into(), format!("is `{path}`").into(), allowed.into())
            })?;
            let name = format!("grid events on {path}");
            let cap = *of_domains.entry(domain).or_insert_with(|| add_cap(fleet, domain, Place::Facility, &name));
            Ok(On { cap, programme: None })
        }
        [None, Some(name), None] => {
            let place = fleet.caps.iter().position(|cap| cap.name == name);
            let wrong = || ("cap".into(), format!("is `{name}`").into(), "a cap of the fleet file".into());
            Ok(On { cap: LimitIx(place.ok_or_else(wrong)? as u32), programme: None })
        }
        [None, None, Some(name)] => {
            let place = fleet.programmes.iter().position(|programme| programme.name == name);
            let found = place.and_then(|place| Some((place, fleet.cap_of(&fleet.programmes[place])?)));
            let (programme, cap) = found.ok_or_else(|| {
                let known: Vec<&str> = fleet.programmes.iter().map(|programme| programme.name.as_str()).collect();
                let allowed = match known.is_empty() {
                    true => "none, as the fleet file has no [programmes]".to_owned(),
                    false => format!("a programme of the fleet file: {}", known.join(", ")),
                };
                ("programme".into(), format!("is `{name}`").into(), allowed.into())
            })?;
            Ok(On { cap: LimitIx(cap as u32), programme: Some(programme) })
        }
        [None, None, None] => Err(("on".into(), "is missing".into(), "one of `on`, `cap` and `programme`".into())),
        [Some(_), Some(_), None] => Err(("on".into(), "stands beside `cap`".into(), "one of the two".into())),
        _ => {
            let fault = "stands beside `on` or `cap`";
            Err(("programme".into(), fault.into(), "the programme alone: it says which cap".into()))
        }
    }
}

fn by(share: f64) -> Result<Cut, Wrong> {
    let allowed = "a share of what is drawn, above 0 and at most 1";
    let share_of = Ppm::from_ratio(share).filter(|_| share > 0.0 && share <= 1.0);
    share_of.map(Cut::By).ok_or_else(|| ("cut".into(), format!("is {share}").into(), allowed.into()))
}

fn to(key: &'static str, value: f64, per_mw: f64) -> Result<Cut, Wrong> {
    let megawatts = value / per_mw;
    if !(0.0..=MOST_MEGAWATTS).contains(&megawatts) {
        return Err((key.into(), format!("is {value}").into(), "a power from nothing to a terawatt".into()));
    }
    Ok(Cut::To(Watts::new((megawatts * 1e6).round() as i64)))
}

/// How far an event of the file goes; where it does not say, as far as its programme.
fn cut(event: &GridEventFile, depth: Option<Cut>) -> Result<Cut, Wrong> {
    let powers =
        [(event.megawatts, "megawatts", 1.0), (event.kilowatts, "kilowatts", 1e3), (event.watts, "watts", 1e6)];
    let mut given = powers.into_iter().filter_map(|(value, key, per_mw)| Some((value?, key, per_mw)));
    match (event.cut, given.next(), given.next()) {
        (Some(share), None, _) => by(share),
        (None, Some((value, key, per_mw)), None) => to(key, value, per_mw),
        (None, None, _) => depth.ok_or_else(|| {
            let allowed = "`cut`, or one of `megawatts`, `kilowatts` and `watts` in its place";
            ("cut".into(), "is missing".into(), allowed.into())
        }),
        _ => {
            let allowed = "one of `cut`, `megawatts`, `kilowatts` and `watts`";
            Err(("cut".into(), "or a power stands beside another".into(), allowed.into()))
        }
    }
}
