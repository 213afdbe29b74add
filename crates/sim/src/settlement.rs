//! What the grid events of a run earned: each programme of the fleet is settled by what its meter counted.

use std::io::Write;

use offtake_programmes::{
    Asked, Delivered, Event, Part, Programme, Series, Settled, Settlement, Span, Statement, settle,
};
use offtake_units::{Duration, Energy, Timestamp, Watts};
use offtake_workload::human::write_timestamp;

use crate::grid::{Cut, GridEvent, GridOutcome};
use crate::report::ProgrammeCourse;
use crate::results::round;
use crate::run::{Outcome, Setup};

/// Each programme of the fleet with what its meter counted, the events that it called, and what comes of that.
pub fn settlements<'a>(setup: &'a Setup, outcome: &'a Outcome) -> Vec<(&'a Programme, &'a Series, Settlement)> {
    let programmes = setup.fleet.programmes.iter().enumerate().zip(&outcome.metered);
    programmes
        .map(|((place, programme), series)| {
            (programme, series, settle(programme, series, &called(setup, outcome, place)))
        })
        .collect()
}

/// What each programme of the fleet pays.
pub(crate) fn statements(setup: &Setup, outcome: &Outcome) -> Vec<Statement> {
    let settled = settlements(setup, outcome);
    settled.iter().map(|(programme, _, settlement)| Statement::of(programme, settlement)).collect()
}

/// What the meter showed around those events that asked for most, programme by programme.
pub(crate) fn courses(setup: &Setup, outcome: &Outcome) -> Vec<ProgrammeCourse> {
    const MOST_DRAWN: usize = 6;
    let mut found: Vec<(Energy, ProgrammeCourse)> = Vec::new();
    for (programme, (_, series, settlement)) in settlements(setup, outcome).into_iter().enumerate() {
        for (event, settled) in settlement.events.iter().enumerate() {
            let Ok(delivered) = &settled.delivered else { continue };
            let course = ProgrammeCourse { programme, event, ..course(setup.start, series, settled, delivered) };
            found.push((delivered.sum(|part| part.asked), course));
        }
    }
    found.sort_by_key(|(asked, _)| std::cmp::Reverse(*asked));
    found.truncate(MOST_DRAWN);
    let mut courses: Vec<ProgrammeCourse> = found.into_iter().map(|(_, course)| course).collect();
    courses.sort_by_key(|course| (course.programme, course.event));
    courses
}

/// From an hour before an event until an hour after it.
fn course(start: Timestamp, series: &Series, settled: &Settled, delivered: &Delivered) -> ProgrammeCourse {
    let Span { from, until } = settled.event.span;
    let (first, last) = (from - Duration::HOUR, until + Duration::HOUR);
    let seconds = |at: Timestamp| (at - start).as_secs_f64();
    let mw = |energy: Energy, span: Duration| round(energy.as_mwh() * 3600.0 / span.as_secs_f64(), 4);
    let part_mw = |of: fn(&Part) -> Energy| {
        delivered.parts.iter().map(|part| mw(of(part), part.span.until - part.span.from)).collect()
    };
    let shown = || series.intervals().filter(|(at, _)| (first..last).contains(at));
    ProgrammeCourse {
        from_s: shown().next().map_or(0.0, |(at, _)| seconds(at)),
        span_s: series.interval().as_secs_f64(),
        metered_mw: shown().map(|(_, energy)| mw(energy.unwrap_or_default(), series.interval())).collect(),
        parts_s: delivered.parts.iter().map(|part| seconds(part.span.from)).chain([seconds(until)]).collect(),
        baseline_mw: part_mw(|part| part.baseline),
        allowed_mw: part_mw(|part| (part.baseline - part.asked).max(Energy::ZERO)),
        ..ProgrammeCourse::default()
    }
}

/// The events that a programme called.
fn called(setup: &Setup, outcome: &Outcome, programme: usize) -> Vec<Event> {
    let terms = &setup.fleet.programmes[programme];
    let announced = setup.grid_events.iter().zip(&outcome.grid);
    announced
        .filter(|(event, _)| event.programme == Some(programme))
        .map(|(event, came)| Event {
            name: event.name.clone(),
            announced: event.announced,
            span: Span { from: event.at, until: event.until },
            asked: asked(terms, event, came),
        })
        .collect()
}

/// An event that says what it allows asks for what lies between that and the contracted baseline, or, where the baseline is
/// found from the meter, what is drawn when it is announced. One that allows the firm service level asks for the depth
/// itself, so that no rounding makes it deeper than agreed.
fn asked(programme: &Programme, event: &GridEvent, came: &GridOutcome) -> Asked {
    match event.cut {
        Cut::By(share) => Asked::Share(share),
        Cut::Less(watts) => Asked::Watts(watts),
        Cut::To(watts) if programme.firm_level() == Some(watts) => Asked::Depth,
        Cut::To(watts) => {
            let contracted = programme.firm_level().zip(programme.committed()).map(|(firm, depth)| firm + depth);
            Asked::Watts((contracted.unwrap_or(came.before) - watts).max(Watts::ZERO))
        }
    }
}

/// What a meter counted, as `offtake grid report --meter` reads it.
///
/// # Errors
/// When the table cannot be written.
pub fn write_meter(series: &Series, to: impl Write) -> Result<(), csv::Error> {
    let mut table = csv::Writer::from_writer(to);
    table.write_record(["utc", "kwh"])?;
    for (at, energy) in series.intervals() {
        let kwh = energy.map(|energy| decimal(energy.watt_millis(), 3_600_000_000)).unwrap_or_default();
        table.write_record([write_timestamp(at).unwrap_or_default(), kwh])?;
    }
    table.flush()?;
    Ok(())
}

/// The events that a programme called, as `offtake grid report --events` reads them.
///
/// # Errors
/// When the table cannot be written.
pub fn write_events(settlement: &Settlement, to: impl Write) -> Result<(), csv::Error> {
    let mut table = csv::Writer::from_writer(to);
    table.write_record(["name", "announced", "at", "until", "megawatts", "cut"])?;
    for settled in &settlement.events {
        let Event { name, announced, span, asked } = &settled.event;
        let (megawatts, cut) = match asked {
            Asked::Depth => (String::new(), String::new()),
            Asked::Watts(watts) => (decimal(watts.get().into(), 1_000_000), String::new()),
            Asked::Share(share) => (String::new(), decimal(share.parts().into(), 1_000_000)),
        };
        let [announced, at, until] =
            [*announced, span.from, span.until].map(|at| write_timestamp(at).unwrap_or_default());
        table.write_record([name.as_str(), &announced, &at, &until, &megawatts, &cut])?;
    }
    table.flush()?;
    Ok(())
}

/// A ratio that is not negative with six decimals, rounded down.
fn decimal(amount: i128, unit: i128) -> String {
    let millionths = amount * 1_000_000 / unit;
    format!("{}.{:06}", millionths / 1_000_000, millionths % 1_000_000)
}
