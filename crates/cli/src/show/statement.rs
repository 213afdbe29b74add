//! What grid programmes pay, as text for people.

use offtake_programmes::{EventLine, Statement};

use crate::terminal::{grouped, printable, table};

/// What a programme pays, in a few lines.
pub fn brief(statement: &Statement) -> String {
    let known = statement.events.iter().filter_map(|event| event.figures.as_ref());
    let (count, delivered, short) = known.fold((0_u64, 0.0, 0.0), |(count, delivered, short), figures| {
        (count + 1, delivered + figures.delivered_mwh, short + figures.short_mwh)
    });
    let events = if count == 1 { "event" } else { "events" };
    let mut text = format!(
        "Grid programme {}: {} {events} settled, {delivered:.2} MWh delivered, {short:.2} short.\n",
        printable(&statement.programme),
        grouped(count),
    );
    let outside = statement.events.iter().filter(|event| !event.outside_the_terms.is_empty()).count() as u64;
    let mut said = Vec::new();
    if outside > 0 {
        said.push(format!("{} outside the terms", grouped(outside)));
    }
    if statement.unsettled > 0 {
        said.push(format!("{} not settled, for want of metered history", grouped(statement.unsettled)));
    }
    if !said.is_empty() {
        text.push_str(&format!("{}.\n", said.join("; ")));
    }
    text.push_str(&pays(statement));
    text
}

/// The amounts in a sentence, and where the terms are from.
fn pays(statement: &Statement) -> String {
    let amount = |amount: f64| amount_of(amount, &statement.currency);
    format!(
        "It pays {}: capacity {}, energy {},\npenalties {}, forfeited {}. Terms: {}.\n",
        amount(statement.net),
        amount(statement.capacity),
        amount(statement.energy),
        amount(statement.penalties),
        amount(statement.forfeited),
        printable(&statement.source),
    )
}

/// What a programme pays, event by event.
pub fn full(statement: &Statement) -> String {
    let mut text = brief(statement);
    let header = ["event", "base MW", "metered", "asked", "given", "short MWh", "pays", "penalty", "lost"];
    let settled = |event: &EventLine| {
        let name = printable(&event.name);
        let Some(figures) = &event.figures else {
            return [vec![name], vec!["–".to_owned(); header.len() - 1]].concat();
        };
        vec![
            name,
            format!("{:.3}", figures.baseline_mw),
            format!("{:.3}", figures.metered_mw),
            format!("{:.3}", figures.asked_mw),
            format!("{:.3}", figures.delivered_mw),
            format!("{:.3}", figures.short_mwh),
            format!("{:.2}", figures.payment),
            format!("{:.2}", figures.penalty),
            format!("{:.2}", figures.forfeited),
        ]
    };
    if !statement.events.is_empty() {
        let rows: Vec<Vec<String>> = statement.events.iter().map(settled).collect();
        text.push('\n');
        text.push_str(&table(&header, &rows));
    }
    for event in &statement.events {
        for remark in remarks(event) {
            text.push_str(&format!("{}: {remark}\n", printable(&event.name)));
        }
    }
    for month in &statement.months {
        let amount = amount_of(month.payment, &statement.currency);
        text.push_str(&format!("capacity {}: {amount} for {} % of the month\n", month.month, month.covered_pct));
    }
    text
}

fn remarks(event: &EventLine) -> Vec<String> {
    let outside = event.outside_the_terms.iter().map(|words| format!("outside the terms: {words}"));
    let unsettled = event.unsettled.iter().map(|why| format!("not settled: {why}"));
    let days = event.figures.iter().filter_map(|figures| {
        let adjustment = figures.adjustment.as_ref()?;
        Some(format!("baseline of {}, {adjustment}", figures.basis_days.join(", ")))
    });
    outside.chain(unsettled).chain(days).collect()
}

/// Such as `1,250.50 USD`.
fn amount_of(amount: f64, currency: &str) -> String {
    let cents = (amount.abs() * 100.0).round() as u64;
    let sign = if amount < 0.0 { "-" } else { "" };
    format!("{sign}{}.{:02} {currency}", grouped(cents / 100), cents % 100)
}
