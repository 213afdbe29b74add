//! Capacity that is set aside for some work, or for none, for a time.

use offtake_units::{Duration, Timestamp};
use serde::{Deserialize, Serialize};

use crate::check::{Fault, instant, name, span, word};
use crate::human;

/// Capacity set aside for a time.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct Reservation {
    /// Its name, by which jobs ask for it.
    pub name: String,
    /// What for.
    #[serde(default)]
    pub purpose: Purpose,
    /// Tenants whose jobs may use it; any where there are none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tenants: Vec<String>,
    /// A whole domain, by its path, such as `north/rack-1`. This, `nodes` or `chips`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub domain: Option<String>,
    /// So many nodes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nodes: Option<u32>,
    /// Nodes with so many chips in all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub chips: Option<u64>,
    /// The accelerator of the nodes; any where there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub accelerator: Option<String>,
    /// The level of the one domain that has all the nodes; several sites where there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub level: Option<String>,
    /// When it begins, as in RFC 3339.
    #[cfg_attr(feature = "schema", schema(value_type = String, format = DateTime))]
    #[serde(with = "human::timestamp")]
    pub start: Timestamp,
    /// How long it lasts, such as `4h`.
    #[cfg_attr(feature = "schema", schema(value_type = String))]
    #[serde(with = "human::duration")]
    pub length: Duration,
    /// How much later it may begin, where its nodes are not free in time.
    #[cfg_attr(feature = "schema", schema(value_type = Option<String>))]
    #[serde(default, with = "human::optional_duration", skip_serializing_if = "Option::is_none")]
    pub flexible: Option<Duration>,
    /// From one beginning to the next, where it recurs.
    #[cfg_attr(feature = "schema", schema(value_type = Option<String>))]
    #[serde(default, with = "human::optional_duration", skip_serializing_if = "Option::is_none")]
    pub every: Option<Duration>,
    /// Whether its jobs are stopped when it ends; else they go on.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub stop: bool,
}

/// What capacity is set aside for.
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Purpose {
    /// Jobs that name it.
    #[default]
    Work,
    /// Nothing runs.
    Maintenance,
}

impl Reservation {
    /// Whether it can be meant.
    ///
    /// # Errors
    /// The first field that cannot.
    pub fn check(&self) -> Result<(), Fault> {
        name("name", &self.name)?;
        self.tenants.iter().try_for_each(|tenant| name("tenants", tenant))?;
        let given = [self.domain.is_some(), self.nodes.is_some(), self.chips.is_some()];
        if given.into_iter().filter(|given| *given).count() != 1 {
            return Err(Fault::new("domain", "", "one of `domain`, `nodes` and `chips`"));
        }
        if self.domain.is_some() && (self.accelerator.is_some() || self.level.is_some()) {
            return Err(Fault::new("level", "", "`accelerator` and `level` beside `nodes` or `chips` only"));
        }
        if self.nodes == Some(0) || self.chips == Some(0) {
            return Err(Fault::new("nodes", 0, "1 or more"));
        }
        for text in [&self.accelerator, &self.level].into_iter().flatten() {
            word("level".to_owned(), text)?;
        }
        instant("start", self.start)?;
        span("length", self.length)?;
        if let Some(every) = self.every {
            span("every", every)?;
            if every <= self.length + self.flexible.unwrap_or_default() {
                let allowed = "longer than `length` and `flexible` together: one ends before the next begins";
                return Err(Fault::new("every", human::write_duration(every), allowed));
            }
        }
        if self.purpose == Purpose::Maintenance && (self.stop || !self.tenants.is_empty()) {
            return Err(Fault::new("purpose", "maintenance", "`work` where `tenants` or `stop` is said"));
        }
        Ok(())
    }

    /// Whether jobs of a tenant may use it.
    pub fn admits(&self, tenant: &str) -> bool {
        self.purpose == Purpose::Work && (self.tenants.is_empty() || self.tenants.iter().any(|one| one == tenant))
    }
}
