//! From outcomes to figures, tables and the report: here integers become numbers for people.

use std::io::Write;
use std::ops::Range;

use offtake_engine::{ChipTime, JobId, LimitIx};
use offtake_fleet::{Basis, Cap, CapTarget, Meter as Place, SiteIx};
use offtake_signals::ExchangeRate;
use offtake_units::{CarbonMass, Currency, Duration, Energy, Money, Timestamp, Watts};
use offtake_workload::{ChipRequest, Job, Tier, human};

use crate::failures::{IntervalAdvice, gain};
use crate::grid::{GridEvent, GridOutcome, Touched};
use crate::meters::{FeedLoss, Meter, Reading, SPAN as METER_SPAN};
use crate::overload::{FeedLoad, FeedOutcome};
use crate::ramps::RampOutcome;
use crate::report::{
    BackupLine, BackupSummary, CapLine, ChipHours, ExchangeRate as ReportRate, FailureLine, FeedLine, FeedLoadLine,
    GridCourse, GridLine, GridSummary, MeterLimit, MeterLine, PolicyReport, PolicySummary, PriceLine, RampLine,
    RepairLine, ReportData, ScenarioFacts, Source, Stats, Timeline, TouchedLine, UtilityLine, WaitBucket,
};
use crate::run::{Outcome, Sample, Setup, SignalValue, is_running};
use crate::scenario::Scenario;
use crate::settlement::{courses, statements};

/// The figures of one policy.
///
/// Waits count every job that was not rejected: one that still waits at the end counts with its wait so far, so that a
/// policy gains nothing by starving the large. Completion times count finished jobs.
pub fn summary(scenario: &Scenario, outcome: &Outcome) -> PolicySummary {
    let setup = &scenario.setup;
    let submitted = || setup.jobs.iter().zip(&outcome.jobs).filter(|(job, _)| job.submitted <= outcome.end);
    let finished = || submitted().filter_map(|(job, record)| record.finished.map(|end| (job, end)));
    let first = setup.jobs.first().map_or(setup.start, |job| job.submitted);
    let last = finished().map(|(_, end)| end).max().unwrap_or(first);
    let running = (0..outcome.jobs.len() as u64).filter(|job| is_running(&outcome.state, JobId(*job))).count() as u64;
    let ended = outcome.state.ended();
    let span = outcome.end - setup.start;
    let capacity = i128::from(setup.fleet.chips()) * 1000 * i128::from(span.as_millis());
    let ledger = outcome.state.ledger();
    let useful_hours = outcome.spent.useful.as_chip_hours();
    let facility = energy(outcome).as_mwh();
    let priced = ledger.sites.iter().any(|site| !site.cost.is_empty());
    let cost = priced
        .then(|| ledger.sites.iter().flat_map(|site| &site.cost).map(|money| in_usd(*money, &scenario.rates)).sum())
        .map(|cost: f64| {
            let not_bought = outcome.utility.iter().flat_map(|came| &came.not_bought.cost);
            let not_bought: f64 = not_bought.map(|money| in_usd(*money, &scenario.rates)).sum();
            let fuel: f64 = outcome.utility.iter().filter_map(|came| came.fuel).map(Money::as_units).sum();
            cost - not_bought + fuel
        });
    let counted = ledger.sites.iter().any(|site| site.uncounted_carbon < site.facility);
    let carbon = counted.then(|| {
        let from_grid: f64 = ledger.sites.iter().map(|site| site.carbon.as_tonnes()).sum();
        let instead = outcome.utility.iter().map(|came| came.carbon - came.not_bought.carbon);
        from_grid + instead.map(CarbonMass::as_tonnes).sum::<f64>()
    });
    let share = |part: i128| if capacity == 0 { 0.0 } else { part as f64 / capacity as f64 };
    PolicySummary {
        jobs: submitted().count() as u64,
        finished: finished().count() as u64,
        running_at_end: running,
        waiting_at_end: submitted().filter(|(_, record)| record.started.is_none() && !record.rejected).count() as u64,
        rejected: ended.rejected,
        makespan_s: (last - first).as_millis() / 1000,
        wait_s: stats(
            submitted()
                .filter(|(_, record)| !record.rejected)
                .map(|(job, record)| wait(job, record.started, outcome.end))
                .collect(),
        ),
        jct_s: stats(finished().map(|(job, end)| end - job.submitted.max(setup.start)).collect()),
        offered_load: round(share(offered(setup, outcome.end)), 4),
        allocation_pct: round(100.0 * share(ledger.allocated.0), 3),
        goodput_pct: round(100.0 * ratio(useful_hours, ledger.allocated.as_chip_hours()), 3),
        ettr_pct: round(100.0 * ettr(setup, outcome), 3),
        chip_hours: chip_hours(setup, outcome),
        jain_index: round(jain(setup, outcome), 4),
        deadlines_met_pct: deadlines_met(setup, outcome).map(|share| round(100.0 * share, 3)),
        restarts: outcome.jobs.iter().map(|record| u64::from(record.restarts)).sum(),
        failures: failure_lines(outcome),
        repairs: repair_line(outcome),
        checkpoint_gain_pct: setup.failures.as_ref().map(|_| {
            let advice = advice_on(setup);
            round(100.0 * gain(submitted().map(|(job, _)| (&**job, advice(job)))), 3)
        }),
        nodes_drained: outcome.failures.drained,
        jobs_held: outcome.failures.held,
        tier_waits: tier_waits(setup, outcome),
        fragmentation_pct: round(100.0 * fragmentation(setup, outcome), 3),
        energy_mwh: round(facility, 3),
        energy_cost_usd: cost.map(|cost| round(cost, 2)),
        carbon_t: carbon.map(|carbon| round(carbon, 3)),
        peak_mw: round(outcome.peak.as_mw(), 4),
        usd_per_useful_chip_hour: cost.map(|cost| round(ratio(cost, useful_hours), 6)),
        useful_chip_hours_per_mwh: round(ratio(useful_hours, facility), 3),
        grid: (!setup.grid_events.is_empty() || !setup.fleet.programmes.is_empty())
            .then(|| grid_summary(setup, outcome)),
        feed_losses: feed_lines(setup, outcome),
        backup: (!setup.utility_losses.is_empty()).then(|| backup_summary(setup, outcome)),
        ramps: ramp_lines(setup, outcome),
        cap_breaches: outcome.cap_breaches,
        decisions: outcome.decisions,
    }
}

