//! Grid programmes: in scenarios, and `offtake grid report` on tables that can be worked out by hand.

use serde_json::json;

use crate::support::{FLEET, Folder, SCENARIO};

/// 1.5 MW at most, and 1 MW in an event.
const PROGRAMME: &str = r#"
[caps.grid]
on = "hall"
megawatts = 1.5
meter = "facility"
kind = "contract"

[programmes.evening]
cap = "grid"
time_zone = "America/Chicago"
notice = "10m"
longest = "2h"
depth = { kilowatts = 500 }
events = 2
baseline = { method = "firm_service_level", megawatts = 1.5 }
currency = "USD"
capacity_per_kw_month = 31
energy_per_mwh = 100
penalty_per_mwh = 400
forfeit = 0.5
source = "a test"
"#;

/// Two days of hours; from 22:00 to 24:00 of the first, 1.0 and 1.2 MW.
fn meter(header: &str, of: impl Fn(i64) -> String) -> String {
    let hour = |hour: i64| {
        let (day, hour) = (1 + hour / 24, hour % 24);
        format!("2022-01-{day:02}T{hour:02}:00:00Z,")
    };
    let rows: Vec<String> = (0..48).map(|at| hour(at) + &of(at)).collect();
    format!("{header}\n{}\n", rows.join("\n"))
}

fn drawn(at: i64) -> i64 {
    match at {
        22 => 1000,
        23 => 1200,
        _ => 1400,
    }
}

const EVENTS: &str = "\
name,announced,at,until
peak,2022-01-01T21:30:00Z,2022-01-01T22:00:00Z,2022-01-02T00:00:00Z
late,2022-01-02T00:55:00Z,2022-01-02T01:00:00Z,2022-01-02T02:00:00Z
";

fn folder(name: &str) -> Folder {
    let folder = Folder::with_scenario(name);
    folder.write("fleet.toml", format!("{FLEET}{PROGRAMME}"));
    folder.write("events.csv", EVENTS);
    folder.write("meter.csv", meter("utc,kwh", |at| drawn(at).to_string()));
    folder
}

const REPORT: &str = "grid report --fleet fleet.toml --meter meter.csv --events events.csv";

#[test]
fn a_meter_is_settled_as_worked_out_by_hand() {
    let folder = folder("settled");
    let statement = folder.offtake(&format!("{REPORT} --json")).succeeds().json();
    let [peak, late] = [0, 1].map(|event| &statement["events"][event]);
    // 500 and 300 of 500 kWh: 0.8 MWh at $100. 0.2 are short, a fifth of what was asked: $80, and a fifth of half of a
    // month's $15,500. The meter begins on 31 December in Chicago: six hours of that month, and 42 of January.
    assert_eq!(
        peak["figures"],
        json!({
            "baseline_mw": 1.5, "metered_mw": 1.1, "asked_mw": 0.5, "delivered_mw": 0.4, "delivered_mwh": 0.8,
            "short_mwh": 0.2, "payment": 80.0, "penalty": 80.0, "forfeited": 875.0, "basis_days": [],
        })
    );
    assert_eq!(late["outside_the_terms"], json!(["5 min of notice, not 10 min"]));
    assert_eq!((&late["figures"]["payment"], &late["figures"]["penalty"]), (&json!(10.0), &json!(0.0)));
    assert_eq!(statement["months"][0]["payment"], json!(125.0));
    assert_eq!(statement["months"][1]["payment"], json!(875.0), "and no more than that is forfeited");
    assert_eq!(statement["net"], json!(125.0 + 875.0 + 90.0 - 80.0 - 875.0));
    let text = folder.offtake(REPORT).succeeds().stdout;
    assert!(text.starts_with("Grid programme evening: 2 events settled, 0.90 MWh delivered, 0.60 short.\n"), "{text}");
    assert!(text.contains("late: outside the terms: 5 min of notice, not 10 min\n"), "{text}");
    assert!(text.lines().all(|line| line.chars().count() <= 80), "{text}");
    for (header, per_mw) in [("utc,mwh", 1000.0), ("utc,kw", 1.0), ("utc,mw", 1000.0)] {
        folder.write("meter.csv", meter(header, |at| format!("{}", drawn(at) as f64 / per_mw)));
        assert_eq!(folder.offtake(&format!("{REPORT} --json")).succeeds().json(), statement, "{header}");
    }
}

#[test]
fn a_run_is_settled_by_its_meter() {
    let folder = folder("run-settled");
    let event = "[[grid_events]]\nname = \"peak\"\nprogramme = \"evening\"\nat = \"2022-01-01T01:00:00Z\"\nhold = \"1h\"\n\
                 notice = \"30m\"\n\n[signals]";
    folder.write("scenario.toml", SCENARIO.replace("[signals]", event));
    let ran = folder.offtake("simulate scenario.toml --out result").succeeds();
    assert!(ran.stdout.contains("Grid programme evening: 1 event settled"), "{}", ran.stdout);
    let grid = &folder.json("result/summary.json")["policies"]["fifo"]["grid"];
    // The firm service level is 1 MW, and one node at work draws 1.02: the job gives way, and 540 kW are left.
    assert_eq!((&grid["lines"][0]["target_mw"], &grid["lines"][0]["programme"]), (&json!(1.0), &json!("evening")));
    let figures = &grid["programmes"][0]["events"][0]["figures"];
    assert_eq!((&figures["metered_mw"], &figures["payment"]), (&json!(0.54), &json!(50.0)), "{figures}");
    let settled = folder.offtake("grid report result --json").succeeds().json();
    assert_eq!(settled[1], json!({ "policy": "fifo", "programmes": grid["programmes"] }));
    let again = "grid report --fleet fleet.toml --meter result/meter-evening-fifo.csv \
                 --events result/events-evening-fifo.csv --json";
    assert_eq!(folder.offtake(again).succeeds().json(), grid["programmes"][0]);
}

