//! Caps and grid events on a server that runs.

use serde_json::{Value, json};

use crate::host::{Host, eventually};

/// Two hosts, 1.8 kW each without work, behind 15 kW.
const FLEET: &str = r#"
name = "pair"
levels = ["site"]
accelerators.h100 = { idle_watts = 100, operating_watts = 600, peak_watts = 700 }
node_kinds.host = { accelerator = "h100", chips = 8, cpu_cores = 96, memory_gib = 1024, base_watts = 1000 }
sites.hall = { pue = 1.0, nodes = { host = 2 } }
caps.grid = { on = "hall", kilowatts = 15, meter = "facility", kind = "contract" }
"#;

#[test]
fn a_grid_event_is_announced_outlives_the_server_begins_and_is_withdrawn() {
    let host = Host::new("grid");
    host.write("fleet.toml", FLEET);
    let server = host.up("--no-agent --fleet fleet.toml");
    let none = host.offtake("grid events").succeeds();
    assert!(none.stderr.contains("offtake grid announce"), "{none:?}");

    let told = host.offtake("grid announce tomorrow grid --to 10kW --at now+24h --for 3h").succeeds().stdout;
    let says = "grid event tomorrow: cap grid allows 10.0 kW in ";
    assert!(told.starts_with(says) && told.ends_with(" for 3 h; no more than 3.60 kW are drawn as it is\n"), "{told}");
    let shown = host.offtake("grid simulate grid --cut 25% --at now+1h --for 3h").succeeds().stdout;
    assert!(shown.starts_with("Nothing changes for any job."), "nothing runs: {shown}");
    let told = host.offtake("grid announce deep grid --to 1kW --for 1h").succeeds().stdout;
    assert!(told.ends_with("it cannot be met: idle nodes draw 3.60 kW, which is what can be had\n"), "{told}");
    let table = host.offtake("grid events").succeeds().stdout;
    assert!(table.contains("deep") && table.contains("at best 3.60 kW") && table.contains("tomorrow"), "{table}");

    server.kill();
    let server = host.up("--no-agent --fleet fleet.toml");
    let events = || server.get("/v1/grid/events").json();
    let named: Vec<Value> = events().as_array().expect("a list").iter().map(|event| event["name"].clone()).collect();
    assert_eq!(named, [json!("deep"), json!("tomorrow")], "in the order in which they begin");
    eventually("it begins", || (events()[0]["state"] == "active").then_some(()));
    let caps = host.offtake("grid --json").succeeds().json();
    assert_eq!((&caps[0]["watts"], &caps[0]["declared_w"]), (&json!(1000), &json!(15_000)), "{caps}");
    let unmet = host.events().iter().filter(|event| event.to_string().contains("curtailment_unmet")).count();
    assert_eq!(unmet, 1, "it is declared once");

    assert_eq!(host.offtake("grid withdraw deep").succeeds().stdout, "grid event deep is withdrawn\n");
    let caps = host.offtake("grid --json").succeeds().json();
    assert_eq!(caps[0]["watts"], json!(15_000), "{caps}");
    for (command, words) in [
        ("grid announce e grid --for 1h", "--to <POWER>|--cut <SHARE>"),
        ("grid announce e grid --cut 25 --for 1h", "write it as 25%"),
        ("grid announce e grid --to lots --for 1h", "1.5MW"),
        ("grid announce e mains --cut 25% --for 1h", "no cap `mains`"),
        ("grid announce e grid --cut 25% --at 2020-01-01T00:00:00Z --for 1h", "in the past"),
        ("grid withdraw deep", "no grid event `deep`"),
    ] {
        let said = host.offtake(command).refused();
        assert!(said.contains(words), "{command}: {said}");
    }
    let again = host.offtake("grid announce tomorrow grid --to 9kW --at now+24h --for 3h");
    assert!(again.code == Some(1) && again.stderr.contains("withdraw it first"), "{again:?}");
    assert_eq!(events().as_array().map(Vec::len), Some(1), "nothing of it changed anything");
}
