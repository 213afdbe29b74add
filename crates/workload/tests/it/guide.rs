//! The examples of `docs/workload.md` are what they say they are.

use std::path::Path;

use offtake_workload::synthetic::Synthetic;
use offtake_workload::{TraceFormat, read_from, write_csv};

/// The indented block of the guide that begins with a text.
fn example(begins_with: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/workload.md");
    let guide = std::fs::read_to_string(path).expect("the guide is there");
    let lines = guide.lines().skip_while(|line| !line.trim_start().starts_with(begins_with));
    let block = lines.take_while(|line| line.starts_with("    ") || line.is_empty());
    block.map(|line| line.trim_start().to_owned() + "\n").collect()
}

#[test]
fn the_json_lines_are_read() {
    let text = example("{\"format\"");
    let workload = read_from(text.as_bytes(), Path::new("guide"), None).expect("good");
    assert_eq!((workload.jobs.len(), workload.services.len()), (1, 1));
    assert_eq!(workload.jobs[0].chip_milli(), 512_000);
    assert_eq!(workload.jobs[0].gangs.len(), 2);
}

#[test]
fn the_table_is_read() {
    let text = example("name,tenant");
    let workload = read_from(text.as_bytes(), Path::new("guide"), Some(TraceFormat::Csv)).expect("good");
    assert_eq!(workload.jobs[0].gangs[0].accelerators, ["h100", "a100"]);
    assert_eq!(workload.jobs[1].duration, None);
    write_csv(&workload, Vec::new()).expect("it is carried");
}

#[test]
fn the_description_makes_jobs() {
    let description: Synthetic = toml::from_str(&example("seed = 7")).expect("good");
    let jobs: Vec<_> = description.generate().expect("meant").take(1000).collect();
    assert_eq!(jobs.len(), 1000);
    let trained = jobs.iter().find(|job| job.name.starts_with("train-")).expect("three in ten");
    assert_eq!(trained.checkpoint.map(|checkpoint| checkpoint.bytes), Some(200_000_000_000));
}