#[test]
fn a_share_of_a_firm_service_level_is_one_of_the_contract() {
    let folder = folder("share-settled");
    let event = "[[grid_programmes]]\nname = \"peak\"\nprogramme = \"evening\"\nevents = 1\nhold = [\"1h\"]\n\
                 cut = [0.2]\n\n[signals]";
    folder.write("scenario.toml", SCENARIO.replace("[signals]", event));
    folder.offtake("simulate scenario.toml --out result").succeeds();
    let grid = &folder.json("result/summary.json")["policies"]["fifo"]["grid"];
    let (line, event) = (&grid["lines"][0], &grid["programmes"][0]["events"][0]);
    assert_eq!(line["target_mw"], json!(1.2), "a fifth less than 1.5 MW");
    assert_eq!((&event["outside_the_terms"], &event["figures"]["short_mwh"]), (&json!([]), &json!(0.0)));
    let seconds = |key: &str| line[key].as_f64().expect("a number");
    assert_eq!(seconds("at_s") - seconds("announced_s"), 600.0, "the programme's notice");
    let text = folder.offtake("grid report result").succeeds().stdout;
    assert!(text.contains("\n\nPolicy "), "policies stand apart: {text}");
}

#[test]
fn what_cannot_be_settled_is_refused_with_its_line() {
    let folder = folder("unsettled");
    let cases = [
        ("meter.csv", "utc,kwh\n2022-01-01T00:00Z,1\n", "meter.csv:2: `utc` is `2022-01-01T00:00Z`"),
        ("meter.csv", "utc,kwh,mw\n", "meter.csv:1: what was counted stands in one column"),
        ("meter.csv", "utc,kwh\n2022-01-01T00:00:00Z,1\n", "meter.csv:2: at least two rows are needed"),
        (
            "meter.csv",
            "utc,kwh\n2022-01-01T00:00:00Z,1\n2022-01-01T00:07:00Z,1\n",
            "meter.csv:3: `utc` is `2022-01-01T00:07:00Z`; allowed is a part of an hour",
        ),
        (
            "meter.csv",
            "utc,kwh\n2022-01-01T00:00:00Z,1\n2022-01-01T01:00:00Z,1\n2022-01-01T01:00:00Z,1\n",
            "meter.csv:4: `utc` is `2022-01-01T01:00:00Z`; allowed is a later instant, whole intervals of 1 h",
        ),
        (
            "meter.csv",
            "utc,kwh\n2022-01-01T00:00:00Z,-1\n",
            "meter.csv:2: `kwh` is `-1`; allowed is a number from 0 on",
        ),
        ("events.csv", "name,at\n", "events.csv:1: the column `announced` is missing"),
        (
            "events.csv",
            "name,announced,at,until\na,2022-01-01T01:00:00Z,2022-01-01T01:00:00Z,2022-01-01T01:00:00Z\n",
            "events.csv:2: `until` is `2022-01-01T01:00:00Z`; allowed is an instant after `at`",
        ),
        (
            "events.csv",
            "name,announced,at,until\na,2022-01-01T01:00:00Z,2022-01-01T01:00:00Z,2202-01-01T02:00:00Z\n",
            "events.csv:2: `until` is `2202-01-01T02:00:00Z`; allowed is an instant at most 31 days after `at`",
        ),
        (
            "events.csv",
            "name,announced,at,until\na,2022-01-01T02:00:00Z,2022-01-01T01:00:00Z,2022-01-01T03:00:00Z\n",
            "events.csv:2: `announced` is `2022-01-01T02:00:00Z`; allowed is an instant up to `at`",
        ),
        (
            "events.csv",
            "name,announced,at,until,megawatts,cut\na,2022-01-01T01:00:00Z,2022-01-01T01:00:00Z,2022-01-01T03:00:00Z,1,0.2\n",
            "events.csv:2: `cut` is `0.2`; allowed is nothing beside `megawatts`",
        ),
    ];
    for (file, text, expected) in cases {
        folder.write("events.csv", EVENTS);
        folder.write("meter.csv", meter("utc,kwh", |at| drawn(at).to_string()));
        folder.write(file, text);
        let said = folder.offtake(REPORT).refused();
        assert!(said.contains(expected), "{text}\n  says: {said}");
    }
    folder.write("fleet.toml", FLEET);
    let said = folder.offtake(REPORT).refused();
    assert!(said.contains("fleet.toml: has no grid programme: describe one under [programmes.NAME]"), "{said}");
    let said = folder.offtake("grid report nowhere").refused();
    assert!(
        said.contains("nowhere/summary.json: cannot be read (entity not found): name the folder of a run"),
        "{said}"
    );
}

#[test]
fn a_scenario_names_programmes_that_there_are() {
    let folder = folder("named");
    let with = |keys: &str| {
        let event = format!(
            "[[grid_events]]\nname = \"peak\"\n{keys}\nat = \"2022-01-01T01:00:00Z\"\nhold = \"1h\"\n\n[signals]"
        );
        folder.write("scenario.toml", SCENARIO.replace("[signals]", &event));
        folder.offtake("simulate scenario.toml").refused()
    };
    let said = with("programme = \"morning\"");
    assert!(said.contains("`programme` is `morning`; allowed is a programme of the fleet file: evening"), "{said}");
    let said = with("programme = \"evening\"\non = \"hall\"");
    assert!(said.contains("`programme` stands beside `on` or `cap`; allowed is the programme alone"), "{said}");
    let said = with("cut = 0.2");
    assert!(said.contains("`on` is missing; allowed is one of `on`, `cap` and `programme`"), "{said}");
}
