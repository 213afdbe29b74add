//! What is wrong in a file is told with its place, what was given and what is allowed.

use std::error::Error;
use std::path::Path;

use offtake_workload::{TraceFormat, read, read_from};

const HEAD: &str = "{\"format\":\"offtake-workload\",\"version\":1}\n";
const OPENB: &str =
    "name,cpu_milli,memory_mib,num_gpu,gpu_milli,gpu_spec,qos,pod_phase,creation_time,deletion_time,scheduled_time\n";
const PHILLY: &str = "time,duration_s,gpus,vc\n";

fn refused(text: &str) -> String {
    read_from(text.as_bytes(), Path::new("w"), None).expect_err(text).to_string()
}

fn check(cases: &[(&str, &[&str])], prefix: &str) {
    for (line, parts) in cases {
        let message = refused(&format!("{prefix}{line}\n"));
        for part in parts.iter().chain(&["w:"]) {
            assert!(message.contains(part), "{line}\n  gives: {message}\n  and not: {part}");
        }
    }
}

#[test]
fn of_the_file_itself() {
    let missing = read(Path::new("no/such/file.csv"), None).expect_err("missing");
    assert!(missing.to_string().starts_with("no/such/file.csv: the file cannot be opened"), "{missing}");
    assert!(missing.source().is_some(), "the system's reason is kept");
    assert!(read(Path::new("."), Some(TraceFormat::Csv)).is_err(), "a folder is no file");
    for empty in ["", "\n\n", "  \n"] {
        assert_eq!(refused(empty), "w: the file is empty: a first line with the format or the column names is needed");
    }
    assert!(refused("hello,world\n").contains("w:1: the format cannot be told from `hello,world`"));
    let endless = std::io::Read::chain("name,tenant,submitted\n".as_bytes(), std::io::repeat(b'x'));
    let message = read_from(endless, Path::new("w"), None).expect_err("endless").to_string();
    assert!(message.starts_with("w:2: the line is longer than 1048576 bytes"), "{message}");
    let message = read_from(&b"name,tenant,submitted\na,\xff,\n"[..], Path::new("w"), None).expect_err("no text");
    assert!(message.to_string().starts_with("w:2: byte 3 of the line is not UTF-8"), "{message}");
}

#[test]
fn of_openb() {
    let cases: &[(&str, &[&str])] = &[
        ("a,1,1,1,1000,,LS,Running,0,5", &["w:2: the row has 10 fields; there are 11 columns"]),
        ("a,x,1,1,1000,,LS,Running,0,5,0", &["`cpu_milli` is `x`", "thousandths of a core"]),
        ("a,1,NaN,1,1000,,LS,Running,0,5,0", &["`memory_mib` is `NaN`"]),
        ("a,1,1,-1,1000,,LS,Running,0,5,0", &["`num_gpu` is `-1`"]),
        ("a,1,1,0,1000,,LS,Running,0,5,0", &["`gpu_milli` is `1000`", "0 without a GPU"]),
        ("a,1,1,2,500,,LS,Running,0,5,0", &["`gpu_milli` is `500`"]),
        ("a,1,1,1,0,,LS,Running,0,5,0", &["`gpu_milli` is `0`"]),
        ("a,1,1,1,1001,,LS,Running,0,5,0", &["`gpu_milli` is `1001`"]),
        ("a,1,1,1,1000,,XX,Running,0,5,0", &["`qos` is `XX`", "LS, BE, Burstable, Guaranteed"]),
        ("a,1,1,1,1000,,LS,Running,-3,5,0", &["`creation_time` is `-3`"]),
        ("a,1,1,1,1000,,LS,Running,9,5,", &["`deletion_time` is `5`", "not before"]),
        ("a,1,1,1,1000,,LS,Running,9,50,8", &["`scheduled_time` is `8`", "not before `creation_time`"]),
        ("a,1,1,1,1000,,LS,Running,0,4294967295,0", &["`deletion_time`", "100 years"]),
        ("a,1,1,1,1000,A||B C,LS,Running,0,5,0", &["`gpu_spec` is `B C`"]),
        (",1,1,1,1000,,LS,Running,0,5,0", &["`name` is ``"]),
        (
            "a,1,1,1,1000,,LS,Running,0,5,0\na,1,1,1,1000,,LS,Running,0,5,0",
            &["w:3: the name `a` is already taken by line 2"],
        ),
    ];
    check(cases, OPENB);
    assert!(refused("name,cpu_milli,num_gpu,gpu_milli\n").contains("the column `memory_mib` is missing"));
    assert!(
        refused("name,cpu_milli,memory_mib,num_gpu,gpu_milli,gpu_kind\n").contains("the column `gpu_kind` is unknown")
    );
}

