//! What happened, one fact a line.

use serde_json::Value;

use super::figures::instant;
use crate::terminal::{printable, shortened};

/// A fact as the journal has it.
#[derive(Clone, Debug, PartialEq)]
pub struct Fact {
    /// Its place in the journal.
    pub sequence: u64,
    /// What the journal holds: `at`, and `event` by its kind.
    pub record: Value,
}

/// No field is shown longer.
const LONGEST_FIELD: usize = 60;

impl Fact {
    fn at_ms(&self) -> i64 {
        self.record["at"].as_i64().unwrap_or_default()
    }

    /// Its kind in words and its plain fields: `job placed  job 17`.
    fn text(&self) -> String {
        let mut event = &self.record["event"];
        let mut kind = String::new();
        // The kind is the only key of its object; the engine's facts lie one deeper.
        while let Value::Object(object) = event
            && let (1, Some((name, inner))) = (object.len(), object.iter().next())
            && (inner.is_object() || kind.is_empty() || kind == "engine")
        {
            kind.clone_from(name);
            event = inner;
        }
        if let Value::String(name) = event {
            kind.clone_from(name);
        }
        let mut text = kind.replace('_', " ");
        for (name, value) in event.as_object().into_iter().flatten() {
            let value = match value {
                Value::String(value) => shortened(value, LONGEST_FIELD),
                Value::Number(value) => value.to_string(),
                Value::Bool(true) => String::new(),
                _ => continue,
            };
            text += &format!("  {} {value}", name.replace('_', " "));
        }
        printable(text.trim_end())
    }
}

/// A fact as a line.
pub fn fact(fact: &Fact) -> String {
    format!("{:>8}  {}  {}\n", fact.sequence, instant(fact.at_ms()), fact.text())
}

/// The time of day and what happened, for where there is little room.
pub fn short(fact: &Fact) -> String {
    let at = instant(fact.at_ms());
    format!("{}  {}", at.split(' ').nth(1).unwrap_or_default(), fact.text()).trim_end().to_owned()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::show::samples::NOW;

    #[test]
    fn facts_are_said_in_a_line() {
        let said = |event: Value| short(&Fact { sequence: 7, record: json!({ "at": NOW, "event": event }) });
        let placed = json!({ "engine": { "job_placed": { "job": 17, "placement": { "nodes": [1] } } } });
        assert_eq!(said(placed.clone()), "08:00:00  job placed  job 17");
        assert_eq!(said(json!({ "engine": { "job_started": { "job": 17 } } })), "08:00:00  job started  job 17");
        let drained = json!({ "node_drained": { "node": "n1\n", "reason": "fan", "by_operator": true, "at": null } });
        assert_eq!(said(drained), "08:00:00  node drained  by operator   node n1   reason fan");
        assert_eq!(said(json!("stopped")), "08:00:00  stopped");
        assert_eq!(said(Value::Null), "08:00:00");
        let line = fact(&Fact { sequence: 1204, record: json!({ "at": NOW, "event": placed }) });
        assert_eq!(line, "    1204  2024-05-01 08:00:00 UTC  job placed  job 17\n");
    }
}
