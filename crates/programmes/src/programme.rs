//! A programme as data.

use offtake_units::{Currency, Duration, Energy, Ppm, PricePerKwMonth, PricePerMwh, Timestamp, Watts};
use serde::{Deserialize, Serialize};

use crate::zone::Zone;

/// What a utility or a market may ask of a site, and what it pays for that.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Programme {
    /// Its name.
    pub name: String,
    /// The cap on which its events act, by name.
    pub cap: String,
    /// The zone of its days, hours and months.
    pub zone: Zone,
    /// How long before an event it is called at the latest.
    pub notice: Duration,
    /// How long an event lasts at most.
    pub longest: Duration,
    /// How much less is drawn in an event at most.
    pub depth: Depth,
    /// How many events it may call in a season.
    pub events: u32,
    /// The months of its season, 1 to 12, rising.
    pub months: Vec<u8>,
    /// What would have been drawn without an event.
    pub baseline: Baseline,
    /// What it pays.
    pub pay: Pay,
    /// Where the terms are from.
    pub source: String,
}

/// How much less is drawn in an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Depth {
    /// So much less than the baseline.
    Watts(Watts),
    /// This share of the baseline less.
    Share(Ppm),
}

/// How it is found what would have been drawn without an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Baseline {
    /// It is agreed upon, and the site stays in an event at or under that less the depth: its firm service level.
    FirmServiceLevel {
        /// What is agreed upon.
        contracted: Watts,
    },
    /// The mean of ten days like it, set to the hours before the event: see `caiso_10_of_10` in docs/power.md.
    Caiso10Of10,
    /// The highest four of five days like it, moved to the hours before the event: see `pjm_cbl` in docs/power.md.
    PjmCbl,
}

/// What a programme pays.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pay {
    /// For each kilowatt of its depth and month of its season.
    pub capacity: PricePerKwMonth,
    /// For each MWh delivered, up to what was asked.
    pub energy: PricePerMwh,
    /// What is to be paid back for each MWh that was asked and not delivered.
    pub penalty: PricePerMwh,
    /// The share of its month's capacity payment that an event costs of which nothing was delivered; others in proportion.
    pub forfeit: Ppm,
}

impl Pay {
    /// The currency of all of it.
    pub fn currency(&self) -> Currency {
        self.capacity.currency
    }
}

impl Depth {
    /// What that is of the energy of a baseline over some time; rounded down.
    pub(crate) fn of(self, baseline: Energy, span: Duration) -> Energy {
        match self {
            Self::Watts(watts) => watts.over(span),
            Self::Share(share) => baseline.part(share.parts().into(), Ppm::ONE.parts().into()),
        }
    }
}

impl Baseline {
    /// What fleet files call it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::FirmServiceLevel { .. } => "firm_service_level",
            Self::Caiso10Of10 => "caiso_10_of_10",
            Self::PjmCbl => "pjm_cbl",
        }
    }
}

impl Programme {
    /// What may be drawn in an event, where that is known without a meter: the firm service level.
    pub fn firm_level(&self) -> Option<Watts> {
        match (self.baseline, self.depth) {
            (Baseline::FirmServiceLevel { contracted }, Depth::Watts(depth)) => Some(contracted - depth),
            (Baseline::FirmServiceLevel { contracted }, Depth::Share(share)) => {
                Some(contracted - contracted.share_up(share))
            }
            _ => None,
        }
    }

    /// The watts that its capacity payment is for; none where the depth is a share of what only a meter tells.
    pub fn committed(&self) -> Option<Watts> {
        match (self.depth, self.baseline) {
            (Depth::Watts(watts), _) => Some(watts),
            (Depth::Share(share), Baseline::FirmServiceLevel { contracted }) => Some(contracted.share_up(share)),
            (Depth::Share(_), _) => None,
        }
    }

    pub(crate) fn in_season(&self, at: Timestamp) -> bool {
        self.months.contains(&self.month_of(at).1)
    }

    fn month_of(&self, at: Timestamp) -> (i16, u8) {
        let day = self.zone.day(at);
        (day.year(), day.month().unsigned_abs())
    }

    /// The season in which an instant lies, by its first month; seasons may go over the turn of the year.
    pub(crate) fn season(&self, at: Timestamp) -> (i16, u8) {
        let (mut year, mut month) = self.month_of(at);
        for _ in 0..12 {
            let before = if month == 1 { (year - 1, 12) } else { (year, month - 1) };
            if !self.months.contains(&before.1) {
                return (year, month);
            }
            (year, month) = before;
        }
        // Where it never ends, a season is a year.
        (self.month_of(at).0, 1)
    }
}
