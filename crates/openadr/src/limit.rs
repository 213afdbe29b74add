//! What events ask of a cap: at each instant the limit of the event with the highest priority, and of those the lowest.

use std::collections::{BTreeMap, BTreeSet};

use offtake_units::{Timestamp, Watts};

use crate::event::{Event, Payload};

/// Characters of a programme's name that limits are named by; names are at most 200 bytes long.
const LONGEST_PROGRAM: usize = 32;

/// Whose events are followed, and under which cap.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scope {
    /// The address of the VTN.
    pub vtn: String,
    /// The name of the programme.
    pub program: String,
    /// The name of the cap.
    pub cap: String,
}

impl Scope {
    /// What the names of all limits of this programme of this VTN begin with. The programme alone does not tell whose a limit
    /// is: two VTNs may have programmes of one name, and names that differ may look alike here.
    pub fn prefix(&self) -> String {
        let plain = |c: char| if c.is_ascii_alphanumeric() || "-_.".contains(c) { c } else { '-' };
        let program: String = self.program.chars().map(plain).take(LONGEST_PROGRAM).collect();
        let owner = fingerprint(&[self.vtn.trim_end_matches('/'), &self.program]);
        format!("openadr/{program}-{:06x}/", owner & 0xff_ffff)
    }

    /// The event that a limit of this name is of; none when it is not of this programme.
    pub fn event<'a>(&self, name: &'a str) -> Option<&'a str> {
        name.strip_prefix(&self.prefix())?.split('/').next().filter(|event| !event.is_empty())
    }

    /// A name that says what is asked: what is asked for again is known again, and what has changed has another name.
    fn name(&self, claim: &Claim<'_>, from: Timestamp, until: Timestamp) -> String {
        let amounts = [from.as_millis(), until.as_millis(), claim.watts.get()].map(|amount| amount.to_string());
        let [from, until, watts] = &amounts;
        let content = fingerprint(&[&self.cap, from, until, watts]);
        format!("{}{}/{}/{:08x}", self.prefix(), claim.event, claim.interval, content & 0xffff_ffff)
    }
}

/// No more than this may be drawn for a time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limit {
    /// `openadr/PROGRAMME-OWNER/EVENT/INTERVAL/` and a fingerprint of the rest, at most 200 bytes. OWNER is a fingerprint of
    /// the VTN and the programme.
    pub name: String,
    /// The event that asks for it.
    pub event: String,
    /// From when.
    pub from: Timestamp,
    /// Until when.
    pub until: Timestamp,
    /// So much.
    pub watts: Watts,
}

/// What one interval asks for. Of several that overlap the first in this order counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Claim<'a> {
    /// Any priority goes before none.
    priority: (bool, u32),
    watts: Watts,
    event: &'a str,
    interval: i64,
    /// Tells those of one interval apart.
    place: usize,
}

