//! Meters of energy: what is drawn under the caps of grid programmes, as a utility counts it.

use offtake_engine::LimitIx;
use offtake_fleet::Fleet;
use offtake_programmes::Series;
use offtake_units::{Duration, Energy, Timestamp};

use crate::course::Course;

/// How long an interval is: that of CAISO's real-time market, and a part of all others.
const INTERVAL: Duration = Duration::from_secs(300);

/// The meters of a run. Energy is watts times milliseconds between two instants, so that what they count is what the ledger
/// counts, whatever happens within an interval.
#[derive(Debug)]
pub(crate) struct EnergyMeters {
    /// The cap of each programme, whose account of expected draw is what is drawn; none where the fleet has no such cap,
    /// so that each programme keeps its place.
    limits: Vec<Option<LimitIx>>,
    start: Timestamp,
    /// Since when what is drawn is as it is.
    since: Timestamp,
    /// For each programme, interval by interval; nothing for one without a cap.
    counted: Vec<Vec<Energy>>,
}

impl EnergyMeters {
    /// One for each grid programme of a fleet.
    pub fn of_programmes(fleet: &Fleet, start: Timestamp) -> Self {
        let cap = |programme| fleet.cap_of(programme).map(|cap| LimitIx(cap as u32));
        let limits: Vec<Option<LimitIx>> = fleet.programmes.iter().map(cap).collect();
        Self { counted: vec![Vec::new(); limits.len()], limits, start, since: start }
    }

    /// What is drawn has been drawn since they were read last; nothing at a site whose utility is lost.
    pub fn read(&mut self, now: Timestamp, course: &Course) {
        let since = std::mem::replace(&mut self.since, now);
        for (limit, counted) in self.limits.iter().zip(&mut self.counted) {
            let Some(limit) = limit else { continue };
            let load = course.bought(*limit);
            let mut at = since;
            while at < now {
                let place = (at - self.start).as_millis() / INTERVAL.as_millis();
                let edge = self.start + Duration::from_millis((place + 1) * INTERVAL.as_millis());
                let until = edge.min(now);
                counted.resize(counted.len().max(place as usize + 1), Energy::ZERO);
                counted[place as usize] += load.over(until - at);
                at = until;
            }
        }
    }

    /// What they counted, in whole intervals.
    pub fn finish(mut self, end: Timestamp, course: &Course) -> Vec<Series> {
        self.read(end, course);
        let whole = ((end - self.start).as_millis() / INTERVAL.as_millis()).max(0) as usize;
        let series = |mut counted: Vec<Energy>| {
            counted.truncate(whole);
            Series::new(self.start, INTERVAL, counted.into_iter().map(Some).collect())
        };
        self.counted.into_iter().map(series).collect()
    }
}
