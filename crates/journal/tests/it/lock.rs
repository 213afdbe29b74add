//! One process appends.

use std::io::{BufRead, BufReader};
use std::process::Stdio;

use offtake_journal::{Error, Journal};

use crate::support::{folder, in_another_process, open, role};

#[test]
fn a_second_one_in_this_process_is_refused() {
    let folder = folder();
    let journal = open(folder.path());
    let error = Journal::open(folder.path()).expect_err("held");
    assert!(matches!(error, Error::Held { holder: Some(pid), .. } if pid == std::process::id()), "{error}");
    assert!(error.to_string().contains(&folder.path().display().to_string()), "{error}");
    drop(journal);
    open(folder.path());
}

#[test]
fn another_process_holds_it_until_it_dies() {
    if let Some(path) = role() {
        let _journal = open(path.as_ref());
        println!("held");
        std::thread::park();
    }
    let folder = folder();
    let path = folder.path().to_str().expect("text");
    let mut child = in_another_process("lock::another_process_holds_it_until_it_dies", path)
        .stdout(Stdio::piped())
        .spawn()
        .expect("starts");
    let output = BufReader::new(child.stdout.take().expect("piped"));
    assert!(output.lines().map_while(Result::ok).any(|line| line.ends_with("held")));
    let error = Journal::open(folder.path()).expect_err("held");
    assert!(matches!(error, Error::Held { holder: Some(pid), .. } if pid == child.id()), "{error}");
    child.kill().expect("killed");
    child.wait().expect("gone");
    assert_eq!(open(folder.path()).epoch(), 2);
}
