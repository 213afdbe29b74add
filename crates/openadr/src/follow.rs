//! Follows the events of a VTN: compares what they ask for with what stands announced, and says what to do.
//!
//! What stands holds until its end, unless the VTN itself takes it back: it lists its events without it, and says of the
//! event that there is none. A VTN that is away, or whose answer is not understood, takes nothing back. Where an event has
//! changed, the new limit begins before the old one goes, so that there is no moment without either. Running it again on
//! the same view asks for nothing new.

use std::collections::{BTreeMap, BTreeSet};

use offtake_units::{Duration, Ppm, Timestamp, Watts};

use crate::client::Trouble;
use crate::event::{Listing, Payload};
use crate::limit::{Limit, Scope, wanted};
use crate::report::{Meter, Report, ReportKey};

/// Nothing announced begins sooner.
const LEAST_NOTICE: Duration = Duration::from_secs(10);
/// What begins later is announced when its time comes nearer.
const HORIZON: Duration = Duration::from_secs(7 * 86_400);
/// Limits announced at one time; the server takes a thousand events from all.
const MOST_LIMITS: usize = 200;
/// Events that make no sense which are told in full.
const MOST_TOLD: usize = 10;
/// Subjects remembered for not being told twice: what the VTN names may be without end.
const MOST_SUBJECTS: usize = 1000;
/// Missing events asked for in one round, so that they do not delay limits for long.
const MOST_ASKED: usize = 20;

/// Whom to follow, and how.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Whose events, and under which cap.
    pub scope: Scope,
    /// To which share of what the cap allows a grid emergency cuts; without, nothing is done about one.
    pub emergency: Option<Ppm>,
    /// Who follows: the client that the VTN knows.
    pub client: String,
}

/// A limit that stands announced.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Standing {
    /// Its name.
    pub name: String,
    /// From when it is in force.
    pub from: Timestamp,
    /// Whether it has begun.
    pub has_begun: bool,
}

/// What is seen of the fleet and the VTN at one time. What could not be seen is a reason.
#[derive(Clone, Debug)]
pub struct Seen {
    /// What the VTN lists.
    pub vtn: Result<Listing, Trouble>,
    /// Events of which the VTN says that there are none.
    pub gone: BTreeSet<String>,
    /// Limits under the cap that stand announced, whosever they are.
    pub standing: Result<Vec<Standing>, String>,
    /// What the cap allows when nobody asks for less.
    pub declared: Watts,
    /// What counts as drawn under it.
    pub drawn: Watts,
}

/// What is to be done, in this order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Tell the operator.
    Say(String),
    /// Announce a limit. Where that fails, nothing may be withdrawn.
    Announce(Limit),
    /// Withdraw the limit of this name.
    Withdraw(String),
    /// Send a report.
    Report(Report),
}

/// Follows one programme of a VTN for one cap.
#[derive(Debug)]
pub struct Follower {
    settings: Settings,
    said: BTreeMap<String, String>,
    /// Whether the VTN was away when it was last looked at.
    is_away: bool,
    meter: Meter,
    /// The missing event that was asked for last: the next round goes on after it.
    asked: String,
}

impl Follower {
    /// One that has seen nothing yet.
    pub fn new(settings: Settings) -> Self {
        let meter = Meter::new(settings.client.clone(), settings.scope.cap.clone());
        Self { settings, said: BTreeMap::new(), is_away: false, meter, asked: String::new() }
    }

    /// Events with limits that stand, or that reports are owed of, which the VTN no longer lists: whether they are gone has
    /// to be asked. Of many some, each time others.
    pub fn missing(&mut self, listing: &Listing, standing: &[Standing]) -> BTreeSet<String> {
        if !listing.is_whole() {
            return BTreeSet::new();
        }
        let ours = standing.iter().filter_map(|standing| self.settings.scope.event(&standing.name));
        let mut all: BTreeSet<String> = ours.filter(|event| !listing.names(event)).map(str::to_owned).collect();
        all.extend(self.meter.missing(listing).cloned());
        let (before, after): (Vec<String>, Vec<String>) = all.into_iter().partition(|event| *event <= self.asked);
        let now: Vec<String> = after.into_iter().chain(before).take(MOST_ASKED).collect();
        self.asked = now.last().cloned().unwrap_or_default();
        now.into_iter().collect()
    }

