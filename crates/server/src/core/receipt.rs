//! What a job has used: chip-time, energy, money and carbon, in integers until it is told.

use std::collections::BTreeMap;

use offtake_fleet::{Fleet, NodeIx};
use offtake_protocol::agent::EnergySource;
use offtake_protocol::rest::Receipt;
use offtake_units::{CarbonIntensity, Duration, Energy, PricePerMwh, Timestamp, Watts};
use serde::{Deserialize, Serialize};

use super::Core;
use super::attempts::{amount_milli, core_milli};
use super::records::{Attempt, Record};

/// Values kept of each zone: hourly ones of more than a year.
const MOST_VALUES: usize = 10_000;

/// What every zone's price and carbon intensity was, from when.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Prices {
    price: BTreeMap<String, Vec<(Timestamp, PricePerMwh)>>,
    carbon: BTreeMap<String, Vec<(Timestamp, CarbonIntensity)>>,
}

impl Prices {
    pub(super) fn price(&mut self, at: Timestamp, zone: &str, price: PricePerMwh) {
        keep(self.price.entry(zone.to_owned()).or_default(), at, price);
    }

    pub(super) fn carbon(&mut self, at: Timestamp, zone: &str, intensity: CarbonIntensity) {
        keep(self.carbon.entry(zone.to_owned()).or_default(), at, intensity);
    }
}

fn keep<T>(values: &mut Vec<(Timestamp, T)>, at: Timestamp, value: T) {
    if values.len() >= MOST_VALUES {
        values.drain(..MOST_VALUES / 10);
    }
    values.push((at, value));
}

/// The stretches of a span over which a value was known, each with its length.
fn stretches<T: Copy>(values: Option<&Vec<(Timestamp, T)>>, from: Timestamp, to: Timestamp) -> Vec<(T, Duration)> {
    let Some(values) = values else { return Vec::new() };
    let ends = values.iter().skip(1).map(|(at, _)| *at).chain([Timestamp::NEVER]);
    values
        .iter()
        .zip(ends)
        .map(|((start, value), end)| (*value, (*start).max(from), end.min(to)))
        .filter(|(_, start, end)| start < end)
        .map(|(value, start, end)| (value, end - start))
        .collect()
}

/// A meter that tells more than this many times what the fleet file makes of it is broken, or its counter has jumped.
const MOST_TIMES: u64 = 10;

/// What a short task may be charged beyond that, in millijoules: meters are read some tenths of a second late.
const SHORT_MJ: u64 = 1_000_000;

/// Whether a reading can be meant, by what is expected.
pub(super) const fn is_plausible(read: u64, expected: u64) -> bool {
    read <= expected.saturating_mul(MOST_TIMES)
}

/// Millijoules are watt-milliseconds.
const fn energy(mj: u64) -> Energy {
    Energy::from_watt_millis(mj as i128)
}

impl Core {
    /// Energy that an ended attempt took at the servers, in millijoules, and how that is known: as its agents measured
    /// it, or else by the fleet's figures.
    pub(super) fn energy_of(&self, record: &Record, attempt: &Attempt) -> (u64, EnergySource) {
        let ends = attempt.steps.values().flat_map(|step| &step.tasks).filter_map(|task| task.end.as_ref());
        let measured: Vec<_> = ends.filter(|end| end.energy_source != EnergySource::Model).collect();
        let sum = measured.iter().map(|end| end.energy_mj).fold(0, u64::saturating_add);
        let modelled = self.modelled(record, attempt, self.state.now());
        let source = measured.iter().map(|end| end.energy_source).max();
        let source = source.filter(|_| modelled == 0 || is_plausible(sum, modelled.saturating_add(SHORT_MJ)));
        source.map_or((modelled, EnergySource::Model), |source| (sum, source))
    }

    /// Energy by the fleet's figures: chips at work at their operating draw, hosts by the share of them that was taken.
    fn modelled(&self, record: &Record, attempt: &Attempt, until: Timestamp) -> u64 {
        let fleet = self.state.fleet();
        let span = until - attempt.started.unwrap_or(attempt.placed);
        let mut watt_ppm: i128 = 0;
        for (place, gang) in record.spec.gangs.iter().enumerate() {
            for slot in attempt.placement.working(place) {
                let Some(node) = fleet.nodes.get(slot.nodes.first.ix()) else { continue };
                let kind = fleet.kind(*node);
                let operating = fleet.accelerator(kind).map_or(Watts::ZERO, |chip| chip.operating);
                let workers = i128::from(slot.workers) * i128::from(slot.nodes.count);
                let chip_milli = workers * i128::from(gang.chips.milli());
                let of_chips = share(gang.chips.milli() * u64::from(slot.workers), u64::from(kind.chips) * 1000);
                let of_cores = share(u64::from(gang.cpu.get()) * u64::from(slot.workers), u64::from(kind.cpu.get()));
                let host = i128::from(kind.base.get()) * of_chips.max(of_cores) * i128::from(slot.nodes.count);
                watt_ppm += chip_milli * 1000 * i128::from(operating.get()) + host;
            }
        }
        u64::try_from(watt_ppm * i128::from(span.as_millis().max(0)) / 1_000_000).unwrap_or(u64::MAX)
    }

