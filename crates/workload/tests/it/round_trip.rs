//! What is written is read back as it was.

use std::path::Path;

use flate2::Compression;
use flate2::write::GzEncoder;
use offtake_units::{Ppm, Timestamp};
use offtake_workload::{
    ChipRequest, Job, Predecessor, Service, Tier, TraceFormat, When, Workload, WriteError, read, read_from, write,
    write_csv, write_jsonl,
};
use proptest::prelude::*;
use std::io::Write;

use crate::builders::{plain_job, workload};

proptest! {
    #[test]
    fn json_lines_carry_everything(workload in workload(4, 3)) {
        let mut bytes = Vec::new();
        write_jsonl(&workload, &mut bytes).expect("a workload that can be meant");
        prop_assert_eq!(&read_from(&bytes[..], Path::new("x"), None).expect("read back"), &workload);
        let mut gzip = GzEncoder::new(Vec::new(), Compression::fast());
        gzip.write_all(&bytes).expect("memory takes all");
        let packed = gzip.finish().expect("memory takes all");
        prop_assert_eq!(&read_from(&packed[..], Path::new("x"), None).expect("read back"), &workload);
    }

    #[test]
    fn csv_carries_jobs_of_one_gang(workload in workload(1, 0)) {
        let mut bytes = Vec::new();
        write_csv(&workload, &mut bytes).expect("a workload that can be meant");
        prop_assert_eq!(&read_from(&bytes[..], Path::new("x"), None).expect("read back"), &workload);
    }
}

#[test]
fn csv_names_what_it_cannot_carry() {
    let mut two_gangs = plain_job("wide");
    two_gangs.gangs.push(two_gangs.gangs[0].clone());
    let service = Service {
        name: "chat".to_owned(),
        tenant: "t".to_owned(),
        tier: Tier::Reserved,
        replica: two_gangs.gangs[0].clone(),
        minimum: 0,
        maximum: 1,
        demand: vec![Ppm::ONE; 24],
        ..Service::default()
    };
    let with = |jobs, services| write_csv(&Workload { jobs, services }, Vec::new()).expect_err("refused");
    assert!(matches!(with(vec![two_gangs], vec![]), WriteError::CsvGangs { name, gangs: 2 } if name == "wide"));
    assert!(matches!(with(vec![], vec![service]), WriteError::CsvService { name } if name == "chat"));
}

#[test]
fn json_lines_carry_who_waits_for_whom_and_csv_says_that_it_cannot() {
    let first = plain_job("first");
    let after = vec![Predecessor { job: "first".to_owned(), when: When::Succeeded }];
    let next = Job { after, ..plain_job("next") };
    let workload = Workload { jobs: vec![first, next], services: vec![] };
    let mut bytes = Vec::new();
    write_jsonl(&workload, &mut bytes).expect("a workload that can be meant");
    assert_eq!(read_from(&bytes[..], Path::new("x"), None).expect("read back"), workload);
    let refused = write_csv(&workload, Vec::new()).expect_err("refused");
    assert!(matches!(refused, WriteError::CsvField { name, field: "after" } if name == "next"));
}

#[test]
fn what_no_reader_accepts_is_not_written() {
    let refused = |workload: &Workload| write_jsonl(workload, Vec::new()).expect_err("refused");
    let mut none = plain_job("none");
    none.gangs[0].chips = ChipRequest::Whole(0);
    let mut never = plain_job("never");
    never.deadline = Some(Timestamp::NEVER);
    for job in [none, never, plain_job(" spaced"), plain_job("two\nlines"), plain_job("")] {
        let name = job.name.clone();
        let error = refused(&Workload { jobs: vec![job], services: vec![] });
        assert!(matches!(error, WriteError::Invalid { .. }), "{name}: {error:?}");
    }
    let twice = Workload { jobs: vec![plain_job("a"), plain_job("a")], services: vec![] };
    assert!(matches!(refused(&twice), WriteError::DuplicateName { .. }));
}

#[test]
fn files_are_packed_and_told_apart_by_their_names() {
    let folder = std::env::temp_dir().join(format!("offtake-round-trip-{}", std::process::id()));
    std::fs::create_dir_all(&folder).expect("a folder for the test");
    let workload = Workload { jobs: vec![plain_job("a"), plain_job("b")], services: vec![] };
    for name in ["w.csv", "w.jsonl", "w.csv.gz", "w.jsonl.gz"] {
        let path = folder.join(name);
        write(&path, &workload, None).expect("written");
        let bytes = std::fs::read(&path).expect("there");
        assert_eq!(bytes.starts_with(&[0x1f, 0x8b]), name.ends_with(".gz"), "{name}");
        assert_eq!(read(&path, None).expect("read back"), workload, "{name}");
        write(&path, &workload, None).expect("written again");
        assert_eq!(std::fs::read(&path).expect("there"), bytes, "{name}: the same workload gives the same bytes");
    }
    assert!(matches!(write(&folder.join("w.txt"), &workload, None), Err(WriteError::Format { .. })));
    let only_read = write(&folder.join("w.csv"), &workload, Some(TraceFormat::Openb));
    assert!(matches!(only_read, Err(WriteError::Format { .. })));
    let nowhere = write(&folder.join("no-such-folder/w.csv"), &workload, None);
    assert!(matches!(nowhere, Err(WriteError::File { .. })));
    assert_eq!(std::fs::read_dir(&folder).expect("readable").count(), 4, "nothing is left half-written");
    std::fs::remove_dir_all(&folder).expect("removed");
}
