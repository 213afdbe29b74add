//! The policy in force, and what tenants have under it, on a server that runs.

use serde_json::{Value, json};

use crate::host::{Host, Server};

const FLEET: &str = r#"
name = "pair"
levels = ["site", "rack"]
accelerators.h100 = { idle_watts = 100, operating_watts = 600, peak_watts = 700 }
node_kinds.host = { accelerator = "h100", chips = 8, cpu_cores = 96, memory_gib = 1024, base_watts = 1000 }
templates.rack = { level = "rack", nodes = { host = 4 } }

[sites.hall]
pue = 1.1
domains = { rack = 2 }
"#;

const OURS: &str = r#"base = "offtake"
order = "fair_share"

[tenants.research]
weight = 3
quota.h100 = { nominal = 16, borrowing_limit = 8 }

[tenants.nlp]
parent = "research"
limits = { pending_jobs = 1 }
"#;

/// Policies that cannot be meant: what is wrong, the policy, and what the answer names.
const WRONG: [(&str, &str, &[&str]); 4] = [
    ("a word", "base = \"offtake\"\norder = \"whim\"\n", &["line 2", "`whim`", "fair_share"]),
    ("a key", "order = \"turn\"\n\nordr = 1\n", &["line 3", "`ordr`", "`order`"]),
    ("a number", "[tenants.a]\nweight = 0\n", &["line 2", "weight", "1 to 1000000"]),
    ("a parent", "[tenants.a]\nparent = \"nobody\"\n", &["line 2", "parent", "`nobody`"]),
];

fn tenant<'a>(tenants: &'a Value, name: &str) -> &'a Value {
    let all = tenants.as_array().expect("tenants are a list");
    all.iter().find(|tenant| tenant["name"] == name).expect("the policy names it")
}

fn submit(server: &Server<'_>, tenant: &str) -> crate::http::Answer {
    let job = json!({
        "name": "train", "tenant": tenant, "command": ["true"], "directory": "/", "duration": "1h",
        "gangs": [{ "workers": 1, "chips": 8 }],
    });
    server.post("/v1/jobs", &job)
}

#[test]
fn a_policy_is_set_live_and_outlives_the_server() {
    let host = Host::new("policy");
    host.write("fleet.toml", FLEET);
    host.write("ours.toml", OURS);
    let server = host.up("--no-agent --fleet fleet.toml");
    let first = server.get("/v1/policy").json();
    assert_eq!((&first["name"], &first["version"]), (&json!("offtake"), &json!(1)), "{first}");

    // What is asked about is not done.
    assert!(host.offtake("what-if --policy ours.toml").succeeds().stdout.starts_with("Nothing changes for any job."));
    assert_eq!(server.get("/v1/policy").json(), first);

    let set = host.offtake("policy set ours.toml --json").succeeds().json();
    assert_eq!((&set["name"], &set["version"]), (&json!("custom"), &json!(2)), "{set}");
    assert_eq!(server.get("/v1/policy").json(), set);
    // What it shows is a policy file, and the same policy.
    let shown = host.offtake("policy show").succeeds().stdout;
    assert!(shown.starts_with("# policy custom, version 2\n"), "{shown}");
    host.write("shown.toml", &shown);
    assert_eq!(host.offtake("policy set shown.toml").succeeds().stdout, "policy custom, version 2\n");

    let answer = submit(&server, "nlp");
    assert_eq!(answer.status, 201, "{answer:?}");
    let id = answer.json()["id"].as_u64().expect("it has an id");
    let why = host.offtake(&format!("why {id} --json")).succeeds().json();
    assert_eq!(why["policy"], json!({ "name": "custom", "version": 2 }), "{why}");
    let said = submit(&server, "nlp").problem(429);
    assert!(said.contains("tenant `nlp` may have 1 waiting job"), "{said}");

    let tenants = server.get("/v1/tenants").json();
    assert_eq!(tenants, host.offtake("quota --json").succeeds().json());
    assert_eq!(tenants, host.offtake("share --json").succeeds().json());
    let (research, nlp) = (tenant(&tenants, "research"), tenant(&tenants, "nlp"));
    assert_eq!((&research["weight"], &nlp["parent"]), (&json!(3), &json!("research")));
    assert_eq!((&research["pending_jobs"], &nlp["most_pending_jobs"]), (&json!(1), &json!(1)), "{tenants}");
    let quota = &research["quota"][0];
    assert_eq!((&quota["accelerator"], &quota["nominal_chip_milli"]), (&json!("h100"), &json!(16_000)), "{tenants}");
    assert_eq!(quota["borrowing_limit_chip_milli"], json!(8_000), "{tenants}");
    for (command, words) in [("quota", "research h100 0 16 0"), ("share", "nlp 1 0.00 0 0 1")] {
        let table = host.offtake(command).succeeds().stdout;
        let lines: Vec<String> =
            table.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect();
        assert!(lines.iter().any(|line| line.starts_with(words)), "{command}: no `{words}` in\n{table}");
    }

    // It is a fact: a server that is killed knows it when it comes back.
    server.kill();
    let server = host.up("--no-agent --fleet fleet.toml");
    assert_eq!(server.get("/v1/policy").json(), set);
    assert_eq!(tenant(&server.get("/v1/tenants").json(), "nlp"), nlp);
    host.write("ours.toml", OURS.replace("weight = 3", "weight = 4"));
    assert_eq!(host.offtake("policy set ours.toml").succeeds().stdout, "policy custom, version 3\n");
    assert_eq!(tenant(&server.get("/v1/tenants").json(), "research")["weight"], json!(4));
}

