//! The grid events of a scenario.

use std::collections::BTreeMap;

use offtake_engine::LimitIx;
use offtake_fleet::{DomainIx, Fleet, Meter};
use offtake_units::{Duration, Ppm, Timestamp, Watts};

use super::file::GridEventFile;
use super::{Reader, ScenarioError};
use crate::grid::{Cut, GridEvent, add_cap};

/// More than any site draws: a terawatt.
const MOST_MEGAWATTS: f64 = 1e6;

impl Reader {
    /// Grid events in the order in which they begin. Domains that they name get a cap each, at the grid connection.
    pub(super) fn grid_events(
        &self,
        events: &[GridEventFile],
        fleet: &mut Fleet,
    ) -> Result<Vec<GridEvent>, ScenarioError> {
        let mut of_domains: BTreeMap<DomainIx, LimitIx> = BTreeMap::new();
        let mut read = Vec::new();
        for event in events {
            let wrong = |key: &str, fault: String, allowed: &str| {
                self.fault("grid_events", format!("`{}`: `{key}` {fault}", event.name), allowed)
            };
            let cap = match (&event.on, &event.cap) {
                (Some(path), None) => {
                    let mut domains = (0..fleet.domains.len() as u32).map(DomainIx);
                    let domain = domains.find(|domain| fleet.path(*domain) == *path).ok_or_else(|| {
                        wrong("on", format!("is `{path}`"), "the path of a site or domain, such as `ashburn/hall-0`")
                    })?;
                    let name = format!("grid events on {path}");
                    *of_domains.entry(domain).or_insert_with(|| add_cap(fleet, domain, Meter::Facility, &name))
                }
                (None, Some(name)) => {
                    let place = fleet.caps.iter().position(|cap| cap.name == *name);
                    let place = place.ok_or_else(|| wrong("cap", format!("is `{name}`"), "a cap of the fleet file"))?;
                    LimitIx(place as u32)
                }
                _ => return Err(wrong("on", "and `cap` are both there, or none".to_owned(), "one of the two")),
            };
            if event.hold <= Duration::ZERO {
                return Err(wrong("hold", "is no time".to_owned(), "a time such as `3h`"));
            }
            let cut = self.cut(event).map_err(|(key, fault, allowed)| wrong(key, fault, allowed))?;
            read.push(GridEvent {
                name: event.name.clone(),
                cap,
                at: event.at,
                until: event.at.saturating_add(event.hold),
                cut,
            });
        }
        read.sort_by_key(|event| event.at);
        for (place, event) in read.iter().enumerate() {
            let meets = |other: &&GridEvent| other.cap == event.cap && other.at < event.until;
            if let Some(other) = read[place + 1..].iter().find(meets) {
                let fault = format!("`{}` begins before `{}` on the same cap is over", other.name, event.name);
                return Err(self.fault("grid_events", fault, "one at a time for each cap or domain"));
            }
        }
        Ok(read)
    }

    fn cut(&self, event: &GridEventFile) -> Result<Cut, (&'static str, String, &'static str)> {
        let powers =
            [(event.megawatts, "megawatts", 1.0), (event.kilowatts, "kilowatts", 1e3), (event.watts, "watts", 1e6)];
        let mut given = powers.into_iter().filter_map(|(value, key, per_mw)| Some((value?, key, per_mw)));
        match (event.cut, given.next(), given.next()) {
            (Some(share), None, _) => match Ppm::from_ratio(share).filter(|_| share > 0.0 && share <= 1.0) {
                Some(share) => Ok(Cut::By(share)),
                None => Err(("cut", format!("is {share}"), "a share of what is drawn, above 0 and at most 1")),
            },
            (None, Some((value, key, per_mw)), None) => {
                let megawatts = value / per_mw;
                if !(0.0..=MOST_MEGAWATTS).contains(&megawatts) {
                    return Err((key, format!("is {value}"), "a power from nothing to a terawatt"));
                }
                Ok(Cut::To(Watts::new((megawatts * 1e6).round() as i64)))
            }
            _ => Err((
                "cut",
                "stands with a power, or neither is there".to_owned(),
                "`cut`, `megawatts`, `kilowatts` or `watts`",
            )),
        }
    }

    /// Events begin after the run does.
    pub(super) fn check_grid_events(&self, events: &[GridEvent], start: Timestamp) -> Result<(), ScenarioError> {
        match events.iter().find(|event| event.at < start) {
            None => Ok(()),
            Some(early) => {
                let fault = format!("`{}`: `at` is before the run begins", early.name);
                Err(self.fault("grid_events", fault, "a time of the run, such as `2026-05-01T17:00:00Z`"))
            }
        }
    }
}
