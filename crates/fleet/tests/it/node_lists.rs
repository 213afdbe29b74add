//! Node lists that are cut, damaged or wrong.

use std::collections::BTreeMap;
use std::io::{Read, Write};

use flate2::Compression;
use flate2::write::GzEncoder;
use offtake_fleet::{Fleet, FleetError, NodeIx};

use super::bad_input::tempdir;
use super::check_structure;

const FLEET: &str = r#"
name = "listed"
levels = ["site", "hall", "row", "rack"]
[accelerators.a]
idle_watts = 10
operating_watts = 20
peak_watts = 30
base_watts = 100
[sites.s]
pue = 1.1
[sites.s.node_list]
file = "nodes.csv"
base_watts = 50
columns = { name = "host", accelerator = "model", chips = "n", cpu_cores = "cpu", memory_gib = "mem" }
domains = { rack = "tor", row = "agg" }
"#;

const LIST: &str = "\
host,model,n,cpu,mem,agg,tor
h1,a,4,8,16,p2,t1
h2,,0,8,16,p1,t1
h3,a,4,8,16,p2,t2
h4,a,4,8,16,p1,t1
h5,a,4,8,16,p2,t1
";

fn read(name: &str, list: &[u8]) -> Result<Fleet, FleetError> {
    let folder = tempdir(name);
    std::fs::write(folder.join("nodes.csv"), list).expect("the folder can be written");
    offtake_fleet::parse(FLEET, "fleet.toml", &folder, &BTreeMap::new())
}

fn packed(text: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(text).expect("memory can be written");
    encoder.finish().expect("memory can be written")
}

#[test]
fn rows_are_gathered_into_their_domains_in_the_order_of_the_list() {
    for list in [LIST.as_bytes().to_vec(), packed(LIST.as_bytes())] {
        let fleet = read(&format!("good{}", list.len()), &list).expect("the list is valid");
        check_structure(&fleet);
        let names: Vec<String> = (0..5).map(|ix| fleet.node_name(NodeIx(ix))).collect();
        assert_eq!(names, ["h1", "h5", "h3", "h2", "h4"]);
        let paths: Vec<String> = fleet.nodes.iter().map(|node| fleet.path(node.domain)).collect();
        assert_eq!(paths, ["s/p2/t1", "s/p2/t1", "s/p2/t2", "s/p1/t1", "s/p1/t1"]);
        let kinds: Vec<&str> = fleet.node_kinds.iter().map(|kind| kind.name.as_str()).collect();
        assert_eq!(kinds, ["a-4-8c-16g", "cpu-8c-16g"]);
        // Halls are skipped: each row brings one around itself.
        assert_eq!(fleet.domains_at(offtake_fleet::LevelIx(1)).len(), 2);
    }
}

#[test]
fn what_is_wrong_with_a_row_is_said() {
    let cases: &[(&str, &str, &str)] = &[
        ("h3,a,4,8,16,p2,t2", "h3,a,4,8,16,p2", "nodes.csv:4: has 6 columns where the header has 7"),
        ("h3,a,4,8,16,p2,t2", "h1,a,4,8,16,p2,t2", "nodes.csv:4: host: `h1` is the name of the node in line 2 too"),
        (
            "h3,a,4,8,16,p2,t2",
            "h3,b,4,8,16,p2,t2",
            "nodes.csv:4: model: `b` is no accelerator of the fleet file (did you mean `a`?); declare it as [accelerators.b]",
        ),
        (
            "h3,a,4,8,16,p2,t2",
            "h3,a,65,8,16,p2,t2",
            "nodes.csv:4: n: `65` is not allowed: write a whole number from 0 to 64",
        ),
        (
            "h3,a,4,8,16,p2,t2",
            "h3,a,-1,8,16,p2,t2",
            "nodes.csv:4: n: `-1` is not allowed: write a whole number from 0 to 64",
        ),
        (
            "h3,a,4,8,16,p2,t2",
            "h3,a,4,0,16,p2,t2",
            "nodes.csv:4: cpu: `0` is not allowed: write a whole number from 1 to 4,294,967",
        ),
        ("h3,a,4,8,16,p2,t2", "h3,,4,8,16,p2,t2", "nodes.csv:4: model: is empty, but the node has 4 chips"),
        ("h3,a,4,8,16,p2,t2", "h3,a,4,8,16,p2,", "nodes.csv:4: tor: a name is empty"),
        ("h3,a,4,8,16,p2,t2", "h3,a,4,8,16,p2,t/2", "nodes.csv:4: tor: the name `t/2` holds '/', which names may not"),
        (
            "tor",
            "torr",
            "fleet.toml:15:20: sites.s.node_list.domains.rack: `tor` is no column of the list (did you mean `torr`?); it has: host, model, n, cpu, mem, agg, torr",
        ),
    ];
    for (given, instead, expected) in cases {
        let error = read("rows", LIST.replacen(given, instead, 1).as_bytes()).expect_err(expected).to_string();
        assert!(error.ends_with(expected), "{error}\n{expected}");
    }
    let error = read("empty", b"host,model,n,cpu,mem,agg,tor\n").expect_err("it lists nothing").to_string();
    assert_eq!(error, "fleet.toml:12:8: sites.s.node_list.file: `nodes.csv` lists no node");
}

#[test]
fn damaged_lists_are_refused() {
    let long: String = (0..20_000).map(|ix| format!("h{ix},a,4,8,16,p,t\n")).collect();
    let whole = packed(format!("host,model,n,cpu,mem,agg,tor\n{long}").as_bytes());
    let error = read("cut", &whole[..whole.len() / 2]).expect_err("half of it is missing");
    assert_eq!(error.message, "the gzip data ends early: fetch the file again");
    let mut bent = whole.clone();
    let middle = bent.len() / 2;
    bent[middle..middle + 64].fill(0xff);
    assert!(read("bent", &bent).is_err());
    let error = read("latin", b"host,model,n,cpu,mem,agg,tor\nh\xe9,a,4,8,16,p,t\n").expect_err("it is not UTF-8");
    assert_eq!((error.line, error.message.as_str()), (Some(2), "is not UTF-8 text: save the list as UTF-8"));
    let error = read("none", b"").expect_err("there is no header").to_string();
    assert!(error.contains("is no column of the list"), "{error}");
}

/// A pipe that never ends a line stands in for a line of ten gigabytes; so does one packed into a few kilobytes.
#[test]
fn endless_lines_end_early() {
    let quote = format!("{LIST}\"{}", "x\n".repeat(1 << 20));
    let mut line = LIST.as_bytes().to_vec();
    std::io::repeat(b'x').take(64 << 20).read_to_end(&mut line).expect("memory can be written");
    for (name, list) in [("quote", packed(quote.as_bytes())), ("line", packed(&line))] {
        let error = read(name, &list).expect_err("it is too long");
        assert_eq!(error.message, "has a line longer than 1 MiB: a quote that is never closed does that too");
        assert!(error.line.is_some());
    }
}
