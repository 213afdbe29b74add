//! What happened, one event a line.

use offtake_protocol::rest::EventView;

use super::figures::instant;
use crate::terminal::printable;

/// An event as a line.
pub fn event(event: &EventView) -> String {
    format!("{:>8}  {}  {}\n", event.sequence, instant(event.at_ms), printable(&event.text))
}

/// The time of day and what happened, for where there is little room.
pub fn short(event: &EventView) -> String {
    let at = instant(event.at_ms);
    let time = at.split(' ').nth(1).unwrap_or_default();
    format!("{time}  {}", printable(&event.text))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::show::samples::NOW;

    #[test]
    fn events_are_said_in_a_line() {
        let placed = EventView {
            sequence: 1204,
            at_ms: NOW,
            kind: "job_placed".to_owned(),
            job: Some(17),
            node: None,
            text: "job 17 (pretrain)\nis placed on 2 nodes".to_owned(),
        };
        assert_eq!(event(&placed), "    1204  2024-05-01 08:00:00 UTC  job 17 (pretrain) is placed on 2 nodes\n");
        assert_eq!(short(&placed), "08:00:00  job 17 (pretrain) is placed on 2 nodes");
    }
}