/// What was drawn at the facility meters, whoever gave it: the utility, generators or a UPS.
fn energy(outcome: &Outcome) -> Energy {
    let booked: Energy = outcome.state.ledger().sites.iter().map(|site| site.facility).sum();
    let instead = outcome.utility.iter().map(|came| came.generated + came.from_ups - came.not_bought.facility);
    booked + instead.sum()
}

fn feed_lines(setup: &Setup, outcome: &Outcome) -> Vec<FeedLine> {
    let line = |(loss, came): (&FeedLoss, &FeedOutcome)| FeedLine {
        circuit: setup.fleet.circuits[loss.circuit.ix()].name.clone(),
        at_s: (loss.at - setup.start).as_secs_f64(),
        hold_s: (loss.until - loss.at).as_secs_f64(),
        throttled: came.throttled,
        paused: came.paused,
        stopped: came.stopped,
        others: came.loads.iter().map(|load| feed_load(setup, load)).collect(),
    };
    setup.feed_losses.iter().zip(&outcome.feeds).map(line).collect()
}

fn feed_load(setup: &Setup, load: &FeedLoad) -> FeedLoadLine {
    let circuit = &setup.fleet.circuits[load.circuit.ix()];
    let kva = |watts: Watts| round(watts.get() as f64 / circuit.power_factor.as_f64() / 1e3, 3);
    FeedLoadLine {
        circuit: circuit.name.clone(),
        rating_kva: kva(circuit.continuous()),
        most_kva: kva(load.most),
        over_s: load.over.as_secs_f64(),
        beyond_s: load.beyond.as_secs_f64(),
    }
}

fn backup_summary(setup: &Setup, outcome: &Outcome) -> BackupSummary {
    let seconds = |at: Timestamp| (at - setup.start).as_secs_f64();
    let hours = |span: Duration| round(span.as_secs_f64() / 3600.0, 4);
    let losses = || setup.utility_losses.iter().zip(&outcome.utility);
    let lines = losses().map(|(loss, came)| UtilityLine {
        site: setup.fleet.sites[loss.site.ix()].name.clone(),
        at_s: seconds(loss.at),
        hold_s: (loss.until - loss.at).as_secs_f64(),
        back_s: came.back.map(seconds),
        ups_s: came.on_ups.as_secs_f64(),
        ups_kwh: round(came.from_ups.as_mwh() * 1000.0, 3),
        generator_hours: hours(came.generators_ran),
        generated_mwh: round(came.generated.as_mwh(), 6),
        kg_co2: round(came.carbon.as_tonnes() * 1000.0, 3),
        fuel_usd: came.fuel.map(|fuel| round(fuel.as_units(), 2)),
        permit_hours_left: came.permit_left.map(hours),
        dark_s: came.dark.as_secs_f64(),
        over_s: came.over.as_secs_f64(),
        throttled: came.throttled,
        paused: came.paused,
        stopped: came.stopped,
        dropped: came.dropped,
        rework_chip_hours: round(came.rework.as_chip_hours(), 3),
        out_chip_hours: round(came.out.as_chip_hours(), 3),
    });
    let lines: Vec<UtilityLine> = lines.collect();
    let mut sites: Vec<BackupLine> = Vec::new();
    for line in &lines {
        let known = sites.iter().position(|site| site.site == line.site).unwrap_or(sites.len());
        if known == sites.len() {
            sites.push(BackupLine { site: line.site.clone(), ..BackupLine::default() });
        }
        let site = &mut sites[known];
        site.losses += 1;
        site.ups_s += line.ups_s;
        site.generator_hours = round(site.generator_hours + line.generator_hours, 4);
        site.generated_mwh = round(site.generated_mwh + line.generated_mwh, 6);
        site.kg_co2 = round(site.kg_co2 + line.kg_co2, 3);
        site.permit_hours_left = line.permit_hours_left;
        site.dark_s += line.dark_s;
        site.over_s += line.over_s;
        site.dropped += line.dropped;
        site.lost_chip_hours = round(site.lost_chip_hours + line.rework_chip_hours + line.out_chip_hours, 3);
    }
    BackupSummary { sites, losses: lines }
}

/// Chip-time, in thousandths of a chip times milliseconds, that would be used if every job started when it came.
fn offered(setup: &Setup, end: Timestamp) -> i128 {
    let wanted = |job: &Job| {
        let left = end - job.submitted.max(setup.start);
        let time = job.duration.map_or(left, |duration| duration.min(left)).max(Duration::ZERO);
        i128::from(job.chip_milli()) * i128::from(time.as_millis())
    };
    setup.jobs.iter().filter(|job| job.submitted <= end).map(|job| wanted(job)).sum()
}

