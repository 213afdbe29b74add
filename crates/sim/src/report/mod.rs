//! The report of a simulation: one page that opens anywhere, offline.
//!
//! [`render`] takes what a run found, as plain data, and writes one HTML page with its styles, scripts and
//! data inside. The page computes its words and pictures from that data, so whatever it says can be checked
//! against the JSON it carries (`#data`). It loads nothing, and its content policy forbids it to.
//!
//! This is the edge of the house: quantities have been divided, rounded and turned into plain numbers by the
//! producer, and each name ends in its unit. Nothing here decides anything. The same data gives the same bytes.
//!
//! The page is read from the files beside this one: `page.html` is the frame, `page.css` the look, and the
//! scripts are one part of the page each, in the order in which they are joined.

use offtake_programmes::Statement;
use serde::Serialize;

/// Everything the page shows.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct ReportData {
    /// The page's title, as in a browser's tab.
    pub title: String,
    /// What was simulated, and how to do it again.
    pub scenario: ScenarioFacts,
    /// Name of the policy that the page is about; the others are its peers. Should no policy have this name,
    /// the first one is taken.
    pub focus: String,
    /// One entry per policy. The page shows the focus first, then the others in this order.
    pub policies: Vec<PolicyReport>,
}

/// What was simulated, from what, and how to do it again.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct ScenarioFacts {
    /// The scenario's name.
    pub name: String,
    /// The fleet's name or file.
    pub fleet: String,
    /// Accelerators in the fleet.
    pub chips: u64,
    /// Hosts in the fleet.
    pub nodes: u64,
    /// Seed of everything random.
    pub seed: u64,
    /// Simulated time covered by the figures.
    pub horizon_s: i64,
    /// The instant at which simulated time begins. Zero means that the trace has no calendar: the page then
    /// counts days ("day 3, 14:30") instead of naming them.
    pub start_unix_s: i64,
    /// The site's zone as an IANA name, `Europe/Stockholm`. An unknown name is shown as UTC.
    pub time_zone: String,
    /// The offered load that was asked for, where one was; 1.0 is as much work as the fleet can run.
    pub offered_load_asked: Option<f64>,
    /// The offered load of the work as it came out; 1.0 is as much work as the fleet can run.
    pub offered_load: f64,
    /// The command that makes this report again.
    pub command: String,
    /// Assumptions and anything else a reader has to know, a sentence each.
    pub notes: Vec<String>,
    /// Where traces, fleets and signals come from.
    pub sources: Vec<Source>,
    /// The exchange rates behind the money shown.
    pub exchange_rates: Vec<ExchangeRate>,
}

/// Where something comes from and on what terms.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Source {
    /// What it is: "job trace", "price SE3".
    pub what: String,
    /// Who published it and where.
    pub source: String,
    /// The licence line.
    pub licence: String,
}

/// One exchange rate: `1 from` is `rate to` on `date`.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct ExchangeRate {
    /// Currency converted from, `EUR`.
    pub from: String,
    /// Currency converted to, `USD`.
    pub to: String,
    /// How many `to` one `from` is.
    pub rate: f64,
    /// The date of the rate, as `2024-03-12`.
    pub date: String,
    /// Who published it.
    pub source: String,
}

/// What one policy did with the scenario.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct PolicyReport {
    /// The policy's name.
    pub name: String,
    /// Its figures.
    pub summary: PolicySummary,
    /// What happened over time.
    pub timeline: Timeline,
    /// The course of those grid events that asked for most.
    pub grid: Vec<GridCourse>,
    /// The course of those events of grid programmes that asked for most.
    pub programmes: Vec<ProgrammeCourse>,
    /// What was drawn minute by minute; empty where nobody watched.
    pub meters: Vec<MeterLine>,
    /// Waiting time by size of gang, smallest first; the same labels in every policy.
    pub waits: Vec<WaitBucket>,
    /// The fleet at the moment of most use.
    pub picture: Picture,
}

