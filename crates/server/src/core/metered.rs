//! What the nodes' own meters show, against what is counted for them: the difference is energy that nobody is charged for,
//! and that no cap knows of.

use std::collections::BTreeMap;

use offtake_fleet::{NodeIx, SiteIx};
use offtake_protocol::agent::EnergySource;
use offtake_protocol::rest::MeteredView;
use offtake_units::{Duration, Timestamp};
use serde::{Deserialize, Serialize};

use super::Core;
use super::receipt::is_plausible;
use super::timers::Timer;
use crate::fact::Event;

/// The books are closed so often.
const BOOKED: Duration = Duration::HOUR;
/// A reading counts until the next, but no longer: agents report every few seconds.
const LONGEST_READING: Duration = Duration::from_secs(120);

/// Energy at the nodes of a site whose sensors show the draw of the whole node, in millijoules.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Metered {
    /// By their sensors.
    pub metered_mj: u64,
    /// By the figures of the fleet: what caps and receipts go by.
    pub counted_mj: u64,
}

/// Energy of sites that is not booked yet, in microjoules: metered, and counted.
pub(super) type Unbooked = BTreeMap<SiteIx, (u128, u128)>;

impl Metered {
    const fn add(&mut self, other: Self) {
        self.metered_mj = self.metered_mj.saturating_add(other.metered_mj);
        self.counted_mj = self.counted_mj.saturating_add(other.counted_mj);
    }
}

/// The books of a site.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Books {
    since: Timestamp,
    all: Metered,
    /// What was booked last.
    last: Metered,
}

/// What a node's meter showed, and what was counted for it then, in milliwatts.
#[derive(Clone, Copy, Debug)]
pub(crate) struct MeterReading {
    at: Timestamp,
    metered_mw: u64,
    counted_mw: u64,
}

impl Core {
    /// A node has reported: what its meter showed until now is added up.
    pub(super) fn read_meter(&mut self, name: &str) {
        let Some(at) = self.node_ix(name) else { return };
        let now = self.state.now();
        let reading = self.meter_reading(at, name, now);
        let Some(node) = self.nodes.get_mut(name) else { return };
        let Some(before) = std::mem::replace(&mut node.now.meter, reading) else { return };
        let site = self.state.fleet().domains[self.state.fleet().nodes[at.ix()].domain.ix()].site;
        let ms = (now - before.at).min(LONGEST_READING).as_millis().unsigned_abs();
        let unbooked = self.unbooked.entry(site).or_default();
        // A milliwatt for a millisecond is a microjoule.
        unbooked.0 += u128::from(before.metered_mw) * u128::from(ms);
        unbooked.1 += u128::from(before.counted_mw) * u128::from(ms);
    }

    fn meter_reading(&self, at: NodeIx, name: &str, now: Timestamp) -> Option<MeterReading> {
        let condition = &self.nodes.get(name)?.now.condition;
        let metered_mw = condition.power_mw.filter(|_| condition.power_source == Some(EnergySource::Node))?;
        let counted_mw = self.usage(at).watts * 1000;
        // Without chips what a host draws at work is not known.
        let has_chips = self.state.fleet().kind(self.state.fleet().nodes[at.ix()]).chips > 0;
        (has_chips && is_plausible(metered_mw, counted_mw)).then_some(MeterReading { at: now, metered_mw, counted_mw })
    }

    /// Books what was metered since the last time, and does so again in an hour.
    pub(super) fn book_metered(&mut self) {
        for (site, (metered, counted)) in std::mem::take(&mut self.unbooked) {
            let mj = |microjoules: u128| u64::try_from(microjoules / 1000).unwrap_or(u64::MAX);
            let metered = Metered { metered_mj: mj(metered), counted_mj: mj(counted) };
            if metered != Metered::default() {
                let site = self.state.fleet().sites[site.ix()].name.clone();
                self.emit(Event::EnergyMetered { site, since: self.booked_at, metered });
            }
        }
        self.booked_at = self.state.now();
        self.timers.set(self.booked_at.saturating_add(BOOKED), Timer::Book);
    }

    pub(super) fn note_metered(&mut self, site: &str, since: Timestamp, metered: Metered) {
        let fresh = Books { since, all: Metered::default(), last: Metered::default() };
        let books = self.books.entry(site.to_owned()).or_insert(fresh);
        books.all.add(metered);
        books.last = metered;
    }

    /// The books of all sites of which any node is metered.
    pub(super) fn metered(&self) -> Vec<MeteredView> {
        let view = |(site, books): (&String, &Books)| MeteredView {
            site: site.clone(),
            since_ms: books.since.as_millis(),
            metered_mj: books.all.metered_mj,
            counted_mj: books.all.counted_mj,
            last_metered_mj: books.last.metered_mj,
            last_counted_mj: books.last.counted_mj,
        };
        self.books.iter().map(view).collect()
    }
}