fn wait(job: &Job, started: Option<Timestamp>, end: Timestamp) -> Duration {
    (started.unwrap_or(end) - job.submitted).max(Duration::ZERO)
}

/// Mean share of the fleet's chips that were free and of no use to the typical request.
fn fragmentation(setup: &Setup, outcome: &Outcome) -> f64 {
    let total: u64 = outcome.samples.iter().map(|sample| sample.fragmented_chip_milli).sum();
    ratio(total as f64 / 1000.0, outcome.samples.len() as f64 * setup.fleet.chips() as f64)
}

/// Where the fleet's chip-time went. What nodes under repair, holds and fragmentation took of the free is known from
/// samples; together they take no more than there is.
fn chip_hours(setup: &Setup, outcome: &Outcome) -> ChipHours {
    let spent = &outcome.spent;
    let fleet = setup.fleet.chips() as f64 * (outcome.end - setup.start).as_secs_f64() / 3600.0;
    let mut free = (fleet - spent.total().as_chip_hours()).max(0.0);
    let mut of_free = |hours: f64| {
        let taken = hours.min(free);
        free -= taken;
        round(taken, 1)
    };
    let mean = |chips: fn(&Sample) -> u64| {
        let total: u64 = outcome.samples.iter().map(chips).sum();
        fleet * ratio(total as f64 / 1000.0, outcome.samples.len() as f64 * setup.fleet.chips() as f64)
    };
    let out = of_free(outcome.failures.out.as_chip_hours());
    let held = of_free(mean(|sample| sample.held_chip_milli));
    let fragmented = of_free(mean(|sample| sample.fragmented_chip_milli));
    ChipHours {
        fleet: round(fleet, 1),
        useful: round(spent.useful.as_chip_hours(), 1),
        checkpoints: round(spent.saving.as_chip_hours(), 1),
        restart: round(spent.restart.as_chip_hours(), 1),
        rework: round(spent.rework.as_chip_hours(), 1),
        slowness: round(spent.slowness.as_chip_hours(), 1),
        standby: round(spent.standby.as_chip_hours(), 1),
        out,
        held,
        fragmented,
        idle: round(free, 1),
    }
}

/// Useful time over the time from submission to end of jobs that have started, weighted by chips.
fn ettr(setup: &Setup, outcome: &Outcome) -> f64 {
    let started = setup.jobs.iter().zip(&outcome.jobs).filter(|(_, record)| record.started.is_some());
    let (useful, all) = started.fold((0, 0), |(useful, all): (i128, i128), (job, record)| {
        let chips = i128::from(job.chip_milli());
        let span = record.finished.unwrap_or(outcome.end) - job.submitted.max(setup.start);
        (useful + chips * i128::from(record.useful.as_millis()), all + chips * i128::from(span.as_millis()))
    });
    ratio(useful as f64, all as f64)
}

/// Jain's index (DEC-TR-301, 1984) of the tenants' dominant shares: of the kinds of chip, the one of which a tenant had
/// the largest part (Ghodsi et al., NSDI 2011).
fn jain(setup: &Setup, outcome: &Outcome) -> f64 {
    let fleet = &setup.fleet;
    let mut chips = vec![0_u64; fleet.accelerators.len()];
    for node in &fleet.nodes {
        let kind = fleet.kind(*node);
        if let Some(accelerator) = kind.accelerator {
            chips[accelerator.ix()] += u64::from(kind.chips);
        }
    }
    let dominant = |used: &Vec<ChipTime>| {
        let shares = used.iter().zip(&chips).map(|(time, chips)| ratio(time.as_chip_hours(), *chips as f64));
        shares.fold(0.0, f64::max)
    };
    let shares: Vec<f64> = outcome.tenants.values().map(dominant).collect();
    let (sum, squares) = shares.iter().fold((0.0, 0.0), |(sum, squares), share| (sum + share, squares + share * share));
    if squares == 0.0 { 1.0 } else { sum * sum / (shares.len() as f64 * squares) }
}

/// The share of deadlines that were met, of those that have come.
fn deadlines_met(setup: &Setup, outcome: &Outcome) -> Option<f64> {
    let due = setup.jobs.iter().zip(&outcome.jobs).filter_map(|(job, record)| {
        let deadline = job.deadline.filter(|deadline| *deadline <= outcome.end)?;
        Some(record.finished.is_some_and(|end| end <= deadline))
    });
    let (met, all) = due.fold((0_u64, 0_u64), |(met, all), in_time| (met + u64::from(in_time), all + 1));
    (all > 0).then(|| met as f64 / all as f64)
}

fn failure_lines(outcome: &Outcome) -> Vec<FailureLine> {
    let lines = outcome.failures.causes.iter().map(|cause| FailureLine {
        class: cause.class.clone(),
        cause: cause.cause.clone(),
        count: cause.struck,
        attempts: cause.jobs,
        lost_chip_hours: round(cause.lost.as_chip_hours(), 1),
    });
    lines.collect()
}

fn repair_line(outcome: &Outcome) -> RepairLine {
    let repairs = outcome.repairs;
    RepairLine {
        swaps: repairs.swaps,
        swapped_nodes: repairs.nodes,
        waits: repairs.waits,
        wait_mean_s: round(ratio(repairs.waited.as_secs_f64(), repairs.waits as f64), 3),
    }
}

