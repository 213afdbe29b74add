//! `offtake bench fill`: what share of the megawatts under a cap that binds is put to use, by the engine and by a rule of
//! thumb that counts nameplates.
//!
//! Both run the same engine on the same work; the rule's cap counts the peak of every chip at work instead of what it is
//! expected to draw. That is kinder to the rule than what it stands for, which counts idle servers at their plates too.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::path::PathBuf;
use std::sync::Arc;

use clap::Args;
use offtake_engine::{Event, Fact, JobId, Policy, ServiceId, State, decide};
use offtake_fleet::account::Account;
use offtake_fleet::{Cap, CapKind, CapTarget, DomainIx, Fleet, Meter, SiteIx, account};
use offtake_units::{Duration, Ppm, Timestamp, Watts};
use offtake_workload::rng::Rng;
use offtake_workload::{ChipRequest, Gang, Job, Service, Tier};
use serde::Serialize;

use super::mix;
use crate::terminal::{BadInput, grouped, print, print_json, table};

#[derive(Args)]
pub struct Arguments {
    /// The fleet file
    #[arg(long, value_name = "FILE")]
    fleet: PathBuf,
    /// What each site may draw, in percent of its draw with all chips at work
    #[arg(long, value_name = "PERCENT", default_value_t = 80)]
    cap: u32,
    /// Days of virtual time
    #[arg(long, value_name = "N", default_value_t = 7, value_parser = clap::value_parser!(u32).range(1..=366))]
    days: u32,
    /// Seed of the work
    #[arg(long, default_value_t = 42)]
    seed: u64,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Chips that a service keeps, in percent of all.
const INFERENCE_PERCENT: u64 = 30;
/// Gangs that wait at any time, so that there is always one for power that comes free.
const WAITING: u64 = 200;
/// The largest gang, in chips; in a small fleet a quarter of it.
const LARGEST: u64 = 4_096;
const LONGEST: Duration = Duration::DAY;

#[derive(Serialize)]
struct Report {
    fleet: String,
    chips: u64,
    days: u32,
    /// At the grid connections, added up: what the caps allow, what is drawn without work, and what that leaves to work.
    cap_watts: Watts,
    idle_watts: Watts,
    usable_watts: Watts,
    engine: Used,
    rule_of_thumb: Used,
}

#[derive(Serialize)]
struct Used {
    /// Of the usable power, the share that chips at work are expected to draw: the mean over time, and the most.
    used_ppm: u64,
    most_used_ppm: u64,
    /// Gangs that were placed.
    placed: u64,
    /// How often a cap was found exceeded; never, unless an invariant is broken.
    breaches: u64,
}

pub fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let fleet = offtake_fleet::read(&arguments.fleet, &BTreeMap::new())?;
    if fleet.chips() < 64 {
        return Err(
            BadInput(format!("fleet `{}` has {} chips; allowed is 64 or more", fleet.name, fleet.chips())).into()
        );
    }
    let account = account(&fleet);
    let share = Ppm::new(arguments.cap.saturating_mul(10_000));
    let caps: Vec<Watts> = account.sites.iter().map(|site| site.facility.operating.share_up(share)).collect();
    for (site, cap) in account.sites.iter().zip(&caps) {
        if *cap <= site.facility.idle || arguments.cap > 100 {
            let least = site.facility.idle.as_mw() / site.facility.operating.as_mw() * 100.0;
            let message = format!(
                "--cap {}: allowed is more than {least:.0}, what site `{}` draws idle, up to 100",
                arguments.cap, site.site
            );
            return Err(BadInput(message).into());
        }
    }
    let total = caps.iter().copied().sum::<Watts>();
    let usable = total - account.facility.idle;
    let used = |kind| Course::new(&fleet, &caps, kind, arguments.seed)?.run(arguments.days, &account, usable);
    let report = Report {
        fleet: fleet.name.clone(),
        chips: fleet.chips(),
        days: arguments.days,
        cap_watts: total,
        idle_watts: account.facility.idle,
        usable_watts: usable,
        engine: used(CapKind::Contract)?,
        rule_of_thumb: used(CapKind::Breaker)?,
    };
    if arguments.json { print_json(&report) } else { print(&report.text()) }
}

/// A fleet under its caps while work comes and goes.
struct Course {
    state: State,
    rng: Rng,
    /// Chips of a worker of a gang that takes several nodes: those of the smallest node.
    node: u64,
    durations: Vec<Duration>,
    ends: BinaryHeap<Reverse<(Timestamp, JobId)>>,
    placed: u64,
}