    /// What a job has used so far.
    pub(super) fn receipt(&self, record: &Record) -> Receipt {
        let now = record.end.as_ref().map_or(self.state.now(), |end| end.at);
        let fleet = self.state.fleet();
        let mut ran = Duration::ZERO;
        // In thousandths of chips and cores, times milliseconds: an elastic gang had another number in each attempt.
        let (mut amount, mut chips, mut cores) = (0_i128, 0_i128, 0_i128);
        let (mut it, mut facility) = (Energy::ZERO, Energy::ZERO);
        let mut source = None;
        let mut cost = BTreeMap::new();
        let mut co2_kg = None;
        for attempt in &record.attempts {
            let until = attempt.ended.unwrap_or(now);
            let span = until - attempt.placed;
            ran += span;
            let taken = |milli: u64| i128::from(milli) * i128::from(span.as_millis());
            amount += taken(amount_milli(&record.spec, &attempt.placement));
            chips += taken(attempt.placement.chip_milli(&record.spec));
            cores += taken(core_milli(&record.spec, &attempt.placement));
            let (mj, how) = match attempt.ended {
                Some(_) => (attempt.energy_mj, attempt.energy_source),
                None => (self.modelled(record, attempt, until), EnergySource::Model),
            };
            source = source.max(Some(how));
            let Some(site) = site_of(fleet, attempt) else { continue };
            it += energy(mj);
            let at_grid = energy(mj).share_up(site.pue);
            facility += at_grid;
            let from = attempt.started.unwrap_or(attempt.placed);
            let whole = (until - from).as_millis().max(1);
            let zone = |zone: &Option<String>| zone.clone().unwrap_or_default();
            for (price, span) in stretches(self.prices.price.get(&zone(&site.price_zone)), from, until) {
                let money = price.of(at_grid.part(span.as_millis(), whole));
                *cost.entry(price.currency.code().to_owned()).or_insert(0.0) += money.as_units();
            }
            for (intensity, span) in stretches(self.prices.carbon.get(&zone(&site.carbon_zone)), from, until) {
                let mass = intensity.of(at_grid.part(span.as_millis(), whole));
                *co2_kg.get_or_insert(0.0) += mass.as_tonnes() * 1000.0;
            }
        }
        let hours = |milli_ms: i128| milli_ms as f64 / 1000.0 / 3_600_000.0;
        Receipt {
            waited_ms: (now - record.submitted).as_millis() - ran.as_millis(),
            ran_ms: ran.as_millis(),
            restarts: (record.attempts.len() as u32).saturating_sub(1),
            chip_hours: hours(chips),
            core_hours: hours(cores),
            lost_hours: hours(record.lost),
            goodput: if amount == 0 { 1.0 } else { (amount - record.lost.min(amount)) as f64 / amount as f64 },
            energy_kwh: it.as_mwh() * 1000.0,
            energy_source: describe(source).to_owned(),
            facility_kwh: facility.as_mwh() * 1000.0,
            energy_cost: cost,
            co2_kg,
        }
    }
}

/// Parts per million of a whole, at most the whole.
fn share(part: u64, whole: u64) -> i128 {
    if whole == 0 { 0 } else { (i128::from(part) * 1_000_000 / i128::from(whole)).min(1_000_000) }
}

fn site_of<'a>(fleet: &'a Fleet, attempt: &Attempt) -> Option<&'a offtake_fleet::Site> {
    let first: NodeIx = attempt.placement.slots().next()?.nodes.first;
    let domain = fleet.nodes.get(first.ix())?.domain;
    fleet.sites.get(fleet.domains[domain.ix()].site.ix())
}

fn describe(source: Option<EnergySource>) -> &'static str {
    match source {
        None => "nothing ran",
        Some(EnergySource::Model) => "modelled",
        Some(EnergySource::ChipCounter) => "measured by the chips' counters (NVML); hosts not counted",
        Some(EnergySource::ChipPower) => "measured as the chips' power, sampled (NVML); hosts not counted",
        Some(EnergySource::Processor) => "measured by the processors' counters (RAPL)",
        Some(EnergySource::Node) => "measured by the nodes' sensors",
    }
}
