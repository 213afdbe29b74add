//! Whatever the bytes: an answer or an error, and no panic.

use std::path::Path;

use offtake_workload::{TraceFormat, Workload, read_from, write_csv, write_jsonl};
use proptest::prelude::*;

use crate::builders::workload;

const OPENB: &str = "name,cpu_milli,memory_mib,num_gpu,gpu_milli,gpu_spec,qos,pod_phase,creation_time,deletion_time,scheduled_time\nopenb-pod-0000,12000,16384,1,1000,A|B,LS,Running,0,12537496,0\nopenb-pod-0001,6000,12288,1,460,,BE,Running,427061,12902960,\n";
const PHILLY: &str = "time,duration_s,gpus,vc\n2017-09-04 10:30:41,2240194,12,7f04ca\n";

fn read_every_way(bytes: &[u8]) {
    for format in TraceFormat::ALL.map(Some).into_iter().chain([None]) {
        if let Ok(workload) = read_from(bytes, Path::new("wild"), format) {
            // What was accepted can be written again, and summed without overflow.
            write_jsonl(&workload, std::io::sink()).expect("what is read can be written");
            let _: u64 = workload.jobs.iter().map(|job| job.chip_milli() / (1 << 20)).sum();
        }
    }
}

fn written(workload: &Workload) -> Vec<Vec<u8>> {
    let mut texts = vec![OPENB.into(), PHILLY.into()];
    let mut jsonl = Vec::new();
    write_jsonl(workload, &mut jsonl).expect("a workload that can be meant");
    texts.push(jsonl);
    let mut csv = Vec::new();
    if write_csv(workload, &mut csv).is_ok() {
        texts.push(csv);
    }
    texts
}

proptest! {
    #[test]
    fn any_bytes(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
        read_every_way(&bytes);
    }

    #[test]
    fn any_text_below_a_good_first_line(text in "[\\PC\n,\"{}:]{0,200}") {
        for head in [OPENB, PHILLY, "name,tenant,submitted\n", "{\"format\":\"offtake-workload\",\"version\":1}\n"] {
            read_every_way(format!("{head}{text}").as_bytes());
        }
    }

    #[test]
    fn good_files_with_a_few_bytes_changed(
        workload in workload(1, 1),
        changes in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>(), 0..3_u8), 1..6),
    ) {
        for mut bytes in written(&workload) {
            for (at, byte, how) in &changes {
                let at = at.index(bytes.len());
                match how {
                    0 => bytes[at] = *byte,
                    1 => bytes.insert(at, *byte),
                    _ => bytes.truncate(at.max(1)),
                }
            }
            read_every_way(&bytes);
        }
    }

    #[test]
    fn good_files_with_a_number_changed(workload in workload(1, 1), number in any::<i128>(), skip in 0..40_usize) {
        for bytes in written(&workload) {
            let text = String::from_utf8(bytes).expect("it is text");
            let digits: Vec<_> = text.match_indices(|c: char| c.is_ascii_digit()).collect();
            if let Some((at, _)) = digits.get(skip % digits.len().max(1)) {
                let changed = format!("{}{number}{}", &text[..*at], &text[at + 1..]);
                read_every_way(changed.as_bytes());
            }
        }
    }
}
