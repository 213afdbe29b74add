//! `offtake bench curtail`: what it costs to find what gives way when every site of a full fleet is told to draw less.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use clap::Args;
use offtake_engine::{Event, Fact, LimitIx, StopReason, decide};
use offtake_fleet::DomainIx;
use offtake_units::{Duration, Ppm};
use serde::Serialize;

use super::backlog::Backlog;
use super::{Spread, mix, rules};
use crate::terminal::{BadInput, grouped, print, print_json, table};

#[derive(Args)]
pub struct Arguments {
    /// Chips of the synthetic fleet, 16 a node
    #[arg(long, value_name = "N", default_value_t = 1_000_000)]
    accelerators: u64,
    /// Seed of the work
    #[arg(long, default_value_t = 42)]
    seed: u64,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// By how much less is drawn, in percent; above that what idle nodes draw would be cut.
const CUTS: [u32; 6] = [5, 10, 15, 20, 25, 30];
/// How often each is decided.
const ROUNDS: usize = 5;

#[derive(Serialize)]
struct Report {
    accelerators: u64,
    nodes: u64,
    sites: u64,
    running: u64,
    /// From the new caps to the decision who gives way.
    decision_ms: Spread,
    /// By cut in percent, how many jobs go on slower, and how many give way.
    throttled: BTreeMap<u32, u64>,
    stopped: BTreeMap<u32, u64>,
}

/// The chips of the synthetic fleet with two power levels, as those of `fleets/colossus-hall.toml`.
const LEVELS: &str = r#"peak_watts = 600
power_levels = [
    { name = "eco", power = 0.8, speed = 0.95, basis = "assumed", source = "for a measurement" },
    { name = "low", power = 0.6, speed = 0.85, basis = "assumed", source = "for a measurement" },
]
"#;

pub fn run(arguments: &Arguments) -> anyhow::Result<()> {
    if !(mix::FEWEST_CHIPS..=64_000_000).contains(&arguments.accelerators) {
        return Err(BadInput("--accelerators: allowed is 8192 to 64000000".to_owned()).into());
    }
    let text = mix::fleet_text(arguments.accelerators, false).replace("peak_watts = 600\n", LEVELS);
    let mut fleet = Arc::new(offtake_fleet::parse(&text, "synthetic fleet", Path::new(""), &BTreeMap::new())?);
    let sites = fleet.sites.len() as u32;
    for site in 0..sites {
        (fleet, _) = offtake_sim::with_cap(&fleet, DomainIx(site), &format!("cut-{site}"));
    }
    let policy = rules(&fleet, arguments.seed)?;
    let mut backlog = Backlog::new(Arc::clone(&fleet), policy, arguments.seed);
    backlog.fill();
    // They begin one second after the other, so that each loses something else.
    for job in &backlog.running {
        let at = backlog.state.now() + Duration::from_secs(1);
        backlog.state.apply(&Fact { at, event: Event::JobStarted { job: *job } });
    }
    let (mut decisions, mut throttled, mut stopped) = (Vec::new(), BTreeMap::new(), BTreeMap::new());
    for cut in CUTS {
        for _ in 0..ROUNDS {
            let (mut state, mut facts) = (backlog.state.clone(), Vec::new());
            let now = state.now();
            let begin = Instant::now();
            for cap in (0..sites).map(LimitIx) {
                let load = state.capacity().limits()[cap.ix()].load();
                let watts = load - load.share_up(Ppm::new(cut * 10_000));
                state.apply(&Fact { at: now, event: Event::CapSet { cap, watts } });
            }
            decide(&mut state, now, &mut facts);
            decisions.push(begin.elapsed().as_nanos() as u64);
            let gives_way =
                |fact: &&Fact| matches!(fact.event, Event::JobStopping { reason: StopReason::Curtailed, .. });
            stopped.insert(cut, facts.iter().filter(gives_way).count() as u64);
            let slower = |fact: &&Fact| matches!(fact.event, Event::JobThrottled { .. });
            throttled.insert(cut, facts.iter().filter(slower).count() as u64);
        }
    }
    let report = Report {
        accelerators: fleet.chips(),
        nodes: fleet.nodes.len() as u64,
        sites: u64::from(sites),
        running: backlog.running.len() as u64,
        decision_ms: Spread::of_millis(decisions),
        throttled,
        stopped,
    };
    if arguments.json { print_json(&report) } else { print(&report.text()) }
}

impl Report {
    fn text(&self) -> String {
        let Spread { p50, p99, max } = &self.decision_ms;
        let row = ["a decision, ms".to_owned(), format!("{p50:.2}"), format!("{p99:.2}"), format!("{max:.2}")];
        let by_cut = |jobs: &BTreeMap<u32, u64>| {
            let each = jobs.iter().map(|(cut, jobs)| format!("{} at {cut} %", grouped(*jobs)));
            each.collect::<Vec<_>>().join(", ")
        };
        format!(
            "{} chips on {} nodes at {} sites, {} jobs run; all sites draw less from one instant on\ngo on slower: {}\ngive way: {}\n\n{}",
            grouped(self.accelerators),
            grouped(self.nodes),
            grouped(self.sites),
            grouped(self.running),
            by_cut(&self.throttled),
            by_cut(&self.stopped),
            table(&["", "p50", "p99", "max"], &[row.to_vec()])
        )
    }
}