/// A policy's figures over the horizon.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct PolicySummary {
    /// Jobs submitted.
    pub jobs: u64,
    /// Jobs finished.
    pub finished: u64,
    /// Jobs running when the horizon ended.
    pub running_at_end: u64,
    /// Jobs waiting when the horizon ended.
    pub waiting_at_end: u64,
    /// Jobs rejected.
    pub rejected: u64,
    /// First submission to last end of work.
    pub makespan_s: i64,
    /// Submission to first start.
    pub wait_s: Stats,
    /// Submission to end (job completion time).
    pub jct_s: Stats,
    /// Chip-time that the jobs bring over what the fleet can run, services not counted; 1.0 is as much as it can.
    pub offered_load: f64,
    /// Allocated chip-time over the fleet's chip-time.
    pub allocation_pct: f64,
    /// Useful chip-time over allocated chip-time: what is left without rework, restarts, checkpoints,
    /// slowness and spares.
    pub goodput_pct: f64,
    /// Effective training time ratio: useful time over all time from submission to end, waits included, of jobs that have
    /// started; a mean in which each job counts by its chips and its time (Kokolis et al., HPCA 2025).
    pub ettr_pct: f64,
    /// Where the fleet's chip-time went.
    pub chip_hours: ChipHours,
    /// Jain's index of the tenants' dominant shares of chip-time: 1 where all are alike, 1/n where one has all.
    pub jain_index: f64,
    /// Jobs with a deadline that ended in time, of those whose deadline has come; none without any.
    pub deadlines_met_pct: Option<f64>,
    /// Attempts of jobs that were stopped while their jobs were not over.
    pub restarts: u64,
    /// What failed, by cause; empty where nothing fails.
    pub failures: Vec<FailureLine>,
    /// How jobs that lost nodes went on.
    pub repairs: RepairLine,
    /// By how much goodput would be expected to grow, in percent of the chip-time, if all jobs saved their work as often as
    /// Daly (2006) advises; none where nothing fails.
    pub checkpoint_gain_pct: Option<f64>,
    /// How often the health policy drained a node.
    pub nodes_drained: u64,
    /// How often it put a job on hold.
    pub jobs_held: u64,
    /// Waiting time of jobs by tier, the strongest first.
    pub tier_waits: Vec<WaitBucket>,
    /// Free chip-time that the typical request could not use because of where it was, over the fleet's chip-time.
    pub fragmentation_pct: f64,
    /// Energy at the facility meter.
    pub energy_mwh: f64,
    /// Cost of that energy, where prices are known.
    pub energy_cost_usd: Option<f64>,
    /// Carbon of that energy, where intensities are known.
    pub carbon_t: Option<f64>,
    /// Highest power at the facility meter.
    pub peak_mw: f64,
    /// Cost of energy per useful chip-hour, where prices are known.
    pub usd_per_useful_chip_hour: Option<f64>,
    /// Useful chip-hours per megawatt-hour.
    pub useful_chip_hours_per_mwh: f64,
    /// What came of the scenario's grid events and the fleet's grid programmes; none without any.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub grid: Option<GridSummary>,
    /// What other circuits carried while one was lost.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub feed_losses: Vec<FeedLine>,
    /// What came of the losses of utilities; none without any.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub backup: Option<BackupSummary>,
    /// How fast the draw of each site with a ramp changed, against what it stands.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub ramps: Vec<RampLine>,
    /// Times that a cap was passed.
    pub cap_breaches: u64,
    /// Decisions taken.
    pub decisions: u64,
}

/// What came of the loss of a feed.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct FeedLine {
    /// The circuit that was lost.
    pub circuit: String,
    /// From when, from the start of simulated time.
    pub at_s: f64,
    /// For how long.
    pub hold_s: f64,
    /// How often work was throttled further, pauses aside, so that the others came back to their ratings.
    pub throttled: u64,
    /// How often work was paused where it was.
    pub paused: u64,
    /// Attempts that were stopped for it.
    pub stopped: u64,
    /// Those that stood in for it.
    pub others: Vec<FeedLoadLine>,
}

