//! `offtake bench engine`: what a decision costs on a fleet of any size, nearly full.

mod backlog;
pub mod curtail;
pub mod fill;
mod mix;
mod steps;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use clap::Args;
use offtake_engine::{Backfill, Order, Policy, Preemption, Quota, Tenant, TenantTree};
use offtake_fleet::Fleet;
use serde::Serialize;

use crate::simulate::memory_mb;
use crate::terminal::{BadInput, grouped, print, print_json, table};

#[derive(Args)]
pub struct Arguments {
    /// Chips of the synthetic fleet, 16 a node
    #[arg(long, value_name = "N", default_value_t = 1_000_000)]
    accelerators: u64,
    /// Every other block may power only four fifths of its chips
    #[arg(long)]
    caps_bind: bool,
    /// Place-and-release steps
    #[arg(long, value_name = "N", default_value_t = 200_000)]
    steps: u64,
    /// Jobs that wait in the backlog
    #[arg(long, value_name = "N", default_value_t = 100_000)]
    pending: u64,
    /// Seed of the gangs and of who is released
    #[arg(long, default_value_t = 42)]
    seed: u64,
    /// Recount every truth at the end
    #[arg(long)]
    check: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Report {
    accelerators: u64,
    nodes: u64,
    caps_bind: bool,
    #[serde(flatten)]
    steps: steps::Report,
    #[serde(flatten)]
    backlog: backlog::Report,
    /// Memory after the steps.
    rss_mb: f64,
    /// A fixed loop on this machine, so that machines compare: nanoseconds for one step of splitmix64.
    calibration_ns: f64,
}

/// A distribution, in the unit that the field's name ends with.
#[derive(Serialize)]
struct Spread {
    p50: f64,
    p99: f64,
    max: f64,
}

/// Share of what can be powered that is in use, in percent.
const LEVEL_PERCENT: u64 = 95;
/// Blocked jobs for which capacity is held.
const HOLDS: u32 = 100;

pub fn run(arguments: &Arguments) -> anyhow::Result<()> {
    if !(mix::FEWEST_CHIPS..=64_000_000).contains(&arguments.accelerators) || arguments.steps == 0 {
        let message = "--accelerators: allowed is 8192 to 64000000, and --steps at least 1";
        return Err(BadInput(message.to_owned()).into());
    }
    let text = mix::fleet_text(arguments.accelerators, arguments.caps_bind);
    let fleet = Arc::new(offtake_fleet::parse(&text, "synthetic fleet", Path::new(""), &BTreeMap::new())?);
    let policy = rules(&fleet, arguments.seed)?;
    let calibration_ns = calibrate();
    let steps = steps::measure(Arc::clone(&fleet), policy.clone(), arguments)?;
    let rss_mb = memory_mb("VmRSS:");
    let report = Report {
        accelerators: fleet.chips(),
        nodes: fleet.nodes.len() as u64,
        caps_bind: arguments.caps_bind,
        steps,
        backlog: backlog::measure(fleet, policy, arguments)?,
        rss_mb,
        calibration_ns,
    };
    if arguments.json { print_json(&report) } else { print(&report.text()) }
}

/// Everything that a policy can ask of the engine: fair shares of tenants with quotas, many holds, preemption.
fn rules(fleet: &Fleet, seed: u64) -> anyhow::Result<Policy> {
    let named = Policy::named("offtake", seed).ok_or_else(|| anyhow::anyhow!("policy offtake is gone"))?;
    let nominal = u32::try_from(fleet.chips() / mix::TENANTS)?;
    let quota = BTreeMap::from([("chip".to_owned(), Quota { nominal, ..Quota::default() })]);
    let tenant = |number| Tenant { weight: 1 + number as u32 % 4, quota: quota.clone(), ..Tenant::default() };
    let tenants = (0..mix::TENANTS).map(|number| (mix::tenant(number), tenant(number))).collect();
    Ok(Policy {
        order: Order::FairShare,
        backfill: Backfill { holds: HOLDS, ..Backfill::default() },
        preemption: Some(Preemption::default()),
        tenants: Arc::new(TenantTree { tenants, ..TenantTree::default() }),
        ..named
    })
}

fn calibrate() -> f64 {
    const STEPS: u32 = 20_000_000;
    let begin = Instant::now();
    let mut state = 0u64;
    let mut sum = 0u64;
    for _ in 0..STEPS {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        sum ^= mixed ^ (mixed >> 31);
    }
    std::hint::black_box(sum);
    (begin.elapsed().as_secs_f64() * 1e9 / f64::from(STEPS) * 1000.0).round() / 1000.0
}

impl Spread {
    fn of_micros(nanos: Vec<u32>) -> Self {
        Self::of(nanos.into_iter().map(u64::from).collect(), 1e3)
    }

    fn of_millis(nanos: Vec<u64>) -> Self {
        Self::of(nanos, 1e6)
    }

    fn of(mut nanos: Vec<u64>, unit: f64) -> Self {
        nanos.sort_unstable();
        let at = |percent: usize| {
            let place = (nanos.len() * percent).div_ceil(100).max(1) - 1;
            nanos.get(place).map_or(0.0, |ns| (*ns as f64 / unit * 1e3).round() / 1e3)
        };
        Self { p50: at(50), p99: at(99), max: at(100) }
    }
}

impl Report {
    fn text(&self) -> String {
        let rows = |unit: &str, spreads: &[(&str, &Spread)]| -> Vec<Vec<String>> {
            let figure = |value: f64| format!("{value:.2}");
            let row = |(name, spread): &(&str, &Spread)| {
                vec![format!("{name}, {unit}"), figure(spread.p50), figure(spread.p99), figure(spread.max)]
            };
            spreads.iter().map(row).collect()
        };
        let (steps, steps_rows) = self.steps.text();
        let (backlog, backlog_rows) = self.backlog.text();
        format!(
            "{} chips on {} nodes, {steps}, {:.0} MB resident\n{backlog}\ncalibration {:.3} ns\n\n{}",
            grouped(self.accelerators),
            grouped(self.nodes),
            self.rss_mb,
            self.calibration_ns,
            table(&["", "p50", "p99", "max"], &[rows("µs", &steps_rows), rows("ms", &backlog_rows)].concat())
        )
    }
}
