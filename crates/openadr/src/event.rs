//! Events as a VTN lists them, read field by field: what is unknown is left alone, what makes no sense is refused by name.

use std::collections::BTreeMap;

use offtake_units::{Duration, Timestamp, Watts};
use serde_json::Value;

use crate::limit::fingerprint;
use crate::period::{self, Start};

/// More than any limit says: a terawatt.
const MOST_WATTS: f64 = 1e12;
/// Intervals of one event.
const MOST_INTERVALS: usize = 2000;
/// Reports that one event may ask for: each is kept and sent.
const MOST_REPORTS: usize = 16;
/// Characters of what was given that an error repeats.
const MOST_GIVEN: usize = 80;

/// An event: what is asked from when until when.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// Given by the VTN: up to 128 letters, digits, `-` and `_`.
    pub id: String,
    /// A lower number goes before a higher, and any number before none.
    pub priority: Option<u32>,
    /// In the order in which the VTN lists them.
    pub intervals: Vec<Interval>,
    /// Reports that it asks for, and that can be given.
    pub reports: Vec<AskedReport>,
    /// What it asks for beside, in words: nothing is done about it.
    pub untaken: Vec<String>,
}

impl Event {
    /// Whether nothing of what it asks for is understood.
    pub fn asks_nothing(&self) -> bool {
        self.intervals.iter().all(|interval| interval.payloads.is_empty())
    }
}

/// A time for which an event asks for something.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Interval {
    /// Given by the VTN, its own within the event.
    pub id: i64,
    /// From when.
    pub from: Timestamp,
    /// Until when; half a century later where it has no end.
    pub until: Timestamp,
    /// What is asked.
    pub payloads: Vec<Payload>,
}

/// What is asked for a time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Payload {
    /// `IMPORT_CAPACITY_LIMIT`: no more may be drawn.
    ImportLimit(Watts),
    /// `DISPATCH_SETPOINT`: so much is to be drawn. A fleet draws no more; it may draw less.
    Setpoint(Watts),
    /// `ALERT_GRID_EMERGENCY`, with its message: as little is to be drawn as can be.
    Emergency(String),
}

/// A report that an event asks for: of the power or the energy that was drawn, interval by interval.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AskedReport {
    /// Energy in kWh (`USAGE`) rather than mean power in kW (`DEMAND`).
    pub is_energy: bool,
    /// Intervals in one report; all of the event's when nothing is said.
    pub intervals: Option<usize>,
    /// How many reports; one for each such group of intervals when nothing is said.
    pub repeat: Option<usize>,
}

/// What a VTN listed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Listing {
    /// The events that make sense.
    pub events: Vec<Event>,
    /// Why the others do not.
    pub refused: Vec<Nonsense>,
}

impl Listing {
    /// Whether it is known of everything in the list which event it is.
    pub fn is_whole(&self) -> bool {
        self.refused.iter().all(|nonsense| nonsense.event.is_some())
    }

    /// Whether it names this event, be it one that makes sense or not.
    pub fn names(&self, event: &str) -> bool {
        self.events.iter().any(|known| known.id == event) || self.refuses(event)
    }

    /// Whether it names this event, which makes no sense.
    pub fn refuses(&self, event: &str) -> bool {
        self.refused.iter().any(|nonsense| nonsense.event.as_deref() == Some(event))
    }
}

/// What makes no sense in an event.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("event {}: {field} is {given}; allowed is {allowed}", .event.as_deref().unwrap_or("of no name"))]
pub struct Nonsense {
    /// The event, where it can be told.
    pub event: Option<String>,
    /// Which field, from the event down.
    pub field: String,
    /// What was given, as JSON, cut short.
    pub given: String,
    /// What could have been.
    pub allowed: String,
}

/// Reads a list of events of one programme. `client` is who reads: where starts are to be spread at random, its share of
/// that is its own, and always the same.
pub fn listing(events: &[Value], program: &str, client: &str) -> Listing {
    let mut listing = Listing::default();
    for value in events {
        match read(value, program, client) {
            // Pages shift when something is added between them.
            Ok(event) if listing.names(&event.id) => {}
            Ok(event) => listing.events.push(event),
            Err(nonsense) => listing.refused.push(nonsense),
        }
    }
    listing
}

/// A value with the way to it.
#[derive(Clone)]
struct At<'a> {
    event: Option<&'a str>,
    path: String,
    value: &'a Value,
}

