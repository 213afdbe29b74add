//! Hours of the day in which caps allow less.

use std::ops::Range;

use offtake_programmes::Zone;
use offtake_units::{Timestamp, Watts};
use serde::{Deserialize, Serialize};

use crate::{Cap, Fleet};

/// When a cap allows less, by the clock of a place.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Schedule {
    /// The place.
    pub zone: Zone,
    /// The hours; where several meet, the least counts.
    pub hours: Vec<Hours>,
}

/// A time of the day, on some days of the week and in some months.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hours {
    /// The minute of the day from which on.
    pub from: u16,
    /// The minute of the day until which; of the next day where it is not after the first.
    pub until: u16,
    /// Days of the week on which it begins: 0 is Monday.
    pub days: Vec<u8>,
    /// Months in which it begins: 1 to 12.
    pub months: Vec<u8>,
    /// What is allowed meanwhile.
    pub watts: Watts,
}

/// A time in which a cap allows less.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lowered {
    /// What it is called: by its cap, and by when it begins by the clock of the place.
    pub name: String,
    /// The place of the cap among those of the fleet.
    pub cap: u32,
    /// The time.
    pub time: Range<Timestamp>,
    /// What it allows then.
    pub watts: Watts,
}

impl Cap {
    /// Whether it allows the same at all times and in all weather, as long as nobody lowers it.
    pub fn is_constant(&self) -> bool {
        self.derating.is_empty() && self.schedule.is_none()
    }

    /// How the names of the times begin in which it allows less by its schedule.
    pub fn hours_prefix(&self) -> String {
        format!("hours of {} from ", self.name)
    }

    /// The least that it ever allows by itself.
    pub fn least(&self) -> Watts {
        let hours = self.schedule.iter().flat_map(|schedule| &schedule.hours).map(|hours| hours.watts);
        hours.fold(self.at_wet_bulb(i32::MAX), Watts::min)
    }
}

impl Fleet {
    /// The times in which caps allow less by their schedules and that begin in a span, the earliest first.
    pub fn lowered_in(&self, span: &Range<Timestamp>) -> Vec<Lowered> {
        let mut found = Vec::new();
        for (cap, place) in self.caps.iter().zip(0..) {
            let Some(Schedule { zone, hours }) = &cap.schedule else { continue };
            for Hours { from, until, days, months, watts } in hours {
                let is_meant = |day: &offtake_programmes::Daily| {
                    // Clocks may skip all of it.
                    let is_some_time = day.time.start < day.time.end;
                    is_some_time
                        && days.contains(&day.weekday)
                        && months.contains(&day.month)
                        && span.contains(&day.time.start)
                };
                let times = zone.daily(span.clone(), *from, *until).filter(is_meant).map(|day| day.time);
                found.extend(times.map(|time| {
                    let name = format!("{}{}", cap.hours_prefix(), zone.local(time.start));
                    Lowered { name, cap: place, time, watts: *watts }
                }));
            }
        }
        found.sort_by_key(|lowered| (lowered.time.start, lowered.cap));
        found
    }
}
