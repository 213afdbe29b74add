//! Policies as people write them: TOML, documented in docs/policy-file.md.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use offtake_fleet::Fleet;
use offtake_units::{Duration, Ppm};
use offtake_workload::Tier;
use serde::{Deserialize, Serialize};
use toml::Spanned;

use super::{Backfill, Blame, Estimates, Fairness, Health, Multifactor, Order, Packing, Policy, Preemption, Queue};
use crate::tenants::{Limits, Quota, Tenant, TenantTree};

/// What is wrong with a policy file.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}{message}", line.map(|line| format!("line {line}: ")).unwrap_or_default())]
pub struct PolicyError {
    /// The line, from 1; none where no line says it.
    pub line: Option<usize>,
    /// What is given, and what is allowed.
    pub message: String,
}

/// The most tenants that a policy names.
const MOST_TENANTS: usize = 10_000;

/// Bytes of a tenant's name.
const LONGEST_NAME: usize = 255;

/// The most of a weight.
const MOST_WEIGHT: i64 = 1_000_000;

type Named<T> = BTreeMap<Spanned<String>, T>;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    base: Option<Spanned<String>>,
    queue: Option<Queue>,
    packing: Option<Packing>,
    order: Option<Order>,
    seed: Option<u64>,
    #[serde(default)]
    backfill: BackfillText,
    preemption: Option<PreemptionText>,
    health: Option<HealthText>,
    #[serde(default)]
    fairness: FairnessText,
    #[serde(default)]
    multifactor: MultifactorText,
    #[serde(default)]
    quota: Named<Quota>,
    #[serde(default)]
    limits: Limits,
    #[serde(default)]
    tenants: Named<TenantText>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct BackfillText {
    holds: Option<u32>,
    estimates: Option<Estimates>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct PreemptionText {
    restart: Option<Spanned<String>>,
    grace: Option<Spanned<String>>,
    #[serde(default)]
    moves: bool,
    #[serde(default)]
    reclaim: bool,
    #[serde(default)]
    minimum_run: BTreeMap<Tier, Spanned<String>>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct HealthText {
    window: Option<Spanned<String>>,
    hold_jobs_after: Option<u32>,
    drain_nodes_after: Option<u32>,
    most_drained: Option<Spanned<f64>>,
    burn_in: Option<Spanned<String>>,
    chip_mtbf: Option<Spanned<String>>,
    #[serde(default)]
    xid: BTreeMap<Spanned<String>, Blame>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct FairnessText {
    half_life: Option<Spanned<String>>,
    ageing: Option<Spanned<String>>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct MultifactorText {
    age: Option<u32>,
    fair_share: Option<u32>,
    job_size: Option<u32>,
    tier: Option<u32>,
    max_age: Option<Spanned<String>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct TenantText {
    parent: Option<Spanned<String>>,
    weight: Option<Spanned<i64>>,
    #[serde(default)]
    quota: Named<Quota>,
    #[serde(default)]
    limits: Limits,
    #[serde(default)]
    blast_radius: Named<Spanned<f64>>,
}

/// Reads values of a file, and knows the line of each.
struct Reader<'a> {
    text: &'a str,
}

impl Reader<'_> {
    fn fault(&self, span: Range<usize>, message: String) -> PolicyError {
        let before = &self.text.as_bytes()[..span.start.min(self.text.len())];
        PolicyError { line: Some(before.iter().filter(|byte| **byte == b'\n').count() + 1), message }
    }

    fn duration(
        &self,
        field: &str,
        written: Option<Spanned<String>>,
        known: Duration,
    ) -> Result<Duration, PolicyError> {
        let Some(written) = written else { return Ok(known) };
        written.as_ref().parse().map_err(|error| self.fault(written.span(), format!("`{field}`: {error}")))
    }

    /// A share of a whole, given as a number from 0 to 1.
    fn share(&self, field: &str, written: Option<Spanned<f64>>, known: Ppm) -> Result<Ppm, PolicyError> {
        let Some(written) = written else { return Ok(known) };
        let share = Ppm::from_ratio(*written.as_ref()).filter(|share| *share <= Ppm::ONE);
        share.ok_or_else(|| {
            let message = format!("`{field}` is `{}`; allowed is 0 to 1", written.as_ref());
            self.fault(written.span(), message)
        })
    }

    fn health(&self, text: HealthText) -> Result<Health, PolicyError> {
        let known = Health::default();
        let mut xid = BTreeMap::new();
        for (code, blame) in text.xid {
            let number = code.as_ref().parse().map_err(|_| {
                let message = format!("`health.xid` names `{}`; allowed is the number of an XID", code.as_ref());
                self.fault(code.span(), message)
            })?;
            xid.insert(number, blame);
        }
        Ok(Health {
            window: self.duration("health.window", text.window, known.window)?,
            hold_jobs_after: text.hold_jobs_after.unwrap_or(known.hold_jobs_after),
            drain_nodes_after: text.drain_nodes_after.unwrap_or(known.drain_nodes_after),
            most_drained: self.share("health.most_drained", text.most_drained, known.most_drained)?,
            burn_in: self.duration("health.burn_in", text.burn_in, known.burn_in)?,
            chip_mtbf: self.duration("health.chip_mtbf", text.chip_mtbf, known.chip_mtbf)?,
            xid,
        })
    }

    fn quota(&self, quotas: Named<Quota>) -> BTreeMap<String, Quota> {
        quotas.into_iter().map(|(kind, quota)| (kind.into_inner(), quota)).collect()
    }

    fn blast_radius(&self, tenant: &str, radii: Named<Spanned<f64>>) -> Result<BTreeMap<String, Ppm>, PolicyError> {
        let mut shares = BTreeMap::new();
        for (level, share) in radii {
            let most = Ppm::from_ratio(*share.as_ref()).filter(|most| Ppm::ZERO < *most && *most <= Ppm::ONE);
            let most = most.ok_or_else(|| {
                let (level, given) = (level.as_ref(), share.as_ref());
                let allowed = "allowed is more than 0, and at most 1";
                let message = format!("`tenants.{tenant}.blast_radius.{level}` is `{given}`; {allowed}");
                self.fault(share.span(), message)
            })?;
            shares.insert(level.into_inner(), most);
        }
        Ok(shares)
    }

    fn tree(&self, file: Limits, quota: Named<Quota>, tenants: Named<TenantText>) -> Result<TenantTree, PolicyError> {
        if tenants.len() > MOST_TENANTS {
            let message = format!("`tenants` names {}; allowed are at most {MOST_TENANTS}", tenants.len());
            return Err(PolicyError { line: None, message });
        }
        let mut tree = TenantTree { quota: self.quota(quota), limits: file, tenants: BTreeMap::new() };
        let mut spans = BTreeMap::new();
        for (name, tenant) in tenants {
            let (span, name) = (name.span(), name.into_inner());
            if name.is_empty() || name.len() > LONGEST_NAME {
                let message = format!("the name of a tenant has {} bytes; allowed are 1 to {LONGEST_NAME}", name.len());
                return Err(self.fault(span, message));
            }
            let weight = match tenant.weight {
                None => 1,
                Some(weight) => match *weight.get_ref() {
                    given @ 1..=MOST_WEIGHT => given as u32,
                    given => {
                        let allowed = format!("allowed is 1 to {MOST_WEIGHT}");
                        let message = format!("`tenants.{name}.weight` is `{given}`; {allowed}");
                        return Err(self.fault(weight.span(), message));
                    }
                },
            };
            spans.insert(name.clone(), tenant.parent.as_ref().map_or(span, Spanned::span));
            let parent = tenant.parent.map(Spanned::into_inner);
            let quota = self.quota(tenant.quota);
            let blast_radius = self.blast_radius(&name, tenant.blast_radius)?;
            tree.tenants.insert(name, Tenant { parent, weight, quota, limits: tenant.limits, blast_radius });
        }
        for (name, tenant) in &tree.tenants {
            let Some(parent) = &tenant.parent else { continue };
            let at = || spans.get(name).cloned().unwrap_or_default();
            if !tree.tenants.contains_key(parent) {
                let message =
                    format!("`tenants.{name}.parent` is `{parent}`; allowed is the name of a tenant of this file");
                return Err(self.fault(at(), message));
            }
            if tree.path(name).count() > TenantTree::MOST_LEVELS {
                let most = TenantTree::MOST_LEVELS;
                let message = format!(
                    "`tenants.{name}.parent` is `{parent}`: it hangs in a circle, or too deep; allowed are {most} tenants below one another"
                );
                return Err(self.fault(at(), message));
            }
        }
        Ok(tree)
    }

    fn policy(&self, file: File) -> Result<Policy, PolicyError> {
        let base = match &file.base {
            None => Policy::default(),
            Some(name) => Policy::named(name.as_ref(), 0).ok_or_else(|| {
                let allowed = Policy::NAMES.join(", ");
                self.fault(name.span(), format!("`base` is `{}`; allowed is one of {allowed}", name.as_ref()))
            })?,
        };
        let preemption = match file.preemption {
            None => base.preemption,
            Some(text) => {
                let known = Preemption::default();
                let mut minimum_run = known.minimum_run;
                for (tier, written) in text.minimum_run {
                    let place = &mut minimum_run[tier as usize];
                    *place = self.duration("preemption.minimum_run", Some(written), *place)?;
                }
                let restart = self.duration("preemption.restart", text.restart, known.restart)?;
                let grace = self.duration("preemption.grace", text.grace, known.grace)?;
                Some(Preemption { restart, grace, moves: text.moves, reclaim: text.reclaim, minimum_run })
            }
        };
        let fairness = file.fairness;
        let never = fairness.ageing.as_ref().is_some_and(|written| written.as_ref() == NEVER);
        let ageing = match (never, base.fairness.ageing) {
            (true, _) => None,
            (false, None) if fairness.ageing.is_none() => None,
            (false, known) => Some(self.duration("fairness.ageing", fairness.ageing, known.unwrap_or_default())?),
        };
        let half_life = self.duration("fairness.half_life", fairness.half_life, base.fairness.half_life)?;
        let (weights, known) = (file.multifactor, base.multifactor);
        let multifactor = Multifactor {
            age: weights.age.unwrap_or(known.age),
            fair_share: weights.fair_share.unwrap_or(known.fair_share),
            job_size: weights.job_size.unwrap_or(known.job_size),
            tier: weights.tier.unwrap_or(known.tier),
            max_age: self.duration("multifactor.max_age", weights.max_age, known.max_age)?,
        };
        Ok(Policy {
            queue: file.queue.unwrap_or(base.queue),
            packing: file.packing.unwrap_or(base.packing),
            order: file.order.unwrap_or(base.order),
            seed: file.seed.unwrap_or(base.seed),
            backfill: Backfill {
                holds: file.backfill.holds.unwrap_or(base.backfill.holds),
                estimates: file.backfill.estimates.unwrap_or(base.backfill.estimates),
            },
            preemption,
            health: file.health.map(|text| self.health(text)).transpose()?.or(base.health),
            fairness: Fairness { half_life, ageing },
            multifactor,
            tenants: Arc::new(self.tree(file.limits, file.quota, file.tenants)?),
        })
    }
}

impl Policy {
    /// Reads a policy file.
    ///
    /// # Errors
    /// The first thing that cannot be meant, with its line.
    pub fn from_toml(text: &str) -> Result<Self, PolicyError> {
        let reader = Reader { text };
        let file = toml::from_str(text).map_err(|error| {
            let message = error.message().replace('\n', " ");
            match error.span() {
                Some(span) => reader.fault(span, message),
                None => PolicyError { line: None, message },
            }
        })?;
        reader.policy(file)
    }

    /// Whether a fleet has every accelerator kind that quotas name, and every level that a blast radius does.
    ///
    /// # Errors
    /// The first that it has not.
    pub fn check_on(&self, fleet: &Fleet) -> Result<(), PolicyError> {
        let refuse = |message| Err(PolicyError { line: None, message });
        let is_known = |kind: &str| fleet.accelerators.iter().any(|known| known.name == kind);
        if let Some((tenant, kind, _)) = self.tenants.quotas().find(|(_, kind, _)| !is_known(kind)) {
            let field = tenant.map_or_else(String::new, |tenant| format!("tenants.{tenant}."));
            let known: Vec<&str> = fleet.accelerators.iter().map(|kind| kind.name.as_str()).collect();
            return refuse(format!(
                "`{field}quota.{kind}`: the fleet has no accelerator `{kind}`; allowed is one of {}",
                known.join(", ")
            ));
        }
        for (name, tenant) in &self.tenants.tenants {
            let is_known = |level: &&String| *level == TenantTree::CIRCUIT || fleet.level(level).is_some();
            if let Some(level) = tenant.blast_radius.keys().find(|level| !is_known(level)) {
                return refuse(format!(
                    "`tenants.{name}.blast_radius.{level}`: the fleet has no level `{level}`; allowed is one of {}, {}",
                    fleet.levels.join(", "),
                    TenantTree::CIRCUIT
                ));
            }
            let is_below = |other: &&String| self.tenants.path(other).any(|at| at == name);
            let mut own =
                self.tenants.tenants.keys().filter(is_below).flat_map(|other| &self.tenants.tenants[other].quota);
            if !tenant.blast_radius.is_empty() && own.all(|(_, quota)| quota.nominal == 0) {
                return refuse(format!(
                    "`tenants.{name}.blast_radius` is a share of the tenant's quota, and it has none: give it `quota`"
                ));
            }
        }
        Ok(())
    }

    /// The policy as a file: what [`Policy::from_toml`] reads as this policy.
    pub fn to_toml(&self) -> String {
        let mut table = toml::Table::new();
        let mut put = |key: &str, value: toml::Value| drop(table.insert(key.to_owned(), value));
        put("order", value_of(&self.order));
        put("queue", value_of(&self.queue));
        put("packing", value_of(&self.packing));
        if let Ok(seed) = i64::try_from(self.seed) {
            put("seed", seed.into());
        }
        put("backfill", value_of(&self.backfill));
        if let Some(preemption) = &self.preemption {
            let runs = Tier::ALL.into_iter().map(|tier| (word_of(&tier), written(preemption.minimum_run(tier)).into()));
            let mut entry = toml::Table::new();
            entry.insert("restart".to_owned(), written(preemption.restart).into());
            entry.insert("grace".to_owned(), written(preemption.grace).into());
            entry.insert("moves".to_owned(), preemption.moves.into());
            entry.insert("reclaim".to_owned(), preemption.reclaim.into());
            entry.insert("minimum_run".to_owned(), toml::Table::from_iter(runs).into());
            put("preemption", entry.into());
        }
        if let Some(health) = &self.health {
            let xid = health.xid.iter().map(|(code, blame)| (code.to_string(), word_of(blame).into()));
            let mut entry = toml::Table::new();
            entry.insert("window".to_owned(), written(health.window).into());
            entry.insert("hold_jobs_after".to_owned(), i64::from(health.hold_jobs_after).into());
            entry.insert("drain_nodes_after".to_owned(), i64::from(health.drain_nodes_after).into());
            entry.insert("most_drained".to_owned(), health.most_drained.as_f64().into());
            entry.insert("burn_in".to_owned(), written(health.burn_in).into());
            entry.insert("chip_mtbf".to_owned(), written(health.chip_mtbf).into());
            entry.insert("xid".to_owned(), toml::Table::from_iter(xid).into());
            put("health", entry.into());
        }
        let ageing = self.fairness.ageing.map_or_else(|| NEVER.to_owned(), written);
        let half_life = written(self.fairness.half_life);
        let fairness = [("half_life".to_owned(), half_life.into()), ("ageing".to_owned(), ageing.into())];
        put("fairness", toml::Table::from_iter(fairness).into());
        if let toml::Value::Table(mut weights) = value_of(&self.multifactor) {
            weights.insert("max_age".to_owned(), written(self.multifactor.max_age).into());
            put("multifactor", weights.into());
        }
        if let toml::Value::Table(mut tree) = value_of(&*self.tenants) {
            let tenants = tree.get_mut("tenants").and_then(toml::Value::as_table_mut);
            for (name, tenant) in tenants.into_iter().flatten() {
                let radii = self.tenants.tenants[name].blast_radius.iter();
                let shares: toml::Table = radii.map(|(level, share)| (level.clone(), share.as_f64().into())).collect();
                if let (Some(tenant), false) = (tenant.as_table_mut(), shares.is_empty()) {
                    tenant.insert("blast_radius".to_owned(), shares.into());
                }
            }
            table.extend(tree);
        }
        table.to_string()
    }
}

/// What `ageing` says where nobody goes before others for having waited.
const NEVER: &str = "never";

/// What the derived form of a part of a policy is; all of them have one.
fn value_of(part: &impl Serialize) -> toml::Value {
    toml::Value::try_from(part).expect("numbers of a policy fit, its keys are words, and no list holds nothing")
}

fn word_of(part: &impl Serialize) -> String {
    value_of(part).as_str().unwrap_or_default().to_owned()
}

/// A duration in its largest whole unit.
fn written(duration: Duration) -> String {
    let ms = duration.as_millis();
    let units = [(86_400_000, "d"), (3_600_000, "h"), (60_000, "m"), (1000, "s")];
    let unit = units.into_iter().find(|(size, _)| ms != 0 && ms % size == 0);
    unit.map_or_else(|| format!("{ms}ms"), |(size, name)| format!("{}{name}", ms / size))
}

#[cfg(test)]
mod tests {
    use super::*;

    const WHOLE: &str = r#"
base = "offtake"
order = "fair_share"

[backfill]
holds = 100
estimates = "history"

[preemption]
grace = "2m"
moves = true
reclaim = true
minimum_run = { spot = "5m" }

[health]
drain_nodes_after = 2
most_drained = 0.05
burn_in = "1h"
xid = { 63 = "job" }

[fairness]
half_life = "1d12h"
ageing = "never"

[quota.h100]
nominal = 16

[tenants.research]
weight = 3
limits = { running_jobs = 100, pending_chips = 4096 }

[tenants.nlp]
parent = "research"
quota.h100 = { nominal = 64, borrowing_limit = 32, lending_limit = 0 }
blast_radius = { rack = 0.25, circuit = 0.5 }
"#;

    fn fault(text: &str) -> String {
        Policy::from_toml(text).expect_err("it cannot be meant").to_string()
    }

    #[test]
    fn a_file_says_what_differs() {
        let policy = Policy::from_toml(WHOLE).expect("it is valid");
        assert_eq!((policy.order, policy.packing, policy.queue), (Order::FairShare, Packing::Offtake, Queue::Backfill));
        assert_eq!(policy.fairness, Fairness { half_life: Duration::from_secs(129_600), ageing: None });
        let backfill = Backfill { holds: 100, estimates: Estimates::History };
        assert_eq!((policy.backfill, policy.multifactor), (backfill, Multifactor::default()));
        let preemption = policy.preemption.as_ref().expect("it is given");
        assert_eq!((preemption.grace, preemption.restart), (Duration::from_secs(120), Preemption::default().restart));
        assert!(preemption.moves && preemption.reclaim);
        let health = policy.health.as_ref().expect("it is given");
        assert_eq!((health.drain_nodes_after, health.most_drained), (2, Ppm::new(50_000)));
        assert_eq!((health.burn_in, health.blame(63), health.blame(64)), (Duration::HOUR, Blame::Job, Blame::Node));
        assert_eq!(health.window, Health::default().window);
        let nlp = &policy.tenants.tenants["nlp"];
        assert_eq!(
            (nlp.parent.as_deref(), nlp.weight, nlp.quota["h100"].lending_limit),
            (Some("research"), 1, Some(0))
        );
        assert_eq!(Policy::from_toml(&policy.to_toml()), Ok(policy), "what is written is what was read");
    }

    #[test]
    fn every_named_policy_can_be_written_and_read() {
        for name in Policy::NAMES {
            let policy = Policy::named(name, 7).expect("it has a name");
            assert_eq!(Policy::from_toml(&policy.to_toml()), Ok(policy), "{name}");
            assert_eq!(Policy::from_toml(&format!("base = \"{name}\"")).map(|policy| policy.name()), Ok(Some(name)));
        }
    }

    #[test]
    fn a_fault_is_told_with_its_line() {
        let told = [
            ("order = \"turns\"", "line 1: unknown variant `turns`"),
            ("\n\nfoo = 1", "line 3: unknown field `foo`"),
            ("base = \"best\"", "line 1: `base` is `best`; allowed is one of fifo"),
            ("[fairness]\nhalf_life = \"week\"", "line 2: `fairness.half_life`: `week` is not a duration"),
            ("[health]\nmost_drained = 1.5", "line 2: `health.most_drained` is `1.5`; allowed is 0 to 1"),
            ("[health.xid]\nbus = \"node\"", "line 2: `health.xid` names `bus`; allowed is the number of an XID"),
            ("[tenants.a]\nweight = 0", "line 2: `tenants.a.weight` is `0`; allowed is 1 to 1000000"),
            (
                "[tenants.a]\nblast_radius.rack = 0",
                "line 2: `tenants.a.blast_radius.rack` is `0`; allowed is more than 0",
            ),
            (
                "[tenants.a]\nblast_radius.rack = 2",
                "line 2: `tenants.a.blast_radius.rack` is `2`; allowed is more than 0, and at most 1",
            ),
            ("[tenants.a]\nparent = \"b\"", "line 2: `tenants.a.parent` is `b`; allowed is the name of a tenant"),
            (
                "[tenants.a]\nparent = \"b\"\n[tenants.b]\nparent = \"a\"",
                "line 2: `tenants.a.parent` is `b`: it hangs in a circle",
            ),
            ("[tenants.a.quota.h100]\nnominal = -1", "line 2: invalid value"),
        ];
        for (text, expected) in told {
            let fault = fault(text);
            assert!(fault.starts_with(expected), "{text}: {fault}");
        }
    }
}