fn ramp_lines(setup: &Setup, outcome: &Outcome) -> Vec<RampLine> {
    let mw = |watts: Watts| round(watts.as_mw(), 6);
    let each_second = |watts: Watts| round(watts.as_mw() / 60.0, 6);
    let line = |(ix, seen): &(SiteIx, RampOutcome)| {
        let site = &setup.fleet.sites[ix.ix()];
        let ramp = site.ramp.as_ref()?;
        Some(RampLine {
            site: site.name.clone(),
            max_step_mw: mw(ramp.max_step),
            up_mw_per_s: mw(ramp.up),
            down_mw_per_s: mw(ramp.down),
            smoothing_mw: ramp.smoothing.as_ref().map(|smoothing| mw(smoothing.watts)),
            step_up_mw: mw(seen.step_up),
            step_down_mw: mw(seen.step_down),
            minute_up_mw_per_s: each_second(seen.minute_up),
            minute_down_mw_per_s: each_second(seen.minute_down),
            largest_job_mw: mw(seen.largest),
            swing_mw: mw(seen.swing),
            waited: seen.waited,
        })
    };
    outcome.ramps.iter().filter_map(line).collect()
}

/// What a cap allows from when on, in seconds and megawatts, as grid events and its hours begin and end, and as it rises
/// again.
fn cap_changes(setup: &Setup, outcome: &Outcome, cap: LimitIx) -> Vec<(i64, f64)> {
    let after = |at: Timestamp| (at - setup.start).as_millis() / 1000;
    let mw = |watts: Watts| round(watts.as_mw(), 3);
    let Cap { watts: declared, rise, .. } = &setup.fleet.caps[cap.ix()];
    let events = setup.grid_events.iter().zip(&outcome.grid).filter(|(event, _)| event.cap == cap);
    let events = events.map(|(event, came)| (event.at..event.until, came.target));
    let of_day = setup.fleet.lowered_in(&(setup.start - Duration::DAY..outcome.end)).into_iter();
    let of_day = of_day.filter(|lowered| LimitIx(lowered.cap) == cap && lowered.time.end > setup.start);
    let of_day = of_day.map(|lowered| (lowered.time.start.max(setup.start)..lowered.time.end, lowered.watts));
    let lowered: Vec<(Range<Timestamp>, Watts)> = events.chain(of_day).collect();
    let mut instants: Vec<Timestamp> = lowered.iter().flat_map(|(time, _)| [time.start, time.end]).collect();
    instants.sort_unstable();
    instants.dedup();
    let mut changes = Vec::new();
    let mut allowed = *declared;
    for (place, begins) in instants.iter().enumerate() {
        let until = instants.get(place + 1).copied().unwrap_or(outcome.end);
        let lasting = lowered.iter().filter(|(time, _)| time.contains(begins));
        let most = lasting.map(|(_, watts)| *watts).fold(*declared, Watts::min);
        let mut at = *begins;
        if let Some(rise) = rise.filter(|_| allowed < most) {
            while allowed + rise < most && at + Duration::MINUTE < until {
                (at, allowed) = (at + Duration::MINUTE, allowed + rise);
                changes.push((after(at), mw(allowed)));
            }
            at = at + Duration::MINUTE;
            if at >= until && place + 1 < instants.len() {
                continue;
            }
        }
        allowed = most;
        changes.push((after(at), mw(allowed)));
    }
    changes
}

fn grid_summary(setup: &Setup, outcome: &Outcome) -> GridSummary {
    let events = || setup.grid_events.iter().zip(&outcome.grid);
    let count =
        |is: &dyn Fn(&GridEvent, &GridOutcome) -> bool| events().filter(|(event, came)| is(event, came)).count() as u64;
    let is_met = |event: &GridEvent, came: &GridOutcome| came.met.is_some_and(|met| met <= event.at);
    let is_feasible = |came: &GridOutcome| came.least.is_none() && came.runs_on.is_none();
    // What idle nodes draw under a cap is known to the watt: a declaration is true where it is more than what was asked.
    let is_false = |came: &GridOutcome| came.least.is_some_and(|(least, _)| least <= came.target);
    let lines = events().map(|(event, came)| GridLine {
        name: event.name.clone(),
        cap: setup.fleet.caps[event.cap.ix()].name.clone(),
        programme: event.programme.map(|programme| setup.fleet.programmes[programme].name.clone()),
        announced_s: (event.announced - setup.start).as_secs_f64(),
        at_s: (event.at - setup.start).as_secs_f64(),
        hold_s: (event.until - event.at).as_secs_f64(),
        before_mw: round(came.before.as_mw(), 6),
        target_mw: round(came.target.as_mw(), 6),
        response_mw: round(came.drawn.as_mw(), 6),
        achievable_mw: [came.least, came.runs_on]
            .into_iter()
            .flatten()
            .map(|(had, _)| round(had.as_mw(), 6))
            .reduce(f64::max),
        declared_after_s: declared(event, came).map(|at| (at - event.announced).as_secs_f64()),
        met_after_s: came.met.map(|met| (met - event.announced).as_secs_f64()),
        breach_s: came.over.as_secs_f64(),
        throttled: came.throttled,
        paused: came.paused,
        stopped: came.stopped,
        lost_chip_hours: round(came.touched.values().map(|touched| touched.lost.as_chip_hours()).sum(), 1),
        lost_if_assumed_levels_are_off: (came.throttled > 0 && !assumed_levels(setup).is_empty()).then(|| {
            let lost: f64 = came.touched.values().map(|touched| touched.lost.as_chip_hours()).sum();
            let (less, more) = came.if_levels_are_off;
            [round(lost - less.as_chip_hours(), 1), round(lost + more.as_chip_hours(), 1)]
        }),
        given_back_mwh: round(came.given_back.as_mwh(), 3),
        reserved_paused: came.reserved_stopped,
    });
    GridSummary {
        events: outcome.grid.len() as u64,
        feasible: count(&|_, came| is_feasible(came)),
        met: count(&|event, came| is_feasible(came) && is_met(event, came)),
        held_to_end: count(&|event, came| is_feasible(came) && is_met(event, came) && came.over == Duration::ZERO),
        declared_infeasible: count(&|_, came| !is_feasible(came)),
        false_infeasible: count(&|_, came| is_false(came)),
        reserved_paused: events().map(|(_, came)| came.reserved_stopped).sum(),
        breach_seconds: events().map(|(_, came)| came.over.as_secs_f64()).sum(),
        lines: lines.collect(),
        programmes: statements(setup, outcome),
    }
}