#[test]
fn a_policy_that_cannot_be_meant_changes_nothing() {
    let host = Host::new("policies");
    host.write("fleet.toml", FLEET);
    let server = host.up("--no-agent --fleet fleet.toml");
    let before = (server.get("/v1/policy").json(), host.events().len());
    let put = |toml: &str| {
        let body = json!({ "toml": toml }).to_string();
        server.ask("PUT", "/v1/policy", &[], body.as_bytes())
    };
    for (what, toml, named) in WRONG {
        host.write("wrong.toml", toml);
        let by_api = put(toml).problem(422);
        let set = host.offtake("policy set wrong.toml").refused();
        let asked = host.offtake("what-if --policy wrong.toml").refused();
        let line = named[0].replace("line ", "wrong.toml:");
        assert!(set.contains(&line) && asked.contains(&line), "{what}: {set}{asked}");
        assert!(by_api.contains(named[0]), "{what}: {by_api}");
        for word in &named[1..] {
            assert!([&by_api, &set, &asked].iter().all(|said| said.contains(word)), "{what}: {by_api}\n{set}");
        }
    }
    // What only the fleet can tell, the server says.
    host.write("wrong.toml", "[tenants.a]\nquota.b200 = { nominal = 8 }\n");
    for command in ["policy set wrong.toml", "what-if --policy wrong.toml"] {
        let said = host.offtake(command).refused();
        assert!(
            ["`tenants.a.quota.b200`", "no accelerator `b200`", "h100"].iter().all(|word| said.contains(word)),
            "{said}"
        );
    }
    assert_eq!(host.offtake("what-if").code, Some(2), "it must be said what would happen");
    // A member and a reader may look, and no more.
    let made = host.offtake("token create eve --role reader --json").succeeds().json();
    let bearer = format!("Bearer {}", made["token"].as_str().expect("a token"));
    let body = json!({ "toml": "order = \"turn\"" }).to_string();
    let asked = server.ask("PUT", "/v1/policy", &[("authorization", &bearer)], body.as_bytes());
    assert_eq!(asked.status, 403, "{asked:?}");
    assert_eq!(server.ask("GET", "/v1/policy", &[("authorization", &bearer)], b"").json(), before.0);

    let after = server.get("/v1/policy").json();
    let policy_facts = host.events().iter().filter(|event| event.to_string().contains("policy_set")).count();
    assert_eq!((&after, policy_facts), (&before.0, 1), "nothing of it changed anything");
}
