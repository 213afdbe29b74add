//! The `[failures]` section of a scenario.

use offtake_fleet::{Fleet, LevelIx};
use offtake_units::{Duration, Ppm};
use offtake_workload::human;
use offtake_workload::synthetic::Spread;
use serde::Deserialize;

use super::{Reader, ScenarioError};
use crate::failures::{Cause, Effect, FailureClass, FailureModel, Strikes};

/// How the fleet fails; what is not said is as published.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct FailuresFile {
    seed: Option<u64>,
    #[serde(default, with = "human::optional_duration")]
    detect: Option<Duration>,
    #[serde(default, with = "human::optional_duration")]
    image: Option<Duration>,
    #[serde(default, with = "human::optional_duration")]
    initialise: Option<Duration>,
    #[serde(default, with = "human::optional_duration")]
    look: Option<Duration>,
    #[serde(default)]
    checkpoints: Writes,
    /// Classes with published rates, by name.
    published: Option<Vec<Published>>,
    #[serde(default)]
    classes: Vec<ClassFile>,
}

/// Whether a job stands still while its checkpoint is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Writes {
    #[default]
    Stall,
    Asynchronous,
}

/// A class of failures with published rates.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Published {
    Node,
    Rack,
    Feed,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct ClassFile {
    name: String,
    /// `chip`, `circuit`, or the name of a level.
    of: String,
    #[serde(with = "human::duration")]
    every: Duration,
    causes: Vec<CauseFile>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct CauseFile {
    name: String,
    weight: u32,
    repair: Option<Spread>,
    speed: Option<f64>,
    #[serde(default, with = "human::optional_duration")]
    fails: Option<Duration>,
    found: Option<Spread>,
    xid: Option<u16>,
}

/// Classes and causes are written by people.
const MOST_CLASSES: usize = 100;
const MOST_CAUSES: usize = 1_000;

impl Reader {
    pub(super) fn failures(
        &self,
        file: Option<&FailuresFile>,
        fleet: &Fleet,
        seed: u64,
    ) -> Result<Option<FailureModel>, ScenarioError> {
        let Some(file) = file else { return Ok(None) };
        let published = FailureModel::default();
        let named = file.published.clone().unwrap_or_else(|| match file.classes.is_empty() {
            true => vec![Published::Node],
            false => Vec::new(),
        });
        let mut classes = Vec::new();
        for class in named {
            classes.push(match class {
                Published::Node => FailureClass::nodes(),
                Published::Rack => FailureClass::racks(self.level(fleet, "failures.published", "rack")?),
                Published::Feed => FailureClass::feeds(),
            });
        }
        if file.classes.len() > MOST_CLASSES {
            return Err(self.value("failures.classes", file.classes.len(), "at most 100 classes"));
        }
        for class in &file.classes {
            classes.push(self.class(class, fleet)?);
        }
        let twice = classes.iter().enumerate().find(|(at, class)| classes[..*at].iter().any(|o| o.name == class.name));
        if let Some((_, class)) = twice {
            return Err(self.value("failures.classes", &class.name, "each name once"));
        }
        Ok(Some(FailureModel {
            seed: file.seed.unwrap_or(seed),
            detect: file.detect.unwrap_or(published.detect),
            image: file.image.unwrap_or(published.image),
            initialise: file.initialise.unwrap_or(published.initialise),
            look: file.look.unwrap_or(published.look),
            asynchronous: file.checkpoints == Writes::Asynchronous,
            classes,
        }))
    }

    fn class(&self, class: &ClassFile, fleet: &Fleet) -> Result<FailureClass, ScenarioError> {
        let strikes = match class.of.as_str() {
            "chip" => Strikes::Chips,
            "circuit" => Strikes::Circuits,
            level => Strikes::Domains(self.level(fleet, "failures.classes.of", level)?),
        };
        let causes = class.causes.iter().map(|cause| self.cause(cause)).collect::<Result<Vec<Cause>, _>>()?;
        let weights: u64 = causes.iter().map(|cause| u64::from(cause.weight)).sum();
        if weights == 0 || causes.len() > MOST_CAUSES {
            return Err(self.value(
                "failures.classes.causes",
                causes.len(),
                "1 to 1,000 causes, one of weight above 0",
            ));
        }
        Ok(FailureClass { name: class.name.clone(), strikes, every: class.every, causes })
    }

    fn cause(&self, cause: &CauseFile) -> Result<Cause, ScenarioError> {
        let field = |key: &str| format!("failures.classes.causes.{key}");
        for (key, spread) in [("repair", &cause.repair), ("found", &cause.found)] {
            if let Some(Err(fault)) = spread.as_ref().map(|spread| spread.check(key)) {
                return Err(self.value(&field(key), fault.given, fault.allowed));
            }
        }
        let effect = match (&cause.repair, cause.speed, cause.fails, &cause.found) {
            (None, None, None, None) => Effect::Application,
            (Some(repair), None, None, None) => Effect::Down { repair: repair.clone() },
            (Some(repair), None, Some(fails), Some(found)) if fails > Duration::ZERO => {
                Effect::Bad { fails, found: found.clone(), repair: repair.clone() }
            }
            (Some(repair), Some(speed), None, Some(found)) => {
                let allowed = "above 0 and below 1";
                let share = Ppm::from_ratio(speed).filter(|share| (1..1_000_000).contains(&share.parts()));
                let speed = share.ok_or_else(|| self.value(&field("speed"), speed, allowed))?;
                Effect::Slow { speed, found: found.clone(), repair: repair.clone() }
            }
            _ => {
                let allowed = "nothing for a fault of the job, `repair` for one of the node, or `found` and `repair` with \
                               `speed` or `fails`";
                return Err(self.value("failures.classes.causes", &cause.name, allowed));
            }
        };
        Ok(Cause { name: cause.name.clone(), weight: cause.weight, effect, xid: cause.xid })
    }

    fn level(&self, fleet: &Fleet, field: &str, name: &str) -> Result<LevelIx, ScenarioError> {
        fleet.level(name).ok_or_else(|| {
            self.value(field, name, format!("`chip`, `circuit` or a level of the fleet: {}", fleet.levels.join(", ")))
        })
    }
}
