//! What has been used: chip-time, energy, money and carbon, added in integers and divided only when printed.

use offtake_fleet::{Fleet, Site, SiteIx};
use offtake_units::{CarbonIntensity, CarbonMass, Duration, Energy, Money, PricePerMwh, Timestamp, Watts};
use offtake_workload::Tier;
use serde::{Deserialize, Serialize};

use crate::cooling::RunningOn;

/// Chip-time in thousandths of a chip times milliseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ChipTime(pub i128);

impl ChipTime {
    /// Chip-hours, for printing.
    pub fn as_chip_hours(self) -> f64 {
        self.0 as f64 / 1000.0 / 3_600_000.0
    }
}

/// One site's account.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SiteAccount {
    /// Energy at the servers.
    pub it: Energy,
    /// Energy at the grid connection.
    pub facility: Energy,
    /// What it cost, while a price was known; one amount a currency.
    pub cost: Vec<Money>,
    /// What it emitted, while an intensity was known.
    pub carbon: CarbonMass,
    /// Energy drawn while no price was known.
    pub unpriced: Energy,
    /// Energy drawn while no intensity was known.
    pub uncounted_carbon: Energy,
    price: Option<PricePerMwh>,
    intensity: Option<CarbonIntensity>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    wet_bulb_mc: Option<i32>,
    /// Cooling that has not followed yet.
    #[serde(default, skip_serializing_if = "RunningOn::is_empty")]
    running_on: RunningOn,
}

/// All accounts, up to an instant.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ledger {
    /// Chip-time that was allocated.
    pub allocated: ChipTime,
    /// Allocated chip-time of work that did not survive.
    pub lost: ChipTime,
    /// One account a site.
    pub sites: Vec<SiteAccount>,
    /// Chips allocated now, in thousandths, by tier.
    pub chip_milli_in_use: [u64; 4],
}

impl Ledger {
    /// Empty accounts.
    pub fn new(fleet: &Fleet) -> Self {
        let account = SiteAccount {
            it: Energy::ZERO,
            facility: Energy::ZERO,
            cost: Vec::new(),
            carbon: CarbonMass::ZERO,
            unpriced: Energy::ZERO,
            uncounted_carbon: Energy::ZERO,
            price: None,
            intensity: None,
            wet_bulb_mc: None,
            running_on: RunningOn::default(),
        };
        Self {
            allocated: ChipTime::default(),
            lost: ChipTime::default(),
            sites: vec![account; fleet.sites.len()],
            chip_milli_in_use: [0; 4],
        }
    }

    /// The same accounts for the sites of another fleet, which are known by name. A site that is new begins at nothing,
    /// at the last price and intensity of its zones.
    pub fn on(self, before: &Fleet, fleet: &Fleet) -> Self {
        let mut ledger = Self { sites: Self::new(fleet).sites, ..self };
        for (site, account) in fleet.sites.iter().zip(&mut ledger.sites) {
            let known = || before.sites.iter().zip(&self.sites);
            if let Some((_, kept)) = known().find(|(other, _)| other.name == site.name) {
                *account = kept.clone();
                continue;
            }
            let in_price_zone = |other: &Site| site.price_zone.is_some() && other.price_zone == site.price_zone;
            let in_carbon_zone = |other: &Site| site.carbon_zone.is_some() && other.carbon_zone == site.carbon_zone;
            account.price = known().find(|(other, _)| in_price_zone(other)).and_then(|(_, account)| account.price);
            account.intensity =
                known().find(|(other, _)| in_carbon_zone(other)).and_then(|(_, account)| account.intensity);
        }
        ledger
    }

    /// Books a span of steady draw at the servers, up to an instant.
    pub fn accrue(&mut self, span: Duration, until: Timestamp, fleet: &Fleet, draw: impl Fn(SiteIx) -> Watts) {
        self.allocated.0 += i128::from(self.chip_milli_in_use.iter().sum::<u64>()) * i128::from(span.as_millis());
        for (index, account) in self.sites.iter_mut().enumerate() {
            let it = draw(SiteIx(index as u32));
            let facility = match &fleet.sites[index].cooling {
                None => it.share_up(fleet.sites[index].pue).over(span),
                Some(cooling) => {
                    let factor = cooling.factor(account.wet_bulb_mc);
                    account.running_on.accrue(cooling, factor, it, until - span..until)
                }
            };
            account.it += it.over(span);
            account.facility += facility;
            match account.price {
                Some(price) => account.pay(price.of(facility)),
                None => account.unpriced += facility,
            }
            match account.intensity {
                Some(intensity) => account.carbon += intensity.of(facility),
                None => account.uncounted_carbon += facility,
            }
        }
    }

    /// Sets the price of the sites in a zone.
    pub fn set_price(&mut self, fleet: &Fleet, zone: &str, price: PricePerMwh) {
        let sites = fleet.sites.iter().zip(&mut self.sites);
        sites.filter(|(site, _)| site.price_zone.as_deref() == Some(zone)).for_each(|(_, account)| {
            account.price = Some(price);
        });
    }

    /// Sets the carbon intensity of the sites in a zone.
    pub fn set_intensity(&mut self, fleet: &Fleet, zone: &str, intensity: CarbonIntensity) {
        let sites = fleet.sites.iter().zip(&mut self.sites);
        sites.filter(|(site, _)| site.carbon_zone.as_deref() == Some(zone)).for_each(|(_, account)| {
            account.intensity = Some(intensity);
        });
    }

    /// Sets how hot it is at a site.
    pub fn set_weather(&mut self, site: SiteIx, wet_bulb_mc: i32) {
        self.sites[site.ix()].wet_bulb_mc = Some(wet_bulb_mc);
    }

    /// Books chips that come into use.
    pub const fn take_chips(&mut self, tier: Tier, chip_milli: u64) {
        self.chip_milli_in_use[tier as usize] += chip_milli;
    }

    /// Books chips that go out of use.
    pub const fn give_chips(&mut self, tier: Tier, chip_milli: u64) {
        self.chip_milli_in_use[tier as usize] -= chip_milli;
    }

    /// Books the chip-time of work that ended without a result.
    pub fn lose(&mut self, chip_milli: u64, since: Timestamp, until: Timestamp) {
        self.lost.0 += i128::from(chip_milli) * i128::from((until - since).as_millis());
    }
}

impl SiteAccount {
    /// How hot it is, in thousandths of a degree Celsius of the wet bulb; none where nobody has said.
    pub const fn wet_bulb_mc(&self) -> Option<i32> {
        self.wet_bulb_mc
    }

    /// Cooling that has not followed yet.
    pub(crate) const fn running_on(&self) -> &RunningOn {
        &self.running_on
    }

    fn pay(&mut self, amount: Money) {
        match self.cost.iter_mut().find(|money| money.currency == amount.currency) {
            Some(money) => money.add(amount),
            None => self.cost.push(amount),
        }
    }
}
