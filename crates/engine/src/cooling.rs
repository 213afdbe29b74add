//! Cooling in the accounts: how hot it is, and what runs on for a load that has fallen.
//!
//! Pumps, fans and chillers follow a fall of load only after a time, and a rise at once. So at any instant they run for the
//! highest load of the last while, and that is what the meter at the grid connection shows and what the ledger books.

use std::collections::VecDeque;
use std::ops::Range;

use offtake_fleet::{CapKind, CapTarget, Cooling, SiteIx};
use offtake_units::{Duration, Energy, Ppm, Timestamp, Watts};
use serde::{Deserialize, Serialize};

use crate::capacity::LimitIx;
use crate::state::State;

/// Loads that cooling still runs for, each with until when: later ones last longer and are lower.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct RunningOn(VecDeque<(Timestamp, Watts)>);

impl RunningOn {
    /// Whether cooling has followed.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The load that cooling runs for at an instant at which servers draw so much, and until when, where that is more.
    fn load(&self, at: Timestamp, it: Watts) -> (Watts, Option<Timestamp>) {
        let highest = self.0.iter().find(|(until, _)| *until > at).filter(|(_, load)| *load > it);
        highest.map_or((it, None), |(until, load)| (*load, Some(*until)))
    }

    /// The energy at the grid connection of a span in which servers draw so much.
    pub fn accrue(&mut self, cooling: &Cooling, factor: Ppm, it: Watts, span: Range<Timestamp>) -> Energy {
        let (mut at, mut energy) = (span.start, Energy::ZERO);
        while at < span.end {
            let (load, until) = self.load(at, it);
            let until = until.map_or(span.end, |until| until.min(span.end));
            energy += (it + cooling.overhead(load, factor)).over(until - at);
            at = until;
        }
        self.note(cooling.follows, it, span.end);
        energy
    }

    /// Servers have drawn so much up to now.
    fn note(&mut self, follows: Duration, it: Watts, now: Timestamp) {
        while self.0.pop_front_if(|(until, _)| *until <= now).is_some() {}
        while self.0.pop_back_if(|(_, load)| *load <= it).is_some() {}
        if follows > Duration::ZERO {
            self.0.push_back((now.saturating_add(follows), it));
        }
    }
}

impl State {
    /// What a site draws at its grid connection now, with cooling that has not followed yet.
    pub fn facility_draw(&self, site: SiteIx) -> Watts {
        let (it, place) = (self.capacity.site_draw(site), &self.fleet().sites[site.ix()]);
        match &place.cooling {
            None => it.share_up(place.pue),
            Some(cooling) => it + cooling.overhead(self.cooled_load(site), self.heat_at(site, cooling)),
        }
    }

    /// The IT load of a site that its cooling runs for now: what servers draw, or what they drew a while ago.
    pub fn cooled_load(&self, site: SiteIx) -> Watts {
        self.ledger().sites[site.ix()].running_on().load(self.now, self.capacity.site_draw(site)).0
    }

    /// What the meter of a cap shows now: what its account says, and what cooling takes that has not followed yet.
    pub fn metered(&self, cap: LimitIx) -> Watts {
        let declared = &self.fleet().caps[cap.ix()];
        match (self.fleet().cooling_under(declared), declared.target, declared.kind) {
            (Some(_), CapTarget::Domain(site), CapKind::Contract) => self.facility_draw(SiteIx(site.0)),
            _ => self.capacity.limits()[cap.ix()].load(),
        }
    }

    /// When cooling that runs on has followed next.
    pub fn next_cooled(&self) -> Option<Timestamp> {
        let accounts = self.ledger().sites.iter().zip((0..).map(SiteIx)).filter(|(it, _)| !it.running_on().is_empty());
        accounts.filter_map(|(it, site)| it.running_on().load(self.now, self.capacity.site_draw(site)).1).min()
    }

    fn heat_at(&self, site: SiteIx, cooling: &Cooling) -> Ppm {
        cooling.factor(self.ledger().sites[site.ix()].wet_bulb_mc())
    }

    /// Caps at the grid connections of whole sites whose cooling is known, each with what heat makes of that now.
    pub(crate) fn cooled_caps(&self) -> Vec<(LimitIx, Ppm)> {
        let fleet = self.fleet();
        if fleet.sites.iter().all(|site| site.cooling.is_none()) {
            return Vec::new();
        }
        let heat = |(cap, limit): (&offtake_fleet::Cap, LimitIx)| {
            let CapTarget::Domain(site) = cap.target else { return None };
            Some((limit, self.heat_at(SiteIx(site.0), fleet.cooling_under(cap)?)))
        };
        fleet.caps.iter().zip((0..).map(LimitIx)).filter_map(heat).collect()
    }

    /// It is as hot as this at a site from now on: caps at its grid connection leave its servers less, or more.
    pub(crate) fn set_weather(&mut self, site: &str, wet_bulb_mc: i32) {
        let Some(place) = self.fleet().sites.iter().position(|known| known.name == site) else { return };
        let before = self.cooled_caps();
        self.set_wet_bulb(SiteIx(place as u32), wet_bulb_mc);
        for ((cap, before), (_, factor)) in before.into_iter().zip(self.cooled_caps()) {
            if factor != before {
                self.reheat_cap(cap, factor, factor < before);
            }
        }
    }
}