/// What a circuit carried for another, counted as a breaker does: chips at work at the most that they can draw.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct FeedLoadLine {
    /// The circuit.
    pub circuit: String,
    /// What it carries for ever.
    pub rating_kva: f64,
    /// The most that it carried.
    pub most_kva: f64,
    /// For how long without a break it carried more than for ever, at most.
    pub over_s: f64,
    /// For how long it carried more than its time-current curve allows, or for longer.
    pub beyond_s: f64,
}

/// What came of the losses of utilities.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct BackupSummary {
    /// Each site of which the utility was lost.
    pub sites: Vec<BackupLine>,
    /// Each loss.
    pub losses: Vec<UtilityLine>,
}

/// What the back-up of a site did.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct BackupLine {
    /// The site.
    pub site: String,
    /// How often its utility was lost.
    pub losses: u64,
    /// For how long the UPS carried at least a part of the servers.
    pub ups_s: f64,
    /// For how long the generators ran, from each loss on.
    pub generator_hours: f64,
    /// What they generated.
    pub generated_mwh: f64,
    /// What they emitted.
    pub kg_co2: f64,
    /// For how long they were still permitted in the calendar year of the last loss; none where nobody limits it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub permit_hours_left: Option<f64>,
    /// For how long hosts were without power.
    pub dark_s: f64,
    /// For how long, the UPS being empty, more could be drawn than was carried.
    pub over_s: f64,
    /// Attempts that lost their power as they ran.
    pub dropped: u64,
    /// Chip-hours of hosts that were without power or booted, and of work that had to be done again.
    pub lost_chip_hours: f64,
}

/// What came of the loss of a site's utility.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct UtilityLine {
    /// The site.
    pub site: String,
    /// From when, from the start of simulated time.
    pub at_s: f64,
    /// For how long.
    pub hold_s: f64,
    /// When all was on the utility again, from the start; none where that was after the end.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub back_s: Option<f64>,
    /// For how long the UPS carried at least a part of the servers.
    pub ups_s: f64,
    /// What it gave.
    pub ups_kwh: f64,
    /// For how long the generators ran, from the loss on.
    pub generator_hours: f64,
    /// What they generated.
    pub generated_mwh: f64,
    /// What they emitted.
    pub kg_co2: f64,
    /// What their fuel cost; none where no price is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fuel_usd: Option<f64>,
    /// For how long they were still permitted in the calendar year then; none where nobody limits it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub permit_hours_left: Option<f64>,
    /// For how long hosts were without power.
    pub dark_s: f64,
    /// For how long, the UPS being empty, more could be drawn than was carried.
    pub over_s: f64,
    /// How often work was throttled further, pauses aside.
    pub throttled: u64,
    /// How often work was paused where it was.
    pub paused: u64,
    /// Attempts that were stopped.
    pub stopped: u64,
    /// Attempts that lost their power as they ran.
    pub dropped: u64,
    /// Chip-hours of theirs that had to be done again.
    pub rework_chip_hours: f64,
    /// Chip-hours of hosts that were without power, or booted after it.
    pub out_chip_hours: f64,
}

/// How fast the draw of a site changed at its grid connection, against its ramp, which counts what can be enforced.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct RampLine {
    /// The site.
    pub site: String,
    /// The largest change at one instant that it stands.
    pub max_step_mw: f64,
    /// What it lets rise with each second.
    pub up_mw_per_s: f64,
    /// What it lets fall with each second.
    pub down_mw_per_s: f64,
    /// What its hardware takes up, as the site declares.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub smoothing_mw: Option<f64>,
    /// The most that was taken on at one instant.
    pub step_up_mw: f64,
    /// The most that was given back at one instant.
    pub step_down_mw: f64,
    /// The fastest rise over a minute, for each second.
    pub minute_up_mw_per_s: f64,
    /// The fastest fall over a minute, for each second.
    pub minute_down_mw_per_s: f64,
    /// The largest job: what would have vanished had it stopped.
    pub largest_job_mw: f64,
    /// The most that would have fallen away and returned if all work ever did so at once: no more than that.
    pub swing_mw: f64,
    /// Starts that waited for nothing but the ramp.
    pub waited: u64,
}