/// When it was said that an event asks for what cannot be had.
fn declared(event: &GridEvent, came: &GridOutcome) -> Option<Timestamp> {
    // What cooling takes that runs on is known at once.
    came.runs_on.map(|_| event.announced).or(came.least.map(|(_, at)| at))
}

/// The course of those events that asked for most, in the order in which they were announced.
fn grid_courses(setup: &Setup, outcome: &Outcome) -> Vec<GridCourse> {
    const MOST_DRAWN: usize = 6;
    let mut largest: Vec<usize> = (0..outcome.grid.len()).collect();
    largest.sort_by_key(|line| outcome.grid[*line].target - outcome.grid[*line].before);
    largest.truncate(MOST_DRAWN);
    largest.sort_unstable();
    let course = |line: usize| GridCourse {
        line,
        span_s: setup.grid_events[line].span().as_secs_f64(),
        mw: outcome.grid[line].course.iter().map(|drawn| round(drawn.as_mw(), 4)).collect(),
        touched: touched_lines(setup, &outcome.grid[line]),
        touched_count: outcome.grid[line].touched.len() as u64,
    };
    largest.into_iter().map(course).collect()
}

/// Chips with power levels that nobody measured, each with where they are taken from.
fn assumed_levels(setup: &Setup) -> Vec<(&str, &str)> {
    let kinds = setup.fleet.accelerators.iter();
    kinds
        .filter_map(|kind| {
            let level = kind.power_levels.iter().skip(1).find(|level| level.basis == Basis::Assumed)?;
            Some((kind.name.as_str(), level.source.as_str()))
        })
        .collect()
}

/// Those that lost most to a grid event.
fn touched_lines(setup: &Setup, came: &GridOutcome) -> Vec<TouchedLine> {
    const MOST_SHOWN: usize = 100;
    let mut touched: Vec<(&JobId, &Touched)> = came.touched.iter().collect();
    touched.sort_by_key(|(job, touched)| (std::cmp::Reverse(touched.lost.0), **job));
    let line = |(job, touched): (&JobId, &Touched)| {
        let chip = touched.chip.map(|chip| &setup.fleet.accelerators[chip.ix()]);
        let spec = &touched.spec;
        let number = if spec.service.is_some() { job.0 - JobId::REPLICAS } else { job.0 };
        TouchedLine {
            name: format!("{} {number}", spec.name),
            tenant: spec.tenant.clone(),
            tier: tier_name(spec.tier),
            chips: spec.chip_milli() as f64 / 1000.0,
            level: chip.and_then(|chip| touched.throttle.of(&chip.power_levels)).map(|level| level.name.clone()),
            pauses: touched.pauses,
            stops: touched.stops,
            lost_chip_hours: round(touched.lost.as_chip_hours(), 2),
        }
    };
    touched.into_iter().take(MOST_SHOWN).map(line).collect()
}

/// What the meters showed, in megawatts, and over circuits in kVA.
fn meter_lines(setup: &Setup, outcome: &Outcome) -> Vec<MeterLine> {
    let fleet = &setup.fleet;
    let line = |(meter, reading): (&Meter, &Reading)| {
        let circuit = match meter.of {
            CapTarget::Circuit(circuit) | CapTarget::CircuitWithout { circuit, .. } => Some(circuit),
            CapTarget::Domain(_) => None,
        };
        let factor = circuit.map_or(1.0, |circuit| fleet.circuits[circuit.ix()].power_factor.as_f64());
        let (unit, per) = if circuit.is_some() { ("kVA", 1e3 * factor) } else { ("MW", 1e6) };
        let scaled = |watts: &Watts| round(watts.get() as f64 / per, 3);
        let rating = circuit.map(|circuit| {
            let circuit = &fleet.circuits[circuit.ix()];
            MeterLimit { name: "rating for continuous load".to_owned(), allowed: vec![scaled(&circuit.continuous())] }
        });
        let limits = meter.caps.iter().zip(&reading.allowed).map(|(cap, allowed)| {
            let is_fixed = allowed.windows(2).all(|pair| pair[0] == pair[1]);
            let shown = if is_fixed { &allowed[..allowed.len().min(1)] } else { &allowed[..] };
            MeterLimit { name: fleet.caps[cap.ix()].name.clone(), allowed: shown.iter().map(scaled).collect() }
        });
        let seconds = |at: Timestamp| (at - setup.start).as_secs_f64();
        let losses = setup.feed_losses.iter().filter(|loss| Some(loss.circuit) == circuit);
        let domain = if let CapTarget::Domain(domain) = meter.of { Some(domain) } else { None };
        let feeds = circuit.map_or(&[][..], |circuit| &fleet.circuits[circuit.ix()].feeds);
        let site = domain.or(feeds.first().map(|feed| feed.domain)).map(|domain| fleet.domains[domain.ix()].site);
        MeterLine {
            name: match (meter.of, meter.place) {
                (CapTarget::Domain(domain), Place::Facility) => {
                    format!("{}, at the grid connection", fleet.path(domain))
                }
                (CapTarget::Domain(domain), Place::It) => format!("{}, at the servers", fleet.path(domain)),
                _ => {
                    circuit.map_or_else(String::new, |circuit| format!("circuit {}", fleet.circuits[circuit.ix()].name))
                }
            },
            site: site.map_or_else(String::new, |site| fleet.sites[site.ix()].name.clone()),
            domain: domain.map(|domain| fleet.path(domain)),
            at_grid: domain.is_some() && meter.place == Place::Facility,
            feeds: feeds.iter().map(|feed| (fleet.path(feed.domain), feed.share.as_f64())).collect(),
            unit,
            span_s: METER_SPAN.as_secs_f64(),
            drawn: reading.drawn.iter().map(scaled).collect(),
            limits: limits.chain(rating).collect(),
            out_s: losses.map(|loss| (seconds(loss.at), seconds(loss.until))).collect(),
        }
    };
    setup.meters.iter().zip(&outcome.readings).map(line).collect()
}

