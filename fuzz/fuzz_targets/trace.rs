//! Any bytes are a trace or an error, in each format and with the format told from them; what was read can be written
//! as JSON Lines and is read back the same.

#![no_main]

use std::path::Path;

use libfuzzer_sys::fuzz_target;
use offtake_workload::{TraceFormat, read_from, write_jsonl};

fuzz_target!(|bytes: &[u8]| {
    for format in [None].into_iter().chain(TraceFormat::ALL.map(Some)) {
        let Ok(workload) = read_from(bytes, Path::new("trace"), format) else { continue };
        let mut lines = Vec::new();
        write_jsonl(&workload, &mut lines).expect("what was read can be written");
        let again = read_from(lines.as_slice(), Path::new("lines"), Some(TraceFormat::JsonLines));
        assert_eq!(again.expect("what was written can be read"), workload);
    }
});