impl<'a> At<'a> {
    /// A field, unless it is left out or null.
    fn field(&self, name: &str) -> Option<Self> {
        let value = self.value.get(name).filter(|value| !value.is_null())?;
        Some(Self { event: self.event, path: self.below(name), value })
    }

    fn needed(&self, name: &str, allowed: &str) -> Result<Self, Nonsense> {
        self.field(name).ok_or_else(|| Nonsense {
            event: self.event.map(str::to_owned),
            field: self.below(name),
            given: "left out".to_owned(),
            allowed: allowed.to_owned(),
        })
    }

    fn below(&self, name: &str) -> String {
        if self.path.is_empty() { name.to_owned() } else { format!("{}.{name}", self.path) }
    }

    fn items(&self, most: usize) -> Result<Vec<Self>, Nonsense> {
        let items = self.value.as_array().filter(|items| items.len() <= most);
        let items = items.ok_or_else(|| self.wrong(&format!("a list of at most {most}")))?;
        let at = |(index, value)| Self { event: self.event, path: format!("{}[{index}]", self.path), value };
        Ok(items.iter().enumerate().map(at).collect())
    }

    fn text(&self, allowed: &str) -> Result<&'a str, Nonsense> {
        self.value.as_str().ok_or_else(|| self.wrong(allowed))
    }

    fn integer(&self, range: std::ops::RangeInclusive<i64>) -> Result<i64, Nonsense> {
        let number = self.value.as_i64().filter(|number| range.contains(number));
        number.ok_or_else(|| self.wrong(&format!("a whole number from {} to {}", range.start(), range.end())))
    }

    fn number(&self, range: std::ops::RangeInclusive<f64>, unit: &str) -> Result<f64, Nonsense> {
        let number = self.value.as_f64().filter(|number| range.contains(number));
        number.ok_or_else(|| self.wrong(&format!("a number from {} to {} {unit}", range.start(), range.end())))
    }

    fn wrong(&self, allowed: &str) -> Nonsense {
        let given = self.value.to_string();
        let mut short: String = given.chars().take(MOST_GIVEN).collect();
        if short.len() < given.len() {
            short.push('…');
        }
        let event = self.event.map(str::to_owned);
        Nonsense { event, field: self.path.clone(), given: short, allowed: allowed.to_owned() }
    }
}

fn is_id(text: &str) -> bool {
    let is_part = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
    (1..=128).contains(&text.len()) && text.bytes().all(is_part)
}

fn read(value: &Value, program: &str, client: &str) -> Result<Event, Nonsense> {
    const ID: &str = "up to 128 letters, digits, `-` and `_`";
    let nameless = At { event: None, path: String::new(), value };
    let id = nameless.needed("id", ID)?;
    let id = id.text(ID).ok().filter(|text| is_id(text)).ok_or_else(|| id.wrong(ID))?;
    let event = At { event: Some(id), ..nameless };
    if let Some(other) = event.field("programID").filter(|other| other.value != program) {
        return Err(other.wrong(&format!("`{program}`, the programme that was asked for")));
    }
    let priority = event.field("priority").map(|at| at.integer(0..=i64::from(u32::MAX))).transpose()?;
    let units = Units::of(&event)?;
    let mut untaken = Vec::new();
    let mut intervals = Vec::new();
    let mut periods = Periods::of(&event, id, client)?;
    // An event that asks for nothing would take back what it asked for before: half an event must not.
    const INTERVALS: &str = "a list of at least one interval; an event that is over is deleted";
    let listed = event.needed("intervals", INTERVALS)?;
    let at_most = listed.items(MOST_INTERVALS)?;
    if at_most.is_empty() {
        return Err(listed.wrong(INTERVALS));
    }
    for at in at_most {
        let id = at.needed("id", "a whole number")?.integer(i64::from(i32::MIN)..=i64::from(i32::MAX))?;
        let (from, until) = periods.next(&at)?;
        let mut payloads = Vec::new();
        let asked = at.needed("payloads", "a list")?;
        for payload in asked.items(MOST_INTERVALS)? {
            payloads.extend(units.payload(&payload, &mut untaken)?);
        }
        intervals.push(Interval { id, from, until, payloads });
    }
    if intervals.iter().all(|interval| interval.payloads.is_empty()) && untaken.is_empty() {
        return Err(listed.wrong("a list of intervals with payloads; an event that is over is deleted"));
    }
    let last = intervals.iter().map(|interval| interval.until).max();
    if let (Some(whole), Some(last)) = (event.field("duration"), last) {
        let end = period::after(periods.begin, &read_span(&whole)?);
        if end > last {
            return Err(whole.wrong("nothing longer than its intervals, which are not repeated here"));
        }
    }
    let reports = reports(&event, &mut untaken)?;
    untaken.sort();
    untaken.dedup();
    let priority = priority.and_then(|priority| u32::try_from(priority).ok());
    Ok(Event { id: id.to_owned(), priority, intervals, reports, untaken })
}