fn in_usd(money: Money, rates: &[ExchangeRate]) -> f64 {
    let rate = rates.iter().find(|rate| rate.currency == money.currency);
    money.as_units() * rate.map_or(1.0, |rate| rate.usd_micros as f64 / 1e6)
}

fn ratio(part: f64, whole: f64) -> f64 {
    if whole == 0.0 { 0.0 } else { part / whole }
}

pub(crate) fn round(value: f64, digits: i32) -> f64 {
    let scale = 10f64.powi(digits);
    (value * scale).round() / scale
}

fn stats(mut spans: Vec<Duration>) -> Stats {
    if spans.is_empty() {
        return Stats::default();
    }
    spans.sort_unstable();
    // Nearest rank: the smallest value that so many in a hundred do not exceed.
    let percentile = |percent: usize| {
        let rank = (spans.len() * percent).div_ceil(100).max(1);
        round(spans[rank - 1].as_secs_f64(), 3)
    };
    let total: i128 = spans.iter().map(|span| i128::from(span.as_millis())).sum();
    Stats {
        mean: round(total as f64 / spans.len() as f64 / 1000.0, 3),
        p50: percentile(50),
        p95: percentile(95),
        p99: percentile(99),
        max: percentile(100),
    }
}

const SIZES: [(&str, u64); 7] = [
    ("share", 999),
    ("1", 1000),
    ("2–8", 8_000),
    ("9–64", 64_000),
    ("65–512", 512_000),
    ("513–4096", 4_096_000),
    ("4097+", u64::MAX),
];

fn wait_buckets(scenario: &Scenario, outcome: &Outcome) -> Vec<WaitBucket> {
    let sizes = SIZES.map(|(label, _)| label);
    waits_by(&scenario.setup, outcome, &sizes, |job| {
        let chips = job.chip_milli();
        let size = SIZES.iter().position(|(_, most)| chips <= *most).unwrap_or(SIZES.len() - 1);
        (chips > 0).then_some(size)
    })
}

fn tier_waits(setup: &Setup, outcome: &Outcome) -> Vec<WaitBucket> {
    waits_by(setup, outcome, &Tier::ALL.map(tier_name), |job| Some(job.tier as usize))
}

/// Waits of jobs that were not rejected, by where a job belongs, if anywhere.
fn waits_by(
    setup: &Setup,
    outcome: &Outcome,
    labels: &[&str],
    place: impl Fn(&Job) -> Option<usize>,
) -> Vec<WaitBucket> {
    let mut spans: Vec<Vec<Duration>> = vec![Vec::new(); labels.len()];
    for (job, record) in setup.jobs.iter().zip(&outcome.jobs) {
        if record.rejected || job.submitted > outcome.end {
            continue;
        }
        if let Some(spans) = place(job).and_then(|place| spans.get_mut(place)) {
            spans.push(wait(job, record.started, outcome.end));
        }
    }
    let buckets = labels.iter().zip(spans).map(|(label, spans)| {
        let jobs = spans.len() as u64;
        let stats = stats(spans);
        WaitBucket {
            label: (*label).to_owned(),
            jobs,
            mean_s: stats.mean,
            p50_s: stats.p50,
            p95_s: stats.p95,
            p99_s: stats.p99,
            max_s: stats.max,
        }
    });
    buckets.collect()
}

fn timeline(scenario: &Scenario, outcome: &Outcome) -> Timeline {
    let setup = &scenario.setup;
    let samples = &outcome.samples;
    let chips = |milli: u64| round(milli as f64 / 1000.0, 1);
    let is_account = |limit: &LimitIx| {
        let beside = setup.cooled.iter().any(|cooled| cooled.servers == *limit);
        beside
            || setup.meters.iter().any(|meter| meter.has_account(*limit))
            || setup.utility_losses.iter().any(|loss| loss.cap == *limit)
    };
    let caps = setup.fleet.caps.iter().zip((0..).map(LimitIx)).filter(|(_, limit)| !is_account(limit));
    let fleet_caps = caps.filter_map(|(cap, ix)| match cap.target {
        // What heat leaves of a cap is on the meters.
        CapTarget::Domain(domain) if domain.ix() < setup.fleet.sites.len() && cap.derating.is_empty() => {
            Some(CapLine {
                name: cap.name.clone(),
                mw: round(cap.watts.as_mw(), 3),
                meter: if cap.meter == Place::It { "it" } else { "facility" }.to_owned(),
                changes: cap_changes(setup, outcome, ix),
            })
        }
        _ => None,
    });
    Timeline {
        t_s: samples.iter().map(|sample| (sample.at - setup.start).as_millis() / 1000).collect(),
        allocated_chips: Tier::ALL
            .map(|tier| samples.iter().map(|sample| chips(sample.chip_milli[tier as usize])).collect()),
        capacity_chips: setup.fleet.chips() as f64,
        waiting_jobs: samples.iter().map(|sample| sample.waiting_jobs).collect(),
        waiting_chips: samples.iter().map(|sample| chips(sample.waiting_chip_milli)).collect(),
        it_mw: samples.iter().map(|sample| round(sample.it.as_mw(), 4)).collect(),
        facility_mw: samples.iter().map(|sample| round(sample.facility.as_mw(), 4)).collect(),
        // One chart of megawatts holds the whole fleet: caps of single sites belong on it when there is one site only.
        caps: if setup.fleet.sites.len() == 1 { fleet_caps.collect() } else { Vec::new() },
        price_per_mwh: price_line(setup, outcome),
    }
}

