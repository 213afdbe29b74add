//! What carries a site while its utility is lost: a UPS for seconds, generators for hours.

use offtake_units::{CarbonIntensity, Duration, PricePerMwh, Watts};
use serde::{Deserialize, Serialize};

/// Back-up power of a site.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Backup {
    /// How long the UPS carries all servers at their full load; no time without one.
    pub ups: Duration,
    /// The generators behind it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub generators: Option<Generators>,
    /// How long the utility has to be good again before the load goes back to it.
    pub retransfer: Duration,
    /// From power until hosts that were without take work again.
    pub boot: Duration,
}

/// Generators that start together and share the load of a site.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Generators {
    /// How many.
    pub count: u32,
    /// What one of them carries, at the site's own distribution: servers times PUE.
    pub each: Watts,
    /// From the loss until they are at speed and take their first block of load.
    pub start: Duration,
    /// The most load that all of them together take in one step.
    pub block: Watts,
    /// From one step to the next.
    pub block_every: Duration,
    /// For how long they may run in a calendar year (UTC); none where nobody limits it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub permit: Option<Duration>,
    /// For how long their tanks last from full; none where they are filled while they run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fuel: Option<Duration>,
    /// What they emit.
    pub carbon: CarbonIntensity,
    /// What the fuel of what they generate costs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub price: Option<PricePerMwh>,
}

impl Default for Backup {
    /// None: all is dark until the utility is back. That hosts take ten minutes to boot is assumed.
    fn default() -> Self {
        Self { ups: Duration::ZERO, generators: None, retransfer: Duration::ZERO, boot: Self::BOOT }
    }
}

impl Backup {
    /// How long hosts take to boot where nobody says: assumed.
    pub const BOOT: Duration = Duration::from_secs(600);
}

impl Generators {
    /// What all of them carry.
    pub const fn capacity(&self) -> Watts {
        self.each.times(self.count)
    }

    /// In how many steps they take as much load as they carry.
    pub const fn blocks(&self) -> i64 {
        let (all, block) = (self.capacity().get(), self.block.get());
        all / block + (all % block != 0) as i64
    }

    /// So long after the loss they take a block of load, counted from 0.
    pub const fn takes(&self, block: i64) -> Duration {
        Duration::from_millis(self.start.as_millis() + block * self.block_every.as_millis())
    }

    /// What they carry so long after the loss.
    pub fn carry(&self, after: Duration) -> Watts {
        if after < self.start {
            return Watts::ZERO;
        }
        let every = self.block_every.as_millis().max(1);
        let taken = (after - self.start).as_millis() / every + 1;
        Watts::new(self.block.get().saturating_mul(taken.min(self.blocks()))).min(self.capacity())
    }

    /// How long after the loss they carry a load; none where they never do.
    pub fn carries(&self, load: Watts) -> Option<Duration> {
        let steps = (load.get() - 1).max(0) / self.block.get();
        (load <= self.capacity()).then(|| self.takes(steps))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn load_is_taken_block_by_block() {
        let secs = Duration::from_secs;
        let generators = Generators {
            count: 2,
            each: Watts::new(500),
            start: secs(12),
            block: Watts::new(300),
            block_every: secs(5),
            permit: None,
            fuel: None,
            carbon: CarbonIntensity::from_mg_per_kwh(700_000),
            price: None,
        };
        let carried = [11, 12, 16, 17, 22, 27, 3600].map(|after| generators.carry(secs(after)).get());
        assert_eq!(carried, [0, 300, 300, 600, 900, 1000, 1000]);
        assert_eq!(generators.blocks(), 4);
        let after = [0, 1, 300, 301, 1000].map(|load| generators.carries(Watts::new(load)));
        assert_eq!(after, [12, 12, 12, 17, 27].map(|after| Some(secs(after))));
        assert_eq!(generators.carries(Watts::new(1001)), None);
    }
}
