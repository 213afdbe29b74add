//! Caps and grid events, one a line.

use offtake_protocol::rest::{CapView, GridEventState, GridEventView, MeteredView};

use super::figures::{instant, percent, power, since, span};
use crate::terminal::{Align, listing, printable};

/// What is said where there is none.
pub const NONE: &str = "The fleet has no cap. Its fleet file names them under [caps] and [circuits].\n";

const COLUMNS: [(&str, Align); 5] = [
    ("cap", Align::Left),
    ("allows", Align::Right),
    ("drawn", Align::Right),
    ("left", Align::Right),
    ("remarks", Align::Left),
];

/// A table of caps.
pub fn caps(caps: &[CapView], width: Option<usize>) -> String {
    let rows: Vec<Vec<String>> = caps.iter().map(row).collect();
    listing(&COLUMNS, &rows, width)
}

fn row(cap: &CapView) -> Vec<String> {
    let mut remarks = Vec::new();
    if cap.used_w > cap.watts {
        remarks.push(format!("over by {}", power(cap.used_w - cap.watts)));
    }
    remarks.extend(cap.declared_w.map(|declared| format!("set; {} in the fleet file", power(declared))));
    vec![
        cap.name.clone(),
        power(cap.watts),
        power(cap.used_w),
        power(cap.watts.saturating_sub(cap.used_w)),
        remarks.join("; "),
    ]
}

/// More than this is missing or too much: the fleet file's watts are to be looked at.
const TOLERATED: f64 = 0.02;

/// What the sensors of nodes showed, against what is counted for them.
pub fn metered(sites: &[MeteredView]) -> String {
    let line = |site: &MeteredView| {
        let (last, all) = (site.last_counted_mj.max(1) as f64, site.counted_mj.max(1) as f64);
        let off = |metered: u64, counted: f64| metered as f64 / counted - 1.0;
        let (lately, ever) = (off(site.last_metered_mj, last), off(site.metered_mj, all));
        let name = printable(&site.site);
        let text = format!(
            "{name}: nodes' sensors show {} of what is counted for them, {} since {}",
            percent(1.0 + lately),
            percent(1.0 + ever),
            instant(site.since_ms)
        );
        if lately.abs() <= TOLERATED {
            return format!("{text}\n");
        }
        let kwh = (site.metered_mj as f64 - site.counted_mj as f64) / 3.6e9;
        format!(
            "{text}\n  {kwh:+.1} kWh unallocated, no cap and no receipt knows of it: compare the watts of its node kinds in the fleet file\n"
        )
    };
    sites.iter().map(line).collect()
}

/// What is said of a cap that was set.
pub fn set(cap: &CapView) -> String {
    let (name, allows) = (&cap.name, power(cap.watts));
    match cap.used_w.checked_sub(cap.watts).filter(|over| *over > 0) {
        Some(over) => format!("cap {name} allows {allows}; {} too much is drawn, and work gives way\n", power(over)),
        None => format!("cap {name} allows {allows}; {} are drawn\n", power(cap.used_w)),
    }
}

/// What is said where there is none.
pub const NO_EVENTS: &str = "No grid event. 'offtake grid announce NAME CAP --cut 25% --for 3h' announces one.\n";

const EVENTS: [(&str, Align); 7] = [
    ("event", Align::Left),
    ("cap", Align::Left),
    ("allows", Align::Right),
    ("drawn", Align::Right),
    ("from", Align::Left),
    ("until", Align::Left),
    ("state", Align::Left),
];

/// A table of grid events.
pub fn events(events: &[GridEventView], now_ms: i64, width: Option<usize>) -> String {
    let row = |event: &GridEventView| {
        vec![
            event.name.clone(),
            event.cap.clone(),
            power(event.watts),
            power(event.used_w),
            instant(event.from_ms),
            instant(event.until_ms),
            state(event, now_ms),
        ]
    };
    listing(&EVENTS, &events.iter().map(row).collect::<Vec<_>>(), width)
}

fn state(event: &GridEventView, now_ms: i64) -> String {
    let stands = match event.state {
        GridEventState::Announced => format!("in {}", since(now_ms, event.from_ms)),
        GridEventState::Active if event.used_w > event.watts => "active, over".to_owned(),
        GridEventState::Active => "active, met".to_owned(),
    };
    match event.least_w {
        Some(least) => format!("{stands}; at best {}", power(least)),
        None => stands,
    }
}

/// What is said of an event that was announced.
pub fn announced(event: &GridEventView, now_ms: i64) -> String {
    let (cap, allows, hold) = (printable(&event.cap), power(event.watts), span(event.until_ms - event.from_ms));
    let when = match event.state {
        GridEventState::Announced => format!("in {}", since(now_ms, event.from_ms)),
        GridEventState::Active => "now".to_owned(),
    };
    let gap = match (event.least_w, event.used_w.checked_sub(event.watts).filter(|over| *over > 0)) {
        (Some(least), _) => format!("; it cannot be met: idle nodes draw {}, which is what can be had", power(least)),
        (None, Some(over)) => format!("; {} have to be given back", power(over)),
        (None, None) => format!("; no more than {} are drawn as it is", power(event.used_w)),
    };
    format!("grid event {}: cap {cap} allows {allows} {when} for {hold}{gap}\n", printable(&event.name))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::show::samples::NOW;

    fn cap(name: &str, watts: u64, declared_w: Option<u64>, used_w: u64) -> CapView {
        CapView { name: name.to_owned(), watts, declared_w, used_w }
    }

    #[test]
    fn caps_tell_what_is_left_and_what_was_set() {
        let all =
            [cap("grid", 1_000_000, Some(1_500_000), 1_250_000), cap("feeder-a for feeder-b", 532_000, None, 301_000)];
        insta::assert_snapshot!(caps(&all, None));
    }

    #[test]
    fn who_sets_a_cap_learns_what_follows() {
        let lowered = cap("grid", 1_000_000, Some(1_500_000), 1_250_000);
        assert_eq!(set(&lowered), "cap grid allows 1.00 MW; 250 kW too much is drawn, and work gives way\n");
        assert_eq!(set(&cap("grid", 1_500_000, None, 1_250_000)), "cap grid allows 1.50 MW; 1.25 MW are drawn\n");
    }

    #[test]
    fn what_meters_show_beyond_what_is_counted_is_told() {
        let site = |name: &str, last_metered_mj| MeteredView {
            site: name.to_owned(),
            since_ms: NOW,
            metered_mj: 41_000_000_000,
            counted_mj: 40_000_000_000,
            last_metered_mj,
            last_counted_mj: 3_600_000_000,
        };
        insta::assert_snapshot!(metered(&[site("ashburn", 3_650_000_000), site("albany", 3_750_000_000)]));
    }

    fn event(name: &str, watts: u64, state: GridEventState, least_w: Option<u64>) -> GridEventView {
        GridEventView {
            name: name.to_owned(),
            cap: "grid".to_owned(),
            watts,
            from_ms: NOW + 1_800_000,
            until_ms: NOW + 12_600_000,
            state,
            used_w: 1_250_000,
            least_w,
        }
    }

    #[test]
    fn grid_events_tell_where_they_stand() {
        let all = [
            event("heat wave", 900_000, GridEventState::Announced, None),
            event("peak", 900_000, GridEventState::Active, None),
            event("emergency", 200_000, GridEventState::Announced, Some(410_000)),
        ];
        insta::assert_snapshot!(events(&all, NOW, None));
        let said: Vec<String> = all.iter().map(|event| announced(event, NOW)).collect();
        insta::assert_snapshot!(said.concat());
    }
}