/// What came of the grid events that were announced.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct GridSummary {
    /// How many were announced.
    pub events: u64,
    /// How many could be met.
    pub feasible: u64,
    /// Of these, how many were, by the instant at which they were to be.
    pub met: u64,
    /// How many were held to their end as well.
    pub held_to_end: u64,
    /// How many were declared impossible to meet: more is drawn without any work.
    pub declared_infeasible: u64,
    /// How many of those could have been met.
    pub false_infeasible: u64,
    /// Reserved work that gave way, paused or stopped, while weaker work under the same cap went on that could have in its
    /// place.
    pub reserved_paused: u64,
    /// For how long, after events were to be met, more was drawn than they allowed, or than can be had.
    pub breach_seconds: f64,
    /// Each of them.
    pub lines: Vec<GridLine>,
    /// What the fleet's grid programmes pay.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub programmes: Vec<Statement>,
}

/// What came of a grid event.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct GridLine {
    /// Its name.
    pub name: String,
    /// The cap that allowed less.
    pub cap: String,
    /// The grid programme that called it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub programme: Option<String>,
    /// When it was announced, from the start of simulated time.
    pub announced_s: f64,
    /// When it was to be met.
    pub at_s: f64,
    /// For how long it held.
    pub hold_s: f64,
    /// What was drawn when it was announced.
    pub before_mw: f64,
    /// What was allowed.
    pub target_mw: f64,
    /// The most that was drawn while it held.
    pub response_mw: f64,
    /// What can be had at best, where that is more than was allowed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub achievable_mw: Option<f64>,
    /// How long after the announcement that was declared.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub declared_after_s: Option<f64>,
    /// How long after the announcement it was met, as far as it could be; none where it was not.
    pub met_after_s: Option<f64>,
    /// For how long more was drawn after it was to be met.
    pub breach_s: f64,
    /// How often work was throttled further, pauses aside.
    pub throttled: u64,
    /// How often work was paused where it was.
    pub paused: u64,
    /// Attempts that gave way.
    pub stopped: u64,
    /// Chip-hours that work lost by being throttled, paused or stopped, while it held and what had to be done again.
    pub lost_chip_hours: f64,
    /// The same, were all power levels a tenth faster, or a tenth slower, than the fleet file says; none where nothing was
    /// throttled, or all that was is of chips whose levels were measured.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lost_if_assumed_levels_are_off: Option<[f64; 2]>,
    /// What was drawn less while it held than when it was announced.
    pub given_back_mwh: f64,
    /// Of the attempts that gave way, reserved ones while weaker work went on that could have given way in their place.
    pub reserved_paused: u64,
}

/// The course of a grid event, from its announcement until it has been over for a while.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct GridCourse {
    /// Which of the lines of the summary it is.
    pub line: usize,
    /// How long a span is.
    pub span_s: f64,
    /// The most that was drawn in each span.
    pub mw: Vec<f64>,
    /// Work that gave power back, what lost most first, as far as a page shows it.
    pub touched: Vec<TouchedLine>,
    /// How much work did.
    pub touched_count: u64,
}

/// What the meter of a grid programme showed around an event, and what it is held against.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct ProgrammeCourse {
    /// Which of the summary's statements it is of.
    pub programme: usize,
    /// Which of its events.
    pub event: usize,
    /// When the first span begins, from the start of simulated time.
    pub from_s: f64,
    /// How long a span is.
    pub span_s: f64,
    /// What was drawn in the mean of each span.
    pub metered_mw: Vec<f64>,
    /// When each part of the event begins; one instant more at its end.
    pub parts_s: Vec<f64>,
    /// The baseline of each part.
    pub baseline_mw: Vec<f64>,
    /// What that leaves when all that was asked is delivered.
    pub allowed_mw: Vec<f64>,
}