    /// What is to be done now.
    pub fn decide(&mut self, now: Timestamp, seen: &Seen) -> Vec<Action> {
        let mut actions = Vec::new();
        let is_away = matches!(seen.vtn, Err(Trouble::Unreachable { .. }));
        let vtn = seen.vtn.as_ref().err().map(|trouble| format!("{trouble}; the limits that stand hold"));
        // A VTN that goes down breaks a connection, then refuses the next: one outage, of which it is told once.
        if !(is_away && self.is_away) {
            self.note("the VTN", vtn, &mut actions);
        }
        self.is_away = is_away;
        let server =
            seen.standing.as_ref().err().map(|reason| format!("{reason}; nothing is announced until it answers"));
        self.note("the server", server, &mut actions);
        if let Ok(listing) = &seen.vtn {
            self.tell_of_events(now, listing, &mut actions);
            self.meter.follow(listing);
            self.meter.forget(now, &seen.gone);
        }
        if let Ok(standing) = &seen.standing {
            self.meter.read(now, seen.drawn);
            if let Ok(listing) = &seen.vtn {
                self.limits(now, listing, standing, seen, &mut actions);
            }
        }
        actions.extend(self.meter.due(now).map(Action::Report));
        actions
    }

    /// How it went with something that is to be said once: what is wrong with it, or nothing. Gives what is to be said now.
    pub fn outcome(&mut self, subject: &str, wrong: Option<String>) -> Option<String> {
        let mut actions = Vec::new();
        self.note(subject, wrong, &mut actions);
        actions.into_iter().find_map(|action| match action {
            Action::Say(text) => Some(text),
            _ => None,
        })
    }

    /// A report was sent, or will never be taken.
    pub fn reported(&mut self, key: ReportKey) {
        self.meter.sent(key);
    }

    /// Tells of each subject only when what there is to tell changes.
    fn note(&mut self, subject: &str, wrong: Option<String>, actions: &mut Vec<Action>) {
        match wrong {
            Some(wrong) if self.said.get(subject) == Some(&wrong) => {}
            Some(wrong) => {
                actions.push(Action::Say(format!("{subject}: {wrong}")));
                if self.said.len() >= MOST_SUBJECTS {
                    self.said.pop_first();
                }
                self.said.insert(subject.to_owned(), wrong);
            }
            None if self.said.remove(subject).is_some() => {
                actions.push(Action::Say(format!("{subject}: all is well again")))
            }
            None => {}
        }
    }

    fn tell_of_events(&mut self, now: Timestamp, listing: &Listing, actions: &mut Vec<Action>) {
        let mut nonsense: Vec<String> = listing.refused.iter().take(MOST_TOLD).map(ToString::to_string).collect();
        let others = listing.refused.len() - nonsense.len();
        if others > 0 {
            nonsense.push(format!("and {others} more"));
        }
        let nonsense = Some(nonsense.join("; ")).filter(|text| !text.is_empty());
        self.note("not understood, what stands of it holds", nonsense, actions);
        let mut live = BTreeSet::new();
        for event in listing.events.iter().filter(|event| event.intervals.iter().any(|interval| interval.until > now)) {
            let subject = format!("event {}", event.id);
            let mut told = Vec::new();
            let payloads = event.intervals.iter().flat_map(|interval| &interval.payloads);
            let emergency = payloads.into_iter().find_map(|payload| match payload {
                Payload::Emergency(message) => Some(message),
                _ => None,
            });
            if let Some(message) = emergency {
                let done = match self.settings.emergency {
                    Some(_) => "",
                    None => "; without --emergency nothing is done about it",
                };
                told.push(format!("a grid emergency is announced, `{message}`{done}"));
            }
            if !event.untaken.is_empty() {
                let what = if event.asks_nothing() {
                    "nothing that it asks for is taken here, what stands of it holds"
                } else {
                    "it also asks for what is not taken here"
                };
                told.push(format!("{what}: {}", event.untaken.join(", ")));
            }
            if !told.is_empty() {
                self.note(&subject, Some(told.join("; ")), actions);
                live.insert(subject);
            }
        }
        // An event that is over ends without a word.
        self.said.retain(|subject, _| !subject.starts_with("event ") || live.contains(subject));
    }