/// The intervals' times: each follows the one before it, unless it says otherwise.
struct Periods {
    begin: Timestamp,
    next: Timestamp,
    span: Option<jiff::Span>,
    changed: Option<Timestamp>,
    shift: Duration,
}

impl Periods {
    fn of(event: &At<'_>, id: &str, client: &str) -> Result<Self, Nonsense> {
        let changed = event.field("modificationDateTime").or_else(|| event.field("createdDateTime"));
        let changed = changed.and_then(|at| at.value.as_str()).and_then(period::instant);
        let mut periods =
            Self { begin: Timestamp::EPOCH, next: Timestamp::EPOCH, span: None, changed, shift: Duration::ZERO };
        let period = event.field("intervalPeriod");
        let start = period.as_ref().and_then(|period| period.field("start"));
        periods.span =
            period.as_ref().and_then(|period| period.field("duration")).map(|at| read_span(&at)).transpose()?;
        if let Some(spread) = period.as_ref().and_then(|period| period.field("randomizeStart")) {
            let most = period::after(Timestamp::EPOCH, &read_span(&spread)?) - Timestamp::EPOCH;
            let share = fingerprint(&[id, client]) % most.as_millis().unsigned_abs().saturating_add(1);
            periods.shift = Duration::from_millis(i64::try_from(share).unwrap_or_default());
        }
        periods.begin = match start {
            Some(start) => periods.start(&start)?.saturating_add(periods.shift),
            None => changed.unwrap_or_default(),
        };
        periods.next = periods.begin;
        Ok(periods)
    }

    fn start(&self, at: &At<'_>) -> Result<Timestamp, Nonsense> {
        match at.text(period::INSTANT).ok().and_then(period::start) {
            Some(Start::At(start)) => Ok(start),
            Some(Start::Now) => {
                self.changed.ok_or_else(|| at.wrong("an instant, as the event does not say when it was changed"))
            }
            None => Err(at.wrong(period::INSTANT)),
        }
    }

    fn next(&mut self, interval: &At<'_>) -> Result<(Timestamp, Timestamp), Nonsense> {
        let own = interval.field("intervalPeriod");
        let start = own.as_ref().and_then(|own| own.field("start"));
        let from = match start {
            Some(start) => self.start(&start)?.saturating_add(self.shift),
            None if self.next == Timestamp::EPOCH => {
                return Err(interval.wrong("an interval with a start, or in an event with one"));
            }
            None => self.next,
        };
        let span = match own.as_ref().and_then(|own| own.field("duration")) {
            Some(span) => Some(read_span(&span)?),
            None => self.span,
        };
        let until = span.map_or_else(|| period::for_ever(from), |span| period::after(from, &span));
        if until <= from {
            return Err(interval.wrong(&format!("an interval with {}", period::DURATION)));
        }
        self.next = until;
        Ok((from, until))
    }
}

fn read_span(at: &At<'_>) -> Result<jiff::Span, Nonsense> {
    at.text(period::DURATION).ok().and_then(period::span).ok_or_else(|| at.wrong(period::DURATION))
}

/// The units that an event names for its payloads.
struct Units<'a>(BTreeMap<&'a str, At<'a>>);

impl<'a> Units<'a> {
    fn of(event: &At<'a>) -> Result<Self, Nonsense> {
        let mut units = BTreeMap::new();
        for at in event.field("payloadDescriptors").map_or(Ok(Vec::new()), |at| at.items(MOST_INTERVALS))? {
            let kind = at.needed("payloadType", "a text")?.text("a text")?;
            units.extend(at.field("units").map(|unit| (kind, unit)));
        }
        Ok(Self(units))
    }

