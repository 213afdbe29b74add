//! Reports: what was drawn under the cap in the intervals of an event.
//!
//! What is read is the server's account of a cap, which adds up what is expected of the work: a model, no meter. So each
//! report says `ESTIMATED`, whatever was asked for, and how much of its time was looked at.

use std::collections::{BTreeMap, BTreeSet};

use offtake_units::{Duration, Energy, Timestamp, Watts};
use serde_json::{Value, json};

use crate::event::{AskedReport, Event, Interval, Listing};
use crate::period::{write_instant, write_span};

/// A reading stands for no longer than this: after that nobody knows what was drawn. Readings are two minutes and the calls
/// of a round apart at most, see `--every`.
const LONGEST_READING: Duration = Duration::from_secs(300);
/// Reports sent in one round, so that they do not delay limits for long; the others follow.
const MOST_AT_ONCE: usize = 20;
/// Reports are tried for so long after their time.
const PATIENCE: Duration = Duration::DAY;

/// Which report: of an event, of its asked reports, of the groups of intervals.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ReportKey {
    event: String,
    asked: usize,
    group: usize,
}

/// A report that is to be sent.
#[derive(Clone, Debug, PartialEq)]
pub struct Report {
    /// Which.
    pub key: ReportKey,
    /// As OpenADR writes it.
    pub body: Value,
}

impl Eq for Report {}

impl Report {
    /// The event that it is of.
    pub fn event(&self) -> &str {
        &self.key.event
    }
}

/// What was drawn in an interval, as far as it was looked at.
#[derive(Clone, Copy, Debug, Default)]
struct Tally {
    energy: Energy,
    seen: Duration,
}

/// Adds up what is drawn in the intervals that reports are asked of.
#[derive(Debug)]
pub struct Meter {
    client: String,
    cap: String,
    last: Option<(Timestamp, Watts)>,
    events: BTreeMap<String, Event>,
    /// By the event and the interval's place in it: two intervals may have the same times, and the same identity.
    tallies: BTreeMap<(String, usize), Tally>,
    sent: BTreeSet<ReportKey>,
}

impl Meter {
    /// One that has read nothing.
    pub fn new(client: String, cap: String) -> Self {
        let (events, tallies) = (BTreeMap::new(), BTreeMap::new());
        Self { client, cap, last: None, events, tallies, sent: BTreeSet::new() }
    }

    /// Follows the events that ask for reports.
    pub fn follow(&mut self, listing: &Listing) {
        for event in listing.events.iter().filter(|event| !event.reports.is_empty()) {
            let before = self.events.insert(event.id.clone(), event.clone());
            // What was drawn in a time that is no longer asked of is no longer told.
            let before = before.map(|event| event.intervals).unwrap_or_default();
            let times = |intervals: &[Interval], place: usize| {
                intervals.get(place).map(|interval| (interval.from, interval.until))
            };
            self.tallies
                .retain(|(id, place), _| *id != event.id || times(&before, *place) == times(&event.intervals, *place));
        }
    }

    /// Forgets events that are gone, and those that were over long ago. That one list lacks an event means neither.
    pub fn forget(&mut self, now: Timestamp, gone: &BTreeSet<String>) {
        let Self { events, tallies, sent, .. } = self;
        let is_late = |event: &Event| event.intervals.iter().all(|interval| interval.until < now - PATIENCE);
        events.retain(|id, event| !gone.contains(id) && !is_late(event));
        tallies.retain(|(event, _), _| events.contains_key(event));
        sent.retain(|key| events.contains_key(&key.event));
    }

    /// Events that are followed, which a list lacks.
    pub fn missing<'a>(&'a self, listing: &'a Listing) -> impl Iterator<Item = &'a String> {
        self.events.keys().filter(|id| !listing.names(id))
    }