impl Course {
    fn new(fleet: &Fleet, caps: &[Watts], kind: CapKind, seed: u64) -> anyhow::Result<Self> {
        let mut fleet = fleet.clone();
        for (site, watts) in caps.iter().enumerate() {
            fleet.caps.push(Cap {
                name: format!("bench fill {}", fleet.sites[site].name),
                target: CapTarget::Domain(DomainIx(site as u32)),
                watts: *watts,
                meter: Meter::Facility,
                kind,
                derating: Vec::new(),
                rise: None,
                schedule: None,
            });
        }
        let with_chips = fleet.node_kinds.iter().map(|kind| u64::from(kind.chips)).filter(|chips| *chips > 0);
        let (node, chips) = (with_chips.min().unwrap_or(1), fleet.chips());
        let policy = Policy::named("offtake", seed).ok_or_else(|| anyhow::anyhow!("policy offtake is gone"))?;
        let replicas = u32::try_from(chips * INFERENCE_PERCENT / 100 / node)?;
        let spec = Service {
            name: "inference".to_owned(),
            tier: Tier::Reserved,
            replica: gang(node, node),
            minimum: replicas,
            maximum: replicas,
            ..Service::default()
        };
        let mut course = Self {
            state: State::default(),
            rng: Rng::new(seed),
            node,
            durations: Vec::new(),
            ends: BinaryHeap::new(),
            placed: 0,
        };
        course.tell(Event::FleetLoaded { fleet: Arc::new(fleet) });
        course.tell(Event::PolicySet { policy });
        course.tell(Event::ServiceSubmitted { service: ServiceId(0), spec: Arc::new(spec) });
        Ok(course)
    }

    fn tell(&mut self, event: Event) {
        let at = self.state.now();
        self.state.apply(&Fact { at, event });
    }

    fn run(mut self, days: u32, account: &Account, usable: Watts) -> anyhow::Result<Used> {
        let end = Timestamp::EPOCH + Duration::from_secs(i64::from(days) * 86_400);
        let (mut sum, mut most) = (0_i128, 0_i128);
        loop {
            self.pass();
            let now = self.state.now();
            let next = self.ends.peek().map_or(end, |Reverse((ends, _))| (*ends).min(end));
            let used = i128::from((self.drawn() - account.facility.idle).get());
            sum += used * i128::from((next - now).as_millis());
            most = most.max(used);
            if next == end {
                break;
            }
            self.state.advance(next);
            while let Some(Reverse((_, job))) = self.ends.peek().copied().filter(|Reverse((ends, _))| *ends == next) {
                self.ends.pop();
                self.tell(Event::JobFinished { job });
            }
        }
        self.state.check().map_err(|difference| anyhow::anyhow!("the recount differs: {difference}"))?;
        let ppm = |used: i128| u64::try_from(used * 1_000_000 / i128::from(usable.get())).unwrap_or(0);
        Ok(Used {
            used_ppm: ppm(sum / i128::from((end - Timestamp::EPOCH).as_millis())),
            most_used_ppm: ppm(most),
            placed: self.placed,
            breaches: self.state.capacity().breaches(),
        })
    }

    /// What all sites draw at their grid connections.
    fn drawn(&self) -> Watts {
        (0..self.state.fleet().sites.len() as u32).map(|site| self.state.facility_draw(SiteIx(site))).sum()
    }

    /// Sees to it that enough work waits, and lets the engine decide.
    fn pass(&mut self) {
        let most = LARGEST.min(self.state.fleet().chips() / 4);
        while self.state.queue().jobs() < WAITING {
            let spec = self.job(most);
            let job = JobId(self.durations.len() as u64);
            self.durations.push(spec.duration.unwrap_or(LONGEST));
            self.tell(Event::JobSubmitted { job, spec: Arc::new(spec) });
        }
        let (now, mut facts) = (self.state.now(), Vec::new());
        decide(&mut self.state, now, &mut facts);
        for fact in facts {
            if let Event::JobPlaced { job, .. } = fact.event
                && let Some(duration) = self.durations.get(job.0 as usize)
            {
                self.ends.push(Reverse((now + *duration, job)));
                self.placed += 1;
            }
        }
    }

    /// Any gang of the mix, of one to 24 hours. It may lie anywhere: power is what is to bind.
    fn job(&mut self, most: u64) -> Job {
        let chips = mix::draw(&mut self.rng, most);
        let seconds = 3_600 + self.rng.below(23 * 3_600);
        Job {
            name: format!("gang-{chips}"),
            duration: Some(Duration::from_secs(seconds as i64)),
            gangs: vec![gang(chips, self.node)],
            ..Job::default()
        }
    }
}

/// One worker where a node is enough, otherwise workers that fill a node each.
fn gang(chips: u64, node: u64) -> Gang {
    let workers = if chips <= node { 1 } else { chips.div_ceil(node) };
    Gang { workers: workers as u32, chips: ChipRequest::Whole(chips.min(node) as u16), ..Gang::default() }
}

impl Report {
    fn text(&self) -> String {
        let percent = |ppm: u64| format!("{:.2} %", ppm as f64 / 1e4);
        let row = |name: &str, used: &Used| {
            vec![name.to_owned(), percent(used.used_ppm), percent(used.most_used_ppm), grouped(used.placed)]
        };
        let rows = [row("engine", &self.engine), row("rule of thumb", &self.rule_of_thumb)];
        format!(
            "{}: {} chips, {} days; {} at the grid connections, of which {} are drawn without work: {} are usable\n\n{}",
            self.fleet,
            grouped(self.chips),
            self.days,
            self.cap_watts,
            self.idle_watts,
            self.usable_watts,
            table(&["", "of usable power, mean", "at most", "gangs placed"], &rows)
        )
    }
}