#[test]
fn of_philly() {
    let cases: &[(&str, &[&str])] = &[
        ("2017-09-04T10:30:41,5,1,a", &["w:2: `time` is `2017-09-04T10:30:41`", "2017-09-04 10:30:41"]),
        ("2017-02-29 10:30:41,5,1,a", &["`time` is `2017-02-29 10:30:41`"]),
        ("1969-12-31 10:30:41,5,1,a", &["`time`", "from 1970 on"]),
        ("2017-09-04 10:30:41,0,1,a", &["`duration_s` is `0`"]),
        ("2017-09-04 10:30:41,-5,1,a", &["`duration_s` is `-5`"]),
        ("2017-09-04 10:30:41,4294967295,1,a", &["`duration_s`", "100 years"]),
        ("2017-09-04 10:30:41,5,0,a", &["`gpus` is `0`"]),
        ("2017-09-04 10:30:41,5,1000001,a", &["`gpus` is `1000001`"]),
        ("2017-09-04 10:30:41,5,1,", &["`vc` is ``"]),
    ];
    check(cases, PHILLY);
}

#[test]
fn of_our_table() {
    const COLUMNS: &str = "name,tenant,submitted,tier,duration,deadline,preemptible,checkpoint_interval,checkpoint_size,workers,chips,chip_milli,memory,accelerators,attributes,topology_level,topology_strength,workers_min,workers_max,torus\n";
    let cases: &[(&str, &[&str])] = &[
        ("a,t,2024-05-01,,,,,,,,1,,,,,,,,,", &["w:2: `submitted` is `2024-05-01`", "RFC 3339"]),
        ("a,t,1960-05-01T00:00:00Z,,,,,,,,1,,,,,,,,,", &["`submitted`", "from 1970"]),
        ("a,t,2024-05-01T00:00:00Z,gold,,,,,,,1,,,,,,,,,", &["`tier` is `gold`", "reserved"]),
        ("a,t,2024-05-01T00:00:00Z,,36,,,,,,1,,,,,,,,,", &["`duration` is `36`", "`36h`"]),
        ("a,t,2024-05-01T00:00:00Z,,0s,,,,,,1,,,,,,,,,", &["`duration` is `0s`", "above zero"]),
        ("a,t,2024-05-01T00:00:00Z,,-1h,,,,,,1,,,,,,,,,", &["`duration` is `-1h`"]),
        ("a,t,2024-05-01T00:00:00Z,,101w5300w,,,,,,1,,,,,,,,,", &["`duration`", "100 years"]),
        ("a,t,2024-05-01T00:00:00Z,,,2024-05-01T00:00:00Z,,,,,1,,,,,,,,,", &["`deadline`", "after `submitted`"]),
        ("a,t,2024-05-01T00:00:00Z,,,,yes,,,,1,,,,,,,,,", &["`preemptible` is `yes`", "true, false"]),
        ("a,t,2024-05-01T00:00:00Z,,,,,1h,,,1,,,,,,,,,", &["`checkpoint_size` is ``", "beside `checkpoint_interval`"]),
        ("a,t,2024-05-01T00:00:00Z,,,,,,1GiB,,1,,,,,,,,,", &["`checkpoint_interval` is ``"]),
        ("a,t,2024-05-01T00:00:00Z,,,,,1h,2EiB,,1,,,,,,,,,", &["`checkpoint_size` is `2EiB`", "1 EiB"]),
        ("a,t,2024-05-01T00:00:00Z,,,,,,,0,1,,,,,,,,,", &["`workers` is `0`", "1 to 1000000"]),
        ("a,t,2024-05-01T00:00:00Z,,,,,,,1,0,,,,,,,,,", &["`chips` is `0`", "leave it out"]),
        ("a,t,2024-05-01T00:00:00Z,,,,,,,1,65536,,,,,,,,,", &["`chips` is `65536`"]),
        ("a,t,2024-05-01T00:00:00Z,,,,,,,1,,1000,,,,,,,,", &["`chip_milli` is `1000`", "write whole ones as `chips`"]),
        ("a,t,2024-05-01T00:00:00Z,,,,,,,1,1,500,,,,,,,,", &["`chip_milli` is `500`", "not both"]),
        ("a,t,2024-05-01T00:00:00Z,,,,,,,1,1,,64GB,,,,,,,", &["`memory` is `64GB`", "whole MiB"]),
        ("a,t,2024-05-01T00:00:00Z,,,,,,,1,1,,,a b,,,,,,", &["`accelerators` is `a b`", "letters"]),
        ("a,t,2024-05-01T00:00:00Z,,,,,,,1,1,,,,disk,,,,,", &["`attributes` is `disk`", "disk=nvme|zone=a"]),
        ("a,t,2024-05-01T00:00:00Z,,,,,,,1,1,,,,a=1|a=2,,,,,", &["`attributes`", "occur once"]),
        ("a,t,2024-05-01T00:00:00Z,,,,,,,1,1,,,,,rack,,,,", &["`topology_strength` is ``"]),
        ("a,t,2024-05-01T00:00:00Z,,,,,,,1,1,,,,,,required,,,", &["`topology_level` is ``"]),
        ("a,t,2024-05-01T00:00:00Z,,,,,,,1,1,,,,,rack,must,,,", &["`topology_strength` is `must`"]),
        ("a,t,2024-05-01T00:00:00Z,,,,,,,,1,,,,,,,2,4,", &["`workers_min` is `2`", "1 to `workers`, 1"]),
        (
            "a,t,2024-05-01T00:00:00Z,,,,,,,,1,,,,,,,,,4x4x8",
            &["`torus` is `4x4x8`", "a slice of 1 chips, `workers` times `chips`"],
        ),
        ("\"a,t,2024-05-01T00:00:00Z,,,,,,,,1,,,,,,,,,", &["a quote is not closed"]),
        ("a\tb,t,2024-05-01T00:00:00Z,,,,,,,,1,,,,,,,,,", &["`name` is `a\u{fffd}b`", "control characters"]),
    ];
    check(cases, COLUMNS);
    assert!(refused("name,submitted,gpus\n").contains("the column `gpus` is unknown; allowed are `name`, `tenant`"));
    assert!(refused("name,submitted\n").contains("the column `tenant` is missing"));
    assert!(refused("name,submitted,tenant,name\n").contains("the column `name` occurs twice"));
}