    /// Whether a payload is in `unit`, which is also meant where none is named.
    fn are(&self, kind: &str, unit: &str) -> Result<(), Nonsense> {
        match self.0.get(kind) {
            Some(at) if at.value != unit => Err(at.wrong(&format!("`{unit}`, for {kind}"))),
            _ => Ok(()),
        }
    }

    fn payload(&self, at: &At<'a>, untaken: &mut Vec<String>) -> Result<Option<Payload>, Nonsense> {
        let kind = at.needed("type", "a text")?.text("a text")?;
        let power = || {
            self.are(kind, "KW")?;
            let kilowatts = one(at)?.number(0.0..=MOST_WATTS / 1000.0, "kW")?;
            Ok(Watts::new((kilowatts * 1000.0).floor() as i64))
        };
        Ok(Some(match kind {
            "IMPORT_CAPACITY_LIMIT" => Payload::ImportLimit(power()?),
            "DISPATCH_SETPOINT" => Payload::Setpoint(power()?),
            "ALERT_GRID_EMERGENCY" => {
                let message = at.field("values").and_then(|values| values.value.get(0)).and_then(Value::as_str);
                Payload::Emergency(message.unwrap_or_default().chars().take(MOST_GIVEN).collect())
            }
            other => {
                untaken.push(format!("payload {}", other.chars().take(MOST_GIVEN).collect::<String>()));
                return Ok(None);
            }
        }))
    }
}

/// The only value of a payload.
fn one<'a>(payload: &At<'a>) -> Result<At<'a>, Nonsense> {
    let values = payload.needed("values", "a list of one number")?;
    let items = values.items(MOST_INTERVALS)?;
    match items.as_slice() {
        [one] => Ok(one.clone()),
        _ => Err(values.wrong("a list of one number")),
    }
}

