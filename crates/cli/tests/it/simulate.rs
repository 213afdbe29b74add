//! `offtake simulate` on a scenario that can be worked out by hand.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::support::{Folder, JOBS, SCENARIO, repository, untimed};

#[test]
fn it_writes_a_summary_a_report_and_tables() {
    let folder = Folder::with_scenario("files-written");
    let ran = folder.offtake("simulate scenario.toml --out result").succeeds();
    let written = [
        "jobs-backfill.csv.gz",
        "jobs-fifo.csv.gz",
        "report.html",
        "summary.json",
        "timeline-backfill.csv",
        "timeline-fifo.csv",
    ];
    assert_eq!(folder.names("result"), written);
    assert!(ran.stderr.ends_with("Report: result/report.html\n"), "{}", ran.stderr);
    assert!(folder.text("result/report.html").starts_with("<!doctype html>"));
    folder.offtake("simulate scenario.toml").succeeds();
    assert_eq!(folder.names("out/small"), written, "without --out, the folder is named by the scenario");
}

#[test]
fn the_summary_has_the_keys_that_are_promised() {
    let folder = Folder::with_scenario("keys");
    folder.offtake("simulate scenario.toml --out result").succeeds();
    let summary = folder.json("result/summary.json");
    assert_eq!(keys(&summary), ["chips", "fleet", "policies", "scenario", "seed", "version"]);
    assert_eq!(keys(&summary["policies"]), ["backfill", "fifo"]);
    let figures = &summary["policies"]["backfill"];
    let promised = [
        "allocation_pct",
        "cap_breaches",
        "carbon_t",
        "checkpoint_gain_pct",
        "chip_hours",
        "deadlines_met_pct",
        "decisions",
        "energy_cost_usd",
        "energy_mwh",
        "ettr_pct",
        "failures",
        "finished",
        "fragmentation_pct",
        "goodput_pct",
        "jain_index",
        "jct_s",
        "jobs",
        "jobs_held",
        "makespan_s",
        "nodes_drained",
        "offered_load",
        "peak_mw",
        "rejected",
        "repairs",
        "restarts",
        "running_at_end",
        "tier_waits",
        "timing",
        "usd_per_useful_chip_hour",
        "useful_chip_hours_per_mwh",
        "wait_s",
        "waiting_at_end",
    ];
    assert_eq!(keys(figures), promised);
    assert_eq!(keys(&figures["wait_s"]), ["max", "mean", "p50", "p95", "p99"]);
    assert_eq!(keys(&figures["jct_s"]), ["max", "mean", "p50", "p95", "p99"]);
    assert_eq!(keys(&figures["timing"]), ["decide_us", "peak_rss_mb", "wall_s"]);
    assert_eq!(keys(&figures["timing"]["decide_us"]), ["max", "p50", "p99"]);
}

/// In strict order `late` waits for `wide`, which waits for `long`: 0, 2 h and 2 h 30 min. The fleet draws, in kW at the
/// grid and hour by hour, 1,020, 1,020, 1,500, 1,020 and 540: 5.1 MWh, for 102 + 204 + 0 − 51 + 54 dollars and
/// 408 + 306 + 300 + 102 + 270 kg. 40 chip-hours of 80 are used.
#[test]
fn the_figures_of_strict_order_are_those_worked_out_by_hand() {
    let figures = figures("by-hand-fifo", "fifo");
    let expected = json!({
        "jobs": 3, "finished": 3, "running_at_end": 0, "waiting_at_end": 0, "rejected": 0,
        "makespan_s": 14_400,
        "wait_s": { "mean": 5_400.0, "p50": 7_200.0, "p95": 9_000.0, "p99": 9_000.0, "max": 9_000.0 },
        "jct_s": { "mean": 10_200.0, "p50": 10_800.0, "p95": 12_600.0, "p99": 12_600.0, "max": 12_600.0 },
        "offered_load": 0.5, "allocation_pct": 50.0, "goodput_pct": 100.0, "fragmentation_pct": 0.0,
        "energy_mwh": 5.1, "energy_cost_usd": 309.0, "carbon_t": 1.386, "peak_mw": 1.5,
        "usd_per_useful_chip_hour": 7.725, "useful_chip_hours_per_mwh": 7.843,
        "cap_breaches": 0, "decisions": 3,
        "chip_hours": {
            "fleet": 80.0, "useful": 40.0, "checkpoints": 0.0, "restart": 0.0, "rework": 0.0, "slowness": 0.0,
            "standby": 0.0, "out": 0.0, "held": 0.0, "fragmented": 0.0, "idle": 40.0,
        },
        "restarts": 0, "failures": [],
        "repairs": { "swaps": 0, "swapped_nodes": 0, "waits": 0, "wait_mean_s": 0.0 }, "deadlines_met_pct": null,
    });
    for (key, value) in expected.as_object().expect("an object") {
        assert_eq!(figures[key], *value, "{key}");
    }
}