#[test]
fn of_our_json_lines() {
    let job = |more: &str, gang: &str| {
        format!(
            "{{\"job\":{{\"name\":\"a\",\"tenant\":\"t\",\"submitted\":\"2024-05-01T00:00:00Z\",{more}\"gangs\":[{gang}]}}}}"
        )
    };
    let cases: &[(String, &[&str])] = &[
        (job("", "{\"chip\":1}"), &["w:2: column ", "`job.gangs[0].chip`", "unknown field `chip`", "`chips`"]),
        (job("\"nice\":1,", "{}"), &["unknown field `nice`"]),
        (job("\"tier\":\"gold\",", "{}"), &["unknown variant `gold`", "`reserved`"]),
        (job("\"tenant\":\"u\",", "{}"), &["duplicate field `tenant`"]),
        (job("", "{\"workers\":\"4\"}"), &["`job.gangs[0].workers`", "invalid type: string \"4\", expected u32"]),
        (job("", "{\"workers\":-1}"), &["`job.gangs[0].workers`", "integer `-1`"]),
        (job("", "{\"workers\":NaN}"), &["w:2: column"]),
        (job("", "{\"workers\":1e3}"), &["`job.gangs[0].workers`", "expected u32"]),
        (job("", "{\"workers\":99999999999}"), &["`job.gangs[0].workers`"]),
        (job("", "{},{\"workers\":0}"), &["`gangs[1].workers` is `0`"]),
        (job("", "{\"chip_milli\":1500}"), &["`gangs[0].chip_milli` is `1500`"]),
        (job("", "{\"attributes\":{\"a\":\"1\",\"a\":\"2\"}}"), &["the key `a` occurs twice"]),
        (job("", "{\"torus\":\"4x4x8\"}"), &["`gangs[0].torus` is `4x4x8`", "a slice beside `chips`"]),
        (job("", "{\"torus\":\"4x4x8x2\"}"), &["`gangs[0].torus` is `4x4x8x2`", "such as `4x4` or `4x4x8`"]),
        (job("", "{\"torus\":\"04x4\"}"), &["`gangs[0].torus` is `04x4`"]),
        (
            job("", "{\"torus\":\"2x2\",\"chips\":4,\"topology_level\":\"pod\",\"topology_strength\":\"required\"}"),
            &["`gangs[0].torus` is `2x2`", "a slice without `topology_level`"],
        ),
        (
            job("", "{\"topology_level\":\"rack\",\"topology_strength\":\"preferred\",\"topology_cost_ppm\":1000001}"),
            &["w:2", "`gangs[0].topology_cost_ppm` is `1000001`", "0 to 1000000"],
        ),
        (
            job("", "{\"topology_level\":\"rack\",\"topology_strength\":\"required\",\"topology_cost_ppm\":5}"),
            &["`gangs[0].topology_cost_ppm` is `5`", "nothing where the level is required"],
        ),
        (
            job("", "{\"topology_cost_ppm\":5}"),
            &["`gangs[0].topology_cost_ppm` is `5`", "nothing without `topology_level`"],
        ),
        (
            job("", "{\"chips\":4,\"swing_ppm\":1000001,\"swing_period\":\"2s\"}"),
            &["`gangs[0].swing_ppm` is `1000001`", "1 to 1000000, all that its chips draw"],
        ),
        (
            job("", "{\"chips\":4,\"swing_ppm\":5,\"swing_period\":\"2 seconds\"}"),
            &["`gangs[0].swing_period` is `2 seconds`", "a time above zero"],
        ),
        (
            job("", "{\"chips\":4,\"swing_ppm\":5}"),
            &["`gangs[0].swing_period` is ``", "a time beside `swing_ppm`, such as `2s`"],
        ),
        (
            job("", "{\"chips\":4,\"swing_period\":\"2s\"}"),
            &["`gangs[0].swing_ppm` is ``", "a number beside `swing_period`"],
        ),
        (
            job("", "{\"swing_ppm\":5,\"swing_period\":\"2s\"}"),
            &["`gangs[0].swing_ppm` is `5`", "nothing for work that needs no chip"],
        ),
        (
            job("\"after\":[{\"job\":\"b\",\"when\":\"ended\"}],", "{}"),
            &["w:2", "`after[0].job` is `b`", "submitted before this one"],
        ),
        (job("\"after\":[{\"job\":\"a\",\"when\":\"ended\"}],", "{}"), &["`after[0].job` is `a`"]),
        (job("\"after\":[{\"job\":\"b\",\"when\":\"soon\"}],", "{}"), &["unknown variant `soon`"]),
        (job("", "{\"workers\":10,\"workers_max\":9}"), &["`gangs[0].workers_max` is `9`", "`workers`, 10, to"]),
        (job("", ""), &["`gangs` is `0`", "1 to 256 gangs"]),
        (job("", &vec!["{}"; 257].join(",")), &["`gangs` is `257`"]),
        (job("\"duration\":\"\",", "{}"), &["`duration` is ``"]),
        ("{\"job\":{\"name\":\"a\"".to_owned(), &["w:2: column", "EOF"]),
        ("{\"job\":{\"name\":\"a\"}}".to_owned(), &["missing field `tenant`"]),
        ("{\"pod\":{}}".to_owned(), &["unknown variant `pod`", "`job` or `service`"]),
        (job("", "{}") + " x", &["trailing characters"]),
        ("[".repeat(100_000), &["w:2: column"]),
        (
            "{\"service\":{\"name\":\"s\",\"tenant\":\"t\",\"replica\":{},\"minimum\":3,\"maximum\":2,\"demand_ppm\":[]}}".to_owned(),
            &["`minimum` is `3`", "`maximum`, 2"],
        ),
        (
            "{\"service\":{\"name\":\"s\",\"tenant\":\"t\",\"replica\":{},\"minimum\":0,\"maximum\":2,\"demand_ppm\":[1]}}".to_owned(),
            &["`demand_ppm` is `1 values`", "24 values"],
        ),
    ];
    for (line, parts) in cases {
        check(&[(line, parts)], HEAD);
    }
    let twice = format!("{HEAD}{}\n{}\n", job("", "{}"), job("", "{}"));
    assert!(refused(&twice).contains("w:3: the name `a` is already taken by line 2"));
}

#[test]
fn of_the_version() {
    let old = refused("{\"format\":\"offtake-workload\",\"version\":0}\n");
    assert!(old.starts_with("w:1: `version` is 0; allowed is 1"), "{old}");
    let new = refused("{\"format\":\"offtake-workload\",\"version\":2,\"more\":[]}\n{\"anything\":1}\n");
    assert!(new.starts_with("w:1: `version` is 2; allowed is 1"), "{new}");
    for head in [
        "{\"job\":{}}",
        "{\"format\":\"offtake-workload\"}",
        "{\"format\":\"offtake-workload\",\"version\":\"1\"}",
        "{\"format\":\"other\",\"version\":1}",
        "{\"format\":\"offtake-workload\",\"version\":1,\"more\":2}",
        "{",
    ] {
        let message = refused(&format!("{head}\n"));
        assert!(message.contains("allowed is {\"format\":\"offtake-workload\",\"version\":1}"), "{message}");
    }
    let empty = read_from(HEAD.as_bytes(), Path::new("w"), None).expect("an empty workload");
    assert!(empty.jobs.is_empty());
}