fn reports(event: &At<'_>, untaken: &mut Vec<String>) -> Result<Vec<AskedReport>, Nonsense> {
    let mut reports = Vec::new();
    for at in event.field("reportDescriptors").map_or(Ok(Vec::new()), |at| at.items(MOST_REPORTS))? {
        let kind = at.needed("payloadType", "a text")?.text("a text")?;
        let is_energy = match kind {
            "DEMAND" => false,
            "USAGE" => true,
            other => {
                untaken.push(format!("a report of {}", other.chars().take(MOST_GIVEN).collect::<String>()));
                continue;
            }
        };
        if at.field("historical").is_some_and(|at| at.value == false) {
            untaken.push(format!("a forecast of {kind}"));
            continue;
        }
        // -1 stands for "not said".
        let count = |name: &str| {
            let count = at.field(name).map_or(Ok(-1), |at| at.integer(-1..=i64::from(i32::MAX)))?;
            Ok(usize::try_from(count).ok().filter(|count| *count > 0))
        };
        let intervals = count("frequency")?.or(count("numIntervals")?);
        // One report is meant where nothing is said of repeating it.
        let repeat = if at.field("repeat").is_some() { count("repeat")? } else { Some(1) };
        reports.push(AskedReport { is_energy, intervals, repeat });
    }
    Ok(reports)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const PROGRAM: &str = "p1";

    fn limit(kilowatts: Value) -> Value {
        json!({ "type": "IMPORT_CAPACITY_LIMIT", "values": [kilowatts] })
    }

    /// An event of two intervals of an hour, as openleadr lists it.
    fn event() -> Value {
        json!({
            "id": "e1", "objectType": "EVENT", "programID": PROGRAM, "eventName": "hot", "priority": 3,
            "createdDateTime": "2026-03-02T08:00:00Z", "modificationDateTime": "2026-03-02T09:00:00Z",
            "targets": ["hall"], "unheard_of": { "x": 1 },
            "intervalPeriod": { "start": "2026-03-02T17:00:00Z", "duration": "PT1H" },
            "intervals": [{ "id": 0, "payloads": [limit(json!(400))] }, { "id": 1, "payloads": [limit(json!(400.5))] }]
        })
    }

    #[track_caller]
    fn reads(value: Value) -> Event {
        let mut listing = listing(&[value], PROGRAM, "ven");
        assert_eq!(listing.refused, []);
        listing.events.remove(0)
    }

    #[track_caller]
    fn refused(value: Value) -> String {
        let listing = listing(&[value], PROGRAM, "ven");
        assert_eq!((listing.events.len(), listing.refused.len()), (0, 1), "{listing:?}");
        listing.refused[0].to_string()
    }

    fn hours(event: &Event) -> Vec<(String, String)> {
        let write = period::write_instant;
        event.intervals.iter().map(|interval| (write(interval.from), write(interval.until))).collect()
    }

    fn pair(from: &str, until: &str) -> (String, String) {
        (from.to_owned(), until.to_owned())
    }

    #[test]
    fn intervals_follow_each_other() {
        let event = reads(event());
        assert_eq!((event.id.as_str(), event.priority), ("e1", Some(3)));
        let expected = [
            pair("2026-03-02T17:00:00Z", "2026-03-02T18:00:00Z"),
            pair("2026-03-02T18:00:00Z", "2026-03-02T19:00:00Z"),
        ];
        assert_eq!(hours(&event), expected);
        assert_eq!(event.intervals[1].payloads, [Payload::ImportLimit(Watts::new(400_500))]);
    }

    #[test]
    fn an_interval_may_have_its_own_times() {
        let mut value = event();
        value["intervals"][0]["intervalPeriod"] = json!({ "start": "2026-03-02T20:00:00+01:00", "duration": "PT15M" });
        let expected = [
            pair("2026-03-02T19:00:00Z", "2026-03-02T19:15:00Z"),
            pair("2026-03-02T19:15:00Z", "2026-03-02T20:15:00Z"),
        ];
        assert_eq!(hours(&reads(value)), expected);
    }

    #[test]
    fn now_is_when_the_event_was_changed_and_no_duration_is_for_ever() {
        let mut value = event();
        value["intervalPeriod"] = json!({ "start": "0001-01-01T00:00:00Z" });
        value["intervals"] = json!([{ "id": 0, "payloads": [limit(json!(1))] }]);
        assert_eq!(hours(&reads(value.clone())), [pair("2026-03-02T09:00:00Z", "2076-02-18T09:00:00Z")]);
        value["intervalPeriod"]["duration"] = json!("P9999Y");
        assert_eq!(hours(&reads(value)), [pair("2026-03-02T09:00:00Z", "2076-02-18T09:00:00Z")]);
    }

    #[test]
    fn starts_are_spread_for_each_client_and_always_alike() {
        let mut value = event();
        value["intervalPeriod"]["randomizeStart"] = json!("PT10M");
        let from = |client| listing(&[value.clone()], PROGRAM, client).events[0].intervals[0].from;
        let plain = reads(event()).intervals[0].from;
        assert_eq!(from("a"), from("a"));
        let shifts: Vec<i64> = ["a", "b", "c"].iter().map(|client| (from(client) - plain).as_millis()).collect();
        assert!(shifts.iter().all(|ms| (0..=600_000).contains(ms)), "{shifts:?}");
        assert!(shifts[0] != shifts[1] || shifts[1] != shifts[2], "{shifts:?}");
    }

    #[test]
    fn all_kinds_of_payload_are_read() {
        let mut value = event();
        value["payloadDescriptors"] = json!([{ "payloadType": "PRICE", "units": "KWH", "currency": "EUR" }]);
        value["intervals"] = json!([{ "id": 0, "payloads": [
            { "type": "DISPATCH_SETPOINT", "values": [250] }, { "type": "ALERT_GRID_EMERGENCY", "values": ["shed now"] },
            { "type": "PRICE", "values": [0.17] }, { "type": "GHG", "values": [381.5] }, { "type": "CURVE", "values": [{ "x": 1, "y": 2 }] },
        ] }]);
        value["reportDescriptors"] = json!([
            { "payloadType": "USAGE" }, { "payloadType": "DEMAND", "frequency": 1, "repeat": -1 }, { "payloadType": "BASELINE" },
            { "payloadType": "DEMAND", "historical": false },
        ]);
        let event = reads(value);
        assert_eq!(
            event.intervals[0].payloads,
            [Payload::Setpoint(Watts::new(250_000)), Payload::Emergency("shed now".to_owned()),]
        );
        let asked = |is_energy, intervals, repeat| AskedReport { is_energy, intervals, repeat };
        assert_eq!(event.reports, [asked(true, None, Some(1)), asked(false, Some(1), None)]);
        assert_eq!(
            event.untaken,
            ["a forecast of DEMAND", "a report of BASELINE", "payload CURVE", "payload GHG", "payload PRICE"]
        );
    }

    #[test]
    fn what_makes_no_sense_is_named() {
        let with = |pointer: &str, given: Value| {
            let mut value = event();
            *value.pointer_mut(pointer).expect("it is there") = given;
            refused(value)
        };
        for (pointer, given, said) in [
            ("/id", json!("a/b"), "event of no name: id is \"a/b\"; allowed is up to 128 letters, digits, `-` and `_`"),
            ("/id", json!(7), "event of no name: id is 7; allowed is up to 128 letters"),
            ("/programID", json!("p2"), "event e1: programID is \"p2\"; allowed is `p1`"),
            ("/priority", json!(-1), "event e1: priority is -1; allowed is a whole number from 0"),
            (
                "/intervalPeriod/start",
                json!("soon"),
                "event e1: intervalPeriod.start is \"soon\"; allowed is an instant",
            ),
            (
                "/intervalPeriod/duration",
                json!("1 hour"),
                "event e1: intervalPeriod.duration is \"1 hour\"; allowed is a duration",
            ),
            ("/intervalPeriod/duration", json!("PT0S"), "event e1: intervals[0] is {"),
            ("/intervals", json!("none"), "event e1: intervals is \"none\"; allowed is a list"),
            ("/intervals", json!([]), "event e1: intervals is []; allowed is a list of at least one interval"),
            ("/intervals", json!(null), "event e1: intervals is left out; allowed is a list of at least one interval"),
            ("/intervals/1/payloads", json!(null), "event e1: intervals[1].payloads is left out"),
            ("/intervals", json!([{ "id": 0, "payloads": [] }]), "allowed is a list of intervals with payloads"),
            ("/intervals/1/id", json!("x"), "event e1: intervals[1].id is \"x\""),
            (
                "/intervals/1/payloads/0/values",
                json!([]),
                "intervals[1].payloads[0].values is []; allowed is a list of one",
            ),
            (
                "/intervals/1/payloads/0/values/0",
                json!(-5),
                "intervals[1].payloads[0].values[0] is -5; allowed is a number from 0",
            ),
            ("/intervals/1/payloads/0/values/0", json!("400 kW"), "values[0] is \"400 kW\""),
            ("/intervals/1/payloads/0/values/0", json!(1e300), "allowed is a number from 0 to 1000000000 kW"),
        ] {
            let refused = with(pointer, given);
            assert!(refused.contains(said), "{refused}");
        }
        let mut value = event();
        value["payloadDescriptors"] = json!([{ "payloadType": "IMPORT_CAPACITY_LIMIT", "units": "KVA" }]);
        assert!(refused(value).contains("payloadDescriptors[0].units is \"KVA\"; allowed is `KW`"));
        let mut value = event();
        value["reportDescriptors"] = json!(vec![json!({ "payloadType": "USAGE" }); 17]);
        assert!(refused(value).contains("allowed is a list of at most 16"));
        let mut value = event();
        value["duration"] = json!("P1D");
        assert!(refused(value).contains("duration is \"P1D\""), "intervals are not repeated");
        let mut value = event();
        value["intervalPeriod"] = Value::Null;
        value["modificationDateTime"] = Value::Null;
        value["createdDateTime"] = Value::Null;
        assert!(refused(value).contains("intervals[0]"), "it never begins");
    }

    #[test]
    fn no_value_is_too_strange_to_be_read() {
        let strange = [
            json!(null),
            json!([]),
            json!("x"),
            json!(1e308),
            json!({ "id": { "id": [] } }),
            json!([[[[]]]]),
            json!(true),
        ];
        let read = listing(&strange, PROGRAM, "ven");
        assert_eq!((read.events.len(), read.refused.len(), read.is_whole()), (0, strange.len(), false));
        for pointer in [
            "/intervalPeriod",
            "/intervals",
            "/intervals/0",
            "/intervals/0/payloads",
            "/intervals/0/payloads/0",
            "/priority",
        ] {
            for given in &strange {
                let mut value = event();
                *value.pointer_mut(pointer).expect("it is there") = given.clone();
                let read = listing(&[value], PROGRAM, "ven");
                assert!(read.is_whole() && read.names("e1"), "{pointer} {given}");
            }
        }
        let twice = listing(&[event(), event()], PROGRAM, "ven");
        assert_eq!((twice.events.len(), twice.refused.len()), (1, 0), "pages overlap");
    }
}