/// With backfill `late` runs beside `long` from 0:30 to 1:30, and `wide` as before. The same 5.1 MWh fall into other
/// hours: 1,260, 1,260, 1,500, 540 and 540 kW, for 126 + 252 + 0 − 27 + 54 dollars and 504 + 378 + 300 + 54 + 270 kg.
#[test]
fn the_figures_of_backfill_are_those_worked_out_by_hand() {
    let figures = figures("by-hand-backfill", "backfill");
    assert_eq!(
        figures["wait_s"],
        json!({ "mean": 2_400.0, "p50": 0.0, "p95": 7_200.0, "p99": 7_200.0, "max": 7_200.0 })
    );
    assert_eq!(
        figures["jct_s"],
        json!({ "mean": 7_200.0, "p50": 7_200.0, "p95": 10_800.0, "p99": 10_800.0, "max": 10_800.0 })
    );
    assert_eq!(figures["makespan_s"], 10_800);
    assert_eq!(figures["energy_mwh"], 5.1);
    assert_eq!(figures["energy_cost_usd"], 405.0);
    assert_eq!(figures["carbon_t"], 1.506);
    assert_eq!(figures["usd_per_useful_chip_hour"], 10.125);
}

#[test]
fn the_tables_tell_every_job_and_every_sample() {
    let folder = Folder::with_scenario("tables");
    folder.offtake("simulate scenario.toml --out result --policy fifo").succeeds();
    let jobs = folder.table("result/jobs-fifo.csv.gz");
    let told = |column: &str| jobs.iter().map(|row| row[column].as_str()).collect::<Vec<_>>();
    assert_eq!(told("job"), ["long", "wide", "late"]);
    assert_eq!(told("submitted_s"), ["0.000", "0.000", "1800.000"]);
    assert_eq!(told("started_s"), ["0.000", "7200.000", "10800.000"]);
    assert_eq!(told("finished_s"), ["7200.000", "10800.000", "14400.000"]);
    assert_eq!(told("wait_s"), ["0.000", "7200.000", "9000.000"]);
    assert_eq!(told("nodes"), ["1", "2", "1"]);
    assert_eq!(told("state"), ["finished", "finished", "finished"]);
    let timeline = folder.table("result/timeline-fifo.csv");
    let at = |seconds: &str| timeline.iter().find(|row| row["t_s"] == seconds).expect("a sample each minute");
    assert_eq!(at("0")["standard_chips"], "8.000");
    assert_eq!(at("0")["it_mw"], "0.680000");
    assert_eq!(at("7200")["facility_mw"], "1.500000");
    assert_eq!(at("1800")["waiting_jobs"], "2");
    assert_eq!(at("14400")["standard_chips"], "0.000");
}

#[test]
fn the_command_line_changes_the_scenario() {
    let folder = Folder::with_scenario("overrides");
    let ran = folder.offtake("simulate scenario.toml --out result --policy offtake,random --seed 11 --json").succeeds();
    let summary = ran.json();
    assert_eq!(keys(&summary["policies"]), ["offtake", "random"]);
    assert_eq!(summary["seed"], 11);
    assert_eq!(summary, folder.json("result/summary.json"), "--json prints what is written");

    let ran = folder.offtake("simulate scenario.toml --out shorter --set horizon=1h --set name=shorter --json");
    let summary = ran.succeeds().json();
    assert_eq!(summary["scenario"], "shorter");
    assert_eq!(summary["policies"]["fifo"]["finished"], 0);
    assert_eq!(summary["policies"]["fifo"]["energy_mwh"], 1.02);

    let ran = folder.offtake("simulate scenario.toml --out cheaper --set signals.zone_of.hall.price=Z9 --json");
    assert_eq!(ran.succeeds().json()["policies"]["fifo"]["energy_cost_usd"], Value::Null, "no price is known there");
}

#[test]
fn work_that_no_domain_can_hold_is_counted_where_the_scenario_says_so() {
    let folder = Folder::with_scenario("rejected");
    folder.write("jobs.csv", JOBS.replace("wide,lab,2022-01-01T00:00:00Z,1h,2", "wide,lab,2022-01-01T00:00:00Z,1h,3"));
    folder.offtake("simulate scenario.toml --out result").refused();
    let ran = folder.offtake("simulate scenario.toml --out result --set workload.unplaceable=reject --json").succeeds();
    let figures = &ran.json()["policies"]["fifo"];
    assert_eq!((&figures["jobs"], &figures["rejected"], &figures["finished"]), (&json!(3), &json!(1), &json!(2)));
}