/// Work that gave power back to a grid event.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct TouchedLine {
    /// Its name, or its service's.
    pub name: String,
    /// Its tenant.
    pub tenant: String,
    /// Its tier.
    pub tier: &'static str,
    /// Its chips.
    pub chips: f64,
    /// The lowest power level of its chips; none where they were not throttled.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub level: Option<String>,
    /// How often it was paused.
    pub pauses: u32,
    /// How often it was stopped.
    pub stops: u32,
    /// What it lost.
    pub lost_chip_hours: f64,
}

/// What a meter showed, span by span.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct MeterLine {
    /// What is metered.
    pub name: String,
    /// The site at which it is.
    pub site: String,
    /// The path of the domain that is metered; nothing for a circuit.
    pub domain: Option<String>,
    /// Whether it is at the grid connection.
    pub at_grid: bool,
    /// What a circuit feeds: paths, each with the share that comes over it.
    pub feeds: Vec<(String, f64)>,
    /// `MW` or `kVA`.
    pub unit: &'static str,
    /// How long a span is.
    pub span_s: f64,
    /// The most that was drawn in each span.
    pub drawn: Vec<f64>,
    /// What may be drawn, each with what it is called.
    pub limits: Vec<MeterLimit>,
    /// When it was out, in seconds from the start.
    pub out_s: Vec<(f64, f64)>,
}

/// A limit beside a meter.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct MeterLimit {
    /// Its name.
    pub name: String,
    /// What it allowed in each span; one value where that never changed.
    pub allowed: Vec<f64>,
}

/// How jobs that lost nodes went on: those with spares at once, the others when their turn and room came again.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct RepairLine {
    /// Attempts that went on with spares.
    pub swaps: u64,
    /// Nodes for which a spare came in.
    pub swapped_nodes: u64,
    /// Attempts after a failure that had to wait for nodes first.
    pub waits: u64,
    /// How long such an attempt waited, in the mean: what each swap saved.
    pub wait_mean_s: f64,
}

/// Where the fleet's chip-time went, in chip-hours. The parts make up the whole.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct ChipHours {
    /// The whole.
    pub fleet: f64,
    /// Work that counts, and services.
    pub useful: f64,
    /// Standing still while checkpoints were written.
    pub checkpoints: f64,
    /// Finding failures, starting workers, loading checkpoints.
    pub restart: f64,
    /// Work that was lost, or was in vain.
    pub rework: f64,
    /// What slow nodes and lower power levels cost the gangs on them.
    pub slowness: f64,
    /// Spares that stood by.
    pub standby: f64,
    /// On nodes that were out.
    pub out: f64,
    /// Free, and kept for a blocked job; from the samples of the timeline.
    pub held: f64,
    /// Free, and of no use to the typical request because of where it was; from the samples of the timeline.
    pub fragmented: f64,
    /// Free.
    pub idle: f64,
}

/// How often something failed, and what that cost.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct FailureLine {
    /// The parts that failed: `node`, `rack`, `feed`.
    pub class: String,
    /// Why.
    pub cause: String,
    /// How often.
    pub count: u64,
    /// Attempts of jobs that it ended.
    pub attempts: u64,
    /// Their chip-hours from the last checkpoint until it was found.
    pub lost_chip_hours: f64,
}

/// A distribution of durations, in seconds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct Stats {
    /// Arithmetic mean.
    pub mean: f64,
    /// Half are at or below.
    pub p50: f64,
    /// 95 in 100 are at or below.
    pub p95: f64,
    /// 99 in 100 are at or below.
    pub p99: f64,
    /// The largest.
    pub max: f64,
}