    /// Takes a reading. The one before it held until now.
    pub fn read(&mut self, now: Timestamp, drawn: Watts) {
        let before = self.last.replace((now, drawn));
        let Some((since, drawn)) = before.filter(|(since, _)| *since < now && now - *since <= LONGEST_READING) else {
            return;
        };
        for event in self.events.values() {
            for (place, interval) in event.intervals.iter().enumerate() {
                let (from, until) = (interval.from.max(since), interval.until.min(now));
                if from < until {
                    let tally = self.tallies.entry((event.id.clone(), place)).or_default();
                    tally.energy += drawn.over(until - from);
                    tally.seen += until - from;
                }
            }
        }
    }

    /// The reports whose time has come. Of a time that was not looked at there is none.
    pub fn due(&self, now: Timestamp) -> impl Iterator<Item = Report> {
        let asked =
            self.events.values().flat_map(|event| event.reports.iter().enumerate().map(move |asked| (event, asked)));
        asked.flat_map(move |(event, (place, asked))| self.groups(event, place, *asked, now)).take(MOST_AT_ONCE)
    }

    fn groups(&self, event: &Event, place: usize, asked: AskedReport, now: Timestamp) -> Vec<Report> {
        let size = asked.intervals.unwrap_or(event.intervals.len()).max(1);
        let groups = event.intervals.chunks(size).enumerate().take(asked.repeat.unwrap_or(usize::MAX));
        let mut reports = Vec::new();
        for (group, intervals) in groups {
            let key = ReportKey { event: event.id.clone(), asked: place, group };
            let end = intervals.iter().map(|interval| interval.until).max().unwrap_or(Timestamp::NEVER);
            if end > now || end < now - PATIENCE || self.sent.contains(&key) {
                continue;
            }
            let seen: Vec<(&Interval, Tally)> = intervals
                .iter()
                .enumerate()
                .filter_map(|(place, interval)| {
                    Some((interval, *self.tallies.get(&(event.id.clone(), group * size + place))?))
                })
                .collect();
            if !seen.is_empty() {
                let body = self.body(&key, asked, intervals, &seen);
                reports.push(Report { key, body });
            }
        }
        reports
    }

    fn body(&self, key: &ReportKey, asked: AskedReport, whole: &[Interval], seen: &[(&Interval, Tally)]) -> Value {
        let (kind, unit) = if asked.is_energy { ("USAGE", "KWH") } else { ("DEMAND", "KW") };
        let intervals: Vec<Value> = seen
            .iter()
            .map(|(interval, tally)| {
                let period = json!({ "start": write_instant(interval.from), "duration": write_span(interval.until - interval.from) });
                let values = [json!({ "type": kind, "values": [tally.amount(asked.is_energy)] })];
                json!({ "id": interval.id, "intervalPeriod": period, "payloads": values })
            })
            .collect();
        let sum =
            |spans: &mut dyn Iterator<Item = Duration>| spans.map(|span| i128::from(span.as_millis())).sum::<i128>();
        let all = sum(&mut whole.iter().map(|interval| interval.until - interval.from)).max(1);
        let looked_at = sum(&mut seen.iter().map(|(_, tally)| tally.seen));
        let descriptor = json!({
            "payloadType": kind, "readingType": "ESTIMATED", "units": unit, "confidence": (looked_at * 100 / all) as i64,
        });
        json!({
            "objectType": "REPORT",
            "eventID": key.event,
            "clientName": self.client,
            "reportName": format!("{} {} {}.{}", self.cap, key.event, key.asked, key.group),
            "payloadDescriptors": [descriptor],
            "resources": [{ "resourceName": self.cap, "intervals": intervals }],
        })
    }

    /// A report was sent, or will never be taken.
    pub fn sent(&mut self, key: ReportKey) {
        self.sent.insert(key);
    }
}

impl Tally {
    /// Energy in kWh, or the mean of the power in kW over the time that was looked at, to the watt.
    fn amount(self, is_energy: bool) -> f64 {
        const MS_AN_HOUR: i128 = 3_600_000;
        let watt_millis = self.energy.watt_millis();
        let amount = match is_energy {
            true => watt_millis / MS_AN_HOUR,
            false => watt_millis / i128::from(self.seen.as_millis()).max(1),
        };
        amount as f64 / 1000.0
    }
}