/// Until the last job has ended: three hours with backfill, four in strict order, each at the price of its hour.
#[test]
fn without_a_horizon_it_runs_until_the_last_job_has_ended() {
    let folder = Folder::with_scenario("no-horizon");
    folder.write("scenario.toml", SCENARIO.replace("horizon = \"5h\"\n", ""));
    let summary = folder.offtake("simulate scenario.toml --out result --json").succeeds().json();
    assert_eq!(summary["policies"]["fifo"]["energy_cost_usd"], 255.0);
    assert_eq!(summary["policies"]["backfill"]["energy_cost_usd"], 378.0);
    assert_eq!(summary["policies"]["backfill"]["finished"], 3);
}

#[test]
fn a_job_of_a_century_makes_no_longer_a_timeline() {
    let folder = Folder::with_scenario("century");
    folder.write("scenario.toml", SCENARIO.replace("horizon = \"5h\"\n", ""));
    folder.write("jobs.csv", JOBS.replace("1h,2,8", "36500d,2,8"));
    folder.offtake("simulate scenario.toml --out result --policy fifo").succeeds();
    assert!(folder.table("result/timeline-fifo.csv").len() < 1_000);
}

#[test]
fn the_report_tells_where_signals_end() {
    let folder = Folder::with_scenario("signals-end");
    let notes = |more: &str| {
        folder.offtake(&format!("simulate scenario.toml --out result {more}")).succeeds();
        folder.text("result/report.html")
    };
    assert!(!notes("").contains("Zone Z1 has no"));
    let longer = notes("--set horizon=10h");
    assert!(longer.contains("Zone Z1 has no price for 5 of 10 hours: the last before them holds on."));
    assert!(longer.contains("Zone Z1 has no carbon intensity for 5 of 10 hours"));
    assert!(notes("--set start=2023-01-01T00:00:00Z").contains("Zone Z1 has no price at the time of the run."));
}

fn figures(folder: &str, policy: &str) -> Value {
    let folder = Folder::with_scenario(folder);
    let ran = folder.offtake(&format!("simulate scenario.toml --out result --policy {policy} --json")).succeeds();
    untimed(ran.json())["policies"][policy].take()
}

fn keys(object: &Value) -> Vec<String> {
    let keys: BTreeSet<String> = object.as_object().expect("an object").keys().cloned().collect();
    keys.into_iter().collect()
}

#[test]
fn every_grid_event_of_the_example_is_met_or_declared_at_once() {
    let folder = Folder::new("grid-events");
    let scenario = repository().join("examples/grid-events.toml");
    let fewer = "--set horizon=20d --set workload.jobs=30000 --out result";
    let ran = folder.offtake(&format!("simulate {} {fewer}", scenario.display())).succeeds();
    let grid = &folder.json("result/summary.json")["policies"]["offtake"]["grid"];
    let count = |key: &str| grid[key].as_u64().expect("a number");
    assert_eq!(count("events"), 276);
    assert_eq!((count("met"), count("held_to_end")), (count("feasible"), count("feasible")));
    assert_eq!(count("feasible") + count("declared_infeasible"), 276);
    assert!(count("feasible") >= 200 && count("declared_infeasible") >= 24, "{grid}");
    assert_eq!((count("false_infeasible"), count("reserved_paused")), (0, 0));
    assert_eq!(grid["breach_seconds"], json!(0.0));
    let lines = grid["lines"].as_array().expect("a list");
    for line in lines.iter().filter(|line| !line["achievable_mw"].is_null()) {
        assert_eq!((&line["declared_after_s"], &line["response_mw"]), (&json!(0.0), &line["achievable_mw"]), "{line}");
    }
    let said = format!("Grid events: all {} that could be met were, in time and to their end; ", count("feasible"));
    assert!(ran.stdout.contains(&said), "{}", ran.stdout);
}

