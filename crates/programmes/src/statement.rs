//! A settlement in numbers for people: here integers are divided and rounded.

use offtake_units::{Energy, Money, Timestamp};
use serde::{Deserialize, Serialize};

use crate::baseline::{Adjustment, Basis};
use crate::programme::Programme;
use crate::settle::{Delivered, Departure, Part, Settled, Settlement};

/// What a programme pays, and for what.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Statement {
    /// Its name.
    pub programme: String,
    /// How its baseline is found, as fleet files call it.
    pub baseline: String,
    /// The zone of its days and months.
    pub time_zone: String,
    /// Where its terms are from.
    pub source: String,
    /// The currency of all amounts.
    pub currency: String,
    /// For capacity.
    pub capacity: f64,
    /// For energy delivered.
    pub energy: f64,
    /// To be paid back for energy that was short.
    pub penalties: f64,
    /// Of the payments for capacity, what is not paid as energy was short.
    pub forfeited: f64,
    /// What is left.
    pub net: f64,
    /// Events that cannot be settled; what they were worth is in none of the amounts.
    pub unsettled: u64,
    /// Capacity by month.
    pub months: Vec<MonthLine>,
    /// Each event.
    pub events: Vec<EventLine>,
}

/// What is paid for the capacity of a month.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct MonthLine {
    /// Such as `2025-07`.
    pub month: String,
    /// How much of it the meter has, in percent.
    pub covered_pct: f64,
    /// What is paid for that.
    pub payment: f64,
}

/// What came of an event.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct EventLine {
    /// Its name.
    pub name: String,
    /// From when, in UTC.
    pub at: String,
    /// Until when, in UTC.
    pub until: String,
    /// How it departs from the terms, a few words each; none where it does not.
    pub outside_the_terms: Vec<String>,
    /// Why it cannot be settled.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unsettled: Option<String>,
    /// What it was worth; none where it cannot be settled.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub figures: Option<EventFigures>,
}

/// What an event was worth. Powers are means over it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct EventFigures {
    /// What would have been drawn without it.
    pub baseline_mw: f64,
    /// What was drawn.
    pub metered_mw: f64,
    /// How much less was asked for.
    pub asked_mw: f64,
    /// How much less was drawn, up to the baseline of each interval.
    pub delivered_mw: f64,
    /// That as energy.
    pub delivered_mwh: f64,
    /// What was asked and not delivered, interval by interval.
    pub short_mwh: f64,
    /// For what was delivered.
    pub payment: f64,
    /// For what was short.
    pub penalty: f64,
    /// Of the payment for capacity.
    pub forfeited: f64,
    /// The days that the baseline is the mean of, the last first; none where it is contracted.
    pub basis_days: Vec<String>,
    /// How it was adjusted to the hours before the event, such as `times 1.04` or `plus 0.31 MW`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub adjustment: Option<String>,
}

impl Statement {
    /// The statement of a settlement.
    pub fn of(programme: &Programme, settlement: &Settlement) -> Self {
        let months = settlement.months.iter().map(|month| MonthLine {
            month: format!("{:04}-{:02}", month.first.year(), month.first.month()),
            covered_pct: round(month.share.as_f64() * 100.0, 3),
            payment: amount(month.payment),
        });
        Self {
            programme: programme.name.clone(),
            baseline: programme.baseline.name().to_owned(),
            time_zone: programme.zone.name().to_owned(),
            source: programme.source.clone(),
            currency: settlement.currency.to_string(),
            capacity: amount(settlement.capacity()),
            energy: amount(settlement.energy()),
            penalties: amount(settlement.penalties()),
            forfeited: amount(settlement.forfeited()),
            net: amount(settlement.net()),
            unsettled: settlement.events.iter().filter(|event| event.delivered.is_err()).count() as u64,
            months: months.collect(),
            events: settlement.events.iter().map(|event| line(programme, event)).collect(),
        }
    }
}

fn line(programme: &Programme, settled: &Settled) -> EventLine {
    let span = settled.event.span;
    EventLine {
        name: settled.event.name.clone(),
        at: instant(span.from),
        until: instant(span.until),
        outside_the_terms: settled.departures.iter().map(|departure| words(programme, *departure)).collect(),
        unsettled: settled.delivered.as_ref().err().map(ToString::to_string),
        figures: settled.delivered.as_ref().ok().map(|delivered| figures(settled, delivered)),
    }
}

fn figures(settled: &Settled, delivered: &Delivered) -> EventFigures {
    let hours = (settled.event.span.until - settled.event.span.from).as_secs_f64().max(1e-3) / 3600.0;
    let mwh = |of: fn(&Part) -> Energy| delivered.sum(of).as_mwh();
    let mean = |of: fn(&Part) -> Energy| round(mwh(of) / hours, 4);
    let (basis_days, adjustment) = match &delivered.basis {
        Basis::Contract => (Vec::new(), None),
        Basis::Days { days, adjustment } => {
            (days.iter().map(ToString::to_string).collect(), Some(adjusted(*adjustment)))
        }
    };
    EventFigures {
        baseline_mw: mean(|part| part.baseline),
        metered_mw: mean(|part| part.metered),
        asked_mw: mean(|part| part.asked),
        delivered_mw: mean(Part::delivered),
        delivered_mwh: round(mwh(Part::delivered), 4),
        short_mwh: round(mwh(Part::short), 4),
        payment: amount(delivered.payment),
        penalty: amount(delivered.penalty),
        forfeited: amount(delivered.forfeited),
        basis_days,
        adjustment,
    }
}

fn adjusted(adjustment: Adjustment) -> String {
    match adjustment {
        Adjustment::Times(ratio) => format!("times {:.4}", ratio.as_f64()),
        Adjustment::Plus(watts) if watts.get() < 0 => format!("minus {:.4} MW", -watts.as_mw()),
        Adjustment::Plus(watts) => format!("plus {:.4} MW", watts.as_mw()),
    }
}

fn words(programme: &Programme, departure: Departure) -> String {
    match departure {
        Departure::Notice(given) => format!("{given} of notice, not {}", programme.notice),
        Departure::Length(length) => format!("for {length}, not {}", programme.longest),
        Departure::Depth => "deeper than agreed".to_owned(),
        Departure::Season => "out of season".to_owned(),
        Departure::Number(number) => format!("event {number} of a season of {}", programme.events),
    }
}

fn instant(at: Timestamp) -> String {
    jiff::Timestamp::from_millisecond(at.as_millis()).map_or_else(|_| String::new(), |at| at.to_string())
}

fn amount(money: Money) -> f64 {
    round(money.as_units(), 2)
}

fn round(value: f64, digits: i32) -> f64 {
    let scale = 10f64.powi(digits);
    // No figure is minus nothing.
    (value * scale).round() / scale + 0.0
}