/// What happened over time, sampled by the producer to 600 points or fewer. All series have one value per
/// `t_s`, and a value holds until the next point. A value that is not finite is drawn as a gap.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Timeline {
    /// Seconds since the start of simulated time, rising.
    pub t_s: Vec<i64>,
    /// Allocated chips of the tiers reserved, guaranteed, standard and spot, in this order.
    pub allocated_chips: [Vec<f64>; 4],
    /// Chips in the fleet.
    pub capacity_chips: f64,
    /// Jobs waiting.
    pub waiting_jobs: Vec<u64>,
    /// Chips that the waiting jobs ask for.
    pub waiting_chips: Vec<f64>,
    /// Power at the IT meter.
    pub it_mw: Vec<f64>,
    /// Power at the facility meter.
    pub facility_mw: Vec<f64>,
    /// Caps on the whole site or fleet; those on parts of it show in the picture.
    pub caps: Vec<CapLine>,
    /// The price of energy, where one is known.
    pub price_per_mwh: Option<PriceLine>,
}

/// A cap, as a line across the chart of megawatts.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct CapLine {
    /// The cap's name, written at the end of its line.
    pub name: String,
    /// The limit at the start.
    pub mw: f64,
    /// What it limits: `it` or `facility`.
    pub meter: String,
    /// Later changes of the limit, as (seconds since the start, megawatts), rising in time.
    pub changes: Vec<(i64, f64)>,
}

/// A price over time.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct PriceLine {
    /// What it is: "day-ahead price SE3".
    pub label: String,
    /// Its unit: `$/MWh`.
    pub unit: String,
    /// One value per point of the timeline.
    pub values: Vec<f64>,
}

/// Waiting time of the jobs of one size.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct WaitBucket {
    /// The sizes in chips: `share`, `1`, `2–8`, `4097+`. The page makes words of them: "gangs of 2–8 chips". For waits by
    /// tier, the tier.
    pub label: String,
    /// Jobs counted.
    pub jobs: u64,
    /// Mean wait.
    pub mean_s: f64,
    /// Half waited no longer.
    pub p50_s: f64,
    /// 95 in 100 waited no longer.
    pub p95_s: f64,
    /// 99 in 100 waited no longer.
    pub p99_s: f64,
    /// The longest wait.
    pub max_s: f64,
}

/// The fleet at one instant.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Picture {
    /// The instant, in seconds since the start: the moment of most use.
    pub at_s: i64,
    /// The fleet, with what it consists of.
    pub root: Area,
}

/// A part of the fleet: a site, a domain, a group of nodes of one kind, a node. The chips that are neither
/// in use nor down are idle. Field names are short in the JSON, and zeros are left out, because there are
/// many areas.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Area {
    /// Its name.
    #[serde(rename = "n")]
    pub name: String,
    /// Its level: `site`, `block`, `rack`, `kind`, `node`.
    #[serde(rename = "l")]
    pub level: String,
    /// Accelerators inside.
    #[serde(rename = "c")]
    pub chips: f64,
    /// Chips in use by the tiers reserved, guaranteed, standard and spot, in this order.
    #[serde(rename = "t", skip_serializing_if = "no_use")]
    pub by_tier: [f64; 4],
    /// Chips down or drained.
    #[serde(rename = "d", skip_serializing_if = "is_zero")]
    pub down: f64,
    /// Whether a cap on this area leaves no room for more work.
    #[serde(rename = "b", skip_serializing_if = "is_false")]
    pub cap_binds: bool,
    /// What it consists of; empty where the picture ends.
    #[serde(rename = "a", skip_serializing_if = "Vec::is_empty")]
    pub children: Vec<Area>,
}

fn no_use(by_tier: &[f64; 4]) -> bool {
    by_tier.iter().all(is_zero)
}

fn is_zero(value: &f64) -> bool {
    *value == 0.0
}

fn is_false(value: &bool) -> bool {
    !*value
}

const PAGE: &str = include_str!("page.html");
const STYLE: &str = include_str!("page.css");
/// Joined into one script, in this order: each part uses those before it.
const SCRIPTS: [&str; 15] = [
    include_str!("base.js"),
    include_str!("answer.js"),
    include_str!("timeline.js"),
    include_str!("grid.js"),
    include_str!("programmes.js"),
    include_str!("backup.js"),
    include_str!("feeds.js"),
    include_str!("meters.js"),
    include_str!("one_line.js"),
    include_str!("goodput.js"),
    include_str!("waits.js"),
    include_str!("policies.js"),
    include_str!("fleet.js"),
    include_str!("facts.js"),
    include_str!("page.js"),
];

