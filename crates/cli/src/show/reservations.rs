//! Reservations, one a line.

use offtake_protocol::rest::ReservationView;
use offtake_workload::{Purpose, hostlist};

use super::figures::{count, instant, span};
use crate::terminal::{Align, listing, printable};

/// What is said where there is nothing to list.
pub const NONE: &str = "Nothing is reserved. 'offtake reserve NAME --nodes N --length TIME' sets nodes aside.\n";

const COLUMNS: [(&str, Align); 8] = [
    ("reservation", Align::Left),
    ("for", Align::Left),
    ("state", Align::Left),
    ("from", Align::Left),
    ("until", Align::Left),
    ("every", Align::Right),
    ("jobs", Align::Right),
    ("nodes", Align::Left),
];

/// A table of reservations.
pub fn reservations(all: &[ReservationView], width: Option<usize>) -> String {
    let row = |view: &ReservationView| {
        vec![
            view.asked.name.clone(),
            whose(view),
            view.state.word().to_owned(),
            instant(view.start_ms),
            instant(view.end_ms),
            view.asked.every.map_or_else(|| "–".to_owned(), |every| span(every.as_millis())),
            match view.asked.purpose {
                Purpose::Work => format!("{} of {}", view.running_jobs, view.running_jobs + view.pending_jobs),
                Purpose::Maintenance => "–".to_owned(),
            },
            nodes(view),
        ]
    };
    listing(&COLUMNS, &all.iter().map(row).collect::<Vec<_>>(), width)
}

/// What was set aside, in a sentence.
pub fn made(view: &ReservationView) -> String {
    let again = view.asked.every.map(|every| format!(", and every {}", span(every.as_millis()))).unwrap_or_default();
    format!(
        "reservation {}: {} from {} to {}{again}: {}\n",
        printable(&view.asked.name),
        count(view.nodes.len() as u64, "node"),
        instant(view.start_ms),
        instant(view.end_ms),
        nodes(view)
    )
}

fn whose(view: &ReservationView) -> String {
    match (view.asked.purpose, view.asked.tenants.as_slice()) {
        (Purpose::Maintenance, _) => "maintenance".to_owned(),
        (Purpose::Work, []) => "all".to_owned(),
        (Purpose::Work, tenants) => tenants.join(" "),
    }
}

fn nodes(view: &ReservationView) -> String {
    if view.nodes.is_empty() {
        return "none yet".to_owned();
    }
    printable(&hostlist::compress(view.nodes.iter().map(String::as_str))).to_string()
}

#[cfg(test)]
mod tests {
    use offtake_protocol::rest::ReservationState;
    use offtake_units::{Duration, Timestamp};
    use offtake_workload::Reservation;

    use super::*;
    use crate::show::samples::NOW;

    fn of(name: &str, state: ReservationState) -> ReservationView {
        ReservationView {
            asked: Reservation {
                name: name.to_owned(),
                purpose: Purpose::Work,
                tenants: Vec::new(),
                domain: None,
                nodes: Some(3),
                chips: None,
                accelerator: None,
                level: None,
                start: Timestamp::from_millis(NOW),
                length: Duration::from_secs(4 * 3600),
                flexible: None,
                every: None,
                stop: false,
            },
            state,
            start_ms: NOW,
            end_ms: NOW + 4 * 3_600_000,
            nodes: ["n-01", "n-02", "n-07"].map(str::to_owned).to_vec(),
            running_jobs: 2,
            pending_jobs: 5,
        }
    }

    #[test]
    fn each_state() {
        let weekly = Reservation {
            purpose: Purpose::Maintenance,
            every: Some(Duration::from_secs(7 * 86_400)),
            ..of("patch-day", ReservationState::Waiting).asked
        };
        let course = of("course", ReservationState::Active);
        let listed = [
            ReservationView {
                asked: Reservation { tenants: vec!["lab".to_owned()], ..course.asked.clone() },
                ..course
            },
            ReservationView { asked: weekly, nodes: vec![], ..of("", ReservationState::Waiting) },
            of("exam", ReservationState::Planned),
        ];
        insta::assert_snapshot!(reservations(&listed, None) + &made(&listed[2]));
    }
}
