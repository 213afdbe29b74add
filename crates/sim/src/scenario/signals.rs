//! The signals of a scenario: prices, carbon intensity and weather laid over its hours, by its sites and their zones.

use std::collections::{BTreeMap, BTreeSet};

use offtake_fleet::{Cap, Fleet, Site};
use offtake_signals::{CarbonSeries, ExchangeRate, Prices};
use offtake_units::{Duration, Timestamp};
use offtake_workload::human::{self, LONGEST_DURATION};

use super::file::File;
use super::{Reader, ScenarioError};
use crate::run::{Signal, SignalValue};

impl Reader {
    /// Puts sites into the zones that the scenario names for them.
    pub(super) fn lay_zones(
        &self,
        file: &File,
        fleet: &mut Fleet,
        notes: &mut Vec<String>,
    ) -> Result<(), ScenarioError> {
        for (name, zones) in file.signals.iter().flat_map(|signals| &signals.zone_of) {
            let known = fleet.sites.iter().map(|site| site.name.as_str()).collect::<Vec<_>>().join(", ");
            let Some(site) = fleet.sites.iter_mut().find(|site| site.name == *name) else {
                return Err(self.value("signals.zone_of", name, format!("a site of the fleet: {known}")));
            };
            site.price_zone = zones.price.clone().or(site.price_zone.take());
            site.carbon_zone = zones.carbon.clone().or(site.carbon_zone.take());
            let mut laid: Vec<&str> = [&zones.price, &zones.carbon].into_iter().flatten().map(String::as_str).collect();
            laid.dedup();
            let zones = laid.join(" and ");
            notes.push(format!("Site {name} is taken to lie in zone {zones}, which its fleet file does not say."));
        }
        Ok(())
    }

    pub(super) fn pair(&self, table: &str, zones: &str, has_table: bool) -> ScenarioError {
        let (given, missing) = if has_table { (table, zones) } else { (zones, table) };
        self.fault(&format!("signals.{given}"), format!("stands without `{missing}`"), "both or none of them")
    }