    fn limits(
        &mut self,
        now: Timestamp,
        listing: &Listing,
        standing: &[Standing],
        seen: &Seen,
        actions: &mut Vec<Action>,
    ) {
        let scope = &self.settings.scope;
        let emergency = self.settings.emergency.map(|share| seen.declared.share_up(share));
        let wanted = wanted(&listing.events, emergency, seen.declared, scope);
        let begun: BTreeSet<&str> =
            standing.iter().filter(|standing| standing.has_begun).map(|standing| standing.name.as_str()).collect();
        let known: BTreeSet<&str> = standing.iter().map(|standing| standing.name.as_str()).collect();
        let earliest = now.saturating_add(LEAST_NOTICE);

        let due = |limit: &&Limit| limit.until > earliest && limit.from <= now.saturating_add(HORIZON);
        let new: Vec<&Limit> =
            wanted.iter().filter(due).take(MOST_LIMITS).filter(|limit| !known.contains(limit.name.as_str())).collect();
        actions.extend(
            new.iter().map(|limit| Action::Announce(Limit { from: limit.from.max(earliest), ..(*limit).clone() })),
        );

        // From when on there is a limit that has not begun yet, of those that should be in force by then.
        let begins = |limit: &Limit| {
            let stands = standing.iter().find(|standing| standing.name == limit.name);
            stands.map_or(Timestamp::NEVER, |standing| standing.from)
        };
        let is_missing =
            |limit: &&Limit| limit.from <= earliest && limit.until > earliest && !begun.contains(limit.name.as_str());
        let covered = wanted.iter().filter(is_missing).map(begins).max();
        let names: BTreeSet<&str> = wanted.iter().map(|limit| limit.name.as_str()).collect();
        for standing in standing.iter().filter(|standing| !names.contains(standing.name.as_str())) {
            let Some(event) = scope.event(&standing.name) else { continue };
            // An event that now says nothing understood has not taken back what it said before.
            let is_silent = listing.events.iter().any(|known| known.id == event && known.asks_nothing());
            let is_known = !listing.refuses(event) && !is_silent && (listing.names(event) || seen.gone.contains(event));
            // What replaces it has not begun yet.
            let is_needed = covered.is_some_and(|covered| standing.has_begun || standing.from < covered);
            if listing.is_whole() && is_known && !is_needed {
                actions.push(Action::Withdraw(standing.name.clone()));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::event::listing;

    const NOW: Timestamp = Timestamp::from_secs(1_772_470_800);

    fn scope() -> Scope {
        Scope { vtn: "https://vtn".to_owned(), program: "peak".to_owned(), cap: "grid".to_owned() }
    }

    fn event(id: &str, start: &str, duration: &str, kilowatts: f64) -> Value {
        json!({
            "id": id, "programID": "p1", "modificationDateTime": "2026-03-02T17:00:00Z",
            "intervalPeriod": { "start": start, "duration": duration },
            "intervals": [{ "id": 0, "payloads": [{ "type": "IMPORT_CAPACITY_LIMIT", "values": [kilowatts] }] }]
        })
    }

    const START: &str = "2026-03-02T18:00:00Z";

    /// A VTN, a server and who is between them.
    struct World {
        follower: Follower,
        now: Timestamp,
        events: Vec<Value>,
        standing: BTreeMap<String, Limit>,
        gone: BTreeSet<String>,
        vtn: Option<Trouble>,
        said: Vec<String>,
    }

    impl World {
        fn new() -> Self {
            let settings = Settings { scope: scope(), emergency: Some(Ppm::new(400_000)), client: "ven".to_owned() };
            let gone = BTreeSet::new();
            Self {
                follower: Follower::new(settings),
                now: NOW,
                events: vec![],
                standing: BTreeMap::new(),
                gone,
                vtn: None,
                said: vec![],
            }
        }

        fn list(&mut self, events: &[Value]) -> &mut Self {
            self.events = events.to_vec();
            self
        }

        /// Looks once and does what is to be done.
        fn tick(&mut self) -> Vec<Action> {
            let vtn = self.vtn.clone().map_or_else(|| Ok(listing(&self.events, "p1", "ven")), Err);
            let standing = self
                .standing
                .values()
                .map(|limit| Standing { name: limit.name.clone(), from: limit.from, has_begun: limit.from <= self.now })
                .collect();
            let (declared, drawn) = (Watts::new(1_000_000), Watts::new(600_000));
            let seen = Seen { vtn, gone: self.gone.clone(), standing: Ok(standing), declared, drawn };
            let actions = self.follower.decide(self.now, &seen);
            for action in &actions {
                match action {
                    Action::Say(text) => self.said.push(text.clone()),
                    Action::Announce(limit) => drop(self.standing.insert(limit.name.clone(), limit.clone())),
                    Action::Withdraw(name) => drop(self.standing.remove(name)),
                    Action::Report(report) => self.follower.reported(report.key.clone()),
                }
            }
            actions
        }

        fn later(&mut self, seconds: i64) -> &mut Self {
            self.now = self.now + Duration::from_secs(seconds);
            self.standing.retain(|_, limit| limit.until > self.now);
            self
        }

        /// What is allowed now.
        fn allowed(&self) -> Option<i64> {
            let now = self.standing.values().filter(|limit| limit.from <= self.now);
            now.map(|limit| limit.watts.get()).min()
        }
    }

    #[test]
    fn an_event_is_announced_once_and_ends_by_itself() {
        let mut world = World::new();
        assert_eq!(world.list(&[event("e1", START, "PT1H", 400.0)]).tick().len(), 1);
        assert_eq!(world.tick(), [], "it stands");
        assert_eq!((world.allowed(), world.later(3600).allowed()), (None, Some(400_000)));
        assert_eq!(world.tick(), []);
        assert_eq!(world.later(3600).tick(), [], "nobody withdraws what has ended");
        assert_eq!(world.said, Vec::<String>::new());
    }

    #[test]
    fn a_restart_announces_nothing_again() {
        let mut world = World::new();
        world.list(&[event("e1", START, "PT1H", 400.0), event("e2", "0001-01-01", "PT2H", 500.0)]).tick();
        world.follower = World::new().follower;
        assert_eq!(world.later(60).tick(), []);
    }

    #[test]
    fn an_event_that_has_begun_already_begins_as_soon_as_can_be() {
        let mut world = World::new();
        let actions = world.later(3605).list(&[event("e1", START, "PT1H", 400.0)]).tick();
        let [Action::Announce(limit)] = actions.as_slice() else { unreachable!("{actions:?}") };
        assert_eq!((limit.from - world.now, limit.until - NOW), (LEAST_NOTICE, Duration::from_secs(7200)));
        let late = World::new().later(7195).list(&[event("e1", START, "PT1H", 400.0)]).tick();
        assert_eq!(late, [], "it would end before it began");
    }

    #[test]
    fn only_the_vtn_takes_a_limit_back() {
        let mut world = World::new();
        world.list(&[event("e1", START, "PT1H", 400.0)]).tick();
        world.later(3600);
        // It goes down in the middle of a call, stays away, and comes back confused.
        let away = |path: &str, reason: &str| Trouble::Unreachable { url: path.to_owned(), reason: reason.to_owned() };
        let confused = Trouble::Garbage { url: "/events".to_owned(), reason: "it is no list".to_owned() };
        for (trouble, said) in [
            (away("/events", "connection closed before message completed"), 1),
            (away("/programs", "Connection refused"), 1),
            (confused, 2),
        ] {
            world.vtn = Some(trouble);
            world.tick();
            assert_eq!(world.tick(), [], "it is said once");
            assert_eq!((world.allowed(), world.said.len()), (Some(400_000), said), "{:?}", world.said);
        }
        world.vtn = None;
        world.tick();
        assert_eq!(world.said.len(), 3, "{:?}", world.said);
        // A page shifted, or the list is a lie.
        assert_eq!(world.list(&[]).tick(), []);
        let listing = Listing::default();
        let name = world.standing.keys().next().expect("it stands").clone();
        let standing = [Standing { name, from: NOW, has_begun: true }];
        assert_eq!(world.follower.missing(&listing, &standing), BTreeSet::from(["e1".to_owned()]));
        world.gone.insert("e1".to_owned());
        world.tick();
        assert_eq!(world.allowed(), None);
    }

    #[test]
    fn garbage_takes_nothing_back() {
        let mut world = World::new();
        world.list(&[event("e1", START, "PT1H", 400.0), event("e2", START, "PT3H", 700.0)]).tick();
        world.later(3600).gone = BTreeSet::from(["e1".to_owned(), "e2".to_owned()]);
        assert_eq!(world.allowed(), Some(400_000));
        // The first now makes no sense; the second is taken back.
        world.list(&[event("e1", "soon", "PT1H", 400.0)]).tick();
        assert_eq!(world.allowed(), Some(400_000));
        assert!(
            world.said.iter().any(|said| said.contains("event e1: intervalPeriod.start is \"soon\"")),
            "{:?}",
            world.said
        );
        // Nobody knows which event this is, so it might be any.
        let standing = world.standing.len();
        world.list(&[json!({ "id": 7 })]).tick();
        assert_eq!((world.standing.len(), world.allowed()), (standing, Some(400_000)));
    }

    #[test]
    fn what_changes_is_replaced_without_a_gap() {
        let mut world = World::new();
        world.list(&[event("e1", START, "PT1H", 400.0)]).tick();
        world.later(3600).list(&[event("e1", START, "PT1H", 300.0)]).tick();
        assert_eq!((world.standing.len(), world.allowed()), (2, Some(400_000)), "the old one holds");
        world.later(5).tick();
        assert_eq!((world.standing.len(), world.allowed()), (2, Some(400_000)), "the new one has not begun");
        world.later(5).tick();
        assert_eq!((world.standing.len(), world.allowed()), (1, Some(300_000)));
        // What has not begun yet is replaced at once.
        let mut world = World::new();
        world.list(&[event("e1", START, "PT1H", 400.0)]).tick();
        world.list(&[event("e1", START, "PT1H", 300.0)]).tick();
        assert_eq!(world.standing.values().map(|limit| limit.watts.get()).collect::<Vec<_>>(), [300_000]);
    }

    #[test]
    fn what_changes_just_before_it_begins_leaves_no_gap() {
        for before in 0..=12 {
            let mut world = World::new();
            world.list(&[event("e1", START, "PT1H", 400.0)]).tick();
            world.later(3600 - before).list(&[event("e1", START, "PT1H", 300.0)]).tick();
            for second in 1..=40 {
                world.later(1);
                assert!(second < before || world.allowed().is_some(), "changed {before} s before, gap at {second} s");
                world.tick();
            }
            assert_eq!((world.standing.len(), world.allowed()), (1, Some(300_000)));
        }
    }

    #[test]
    fn half_an_event_takes_nothing_back() {
        let mut world = World::new();
        world.list(&[event("e1", START, "PT1H", 400.0)]).tick();
        world.later(3600);
        for given in
            [json!(null), json!([]), json!([{ "id": 0, "payloads": [] }]), json!([{ "id": 0, "payloads": null }])]
        {
            let mut half = event("e1", START, "PT1H", 400.0);
            half["intervals"] = given;
            world.list(&[half]).tick();
            assert_eq!(world.allowed(), Some(400_000));
            assert!(world.said.last().is_some_and(|said| said.contains("event e1: intervals")), "{:?}", world.said);
        }
        let mut silent = event("e1", START, "PT1H", 400.0);
        silent["intervals"][0]["payloads"] = json!([{ "type": "PRICE", "values": [0.17] }]);
        world.list(&[silent]).tick();
        assert_eq!(world.allowed(), Some(400_000));
        assert!(
            world.said.iter().any(|said| said.contains("what stands of it holds: payload PRICE")),
            "{:?}",
            world.said
        );
    }

    #[test]
    fn of_many_faults_the_first_are_told_and_a_count() {
        let mut world = World::new();
        let many: Vec<Value> = (0..25).map(|id| event(&format!("e{id}"), "soon", "PT1H", 400.0)).collect();
        world.list(&many).tick();
        let [said] = world.said.as_slice() else { unreachable!("{:?}", world.said) };
        assert!(said.contains("event e9:") && !said.contains("event e10:") && said.ends_with("and 15 more"), "{said}");
    }

    #[test]
    fn many_missing_events_are_asked_for_in_turn() {
        let mut world = World::new();
        let name = |id: i64| format!("{}e{id:02}/0/1", scope().prefix());
        let standing: Vec<Standing> =
            (0..50).map(|id| Standing { name: name(id), from: NOW, has_begun: true }).collect();
        let mut asked = BTreeSet::new();
        for _ in 0..3 {
            let now = world.follower.missing(&Listing::default(), &standing);
            assert!(now.len() <= MOST_ASKED);
            asked.extend(now);
        }
        assert_eq!(asked.len(), 50);
    }

    #[test]
    fn a_list_without_the_event_does_not_lose_what_was_drawn() {
        let mut value = event("e1", START, "PT1M", 400.0);
        value["reportDescriptors"] = json!([{ "payloadType": "USAGE" }]);
        // A second interval of the same times is no more energy.
        let mut second = value["intervals"][0].clone();
        second["intervalPeriod"] = json!({ "start": START, "duration": "PT1M" });
        value["intervals"].as_array_mut().expect("a list").push(second);
        let mut world = World::new();
        world.list(std::slice::from_ref(&value)).later(3590);
        let mut reports = Vec::new();
        for round in 0..20 {
            world.list(if round % 5 == 3 { &[] } else { std::slice::from_ref(&value) });
            let actions = world.later(10).tick();
            reports.extend(actions.into_iter().filter_map(|action| match action {
                Action::Report(report) => Some(report.body),
                _ => None,
            }));
        }
        let [body] = reports.as_slice() else { unreachable!("{reports:?}") };
        let values = body["resources"][0]["intervals"].as_array().expect("a list").iter();
        let values: Vec<&Value> = values.map(|interval| &interval["payloads"][0]["values"][0]).collect();
        assert_eq!(values, [&json!(10.0), &json!(10.0)]);
        assert_eq!(body["payloadDescriptors"][0]["confidence"], 100);
    }

    #[test]
    fn a_higher_priority_may_allow_more() {
        let mut world = World::new();
        world.list(&[event("e1", START, "PT1H", 400.0)]).tick();
        world.later(3600);
        let mut first = event("e2", "2026-03-02T17:00:00Z", "PT5H", 800.0);
        first["priority"] = json!(0);
        world.list(&[event("e1", START, "PT1H", 400.0), first]);
        for _ in 0..3 {
            world.tick();
            world.later(10);
        }
        assert_eq!(world.allowed(), Some(800_000));
    }

    #[test]
    fn an_emergency_cuts_to_the_share_that_was_stated() {
        let mut value = event("e1", START, "PT1H", 400.0);
        value["intervals"][0]["payloads"] = json!([{ "type": "ALERT_GRID_EMERGENCY", "values": ["shed"] }]);
        let mut world = World::new();
        world.list(std::slice::from_ref(&value)).tick();
        assert_eq!(world.later(3600).allowed(), Some(400_000));
        let mut careless = World::new();
        careless.follower.settings.emergency = None;
        careless.list(&[value]).tick();
        assert_eq!(careless.standing.len(), 0);
        assert!(careless.said[0].contains("without --emergency nothing is done"), "{:?}", careless.said);
    }

    #[test]
    fn a_year_of_limits_is_announced_week_by_week() {
        let mut value = event("e1", START, "PT1H", 0.0);
        value["intervals"] = (0..2000)
            .map(|id| json!({ "id": id, "payloads": [{ "type": "IMPORT_CAPACITY_LIMIT", "values": [100 + id % 2] }] }))
            .collect();
        let mut world = World::new();
        world.list(&[value]);
        assert_eq!(world.tick().len(), 168);
        assert_eq!(world.tick(), []);
        assert_eq!(world.later(86_400).tick().len(), 24);
    }

    #[test]
    fn what_was_drawn_is_reported_interval_by_interval() {
        let mut value = event("e1", START, "PT1M", 400.0);
        value["reportDescriptors"] = json!([{ "payloadType": "DEMAND", "frequency": 1, "repeat": -1 }]);
        let second = value["intervals"][0].clone();
        value["intervals"].as_array_mut().expect("a list").push(second);
        value["intervals"][1]["id"] = json!(1);
        let mut world = World::new();
        world.list(&[value]).later(3590);
        let mut reports = Vec::new();
        for _ in 0..20 {
            let actions = world.later(10).tick();
            reports.extend(actions.into_iter().filter_map(|action| match action {
                Action::Report(report) => Some((world.now - NOW, report.body)),
                _ => None,
            }));
        }
        let [(first, body), (second, _)] = reports.as_slice() else { unreachable!("{reports:?}") };
        assert_eq!((*first, *second), (Duration::from_secs(3660), Duration::from_secs(3720)));
        assert_eq!(body["eventID"], "e1");
        assert_eq!(body["payloadDescriptors"][0]["readingType"], "ESTIMATED");
        assert_eq!(body["resources"][0]["intervals"][0]["payloads"][0]["values"], json!([600.0]));
    }
}