/// The price in the zone of the site that drew the most.
fn price_line(setup: &Setup, outcome: &Outcome) -> Option<PriceLine> {
    let accounts = outcome.state.ledger().sites.iter().enumerate();
    let (site, _) =
        accounts.max_by_key(|(index, account)| (account.facility.watt_millis(), std::cmp::Reverse(*index)))?;
    let zone = setup.fleet.sites[site].price_zone.as_deref()?;
    let mut prices = setup.signals.iter().filter_map(|signal| match signal.value {
        SignalValue::Price(price) if signal.zone == zone => Some((signal.at, price)),
        _ => None,
    });
    let (mut from, mut price) = prices.next()?;
    let mut next = prices.next();
    let mut values = Vec::with_capacity(outcome.samples.len());
    for sample in &outcome.samples {
        while let Some((at, other)) = next.filter(|(at, _)| *at <= sample.at) {
            (from, price) = (at, other);
            next = prices.next();
        }
        values.push(if from <= sample.at { round(price.micros as f64 / 1e6, 2) } else { f64::NAN });
    }
    let unit = if price.currency == Currency::USD { "$/MWh".to_owned() } else { format!("{}/MWh", price.currency) };
    Some(PriceLine { label: format!("price {zone}"), unit, values })
}

/// Everything that the report's page shows.
pub fn report_data(
    scenario: &Scenario,
    outcomes: &[(&str, &Outcome)],
    summaries: &[PolicySummary],
    command: String,
) -> ReportData {
    let setup = &scenario.setup;
    let focus = outcomes.iter().find(|(name, _)| *name == scenario.focus).or(outcomes.first());
    let end = focus.map_or(setup.start, |(_, outcome)| outcome.end);
    let mut notes = scenario.notes.clone();
    notes.push("Waits count jobs that still wait at the end with their wait so far.".to_owned());
    notes.push("Power is modelled from the fleet file's idle, operating and peak watts, not metered.".to_owned());
    let was_throttled = |(_, outcome): &(&str, &Outcome)| outcome.grid.iter().any(|came| came.throttled > 0);
    let assumed = assumed_levels(setup);
    if !assumed.is_empty() && outcomes.iter().any(was_throttled) {
        let of: Vec<String> = assumed.iter().map(|(chip, source)| format!("{chip} ({source})")).collect();
        notes.push(format!("Power levels are assumed, not measured, of {}.", of.join(", ")));
    }
    if setup.horizon.is_none() {
        notes.push(
            "Without a horizon a run ends with its last job, so that each policy has a span of its own.".to_owned(),
        );
    }
    let rates = scenario.rates.iter().filter(|rate| rate.currency != Currency::USD).map(|rate| ReportRate {
        from: rate.currency.to_string(),
        to: "USD".to_owned(),
        rate: rate.usd_micros as f64 / 1e6,
        date: rate
            .date
            .and_then(human::write_timestamp)
            .map_or_else(|| "of unstated date".to_owned(), |date| date.chars().take(10).collect()),
        source: rate.source.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default(),
    });
    let sources = scenario.sources.iter().map(|[what, source, licence]| Source {
        what: what.clone(),
        source: source.clone(),
        licence: licence.clone(),
    });
    let policies = outcomes.iter().zip(summaries).map(|((name, outcome), summary)| PolicyReport {
        name: (*name).to_owned(),
        summary: summary.clone(),
        timeline: timeline(scenario, outcome),
        grid: grid_courses(&scenario.setup, outcome),
        programmes: courses(&scenario.setup, outcome),
        meters: meter_lines(&scenario.setup, outcome),
        waits: wait_buckets(scenario, outcome),
        picture: outcome.busiest.picture(&setup.fleet, setup.start),
    });
    // A trace whose first job comes within a day of the epoch counts days rather than dates.
    let has_calendar = setup.start.as_millis() >= Duration::DAY.as_millis();
    ReportData {
        title: format!("{} · Offtake", scenario.name),
        scenario: ScenarioFacts {
            name: scenario.name.clone(),
            fleet: setup.fleet.name.clone(),
            chips: setup.fleet.chips(),
            nodes: setup.fleet.nodes.len() as u64,
            seed: scenario.seed,
            horizon_s: (end - setup.start).as_millis() / 1000,
            start_unix_s: if has_calendar { setup.start.as_millis() / 1000 } else { 0 },
            time_zone: "UTC".to_owned(),
            offered_load_asked: scenario.offered_load_asked.map(|load| load.as_f64()),
            offered_load: summaries.first().map_or(0.0, |summary| summary.offered_load),
            command,
            notes,
            sources: sources.collect(),
            exchange_rates: rates.collect(),
        },
        focus: scenario.focus.clone(),
        policies: policies.collect(),
    }
}