/// Writes the page.
#[must_use]
pub fn render(data: &ReportData) -> String {
    let json = serde_json::to_string(data).expect("structs of strings and numbers always serialise");
    fill(PAGE, |slot| match slot {
        "title" => escape_html(&data.title),
        "version" => env!("CARGO_PKG_VERSION").to_owned(),
        "style" => STYLE.to_owned(),
        "script" => SCRIPTS.concat(),
        "data" => escape_json(&json),
        _ => String::new(),
    })
}

/// Fills the `{{slots}}` of the frame in one pass, so nothing that is filled in is read as a slot.
fn fill(frame: &str, value: impl Fn(&str) -> String) -> String {
    let mut page = String::new();
    let mut rest = frame;
    while let Some((before, after)) = rest.split_once("{{") {
        let Some((slot, after)) = after.split_once("}}") else {
            break;
        };
        page.push_str(before);
        page.push_str(&value(slot));
        rest = after;
    }
    page.push_str(rest);
    page
}

fn escape_html(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            _ => out.push(c),
        }
    }
    out
}

/// Makes JSON safe inside a `<script>` element. Outside strings it has none of these characters, and inside
/// them the escapes mean the same, so the document stays the same JSON.
fn escape_json(json: &str) -> String {
    let mut out = String::with_capacity(json.len());
    for c in json.chars() {
        match c {
            '<' => out.push_str("\\u003c"),
            '>' => out.push_str("\\u003e"),
            '&' => out.push_str("\\u0026"),
            '\u{2028}' => out.push_str("\\u2028"),
            '\u{2029}' => out.push_str("\\u2029"),
            _ => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What lies between `open` and the next `close`.
    fn between<'a>(page: &'a str, open: &str, close: &str) -> &'a str {
        let (_, rest) = page.split_once(open).expect("the page has the opening");
        rest.split_once(close).expect("and the closing").0
    }

    #[test]
    fn hostile_names_stay_data() {
        let name = "</script><script>alert(1)</script><!-- {{style}} & \"q\" \u{2028}\u{2029}";
        let data = ReportData {
            title: name.to_owned(),
            focus: name.to_owned(),
            policies: vec![PolicyReport {
                name: name.to_owned(),
                timeline: Timeline { it_mw: vec![f64::NAN], ..Timeline::default() },
                picture: Picture { at_s: 0, root: Area { name: name.to_owned(), chips: 8.0, ..Area::default() } },
                ..PolicyReport::default()
            }],
            ..ReportData::default()
        };
        let page = render(&data);

        assert_eq!(page.matches("<script").count(), 2, "the data and the code, nothing else");
        assert!(between(&page, "<title>", "</title>").contains("&lt;/script&gt;"));

        let embedded = between(&page, "<script type=\"application/json\" id=\"data\">", "</script>");
        assert!(!embedded.contains(['<', '>', '&', '\u{2028}', '\u{2029}']));
        let json: serde_json::Value = serde_json::from_str(embedded).expect("the page embeds valid JSON");
        assert_eq!(json["title"], name);
        assert_eq!(json["policies"][0]["picture"]["root"]["n"], name);
        assert!(json["policies"][0]["timeline"]["it_mw"][0].is_null(), "a gap");
    }

    #[test]
    fn the_page_is_whole_and_asks_for_nothing() {
        let page = render(&ReportData::default());
        assert!(!page.contains("{{"), "every slot is filled");
        assert!(page.contains("default-src 'none'"));
        for request in ["http://", "https://", "src=", "@import", "url(http", "fetch("] {
            let found = page.replace("http://www.w3.org/2000/svg", "").contains(request);
            assert!(!found, "{request} would leave the machine");
        }
    }
}