#[test]
fn the_peak_day_gives_a_quarter_back_and_no_limit_is_exceeded() {
    let folder = Folder::new("peak-day");
    let scenario = repository().join("examples/peak-day.toml");
    let ran = folder.offtake(&format!("simulate {} --out result", scenario.display())).succeeds();
    let policy = &folder.json("result/summary.json")["policies"]["offtake"];
    let (grid, event) = (&policy["grid"], &policy["grid"]["lines"][0]);
    assert_eq!((&grid["met"], &grid["held_to_end"], &grid["breach_seconds"]), (&json!(1), &json!(1), &json!(0.0)));
    let number = |key: &str| event[key].as_f64().expect("a number");
    assert_eq!(event["target_mw"], json!(21.0), "7 MW below the contracted 28");
    assert!(number("target_mw") / number("before_mw") < 0.76, "{event}");
    assert!(number("response_mw") <= number("target_mw"), "{event}");
    assert!(number("throttled") > 0.0 && number("lost_chip_hours") > 0.0, "{event}");
    let bounds = &event["lost_if_assumed_levels_are_off"];
    assert!(bounds[0].as_f64() < Some(number("lost_chip_hours")), "{event}");
    assert!(bounds[1].as_f64() > Some(number("lost_chip_hours")), "{event}");
    let programme = &grid["programmes"][0];
    assert_eq!(programme["events"][0]["outside_the_terms"], json!([]));
    assert_eq!(programme["events"][0]["figures"]["short_mwh"], json!(0.0));
    assert_eq!((&programme["capacity"], &programme["energy"]), (&json!(1580.65), &json!(3150.0)));
    assert_eq!(policy["cap_breaches"], json!(0));
    assert!(ran.stdout.contains("Grid event: met in time and to its end; throttled"), "{}", ran.stdout);
    let page = folder.text("result/report.html");
    let data = page.split_once("id=\"data\">").and_then(|(_, rest)| rest.split_once("</script>"));
    let data: Value = serde_json::from_str(data.expect("the page has its data").0).expect("it is JSON");
    let meters = data["policies"][0]["meters"].as_array().expect("a list");
    let names: Vec<&str> = meters.iter().filter_map(|meter| meter["name"].as_str()).collect();
    let [site, hall] = ["memphis, at the grid connection", "memphis/hall-0, at the servers"];
    assert_eq!(names, [site, hall, "circuit feed-a", "circuit feed-b"]);
    for meter in meters {
        let drawn: Vec<f64> = meter["drawn"].as_array().expect("a list").iter().filter_map(Value::as_f64).collect();
        assert_eq!(drawn.len(), 24 * 60);
        for limit in meter["limits"].as_array().expect("a list") {
            let allowed: Vec<f64> =
                limit["allowed"].as_array().expect("a list").iter().filter_map(Value::as_f64).collect();
            let at = |minute: usize| allowed[minute.min(allowed.len() - 1)];
            let over = drawn.iter().enumerate().find(|(minute, drawn)| **drawn > at(*minute));
            assert!(over.is_none(), "{} at {over:?}", meter["name"]);
        }
    }
    // From 23:10, while the other is out, feed B carries all of the hall.
    let shown = |meter: usize, minute: usize| meters[meter]["drawn"][minute].as_f64().expect("a number");
    assert_eq!(shown(2, 18 * 60 + 20), 0.0);
    let hall_kva = shown(1, 18 * 60 + 20) * 1000.0 / 0.95;
    assert!((shown(3, 18 * 60 + 20) - hall_kva).abs() < 2.0, "{} {hall_kva}", shown(3, 18 * 60 + 20));
}

#[test]
fn a_hall_that_loses_its_utility_is_carried_and_loses_no_work() {
    let folder = Folder::new("utility-loss");
    let scenario = repository().join("examples/utility-loss.toml");
    let ran = folder.offtake(&format!("simulate {} --out result", scenario.display())).succeeds();
    let policy = &folder.json("result/summary.json")["policies"]["offtake"];
    let [blip, outage] = policy["backup"]["losses"].as_array().expect("a list").as_slice() else {
        unreachable!("two losses")
    };
    let number = |loss: &Value, key: &str| loss[key].as_f64().expect("a number");
    // Ten seconds are over before generators are there.
    assert_eq!((number(blip, "ups_s"), number(blip, "generated_mwh"), number(blip, "stopped")), (10.0, 0.0, 0.0));
    // An hour and a half, and five minutes until the load goes back.
    assert_eq!((number(outage, "ups_s"), number(outage, "back_s")), (120.0, 21_600.0 + 95.0 * 60.0));
    assert!(number(outage, "generated_mwh") < 20.0 * 95.0 / 60.0, "{outage}");
    assert!(number(outage, "throttled") + number(outage, "paused") + number(outage, "stopped") > 0.0, "{outage}");
    for loss in [blip, outage] {
        assert_eq!(
            (number(loss, "over_s"), number(loss, "dropped"), number(loss, "dark_s")),
            (0.0, 0.0, 0.0),
            "{loss}"
        );
    }
    assert_eq!(policy["cap_breaches"], json!(0));
    assert!(ran.stdout.contains("Utility of memphis lost 2 times: "), "{}", ran.stdout);
}
