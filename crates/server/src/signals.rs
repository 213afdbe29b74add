//! Prices, carbon intensity and weather from files, told to the core as their hours come.

use std::time::Duration;

use offtake_engine::Event as EngineEvent;
use offtake_signals::{SignalError, read_carbon, read_prices, read_wet_bulb};
use offtake_units::Timestamp;

use crate::clock::wall;
use crate::configuration::Signals;
use crate::core::{Access, Caller, Command};
use crate::fact::Event;
use crate::run_loop::Handle;

/// Values by the instant from which they hold, in order.
#[derive(Debug, Default)]
pub(crate) struct Feed {
    values: Vec<(Timestamp, EngineEvent)>,
}

/// The longest sleep: the machine's clock may be set.
const LOOK_AGAIN: Duration = Duration::from_secs(60);

impl Feed {
    /// Reads the files.
    ///
    /// # Errors
    /// One cannot be read, or holds something else.
    pub(crate) fn read(signals: &Signals) -> Result<Self, SignalError> {
        let mut values = Vec::new();
        if let Some((prices, zones)) = &signals.prices {
            for (zone, series) in read_prices(prices, zones)?.zones {
                let hours = series.micros.hours().filter_map(|(at, _)| Some((at, series.at(at)?)));
                values.extend(hours.map(|(at, price)| (at, EngineEvent::PricePublished { zone: zone.clone(), price })));
            }
        }
        if let Some((carbon, zones)) = &signals.carbon {
            for (zone, series) in read_carbon(carbon, zones)? {
                let hours = series.mg_per_kwh.hours().filter_map(|(at, _)| Some((at, series.at(at)?)));
                let published = |intensity| EngineEvent::CarbonPublished { zone: zone.clone(), intensity };
                values.extend(hours.map(|(at, intensity)| (at, published(intensity))));
            }
        }
        if let Some(weather) = &signals.weather {
            for (site, series) in read_wet_bulb(weather)? {
                let hours = series.hours().filter_map(|(at, _)| Some((at, i32::try_from(series.at(at)?).ok()?)));
                let published = |wet_bulb_mc| EngineEvent::WeatherPublished { site: site.clone(), wet_bulb_mc };
                values.extend(hours.map(|(at, wet_bulb_mc)| (at, published(wet_bulb_mc))));
            }
        }
        values.sort_by_key(|(at, _)| *at);
        Ok(Self { values })
    }

    /// Tells the core each value when its hour comes, and at first those that hold now.
    pub(crate) async fn run(self, handle: Handle) {
        let teller = Caller { name: "signals".to_owned(), access: Access::Operator, user: None };
        let mut values = self.values.into_iter().peekable();
        loop {
            let now = wall();
            let mut due = std::collections::BTreeMap::new();
            while let Some((_, event)) = values.next_if(|(at, _)| *at <= now) {
                // Of the hours that are over only the last counts.
                due.insert(zone(&event), Event::Engine(event));
            }
            let mut events: Vec<Event> = due.into_values().collect();
            while !events.is_empty() {
                match handle.command(teller.clone(), None, Command::Tell(events.clone())).await {
                    Ok(_) => events.clear(),
                    Err(problem) => {
                        tracing::warn!(problem.detail, "prices and weather cannot be recorded yet");
                        tokio::time::sleep(LOOK_AGAIN).await;
                    }
                }
            }
            let Some((next, _)) = values.peek() else { return };
            let left = u64::try_from((*next - wall()).as_millis()).unwrap_or(0);
            tokio::time::sleep(Duration::from_millis(left).min(LOOK_AGAIN)).await;
        }
    }
}

/// What a value is of: of its kind the zone, or the site.
fn zone(event: &EngineEvent) -> (u8, String) {
    match event {
        EngineEvent::PricePublished { zone, .. } => (0, zone.clone()),
        EngineEvent::CarbonPublished { zone, .. } => (1, zone.clone()),
        EngineEvent::WeatherPublished { site, .. } => (2, site.clone()),
        _ => (3, String::new()),
    }
}
