//! Every format that was ever written stays readable. `cargo run -p offtake-journal --example fixture -- FOLDER` makes a
//! fixture of the present one; a fixture that is checked in is never made again.

use std::fs;
use std::path::Path;

use offtake_journal::{Snapshots, Wanted, verify};

use crate::support::{append, folder, open, read_all};

fn copy_of(fixture: &str) -> tempfile::TempDir {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(fixture);
    let folder = folder();
    for part in ["", "archive", "snapshots"] {
        fs::create_dir_all(folder.path().join(part)).expect("made");
        for entry in fs::read_dir(source.join(part)).expect("listed") {
            let path = entry.expect("listed").path();
            if path.is_file() {
                let name = path.file_name().expect("a name");
                fs::copy(&path, folder.path().join(part).join(name)).expect("copied");
            }
        }
    }
    folder
}

#[test]
fn format_1_is_read_and_appended_to() {
    let folder = copy_of("v1");
    let expected: Vec<Vec<u8>> = (1..=40u8)
        .map(|sequence| match sequence % 10 {
            0 => vec![0xff, sequence, 0, b'\n'],
            9 => Vec::new(),
            _ => format!("{{\"at\":{sequence},\"event\":\"job_submitted\"}}").into_bytes(),
        })
        .collect();
    assert_eq!(read_all(folder.path()).expect("reads"), expected);
    let head = "045b55e13a9fa4a9a3079a5155fb5b6ca786191f9f06be701b37f0fc739d3d00".parse().expect("a hash");
    let report = verify(folder.path(), Some(head)).expect("reads");
    assert!(report.is_good(), "{report:?}");
    assert_eq!((report.archived, report.wanted), (16, Some(Wanted::At(40))));
    let mut journal = open(folder.path());
    assert_eq!((journal.epoch(), journal.head().chain), (3, head));
    let reader = journal.reader().expect("opens");
    let snapshot = Snapshots::of(folder.path()).latest(&reader).expect("reads").snapshot.expect("one");
    assert_eq!((snapshot.position.sequence, snapshot.bytes.as_slice()), (24, b"a state".as_slice()));
    append(&mut journal, &[b"{}".to_vec()]).expect("appends");
    assert_eq!(read_all(folder.path()).expect("reads").len(), 41);
}