    pub(super) fn signals(
        &self,
        scenario: &File,
        fleet: &Fleet,
        start: Timestamp,
        span: Duration,
        notes: &mut Vec<String>,
    ) -> Result<(Vec<Signal>, Vec<ExchangeRate>), ScenarioError> {
        let Some(file) = &scenario.signals else {
            notes.extend(fleet.sites.iter().flat_map(|site| without_weather(fleet, site)));
            return Ok((Vec::new(), Vec::new()));
        };
        let prices = match (&file.prices, &file.price_zones) {
            (Some(prices), Some(zones)) => offtake_signals::read_prices(&self.dir.join(prices), &self.dir.join(zones))?,
            (None, None) => Prices { zones: BTreeMap::new(), rates: BTreeMap::new() },
            _ => return Err(self.pair("prices", "price_zones", file.prices.is_some())),
        };
        let carbon: BTreeMap<String, CarbonSeries> = match (&file.carbon, &file.carbon_zones) {
            (Some(carbon), Some(zones)) => offtake_signals::read_carbon(&self.dir.join(carbon), &self.dir.join(zones))?,
            (None, None) => BTreeMap::new(),
            _ => return Err(self.pair("carbon", "carbon_zones", file.carbon.is_some())),
        };
        let weather = match &file.weather {
            Some(weather) => offtake_signals::read_wet_bulb(&self.dir.join(weather))?,
            None => BTreeMap::new(),
        };
        if let Some(other) = weather.keys().find(|name| fleet.sites.iter().all(|site| site.name != **name)) {
            let known = fleet.sites.iter().map(|site| site.name.as_str()).collect::<Vec<_>>().join(", ");
            let fault = format!("has a column `{other}`");
            return Err(self.fault("signals.weather", fault, format!("columns named as sites of the fleet: {known}")));
        }
        let from = file.from.unwrap_or(start);
        let price_zones: BTreeSet<&str> = fleet.sites.iter().filter_map(|site| site.price_zone.as_deref()).collect();
        let carbon_zones: BTreeSet<&str> = fleet.sites.iter().filter_map(|site| site.carbon_zone.as_deref()).collect();
        let priced: Vec<_> = price_zones.into_iter().filter_map(|zone| Some((zone, prices.zones.get(zone)?))).collect();
        let counted: Vec<_> = carbon_zones.into_iter().filter_map(|zone| Some((zone, carbon.get(zone)?))).collect();
        let ends = priced.iter().map(|(_, series)| series.micros.end());
        let ends = ends.chain(counted.iter().map(|(_, series)| series.mg_per_kwh.end()));
        let ends = ends.chain(weather.values().map(offtake_signals::Series::end));
        let known = ends.max().map_or(Duration::ZERO, |end| end - from).min(LONGEST_DURATION);
        let hours = scenario.horizon.unwrap_or(known.max(span)).as_millis() / Duration::HOUR.as_millis() + 1;
        let mut signals = Vec::new();
        let mut used = BTreeSet::new();
        let is_cooled = |name: &str| fleet.sites.iter().any(|site| site.name == name && site.cooling.is_some());
        let mut last: BTreeMap<&str, i64> = BTreeMap::new();
        for hour in 0..=hours {
            let ahead = Duration::from_millis(hour * Duration::HOUR.as_millis());
            let (at, then) = (start + ahead, from + ahead);
            for (zone, price) in priced.iter().filter_map(|(zone, series)| Some((*zone, series.at(then)?))) {
                used.insert(price.currency);
                signals.push(Signal { at, zone: zone.to_owned(), value: SignalValue::Price(price) });
            }
            for (zone, intensity) in counted.iter().filter_map(|(zone, series)| Some((*zone, series.at(then)?))) {
                signals.push(Signal { at, zone: zone.to_owned(), value: SignalValue::Carbon(intensity) });
            }
            // What the next hour brings is known an hour before.
            for coming in if hour == 0 { 0..2 } else { 1..2 } {
                let ahead = Duration::from_millis(coming * Duration::HOUR.as_millis());
                let (from, then) = (at + ahead, then + ahead);
                for (site, series) in &weather {
                    // Cooling goes on, whether anybody knows how hot it is or not.
                    let held = last.get(site.as_str()).copied().filter(|_| is_cooled(site));
                    let Some(temperature) = series.at(then).or(held) else { continue };
                    last.insert(site, temperature);
                    let milli_celsius = i32::try_from(temperature).unwrap_or(i32::MAX);
                    let value = SignalValue::WetBulb { from, milli_celsius };
                    signals.push(Signal { at, zone: site.clone(), value });
                }
            }
        }
        let missing = |zone: &str, what: &str, has: &dyn Fn(Timestamp) -> bool| {
            let hours = (span.as_millis() / Duration::HOUR.as_millis()).max(1);
            let known = (0..hours).filter(|hour| has(from + Duration::from_millis(hour * Duration::HOUR.as_millis())));
            let missing = hours - known.count() as i64;
            let told = match missing {
                0 => return None,
                _ if what == "weather" && !is_cooled(zone) => {
                    format!(
                        "Site {zone} has no weather for {missing} of {hours} hours: heat takes nothing from its caps then."
                    )
                }
                _ if what == "weather" => {
                    format!("Site {zone} has no weather for {missing} of {hours} hours: the last before them holds on.")
                }
                _ if missing == hours => format!("Zone {zone} has no {what} at the time of the run."),
                _ => {
                    format!("Zone {zone} has no {what} for {missing} of {hours} hours: the last before them holds on.")
                }
            };
            Some(told)
        };
        notes.extend(priced.iter().filter_map(|(zone, series)| missing(zone, "price", &|at| series.at(at).is_some())));
        let carbon_gaps = counted.iter();
        notes.extend(
            carbon_gaps.filter_map(|(zone, series)| missing(zone, "carbon intensity", &|at| series.at(at).is_some())),
        );
        for site in &fleet.sites {
            let series = weather.get(&site.name);
            if series.is_none() && site.cooling.is_some() {
                notes.extend(without_weather(fleet, site));
                continue;
            }
            if !is_derated(fleet, site) && !is_heated(site) {
                continue;
            }
            let known = |at| series.is_some_and(|series| series.at(at).is_some());
            notes.extend(missing(&site.name, "weather", &known));
        }
        if file.from.is_some() {
            notes.push(format!(
                "Signals are those from {} on, laid under the run's first hour.",
                human::write_timestamp(from).unwrap_or_default()
            ));
        }
        let known = |zone: &Option<String>, has: &dyn Fn(&str) -> bool| zone.as_deref().is_some_and(has);
        let unpriced =
            fleet.sites.iter().filter(|site| !known(&site.price_zone, &|zone| prices.zones.contains_key(zone)));
        let unpriced: Vec<&str> = unpriced.map(|site| site.name.as_str()).collect();
        if !unpriced.is_empty() {
            notes.push(format!("No price is known for {}: their energy is not in the cost.", unpriced.join(", ")));
        }
        let rates = prices.rates.into_values().filter(|rate| used.contains(&rate.currency)).collect();
        Ok((signals, rates))
    }
}

/// What is taken for granted of a site where nobody says how hot it is.
fn without_weather(fleet: &Fleet, site: &Site) -> Vec<String> {
    let derated = is_derated(fleet, site)
        .then(|| format!("Site {} has no weather: heat takes nothing from its caps.", site.name));
    let heated = is_heated(site).then(|| {
        format!("Site {} has no weather: its cooling is taken to be in the greatest heat of its curve.", site.name)
    });
    derated.into_iter().chain(heated).collect()
}

/// Whether heat makes cooling take more at a site.
fn is_heated(site: &Site) -> bool {
    site.cooling.as_ref().is_some_and(|cooling| cooling.coolest() < cooling.factor(None))
}

/// Whether heat takes from the caps of a site.
fn is_derated(fleet: &Fleet, site: &Site) -> bool {
    let of_site = |cap: &Cap| fleet.site_of(cap.target).is_some_and(|of| of.name == site.name);
    fleet.caps.iter().any(|cap| !cap.derating.is_empty() && of_site(cap))
}
