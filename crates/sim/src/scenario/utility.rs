//! The losses of utilities of a scenario.

use offtake_fleet::{Fleet, SiteIx};
use offtake_units::{Duration, Timestamp};

use super::file::UtilityLossFile;
use super::{Reader, ScenarioError};
use crate::backup::UtilityLoss;

impl Reader {
    /// Losses of utilities in the order in which they happen. Sites that they name get a cap each, at the grid connection.
    pub(super) fn utility_losses(
        &self,
        written: &[UtilityLossFile],
        fleet: &mut Fleet,
    ) -> Result<Vec<UtilityLoss>, ScenarioError> {
        let mut losses: Vec<UtilityLoss> = Vec::new();
        for (place, loss) in written.iter().enumerate() {
            let field = |key: &str| format!("utility_losses[{place}].{key}");
            let names: Vec<&str> = fleet.sites.iter().map(|site| site.name.as_str()).collect();
            let Some(site) = names.iter().position(|name| *name == loss.site) else {
                let known = names.iter().take(12).copied().collect::<Vec<_>>().join(", ");
                return Err(self.value(&field("site"), &loss.site, format!("a site of the fleet file: {known}")));
            };
            let retransfer = fleet.sites[site].backup.as_ref().map_or(Duration::ZERO, |backup| backup.retransfer);
            let until = loss.at.saturating_add(loss.hold);
            let begins_before_the_end_of = |one: Timestamp, other: Timestamp| one < other.saturating_add(retransfer);
            let meets = |other: &&UtilityLoss| {
                other.site.ix() == site
                    && begins_before_the_end_of(other.at, until)
                    && begins_before_the_end_of(loss.at, other.until)
            };
            if losses.iter().any(|other| meets(&other)) {
                let fault = "is before the site has gone back to its utility from another loss";
                let allowed = match retransfer {
                    Duration::ZERO => "one loss of a site at a time".to_owned(),
                    time => format!("one loss of a site at a time, and {time} between two for its `retransfer`"),
                };
                return Err(self.fault(&field("at"), fault, allowed));
            }
            losses.push(UtilityLoss::of(fleet, SiteIx(site as u32), loss.at..until));
        }
        losses.sort_by_key(|loss| (loss.at, loss.site));
        Ok(losses)
    }

    /// No utility is lost before the run.
    pub(super) fn check_utility_losses(
        &self,
        written: &[UtilityLossFile],
        start: Timestamp,
    ) -> Result<(), ScenarioError> {
        match written.iter().position(|loss| loss.at < start) {
            Some(place) => {
                let field = format!("utility_losses[{place}].at");
                Err(self.fault(&field, "is before the run begins", "an instant from its start on"))
            }
            None => Ok(()),
        }
    }
}