/// One row a job: what it asked for, when it ran, where.
///
/// # Errors
/// When the table cannot be written.
pub fn write_jobs(scenario: &Scenario, outcome: &Outcome, to: impl Write) -> Result<(), csv::Error> {
    let setup = &scenario.setup;
    let mut table = csv::Writer::from_writer(to);
    table.write_record([
        "job",
        "tenant",
        "tier",
        "workers",
        "chips",
        "submitted_s",
        "started_s",
        "finished_s",
        "wait_s",
        "state",
        "site",
        "nodes",
        "first_node",
        "checkpoint_interval_s",
        "advised_interval_s",
        "expected_gain_pct",
    ])?;
    let advice = advice_on(setup);
    let since_start = |at: Timestamp| seconds(at - setup.start);
    for (index, (job, record)) in setup.jobs.iter().zip(&outcome.jobs).enumerate() {
        if job.submitted > outcome.end {
            break;
        }
        let state = match (record.rejected, record.started, record.finished) {
            (true, ..) => "rejected",
            (_, _, Some(_)) => "finished",
            (_, Some(_), None) if is_running(&outcome.state, JobId(index as u64)) => "running",
            (_, Some(_), None) => "ended",
            (_, None, None) => "waiting",
        };
        let node = offtake_fleet::NodeIx(record.first_node);
        let (site, name) = match record.started {
            None => (String::new(), String::new()),
            Some(_) => {
                let domain = setup.fleet.nodes[node.ix()].domain;
                let SiteIx(site) = setup.fleet.domains[domain.ix()].site;
                (setup.fleet.sites[site as usize].name.clone(), setup.fleet.node_name(node))
            }
        };
        let advice = advice(job);
        let workers: u32 = job.gangs.iter().map(|gang| gang.workers).sum();
        table.write_record([
            job.name.as_str(),
            &job.tenant,
            tier_name(job.tier),
            &workers.to_string(),
            &chips_text(job),
            &since_start(job.submitted),
            &record.started.map(since_start).unwrap_or_default(),
            &record.finished.map(since_start).unwrap_or_default(),
            &seconds(wait(job, record.started, outcome.end)),
            state,
            &site,
            &record.nodes.to_string(),
            &name,
            &job.checkpoint.map(|checkpoint| brief(checkpoint.interval)).unwrap_or_default(),
            &advice.as_ref().map(|advice| brief(advice.daly)).unwrap_or_default(),
            &advice.map(|advice| format!("{:.3}", gain_pct(&advice))).unwrap_or_default(),
        ])?;
    }
    table.flush()?;
    Ok(())
}

/// Advice on how often a job should save its work. The storage is taken as that of the fleet's first site that tells it,
/// without others that write.
fn advice_on(setup: &Setup) -> impl Fn(&Job) -> Option<IntervalAdvice> + '_ {
    let bandwidth = setup.fleet.sites.iter().find_map(|site| site.storage_bandwidth);
    move |job| IntervalAdvice::on(job, setup.failures.as_ref()?, bandwidth)
}

/// Seconds with three digits.
fn seconds(duration: Duration) -> String {
    let ms = duration.as_millis();
    format!("{}{}.{:03}", if ms < 0 { "-" } else { "" }, ms.abs() / 1000, ms.abs() % 1000)
}

fn gain_pct(advice: &IntervalAdvice) -> f64 {
    100.0 * (advice.best_goodput - advice.goodput)
}

fn brief(duration: Duration) -> String {
    format!("{:.0}", duration.as_secs_f64())
}

fn chips_text(job: &Job) -> String {
    let whole = job.gangs.iter().all(|gang| !matches!(gang.chips, ChipRequest::Share(_)));
    let milli = job.chip_milli();
    if whole { (milli / 1000).to_string() } else { format!("{:.3}", milli as f64 / 1000.0) }
}

const fn tier_name(tier: Tier) -> &'static str {
    match tier {
        Tier::Reserved => "reserved",
        Tier::Guaranteed => "guaranteed",
        Tier::Standard => "standard",
        Tier::Spot => "spot",
    }
}

/// One row a sample: chips in use by tier, waiting work, megawatts.
///
/// # Errors
/// When the table cannot be written.
pub fn write_timeline(scenario: &Scenario, outcome: &Outcome, to: impl Write) -> Result<(), csv::Error> {
    let mut table = csv::Writer::from_writer(to);
    table.write_record([
        "t_s",
        "reserved_chips",
        "guaranteed_chips",
        "standard_chips",
        "spot_chips",
        "capacity_chips",
        "waiting_jobs",
        "waiting_chips",
        "fragmented_chips",
        "it_mw",
        "facility_mw",
    ])?;
    let chips = |milli: u64| format!("{:.3}", milli as f64 / 1000.0);
    for sample in &outcome.samples {
        let [reserved, guaranteed, standard, spot] = sample.chip_milli.map(chips);
        table.write_record([
            ((sample.at - scenario.setup.start).as_millis() / 1000).to_string(),
            reserved,
            guaranteed,
            standard,
            spot,
            scenario.setup.fleet.chips().to_string(),
            sample.waiting_jobs.to_string(),
            chips(sample.waiting_chip_milli),
            chips(sample.fragmented_chip_milli),
            format!("{:.6}", sample.it.as_mw()),
            format!("{:.6}", sample.facility.as_mw()),
        ])?;
    }
    table.flush()?;
    Ok(())
}