/// The limits that events ask for under a cap, in the order of time; no two at one instant.
///
/// `emergency` is what is allowed in a grid emergency, where the operator has said so. What asks for no less than
/// `declared`, which the cap allows anyway, is no limit.
pub fn wanted(events: &[Event], emergency: Option<Watts>, declared: Watts, scope: &Scope) -> Vec<Limit> {
    let mut changes: BTreeMap<Timestamp, (Vec<Claim<'_>>, Vec<Claim<'_>>)> = BTreeMap::new();
    let mut place = 0;
    for event in events {
        for interval in &event.intervals {
            let asked = interval.payloads.iter().filter_map(|payload| match payload {
                Payload::ImportLimit(watts) | Payload::Setpoint(watts) => Some(*watts),
                Payload::Emergency(_) => emergency,
            });
            let Some(watts) = asked.min() else { continue };
            place += 1;
            let priority = (event.priority.is_none(), event.priority.unwrap_or_default());
            let claim = Claim { priority, watts, event: &event.id, interval: interval.id, place };
            changes.entry(interval.from).or_default().0.push(claim);
            changes.entry(interval.until).or_default().1.push(claim);
        }
    }
    let mut held: BTreeSet<Claim<'_>> = BTreeSet::new();
    let mut current: Option<(Claim<'_>, Timestamp)> = None;
    let mut limits = Vec::new();
    for (at, (begins, ends)) in changes {
        for claim in &ends {
            held.remove(claim);
        }
        held.extend(begins);
        let first = held.first().copied();
        if first == current.map(|(claim, _)| claim) {
            continue;
        }
        if let Some((claim, from)) = current {
            let name = scope.name(&claim, from, at);
            limits.push(Limit { name, event: claim.event.to_owned(), from, until: at, watts: claim.watts });
        }
        current = first.map(|claim| (claim, at));
    }
    limits.retain(|limit| limit.watts < declared);
    limits
}

/// A number that stays the same for the same texts, also in later releases (FNV-1a).
pub fn fingerprint(texts: &[&str]) -> u64 {
    let bytes = texts.iter().flat_map(|text| text.bytes().chain([0]));
    bytes.fold(0xcbf2_9ce4_8422_2325, |sum, byte| (sum ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::event::Interval;

    fn scope() -> Scope {
        Scope { vtn: "https://vtn".to_owned(), program: "peak days".to_owned(), cap: "grid".to_owned() }
    }

    fn event(id: &str, priority: Option<u32>, from: i64, until: i64, payload: Payload) -> Event {
        let (from, until) = (Timestamp::from_secs(from), Timestamp::from_secs(until));
        let intervals = vec![Interval { id: 0, from, until, payloads: vec![payload] }];
        Event { id: id.to_owned(), priority, intervals, reports: Vec::new(), untaken: Vec::new() }
    }

    fn import(id: &str, priority: Option<u32>, from: i64, until: i64, watts: i64) -> Event {
        event(id, priority, from, until, Payload::ImportLimit(Watts::new(watts)))
    }

    const DECLARED: Watts = Watts::new(1000);

    fn limits(events: &[Event]) -> Vec<(String, i64, i64, i64)> {
        let limits = wanted(events, Some(Watts::new(100)), DECLARED, &scope());
        let seconds = |at: Timestamp| at.as_millis() / 1000;
        limits
            .into_iter()
            .map(|limit| (limit.event, seconds(limit.from), seconds(limit.until), limit.watts.get()))
            .collect()
    }

    fn limit(event: &str, from: i64, until: i64, watts: i64) -> (String, i64, i64, i64) {
        (event.to_owned(), from, until, watts)
    }

    #[test]
    fn of_equals_the_lower_counts() {
        let events = [import("a", None, 10, 40, 500), import("b", None, 20, 30, 400)];
        assert_eq!(limits(&events), [limit("a", 10, 20, 500), limit("b", 20, 30, 400), limit("a", 30, 40, 500)]);
    }

    #[test]
    fn a_priority_goes_before_a_lower_limit() {
        let events =
            [import("a", Some(5), 10, 40, 300), import("b", Some(0), 20, 30, 400), import("c", None, 0, 50, 100)];
        let expected = [
            limit("c", 0, 10, 100),
            limit("a", 10, 20, 300),
            limit("b", 20, 30, 400),
            limit("a", 30, 40, 300),
            limit("c", 40, 50, 100),
        ];
        assert_eq!(limits(&events), expected);
    }

    #[test]
    fn an_emergency_is_met_as_the_operator_has_said() {
        let emergency = event("a", None, 10, 20, Payload::Emergency("shed".to_owned()));
        assert_eq!(limits(std::slice::from_ref(&emergency)), [limit("a", 10, 20, 100)]);
        assert_eq!(wanted(&[emergency], None, DECLARED, &scope()), []);
    }

    #[test]
    fn what_the_cap_allows_anyway_is_no_limit() {
        assert_eq!(limits(&[import("a", None, 10, 20, 1000), import("b", None, 30, 40, 5000)]), []);
    }

    #[test]
    fn names_say_what_is_asked() {
        let name = |event: Event| wanted(&[event], None, DECLARED, &scope()).remove(0).name;
        let before = name(import("a", None, 10, 20, 500));
        assert!(before.starts_with("openadr/peak-days-") && before.contains("/a/0/"), "{before}");
        assert_eq!(before, name(import("a", Some(1), 10, 20, 500)), "the same is asked");
        for other in [import("a", None, 11, 20, 500), import("a", None, 10, 21, 500), import("a", None, 10, 20, 501)] {
            assert_ne!(before, name(other));
        }
        assert_eq!(scope().event(&before), Some("a"));
        assert_eq!((scope().event("openadr/other/a/0/1"), scope().event("mine")), (None, None));
        // Neither the programme of that name at another VTN, nor one whose name looks alike, may withdraw it.
        for other in [
            Scope { vtn: "https://other".to_owned(), ..scope() },
            Scope { program: "peak-days".to_owned(), ..scope() },
            Scope { program: format!("peak days{}", "!".repeat(100)), ..scope() },
        ] {
            assert_eq!(other.event(&before), None, "{other:?}");
        }
        let same = Scope { vtn: "https://vtn/".to_owned(), ..scope() };
        assert_eq!(same.event(&before), Some("a"), "a slash at the end is the same address");
        let mut long = import(&"x".repeat(128), None, 10, 20, 500);
        long.intervals[0].id = i64::from(i32::MIN);
        let scope = Scope { program: "p".repeat(128), ..scope() };
        assert!(wanted(&[long], None, DECLARED, &scope)[0].name.len() <= 200);
    }

    fn any_event() -> impl Strategy<Value = (Option<u32>, i64, i64, i64)> {
        (proptest::option::of(0..3_u32), 0..50_i64, 1..20_i64, 0..1200_i64)
    }

    proptest! {
        /// At each instant there is the limit that a look at all events would give.
        #[test]
        fn limits_are_those_of_each_instant(given in proptest::collection::vec(any_event(), 0..12)) {
            let named = given.iter().enumerate();
            let events: Vec<Event> =
                named.map(|(id, (priority, from, span, watts))| import(&format!("e{id}"), *priority, *from, from + span, *watts)).collect();
            let limits = limits(&events);
            for second in 0..80 {
                let speaking = given.iter().filter(|(_, from, span, _)| (*from..from + span).contains(&second));
                let first = speaking.map(|(priority, _, _, watts)| (priority.is_none(), priority.unwrap_or(0), *watts)).min();
                let expected = first.map(|(_, _, watts)| watts).filter(|watts| *watts < DECLARED.get());
                let found: Vec<i64> =
                    limits.iter().filter(|(_, from, until, _)| (*from..*until).contains(&second)).map(|limit| limit.3).collect();
                prop_assert_eq!(found, expected.into_iter().collect::<Vec<_>>(), "at {}", second);
            }
        }
    }
}
